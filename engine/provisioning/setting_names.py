"""What the name of a setting says about it, for one vendor family (pure).

A file has hundreds of settings and few names that matter. What a name means is looked up in a family's patterns once
and kept: `Names` answers from memory for every name it has met, and forgets all of them when a stranger's template
makes up more than `MAX_KEPT`. What is kept is a function of the name and of the patterns it was made with, and of no
phone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

MAX_KEPT = 4_096
MAX_NAME = 120  # characters of a name that is kept; the longest of any vendor has 80
# What decides about a call by the same words at every vendor.
_EVERYWHERE = re.compile(r"hot.?line|warm.?line|auto.?dial|off.?hook.?(?:auto|dial)|emergency|e911", re.IGNORECASE)
_DIVERTS = re.compile(r"hot.?line|warm.?line|auto.?dial|off.?hook", re.IGNORECASE)


class Watched(StrEnum):
    """What an account's own template may not change without a word: the tables `overrides.watched` of a profile."""

    PROVISIONING_URL = "provisioning_url"  # where the phone asks for its files
    PROVISIONING = "provisioning"  # how it asks: protocol, switch
    REGISTRAR = "registrar"
    OUTBOUND_PROXY = "outbound_proxy"
    FIRST_LINE = "first_line"  # whether line 1 is there and registers
    ADMIN_PASSWORD = "admin_password"  # noqa: S105  # a name, and no password
    AUTO_DIAL = "auto_dial"  # the number a lifted handset dials by itself
    AUTO_DIAL_TERMS = "auto_dial_terms"  # whether it does so, and after how long
    KEY_LOCK = "key_lock"  # whether the keys can be locked, so that few numbers or none can be dialled


@dataclass(frozen=True, slots=True)
class Named:
    """What is known of one name.

    name        without blanks that mean nothing
    bare        without what stands before it in some formats (`SET`, an element, a section), in small letters
    own         without the element whose attribute it is
    dialed      the name of a setting of the dial plan, as its grammar knows it; "": it is none
    is_hidden   it looks like one and is not read as one
    is_pinned   it decides about a call: stays as the shipped template makes it
    diverts     it is pinned because it makes the phone call by itself
    watched     what it is among those that are compared; None: none
    is_notable  it is any of these, or like a setting of the dial plan but for what stands before it
    """

    name: str
    bare: str
    own: str
    dialed: str
    is_hidden: bool
    is_pinned: bool
    diverts: bool
    watched: Watched | None
    is_notable: bool


class Names(dict[str, Named]):
    """What each name means in one family; made for a name when it is first asked for."""

    def __init__(
        self,
        dial_names: re.Pattern[str] | None,
        own_dialed: re.Pattern[str] | None,
        pinned: re.Pattern[str] | None,
        watched: Mapping[Watched, re.Pattern[str]],
    ) -> None:
        super().__init__()
        self._dial_names, self._own_dialed, self._pinned, self._watched = dial_names, own_dialed, pinned, watched

    def __missing__(self, text: str) -> Named:
        if len(self) >= MAX_KEPT:
            self.clear()
        found = self._named(text)
        if len(text) <= MAX_NAME:
            self[text] = found
        return found

    def _named(self, text: str) -> Named:
        name = " ".join(text.split())
        own = name.rpartition("@")[2]
        dialed = text if self._dial_names is not None and self._dial_names.fullmatch(text) is not None else ""
        if self._own_dialed is not None and self._own_dialed.fullmatch(own.rpartition("/")[2]) is not None:
            dialed = own.rpartition("/")[2]
        is_hidden = (
            self._dial_names is not None
            and not dialed
            and "@" not in name
            and _anywhere(self._dial_names.pattern).search(name) is not None
        )
        watched = next((kind for kind, one in self._watched.items() if one.fullmatch(name) or one.fullmatch(own)), None)
        is_pinned = _EVERYWHERE.search(own) is not None or (
            self._pinned is not None and self._pinned.fullmatch(own) is not None
        )
        bare = name.casefold().removeprefix("set ").rpartition("@")[2].rpartition("/")[2]
        is_like = any(_alike(one.pattern).fullmatch(bare) for one in (self._dial_names, self._own_dialed) if one)
        return Named(
            name=name,
            bare=bare,
            own=own,
            dialed=dialed,
            is_hidden=is_hidden,
            is_pinned=is_pinned and watched not in {Watched.AUTO_DIAL, Watched.AUTO_DIAL_TERMS},
            diverts=_DIVERTS.search(own) is not None,
            watched=watched,
            is_notable=bool(dialed) or is_hidden or is_pinned or watched is not None or is_like,
        )


@lru_cache(maxsize=64)
def _alike(names: str) -> re.Pattern[str]:
    """Those names in whatever letters."""
    return re.compile(names, re.IGNORECASE)


@lru_cache(maxsize=64)
def _anywhere(names: str) -> re.Pattern[str]:
    """Those names with an index, a prefix or a case of letters that the proof's reader does not know."""
    return re.compile(rf"(?<![A-Za-z0-9_])(?:{names})(?![A-Za-z0-9_])", re.IGNORECASE)


def watched_patterns(table: Mapping[str, Sequence[str]]) -> dict[Watched, re.Pattern[str]]:
    """The table of a profile, lists as alternatives. Raises ValueError: it watches what is not known here."""
    return {
        Watched(kind): re.compile("|".join(f"(?:{one})" for one in names), re.IGNORECASE)
        for kind, names in table.items()
    }
