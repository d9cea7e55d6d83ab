"""A location: the form that adds or changes it with its networks and recipients, and what is placed there."""

import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from admin.address_validation import NobodyAsked, validator_asked
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, SESSION, VALIDATOR
from admin.pages import location_list, location_merge
from admin.pages.form import FORM, form_of, gathered, lines_typed, refuse, refuse_stale, see_other, shown_of, typed
from admin.pages.location_list import spelled
from admin.render import render
from admin.routes import Route
from engine.accounts import store_trunks
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.db import utc_now
from engine.e911 import callback_numbers, sites, store, store_chats, store_merge, store_tests
from engine.e911.fields import canonical_network
from engine.e911.store import Usage
from engine.e911.validation import Verdict, note_verdict
from engine.errors import EngineError, FieldFault, NotFound
from engine.models import CallKind, EmergencyCall, Location, LocationTest, Network, NetworkKind, Phone

CIVIC_FIELDS = (
    "HNO",
    "HNS",
    "PRD",
    "RD",
    "STS",
    "POD",
    "A3",
    "A1",
    "PC",
    "country",
    "BLD",
    "FLR",
    "UNIT",
    "ROOM",
    "LOC",
)
PLAIN_FIELDS = (
    "callback_number", "onsite_number", "timezone", "trunk_group_id", "notification_prefix", "notification_text",
)  # fmt: skip
REGIONS = ("America/", "Pacific/", "Atlantic/", "Europe/", "Africa/", "Asia/", "Australia/", "Indian/")
SHOWN_PHONES, SHOWN_CALLS = 20, 5
NETWORK_AREAS = {
    "subnets": NetworkKind.SUBNET,
    "bssids": NetworkKind.BSSID,
    "switches": NetworkKind.SWITCH,
    "switch_ports": NetworkKind.SWITCH_PORT,
}


@dataclass(frozen=True, slots=True)
class Here:
    """What is placed at a location. `bound`: its networks that hold for callers of one PBX only; they are the API's."""

    usage: Usage
    phones: Sequence[Phone]
    calls: Sequence[EmergencyCall]
    test: LocationTest | None
    bound: Sequence[Network]


async def get_location_new(request: web.Request) -> web.Response:
    return await _location_page(request, None)


async def get_location(request: web.Request) -> web.Response:
    return await _location_page(request, None)


async def _location_page(request: web.Request, error: EngineError | None) -> web.Response:
    location = await _location(request) if "id" in request.match_info else None
    session, account = request[SESSION], request[ACCOUNT]
    networks = [] if location is None else await _networks(request, location)
    warnings = {} if location is None else await sites.warnings_of(session, account, [location])
    civic: dict[str, str] = location.civic_address if location else {"country": request[ACCOUNT].country}
    values: dict[str, Any] = {f"civic_address.{name}": civic.get(name, "") for name in CIVIC_FIELDS}
    values |= {
        "name": location.name if location else "",
        "carrier_ids": [f"{name}: {text}" for name, text in (location.carrier_ids if location else {}).items()],
        "notification_recipients": location.notification_recipients if location else [],
        **{name: (getattr(location, name) if location else None) or "" for name in PLAIN_FIELDS},
    }
    for name, kind in NETWORK_AREAS.items():
        values[name] = [spelled(network) for network in networks if network.kind == kind]
    form = await form_of(request, values, error, kind="location")
    pools = await callback_numbers.pools_of(session, account, utc_now()) if location else []
    return render(
        request, "location.html.j2", error=error, location=location, form=form,
        pool=next((pool for pool in pools if location and pool.location_id == location.id), None),
        warnings=[text for found in warnings.values() for text in found],
        can_be_asked=bool(await request.app[VALIDATOR].name(request[SESSION])),
        test=await store_tests.last_test_of(session, location) if location else None,
        account_told=[recipient.email for recipient in await store.recipients_of(session, account.id)],
        chats_told=await _chats_told(request, location),
        groups=[(group.id, group.name) for group in await store_trunks.trunk_groups_of(session, account.id, limit=500)],
        timezones=_zones(str(values["timezone"])), here=await _here(request, location) if location else None,
    )  # fmt: skip


async def _chats_told(request: web.Request, location: Location | None) -> list[str]:
    """Who is told by SMS or chat of an emergency call from there."""
    account_id, place = request[ACCOUNT].id, location.id if location else None
    found = await store_chats.targets_of(request[SESSION], account_id, place, CallKind.EMERGENCY)
    return [target.name for target in found]


async def _here(request: web.Request, location: Location) -> Here:
    session = request[SESSION]
    tests = await store_merge.tests_of(session, location.account_id)
    return Here(
        usage=await store.usage_of(session, location),
        phones=await store_merge.phones_at(session, location, limit=SHOWN_PHONES),
        calls=await store_merge.calls_at(session, location, limit=SHOWN_CALLS),
        test=tests.get(location.id),
        bound=[row for row in await store.networks_of(session, location.account_id, location.id) if row.pbx_id],
    )


def _zones(chosen: str) -> list[tuple[str, str]]:
    """The time zones of the menu, and the one that is chosen though it is none of them."""
    known = [(name, name.replace("_", " ")) for name in sorted(zoneinfo.available_timezones()) if "/" in name]
    known = [pair for pair in known if pair[0].startswith(REGIONS)]
    return known if not chosen or any(pair[0] == chosen for pair in known) else [(chosen, chosen), *known]


async def post_location_new(request: web.Request) -> web.Response:
    request[FORM] = _location_page
    networks, faults = await _typed_networks(request)
    values = await _typed_values(request, {})
    with gathered(faults):
        location = await sites.create_location(request[SESSION], request[ACTOR], request[ACCOUNT], values)
    refuse(faults)
    await _set_networks(request, location, networks)
    return see_other(f"/locations/{location.id}", "location-added")


async def post_location(request: web.Request) -> web.Response:
    request[FORM] = _location_page
    location = await _location(request, to_change=True)
    await refuse_stale(request, location)
    networks, faults = await _typed_networks(request)
    values = await _typed_values(request, location.civic_address)
    if await typed(request, "no_carrier_ids"):
        values["carrier_ids"] = dict.fromkeys(location.outdated_carrier_ids, "") | values["carrier_ids"]
    with gathered(faults):
        await sites.update_location(request[SESSION], request[ACTOR], request[ACCOUNT], location, values)
    refuse(faults)
    await _set_networks(request, location, networks)
    return see_other(f"/locations/{location.id}", "location-saved")


async def post_location_verdict(request: web.Request) -> web.Response:
    """What a 933 call read back, or the carrier said, of the address as it stands."""
    request[FORM] = _location_page
    location = await _location(request)
    await refuse_stale(request, location)
    if await typed(request, "verdict") == "ask":
        verdict = prepared(request, Verdict)
        await note_verdict(request[SESSION], request[ACTOR], location, verdict)
        return see_other(f"/locations/{location.id}", f"location-{verdict.told['verdict']}")
    is_right = await typed(request, "verdict") == "right"
    await sites.validate_location(request[SESSION], request[ACTOR], location, accepted=is_right)
    return see_other(f"/locations/{location.id}", "location-validated" if is_right else "location-rejected")


async def ask_for_verdict(request: web.Request) -> Verdict | NobodyAsked:
    """Before the transaction: a validator is asked over the network, and the database has one writer."""
    return await validator_asked(request) if await typed(request, "verdict") == "ask" else NobodyAsked()


async def post_location_delete(request: web.Request) -> web.Response:
    request[FORM] = _location_page
    location = await _location(request)
    await refuse_stale(request, location)
    await sites.delete_location(request[SESSION], request[ACTOR], location)
    return see_other("/locations", "location-deleted")


async def _location(request: web.Request, *, to_change: bool = False) -> Location:
    named = request.match_info["id"]
    location = await store.location_by_id(request[SESSION], request[ACCOUNT].id, named, to_change=to_change)
    if location is None:
        raise NotFound("This account has no such location. It may have been deleted.")
    return location


async def _networks(request: web.Request, location: Location) -> list[Network]:
    """The location's networks that hold for callers of every PBX: those of one PBX are the API's."""
    networks = await store.networks_of(request[SESSION], location.account_id, location.id)
    return [network for network in networks if network.pbx_id is None]


async def _typed_values(request: web.Request, present: dict[str, str]) -> dict[str, Any]:
    """The form as an API body. Elements of the address that the form does not show stay as they are."""
    civic = {name: text for name, text in present.items() if name not in CIVIC_FIELDS}
    for name in CIVIC_FIELDS:
        text = await typed(request, f"civic_address.{name}")
        civic |= {name: text} if text else {}
    return {
        "name": await typed(request, "name"),
        "civic_address": civic,
        "notification_recipients": await lines_typed(request, "notification_recipients"),
        "carrier_ids": {
            name.strip(): text.strip() or '""'  # nothing behind the colon is a mistake, not a wish to forget
            for name, _, text in (entry.partition(":") for entry in await lines_typed(request, "carrier_ids"))
        },
        **{name: await typed(request, name) for name in PLAIN_FIELDS if name in await request.post()},
    }


async def _typed_networks(request: web.Request) -> tuple[list[tuple[str, str]], list[FieldFault]]:
    """Kind and value of every network of the form, each once."""
    networks: dict[tuple[str, str], None] = {}
    faults = []
    for name, kind in NETWORK_AREAS.items():
        for text in await lines_typed(request, name):
            try:
                networks[kind, canonical_network(kind, text)] = None
            except ValueError as exc:
                faults.append(FieldFault(name, str(exc)))
    return list(networks), faults


async def _set_networks(request: web.Request, location: Location, wished: list[tuple[str, str]]) -> None:
    """Make the location's networks those that were typed. One that the form never showed stays: nobody removed it."""
    session, actor = request[SESSION], request[ACTOR]
    shown = await shown_of(request)
    areas = [] if shown is None else [shown.get(name) for name in NETWORK_AREAS]
    seen = None if shown is None else {text for area in areas if isinstance(area, list) for text in area}
    present = {(network.kind, network.value): network for network in await _networks(request, location)}
    for known, network in present.items():
        if known not in wished and (seen is None or spelled(network) in seen):
            await sites.delete_network(session, actor, network)
    for kind, value in wished:
        if (kind, value) not in present:
            values = {"kind": kind, "value": value, "location_id": location.id}
            await sites.create_network(session, actor, request[ACCOUNT], values)


ROUTES = (
    *location_list.ROUTES,
    *location_merge.ROUTES,  # before {id}: `twins` is no location's
    Route("GET", "/locations/new", get_location_new, Scope.LOCATIONS_WRITE, Event.FORM_READ),
    Route("POST", "/locations/new", post_location_new, Scope.LOCATIONS_WRITE, Event.LOCATION_CREATE),
    Route("GET", "/locations/{id}", get_location, Scope.LOCATIONS_READ, Event.LOCATION_READ),
    Route("POST", "/locations/{id}", post_location, Scope.LOCATIONS_WRITE, Event.LOCATION_UPDATE),
    Route(
        "POST",
        "/locations/{id}/validate",
        post_location_verdict,
        Scope.LOCATIONS_WRITE,
        Event.LOCATION_VALIDATE,
        prepare=ask_for_verdict,
    ),
    Route("POST", "/locations/{id}/delete", post_location_delete, Scope.LOCATIONS_WRITE, Event.LOCATION_DELETE),
)
