"""Who changed a record meanwhile, when and what: told to whoever was about to change it from an older state."""

import datetime as dt
import json
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from admin.field_words import label_of, value_of
from admin.render import zone_of
from engine.audit.store import Filters, list_entries
from engine.models import Account, AuditEntry

MOST_FIELDS = 4
MOST_CHARACTERS = 60
MOST_DIGITS = 10
MOST_LOOKED_THROUGH = 20  # of the record's latest changes, for the one that touched the field in question


async def who_changed(
    session: AsyncSession,
    account: Account,
    row_id: str,
    *,
    since: dt.datetime | None = None,
    fields: Collection[str] = (),
    versions: int = 1,
) -> str:
    """A sentence on the latest change of that record, from the audit log, or on how it came to be; empty when the log
    holds neither.

    Args:
        since: When the record was last changed: an older entry tells of another change, not of this one.
        fields: What was about to be changed: the latest change of one of these goes before later ones of others.
        versions: How many changes the older state is behind: what is told is one of these.
    """
    for verb in ("update", "create") if row_id else ():
        asked = Filters(target=row_id, outcome="success", verb=verb)
        rows = (await list_entries(session, account.id, asked, limit=min(max(versions, 1), MOST_LOOKED_THROUGH))).rows
        if rows and (since is None or rows[0].at >= since):
            row = next((row for row in rows if not _changes(row).keys().isdisjoint(fields)), rows[0])
            return _sentence(row, account, fields)
    return ""


def versions_since(seen: str, now: int) -> int:
    """How many changes a state is behind; 1 when it does not say a version that ever was."""
    is_number = seen.isascii() and seen.isdigit() and len(seen) < MOST_DIGITS
    return max(now - int(seen), 1) if is_number else 1


def _changes(row: AuditEntry) -> Mapping[str, Any]:
    changes: Mapping[str, Any] = json.loads(row.entry)["changes"]
    return changes


def _sentence(row: AuditEntry, account: Account, fields: Collection[str]) -> str:
    told = json.loads(row.entry)
    actor: Mapping[str, Any] = told["actor"]
    who = actor.get("display_name") or actor.get("name") or "Somebody"
    at = row.at.astimezone(zone_of(account))
    in_question_first = sorted(told["changes"].items(), key=lambda item: item[0] not in fields)
    changed = [said for name, change in in_question_first for said in _change(name, change, row.resource_type)]
    what = ", ".join(changed[:MOST_FIELDS]) + (" and more" if len(changed) > MOST_FIELDS else "")
    return f"{who} changed {what or 'it'} on {at:%d %b %Y at %H:%M:%S}."


def _change(name: str, change: Mapping[str, Any], kind: str) -> list[str]:
    """The change in words; of an object, such as an address, each element that differs."""
    before, after = change.get("before"), change.get("after")
    if name == "id":
        return []
    if isinstance(after, Mapping) and isinstance(before, Mapping | None):
        first: Mapping[str, Any] = before or {}
        moved = [one for one in {**first, **after} if first.get(one) != after.get(one)]
        return [_told(f"{name}.{one}", first.get(one), after.get(one), kind) for one in moved]
    return [_told(name, before, after, kind)]


def _told(name: str, before: object, after: object, kind: str) -> str:
    """The field by its label, and from what to what where that is short and no identifier."""
    label = label_of(name, kind)
    if name.endswith("_id") or not (_is_short(before) and _is_short(after)):
        return label
    return f"{label} ({value_of(name, before)} → {value_of(name, after)})"


def _is_short(value: object) -> bool:
    return value is None or (isinstance(value, str | int) and len(str(value)) <= MOST_CHARACTERS)
