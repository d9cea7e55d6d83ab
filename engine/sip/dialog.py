"""Staying in a call's path: our Via, our Record-Route with its keyed mark, and Route preprocessing (§16.4, §16.6).

The mark is an HMAC over the Call-ID and the caller's tag, written into our Record-Route URIs as `;cp=`. Whoever sends
a request inside that dialog brings it back in Route, so the element needs no memory of calls to know its own: after a
restart, and on another process with the same key, a BYE is still forwarded, and a stranger's request never is.
"""

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

from engine.sip import grammar, headers
from engine.sip.edit import Splice
from engine.sip.forward import Hop
from engine.sip.message import Request
from engine.sip.uri import bracketed

MARK_DIGITS = 16  # 64 bits of HMAC-SHA256: guessing costs a network round trip each
DEFAULT_PORT = 5060

_NEXT_HOP = re.compile(
    rb"[sS][iI][pP]([sS]?):(?:[^@\s<>\"]++@)?(\[[0-9A-Fa-f:.]++\]|[^\s:;?<>\"\[\]]++)(?::(\d{1,5}))?(;[^?<>\s\"]*+)?"
)
_MARK = re.compile(rb";cp=([0-9a-f]{16})(?=[;>?]|$)")
_MAX_KEPT = 4_096


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where a URI points: `transport` "udp" or "tcp"; `is_loose` when it carries `lr`."""

    host: str
    port: int
    transport: str
    is_loose: bool


@dataclass(frozen=True, slots=True)
class Routing:
    """What Route preprocessing found (§16.4, and §16.6 step 6 for a strict router ahead).

    `splices` cut our Route elements and set the Request-URI where a strict router moved it. `next_uri` is where the
    request goes: the topmost Route left, or the Request-URI. `is_marked`: it belongs to a dialog we record-routed.
    """

    splices: list[Splice]
    next_uri: bytes
    is_marked: bool


class Dialogs:
    """Our name towards each peer, and the marks."""

    __slots__ = ("_addresses", "_key", "_next_hops", "_own", "_prefixes")

    def __init__(self, addresses: Callable[[Hop], tuple[str, int]], mark_key: bytes) -> None:
        self._addresses = addresses
        self._key = mark_key
        self._prefixes: dict[tuple[str, str, int], tuple[bytes, bytes]] = {}
        self._own: set[tuple[bytes, int]] = set()
        self._next_hops: dict[bytes, NextHop | None] = {}

    def via(self, hop: Hop, branch: bytes) -> bytes:
        """Our Via line towards a hop; `rport` on UDP, so that answers find back through a NAT (RFC 3581)."""
        prefix = self._prefix(hop)[0]
        return prefix + branch + (b";rport\r\n" if hop.transport == "udp" else b"\r\n")

    def record_route(self, request: Request, source: Hop, target: Hop) -> bytes:
        """Our Record-Route towards a target; two when the transports or our addresses differ (RFC 5658 §3)."""
        ending = b";cp=" + self.mark(request.call_id_bytes, request.tag_bytes(b"from")) + b">\r\n"
        outward, inward = self._prefix(target)[1], self._prefix(source)[1]
        if outward == inward:
            return b"Record-Route: " + outward + ending
        return b"Record-Route: " + outward + ending + b"Record-Route: " + inward + ending

    def mark(self, call_id: bytes, caller_tag: bytes) -> bytes:
        digest = hmac.digest(self._key, call_id + b"\0" + caller_tag, "sha256")
        return digest.hex()[:MARK_DIGITS].encode()

    def contact(self, hop: Hop) -> str:
        """`host:port` of ours as that hop knows us."""
        host, port = self._addresses(hop)
        return f"{bracketed(host)}:{port}"

    def preprocess(self, request: Request, source: Hop) -> Routing:
        """Take our own elements off Route (§16.4); says whether the request is inside a dialog of ours."""
        uri = request.request_uri_bytes
        elements = self._routes(request) if b"route" in request.names else []
        splices: list[Splice] = []
        marked = False
        if b";cp=" in uri and self._is_marked(request, uri):  # from a strict router: the target is the last Route
            marked = True
            if elements:
                uri = elements[-1][2]
                splices.append((request.uri_start, request.uri_end, uri))
                _cut_element(request, elements.pop(), splices)
        while elements and self.is_own(elements[0][2], source):
            marked = marked or self._is_marked(request, elements[0][2])
            _cut_element(request, elements.pop(0), splices)
        if not elements:
            return Routing(splices, uri, marked)
        first = elements[0][2]
        target = self.next_hop(first)
        if target is not None and not target.is_loose and marked:
            self._hand_to_strict_router(request, uri, elements[0], splices)
        return Routing(splices, first, marked)

    def is_own(self, uri: bytes, source: Hop) -> bool:
        """Is a Route URI one of ours: it carries a mark, or names the address this peer knows us by."""
        if _MARK.search(uri):
            return True
        target = self.next_hop(uri)
        if target is None:
            return False
        self._prefix(source)
        return (target.host.encode(), target.port) in self._own

    def is_own_sent_by(self, host: bytes, port: int | None) -> bool:
        return (host.strip(b"[]").lower(), port or DEFAULT_PORT) in self._own

    def next_hop(self, uri: bytes) -> NextHop | None:
        """Read where a sip URI points; None for any other scheme. `maddr` wins over the host (§19.1.1)."""
        try:
            return self._next_hops[uri]
        except KeyError:
            pass
        found = _read_next_hop(uri)
        if len(self._next_hops) >= _MAX_KEPT:
            self._next_hops.clear()
        self._next_hops[uri] = found
        return found

    def _is_marked(self, request: Request, uri: bytes) -> bool:
        match = _MARK.search(uri)
        if match is None:
            return False
        given = match.group(1)
        call_id = request.call_id_bytes
        return any(hmac.compare_digest(given, self.mark(call_id, request.tag_bytes(key))) for key in (b"from", b"to"))

    def _prefix(self, hop: Hop) -> tuple[bytes, bytes]:
        """The beginnings of our Via line and of our Record-Route value towards a hop."""
        key = (hop.transport, hop.ip, hop.port)
        found = self._prefixes.get(key)
        if found is None:
            host, port = self._addresses(hop)
            name = f"{bracketed(host)}:{port}"
            transport = ";transport=tcp" if hop.transport == "tcp" else ""
            found = (
                f"Via: SIP/2.0/{hop.transport.upper()} {name};branch=".encode(),
                f"<sip:{name}{transport};lr".encode(),
            )
            self._own.add((host.lower().encode(), port))
            if len(self._prefixes) >= _MAX_KEPT:
                self._prefixes.clear()
            self._prefixes[key] = found
        return found

    @staticmethod
    def _routes(request: Request) -> list[tuple[int, int, bytes]]:
        """Every Route element as (start, end, URI) over the raw message, in order."""
        elements = []
        for index, name in enumerate(request.names):
            if name != b"route":
                continue
            position, end = request.value_span(index)
            while position < end:
                stop = headers.element_end(request.raw, position, end)
                text = request.raw[position:stop]
                opening, closing = text.find(b"<"), text.rfind(b">")
                if 0 <= opening < closing:
                    elements.append((position, stop, text[opening + 1 : closing].strip()))
                position = stop + 1
        return elements

    @staticmethod
    def _hand_to_strict_router(
        request: Request, uri: bytes, first: tuple[int, int, bytes], splices: list[Splice]
    ) -> None:
        """§16.6 step 6: the Request-URI goes to the end of Route, the strict router's URI takes its place."""
        splices[:] = [item for item in splices if item[0] != request.uri_start]
        splices.append((request.uri_start, request.uri_end, first[2]))
        _cut_element(request, first, splices)
        end = request.body_start - 2
        splices.append((end, end, b"Route: <" + uri + b">\r\n"))


def _cut_element(request: Request, element: tuple[int, int, bytes], splices: list[Splice]) -> None:
    """Cut one Route element with its comma, and its line when nothing else was in it."""
    start, stop, _ = element
    for index, name in enumerate(request.names):
        line_start, line_end = request.span(index)
        if name == b"route" and line_start <= start < line_end:
            break
    value_start, value_end = request.value_span(index)
    gone = [item for item in splices if value_start <= item[0] and item[1] <= value_end]
    left = request.raw[value_start:value_end]
    for cut_start, cut_end, _nothing in [*gone, (start, stop, b"")]:
        left = left[: cut_start - value_start] + b"," * (cut_end - cut_start) + left[cut_end - value_start :]
    if not left.strip(b", \t\r\n"):
        splices[:] = [item for item in splices if item not in gone]
        splices.append((line_start, line_end, b""))
    elif start == value_start or all(character in b", \t\r\n" for character in left[: start - value_start]):
        splices.append((start, stop + 1, b""))
    else:
        splices.append((start - 1, stop, b""))


def _read_next_hop(uri: bytes) -> NextHop | None:
    match = _NEXT_HOP.match(uri)
    if match is None:
        return None
    host = match.group(2).decode("latin-1").lower().strip("[]")
    parameters = {}
    for parameter in grammar.PARAMETER.finditer(match.group(4) or b""):
        parameters[parameter.group(1).lower()] = (parameter.group(2) or b"").lower().decode("latin-1")
    transport = "tcp" if parameters.get(b"transport") == "tcp" else "udp"
    host = parameters.get(b"maddr", host).strip("[]") or host
    return NextHop(host, int(match.group(3) or DEFAULT_PORT), transport, b"lr" in parameters)
