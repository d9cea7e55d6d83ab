"""Every vendor's grammar: what its own manual says of its rules, and the plans its phones leave the factory with."""

import json

import pytest

from engine.provisioning.dialplan import GRAMMARS, Completion, Verdict, verdicts

IMMEDIATE, AFTER_TIMER, NEVER, REWRITTEN = Completion

SETTING = {
    "grandstream": "P290",
    "htek": "P4200",
    "cisco_spa": "Dial_Plan_1_",
    "cisco_mpp": "Dial_Plan_1_",
    "obihai": "VoiceService.1.Phone.DigitMap",
    "snom": "user_dp_str.1",
    "aastra": "sip dial plan",
    "panasonic": "DIAL_PLAN_1",
    "digium": "dial_plan",
    "avaya": "DIALPLAN",
    "vtech": "sip_account.1.dial_plan",
    "audiocodes": "voip/signalling/sip/digit_map",
    "poly": "dialplan.digitmap",
    "yealink": "dialplan.dialnow.rule.1",
    "fanvil": "dialplan.1.Number",
    "cisco_enterprise": "TEMPLATE.1.MATCH",
}
OBI_FACTORY = "([1-9]x?*(Mpli)|[1-9]S9|[1-9][0-9]S9|911|**0|***|#|**1(Msp1)|**2(Msp2)|**8(Mli)|**9(Mpp)|(Mpli))"


def judge(grammar: str, text: str, number: str, **more: str) -> Verdict:
    found = verdicts(grammar, {SETTING[grammar]: text, **more}, number)
    assert len(found) == 1
    return next(iter(found.values()))


@pytest.mark.parametrize(
    ("text", "number", "completion", "sent"),
    [
        ("(xx.)", "911", AFTER_TIMER, "911"),
        ("(*xx|[3469]11|0|00|[2-9]xxxxxx|1xxx[2-9]xxxxxxS0|xxxxxxxxxxxx.)", "911", AFTER_TIMER, "911"),
        ("(*xx|[3469]11|0|00|[2-9]xxxxxx|1xxx[2-9]xxxxxxS0|xxxxxxxxxxxx.)", "933", NEVER, None),
        ("(911S0|933S0|*xx|[2-9]xxxxxx|xxxxxxxxxxxx.)", "911", IMMEDIATE, "911"),
        ("(911S0|933S0|*xx|[2-9]xxxxxx|xxxxxxxxxxxx.)", "933", IMMEDIATE, "933"),
        ("( 0 | [49]11 | 1 [2-9]xx [2-9]xxxxxx )", "911", IMMEDIATE, "911"),  # no other sequence starts so
        ("( 0 | [49]11 | 1 [2-9]xx [2-9]xxxxxx )", "933", NEVER, None),
        ("([1-8]xx|9,xxxxxxx|9,<:1>[2-9]xxxxxxxxx|0|[49]11)", "911", AFTER_TIMER, "911"),  # the guide's own example
        ("(xxx!|911S0)", "911", NEVER, None),
        ("( 1 947 xxxxxxx ! | 1 xxx xxxxxxx )", "19475551212", NEVER, None),
        ("( 1 947 xxxxxxx ! | 1 xxx xxxxxxx )", "12125551212", IMMEDIATE, "12125551212"),
        ("(<8:1650>xxxxxxx)", "85551212", REWRITTEN, "16505551212"),
        ("(<:1>xxxxxxxxxx)", "9725550112", REWRITTEN, "19725550112"),
        ("(<9,:>911|9911S0)", "9911", REWRITTEN, "911"),
        ("(9S0|911S0)", "911", NEVER, "9"),
        ("(91S0|911S0)", "911", NEVER, "91"),
        ("(P0<:1000>|911S0)", "911", NEVER, None),  # a hot line
        ("(P5<:1000>|911S0)", "911", IMMEDIATE, "911"),  # a warm line waits for the first digit
        ("L:10,S:0,(911|xx.)", "911", NEVER, "9"),
        ("S:8,(911|9xxx)", "911", AFTER_TIMER, "911"),
        ("(911S3|933S0)", "911", AFTER_TIMER, "911"),
        ("([235-8*]xx)", "*11", IMMEDIATE, "*11"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("grammar", ["cisco_spa", "cisco_mpp"])
def test_cisco_sends_at_once_what_no_other_sequence_can_continue(grammar, text, number, completion, sent):
    """P-08: Cisco SPA and Multiplatform, Linksys, Sipura."""
    verdict = judge(grammar, text, number)
    assert (verdict.completion, verdict.sent) == (completion, sent)


def test_an_empty_cisco_plan_is_the_factory_s_and_a_short_timer_of_nothing_is_a_trap():
    assert judge("cisco_spa", "", "933").completion is NEVER
    assert judge("cisco_spa", "(911|xx.)", "911", Interdigit_Short_Timer="0").sent == "9"
    assert judge("cisco_spa", "(911|9xxx)", "911", Interdigit_Short_Timer="0").completion is IMMEDIATE


@pytest.mark.parametrize(
    ("text", "number", "completion"),
    [
        (OBI_FACTORY, "911", AFTER_TIMER),  # the map of the service can go on
        (OBI_FACTORY.replace("|911|", "|911S0|"), "911", IMMEDIATE),
        (OBI_FACTORY, "933", AFTER_TIMER),
        ("(1xxxxxxxxxxS0|xx.)", "911", AFTER_TIMER),
        ("(911S0|933S0|(Msp1)|(Mipd))", "933", IMMEDIATE),
        ("(911|(Msp1))", "911", IMMEDIATE),  # the map of the service, written below, never starts with 9
        ("(911|(Mnone))", "911", AFTER_TIMER),  # a map nobody wrote may match anything
        ("(!911|xx.)", "911", NEVER),
        ("(<:1234>|911S0)", "911", NEVER),  # a hot line
        ("([^*]@@.|911S0)", "911", IMMEDIATE),
        ("(9xx?S0)", "911", NEVER),  # 91 is enough
        ("(*74(x|xx)|911)", "911", IMMEDIATE),
        ("(<1408>xxx xxxx)", "5551212", REWRITTEN),
    ],
)
def test_obihai_waits_while_a_rule_may_go_on(text, number, completion):
    """P-08: OBi digit maps, which name each other."""
    verdict = judge("obihai", text, number, **{"UserDigitMap.2.Label": "sp1", "UserDigitMap.2.DigitMap": "(1xxx|2xx)"})
    assert verdict.completion is completion


def test_obihai_maps_that_name_each_other_without_end_are_named():
    settings = {SETTING["obihai"]: "(Ma)", "UserDigitMap.1.Label": "a", "UserDigitMap.1.DigitMap": "(9|(Ma))"}
    plan = GRAMMARS["obihai"](settings)[SETTING["obihai"]]
    assert any("name each other" in rule for rule in plan.broken)


def test_obihai_proves_every_port_and_every_service():
    settings = {
        "VoiceService.1.Phone.DigitMap": "(911S0|xx.)",
        "VoiceService.1.X_HS.3.DigitMap": "(xx.)",
        "VoiceService.1.VoiceProfile.1.DigitMap": "(911S0)",
        "VoiceService.1.X_AA.1.DigitMap": "(xx.)",  # the attendant dials nothing that somebody types
    }
    found = verdicts("obihai", settings, "911")
    assert [found[name].completion for name in list(settings)[:3]] == [IMMEDIATE, AFTER_TIMER, IMMEDIATE]
    assert "VoiceService.1.X_AA.1.DigitMap" not in found


@pytest.mark.parametrize(
    ("text", "number", "completion", "sent"),
    [
        ("{ x+ | \\+x+ | *x+ | *xx*x+ }", "911", AFTER_TIMER, "911"),  # factory
        ("{[369]11 | 1617xxxxxxx}", "911", IMMEDIATE, "911"),
        ("{[369]11 | 1617xxxxxxx}", "933", NEVER, None),
        ("{ ^1900x. | <=1617>[2-9]xxxxxx | 1[2-9]xx[2-9]xxxxxx | 011[2-9]x. | [3469]11 }", "911", AFTER_TIMER, "911"),
        ("{ 911 | 933 | x+ }", "911", AFTER_TIMER, "911"),
        ("{ 911 | 933 | [0-8]x+ | 9[024-8]x+ }", "911", IMMEDIATE, "911"),
        ("{ 911 | 933 | [0-8]x+ | 9[024-8]x+ }", "933", IMMEDIATE, "933"),
        ("{911T}", "911", AFTER_TIMER, "911"),
        ("{^911}", "911", NEVER, None),
        ("{<911=112>}", "911", REWRITTEN, "112"),
        ("{<=9>911}", "911", REWRITTEN, "9911"),
        ("{9|911}", "911", IMMEDIATE, "911"),
        ("{91}", "911", NEVER, "91"),
        ("{9,11}", "911", IMMEDIATE, "911"),
        ("{\\9\\1\\1}", "911", IMMEDIATE, "911"),
        ("{xx+}", "9", NEVER, None),
        ("{xx+}", "91", AFTER_TIMER, "91"),
    ],
)  # fmt: skip
def test_grandstream_waits_while_a_rule_may_go_on(text, number, completion, sent):
    """P-08: Grandstream; its manuals do not promise that 911 beside x+ is sent at once, so it is not believed."""
    verdict = judge("grandstream", text, number)
    assert (verdict.completion, verdict.sent) == (completion, sent)


def test_a_grandstream_prefix_is_put_before_911_and_early_dial_sends_the_first_digit():
    assert judge("grandstream", "{911}", "911", P66="9") == Verdict(REWRITTEN, "9911", "911", "sent as 9911")
    assert judge("grandstream", "{911}", "911", P29="1").sent == "9"
    settings = {"account.2.call.dialplan": "{911}", "account.2.call.dialplanPrefix": "8", "P66": ""}
    assert verdicts("grandstream", settings, "911")["account.2.call.dialplan"].sent == "8911"


@pytest.mark.parametrize(
    ("text", "number", "completion"),
    [
        ("{[x*]+}", "911", AFTER_TIMER),  # factory
        ("{911|933|[0-8*][x*]+}", "933", IMMEDIATE),
        ("{99,x+|[*x]+}", "911", AFTER_TIMER),
        ("{911|933|?}", "911", AFTER_TIMER),  # "illegal input will fall back to default"
        ("911|933", "911", AFTER_TIMER),
    ],
)
def test_htek_falls_back_to_its_open_plan_when_one_rule_is_wrong(text, number, completion):
    """P-08: Htek."""
    assert judge("htek", text, number).completion is completion


@pytest.mark.parametrize(
    ("text", "number", "completion", "sent"),
    [
        (r"|(^911$)|sip:\1@\d|d |(^933$)|sip:\1@\d|d", "911", IMMEDIATE, "911"),
        (r"|(^911$)|sip:\1@\d|d |(^933$)|sip:\1@\d|d", "933", IMMEDIATE, "933"),
        (r"|^911$|sip:911@\d|d", "911", IMMEDIATE, "911"),
        (r"|^(911)$|sip:\1@\d|", "911", NEVER, None),  # without d the phone waits for the confirm key
        (r"|^(.+)$|sip:\1@\d| |^(911)$|sip:\1@\d|d", "911", NEVER, None),  # the first that matches is taken
        (r"|([0-9]{5})|sip:\1@test.com|d", "911", NEVER, None),
        (r"|([0-9]{2})|sip:\1@\d|d |^(911)$|sip:\1@\d|d", "911", NEVER, "91"),
        (r"|^(911)$|sip:\1@\d|d", "933", NEVER, None),
        (r"|^(911)$|sip:9\1@\d|d", "911", REWRITTEN, "9911"),
        (r"|^(911)$|sip:\1@psap.example|d", "911", REWRITTEN, "911@psap.example"),
        (r"!^(9(1+|3{2}))$!sip:\1@\d!d", "933", IMMEDIATE, "933"),
        (r"!^(9(1+|3{2}))$!sip:\1@\d!d", "911", NEVER, "91"),
        (r"|^([^#]+)#$|sip:\1@\d|d", "911#", REWRITTEN, "911"),
        (r"|^[2-8]\d\d$|sip:\1@\d|d", "911", NEVER, None),
        ("", "911", NEVER, None),
    ],
)
def test_snom_takes_the_first_expression_and_dials_only_with_the_flag_d(text, number, completion, sent):
    """P-08: Snom's user_dp_str."""
    if not text:
        assert verdicts("snom", {SETTING["snom"]: text}, number) == {}
        return
    verdict = judge("snom", text, number)
    assert (verdict.completion, verdict.sent) == (completion, sent)


def test_snom_dials_by_itself_or_digit_by_digit_where_it_is_told_to():
    plan = r"|^(112)$|sip:\1@\d|d"
    assert judge("snom", plan, "911", auto_dial="5").completion is AFTER_TIMER
    assert judge("snom", r"|^(911)$|sip:\1@\d|d", "911", overlap_dialing="on").sent == "9"


def fanvil(rules: list[dict[str, str]], **more: str) -> dict[str, str]:
    found = {
        f"dialplan.{index}.{name}": value for index, rule in enumerate(rules, start=1) for name, value in rule.items()
    }
    return found | more


@pytest.mark.parametrize(
    ("rules", "number", "completion", "sent"),
    [
        ([{"Number": "911", "MatchToSend": "1"}], "911", IMMEDIATE, "911"),
        ([{"Number": "911", "MatchToSend": "1"}], "933", AFTER_TIMER, "933"),
        ([{"Number": "911", "MatchToSend": "0"}], "911", AFTER_TIMER, "911"),
        ([{"Number": "911T3", "MatchToSend": "1"}], "911", AFTER_TIMER, "911"),
        ([{"Number": "911T0", "MatchToSend": "1"}], "911", IMMEDIATE, "911"),
        ([{"Number": "9T"}], "911", AFTER_TIMER, "911"),
        ([{"Number": "[1-8,9]xx", "MatchToSend": "1"}], "933", IMMEDIATE, "933"),
        ([{"Number": "9.", "MatchToSend": "1"}, {"Number": "911", "MatchToSend": "1"}], "911", NEVER, "9"),
        ([{"Number": "911", "MatchToSend": "1", "Alias": "add:9"}], "911", REWRITTEN, "9911"),
        ([{"Number": "911", "MatchToSend": "1", "Alias": "all:112"}], "911", REWRITTEN, "112"),
        ([{"Number": "9911", "MatchToSend": "1", "Alias": "del", "DelLen": "1"}], "9911", REWRITTEN, "911"),
        ([{"Number": "9911", "MatchToSend": "1", "Alias": "rep:8", "DelLen": "1"}], "9911", REWRITTEN, "8911"),
        ([{"Number": "911", "MatchToSend": "1", "Suffix": "#"}], "911", REWRITTEN, "911#"),
        ([{"Number": "911", "MatchToSend": "1", "ApplyToCall": "1"}], "911", AFTER_TIMER, "911"),  # incoming calls
        ([], "911", AFTER_TIMER, "911"),
    ],
)
def test_fanvil_sends_what_a_rule_matches_and_waits_for_the_rest(rules, number, completion, sent):
    """P-08: Fanvil's dial plan table."""
    verdict = verdicts("fanvil", fanvil(rules), number)["dialplan"]
    assert (verdict.completion, verdict.sent) == (completion, sent)


def test_fanvil_without_its_timer_never_sends_and_a_fixed_length_cuts():
    assert verdicts("fanvil", fanvil([], DialbyTimeout="0"), "911")["dialplan"].completion is NEVER
    cut = fanvil([{"Number": "911", "MatchToSend": "1"}], DialFixedLength="1", FixedLengthNums="2")
    assert verdicts("fanvil", cut, "911")["dialplan"].sent == "91"
    three = fanvil([], DialFixedLength="1", FixedLengthNums="3")
    assert verdicts("fanvil", three, "911")["dialplan"].completion is IMMEDIATE


@pytest.mark.parametrize(
    ("text", "number", "completion", "sent"),
    [
        ('"X+#|XX+*"', "911", AFTER_TIMER, "911"),  # factory
        ('"911|933|X+#|XX+*"', "911", IMMEDIATE, "911"),
        ('"911|933|X+#|XX+*"', "933", IMMEDIATE, "933"),
        ("[01]xxx|[2-8]xxxx|91xxxxxxxxxx", "911", AFTER_TIMER, "911"),
        ("[01]xxx|[2-8]xxxx|91xxxxxxxxxx", "933", NEVER, None),
        ("9|911", "911", NEVER, "9"),
        ("911,9", "911", REWRITTEN, "9911"),
        ("9;11|xx", "911", NEVER, "91"),
        ("9(11|33)", "933", IMMEDIATE, "933"),
        ("(911|933", "911", AFTER_TIMER, "911"),  # a parsing error: the default plan
        ("911|" + "1" * 520, "911", AFTER_TIMER, "911"),
    ],
)
def test_mitel_calls_an_exact_match_at_once(text, number, completion, sent):
    """P-08: Mitel and Aastra."""
    verdict = judge("aastra", text, number)
    assert (verdict.completion, verdict.sent) == (completion, sent)


@pytest.mark.parametrize(
    ("text", "number", "completion", "sent"),
    [
        ("[2346789]11|01[2-9]x.|[2-9]xxxxxxxxx", "911", IMMEDIATE, "911"),  # the manual's example
        ("[2346789]11|01[2-9]x.|[2-9]xxxxxxxxx", "01254", AFTER_TIMER, "01254"),
        ("1XXXXXXXXXX|X11|480XXXXXXX", "933", NEVER, None),
        ("<101:9999>", "101", REWRITTEN, "9999"),
        ("911S2|933T", "911", AFTER_TIMER, "911"),
        ("911S2|933T", "933", AFTER_TIMER, "933"),
        ("911!", "911", NEVER, None),
        ("9x.|911", "911", IMMEDIATE, "911"),
        ("9x|911", "911", NEVER, "91"),
    ],
)
def test_panasonic_calls_a_complete_match_at_once(text, number, completion, sent):
    """P-08: Panasonic KX-UT, KX-HDV, KX-TGP."""
    verdict = judge("panasonic", text, number)
    assert (verdict.completion, verdict.sent) == (completion, sent)


def test_panasonic_may_send_the_rest_and_reads_twenty_rules():
    assert judge("panasonic", "X11", "933", DIAL_PLAN_NOT_MATCH_ENABLE_1="Y").completion is AFTER_TIMER
    many = "|".join(["1xx"] * 20 + ["911"])
    plan = GRAMMARS["panasonic"]({"DIAL_PLAN_1": many})["DIAL_PLAN_1"]
    assert plan.broken == ("911: only 20 rules are read",)
    assert plan.decide("911").completion is NEVER


@pytest.mark.parametrize(
    ("text", "number", "completion", "sent"),
    [
        (
            "[0-8]xxx|911|9911|411|611|011xxxx.T3|1xxxxxxxxxx|[2-9]xxxxxx|*xx.T3",
            "911",
            IMMEDIATE,
            "911",
        ),  # the manual's
        ("[0-9]xxx|911|9911|411", "911", IMMEDIATE, "911"),  # the manual says "immediately" beside [0-9]xxx
        ("[0-8]xxx|911|9911", "9911", IMMEDIATE, "9911"),
        ("[0-8]xxx|911|9[2-9]xxxxxx", "933", NEVER, None),
        ("xxxT", "911", AFTER_TIMER, "911"),
        ("xxx<T5>", "911", AFTER_TIMER, "911"),
        ("[1-8]xx", "911", NEVER, "9"),  # "attempts to immediately dial any pattern that does not have a matching rule"
    ],
)
def test_digium_sends_at_the_shortest_match(text, number, completion, sent):
    """P-08: Digium D-series, Sangoma P-series."""
    verdict = judge("digium", text, number)
    assert (verdict.completion, verdict.sent) == (completion, sent)


@pytest.mark.parametrize(
    ("text", "number", "completion"),
    [
        ("[2-4]xxx|[68]xxx|*xx|9Z1xxxxxxxxxx|9z011x+", "911", AFTER_TIMER),  # the guide's example
        ("911|933|[2-4]xxx|9Z1xxxxxxxxxx", "933", IMMEDIATE),
        ("911|933|[2-4]xxx|9Z1xxxxxxxxxx", "911", AFTER_TIMER),  # 9, tone, 1xxxxxxxxxx starts with 911
        ("911|933|[2-4]xxx|9Z1[2-9]xxxxxxxxx", "911", IMMEDIATE),
        ("XXX|XXXX", "911", AFTER_TIMER),
        ("XXX", "933", IMMEDIATE),
        ("|911|", "911", IMMEDIATE),
    ],
)
def test_avaya_waits_while_a_format_may_go_on(text, number, completion):
    """P-08: Avaya J100."""
    assert judge("avaya", f'"{text}"', number).completion is completion


@pytest.mark.parametrize(
    ("text", "number", "completion", "sent"),
    [
        ("x+P", "911", AFTER_TIMER, "911"),  # factory
        ("911|933|[0-8]x+P|9[0-0]x+P", "911", IMMEDIATE, "911"),
        ("911|x+P", "911", AFTER_TIMER, "911"),
        ("911P3", "911", AFTER_TIMER, "911"),
        ("(4:723)xxxx", "46789", REWRITTEN, "7236789"),
        ("(:1)xxxxxxxxxx", "2125551212", REWRITTEN, "12125551212"),
        ("9,11", "911", IMMEDIATE, "911"),
        ("[2-8]xx", "911", NEVER, None),
    ],
)
def test_vtech_waits_for_its_pause(text, number, completion, sent):
    """P-08: VTech."""
    verdict = judge("vtech", text, number)
    assert (verdict.completion, verdict.sent) == (completion, sent)


@pytest.mark.parametrize(
    ("text", "number", "completion"),
    [
        ("[2-9]11|0|100|101|011xxx.|9011xxx.|1[2-9]xxxxxxxxx|9[2-9]xxxxxx|*xx|[8]xxxx|T", "911", IMMEDIATE),
        ("[2-9]11|0|9[2-9]xxxxxx|[2-7]xx", "933", AFTER_TIMER),
        ("10x;911;4xxx", "911", IMMEDIATE),
        ("10x;91;4xxx", "911", NEVER),
    ],
)
def test_audiocodes_sends_at_the_shortest_match_and_waits_for_the_rest(text, number, completion):
    """P-08: AudioCodes 400HD."""
    assert judge("audiocodes", text, number).completion is completion


def test_audiocodes_number_rules_send_911_elsewhere():
    rules = {"voip/signalling/sip/number_rules": r"911=Line_\\\@10.1.2.3"}
    assert judge("audiocodes", "911", "911", **rules).completion is REWRITTEN
    assert judge("audiocodes", "911", "911", **{"voip/signalling/sip/number_rules": "4xxx=5"}).completion is IMMEDIATE


@pytest.mark.parametrize(
    ("templates", "number", "completion", "sent"),
    [
        ([("911", "0", "")], "911", IMMEDIATE, "911"),
        ([("911", "0", ""), ("*", "3", "")], "911", IMMEDIATE, "911"),
        ([("911", "0", ""), ("*", "3", "")], "933", AFTER_TIMER, "933"),
        ([("911", "0", ""), ("9,1..........", "0", "")], "911", IMMEDIATE, "911"),  # 3 characters against 2
        ([("911", "0", ""), ("911*", "5", "")], "911", AFTER_TIMER, "911"),  # no more than the incomplete rule has
        ([("911", "5", "")], "911", AFTER_TIMER, "911"),
        ([("911", "", "")], "911", AFTER_TIMER, "911"),
        ([("9..", "0", "")], "911", IMMEDIATE, "911"),
        ([("9.", "0", ""), ("9..", "0", "")], "911", IMMEDIATE, "911"),
        ([("9", "0", ""), ("911", "0", "")], "911", IMMEDIATE, "911"),  # one character is not more than one
        ([("91", "0", ""), ("9..", "0", "")], "911", NEVER, "91"),
        ([("", "0", "300"), ("911", "0", "")], "911", NEVER, None),  # a hot line
        ([("911", "0", "112")], "911", REWRITTEN, "112"),
        ([("9...", "0", "...")], "9911", REWRITTEN, "911"),
        ([("ab..cd", "0", "")], "911", AFTER_TIMER, "911"),
    ],
)
def test_cisco_s_enterprise_phones_take_the_rule_with_the_most_characters(templates, number, completion, sent):
    """P-08: dialplan.xml of 79xx phones."""
    settings = {}
    for index, (match, timeout, rewrite) in enumerate(templates, start=1):
        settings |= {
            f"TEMPLATE.{index}.MATCH": match,
            f"TEMPLATE.{index}.TIMEOUT": timeout,
            f"TEMPLATE.{index}.REWRITE": rewrite,
        }
    verdict = verdicts("cisco_enterprise", settings, number)["dialplan.xml"]
    assert (verdict.completion, verdict.sent) == (completion, sent)


@pytest.mark.parametrize(
    ("rewrite", "sent"),
    [("%0", "12345678"), ("XYZ.....", "XYZ34567"), ("919%1%2%3", "919345678"), ("%2%1", "567834"), ("0%%", "0%")],
)
def test_a_rewriting_template_quotes_what_the_wildcards_took(rewrite, sent):
    settings = {"TEMPLATE.1.MATCH": "12..*", "TEMPLATE.1.TIMEOUT": "5", "TEMPLATE.1.REWRITE": rewrite}
    assert verdicts("cisco_enterprise", settings, "12345678")["dialplan.xml"].sent == sent


@pytest.mark.parametrize(
    ("text", "action", "number", "completion"),
    [
        ("911|933|xx.T", "0", "911", IMMEDIATE),
        ("[2-9]11|0T|011xxx.T|[2-9]xxxT", "2", "933", AFTER_TIMER),
        ("<9:>911|x.T", "0", "9911", REWRITTEN),
        ("911!", "0", "911", NEVER),
        ("911<T2>", "0", "911", AFTER_TIMER),
        ("[1-8]xx", "0", "911", NEVER),
        ("[1-8]xx", "1", "911", NEVER),
        ("[1-8]xx", "2", "911", AFTER_TIMER),
        ("<[2-9]x:86>3.T|911A", "0", "911", IMMEDIATE),
    ],
)
def test_yealink_s_digit_map_stands_in_the_place_of_its_rules(text, action, number, completion):
    """P-08: Yealink's digit map."""
    settings = {
        "dialplan.dialnow.rule.1": "999",
        "dialplan.digitmap.enable": "1",
        "dialplan.digitmap.string": text,
        "dialplan.digitmap.no_match_action": action,
    }
    assert verdicts("yealink", settings, number)["dialplan"].completion is completion


def test_an_account_s_own_digit_map_is_judged_beside_the_phone_s():
    settings = {
        "dialplan.dialnow.rule.1": "911",
        "phone_setting.dialnow_delay": "0",
        "account.2.dialplan.digitmap.enable": "1",
        "account.2.dialplan.digitmap.string": "xxxT",
    }
    found = verdicts("yealink", settings, "911")
    assert found["dialplan"].completion is IMMEDIATE
    assert found["account.2.dialplan.digitmap.enable"].completion is AFTER_TIMER


@pytest.mark.parametrize("grammar", ["none", "algo", "gigaset", "linphone", "acrobits", "zoiper"])
def test_what_sends_numbers_whole_or_dials_nothing_holds_no_number_up(grammar):
    """P-08: softphones, DECT handsets, intercoms."""
    assert {verdict.completion for verdict in verdicts(grammar, {}, "911").values()} == {IMMEDIATE}


def test_a_softphone_s_prefix_or_rewriting_is_found():
    assert verdicts("linphone", {"dial_prefix": "1"}, "911")["account"].sent == "1911"
    assert verdicts("zoiper", {"use_overlap_dialing": "true"}, "911")["account"].completion is NEVER
    assert verdicts("zoiper", {"use_number_rewriting": "true"}, "911")["account"].completion is REWRITTEN
    dialler = {"rewriting.1.condition.1": "equals 933", "rewriting.1.action.1": "overrideDialAction gsmCall"}
    assert verdicts("acrobits", dialler, "933")["rewriting"].completion is NEVER
    assert verdicts("acrobits", dialler, "911")["rewriting"].completion is IMMEDIATE
    prefix = {"rewriting.1.condition.1": "shorterThan 4", "rewriting.1.action.1": "prepend 9"}
    assert verdicts("acrobits", prefix, "911")["rewriting"].sent == "9911"
    unknown = {"rewriting.1.condition.1": "moonIs full", "rewriting.1.action.1": "teleport 1"}
    assert verdicts("acrobits", unknown, "911")["rewriting"].completion is NEVER


# What public templates ship. `grammar_dependent` and the like are decided by the vendor's own text:
# Digium: its manual says that 911 beside [0-9]xxx is dialled immediately, so 911 is, beside 91xxxxxxxxxx.
# Avaya: the comma is no part of a format; with or without it XXXX can follow XXX, and no manual says that XXX wins.
# Poly: the dot makes R911R911.R ill formed, so [1-9]xxT decides.
DECIDED = {
    ("[0-8]xxxxx|911|9411|9611|9011xxx.T3|91xxxxxxxxxx|9[2-9]xxxxxx|*xx.T3|[0-8]xx.T3", "dials_911"): IMMEDIATE,
    ("XXX|XXXX,*XX,1XXXXXXXXXX,XXXXXXXXXX", "dials_911"): AFTER_TIMER,
    ("XXX|XXXX,*XX,1XXXXXXXXXX,XXXXXXXXXX", "dials_933"): AFTER_TIMER,
    (
        (
            "[2-8]11|R911R911.R|0T|011xxx.T|[0-1][2-9]xxxxxxxxx|"
            "[2-9]xxxxxxxxx|[1-9]xxT|0[1-9]xxT|[1-9]xxxT|0[1-9]xxxT|*x.T|**x.T"
        ),
        "dials_911",
    ): AFTER_TIMER,
}
LABELS = {"immediate": IMMEDIATE, "after_timer": AFTER_TIMER, "no_match": NEVER}
DIALECTS = {"cisco": "cisco_spa", "polycom": "poly"}


def test_the_plans_of_public_templates_do_what_was_read_in_them(cases):
    """P-08: every verdict of the cases."""
    plans = json.loads((cases / "dial_plans.json").read_text())["plans"]
    assert plans
    for plan in plans:
        grammar = DIALECTS.get(plan["dialect"], plan["dialect"])
        for label, number in (("dials_911", "911"), ("dials_933", "933")):
            expected = DECIDED.get((plan["dial_plan"], label)) or LABELS[plan[label]]
            assert judge(grammar, plan["dial_plan"], number).completion is expected, (plan["dial_plan"], number)
