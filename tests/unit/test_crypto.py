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


def test_a_ring_that_meets_a_new_key_finds_it_in_its_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    running = crypto.create(path)
    sealed = running.seal(b"old", "c")
    name = crypto.add(path)
    assert (name, crypto.load(path).current) == ("k2", "k1"), "a key that was added seals nothing yet"
    crypto.use(path, name)
    anew = crypto.load(path).seal(b"new", "c")
    assert running.open(anew, "c") == b"new"
    assert running.current == "k2", "and seals with it from then on"
    assert running.open(sealed, "c") == b"old"
    assert running.index("token", "t") == crypto.load(path).index("token", "t")


def test_a_key_file_that_cannot_be_read_again_takes_no_key_away(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    running = crypto.create(path)
    sealed = running.seal(b"x", "c")
    path.write_text("current = ")
    with pytest.raises(Unsealable, match="k9"):
        running.open(KeyRing("k9", {"k9": bytes(32)}).seal(b"x", "c"), "c")
    path.unlink()
    assert not running.read_again()
    assert running.open(sealed, "c") == b"x"


@pytest.mark.parametrize("first", ["k1", "k10", "a", "prod-1", "zz", "2026-11", "k"])
def test_the_first_key_stays_the_one_that_look_ups_derive_from(tmp_path: Path, first: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(crypto._text(KeyRing(first, {first: bytes(range(32))})))
    path.chmod(0o640)
    wanted = crypto.load(path).index("token", "t")
    for _ in range(12):
        crypto.use(path, crypto.add(path))
        assert crypto.load(path).index("token", "t") == wanted
    assert len(crypto.load(path).keys) == 13
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [one.name for one in tmp_path.iterdir()] == ["keys.toml"]


def test_a_key_file_behind_a_link_is_changed_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    crypto.create(tmp_path / "kept" / "keys.toml")
    (tmp_path / "keys.toml").symlink_to(tmp_path / "kept" / "keys.toml")
    crypto.add(tmp_path / "keys.toml")
    assert (tmp_path / "keys.toml").is_symlink()
    assert list(crypto.load(tmp_path / "kept" / "keys.toml").keys) == ["k1", "k2"]
    with pytest.raises(ConfigFault, match="k7"):
        crypto.use(tmp_path / "keys.toml", "k7")
