"""One file that a whole node comes back from: the database, the keys, the journal and the files kept for phones.

Theory of operation. A backup is a tar file, so that any tool opens it; `manifest.json` is its last member, with the
size and SHA-256 of all others: a file that was cut off has none. Things move from the journal into the database, so the
journal is read first: a call that is recorded in between stands in both and is known by its identifier, never in
neither. The files kept for phones come last: a row of the database names them, and none is changed or soon removed.

A restore writes beside nothing: the data folder must be empty. All of it is unpacked and checked in a folder within,
and only what is whole is moved to its place, the database last. A node holds the folder's lock, and so does a restore.
"""

import io
import json
import os
import shutil
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import IO, Any

from engine import crypto, data_folder, migrations
from engine.commanding import NO_SPACE
from engine.config import Config
from engine.db import copy_sqlite, sqlite_faults, sqlite_path_of
from engine.errors import EngineError

FORMAT = 1
MANIFEST, DATABASE, KEYS, DATA = "manifest.json", "callpoint.db", "keys.toml", "data"
LATER = "assets"  # read after the database, which names them
OWN = ("callpoint.lock", "edge*.owner", "*.new", "upload-*", ".restoring")  # of a running node; nothing of it is kept
STAGING = ".restoring"
MAX_MANIFEST_BYTES = 64 << 20
BLOCK_BYTES = 1 << 20


class NoBackup(EngineError):
    """The backup could not be written; no file was left behind."""

    title = "No backup was made"


class NotRestored(EngineError):
    """Nothing was put in place."""

    title = "Nothing was restored"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself.

    Attributes:
        made_at: RFC 3339, UTC. It names the backup in the audit log.
        revision: The database's schema. database: "sqlite", or "postgresql": then the database is not in it.
        keys: Marks of the keys that it belongs to (`marks_of`); has_keys: the key file is in it.
        files: Size in bytes and SHA-256 of each other member.
    """

    made_at: str
    version: str
    revision: str
    database: str
    keys: dict[str, str]
    has_keys: bool
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def size_bytes(self) -> int:
        return sum(size for size, _ in self.files.values())


def marks_of(keys: crypto.KeyRing) -> dict[str, str]:
    """By it can be told whether a key file holds these keys, and nothing else: key id -> SHA-256 of 32 random bytes."""
    return {name: sha256(b"callpoint backup " + key).hexdigest() for name, key in keys.keys.items()}


def make(config: Config, manifest: Manifest, target: Path | None) -> Manifest:
    """Write the backup; None writes it to standard output. Returns what is in it.

    Raises:
        NoBackup: why, and that nothing was left behind.
    """
    try:
        with _written(target) as file, tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            _fill(archive, config, manifest, target.absolute().parent if target else None)
    except (OSError, sqlite3.Error) as exc:
        raise NoBackup(_why(exc, f"writing {target or 'to standard output'}")) from exc
    return manifest


def _fill(archive: tarfile.TarFile, config: Config, manifest: Manifest, scratch: Path | None) -> None:
    database = sqlite_path_of(config.database_url)
    later, first = _split(_files(config, database))
    for path in first:
        _add(archive, manifest, f"{DATA}/{path.relative_to(config.core.data_dir).as_posix()}", path)
    if database is not None:
        with tempfile.TemporaryDirectory(prefix=".callpoint-backup-", dir=scratch) as folder:
            copy = Path(folder) / DATABASE
            copy_sqlite(database, copy)
            if faults := sqlite_faults(copy):
                raise NoBackup(
                    f"{database} is damaged: {faults}. 911 calls go on from the location table on disk. Keep this data "
                    "folder as it is, and restore the newest backup that is good into another one."
                )
            _add(archive, manifest, DATABASE, copy)
    for path in later:
        _add(archive, manifest, f"{DATA}/{path.relative_to(config.core.data_dir).as_posix()}", path)
    if manifest.has_keys:
        _add(archive, manifest, KEYS, config.key_file)
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True).encode()
    archive.addfile(_header(MANIFEST, len(text)), io.BytesIO(text))


def _files(config: Config, database: Path | None) -> list[Path]:
    """What lies in the data folder and is worth keeping, without database and keys, which are members of their own."""
    apart = {config.key_file.absolute()}
    if database is not None:
        apart |= {Path(f"{database.absolute()}{ending}") for ending in ("", "-wal", "-shm", "-journal")}
    found = sorted(path for path in config.core.data_dir.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in found if path.absolute() not in apart and not _is_own(path, config.core.data_dir)]


def _is_own(path: Path, folder: Path) -> bool:
    return any(PurePosixPath(part).match(own) for part in path.relative_to(folder).parts for own in OWN)


def _split(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """What is read behind the database, and what before it."""
    later = [path for path in paths if path.parent.name == LATER]
    return later, [path for path in paths if path.parent.name != LATER]


def _add(archive: tarfile.TarFile, manifest: Manifest, name: str, path: Path) -> None:
    """Add the file as long as it is now; one that is gone meanwhile has been taken up by the database, or by nobody."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        size = os.fstat(file.fileno()).st_size
        reader = _Hashed(file)
        archive.addfile(_header(name, size), reader)
        manifest.files[name] = (size, reader.digest.hexdigest())


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o600
    return header


class _Hashed:
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


@contextmanager
def _written(target: Path | None) -> Iterator[IO[bytes]]:
    """The file under its name only when it is whole and on the disk; its owner's alone."""
    if target is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, target)  # never over a file that is there
        _sync(target.absolute().parent)
    finally:
        partial.unlink(missing_ok=True)


def restore(config: Config, source: Path | None, key_file: Path | None = None) -> Manifest:
    """Put a backup in place, in a data folder that is empty; None reads standard input.

    Args:
        key_file: The keys, for a backup that was made without them.

    Raises:
        NotRestored, AlreadyRunning: why, and what to do; nothing was put in place.
        ConfigFault: the key file is none.
    """
    folder = config.core.data_dir
    was_there = folder.exists()
    _refuse_what_is_there(config)
    lock = None
    try:
        lock = data_folder.take(folder)
        manifest = _unpack(source, folder / STAGING)
        keys_from = _checked(config, manifest, folder / STAGING, key_file)
        _put_in_place(config, manifest, folder / STAGING, keys_from)
    except OSError as exc:
        raise NotRestored(_why(exc, f"reading {source or 'standard input'} into {folder}")) from exc
    finally:
        shutil.rmtree(folder / STAGING, ignore_errors=True)
        if lock is not None:
            (folder / "callpoint.lock").unlink(missing_ok=True)
            os.close(lock)
        if not was_there:
            with suppress(OSError):  # it holds what was restored
                folder.rmdir()
    return manifest


def _refuse_what_is_there(config: Config) -> None:
    folder, database = config.core.data_dir, sqlite_path_of(config.database_url)
    there = sorted(path.name for path in folder.iterdir() if path.name != "callpoint.lock") if folder.exists() else []
    if there:
        raise NotRestored(
            f"{folder.absolute()} holds {', '.join(there[:3])}{' and more' if there[3:] else ''}, and nothing is "
            f"written over that. Stop the node and move the folder away (mv {folder} {folder}.before), or name another "
            "one with CALLPOINT_CORE__DATA_DIR."
        )
    if database is not None and database.exists():
        raise NotRestored(f"The database {database} is there already. Stop the node and move it away first.")


def _unpack(source: Path | None, staging: Path) -> Manifest:
    """Unpack all members below `staging` and compare each with the manifest."""
    named = source or "standard input"
    found: dict[str, tuple[int, str]] = {}
    told: Any = None
    staging.mkdir(mode=0o700)
    try:
        with _read(source) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                if content is None or not _is_safe(member.name):
                    raise NotRestored(f"{named} is no backup of Callpoint: it holds {member.name!r}.")
                if member.name == MANIFEST:
                    told = json.loads(content.read(MAX_MANIFEST_BYTES))
                else:
                    found[member.name] = _extract(content, staging / member.name)
        assert isinstance(told, dict), "there is no manifest"
        told["files"] = {name: (size, digest) for name, (size, digest) in told["files"].items()}
        manifest = Manifest(**told)
    except (tarfile.TarError, EOFError, AssertionError, KeyError, TypeError, ValueError, AttributeError) as exc:
        raise NotRestored(f"{named} is no whole backup of Callpoint: it was cut off or changed. Take another.") from exc
    if different := sorted(
        name for name in found.keys() | manifest.files if found.get(name) != manifest.files.get(name)
    ):
        raise NotRestored(f"{named} was damaged: {different[0]} is not what was backed up. Take another backup.")
    return manifest


@contextmanager
def _read(source: Path | None) -> Iterator[IO[bytes]]:
    if source is None:
        yield sys.stdin.buffer
        return
    with source.open("rb") as file:
        yield file


def _is_safe(name: str) -> bool:
    """Whether a member is one that a backup holds: nothing leaves the folder it is unpacked in."""
    parts = name.split("/")
    is_inside = not {"", ".", ".."} & set(parts) and "\0" not in name
    return is_inside and (name in {MANIFEST, DATABASE, KEYS} or (parts[0] == DATA and len(parts) > 1))


def _extract(content: IO[bytes], path: Path) -> tuple[int, str]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, size = sha256(), 0
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while block := content.read(BLOCK_BYTES):
            digest.update(block)
            size += file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()


def _checked(config: Config, manifest: Manifest, staging: Path, key_file: Path | None) -> Path | None:
    """Refuse what this node could not serve. Returns the key file to put in place; None: it is there."""
    newest, database = migrations.newest_revision(), sqlite_path_of(config.database_url)
    if manifest.format != FORMAT or manifest.revision > newest:
        raise NotRestored(
            f"This backup was made by Callpoint {manifest.version} with the schema {manifest.revision}, which is newer "
            f"than this version's ({newest}). Restore it with that version."
        )
    if (database is None) != (manifest.database != "sqlite"):
        raise NotRestored(
            f"This backup belongs to a node on {manifest.database}, and [core] database_url names another kind of "
            "database. Set it as it was there."
        )
    if database is not None and (faults := sqlite_faults(staging / DATABASE)):
        raise NotRestored(f"The database in this backup is damaged: {faults}. Take another backup.")
    given = key_file or (staging / KEYS if manifest.has_keys else None)
    for path in (given, config.key_file if config.key_file.exists() else None):
        if path is not None and not manifest.keys.items() <= marks_of(crypto.load(path)).items():
            raise NotRestored(
                f"{path} is not the key file of this backup: its secrets could not be opened. Name the key file of "
                f"{manifest.made_at} with --keys, and move away one that lies in its place."
            )
    if config.key_file.exists():
        return None
    if given is None:
        raise NotRestored("This backup was made without its keys. Name the key file with --keys FILE.")
    return given


def _put_in_place(config: Config, manifest: Manifest, staging: Path, keys_from: Path | None) -> None:
    folder = config.core.data_dir
    for path in sorted((staging / DATA).glob("*")):
        path.rename(folder / path.name)
    if keys_from is not None:
        config.key_file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(config.key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(keys_from.read_bytes())
            file.flush()
            os.fsync(file.fileno())
        _sync(config.key_file.absolute().parent)
    database = sqlite_path_of(config.database_url)
    if database is not None and DATABASE in manifest.files:
        database.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(staging / DATABASE, database)
        _sync(database.parent)
    _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _why(exc: BaseException, doing: str) -> str:
    """Why it failed, in a sentence, and what helps."""
    if isinstance(exc, FileExistsError):
        return f"{exc.filename2 or exc.filename} is there already, and is not written over. Name another file."
    if getattr(exc, "errno", None) in NO_SPACE or "disk is full" in str(exc):
        return (
            f"The disk became full while {doing}. Make room or name another disk; what was written so far was removed."
        )
    if isinstance(exc, OSError):
        return f"{exc.strerror or exc} ({exc.filename or doing}). Name a place that this user may read and write."
    return f"The database cannot be read or copied while {doing}: {exc}."
