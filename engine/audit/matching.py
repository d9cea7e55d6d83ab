"""Whether one entry meets the filters: the conditions of `engine.audit.store` once more, for entries at hand (pure).

The live list looks at each new entry once for every reader; a question to the database for each of them would make one
write a hundred reads.
"""

import ipaddress

from engine.audit import hashes, search, store
from engine.audit.store import Filters
from engine.models import AuditEntry


def meets(row: AuditEntry, filters: Filters) -> bool:
    """Whether the list with these filters shows that entry."""
    return (
        (filters.since is None or row.at >= filters.since)
        and (filters.until is None or row.at <= filters.until)
        and (not filters.events or row.event in filters.events)
        and (not filters.actors or row.actor_id in filters.actors)
        and filters.outcome in {"", row.outcome}
        and filters.category in {"", row.category}
        and filters.verb in {"", row.verb}
        and filters.target in {"", row.resource_id}
        and filters.target_type in {"", row.resource_type}
        and _starts(row.resource_id, filters.resource)
        and (
            _starts(row.actor_id, filters.actor)
            or _starts(row.actor_name, filters.actor)
            or row.actor_id in filters.named
        )
        and _meets_ip(row.ip, filters.ip)
        and (_meets_keyword(row.entry, filters.keyword) or _meets_hash(row, filters.keyword))
    )


def _starts(value: str, prefix: str) -> bool:
    """As typed or in small letters."""
    return value.startswith((prefix, prefix.lower()))


def _meets_ip(ip: str, wanted: str) -> bool:
    if store.is_network(wanted):
        return store.is_inside(ip, ipaddress.ip_network(wanted.strip(), strict=False))
    whole = search.whole_ip(wanted)
    return ip == whole if whole else search.part_of_ip(wanted) in ip


def _meets_keyword(entry: str, keyword: str) -> bool:
    if not keyword:
        return True
    wanted = [search.as_stored(spelling) for spelling in search.spellings(keyword)]
    if keyword.isascii():  # as SQLite's LIKE: letters of ASCII alone have a small one (`K` in kelvin is no k)
        text = entry.encode().lower()
        return any(one.encode().lower() in text for one in wanted)
    return any(one.lower() in entry.lower() for one in wanted)


def _meets_hash(row: AuditEntry, keyword: str) -> bool:
    beginning = hashes.beginning_of(keyword)
    return bool(beginning) and (row.hash.startswith(beginning) or row.prev_hash.startswith(beginning))
