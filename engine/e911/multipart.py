"""Multipart bodies (RFC 2046 §5.1, RFC 5621): read whatever was nested, add or take away a part, keep every other byte.
Pure.

A delimiter is a whole line: two hyphens, the boundary, for the last one two hyphens more, and blanks. A line that only
begins like one (an inner boundary `b-1` inside an outer `b`) is content.
"""

import binascii
import quopri
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest

from engine.sip.headers import unfold

MAX_PARTS = 32  # more than any real INVITE has by far; what lies behind is passed on unread
MAX_DEPTH = 4
MAX_BOUNDARY_CHARS = 70  # RFC 2046 §5.1.1
# what of a SIP message describes its body, and so must move with it into a part (RFC 3261 §7.4, RFC 8262)
BODY_HEADERS = (
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-ID",
    "Content-Transfer-Encoding",
)
_BOUNDARY = re.compile(r'(?:^|;)\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")  # RFC 2045 §6.8: line ends and whatever else is passed over
_REST_OF_DELIMITER = re.compile(rb"(--)?[ \t]*(?:\r?\n|\Z)")


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its header lines unfolded, in order, and its content byte for byte."""

    headers: tuple[tuple[str, str], ...]
    content: bytes

    def header(self, name: str) -> str:
        """The first header of that name, empty when absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    @property
    def content_type(self) -> str:
        """As written; `text/plain` where none is (RFC 2046 §5.1)."""
        return self.header("Content-Type") or "text/plain"

    @property
    def media_type(self) -> str:
        """Type and subtype in lower case, without parameters."""
        return media_type(self.content_type)

    @property
    def decoded(self) -> bytes:
        """The content with its Content-Transfer-Encoding undone (RFC 2045 §6): base64 or quoted-printable, whatever
        stands between. As it is where it names another, or is not what it says.
        """
        encoding = self.header("Content-Transfer-Encoding").partition(";")[0].strip().lower()
        if encoding == "quoted-printable":
            return quopri.decodestring(self.content)
        if encoding != "base64" or self.content.lstrip().startswith(b"<"):
            return self.content
        letters = _NOT_BASE64.sub(b"", self.content)
        try:
            return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))
        except binascii.Error:
            return self.content

    @property
    def content_id(self) -> str:
        """The Content-ID without angle brackets, which some senders leave out; empty when there is none."""
        return self.header("Content-ID").strip().removeprefix("<").removesuffix(">")


@dataclass(frozen=True, slots=True)
class Composed:
    """A body with new parts behind what was there. `content_type` None: the message keeps its own; `moved`: headers to
    take off it.
    """

    content_type: str | None
    body: bytes
    moved: tuple[str, ...] = ()


def media_type(content_type: str) -> str:
    """`Multipart/Mixed; boundary=x` as `multipart/mixed`."""
    return content_type.partition(";")[0].strip().lower()


def boundary_of(content_type: str) -> str | None:
    """The boundary of a multipart Content-Type; None for any other type or without a usable boundary."""
    kind, _, parameters = content_type.partition(";")
    if not kind.strip().lower().startswith("multipart/"):
        return None
    found = _BOUNDARY.search(parameters)
    if found is None:
        return None
    quoted, token = found.groups()
    boundary = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else token
    return boundary if 0 < len(boundary) <= MAX_BOUNDARY_CHARS else None


def mixed_boundary(content_type: str) -> str | None:
    """The same for multipart/mixed alone: only there may a part be added without changing what the others mean."""
    return boundary_of(content_type) if media_type(content_type) == "multipart/mixed" else None


# --- reading ----------------------------------------------------------------------------------------------------------


def leaves(body: bytes, content_type: str, depth: int = 1) -> Iterator[Part]:
    """Every part that is no multipart itself, in order, from the outermost in; a body of another type has none."""
    boundary = boundary_of(content_type)
    if boundary is None:
        return
    found = 0
    for start, end in _spans(body, boundary):
        part = read_part(body[start:end])
        if part.media_type.startswith("multipart/") and depth < MAX_DEPTH:
            inside: Iterable[Part] = leaves(part.content, part.content_type, depth + 1)
        else:
            inside = (part,)
        for leaf in inside:
            found += 1
            if found > MAX_PARTS:
                return
            yield leaf


def read_part(data: bytes) -> Part:
    """A part from what stands between two delimiters: header lines, an empty line, the content (RFC 2046 §5.1)."""
    if data.startswith((b"\r\n", b"\n")):
        return Part((), data[2:] if data.startswith(b"\r\n") else data[1:])
    cut = re.search(rb"\r?\n\r?\n", data)
    head, content = (data[: cut.start()], data[cut.end() :]) if cut else (data, b"")
    headers: list[tuple[str, str]] = []
    for line in re.split(rb"\r?\n(?![ \t])", head)[:MAX_PARTS]:
        name, colon, value = line.partition(b":")
        if colon:
            headers.append((_text(name).strip(), _text(unfold(value)).strip()))
    return Part(tuple(headers), content)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _delimiters(body: bytes, boundary: str) -> Iterator[tuple[int, int, bool]]:
    """(where its line starts, where the next line starts, is it the closing one) of each delimiter, in order."""
    mark = b"--" + boundary.encode("utf-8", "surrogateescape")
    at = body.find(mark)
    while at >= 0:
        rest = _REST_OF_DELIMITER.match(body, at + len(mark)) if at == 0 or body[at - 1 : at] == b"\n" else None
        if rest is not None:
            yield at, rest.end(), rest.group(1) is not None
            if rest.group(1) is not None:
                return
        at = body.find(mark, at + len(mark))


def _spans(body: bytes, boundary: str) -> Iterator[tuple[int, int]]:
    """Where each part's headers begin and its content ends; without a closing delimiter the last one takes the rest."""
    opened: int | None = None
    for start, after, is_closing in _delimiters(body, boundary):
        if opened is not None:
            yield opened, max(opened, _before_line_break(body, start))
        opened = None if is_closing else after
    if opened is not None:
        yield opened, len(body)


def _before_line_break(body: bytes, at: int) -> int:
    """The line break before a delimiter belongs to it (RFC 2046 §5.1.1)."""
    if body[at - 2 : at] == b"\r\n":
        return at - 2
    return at - 1 if body[at - 1 : at] == b"\n" else at


# --- writing ----------------------------------------------------------------------------------------------------------


def make_part(content: bytes, *, content_type: str, content_id: str) -> bytes:
    """A part that a header names by its cid: URL.

    Args:
        content_id: Without angle brackets; letters, digits, "-", "_", "." and one "@".
    """
    return (
        f"Content-Type: {content_type}\r\nContent-ID: <{content_id}>\r\n"
        # optional (RFC 5621 §8): a receiver that cannot read it must still take the call
        "Content-Disposition: by-reference;handling=optional\r\n\r\n"
    ).encode() + content


def compose(
    body: bytes,
    parts: Sequence[bytes],
    *,
    content_type: str | None,
    token: str,
    part_headers: Iterable[tuple[str, str]] = (),
) -> Composed:
    """Put parts behind what the caller sent, every byte of which is kept.

    A multipart/mixed body gets them inside, behind its own; anything else becomes the first part of a new
    multipart/mixed.

    Args:
        body: The caller's own, may be empty (an INVITE without an offer).
        parts: Of `make_part`, in their order.
        content_type: The body's Content-Type header, None when absent.
        token: What a new boundary is made of.
        part_headers: The message's own `BODY_HEADERS` with their values; they belong to the first part from now on.
    """
    own_boundary = mixed_boundary(content_type) if content_type else None
    if own_boundary is not None:
        inside = _append(body, own_boundary, parts)
        if inside is not None:
            return Composed(None, inside)
    headers = tuple(part_headers)
    boundary = _free_boundary(token, body, *parts).encode()
    chunks = [b"--", boundary, b"\r\n"]
    if body:
        first = f"Content-Type: {content_type or _guess_type(body)}\r\n"
        first += "".join(f"{name}: {value}\r\n" for name, value in headers)
        chunks += [first.encode("utf-8", "surrogateescape"), b"\r\n", body, b"\r\n--", boundary, b"\r\n"]
    chunks += [(b"\r\n--" + boundary + b"\r\n").join(parts), b"\r\n--", boundary, b"--\r\n"]
    new_type = f'multipart/mixed;boundary="{boundary.decode()}"'
    return Composed(new_type, b"".join(chunks), tuple(name for name, _ in headers))


def without(body: bytes, content_type: str, is_unwanted: Callable[[Part], bool], depth: int = 1) -> bytes:
    """The multipart body less its unwanted parts, nested ones too; every other byte stays, preamble and epilogue with
    it. Empty when nothing is left in it; the same body when nothing was unwanted, or when it cannot be read or has more
    parts than are read.
    """
    boundary = boundary_of(content_type)
    if boundary is None:
        return body
    marks = list(islice(_delimiters(body, boundary), MAX_PARTS + 2))
    if len(marks) > MAX_PARTS + 1:
        return body
    chunks: list[bytes] = []
    kept_to, left = 0, 0
    for (start, after, is_closing), following in zip_longest(marks, marks[1:]):
        if is_closing:
            continue
        end = _before_line_break(body, following[0]) if following else len(body)
        part = read_part(body[after:end])
        inner = part.content
        if part.media_type.startswith("multipart/") and depth < MAX_DEPTH:
            inner = without(part.content, part.content_type, is_unwanted, depth + 1)
        if is_unwanted(part) or (part.content and not inner):
            chunks.append(body[kept_to:start])
            kept_to = following[0] if following else len(body)
            continue
        left += 1
        if inner is not part.content:
            chunks += [body[kept_to : end - len(part.content)], inner]
            kept_to = end
    if kept_to == 0:
        return body
    return b"".join((*chunks, body[kept_to:])) if left else b""


def _append(body: bytes, boundary: str, parts: Sequence[bytes]) -> bytes | None:
    """Insert parts before the closing delimiter; None when the body has none, no part of its own, or so many that
    ours would stay unread.
    """
    marks = list(islice(_delimiters(body, boundary), MAX_PARTS + 1))
    if not 2 <= len(marks) <= MAX_PARTS or not marks[-1][2]:
        return None
    at = marks[-1][0]
    delimiter = b"--" + boundary.encode("utf-8", "surrogateescape") + b"\r\n"
    return b"".join((body[:at], *(delimiter + part + b"\r\n" for part in parts), body[at:]))


def _free_boundary(token: str, *contents: bytes) -> str:
    plain = token.replace("_", "")[:40]
    if not (plain.isascii() and plain.isalnum()):
        plain = re.sub(r"[^A-Za-z0-9]", "", plain)
    boundary = attempt = f"callpoint-{plain}"
    count = 0
    while _occurs(attempt.encode(), contents):
        count += 1
        attempt = f"{boundary}-{count}"
    return attempt


def _occurs(mark: bytes, contents: Iterable[bytes]) -> bool:
    for content in contents:  # noqa: SIM110 - a generator costs more than the search, and this is in a call's way
        if mark in content:
            return True
    return False


def _guess_type(body: bytes) -> str:
    return "application/sdp" if body.startswith(b"v=0") else "application/octet-stream"
