"""SQL for rows of which a field cannot be read: a value that is no JSON or no time any more, a password sealed with a
key that is gone. What 911 calls go by is read around them: that field is left out and named, all else is there.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.crypto import Unsealable

UNREADABLE = (Unsealable, ValueError, TypeError)  # what a column's type raises for a value that is none of its own
_ROWS_AT_ONCE = 256  # an unreadable row among them is found by halving: nine queries each


async def salvaged_rows(
    session: AsyncSession, account_id: str, model: Any, columns: Sequence[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """(the account's rows in the order of their ids, what could not be read as `<id>: <column>`); such a field is None.

    For a table that was found unreadable: it takes several times as long as reading one that is whole.
    """
    key = model.__table__.primary_key.columns[0]
    ids = list(await session.scalars(select(key).where(model.account_id == account_id).order_by(key)))
    rows: list[dict[str, Any]] = []
    unread: list[str] = []
    for at in range(0, len(ids), _ROWS_AT_ONCE):
        rows += await _some(session, model, columns, ids[at : at + _ROWS_AT_ONCE], unread)
    return rows, unread


async def _some(
    session: AsyncSession, model: Any, columns: Sequence[str], ids: Sequence[str], unread: list[str]
) -> list[dict[str, Any]]:
    """These rows; halved until the unreadable ones stand alone."""
    key = model.__table__.primary_key.columns[0]
    try:
        found = await session.execute(
            select(*(getattr(model, name) for name in columns)).where(key.in_(ids)).order_by(key)
        )
        return [dict(zip(columns, row, strict=True)) for row in found]
    except UNREADABLE:
        if len(ids) == 1:
            return [await _one(session, model, columns, ids[0], unread)]
    half = len(ids) // 2
    return [
        *await _some(session, model, columns, ids[:half], unread),
        *await _some(session, model, columns, ids[half:], unread),
    ]


async def _one(
    session: AsyncSession, model: Any, columns: Sequence[str], identity: str, unread: list[str]
) -> dict[str, Any]:
    """One row, field by field."""
    key = model.__table__.primary_key.columns[0]
    row: dict[str, Any] = {}
    for name in columns:
        try:
            row[name] = await session.scalar(select(getattr(model, name)).where(key == identity))
        except UNREADABLE:
            row[name] = None
            unread.append(f"{identity}: {name}")
    return row
