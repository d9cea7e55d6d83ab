"""The per-device report as a file: CSV for a spreadsheet, JSON Lines for a program, streamed in groups.

Every line says when it was made, by which version, and what the account's audit chain ended with then: a line that was
cut out of the file can still be held against the chain.
"""

import datetime as dt
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from aiohttp import web

from admin.audit_export import CHECKPOINT_HEADER
from admin.context import ACCOUNT, ACTOR, COUNTS, DATABASE, KEYS, MAIL_SERVER, RESOURCE, SESSION
from engine import csv_table
from engine.audit import checkpoints
from engine.audit.changes import rfc3339
from engine.audit.events import Event
from engine.audit.record import record
from engine.db import Database, utc_now
from engine.e911 import compliance_list, mail, store_compliance
from engine.e911.compliance import COLUMNS as OF_ROWS
from engine.e911.compliance import Row, told_whole
from engine.e911.compliance_list import Filters
from engine.e911.store_compliance import Basis

CSV = "text/csv"
JSON_LINES = "application/jsonl"
COLUMNS = ("made_at", "product", "checkpoint", "checkpoint_signature", *OF_ROWS)


@dataclass(frozen=True, slots=True)
class Made:
    """When a report was made and by what, and the end of the account's audit chain then; empty: it has none yet."""

    at: dt.datetime
    product: str
    seq: int = 0
    hash: str = ""
    signature: str = ""
    key: str = ""  # the fingerprint of the key that signed it

    @property
    def checkpoint(self) -> str:
        return f"{self.seq} {self.hash}" if self.hash else ""

    def columns(self) -> dict[str, Any]:
        return {
            "made_at": rfc3339(self.at), "product": self.product, "checkpoint": self.checkpoint,
            "checkpoint_signature": self.signature,
        }  # fmt: skip


def product() -> str:
    return f"Callpoint {version('callpoint')}"


async def made_now(request: web.Request) -> Made:
    """Of this moment, with the chain's end signed for it."""
    signer = checkpoints.signer_of(request.app[KEYS])
    signed = None
    if signer is not None:
        signed = await checkpoints.sign_head(request[SESSION], signer, request[ACCOUNT].id)
    if signed is None:
        return Made(utc_now(), product())
    key = checkpoints.fingerprint(signed.public_key)
    return Made(utc_now(), product(), signed.seq, signed.hash, signed.signature, key)


async def basis_of(request: web.Request) -> Basis:
    """What the account's rows rest on."""
    return await store_compliance.basis_of(
        request[SESSION], request[ACCOUNT], may_mail=bool(request.app[MAIL_SERVER].settings.host),
        applications=request.app[COUNTS].applications,
    )  # fmt: skip


async def exported(request: web.Request, filters: Filters, kind: str) -> web.Response:
    """The answer whose body is the file; what was asked for is audited."""
    resource = request[RESOURCE] = ("compliance_report", "export", kind)
    made, basis = await made_now(request), await basis_of(request)
    details = {"is_whole": filters.is_any, "checkpoint": made.checkpoint}
    record(request[SESSION], request[ACTOR], Event.COMPLIANCE_REPORT_EXPORT, resource=resource, details=details)
    headers = {"Content-Disposition": f'attachment; filename="e911-report-{made.at:%Y-%m-%d}.{kind}"'}
    if made.hash:
        headers[CHECKPOINT_HEADER] = f"{made.seq} {made.hash} {made.signature}"
    return web.Response(
        body=_file(request.app[DATABASE], basis, filters, made, is_csv=kind == "csv"),
        content_type=CSV if kind == "csv" else JSON_LINES, charset="utf-8", headers=headers,
    )  # fmt: skip


async def _file(
    database: Database, basis: Basis, filters: Filters, made: Made, *, is_csv: bool
) -> AsyncIterator[bytes]:
    if is_csv:
        yield csv_table.write(COLUMNS, [])
    async for rows in compliance_list.all_rows(database, basis, filters):
        told = [made.columns() | plain(row) for row in rows]
        if is_csv:
            yield csv_table.lines([_cells(row) for row in told])
        else:
            yield "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in told).encode("utf-8", "replace")


def plain(row: Row) -> dict[str, Any]:
    """The row's columns as JSON: times are RFC 3339 in UTC."""
    return {
        name: rfc3339(value) if isinstance(value, dt.datetime) else value for name, value in told_whole(row).items()
    }


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [_cell(name, row[name]) for name in COLUMNS]


def _cell(name: str, value: Any) -> str:
    if name == "civic_address":
        return ", ".join(mail.address_lines(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(map(str, value))
    return "" if value is None else str(value)
