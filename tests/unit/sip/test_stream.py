"""The framer: a stream cut into messages, however it was segmented."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sip.stream import Framer
from tests.siptest import read_request, request

FIRST = request(body=b"one\r\n\r\ntwo")
SECOND = request("OPTIONS").replace(b"Content-Length: ", b"l \t: ")
THIRD = request("MESSAGE", body=b"\x00\r\n\r\n\xff").replace(b"Content-Length: ", b"CONTENT-LENGTH:\r\n ")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 400), max_size=20))
def test_any_segmentation_gives_the_same_messages(sizes: list[int]) -> None:
    """E-18: split, coalesced, byte by byte; compact and folded Content-Length, spaces before the colon."""
    stream = FIRST + b"\r\n" + SECOND + THIRD + b"\r\n\r\n" + FIRST
    framer, messages, pings = Framer(), [], 0
    for size in [*sizes, len(stream)]:
        messages += framer.feed(stream[:size])
        pings += framer.pings
        stream = stream[size:]
    assert messages == [FIRST, SECOND, THIRD, FIRST]
    assert pings == 1
    assert framer.lost is None


def test_one_byte_at_a_time() -> None:
    """E-18: nothing is read twice, nothing is lost."""
    framer, messages, pings = Framer(), [], 0
    for byte in b"\r\n\r\n\r\n\r\n" + FIRST + b"\n" + SECOND:
        messages += framer.feed(bytes([byte]))
        pings += framer.pings
    assert messages == [FIRST, SECOND]
    assert pings == 2


def test_a_half_ping_waits() -> None:
    """E-18: RFC 5626 §3.5.1; a single CRLF is dropped when a message follows it."""
    framer = Framer()
    assert framer.feed(b"\r\n\r") == []
    assert framer.pings == 0
    assert framer.feed(b"\n\r\n") == []
    assert framer.pings == 1
    assert framer.feed(FIRST) == [FIRST]


@pytest.mark.parametrize(
    "data",
    [
        FIRST.replace(b"Content-Length: 10\r\n", b""),
        FIRST.replace(b"Content-Length: 10", b"Content-Length: ten"),
        FIRST.replace(b"Content-Length: 10", b"Content-Length: -1"),
        FIRST.replace(b"Content-Length: 10", b"Content-Length: 10\r\nl: 0"),
        FIRST.replace(b"Content-Length: 10", b"Content-Length: 65536"),
        FIRST.replace(b"Content-Length: 10", b"Content-Length: 123456789"),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"x" * 70_000,
    ],
)
def test_a_stream_that_cannot_be_cut_is_lost(data: bytes) -> None:
    """E-18: what came before it is delivered, nothing after it is believed."""
    framer = Framer()
    assert framer.feed(SECOND + data) == [SECOND]
    assert framer.lost is not None
    assert framer.feed(SECOND) == []


def test_a_missing_content_length_is_refused_for_that_reason() -> None:
    """E-18: §18.3; an emergency request may still be read with all that came as its body."""
    framer = Framer()
    framer.feed(FIRST.replace(b"Content-Length: 10\r\n", b""))
    assert framer.lost is not None
    assert b"Content-Length: missing\r\n\r\none" in framer.lost.data


def test_a_long_message_in_small_segments_is_not_searched_again_and_again() -> None:
    """E-18: 60 kB in 60-byte segments."""
    big = request(body=b"y" * 60_000)
    framer, messages = Framer(), []
    for start in range(0, len(big), 60):
        messages += framer.feed(big[start : start + 60])
    assert read_request(messages[0]).body == b"y" * 60_000
