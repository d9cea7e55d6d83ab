"""Emergency numbers by country, what may not be an extension, and E.164."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.numbers import (
    NORTH_AMERICA,
    could_shadow_emergency,
    is_e164,
    numbers_of,
    parse_e164,
    plain_digits,
    shadowed_emergency_number,
)


@pytest.mark.parametrize("country", ["US", "us", "CA", "ZZ", ""])
def test_every_country_has_numbers_of_its_own_or_the_north_american_ones(country):
    assert numbers_of(country) is NORTH_AMERICA


@pytest.mark.parametrize(
    "extension",
    [
        "911",
        "933",
        "9911",
        "1911",
        "+1911",
        "9933",
        "112",
        "9-1-1",
        " 911 ",
        "\uff19\uff11\uff11",
        "9.1.1",
        "+911",
        "(911)",
        "+112",
    ],
)
def test_an_extension_that_is_an_emergency_number_is_refused(extension):
    """E-01: nothing can shadow an emergency number."""
    assert could_shadow_emergency(extension)


@pytest.mark.parametrize(
    ("pattern", "captured"),
    [
        ("_9XX", "911"), ("9xx", "911"), ("[1-9]11", "911"), ("_X.", "112"), ("_.", "112"), ("9.", "911"), ("_9!",
        "911"),
        ("_N11", "911"), ("_ZXX", "112"), ("_[89]33", "933"), ("_1911", "1911"), ("_9[19]1X", "9911"), ("_+X.", "+112"),
        ("_!", "112"), ("93!", "933"),
    ],
)  # fmt: skip
def test_a_pattern_that_captures_an_emergency_number_is_refused(pattern, captured):
    """E-01: nor can a dial rule."""
    assert shadowed_emergency_number(pattern) == captured


@pytest.mark.parametrize(
    "extension",
    ["101", "9112", "9110", "912", "91", "9", "0911", "_2XX", "_N12", "[1-8]00", "alex", "john.doe",
    "_1NXXNXXXXXX", "_9112", "", "1112"],
)  # fmt: skip
def test_other_extensions_and_patterns_are_free(extension):
    """E-01: the guard takes no number away that an emergency does not need."""
    assert not could_shadow_emergency(extension)


def test_what_is_too_long_to_be_judged_is_refused():
    assert could_shadow_emergency("_" + "X" * 100)


@given(st.text(max_size=80))
def test_no_text_makes_the_guard_raise(text):
    assert could_shadow_emergency(text) in {True, False}


@given(st.sampled_from(["911", "933", "112", "9911", "1911"]), st.data())
def test_any_pattern_made_wider_from_an_emergency_number_is_refused(number, data):
    """E-01: whichever digits are replaced by a wildcard that fits them."""
    wild = {
        "0": ["X"],
        "1": ["X", "Z", "[0-1]"],
        "2": ["X", "Z", "N", "[12]"],
        "3": ["X", "N"],
        "9": ["X", "Z", "N", "[2-9]"],
    }
    steps = [data.draw(st.sampled_from([digit, *wild[digit]])) for digit in number]
    assert could_shadow_emergency("_" + "".join(steps))


@pytest.mark.parametrize(
    ("dialed", "digits"), [("9-1-1", "911"), ("(9)1.1", "911"), ("911x", "911x"), ("9 1\u00a01", "911")]
)
def test_separators_are_dropped_and_nothing_else(dialed, digits):
    assert plain_digits(dialed) == digits


@pytest.mark.parametrize(
    ("text", "country", "expected"),
    [
        ("+1 (518) 555-0123", "US", "+15185550123"),
        ("518-555-0123", "US", "+15185550123"),
        ("1 518 555 0123", "CA", "+15185550123"),
        ("020 7946 0958", "GB", "+442079460958"),
        ("911", "US", None),
        ("933", "US", None),
        ("", "US", None),
        ("x" * 200, "US", None),
        ("+15185550123 ext. 4", "US", None),
        ("+1555", "US", None),
        ("hello", "US", None),
    ],
)
def test_numbers_are_read_as_they_are_dialled(text, country, expected):
    """Callback numbers are kept in E.164 form; what reaches nobody back is refused."""
    assert parse_e164(text, country) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("+15185550123", True), ("15185550123", False), ("+0123456789", False), ("+1", False)]
)
def test_the_written_form_is_told_apart(text, expected):
    assert is_e164(text) is expected


@given(st.text(max_size=100))
def test_no_text_makes_the_number_reader_raise(text):
    found = parse_e164(text)
    assert found is None or is_e164(found)
