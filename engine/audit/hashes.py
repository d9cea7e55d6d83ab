"""Entries by how their hash begins, or the hash before theirs: as a mail's foot or a line of an export shows it.

Theory of operation. Hashes come in no order, so an ordinary index of them is another page to read, write and copy for
each entry: it was most of what an entry cost (docs/decisions/0004). Here only their first eight digits are looked up,
in indexes that are kept behind the commits (decision 0031): on SQLite as one more whole value, on PostgreSQL in a GIN
index, whose list the node empties. The hash before is found by its own entry: the next one follows it.
"""

import re

from sqlalchemy import ColumnElement, func, literal, or_, text
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit import search
from engine.models import AuditEntry

DIGITS = 8  # as `engine.models.audit_sql` indexes them; 32 bits: among ten million entries hardly ever two
MOST = 500
_BEGINNING = re.compile(rf"[0-9a-fA-F]{{{DIGITS},64}}")
_FOUND = text(  # MATERIALIZED: else the planner may go through the chain instead
    "WITH found AS MATERIALIZED (SELECT chain, seq FROM audit_entry "
    "WHERE ARRAY[substr(hash, 1, 8)] @> ARRAY[CAST(:digits AS TEXT)]) "
    "SELECT seq FROM found WHERE chain = :chain ORDER BY seq DESC LIMIT :most"
)


def beginning_of(keyword: str) -> str:
    """The keyword as hashes are written, when it may be the beginning of one; else empty."""
    return keyword.lower() if _BEGINNING.fullmatch(keyword) else ""


def condition(beginning: str) -> ColumnElement[bool]:
    """On the entry itself: its hash or the one before begins so."""
    size, wanted = len(beginning), literal(beginning)
    return or_(func.substr(AuditEntry.hash, 1, size) == wanted, func.substr(AuditEntry.prev_hash, 1, size) == wanted)


async def candidates(session: AsyncSession, chain: str, keyword: str, low: int, high: int) -> list[int]:
    """Numbers from `low` to `high` that may meet the keyword by their hashes, newest first; what the indexes lack yet
    is left out.

    Args:
        low: At least the chain's first entry: no index knows what that one follows.
    """
    digits = beginning_of(keyword)[:DIGITS]
    if not digits:
        return []
    found = {low}
    for seq in await _beginning_so(session, chain, digits, max(low - 1, 1), high):
        found |= {seq, seq + 1}
    return sorted((seq for seq in found if low <= seq <= high), reverse=True)


async def _beginning_so(session: AsyncSession, chain: str, digits: str, low: int, high: int) -> list[int]:
    if session.get_bind().dialect.name != "sqlite":
        return list(await session.scalars(_FOUND, {"digits": digits, "chain": chain, "most": MOST}))
    base = await search.base_of(session, chain)
    if base is None:
        return []
    return await search.seqs(session, search.Match(False, f'"h{digits}"'), base, low, high, MOST)
