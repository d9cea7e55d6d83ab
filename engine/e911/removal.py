"""Removing the records of calls that are older than their account keeps them: one entry tells each removal."""

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.changes import rfc3339
from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.e911 import store_removal


async def remove_old_calls(session: AsyncSession, account_id: str, end: dt.datetime, *, days: int, limit: int) -> int:
    """Remove the oldest records that may go, `limit` at most. Returns how many; 0: none is left. Nobody here commits.

    Args:
        days: The setting that asks for it, told in the entry.
    """
    calls = await store_removal.old_calls(session, account_id, end, limit)
    callbacks = await store_removal.old_callbacks(session, account_id, end, limit - len(calls))
    if not calls and not callbacks:
        return 0
    removed = await store_removal.remove_calls(session, calls)
    await store_removal.remove_callbacks(session, callbacks)
    removed["callbacks"] += len(callbacks)
    times = {}
    if calls:
        times = {"first_sent_at": rfc3339(calls[0].sent_at), "last_sent_at": rfc3339(calls[-1].sent_at)}
    record(
        session, SYSTEM, Event.EMERGENCY_CALL_PRUNE, resource=("emergency_call", account_id, ""),
        account_id=account_id, details={**removed, **times, "kept_days": days},
    )  # fmt: skip
    return removed["calls"] + len(callbacks)
