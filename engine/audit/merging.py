"""Keeping the audit log's full-text indexes on SQLite in few segments, a bounded step at a time (decision 0031).

Theory of operation. Every commit leaves one small segment in each index; a search reads them all, so they have to be
merged. FTS5 would do it inside whichever commit happens to complete a set, and a set of large ones takes seconds, in
which the database's one writer serves nobody (https://sqlite.org/fts5.html, 6.7 to 6.9). So the product switches that
off and merges here: some pages, a commit, a pause in which others have their turn.
"""

from sqlalchemy import text

from engine.audit.steps import step_by_step
from engine.db import Database

STEP_PAGES = 48  # about 200 kB written, some milliseconds
INDEXES = ("audit_search_text", "audit_search_facet")


class IndexKeeper:
    """Merges what was written since, for as long as the node runs. PostgreSQL has none of these."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Until cancelled; on PostgreSQL it ends at once."""
        if self._database.sqlite_path is None:
            return
        await step_by_step(self._database, self.step)

    async def step(self) -> bool:
        """Merge some pages of each index in a transaction of its own; whether there may be more to do."""
        has_more = False
        async with self._database.sessions.begin(is_hurried=False) as session:
            for index in INDEXES:
                before = await session.scalar(text("SELECT total_changes()"))
                await session.execute(
                    text(f"INSERT INTO {index} ({index}, rank) VALUES ('merge', :pages)"),  # noqa: S608  # a constant
                    {"pages": STEP_PAGES},
                )
                after = await session.scalar(text("SELECT total_changes()"))
                has_more = has_more or int(after or 0) - int(before or 0) >= 2  # one is the command itself
        return has_more
