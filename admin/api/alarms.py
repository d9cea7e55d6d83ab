"""`/api/v1/alarms`: what needs a person, as Home tells it to whoever asks, and dismissing what can be."""

import datetime as dt

from aiohttp import web

from admin.api import answered, body_of, no_query
from admin.api.models import Answer, Body, Instant, InstantIn
from admin.context import ACCOUNT, ACTOR, SESSION
from admin.pages.home import alarms_shown
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.e911.dismissing import dismiss


class AlarmAnswer(Answer):
    """`href`: the page where it is mended. `until` null: it goes when it is mended and cannot be dismissed."""

    kind: str
    text: str
    is_urgent: bool
    href: str
    until: Instant | None


class AlarmList(Answer):
    data: list[AlarmAnswer]


class AlarmDismiss(Body):
    """`until`: that of the alarm that was read. What happens after it is told again."""

    until: InstantIn


class AlarmDismissalAnswer(Answer):
    kind: str
    until: Instant
    at: Instant
    by: str


async def list_alarms(request: web.Request) -> web.Response:
    no_query(request)
    data = [
        AlarmAnswer(
            kind=alarm.kind, text=alarm.text, is_urgent=alarm.is_urgent, href=alarm.href, until=_told(alarm.until)
        )
        for alarm in await alarms_shown(request)
    ]
    return answered(AlarmList(data=data))


def _told(until: dt.datetime | None) -> dt.datetime | None:
    """In whole milliseconds, as answers tell times, and not before: what comes back must cover what was shown."""
    if until is None:
        return None
    return until + dt.timedelta(microseconds=-until.microsecond % 1000)


async def post_alarm_dismiss(request: web.Request) -> web.Response:
    no_query(request)
    body = await body_of(request, AlarmDismiss)
    kind, until = request.match_info["kind"], body.until.isoformat()
    row = await dismiss(request[SESSION], request[ACTOR], request[ACCOUNT].id, kind, until)
    return answered(AlarmDismissalAnswer.model_validate(row))


ROUTES = (
    Route(
        "GET", "/api/v1/alarms", list_alarms, Scope.CALLS_READ, Event.ALARM_LIST,
        operation=Operation("What needs a person, urgent things first", answer=AlarmList),
    ),
    Route(
        "POST", "/api/v1/alarms/{kind}/dismiss", post_alarm_dismiss, Scope.AUDIT_WRITE, Event.ALARM_DISMISS,
        operation=Operation("Dismiss an alarm", body=AlarmDismiss, answer=AlarmDismissalAnswer),
    ),
)  # fmt: skip
