"""Making an emergency request readable that is not quite SIP (design: it is forwarded whenever Request-URI, top Via,
From, To, Call-ID and CSeq can be read, or be made up without a doubt which call it is).

Only requests of trusted peers that name an emergency service, or belong to a call that left, come here after the parser
refused them, and responses, which count only when they answer such a request. What a peer could stumble over is put
right in a copy, each change is named in `faults`, and the copy is read again by the same parser: nothing downstream has
to know of leniency.
"""

import re
import zlib

from engine.sip import grammar, headers
from engine.sip.message import BadMessage, Request, Response, canonical_name, parse_message

REPAIRED_MAX_FORWARDS = 20  # less than the usual 70: a message this odd may already be going round
_LINE_ENDS_AS_SPACES = bytes.maketrans(b"\r\n", b"  ")

_SPACES = re.compile(rb"[ \t]+")
_URI = re.compile(rb"(?<![A-Za-z0-9+.\-])(?:sips?|tel|urn):[^\s<>\"]++", re.IGNORECASE)
_TAG = re.compile(rb";[ \t]*+tag[ \t]*+=[ \t]*+([" + grammar.TOKEN_CHARACTERS + rb"]++)", re.IGNORECASE)
_ANONYMOUS = b"sip:anonymous@anonymous.invalid"  # RFC 3323 §4.1.1.3
_FIRST_METHODS = frozenset({b"INVITE", b"ACK", b"CANCEL", b"MESSAGE"})
_SINGLE = frozenset({b"from", b"to", b"call-id", b"cseq", b"max-forwards", b"content-length"})


def repair(data: bytes) -> Request | Response | None:
    """A forwardable reading of a message that `parse_message` refused; None when there is none."""
    if len(data) > grammar.MAX_MESSAGE_BYTES:
        return None
    faults: list[str] = []
    head, body = _split(data.lstrip(b"\r\n"), faults)
    if head.count(b"\n") > grammar.MAX_LINES:
        return None
    first, *lines = head.split(b"\r\n")
    start_line = first if grammar.is_response(first) else _start_line(first, faults)
    if start_line is None:
        return None
    fields = _fields(lines, faults)
    method, uri = b"", b""
    if not grammar.is_response(first):
        method, uri, _ = start_line.split(b" ")
        fields += _missing(fields, method, uri, faults)
    repaired = _rewritten(fields, method, uri, body, faults)
    try:
        message = parse_message(
            start_line + b"\r\n" + b"".join(repaired) + b"\r\n" + body, cseq_limit=grammar.LENIENT_CSEQ
        )
    except BadMessage:
        return None
    message.faults = tuple(faults)
    return message


def _split(data: bytes, faults: list[str]) -> tuple[bytes, bytes]:
    """Head and body; line ends made CRLF, those that stand alone made spaces."""
    if b"\r\n" not in data:
        faults.append("line ends without CR")
        head, _, body = data.partition(b"\n\n")
        head = head.replace(b"\n", b"\r\n")
    else:
        head, separator, body = data.partition(b"\r\n\r\n")
        if not separator:
            faults.append("no empty line after the headers")
            head = head.rstrip(b"\r\n")
    plain = head.replace(b"\0", b" ")
    if plain != head:
        faults.append("a NUL in the headers")
    head = plain.replace(b"\r\n", b"\0").translate(_LINE_ENDS_AS_SPACES).replace(b"\0", b"\r\n")
    if head != plain:
        faults.append("a bare CR or LF in the headers")
    return head, body


def _start_line(line: bytes, faults: list[str]) -> bytes | None:
    if len(line) > grammar.MAX_READ_BYTES:
        return None
    words = _SPACES.split(line.strip(b" \t"))
    if len(words) < 2 or grammar.TOKEN.fullmatch(words[0]) is None:
        return None
    last = words.pop() if grammar.VERSION.match(words[-1]) else b""
    uri = b"".join(words[1:]).strip(b"<>")
    if uri[:3].lower() == b"sip":
        uri = _without_headers(uri)
    repaired = b" ".join((words[0], uri, grammar.OUR_VERSION))
    if last != grammar.OUR_VERSION or repaired != line:
        faults.append("start line")
    return repaired


def _without_headers(uri: bytes) -> bytes:
    userinfo, at, host = uri.rpartition(b"@")
    return userinfo + at + host.partition(b"?")[0]


def _fields(lines: list[bytes], faults: list[str]) -> list[tuple[bytes, bytes]]:
    """(canonical name, line with its folded continuations), without what is no header and without repetitions."""
    fields: list[tuple[bytes, bytes]] = []
    seen: set[bytes] = set()
    is_kept = False
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            if is_kept:
                name, so_far = fields[-1]
                fields[-1] = (name, so_far + b"\r\n" + line)
            continue
        spelling, colon, _ = line.partition(b":")
        name = spelling.rstrip(b" \t")
        key = canonical_name(name.decode("latin-1"))
        is_kept = bool(colon) and grammar.TOKEN.fullmatch(name) is not None and not (key in _SINGLE and key in seen)
        if not is_kept or len(fields) >= grammar.MAX_HEADERS - 2:
            is_kept = False
            faults.append(f"header left out: {line[:40]!r}")
            continue
        seen.add(key)
        fields.append((key, line))
    return fields


def _missing(
    fields: list[tuple[bytes, bytes]], method: bytes, uri: bytes, faults: list[str]
) -> list[tuple[bytes, bytes]]:
    """The headers that every request must have and this one has not.

    What is made up is the same in all requests of a call, so that its ACK and BYE find it too: the tag comes of the
    Call-ID, the Call-ID of the tag. Of a request with neither nothing tells which call it belongs to.
    """
    known = dict(fields)
    tag = headers.tag_of(known[b"from"]) if b"from" in known else None
    added: list[tuple[bytes, bytes]] = []
    if b"to" not in known:
        added.append((b"to", b"To: <" + uri + b">"))
    if b"from" not in known and b"call-id" in known:
        added.append((b"from", b"From: <" + _ANONYMOUS + b">;tag=%08x" % zlib.crc32(_value(known[b"call-id"]))))
    if b"call-id" not in known and tag:
        added.append((b"call-id", b"Call-ID: %08x" % zlib.crc32(tag) + b"@anonymous.invalid"))
    if b"cseq" not in known:  # a BYE comes behind its INVITE (RFC 3261 §12.2.1.1)
        added.append((b"cseq", b"CSeq: %d " % (1 if method in _FIRST_METHODS else 2) + method))
    faults.extend(f"header put in: {line[:40]!r}" for _, line in added)
    return added


def _value(line: bytes) -> bytes:
    return headers.unfold(line.partition(b":")[2])


def _address(line: bytes, otherwise: bytes) -> bytes:
    """A From or To line that can be read. Of one whose quotes or brackets do not close only the URI and the tag are
    left; `otherwise` is its URI when it has none.
    """
    if headers.tag_of(line) is not None:
        return line
    spelling, _, value = line.partition(b":")
    value = headers.unfold(value)[: grammar.MAX_READ_BYTES]
    uris, tags = _URI.findall(value), _TAG.findall(value)
    uri = uris[-1] if uris else otherwise
    begin = uri.lower().find(b";tag=")
    uri = uri[:begin] if begin > 0 else uri
    return spelling + b": <" + uri + b">" + (b";tag=" + tags[-1] if tags else b"")


def _rewritten(
    fields: list[tuple[bytes, bytes]], method: bytes, uri: bytes, body: bytes, faults: list[str]
) -> list[bytes]:
    """Header lines with From, To, Max-Forwards, Content-Length and the CSeq method put right."""
    repaired = []
    for name, line in fields:
        value = line.partition(b":")[2]
        better = line
        if name == b"max-forwards" and not _is_number(value, grammar.MAX_MAX_FORWARDS):
            better = b"Max-Forwards: %d" % REPAIRED_MAX_FORWARDS
        elif name == b"content-length" and not _is_number(value, len(body)):
            better = b"Content-Length: %d" % len(body)
        elif name == b"from" or (name == b"to" and uri):
            better = _address(line, _ANONYMOUS if name == b"from" else uri)
        elif name == b"cseq":
            match = grammar.CSEQ.match(value)
            if match is not None and method and match.group(2) != method:
                better = b"CSeq: " + match.group(1) + b" " + method
        if better is not line:
            faults.append(f"{name.decode()} {value.strip()[:40]!r}")
        repaired.append(better + b"\r\n")
    return repaired


def _is_number(value: bytes, most: int) -> bool:
    match = grammar.DIGITS.match(value)
    return match is not None and match.end(1) - match.start(1) <= 10 and int(match.group(1)) <= most
