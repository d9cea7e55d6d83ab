"""An account's provisioning policy: who is served, how files leave (pure).

Stored as JSON in `account.provisioning_policy`, holding only what differs from the defaults: `{}` is a policy too.
One validator, `faults`, serves the API, the page and whatever reads the stored text back.
"""

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import lru_cache
from typing import Any

from engine.errors import FieldFault, Invalid

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_SOURCES = 200  # each is compared with the asker's address on every request
MAX_JUDGED = 4096  # addresses whose answer is remembered: comparing one costs more than all else about a request
MIN_PER_MINUTE, MAX_PER_MINUTE = 1, 600  # the most is what the whole node asks, whatever an account wishes


class ClientCertificates(StrEnum):
    """What a phone's own certificate is worth."""

    OFF = "off"  # nothing: it is not looked at
    ACCEPTED = "accepted"  # proof of the MAC where there is one; a contradiction is refused
    REQUIRED = "required"  # a phone without one is served nothing


class LocationGate(StrEnum):
    """What is done about a phone without a dispatchable location."""

    ALARM = "alarm"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy as it holds. `sources` empty: phones may ask from anywhere.

    expired_certificates: a device certificate past its end still proves the MAC (a phone cannot renew the one it was
    made with). encrypt_files: device files leave sealed with the phone's own key, where its family can open them.
    resync_per_minute: how many phones are asked in a minute to fetch their files, when many are: at a roll-out, a
    rotation, a resync of the fleet.
    """

    sources: tuple[Network, ...] = ()
    client_certificates: ClientCertificates = ClientCertificates.ACCEPTED
    expired_certificates: bool = True
    encrypt_files: bool = False
    resync_per_minute: int = MAX_PER_MINUTE
    location_gate: LocationGate = LocationGate.ALARM
    _judged: dict[str, bool] = field(default_factory=dict, init=False, repr=False, compare=False, hash=False)

    @staticmethod
    def read(text: str) -> "Policy":
        """The policy of a stored JSON text; "" is the default. The same text gives the same object.

        Raises:
            Invalid: the text is no policy. Names that this version does not know are passed over.
        """
        return _read(text)

    @staticmethod
    def of(values: Mapping[str, Any]) -> "Policy":
        """The policy of those values; what is not named has its default.

        Raises:
            Invalid: every bad field.
        """
        found = faults(values)
        if found:
            raise Invalid("The provisioning policy cannot be stored like this.", fields=tuple(found))
        own = {name: _MAKERS[name](value) for name, value in values.items()}
        return Policy(**own)

    def allows_source(self, address: str) -> bool:
        """Whether a phone at that address may be served. An IPv4 address in IPv6 clothes counts as IPv4."""
        if not self.sources:
            return True
        is_inside = self._judged.get(address)
        if is_inside is None:
            if len(self._judged) >= MAX_JUDGED:
                self._judged.clear()
            is_inside = self._judged[address] = self._holds(address)
        return is_inside

    def _holds(self, address: str) -> bool:
        try:
            asker = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(asker, ipaddress.IPv6Address) and asker.ipv4_mapped is not None:
            asker = asker.ipv4_mapped
        return any(asker in network for network in self.sources if network.version == asker.version)

    def values(self) -> dict[str, Any]:
        """Every field as JSON has it, defaults included: what the API shows."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self) if each.init}

    def stored(self) -> dict[str, Any]:
        """What is kept: the fields that differ from the defaults."""
        usual = _DEFAULT.values()
        return {name: value for name, value in self.values().items() if value != usual[name]}


def faults(values: Mapping[str, Any]) -> list[FieldFault]:
    """What is wrong with those values, each by its field."""
    found: list[FieldFault] = []
    for name, value in values.items():
        check = _CHECKS.get(name)
        if check is None:
            found.append(FieldFault(name, f"No such field. Expected {', '.join(_CHECKS)}."))
        else:
            found += check(name, value)
    return found


def network_of(text: str) -> Network:
    """A network in canonical spelling; a plain address is a network of one.

    Raises:
        ValueError: neither.
    """
    network = ipaddress.ip_network(text.strip(), strict=False)
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.ip_network((mapped, network.prefixlen - 96), strict=False)
    return network


def _source_faults(name: str, value: object) -> list[FieldFault]:
    if not isinstance(value, list | tuple) or len(value) > MAX_SOURCES:
        return [FieldFault(name, f"Expected a list of at most {MAX_SOURCES} address ranges.")]
    found = []
    for at, text in enumerate(value):
        try:
            network = network_of(text if isinstance(text, str) else "")
        except ValueError:
            found.append(
                FieldFault(
                    f"{name}.{at}",
                    "Expected an address range such as 203.0.113.0/24 or 2001:db8:1::/48. Until it is right, phones"
                    " are served from where they are served now.",
                )
            )
            continue
        if network.prefixlen == 0:
            found.append(
                FieldFault(f"{name}.{at}", "This range is every address there is. Leave the list empty for that.")
            )
    return found


def _is_one_of(kind: type[StrEnum]) -> Any:
    def check(name: str, value: object) -> list[FieldFault]:
        if isinstance(value, str) and value in list(kind):
            return []
        return [FieldFault(name, f"Expected one of {', '.join(kind)}.")]

    return check


def _is_flag(name: str, value: object) -> list[FieldFault]:
    return [] if isinstance(value, bool) else [FieldFault(name, "Expected true or false.")]


def _is_pace(name: str, value: object) -> list[FieldFault]:
    if isinstance(value, int) and not isinstance(value, bool) and MIN_PER_MINUTE <= value <= MAX_PER_MINUTE:
        return []
    return [FieldFault(name, f"Expected a whole number of phones a minute from {MIN_PER_MINUTE} to {MAX_PER_MINUTE}.")]


def _networks(value: Any) -> tuple[Network, ...]:
    return tuple(dict.fromkeys(network_of(text) for text in value))


_CHECKS: Mapping[str, Any] = {
    "sources": _source_faults,
    "client_certificates": _is_one_of(ClientCertificates),
    "expired_certificates": _is_flag,
    "encrypt_files": _is_flag,
    "resync_per_minute": _is_pace,
    "location_gate": _is_one_of(LocationGate),
}
_MAKERS: Mapping[str, Any] = {
    "sources": _networks,
    "client_certificates": ClientCertificates,
    "expired_certificates": bool,
    "encrypt_files": bool,
    "resync_per_minute": int,
    "location_gate": LocationGate,
}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [str(each) for each in value]
    return str(value) if isinstance(value, StrEnum) else value


_DEFAULT = Policy()


@lru_cache(maxsize=4096)
def _read(text: str) -> Policy:
    if not text:
        return _DEFAULT
    try:
        values = json.loads(text)
    except ValueError as exc:
        raise Invalid("The stored provisioning policy is no JSON. Store it anew; phones keep what they have.") from exc
    if not isinstance(values, dict):
        raise Invalid("The stored provisioning policy is no JSON object. Store it anew; phones keep what they have.")
    return Policy.of({name: value for name, value in values.items() if name in _CHECKS})
