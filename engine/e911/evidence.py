"""What each source of a location said, what came of it, and what an operator must know of that. Pure."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from engine.e911.civic import DispatchableLocation
from engine.e911.geo import Polygon, Prism, Shape
from engine.e911.rows import Line, Phone

STALE_AFTER = timedelta(days=365)  # an address nobody has confirmed for a year is used, and flagged
SIGHTING_STALE_AFTER = timedelta(hours=24)  # a phone that was not seen for a day may have been carried elsewhere
NO_LOCATION = "location_unknown"
STALE = "stale"
STALE_SIGHTING = "stale_sighting"
DISAGREEMENT = "disagreement"
UNPLACED_SIGHTING = "unplaced_sighting"
REFERENCE_UNRESOLVED = "reference_unresolved"  # the request named where to ask, and nobody answered in time

SAME_PLACE_M = 250.0  # two positions this close are one site: a street corner and a door differ by less
EARTH_RADIUS_M = 6_371_008.8  # mean radius, IUGG


class Source(StrEnum):
    """The rung that answered, in the order they are asked. Stored names."""

    SWITCH_PORT = "switch_port"
    SWITCH = "switch"
    BSSID = "bssid"
    SUBNET = "subnet"
    CONFIRMED = "confirmed"
    REQUEST = "request"
    REFERENCE = "reference"
    PHONE = "phone"
    LINE = "line"
    PBX_DEFAULT = "pbx_default"
    ACCOUNT_DEFAULT = "account_default"
    NONE = "none"


# these claim nothing about this caller: they cannot disagree, and a reference is worth a wait when only they know
DEFAULTS = frozenset({Source.PBX_DEFAULT, Source.ACCOUNT_DEFAULT, Source.NONE})
RECORDED = DEFAULTS | {Source.PHONE, Source.LINE}  # these stay behind when the phone is carried elsewhere


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one source said: `said` is the location's name, None when the source is silent; `age_s` how old that is.

    The age counts from when the phone was seen, the user confirmed or the reference answered; for all other sources
    from when the address was validated. None: nobody knows. `elsewhere` is the place itself where it and the one taken
    cannot both be right: the caller may be there.
    """

    source: Source
    said: str | None
    age_s: int | None
    taken: bool
    why: str
    elsewhere: DispatchableLocation | None = None


class Rung(NamedTuple):
    """One source's word, as found. A dozen are made for each call, so it is a tuple and `why` is not yet a sentence.

    `why`: a pattern and what fills it. `said_at`: when the source said it (UTC), None when only the address has an age.
    `counts` False: it said something that does not hold for this call, as `why` tells. Without a location, `said_at` is
    when the phone was seen at something of a kind that this account places, and nobody has placed this one.
    """

    source: Source
    location: DispatchableLocation | None
    why: tuple[object, ...]
    said_at: datetime | None = None
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Resolved:
    """The answer, with all that led to it. `location` None: nothing known; the call goes on all the same.

    Verdict and flags are worked out when they are read: for the record, after the call has left.
    """

    location: DispatchableLocation | None
    source: Source
    phone: Phone | None
    line: Line | None
    rungs: tuple[Rung, ...]
    at: datetime
    more_flags: tuple[str, ...] = ()

    @property
    def taken(self) -> Rung | None:
        """The word that was taken."""
        return taken_of(self.rungs)

    @property
    def verdict(self) -> tuple[Evidence, ...]:
        """Every source in its order: what it said, how old that is, and why it was taken or passed over."""
        taken = self.taken
        return tuple(_evidence(rung, taken, self.at) for rung in self.rungs)

    @property
    def flags(self) -> tuple[str, ...]:
        """What an operator must know of this answer: none, stale, sources that disagree, a reference unanswered."""
        return _flags(self.taken, self.rungs, self.at) + self.more_flags


def taken_of(rungs: tuple[Rung, ...] | list[Rung]) -> Rung | None:
    """The first word that counts."""
    for rung in rungs:
        if rung.location is not None and rung.counts:
            return rung
    return None


def disagree(one: DispatchableLocation, other: DispatchableLocation) -> bool:
    """Whether two locations cannot both be right: civic elements that differ, else positions too far apart.

    A civic address and a position of somewhere else cannot be compared here, and are not called a disagreement.
    """
    if one is other or (one.id and one.id == other.id):
        return False
    if one.civic_address.elements and other.civic_address.elements:
        return one.civic_address.contradicts(other.civic_address)
    if one.geo is None or other.geo is None:
        return False
    return distance_m(one.geo, other.geo) > SAME_PLACE_M + _extent_m(one.geo) + _extent_m(other.geo)


def distance_m(one: Shape, other: Shape) -> float:
    """Metres between the middles of two shapes over a round Earth."""
    here, there = math.radians(one.latitude), math.radians(other.latitude)
    east = math.radians(other.longitude - one.longitude)
    half = math.sin((there - here) / 2) ** 2 + math.cos(here) * math.cos(there) * math.sin(east / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(half)))


def _extent_m(shape: Shape) -> float:
    """How far from its middle the shape reaches."""
    if isinstance(shape, Polygon | Prism):
        north = max(abs(point[0] - shape.latitude) for point in shape.points)
        east = max(abs(point[1] - shape.longitude) for point in shape.points)
        return math.radians(math.hypot(north, east)) * EARTH_RADIUS_M
    reaches = (getattr(shape, name, None) for name in ("radius_m", "semi_major_m", "outer_radius_m"))
    return next((float(reach) for reach in reaches if reach is not None), 0.0)


def _evidence(rung: Rung, taken: Rung | None, now: datetime) -> Evidence:
    pattern, *parts = rung.why
    why = str(pattern).format(*parts)
    location = rung.location
    if location is None:
        return Evidence(rung.source, None, None, taken=False, why=why)
    at = rung.said_at or location.validated_at
    age_s = max(0, int((now - at).total_seconds())) if at is not None else None
    if location.id and location.validated_at is None:  # what came with a request has no identifier of ours
        why += "; the address was never validated"
    elsewhere = location if taken is not None and _contradicts(rung, taken) else None
    return Evidence(rung.source, location.name, age_s, rung is taken, why, elsewhere)


def _contradicts(rung: Rung, taken: Rung) -> bool:
    """Whether it names another place than the one taken, and both speak of this caller."""
    if not rung.counts or rung.location is None or taken.location is None or DEFAULTS & {rung.source, taken.source}:
        return False
    return disagree(taken.location, rung.location)


def _is_unplaced(rung: Rung, now: datetime) -> bool:
    """Whether the phone was lately where nobody has said what place that is."""
    return rung.location is None and rung.said_at is not None and now - rung.said_at <= SIGHTING_STALE_AFTER


def _flags(taken: Rung | None, rungs: tuple[Rung, ...], now: datetime) -> tuple[str, ...]:
    if taken is None or taken.location is None:
        return (NO_LOCATION,)
    location, flags = taken.location, []
    ages = [at for at in (location.validated_at, taken.said_at) if at is not None]
    if any(now - at > STALE_AFTER for at in ages):
        flags.append(STALE)
    if taken.source in SIGHTED and taken.said_at is not None and now - taken.said_at > SIGHTING_STALE_AFTER:
        flags.append(STALE_SIGHTING)
    if taken.source in RECORDED and any(_is_unplaced(rung, now) for rung in rungs):
        flags.append(UNPLACED_SIGHTING)
    if any(_contradicts(rung, taken) for rung in rungs):
        flags.append(DISAGREEMENT)
    return tuple(flags)


SIGHTED = frozenset({Source.SWITCH_PORT, Source.SWITCH, Source.BSSID, Source.SUBNET})
