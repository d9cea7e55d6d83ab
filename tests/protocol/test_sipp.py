"""The edge between two SIPp: a foreign PBX and foreign carriers, over UDP and TCP, whole calls and broken ones."""

import contextlib
import email
import email.policy
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

from engine.crypto import KeyRing
from engine.e911.journal import JournalReader
from tests import peers
from tests.peers import CARRIER_IP, NODE_IP, OTHER_CARRIER_IP, Edge

SCENARIOS = Path(__file__).parent / "sipp"
CIVIC = "{urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr}"
both = pytest.mark.parametrize("transport", ["udp", "tcp"])


def scenario(name: str) -> Path:
    return SCENARIOS / f"{name}.xml"


@contextlib.contextmanager
def between(
    tmp_path: Path, keys: KeyRing, carrier: str, transport: str = "udp", first_response_s: float = 2.0
) -> Iterator[tuple[Edge, tuple[str, int]]]:
    """An edge whose one trunk is a SIPp carrier with that scenario, and the address a PBX uses."""
    with peers.sipp_carrier(tmp_path, scenario(carrier), transport=transport) as port:
        account = peers.one_account(peers.trunk(CARRIER_IP, port, transport=transport))
        options = {"first_response_s": first_response_s}
        with peers.edge(tmp_path, keys, tmp_path / "keys.toml", account, **options) as edge:
            yield edge, (edge.udp if transport == "udp" else edge.tcp)


def requests(folder: Path, name: str, method: str) -> list[bytes]:
    """Requests of that method that a SIPp received, repetitions included."""
    return [message for message in peers.sipp_messages(folder, name) if message.startswith(method.encode() + b" ")]


def header(message: bytes, name: str) -> list[str]:
    lines = message.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return [line.partition(":")[2].strip() for line in lines if line.lower().startswith(name.lower() + ":")]


def parts(message: bytes) -> dict[str, tuple[bytes, str]]:
    """The body's parts by type: (content, Content-ID). Read by Python's own mail parser, not by ours."""
    head, _, body = message.partition(b"\r\n\r\n")
    kind = header(head + b"\r\n\r\n", "Content-Type")[0]
    whole = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body, policy=email.policy.HTTP)
    assert whole.is_multipart(), kind
    assert not whole.defects, whole.defects
    return {
        part.get_content_type(): (part.get_payload(decode=True), str(part.get("Content-ID", "")))
        for part in whole.iter_parts()
    }


def sdp_of(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[2]


def recorded(tmp_path: Path, keys: KeyRing, kind: str) -> list[dict]:
    """The edge's journal, once it has stopped."""
    entries, _position = JournalReader(tmp_path / "journal", keys).read_from()
    return [entry for entry in entries if entry["type"] == kind]


@both
def test_a_911_call_reaches_the_carrier_whole_with_location_and_callback_number(
    tmp_path: Path, keys: KeyRing, transport: str
) -> None:
    """E-06: SIPp as the carrier receives PIDF-LO beside the caller's own SDP, Geolocation and the callback number."""
    with between(tmp_path, keys, "carrier_answer", transport) as (_edge, address):
        peers.sipp_calls(tmp_path, scenario("pbx_call"), address, transport=transport)
    invite = requests(tmp_path, "carrier", "INVITE")[0]
    assert invite.startswith(b"INVITE sip:911@")
    assert header(invite, "P-Asserted-Identity") == [f"<sip:+15185550101@{CARRIER_IP}>"]
    assert header(invite, "Priority") == ["emergency"]
    assert header(invite, "Geolocation-Routing") == ["yes"]
    body = parts(invite)
    sent = next(message for message in peers.sipp_messages(tmp_path, "pbx", "sent") if message.startswith(b"INVITE"))
    assert body["application/sdp"][0].rstrip(b"\r\n") == sdp_of(sent).rstrip(b"\r\n")
    pidf, content_id = body["application/pidf+xml"]
    assert header(invite, "Geolocation") == [f"<cid:{content_id.strip('<>')}>"]
    address_fields = {each.tag.removeprefix(CIVIC): each.text for each in etree.fromstring(pidf).iter(f"{CIVIC}*")}
    assert {"HNO": "120", "A3": "Albany", "FLR": "4", "ROOM": "412"}.items() <= address_fields.items()
    assert len(requests(tmp_path, "carrier", "ACK")) == len(requests(tmp_path, "carrier", "BYE")) == 1
    assert [entry["outcome"] for entry in recorded(tmp_path, keys, "outcome")] == ["answered"]
    assert len(recorded(tmp_path, keys, "ended")) == 1


@both
def test_a_933_call_takes_the_same_way_to_the_read_back_line(tmp_path: Path, keys: KeyRing, transport: str) -> None:
    """S0-18: a test call is carried like a 911 call, location included, to the test line, and recorded as a test."""
    with between(tmp_path, keys, "carrier_answer", transport) as (_edge, address):
        peers.sipp_calls(tmp_path, scenario("pbx_call"), address, number="933", transport=transport)
    invite = requests(tmp_path, "carrier", "INVITE")[0]
    assert invite.startswith(b"INVITE sip:933@")
    assert b"<" in parts(invite)["application/pidf+xml"][0]
    assert header(invite, "Priority") == []
    (call,) = recorded(tmp_path, keys, "call")
    assert (call["kind"], call["dialed"]) == ("test", "933")


@both
def test_a_caller_who_hangs_up_while_it_rings_is_cancelled_at_the_carrier(
    tmp_path: Path, keys: KeyRing, transport: str
) -> None:
    """E-08: CANCEL goes hop by hop, the 487 comes back, and the ACK ends it."""
    with between(tmp_path, keys, "carrier_cancelled", transport) as (_edge, address):
        peers.sipp_calls(tmp_path, scenario("pbx_cancel"), address, transport=transport)
        peers.until(lambda: requests(tmp_path, "carrier", "ACK"), "the carrier's 487 is acknowledged")
    assert len(requests(tmp_path, "carrier", "CANCEL")) == 1
    assert [entry["outcome"] for entry in recorded(tmp_path, keys, "outcome")] == ["cancelled"]


@both
def test_a_busy_callee_is_told_to_the_caller_and_tried_nowhere_else(
    tmp_path: Path, keys: KeyRing, transport: str
) -> None:
    """E-08: 486 comes from behind the trunk: the call was carried, so no other trunk is tried."""
    with between(tmp_path, keys, "carrier_busy", transport) as (_edge, address):
        peers.sipp_calls(tmp_path, scenario("pbx_busy"), address, transport=transport)
        peers.until(lambda: requests(tmp_path, "carrier", "ACK"), "the carrier's 486 is acknowledged")
    assert [entry["status"] for entry in recorded(tmp_path, keys, "attempt") if entry["status"]] == [486]


@both
def test_the_far_end_hangs_up_first(tmp_path: Path, keys: KeyRing, transport: str) -> None:
    """E-18: the callee's BYE finds the caller by the route set, through us."""
    with between(tmp_path, keys, "carrier_hangs_up", transport) as (_edge, address):
        peers.sipp_calls(tmp_path, scenario("pbx_hears_bye"), address, transport=transport)
    assert len(requests(tmp_path, "pbx", "BYE")) == 1
    assert len(recorded(tmp_path, keys, "ended")) == 1


@both
def test_a_carrier_that_answers_503_is_passed_over(tmp_path: Path, keys: KeyRing, transport: str) -> None:
    """E-08: the second trunk takes the call that the first refuses; the caller hears only the answer."""
    with (
        peers.sipp_carrier(tmp_path, scenario("carrier_503"), transport=transport, name="refusing") as bad,
        peers.sipp_carrier(
            tmp_path, scenario("carrier_answer"), transport=transport, ip=OTHER_CARRIER_IP, name="carrier"
        ) as good,
    ):
        account = peers.one_account(
            peers.trunk(CARRIER_IP, bad, transport=transport),
            peers.trunk(OTHER_CARRIER_IP, good, name="trunk_second", priority=20, transport=transport),
        )
        with peers.edge(tmp_path, keys, tmp_path / "keys.toml", account) as edge:
            address = edge.udp if transport == "udp" else edge.tcp
            peers.sipp_calls(tmp_path, scenario("pbx_call"), address, transport=transport)
        peers.until(lambda: requests(tmp_path, "refusing", "ACK"), "the 503 is acknowledged")
    assert "application/pidf+xml" in parts(requests(tmp_path, "carrier", "INVITE")[0])
    assert not any(message.startswith(b"SIP/2.0 503") for message in peers.sipp_messages(tmp_path, "pbx"))
    attempts = {(entry["trunk_id"], entry["outcome"]) for entry in recorded(tmp_path, keys, "attempt")}
    assert {("trunk_first", "refused"), ("trunk_second", "answered")} <= attempts


@both
def test_a_silent_carrier_is_given_up_by_its_deadline_and_the_next_has_the_call(
    tmp_path: Path, keys: KeyRing, transport: str
) -> None:
    """E-08: nothing at all from the first trunk: 2 s, far less than the 32 s of timer B."""
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with (
        socket.socket(socket.AF_INET, kind) as silent,
        peers.sipp_carrier(
            tmp_path, scenario("carrier_answer"), transport=transport, ip=OTHER_CARRIER_IP, name="carrier"
        ) as good,
    ):
        silent.bind((CARRIER_IP, 0))
        if transport == "tcp":
            silent.listen()  # the kernel takes the connection, nobody reads it
        account = peers.one_account(
            peers.trunk(CARRIER_IP, silent.getsockname()[1], transport=transport),
            peers.trunk(OTHER_CARRIER_IP, good, name="trunk_second", priority=20, transport=transport),
        )
        with peers.edge(tmp_path, keys, tmp_path / "keys.toml", account) as edge:
            address = edge.udp if transport == "udp" else edge.tcp
            peers.sipp_calls(tmp_path, scenario("pbx_call"), address, transport=transport)
    (call,), (outcome,) = recorded(tmp_path, keys, "call"), recorded(tmp_path, keys, "outcome")
    assert (outcome["outcome"], outcome["trunk_id"]) == ("answered", "trunk_second")
    assert 1.99 <= peers.seconds_between(call["received_at"], outcome["at"]) < 30.0


@both
def test_a_carrier_whose_inside_is_dead_keeps_one_call_waiting_and_not_the_next(
    tmp_path: Path, keys: KeyRing, transport: str
) -> None:
    """E-08: it answers OPTIONS all the while, and 911 with 100 alone: the next call begins at the other trunk."""
    with (
        peers.sipp_carrier(tmp_path, scenario("carrier_dead_inside"), transport=transport, name="dead") as dead,
        peers.sipp_carrier(
            tmp_path, scenario("carrier_answer"), transport=transport, ip=OTHER_CARRIER_IP, name="carrier"
        ) as good,
    ):
        account = peers.one_account(
            peers.trunk(CARRIER_IP, dead, transport=transport),
            peers.trunk(OTHER_CARRIER_IP, good, name="trunk_second", priority=20, transport=transport),
        )
        with peers.edge(tmp_path, keys, tmp_path / "keys.toml", account, ping_s=0.5) as edge:
            address = edge.udp if transport == "udp" else edge.tcp
            peers.sipp_calls(tmp_path, scenario("pbx_call"), address, transport=transport)
            asked = len(requests(tmp_path, "dead", "OPTIONS"))
            peers.until(lambda: len(requests(tmp_path, "dead", "OPTIONS")) > asked + 2, "it is pinged again")
            peers.sipp_calls(tmp_path, scenario("pbx_call"), address, transport=transport)
        told = [message for message in edge.messages.queue if message.get("is") == "trunk"]
    assert [len(requests(tmp_path, name, "INVITE")) for name in ("dead", "carrier")] == [1, 2]
    waited = {outcome["call"]: outcome["at"] for outcome in recorded(tmp_path, keys, "outcome")}
    first, second = (
        peers.seconds_between(call["received_at"], waited[call["id"]]) for call in recorded(tmp_path, keys, "call")
    )
    assert first > 6.0 > second
    of_dead = [(message["up"], message["detail"]) for message in told if message["trunk_id"] == "trunk_first"]
    assert of_dead[-1] == (False, "a call heard 100 and nothing more; it is tried last for 5 minutes")


def test_every_call_completes_over_a_path_that_loses_and_reorders(tmp_path: Path, keys: KeyRing) -> None:
    """E-18: a tenth of all datagrams lost and a fifth overtaken on both sides, and every call is whole."""
    calls = 20
    with peers.sipp_carrier(tmp_path, scenario("carrier_answer"), is_lenient=True) as port:
        to_carrier = peers.LossyRelay(CARRIER_IP, (CARRIER_IP, port), seed=911, lost=0.1, delayed=0.2)
        with to_carrier:
            account = peers.one_account(peers.trunk(*to_carrier.address))
            options = {"first_response_s": 12.0, "ping_s": 3600.0}
            with peers.edge(tmp_path, keys, tmp_path / "keys.toml", account, **options) as edge:
                to_edge = peers.LossyRelay(peers.PBX_IP, edge.udp, seed=933, lost=0.1, delayed=0.2)
                with to_edge:
                    peers.sipp_calls(
                        tmp_path,
                        scenario("pbx_call"),
                        to_edge.address,
                        calls=calls,
                        rate=5,
                        within_s=75,
                        is_lenient=True,
                    )
    for relay in (to_carrier, to_edge):
        assert relay.dropped > calls / 4
        assert relay.reordered > calls / 2
    outcomes = recorded(tmp_path, keys, "outcome")
    assert [entry["outcome"] for entry in outcomes] == ["answered"] * calls
    assert len({header(invite, "Call-ID")[0] for invite in requests(tmp_path, "carrier", "INVITE")}) == calls


def test_a_call_of_a_stranger_is_refused_and_does_not_reach_the_carrier(tmp_path: Path, keys: KeyRing) -> None:
    """E-04: the same INVITE from an address no PBX has is refused, so nobody can be swatted through us."""
    with between(tmp_path, keys, "carrier_answer") as (edge, address):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind((NODE_IP, 0))
            stranger.settimeout(60.0)
            own = "{}:{}".format(*stranger.getsockname())
            stranger.sendto(
                f"INVITE sip:911@{address[0]} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKs\r\nMax-Forwards: 70\r\n"
                f"From: <sip:x@{own}>;tag=s\r\nTo: <sip:911@{address[0]}>\r\nCall-ID: stranger@{own}\r\n"
                f"CSeq: 1 INVITE\r\nContact: <sip:x@{own}>\r\nContent-Length: 0\r\n\r\n".encode(),
                address,
            )
            answers = [stranger.recv(65_535)]
            if answers[0].startswith(b"SIP/2.0 100"):
                answers.append(stranger.recv(65_535))
        assert answers[-1].startswith(b"SIP/2.0 403")
        edge.hear("journal")
    assert requests(tmp_path, "carrier", "INVITE") == []
    (entry,) = recorded(tmp_path, keys, "stranger")
    assert (entry["source"]["ip"], entry["emergency"]) == (NODE_IP, True)
