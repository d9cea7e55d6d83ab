"""Multipart bodies: every byte of the caller's kept; parts read as RFC 2046 delimits them, however deep."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.e911 import multipart
from engine.e911.multipart import boundary_of, leaves, make_part, mixed_boundary, read_part, without

SDP = (
    b"v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=-\r\nc=IN IP4 10.0.0.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=x:\xff\xfe\r\n"
)


def compose(body, pidf, *, content_type, content_id, part_headers=()):
    part = make_part(pidf, content_type="application/pidf+xml", content_id=content_id)
    token = content_id.partition("@")[0]
    return multipart.compose(body, (part,), content_type=content_type, token=token, part_headers=part_headers)


def parts_of(content_type, body):
    """Split a multipart body the way RFC 2046 says: [(head, content)]."""
    boundary = mixed_boundary(content_type).encode()
    whole = b"\r\n" + body
    pieces = re.split(rb"\r\n--" + re.escape(boundary), whole)
    assert pieces[-1].startswith(b"--")
    return [tuple(piece.removeprefix(b"\r\n").split(b"\r\n\r\n", 1)) for piece in pieces[1:-1]]


def test_sdp_is_kept_byte_for_byte_before_the_location():
    """E-06: the caller's own part first and unchanged, the PIDF-LO last."""
    composed = compose(SDP, b"<presence/>", content_type="application/sdp", content_id="call_1@callpoint.invalid")
    first, last = parts_of(composed.content_type, composed.body)
    assert first == (b"Content-Type: application/sdp", SDP)
    head, content = last
    assert content == b"<presence/>"
    assert b"Content-Type: application/pidf+xml" in head
    assert b"Content-ID: <call_1@callpoint.invalid>" in head


def test_a_body_s_own_headers_move_into_its_part():
    """E-06: Content-Disposition and the like describe the body they came with."""
    composed = compose(
        SDP,
        b"<p/>",
        content_type="application/sdp",
        content_id="c@x",
        part_headers=[("Content-Disposition", "session")],
    )
    assert composed.moved == ("Content-Disposition",)
    head, content = parts_of(composed.content_type, composed.body)[0]
    assert head == b"Content-Type: application/sdp\r\nContent-Disposition: session"
    assert content == SDP


@pytest.mark.parametrize("quote", ['"', ""])
def test_a_multipart_body_gets_one_more_part_inside(quote):
    """E-06: nested multipart and unknown parts keep every byte; no second wrapping."""
    nested = b"--in\r\nContent-Type: text/plain\r\n\r\n--out--\n--in--"
    own = (
        b"preamble\r\n--out\r\nContent-Type: application/sdp\r\n\r\n" + SDP + b"\r\n--out\r\n"
        b"Content-Type: multipart/alternative;boundary=in\r\n\r\n"
        + nested.replace(b"--out--\n", b"")
        + b"\r\n--out--\r\nepilogue"
    )
    composed = compose(
        own, b"<p/>", content_type=f"Multipart/Mixed; charset=x; boundary={quote}out{quote}", content_id="c@x"
    )
    assert composed.content_type is None
    assert composed.moved == ()
    at_ = own.rindex(b"--out--")
    assert composed.body.startswith(own[:at_])
    assert composed.body.endswith(own[at_:])
    sdp, alternative, location = parts_of("multipart/mixed;boundary=out", composed.body)
    assert sdp[1] == SDP
    assert b"boundary=in" in alternative[0]
    assert location[1] == b"<p/>"


def test_a_multipart_body_without_its_end_is_wrapped_as_it_is():
    """E-06: a broken body is passed on, not repaired."""
    own = b"--out\r\nContent-Type: application/sdp\r\n\r\n" + SDP
    composed = compose(own, b"<p/>", content_type="multipart/mixed;boundary=out", content_id="c@x")
    first, last = parts_of(composed.content_type, composed.body)
    assert first == (b"Content-Type: multipart/mixed;boundary=out", own)
    assert last[1] == b"<p/>"


def test_an_invite_without_an_offer_carries_the_location_alone():
    composed = compose(b"", b"<p/>", content_type=None, content_id="c@x")
    assert [content for _, content in parts_of(composed.content_type, composed.body)] == [b"<p/>"]


@pytest.mark.parametrize(("body", "guessed"), [(SDP, b"application/sdp"), (b"\x00\x01", b"application/octet-stream")])
def test_a_body_without_a_type_gets_the_likeliest(body, guessed):
    composed = compose(body, b"<p/>", content_type=None, content_id="c@x")
    head, content = parts_of(composed.content_type, composed.body)[0]
    assert head == b"Content-Type: " + guessed
    assert content == body


def test_the_boundary_occurs_in_no_body():
    """E-06: even when the caller's body holds what would have been the boundary."""
    body = b"v=0\r\n--callpoint-call1\r\n--callpoint-call1-1--\r\n"
    composed = compose(body, b"<p/>", content_type="application/sdp", content_id="call_1@x")
    assert mixed_boundary(composed.content_type) == "callpoint-call1-2"
    assert parts_of(composed.content_type, composed.body)[0][1] == body


@given(st.binary(max_size=300))
def test_any_body_comes_out_as_it_went_in(body):
    """E-06: byte for byte."""
    composed = compose(body, b"<p/>", content_type="application/x", content_id="c@x")
    contents = [content for _, content in parts_of(composed.content_type, composed.body)]
    assert contents == ([body, b"<p/>"] if body else [b"<p/>"])


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/mixed;boundary="a b"', "a b"),
        (r'multipart/mixed;boundary="a\"b"', 'a"b'),
        ("multipart/mixed ; BOUNDARY = x", "x"),
        ("multipart/mixed", None),
        ("multipart/mixed;boundary=" + "x" * 71, None),
        ("multipart/alternative;boundary=x", None),
        ('multipart/mixed;xboundary=y;boundary="z"', "z"),
    ],
)
def test_boundaries_are_read_as_rfc_2046_writes_them(content_type, boundary):
    assert mixed_boundary(content_type) == boundary


# --- reading ----------------------------------------------------------------------------------------------------------

MIXED = "multipart/mixed; boundary=out"
WHOLE = (
    b"a preamble\r\n--outside is no delimiter\r\n--out \t\r\nContent-Type: application/sdp\r\n\r\n"
    + SDP
    + b"\r\n--out\r\n"
    b'content-type: multipart/related;boundary="out-1"\r\n\r\n'
    b"inner preamble\r\n--out-1\r\nContent-Type: Application/PIDF+XML; charset=utf-8\r\nContent-ID: <a@b>\r\n\r\n<one/>"
    b"\r\n--out-1\r\nContent-ID:\r\n c@d\r\n\r\nwords\r\n--out-1--\r\ninner epilogue"
    b"\r\n--out\r\n\r\nno headers at all\r\n--out--\r\nan epilogue\r\n--out\r\nnot a part\r\n--out--\r\n"
)


def test_nested_parts_are_read_from_the_outermost_in():
    """E-06: a boundary that begins like the outer one, blanks behind a delimiter, folded and bare Content-IDs."""
    found = list(leaves(WHOLE, MIXED))
    assert [(part.media_type, part.content_id, part.content) for part in found] == [
        ("application/sdp", "", SDP),
        ("application/pidf+xml", "a@b", b"<one/>"),
        ("text/plain", "c@d", b"words"),
        ("text/plain", "", b"no headers at all"),
    ]


def test_a_part_is_taken_out_of_the_inside_and_every_other_byte_stays():
    """E-06: preamble, epilogue, odd spacing and the other parts are byte for byte what they were."""
    left = without(WHOLE, MIXED, lambda part: part.media_type == "application/pidf+xml")
    start = WHOLE.index(b"--out-1\r\nContent-Type: App")
    end = WHOLE.index(b"--out-1\r\nContent-ID:\r\n")
    assert left == WHOLE[:start] + WHOLE[end:]
    assert without(WHOLE, MIXED, lambda part: False) is WHOLE
    first = without(WHOLE, MIXED, lambda part: part.media_type == "application/sdp")
    assert first == WHOLE[: WHOLE.index(b"--out \t")] + WHOLE[WHOLE.index(b"--out\r\ncontent-type: multi") :]


def test_a_multipart_of_which_nothing_is_left_goes_whole():
    """E-06: an empty inner multipart goes with its wrapper's part; an empty outer one is no body at all."""
    inner = b"--i\r\nContent-Type: application/pidf+xml\r\n\r\n<p/>\r\n--i--"
    body = b"--o\r\nContent-Type: multipart/mixed;boundary=i\r\n\r\n" + inner + b"\r\n--o--\r\n"
    assert without(body, "multipart/mixed;boundary=o", lambda part: part.media_type == "application/pidf+xml") == b""


def test_a_body_without_its_end_or_with_bare_line_feeds_is_read():
    """E-06: lenient in."""
    cut = b"--b\nContent-Type: text/x\n\none\n--b\nContent-Type: text/y\n\ntwo"
    assert [(part.media_type, part.content) for part in leaves(cut, "multipart/mixed;boundary=b")] == [
        ("text/x", b"one"), ("text/y", b"two"),
    ]  # fmt: skip


def test_many_parts_and_deep_nesting_are_read_to_a_limit():
    """E-06: hostile bodies cost bounded time."""
    many = b"".join(b"--b\r\n\r\nx\r\n" for _ in range(5000)) + b"--b--"
    assert len(list(leaves(many, "multipart/mixed;boundary=b"))) == multipart.MAX_PARTS
    assert without(many, "multipart/mixed;boundary=b", lambda part: True) is many
    wrapped = compose(many, b"<p/>", content_type="multipart/mixed;boundary=b", content_id="c@x")
    assert [part.content for part in leaves(wrapped.body, wrapped.content_type)][-1] == b"x"  # ours is past the limit
    assert wrapped.content_type is not None
    deep, kind = b"bottom", "text/plain"
    for level in range(8):
        deep = b"--b%d\r\nContent-Type: %s\r\n\r\n%s\r\n--b%d--" % (level, kind.encode(), deep, level)
        kind = f"multipart/mixed;boundary=b{level}"
    (leaf,) = leaves(deep, kind)
    assert leaf.media_type == "multipart/mixed"


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/related;boundary=x", "x"),
        ('multipart/alternative; boundary="a \\"b\\" c"', 'a "b" c'),
        ("application/sdp;boundary=x", None),
        ("multipart/mixed", None),
        ("multipart/mixed;boundary=" + "x" * 71, None),
    ],
)
def test_a_boundary_is_read_from_any_multipart_type(content_type, boundary):
    assert boundary_of(content_type) == boundary


def test_a_caller_s_boundary_with_quotes_is_used_as_it_is():
    """E-06: the delimiter in the body is the unescaped boundary."""
    own = b'--a "b" c\r\nContent-Type: application/sdp\r\n\r\n' + SDP + b'\r\n--a "b" c--\r\n'
    composed = compose(own, b"<p/>", content_type='multipart/mixed; boundary="a \\"b\\" c"', content_id="c@x")
    assert composed.content_type is None
    assert [part.content for part in leaves(composed.body, 'multipart/mixed;boundary="a \\"b\\" c"')] == [SDP, b"<p/>"]


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b"]), st.binary(max_size=60)), min_size=1, max_size=6),
    st.binary(max_size=20), st.binary(max_size=20),
)  # fmt: skip
def test_any_parts_come_out_of_what_was_composed(parts, preamble, epilogue):
    """E-06: read(write(parts)) is parts, whatever their bytes, as long as no boundary stands at a line's start."""
    mark = "zz-boundary"
    body = (
        preamble
        + b"\r\n"
        + b"".join(
            b"--zz-boundary\r\nContent-Type: x/%s\r\n\r\n%s\r\n" % (kind.encode(), content) for kind, content in parts
        )
        + b"--zz-boundary--\r\n"
        + epilogue
    )
    found = [(part.media_type[-1], part.content) for part in leaves(body, f"multipart/mixed;boundary={mark}")]
    assert found == parts
    left = without(body, f"multipart/mixed;boundary={mark}", lambda part: part.media_type == "x/a")
    kept = [(kind, content) for kind, content in parts if kind != "a"]
    assert [(part.media_type[-1], part.content) for part in leaves(left, f"multipart/mixed;boundary={mark}")] == kept


@given(st.binary(max_size=400), st.text(max_size=40))
def test_any_bytes_are_read_and_nothing_else_happens(data, kind):
    """E-06: no body and no Content-Type can raise."""
    for content_type in (kind, f"multipart/mixed;boundary={kind}", "multipart/mixed;boundary=-"):
        list(leaves(data, content_type))
        without(data, content_type, lambda part: part.content == b"")
    read_part(data)
