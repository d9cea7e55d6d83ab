"""The filters of the list of phones, as they stand in an address: the same for the page and the API."""

import datetime as dt
import json
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from multidict import MultiDict, MultiMapping

from admin.routes import Query
from engine.accounts.store import is_id
from engine.errors import FieldFault, Invalid
from engine.models import PhoneStatus
from engine.provisioning.alarms import OF_PHONES
from engine.provisioning.phone_list import NOWHERE, Filters, Order, Place

_STATUSES = [status.value for status in PhoneStatus]
_ALARMS = [kind.value for kind in OF_PHONES]
_SORTS = [sign + order.value for order in Order for sign in ("", "-")]
_TIME = "A time such as 2026-11-21T20:00:00Z, or a day of the account's time zone."
FILTER_QUERIES = (
    Query("q", {"type": "string"}, "Words, each in the label, MAC address, an extension or the last IP address."),
    Query("status", {"enum": _STATUSES}, "What became of its last fetch."),
    Query("vendor", {"type": "string"}, "The vendor's name, such as `yealink`."),
    Query("model", {"type": "string"}, "The model's name."),
    Query("location_id", {"type": "string"}, "A location's id, or `none` for phones that have none of their own."),
    Query("firmware", {"type": "string"}, "How the firmware's version begins."),
    Query("alarm", {"enum": _ALARMS}, "Phones that need a person, and why."),
    Query("seen_since", {"type": "string"}, f"Last fetch at that time or later. {_TIME}"),
    Query("seen_until", {"type": "string"}, f"Last fetch at that time or earlier. {_TIME}"),
    Query("sort", {"enum": _SORTS, "default": "made"}, "The order; with `-` before it, turned round."),
)
FILTERS = tuple(query.name for query in FILTER_QUERIES)


@dataclass(frozen=True, slots=True)
class Listing:
    """Which phones, in what order. `pairs`: what is told, as it stands in an address, empty ones left out."""

    filters: Filters
    order: Order
    is_descending: bool
    pairs: tuple[tuple[str, str], ...]

    @property
    def filter_pairs(self) -> tuple[tuple[str, str], ...]:
        """Without the order: what decides which phones are meant."""
        return tuple(pair for pair in self.pairs if pair[0] != "sort")


def listing_asked(query: MultiMapping[str], zone: zoneinfo.ZoneInfo, *, sort: str = "made") -> Listing:
    """Read filters and order; `sort` is the order when none is told. Days are of that zone, inclusive.

    Raises:
        Invalid: every filter that cannot be read.
    """
    told = {name: query.get(name, "").strip() for name in FILTERS}
    faults = [
        FieldFault(name, f"Expected one of {', '.join(known)}.")
        for name, known in (("status", _STATUSES), ("alarm", _ALARMS), ("sort", _SORTS))
        if told[name] and told[name] not in known
    ]
    faults += [
        FieldFault(name, "Expected at most 200 printable characters.")
        for name, text in told.items()
        if len(text) > 200 or not text.isprintable()
    ]
    if told["location_id"] not in {"", NOWHERE} and not is_id(told["location_id"]):
        faults.append(FieldFault("location_id", f"Expected the id of a location, or {NOWHERE}."))
    since = _instant("seen_since", told["seen_since"], zone, faults)
    until = _instant("seen_until", told["seen_until"], zone, faults, is_end=True)
    if faults:
        raise Invalid("The phones cannot be filtered like this.", fields=tuple(faults))
    plain = {name: told[name] for name in ("status", "vendor", "model", "location_id", "firmware", "alarm")}
    chosen = told["sort"] or sort
    pairs = tuple((name, text) for name, text in told.items() if text and (name, text) != ("sort", sort))
    filters = Filters(text=told["q"], seen_since=since, seen_until=until, **plain)
    return Listing(filters, Order(chosen.removeprefix("-")), chosen.startswith("-"), pairs)


def filters_of_body(values: Mapping[str, Any], zone: zoneinfo.ZoneInfo) -> Filters:
    """The filters of an API body, named as the list's own. Raises Invalid: bad or unknown ones."""
    unknown = sorted(set(values) - set(FILTERS) | ({"sort"} & set(values)))
    if unknown:
        known = ", ".join(name for name in FILTERS if name != "sort")
        faults = tuple(FieldFault(f"filters.{name[:60]}", f"No such filter. Known are {known}.") for name in unknown)
        raise Invalid("The phones cannot be filtered like this.", fields=faults)
    return listing_asked(MultiDict({name: str(value) for name, value in values.items()}), zone).filters


def _instant(
    name: str, text: str, zone: zoneinfo.ZoneInfo, faults: list[FieldFault], *, is_end: bool = False
) -> dt.datetime | None:
    if not text:
        return None
    try:
        if len(text) == 10:
            day = dt.date.fromisoformat(text) + dt.timedelta(days=int(is_end))
            at = dt.datetime.combine(day, dt.time.min, zone).astimezone(dt.UTC)
            return at - dt.timedelta(milliseconds=int(is_end))
        at = dt.datetime.fromisoformat(text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        faults.append(FieldFault(name, f"Expected a day such as 2026-11-21 or a time, got {text[:40]!r}."))
        return None


def place_text(place: Place, listing: Listing) -> str:
    """The place as a cursor holds it, with the order it is a place of."""
    return json.dumps([listing.order.value, listing.is_descending, place.key, place.phone_id], separators=(",", ":"))


def place_asked(text: str | None, listing: Listing) -> Place | None:
    """Read it back. Raises Invalid: it is none, or one of another order."""
    if text is None:
        return None
    try:
        order, is_descending, key, phone_id = json.loads(text)
        if (order, is_descending) == (listing.order.value, listing.is_descending) and is_id(phone_id):
            if order == Order.LAST_FETCH and key:
                dt.datetime.fromisoformat(key)
            return Place(str(key), phone_id)
    except (ValueError, TypeError, RecursionError):
        pass
    detail = "Expected the `next_cursor` of a page of this list in this order."
    raise Invalid("This page cannot be given.", fields=(FieldFault("cursor", detail),))
