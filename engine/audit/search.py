"""The full-text indexes of the audit log on SQLite (made in `engine.models.audit_sql`, reasons in decision 0024).

A row's number in them is the chain's number times 2^40 plus the entry's number, so a range of numbers is one account's
entries, and their newest stand last.
"""

import ipaddress
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import READS, WRITES
from engine.audit.values import Values

if TYPE_CHECKING:
    from engine.audit.store import Filters

SHORTEST = 3  # a trigram; shorter texts are looked for in the entries themselves
TELLING = 5  # letters of an address that narrow more than a whole value does: `10.1` is a tenth of many a log
RANDOM_DIGITS = 8  # of an identifier: 40 bits
_ID = re.compile(r"[a-z_]+_[0-9a-z]{26}")  # engine.ids
_MAC_PART = re.compile(
    r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){1,5}([:-][0-9A-Fa-f]?)?|[0-9A-Fa-f]{4}(\.[0-9A-Fa-f]{1,4}){1,2}\.?"
)
_READS = frozenset(event.value for event in READS)
_WRITES = frozenset(event.value for event in WRITES)


@dataclass(frozen=True, slots=True)
class Match:
    """What to ask of which index: text in trigrams, or whole values intersected."""

    is_text: bool
    words: str  # an FTS5 expression


def expression(filters: "Filters", meant: Values) -> Match | None:
    """The best index for these filters; None: neither helps.

    Args:
        meant: The values behind the beginnings that were typed.
    """
    parts = []
    if len(filters.keyword) >= SHORTEST:
        wanted = [one for one in spellings(filters.keyword) if len(one) >= SHORTEST]
        parts.append(f"({' OR '.join(f'body : {_quoted(_rarest(one))}' for one in wanted)})")
    address = certain_part_of_ip(filters.ip)
    facets = _facets(filters) + _known_facets(meant)
    if len(address) >= (TELLING if facets and not parts else SHORTEST):
        parts.append(f"ip : {_quoted(address)}")
    if parts:
        return Match(True, " AND ".join(parts))
    return Match(False, " AND ".join(facets)) if facets else None


def _facets(filters: "Filters") -> list[str]:
    found = []
    if filters.events in (_READS, _WRITES):
        found.append(_facet("x", "read" if filters.events == _READS else "write"))
    elif filters.events:
        found.append(f"({' OR '.join(_facet('e', event) for event in sorted(filters.events))})")
    for letter, value in (
        ("o", filters.outcome), ("c", filters.category), ("v", filters.verb), ("i", whole_ip(filters.ip)),
        ("t", filters.resource.removesuffix("_") if filters.resource.endswith("_") else ""),
        ("t", filters.target_type), ("r", filters.target),
    ):  # fmt: skip
        if value:
            found.append(_facet(letter, value))
    if filters.actors:
        found.append(f"({' OR '.join(_facet('a', actor) for actor in sorted(filters.actors))})")
    return found


def _known_facets(meant: Values) -> list[str]:
    found = []
    if meant.is_actor_known:
        named = [("a", value) for value in meant.actor_ids or ()] + [("n", value) for value in meant.actor_names or ()]
        found.append(named)
    if meant.resources:
        found.append([("r", value) for value in meant.resources])
    return [f"({' OR '.join(_facet(letter, value) for letter, value in each)})" for each in found]


def _facet(letter: str, value: str) -> str:
    return f'"{letter}{value.encode().hex()}"'


def _rarest(word: str) -> str:
    """Of an identifier its last digits, which are random; how it begins stands in every entry."""
    return word[-RANDOM_DIGITS:] if _ID.fullmatch(word) else word


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def spellings(keyword: str) -> list[str]:
    """The keyword, and for what may be a MAC address its bare digits, as entries hold them."""
    bare = re.sub("[:.-]", "", keyword).lower()
    return [keyword, bare] if _MAC_PART.fullmatch(keyword) and bare != keyword.lower() else [keyword]


def as_stored(keyword: str) -> str:
    """As it stands inside the stored JSON text."""
    return json.dumps(keyword, ensure_ascii=False)[1:-1]


def whole_ip(value: str) -> str:
    """The canonical form of a whole address in any spelling, in brackets or not; empty for anything else.

    What begins or ends with `::` is taken for a part that was typed so: `2001:db8::`, `::77`.
    """
    address = _address(value)
    mapped = getattr(address, "ipv4_mapped", None)  # `::ffff:10.0.0.1` is IPv4 in another coat
    if address is None or (mapped is None and (str(address).startswith("::") or str(address).endswith("::"))):
        return ""
    return str(mapped or address)


def part_of_ip(value: str) -> str:
    """A part of an address as addresses hold it: in small letters, without brackets; empty for a whole one."""
    if whole_ip(value):
        return ""
    address = _address(value)
    return _bare(value) if address is None else str(address)


def _address(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(_bare(value))
    except ValueError:
        return None


def _bare(value: str) -> str:
    return value.strip().lower().removeprefix("[").removesuffix("]")


def certain_part_of_ip(value: str) -> str:
    """Text that every matching address holds: a part as typed, or the whole octets of an IPv4 network."""
    if "/" not in value:
        return part_of_ip(value)
    value = value.strip()
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return value
    if network.version == 6:
        return ""
    octets = str(network.network_address).split(".")[: network.prefixlen // 8]
    return ".".join([*octets, ""] if 0 < len(octets) < 4 else octets)  # the octets of IPv4


async def base_of(session: AsyncSession, chain: str) -> int | None:
    """The number before that chain's first entry; None while it has none."""
    found = await session.scalar(text("SELECT number FROM audit_search_chain WHERE chain = :chain"), {"chain": chain})
    return None if found is None else int(found) << 40


async def seqs(session: AsyncSession, matched: Match, base: int, low: int, high: int, limit: int) -> list[int]:
    """The newest matching entries' numbers between `low` and `high`, newest first."""
    table = "audit_search_text" if matched.is_text else "audit_search_facet"
    found = await session.execute(
        text(
            f"SELECT rowid FROM {table} WHERE {table} MATCH :words AND rowid BETWEEN :low AND :high "  # noqa: S608
            "ORDER BY rowid DESC LIMIT :limit"
        ),
        {"words": matched.words, "low": base + low, "high": base + high, "limit": limit},
    )
    return [row[0] - base for row in found]


def listed(seqs: list[int]) -> TextClause:
    """The numbers as a subquery: one text to prepare whatever their count."""
    return text("SELECT value FROM json_each(:listed_seqs)").bindparams(listed_seqs=json.dumps(seqs))
