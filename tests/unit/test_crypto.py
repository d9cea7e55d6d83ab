"""Sealing at rest: what opens, where, and what never does."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import crypto
from engine.crypto import KeyRing, Unsealable
from engine.errors import ConfigFault

RING = KeyRing("k1", {"k1": bytes(range(32))})


@given(st.binary(max_size=300))
def test_what_is_sealed_opens_in_its_own_place_only(data: bytes) -> None:
    sealed = RING.seal(data, "line.secret")
    assert RING.open(sealed, "line.secret") == data
    assert data not in sealed or len(data) < 4
    with pytest.raises(Unsealable):
        RING.open(sealed, "trunk.secret")


@given(st.integers(min_value=0, max_value=60), st.integers(min_value=1, max_value=255))
def test_a_changed_byte_is_found(place: int, change: int) -> None:
    sealed = bytearray(RING.seal(b"x" * 40, "c"))
    sealed[place] ^= change
    with pytest.raises(Unsealable):
        RING.open(bytes(sealed), "c")


@given(st.binary(max_size=80))
def test_any_bytes_either_open_or_are_refused(data: bytes) -> None:
    with pytest.raises(Unsealable):
        RING.open(data, "c")


def test_a_new_key_seals_and_the_old_one_still_opens() -> None:
    both = KeyRing("k2", {"k1": RING.keys["k1"], "k2": bytes(32)})
    assert both.open(RING.seal(b"old", "c"), "c") == b"old"
    with pytest.raises(Unsealable, match="k2"):
        RING.open(both.seal(b"new", "c"), "c")
    assert both.index("token", "t") == RING.index("token", "t"), "an index survives a rotation of the sealing key"


def test_an_index_is_stable_and_of_one_purpose() -> None:
    assert RING.index("token", "abc") == RING.index("token", "abc")
    assert RING.index("token", "abc") != RING.index("cookie", "abc")
    assert len(RING.index("token", "abc")) == 64


def test_a_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys.toml"
    made = crypto.load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert crypto.load_or_create(path).keys == made.keys
    with pytest.raises(FileExistsError):
        crypto.create(path)


@pytest.mark.parametrize(
    "text", ["", "current = 'k1'", "current='k9'\n[keys]\nk1='AAAA'", "[keys]\nk1 = 5", "not toml ="]
)
def test_a_damaged_key_file_is_refused_in_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(ConfigFault, match=r"keys\.toml"):
        crypto.load(path)


def test_secrets_compare_whole() -> None:
    assert crypto.same("a", "a")
    assert not crypto.same("a", "b")
    assert crypto.fingerprint("x") != crypto.fingerprint("y")
