"""Who changed a record meanwhile, when and what: told to whoever was about to change it from an older state."""

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from admin.render import zone_of
from engine.audit.store import Filters, list_entries
from engine.models import Account, AuditEntry

MOST_FIELDS = 4
MOST_CHARACTERS = 60
ELEMENT_WORDS = {
    "country": "Country", "A1": "State or province", "A2": "County", "A3": "City", "HNO": "House number",
    "HNS": "Number suffix", "PRD": "Direction before", "RD": "Street", "STS": "Street type", "POD": "Direction after",
    "PC": "Postal code", "BLD": "Building", "FLR": "Floor", "UNIT": "Suite", "ROOM": "Room", "LOC": "More words",
}  # fmt: skip


async def who_changed(session: AsyncSession, account: Account, row_id: str, *, since: dt.datetime | None = None) -> str:
    """A sentence on the latest change of that record, from the audit log, or on how it came to be; empty when the log
    holds neither.

    Args:
        since: When the record was last changed: an older entry tells of another change, not of this one.
    """
    for verb in ("update", "create") if row_id else ():
        asked = Filters(target=row_id, outcome="success", verb=verb)
        page = await list_entries(session, account.id, asked, limit=1)
        if page.rows and (since is None or page.rows[0].at >= since):
            return _sentence(page.rows[0], account)
    return ""


def _sentence(row: AuditEntry, account: Account) -> str:
    told = json.loads(row.entry)
    actor: Mapping[str, Any] = told["actor"]
    who = actor.get("display_name") or actor.get("name") or "Somebody"
    at = row.at.astimezone(zone_of(account))
    changed = [said for name, change in told["changes"].items() for said in _change(name, change)]
    what = ", ".join(changed[:MOST_FIELDS]) + (" and more" if len(changed) > MOST_FIELDS else "")
    return f"{who} changed {what or 'it'} on {at:%d %b %Y at %H:%M:%S}."


def _change(name: str, change: Mapping[str, Any]) -> list[str]:
    """The change in words; of an object, such as an address, each element that differs."""
    label = name.replace("_", " ")
    before, after = change.get("before"), change.get("after")
    if isinstance(after, Mapping) and isinstance(before, Mapping | None):
        first: Mapping[str, Any] = before or {}
        moved = [one for one in {**first, **after} if first.get(one) != after.get(one)]
        return [f"{_element(label, one)}{_from_to(first.get(one), after.get(one))}" for one in moved]
    return [label + _from_to(before, after)]


def _element(label: str, name: str) -> str:
    """An element of an address by the label of its field; one without a field by its own name."""
    return ELEMENT_WORDS.get(name, f"{label} {name}") if label.endswith("address") else f"{label} {name}"


def _from_to(before: object, after: object) -> str:
    return f" ({_shown(before)} → {_shown(after)})" if _is_short(before) and _is_short(after) else ""


def _is_short(value: object) -> bool:
    return value is None or (isinstance(value, str | int) and len(str(value)) <= MOST_CHARACTERS)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if value not in {None, ""} else "nothing"
