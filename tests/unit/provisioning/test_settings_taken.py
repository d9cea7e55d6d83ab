"""P-07: a setting that is accepted changes what a phone is served, or it is told that the phone takes none."""

import dataclasses
import re
from pathlib import Path

import pytest

from engine.provisioning import phone_extras, render, vendors
from engine.provisioning.settings import CHECKS, DEFAULTS
from tests.golden.samples import config

KNOWN = vendors.known()
RENDERER = render.Renderer(KNOWN)
GUIDE = Path(__file__).parents[3] / "docs" / "phone-settings.md"
PLAIN = {
    "ntp_server": {"ntp_server": "time.example.net"},
    "resync_minutes": {"resync_minutes": 77},
    "codecs": {"codecs": ("g729", "pcma")},
    "vlan_id": {"vlan_id": 77},
    "vlan_priority": {"vlan_priority": 2},
    "lldp": {"lldp": True},
    "held_url": {"held_url": "https://lis.example.net/held"},
    "dial_9911": {"emergency_numbers": ("911", "933", "9911")},
    "phonebook": {"phonebook_url": "https://phones.example.net/book.xml"},
}
OF_LINES = {"expires_s": {"expires_s": 1234}, "outbound_proxy": {"outbound_proxy_host": "x.example.net"}}
# Function keys and files have a place of their own in a profile; the number of a softphone's project is in its QR code.
ELSEWHERE = {"function_keys", "logo", "firmware", "ringtone", "cloud_id"}
SENT_WHOLE = {"gigaset", "linphone"}  # what was typed is sent when the caller says so: 9911 needs no rule


def files(profile, rules, phone):
    """Every file that model is served."""
    return [RENDERER.drawn(profile, rule, phone) for rule in rules]


def without_effect(profile, model) -> set[str]:
    """The settings that change no file of that model."""
    rules = [rule for rule in profile.files if rule.template is not None]
    plain = dataclasses.replace(
        config(profile, model.name, 0), lldp=False, vlan_id=None, codecs=("pcmu", "g722"), held_url=""
    )
    tagged = dataclasses.replace(plain, vlan_id=77)
    before, before_tagged = files(profile, rules, plain), files(profile, rules, tagged)
    found = set()
    for name, changed in PLAIN.items():
        base, made = (tagged, before_tagged) if name == "vlan_priority" else (plain, before)
        if files(profile, rules, dataclasses.replace(base, **changed)) == made:
            found.add(name)
    for name, changed in OF_LINES.items():
        lines = tuple(dataclasses.replace(line, **changed) for line in plain.lines)
        if files(profile, rules, dataclasses.replace(plain, lines=lines)) == before:
            found.add(name)
    return found


@pytest.mark.parametrize("profile", KNOWN.profiles.values(), ids=lambda profile: profile.name)
def test_a_profile_names_exactly_the_settings_that_change_nothing_it_serves(profile):
    """P-07: of each model; a new family cannot leave one out without a word."""
    told, silent = {}, {}
    for model in profile.models.values():
        if model.template is not None:
            told[model.name] = set(model.ignores)
            silent[model.name] = without_effect(profile, model)
            if profile.name in SENT_WHOLE:
                silent[model.name].discard("dial_9911")
    assert told == silent


def test_every_setting_there_is_has_been_looked_at():
    assert set(CHECKS) == {*PLAIN, *OF_LINES, *ELSEWHERE}
    named = {name for profile in KNOWN.profiles.values() for model in profile.models.values() for name in model.ignores}
    assert named <= phone_extras.NOUNS.keys() <= phone_extras.EXTRAS


def test_what_a_model_cannot_take_is_told_with_its_field_and_what_asks_for_nothing_is_not():
    """P-07: codecs and a VLAN for a Gigaset; nothing of a default, of a value taken away and of no phonebook."""
    profile = KNOWN.profiles["gigaset"]
    model = next(one for one in profile.models.values() if one.template is not None)
    wished = {"codecs": ["pcmu"], "vlan_id": 20, "ntp_server": "time.example.net", "lldp": None, "held_url": ""}
    found = phone_extras.ignored_faults(profile, model, wished)
    assert [fault.field for fault in found] == ["settings.codecs", "settings.vlan_id"]
    assert all("takes no" in fault.detail and model.name in fault.detail for fault in found)
    bookless = KNOWN.profiles["audiocodes"]
    phone = next(iter(bookless.models.values()))
    assert phone_extras.ignored_faults(bookless, phone, {"phonebook": "off"}) == []
    assert len(phone_extras.ignored_faults(bookless, phone, {"phonebook": "account"})) == 1
    assert phone_extras.not_taken("audiocodes", phone.name, "phonebook")
    assert phone_extras.not_taken("audiocodes", phone.name, "codecs") is None
    assert DEFAULTS["phonebook"] == "account"


def test_the_guide_says_which_family_takes_which_setting_not():
    """P-07: docs/phone-settings.md holds what the profiles say."""
    rows = {
        cells[0].strip(" `"): set(re.findall(r"`(\w+)`", cells[1]))
        for line in GUIDE.read_text().splitlines()
        if line.startswith("| `") and len(cells := line.strip("|").split("|")) == 2
    }
    for profile in KNOWN.profiles.values():
        ignored = set().union(*(model.ignores for model in profile.models.values()))
        assert rows.get(profile.name, set()) == ignored, profile.name
