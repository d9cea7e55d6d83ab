"""Work on what finds audit entries, in steps: on SQLite others have the database's one writer between two of them."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from engine.db import Database
from engine.errors import DatabaseAway

LOOK_S = 2.0
PAUSE_S = 0.05  # several times what a step holds the writer for
PATIENCE_S = 1.0  # others who write without a pause go first, this long before each step
_log = structlog.get_logger()


async def step_by_step(
    database: Database, step: Callable[[], Awaitable[bool]], is_pressing: Callable[[], bool] = lambda: False
) -> None:
    """Take one step after another until cancelled.

    A step takes longer than most changes do, and on SQLite holds the one writer meanwhile, so it waits for a moment in
    which nobody writes.

    A database that is away or busy is asked again at the next look.

    Args:
        step: Does some of the work in a transaction of its own; True: there may be more.
        is_pressing: So much is left that it waits for no such moment.
    """
    while True:
        has_more = False
        await database.sessions.lull(0 if is_pressing() else PATIENCE_S)
        try:
            has_more = await step()
        except (SQLAlchemyError, OSError, DatabaseAway) as exc:
            _log.warning("audit_index_waits", error=type(exc).__name__, meaning="searches work, a little slower")
        await asyncio.sleep(PAUSE_S if has_more else LOOK_S)
