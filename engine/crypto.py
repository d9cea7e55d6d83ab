"""Sealing at rest and look-up indexes: AES-256-GCM with the key's id beside the ciphertext, HMAC-SHA256 indexes.

Keys live in one TOML file (mode 0600): `current = "k…"` and `[keys]` with 32 random bytes in base64 for each id.
Losing that file loses the provisioning tokens and line secrets, so `run` prints where it is and asks for a copy.
"""

import base64
import hmac
import os
import secrets
import struct
import tomllib
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engine.errors import ConfigFault, EngineError

KEY_BYTES = 32
NONCE_BYTES = 12  # NIST SP 800-38D §8.2.2: 96 random bits


class Unsealable(EngineError):
    """A sealed value does not open: another key, another place, or a changed byte."""

    title = "A stored secret cannot be opened"


@dataclass(slots=True)
class KeyRing:
    """The keys of one installation. Sealing uses the current one; opening uses the one named in the value."""

    current: str
    keys: dict[str, bytes] = field(repr=False)
    _ciphers: dict[str, AESGCM] = field(default_factory=dict, repr=False)
    _subkeys: dict[str, bytes] = field(default_factory=dict, repr=False)

    def seal(self, data: bytes, context: str) -> bytes:
        """Encrypt for that context (such as `account.provisioning_token`): it opens nowhere else."""
        nonce = os.urandom(NONCE_BYTES)
        name = self.current.encode()
        return (
            struct.pack("B", len(name))
            + name
            + nonce
            + self._cipher(self.current).encrypt(nonce, data, context.encode())
        )

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt what `seal` made.

        Raises:
            Unsealable: the key is not here, the context differs, or a byte was changed.
        """
        length = sealed[0] if sealed else 0
        key_id = sealed[1 : 1 + length].decode("ascii", "replace")
        nonce = sealed[1 + length : 1 + length + NONCE_BYTES]
        if key_id not in self.keys or len(nonce) < NONCE_BYTES:
            raise Unsealable(
                f"A value sealed with the key {key_id!r} cannot be opened: the key file does not hold that key."
            )
        try:
            return self._cipher(key_id).decrypt(nonce, sealed[1 + length + NONCE_BYTES :], context.encode())
        except InvalidTag as exc:
            raise Unsealable(f"A value sealed for {context} does not open: it was changed or moved.") from exc

    def index(self, purpose: str, value: str) -> str:
        """A look-up key for a secret: HMAC-SHA256 in hex under a key of that purpose alone. Equal in, equal out."""
        return hmac.digest(self.subkey(purpose), value.encode(), "sha256").hex()

    def subkey(self, purpose: str) -> bytes:
        """32 bytes for one purpose, derived from the oldest key, so that a rotation keeps the indexes (RFC 5869)."""
        found = self._subkeys.get(purpose)
        if found is None:
            oldest = self.keys[min(self.keys)]
            found = HKDF(SHA256(), KEY_BYTES, salt=None, info=b"callpoint " + purpose.encode()).derive(oldest)
            self._subkeys[purpose] = found
        return found

    def _cipher(self, key_id: str) -> AESGCM:
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            cipher = self._ciphers[key_id] = AESGCM(self.keys[key_id])
        return cipher


def create(path: Path) -> KeyRing:
    """Make a key file with one fresh key; its folder is made too. Never overwrites."""
    path.parent.mkdir(parents=True, exist_ok=True)
    key_id = "k1"
    key = secrets.token_bytes(KEY_BYTES)
    text = (
        "# Callpoint's keys. Keep a copy apart from the database: without it tokens and passwords are lost.\n"
        f'current = "{key_id}"\n\n[keys]\n{key_id} = "{base64.b64encode(key).decode()}"\n'
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return KeyRing(key_id, {key_id: key})


def load(path: Path) -> KeyRing:
    """Read a key file.

    Raises:
        ConfigFault: missing, unreadable or malformed, with what to do.
    """
    try:
        data = tomllib.loads(path.read_text())
        keys = {name: base64.b64decode(text, validate=True) for name, text in data["keys"].items()}
        current = data["current"]
    except FileNotFoundError as exc:
        raise ConfigFault(
            (f"{path}: no key file. Restore it from your copy, or name it with [core] key_file.",)
        ) from exc
    except (OSError, KeyError, AttributeError, TypeError, ValueError) as exc:
        raise ConfigFault((f"{path}: not a key file ({exc}). Restore it from your copy.",)) from exc
    if current not in keys or any(len(key) != KEY_BYTES for key in keys.values()):
        raise ConfigFault((f"{path}: `current` must name one of [keys], each of {KEY_BYTES} bytes in base64.",))
    return KeyRing(current, keys)


def load_or_create(path: Path) -> KeyRing:
    """The key file of this installation, made at the first start."""
    return load(path) if path.exists() else create(path)


def same(one: str, other: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def fingerprint(secret: str) -> str:
    """SHA-256 in hex: how a 256-bit random secret (an API key, a cookie) is stored. Not for passwords."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
