"""Messages on their way out, spliced from the bytes that came in (RFC 3261 §16.6, §16.7, §8.2.6, §9.1, §17.1.1.3).

A splice is (start, end, replacement) over a message's `raw`; splices do not overlap. What no splice names is forwarded
byte for byte: header order and spelling, unknown headers, folding, bodies.
"""

from engine.sip import headers
from engine.sip.forward import Edit
from engine.sip.message import Message, Request, Response, canonical_name, parse_message

Splice = tuple[int, int, bytes]

REASONS = {
    100: "Trying", 200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 416: "Unsupported URI Scheme", 420: "Bad Extension", 480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist", 482: "Loop Detected", 483: "Too Many Hops", 486: "Busy Here",
    487: "Request Terminated", 500: "Server Internal Error", 501: "Not Implemented", 503: "Service Unavailable",
    505: "Version Not Supported", 513: "Message Too Large",
}  # fmt: skip

DEFAULT_MAX_FORWARDS = b"Max-Forwards: 70\r\n"  # RFC 3261 §16.6 step 3


def splice(raw: bytes, splices: list[Splice]) -> bytes:
    """Apply splices; insertions at one place keep their order."""
    splices.sort(key=_start_of)
    pieces, position = [], 0
    for start, end, replacement in splices:
        pieces.append(raw[position:start])
        pieces.append(replacement)
        position = end
    pieces.append(raw[position:])
    return b"".join(pieces)


def _start_of(item: Splice) -> int:
    return item[0]


def forwarded_request(
    request: Request, *, via: bytes, record_route: bytes, received: bytes, routing: list[Splice], edit: Edit
) -> bytes:
    """A copy of the request for the next hop (RFC 3261 §16.6).

    Args:
        via: our Via line with its CRLF; it goes on top.
        record_route: our Record-Route lines, on top of those there; b"" for none.
        received: what belongs into the received Via (`;received=…`), b"" for nothing.
        routing: splices of Route preprocessing: cut Route elements, another Request-URI.
    """
    names = request.names
    splices = list(routing)
    top = request.span(names.index(b"via"))[0]
    if record_route and b"record-route" in names:
        first = request.span(names.index(b"record-route"))[0]
        splices.append((first, first, record_route))
        record_route = b""
    above = via + record_route
    if request.max_forwards is None:
        above += DEFAULT_MAX_FORWARDS
    else:
        start, end = request.value_span(names.index(b"max-forwards"))
        splices.append((start, end, b" %d" % (request.max_forwards - 1)))
    splices.append((top, top, above))
    if received:
        splices.append((request.via.received_at, request.via.received_at, received))
    if edit is not _NO_EDIT and edit != _NO_EDIT:
        _add_edit(request, edit, splices)
    return splice(request.raw, splices)


_NO_EDIT = Edit()


def _add_edit(request: Request, edit: Edit, splices: list[Splice]) -> None:
    if edit.request_uri is not None:
        splices[:] = [item for item in splices if item[0] != request.uri_start]
        splices.append((request.uri_start, request.uri_end, _bytes(edit.request_uri)))
    gone = {canonical_name(name) for name in edit.remove}
    added = "".join(f"{name}: {value}\r\n" for name, value in edit.add)
    if edit.content_type is not None:
        gone.add(b"content-type")
        added += f"Content-Type: {edit.content_type}\r\n"
    if edit.body is not None:
        gone.add(b"content-length")
        added += f"Content-Length: {len(edit.body)}\r\n"
        splices.append((request.body_start, len(request.raw), edit.body))
    for index, name in enumerate(request.names):
        if name in gone:
            _cut(splices, *request.span(index))
    end_of_headers = request.body_start - 2
    splices.append((end_of_headers, end_of_headers, _bytes(added)))


def _cut(splices: list[Splice], start: int, end: int) -> None:
    """Cut a whole line, and with it what other splices would have changed inside it."""
    splices[:] = [item for item in splices if not start < item[0] < end]
    splices.append((start, end, b""))


def forwarded_response(response: Response) -> bytes | None:
    """The response without our Via element, the top one; None when no other is left: it is not for forwarding."""
    index = response.names.index(b"via")
    start, end = response.span(index)
    via_end = response.via.end
    raw = response.raw
    rest = raw[via_end : end - 2].lstrip(b" \t\r\n")
    if rest:  # comma-joined (RFC 3261 §7.3.1): Kamailio and SIPp do that
        return raw[: response.via.start] + b" " + rest[1:].lstrip(b" \t\r\n") + raw[end - 2 :]
    if response.names.count(b"via") == 1:
        return None
    return raw[:start] + raw[end:]


def with_status(data: bytes, status: int) -> bytes:
    """The same response with another status line: 503 goes upstream as 500 (RFC 3261 §16.7 step 6)."""
    return _status_line(status, REASONS[status]) + data[data.index(b"\r\n") + 2 :]


def response_to(
    request: Request,
    status: int,
    reason: str = "",
    *,
    to_tag: bytes = b"",
    received: bytes = b"",
    added: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """Our own response (RFC 3261 §8.2.6): Via, From, To, Call-ID, CSeq as received, no body.

    Works on what `BadMessage.request` holds too: headers that are missing stay missing.
    """
    to = request.lines(b"to")
    if to_tag and status > 100 and b"\r\n" in to and not request.tag_bytes(b"to"):
        to = to[:-2] + b";tag=" + to_tag + b"\r\n"
    vias = request.lines(b"via")
    if received:
        top = request.span(request.names.index(b"via"))[0]
        at = request.via.received_at - top
        if at <= len(vias):
            vias = vias[:at] + received + vias[at:]
    parts = [
        _status_line(status, reason or REASONS.get(status, "")),
        vias,
        request.lines(b"from"),
        to,
        request.lines(b"call-id"),
        request.lines(b"cseq"),
    ]
    if status == 100:
        parts.append(request.lines(b"timestamp"))  # RFC 3261 §8.2.6.1
    parts.extend(_bytes(f"{name}: {value}\r\n") for name, value in added)
    parts.append(b"Content-Length: 0\r\n\r\n")
    return b"".join(parts)


def ack_of(sent: bytes, response: Response) -> bytes:
    """The ACK of a final response that is no 2xx, built from the INVITE as sent (RFC 3261 §17.1.1.3)."""
    return _hop_by_hop(sent, b"ACK", response.lines(b"to"))


def cancel_of(sent: bytes) -> bytes:
    """The CANCEL of an INVITE as sent (RFC 3261 §9.1)."""
    return _hop_by_hop(sent, b"CANCEL", b"")


def _hop_by_hop(sent: bytes, method: bytes, to: bytes) -> bytes:
    invite = parse_message(sent)
    assert isinstance(invite, Request)
    start = invite.span(invite.names.index(b"via"))[0]
    top_via = sent[start : invite.via.end].partition(b":")[2].strip()
    return b"".join(
        (
            method + b" " + invite.request_uri_bytes + b" SIP/2.0\r\nVia: " + top_via + b"\r\n",
            invite.lines(b"route"),
            b"Max-Forwards: 70\r\n",
            invite.lines(b"from"),
            to or invite.lines(b"to"),
            invite.lines(b"call-id"),
            b"CSeq: %d %s\r\nContent-Length: 0\r\n\r\n" % (invite.cseq_number, method),
        )
    )


def own_request(method: str, request_uri: str, lines: list[tuple[str, str]], body: bytes) -> bytes:
    """A request of our own; `lines` are all its headers but Content-Length."""
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return _bytes(f"{method} {request_uri} SIP/2.0\r\n{head}Content-Length: {len(body)}\r\n\r\n") + body


def line_value(message: Message, key: bytes) -> bytes | None:
    """The first value of a header as bytes, unfolded."""
    if key not in message.names:
        return None
    start, end = message.value_span(message.names.index(key))
    return headers.unfold(message.raw[start:end])


def _status_line(status: int, reason: str) -> bytes:
    return _bytes(f"SIP/2.0 {status} {reason}\r\n")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
