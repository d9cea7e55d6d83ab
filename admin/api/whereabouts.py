"""`/api/v1/confirmed-locations` and `/phones/{id}/sighting`: where users say they are, and where the network saw a
phone.
"""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from admin.api import answered, body_of, given, no_content, no_query, row_named
from admin.api.models import Answer, Body, Id, Instant, InstantIn, StampedAnswer, Text, patch_of
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.context import ACCOUNT, ACTOR, SESSION
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.e911 import store, whereabouts
from engine.errors import NotFound
from engine.models import ConfirmedLocation, Phone, SightingSource


class ConfirmedLocationAnswer(StampedAnswer):
    phone_id: str | None
    line_id: str | None
    location_id: str
    network: str
    confirmed_at: Instant
    confirmed_by: str


class ConfirmedLocationCreate(Body):
    """A user's word for a phone or a line; it holds on this network alone. Changing it confirms it anew."""

    phone_id: Id | None = None
    line_id: Id | None = None
    location_id: Id
    network: Annotated[str, Field(min_length=2, max_length=80)]


ConfirmedLocationPatch = patch_of(ConfirmedLocationCreate, "ConfirmedLocationPatch")


class SightingAnswer(Answer):
    phone_id: str
    chassis: str | None
    port: str | None
    bssid: str | None
    ip: str | None
    source: SightingSource
    seen_at: Instant


class SightingBody(Body):
    """What a switch, a controller or a monitoring system saw; at least one of chassis, bssid and ip."""

    chassis: Text | None = None
    port: Text | None = None
    bssid: Text | None = None
    ip: Text | None = None
    seen_at: InstantIn | None = Field(default=None, strict=False)


async def list_confirmed(request: web.Request) -> web.Response:
    return await list_rows(request, ConfirmedLocation, plainly(ConfirmedLocationAnswer.model_validate))


async def get_confirmed(request: web.Request) -> web.Response:
    no_query(request)
    confirmed = await row_named(request, ConfirmedLocation)
    return answered(ConfirmedLocationAnswer.model_validate(confirmed), confirmed)


async def post_confirmed(request: web.Request) -> web.Response:
    no_query(request)
    values = given(await body_of(request, ConfirmedLocationCreate))
    made = await whereabouts.create_confirmed(request[SESSION], request[ACTOR], request[ACCOUNT], values)
    address = f"/api/v1/confirmed-locations/{made.id}"
    return answered(ConfirmedLocationAnswer.model_validate(made), made, status=201, location=address)


async def patch_confirmed(request: web.Request) -> web.Response:
    no_query(request)
    confirmed = await row_named(request, ConfirmedLocation, to_change=True)
    values = given(await body_of(request, ConfirmedLocationPatch))
    await whereabouts.update_confirmed(request[SESSION], request[ACTOR], request[ACCOUNT], confirmed, values)
    return answered(ConfirmedLocationAnswer.model_validate(confirmed), confirmed)


async def delete_confirmed(request: web.Request) -> web.Response:
    no_query(request)
    confirmed = await row_named(request, ConfirmedLocation, to_change=True)
    await whereabouts.delete_confirmed(request[SESSION], request[ACTOR], confirmed)
    return no_content()


async def get_sighting(request: web.Request) -> web.Response:
    no_query(request)
    sighting = await store.sighting_of(request[SESSION], await row_named(request, Phone))
    if sighting is None:
        raise NotFound("Nobody has seen this phone on the network yet.")
    return answered(SightingAnswer.model_validate(sighting))


async def put_sighting(request: web.Request) -> web.Response:
    """The edge is told with the commit: a phone that was moved and dials 911 then is found at its new place."""
    no_query(request)
    phone = await row_named(request, Phone)
    values = given(await body_of(request, SightingBody))
    sighting = await whereabouts.sight(request[SESSION], request[ACTOR], request[ACCOUNT], phone, values)
    return answered(SightingAnswer.model_validate(sighting))


_READ, _WRITE = Scope.LOCATIONS_READ, Scope.LOCATIONS_WRITE
ROUTES = (
    Route(
        "GET", "/api/v1/confirmed-locations", list_confirmed, _READ, Event.CONFIRMED_LOCATION_LIST,
        operation=Operation(
            "List where users said they are", answer=ConfirmedLocationAnswer, is_list=True, queries=PAGE_QUERIES
        ),
    ),
    Route(
        "POST", "/api/v1/confirmed-locations", post_confirmed, _WRITE, Event.CONFIRMED_LOCATION_CREATE,
        operation=Operation(
            "Confirm where a phone or line is on a network", body=ConfirmedLocationCreate,
            answer=ConfirmedLocationAnswer, status=201, has_etag=True, errors=(409,),
        ),
    ),
    Route(
        "GET", "/api/v1/confirmed-locations/{id}", get_confirmed, _READ, Event.CONFIRMED_LOCATION_READ,
        operation=Operation("One confirmed location", answer=ConfirmedLocationAnswer, has_etag=True),
    ),
    Route(
        "PATCH", "/api/v1/confirmed-locations/{id}", patch_confirmed, _WRITE, Event.CONFIRMED_LOCATION_UPDATE,
        operation=Operation(
            "Change it, or confirm it anew", body=ConfirmedLocationPatch, answer=ConfirmedLocationAnswer,
            if_match=True, has_etag=True, errors=(409,),
        ),
    ),
    Route(
        "DELETE", "/api/v1/confirmed-locations/{id}", delete_confirmed, _WRITE, Event.CONFIRMED_LOCATION_DELETE,
        operation=Operation("Forget a confirmed location", status=204, if_match=True),
    ),
    Route(
        "GET", "/api/v1/phones/{id}/sighting", get_sighting, Scope.PHONES_READ, Event.PHONE_SIGHTING_READ,
        operation=Operation("Where the network last saw the phone", answer=SightingAnswer),
    ),
    Route(
        "PUT", "/api/v1/phones/{id}/sighting", put_sighting, Scope.PHONES_WRITE, Event.PHONE_SIGHT,
        operation=Operation("Note where the network saw the phone", body=SightingBody, answer=SightingAnswer,
                            errors=(409,)),
    ),
)  # fmt: skip
