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


UNCUT = FIRST.replace(b"Content-Length: 10\r\n", b"")
SDP_UNCUT = request(body=b"v=0\r\na=x\r\n").replace(b"Content-Length: 10", b"Content-Length: ten")
MULTIPART = (
    request(added=["Content-Type: multipart/mixed;boundary=b1"], body=b"")
    .replace(b"Content-Length: 0\r\n", b"")
    + b"--b1\r\n\r\nINVITE sip:911@h SIP/2.0\r\n\r\n--b1--\r\n"
)  # fmt: skip


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (request("OPTIONS").replace(b"Content-Length: 0\r\n", b""), b""),
        (SDP_UNCUT, b"v=0\r\na=x\r\n"),
        (SDP_UNCUT.replace(b"Length: ten", b"Length: 10\r\nl: 0"), b"v=0\r\na=x\r\n"),
        (MULTIPART, b"--b1\r\n\r\nINVITE sip:911@h SIP/2.0\r\n\r\n--b1--"),
    ],
)
@pytest.mark.parametrize("between", [b"", b"\r\n", b"\r\n\r\n"])
def test_a_stream_goes_on_where_a_body_says_by_itself_that_it_is_over(data: bytes, body: bytes, between: bytes) -> None:
    """E-03: no body, SDP, a whole multipart; together with what follows, or with that in segments of any size."""
    for size in (len(data) + 10_000, 7):
        framer = Framer()
        assert framer.feed(data) == []
        lost = framer.lost
        assert lost is not None
        assert lost.data.partition(b"\r\n\r\n")[2] == body
        found = framer.resume()
        assert framer.lost is None
        behind = between + SECOND + SECOND
        for start in range(0, len(behind), size):
            found += framer.feed(behind[start : start + size])
        assert found == [SECOND, SECOND]
    framer = Framer()
    assert framer.feed(data + between + SECOND) == []
    assert framer.resume() == [SECOND]


def test_sdp_that_comes_in_two_pieces_is_passed_over_and_nothing_else_is() -> None:
    """E-03: what follows must be SDP still, or begin a message."""
    for behind, expected in ((b"art\r\nb=x\r\n" + SECOND, [SECOND]), (b"art\r\n@@ " + SECOND, [])):
        framer = Framer()
        framer.feed(SDP_UNCUT + b"t=st")
        assert framer.resume() == []
        assert framer.feed(behind) == expected
        assert (framer.lost is None) is bool(expected)


@pytest.mark.parametrize(
    "data",
    [
        request("MESSAGE", added=["Content-Type: text/plain"], body=b"").replace(b"Content-Length: 0\r\n", b"")
        + b"INVITE sip:011@h SIP/2.0\r\n\r\n",
        MULTIPART.replace(b"--b1--", b"--b1-"),
        request("OPTIONS").replace(b"Content-Length: 0\r\n", b"") + b"GET / HTTP/1.1\r\n",
        SDP_UNCUT + b"GET / HTTP/1.1\r\n",
    ],
)
def test_a_stream_whose_next_message_would_be_a_guess_is_not_gone_on_with(data: bytes) -> None:
    """E-18: what somebody wrote into a body is no request of the PBX."""
    framer = Framer()
    assert framer.feed(data) == []
    assert framer.resume() == []
    assert framer.lost is not None
    assert framer.feed(SECOND) == []
