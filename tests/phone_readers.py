"""A rendered file as each family's phone reads it: its settings by name, and the time zone they make."""

import re
from collections.abc import Callable, Mapping

from engine.provisioning import boots_late, boots_plain, simulate
from engine.provisioning.formats import elements
from engine.provisioning.timezone import Change, ZoneRule

Settings = Mapping[str, str]

READERS: dict[str, Callable[[bytes], dict[str, str]]] = {
    "yealink": simulate.yealink_settings,
    "poly": simulate.poly_settings,
    **dict.fromkeys(("grandstream", "cisco_spa", "cisco_mpp", "snom", "fanvil", "obihai", "linphone"), elements),
    "mitel": boots_plain.mitel_settings,
    "htek": boots_plain.htek_settings,
    "panasonic": boots_plain.panasonic_settings,
    "sangoma": boots_plain.sangoma_settings,
    "avaya": boots_plain.avaya_settings,
    "gigaset": boots_plain.gigaset_settings,
    "algo": boots_plain.algo_settings,
    "audiocodes": boots_late.audiocodes_settings,
    "acrobits": boots_late.acrobits_settings,
}

# --- Time zones: each notation by the vendor's document, not by our own code ------------------------------------------

_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_OBI_ZONES = re.compile(r"GMT([+-])(\d\d):(\d\d)\(.+\)")


def _rule(offset: int, saving: int = 0, start: Change | None = None, end: Change | None = None) -> ZoneRule:
    return ZoneRule("", offset, saving, start, end)


def _hours(text: str) -> int:
    """Minutes of `-5`, `+5:30`, `-05:00`, `5:45`."""
    sign, hours, minutes = re.fullmatch(r"([+-]?)(\d{1,2})(?::(\d\d))?", text).groups()
    return (int(hours) * 60 + int(minutes or 0)) * (-1 if sign == "-" else 1)


def _yealink(found: Settings) -> ZoneRule:
    offset = _hours(found["local_time.time_zone"])
    if found["local_time.summer_time"] == "0":
        return _rule(offset)
    assert (found["local_time.summer_time"], found["local_time.dst_time_type"]) == ("1", "1")
    parts = [[int(one) for one in found[f"local_time.{name}_time"].split("/")] for name in ("start", "end")]
    start, end = (Change(month, week, day % 7, hour) for month, week, day, hour in parts)  # 1 is Monday, 7 Sunday
    return _rule(offset, int(found["local_time.offset_time"]), start, end)


def _poly(found: Settings) -> ZoneRule:
    """`date`: the first such day of the week on or after it; dayOfWeek 1 is Sunday; a saving is always an hour."""
    offset = int(found["tcpIpApp.sntp.gmtOffset"]) // 60
    dst = "tcpIpApp.sntp.daylightSavings."
    if found[f"{dst}enable"] == "0":
        return _rule(offset)
    assert found[f"{dst}fixedDayEnable"] == "0"
    changes = []
    for name in ("start", "stop"):
        is_last = found[f"{dst}{name}.dayOfWeek.lastInMonth"] == "1"
        week = 5 if is_last else (int(found[f"{dst}{name}.date"]) + 6) // 7
        day = int(found[f"{dst}{name}.dayOfWeek"]) - 1
        changes.append(Change(int(found[f"{dst}{name}.month"]), week, day, int(found[f"{dst}{name}.time"])))
    return _rule(offset, 60, *changes)


def _grandstream(found: Settings) -> ZoneRule:
    """POSIX: hours west of Greenwich."""
    text = found.get("P246") or found["dateTime.timezone.custom"]
    parts = re.fullmatch(
        r"[A-Z]{3}([+-][\d:]+)(?:[A-Z]{3}([+-][\d:]+),M(\d+)\.(\d)\.(\d)/(\d+),M(\d+)\.(\d)\.(\d)/(\d+))?", text
    )
    offset = -_hours(parts[1])
    if parts[2] is None:
        return _rule(offset)
    numbers = [int(part) for part in parts.groups()[2:]]
    return _rule(offset, -_hours(parts[2]) - offset, Change(*numbers[:4]), Change(*numbers[4:]))


def _on_or_after(text: str) -> Change:
    """`3/8/7/2`: the first Sunday (7) on or after the 8th; -1 the last of the month."""
    month, day, weekday, hour = (int(part) for part in text.split("/")[:4])
    return Change(month, 5 if day == -1 else (day + 6) // 7, weekday % 7, hour)


def _cisco(found: Settings) -> ZoneRule:
    zone = found["Time_Zone"].removeprefix("GMT")
    offset = _hours(zone) if zone else 0
    if found["Daylight_Saving_Time_Enable"] == "No":
        return _rule(offset)
    text = found["Daylight_Saving_Time_Rule"]
    start, end, save = re.fullmatch(r"start=([^:]+):0:0;end=([^:]+):0:0;save=(\d+:\d+)", text).groups()
    hours, minutes = save.split(":")
    return _rule(offset, int(hours) * 60 + int(minutes), _on_or_after(start), _on_or_after(end))


def _snom(found: Settings) -> ZoneRule:
    """Seconds saved, then month.week.day and time twice; week 05 is the last, day 07 Sunday."""
    assert found["timezone"] == ""
    offset = int(found["utc_offset"]) // 60
    if not found["dst"]:
        return _rule(offset)
    saving, *numbers = [int(one) for one in re.findall(r"\d+", found["dst"])]
    start, end = numbers[:6], numbers[6:]
    changes = (Change(month, week, day % 7, hour) for month, week, day, hour, _, _ in (start, end))
    return _rule(offset, saving // 60, *changes)


def _fanvil(found: Settings) -> ZoneRule:
    """Quarters of an hour; week -1 is the last."""
    offset = int(found["TimeZone"]) * 15
    if found["EnableDST"] == "0":
        return _rule(offset)
    numbers = [[int(found[f"DST{end}{part}"]) for part in ("Mon", "Week", "Wday", "Hour")] for end in ("Start", "End")]
    changes = (Change(month, 5 if week == -1 else week, day, hour) for month, week, day, hour in numbers)
    return _rule(offset, int(found["DSTMinOffset"]), *changes)


def _mitel(found: Settings) -> ZoneRule:
    offset = -int(found["time zone minutes"])
    if found["dst config"] == "0":
        return _rule(offset)
    changes = []
    for name in ("start", "end"):
        month, week, day, hour = (int(found[f"dst {name} {part}"]) for part in ("month", "week", "day", "hour"))
        changes.append(Change(month, 5 if week == -1 else week, day - 1, hour))
    return _rule(offset, int(found["dst minutes"]), *changes)


# The numbers that the phone's menu gives its zones, in minutes east of Greenwich (Htek UC900 administrator guide)
_HTEK = {
    105: -660, 2: -600, 3: -540, 6: -480, 10: -420, 14: -360, 18: -300, 19: -270, 20: -240, 26: -210, 30: -180,
    31: -120, 32: -60, 33: 0, 49: 60,
}  # fmt: skip


def _htek(found: Settings) -> ZoneRule | None:
    number = found.get("P64")
    if number is None:
        return None
    offset = _HTEK.get(int(number))
    if offset is None:
        return None  # east of Berlin the numbers are checked for being told at all
    if found["P75"] == "0":
        return _rule(offset)
    numbers = [int(found[f"P231{place}"]) for place in range(18, 26)]
    return _rule(offset, 60, Change(*numbers[:4]), Change(*numbers[4:]))


def _panasonic(found: Settings) -> ZoneRule:
    offset = int(found["TIME_ZONE"])
    if found["DST_ENABLE"] == "N":
        return _rule(offset)
    changes = []
    for name in ("START", "STOP"):
        parts = ("MONTH", "ORDINAL_DAY", "DAY_OF_WEEK", "TIME")
        month, week, day, minutes = (int(found[f"DST_{name}_{part}"]) for part in parts)
        changes.append(Change(month, week, day, minutes // 60))
    return _rule(offset, int(found["DST_OFFSET"]), *changes)


def _avaya(found: Settings) -> ZoneRule:
    """`2SunMar2L`: which one, day, month, hour, local; the saving is in hours."""
    offset = _hours(found["GMTOFFSET"])
    if found["DAYLIGHT_SAVING_SETTING_MODE"] == "0":
        return _rule(offset)
    changes = []
    for name in ("DSTSTART", "DSTSTOP"):
        which, day, month, hour = re.fullmatch(r"([1-4L])(\w{3})(\w{3})(\d)L", found[name]).groups()
        week = 5 if which == "L" else int(which)
        changes.append(Change(_MONTHS.index(month.upper()) + 1, week, _DAYS.index(day.upper()), int(hour)))
    return _rule(offset, int(found["DSTOFFSET"]) * 60, *changes)


def _obihai(found: Settings) -> ZoneRule | None:
    named = _OBI_ZONES.fullmatch(found.get("DeviceInfo.Time.LocalTimeZone", ""))
    if named is None:
        return None
    offset = (int(named[2]) * 60 + int(named[3])) * (-1 if named[1] == "-" else 1)
    if found["DeviceInfo.Time.DaylightSavingTimeEnable"] == "false":
        return _rule(offset)
    start, end = (_on_or_after(found[f"DeviceInfo.Time.DaylightSavingTime{name}"]) for name in ("Start", "End"))
    return _rule(offset, int(found["DeviceInfo.Time.DaylightSavingTimeDiff"]) * 60, start, end)


def _audiocodes(found: Settings) -> ZoneRule:
    offset = _hours(found["system/ntp/gmt_offset"])
    dst = "system/daylight_saving/"
    if found[f"{dst}activate"] == "DISABLE":
        return _rule(offset)
    assert (found[f"{dst}activate"], found[f"{dst}mode"]) == ("ENABLE", "DayOfWeek")
    changes = []
    for name in ("start_date", "end_date"):
        day = _DAYS.index(found[f"{dst}{name}/day_of_week"][:3])
        month, week, hour = (int(found[f"{dst}{name}/{part}"]) for part in ("month", "week", "hour"))
        changes.append(Change(month, week, day, hour))
    return _rule(offset, int(found[f"{dst}offset"]), *changes)


# A name: the phone has a tz database of its own. None: that zone is not told to the phone.
ZONES: dict[str, Callable[[Settings], ZoneRule | str | None]] = {
    "yealink": _yealink,
    "poly": _poly,
    "grandstream": _grandstream,
    "cisco_spa": _cisco,
    "cisco_mpp": _cisco,
    "snom": _snom,
    "fanvil": _fanvil,
    "mitel": _mitel,
    "htek": _htek,
    "panasonic": _panasonic,
    "avaya": _avaya,
    "obihai": _obihai,
    "audiocodes": _audiocodes,
    "sangoma": lambda found: found["time_zone"],
    "algo": lambda found: found["admin.timezone"],
    "gigaset": lambda found: found.get("DmGlobal.0.TimeZone"),
}
OF_THE_SYSTEM = frozenset({"linphone", "acrobits"})  # applications: the computer's or the telephone's own time
