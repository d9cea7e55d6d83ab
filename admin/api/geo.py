"""Where a location is on Earth, as the API takes it: the shapes of RFC 5491 with the confidence of RFC 7459.

`engine.e911.geo` says what each field means; without a `shape` it is a point, or with a radius a circle or sphere.
"""

from typing import Annotated, Literal

from pydantic import Field

from admin.api.models import Body

Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
Metres = Annotated[float, Field(ge=0, le=100_000)]
Altitude = Annotated[float, Field(ge=-500, le=9000)]
Degrees = Annotated[float, Field(ge=-360, le=360)]
Corner = Annotated[list[float], Field(min_length=2, max_length=3)]
Corners = Annotated[list[Corner], Field(min_length=3, max_length=64)]


class SureBody(Body):
    """`confidence`: a percentage, or "unknown"; without it 95 is meant (RFC 5491 §5)."""

    confidence: Annotated[float, Field(gt=0, le=100)] | Literal["unknown"] | None = None
    confidence_pdf: Literal["unknown", "normal", "rectangular"] | None = None


class GeoBody(SureBody):
    """WGS 84: degrees, and metres for altitude and radius of uncertainty."""

    shape: Literal["point"] | None = None
    latitude: Latitude
    longitude: Longitude
    altitude_m: Altitude | None = None
    radius_m: Metres | None = None


class EllipseBody(SureBody):
    """`orientation_deg`: of the major axis, clockwise from north."""

    shape: Literal["ellipse"]
    latitude: Latitude
    longitude: Longitude
    semi_major_m: Metres
    semi_minor_m: Metres
    orientation_deg: Degrees = 0.0


class EllipsoidBody(SureBody):
    """An ellipse with an altitude and how uncertain that is."""

    shape: Literal["ellipsoid"]
    latitude: Latitude
    longitude: Longitude
    altitude_m: Altitude
    semi_major_m: Metres
    semi_minor_m: Metres
    vertical_m: Metres
    orientation_deg: Degrees = 0.0


class ArcBandBody(SureBody):
    """A sector of a ring; angles clockwise from north."""

    shape: Literal["arc_band"]
    latitude: Latitude
    longitude: Longitude
    inner_radius_m: Metres
    outer_radius_m: Metres
    start_deg: Degrees
    opening_deg: Degrees


class PolygonBody(SureBody):
    """Corners counter-clockwise, each latitude, longitude and perhaps altitude; the first is not repeated."""

    shape: Literal["polygon"]
    points: Corners
    latitude: Latitude | None = None
    longitude: Longitude | None = None


class PrismBody(SureBody):
    """A polygon at an altitude, and its height: a storey."""

    shape: Literal["prism"]
    points: Corners
    height_m: Metres
    latitude: Latitude | None = None
    longitude: Longitude | None = None


PlaceBody = GeoBody | EllipseBody | EllipsoidBody | ArcBandBody | PolygonBody | PrismBody
