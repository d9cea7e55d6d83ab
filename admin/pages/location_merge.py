"""Duplicates: pairs of locations that may be one place, and the page that merges two, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, SESSION
from admin.field_words import ELEMENTS
from admin.pages.form import FORM, Form, refuse_stale, see_other, sentence_of, typed
from admin.pages.location_list import spelled
from admin.render import render
from admin.routes import Route
from admin.twin_search import FoundTwins, find_twins
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.e911 import store, store_merge
from engine.e911.location_merge import MAX_PHONES, merge_locations
from engine.e911.location_twins import Why, inside_differs
from engine.e911.store import Usage
from engine.errors import EngineError, FieldFault, Invalid, NotFound
from engine.models import EmergencyCall, Location, LocationTest

SHOWN = 200  # pairs: a page stays under 150 kB
WORDS = {
    Why.SAME_ADDRESS: "The same address",
    Why.SAME_BUILDING: "The same building and name, another floor or room",
    Why.SAME_NAME: "The same name, and one has no address",
}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two, with what is placed at it."""

    location: Location
    usage: Usage
    networks: Sequence[str]
    test: LocationTest | None
    calls: Sequence[EmergencyCall]


async def get_twins(request: web.Request) -> web.Response:
    twins = prepared(request, FoundTwins).pairs[:SHOWN]
    ids = {identity for one in twins for identity in (one.first, one.second)}
    there = {row.id: row for row in await store.locations_in(request[SESSION], request[ACCOUNT].id, ids)}
    pairs = [
        (there[one.first], there[one.second], WORDS[one.why])
        for one in twins
        if one.first in there and one.second in there  # else it went since the search
    ]
    return render(request, "locations_twins.html.j2", pairs=pairs, is_cut=len(twins) >= SHOWN)


async def get_merge(request: web.Request) -> web.Response:
    return await _merge_page(request, None)


async def _merge_page(request: web.Request, error: EngineError | None) -> web.Response:
    first, second = await _both(request)
    differing = inside_differs(first.civic_address, second.civic_address)
    form = Form({}, sentence_of(error) if error else "", error.fields if isinstance(error, Invalid) else ())
    sides = [await _side(request, first), await _side(request, second)]
    return render(
        request, "location_merge.html.j2", error=error, sides=sides, form=form,
        differing=[ELEMENTS.get(name, name) for name in differing], words=ELEMENTS,
        elements=_elements(first, second), max_phones=MAX_PHONES,
        keep=await typed(request, "keep") if error else first.id,
    )  # fmt: skip


async def post_merge(request: web.Request) -> web.Response:
    request[FORM] = _merge_page
    first, second = await _both(request)
    chosen = await typed(request, "keep")
    if chosen not in {first.id, second.id}:
        detail = "Choose which of the two stays."
        raise Invalid(detail, fields=(FieldFault("keep", detail),))
    keep, gone = (first, second) if chosen == first.id else (second, first)
    await refuse_stale(request, keep, f"version_{keep.id}")
    await refuse_stale(request, gone, f"version_{gone.id}")
    is_meant = await typed(request, "despite_inside") == "on"
    await merge_locations(request[SESSION], request[ACTOR], request[ACCOUNT], keep, gone, despite_inside=is_meant)
    return see_other(f"/locations/{keep.id}", "locations-merged")


async def _both(request: web.Request) -> tuple[Location, Location]:
    session, account = request[SESSION], request[ACCOUNT]
    first = await store.location_by_id(session, account.id, request.match_info["id"])
    second = await store.location_by_id(session, account.id, request.match_info["other"])
    if first is None or second is None or first is second:
        raise NotFound("This account has no such two locations. They may have been merged or deleted already.")
    return first, second


async def _side(request: web.Request, location: Location) -> Side:
    session = request[SESSION]
    networks = await store.networks_of(session, location.account_id, location.id)
    tests = await store_merge.tests_of(session, location.account_id)
    calls = await store_merge.calls_at(session, location, limit=1)
    usage = await store.usage_of(session, location)
    return Side(location, usage, [spelled(network) for network in networks], tests.get(location.id), calls)


def _elements(first: Location, second: Location) -> list[str]:
    """The address elements that either has, in the order of the first."""
    return list(dict.fromkeys([*first.civic_address, *second.civic_address]))


ROUTES = (
    Route("GET", "/locations/twins", get_twins, Scope.LOCATIONS_READ, Event.LOCATION_TWIN_LIST, prepare=find_twins),
    Route("GET", "/locations/{id}/merge/{other}", get_merge, Scope.LOCATIONS_WRITE, Event.LOCATION_READ),
    Route("POST", "/locations/{id}/merge/{other}", post_merge, Scope.LOCATIONS_WRITE, Event.LOCATION_MERGE),
)
