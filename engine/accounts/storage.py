"""Operations on how long an account keeps its records, and the removal of older sign-ins. Nobody here commits."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store_storage
from engine.accounts.keeping import Keeping, changed, shortened
from engine.audit.events import Event
from engine.audit.record import SYSTEM, Actor, record
from engine.errors import FieldFault, Invalid
from engine.models import Account, StorageSettings

ACCEPT = "accept_removal"


@dataclass(frozen=True, slots=True)
class Removal:
    """What a shorter time would remove of one kind of record: how many, or so many at least, and up to when."""

    name: str  # of the setting
    one: str  # such as "audit entry"
    many: str
    count: int
    is_least: bool
    until: dt.datetime


def wished(row: StorageSettings, changes: Mapping[str, Any]) -> tuple[Keeping, frozenset[str]]:
    """The settings as they would be, and which of them are shorter than now.

    Raises:
        Invalid: every bad field.
    """
    before = Keeping.of(row)
    after, faults = changed(before, changes)
    if faults:
        raise Invalid("Records cannot be kept like this.", fields=faults)
    return after, shortened(before, after)


def update_storage(
    session: AsyncSession, actor: Actor, account: Account, row: StorageSettings, keeping: Keeping,
    removals: Sequence[Removal], *, is_accepted: bool,
) -> None:  # fmt: skip
    """Keep records for that long from the commit on.

    Args:
        removals: What `wished` would remove at the next round; without `is_accepted` nothing of it may.

    Raises:
        Invalid: something would be removed and nobody said that it may.
    """
    lost = [removal for removal in removals if removal.count]
    if lost and not is_accepted:
        fault = FieldFault(ACCEPT, f"{in_words(lost)} Export first what you need, then say here that they may go.")
        raise Invalid("Nothing was changed yet: records would be removed.", fields=(fault,))
    for name, value in keeping.values().items():
        setattr(row, name, value)
    record(
        session, actor, Event.STORAGE_SETTINGS_UPDATE, row, resource=("storage_settings", account.id, account.name),
        details={"removes": {removal.name: removal.count for removal in lost}} if lost else {},
    )  # fmt: skip


def in_words(removals: Sequence[Removal]) -> str:
    """`1,200 audit entries until 2025-11-22 and 3 records of calls until … would be removed within hours.`"""
    parts = [_in_words(removal) for removal in removals]
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{listed[:1].upper()}{listed[1:]} would be removed within hours."


def _in_words(removal: Removal) -> str:
    noun = removal.one if removal.count == 1 else removal.many
    return f"{'at least ' if removal.is_least else ''}{removal.count:,} {noun} until {removal.until:%Y-%m-%d}"


async def remove_old_sign_ins(
    session: AsyncSession, account_id: str, end: dt.datetime, *, days: int, limit: int
) -> int:
    """Remove the oldest ended sessions and refused keys, `limit` of each at most, with one entry. Returns how many."""
    ended = await store_storage.old_sign_ins(session, account_id, end, limit)
    refused = await store_storage.old_refused_keys(session, account_id, end, limit)
    if not ended and not refused:
        return 0
    await store_storage.remove_sign_ins(session, ended)
    await store_storage.remove_refused_keys(session, refused)
    record(
        session, SYSTEM, Event.SESSION_PRUNE, resource=("session", account_id, ""), account_id=account_id,
        details={"sessions": len(ended), "refused_keys": len(refused), "kept_days": days},
    )  # fmt: skip
    return len(ended) + len(refused)
