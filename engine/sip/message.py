"""A SIP message that keeps the bytes it came in (RFC 3261 §7).

Reading finds where each header line starts and what it is called; values are read when asked for. What a proxy must
know of every request (start line, top Via, From, To, Call-ID, CSeq, Max-Forwards, Content-Length) is read and checked
at once, so that a message that exists is one that can be forwarded. Nothing is rebuilt: `edit.py` splices `raw`.

`BadMessage` is the only exception that leaves this module, whatever the bytes were.
"""

from engine.sip import grammar, headers
from engine.sip.headers import Via


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


_METHODS = {
    name.encode(): name
    for name in (
        "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "PRACK", "UPDATE", "INFO", "MESSAGE", "SUBSCRIBE",
        "NOTIFY", "REFER", "PUBLISH",
    )
}  # fmt: skip

_KNOWN_NAMES = (
    "Via From To Call-ID CSeq Contact Max-Forwards Route Record-Route Content-Length Content-Type Allow Supported "
    "User-Agent Server Accept Date Require Proxy-Require Subject Expires Session-Expires Min-SE Timestamp "
    "P-Asserted-Identity Privacy Geolocation Geolocation-Routing Priority Organization Warning Reason Allow-Events "
    "Authorization Proxy-Authorization WWW-Authenticate Proxy-Authenticate"
)
# Names as seen -> lower case long form. Grows to a bound: PBXs repeat the same dozen spellings for ever.
_NAMES: dict[bytes, bytes] = {}
_MAX_LEARNED_NAMES = 2_000
for _name in _KNOWN_NAMES.split():
    _NAMES[_name.encode()] = _name.lower().encode()
for _short, _long in grammar.NAMES_OF_COMPACT_FORMS.items():
    _NAMES[_short] = _NAMES[_short.upper()] = _NAMES.get(_long.title(), _long)

_SINGLE = (b"from", b"to", b"call-id", b"cseq", b"max-forwards", b"content-length")


class Message:
    """What requests and responses share. Positions and names of header lines are parallel lists.

    `raw` ends with the body: octets that follow it in a datagram are cut off (RFC 3261 §18.3).
    """

    __slots__ = (
        "_starts",
        "body_start",
        "call_id_bytes",
        "cseq_method",
        "cseq_number",
        "faults",
        "names",
        "raw",
        "via",
    )

    raw: bytes
    body_start: int
    names: list[bytes]
    _starts: list[int]
    via: Via
    call_id_bytes: bytes
    cseq_number: int
    cseq_method: bytes
    faults: tuple[str, ...]

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
        key = canonical_name(name)
        return _text(self.value_bytes(self.names.index(key))) if key in self.names else None

    def headers(self, name: str) -> list[str]:
        """Every line of that name in order, unfolded. A comma-joined line is one entry (see `uri.split_values`)."""
        key = canonical_name(name)
        return [_text(self.value_bytes(index)) for index, other in enumerate(self.names) if other == key]

    def span(self, index: int) -> tuple[int, int]:
        """Where header line `index` begins and where the next one does (its CRLF included)."""
        return self._starts[index], self._starts[index + 1]

    def value_span(self, index: int) -> tuple[int, int]:
        """Where the value of header line `index` lies: behind its colon, up to its CRLF."""
        start, end = self._starts[index], self._starts[index + 1] - 2
        return self.raw.index(b":", start, end) + 1, end

    def value_bytes(self, index: int) -> bytes:
        start, end = self.value_span(index)
        return headers.unfold(self.raw[start:end])

    def lines(self, key: bytes) -> bytes:
        """All lines of that (canonical) name as received, with their CRLFs, for copying into a response."""
        raw, starts = self.raw, self._starts
        return b"".join([raw[starts[i] : starts[i + 1]] for i, name in enumerate(self.names) if name == key])

    def tag_bytes(self, key: bytes) -> bytes:
        """The tag of From or To (`key` in canonical form); b"" when there is none."""
        if key not in self.names:
            return b""
        return headers.read_tag(self.raw, *self.value_span(self.names.index(key))) or b""


class Request(Message):
    """A request that can be forwarded. `faults` names what was repaired or overlooked in an emergency request."""

    __slots__ = ("max_forwards", "method", "request_uri_bytes", "uri_end", "uri_start")

    method: str
    request_uri_bytes: bytes
    uri_start: int
    uri_end: int
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
    end = data.find(b"\r\n\r\n")
    if end < 0:
        raise BadMessage("expected an empty line after the headers, found none")
    if data.startswith(b"SIP/"):
        return _parse_response(data, end)
    return _parse_request(data, end, cseq_limit)


def _parse_response(data: bytes, end: int) -> Response:
    response = Response()
    response.faults = ()
    first_line = _scan(response, data, end)
    match = grammar.STATUS_LINE.match(first_line)
    if match is None:
        raise BadMessage(f"expected a status line, got {first_line[:60]!r}")
    response.status = int(match.group(1))
    response.reason_bytes = match.group(2) or b""
    _read_core(response, grammar.MAX_CSEQ)
    return response


def _parse_request(data: bytes, end: int, cseq_limit: int) -> Request:
    request = Request()
    request.faults = ()
    first_line = _scan(request, data, end)
    try:
        _read_start_line(request, first_line)
        _read_core(request, cseq_limit)
        _read_request_only(request)
    except BadMessage as fault:
        raise BadMessage(fault.detail, fault.sip_status, request) from None
    return request


def _scan(message: Message, data: bytes, end: int) -> bytes:
    """Find the header lines; returns the start line. Fills `raw`, `names`, `_starts`, `body_start`."""
    head = data[:end]
    lines = head.split(b"\r\n")
    count = len(lines)
    if count > grammar.MAX_LINES:
        raise BadMessage(f"expected at most {grammar.MAX_LINES} header lines, got {count}")
    if head.count(b"\n") != count - 1 or head.count(b"\r") != count - 1:
        raise BadMessage("a bare CR or LF stands in the headers")  # or a header could be smuggled past us
    if b"\0" in head and grammar.UNESCAPED_NUL.search(head):
        raise BadMessage("a NUL stands in the headers")
    message.raw = data
    message.body_start = end + 4
    names: list[bytes] = []
    message.names = names
    message._starts = starts = []  # noqa: SLF001 - same module
    position = len(lines[0]) + 2
    first_line = lines[0]
    del lines[0]
    known = _NAMES.get
    for line in lines:
        name = known(line[: line.find(b":")])
        if name is None:
            name = _name_of(line, is_first=not names)
        if name:
            names.append(name)
            starts.append(position)
        position += len(line) + 2
    starts.append(position)
    if len(names) > grammar.MAX_HEADERS:
        raise BadMessage(f"expected at most {grammar.MAX_HEADERS} headers, got {len(names)}")
    return first_line


def _name_of(line: bytes, *, is_first: bool) -> bytes:
    """The canonical name of a header line spelt in a way not met before; b"" for a folded continuation."""
    if line[:1] in (b" ", b"\t"):
        if is_first:
            raise BadMessage("a folded line follows the start line")
        return b""
    spelling, colon, _ = line.partition(b":")
    name = spelling.rstrip(b" \t")
    if not colon or grammar.TOKEN.fullmatch(name) is None:
        raise BadMessage(f"expected a header name and a colon, got {line[:60]!r}")
    name = name.lower()
    name = grammar.NAMES_OF_COMPACT_FORMS.get(name, name)
    if len(_NAMES) < _MAX_LEARNED_NAMES and len(spelling) < 64:
        _NAMES[spelling] = name
    return name


def _read_start_line(request: Request, line: bytes) -> None:
    words = line.split(b" ")
    method = words[0]
    known = _METHODS.get(method)
    if known is None:
        if grammar.TOKEN.fullmatch(method) is None:
            raise BadMessage(f"expected a method, got {method[:60]!r}")
        known = _text(method)
    request.method = known
    request.request_uri_bytes = words[1] if len(words) > 1 else b""
    request.uri_start = len(method) + 1
    request.uri_end = request.uri_start + len(request.request_uri_bytes)
    request.max_forwards = None
    if len(words) != 3:
        raise BadMessage(f"expected method, Request-URI and version, got {line[:120]!r}")
    if words[2] != b"SIP/2.0":
        if grammar.VERSION.match(words[2]):
            raise BadMessage(f"expected SIP/2.0, got {words[2][:20]!r}", 505)
        raise BadMessage(f"expected SIP/2.0 at the end of the start line, got {words[2][:20]!r}")
    uri = words[1]
    if grammar.SIP_REQUEST_URI.match(uri) is None:
        other = grammar.REQUEST_URI.match(uri)
        if other is None or other.group(1).lower() in {b"sip", b"sips"}:
            raise BadMessage(f"expected a Request-URI without headers or brackets, got {uri[:120]!r}")


def _read_core(message: Message, cseq_limit: int) -> None:
    """Read what both kinds need: one each of Via, Call-ID, CSeq, From, To, and the length of the body."""
    names, raw = message.names, message.raw
    if len(set(names)) != len(names):
        for name in _SINGLE:
            if names.count(name) > 1:
                raise BadMessage(f"expected one {_text(name)}, got {names.count(name)}")
    try:
        via = headers.read_via(raw, *message.value_span(names.index(b"via")))
        call_id = names.index(b"call-id")
        cseq = headers.read_cseq(raw, *message.value_span(names.index(b"cseq")))
        names.index(b"from")
        names.index(b"to")
    except ValueError:
        raise BadMessage("expected Via, From, To, Call-ID and CSeq; one is missing") from None
    if via is None:
        raise BadMessage("the top Via cannot be read")
    message.via = via
    message.call_id_bytes = message.value_bytes(call_id)
    if not message.call_id_bytes or b" " in message.call_id_bytes:
        raise BadMessage("expected a Call-ID of one word")
    if cseq is None or cseq[0] >= cseq_limit:
        raise BadMessage("expected a CSeq of a number below 2^31 and a method")
    message.cseq_number, message.cseq_method = cseq
    if b"content-length" in names:
        _cut_body(message, names.index(b"content-length"))


def _cut_body(message: Message, index: int) -> None:
    length = headers.read_number(message.raw, *message.value_span(index))
    if length is None:
        raise BadMessage("expected a Content-Length of digits")
    available = len(message.raw) - message.body_start
    if length > grammar.MAX_MESSAGE_BYTES:
        raise BadMessage(f"expected a body of at most {grammar.MAX_MESSAGE_BYTES} bytes, got {length}", 513)
    if length > available:
        raise BadMessage(f"expected a body of {length} bytes, got {available}")
    if length < available:
        message.raw = message.raw[: message.body_start + length]


def _read_request_only(request: Request) -> None:
    names, raw = request.names, request.raw
    if request.cseq_method != request.method.encode("latin-1"):
        raise BadMessage(f"expected the CSeq method {request.method}, got {_text(request.cseq_method)[:60]!r}")
    for key in (b"from", b"to"):
        if headers.read_tag(raw, *request.value_span(names.index(key))) is None:
            raise BadMessage(f"{_text(key).title()} cannot be read")
    if b"max-forwards" in names:
        value = headers.read_number(raw, *request.value_span(names.index(b"max-forwards")))
        if value is None or value > grammar.MAX_MAX_FORWARDS:
            raise BadMessage(f"expected a Max-Forwards of 0 to {grammar.MAX_MAX_FORWARDS}")
        request.max_forwards = value


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
