"""A node told to stop in the middle of a transaction: what it began is undone, and whoever is next may write."""

import asyncio
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import func, select

from engine.db import Database
from engine.models import Line
from tests.factories import add_account, add_line

PATIENCE_S = 10.0  # SQLite asks again for so long; what is cancelled lets go as soon as its statement is done


@pytest.mark.parametrize("cancellations", [1, 3])
async def test_a_writer_cancelled_at_any_step_leaves_the_database_to_the_next(
    database: Database, cancellations: int
) -> None:
    """E-03, S0-34: SQLite has one writer: a transaction that nobody ends would keep a restart from recording calls."""
    async with database.sessions.begin() as session:
        account = await add_account(session)

    async def write(number: int) -> None:
        async with database.sessions.begin() as session:
            for at in range(3):
                await add_line(session, account, f"{number}{at}")

    stored = 0
    for steps in range(40):
        writer = asyncio.create_task(write(1_000 + steps))
        for _ in range(steps):
            await asyncio.sleep(0)
        for _ in range(cancellations):
            writer.cancel()
            await asyncio.sleep(0)
        (outcome,) = await asyncio.gather(writer, return_exceptions=True)
        assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        stored += outcome is None
    async with asyncio.timeout(PATIENCE_S):
        await write(9_000)  # by this process
    async with database.sessions() as session:
        count = await session.scalar(select(func.count()).select_from(Line))
    assert count is not None
    assert count % 3 == 0  # whole transactions alone
    assert count >= 3 * (stored + 1)
    await database.close()
    path = database.sqlite_path
    assert path is not None
    with closing(sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)) as next_one:
        next_one.execute("BEGIN IMMEDIATE")
        next_one.execute("ROLLBACK")
