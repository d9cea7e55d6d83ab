"""P-10: settings merged from every level, each value with its source."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.provisioning import merge
from engine.provisioning.merge import DEFAULT, DEVICE, Level, Source, SourceKind
from engine.provisioning.settings import CHECKS, DEFAULTS, setting_faults

NAMES = ("ntp_server", "vlan_id", "lldp", "codecs")
VALUES = st.one_of(st.none(), st.integers(0, 3), st.booleans(), st.lists(st.sampled_from("abc"), max_size=2))
SETTINGS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4)
KINDS = (SourceKind.GLOBAL, SourceKind.ACCOUNT, SourceKind.LOCATION, SourceKind.MODEL)
LEVELS = st.lists(
    st.builds(lambda kind, said: Level(Source(kind, f"settings_{kind}"), said, kind), st.sampled_from(KINDS), SETTINGS),
    max_size=4,
    unique_by=lambda level: level.source.kind,
)


def level(kind: SourceKind, **said: object) -> Level:
    return Level(Source(kind, f"settings_{kind}"), said, kind)


@given(SETTINGS, SETTINGS, SETTINGS)
def test_laying_levels_over_one_another_is_associative(a, b, c):
    assert merge.laid_over(merge.laid_over(a, b), c) == merge.laid_over(a, merge.laid_over(b, c))


@given(LEVELS, SETTINGS)
def test_two_neighbouring_levels_count_as_one_laid_over_the_other(levels, own):
    whole = merge.effective(levels, own)
    ordered = merge.ordered(levels)
    joined = {}
    for one in ordered:
        joined = merge.laid_over(joined, one.settings)
    assert merge.effective([Level(Source(SourceKind.ACCOUNT), joined)], own).values == whole.values


@given(LEVELS, SETTINGS, SETTINGS)
def test_a_source_always_names_a_level_that_holds_the_value(levels, own, defaults):
    held = {one.source: one.settings for one in levels} | {DEVICE: own, DEFAULT: defaults}
    found = merge.effective(levels, own, defaults=defaults)
    assert found.values.keys() == found.sources.keys()
    for name, value in found.values.items():
        assert held[found.sources[name]][name] == value


@given(LEVELS, SETTINGS, SETTINGS)
def test_the_most_specific_level_that_says_anything_of_a_name_decides(levels, own, defaults):
    found = merge.effective(levels, own, defaults=defaults)
    said_by = [*merge.ordered(levels), Level(DEVICE, own)]
    for name in NAMES:
        last = next((one for one in reversed(said_by) if name in one.settings), None)
        if last is not None and last.settings[name] is not None:
            assert found.sources[name] == last.source
        else:
            assert found.sources.get(name, DEFAULT) is DEFAULT
            assert (name in found.values) is (name in defaults)


@given(LEVELS, SETTINGS)
def test_the_order_in_which_levels_are_given_does_not_matter(levels, own):
    assert merge.effective(levels, own) == merge.effective(list(reversed(levels)), own)


def test_null_takes_an_inherited_value_away_and_a_later_level_may_name_it_anew():
    levels = [level(SourceKind.ACCOUNT, vlan_id=10, ntp_server="a"), level(SourceKind.LOCATION, vlan_id=None)]
    found = merge.effective(levels, {}, defaults={"vlan_id": None})
    assert (found.values["vlan_id"], found.sources["vlan_id"]) == (None, DEFAULT)
    assert found.removed["vlan_id"].kind is SourceKind.LOCATION
    found = merge.effective([*levels, level(SourceKind.MODEL, vlan_id=7)], {})
    assert (found.values["vlan_id"], found.sources["vlan_id"].kind, found.removed) == (7, SourceKind.MODEL, {})


def test_null_where_nothing_is_inherited_removes_nothing_and_is_no_value():
    found = merge.effective([level(SourceKind.ACCOUNT, ntp_server=None)], {"vlan_id": None})
    assert (found.values, found.sources, found.removed) == ({}, {}, {})


def test_a_list_is_replaced_whole_by_the_more_specific_level():
    levels = [level(SourceKind.ACCOUNT, codecs=["opus", "pcmu"]), level(SourceKind.MODEL, codecs=["pcma"])]
    assert merge.effective(levels, {}).values["codecs"] == ["pcma"]


def test_the_levels_of_a_phone_are_picked_by_name():
    every = [level(kind) for kind in KINDS[:2]]
    every += [Level(Source(SourceKind.LOCATION, "1"), {}, "location_here"), Level(Source(SourceKind.LOCATION), {}, "x")]
    every += [Level(Source(SourceKind.MODEL, "2"), {}, "yealink/T46U"), Level(Source(SourceKind.MODEL), {}, "poly/VVX")]
    names = merge.names_for("yealink", "T46U", "location_here")
    assert [one.name for one in merge.applying(every, names)] == ["global", "account", "location_here", "yealink/T46U"]
    assert merge.names_for("yealink", "T46U", None) == ("global", "account", "yealink/T46U")
    assert [merge.kind_of(name) for name in names] == list(KINDS)


def test_a_level_is_replaced_added_and_taken_away_for_a_preview():
    old, new = level(SourceKind.ACCOUNT, vlan_id=1), level(SourceKind.ACCOUNT, vlan_id=2)
    assert merge.with_changed([old], new, "account") == (new,)
    assert merge.with_changed([], new, "account") == (new,)
    assert merge.with_changed([old], None, "account") == ()


@pytest.mark.parametrize("name", CHECKS)
def test_every_setting_has_a_default_that_its_own_check_takes_and_null_is_good_anywhere(name):
    assert name in DEFAULTS
    assert not setting_faults({name: DEFAULTS[name]})
    assert not setting_faults({name: None})
