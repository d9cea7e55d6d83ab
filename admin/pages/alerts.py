"""Alerts: the front desk's page. Every emergency call as it happens, with a sound until somebody acknowledges it."""

from aiohttp import web

from admin.alert_stream import AlertStream, drawn, rings
from admin.auth import set_cookie
from admin.context import ACCOUNT, ACTOR, BROWSER, RESOURCE, SCOPES, SESSION, USER
from admin.pages.form import see_other, typed
from admin.render import render, zone_of
from admin.routes import Route
from engine.accounts.displays import become_display, is_display
from engine.accounts.scopes import Scope
from engine.accounts.store import DISPLAY_FOR
from engine.audit.events import Event
from engine.db import utc_now
from engine.e911 import store_calls
from engine.e911.acknowledging import acknowledge
from engine.errors import Forbidden, NotFound


async def get_alerts(request: web.Request) -> web.Response:
    account, now = request[ACCOUNT], utc_now()
    calls = await store_calls.calls_to_watch(request[SESSION], account.id, now)
    can_acknowledge = Scope.CALLS_WRITE in request[SCOPES]
    return render(
        request,
        "alerts.html.j2",
        calls=[drawn(call, zone_of(account), account.country, can_acknowledge=can_acknowledge) for call in calls],
        ringing=sum(rings(call, now) for call in calls),
        now=now,
        is_display=is_display(request.get(BROWSER)),
        display_days=DISPLAY_FOR.days,
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


async def post_display(request: web.Request) -> web.Response:
    """Turn this browser into one that shows alerts for weeks and can do nothing else."""
    browser = request.get(BROWSER)
    if browser is None:
        raise Forbidden("An API key has no browser to turn into a display.")
    cookie = await become_display(request[SESSION], request[ACTOR], request[USER], browser)
    response = see_other("/alerts", "display")
    set_cookie(request, response, cookie, max_age_s=int(DISPLAY_FOR.total_seconds()))  # a kiosk's browser restarts
    return response


_STREAM = Route(
    "GET", "/alerts/stream", get_alert_stream, Scope.CALLS_READ, Event.EMERGENCY_CALL_FOLLOW, on_display=True
)
ROUTES = (
    Route("GET", "/alerts", get_alerts, Scope.CALLS_READ, Event.EMERGENCY_CALL_LIST, on_display=True),
    _STREAM,
    Route("POST", "/alerts/display", post_display, Scope.CALLS_WRITE, Event.ALERT_DISPLAY_CREATE, step_up=True),
    Route(
        "POST", "/calls/{id}/acknowledge", post_acknowledge, Scope.CALLS_WRITE, Event.EMERGENCY_CALL_ACKNOWLEDGE,
        on_display=True,
    ),
)  # fmt: skip
