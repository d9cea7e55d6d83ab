"""Days and times in the address of a list: read, or told what was expected."""

import datetime as dt
from collections.abc import Mapping

from engine.errors import FieldFault

STORABLE_YEARS = range(1971, 9001)  # so that no zone moves a day out of what can be stored


def instant_asked(query: Mapping[str, str], name: str, faults: list[FieldFault]) -> dt.datetime | None:
    """A time with its zone (RFC 3339), as UTC; None: none is named, or `faults` says what is wrong with it."""
    text = query.get(name)
    if text is None:
        return None
    try:
        at = dt.datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        pass  # told like a time without its zone
    faults.append(FieldFault(name, "Expected a time with its zone, such as 2026-11-21T20:00:00Z."))
    return None


def day_asked(query: Mapping[str, str], name: str, faults: list[FieldFault]) -> dt.date | None:
    """A day of the calendar; None: none is named, or `faults` says what is wrong with it."""
    text = query.get(name, "").strip()
    if not text:
        return None
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        day = dt.date.min
    if day.year in STORABLE_YEARS:
        return day
    faults.append(FieldFault(name, f"Expected a day such as 2026-11-21, got {text[:40]!r}."))
    return None
