"""Which numbers are lent to whom, on disk beside the journal: a restart must not lose a caller who may be called back.

Each SIP process writes one small sealed file of its own and reads those of the others, so that a call back finds its
caller whichever process takes it. Nothing waits for the disk: what changed is written by a thread, twice a second.
"""

import asyncio
import json
import os
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from engine.crypto import KeyRing, Unsealable
from engine.e911.lending import Lending, Loan, without_stream

CONTEXT = "loans"
SUFFIX = ".loans"


class LoanFiles:
    """Keeps a `Lending` in step with the folder. `load` at the start, `tick` now and then, `close` at the end.

    Args:
        folder: The node's data folder.
        name: Whose file; one for each SIP process.
        fault: Told why a file cannot be written or read; "" once it can again.
    """

    def __init__(self, folder: Path, keys: KeyRing, lending: Lending, *, name: str = "edge") -> None:
        self.fault = ""
        self._folder, self._keys, self._lending = folder / "loans", keys, lending
        self._own = self._folder / f"{name}{SUFFIX}"
        self._written = lending.version
        self._read: dict[Path, float] = {}
        self._thread = ThreadPoolExecutor(1, "loans")
        self._work: Future[str] | asyncio.Future[str] | None = None

    def load(self) -> None:
        """Read every process's file, our own of before too."""
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            self._learn(path)

    def tick(self, now: datetime) -> None:
        """Write what was lent since, learn what others lent; `now` is UTC. Returns at once."""
        if self._work is not None:
            if not self._work.done():
                return
            self.fault = self._work.result()
            self._work = None
        for path in self._changed():
            self._learn(path)
        if self._written != self._lending.version:
            self._written = self._lending.version
            self._work = self._thread.submit(self._write, self._text(now))

    def close(self, now: datetime) -> None:
        """Write what is not written yet; takes as long as the disk does."""
        self._thread.shutdown(wait=True)
        if self._written != self._lending.version:
            self.fault = self._write(self._text(now))

    def _text(self, now: datetime) -> bytes:
        return json.dumps([without_stream(loan).as_dict() for loan in self._lending.loans(now)]).encode()

    def _write(self, text: bytes) -> str:
        """In the thread; "" or why it failed."""
        fresh = self._own.with_suffix(".new")
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._keys.seal(text, CONTEXT))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._own)
        except OSError as exc:
            return f"{self._own.name} cannot be written ({exc}); after a restart callbacks may miss their callers"
        return ""

    def _changed(self) -> list[Path]:
        try:
            with os.scandir(self._folder) as entries:
                found = [entry for entry in entries if entry.name.endswith(SUFFIX) and entry.name != self._own.name]
                return [
                    Path(entry.path) for entry in found if self._read.get(Path(entry.path)) != entry.stat().st_mtime
                ]
        except OSError:
            return []

    def _learn(self, path: Path) -> None:
        try:
            self._read[path] = path.stat().st_mtime
            rows = json.loads(self._keys.open(path.read_bytes(), CONTEXT))
            self._lending.learn(Loan.of(row) for row in rows)
        except (OSError, Unsealable, ValueError, TypeError, KeyError, AttributeError) as exc:
            self.fault = f"{path.name} cannot be read ({exc}); callbacks to the numbers in it may miss their callers"
