"""Alarms of phones: what needs a person about them, kind by kind, the first of each with a link."""

from aiohttp import web

from admin.context import ACCOUNT, SESSION
from admin.render import render
from admin.routes import Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.provisioning.alarms import ADVICE, COUNT_CAP, summed
from engine.provisioning.store_alarms import alarm_groups

SHOWN = 50  # phones of one kind on the page; the number beside the heading counts all of them


async def get_phone_alarms(request: web.Request) -> web.Response:
    groups = await alarm_groups(request[SESSION], request[ACCOUNT].id, SHOWN)
    headings = {alarm.kind: alarm for alarm in summed({group.kind: group.count for group in groups})}
    return render(
        request, "phone_alarms.html.j2", groups=groups, headings=headings, advice=ADVICE, shown=SHOWN, cap=COUNT_CAP
    )


ROUTES = (Route("GET", "/phones/alarms", get_phone_alarms, Scope.PHONES_READ, Event.ALERT_LIST),)
