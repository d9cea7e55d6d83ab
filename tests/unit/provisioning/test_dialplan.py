import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.provisioning import dialplan
from engine.provisioning.dialplan import Completion, parse_poly, parse_yealink

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
    ("settings", "number", "completion", "sent"),
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
def test_yealink_rules_decide_with_their_delay_and_their_rewriting(settings, number, completion, sent):
    """P-08: dial-now, delay, replace, block-out and area code together."""
    verdict = parse_yealink(settings).decide(number)
    assert (verdict.completion, verdict.sent) == (completion, sent)


def test_a_file_without_any_digit_map_is_not_proven():
    assert dialplan.faults("poly", (), ("911",))
    assert dialplan.faults("yealink", (), ("911",))


def test_a_registration_s_own_digit_map_is_proven_too():
    settings = (("dialplan.digitmap", "911|933"), ("dialplan.2.digitmap", "xx.T"))
    assert all(fault.startswith("dialplan.2.digitmap: ") for fault in dialplan.faults("poly", settings, ("911", "933")))
    assert len(dialplan.faults("poly", settings, ("911", "933"))) == 2
    assert dialplan.faults("yealink", (("account.3.dialplan.digitmap.enable", "1"),), ("911",))


@given(st.text(alphabet="0123456789xXRTSH[]-.,|*#+() $ab", max_size=60), st.sampled_from(["911", "933", "9911", "112"]))
def test_any_text_gives_a_verdict_in_both_grammars(text, number):
    poly = parse_poly(text).decide(number)
    yealink = parse_yealink(
        {"dialplan.dialnow.rule.1": text, "dialplan.replace.prefix.1": text, "dialplan.replace.replace.1": text}
    ).decide(number)
    assert poly.completion in Completion
    assert yealink.completion in Completion
    if poly.completion is IMMEDIATE:
        assert poly.sent == number
