"""A dialog that looks different behind us: another From, and CSeq numbers of its own (RFC 3261 §22.2 makes one of them
necessary: a challenged request goes out again with a higher number, of which its sender must not learn). Pure.

Nothing is remembered: what it takes to undo a change travels in our Record-Route URI (`;cu=`), which both sides bring
back in Route, as Kamailio's `uac` does with `vsf`. It is sealed under a key of ours and bound to the Call-ID and the
caller's tag, so that neither side can read or change it, and it outlives a restart.

Numbers: the caller's INVITE `n` goes out as `n`, then `n + 1` when it was challenged, or when the same server is asked
again without a location (it would take the same number for a merged request, §8.2.2.2); the caller's later requests
`n + k` go out as `n + 4k`, which leaves room for each to be challenged in its turn.
"""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass
from hashlib import blake2s

from engine.sip import grammar, headers
from engine.sip.auth import Credentials, answer, read_challenges
from engine.sip.edit import Change, Routing
from engine.sip.message import Request, Response

MAX_PROOFS = 2  # of one try
MAX_REPEATS = 3  # of one request with a higher number; SPACING leaves room for them
SPACING = 4
MAX_NAME_BYTES = 250  # of one address: a longer display name is left out of what is kept, not of the call
MAX_TOKEN_BYTES = 800
_TAG_BYTES = 12
_TOKEN = re.compile(rb";cu=([A-Za-z0-9_\-]{16,%d})(?=[;>?]|$)" % MAX_TOKEN_BYTES)
_RACK = re.compile(rb"(\s*\d{1,10}\s+)(\d{1,10})(\s+\S+\s*)$")

Restore = tuple[tuple[bytes, bytes], ...]
"""(canonical header name, the line as its sender wrote it) to be put back into every response."""


@dataclass(frozen=True, slots=True)
class Disguise:
    """How a dialog differs behind us.

    Args:
        trunk: whose credentials answer a challenge inside the dialog; "" for nobody's.
        cseq: number of the caller's INVITE; 0: numbers are left alone.
        repeats: how often that INVITE went out again with a higher number.
        caller: the caller's own address, as its From has it, without parameters; b"" when From is left alone.
        shown: the address that stands there instead.
    """

    trunk: str = ""
    cseq: int = 0
    repeats: int = 0
    caller: bytes = b""
    shown: bytes = b""


def disguise_of(request: Request, shown: str | None, trunk: str, *, is_numbered: bool) -> Disguise:
    """The disguise of a new dialog or lone request.

    `shown`: the From it gets, None to leave it; `trunk`: see `Disguise`; `is_numbered`: may it go out more than once to
    the same server?
    """
    line = request.lines[request.shape.from_]
    caller, _ = split_address(line)
    is_shown = shown is not None and bool(caller) and len(shown) <= MAX_NAME_BYTES
    return Disguise(
        trunk=trunk,
        cseq=request.cseq_number if is_numbered else 0,
        caller=_bounded(caller) if is_shown else b"",
        shown=(shown or "").encode("utf-8", "surrogateescape") if is_shown else b"",
    )


def dress(
    request: Request, routing: Routing, disguise: Disguise, *, is_caller: bool, ahead: int = 0
) -> tuple[Routing, Restore]:
    """The request's lines as the other side of the dialog knows them, and what its responses need undone.

    `ahead`: how often this very request went out before; each time its number is one higher.
    """
    changes: list[Change] = []
    restore: list[tuple[bytes, bytes]] = []
    shape, lines = request.shape, request.lines
    side, index = (b"from", shape.from_) if is_caller else (b"to", shape.to)
    if disguise.shown:
        changes.append((index, with_address(lines[index], disguise.shown if is_caller else disguise.caller)))
        restore.append((side, lines[index]))
    number = sent_number(disguise, request.cseq_number, ahead) if is_caller else request.cseq_number
    if number != request.cseq_number:
        changes.append((shape.cseq, b"CSeq: %d %s" % (number, request.method_bytes)))
        restore.append((b"cseq", lines[shape.cseq]))
    rack = shape.first.get(b"rack") if is_caller and disguise.cseq else None
    if rack is not None:
        changes.append((rack, _with_rack(lines[rack], disguise)))
    return (routing._replace(changes=[*routing.changes, *changes]) if changes else routing), tuple(restore)


def sent_number(disguise: Disguise, number: int, ahead: int = 0) -> int:
    """The CSeq behind us of the caller's request `number`."""
    if not disguise.cseq or number < disguise.cseq:
        return number + ahead
    if number == disguise.cseq:
        return number + max(disguise.repeats, ahead)
    return disguise.cseq + SPACING * (number - disguise.cseq) + ahead


def undress(data: bytes, response: Response, restore: Restore) -> bytes:
    """A forwarded response with the lines its receiver wrote itself."""
    for name, line in restore:
        index = response.shape.first.get(name)
        if index is not None:
            data = data.replace(b"\r\n" + response.lines[index] + b"\r\n", b"\r\n" + line + b"\r\n", 1)
    return data


# --- challenges -------------------------------------------------------------------------------------------------------


def proof_lines(
    response: Response, sent: bytes, credentials: Credentials, *, cnonce: str, proofs: int, ahead: int
) -> tuple[bytes, ...]:
    """Header lines that answer the challenges to a request as it was sent; () when nothing we say would help.

    `proofs`: how many challenges were answered for it; a second time only where the first answer was right but stale.
    """
    challenges = read_challenges(response)
    is_new = proofs == 0 or (proofs < MAX_PROOFS and any(challenge.is_stale for challenge in challenges))
    if not is_new or ahead >= MAX_REPEATS:
        return ()
    start, _, body = sent.partition(b"\r\n\r\n")
    method, uri = start.partition(b"\r\n")[0].decode("utf-8", "surrogateescape").split(" ", 2)[:2]
    lines = (answer(each, credentials, method, uri, cnonce=cnonce, body=body) for each in challenges)
    return tuple(f"{name}: {value}".encode("utf-8", "surrogateescape") for name, value in lines)


def with_proof(request: Request, routing: Routing, proof: tuple[bytes, ...]) -> Routing:
    """The routing with our answers in it, in the place of any the sender gave: those were for somebody else."""
    theirs = [(at, None) for at, name in enumerate(request.names) if name in grammar.PROOF_NAMES]
    return routing._replace(changes=[*routing.changes, *theirs], added=(*routing.added, *proof))


# --- addresses --------------------------------------------------------------------------------------------------------


def split_address(line: bytes) -> tuple[bytes, bytes]:
    """A From or To line's address and, behind it, its parameters; (b"", b"") when it cannot be read."""
    start = line.index(b":") + 1
    match = grammar.ADDRESS.match(line, start) if len(line) <= grammar.MAX_READ_BYTES else None
    if match is None:
        return b"", b""
    return headers.unfold(line[start : match.start(1)]), line[match.start(1) :]


def with_address(line: bytes, address: bytes) -> bytes:
    """The line with another address and its own parameters; bare addresses get brackets, or the parameters would
    become the URI's.
    """
    known, parameters = split_address(line)
    if not known:
        return line
    bare = address if address.endswith(b">") else b"<" + address + b">"
    return line[: line.index(b":") + 1] + b" " + bare + parameters


def _bounded(address: bytes) -> bytes:
    """An address short enough to travel: without its display name when that is too long."""
    if len(address) <= MAX_NAME_BYTES:
        return address
    opening = address.rfind(b"<")
    short = address[opening:] if opening >= 0 else address
    return short if len(short) <= MAX_NAME_BYTES else b"<sip:caller@callpoint.invalid>"


def _with_rack(line: bytes, disguise: Disguise) -> bytes:
    """RFC 3262 §7.2: the number of the request that the provisional response answered."""
    start = line.index(b":") + 1
    match = _RACK.match(line, start)
    if match is None:
        return line
    return line[:start] + match.group(1) + b"%d" % sent_number(disguise, int(match.group(2))) + match.group(3)


# --- what travels in Record-Route -------------------------------------------------------------------------------------


def token_of(uri: bytes) -> bytes:
    """The `cu` parameter of one of our Route URIs, b"" when it has none."""
    match = _TOKEN.search(uri) if b";cu=" in uri else None
    return match.group(1) if match is not None else b""


def seal(key: bytes, disguise: Disguise, call_id: bytes, caller_tag: bytes) -> bytes:
    """The disguise as a URI parameter's value: a MAC that is also the start of its cipher's stream (RFC 5297)."""
    plain = b"\0".join(
        (
            b"%d" % disguise.cseq,
            b"%d" % disguise.repeats,
            disguise.trunk.encode(),
            disguise.caller.replace(b"\0", b""),
            disguise.shown.replace(b"\0", b""),
        )
    )
    tag = _tag(key, plain, call_id, caller_tag)
    return urlsafe_b64encode(tag + _ciphered(key, tag, plain)).rstrip(b"=")


def open_sealed(key: bytes, token: bytes, call_id: bytes, caller_tag: bytes) -> Disguise | None:
    """None: not ours, changed, or of another dialog."""
    try:
        sealed = urlsafe_b64decode(token + b"=" * (-len(token) % 4))
    except (NotBase64, ValueError):
        return None
    tag = sealed[:_TAG_BYTES]
    plain = _ciphered(key, tag, sealed[_TAG_BYTES:])
    if not hmac.compare_digest(tag, _tag(key, plain, call_id, caller_tag)):
        return None
    cseq, repeats, trunk, caller, shown = plain.split(b"\0")
    return Disguise(trunk.decode(), int(cseq), int(repeats), caller, shown)


def opened(key: bytes, token: bytes, request: Request) -> tuple[Disguise, bool] | None:
    """The disguise of the dialog a request belongs to, and whether its sender is the caller."""
    for tag, is_caller in ((request.from_tag_bytes, True), (request.to_tag_bytes, False)):
        disguise = open_sealed(key, token, request.call_id_bytes, tag)
        if disguise is not None:
            return disguise, is_caller
    return None


def key_of(mark_key: bytes) -> bytes:
    """The key of disguises, made from that of the marks."""
    return blake2s(mark_key, person=b"disguise").digest()


def _tag(key: bytes, plain: bytes, call_id: bytes, caller_tag: bytes) -> bytes:
    text = b"\0".join((call_id, caller_tag, plain))
    return blake2s(text, key=key, digest_size=_TAG_BYTES, person=b"tag").digest()


def _ciphered(key: bytes, tag: bytes, text: bytes) -> bytes:
    stream = b"".join(
        blake2s(tag + b"%d" % block, key=key, person=b"stream").digest() for block in range(len(text) // 32 + 1)
    )
    return bytes(one ^ other for one, other in zip(text, stream, strict=False))
