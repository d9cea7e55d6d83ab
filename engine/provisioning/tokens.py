"""Provisioning tokens: 256 random bits in a URL path, looked up by their HMAC, never stored or logged in clear
(pure).
"""

import base64
import re
import secrets
import urllib.parse
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

TOKEN_BYTES = 32
TOKEN_CHARACTERS = 43  # 32 bytes in unpadded base64url, RFC 4648 §5
TOKEN_SHAPE = re.compile(r"[A-Za-z0-9_-]{43}\Z")
REDACTED = "[token]"
_IN_A_PATH = re.compile(r"(/p/)[^/?#\s\"']*", re.IGNORECASE)
_SHORTEST_RUN = 8  # of a token's characters: 36 such runs stand in none of a million other texts
_SHORTEST_SPREAD = 12  # of its letters and digits, whatever stands between them
_NO_LETTER = re.compile(r"[^A-Za-z0-9]+")
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
    if len(text) < TOKEN_CHARACTERS and "/" not in text:
        return text  # nearly every file's name and User-Agent
    return _SHAPED.sub(REDACTED, _IN_A_PATH.sub(r"\1" + REDACTED, text))


def shown(text: str, token: str) -> str:
    """What an asker says beside the token it asks with, as it may be logged: `redact`, and `without` that token."""
    return without(redact(text), token)


@lru_cache(maxsize=4096)
def shown_again(text: str, token: str) -> str:
    """`shown` for a file's name or a User-Agent, which the same phones say again and again."""
    return shown(text, token)


def without(text: str, token: str) -> str:
    """The text without any run of eight or more characters of that token; all of it is replaced where a dozen of the
    token's letters and digits stand in it in another writing: percent-encoded, in other case, with something between
    them.
    """
    if not is_token(token):
        return text
    left = _without_runs(text, token)
    return REDACTED if _holds_spread(left, token) else left


def _without_runs(text: str, token: str) -> str:
    if not _holds_any(text, _marks(token)[0]):
        return text
    starts = range(TOKEN_CHARACTERS - _SHORTEST_RUN + 1)
    hidden: set[int] = set()
    for start in starts:
        run = token[start : start + _SHORTEST_RUN]
        at = text.find(run)
        while at >= 0:
            hidden.update(range(at, at + _SHORTEST_RUN))
            at = text.find(run, at + 1)
    pieces = []
    for at, character in enumerate(text):
        if at not in hidden:
            pieces.append(character)
        elif at - 1 not in hidden:
            pieces.append(REDACTED)
    return "".join(pieces)


@lru_cache(maxsize=4096)
def _marks(token: str) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """What tells at once that a text holds nothing of the token: a run of eight holds one of these fours whole; the
    token's letters and digits, of which a dozen holds one of these sixes whole.
    """
    letters = _NO_LETTER.sub("", token).lower()
    fours, sixes = _SHORTEST_RUN // 2, _SHORTEST_SPREAD // 2
    return (
        tuple(token[at : at + fours] for at in range(0, len(token) - fours + 1, fours)),
        letters,
        tuple(letters[at : at + sixes] for at in range(0, len(letters) - sixes + 1, sixes)),
    )


def _holds_any(text: str, pieces: tuple[str, ...]) -> bool:
    for piece in pieces:  # noqa: SIM110  # any() takes three times as long
        if piece in text:
            return True
    return False


def _holds_spread(text: str, token: str) -> bool:
    _, letters, sixes = _marks(token)
    plain = text
    for _ in range(3):
        if "%" not in plain:
            break
        plain = urllib.parse.unquote(plain, errors="replace")
    squeezed = _NO_LETTER.sub("", plain).lower()
    if not _holds_any(squeezed, sixes):
        return False
    return any(letters[at : at + _SHORTEST_SPREAD] in squeezed for at in range(len(letters) - _SHORTEST_SPREAD + 1))
