"""API keys as texts: minted, checked, hinted, hashed."""

import string

from hypothesis import given
from hypothesis import strategies as st

from engine.accounts import keys


def test_a_minted_key_carries_190_random_bits_and_its_checksum() -> None:
    """AD-AUTH: cp_<random>_<crc>, at least 160 bits, no two alike."""
    minted = {keys.mint_api_key() for _ in range(500)}
    assert len(minted) == 500
    for key in minted:
        head, random, crc = key.split("_")
        assert head == "cp"
        assert (len(random), len(crc)) == (32, 6)
        assert set(random) <= set(keys.ALPHABET)
        assert keys.is_api_key(key)
    assert 62**keys.RANDOM_CHARACTERS > 2**160


@given(at=st.integers(3, 41), letter=st.sampled_from(string.ascii_letters + string.digits))
def test_any_single_mistyped_character_is_noticed(at: int, letter: str) -> None:
    """AD-AUTH: CRC-32 notices every change of one character without the database."""
    key = keys.mint_api_key()
    changed = key[:at] + letter + key[at + 1 :]
    assert keys.is_api_key(changed) == (changed == key)


@given(st.text(max_size=60))
def test_any_text_may_be_asked(text: str) -> None:
    """AD-AUTH: nothing but a key is a key, and nothing breaks the question."""
    assert not keys.is_api_key(text)
    assert len(keys.digest(text)) == 64


def test_a_trailing_line_break_makes_no_key() -> None:
    """AD-AUTH: exactly the key, nothing behind it."""
    assert not keys.is_api_key(keys.mint_api_key() + "\n")


def test_the_hint_is_too_short_to_be_the_key() -> None:
    """AD-AUTH: eight of 32 random characters are shown; the column holds twelve."""
    key = keys.mint_api_key()
    assert key.startswith(keys.hint_of(key))
    assert len(keys.hint_of(key)) <= 12


def test_cookies_hold_256_bits() -> None:
    """AD-AUTH: 32 random bytes, URL-safe."""
    assert len(keys.mint_cookie()) == 43
    assert keys.mint_cookie() != keys.mint_cookie()
