"""SQL of the outbox: which messages are due and in which order, whose they are meanwhile, what became of them.

A loop that sends claims rows for the length of a lease under a name of its own (`holder`), and settles only what it
still holds.
"""

import datetime as dt
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, Update, case, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from engine.e911.retries import Try, Verdict
from engine.models import MAILS, CallKind, Channel, EmergencyCall, Notification, NotificationState

OLDEST_MAIL = select(func.min(Notification.created_at)).where(
    Notification.state == NotificationState.WAITING, Notification.channel.in_(MAILS)
)
"""When the mail that waits longest was written: the outbox's lag, for readiness. A webhook is some account's own, and
its being away says nothing of this node."""

NOBODY_WAITS_SO_LONG = dt.timedelta(hours=1)  # no pause between tries is so long, and no lease


def is_due(channels: Sequence[Channel], now: dt.datetime) -> tuple[ColumnElement[bool], ...]:
    """What waits for those channels, is due, and is nobody's.

    A time that lies further ahead than anything is put off for was written before the clock was set back: it is over.
    So is that of a message that was never tried, which is due from its first moment on.
    """
    ahead = now + NOBODY_WAITS_SO_LONG
    return (
        Notification.state == NotificationState.WAITING,
        Notification.channel.in_(channels),
        or_(Notification.tries == 0, Notification.next_try_at <= now, Notification.next_try_at > ahead),
        or_(Notification.claimed_until.is_(None), Notification.claimed_until < now, Notification.claimed_until > ahead),
    )


def in_turn(*due: ColumnElement[bool], at_most_each: int = 0) -> Select[str]:
    """The identifiers of due messages in the order in which they leave: those of real calls before those of tests and
    drills, what was never tried before what was, and accounts by turns, so that none has to wait for all of another's.

    Args:
        at_most_each: Not more than so many of one recipient, kind and number of tries; 0: all.
    """
    order = (Notification.next_try_at, Notification.id)
    is_other = case((EmergencyCall.kind == CallKind.EMERGENCY, 0), else_=1)
    same = (Notification.account_id, is_other, Notification.tries)
    turn = func.row_number().over(partition_by=same, order_by=order)
    nth = func.row_number().over(partition_by=(Notification.recipient, *same), order_by=order)
    waiting = (
        select(Notification.id, is_other.label("is_other"), turn.label("turn"), nth.label("nth"))
        .join(EmergencyCall, EmergencyCall.id == Notification.emergency_call_id)
        .where(*due)
        .subquery()
    )
    found = (
        select(Notification.id)
        .join(waiting, waiting.c.id == Notification.id)
        .where(*due)
        .order_by(waiting.c.is_other, Notification.tries, waiting.c.turn, *order)
    )
    return found.where(waiting.c.nth <= at_most_each) if at_most_each else found


async def claim(session: AsyncSession, holder: str, ids: Sequence[str], until: dt.datetime) -> None:
    """Make rows the holder's until then."""
    await session.execute(_of(Notification.id.in_(ids)).values(claimed_by=holder, claimed_until=until))


async def renew(session: AsyncSession, holder: str, identity: str, until: dt.datetime) -> bool:
    """Make a lease longer; False when the row is the holder's no more."""
    renewed = _of(Notification.id == identity, *_held_by(holder)).values(claimed_until=until)
    return (await session.scalars(renewed.returning(Notification.id))).first() is not None


async def release(session: AsyncSession, holder: str) -> None:
    """Give back what is still claimed, so that the next start need not wait for the lease to end."""
    await session.execute(_of(*_held_by(holder)).values(claimed_by=None, claimed_until=None))


async def settle(
    session: AsyncSession,
    holder: str,
    identity: str,
    outcome: Try,
    *,
    tries: int,
    now: dt.datetime,
    next_try_at: dt.datetime | None,
) -> None:
    """Note what became of the `tries`-th try, and give the row back. `next_try_at` None: that was the last."""
    values: dict[str, object] = {"tries": tries, "claimed_by": None, "claimed_until": None}
    if outcome.verdict is Verdict.SENT:
        values |= {"state": NotificationState.SENT, "sent_at": now, "last_error": None}
    elif next_try_at is None:
        values |= {"state": NotificationState.FAILED, "last_error": outcome.words}
    else:
        values |= {"next_try_at": next_try_at, "last_error": outcome.words}
    theirs = _of(Notification.id == identity, Notification.claimed_by == holder)
    await session.execute(theirs.values(**values))


async def try_mails_now(session: AsyncSession, now: dt.datetime) -> None:
    """Make every mail that waits due at once: the mail server is another one now."""
    waiting = _of(Notification.state == NotificationState.WAITING, Notification.channel.in_(MAILS))
    await session.execute(waiting.values(next_try_at=now))


def _of(*which: ColumnElement[bool]) -> Update:
    """A change of rows none of which is held in memory."""
    return update(Notification).where(*which).execution_options(synchronize_session=False)


def _held_by(holder: str) -> tuple[ColumnElement[bool], ...]:
    return Notification.claimed_by == holder, Notification.state == NotificationState.WAITING
