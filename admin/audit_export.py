"""The audit log as a file, streamed: CSV for people, JSON Lines for `callpoint audit verify`.

The rows are read in groups, each in a reading session of its own, after the request's transaction with the export's own
entry has committed: a file of any size takes the memory of one group and keeps no writer waiting.
"""

import ipaddress
import json
from collections.abc import AsyncIterator

from aiohttp import web

from admin.context import ACCOUNT, ACTOR, DATABASE, KEYS, RESOURCE, SESSION
from engine import csv_table
from engine.audit import checkpoints, store
from engine.audit.changes import rfc3339
from engine.audit.events import Event
from engine.audit.record import record
from engine.audit.store import Filters
from engine.audit.verify import export_line
from engine.db import Database
from engine.models import AuditEntry

GROUP = 1_000
CSV = "text/csv"
JSON_LINES = "application/jsonl"
COLUMNS = (
    "seq", "time", "event", "category", "action", "outcome", "status", "reason", "actor_type", "actor_id", "actor_name",
    "actor_display_name", "resource_type", "resource_id", "resource_name", "ip", "request_id", "method", "route",
    "user_agent", "old_values", "new_values", "details", "hash",
)  # fmt: skip


async def exported(request: web.Request, filters: Filters, kind: str) -> web.Response:
    """The answer whose body is the file; the export is an entry with what was asked for."""
    session, account = request[SESSION], request[ACCOUNT]
    is_whole = filters == Filters()
    resource = request[RESOURCE] = ("audit_log", "export", kind)
    record(session, request[ACTOR], Event.AUDIT_LOG_EXPORT, resource=resource, details={"is_whole": is_whole})
    if is_whole and kind == "jsonl" and (signer := checkpoints.signer_of(request.app[KEYS])) is not None:
        await checkpoints.sign_head(session, signer, account.id)
    newest = await store.head(session, account.id)
    last = newest[0] if newest else 0
    make = _csv if kind == "csv" else _whole_lines if is_whole else _lines
    name = f"audit-log{'' if is_whole else '-part'}.{kind}"
    return web.Response(
        body=make(request.app[DATABASE], account.id, filters, last), content_type=CSV if kind == "csv" else JSON_LINES,
        charset="utf-8", headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )  # fmt: skip


async def _csv(database: Database, chain: str, filters: Filters, last: int) -> AsyncIterator[bytes]:
    yield csv_table.write(COLUMNS, [])
    async for rows in _groups(database, chain, filters, last):
        yield csv_table.lines([_cells(row) for row in rows])


async def _lines(database: Database, chain: str, filters: Filters, last: int) -> AsyncIterator[bytes]:
    async for rows in _groups(database, chain, filters, last):
        yield "".join(f"{export_line(row)}\n" for row in rows).encode("utf-8", "surrogatepass")


async def _whole_lines(database: Database, chain: str, filters: Filters, last: int) -> AsyncIterator[bytes]:
    async with database.sessions() as session:
        notes = [line async for line in checkpoints.checkpoint_lines(session, chain, last)]
    yield "".join(f"{line}\n" for line in notes).encode()
    async for part in _lines(database, chain, filters, last):
        yield part


async def _groups(database: Database, chain: str, filters: Filters, last: int) -> AsyncIterator[list[AuditEntry]]:
    network = ipaddress.ip_network(filters.ip.strip(), strict=False) if store.is_network(filters.ip) else None
    after = 0
    query = store.query_of(chain, filters)
    while after < last:
        async with database.sessions() as session:
            until = min(last, after + GROUP * 20)
            narrowed = query.where(AuditEntry.seq > after, AuditEntry.seq <= until)
            rows = list(await session.scalars(narrowed.order_by(AuditEntry.seq).limit(GROUP)))
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
