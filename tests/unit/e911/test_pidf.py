"""PIDF-LO out: valid, in order, cheap; the caller's own body kept byte for byte. PIDF-LO in: lenient, never unsafe."""

import contextlib
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from engine.e911.geo import ArcBand, Confidence, Ellipse, Ellipsoid, Polygon, Prism, shape_of
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
    entity_of,
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
    started = time.process_time()
    for _ in range(1000):
        write_pidf(EVERYTHING, "pres:a@b", NOW)
    assert (time.process_time() - started) / 1000 < 0.0005


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


# --- all shapes, all elements -----------------------------------------------------------------------------------------


def number(least, most):
    return st.floats(least, most, allow_nan=False).map(lambda value: round(value, 9) + 0.0)


LATITUDE, LONGITUDE, METRES, ANGLE = number(-90, 90), number(-180, 180), number(0, 1e7), number(-360, 360)
ALTITUDE = number(-1e4, 1e5)
CONFIDENCE = st.none() | st.builds(
    Confidence,
    st.none() | number(0.001, 100).filter(lambda percent: percent > 0),
    st.sampled_from(["unknown", "normal", "rectangular"]),
)


def rings(*axes):
    corners = st.lists(st.tuples(*axes), min_size=3, max_size=9, unique=True)
    return corners.filter(lambda points: points[0] != points[-1]).map(tuple)


SHAPES = st.one_of(
    st.builds(Geo, LATITUDE, LONGITUDE, st.none() | ALTITUDE, st.none() | METRES, CONFIDENCE),
    st.builds(Ellipse, LATITUDE, LONGITUDE, METRES, METRES, ANGLE, CONFIDENCE),
    st.builds(Ellipsoid, LATITUDE, LONGITUDE, ALTITUDE, METRES, METRES, METRES, ANGLE, CONFIDENCE),
    st.builds(ArcBand, LATITUDE, LONGITUDE, METRES, METRES, ANGLE, ANGLE, CONFIDENCE),
    st.builds(Polygon, rings(LATITUDE, LONGITUDE) | rings(LATITUDE, LONGITUDE, ALTITUDE), CONFIDENCE),
    st.builds(Prism, rings(LATITUDE, LONGITUDE, ALTITUDE), METRES, CONFIDENCE),
)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\u2400\ufffe\uffff", min_codepoint=32), max_size=40)
VALUES = WORDS.map(str.strip).filter(lambda text: text and not any(0x7F <= ord(char) <= 0x9F for char in text))
FOREIGN = st.from_regex(r"\{urn:x-[a-z]{1,8}:[a-z/.]{1,12}\}[A-Za-z][A-Za-z0-9]{0,8}", fullmatch=True)
CIVIC = st.dictionaries(st.sampled_from(ALL_ELEMENTS) | FOREIGN, VALUES, max_size=12).map(
    lambda values: {"RD": values.pop("A6"), **values} if "A6" in values and "RD" not in values else values
)


@given(SHAPES)
def test_every_shape_is_written_and_read_back_without_loss(shape):
    """E-06: RFC 5491 shapes, 2-D and 3-D, with RFC 7459 confidence: equal to the last digit kept."""
    (found,) = read_pidf(write_pidf(at({}, shape), "pres:a@b", NOW))
    assert found.geo == shape
    assert shape_of(shape.as_dict()) == shape


@given(CIVIC, st.sampled_from(["", "en", "en-GB", "fr"]))
def test_every_civic_address_is_written_and_read_back_without_loss(values, language):
    """E-06: RFC 5139, RFC 6848, CLDXF and elements of other namespaces; the language of the words."""
    civic = CivicAddress.of_pairs(values.items(), language if values else "")
    location = DispatchableLocation("location_1", "HQ", civic)
    (found,) = read_pidf(write_pidf(location, "pres:a@b", NOW))
    assert found.civic_address == civic


@pytest.mark.parametrize("name", ["RFC6848CivicExtendedExample1", "RFC6848Section3.4Example", "RFC6848Figure7Example"])
def test_elements_of_other_namespaces_are_kept_when_the_address_is_conveyed_again(cases, name):
    """E-06: RFC 6848: a bridge, a lamp and an airport's gate go along."""
    (first,) = read_pidf((cases / "xml" / "pidf_lo" / f"{name}.xml").read_bytes())
    data = write_pidf(DispatchableLocation("location_1", "x", first.civic_address), "pres:a@b", NOW)
    (again,) = read_pidf(data)
    assert again.civic_address == first.civic_address
    civic = etree.fromstring(data).find(f".//{{{CA}}}civicAddress")
    etree.XMLSchema(etree.parse(str(cases / "xml" / "civic" / "civicAddr.xsd"))).assertValid(etree.ElementTree(civic))
    if "Extended" in name:
        assert first.civic_address.get("{http://devon.canals.example.com/civic}bridge") == "21451338"
        assert first.civic_address.language == "en-GB"


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("TuplePoint", Geo(37.775, -122.419444444)),
        ("TupleCircle", Geo(42.5463, -73.2512, radius_m=850.24)),
        ("TupleSphere", Geo(42.5463, -73.2512, 26.3, 850.24)),
        ("TupleEllipse", Ellipse(42.5463, -73.2512, 1275, 670, 43.2)),
        ("TupleEllipsoid", Ellipsoid(42.5463, -73.2512, 26.3, 7.7156, 3.31, 28.7, 90)),
        ("TupleArcBand", ArcBand(-43.5723, 153.2176, 3594, 4148, 20, 20)),
        ("TuplePolygon", POLYGON := Polygon((
            (43.311, -73.422), (43.111, -73.322), (43.111, -73.222), (43.311, -73.122), (43.411, -73.222),
            (43.411, -73.322),
        ))),
        ("TuplePolygonCompact", POLYGON),
        ("TuplePrism", Prism((
            (42.556844, -73.248157, 36.6), (42.656844, -73.248157, 36.6), (42.656844, -73.348157, 36.6),
            (42.556844, -73.348157, 36.6),
        ), 2.4)),
    ],
)  # fmt: skip
def test_the_shapes_of_rfc_5491_are_read_from_its_own_examples(cases, name, shape):
    """E-06: `pos` by `pos`, `posList`, sexagesimal GML 2, blanks around numbers."""
    (found,) = read_pidf((cases / "xml" / "pidf_lo" / f"RFC5491{name}Location.xml").read_bytes())
    assert found.geo == shape


def test_times_confidence_and_rules_are_read_where_real_senders_put_them(cases):
    """E-06: usage rules in either namespace, none at all, a byte order mark, the timestamp of tuple or device."""
    folder = cases / "xml" / "pidf_lo"
    (old,) = read_pidf((folder / "RFC5491TupleCivicLocation.xml").read_bytes())
    assert (old.retransmission_allowed, old.retention_expiry) == (True, datetime(2003, 6, 23, 4, 57, 29, tzinfo=UTC))
    assert old.timestamp == datetime(2003, 6, 22, 20, 57, 29, tzinfo=UTC)
    (sure,) = read_pidf((folder / "DeviceCircleWithConfidence.xml").read_bytes())
    assert sure.geo == Geo(41.760537, -88.261914, None, 50, Confidence(95, "normal"))
    (device,) = read_pidf((folder / "DeviceCircleDynamic1.xml").read_bytes())
    assert (device.retransmission_allowed, device.method, device.entity) == (False, "gps", "pres:alice@example.com")
    assert device.timestamp == datetime(2009, 6, 22, 20, 57, 29, tzinfo=UTC)
    (nothing,) = read_pidf((folder / "DeviceDynamicOnly1.xml").read_bytes())
    assert (nothing.geo, nothing.civic_address.elements) == (None, ())


def presence(inside, after=""):
    return (
        f'<presence xmlns="{PIDF}" xmlns:gp="{GP}" xmlns:gml="{GML}" xmlns:gs="{GS}" entity="pres:a@b"><tuple id="t">'
        f"<status><gp:geopriv><gp:location-info>{inside}</gp:location-info>{after}</gp:geopriv></status></tuple></presence>"
    ).encode()


def test_sloppy_documents_are_understood():
    """E-06: `retention-expires`, civicLoc of 2005, radians, an address twice, LMKP twice, uom swapped or missing."""
    (found,) = read_pidf(presence(
        '<c:civicAddress xmlns:c="urn:ietf:params:xml:ns:pidf:geopriv10:civicLoc"><c:country>us</c:country>'
        "<c:A6>Main</c:A6><c:HNO>1</c:HNO><c:HNO>2</c:HNO>"
        '<x:LMKP xmlns:x="urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr:ext">North</x:LMKP>'
        '<x:LMKP xmlns:x="urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr:ext">Gate</x:LMKP></c:civicAddress>'
        "<gs:Ellipse><gml:pos>1, 2</gml:pos><gs:semiMajorAxis>3</gs:semiMajorAxis>"
        "<gs:semiMinorAxis>2</gs:semiMinorAxis>"
        '<gs:orientation uom="urn:ogc:def:uom:EPSG::9101">3.141592653589793</gs:orientation></gs:Ellipse>',
        "<gp:usage-rules><gp:retention-expires>2026-11-22T20:00:00+01:00</gp:retention-expires></gp:usage-rules>",
    ))  # fmt: skip
    assert found.civic_address.elements == (
        ("country", "us"), ("RD", "Main"), ("HNO", "1"), ("LMKP", "North"), ("LMKP", "Gate"),
    )  # fmt: skip
    assert found.geo == Ellipse(1, 2, 3, 2, 180)
    assert found.retention_expiry == datetime(2026, 11, 22, 19, 0, tzinfo=UTC)
    assert found.civic_address.as_dict()["LMKP"] == "North; Gate"


@pytest.mark.parametrize(
    "inside",
    [
        "<gs:Circle><gml:pos>1 2</gml:pos><gs:radius>-1</gs:radius></gs:Circle>",
        "<gs:Ellipse><gml:pos>1 2</gml:pos></gs:Ellipse>",
        "<gs:ArcBand><gml:pos>1 2</gml:pos><gs:innerRadius>1e999</gs:innerRadius></gs:ArcBand>",
        "<gs:Ellipsoid><gml:pos>1 2</gml:pos></gs:Ellipsoid>",
        "<gml:Polygon><gml:posList>1 2 3 4 5</gml:posList></gml:Polygon>",
        "<gml:Polygon><gml:posList>1 2 3 4</gml:posList></gml:Polygon>",
        "<gml:Polygon><gml:posList>" + "1 2 " * 500 + "</gml:posList></gml:Polygon>",
        "<gml:Polygon><gml:pos>1 2</gml:pos><gml:pos>1 2 3</gml:pos><gml:pos>3 4</gml:pos></gml:Polygon>",
        "<gs:Prism><gml:pos>1 2</gml:pos></gs:Prism>",
        "<gml:Point><gml:pos>" + "4" * 256 + " 1</gml:pos></gml:Point>",
        "<gml:Point><gml:pos>1_0 1</gml:pos></gml:Point>",
        "<gml:Point><gml:coordinates>37:46:30X 1</gml:coordinates></gml:Point>",
        "<gml:Point/>",
    ],
)  # fmt: skip
def test_a_shape_that_cannot_be_is_left_out_and_its_address_stays(inside):
    """E-06: numbers too long, missing, negative or of the wrong count never raise."""
    civic = f'<c:civicAddress xmlns:c="{CA}"><c:country>US</c:country></c:civicAddress>'
    (found,) = read_pidf(presence(inside + civic))
    assert (found.geo, found.civic_address.get("country")) == (None, "US")


def test_depth_and_count_are_bounded():
    """E-06: deeper than any real document is refused; more locations than anybody sends are left unread."""
    with pytest.raises(BadLocation, match="deep"):
        read_pidf(b"<p>" * 60 + b"</p>" * 60)
    with pytest.raises(BadLocation, match="elements"):
        read_pidf(presence("<gml:pos/>" * 2000))
    nested = f'<presence xmlns="{PIDF}" xmlns:gp="{GP}">{"<gp:geopriv>" * 9}{"</gp:geopriv>" * 9}</presence>'.encode()
    assert len(read_pidf(nested)) == 1
    many = f'<presence xmlns="{PIDF}" xmlns:gp="{GP}">{"<gp:geopriv/>" * 100}</presence>'.encode()
    assert len(read_pidf(many)) == 16


@given(st.recursive(
    st.sampled_from(["1 2", "x", "<gml:pos>1 2</gml:pos>", "<gs:radius>1</gs:radius>", "&amp;", "<!--c-->", "<?p i?>"]),
    lambda inner: st.tuples(
        st.sampled_from(["gml:Point", "gs:Circle", "gs:Prism", "gml:Polygon", "gml:posList", "c:civicAddress", "c:A1"]),
        st.lists(inner, max_size=3),
    ).map(lambda pair: f"<{pair[0]} xmlns:c='urn:c'>{''.join(pair[1])}</{pair[0]}>"),
    max_leaves=12,
))  # fmt: skip
def test_any_arrangement_of_its_elements_is_read(inside):
    """E-06: no document of well-formed XML raises anything."""
    assert len(read_pidf(presence(inside))) == 1


@pytest.mark.parametrize(
    "namespace", ["urn:\u2400entity\u2400", "urn:\u2400expiry\u2400", "urn:\x01", "urn:\ud800", "urn:\u00e9"]
)
def test_a_foreign_namespace_that_no_document_can_hold_is_left_out(namespace):
    """E-06: an odd extension of an address costs that extension, never the call or the document."""
    civic = CivicAddress.of({"country": "US", "RD": "Main", f"{{{namespace}}}x": "y"})
    (found,) = read_pidf(write_pidf(DispatchableLocation("location_1", "HQ", civic), "pres:a@b", NOW))
    assert found.civic_address.as_dict() == {"country": "US", "RD": "Main"}
