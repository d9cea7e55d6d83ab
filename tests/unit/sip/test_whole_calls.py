"""Whole calls through the stack in memory: no sockets, a clock of our own."""

import pytest

from engine.sip.forward import Target
from engine.sip.stack import AttemptEnded, AttemptStarted, DialogEnded, Finished, ProvisionalReceived
from tests.siptest import CARRIER, Callee, Caller, Network, forward_to, make_stack


def test_a_call_is_set_up_and_ended_through_the_proxy() -> None:
    """E-18: INVITE, 100, 180, 200, ACK, BYE, 200; every message passes once."""
    network = Network(make_stack(), decide=forward_to(Target("a", CARRIER)))
    caller, callee = Caller(network), Callee(network)
    caller.call()
    network.run(10.0)
    assert caller.statuses() == [100, 180, 200, 200]
    assert callee.methods() == ["INVITE", "ACK", "BYE"]
    kinds = [type(event) for event in network.events][1:]
    assert kinds == [AttemptStarted, ProvisionalReceived, AttemptEnded, Finished, DialogEnded]
    network.run(60.0)
    assert network.stack.transaction_counts == (0, 0)
    assert network.stack.next_timer() is None


@pytest.mark.parametrize("seed", range(40))
def test_a_call_comes_through_on_a_link_that_loses_and_reorders(seed: int) -> None:
    """E-18: a fifth of the datagrams lost, a third late: the call is answered, acknowledged and ended."""
    network = Network(
        make_stack(), loss=0.2, reorder=0.3, seed=seed, decide=forward_to(Target("a", CARRIER, first_response_s=16.0))
    )
    caller, callee = Caller(network), Callee(network)
    caller.call()
    network.run(120.0)
    assert caller.answer is not None
    assert callee.is_acknowledged
    assert caller.is_ended
    assert [event.outcome for event in network.of(Finished)] == ["answered"]
    assert len(network.of(DialogEnded)) == 1
    assert network.stack.transaction_counts == (0, 0)
