"""Typed readings of the header fields a proxy needs, each from the bytes as received (RFC 3261 §20).

A reading takes a whole header line (its folds included, without the last CRLF) and where its value begins. It returns
None when the value breaks the grammar; what that means (400, drop, repair) is the caller's to say.
"""

from typing import NamedTuple, TypeVar

from engine.sip import grammar

_T = TypeVar("_T")
MAX_KEPT = 4_096  # readings of one kind; then they are all forgotten
_MAX_KEPT_BYTES = 256  # of a line whose reading is kept


class Via(NamedTuple):
    """One element of a Via header; positions count from the beginning of its header line.

    `branch` is b"" when there is none (RFC 2543). `start` to `end` is the element, without a comma that follows it.
    `received_at` is where `received`/`rport` belong: right behind an empty `rport` when there is one (`has_rport`),
    else at the element's end.
    """

    transport: bytes
    host: bytes
    port: int | None
    branch: bytes
    has_rport: bool
    received_at: int
    start: int
    end: int


def keep(store: dict[bytes, _T], line: bytes, value: _T) -> None:
    """Keep the reading of a line that is likely to come again, to a bound."""
    if len(store) >= MAX_KEPT:
        store.clear()
    if len(line) <= _MAX_KEPT_BYTES:
        store[line] = value


_via_heads: dict[bytes, tuple[bytes, bytes, int | None, int, int]] = {}
_cseqs: dict[bytes, tuple[int, bytes]] = {}
_numbers: dict[bytes, int] = {}
_addresses: dict[bytes, bool] = {}
_NEW = tuple.__new__  # half the cost of a named tuple's own


def top_via(line: bytes) -> Via | None:
    """The first element of a Via line. What stands before the branch is the same in all that a peer sends."""
    head, _, branch = line.partition(b";branch=")
    known = _via_heads.get(head)
    if known is None:
        return _new_top_via(line, head)
    transport, host, port, start, rport_end = known
    end = len(line)
    has_rport = rport_end > 0
    rest = branch.translate(None, grammar.TOKEN_BYTES)
    if rest == b";" and branch.endswith(b";rport"):
        branch, has_rport = branch[:-6], True
    elif rest:
        return read_via(line, start)
    if not branch:
        return read_via(line, start)
    return _NEW(Via, (transport, host, port, branch, has_rport, rport_end or end, start, end))


def _new_top_via(line: bytes, head: bytes) -> Via | None:
    start = line.find(b":") + 1
    plain = grammar.VIA_PLAIN.match(line, start)
    if plain is not None and plain.start(5) == len(head) + 8:
        port, rport_end = plain.group(3), plain.end(4) if plain.group(4) else 0
        keep(_via_heads, head, (plain.group(1), plain.group(2), int(port) if port else None, start, rport_end))
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
        if tag and rest.startswith(b";tag=") and not tag.translate(None, grammar.TOKEN_BYTES):
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
    transport, host, port, rport_before, branch, rport_after = plain.groups()
    end = plain.end()
    return Via(
        transport, host, int(port) if port else None, branch, bool(rport_before or rport_after),
        plain.end(4) if rport_before else end, start, end,
    )  # fmt: skip


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
    port = match.group(3)
    return Via(
        match.group(1), match.group(2), int(port) if port else None, branch, has_rport, received_at,
        start, match.end(4),
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
