"""Queries of calls back that came in from carriers."""

import datetime as dt
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import CallbackCall

LOOKED = 50  # of the newest that failed


async def missed_callbacks(session: AsyncSession, account_id: str, since: dt.datetime) -> Sequence[CallbackCall]:
    """Dispatchers' calls since then that nobody answered, newest first; not those whose next try was answered."""
    theirs = CallbackCall.account_id == account_id, CallbackCall.received_at >= since
    failed = select(CallbackCall).where(*theirs, CallbackCall.outcome == "failed", CallbackCall.psap)
    newest = failed.order_by(CallbackCall.received_at.desc(), CallbackCall.id.desc()).limit(LOOKED)
    found = list(await session.scalars(newest))
    if not found:
        return []
    answered = select(CallbackCall.number, func.max(CallbackCall.received_at)).group_by(CallbackCall.number)
    rows = await session.execute(answered.where(*theirs, CallbackCall.outcome == "answered"))
    reached = {row[0]: row[1] for row in rows}
    return [one for one in found if one.number not in reached or reached[one.number] < one.received_at]
