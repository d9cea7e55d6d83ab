import pytest

from engine.numbers import numbers_of
from engine.provisioning import render, settings, vendors
from engine.provisioning.settings import AccountRecord, LineRecord, PhoneRecord

ACCOUNT = AccountRecord("account_1", "America/Chicago", "US", "Adm1n")
LINE = LineRecord(1, "101", "", "101", "", "s3cret", "pbx.example.net", 5060, "udp", "pbx")
RECORD = PhoneRecord(ACCOUNT, "phone_1", "805ec0aabb01", "yealink", "T46U", "", "", {}, (LINE,))
PROFILE = vendors.known().profiles["yealink"]
RENDERER = render.Renderer(vendors.known())


def with_settings(**entries):
    return settings.phone_config(PhoneRecord(*_values(RECORD, settings=entries)), PROFILE, "http://h/p/t/")


def _values(record, **changed):
    return [changed.get(name, getattr(record, name)) for name in record.__slots__]


@pytest.mark.parametrize(
    ("entry", "is_good"),
    [
        ({"ntp_server": "pool.ntp.org"}, True), ({"ntp_server": "[2001:db8::1]"}, True), ({"ntp_server": "a b"}, False),
        ({"ntp_server": 5}, False), ({"outbound_proxy": "sbc.example.net:5080"}, True), ({"outbound_proxy": ""}, True),
        ({"outbound_proxy": "sbc:99999"}, False), ({"outbound_proxy": "a:b:c"}, False), ({"expires_s": 60}, True),
        ({"expires_s": 59}, False), ({"expires_s": True}, False), ({"codecs": ["opus", "pcmu"]}, True),
        ({"codecs": []}, False), ({"codecs": ["pcmu", "pcmu"]}, False), ({"codecs": ["mp3"]}, False),
        ({"vlan_id": 4094}, True), ({"vlan_id": 0}, False),
        ({"vlan_priority": 7}, True), ({"lldp": False}, True), ({"lldp": 1}, False), ({"dial_9911": True}, True),
        ({"resync_minutes": 14}, False), ({"unknown": 1}, False),
    ],
)  # fmt: skip
def test_a_phone_s_own_settings_are_checked_by_name(entry, is_good):
    faults = settings.setting_faults(entry)
    assert (not faults) is is_good
    if faults:
        assert faults[0].field == f"settings.{next(iter(entry))}"


def test_what_nobody_set_has_a_usable_default():
    config = with_settings()
    assert (config.ntp_server, config.codecs, config.vlan_id, config.lldp) == (
        "pool.ntp.org",
        render.DEFAULT_CODECS,
        None,
        True,
    )
    assert (config.label, config.zone.name) == ("805ec0aabb01", "America/Chicago")
    assert (config.lines[0].label, config.lines[0].auth_user) == ("101", "101")
    assert config.emergency_numbers == ("911", "933")


def test_what_is_set_reaches_the_template():
    config = with_settings(
        outbound_proxy="sbc.example.net:5080", expires_s=120, vlan_id=7, dial_9911=True, codecs=["opus"]
    )
    assert (config.lines[0].outbound_proxy_host, config.lines[0].outbound_proxy_port) == ("sbc.example.net", 5080)
    assert (config.lines[0].expires_s, config.vlan_id, config.codecs) == (120, 7, ("opus",))
    assert config.emergency_numbers == ("911", "933", "9911")


def test_the_location_s_time_zone_wins_over_the_account_s():
    record = PhoneRecord(*_values(RECORD, timezone="America/Phoenix"))
    assert settings.phone_config(record, PROFILE, "http://h/p/t/").zone.name == "America/Phoenix"


def test_a_phone_reached_directly_takes_a_notify_from_anywhere():
    """Decision 20: the rendered configuration allows exactly the source that will send."""
    direct = LineRecord(*_values(LINE, resync_via="direct"))
    record = PhoneRecord(*_values(RECORD, lines=(direct,)))
    assert not settings.phone_config(record, PROFILE, "http://h/p/t/").resync_from_proxy


def test_masking_hides_every_secret_and_nothing_else():
    hidden = settings.masked(RECORD)
    assert "s3cret" not in str([line.secret for line in hidden.lines])
    assert hidden.account.admin_password == settings.MASK
    assert hidden.lines[0].sip_user == "101"
    assert "s3cret" not in repr(RECORD)
    assert "Adm1n" not in repr(RECORD)


# Such a device has no plan: it sends what was typed, or dials nothing at all.
DIALS_WHOLE = {"gigaset", "algo", "linphone", "none"}


@pytest.mark.parametrize("vendor", sorted(vendors.known().profiles))
@pytest.mark.parametrize("country", ["US", "GB", "AU", "NZ", "FR", "DE", "IT", "ES", "PL"])
def test_a_phone_dials_the_emergency_numbers_of_its_own_locations_country(vendor, country):
    """E-01: a phone in the London office of an American account completes 999 at once; every dial plan is proven."""
    profile = vendors.known().profiles[vendor]
    model = next(iter(profile.models))
    record = PhoneRecord(*_values(RECORD, country=country, vendor=vendor, model=model))
    config = settings.phone_config(record, profile, "http://h/p/t/")
    assert config.emergency_numbers == (*sorted(numbers_of(country).emergency), *sorted(numbers_of(country).test))
    assert config.is_nanp is (country == "US")
    rules = [rule for rule in profile.files if rule.kind in {"settings", "device"} and rule.template is not None]
    assert rules
    rendered = b"".join(RENDERER.render(profile, rule, config) for rule in rules)
    if profile.dial_plan not in DIALS_WHOLE:
        assert all(number.encode() in rendered for number in config.emergency_numbers)
