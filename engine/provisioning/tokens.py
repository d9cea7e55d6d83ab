"""Provisioning tokens: 256 random bits in a URL path, looked up by their HMAC, never stored or logged in clear
(pure).
"""

import base64
import re
import secrets
from collections.abc import Callable
from typing import Protocol

TOKEN_BYTES = 32
TOKEN_CHARACTERS = 43  # 32 bytes in unpadded base64url, RFC 4648 §5
TOKEN_SHAPE = re.compile(r"[A-Za-z0-9_-]{43}\Z")
REDACTED = "[token]"
_IN_A_PATH = re.compile(r"(/p/)[^/?#\s\"']*", re.IGNORECASE)
_SHAPED = re.compile(r"[A-Za-z0-9_-]{43,}")  # a token, or one with something written to it


class Indexer(Protocol):
    """What `engine.crypto.KeyRing` offers: equal values of one purpose give equal indexes, and nobody without the key
    makes them.
    """

    def index(self, purpose: str, value: str) -> str: ...


def mint(random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """A fresh token: 43 URL-safe characters holding 256 random bits."""
    return base64.urlsafe_b64encode(random_bytes(TOKEN_BYTES)).rstrip(b"=").decode("ascii")


def is_token(text: str) -> bool:
    """Whether the text has a token's shape; says nothing about whether it is anybody's."""
    return TOKEN_SHAPE.match(text) is not None


def index(keys: Indexer, token: str) -> str:
    """The look-up key of a token, 64 hexadecimal digits. Any text may be asked: the work is the same for a wrong
    one.
    """
    return keys.index("provisioning_token", token)


def provisioning_url(base: str, token: str) -> str:
    """What an administrator gives to DHCP, to a redirect service or to a phone: every file lies directly below it."""
    return f"{base.rstrip('/')}/p/{token}/"


def redact(text: str) -> str:
    """The text with whatever follows `/p/` up to the next slash replaced, and whatever has a token's shape anywhere, so
    that no token reaches a log.
    """
    return _SHAPED.sub(REDACTED, _IN_A_PATH.sub(r"\1" + REDACTED, text))
