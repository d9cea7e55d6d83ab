"""SQL of call records that are too old: which may go, how many there are, and taking them away with all of theirs.

A record may go only when nothing of it is open: its call is over, somebody acknowledged it (a 933 test needs none),
nobody has still to be told, and no location rests on it as the test that last showed something of it.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import (
    CallAttempt,
    CallbackCall,
    CallKind,
    EmergencyCall,
    LocationTest,
    Notification,
    NotificationState,
)

LOOKED = 500  # records that one search looks at


@dataclass(frozen=True, slots=True)
class OldCall:
    id: str
    kind: str
    sent_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Found:
    """What one search found. `last`: the record it looked at last, behind which the next goes on; None: it was the
    last search.
    """

    calls: tuple[OldCall, ...]
    last: OldCall | None


def _may_go(end: dt.datetime) -> tuple[ColumnElement[bool], ...]:
    """Nothing of it is open, and every time it knows is before `end`: a clock that was wrong for one of them, or
    somebody who dealt with it lately, keeps it.
    """
    is_open = or_(
        EmergencyCall.outcome == "in_progress",
        and_(EmergencyCall.outcome == "answered", EmergencyCall.ended_at.is_(None)),
    )
    is_seen = or_(EmergencyCall.kind == CallKind.TEST, EmergencyCall.acknowledged_at.is_not(None))
    times = (EmergencyCall.sent_at, EmergencyCall.received_at, EmergencyCall.recorded_at)
    later = (EmergencyCall.answered_at, EmergencyCall.ended_at, EmergencyCall.acknowledged_at)
    owed = select(Notification.id).where(
        Notification.emergency_call_id == EmergencyCall.id,
        or_(
            Notification.state == NotificationState.WAITING, Notification.created_at >= end, Notification.sent_at >= end
        ),
    )  # fmt: skip
    called_back = select(CallbackCall.id).where(
        CallbackCall.emergency_call_id == EmergencyCall.id, ~_is_past(end)
    )  # fmt: skip
    shown = [
        select(LocationTest.location_id).where(column == EmergencyCall.id)
        for column in (LocationTest.passed_call_id, LocationTest.tried_call_id)
    ]
    return (
        ~is_open, is_seen, *(time < end for time in times), *(or_(time.is_(None), time < end) for time in later),
        *(~each.exists() for each in (owed, called_back, *shown)),
    )  # fmt: skip


def _is_past(end: dt.datetime) -> ColumnElement[bool]:
    """Whether a callback is over, and was before `end`."""
    return and_(
        CallbackCall.outcome != "in_progress", CallbackCall.received_at < end,
        or_(CallbackCall.ended_at.is_(None), CallbackCall.ended_at < end),
    )  # fmt: skip


async def old_calls(session: AsyncSession, account_id: str, end: dt.datetime, behind: OldCall | None = None) -> Found:
    """The records sent before that time which may go, among the oldest `LOOKED` behind one that was looked at before.

    For a session that only reads. Where many may not go, such as calls that nobody acknowledged, a search that began
    with the oldest each time would look at all of these again.
    """
    query = select(EmergencyCall.id, EmergencyCall.kind, EmergencyCall.sent_at, and_(*_may_go(end))).where(
        EmergencyCall.account_id == account_id, EmergencyCall.sent_at < end
    )
    if behind is not None:
        query = query.where(
            EmergencyCall.sent_at >= behind.sent_at,
            or_(EmergencyCall.sent_at > behind.sent_at, EmergencyCall.id > behind.id),
        )
    rows = (await session.execute(query.order_by(EmergencyCall.sent_at, EmergencyCall.id).limit(LOOKED))).all()
    calls = tuple(OldCall(row[0], row[1], row[2]) for row in rows if row[3])
    return Found(calls, OldCall(*rows[-1][:3]) if len(rows) == LOOKED else None)


async def count_old_calls(session: AsyncSession, account_id: str, end: dt.datetime, most: int) -> int:
    """How many that are, `most` at most. For a session that only reads."""
    found = select(EmergencyCall.id).where(
        EmergencyCall.account_id == account_id, EmergencyCall.sent_at < end, *_may_go(end)
    )
    return await session.scalar(select(func.count()).select_from(found.limit(most).subquery())) or 0


async def calls_held(session: AsyncSession, account_id: str, most: int) -> tuple[int, dt.datetime | None]:
    """How many records the account has, `most` at most, and when the oldest call was sent."""
    own = select(EmergencyCall.id).where(EmergencyCall.account_id == account_id)
    count = await session.scalar(select(func.count()).select_from(own.limit(most).subquery())) or 0
    oldest = select(func.min(EmergencyCall.sent_at)).where(EmergencyCall.account_id == account_id)
    return count, await session.scalar(oldest)


async def remove_calls(session: AsyncSession, calls: Sequence[OldCall], end: dt.datetime) -> dict[str, int]:
    """Delete those of them that may still go, with their attempts, notifications and callbacks. Returns how many of
    each.
    """
    asked = [call.id for call in calls]
    query = select(EmergencyCall.id, EmergencyCall.kind).where(EmergencyCall.id.in_(asked), *_may_go(end))
    kinds = {row[0]: row[1] for row in await session.execute(query.with_for_update())}
    removed = {kind.value: list(kinds.values()).count(kind.value) for kind in CallKind}
    for name, table in (("callbacks", CallbackCall), ("attempts", CallAttempt), ("notifications", Notification)):
        of_calls = table.emergency_call_id.in_(list(kinds))
        removed[name] = await session.scalar(select(func.count()).select_from(table).where(of_calls)) or 0
        await session.execute(delete(table).where(of_calls))
    await session.execute(delete(EmergencyCall).where(EmergencyCall.id.in_(list(kinds))))
    return {"calls": len(kinds), **removed}


async def old_callbacks(session: AsyncSession, account_id: str, end: dt.datetime, limit: int) -> list[str]:
    """The oldest callbacks of no known call that came before that time and are over."""
    query = select(CallbackCall.id).where(
        CallbackCall.account_id == account_id, CallbackCall.emergency_call_id.is_(None), _is_past(end)
    )
    return list(await session.scalars(query.order_by(CallbackCall.received_at).limit(limit)))


async def remove_callbacks(session: AsyncSession, ids: Sequence[str]) -> None:
    await session.execute(delete(CallbackCall).where(CallbackCall.id.in_(ids)))
