"""Carrier profiles: the shipped ones, and what a file may say."""

import re
from dataclasses import fields

import pytest

from engine.e911.carriers import FOLDERS, CarrierProfile, Form, Order, load_profiles
from tests.conftest import ROOT

SHIPPED = load_profiles()
FOLDER = ROOT / "templates" / "carriers"


def test_the_shipped_generic_profile_is_the_built_in_one():
    """E-07: a lost templates folder changes nothing for generic trunks."""
    assert SHIPPED.faults == ()
    assert SHIPPED.of("generic") == CarrierProfile()
    assert SHIPPED.of("no such carrier") == CarrierProfile()
    assert FOLDER in FOLDERS


def test_the_generic_profile_names_every_key():
    """E-07: it is the reference people copy from."""
    text = (FOLDER / "generic.toml").read_text()
    for field in fields(CarrierProfile):
        assert re.search(rf"^{field.name.rstrip('_')} = ", text, re.MULTILINE), field.name


def test_every_carrier_of_the_field_has_a_profile_with_a_label_and_its_source():
    """E-07: Bandwidth, Telnyx, Twilio and the others; each says where its rules come from."""
    assert set(SHIPPED.by_name) == {
        "generic", "bandwidth", "telnyx", "twilio", "intelepeer", "voip_innovations", "chime", "flowroute",
        "skyswitch", "teams", "nena_i3",
    }  # fmt: skip
    for name, profile in SHIPPED.by_name.items():
        text = (FOLDER / f"{name}.toml").read_text()
        assert name == "generic" or "# Source: " in text, name
        assert profile.label != name
        assert name == "generic" or profile.unknown_location
    assert SHIPPED.choices()[0] == ("generic", "Generic carrier (RFC 6442)")


def test_no_code_knows_a_carrier_by_its_name():
    """E-07: a profile is data: adding a carrier is adding a file."""
    names = "|".join(name for name in SHIPPED.by_name if name not in {"generic", "teams"})
    named = rf"""["']({names})["']"""
    wrong = re.compile(
        rf"(==|!=|\bin|\bcase|\.startswith\() *[({{\[]?{named}|{named} *(==|!=|in\b)|profiles?\.of\({named}"
    )
    for folder in ("engine", "admin"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            assert not wrong.search(path.read_text()), path.name


GOOD = """
label = "A good one"
request_uri = "sip:{number}@sos.example"
from = "<sip:{callback}@{host}>"
priority = ""
remove = ["X-Odd"]
add = [["X-Call", "{call}"]]
takes = ["value"]
geolocation_order = "first"
final_statuses = [486]
civic_limits = { LOC = 60 }
numbers = { 112 = "911" }
"""


def test_a_profile_says_only_what_differs(tmp_path):
    """E-07: carriers as data."""
    (tmp_path / "good.toml").write_text(GOOD)
    profiles = load_profiles(tmp_path)
    assert profiles.faults == ()
    assert profiles.of("good") == CarrierProfile(
        "good",
        "A good one",
        request_uri="sip:{number}@sos.example",
        from_="<sip:{callback}@{host}>",
        priority="",
        remove=("X-Odd",),
        add=(("X-Call", "{call}"),),
        takes=frozenset({"value"}),
        geolocation_order=Order.FIRST,
        final_statuses=frozenset({486}),
        civic_limits=(("LOC", 60),),
        numbers=(("112", "911"),),
    )


@pytest.mark.parametrize(
    "text",
    [
        "= nonsense",
        'colour = "red"',
        'name = "other"',
        "priority = 3",
        'priority = "a\\nb"',
        "final_statuses = [200]",
        "final_statuses = [true]",
        "progress_s = 0",
        "progress_s = true",
        'progress_s = "6"',
        'final_statuses = "486"',
        'geolocation_order = "last"',
        'caller_location = "hide"',
        'takes = ["smoke"]',
        'takes = "value"',
        'remove = ["two words"]',
        'add = [["X-One"]]',
        'add = [["X One", "v"]]',
        'add = ["X-One", "v"]',
        'request_uri = "sip:{nummer}@{host}"',
        'request_uri = "sip:{number@{host}"',
        'p_asserted_identity_without_number = "<sip:{callback}@{host}>"',
        'geolocation = "<{id}>"',
        "civic_limits = { LOC = -1 }",
        "civic_limits = { SUITE = 60 }",
        'numbers = { 112 = "emergency" }',
        "numbers = { 112 = 911 }",
        'test_number = "nine"',
    ],
)
def test_a_bad_profile_is_reported_and_its_trunks_speak_the_generic_dialect(tmp_path, text):
    """E-07: no file stops a call."""
    (tmp_path / "bad.toml").write_text(text)
    profiles = load_profiles(tmp_path)
    assert profiles.of("bad") == CarrierProfile()
    (fault,) = profiles.faults
    assert fault.startswith("bad.toml: ")
    assert "generic dialect" in fault


def test_a_form_is_filled_in_one_go():
    form = Form("<sip:{callback}@{host}>;x=%20", host="h")
    assert form.fill({"callback": "{host}"}) == "<sip:{host}@h>;x=%20"  # a value is never read as a form
    assert Form("plain").fill({}) == "plain"
