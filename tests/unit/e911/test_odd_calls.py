"""What PBXs and carriers are free to do and seldom do, through the real hook and the real element."""

from engine.sip.events import Finished
from tests.siptest import CARRIER, SDP, SECOND, UserAgent, request, response, route_set
from tests.unit.e911.test_failover import answering, attempts_of, outcome_of, world

OFFER_LATER = b""


def test_a_call_without_an_offer_gets_its_location_and_the_answer_goes_in_the_ack():
    """E-06: an INVITE without SDP (RFC 3261 §13.2.1) carries the location alone."""
    network, caller = world()
    carrier = answering(network, CARRIER, 180, 200)
    caller.call(body=OFFER_LATER)
    network.run(until=0.5)
    assert outcome_of(network) == ("answered", 200)
    (invite,) = [got for got in carrier.requests if got.method == "INVITE"]
    assert b"application/pidf+xml" in invite.body
    assert b"application/sdp" not in invite.body


def early(network, hop, *, refuses):
    """A carrier with a reliable 183 of a dialog of its own, then 503 or, a second later, 200. Answers PRACK."""
    contact, tag = f"sip:gateway@{hop.ip}:5060", f"at-{hop.ip}"

    def script(agent, got):
        if got.method == "INVITE":
            more = ["Require: 100rel", "RSeq: 7"]
            agent.send(response(got.raw, 183, to_tag=tag, contact=contact, added=more, body=SDP))
            final = response(got.raw, 503 if refuses else 200, to_tag=tag, contact=contact)
            network.after(0.5 if refuses else 1.0, lambda: agent.send(final))
        elif got.method != "ACK":
            agent.send(response(got.raw, 200))

    return UserAgent(network, hop, script)


def prack(answer, cseq):
    return request(
        "PRACK", answer.header("Contact").strip("<>"), branch=f"z9hG4bKprack{cseq}", call_id="call-1", cseq=cseq,
        to_tag=answer.to_tag, routes=route_set(answer), added=["RAck: 7 1 INVITE"],
    )  # fmt: skip


def test_early_media_of_a_trunk_that_then_fails_gives_way_to_that_of_the_next():
    """E-18: each 183 is an early dialog of its own (RFC 3261 §12.1), and each PRACK finds the trunk it is for."""
    network, caller = world()
    trunks = [early(network, CARRIER, refuses=True), early(network, SECOND, refuses=False)]
    caller.call(added=["Supported: 100rel"])
    for cseq, until in ((2, 0.3), (3, 1.0)):
        network.run(until=until)
        caller.send(prack([answer for answer in caller.responses if answer.status == 183][-1], cseq))
    network.run(until=4.0)
    assert attempts_of(network) == [("first", 503, "refused"), ("second", 200, "answered")]
    assert [trunk.methods().count("PRACK") for trunk in trunks] == [1, 1]
    assert "BYE" in trunks[1].methods()
    assert "BYE" not in trunks[0].methods()


def test_a_psap_that_hangs_up_before_the_ack_reaches_the_caller():
    """E-18: BYE overtakes ACK (RFC 3261 §15); the call was answered, and nobody else is tried."""
    network, caller = world()

    def script(agent, got):
        if got.method == "INVITE":
            answer = response(got.raw, 200, contact=f"sip:psap@{CARRIER.ip}:5060")
            agent.send(answer)
            hung_up.append(got)

    hung_up = []
    carrier = UserAgent(network, CARRIER, script)
    second = answering(network, SECOND, 200)
    caller.call()
    network.run(until=0.021)
    route = [each.strip() for line in hung_up[0].headers("Record-Route") for each in line.split(",")]
    lines = [
        f"BYE sip:101@{caller.hop.ip}:5060 SIP/2.0", f"Via: SIP/2.0/UDP {CARRIER.ip}:5060;branch=z9hG4bKearlybye",
        *(f"Route: {each}" for each in route), "From: <sip:911@192.0.2.10>;tag=carrier",
        'To: "Alice" <sip:101@192.0.2.20>;tag=alice', "Call-ID: call-1", "CSeq: 1 BYE", "Max-Forwards: 70",
        "Content-Length: 0", "", "",
    ]  # fmt: skip
    carrier.send("\r\n".join(lines).encode())
    network.run(until=0.9)
    assert set(caller.methods()) == {"BYE"}
    assert [event.outcome for event in network.of(Finished)] == ["answered"]
    assert second.requests == []
