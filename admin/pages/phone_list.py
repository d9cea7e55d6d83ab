"""Phones: the list with its filters, and one change to many of them, shown before it is made."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from multidict import MultiDict

from admin.api.phones_many import Meant, PhoneBulk, carried_out, plan_of, planned
from admin.context import ACCOUNT, ACTOR, SESSION
from admin.field_words import PLACEMENTS
from admin.page_addresses import leave_out, understood
from admin.pages.form import FORM, refusal_of, see_other, texts_sent, ticked, typed
from admin.phone_filters import FILTERS, Listing, listing_asked, place_asked, place_text
from admin.place_field import MOST_CHOICES, place_called, place_typed, places
from admin.render import render, zone_of
from admin.routes import Route
from admin.setting_words import words_of
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.audit.record import record
from engine.e911 import store_names
from engine.errors import EngineError, FieldFault, Invalid, Stale
from engine.models import PhoneStatus, Placement
from engine.provisioning import bulk, store_phones, vendors
from engine.provisioning.alarms import COUNT_CAP, OF_PHONES, summed
from engine.provisioning.bulk import Action
from engine.provisioning.phone_list import Place
from engine.provisioning.setting_cells import setting_in
from engine.provisioning.settings import CHECKS
from engine.provisioning.store_alarms import alarm_counts

PAGE = 50
LOOK = 1_000  # phones that a page looks for, so as to count them on the way
SORT = "label"
_TYPED = ("which", "action", "to_location", "to_location_id", "to_placement", "setting", "value")
_WORDS = {
    Action.RESYNC: "ask to fetch their files again", Action.LOCATION: "put at a location",
    Action.SETTING: "give a setting", Action.DELETE: "delete", Action.PLACEMENT: "say what kind of device they are",
}  # fmt: skip


async def get_phones(request: web.Request) -> web.Response:
    return await _list_page(request, None)


async def _list_page(request: web.Request, error: EngineError | None) -> web.Response:
    """The list; refused, with the filters, the ticks and all that was typed into the form for many."""
    session, account = request[SESSION], request[ACCOUNT]
    query = MultiDict(request.query if error is None else await texts_sent(request, (*FILTERS, "after")))
    choices = await store_names.location_choices(session, account.id, limit=MOST_CHOICES + 1)
    await _name_to_id(request, query)
    listing = understood(request, lambda told: listing_asked(told, zone_of(account), sort=SORT), query)
    after = _place(request, query.get("after", ""), listing)
    page = await store_phones.list_phones(
        session, account.id, listing.filters, order=listing.order, is_descending=listing.is_descending,
        after=after, limit=PAGE, look=LOOK,
    )  # fmt: skip
    matching = page.matching
    if matching is None:
        matching = await store_phones.count(session, account.id, listing.filters)
    ids = [phone.id for phone in page.rows]
    where = [phone.location_id for phone in page.rows if phone.location_id]
    return render(
        request, "phones.html.j2", error=error, detail=refusal_of(error),
        kept=await texts_sent(request, _TYPED) if error else {},
        ticked=await ticked(request, "ids") if error else frozenset(),
        near=(await places(request)).near.get("to_location", ()) if error else (),
        after=query.get("after", ""), phones=page.rows, listing=listing, matching=matching, cap=COUNT_CAP,
        is_later=after is not None, first=_address(listing),
        following="" if page.next_place is None else _address(listing, place_text(page.next_place, listing)),
        lines=await store_phones.extensions_on(session, ids),
        location_names=await store_names.location_names(session, account.id, where),
        choices=choices if len(choices) <= MOST_CHOICES else [],
        has_many_locations=len(choices) > MOST_CHOICES,
        models=_models(await store_phones.vendors_and_models(session, account.id)),
        statuses=[status.value for status in PhoneStatus], alarm_kinds=[kind.value for kind in OF_PHONES],
        alarms=[alarm for alarm in summed(await alarm_counts(session, account.id)) if alarm.kind in OF_PHONES],
        standings=_standings(await store_phones.count_by_status(session, account.id)),
        settings=list(CHECKS), placements=PLACEMENTS, sorted_by=lambda name: _sorted_by(listing, name),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Standing:
    """How many phones have a status, in words, for a badge that shows them."""

    status: PhoneStatus
    text: str
    kind: str
    picture: str


_STANDINGS = (  # quarantined and failed ones are alarms, and counted there
    (PhoneStatus.CURRENT, "is up to date", "are up to date", "ok", "circle-check"),
    (PhoneStatus.STALE, "has an older configuration", "have an older configuration", "", "clock"),
    (PhoneStatus.NEVER_BOOTED, "never booted", "never booted", "", "circle"),
)


def _standings(counts: Mapping[PhoneStatus, int]) -> list[_Standing]:
    found = []
    for status, one, many, kind, picture in _STANDINGS:
        if number := counts.get(status, 0):
            told = f"More than {COUNT_CAP:,}" if number > COUNT_CAP else f"{number:,}"
            found.append(_Standing(status, f"{told} {one if number == 1 else many}", kind, picture))
    return found


def _place(request: web.Request, text: str, listing: Listing) -> Place | None:
    """Where the page begins; at the list's beginning when the address names no place of it, which the page says."""
    try:
        return place_asked(text or None, listing)
    except Invalid:
        leave_out(request, "after", "Expected a link of this page in this order, unchanged.")
        return None


async def _name_to_id(request: web.Request, query: MultiDict[str]) -> None:
    """Take the page's own spellings: a location by its name where there are too many for a menu, vendor and model in
    one menu.
    """
    vendor, _, model = query.pop("kind", "").partition("/")
    query.extend({name: text for name, text in (("vendor", vendor), ("model", model)) if text and name not in query})
    name = query.pop("location", "").strip()
    if not name:
        return
    called = await place_called(request, name)
    if called.location_id is None:
        leave_out(request, "location", called.detail)
        return
    query["location_id"] = called.location_id


def _address(listing: Listing, after: str = "") -> str:
    pairs = [*listing.pairs, *([("after", after)] if after else [])]
    return f"/phones?{urlencode(pairs)}" if pairs else "/phones"


def _sorted_by(listing: Listing, name: str) -> tuple[str, str]:
    """The address that sorts by that column, and how it is sorted now (for `aria-sort`)."""
    is_now = listing.order.value == name
    wanted = f"-{name}" if is_now and not listing.is_descending else name
    pairs = [*listing.filter_pairs, *([("sort", wanted)] if wanted != SORT else [])]
    now = ("descending" if listing.is_descending else "ascending") if is_now else "none"
    return (f"/phones?{urlencode(pairs)}" if pairs else "/phones"), now


def _models(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """For a menu: each vendor's title with `vendor` itself and each `vendor/model` the account has."""
    profiles = vendors.known().profiles
    found: dict[str, list[tuple[str, str]]] = {}
    for vendor, model in pairs:
        title = profiles[vendor].title if vendor in profiles else vendor
        found.setdefault(title, [(vendor, f"Any {title}")]).append((f"{vendor}/{model}", model))
    return list(found.items())


# --- many at a time ---------------------------------------------------------------------------------------------------


async def plan_phones_bulk(request: web.Request) -> Meant:
    """Before the transaction, of what is confirmed: as `plan_phones_bulk` of the API. Where the form has faults, the
    handler says which.
    """
    if await typed(request, "confirmed") != "yes" or await typed(request, "to_location"):
        return Meant()
    try:
        listing, ids = await _meant(request)
        wished = await _wished(request)
    except EngineError:
        return Meant()
    return await planned(request, wished.model_copy(update={"ids": ids}), listing.filters)


async def _meant(request: web.Request) -> tuple[Listing, list[str] | None]:
    """The filters of the list and the phones that are ticked; None: all that match."""
    post = await request.post()
    told = MultiDict((name, str(text)) for name, text in post.items() if name in FILTERS and name != "sort")
    listing = listing_asked(told, zone_of(request[ACCOUNT]), sort=SORT)
    return listing, None if post.get("which") == "all" else [str(text) for text in post.getall("ids", [])]


async def post_phones_bulk(request: web.Request) -> web.Response:
    """First shows what would be done to how many; done when that page is confirmed."""
    request[FORM] = _list_page
    listing, ids = await _meant(request)
    is_all = ids is None
    if ids == []:
        detail = "No phone is chosen. Tick some on the list, or choose all that match."
        raise Invalid(detail, fields=(FieldFault("ids", detail),))
    phone_ids = await bulk.chosen(
        request[SESSION], request[ACCOUNT].id, ids=ids, filters=listing.filters, plan=plan_of(request)
    )
    wished = await _wished(request)
    if await typed(request, "confirmed") != "yes":
        return await _confirm_page(request, listing, phone_ids, wished, is_all=is_all)
    if await typed(request, "expected") != str(len(phone_ids)):
        raise Stale(f"{len(phone_ids):,} phones are meant now, another number than was shown. Look again.")
    await carried_out(request, phone_ids, wished)
    return see_other(_address(listing), f"phones-{wished.action.value}")


async def _wished(request: web.Request) -> PhoneBulk:
    """The change as the form tells it. Raises Invalid, beside the field."""
    text = await typed(request, "action")
    if text not in {action.value for action in Action}:
        raise Invalid("What shall be done?", fields=(FieldFault("action", "Choose what to do with the phones."),))
    setting, value = await typed(request, "setting"), await typed(request, "value")
    parsed: Any = None
    if text == Action.SETTING.value:
        if setting not in CHECKS:
            raise Invalid("Which setting?", fields=(FieldFault("setting", "Choose a setting."),))
        parsed, faults = setting_in(setting, value) if value else (None, ())
        if faults:
            raise Invalid(f"{words_of(setting).label}: {faults[0].detail}.", fields=faults)
    location_id = await typed(request, "to_location_id") or await place_typed(request, "to_location")
    return PhoneBulk.model_construct(
        action=Action(text), location_id=location_id or None, setting=setting or None, value=parsed, own=bool(value),
        placement=_placement(await typed(request, "to_placement")),
    )  # fmt: skip


def _placement(text: str) -> Placement | None:
    if not text:
        return None
    if text not in set(Placement):
        raise Invalid("Which kind?", fields=(FieldFault("to_placement", f"Expected one of {', '.join(Placement)}."),))
    return Placement(text)


async def _confirm_page(
    request: web.Request, listing: Listing, phone_ids: Sequence[str], wished: PhoneBulk, *, is_all: bool
) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    record(session, request[ACTOR], Event.PHONE_LIST)  # nothing is changed yet
    names = await store_names.location_names(session, account.id, [wished.location_id] if wished.location_id else [])
    fields = [("which", "all" if is_all else "these"), ("action", wished.action.value)]
    fields += [(name, await typed(request, name)) for name in ("setting", "value")]
    fields += [("to_location_id", wished.location_id or ""), ("to_placement", wished.placement or "")]
    fields += listing.filter_pairs
    fields += [] if is_all else [("ids", phone_id) for phone_id in phone_ids]
    return render(
        request, "phones_bulk.html.j2",
        phones=await store_phones.some_phones(session, phone_ids, limit=20), number=len(phone_ids),
        wished=wished, verb=_WORDS[wished.action], fields=fields, back=_address(listing),
        location=names.get(wished.location_id or "", ""), value=json.dumps(wished.value, ensure_ascii=False),
        kind=dict(PLACEMENTS).get(wished.placement or ""),
    )  # fmt: skip


ROUTES = (
    Route("GET", "/phones", get_phones, Scope.PHONES_READ, Event.PHONE_LIST),
    Route(
        "POST", "/phones/bulk", post_phones_bulk, Scope.PHONES_WRITE, Event.PHONE_CHANGE_MANY, prepare=plan_phones_bulk
    ),
)
