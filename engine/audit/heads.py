"""Storing one entry by one statement, behind the head that this process put there itself (decision 0004).

Theory of operation. To read a chain's head under a lock and to insert behind it are three questions to PostgreSQL and
two to SQLite, and on a small machine each takes as long as the database's own work. Most of the time nobody else wrote
in between. So the heads of the last commits are kept, and the INSERT itself asks whether that is still the head. A
remembered head is never believed: where it is not the newest entry nothing is stored, and the caller reads the head.
Two writers at once meet at the lock, and behind it at the rule that no two entries follow the same one.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.orm import Session

from engine.db import BulkInsert

MOST = 10_000  # chains that are remembered
LOCK = "audit "  # before the chain's name: what PostgreSQL's lock is taken on
_AT_HEAD = "({seq}, {hash}) = (SELECT seq, hash FROM audit_entry WHERE chain = {chain} ORDER BY seq DESC LIMIT 1)"


class Heads:
    """Number and hash of the newest entries, as this process committed them last."""

    def __init__(self, dialect: Dialect, insert: BulkInsert) -> None:
        self._known: dict[str, tuple[int, str]] = {}
        self._insert = insert
        self._is_server = dialect.name == "postgresql"
        self._statement = _on_server(insert) if self._is_server else _on_sqlite(insert)

    def of(self, chain: str) -> tuple[int, str] | None:
        """What was the chain's head at the last commit here; None: nothing is remembered."""
        return self._known.get(chain)

    def remember(self, heads: Mapping[str, tuple[int, str]]) -> None:
        """They are committed."""
        if len(self._known) > MOST:
            self._known.clear()
        self._known |= heads

    def append(self, session: Session, chain: str, head: tuple[int, str], values: Mapping[str, Any]) -> bool:
        """Store that entry if `head` is the chain's newest; False: it is not, and nothing was stored."""
        asked = (*self._insert.row(values), *head, chain)
        if self._is_server:
            asked = (*asked, LOCK + chain)
        if session.connection().exec_driver_sql(self._statement, asked).rowcount == 1:
            return True
        self._known.pop(chain, None)
        return False


def _on_sqlite(insert: BulkInsert) -> str:
    """One writer at a time has the database: what the condition sees is so until the commit."""
    asked = ", ".join("?" * len(insert.kinds))
    return f"{insert.into} SELECT {asked} WHERE {_AT_HEAD.format(seq='?', hash='?', chain='?')}"  # constants


def _on_server(insert: BulkInsert) -> str:
    """The lock orders the writers of one chain. Who had to wait for it sees the chain as it was before: then the rules
    against two entries of one place refuse the row, without an error that would end the transaction.
    """
    count = len(insert.kinds)
    asked = ", ".join(f"CAST(${place} AS {kind})" for place, kind in enumerate(insert.kinds, 1))
    at_head = _AT_HEAD.format(
        seq=f"CAST(${count + 1} AS INTEGER)", hash=f"CAST(${count + 2} AS VARCHAR)", chain=f"${count + 3}"
    )
    return (
        f"WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtext(${count + 4}))) "  # noqa: S608  # constants
        f"{insert.into} SELECT {asked} FROM turn WHERE {at_head} ON CONFLICT DO NOTHING"
    )
