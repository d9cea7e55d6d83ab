"""PIDF-LO out: valid, in order, cheap; the caller's own body kept byte for byte. PIDF-LO in: lenient, never unsafe."""

import contextlib
import re
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from engine.e911.location import (
    CIVIC_ELEMENTS,
    CIVIC_EXTENSIONS,
    CLDXF_ELEMENTS,
    CivicAddress,
    DispatchableLocation,
    Geo,
)
from engine.e911.pidf import (
    CA,
    GBP,
    GML,
    GP,
    GS,
    PIDF,
    BadLocation,
    compose,
    entity_of,
    geolocation_value,
    mixed_boundary,
    read_pidf,
    write_pidf,
)

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
NS = {"p": PIDF, "gp": GP, "gbp": GBP, "ca": CA, "gml": GML, "gs": GS}
ALL_ELEMENTS = CIVIC_ELEMENTS + CIVIC_EXTENSIONS + CLDXF_ELEMENTS
EVERYTHING = DispatchableLocation(
    "location_1",
    "HQ",
    CivicAddress.of({name: f"{name} <&\"'> é" for name in ALL_ELEMENTS}),
    Geo(42.65, -73.75, 12.5, 30),
)
SDP = (
    b"v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=-\r\nc=IN IP4 10.0.0.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=x:\xff\xfe\r\n"
)


def written(location, entity="pres:101@example.com"):
    return etree.fromstring(write_pidf(location, entity, NOW))


def at(civic=None, geo=None):
    return DispatchableLocation("location_1", "HQ", CivicAddress.of(civic or {}), geo)


def test_every_civic_element_is_valid_against_the_schema(cases):
    """E-06: RFC 5139, RFC 6848 and CLDXF elements, each in its namespace and in the schema's order."""
    root = written(EVERYTHING)
    civic = root.find(f".//{{{CA}}}civicAddress")
    names = [etree.QName(child).localname for child in civic]
    assert names == list(ALL_ELEMENTS)
    base = etree.XMLSchema(etree.parse(str(cases / "xml" / "civic" / "civicAddr.xsd")))
    base.assertValid(etree.ElementTree(civic))
    for file, elements in (
        ("civicAddr-ext.xsd", ["PN", "MP", "STP", "HNP"]),
        ("nenaCivicAddr.xsd", ["STPS"]),
        ("nenaCivicAddr2.xsd", [name for name in CLDXF_ELEMENTS if name != "STPS"]),
    ):
        schema = etree.XMLSchema(etree.parse(str(cases / "xml" / "civic" / file)))
        for name in elements:
            child = civic.find(f"{{*}}{name}")
            schema.assertValid(etree.ElementTree(etree.fromstring(etree.tostring(child))))


def test_a_presence_document_has_the_shape_of_rfc_5491():
    """E-06: one tuple: status, geopriv, location-info, usage-rules, method; then the timestamp."""
    root = written(EVERYTHING)
    assert root.tag == f"{{{PIDF}}}presence"
    assert root.get("entity") == "pres:101@example.com"
    pidf_tuple = root[0]
    assert pidf_tuple.get("id") == "location_1"
    assert [child.tag for child in pidf_tuple] == [f"{{{PIDF}}}status", f"{{{PIDF}}}timestamp"]
    geopriv = pidf_tuple[0][0]
    assert [child.tag for child in geopriv] == [
        f"{{{GP}}}{name}" for name in ("location-info", "usage-rules", "method")
    ]
    assert geopriv.findtext("gp:usage-rules/gbp:retransmission-allowed", namespaces=NS) == "true"
    assert geopriv.findtext("gp:usage-rules/gbp:retention-expiry", namespaces=NS) == "2026-11-22T20:00:00Z"
    assert geopriv.findtext("gp:method", namespaces=NS) == "Manual"
    assert pidf_tuple.findtext("p:timestamp", namespaces=NS) == "2026-11-21T20:00:00Z"


@pytest.mark.parametrize(
    ("geo", "shape", "crs", "pos", "radius"),
    [
        (Geo(42.6526, -73.7562), "Point", "4326", "42.6526 -73.7562", None),
        (Geo(42.6526, -73.7562, radius_m=25), "Circle", "4326", "42.6526 -73.7562", "25"),
        (Geo(42.6526, -73.7562, 61.5), "Point", "4979", "42.6526 -73.7562 61.5", None),
        (Geo(0.0, -0.0000001, 0.0, 0.5), "Sphere", "4979", "0 -0.0000001 0", "0.5"),
    ],
)
def test_coordinates_are_written_as_rfc_5491_shapes(geo, shape, crs, pos, radius):
    """E-06: geodetic: point, circle, sphere; plain decimals, latitude first."""
    info = written(at({"country": "US"}, geo)).find(".//gp:location-info", NS)
    assert [etree.QName(child).localname for child in info] == ["civicAddress", shape]
    element = info[1]
    assert element.get("srsName") == f"urn:ogc:def:crs:EPSG::{crs}"
    assert element.findtext("gml:pos", namespaces=NS) == pos
    assert element.findtext("gs:radius", namespaces=NS) == radius


def test_no_value_can_break_the_document():
    """E-06: control characters, our own stand-ins and markup in values and entity."""
    hostile = at({"country": "US", "LOC": "a\x00\x0b\ud800\u2400stamp\u2400]]>&<b>"})
    data = write_pidf(hostile, 'pres:"><evil>&\x00\u2400@h', NOW)
    root = etree.fromstring(data)
    assert root.findtext(".//ca:LOC", namespaces=NS) == "astamp]]>&<b>"
    assert root.get("entity") == 'pres:"><evil>&@h'
    assert root.findtext(".//p:timestamp", namespaces=NS) == "2026-11-21T20:00:00Z"


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_carried_in_a_well_formed_document(value, entity, identifier):
    location = DispatchableLocation(identifier, "n", CivicAddress((("country", "US"), ("LOC", value))))
    root = etree.fromstring(write_pidf(location, entity, NOW))
    assert len(root.findall(".//ca:LOC", NS)) == 1


@pytest.mark.parametrize(
    ("uri", "entity"),
    [
        ("sip:101@pbx.example.com:5060;transport=tcp", "pres:101@pbx.example.com:5060"),
        ("sips:101@example.com?x=y", "pres:101@example.com"),
        ("sip:example.com", "pres:anonymous@example.com"),
        ("tel:+15185550123", "pres:anonymous@anonymous.invalid"),
        ("", "pres:anonymous@anonymous.invalid"),
    ],
)
def test_the_presentity_is_the_caller(uri, entity):
    assert entity_of(uri) == entity


def test_writing_again_costs_microseconds():
    """E-02: only what differs from call to call is spliced in."""
    write_pidf(EVERYTHING, "pres:a@b", NOW)
    started = time.perf_counter()
    for _ in range(1000):
        write_pidf(EVERYTHING, "pres:a@b", NOW)
    assert (time.perf_counter() - started) / 1000 < 0.0005


# --- the body ---------------------------------------------------------------------------------------------------------


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
    assert geolocation_value("call_1@callpoint.invalid") == "<cid:call_1@callpoint.invalid>"


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


def test_every_real_pidf_lo_is_read(cases):
    """E-06: lenient in: old namespaces, comments, several locations, shapes we do not draw."""
    files = sorted((cases / "xml" / "pidf_lo").glob("*.xml"))
    assert len(files) > 15
    for file in files:
        found = read_pidf(file.read_bytes())
        assert found or b"geopriv>" not in file.read_bytes(), file.name


def test_a_real_civic_address_is_read_with_its_street(cases):
    first = read_pidf((cases / "xml" / "pidf_lo" / "RFC5491TupleCivicLocation.xml").read_bytes())[0]
    assert first.civic_address.get("RD") == "Broadway"
    assert first.civic_address.get("HNO") == "123"
    assert first.retransmission_allowed
    person = read_pidf((cases / "xml" / "pidf_lo" / "PersonDeviceCivicCircleLocation.xml").read_bytes())
    assert person[1].geo == Geo(34.268544, -118.666519, None, 50)


def test_what_is_written_is_read_back():
    """E-06: round trip, every element."""
    (found,) = read_pidf(write_pidf(EVERYTHING, "pres:a@b", NOW))
    expected = EVERYTHING.civic_address.as_dict()
    assert found.civic_address.as_dict() == expected
    assert found.geo == EVERYTHING.geo
    assert (found.entity, found.method, found.retransmission_allowed) == ("pres:a@b", "Manual", True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not xml",
        b"<presence",
        b'<!DOCTYPE p [<!ENTITY e "x">]><p>&e;</p>',
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE p [<!ENTITY e "x">]><p>&e;</p>'.encode("utf-16"),
        b'<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE p><p/>',
        b"<p>" + b"x" * 70_000 + b"</p>",
        b"<p>" * 20_000,
    ],
)
def test_unsafe_or_broken_documents_are_refused(data):
    """E-06: no doctype in any encoding, no entities, bounded."""
    with pytest.raises(BadLocation):
        read_pidf(data)


@pytest.mark.parametrize("pos", ["42.6,-73.7", "42.6 , -73.7", " 42.6\n-73.7 "])
def test_positions_with_commas_are_read(pos):
    data = write_pidf(at({}, Geo(1, 2)), "pres:a@b", NOW).replace(b"1 2</gml:pos>", f"{pos}</gml:pos>".encode())
    assert read_pidf(data)[0].geo == Geo(42.6, -73.7)


@pytest.mark.parametrize("pos", ["", "1", "91 0", "0 181", "nan 0", "1 2 3 4", "9" * 300 + " 1", "a b"])
def test_positions_that_are_none_are_left_out(pos):
    """E-06: a 256-digit latitude has crashed others."""
    data = write_pidf(at({}, Geo(1, 2)), "pres:a@b", NOW).replace(b"1 2</gml:pos>", f"{pos}</gml:pos>".encode())
    assert read_pidf(data)[0].geo is None


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(BadLocation):
        assert isinstance(read_pidf(data), tuple)
