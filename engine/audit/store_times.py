"""Between which numbers of a chain the entries of a time lie.

Theory of operation. Along a chain times only grow, but for the places where somebody set the clock back; there an entry
`clock.set_back` stands (decision 0044). So a chain is some runs of growing times, mostly one. One run is asked by the
index of times. Of several each is halved until the place is found: in the index two runs lie in one another, and what
comes first in it says nothing about numbers.
"""

import datetime as dt
import json
from itertools import pairwise

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.models import AuditEntry

DISORDER = 1_000  # entries whose order by time may differ from their order by number, in logs from before that entry
MOST_RUNS = 8  # of a chain whose clock was set back more often, every number is one that may be meant
_TICK = dt.timedelta(milliseconds=1)  # of stored times
_EARLIEST = dt.datetime.min.replace(tzinfo=dt.UTC)


async def between(
    session: AsyncSession, chain: str, low: int, high: int, *, since: dt.datetime | None, until: dt.datetime | None
) -> tuple[int, int]:
    """Narrow `low` and `high` to the times asked for, both inclusive; none there: the first is above the second.

    Numbers between them may be of other times; none outside is of these.
    """
    if (since is None and until is None) or high < low:
        return low, high
    steps = await _steps(session, chain)
    if len(steps) >= MOST_RUNS:
        return low, high
    if not steps:
        return await _of_one_run(session, chain, low, high, since, until)
    inside = [seq for seq in steps if low < seq <= high]
    runs = [(first, behind - 1) for first, behind in pairwise([low, *inside, high + 1])]
    if since is not None:
        firsts = [await _first(session, chain, *run, since) for run in runs]
        low = min((seq for seq in firsts if seq is not None), default=high + 1)
    if until is not None:
        ends = [(await _first(session, chain, *run, until + _TICK), *run) for run in runs]
        high = max((last if seq is None else seq - 1 for seq, first, last in ends if seq != first), default=low - 1)
    return low, high


async def steps_since(session: AsyncSession, chain: str, since: dt.datetime) -> list[tuple[str, dt.datetime, float]]:
    """Clocks that were set back since then, newest first, a hundred at most: whose node, when, by how many seconds."""
    query = select(AuditEntry.at, AuditEntry.entry).where(
        AuditEntry.chain == chain, AuditEntry.event == Event.CLOCK_SET_BACK.value
    )
    found = await session.execute(query.order_by(AuditEntry.seq.desc()).limit(100))
    told = [(row.at, json.loads(row.entry)) for row in found if row.at >= since]
    return [(body["resource"]["name"] or "a node", at, body["details"]["clock_behind_s"]) for at, body in told]


async def _steps(session: AsyncSession, chain: str) -> list[int]:
    """Where the clock was set back, oldest first, the newest MOST_RUNS of them: wherever, for the index of times knows
    no numbers.
    """
    query = select(AuditEntry.seq).where(AuditEntry.chain == chain, AuditEntry.event == Event.CLOCK_SET_BACK.value)
    return sorted(await session.scalars(query.order_by(AuditEntry.seq.desc()).limit(MOST_RUNS)))


async def _of_one_run(
    session: AsyncSession, chain: str, low: int, high: int, since: dt.datetime | None, until: dt.datetime | None
) -> tuple[int, int]:
    near = select(AuditEntry.seq).where(AuditEntry.chain == chain)
    if since is not None:
        first = near.where(AuditEntry.at >= since).order_by(AuditEntry.at).limit(DISORDER).subquery()
        low = max(low, await session.scalar(select(func.min(first.c.seq))) or high + 1)
    if until is not None:
        last = near.where(AuditEntry.at <= until).order_by(AuditEntry.at.desc()).limit(DISORDER).subquery()
        high = min(high, await session.scalar(select(func.max(last.c.seq))) or 0)
    return low, high


async def _first(session: AsyncSession, chain: str, first: int, last: int, wanted: dt.datetime) -> int | None:
    """The run's first entry that is not before that time; None: all are."""
    if await _at(session, chain, last) < wanted:
        return None
    while first < last:
        middle = (first + last) // 2
        if await _at(session, chain, middle) < wanted:
            first = middle + 1
        else:
            last = middle
    return first


async def _at(session: AsyncSession, chain: str, seq: int) -> dt.datetime:
    """That entry's time; of one that was removed a moment ago the earliest there is."""
    query = select(AuditEntry.at).where(AuditEntry.chain == chain, AuditEntry.seq == seq)
    return await session.scalar(query) or _EARLIEST
