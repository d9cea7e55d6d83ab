"""Vendors' file encryption: a rendered file to the bytes that one phone's own key opens, and back (pure).

Theory of operation. A phone keeps one secret for its files, `phone.file_key`: 256 random bits that never leave the
engine. Everything a vendor's format needs is derived from it (HMAC-SHA256 under a label): the passphrase or key that
is written into the phone, and the salt of each file. The salt comes from the key and the file's own bytes, so the
same file is the same ciphertext in every process and its ETag holds, while two files never share a salt.

The formats, and where they are written down:

openssl    AES-256-CBC, `Salted__`, 8 bytes of salt, key and IV by EVP_BytesToKey with MD5 and one round. Grandstream:
           XML Provisioning Guide, "XML file encryption". Cisco SPA and MPP: Provisioning Guides, "AES-256-CBC
           encryption", tested by Cisco with openssl 0.9.7, whose digest is MD5 (`-md md5` today).
aes128gcm  RFC 8188, for Cisco MPP: `Content-Encoding: aes128gcm`, the keying material in IKM_HTTP_Encrypt_Content.
yealink    AES-128-ECB under a key of 16 characters, its bytes as they are, no padding scheme: the vendor's tool writes
           its 16-byte key file as one block. Administrator's Guide T2 to T5, "Encrypting and Decrypting Files".
obihai     AES-128-CBC with key and IV in hexadecimal, `SYNC -A=aes -K= -IV=`; firmware keeps the padding as text and
           throws the file away unless its own length is a multiple of 16, so spaces fill it up first.

None but aes128gcm notices a changed byte: they keep a listener out and are no proof of who sent the file.
"""

import hashlib
import hmac
import secrets
import struct
from base64 import urlsafe_b64encode
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.padding import PKCS7

BLOCK: Final = 16
YEALINK_KEY_CHARACTERS = 16  # 95 bits; 32 characters are allowed too, their mode is written down nowhere
RECORD_BYTES = 4096  # RFC 8188 §2: of one record, its tag included
_TAG_BYTES = 16
_OPENSSL_MAGIC = b"Salted__"
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_YEALINK_START = b"#!version"


class Scheme(StrEnum):
    """A vendor's format, by the name a profile gives it."""

    OPENSSL = "openssl"
    AES128GCM = "aes128gcm"
    YEALINK = "yealink"
    OBIHAI = "obihai"


class NotOpened(ValueError):
    """The bytes are not of that format, or another key sealed them."""


def mint() -> str:
    """A fresh file key: 256 random bits as text."""
    return urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode("ascii")


def phone_key(scheme: Scheme, file_key: str) -> str:
    """What is written into the phone, or typed there by hand: a passphrase or a key, in the vendor's spelling."""
    derived = _derived(file_key, b"phone key")
    if scheme is Scheme.YEALINK:
        number = int.from_bytes(derived, "big")
        return "".join(_LETTERS[number // 62**at % 62] for at in range(YEALINK_KEY_CHARACTERS))
    return derived.hex()[:32]


def phone_iv(scheme: Scheme, file_key: str) -> str:
    """The initial vector that stays on the phone, 32 hexadecimal digits; "" where each file brings its own."""
    return _derived(file_key, b"phone iv").hex()[:32] if scheme is Scheme.OBIHAI else ""


def seal(scheme: Scheme, body: bytes, file_key: str) -> bytes:
    """The bytes that only the phone with that file key opens; the same for the same file."""
    key = phone_key(scheme, file_key)
    salt = hmac.digest(file_key.encode(), b"salt\0" + body, "sha256")
    if scheme is Scheme.OPENSSL:
        return _openssl_sealed(body, key, salt[:8])
    if scheme is Scheme.AES128GCM:
        return _aes128gcm_sealed(body, key.encode(), salt[:16])
    if scheme is Scheme.YEALINK:
        return _crypted(_filled(body, b"\n"), key.encode(), modes.ECB(), is_sealing=True)  # noqa: S305  # the vendor's
    iv = modes.CBC(bytes.fromhex(phone_iv(scheme, file_key)))
    return _crypted(_padded(_filled(body, b" ")), bytes.fromhex(key), iv, is_sealing=True)


def open_sealed(scheme: Scheme, data: bytes, key: str, iv: str = "") -> bytes:
    """What a phone that holds this key (and IV) reads.

    Raises:
        NotOpened: not of this format, or another key's.
    """
    try:
        if scheme is Scheme.OPENSSL:
            return _openssl_opened(data, key)
        if scheme is Scheme.AES128GCM:
            return _aes128gcm_opened(data, key.encode())
        if scheme is Scheme.YEALINK:
            return _yealink_opened(data, key)
        clear = _crypted(data, bytes.fromhex(key), modes.CBC(bytes.fromhex(iv)), is_sealing=False)
        return _unpadded(clear)
    except (InvalidTag, ValueError, struct.error, IndexError) as exc:
        raise NotOpened(f"not a file of the format {scheme} under this key") from exc


def looks_sealed(scheme: Scheme, data: bytes) -> bool:
    """What a phone tells by: whether the file is one of the vendor's sealed ones or text as it stands."""
    if scheme is Scheme.OPENSSL:
        return data.startswith(_OPENSSL_MAGIC)
    if scheme is Scheme.YEALINK:
        return not data.lstrip(b"\xef\xbb\xbf").startswith(_YEALINK_START)
    return not data.lstrip(b"\xef\xbb\xbf \r\n").startswith((b"<", b"#"))


def _derived(file_key: str, label: bytes) -> bytes:
    return hmac.digest(file_key.encode(), label, "sha256")


def _crypted(data: bytes, key: bytes, mode: modes.ECB | modes.CBC, *, is_sealing: bool) -> bytes:
    cipher = Cipher(algorithms.AES(key), mode)
    context = cipher.encryptor() if is_sealing else cipher.decryptor()
    return context.update(data) + context.finalize()


def _filled(body: bytes, filler: bytes) -> bytes:
    """The text with so many blank characters behind it that whole blocks come out."""
    return body + filler * (-len(body) % BLOCK)


def _padded(body: bytes) -> bytes:
    padder = PKCS7(BLOCK * 8).padder()
    return padder.update(body) + padder.finalize()


def _unpadded(body: bytes) -> bytes:
    unpadder = PKCS7(BLOCK * 8).unpadder()
    return unpadder.update(body) + unpadder.finalize()


# --- openssl enc ------------------------------------------------------------------------------------------------------


def _openssl_sealed(body: bytes, passphrase: str, salt: bytes) -> bytes:
    key, iv = _bytes_to_key(passphrase.encode(), salt)
    return _OPENSSL_MAGIC + salt + _crypted(_padded(body), key, modes.CBC(iv), is_sealing=True)


def _openssl_opened(data: bytes, passphrase: str) -> bytes:
    if not data.startswith(_OPENSSL_MAGIC):
        raise ValueError("no salt")
    salt, body = data[8:16], data[16:]
    key, iv = _bytes_to_key(passphrase.encode(), salt)
    return _unpadded(_crypted(body, key, modes.CBC(iv), is_sealing=False))


def _bytes_to_key(passphrase: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """EVP_BytesToKey(3) with MD5 and one round: 32 bytes of key, 16 of IV. Weak for words, sound for 128 random
    bits.
    """
    made, last = b"", b""
    while len(made) < 48:
        last = hashlib.md5(last + passphrase + salt, usedforsecurity=False).digest()
        made += last
    return made[:32], made[32:48]


# --- RFC 8188 ---------------------------------------------------------------------------------------------------------


def _gcm_keys(ikm: bytes, salt: bytes) -> tuple[AESGCM, int]:
    """The content encryption key, and the base nonce as a number (§2.2, §2.3)."""
    key = HKDF(SHA256(), 16, salt, b"Content-Encoding: aes128gcm\0").derive(ikm)
    nonce = HKDF(SHA256(), 12, salt, b"Content-Encoding: nonce\0").derive(ikm)
    return AESGCM(key), int.from_bytes(nonce, "big")


def _aes128gcm_sealed(body: bytes, ikm: bytes, salt: bytes) -> bytes:
    cipher, base = _gcm_keys(ikm, salt)
    room = RECORD_BYTES - _TAG_BYTES - 1
    starts = range(0, len(body), room) or range(1)
    records = [salt + struct.pack("!IB", RECORD_BYTES, 0)]
    for number, start in enumerate(starts):
        delimiter = b"\x02" if start + room >= len(body) else b"\x01"
        nonce = (base ^ number).to_bytes(12, "big")
        records.append(cipher.encrypt(nonce, body[start : start + room] + delimiter, None))
    return b"".join(records)


def _aes128gcm_opened(data: bytes, ikm: bytes) -> bytes:
    size, name_length = struct.unpack_from("!IB", data, 16)
    cipher, base = _gcm_keys(ikm, data[:16])
    body = data[21 + name_length :]
    if size < _TAG_BYTES + 2 or not body:
        raise ValueError("no record")
    found, ends = [], 0
    for number, start in enumerate(range(0, len(body), size)):
        clear = cipher.decrypt((base ^ number).to_bytes(12, "big"), body[start : start + size], None).rstrip(b"\0")
        is_last = start + size >= len(body)
        ends = clear[-1]
        if ends != (2 if is_last else 1):
            raise ValueError("a record ends wrongly: the file is cut short")
        found.append(clear[:-1])
    return b"".join(found)


# --- Yealink ----------------------------------------------------------------------------------------------------------


def _yealink_opened(data: bytes, key: str) -> bytes:
    clear = _crypted(data, key.encode(), modes.ECB(), is_sealing=False)  # noqa: S305  # the vendor's
    if not clear.startswith(_YEALINK_START):
        raise ValueError("the first line of a Yealink file is missing")
    return clear
