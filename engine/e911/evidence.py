"""What each source of a location said, what came of it, and what an operator must know of that. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from engine.e911.civic import DispatchableLocation
from engine.e911.rows import Line, Phone

STALE_AFTER = timedelta(days=365)  # an address nobody has confirmed for a year is used, and flagged
NO_LOCATION = "location_unknown"
STALE = "stale"
DISAGREEMENT = "disagreement"


class Source(StrEnum):
    """The rung that answered. Stored names."""

    SUBNET = "subnet"
    PHONE = "phone"
    LINE = "line"
    PBX_DEFAULT = "pbx_default"
    ACCOUNT_DEFAULT = "account_default"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one rung said: `said` is the location's name, None when the rung is silent; `age_s` since it was
    validated.
    """

    source: Source
    said: str | None
    age_s: int | None
    taken: bool
    why: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """The answer, with all that led to it. `location` None: nothing known; the call goes on all the same.

    Verdict and flags are worked out when they are read: for the record, after the call has left.
    """

    location: DispatchableLocation | None
    source: Source
    phone: Phone | None
    line: Line | None
    rungs: "tuple[Rung, ...]"
    at: datetime

    @property
    def verdict(self) -> tuple[Evidence, ...]:
        """Every source in its order: what it said, how old that is, and why it was taken or passed over."""
        taken = next((rung for rung in self.rungs if rung.location is not None), None)
        return tuple(evidence_of(rung, rung is taken, self.at) for rung in self.rungs)

    @property
    def flags(self) -> tuple[str, ...]:
        """What an operator must know of this answer: none, stale, or sources that disagree."""
        return flags_of(self.location, self.rungs, self.at)


class Rung(NamedTuple):  # five are made for each call: a tuple is made in C
    source: Source
    location: DispatchableLocation | None
    why: str


def evidence_of(rung: Rung, taken: bool, now: datetime) -> Evidence:
    if rung.location is None:
        return Evidence(rung.source, None, None, taken=False, why=rung.why)
    at = rung.location.validated_at
    age_s = max(0, int((now - at).total_seconds())) if at else None
    why = rung.why if at else f"{rung.why}; the address was never validated"
    return Evidence(rung.source, rung.location.name, age_s, taken, why)


def flags_of(location: DispatchableLocation | None, rungs: tuple[Rung, ...], now: datetime) -> tuple[str, ...]:
    if location is None:
        return (NO_LOCATION,)
    flags = []
    if location.validated_at is not None and now - location.validated_at > STALE_AFTER:
        flags.append(STALE)
    # defaults claim nothing about this caller, so they cannot disagree
    claims = [rung.location for rung in rungs[:3] if rung.location is not None]
    if any(_disagree(location, other) for other in claims):
        flags.append(DISAGREEMENT)
    return tuple(flags)


def _disagree(one: DispatchableLocation, other: DispatchableLocation) -> bool:
    if one.id == other.id:
        return False
    if not one.civic_address.elements or not other.civic_address.elements:
        return True
    return one.civic_address.contradicts(other.civic_address)
