"""SQL of webhooks: what calls are told to, and what waits for one."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from engine.db import utc_now
from engine.models import WEBHOOKS, Notification, NotificationState, Webhook


@dataclass(frozen=True, slots=True)
class Target:
    """What a recorded call needs to know of a webhook; nothing of it is sealed, so that no lost key stops a record."""

    id: str
    name: str
    host: str
    kinds: tuple[str, ...]


async def count_of(session: AsyncSession, account_id: str) -> int:
    query = select(func.count()).select_from(Webhook).where(Webhook.account_id == account_id)
    return int(await session.scalar(query) or 0)


async def webhooks_of(session: AsyncSession, account_id: str) -> Sequence[Webhook]:
    """All of an account's, oldest first."""
    query = select(Webhook).where(Webhook.account_id == account_id).order_by(Webhook.id)
    return (await session.scalars(query)).all()


async def targets_of(session: AsyncSession, account_id: str) -> Sequence[Target]:
    """Those that are on."""
    query = select(Webhook.id, Webhook.name, Webhook.host, Webhook.kinds).where(
        Webhook.account_id == account_id, Webhook.enabled.is_(True)
    )
    rows = await session.execute(query.order_by(Webhook.id))
    return [Target(row[0], row[1], row[2], tuple(row[3])) for row in rows]


async def messages_of(session: AsyncSession, webhook: Webhook, limit: int = 20) -> Sequence[Notification]:
    """The newest messages to it."""
    query = select(Notification).where(
        Notification.account_id == webhook.account_id, Notification.recipient == webhook.id
    )
    query = query.order_by(Notification.created_at.desc(), Notification.id.desc()).limit(limit)
    return (await session.scalars(query)).all()


async def try_now(session: AsyncSession, webhook: Webhook) -> None:
    """Make what waits for it due at once."""
    await session.execute(
        update(Notification)
        .where(*_waiting_for(webhook))
        .values(next_try_at=utc_now())
        .execution_options(synchronize_session=False)
    )


async def give_up(session: AsyncSession, webhook: Webhook, words: str) -> None:
    """End what waits for it."""
    await session.execute(
        update(Notification)
        .where(*_waiting_for(webhook))
        .values(state=NotificationState.FAILED, last_error=words, claimed_by=None, claimed_until=None)
        .execution_options(synchronize_session=False)
    )


async def overdue_for_webhooks(session: AsyncSession, account_id: str, before: dt.datetime) -> int:
    """Messages to webhooks that were made before then and still wait."""
    query = select(func.count()).select_from(Notification)
    query = query.where(
        Notification.account_id == account_id, Notification.state == NotificationState.WAITING,
        Notification.channel.in_(WEBHOOKS), Notification.created_at < before,
    )  # fmt: skip
    return int(await session.scalar(query) or 0)


def _waiting_for(webhook: Webhook) -> tuple[ColumnElement[bool], ...]:
    return (
        Notification.account_id == webhook.account_id, Notification.recipient == webhook.id,
        Notification.channel.in_(WEBHOOKS), Notification.state == NotificationState.WAITING,
    )  # fmt: skip
