"""P-17, P-08: what an account's own template may not do to an emergency call, one trick a family and a case."""

import re

import pytest

from engine.provisioning import overrides, render, vendors
from engine.provisioning.dialplan import UnsafeDialPlan

PROFILES = vendors.known().profiles
RENDERER = render.Renderer(vendors.known())
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
