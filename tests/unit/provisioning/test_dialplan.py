import dataclasses
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.provisioning import dialplan, dialplans
from engine.provisioning.dialplan import Completion, parse_poly, parse_yealink
from engine.provisioning.dialplans.matching import DIGITS, MAX_RULES, MAX_STATES, Keys, Program, Repeat, Rule
from engine.provisioning.dialplans.reading import READERS
from engine.provisioning.dialplans.snom import parse_snom

IMMEDIATE, AFTER_TIMER, NEVER, REWRITTEN = Completion


@pytest.mark.parametrize(
    ("digit_map", "number", "completion", "sent"),
    [
        ("911|933|xx.T", "911", IMMEDIATE, "911"),
        ("911|933|xx.T", "933", IMMEDIATE, "933"),
        ("[2-9]11|0T|011xxx.T|[0-1][2-9]xxxxxxxxx|[2-9]xxxxxxxxx|[2-9]xxxT", "911", IMMEDIATE, "911"),
        ("[2-9]11|0T|011xxx.T|[0-1][2-9]xxxxxxxxx|[2-9]xxxxxxxxx|[2-9]xxxT", "933", NEVER, None),
        ("xx.T", "911", AFTER_TIMER, "911"),
        ("9xxx.T|[1-8]xx", "911", AFTER_TIMER, "911"),
        ("R911R112R", "911", REWRITTEN, "112"),
        ("R9RR911", "9911", REWRITTEN, "911"),
        ("RR9R911", "911", REWRITTEN, "9911"),
        ("R911R911R", "911", IMMEDIATE, "911"),
        ("91|911", "911", NEVER, "91"),
        ("9|911", "911", NEVER, "9"),
        ("9,911|xxx", "911", IMMEDIATE, "911"),
        ("[1-8]xx", "933", NEVER, "9"),  # handling 0: sent as soon as nothing can match
        ("xxR601R600Rxx", "1160122", REWRITTEN, "1160022"),
        ("xR60xR600Rxxxxxxx", "16092345678", REWRITTEN, "16002345678"),
        ("911xxx.T", "911", NEVER, None),
        ("0xxxS|911S", "911", IMMEDIATE, "911"),
    ],
)
def test_a_poly_digit_map_decides_as_the_shortest_match_says(digit_map, number, completion, sent):
    """P-08: each vendor's grammar is parsed and proven."""
    verdict = parse_poly(digit_map).decide(number)
    assert (verdict.completion, verdict.sent) == (completion, sent)


@pytest.mark.parametrize(("handling", "completion"), [(0, NEVER), (1, NEVER), (2, NEVER)])
def test_an_impossible_match_before_the_end_never_completes_the_number(handling, completion):
    assert parse_poly("[1-8]xx", handling).decide("911").completion is completion


def test_an_impossible_match_at_the_last_digit_is_sent_at_once_only_with_handling_0():
    assert parse_poly("91[2-9]", 0).decide("911").completion is IMMEDIATE
    assert parse_poly("91[2-9]", 1).decide("911").completion is NEVER
    assert parse_poly("91[2-9]", 2).decide("911").completion is NEVER


def test_the_shipped_plan_of_a_poly_template_holds_both_numbers_up(cases):
    """P-08: the plan public templates ship for Edge phones."""
    plans = json.loads((cases / "dial_plans.json").read_text())["plans"]
    shipped = [plan["dial_plan"] for plan in plans if plan["dialect"] == "polycom"]
    assert shipped
    for text in shipped:
        plan = parse_poly(text)
        assert plan.decide("933").completion is AFTER_TIMER
        assert (
            plan.decide("911").completion is AFTER_TIMER
        )  # the replacement rule is not well formed, so a timer rule decides
        assert any(rule.startswith("R911R911.R") and "'911.'" in rule for rule in plan.broken)
        assert dialplan.faults("poly", (("dialplan.digitmap", text),), ("911", "933"))


@pytest.mark.parametrize(
    ("written", "number", "completion", "sent"),
    [
        ({"dialplan.dialnow.rule.1": "911", "phone_setting.dialnow_delay": "0"}, "911", IMMEDIATE, "911"),
        ({"dialplan.dialnow.rule.1": "911"}, "911", AFTER_TIMER, "911"),
        ({"dialplan.dialnow.rule.1": "911", "phone_setting.dialnow_delay": "3"}, "911", AFTER_TIMER, "911"),
        ({"dialplan.dialnow.rule.1": "911", "phone_setting.dialnow_delay": "0"}, "933", AFTER_TIMER, "933"),
        ({"dialplan.dialnow.rule.1": "9[1,3-4]x", "phone_setting.dialnow_delay": "0"}, "933", IMMEDIATE, "933"),
        ({"dialplan.dialnow.rule.1": "9x", "phone_setting.dialnow_delay": "0"}, "911", NEVER, "91"),
        ({"dialplan.dialnow.rule.1": "9.", "phone_setting.dialnow_delay": "0"}, "911", NEVER, "91"),
        (
            {"dialplan.dialnow.rule.1": "911", "phone_setting.dialnow_delay": "0",
             "dialplan.block_out.number.1": "9xx"},
            "911", NEVER, None,
        ),
        (
            {
                "dialplan.dialnow.rule.1": "911",
                "phone_setting.dialnow_delay": "0",
                "dialplan.replace.prefix.1": "9(x)(x)",
                "dialplan.replace.replace.1": "0$2$1",
            },
            "911", REWRITTEN, "011",
        ),
        (
            {"dialplan.dialnow.rule.1": "911", "phone_setting.dialnow_delay": "0", "dialplan.area_code.code": "0"},
            "911", REWRITTEN, "0911",
        ),
        (
            {
                "dialplan.dialnow.rule.1": "911",
                "phone_setting.dialnow_delay": "0",
                "dialplan.area_code.code": "0",
                "dialplan.area_code.min_len": "7",
            },
            "911", IMMEDIATE, "911",
        ),
        (
            {"dialplan.dialnow.rule.1": "911", "phone_setting.dialnow_delay": "0", "dialplan.digitmap.enable": "1"},
            "911", NEVER, None,
        ),
    ],
)  # fmt: skip
def test_yealink_rules_decide_with_their_delay_and_their_rewriting(written, number, completion, sent):
    """P-08: dial-now, delay, replace, block-out and area code together."""
    verdict = parse_yealink(written).decide(number)
    assert (verdict.completion, verdict.sent) == (completion, sent)


def test_a_file_without_any_digit_map_is_not_proven():
    assert dialplan.faults("poly", (), ("911",))
    assert dialplan.faults("yealink", (), ("911",))


def test_a_registration_s_own_digit_map_is_proven_too():
    settings = (("dialplan.digitmap", "911|933"), ("dialplan.2.digitmap", "xx.T"))
    assert all(fault.startswith("dialplan.2.digitmap: ") for fault in dialplan.faults("poly", settings, ("911", "933")))
    assert len(dialplan.faults("poly", settings, ("911", "933"))) == 2
    assert dialplan.faults("yealink", (("account.3.dialplan.digitmap.enable", "1"),), ("911",))


def test_a_refusal_names_the_number_the_rule_and_what_to_do():
    """P-08: an operator can act on it."""
    (fault,) = dialplan.faults("cisco_spa", (("Dial_Plan_1_", "(933S0|9xx|xx.)"),), ("911", "933"))
    assert fault == (
        "Dial_Plan_1_: 911 after timer by the rule 9xx (waits 3 s after its last digit, since xx. could take more "
        "digits); put 911S0 first"
    )
    (fault,) = dialplan.faults("poly", (("dialplan.digitmap", "91|911"),), ("911",))
    assert fault == (
        "dialplan.digitmap: 911 never by the rule 91 (91 is dialled before 911 has been typed); take the rule 91 out, "
        "and put 911 first in the digit map, without a T, and no shorter rule before it"
    )


def test_a_setting_that_stands_twice_is_proven_both_ways():
    good, bad = ("dialplan.digitmap", "911"), ("dialplan.digitmap", "xx.T")
    assert dialplan.faults("poly", (good, good), ("911",)) == ()
    assert dialplan.faults("poly", (good, bad), ("911",)) == dialplan.faults("poly", (bad, good), ("911",))


@pytest.mark.parametrize("grammar", dialplan.LINE_PLANS)
def test_a_line_without_a_plan_of_its_own_is_named(grammar):
    """P-08: the second line would be left to the phone's factory plan."""
    plans = {"snom": r"|^(911)$|sip:\1@\d|d", "cisco_spa": "(911S0)", "cisco_mpp": "(911S0)"}
    plan = plans.get(grammar, "{911}" if grammar in {"grandstream", "htek"} else "911")
    first, second = (dialplan.LINE_PLANS[grammar](line)[0] for line in (1, 2))
    assert dialplan.faults(grammar, ((first, plan),), ("911",), (1,)) == ()
    (fault,) = dialplan.faults(grammar, ((first, plan),), ("911",), (1, 2))
    assert fault == f"line 2 has no dial plan, so the phone's own one decides there; write {second}"
    assert dialplan.faults(grammar, ((first, plan), (second, plan)), ("911",), (1, 2)) == ()


def test_every_grammar_can_be_read_back_out_of_a_file():
    assert set(dialplan.GRAMMARS) == set(READERS)
    for name in dialplan.GRAMMARS:
        assert (
            f"\n{name} " in dialplans.__doc__ or f"\n{name}, " in dialplans.__doc__ or f", {name} " in dialplans.__doc__
        )


# --- Properties over every grammar ----------------------------------------------------------------------------------

SIGNS = st.text(alphabet='0123456789xXyYzZRTSHPLAM[]{}()<>-.,|*#+:;=^$!?@\\ "abd%~/&é', max_size=80)
NUMBERS = st.sampled_from(["911", "933", "9911", "112", "*98", "+19115550100"])
SETTINGS = {
    "poly": ("dialplan.digitmap",),
    "yealink": ("dialplan.dialnow.rule.1", "dialplan.replace.prefix.1", "dialplan.replace.replace.1"),
    "grandstream": ("P290", "P66", "account.1.call.dialplan"),
    "htek": ("P4200", "Account2.DialPlan"),
    "cisco_spa": ("Dial_Plan_1_",),
    "cisco_mpp": ("Dial_Plan_1_",),
    "obihai": ("VoiceService.1.Phone.DigitMap", "UserDigitMap.1.Label", "UserDigitMap.1.DigitMap"),
    "cisco_enterprise": ("TEMPLATE.1.MATCH", "TEMPLATE.1.TIMEOUT", "TEMPLATE.1.REWRITE"),
    "snom": ("user_dp_str.1",),
    "fanvil": ("dialplan.1.Number", "dialplan.1.Alias", "dialplan.1.DelLen", "dialplan.2.Number"),
    "aastra": ("sip dial plan",),
    "panasonic": ("DIAL_PLAN_1",),
    "digium": ("dial_plan",),
    "avaya": ("DIALPLAN",),
    "vtech": ("sip_account.1.dial_plan",),
    "audiocodes": ("voip/signalling/sip/digit_map", "voip/signalling/sip/number_rules"),
    "linphone": ("dial_prefix",),
    "acrobits": ("rewriting.1.condition.1", "rewriting.1.action.1"),
    "zoiper": ("use_overlap_dialing",),
}


@pytest.mark.parametrize("grammar", SETTINGS)
@settings(max_examples=60)
@given(st.data())
def test_any_text_gives_a_verdict_in_every_grammar(grammar, data):
    """P-08: a hostile plan is judged, never a crash; what is called immediate leaves the phone as it was typed."""
    written = {name: data.draw(SIGNS) for name in SETTINGS[grammar]}
    if grammar == "yealink":
        written["phone_setting.dialnow_delay"] = "0"
    number = data.draw(NUMBERS)
    for verdict in dialplan.verdicts(grammar, written, number).values():
        assert verdict.completion in Completion
        assert verdict.why
        assert (verdict.completion is IMMEDIATE) <= (verdict.sent == number)
        assert (verdict.completion is REWRITTEN) <= (verdict.sent != number)
    assert isinstance(dialplan.faults(grammar, tuple(written.items()), ("911", number)), tuple)


RULE = st.text(alphabet="0123456789x", min_size=1, max_size=6)
SERIES = st.builds("".join, st.tuples(RULE, st.sampled_from(["", "."])))
FIRST = {  # a plan of the rules, with the number put first as each vendor says that it is sent at once
    "poly": lambda number, rules: {"dialplan.digitmap": "|".join([number, *(f"{rule}T" for rule in rules)])},
    "digium": lambda number, rules: {"dial_plan": "|".join([number, *(f"{rule}T3" for rule in rules)])},
    "panasonic": lambda number, rules: {"DIAL_PLAN_1": "|".join([number, *(f"{rule}T" for rule in rules)])},
    "cisco_spa": lambda number, rules: {"Dial_Plan_1_": f"({'|'.join([f'{number}S0', *rules])})"},
    "obihai": lambda number, rules: {"VoiceService.1.Phone.DigitMap": f"({'|'.join([f'{number}S0', *rules])})"},
    "snom": lambda number, rules: {
        "user_dp_str.1": " ".join(
            [rf"|^({number})$|sip:\1@\d|d", *(rf"|^({rule.replace('x', '[0-9]')})$|sip:\1@\d|" for rule in rules)]
        )
    },
}


@pytest.mark.parametrize("grammar", FIRST)
@given(st.lists(SERIES, max_size=6), st.sampled_from(["911", "933", "112"]))
def test_the_number_put_first_with_its_mark_is_sent_at_once_whatever_follows(grammar, rules, number):
    """P-08: the remedy that a refusal names is one."""
    (verdict,) = dialplan.verdicts(grammar, FIRST[grammar](number, rules), number).values()
    assert verdict.completion is IMMEDIATE, verdict


TRAPS = {
    "poly": lambda trap, number: {"dialplan.digitmap": f"{trap}|{number}"},
    "digium": lambda trap, number: {"dial_plan": f"{trap}|{number}"},
    "panasonic": lambda trap, number: {"DIAL_PLAN_1": f"{number}|{trap}"},
    "aastra": lambda trap, number: {"sip dial plan": f'"{number}|{trap}"'},
    "cisco_spa": lambda trap, number: {"Dial_Plan_1_": f"({number}S0|{trap}S0)"},
    "obihai": lambda trap, number: {"VoiceService.1.Phone.DigitMap": f"({number}S0|{trap}S0)"},
    "snom": lambda trap, number: {"user_dp_str.1": rf"|^({trap})$|sip:\1@\d|d |^({number})$|sip:\1@\d|d"},
    "audiocodes": lambda trap, number: {"voip/signalling/sip/digit_map": f"{number}|{trap}"},
    "yealink": lambda trap, number: {
        "dialplan.dialnow.rule.1": number, "dialplan.dialnow.rule.2": trap, "phone_setting.dialnow_delay": "0",
    },
    "fanvil": lambda trap, number: {"dialplan.1.Number": number, "dialplan.2.Number": trap},
}  # fmt: skip


@pytest.mark.parametrize("grammar", TRAPS)
@given(st.sampled_from(["911", "933", "9911"]), st.integers(1, 2), st.booleans())
def test_a_rule_that_sends_the_first_digits_of_the_number_is_found(grammar, number, length, is_wild):
    """P-08: no prefix."""
    trap = number[:length]
    if is_wild:
        trap = trap[:-1] + ("[0-9]" if grammar == "snom" else "x")
    written = TRAPS[grammar](trap, number)
    (verdict,) = dialplan.verdicts(grammar, written, number).values()
    assert verdict.completion is NEVER
    assert (verdict.sent, verdict.rule is not None) == (number[:length], True)
    (fault,) = dialplan.faults(grammar, tuple(written.items()), (number,))
    assert f"{number} never" in fault
    assert "take the rule" in fault


ATOMS = st.sampled_from(["9", "1", "3", "[13]", "[^1]", ".", "[0-9]"])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("({}|{})".format, inner, inner),
        st.builds("({}){}".format, inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,}"])),
    ),
    max_leaves=6,
)


@settings(max_examples=200)
@given(EXPRESSIONS, st.booleans(), st.booleans(), st.sampled_from(["911", "933", "1", "33", "9113", "139"]))
def test_an_expression_matches_what_the_library_says(expression, begins, ends, number):
    """P-08: Snom's expressions, followed as automata, against Python's own engine."""
    text = f"{'^' if begins else ''}{expression}{'$' if ends else ''}"
    verdict = parse_snom(f"!{text}!sip:x!d").decide(number)
    sent = next((length for length in range(1, len(number) + 1) if re.search(text, number[:length])), None)
    assert (verdict.rule is not None) == (sent is not None)
    assert ("dialled before" in verdict.why) == (sent is not None and sent < len(number))


@pytest.mark.parametrize(
    ("grammar", "written"),
    [
        ("poly", {"dialplan.digitmap": "|".join(["x." * 30] * 100)}),
        ("cisco_spa", {"Dial_Plan_1_": f"({'x.' * 4000})"}),
        ("snom", {"user_dp_str.1": " ".join([r"|((.{0,20}){0,20})$|x|d"] * 400)}),
        ("snom", {"user_dp_str.1": "|" + "(" * 50 + "9" + ")*" * 50 + "$|x|d"}),
        ("snom", {"user_dp_str.1": "|^((9*)*)*$|x|d"}),
        ("yealink", {"dialplan.replace.prefix.1": "(.)" * 200, "dialplan.replace.replace.1": "$1"}),
        ("aastra", {"sip dial plan": "(" * 200}),
        ("obihai", {"VoiceService.1.Phone.DigitMap": "(" * 3000}),
        ("cisco_enterprise", {"TEMPLATE.1.MATCH": "*" * 190}),
    ],
)
def test_the_work_on_a_hostile_plan_is_bounded(grammar, written):
    """P-08: no expression of the vendor's is handed to an engine that goes back; the states of all rules are few."""
    plans = dialplan.GRAMMARS[grammar](written)
    rules = [rule for plan in plans.values() for rule in rules_in(plan)]
    assert len(rules) <= MAX_RULES
    assert all(len(rule.program.free) <= MAX_STATES for rule in rules)
    assert all(plan.decide("9" * 15).completion in Completion for plan in plans.values())


def rules_in(value: object) -> list[Rule]:
    """Every compiled rule of a plan, wherever its grammar keeps it."""
    if isinstance(value, Rule):
        return [value]
    if isinstance(value, tuple):
        return [rule for one in value for rule in rules_in(one)]
    if dataclasses.is_dataclass(value):
        return [rule for one in dataclasses.fields(value) for rule in rules_in(getattr(value, one.name))]
    return []


def test_an_expression_too_long_to_follow_is_refused():
    with pytest.raises(ValueError, match="too long"):
        Program(Repeat(Repeat(Keys(DIGITS), 40), 40))
    with pytest.raises(ValueError, match="too often"):
        Program(Repeat(Keys(DIGITS), 100))
