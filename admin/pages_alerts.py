"""Alerts: the front desk's page. Every emergency call as it happens, with a sound until somebody acknowledges it."""

from aiohttp import web

from admin.alert_stream import AlertStream, drawn, rings
from admin.context import ACCOUNT, ACTOR, RESOURCE, SCOPES, SESSION
from admin.pages_form import see_other, typed
from admin.render import render, zone_of
from admin.routes import Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.db import utc_now
from engine.e911 import store_calls
from engine.e911.acknowledging import acknowledge
from engine.errors import NotFound


async def get_alerts(request: web.Request) -> web.Response:
    account, now = request[ACCOUNT], utc_now()
    calls = await store_calls.calls_to_watch(request[SESSION], account.id, now)
    can_acknowledge = Scope.CALLS_WRITE in request[SCOPES]
    return render(
        request,
        "alerts.html.j2",
        calls=[drawn(call, zone_of(account), can_acknowledge=can_acknowledge) for call in calls],
        ringing=sum(rings(call, now) for call in calls),
        now=now,
    )


async def get_alert_stream(request: web.Request) -> web.StreamResponse:
    request[RESOURCE] = ("emergency_call", "alerts", "")
    if request.method == "HEAD":
        return web.Response(content_type="text/event-stream")
    return AlertStream(request, _STREAM)


async def post_acknowledge(request: web.Request) -> web.Response:
    """From `/alerts` without JavaScript, and from the call's own page with a note."""
    call_id = request.match_info["id"]
    call = await store_calls.call_to_change(request[SESSION], request[ACCOUNT].id, call_id)
    if call is None:
        raise NotFound("This account has no such call.")
    done = await acknowledge(request[SESSION], request[ACTOR], call, note=await typed(request, "note"))
    back = "/alerts" if await typed(request, "from") == "alerts" else f"/calls/{call.id}"
    return see_other(back, "acknowledged" if done.is_first else "acknowledged-before")


_STREAM = Route("GET", "/alerts/stream", get_alert_stream, Scope.CALLS_READ, Event.EMERGENCY_CALL_FOLLOW)
ROUTES = (
    Route("GET", "/alerts", get_alerts, Scope.CALLS_READ, Event.EMERGENCY_CALL_LIST),
    _STREAM,
    Route("POST", "/calls/{id}/acknowledge", post_acknowledge, Scope.CALLS_WRITE, Event.EMERGENCY_CALL_ACKNOWLEDGE),
)
