"""From one trunk to the next: every final status, silence and the 2xx, through the real hook and the real element."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from engine.e911.carriers import CarrierProfile, CarrierProfiles, load_profiles
from engine.e911.civic import CivicAddress, DispatchableLocation
from engine.e911.hook import Hook
from engine.e911.location import AccountTable, LocationTable, Pbx, Trunk
from engine.e911.route import Deadlines
from engine.sip.events import AttemptEnded, AttemptStarted, Finished
from engine.sip.forward import Hop
from tests import siptest
from tests.siptest import CARRIER, PBX, SECOND, Caller, Network, UserAgent, make_stack, response

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
RELAY = Hop("udp", "192.0.2.32", 5060)
PLACE = DispatchableLocation("location_hq", "HQ", CivicAddress.of({"country": "US", "A1": "NY", "RD": "Main"}))


def world(*, profiles=None, trunks=None, profile="generic"):
    """A PBX and its element; the hook decides for three trunks, the last one of last resort."""
    table = LocationTable()
    rows = trunks or (
        Trunk("first", "First", 10, CARRIER.ip, profile=profile),
        Trunk("second", "Second", 20, SECOND.ip, profile=profile),
        Trunk("relay", "Relay", 1, RELAY.ip, profile=profile, last_resort=True),
    )
    table.put(
        AccountTable(
            "account_1",
            locations={PLACE.id: PLACE},
            default_location_id=PLACE.id,
            pbxs={"pbx_1": Pbx("pbx_1", "PBX", (ip_network(f"{PBX.ip}/32"),))},
            trunks=rows,
        )
    )
    counter = itertools.count(1)
    hook = Hook(
        table,
        profiles=profiles or load_profiles(),
        hops_of=lambda host, port, transport: (Hop(transport, host, port or 5060),),
        down=set(),
        trunk_ips={CARRIER.ip, SECOND.ip, RELAY.ip},
        deadlines=Deadlines(),
        proof_key=b"k" * 32,
        make_call_id=lambda: f"call_{next(counter)}",
    )

    def decide(network, event):
        decision = hook.decide(event.request, event.source, NOW)
        network.stack.forward(event.transaction, decision.forward, network.now)

    network = Network(make_stack(is_emergency=hook.is_emergency, is_trusted=hook.is_trusted), decide=decide)
    return network, Caller(network)


def answering(network, hop, *statuses, located=None):
    """A carrier that sends these statuses to each INVITE; `located`: those to an INVITE with a Geolocation header."""

    def script(agent, got):
        if got.method == "INVITE":
            for status in located if located is not None and got.header("Geolocation") else statuses:
                agent.send(response(got.raw, status, contact=f"sip:psap@{hop.ip}:5060"))

    return UserAgent(network, hop, script)


def outcome_of(network):
    (finished,) = network.of(Finished)
    return finished.outcome, finished.status


def attempts_of(network):
    return [(event.target.name, event.status, event.outcome) for event in network.of(AttemptEnded)]


FINAL = {486, 487, 600, 603}
RETRIED = {400, 413, 415, 424, 488, 493, 500, 501, 513, 606}


@pytest.mark.parametrize("status", [300, 302, 380, *range(400, 440), 480, *range(481, 500), *range(500, 514), 555, 580,
                                    600, 603, 604, 606, 607, 608])  # fmt: skip
def test_every_final_status_of_a_trunk_that_rang_goes_where_it_must(status):
    """E-08: all fail over but those from behind the trunk.

    What a peer says to a body it cannot read tries the same trunk without the location first.
    """
    network, caller = world()
    first = answering(network, CARRIER, 100, 180, status)
    second = answering(network, SECOND, 100, 200)
    caller.call()
    network.run(until=1.0)
    if status in FINAL:
        assert outcome_of(network) == ("failed", status)
        assert second.requests == []
        return
    assert outcome_of(network) == ("answered", 200)
    tries = [("first", status, "refused")] * (2 if status in RETRIED else 1)
    assert attempts_of(network) == [*tries, ("second", 200, "answered")]
    if status in RETRIED:
        located, plain = [got for got in first.requests if got.method == "INVITE"]
        assert located.header("Geolocation")
        assert (plain.header("Geolocation"), plain.body) == (None, siptest.SDP)
    assert [status for status in caller.statuses() if status >= 200] == [200]


@pytest.mark.parametrize(("status", "goes_on"), [(486, False), (600, True), (603, True)])
def test_a_decline_before_anything_rang_is_the_carrier_s_own(status, goes_on):
    """E-08: 603 of an analytics gate is no PSAP's word; 486 may be one that never rings."""
    network, caller = world()
    answering(network, CARRIER, 100, status)
    second = answering(network, SECOND, 180, 200)
    caller.call()
    network.run(until=1.0)
    assert bool(second.requests) is goes_on
    assert outcome_of(network) == (("answered", 200) if goes_on else ("failed", status))


def test_a_psap_that_declines_is_believed_where_the_profile_says_so():
    """E-08: NENA i3: 600 and 603 are policy of the PSAP, rung or not."""
    network, caller = world(profile="nena_i3")
    answering(network, CARRIER, 100, 603)
    second = answering(network, SECOND, 200)
    caller.call()
    network.run(until=1.0)
    assert (outcome_of(network), second.requests) == (("failed", 603), [])


def test_the_statuses_are_each_trunk_s_own():
    """E-07: what is final for one carrier is not for another in the same call."""
    generic = CarrierProfile()
    picky = replace(generic, name="picky", final_statuses=frozenset({404}), retry_without_location=frozenset({500}))
    trunks = (Trunk("first", "F", 10, CARRIER.ip), Trunk("second", "S", 20, SECOND.ip, profile="picky"))
    network, caller = world(profiles=CarrierProfiles({"generic": generic, "picky": picky}), trunks=trunks)
    answering(network, CARRIER, 404)
    second = answering(network, SECOND, 404, located=[500])
    caller.call()
    network.run(until=1.0)
    assert attempts_of(network) == [
        ("first", 404, "refused"), ("second", 500, "refused"), ("second", 404, "refused"),
    ]  # fmt: skip
    assert outcome_of(network) == ("failed", 404)
    assert len([got for got in second.requests if got.method == "INVITE"]) == 2


def test_silence_everywhere_ends_at_the_last_resort_by_our_own_clock():
    """E-08: 2 s for each silent trunk, and the last resort answers; every attempt with its time."""
    network, caller = world()
    silent = [answering(network, CARRIER), answering(network, SECOND)]
    answering(network, RELAY, 180, 200)
    caller.call()
    network.run(until=10.0)
    assert attempts_of(network) == [
        ("first", None, "timeout"), ("second", None, "timeout"), ("relay", 200, "answered"),
    ]  # fmt: skip
    started = [event.at for event in network.of(AttemptStarted)]
    ended = [event.at for event in network.of(AttemptEnded)]
    assert started[0] < 0.1
    assert [round(end - start, 3) for start, end in zip(started, ended, strict=True)][:2] == [2.0, 2.0]
    assert ended[2] < 4.5
    assert caller.statuses()[0] == 100
    assert all(len(agent.requests) > 1 for agent in silent)  # repeated over UDP until given up


def test_a_call_that_nobody_hears_with_its_location_is_answered_without():
    """E-03, E-08: where fragments are dropped, no trunk ever sees an INVITE of 2,000 bytes. After all of them it goes
    without the location to those that said nothing, as a request of its own (RFC 3261 §8.2.2.2).
    """
    network, caller = world()
    first = answering(network, CARRIER, 100, 180, 200, located=[])
    others = [answering(network, SECOND, located=[]), answering(network, RELAY, 503)]
    caller.call()
    network.run(until=20.0)
    assert attempts_of(network) == [
        ("first", None, "timeout"), ("second", None, "timeout"), ("relay", 503, "refused"), ("first", 200, "answered"),
    ]  # fmt: skip
    assert [event.with_location for event in network.of(AttemptStarted)] == [True, True, True, False]
    assert network.of(Finished)[0].at < 4.5
    assert outcome_of(network) == ("answered", 200)
    invites = [got for got in first.requests if got.method == "INVITE"]
    assert (invites[0].cseq, invites[-1].cseq, invites[-1].body) == ((1, "INVITE"), (2, "INVITE"), siptest.SDP)
    assert {"ACK", "BYE"} < set(first.methods())
    assert {answer.cseq[0] for answer in caller.responses if answer.cseq[1] == "INVITE"} == {1}
    assert all(agent.requests for agent in others)


def test_where_everybody_is_dead_two_are_asked_again_and_then_the_caller_knows():
    """E-08: whoever dials another way next must not wait for long."""
    network, caller = world()
    for hop in (CARRIER, SECOND, RELAY):
        answering(network, hop)
    caller.call()
    network.run(until=40.0)
    tried = [(name, outcome) for name, _, outcome in attempts_of(network)]
    assert tried == [(name, "timeout") for name in ("first", "second", "relay", "first", "second")]
    assert outcome_of(network) == ("failed", 408)
    assert network.of(Finished)[0].at < 10.5


def test_a_caller_who_gives_up_is_not_tried_without_location_either():
    """E-08: nor is one whose called party has declined at another trunk."""
    network, caller = world()
    for hop in (CARRIER, SECOND, RELAY):
        answering(network, hop)
    caller.call()
    network.after(5.0, caller.cancel)
    network.run(until=40.0)
    assert [name for name, _, _ in attempts_of(network)] == ["first", "second", "relay"]
    assert outcome_of(network)[0] == "cancelled"
    network, caller = world()
    answering(network, CARRIER)
    answering(network, SECOND, 180, 486)
    caller.call()
    network.run(until=40.0)
    assert ([name for name, _, _ in attempts_of(network)], outcome_of(network)) == (
        ["first", "second"],
        ("failed", 486),
    )


def test_nothing_is_tried_after_a_2xx():
    """E-08: an answer is an answer, even when the trunk drops the call at once."""
    network, caller = world()
    answering(network, CARRIER, 180, 200)
    second = answering(network, SECOND, 200)
    caller.call()
    network.run(until=40.0)
    assert second.requests == []
    assert outcome_of(network) == ("answered", 200)


def test_a_caller_who_gives_up_stops_the_search():
    """E-08: no further trunk is tried after CANCEL."""
    network, caller = world()
    answering(network, CARRIER)
    second = answering(network, SECOND, 200)
    caller.call()
    network.after(1.0, caller.cancel)
    network.run(until=40.0)
    assert second.requests == []
    assert outcome_of(network)[0] == "cancelled"
