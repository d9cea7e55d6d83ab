"""Storing one entry by one statement, behind the head that this process put there itself (decision 0004).

Theory of operation. To read a chain's head under a lock and to insert behind it are three questions to PostgreSQL and
two to SQLite, and on a small machine each takes as long as the database's own work. Most of the time nobody else wrote
in between. So the heads of the last commits are kept, and the INSERT itself asks whether that is still the head. A
remembered head is never believed: where it is not the newest entry nothing is stored, and the caller reads the head.
Two writers at once meet at the lock, and behind it at the rules that no two entries have the same number and that each
follows the one before.

The account's revision moves in the same step. PostgreSQL is asked once for both. SQLite works in a thread of its own,
and each question waits for a turn of it: both are put before it together, past SQLAlchemy, whose cursor alone takes
three turns for one statement.
"""

import asyncio
import datetime as dt
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from engine.db import BulkInsert

MOST = 10_000  # chains that are remembered
LOCK = "audit "  # before the chain's name: what PostgreSQL's lock is taken on
_AT_HEAD = "({seq}, {hash}) = (SELECT seq, hash FROM audit_entry WHERE chain = {chain} ORDER BY seq DESC LIMIT 1)"
_MOVE = (  # an account's revision; of one that was removed in the same transaction none is left
    "INSERT INTO revision (account_id, value) SELECT CAST({account} AS VARCHAR), 1{turn} "
    "WHERE EXISTS (SELECT 1 FROM account WHERE id = CAST({account} AS VARCHAR)) "
    "ON CONFLICT (account_id) DO UPDATE SET value = revision.value + 1"
)
_MOVE_SQLITE, _MOVE_SERVER = _MOVE.format(account="?1", turn=""), _MOVE.format(account="$1", turn="")


def move_revisions(session: Session, account_ids: Collection[str]) -> None:
    """Count one change more of each of these accounts.

    Always behind the entries: who holds a chain's lock may wait for a revision, and nobody the other way round.
    """
    if not account_ids:
        return
    connection = session.connection()
    statement = _MOVE_SERVER if connection.dialect.name == "postgresql" else _MOVE_SQLITE
    for account_id in sorted(account_ids):
        connection.exec_driver_sql(statement, (account_id,))


class Head(NamedTuple):
    """A chain's newest entry. `at`: its time, UTC; None: the chain has none yet."""

    seq: int
    hash: str
    at: dt.datetime | None


class Heads:
    """The newest entries, as this process committed them last."""

    def __init__(self, dialect: Dialect, insert: BulkInsert) -> None:
        self._known: dict[str, Head] = {}
        self._insert = insert
        self._is_server = dialect.name == "postgresql"
        self._statement = _on_server(insert) if self._is_server else _on_sqlite(insert)
        self._moving = _on_server(insert, moves=True)

    def of(self, chain: str) -> Head | None:
        """What was the chain's head at the last commit here; None: nothing is remembered."""
        return self._known.get(chain)

    def remember(self, heads: Mapping[str, Head]) -> None:
        """They are committed."""
        if len(self._known) > MOST:
            self._known.clear()
        self._known |= heads

    def append(self, session: Session, chain: str, head: Head, values: Mapping[str, Any], moved: str | None) -> bool:
        """Store that entry if `head` is the chain's newest; False: it is not, and no entry was stored.

        Args:
            moved: The account whose revision moves, whether or not the entry is stored.
        """
        asked = (*self._insert.row(values), head.seq, head.hash, chain)
        connection = session.connection()
        if self._is_server:
            statement = self._moving if moved else self._statement
            asked = (*asked, LOCK + chain, moved) if moved else (*asked, LOCK + chain)
            stored = connection.exec_driver_sql(statement, asked).rowcount
        else:
            stored = _together(connection, [(self._statement, asked), *([(_MOVE_SQLITE, (moved,))] if moved else [])])
        if stored == 1:
            return True
        self._known.pop(chain, None)
        return False


def _together(connection: Connection, asked: Sequence[tuple[str, tuple[Any, ...]]]) -> int:
    """Run these statements in one turn of SQLite's thread, in their order. Returns how many rows the first one stored.

    A fault of the disk ends the transaction by itself, and what comes behind would be a commit of its own: so the entry
    goes first, and a revision that moved without a change does no harm.
    """
    raw: Any = connection.connection

    async def run(driver: Any) -> list[Any]:
        return await asyncio.gather(*(driver.execute(statement, values) for statement, values in asked))

    try:
        first, *_ = raw.run_async(run)
    except (sqlite3.Error, ValueError) as exc:  # ValueError: aiosqlite's, when the connection was closed
        fault = exc if isinstance(exc, sqlite3.Error) else sqlite3.OperationalError(str(exc))
        told = DBAPIError.instance(asked[0][0], None, fault, sqlite3.Error, hide_parameters=True)
        raise told from exc
    return int(first.rowcount)


def _on_sqlite(insert: BulkInsert) -> str:
    """One writer at a time has the database: what the condition sees is so until the commit."""
    asked = ", ".join("?" * len(insert.kinds))
    return f"{insert.into} SELECT {asked} WHERE {_AT_HEAD.format(seq='?', hash='?', chain='?')}"  # constants


def _on_server(insert: BulkInsert, *, moves: bool = False) -> str:
    """The lock orders the writers of one chain. Who had to wait for it sees the chain as it was before: then the rules
    against two entries of one place refuse the row, without an error that would end the transaction.

    The revision moves even where no entry is stored; it comes from `turn`, too, so that the lock is always taken before
    the revision's row: two writers who took them in different order would wait for each other.
    """
    count = len(insert.kinds)
    asked = ", ".join(f"CAST(${place} AS {kind})" for place, kind in enumerate(insert.kinds, 1))
    at_head = _AT_HEAD.format(
        seq=f"CAST(${count + 1} AS INTEGER)", hash=f"CAST(${count + 2} AS VARCHAR)", chain=f"${count + 3}"
    )
    moved = f", moved AS ({_MOVE.format(account=f'${count + 5}', turn=' FROM turn')})" if moves else ""
    return (
        f"WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtext(${count + 4}))){moved} "  # noqa: S608  # constants
        f"{insert.into} SELECT {asked} FROM turn WHERE {at_head} ON CONFLICT DO NOTHING"
    )
