"""A logo as strangers send it, made into one that may be shown: read strictly, written anew (pure).

A PNG keeps the chunks that make its picture (ISO/IEC 15948 §11) and loses all others, with what hides in them. Of an
SVG only known elements and attributes are written again: no script, no style, nothing that loads or links.
"""

import hashlib
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from dataclasses import dataclass
from xml.parsers.expat import ExpatError

MAX_BYTES = 256 * 1024
MAX_SIDE = 2000  # pixels
MAX_ELEMENTS = 2000
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"sRGB", b"IDAT", b"IEND"})
_BITS_PER_SAMPLE = {1, 2, 4, 8, 16}
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_SVG = "http://www.w3.org/2000/svg"
_IN_SVG = f"{{{_SVG}}}"
_NAMES_OF_ELEMENTS = """
svg g path rect circle ellipse line polyline polygon text tspan defs linearGradient radialGradient stop clipPath mask
title desc
"""
_NAMES_OF_ATTRIBUTES = """
id viewBox width height x y x1 y1 x2 y2 cx cy r rx ry fx fy d points transform fill fill-opacity fill-rule stroke
stroke-width stroke-linecap stroke-linejoin stroke-miterlimit stroke-dasharray stroke-dashoffset stroke-opacity opacity
clip-path clip-rule mask offset stop-color stop-opacity gradientUnits gradientTransform spreadMethod clipPathUnits
maskUnits maskContentUnits preserveAspectRatio font-family font-size font-weight font-style text-anchor
dominant-baseline letter-spacing dx dy textLength lengthAdjust color display visibility
"""
_ELEMENTS = frozenset(_NAMES_OF_ELEMENTS.split())
_ATTRIBUTES = frozenset(_NAMES_OF_ATTRIBUTES.split())
_LEADS_AWAY = re.compile(
    r"url\s*\((?!\s*['\"]?#[\w.-]+['\"]?\s*\))|javascript:|data:|expression\s*\(|@|\\", re.IGNORECASE
)


class BadLogo(ValueError):
    """This is no picture that may be shown; says why, as a sentence."""


@dataclass(frozen=True, slots=True)
class Logo:
    """A picture that may be shown. `name`: of its content, `<digest>.png` or `.svg`."""

    content: bytes
    media_type: str
    name: str


def cleaned(data: bytes) -> Logo:
    """The logo in these bytes.

    Raises:
        BadLogo: it is too large, or neither a PNG nor an SVG that can be read.
    """
    if len(data) > MAX_BYTES:
        raise BadLogo(f"Expected at most {MAX_BYTES // 1024} KiB, got {len(data) // 1024}.")
    if data.startswith(_SIGNATURE):
        return _named(_clean_png(data), "image/png", "png")
    if b"<svg" in data[:4096]:
        return _named(_clean_svg(data), "image/svg+xml", "svg")
    raise BadLogo("Expected a PNG or an SVG picture.")


def _named(content: bytes, media_type: str, ending: str) -> Logo:
    return Logo(content, media_type, f"{hashlib.sha256(content).hexdigest()[:40]}.{ending}")


def _clean_png(data: bytes) -> bytes:
    made, pixels, header, at = [_SIGNATURE], b"", b"", len(_SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise BadLogo("The PNG is damaged.")
        body = data[at + 8 : end - 4]
        if not header and kind != b"IHDR":
            raise BadLogo("The PNG is damaged: it has no header.")
        header = header or body
        pixels += body if kind == b"IDAT" else b""
        if kind in _KEPT:
            made.append(data[at:end])
        elif not kind[:1].islower():  # an upper-case first letter: needed to show the picture
            raise BadLogo("The PNG holds a kind of data that is not known here.")
        at = end
        if kind == b"IEND":
            _check_pixels(header, pixels)
            return b"".join(made)
    raise BadLogo("The PNG is cut off.")


def _check_pixels(header: bytes, pixels: bytes) -> None:
    """That the picture is of a size that a page may be given, and as large as it says."""
    if len(header) != 13:
        raise BadLogo("The PNG is damaged: its header cannot be read.")
    width, height, depth, colours, _method, _filter, interlace = struct.unpack(">IIBBBBB", header)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise BadLogo(f"Expected at most {MAX_SIDE} pixels each way, got {width} x {height}.")
    if depth not in _BITS_PER_SAMPLE or colours not in _SAMPLES:
        raise BadLogo("The PNG is damaged: its colours cannot be read.")
    expected = height * (1 + (width * depth * _SAMPLES[colours] + 7) // 8)
    room = expected if not interlace else 2 * expected + 8 * MAX_SIDE  # Adam7: seven small pictures
    reader = zlib.decompressobj()
    try:
        found = len(reader.decompress(pixels, room + 1))
    except zlib.error as exc:
        raise BadLogo("The PNG is damaged: its pixels cannot be read.") from exc
    if found > room or (not interlace and found != expected):
        raise BadLogo("The PNG is damaged: it is not as large as it says.")


def _clean_svg(data: bytes) -> bytes:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise BadLogo("The SVG is not in UTF-8.") from exc
    if re.search(r"<!(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise BadLogo("The SVG has a document type or entities, which are not read. Save it as plain SVG.")
    try:
        root = ET.fromstring(text)  # noqa: S314  # no document type, so no entities; the size is bounded
    except (ET.ParseError, ExpatError, ValueError, RecursionError) as exc:
        raise BadLogo("The SVG is no XML that can be read.") from exc
    if root.tag != f"{_IN_SVG}svg":
        raise BadLogo("The SVG does not name itself as one (xmlns).")
    if sum(1 for _ in root.iter()) > MAX_ELEMENTS:
        raise BadLogo(f"Expected at most {MAX_ELEMENTS} elements in the SVG. Save the logo as a PNG.")
    if "viewBox" not in root.attrib and not {"width", "height"} <= root.attrib.keys():
        raise BadLogo("The SVG says neither viewBox nor width and height.")
    kept = _kept(root, 0)
    if len(kept) == 0:
        raise BadLogo("Nothing is left of the SVG without what may not be shown. Save the logo as a PNG.")
    kept.set("xmlns", _SVG)
    return ET.tostring(kept, encoding="unicode").encode()


def _kept(element: ET.Element, depth: int) -> ET.Element:
    if depth > 50:
        raise BadLogo("The SVG is nested too deep. Save the logo as a PNG.")
    made = ET.Element(element.tag.removeprefix(_IN_SVG))
    for name, value in element.attrib.items():
        if name in _ATTRIBUTES and not _LEADS_AWAY.search(value):
            made.set(name, value)
    made.text, made.tail = element.text, element.tail
    for child in element:
        tag = child.tag if isinstance(child.tag, str) else ""
        if tag.startswith(_IN_SVG) and tag.removeprefix(_IN_SVG) in _ELEMENTS:
            made.append(_kept(child, depth + 1))
    return made
