"""`/api/v1/trunk-groups`: which trunks emergency calls of an account or location take before all others."""

from dataclasses import replace
from typing import Annotated

from aiohttp import web
from pydantic import Field

from admin.api import answered, body_of, given, no_content, no_query, row_named
from admin.api.models import Body, Id, Name, StampedAnswer, patch_of
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.context import ACCOUNT, ACTOR, SESSION
from admin.routes import Operation, Route
from engine.accounts import trunk_groups
from engine.accounts.scopes import Scope
from engine.accounts.trunk_groups import MAX_TRUNKS, TrunkGroupFields
from engine.audit.events import Event
from engine.models import TrunkGroup


class TrunkGroupAnswer(StampedAnswer):
    """Trunks that are off are passed over; every other trunk of the account is tried behind the group's."""

    name: str
    trunk_ids: list[str]


class TrunkGroupCreate(Body):
    """`trunk_ids`: first to try first. A call takes the group that its location names, else the account's."""

    name: Name
    trunk_ids: Annotated[list[Id], Field(max_length=MAX_TRUNKS)] = Field(default_factory=list)


TrunkGroupPatch = patch_of(TrunkGroupCreate, "TrunkGroupPatch")


async def list_trunk_groups(request: web.Request) -> web.Response:
    return await list_rows(request, TrunkGroup, plainly(TrunkGroupAnswer.model_validate))


async def get_trunk_group(request: web.Request) -> web.Response:
    no_query(request)
    group = await row_named(request, TrunkGroup)
    return answered(TrunkGroupAnswer.model_validate(group), group)


async def post_trunk_group(request: web.Request) -> web.Response:
    no_query(request)
    body = await body_of(request, TrunkGroupCreate)
    wished = TrunkGroupFields(body.name, tuple(body.trunk_ids))
    group = await trunk_groups.create_trunk_group(request[SESSION], request[ACTOR], request[ACCOUNT], wished)
    await request[SESSION].flush()
    return answered(
        TrunkGroupAnswer.model_validate(group), group, status=201, location=f"/api/v1/trunk-groups/{group.id}"
    )


async def patch_trunk_group(request: web.Request) -> web.Response:
    no_query(request)
    group = await row_named(request, TrunkGroup, to_change=True)
    wished = replace(TrunkGroupFields.of(group), **given(await body_of(request, TrunkGroupPatch)))
    wished = replace(wished, trunk_ids=tuple(wished.trunk_ids))
    await trunk_groups.update_trunk_group(request[SESSION], request[ACTOR], request[ACCOUNT], group, wished)
    await request[SESSION].flush()
    return answered(TrunkGroupAnswer.model_validate(group), group)


async def delete_trunk_group(request: web.Request) -> web.Response:
    no_query(request)
    group = await row_named(request, TrunkGroup, to_change=True)
    await trunk_groups.delete_trunk_group(request[SESSION], request[ACTOR], request[ACCOUNT], group)
    return no_content()


_READ, _WRITE = Scope.TELEPHONY_READ, Scope.TELEPHONY_WRITE
ROUTES = (
    Route(
        "GET", "/api/v1/trunk-groups", list_trunk_groups, _READ, Event.TRUNK_GROUP_LIST,
        operation=Operation("List trunk groups", answer=TrunkGroupAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "POST", "/api/v1/trunk-groups", post_trunk_group, _WRITE, Event.TRUNK_GROUP_CREATE,
        operation=Operation(
            "Add a trunk group", body=TrunkGroupCreate, answer=TrunkGroupAnswer, status=201, has_etag=True
        ),
    ),
    Route(
        "GET", "/api/v1/trunk-groups/{id}", get_trunk_group, _READ, Event.TRUNK_GROUP_READ,
        operation=Operation("One trunk group", answer=TrunkGroupAnswer, has_etag=True),
    ),
    Route(
        "PATCH", "/api/v1/trunk-groups/{id}", patch_trunk_group, _WRITE, Event.TRUNK_GROUP_UPDATE,
        operation=Operation(
            "Change a trunk group", body=TrunkGroupPatch, answer=TrunkGroupAnswer, if_match=True, has_etag=True
        ),
    ),
    Route(
        "DELETE", "/api/v1/trunk-groups/{id}", delete_trunk_group, _WRITE, Event.TRUNK_GROUP_DELETE,
        operation=Operation("Remove a trunk group that nobody names", status=204, if_match=True, errors=(409,)),
    ),
)  # fmt: skip
