"""Masking, and differences of files."""

import time
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.provisioning import preview, settings, vendors
from engine.provisioning.preview import DiffState, compare, likeness, masked_config
from engine.provisioning.render import PhoneConfig, Renderer, served_names
from engine.provisioning.settings import AccountRecord, LineRecord, PhoneRecord
from engine.provisioning.vendors import Mac

TOKEN = "T0ken-" + "x" * 37
URL = f"https://phones.example.com/p/{TOKEN}/"
SECRETS = ("line-s3cret-one", "line-s3cret-two", "adm1n-Passw0rd", TOKEN)


def record(vendor: str = "yealink", model: str = "T46U", mac: str = "805ec0123456", label: str = "Desk") -> PhoneRecord:
    lines = tuple(
        LineRecord(key, f"10{key}", f"User {key}", f"10{key}", "", secret, "pbx.example.com", 5060, "udp", "pbx")
        for key, secret in ((1, SECRETS[0]), (2, SECRETS[1]))
    )
    account = AccountRecord("account_1", "America/New_York", "US", SECRETS[2])
    return PhoneRecord(account, "phone_1", mac, vendor, model, label, "", {}, lines)


def config_of(one: PhoneRecord) -> PhoneConfig:
    return settings.phone_config(one, vendors.known().profiles[one.vendor], URL)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(vendors.known())


@pytest.mark.parametrize("vendor", sorted(vendors.known().profiles))
def test_no_secret_is_in_any_masked_file_of_any_family(vendor, renderer):
    """P-15: secrets and the token are replaced before a template runs, for every family's every file."""
    profile = vendors.known().profiles[vendor]
    model = next(model for model in profile.models.values() if model.template)
    config = config_of(record(vendor, model.name))
    seen = 0
    for name in served_names(profile, Mac(config.mac), model.name):
        rule = profile.file_rule(name)
        if rule is None or rule.template is None or "mac" not in rule.pattern.groupindex:
            continue
        text = renderer.render(profile, rule, masked_config(config)).decode()
        plain = renderer.render(profile, rule, config).decode()
        seen += any(secret in plain for secret in SECRETS)
        assert [secret for secret in SECRETS if secret in text] == []
    assert seen, "no file of this family holds a secret, so nothing was proven"


def test_every_text_kept_out_of_the_repr_is_masked_and_an_empty_one_stays_empty():
    """A secret added to `PhoneConfig` later is masked as soon as it says `repr=False`."""
    secret = [one.name for one in fields(PhoneConfig) if one.type is str and not one.repr]
    config = config_of(record())
    config = replace(config, **{name: getattr(config, name) or f"{URL}{name}.bin" for name in secret})
    masked = masked_config(config)
    assert TOKEN not in "".join(getattr(masked, name) for name in secret)
    for one in fields(PhoneConfig):
        if one.type is str and not one.repr:
            assert getattr(masked, one.name) != getattr(config, one.name), one.name
    assert all(line.secret == settings.MASK for line in masked.lines)
    assert masked_config(replace(config, admin_password="")).admin_password == ""
    assert masked.mac == config.mac
    assert masked.label == config.label


def test_what_was_never_fetched_is_no_difference():
    found = compare(None, "a\n")
    assert (found.state, found.summary, found.lines, found.unified("a.cfg")) == (
        DiffState.NEVER_FETCHED, "never fetched", (), "",
    )  # fmt: skip
    assert compare("a\n", "a\n").summary == "unchanged"


def test_a_change_is_counted_and_shown_with_its_neighbours():
    """P-15: how many lines came and went, three lines of context, numbers of both versions."""
    before = "\n".join(f"line {number}" for number in range(1, 21)) + "\n"
    after = before.replace("line 10\n", "line ten\nline ten and a half\nmore\n")
    found = compare(before, after)
    assert found.summary == "+3 −1"  # noqa: RUF001
    assert [(line.kind, line.before, line.after) for line in found.lines] == [
        ("@", None, None), (" ", 7, 7), (" ", 8, 8), (" ", 9, 9), ("-", 10, None), ("+", None, 10), ("+", None, 11),
        ("+", None, 12), (" ", 11, 13), (" ", 12, 14), (" ", 13, 15),
    ]  # fmt: skip
    text = found.unified("a.cfg")
    assert text.startswith("--- fetched/a.cfg\n+++ now/a.cfg\n@@ -7,7 +7,9 @@\n line 7\n")


def test_a_change_of_line_ends_alone_is_a_change():
    found = compare("a\r\nb\r\n", "a\nb\n")
    assert found.state is DiffState.CHANGED
    assert (found.added, found.removed) == (2, 2)


def test_two_changes_far_apart_are_two_hunks_and_close_ones_are_one():
    lines = [str(number) for number in range(40)]
    far = compare("\n".join(lines), "\n".join(["x" if one in {"3", "30"} else one for one in lines]))
    near = compare("\n".join(lines), "\n".join(["x" if one in {"3", "8"} else one for one in lines]))
    assert far.unified("f").count("\n@@ ") == 2
    assert near.unified("f").count("\n@@ ") == 1


def applied(before: str, found: preview.Difference) -> list[str]:
    """The lines that come out when the difference is applied to `before`."""
    old = before.splitlines()
    out: list[str] = []
    at = 0
    for line in found.lines:
        if line.kind == "@":
            continue
        if line.before is not None:
            out += old[at : line.before - 1]
            at = line.before
        elif line.after is not None:
            while len(out) < line.after - 1:
                out.append(old[at])
                at += 1
        if line.kind != "-":
            out.append(line.text)
    return out + old[at:]


@given(
    st.lists(st.sampled_from(["a", "b", "c", "", "d = 1"]), max_size=40),
    st.lists(st.sampled_from(["a", "b", "c", "", "e"]), max_size=40),
)
def test_a_difference_leads_from_the_one_to_the_other(before, after):
    """Whatever two texts are compared: applied to the first, it gives the second, and the counts are those of it."""
    old, new = "\n".join(before), "\n".join(after)
    found = compare(old, new)
    if found.state is DiffState.CHANGED and old.splitlines() != new.splitlines():
        assert applied(old, found) == new.splitlines()
        assert found.added == sum(line.kind == "+" for line in found.lines)
        assert found.removed == sum(line.kind == "-" for line in found.lines)


@given(
    st.lists(st.integers(0, 90).map(str), min_size=65, max_size=140),
    st.lists(st.integers(0, 90).map(str), min_size=65, max_size=140),
)
def test_a_difference_of_long_texts_leads_from_the_one_to_the_other(before, after):
    """P-15: where lines that stand once hold the texts against one another."""
    found = compare("\n".join(before), "\n".join(after))
    assert applied("\n".join(before), found) == after


def test_what_holds_still_between_many_changes_is_found():
    """P-15: two hundred keys of four lines, of which each has another number and the first is new."""
    keys = [f"<key>\n<name>{number}</name>\n<to>{{}}{number}</to>\n</key>" for number in range(200)]
    before = "\n".join(keys).replace("{}", "1")
    after = "<key>\n<name>new</name>\n</key>\n" + "\n".join(keys).replace("{}", "2")
    found = compare(before, after)
    assert (found.added, found.removed) == (203, 200)


def test_texts_in_which_one_line_stands_between_all_others_are_compared_soon():
    """P-15: they took the cube of their length, minutes of the process that serves the pages."""
    before = "\n".join(f"x\nu{number}" for number in range(1900))
    started = time.process_time()
    found = compare(f"A\n{before}\nB", f"C\n{before.replace('u', 'v')}\nD")
    assert time.process_time() - started < 2.0
    assert (found.state, found.added) == (DiffState.CHANGED, 3802)


def test_phones_on_which_the_same_lines_change_are_alike_whatever_is_their_own(renderer):
    """P-15: the MAC, the label and the line in a changed line do not make it another change."""
    found = []
    for mac, label, ntp in (
        ("805ec0123456", "Desk", "a.example"),
        ("805ec0999999", "Reception", "a.example"),
        ("805ec0123456", "Desk", "b.example"),
    ):
        config = config_of(record(mac=mac, label=label))
        before = f"ntp = x\nname = {label} {mac}\nmac = {mac.upper()}\n"
        after = f"ntp = {ntp}\nname = the {label} {mac}\nmac = is {mac.upper()}\n"
        found.append(likeness(config, [("device", compare(before, after))]))
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize(
    ("own", "removed"),
    [
        ('{% include "base.cfg.j2" %}\nx = 1\n', 0),
        ("{%- extends 'shipped/base.cfg.j2' -%}\n{% block time %}x = 1{% endblock %}\n", 0),
        ('{% include "other.cfg.j2" %}\nx = 1\n', 3),
        ("a = 1\nx = 1\n", 2),
    ],
)
def test_a_text_that_builds_on_the_shipped_one_differs_by_what_it_adds(own: str, removed: int) -> None:
    """P-17: nobody is shown a hundred lines as gone that phones go on being given."""
    shipped = "a = 1\nb = 2\nc = 3\n"
    there = preview.compare_templates("base.cfg.j2", shipped, None, own)
    back = preview.compare_templates("base.cfg.j2", shipped, own, None)
    assert (there.removed, back.added) == (removed, removed)
    assert there.added >= 1
    assert preview.compare_templates("base.cfg.j2", shipped, None, None).state is DiffState.UNCHANGED
    assert preview.compare_templates("base.cfg.j2", shipped, own, own).state is DiffState.UNCHANGED
