"""SQL of SMS and chat recipients: who is told of a call, and what waits for one."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from engine.db import utc_now
from engine.models import CHATS, CallKind, ChatRecipient, Location, Notification, NotificationState


@dataclass(frozen=True, slots=True)
class ChatTarget:
    """What a recorded call needs to know of a recipient. Nothing of it is sealed: no lost key stops a record."""

    id: str
    name: str
    shown: str
    kinds: tuple[str, ...]
    location_id: str | None

    @property
    def because(self) -> str:
        """Why it is told: `account` or `location`."""
        return "location" if self.location_id else "account"


async def count_of(session: AsyncSession, account_id: str) -> int:
    query = select(func.count()).select_from(ChatRecipient).where(ChatRecipient.account_id == account_id)
    return int(await session.scalar(query) or 0)


async def chats_of(session: AsyncSession, account_id: str) -> Sequence[tuple[ChatRecipient, str | None]]:
    """All of an account's, oldest first, each with the name of its location. Sealed addresses stay closed."""
    query = (
        select(ChatRecipient, Location.name)
        .outerjoin(Location, Location.id == ChatRecipient.location_id)
        .where(ChatRecipient.account_id == account_id)
        .options(defer(ChatRecipient.url))
        .order_by(ChatRecipient.id)
    )
    return [(row[0], row[1]) for row in await session.execute(query)]


async def chats_at(session: AsyncSession, account_id: str, location_id: str) -> Sequence[ChatRecipient]:
    """Those that are told of calls from that location alone."""
    query = select(ChatRecipient).where(
        ChatRecipient.account_id == account_id, ChatRecipient.location_id == location_id
    )
    return (await session.scalars(query.order_by(ChatRecipient.id))).all()


async def targets_of(
    session: AsyncSession, account_id: str, location_id: str | None, kind: str
) -> Sequence[ChatTarget]:
    """Those that are on and are told of such a call from there."""
    targets = await switched_on(
        session, account_id, or_(ChatRecipient.location_id.is_(None), ChatRecipient.location_id == location_id)
    )
    return [target for target in targets if kind in target.kinds]


async def told_everywhere(session: AsyncSession, account_id: str) -> int:
    """How many are told of every emergency call of the account."""
    targets = await switched_on(session, account_id, ChatRecipient.location_id.is_(None))
    return sum(CallKind.EMERGENCY in target.kinds for target in targets)


async def places_told(session: AsyncSession, account_id: str) -> frozenset[str]:
    """The locations whose emergency calls somebody of their own is told of."""
    targets = await switched_on(session, account_id, ChatRecipient.location_id.is_not(None))
    return frozenset(str(target.location_id) for target in targets if CallKind.EMERGENCY in target.kinds)


async def switched_on(session: AsyncSession, account_id: str, *conditions: ColumnElement[bool]) -> Sequence[ChatTarget]:
    """Those that anything is sent to, of whatever calls."""
    query = select(
        ChatRecipient.id, ChatRecipient.name, ChatRecipient.shown, ChatRecipient.kinds, ChatRecipient.location_id
    ).where(ChatRecipient.account_id == account_id, ChatRecipient.enabled.is_(True), *conditions)
    rows = await session.execute(query.order_by(ChatRecipient.id))
    return [ChatTarget(row[0], row[1], row[2], tuple(row[3]), row[4]) for row in rows]


async def messages_of(session: AsyncSession, row: ChatRecipient, limit: int = 20) -> Sequence[Notification]:
    """The newest messages to it."""
    query = select(Notification).where(Notification.account_id == row.account_id, Notification.recipient == row.id)
    query = query.order_by(Notification.created_at.desc(), Notification.id.desc()).limit(limit)
    return (await session.scalars(query)).all()


async def try_now(session: AsyncSession, row: ChatRecipient) -> None:
    """Make what waits for it due at once."""
    await session.execute(
        update(Notification)
        .where(*_waiting_for(row))
        .values(next_try_at=utc_now())
        .execution_options(synchronize_session=False)
    )


async def give_up(session: AsyncSession, row: ChatRecipient, words: str) -> None:
    """End what waits for it."""
    await session.execute(
        update(Notification)
        .where(*_waiting_for(row))
        .values(state=NotificationState.FAILED, last_error=words, claimed_by=None, claimed_until=None)
        .execution_options(synchronize_session=False)
    )


async def overdue_for_chats(session: AsyncSession, account_id: str, before: dt.datetime) -> int:
    """SMS and chat messages that were made before then and still wait."""
    query = select(func.count()).select_from(Notification)
    query = query.where(
        Notification.account_id == account_id, Notification.state == NotificationState.WAITING,
        Notification.channel.in_(CHATS), Notification.created_at < before,
    )  # fmt: skip
    return int(await session.scalar(query) or 0)


def _waiting_for(row: ChatRecipient) -> tuple[ColumnElement[bool], ...]:
    return (
        Notification.account_id == row.account_id, Notification.recipient == row.id,
        Notification.channel.in_(CHATS), Notification.state == NotificationState.WAITING,
    )  # fmt: skip
