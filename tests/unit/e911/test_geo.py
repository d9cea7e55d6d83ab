"""The JSON form of shapes: read strictly, every fault named."""

import pytest

from engine.e911.civic import CivicAddress, clark_name, unknown_elements
from engine.e911.geo import Confidence, Geo, NotOnEarth, Polygon, Prism, shape_of

TRIANGLE = [[1, 2], [3, 4], [5, 0]]


def test_a_point_without_a_shape_is_what_it_always_was():
    """E-06: absent `shape`: latitude, longitude, altitude_m, radius_m."""
    assert shape_of({"latitude": 1, "longitude": 2}) == Geo(1, 2)
    assert shape_of({"latitude": 1, "longitude": 2, "radius_m": 5, "altitude_m": None}) == Geo(1, 2, None, 5)
    assert Geo(1.0, 2.0, radius_m=5.0).as_dict() == {"latitude": 1.0, "longitude": 2.0, "radius_m": 5.0}


def test_confidence_is_a_percentage_or_said_to_be_unknown():
    """E-06: RFC 7459."""
    sure = shape_of({"latitude": 1, "longitude": 2, "confidence": 67.5, "confidence_pdf": "normal"})
    assert sure.confidence == Confidence(67.5, "normal")
    unsure = shape_of({"latitude": 1, "longitude": 2, "confidence": "unknown"})
    assert (unsure.confidence, unsure.as_dict()["confidence"]) == (Confidence(None), "unknown")


def test_an_area_has_a_middle_and_does_not_repeat_its_first_corner():
    """E-06: readers that want one pin get one; what is read again is the same."""
    area = shape_of({"shape": "polygon", "points": [*TRIANGLE, TRIANGLE[0]]})
    assert area == Polygon(((1, 2), (3, 4), (5, 0)))
    assert (area.latitude, area.longitude) == (3, 2)
    assert shape_of(area.as_dict()) == area
    storey = shape_of({"shape": "prism", "points": [[*point, 10] for point in TRIANGLE], "height_m": 3})
    assert (storey.latitude, storey.longitude, storey.height_m) == (3, 2, 3)
    assert isinstance(storey, Prism)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"shape": "blob"}, "shape"),
        ({"latitude": 91, "longitude": 0}, "latitude"),
        ({"latitude": float("nan"), "longitude": 0}, "latitude"),
        ({"latitude": True, "longitude": 0}, "latitude"),
        ({"latitude": 1}, "longitude"),
        ({"latitude": 1, "longitude": 2, "colour": 3}, "colour"),
        ({"latitude": 1, "longitude": 2, "radius_m": -1}, "radius_m"),
        ({"latitude": 1, "longitude": 2, "confidence": 0}, "confidence"),
        ({"latitude": 1, "longitude": 2, "confidence": 9, "confidence_pdf": "odd"}, "confidence_pdf"),
        ({"shape": "ellipse", "latitude": 1, "longitude": 2, "semi_major_m": 3}, "semi_minor_m"),
        ({"shape": "polygon", "points": "1 2"}, "points"),
        ({"shape": "polygon", "points": TRIANGLE[:2]}, "points"),
        ({"shape": "polygon", "points": [[1, 2], [3, 4], [5, 0, 6]]}, "points"),
        ({"shape": "polygon", "points": [[1, 2], [3, 200], [5, 0]]}, "points[1]"),
        ({"shape": "polygon", "points": TRIANGLE * 40}, "points"),
        ({"shape": "prism", "points": TRIANGLE, "height_m": 1}, "points[0]"),
    ],
)
def test_what_is_no_place_is_refused_by_its_field(values, field):
    with pytest.raises(NotOnEarth) as refused:
        shape_of(values)
    assert refused.value.field == field


def test_elements_of_other_namespaces_are_known_by_their_clark_names():
    """E-06: RFC 6848 lets anybody add elements; ours are never spelled that way."""
    assert clark_name("{http://example.com/airport/5.0}gate") == ("http://example.com/airport/5.0", "gate")
    for name in ("gate", "{}gate", "{urn:ietf:params:xml:ns:pidf:x}A1", "{a b}c", "{a}1b", '{a"}b'):
        assert clark_name(name) is None, name
    address = CivicAddress.of({"{urn:x}gate": "36B", "HNO": "1", "nonsense": "x", "country": "US"})
    assert [name for name, _ in address.elements] == ["country", "HNO", "{urn:x}gate"]
    assert unknown_elements(["A1", "{urn:x}gate", "x"]) == ["x"]
