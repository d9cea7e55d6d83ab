"""Locations that may be one place entered twice (pure).

Two have the same street address when their elements are alike but for case, punctuation and the usual short forms
(`Washington Avenue` and `washington ave.`; USPS Publication 28, appendices B and C). At one street address, floors and
rooms tell places apart: those are no twins unless their names are alike too. Names alone make twins where one of the
two has no address.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from heapq import merge
from itertools import combinations, islice
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
_MAX_AT_ONE_ADDRESS = 200  # rooms of one tower, names to compare: beyond it they are not worth a person's look
_MAX_COMPARED = 10_000  # names compared letter by letter: a second


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
    """Pairs of places that may be one, the surest first; at most `MAX_PAIRS`.

    The time is that of reading each place once: pairs are made only within groups of equal keys, no more of them than
    are wanted, and names are compared letter by letter at most `_MAX_COMPARED` times.
    """
    known = sorted(places, key=lambda place: place.id)  # identifiers sort by time of making
    read = [_Read.of(place) for place in known]
    placed = [one for one in read if one.street]
    sorts = (
        (Why.SAME_ADDRESS, map(_pairs_of, _groups(placed, lambda one: (one.street, one.inside)))),
        (Why.SAME_BUILDING, _near_pairs(_groups(placed, lambda one: (one.street, one.numbers)))),
        (Why.SAME_NAME, map(_pairs_with_bare, _groups(read, lambda one: one.words_in_order))),
    )
    found: list[Twins] = []
    for why, groups in sorts:
        wanted = islice(merge(*groups, key=lambda pair: (pair[0].id, pair[1].id)), MAX_PAIRS - len(found))
        found += [Twins(first.id, second.id, why) for first, second in wanted]
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Read:
    """A place, read once. `inside`: as `INSIDE`; `numbers`: the words of its name that have a digit."""

    id: str
    street: tuple[str, ...]
    inside: tuple[str, ...]
    words: tuple[str, ...]
    words_in_order: tuple[str, ...]
    numbers: frozenset[str]

    @classmethod
    def of(cls, place: Place) -> "_Read":
        words = tuple(_words(place.name))
        return cls(
            place.id, street_key(place.civic_address),
            tuple(_plain(place.civic_address.get(name, "")) for name in INSIDE), words,
            tuple(sorted(words)), frozenset(word for word in words if any(char.isdigit() for char in word)),
        )  # fmt: skip


_Pair = tuple[_Read, _Read]


def _groups(places: Iterable[_Read], key: Callable[[_Read], Hashable]) -> list[list[_Read]]:
    """Places alike in something, two or more; each group in the order they came."""
    found: dict[Hashable, list[_Read]] = {}
    for place in places:
        if alike := key(place):
            found.setdefault(alike, []).append(place)
    return [group for group in found.values() if len(group) > 1]


def _pairs_of(group: Sequence[_Read]) -> Iterator[_Pair]:
    return combinations(group, 2)


def _pairs_with_bare(group: Sequence[_Read]) -> Iterator[_Pair]:
    """Pairs of which at least one has no address."""
    bare = [at for at, place in enumerate(group) if not place.street]
    for at, first in enumerate(group):
        later = range(at + 1, len(group)) if not first.street else bare[bisect_right(bare, at) :]
        for other in later:
            yield first, group[other]


def _near_pairs(groups: Iterable[Sequence[_Read]]) -> Iterator[Iterator[_Pair]]:
    """For each group of one street address and equal numbers: pairs that differ inside and are alike in name."""
    left = [_MAX_COMPARED]  # for all groups: a thousand towers take no longer than one

    def near(group: Sequence[_Read]) -> Iterator[_Pair]:
        for first, second in combinations(group[:_MAX_AT_ONE_ADDRESS], 2):
            if first.inside == second.inside:
                continue  # told already, and surer
            if first.words_in_order == second.words_in_order:
                yield first, second
            elif left[0]:
                left[0] -= 1
                if _are_near(" ".join(first.words), " ".join(second.words)):
                    yield first, second

    return map(near, groups)


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


def _are_near(one: str, other: str) -> bool:
    """Near in letters. Floor 3 and Floor 4 are so too and two places: who asks has compared the numbers."""
    if 2 * min(len(one), len(other)) < _NEAR * (len(one) + len(other)):
        return False  # no ratio reaches it
    return SequenceMatcher(None, one, other).ratio() >= _NEAR


def _words(text: str) -> Sequence[str]:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode() or text
    return _WORDS.findall(plain.casefold())


def _plain(value: object) -> str:
    if not value:
        return ""
    words = [_SHORT.get(word, word) for word in _words(str(value))]
    return " ".join(word for word in words if word)
