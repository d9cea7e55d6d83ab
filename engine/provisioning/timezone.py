"""Daylight saving rules out of the tz database, as phones want them: by month, week, day of week and hour (pure).

Phones keep no tz database worth trusting: they are told the offset from UTC and the two yearly changes. Both stand in
the last line of a TZif file (RFC 8536 §3.3), a POSIX TZ string such as `EST5EDT,M3.2.0,M11.1.0`: the rule that holds
from now on.
"""

import importlib.resources
import re
from dataclasses import dataclass, replace
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


def zone_among(zone: ZoneRule, names: tuple[str, ...]) -> str | None:
    """The name to give a phone that knows only some zones: this zone, else one with the same rule, else one that keeps
    the same standard time all year; None when none of them shows the right time in winter.
    """
    return _among(zone, tuple(names))


@lru_cache(maxsize=512)
def _among(zone: ZoneRule, names: tuple[str, ...]) -> str | None:
    if zone.name in names:
        return zone.name
    rules = [zone_rule(name) for name in names]
    same = next((rule for rule in rules if replace(rule, name=zone.name) == zone), None)
    steady = next((rule for rule in rules if rule == ZoneRule(rule.name, zone.offset_minutes)), None)
    found = same or steady
    return found.name if found is not None else None


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


# --- Notations of phones --------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def posix_tz(zone: ZoneRule) -> str:
    """A POSIX TZ string with neutral names: `STD+5DST+4,M3.2.0/2,M11.1.0/2` (Grandstream's self-defined time zone)."""
    standard = f"STD{_west(zone.offset_minutes)}"
    if zone.start is None or zone.end is None:
        return standard
    changes = ",".join(f"M{c.month}.{c.week}.{c.weekday}/{c.hour}" for c in (zone.start, zone.end))
    return f"{standard}DST{_west(zone.offset_minutes + zone.saving_minutes)},{changes}"


def _west(minutes_east: int) -> str:
    hours, minutes = divmod(abs(minutes_east), 60)
    return f"{'-' if minutes_east > 0 else '+'}{hours}" + (f":{minutes:02d}" if minutes else "")


@lru_cache(maxsize=256)
def gmt_offset(zone: ZoneRule) -> str:
    """Hours and minutes east of GMT with two digits each: `GMT-05:00` (Cisco's `Time_Zone`)."""
    return f"GMT{signed_offset(zone)}" if zone.offset_minutes else "GMT"


@lru_cache(maxsize=256)
def signed_offset(zone: ZoneRule) -> str:
    """Hours and minutes east of GMT, always with a sign: `-05:00` (AudioCodes' `gmt_offset`)."""
    hours, minutes = divmod(abs(zone.offset_minutes), 60)
    return f"{'-' if zone.offset_minutes < 0 else '+'}{hours:02d}:{minutes:02d}"


@lru_cache(maxsize=256)
def day_rule(zone: ZoneRule) -> str:
    """Cisco's `Daylight_Saving_Time_Rule`: `start=3/8/7/2:0:0;end=11/1/7/2:0:0;save=1:0`. A change is the first such
    day of the week (1 Monday to 7 Sunday) on or after the date; -1 is the last of the month. Empty without saving.
    """
    if zone.start is None or zone.end is None:
        return ""
    start, end = (f"{on_or_after(change)}:0:0" for change in (zone.start, zone.end))
    return f"start={start};end={end};save={zone.saving_minutes // 60}:{zone.saving_minutes % 60}"


@lru_cache(maxsize=256)
def on_or_after(change: Change) -> str:
    """Month, date, day of the week and hour: `3/8/7/2` is the first Sunday on or after the 8th of March; -1 is the last
    of the month (Cisco, Obihai's `DaylightSavingTimeStart`).
    """
    return f"{change.month}/{-1 if change.week == 5 else 7 * change.week - 6}/{change.weekday or 7}/{change.hour}"


@lru_cache(maxsize=256)
def dotted_rule(zone: ZoneRule) -> str:
    """Snom's `dst`: seconds saved, then `month.week.day time` twice: `3600 03.02.07 02:00:00 11.01.07 02:00:00`. Week
    05 is the last, day 07 is Sunday. Empty without saving.
    """
    if zone.start is None or zone.end is None:
        return ""
    start, end = (f"{c.month:02d}.{c.week:02d}.{c.weekday or 7:02d} {c.hour:02d}:00:00" for c in (zone.start, zone.end))
    return f"{zone.saving_minutes * 60} {start} {end}"
