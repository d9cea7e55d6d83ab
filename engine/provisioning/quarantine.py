"""A phone that says it is another model than the one kept for its address: held back until somebody looks.

Somebody has swapped the device, typed the wrong model, or pretends. Its files could have the wrong grammar or too few
lines, and they hold passwords, so it gets the one 404 until the account's people accept the new model or say that the
old one is right. Only a User-Agent that names a model of our own table can hold a phone back, and only where the
difference matters: an alias, a revision of the same name, another model with the same files and as many lines, and a
firmware's new spelling do not, nor does an administrator's own User-Agent.

A User-Agent is easily forged, so only the phone's own place can have it held back: the network it was served in last,
its certificate, or, where it was served nowhere yet, its address in the User-Agent. From anywhere else only that
request is refused. A phone that still says its kept model where it is at home is served, whatever others say.
"""

import datetime as dt
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.errors import Conflict, FieldFault, Invalid
from engine.models import Phone, PhoneStatus, ProvisioningEvent
from engine.provisioning import store, vendors, vicinity
from engine.provisioning.index import Found
from engine.provisioning.vendors import Confidence, PhoneIdentity, Profile, Vendors, spelled

REASON: Final = "model"  # of the request that held a phone back
HELD: Final = "quarantined"  # of every one after it
ELSEWHERE: Final = "model_elsewhere"  # of a request that is refused by itself: it does not come from the phone's place
REASONS: Final = frozenset({REASON, HELD, ELSEWHERE})
_SOON_S = 5.0  # in which the fetch log has written the phone's status, and every process reads it
_MAX_RECENT = 10_000
_AT_HOME_FOR = dt.timedelta(days=7)  # in which a phone that was served in two networks has no sure home
_LOOKED_AT = 200  # of its fetches in that time


@dataclass(frozen=True, slots=True)
class Seen:
    """What a phone says it is."""

    vendor: str
    model: str


# --- At the door ------------------------------------------------------------------------------------------------------


def another_model(known: Vendors, kept: Seen, who: PhoneIdentity) -> Seen | None:
    """The model that asks in place of the kept one, where that matters; None: nothing is wrong. The phone was found by
    `who.mac`.
    """
    named, address = who.named
    if named is None or who.vendor is None or who.confidence < Confidence.HIGH or address not in {None, who.mac}:
        return None
    if who.vendor != kept.vendor:  # its file is refused anyway; naming the address makes it more than a stray request
        is_ours = address is not None and named in known.profiles[who.vendor].models
        return Seen(who.vendor, named) if is_ours else None
    profile = known.profiles.get(kept.vendor)
    return Seen(kept.vendor, named) if profile is not None and _matters(profile, kept.model, named) else None


def seen_of(who: PhoneIdentity) -> tuple[str, str]:
    """Vendor and model as the User-Agent names them, for the fetch log."""
    return who.vendor or "", who.named[0] or ""


def both_models(found: Found, who: PhoneIdentity) -> str:
    """The kept model and the one that asks, for the fetch log's evidence; "": the asker names none of ours."""
    vendor, model = seen_of(who)
    return f"kept as {found.vendor} {found.model}, says it is {vendor} {model}" if model else ""


def _matters(profile: Profile, kept: str, named: str) -> bool:
    one, other = profile.models.get(kept), profile.models.get(named)
    if one is None or other is None or one is other:
        return False
    first, second = sorted((spelled(kept), spelled(named)), key=len)
    if second.startswith(first):
        return False
    return (one.template, one.lines) != (other.template, other.lines)


@dataclass(slots=True)
class Gate:
    """Who is held back: those the database says, and those seen a moment ago that it does not say yet."""

    known: Vendors
    _recent: OrderedDict[str, tuple[float, str]] = field(default_factory=OrderedDict)

    def refusal(self, found: Found, who: PhoneIdentity, ip: str, now: float) -> str | None:
        """Why a known phone gets nothing, as the fetch log's reason; None: nothing is held against it. It is not
        remembered here: another rule may refuse the request first.

        Args:
            ip: The asker's. now: any clock that only goes forward, in seconds.
        """
        if found.phone_id is None:
            return None
        other = another_model(self.known, Seen(found.vendor, found.model), who)
        if found.status == PhoneStatus.QUARANTINED:
            self._recent.pop(found.phone_id, None)
            return None if self._says_the_kept(found, who, ip) else HELD
        if other is not None:
            return REASON if _is_its_own(found, who, ip) else ELSEWHERE
        until, asker = self._recent.get(found.phone_id, (now, ""))
        is_held = until > now and vicinity.is_near(asker, ip) and not self._says_the_kept(found, who, ip)
        return HELD if is_held else None

    def remembers(self, phone_id: str | None) -> bool:
        """Whether a request was held against that phone a moment ago, whatever the database says by now."""
        return phone_id in self._recent

    def _says_the_kept(self, found: Found, who: PhoneIdentity, ip: str) -> bool:
        """Does the asker name the kept model where the phone is at home?"""
        profile = self.known.profiles.get(found.vendor)
        named, address = who.named
        if profile is None or named is None or who.vendor != found.vendor or address not in {None, who.mac}:
            return False
        is_kept = named == found.model or profile.models.get(named) is profile.models.get(found.model, profile)
        return is_kept and (who.is_proven or vicinity.is_near(found.last_ip, ip))

    def seen(self, found: Found | None, who: PhoneIdentity, ip: str, now: float) -> tuple[str, str]:
        """What a phone refused with `REASON` says it is, for the fetch log; whoever asks there next is held back
        too, for as long as the log may take to write it.
        """
        if found is not None and found.phone_id is not None:
            self._recent[found.phone_id] = (now + _SOON_S, ip)
            self._recent.move_to_end(found.phone_id)
            if len(self._recent) > _MAX_RECENT:
                self._recent.popitem(last=False)
        return seen_of(who)


def _is_its_own(found: Found, who: PhoneIdentity, ip: str) -> bool:
    if who.is_proven or vicinity.is_near(found.last_ip, ip):
        return True
    return not found.last_ip and who.named[1] is not None


# --- Operations -------------------------------------------------------------------------------------------------------


def hold(session: AsyncSession, actor: Actor, phone: Phone, seen: Seen) -> None:
    """Hold the phone back, once: machine columns and an entry in the audit log."""
    if phone.status == PhoneStatus.QUARANTINED:
        return
    phone.status = PhoneStatus.QUARANTINED
    phone.seen_vendor, phone.seen_model = seen.vendor[:30], seen.model[:40]
    details = {"kept": f"{phone.vendor} {phone.model}", "seen": f"{seen.vendor} {seen.model}"}
    record(session, actor, Event.PHONE_QUARANTINE, phone, details=details)


async def is_at_home(session: AsyncSession, phone: Phone, ip: str, now: dt.datetime, lately: Iterable[str]) -> bool:
    """Whether the phone was served near `ip` alone in the last days: who fetches its file by a stolen URL from
    elsewhere makes no home for it. `lately`: addresses it was served at that the fetch log does not hold yet.
    """
    query = select(ProvisioningEvent.ip).where(
        ProvisioningEvent.phone_id == phone.id,
        ProvisioningEvent.kind.in_(("fetch", "not_modified")),
        ProvisioningEvent.at >= now - _AT_HOME_FOR,
        ProvisioningEvent.ip != ip,
    )
    rows = await session.scalars(query.order_by(ProvisioningEvent.id).limit(_LOOKED_AT))  # who came first is at home
    return all(vicinity.is_near(address or "", ip) for address in {*rows, *lately})


def settle(phone: Phone) -> None:
    """Let a phone go whose kept model has become the one it says it is."""
    if phone.status == PhoneStatus.QUARANTINED and (phone.vendor, phone.model) == (phone.seen_vendor, phone.seen_model):
        _let_go(phone)


async def release_phone(session: AsyncSession, actor: Actor, phone: Phone, *, model: str | None) -> None:
    """Let a phone have its files again.

    Args:
        model: The one it is from now on, in any usual spelling, of the vendor it was seen as; None: the kept one is
            right, and a device that says otherwise is held back again.

    Raises:
        Conflict: it is not held back. Invalid: no such model, or it holds fewer lines than sit on the phone's keys.
    """
    if phone.status != PhoneStatus.QUARANTINED:
        raise Conflict("This phone is not quarantined: it is served its files.")
    if model is not None:
        vendor = phone.seen_vendor or phone.vendor
        phone.vendor, phone.model = vendor, await _accepted(session, phone, vendor, model)
    _let_go(phone)
    record(session, actor, Event.PHONE_RELEASE, phone)


def _let_go(phone: Phone) -> None:
    phone.status = PhoneStatus.NEVER_BOOTED if phone.fetched_revision is None else PhoneStatus.STALE
    phone.seen_vendor = phone.seen_model = None


async def _accepted(session: AsyncSession, phone: Phone, vendor: str, spelling: str) -> str:
    profile = vendors.known().profiles[vendor]
    model = profile.model(spelling)
    if model is None:
        known = ", ".join(profile.models)
        detail = f"Expected a {profile.title} model ({known}) or null, got {spelling[:40]!r}."
        raise Invalid("The phone cannot be released like this.", fields=(FieldFault("model", detail),))
    lines = len(await store.keys_of(session, phone.id))
    if lines > model.lines:
        detail = f"A {model.name} holds {model.lines} lines, and {lines} sit on the phone's keys. Take some away first."
        raise Invalid("The phone cannot be released like this.", fields=(FieldFault("model", detail),))
    return model.name
