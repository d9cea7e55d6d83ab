"""Failover, CANCEL and the ends of a call (RFC 3261 §16), step by step with `now` as a number."""

from collections.abc import Iterable
from typing import Any

import pytest

from engine.sip.forward import Edit, Forward, Hop, Target
from engine.sip.message import Request
from engine.sip.stack import (
    AttemptEnded,
    AttemptStarted,
    DialogEnded,
    Event,
    Finished,
    ProvisionalReceived,
    RequestReceived,
    SipStack,
)
from engine.sip.transaction import ServerTransaction
from tests.siptest import (
    CARRIER,
    PBX,
    SECOND,
    Callee,
    Caller,
    Network,
    drain,
    forward_to,
    make_stack,
    read_request,
    read_response,
    request,
    response,
)

A, B = Target("a", CARRIER), Target("b", SECOND)


class Bench:
    """A stack with one INVITE in it, driven by hand."""

    def __init__(
        self,
        *targets: Target,
        fail_over: Iterable[int] = (),
        method: str = "INVITE",
        stack: SipStack | None = None,
        invite: bytes = b"",
        **more: object,
    ) -> None:
        self.stack = stack or make_stack()
        self.now = 0.0
        self.events: list[Event] = []
        self.out: list[tuple[bytes, Hop]] = []
        self.invite = invite or request(method)
        self.receive(self.invite, PBX)
        received = self.events.pop()
        assert isinstance(received, RequestReceived)
        self.transaction: ServerTransaction = received.transaction
        self.received: Request = received.request
        if targets:
            self.go(*targets, fail_over=fail_over, **more)

    def go(self, *targets: Target, fail_over: Iterable[int] = (), **more: object) -> None:
        forward = Forward(targets, tag="call", fail_over=frozenset(fail_over), **more)
        self.stack.forward(self.transaction, forward, self.now)
        self.collect()

    def receive(self, data: bytes, source: Hop) -> None:
        self.stack.receive(data, source, self.now)
        self.collect()

    def wait(self, seconds: float) -> None:
        """Let timers run, each at its own time."""
        end = self.now + seconds
        while (due := self.stack.next_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            self.stack.handle_timer(self.now)
            self.collect()
        self.now = end

    def collect(self) -> None:
        events, outgoing = drain(self.stack)
        self.events += events
        self.out += outgoing

    def sent_to(self, hop: Hop) -> list[bytes]:
        return [data for data, where in self.out if where[:3] == hop[:3]]

    def first_lines(self, hop: Hop) -> list[str]:
        return [data.split(b"\r\n")[0].decode().removesuffix(" SIP/2.0") for data in self.sent_to(hop)]

    def statuses(self) -> list[int]:
        return [read_response(data).status for data in self.sent_to(PBX)]

    def answer(self, hop: Hop, status: int, number: int = 0, **more: object) -> None:
        """The UAS at a hop answers the INVITE with that number of those it got."""
        invites = [data for data in self.sent_to(hop) if b" INVITE\r\n" in data]
        self.receive(response(invites[number], status, **more), hop)

    def attempts(self) -> list[tuple[str, int | None, str]]:
        return [(e.target.name, e.status, e.outcome) for e in self.events if isinstance(e, AttemptEnded)]

    def finished(self) -> list[tuple[str, int, str | None]]:
        ended = [event for event in self.events if isinstance(event, Finished)]
        return [(e.outcome, e.status, e.target.name if e.target else None) for e in ended]


def cancel() -> bytes:
    return request("CANCEL")


def test_a_silent_target_is_left_after_its_deadline_and_the_next_is_tried() -> None:
    """E-08: 2 s by default; the caller only ever saw 100."""
    bench = Bench(A, B)
    bench.wait(1.99)
    assert bench.sent_to(SECOND) == []
    bench.wait(0.02)
    assert len(bench.sent_to(SECOND)) == 1
    assert len(bench.sent_to(CARRIER)) == 3  # at 0, 0.5 and 1.5 s
    assert bench.attempts() == [("a", None, "timeout")]
    bench.answer(SECOND, 200)
    assert bench.statuses() == [100, 200]
    assert bench.finished() == [("answered", 200, "b")]
    bench.wait(10)
    assert len(bench.sent_to(CARRIER)) == 3  # given up: not called again


def test_a_target_given_up_is_cancelled_when_it_wakes() -> None:
    """E-08: CANCEL needs a 1xx first (RFC 3261 §9.1); its late 180 is not shown to the caller."""
    bench = Bench(A, B)
    bench.wait(2.5)
    bench.answer(CARRIER, 180)
    assert bench.first_lines(CARRIER)[-1].startswith("CANCEL ")
    assert bench.statuses() == [100]
    at_carrier = read_request(bench.sent_to(CARRIER)[-1])
    invite = read_request(bench.sent_to(CARRIER)[0])
    assert (at_carrier.via.branch, at_carrier.cseq) == (invite.via.branch, (1, "CANCEL"))
    bench.answer(CARRIER, 487)
    assert bench.first_lines(CARRIER)[-1].startswith("ACK ")
    assert bench.statuses() == [100]
    bench.answer(SECOND, 200)
    assert bench.statuses() == [100, 200]


def test_the_late_2xx_of_a_target_given_up_is_forwarded_and_the_other_cancelled() -> None:
    """E-08: §16.7 step 5 and 10."""
    bench = Bench(A, B)
    bench.wait(2.5)
    bench.answer(SECOND, 180)
    bench.answer(CARRIER, 200)
    assert bench.statuses() == [100, 180, 200]
    assert bench.finished() == [("answered", 200, "a")]
    assert bench.first_lines(SECOND)[-1].startswith("CANCEL ")
    bench.answer(SECOND, 200, to_tag="too-late")  # the race is lost: both are answered, both go up
    assert bench.statuses() == [100, 180, 200, 200]
    assert bench.finished() == [("answered", 200, "a")]


def test_the_other_target_that_is_cancelled_ends_cancelled() -> None:
    """E-12: it did not refuse the call, we took it back."""
    bench = Bench(A, B)
    bench.wait(2.5)
    bench.answer(SECOND, 180)
    bench.answer(CARRIER, 200)
    bench.answer(SECOND, 487)
    assert bench.attempts() == [("a", None, "timeout"), ("b", 487, "cancelled")]
    assert bench.statuses() == [100, 180, 200]
    bench.wait(70)
    assert bench.stack.transaction_counts == (0, 0)


def test_the_other_target_that_stays_silent_ends_cancelled_too() -> None:
    """E-12: nothing is tried after the call was answered."""
    bench = Bench(A, B, Target("c", Hop("udp", "192.0.2.32", 5060)))
    bench.wait(2.5)
    bench.answer(CARRIER, 200)
    bench.answer(CARRIER, 180)  # overtaken on the way
    bench.wait(70)
    assert bench.attempts() == [("a", None, "timeout"), ("b", None, "cancelled")]
    assert bench.statuses() == [100, 200]
    assert bench.stack.transaction_counts == (0, 0)
    alone = Bench(Target("a", CARRIER, first_response_s=0.0))
    alone.receive(cancel(), PBX)
    alone.wait(70)
    assert alone.attempts() == [("a", None, "cancelled")]
    assert alone.finished() == [("cancelled", 487, None)]


def test_a_late_2xx_after_the_caller_was_refused_still_goes_up() -> None:
    """E-08: §16.7 step 10, statelessly."""
    bench = Bench(A)
    bench.wait(2.5)
    assert bench.statuses()[:2] == [100, 408]
    bench.answer(CARRIER, 200)
    assert bench.statuses()[-1] == 200


@pytest.mark.parametrize("status", [404, 503, 600])
def test_a_status_that_fails_over_tries_the_next_target(status: int) -> None:
    """E-08: the caller waits on 100."""
    bench = Bench(A, B, fail_over=[404, 503, 600])
    bench.answer(CARRIER, status)
    assert bench.first_lines(CARRIER)[-1].startswith("ACK ")
    assert len(bench.sent_to(SECOND)) == 1
    assert bench.statuses() == [100]
    assert bench.attempts() == [("a", status, "refused")]


@pytest.mark.parametrize("status", [302, 486, 600, 603])
def test_any_other_final_status_is_the_callers(status: int) -> None:
    """E-08: 6xx stops unless it is said to fail over."""
    bench = Bench(A, B, fail_over=[503])
    bench.answer(CARRIER, status)
    assert bench.statuses() == [100, status]
    assert bench.sent_to(SECOND) == []
    assert bench.finished() == [("failed", status, "a")]


@pytest.mark.parametrize("status", [424, 488])
def test_a_trunk_that_cannot_take_the_location_is_asked_once_without(status: int) -> None:
    """E-08: 424 and 488 retry the same trunk with the other edit, then the next trunk."""
    with_location = Edit(
        request_uri="sip:911@trunk", add=(("Geolocation", "<cid:x>"),), body=b"pidf", content_type="x/y"
    )
    target = Target("a", CARRIER, with_location, retry_edit=Edit(request_uri="sip:911@trunk"))
    bench = Bench(target, B, fail_over=[status])
    bench.answer(CARRIER, status)
    invites = [data for data in bench.sent_to(CARRIER) if data.startswith(b"INVITE")]
    assert len(invites) == 2
    assert read_request(invites[0]).body == b"pidf"
    assert read_request(invites[1]).body == bench.received.body
    # the same number again would be a merged request to a server that still has the first (§8.2.2.2)
    numbers = [read_request(invite).cseq[0] for invite in invites]
    assert numbers == [bench.received.cseq[0], bench.received.cseq[0] + 1]
    started = [(e.number, e.with_location) for e in bench.events if isinstance(e, AttemptStarted)]
    assert started == [(1, True), (2, False)]
    bench.receive(response(invites[1], status), CARRIER)
    assert len(bench.sent_to(SECOND)) == 1
    assert [e.number for e in bench.events if isinstance(e, AttemptStarted)] == [1, 2, 3]


def test_the_best_of_several_refusals_goes_up() -> None:
    """E-08: §16.7 step 6: 6xx, then the lowest class, and a real one before one of our making."""
    bench = Bench(A, B, Target("c", Hop("udp", "192.0.2.32", 5060)), fail_over=[500, 404, 408])
    bench.answer(CARRIER, 500)
    bench.answer(SECOND, 404)
    bench.wait(2.1)
    assert bench.statuses() == [100, 404]
    assert bench.finished() == [("failed", 404, "b")]


def test_a_503_goes_up_as_500() -> None:
    """E-08: §16.7 step 6: otherwise the PBX would take us for overloaded."""
    bench = Bench(A, fail_over=[503])
    bench.answer(CARRIER, 503, added=["Retry-After: 9", "X-Why: full"])
    up = read_response(bench.sent_to(PBX)[-1])
    assert (up.status, up.reason, up.header("X-Why")) == (500, "Server Internal Error", "full")


def test_a_transport_that_fails_is_left_at_once() -> None:
    """E-08: no waiting for a deadline; when none is left the caller gets 500."""
    bench = Bench(A, B)
    bench.stack.transport_failed(CARRIER, bench.now)
    bench.collect()
    assert bench.attempts() == [("a", None, "unreachable")]
    assert len(bench.sent_to(SECOND)) == 1
    bench.stack.transport_failed(SECOND, bench.now)
    bench.collect()
    assert bench.statuses() == [100, 500]
    assert bench.finished() == [("failed", 500, None)]


def test_a_transport_error_after_a_1xx_changes_nothing() -> None:
    """E-08: the far end has the call."""
    bench = Bench(A, B)
    bench.answer(CARRIER, 180)
    bench.stack.transport_failed(CARRIER, bench.now)
    bench.collect()
    assert bench.attempts() == []
    bench.answer(CARRIER, 200)
    assert bench.statuses() == [100, 180, 200]


def test_on_a_stream_the_connect_limit_counts_until_connected() -> None:
    """E-08: connect 1 s, then first response 2 s from there."""
    trunk = Target("a", Hop("tcp", "192.0.2.30", 5060), connect_s=1.0, first_response_s=2.0)
    bench = Bench(trunk, B)
    bench.wait(0.9)
    bench.stack.transport_connected(trunk.hop, bench.now)
    bench.wait(1.9)
    assert bench.sent_to(SECOND) == []
    bench.wait(0.2)
    assert len(bench.sent_to(SECOND)) == 1
    assert len(bench.sent_to(trunk.hop)) == 1  # nothing is repeated on a stream


def test_a_stream_that_never_connects_is_left_after_the_connect_limit() -> None:
    """E-08: and one that is known to stand is given the first response's time."""
    trunk = Target("a", Hop("tcp", "192.0.2.30", 5060))
    bench = Bench(trunk, B)
    bench.wait(1.1)
    assert len(bench.sent_to(SECOND)) == 1
    standing = Bench()
    standing.stack.transport_connected(trunk.hop, 0.0)
    standing.go(trunk, B)
    standing.wait(1.1)
    assert standing.sent_to(SECOND) == []
    standing.stack.transport_failed(trunk.hop._replace(connection=7), standing.now)
    standing.collect()
    assert standing.attempts() == [("a", None, "unreachable")]


def test_cancel_is_answered_and_passed_on_when_it_rings() -> None:
    """E-08: 200 for the CANCEL, CANCEL downstream, 487 up when it came, ACK for it down."""
    bench = Bench(A, B)
    bench.answer(CARRIER, 180)
    bench.receive(cancel(), PBX)
    assert bench.statuses() == [100, 180, 200]
    assert bench.first_lines(CARRIER)[-1].startswith("CANCEL ")
    bench.receive(response(bench.sent_to(CARRIER)[-1], 200), CARRIER)
    bench.answer(CARRIER, 487)
    assert bench.statuses() == [100, 180, 200, 487]
    assert bench.attempts() == [("a", 487, "cancelled")]
    assert bench.finished() == [("cancelled", 487, "a")]
    assert bench.sent_to(SECOND) == []


def test_cancel_before_any_response_waits_for_the_first_1xx() -> None:
    """E-08: §9.1."""
    bench = Bench(A, B)
    bench.receive(cancel(), PBX)
    assert not any(line.startswith("CANCEL") for line in bench.first_lines(CARRIER))
    bench.answer(CARRIER, 100)
    assert bench.first_lines(CARRIER)[-1].startswith("CANCEL ")


def test_cancel_stops_failover() -> None:
    """E-08: a silent target's deadline then ends the call."""
    bench = Bench(A, B)
    bench.receive(cancel(), PBX)
    bench.wait(2.1)
    assert bench.sent_to(SECOND) == []
    assert bench.statuses()[:3] == [100, 200, 487]
    assert bench.attempts() == [("a", None, "cancelled")]
    assert bench.finished() == [("cancelled", 487, None)]


def test_cancel_stops_failover_of_a_status_too() -> None:
    """E-08: whatever the target says now goes up."""
    bench = Bench(A, B, fail_over=[503, 488])
    bench.answer(CARRIER, 180)
    bench.receive(cancel(), PBX)
    bench.answer(CARRIER, 503)
    assert bench.sent_to(SECOND) == []
    assert bench.statuses() == [100, 180, 200, 500]
    assert bench.finished() == [("failed", 500, "a")]


def test_a_2xx_that_beats_the_cancel_is_forwarded() -> None:
    """E-08: the race is decided downstream."""
    bench = Bench(A)
    bench.answer(CARRIER, 180)
    bench.receive(cancel(), PBX)
    bench.answer(CARRIER, 200)
    assert bench.statuses() == [100, 180, 200, 200]
    assert bench.finished() == [("answered", 200, "a")]


def test_a_cancelled_target_that_never_ends_is_ended_for_it() -> None:
    """E-08: §9.1: 64*T1 after the CANCEL; nothing stays behind."""
    bench = Bench(A)
    bench.answer(CARRIER, 180)
    bench.receive(cancel(), PBX)
    bench.wait(32.1)
    assert 487 in bench.statuses()
    assert bench.finished() == [("cancelled", 487, None)]
    bench.wait(70)
    assert bench.stack.transaction_counts == (0, 0)
    assert bench.stack.next_timer() is None


def test_cancel_before_the_hook_decided_ends_the_call_at_once() -> None:
    """E-08: the hook's answer comes too late and sends nothing."""
    bench = Bench()
    bench.receive(cancel(), PBX)
    assert bench.statuses() == [100, 200, 487]
    bench.go(A)
    assert bench.sent_to(CARRIER) == []
    assert bench.finished() == [("cancelled", 487, None)]
    bench.stack.respond(bench.transaction, 404, now=bench.now)
    bench.collect()
    assert bench.statuses() == [100, 200, 487]


def test_a_cancel_of_nothing_is_answered_481_and_a_second_one_absorbed() -> None:
    """E-18: §16.10."""
    stack = make_stack()
    stack.receive(cancel(), PBX, 0.0)
    assert [read_response(data).status for data, _ in drain(stack)[1]] == [481]
    bench = Bench(A)
    bench.answer(CARRIER, 180)
    bench.receive(cancel(), PBX)
    bench.receive(cancel(), PBX)
    assert bench.statuses() == [100, 180, 200, 200]
    assert bench.first_lines(CARRIER)[-1].startswith("CANCEL ")
    assert len(bench.sent_to(CARRIER)) == 2


def test_a_cancel_from_another_address_is_refused() -> None:
    """E-04: whoever overheard a branch cannot end an emergency call."""
    stranger = Hop("udp", "203.0.113.9", 5060)
    bench = Bench(A, stack=make_stack(is_trusted=lambda hop: hop.ip != stranger.ip))
    bench.answer(CARRIER, 180)
    bench.receive(cancel(), stranger)
    assert [read_response(data).status for data in bench.sent_to(stranger._replace(port=PBX.port))] == [481]
    assert len(bench.sent_to(CARRIER)) == 1


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_a_cancel_on_another_connection_is_known_by_its_branch(transport: str) -> None:
    """E-18: §9.2: a PBX that writes each connection's own port into Via opened a second one meanwhile."""
    first, second = Hop(transport, PBX.ip, 40_001, 1), Hop(transport, PBX.ip, 40_002, 2)
    stack = make_stack(is_trusted=lambda hop: hop.ip == PBX.ip)
    stack.receive(request(source=first), first, 0.0)
    received = drain(stack)[0][0]
    assert isinstance(received, RequestReceived)
    stack.forward(received.transaction, Forward((A,), tag="call"), 0.0)
    sent = drain(stack)[1]
    stack.receive(response(sent[-1][0], 180), CARRIER, 0.1)
    drain(stack)
    elsewhere = Hop(transport, "203.0.113.9", 40_002, 3)
    for wrong in (request("CANCEL", source=second, branch="z9hG4bKother"), request("CANCEL", source=elsewhere)):
        source = elsewhere if b"203.0.113.9" in wrong else second
        stack.receive(wrong, source, 0.2)
        assert [read_response(data).status for data, _ in drain(stack)[1]] == [481]
    stack.receive(request("CANCEL", source=second), second, 0.3)
    out = drain(stack)[1]
    assert [(data.split(b"\r\n")[0], hop) for data, hop in out if hop == second] == [(b"SIP/2.0 200 OK", second)]
    assert [data.split(b" ")[0] for data, hop in out if hop == CARRIER] == [b"CANCEL"]
    for now in (100.0, 200.0, 300.0):
        stack.handle_timer(now)
        drain(stack)
    stack.receive(request("CANCEL", source=second), second, 300.1)
    assert [read_response(data).status for data, _ in drain(stack)[1]] == [481]


def test_a_cancel_of_the_same_caller_by_another_way_is_obeyed() -> None:
    """E-18: §9.1: a PBX with two addresses; but a peer that names another call ends nobody's."""
    other_way = Hop("udp", "192.0.2.21", 5060)
    bench = Bench(A)
    bench.answer(CARRIER, 180)
    for wrong in ({"call_id": "other"}, {"from_tag": "mallory"}, {"cseq": 2}):
        bench.receive(request("CANCEL", **wrong), other_way)
    assert not any(line.startswith("CANCEL") for line in bench.first_lines(CARRIER))
    bench.receive(request("CANCEL", to_tag="of-the-180"), other_way)  # some senders repeat that tag: they are heard
    assert bench.first_lines(CARRIER)[-1].startswith("CANCEL ")
    assert bench.stack.refused["stray_cancel", 481] == 3


OTHERS: list[dict[str, Any]] = [{"call_id": "other"}, {"from_tag": "mallory"}, {"cseq": 99}]


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_a_phone_behind_the_same_address_cancels_nobody_elses_call(transport: str) -> None:
    """E-04: §9.1: on the caller's connection or another, one field that differs is another call; the caller may still
    cancel, at once."""
    first, second = Hop(transport, PBX.ip, 40_001, 1), Hop(transport, PBX.ip, 40_002, 2)
    stack = make_stack()
    ringing(stack, first)
    for source in (first, second):
        for wrong in OTHERS:
            stack.receive(request("CANCEL", source=first if transport == "udp" else source, **wrong), source, 0.2)
            assert [read_response(data).status for data, _ in drain(stack)[1]] == [481], (source, wrong)
    stack.receive(request("CANCEL", source=first), first, 0.3)
    out = drain(stack)[1]
    assert [(data[:11], hop.ip) for data, hop in out] == [(b"SIP/2.0 200", PBX.ip), (b"CANCEL sip:", CARRIER.ip)]


def test_two_phones_behind_one_address_with_the_same_branch_cancel_their_own_calls() -> None:
    """E-18: §8.1.1.7 is not kept by all; each opened another connection to cancel."""
    stack = make_stack()
    for number, name in enumerate(("alice", "bob"), 1):
        ringing(stack, Hop("tcp", PBX.ip, 40_000 + number, number), call_id=name, from_tag=name)
    for number, name in enumerate(("alice", "bob"), 3):
        source = Hop("tcp", PBX.ip, 40_000 + number, number)
        stack.receive(request("CANCEL", source=source, call_id=name, from_tag=name), source, 0.2)
        cancelled = [read_request(data) for data, hop in drain(stack)[1] if hop == CARRIER]
        assert [(one.method, one.call_id) for one in cancelled] == [("CANCEL", name)]


def test_a_call_on_a_stream_is_cancelled_however_many_came_and_went_since() -> None:
    """E-18: what is kept for a CANCEL on another connection are the calls that ring, and no others."""
    first, second = Hop("tcp", PBX.ip, 40_001, 1), Hop("tcp", PBX.ip, 40_002, 2)
    stack = make_stack()
    ringing(stack, first)
    for number in range(5_000):
        stack.receive(request(source=first, branch=f"z9hG4bK{number}", call_id=f"{number}"), first, 0.2)
        (received,) = drain(stack)[0]
        assert isinstance(received, RequestReceived)
        stack.respond(received.transaction, 486, now=0.2)
        drain(stack)
    assert len(stack._transactions._invites_on_streams) == 1
    stack.receive(request("CANCEL", source=second), second, 0.3)
    assert [data[:6] for data, hop in drain(stack)[1] if hop == CARRIER] == [b"CANCEL"]
    stack.handle_timer(100.0)
    drain(stack)
    assert stack._transactions._invites_on_streams == {}


def ringing(stack: SipStack, source: Hop, *, call_id: str = "call-1@192.0.2.20", from_tag: str = "alice") -> None:
    """A call from there that rings at the carrier."""
    stack.receive(request(source=source, call_id=call_id, from_tag=from_tag), source, 0.0)
    (received,) = drain(stack)[0]
    assert isinstance(received, RequestReceived)
    stack.forward(received.transaction, Forward((A,), tag="call"), 0.0)
    stack.receive(response(drain(stack)[1][-1][0], 180), CARRIER, 0.1)
    drain(stack)


def test_a_cancel_after_the_answer_changes_nothing() -> None:
    """E-18: 200 for the CANCEL, the call stands."""
    bench = Bench(A)
    bench.answer(CARRIER, 200)
    bench.receive(cancel(), PBX)
    assert bench.statuses() == [100, 200, 200]
    assert len(bench.sent_to(CARRIER)) == 1


def test_timer_c_ends_a_call_that_rings_for_ever() -> None:
    """E-18: §16.8, restarted by each 1xx; then CANCEL, and 408 up."""
    bench = Bench(A)
    bench.answer(CARRIER, 180)
    bench.wait(180)
    bench.answer(CARRIER, 180)
    bench.wait(180)
    assert bench.attempts() == []
    bench.wait(6)
    assert any(line.startswith("CANCEL") for line in bench.first_lines(CARRIER))
    assert bench.attempts() == [("a", None, "timeout")]
    assert 408 in bench.statuses()
    bench.wait(100)
    assert bench.stack.transaction_counts == (0, 0)


def test_an_emergency_call_may_wait_in_the_psaps_queue() -> None:
    """E-08: one 183 and then music for ten minutes."""
    bench = Bench(A, emergency=True)
    bench.answer(CARRIER, 183)
    bench.wait(600)
    assert bench.attempts() == []
    bench.answer(CARRIER, 200)
    assert bench.statuses() == [100, 183, 200]


def test_a_retransmitted_invite_gets_the_last_provisional_again() -> None:
    """E-18: Figure 7; it reaches the carrier once."""
    bench = Bench(A)
    bench.receive(bench.invite, PBX)
    bench.answer(CARRIER, 180)
    bench.receive(bench.invite, PBX)
    assert bench.statuses() == [100, 100, 180, 180]
    bench.answer(CARRIER, 200)
    bench.receive(bench.invite, PBX)
    assert bench.statuses() == [100, 100, 180, 180, 200]  # absorbed in Accepted (RFC 6026)
    assert len(bench.sent_to(CARRIER)) == 1


def test_a_refusal_is_repeated_until_acknowledged() -> None:
    """E-18: timer G on UDP: 0.5, 1, 2, 4, 4 …; silent after the ACK."""
    bench = Bench(A)
    bench.answer(CARRIER, 486)
    bench.wait(4.0)
    assert bench.statuses() == [100, 486, 486, 486, 486]
    up = read_response(bench.sent_to(PBX)[-1])
    bench.receive(request("ACK", to_tag=up.to_tag or ""), PBX)
    bench.wait(60)
    assert bench.statuses() == [100, 486, 486, 486, 486]
    assert bench.stack.transaction_counts == (0, 0)
    assert [line.split()[0] for line in bench.first_lines(CARRIER)] == ["INVITE", "ACK"]


def test_a_repeated_refusal_is_acknowledged_again() -> None:
    """E-18: Figure 5, Completed."""
    bench = Bench(A)
    bench.answer(CARRIER, 486)
    bench.answer(CARRIER, 486)
    acks = [data for data in bench.sent_to(CARRIER) if data.startswith(b"ACK")]
    assert len(acks) == 2
    assert acks[0] == acks[1]
    assert b"To: <sip:911@192.0.2.10>;tag=carrier\r\n" in acks[0]
    assert bench.statuses() == [100, 486]


def test_without_targets_the_caller_gets_480() -> None:
    """E-08: the account has no trunk at all."""
    bench = Bench()
    bench.go()
    assert bench.statuses() == [100, 480]
    assert bench.finished() == [("failed", 480, None)]


def test_a_message_is_proxied_and_its_silence_is_not_made_a_408() -> None:
    """E-18: RFC 4320 §4.2."""
    bench = Bench(Target("a", CARRIER, first_response_s=0.0), method="MESSAGE")
    assert bench.statuses() == []
    bench.wait(33)
    assert len(bench.sent_to(CARRIER)) == 11  # timer E: 0, .5, 1.5, 3.5, 7.5, then every 4 s
    assert bench.statuses() == [100]  # after 3.5 s (§4.1)
    assert bench.attempts() == [("a", None, "timeout")]
    bench.receive(bench.invite, PBX)  # overtaken on its way: not a new request
    assert len(bench.sent_to(CARRIER)) == 11
    bench.wait(33)
    assert bench.stack.transaction_counts == (0, 0)


def test_a_message_fails_over_too_and_a_1xx_slows_its_repetition() -> None:
    """E-18: timer E at T2 in Proceeding."""
    bench = Bench(A, B, method="MESSAGE")
    bench.wait(2.1)
    assert bench.attempts() == [("a", None, "timeout")]
    answer = response(bench.sent_to(SECOND)[0], 100)
    bench.receive(answer, SECOND)
    bench.wait(4.1)
    assert len(bench.sent_to(SECOND)) == 2  # at 0 and 0.5 s, and then every 4 s
    bench.receive(response(bench.sent_to(SECOND)[0], 202), SECOND)
    assert bench.statuses() == [100, 202]
    assert bench.finished() == [("answered", 202, "b")]


def test_provisional_responses_are_events_and_100_stays_here() -> None:
    """E-12: the ladder of the call."""
    bench = Bench(A)
    for status in (100, 180, 183):
        bench.answer(CARRIER, status)
    assert [e.status for e in bench.events if isinstance(e, ProvisionalReceived)] == [100, 180, 183]
    assert bench.statuses() == [100, 180, 183]


def test_what_was_sent_is_in_the_event_byte_for_byte() -> None:
    """E-12: INVITE as sent."""
    bench = Bench(A)
    started = next(event for event in bench.events if isinstance(event, AttemptStarted))
    assert started.sent == bench.sent_to(CARRIER)[0]
    assert not started.with_location


def test_a_bye_from_the_carrier_ends_the_dialog_too() -> None:
    """E-12: tags are swapped in a request of the called side; the mark still fits."""
    network = Network(make_stack(), decide=forward_to(A))
    caller, callee = Caller(network, talk_s=1000.0), Callee(network)
    caller.call()
    network.run(2.0)
    invite = callee.requests[0]
    bye = request(
        "BYE", "sip:101@192.0.2.20:5060", source=CARRIER, branch="z9hG4bKcarrier", call_id=caller.call_id,
        from_tag="carrier", to_tag="alice", routes=invite.headers("Record-Route"),
    )  # fmt: skip
    caller.script = lambda agent, got: agent.send(response(got.raw, 200))
    callee.send(bye)
    network.run(4.0)
    assert caller.methods() == ["BYE"]
    assert [event.tag for event in network.of(DialogEnded)] == ["call"]


def test_a_challenged_bye_does_not_end_the_dialog() -> None:
    """E-12: 407 means it comes again."""
    network = Network(make_stack(), decide=forward_to(A))
    caller = Caller(network, talk_s=1000.0)
    statuses = iter([407, 200])

    def script(agent: object, got: Request) -> None:
        if got.method == "INVITE":
            callee.send(response(got.raw, 200))
        elif got.method == "BYE":
            callee.send(response(got.raw, next(statuses)))

    from tests.siptest import UserAgent

    callee = UserAgent(network, CARRIER, script)
    caller.call()
    network.run(1.0)
    for cseq in (2, 3):
        assert caller.answer is not None
        caller.send(caller._in_dialog("BYE", caller.answer, cseq=cseq))
        network.run(network.now + 1.0)
        assert len(network.of(DialogEnded)) == cseq - 2


def test_an_untagged_call_is_silent() -> None:
    """E-18: ordinary traffic leaves no events behind."""
    bench = Bench()
    bench.stack.forward(bench.transaction, Forward((A,)), 0.0)
    bench.collect()
    bench.answer(CARRIER, 180)
    bench.answer(CARRIER, 200)
    assert bench.events == []
    assert bench.statuses() == [100, 180, 200]


def test_the_stack_is_a_stack() -> None:
    """E-18: the bench drives the real one."""
    assert isinstance(Bench().stack, SipStack)
