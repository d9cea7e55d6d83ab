"""The entries of bulk operations: one for each of thousands of rows that were written without the ORM.

Theory of operation. An entry is hashed with its number and its time, which only the transaction that writes it knows;
everything else of it is made ready before (`Unchained`), since the database's one writer is held meanwhile. Inside, the
text is put together, hashed and stored in groups. The result is the same to the byte as what `record` writes.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Dialect, Table
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit import changes, owed
from engine.audit.events import FACTS, Event
from engine.audit.heads import Head
from engine.audit.record import Actor, Note, body_of, canonical, chain_hash, head_of, step_behind, timed_behind
from engine.db import BulkInsert
from engine.ids import new_id
from engine.models import AuditEntry

GROUP = 500  # entries that share their time
WRITTEN = 5_000  # entries of one statement
_COLUMNS = (
    "id", "chain", "seq", "at", "event", "category", "access", "verb", "outcome", "actor_type", "actor_id",
    "actor_name", "resource_type", "resource_id", "ip", "entry", "prev_hash", "hash",
)  # fmt: skip
_TABLE = cast("Table", AuditEntry.__table__)


@dataclass(frozen=True, slots=True)
class Part:
    """What a bulk operation did to one row that it wrote without the ORM: whose rows, which fields moved."""

    event: Event
    resource: tuple[str, str, str]  # type, id, name
    moved: Mapping[str, changes.FieldChange]


@dataclass(frozen=True, slots=True)
class Unchained:
    """An entry without number, time and place in the chain. `told` and `about`: its changes and its resource as the
    stored text has them.
    """

    id: str
    event: Event
    resource_type: str
    resource_id: str
    told: str
    about: str


def unchained(parts: Sequence[Part], fingerprint_key: bytes) -> list[Unchained]:
    """The entries as far as they can be made before the transaction that stores them."""
    found = []
    for part in parts:
        kind, identity, name = part.resource
        told = {field: changes.as_json(change, fingerprint_key) for field, change in part.moved.items()}
        about = canonical({"type": kind, "id": identity, "name": name})
        found.append(Unchained(new_id("audit"), part.event, kind, identity, canonical(told), about))
    return found


async def record_parts(
    session: AsyncSession,
    actor: Actor,
    account_id: str,
    bulk_id: str,
    parts: Sequence[Part | Unchained],
    *,
    moves_revision: bool = True,
) -> None:
    """Write the entries of the rows of a bulk operation now, in this transaction, and move the account's revision.

    The entry of the whole operation is noted with `record`, its resource named by `bulk_id`. Many entries at once are
    put into SQLite's full-text indexes later (see `engine.audit.owed`); searches find them all the same.
    """
    await session.flush()  # rows come before the chain
    await write_chained(
        session, await chaining(session, actor, account_id, bulk_id, parts), moves_revision=moves_revision
    )


@dataclass(frozen=True, slots=True)
class Chained:
    """Entries as rows of the table, behind the end of their chain: numbers `first` and up."""

    account_id: str
    first: int
    rows: Sequence[tuple[Any, ...]]


async def chaining(
    session: AsyncSession, actor: Actor, account_id: str, bulk_id: str, parts: Sequence[Part | Unchained]
) -> asyncio.Task[Chained]:
    """Begin to number and hash the entries, in a thread: the transaction writes its rows meanwhile. Nobody else puts an
    entry into this chain until the commit; nor may this transaction before `write_chained`.
    """
    own: Any = session.sync_session  # of the database's own class
    head = await session.run_sync(head_of, account_id)
    link = _Linking(actor, account_id, bulk_id, session.get_bind().dialect, head, own)
    return asyncio.create_task(asyncio.to_thread(link.whole, parts, own.fingerprint_key))


async def write_chained(session: AsyncSession, task: asyncio.Task[Chained], *, moves_revision: bool = True) -> None:
    """Store what `chaining` made."""
    made = await task
    if not made.rows:
        return
    if moves_revision:
        changes.of(session.sync_session).bumped.add(made.account_id)
    insert = BulkInsert(_TABLE, _COLUMNS, session.get_bind().dialect)
    if len(made.rows) < owed.MANY:
        await insert.write(session, made.rows)
        return
    async with owed.unindexed(session, owed.Range(made.account_id, made.first, made.first + len(made.rows) - 1)):
        for at in range(0, len(made.rows), WRITTEN):
            await insert.write(session, made.rows[at : at + WRITTEN])


class _Linking:
    """The end of a chain while entries are put behind it."""

    def __init__(self, actor: Actor, chain: str, bulk_id: str, dialect: Dialect, head: Head, session: Any) -> None:
        self._actor, self._chain, self._bulk_id, self._session = actor, chain, bulk_id, session
        self._seq, self._head, self._at = head
        self._insert = BulkInsert(_TABLE, _COLUMNS, dialect)
        self._frames: dict[Event, _Frame] = {}

    def whole(self, parts: Sequence[Part | Unchained], fingerprint_key: bytes) -> Chained:
        first, rows = self._seq + 1, list[tuple[Any, ...]]()
        if parts:
            self._tell_step(rows)
        for begin in range(0, len(parts), GROUP):
            group = parts[begin : begin + GROUP]
            now = self._session.audit_clock()
            at = self._at = now if self._at is None else max(now, self._at)  # once begun, it only grows
            told_at, stored_at = changes.rfc3339(at), self._insert.value("at", at)
            for part in group:
                entry = part if isinstance(part, Unchained) else unchained([part], fingerprint_key)[0]
                rows.append(self._row(entry, told_at, stored_at))
        return Chained(self._chain, first, rows)

    def _tell_step(self, rows: list[tuple[Any, ...]]) -> None:
        """Begin with the entry that says that the clock was set back, if it was."""
        timed = timed_behind(self._session, self._chain, self._at)
        if timed.is_step:
            values = step_behind(self._session, Head(self._seq, self._head, self._at), self._chain, timed)
            rows.append(self._insert.row(values))
            self._seq, self._head, self._at = values["seq"], values["hash"], values["at"]

    def _row(self, entry: Unchained, told_at: str, stored_at: Any) -> tuple[Any, ...]:
        frame = self._frames.get(entry.event) or self._frame(entry.event)
        before_at, before_told, before_id, before_about, before_seq, end = frame.texts
        self._seq += 1
        text = (
            f'{before_at}"{told_at}"{before_told}{entry.told}{before_id}"{entry.id}"{before_about}{entry.about}'
            f"{before_seq}{self._seq}{end}"
        )
        prev_hash, self._head = self._head, chain_hash(self._head, text)
        return (
            entry.id, self._chain, self._seq, stored_at, *frame.columns, entry.resource_type, entry.resource_id,
            self._actor.ip, text, prev_hash, self._head,
        )  # fmt: skip

    def _frame(self, event: Event) -> "_Frame":
        gap = secrets.token_hex(16)  # nobody's name or address holds it
        note = Note(self._actor, event, None, ("", "", ""), "success", None, None, self._bulk_id, self._chain)
        body = body_of(note, self._chain, gap, id=gap, seq=gap, at=gap) | {"resource": gap}
        facts, actor = FACTS[event], self._actor
        columns = (
            event.value, facts.category.value, facts.access.value, facts.verb, "success", actor.type, actor.id,
            actor.name,
        )  # fmt: skip
        frame = self._frames[event] = _Frame(canonical(body).split(f'"{gap}"'), columns)
        return frame


@dataclass(frozen=True, slots=True)
class _Frame:
    """What the entries of one event share: the text around time, changes, identifier, resource and number; and the
    columns from the event to the actor.
    """

    texts: list[str]
    columns: tuple[str, ...]
