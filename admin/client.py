"""Where a request really comes from, when trusted proxies stand in front (pure).

Only what a trusted proxy adds is believed: the list is read from its end, each trusted hop is stepped over, and the
first address that is nobody's proxy is the client. What a client writes itself stands further left and is never read.
"""

import ipaddress
from collections.abc import Iterable, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
UNKNOWN = "unknown"


def client_ip(peer: str | None, forwarded_for: Iterable[str], trusted: Sequence[Network]) -> str:
    """The client's address in canonical spelling; `local` when it came over no network."""
    if peer is None:
        return "local"
    current = canonical_ip(peer)
    hops = [hop.strip() for line in forwarded_for for hop in line.split(",")]
    while hops and is_trusted(current, trusted):
        current = canonical_ip(hops.pop())
    return current


def is_trusted(ip: str, trusted: Sequence[Network]) -> bool:
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    return any(address in network for network in trusted)


def canonical_ip(text: str) -> str:
    """One spelling for each address: brackets, ports and zones gone, IPv4 inside IPv6 as IPv4 (RFC 5952, RFC 4291)."""
    plain = text.strip().strip('"')
    if plain.startswith("["):
        plain = plain[1:].partition("]")[0]
    elif plain.count(":") == 1:
        plain = plain.partition(":")[0]
    try:
        address = ipaddress.ip_address(plain.partition("%")[0])
    except ValueError:
        return UNKNOWN
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
