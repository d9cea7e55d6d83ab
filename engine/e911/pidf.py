"""PIDF-LO documents, written and read. Pure.

RFC 4119, 5139, 5491, 6848 and 7459; CLDXF elements as NENA-STA-004.2 places them. Lenient in, strict out: what is
written keeps the schemas' order and namespaces; what is read may be as sloppy as real senders are (old and misplaced
namespaces, commas in positions, `retention-expires`, no usage rules), but never expands an entity or a doctype and
is bounded in size, depth and the length of its numbers.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from lxml import etree

from engine.e911.civic import (
    CIVIC_ELEMENTS,
    CIVIC_EXTENSIONS,
    CLDXF_ELEMENTS,
    CivicAddress,
    DispatchableLocation,
    clark_name,
)
from engine.e911.geo import (
    DECIMALS,
    PDFS,
    ArcBand,
    Confidence,
    Ellipse,
    Ellipsoid,
    Geo,
    NotOnEarth,
    Point,
    Polygon,
    Prism,
    Shape,
    checked,
    points_of,
)
from engine.e911.xml_input import BadXml, read_xml
from engine.e911.xml_text import escaped

PIDF = "urn:ietf:params:xml:ns:pidf"
GP = "urn:ietf:params:xml:ns:pidf:geopriv10"
GBP = "urn:ietf:params:xml:ns:pidf:geopriv10:basicPolicy"
CA = "urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr"
CAE = "urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr:ext"
CDX1 = "urn:nena:xml:ns:pidf:nenaCivicAddr"
CDX2 = "urn:nena:xml:ns:pidf:nenaCivicAddr2"
GML = "http://www.opengis.net/gml"
GS = "http://www.opengis.net/pidflo/1.0"
CON = "urn:ietf:params:xml:ns:geopriv:conf"
_PREFIXES = {"gp": GP, "gbp": GBP, "ca": CA, "cae": CAE, "cdx1": CDX1, "cdx2": CDX2, "gml": GML, "gs": GS, "con": CON}
_PREFIX_OF = (
    dict.fromkeys(CIVIC_ELEMENTS, "ca")
    | dict.fromkeys(CIVIC_EXTENSIONS, "cae")
    | dict.fromkeys(CLDXF_ELEMENTS, "cdx2")
    | {"STPS": "cdx1"}
)

CRS_2D = "urn:ogc:def:crs:EPSG::4326"  # latitude, then longitude (RFC 5491 §5.1)
CRS_3D = "urn:ogc:def:crs:EPSG::4979"
METRE = "urn:ogc:def:uom:EPSG::9001"
DEGREE = "urn:ogc:def:uom:EPSG::9102"
RETENTION = timedelta(hours=24)  # RFC 4119 §2.2.2: what applies where a sender says nothing
MAX_PIDF_BYTES = 65_536  # the largest SIP message; the deepest real PIDF-LO seen is under 4 kB
MAX_DEPTH = 32  # a prism in a tuple is 12 deep
MAX_ELEMENTS = 1_000  # a polygon of 64 corners beside an address of every element has under 200
MAX_NUMBER_CHARS = 32  # a 256-digit latitude has broken others
MAX_VALUE_CHARS = 400
MAX_LOCATIONS = 16
CONTENT_TYPE = "application/pidf+xml"
MANUAL = "Manual"

# stand-ins for what differs from call to call: no civic value can hold them, control pictures are cleaned away
_ENTITY, _EXPIRY, _STAMP = "\u2400entity\u2400", "\u2400expiry\u2400", "\u2400stamp\u2400"
_XML_ID = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*")
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")  # what xs:language allows


class BadLocation(Exception):
    """A body that claims to be a PIDF-LO and cannot be read: `detail` says what was wrong."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


Pieces = tuple[bytes, bytes, bytes, bytes]
_kept_pieces: dict[tuple[int, str], tuple[DispatchableLocation, Pieces]] = {}
_MAX_KEPT_PIECES = 8_192

# --- writing ----------------------------------------------------------------------------------------------------------


def write_pidf(location: DispatchableLocation, entity: str, now: datetime, *, method: str = MANUAL) -> bytes:
    """The PIDF-LO of a location as conveyed at `now` (UTC).

    Args:
        entity: The presentity, a pres: or sip: URI (RFC 5491 §3.1). Anything not allowed in XML is dropped from it.
        method: How the location was found (RFC 4119 §6.1).
    """
    head, middle, tail, end = _pieces_of(location, method)
    expiry, stamp = _stamps(int(now.timestamp()))
    return b"".join((head, escaped(entity).encode(), middle, expiry, tail, stamp, end))


def entity_of(uri: str) -> str:
    """The pres: URI for a caller's sip: URI; the anonymous one (RFC 3323 §4.1.1.3) when there is none."""
    scheme, _, rest = uri.partition(":")
    address = rest.partition(";")[0].partition("?")[0]
    if scheme.lower() not in {"sip", "sips"} or not address:
        return "pres:anonymous@anonymous.invalid"
    return f"pres:{address}" if "@" in address else f"pres:anonymous@{address}"


def _pieces_of(location: DispatchableLocation, method: str) -> Pieces:
    """`_pieces`, kept: a place that calls once calls again. By identity: to compare the address costs a call more."""
    key = id(location), method
    found = _kept_pieces.get(key)
    if found is None or found[0] is not location:
        if len(_kept_pieces) >= _MAX_KEPT_PIECES:
            _kept_pieces.clear()
        found = _kept_pieces[key] = location, _pieces(location, method)
    return found[1]


def _pieces(location: DispatchableLocation, method: str) -> Pieces:
    """The document of a location, cut where a call's own values go."""
    tuple_id = location.id if _XML_ID.fullmatch(location.id) else "location"
    # RFC 5491 §3.4: both describe one place; the civic address goes first, it is what a dispatcher sends people to
    inside = _civic_xml(location.civic_address) + (_shape_xml(location.geo) if location.geo is not None else "")
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<presence xmlns="{PIDF}"{_declared(inside)} entity="{_ENTITY}">'
        f'<tuple id="{tuple_id}"><status><gp:geopriv><gp:location-info>{inside}</gp:location-info><gp:usage-rules>'
        "<gbp:retransmission-allowed>true</gbp:retransmission-allowed>"
        f"<gbp:retention-expiry>{_EXPIRY}</gbp:retention-expiry></gp:usage-rules>"
        f"<gp:method>{escaped(method)}</gp:method></gp:geopriv></status>"
        f"<timestamp>{_STAMP}</timestamp></tuple></presence>"
    )
    head, rest = text.split(_ENTITY)
    middle, rest = rest.split(_EXPIRY)
    tail, end = rest.split(_STAMP)
    return head.encode(), middle.encode(), tail.encode(), end.encode()


def _declared(inside: str) -> str:
    used = [prefix for prefix in _PREFIXES if prefix in {"gp", "gbp"} or f"<{prefix}:" in inside]
    return "".join(f' xmlns:{prefix}="{_PREFIXES[prefix]}"' for prefix in used)


def _civic_xml(civic: CivicAddress) -> str:
    if not civic.elements:
        return ""
    language = f' xml:lang="{civic.language}"' if _LANGUAGE.fullmatch(civic.language) else ""
    return f"<ca:civicAddress{language}>{''.join(map(_element_xml, civic.elements))}</ca:civicAddress>"


def _element_xml(element: tuple[str, str]) -> str:
    name, value = element
    prefix = _PREFIX_OF.get(name)
    if prefix is not None:
        return f"<{prefix}:{name}>{escaped(value)}</{prefix}:{name}>"
    found = clark_name(name)
    if found is None:
        return ""
    return f'<x:{found[1]} xmlns:x="{found[0]}">{escaped(value)}</x:{found[1]}>'


def _shape_xml(shape: Shape) -> str:
    """RFC 5491 §5.2, elements in the order of pidflo/1.0's schema; then the confidence (RFC 7459 §4)."""
    match shape:
        case Geo():
            text = _round_xml(shape)
        case Ellipse():
            inner = _pos(shape.latitude, shape.longitude) + _axes_xml(shape)
            text = _gs("Ellipse", CRS_2D, inner + _angle("orientation", shape.orientation_deg))
        case Ellipsoid():
            inner = _pos(shape.latitude, shape.longitude, shape.altitude_m) + _axes_xml(shape)
            inner += _length("verticalAxis", shape.vertical_m) + _angle("orientation", shape.orientation_deg)
            text = _gs("Ellipsoid", CRS_3D, inner)
        case ArcBand():
            inner = _pos(shape.latitude, shape.longitude) + _length("innerRadius", shape.inner_radius_m)
            inner += _length("outerRadius", shape.outer_radius_m) + _angle("startAngle", shape.start_deg)
            text = _gs("ArcBand", CRS_2D, inner + _angle("openingAngle", shape.opening_deg))
        case Polygon():
            crs = CRS_3D if len(shape.points[0]) == 3 else CRS_2D
            text = f'<gml:Polygon srsName="{crs}">{_ring_xml(shape.points)}</gml:Polygon>'
        case Prism():
            base = f'<gs:base><gml:Polygon srsName="{CRS_3D}">{_ring_xml(shape.points)}</gml:Polygon></gs:base>'
            text = _gs("Prism", CRS_3D, base + _length("height", shape.height_m))
    return text + _confidence_xml(shape.confidence)


def _round_xml(geo: Geo) -> str:
    is_flat = geo.altitude_m is None
    crs = CRS_2D if is_flat else CRS_3D
    position = _pos(geo.latitude, geo.longitude, geo.altitude_m)
    if geo.radius_m is None:
        return f'<gml:Point srsName="{crs}">{position}</gml:Point>'
    return _gs("Circle" if is_flat else "Sphere", crs, position + _length("radius", geo.radius_m))


def _axes_xml(shape: Ellipse | Ellipsoid) -> str:
    return _length("semiMajorAxis", shape.semi_major_m) + _length("semiMinorAxis", shape.semi_minor_m)


def _gs(name: str, crs: str, inner: str) -> str:
    return f'<gs:{name} srsName="{crs}">{inner}</gs:{name}>'


def _pos(*numbers: float | None) -> str:
    return f"<gml:pos>{' '.join(_decimal(number) for number in numbers if number is not None)}</gml:pos>"


def _length(name: str, metres: float) -> str:
    return f'<gs:{name} uom="{METRE}">{_decimal(metres)}</gs:{name}>'


def _angle(name: str, degrees: float) -> str:
    return f'<gs:{name} uom="{DEGREE}">{_decimal(degrees)}</gs:{name}>'


def _ring_xml(points: tuple[Point, ...]) -> str:
    """The exterior; RFC 5491 §5.2.2: the last point repeats the first."""
    positions = "".join(_pos(*point) for point in (*points, points[0]))
    return f"<gml:exterior><gml:LinearRing>{positions}</gml:LinearRing></gml:exterior>"


def _confidence_xml(confidence: Confidence | None) -> str:
    if confidence is None:
        return ""
    pdf = f' pdf="{confidence.pdf}"' if confidence.pdf != "unknown" else ""
    value = "unknown" if confidence.percent is None else _decimal(confidence.percent)
    return f"<con:confidence{pdf}>{value}</con:confidence>"


def _decimal(number: float) -> str:
    """Plain decimals (xs:double allows an exponent, receivers do not): a tenth of a millimetre at most."""
    text = f"{number:.{DECIMALS}f}".rstrip("0").rstrip(".")
    return "0" if text in {"", "-0"} else text


@lru_cache(maxsize=16)
def _stamps(seconds: int) -> tuple[bytes, bytes]:
    """(retention-expiry, timestamp) of a document written in that second since 1970."""
    now = datetime.fromtimestamp(seconds, UTC)
    return _instant(now + RETENTION), _instant(now)


def _instant(at: datetime) -> bytes:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z").encode()


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CarriedLocation:
    """One location a PIDF-LO claims: the first civic address and the first shape of one geopriv element.

    `timestamp` and `retention_expiry` are UTC, None where they are missing or unreadable. `content_id`: of the body
    part that held it, `is_named`: a Geolocation header names that part; both are set by who read the message.
    """

    entity: str
    civic_address: CivicAddress
    geo: Shape | None
    method: str | None
    retransmission_allowed: bool
    timestamp: datetime | None = None
    retention_expiry: datetime | None = None
    provided_by: str | None = None
    content_id: str = ""
    is_named: bool = False


def read_pidf(data: bytes) -> tuple[CarriedLocation, ...]:
    """Every location in a PIDF-LO, in document order (RFC 5491 §3.3: the first is trusted most), at most 16.

    Raises:
        BadLocation: too large, too deep, too many elements, not XML, or with a doctype.
    """
    root = _parse(data)
    entity = (root.get("entity") or "")[:MAX_VALUE_CHARS]
    found = []
    for geopriv in root.iter(f"{{{GP}}}geopriv"):
        if next(geopriv.iterancestors(f"{{{GP}}}geopriv"), None) is not None:
            continue  # inside another one: it was read with it
        found.append(_read_geopriv(geopriv, entity))
        if len(found) == MAX_LOCATIONS:
            break
    return tuple(found)


def _parse(data: bytes) -> etree._Element:
    if len(data) > MAX_PIDF_BYTES:
        raise BadLocation(f"a PIDF-LO of at most {MAX_PIDF_BYTES} bytes was expected, got {len(data)}")
    try:
        data.decode()
    except UnicodeDecodeError:  # what old senders write where they declare nothing else
        data = data.decode("iso-8859-1").encode()
    try:
        root = read_xml(data)
    except BadXml as exc:
        raise BadLocation(f"a PIDF-LO was expected; {exc.detail}") from exc
    depth = count = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        if event == "end":
            depth -= 1
            continue
        depth, count = depth + 1, count + 1
        if depth > MAX_DEPTH:
            raise BadLocation(f"a PIDF-LO at most {MAX_DEPTH} elements deep was expected, got a deeper one")
        if count > MAX_ELEMENTS:
            raise BadLocation(f"a PIDF-LO of at most {MAX_ELEMENTS} elements was expected, got more")
    return root


_SHAPES = ("Point", "Polygon", "Circle", "Ellipse", "ArcBand", "Sphere", "Ellipsoid", "Prism")
_READ = (
    "civicAddress", *_SHAPES, "confidence", "method", "retransmission-allowed", "retention-expiry",
    "retention-expires", "provided-by",
)  # fmt: skip


def _read_geopriv(geopriv: etree._Element, entity: str) -> CarriedLocation:
    civic, shape, texts = CivicAddress(), None, dict[str, str]()
    confidence: Confidence | None = None
    for element in geopriv.iter(*(f"{{*}}{name}" for name in _READ)):
        name = etree.QName(element).localname
        if name == "civicAddress":
            civic = civic if civic.elements else _read_civic(element)
        elif name == "confidence":
            confidence = confidence or _read_confidence(element)
        elif name in _SHAPES:
            shape = shape or _read_shape(element, name)
        else:
            texts.setdefault(name, _text(element))
    expiry = texts.get("retention-expiry") or texts.get("retention-expires") or ""
    return CarriedLocation(
        entity=entity,
        civic_address=civic,
        geo=_sure(shape, confidence),
        method=texts.get("method") or None,
        retransmission_allowed=texts.get("retransmission-allowed", "").lower() in {"yes", "true", "1"},
        timestamp=_read_instant(_stamp_of(geopriv)),
        retention_expiry=_read_instant(expiry),
        provided_by=texts.get("provided-by") or None,
    )


def _stamp_of(geopriv: etree._Element) -> str:
    """The timestamp of the tuple, device or person around a geopriv, in whichever namespace it was put."""
    holder = geopriv.getparent()
    if holder is not None and etree.QName(holder).localname == "status":
        holder = holder.getparent()
    stamp = holder.find("{*}timestamp") if holder is not None else None
    return _text(stamp) if stamp is not None else ""


def _read_instant(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _text(element: etree._Element) -> str:
    return (element.text or "").strip()[:MAX_VALUE_CHARS]


def _read_civic(civic: etree._Element) -> CivicAddress:
    """Names of the schemas are taken from any namespace but somebody else's; those keep their own."""
    pairs: list[tuple[str, str]] = []
    for element in civic:
        if not isinstance(element.tag, str):
            continue
        qualified = etree.QName(element)
        is_foreign = clark_name(element.tag) is not None and qualified.namespace != etree.QName(civic).namespace
        name = element.tag if is_foreign else qualified.localname
        value = _text(element)
        if name in CIVIC_ELEMENTS and any(other == name for other, _ in pairs):
            continue  # the schema has each once; a dispatcher reads the first
        pairs.append((name, value))
    if not any(name == "RD" and value for name, value in pairs):  # the street's name before RFC 5139
        pairs = [("RD" if name == "A6" else name, value) for name, value in pairs]
    language = civic.get("{http://www.w3.org/XML/1998/namespace}lang") or ""
    return CivicAddress.of_pairs(pairs, language if _LANGUAGE.fullmatch(language) else "")


def _read_confidence(element: etree._Element) -> Confidence | None:
    pdf = (element.get("pdf") or "unknown").strip()
    pdf = pdf if pdf in PDFS else "unknown"
    text = _text(element)
    if text.lower() == "unknown":
        return Confidence(None, pdf)
    try:
        percent = round(_float(text), DECIMALS)
    except ValueError:
        return None
    return Confidence(percent, pdf) if 0 < percent <= 100 else None


def _sure(shape: Shape | None, confidence: Confidence | None) -> Shape | None:
    if shape is None or confidence is None:
        return shape
    values = {name: getattr(shape, name) for name in shape.__slots__}
    return type(shape)(**values | {"confidence": confidence})


def _read_shape(element: etree._Element, name: str) -> Shape | None:
    """None for what is no place on Earth or lacks what its shape needs."""
    try:
        return _READERS[name](element)
    except (NotOnEarth, ValueError):
        return None


def _read_round(element: etree._Element) -> Geo:
    latitude, longitude, *more = _position(element)
    radius = element.find("{*}radius")
    return Geo(
        latitude, longitude, more[0] if more else None, _metres(element, "radius") if radius is not None else None
    )


def _read_ellipse(element: etree._Element) -> Ellipse:
    latitude, longitude, *_ = _position(element)
    major, minor = _metres(element, "semiMajorAxis"), _metres(element, "semiMinorAxis")
    return Ellipse(latitude, longitude, major, minor, _degrees(element, "orientation", "orientation_deg"))


def _read_ellipsoid(element: etree._Element) -> Ellipsoid:
    latitude, longitude, altitude = _position(element)
    return Ellipsoid(
        latitude,
        longitude,
        altitude,
        _metres(element, "semiMajorAxis"),
        _metres(element, "semiMinorAxis"),
        _metres(element, "verticalAxis"),
        _degrees(element, "orientation", "orientation_deg"),
    )


def _read_arc_band(element: etree._Element) -> ArcBand:
    latitude, longitude, *_ = _position(element)
    return ArcBand(
        latitude,
        longitude,
        _metres(element, "innerRadius"),
        _metres(element, "outerRadius"),
        _degrees(element, "startAngle", "start_deg"),
        _degrees(element, "openingAngle", "opening_deg"),
    )


def _read_polygon(element: etree._Element) -> Polygon:
    return Polygon(points_of(_ring(element), dimensions={2, 3}))


def _read_prism(element: etree._Element) -> Prism:
    return Prism(points_of(_ring(element), dimensions={3}), _metres(element, "height"))


_READERS: dict[str, Callable[[etree._Element], Shape]] = {
    "Point": _read_round, "Circle": _read_round, "Sphere": _read_round, "Ellipse": _read_ellipse,
    "Ellipsoid": _read_ellipsoid, "ArcBand": _read_arc_band, "Polygon": _read_polygon, "Prism": _read_prism,
}  # fmt: skip


def _position(element: etree._Element) -> tuple[float, ...]:
    """Latitude, longitude and perhaps altitude of the first position in it, checked."""
    position = element.find(".//{*}pos")
    if position is None:
        coordinates = element.find(".//{*}coordinates")  # GML 2, as RFC 4119's own examples have it
        numbers = _sexagesimal(_text(coordinates)) if coordinates is not None else []
    else:
        numbers = _numbers(position)
    if len(numbers) not in {2, 3}:
        raise NotOnEarth("pos", f"expected latitude and longitude, got {len(numbers)} numbers.")
    names = ("latitude", "longitude", "altitude_m")
    return tuple(checked(names[at], number, "pos") for at, number in enumerate(numbers))


def _ring(element: etree._Element) -> list[tuple[float, ...]]:
    """The corners of an exterior ring: one `pos` each, or all in a `posList` (GML 3.1.1 §10.5)."""
    listed = element.find(".//{*}posList")
    if listed is None:
        return [tuple(_numbers(position)) for position in element.iterfind(".//{*}pos")]
    numbers = _numbers(listed)
    solid = [holder.get("srsName", "").endswith("4979") for holder in (element, *element.iterfind(".//{*}Polygon"))]
    told = listed.get("srsDimension") or listed.get("dimension")
    size = 3 if told == "3" or (told is None and (any(solid) or etree.QName(element).localname == "Prism")) else 2
    if len(numbers) % size:
        raise NotOnEarth("posList", f"expected numbers in groups of {size}, got {len(numbers)}.")
    return [tuple(numbers[at : at + size]) for at in range(0, len(numbers), size)]


def _numbers(element: etree._Element) -> list[float]:
    """The numbers in a position; commas part them as well as blanks do, since real senders write them."""
    text = "".join(str(piece) for piece in element.itertext())
    return [_float(word) for word in re.split(r"[\s,]+", text.strip()) if word]


def _float(text: str) -> float:
    number = float(text) if len(text) <= MAX_NUMBER_CHARS and text.isascii() and "_" not in text else math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a number of at most {MAX_NUMBER_CHARS} characters, got {text!r:.40}.")
    return number


_ANGLE = re.compile(r"(\d{1,3}):(\d{1,2}):(\d{1,2}(?:\.\d{1,9})?)([NSEW])", re.ASCII)


def _sexagesimal(text: str) -> list[float]:
    """`37:46:30N 122:25:10W`, or plain decimals, as decimal degrees."""
    words = [word for word in re.split(r"[\s,]+", text) if word]
    angles = [_ANGLE.fullmatch(word) for word in words]
    if not all(angles):
        return [_float(word) for word in words]
    return [
        (int(found[1]) + int(found[2]) / 60 + float(found[3]) / 3600) * (-1 if found[4] in "SW" else 1)
        for found in angles
        if found is not None
    ]


_FIELD_OF = {
    "radius": "radius_m", "semiMajorAxis": "semi_major_m", "semiMinorAxis": "semi_minor_m",
    "verticalAxis": "vertical_m", "innerRadius": "inner_radius_m", "outerRadius": "outer_radius_m",
    "height": "height_m",
}  # fmt: skip


def _metres(element: etree._Element, name: str) -> float:
    """A length; whatever its `uom` says, RFC 5491 §5.1 knows the metre alone (some senders swap the units)."""
    return checked(_FIELD_OF[name], _float(_measure(element, name).text or ""), name)


def _degrees(element: etree._Element, name: str, field: str) -> float:
    """An angle in degrees; radians are converted. A missing orientation is north."""
    found = element.find(f"{{*}}{name}")
    if found is None and name == "orientation":
        return 0.0
    measure = _measure(element, name)
    value = _float(measure.text or "")
    return checked(field, math.degrees(value) if (measure.get("uom") or "").endswith("9101") else value, name)


def _measure(element: etree._Element, name: str) -> etree._Element:
    found = element.find(f"{{*}}{name}")
    if found is None:
        raise NotOnEarth(name, f"expected {name}, got none.")
    found.text = _text(found)
    return found
