"""The local journal: what became of each call, durable before anything else is done with it, and never in the call's
way.

The SIP process hands entries to a writer thread; the thread seals each into one line, appends what has gathered and
calls fdatasync once for all of it. The main process reads from a position it keeps in the database, and removes files
it has recorded in full.

Files are `journal-<number>-<writer>.sealed`, names that sort by age; a writer never appends to a file of an earlier
run, so a line torn by a crash is always the last of its file. When the disk refuses, entries stay in memory and are
tried again in a new file: an entry can then stand in the journal twice, so whoever records must know a call by its
identifier. A position is opaque text.
"""

import base64
import binascii
import fcntl
import json
import os
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NewType

from engine.crypto import KeyRing, Unsealable
from engine.e911.writers import WriterMark

CONTEXT = "journal"
PREFIX = "journal-"
SUFFIX = ".sealed"
READER = "reader"
_READER_NAME = re.compile(r"[0-9a-f]{16}")
MAX_FILE_BYTES = 16 * 1024 * 1024  # a few thousand calls; small enough that a recorded file goes soon
MAX_WAITING = 20_000  # entries kept in memory while the disk refuses: about 200 MB of INVITEs at the very worst
RETRY_S = 1.0
# what comes within this is written and synced together: the thread takes the interpreter from calls less often
GATHER_S = 0.005
STOP_WITHIN_S = 5.0

Position = NewType("Position", str)
"""How far a reader has come, opaque: `<first file not done>;<file>:<bytes read>,…`. "" is the beginning."""
START = Position("")
Entry = Mapping[str, Any]


class JournalWriter:
    """Appends entries from a thread of its own. `put` is for one thread (the loop's) and never waits.

    Args:
        on_durable: Called from the writer's thread when all entries taken so far are on disk.
        on_fault: Called from the writer's thread with a sentence when the disk refuses, and with "" when it takes
        again. name: Tells writers of one folder apart (several SIP processes).
    """

    def __init__(
        self,
        directory: Path,
        keys: KeyRing,
        *,
        on_durable: Callable[[], None],
        on_fault: Callable[[str], None],
        max_file_bytes: int = MAX_FILE_BYTES,
        max_waiting: int = MAX_WAITING,
        retry_s: float = RETRY_S,
    ) -> None:
        self._directory, self._keys = directory, keys
        self._on_durable, self._on_fault = on_durable, on_fault
        self._max_file_bytes, self._max_waiting, self._retry_s = max_file_bytes, max_waiting, retry_s
        self._waiting: deque[Entry] = deque()
        self._batch: list[Entry] = []  # the writer's own: taken, not yet durable
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._file: int | None = None
        self._mark = WriterMark(directory)
        self._size = 0
        self._faulty = False
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Take an entry; it must not be changed afterwards. When the disk has refused for very long, the oldest are
        given up.
        """
        if len(self._waiting) >= self._max_waiting:
            try:
                self._waiting.popleft()
                self.lost += 1
            except IndexError:  # the writer took them all in between
                pass
        self._waiting.append(entry)
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Entries not yet durable."""
        return len(self._waiting) + len(self._batch)

    def close(self, within_s: float = STOP_WITHIN_S) -> bool:
        """Write what is waiting and end the thread; False when the disk would not take it in time."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(within_s)
        return not self._thread.is_alive() and not self.waiting

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._stopping.wait(GATHER_S)
            self._wake.clear()
            if not self._write_waiting():
                if self._stopping.wait(self._retry_s):
                    self._write_waiting()
                    break
                self._wake.set()
            elif self._stopping.is_set() and not self._waiting:  # put() is over by then
                break
        self._close_file()
        self._mark.let_go()

    def _write_waiting(self) -> bool:
        """Append all that waits; on a refusal everything is kept for the next try, in a file of its own."""
        while self._waiting and len(self._batch) < self._max_waiting:
            self._batch.append(self._waiting.popleft())
        if not self._batch:
            return True
        try:
            self._append(b"".join(self._line(entry) for entry in self._batch))
        except OSError as exc:
            self._close_file()
            self._faulty = True
            self._on_fault(
                f"the journal cannot be written ({exc.strerror or exc}); {self.waiting} entries wait in memory"
            )
            return False
        self._batch.clear()
        if self._faulty:
            self._faulty = False
            self._on_fault("")
        self._on_durable()
        return True

    def _line(self, entry: Entry) -> bytes:
        if (
            isinstance(entry, Mapping) and entry.get("type") == "call"
        ):  # whoever reads it knows by the writer whether its end can still be told
            entry = {**entry, "writer": self._mark.name}
        data = json.dumps(entry, separators=(",", ":"), default=str).encode()
        return base64.b64encode(self._keys.seal(data, CONTEXT)) + b"\n"

    def _append(self, lines: bytes) -> None:
        if self._file is None or self._size >= self._max_file_bytes:
            self._close_file()
            self._open_file()
        assert self._file is not None
        view = memoryview(lines)
        while view:
            view = view[os.write(self._file, view) :]
        os.fdatasync(self._file)
        self._size += len(lines)

    def _open_file(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._mark.hold()
        newest = max((_number(path) for path in _files(self._directory)), default=0)
        number = max(newest + 1, time.time_ns() // 1000)
        while self._file is None:
            path = self._directory / f"{PREFIX}{number:016d}{SUFFIX}"
            try:
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            except FileExistsError:  # another writer of this folder took that name in this very moment
                number += 1
        fcntl.flock(self._file, fcntl.LOCK_EX)  # goes with the process, however it ends
        self._size = 0
        folder = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(folder)  # a file whose name is not on disk is not there after a power cut
        finally:
            os.close(folder)

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None


class JournalReader:
    """Reads what writers have appended, in order, from a position the caller keeps.

    `unreadable` counts lines that did not open (another key, a changed byte); they are passed over.
    """

    def __init__(self, directory: Path, keys: KeyRing) -> None:
        self._directory, self._keys = directory, keys
        self.unreadable = 0

    def read_from(self, position: Position = START, limit: int = 500) -> tuple[list[dict[str, Any]], Position]:
        """At most `limit` entries behind the position, and the position behind them. No entries: nothing new yet.

        A last line without its end is left for the next time; in a file that nobody writes to any more it is passed
        over.
        """
        entries: list[dict[str, Any]] = []
        first, offsets = _parsed(position)
        files = [path for path in _files(self._directory) if _number(path) >= first]
        done: set[int] = set()
        for path in files:
            number = _number(path)
            is_closed = _is_closed(path)  # asked before reading: what is appended in between is read the next time
            offsets[number], is_exhausted = self._read(path, offsets.get(number, 0), entries, limit)
            if is_closed and is_exhausted:
                done.add(number)
            if len(entries) >= limit:
                break
        for path in files:
            if _number(path) not in done:
                break
            first = _number(path) + 1
        return entries, _position(first, offsets)

    def discard(self, before: Position) -> int:
        """Remove the files that lie wholly before the position; returns how many."""
        first, _ = _parsed(before)
        gone = [path for path in _files(self._directory) if _number(path) < first]
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def _read(self, path: Path, offset: int, entries: list[dict[str, Any]], limit: int) -> tuple[int, bool]:
        """Take whole lines from `offset` on; returns the offset behind them and whether the file has no more."""
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if len(entries) >= limit:
                    return offset, False
                if not line.endswith(b"\n"):
                    break
                offset += len(line)
                self._take(line, entries)
        return offset, True

    def _take(self, line: bytes, entries: list[dict[str, Any]]) -> None:
        try:
            entry = json.loads(self._keys.open(base64.b64decode(line.rstrip(b"\n"), validate=True), CONTEXT))
        except (Unsealable, binascii.Error, ValueError):
            self.unreadable += 1
            return
        entries.append(entry)


def reader_name(directory: Path) -> str:
    """Under what name the position of whoever reads this folder is kept: drawn once, and kept in the folder itself.

    Several nodes share a database, and each has a journal of its own: by another's position one would pass over calls,
    and remove them.

    Raises:
        OSError: the disk refuses; try again.
    """
    path = directory / READER
    name = path.read_text("ascii", errors="replace").strip() if path.exists() else ""
    if not _READER_NAME.fullmatch(name):
        name = secrets.token_hex(8)
        directory.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(name, "ascii")
        fresh.replace(path)
    return name


def _files(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"{PREFIX}*{SUFFIX}")) if directory.is_dir() else []


def _number(path: Path) -> int:
    digits = path.name.removeprefix(PREFIX).removesuffix(SUFFIX)
    return int(digits) if digits.isdigit() else 0


def _is_closed(path: Path) -> bool:
    """True when no writer holds the file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _parsed(position: Position) -> tuple[int, dict[int, int]]:
    first, _, rest = position.partition(";")
    pairs = (pair.partition(":") for pair in rest.split(",") if pair)
    return int(first or 0), {int(number): int(offset) for number, _, offset in pairs}


def _position(first: int, offsets: Mapping[int, int]) -> Position:
    kept = (f"{number}:{offset}" for number, offset in sorted(offsets.items()) if number >= first)
    return Position(f"{first};{','.join(kept)}")
