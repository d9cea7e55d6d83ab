"""SQL for what is sealed: every column of that kind, in whichever table, read and written as the bytes it is.

Nothing else of a row changes, neither its version nor when it was changed: its secret is the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, LargeBinary, Table, bindparam, func, or_, select, tuple_, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncSession

from engine.db import Base, Sealed


@dataclass(frozen=True, slots=True)
class Secret:
    """A value as it is stored.

    Attributes:
        key: The row's primary key; column: where in it the value stands.
        context: What it is sealed for: `table.column`.
        sealed: Its bytes.
    """

    key: tuple[Any, ...]
    column: str
    context: str
    sealed: bytes


def tables() -> list[Table]:
    """Those that hold something sealed, by name."""
    found = [table for table in Base.metadata.tables.values() if any(True for _ in sealed_columns(table))]
    return sorted(found, key=lambda table: table.name)


def sealed_columns(table: Table) -> Iterator[Column[Any]]:
    return (column for column in table.columns if isinstance(column.type, Sealed))


async def secrets_of(
    session: AsyncSession, table: Table, after: tuple[Any, ...] | None, limit: int
) -> tuple[list[Secret], tuple[Any, ...] | None]:
    """What the next rows hold that have something sealed, and the last row's key; None: there are no more."""
    keys, columns = list(table.primary_key), list(sealed_columns(table))
    query = select(*keys, *(type_coerce(column, LargeBinary) for column in columns))
    query = query.where(or_(*(column.is_not(None) for column in columns))).order_by(*keys).limit(limit)
    if after is not None:
        query = query.where(tuple_(*keys) > tuple_(*after))
    rows = (await session.execute(query)).all()
    found = [
        Secret(tuple(row[: len(keys)]), column.name, column.type.context, bytes(value))
        for row in rows
        for column, value in zip(columns, row[len(keys) :], strict=True)
        if value is not None and isinstance(column.type, Sealed)
    ]
    return found, tuple(rows[-1][: len(keys)]) if rows else None


async def exchange(session: AsyncSession, table: Table, secrets: Sequence[tuple[Secret, bytes]]) -> int:
    """Write the new bytes where the old ones still stand; returns how many. What somebody changed meanwhile stays."""
    done = 0
    kept = {column.name: column for column in table.columns if column.onupdate is not None}
    for secret, sealed in secrets:
        column = table.columns[secret.column]
        row = [one == value for one, value in zip(table.primary_key, secret.key, strict=True)]
        as_it_was = type_coerce(column, LargeBinary) == secret.sealed
        new = bindparam("sealed", sealed, type_=LargeBinary)
        changed = await session.execute(update(table).where(*row, as_it_was).values({column.name: new, **kept}))
        done += int(changed.rowcount)  # type: ignore[attr-defined]
    return done


async def key_marks(session: AsyncSession, table: Table) -> dict[bytes, int]:
    """How the table's sealed values begin, far enough to hold a key's id -> how many begin so."""
    counted: dict[bytes, int] = {}
    for column in sealed_columns(table):
        plain = type_coerce(column, LargeBinary)
        # its first byte says how long the id is: only that much is read of it, and counted by the database
        for (length,) in (
            await session.execute(select(func.substr(plain, 1, 1)).where(column.is_not(None)).distinct())
        ).all():
            size = 1 + bytes(length)[0]
            mark = func.substr(plain, 1, size)
            query = select(mark, func.count()).where(func.substr(plain, 1, 1) == length).group_by(mark)
            for begins, count in (await session.execute(query)).all():
                counted[bytes(begins)] = counted.get(bytes(begins), 0) + count
    return counted
