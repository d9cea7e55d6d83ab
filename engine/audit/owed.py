"""What the audit log's full-text indexes on SQLite still owe: entries are put in behind their commit.

Theory of operation. Putting an entry into the indexes takes several times as long as storing it, and the database has
one writer: each write would be half as long again, and an import of 10,000 phones would hold it for seconds, with the
records of 911 calls behind it. So a trigger only notes the range of entries that are owed, in their own transaction;
searches look at these one by one (`engine.audit.store`). Here they are put in, some at a time, each time in a
transaction of its own: many entries at once leave one segment to be merged where each alone left one. A node that stops
in between goes on at its next start. An operation of many entries notes its range itself, without the trigger.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.steps import step_by_step
from engine.db import Database
from engine.models import AUDIT_SEARCH_ADD_SQLITE, AUDIT_SEARCH_TRIGGER_SQLITE

MANY = 100  # entries of one operation; fewer are noted one by one
STEP = 100  # entries put in at a time: some 15 ms


@dataclass(frozen=True, slots=True)
class Range:
    """Entries of a chain, by their numbers, both ends included."""

    chain: str
    first: int
    last: int


@asynccontextmanager
async def unindexed(session: AsyncSession, owed: Range) -> AsyncIterator[None]:
    """The entries of that range are stored inside, all of them noted as owed by one row. PostgreSQL owes none.

    A trigger costs each row half as much again even where it does nothing, so it is taken away and put back: both are
    part of the transaction, which nobody else sees anything of before its commit.
    """
    if session.get_bind().dialect.name != "sqlite":
        yield
        return
    query = text("INSERT INTO audit_search_owed (chain, first, last) VALUES (:chain, :first, :last)")
    await session.execute(query, {"chain": owed.chain, "first": owed.first, "last": owed.last})
    connection = await session.connection()
    await connection.exec_driver_sql("DROP TRIGGER audit_entry_search")
    yield
    await connection.exec_driver_sql(AUDIT_SEARCH_TRIGGER_SQLITE)


async def owed_between(session: AsyncSession, chain: str, low: int, high: int) -> list[Range]:
    """The ranges of that chain that are not in the indexes yet, cut to `low` and `high`, newest first; neighbours as
    one.
    """
    query = text(
        "SELECT first, last FROM audit_search_owed WHERE chain = :chain AND last >= :low AND first <= :high "
        "ORDER BY first DESC"
    )
    found: list[Range] = []
    for row in await session.execute(query, {"chain": chain, "low": low, "high": high}):
        first, last = max(row.first, low), min(row.last, high)
        if found and found[-1].first == last + 1:
            last = found.pop().last
        found.append(Range(chain, first, last))
    return found


class OwedIndexing:
    """Puts what is owed into the indexes, for as long as the node runs. PostgreSQL owes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Until cancelled."""
        await step_by_step(self._database, self._step_if_owing)

    async def _step_if_owing(self) -> bool:
        return await self.is_owing() and await self.step()

    async def is_owing(self) -> bool:
        """Whether anything is owed; asked without taking the writer."""
        async with self._database.sessions() as session:
            return await session.scalar(text("SELECT 1 FROM audit_search_owed LIMIT 1")) is not None

    async def step(self) -> bool:
        """Put the oldest owed entries in, as many as STEP, in a transaction of its own; whether more is owed."""
        async with self._database.sessions.begin() as session:
            row = (
                await session.execute(text("SELECT chain, first, last FROM audit_search_owed ORDER BY rowid LIMIT 1"))
            ).first()
            if row is None:
                return False
            last = min(row.last, row.first + STEP - 1)
            for statement in AUDIT_SEARCH_ADD_SQLITE:
                await session.execute(text(statement), {"chain": row.chain, "first": row.first, "last": last})
            where = {"chain": row.chain, "first": row.first}
            of_range = "WHERE chain = :chain AND first = :first"
            if last == row.last:
                await session.execute(text(f"DELETE FROM audit_search_owed {of_range}"), where)  # noqa: S608  # constants
            else:
                query = f"UPDATE audit_search_owed SET first = :next {of_range}"  # noqa: S608  # constants
                await session.execute(text(query), where | {"next": last + 1})
            return True
