"""What is not ours to change goes on byte for byte, whatever it is; and the IPv6 forms of RFC 5118 as they are."""

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sip.forward import Forward, Hop, Target
from engine.sip.stack import RequestReceived
from tests.siptest import CARRIER, PBX, drain, make_stack, read_request, read_response, response, route_set

NAME_CHARACTERS = string.ascii_letters + string.digits + "-.!%*_+`'~"
OURS = {
    "v", "via", "max-forwards", "route", "record-route", "call-id", "i", "cseq", "from", "f", "to", "t",
    "content-length", "l", "proxy-require",
}  # fmt: skip
octets = st.binary(max_size=40).map(lambda text: re.sub(rb"[\r\n\0]", b"?", text))
folds = st.sampled_from([b"", b"", b"", b"\r\n ", b"\r\n\t \t"])
names = st.one_of(
    st.sampled_from(["Contact", "m", "Content-Type", "c", "Supported", "k", "Date", "P-Asserted-Identity", "Warning"]),
    st.text(NAME_CHARACTERS, min_size=1, max_size=20).filter(lambda name: name.lower() not in OURS),
)  # fmt: skip


@st.composite
def header_lines(draw: st.DrawFn) -> bytes:
    """Any header this element need not read: any octets, any spacing, folded or not."""
    name = draw(names).encode() + draw(st.sampled_from([b"", b"", b" ", b"\t"]))
    value = draw(st.sampled_from([b"", b" ", b"  \t"])) + draw(octets) + draw(folds) + draw(octets)
    return name + b":" + re.sub(rb"\r\n([ \t]*)$", rb"\1", value)


@st.composite
def core_lines(draw: st.DrawFn) -> list[bytes]:
    """The headers that are read, in one of their many spellings, in any order but for the Vias' own."""
    more_vias = draw(
        st.sampled_from([b"", b", SIP/2.0/TCP first.example ;branch=z9hG4bK0", b",SIP/2.0/UDP [2001:db8::1]:5070;x"])
    )
    top = [b"Via: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bKc", b"v:SIP / 2.0 / UDP 192.0.2.20 ;branch=z9hG4bKc;y"]
    lines = [
        draw(st.sampled_from([b"From", b"f", b"FROM "])) + b': "A \xe9 <b>" <sip:101@pbx.example;x=y>;tag=alice ;z',
        draw(st.sampled_from([b"To: sip:911@a", b"t:<sip:911@a>", b"To:\r\n <sip:911@a> ;foo"])),
        draw(st.sampled_from([b"Call-ID: c1@x", b"i:c1@x", b"CALL-ID :\r\n\tc1@x"])),
        draw(st.sampled_from([b"CSeq: 7 INVITE", b"cseq:0007   INVITE", b"CSeq:\r\n 7\r\n INVITE "])),
        draw(st.sampled_from(top)) + more_vias,
        draw(st.sampled_from([b"Max-Forwards: 70", b"max-forwards:070 "])),
        *draw(st.lists(header_lines(), max_size=8)),
    ]  # fmt: skip
    return draw(st.permutations(lines))


def forward(data: bytes) -> tuple[object, bytes]:
    stack = make_stack(is_emergency=lambda *_: False)
    stack.receive(data, PBX, 0.0)
    events, _ = drain(stack)
    assert [type(event) for event in events] == [RequestReceived], events
    stack.forward(events[0].transaction, Forward((Target("a", CARRIER, first_response_s=0.0),)), 0.0)
    ((sent, _),) = drain(stack)[1]
    return stack, sent


def is_via(line: bytes) -> bool:
    return re.match(rb"(?i)(via|v)[ \t]*:", line) is not None


@settings(max_examples=120, deadline=None)
@given(core_lines(), st.binary(max_size=200), st.booleans())
def test_a_request_goes_on_byte_for_byte_but_for_what_a_proxy_must_write(
    lines: list[bytes], body: bytes, has_length: bool
) -> None:
    """E-18: §16.6: Via and Record-Route before what was there, Max-Forwards one less; nothing else, nowhere."""
    if has_length:
        lines = [*lines, b"l : %d" % len(body)]
    start = b"INVITE sip:911@a;x=%41 SIP/2.0"
    _, sent = forward(b"\r\n".join([start, *lines, b"", body]))
    head, _, after = sent.partition(b"\r\n\r\n")
    assert after == body
    assert head.startswith(start + b"\r\n")
    expected = b"\r\n".join([start, *lines])
    top = next(line for line in lines if is_via(line))
    position = head.index(b"\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=")
    ours = head[position : head.index(b"\r\n", head.index(b"\r\nRecord-Route: ", position) + 2)]
    assert re.fullmatch(
        rb"\r\nVia: SIP/2\.0/UDP 192\.0\.2\.10:5060;branch=z9hG4bK[\w.]+;rport"
        rb"\r\nRecord-Route: <sip:192\.0\.2\.10:5060;lr;cp=[0-9a-f]{16}>",
        ours,
    )
    rest = head.replace(ours, b"", 1)
    assert rest.index(b"\r\n" + top) == position  # ours stood right before the Via that was on top
    fewer = [line for line in lines if line.lower().startswith(b"max-forwards")]
    assert rest == expected.replace(b"\r\n" + fewer[0], b"\r\nMax-Forwards: 69", 1)


@settings(max_examples=120, deadline=None)
@given(core_lines(), st.binary(max_size=200), st.integers(101, 699), st.lists(header_lines(), max_size=6))
def test_a_response_goes_on_byte_for_byte_without_our_via(
    lines: list[bytes], body: bytes, status: int, more: list[bytes]
) -> None:
    """E-18: §16.7 step 3, and nothing else; 503 alone changes its name."""
    if status in {503, 408}:
        status += 1
    stack, sent = forward(b"\r\n".join([b"INVITE sip:911@a SIP/2.0", *lines, b"", b""]))
    got = read_request(sent)
    ours = got.lines[got.shape.via]
    kept = [got.lines_of(name) for name in (b"via", b"from", b"to", b"call-id", b"cseq")]
    kept[0] = kept[0].replace(ours + b"\r\n", b"", 1)
    start = b"SIP/2.0 %d \xe9\xff reason\r\n" % status
    rest = b"".join(kept) + b"".join(line + b"\r\n" for line in more) + b"\r\n" + body
    stack.receive(start + ours + b"\r\n" + rest, CARRIER, 0.1)  # type: ignore[attr-defined]
    up = [data for data, hop in drain(stack)[1] if hop == PBX]  # type: ignore[arg-type]
    assert up == [start + rest]


def test_a_response_whose_vias_stand_on_one_line_loses_ours_alone() -> None:
    """E-18: §7.3.1: Kamailio and SIPp join them."""
    stack, sent = forward(
        b"INVITE sip:911@a SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.20;branch=z9hG4bKc\r\nFrom: <sip:a@b>;tag=1"
        b"\r\nTo: <sip:b@b>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n"
    )
    answer = response(sent, 180)
    vias = [line for line in answer.split(b"\r\n") if line.startswith(b"Via:")]
    for joined in (b", ".join((vias[0], vias[1][5:])), b",\r\n ".join((vias[0], vias[1][5:]))):
        stack.receive(answer.replace(b"\r\n".join(vias), joined), CARRIER, 0.1)  # type: ignore[attr-defined]
        ((up, _),) = drain(stack)[1]  # type: ignore[arg-type]
        assert read_response(up).headers("Via") == ["SIP/2.0/UDP 192.0.2.20;branch=z9hG4bKc"]


# --- RFC 5118 ---------------------------------------------------------------------------------------------------------

CALLER_6, TRUNK_6 = Hop("udp", "2001:db8::9:1", 5060), Hop("udp", "2001:db8::30", 5060)


def message(
    uri: str = "sip:[2001:db8::10]", method: str = "INVITE", via: str = "[2001:db8::9:1];branch=z9hG4bKas3-111", *,
    more: str = "", body: str = "", vias: str = "", identity: str = "sip:user@example.com",
) -> bytes:  # fmt: skip
    """An IPv6 message as RFC 5118 describes one."""
    head = (
        f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {via}\r\n{vias}From: <{identity}>;tag=81x2\r\nTo: <{identity}>\r\n"
        f"Call-ID: SSG9559905523997077@hlau_4100\r\nMax-Forwards: 70\r\nCSeq: 98176 {method}\r\n{more}"
    )
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


SDP_6 = (
    "v=0\r\no=assistant 971731711378798081 0 IN IP6 2001:db8::20\r\ns=Live video feed\r\nc=IN IP6 2001:db8::20\r\n"
    "t=3338481189 3370017201\r\nm=audio 6000 RTP/AVP 2\r\na=rtpmap:2 G726-32/8000\r\n"
)
GOOD = {
    "a reference in Request-URI, Via and Contact": message(
        method="REGISTER", more='Contact: "Caller" <sip:caller@[2001:db8::1]>\r\n'
    ),
    "what looks like a port inside the brackets is address": message(
        "sip:[2001:db8::10:5070]", "REGISTER", more="Contact: <sip:caller@[2001:db8::1]>\r\n"
    ),
    "a port behind the brackets": message("sip:[2001:db8::10]:5070", "REGISTER"),
    "received in brackets": message(
        "sip:[2001:db8::10]", "BYE", "[2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3-111"
    ),
    "received without brackets": message(
        "sip:[2001:db8::10]", "OPTIONS", "[2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKas3"
    ),
    "addresses in the SDP": message("sip:user@[2001:db8::10]", more="Content-Type: application/sdp\r\n", body=SDP_6),
    "both families in one path": message(
        "sip:user@host.example.net", "BYE", vias=(
            "Via: SIP/2.0/UDP 192.0.2.1;received=192.0.2.254;branch=z9hG4bKjhja8781hjuaij65144\r\n"
            "Via: SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bK451jj;received=192.0.2.200\r\n"
        ), more="Route: <sip:[2001:db8::99];lr>\r\n",
    ),
    "both families in one SDP": message(
        "sip:user@[2001:db8::10]", more="Content-Type: application/sdp\r\n",
        body=SDP_6 + "m=video 6024 RTP/AVP 107\r\nc=IN IP4 192.0.2.1\r\na=rtpmap:107 H263-1998/90000\r\n",
    ),
    "an IPv4-mapped address": message(
        "sip:user@example.com", via="[::ffff:192.0.2.10]:19823;branch=z9hG4bKbh19", vias=(
            "Via: SIP/2.0/UDP [::ffff:192.0.2.2]:5060;branch=z9hG4bK7\r\n"
        ), more='Contact: "T. desk phone" <sip:ted@[::ffff:192.0.2.2]>\r\n',
    ),
    "three colons, by a slip in RFC 3261's own grammar": message("sip:user@[2001:db8:::192.0.2.1]", "OPTIONS"),
    "a zone of upper and lower case and zeroes": message("sip:user@[2001:0DB8:0:0:0:0:0:10]:5060;transport=udp"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_every_legal_ipv6_form_goes_on_unaltered(name: str) -> None:
    """E-18: RFC 5118 §4: read, forwarded, answered, in both families' company."""
    stack = make_stack(is_emergency=lambda *_: False, own=Hop("udp", "2001:db8::10", 5090))
    data = GOOD[name]
    stack.receive(data, CALLER_6, 0.0)
    (event,), _ = drain(stack)
    assert isinstance(event, RequestReceived)
    stack.forward(event.transaction, Forward((Target("a", TRUNK_6),)), 0.0)
    ((sent, _),) = drain(stack)[1]
    before, after = read_request(data), read_request(sent)
    ours = (b"via", b"max-forwards", b"record-route")
    kept = [line for line, other in zip(before.lines, before.names, strict=True) if other not in ours]
    assert [line for line, other in zip(after.lines, after.names, strict=True) if other not in ours] == kept
    assert after.body == before.body
    assert after.headers("Via")[0].startswith("SIP/2.0/UDP [2001:db8::10]:5090;branch=")
    stack.receive(response(sent, 200), TRUNK_6, 0.1)
    ((up, hop),) = drain(stack)[1]
    assert hop.ip == CALLER_6.ip
    assert read_response(up).headers("Via")[1:] == before.headers("Via")[1:]


def test_an_address_without_brackets_is_refused() -> None:
    """E-18: RFC 5118 §4.2: nobody can tell its last group from a port."""
    stack = make_stack(is_emergency=lambda *_: False)
    stack.receive(message("sip:2001:db8::10", "REGISTER"), CALLER_6, 0.0)
    ((answer, hop),) = drain(stack)[1]
    assert (answer[:11], hop.ip) == (b"SIP/2.0 400", CALLER_6.ip)


def test_a_call_over_ipv6_is_set_up_and_ended() -> None:
    """E-18: INVITE, 200, ACK, BYE: Record-Route brings the dialog back through us in brackets."""
    stack = make_stack(own=Hop("udp", "2001:db8::10", 5060))
    stack.receive(message("sip:911@[2001:db8::10]"), CALLER_6, 0.0)
    (event,), _ = drain(stack)
    stack.forward(event.transaction, Forward((Target("a", TRUNK_6),)), 0.0)
    ((sent, _),) = drain(stack)[1]
    stack.receive(response(sent, 200, contact="sip:psap@[2001:db8::30]:5070"), TRUNK_6, 0.1)
    ((up, hop),) = drain(stack)[1]
    assert hop == CALLER_6
    answer = read_response(up)
    routes = "".join(f"Route: {route}\r\n" for route in route_set(answer))
    for method, branch in (("ACK", "z9hG4bKack"), ("BYE", "z9hG4bKbye")):
        data = message("sip:psap@[2001:db8::30]:5070", method, f"[2001:db8::9:1];branch={branch}", more=routes).replace(
            b"To: <sip:user@example.com>", b"To: <sip:user@example.com>;tag=carrier"
        )
        stack.receive(data, CALLER_6, 0.2)
        ((down, hop),) = drain(stack)[1]
        assert hop == Hop("udp", "2001:db8::30", 5070)
        assert (read_request(down).method, read_request(down).header("Route")) == (method, None)
