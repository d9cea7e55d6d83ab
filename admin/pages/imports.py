"""Import and export: a table is sent, checked row by row, looked at, and then stored as a whole or not at all."""

from dataclasses import dataclass

from aiohttp import web

from admin.api.imports import CSV, download, may, write_locations, write_phones
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, DATABASE, SESSION, UPLOADS
from admin.importing import Checked, Kind, Prepared, ReportRow, carry_out, check, place_of, prepare, report_table
from admin.page_addresses import one_of
from admin.pages.form import FORM, Form, see_other, sentence_of
from admin.render import render
from admin.routes import Route
from admin.uploads import Kept, form_posted
from engine import csv_table
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.audit.record import record
from engine.db import utc_now
from engine.errors import EngineError, FieldFault, Invalid
from engine.provisioning.imports import LINE_FIELDS, PHONE_COLUMNS
from engine.provisioning.settings import CHECKS

SHOWN_FAULTS = 200
SHOWN_ROWS = 100
MAX_FORM_BYTES = csv_table.MAX_BYTES + (64 << 10)


@dataclass(frozen=True, slots=True)
class Sent:
    """A table as it was sent, checked."""

    key: str
    kept: Kept
    checked: Checked


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A table that is stored now."""

    sent: Sent
    made: Prepared


async def get_import(request: web.Request) -> web.Response:
    return await _form_page(request, None)


async def _form_page(request: web.Request, error: EngineError | None) -> web.Response:
    kind = one_of(request, "kind", [one.value for one in Kind])
    values = {"file": "", "kind": kind or Kind.PHONES.value}
    # what was typed is not read back: a form with a file comes in parts, and a browser keeps no chosen file
    fields = error.fields if isinstance(error, Invalid) else ()
    form = Form(values, "" if error is None else sentence_of(error), fields)
    return render(
        request, "import.html.j2", error=error, form=form,
        phone_columns=PHONE_COLUMNS, line_fields=LINE_FIELDS, settings=list(CHECKS),
    )  # fmt: skip


async def check_sent(request: web.Request) -> Sent:
    """Before the transaction: see `check_import` of the API."""
    texts, files = await form_posted(request)
    name, body = files.get("file", ("", b""))
    if not body:
        raise Invalid("No file was chosen.", fields=(FieldFault("file", "Choose a CSV file."),))
    kind = Kind(texts.get("kind", "")) if texts.get("kind") in {one.value for one in Kind} else Kind.PHONES
    may(request, kind, "write")
    account = request[ACCOUNT]
    checked = await check(request.app[DATABASE], account, kind, body)
    kept = Kept(account.id, request[ACTOR].id, name, kind.value, body, utc_now().timestamp())
    return Sent(request.app[UPLOADS].keep(kept), kept, checked)


async def post_import(request: web.Request) -> web.Response:
    """Show what the table would do; nothing is stored."""
    request[FORM] = _form_page
    sent = prepared(request, Sent)
    counts = {name: sent.checked.count(name) for name in ("new", "changed", "unchanged", "error")}
    resource = ("import", "import", sent.checked.kind.value)
    record(request[SESSION], request[ACTOR], Event.IMPORT_CHECK, resource=resource, details=counts)
    order = {"error": 0, "changed": 1, "new": 2}
    rows = sorted((row for row in sent.checked.rows if row.outcome in order), key=lambda row: order[row.outcome])
    return render(
        request, "import_check.html.j2", sent=sent, counts=counts, place_of=place_of,
        faults=sent.checked.faults[:SHOWN_FAULTS], rows=_without_faults(rows)[:SHOWN_ROWS], more_rows=len(rows),
        shown_rows=SHOWN_ROWS, shown_faults=SHOWN_FAULTS,
    )  # fmt: skip


def _without_faults(rows: list[ReportRow]) -> list[ReportRow]:
    return [row for row in rows if row.outcome != "error"]


async def check_again(request: web.Request) -> Sent:
    """Before the transaction: what was shown is held once more against what is stored now."""
    key = request.match_info["key"]
    kept = request.app[UPLOADS].take(key, request[ACCOUNT].id, request[ACTOR].id)
    may(request, Kind(kept.kind), "write")
    return Sent(key, kept, await check(request.app[DATABASE], request[ACCOUNT], Kind(kept.kind), kept.body))


async def prepare_again(request: web.Request) -> Confirmed:
    """As `check_again`, and all that is written made ready."""
    sent = await check_again(request)
    return Confirmed(sent, await prepare(request.app[DATABASE], request[ACCOUNT], sent.checked))


async def post_import_confirm(request: web.Request) -> web.Response:
    request[FORM] = _form_page
    confirmed = prepared(request, Confirmed)
    sent = confirmed.sent
    await carry_out(request[SESSION], request[ACTOR], request[ACCOUNT], confirmed.made)
    request.app[UPLOADS].forget(sent.key)
    return see_other("/phones" if sent.checked.kind is Kind.PHONES else "/locations", "imported")


async def get_import_report(request: web.Request) -> web.Response:
    """Every row and every fault, as a table."""
    sent = prepared(request, Sent)
    resource = ("import", "import", sent.checked.kind.value)
    record(request[SESSION], request[ACTOR], Event.IMPORT_CHECK, resource=resource)
    headers = {"Content-Disposition": 'attachment; filename="import-report.csv"'}
    return web.Response(body=report_table(sent.checked), content_type=CSV, charset="utf-8", headers=headers)


async def get_phones_csv(request: web.Request) -> web.Response:
    return download(request)


async def get_locations_csv(request: web.Request) -> web.Response:
    return download(request)


_WRITE = Scope.PHONES_WRITE
ROUTES = (
    Route("GET", "/phones/import", get_import, _WRITE, Event.FORM_READ),
    Route(
        "POST", "/phones/import", post_import, _WRITE, Event.IMPORT_CHECK, prepare=check_sent,
        max_body_bytes=MAX_FORM_BYTES,
    ),
    Route("POST", "/phones/import/{key}", post_import_confirm, _WRITE, Event.IMPORT_CREATE, prepare=prepare_again),
    Route(
        "GET", "/phones/import/{key}/report.csv", get_import_report, _WRITE, Event.IMPORT_CHECK, prepare=check_again
    ),
    Route(
        "GET", "/phones/export.csv", get_phones_csv, Scope.PHONES_READ, Event.IMPORT_EXPORT, prepare=write_phones
    ),
    Route(
        "GET", "/locations/export.csv", get_locations_csv, Scope.LOCATIONS_READ, Event.IMPORT_EXPORT,
        prepare=write_locations,
    ),
)  # fmt: skip
