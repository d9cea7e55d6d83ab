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


@dataclass(frozen=True, slots=True)
class OldCall:
    id: str
    kind: str
    sent_at: dt.datetime


def _may_go() -> tuple[ColumnElement[bool], ...]:
    is_open = or_(
        EmergencyCall.outcome == "in_progress",
        and_(EmergencyCall.outcome == "answered", EmergencyCall.ended_at.is_(None)),
    )
    is_seen = or_(EmergencyCall.kind == CallKind.TEST, EmergencyCall.acknowledged_at.is_not(None))
    owed = select(Notification.id).where(
        Notification.emergency_call_id == EmergencyCall.id, Notification.state == NotificationState.WAITING
    )
    shown = select(LocationTest.location_id).where(
        LocationTest.account_id == EmergencyCall.account_id,
        or_(LocationTest.passed_call_id == EmergencyCall.id, LocationTest.tried_call_id == EmergencyCall.id),
    )
    return ~is_open, is_seen, ~owed.exists(), ~shown.exists()


async def old_calls(session: AsyncSession, account_id: str, end: dt.datetime, limit: int) -> list[OldCall]:
    """The oldest records of calls sent before that time which may go."""
    query = (
        select(EmergencyCall.id, EmergencyCall.kind, EmergencyCall.sent_at)
        .where(EmergencyCall.account_id == account_id, EmergencyCall.sent_at < end, *_may_go())
        .order_by(EmergencyCall.sent_at, EmergencyCall.id)
        .limit(limit)
    )
    return [OldCall(*row) for row in await session.execute(query)]


async def count_old_calls(session: AsyncSession, account_id: str, end: dt.datetime, most: int) -> int:
    """How many that are, `most` at most."""
    found = select(EmergencyCall.id).where(
        EmergencyCall.account_id == account_id, EmergencyCall.sent_at < end, *_may_go()
    )
    return await session.scalar(select(func.count()).select_from(found.limit(most).subquery())) or 0


async def calls_held(session: AsyncSession, account_id: str, most: int) -> tuple[int, dt.datetime | None]:
    """How many records the account has, `most` at most, and when the oldest call was sent."""
    own = select(EmergencyCall.id).where(EmergencyCall.account_id == account_id)
    count = await session.scalar(select(func.count()).select_from(own.limit(most).subquery())) or 0
    oldest = select(func.min(EmergencyCall.sent_at)).where(EmergencyCall.account_id == account_id)
    return count, await session.scalar(oldest)


async def remove_calls(session: AsyncSession, calls: Sequence[OldCall]) -> dict[str, int]:
    """Delete those of them that may still go, with their attempts, notifications and callbacks. Returns how many of
    each.
    """
    asked = [call.id for call in calls]
    query = select(EmergencyCall.id, EmergencyCall.kind).where(EmergencyCall.id.in_(asked), *_may_go())
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
        CallbackCall.account_id == account_id, CallbackCall.received_at < end,
        CallbackCall.emergency_call_id.is_(None), CallbackCall.outcome != "in_progress",
    )  # fmt: skip
    return list(await session.scalars(query.order_by(CallbackCall.received_at).limit(limit)))


async def remove_callbacks(session: AsyncSession, ids: Sequence[str]) -> None:
    await session.execute(delete(CallbackCall).where(CallbackCall.id.in_(ids)))
