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
from engine.errors import UnauditedChange
from engine.models import (
    AUDIT_FOLLOWS_TRIGGER_SQLITE,
    AUDIT_NOT_FOLLOWING_SQLITE,
    AUDIT_SEARCH_ADD_SQLITE,
    AUDIT_SEARCH_TRIGGER_SQLITE,
)

MANY = 100  # entries of one operation; fewer are noted one by one
STEP = 100  # entries put in at a time: some 15 ms
PRESSING = 2_000  # entries that are owed: searches, which look at each of them, begin to feel it


@dataclass(frozen=True, slots=True)
class Range:
    """Entries of a chain, by their numbers, both ends included."""

    chain: str
    first: int
    last: int


@asynccontextmanager
async def unindexed(session: AsyncSession, owed: Range) -> AsyncIterator[None]:
    """The entries of that range are stored inside, all of them noted as owed by one row. PostgreSQL owes none.

    A trigger costs each row half as much again even where it does nothing, so both are taken away and put back: all of
    it is part of the transaction, which nobody else sees anything of before its commit. That each entry follows the one
    before is asked of all of them at once.

    Raises:
        UnauditedChange: one does not.
    """
    if session.get_bind().dialect.name != "sqlite":
        yield
        return
    span = {"chain": owed.chain, "first": owed.first, "last": owed.last}
    query = text("INSERT INTO audit_search_owed (chain, first, last) VALUES (:chain, :first, :last)")
    await session.execute(query, span)
    connection = await session.connection()
    for trigger in ("audit_entry_search", "audit_entry_follows"):
        await connection.exec_driver_sql(f"DROP TRIGGER {trigger}")
    yield
    for trigger in (AUDIT_SEARCH_TRIGGER_SQLITE, AUDIT_FOLLOWS_TRIGGER_SQLITE):
        await connection.exec_driver_sql(trigger)
    if await session.scalar(text(AUDIT_NOT_FOLLOWING_SQLITE), span):
        raise UnauditedChange("An audit entry did not follow the one before it; nothing was stored.")


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
        self._owed = 0

    async def run(self) -> None:
        """Until cancelled; on PostgreSQL it ends at once."""
        if self._database.sqlite_path is None:
            return
        await step_by_step(self._database, self._step_if_owing, lambda: self._owed > PRESSING)

    async def _step_if_owing(self) -> bool:
        return await self.is_owing() and await self.step()

    async def is_owing(self) -> bool:
        """Whether anything is owed; asked without taking the writer."""
        async with self._database.sessions() as session:
            self._owed = await session.scalar(text("SELECT sum(last - first + 1) FROM audit_search_owed")) or 0
        return self._owed > 0

    async def step(self) -> bool:
        """Put the oldest owed entries in, as many as STEP, in a transaction of its own; whether more is owed."""
        async with self._database.sessions.begin(is_hurried=False) as session:
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
