"""A fault of ours with an answer or a timer of a 911: the call goes on, and so do those that are due with it.

The faults come by what we are handed: a list of targets that cannot be read for a moment, a callback that raises, a
dialog's words that are none.
"""

from collections.abc import Sequence
from typing import overload

import pytest

from engine.sip.context import ResponseContext
from engine.sip.forward import Forward, Hop, Target
from engine.sip.stack import Finished, RequestReceived, SipStack
from engine.sip.timers import TRANSACTION_S
from tests.siptest import CARRIER, PBX, SECOND, drain, make_stack, read_response, request, response
from tests.unit.sip.test_proxy import A, B, Bench

PATIENT = tuple(Target(name, hop, first_response_s=0.0, connect_s=0.0) for name, hop in (("a", CARRIER), ("b", SECOND)))


class Broken(Exception):
    """What no code of ours expects."""


class Shaky(Sequence[Target]):
    """Targets that cannot be counted the next `faults` times."""

    def __init__(self, *targets: Target) -> None:
        self.targets, self.faults = targets, 0

    def __len__(self) -> int:
        if self.faults:
            self.faults -= 1
            raise Broken
        return len(self.targets)

    @overload
    def __getitem__(self, at: int) -> Target: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Target]: ...
    def __getitem__(self, at: int | slice) -> Target | Sequence[Target]:
        return self.targets[at]


class Call(Bench):
    """A 911 with the targets A and B, and the words that `on_fault` was told."""

    def __init__(self, *targets: Target, stack: SipStack | None = None) -> None:
        self.told: list[str] = []
        self.targets = Shaky(*targets)
        super().__init__(stack=stack or make_stack(on_fault=self.told.append))
        forward = Forward(self.targets, tag="call", fail_over=frozenset({503}), emergency=True)
        self.stack.forward(self.transaction, forward, self.now)
        self.collect()


def test_three_911s_that_time_out_together_all_have_their_next_trunk_when_one_meets_a_fault() -> None:
    """E-18: timer B of all three ends in one instant."""
    told: list[str] = []
    stack = make_stack(on_fault=told.append)
    lists = [Shaky(*PATIENT) for _ in range(3)]
    for number, targets in enumerate(lists):
        stack.receive(request(branch=f"z9hG4bKn{number}", call_id=f"call-{number}"), PBX, 0.0)
        [event] = drain(stack)[0]
        assert isinstance(event, RequestReceived)
        stack.forward(event.transaction, Forward(targets, tag=number, emergency=True), 0.0)
        drain(stack)
    lists[0].faults = 1
    stack.handle_timer(TRANSACTION_S)
    tried = {data.partition(b"Call-ID: ")[2][:6] for data, hop in drain(stack)[1] if hop == SECOND}
    assert (tried, len(told)) == ({b"call-0", b"call-1", b"call-2"}, 1)


def test_a_refused_transport_that_meets_a_fault_has_its_next_trunk_at_once() -> None:
    """E-18: the same where the trunk's address says that nobody is there."""
    call = Call(A, B)
    call.targets.faults = 1
    call.stack.transport_failed(CARRIER, call.now)
    call.collect()
    assert (len(call.sent_to(SECOND)), len(call.told)) == (1, 1)


def test_a_deadline_that_meets_a_fault_leads_to_the_next_trunk_all_the_same() -> None:
    """E-18: after 2 s, not after the 32 s of timer B; the trunk left behind is cancelled when it says something."""
    call = Call(A, B)
    call.targets.faults = 1
    call.wait(A.first_response_s + 0.01)
    assert (len(call.sent_to(SECOND)), len(call.told)) == (1, 1)
    assert call.attempts() == [("a", None, "timeout")]
    before = len(call.sent_to(CARRIER))
    call.wait(1.9)
    assert len(call.sent_to(CARRIER)) == before
    call.answer(CARRIER, 180)
    assert call.first_lines(CARRIER)[-1].startswith("CANCEL ")


@pytest.mark.parametrize("due", ["deadline", "transport", "refusal"])
def test_a_call_that_no_way_leads_on_from_is_answered_at_once(due: str) -> None:
    """E-18: a second fault upon the first; the PBX has other ways."""
    call = Call(A, B)
    call.targets.faults = 1_000
    if due == "deadline":
        call.wait(A.first_response_s + 0.01)
    elif due == "transport":
        call.stack.transport_failed(CARRIER, call.now)
        call.collect()
    else:
        call.answer(CARRIER, 503)
    assert call.statuses() == [100, 500]
    assert call.finished() == [("failed", 500, None)]
    call.wait(2 * TRANSACTION_S)
    assert call.finished() == [("failed", 500, None)]


@pytest.mark.parametrize("hop", [CARRIER, Hop("tcp", CARRIER.ip, 5060)], ids=["udp", "tcp"])
def test_a_refusal_that_meets_a_fault_leads_to_the_next_trunk_by_any_transport(hop: Hop) -> None:
    """E-18: over a stream the refused transaction has ended by then."""
    call = Call(Target("a", hop), B)
    call.targets.faults = 1
    call.answer(hop, 503)
    assert len(call.sent_to(SECOND)) == 1


def test_the_200_of_a_911_goes_up_although_it_could_not_be_put_into_the_callers_words() -> None:
    """E-18: and no second trunk is called for a call that stands."""
    call = Call(A, B)
    context = call.transaction.owner
    assert isinstance(context, ResponseContext)
    context.restore = ((),)  # type: ignore[assignment]
    call.answer(CARRIER, 200)
    assert call.statuses() == [100, 200]
    assert call.finished() == [("answered", 200, "a")]
    call.wait(A.first_response_s + 1.0)
    assert call.sent_to(SECOND) == []
    call.answer(CARRIER, 200)  # again, for want of an ACK
    assert call.statuses() == [100, 200, 200]
    call.wait(2 * TRANSACTION_S)
    assert [type(event) for event in call.events].count(Finished) == 1
    assert call.stack.transaction_counts == (0, 0)


def test_a_200_that_meets_a_fault_after_it_went_up_ends_the_call_as_answered() -> None:
    """E-18: here a callback that is told the names in it."""

    def meet(_: object) -> None:
        raise Broken

    told: list[str] = []
    stack = make_stack(meet=meet, on_fault=told.append)
    call = Call(A, B, stack=stack)
    [invite] = call.sent_to(CARRIER)
    call.receive(response(invite, 200, contact="sip:psap@psap.example"), CARRIER)
    assert {read_response(data).status for data in call.sent_to(PBX)} == {100, 200}
    assert call.finished() == [("answered", 200, "a")]
    call.wait(A.first_response_s + 1.0)
    assert (call.sent_to(SECOND), len(told)) == ([], 1)
