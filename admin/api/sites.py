"""`/api/v1/locations`, `/networks` and `/notification-recipients`: where callers are, and whom a 911 call is told."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field

from admin.address_validation import NobodyAsked, validator_asked
from admin.api import answered, body_of, given, no_content, no_query, row_named
from admin.api.geo import PlaceBody
from admin.api.models import (
    Address,
    Answer,
    Body,
    Email,
    Id,
    Instant,
    Instructions,
    Name,
    Number,
    Prefix,
    StampedAnswer,
    Text,
    patch_of,
)
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, SESSION
from admin.routes import Operation, Query, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.e911 import sites, store, store_names
from engine.e911.validation import Verdict, note_verdict
from engine.errors import FieldFault, Invalid
from engine.models import Location, LocationStatus, Network, NetworkKind, NotificationRecipient

InstantText = Annotated[str, Field(json_schema_extra={"format": "date-time"})]  # kept as it is shown
ValidatorVerdict = Literal["validated", "rejected", "undecided"]

_MAX_NAME_CHARACTERS = 200


class NetworkOfLocation(Answer):
    id: str
    kind: NetworkKind
    value: str


class ValidationAnswer(Answer):
    """What the validator, or a person in its place, said last of the address as it stands."""

    by: str
    at: InstantText
    verdict: ValidatorVerdict
    words: str
    valid: list[str]
    invalid: list[str]
    unchecked: list[str]
    psap: str
    psap_uris: list[str]


class LocationAnswer(StampedAnswer):
    name: str
    civic_address: dict[str, str]
    geo: dict[str, Any] | None
    timezone: str | None
    notification_recipients: list[str]
    callback_number: str | None
    onsite_number: str | None
    carrier_ids: dict[str, str]
    outdated_carrier_ids: dict[str, str]
    trunk_group_id: str | None
    notification_prefix: str
    notification_text: str
    status: LocationStatus
    validated_at: Instant | None
    validation: ValidationAnswer | None
    networks: list[NetworkOfLocation]
    warnings: list[str]


class LocationCreate(Body):
    """`civic_address` holds elements by their names in RFC 5139, RFC 6848 and CLDXF; `country` is required."""

    name: Name
    civic_address: Address
    geo: PlaceBody | None = None
    timezone: Text | None = None
    notification_recipients: Annotated[list[Email], Field(max_length=50)] = Field(default_factory=list)
    callback_number: Number | None = None
    onsite_number: Number | None = None
    carrier_ids: Annotated[Address, Field(max_length=20)] = Field(default_factory=dict)
    trunk_group_id: Id | None = None
    notification_prefix: Prefix = ""
    notification_text: Instructions = ""


LocationPatch = patch_of(LocationCreate, "LocationPatch")


class LocationVerdict(Body):
    """`accepted`: what a person says to whom a 933 call read the address back. Without it, the LoST server is asked."""

    accepted: bool | None = None


class NetworkAnswer(StampedAnswer):
    kind: NetworkKind
    value: str
    location_id: str
    pbx_id: str | None


class NetworkCreate(Body):
    """Callers on this network are at this location; with a `pbx_id`, only callers of that PBX.

    `value` is a CIDR (`subnet`), an access point's BSSID (`bssid`), a switch's chassis id (`switch`), or chassis id and
    port id with a slash between them (`switch_port`).
    """

    kind: NetworkKind = NetworkKind.SUBNET
    value: Text
    location_id: Id
    pbx_id: Id | None = None


NetworkPatch = patch_of(NetworkCreate, "NetworkPatch")


class RecipientAnswer(StampedAnswer):
    email: str


class RecipientCreate(Body):
    email: Email


async def list_locations(request: web.Request) -> web.Response:
    async def shown(rows: Sequence[Location]) -> list[LocationAnswer]:
        networks = await store.networks_by_location(request[SESSION], rows)
        warnings = await sites.warnings_of(request[SESSION], request[ACCOUNT], rows)
        return [_location(row, networks.get(row.id, ()), warnings[row.id]) for row in rows]

    text = request.query.get("q", "").strip()
    if len(text) > _MAX_NAME_CHARACTERS or not text.isprintable():
        told = FieldFault("q", f"Expected at most {_MAX_NAME_CHARACTERS} printable characters.")
        raise Invalid("The locations cannot be filtered like this.", fields=(told,))
    conditions = [store_names.name_holds(text)] if text else []
    return await list_rows(request, Location, shown, *conditions, filters=("q",))


async def get_location(request: web.Request) -> web.Response:
    no_query(request)
    return await _one_location(request, await row_named(request, Location))


async def post_location(request: web.Request) -> web.Response:
    no_query(request)
    values = given(await body_of(request, LocationCreate))
    location = await sites.create_location(request[SESSION], request[ACTOR], request[ACCOUNT], values)
    return await _one_location(request, location, status=201, address=f"/api/v1/locations/{location.id}")


async def patch_location(request: web.Request) -> web.Response:
    no_query(request)
    location = await row_named(request, Location, to_change=True)
    values = given(await body_of(request, LocationPatch))
    await sites.update_location(request[SESSION], request[ACTOR], request[ACCOUNT], location, values)
    return await _one_location(request, location)


async def delete_location(request: web.Request) -> web.Response:
    no_query(request)
    await sites.delete_location(request[SESSION], request[ACTOR], await row_named(request, Location, to_change=True))
    return no_content()


async def post_location_validate(request: web.Request) -> web.Response:
    no_query(request)
    location = await row_named(request, Location, to_change=True)
    accepted = (await body_of(request, LocationVerdict)).accepted
    if accepted is None:
        await note_verdict(request[SESSION], request[ACTOR], location, prepared(request, Verdict))
    else:
        await sites.validate_location(request[SESSION], request[ACTOR], location, accepted=accepted)
    return await _one_location(request, location)


async def ask_for_verdict(request: web.Request) -> Verdict | NobodyAsked:
    """Before the transaction: a validator is asked over the network, and the database has one writer."""
    accepted = (await body_of(request, LocationVerdict)).accepted
    return await validator_asked(request) if accepted is None else NobodyAsked()


async def _one_location(
    request: web.Request, location: Location, *, status: int = 200, address: str | None = None
) -> web.Response:
    networks = await store.networks_of(request[SESSION], location.account_id, location.id)
    warnings = await sites.warnings_of(request[SESSION], request[ACCOUNT], [location])
    return answered(_location(location, networks, warnings[location.id]), location, status=status, location=address)


def _location(location: Location, networks: Sequence[Network], warnings: Sequence[str]) -> LocationAnswer:
    more = {"networks": [NetworkOfLocation.model_validate(network) for network in networks], "warnings": warnings}
    stored = {name: getattr(location, name) for name in LocationAnswer.model_fields if name not in more}
    return LocationAnswer.model_validate(stored | more)


async def list_networks(request: web.Request) -> web.Response:
    return await list_rows(request, Network, plainly(NetworkAnswer.model_validate))


async def get_network(request: web.Request) -> web.Response:
    no_query(request)
    network = await row_named(request, Network)
    return answered(NetworkAnswer.model_validate(network), network)


async def post_network(request: web.Request) -> web.Response:
    no_query(request)
    values = given(await body_of(request, NetworkCreate))
    network = await sites.create_network(request[SESSION], request[ACTOR], request[ACCOUNT], values)
    return answered(
        NetworkAnswer.model_validate(network), network, status=201, location=f"/api/v1/networks/{network.id}"
    )


async def patch_network(request: web.Request) -> web.Response:
    no_query(request)
    network = await row_named(request, Network, to_change=True)
    values = given(await body_of(request, NetworkPatch))
    await sites.update_network(request[SESSION], request[ACTOR], request[ACCOUNT], network, values)
    return answered(NetworkAnswer.model_validate(network), network)


async def delete_network(request: web.Request) -> web.Response:
    no_query(request)
    await sites.delete_network(request[SESSION], request[ACTOR], await row_named(request, Network, to_change=True))
    return no_content()


async def list_recipients(request: web.Request) -> web.Response:
    return await list_rows(request, NotificationRecipient, plainly(RecipientAnswer.model_validate))


async def get_recipient(request: web.Request) -> web.Response:
    no_query(request)
    recipient = await row_named(request, NotificationRecipient)
    return answered(RecipientAnswer.model_validate(recipient), recipient)


async def post_recipient(request: web.Request) -> web.Response:
    no_query(request)
    body = await body_of(request, RecipientCreate)
    recipient = await sites.add_recipient(request[SESSION], request[ACTOR], request[ACCOUNT], body.email)
    return answered(
        RecipientAnswer.model_validate(recipient), recipient, status=201,
        location=f"/api/v1/notification-recipients/{recipient.id}",
    )  # fmt: skip


async def delete_recipient(request: web.Request) -> web.Response:
    no_query(request)
    recipient = await row_named(request, NotificationRecipient, to_change=True)
    await sites.remove_recipient(request[SESSION], request[ACTOR], recipient)
    return no_content()


_READ, _WRITE = Scope.LOCATIONS_READ, Scope.LOCATIONS_WRITE
_NAME = Query("q", {"type": "string"}, "A part of the name, in any case.")
ROUTES = (
    Route(
        "GET", "/api/v1/locations", list_locations, _READ, Event.LOCATION_LIST,
        operation=Operation("List locations", answer=LocationAnswer, is_list=True, queries=(*PAGE_QUERIES, _NAME)),
    ),
    Route(
        "POST", "/api/v1/locations", post_location, _WRITE, Event.LOCATION_CREATE,
        operation=Operation("Add a location", body=LocationCreate, answer=LocationAnswer, status=201, has_etag=True),
    ),
    Route(
        "GET", "/api/v1/locations/{id}", get_location, _READ, Event.LOCATION_READ,
        operation=Operation("One location", answer=LocationAnswer, has_etag=True),
    ),
    Route(
        "PATCH", "/api/v1/locations/{id}", patch_location, _WRITE, Event.LOCATION_UPDATE,
        operation=Operation(
            "Change a location", body=LocationPatch, answer=LocationAnswer, if_match=True, has_etag=True
        ),
    ),
    Route(
        "DELETE", "/api/v1/locations/{id}", delete_location, _WRITE, Event.LOCATION_DELETE,
        operation=Operation("Remove a location that nothing is placed at", status=204, if_match=True, errors=(409,)),
    ),
    Route(
        "POST", "/api/v1/locations/{id}/validate", post_location_validate, _WRITE, Event.LOCATION_VALIDATE,
        prepare=ask_for_verdict,
        operation=Operation(
            "Validate the address, or note whether it is right", body=LocationVerdict, answer=LocationAnswer,
            if_match=True, has_etag=True, errors=(409, 503),
        ),
    ),
    Route(
        "GET", "/api/v1/networks", list_networks, _READ, Event.NETWORK_LIST,
        operation=Operation("List networks", answer=NetworkAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "POST", "/api/v1/networks", post_network, _WRITE, Event.NETWORK_CREATE,
        operation=Operation(
            "Say where a network is", body=NetworkCreate, answer=NetworkAnswer, status=201, has_etag=True, errors=(409,)
        ),
    ),
    Route(
        "GET", "/api/v1/networks/{id}", get_network, _READ, Event.NETWORK_READ,
        operation=Operation("One network", answer=NetworkAnswer, has_etag=True),
    ),
    Route(
        "PATCH", "/api/v1/networks/{id}", patch_network, _WRITE, Event.NETWORK_UPDATE,
        operation=Operation(
            "Change a network", body=NetworkPatch, answer=NetworkAnswer, if_match=True, has_etag=True, errors=(409,)
        ),
    ),
    Route(
        "DELETE", "/api/v1/networks/{id}", delete_network, _WRITE, Event.NETWORK_DELETE,
        operation=Operation("Forget where a network is", status=204, if_match=True),
    ),
    Route(
        "GET", "/api/v1/notification-recipients", list_recipients, _READ, Event.RECIPIENT_LIST,
        operation=Operation(
            "List who is told of emergency calls", answer=RecipientAnswer, is_list=True, queries=PAGE_QUERIES
        ),
    ),
    Route(
        "POST", "/api/v1/notification-recipients", post_recipient, _WRITE, Event.RECIPIENT_CREATE,
        operation=Operation("Add a recipient", body=RecipientCreate, answer=RecipientAnswer, status=201, has_etag=True),
    ),
    Route(
        "GET", "/api/v1/notification-recipients/{id}", get_recipient, _READ, Event.RECIPIENT_READ,
        operation=Operation("One recipient", answer=RecipientAnswer, has_etag=True),
    ),
    Route(
        "DELETE", "/api/v1/notification-recipients/{id}", delete_recipient, _WRITE, Event.RECIPIENT_DELETE,
        operation=Operation("Remove a recipient", status=204, if_match=True),
    ),
)  # fmt: skip
