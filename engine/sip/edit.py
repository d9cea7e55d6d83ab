"""Messages on their way out, made of the lines that came in (RFC 3261 §16.6, §16.7, §8.2.6, §9.1, §17.1.1.3).

A change names a line by its index: other bytes for it, or None to leave it out. Lines that no change names, and the
body, are forwarded byte for byte: header order and spelling, unknown headers, folding.
"""

from typing import NamedTuple

from engine.sip.forward import NO_EDIT, Edit
from engine.sip.grammar import OWN_REALM, PROOF_NAMES
from engine.sip.message import Request, Response, Shape, canonical_name, parse_sent

Change = tuple[int, bytes | None]
_OWN_REALM = b'realm="%b"' % OWN_REALM.encode()


class Routing(NamedTuple):
    """What Route preprocessing found (§16.4, and §16.6 step 6 for a strict router ahead).

    `changes` cut our Route elements and set the Request-URI where a strict router moved it; `added` are lines to add.
    `next_uri` is where the request goes: the topmost Route left, or the Request-URI. `is_marked`: it belongs to a
    dialog we record-routed. `token`: how that dialog differs behind us (see `disguise`), b"" when it does not.
    """

    changes: list[Change]
    next_uri: bytes
    is_marked: bool
    added: tuple[bytes, ...] = ()
    token: bytes = b""


REASONS = {
    100: "Trying", 200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 416: "Unsupported URI Scheme", 420: "Bad Extension", 480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist", 482: "Loop Detected", 483: "Too Many Hops", 486: "Busy Here",
    487: "Request Terminated", 500: "Server Internal Error", 501: "Not Implemented", 503: "Service Unavailable",
    505: "Version Not Supported", 513: "Message Too Large",
}  # fmt: skip

DEFAULT_MAX_FORWARDS = b"Max-Forwards: 70"  # RFC 3261 §16.6 step 3


def forwarded_request(
    request: Request,
    *,
    via: bytes,
    record_route: bytes,
    received: bytes,
    routing: Routing,
    edit: Edit,
    on_stream: bool = False,
) -> bytes:
    """A copy of the request for the next hop (RFC 3261 §16.6).

    Args:
        via: our Via line; it goes on top.
        record_route: our Record-Route lines, on top of those there; b"" for none.
        received: what belongs into the received Via (`;received=…`), b"" for nothing.
        routing: changes of Route preprocessing: Route elements cut, another Request-URI.
        on_stream: there a Content-Length must stand (§16.6 step 9); a datagram may have come without.
    """
    shape = request.shape
    lines: list[bytes | None] = list(request.lines)
    for index, line in routing.changes:
        lines[index] = line
    for index in shape.private:
        if shape.names[index] not in PROOF_NAMES or _OWN_REALM in request.lines[index]:
            lines[index] = None
    is_shorter = bool(routing.changes or shape.private) or edit is not NO_EDIT
    top = request.lines[shape.via]
    if received:
        at = request.via.received_at
        top = top[:at] + received + top[at:]
    if record_route:
        first = shape.first.get(b"record-route")
        if first is None:
            via += b"\r\n" + record_route
        else:
            lines[first] = record_route + b"\r\n" + request.lines[first]
    lines[shape.via] = via + b"\r\n" + top
    max_forwards = request.max_forwards
    if not shape.max_forwards:
        lines.append(DEFAULT_MAX_FORWARDS)
    elif max_forwards is not None:
        lines[shape.max_forwards] = _MAX_FORWARDS[max_forwards]
    lines.extend(routing.added)
    body = request.raw[request.body_start :]
    if on_stream and not shape.content_length and edit.body is None:
        lines.append(b"Content-Length: %d" % len(body))
    if edit is not NO_EDIT:
        body = _apply(edit, shape, lines, body)
    lines.append(b"\r\n" + body)
    if is_shorter:
        return b"\r\n".join([line for line in lines if line is not None])
    return b"\r\n".join(lines)  # type: ignore[arg-type]  # there is no None in it


_MAX_FORWARDS = [b"Max-Forwards: 0", *(b"Max-Forwards: %d" % left for left in range(255))]


def _apply(edit: Edit, shape: Shape, lines: list[bytes | None], body: bytes) -> bytes:
    """Apply a hook's edit to the lines; returns the body."""
    if edit.request_uri is not None:
        first = lines[0] or b""
        lines[0] = first[: first.index(b" ") + 1] + _bytes(edit.request_uri) + first[first.rindex(b" ") :]
    gone = [canonical_name(name) for name in edit.remove]
    added = [f"{name}: {value}" for name, value in edit.add]
    if edit.content_type is not None:
        gone.append(b"content-type")
        added.append(f"Content-Type: {edit.content_type}")
    if edit.body is not None:
        gone.append(b"content-length")
        added.append(f"Content-Length: {len(edit.body)}")
        body = edit.body
    for name in gone:
        if name in shape.first:
            index = shape.first[name]
            lines[index] = None
            for _ in range(shape.names.count(name) - 1):
                index = shape.names.index(name, index + 1)
                lines[index] = None
    if added:
        lines.append(_bytes("\r\n".join(added)))
    return body


def forwarded_response(response: Response, *, on_stream: bool = False) -> bytes | None:
    """The response without our Via element, the top one; None when no other is left: it is not for forwarding.

    `on_stream`: it leaves on one, where a Content-Length must stand.
    """
    if on_stream and not response.shape.content_length:
        return _with_content_length(forwarded_response(response))
    index = response.shape.via
    line, raw = response.lines[index], response.raw
    start = len(response.lines[0]) + 2 if index == 1 else response.offset(index)
    via_end = response.via.end
    rest = line[via_end:].lstrip(b" \t\r\n") if via_end < len(line) else b""
    if rest:  # comma-joined (RFC 3261 §7.3.1): Kamailio and SIPp do that
        return raw[: start + response.via.start] + b" " + rest[1:].lstrip(b" \t\r\n") + raw[start + len(line) :]
    if not response.shape.has_many_vias:
        return None
    return raw[:start] + raw[start + len(line) + 2 :]


def _with_content_length(data: bytes | None) -> bytes | None:
    if data is None:
        return None
    head, separator, body = data.partition(b"\r\n\r\n")
    return b"%b\r\nContent-Length: %d%b%b" % (head, len(body), separator, body)


def with_challenges(data: bytes, others: list[bytes]) -> bytes:
    """A 401 or 407 with the challenges of the others beside its own (RFC 3261 §16.7 step 7): a caller who knows a
    password for any of them can go on."""
    head, separator, body = data.partition(b"\r\n\r\n")
    return b"".join((head, b"\r\n", *others)).removesuffix(b"\r\n") + separator + body


def challenges_of(response: Response) -> bytes:
    """The challenges of a response, as received, each line with its CRLF."""
    return response.lines_of(b"www-authenticate") + response.lines_of(b"proxy-authenticate")


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
    to = request.lines_of(b"to")
    if to_tag and status > 100 and to and not request.tag_bytes(b"to"):
        to = to[:-2] + b";tag=" + to_tag + b"\r\n"
    vias = request.lines_of(b"via")
    if received:
        at = request.via.received_at
        vias = vias[:at] + received + vias[at:]
    extra = b"".join([_bytes(f"{name}: {value}\r\n") for name, value in added]) if added else b""
    if status == 100:
        extra += request.lines_of(b"timestamp")  # RFC 3261 §8.2.6.1
    return b"".join(
        (
            _status_line(status, reason or REASONS.get(status, "")),
            vias,
            request.lines_of(b"from"),
            to,
            request.lines_of(b"call-id"),
            request.lines_of(b"cseq"),
            extra,
            b"Content-Length: 0\r\n\r\n",
        )
    )


def trying(request: Request, received: bytes) -> bytes:
    """`response_to(request, 100)`; one goes out for every INVITE."""
    shape, lines = request.shape, request.lines
    if shape.has_many_vias or b"timestamp" in shape.first:
        return response_to(request, 100, received=received)
    via = lines[shape.via]
    if received:
        at = request.via.received_at
        via = via[:at] + received + via[at:]
    head = (_TRYING, via, lines[shape.from_], lines[shape.to], lines[shape.call_id], lines[shape.cseq], _NO_BODY)
    return b"\r\n".join(head)


_TRYING, _NO_BODY = b"SIP/2.0 100 Trying", b"Content-Length: 0\r\n\r\n"


def ack_of(sent: bytes, response: Response) -> bytes:
    """The ACK of a final response that is no 2xx, built from the INVITE as sent (RFC 3261 §17.1.1.3)."""
    return _hop_by_hop(sent, b"ACK", response.lines_of(b"to"))


def cancel_of(sent: bytes) -> bytes:
    """The CANCEL of an INVITE as sent (RFC 3261 §9.1)."""
    return _hop_by_hop(sent, b"CANCEL", b"")


def _hop_by_hop(sent: bytes, method: bytes, to: bytes) -> bytes:
    invite = parse_sent(sent)
    line = invite.lines[invite.shape.via]
    top_via = line[invite.via.start : invite.via.end].strip()
    return b"".join(
        (
            method + b" " + invite.request_uri_bytes + b" SIP/2.0\r\nVia: " + top_via + b"\r\n",
            invite.lines_of(b"route"),
            b"Max-Forwards: 70\r\n",
            invite.lines_of(b"from"),
            to or invite.lines_of(b"to"),
            invite.lines_of(b"call-id"),
            b"CSeq: %d %s\r\nContent-Length: 0\r\n\r\n" % (invite.cseq_number, method),
        )
    )


def own_request(method: str, request_uri: str, lines: list[tuple[str, str]], body: bytes) -> bytes:
    """A request of our own; `lines` are all its headers but Content-Length."""
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return _bytes(f"{method} {request_uri} SIP/2.0\r\n{head}Content-Length: {len(body)}\r\n\r\n") + body


def own_request_again(sent: bytes, via: bytes, proof: tuple[bytes, ...]) -> bytes:
    """A request of our own as it was sent, with another Via, the next CSeq and header lines that answer a challenge."""
    head, separator, body = sent.partition(b"\r\n\r\n")
    old = parse_sent(sent)
    changed = {b"via": via, b"cseq": b"CSeq: %d %s" % (old.cseq_number + 1, old.cseq_method)}
    kept = zip(old.names, head.split(b"\r\n"), strict=True)
    lines = [changed.get(name, line) for name, line in kept if name not in PROOF_NAMES]
    return b"\r\n".join((*lines, *proof)) + separator + body


def _status_line(status: int, reason: str) -> bytes:
    return _bytes(f"SIP/2.0 {status} {reason}\r\n")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
