"""Hints: what in the logs is unlike this account, with what each rests on; dismissed by whoever looked at it."""

from aiohttp import web

from admin.context import ACCOUNT, ACTOR, RESOURCE, SESSION
from admin.page_addresses import one_of
from admin.pages.form import see_other
from admin.render import render
from admin.routes import Route
from engine.accounts import anomaly_watch
from engine.accounts import store_anomalies as store
from engine.accounts.scopes import Scope
from engine.audit.events import Event


async def get_anomalies(request: web.Request) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    is_open = one_of(request, "show", ("open", "dismissed")) != "dismissed"
    rows = await store.anomalies_of(session, account.id, is_open=is_open)
    return render(request, "anomalies.html.j2", rows=rows, is_open=is_open, shown=store.SHOWN)


async def get_anomaly(request: web.Request) -> web.Response:
    row = await store.anomaly_by_id(request[SESSION], request[ACCOUNT].id, request.match_info["id"])
    request[RESOURCE] = ("anomaly", row.id, row.headline)
    return render(request, "anomaly.html.j2", row=row)


async def post_dismiss(request: web.Request) -> web.Response:
    row = await store.anomaly_by_id(request[SESSION], request[ACCOUNT].id, request.match_info["id"])
    anomaly_watch.dismiss(request[SESSION], request[ACTOR], row)
    return see_other("/audit/anomalies", "hint-dismissed")


ROUTES = (
    Route("GET", "/audit/anomalies", get_anomalies, Scope.AUDIT_READ, Event.ANOMALY_LIST),
    Route("GET", "/audit/anomalies/{id}", get_anomaly, Scope.AUDIT_READ, Event.ANOMALY_READ),
    Route("POST", "/audit/anomalies/{id}/dismiss", post_dismiss, Scope.AUDIT_WRITE, Event.ANOMALY_DISMISS),
)
