"""What happens by the clock to people: users away for too long are disabled, sessions that ran out get their end.

Once an hour, beside the requests. Neither decides anything alone: a sign-in and each request ask the same clocks.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from admin.context import DATABASE
from engine.accounts import security, store, store_signin
from engine.db import Database
from engine.errors import EngineError

FIRST_AFTER_S = 120.0  # a start has better things to do
EVERY_S = 3600.0
_log = structlog.get_logger()


async def sweep(database: Database) -> int:
    """One round, in short transactions. Returns how many users were disabled."""
    async with database.sessions.begin() as session:
        disabled = await security.disable_unused(session)
        await store_signin.sweep_pending(session)
    async with database.sessions() as session:
        accounts = [account.id for account in await store.accounts(session)] + [store.OPERATORS]
    for account_id in accounts:
        closed = 1
        while closed:
            async with database.sessions.begin() as session:
                closed = await security.close_expired(session, account_id)
    return disabled


async def _sweep_on(database: Database) -> None:
    await asyncio.sleep(FIRST_AFTER_S)
    while True:
        try:
            if disabled := await sweep(database):
                _log.info("unused_users_disabled", count=disabled)
        except (SQLAlchemyError, OSError, EngineError) as exc:
            _log.warning("housekeeping_waits", error=type(exc).__name__)
        await asyncio.sleep(EVERY_S)


async def kept(app: web.Application) -> AsyncIterator[None]:
    """A context of the application's clean-up: rounds while it runs."""
    task = asyncio.create_task(_sweep_on(app[DATABASE]), name="housekeeping")
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
