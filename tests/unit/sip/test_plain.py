"""Messages of known shapes are read by one pattern each: the same as by the parser, whatever the bytes."""

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sip.message import BadMessage, Request, Response, parse_message
from engine.sip.plain import LEARN_AFTER, MAX_PLANS, PlainReader

HEAD = (
    "Via: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK{n}\r\n"
    "v: SIP/2.0/TCP [2001:db8::1];branch=z9hG4bKfirst, SIP/2.0/UDP h\r\n"
    'From: "A, b" <sip:101@example.com>;tag=a{n}\r\nTo: <sip:911@example.com>{to}\r\n'
    "Call-ID: {n}@example.com\r\nCSeq: {n} {method}\r\n"
)
KINDS = {
    "invite": "INVITE sip:911@example.com SIP/2.0\r\n" + HEAD + "Max-Forwards: 70\r\nContent-Length: 4\r\n\r\nbody",
    "bare": "INVITE sip:911@example.com SIP/2.0\r\n" + HEAD + "X-Odd:\r\n\r\nbody",
    "bye": "BYE sip:911@example.com;lr SIP/2.0\r\nl: 0\r\n" + HEAD + "Route: <sip:a;lr>\r\nRoute: <sip:b>\r\n\r\n",
    "ringing": "SIP/2.0 180 Ringing\r\n" + HEAD + "Content-Length: 0\r\n\r\n",
    "answer": "SIP/2.0 200 \r\n" + HEAD + "Contact: <sip:a@b>\r\nContent-Length: 4\r\n\r\nbody",
}
PIECES = [
    b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b"\r\n ", b",", b";", b":", b'"', b"<", b">", b"0", b"9", b"99999999999",
    b";rport", b";tag=x", b"Via: SIP/2.0/UDP x;branch=z9hG4bKy\r\n", b"To: <sip:x>\r\n", b"\xff", b"%", b"SIP/2.0", b"",
]  # fmt: skip


def message(kind: str, number: int) -> bytes:
    method = KINDS[kind].partition(" ")[0]
    to = ";tag=b" if kind == "bye" else ""
    return KINDS[kind].format(n=number, to=to, method=method if method.isalpha() else "INVITE").encode()


def outcome(read, data: bytes) -> object:
    """What a reading came to, in values that can be compared."""
    try:
        found = read(data)
    except BadMessage as fault:
        return fault.detail, fault.sip_status
    kinds = Request if isinstance(found, Request) else Response
    names = [name for base in kinds.__mro__ for name in getattr(base, "__slots__", ()) if name != "shape"]
    return kinds, found.shape.names, [(name, getattr(found, name)) for name in names]


@pytest.fixture(scope="module")
def reader() -> PlainReader:
    """One that knows the shape of every kind."""
    made = PlainReader()
    for kind in KINDS:
        for number in range(LEARN_AFTER + 1):
            made.read(message(kind, number))
    assert made.known == len(KINDS)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_shape_is_read_as_the_parser_reads_it(reader, kind):
    """E-18: every value a proxy needs, from its own pattern."""
    data = message(kind, 7_000)
    assert outcome(reader.read, data) == outcome(parse_message, data)


@settings(max_examples=1_500, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    seed=st.integers(0, 2**32),
    changes=st.integers(1, 3),
)
def test_a_damaged_message_is_read_or_refused_as_the_parser_would(reader, kind, seed, changes):
    """E-18: nothing gets past a pattern that the grammar would not let through."""
    chance, data = random.Random(seed), message(kind, seed % 1_000)
    for _ in range(changes):
        at = chance.randrange(len(data) + 1)
        data = data[:at] + chance.choice(PIECES) + data[at + chance.choice((0, 0, 1, 2, 5)) :]
    assert outcome(reader.read, data) == outcome(parse_message, data)


def test_what_was_learned_is_bounded():
    """E-18: a peer that never sends the same headers twice costs no memory."""
    reader = PlainReader()
    for shape in range(MAX_PLANS + 3):
        for number in range(LEARN_AFTER):
            reader.read(message("ringing", number).replace(b"Content-Length", b"X-%d: 1\r\nContent-Length" % shape))
    assert 0 < reader.known <= MAX_PLANS


def test_long_lines_are_not_kept():
    """E-04: anybody may send reasons of 60 kB, each another one; the last thousands of them were kept."""
    tracemalloc.start()
    try:
        reader, before = PlainReader(), tracemalloc.get_traced_memory()[0]
        for number in range(200):
            long = b"SIP/2.0 180 " + b"%d" % number * 20_000
            reader.read(message("ringing", number).replace(b"SIP/2.0 180 Ringing", long))
        assert tracemalloc.get_traced_memory()[0] - before < 1_000_000
    finally:
        tracemalloc.stop()
