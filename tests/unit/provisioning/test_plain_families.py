"""Mitel, Htek, Panasonic, Sangoma, Avaya, Gigaset, Algo: what is written for a phone is what the phone reads."""

import dataclasses
import datetime as dt
import hashlib
import importlib.resources
import json
import re
import zoneinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import UnsafeValue
from engine.provisioning import boots_plain, render, vendors
from engine.provisioning.timezone import Change, ZoneRule, zone_among, zone_rule
from engine.provisioning.vendors import Confidence, FileKind, Profile, Support
from tests.golden.samples import config

KNOWN = vendors.load()
RENDERER = render.Renderer(KNOWN)
READERS = {
    "mitel": boots_plain.mitel_settings,
    "htek": boots_plain.htek_settings,
    "panasonic": boots_plain.panasonic_settings,
    "sangoma": boots_plain.sangoma_settings,
    "avaya": boots_plain.avaya_settings,
    "gigaset": boots_plain.gigaset_settings,
    "algo": boots_plain.algo_settings,
}
FAMILIES = [KNOWN.profiles[name] for name in READERS if name in KNOWN.profiles]
LISTS = {
    "mitel": "Mitel/Aastra 6xxx",
    "htek": "Htek",
    "panasonic": "Panasonic KX-UT/TGP/HDV",
    "sangoma": "Digium D-series",
    "avaya": "Avaya J100",
    "gigaset": "Gigaset",
    "algo": "Algo",
}
# Names that stand in a vendor's document and in no list of ours.
CITED = {
    "mitel": {
        "https port": "Mitel SIP phone administrator guide, HTTPS server settings",
    },
    "sangoma": {
        "config_server_url": "wiki.asterisk.org, XML Configuration, General (Login)",
    },
    "avaya": {
        "TLSSRVR": "Avaya J100 installing and administering, Proprietary File Server TLV",
        "TLSPORT": "Avaya J100 installing and administering, file server parameters",
        "TLSDIR": "Avaya J100 installing and administering, file server parameters",
        "HTTPDIR": "Avaya J100 installing and administering, file server parameters",
        "L2Q": "Avaya J100 installing and administering, Virtual LAN",
        "L2QVLAN": "Avaya J100 installing and administering, Virtual LAN",
        "L2QAUD": "Avaya J100 installing and administering, MED Network Policy TLV",
        "L2QSIG": "Avaya J100 installing and administering, MED Network Policy TLV",
        "REGISTERWAIT": "Avaya J100 installing and administering, Failover and survivability",
        "DAYLIGHT_SAVING_SETTING_MODE": "Avaya 9600 administering, Configuration through the settings file",
        "HELD_URL": "dev-docs.avaya.com, HELD",
        "HELD_RETRY": "dev-docs.avaya.com, HELD",
    },
}
ZONES = (
    "America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles", "America/Phoenix",
    "America/Anchorage", "Pacific/Honolulu", "America/Halifax", "America/St_Johns", "America/Toronto",
    "America/Vancouver", "America/Mexico_City", "America/Bogota", "America/Sao_Paulo", "America/Argentina/Buenos_Aires",
    "Europe/London", "Europe/Dublin", "Europe/Lisbon", "Europe/Paris", "Europe/Berlin", "Europe/Madrid", "Europe/Rome",
    "Europe/Athens", "Europe/Helsinki", "Europe/Bucharest", "Europe/Istanbul", "Europe/Moscow", "Africa/Johannesburg",
    "Africa/Lagos", "Asia/Dubai", "Asia/Karachi", "Asia/Kolkata", "Asia/Dhaka", "Asia/Bangkok", "Asia/Singapore",
    "Asia/Tokyo", "Australia/Sydney", "Australia/Adelaide", "Australia/Brisbane", "Pacific/Auckland",
)  # fmt: skip


DAYS, MONTHS = "SunMonTueWedThuFriSat", "JanFebMarAprMayJunJulAugSepOctNovDec"


def by_name(profile: Profile) -> str:
    return profile.name


def rule_of(profile: Profile):
    return next(rule for rule in profile.files if rule.template == "model")


def served(profile: Profile):
    return [model for model in profile.models.values() if model.template is not None]


def read(profile: Profile, phone) -> dict[str, str]:
    return READERS[profile.name](RENDERER.render(profile, rule_of(profile), phone))


def indexless(name: str) -> str:
    """A parameter name with every number in it as N, so that line 7 of ours is line {n} of the list."""
    return re.sub(r"\{[nm]\}|\d+", "N", name)


def names_written(profile: Profile, data: bytes) -> set[str]:
    """Parameter names in the spelling of the list: Htek's by their para, Sangoma's by element and attribute."""
    text = data.decode()
    if profile.name == "htek":
        return set(re.findall(r'para="([^"]+)"', text))
    if profile.name == "sangoma":
        settings_ = set(re.findall(r'<setting id="([^"]+)"', text))
        elements = re.findall(r"<(account|host_primary)\s([^>]*)>", text)
        return settings_ | {
            f"{tag}@{name}" for tag, attributes in elements for name in re.findall(r"(\w+)=\"", attributes)
        }
    if profile.name == "gigaset":
        return set(re.findall(r'<param name="([^"]+)"', text))
    return set(READERS[profile.name](data))


@pytest.mark.parametrize("profile", FAMILIES, ids=by_name)
def test_every_parameter_written_is_in_the_family_s_list_or_in_a_document_of_the_vendor(profile, cases):
    """P-07: no parameter name is invented."""
    known = json.loads((cases / "vendor_keys.json").read_text())[LISTS[profile.name]]
    allowed = {indexless(name) for name in known["known_keys"]}
    allowed |= {indexless(entry["key"]) for keys in known["settings"].values() for entry in keys}
    allowed |= {indexless(name) for name in CITED.get(profile.name, {})}
    seen = set()
    for number, model in enumerate(served(profile)):
        phone = dataclasses.replace(config(profile, model.name, number), held_url="https://lis.example.net/held")
        names = names_written(profile, RENDERER.render(profile, rule_of(profile), phone))
        assert names
        unknown = {name for name in names if indexless(name) not in allowed}
        assert not unknown, (model.name, unknown)
        seen |= names
    assert set(CITED.get(profile.name, {})) <= seen


def test_an_htek_setting_s_number_and_name_belong_together(cases):
    """P-07: the number is what the phone reads, the name beside it is for people; the list knows both as one."""
    if "htek" not in KNOWN.profiles:
        pytest.skip("the profile is not installed")
    profile = KNOWN.profiles["htek"]
    known = json.loads((cases / "vendor_keys.json").read_text())["Htek"]["known_keys"]
    listed = dict(re.findall(r"^(P\d+) \((.+)\)$", name)[0][::-1] for name in known if re.match(r"P\d+ \(", name))
    seen = 0
    for number, model in enumerate(served(profile)):
        text = RENDERER.render(profile, rule_of(profile), config(profile, model.name, number)).decode()
        for element, name, closing in re.findall(r'<(P\d+) para="([^"]+)">[^<]*</(P\d+)>', text):
            assert element == closing
            if name in listed and not name.startswith("Active"):
                seen += 1
                assert listed[name] == element, (model.name, name)
    assert seen > 100


@pytest.mark.parametrize("profile", FAMILIES, ids=by_name)
def test_every_line_is_registered_with_its_own_values(profile):
    """P-07: user, auth user, secret, names, registrar, proxy and transport of each line, read back on every model."""
    family = boots_plain.FAMILIES[profile.name]
    for number, model in enumerate(served(profile)):
        phone = config(profile, model.name, number)
        found = read(profile, phone)
        lines = family.lines(found)
        assert [line.key for line in lines] == [line.number for line in phone.lines], model.name
        for line, told in zip(phone.lines, lines, strict=True):
            assert (told.sip_user, told.auth_user, told.secret, told.display_name) == (
                line.sip_user, line.auth_user, line.secret, line.display_name,
            )  # fmt: skip
            one_transport = profile.name == "mitel"  # the whole phone has one
            assert told.transport == (phone.lines[0] if one_transport else line).transport
            behind_proxy = profile.name == "avaya" and line.outbound_proxy_host
            if not behind_proxy:
                assert told.registrar == f"{line.registrar_host}:{line.registrar_port}"
            proxy = f"{line.outbound_proxy_host}:{line.outbound_proxy_port}" if line.outbound_proxy_host else ""
            assert told.outbound_proxy == proxy
        if phone.admin_password:
            assert family.admin_password(found) == phone.admin_password
        next_url = family.next_url(found)
        assert next_url is not None
        assert next_url.rstrip("/") == phone.provisioning_url.rstrip("/")


# NTP server, voice VLAN and its priority, link-layer discovery (on, off), expiry in its unit: as each phone reads them.
SITE = {
    "mitel": ("time server1", "vlan id", "priority non-ip", ("lldp", "1", "0"), ("sip line1 registration period", 1)),
    "htek": ("P30", "P51", "P87", ("P5438", "1", "0"), ("P32", 60)),
    "panasonic": ("NTP_ADDR", "VLAN_ID_IP_PHONE", "VLAN_PRI_IP_PHONE", None, ("REG_EXPIRE_TIME_1", 1)),
    "sangoma": (
        "ntp_server", "network_vlan_id", "network_vlan_qos", ("network_vlan_discovery_mode", "LLDP", "NONE"),
        ("account.0.host.reregister", 1),
    ),
    "avaya": ("SNTPSRVR", "L2QVLAN", "L2QSIG", None, ("REGISTERWAIT", 1)),
    "gigaset": ("DmGlobal.0.NtpServer", None, None, None, ("SipProvider.0.RegServerRefreshTimer", 1)),
    "algo": ("net.time1", "net.vlan.id", "net.vlan.priority", ("net.ll.lldp", "1", "0"), ("sip.regexp", 1)),
}  # fmt: skip


@pytest.mark.parametrize("profile", FAMILIES, ids=by_name)
def test_ntp_vlan_discovery_and_expiry_are_what_was_asked_for(profile):
    """P-07: where a phone has the setting at all."""
    ntp, vlan, priority, discovery, (expiry, unit_s) = SITE[profile.name]
    phone = config(profile, served(profile)[-1].name, 0)
    tagged = read(profile, dataclasses.replace(phone, ntp_server="time.example.net", vlan_id=77, vlan_priority=6))
    assert tagged[ntp] == "time.example.net"
    assert int(tagged[expiry]) * unit_s == phone.lines[0].expires_s
    if vlan is not None and priority is not None:
        assert (tagged[vlan], tagged[priority]) == ("77", "6")
        assert vlan not in read(profile, dataclasses.replace(phone, vlan_id=None))
    if discovery is not None:
        name, on, off = discovery
        for lldp, wanted in ((True, on), (False, off)):
            assert read(profile, dataclasses.replace(phone, vlan_id=None, lldp=lldp))[name] == wanted


RESYNC = {
    "mitel": "auto resync time",
    "htek": "P193",
    "panasonic": "CFG_CYCLIC_INTVL",
    "algo": "prov.sync.time",
}


@pytest.mark.parametrize("vendor", [name for name in RESYNC if name in KNOWN.profiles])
def test_the_phones_of_a_site_do_not_all_ask_at_the_same_minute(vendor):
    """P-07: the interval, or the minute of the day, is the phone's own, from its address."""
    profile = KNOWN.profiles[vendor]
    phone = config(profile, served(profile)[0].name, 0)
    minutes = set()
    for number in range(60):
        mac = f"{min(profile.ouis)}{number:06x}"
        one = dataclasses.replace(phone, mac=mac, resync_minutes=render.with_jitter(1440, mac))
        minutes.add(read(profile, one)[RESYNC[vendor]])
    assert len(minutes) > 30


def test_the_phone_s_own_emergency_settings_are_written():
    """P-09: numbers a locked phone dials, numbers with priority, the HELD server."""
    wanted = {
        "mitel": {"emergency dial plan": "911|933"},
        "htek": {"P5732": "911,933"},
        "panasonic": {"EMERGENCY_CALL1": "911", "EMERGENCY_CALL2": "933"},
        "avaya": {"HELD_URL": "https://lis.example.net/held", "HELD_RETRY": "300"},
    }
    for name, settings_ in wanted.items():
        profile = KNOWN.profiles[name]
        phone = config(profile, served(profile)[0].name, 0)
        found = read(profile, dataclasses.replace(phone, held_url="https://lis.example.net/held"))
        assert {one: found[one] for one in settings_} == settings_
        assert "HELD_URL" not in read(profile, phone)


@pytest.mark.parametrize("profile", FAMILIES, ids=by_name)
def test_a_phone_without_lines_still_gets_a_file_it_can_call_for_help_with(profile):
    """P-22: no line is no reason for no configuration."""
    for number, model in enumerate(served(profile)):
        phone = dataclasses.replace(config(profile, model.name, number), lines=())
        assert boots_plain.FAMILIES[profile.name].lines(read(profile, phone)) == []


@pytest.mark.parametrize("profile", FAMILIES, ids=by_name)
def test_911_and_933_complete_at_once_on_every_model(profile):
    """P-08: proven on the bytes of every model, with 9911, in and out of the North American plan."""
    for number, model in enumerate(served(profile)):
        for numbers in (("911", "933"), ("911", "933", "9911"), ("112", "999")):
            for is_nanp in (True, False):
                phone = dataclasses.replace(
                    config(profile, model.name, number), emergency_numbers=numbers, is_nanp=is_nanp
                )
                data = RENDERER.render(profile, rule_of(profile), phone).decode()
                found = dict(render.dial_settings(profile, data))
                for dialled in numbers:
                    for verdict in render.dialplan.verdicts(profile.dial_plan, found, dialled).values():
                        assert (verdict.completion, verdict.sent) == ("immediate", dialled), model.name


# --- Texts ----------------------------------------------------------------------------------------------------------

_ODD = st.text(alphabet=st.sampled_from("aZ0 \"'&<>=#;:\\{}%[]|,/é“”🚒\t\n\r\x00\u2028"), max_size=24)


@settings(deadline=None, max_examples=60)
@given(_ODD | st.text(max_size=40), _ODD | st.text(max_size=40))
def test_no_user_text_ever_becomes_a_second_setting(display_name, secret):
    """P-11: quotes, ampersands, newlines, emoji: the same names come out, each value as it went in, or nothing is
    rendered and the field and place are named.
    """
    refusals: list[str] = []
    for profile in FAMILIES:
        phone = config(profile, served(profile)[0].name, 0)
        plain = read(profile, phone)
        line = dataclasses.replace(phone.lines[0], display_name=display_name, secret=secret, label="Desk")
        try:
            data = RENDERER.render(profile, rule_of(profile), dataclasses.replace(phone, lines=(line,)))
        except UnsafeValue as exc:
            refusals.append(str(exc))
            continue
        found = READERS[profile.name](data)
        assert list(found) == list(plain)
        if display_name and secret:
            told = boots_plain.FAMILIES[profile.name].lines(found)[0]
            assert (told.display_name, told.secret) == (display_name, secret), profile.name
    where = re.compile(r"lines\[1\]\.\w+ holds the character U\+[0-9A-F]{4,6} at place \d+")
    assert all(where.match(refusal) for refusal in refusals)


@pytest.mark.parametrize("profile", FAMILIES, ids=by_name)
def test_what_a_format_cannot_hold_is_refused_by_field_character_and_place(profile):
    """P-11: a newline in every format, a quote where quotes are the format."""
    phone = config(profile, served(profile)[0].name, 0)
    for bad in ("a\nb", 'a"b'):
        line = dataclasses.replace(phone.lines[0], secret=bad)
        wanted = dataclasses.replace(phone, lines=(line,))
        if bad == "a\nb" or (profile.refused is not None and profile.refused.search(bad)):
            with pytest.raises(
                UnsafeValue, match=rf"lines\[1\]\.secret holds the character U\+00{ord(bad[1]):02X} at place 2"
            ):
                RENDERER.render(profile, rule_of(profile), wanted)
        else:
            assert boots_plain.FAMILIES[profile.name].lines(read(profile, wanted))[0].secret == bad


# --- Time -----------------------------------------------------------------------------------------------------------


def zone_as_read(profile: Profile, found: dict[str, str]) -> ZoneRule:
    """What the phone makes of its own notation."""
    if profile.name == "mitel":
        offset = -int(found["time zone minutes"])
        if found["dst config"] == "0":
            return ZoneRule("", offset)
        week = {name: int(found[f"dst {name} week"]) for name in ("start", "end")}
        start, end = (
            Change(int(found[f"dst {name} month"]), 5 if week[name] == -1 else week[name],
                   int(found[f"dst {name} day"]) - 1, int(found[f"dst {name} hour"]))
            for name in ("start", "end")
        )  # fmt: skip
        return ZoneRule("", offset, int(found["dst minutes"]), start, end)
    if profile.name == "panasonic":
        offset = int(found["TIME_ZONE"])
        if found["DST_ENABLE"] == "N":
            return ZoneRule("", offset)
        start, end = (
            Change(*(int(found[f"DST_{name}_{part}"]) for part in ("MONTH", "ORDINAL_DAY", "DAY_OF_WEEK")),
                   int(found[f"DST_{name}_TIME"]) // 60)
            for name in ("START", "STOP")
        )  # fmt: skip
        return ZoneRule("", offset, int(found["DST_OFFSET"]), start, end)
    sign, hours, minutes = re.fullmatch(r"(-?)(\d+):(\d\d)", found["GMTOFFSET"]).groups()
    offset = (int(hours) * 60 + int(minutes)) * (-1 if sign else 1)
    if found["DAYLIGHT_SAVING_SETTING_MODE"] == "0":
        return ZoneRule("", offset)
    changes = [re.fullmatch(r"([1-4L])(\w{3})(\w{3})(\d)L", found[name]).groups() for name in ("DSTSTART", "DSTSTOP")]
    start, end = (
        Change(MONTHS.index(month) // 3 + 1, 5 if which == "L" else int(which), DAYS.index(day) // 3, int(hour))
        for which, day, month, hour in changes
    )
    return ZoneRule("", offset, int(found["DSTOFFSET"]) * 60, start, end)


def day_of(change: Change, year: int) -> dt.date:
    first = dt.date(year, change.month, 1)
    day = first + dt.timedelta((change.weekday - first.isoweekday()) % 7 + 7 * (change.week - 1))
    return day if day.month == change.month else day - dt.timedelta(7)


def offset_at(zone: ZoneRule, moment: dt.datetime) -> int:
    """Minutes east of UTC at that moment of standard time."""
    if zone.start is None or zone.end is None:
        return zone.offset_minutes
    start = dt.datetime.combine(day_of(zone.start, moment.year), dt.time(zone.start.hour))
    end = dt.datetime.combine(day_of(zone.end, moment.year), dt.time(zone.end.hour)) - dt.timedelta(
        minutes=zone.saving_minutes
    )
    is_saving = start <= moment < end if start < end else not end <= moment < start
    return zone.offset_minutes + (zone.saving_minutes if is_saving else 0)


def tz_of(name: str) -> zoneinfo.ZoneInfo:
    """Out of the same edition of the tz database as the rules; the system's may be older."""
    with importlib.resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return zoneinfo.ZoneInfo.from_file(file)


@pytest.mark.parametrize("name", [name for name in ("mitel", "panasonic", "avaya") if name in KNOWN.profiles])
def test_the_time_of_forty_zones_is_right_every_day_of_ten_years(name):
    """P-07: each vendor's own notation, read back and compared with the tz database at noon of every day."""
    profile = KNOWN.profiles[name]
    phone = config(profile, served(profile)[0].name, 0)
    for zone in ZONES:
        rule = zone_as_read(profile, read(profile, dataclasses.replace(phone, zone=zone_rule(zone))))
        tz = tz_of(zone)
        day = dt.datetime(2027, 1, 1, 12)  # noqa: DTZ001  # the wall clock of each zone in turn
        while day.year < 2037:
            expected = day.replace(tzinfo=tz).utcoffset()
            assert offset_at(rule, day) == expected.total_seconds() // 60, (zone, day)
            day += dt.timedelta(1)
    assert len(ZONES) == 40


def test_htek_is_told_a_number_for_the_offset_and_the_changes_by_week():
    """P-07: the phone's numbers of zones; the rule beside it counts."""
    if "htek" not in KNOWN.profiles:
        pytest.skip("the profile is not installed")
    profile = KNOWN.profiles["htek"]
    phone = config(profile, "UC926", 0)
    for zone in ZONES:
        rule = zone_rule(zone)
        found = read(profile, dataclasses.replace(phone, zone=rule))
        assert found["P64"].isdigit(), zone
        assert found["P75"] == ("1" if rule.start else "0")
        if rule.start and rule.end:
            told = [int(found[f"P231{n}"]) for n in range(18, 26)]
            start, end = rule.start, rule.end
            assert told == [
                start.month, start.week, start.weekday, start.hour, end.month, end.week, end.weekday, end.hour,
            ]  # fmt: skip
    nepal = read(profile, dataclasses.replace(phone, zone=zone_rule("Asia/Kathmandu")))
    assert "P64" not in nepal  # it has no number for 5:45, and a wrong one would be a lie


def test_a_zone_a_phone_does_not_know_is_named_by_one_with_the_same_rule():
    """P-07: Gigaset bases know some fifty zones by name."""
    names = ("America/New_York", "Europe/Berlin", "Asia/Tokyo", "Australia/Sydney")
    assert zone_among(zone_rule("America/New_York"), names) == "America/New_York"
    assert zone_among(zone_rule("America/Detroit"), names) == "America/New_York"
    assert zone_among(zone_rule("Europe/Warsaw"), names) == "Europe/Berlin"
    assert zone_among(zone_rule("Asia/Seoul"), names) == "Asia/Tokyo"
    assert zone_among(zone_rule("Asia/Kolkata"), names) is None
    assert zone_among(zone_rule("America/Bogota"), names) is None  # New York is an hour off all summer


# --- Openings -------------------------------------------------------------------------------------------------------


@given(
    st.sets(st.text(alphabet="0123456789", min_size=1, max_size=4), min_size=1, max_size=5),
    st.text("0123456789", min_size=1, max_size=6),
)
def test_every_number_begins_with_one_opening_or_leads_to_an_emergency_number(numbers, dialled):
    """P-08: the openings cover all that is no beginning of an emergency number, and nothing else."""
    numbers = {one for one in numbers if not any(other != one and one.startswith(other) for other in numbers)}
    openings = [re.compile(opening) for opening in render.around(tuple(sorted(numbers)))]
    leads = any(number.startswith(dialled) or dialled.startswith(number) for number in numbers)
    assert sum(opening.match(dialled) is not None for opening in openings) == (0 if leads else 1)


# --- Files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", FAMILIES, ids=by_name)
def test_each_family_has_models_of_every_kind_and_at_least_eight(profile):
    """P-06: at least eight models a family, each with its grade; there are six J100 phones, and the 1200 by name."""
    assert len(profile.models) >= (7 if profile.name == "avaya" else 8)
    assert {Support.TESTED, Support.EXPECTED} <= {model.support for model in profile.models.values()}


@pytest.mark.parametrize("profile", FAMILIES, ids=by_name)
def test_a_phone_is_identified_by_its_file_alone_and_by_its_user_agent_alone(profile):
    """P-05: either is enough; both together are sure."""
    for model in served(profile):
        mac = vendors.Mac(min(profile.ouis) + "0a1b2c")
        agent = boots_plain.FAMILIES[profile.name].agent(model, mac)
        named = render.served_names(profile, mac, model.name)[-1]
        both = KNOWN.identify(f"/p/x/{named}", agent)
        assert (both.vendor, both.mac, both.model, both.confidence) == (profile.name, mac, model.name, Confidence.EXACT)
        assert not both.contradictions
        alone = KNOWN.identify(f"/p/x/{named}")
        assert (alone.vendor, alone.mac) == (profile.name, mac)
        by_agent = KNOWN.identify("/", agent)
        assert (by_agent.vendor, by_agent.mac, by_agent.model) == (profile.name, mac, model.name)


@pytest.mark.parametrize("profile", FAMILIES, ids=by_name)
def test_a_renamed_user_agent_does_not_turn_a_phone_away(profile):
    """P-05: User-Agent is never a hard condition."""
    mac = vendors.Mac(min(profile.ouis) + "0a1b2c")
    named = render.served_names(profile, mac, served(profile)[0].name)[-1]
    found = KNOWN.identify(f"/p/x/{named}", "Lobby phone 1.0")
    assert (found.vendor, found.mac, found.kind, found.is_refused) == (profile.name, mac, FileKind.DEVICE, False)


@pytest.mark.parametrize(("vendor", "model"), [("gigaset", "N510 IP PRO"), ("avaya", "SIP12x0"), ("sangoma", "A25")])
def test_a_model_whose_files_have_another_grammar_is_known_by_name_and_served_nothing(vendor, model):
    """P-05, P-06: a wrong file would be worse than none."""
    profile = KNOWN.profiles[vendor]
    assert profile.models[model].support is Support.UNTESTED
    assert render.served_names(profile, vendors.Mac("7c2f800a1b2c"), model) == ()
    with pytest.raises(ValueError, match="serves no device file"):
        RENDERER.render(profile, rule_of(profile), config(profile, model, 0))


def test_the_checksum_of_an_algo_file_is_that_of_the_bytes_served():
    """P-07: the device throws a file away whose checksum is another."""
    if "algo" not in KNOWN.profiles:
        pytest.skip("the profile is not installed")
    profile = KNOWN.profiles["algo"]
    checksum = next(rule for rule in profile.files if rule.kind is FileKind.BOOT)
    for number, model in enumerate(served(profile)):
        phone = config(profile, model.name, number)
        data = RENDERER.render(profile, rule_of(profile), phone)
        told = RENDERER.render(profile, checksum, phone).decode().split()
        assert told == [hashlib.md5(data, usedforsecurity=False).hexdigest(), f"algom{phone.mac.upper()}.conf"]
