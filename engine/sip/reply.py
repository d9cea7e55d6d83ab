"""Where the answers to a request go (RFC 3261 §18.2, RFC 3581)."""

from engine.sip.dialog import DEFAULT_PORT, DEFAULT_TLS_PORT
from engine.sip.forward import Hop
from engine.sip.message import Request
from engine.sip.transaction import ServerTransaction, server_key

MAX_PORT = 65_535  # a Via that names a higher one leads nowhere


def reply_hop(request: Request, source: Hop) -> tuple[Hop, bytes]:
    """Where responses go, and what is noted in the received Via (RFC 3261 §18.2, RFC 3581).

    By UDP with rport: where the request came from. On a stream: the same connection, else a new one to the sent-by
    port; rport says nothing there (RFC 3581 §4). A `maddr` is not followed: it would let anybody aim our answers.
    """
    via = request.via
    host, ip = via.host, _ip_bytes.get(source.ip) or _new_ip_bytes(source.ip)
    if via.has_rport:
        received = b"=%d;received=%s" % (source.port, ip)
        if source.transport == "udp":
            return source, received
    else:
        received = b"" if host == ip or host == b"[%s]" % ip else b";received=" + ip
    port = via.port or (DEFAULT_TLS_PORT if source.transport == "tls" else DEFAULT_PORT)
    return (source if source.port == port or port > MAX_PORT else source._replace(port=port)), received


def unopened(request: Request, source: Hop) -> ServerTransaction:
    """A request's server transaction, of which nothing is kept yet."""
    hop, received = reply_hop(request, source)
    return ServerTransaction(server_key(request), request, source, hop, received)


_ip_bytes: dict[str, bytes] = {}
_MAX_KEPT = 4_096


def _new_ip_bytes(ip: str) -> bytes:
    """An address as it is written into a message: an interface of ours means nothing to others (RFC 4007 §11.2)."""
    if len(_ip_bytes) >= _MAX_KEPT:
        _ip_bytes.clear()
    known = _ip_bytes[ip] = ip.encode().partition(b"%")[0]
    return known
