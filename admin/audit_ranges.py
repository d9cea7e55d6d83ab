"""The audit log's time filters: relative ranges and exact local times, as UTC instants, both ends inclusive (pure)."""

import datetime as dt
import zoneinfo
from dataclasses import dataclass

SUNDAY_FIRST = frozenset({"US", "CA", "MX", "BR", "JP", "IL", "ZA", "PH", "PE", "CO", "VE", "TW", "HK", "KR", "IN"})
RANGES = {
    "15m": "Last 15 minutes",
    "1h": "Last hour",
    "24h": "Last 24 hours",
    "today": "Today",
    "yesterday": "Yesterday",
    "this-week": "This week",
    "last-week": "Last week",
    "7d": "Last 7 days",
    "this-month": "This month",
}
_BACK = {
    "15m": dt.timedelta(minutes=15), "1h": dt.timedelta(hours=1), "24h": dt.timedelta(hours=24),
    "7d": dt.timedelta(days=7),
}  # fmt: skip
_TICK = dt.timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Span:
    """From and to, inclusive, UTC; None: open."""

    since: dt.datetime | None
    until: dt.datetime | None

    def within(self, other: "Span") -> "Span":
        """What both hold."""
        since = max((at for at in (self.since, other.since) if at is not None), default=None)
        until = min((at for at in (self.until, other.until) if at is not None), default=None)
        return Span(since, until)


def span_of(name: str, now: dt.datetime, zone: zoneinfo.ZoneInfo, country: str) -> Span:
    """A relative range as it is at `now`. Days, weeks and months are those of the zone, whatever their length in hours;
    a week begins on the day it begins on in that country.
    """
    if name in _BACK:
        return Span(now - _BACK[name], None)
    today = now.astimezone(zone).date()
    back = (today.weekday() + (1 if country in SUNDAY_FIRST else 0)) % 7
    week = today - dt.timedelta(days=back)
    first, after = {
        "today": (today, None),
        "yesterday": (today - dt.timedelta(days=1), today),
        "this-week": (week, None),
        "last-week": (week - dt.timedelta(days=7), week),
        "this-month": (today.replace(day=1), None),
    }[name]
    return Span(start_of(first, zone), None if after is None else start_of(after, zone) - _TICK)


def start_of(day: dt.date, zone: zoneinfo.ZoneInfo) -> dt.datetime:
    """The day's first instant there, in UTC."""
    return dt.datetime.combine(day, dt.time.min, zone).astimezone(dt.UTC)


def first_instant(local: dt.datetime, zone: zoneinfo.ZoneInfo) -> dt.datetime:
    """What a clock there shows, as an instant; the earlier one where the clock shows it twice."""
    return local.replace(tzinfo=zone, fold=0).astimezone(dt.UTC)


def last_instant(local: dt.datetime, zone: zoneinfo.ZoneInfo, *, to_the_second: bool) -> dt.datetime:
    """The last millisecond in which a clock there shows that minute, or second; the later one of two."""
    length = dt.timedelta(seconds=1) if to_the_second else dt.timedelta(minutes=1)
    return local.replace(tzinfo=zone, fold=1).astimezone(dt.UTC) + length - _TICK
