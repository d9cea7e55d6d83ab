"""Who changed a record meanwhile, when and what: told to whoever was about to change it from an older state."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from admin.render import zone_of
from engine.audit.store import Filters, list_entries
from engine.models import Account, AuditEntry

MOST_FIELDS = 4
MOST_CHARACTERS = 60


async def who_changed(session: AsyncSession, account: Account, row_id: str) -> str:
    """A sentence on the latest change of that record, from the audit log; empty when the log holds none."""
    page = await list_entries(session, account.id, Filters(target=row_id, outcome="success", verb="update"), limit=1)
    return _sentence(page.rows[0], account) if page.rows else ""


def _sentence(row: AuditEntry, account: Account) -> str:
    told = json.loads(row.entry)
    actor: Mapping[str, Any] = told["actor"]
    who = actor.get("display_name") or actor.get("name") or "Somebody"
    at = row.at.astimezone(zone_of(account))
    changed = [_change(name, change) for name, change in told["changes"].items()]
    what = ", ".join(changed[:MOST_FIELDS]) + (" and more" if len(changed) > MOST_FIELDS else "")
    return f"{who} changed {what or 'it'} on {at:%d %b %Y at %H:%M:%S}."


def _change(name: str, change: Mapping[str, Any]) -> str:
    label = name.replace("_", " ")
    before, after = change.get("before"), change.get("after")
    if _is_short(before) and _is_short(after):
        return f"{label} ({_shown(before)} → {_shown(after)})"
    return label


def _is_short(value: object) -> bool:
    return value is None or (isinstance(value, str | int) and len(str(value)) <= MOST_CHARACTERS)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if value not in {None, ""} else "nothing"
