"""What is said of a place: civic addresses, positions, and the dispatchable location made of them. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

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


@dataclass(frozen=True, slots=True)
class CivicAddress:
    """A civic address: (element name, value) pairs in schema order, names of RFC 5139, RFC 6848 and CLDXF, values not
    empty.
    """

    elements: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, object]) -> "CivicAddress":
        """From a mapping; unknown names and empty values are left out (`unknown_elements` tells which)."""
        texts = ((name, str(value).strip()) for name, value in values.items() if value is not None)
        known = [(name, text) for name, text in texts if name in _ORDER and text]
        return cls(tuple(sorted(known, key=lambda pair: _ORDER[pair[0]])))

    def get(self, name: str) -> str:
        """The element's value, or an empty string."""
        return next((value for key, value in self.elements if key == name), "")

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return dict(self.elements)

    def contradicts(self, other: "CivicAddress") -> bool:
        """True when both give an element and the values differ. A room inside the same building contradicts nothing."""
        mine = self.as_dict()
        return any(mine.get(name, value).casefold() != value.casefold() for name, value in other.elements)


def unknown_elements(names: Iterable[str]) -> list[str]:
    """Those names that no civic address schema knows."""
    return [name for name in names if name not in _ORDER]


@dataclass(frozen=True, slots=True)
class Geo:
    """A position in WGS 84: degrees, and metres for altitude and the radius of uncertainty (RFC 5491 §5.2)."""

    latitude: float
    longitude: float
    altitude_m: float | None = None
    radius_m: float | None = None

    def as_dict(self) -> dict[str, float]:
        """For JSON; what is not known is left out."""
        known = {"latitude": self.latitude, "longitude": self.longitude}
        more = {"altitude_m": self.altitude_m, "radius_m": self.radius_m}
        return known | {name: value for name, value in more.items() if value is not None}


@dataclass(frozen=True, slots=True)
class DispatchableLocation:
    """A place responders can be sent to (47 CFR § 9.3). `validated_at` is UTC; None: never validated."""

    id: str
    name: str
    civic_address: CivicAddress
    geo: Geo | None = None
    timezone: str | None = None
    callback_number: str | None = None
    onsite_number: str | None = None
    status: str = "draft"
    validated_at: datetime | None = None

    @property
    def can_be_conveyed(self) -> bool:
        """True when there is anything to tell a dispatcher."""
        return bool(self.civic_address.elements) or self.geo is not None
