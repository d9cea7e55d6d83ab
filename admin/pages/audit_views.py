"""Saved views of the audit log: kept from the page's filters, renamed, shared, deleted."""

from urllib.parse import parse_qsl, urlencode

from aiohttp import web
from multidict import MultiDict

from admin.audit_filters import FILTERS, parse_asked
from admin.context import ACCOUNT, ACTOR, SCOPES, SESSION
from admin.pages.form import FORM, form_of, refuse_stale, see_other, typed
from admin.render import render, zone_of
from admin.routes import Route
from engine.accounts.scopes import Scope
from engine.audit import store_views, views
from engine.audit.events import Event
from engine.audit.views import ViewFields
from engine.errors import EngineError, FieldFault, Invalid
from engine.models import Account, SavedView

MAX_PAIRS = 300  # filters of one view: more events than there are


async def get_views(request: web.Request) -> web.Response:
    return await _views_page(request, None)


async def _views_page(request: web.Request, error: EngineError | None) -> web.Response:
    seen = await store_views.views_of(request[SESSION], request[ACCOUNT].id, request[ACTOR].id)
    query = "" if error is None else await typed(request, "query")
    form = await form_of(request, {"name": "", "query": query, "is_shared": False}, error, kind="audit_view")
    return render(
        request, "audit_views.html.j2", error=error, views=seen, form=form,
        mine=request[ACTOR].id, may_all=may_all(request), pairs={view.id: parse_qsl(view.query) for view in seen},
    )  # fmt: skip


def may_all(request: web.Request) -> bool:
    """Whether shared views of others may be changed: by who runs the account."""
    return Scope.ACCOUNT_WRITE in request[SCOPES]


def checked_query(text: str, account: Account) -> str:
    """The filters as the page would put them into its address.

    Raises:
        Invalid: every filter that cannot be read; none at all.
    """
    try:
        pairs = parse_qsl(text.strip().lstrip("?"), max_num_fields=MAX_PAIRS)
    except ValueError as exc:
        raise Invalid("The view cannot be saved.", fields=(FieldFault("query", "Expected fewer filters."),)) from exc
    unknown = sorted({name for name, _text in pairs} - set(FILTERS))
    if unknown:
        said = f"There is no filter {unknown[0][:40]!r}. Expected {', '.join(FILTERS)}."
        raise Invalid("The view cannot be saved.", fields=(FieldFault("query", said),))
    asked = parse_asked(MultiDict(pairs), zone_of(account))
    if not asked.pairs:
        said = "Choose filters on the audit log first; a view of everything is the log itself."
        raise Invalid("The view cannot be saved.", fields=(FieldFault("query", said),))
    return urlencode(asked.pairs)


async def post_view(request: web.Request) -> web.Response:
    """Keep the filters of the page under a name; the page goes on with them."""
    request[FORM] = _views_page
    query = checked_query(await typed(request, "query"), request[ACCOUNT])
    wished = ViewFields(await typed(request, "name"), query, await typed(request, "is_shared") == "on")
    await views.create_view(request[SESSION], request[ACTOR], request[ACCOUNT].id, wished)
    return see_other(f"/audit?{query}", "view-saved")


async def get_view(request: web.Request) -> web.Response:
    return await _view_page(request, None)


async def _view_page(request: web.Request, error: EngineError | None) -> web.Response:
    view = await _view(request)
    values = {"name": view.name, "query": view.query, "is_shared": view.is_shared}
    form = await form_of(request, values, error, kind="audit_view")
    return render(
        request, "audit_view.html.j2", error=error, view=view, form=form,
        mine=request[ACTOR].id, may_all=may_all(request),
    )  # fmt: skip


async def _view(request: web.Request) -> SavedView:
    return await store_views.view_by_id(
        request[SESSION], request[ACCOUNT].id, request[ACTOR].id, request.match_info["id"]
    )


async def post_view_change(request: web.Request) -> web.Response:
    request[FORM] = _view_page
    view = await _view(request)
    await refuse_stale(request, view)
    query = checked_query(await typed(request, "query"), request[ACCOUNT])
    wished = ViewFields(await typed(request, "name"), query, await typed(request, "is_shared") == "on")
    await views.update_view(request[SESSION], request[ACTOR], view, wished, may_all=may_all(request))
    return see_other("/audit/views", "view-saved")


async def post_view_delete(request: web.Request) -> web.Response:
    await views.delete_view(request[SESSION], request[ACTOR], await _view(request), may_all=may_all(request))
    return see_other("/audit/views", "view-deleted")


_READ, _WRITE = Scope.AUDIT_READ, Scope.AUDIT_WRITE
ROUTES = (
    Route("GET", "/audit/views", get_views, _READ, Event.AUDIT_VIEW_LIST),
    Route("POST", "/audit/views", post_view, _WRITE, Event.AUDIT_VIEW_CREATE),
    Route("GET", "/audit/views/{id}", get_view, _READ, Event.AUDIT_VIEW_READ),
    Route("POST", "/audit/views/{id}", post_view_change, _WRITE, Event.AUDIT_VIEW_UPDATE),
    Route("POST", "/audit/views/{id}/delete", post_view_delete, _WRITE, Event.AUDIT_VIEW_DELETE),
)
