"""Whether two addresses belong to one place, as far as an address tells (pure).

A customer's phones leave by one NAT or a few neighbouring addresses; an IPv6 host chooses the last 64 bits itself
(RFC 4291 §2.5.1). It is evidence, no proof: whoever shares the network is as near.
"""

import ipaddress
from functools import lru_cache

_IPV4_PREFIX, _IPV6_PREFIX = 24, 64


def is_near(one: str, other: str) -> bool:
    """Whether both stand in one /24 or /64. An IPv4 address in IPv6 clothes counts as IPv4; what is no address is near
    to nothing.
    """
    place = _place(one)
    return place is not None and place == _place(other)


@lru_cache(maxsize=16_384)
def _place(address: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return ipaddress.IPv6Network((parsed, _IPV6_PREFIX), strict=False)
        parsed = parsed.ipv4_mapped
    return ipaddress.IPv4Network((parsed, _IPV4_PREFIX), strict=False)
