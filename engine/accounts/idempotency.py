"""Answers kept for a day, so that a request repeated with the same Idempotency-Key is carried out once.

Follows draft-ietf-httpapi-idempotency-key-header-07. The answer is stored sealed in the transaction that did the work:
it may hold a secret that is shown once. Only successes are kept; a refused request may simply be sent again.
"""

import datetime as dt

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from engine.db import utc_now
from engine.models import KeptAnswer

KEPT_FOR = dt.timedelta(hours=24)


async def kept_answer(session: AsyncSession, key_hash: str) -> KeptAnswer | None:
    """The answer kept under that key in the last day; older ones are dropped on the way."""
    await session.execute(delete(KeptAnswer).where(KeptAnswer.created_at < utc_now() - KEPT_FOR))
    return await session.get(KeptAnswer, key_hash)
