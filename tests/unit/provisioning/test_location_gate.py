"""P-22: what has no address to send with a 911 call is found and marked, and dials all the same."""

import difflib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.places import is_dispatchable
from engine.provisioning import location_gate, render, vendors
from engine.provisioning.location_gate import LOCATED, Attached, Networks, Unlocated, judge
from engine.provisioning.vendors import Support
from tests.factories import HEADQUARTERS
from tests.golden.samples import config

PROFILES = vendors.load().profiles
RENDERER = render.Renderer(vendors.load())
TOWN = {"country": "US", "A1": "NY", "A3": "Albany", "PC": "12203"}
# What the screen of each family shows of a line's label: the one setting that differs, line 1. None of the others has a
# text on its screen that is not the caller's name, which a dispatcher reads and which therefore stays as it is.
MARKS = {
    "yealink": "account.1.label = 911: no address - 101 Front & Back",
    "poly": 'reg.1.label="911: no address - 101 Front &amp; Back"',
    "grandstream": "911: no address - 101 Front &amp; Back",
    "snom": '<user_idle_text idx="1" perm="R">911: no address - 101 Front &amp; Back</user_idle_text>',
    "cisco_spa": "<Station_Name>911: no address - Lobby",
    "cisco_mpp": "<Short_Name_1_>911: no address - 101 Front &amp; Back</Short_Name_1_>",
    "fanvil": "<Title>911: no address - 101 Front &amp; Back</Title>",
    "mitel": "sip line1 screen name: ",
    "htek": "911: no address - 101 Front &amp; Back",
    "sangoma": 'line_label="911: no address - 101 Front &amp; Back"',
    "acrobits": "<title>911: no address - 101 Front &amp; Back</title>",
    "audiocodes": "voip/line/0/extension_display=911: no address - 101 Front & Back",
    "algo": "admin.devname = 911: no address - Lobby",
}


def first_tested(profile):
    """A phone of the family with a screen: the first tested model that has line keys."""
    return next(model for model in profile.models.values() if model.support is Support.TESTED)


def rendered(profile, phone):
    rule = next(rule for rule in profile.files if rule.template == "model")
    return RENDERER.render(profile, rule, phone).decode()


def all_lines(phone):
    return Unlocated(is_phone=True, keys=frozenset(line.key for line in phone.lines))


@pytest.mark.parametrize(
    ("civic_address", "geo", "expected"),
    [
        ({}, None, False),
        (None, None, False),
        (TOWN, None, False),
        (TOWN | {"ADDCODE": "1", "PLC": "office", "POBOX": "12"}, None, False),
        (TOWN | {"RD": ""}, None, False),
        (TOWN | {"RD": "Washington"}, None, True),
        (TOWN | {"LMK": "Empire State Plaza"}, None, True),
        (HEADQUARTERS, None, True),
        ({}, {"latitude": 42.6, "longitude": -73.7}, True),
    ],
)
def test_a_location_is_dispatchable_when_somebody_can_be_sent_there(civic_address, geo, expected):
    """P-22: 47 CFR § 9.3: a place within its town, or coordinates."""
    assert is_dispatchable(civic_address, geo) is expected


NOWHERE = (None,) * 10


@pytest.mark.parametrize("rung", range(5), ids=["phone", "network", "account", "line", "PBX"])
def test_any_rung_locates_a_line(rung):
    """P-22: the phone's own location, its network's, the account's default, the line's, its PBX's default."""
    places = list(NOWHERE)
    places[2 * rung] = HEADQUARTERS
    assert judge([(1, "", *places)]) == LOCATED
    places[2 * rung] = TOWN
    assert judge([(1, "", *places)]) == Unlocated(is_phone=True, keys=frozenset({1}))


def test_only_the_lines_without_an_address_are_marked():
    """P-22: a phone whose second line is located by its own location marks the first alone."""
    on_line = (None,) * 6 + (HEADQUARTERS, None, None, None)
    found = judge([(1, "", *NOWHERE), (2, "", *on_line)])
    assert found == Unlocated(is_phone=True, keys=frozenset({1}))
    phone = config(PROFILES["yealink"], "T46U", 2)
    labels = [line.label for line in location_gate.marked(phone, found, "US").lines]
    assert labels[0] == "911: no address - 101 Front & Back"
    assert labels[1:] == [line.label for line in phone.lines[1:]]


def test_a_phone_without_lines_has_an_address_of_its_own_or_none():
    assert judge([(None, "", *NOWHERE)]) == Unlocated(is_phone=True)
    assert judge([(None, "", HEADQUARTERS, *NOWHERE[1:])]) == LOCATED
    assert judge([]) == LOCATED


def test_the_policy_opens_the_gate():
    """P-22: `location_gate` off: nothing is marked."""
    policy = json.dumps({"location_gate": "off"})
    assert judge([(1, policy, *NOWHERE)]) == LOCATED
    assert judge([(1, json.dumps({"location_gate": "alarm"}), *NOWHERE)]).is_phone
    stored = [("phone_1", 1, "{}", *(json.dumps(HEADQUARTERS) if at == 4 else None for at in range(10)))]
    assert location_gate.judge_stored(stored, json.loads) == LOCATED


def test_the_mark_names_the_number_people_dial_there():
    assert location_gate.mark_of("US") == "911: no address"
    assert location_gate.mark_of("GB") == "999: no address"
    assert location_gate.mark_of("DE") == "112: no address"


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_the_marked_file_differs_in_labels_alone_and_still_dials_911(profile):
    """P-22: golden for each family: what the screen says, and that nothing else moved."""
    model = first_tested(profile)
    plain = config(profile, model.name, 0)
    marked = location_gate.marked(plain, all_lines(plain), "US")
    before, after = rendered(profile, plain), rendered(profile, marked)
    changed = [row for row in difflib.ndiff(before.splitlines(), after.splitlines()) if row[:2] in {"+ ", "- "}]
    if profile.name in MARKS:
        assert MARKS[profile.name] in after
    else:
        assert changed == [], "a family that shows the mark belongs into MARKS"
    assert all("no address" in row for row in changed if row.startswith("+ "))
    for line in plain.lines:
        assert after.count(line.sip_user) >= 1
    assert render.dial_settings(profile, before) == render.dial_settings(profile, after)
    render.refuse_slow_emergency(profile, after, ("911", "933"), tuple(line.number for line in marked.lines))


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_people_are_told_truly_whose_screens_say_nothing_of_a_missing_address(profile):
    """P-22: the profile says which models show no mark; their files are the same with it and without."""
    for model in profile.models.values():
        if model.template is None:
            continue
        plain = replace(config(profile, model.name, 0), label="Lobby")
        is_shown = rendered(profile, plain) != rendered(profile, location_gate.marked(plain, all_lines(plain), "US"))
        assert is_shown is profile.shows_mark(model.name), model.name


@given(
    st.sampled_from(sorted(PROFILES)),
    st.sets(st.integers(1, 3)),
    st.booleans(),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=30),
)
def test_whatever_the_location_state_911_and_933_leave_at_once(name, keys, is_phone, label):
    """P-22: the gate closes nothing."""
    profile = PROFILES[name]
    model = first_tested(profile)
    phone = replace(config(profile, model.name, 0), label=label)
    if profile.refused is not None and profile.refused.search(label):
        return
    marked = location_gate.marked(phone, Unlocated(is_phone, frozenset(keys)), "US")
    try:
        text = rendered(profile, marked)
    except render.UnsafeValue:
        with pytest.raises(render.UnsafeValue):
            rendered(profile, phone)  # the label alone was at fault, not the mark
        return
    render.refuse_slow_emergency(profile, text, ("911", "933"), tuple(line.number for line in marked.lines))


def test_the_callers_name_stays_as_it_is():
    """A dispatcher reads it: no word of ours in it."""
    phone = config(PROFILES["yealink"], "T46U", 2)
    marked = location_gate.marked(phone, all_lines(phone), "US")
    assert [line.display_name for line in marked.lines] == [line.display_name for line in phone.lines]
    assert location_gate.marked(phone, LOCATED, "US") is phone


def networks():
    found = Networks()
    found.add("subnet", "10.4.0.0/16", "site")
    found.add("subnet", "10.4.2.0/24", "floor")
    found.add("subnet", "2001:db8:4::/48", "v6")
    found.add("subnet", "10.9.0.0/24", "one")
    found.add("subnet", "10.9.0.0/24", "two")
    found.add("bssid", "001122334455", "wifi")
    found.add("switch", "sw1", "closet")
    found.add("switch_port", "sw1/7", "desk")
    found.add_confirmed("phone_h", "198.51.100.0/24", "home")
    found.add_confirmed("phone_h", "192.168.1.0/24", "anywhere")
    return found


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (Attached("p", last_ip="10.4.2.9"), "floor"),
        (Attached("p", last_ip="10.4.3.9"), "site"),
        (Attached("p", last_ip="::ffff:10.4.3.9"), "site"),
        (Attached("p", last_ip="2001:db8:4::1"), "v6"),
        (Attached("p", last_ip="10.4.2.9", ip="10.4.3.9"), "site"),  # what the network says comes before the fetch
        (Attached("p", last_ip="10.9.0.4"), None),  # two places claim it: which PBX will take the call is not known
        (Attached("p", last_ip="192.0.2.1"), None),
        (Attached("p", last_ip="nonsense"), None),
        (Attached("p"), None),
        (Attached("p", bssid="001122334455", last_ip="10.4.2.9"), "wifi"),
        (Attached("p", chassis="sw1", port="7", bssid="001122334455"), "desk"),
        (Attached("p", chassis="sw1", port="8"), "closet"),
        (Attached("phone_h", last_ip="198.51.100.7"), "home"),
        (Attached("phone_h", last_ip="192.168.1.7"), None),  # repeats behind every other router
        (Attached("p", last_ip="198.51.100.7"), None),
    ],
)
def test_the_network_says_where_a_phone_is(at, expected):
    """P-22: the nearest evidence, the narrowest network; what is ambiguous places nobody."""
    assert networks().locate(at) == expected
