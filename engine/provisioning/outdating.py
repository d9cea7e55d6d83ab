"""Marks the phones of large changes as out of date, some at a time, behind the change's own commit: between two steps
others have SQLite's one writer. A node that stops in between goes on at its next start. Decision 0027.
"""

import asyncio

import structlog
from sqlalchemy.exc import SQLAlchemyError

from engine.audit.store_outdated import is_any_owed, mark_some
from engine.db import Database
from engine.errors import DatabaseAway

LOOK_S = 2.0  # a change of another process; one of this process wakes the task
PAUSE_S = 0.05  # as long as a step holds the writer, or longer
_log = structlog.get_logger()


class OwedMarking:
    """One for a node: `run` as a background task, `step` once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._after = ""  # the phones behind it come next, so that of changes in a row none holds up the last phones
        self._wake = asyncio.Event()
        database.revision_listeners.append(lambda _account_ids: self._wake.set())

    async def run(self) -> None:
        """Until cancelled. PostgreSQL owes nothing: there it ends at once."""
        while self._database.sqlite_path is not None:
            self._wake.clear()
            has_more = False
            try:
                has_more = await self.step()
            except (SQLAlchemyError, OSError, DatabaseAway) as exc:
                _log.warning("phone_marks_wait", error=type(exc).__name__, meaning="rows are marked a little later")
                await asyncio.sleep(LOOK_S)
            if has_more:
                await asyncio.sleep(PAUSE_S)
                continue
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def step(self) -> bool:
        """Mark some phones in a transaction of their own; whether there may be more. Where nothing is owed, nobody's
        turn to write is taken.
        """
        async with self._database.sessions() as session:
            if not await is_any_owed(session):
                return False
        async with self._database.sessions.begin(is_hurried=False) as session:
            self._after = await mark_some(session, self._after) or ""
        return True
