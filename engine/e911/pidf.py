"""PIDF-LO bodies, the Geolocation header that names them, and the multipart body that carries them. Pure.

RFC 4119, 5139, 5491, 6442 and 6848; CLDXF elements as NENA-STA-004.2 places them. Lenient in, strict out: what is
written keeps the schema's order and namespaces; what is read may be as sloppy as real senders are, but never expands
an entity or a doctype.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from lxml import etree

from engine.e911.location import (
    CIVIC_ELEMENTS,
    CIVIC_EXTENSIONS,
    CLDXF_ELEMENTS,
    CivicAddress,
    DispatchableLocation,
    Geo,
)

PIDF = "urn:ietf:params:xml:ns:pidf"
GP = "urn:ietf:params:xml:ns:pidf:geopriv10"
GBP = "urn:ietf:params:xml:ns:pidf:geopriv10:basicPolicy"
CA = "urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr"
CAE = "urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr:ext"
CDX1 = "urn:nena:xml:ns:pidf:nenaCivicAddr"
CDX2 = "urn:nena:xml:ns:pidf:nenaCivicAddr2"
GML = "http://www.opengis.net/gml"
GS = "http://www.opengis.net/pidflo/1.0"
_PREFIXES = {None: PIDF, "gp": GP, "gbp": GBP, "ca": CA, "cae": CAE, "cdx1": CDX1, "cdx2": CDX2, "gml": GML, "gs": GS}
_NAMESPACE_OF = (
    dict.fromkeys(CIVIC_ELEMENTS, CA)
    | dict.fromkeys(CIVIC_EXTENSIONS, CAE)
    | dict.fromkeys(CLDXF_ELEMENTS, CDX2)
    | {"STPS": CDX1}
)

CRS_2D = "urn:ogc:def:crs:EPSG::4326"  # latitude, then longitude (RFC 5491 §5.1)
CRS_3D = "urn:ogc:def:crs:EPSG::4979"
METRE = "urn:ogc:def:uom:EPSG::9001"
RETENTION = timedelta(hours=24)  # RFC 4119 §2.2.2: what applies where a sender says nothing
MAX_PIDF_BYTES = 65_536  # the largest SIP message; the deepest real PIDF-LO seen is under 4 kB
CONTENT_TYPE = "application/pidf+xml"
# what of a SIP message describes its body, and so must move with it into a part (RFC 3261 §7.4, RFC 8262)
BODY_HEADERS = (
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-ID",
    "Content-Transfer-Encoding",
)

# stand-ins for what differs from call to call: no civic value can hold them, control pictures are cleaned away
_ENTITY, _EXPIRY, _STAMP = "\u2400entity\u2400", "\u2400expiry\u2400", "\u2400stamp\u2400"
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\u2400")
_XML_ID = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*")


class BadLocation(Exception):
    """A body that claims to be a PIDF-LO and cannot be read: `detail` says what was wrong."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def write_pidf(location: DispatchableLocation, entity: str, now: datetime) -> bytes:
    """The PIDF-LO of a location as conveyed at `now` (UTC).

    Args:
        entity: The presentity, a pres: or sip: URI (RFC 5491 §3.1). Anything not allowed in XML is dropped from it.
    """
    head, middle, tail, end = _pieces(location)
    expiry = _instant(now + RETENTION)
    return b"".join((head, _attribute(entity), middle, expiry, tail, _instant(now), end))


def entity_of(uri: str) -> str:
    """The pres: URI for a caller's sip: URI; the anonymous one (RFC 3323 §4.1.1.3) when there is none."""
    scheme, _, rest = uri.partition(":")
    address = rest.partition(";")[0].partition("?")[0]
    if scheme.lower() not in {"sip", "sips"} or not address:
        return "pres:anonymous@anonymous.invalid"
    return f"pres:{address}" if "@" in address else f"pres:anonymous@{address}"


def geolocation_value(content_id: str) -> str:
    """The Geolocation header's value for a part with that Content-ID (RFC 6442 §4.1, RFC 2392)."""
    return f"<cid:{content_id}>"


@lru_cache(maxsize=8192)
def _pieces(location: DispatchableLocation) -> tuple[bytes, bytes, bytes, bytes]:
    """The serialised PIDF-LO of a location, cut where a call's own values go. Kept: building it takes 60 us, splicing
    3.
    """
    root = etree.Element(f"{{{PIDF}}}presence", nsmap=_used_prefixes(location), entity=_ENTITY)
    tuple_id = location.id if _XML_ID.fullmatch(location.id) else "location"
    pidf_tuple = _child(root, PIDF, "tuple")
    pidf_tuple.set("id", tuple_id)
    geopriv = _child(_child(pidf_tuple, PIDF, "status"), GP, "geopriv")
    info = _child(geopriv, GP, "location-info")
    # RFC 5491 §3.4: both describe one place; the civic address goes first, it is what a dispatcher sends people to
    if location.civic_address.elements:
        civic = _child(info, CA, "civicAddress")
        for name, value in location.civic_address.elements:
            _child(civic, _NAMESPACE_OF[name], name, _NOT_XML.sub("", value))
    if location.geo is not None:
        _write_shape(info, location.geo)
    rules = _child(geopriv, GP, "usage-rules")
    _child(rules, GBP, "retransmission-allowed", "true")
    _child(rules, GBP, "retention-expiry", _EXPIRY)
    _child(geopriv, GP, "method", "Manual")
    _child(pidf_tuple, PIDF, "timestamp", _STAMP)
    text = etree.tostring(root, encoding="UTF-8", xml_declaration=True)
    head, rest = text.split(_ENTITY.encode())
    middle, rest = rest.split(_EXPIRY.encode())
    tail, end = rest.split(_STAMP.encode())
    return head, middle, tail, end


def _used_prefixes(location: DispatchableLocation) -> dict[Any, str]:  # None is the default namespace
    used = {PIDF, GP, GBP} | {_NAMESPACE_OF[name] for name, _ in location.civic_address.elements}
    if location.civic_address.elements:
        used.add(CA)
    if location.geo is not None:
        used |= {GML, GS}
    return {prefix: namespace for prefix, namespace in _PREFIXES.items() if namespace in used}


def _write_shape(info: etree._Element, geo: Geo) -> None:
    """RFC 5491 §5.2: a point, or with an uncertainty a circle (2-D) or sphere (3-D)."""
    flat = geo.altitude_m is None
    numbers = (geo.latitude, geo.longitude) if geo.altitude_m is None else (geo.latitude, geo.longitude, geo.altitude_m)
    round_name = "Circle" if flat else "Sphere"
    shape = _child(info, GML, "Point") if geo.radius_m is None else _child(info, GS, round_name)
    shape.set("srsName", CRS_2D if flat else CRS_3D)
    _child(shape, GML, "pos", " ".join(_decimal(number) for number in numbers))
    if geo.radius_m is not None:
        _child(shape, GS, "radius", _decimal(geo.radius_m)).set("uom", METRE)


def _child(parent: etree._Element, namespace: str, name: str, text: str | None = None) -> etree._Element:
    child = etree.SubElement(parent, f"{{{namespace}}}{name}")
    child.text = text
    return child


def _decimal(number: float) -> str:
    """Plain decimals (xs:double allows an exponent, receivers do not): a tenth of a millimetre at most."""
    return f"{number:.9f}".rstrip("0").rstrip(".") or "0"


def _instant(at: datetime) -> bytes:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z").encode()


def _attribute(value: str) -> bytes:
    clean = _NOT_XML.sub("", value).replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return clean.encode()


# --- the body that carries it -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Composed:
    """A body with the PIDF-LO as its last part. `content_type` None: the message keeps its own; `moved`: headers to
    take off it.
    """

    content_type: str | None
    body: bytes
    moved: tuple[str, ...] = ()


def compose(
    body: bytes, pidf: bytes, *, content_type: str | None, content_id: str, part_headers: Iterable[tuple[str, str]] = ()
) -> Composed:
    """Put the PIDF-LO behind what the caller sent, every byte of which is kept.

    A multipart/mixed body gets one more part inside it; anything else becomes the first part of a new multipart/mixed.

    Args:
        body: The caller's own, may be empty (an INVITE without an offer).
        content_type: Its Content-Type header, None when absent.
        content_id: For the new part, without angle brackets; letters, digits, "-", "_", "." and one "@".
        part_headers: The message's own `BODY_HEADERS` with their values; they belong to the first part from now on.
    """
    part = (
        f"Content-Type: {CONTENT_TYPE}\r\nContent-ID: <{content_id}>\r\n"
        # optional (RFC 5621 §8): a receiver that cannot read a location must still take the call
        "Content-Disposition: by-reference;handling=optional\r\n\r\n"
    ).encode() + pidf
    own_boundary = mixed_boundary(content_type) if content_type else None
    if own_boundary is not None:
        inside = _append_part(body, own_boundary, part)
        if inside is not None:
            return Composed(None, inside)
    headers = tuple(part_headers)
    boundary = _free_boundary(content_id.partition("@")[0], body, pidf).encode()
    chunks = [b"--", boundary, b"\r\n"]
    if body:
        first = f"Content-Type: {content_type or _guess_type(body)}\r\n"
        first += "".join(f"{name}: {value}\r\n" for name, value in headers)
        chunks += [first.encode("utf-8", "surrogateescape"), b"\r\n", body, b"\r\n--", boundary, b"\r\n"]
    chunks += [part, b"\r\n--", boundary, b"--\r\n"]
    new_type = f'multipart/mixed;boundary="{boundary.decode()}"'
    return Composed(new_type, b"".join(chunks), tuple(name for name, _ in headers))


def mixed_boundary(content_type: str) -> str | None:
    """The boundary of a multipart/mixed Content-Type; None for any other type or without a usable boundary."""
    kind, _, parameters = content_type.partition(";")
    if kind.strip().lower() != "multipart/mixed":
        return None
    found = re.search(r'(?:^|;)\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', parameters, re.IGNORECASE)
    if found is None:
        return None
    quoted, token = found.groups()
    boundary = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else token
    return boundary if 0 < len(boundary) <= 70 else None  # RFC 2046 §5.1.1


def _append_part(body: bytes, boundary: str, part: bytes) -> bytes | None:
    """Insert a part before the closing delimiter (RFC 2046 §5.1.1); None when the body has none."""
    delimiter = b"--" + boundary.encode("utf-8", "surrogateescape")
    closing = delimiter + b"--"
    at = body.rfind(closing)
    while at > 0 and body[at - 1 : at] != b"\n":  # a delimiter starts a line
        at = body.rfind(closing, 0, at)
    if at < 0 or body.find(delimiter) < 0:
        return None
    return b"".join((body[:at], delimiter, b"\r\n", part, b"\r\n", body[at:]))


def _free_boundary(token: str, *contents: bytes) -> str:
    boundary = f"callpoint-{re.sub(r'[^A-Za-z0-9]', '', token)[:40]}"
    attempt = boundary
    count = 0
    while any(attempt.encode() in content for content in contents):
        count += 1
        attempt = f"{boundary}-{count}"
    return attempt


def _guess_type(body: bytes) -> str:
    return "application/sdp" if body.startswith(b"v=0") else "application/octet-stream"


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CarriedLocation:
    """One location a PIDF-LO claims: the first civic address and the first position of one geopriv element."""

    entity: str
    civic_address: CivicAddress
    geo: Geo | None
    method: str | None
    retransmission_allowed: bool


def read_pidf(data: bytes) -> tuple[CarriedLocation, ...]:
    """Every location in a PIDF-LO, in document order (RFC 5491 §3.3: the first is trusted most).

    Old and misplaced namespaces, commas in positions and missing usage rules are taken as they are sent.

    Raises:
        BadLocation: too large, not XML, or with a doctype.
    """
    if len(data) > MAX_PIDF_BYTES:
        raise BadLocation(f"a PIDF-LO of at most {MAX_PIDF_BYTES} bytes was expected, got {len(data)}")
    if b"<!DOCTYPE" in data:
        raise BadLocation("a PIDF-LO without a doctype was expected, got one with")
    parser = etree.XMLParser(
        encoding=_encoding(
            data
        ),  # ours, not the declared one: no other encoding can hide a doctype from the line above
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as exc:
        raise BadLocation(f"a PIDF-LO was expected, got something that is not XML: {exc}") from exc
    entity = root.get("entity") or ""
    return tuple(_read_geopriv(geopriv, entity) for geopriv in root.iter(f"{{{GP}}}geopriv"))


def _encoding(data: bytes) -> str:
    try:
        data.decode()
    except UnicodeDecodeError:
        return "iso-8859-1"
    return "utf-8"


def _read_geopriv(geopriv: etree._Element, entity: str) -> CarriedLocation:
    values: dict[str, object] = {}
    geo: Geo | None = None
    method: str | None = None
    allowed = False
    for element in geopriv.iter(
        "{*}civicAddress", "{*}Point", "{*}Circle", "{*}Sphere", "{*}method", "{*}retransmission-allowed"
    ):
        name = etree.QName(element).localname
        if name == "civicAddress":
            values = values or _read_civic(element)
        elif name == "method":
            method = (element.text or "").strip() or None
        elif name == "retransmission-allowed":
            allowed = (element.text or "").strip().lower() in {"yes", "true", "1"}
        else:
            geo = geo or _read_shape(element)
    return CarriedLocation(entity, CivicAddress.of(values), geo, method, allowed)


def _read_civic(civic: etree._Element) -> dict[str, object]:
    values: dict[str, object] = {}
    for element in civic:
        if isinstance(element.tag, str):
            values.setdefault(etree.QName(element).localname, (element.text or "").strip())
    if "A6" in values and "RD" not in values:  # the street's name before RFC 5139
        values["RD"] = values.pop("A6")
    return values


def _read_shape(shape: etree._Element) -> Geo | None:
    position = shape.find(".//{*}pos")
    radius = shape.find("{*}radius")
    texts = re.split(r"[\s,]+", ((position.text if position is not None else None) or "").strip()[:200])
    try:
        numbers = [float(text) for text in texts]
        radius_m = float((radius.text or "")[:40]) if radius is not None else None
    except ValueError:
        return None
    if len(numbers) not in {2, 3} or not (-90 <= numbers[0] <= 90 and -180 <= numbers[1] <= 180):
        return None
    return Geo(numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else None, radius_m)
