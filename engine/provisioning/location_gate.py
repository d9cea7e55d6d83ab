"""A phone whose 911 call would carry no address: found, marked on its own screen, and never told that it may not dial
(pure).

Theory of operation. A dispatchable location (47 CFR § 9.3) is a place somebody can be sent to: a civic address that
says more than country, state, town and postal code, or coordinates. A line of a phone has one when the phone has, when
the line has, when the network the phone was last seen on has (or its user confirmed one there), when the line's PBX has
one as its default, or the account. What a single request may carry beside that is not counted: nobody can know it
beforehand.

The gate closes nothing. A phone without an address gets the same dial plan, and 911 leaves at once; but each line
whose call would carry none says so in its label on the screen. The caller's name (`display_name`) stays as it is: a
dispatcher reads it.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.numbers import numbers_of
from engine.places import is_dispatchable
from engine.provisioning.policy import LocationGate, Policy
from engine.provisioning.render import PhoneConfig

# Ranges that repeat behind every other router (RFC 1918, 6598, 3927, 4193, 4291).
_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8",
        "fc00::/7", "fe80::/10", "::1/128",
    )
)  # fmt: skip
NO_ADDRESS = "no address"

# What a call from each line of a phone could be located by, besides the request itself. One row for each line; a phone
# without lines has one row with no key. A line that names no PBX is of the account's only one.
STATEMENT = """
SELECT p.id, k.key, CAST(a.provisioning_policy AS TEXT), po.civic_address, po.geo, nw.civic_address, nw.geo,
  ao.civic_address, ao.geo, lo.civic_address, lo.geo, bo.civic_address, bo.geo
FROM phone p JOIN account a ON a.id = p.account_id
LEFT JOIN location po ON po.id = p.location_id LEFT JOIN location nw ON nw.id = p.network_location_id
LEFT JOIN location ao ON ao.id = a.default_location_id
LEFT JOIN phone_line k ON k.phone_id = p.id LEFT JOIN line l ON l.id = k.line_id
LEFT JOIN location lo ON lo.id = l.location_id
LEFT JOIN pbx b ON b.id = COALESCE(
  l.pbx_id, (SELECT MIN(x.id) FROM pbx x WHERE x.account_id = p.account_id HAVING COUNT(*) = 1))
LEFT JOIN location bo ON bo.id = b.default_location_id
WHERE p.id IN (:phone_id) ORDER BY k.key"""
_FIRST_PLACE = 3  # the columns before are the phone, the key and the policy


@dataclass(frozen=True, slots=True)
class Unlocated:
    """What of a phone has no address. `keys`: of the lines whose calls would carry none. `is_phone`: any of them has
    none, or the phone has no line and no address of its own.
    """

    is_phone: bool = False
    keys: frozenset[int] = frozenset()


LOCATED = Unlocated()


def judge(rows: Iterable[Sequence[Any]]) -> Unlocated:
    """The verdict on key, policy and places of each line of one phone; addresses and coordinates are mappings or None.

    A phone that is not there (no row) is nobody's: located. With the policy's gate off all are.
    """
    keys, is_phone = set(), False
    for key, policy, *places in rows:
        if Policy.read(policy or "").location_gate is LocationGate.OFF:
            return LOCATED
        if any(is_dispatchable(places[at], places[at + 1]) for at in range(0, len(places), 2)):
            continue
        is_phone = True
        if key is not None:
            keys.add(int(key))
    return Unlocated(is_phone, frozenset(keys))


def judge_stored(rows: Iterable[Sequence[Any]], loads: Any) -> Unlocated:
    """As `judge`, of the rows of `STATEMENT` on one phone; a driver may hand JSON over as text, which `loads` reads."""
    return judge(
        (*row[1:_FIRST_PLACE], *(loads(each) if isinstance(each, str) else each for each in row[_FIRST_PLACE:]))
        for row in rows
    )


def mark_of(country: str) -> str:
    """What stands in front of a label: `911: no address`, with the number people dial there."""
    return f"{numbers_of(country).primary}: {NO_ADDRESS}"


def marked(config: PhoneConfig, unlocated: Unlocated, country: str) -> PhoneConfig:
    """The configuration as it is served: nothing changed but the labels of what has no address.

    The mark comes first, since a screen cuts a label at its end.
    """
    if not unlocated.is_phone:
        return config
    mark = mark_of(country)
    lines = tuple(
        replace(line, label=_after(mark, line.label)) if line.key in unlocated.keys else line for line in config.lines
    )
    return replace(config, label=_after(mark, config.label), lines=lines)


def _after(mark: str, label: str) -> str:
    return f"{mark} - {label}" if label else mark


# --- What the network says of where a phone is ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attached:
    """Where a phone was last seen: by its own fetch (`last_ip`) and by the network's evidence."""

    phone_id: str
    last_ip: str | None = None
    ip: str | None = None
    bssid: str | None = None
    chassis: str | None = None
    port: str | None = None


@dataclass(slots=True)
class Networks:
    """An account's networks whose location is dispatchable: which location a place of attachment stands for.

    Subnets are kept by prefix length, so the longest one is found in as many look-ups as there are lengths. Two
    locations for the same network (one for each PBX) are no answer here: which PBX will take the call is not known.
    """

    _subnets: dict[tuple[int, int], dict[int, str]] = field(default_factory=dict)
    _named: dict[tuple[str, str], str] = field(default_factory=dict)
    _confirmed: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def add(self, kind: str, value: str, location_id: str) -> None:
        """A network as stored: kind `subnet`, `bssid`, `switch` or `switch_port` (`chassis/port`)."""
        if kind != "subnet":
            self._named[kind, value] = location_id if self._named.get((kind, value), location_id) == location_id else ""
            return
        network = ipaddress.ip_network(value, strict=False)
        level = self._subnets.setdefault((network.version, network.prefixlen), {})
        number = int(network.network_address)
        level[number] = location_id if level.get(number, location_id) == location_id else ""

    def add_confirmed(self, phone_id: str, network: str, location_id: str) -> None:
        """What a user confirmed for that phone on a network: a CIDR or a BSSID."""
        self._confirmed.setdefault(phone_id, []).append((network, location_id))

    def __bool__(self) -> bool:
        return bool(self._subnets or self._named or self._confirmed)

    def locate(self, at: Attached) -> str | None:
        """The location the phone's place on the network stands for; the nearest evidence first."""
        named = (
            ("switch_port", f"{at.chassis}/{at.port}") if at.chassis and at.port else None,
            ("switch", at.chassis) if at.chassis else None,
            ("bssid", at.bssid) if at.bssid else None,
        )
        found = next((self._named[each] for each in named if each is not None and self._named.get(each)), None)
        address = _address(at.ip) or _address(at.last_ip)
        return found or self._in_subnet(address) or self._where_confirmed(at, address) or None

    def _in_subnet(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> str | None:
        if address is None:
            return None
        number, bits = int(address), address.max_prefixlen
        for version, length in sorted(self._subnets, reverse=True):
            if version != address.version:
                continue
            found = self._subnets[version, length].get(number >> (bits - length) << (bits - length))
            if found is not None:
                return found or None
        return None

    def _where_confirmed(
        self, at: Attached, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
    ) -> str | None:
        """A private range repeats everywhere and proves no place, as when a call is located."""
        for network, location_id in self._confirmed.get(at.phone_id, ()):
            if "/" not in network:
                if at.bssid == network:
                    return location_id
                continue
            within = ipaddress.ip_network(network, strict=False)
            is_near = address is not None and address.version == within.version and address in within
            if is_near and address is not None and not _is_private(address):
                return location_id
        return None


def _is_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(address in network for network in _PRIVATE if network.version == address.version)


def _address(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text or "")
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address
