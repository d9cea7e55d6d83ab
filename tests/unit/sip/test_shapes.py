"""Messages whose like came before are read faster: the same as the first of their kind, whatever the bytes."""

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sip import headers, message
from engine.sip.message import BadMessage, Request, Response, parse_message, parse_sent

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


def made(kind: str, number: int) -> bytes:
    method = KINDS[kind].partition(" ")[0]
    to = ";tag=b" if kind == "bye" else ""
    return KINDS[kind].format(n=number, to=to, method=method if method.isalpha() else "INVITE").encode()


KEPT = (
    message._shapes, message._start_lines, message._status_lines,
    headers._via_heads, headers._cseqs, headers._numbers, headers._addresses,
)  # fmt: skip


VIA = ("transport", "host", "port", "branch", "sent_by", "has_rport", "received_at", "start", "end")


def outcome(data: bytes) -> object:
    """What a reading came to, in values that can be compared."""
    try:
        found = parse_message(data)
    except BadMessage as fault:
        return fault.detail, fault.sip_status
    kinds = Request if isinstance(found, Request) else Response
    names = [name for base in kinds.__mro__ for name in getattr(base, "__slots__", ()) if name != "shape"]
    values = {name: getattr(found, name) for name in names}
    values["via"] = {name: getattr(found.via, name) for name in VIA}
    return kinds, found.shape.names, values


def forget() -> None:
    for store in KEPT:
        store.clear()


def read_first(data: bytes) -> object:
    """The outcome where nothing like it came before."""
    forget()
    return outcome(data)


def learn() -> None:
    """Meet every kind, in numbers that bring each reading back."""
    forget()
    for kind in KINDS:
        for number in range(3):
            parse_message(made(kind, number))
    assert all(KEPT), "every store has something in it"


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_shape_is_read_as_the_first_of_its_kind(kind):
    """E-18: every value a proxy needs, from lines that are only compared."""
    data = made(kind, 7_000)
    learn()
    assert outcome(data) == outcome(data) == read_first(data)


@settings(max_examples=1_500, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    seed=st.integers(0, 2**32),
    changes=st.integers(1, 3),
)
def test_a_damaged_message_is_read_or_refused_as_it_would_be_alone(kind, seed, changes):
    """E-18: nothing gets past what is kept that the grammar would not let through, now or the second time."""
    chance, data = random.Random(seed), made(kind, seed % 3)
    for _ in range(changes):
        at = chance.randrange(len(data) + 1)
        data = data[:at] + chance.choice(PIECES) + data[at + chance.choice((0, 0, 1, 2, 5)) :]
    learn()
    assert outcome(data) == outcome(data) == read_first(data)


def test_a_shape_is_known_by_the_spelling_of_every_name():
    """E-18: one letter, a blank before the colon, or a name that is another's beginning make another shape."""
    learn()
    data = made("ringing", 1)
    for other in (b"X-Length: 0", b"Content-Length : 0", b"Content: 0", b"l: 0", b"Content-Length-: 0"):
        changed = data.replace(b"Content-Length: 0", other)
        assert outcome(changed) == read_first(changed)
        learn()


def test_what_was_learned_is_bounded():
    """E-18: a peer that never sends the same headers twice costs no memory, and the others are known again at once."""
    learn()
    for number in range(3_000):
        start = b"SIP/2.0 %d x" % (100 + number % 500)
        line = b"X-%d: 1\r\nContent-Length" % number
        data = made("ringing", number).replace(b"SIP/2.0 180 Ringing", start).replace(b"Content-Length", line)
        parse_message(data)
    assert 0 < len(message._shapes) <= message._MAX_STARTS
    assert max(map(len, message._shapes.values())) <= message._MAX_ALIKE
    assert sum(map(len, message._shapes.values())) <= message._MAX_SHAPES
    data = made("ringing", 1)
    assert parse_message(data).shape is parse_message(data).shape


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [b"\r", b"\n"])
@pytest.mark.parametrize("last", [b"\r", b"\n"])
def test_a_bare_line_end_is_refused_whatever_stands_behind_the_headers(kind, end, last):
    """E-18: one byte that a line end lacks, and one too many at the end of the headers, make the right length."""
    head, _, body = made(kind, 7).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    for at in range(1, len(lines)):
        data = b"\r\n".join(lines[:at]) + end + b"\r\n".join(lines[at:]) + last + b"\r\n\r\n" + body
        learn()
        assert outcome(data) == read_first(data) == ("a bare CR or LF stands in the headers", 400)


def of_model(number: int) -> bytes:
    """The same message as another model of phone writes it."""
    return made("ringing", 1).replace(b"Content-Length", b"X-%d: 1\r\nContent-Length" % number)


def test_fifty_models_of_phones_that_take_turns_are_all_known():
    """E-18: none takes the place of the next one to come."""
    forget()
    found = [parse_message(of_model(number)).shape for number in range(50)]
    for _ in range(3):
        assert all(parse_message(of_model(number)).shape is found[number] for number in range(50))


def test_what_comes_again_stays_known_among_what_comes_once():
    """E-18: of shapes that begin alike the one not met for longest goes."""
    forget()
    shape = parse_message(made("ringing", 1)).shape
    for number in range(3 * message._MAX_ALIKE):
        parse_message(of_model(number))
        assert parse_message(made("ringing", number)).shape is shape


def test_a_start_too_many_costs_one_other_its_place():
    """E-18: those met lately are still known."""
    forget()
    data = [made("answer", 1).replace(b"200 ", b"%d " % status) for status in range(100, 101 + message._MAX_STARTS)]
    shapes = [parse_message(one).shape for one in data]
    assert all(parse_message(one).shape is shape for one, shape in list(zip(data, shapes, strict=True))[1:])
    assert parse_message(data[0]).shape is not shapes[0]


def test_what_we_sent_teaches_nothing():
    """E-18: it may have more headers than a stranger's, whose turn it would be to be known."""
    forget()
    assert parse_sent(made("invite", 1)).cseq == (1, "INVITE")
    assert message._shapes == {}


def test_long_lines_are_not_kept():
    """E-04: anybody may send reasons of 60 kB, each another one; the last thousands of them were kept."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(200):
            long = b"SIP/2.0 180 " + b"%d" % number * 20_000
            parse_message(made("ringing", number).replace(b"SIP/2.0 180 Ringing", long))
        assert tracemalloc.get_traced_memory()[0] - before < 1_000_000
    finally:
        tracemalloc.stop()
