"""Emergency calls as a file: CSV for a spreadsheet, JSON Lines for a program, newest first, streamed in groups.

A file holds what a regulator or an insurer asks for (47 CFR § 9.16): who called, from where, what was conveyed, who
took it and when, who was told, who acknowledged. The INVITE stays on the call's own page.
"""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiohttp import web

from admin.context import ACCOUNT, ACTOR, DATABASE, RESOURCE, SESSION
from engine import csv_table
from engine.audit.changes import rfc3339
from engine.audit.events import Event
from engine.audit.record import record
from engine.db import Database
from engine.e911 import mail, store_calls
from engine.e911.store_calls import CallFilters
from engine.models import CallAttempt, EmergencyCall

GROUP = 200
CSV = "text/csv"
JSON_LINES = "application/jsonl"
COLUMNS = (
    "id", "kind", "dialed", "received_at", "sent_at", "answered_at", "ended_at", "outcome", "status_code",
    "caller_name", "extension", "callback_number", "phone_mac", "location_name", "address", "location_source", "flags",
    "trunk", "attempts", "told", "acknowledged_at", "acknowledged_by", "acknowledgement_note", "sip_call_id",
)  # fmt: skip
Told = Sequence[tuple[str, str]]


async def exported(request: web.Request, filters: CallFilters, kind: str) -> web.Response:
    """The answer whose body is the file; what was asked for is audited."""
    resource = request[RESOURCE] = ("emergency_call", "export", kind)
    details = {"is_whole": filters.is_any}
    record(request[SESSION], request[ACTOR], Event.EMERGENCY_CALL_EXPORT, resource=resource, details=details)
    body = _file(request.app[DATABASE], request[ACCOUNT].id, filters, is_csv=kind == "csv")
    return web.Response(
        body=body, content_type=CSV if kind == "csv" else JSON_LINES, charset="utf-8",
        headers={"Content-Disposition": f'attachment; filename="emergency-calls.{kind}"'},
    )  # fmt: skip


async def _file(database: Database, account_id: str, filters: CallFilters, *, is_csv: bool) -> AsyncIterator[bytes]:
    if is_csv:
        yield csv_table.write(COLUMNS, [])
    before = None
    while True:
        async with database.sessions() as session:
            calls = await store_calls.calls_before(session, account_id, filters, before=before, limit=GROUP)
            ids = [call.id for call in calls]
            attempts = await store_calls.attempts_of_calls(session, ids)
            told = await store_calls.told_of_calls(session, ids)
        if not calls:
            return
        rows = [told_whole(call, attempts[call.id], told[call.id]) for call in calls]
        if is_csv:
            yield csv_table.lines([_cells(row) for row in rows])
        else:
            yield "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode("utf-8", "replace")
        before = (calls[-1].sent_at, calls[-1].id)


def told_whole(call: EmergencyCall, attempts: Sequence[CallAttempt], told: Told) -> dict[str, Any]:
    """A call as one line of a file; times are UTC."""
    caller, place = call.caller, call.location or {}
    return {
        "id": call.id,
        "kind": call.kind,
        "dialed": call.dialed,
        "received_at": _time(call.received_at),
        "sent_at": _time(call.sent_at),
        "answered_at": _time(call.answered_at),
        "ended_at": _time(call.ended_at),
        "outcome": call.outcome,
        "status_code": call.status_code,
        "caller_name": caller.get("name") or "",
        "extension": caller.get("extension") or "",
        "callback_number": caller.get("callback_number") or "",
        "phone_mac": caller.get("mac") or "",
        "location_name": place.get("name") or "",
        "address": ", ".join(mail.address_lines(place.get("civic_address") or {})),
        "location_source": call.location_source,
        "flags": list(call.flags),
        "trunk": next((attempt.trunk_name for attempt in reversed(attempts)), ""),
        "attempts": [_attempt(attempt) for attempt in attempts],
        "told": [f"{recipient}: {state}" for recipient, state in told],
        "acknowledged_at": _time(call.acknowledged_at),
        "acknowledged_by": call.acknowledged_by or "",
        "acknowledgement_note": call.acknowledgement_note or "",
        "sip_call_id": call.call_id,
    }


def _attempt(attempt: CallAttempt) -> str:
    status = f" {attempt.status_code}" if attempt.status_code else ""
    return f"{attempt.trunk_name} ({attempt.hop}):{status} {attempt.outcome}, {_time(attempt.started_at)}"


def _time(at: Any) -> str | None:
    return None if at is None else rfc3339(at)


def _cells(row: dict[str, Any]) -> list[str]:
    texts = (row[name] for name in COLUMNS)
    return ["; ".join(text) if isinstance(text, list) else "" if text is None else str(text) for text in texts]
