"""Calls back from carriers in the database: one row each, made of the journal's entries, known by its identifier."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.e911.mail import CALLED_BACK, one_line
from engine.models import Account, CallbackCall, CallKind, EmergencyCall

Entry = Mapping[str, Any]


class CallbackUnknown(Exception):
    """The entry names a call or an account that is not there; no retry will help."""


async def add_callback(session: AsyncSession, entry: Entry, received_at: dt.datetime) -> None:
    """Record a call from a carrier; one that is recorded already stays as it is."""
    if await session.get(CallbackCall, entry["id"]) is not None:
        return
    account = await session.get(Account, entry["account_id"])
    if account is None:
        raise CallbackUnknown(f"the account {entry['account_id']} is gone")
    call = await session.get(EmergencyCall, str(entry.get("call") or ""))
    row = CallbackCall(
        id=entry["id"],
        account_id=account.id,
        emergency_call_id=call.id if call is not None and call.account_id == account.id else None,
        number=str(entry.get("number") or "")[:80],
        from_uri=str(entry.get("from") or "")[:400],
        pbx_id=str(entry["pbx_id"]) if entry.get("pbx_id") else None,
        target=str(entry.get("target") or "")[:400],
        psap=bool(entry.get("psap")),
        orphan=bool(entry.get("orphan")),
        received_at=received_at,
    )
    session.add(row)
    caller = one_line(row.from_uri)[:200] or "unknown caller"
    actor = Actor("anonymous", caller[:80], caller, "unknown", account.id, method="INVITE", route="sip")
    record(session, actor, Event.CALLBACK_CREATE, row, resource=("callback", row.id, f"a call back to {row.number}"))
    await session.flush()


async def note_outcome(session: AsyncSession, entry: Entry, at: dt.datetime) -> EmergencyCall | None:
    """It was answered, or nobody could be had. Who answered may not be who was asked first.

    Returns:
        The call whose staff are to be told that a dispatcher reached nobody, the first time that one does not.
    """
    row = await _callback_named(session, entry)
    status = entry.get("status")
    row.outcome = str(entry.get("outcome") or "failed")[:20]
    row.status_code = status if isinstance(status, int) and 100 <= status <= 699 else None
    row.target = str(entry.get("target") or "")[:400] or row.target
    row.orphan = row.orphan or bool(entry.get("orphan"))
    if row.outcome != "answered":
        row.ended_at = row.ended_at or at
    await session.flush()
    if row.outcome != "failed" or not row.psap or row.emergency_call_id is None:
        return None
    call = await session.get(EmergencyCall, row.emergency_call_id)
    if call is None or call.kind != CallKind.EMERGENCY or CALLED_BACK in call.flags:
        return None
    call.flags = [*call.flags, CALLED_BACK]
    return call


async def note_end(session: AsyncSession, entry: Entry, at: dt.datetime) -> None:
    """A call back ended. Raises CallbackUnknown: none of that id is recorded."""
    row = await _callback_named(session, entry)
    row.ended_at = row.ended_at or at
    await session.flush()


async def _callback_named(session: AsyncSession, entry: Entry) -> CallbackCall:
    row = await session.get(CallbackCall, str(entry["id"]))
    if row is None:
        raise CallbackUnknown(f"the call back {entry['id']} is not recorded")
    return row
