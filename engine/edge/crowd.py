"""More calls than the SIP process can carry: which requests are emergencies, and how the others are refused. Pure."""

import zlib
from collections.abc import Callable
from functools import lru_cache

from engine.e911 import dial
from engine.e911.location import AccountTable
from engine.e911.peers import Peers
from engine.sip import edit
from engine.sip.forward import Hop
from engine.sip.message import BadMessage, Request, parse_message
from engine.sip.reply import reply_hop


def names_emergency(uri: bytes, account: AccountTable) -> bool:
    """By a Request-URI alone, as its PBX's account dials; one that names nobody may name an emergency in To."""
    text = _text(uri)
    return dial.classify(text, "", account.number_plan).is_emergency or not dial.names_user(text)


def is_emergency_from(peers: Peers, uri: bytes, hop: Hop) -> bool:
    """The same by who sent it; a carrier calls nobody by us but who called 911."""
    peer = peers.at(hop)
    return names_emergency(uri, peer[0]) if peer is not None else peers.is_trunk(hop)


def refusal(data: bytes, source: Hop, is_known: Callable[[Request], bool]) -> tuple[bytes, Hop] | None:
    """A 503 without a transaction, at a fifth of what a call costs, and where it goes.

    None when the datagram must be taken in as ever: a retransmission of a call in progress, or what cannot be read; it
    may be an emergency behind a malformed first line.
    """
    try:
        request = parse_message(data)
    except BadMessage:
        return None
    if not isinstance(request, Request) or is_known(request):
        return None
    hop, received = reply_hop(request, source)
    tag = b"%08x" % zlib.crc32(request.via.branch)  # the same for a retransmission (RFC 3261 §8.2.7)
    return edit.response_to(request, 503, to_tag=tag, received=received), hop


@lru_cache(maxsize=1_024)
def _text(uri: bytes) -> str:
    return uri.decode("utf-8", "surrogateescape")
