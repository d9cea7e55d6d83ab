"""The doors: validation in the order of §16.3, our own answers and requests, refusals and leniency."""

import pytest

from engine.e911 import dial
from engine.numbers import plan_of
from engine.sip.forward import Edit, Forward, Hop, Target
from engine.sip.refusals import MAX_REFUSALS_PER_S
from engine.sip.repair import dialed
from engine.sip.stack import MessageRefused, OwnRequestEnded, RequestReceived, SipStack
from tests.siptest import CARRIER, PBX, SDP, drain, make_stack, read_request, read_response, request, response

OPTIONS = request("OPTIONS", "sip:192.0.2.10")


def statuses(stack: SipStack) -> list[int]:
    return [read_response(data).status for data, _ in drain(stack)[1]]


def test_options_to_ourselves_is_the_hooks_to_answer() -> None:
    """E-18: 200 with what it adds; retransmissions get the same answer."""
    stack = make_stack()
    stack.receive(OPTIONS, PBX, 0.0)
    (event,), _ = drain(stack)
    assert isinstance(event, RequestReceived)
    stack.respond(event.transaction, 200, "Fine", [("Allow", "INVITE, OPTIONS")], now=0.0)
    stack.receive(OPTIONS, PBX, 0.5)
    (first, hop), (second, _) = drain(stack)[1]
    got = read_response(first)
    assert (got.status, got.reason, got.header("Allow"), hop) == (200, "Fine", "INVITE, OPTIONS", PBX)
    assert got.to_tag == "proxy-1"
    assert first == second


def test_our_own_response_copies_what_it_must() -> None:
    """E-18: §8.2.6: every Via in order with received, From, To, Call-ID, CSeq, and Timestamp in a 100."""
    source = Hop("udp", "198.51.100.7", 40000)
    data = request(
        via_more=";rport, SIP/2.0/TCP b;branch=z9hG4bKb", added=["Via: SIP/2.0/UDP c;branch=z9hG4bKc", "Timestamp: 54"]
    )
    stack = make_stack()
    stack.receive(data, source, 0.0)
    ((answer, hop),) = drain(stack)[1]
    got = read_response(answer)
    assert hop == source
    first = "SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bKcaller1"
    assert got.headers("Via") == [
        f"{first};rport=40000;received=198.51.100.7, SIP/2.0/TCP b;branch=z9hG4bKb",
        "SIP/2.0/UDP c;branch=z9hG4bKc",
    ]
    assert (got.status, got.header("Timestamp"), got.to_tag, got.body) == (100, "54", None, b"")


@pytest.mark.parametrize(
    ("source", "via_more", "goes_to"),
    [
        (Hop("udp", "192.0.2.20", 40000), "", Hop("udp", "192.0.2.20", 5060)),
        (Hop("udp", "192.0.2.20", 40000), ";rport", Hop("udp", "192.0.2.20", 40000)),
        (Hop("udp", "198.51.100.7", 5060), "", Hop("udp", "198.51.100.7", 5060)),
        (Hop("tcp", "192.0.2.20", 40000, 3), "", Hop("tcp", "192.0.2.20", 5060, 3)),
    ],
)
def test_a_response_goes_where_the_rules_say(source: Hop, via_more: str, goes_to: Hop) -> None:
    """E-18: §18.2.2 and RFC 3581."""
    stack = make_stack()
    stack.receive(request(via_more=via_more), source, 0.0)
    assert drain(stack)[1][0][1] == goes_to


def test_comma_joined_vias_lose_one_element_each_way() -> None:
    """E-18: §7.3.1; Kamailio and SIPp write them."""
    stack = make_stack()
    stack.receive(request(via_more=" , SIP/2.0/UDP b;branch=z9hG4bKb"), PBX, 0.0)
    stack.forward(drain(stack)[0][0].transaction, Forward((Target("a", CARRIER),)), 0.0)
    sent = drain(stack)[1][-1][0]
    vias = read_request(sent).headers("Via")
    assert len(vias) == 2
    joined = response(sent, 180).replace(
        b"Via: " + vias[0].encode() + b"\r\nVia: ", b"Via: " + vias[0].encode() + b" ,\r\n  "
    )
    stack.receive(joined, CARRIER, 0.1)
    ((up, _),) = drain(stack)[1]
    assert read_response(up).headers("Via") == [vias[1]]


def test_a_request_without_max_forwards_gets_70() -> None:
    """E-18: §16.6 step 3."""
    stack = make_stack()
    stack.receive(request(max_forwards=None), PBX, 0.0)
    stack.forward(drain(stack)[0][0].transaction, Forward((Target("a", CARRIER),)), 0.0)
    assert read_request(drain(stack)[1][-1][0]).max_forwards == 70


def test_an_edit_changes_what_it_names_and_nothing_else() -> None:
    """E-06: the other lines byte for byte; SDP replaced with its length."""
    body = b"--b\r\n\r\n" + SDP + b"--b--"
    edit = Edit(
        request_uri="sip:911@trunk.example",
        remove=("X-Callpoint-Device", "Subject"),
        add=(("P-Asserted-Identity", "<tel:+15551234567>"), ("Geolocation", "<cid:a@b>")),
        content_type="multipart/mixed;boundary=b",
        body=body,
    )
    added = ["X-Callpoint-Device: 001122334455", "s: gone too", "X-Odd :  kept\r\n  as it is", "c2: \udcff"]
    data = request(added=added)
    stack = make_stack()
    stack.receive(data, PBX, 0.0)
    stack.forward(drain(stack)[0][0].transaction, Forward((Target("a", CARRIER, edit),)), 0.0)
    sent = drain(stack)[1][-1][0]
    got = read_request(sent)
    assert got.request_uri == "sip:911@trunk.example"
    assert got.header("X-Callpoint-Device") is None
    assert got.header("Subject") is None
    assert got.headers("Content-Type") == ["multipart/mixed;boundary=b"]
    assert got.headers("Content-Length") == [str(len(body))]
    assert (got.body, got.header("Geolocation")) == (body, "<cid:a@b>")
    assert b"\r\nX-Odd :  kept\r\n  as it is\r\nc2: \xff\r\n" in sent
    kept = [
        line
        for line in data.split(b"\r\n\r\n")[0].split(b"\r\n")
        if line.startswith((b"From", b"To", b"Call", b"CSeq"))
    ]
    assert all(b"\r\n" + line + b"\r\n" in sent for line in kept)


@pytest.mark.parametrize(
    ("data", "status", "detail"),
    [
        (request("OPTIONS", "urx:a"), 416, "scheme"),
        (request("OPTIONS", "sip:a", max_forwards="0"), 483, "Max-Forwards"),
        (request("OPTIONS", "sip:a", added=["Proxy-Require: foo"]), 420, "foo"),
    ],
)
def test_what_a_proxy_must_refuse_is_refused_and_told(data: bytes, status: int, detail: str) -> None:
    """E-18: §16.3."""
    stack = make_stack()
    stack.receive(data, PBX, 0.0)
    (event,), out = drain(stack)
    assert [read_response(answer).status for answer, _ in out] == [status]
    assert isinstance(event, MessageRefused)
    assert (event.status, event.method) == (status, "OPTIONS")
    assert detail in event.detail


def test_a_request_that_came_back_unchanged_is_a_loop() -> None:
    """E-18: §16.3 step 4; one that came back with another Request-URI is a spiral and passes."""
    stack = make_stack()
    stack.receive(request("MESSAGE", "sip:b@192.0.2.10"), PBX, 0.0)
    stack.forward(drain(stack)[0][0].transaction, Forward((Target("a", CARRIER),)), 0.0)
    sent = drain(stack)[1][-1][0]
    via = b"Via: SIP/2.0/UDP 192.0.2.30;branch=z9hG4bKback\r\nVia: SIP/2.0/UDP 192.0.2.10"
    back = sent.replace(b"Via: SIP/2.0/UDP 192.0.2.10", via, 1)
    stack.receive(back, CARRIER, 0.1)
    events, out = drain(stack)
    assert [read_response(data).status for data, _ in out] == [482]
    assert isinstance(events[0], MessageRefused)
    stack.receive(back.replace(b"sip:b@", b"sip:c@", 1).replace(b"Kback", b"Kback2"), CARRIER, 0.2)
    assert isinstance(drain(stack)[0][0], RequestReceived)
    foreign = back.replace(b"UDP 192.0.2.10:5060", b"UDP 192.0.2.99:5060", 1).replace(b"Kback", b"Kback3")
    stack.receive(foreign, CARRIER, 0.3)  # the same branch, but another's
    assert isinstance(drain(stack)[0][0], RequestReceived)


@pytest.mark.parametrize(
    "data",
    [
        request(max_forwards="0"),
        request(max_forwards="banana"),
        request(max_forwards="1000"),
        request(added=["Proxy-Require: foo"]),
        request(added=["Max-Forwards: 3"]),
        request(added=["Date: yesterday", "not a header", "(bad): name"]),
        request(added=["Call-ID: another"]),
        request(added=[" folded"]).replace(b"Contact", b"X\r\nContact"),
        request(cseq=2**31),
        request().replace(b"CSeq: 1 INVITE", b"CSeq: 1 OPTIONS"),
        request().replace(b"Content-Length: ", b"Content-Length: 9"),
        request(added=["X: a\rb", "Y: c\nd", "Z: \0"]),
        request().replace(b"\r\n", b"\n"),
        request(body=b"").removesuffix(b"\r\n"),
        request("INVITE", "<sip:911@192.0.2.10>"),
        request("INVITE", "sip:911@192.0.2.10?Route=x"),
        request("INVITE", "sip:911@192.0.2.10 ;user=phone"),
        request().replace(b" SIP/2.0\r\n", b" SIP/2.1\r\n", 1),
        request().replace(b" SIP/2.0\r\n", b"\r\n", 1),
        request(added=[f"X-{number}: y" for number in range(400)]),
    ],
)  # fmt: skip
def test_an_emergency_request_goes_on_as_long_as_six_fields_can_be_read(data: bytes) -> None:
    """E-03: repaired, noted in faults; a stranger's, or one for a pizza, is refused as ever."""
    stack = make_stack()
    stack.receive(data, PBX, 0.0)
    events, _ = drain(stack)
    assert [type(event) for event in events] == [RequestReceived]
    assert events[0].request.faults
    assert events[0].request.request_uri.startswith("sip:911@192.0.2.10")
    stack.forward(events[0].transaction, Forward((Target("a", CARRIER),)), 0.0)
    sent = read_request_leniently(drain(stack)[1][-1][0])
    assert sent.startswith(b"INVITE sip:911@192.0.2.10")
    for more in ({"is_emergency": lambda *_: False}, {"is_trusted": lambda _: False}):
        other = make_stack(**more)
        other.receive(data, PBX, 0.0)
        events, _ = drain(other)
        assert [type(event) for event in events] == [MessageRefused]


@pytest.mark.parametrize("uri", ["sip:911@192.0.2.10", "sip:5551234@192.0.2.10"])
def test_sip_is_written_in_any_case(uri: str) -> None:
    """E-18: RFC 3261 §7.1: the version is read in any case, in requests, answers and Via, and goes on as it came."""
    stack = make_stack()
    stack.receive(request(uri=uri).replace(b"SIP/2.0", b"sip/2.0"), PBX, 0.0)
    events, _ = drain(stack)
    assert [type(event) for event in events] == [RequestReceived]
    assert events[0].request.faults == ()
    stack.forward(events[0].transaction, Forward((Target("a", CARRIER),)), 0.0)
    sent = drain(stack)[1][-1][0]
    assert sent.startswith(f"INVITE {uri} sip/2.0\r\n".encode())
    assert b"Via: sip/2.0/UDP 192.0.2.20:5060;branch=z9hG4bKcaller1" in sent
    stack.receive(response(sent, 200).replace(b"SIP/2.0", b"Sip/2.0").replace(b"/UDP", b"/udp"), CARRIER, 0.1)
    ((up, hop),) = drain(stack)[1]
    assert up.startswith(b"Sip/2.0 200 Whatever\r\nVia: sip/2.0/udp 192.0.2.20:5060;")
    assert hop == PBX


def test_another_version_is_refused_in_any_case() -> None:
    """E-18: §21.5.6."""
    stack = make_stack(is_emergency=lambda *_: False)
    stack.receive(request().replace(b" SIP/2.0\r\n", b" sip/3.0\r\n", 1), PBX, 0.0)
    assert statuses(stack) == [505]


FROM, TO = b'From: "Alice" <sip:101@192.0.2.20>;tag=alice', b"To: <sip:911@192.0.2.10>"


@pytest.mark.parametrize(
    ("line", "broken", "mended"),
    [
        (FROM, b'From: "Alice <sip:101@192.0.2.20>;tag=alice', b"From: <sip:101@192.0.2.20>;tag=alice"),
        (
            FROM,
            b'f: "A" <sip:101@192.0.2.20;transport=udp;tag=alice',
            b"f: <sip:101@192.0.2.20;transport=udp>;tag=alice",
        ),
        (FROM, b"From: Alice sip:101@192.0.2.20>; tag=alice", b"From: <sip:101@192.0.2.20>;tag=alice"),
        (FROM, b'From: "Alice;tag=alice', b"From: <sip:anonymous@anonymous.invalid>;tag=alice"),
        (FROM, b"", b"From: <sip:anonymous@anonymous.invalid>;tag=f6d67bb6"),
        (TO, b"To: <sip:911@192.0.2.10", b"To: <sip:911@192.0.2.10>"),
        (TO, b'To: "Emergency <sip:911@192.0.2.10>', b"To: <sip:911@192.0.2.10>"),
        (TO, b"To: <911", b"To: <sip:911@192.0.2.10>"),
        (TO, b"", b"To: <sip:911@192.0.2.10>"),
        (b"Call-ID: call-1@192.0.2.20", b"", b"Call-ID: 278ebc47@anonymous.invalid"),
        (b"CSeq: 1 INVITE", b"", b"CSeq: 1 INVITE"),
    ],
)
def test_an_address_that_does_not_close_or_is_missing_is_mended_for_an_emergency(
    line: bytes, broken: bytes, mended: bytes
) -> None:
    """E-03: so that a carrier can read it; its CANCEL, ACK and BYE, written as badly, find the call."""
    stack = make_stack()
    data = worsened(request(), line, broken)
    stack.receive(data, PBX, 0.0)
    stack.receive(data, PBX, 0.1)
    events, _ = drain(stack)
    assert [type(event) for event in events] == [RequestReceived]
    assert events[0].request.faults
    stack.forward(events[0].transaction, Forward((Target("a", CARRIER),), emergency=True), 0.1)
    sent = drain(stack)[1][-1][0]
    assert b"\r\n" + mended + b"\r\n" in sent
    read_request(sent)
    stack.receive(response(sent, 200), CARRIER, 0.2)
    ((up, _),) = drain(stack)[1]
    route = read_response(up).headers("Record-Route")
    for method, cseq in (("ACK", 1), ("BYE", 2)):
        inside = request(
            method, "sip:psap@192.0.2.30:5060", branch=f"z9hG4bK{method}", cseq=cseq, to_tag="carrier", routes=route
        )
        worse = TO + b";tag=carrier" if line is TO else line.replace(b"1 INVITE", f"{cseq} {method}".encode())
        again = broken + b";tag=carrier" if broken.startswith(b"To: ") else broken
        stack.receive(worsened(inside, worse, worse if line is TO and not broken else again), PBX, 0.3)
        events, ((out, hop),) = drain(stack)
        assert events == []
        assert hop == CARRIER
        assert read_request(out).cseq == (cseq, method)


def test_a_cancel_as_broken_as_its_invite_ends_the_emergency_call() -> None:
    """E-03: CANCEL repeats the INVITE's From."""
    stack = make_stack()
    broken = b'From: "Alice <sip:101@192.0.2.20>;tag=alice'
    stack.receive(worsened(request(), FROM, broken), PBX, 0.0)
    stack.forward(drain(stack)[0][0].transaction, Forward((Target("a", CARRIER),), emergency=True), 0.0)
    sent = drain(stack)[1][-1][0]
    stack.receive(response(sent, 180), CARRIER, 0.1)
    drain(stack)
    stack.receive(worsened(request("CANCEL", body=b""), FROM, broken), PBX, 0.2)
    _, out = drain(stack)
    assert [(data.split(b" ")[0], hop) for data, hop in out if hop == CARRIER] == [(b"CANCEL", CARRIER)]
    assert [read_response(data).status for data, hop in out if hop == PBX] == [200]


@pytest.mark.parametrize("broken", [b"From: <sip:101@192.0.2.20>", b""])
def test_without_tag_and_call_id_nothing_tells_which_call_it_is(broken: bytes) -> None:
    """E-03: a call that no ACK would find is refused at once, so that the PBX goes another way."""
    stack = make_stack()
    stack.receive(worsened(worsened(request(), FROM, broken), b"Call-ID: call-1@192.0.2.20", b""), PBX, 0.0)
    assert [data[:12] for data, _ in drain(stack)[1]] == [b"SIP/2.0 400 "]


def worsened(data: bytes, line: bytes, broken: bytes) -> bytes:
    """The request with that header written so; without it when `broken` is empty."""
    assert data.count(line + b"\r\n") == 1
    return data.replace(line + b"\r\n", broken + b"\r\n" if broken else b"")


@pytest.mark.parametrize("status", [200, 486])
@pytest.mark.parametrize(
    "change",
    [
        (b"", b""),
        (b"\r\nFrom: ", b"\r\nX: a\nb\r\nFrom: "),
        (b"Content-Length: 0", b"Content-Length: 9"),
        (b"\r\nFrom: ", b"\r\nno header\r\nFrom: "),
    ],
)
def test_the_answer_to_an_emergency_request_is_read_as_leniently(status: int, change: tuple[bytes, bytes]) -> None:
    """E-03: whatever the trunk's grammar; here with a CSeq too large for anyone else. The ACK and CANCEL go out too."""
    stack = make_stack()
    stack.receive(request(cseq=2**31), PBX, 0.0)
    stack.forward(drain(stack)[0][0].transaction, Forward((Target("a", CARRIER),), emergency=True), 0.0)
    sent = drain(stack)[1][-1][0]
    ringing = stack_answer(sent, 180)
    stack.receive(ringing, CARRIER, 0.1)
    stack.receive(stack_answer(sent, status).replace(*change), CARRIER, 0.2)
    up = [data for data, hop in drain(stack)[1] if hop == PBX]
    assert [data[8:11] for data in up] == [b"180", b"%d" % status]


def stack_answer(sent: bytes, status: int) -> bytes:
    """A trunk's answer that repeats the CSeq it was sent."""
    return response(sent.replace(b"CSeq: 2147483648", b"CSeq: 1"), status).replace(b"CSeq: 1", b"CSeq: 2147483648")


def test_a_broken_response_to_an_ordinary_request_is_dropped() -> None:
    """E-18: leniency is for emergency calls."""
    stack = make_stack()
    stack.receive(request(), PBX, 0.0)
    stack.forward(drain(stack)[0][0].transaction, Forward((Target("a", CARRIER),)), 0.0)
    sent = drain(stack)[1][-1][0]
    stack.receive(response(sent, 200).replace(b"Content-Length: 0", b"Content-Length: 9"), CARRIER, 0.1)
    events, out = drain(stack)
    assert out == []
    assert [event.status for event in events] == [0]


def test_an_emergency_call_with_a_large_cseq_can_be_cancelled() -> None:
    """E-03: the CANCEL is built from the INVITE as sent."""
    stack = make_stack()
    stack.receive(request(cseq=2**31), PBX, 0.0)
    stack.forward(drain(stack)[0][0].transaction, Forward((Target("a", CARRIER),), emergency=True), 0.0)
    stack.receive(stack_answer(drain(stack)[1][-1][0], 180), CARRIER, 0.1)
    stack.receive(request("CANCEL", cseq=2**31), PBX, 0.2)
    down = [data for data, hop in drain(stack)[1] if hop == CARRIER]
    assert down[-1].startswith(b"CANCEL ")
    assert b"CSeq: 2147483648 CANCEL" in down[-1]


def read_request_leniently(data: bytes) -> bytes:
    """Well-formed but for a CSeq of any size, which is the caller's to find in the answer again."""
    if b"CSeq: 2147483648" not in data:
        assert read_request(data).max_forwards is not None
    return data


@pytest.mark.parametrize(
    "data",
    [
        request().replace(b"CSeq: 1", b"CSeq: one"),
        request().replace(b"INVITE ", b"IN(VITE ", 1),
        b"911\r\n\r\n",
        b"INVITE sip:911@" + b"a" * 5000 + b" SIP/2.0\r\n\r\n",
        request(body=b"x" * 66_000),
        b"INVITE sip:911@a SIP/2.0\r\n" + b"a: b\r\n" * 2000 + b"\r\n",
        b"INVITE sip:911@a SIP/2.0" + b"\na: b" * 2000 + b"\n\n",
        response(request(), 200).replace(b"CSeq: 1", b"CSeq: one"),
        b"SIP/2.0 911 \r\n\r\n",
    ],
)
def test_what_cannot_be_read_is_refused_whoever_sent_it(data: bytes) -> None:
    """E-03: there is nothing to forward."""
    stack = make_stack(is_emergency=lambda *_: True)
    stack.receive(data, PBX, 0.0)
    events, _ = drain(stack)
    assert [type(event) for event in events] == [MessageRefused]


def test_a_bad_ack_and_a_bad_response_are_not_answered() -> None:
    """E-18: never answer an ACK; keep-alives are no event at all."""
    stack = make_stack(is_emergency=lambda *_: False)
    stack.receive(request("ACK", max_forwards="x"), PBX, 0.0)
    stack.receive(b"\r\n\r\n", PBX, 0.0)
    stack.receive(b"\0", PBX, 0.0)
    events, out = drain(stack)
    assert [event.status for event in events] == [0]
    assert out == []


def test_strangers_share_a_bounded_number_of_refusals() -> None:
    """E-04: per second; a trusted peer is always told."""
    stack = make_stack(is_trusted=lambda hop: hop == PBX)
    stranger = Hop("udp", "203.0.113.9", 5060)
    for number in range(200):
        stack.receive(request("OPTIONS", "sip:a", max_forwards="x", branch=f"z9hG4bK{number}"), stranger, 10.0)
    assert len(statuses(stack)) == MAX_REFUSALS_PER_S
    stack.receive(request("OPTIONS", "sip:a", max_forwards="x"), PBX, 10.0)
    assert statuses(stack) == [400]
    stack.receive(request("OPTIONS", "sip:a", max_forwards="x"), stranger, 11.0)
    assert statuses(stack) == [400]


def test_a_stranger_gets_no_100() -> None:
    """E-04: only the hook's answer."""
    stack = make_stack(is_trusted=lambda _: False)
    stack.receive(request(), PBX, 0.0)
    (event,), out = drain(stack)
    assert out == []
    stack.respond(event.transaction, 403, now=0.0)
    assert statuses(stack) == [403]


def test_a_request_of_ours_ends_with_its_answer() -> None:
    """E-18: OPTIONS ping; a 1xx is no end, a second 200 is no second end."""
    stack = make_stack()
    stack.send_request("OPTIONS", "sip:192.0.2.30", CARRIER, [("X-Ping", "1")], b"", "token", 0.0, 4.0)
    ((sent, hop),) = drain(stack)[1]
    got = read_request(sent)
    assert hop == CARRIER
    assert (got.method, got.header("X-Ping"), got.header("To"), got.max_forwards) == (
        "OPTIONS",
        "1",
        "<sip:192.0.2.30>",
        70,
    )
    for status in (100, 200, 200):
        stack.receive(response(sent, status), CARRIER, 0.1)
    assert drain(stack)[0] == [OwnRequestEnded("token", 200, 0.1)]


def test_a_notify_of_ours_carries_what_it_is_given() -> None:
    """P-14: the phone's own headers instead of the usual ones, and a body."""
    stack = make_stack()
    headers = [("Event", "check-sync;reboot=false"), ("To", "<sip:101@pbx>"), ("Subscription-State", "terminated")]
    stack.send_request("NOTIFY", "sip:101@192.0.2.20", PBX, headers, b"x", "t", 0.0, 4.0)
    got = read_request(drain(stack)[1][0][0])
    assert got.headers("To") == ["<sip:101@pbx>"]
    assert (got.header("Event"), got.body) == ("check-sync;reboot=false", b"x")


def test_a_request_of_ours_ends_without_an_answer() -> None:
    """E-18: its own time limit, timer F, or a transport that failed."""
    stack = make_stack()
    stack.send_request("OPTIONS", "sip:a", CARRIER, (), b"", "slow", 0.0, 4.0)
    stack.send_request("OPTIONS", "sip:a", CARRIER, (), b"", "patient", 0.0, 99.0)
    drain(stack)
    stack.handle_timer(4.0)
    assert drain(stack)[0] == [OwnRequestEnded("slow", None, 4.0)]
    stack.handle_timer(32.0)
    assert drain(stack)[0] == [OwnRequestEnded("patient", None, 32.0)]
    stack.send_request("OPTIONS", "sip:a", Hop("tcp", "192.0.2.30", 5060), (), b"", "down", 40.0, 4.0)
    drain(stack)
    stack.transport_failed(Hop("tcp", "192.0.2.30", 5060), 40.1)
    assert drain(stack)[0] == [OwnRequestEnded("down", None, 40.1)]
    assert stack.next_timer() is None
    assert stack.transaction_counts == (0, 0)


def test_a_request_nobody_decided_about_is_answered_500() -> None:
    """E-18: a hook that failed leaves neither the caller nor a transaction waiting."""
    stack = make_stack()
    stack.receive(request(), PBX, 0.0)
    (event,), _ = drain(stack)
    stack.handle_timer(5.0)
    assert statuses(stack) == [500]
    stack.forward(event.transaction, Forward((Target("a", CARRIER),), tag="late"), 5.1)
    events, out = drain(stack)
    assert out == []
    assert [(e.outcome, e.status) for e in events] == [("failed", 500)]
    stack.handle_timer(50.0)
    assert stack.transaction_counts == (0, 0)


def test_a_stray_response_is_dropped() -> None:
    """E-18: not forwarded anywhere, whatever its second Via says."""
    stack = make_stack()
    stack.receive(response(request(via_more=", SIP/2.0/UDP 255.255.255.255"), 200), CARRIER, 0.0)
    assert drain(stack) == ([], [])


def test_a_response_with_our_via_alone_is_not_forwarded() -> None:
    """E-18: somebody cut the Vias behind us; there is nobody to send it to."""
    stack = make_stack()
    stack.receive(request(), PBX, 0.0)
    stack.forward(drain(stack)[0][0].transaction, Forward((Target("a", CARRIER),)), 0.0)
    sent = drain(stack)[1][-1][0]
    caller = [line for line in sent.split(b"\r\n") if line.startswith(b"Via: SIP/2.0/UDP 192.0.2.20")]
    for status in (180, 200):
        stack.receive(response(sent, status).replace(caller[0] + b"\r\n", b""), CARRIER, 0.1)
    assert statuses(stack) == [500]  # and the caller does not wait for another answer
    stack.handle_timer(100.0)
    assert stack.transaction_counts == (0, 0)


def test_an_ack_of_a_2xx_that_reuses_the_invites_branch_is_routed() -> None:
    """E-18: old UAs do; Accepted passes it on."""
    from tests.siptest import route_set

    stack = make_stack()
    stack.receive(request(), PBX, 0.0)
    stack.forward(drain(stack)[0][0].transaction, Forward((Target("a", CARRIER),)), 0.0)
    stack.receive(response(drain(stack)[1][-1][0], 200), CARRIER, 0.1)
    answer = read_response(drain(stack)[1][-1][0])
    ack = request("ACK", "sip:psap@192.0.2.30", routes=route_set(answer), to_tag="carrier")
    stack.receive(ack, PBX, 0.2)
    ((data, hop),) = drain(stack)[1]
    assert (read_request(data).method, hop) == ("ACK", CARRIER)


def test_every_call_leaves_the_element_as_it_was() -> None:
    """E-18: three thousand calls later there are no transactions and no timers."""
    stack = make_stack()
    now = 0.0
    for number in range(3000):
        now += 0.01
        stack.receive(request(branch=f"z9hG4bK{number}", call_id=f"c{number}"), PBX, now)
        events, _ = drain(stack)
        stack.forward(events[0].transaction, Forward((Target("a", CARRIER),)), now)
        stack.receive(response(drain(stack)[1][-1][0], 486), CARRIER, now)
        stack.receive(request("ACK", branch=f"z9hG4bK{number}", call_id=f"c{number}", to_tag="carrier"), PBX, now)
        stack.handle_timer(now)
        drain(stack)
    servers, clients = stack.transaction_counts
    assert servers <= 501  # those of the last T4
    assert clients <= 3000
    stack.handle_timer(now + 40)
    assert stack.transaction_counts == (0, 0)
    assert stack.next_timer() is None


@pytest.mark.parametrize(
    ("uri", "sent_to"),
    [
        ("sip:911@", "sip:911@callpoint.invalid"),
        ("sips:911@", "sips:911@callpoint.invalid"),
        ("sip:911@h:abc", "sip:911@h"),
        ("sip:911@[::1", "sip:911@callpoint.invalid"),
        ("sip:911@a@b", "sip:911@a"),
        ("sip:911@:5060", "sip:911@callpoint.invalid"),
        ("911", "sip:911"),
        ("911@h", "sip:911@h"),
        ("911@h:5060", "sip:911@h:5060"),
        ("+1911@h;user=phone", "sip:+1911@h;user=phone"),
        ("sip:911@h?Route=%3Csip:e@1.2.3.4%3E", "sip:911@h"),
        ("sip:911@?Route=%3Csip:e@1.2.3.4%3E", "sip:911@callpoint.invalid"),
        ("sip:911:pw@h:99999999;user=phone", "sip:911:pw@h"),
        ("sip:9%201%201@b\u00fcro", "sip:9%201%201@b"),
        ('"Emergency" <sip:911@[]:>', "sip:911@callpoint.invalid"),
    ],
)
def test_a_911_whose_host_alone_cannot_be_read_is_dialled_as_the_classifier_reads_it(uri: str, sent_to: str) -> None:
    """E-03: the host is overwritten on the way out; a stranger's, or a pizza's, is refused as ever."""
    plan = plan_of(["US"])
    assert dial.classify(uri, "", plan).is_emergency
    dials = {"is_emergency": lambda request, _: dial.classify(request.request_uri, "", plan).is_emergency}
    stack = make_stack(**dials)
    stack.receive(request(uri=uri), PBX, 0.0)
    (event,), _ = drain(stack)
    assert isinstance(event, RequestReceived)
    assert event.request.request_uri == sent_to
    assert "start line" in event.request.faults
    stack.forward(
        event.transaction, Forward((Target("a", CARRIER, Edit(request_uri="sip:911@psap")),), emergency=True), 0.0
    )
    sent = read_request(drain(stack)[1][-1][0])
    assert sent.request_uri == "sip:911@psap"
    for source, text in ((Hop("udp", "198.51.100.9", 5060), uri), (PBX, uri.replace("9", "8", 1))):
        other = make_stack(**dials, is_trusted=lambda hop: hop == PBX)
        other.receive(request(uri=text), source, 0.0)
        assert not [each for each in drain(other)[0] if isinstance(each, RequestReceived) and source != PBX]


@pytest.mark.parametrize(
    ("via", "mended"),
    [
        (b"Via: junk", b"Via: SIP/2.0/UDP 192.0.2.20:5060"),
        (b"v: junk;branch=z9hG4bKown", b"Via: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bKown"),
        (b"Via: SIP/2.0/UDP [::bad;branch=z9hG4bKown", b"Via: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bKown"),
        (b"Via: SIP/2.0/UDP h:999999;branch=z9hG4bKown", b"Via: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bKown"),
        (
            b"Via: junk, SIP/2.0/UDP b;branch=z9hG4bKb",
            b"Via: SIP/2.0/UDP 192.0.2.20:5060, SIP/2.0/UDP b;branch=z9hG4bKb",
        ),
        (b"X-No: via", b"Via: SIP/2.0/UDP 192.0.2.20:5060"),
    ],
)
def test_a_911_with_a_top_via_nobody_can_read_is_answered_where_it_came_from(via: bytes, mended: bytes) -> None:
    """E-03: repeated it is the same call, its CANCEL finds it, and the carrier gets a Via that can be read."""
    stack = make_stack()
    own = b"Via: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bKcaller1"
    data = worsened(request(), own, via)
    stack.receive(data, PBX, 0.0)
    stack.receive(data, PBX, 0.1)
    events, answers = drain(stack)
    assert [type(event) for event in events] == [RequestReceived]
    assert {hop for _, hop in answers} == {PBX}
    stack.forward(events[0].transaction, Forward((Target("a", CARRIER),), emergency=True), 0.1)
    sent = drain(stack)[1][-1][0]
    assert b"\r\n" + mended + b"\r\n" in sent
    stack.receive(response(sent, 180), CARRIER, 0.2)
    ((up, hop),) = drain(stack)[1]
    assert (read_response(up).status, hop) == (180, PBX)
    stack.receive(worsened(request("CANCEL", body=b""), own, via), PBX, 0.3)
    _, out = drain(stack)
    assert [data.split(b" ")[0] for data, hop in out if hop == CARRIER] == [b"CANCEL"]


def test_a_via_port_that_no_address_has_leads_back_to_where_the_request_came_from() -> None:
    """E-03, E-18: 99999 is five digits; nothing can be sent there."""
    stack = make_stack()
    stack.receive(request().replace(b"192.0.2.20:5060;branch", b"192.0.2.20:99999;branch"), PBX, 0.0)
    assert [hop for _, hop in drain(stack)[1]] == [PBX]


def test_a_method_in_lower_case_is_taken_for_what_it_is_in_a_911_alone() -> None:
    """E-03: RFC 3261 §7.1 tells methods by their case; a phone that does not gets help all the same."""
    stack = make_stack(is_emergency=lambda request, _: request.method == "INVITE" and "911" in request.request_uri)
    stack.receive(request("invite", body=SDP), PBX, 0.0)
    (event,), _ = drain(stack)
    assert isinstance(event, RequestReceived)
    assert (event.request.method, event.request.cseq) == ("INVITE", (1, "INVITE"))
    stack.receive(request("invite", "sip:5551234@192.0.2.10", branch="z9hG4bKother", body=SDP), PBX, 0.0)
    assert statuses(stack)[-1] == 400


@pytest.mark.parametrize("line", [b"X-More: %d\r\n", b" folded %d\r\n", b"X:\r\n", b"no header at all\r\n"])
def test_a_911_with_more_lines_than_anybody_sends_goes_on_with_those_it_needs(line: bytes) -> None:
    """E-03: they stand in front of From, To, Call-ID and CSeq; what is told of them has an end."""
    many = b"".join(line % number if b"%" in line else line for number in range(3_000))
    first, _, rest = request().partition(b"\r\n")
    stack = make_stack()
    stack.receive(first + b"\r\nSubject: many\r\n" + many + rest, PBX, 0.0)
    (event,), answers = drain(stack)
    assert isinstance(event, RequestReceived)
    assert event.request.from_tag == "alice"
    assert event.request.header("Contact") == "<sip:101@192.0.2.20:5060;transport=udp>"
    assert len(event.request.faults) < 30
    assert [read_response(data).status for data, _ in answers] == [100]


def test_what_a_line_that_is_no_sip_asks_for_is_read_for_the_record() -> None:
    """E-03: of a message without an end to its headers nothing else can be told."""
    assert dialed(b"\r\nINVITE sip:911@ SIP/2.0\r\nVia") == ("INVITE", "sip:911@callpoint.invalid")
    assert dialed(b"invite 911 sip/2.0\n") == ("INVITE", "sip:911")
    assert dialed(b"SIP/2.0 200 OK\r\n") is None
    assert dialed(b"nothing") is None
    assert dialed(b"INVITE " + b"9" * 5_000) is not None
