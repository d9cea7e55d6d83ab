"""Which calls a list or an export is asked for, read from the address: by the API's exact names, by the page's form."""

import datetime as dt
import zoneinfo
from collections.abc import Mapping

from aiohttp import web

from admin.routes import Query
from admin.times_asked import day_asked, instant_asked
from engine.accounts.store import is_id
from engine.e911.store_calls import NO_LOCATION, OUTCOMES, CallFilters
from engine.errors import FieldFault, Invalid
from engine.models import CallKind

MAX_TEXT_CHARS = 100
KINDS = tuple(kind.value for kind in CallKind)
_TIME = {"type": "string", "format": "date-time"}
CALL_QUERIES = (
    Query("kind", {"enum": list(KINDS)}, "Only real calls, tests or drills."),
    Query("outcome", {"enum": list(OUTCOMES)}, "Only calls that ended so."),
    Query("location_id", {"type": "string"}, f"Only calls that carried this location; `{NO_LOCATION}`: none at all."),
    Query("caller", {"type": "string"}, "Part of the caller's name, extension or callback number."),
    Query("since", _TIME, "Sent then or later."),
    Query("until", _TIME, "Sent before."),
    Query("acknowledged", {"type": "boolean"}, "Whether somebody has acknowledged the call."),
)
CALL_FILTERS = tuple(query.name for query in CALL_QUERIES)


def api_filters(request: web.Request) -> CallFilters:
    """The API's filters.

    Raises:
        Invalid: every value that cannot be read.
    """
    query, faults = request.query, list[FieldFault]()
    since, until = (instant_asked(query, name, faults) for name in ("since", "until"))
    acknowledged = query.get("acknowledged")
    if acknowledged not in {None, "true", "false"}:
        faults.append(FieldFault("acknowledged", "Expected true or false."))
    found = CallFilters(
        kind=_one_of(query, "kind", KINDS, faults),
        outcome=_one_of(query, "outcome", OUTCOMES, faults),
        location=_location(query, "location_id", faults),
        caller=_caller(query, faults),
        since=since,
        until=until,
        acknowledged=None if acknowledged is None else acknowledged == "true",
    )
    if faults:
        raise Invalid("Some filters cannot be read.", fields=tuple(faults))
    return found


def page_filters(
    query: Mapping[str, str], zone: zoneinfo.ZoneInfo
) -> tuple[CallFilters, dict[str, str], list[FieldFault]]:
    """The page's form: the filters, what was typed, and what of it cannot be read (left out of the filters).

    Days are those of the account's zone, both ends counted.
    """
    typed = {name: query.get(name, "").strip() for name in ("kind", "outcome", "location", "caller", "from", "to")}
    given = {name: text for name, text in typed.items() if text}
    faults: list[FieldFault] = []
    first, last = (day_asked(given, name, faults) for name in ("from", "to"))
    if first and last and first > last:
        faults.append(FieldFault("to", "Expected a day that is not before the first."))
        first = last = None
    after = last + dt.timedelta(days=1) if last else None
    filters = CallFilters(
        kind=_one_of(given, "kind", KINDS, faults),
        outcome=_one_of(given, "outcome", OUTCOMES, faults),
        location=_location(given, "location", faults),
        caller=_caller(given, faults),
        since=_midnight(first, zone),
        until=_midnight(after, zone),
    )
    return filters, typed, faults


def _one_of(query: Mapping[str, str], name: str, known: tuple[str, ...], faults: list[FieldFault]) -> str:
    value = query.get(name)
    if value is None or value in known:
        return value or ""
    faults.append(FieldFault(name, f"Expected one of {', '.join(known)}."))
    return ""


def _location(query: Mapping[str, str], name: str, faults: list[FieldFault]) -> str:
    value = query.get(name, "")
    if value and value != NO_LOCATION and not is_id(value):
        faults.append(FieldFault(name, f"Expected a location's id, or {NO_LOCATION}."))
        return ""
    return value


def _caller(query: Mapping[str, str], faults: list[FieldFault]) -> str:
    value = query.get("caller", "").strip()
    if len(value) > MAX_TEXT_CHARS or not value.isprintable():
        faults.append(FieldFault("caller", f"Expected at most {MAX_TEXT_CHARS} characters of text."))
        return ""
    return value


def _midnight(day: dt.date | None, zone: zoneinfo.ZoneInfo) -> dt.datetime | None:
    if day is None:
        return None
    try:
        return dt.datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(dt.UTC)
    except (OverflowError, ValueError):  # the first and last day there is
        return None
