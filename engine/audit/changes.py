"""What changed in a transaction, gathered before each flush: field by field, with secrets hidden by their column's
type.

Also stamps versions and times on changed rows and notes which accounts' revisions must move, so that no operation can
forget it.
"""

import datetime as dt
import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import get_history
from sqlalchemy.orm.base import NO_VALUE, PASSIVE_NO_INITIALIZE

from engine.db import Base, Sealed, utc_now
from engine.models import Account, Audited, Stamped, Versioned

_BOOKKEEPING = frozenset({"version", "created_at", "updated_at"})


@dataclass(slots=True)
class FieldChange:
    """One field's first old value and last new value in this transaction."""

    before: Any
    after: Any
    is_secret: bool


@dataclass(slots=True)
class Changes:
    """All of a transaction's: audited rows with their fields, and accounts whose revision moves: those named, or every
    one (a row that is nobody's own, such as settings of all accounts, changed).
    """

    rows: dict[Base, dict[str, FieldChange]] = field(default_factory=dict)
    bumped: set[str] = field(default_factory=set)
    bumps_every_account: bool = False
    stamped: set[int] = field(default_factory=set)
    removed: set[Base] = field(default_factory=set)


def of(session: Session) -> Changes:
    """The gathering of that session's current transaction."""
    found = session.info.get("changes")
    if found is None:
        found = session.info["changes"] = Changes()
    return found


def gather(session: Session, _flush_context: object = None, _instances: object = None) -> None:
    """Before a flush: note every audited change, stamp rows, mark revisions."""
    changes = of(session)
    for row in session.new:
        _stamp_new(row)
        _note(changes, row, _creation(row))
    for row in session.dirty:
        if moved := dict(_movement(row)):
            _stamp_dirty(changes, row, moved)
            _note(changes, row, moved)
    for row in session.deleted:
        _note(changes, row, _deletion(row))


def tell_as_deleted(session: Session, row: Base) -> None:
    """Tell the end of a row that stays in its table for the logs' sake as a deletion: each field as it was, then null.

    Called before anything of the row is changed; what becomes of it in this transaction is told no further.
    """
    assert isinstance(row, Audited)
    changes = of(session)
    hidden = row.unaudited_columns | _BOOKKEEPING
    changes.rows[row] = {name: change for name, change in _deletion(row).items() if name not in hidden}
    changes.removed.add(row)


def _note(changes: Changes, row: Base, moved: dict[str, FieldChange]) -> None:
    if isinstance(row, Versioned) and moved.keys() - row.unversioned_columns - _BOOKKEEPING:
        account_id = row.id if isinstance(row, Account) else row.account_id  # type: ignore[attr-defined]
        if account_id is None:
            changes.bumps_every_account = True
        else:
            changes.bumped.add(account_id)
    if not isinstance(row, Audited) or row in changes.removed:
        return
    told = {name: change for name, change in moved.items() if name not in row.unaudited_columns | _BOOKKEEPING}
    if not told:
        return
    known = changes.rows.setdefault(row, {})
    for name, change in told.items():
        if name in known:
            known[name].after = change.after
        else:
            known[name] = change


@cache  # a class's columns never change, and asking the mapper for them took longer than comparing the values
def _columns(kind: type[Base]) -> dict[str, bool]:
    """The names of that class's columns; True: a secret."""
    return {
        attribute.key: isinstance(attribute.columns[0].type, Sealed) or bool(attribute.columns[0].info.get("secret"))
        for attribute in inspect(kind).column_attrs
    }


@cache
def _defaults(kind: type[Base]) -> tuple[tuple[str, Any], ...]:
    """The defaults that columns have of their own, by the attribute's name."""
    mapper = inspect(kind)
    return tuple(
        (mapper.get_property_by_column(column).key, column.default)
        for column in mapper.columns
        if column.default is not None
    )


def _creation(row: Base) -> dict[str, FieldChange]:
    return {
        name: FieldChange(None, value, is_secret)
        for name, is_secret in _columns(type(row)).items()
        if (value := getattr(row, name)) is not None and value != ""
    }


def _deletion(row: Base) -> dict[str, FieldChange]:
    return {
        name: FieldChange(value, None, is_secret)
        for name, is_secret in _columns(type(row)).items()
        if (value := getattr(row, name)) is not None and value != ""
    }


def _movement(row: Base) -> Iterator[tuple[str, FieldChange]]:
    state, columns = inspect(row), _columns(type(row))
    for name in columns.keys() & state.committed_state.keys():  # the fields that were set since the last flush
        is_secret, history = columns[name], get_history(row, name, PASSIVE_NO_INITIALIZE)
        if history.has_changes():
            before = history.deleted[0] if history.deleted else None
            after = history.added[0] if history.added else None
            if before is not NO_VALUE and before == after:
                continue
            yield name, FieldChange(None if before is NO_VALUE else before, after, is_secret)


def _stamp_new(row: Base) -> None:
    if isinstance(row, Stamped):
        now = utc_now()
        row.version = row.version or 1
        row.created_at = row.created_at or now
        row.updated_at = row.updated_at or now
    for key, default in _defaults(type(row)):  # so that the entry shows what is stored, defaults included
        if getattr(row, key) is None:
            setattr(row, key, default.arg(None) if default.is_callable else default.arg)


def _stamp_dirty(changes: Changes, row: Base, moved: dict[str, FieldChange]) -> None:
    if not isinstance(row, Stamped) or id(row) in changes.stamped:
        return
    machine = row.unaudited_columns if isinstance(row, Audited) else frozenset[str]()
    if moved.keys() - machine - _BOOKKEEPING:
        changes.stamped.add(id(row))
        row.version += 1
        row.updated_at = utc_now()


def as_json(change: FieldChange, fingerprint_key: bytes) -> dict[str, Any]:
    """One change as the entry stores it; a secret shows only whether it was there and a keyed fingerprint."""
    if not change.is_secret:
        return {"before": _plain(change.before), "after": _plain(change.after)}
    return {"before": _hidden(change.before, fingerprint_key), "after": _hidden(change.after, fingerprint_key)}


def _hidden(value: object, key: bytes) -> dict[str, Any] | None:
    if value is None:
        return None
    return {"redacted": True, "fingerprint": hmac.digest(key, str(value).encode(), "sha256").hex()[:16]}


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return rfc3339(value)
    if isinstance(value, bytes):
        return value.hex()
    return value


def rfc3339(at: dt.datetime) -> str:
    """`2026-11-21T20:00:00.123Z`."""
    return at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
