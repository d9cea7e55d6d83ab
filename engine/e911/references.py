"""Location references: unguessable, expiring names for one location, which carry their own contents. Pure.

RFC 5808 §4.1 asks that a location URI expires and says nothing of the Target to who reads it; RFC 6753 that whoever
holds it may dereference it. So a reference is sealed: it can be made in the SIP process, where no database may be
asked, and opened by any node that has the key file. Nothing is stored, nothing has to be forgotten.

The nonce is derived from the contents (as in RFC 5297): equal contents make equal references, and no randomness is
needed while a 911 call is being decided.
"""

import base64
import binascii
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PURPOSE = "location-reference"  # of `KeyRing.subkey`
LIFETIME = timedelta(hours=24)  # as long as the PIDF-LO that is conveyed by value may be kept
MAX_REFERENCE_CHARS = 700
_CONTEXT = b"callpoint location reference 1"
_EXPIRY_BYTES = 5  # seconds since 1970, until the year 36812
_NONCE_BYTES = 12
_TAG_BYTES = 16
_SEPARATOR = "\n"


@dataclass(frozen=True, slots=True)
class Reference:
    """What a reference holds.

    `location_id` is the location at the time of making, "" when it was none of the account's own (a caller's own
    PIDF-LO). `call_id`: the emergency call that conveyed it, else "". `target_id`: the phone or line whose location
    was asked for, else "". `expires`: UTC, whole seconds.
    """

    account_id: str
    location_id: str
    call_id: str
    expires: datetime
    target_id: str = ""


def mint(
    keys_subkey: bytes, *, account_id: str, location_id: str, call_id: str, expires: datetime, target_id: str = ""
) -> str:
    """A reference that opens until `expires` (UTC): letters, digits, "-" and "_" only.

    Args:
        keys_subkey: `KeyRing.subkey(PURPOSE)`.
        call_id: The emergency call that conveys the location, "" for none.
        target_id: The phone or line whose location it is, whatever that will be when somebody asks; "" for none.

    Raises:
        ValueError: an identifier with a line break in it, or so long that no URI could hold it.
    """
    names = (account_id, location_id, call_id, target_id)
    if any(_SEPARATOR in name for name in names):
        raise ValueError(f"identifiers without line breaks were expected, got {names!r:.200}")
    plain = int(expires.timestamp()).to_bytes(_EXPIRY_BYTES, "big") + _SEPARATOR.join(names).encode()
    cipher, nonce_key = _keys(keys_subkey)
    nonce = hmac.digest(nonce_key, plain, "sha256")[:_NONCE_BYTES]
    text = _encoded(nonce + cipher.encrypt(nonce, plain, _CONTEXT))
    if len(text) > MAX_REFERENCE_CHARS:
        raise ValueError(f"identifiers of a few dozen characters were expected, got {names!r:.200}")
    return text


def open_reference(keys_subkey: bytes, reference: str, now: datetime) -> Reference | None:
    """What a reference holds; None when it was made with another key, changed, cut, or has expired at `now` (UTC)."""
    if not reference.isascii() or len(reference) > MAX_REFERENCE_CHARS:
        return None
    try:
        sealed = base64.urlsafe_b64decode(reference + "=" * (-len(reference) % 4))
    except (binascii.Error, ValueError):
        return None
    # base64 forgives foreign characters and odd last bits; a reference has exactly one spelling
    if len(sealed) < _NONCE_BYTES + _EXPIRY_BYTES + _TAG_BYTES or _encoded(sealed) != reference:
        return None
    cipher, _nonce_key = _keys(keys_subkey)
    try:
        plain = cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _CONTEXT)
    except InvalidTag:
        return None
    seconds = int.from_bytes(plain[:_EXPIRY_BYTES], "big")
    if now.timestamp() >= seconds:
        return None
    account_id, location_id, call_id, target_id = plain[_EXPIRY_BYTES:].decode().split(_SEPARATOR)
    return Reference(account_id, location_id, call_id, datetime.fromtimestamp(seconds, UTC), target_id)


def held_url_of(public_url: str) -> str:
    """Where references are served, given the phones' public URL; "" when there is none, and then none can be made."""
    return f"{public_url.rstrip('/')}/held" if public_url else ""


def reference_uri(held_url: str, reference: str) -> str:
    """The location URI (RFC 6753) of a reference.

    Args:
        held_url: As `held_url_of` makes it, not empty.
    """
    return f"{held_url}/{reference}"


def offered(keys_subkey: bytes, held_url: str) -> Callable[[str, str, str, datetime], str | None]:
    """What the hook asks for the URI of a call's location: (account, location, call, now) -> URI, None when there is
    none to be had. Never raises: a call without a reference still leaves.
    """

    def reference_of(account_id: str, location_id: str, call_id: str, now: datetime) -> str | None:
        if not held_url:
            return None
        try:
            made = mint(
                keys_subkey, account_id=account_id, location_id=location_id, call_id=call_id, expires=now + LIFETIME
            )
        except ValueError:
            return None
        return reference_uri(held_url, made)

    return reference_of


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@lru_cache(maxsize=8)
def _keys(subkey: bytes) -> tuple[AESGCM, bytes]:
    """The cipher, and the key that nonces are derived with: one secret never serves two purposes."""
    return AESGCM(hmac.digest(subkey, b"seal", "sha256")), hmac.digest(subkey, b"nonce", "sha256")
