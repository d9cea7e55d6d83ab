"""`/api/v1/locations/bulk`, `/location-twins` and `/locations/{id}/merge`: many locations at once, and two made one."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from admin.api import answered, body_of, no_query, row_named
from admin.api.models import Answer, Body, Email, Id, Text
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, SESSION
from admin.routes import Operation, Route
from admin.twin_search import FoundTwins, find_twins
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.e911 import location_bulk, store
from engine.e911.fields import MAX_RECIPIENTS
from engine.e911.location_bulk import Action, Change
from engine.e911.location_merge import merge_locations
from engine.e911.location_twins import Why
from engine.errors import FieldFault, Invalid
from engine.models import Account, Location


class LocationBulk(Body):
    """`ids` left out: every location. `emails` for `tell` and `tell_no_more`; `value` for the rest, null: none of their
    own.
    """

    action: Action
    ids: Annotated[list[Id], Field(min_length=1, max_length=location_bulk.MAX_AT_ONCE)] | None = None
    emails: Annotated[list[Email], Field(max_length=MAX_RECIPIENTS)] = Field(default_factory=list)
    value: Text | None = None


class LocationBulkAnswer(Answer):
    """`changed`: how many were not like that already. `bulk_id` names the entries of the audit log."""

    locations: int
    changed: int
    bulk_id: str


class TwinAnswer(Answer):
    """Two locations that may be one place; the older first."""

    first_id: str
    second_id: str
    why: Why


class TwinList(Answer):
    data: list[TwinAnswer]


class LocationMerge(Body):
    """Everything placed at `merged_id` is placed at the location of the path, then it is removed. `despite_inside`: do
    so though floor, room or suite differ.
    """

    merged_id: Id
    despite_inside: bool = False


class LocationMergeAnswer(Answer):
    """How many of each were moved."""

    phones: int
    lines: int
    networks: int
    numbers: int
    pbxs: int
    recipients: int
    bulk_id: str


async def post_locations_bulk(request: web.Request) -> web.Response:
    no_query(request)
    body = await body_of(request, LocationBulk)
    change = Change(body.action, tuple(body.emails), body.value)
    done = await location_bulk.change_locations(request[SESSION], request[ACTOR], request[ACCOUNT], body.ids, change)
    return answered(LocationBulkAnswer(locations=done.locations, changed=done.changed, bulk_id=done.bulk_id))


async def list_twins(request: web.Request) -> web.Response:
    no_query(request)
    pairs = prepared(request, FoundTwins).pairs
    data = [TwinAnswer(first_id=twins.first, second_id=twins.second, why=twins.why) for twins in pairs]
    return answered(TwinList(data=data))


async def post_location_merge(request: web.Request) -> web.Response:
    no_query(request)
    keep = await row_named(request, Location, to_change=True)
    body = await body_of(request, LocationMerge)
    gone = await _other_location(request, request[ACCOUNT], body.merged_id)
    merged = await merge_locations(
        request[SESSION], request[ACTOR], request[ACCOUNT], keep, gone, despite_inside=body.despite_inside
    )
    names = LocationMergeAnswer.model_fields
    return answered(LocationMergeAnswer(**{name: getattr(merged, name) for name in names}), keep)


async def _other_location(request: web.Request, account: Account, location_id: str) -> Location:
    """The location that goes. Raises Invalid: the account has none of that id."""
    location = await store.location_by_id(request[SESSION], account.id, location_id)
    if location is None:
        detail = "Expected a location of this account. It may have been merged or deleted already."
        raise Invalid(detail, fields=(FieldFault("merged_id", detail),))
    return location


_READ, _WRITE = Scope.LOCATIONS_READ, Scope.LOCATIONS_WRITE
ROUTES = (
    Route(
        "POST", "/api/v1/locations/bulk", post_locations_bulk, _WRITE, Event.LOCATION_CHANGE_MANY,
        operation=Operation(
            "Change many locations at once", body=LocationBulk, answer=LocationBulkAnswer, errors=(404,)
        ),
    ),
    Route(
        "GET", "/api/v1/location-twins", list_twins, _READ, Event.LOCATION_TWIN_LIST, prepare=find_twins,
        operation=Operation("Locations that may be one place entered twice", answer=TwinList),
    ),
    Route(
        "POST", "/api/v1/locations/{id}/merge", post_location_merge, _WRITE, Event.LOCATION_MERGE,
        operation=Operation(
            "Merge another location into this one", body=LocationMerge, answer=LocationMergeAnswer, if_match=True,
            has_etag=True, errors=(409,),
        ),
    ),
)  # fmt: skip
