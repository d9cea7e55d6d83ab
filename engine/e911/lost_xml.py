"""LoST messages: findService written, its answers read (RFC 5222). Pure."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from lxml import etree

from engine.e911.civic import DispatchableLocation
from engine.e911.geo import ArcBand, Ellipse, Geo, Shape
from engine.e911.pidf import CA, GML, GS, PIDF, write_pidf
from engine.e911.xml_input import BadXml, name_of, read_xml, text_of

LOST = "urn:ietf:params:xml:ns:lost1"
CONTENT_TYPE = "application/lost+xml"
SOS = "urn:service:sos"
CIVIC, GEODETIC = "civic", "geodetic-2d"  # RFC 5222 §12.2, §12.3
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)  # of a PIDF-LO that is taken apart again
MAX_WORDS_CHARS = 500


class ErrorType(StrEnum):
    """What a server may answer instead (RFC 5222 §13.1)."""

    BAD_REQUEST = "badRequest"
    FORBIDDEN = "forbidden"
    INTERNAL_ERROR = "internalError"
    LOCATION_PROFILE_UNRECOGNIZED = "locationProfileUnrecognized"
    LOCATION_INVALID = "locationInvalid"
    SRS_INVALID = "SRSInvalid"
    LOOP = "loop"
    NOT_FOUND = "notFound"
    SERVER_ERROR = "serverError"
    SERVER_TIMEOUT = "serverTimeout"
    SERVICE_NOT_IMPLEMENTED = "serviceNotImplemented"


# nothing is known of the question: an answer from before is worth more than none
PASSING = frozenset({ErrorType.INTERNAL_ERROR, ErrorType.SERVER_ERROR, ErrorType.SERVER_TIMEOUT, ErrorType.LOOP})


class LostRefused(Exception):
    """The server answered with an error: its `type`, its own words and its name."""

    def __init__(self, type_: ErrorType, words: str, source: str) -> None:
        super().__init__(f"{source}: {type_.value}: {words}")
        self.type, self.words, self.source = type_, words, source


class BadLost(Exception):
    """No LoST that we read: `detail` says why."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Mapping:
    """A service at a place. `expires`: UTC, None with `is_kept` False (NO-CACHE) or True (NO-EXPIRATION)."""

    service: str
    uris: tuple[str, ...]
    display_name: str
    service_number: str
    expires: datetime | None
    is_kept: bool
    source: str
    source_id: str


@dataclass(frozen=True, slots=True)
class Validation:
    """What a server found of a civic address, by element name (RFC 5222 §8.4.2)."""

    valid: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning beside an answer: its element's name and words."""

    type: str
    words: str


@dataclass(frozen=True, slots=True)
class Found:
    """An answer. `path`: the servers it came through, the one that was asked last. `is_stale`: it is from before,
    since nobody answers now.
    """

    mappings: tuple[Mapping, ...]
    validation: Validation | None
    warnings: tuple[Warned, ...]
    path: tuple[str, ...]
    is_stale: bool = False


@dataclass(frozen=True, slots=True)
class Redirect:
    """Another server has the answer: its application unique string (RFC 5222 §4)."""

    target: str
    source: str


def write_find_service(
    location: DispatchableLocation, service: str = SOS, *, validate: bool = False, recursive: bool = True
) -> bytes:
    """A findService for that place: by its civic address when it has one, else by its position.

    Raises:
        ValueError: the location has neither.
    """
    root = etree.Element(f"{{{LOST}}}findService", nsmap={None: LOST})  # type: ignore[dict-item]  # the default one
    root.set("serviceBoundary", "reference")
    root.set("recursive", "true" if recursive else "false")
    if validate:
        root.set("validateLocation", "true")
    is_civic = bool(location.civic_address.elements)
    place = etree.SubElement(root, f"{{{LOST}}}location", id="location", profile=CIVIC if is_civic else GEODETIC)
    place.append(_place(location, is_civic=is_civic))
    etree.SubElement(root, f"{{{LOST}}}service").text = service
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True)


def _place(location: DispatchableLocation, *, is_civic: bool) -> etree._Element:
    """The civicAddress or the shape, as the PIDF-LO has it."""
    if is_civic:
        location = replace(location, geo=None)
    elif location.geo is None:
        raise ValueError("a location with an address or a position was expected")
    else:
        location = replace(location, geo=_flat(location.geo))
    root = etree.fromstring(write_pidf(location, "pres:nobody@callpoint.invalid", _MOMENT))
    for element in root.iter():
        name = etree.QName(element)
        if (name.namespace == CA and name.localname == "civicAddress") or (
            not is_civic and name.namespace in {GML, GS} and name.localname not in {"pos", "radius"}
        ):
            etree.cleanup_namespaces(element)
            return element
    raise ValueError(f"a {PIDF} with an address or a shape was expected")


def _flat(shape: Shape) -> Shape:
    """The shape in two dimensions; of one that stands in space, its middle."""
    if isinstance(shape, Geo):
        return replace(shape, altitude_m=None, confidence=None)
    if isinstance(shape, Ellipse | ArcBand):
        return replace(shape, confidence=None)
    return Geo(shape.latitude, shape.longitude)


def read_response(data: bytes) -> Found | Redirect:
    """Read the answer to a findService.

    Raises:
        LostRefused: it is an error the RFC knows.
        BadLost: it is nothing that answers a findService.
    """
    try:
        root = read_xml(data)
    except BadXml as exc:
        raise BadLost(f"a LoST answer was expected: {exc.detail}") from exc
    name = name_of(root) if etree.QName(root).namespace == LOST else ""
    if name == "errors":
        raise _refused(root)
    if name == "redirect":
        return Redirect(_wanted(root, "target"), root.get("source") or "")
    if name != "findServiceResponse":
        raise BadLost(f"findServiceResponse, errors or redirect was expected, got {root.tag[:100]}")
    validation = root.find(f"{{{LOST}}}locationValidation")
    return Found(
        tuple(_mapping(each) for each in root.iterfind(f"{{{LOST}}}mapping")),
        _validation(validation) if validation is not None else None,
        tuple(
            Warned(name_of(each), _words(each))
            for container in root.iterfind(f"{{{LOST}}}warnings")
            for each in container
        ),
        tuple(via.get("source") or "" for via in root.iterfind(f"{{{LOST}}}path/{{{LOST}}}via")),
    )


def _refused(root: etree._Element) -> LostRefused:
    known = set(ErrorType)
    found = [(ErrorType(name_of(each)), _words(each)) for each in root if name_of(each) in known]
    source = root.get("source") or ""
    if not found:
        return LostRefused(ErrorType.SERVER_ERROR, "an error of no known kind", source)
    type_, words = next(((each, said) for each, said in found if each not in PASSING), found[0])
    return LostRefused(type_, words, source)


def _words(element: etree._Element) -> str:
    return " ".join((element.get("message") or "").split())[:MAX_WORDS_CHARS]


def _mapping(element: etree._Element) -> Mapping:
    expires = _wanted(element, "expires").strip()
    at = None if expires in {"NO-CACHE", "NO-EXPIRATION"} else _instant(expires)
    return Mapping(
        _child_text(element, "service"),
        tuple(text_of(each) for each in element.iterfind(f"{{{LOST}}}uri")),
        _child_text(element, "displayName"),
        _child_text(element, "serviceNumber"),
        at,
        expires != "NO-CACHE",
        _wanted(element, "source"),
        _wanted(element, "sourceId"),
    )


def _validation(element: etree._Element) -> Validation:
    names = {}
    for kind in ("valid", "invalid", "unchecked"):
        child = element.find(f"{{{LOST}}}{kind}")
        # QNames: what stands before the colon is the sender's own word for the schema
        words = text_of(child).split() if child is not None else []
        names[kind] = tuple(word.rpartition(":")[2] for word in words)
    return Validation(**names)


def _child_text(element: etree._Element, name: str) -> str:
    child = element.find(f"{{{LOST}}}{name}")
    return text_of(child) if child is not None else ""


def _wanted(element: etree._Element, name: str) -> str:
    value = element.get(name)
    if not value:
        raise BadLost(f"{name_of(element)} with {name} was expected")
    return value


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as exc:
        raise BadLost(f"an RFC 3339 time was expected, got {text[:60]!r}") from exc
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
