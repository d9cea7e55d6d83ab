"""Rare words and parts of addresses in the audit log on PostgreSQL, by `pg_trgm` where the server has it.

Theory of operation. A common word is found by the newest entries themselves, so these are looked at first. What is left
is asked of the trigram indexes, all at once: their answer is in no order, and for a common word it is most of the log.
So the question has a time of its own (`statement_timeout`, inside a savepoint); when it is over, nothing was found out
and the caller goes on looking at entries (decision 0031).
"""

from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import AuditEntry

WITHIN_MS = 60
MOST = 2_000  # numbers taken from one answer
_CANCELED = "57014"  # query_canceled, PostgreSQL's appendix A


async def is_there(session: AsyncSession) -> bool:
    """Whether this database has the indexes."""
    found = await session.scalar(text("SELECT to_regclass('ix_audit_entry_entry_trigram')"))
    return found is not None


async def seqs(
    session: AsyncSession, chain: str, conditions: list[ColumnElement[bool]], low: int, high: int
) -> list[int] | None:
    """The newest matching numbers between `low` and `high`, newest first, at most MOST; None: the time was up.

    Args:
        conditions: On the text and the address, as the trigram indexes serve them.
    """
    matching = select(AuditEntry.seq).where(AuditEntry.chain == chain, *conditions)
    found = matching.cte("found").prefix_with("MATERIALIZED")  # or the planner walks the log by its numbers
    query = select(found.c.seq).where(found.c.seq.between(low, high)).order_by(found.c.seq.desc()).limit(MOST)
    before = await session.scalar(select(func.current_setting("statement_timeout")))
    try:
        async with session.begin_nested():
            await session.execute(text(f"SET LOCAL statement_timeout = {WITHIN_MS}"))
            await session.execute(text("SET LOCAL enable_seqscan = off"))  # reading the whole log is what this avoids
            rows = list(await session.scalars(query))
            await session.execute(select(func.set_config("statement_timeout", before, True)))
            await session.execute(text("SET LOCAL enable_seqscan = on"))
    except DBAPIError as exc:
        if getattr(exc.orig, "sqlstate", None) != _CANCELED:
            raise
        return None
    return rows
