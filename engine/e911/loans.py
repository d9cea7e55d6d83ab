"""Which numbers are lent to whom, on disk beside the journal: a restart must not lose a caller who may be called back.

Each SIP process appends to a small file of its own, one sealed line a loan, and reads on in those of the others, so
that a call back finds its caller whichever process takes it. Nothing waits for the disk: a thread writes twice a
second what was lent since, and begins the file anew when most of it is over, or when the clock was set: a loan is so
many minutes, whatever the clock says meanwhile.
"""

import json
import os
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

from engine.crypto import KeyRing, Unsealable
from engine.e911.lending import MAX_LENT, Lending, Loan, without_stream

CONTEXT = "loans"
SUFFIX = ".loans"
STEP = timedelta(minutes=1)  # a clock that is so far from where it ought to be was set; less is its own business
MAX_LINES = 3 * MAX_LENT  # of one file; then it is begun anew with what is still good


class LoanFiles:
    """Keeps a `Lending` in step with the folder. `load` at the start, `tick` now and then, `close` at the end.

    Args:
        folder: The node's data folder.
        name: Whose file; one for each SIP process.
        on_fault: Told why a file cannot be written or read, and "" when it can again. `fault` is the last word.
    """

    def __init__(
        self,
        folder: Path,
        keys: KeyRing,
        lending: Lending,
        *,
        name: str = "edge",
        on_fault: Callable[[str], None] = lambda _: None,
        max_lines: int = MAX_LINES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fault = ""
        self._on_fault = on_fault
        self._folder, self._keys, self._lending = folder / "loans", keys, lending
        self._own = self._folder / f"{name}{SUFFIX}"
        self._read: dict[Path, tuple[int, int]] = {}  # (inode, how far it was read)
        self._thread = ThreadPoolExecutor(1, "loans")
        self._work: Future[str] | None = None
        self._lines, self._max_lines = 0, max_lines
        self._monotonic = monotonic
        self._seen: tuple[datetime, float] | None = None  # both clocks at the last tick
        self._is_moved = False  # our file holds the times of before

    def load(self, now: datetime) -> None:
        """Read every process's file, our own of before too; ours is begun anew."""
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            self._learn(path)
        if self._own.exists():
            self._begin_anew(now)

    def tick(self, now: datetime) -> None:
        """Write what was lent since, learn what others lent; `now` is UTC. Returns at once."""
        self._look_at_the_clock(now)  # before others' files are read, which are moved already
        if self._work is not None:
            if not self._work.done():
                return
            self._note(self._work.result())
            self._work = None
        for path in self._others():
            self._learn(path)
        if self._is_moved or self._lines > self._max_lines:
            self._begin_anew(now)
        elif self._lending.fresh:
            fresh = self._lending.take_fresh()
            self._lines += len(fresh)
            self._work = self._thread.submit(self._write, fresh, is_new=False)

    def _look_at_the_clock(self, now: datetime) -> None:
        """Move the loans when the clock was set since the last look."""
        before, self._seen = self._seen, (now, self._monotonic())
        if before is not None:
            step = now - before[0] - timedelta(seconds=self._seen[1] - before[1])
            if abs(step) >= STEP:
                self._lending.shift(step)
                self._is_moved = True

    def close(self) -> None:
        """Write what is not written yet; takes as long as the disk does."""
        self._thread.shutdown(wait=True)
        fresh = self._lending.take_fresh()
        if fresh:
            self._note(self._write(fresh, is_new=False))

    def _note(self, fault: str) -> None:
        if fault != self.fault:
            self.fault = fault
            self._on_fault(fault)

    def _begin_anew(self, now: datetime) -> None:
        self._lending.take_fresh()
        self._is_moved = False
        loans = self._lending.loans(now)
        self._lines = len(loans)
        self._work = self._thread.submit(self._write, loans, is_new=True)

    def _write(self, loans: Sequence[Loan], *, is_new: bool) -> str:
        """In the thread; "" or why it failed."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path = self._own.with_suffix(".new") if is_new else self._own
            flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if is_new else os.O_APPEND)
            with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
                file.writelines(self._lines_of(loans))
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                path.replace(self._own)
        except OSError as exc:
            return f"{self._own.name} cannot be written ({exc}); after a restart calls back may miss their callers"
        return ""

    def _lines_of(self, loans: Iterable[Loan]) -> Iterable[bytes]:
        for loan in loans:
            text = json.dumps(without_stream(loan).as_dict()).encode()
            yield b64encode(self._keys.seal(text, CONTEXT)) + b"\n"

    def _others(self) -> list[Path]:
        """Files of other processes that have grown or were begun anew."""
        found: list[Path] = []
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if entry.name.endswith(SUFFIX) and entry.name != self._own.name:
                        state = entry.stat()
                        path = Path(entry.path)
                        if self._read.get(path) != (state.st_ino, state.st_size):
                            found.append(path)
        except OSError:
            return []
        return found

    def _learn(self, path: Path) -> None:
        """Read on where we were; a line that is cut off is read when it is whole."""
        try:
            with path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                known, position = self._read.get(path, (0, 0))
                file.seek(position if known == inode else 0)
                text = file.read()
                whole = text[: text.rfind(b"\n") + 1]
                self._read[path] = (inode, file.tell() - len(text) + len(whole))
        except OSError as exc:
            self._note(f"{path.name} cannot be read ({exc}); calls back to the numbers in it may miss their callers")
            return
        self._lending.learn(self._loans_in(path, whole.splitlines()))

    def _loans_in(self, path: Path, lines: Iterable[bytes]) -> Iterable[Loan]:
        for line in lines:
            try:
                yield Loan.of(json.loads(self._keys.open(b64decode(line, validate=True), CONTEXT)))
            except (Unsealable, ValueError, TypeError, KeyError, AttributeError) as exc:
                self._note(f"{path.name}: a line cannot be read ({exc!r:.80}); a call back to its number may miss")
