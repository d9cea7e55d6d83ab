"""API keys and cookies as texts: minted here, stored only as SHA-256 (pure).

`cp_<32 letters and digits>_<6 letters and digits>`: 190 random bits, then CRC-32 over what stands before it, so that
a mistyped or invented key is refused without a look into the database and secret scanners find real ones.
"""

import re
import secrets
import string
import zlib
from collections.abc import Callable

from engine.crypto import fingerprint

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_CHARACTERS = 32
HINT_CHARACTERS = 11  # "cp_" and eight of the 32: enough to tell one's keys apart
COOKIE_BYTES = 32
_SHAPE = re.compile(rf"(cp_[0-9A-Za-z]{{{RANDOM_CHARACTERS}}})_([0-9A-Za-z]{{6}})\Z")


def mint_api_key(choice: Callable[[str], str] = secrets.choice) -> str:
    """A fresh API key in clear; it is shown once."""
    head = "cp_" + "".join(choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return f"{head}_{_checksum(head)}"


def is_api_key(text: str) -> bool:
    """Whether the text has a key's shape and its checksum is right; says nothing about whether it is anybody's."""
    match = _SHAPE.match(text)
    return match is not None and match[2] == _checksum(match[1])


def hint_of(key: str) -> str:
    return key[:HINT_CHARACTERS]


def mint_cookie() -> str:
    """A fresh session cookie or set-up key: 256 random bits, URL-safe."""
    return secrets.token_urlsafe(COOKIE_BYTES)


def digest(secret: str) -> str:
    """SHA-256 in hex: how an API key, a cookie or a set-up key is stored. Long random secrets only, never passwords."""
    return fingerprint(secret)


def _checksum(head: str) -> str:
    number = zlib.crc32(head.encode())
    digits = []
    for _ in range(6):  # 62^6 is more than 2^32
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
