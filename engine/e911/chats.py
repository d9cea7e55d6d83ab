"""Who is told of emergency calls by SMS or chat: operations, and the messages of a call.

An address is one of the library's (`engine.e911.chat_services`), sealed, and told to nobody again: whoever changes a
recipient leaves it or types another. Messages ride in the outbox like mails, one for each (call, recipient, channel).
A recipient is people, so a call that only they are told of counts as one of which somebody was told. One that is told
of no kind of call waits for escalation (`engine.e911.escalation`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import utc_now
from engine.e911 import chat_message, store, store_escalation
from engine.e911 import store_chats as chats
from engine.e911.chat_library import Address
from engine.e911.mail import Composed, Told
from engine.e911.store_chats import ChatTarget
from engine.e911.webhooks import KINDS, Tried
from engine.errors import Conflict, FieldFault, Invalid
from engine.ids import new_id
from engine.models import Account, Channel, ChatRecipient, EmergencyCall, Notification, NotificationState

MAX_CHATS = 20  # of an account: each is a row for every call


@dataclass(frozen=True, slots=True)
class ChatFields:
    """A recipient as it shall be, whole. `url` None: as it is. `location_id` None: told of calls from everywhere."""

    name: str
    url: str | None = None
    location_id: str | None = None
    kinds: tuple[str, ...] = KINDS
    enabled: bool = True

    @classmethod
    def of(cls, row: ChatRecipient) -> "ChatFields":
        """As it is now; `dataclasses.replace` makes the wished state of it."""
        return cls(row.name, None, row.location_id, tuple(row.kinds), row.enabled)


async def create_chat(
    session: AsyncSession, actor: Actor, account: Account, wished: ChatFields, address: Address
) -> ChatRecipient:
    """Add a recipient. `address`: what the library says of `wished.url`.

    Raises:
        Invalid: every bad field. Conflict: the account has as many as it may.
    """
    if await chats.count_of(session, account.id) >= MAX_CHATS:
        raise Conflict(
            f"An account has at most {MAX_CHATS} recipients of SMS and chat messages. Remove one, or use a channel "
            "that more people read."
        )
    row = ChatRecipient(id=new_id("chat_recipient"), account_id=account.id, tried_words="")
    await _apply(session, row, replace(wished, url=wished.url or ""), address)
    session.add(row)
    record(session, actor, Event.CHAT_RECIPIENT_CREATE, row)
    await session.flush()
    return row


async def update_chat(
    session: AsyncSession, actor: Actor, row: ChatRecipient, wished: ChatFields, address: Address
) -> None:
    """Change a recipient; what waits for it goes where it leads now. Raises Invalid as `create_chat`."""
    await _apply(session, row, wished, address)
    record(session, actor, Event.CHAT_RECIPIENT_UPDATE, row)
    await chats.try_now(session, row)
    await session.flush()


async def delete_chat(session: AsyncSession, actor: Actor, row: ChatRecipient) -> None:
    """Remove it. What waits for it is given up, and the call's page says why.

    Raises:
        Conflict: it is told when nobody acknowledges a call, and somebody relies on that.
    """
    plan = await store_escalation.plan_of(session, row.account_id)
    if any(row.id in step["chat_recipient_ids"] for step in (plan.steps if plan is not None else [])):
        raise Conflict(
            f"{row.name} is told of calls that nobody acknowledges. Take it out of the escalation under Settings first."
        )
    await chats.give_up(session, row, "The recipient was removed.")
    await session.delete(row)
    record(session, actor, Event.CHAT_RECIPIENT_DELETE, row)


def note_test(session: AsyncSession, actor: Actor, row: ChatRecipient, tried: Tried) -> None:
    """Keep what became of a test."""
    row.tried_at, row.tried_ok, row.tried_words = tried.at, tried.is_ok, f"Test: {tried.words}"[:300]
    record(session, actor, Event.CHAT_RECIPIENT_TEST, row, details={"is_ok": tried.is_ok, "words": tried.words})


async def is_told(session: AsyncSession, account_id: str, location_id: str | None, kind: str) -> bool:
    """Whether anybody is told by SMS or chat of such a call from there."""
    return bool(await chats.targets_of(session, account_id, location_id, kind))


async def queue_chats(
    session: AsyncSession,
    call: EmergencyCall,
    told: Told,
    *,
    channel: Channel = Channel.CHAT,
) -> list[str]:
    """A message in the outbox for each recipient of such calls, in this transaction; returns their names.

    Args:
        channel: `CHAT_CORRECTION` or `CHAT_ALL_CLEAR`: what was said before turned out otherwise.
    """
    location_id = (call.location or {}).get("id")
    named = location_id if isinstance(location_id, str) else None
    targets = await chats.targets_of(session, call.account_id, named, call.kind)
    composed = chat_message.compose(told) if targets else None
    if composed is not None:
        session.add_all([_message(call, target, composed, channel, f"chat_{target.because}") for target in targets])
    return [target.name for target in targets]


async def queue_escalation(session: AsyncSession, call: EmergencyCall, told: Told, ids: Sequence[str]) -> list[str]:
    """A message for each of these recipients that is switched on; returns their names."""
    targets = [target for target in await chats.switched_on(session, call.account_id) if target.id in ids]
    composed = chat_message.compose(told) if targets else None
    if composed is not None:
        channel = Channel.CHAT_ESCALATION
        session.add_all([_message(call, target, composed, channel, "escalation") for target in targets])
    return [target.name for target in targets]


def _message(
    call: EmergencyCall, target: ChatTarget, composed: Composed, channel: Channel, because: str
) -> Notification:
    at = call.recorded_at if channel is Channel.CHAT else utc_now()
    return Notification(
        id=new_id("notification"), account_id=call.account_id, emergency_call_id=call.id, recipient=target.id,
        channel=channel, because=because, subject=f"{target.name} ({target.shown})",
        body=f"{composed.subject}\n{composed.body}", state=NotificationState.WAITING, created_at=at, next_try_at=at,
    )  # fmt: skip


async def _apply(session: AsyncSession, row: ChatRecipient, wished: ChatFields, address: Address) -> None:
    name, faults = wished.name.strip(), list[FieldFault]()
    if not name or len(name) > 200 or not name.isprintable():
        faults.append(FieldFault("name", "Expected 1 to 200 printable characters."))
    if wished.url is not None and address.fault:
        faults.append(FieldFault("url", address.fault))
    if set(wished.kinds) - set(KINDS):
        faults.append(FieldFault("kinds", f"Expected none or some of {', '.join(KINDS)}."))
    place = wished.location_id
    if place and await store.location_by_id(session, row.account_id, place) is None:
        faults.append(FieldFault("location_id", "Expected one of the account's locations, or none for all of them."))
    if faults:
        raise Invalid("The recipient cannot be stored like this.", fields=tuple(faults))
    row.name, row.location_id, row.enabled = name, place or None, wished.enabled
    row.kinds = [kind for kind in KINDS if kind in wished.kinds]
    if wished.url is not None:
        row.url, row.service, row.shown = wished.url, address.service, address.shown
