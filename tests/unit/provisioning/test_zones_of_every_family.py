"""The time every family's phone shows: its own notation, read by its own document, at every change of ten years."""

import dataclasses
import datetime as dt
import importlib.resources
import zoneinfo
from functools import cache

import pytest

from engine.provisioning import render, vendors
from engine.provisioning.timezone import Change, ZoneRule, zone_rule
from tests.golden.samples import config
from tests.phone_readers import OF_THE_SYSTEM, READERS, ZONES

KNOWN = vendors.load()
RENDERER = render.Renderer(KNOWN)
FORTY = (
    "America/New_York", "America/Chicago", "America/Denver", "America/Phoenix", "America/Los_Angeles",
    "America/Anchorage", "Pacific/Honolulu", "America/St_Johns", "America/Halifax", "America/Puerto_Rico",
    "America/Toronto", "America/Vancouver", "America/Regina", "America/Mexico_City", "America/Tijuana",
    "America/Bogota", "America/Sao_Paulo", "America/Argentina/Buenos_Aires", "America/Asuncion", "America/Edmonton",
    "Europe/London", "Europe/Dublin", "Europe/Lisbon", "Europe/Paris", "Europe/Berlin", "Europe/Madrid",
    "Europe/Athens", "Europe/Helsinki", "Europe/Kyiv", "Europe/Istanbul", "Africa/Johannesburg", "Asia/Dubai",
    "Asia/Kolkata", "Asia/Kathmandu", "Asia/Tokyo", "Australia/Sydney", "Australia/Adelaide", "Australia/Brisbane",
    "Pacific/Auckland", "Pacific/Guam",
)  # fmt: skip
# Phones that know some zones by a name or a number alone: of any other nothing is said, and they keep what they have.
WITHOUT_A_NAME = {"gigaset", "htek", "obihai"}
YEARS = range(2027, 2037)


@cache
def tz_of(name: str) -> zoneinfo.ZoneInfo:
    """Out of the same edition of the tz database as the rules; the system's may be older."""
    with importlib.resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return zoneinfo.ZoneInfo.from_file(file)


def offset_of(tz: zoneinfo.ZoneInfo, at: dt.datetime) -> int:
    return int(at.astimezone(tz).utcoffset().total_seconds() // 60)


@cache
def changes_of(name: str) -> tuple[tuple[dt.datetime, int], ...]:
    """Every moment of those years at which the zone's offset becomes another, to the minute, in UTC."""
    tz, found = tz_of(name), []
    at = dt.datetime(YEARS.start, 1, 1, tzinfo=dt.UTC)
    found.append((at, offset_of(tz, at)))
    while at.year < YEARS.stop:
        later = at + dt.timedelta(days=1)
        if offset_of(tz, at) != offset_of(tz, later):
            low, high = at, later
            while high - low > dt.timedelta(minutes=1):
                middle = low + (high - low) / 2
                low, high = (middle, high) if offset_of(tz, middle) == offset_of(tz, at) else (low, middle)
            found.append((high.replace(second=0, microsecond=0), offset_of(tz, later)))
        at = later
    return tuple(found)


def moment_of(change: Change, year: int, offset_minutes: int) -> dt.datetime:
    """In UTC, where the clock on the wall runs that far east before the change."""
    if change.week == 5:
        day = dt.date(year + change.month // 12, change.month % 12 + 1, 1) - dt.timedelta(1)
        day -= dt.timedelta((day.isoweekday() - change.weekday) % 7)
    else:
        first = dt.date(year, change.month, 1)
        day = first + dt.timedelta((change.weekday - first.isoweekday()) % 7 + 7 * (change.week - 1))
    return dt.datetime.combine(day, dt.time(change.hour), dt.UTC) - dt.timedelta(minutes=offset_minutes)


def told_changes(rule: ZoneRule) -> tuple[tuple[dt.datetime, int], ...]:
    """The same list, as a phone with that rule makes it."""
    summer = rule.offset_minutes + rule.saving_minutes
    found = []
    for year in YEARS:
        if rule.start is not None and rule.end is not None:
            found.append((moment_of(rule.start, year, rule.offset_minutes), summer))
            found.append((moment_of(rule.end, year, summer), rule.offset_minutes))
    found.sort()
    begins = found[-1][1] if found else rule.offset_minutes  # the last change of a year holds into the next
    return ((dt.datetime(YEARS.start, 1, 1, tzinfo=dt.UTC), begins), *found)


def served(profile) -> str:
    return next(model.name for model in profile.models.values() if model.template is not None)


def told(profile, name: str):
    rule = next(rule for rule in profile.files if rule.template == "model")
    phone = dataclasses.replace(config(profile, served(profile), 0), zone=zone_rule(name))
    return ZONES[profile.name](READERS[profile.name](RENDERER.render(profile, rule, phone)))


def test_every_family_has_a_reader_or_takes_the_time_of_its_system():
    assert set(ZONES) | OF_THE_SYSTEM == set(KNOWN.profiles)
    assert len(set(FORTY)) == 40


@pytest.mark.parametrize("vendor", sorted(ZONES))
def test_the_clock_changes_to_the_minute_with_the_tz_database_for_ten_years(vendor):
    """P-07: 40 zones, every transition of ten years, in the vendor's own notation read back by its document."""
    profile = KNOWN.profiles[vendor]
    checked = 0
    for name in FORTY:
        zone = told(profile, name)
        if zone is None:
            assert vendor in WITHOUT_A_NAME, name
            continue
        checked += 1
        if isinstance(zone, str):  # a name of the tz database, or one that is right at least in winter
            winter = ((changes_of(name)[0][0], zone_rule(name).offset_minutes),)
            is_exact = changes_of(zone) == changes_of(name)
            assert is_exact or (vendor == "gigaset" and changes_of(zone) == winter), (name, zone)
            continue
        assert told_changes(zone) == changes_of(name), name
    assert checked >= (40 if vendor not in WITHOUT_A_NAME else 12)


def test_half_an_hour_of_saving_is_told_where_the_phone_can_say_it():
    """P-07: Lord Howe Island saves thirty minutes; a phone that knows whole hours alone is named."""
    whole_hours = {"poly", "avaya", "mitel"}
    for vendor in sorted(set(ZONES) - WITHOUT_A_NAME - {"sangoma", "algo"}):
        zone = told(KNOWN.profiles[vendor], "Australia/Lord_Howe")
        assert isinstance(zone, ZoneRule)
        assert zone.offset_minutes == 630
        assert zone.saving_minutes == 30 or vendor in whole_hours, vendor
