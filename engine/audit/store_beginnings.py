"""SQL of where chains begin: which entries were left behind, which may be, and taking their rows away in batches.

A chain begins behind the entry that its newest `AuditBeginning` names, or with its first entry. What stands before is
no part of the log from that row's commit on, though its rows go later, some at a time (decision 0035).
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.owed import owed_between
from engine.models import AUDIT_SEARCH_DROP_SQLITE, AuditBeginning, AuditCheckpoint, AuditEntry


class Link(NamedTuple):
    """An entry as its chain is proved by: the exact text that was hashed, and the hashes beside it."""

    seq: int
    entry: str
    prev_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """The oldest entries of a chain, up to `last`: what a time leaves behind. `until`: the newest time among them."""

    first: int
    last: int
    hash: str
    until: dt.datetime

    @property
    def count(self) -> int:
        return self.last - self.first + 1  # numbers have no gaps


@dataclass(frozen=True, slots=True)
class Held:
    """How many entries a chain holds and since when; `since` None: none."""

    count: int
    since: dt.datetime | None


async def beginning_of(session: AsyncSession, chain: str) -> AuditBeginning | None:
    """The newest beginning of that chain; None: it begins with its first entry."""
    query = select(AuditBeginning).where(AuditBeginning.chain == chain)
    return (await session.scalars(query.order_by(AuditBeginning.seq.desc()).limit(1))).first()


async def begins_behind(session: AsyncSession, chain: str) -> int:
    """The number of the last entry that was left behind; 0: none was."""
    return await session.scalar(select(func.max(AuditBeginning.seq)).where(AuditBeginning.chain == chain)) or 0


async def older_than(session: AsyncSession, chain: str, end: dt.datetime) -> Prefix | None:
    """About which entries will leave: those up to the newest checkpoint signed before `end`; None: there is none.

    A seek that believes the database's columns. What leaves is decided by `engine.audit.pruning`, which believes none.
    """
    begin = await begins_behind(session, chain)
    signed = select(AuditCheckpoint.seq).where(
        AuditCheckpoint.chain == chain, AuditCheckpoint.seq > begin, AuditCheckpoint.at < end
    )
    goal = await session.scalar(signed.order_by(AuditCheckpoint.seq.desc()).limit(1))
    if goal is None:
        return None
    query = select(AuditEntry.hash, AuditEntry.at).where(AuditEntry.chain == chain, AuditEntry.seq == goal)
    found = (await session.execute(query)).first()
    return None if found is None else Prefix(begin + 1, goal, found[0], found[1])


async def stored_between(session: AsyncSession, chain: str, after: int, upto: int, limit: int) -> Sequence[Link]:
    """Entries behind number `after`, `upto` at most, as the proof of a chain reads them."""
    query = select(AuditEntry.seq, AuditEntry.entry, AuditEntry.prev_hash, AuditEntry.hash).where(
        AuditEntry.chain == chain, AuditEntry.seq > after, AuditEntry.seq <= upto
    )
    return [Link(*row) for row in await session.execute(query.order_by(AuditEntry.seq).limit(limit))]


async def checkpoints_between(session: AsyncSession, chain: str, first: int, last: int) -> Sequence[AuditCheckpoint]:
    """The stored checkpoints of entries `first` to `last`, in the order of their numbers."""
    query = select(AuditCheckpoint).where(
        AuditCheckpoint.chain == chain, AuditCheckpoint.seq >= first, AuditCheckpoint.seq <= last
    )
    return list(await session.scalars(query.order_by(AuditCheckpoint.seq)))


async def hash_of(session: AsyncSession, chain: str, seq: int) -> str | None:
    """The hash of that entry; None: it is not there."""
    return await session.scalar(select(AuditEntry.hash).where(AuditEntry.chain == chain, AuditEntry.seq == seq))


async def held(session: AsyncSession, chain: str) -> Held:
    """What the chain holds now: its two ends, which is enough since numbers have no gaps."""
    begin = await begins_behind(session, chain)
    ends = select(AuditEntry.seq, AuditEntry.at).where(AuditEntry.chain == chain, AuditEntry.seq > begin)
    newest = (await session.execute(ends.order_by(AuditEntry.seq.desc()).limit(1))).first()
    oldest = (await session.execute(ends.order_by(AuditEntry.seq).limit(1))).first()
    if newest is None or oldest is None:
        return Held(0, None)
    return Held(newest[0] - begin, oldest[1])


async def beginnings_to_clear(session: AsyncSession, before: dt.datetime) -> list[AuditBeginning]:
    """The newest beginning of each chain, made before that time, while rows from before it are still there."""
    newest = (
        select(AuditBeginning.chain, func.max(AuditBeginning.seq).label("seq"))
        .where(AuditBeginning.at < before)
        .group_by(AuditBeginning.chain)
        .subquery()
    )
    is_there = (
        select(AuditEntry.id)
        .where(AuditEntry.chain == AuditBeginning.chain, AuditEntry.seq <= AuditBeginning.seq)
        .exists()
    )
    query = (
        select(AuditBeginning)
        .join(newest, (newest.c.chain == AuditBeginning.chain) & (newest.c.seq == AuditBeginning.seq))
        .where(is_there)
    )
    return list(await session.scalars(query.order_by(AuditBeginning.chain)))


async def clear(session: AsyncSession, chain: str, upto: int, limit: int) -> int:
    """Delete the oldest rows of that chain, `limit` at most and none above `upto`, with what searches find them by.

    Returns how many; 0: none is left, or the next one has still to get into SQLite's indexes, which a moment settles.
    """
    first = await session.scalar(
        select(func.min(AuditEntry.seq)).where(AuditEntry.chain == chain, AuditEntry.seq <= upto)
    )
    if first is None:
        return 0
    last = min(upto, first + limit - 1)
    span = {"chain": chain, "first": first, "last": last}
    if session.get_bind().dialect.name == "sqlite":
        owed = await owed_between(session, chain, first, last)
        if owed:
            last = span["last"] = owed[-1].first - 1
        if last < first:
            return 0
        for statement in AUDIT_SEARCH_DROP_SQLITE:
            await session.execute(text(statement), span)
    await session.execute(text("DELETE FROM audit_entry WHERE chain = :chain AND seq BETWEEN :first AND :last"), span)
    return int(last) - first + 1
