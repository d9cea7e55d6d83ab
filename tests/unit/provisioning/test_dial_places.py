"""The dial plan's settings, read out of a finished file by its tags: always what a parser reads."""

import random
from html import escape

import pytest

from engine.provisioning import dial_places, formats, vendors
from engine.provisioning.dial_places import dialed_in
from engine.provisioning.vendors import Profile
from tests.golden.samples import rendered

NAMED = [profile for profile in vendors.known().profiles.values() if profile.dial_names is not None]
FILES = {
    profile.name: [data.decode() for path, data in rendered().items() if path.parent.name == profile.name]
    for profile in NAMED
}
# What somebody may have put into a template by mistake: each where a parser reads something else than the eye.
ODD = (
    "<!-- x -->", "<!-- <Dial_Plan_1_>(911)</Dial_Plan_1_> -->", "<![CDATA[ <x>&amp; ]]>", "&amp;", "&#x39;11",
    "&apos;", "&", "&nbsp;", "<", ">", "<x>", "</x>", "<x/>", '<x a="y>z">1</x>', "<?y z?>", "\r", "\x00",
    "\ue0003\ue001", "\ue000", "<auto_dial/>", '<user_dp_str idx="1"/>', "<Dial_Plan_1_>(x.)</Dial_Plan_1_>",
    "<P290>{ x+ }</P290>", "<DialbyTimeout/>", '<item name="account.1.call.dialplan">{ 911 }</item>',
    "<O><N>VoiceService.1.Phone.</N><P><N>DigitMap</N><V/></P></O>", ' idx="2"', "911", "\n",
    '<dialplan index="9"><Number>9</Number></dialplan>', 'perm="R"',
)  # fmt: skip


def parsed(profile: Profile, text: str) -> tuple[tuple[str, str], ...]:
    assert profile.dial_names is not None
    return tuple(one for one in formats.pairs(text.encode()) if profile.dial_names.fullmatch(one[0]))


def read(profile: Profile, text: str) -> tuple[tuple[str, str], ...]:
    assert profile.dial_names is not None
    return dialed_in(profile.dial_names, text)


@pytest.mark.parametrize("profile", NAMED, ids=lambda profile: profile.name)
def test_every_shipped_file_is_read_as_a_parser_reads_it(profile: Profile) -> None:
    """P-08: each golden file, twice: the second time its tags are known."""
    told = [read(profile, text) for text in FILES[profile.name]]
    assert told == [read(profile, text) for text in FILES[profile.name]]
    assert told == [parsed(profile, text) for text in FILES[profile.name]]
    assert any(told)


@pytest.mark.parametrize("profile", NAMED, ids=lambda profile: profile.name)
def test_a_file_of_the_same_tags_is_read_with_its_own_values(profile: Profile) -> None:
    """P-08: nothing of one phone's plan is taken for another's; what a template escapes is read back."""
    text = next(text for text in FILES[profile.name] if parsed(profile, text))
    for plan in ("(911|933)", "(xx.)", "<&>\"'", "", " 911 ", "a;b&amp;c"):
        name, value = next(one for one in parsed(profile, text) if one[1])
        shown = text.replace(f">{escape(value)}<", f">{escape(plan).replace('&quot;', '&#34;')}<")
        if value and shown != text:
            assert read(profile, shown) == parsed(profile, shown), name
    before = dial_places._places.cache_info().misses
    assert read(profile, text.replace("Desk", "Hall")) == parsed(profile, text)
    assert dial_places._places.cache_info().misses == before, "its tags were known"


@pytest.mark.parametrize("profile", NAMED, ids=lambda profile: profile.name)
def test_a_file_with_anything_odd_in_it_is_read_as_a_parser_reads_it(profile: Profile) -> None:
    """P-08: comments, CDATA, broken elements and settings that stand twice, anywhere in a file."""
    chance = random.Random(profile.name)
    for text in FILES[profile.name][:3]:
        ends = [at + 1 for at, letter in enumerate(text) if letter in "<>"]
        for odd in ODD * 12:
            at = chance.choice(ends) if chance.random() < 0.7 else chance.randrange(len(text))
            changed = text[:at] + odd + text[at + chance.choice((0, 0, 1, 5)) :]
            assert read(profile, changed) == parsed(profile, changed), (odd, text[at - 40 : at + 40])


def test_a_value_that_breaks_the_comment_around_it_leaves_no_dial_plan() -> None:
    """P-08: of a template whose author has commented an element out. The phone reads nothing of such a file."""
    profile = NAMED[0]
    text = next(text for text in FILES[profile.name] if parsed(profile, text))
    root = text.rindex("</")
    for value in ("Desk", "Hall-2", "Desk -- Hall", "Desk"):
        shown = f"{text[:root]}<!-- <label>{value}</label>\n-->{text[root:]}"
        assert read(profile, shown) == parsed(profile, shown), value
        assert bool(parsed(profile, shown)) == ("--" not in value)
