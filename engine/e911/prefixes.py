"""IP addresses and MACs in one spelling, and the longest prefix around an address. Pure."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Generic, NewType, TypeVar

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network
Mac = NewType("Mac", str)
"""12 lower-case hexadecimal digits."""

_Held = TypeVar("_Held")
MAX_NAME_CHARS = 100  # of a chassis or port id: LLDP allows 255 octets (IEEE 802.1AB §8.5.2), no real one is near
# RFC 1918, RFC 6598 (carriers' NAT), loopback and link-local; RFC 4193 and link-local
_PRIVATE = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "fc00::/7", "fe80::/10", "::1/128",
    )
)  # fmt: skip

_LINK_LOCAL_V4, _LINK_LOCAL_V6 = 0xA9FE, 0xFE80 >> 6  # the first 16 bits of one, the first 10 of the other


class PrefixIndex(Generic[_Held]):
    """Longest-prefix match over IPv4 and IPv6 networks: one dict per prefix length, several values under one network
    allowed.
    """

    __slots__ = ("_lengths", "_levels")

    def __init__(self) -> None:
        self._levels: dict[tuple[int, int], dict[int, tuple[_Held, ...]]] = {}
        self._lengths: dict[int, list[int]] = {4: [], 6: []}

    def add(self, network: IpNetwork, held: _Held) -> None:
        """Hold a value under that network, behind those already there."""
        key = (network.version, network.prefixlen)
        level = self._levels.get(key)
        if level is None:
            level = self._levels[key] = {}
            self._lengths[network.version] = sorted([*self._lengths[network.version], network.prefixlen], reverse=True)
        prefix = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
        level[prefix] = (*level.get(prefix, ()), held)

    def remove(self, network: IpNetwork, held: _Held) -> None:
        """Forget one value of that network; absent ones are ignored."""
        level = self._levels.get((network.version, network.prefixlen), {})
        prefix = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
        left = tuple(other for other in level.get(prefix, ()) if other != held)
        if left:
            level[prefix] = left
        else:
            level.pop(prefix, None)

    def clear(self) -> None:
        """Forget everything, one network after the other."""
        for level in self._levels.values():
            while level:
                level.popitem()
        self._levels.clear()
        self._lengths = {4: [], 6: []}

    def matches(self, address: IpAddress) -> Iterable[tuple[int, tuple[_Held, ...]]]:
        """(prefix length, values) of each network around the address, the longest first."""
        number, bits = int(address), address.max_prefixlen
        for length in self._lengths[address.version]:
            held = self._levels[address.version, length].get(number >> (bits - length))
            if held:
                yield length, held


def plain_address(text: str) -> IpAddress | None:
    """An IP address as written in a header; an IPv4 address mapped into IPv6 becomes IPv4, a zone is dropped; None if
    none.
    """
    try:
        address = ip_address(text.strip().strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def plain_mac(text: str) -> Mac | None:
    """A MAC in any spelling as 12 lower-case hexadecimal digits, None if it is none.

    An IP address that happens to have as many digits (192.168.100.101, fe80::aaaa:bbbb) is none.
    """
    digits = text.strip().lower().replace(":", "").replace("-", "").replace(".", "")
    is_mac = len(digits) == 12 and all(char in "0123456789abcdef" for char in digits)
    return Mac(digits) if is_mac and (text == digits or plain_address(text) is None) else None


def plain_chassis(text: str) -> str | None:
    """A switch's chassis id as networks spell it: 12 hexadecimal digits for a MAC, else lower-case text without a
    slash. None for neither.
    """
    name = " ".join(text.split()).lower()
    return plain_mac(name) or (name if name and "/" not in name and len(name) <= MAX_NAME_CHARS else None)


def plain_port(text: str) -> str | None:
    """A switch port's id (`gi1/0/12`) in lower case; None for an empty or endless one."""
    name = " ".join(text.split()).lower()
    return name if 0 < len(name) <= MAX_NAME_CHARS else None


def plain_switch_port(text: str) -> str | None:
    """`<chassis>/<port id>`, both in one spelling; the first slash splits, so that a port id may hold more."""
    chassis, slash, port = text.partition("/")
    plain = plain_chassis(chassis), plain_port(port)
    return f"{plain[0]}/{plain[1]}" if slash and plain[0] and plain[1] else None


def is_everywhere(address: IpAddress) -> bool:
    """Whether the address is one that every link has (link-local, RFC 3927, RFC 4291 §2.5.6), and so tells no place."""
    bits = int(address)
    return bits >> 118 == _LINK_LOCAL_V6 if address.version == 6 else bits >> 16 == _LINK_LOCAL_V4


def is_private(address: IpAddress) -> bool:
    """Whether the address repeats behind every other router, and so proves no place by itself."""
    return any(address in network for network in _PRIVATE if network.version == address.version)
