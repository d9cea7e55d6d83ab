"""Locations that may be one place entered twice (pure).

Two have the same street address when their elements are alike but for case, punctuation and the usual short forms
(`Washington Avenue` and `washington ave.`; USPS Publication 28, appendices B and C). At one street address, floors and
rooms tell places apart: those are no twins unless their names are alike too. Names alone make twins where one of the
two has no address.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from itertools import combinations
from typing import Any

INSIDE = ("BLD", "WING", "FLR", "UNIT", "ROOM", "SEAT", "LOC")  # RFC 5139 §3.2: where in the building
_STREET = ("country", "A1", "A3", "HNO", "HNS", "PRD", "PRM", "STP", "RD", "STS", "POD", "POM")
_WORDS = re.compile(r"[^\W_]+")
_SHORT = {
    "avenue": "ave", "av": "ave", "street": "st", "road": "rd", "boulevard": "blvd", "drive": "dr", "lane": "ln",
    "court": "ct", "place": "pl", "square": "sq", "highway": "hwy", "parkway": "pkwy", "terrace": "ter",
    "circle": "cir", "trail": "trl", "way": "way", "north": "n", "south": "s", "east": "e", "west": "w",
    "northeast": "ne", "northwest": "nw", "southeast": "se", "southwest": "sw", "saint": "st", "mount": "mt",
    "floor": "", "fl": "", "suite": "", "ste": "", "room": "", "rm": "", "building": "", "bldg": "",
}  # fmt: skip
_NEAR = 0.85  # of SequenceMatcher: one word more, or a few letters apart
MAX_PAIRS = 500
_MAX_AT_ONE_ADDRESS = 200  # rooms of one tower: beyond it their pairs are not worth a person's look


class Why(StrEnum):
    """Why two locations may be one, the surest first."""

    SAME_ADDRESS = "same_address"
    SAME_BUILDING = "same_building"  # and names alike, but another floor or room
    SAME_NAME = "same_name"  # and one of them has no address


@dataclass(frozen=True, slots=True)
class Place:
    """What tells a location from another."""

    id: str
    name: str
    civic_address: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Twins:
    """Two locations that may be one; the older first."""

    first: str
    second: str
    why: Why


def twins_of(places: Iterable[Place]) -> tuple[Twins, ...]:
    """Pairs of places that may be one, the surest first; at most `MAX_PAIRS`."""
    known = sorted(places, key=lambda place: place.id)  # identifiers sort by time of making
    at_street: dict[tuple[str, ...], list[Place]] = {}
    named: dict[tuple[str, ...], list[Place]] = {}
    for place in known:
        if street := street_key(place.civic_address):
            at_street.setdefault(street, []).append(place)
        if words := tuple(sorted(_words(place.name))):
            named.setdefault(words, []).append(place)
    found: dict[tuple[str, str], Twins] = {}
    for group in at_street.values():
        for first, second in combinations(group[:_MAX_AT_ONE_ADDRESS], 2):
            why = _why(first, second)
            if why is not None:
                found[first.id, second.id] = Twins(first.id, second.id, why)
    for group in named.values():
        for first, second in combinations(group[:_MAX_AT_ONE_ADDRESS], 2):
            if not street_key(first.civic_address) or not street_key(second.civic_address):
                found.setdefault((first.id, second.id), Twins(first.id, second.id, Why.SAME_NAME))
    order = list(Why)
    return tuple(sorted(found.values(), key=lambda pair: (order.index(pair.why), pair.first, pair.second))[:MAX_PAIRS])


def street_key(civic_address: Mapping[str, Any]) -> tuple[str, ...]:
    """The street address without its spelling; () where it names no house or no street."""
    road = _plain(civic_address.get("RD", ""))
    if not road or not str(civic_address.get("HNO", "")).strip():
        return ()
    parts = [_plain(civic_address.get(name, "")) for name in _STREET]
    town = "" if _plain(civic_address.get("A3", "")) else _plain(civic_address.get("PC", ""))
    return (*parts[:3], " ".join(part for part in parts[3:] if part), town)


def inside_differs(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[str, ...]:
    """The elements inside the building in which both addresses say something, and not the same."""
    return tuple(name for name in INSIDE if _plain(first.get(name, "")) != _plain(second.get(name, "")))


def _why(first: Place, second: Place) -> Why | None:
    if not inside_differs(first.civic_address, second.civic_address):
        return Why.SAME_ADDRESS
    return Why.SAME_BUILDING if _are_near(first.name, second.name) else None


def _are_near(first: str, second: str) -> bool:
    one, other = _words(first), _words(second)
    if {word for word in one if any(char.isdigit() for char in word)} != {
        word for word in other if any(char.isdigit() for char in word)
    }:
        return False  # Floor 3 and Floor 4 are near in letters and two places
    return sorted(one) == sorted(other) or SequenceMatcher(None, " ".join(one), " ".join(other)).ratio() >= _NEAR


def _words(text: str) -> Sequence[str]:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode() or text
    return _WORDS.findall(plain.casefold())


def _plain(value: object) -> str:
    words = [_SHORT.get(word, word) for word in _words(str(value or ""))]
    return " ".join(word for word in words if word)
