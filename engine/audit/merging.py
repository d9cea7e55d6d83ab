"""Keeping the audit log's full-text indexes on SQLite in few segments, a bounded step at a time (decision 0031).

Theory of operation. Every commit leaves one small segment in each index; a search reads them all, so they have to be
merged. FTS5 would do it inside whichever commit happens to complete a set, and a set of large ones takes seconds, in
which the database's one writer serves nobody (https://sqlite.org/fts5.html, 6.7 to 6.9). So the product switches that
off and merges here: some pages, a commit, a pause in which others have their turn.
"""

import asyncio

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from engine.db import Database
from engine.errors import DatabaseAway

LOOK_S = 2.0
PAUSE_S = 0.05  # between the steps of one merge: several times what a step holds the writer for
STEP_PAGES = 48  # about 200 kB written, some milliseconds
INDEXES = ("audit_search_text", "audit_search_facet")
_log = structlog.get_logger()


class IndexKeeper:
    """Merges what was written since, for as long as the node runs. PostgreSQL keeps its indexes itself."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Until cancelled. A database that is away or busy is asked again at the next look."""
        while self._database.sqlite_path is not None:
            has_more = False
            try:
                has_more = await self.step()
            except (SQLAlchemyError, OSError, DatabaseAway) as exc:
                _log.warning("audit_index_waits", error=type(exc).__name__, meaning="searches work, a little slower")
            await asyncio.sleep(PAUSE_S if has_more else LOOK_S)

    async def step(self) -> bool:
        """Merge some pages of each index in a transaction of its own; whether there may be more to do."""
        has_more = False
        async with self._database.sessions.begin() as session:
            for index in INDEXES:
                before = await session.scalar(text("SELECT total_changes()"))
                await session.execute(
                    text(f"INSERT INTO {index} ({index}, rank) VALUES ('merge', :pages)"),  # noqa: S608  # a constant
                    {"pages": STEP_PAGES},
                )
                after = await session.scalar(text("SELECT total_changes()"))
                has_more = has_more or int(after or 0) - int(before or 0) >= 2  # one is the command itself
        return has_more
