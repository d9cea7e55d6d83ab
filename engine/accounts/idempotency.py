"""Answers kept for a day, so that a request repeated with the same Idempotency-Key is carried out once.

Follows draft-ietf-httpapi-idempotency-key-header-07. The answer is stored sealed in the transaction that did the work:
it may hold a secret that is shown once. Only successes are kept; a refused request may simply be sent again.
"""

import datetime as dt

from sqlalchemy import ForeignKey, Integer, String, delete
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from engine.db import Base, Sealed, UtcDateTime, utc_now

KEPT_FOR = dt.timedelta(hours=24)


class KeptAnswer(Base):
    """The answer to one request with an Idempotency-Key. `key_hash`: SHA-256 over who asked and the key."""

    __tablename__ = "kept_answer"
    key_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), index=True)
    request_hash: Mapped[str] = mapped_column(String(64))  # SHA-256 over method, path and body
    status: Mapped[int] = mapped_column(Integer)
    headers: Mapped[str | None] = mapped_column(Sealed("kept_answer.headers"))
    body: Mapped[str | None] = mapped_column(Sealed("kept_answer.body"))
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, index=True)


async def kept_answer(session: AsyncSession, key_hash: str) -> KeptAnswer | None:
    """The answer kept under that key in the last day; older ones are dropped on the way."""
    await session.execute(delete(KeptAnswer).where(KeptAnswer.created_at < utc_now() - KEPT_FOR))
    return await session.get(KeptAnswer, key_hash)
