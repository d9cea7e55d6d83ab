import datetime as dt
import importlib.resources
import zoneinfo

import pytest

from engine.provisioning.timezone import Change, ZoneRule, parse_posix_tz, zone_rule


def test_new_york_is_five_hours_west_and_changes_on_sundays():
    """P-07: time zone and daylight saving from tz data."""
    assert zone_rule("America/New_York") == ZoneRule(
        "America/New_York", -300, 60, Change(3, 2, 0, 2), Change(11, 1, 0, 2)
    )


def test_zones_without_daylight_saving_have_none():
    assert zone_rule("America/Phoenix") == ZoneRule("America/Phoenix", -420)
    assert zone_rule("Asia/Kolkata") == ZoneRule("Asia/Kolkata", 330)


def test_dublin_whose_winter_is_the_exception_reads_like_london():
    dublin, london = zone_rule("Europe/Dublin"), zone_rule("Europe/London")
    assert (dublin.offset_minutes, dublin.saving_minutes, dublin.start, dublin.end) == (0, 60, london.start, london.end)


def test_half_hour_zones_and_times_outside_the_day():
    assert zone_rule("America/St_Johns").offset_minutes == -210
    assert parse_posix_tz("x", "EET-2EEST,M4.5.5/0,M10.5.4/24").end == Change(10, 5, 4, 23)
    assert parse_posix_tz("x", "<-02>2<-01>,M3.5.0/-1,M10.5.0/0").start == Change(3, 5, 0, 0)
    assert parse_posix_tz("x", "AAA3BBB,J60,J300") == ZoneRule("x", -180)


def test_every_zone_agrees_with_zoneinfo_in_the_middle_of_both_seasons():
    """P-07: over the whole tz database."""
    root = importlib.resources.files("tzdata.zoneinfo")
    names = sorted(importlib.resources.files("tzdata").joinpath("zones").read_text().split())
    for name in names:
        if name in {"Africa/Casablanca", "Africa/El_Aaiun"}:
            continue  # Ramadan: listed change by change in the tz database, no rule behind them
        rule = zone_rule(name)
        with root.joinpath(name).open("rb") as file:
            zone = zoneinfo.ZoneInfo.from_file(file)
        for month in (1, 7):
            offset = dt.datetime(2030, month, 15, 12, tzinfo=zone).utcoffset()
            assert offset is not None
            expected = rule.offset_minutes + (rule.saving_minutes if _is_saving(rule, month) else 0)
            assert (name, int(offset.total_seconds() // 60)) == (name, expected)
    assert len(names) > 500


def _is_saving(rule: ZoneRule, month: int) -> bool:
    if rule.start is None or rule.end is None:
        return False
    if rule.start.month < rule.end.month:
        return rule.start.month < month < rule.end.month
    return month > rule.start.month or month < rule.end.month


@pytest.mark.parametrize(
    "name", ["", "Nowhere/At_All", "../etc/passwd", "/etc/passwd", "America", "America/New_York\n", "__init__", "a.b/c"]
)
def test_a_zone_that_is_none_is_refused_by_name(name):
    with pytest.raises(ValueError, match="zone"):
        zone_rule(name)
