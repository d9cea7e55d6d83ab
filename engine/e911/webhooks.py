"""Webhooks: who else is told of emergency calls, by an HTTPS POST. Operations, and the messages of a call.

A message is a row of the outbox like a mail, written in the transaction that records the call: one for each call and
webhook, and a second one where people get a second mail. It never stands in a mail's place: a call whose account names
nobody to mail is flagged all the same.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import utc_now
from engine.e911 import store_webhooks as store
from engine.e911 import webhook_message
from engine.e911.mail import Told
from engine.errors import Conflict, FieldFault, Invalid
from engine.ids import new_id
from engine.models import Account, CallKind, Channel, EmergencyCall, Notification, NotificationState, Webhook
from engine.outbound import Outbound, host_of

MAX_WEBHOOKS = 20  # of an account: each is a row for every call
OLD_SECRET_COUNTS = dt.timedelta(hours=24)
KINDS = tuple(kind.value for kind in CallKind)


@dataclass(frozen=True, slots=True)
class WebhookFields:
    """A webhook as it shall be, whole. `kinds`: of which calls it is told."""

    name: str
    url: str
    kinds: tuple[str, ...] = KINDS
    enabled: bool = True

    @classmethod
    def of(cls, row: Webhook) -> "WebhookFields":
        """As it is now; `dataclasses.replace` makes the wished state of it."""
        return cls(row.name, row.url, tuple(row.kinds), row.enabled)


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of one try. `words`: for a person; whoever receives webhooks said them."""

    is_ok: bool
    words: str
    at: dt.datetime


async def create_webhook(
    session: AsyncSession, actor: Actor, account: Account, wished: WebhookFields, outbound: Outbound
) -> tuple[Webhook, str]:
    """Add a webhook; returns it and its secret, which is shown once.

    Raises:
        Invalid: every bad field. Conflict: the account has as many as it may.
    """
    if await store.count_of(session, account.id) >= MAX_WEBHOOKS:
        raise Conflict(f"An account has at most {MAX_WEBHOOKS} webhooks. Remove one that nobody reads, then add this.")
    secret = webhook_message.mint_secret()
    row = Webhook(id=new_id("webhook"), account_id=account.id, secret=secret, tried_words="")
    _apply(row, wished, outbound)
    session.add(row)
    record(session, actor, Event.WEBHOOK_CREATE, row)
    await session.flush()
    return row, secret


async def update_webhook(
    session: AsyncSession, actor: Actor, row: Webhook, wished: WebhookFields, outbound: Outbound
) -> None:
    """Change a webhook; what waits for it goes where it leads now. Raises Invalid as `create_webhook`."""
    _apply(row, wished, outbound)
    record(session, actor, Event.WEBHOOK_UPDATE, row)
    await store.try_now(session, row)
    await session.flush()


async def rotate_secret(session: AsyncSession, actor: Actor, row: Webhook) -> str:
    """Give it a new secret, which is shown once. For a day messages are signed with both."""
    secret = webhook_message.mint_secret()
    row.previous_secret, row.previous_until = row.secret, utc_now() + OLD_SECRET_COUNTS
    row.secret = secret
    record(session, actor, Event.WEBHOOK_ROTATE_SECRET, row)
    await session.flush()
    return secret


async def delete_webhook(session: AsyncSession, actor: Actor, row: Webhook) -> None:
    """Remove it. What waits for it is given up, and the call's page says why."""
    await store.give_up(session, row, "The webhook was removed.")
    await session.delete(row)
    record(session, actor, Event.WEBHOOK_DELETE, row)


def note_test(session: AsyncSession, actor: Actor, row: Webhook, tried: Tried) -> None:
    """Keep what became of a test."""
    row.tried_at, row.tried_ok, row.tried_words = tried.at, tried.is_ok, f"Test: {tried.words}"[:300]
    record(session, actor, Event.WEBHOOK_TEST, row, details={"is_ok": tried.is_ok, "words": tried.words})


async def queue_webhooks(
    session: AsyncSession, call: EmergencyCall, told: Told, *, channel: Channel = Channel.WEBHOOK
) -> None:
    """A message in the outbox for each webhook that is told of such calls, in this transaction.

    Args:
        channel: `WEBHOOK_CORRECTION` or `WEBHOOK_ALL_CLEAR`: what was said before turned out otherwise.
    """
    is_first = channel is Channel.WEBHOOK
    at = call.recorded_at if is_first else utc_now()
    event = webhook_message.SENT if is_first else webhook_message.CORRECTED
    for target in await store.targets_of(session, call.account_id):
        if call.kind not in target.kinds:
            continue
        identity = new_id("notification")
        session.add(
            Notification(
                id=identity, account_id=call.account_id, emergency_call_id=call.id, recipient=target.id,
                channel=channel, because="webhook", subject=f"{target.name} ({target.host})",
                body=webhook_message.call_body(identity, event, at, call, told), state=NotificationState.WAITING,
                created_at=at, next_try_at=at,
            )
        )  # fmt: skip


def keys_of(row: Webhook, now: dt.datetime) -> Sequence[str]:
    """What messages are signed with now."""
    if row.previous_secret and row.previous_until is not None and now < row.previous_until:
        return (row.secret, row.previous_secret)
    return (row.secret,)


def _apply(row: Webhook, wished: WebhookFields, outbound: Outbound) -> None:
    name, url = wished.name.strip(), wished.url.strip()
    faults: list[FieldFault] = []
    if not name or len(name) > 200 or not name.isprintable():
        faults.append(FieldFault("name", "Expected 1 to 200 printable characters."))
    fault = outbound.url_fault("url", url)
    if fault is not None:
        faults.append(fault)
    if not wished.kinds or set(wished.kinds) - set(KINDS):
        faults.append(FieldFault("kinds", f"Expected at least one of {', '.join(KINDS)}."))
    if faults:
        raise Invalid("The webhook cannot be stored like this.", fields=tuple(faults))
    row.name, row.url, row.host = name, url, host_of(url)
    row.kinds = [kind for kind in KINDS if kind in wished.kinds]
    row.enabled = wished.enabled
