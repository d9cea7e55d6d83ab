"""What a request says of where its caller is: Geolocation values, parts named by cid, references."""

import base64
import quopri

import pytest

from engine.e911.geolocation import (
    NOTHING_CARRIED,
    carried,
    content_id_of,
    geolocation_uris,
    geolocation_values,
)
from engine.e911.pidf import CA, GP, PIDF
from tests.siptest import SDP, read_request, request


def pidf(room):
    return (
        f'<presence xmlns="{PIDF}" xmlns:gp="{GP}" xmlns:ca="{CA}" entity="pres:a@b"><tuple id="t"><status><gp:geopriv>'
        f"<gp:location-info><ca:civicAddress><ca:country>US</ca:country><ca:ROOM>{room}</ca:ROOM></ca:civicAddress>"
        "</gp:location-info></gp:geopriv></status></tuple></presence>"
    ).encode()


def part(content, content_id, kind="application/pidf+xml"):
    return f"--b\r\nContent-Type: {kind}\r\nContent-ID: {content_id}\r\n\r\n".encode() + content + b"\r\n"


def invite(*parts, geolocation=(), kind="multipart/mixed;boundary=b", body=None):
    whole = b"".join(parts) + b"--b--\r\n" if body is None else body
    data = request(added=[f"Geolocation: {value}" for value in geolocation], body=whole)
    return read_request(data.replace(b"Content-Type: application/sdp", f"Content-Type: {kind}".encode(), 1))


def rooms(got):
    return [location.civic_address.get("ROOM") for location in carried(got).locations]


def test_a_plain_call_carries_nothing():
    """E-06: SDP alone costs two look-ups and makes nothing."""
    assert carried(read_request(request())) is NOTHING_CARRIED
    assert carried(read_request(request("MESSAGE", body=b""))) is NOTHING_CARRIED


def test_locations_come_in_the_order_of_the_geolocation_header_and_unnamed_ones_last():
    """E-06: RFC 6442: the header names parts; its order is the sender's order of trust."""
    got = invite(
        part(SDP, "<s@x>", "application/sdp"), part(pidf("unnamed"), "<z@x>"), part(pidf("second"), "<two@x>"),
        part(pidf("first"), "one%41@x"),
        geolocation=["<cid:one%2541@x>;loc-src=lis.example.com, <https://lis.example.com/r/9?a,b>", "<CID:two@x>"],
    )  # fmt: skip
    assert rooms(got) == ["first", "second", "unnamed"]
    assert [location.is_named for location in carried(got).locations] == [True, True, False]
    assert [location.content_id for location in carried(got).locations] == ["one%41@x", "two@x", "z@x"]
    assert carried(got).references == ("https://lis.example.com/r/9?a,b",)
    assert geolocation_values(got)[0] == "<cid:one%2541@x>;loc-src=lis.example.com"


def test_a_content_id_is_compared_exactly():
    """E-06: RFC 2392: case counts, a longer one is another, escapes are undone once."""
    for content_id, is_found in [("<a@x>", True), ("a@x", True), ("<A@x>", False), ("<aa@x>", False)]:
        got = invite(part(pidf("r"), content_id), geolocation=["<cid:a@x>"])
        assert [location.is_named for location in carried(got).locations] == [is_found], content_id
    assert content_id_of("cid:a%40x%25") == "a@x%"
    assert content_id_of("https://x") is None
    assert content_id_of("cid:") is None


def test_a_body_that_is_a_location_itself_is_read():
    """E-06: an INVITE without an offer."""
    got = invite(body=pidf("alone"), kind="application/pidf+xml")
    assert rooms(got) == ["alone"]


def _in_two_lines(data):
    whole = base64.b64encode(data)
    return whole[:40] + b"\r\n" + whole[40:] + b"\r\n"


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("base64", _in_two_lines),
        ("Base64 ; x=1", base64.b64encode),
        ("base64", lambda data: base64.b64encode(data).rstrip(b"=") + b" \r\n"),
        ("base64", lambda data: b"\r\n" + data),
        ("quoted-printable", quopri.encodestring),
        ("8bit", bytes),
    ],
)
def test_a_location_is_read_in_whichever_transfer_encoding_it_comes(encoding, encode):
    """E-06: RFC 2045 §6; in a part or as the whole body, and the body itself is left as it came."""
    name, data = "r\u00fc=1", encode(pidf("r\u00fc=1"))
    head = f"Content-Type: application/pidf+xml\r\nContent-ID: <a@x>\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    body = b"--b\r\n" + head.encode() + data + b"\r\n--b--\r\n"
    got = invite(body=body, geolocation=["<cid:a@x>"])
    assert rooms(got) == [name]
    assert carried(got).faults == ()
    assert got.body == body
    added = [f"Content-Transfer-Encoding: {encoding}"]
    raw = request(added=added, body=data).replace(b"application/sdp", b"application/pidf+xml")
    assert rooms(read_request(raw)) == [name]


def test_what_is_not_the_encoding_it_says_is_a_fault_and_no_more():
    """E-03: nothing about a location stops a call."""
    added = ["Content-Transfer-Encoding: base64"]
    for body in (b"!", b"abcde", b"=" * 9, b"YWJj"):
        raw = request(added=added, body=body).replace(b"application/sdp", b"application/pidf+xml")
        got = carried(read_request(raw))
        assert got.locations == ()
        assert len(got.faults) == 1


def test_a_broken_location_is_a_fault_and_the_others_stand():
    """E-03: nothing about a location stops a call."""
    got = invite(part(b"<presence", "<bad@x>"), part(pidf("good"), "<good@x>"), geolocation=["<cid:bad@x>"])
    assert rooms(got) == ["good"]
    assert len(carried(got).faults) == 1


@pytest.mark.parametrize(
    ("value", "uri"),
    [
        ("<https://a.example/x>", "https://a.example/x"),
        ("a1b2-c3d4", "a1b2-c3d4"),
        ("https://a.example/x;loc-src=b", "https://a.example/x"),
        ("<unclosed", "unclosed"),
    ],
)
def test_values_are_read_with_and_without_brackets(value, uri):
    """E-06: some carriers' own identifiers stand bare."""
    assert geolocation_uris(invite(geolocation=[value])) == (uri,)
