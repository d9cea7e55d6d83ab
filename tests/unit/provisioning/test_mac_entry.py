"""MAC addresses as people and scanners enter them."""

import json
from pathlib import Path

import pytest

from engine.provisioning.mac_entry import entered, owners_of

ONE, TWO = "805ec0123456", "805ec0123457"


@pytest.mark.parametrize(
    ("text", "macs"),
    [
        ("80:5E:C0:12:34:56", [ONE]),
        ("805e.c012.3456", [ONE]),
        ("80 5e c0 12 34 56", [ONE]),
        ("805ec0123456\r\n80-5E-C0-12-34-57\r\n", [ONE, TWO]),
        ("805ec0123456805ec0123457", [ONE, TWO]),
        ("80:5e:c0:12:34:5680:5e:c0:12:34:57", [ONE, TWO]),
        ("805ec0123456, 805ec0123457; 805ec0123456", [ONE, TWO]),
        ("805ec0123456\t805ec0123457", [ONE, TWO]),
        ("MAC:80:5E:C0:12:34:56;SN:123456789012", [ONE]),
        ("MAC ADDRESS: 805EC0123456", [ONE]),
        ("", []),
    ],
)
def test_addresses_are_read_as_a_scanner_types_them(text: str, macs: list[str]) -> None:
    """S: with Enter or without, any separators, one after another; each once, in order."""
    found = entered(text)
    assert (list(found.macs), found.strange) == (macs, ())


@pytest.mark.parametrize("text", ["S/N: 1234567890AB", "805ec01234", "805ec0123456x", "ffffffffffff", "nonsense"])
def test_what_is_no_address_is_told_as_it_was_typed(text: str) -> None:
    """S: a serial number is not taken for an address."""
    found = entered(f"{ONE}\n{text}")
    assert (list(found.macs), found.strange) == ([ONE], (text,))


def test_the_vendor_is_guessed_from_published_address_blocks(cases: Path) -> None:
    """S: of the blocks that belong to a family served here, each names that family or none, never another."""
    families = {"aastra": "mitel", "snom": "snom", "yealink": "yealink", "fanvil": "fanvil", "htek": "htek"}
    known = json.loads((cases / "ouis.json").read_text())["oui"]
    wrong = []
    guessed = 0
    for entry in known:
        family = families.get(entry["vendor_file"])
        mac = entered(f"{entry['oui']}123456").macs[0]
        owners = owners_of([mac])[mac]
        if family is not None and owners:
            guessed += 1
            wrong += [] if family in owners else [(entry, owners)]
    assert wrong == []
    assert guessed > 5
