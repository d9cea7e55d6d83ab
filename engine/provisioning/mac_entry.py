"""MAC addresses as people and barcode scanners enter them: many at once, in any spelling (pure).

A scanner types what the barcode holds, with Enter behind it or without: then two scans are one run of 24 digits. A
label's QR code may hold more (`MAC:80:5E:C0:12:34:56;SN:…`): an address is taken from such a line only if it is named.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.provisioning import vendors
from engine.provisioning.vendors import Mac

MAX_AT_ONCE = 200
_SEPARATORS = re.compile(r"[\s:.\-]")
_ONLY_HEX = re.compile(r"(?:[0-9A-Fa-f]{12})+\Z")
_NAMED = re.compile(r"\bMAC\b.{0,14}?(?<![0-9A-F])((?:[0-9A-F]{2}[:.\- ]?){5}[0-9A-F]{2})(?![0-9A-F])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entered:
    """What a text holds. `macs`: each once, in order; `strange`: what is no address, as it was typed."""

    macs: tuple[Mac, ...]
    strange: tuple[str, ...]


def entered(text: str) -> Entered:
    """Read every address of the text."""
    macs: list[Mac] = []
    strange: list[str] = []
    for line in re.split(r"[\r\n,;]+|(?i:\t)", _joined(text)):
        found = _of_line(line.strip())
        macs += found
        strange += [line.strip()[:60]] if line.strip() and not found else []
    return Entered(tuple(dict.fromkeys(macs)), tuple(strange))


def _joined(text: str) -> str:
    """A QR code parts its fields with `;`: what stands behind the address of such a line is no address."""
    return re.sub(r"(?im)^(.*\bMAC\b[^\r\n]*?(?:[0-9A-F]{2}[:.\- ]?){5}[0-9A-F]{2})[;,][^\r\n]*$", r"\1", text)


def _of_line(line: str) -> list[Mac]:
    """The addresses of one line; none when part of it is something else."""
    plain = _SEPARATORS.sub("", line)
    if _ONLY_HEX.match(plain):
        digits = [plain[at : at + 12] for at in range(0, len(plain), 12)]
        found = [vendors.parse_mac(one) for one in digits]
        return [mac for mac in found if mac is not None] if all(found) else []
    named = _NAMED.search(line)
    mac = vendors.parse_mac(named[1]) if named is not None else None
    if mac is not None:
        return [mac]
    words = [vendors.parse_mac(word) for word in line.split()]
    return [mac for mac in words if mac is not None] if words and all(words) else []


def owners_of(macs: Sequence[Mac]) -> dict[Mac, list[str]]:
    """The vendors whose address block each address is of, by name; none where nobody here knows the block."""
    profiles = vendors.known().profiles.values()
    return {mac: [one.name for one in profiles if mac[:6] in one.ouis] for mac in macs}
