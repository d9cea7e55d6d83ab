"""Making an emergency request readable that is not quite SIP (design: it is forwarded whenever Request-URI, top Via,
From, To, Call-ID and CSeq can be read, or be made up without a doubt which call it is). Who is dialled is read; at
which host matters to nobody, for the trunk's stands there when it leaves.

Only requests of trusted peers that name an emergency service, or belong to a call that left, come here after the parser
refused them, and responses, which count only when they answer such a request. What a peer could stumble over is put
right in a copy, each change is named in `faults`, and the copy is read again by the same parser: nothing downstream has
to know of leniency.
"""

import itertools
import re
import zlib

from engine.sip import grammar, headers
from engine.sip.forward import Hop
from engine.sip.message import METHODS, BadMessage, Request, Response, canonical_name, parse_message

_MAX_TOLD = 20  # headers left out that are named one by one
REPAIRED_MAX_FORWARDS = 20  # less than the usual 70: a message this odd may already be going round
_LINE_ENDS_AS_SPACES = bytes.maketrans(b"\r\n", b"  ")

_SPACES = re.compile(rb"[ \t]+")
_URI = re.compile(rb"(?<![A-Za-z0-9+.\-])(?:sips?|tel|urn):[^\s<>\"]++", re.IGNORECASE)
_TAG = re.compile(rb";[ \t]*+tag[ \t]*+=[ \t]*+([" + grammar.TOKEN_CHARACTERS + rb"]++)", re.IGNORECASE)
_ANONYMOUS = b"sip:anonymous@anonymous.invalid"  # RFC 3323 §4.1.1.3
_FIRST_METHODS = frozenset({b"INVITE", b"ACK", b"CANCEL", b"MESSAGE"})
_SINGLE = frozenset({b"from", b"to", b"call-id", b"cseq", b"max-forwards", b"content-length"})
_NEEDED = _SINGLE | {b"via", b"contact", b"content-type"}  # the first of each is kept however many headers there are
_NEEDED_LINE = re.compile(
    rb"\r\n((?=[cfilmtv])(?:from|f|to|t|call-id|i|cseq|via|v|contact|m|content-type|c|max-forwards|content-length|l)"
    rb"[ \t]*+:[^\r\n]*+)",
    re.IGNORECASE,
)
_MAX_LATE = 32  # of those
_MAX_OTHERS = 200  # with what is added on the way still no more than `MAX_HEADERS`
_NO_HOST = b"callpoint.invalid"  # of a Request-URI whose own cannot be read (RFC 2606)
_HOST = re.compile(grammar.HOST)
_USER_END = re.compile(rb"[;@?]")
_BRANCH = re.compile(rb";[ \t]*+branch[ \t]*+=[ \t]*+([" + grammar.TOKEN_CHARACTERS + rb"]++)", re.IGNORECASE)


def repair(data: bytes, source: Hop | None = None) -> Request | Response | None:
    """A forwardable reading of a message that `parse_message` refused; None when there is none. `source`: where it
    came from, and where the answers to a request go whose Via cannot be read.
    """
    if len(data) > grammar.MAX_MESSAGE_BYTES:
        return None
    faults: list[str] = []
    head, body = _split(data.lstrip(b"\r\n"), faults)
    first, *lines = head.split(b"\r\n", grammar.MAX_LINES)
    if len(lines) == grammar.MAX_LINES:
        lines[-1:] = _needed_of(lines[-1], faults)
    start_line = first if grammar.is_response(first) else _start_line(first, faults)
    if start_line is None:
        return None
    fields = _fields(lines, faults)
    method, uri = b"", b""
    if not grammar.is_response(first):
        method, uri, _ = start_line.split(b" ")
        if source is not None:
            _put_via(fields, source, faults)
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


def dialed(data: bytes) -> tuple[str, str] | None:
    """Method and Request-URI as far as the first line of what is no SIP request names any; None when it does not."""
    line = data[: grammar.MAX_READ_BYTES].lstrip(b"\r\n").partition(b"\n")[0].rstrip(b"\r")
    if grammar.is_response(line) or (mended := _start_line(line, [])) is None:
        return None
    method, uri, _ = mended.split(b" ")
    return method.decode("latin-1"), uri.decode("utf-8", "surrogateescape")


def _start_line(line: bytes, faults: list[str]) -> bytes | None:
    if len(line) > grammar.MAX_READ_BYTES:
        line = _shortened(line)
    words = _SPACES.split(line.strip(b" \t"))
    if len(words) < 2 or grammar.TOKEN.fullmatch(words[0]) is None:
        return None
    method = words[0].upper() if words[0].upper() in METHODS else words[0]
    last = words.pop() if grammar.VERSION.match(words[-1]) else b""
    uri = b"".join(words[1:])
    if b"<" in uri:  # `"Emergency" <sip:911@host>`
        uri = uri.rpartition(b"<")[2]
    uri = uri.partition(b">")[0].replace(b'"', b"")  # nor does a quote belong to anybody's number
    repaired = b" ".join((method, _request_uri(uri), grammar.OUR_VERSION))
    if last != grammar.OUR_VERSION or repaired != line:
        faults.append("start line")
    return repaired


def _shortened(line: bytes) -> bytes:
    """A start line longer than is read: the method and who is called, without parameters or host."""
    method, _, uri = line[: grammar.MAX_READ_BYTES // 2].partition(b" ")
    return b" ".join((method, _USER_END.split(uri, 1)[0] + b"@" + _NO_HOST, grammar.OUR_VERSION))


def _request_uri(uri: bytes) -> bytes:
    """A Request-URI that can be read, and that names the same user: up to the first `@`, as it is classified. Headers
    are cut off, a missing scheme is put in; of a host that cannot be read another stands.
    """
    named = grammar.REQUEST_URI.match(uri)
    if named is None:  # "911", "911@host", "911@host:5060"
        uri = b"sip:" + uri
    elif named.group(1).lower() not in {b"sip", b"sips"}:
        return uri
    scheme, _, rest = uri.partition(b":")
    user, at, host = rest.partition(b"@")
    if not at:
        user, host = b"", rest
    mended = scheme + b":" + user + at + host.partition(b"?")[0]
    if grammar.SIP_REQUEST_URI.match(mended):
        return mended
    readable = _HOST.match(host)
    return scheme + b":" + user + at + (readable.group() if readable else _NO_HOST)


def _fields(lines: list[bytes], faults: list[str]) -> list[tuple[bytes, bytes]]:
    """(canonical name, line with its folded continuations), without what is no header and without repetitions. Of more
    than anybody sends, those are kept that a request cannot do without.
    """
    fields: list[tuple[bytes, bytes]] = []
    seen: set[bytes] = set()
    is_kept, others, left_out = False, 0, 0
    for number, line in enumerate(lines):
        if line[:1] in (b" ", b"\t"):
            if is_kept and number < grammar.MAX_LINES - grammar.MAX_HEADERS:
                name, so_far = fields[-1]
                fields[-1] = (name, so_far + b"\r\n" + line)
            continue
        key = _name_of(line)
        is_first = key in _NEEDED and key not in seen
        is_kept = bool(key) and (is_first or (key not in _SINGLE and others < _MAX_OTHERS))
        if is_kept:
            seen.add(key)
            fields.append((key, line))
            others += not is_first
        elif left_out < _MAX_TOLD:
            faults.append(f"header left out: {line[:40]!r}")
        left_out += not is_kept
    if left_out > _MAX_TOLD:
        faults.append(f"headers left out: {left_out}")
    return fields


def _needed_of(rest: bytes, faults: list[str]) -> list[bytes]:
    """Behind more lines than anybody sends: those that a request cannot do without."""
    faults.append(f"expected at most {grammar.MAX_LINES} header lines")
    return [match.group(1) for match in itertools.islice(_NEEDED_LINE.finditer(b"\r\n" + rest), _MAX_LATE)]


def _name_of(line: bytes) -> bytes:
    """A header line's canonical name, b"" when it is none."""
    spelling, colon, _ = line.partition(b":")
    name = spelling.rstrip(b" \t")
    return canonical_name(name.decode("latin-1")) if colon and grammar.TOKEN.fullmatch(name) else b""


def _put_via(fields: list[tuple[bytes, bytes]], source: Hop, faults: list[str]) -> None:
    """Where the top Via cannot be read, one that leads back to where the request came from stands for it. Its branch
    is kept where there is one; without, the request is matched as one of RFC 2543.
    """
    at = next((index for index, (name, _) in enumerate(fields) if name == b"via"), None)
    line = fields[at][1] if at is not None else b"Via:"
    if headers.top_via(line) is not None:
        return
    end = headers.element_end(line, line.index(b":") + 1)
    element, behind = line[:end], line[end:]
    ip = source.ip.partition("%")[0]
    host = f"[{ip}]" if ":" in ip else ip
    via = f"Via: SIP/2.0/{source.transport.upper()} {host}:{source.port}".encode()
    if branch := _BRANCH.search(element):
        via += b";branch=" + branch.group(1)
    faults.append(f"top Via {element[:40]!r}")
    via += behind if behind.startswith(b",") and headers.read_via(behind, 1) else b""
    if at is None:
        fields.insert(0, (b"via", via))
    else:
        fields[at] = (b"via", via)


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
