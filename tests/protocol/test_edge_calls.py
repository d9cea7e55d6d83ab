"""911 and 933 through the SIP process on real sockets: what leaves, where it goes when a trunk fails, what is
recorded.
"""

import asyncio
import re
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import etree

from engine.e911 import references
from engine.e911.carriers import CarrierProfile
from engine.e911.peers import PROOF_PURPOSE, make_proof
from engine.e911.pidf import CA, read_pidf
from engine.edge.addresses import AddressBook
from engine.edge.line import Settings
from engine.sip.forward import Hop
from engine.sip.message import Request
from engine.sip.resolve import Name
from tests.protocol.edgetest import (
    CARRIER_IP,
    CIVIC,
    PBX_IP,
    SDP,
    SECOND_IP,
    STRANGER_IP,
    Carrier,
    Pbx,
    account,
    answering,
    edge,
    trunk,
)

TIMER_B_S = 32.0  # RFC 3261 §17.1.1.2: who forgot the deadlines would wait for that one


def recorded_s(entries, at):
    """Seconds between the call's INVITE coming in and a recorded time."""
    (call,) = [entry for entry in entries if entry["type"] == "call"]
    return (datetime.fromisoformat(at) - datetime.fromisoformat(call["received_at"])).total_seconds()


def parts(message):
    """(head, content) of each part of a multipart body, cut as RFC 2046 says."""
    boundary = message.header("Content-Type").partition('boundary="')[2].partition('"')[0].encode()
    pieces = (b"\r\n" + message.body).split(b"\r\n--" + boundary)
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    return [tuple(piece.removeprefix(b"\r\n").split(b"\r\n\r\n", 1)) for piece in pieces[1:-1]]


@pytest.mark.parametrize("pbx_transport", ["udp", "tcp"])
@pytest.mark.parametrize("carrier_transport", ["udp", "tcp"])
@pytest.mark.parametrize(("dialed", "kind"), [("911", "emergency"), ("933", "test")])
async def test_a_call_reaches_the_carrier_with_its_location(
    tmp_path, keys, cases, parties, pbx_transport, carrier_transport, dialed, kind
):
    """E-06: 911 and 933, UDP and TCP: Request-URI, callback number, PIDF-LO, SDP kept; then ACK, BYE and the whole
    record.
    """
    carrier = await parties(Carrier(carrier_transport, CARRIER_IP, answering))
    pbx = await parties(Pbx(pbx_transport, PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        call = await pbx.call(
            running.at(pbx_transport),
            f"sip:{dialed}@callpoint.example.com;user=phone",
            added=(
                "X-Callpoint-Device: 00:15:65:4A:A9:37",
                "P-Asserted-Identity: <sip:999@pbx>",
                "X-Odd:   kept  as it is",
            ),
        )
        answer = await call.final()
        assert answer.status == 200
        await call.within("ACK", answer, 1)
        await carrier.expect(lambda m: isinstance(m, Request) and m.method == "ACK")
        await call.within("BYE", answer, 2)
        await pbx.expect(lambda m: not isinstance(m, Request) and m.cseq == (2, "BYE") and m.status == 200)
        ended = await running.entry("ended")
        entries = await running.journal(lambda found: len(found) >= 4)

    (invite,) = carrier.invites
    assert invite.request_uri == f"sip:{dialed}@{CARRIER_IP}"
    assert invite.headers("P-Asserted-Identity") == [f"<sip:+15185550101@{CARRIER_IP}>"]
    assert invite.header("From") == '"Alice" <sip:101@192.0.2.20>;tag=pbx'
    assert invite.headers("X-Callpoint-Device") == []
    assert b"X-Odd:   kept  as it is\r\n" in invite.raw
    assert invite.headers("Geolocation-Routing") == ["yes"]
    assert invite.header("Priority") == ("emergency" if kind == "emergency" else None)
    (first, last) = parts(invite)
    assert first == (b"Content-Type: application/sdp", SDP)
    content_id = invite.header("Geolocation").removeprefix("<cid:").removesuffix(">")
    assert f"Content-ID: <{content_id}>".encode() in last[0]
    assert b"Content-Type: application/pidf+xml" in last[0]
    (conveyed,) = read_pidf(last[1])
    assert conveyed.civic_address.as_dict() == CIVIC
    assert conveyed.entity == "pres:101@192.0.2.20"
    civic = etree.fromstring(last[1]).find(f".//{{{CA}}}civicAddress")
    etree.XMLSchema(etree.parse(str(cases / "xml" / "civic" / "civicAddr.xsd"))).assertValid(etree.ElementTree(civic))

    recorded, attempt, outcome, _ = entries
    assert recorded["type"] == "call"
    assert (recorded["dialed"], recorded["kind"], recorded["account_id"]) == (dialed, kind, "account_acme")
    assert recorded["invite"].encode() == invite.raw.replace(b"\xff\xfe", b"\\xff\\xfe")
    assert recorded["location"]["civic_address"] == CIVIC
    assert (recorded["location_source"], recorded["flags"]) == ("phone", [])
    assert recorded["caller"] == {
        "name": "Front desk",
        "extension": "101",
        "sip_user": "101",
        "callback_number": "+15185550101",
        "phone_id": "phone_1",
        "line_id": "line_101",
        "mac": "0015654aa937",
        "source_ip": None,
        "uri": "sip:101@192.0.2.20",
    }
    assert recorded["peer"]["ip"] == PBX_IP
    assert recorded["received_at"] < recorded["sent_at"] <= attempt["ended_at"]
    assert (attempt["outcome"], attempt["status"], attempt["number"], attempt["with_location"]) == (
        "answered",
        200,
        1,
        True,
    )
    assert attempt["hop"] == f"{carrier_transport}:{CARRIER_IP}:{carrier.port}"
    assert (outcome["outcome"], outcome["status"], outcome["trunk_id"]) == ("answered", 200, "trunk_first")
    assert {entry["call"] for entry in (attempt, outcome, ended)} == {recorded["id"]}


async def test_an_unknown_location_never_stops_a_911_call(tmp_path, keys, parties):
    """E-03: the first law: nobody known calls from nowhere known, and the call arrives, flagged."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    nothing = account(trunk(carrier.hop), locations=[], phones=[], lines=[], callback_number=None)
    async with edge(tmp_path, keys, nothing) as running:
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200
        recorded = await running.entry("call")
    (invite,) = carrier.invites
    assert invite.body == SDP
    assert invite.header("Content-Type") == "application/sdp"
    assert invite.header("Geolocation") is None
    assert recorded["flags"] == ["location_unknown"]
    assert recorded["location"] is None
    assert recorded["location_source"] == "none"
    assert len(recorded["verdict"]) == 11


async def test_911_is_carried_from_the_snapshot_alone_when_the_database_is_gone(tmp_path, keys, parties):
    """E-03: the second law: no database file exists at all, the main process is gone, and the edge was started anew."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "account_broken.sealed").write_bytes(b"what is left of a torn disk")
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        running.process.stdin.close()
        await running.logs("main_process_gone")
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200
        recorded = await running.entry("call")
        assert "account_broken" in (await running.logs("snapshot_fault"))
    assert not list(tmp_path.glob("*.db"))
    assert recorded["location"]["name"] == "Headquarters"
    assert carrier.invites[0].header("Geolocation")


async def test_a_silent_trunk_gives_way_to_the_next_in_time(tmp_path, keys, parties):
    """E-08: after 2 s, the caller waiting on 100; not after the 32 s of timer B. What happens when
    is proven in virtual time in tests/unit/sip.
    """
    silent = await parties(Carrier("udp", CARRIER_IP, lambda _: []))
    second = await parties(Carrier("udp", SECOND_IP, answering))
    silent.is_silent = True
    pbx = await parties(Pbx("udp", PBX_IP))
    trunks = [trunk(silent.hop), trunk(second.hop, "trunk_second", 20)]
    async with edge(tmp_path, keys, account(*trunks), ping_s=0) as running:
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200
        entries = await running.journal(lambda found: any(e["type"] == "outcome" for e in found))
    assert pbx.statuses()[0] == 100
    attempts = [entry for entry in entries if entry["type"] == "attempt"]
    assert [(a["number"], a["outcome"], a["trunk_id"]) for a in attempts] == [
        (1, "timeout", "trunk_first"),
        (2, "answered", "trunk_second"),
    ]
    assert next(e for e in entries if e["type"] == "outcome")["trunk_id"] == "trunk_second"
    gave_up, answered = (recorded_s(entries, attempt["ended_at"]) for attempt in attempts)
    assert 1.99 <= gave_up < answered < TIMER_B_S  # the element's own deadline; clocks are read twice


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_trunk_that_refuses_the_connection_gives_way_at_once(tmp_path, keys, parties, transport):
    """E-08: on UDP an ICMP error says so. The deadlines are so far away that nothing else could lead to the next."""
    gone = await parties(Carrier(transport, CARRIER_IP, answering))
    second = await parties(Carrier("udp", SECOND_IP, answering))
    hop = gone.hop
    await gone.close()
    pbx = await parties(Pbx("udp", PBX_IP))
    trunks = account(trunk(hop), trunk(second.hop, "trunk_second", 20))
    async with edge(tmp_path, keys, trunks, ping_s=0, first_response_s=600.0, connect_s=600.0) as running:
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200
        entries = await running.journal(lambda found: any(e["type"] == "outcome" for e in found))
    refused, answered = [entry for entry in entries if entry["type"] == "attempt"]
    assert (refused["outcome"], answered["outcome"]) == ("unreachable", "answered")


async def test_a_trunk_whose_port_is_open_and_never_accepts_gives_way_at_the_connect_deadline(tmp_path, keys, parties):
    """E-08: a firewall that drops SYNs, an overloaded accept queue: 1 s, then the next. A first response is waited
    for so long here that only the deadline of the connection leads on.
    """
    full = socket.socket()
    full.bind((CARRIER_IP, 0))
    full.listen(0)
    fillers = [socket.socket() for _ in range(3)]
    for filler in fillers:  # the queue takes one or two; whatever comes after them waits
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
    second = await parties(Carrier("udp", SECOND_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    hop = Hop("tcp", *full.getsockname())
    try:
        rows = account(trunk(hop), trunk(second.hop, "trunk_second", 20))
        async with edge(tmp_path, keys, rows, ping_s=0, first_response_s=600.0) as running:
            call = await pbx.call(running.udp)
            assert (await call.final()).status == 200
            entries = await running.journal(lambda found: any(e["type"] == "outcome" for e in found))
    finally:
        for each in (*fillers, full):
            each.close()
    stalled, answered = [entry for entry in entries if entry["type"] == "attempt"]
    # "unreachable" when the attempt to connect that began ahead of the call was over first
    assert stalled["outcome"] in {"timeout", "unreachable"}
    assert answered["outcome"] == "answered"
    assert recorded_s(entries, stalled["ended_at"]) < recorded_s(entries, answered["ended_at"]) < TIMER_B_S


def test_the_deadlines_of_a_trunk_are_what_the_feature_says() -> None:
    """E-08: 2 s for a first response and 1 s for a connection, which leaves half a second for all the rest."""
    settings = Settings(Path(), Path())
    assert (settings.first_response_s, settings.connect_s) == (2.0, 1.0)


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 408, 415, 433, 480, 484, 500, 503, 606])
async def test_a_refusal_that_is_the_trunk_s_own_goes_on_to_the_next(tmp_path, keys, parties, status):
    """E-08: everything that does not come from behind the trunk fails over."""
    first = await parties(Carrier("udp", CARRIER_IP, lambda _: [100, status]))
    second = await parties(Carrier("udp", SECOND_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(first.hop), trunk(second.hop, "trunk_second", 20))) as running:
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200
    # what may have been said to the body is asked again without the location first
    assert len(first.invites) == (2 if status in CarrierProfile().retry_without_location else 1)
    assert len(second.invites) == 1


@pytest.mark.parametrize("status", [486, 600, 603])
async def test_an_answer_from_behind_the_trunk_is_the_caller_s(tmp_path, keys, parties, status):
    """E-08: a busy or declining answerer was reached; nobody else is tried."""
    first = await parties(Carrier("udp", CARRIER_IP, lambda _: [100, 180, status]))
    second = await parties(Carrier("udp", SECOND_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(first.hop), trunk(second.hop, "trunk_second", 20))) as running:
        call = await pbx.call(running.udp)
        assert (await call.final()).status == status
        outcome = await running.entry("outcome")
    assert second.invites == []
    assert (outcome["outcome"], outcome["status"]) == ("failed", status)


@pytest.mark.parametrize("status", [415, 424, 488, 500])
async def test_a_trunk_that_minds_the_location_is_asked_again_without(tmp_path, keys, parties, status):
    """E-08: the same trunk first, with the caller's own body alone."""
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda m: [status] if m.header("Geolocation") else [180, 200]))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200
        entries = await running.journal(lambda found: sum(e["type"] == "attempt" for e in found) >= 2)
    first, again = carrier.invites
    assert first.header("Geolocation")
    assert (again.header("Geolocation"), again.body, again.header("Content-Type")) == (None, SDP, "application/sdp")
    attempts = [entry for entry in entries if entry["type"] == "attempt"]
    assert [(a["with_location"], a["status"]) for a in attempts] == [(True, status), (False, 200)]


async def test_a_location_goes_by_a_reference_that_opens(tmp_path, keys, parties):
    """E-06: a trunk that takes references gets the URI of one that only we could have made, for this call and place."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    rows = account(trunk(carrier.hop, location_mode="reference"))
    async with edge(tmp_path, keys, rows, held_url="https://phones.example.com/held") as running:
        call = await pbx.call(running.udp, added=("X-Callpoint-Device: 0015654aa937",))
        assert (await call.final()).status == 200
        recorded = await running.entry("call")
    (invite,) = carrier.invites
    assert (invite.body, invite.header("Content-Type")) == (SDP, "application/sdp")
    base, _, reference = invite.header("Geolocation").strip("<>").rpartition("/")
    assert base == "https://phones.example.com/held"
    opened = references.open_reference(keys.subkey(references.PURPOSE), reference, datetime.now(UTC))
    assert (opened.account_id, opened.location_id, opened.call_id) == ("account_acme", "location_hq", recorded["id"])


async def test_without_a_public_address_a_reference_trunk_gets_the_location_by_value(tmp_path, keys, parties):
    """E-06: a location in another form beats none."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop, location_mode="reference"))) as running:
        call = await pbx.call(running.udp, added=("X-Callpoint-Device: 0015654aa937",))
        assert (await call.final()).status == 200
    assert b"application/pidf+xml" in carrier.invites[0].body


async def test_a_trunk_of_last_resort_of_any_account_takes_what_no_other_does(tmp_path, keys, parties):
    """E-03: decision 4: tried after all others, for any account."""
    first = await parties(Carrier("udp", CARRIER_IP, lambda _: [503]))
    relay = await parties(Carrier("udp", SECOND_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    other = account(trunk(relay.hop, "trunk_relay", last_resort=True), account_id="account_relay", pbxs=[])
    async with edge(tmp_path, keys, account(trunk(first.hop)), other) as running:
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200
        outcome = await running.entry("outcome")
    assert outcome["trunk_id"] == "trunk_relay"


async def test_a_call_without_any_trunk_is_told_so_and_recorded(tmp_path, keys, parties):
    """E-03: 503 with a Warning, so that the PBX uses another line; never lost in silence."""
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys, account()) as running:
        call = await pbx.call(running.udp)
        answer = await call.final()
        entries = await running.journal(lambda found: len(found) >= 2)
        assert "critical" in await running.logs("emergency_call_unroutable")
    assert answer.status == 503
    assert "no trunk is configured" in answer.header("Warning")
    recorded, outcome = entries
    assert (recorded["trunk_id"], recorded["sent_at"]) == (None, None)
    assert recorded["invite"].startswith("INVITE sip:911@")
    assert (outcome["outcome"], outcome["status"]) == ("failed", 503)


async def test_a_cancel_ends_the_call_at_the_trunk_too(tmp_path, keys, parties):
    """E-08: CANCEL races exact: 487 upstream, CANCEL downstream, recorded as cancelled; no other trunk is tried."""
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [100, 180]))
    second = await parties(Carrier("udp", SECOND_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop), trunk(second.hop, "trunk_second", 20))) as running:
        call = await pbx.call(running.udp)
        await call.ringing()
        await call.cancel()
        assert (await call.final()).status == 487
        await carrier.expect(lambda m: isinstance(m, Request) and m.method == "CANCEL")
        outcome = await running.entry("outcome")
        attempt = await running.entry("attempt")
    assert (outcome["outcome"], outcome["status"]) == ("cancelled", 487)
    assert attempt["outcome"] == "cancelled"
    assert second.invites == []


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_second_911_by_the_branch_of_the_first_is_a_call_of_its_own(tmp_path, keys, parties, transport):
    """E-03: a PBX that uses a branch again has both answered, and what it cancels is the call that it names."""
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [100, 180]))
    pbx = await parties(Pbx(transport, PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        first = await pbx.call(running.at(transport))
        await first.ringing()
        branch = first.branch.encode()
        second = await pbx.call(
            running.at(transport), edit=lambda data: re.sub(rb"branch=[^;\r]+", b"branch=" + branch, data)
        )
        second.branch = first.branch
        await second.ringing()
        await second.cancel()
        assert (await second.final()).status == 487
        carrier.answer(carrier.invites[0].call_id, 200, running.udp)
        assert (await first.final()).status == 200
        outcomes = await running.journal(lambda all_: sum(entry["type"] == "outcome" for entry in all_) == 2)
    ended = {entry["outcome"] for entry in outcomes if entry["type"] == "outcome"}
    assert ended == {"cancelled", "answered"}
    assert len(carrier.invites) == 2


async def test_what_visitors_dial_reaches_the_carrier_and_what_goes_nowhere_is_on_record(tmp_path, keys, parties):
    """E-01, E-03: 112 in Albany leaves as 911 and stays 112 on record; 999 is no number there, and no 404 without a
    trace.
    """
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        call = await pbx.call(running.udp, "sip:112@callpoint.example.com")
        assert (await call.final()).status == 200
        recorded = await running.entry("call")
        assert (recorded["dialed"], recorded["kind"]) == ("112", "emergency")
        assert carrier.invites[0].request_uri == f"sip:911@{CARRIER_IP}"
        lost = await pbx.call(running.udp, "sip:999@callpoint.example.com")
        assert (await lost.final()).status == 404
        entry = await running.entry("stranger")
    assert (entry["account_id"], entry["pbx_id"], entry["emergency"]) == ("account_acme", "pbx_1", True)
    assert len(carrier.invites) == 1


async def test_a_stranger_reaches_no_trunk_and_is_recorded(tmp_path, keys, parties):
    """E-04: 403, no INVITE leaves, the attempt stands in the journal."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    stranger = await parties(Pbx("udp", STRANGER_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        forged = (
            f"X-Callpoint-Proof: {make_proof(b'guess', 'account_acme', int(time.time()), 'x')}",
            "User-Agent: friendly-scanner",
        )
        call = await stranger.call(running.udp, added=forged)
        assert (await call.final()).status == 403
        entry = await running.entry("stranger")
        assert (await running.settled())["calls_unanswered"] == 0
    assert carrier.invites == []
    assert entry["source"] == {"transport": "udp", "ip": STRANGER_IP, "port": stranger.port}
    assert (entry["method"], entry["emergency"], entry["user_agent"]) == ("INVITE", True, "friendly-scanner")
    assert entry["request_uri"] == "sip:911@callpoint.example.com"


async def test_our_own_command_proves_itself_with_the_key_file(tmp_path, keys, parties):
    """Decision 19: `callpoint call` needs no PBX entry; its proof is good for one Call-ID and a minute."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    command = await parties(Pbx("udp", STRANGER_IP))
    subkey = keys.subkey(PROOF_PURPOSE)

    def proven(account_id, seconds):
        def edit(data):
            call_id = data.partition(b"Call-ID: ")[2].partition(b"\r\n")[0].decode()
            proof = make_proof(subkey, account_id, seconds, call_id)
            return data.replace(b"Max-Forwards", f"X-Callpoint-Proof: {proof}\r\nMax-Forwards".encode(), 1)

        return edit

    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        call = await command.call(running.udp, "sip:933@callpoint", edit=proven("account_acme", int(time.time())))
        assert (await call.final()).status == 200
        recorded = await running.entry("call")
        for account_id, seconds in (("account_acme", int(time.time()) - 61), ("account_other", int(time.time()))):
            call = await command.call(running.udp, "sip:933@callpoint", edit=proven(account_id, seconds))
            assert (await call.final()).status == 403
    assert (recorded["pbx_id"], recorded["kind"], recorded["location_source"]) == (None, "test", "phone")
    assert len(carrier.invites) == 1
    assert carrier.invites[0].headers("X-Callpoint-Proof") == []


MALFORMED = {
    "a bad date": lambda data: data.replace(b"Max-Forwards: 70", b"Max-Forwards: 70\r\nDate: yesterday"),
    "no hops left": lambda data: data.replace(b"Max-Forwards: 70", b"Max-Forwards: 0"),
    "an extension we do not know": lambda data: data.replace(
        b"Max-Forwards: 70", b"Max-Forwards: 70\r\nProxy-Require: magic"
    ),
    "two Max-Forwards": lambda data: data.replace(b"Max-Forwards: 70", b"Max-Forwards: 70\r\nMax-Forwards: many"),
    "a length that lies": lambda data: data.replace(b"Content-Length: ", b"Content-Length: 9"),
    "a header that is none": lambda data: data.replace(b"Max-Forwards: 70", b"Max-Forwards: 70\r\n@@@@"),
}


@pytest.mark.parametrize("fault", MALFORMED)
async def test_a_malformed_request_that_names_911_still_goes_out(tmp_path, keys, parties, fault):
    """E-03: forwarded whenever the essentials can be read; what was wrong stands in the verdict's flags."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        call = await pbx.call(running.udp, edit=MALFORMED[fault])
        assert (await call.final()).status == 200
        recorded = await running.entry("call")
    assert len(carrier.invites) == 1
    assert fault == "a bad date" or any(flag.startswith("malformed:") for flag in recorded["flags"])


async def test_a_911_whose_host_or_via_cannot_be_read_goes_out_and_what_cannot_be_read_at_all_is_on_record(
    tmp_path, keys, parties
):
    """E-03: who is dialled is enough; a message without an end is told with its account, for the log and Home."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    uris = ["sip:911@", "sip:911@h:abc", "sip:911@[::1", "911", "sip:911@h?Route=%3Csip:e@1.2.3.4%3E"]
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        for uri in uris:
            call = await pbx.call(running.udp, uri)
            assert (await call.final()).status == 200
        call = await pbx.call(running.udp, edit=lambda data: re.sub(rb"Via: [^;\r]*", b"Via: junk", data))
        assert (await call.final()).status == 200
        more = b"".join(b"X-%d: y\r\n" % number for number in range(1_100)) + b"Max-Forwards"
        call = await pbx.call(running.udp, edit=lambda data: data.replace(b"Max-Forwards", more))
        assert (await call.final()).status == 200
        call = await pbx.call(running.udp, edit=lambda data: data.replace(b"INVITE", b"invite"))
        assert (await call.final()).status == 200
        await pbx.call(running.udp, edit=lambda data: data[: data.index(b"\r\nTo:")].replace(b"From", b"@From"))
        entry = await running.entry("stranger")
    assert [invite.request_uri for invite in carrier.invites] == [f"sip:911@{CARRIER_IP}"] * (len(uris) + 3)
    assert (entry["account_id"], entry["pbx_id"], entry["emergency"]) == ("account_acme", "pbx_1", True)
    assert (entry["request_uri"], entry["status"]) == ("sip:911@callpoint.example.com", 0)
    assert entry["detail"] == "expected an empty line after the headers, found none"


async def test_a_phone_s_own_subnet_decides_and_the_pbx_s_never_does(tmp_path, keys, parties):
    """E-05: X-Callpoint-Source from a trusted PBX counts; the packet's source is the PBX and does not."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    base = account(trunk(carrier.hop))
    wing = base["locations"][0] | {"id": "location_wing", "name": "Wing", "civic_address": CIVIC | {"FLR": "9"}}
    rooms = [
        {"id": "network_1", "kind": "subnet", "value": "10.9.0.0/16", "location_id": "location_wing", "pbx_id": None},
        {"id": "network_2", "kind": "subnet", "value": "127.0.0.0/8", "location_id": "location_wing", "pbx_id": None},
    ]
    async with edge(tmp_path, keys, base | {"locations": [*base["locations"], wing], "networks": rooms}) as running:
        call = await pbx.call(running.udp)
        await call.final()
        told = await pbx.call(running.udp, added=("X-Callpoint-Source: ::ffff:10.9.8.7",))
        await told.final()
        entries = await running.journal(lambda found: sum(e["type"] == "call" for e in found) >= 2)
    untold, with_source = [entry for entry in entries if entry["type"] == "call"]
    assert (untold["location_source"], untold["caller"]["source_ip"]) == ("phone", None)
    assert (with_source["location_source"], with_source["location"]["name"]) == ("subnet", "Wing")
    assert with_source["caller"]["source_ip"] == "10.9.8.7"
    assert with_source["flags"] == ["disagreement"]


async def test_a_busy_second_of_calls_loses_none(tmp_path, keys, parties):
    """E-03: two hundred 911 calls at once, each answered and recorded."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        for _ in range(10):  # in waves that fit the test's own small receive buffers
            calls = [await pbx.call(running.udp) for _ in range(20)]
            answers = await asyncio.gather(*(call.final() for call in calls))
            assert {answer.status for answer in answers} == {200}
        entries = await running.journal(lambda found: sum(e["type"] == "outcome" for e in found) >= 200)
    assert len({entry["id"] for entry in entries if entry["type"] == "call"}) == 200


async def test_a_trunk_named_by_a_host_name_is_resolved_ahead(tmp_path, keys, parties):
    """E-02: no look-up in the call's way; localhost is resolved from the table's load on."""
    carrier = await parties(Carrier("udp", "127.0.0.1", answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    named = trunk(Hop("udp", "localhost", carrier.port))
    async with edge(tmp_path, keys, account(named)) as running:
        await running.hear("trunk", lambda message: message["up"])
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200
    assert carrier.invites[0].request_uri == "sip:911@localhost"


async def test_a_pbx_that_asks_one_of_several_addresses_knows_us_by_that_one(tmp_path, keys, parties):
    """E-18: answers leave from there and Record-Route names it, with nothing configured; the trunk is told its own."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    heard = set()

    class Strict(Pbx):
        def on_message(self, message, data, source):
            heard.add(source[0])

    pbx = await parties(Strict("udp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop)), udp="0.0.0.0:0") as running:
        call = await pbx.call(("127.0.0.9", running.udp[1]))
        answer = await call.final()
        assert answer.status == 200
        await call.within("ACK", answer, 1)
        await carrier.expect(lambda message: isinstance(message, Request) and message.method == "ACK")
    assert heard == {"127.0.0.9"}
    assert "127.0.0.9" in ", ".join(answer.headers("Record-Route"))
    assert carrier.invites[0].via.host == b"127.0.0.1"


async def test_a_node_that_starts_while_dns_is_away_still_knows_its_carrier(tmp_path, keys, parties):
    """E-03: a power cut takes the DNS server too; where names last led lies on disk, sealed, and a 911 goes there."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    gone = Name("sip.carrier.invalid", carrier.port, "udp")
    book = AddressBook(tmp_path, keys)
    book.tick({gone: (carrier.hop,)})
    book.close()
    assert b"carrier" not in (tmp_path / "addresses.sealed").read_bytes()
    async with edge(tmp_path, keys, account(trunk(Hop("udp", gone.host, carrier.port)))) as running:
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200
    assert carrier.invites[0].request_uri == "sip:911@sip.carrier.invalid"


async def test_where_names_lead_is_written_down_as_soon_as_it_is_known(tmp_path, keys, parties):
    """E-03: for the next start; one that cannot be read is told, and the next answer replaces it."""
    carrier = await parties(Carrier("udp", "127.0.0.1", answering))
    (tmp_path / "addresses.sealed").write_bytes(b"not ours")
    async with edge(tmp_path, keys, account(trunk(Hop("udp", "localhost", carrier.port)))) as running:
        assert "addresses.sealed cannot be read" in await running.logs("addresses_fault")
        assert await running.logs("addresses_recovered")
    known = AddressBook(tmp_path, keys).load()
    assert known[Name("localhost", carrier.port, "udp")][0] == Hop("udp", "127.0.0.1", carrier.port)


async def test_a_text_to_911_goes_the_same_way(tmp_path, keys, parties):
    """E-01: MESSAGE (RFC 6881): location, callback number and record as for a call."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        await pbx.call(running.udp, method="MESSAGE", body=b"help at the door")
        answer = await pbx.expect(lambda m: not isinstance(m, Request) and m.cseq[1] == "MESSAGE")
        assert answer.status == 200
        outcome = await running.entry("outcome")
    (text,) = carrier.requests("MESSAGE")
    (_, first), _location = parts(text)
    assert first == b"help at the door"
    assert text.header("Geolocation")
    assert outcome["outcome"] == "answered"
