"""Codes sent by mail and recovery codes: making, spelling, hashing (pure).

A mailed code has six digits, so its hash is keyed and bound to the sign-in it is for: who reads the database cannot try
a million of them. A recovery code has 80 random bits and is hashed plainly.
"""

import hmac
import secrets
from collections.abc import Callable, Iterable

from engine.crypto import fingerprint

MAIL_DIGITS = 6
RECOVERY_CODES = 10
RECOVERY_CHARACTERS = 16  # of 32: 80 bits
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32: no i, l, o, u
_MEANT = str.maketrans({"i": "1", "l": "1", "o": "0"})


def mint_mail_code(below: Callable[[int], int] = secrets.randbelow) -> str:
    return f"{below(10**MAIL_DIGITS):0{MAIL_DIGITS}d}"


def mail_hash(key: bytes, sign_in_id: str, code: str) -> str:
    """What is stored of a mailed code: HMAC-SHA-256 in hex, for that sign-in alone."""
    return hmac.digest(key, f"{sign_in_id}\n{code}".encode("utf-8", "replace"), "sha256").hex()


def is_mail_code(text: str) -> bool:
    """Whether that is spelt as a code of six digits, an app's or a mailed one."""
    return len(text) == MAIL_DIGITS and text.isascii() and text.isdigit()


def mint_recovery_codes(choice: Callable[[str], str] = secrets.choice) -> tuple[str, ...]:
    """Ten fresh recovery codes as they are shown, such as `7f3k-9t2q-…`."""
    return tuple(
        "-".join("".join(choice(ALPHABET) for _ in range(4)) for _ in range(RECOVERY_CHARACTERS // 4))
        for _ in range(RECOVERY_CODES)
    )


def recovery_hash(code: str) -> str | None:
    """The SHA-256 of a recovery code, however it was typed; None when it has no such shape."""
    plain = "".join(code.lower().split()).replace("-", "").translate(_MEANT)
    if len(plain) != RECOVERY_CHARACTERS or any(char not in ALPHABET for char in plain):
        return None
    return fingerprint(plain)


def recovery_hashes(codes: Iterable[str]) -> list[str]:
    return [hashed for hashed in map(recovery_hash, codes) if hashed is not None]


def typed_code(text: str) -> str:
    """A code without the spaces that people type and phones paste."""
    return "".join(text.split())[:64]
