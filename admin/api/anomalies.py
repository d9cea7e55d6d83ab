"""`/api/v1/anomalies`: what in the logs is unlike this account, and dismissing it."""

from aiohttp import web

from admin.api import answered, no_query
from admin.api.models import Instant, StampedAnswer
from admin.api.paging import PAGE_QUERIES, list_rows, page_asked, plainly
from admin.context import ACCOUNT, ACTOR, RESOURCE, SESSION
from admin.pages.form import told_together
from admin.routes import Operation, Query, Route
from engine.accounts import anomaly_watch, store_anomalies
from engine.accounts.scopes import Scope
from engine.audit.anomalies import AnomalyKind
from engine.audit.events import Event
from engine.errors import FieldFault
from engine.models import Anomaly


class AnomalyAnswer(StampedAnswer):
    """A hint. `evidence`: what it was noticed by; `query`: the entries of the audit log it rests on."""

    kind: AnomalyKind
    at: Instant
    actor_id: str
    actor_name: str
    ip: str
    headline: str
    evidence: list[str]
    query: str
    dismissed_at: Instant | None
    dismissed_by: str
    mailed_at: Instant | None


async def list_anomalies(request: web.Request) -> web.Response:
    wanted = request.query.get("dismissed")
    with told_together() as faults:
        if wanted not in {None, "true", "false"}:
            faults.append(FieldFault("dismissed", "Expected true or false."))
        page_asked(request, "dismissed")
    states = {"true": Anomaly.dismissed_at.is_not(None), "false": Anomaly.dismissed_at.is_(None)}
    conditions = () if wanted is None else (states[wanted],)
    return await list_rows(
        request, Anomaly, plainly(AnomalyAnswer.model_validate), *conditions, newest_first=True, filters=("dismissed",)
    )


async def _anomaly(request: web.Request) -> Anomaly:
    no_query(request)
    row = await store_anomalies.anomaly_by_id(request[SESSION], request[ACCOUNT].id, request.match_info["id"])
    request[RESOURCE] = ("anomaly", row.id, row.headline)
    return row


async def get_anomaly(request: web.Request) -> web.Response:
    return answered(AnomalyAnswer.model_validate(await _anomaly(request)))


async def post_dismiss(request: web.Request) -> web.Response:
    row = await _anomaly(request)
    anomaly_watch.dismiss(request[SESSION], request[ACTOR], row)
    await request[SESSION].flush()
    return answered(AnomalyAnswer.model_validate(row))


ROUTES = (
    Route(
        "GET", "/api/v1/anomalies", list_anomalies, Scope.AUDIT_READ, Event.ANOMALY_LIST,
        operation=Operation(
            "List hints, newest first", answer=AnomalyAnswer, is_list=True,
            queries=(
                *PAGE_QUERIES,
                Query("dismissed", {"enum": ["true", "false"]}, "Those that somebody dismissed, or those nobody did."),
            ),
        ),
    ),
    Route(
        "GET", "/api/v1/anomalies/{id}", get_anomaly, Scope.AUDIT_READ, Event.ANOMALY_READ,
        operation=Operation("One hint", answer=AnomalyAnswer),
    ),
    Route(
        "POST", "/api/v1/anomalies/{id}/dismiss", post_dismiss, Scope.AUDIT_WRITE, Event.ANOMALY_DISMISS,
        operation=Operation("Dismiss a hint", answer=AnomalyAnswer),
    ),
)  # fmt: skip
