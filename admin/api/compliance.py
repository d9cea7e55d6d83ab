"""`/api/v1/compliance-report`: what 47 CFR § 9.16(b) asks of each telephone, and what is known of it now."""

from collections import Counter
from typing import Annotated

from aiohttp import web
from pydantic import Field

from admin.api import answered, no_query
from admin.api.models import Answer, Instant
from admin.api.paging import PAGE_QUERIES, page, page_asked
from admin.compliance_export import CSV, JSON_LINES, Made, basis_of, exported, made_now
from admin.compliance_filters import FILTERS, QUERIES, api_filters
from admin.context import ACCOUNT, COUNTS, MAIL_SERVER, SESSION
from admin.pages.form import gathered, refuse
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.e911 import compliance_list, store
from engine.e911.compliance import Verdict, told_whole
from engine.e911.compliance_list import Count, Filters
from engine.e911.store_compliance import Place
from engine.errors import FieldFault
from engine.models import Placement

Kind = Placement | Annotated[str, Field(pattern="^$")]


class DeviceAnswer(Answer):
    """A phone's key with its line, a phone without lines, or a line on no phone. Nothing here is legal advice: a
    verdict says what these records show, and `unknown` what they cannot show.
    """

    device_id: str
    mac: str
    vendor: str
    model: str
    label: str
    key: int | None
    line_id: str
    extension: str
    line_name: str
    sip_user: str
    placement: Kind
    placement_by: str
    placement_why: str
    verdict: Verdict
    country: str
    location_id: str
    location_name: str
    civic_address: dict[str, str]
    location_source: str
    location_why: str
    location_age_s: int | None
    location_flags: list[str]
    evidence: list[str]
    location_status: str
    validated_at: Instant | None
    validated_by: str
    trunk: str
    callback_number: str
    callback_from: str
    dial_proof: str
    dial_numbers: list[str]
    dial_file: str
    dial_etag: str
    dial_fetched_at: Instant | None
    recipients: list[str]
    webhooks: list[str]
    test_tried_at: Instant | None
    test_outcome: str
    test_detail: str
    test_passed_at: Instant | None
    call_at: Instant | None
    call_kind: str
    call_outcome: str
    last_fetch_at: Instant | None
    phone_status: str
    direct_dialing: Verdict
    direct_dialing_paragraph: str
    direct_dialing_why: str
    direct_dialing_todo: str
    notification: Verdict
    notification_paragraph: str
    notification_why: str
    notification_todo: str
    dispatchable_location: Verdict
    dispatchable_location_paragraph: str
    dispatchable_location_why: str
    dispatchable_location_todo: str


class ReportSummaryAnswer(Answer):
    """How many devices have which verdict, by the last walk through all of them; another one begins with this request
    when something changed. `counted_at` null: the first is still under way, and the numbers are those it has so far.
    """

    made_at: Instant
    product: str
    checkpoint: str
    checkpoint_signature: str
    counted_at: Instant | None
    devices: int
    verdicts: dict[str, int]
    direct_dialing: dict[str, int]
    notification: dict[str, int]
    dispatchable_location: dict[str, int]


async def list_report(request: web.Request) -> web.Response:
    faults: list[FieldFault] = []
    asked, filters = None, Filters()
    with gathered(faults):
        asked = page_asked(request, *FILTERS)
    with gathered(faults):
        filters = api_filters(request.query)
    refuse(faults)
    assert asked is not None
    after = Place.read(asked.after) if asked.after is not None else None
    found = await compliance_list.page(
        request[SESSION], await basis_of(request), filters, after=after, limit=asked.limit,
        count=request.app[COUNTS].kept(request[ACCOUNT].id),
    )  # fmt: skip
    rows = [DeviceAnswer.model_validate(told_whole(row)) for row in found.rows]
    return page(request, rows, None if found.following is None else str(found.following))


async def get_report_summary(request: web.Request) -> web.Response:
    no_query(request)
    made = await made_now(request)
    return answered(_summary(made, await counted(request)))


async def counted(request: web.Request) -> Count | None:
    """The newest count there is, whole or growing; another one begins when it does not hold any more."""
    counts, account = request.app[COUNTS], request[ACCOUNT]
    revision = await store.revision_of(request[SESSION], account.id)
    counts.want(account, revision, may_mail=bool(request.app[MAIL_SERVER].settings.host))
    return counts.kept(account.id) or counts.going_on(account.id)


def _summary(made: Made, count: Count | None) -> ReportSummaryAnswer:
    parts: dict[str, Counter[str]] = {} if count is None else count.paragraphs

    def of(name: str) -> dict[str, int]:
        return {verdict.value: parts[name][verdict.value] if name in parts else 0 for verdict in Verdict}

    verdicts: Counter[str] = Counter() if count is None else count.verdicts
    return ReportSummaryAnswer(
        made_at=made.at, product=made.product, checkpoint=made.checkpoint, checkpoint_signature=made.signature,
        counted_at=count.at if count is not None and count.is_whole else None,
        devices=0 if count is None else count.devices,
        verdicts={verdict.value: verdicts[verdict.value] for verdict in Verdict},
        direct_dialing=of("direct_dialing"), notification=of("notification"), dispatchable_location=of("location"),
    )  # fmt: skip


async def export_report_csv(request: web.Request) -> web.Response:
    return await exported(request, _filters_alone(request), "csv")


async def export_report_json_lines(request: web.Request) -> web.Response:
    return await exported(request, _filters_alone(request), "jsonl")


def _filters_alone(request: web.Request) -> Filters:
    """The filters, and nothing else is read from the address. Raises Invalid: every bad one, and what is no filter."""
    faults: list[FieldFault] = []
    filters = Filters()
    with gathered(faults):
        no_query(request, *FILTERS)
    with gathered(faults):
        filters = api_filters(request.query)
    refuse(faults)
    return filters


_READ = Scope.CALLS_READ
ROUTES = (
    Route(
        "GET", "/api/v1/compliance-report", list_report, _READ, Event.COMPLIANCE_REPORT_READ,
        operation=Operation(
            "What 47 CFR § 9.16(b) asks of each telephone, and what is known of it", answer=DeviceAnswer, is_list=True,
            queries=(*PAGE_QUERIES, *QUERIES),
        ),
    ),
    Route(
        "GET", "/api/v1/compliance-report/summary", get_report_summary, _READ, Event.COMPLIANCE_REPORT_READ,
        operation=Operation("How many telephones have which verdict", answer=ReportSummaryAnswer),
    ),
    Route(
        "GET", "/api/v1/exports/compliance-report/csv", export_report_csv, _READ, Event.COMPLIANCE_REPORT_EXPORT,
        operation=Operation("The report as CSV", queries=QUERIES, media_type=CSV),
    ),
    Route(
        "GET", "/api/v1/exports/compliance-report/jsonl", export_report_json_lines, _READ,
        Event.COMPLIANCE_REPORT_EXPORT,
        operation=Operation("The report as JSON Lines", queries=QUERIES, media_type=JSON_LINES),
    ),
)  # fmt: skip
