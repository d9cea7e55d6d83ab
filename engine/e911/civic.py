"""Civic addresses as RFC 5139, RFC 6848 and CLDXF (NENA-STA-004.2) name their elements, and the place one stands for.
Pure.

An element of somebody else's namespace (RFC 6848 §2 allows any) is named in Clark notation, `{namespace}name`, here and
in JSON: it is kept with its text and conveyed again.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from engine.e911.geo import Geo, Shape

__all__ = [
    "CIVIC_ELEMENTS", "CIVIC_EXTENSIONS", "CLDXF_ELEMENTS", "CivicAddress", "DispatchableLocation", "Geo",
    "clark_name", "unknown_elements",
]  # fmt: skip

# RFC 5139 §3.2 in the order of its schema (country first, ADDCODE last), then RFC 6848 §3, then CLDXF (NENA-STA-004.2)
CIVIC_ELEMENTS = (
    "country", "A1", "A2", "A3", "A4", "A5", "A6", "PRM", "PRD", "RD", "STS", "POD", "POM", "RDSEC", "RDBR",
    "RDSUBBR", "HNO", "HNS", "LMK", "LOC", "FLR", "NAM", "PC", "BLD", "UNIT", "ROOM", "SEAT", "PLC", "PCN", "POBOX",
    "ADDCODE",
)  # fmt: skip
CIVIC_EXTENSIONS = ("PN", "MP", "STP", "HNP", "LMKP")
CLDXF_ELEMENTS = (
    "STPS", "SITE", "SUBSITE", "WING", "UNIT_PRETYPE", "UNIT_VALUE", "SECTION", "ROW", "PCE", "DT", "HNC",
)  # fmt: skip
_ORDER = {name: at for at, name in enumerate(CIVIC_ELEMENTS + CIVIC_EXTENSIONS + CLDXF_ELEMENTS)}
_FOREIGN = len(_ORDER)
# a namespace is a URI; a name is what XML calls an NCName. Both are kept to printable ASCII: no registry uses more, and
# a document that holds anything else is not read everywhere
_CLARK = re.compile(r"\{((?:(?![{}<>&\"'])[!-~]){1,200})\}([A-Za-z_][A-Za-z0-9._-]{0,60})")
_OWN_NAMESPACE = re.compile(r"urn:(ietf:params:xml:ns:pidf|nena:xml:ns:pidf)\b|http://www\.w3\.org/")


@dataclass(frozen=True, slots=True)
class CivicAddress:
    """A civic address: (element name, value) pairs in schema order, names of RFC 5139, RFC 6848 and CLDXF, then those
    of other namespaces, values not empty. A name may come twice (RFC 6848 §3.5 repeats LMKP).

    `language`: the xml:lang of the values (RFC 5139 §3.3), empty when nobody said.
    """

    elements: tuple[tuple[str, str], ...] = ()
    language: str = ""

    @classmethod
    def of(cls, values: Mapping[str, object]) -> "CivicAddress":
        """From a mapping; unknown names and empty values are left out (`unknown_elements` tells which)."""
        return cls.of_pairs((name, str(value)) for name, value in values.items() if value is not None)

    @classmethod
    def of_pairs(cls, pairs: Iterable[tuple[str, str]], language: str = "") -> "CivicAddress":
        """The same from pairs, in which a name may come twice."""
        texts = ((name, value.strip()) for name, value in pairs)
        known = [(name, text) for name, text in texts if text and _is_known(name)]
        return cls(tuple(sorted(known, key=lambda pair: _ORDER.get(pair[0], _FOREIGN))), language)

    def get(self, name: str) -> str:
        """The element's first value, or an empty string."""
        for key, value in self.elements:  # no generator: this is in a call's way
            if key == name:
                return value
        return ""

    def as_dict(self) -> dict[str, str]:
        """For JSON; the values of an element that comes twice are joined by a semicolon."""
        found: dict[str, str] = {}
        for name, value in self.elements:
            found[name] = f"{found[name]}; {value}" if name in found else value
        return found

    def contradicts(self, other: "CivicAddress") -> bool:
        """True when both give an element and the values differ. A room inside the same building contradicts nothing."""
        mine = self.as_dict()
        return any(mine.get(name, value).casefold() != value.casefold() for name, value in other.as_dict().items())


@dataclass(frozen=True, slots=True)
class DispatchableLocation:
    """A place responders can be sent to (47 CFR § 9.3). `validated_at` is UTC; None: never validated.

    `carrier_ids`: (profile, identifier) pairs: what a carrier calls this place where it wants its own identifier.
    """

    id: str
    name: str
    civic_address: CivicAddress
    geo: Shape | None = None
    timezone: str | None = None
    callback_number: str | None = None
    onsite_number: str | None = None
    status: str = "draft"
    validated_at: datetime | None = None
    carrier_ids: tuple[tuple[str, str], ...] = ()
    trunk_group_id: str | None = None  # whose trunks its calls take first; None: as the account says

    @property
    def can_be_conveyed(self) -> bool:
        """True when there is anything to tell a dispatcher."""
        return bool(self.civic_address.elements) or self.geo is not None


def clark_name(name: str) -> tuple[str, str] | None:
    """(namespace, local name) of an element in Clark notation; None for any other text, and for our own namespaces."""
    found = _CLARK.fullmatch(name)
    if found is None or _OWN_NAMESPACE.match(found.group(1)):
        return None
    return found.group(1), found.group(2)


def unknown_elements(names: Iterable[str]) -> list[str]:
    """Those names that are no element of a civic address and no name in Clark notation."""
    return [name for name in names if not _is_known(name)]


def _is_known(name: str) -> bool:
    return name in _ORDER or clark_name(name) is not None
