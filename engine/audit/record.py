"""Writing the audit log: `record()` in the operation's own transaction, the commit guard, the hash chain.

Theory of operation. An operation calls `record`, which only notes what is to be written. Before the commit the guard
flushes, takes the changes gathered from every audited row, builds one entry for each note, reads the chain's head
inside the same write transaction and inserts. A transaction that changed an audited row without a write entry is
refused: nothing can move unseen. Changes of rows that no entry names (a phone's key assignments, a user's password)
go to the first write entry.

The chain's head of the last commit is remembered, and a single entry is stored by one statement that looks whether it
still is the head. Only when it is not, because another process wrote since, is the head read and the entry made anew.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, cast

import structlog
from sqlalchemy import Integer, String, Table, select, text
from sqlalchemy import event as sql_event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from engine.audit import changes
from engine.audit.clocks import Clock, Given, Step, Steps, given
from engine.audit.events import FACTS, Access, Event
from engine.audit.heads import LOCK, Head, Heads, move_revisions
from engine.crypto import KeyRing
from engine.db import Base, BulkInsert, Database, UtcDateTime, open_database, utc_now
from engine.errors import UnauditedChange
from engine.ids import new_id
from engine.models import Account, AuditEntry

PLATFORM = "platform"  # the chain of requests with no known account
OPERATOR = "platform_operator"  # the type of an actor who acts for an account that is not their own
GENESIS = "0" * 64
_HEAD = text("SELECT seq, hash, at FROM audit_entry WHERE chain = :chain ORDER BY seq DESC LIMIT 1").columns(
    seq=Integer, hash=String, at=UtcDateTime
)
_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False
)  # made once: imports write 20,000
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, from where, by which request. Names are kept as they are now: they survive renames and deletions."""

    type: str  # user | api_key | platform_operator | phone | system | cli | anonymous
    id: str
    name: str
    ip: str
    account_id: str | None = None
    display_name: str = ""
    role: str = ""
    user_agent: str = ""
    request_id: str = ""
    method: str = ""
    route: str = ""  # the route's template, never the raw path


SYSTEM = Actor("system", "system", "Callpoint", "local")


@dataclass(slots=True)
class Note:
    """An entry to be: written at commit."""

    actor: Actor
    event: Event
    target: Base | None
    resource: tuple[str, str, str]  # type, id, name
    outcome: str
    status: int | None
    reason: str | None
    bulk_id: str | None
    account_id: str | None
    details: dict[str, Any] = field(default_factory=dict)


def record(
    session: AsyncSession | Session,
    actor: Actor,
    event: Event,
    target: Base | None = None,
    *,
    resource: tuple[str, str, str] | None = None,
    outcome: str = "success",
    status: int | None = None,
    reason: str | None = None,
    bulk_id: str | None = None,
    account_id: str | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Note one entry for this transaction; it is written, chained, in the same commit.

    Args:
        target: The row the event is about; its changes become the entry's before and after.
        resource: (type, id, name) where there is no row, such as a list.
        account_id: Whose chain, when neither actor nor target says it. None of them: the platform's.
        details: Further facts shown with the entry; never a secret.
    """
    notes: list[Note] = session.info.setdefault("audit", [])
    found = resource or _resource_of(target, event)
    notes.append(
        Note(
            actor,
            event,
            target,
            found,
            outcome,
            status,
            reason,
            bulk_id,
            account_id or _account_of(target, actor),
            details or {},
        )
    )


@contextmanager
def parts_of(session: AsyncSession, bulk_id: str | None) -> Iterator[None]:
    """The entries noted inside are parts of that bulk operation; None: of none."""
    before = len(session.info.get("audit", []))
    yield
    for note in session.info.get("audit", [])[before:]:
        note.bulk_id = bulk_id


def is_recorded(session: AsyncSession | Session) -> bool:
    """Whether this transaction has an entry already."""
    return bool(session.info.get("audit"))


def open_audited(url: str, keys: KeyRing, clock: Clock = utc_now) -> Database:
    """Open the database with the commit guard on every session. The only way the product opens it for writing.

    Args:
        clock: By which entries are given their times.
    """
    database = open_database(url, keys)
    fingerprint_key = keys.subkey("audit-fingerprint")
    table = cast("Table", AuditEntry.__table__)
    insert = BulkInsert(table, table.columns.keys(), database.engine.sync_engine.dialect)
    heads = Heads(database.engine.sync_engine.dialect, insert)
    database.session_class.fingerprint_key = fingerprint_key  # type: ignore[attr-defined]  # for `engine.audit.parts`
    database.session_class.audit_clock = staticmethod(clock)  # type: ignore[attr-defined]
    steps = database.session_class.audit_steps = Steps()  # type: ignore[attr-defined]

    def before_commit(session: Session) -> None:
        _write_entries(session, fingerprint_key, insert, heads)

    def after_commit(session: Session) -> None:
        heads.remember(session.info.pop("heads", {}))
        steps.remember(session.info.pop("steps", {}))
        _tell_revisions(session)

    for name, listener in (
        ("before_flush", changes.gather),
        ("before_commit", before_commit),
        ("after_commit", after_commit),
        ("after_rollback", _forget),
    ):
        sql_event.listen(database.session_class, name, listener)
    return database


def _resource_of(target: Base | None, event: Event) -> tuple[str, str, str]:
    if target is None:
        kind = event.value.split(".")[0]
        return (kind, kind, "")
    identity = str(getattr(target, "id", ""))
    name = str(
        getattr(target, "name", "")
        or getattr(target, "label", "")
        or getattr(target, "email", "")
        or getattr(target, "mac", "")
    )
    return (getattr(target, "resource_type", target.__tablename__), identity, name)


def _account_of(target: Base | None, actor: Actor) -> str | None:
    if isinstance(target, Account):
        return target.id
    return getattr(target, "account_id", None) or actor.account_id


def _write_entries(session: Session, fingerprint_key: bytes, insert: BulkInsert, heads: Heads) -> None:
    if session.in_nested_transaction():
        return
    session.flush()
    gathered = changes.of(session)
    notes: list[Note] = session.info.get("audit", [])
    writes = [note for note in notes if FACTS[note.event].access is Access.WRITE]
    if gathered.rows and not writes:
        names = sorted({row.__tablename__ for row in gathered.rows})
        raise UnauditedChange(f"A change of {', '.join(names)} had no audit entry beside it; nothing was stored.")
    if gathered.bumps_every_account:
        gathered.bumped.update(session.scalars(select(Account.id)))
    if gathered.bumped:
        session.info["bumped"] = set(gathered.bumped)
    told = _assign(notes, writes, gathered, fingerprint_key)
    with_entry, ends = _stored_behind(session, notes, told, heads, gathered.bumped)
    session.info["heads"] = ends or _stored(session, notes, told, insert)
    move_revisions(session, gathered.bumped - with_entry)
    session.info.pop("audit", None)
    session.info.pop("changes", None)


def _assign(
    notes: list[Note], writes: list[Note], gathered: changes.Changes, key: bytes
) -> dict[int, dict[str, dict[str, Any]]]:
    """Which note tells which changes, as `{field: {before, after}}`."""
    told: dict[int, dict[str, dict[str, Any]]] = {}
    for row, fields in gathered.rows.items():
        owner = next((note for note in notes if note.target is row), None)
        prefix = ""
        if owner is None:
            owner = writes[0]
            kind, identity, _name = _resource_of(row, owner.event)
            prefix = f"{row.__tablename__}[{identity or getattr(row, 'key', '')}]." if kind else ""
        mine = told.setdefault(id(owner), {})
        for name, change in fields.items():
            mine[prefix + name] = changes.as_json(change, key)
    return told


def _stored_behind(
    session: Session, notes: list[Note], told: dict[int, dict[str, dict[str, Any]]], heads: Heads, bumped: set[str]
) -> tuple[set[str], dict[str, Head]]:
    """Store a single entry behind the head that is remembered, unless the chain has another one by now, or the clock
    was set back, which is an entry too.

    Returns whose revision moved with it, and that chain's new head; no head: no entry was stored.
    """
    known = heads.of(_chain_of(notes[0])) if len(notes) == 1 else None
    if known is None:
        return set(), {}
    chain = _chain_of(notes[0])
    timed = timed_behind(session, chain, known.at)
    if timed.is_step:
        return set(), {}
    with_entry = bumped if len(bumped) == 1 else set[str]()
    values = entry_behind(known, notes[0], chain, told.get(id(notes[0]), {}), timed)
    if not heads.append(session, chain, known, values, next(iter(with_entry), None)):
        return with_entry, {}
    return with_entry, {chain: _head_at(values)}


def _stored(
    session: Session, notes: list[Note], told: dict[int, dict[str, dict[str, Any]]], insert: BulkInsert
) -> dict[str, Head]:
    """Store the entries behind the heads as they are read now. Returns the chains' new heads."""
    ends: dict[str, Head] = {}
    rows = [insert.row(values) for note in notes for values in _appended(session, note, told.get(id(note), {}), ends)]
    if rows:  # past the ORM, which takes longer over one row than the database
        session.connection().exec_driver_sql(insert.statement, rows if len(rows) > 1 else rows[0])
    return ends


def _chain_of(note: Note) -> str:
    return note.account_id or PLATFORM


def _appended(
    session: Session, note: Note, told: dict[str, dict[str, Any]], heads: dict[str, Head]
) -> Iterator[dict[str, Any]]:
    """The columns of that note's entry, behind the end of its chain; before them those of one that says that the clock
    was set back, if it was.
    """
    chain = _chain_of(note)
    head = heads.get(chain) or head_of(session, chain)
    timed = timed_behind(session, chain, head.at)
    if timed.is_step:
        values = step_behind(session, head, chain, timed)
        yield values
        head, timed = _head_at(values), Given(timed.at, timedelta(0))
    values = entry_behind(head, note, chain, told, timed)
    yield values
    heads[chain] = _head_at(values)


def timed_behind(session: Session, chain: str, before: datetime | None) -> Given:
    """The time of an entry of that chain written now, behind one of `before`."""
    own: Any = session  # of the database's own class
    return given(own.audit_clock(), before, session.info.get("steps", {}).get(chain) or own.audit_steps.of(chain))


def _head_at(values: Mapping[str, Any]) -> Head:
    return Head(values["seq"], values["hash"], values["at"])


def step_behind(session: Session, head: Head, chain: str, timed: Given) -> dict[str, Any]:
    """The columns of the entry that says that the clock was set back: times before it are later than behind it. The
    node whose clock it is gives the entry its name.
    """
    session.info.setdefault("steps", {})[chain] = Step(timed.at, timed.behind)
    node = socket.gethostname()
    _log.warning("clock_set_back", chain=chain, node=node, behind_s=timed.behind.total_seconds(), entry=head.seq + 1)
    resource = ("clock", "clock", node)
    note = Note(SYSTEM, Event.CLOCK_SET_BACK, None, resource, "success", None, None, None, chain)
    return entry_behind(head, note, chain, {}, timed)


def entry_behind(head: Head, note: Note, chain: str, told: dict[str, dict[str, Any]], timed: Given) -> dict[str, Any]:
    """The columns of the entry that comes behind that head."""
    seq, prev_hash, at = head.seq + 1, head.hash, timed.at
    facts = FACTS[note.event]
    entry_id = new_id("audit")
    kind, identity, _name = note.resource
    body = body_of(note, chain, told, id=entry_id, seq=seq, at=changes.rfc3339(at))
    entry = canonical(body | {"details": note.details | timed.told} if timed.told else body)
    return {
        "id": entry_id, "chain": chain, "seq": seq, "at": at, "event": note.event.value,
        "category": facts.category.value, "access": facts.access.value, "verb": facts.verb, "outcome": note.outcome,
        "actor_type": note.actor.type, "actor_id": note.actor.id, "actor_name": note.actor.name,
        "resource_type": kind, "resource_id": identity, "ip": note.actor.ip, "entry": entry, "prev_hash": prev_hash,
        "hash": chain_hash(prev_hash, entry),
    }  # fmt: skip


def body_of(note: Note, chain: str, told: Any, **of_entry: Any) -> dict[str, Any]:
    """What an entry's text holds. `of_entry`: its `id`, `seq` and `at` (RFC 3339)."""
    facts = FACTS[note.event]
    kind, identity, name = note.resource
    return {
        "chain": chain,
        "event": note.event.value,
        "category": facts.category.value,
        "access": facts.access.value,
        "verb": facts.verb,
        "actor": {key: getattr(note.actor, key) for key in ("type", "id", "name", "display_name", "role")},
        "resource": {"type": kind, "id": identity, "name": name},
        "outcome": note.outcome,
        "status": note.status,
        "reason": note.reason,
        "changes": told,
        "details": note.details,
        "request": {
            "id": note.actor.request_id,
            "method": note.actor.method,
            "route": note.actor.route,
            "ip": note.actor.ip,
            "user_agent": note.actor.user_agent,
        },
        "bulk_id": note.bulk_id,
        **of_entry,
    }


def head_of(session: Session, chain: str) -> Head:
    """The chain's newest entry, with no other writer behind it until the commit."""
    hold_chain(session, chain)
    found = session.connection().execute(_HEAD, {"chain": chain}).first()
    return Head(*found) if found else Head(0, GENESIS, None)


def hold_chain(session: Session, chain: str) -> None:
    """Keep the chain for this transaction, on PostgreSQL. Everybody takes what they change first, then the chain, then
    the account's revision: whoever took them in another order would wait for somebody who waits for them.
    """
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:chain))"), {"chain": LOCK + chain})


def canonical(body: dict[str, Any]) -> str:
    """The exact text that is stored and hashed: sorted keys, no white space, UTF-8."""
    return _ENCODER.encode(body)


def chain_hash(prev_hash: str, entry: str) -> str:
    """SHA-256 over the hash before and the entry's stored bytes, in hex."""
    return sha256(bytes.fromhex(prev_hash) + entry.encode("utf-8", "surrogatepass")).hexdigest()


def _tell_revisions(session: Session) -> None:
    bumped = session.info.pop("bumped", None)
    if bumped:
        for listener in session.info.get("revision_listeners", ()):
            listener(bumped)


def _forget(session: Session) -> None:
    for key in ("audit", "changes", "bumped", "heads", "steps"):
        session.info.pop(key, None)
