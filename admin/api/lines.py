"""`/api/v1/lines`: extensions with their SIP credentials. The secret goes in and never comes out."""

from dataclasses import replace
from typing import Annotated

from aiohttp import web
from pydantic import Field

from admin.api import answered, body_of, given, no_content, no_query, row_named
from admin.api.models import Body, Id, Number, PlacementIn, Secret, StampedAnswer, Text, patch_of
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.context import ACCOUNT, ACTOR, SESSION
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.models import Line, Placement
from engine.provisioning import phones
from engine.provisioning.phones import LineFields

Sip = Annotated[str, Field(max_length=100, pattern=r"^[!-~]*$")]


class LineAnswer(StampedAnswer):
    extension: str
    display_name: str
    sip_user: str
    auth_user: str
    callback_number: str | None
    location_id: str | None
    pbx_id: str | None
    placement: Placement | None


class LineCreate(Body):
    """Without a `sip_user` it is the extension; without an `auth_user`, the SIP user. `secret` is never shown again."""

    extension: Annotated[str, Field(min_length=1, max_length=20, pattern=r"^[0-9A-Za-z*#+._-]+$")]
    display_name: Text = ""
    sip_user: Sip = ""
    auth_user: Sip = ""
    secret: Secret | None = None
    callback_number: Number | None = None
    location_id: Id | None = None
    pbx_id: Id | None = None
    placement: PlacementIn = None


LinePatch = patch_of(LineCreate, "LinePatch")


async def list_lines(request: web.Request) -> web.Response:
    return await list_rows(request, Line, plainly(LineAnswer.model_validate))


async def get_line(request: web.Request) -> web.Response:
    no_query(request)
    line = await row_named(request, Line)
    return answered(LineAnswer.model_validate(line), line)


async def post_line(request: web.Request) -> web.Response:
    no_query(request)
    body = await body_of(request, LineCreate)
    line = await phones.create_line(request[SESSION], request[ACTOR], request[ACCOUNT], LineFields(**body.model_dump()))
    await request[SESSION].flush()
    return answered(LineAnswer.model_validate(line), line, status=201, location=f"/api/v1/lines/{line.id}")


async def patch_line(request: web.Request) -> web.Response:
    no_query(request)
    line = await row_named(request, Line, to_change=True)
    wished = replace(LineFields.of(line), **given(await body_of(request, LinePatch)))
    await phones.update_line(request[SESSION], request[ACTOR], request[ACCOUNT], line, wished)
    await request[SESSION].flush()
    return answered(LineAnswer.model_validate(line), line)


async def delete_line(request: web.Request) -> web.Response:
    no_query(request)
    await phones.delete_line(request[SESSION], request[ACTOR], await row_named(request, Line, to_change=True))
    return no_content()


_READ, _WRITE = Scope.PHONES_READ, Scope.PHONES_WRITE
ROUTES = (
    Route(
        "GET", "/api/v1/lines", list_lines, _READ, Event.LINE_LIST,
        operation=Operation("List lines", answer=LineAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "POST", "/api/v1/lines", post_line, _WRITE, Event.LINE_CREATE,
        operation=Operation("Add a line", body=LineCreate, answer=LineAnswer, status=201, has_etag=True),
    ),
    Route(
        "GET", "/api/v1/lines/{id}", get_line, _READ, Event.LINE_READ,
        operation=Operation("One line", answer=LineAnswer, has_etag=True),
    ),
    Route(
        "PATCH", "/api/v1/lines/{id}", patch_line, _WRITE, Event.LINE_UPDATE,
        operation=Operation("Change a line", body=LinePatch, answer=LineAnswer, if_match=True, has_etag=True),
    ),
    Route(
        "DELETE", "/api/v1/lines/{id}", delete_line, _WRITE, Event.LINE_DELETE,
        operation=Operation("Remove a line from the account and from every key", status=204, if_match=True),
    ),
)  # fmt: skip
