"""What an escalation's steps may be: every fault is told, and nobody stands in two of them."""

import datetime as dt
from typing import Any

import pytest

from engine.e911.escalation import Step, read_steps
from engine.e911.escalator import Countdown

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


DUE = dt.datetime(2026, 11, 23, 8, 0, 30, tzinfo=dt.UTC)
OWED = [("call_1", DUE)]


def at(seconds: float) -> dt.datetime:
    """By the clock on the wall, seconds after 08:00:00."""
    return DUE - dt.timedelta(seconds=30) + dt.timedelta(seconds=seconds)


def test_a_clock_that_is_set_back_puts_no_step_off() -> None:
    """E-11: seen at 08:00:01, due 29 seconds later whatever the clock says by then; so is the step after it."""
    countdown = Countdown()
    assert countdown.overdue(OWED, at(1), 100.0) == {OWED[0]: -29.0}
    assert countdown.overdue(OWED, at(-1790), 110.0) == {OWED[0]: -19.0}
    assert countdown.overdue(OWED, at(-1770), 130.0) == {OWED[0]: 1.0}
    second = ("call_1", DUE + dt.timedelta(seconds=60))
    assert countdown.overdue([second], at(-1769), 131.0) == {second: -58.0}
    assert countdown.overdue([second], at(-1711), 189.0) == {second: 0.0}


def test_a_clock_that_is_set_forward_and_a_machine_that_slept_bring_it_on() -> None:
    """E-11: too early is better than too late."""
    countdown = Countdown()
    assert countdown.overdue(OWED, at(1), 100.0)[OWED[0]] < 0
    assert countdown.overdue(OWED, at(1801), 100.0) == {OWED[0]: 1771.0}


def test_a_time_that_no_step_is_put_off_to_is_over() -> None:
    """E-11: a node that starts after the clock was set back has seen nothing of before."""
    assert Countdown().overdue(OWED, at(-4000), 5.0) == {OWED[0]: 0.0}
    assert Countdown().overdue(OWED, at(-3000), 5.0) == {OWED[0]: -3030.0}


def test_what_is_owed_no_more_is_forgotten() -> None:
    countdown = Countdown()
    countdown.overdue(OWED, at(1), 100.0)
    assert countdown.overdue([], at(2), 101.0) == {}
    assert countdown.overdue(OWED, at(1), 500.0) == {OWED[0]: -29.0}
