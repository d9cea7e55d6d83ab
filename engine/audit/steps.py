"""Work on SQLite's full-text indexes, in steps: between two of them others have the database's one writer."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from engine.db import Database
from engine.errors import DatabaseAway

LOOK_S = 2.0
PAUSE_S = 0.05  # several times what a step holds the writer for
_log = structlog.get_logger()


async def step_by_step(database: Database, step: Callable[[], Awaitable[bool]]) -> None:
    """Take one step after another until cancelled. PostgreSQL keeps its indexes itself: there it ends at once.

    A database that is away or busy is asked again at the next look.

    Args:
        step: Does some of the work in a transaction of its own; True: there may be more.
    """
    while database.sqlite_path is not None:
        has_more = False
        try:
            has_more = await step()
        except (SQLAlchemyError, OSError, DatabaseAway) as exc:
            _log.warning("audit_index_waits", error=type(exc).__name__, meaning="searches work, a little slower")
        await asyncio.sleep(PAUSE_S if has_more else LOOK_S)
