"""Removing the records of calls that are older than their account keeps them: one entry tells each removal."""

import datetime as dt
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.changes import rfc3339
from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.e911 import store_removal


async def remove_calls(
    session: AsyncSession, account_id: str, calls: Sequence[store_removal.OldCall], end: dt.datetime, *, days: int
) -> int:
    """Remove those of them that may still go, and return how many these were. Nobody here commits.

    Args:
        calls: Oldest first, as `store_removal.old_calls` found them.
        days: The setting that asks for it, told in the entry.
    """
    removed = await store_removal.remove_calls(session, calls, end)
    if removed["calls"]:
        times = {"first_sent_at": rfc3339(calls[0].sent_at), "last_sent_at": rfc3339(calls[-1].sent_at)}
        _tell(session, account_id, {**removed, **times, "kept_days": days})
    return removed["calls"]


async def remove_callbacks(session: AsyncSession, account_id: str, end: dt.datetime, *, days: int, limit: int) -> int:
    """Remove the oldest callbacks that belong to no call, `limit` at most. Returns how many; 0: none is left."""
    callbacks = await store_removal.old_callbacks(session, account_id, end, limit)
    if callbacks:
        await store_removal.remove_callbacks(session, callbacks)
        _tell(session, account_id, {"calls": 0, "callbacks": len(callbacks), "kept_days": days})
    return len(callbacks)


def _tell(session: AsyncSession, account_id: str, details: dict[str, object]) -> None:
    resource = ("emergency_call", account_id, "")
    record(
        session, SYSTEM, Event.EMERGENCY_CALL_PRUNE, resource=resource, account_id=account_id, details=details,
    )  # fmt: skip
