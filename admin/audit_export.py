"""The audit log as a file, streamed: CSV for people, JSON Lines for `callpoint audit verify`.

The rows are read in groups, each in a reading session of its own, after the request's transaction with the export's own
entry has committed: a file of any size takes the memory of one group and keeps no writer waiting. A second entry, a
part of the first one's request, says how the file ended: how many rows left, and whether all did. One without it was
broken off by the end of the process.

Entries that are left behind meanwhile are still read: their rows go `engine.retention.SETTLE` later, and no file takes
that long. Should some be gone all the same, the file is broken off and ends as a failure: nothing is left out unsaid.
"""

import asyncio
import ipaddress
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, fields
from typing import cast

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import AsyncIterablePayload
from sqlalchemy import inspect, select

from admin.context import ACCOUNT, ACTOR, DATABASE, KEYS, RESOURCE, SESSION
from admin.problems import DATABASE_ERRORS
from engine import csv_table
from engine.audit import checkpoints, store
from engine.audit.changes import rfc3339
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.audit.store import Filters
from engine.audit.store_beginnings import beginning_of
from engine.audit.verify import export_line
from engine.db import Database
from engine.errors import DatabaseAway
from engine.models import AuditBeginning, AuditEntry

GROUP = 1_000
LONGEST_S = 3_000.0  # less than engine.retention.SETTLE
CSV = "text/csv"
JSON_LINES = "application/jsonl"
CHECKPOINT_HEADER = "Callpoint-Audit-Checkpoint"  # beside the file: number, hash and signature of the chain's head
COLUMNS = (
    "seq", "time", "event", "category", "action", "outcome", "status", "reason", "actor_type", "actor_id", "actor_name",
    "actor_display_name", "resource_type", "resource_id", "resource_name", "ip", "request_id", "method", "route",
    "user_agent", "old_values", "new_values", "details", "hash",
)  # fmt: skip
_log = structlog.get_logger()


@dataclass(slots=True)
class Export:
    """One file on its way: whose it is, of which chain, and how much of it has left."""

    database: Database
    actor: Actor
    chain: str
    kind: str
    last: int  # the newest entry when it was asked for: what comes later is not in it
    began: float
    begin: AuditBeginning | None = None  # behind which the chain began then: it stays so for this file
    rows: int = 0
    bytes: int = 0

    async def end(self, *, is_whole: bool) -> None:
        """Say in the log how the file ended."""
        details = {"rows": self.rows, "bytes": self.bytes, "seconds": round(time.monotonic() - self.began, 3)}
        async with self.database.sessions.begin() as session:
            record(
                session, self.actor, Event.AUDIT_LOG_EXPORT_END, resource=("audit_log", "export", self.kind),
                outcome="success" if is_whole else "failure", reason=None if is_whole else "broken_off",
                bulk_id=self.actor.request_id, account_id=self.chain, details=details,
            )  # fmt: skip


class Incomplete(ConnectionError):
    """The file cannot be whole any more. To the reader it is a connection that ended before the body did."""


class _Body(AsyncIterablePayload):
    """The file's bytes; whatever becomes of them is in the log before the answer ends."""

    def __init__(self, parts: AsyncIterator[bytes], export: Export, content_type: str) -> None:
        super().__init__(parts, content_type=content_type)
        self._export = export

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        try:
            await super().write_with_length(writer, content_length)
        except BaseException:  # the reader left, the node stops, or the database went away in the middle
            try:
                await asyncio.shield(self._export.end(is_whole=False))
            except (*DATABASE_ERRORS, DatabaseAway) as exc:
                _log.warning("export_end_not_audited", request_id=self._export.actor.request_id, why=type(exc).__name__)
            raise
        await self._export.end(is_whole=True)


async def exported(request: web.Request, filters: Filters, kind: str) -> web.Response:
    """The answer whose body is the file; that it was asked for, and how it ended, are entries of the log."""
    session, account = request[SESSION], request[ACCOUNT]
    is_whole = filters == Filters()
    resource = request[RESOURCE] = ("audit_log", "export", kind)
    begin = await beginning_of(session, account.id)  # before the head: it may be left behind in between
    newest = await store.head(session, account.id)
    last = newest[0] if newest else 0
    details = {"is_whole": is_whole, "filters": _names(filters), "up_to": last}
    record(session, request[ACTOR], Event.AUDIT_LOG_EXPORT, resource=resource, details=details)
    signer = checkpoints.signer_of(request.app[KEYS])
    signed = None if signer is None else await checkpoints.sign_head(session, signer, account.id)
    make = _csv if kind == "csv" else _whole_lines if is_whole else _part_lines
    export = Export(request.app[DATABASE], request[ACTOR], account.id, kind, last, time.monotonic(), begin)
    body = _Body(make(export, filters, signed), export, f"{CSV if kind == 'csv' else JSON_LINES}; charset=utf-8")
    name = f"audit-log{'' if is_whole else '-part'}.{kind}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if signed is not None:
        headers[CHECKPOINT_HEADER] = f"{signed.seq} {signed.hash} {signed.signature}"
    return web.Response(body=body, headers=headers)


def _names(filters: Filters) -> list[str]:
    """Which filters narrow it; not what was typed into them, which may be a secret somebody looks for."""
    return [each.name for each in fields(Filters) if getattr(filters, each.name)]


async def _csv(export: Export, filters: Filters, _signed: checkpoints.Signed | None) -> AsyncIterator[bytes]:
    heading = csv_table.write(COLUMNS, [])
    yield heading
    export.bytes += len(heading)
    async for rows in _groups(export, filters):
        part = csv_table.lines([_cells(row) for row in rows])
        yield part
        export.rows, export.bytes = export.rows + len(rows), export.bytes + len(part)


async def _part_lines(export: Export, filters: Filters, signed: checkpoints.Signed | None) -> AsyncIterator[bytes]:
    """Entries that each hold in themselves, behind the checkpoint of the chain they were taken from."""
    if signed is not None:
        note = f"{checkpoints.checkpoint_line(checkpoints.row_of(signed))}\n".encode()
        yield note
        export.bytes += len(note)
    async for part in _lines(export, filters):
        yield part


async def _whole_lines(export: Export, filters: Filters, _signed: checkpoints.Signed | None) -> AsyncIterator[bytes]:
    async with export.database.sessions() as session:
        lines = [line async for line in checkpoints.checkpoint_lines(session, export.chain, export.last)]
    if export.begin is not None:
        lines.insert(0, checkpoints.beginning_line(export.begin))
    notes = "".join(f"{line}\n" for line in lines).encode()
    yield notes
    export.bytes += len(notes)
    async for part in _lines(export, filters):
        yield part


async def _lines(export: Export, filters: Filters) -> AsyncIterator[bytes]:
    async for rows in _groups(export, filters):
        part = "".join(f"{export_line(row)}\n" for row in rows).encode("utf-8", "surrogatepass")
        yield part
        export.rows, export.bytes = export.rows + len(rows), export.bytes + len(part)


async def _groups(export: Export, filters: Filters) -> AsyncIterator[list[AuditEntry]]:
    """What meets the filters, oldest first.

    Raises:
        Incomplete: it took too long, or rows are gone that belong into the file.
    """
    network = ipaddress.ip_network(filters.ip.strip(), strict=False) if store.is_network(filters.ip) else None
    after = 0 if export.begin is None else export.begin.seq
    columns = inspect(AuditEntry).columns  # the values alone: as objects a million of them take five times as long
    query = store.query_of(export.chain, filters).with_only_columns(*columns)
    while after < export.last:
        if time.monotonic() - export.began > LONGEST_S:
            raise Incomplete("the reader took too long")
        async with export.database.sessions() as session:
            until = min(export.last, after + GROUP * 20)
            narrowed = query.where(AuditEntry.seq > after, AuditEntry.seq <= until)
            found = (await session.execute(narrowed.order_by(AuditEntry.seq).limit(GROUP))).all()
            # rows go oldest first: while this one is there, none behind it was gone when they were read
            first = select(AuditEntry.seq).where(AuditEntry.chain == export.chain, AuditEntry.seq == after + 1)
            is_there = await session.scalar(first) is not None
        numbers = [row.seq for row in found]
        if not is_there or (filters == Filters() and numbers != list(range(after + 1, after + 1 + len(numbers)))):
            raise Incomplete("entries were removed before they were read")
        rows = cast("list[AuditEntry]", found)  # alike in all that is read of them
        after = rows[-1].seq if len(rows) == GROUP else until
        if network is not None:
            rows = [row for row in rows if store.is_inside(row.ip, network)]
        if rows:
            yield rows


def _cells(row: AuditEntry) -> list[str]:
    body = json.loads(row.entry)
    actor, target, request = body["actor"], body["resource"], body["request"]
    before = {name: change["before"] for name, change in body["changes"].items()}
    after = {name: change["after"] for name, change in body["changes"].items()}
    return [
        str(row.seq), rfc3339(row.at), row.event, row.category, row.verb, row.outcome, _text(body["status"]),
        body["reason"] or "", row.actor_type, row.actor_id, row.actor_name, actor["display_name"], row.resource_type,
        row.resource_id, target["name"], row.ip, request["id"], request["method"], request["route"],
        request["user_agent"], _json(before), _json(after), _json(body["details"]), row.hash,
    ]  # fmt: skip


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _json(value: dict[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False) if value else ""
