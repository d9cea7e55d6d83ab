"""A trunk that says 100 and nothing more to an emergency call: the next is tried beside it (RFC 3261 §16, 0016)."""

from dataclasses import replace

import pytest

from engine.sip.forward import Hop, Target
from engine.sip.stack import AnsweredLate, AttemptEnded
from tests.siptest import CARRIER, PBX, SECOND
from tests.unit.sip.test_proxy import A, B, Bench, cancel

C = Target("c", Hop("udp", "192.0.2.32", 5060))


def methods(bench: Bench, hop: Hop) -> list[str]:
    return [line.split()[0] for line in bench.first_lines(hop)]


def test_an_emergency_call_is_not_held_by_a_trunk_that_says_100_and_nothing_more() -> None:
    """E-08: its edge lives, what is behind it may not: the call goes to the next trunk too, and the first is cancelled
    when that one rings. One that rings is waited for as long as the caller waits.
    """
    bench = Bench(A, B, emergency=True)
    bench.answer(CARRIER, 100)
    bench.wait(5.9)
    assert bench.sent_to(SECOND) == []
    bench.wait(0.2)
    assert methods(bench, CARRIER) == ["INVITE"]
    assert bench.attempts() == [("a", None, "timeout")]
    assert [event.is_trying_only for event in bench.events if isinstance(event, AttemptEnded)] == [True]
    bench.answer(SECOND, 100)
    bench.wait(60.0)
    assert bench.statuses() == [100]
    assert methods(bench, CARRIER) == ["INVITE"]
    bench.answer(SECOND, 183)
    assert methods(bench, CARRIER) == ["INVITE", "CANCEL"]
    bench.answer(CARRIER, 183)  # it crossed our CANCEL, and is nobody's any more
    bench.answer(CARRIER, 487)
    assert bench.statuses() == [100, 183]
    bench.answer(SECOND, 200)
    assert bench.finished() == [("answered", 200, "b")]
    ringing = Bench(A, B, emergency=True)
    ringing.answer(CARRIER, 100)
    ringing.answer(CARRIER, 183)
    ringing.wait(200.0)
    assert ringing.sent_to(SECOND) == []


def test_a_trunk_that_is_only_slow_keeps_the_call_it_was_left_for() -> None:
    """E-08: never a call dropped that was about to ring: the second try is cancelled, and the record is set right."""
    bench = Bench(A, B, emergency=True)
    bench.answer(CARRIER, 100)
    bench.wait(6.1)
    bench.answer(SECOND, 100)
    bench.answer(CARRIER, 180)
    assert methods(bench, SECOND) == ["INVITE", "CANCEL"]
    bench.answer(SECOND, 487)
    bench.answer(CARRIER, 200)
    assert bench.statuses() == [100, 180, 200]
    assert bench.attempts() == [("a", None, "timeout"), ("b", 487, "cancelled")]
    assert bench.finished() == [("answered", 200, "a")]
    assert [event.number for event in bench.events if isinstance(event, AnsweredLate)] == [1]


def test_a_trunk_that_was_left_for_a_ringing_one_has_its_turn_again_when_that_one_fails() -> None:
    """E-03: many a gateway says 183 before it knows that nobody is behind it."""
    bench = Bench(A, B, emergency=True, fail_over=[503])
    bench.answer(CARRIER, 100)
    bench.wait(6.1)
    bench.answer(SECOND, 183)
    bench.answer(CARRIER, 487)
    bench.answer(SECOND, 503)
    assert methods(bench, CARRIER) == ["INVITE", "CANCEL", "ACK", "INVITE"]
    bench.answer(CARRIER, 200, 1)
    assert bench.statuses() == [100, 183, 200]
    assert bench.attempts() == [("a", None, "timeout"), ("b", 503, "refused"), ("a", 200, "answered")]


def test_three_trunks_that_say_100_only_have_the_call_within_twelve_seconds_all_of_them() -> None:
    """E-08: and the caller hears the end after an ordinary call's three minutes, so that a PBX may go another way."""
    bench = Bench(A, B, C, emergency=True)
    for hop in (CARRIER, SECOND, C.hop):
        assert methods(bench, hop) == ["INVITE"]
        bench.answer(hop, 100)
        bench.wait(6.1)
    bench.wait(160.0)
    assert bench.statuses() == [100]
    bench.wait(30.0)
    assert list(dict.fromkeys(bench.statuses())) == [100, 408]
    assert all(set(methods(bench, hop)) == {"INVITE", "CANCEL"} for hop in (CARRIER, SECOND, C.hop))
    bench.answer(SECOND, 200)
    assert bench.statuses()[-1] == 200


@pytest.mark.parametrize("first", [CARRIER, SECOND])
def test_a_refusal_beside_a_trunk_that_may_be_slow_waits_for_that_one(first: Hop) -> None:
    """E-08: nobody is told of a failure while somebody may answer; a busy dispatcher keeps the call from a third."""
    for status, tried in ((503, ["INVITE"]), (486, [])):
        other = CARRIER if first == SECOND else SECOND
        bench = Bench(A, B, C, emergency=True, fail_over=[503])
        bench.answer(CARRIER, 100)
        bench.wait(6.1)
        bench.answer(SECOND, 100)
        bench.answer(first, status)
        assert bench.statuses() == [100]
        if first == SECOND:
            assert methods(bench, C.hop) == tried
        bench.answer(other, 200)
        assert bench.statuses() == [100, 200]


def test_a_caller_who_hangs_up_leaves_neither_of_two_trunks_ringing() -> None:
    """E-08, E-18: both are cancelled, whichever is heard first."""
    bench = Bench(A, B, emergency=True)
    bench.answer(CARRIER, 100)
    bench.wait(6.1)
    bench.answer(SECOND, 100)
    bench.receive(cancel(), PBX)
    assert all(methods(bench, hop) == ["INVITE", "CANCEL"] for hop in (CARRIER, SECOND))
    bench.answer(SECOND, 487)
    bench.answer(CARRIER, 487)
    assert bench.statuses() == [100, 200, 487]
    assert [outcome for outcome, _, _ in bench.finished()] == ["cancelled"]


def test_of_two_trunks_the_one_that_answers_first_has_the_call_without_having_rung() -> None:
    """E-08: a 200 upon the 100; a target may have a patience of its own."""
    bench = Bench(replace(A, progress_s=3.0), B, emergency=True)
    bench.answer(CARRIER, 100)
    bench.wait(3.1)
    bench.answer(SECOND, 100)
    bench.answer(CARRIER, 200)
    assert methods(bench, SECOND) == ["INVITE", "CANCEL"]
    bench.answer(SECOND, 200)  # both: the caller ends the one it does not want (§13.2.2.4)
    assert bench.statuses() == [100, 200, 200]


def test_the_refusal_of_the_last_that_may_answer_ends_the_call() -> None:
    """E-03: the caller has its final response at once, and may go another way."""
    bench = Bench(A, B, emergency=True, fail_over=[503])
    bench.answer(CARRIER, 100)
    bench.wait(6.1)
    bench.answer(SECOND, 503)
    assert bench.statuses() == [100]
    bench.answer(CARRIER, 503)
    assert bench.statuses() == [100, 408]
    assert methods(bench, CARRIER) == ["INVITE", "ACK"]
