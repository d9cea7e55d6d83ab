"""The audit log's time filters: relative ranges and exact local times, as UTC instants, both ends inclusive (pure)."""

import datetime as dt
import zoneinfo
from dataclasses import dataclass

# where a week does not begin on Monday: the territories of CLDR's supplemental week data
_SUNDAY = (
    "AG AS BD BR BS BT BW BZ CA CO DM DO ET GT GU HK HN ID IL IN JM JP KE KH KR LA MH MM MO MT MX MZ NI NP PA PE PH PK "
    "PR PT PY SA SG SV TH TT TW UM US VE VI WS YE ZA ZW"
)
_SATURDAY = "AF BH DJ DZ EG IQ IR JO KW LY OM QA SD SY"
SUNDAY_FIRST, SATURDAY_FIRST = frozenset(_SUNDAY.split()), frozenset(_SATURDAY.split())
FRIDAY_FIRST = frozenset({"MV"})
MONDAY, FRIDAY, SATURDAY, SUNDAY = 0, 4, 5, 6  # as `date.weekday` counts
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


def week_begins_on(country: str, language: str = "") -> int:
    """The weekday, Monday 0. The region of a language tag such as `en-GB` (BCP 47) goes before the country."""
    regions = [part.upper() for part in language.replace("_", "-").split("-")[1:] if len(part) == 2 and part.isalpha()]
    region = regions[0] if regions else country
    if region in SUNDAY_FIRST:
        return SUNDAY
    if region in SATURDAY_FIRST:
        return SATURDAY
    return FRIDAY if region in FRIDAY_FIRST else MONDAY


def span_of(name: str, now: dt.datetime, zone: zoneinfo.ZoneInfo, country: str, language: str = "") -> Span:
    """A relative range as it is at `now`. Days, weeks and months are those of the zone, whatever their length in hours;
    a week begins on the day it begins on for that language and country.
    """
    if name in _BACK:
        return Span(now - _BACK[name], None)
    today = now.astimezone(zone).date()
    back = (today.weekday() - week_begins_on(country, language)) % 7
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


def end_of(day: dt.date, zone: zoneinfo.ZoneInfo) -> dt.datetime:
    """The day's last millisecond there: the next day's beginning less one, so that 23 and 25 hours are right."""
    return start_of(day + dt.timedelta(days=1), zone) - _TICK


def first_instant(local: dt.datetime, zone: zoneinfo.ZoneInfo) -> dt.datetime:
    """What a clock there shows, as an instant: the earlier one where it shows that twice, the moment it is put on where
    it never does.
    """
    return _put_on(local, zone) or local.replace(tzinfo=zone, fold=0).astimezone(dt.UTC)


def last_instant(local: dt.datetime, zone: zoneinfo.ZoneInfo, *, to_the_second: bool) -> dt.datetime:
    """The last millisecond in which a clock there shows that minute, or second: the later one of two, the last one
    before it is put on where it shows none.
    """
    if moment := _put_on(local, zone):
        return moment - _TICK
    length = dt.timedelta(seconds=1) if to_the_second else dt.timedelta(minutes=1)
    return local.replace(tzinfo=zone, fold=1).astimezone(dt.UTC) + length - _TICK


def _put_on(local: dt.datetime, zone: zoneinfo.ZoneInfo) -> dt.datetime | None:
    """When the clock there is put on past this time; None: it shows it. PEP 495: fold 1 is before it, fold 0 behind."""
    before, behind = (local.replace(tzinfo=zone, fold=fold).astimezone(dt.UTC) for fold in (1, 0))
    if before >= behind:
        return None  # an ordinary time, or one that is shown twice
    old = before.astimezone(zone).utcoffset()
    while behind - before > dt.timedelta(seconds=1):
        middle = before + dt.timedelta(seconds=(behind - before) // dt.timedelta(seconds=2))
        before, behind = (middle, behind) if middle.astimezone(zone).utcoffset() == old else (before, middle)
    return behind
