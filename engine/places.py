"""Whether somebody can be sent to an address, and what of it is missing: one answer for every room (pure).

A dispatchable location (47 CFR § 9.3) says more than an area: a place within its town, or coordinates.
"""

from collections.abc import Mapping
from typing import Any

# Elements that name an area, not a place in it (RFC 5139 §3.1); POBOX is where letters wait.
AREA = frozenset({"country", "A1", "A2", "A3", "A4", "A5", "A6", "PC", "PCN", "POBOX", "ADDCODE", "PLC"})
# What says where in the town without a number and a street: a landmark, a name, a building, a position on a road.
_STANDS_ALONE = frozenset({"LMK", "NAM", "BLD", "MP", "INT"})


def is_dispatchable(civic_address: Mapping[str, Any] | None, geo: object) -> bool:
    """Whether somebody could be sent there: a place within its town, or coordinates.

    Args:
        civic_address: Elements by their name of RFC 5139. geo: Anything that is true where there are coordinates.
    """
    return bool({name for name, value in (civic_address or {}).items() if value} - AREA) or bool(geo)


def missing_parts(civic_address: Mapping[str, Any] | None, geo: object) -> tuple[str, ...]:
    """The parts that a dispatcher would ask for, in the words of the form; none where the place is told otherwise."""
    there = {name for name, value in (civic_address or {}).items() if value}
    if geo or there & _STANDS_ALONE:
        return ()
    wanted = (
        ("house number", {"HNO", "HNS"}), ("street", {"RD", "PRM", "POM"}), ("city or postal code", {"A3", "PC"}),
    )  # fmt: skip
    return tuple(name for name, elements in wanted if not there & elements)


def sentence_of_missing(civic_address: Mapping[str, Any] | None, geo: object) -> str:
    """What is missing and what that means for a 911 call; empty where somebody can be sent there and nothing is."""
    parts = missing_parts(civic_address, geo)
    if not parts:
        return ""
    named = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    missing = f"The {named} {'are' if len(parts) > 1 else 'is'} missing"
    if is_dispatchable(civic_address, geo):
        return f"{missing}: the dispatcher of a 911 call from here has to ask for it."
    return f"{missing}: a 911 call from here names no place that help can be sent to."
