"""The audit log: the list with a filter under each column, and one entry with its before and after."""

import datetime as dt
import json
import zoneinfo
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from multidict import MultiMapping

from admin.api_audit import shown
from admin.audit_export import exported
from admin.audit_ranges import RANGES, Span, first_instant, last_instant, span_of, start_of
from admin.context import ACCOUNT, SESSION
from admin.render import render, zone_of
from admin.routes import Route
from engine.accounts.scopes import Scope
from engine.audit import store
from engine.audit.events import FACTS, Category, Event
from engine.audit.store import Filters
from engine.db import utc_now
from engine.errors import FieldFault, Invalid, NotFound
from engine.models import AuditEntry

PAGE = 25  # each row carries its whole entry for the copy button: more would make a heavy page
MAX_PAGE = 100
RELATED = 10
OUTCOMES = frozenset({"success", "failure", "denied"})
ACTIONS = ("create", "read", "update", "delete")
GROUPINGS = {"account": "Account", "user": "User", "ip": "IP address", "description": "Description"}
FILTERS = (
    "start", "end", "range", "from", "to", "event", "resource", "actor", "outcome", "ip", "keyword", "category",
    "action", "group",
)  # fmt: skip
_GROUP_FILTER = {"user": "actor", "ip": "ip", "description": "event"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the page's address asks for."""

    filters: Filters
    before: int | None
    limit: int
    group: str
    pairs: tuple[tuple[str, str], ...]  # the filters as they stand in the address, empty ones left out


async def get_audit(request: web.Request) -> web.Response:
    account = request[ACCOUNT]
    asked = parse_asked(request.query, zone_of(account), utc_now(), account.country)
    page, has_more = store.Page([], None), False
    groups: list[store.Group] = []
    if asked.group:
        groups, has_more = await store.grouped(request[SESSION], account.id, asked.filters, asked.group)
    else:
        page = await store.list_entries(
            request[SESSION], account.id, asked.filters, limit=asked.limit, before=asked.before
        )
    older = ""
    if page.next_before is not None:
        older = f"/audit?{urlencode([*asked.pairs, ('before', str(page.next_before))])}"
    pairs = [pair for pair in asked.pairs if pair[0] != "group"]
    return render(
        request,
        "audit.html.j2",
        entries=page.rows,
        registry=REGISTRY,
        chosen=asked.filters.events,
        is_filtered=bool(asked.pairs),
        is_older=asked.before is not None,
        is_short=page.is_short,
        older=older,
        newest=f"/audit?{urlencode(asked.pairs)}" if asked.pairs else "/audit",
        limit=asked.limit,
        json_of=json_of,
        ranges=RANGES,
        categories=[category.value for category in Category],
        actions=ACTIONS,
        groupings=GROUPINGS,
        grouping=asked.group,
        groups=[(group, _group_address(asked, group)) for group in groups],
        has_more_groups=has_more,
        exports={kind: f"/audit/export?{urlencode([*pairs, ('as', kind)])}" for kind in ("csv", "jsonl")},
    )


def _group_address(asked: Asked, group: store.Group) -> str:
    """The list of that group's entries: the filters as they are, and the group's value in its own."""
    name = _GROUP_FILTER.get(asked.group)
    pairs = [pair for pair in asked.pairs if pair[0] not in {"group", name}]
    return f"/audit?{urlencode([*pairs, (name, group.value)] if name else pairs)}"


async def get_export(request: web.Request) -> web.Response:
    account = request[ACCOUNT]
    asked = parse_asked(request.query, zone_of(account), utc_now(), account.country)
    kind = request.query.get("as", "csv")
    if kind not in {"csv", "jsonl"}:
        raise Invalid("There is no such kind of export.", fields=(FieldFault("as", "Expected csv or jsonl."),))
    return await exported(request, asked.filters, kind)


async def get_audit_entry(request: web.Request) -> web.Response:
    entry = await store.entry_by_id(request[SESSION], request[ACCOUNT].id, request.match_info["id"])
    if entry is None:
        raise NotFound("This account's audit log has no such entry.")
    body = json.loads(entry.entry)
    return render(
        request, "audit_entry.html.j2", entry=entry, body=body, json_text=json_of(entry),
        related=await _related(request, entry, body),
    )  # fmt: skip


async def _related(request: web.Request, entry: AuditEntry, body: dict[str, Any]) -> list[AuditEntry]:
    """What else came of the same request or the same bulk operation."""
    found: dict[str, AuditEntry] = {}
    bulk = body["bulk_id"] or (body["resource"]["id"] if body["resource"]["type"] == "import" else None)
    for word in (body["request"]["id"], bulk):
        if word:
            page = await store.list_entries(request[SESSION], entry.chain, Filters(keyword=word), limit=RELATED + 1)
            found |= {row.id: row for row in page.rows if row.id != entry.id}
    return list(found.values())[:RELATED]


def parse_asked(
    query: MultiMapping[str], zone: zoneinfo.ZoneInfo, now: dt.datetime | None = None, country: str = ""
) -> Asked:
    """Read the filters from the page's address. Days are of that zone and inclusive, whatever their length in hours.

    Raises:
        Invalid: every filter that cannot be read.
    """
    faults: list[FieldFault] = []
    first = _day(query, "start", faults)
    last = _day(query, "end", faults)
    events = frozenset(query.getall("event", []))
    known = {event.value for event in Event}
    faults += [FieldFault("event", f"There is no event {name!r}.") for name in sorted(events - known)]
    outcome = query.get("outcome", "")
    if outcome and outcome not in OUTCOMES:
        faults.append(FieldFault("outcome", f"Expected success, failure or denied, got {outcome!r}."))
    chosen = {
        name: _one_of(query, name, known, faults)
        for name, known in (
            ("range", RANGES), ("category", _CATEGORIES), ("action", ACTIONS), ("group", GROUPINGS),
        )
    }  # fmt: skip
    exact = Span(_clock(query, "from", zone, faults), _clock(query, "to", zone, faults))
    before = _number(query, "before", faults)
    limit = _number(query, "limit", faults)
    if faults:
        raise Invalid(
            "The audit log cannot be filtered like this. Clear the filters and choose again.", fields=tuple(faults)
        )
    days = Span(None if first is None else start_of(first, zone), None if last is None else _end_of(last, zone))
    span = days.within(exact)
    if chosen["range"]:
        span = span.within(span_of(chosen["range"], now or utc_now(), zone, country))
    filters = Filters(
        since=span.since,
        until=span.until,
        events=events,
        resource=query.get("resource", "").strip(),
        actor=query.get("actor", "").strip(),
        outcome=outcome,
        ip=query.get("ip", "").strip(),
        keyword=query.get("keyword", "").strip(),
        category=chosen["category"],
        verb=chosen["action"],
    )
    pairs = tuple((name, text.strip()) for name in FILTERS for text in query.getall(name, []) if text.strip())
    return Asked(filters, before, max(1, min(limit or PAGE, MAX_PAGE)), chosen["group"], pairs)


def _day(query: MultiMapping[str], name: str, faults: list[FieldFault]) -> dt.date | None:
    text = query.get(name, "").strip()
    if not text:
        return None
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or not 1971 <= day.year <= 9000:  # so that no zone moves it out of what can be stored
        faults.append(FieldFault(name, f"Expected a day such as 2026-11-21, got {text!r}."))
        return None
    return day


def _one_of(query: MultiMapping[str], name: str, known: Iterable[str], faults: list[FieldFault]) -> str:
    text = query.get(name, "").strip()
    if text and text not in known:
        faults.append(FieldFault(name, f"Expected one of {', '.join(known)}, got {text!r}."))
        return ""
    return text


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
    if local is None or local.tzinfo is not None or not 1971 <= local.year <= 9000:
        faults.append(FieldFault(name, f"Expected a date and time such as 2026-11-21T14:30, got {text!r}."))
        return None
    return first_instant(local, zone) if name == "from" else last_instant(local, zone, to_the_second=len(text) > 16)


def _end_of(day: dt.date, zone: zoneinfo.ZoneInfo) -> dt.datetime:
    """The last millisecond of that day there: the next day's beginning less one, so that 23 and 25 hours are right."""
    following = dt.datetime.combine(day + dt.timedelta(days=1), dt.time.min, zone)
    return following.astimezone(dt.UTC) - dt.timedelta(milliseconds=1)


def _number(query: MultiMapping[str], name: str, faults: list[FieldFault]) -> int | None:
    text = query.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        faults.append(FieldFault(name, f"Expected a whole number, got {text!r}."))
        return None
    return int(text)


def json_of(entry: AuditEntry) -> str:
    """The full entry exactly as the API answers it, hash included, indented for people."""
    return json.dumps(shown(entry).model_dump(mode="json"), ensure_ascii=False, indent=2)


def _registry() -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Every event by category: its name, and whether it reads or writes."""
    return tuple(
        (
            category.value,
            tuple((event.value, FACTS[event].access.value) for event in Event if FACTS[event].category is category),
        )
        for category in Category
    )


_CATEGORIES = tuple(category.value for category in Category)
REGISTRY = _registry()
ROUTES = (
    Route("GET", "/audit", get_audit, Scope.AUDIT_READ, Event.AUDIT_LOG_LIST),
    Route("GET", "/audit/export", get_export, Scope.AUDIT_READ, Event.AUDIT_LOG_EXPORT),
    Route("GET", "/audit/{id}", get_audit_entry, Scope.AUDIT_READ, Event.AUDIT_LOG_READ),
)
