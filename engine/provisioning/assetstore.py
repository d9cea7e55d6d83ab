"""The bytes of the account's files on disk: `<data_dir>/assets/<sha256>`, written once, never changed.

Theory of operation. A file comes in as a stream: it is written to a temporary name while its SHA-256 is taken, synced,
and renamed to that SHA-256 when the row that names it is written; two accounts with the same firmware share one. No
part of a path ever comes from a user: the name is a digest and checked to be one.

A file that no row names is removed by `sweep`. A row that is being written names its file only at its commit, so a file
is spared for a while after it was put in place, and putting it there again makes it young again; both happen under one
lock, in whatever process.
"""

import asyncio
import fcntl
import os
import re
import secrets
from collections.abc import AsyncIterable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from engine.errors import FieldFault, Invalid

SPARE_S = 3600.0  # longer than any upload's transaction
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_UPLOAD = "upload-"


@dataclass(frozen=True, slots=True)
class Received:
    """An upload that lies under a temporary name."""

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class AssetStore:
    """The folder; made at the first use, for nobody's eyes but ours."""

    folder: Path
    spare_s: float = SPARE_S

    async def receive(self, chunks: AsyncIterable[bytes], *, most_bytes: int) -> Received:
        """Write a stream under a temporary name.

        Raises:
            Invalid: it is empty or longer than `most_bytes`; nothing of it is left.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / f"{_UPLOAD}{secrets.token_hex(16)}"
        try:
            with path.open("xb") as file:
                os.fchmod(file.fileno(), 0o600)
                digest, size = await _write(file, chunks, most_bytes)
                await asyncio.to_thread(os.fsync, file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Received(path, digest, size)

    def keep(self, received: Received) -> None:
        """Give it its lasting name; from now on `open` finds it."""
        with self._locked():
            received.path.replace(self._path(received.sha256))
            os.utime(self._path(received.sha256))
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def discard(self, received: Received) -> None:
        """Forget an upload that no row will name. One that was kept is not touched."""
        received.path.unlink(missing_ok=True)

    def open(self, digest: str) -> BinaryIO:
        """The bytes to read. Raises FileNotFoundError: they are not on this node."""
        return self._path(digest).open("rb")

    def sweep(self, named: Collection[str], now: float) -> int:
        """Remove what no row names and was put in place longer ago than `spare_s`; `now`: seconds since the epoch.
        Returns how many files went.
        """
        if not self.folder.is_dir():
            return 0
        gone = 0
        with self._locked():
            for path in self.folder.iterdir():
                is_ours = _DIGEST.match(path.name) is not None or path.name.startswith(_UPLOAD)
                if is_ours and path.name not in named and path.stat().st_mtime < now - self.spare_s:
                    path.unlink(missing_ok=True)
                    gone += 1
        return gone

    def _path(self, digest: str) -> Path:
        if not _DIGEST.match(digest):
            raise FileNotFoundError(f"{digest!r} is the name of no file")
        return self.folder / digest

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


async def _write(file: BinaryIO, chunks: AsyncIterable[bytes], most_bytes: int) -> tuple[str, int]:
    digest, size = sha256(), 0
    async for chunk in chunks:
        size += len(chunk)
        if size > most_bytes:
            raise _bad_size(f"Expected at most {most_bytes:,} bytes, got more.")
        digest.update(chunk)
        file.write(chunk)
    if not size:
        raise _bad_size("Expected the file's bytes as the body, got none.")
    file.flush()
    return digest.hexdigest(), size


def _bad_size(text: str) -> Invalid:
    return Invalid("The file cannot be stored.", fields=(FieldFault("file", text),))
