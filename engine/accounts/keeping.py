"""How long an account keeps its records: what the settings are and what they may be (pure)."""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from engine.errors import FieldFault

FOR_EVER = 0
MOST_DAYS = 36_500
# PCI DSS 4.0.1, 10.5.1: twelve months of audit logs, of which sign-ins (10.2.1) are a part. The records of calls are
# what an inquiry or a claim asks for, and those come late.
LEAST_DAYS = 365
MOST_FETCH_DAYS = 3_650  # a log of what machines fetched: it is no proof of anything, so it may not grow for ever


@dataclass(frozen=True, slots=True)
class Keeping:
    """For how many days each kind of record is kept; 0: for ever.

    call_days: emergency and test calls with their INVITEs, attempts, callbacks and notifications. session_days: ended
    sessions and refused API keys, of which the authentication log is made. fetch_log_days: what phones fetched.
    """

    audit_days: int = FOR_EVER
    call_days: int = FOR_EVER
    session_days: int = FOR_EVER
    fetch_log_days: int = 90

    def values(self) -> dict[str, int]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def of(cls, row: object | None) -> "Keeping":
        """The settings of a stored row; the defaults without one."""
        return DEFAULT if row is None else cls(**{each.name: getattr(row, each.name) for each in fields(cls)})

    def end_of(self, name: str, now: dt.datetime) -> dt.datetime | None:
        """Before what time records of that kind are old; None: they are kept for ever.

        A number that no form lets through removes nothing either: the row was not written by Callpoint.
        """
        return now - dt.timedelta(days=getattr(self, name)) if self.is_valid(name) and getattr(self, name) else None

    def is_valid(self, name: str) -> bool:
        """Whether that setting is one that may be made."""
        return not any(_faults({name: getattr(self, name)}))


DEFAULT = Keeping()
_WHY = {
    "audit_days": "PCI DSS 10.5.1 asks for twelve months of audit log",
    "call_days": "inquiries and claims about an emergency come months later",
    "session_days": "sign-ins are part of the twelve months that PCI DSS 10.5.1 asks for",
}


def changed(keeping: Keeping, changes: Mapping[str, Any]) -> tuple[Keeping, tuple[FieldFault, ...]]:
    """The settings with those fields changed, and every fault; with faults they are as they were."""
    found = tuple(_faults(changes))
    return (keeping, found) if found else (Keeping(**{**keeping.values(), **changes}), ())


def shortened(before: Keeping, after: Keeping) -> frozenset[str]:
    """The kinds of records that are kept for less time than before."""
    return frozenset(name for name, days in after.values().items() if _lasting(days) < _lasting(before.values()[name]))


def _lasting(days: int) -> float:
    return float("inf") if days == FOR_EVER else days


def _faults(changes: Mapping[str, Any]) -> Iterator[FieldFault]:
    for name, value in changes.items():
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if name == "fetch_log_days":
            if not is_whole or not 1 <= value <= MOST_FETCH_DAYS:
                yield FieldFault(name, f"Expected 1 to {MOST_FETCH_DAYS:,} days, got {value}.")
        elif not is_whole or not (value == FOR_EVER or LEAST_DAYS <= value <= MOST_DAYS):
            expected = f"Expected 0 (for ever) or {LEAST_DAYS} to {MOST_DAYS:,} days, got {value}"
            yield FieldFault(name, f"{expected}: {_WHY[name]}.")
