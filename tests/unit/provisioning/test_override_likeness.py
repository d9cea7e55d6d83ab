"""P-17: the short way of comparing an account's own file with the shipped one says nothing the long way would not."""

import random
import re
from functools import cache

import pytest

from engine.errors import UnsafeValue
from engine.provisioning import override_likeness, overrides, render, vendors
from engine.provisioning.render import PhoneConfig
from engine.provisioning.vendors import FileRule, Profile

PROFILES = vendors.known().profiles
RENDERER = render.Renderer(vendors.known())
EVIL = (
    "<!--", "-->", "<!-- ours -->", "<!-- a -- b -->", "<![CDATA[", "]]>", "<?x y?>", "<!DOCTYPE a>", "<x>", "</x>",
    "<x/>", '<x xmlns="u"><y/></x>', '<x xmlns="u"/>', "<N>evil</N>", "<V>evil</V>",
    "<P><N>DigitMap</N><V>(xx.)</V></P>",
    "<O><N>VoiceService.1.Phone.</N><P><N>DigitMap</N><V>(xx.)</V></P></O>", "<P71>555</P71>", "<P4200>{x+}</P4200>",
    '<item name="dialplan.digitmap">xx</item>', '<entry name="reg_proxy" overwrite="true">sip:evil</entry>',
    '<section name="sip"><entry name="default_proxy">1</entry></section>', "ours", "&amp;", "&nosuch;", "<x>&#0;</x>",
    "<Dial_Plan_1_>(xx.)</Dial_Plan_1_>", "<dial_plan>x</dial_plan>", '<user_dp_str idx="1">x</user_dp_str>',
    "features.hotline_number = 555", "dialplan.digitmap.enable = 1", " dialplan.digitmap.string = xx", "x = 1", "x: 1",
    "DIALPLAN=xx", 'SET DIALPLAN "xx"', "set dialplan xx", "GET slow.txt", "GOTO a", "# a", "## a",
    "IF $MODEL4 SEQ J179 GOTO a",
    'DIAL_PLAN_1="xx"', ' DIAL_PLAN_1="xx"', "sip dial plan: xx", "Sip Dial Plan: xx", "voip/dialing/dial_plan=xx", "",
    "\ufeff", "é = 1", "x\rdialplan.digitmap.enable = 1", "<é/>", '<x a="1" a="2"/>', "<x a='>'/>",
    "<a><b><c/></b></a>",
)  # fmt: skip


@cache
def samples(vendor: str) -> tuple[tuple[FileRule, PhoneConfig, str], ...]:
    """Files of the family that hold a dial plan, as the shipped templates make them."""
    profile, found = PROFILES[vendor], []
    for model in overrides.sample_models(profile):
        config = overrides.sample_config(profile, model)
        found += [
            (rule, config, RENDERER.render(profile, rule, config).decode().replace("\r\n", "\n"))
            for rule in overrides.own_rules(profile)
            if rule.kind in render.HOLDS_A_PLAN  # those that the short way is for
        ]
    return tuple(found)


def changed(lines: list[str], chance: random.Random) -> list[str]:
    """One to four changes: a line added, taken out, replaced, doubled, moved, or changed within."""
    lines = list(lines)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(lines))
        match chance.randrange(8):
            case 0 | 1:
                lines.insert(at, chance.choice(EVIL))
            case 2:
                del lines[at]
            case 3:
                lines[at] = chance.choice(EVIL)
            case 4:
                lines.insert(at, chance.choice(lines))
            case 5:
                lines[at] = re.sub(r"(\w)(\W*)\Z", chance.choice((r"\g<1>x\2", r"\2")), lines[at])
            case 6:
                lines[at] = chance.choice((str.upper, str.lower, str.strip, "<!-- {} -->".format))(lines[at])
            case 7:
                lines[at] = re.sub(r"\d|[a-z]", lambda _: chance.choice("01abc"), lines[at], count=1)
    return lines


def is_nothing_by_the_long_way(profile: Profile, rule: FileRule, config: PhoneConfig, own: str, shipped: str) -> bool:
    try:
        return not render.compared(profile, rule.kind, config, own, shipped)
    except UnsafeValue:
        return False


@pytest.mark.parametrize("vendor", PROFILES)
def test_what_the_short_way_passes_over_the_long_way_finds_nothing_in(vendor):
    """P-08, P-17: over random changes of every family's files, harmless and nasty ones."""
    profile, chance, short = PROFILES[vendor], random.Random(vendor), 0
    files = samples(vendor)
    for turn in range(600):
        rule, config, shipped = files[turn % len(files)]
        own = "\n".join(changed(shipped.split("\n"), chance))
        found = override_likeness.plain_differences(profile, own, shipped)
        if found is None or not RENDERER._is_as_shipped(profile, config, shipped, found):  # as it is asked
            continue
        short += 1
        assert is_nothing_by_the_long_way(profile, rule, config, own, shipped), own
    assert short > 10 or len(files[0][2]) < 400


@pytest.mark.parametrize("vendor", PROFILES)
def test_an_element_between_two_lines_is_one_wherever_the_short_way_allows_it(vendor):
    """What a line is taken to stand between, it stands between for a parser too: no shipped file breaks a tag, a
    comment or a text over lines in a way that looks like the end of an element.
    """
    profile = PROFILES[vendor]
    if profile.escape != "xml":
        return
    for rule, config, shipped in samples(vendor):
        lines = shipped.split("\n")
        allowed = 0
        for at in range(len(lines) + 1):
            own = "\n".join([*lines[:at], "<ours_alone>1</ours_alone>", *lines[at:]])
            if override_likeness.plain_differences(profile, own, shipped) is not None:
                allowed += 1
                assert is_nothing_by_the_long_way(profile, rule, config, own, shipped), lines[at - 1 : at + 1]
        assert allowed > 0


PLAIN = {
    "yealink": "phone_setting.backlight_time = 60",
    "mitel": "backlight mode: 1",
    "cisco_spa": "<Backlight_Timer>60</Backlight_Timer>",
    "grandstream": "<P8339>1</P8339>",
    "fanvil": "<BacklightTime>60</BacklightTime>",
    "htek": '<P9999 para="Backlight">60</P9999>',
}


@pytest.mark.parametrize("vendor", PLAIN)
def test_a_plain_setting_of_an_account_s_own_takes_the_short_way(vendor):
    """P-17: what most own templates add is worth no second reading of the whole file."""
    profile = PROFILES[vendor]
    for _, _, shipped in samples(vendor):
        lines = shipped.split("\n")
        middle = len(lines) // 2
        places = (at for at in range(middle, len(lines)) if lines[at].strip() and not lines[at].startswith("</"))
        ways = [
            override_likeness.plain_differences(profile, "\n".join([*lines[:at], PLAIN[vendor], *lines[at:]]), shipped)
            for at in places
        ]
        assert any(found for found in ways)


def test_a_setting_that_the_proof_is_about_takes_the_long_way():
    profile = PROFILES["yealink"]
    _, _, shipped = samples("yealink")[0]
    for line in ("account.1.enable = 0", "features.hotline_number = 5", "dialplan.dialnow.rule.9 = xx"):
        assert override_likeness.plain_differences(profile, f"{shipped}{line}\n", shipped) is None
    moved = "\n".join(reversed(shipped.split("\n")))
    assert override_likeness.plain_differences(profile, moved, shipped) is None
    many = "\n".join(f"x{at} = 1" for at in range(override_likeness.MOST_LINES + 1))
    assert override_likeness.plain_differences(profile, f"{shipped}{many}\n", shipped) is None
    assert override_likeness.plain_differences(profile, shipped, shipped) == []
