"""`/api/v1/imports` and `/api/v1/exports`: phones and locations as CSV, each row checked before anything is stored."""

import asyncio
from dataclasses import dataclass

from aiohttp import web

from admin.api import answered, no_query
from admin.api.models import Answer
from admin.auth import ScopeMissing, prepared
from admin.context import ACCOUNT, ACTOR, DATABASE, RESOURCE, SCOPES, SESSION
from admin.importing import Checked, Kind, Prepared, carry_out, check, export, prepare
from admin.problems import UnsupportedMediaType
from admin.routes import Operation, Query, Route
from engine import csv_table
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.audit.record import record
from engine.errors import FieldFault, Invalid

CSV = "text/csv"
_WORDS = {"true": True, "false": False}
_KINDS = [kind.value for kind in Kind]
_QUERIES = (
    Query("kind", {"enum": _KINDS, "default": "phones"}, "What the rows are."),
    Query("dry_run", {"type": "boolean", "default": False}, "Only say what would happen."),
)


class CellFaultAnswer(Answer):
    """`row`: as a spreadsheet counts, the header is 1; 0 is the file. `column`: its heading."""

    row: int
    column: str
    detail: str


class ImportRow(Answer):
    """`name`: a phone's MAC address, a location's name. `changes`: the columns that differ from what is stored."""

    row: int
    name: str
    label: str
    outcome: str
    changes: list[str]
    faults: list[CellFaultAnswer]


class ImportReport(Answer):
    """What was done with each row, or with `dry_run` what would be. `bulk_id` names the entries of the audit log."""

    kind: str
    dry_run: bool
    new: int
    changed: int
    unchanged: int
    errors: int
    rows: list[ImportRow]
    faults: list[CellFaultAnswer]
    bulk_id: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A table that came in and what it would do. `made`: what it writes; None: it is only looked at."""

    checked: Checked
    made: Prepared | None
    report: ImportReport


@dataclass(frozen=True, slots=True)
class Table:
    """A table on its way out."""

    kind: Kind
    body: bytes


async def check_import(request: web.Request) -> Asked:
    """Before the transaction: reading and checking a table takes a second, and the database has one writer."""
    no_query(request, "kind", "dry_run")
    kind, dry = request.query.get("kind", "phones"), request.query.get("dry_run", "false").lower()
    faults = [] if kind in _KINDS else [FieldFault("kind", f"Expected {' or '.join(_KINDS)}.")]
    faults += [] if dry in _WORDS else [FieldFault("dry_run", "Expected true or false.")]
    if faults:
        raise Invalid("This import cannot be made.", fields=tuple(faults))
    may(request, Kind(kind), "write")
    if request.content_type not in {CSV, "application/octet-stream"}:
        raise UnsupportedMediaType(
            f"Expected {CSV}, got {request.content_type}. Save the table as CSV UTF-8; send that."
        )
    database, account = request.app[DATABASE], request[ACCOUNT]
    checked = await check(database, account, Kind(kind), await request.read())
    made = None if _WORDS[dry] else await prepare(database, account, checked)
    return Asked(checked, made, await asyncio.to_thread(_report, checked, is_dry=made is None))


def may(request: web.Request, kind: Kind, right: str) -> None:
    """Locations ask for their own scope beside the route's. Raises ScopeMissing."""
    scope = Scope(f"{kind.value}:{right}")
    if scope not in request[SCOPES]:
        raise ScopeMissing(f"This takes the scope {scope}. Ask an owner of the account for it.")


async def post_import(request: web.Request) -> web.Response:
    asked = prepared(request, Asked)
    checked, report = asked.checked, asked.report
    if asked.made is None:
        counts = {name: checked.count(name) for name in ("new", "changed", "unchanged", "error")}
        resource = ("import", "import", checked.kind.value)
        record(request[SESSION], request[ACTOR], Event.IMPORT_CHECK, resource=resource, details=counts)
    else:
        request[RESOURCE] = ("import", "import", checked.kind.value)
        bulk_id = await carry_out(request[SESSION], request[ACTOR], request[ACCOUNT], asked.made)
        report = report.model_copy(update={"bulk_id": bulk_id})
    return answered(report)


def _report(checked: Checked, *, is_dry: bool) -> ImportReport:
    return ImportReport(
        kind=checked.kind.value, dry_run=is_dry, new=checked.count("new"), changed=checked.count("changed"),
        unchanged=checked.count("unchanged"), errors=checked.count("error"),
        rows=[ImportRow.model_validate(row) for row in checked.rows],
        faults=[CellFaultAnswer.model_validate(fault) for fault in checked.faults], bulk_id=None,
    )  # fmt: skip


async def write_phones(request: web.Request) -> Table:
    """Before the transaction: an export reads everything there is, and the database has one writer."""
    no_query(request)
    return Table(Kind.PHONES, await export(request.app[DATABASE], request[ACCOUNT], Kind.PHONES))


async def write_locations(request: web.Request) -> Table:
    """As `write_phones`."""
    no_query(request)
    return Table(Kind.LOCATIONS, await export(request.app[DATABASE], request[ACCOUNT], Kind.LOCATIONS))


async def get_exported_phones(request: web.Request) -> web.Response:
    return download(request)


async def get_exported_locations(request: web.Request) -> web.Response:
    return download(request)


def download(request: web.Request) -> web.Response:
    """The prepared table as a file; the export is an entry of the audit log."""
    table = prepared(request, Table)
    resource = ("import", "export", table.kind.value)
    record(request[SESSION], request[ACTOR], Event.IMPORT_EXPORT, resource=resource)
    headers = {"Content-Disposition": f'attachment; filename="{table.kind.value}.csv"'}
    return web.Response(body=table.body, content_type=CSV, charset="utf-8", headers=headers)


ROUTES = (
    Route(
        "POST", "/api/v1/imports", post_import, Scope.PHONES_WRITE, Event.IMPORT_CREATE, prepare=check_import,
        max_body_bytes=csv_table.MAX_BYTES + 1,
        operation=Operation(
            "Import phones or locations from CSV, all or nothing", answer=ImportReport, queries=_QUERIES,
            body_media=CSV, errors=(409, 415),
        ),
    ),
    Route(
        "GET", "/api/v1/exports/phones", get_exported_phones, Scope.PHONES_READ, Event.IMPORT_EXPORT,
        prepare=write_phones,
        operation=Operation("Every phone as CSV, secrets left out", media_type=CSV),
    ),
    Route(
        "GET", "/api/v1/exports/locations", get_exported_locations, Scope.LOCATIONS_READ, Event.IMPORT_EXPORT,
        prepare=write_locations,
        operation=Operation("Every location as CSV", media_type=CSV),
    ),
)  # fmt: skip
