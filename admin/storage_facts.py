"""What an account's storage settings rest on: how many records of each kind it holds, what a change would remove."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store_storage
from engine.accounts.keeping import DEFAULT, changed
from engine.accounts.storage import Removal
from engine.accounts.store_storage import COUNTED
from engine.audit import store_beginnings
from engine.e911 import store_removal
from engine.provisioning import retention


@dataclass(frozen=True, slots=True)
class Held:
    """Records of one kind. `is_least`: there may be more. `since`: when the oldest was; None: there is none."""

    count: int
    is_least: bool
    since: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is counted before a request's transaction is open: the database has one writer, and this takes a while."""

    held: Mapping[str, Held]
    removals: tuple[Removal, ...] = ()


async def held(session: AsyncSession, account_id: str) -> dict[str, Held]:
    """By the name of the setting. Audit entries are numbered, so their count is exact; others are counted so far."""
    entries = await store_beginnings.held(session, account_id)
    counted = {
        "call_days": await store_removal.calls_held(session, account_id, COUNTED),
        "session_days": await store_storage.sign_ins_held(session, account_id),
        "fetch_log_days": await retention.events_held(session, account_id, COUNTED),
    }
    found = {"audit_days": Held(entries.count, is_least=False, since=entries.since)}
    return found | {name: Held(count, count >= COUNTED, since) for name, (count, since) in counted.items()}


async def removals(
    session: AsyncSession, account_id: str, changes: Mapping[str, Any], now: dt.datetime
) -> tuple[Removal, ...]:
    """What goes at the next round of the kinds whose time becomes as `changes` say. A bad value removes nothing. The
    fetch log is asked about by nobody.

    For a session that only reads: it looks at as many as `COUNTED` records of each kind.
    """
    found: list[Removal] = []
    ends: dict[str, dt.datetime | None] = {}
    for name in changes.keys() & DEFAULT.values().keys():
        wished, faults = changed(DEFAULT, {name: changes[name]})
        if not faults:
            ends[name] = wished.end_of(name, now)
    if (end := ends.get("audit_days")) is not None:
        prefix = await store_beginnings.older_than(session, account_id, end)
        count = 0 if prefix is None else prefix.count
        found.append(Removal("audit_days", "audit entry", "audit entries", count, is_least=False, until=end))
    if (end := ends.get("call_days")) is not None:
        count = await store_removal.count_old_calls(session, account_id, end, COUNTED)
        found.append(
            Removal("call_days", "record of a call", "records of calls", count, is_least=count >= COUNTED, until=end)
        )
    if (end := ends.get("session_days")) is not None:
        count = await store_storage.count_old_sign_ins(session, account_id, end)
        found.append(
            Removal("session_days", "ended session", "ended sessions", count, is_least=count >= COUNTED, until=end)
        )
    return tuple(found)
