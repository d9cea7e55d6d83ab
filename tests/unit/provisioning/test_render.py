import dataclasses
import json
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UnsafeValue
from engine.provisioning import render, vendors
from engine.provisioning.dialplan import UnsafeDialPlan
from engine.provisioning.vendors import FileKind, FileRule, parse_profile
from tests.golden.samples import config

KNOWN = vendors.load()
RENDERER = render.Renderer(KNOWN)
YEALINK, POLY = KNOWN.profiles["yealink"], KNOWN.profiles["poly"]
FAMILIES = {"yealink": "Yealink", "poly": "Polycom/Poly UCS, VVX, Edge E"}


def own_rule(profile) -> FileRule:
    return next(rule for rule in profile.files if rule.template == "model")


def yealink_settings(data: bytes) -> dict[str, str]:
    found = {}
    for row in data.decode().splitlines():
        if row and not row.startswith("#"):
            name, separator, value = row.partition(" =")
            assert separator, row
            found[name] = value.removeprefix(" ")
    return found


def poly_settings(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for element in ET.fromstring(data).iter():
        for name, value in element.attrib.items():
            assert name not in found or element.tag != "reg"
            found[name] = value
    return found


def pattern_of(name: str) -> str:
    """A parameter name with every index as N, so that line 7 of ours is line {n} of the list."""
    return re.sub(r"(?<=\.)(?:\d+|\{[nm]\}|[xXyY])(?=\.|$)", "N", name)


@pytest.mark.parametrize("vendor", ["yealink", "poly"])
def test_every_parameter_written_exists_in_that_family(vendor, cases):
    """P-07: no parameter name is invented."""
    known = json.loads((cases / "vendor_keys.json").read_text())[FAMILIES[vendor]]
    allowed = {pattern_of(name) for name in known["known_keys"]}
    document_only = " ".join(entry["key"] for entry in known["document_only"])
    profile = KNOWN.profiles[vendor]
    for number, model in enumerate(profile.models):
        for rule in profile.files:
            if rule.template is None or rule.kind is FileKind.BOOT:
                continue
            data = RENDERER.render(profile, rule, config(profile, model, number))
            names = yealink_settings(data) if vendor == "yealink" else poly_settings(data)
            assert names
            unknown = {name for name in names if pattern_of(name) not in allowed}
            assert not unknown, (model, unknown)
    if vendor == "poly":
        master = next(rule for rule in profile.files if rule.kind is FileKind.BOOT)
        data = RENDERER.render(profile, master, config(profile, "VVX 450", 0))
        assert set(poly_settings(data)) <= set(re.findall(r"[A-Z_]{4,}", document_only))


@pytest.mark.parametrize("profile", [YEALINK, POLY], ids=lambda profile: profile.name)
def test_every_line_is_registered_with_its_own_values(profile):
    """P-07: user, auth user, secret, names, registrar, proxy, transport and expiry of each line."""
    model = "T54W" if profile is YEALINK else "VVX 450"
    phone = config(profile, model, 5)
    data = RENDERER.render(profile, own_rule(profile), phone)
    assert len(phone.lines) == 3
    for line in phone.lines:
        if profile is YEALINK:
            found = yealink_settings(data)
            n = f"account.{line.number}."
            names = {
                "label": line.label,
                "display_name": line.display_name,
                "user_name": line.sip_user,
                "auth_name": line.auth_user,
                "password": line.secret,
                "sip_server.1.address": line.registrar_host,
                "sip_server.1.port": str(line.registrar_port),
                "sip_server.1.expires": str(line.expires_s),
                "sip_server.1.transport_type": {"udp": "0", "tcp": "1", "tls": "2"}[line.transport],
                "outbound_proxy_enable": "1" if line.outbound_proxy_host else "0",
            }
        else:
            found = poly_settings(data)
            n = f"reg.{line.number}."
            names = {
                "label": line.label,
                "displayName": line.display_name,
                "address": line.sip_user,
                "auth.userId": line.auth_user,
                "auth.password": line.secret,
                "server.1.address": line.registrar_host,
                "server.1.port": str(line.registrar_port),
                "server.1.expires": str(line.expires_s),
                "server.1.transport": {"udp": "UDPOnly", "tcp": "TCPOnly", "tls": "TLS"}[line.transport],
            }
        assert {name: found[n + name] for name in names} == names


def test_the_time_zone_is_written_in_each_vendor_s_notation():
    """P-07: the same tz rule, two notations."""
    ny = render.zone_rule("America/New_York")
    london = render.zone_rule("Europe/London")
    yealink = yealink_settings(
        RENDERER.render(YEALINK, own_rule(YEALINK), dataclasses.replace(config(YEALINK, "T54W", 0), zone=ny))
    )
    assert yealink["local_time.time_zone"] == "-5"
    assert (yealink["local_time.start_time"], yealink["local_time.end_time"]) == ("3/2/7/2", "11/1/7/2")
    assert (
        yealink["local_time.summer_time"],
        yealink["local_time.dst_time_type"],
        yealink["local_time.offset_time"],
    ) == ("1", "1", "60")
    poly = poly_settings(
        RENDERER.render(POLY, own_rule(POLY), dataclasses.replace(config(POLY, "VVX 450", 0), zone=london))
    )
    dst = "tcpIpApp.sntp.daylightSavings."
    assert poly["tcpIpApp.sntp.gmtOffset"] == "0"
    assert (poly[dst + "start.month"], poly[dst + "start.dayOfWeek"], poly[dst + "start.dayOfWeek.lastInMonth"]) == (
        "3",
        "1",
        "1",
    )
    assert poly[dst + "start.time"] == "1"
    poly = poly_settings(
        RENDERER.render(POLY, own_rule(POLY), dataclasses.replace(config(POLY, "VVX 450", 0), zone=ny))
    )
    assert (poly[dst + "start.date"], poly[dst + "stop.date"], poly[dst + "stop.dayOfWeek.lastInMonth"]) == (
        "8",
        "1",
        "0",
    )


def test_the_resync_interval_has_a_jitter_that_belongs_to_the_phone():
    """P-07: resync interval with jitter from the MAC."""
    intervals = [render.with_jitter(1440, f"805ec0{n:06x}") for n in range(500)]
    assert intervals == [render.with_jitter(1440, f"805ec0{n:06x}") for n in range(500)]
    assert min(intervals) >= 1440
    assert max(intervals) <= 1440 + 144
    assert len(set(intervals)) > 100


@pytest.mark.parametrize("profile", [YEALINK, POLY], ids=lambda profile: profile.name)
@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\x00b", "a\x85b", "a\u2028b", "\ud800", "a\x0bb", "\ufffe"])
@pytest.mark.parametrize(
    "field", ["display_name", "secret", "label", "sip_user", "registrar_host", "outbound_proxy_host"]
)
def test_a_character_that_could_end_a_setting_is_refused_by_field_name(profile, text, field):
    """P-11: a newline in a value is refused, and the field is named."""
    phone = config(profile, next(iter(profile.models)), 0)
    bad = dataclasses.replace(phone, lines=(dataclasses.replace(phone.lines[0], **{field: text}),))
    with pytest.raises(UnsafeValue, match=rf"lines\[1\]\.{field} holds"):
        RENDERER.render(profile, own_rule(profile), bad)
    with pytest.raises(UnsafeValue, match="admin_password"):
        RENDERER.render(profile, own_rule(profile), dataclasses.replace(phone, admin_password=text))


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=40))
def test_no_user_text_ever_becomes_a_second_setting(display_name, secret, label):
    """P-11: whatever is typed, the phone reads the same names, and the value comes out as it went in, or nothing is
    rendered.
    """
    for profile, model, read in ((YEALINK, "T54W", yealink_settings), (POLY, "VVX 450", poly_settings)):
        phone = config(profile, model, 0)
        plain = read(RENDERER.render(profile, own_rule(profile), phone))
        line = dataclasses.replace(phone.lines[0], display_name=display_name, secret=secret, label=label)
        try:
            data = RENDERER.render(profile, own_rule(profile), dataclasses.replace(phone, lines=(line,)))
        except UnsafeValue:
            continue
        found = read(data)
        assert list(found) == list(plain)
        name, password = (
            ("account.1.display_name", "account.1.password")
            if profile is YEALINK
            else ("reg.1.displayName", "reg.1.auth.password")
        )
        assert (found[name], found[password]) == (display_name, secret)


def test_a_template_that_holds_911_up_is_never_served():
    """P-08: a template that fails the proof is refused."""
    for profile, find, replacement in (
        (YEALINK, "phone_setting.dialnow_delay = 0", "phone_setting.dialnow_delay = 2"),
        (YEALINK, "dialplan.area_code.code =", "dialplan.area_code.code = 9"),
        (POLY, '{{ config.emergency_numbers | join("|") }}|', "9xx.T|"),
        (POLY, 'dialplan.digitmap="', 'dialplan.digitmap="9|'),
    ):
        templates = {name: text.replace(find, replacement) for name, text in profile.templates.items()}
        assert templates != profile.templates
        broken = parse_profile((vendors.templates_root() / profile.name / "profile.toml").read_text(), templates)
        renderer = render.Renderer(vendors.Vendors({profile.name: broken}))
        with pytest.raises(UnsafeDialPlan, match="911"):
            renderer.render(broken, own_rule(broken), config(broken, next(iter(broken.models)), 0))


@pytest.mark.parametrize("profile", [YEALINK, POLY], ids=lambda profile: profile.name)
def test_911_and_933_complete_at_once_on_every_model(profile):
    """P-08: proven on the bytes of every model."""
    for number, model in enumerate(profile.models):
        data = RENDERER.render(profile, own_rule(profile), config(profile, model, number)).decode()
        settings = dict(render.dial_settings(profile, data))
        for emergency in ("911", "933"):
            found = render.dialplan.verdicts(profile.dial_plan, settings, emergency)
            assert found
            assert all(verdict.completion == "immediate" and verdict.sent == emergency for verdict in found.values())


def test_pnp_is_off_and_a_notify_counts_only_from_the_proxy():
    """P-07: NOTIFY protection as each vendor has it."""
    phone = config(YEALINK, "T54W", 0)
    found = yealink_settings(RENDERER.render(YEALINK, own_rule(YEALINK), phone))
    assert found["static.auto_provision.pnp_enable"] == "0"
    assert (found["sip.trust_ctrl"], found["sip.notify_reboot_enable"]) == ("1", "0")
    phone = config(POLY, "VVX 450", 0)
    found = poly_settings(RENDERER.render(POLY, own_rule(POLY), phone))
    assert found["voIpProt.SIP.requestValidation.1.method"] == "source"
    direct = dataclasses.replace(phone, resync_from_proxy=False)
    assert poly_settings(RENDERER.render(POLY, own_rule(POLY), direct))["voIpProt.SIP.requestValidation.1.method"] == ""


def test_a_missing_value_fails_the_rendering_instead_of_becoming_empty():
    templates = dict(YEALINK.templates) | {"base.cfg.j2": "{{ config.nothing_of_that_name }}"}
    broken = parse_profile((vendors.templates_root() / "yealink" / "profile.toml").read_text(), templates)
    with pytest.raises(Exception, match="nothing_of_that_name"):
        render.Renderer(vendors.Vendors({"yealink": broken})).render(
            broken, own_rule(broken), config(broken, "T54W", 0)
        )


def test_the_served_names_follow_the_boot_order():
    assert render.served_names(YEALINK, vendors.Mac("805ec0aabbcc"), "T54W") == (
        "805ec0aabbcc.boot",
        "y000000000096.cfg",
        "805ec0aabbcc.cfg",
    )
    assert render.served_names(YEALINK, vendors.Mac("805ec0aabbcc"), "T34W") == (
        "805ec0aabbcc.boot",
        "805ec0aabbcc.cfg",
    )
    assert render.served_names(POLY, vendors.Mac("64167faabbcc"), "CCX 500") == (
        "64167faabbcc.cfg",
        "64167faabbcc-settings.cfg",
    )
