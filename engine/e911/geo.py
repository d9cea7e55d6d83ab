"""Where on Earth: the eight shapes of RFC 5491 §5 as values, with the confidence of RFC 7459. Pure.

Degrees (WGS 84) and metres throughout, whatever unit a sender used. Numbers are kept to nine decimals, a tenth of a
millimetre: what is written is read back as the same value.

The JSON form of a shape, in the API, the database and the journal (`as_dict` writes it, `shape_of` reads it):

    {"latitude", "longitude", ["altitude_m"], ["radius_m"]}                        point; with a radius circle or sphere
    {"shape": "ellipse", "latitude", "longitude", "semi_major_m", "semi_minor_m", "orientation_deg"}
    {"shape": "ellipsoid", "latitude", "longitude", "altitude_m", "semi_major_m", "semi_minor_m", "vertical_m",
     "orientation_deg"}
    {"shape": "arc_band", "latitude", "longitude", "inner_radius_m", "outer_radius_m", "start_deg", "opening_deg"}
    {"shape": "polygon", "points": [[latitude, longitude(, altitude_m)], …]}       the first point is not repeated
    {"shape": "prism", "points": [[latitude, longitude, altitude_m], …], "height_m"}

Each may add "confidence" (a percentage, or "unknown") and "confidence_pdf" ("normal" or "rectangular"). A polygon or
prism is written with the latitude and longitude of its middle too, for readers that want one pin on a map.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

MAX_POINTS = 64  # RFC 5491 §5.2.2 asks for at most 16 edges; a floor plan drawn by a machine may hold more
MAX_METRES = 40_000_000.0  # once around the Earth: no radius, height or altitude is larger
DECIMALS = 9
PDFS = ("unknown", "normal", "rectangular")


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure the sender is, in percent, that the place lies in the shape. None: it says that it does not know.

    A shape without any means 95 % (RFC 5491 §5).
    """

    percent: float | None
    pdf: str = "unknown"


@dataclass(frozen=True, slots=True)
class Geo:
    """A point; with an uncertainty `radius_m` a circle (2-D) or a sphere (with `altitude_m`)."""

    latitude: float
    longitude: float
    altitude_m: float | None = None
    radius_m: float | None = None
    confidence: Confidence | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what is not known is left out."""
        return _as_dict(self, None)


@dataclass(frozen=True, slots=True)
class Ellipse:
    """`orientation_deg`: of the major axis, clockwise from north."""

    latitude: float
    longitude: float
    semi_major_m: float
    semi_minor_m: float
    orientation_deg: float = 0.0
    confidence: Confidence | None = None

    def as_dict(self) -> dict[str, Any]:
        return _as_dict(self, "ellipse")


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """An ellipse with an altitude and its uncertainty `vertical_m`."""

    latitude: float
    longitude: float
    altitude_m: float
    semi_major_m: float
    semi_minor_m: float
    vertical_m: float
    orientation_deg: float = 0.0
    confidence: Confidence | None = None

    def as_dict(self) -> dict[str, Any]:
        return _as_dict(self, "ellipsoid")


@dataclass(frozen=True, slots=True)
class ArcBand:
    """A sector of a ring around the centre: angles clockwise from north."""

    latitude: float
    longitude: float
    inner_radius_m: float
    outer_radius_m: float
    start_deg: float
    opening_deg: float
    confidence: Confidence | None = None

    def as_dict(self) -> dict[str, Any]:
        return _as_dict(self, "arc_band")


Point = tuple[float, ...]
"""Latitude, longitude, and in a three-dimensional shape the altitude."""


@dataclass(frozen=True, slots=True)
class Polygon:
    """At least three corners, counter-clockwise as seen from above; the first is not repeated at the end."""

    points: tuple[Point, ...]
    confidence: Confidence | None = None

    @property
    def latitude(self) -> float:
        return _middle(self.points, 0)

    @property
    def longitude(self) -> float:
        return _middle(self.points, 1)

    def as_dict(self) -> dict[str, Any]:
        return _as_dict(self, "polygon")


@dataclass(frozen=True, slots=True)
class Prism:
    """A polygon at an altitude, `height_m` high: a storey."""

    points: tuple[Point, ...]
    height_m: float
    confidence: Confidence | None = None

    @property
    def latitude(self) -> float:
        return _middle(self.points, 0)

    @property
    def longitude(self) -> float:
        return _middle(self.points, 1)

    def as_dict(self) -> dict[str, Any]:
        return _as_dict(self, "prism")


Shape = Geo | Ellipse | Ellipsoid | ArcBand | Polygon | Prism
NAMED: dict[str, type[Ellipse | Ellipsoid | ArcBand | Polygon | Prism]] = {
    "ellipse": Ellipse, "ellipsoid": Ellipsoid, "arc_band": ArcBand, "polygon": Polygon, "prism": Prism,
}  # fmt: skip
LIMITS: dict[str, tuple[float, float]] = {
    "latitude": (-90.0, 90.0),
    "longitude": (-180.0, 180.0),
    "altitude_m": (-MAX_METRES, MAX_METRES),
    "radius_m": (0.0, MAX_METRES),
    "semi_major_m": (0.0, MAX_METRES),
    "semi_minor_m": (0.0, MAX_METRES),
    "vertical_m": (0.0, MAX_METRES),
    "inner_radius_m": (0.0, MAX_METRES),
    "outer_radius_m": (0.0, MAX_METRES),
    "height_m": (0.0, MAX_METRES),
    "orientation_deg": (-360.0, 360.0),
    "start_deg": (-360.0, 360.0),
    "opening_deg": (-360.0, 360.0),
}


class NotOnEarth(ValueError):
    """Numbers that are no place: `field` names which, the text says what was expected."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


def shape_of(values: Mapping[str, Any]) -> Shape:
    """Read the JSON form.

    Raises:
        NotOnEarth: a number is missing, none, or out of its range; the shape is no known one.
    """
    values = {key: value for key, value in values.items() if value is not None}
    name = values.get("shape")
    kind: type[Shape] | None = Geo if name in {None, "point", "circle", "sphere"} else NAMED.get(str(name))
    if kind is None:
        raise NotOnEarth("shape", f"expected no shape or one of {', '.join(NAMED)}, got {name!r:.40}.")
    known = {field.name for field in fields(kind)} | {"shape", "confidence_pdf", "latitude", "longitude"}
    unknown = sorted(str(key) for key in values if key not in known)
    if unknown:
        raise NotOnEarth(unknown[0], f"{unknown[0]} is no field of this shape. Fields are {', '.join(sorted(known))}.")
    made: dict[str, Any] = {"confidence": _confidence(values)}
    for field in fields(kind):
        if field.name == "points":
            made["points"] = points_of(values.get("points"), dimensions={2, 3} if kind is Polygon else {3})
        elif field.name != "confidence":
            needs = kind is not Geo or field.name in {"latitude", "longitude"}
            if (number := _number(values, field.name, needs=needs)) is not None:
                made[field.name] = number
    return kind(**made)


def points_of(value: object, *, dimensions: set[int]) -> tuple[Point, ...]:
    """Corners from lists of numbers; a last one that repeats the first is dropped. Raises NotOnEarth."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise NotOnEarth("points", f"expected a list of points such as [42.65, -73.75], got {value!r:.60}.")
    if len(value) > MAX_POINTS + 1:
        raise NotOnEarth("points", f"expected at most {MAX_POINTS} points, got {len(value)}.")
    points = tuple(_point(point, at, dimensions) for at, point in enumerate(value))
    points = points[:-1] if len(points) > 1 and points[0] == points[-1] else points
    if len(points) < 3 or len({len(point) for point in points}) != 1:
        raise NotOnEarth("points", f"expected at least three points of the same kind, got {len(points)}.")
    return points


def _point(value: object, at: int, dimensions: set[int]) -> Point:
    field = f"points[{at}]"
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or len(value) not in dimensions:
        raise NotOnEarth(field, f"expected latitude and longitude in degrees, and an altitude, got {value!r:.60}.")
    names = ("latitude", "longitude", "altitude_m")
    return tuple(checked(names[place], number, field) for place, number in enumerate(value))


def _number(values: Mapping[str, Any], name: str, *, needs: bool) -> float | None:
    number = values.get(name)
    if number is None and name == "orientation_deg":
        return 0.0
    if number is None and not needs:
        return None
    return checked(name, number, name)


def checked(name: str, number: object, field: str) -> float:
    """A number within its range, to nine decimals. Raises NotOnEarth; NaN is out of every range."""
    least, most = LIMITS[name]
    if not isinstance(number, int | float) or isinstance(number, bool) or not least <= number <= most:
        raise NotOnEarth(field, f"expected a number from {least:g} to {most:g}, got {number!r:.40}.")
    return round(float(number), DECIMALS) + 0.0  # adding zero turns -0.0 into 0.0


def _confidence(values: Mapping[str, Any]) -> Confidence | None:
    percent, pdf = values.get("confidence"), values.get("confidence_pdf", "unknown")
    if pdf not in PDFS:
        raise NotOnEarth("confidence_pdf", f"expected one of {', '.join(PDFS)}, got {pdf!r:.40}.")
    if percent is None:
        return None
    if percent == "unknown":
        return Confidence(None, pdf)
    if not isinstance(percent, int | float) or isinstance(percent, bool) or not 0 < percent <= 100:
        raise NotOnEarth("confidence", f"expected a percentage from 0 to 100 or unknown, got {percent!r:.40}.")
    return Confidence(round(float(percent), DECIMALS), pdf)


def _as_dict(shape: Any, name: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"shape": name} if name else {}
    found |= {"latitude": shape.latitude, "longitude": shape.longitude}
    for field in fields(shape):
        value = getattr(shape, field.name)
        if field.name == "points":
            found["points"] = [list(point) for point in value]
        elif value is not None and field.name != "confidence":
            found[field.name] = value
    confidence: Confidence | None = shape.confidence
    if confidence is not None:
        found["confidence"] = "unknown" if confidence.percent is None else confidence.percent
        if confidence.pdf != "unknown":
            found["confidence_pdf"] = confidence.pdf
    return found


def _middle(points: tuple[Point, ...], axis: int) -> float:
    return round(math.fsum(point[axis] for point in points) / len(points), DECIMALS)
