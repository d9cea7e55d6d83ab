"""The dial plan read back out of a rendered file, in each vendor's own syntax."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.provisioning import dialplan
from engine.provisioning.dialplan import settings_in

FILES = {
    "yealink": (
        (
            "#!version:1.0.0.1\ndialplan.dialnow.rule.1 = 911\naccount.2.dialplan.digitmap.enable = 1\n"
            "phone_setting.dialnow_delay = 0\naccount.1.label = dialplan.dialnow.rule.1\n"
        ),
        {
            "dialplan.dialnow.rule.1": "911",
            "account.2.dialplan.digitmap.enable": "1",
            "phone_setting.dialnow_delay": "0",
        },
    ),
    "poly": (
        '<a><!-- dialplan.digitmap="xx.T" --><b dialplan.digitmap="911|933" dialplan.2.impossibleMatchHandling="2"/>',
        {"dialplan.digitmap": "911|933", "dialplan.2.impossibleMatchHandling": "2"},
    ),
    "grandstream": (
        (
            '<gs_provision><config version="1"><P290>{ 911 | x+ }</P290><P66/></config>'
            '<item name="account.1.call"><part name="dialplan">{911|&lt;=9&gt;x}</part><part name="earlyDial"/></item>'
            "</gs_provision>"
        ),
        {
            "P290": "{ 911 | x+ }",
            "P66": "",
            "account.1.call.dialplan": "{911|<=9>x}",
            "account.1.call.earlyDial": "",
        },
    ),
    "htek": (
        '<hl_provision><config><P4200 para="Account1.DialPlan">{911}</P4200></config></hl_provision>',
        {"P4200": "{911}"},
    ),
    "cisco_spa": (
        (
            '<flat-profile><Dial_Plan_1_ ua="na">(911S0|&lt;:1&gt;xx.)</Dial_Plan_1_><Dial_Plan_2_/>'
            "<Interdigit_Short_Timer>3</Interdigit_Short_Timer></flat-profile>"
        ),
        {"Dial_Plan_1_": "(911S0|<:1>xx.)", "Dial_Plan_2_": "", "Interdigit_Short_Timer": "3"},
    ),
    "cisco_mpp": ("<device><Dial_Plan_1_>(911S0)</Dial_Plan_1_></device>", {"Dial_Plan_1_": "(911S0)"}),
    "obihai": (
        (
            "<ParameterList><O><N>VoiceService.1.Phone.DigitMap</N><V>(911S0)</V></O>"
            "<O><N>X_Other</N><V>(1)</V></O></ParameterList>"
        ),
        {"VoiceService.1.Phone.DigitMap": "(911S0)"},
    ),
    "snom": (
        (
            '<settings><phone-settings><user_dp_str idx="2" perm="">|^(911)$|sip:\\1@\\d|d</user_dp_str>'
            '<overlap_dialing perm="">off</overlap_dialing></phone-settings></settings>'
        ),
        {"user_dp_str.2": "|^(911)$|sip:\\1@\\d|d", "overlap_dialing": "off"},
    ),
    "fanvil": (
        (
            "<sysConf><call><basic><DialbyTimeout>1</DialbyTimeout></basic></call>"
            '<dialplan index="1"><Number>911</Number>'
            "<MatchToSend>1</MatchToSend><Alias></Alias><Suffix/></dialplan></sysConf>"
        ),
        {
            "dialplan.1.Number": "911",
            "dialplan.1.MatchToSend": "1",
            "dialplan.1.Alias": "",
            "dialplan.1.Suffix": "",
            "DialbyTimeout": "1",
        },
    ),
    "aastra": (
        'sip dial plan: "911|X+#" # the digit map\r\nsip digit timeout: 3\r\n#sip dial plan: "0"\r\n',
        {"sip dial plan": "911|X+#", "sip digit timeout": "3"},
    ),
    "panasonic": (
        '# Panasonic SIP Phone Standard Format File #\nDIAL_PLAN_1="X11"\nDIAL_PLAN_NOT_MATCH_ENABLE_1="N"\n',
        {"DIAL_PLAN_1": "X11", "DIAL_PLAN_NOT_MATCH_ENABLE_1": "N"},
    ),
    "digium": ('<config><accounts><account dial_plan="911|xxxT3"/></accounts></config>', {"dial_plan": "911|xxxT3"}),
    "avaya": (
        'SET DIALPLAN "911|933"\nSET INTER_DIGIT_TIMEOUT 5\n',
        {"DIALPLAN": "911|933", "INTER_DIGIT_TIMEOUT": "5"},
    ),
    "vtech": (
        "sip_account.1.dial_plan = x+P\nsip_account.1.inter_digit_timeout = 3\n",
        {"sip_account.1.dial_plan": "x+P", "sip_account.1.inter_digit_timeout": "3"},
    ),
    "audiocodes": ("voip/signalling/sip/digit_map=911|933\n", {"voip/signalling/sip/digit_map": "911|933"}),
    "cisco_enterprise": (
        '<D><TEMPLATE MATCH="911" Timeout="0"/><template match="*" timeout="5" Rewrite="9%0"/></D>',
        {
            "TEMPLATE.1.MATCH": "911",
            "TEMPLATE.1.TIMEOUT": "0",
            "TEMPLATE.2.MATCH": "*",
            "TEMPLATE.2.TIMEOUT": "5",
            "TEMPLATE.2.REWRITE": "9%0",
        },
    ),
    "linphone": (
        '<config><section name="proxy_0"><entry name="dial_prefix">1</entry></section></config>',
        {"dial_prefix": "1"},
    ),
    "zoiper": ("<options><use_overlap_dialing>true</use_overlap_dialing></options>", {"use_overlap_dialing": "true"}),
    "acrobits": (
        (
            '<account><rewriting><rule><conditions><condition type="equals" param="933"/></conditions>'
            '<actions><action type="overrideDialAction" param="gsmCall"/></actions></rule></rewriting></account>'
        ),
        {"rewriting.1.condition.1": "equals 933", "rewriting.1.action.1": "overrideDialAction gsmCall"},
    ),
    "gigaset": ("<provisioning/>", {}),
    "algo": ("sip.u1 = 100\n", {}),
    "none": ("", {}),
}


@pytest.mark.parametrize("grammar", FILES)
def test_the_settings_of_the_plan_come_back_as_they_were_written(grammar):
    """P-08: what is proven is what the file says."""
    text, expected = FILES[grammar]
    assert dict(settings_in(grammar, text)) == expected


def test_every_grammar_has_a_file_here():
    assert set(FILES) == set(dialplan.GRAMMARS)


def test_a_device_file_of_cisco_s_enterprise_phones_names_the_file_that_is_proven():
    found = settings_in("cisco_enterprise", "<device><dialTemplate>dialplan.xml</dialTemplate></device>")
    assert dialplan.faults("cisco_enterprise", found, ("911",)) == ()
    nameless = settings_in("cisco_enterprise", "<device><dialTemplate></dialTemplate></device>")
    assert dialplan.faults("cisco_enterprise", nameless, ("911",))


def test_a_setting_written_twice_is_given_twice():
    assert settings_in("vtech", "sip_account.1.dial_plan = 911\nsip_account.1.dial_plan = x+P\n") == (
        ("sip_account.1.dial_plan", "911"),
        ("sip_account.1.dial_plan", "x+P"),
    )


def test_a_plan_inside_a_comment_that_never_ends_is_none():
    assert settings_in("poly", '<a><!-- <b dialplan.digitmap="911"/></a>') == ()


@pytest.mark.parametrize("grammar", FILES)
@given(st.text(alphabet="<>/=\"' \n\tabP290TEMPLATEMATCHdialplanindexitempart!-[]CDATA", max_size=300))
def test_any_text_can_be_read(grammar, text):
    for name, value in settings_in(grammar, text):
        assert isinstance(name, str)
        assert isinstance(value, str)


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        ("poly", "<!--" * 20_000),
        ("grandstream", '<item name="a">' * 10_000),
        ("fanvil", '<dialplan index="1">' * 10_000),
        ("acrobits", "<rewriting>" + "<rule>" * 20_000),
        ("cisco_enterprise", '<TEMPLATE MATCH="' * 5_000),
        ("yealink", "dialplan.dialnow.rule.1 =" + " " * 100_000 + "x"),
    ],
)
def test_a_file_full_of_openings_is_read_in_one_pass(grammar, text):
    """P-08: a file of 200 kB that closes nothing costs milliseconds, not minutes: it would hold up every phone."""
    assert all(name for name, _ in settings_in(grammar, text))
