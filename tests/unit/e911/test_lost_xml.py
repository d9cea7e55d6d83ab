"""LoST messages: what is asked fits the published schema, what is answered is read or refused in its own words."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from engine.e911.civic import CivicAddress, DispatchableLocation
from engine.e911.geo import Ellipsoid, Geo, Polygon
from engine.e911.lost_xml import (
    BadLost,
    ErrorType,
    Found,
    LostRefused,
    Redirect,
    Validation,
    Warned,
    read_response,
    write_find_service,
)
from tests import lost_server
from tests.factories import HEADQUARTERS

CIVIC = DispatchableLocation("location_1", "HQ", CivicAddress.of(HEADQUARTERS | {"STP": "Avenue", "SITE": "Tower"}))
POINT = DispatchableLocation("location_2", "Roof", CivicAddress(), Geo(42.65, -73.75, 30.0, 25.0))


@pytest.mark.parametrize("validate", [True, False])
def test_the_question_fits_the_schema(cases, validate):
    """E-13: RFC 5222 §14, by its own RELAX NG."""
    root = etree.fromstring(write_find_service(CIVIC, validate=validate))
    lost_server.schema().assertValid(root)
    (place,) = root.iterfind(f"{{{lost_server.LOST}}}location")
    assert place.get("profile") == "civic"
    civic = {etree.QName(each).localname: each.text for each in place[0]}
    assert civic == CIVIC.civic_address.as_dict()
    assert root.get("validateLocation") == ("true" if validate else None)
    assert root.findtext(f"{{{lost_server.LOST}}}service") == "urn:service:sos"


def test_a_position_is_asked_for_in_two_dimensions(cases):
    """RFC 5222 §12.2: geodetic-2d."""
    ring = ((42.0, -73.0, 1.0), (42.1, -73.0, 1.0), (42.1, -73.1, 1.0), (42.0, -73.0, 1.0))
    for shape in (POINT.geo, Geo(42.65, -73.75), Ellipsoid(42.65, -73.75, 3.0, 9.0, 5.0, 2.0, 10.0), Polygon(ring)):
        location = DispatchableLocation("location_2", "Roof", CivicAddress(), shape)
        root = etree.fromstring(write_find_service(location))
        lost_server.schema().assertValid(root)
        (place,) = root.iterfind(f"{{{lost_server.LOST}}}location")
        assert place.get("profile") == "geodetic-2d"
        assert place[0].get("srsName") == "urn:ogc:def:crs:EPSG::4326"
        assert len(place.findtext(".//{http://www.opengis.net/gml}pos").split()) == 2


def test_a_location_that_says_nothing_cannot_be_asked_for():
    with pytest.raises(ValueError, match="an address or a position"):
        write_find_service(DispatchableLocation("location_3", "Nowhere", CivicAddress()))


def test_an_answer_is_read_with_its_mapping_validation_and_path(cases):
    warning = '<defaultMappingReturned message="the county" xml:lang="en"/>'
    answer = lost_server.found(valid="country A1 A3", invalid="HNO", unchecked="FLR ROOM", warning=warning)
    lost_server.schema().assertValid(etree.fromstring(answer))
    read = read_response(answer)
    assert isinstance(read, Found)
    (mapping,) = read.mappings
    assert mapping.uris == ("sip:psap@albany.example.net",)
    assert (mapping.display_name, mapping.service, mapping.service_number) == (
        "Albany County 911", "urn:service:sos", "911",
    )  # fmt: skip
    assert (mapping.expires, mapping.is_kept) == (datetime(2026, 11, 22, 20, tzinfo=UTC), True)
    assert read.validation == Validation(("country", "A1", "A3"), ("HNO",), ("FLR", "ROOM"))
    assert read.warnings == (Warned("defaultMappingReturned", "the county"),)
    assert read.path == ("resolver.example.net", "lost.example.net")


@pytest.mark.parametrize(("expires", "is_kept"), [("NO-CACHE", False), ("NO-EXPIRATION", True)])
def test_the_words_for_expiry_are_read(expires, is_kept):
    (mapping,) = read_response(lost_server.found(expires=expires)).mappings
    assert (mapping.expires, mapping.is_kept) == (None, is_kept)


@pytest.mark.parametrize("type_", [each for each in ErrorType if each is not ErrorType.SRS_INVALID])
def test_every_error_of_the_rfc_is_told_by_its_name_and_words(cases, type_):
    """E-13: RFC 5222 §13.1."""
    answer = lost_server.errors(type_.value, "so and so")
    lost_server.schema().assertValid(etree.fromstring(answer))
    with pytest.raises(LostRefused) as caught:
        read_response(answer)
    assert (caught.value.type, caught.value.words, caught.value.source) == (type_, "so and so", "lost.example.net")


def test_of_several_errors_the_one_about_the_question_counts():
    both = (
        f'<errors xmlns="{lost_server.LOST}" source="a.b"><serverTimeout message="t" xml:lang="en"/>'
        '<locationInvalid message="bad" xml:lang="en"/></errors>'
    )
    with pytest.raises(LostRefused) as caught:
        read_response(both.encode())
    assert caught.value.type is ErrorType.LOCATION_INVALID
    with pytest.raises(LostRefused) as caught:
        read_response(f'<errors xmlns="{lost_server.LOST}" source="a.b"><odd/></errors>'.encode())
    assert caught.value.type is ErrorType.SERVER_ERROR


def test_a_redirect_names_the_next_server(cases):
    answer = lost_server.redirect("albany.example.net")
    lost_server.schema().assertValid(etree.fromstring(answer))
    assert read_response(answer) == Redirect("albany.example.net", "lost.example.net")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<x/>",
        b"<!DOCTYPE x><x/>",
        f'<listServicesResponse xmlns="{lost_server.LOST}"/>'.encode(),
        f'<redirect xmlns="{lost_server.LOST}"/>'.encode(),
        lost_server.found(expires="tomorrow"),
        lost_server.found().replace(b' sourceId="7e3f40b098c711dbb6060800200c9a66"', b""),
        lost_server.found(path=("x" * 70_000,)),
    ],
)
def test_what_answers_no_question_is_refused(data):
    with pytest.raises(BadLost):
        read_response(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data):
    with pytest.raises(BadLost):
        read_response(data)
