"""What makes an address one that help can be sent to, and what is missing of it."""

import pytest

from engine.places import is_dispatchable, missing_parts, sentence_of_missing

TOWN = {"country": "US", "A1": "NY", "A3": "Albany", "PC": "12203"}


@pytest.mark.parametrize(
    ("address", "geo", "missing", "holds"),
    [
        ({}, None, ("house number", "street", "city or postal code"), False),
        ({"country": "US", "A1": "NY"}, None, ("house number", "street", "city or postal code"), False),
        (TOWN, None, ("house number", "street"), False),
        (TOWN | {"HNO": ""}, None, ("house number", "street"), False),
        (TOWN | {"RD": "Washington"}, None, ("house number",), True),
        (TOWN | {"HNO": "120"}, None, ("street",), True),
        (TOWN | {"HNO": "120", "RD": "Washington"}, None, (), True),
        ({"HNO": "120", "RD": "Washington"}, None, ("city or postal code",), True),
        (TOWN | {"BLD": "Terminal 2"}, None, (), True),
        (TOWN | {"LMK": "Lighthouse"}, None, (), True),
        (TOWN, {"latitude": 42.65, "longitude": -73.75}, (), True),
    ],
)  # fmt: skip
def test_the_parts_that_a_dispatcher_would_ask_for_are_named(address, geo, missing, holds):
    """P-22: the gate, the form, the list, Settings and Home ask the same function."""
    assert missing_parts(address, geo) == missing
    assert is_dispatchable(address, geo) is holds
    told = sentence_of_missing(address, geo)
    assert bool(told) is bool(missing)
    assert all(part in told for part in missing)
    if missing:
        assert ("names no place" in told) is not holds
