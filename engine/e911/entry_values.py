"""Values of the journal's entries as the database takes them: whatever an entry holds, its call is stored. Pure."""

import datetime as dt
import math
import re
from typing import Any

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # no database takes these in a text


def instant_of(text: object) -> dt.datetime | None:
    """An RFC 3339 time as the journal holds it; None for anything else."""
    try:
        at = dt.datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return at.astimezone(dt.UTC) if at is not None and at.tzinfo is not None else None


def list_of(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def status_of(value: object) -> int | None:
    return value if isinstance(value, int) and 100 <= value <= 699 else None


def storable(value: Any) -> Any:
    """The entry with every character that a database refuses replaced by the one for what cannot be shown."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, float) and not math.isfinite(value):
        return None  # Python writes Infinity, which is no JSON: what indexes the audit log would refuse the whole call
    if isinstance(value, dict):
        return {storable(name): storable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [storable(inner) for inner in value]
    return value
