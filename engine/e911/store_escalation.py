"""SQL of escalation: plans, the calls whose next step is due, and what of a step has not left yet."""

import datetime as dt

from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import Channel, EmergencyCall, EscalationPlan, Notification, NotificationState

FIRST = (Channel.EMAIL, Channel.CHAT)
ESCALATIONS = (Channel.ESCALATION, Channel.CHAT_ESCALATION)


async def plan_of(session: AsyncSession, account_id: str, *, for_update: bool = False) -> EscalationPlan | None:
    query = select(EscalationPlan).where(EscalationPlan.account_id == account_id)
    return (await session.scalars(query.with_for_update() if for_update else query)).first()


async def owed_calls(session: AsyncSession, limit: int) -> list[tuple[str, dt.datetime]]:
    """The calls that are owed a step, and when, the earliest first."""
    call = EmergencyCall
    query = select(call.id, call.escalation_due_at).where(call.escalation_due_at.is_not(None))
    rows = await session.execute(query.order_by(call.escalation_due_at).limit(limit))
    return [(call_id, due_at) for call_id, due_at in rows if due_at is not None]


async def owed_call(session: AsyncSession, call_id: str, due_at: dt.datetime) -> EmergencyCall | None:
    """The call, locked, when that step is still owed and nobody else is at it: another node, or who acknowledges."""
    query = select(EmergencyCall).where(
        EmergencyCall.id == call_id, EmergencyCall.escalation_due_at == due_at, EmergencyCall.acknowledged_at.is_(None)
    )
    return (await session.scalars(query.with_for_update(skip_locked=True))).first()


async def has_untried(session: AsyncSession, call_id: str) -> bool:
    """Whether some first message of the call has not been tried yet."""
    query = select(Notification.id).where(
        Notification.emergency_call_id == call_id, Notification.channel.in_(FIRST), Notification.tries == 0,
        Notification.state == NotificationState.WAITING,
    )  # fmt: skip
    return (await session.scalars(query.limit(1))).first() is not None


async def withdraw(session: AsyncSession, call_id: str, now: dt.datetime) -> int:
    """Take back what of the steps has not left: nobody sends it now. Returns how many messages that were."""
    waiting = (
        delete(Notification)
        .where(
            Notification.emergency_call_id == call_id, Notification.channel.in_(ESCALATIONS),
            Notification.state == NotificationState.WAITING,
            or_(Notification.claimed_until.is_(None), Notification.claimed_until < now),
        )
        .returning(Notification.id)
        .execution_options(synchronize_session=False)
    )  # fmt: skip
    return len((await session.scalars(waiting)).all())
