"""Location references: sealed, expiring, opened with the node's own key alone."""

import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.e911 import references
from engine.e911.references import Reference, mint, open_reference

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
EXPIRES = NOW + timedelta(hours=24)
ACCOUNT, LOCATION, CALL = (f"{kind}_01hz6w5v8k3q7r9t2x4y6z8a0b" for kind in ("account", "location", "call"))


def a_reference(**changed):
    values = {"account_id": ACCOUNT, "location_id": LOCATION, "call_id": CALL, "expires": EXPIRES} | changed
    return mint(KEY, **values)


def test_a_reference_gives_back_what_it_was_made_of():
    """E-13: self-contained, so that the SIP process can make it and any node can open it."""
    assert open_reference(KEY, a_reference(), NOW) == Reference(ACCOUNT, LOCATION, CALL, EXPIRES)


def test_a_reference_may_name_a_phone_instead_of_a_call():
    reference = a_reference(call_id="", target_id="phone_1")
    assert open_reference(KEY, reference, NOW) == Reference(ACCOUNT, LOCATION, "", EXPIRES, "phone_1")


def test_a_reference_is_dead_from_its_expiry_on():
    """E-13: location URIs expire (RFC 5808 §4.1)."""
    assert open_reference(KEY, a_reference(), EXPIRES - timedelta(microseconds=1)) is not None
    assert open_reference(KEY, a_reference(), EXPIRES) is None
    assert open_reference(KEY, a_reference(), EXPIRES + timedelta(days=400)) is None


def test_another_key_opens_nothing():
    assert open_reference(OTHER_KEY, a_reference(), NOW) is None


def test_a_reference_tells_nothing_of_its_contents():
    """RFC 5808 §4.1, item 5: no identity of the Target in the URI, and two of them are not alike."""
    one, other = a_reference(), a_reference(call_id="call_01hz6w5v8k3q7r9t2x4y6z8a0c")
    assert ACCOUNT not in one
    assert sum(a == b for a, b in zip(one, other, strict=True)) < len(one) // 4


def test_equal_contents_make_equal_references_without_any_randomness():
    assert a_reference() == a_reference()


def test_a_reference_fits_a_url_path_as_it_is():
    reference = a_reference(target_id="phone_01hz6w5v8k3q7r9t2x4y6z8a0b")
    assert re.fullmatch(r"[A-Za-z0-9_-]{100,260}", reference)


@pytest.mark.parametrize("at", [0, 5, 15, 17, 60, -1])
def test_one_changed_character_anywhere_kills_it(at):
    reference = a_reference()
    other = "A" if reference[at] != "A" else "Q"
    changed = reference[:at] + other + (reference[at + 1 :] if at != -1 else "")
    assert open_reference(KEY, changed, NOW) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text[:20],
        lambda text: text + "A",
        lambda text: text + "=",
        lambda text: text[:4] + "\n" + text[4:],
        lambda text: " " + text,
        lambda text: text + "é",
        lambda text: "A" * 100_000,
        lambda text: text * 2,
    ],
)
def test_any_other_spelling_is_no_reference(make):
    assert open_reference(KEY, make(a_reference()), NOW) is None


@given(st.text(max_size=400) | st.from_regex(r"[A-Za-z0-9_-]{40,300}", fullmatch=True))
def test_any_text_opens_or_is_none(text):
    assert open_reference(KEY, text, NOW) is None


@given(st.tuples(*[st.text(st.characters(blacklist_characters="\n", blacklist_categories=("Cs",)), max_size=40)] * 4))
def test_any_identifiers_come_back(names):
    account_id, location_id, call_id, target_id = names
    made = mint(
        KEY, account_id=account_id, location_id=location_id, call_id=call_id, expires=EXPIRES, target_id=target_id
    )
    assert open_reference(KEY, made, NOW) == Reference(account_id, location_id, call_id, EXPIRES, target_id)


def test_identifiers_that_would_run_together_are_refused():
    with pytest.raises(ValueError, match="without line breaks"):
        a_reference(account_id="account_1\nlocation_2")
    with pytest.raises(ValueError, match="a few dozen characters"):
        a_reference(location_id="x" * 1000)


def test_the_uri_stands_under_the_phones_public_url():
    held_url = references.held_url_of("https://phones.example.net/")
    assert references.reference_uri(held_url, "abc") == "https://phones.example.net/held/abc"
    assert not references.held_url_of("")


def test_the_hook_is_offered_a_uri_or_none_and_never_an_error():
    """E-08: a call without a reference still leaves."""
    reference_of = references.offered(KEY, "https://phones.example.net/held")
    uri = reference_of(ACCOUNT, LOCATION, CALL, NOW)
    opened = open_reference(KEY, uri.removeprefix("https://phones.example.net/held/"), NOW)
    assert opened == Reference(ACCOUNT, LOCATION, CALL, EXPIRES)
    assert reference_of(ACCOUNT, "a\nb", CALL, NOW) is None
    assert references.offered(KEY, "")(ACCOUNT, LOCATION, CALL, NOW) is None


def test_making_one_takes_no_time_worth_naming_on_a_911_call():
    a_reference()
    started = time.process_time()
    for number in range(500):
        a_reference(call_id=f"call_{number}")
    assert (time.process_time() - started) / 500 < 0.0005
