"""Nothing of a call that is over waits for the garbage collector: the SIP process runs with it switched off."""

import gc

import pytest

from engine.sip.context import Branch, ResponseContext
from engine.sip.forward import Target
from engine.sip.transaction import ClientTransaction, Repeat, ServerTransaction
from tests.siptest import CARRIER, PBX, SECOND, Callee, Caller, Network, UserAgent, forward_to, make_stack

OURS = (ServerTransaction, ClientTransaction, Branch, ResponseContext, Repeat)
OVER_S = 400.0  # timer C has run out too


def answered(network):
    Callee(network)
    Caller(network).call()


def busy(network):
    Callee(network, status=486)
    Caller(network).call()


def first_silent(network):
    UserAgent(network, CARRIER)
    Callee(network, SECOND)
    Caller(network).call()


def nobody_answers(network):
    UserAgent(network, CARRIER)
    UserAgent(network, SECOND)
    Caller(network).call()


def cancelled(network):
    Callee(network, ring_s=60.0)
    caller = Caller(network)
    caller.call()
    network.after(1.0, caller.cancel)


def refused_by_us(network):
    network.decide = lambda net, event: net.stack.respond(event.transaction, 404, now=net.now)
    Caller(network).call()


def decided_late(network):
    late = network.decide
    network.decide = lambda net, event: net.after(7.0, lambda: late(net, event))
    Caller(network).call()


def unreachable(network):
    Caller(network).call()
    network.after(0.1, lambda: network.stack.transport_failed(CARRIER, network.now))
    network.after(0.2, lambda: network.stack.transport_failed(SECOND, network.now))


def own_requests(network):
    for hop in (PBX, CARRIER):
        network.stack.send_request("OPTIONS", "sip:x", hop, (), b"", "ping", network.now, 3.0)
    Callee(network)


STORIES = [
    answered, busy, first_silent, nobody_answers, cancelled, refused_by_us, decided_late, unreachable, own_requests,
]  # fmt: skip


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_what_a_call_was_made_of_is_gone_when_it_is_over(story, loss):
    """E-18: with the collector off, no transaction, branch or message of an ended call is left in memory."""
    gc.collect()
    gc.freeze()  # what is there already is left out of what is looked at, here and by the collector
    gc.disable()
    try:
        targets = [Target("first", CARRIER), Target("second", SECOND)]
        network = Network(make_stack(), loss=loss, decide=forward_to(*targets, fail_over=range(500, 600)))
        story(network)
        network.run(until=OVER_S)
        assert network.stack.transaction_counts == (0, 0)
        network.events.clear()
        left = [each for each in gc.get_objects() if isinstance(each, OURS)]
        assert left == []
    finally:
        gc.enable()
