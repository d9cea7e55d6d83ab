"""P-17, P-08: what an account's own template may not do to an emergency call, one trick a family and a case."""

import re
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from engine.errors import UnsafeValue
from engine.provisioning import dialplan, overrides, render, vendors
from engine.provisioning.dialplan import Completion, UnsafeDialPlan
from engine.provisioning.settings import AccountRecord

PROFILES = vendors.known().profiles
RENDERER = render.Renderer(vendors.known())
ACCOUNT = AccountRecord("account_1", "America/Chicago", "US", "Adm1n")
NUMBERS = ("911", "933")

# family, model, a setting of its plan as it stands in its file, and the same with a plan that holds 911 up
TWICE = {
    "cisco_spa": ("SPA504G", r"<Dial_Plan_1_ [^>]*>[^<]*</Dial_Plan_1_>|<Dial_Plan_1_>[^<]*</Dial_Plan_1_>", "(xx.)"),
    "cisco_mpp": ("8841", r"<Dial_Plan_1_[^>]*>[^<]*</Dial_Plan_1_>", "(xx.)"),
    "snom": ("D735", r'<user_dp_str idx="1"[^>]*>[^<]*</user_dp_str>', "|^(9911)$|sip:\\1@\\d|d"),
    "grandstream": ("GXP2170", r"<P290>[^<]*</P290>", "{ x+ }"),
    "fanvil": ("X4U", r"<Number>911</Number>", "9xxxxxx"),
    "obihai": ("OBi302", r"<N>DigitMap</N>\s*<V>[^<]*</V>", "(xx.)"),
}


def model_of(vendor: str, wanted: str) -> str:
    """That model, or another of the family."""
    profile = PROFILES[vendor]
    return wanted if wanted in profile.models else next(overrides.sample_models(profile))


def shipped_file(vendor: str, model: str) -> str:
    profile = PROFILES[vendor]
    rule = next(rule for rule in profile.files if rule.template == "model")
    return RENDERER.render(profile, rule, overrides.sample_config(profile, model)).decode()


@pytest.mark.parametrize("vendor", TWICE)
@pytest.mark.parametrize("order", ["slow, good", "good, slow", "good, slow, good"])
def test_of_a_setting_that_stands_twice_every_value_is_judged(vendor, order):
    """P-08: phones differ in which of two they keep, and a reader that keeps the last one would not see the first."""
    model, pattern, slow = TWICE[vendor]
    text = shipped_file(vendor, model_of(vendor, model))
    found = re.search(pattern, text)
    assert found is not None, text
    good = found[0]
    marks = {"&": "&amp;", "<": "&lt;"}
    bad = re.sub(r">([^<]*)<(?=/[^<]*\Z)", lambda _: f">{''.join(marks.get(c, c) for c in slow)}<", good)
    assert bad != good
    both = "".join({"good": good, "slow": bad}[one] for one in order.split(", "))
    render.refuse_slow_emergency(PROFILES[vendor], text.replace(good, good + good, 1), NUMBERS, (1, 2))
    with pytest.raises(UnsafeDialPlan):
        render.refuse_slow_emergency(PROFILES[vendor], text.replace(good, both, 1), NUMBERS, (1, 2))


def faults(vendor: str, template: str, body: str) -> str:
    """What is told of that text; nothing when it may be published."""
    return " ".join(overrides.examine(RENDERER, PROFILES[vendor], {template: body}, template, (), ACCOUNT).faults)


def shipped(vendor: str, template: str) -> str:
    return PROFILES[vendor].templates[template]


FIRST_FILES = {
    "avaya, a dial plan": ("avaya", "upgrade.txt.j2", "SET DIALPLAN xxxxxxx\nGET $MACADDR.cfg\n"),
    "avaya, another file": ("avaya", "upgrade.txt.j2", "GET slow.txt\nGET $MACADDR.cfg\n"),
    "avaya, the phone's own file left out": ("avaya", "upgrade.txt.j2", "SET LANGUAGE English\n"),
    "panasonic, a dial plan": (
        "panasonic",
        "product.cfg.j2",
        '{% include "product.cfg.j2" %}\nDIAL_PLAN_1="xxxxxxx"\n',
    ),
    "panasonic, another file": (
        "panasonic",
        "product.cfg.j2",
        'CFG_STANDARD_FILE_PATH="{{ config.provisioning_url }}slow.cfg"\n',
    ),
    "poly, a dial plan": ("poly", "master.cfg.j2", ("<APPLICATION ", '<APPLICATION dialplan.digitmap="xx.T" ')),
    "poly, another file": ("poly", "master.cfg.j2", ('CONFIG_FILES="', 'CONFIG_FILES="slow.cfg,')),
    "poly, another file for a model": (
        "poly",
        "master.cfg.j2",
        ("<APPLICATION ", '<APPLICATION CONFIG_FILES_VVX450="slow.cfg" '),
    ),
    "yealink, another file": ("yealink", "boot.j2", '{% include "boot.j2" %}\ninclude:config <slow.cfg>\n'),
    "yealink, a dial plan": ("yealink", "boot.j2", '{% include "boot.j2" %}\ndialplan.digitmap.enable = 1\n'),
}


@pytest.mark.parametrize("case", FIRST_FILES.values(), ids=FIRST_FILES)
def test_the_first_file_a_phone_reads_says_nothing_of_dialling_and_names_no_other_files(case):
    """P-08, P-17: what follows from it would never be proven."""
    vendor, template, body = case
    text = body if isinstance(body, str) else shipped(vendor, template).replace(*body)
    assert text != shipped(vendor, template)
    assert "911" in faults(vendor, template, text) or "which files follow" in faults(vendor, template, text)


UNREAD = {
    "yealink, a rule for one line": (
        "yealink",
        "dialing.cfg.j2",
        ("line_id.{{ loop.index }} =", "line_id.{{ loop.index }} = 2"),
    ),
    "yealink, a hotline": ("yealink", "base.cfg.j2", "features.hotline_number = 555\nfeatures.hotline_delay = 0"),
    "yealink, rules from elsewhere": ("yealink", "base.cfg.j2", "dialplan_dialnow.url = http://x.example/dialnow.xml"),
    "yealink, a file from elsewhere": ("yealink", "base.cfg.j2", "include:config <slow.cfg>"),
    "yealink, a setting for one model": ("yealink", "base.cfg.j2", "[T46U]dialplan.digitmap.enable = 1"),
    "poly, not for dialled digits": ("poly", "base.cfg.j2", ('applyToUserDial="1"', 'applyToUserDial="0"')),
    "poly, not for dialled digits, left out": ("poly", "base.cfg.j2", ('dialplan.applyToUserDial="1"', "")),
    "poly, a call when it is lifted": (
        "poly",
        "base.cfg.j2",
        ("<dialplan ", '<call call.autoOffHook.1.enabled="1" call.autoOffHook.1.contact="555"/><dialplan '),
    ),
    "poly, another server": ("poly", "base.cfg.j2", ('emergency.1.server.1="1"', 'emergency.1.server.1="2"')),
    "poly, another sort of map": ("poly", "base.cfg.j2", ("<dialplan ", '<dialplan dialplan.digitmap.mode="regex" ')),
    "avaya, enhanced dialling": ("avaya", "base.cfg.j2", 'SET ENHDIALSTAT "1"'),
    "avaya, another way to dial": ("avaya", "base.cfg.j2", "SET DIALING_MODE_DEFAULT 1"),
    "avaya, another file": ("avaya", "base.cfg.j2", "GET slow.txt"),
    "grandstream, a call when it is lifted": (
        "grandstream",
        "base.xml.j2",
        ("</config>", "<P71>555</P71></config>"),
    ),
    "mitel, a key that ends a number": ("mitel", "dialing.cfg.j2", "sip dial plan terminator: 1"),
    "mitel, a call when it is lifted": ("mitel", "base.cfg.j2", 'sip autodial number: "555"'),
    "mitel, a plan of one line": ("mitel", "base.cfg.j2", 'sip line1 dial plan: "X+#"'),
    "panasonic, other emergency numbers": ("panasonic", "base.cfg.j2", 'EMERGENCY_CALL1="112"'),
    "audiocodes, a call when it is lifted": ("audiocodes", "base.cfg.j2", "voip/dialing/auto_dialing/enabled=1"),
    "snom, a plan of no line": (
        "snom",
        "base.xml.j2",
        ("</phone-settings>", "<user_dp_str>x</user_dp_str></phone-settings>"),
    ),
    "fanvil, other emergency numbers": ("fanvil", "base.xml.j2", ("<EmergencyCall>", "<EmergencyCall>5")),
    "cisco_spa, other emergency numbers": (
        "cisco_spa",
        "base.xml.j2",
        ("<Emergency_Number{{ n }}>", "<Emergency_Number{{ n }}>5"),
    ),
    "cisco_mpp, other emergency numbers": (
        "cisco_mpp",
        "base.xml.j2",
        ("<Emergency_Number{{ n }}>", "<Emergency_Number{{ n }}>5"),
    ),
    "snom, a plan of what may not be dialled": (
        "snom",
        "base.xml.j2",
        ("</phone-settings>", "<call_restrict_dial_plan>9</call_restrict_dial_plan></phone-settings>"),
    ),
    "snom, numbers that are guessed": (
        "snom",
        "base.xml.j2",
        ("</phone-settings>", "<guess_number>on</guess_number></phone-settings>"),
    ),
    "snom, a lock from a server": (
        "snom",
        "base.xml.j2",
        ("</phone-settings>", "<server_enforced_kb_lock>on</server_enforced_kb_lock></phone-settings>"),
    ),
    "poly, no calls without a registration": (
        "poly",
        "base.cfg.j2",
        ("<dialplan ", '<call call.enableOnNotRegistered="0"/><dialplan '),
    ),
    "htek, a delay": ("htek", "base.xml.j2", ('"DialNow-TimeOut">0<', '"DialNow-TimeOut">9<')),
}


SWITCHES = {
    "yealink, plug and play": ("yealink", "base.cfg.j2", "static.auto_provision.pnp_enable = 1"),
    "yealink, in capitals": ("yealink", "base.cfg.j2", "STATIC.AUTO_PROVISION.PNP_ENABLE = 1"),
    "yealink, a DHCP option": ("yealink", "base.cfg.j2", "static.auto_provision.dhcp_option.enable = 1"),
    "poly, a DHCP option": ("poly", "base.cfg.j2", ("<dialplan ", '<d device.dhcp.bootSrvUseOpt="2"/><dialplan ')),
    "cisco_mpp, a DHCP option": (
        "cisco_mpp",
        "base.xml.j2",
        ("</flat-profile>", "<DHCP_Option_To_Use>66</DHCP_Option_To_Use></flat-profile>"),
    ),
    "grandstream, a DHCP option": ("grandstream", "base.xml.j2", ("</config>", "<P145>1</P145></config>")),
    "panasonic, plug and play": ("panasonic", "base.cfg.j2", 'SIPPNP_PROV_ENABLE="Y"'),
}


@pytest.mark.parametrize("case", SWITCHES.values(), ids=SWITCHES)
def test_a_switch_that_lets_another_server_in_stays_as_shipped(case):
    """P-17: another server is refused by whatever road it comes."""
    vendor, template, change = case
    text = shipped(vendor, template)
    text = f"{text}\n{change}\n" if isinstance(change, str) else text.replace(*change)
    assert text != shipped(vendor, template)
    assert "shipped" in faults(vendor, template, text)


HOLES = {
    "snom, a dial plan that rewrites": (
        "snom",
        "base.xml.j2",
        (
            "</settings>",
            '<dialplan><template match="911" timeout="15" user="phone" rewrite="5551212"/></dialplan></settings>',
        ),
    ),
    "snom, numbers that are replaced": (
        "snom",
        "base.xml.j2",
        ("</settings>", '<ReplacementPlan><entry><r x="911"/></entry></ReplacementPlan></settings>'),
    ),
    "snom, further files": (
        "snom",
        "base.xml.j2",
        ("</settings>", '<setting-files><file url="http://x.example/a.xml"/></setting-files></settings>'),
    ),
    "cisco_mpp, its line key off": (
        "cisco_mpp",
        "base.xml.j2",
        ("<Extension_{{ line.key }}_>{{ line.number }}<", "<Extension_{{ line.key }}_>Disabled<"),
    ),
    "cisco_spa, its line key off": (
        "cisco_spa",
        "base.xml.j2",
        ("<Extension_{{ line.key }}_>{{ line.number }}<", "<Extension_{{ line.key }}_>Disabled<"),
    ),
    "yealink, capitals": ("yealink", "base.cfg.j2", "DIALPLAN.BLOCK_OUT.NUMBER.1 = 911"),
}


@pytest.mark.parametrize("case", HOLES.values(), ids=HOLES)
def test_what_stands_in_parts_of_a_file_that_no_proof_reads_is_refused(case):
    """P-08, P-17: elements that rewrite a number or name further files, the only line key, a name in other letters."""
    vendor, template, change = case
    text = shipped(vendor, template)
    text = f"{text}\n{change}\n" if isinstance(change, str) else text.replace(*change)
    assert text != shipped(vendor, template)
    told = faults(vendor, template, text)
    assert "nothing here proves" in told or "dials nothing" in told or "in another spelling" in told


def test_a_second_server_of_grandstream_is_told():
    """P-17: `P2312` is a registrar as well."""
    text = shipped("grandstream", "base.xml.j2").replace("</config>", "<P2312>x.example</P2312></config>")
    profile = PROFILES["grandstream"]
    told = overrides.examine(RENDERER, profile, {"base.xml.j2": text}, "base.xml.j2", (), ACCOUNT)
    assert told.faults == ()
    assert any("P2312" in one for one in told.warnings)


@pytest.mark.parametrize("case", UNREAD.values(), ids=UNREAD)
def test_a_setting_that_decides_about_calls_and_that_no_grammar_reads_stays_as_shipped(case):
    """P-08, P-17: a hotline, a rule for one line, another server for emergency calls."""
    vendor, template, change = case
    text = shipped(vendor, template)
    text = f"{text}\n{change}\n" if isinstance(change, str) else text.replace(*change)
    assert text != shipped(vendor, template)
    told = faults(vendor, template, text)
    assert "decides what becomes of a call" in told or "Nobody could dial 911" in told


CODES = {
    "cisco_spa, a code that is 911": ("cisco_spa", "SPA504G", "<Call_Return_Code>911</Call_Return_Code>", "911"),
    "cisco_spa, one that is the test number": ("cisco_spa", "SPA504G", "<DND_Act_Code>933</DND_Act_Code>", "933"),
    "cisco_spa, one that 911 begins with": (
        "cisco_spa",
        "SPA504G",
        "<Attn-Xfer_Act_Code>91</Attn-Xfer_Act_Code>",
        "91",
    ),
    "cisco_spa, one digit": ("cisco_spa", "SPA504G", "<Call_Park_Code>9</Call_Park_Code>", "9"),
    "cisco_spa, one that begins with 911": ("cisco_spa", "SPA504G", "<Paging_Code>9112</Paging_Code>", "9112"),
    "cisco_spa, among others": (
        "cisco_spa",
        "SPA504G",
        "<Feature_Dial_Services_Codes>*72`p`|911|*74</Feature_Dial_Services_Codes>",
        "911",
    ),
    "cisco_spa, a pattern": ("cisco_spa", "SPA504G", "<Cfwd_All_Deact_Code>9xx</Cfwd_All_Deact_Code>", "9xx"),
    "cisco_spa, a code of speech": ("cisco_spa", "SPA504G", "<Force_G722.2_Code>911</Force_G722.2_Code>", "911"),
    "cisco_spa, in small letters": ("cisco_spa", "SPA504G", "<call_return_code>911</call_return_code>", "call_return"),
    "cisco_spa, of an adapter": ("cisco_spa", "SPA112", "<Call_Return_Code>911</Call_Return_Code>", "911"),
    "cisco_mpp, a code that is 911": (
        "cisco_mpp",
        "8841",
        "<Secure_All_Call_Act_Code>911</Secure_All_Call_Act_Code>",
        "911",
    ),
    "obihai, a star code without a star": (
        "obihai",
        "OBi302",
        "<O><N>VoiceService.1.X_StarCode.1.</N><P><N>Code1</N><V>911, Redial, call($Ldn)</V></P></O>",
        "911",
    ),
    "obihai, one of more digits": (
        "obihai",
        "OBi302",
        "<O><N>VoiceService.1.X_StarCode.2.</N><P><N>Code33</N><V>9(x|xx), Speed Dial, call($Spd[$Code])</V></P></O>",
        "9(x|xx)",
    ),
}
ENDS = {"cisco_spa": "</flat-profile>", "cisco_mpp": "</flat-profile>", "obihai": "</ParameterList>"}
STARRED = {
    "cisco_spa": "<Call_Return_Code>*69</Call_Return_Code><PIN_Code>911</PIN_Code>"
    "<Feature_Dial_Services_Codes>*72`p`|*74</Feature_Dial_Services_Codes><Call_Park_Code/>"
    "<Service_Annc_Extension_Codes>CWT:00;FAX:01</Service_Annc_Extension_Codes><Paging_Code>511</Paging_Code>",
    "cisco_mpp": "<Secure_All_Call_Act_Code>*16</Secure_All_Call_Act_Code>",
    "obihai": "<O><N>VoiceService.1.X_StarCode.1.</N><P><N>Code1</N><V>*07, Redial, call($Ldn)</V></P></O>",
}


def with_code(vendor: str, element: str) -> tuple[str, str]:
    """The template of the family's telephones that sets that code, and its text."""
    template = "adapter.xml.j2" if vendor == "obihai" else "base.xml.j2"
    text = shipped(vendor, template)
    assert text.count(ENDS[vendor]) == 1
    return template, text.replace(ENDS[vendor], f"{element}\n{ENDS[vendor]}")


@pytest.mark.parametrize("case", CODES.values(), ids=CODES)
def test_a_code_of_the_phone_s_own_that_takes_911_from_the_caller_is_refused(case):
    """P-08, P-17: the phone puts every code into its dial plan; the refusal names number, setting and fix."""
    vendor, model, element, rule = case
    template, text = with_code(vendor, element)
    told = faults(vendor, template, text)
    assert "The file is not served" in told
    assert rule in told
    if "another spelling" not in told:
        assert re.search(r"9(?:11|33) .* begins with \*", told)
    profile = PROFILES[vendor]
    file = shipped_file(vendor, model_of(vendor, model)).replace(ENDS[vendor], f"{element}{ENDS[vendor]}")
    decided = dialplan.verdicts(profile.dial_plan, dict(render.dial_settings(profile, file)), rule[:3])
    if rule in {"911", "933"}:
        assert Completion.NEVER in {one.completion for one in decided.values()}


@pytest.mark.parametrize("vendor", STARRED)
def test_codes_that_begin_with_a_star_and_such_as_begin_no_emergency_number_are_served(vendor):
    """P-08: every Cisco phone has fifty of them."""
    template, text = with_code(vendor, STARRED[vendor])
    assert faults(vendor, template, text) == ""


LOCKS = {
    "avaya": ("base.cfg.j2", 'SET ENABLE_PHONE_LOCK "1"', 'SET ENABLE_PHONE_LOCK "0"'),
    "audiocodes": ("base.cfg.j2", "system/lock/enabled=1", "system/lock/enabled=0"),
}


@pytest.mark.parametrize("vendor", LOCKS)
def test_a_lock_of_a_family_without_numbers_that_pass_it_is_told_and_no_lock_is_not(vendor):
    """P-17: nothing in such a file says that a locked phone dials 911."""
    template, locked, unlocked = LOCKS[vendor]
    for line, is_told in ((locked, True), (unlocked, False)):
        body = f"{shipped(vendor, template)}\n{line}\n"
        found = overrides.examine(RENDERER, PROFILES[vendor], {template: body}, template, (), ACCOUNT)
        assert found.faults == ()
        assert any("whether the phone can be locked" in one for one in found.warnings) is is_told


def test_a_lock_whose_emergency_numbers_the_shipped_file_names_needs_no_warning():
    """P-08: a locked phone of these families dials 911, the test number and nothing else."""
    for vendor, model in (
        ("yealink", "T46U"),
        ("snom", "D735"),
        ("mitel", "6940"),
        ("fanvil", "X4U"),
        ("htek", "UC926"),
    ):
        text = shipped_file(vendor, model_of(vendor, model))
        name = {
            "yealink": "phone_setting.emergency.number",
            "snom": "keyboard_lock_emergency",
            "mitel": "emergency dial plan",
            "fanvil": "EmergencyCall",
            "htek": "PhoneLock.Emergency",
        }[vendor]
        line = next(line for line in text.splitlines() if name in line)
        assert "911" in line
        assert "933" in line
        assert PROFILES[vendor].names[name].is_pinned


HIDDEN = {
    "poly, in CDATA": (
        "poly",
        "base.cfg.j2",
        (
            "<dialplan dialplan.digitmap=",
            '<a><![CDATA[<!--]]></a><x dialplan.digitmap="xx.T"/><a><![CDATA[-->]]></a><dialplan dialplan.digitmap=',
        ),
    ),
    "poly, in a text": (
        "poly",
        "base.cfg.j2",
        ("<dialplan dialplan.digitmap=", '<a> dialplan.digitmap="911|933"</a><dialplan dialplan.digitmaps='),
    ),
    "htek, in a comment and in CDATA": (
        "htek",
        "base.xml.j2",
        ('.DialPlan">{{ dialled }}', '.DialPlan"><![CDATA[{ xxxxxxx }]]>{{ dialled }}'),
    ),
    "sangoma, in a comment": (
        "sangoma",
        "base.cfg.j2",
        ('dial_plan="{{ plan }}"', 'note="&#60;a dial_plan=911" dial_plan="xxxxxxx"'),
    ),
    "grandstream, with an index": ("grandstream", "base.xml.j2", ("</config>", '<P290 idx="1">{ x+ }</P290></config>')),
    "grandstream, in small letters": ("grandstream", "base.xml.j2", ("</config>", "<p290>{ x+ }</p290></config>")),
    "cisco_spa, with an index": (
        "cisco_spa",
        "base.xml.j2",
        ("</flat-profile>", '<Dial_Plan_1_ idx="2">(xx.)</Dial_Plan_1_></flat-profile>'),
    ),
    "mitel, in capitals": ("mitel", "dialing.cfg.j2", 'SIP DIAL PLAN: "X+#"'),
    "mitel, with a blank": ("mitel", "dialing.cfg.j2", 'sip dial plan : "X+#"'),
    "mitel, with two blanks": ("mitel", "dialing.cfg.j2", 'sip dial  plan: "X+#"'),
    "panasonic, with a blank": ("panasonic", "base.cfg.j2", ' DIAL_PLAN_1="xxxxxxx"'),
    "avaya, with two blanks": ("avaya", "base.cfg.j2", "SET  DIALPLAN xxxxxxx"),
    "yealink, in capitals": ("yealink", "dialing.cfg.j2", "DIALPLAN.dialnow.rule.1 = xxxxxxx"),
}


@pytest.mark.parametrize("case", HIDDEN.values(), ids=HIDDEN)
def test_a_plan_that_the_proof_would_not_see_is_refused(case):
    """P-08, P-17: a comment that is none, another spelling, a second place."""
    vendor, template, change = case
    text = shipped(vendor, template)
    text = f"{text}\n{change}\n" if isinstance(change, str) else text.replace(*change)
    assert text != shipped(vendor, template)
    assert "The file is not served" in faults(vendor, template, text)


@pytest.mark.parametrize("mark", [r"\r", r"\f", r"\v", r"\x85", r"\u2028", r"\ufeff", r"\xa0", r"\x1b", r"\u200b"])
@pytest.mark.parametrize(
    ("vendor", "template"), [("yealink", "base.cfg.j2"), ("avaya", "base.cfg.j2"), ("mitel", "base.cfg.j2")]
)
def test_a_line_that_begins_with_what_a_phone_may_leave_out_is_refused(vendor, template, mark):
    """P-17: what one phone reads as a line of its own, another and the proof do not."""
    text = (
        shipped(vendor, template) + f'# note{{{{ "{mark}" }}}}x = 1\n{{{{ "{mark}" }}}}dialplan.digitmap.enable = 1\n'
    )
    told = faults(vendor, template, text)
    assert "which some phones read as the end" in told or "phones differ in what they read" in told


FREE = {
    "snom, nothing guessed and a lock": (
        "snom",
        "base.xml.j2",
        (
            "</phone-settings>",
            "<guess_number>off</guess_number><enable_keyboard_lock>on</enable_keyboard_lock></phone-settings>",
        ),
    ),
    "poly, calls without a registration": (
        "poly",
        "base.cfg.j2",
        ("<dialplan ", '<call call.enableOnNotRegistered="1"/><dialplan '),
    ),
    "poly, software of its own": (
        "poly",
        "master.cfg.j2",
        (
            'APP_FILE_PATH="{{ config.firmware_url }}"',
            'APP_FILE_PATH="http://x.example/sip.ld" APP_FILE_PATH_VVX450="a.ld"',
        ),
    ),
    "avaya, a language": ("avaya", "upgrade.txt.j2", "SET LANGUAGES Mlf_J100_German.xml"),
    "yealink, a ring tone": ("yealink", "base.cfg.j2", "phone_setting.ring_type = Ring2.wav"),
    "yealink, a rule more": (
        "yealink",
        "dialing.cfg.j2",
        "dialplan.dialnow.rule.20 = 2xx\ndialplan.dialnow.line_id.20 =",
    ),
    "yealink, no hotline": ("yealink", "base.cfg.j2", "features.hotline_number ="),
    "mitel, a name with a no-break space": ("mitel", "base.cfg.j2", 'options password: "22{{ "\\xa0" }}222"'),
    "grandstream, a wallpaper": (
        "grandstream",
        "grp.xml.j2",
        ("</config>", '<item name="lcd.wallpaper.source">Color</item></config>'),
    ),
}


@pytest.mark.parametrize("case", FREE.values(), ids=FREE)
def test_what_decides_nothing_about_calls_may_be_written_by_anybody(case):
    """P-17: overrides are for this."""
    vendor, template, change = case
    text = shipped(vendor, template)
    text = f"{text}\n{change}\n" if isinstance(change, str) else text.replace(*change)
    assert text != shipped(vendor, template)
    assert faults(vendor, template, text) == ""


def test_what_is_told_for_one_phone_alone_is_found_when_that_phone_asks():
    """P-17: a text that is good for the samples and slow for one phone is refused to that one."""
    profile = PROFILES["yealink"]
    body = shipped("yealink", "boot.j2") + "{% if config.label == 'Lobby' %}\ninclude:config <slow.cfg>\n{% endif %}\n"
    assert faults("yealink", "boot.j2", body) == ""
    rule = next(rule for rule in profile.files if rule.template == "boot.j2")
    config = overrides.sample_config(profile, "T46U")
    assert RENDERER.render(profile, rule, config, {"boot.j2": body})
    with pytest.raises(UnsafeDialPlan, match=r"include:config <slow\.cfg>"):
        RENDERER.render(profile, rule, replace(config, label="Lobby"), {"boot.j2": body})


LONG = {
    "yealink, one long name": ("yealink", "base.cfg.j2", "{{ ' ' * 200000 }}"),
    "yealink, hotlines": ("yealink", "base.cfg.j2", "{{ 'hotline' * 30000 }} = {{ '0' * 1000 }}x"),
    "yealink, many lines": (
        "yealink",
        "base.cfg.j2",
        "{% for a in range(2000) %}features.hotline_x = {{ a }}\n{% endfor %}",
    ),
    "mitel, one long name": ("mitel", "base.cfg.j2", "a{{ ' ' * 200000 }}"),
    "avaya, one long name": ("avaya", "base.cfg.j2", "SET{{ ' ' * 200000 }}"),
    "poly, many attributes": (
        "poly",
        "base.cfg.j2",
        ("<dialplan ", "{% for a in range(1500) %}<a call.autoOffHook.{{ a }}.enabled='1'/>{% endfor %}<dialplan "),
    ),
    "snom, deep elements": (
        "snom",
        "base.xml.j2",
        ("</phone-settings>", "{{ '' }}" + "<a>" * 900 + "</a>" * 900 + "</phone-settings>"),
    ),
}


@pytest.mark.parametrize("case", LONG.values(), ids=LONG)
def test_a_long_file_is_proven_or_refused_soon(case):
    """P-17: the proof itself cannot be made to work for long."""
    vendor, template, change = case
    profile, text = PROFILES[vendor], shipped(vendor, template)
    text = f"{text}\n{change}\n" if isinstance(change, str) else text.replace(*change)
    rule = next(rule for rule in profile.files if rule.template == "model")
    started = time.process_time()
    with suppress(UnsafeValue):
        RENDERER.render(
            profile, rule, overrides.sample_config(profile, next(overrides.sample_models(profile))), {template: text}
        )
    assert time.process_time() - started < 1.0
