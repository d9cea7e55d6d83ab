"""Typed readings of the header fields a proxy needs, each from the bytes as received (RFC 3261 §20).

A reading takes a whole header line (its folds included, without the last CRLF) and where its value begins. It returns
None when the value breaks the grammar; what that means (400, drop, repair) is the caller's to say.
"""

from typing import Final, TypeVar

from engine.sip import grammar

_T = TypeVar("_T")
MAX_KEPT = 4_096  # readings of one kind; then they are all forgotten
_MAX_KEPT_BYTES = 256  # of a line whose reading is kept


class Via:
    """One element of a Via header; positions count from the beginning of its header line.

    `branch` is b"" when there is none (RFC 2543). `start` to `end` is the element, without a comma that follows it.
    `received_at` is where `received`/`rport` belong: right behind an empty `rport` when there is one (`has_rport`),
    else at the element's end. `sent_by` is host and port in one form: what tells one peer's branches from another's.
    """

    __slots__ = ("branch", "end", "has_rport", "host", "port", "received_at", "sent_by", "start", "transport")

    def __init__(
        self,
        transport: bytes,
        host: bytes,
        port: int | None,
        branch: bytes,
        sent_by: bytes,
        received_at: int,
        start: int,
        end: int,
        *,
        has_rport: bool,
    ) -> None:
        self.transport = transport
        self.host = host
        self.port = port
        self.branch = branch
        self.sent_by = sent_by
        self.has_rport = has_rport
        self.received_at = received_at
        self.start = start
        self.end = end


def keep(store: dict[bytes, _T], line: bytes, value: _T) -> None:
    """Keep the reading of a line that is likely to come again, to a bound."""
    if len(store) >= MAX_KEPT:
        store.clear()
    if len(line) <= _MAX_KEPT_BYTES:
        store[line] = value


_via_heads: Final[dict[bytes, Via]] = {}  # by what stands before the branch; `received_at` is 0 without rport there
_cseqs: Final[dict[bytes, tuple[int, bytes]]] = {}
_numbers: Final[dict[bytes, int]] = {}
_addresses: Final[dict[bytes, bool]] = {}


def top_via(line: bytes) -> Via | None:
    """The first element of a Via line. What stands before the branch is the same in all that a peer sends."""
    head, _, branch = line.partition(b";branch=")
    known = _via_heads.get(head)
    if known is None:
        return _new_top_via(line, head)
    end, has_rport = len(line), known.has_rport
    if branch.endswith(b";rport"):
        branch, has_rport = branch[:-6], True
    if not grammar.is_token(branch):
        return read_via(line, known.start)
    return Via(
        known.transport, known.host, known.port, branch, known.sent_by, known.received_at or end, known.start, end,
        has_rport=has_rport,
    )  # fmt: skip


def _new_top_via(line: bytes, head: bytes) -> Via | None:
    start = line.find(b":") + 1
    plain = grammar.VIA_PLAIN.match(line, start)
    if plain is not None and plain.start(5) == len(head) + 8:
        port, rport_end = int(plain.group(3)) if plain.group(3) else None, plain.end(4) if plain.group(4) else 0
        transport, host = plain.group(1), plain.group(2)
        sent_by = _sent_by(host, port)
        keep(
            _via_heads, head,
            Via(transport, host, port, b"", sent_by, rport_end, start, 0, has_rport=rport_end > 0),
        )  # fmt: skip
    return read_via(line, start)


def cseq_of(line: bytes) -> tuple[int, bytes] | None:
    """`read_cseq` of a whole line."""
    known = _cseqs.get(line)
    if known is None:
        known = read_cseq(line, line.find(b":") + 1)
        if known is not None:
            keep(_cseqs, line, known)
    return known


def number_of(line: bytes) -> int | None:
    """`read_number` of a whole line."""
    known = _numbers.get(line)
    if known is None:
        known = read_number(line, line.find(b":") + 1)
        if known is not None:
            keep(_numbers, line, known)
    return known


def tag_of(line: bytes) -> bytes | None:
    """`read_tag` of a whole line. Within a call the address before the tag comes again and again."""
    address, closing, rest = line.rpartition(b">")
    if closing and address in _addresses:
        if not rest:
            return b""
        tag = rest[5:]
        if rest.startswith(b";tag=") and grammar.is_token(tag):
            return tag
    start = line.find(b":") + 1
    if closing and grammar.ADDRESS_PLAIN.match(line, start):
        keep(_addresses, address, True)
    return read_tag(line, start)


def read_via(line: bytes, start: int) -> Via | None:
    """Read the Via element that begins at `start` of a header line."""
    plain = grammar.VIA_PLAIN.match(line, start)
    if plain is None:
        return _read_any_via(line, start)
    transport, host, digits, rport_before, branch, rport_after = plain.groups()
    end, port = plain.end(), int(digits) if digits else None
    return Via(
        transport, host, port, branch, _sent_by(host, port), plain.end(4) if rport_before else end, start, end,
        has_rport=bool(rport_before or rport_after),
    )  # fmt: skip


def _sent_by(host: bytes, port: int | None) -> bytes:
    return host.lower() if port is None else b"%b:%d" % (host.lower(), port)


def _read_any_via(line: bytes, start: int) -> Via | None:
    match = grammar.VIA.match(line, start) if len(line) <= grammar.MAX_READ_BYTES else None
    if match is None:
        return None
    branch, has_rport, received_at = b"", False, match.end(4)
    for parameter in grammar.PARAMETER.finditer(line, match.start(4), match.end(4)):
        name = parameter.group(1).lower()
        if name == b"branch":
            branch = parameter.group(2) or b""
        elif name == b"rport" and not parameter.group(2):
            has_rport, received_at = True, parameter.end(1)
    host, port = match.group(2), int(match.group(3)) if match.group(3) else None
    return Via(
        match.group(1), host, port, branch, _sent_by(host, port), received_at, start, match.end(4),
        has_rport=has_rport,
    )  # fmt: skip


def read_cseq(line: bytes, start: int) -> tuple[int, bytes] | None:
    """The number (any size up to 20 digits) and the method of a CSeq value."""
    match = grammar.CSEQ.match(line, start)
    if match is None or match.end(1) - match.start(1) > 20:  # int() of thousands of digits takes its time
        return None
    return int(match.group(1)), match.group(2)


def read_number(line: bytes, start: int) -> int | None:
    """Max-Forwards or Content-Length: digits alone, at most ten of them."""
    match = grammar.DIGITS.match(line, start)
    if match is None or match.end(1) - match.start(1) > 10:
        return None
    return int(match.group(1))


def read_tag(line: bytes, start: int) -> bytes | None:
    """The tag of a From or To value: b"" when it has none, None when the value itself breaks the grammar."""
    plain = grammar.ADDRESS_PLAIN.match(line, start)
    if plain is not None:
        return plain.group(1) or b""
    match = grammar.ADDRESS.match(line, start) if len(line) <= grammar.MAX_READ_BYTES else None
    if match is None:
        return None
    for parameter in grammar.PARAMETER.finditer(line, match.start(1), match.end(1)):
        if parameter.group(1).lower() == b"tag":
            return parameter.group(2) or b""
    return b""


def unfold(value: bytes) -> bytes:
    """A header value on one line (RFC 3261 §7.3.1), stripped."""
    if value.find(b"\r\n") >= 0:
        value = grammar.FOLD.sub(b" ", value)
    return value.strip(b" \t")


def element_end(line: bytes, start: int) -> int:
    """Where the element of a comma-joined value that begins at `start` ends."""
    match = grammar.ELEMENT.match(line, start)
    return match.end() if match else start
