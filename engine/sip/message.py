"""A SIP message that keeps the bytes it came in (RFC 3261 §7).

Reading finds the header lines and what they are called; values are read when asked for. What a proxy must
know of every request (start line, top Via, From, To, Call-ID, CSeq, Max-Forwards, Content-Length) is read and checked
at once, so that a message that exists is one that can be forwarded. Nothing is rebuilt: `edit.py` puts lines
together again as they came.

Peers send the same few shapes for ever: the same headers in the same order and spelling. For one that came before the
lines are only compared with its names, and readings of lines that come again ("CSeq: 1 INVITE") are kept. What is
kept is bounded, and a message is read the same, or refused the same, whether or not its like came before.

`BadMessage` is the only exception that leaves this module, whatever the bytes were.
"""

from functools import lru_cache
from typing import Final

from engine.sip import grammar, headers
from engine.sip.headers import Via, keep


class BadMessage(Exception):
    """The bytes are no message this element can handle.

    `sip_status` is what to answer when it was a request; `request` is what could still be read of it (never to be
    forwarded, good for making that answer), None when not even a start line and headers were there.
    """

    def __init__(self, detail: str, sip_status: int = 400, request: "Request | None" = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.sip_status = sip_status
        self.request = request


METHODS: Final = {
    name.encode(): name
    for name in (
        "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "PRACK", "UPDATE", "INFO", "MESSAGE", "SUBSCRIBE",
        "NOTIFY", "REFER", "PUBLISH",
    )
}  # fmt: skip

_SINGLE = (b"from", b"to", b"call-id", b"cseq", b"max-forwards", b"content-length")


class Shape:
    """The header names of a message in order, and where those lie that every message needs.

    A shape is worked out once. `names` are canonical, with b"" for the start line; `first` maps a name to its first
    line, `once` are those of a single line. `prefixes` are the names as this peer spells them, each with its colon, b""
    for the start line. `private` are the lines that are meant for us alone, or may be. `fault` says why no such message
    can be forwarded.
    """

    __slots__ = (
        "call_id", "content_length", "cseq", "fault", "first", "from_", "has_many_vias", "max_forwards", "names",
        "once", "prefixes", "private", "to", "via",
    )  # fmt: skip

    def __init__(self, names: tuple[bytes, ...], prefixes: list[bytes]) -> None:
        self.names = names
        self.prefixes = prefixes
        self.first: dict[bytes, int] = {}
        for index in range(len(names) - 1, 0, -1):
            self.first[names[index]] = index
        find = self.first.get
        self.via, self.call_id, self.cseq = find(b"via", 0), find(b"call-id", 0), find(b"cseq", 0)
        self.from_, self.to = find(b"from", 0), find(b"to", 0)
        self.max_forwards, self.content_length = find(b"max-forwards", 0), find(b"content-length", 0)
        self.private = tuple(
            at
            for at, name in enumerate(names)
            if name.startswith(grammar.PRIVATE_PREFIX) or name in grammar.PROOF_NAMES
        )
        self.has_many_vias = names.count(b"via") > 1
        self.once = frozenset(name for name in self.first if names.count(name) == 1)
        self.fault = ""
        for name in _SINGLE:
            if names.count(name) > 1:
                self.fault = f"expected one {name.decode()}, got {names.count(name)}"
                return
        if not (self.via and self.call_id and self.cseq and self.from_ and self.to):
            self.fault = "expected Via, From, To, Call-ID and CSeq; one is missing"


_shapes: Final[dict[bytes, list[Shape]]] = {}  # by the first bytes of the messages that have them
_MAX_STARTS = 128
_MAX_ALIKE = 64  # shapes that begin alike, the one met last at the end; one more takes the first one's place
_MAX_SHAPES = 2_048  # in all
_START_BYTES = 11  # "INVITE sip:", "SIP/2.0 200"
_MAX_KEPT_LINES = 64
_MAX_KEPT_NAME_BYTES = 64
_status_lines: Final[dict[bytes, tuple[int, bytes]]] = {}
_start_lines: Final[dict[bytes, tuple[str, bytes, bytes, bytes]]] = {}


class Message:
    """What requests and responses share.

    `lines` are the start line and the header lines as received, folds included, without their last CRLF; `names` are
    their canonical names (b"" for the start line), so that an index means the same in both. `raw` ends with the body:
    octets that follow it in a datagram are cut off (RFC 3261 §18.3).
    """

    __slots__ = ("body_start", "call_id_bytes", "cseq_method", "cseq_number", "faults", "lines", "raw", "shape", "via")

    raw: bytes
    body_start: int
    lines: list[bytes]
    shape: Shape
    via: Via
    call_id_bytes: bytes
    cseq_number: int
    cseq_method: bytes
    faults: tuple[str, ...]

    @property
    def names(self) -> tuple[bytes, ...]:
        return self.shape.names

    @property
    def body(self) -> bytes:
        return self.raw[self.body_start :]

    @property
    def call_id(self) -> str:
        return _text(self.call_id_bytes)

    @property
    def cseq(self) -> tuple[int, str]:
        return self.cseq_number, _text(self.cseq_method)

    @property
    def from_tag(self) -> str | None:
        """The tag of From, None when it has none (RFC 2543 peers)."""
        return _text(self.tag_bytes(b"from")) or None

    @property
    def to_tag(self) -> str | None:
        return _text(self.tag_bytes(b"to")) or None

    def header(self, name: str) -> str | None:
        """The first line of that name, unfolded; None when absent. Compact names are known in both directions."""
        index = self.shape.first.get(canonical_name(name))
        return None if index is None else _text(self.value_bytes(index))

    def headers(self, name: str) -> list[str]:
        """Every line of that name in order, unfolded. A comma-joined line is one entry (see `uri.split_values`)."""
        key = canonical_name(name)
        return [_text(self.value_bytes(index)) for index, other in enumerate(self.names) if other == key]

    def offset(self, index: int) -> int:
        """Where line `index` begins in `raw`."""
        offset = 0
        for line in self.lines[:index]:
            offset += len(line) + 2
        return offset

    def value_bytes(self, index: int) -> bytes:
        line = self.lines[index]
        return headers.unfold(line[line.index(b":") + 1 :])

    def lines_of(self, key: bytes) -> bytes:
        """All lines of that (canonical) name as received, with their CRLFs, for copying into a response."""
        shape = self.shape
        index = shape.first.get(key)
        if index is None:
            return b""
        if key in shape.once:
            return self.lines[index] + b"\r\n"
        return b"".join([self.lines[i] + b"\r\n" for i, name in enumerate(shape.names) if name == key])

    def tag_bytes(self, key: bytes) -> bytes:
        """The tag of From or To (`key` in canonical form); b"" when there is none."""
        index = self.shape.first.get(key)
        if index is None:
            return b""
        return headers.tag_of(self.lines[index]) or b""


class Request(Message):
    """A request that can be forwarded. `faults` names what was repaired or overlooked in an emergency request."""

    __slots__ = (
        "from_tag_bytes", "max_forwards", "method", "method_bytes", "request_uri_bytes", "scheme", "to_tag_bytes",
    )  # fmt: skip

    from_tag_bytes: bytes
    to_tag_bytes: bytes
    method: str
    method_bytes: bytes
    scheme: bytes
    request_uri_bytes: bytes
    max_forwards: int | None

    @property
    def request_uri(self) -> str:
        return _text(self.request_uri_bytes)


class Response(Message):
    """A response; `reason` may be empty (RFC 4475 §3.1.1.13)."""

    __slots__ = ("reason_bytes", "status")

    status: int
    reason_bytes: bytes

    @property
    def reason(self) -> str:
        return _text(self.reason_bytes)


@lru_cache(maxsize=512)  # asked for some twenty fixed names at each emergency call
def canonical_name(name: str) -> bytes:
    """The lower case long form of a header name, whichever form was given."""
    key = name.strip().lower().encode("utf-8", "surrogateescape")
    return grammar.NAMES_OF_COMPACT_FORMS.get(key, key)


def parse_message(data: bytes, *, cseq_limit: int = grammar.MAX_CSEQ) -> Request | Response:
    """Read one datagram, or one message cut from a stream. Raises `BadMessage`, nothing else."""
    if data[:1] in (b"\r", b"\n"):
        data = data.lstrip(b"\r\n")  # RFC 3261 §7.5: empty lines before the start line are ignored
    if len(data) > grammar.MAX_MESSAGE_BYTES:
        raise BadMessage(f"expected at most {grammar.MAX_MESSAGE_BYTES} bytes, got {len(data)}", 513)
    head, separator, _ = data.partition(b"\r\n\r\n")
    if not separator:
        raise BadMessage("expected an empty line after the headers, found none")
    if len(head) > 2_048 and head.count(b"\n") > grammar.MAX_LINES:
        raise BadMessage(f"expected at most {grammar.MAX_LINES} header lines")
    if grammar.is_response(head):
        return _parse_response(data, head, cseq_limit)
    return _parse_request(data, head, cseq_limit)


def parse_sent(data: bytes) -> Request:
    """Read back the head of a request that this element wrote itself.

    The limits on what strangers may send do not hold for it: what was added on the way may have passed them, and the
    ACK or CANCEL of a request must be made whatever its size. Its shape is not kept: nobody sends us the like, and it
    may have more headers than anybody may send.
    """
    head = data.partition(b"\r\n\r\n")[0]
    request = Request()
    request.faults = ()
    _scan(request, head + b"\r\n\r\n", head, max_headers=2 * grammar.MAX_HEADERS, is_ours=True)
    line = request.lines[0]
    request.request_uri_bytes = line[line.index(b" ") + 1 : line.rindex(b" ")]  # a Route may have become it
    via = headers.top_via(request.lines[request.shape.via])
    cseq = headers.cseq_of(request.lines[request.shape.cseq])
    if via is None or cseq is None:
        raise BadMessage("a request of our own cannot be read")
    request.via = via
    request.cseq_number, request.cseq_method = cseq
    return request


def _parse_response(data: bytes, head: bytes, cseq_limit: int) -> Response:
    response = Response()
    response.faults = ()
    _scan(response, data, head)
    line = response.lines[0]
    known = _status_lines.get(line)
    if known is None:
        match = grammar.STATUS_LINE.match(line)
        if match is None:
            raise BadMessage(f"expected a status line, got {line[:60]!r}")
        known = int(match.group(1)), match.group(2) or b""
        keep(_status_lines, line, known)
    response.status, response.reason_bytes = known
    _read_core(response, cseq_limit)
    return response


def _parse_request(data: bytes, head: bytes, cseq_limit: int) -> Request:
    request = Request()
    request.faults = ()
    _scan(request, data, head)
    try:
        _read_start_line(request, request.lines[0])
        _read_core(request, cseq_limit)
        _read_request_only(request)
    except BadMessage as fault:
        raise BadMessage(fault.detail, fault.sip_status, request) from None
    return request


def _scan(
    message: Message, data: bytes, head: bytes, max_headers: int = grammar.MAX_HEADERS, *, is_ours: bool = False
) -> None:
    """Find the header lines and the message's shape."""
    message.raw = data
    message.body_start = len(head) + 4
    message.lines = lines = head.splitlines()
    shape = _shape_of(head, lines)
    if shape is None or 0 in head:
        shape = _scan_slowly(message, head, max_headers, is_ours=is_ours)
    message.shape = shape


def _shape_of(head: bytes, lines: list[bytes]) -> Shape | None:
    """The shape met before whose names these lines have; None when there is none.

    A folded line begins with no name. `splitlines` parts at a bare CR or LF too, which is a byte shorter than CRLF; one
    at the very end, which belongs to no line, would make up for that.
    """
    alike = _shapes.get(head[:_START_BYTES])
    if alike is None or head[-1:] in _LINE_ENDS:
        return None
    count, last = len(lines), len(alike) - 1
    for place in range(last, -1, -1):
        shape = alike[place]
        prefixes = shape.prefixes
        if len(prefixes) != count:
            continue
        at, size = count - 1, len(lines[0])
        while at > 0:
            line = lines[at]
            if not line.startswith(prefixes[at]):
                break
            size += len(line) + 2
            at -= 1
        if at == 0 and size == len(head):
            if place != last:  # what comes again stays, however many others come only once
                del alike[place]
                alike.append(shape)
            return shape
    return None


_LINE_ENDS: Final = (b"\r", b"\n")


def _scan_slowly(message: Message, head: bytes, max_headers: int, *, is_ours: bool) -> Shape:
    """Check the head of a message whose like was not met before: no bare line end may smuggle a header past us."""
    message.lines = lines = head.split(b"\r\n")
    line_ends = len(lines) - 1
    if head.count(b"\n") != line_ends or head.count(b"\r") != line_ends:
        raise BadMessage("a bare CR or LF stands in the headers")
    if b"\0" in head and grammar.UNESCAPED_NUL.search(head):
        raise BadMessage("a NUL stands in the headers")
    return _new_shape(message, max_headers, is_ours=is_ours)


def _new_shape(message: Message, max_headers: int, *, is_ours: bool) -> Shape:
    """Join folded lines to the one they continue, read the names, and keep the shape."""
    count = len(message.lines)
    whole = _unfolded(message.lines)
    if len(whole) > max_headers + 1:
        raise BadMessage(f"expected at most {max_headers} headers, got {len(whole) - 1}")
    message.lines = whole
    names = (b"", *(_name_of(line) for line in whole[1:]))
    prefixes = [b"", *(line[: line.index(b":") + 1] for line in whole[1:])]
    shape = Shape(names, prefixes)
    has_folds = len(whole) != count
    if not (is_ours or has_folds) and count <= _MAX_KEPT_LINES and max(map(len, prefixes)) <= _MAX_KEPT_NAME_BYTES:
        _keep_shape(message.raw[:_START_BYTES], shape)
    return shape


def _keep_shape(start: bytes, shape: Shape) -> None:
    """Keep a shape under its start. The start that learned nothing for longest goes when there are too many."""
    alike = _shapes.pop(start, [])
    if all(other.prefixes != shape.prefixes for other in alike):  # else a NUL stands in this one
        if len(alike) >= _MAX_ALIKE:
            del alike[0]
        alike.append(shape)
    _shapes[start] = alike  # behind all others
    while len(_shapes) > _MAX_STARTS or sum(map(len, _shapes.values())) > _MAX_SHAPES:
        del _shapes[next(iter(_shapes))]


def _unfolded(lines: list[bytes]) -> list[bytes]:
    """The lines with every continuation joined to the line it continues, byte for byte."""
    whole: list[bytes] = []
    folds: list[bytes] = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and whole:
            if len(whole) == 1:
                raise BadMessage("a folded line follows the start line")
            folds.append(line)
            continue
        if folds:
            whole[-1] = b"\r\n".join((whole[-1], *folds))
            folds = []
        whole.append(line)
    if folds:
        whole[-1] = b"\r\n".join((whole[-1], *folds))
    return whole


def _name_of(line: bytes) -> bytes:
    """The canonical name of a header line."""
    spelling, colon, _ = line.partition(b":")
    name = spelling.rstrip(b" \t")
    if not colon or grammar.TOKEN.fullmatch(name) is None:
        raise BadMessage(f"expected a header name and a colon, got {line[:60]!r}")
    name = name.lower()
    return grammar.NAMES_OF_COMPACT_FORMS.get(name, name)


def _read_start_line(request: Request, line: bytes) -> None:
    known = _start_lines.get(line)
    if known is None:
        known = _new_start_line(request, line)
        keep(_start_lines, line, known)
    request.method, request.method_bytes, request.request_uri_bytes, request.scheme = known
    request.max_forwards = None


def _new_start_line(request: Request, line: bytes) -> tuple[str, bytes, bytes, bytes]:
    """Method twice, Request-URI and scheme; what could be read of them stands in the request when it is refused."""
    words = line.split(b" ")
    method = words[0]
    known = METHODS.get(method)
    if known is None:
        if grammar.TOKEN.fullmatch(method) is None:
            raise BadMessage(f"expected a method, got {method[:60]!r}")
        known = _text(method)
    request.method = known
    request.method_bytes = method
    request.request_uri_bytes = words[1] if len(words) > 1 else b""
    request.max_forwards = None
    if known not in METHODS.values() and known.upper() in METHODS.values():  # RFC 3261 §7.1: another method than that
        raise BadMessage(f"expected a method in capitals, got {known}")
    if len(words) != 3:
        raise BadMessage(f"expected method, Request-URI and version, got {line[:120]!r}")
    if words[2] != grammar.OUR_VERSION and words[2].upper() != grammar.OUR_VERSION:
        if grammar.VERSION.match(words[2]):
            raise BadMessage(f"expected SIP/2.0, got {words[2][:20]!r}", 505)
        raise BadMessage(f"expected SIP/2.0 at the end of the start line, got {words[2][:20]!r}")
    uri = words[1]
    if len(uri) > grammar.MAX_READ_BYTES:
        raise BadMessage(f"expected a Request-URI of at most {grammar.MAX_READ_BYTES} bytes, got {len(uri)}", 414)
    other = grammar.REQUEST_URI.match(uri)
    scheme = other.group(1).lower() if other is not None else b""
    if not scheme or (scheme in {b"sip", b"sips"} and grammar.SIP_REQUEST_URI.match(uri) is None):
        raise BadMessage(f"expected a Request-URI without headers or brackets, got {uri[:120]!r}")
    return known, method, uri, scheme


_SPACE: Final = 0x20  # a number is looked for in bytes at a tenth of the cost of a byte
_TAB: Final = 0x09
_CR: Final = 0x0D


def _read_core(message: Message, cseq_limit: int) -> None:
    """Read what both kinds need: one each of Via, Call-ID, CSeq, From, To, and the length of the body."""
    shape, lines = message.shape, message.lines
    if shape.fault:
        raise BadMessage(shape.fault)
    via = headers.top_via(lines[shape.via])
    if via is None:
        raise BadMessage("the top Via cannot be read")
    message.via = via
    line = lines[shape.call_id]
    at = len(shape.prefixes[shape.call_id])
    call_id = line[at + 1 :]  # nearly everybody writes one space
    if line[at : at + 1] != b" " or _SPACE in call_id or _TAB in call_id or _CR in call_id:
        call_id = headers.unfold(line[at:])
    message.call_id_bytes = call_id
    if not call_id or _SPACE in call_id:
        raise BadMessage("expected a Call-ID of one word")
    cseq = headers.cseq_of(lines[shape.cseq])
    if cseq is None or cseq[0] >= cseq_limit:
        raise BadMessage("expected a CSeq of a number below 2^31 and a method")
    message.cseq_number, message.cseq_method = cseq
    if shape.content_length:
        _cut_body(message, lines[shape.content_length])


def _cut_body(message: Message, line: bytes) -> None:
    length = headers.number_of(line)
    if length is None:
        raise BadMessage("expected a Content-Length of digits")
    available = len(message.raw) - message.body_start
    if length == available:
        return
    if length > grammar.MAX_MESSAGE_BYTES:
        raise BadMessage(f"expected a body of at most {grammar.MAX_MESSAGE_BYTES} bytes, got {length}", 513)
    if length > available:
        raise BadMessage(f"expected a body of {length} bytes, got {available}")
    message.raw = message.raw[: message.body_start + length]


def _read_request_only(request: Request) -> None:
    shape, lines = request.shape, request.lines
    if request.cseq_method != request.method_bytes:
        raise BadMessage(f"expected the CSeq method {request.method}, got {_text(request.cseq_method)[:60]!r}")
    tag = headers.tag_of(lines[shape.from_])
    if tag is None:
        raise BadMessage("From cannot be read")
    request.from_tag_bytes = tag
    tag = headers.tag_of(lines[shape.to])
    if tag is None:
        raise BadMessage("To cannot be read")
    request.to_tag_bytes = tag
    if shape.max_forwards:
        value = headers.number_of(lines[shape.max_forwards])
        if value is None or value > grammar.MAX_MAX_FORWARDS:
            raise BadMessage(f"expected a Max-Forwards of 0 to {grammar.MAX_MAX_FORWARDS}")
        request.max_forwards = value


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
