"""Telling staff of a call: what is said of it, who is told, and the rows in the outbox. In the caller's transaction."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.checkpoints import Signer, fingerprint, sign_head
from engine.db import utc_now
from engine.e911 import mail, store
from engine.ids import new_id
from engine.models import Account, CallKind, Channel, EmergencyCall, Location, Notification, NotificationState
from engine.numbers import NumberPack, numbers_of

NO_RECIPIENTS = "no_recipients"
ANSWERED, FAILED = "answered", "failed"  # outcomes of a call: a trunk answered it, or none did

Recipients = Mapping[str, str]
"""Addresses, and why each is told: `account`, `location` or `both`."""


async def told_of(
    session: AsyncSession,
    call: EmergencyCall,
    account: Account,
    location: Location | None,
    *,
    signer: Signer | None,
    public_url: str,
) -> mail.Told:
    """What a notification of that call says. `public_url`: the pages' address without a slash; empty: no link."""
    conveyed = call.location or {}
    civic_address = as_mapping(conveyed.get("civic_address"))
    flags = [flag for flag in call.flags if flag != NO_RECIPIENTS]
    near = _numbers_near(call, account.country)
    if reached_nobody(call) and mail.NOT_SENT not in flags:
        flags.append(mail.REACHED_NOBODY)
    return mail.Told(
        call_id=call.id,
        dialed=call.dialed,
        kind=CallKind(call.kind),
        caller_name=str(call.caller.get("name") or ""),
        extension=str(call.caller.get("extension") or ""),
        callback_number=as_text(call.caller.get("callback_number")),
        location_name=str(conveyed.get("name") or "a location without a name") if conveyed else None,
        civic_address=civic_address,
        geo=as_mapping(conveyed.get("geo")),
        location_source=call.location_source,
        flags=tuple(flags),
        sent_at=call.sent_at,
        timezone=(location.timezone if location else None) or account.timezone,
        onsite_number=location.onsite_number if location else None,
        account_name=account.name,
        page_url=f"{public_url}/calls/{call.id}" if public_url else None,
        checkpoint=await _checkpoint(session, account, signer),
        prefix=(location.notification_prefix if location else "") or account.notification_prefix,
        instructions=(account.notification_text, location.notification_text if location else ""),
        number=near.primary,
        test_number=min(near.test, default=""),
        elsewhere=elsewhere_of(call),
    )


def elsewhere_of(call: EmergencyCall) -> tuple[Mapping[str, Any], ...]:
    """The other places that sources named for the caller, each once."""
    places = [as_mapping(as_mapping(said).get("elsewhere")) for said in call.verdict]
    return tuple({str(place.get("name") or place): place for place in places if place}.values())


def number_near(call: EmergencyCall, country: str) -> str:
    """What people dial for help where the caller is; `country`: the account's, for a place that names none."""
    return _numbers_near(call, country).primary


def _numbers_near(call: EmergencyCall, country: str) -> NumberPack:
    civic_address = as_mapping((call.location or {}).get("civic_address"))
    return numbers_of(str(civic_address.get("country") or country))


def reached_nobody(call: EmergencyCall) -> bool:
    """Whether no carrier took the call, as far as is known now. A drill calls nobody."""
    if call.kind == CallKind.DRILL or call.outcome == ANSWERED:
        return False
    return call.outcome == FAILED or mail.NOT_SENT in call.flags


async def _checkpoint(session: AsyncSession, account: Account, signer: Signer | None) -> mail.Checkpoint | None:
    """The signed head of the account's chain. It takes no lock, and the call is told without it if need be."""
    signed = await sign_head(session, signer, account.id) if signer is not None else None
    if signed is None:
        return None
    return mail.Checkpoint(signed.chain, signed.seq, signed.hash, signed.short, fingerprint(signed.public_key))


def queue_notifications(
    session: AsyncSession,
    call: EmergencyCall,
    told: mail.Told,
    recipients: Recipients,
    *,
    channel: Channel = Channel.EMAIL,
) -> None:
    """A message in the outbox for each recipient, in this transaction."""
    composed = {because: mail.compose(told, because) for because in set(recipients.values())}
    for address, because in recipients.items():
        session.add(_notification_row(call, address, because, composed[because], channel))


async def recipients_for(session: AsyncSession, account_id: str, location: Location | None) -> dict[str, str]:
    """Who is mailed about a call from that location, and why: the account's recipients and the location's, each
    mailbox once, whatever the letters' case. Neither list replaces the other.
    """
    everybody = [recipient.email for recipient in await store.recipients_of(session, account_id)]
    return union_of(everybody, location.notification_recipients if location else ())


def union_of(account: Iterable[str], location: Iterable[str]) -> dict[str, str]:
    """The account's addresses and a location's, each mailbox once, and why each is told."""
    found: dict[str, tuple[str, str]] = {}
    for address in account:
        found.setdefault(address.casefold(), (address, "account"))
    for address in location:
        known = found.get(address.casefold())
        found[address.casefold()] = (known[0], "both") if known and known[1] != "location" else (address, "location")
    return dict(found.values())


def _notification_row(
    call: EmergencyCall, address: str, because: str, composed: mail.Composed, channel: Channel
) -> Notification:
    at = call.recorded_at if channel is Channel.EMAIL else utc_now()
    return Notification(
        id=new_id("notification"),
        account_id=call.account_id,
        emergency_call_id=call.id,
        recipient=address,
        channel=channel,
        because=because,
        subject=composed.subject,
        body=composed.body,
        state=NotificationState.WAITING,
        created_at=at,
        next_try_at=at,
    )


def as_mapping(value: object) -> dict[str, Any]:
    """A field that should be an object, empty when it is anything else: a call is recorded with what can be read."""
    return value if isinstance(value, dict) else {}


def as_text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
