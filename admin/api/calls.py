"""`/api/v1/emergency-calls` and `/api/v1/notifications`: what was dialled, how it left, who was told."""

from collections.abc import Sequence
from typing import Annotated, Any

from aiohttp import web
from pydantic import AfterValidator, StringConstraints
from sqlalchemy import ColumnElement

from admin.api import answered, body_or_default, no_query, row_named
from admin.api.models import Answer, Body, Instant, any_json
from admin.api.paging import PAGE_QUERIES, list_rows, page_asked, plainly
from admin.call_export import CSV, JSON_LINES, exported
from admin.call_filters import CALL_FILTERS, CALL_QUERIES, api_filters
from admin.context import ACTOR, SESSION
from admin.pages.form import gathered, told_together
from admin.routes import Operation, Query, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.e911 import notify, store
from engine.e911.acknowledging import MAX_NOTE_CHARS, acknowledge
from engine.e911.masking import without_credentials
from engine.e911.store_calls import CallFilters, conditions_of
from engine.errors import FieldFault, Invalid
from engine.models import CallKind, EmergencyCall, Notification, NotificationState

STATE = Query("state", {"enum": [state.value for state in NotificationState]}, "Only those in that state.")


Masked = Annotated[str, AfterValidator(without_credentials)]  # records of builds that kept credentials


class CallAnswer(Answer):
    """A call as it left. `verdict`: every source that was asked for the location, and what was taken."""

    id: str
    pbx_id: str | None
    call_id: str
    dialed: str
    kind: CallKind
    caller: dict[str, Any] = any_json({"type": "object"})
    location: dict[str, Any] | None
    location_source: str
    verdict: list[dict[str, Any]]
    flags: list[str]
    elin: str | None
    trunk_id: str | None
    outcome: str
    status_code: int | None
    received_at: Instant
    sent_at: Instant
    answered_at: Instant | None
    ended_at: Instant | None
    recorded_at: Instant
    acknowledged_at: Instant | None
    acknowledged_by: str | None
    acknowledgement_note: str | None


class AttemptAnswer(Answer):
    number: int
    trunk_id: str
    trunk_name: str
    hop: str
    with_location: bool
    started_at: Instant
    ended_at: Instant | None
    status_code: int | None
    outcome: str


class AttemptDetail(AttemptAnswer):
    """`invite`: what this trunk was sent, where it is not the first one; that stands with the call."""

    invite: Masked | None


class NotificationAnswer(Answer):
    """`because`: the recipient stands with the account, with the location, or both."""

    id: str
    emergency_call_id: str
    recipient: str
    channel: str
    because: str
    subject: str
    state: NotificationState
    tries: int
    last_error: str | None
    created_at: Instant
    next_try_at: Instant
    sent_at: Instant | None


class NotificationDetail(NotificationAnswer):
    body: str


class CallbackAnswer(Answer):
    """A call that came in for the caller's number. `psap`: it says it is from responders, and came from a trunk."""

    id: str
    number: str
    from_uri: str
    pbx_id: str | None
    target: str
    psap: bool
    orphan: bool
    outcome: str
    status_code: int | None
    received_at: Instant
    ended_at: Instant | None


class EscalationAnswer(Answer):
    """A step that was taken because nobody had acknowledged the call. `told`: addresses, and names of chats."""

    step: int
    at: str
    told: list[str]


class CallDetail(CallAnswer):
    """With its tries at trunks, its notifications, calls back, and the INVITE as it was sent."""

    peer: dict[str, Any] = any_json({"type": "object"})
    attempts: list[AttemptDetail]
    notifications: list[NotificationAnswer]
    callbacks: list[CallbackAnswer]
    escalations: list[EscalationAnswer]
    escalation_due_at: Instant | None
    invite: Masked | None


class Acknowledgement(Body):
    note: Annotated[str, StringConstraints(max_length=MAX_NOTE_CHARS)] = ""


class AcknowledgementAnswer(Answer):
    """`is_first` false: somebody had acknowledged the call before, and who and when that was stands here."""

    id: str
    is_first: bool
    acknowledged_at: Instant
    acknowledged_by: str
    acknowledgement_note: str | None


async def list_emergency_calls(request: web.Request) -> web.Response:
    with told_together() as faults:
        with gathered(faults):
            page_asked(request, *CALL_FILTERS)
        filters = api_filters(request)
    conditions = conditions_of(filters)
    return await list_rows(
        request, EmergencyCall, plainly(CallAnswer.model_validate), *conditions, newest_first=True, filters=CALL_FILTERS
    )


async def post_acknowledge(request: web.Request) -> web.Response:
    no_query(request)
    call = await row_named(request, EmergencyCall, to_change=True)
    note = (await body_or_default(request, Acknowledgement)).note
    done = await acknowledge(request[SESSION], request[ACTOR], call, note=note)
    stored = {name: getattr(call, name) for name in AcknowledgementAnswer.model_fields if name != "is_first"}
    return answered(AcknowledgementAnswer.model_validate(stored | {"is_first": done.is_first}))


async def export_calls_csv(request: web.Request) -> web.Response:
    return await exported(request, _filters_alone(request), "csv")


async def export_calls_json_lines(request: web.Request) -> web.Response:
    return await exported(request, _filters_alone(request), "jsonl")


def _filters_alone(request: web.Request) -> CallFilters:
    """The filters, and nothing else is read from the address. Raises Invalid: every bad one, and what is no filter."""
    with told_together() as faults:
        with gathered(faults):
            no_query(request, *CALL_FILTERS)
        return api_filters(request)


def _chosen(request: web.Request, query: Query, condition: ColumnElement[bool]) -> Sequence[ColumnElement[bool]]:
    """The condition, when the request asks for it.

    Raises:
        Invalid: a value the parameter does not have.
    """
    value = request.query.get(query.name)
    if value is None:
        return ()
    if value not in query.schema["enum"]:
        expected = f"Expected one of {', '.join(query.schema['enum'])}."
        raise Invalid("Some filters cannot be read.", fields=(FieldFault(query.name, expected),))
    return (condition,)


async def get_emergency_call(request: web.Request) -> web.Response:
    no_query(request)
    call = await row_named(request, EmergencyCall)
    attempts = await store.attempts_of(request[SESSION], call)
    told = await store.notifications_of(request[SESSION], call)
    back = await store.callbacks_of(request[SESSION], call)
    parts = {"attempts": attempts, "notifications": told, "callbacks": back}
    stored = {name: getattr(call, name) for name in CallDetail.model_fields if name not in parts}
    shown = CallDetail.model_validate(
        stored
        | {
            "attempts": [AttemptDetail.model_validate(attempt) for attempt in attempts],
            "notifications": [NotificationAnswer.model_validate(one) for one in told],
            "callbacks": [CallbackAnswer.model_validate(one) for one in back],
        }
    )
    return answered(shown)


async def list_notifications(request: web.Request) -> web.Response:
    with told_together() as faults:
        with gathered(faults):
            page_asked(request, STATE.name)
        conditions = _chosen(request, STATE, Notification.state == request.query.get("state"))
    return await list_rows(
        request, Notification, plainly(NotificationAnswer.model_validate), *conditions,
        newest_first=True, filters=("state",),
    )  # fmt: skip


async def get_notification(request: web.Request) -> web.Response:
    no_query(request)
    return answered(NotificationDetail.model_validate(await row_named(request, Notification)))


async def post_notification_resend(request: web.Request) -> web.Response:
    no_query(request)
    notification = await row_named(request, Notification)
    await notify.resend(request[SESSION], request[ACTOR], notification)
    return answered(NotificationDetail.model_validate(notification))


_READ, _WRITE = Scope.CALLS_READ, Scope.CALLS_WRITE
ROUTES = (
    Route(
        "GET", "/api/v1/emergency-calls", list_emergency_calls, _READ, Event.EMERGENCY_CALL_LIST,
        operation=Operation(
            "List emergency and test calls, newest first", answer=CallAnswer, is_list=True,
            queries=(*PAGE_QUERIES, *CALL_QUERIES),
        ),
    ),
    Route(
        "GET", "/api/v1/exports/emergency-calls/csv", export_calls_csv, _READ, Event.EMERGENCY_CALL_EXPORT,
        operation=Operation("Emergency calls as CSV, newest first", queries=CALL_QUERIES, media_type=CSV),
    ),
    Route(
        "GET", "/api/v1/exports/emergency-calls/jsonl", export_calls_json_lines, _READ, Event.EMERGENCY_CALL_EXPORT,
        operation=Operation("Emergency calls as JSON Lines, newest first", queries=CALL_QUERIES, media_type=JSON_LINES),
    ),
    Route(
        "POST", "/api/v1/emergency-calls/{id}/acknowledge", post_acknowledge, _WRITE,
        Event.EMERGENCY_CALL_ACKNOWLEDGE, on_display=True,
        operation=Operation(
            "Acknowledge a call: the first one counts", body=Acknowledgement, body_optional=True,
            answer=AcknowledgementAnswer,
        ),
    ),
    Route(
        "GET", "/api/v1/emergency-calls/{id}", get_emergency_call, _READ, Event.EMERGENCY_CALL_READ,
        operation=Operation("One call", answer=CallDetail),
    ),
    Route(
        "GET", "/api/v1/notifications", list_notifications, _READ, Event.NOTIFICATION_LIST,
        operation=Operation(
            "List notifications, newest first", answer=NotificationAnswer, is_list=True,
            queries=(*PAGE_QUERIES, STATE),
        ),
    ),
    Route(
        "GET", "/api/v1/notifications/{id}", get_notification, _READ, Event.NOTIFICATION_READ,
        operation=Operation("One notification", answer=NotificationDetail),
    ),
    Route(
        "POST", "/api/v1/notifications/{id}/resend", post_notification_resend, _WRITE, Event.NOTIFICATION_RESEND,
        operation=Operation("Send a notification again", answer=NotificationDetail),
    ),
)  # fmt: skip
