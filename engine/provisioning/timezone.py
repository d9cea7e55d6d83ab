"""Daylight saving rules out of the tz database, as phones want them: by month, week, day of week and hour (pure).

Phones keep no tz database worth trusting: they are told the offset from UTC and the two yearly changes. Both stand in
the last line of a TZif file (RFC 8536 §3.3), a POSIX TZ string such as `EST5EDT,M3.2.0,M11.1.0`: the rule that holds
from now on.
"""

import importlib.resources
import re
from dataclasses import dataclass
from functools import lru_cache

_NAME = r"(?:<[^>]+>|[A-Za-z]{3,})"
_OFFSET = r"[+-]?\d{1,3}(?::\d{1,2}){0,2}"
_POSIX_TZ = re.compile(rf"^{_NAME}(?P<std>{_OFFSET})(?:{_NAME}(?P<dst>{_OFFSET})?,(?P<start>[^,]+),(?P<end>[^,]+))?$")
_WEEK_RULE = re.compile(rf"^M(?P<month>\d{{1,2}})\.(?P<week>[1-5])\.(?P<day>[0-6])(?:/(?P<time>{_OFFSET}))?$")
_ZONE_NAME = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*\Z")
_CHANGE_AT = "2"  # POSIX: when a rule names no time


@dataclass(frozen=True, slots=True)
class Change:
    """One yearly change in local wall-clock time. `week` 1 to 4, 5 is the last; `weekday` 0 is Sunday; `hour` 0 to
    23.
    """

    month: int
    week: int
    weekday: int
    hour: int


@dataclass(frozen=True, slots=True)
class ZoneRule:
    """The standard offset east of UTC, and with daylight saving what it adds and when it starts and ends."""

    name: str
    offset_minutes: int
    saving_minutes: int = 0
    start: Change | None = None
    end: Change | None = None


@lru_cache(maxsize=256)
def zone_rule(name: str) -> ZoneRule:
    """The rule of an IANA zone such as `America/New_York`.

    Raises:
        ValueError: there is no such zone.
    """
    if not _ZONE_NAME.match(name):
        raise ValueError(f"expected a time zone such as America/New_York, got {name!r}")
    *folders, last = name.split("/")
    try:
        data = importlib.resources.files(".".join(["tzdata", "zoneinfo", *folders])).joinpath(last).read_bytes()
    except (OSError, ModuleNotFoundError, TypeError) as exc:
        raise ValueError(f"the tz database holds no zone {name!r}") from exc
    return parse_posix_tz(name, data.rstrip(b"\n").rsplit(b"\n", 1)[-1].decode("ascii", "replace"))


def parse_posix_tz(name: str, text: str) -> ZoneRule:
    """Read a POSIX TZ string (RFC 8536 §3.3.1). A zone whose rule is no week rule keeps its standard time all year.

    Raises:
        ValueError: it is not one.
    """
    match = _POSIX_TZ.match(text)
    if match is None:
        raise ValueError(f"{name}: {text!r} is no POSIX TZ string")
    standard = -_minutes(match["std"])  # POSIX counts west, phones count east
    start, end = _change(match["start"]), _change(match["end"])
    if start is None or end is None:
        return ZoneRule(name, standard)
    other = -_minutes(match["dst"]) if match["dst"] else standard + 60
    if other < standard:  # Europe/Dublin: the winter is the exception and "saves" a negative hour
        return ZoneRule(name, other, standard - other, end, start)
    return ZoneRule(name, standard, other - standard, start, end)


def _minutes(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    hours, minutes, *_ = [*text.lstrip("+-").split(":"), "0"]
    return sign * (int(hours) * 60 + int(minutes))


def _change(text: str | None) -> Change | None:
    match = _WEEK_RULE.match(text or "")
    if match is None:
        return None
    # A time outside the day (24:00 in Cairo, -1:00 in Nuuk) is held to the day: phones take 0 to 23, and being an
    # hour off for one night is less than naming another day, which in some years is a week off.
    hour = min(max(_minutes(match["time"] or _CHANGE_AT) // 60, 0), 23)
    return Change(int(match["month"]), int(match["week"]), int(match["day"]), hour)
