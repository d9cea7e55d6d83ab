"""Candidates among whole values on PostgreSQL: down the index of the value that is rarest lately (decision 0024).

Theory of operation. Each filter on whole values has an index that ends in the entry's number, so its newest entries are
the first of a short walk. One walk for each filter tells which of them reaches farthest back with as many entries: that
one is the rarest lately, and its entries, group by group, are the candidates. No statistics of the server are asked,
and none can be wrong: with them, a beginning that a fifth of the log has was taken for rare, and all of it was read.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from sqlalchemy import Integer, any_, literal, select, union_all
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.elements import ColumnElement

from engine.audit import search
from engine.audit.values import Values
from engine.models import AuditEntry

if TYPE_CHECKING:
    from engine.audit.store import Filters

GROUP = 500
MOST_VALUES = 40  # of one filter; more of them are most of the log
Way = list[tuple[InstrumentedAttribute[str], str]]  # any of these columns with its value


def ways_of(filters: "Filters", values: Values) -> list[Way]:
    """Each filter on whole values that an index serves."""
    sets: list[list[tuple[InstrumentedAttribute[str], tuple[str, ...]]]] = [
        [(AuditEntry.event, tuple(sorted(filters.events)))],
        [(AuditEntry.actor_id, tuple(sorted(filters.actors)))],
        [(AuditEntry.actor_id, values.actor_ids or ()), (AuditEntry.actor_name, values.actor_names or ())]
        if values.is_actor_known
        else [],
        [(AuditEntry.resource_id, values.resources or ())],
    ]
    for column, value in (
        (AuditEntry.outcome, filters.outcome),
        (AuditEntry.category, filters.category),
        (AuditEntry.resource_id, filters.target),
        (AuditEntry.ip, search.whole_ip(filters.ip)),
    ):
        sets.append([(column, (value,) if value else ())])
    ways = [[(column, value) for column, listed in each for value in listed] for each in sets]
    return [way for way in ways if 0 < len(way) <= MOST_VALUES]


async def walked(
    session: AsyncSession, chain: str, ways: list[Way], low: int, high: int
) -> AsyncIterator[tuple[ColumnElement[bool], int]]:
    """Groups of candidates, newest first: a condition that holds them, and the lowest number looked at."""
    first = [(await _newest(session, chain, way, low, high), way) for way in ways]
    seqs, rarest = min(first, key=lambda pair: _reach(pair[0], low))
    while True:
        lowest = _reach(seqs, low)
        if seqs:
            yield among(seqs), lowest
        high = lowest - 1
        if high < low:
            return
        seqs = await _newest(session, chain, rarest, low, high)


def among(seqs: list[int]) -> ColumnElement[bool]:
    """The entries of these numbers, as PostgreSQL takes them: one text to prepare whatever their count."""
    return AuditEntry.seq == any_(literal(seqs, ARRAY(Integer)))


def _reach(seqs: list[int], low: int) -> int:
    return seqs[-1] if len(seqs) >= GROUP else low


async def _newest(session: AsyncSession, chain: str, way: Way, low: int, high: int) -> list[int]:
    """The newest numbers of that way, newest first; fewer than GROUP: there are no more."""
    each = [
        select(AuditEntry.seq)
        .where(AuditEntry.chain == chain, column == value, AuditEntry.seq.between(low, high))
        .order_by(AuditEntry.seq.desc())
        .limit(GROUP)
        .subquery()
        for column, value in way
    ]
    together = union_all(*(select(one.c.seq) for one in each)).subquery()
    return list(await session.scalars(select(together.c.seq).order_by(together.c.seq.desc()).limit(GROUP)))
