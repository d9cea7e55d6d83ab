"""`/api/v1/audit-views`: filters of the audit log under a name, one's own and those shared with the account."""

from dataclasses import replace
from typing import Annotated

from aiohttp import web
from pydantic import Field, StringConstraints

from admin.api import answered, body_of, given, match_version, no_content, no_query
from admin.api.models import NAME_PATTERN, Body, StampedAnswer, patch_of
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.context import ACCOUNT, ACTOR, RESOURCE, SESSION
from admin.pages.audit_views import checked_query, may_all
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.audit import store_views, views
from engine.audit.events import Event
from engine.audit.views import MAX_NAME_CHARACTERS, MAX_QUERY_CHARACTERS, ViewFields
from engine.models import SavedView

ViewName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARACTERS, pattern=NAME_PATTERN)]
ViewQuery = Annotated[str, StringConstraints(min_length=1, max_length=MAX_QUERY_CHARACTERS, pattern=NAME_PATTERN)]


class ViewAnswer(StampedAnswer):
    name: str
    query: str
    is_shared: bool
    owner_id: str
    owner_name: str


class ViewCreate(Body):
    """`query`: the filters as they stand in the address of the page."""

    name: ViewName
    query: ViewQuery = Field(json_schema_extra={"examples": ["outcome=denied&range=today"]})
    is_shared: bool = False


ViewPatch = patch_of(ViewCreate, "ViewPatch")


async def list_views(request: web.Request) -> web.Response:
    return await list_rows(
        request, SavedView, plainly(ViewAnswer.model_validate), store_views.seen_by(request[ACTOR].id)
    )


async def _view(request: web.Request, *, to_change: bool = False) -> SavedView:
    view = await store_views.view_by_id(
        request[SESSION], request[ACCOUNT].id, request[ACTOR].id, request.match_info["id"]
    )
    request[RESOURCE] = (view.resource_type, view.id, view.name)
    if to_change:
        match_version(request, view)
    return view


async def get_view(request: web.Request) -> web.Response:
    no_query(request)
    view = await _view(request)
    return answered(ViewAnswer.model_validate(view), view)


async def post_view(request: web.Request) -> web.Response:
    no_query(request)
    body = await body_of(request, ViewCreate)
    wished = ViewFields(body.name, checked_query(body.query, request[ACCOUNT]), body.is_shared)
    view = await views.create_view(request[SESSION], request[ACTOR], request[ACCOUNT].id, wished)
    await request[SESSION].flush()
    return answered(ViewAnswer.model_validate(view), view, status=201, location=f"/api/v1/audit-views/{view.id}")


async def patch_view(request: web.Request) -> web.Response:
    no_query(request)
    view = await _view(request, to_change=True)
    wished = replace(ViewFields.of(view), **given(await body_of(request, ViewPatch)))
    wished = replace(wished, query=checked_query(wished.query, request[ACCOUNT]))
    await views.update_view(request[SESSION], request[ACTOR], view, wished, may_all=may_all(request))
    await request[SESSION].flush()
    return answered(ViewAnswer.model_validate(view), view)


async def delete_view(request: web.Request) -> web.Response:
    no_query(request)
    view = await _view(request, to_change=True)
    await views.delete_view(request[SESSION], request[ACTOR], view, may_all=may_all(request))
    return no_content()


_READ, _WRITE = Scope.AUDIT_READ, Scope.AUDIT_WRITE
ROUTES = (
    Route(
        "GET", "/api/v1/audit-views", list_views, _READ, Event.AUDIT_VIEW_LIST,
        operation=Operation("List saved views", answer=ViewAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "POST", "/api/v1/audit-views", post_view, _WRITE, Event.AUDIT_VIEW_CREATE,
        operation=Operation("Save a view", body=ViewCreate, answer=ViewAnswer, status=201, has_etag=True),
    ),
    Route(
        "GET", "/api/v1/audit-views/{id}", get_view, _READ, Event.AUDIT_VIEW_READ,
        operation=Operation("One saved view", answer=ViewAnswer, has_etag=True),
    ),
    Route(
        "PATCH", "/api/v1/audit-views/{id}", patch_view, _WRITE, Event.AUDIT_VIEW_UPDATE,
        operation=Operation("Change a saved view", body=ViewPatch, answer=ViewAnswer, if_match=True, has_etag=True),
    ),
    Route(
        "DELETE", "/api/v1/audit-views/{id}", delete_view, _WRITE, Event.AUDIT_VIEW_DELETE,
        operation=Operation("Delete a saved view", status=204, if_match=True),
    ),
)  # fmt: skip
