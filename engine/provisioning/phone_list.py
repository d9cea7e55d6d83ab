"""Which phones a list shows: filters, order, and the key a page begins behind (pure).

Theory of operation. A list of 100,000 phones answers from two indexes that hold every column a filter looks at
(`ix_phone_list` by label, `ix_phone_seen` by last fetch), so that even a filter nothing matches reads no row. Words are
looked for anywhere in label and MAC address, and at the beginning of an extension or an IP address: no index of parts
is kept for them, since a walk over the account's own index entries takes some 30 ms for 100,000 phones.
"""

import datetime as dt
import re
from dataclasses import dataclass, fields
from enum import StrEnum

MAX_WORDS = 5
NOWHERE = "none"  # the location filter's word for phones that have none of their own
_SEPARATED = re.compile(r"[:.\-]")
_HEX = re.compile(r"[0-9a-f]{2,12}\Z")
_PARTS_OF_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}[:-]){1,5}[0-9A-Fa-f]{0,2}\Z|(?:[0-9A-Fa-f]{4}\.){1,2}[0-9A-Fa-f]{0,4}\Z")
_NAME = re.compile(r"[!-~]{1,20}\Z")
_ADDRESS = re.compile(r"[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]*\Z")


class Order(StrEnum):
    """How a list is sorted. `made`: the order in which phones were added."""

    LABEL = "label"
    LAST_FETCH = "last_fetch"
    MADE = "made"


@dataclass(frozen=True, slots=True)
class Filters:
    """What to show. Empty fields do not narrow. Times are UTC, inclusive; a phone that never fetched was not seen."""

    text: str = ""  # up to five words, each in the label, the MAC, an extension or the last IP address
    status: str = ""
    vendor: str = ""
    model: str = ""
    location_id: str = ""  # or NOWHERE
    firmware: str = ""  # how it begins
    alarm: str = ""  # `alarms.AlarmKind` of a phone
    seen_since: dt.datetime | None = None
    seen_until: dt.datetime | None = None

    @property
    def is_empty(self) -> bool:
        return all(getattr(self, field.name) in {"", None} for field in fields(self))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: behind this phone. `key`: its label, or its last fetch (empty: it never did)."""

    key: str
    phone_id: str


@dataclass(frozen=True, slots=True)
class Word:
    """One word that is looked for, as each column would hold it; empty: it cannot stand there.

    part        anywhere in the label
    mac         anywhere in the MAC address, without separators
    extension   the beginning of an extension
    address     the beginning of an IP address
    """

    part: str
    mac: str
    extension: str
    address: str


def words_of(text: str) -> list[Word]:
    """The words of a search. What is typed of a MAC address is found with any separators, or none."""
    found = []
    for part in text.split()[:MAX_WORDS]:
        plain = _SEPARATED.sub("", part).lower()
        is_mac = _PARTS_OF_MAC.match(part) is not None
        mac = plain if is_mac or _HEX.match(part.lower()) else ""
        address = part.lower() if not is_mac and _ADDRESS.match(part) else ""
        found.append(Word(part, mac, "" if address or is_mac or not _NAME.match(part) else part, address))
    return found
