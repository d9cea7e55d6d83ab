"""The filters of the audit log's page as its address says them: read, put back, and told in words."""

import datetime as dt
import ipaddress
import zoneinfo
from collections.abc import Iterable
from dataclasses import dataclass, replace

from multidict import MultiMapping
from sqlalchemy.ext.asyncio import AsyncSession

from admin.audit_ranges import RANGES, Span, end_of, first_instant, last_instant, span_of, start_of
from admin.times_asked import STORABLE_YEARS, day_asked
from engine.accounts import store_audit_readers
from engine.audit.events import WRITES, Category, Event
from engine.audit.store import Filters
from engine.db import Base, utc_now
from engine.errors import FieldFault, Invalid
from engine.models import Audited

PAGE = 25
MAX_PAGE = 60  # rows of names at their longest stay under 150 kB together with the event picker
MAX_TEXT = 200  # of a filter that is typed; the API takes as much
OUTCOMES = ("success", "failure", "denied")
ACTIONS = ("create", "update", "delete", "read")
CATEGORIES = tuple(category.value for category in Category)
HIDDEN = ("hidden",)  # what `reads` may say
GROUPINGS = {"account": "Account", "user": "User", "ip": "IP address", "description": "Description"}
FILTERS = (
    "start", "end", "range", "from", "to", "event", "resource", "actor", "outcome", "ip", "keyword", "category",
    "action", "user", "type", "target", "group", "reads",
)  # fmt: skip
_PLAIN = {
    "pbx": "PBX", "openapi": "API description", "settings": "Phone settings", "template": "Template",
    "rollout": "Roll-out", "auth_log": "Authentication log", "audit": "Audit entry", "emergency_call": "Emergency call",
    "number": "Callback number", "asset": "File", "login_page": "Sign-in page", "setup_page": "Set-up page",
    "route": "Unknown address", "trunk": "Carrier trunk",
    "phone_settings": "Settings of a phone", "phone_file_key": "File key", "anomaly": "Hint",
}  # fmt: skip


_CHANGES = frozenset(event.value for event in WRITES)


def _types() -> tuple[str, ...]:
    """Every type of resource that an entry may name: what events speak of, and what audited rows are called."""
    of_rows = {row.class_.resource_type for row in Base.registry.mappers if issubclass(row.class_, Audited)}
    return tuple(sorted({event.value.partition(".")[0] for event in Event} | of_rows | {"audit"}))


TYPES = _types()


def type_words(name: str) -> str:
    """A type of resource in plain words: `api_key` is an API key, `pbx` a PBX."""
    plain = _PLAIN.get(name) or name.replace("api_key", "API key").replace("pbx", "PBX").replace("_", " ")
    return plain[:1].upper() + plain[1:]


TYPE_CHOICES = tuple(sorted(((name, type_words(name)) for name in TYPES), key=lambda pair: pair[1].lower()))


@dataclass(frozen=True, slots=True)
class Asked:
    """What the page's address asks for."""

    filters: Filters
    before: int | None
    limit: int
    group: str
    pairs: tuple[tuple[str, str], ...]  # the filters as they stand in the address, empty ones left out
    user: str = ""  # whose acts, with those of their API keys


async def with_user(session: AsyncSession, account_id: str, filters: Filters, user_id: str) -> Filters:
    """The filters narrowed to what a user did, the acts of all API keys that go back to them included; and who is
    called what the filter on actors says.
    """
    if filters.actor:
        filters = replace(filters, named=await store_audit_readers.called(session, account_id, filters.actor))
    if not user_id:
        return filters
    return replace(filters, actors=await store_audit_readers.acting_for(session, account_id, user_id))


def parse_asked(
    query: MultiMapping[str],
    zone: zoneinfo.ZoneInfo,
    now: dt.datetime | None = None,
    country: str = "",
    language: str = "",
) -> Asked:
    """Read the filters from the page's address. Days are of that zone and inclusive, whatever their length in hours.

    `reads=hidden` leaves pages and lists that were looked at out; events that are picked by name show either way.

    Raises:
        Invalid: every filter that cannot be read.
    """
    faults: list[FieldFault] = []
    first = day_asked(query, "start", faults)
    last = day_asked(query, "end", faults)
    events = frozenset(filter(None, query.getall("event", [])))
    faults += [FieldFault("event", f"There is no event {name!r}.") for name in sorted(events - set(Event))]
    chosen = {
        name: _one_of(query, name, known, faults)
        for name, known in (
            ("range", RANGES), ("category", CATEGORIES), ("action", ACTIONS), ("group", GROUPINGS), ("type", TYPES),
            ("reads", HIDDEN), ("outcome", OUTCOMES),
        )
    }  # fmt: skip
    faults += _text_faults(query)
    exact = Span(_clock(query, "from", zone, faults), _clock(query, "to", zone, faults))
    if first and last and last < first:
        faults.append(FieldFault("end", "Expected a day that is not before the first."))
    if _is_backward(query, exact):
        faults.append(FieldFault("to", "Expected a time that is not before the first."))
    before = _number(query, "before", faults)
    limit = _number(query, "limit", faults)
    if faults:
        raise Invalid(
            "The audit log cannot be filtered like this. Clear the filters and choose again.", fields=tuple(faults)
        )
    days = Span(None if first is None else start_of(first, zone), None if last is None else end_of(last, zone))
    span = days.within(exact)
    if chosen["range"]:
        span = span.within(span_of(chosen["range"], now or utc_now(), zone, country, language))
    filters = Filters(
        since=span.since,
        until=span.until,
        events=events or (_CHANGES if chosen["reads"] else events),
        resource=query.get("resource", "").strip(),
        actor=query.get("actor", "").strip(),
        outcome=chosen["outcome"],
        ip=query.get("ip", "").strip(),
        keyword=query.get("keyword", "").strip(),
        category=chosen["category"],
        verb=chosen["action"],
        target=query.get("target", "").strip(),
        target_type=chosen["type"],
    )
    pairs = tuple((name, text.strip()) for name in FILTERS for text in query.getall(name, []) if text.strip())
    size = max(1, min(limit or PAGE, MAX_PAGE))
    return Asked(filters, before, size, chosen["group"], pairs, query.get("user", "").strip())


def _text_faults(query: MultiMapping[str]) -> list[FieldFault]:
    faults = [
        FieldFault(name, f"Expected at most {MAX_TEXT} printable characters.")
        for name in ("resource", "actor", "ip", "keyword", "target", "user")
        if len(text := query.get(name, "")) > MAX_TEXT or not text.isprintable()
    ]
    return faults + who_faults(query.get("ip", "").strip(), query.get("user", "").strip())


def who_faults(ip: str, user: str) -> list[FieldFault]:
    """Faults of the filters that could find nothing at all: an address or a network that is none, a user by e-mail."""
    faults = []
    octets = [part for part in ip.split(".") if part.isdigit()] if "/" not in ip else []
    try:
        if "/" in ip:
            ipaddress.ip_network(ip, strict=False)
        is_readable = all(int(octet) <= 255 for octet in octets)
    except ValueError:
        is_readable = False
    if not is_readable:
        faults.append(FieldFault("ip", "Expected an address, a part of one, or a network such as 10.1.0.0/16."))
    if "@" in user:
        faults.append(FieldFault("user", "Expected a user's identifier, not an e-mail address; actor finds a name."))
    return faults


def _one_of(query: MultiMapping[str], name: str, known: Iterable[str], faults: list[FieldFault]) -> str:
    text = query.get(name, "").strip()
    if text and text not in known:
        faults.append(FieldFault(name, f"Expected one of {', '.join(known)}, got {text!r}."))
        return ""
    return text


def _is_backward(query: MultiMapping[str], span: Span) -> bool:
    """Whether `to` is before `from` on the clock, and in time: in an hour that is shown twice it may not be."""
    if span.since is None or span.until is None or span.since <= span.until:
        return False
    first, last = (dt.datetime.fromisoformat(query[name].strip()) for name in ("from", "to"))
    return last < first


def _clock(
    query: MultiMapping[str], name: str, zone: zoneinfo.ZoneInfo, faults: list[FieldFault]
) -> dt.datetime | None:
    """A date and time as clocks of the zone show it, inclusive to its last millisecond at the end."""
    text = query.get(name, "").strip()
    if not text:
        return None
    try:
        local = dt.datetime.fromisoformat(text)
    except ValueError:
        local = None
    if local is None or local.tzinfo is not None or local.year not in STORABLE_YEARS:
        faults.append(FieldFault(name, f"Expected a date and time such as 2026-11-21T14:30, got {text!r}."))
        return None
    return first_instant(local, zone) if name == "from" else last_instant(local, zone, to_the_second=len(text) > 16)


def _number(query: MultiMapping[str], name: str, faults: list[FieldFault]) -> int | None:
    text = query.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        faults.append(FieldFault(name, f"Expected a whole number, got {text!r}."))
        return None
    return int(text)
