"""What an escalation's steps may be: every fault is told, and nobody stands in two of them."""

from typing import Any

import pytest

from engine.e911.escalation import Step, read_steps

GOOD: dict[str, Any] = {"after_s": 60, "emails": ["duty@example.com"], "chat_recipient_ids": ["chat_recipient_1"]}


def test_good_steps_are_kept_as_they_are_wished_and_each_address_once() -> None:
    """E-11: in order, whatever the letters' case."""
    second = {"after_s": 120, "emails": ["boss@example.com", "Boss@example.com"]}
    steps, faults = read_steps([GOOD, second], {"chat_recipient_1"})
    assert faults == []
    assert steps[0] == Step(60, ("duty@example.com",), ("chat_recipient_1",))
    assert (steps[1].after_s, len(steps[1].emails)) == (120, 1)


@pytest.mark.parametrize(
    ("steps", "field", "words"),
    [
        ([{**GOOD, "after_s": 5}], "steps.0.after_s", "Expected 30 to 3600 seconds"),
        ([{**GOOD, "after_s": None}], "steps.0.after_s", "Expected 30 to 3600 seconds"),
        ([{**GOOD, "emails": ["nobody"]}], "steps.0.emails", "e-mail address"),
        ([{**GOOD, "chat_recipient_ids": ["chat_recipient_2"]}], "steps.0.chat_recipient_ids", "of this account"),
        ([{"after_s": 60}], "steps.0.emails", "1 to 20 people"),
        ([GOOD, {"after_s": 60, "emails": ["boss@example.com"]}], "steps.1.after_s", "later time"),
        ([GOOD, {"after_s": 90, "emails": ["DUTY@example.com"]}], "steps.1.emails", "earlier step"),
        ([{"after_s": 60 * at, "emails": [f"a{at}@example.com"]} for at in range(1, 5)], "steps", "at most 3"),
    ],
)
def test_a_step_that_cannot_be_is_told_at_its_field(steps: list[dict[str, Any]], field: str, words: str) -> None:
    """E-11: in words."""
    _steps, faults = read_steps(steps, {"chat_recipient_1"})
    assert [fault.field for fault in faults][:1] == [field]
    assert words in faults[0].detail
