"""The audit log: the list with a filter under each column, and one entry with its before and after."""

import datetime as dt
import json
import zoneinfo
from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web
from multidict import MultiMapping

from admin.api_audit import shown
from admin.context import ACCOUNT, SESSION
from admin.render import render, zone_of
from admin.routes import Route
from engine.accounts.scopes import Scope
from engine.audit import store
from engine.audit.events import FACTS, Category, Event
from engine.audit.store import Filters
from engine.errors import FieldFault, Invalid, NotFound
from engine.models import AuditEntry

PAGE = 25  # each row carries its whole entry for the copy button: more would make a heavy page
MAX_PAGE = 100
OUTCOMES = frozenset({"success", "failure", "denied"})
FILTERS = ("start", "end", "event", "resource", "actor", "outcome", "ip", "keyword")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the page's address asks for."""

    filters: Filters
    before: int | None
    limit: int
    pairs: tuple[tuple[str, str], ...]  # the filters as they stand in the address, empty ones left out


async def get_audit(request: web.Request) -> web.Response:
    asked = parse_asked(request.query, zone_of(request[ACCOUNT]))
    page = await store.list_entries(
        request[SESSION], request[ACCOUNT].id, asked.filters, limit=asked.limit, before=asked.before
    )
    older = ""
    if page.next_before is not None:
        older = f"/audit?{urlencode([*asked.pairs, ('before', str(page.next_before))])}"
    return render(
        request,
        "audit.html.j2",
        entries=page.rows,
        registry=REGISTRY,
        chosen=asked.filters.events,
        is_filtered=bool(asked.pairs),
        is_older=asked.before is not None,
        older=older,
        newest=f"/audit?{urlencode(asked.pairs)}" if asked.pairs else "/audit",
        limit=asked.limit,
        json_of=json_of,
    )


async def get_audit_entry(request: web.Request) -> web.Response:
    entry = await store.entry_by_id(request[SESSION], request[ACCOUNT].id, request.match_info["id"])
    if entry is None:
        raise NotFound("This account's audit log has no such entry.")
    return render(request, "audit_entry.html.j2", entry=entry, body=json.loads(entry.entry), json_text=json_of(entry))


def parse_asked(query: MultiMapping[str], zone: zoneinfo.ZoneInfo) -> Asked:
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
    before = _number(query, "before", faults)
    limit = _number(query, "limit", faults)
    if faults:
        raise Invalid(
            "The audit log cannot be filtered like this. Clear the filters and choose again.", fields=tuple(faults)
        )
    filters = Filters(
        since=None if first is None else dt.datetime.combine(first, dt.time.min, zone).astimezone(dt.UTC),
        until=None if last is None else _end_of(last, zone),
        events=events,
        resource=query.get("resource", "").strip(),
        actor=query.get("actor", "").strip(),
        outcome=outcome,
        ip=query.get("ip", "").strip(),
        keyword=query.get("keyword", "").strip(),
    )
    pairs = tuple((name, text.strip()) for name in FILTERS for text in query.getall(name, []) if text.strip())
    return Asked(filters, before, max(1, min(limit or PAGE, MAX_PAGE)), pairs)


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


REGISTRY = _registry()
ROUTES = (
    Route("GET", "/audit", get_audit, Scope.AUDIT_READ, Event.AUDIT_LOG_LIST),
    Route("GET", "/audit/{id}", get_audit_entry, Scope.AUDIT_READ, Event.AUDIT_LOG_READ),
)
