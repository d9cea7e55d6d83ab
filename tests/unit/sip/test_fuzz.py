"""Any bytes either parse or raise BadMessage, in bounded time; and whatever comes, we answer at most as we may.

Real messages (RFC 4475's, the golden INVITEs of every carrier, those of the other tests) are broken in ways that
programs break them: bits, bytes, lines, lengths and pieces of other messages. The same seeds every time.
"""

import contextlib
import random
import time
import zlib
from collections.abc import Iterator
from functools import cache

import pytest

from engine.sip import headers
from engine.sip.forward import Forward, Hop, Target
from engine.sip.message import BadMessage, Request, Response, parse_message
from engine.sip.repair import repair
from engine.sip.stack import RequestReceived, SipStack
from engine.sip.stream import Framer
from engine.sip.uri import parse_name_addr, parse_uri, split_values
from tests.conftest import CASES, ROOT
from tests.siptest import PBX, SDP, drain, make_stack, read_request, request, response, route_set

TRUNK = Hop("udp", "192.0.2.201", 5060)
STRANGER = Hop("udp", "203.0.113.9", 5071)
MUTANTS = 2_500
CPU_S = 2.0  # one message; thousands of times what an honest one takes, so that a slow machine is no failure
REFUSALS = {400, 403, 404, 408, 414, 416, 420, 480, 481, 482, 483, 487, 500, 503, 505, 513}
PIECES = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b"\r\n ", b",", b";", b":", b'"', b"\\", b"<", b">", b"[",
    b"]", b"=", b"?", b"@", b"%", b"%00", b"\xff\xfe", b"\xc3\x28", b"SIP/2.0", b"sip:", b"sips:", b"tel:",
    b"urn:service:sos", b"Via: SIP/2.0/UDP a;branch=z9hG4bK", b"Content-Length: 99999\r\n", b"l: -1\r\n",
    b"CSeq: 99999999999999999999 ACK\r\n", b"Max-Forwards: 0\r\n", b"Route: <sip:192.0.2.10;lr>\r\n",
    b";cp=0123456789abcdef", b";cu=AAAAAAAAAAAAAAAAAAAAAAAA", b";maddr=192.0.2.10", b"Proxy-Require: x\r\n", b"911",
    b"\x80" * 9,
]  # fmt: skip


@cache
def corpus() -> list[bytes]:
    """Messages as they are on the wire."""
    found = [path.read_bytes() for path in sorted((ROOT / "tests" / "golden" / "invites").rglob("*.sip"))]
    found += [path.read_bytes() for path in sorted((CASES / "sip" / "rfc4475").glob("*.dat"))]
    invite = request(routes=["<sip:192.0.2.10;lr;cp=0123456789abcdef>, <sip:192.0.2.40;lr>"])
    found += [invite, request("CANCEL"), request("OPTIONS", "sip:192.0.2.10"), request("ACK", to_tag="x")]
    found += [response(invite, status, body=SDP) for status in (100, 183, 200, 401, 503)]
    assert len(found) >= 9
    return found


def broken(seed: int) -> bytes:
    """One message of the corpus with one to six faults."""
    chance = random.Random(seed)
    data = bytearray(chance.choice(corpus()))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice([1, 1, 2, 8, 40, 400]))
        match chance.randrange(8):
            case 0:
                data[at:at] = chance.choice(PIECES)
            case 1:
                del data[at:end]
            case 2:
                data[at:end] = bytes(chance.randrange(256) for _ in range(end - at))
            case 3:
                data[at:at] = bytes(data[at:end]) * chance.choice([1, 2, 30, 200])
            case 4:
                data[at:at] = chance.choice(PIECES) * chance.choice([3, 50, 2_000])
            case 5:
                other = chance.choice(corpus())
                cut = chance.randrange(len(other))
                data[at:end] = other[cut : cut + chance.choice([20, 200, 2_000])]
            case 6:
                lines = bytes(data).split(b"\r\n")
                chance.shuffle(lines)
                data = bytearray(b"\r\n".join(lines))
            case _ if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
    return bytes(data[:70_000])


def read_everything(message: Request | Response) -> None:
    """Ask a message all that anybody may ask of it."""
    assert message.cseq[1]
    assert message.call_id
    assert message.via.host
    for name in set(message.names) - {b""}:
        for value in message.headers(name.decode("latin-1")):
            split_values(value)
            for read in (parse_name_addr, parse_uri):
                try:
                    read(value)
                except BadMessage:
                    continue
    for index, name in enumerate(message.names):
        if name == b"via":
            line = message.lines[index]
            position = line.index(b":") + 1
            while position < len(line) and line[position - 1 : position] in b":,":
                headers.read_via(line, position)
                position = headers.element_end(line, position) + 1


@pytest.mark.parametrize("block", range(5))
def test_any_bytes_parse_or_raise_bad_message_in_bounded_time(block: int) -> None:
    """E-18: nothing else leaves the parser, and no message costs more than a moment."""
    for seed in range(block * MUTANTS // 5, (block + 1) * MUTANTS // 5):
        data = broken(seed)
        begun = time.process_time()
        with contextlib.suppress(BadMessage):
            read_everything(parse_message(data))
        repaired = repair(data)
        if repaired is not None:
            read_everything(repaired)
        framer = Framer()
        for start in range(0, len(data), 1_460):
            framer.feed(data[start : start + 1_460])
        assert time.process_time() - begun < CPU_S, seed


def answers(outgoing: list[tuple[bytes, Hop]], to: Hop) -> list[int]:
    return [int(data[8:11]) for data, hop in outgoing if hop.ip == to.ip and data.startswith(b"SIP/2.0 ")]


@pytest.mark.parametrize("block", range(5))
def test_whatever_comes_the_element_answers_at_most_as_it_may(block: int) -> None:
    """E-18: from a peer and from a stranger: one refusal or silence, no answer to an answer, none to third parties."""
    for seed in range(block * MUTANTS // 5, (block + 1) * MUTANTS // 5):
        data = broken(seed)
        for source in (PBX, STRANGER):
            stack = make_stack(is_trusted=lambda hop: hop.ip == PBX.ip)
            begun = time.process_time()
            stack.receive(data, source, 0.0)
            events, outgoing = drain(stack)
            asked = [event for event in events if isinstance(event, RequestReceived)]
            statuses = answers(outgoing, source)
            assert len(outgoing) == len(statuses) <= 1, seed
            assert len(asked) <= 1
            assert set(statuses) <= REFUSALS | {100}, (seed, statuses)
            if data.lstrip(b"\r\n").startswith((b"SIP/", b"ACK ")):
                assert outgoing == []
            for event in asked:
                forwarded = carry(stack, event, seed)
                assert source is PBX or not forwarded or not statuses
            while (due := stack.next_timer()) is not None:
                stack.handle_timer(due)
            drain(stack)
            assert stack.transaction_counts == (0, 0), seed
            assert time.process_time() - begun < CPU_S, seed


def carry(stack: SipStack, event: RequestReceived, seed: int) -> list[bytes]:
    """Send it on to a trunk that answers as brokenly as the rest; what left can be read, its body is as it came."""
    decision = Forward((Target("a", TRUNK),), "call", emergency=seed % 2 == 0)
    stack.forward(event.transaction, decision, 0.0)
    _, outgoing = drain(stack)
    sent = [data for data, hop in outgoing if hop == TRUNK]
    chance = random.Random(seed)
    for data in sent[:1]:
        assert data.endswith(b"\r\n\r\n" + event.request.body)
        if len(data) < 60_000 and event.request.cseq[0] < 2**31 and data.count(b"\r\n") < 240:
            assert read_request(data).body == event.request.body
        else:
            continue
        for status in (chance.choice([100, 183]), chance.choice([200, 401, 486, 503])):
            answer = bytearray(response(data, status))
            for _ in range(chance.randint(0, 2)):
                at = chance.randrange(12, len(answer))
                answer[at : at + chance.choice([0, 1, 9])] = chance.choice(PIECES)
            stack.receive(bytes(answer), TRUNK, 0.1)
            outgoing = drain(stack)[1]
            assert {hop.ip for _, hop in outgoing} <= {TRUNK.ip, event.transaction.hop.ip}, seed
    return sent


PATTERNS = [
    b'"', b"\\", b'\\"', b"<", b">", b"<>", b",", b", ", b";", b";a", b";a=", b';a="', b"=", b" ", b"\t", b"\r\n ",
    b":", b"[", b"[:", b"%", b"a", b"a.", b"1", b"@", b"a@", b'"a" <sip:a@b>, ', b"SIP/2.0/UDP a;b, ",
]  # fmt: skip


def hostile() -> Iterator[bytes]:
    """One pattern over and over in one place, to the largest message there is."""
    for name in (b"Via", b"From", b"To", b"CSeq", b"Call-ID", b"Route", b"Contact", b"Max-Forwards", b"X"):
        for pattern in PATTERNS:
            yield name + b": " + (pattern * 60_000)[:60_000]


@pytest.mark.parametrize("place", ["alone", "behind"])
def test_no_pattern_makes_reading_slow(place: str) -> None:
    """E-18: nothing here goes back over what it has read: 60 kB of anything, anywhere, in a moment."""
    plain = request("INVITE", "sip:911@192.0.2.10", body=b"")
    for line in hostile():
        name = line[: line.index(b":")]
        lines = plain.split(b"\r\n")
        if place == "behind":
            data = plain.replace(b"\r\nContact:", b"\r\n" + line + b"\r\nContact:")
        else:
            data = b"\r\n".join(line if each.startswith(name + b":") else each for each in lines)
        stack = make_stack()
        begun = time.process_time()
        stack.receive(data, PBX, 0.0)
        for event in drain(stack)[0]:
            if isinstance(event, RequestReceived):
                read_everything(event.request)
                stack.forward(event.transaction, Forward((Target("a", TRUNK),)), 0.0)
        drain(stack)
        assert time.process_time() - begun < CPU_S, line[:40]
    for uri in (b"sip:", b"sip:a@", b"sips:[", b"tel:", b"urn:"):
        for pattern in PATTERNS:
            if b" " not in pattern and b"\t" not in pattern:
                begun = time.process_time()
                make_stack().receive(plain.replace(b"sip:911@192.0.2.10", uri + pattern * 8_000, 1), PBX, 0.0)
                assert time.process_time() - begun < CPU_S, (uri, pattern)


def test_a_request_that_pretends_to_be_a_loop_costs_no_more() -> None:
    """E-18: anybody can work out what our branches end in; the Vias are searched once, whatever is in them."""
    plain = request("MESSAGE", "sip:a@b", branch="z9hG4bKloop")
    loop = b".%08x" % zlib.crc32(b"sip:a@b" + b"call-1@192.0.2.20" + b"1")
    for pattern in PATTERNS:
        via = b"\r\nVia: " + (pattern * 60_000)[:60_000] + b";branch=z9hG4bK" + loop
        stack = make_stack()
        begun = time.process_time()
        stack.receive(plain.replace(b"\r\nContact:", via + b"\r\nContact:"), PBX, 0.0)
        assert time.process_time() - begun < CPU_S, pattern
    true = b"\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKx" + loop
    stack = make_stack()
    stack.receive(plain.replace(b"\r\nContact:", true + b"\r\nContact:"), PBX, 0.0)
    assert answers(drain(stack)[1], PBX) == [482]


def test_a_mutant_inside_a_dialog_goes_nowhere_it_should_not() -> None:
    """E-04: broken copies of a BYE that carries our mark: to the far end as it was named, or refused."""
    stack = make_stack(is_trusted=lambda hop: hop.ip == PBX.ip)
    stack.receive(request(), PBX, 0.0)
    (event,), _ = drain(stack)
    stack.forward(event.transaction, Forward((Target("a", TRUNK),)), 0.0)
    stack.receive(response(drain(stack)[1][-1][0], 200), TRUNK, 0.1)
    answer = parse_message(drain(stack)[1][-1][0])
    assert isinstance(answer, Response)
    routes = route_set(answer)
    chance = random.Random(911)
    for number in range(600):
        bye = bytearray(
            request("BYE", "sip:psap@192.0.2.201", routes=routes, to_tag="carrier", cseq=2, branch=f"z9hG4bK{number}")
        )
        at = chance.randrange(len(bye))
        bye[at : at + chance.choice([0, 1, 5])] = chance.choice(PIECES)
        stack.receive(bytes(bye), STRANGER, 1.0 + number / 10)
        events, outgoing = drain(stack)
        for data, hop in outgoing:
            assert hop.ip == STRANGER.ip or data.startswith(b"BYE ")
        assert len(events) + len(outgoing) <= 2
