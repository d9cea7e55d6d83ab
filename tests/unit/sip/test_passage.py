"""A message's way through the element: what leaves first (feature row E-03)."""

from engine.sip.events import Event, RequestReceived
from engine.sip.forward import Forward, Hop, Target
from engine.sip.passage import Passage
from tests.siptest import PBX, make_stack, request

CARRIER = Hop("udp", "203.0.113.5", 5060)
NOW = 7.0


def passed(*, is_emergency: bool) -> tuple[list[tuple[bytes, Hop]], int]:
    """(what left, in order; how much of it had left when the decision was through)."""
    sent: list[tuple[bytes, Hop]] = []
    left: list[int] = []
    stack = make_stack()

    def decide(event: Event, now: float) -> None:
        if isinstance(event, RequestReceived):
            stack.forward(event.transaction, Forward((Target("trunk_1", CARRIER),), emergency=is_emergency), now)
            if is_emergency:
                passage.send_newest_first()
            left.append(len(sent))

    passage = Passage(clock=lambda: NOW, hears=lambda _hop, _now: True, decide=decide)
    passage.lead_to(stack, sent.extend)
    passage.receive(request(), PBX)
    return sent, left[0]


def test_the_invite_of_a_911_leaves_before_its_100_and_before_anything_else_is_done_for_it() -> None:
    """E-03: each datagram costs a send, and the responders' way begins with this one."""
    sent, left = passed(is_emergency=True)
    assert [(data[:11], hop) for data, hop in sent] == [(b"INVITE sip:", CARRIER), (b"SIP/2.0 100", PBX)]
    assert left == 2


def test_any_other_call_leaves_in_the_order_it_was_dealt_with() -> None:
    """E-18: the 100 first, so that the caller stops repeating; once the decision is through."""
    sent, left = passed(is_emergency=False)
    assert [(data[:11], hop) for data, hop in sent] == [(b"SIP/2.0 100", PBX), (b"INVITE sip:", CARRIER)]
    assert left == 0
