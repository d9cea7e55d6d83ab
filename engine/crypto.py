"""Sealing at rest and look-up indexes: AES-256-GCM with the key's id beside the ciphertext, HMAC-SHA256 indexes.

Keys live in one TOML file (mode 0600): `current = "k…"` and `[keys]` with 32 random bytes in base64 for each id.
Losing that file loses the provisioning tokens and line secrets, so `run` prints where it is and asks for a copy.

A key is never taken out: look-ups and signatures derive from the first, and old backups are sealed with the others. A
process that meets a key it does not know reads the file again, so that a rotation needs no restart (decision 0046).
"""

import base64
import fcntl
import hmac
import os
import secrets
import struct
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
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
    path: Path | None = field(default=None, repr=False, compare=False)  # where more may be found
    _read_as: tuple[int, int] | None = field(default=None, repr=False, compare=False)  # the file's time and size then
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
        key_id = key_id_of(sealed)
        nonce = sealed[1 + length : 1 + length + NONCE_BYTES]
        if key_id not in self.keys:
            self.read_again()
        if key_id not in self.keys or len(nonce) < NONCE_BYTES:
            raise Unsealable(
                f"A value sealed with the key {key_id!r} cannot be opened: the key file does not hold that key."
            )
        try:
            return self._cipher(key_id).decrypt(nonce, sealed[1 + length + NONCE_BYTES :], context.encode())
        except InvalidTag as exc:
            raise Unsealable(f"A value sealed for {context} does not open: it was changed or moved.") from exc

    def read_again(self) -> bool:
        """Take up what was added to the key file since it was read; returns whether anything was.

        Costs one `stat` while the file is the same. A file that cannot be read now changes nothing.
        """
        if self.path is None:
            return False
        try:
            stands_as = _stands_as(self.path)
            if stands_as == self._read_as:
                return False
            found = load(self.path)
        except (OSError, ConfigFault):
            return False
        self._read_as = stands_as
        added = {name: key for name, key in found.keys.items() if name not in self.keys}
        is_changed = bool(added) or found.current != self.current
        self.keys |= added
        self.current = found.current if found.current in self.keys else self.current
        return is_changed

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


def key_id_of(sealed: bytes) -> str:
    """The id of the key that a value was sealed with, as it says itself."""
    return sealed[1 : 1 + sealed[0]].decode("ascii", "replace") if sealed else ""


def create(path: Path) -> KeyRing:
    """Make a key file with one fresh key; its folder is made too. Never overwrites."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ring = KeyRing("k1", {"k1": secrets.token_bytes(KEY_BYTES)}, path)
    _write(path, ring)
    ring._read_as = _stands_as(path)  # noqa: SLF001 - its own module
    return ring


def add(path: Path) -> str:
    """Add a fresh key behind those of the file, current or not as before; returns its id.

    Raises:
        ConfigFault, OSError: the file cannot be read, or cannot be exchanged. It is as it was.
    """
    with _held(path):
        ring = load(path)
        number = 1 + max(int(digits) if (digits := name.removeprefix("k")).isdigit() else 0 for name in ring.keys)
        first, name = min(ring.keys), f"k{number}"
        name = name if name > first else f"{first}-{number}"  # look-ups derive from the first, which it has to stay
        while name in ring.keys:
            name += "x"
        ring.keys[name] = secrets.token_bytes(KEY_BYTES)
        _exchange(path, ring)
    return name


def use(path: Path, key_id: str) -> None:
    """Make a key of the file the current one: from now on values are sealed with it.

    Raises:
        ConfigFault: the file does not hold it, or cannot be read; OSError: it cannot be exchanged.
    """
    with _held(path):
        ring = load(path)
        if key_id not in ring.keys:
            raise ConfigFault((f"{path}: there is no key {key_id!r} in it. It holds {', '.join(ring.keys)}.",))
        ring.current = key_id
        _exchange(path, ring)


def _text(ring: KeyRing) -> str:
    lines = (f'"{name}" = "{base64.b64encode(key).decode()}"' for name, key in ring.keys.items())
    return (
        "# Callpoint's keys. Keep a copy apart from the database: without it tokens and passwords are lost.\n"
        "# Never take one out: look-ups derive from the first, and what was sealed with another opens with it alone.\n"
        f'current = "{ring.current}"\n\n[keys]\n' + "\n".join(lines) + "\n"
    )


def _write(path: Path, ring: KeyRing) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(_text(ring))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Nobody else changes the file meanwhile: two commands at once each find what the other added."""
    descriptor = os.open(path.resolve().parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(path: Path, ring: KeyRing) -> None:
    """The file as a whole, at once: a reader finds the old one or the new one. Its owner and mode stay."""
    place = path.resolve()  # where a link leads
    new, was = place.with_name(f"{place.name}.new"), place.stat()
    new.unlink(missing_ok=True)  # of somebody who was killed
    _write(new, ring)
    new.chmod(was.st_mode & 0o777)
    if os.geteuid() == 0:
        os.chown(new, was.st_uid, was.st_gid)
    new.replace(place)


def _stands_as(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino


def load(path: Path) -> KeyRing:
    """Read a key file.

    Raises:
        ConfigFault: missing, unreadable or malformed, with what to do.
    """
    try:
        stands_as = _stands_as(path)
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
    return KeyRing(current, keys, path, stands_as)


def load_or_create(path: Path) -> KeyRing:
    """The key file of this installation, made at the first start."""
    return load(path) if path.exists() else create(path)


def same(one: str, other: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def fingerprint(secret: str) -> str:
    """SHA-256 in hex: how a 256-bit random secret (an API key, a cookie) is stored. Not for passwords."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
