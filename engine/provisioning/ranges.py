"""Byte ranges and validators of a request for a file: which part to send, or whether to send it at all (pure).

RFC 9110 §14 and §13. One range is honoured; several at once are answered with the whole file, as §14.2 allows. A
range that cannot be met is told with the file's size, so that a phone whose part is longer than the file can begin
anew (§15.5.17).
"""

import re
from dataclasses import dataclass

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,4000})\s*-\s*(\d{0,4000})\s*\Z", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Part:
    """What to send: `status` 200 (all), 206 (`first` to `last`, both included), 304, 412 or 416 (nothing)."""

    status: int
    first: int = 0
    last: int = -1

    @property
    def length(self) -> int:
        return self.last - self.first + 1


def part_of(
    size: int,
    etag: str,
    *,
    range_header: str | None = None,
    if_range: str | None = None,
    if_none_match: str | None = None,
    if_match: str | None = None,
) -> Part:
    """Which part of a file of that size and strong tag a GET or HEAD with these headers is answered with.

    The order is RFC 9110 §13.2.2's: If-Match, If-None-Match, then Range with If-Range. An If-Range that is no strong
    tag of this file, a date among them, since no date of change is ever sent, makes the Range count for nothing.
    """
    if if_match is not None and not lists(if_match, etag, is_strong=True):
        return Part(412)
    if if_none_match is not None and lists(if_none_match, etag, is_strong=False):
        return Part(304)
    if range_header is None or (if_range is not None and if_range.strip() != etag):
        return Part(200, 0, size - 1)
    return _ranged(size, range_header)


def _ranged(size: int, range_header: str) -> Part:
    whole = Part(200, 0, size - 1)
    found = _RANGE.match(range_header)
    if found is None or not (found[1] or found[2]):
        return whole  # another unit, several ranges, or nonsense: the field is ignored (§14.2)
    if not found[1]:
        wanted = min(int(found[2]), size)
        return Part(206, size - wanted, size - 1) if wanted else Part(416)
    first, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return whole  # §14.1.1: an invalid range
    return Part(206, first, min(last, size - 1)) if first < size else Part(416)


def lists(header: str, etag: str, *, is_strong: bool) -> bool:
    """Whether the field lists this tag. The strong comparison (§8.8.3.2) takes no weak one."""
    tags = (tag.strip() for tag in header.split(","))
    return any(tag == "*" or (tag if is_strong else tag.removeprefix("W/")) == etag for tag in tags)
