"""Location conveyance in SIP (RFC 6442, RFC 8787): the Geolocation header, and what a request carries. Pure."""

from dataclasses import dataclass, replace
from urllib.parse import unquote

from engine.e911.multipart import Part, leaves, media_type, read_part
from engine.e911.pidf import CONTENT_TYPE, BadLocation, CarriedLocation, read_pidf
from engine.sip.message import Request
from engine.sip.uri import split_values

GEOLOCATION = "Geolocation"
GEOLOCATION_ROUTING = "Geolocation-Routing"
MAX_VALUES = 16
REFERENCE_SCHEMES = ("https:", "http:", "held:", "helds:")


@dataclass(frozen=True, slots=True)
class Carried:
    """What a request says of where its caller is.

    `locations`: by value, those the Geolocation header names first and in its order, then the others in the body's
    order. `references`: the URIs of the header that can be dereferenced over HTTP, in order. `faults`: one sentence
    for each part that claims to be a location and cannot be read.
    """

    locations: tuple[CarriedLocation, ...] = ()
    references: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def is_clear(self) -> bool:
        """Whether every receiver finds the same location by value in it: there is one, and the header names it."""
        return len(self.locations) == 1 and self.locations[0].is_named

    @property
    def leads_to_one(self) -> bool:
        """Whether every receiver finds the same location in it, by value or by reference."""
        return self.is_clear or (len(self.references) == 1 and not self.locations)


NOTHING_CARRIED = Carried()


def carried(request: Request) -> Carried:
    """Read everything a request says of its caller's location. Never raises; costs two look-ups for a plain call."""
    first = request.shape.first
    at = first.get(b"content-type")
    has_parts = at is not None and _may_hold_location(request.lines[at])
    if not has_parts and b"geolocation" not in first:
        return NOTHING_CARRIED
    uris = geolocation_uris(request)
    references = tuple(uri for uri in uris if uri.lower().startswith(REFERENCE_SCHEMES))
    locations, faults = _read_parts(request, uris) if has_parts else ((), ())
    return Carried(locations, references, faults)


def geolocation_values(request: Request) -> tuple[str, ...]:
    """Each value of the Geolocation headers as written, parameters included, in order."""
    if b"geolocation" not in request.shape.first:
        return ()
    values = [value.strip() for line in request.headers(GEOLOCATION) for value in split_values(line)]
    return tuple(value for value in values if value)[:MAX_VALUES]


def geolocation_uris(request: Request) -> tuple[str, ...]:
    """The same without brackets and parameters; a carrier's bare identifier stays as it is."""
    return tuple(_uri_of(value) for value in geolocation_values(request))


def content_id_of(uri: str) -> str | None:
    """The Content-ID that a cid: URL names (RFC 2392 §2: percent-encoded, compared exactly); None for another URI."""
    scheme, _, rest = uri.partition(":")
    return unquote(rest) if scheme.lower() == "cid" and rest else None


def cid_value(content_id: str) -> str:
    """The URI for a part with that Content-ID, which must need no escapes (RFC 2392)."""
    return f"cid:{content_id}"


def _may_hold_location(line: bytes) -> bool:
    kind = line.lower()
    return b"multipart/" in kind or b"pidf+xml" in kind


def _uri_of(value: str) -> str:
    _, opening, rest = value.partition("<")
    return rest.partition(">")[0].strip() if opening else value.partition(";")[0].strip()


def _read_parts(request: Request, uris: tuple[str, ...]) -> tuple[tuple[CarriedLocation, ...], tuple[str, ...]]:
    named = [content_id for uri in uris if (content_id := content_id_of(uri)) is not None]
    ranked: list[tuple[int, tuple[CarriedLocation, ...]]] = []
    faults: list[str] = []
    for part in _location_parts(request):
        rank = named.index(part.content_id) if part.content_id in named else len(named)
        try:
            found = read_pidf(part.decoded)
        except BadLocation as exc:
            faults.append(f"a location in the request cannot be read: {exc.detail}"[:200])
            continue
        marked = [replace(each, content_id=part.content_id, is_named=rank < len(named)) for each in found]
        ranked.append((rank, tuple(marked)))
    ranked.sort(key=lambda pair: pair[0])
    return tuple(location for _, found in ranked for location in found), tuple(faults)


def _location_parts(request: Request) -> list[Part]:
    content_type = request.header("Content-Type") or ""
    if media_type(content_type) == CONTENT_TYPE:
        said = [(name, request.header(name)) for name in ("Content-ID", "Content-Transfer-Encoding")]
        head = "".join(f"{name}: {value}\r\n" for name, value in said if value) + "\r\n"
        return [read_part(head.encode("utf-8", "surrogateescape") + request.body)]
    return [part for part in leaves(request.body, content_type) if part.media_type == CONTENT_TYPE]
