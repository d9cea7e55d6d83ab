"""Grandstream, Cisco, Snom and Fanvil: what each model is served, read back as the phone reads it."""

import dataclasses
import importlib.resources
import json
import re
import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UnsafeValue
from engine.provisioning import dialplan, render, vendors
from engine.provisioning.boots import FAMILIES
from engine.provisioning.formats import elements
from engine.provisioning.timezone import Change, ZoneRule, day_rule, dotted_rule, posix_tz, zone_rule
from tests.golden.samples import config

KNOWN = vendors.load()
RENDERER = render.Renderer(KNOWN)
LISTS = {
    "grandstream": "Grandstream (P-values: HT, GXP, GRP, GXV; gs_provision XML v1, v2)",
    "cisco_spa": "Cisco SPA (SPA1xx/3xx/5xx, Linksys)",
    "cisco_mpp": "Cisco MPP (78xx/88xx/98xx 3PCC)",
    "snom": "Snom",
    "fanvil": "Fanvil",
}
CITED = {
    "snom": {"lldp_enable"},
    "fanvil": {"Number", "ApplyToCall", "MatchToSend", "Media", "Address", "Alias", "DelLen", "Suffix"},
}  # the profile names the vendor's document
OURS = [KNOWN.profiles[name] for name in LISTS if name in KNOWN.profiles]
MODELS = [(profile, model) for profile in OURS for model in profile.models.values()]
ZONES = (
    "America/New_York", "America/Chicago", "America/Denver", "America/Phoenix", "America/Los_Angeles",
    "America/Anchorage", "America/Adak", "Pacific/Honolulu", "America/St_Johns", "America/Halifax",
    "America/Puerto_Rico", "America/Regina", "America/Toronto", "America/Vancouver", "America/Mexico_City",
    "America/Tijuana", "America/Bogota", "America/Sao_Paulo", "America/Santiago", "America/Asuncion",
    "Europe/London", "Europe/Dublin", "Europe/Lisbon", "Europe/Paris", "Europe/Berlin", "Europe/Madrid",
    "Europe/Athens", "Europe/Helsinki", "Europe/Kyiv", "Europe/Istanbul", "Africa/Johannesburg", "Asia/Jerusalem",
    "Asia/Dubai", "Asia/Kolkata", "Asia/Kathmandu", "Asia/Tokyo", "Australia/Sydney", "Australia/Adelaide",
    "Australia/Brisbane", "Australia/Lord_Howe", "Pacific/Auckland", "Pacific/Chatham", "Pacific/Guam", "Etc/UTC",
)  # fmt: skip


def own_rule(profile):
    return next(rule for rule in profile.files if rule.template == "model")


def named(pair) -> str:
    return pair.name if isinstance(pair, vendors.Profile | vendors.Model) else str(pair)


def pattern_of(name: str) -> str:
    """A parameter's name with every index as N; the lists write an index as {n} or as a template's variable."""
    text = re.sub(r"\{+[^}]*\}+", "N", name).replace("choice/", "choice.")
    return re.sub(r"(?<=[._])\d+(?=[._]|$)", "N", text)


def names_written(profile, settings) -> set[str]:
    """Snom's and Fanvil's index stands in an attribute, which is no part of the name."""
    if profile.name == "snom":
        return {name.partition(".")[0] for name in settings}
    if profile.name == "fanvil":
        return {name.rpartition(".")[2] for name in settings}
    return {pattern_of(name) for name in settings}


@pytest.mark.parametrize(("profile", "model"), MODELS, ids=named)
def test_every_parameter_written_exists_in_that_family(profile, model, cases):
    """P-07: no parameter name is invented; with HELD, VLAN and without."""
    known = json.loads((cases / "vendor_keys.json").read_text())[LISTS[profile.name]]
    allowed = {pattern_of(name) for name in known["known_keys"]} | CITED.get(profile.name, set())
    for number, held_url in ((2, ""), (5, "https://phones.example.net/held")):
        phone = dataclasses.replace(config(profile, model.name, number), held_url=held_url)
        settings = elements(RENDERER.render(profile, own_rule(profile), phone))
        assert settings
        assert not names_written(profile, settings) - allowed - {"mac"}


@pytest.mark.parametrize(("profile", "model"), MODELS, ids=named)
def test_every_line_is_registered_with_its_own_values(profile, model):
    """P-07: user, auth user, secret, names, registrar, proxy, transport of each line, as the phone would use them."""
    phone = config(profile, model.name, 5)
    lines = FAMILIES[profile.name].lines(elements(RENDERER.render(profile, own_rule(profile), phone)))
    assert [
        (one.sip_user, one.auth_user, one.secret, one.display_name, one.registrar, one.transport, one.outbound_proxy)
        for one in lines
    ] == [
        (
            line.sip_user, line.auth_user, line.secret, line.display_name,
            f"{line.registrar_host}:{line.registrar_port}", line.transport,
            f"{line.outbound_proxy_host}:{line.outbound_proxy_port}" if line.outbound_proxy_host else "",
        )
        for line in phone.lines
    ]  # fmt: skip


@pytest.mark.parametrize("profile", OURS, ids=named)
def test_password_and_next_url_are_read_back(profile):
    """P-07: admin password and the URL of the next boots."""
    for model in profile.models:
        phone = config(profile, model, 5)
        settings = elements(RENDERER.render(profile, own_rule(profile), phone))
        family = FAMILIES[profile.name]
        assert (family.admin_password(settings), family.next_url(settings)) == (
            phone.admin_password,
            phone.provisioning_url,
        )


@pytest.mark.parametrize("profile", OURS, ids=named)
def test_emergency_numbers_complete_at_once_on_every_model_in_every_country(profile):
    """P-08: proven on the bytes of every model, with and without lines, in files of its own and shared ones."""
    for place, model in enumerate(profile.models):
        for numbers in (("911", "933"), ("911", "933", "9911"), ("112", "911"), ("000", "106", "112")):
            phone = dataclasses.replace(config(profile, model, place), emergency_numbers=numbers)
            for one in (phone, dataclasses.replace(phone, lines=())):
                data = RENDERER.render(profile, own_rule(profile), one).decode()
                settings = dict(render.dial_settings(profile, data))
                for number in numbers:
                    found = dialplan.verdicts(profile.dial_plan, settings, number)
                    assert found
                    assert all(verdict.completion == "immediate" for verdict in found.values()), (model, found)


@pytest.mark.parametrize("profile", OURS, ids=named)
def test_other_numbers_can_still_be_dialled(profile):
    """P-08: the room made for emergency numbers closes the door to nobody else."""
    data = RENDERER.render(profile, own_rule(profile), config(profile, next(iter(profile.models)), 0)).decode()
    settings = dict(render.dial_settings(profile, data))
    for number in ("101", "2125550123", "12125550123", "9125550123", "*97", "914", "0"):
        for verdict in dialplan.verdicts(profile.dial_plan, settings, number).values():
            if profile.name == "snom":  # what no entry holds waits for the confirm key, and is sent as it is
                assert verdict.completion == "never"
                continue
            assert verdict.completion in {"immediate", "after_timer"}, (number, verdict)
            assert verdict.sent == number


@pytest.mark.parametrize("profile", OURS, ids=named)
@given(
    display_name=st.text(max_size=60) | st.text(alphabet="\"'&<>;\\#☎😀\r\n\t ]]>", max_size=20),
    secret=st.text(max_size=60) | st.text(alphabet="\"'&<>;\\#$%{}☎😀 ", max_size=20),
)
def test_no_user_text_ever_becomes_a_second_setting(profile, display_name, secret):
    """P-11: the phone reads the same names, and the text as it was typed; or nothing is rendered."""
    for model in {one.template: one.name for one in profile.models.values()}.values():
        phone = config(profile, model, 0)
        plain = elements(RENDERER.render(profile, own_rule(profile), phone))
        line = dataclasses.replace(phone.lines[0], display_name=display_name, secret=secret, label=display_name)
        try:
            data = RENDERER.render(profile, own_rule(profile), dataclasses.replace(phone, lines=(line,)))
        except UnsafeValue:
            continue
        found = elements(data)
        assert list(found) == list(plain)
        (told,) = FAMILIES[profile.name].lines(found)
        assert (told.display_name, told.secret) == (display_name, secret)


@pytest.mark.parametrize("profile", OURS, ids=named)
@pytest.mark.parametrize("text", ["a\nb", "a\x00b", "\u2028", "\ud800", "\ufffe"])
def test_a_character_no_file_can_hold_is_refused_by_field_and_place(profile, text):
    """P-11: the field and the character are named."""
    phone = config(profile, next(iter(profile.models)), 0)
    bad = dataclasses.replace(phone, lines=(dataclasses.replace(phone.lines[0], display_name=text),))
    with pytest.raises(UnsafeValue, match=r"lines\[1\]\.display_name holds the character U\+"):
        RENDERER.render(profile, own_rule(profile), bad)


@pytest.mark.parametrize("profile", OURS, ids=named)
def test_a_template_that_holds_911_up_is_never_served(profile):
    """P-08: without its emergency rules no file of any model leaves."""
    templates = dict(profile.templates)
    name = next(one for one in ("dial.j2", "dialing.xml.j2") if one in templates)
    templates[name] = (
        templates[name].replace("numbers", "('555',)").replace("macro plan(('555',)", "macro plan(numbers")
    )
    text = (vendors.templates_root() / profile.name / "profile.toml").read_text()
    broken = vendors.parse_profile(text, templates)
    renderer = render.Renderer(vendors.Vendors({profile.name: broken}))
    for model in broken.models:
        with pytest.raises(dialplan.UnsafeDialPlan, match="911"):
            renderer.render(broken, own_rule(broken), config(broken, model, 0))


@pytest.mark.parametrize("profile", OURS, ids=named)
def test_at_least_twenty_models_with_their_grade(profile):
    """P-06: the table of models."""
    assert len(profile.models) >= 20
    assert {model.support for model in profile.models.values()} == set(vendors.Support)


# --- Time zones -----------------------------------------------------------------------------------------------------


def is_saving(zone: ZoneRule, at: datetime) -> bool:
    """Whether daylight saving holds at that moment of standard time, by a rule of months, weeks and days."""
    if zone.start is None or zone.end is None:
        return False
    start, end = nth_day(at.year, zone.start), nth_day(at.year, zone.end) - timedelta(minutes=zone.saving_minutes)
    return start <= at < end if start < end else not end <= at < start


def nth_day(year: int, change) -> datetime:
    if change.week == 5:
        last = datetime(year + change.month // 12, change.month % 12 + 1, 1, tzinfo=UTC) - timedelta(days=1)
        day = last - timedelta(days=(last.isoweekday() - change.weekday) % 7)
    else:
        first = datetime(year, change.month, 1, tzinfo=UTC)
        day = first + timedelta(days=(change.weekday - first.isoweekday()) % 7 + 7 * (change.week - 1))
    return day + timedelta(hours=change.hour)


def read_posix(text: str) -> ZoneRule:
    """Grandstream's self-defined zone, by the grammar of POSIX and not by our own parser."""
    found = re.fullmatch(r"STD([+-][\d:]+)(?:DST([+-][\d:]+),M(\d+)\.(\d)\.(\d)/(\d+),M(\d+)\.(\d)\.(\d)/(\d+))?", text)
    assert found, text

    def east(part: str) -> int:
        hours, _, minutes = part[1:].partition(":")
        return (int(hours) * 60 + int(minutes or 0)) * (-1 if part[0] == "+" else 1)

    if found[2] is None:
        return ZoneRule("", east(found[1]))
    numbers = [int(part) for part in found.groups()[2:]]
    return rule_of(east(found[1]), east(found[2]) - east(found[1]), numbers[:4], numbers[4:])


def rule_of(offset: int, saving: int, start, end) -> ZoneRule:
    return ZoneRule("", offset, saving, Change(*start), Change(*end))


def read_cisco(text: str, offset: int) -> ZoneRule:
    if not text:
        return ZoneRule("", offset)
    found = re.fullmatch(
        r"start=(-?\d+)/(-?\d+)/(\d)/(\d+):0:0;end=(-?\d+)/(-?\d+)/(\d)/(\d+):0:0;save=(\d+):(\d+)", text
    )
    assert found, text
    numbers = [int(part) for part in found.groups()]
    changes = [
        (month, 5 if day == -1 else (day + 6) // 7, weekday % 7, hour)
        for month, day, weekday, hour in (numbers[:4], numbers[4:8])
    ]
    return rule_of(offset, numbers[8] * 60 + numbers[9], *changes)


def read_snom(text: str, offset: int) -> ZoneRule:
    if not text:
        return ZoneRule("", offset)
    found = re.fullmatch(r"(\d+) (\d\d)\.(\d\d)\.(\d\d) (\d\d):00:00 (\d\d)\.(\d\d)\.(\d\d) (\d\d):00:00", text)
    assert found, text
    saving, *numbers = [int(part) for part in found.groups()]
    start, end = ([*numbers[:2], numbers[2] % 7, numbers[3]], [*numbers[4:6], numbers[6] % 7, numbers[7]])
    return rule_of(offset, saving // 60, start, end)


@pytest.mark.parametrize("name", ZONES)
def test_the_notations_tell_the_right_hour_for_ten_years(name):
    """P-07: each notation is read by a reader of its own and asked for the offset every five days of ten years."""
    zone = zone_rule(name)
    with (
        importlib.resources.files("tzdata.zoneinfo").joinpath(name).open("rb") as file
    ):  # not the system's: it is older
        truth = zoneinfo.ZoneInfo.from_file(file)
    read = (read_posix(posix_tz(zone)), read_cisco(day_rule(zone), zone.offset_minutes),
            read_snom(dotted_rule(zone), zone.offset_minutes))  # fmt: skip
    assert len(set(read)) == 1
    at = datetime(2027, 1, 3, 12, tzinfo=UTC)  # Vancouver leaves its winter time in 2026
    while at.year < 2037:
        offset = at.astimezone(truth).utcoffset()
        assert offset is not None
        standard = at + timedelta(minutes=zone.offset_minutes)
        told = zone.offset_minutes + (zone.saving_minutes if is_saving(read[0], standard) else 0)
        assert told == offset.total_seconds() // 60, at
        at += timedelta(days=5)


@pytest.mark.parametrize("name", ZONES)
def test_fanvil_s_fields_hold_the_same_rule(name):
    """P-07: quarters of an hour, and daylight saving by month, week, day and hour in fields of their own."""
    profile = KNOWN.profiles["fanvil"]
    zone = zone_rule(name)
    phone = dataclasses.replace(config(profile, "X5S", 0), zone=zone)
    found = elements(RENDERER.render(profile, own_rule(profile), phone))
    assert int(found["TimeZone"]) * 15 == zone.offset_minutes
    if zone.start is None:
        assert found["EnableDST"] == "0"
        return
    changes = [[int(found[f"DST{end}{part}"]) for part in ("Mon", "Week", "Wday", "Hour")] for end in ("Start", "End")]
    for change in changes:
        change[1] = 5 if change[1] == -1 else change[1]
    told = rule_of(zone.offset_minutes, int(found["DSTMinOffset"]), *changes)
    assert dataclasses.replace(told, name=name) == zone
