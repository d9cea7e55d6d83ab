"""Staying in a call's path: our Via, our Record-Route with its keyed mark, and Route preprocessing (§16.4, §16.6).

The mark is a keyed BLAKE2 (RFC 7693 §2.9: a MAC at a third of the cost of HMAC-SHA256) over the Call-ID and the
caller's tag, written into our Record-Route URIs as `;cp=`. Whoever sends
a request inside that dialog brings it back in Route, so the element needs no memory of calls to know its own: after a
restart, and on another process with the same key, a BYE is still forwarded, and a stranger's request never is.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2s
from hmac import compare_digest
from typing import Final, NamedTuple

from engine.sip import disguise, grammar, headers
from engine.sip.edit import Change, Routing
from engine.sip.forward import Hop
from engine.sip.message import Request, Response
from engine.sip.uri import bracketed, transport_parameter

MARK_DIGITS = 16  # 64 bits: guessing costs a network round trip each
_MARK_BYTES = MARK_DIGITS + 4  # with `;cp=`
DEFAULT_PORT = 5060
DEFAULT_TLS_PORT = 5061

_NEXT_HOP = re.compile(
    rb"[sS][iI][pP]([sS]?):(?:[^@\s<>\"]++@)?(\[[0-9A-Fa-f:.]++\]|[^\s:;?<>\"\[\]]++)(?::(\d{1,5}))?(;[^?<>\s\"]*+)?"
)
_MADDR_OR_TRANSPORT = re.compile(rb";(?:maddr|transport)=[^;?]*+", re.IGNORECASE)
# a sip URI whose host begins as no address does
_NAMED_HOST = re.compile(rb"[sS][iI][pP][sS]?:(?:[^@\s<>\"]++@)?+(?!\[|[0-9.]++(?:[:;>\s]|$))[^\s>,]++")
_MAX_KEPT = 4_096
_MAX_KEPT_BYTES = 256
_AFTER_VALUE: Final = frozenset({b"", b";", b">", b"?"})
_NAMING: Final = (b"contact", b"record-route")
_NEW: Final = tuple.__new__  # half the cost of a named tuple's own


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where a URI points: `transport` "udp", "tcp" or "tls"; `is_loose` when it carries `lr`.

    `named` is what the URI itself says, for a look-up of its host (RFC 3263 §4): the port, None when it names none, and
    the transport, "" when it names none, "sips" for a sips URI.
    """

    host: str
    port: int
    transport: str
    is_loose: bool
    named: tuple[int | None, str] = (None, "")


_COMMA: Final = 0x2C
_SEMICOLON: Final = 0x3B
_CLOSING: Final = 0x3E


class _Element(NamedTuple):
    """One element of a Route header: its line, its place in it (comma excluded) and the URI between its brackets."""

    line: int
    start: int
    end: int
    uri: bytes


class Dialogs:
    """Our name towards each peer, and the marks."""

    __slots__ = (
        "_addresses", "_keyed", "_marks", "_nameless", "_next_hops", "_on_name", "_own", "_prefixes", "_tokenless",
        "also_ports", "disguise_key",
    )  # fmt: skip

    def __init__(
        self,
        addresses: Callable[[Hop], tuple[str, int]],
        mark_key: bytes,
        on_name: Callable[[NextHop], None] = lambda _: None,
    ) -> None:
        self._addresses = addresses
        self._on_name = on_name
        self._keyed = blake2s(key=blake2s(mark_key).digest(), digest_size=MARK_DIGITS // 2)
        self.disguise_key = disguise.key_of(mark_key)
        self._prefixes: dict[tuple[object, ...], tuple[bytes, bytes]] = {}
        self._own: set[tuple[bytes, int]] = set()
        self.also_ports: frozenset[int] = frozenset()  # of ours, beside what peers are told
        self._next_hops: dict[bytes, NextHop | None] = {}
        self._marks: dict[bytes, bytes] = {}  # of the calls at hand; what is not here is made again
        self._tokenless: set[bytes] = set()  # our URIs, without their mark, in which no token stands
        self._nameless: dict[bytes, bool] = {}  # header lines, without our mark, that name no host but by address

    def via(self, hop: Hop, branch: bytes) -> bytes:
        """Our Via line towards a hop; `rport` on UDP, so that answers find back through a NAT (RFC 3581)."""
        prefix = self._prefix(hop)[0]
        return prefix + branch + b";rport" if hop.transport == "udp" else prefix + branch

    def record_route(self, request: Request, source: Hop, target: Hop, token: bytes = b"") -> bytes:
        """Our Record-Route towards a target; two when the transports or our addresses differ (RFC 5658 §3).

        `token`: a sealed disguise that whoever sends a request inside the dialog brings back to us.
        """
        ending = self._ending(request, token)
        return self._routes_back(self._prefix(target)[1], self._prefix(source)[1], ending)

    def record_route_secured(
        self, request: Request, source: Hop, target: Hop, token: bytes = b"", *, is_sips: bool
    ) -> bytes:
        """The same where TLS is in play: a sips URI on the side whose Request-URI is one (§16.6 step 4).

        `is_sips`: the request leaves with a sips URI in its Request-URI or topmost Route.
        """
        ending = self._ending(request, token)
        outward, inward = self._prefix(target)[1], self._prefix(source)[1]
        if is_sips and target.transport == "tls":
            outward = _as_sips(outward)
        if request.scheme == b"sips" and source.transport == "tls":
            inward = _as_sips(inward)
        return self._routes_back(outward, inward, ending)

    def _ending(self, request: Request, token: bytes) -> bytes:
        ending = b";cp=" + self.mark(request.call_id_bytes, request.from_tag_bytes) + b">"
        return b";cu=" + token + ending if token else ending

    @staticmethod
    def _routes_back(outward: bytes, inward: bytes, ending: bytes) -> bytes:
        if outward == inward:
            return b"Record-Route: " + outward + ending
        return b"Record-Route: " + outward + ending + b"\r\nRecord-Route: " + inward + ending

    def meet(self, message: Request | Response) -> bool:
        """Tell the host names that a message names which makes a dialog: later requests may have to go there. True when
        there is any.
        """
        has_names = False
        for header in _NAMING:
            index = message.shape.first.get(header)
            if index is not None:
                line = message.lines[index]
                if header not in message.shape.once:
                    line = message.lines_of(header)[:-2]
                key = line
                if line[-1:] == b">" and line[-_MARK_BYTES - 1 : -MARK_DIGITS - 1] == b";cp=":  # our mark is its end
                    key = line[: -_MARK_BYTES - 1]
                if key not in self._nameless:
                    has_names = self._meet_in(line, key) or has_names
        return has_names

    def _meet_in(self, lines: bytes, key: bytes) -> bool:
        uris = _NAMED_HOST.findall(lines)
        if not uris:
            if len(self._nameless) >= _MAX_KEPT:
                self._nameless.clear()
            if len(key) <= _MAX_KEPT_BYTES:
                self._nameless[key] = True
        for uri in uris:
            target = self.next_hop(uri)
            if target is not None:
                self._on_name(target)
        return bool(uris)

    def mark(self, call_id: bytes, caller_tag: bytes) -> bytes:
        text = call_id + b"\0" + caller_tag
        known = self._marks.get(text)
        if known is None:
            keyed = self._keyed.copy()  # made ready once: a third of the cost
            keyed.update(text)
            known = keyed.hexdigest().encode()
            if len(self._marks) >= _MAX_KEPT:
                self._marks.clear()
            if len(text) <= _MAX_KEPT_BYTES:
                self._marks[text] = known
        return known

    def contact(self, hop: Hop) -> str:
        """`host:port` of ours as that hop knows us."""
        host, port = self._addresses(hop)
        return f"{bracketed(host)}:{port}"

    def preprocess(self, request: Request, source: Hop) -> Routing:
        """Take our own elements off Route (§16.4); says whether the request is inside a dialog of ours."""
        index = request.shape.first.get(b"route")
        uri = request.request_uri_bytes
        if _SEMICOLON in uri and (b";cp=" in uri or b";maddr=" in uri.lower()):
            return self._preprocess_any(request, source)
        if index is None:
            return _NEW(Routing, ([], uri, False, (), b""))
        line = request.lines[index]
        if line.endswith(b">") and _COMMA not in line and b"route" in request.shape.once:
            at = len(request.shape.prefixes[index]) + 2
            own = line[at if line[at - 2 : at] == b" <" else line.find(b"<") + 1 : -1]
            if _CLOSING not in own and self._is_marked(request, own):  # nearly every one in a dialog
                token = self._token_of(own)
                return _NEW(Routing, ([(index, None)], uri, True, (), token))
        return self._preprocess_any(request, source)

    def _token_of(self, own: bytes) -> bytes:
        """`disguise.token_of` one of our URIs. Towards one peer all that have none look the same up to the mark."""
        head = own[:-_MARK_BYTES]
        if head in self._tokenless:
            return b""
        token = disguise.token_of(own)
        if not token and own[-_MARK_BYTES:-MARK_DIGITS] == b";cp=" and len(own) <= _MAX_KEPT_BYTES:
            if len(self._tokenless) >= _MAX_KEPT:
                self._tokenless.clear()
            self._tokenless.add(head)
        return token

    def _preprocess_any(self, request: Request, source: Hop) -> Routing:
        uri = request.request_uri_bytes
        elements = _routes(request) if b"route" in request.shape.first else []
        cut: list[_Element] = []
        changes: list[Change] = []
        marked, token = False, b""
        if b";maddr=" in uri.lower() and (plain := self._without_our_maddr(uri, source)) is not None:
            uri = plain
            changes.append((0, _with_uri(request, uri)))
        if b";cp=" in uri and self._is_marked(request, uri):  # from a strict router: the target is the last Route
            marked, token = True, disguise.token_of(uri)
            if elements:
                cut.append(elements.pop())
                uri = cut[0].uri
                changes.append((0, _with_uri(request, uri)))
        while elements and self.is_own(request, elements[0].uri, source):
            marked = marked or self._is_marked(request, elements[0].uri)
            token = token or disguise.token_of(elements[0].uri)
            cut.append(elements.pop(0))
        next_uri = elements[0].uri if elements else uri
        added: tuple[bytes, ...] = ()
        target = self.next_hop(next_uri) if elements and marked else None
        # §16.6 step 6: a strict router reads the Request-URI alone, and gets none that is none
        if target is not None and not target.is_loose and grammar.SIP_REQUEST_URI.match(next_uri):
            cut.append(elements.pop(0))
            changes = [(0, _with_uri(request, next_uri))]
            added = (b"Route: <" + uri + b">",)
        return Routing([*changes, *_without(request, cut)], next_uri, marked, added, token)

    def is_own(self, request: Request, uri: bytes, source: Hop) -> bool:
        """Is a URI one of ours: it carries our mark of this dialog, or names the address this peer knows us by.

        The mark is what tells after a restart with another address. One that is not ours is another element's: two of
        this kind may stand in one route.
        """
        if self._is_marked(request, uri):
            return True
        target = self.next_hop(uri)
        if target is None:
            return False
        self._prefix(source)
        return (target.host.encode(), target.port) in self._own

    def is_own_sent_by(self, host: bytes, port: int | None, transport: bytes, source: Hop) -> bool:
        """Is the sent-by of a Via one of ours, as this peer or any that was sent to knows us?"""
        self._prefix(source)
        default = DEFAULT_TLS_PORT if transport.upper() == b"TLS" else DEFAULT_PORT
        return (host.strip(b"[]").lower(), port or default) in self._own

    def _without_our_maddr(self, uri: bytes, source: Hop) -> bytes | None:
        """A Request-URI whose `maddr` is ours, without it and what chose us by it (§16.4); None when it is not.

        Only when the request came as the URI says, by that transport and to that port.
        """
        match, target = _NEXT_HOP.match(uri), self.next_hop(uri)
        if match is None or target is None or target.transport != source.transport:
            return None
        self._prefix(source)
        if (target.host.encode(), target.port) not in self._own:
            return None
        end_of_host = match.end(2)
        rest = uri[end_of_host + len(match.group(3)) + 1 :] if match.group(3) else uri[end_of_host:]
        return uri[:end_of_host] + _MADDR_OR_TRANSPORT.sub(b"", rest)

    def next_hop(self, uri: bytes) -> NextHop | None:
        """Read where a sip URI points; None for any other scheme. `maddr` wins over the host (§19.1.1)."""
        try:
            return self._next_hops[uri]
        except KeyError:
            pass
        found = _read_next_hop(uri)
        if len(uri) > 256:
            return found
        if len(self._next_hops) >= _MAX_KEPT:
            self._next_hops.clear()
        self._next_hops[uri] = found
        return found

    def _is_marked(self, request: Request, uri: bytes) -> bool:
        if uri[-_MARK_BYTES:-MARK_DIGITS] == b";cp=":  # as it is written
            given = uri[-MARK_DIGITS:]
        else:
            at = uri.find(b";cp=") + 4
            given, after = uri[at : at + MARK_DIGITS], uri[at + MARK_DIGITS : at + MARK_DIGITS + 1]
            if at < 4 or len(given) < MARK_DIGITS or after not in _AFTER_VALUE:
                return False
        call_id = request.call_id_bytes
        return compare_digest(given, self.mark(call_id, request.from_tag_bytes)) or compare_digest(
            given, self.mark(call_id, request.to_tag_bytes)
        )

    def _prefix(self, hop: Hop) -> tuple[bytes, bytes]:
        """The beginnings of our Via line and of our Record-Route value towards a hop."""
        key: tuple[object, ...] = hop if hop.transport == "udp" else hop[:3]
        found = self._prefixes.get(key)
        if found is None:
            host, port = self._addresses(hop)
            name = f"{bracketed(host)}:{port}"
            found = (
                f"Via: SIP/2.0/{hop.transport.upper()} {name};branch=".encode(),
                f"<sip:{name}{transport_parameter(hop.transport)};lr".encode(),
            )
            self._own.update((host.lower().encode(), each) for each in (port, *self.also_ports))
            if len(self._prefixes) >= _MAX_KEPT:
                self._prefixes.clear()
            self._prefixes[key] = found
        return found


def _as_sips(prefix: bytes) -> bytes:
    """The beginning of our Record-Route value as a sips URI, which needs no transport to be named."""
    return b"<sips:" + prefix.removeprefix(b"<sip:").replace(b";transport=tls", b"")


def _routes(request: Request) -> list[_Element]:
    """Every Route element in order."""
    elements = []
    left = grammar.MAX_ROUTES
    for index, name in enumerate(request.names):
        if name != b"route":
            continue
        line = request.lines[index]
        position = line.index(b":") + 1
        while position < len(line) and left:
            left -= 1
            end = headers.element_end(line, position)
            text = line[position:end]
            opening, closing = text.find(b"<"), text.rfind(b">")
            if 0 <= opening < closing:
                elements.append(_Element(index, position, end, text[opening + 1 : closing].strip()))
            position = end + 1
    return elements


def _without(request: Request, cut: list[_Element]) -> list[Change]:
    """The Route lines that had these elements, with what is left in them; None for one with nothing left."""
    changes: list[Change] = []
    for index in {element.line for element in cut}:
        line = request.lines[index]
        gone = sorted((element.start, element.end) for element in cut if element.line == index)
        kept, position = [], line.index(b":") + 1
        for start, end in [*gone, (len(line), len(line))]:
            kept.append(line[position:start].strip(b", \t\r\n"))
            position = end
        left = b", ".join(part for part in kept if part)
        changes.append((index, b"Route: " + left if left else None))
    return changes


def _with_uri(request: Request, uri: bytes) -> bytes:
    return request.method_bytes + b" " + uri + b" SIP/2.0"


def _read_next_hop(uri: bytes) -> NextHop | None:
    match = _NEXT_HOP.match(uri) if len(uri) <= grammar.MAX_READ_BYTES else None
    if match is None:
        return None
    host = match.group(2).decode("latin-1").lower().strip("[]")
    parameters = {}
    for parameter in grammar.PARAMETER.finditer(match.group(4) or b""):
        parameters[parameter.group(1).lower()] = (parameter.group(2) or b"").lower().decode("latin-1")
    transport = named = parameters.get(b"transport", "")
    if match.group(1):  # sips: TLS over TCP, whatever the parameter says (RFC 3261 §26.2.2, RFC 5630 §3.1.3)
        transport, named = "tls", "sips"
    elif transport not in {"tcp", "tls"}:
        transport = "udp"
        named = named if named == "udp" else ""
    host = parameters.get(b"maddr", host).strip("[]") or host
    default = DEFAULT_TLS_PORT if transport == "tls" else DEFAULT_PORT
    port = int(match.group(3)) if match.group(3) else None
    return NextHop(host, port or default, transport, b"lr" in parameters, (port, named))
