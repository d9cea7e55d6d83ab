"""File encryption, opened again by others: the openssl command, the http_ece library, and RFC 8188's own examples."""

import base64
import shutil
import subprocess

import http_ece
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.provisioning import envelope
from engine.provisioning.envelope import NotOpened, Scheme

KEY = "Jt1h5Yk0dTz8rH3mUq2wXcVbNaLpEoIyGf7KsR4e6Zg"
OTHER = "Zt1h5Yk0dTz8rH3mUq2wXcVbNaLpEoIyGf7KsR4e6Zg"
BODY = b'<gs_provision version="1"><config version="1"><P34>s\xc3\xa9cret</P34></config></gs_provision>\n'
YEALINK = "#!version:1.0.0.1\naccount.1.password = sécret\n".encode()


def openssl(data: bytes, *options: str) -> bytes:
    """What the openssl command makes of it."""
    command = shutil.which("openssl")
    assert command is not None, "the openssl command is missing: install the package openssl"
    done = subprocess.run([command, "enc", "-d", *options], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def body_for(scheme: Scheme) -> bytes:
    return YEALINK if scheme is Scheme.YEALINK else BODY


def test_a_grandstream_or_cisco_file_is_opened_by_the_openssl_command() -> None:
    """P-12: `openssl enc -d -aes-256-cbc -md md5 -k PASSWORD`, as both makers write it down."""
    sealed = envelope.seal(Scheme.OPENSSL, BODY, KEY)
    passphrase = envelope.phone_key(Scheme.OPENSSL, KEY)
    assert sealed.startswith(b"Salted__")
    assert openssl(sealed, "-aes-256-cbc", "-md", "md5", "-pass", f"pass:{passphrase}") == BODY


def test_a_yealink_file_is_opened_by_the_openssl_command_with_the_16_characters_as_key() -> None:
    """P-12: AES-128-ECB without padding; line feeds fill the last block."""
    sealed = envelope.seal(Scheme.YEALINK, YEALINK, KEY)
    key = envelope.phone_key(Scheme.YEALINK, KEY)
    assert len(key) == 16
    assert key.isascii()
    assert key.isalnum()
    opened = openssl(sealed, "-aes-128-ecb", "-nopad", "-K", key.encode().hex())
    assert opened.rstrip(b"\n") == YEALINK.rstrip(b"\n")
    assert len(sealed) == len(opened)


def test_an_obi_file_is_opened_by_the_openssl_command_and_its_text_fills_whole_blocks() -> None:
    """P-12: `openssl enc -aes-128-cbc -K -iv`; the device wants a text of a multiple of 16 bytes."""
    sealed = envelope.seal(Scheme.OBIHAI, BODY, KEY)
    key, iv = envelope.phone_key(Scheme.OBIHAI, KEY), envelope.phone_iv(Scheme.OBIHAI, KEY)
    opened = openssl(sealed, "-aes-128-cbc", "-K", key, "-iv", iv)
    assert opened.rstrip(b" ") == BODY
    assert len(opened) % 16 == 0
    assert key != iv


@pytest.mark.parametrize("size", [1, 4078, 4079, 4080, 8158, 8159, 20_000])
def test_an_rfc_8188_file_is_opened_by_another_library(size: int) -> None:
    """P-12: http_ece, at every edge of a record."""
    body = (BODY * 200)[:size]
    sealed = envelope.seal(Scheme.AES128GCM, body, KEY)
    ikm = envelope.phone_key(Scheme.AES128GCM, KEY).encode()
    assert http_ece.decrypt(sealed, key=ikm, version="aes128gcm") == body


@pytest.mark.parametrize(
    ("sealed", "ikm"),
    [  # RFC 8188 §3.1 and §3.2
        ("I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg=", "yqdlZ-tYemfogSmv7Ws5PQ=="),
        (
            "uNCkWiNYzKTnBN9ji3-qWAAAABkCYTHOG8chz_gnvgOqdGYovxyjuqRyJFjEDyoF1Fvkj6hQPdPHI51OEUKEpgz3SsLWIqS_uA==",
            "BO3ZVPxUlnLORbVGMpbT1Q==",
        ),
    ],
)
def test_the_examples_of_rfc_8188_are_opened(sealed: str, ikm: str) -> None:
    """P-12: what a phone has to read, read by the simulated one."""
    opened = envelope._aes128gcm_opened(base64.urlsafe_b64decode(sealed), base64.urlsafe_b64decode(ikm))
    assert opened == b"I am the walrus"


@pytest.mark.parametrize("scheme", list(Scheme))
@given(text=st.binary(max_size=300))
def test_whatever_is_sealed_is_opened_again_and_never_by_another_key(scheme: Scheme, text: bytes) -> None:
    """P-12: property: the phone reads the file, and nobody else does."""
    body = b"#!version:1.0.0.1\n" + text if scheme is Scheme.YEALINK else text
    sealed = envelope.seal(scheme, body, KEY)
    key, iv = envelope.phone_key(scheme, KEY), envelope.phone_iv(scheme, KEY)
    opened = envelope.open_sealed(scheme, sealed, key, iv)
    assert opened[: len(body)] == body
    assert opened[len(body) :].strip(b" \n") == b""
    try:
        wrong = envelope.open_sealed(scheme, sealed, envelope.phone_key(scheme, OTHER), iv or "00" * 16)
    except NotOpened:
        return
    assert wrong != opened  # CBC knows no integrity: once in 256 times the padding looks right


@pytest.mark.parametrize("scheme", list(Scheme))
def test_the_same_file_is_the_same_bytes_and_two_files_share_no_salt(scheme: Scheme) -> None:
    """P-13: the ETag of an encrypted file holds in every process."""
    body = body_for(scheme)
    assert envelope.seal(scheme, body, KEY) == envelope.seal(scheme, body, KEY)
    other = envelope.seal(scheme, body + b"x", KEY)
    if scheme is Scheme.OPENSSL:
        assert other[8:16] != envelope.seal(scheme, body, KEY)[8:16]
    if scheme is Scheme.AES128GCM:
        assert other[:16] != envelope.seal(scheme, body, KEY)[:16]
    assert b"cret" not in other


@pytest.mark.parametrize("scheme", list(Scheme))
@pytest.mark.parametrize("data", [b"", b"x", b"Salted__", b"\0" * 21, b"\xff" * 64, BODY])
def test_bytes_that_are_no_such_file_are_told(scheme: Scheme, data: bytes) -> None:
    """P-21: a phone throws them away, whatever they are."""
    with pytest.raises(NotOpened):
        envelope.open_sealed(scheme, data, envelope.phone_key(scheme, KEY), envelope.phone_iv(scheme, KEY))


def test_a_file_cut_short_is_told() -> None:
    """P-12: RFC 8188 §2: a missing last record is an error."""
    sealed = envelope.seal(Scheme.AES128GCM, BODY * 100, KEY)
    with pytest.raises(NotOpened):
        envelope.open_sealed(Scheme.AES128GCM, sealed[: 21 + 4096], envelope.phone_key(Scheme.AES128GCM, KEY))


@pytest.mark.parametrize("scheme", list(Scheme))
def test_a_phone_tells_an_encrypted_file_from_one_in_clear(scheme: Scheme) -> None:
    """P-21: what a phone with a key makes of files that are still in clear."""
    body = body_for(scheme)
    assert envelope.looks_sealed(scheme, envelope.seal(scheme, body, KEY))
    assert not envelope.looks_sealed(scheme, body)


def test_every_phone_has_a_key_of_its_own() -> None:
    """P-12: 256 random bits, and another key on each phone for each format."""
    keys = {envelope.mint() for _ in range(50)}
    assert len(keys) == 50
    assert all(len(key) == 43 for key in keys)
    assert len({envelope.phone_key(Scheme.YEALINK, key) for key in keys}) == 50
    assert KEY not in {envelope.phone_key(scheme, KEY) for scheme in Scheme}
