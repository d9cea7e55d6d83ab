"""What a proxy must refuse before it asks where to (RFC 3261 §16.3, steps 2 to 5)."""

from typing import NamedTuple

from engine.sip.dialog import Dialogs
from engine.sip.events import RefusedBecause
from engine.sip.forward import Hop
from engine.sip.headers import element_end, read_via
from engine.sip.message import Request

KNOWN_SCHEMES = frozenset({b"sip", b"sips", b"tel", b"urn"})


class Refusal(NamedTuple):
    """The answer that is due, and why. `headers` go into it."""

    status: int
    detail: str
    because: RefusedBecause
    headers: tuple[tuple[str, str], ...] = ()


def refusal_of(request: Request, source: Hop, loop: bytes, dialogs: Dialogs) -> Refusal | None:
    """None for a request that may go on. `loop` is what our branch would end in."""
    if request.scheme not in KNOWN_SCHEMES:
        return Refusal(416, f"the scheme {request.scheme[:20].decode()} is not known here", "scheme")
    if request.max_forwards == 0 and not _is_asked_of_us(request, source, dialogs):
        return Refusal(483, "Max-Forwards is used up", "max_forwards")
    if request.raw.find(loop, 0, request.body_start) >= 0 and _is_loop(request, source, loop, dialogs):
        return Refusal(482, "the request came back unchanged", "loop")
    if b"proxy-require" in request.shape.first:
        wanted = ", ".join(request.headers("Proxy-Require"))
        return Refusal(420, f"Proxy-Require: {wanted[:80]}", "proxy_require", (("Unsupported", wanted),))
    return None


def _is_asked_of_us(request: Request, source: Hop, dialogs: Dialogs) -> bool:
    """An OPTIONS to our own address, by which a peer asks whether we live: step 3 lets us be its end."""
    is_alone = request.method == "OPTIONS" and not request.to_tag_bytes
    return is_alone and dialogs.is_own(request, request.request_uri_bytes, source)


def _is_loop(request: Request, source: Hop, loop: bytes, dialogs: Dialogs) -> bool:
    """A Via of ours whose branch ends in what this request would get (step 4)."""
    for index, name in enumerate(request.names):
        if name != b"via":
            continue
        line = request.lines[index]
        position = line.index(b":") + 1
        while position < len(line) and line[position - 1 : position] in b":,":  # else what follows is no Via
            via = read_via(line, position)
            if (
                via is not None
                and via.branch.endswith(loop)
                and dialogs.is_own_sent_by(via.host, via.port, via.transport, source)
            ):
                return True
            position = element_end(line, position) + 1
    return False
