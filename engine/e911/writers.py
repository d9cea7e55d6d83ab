"""Which of the processes that wrote the journal of a data folder live: each holds a file of its own locked.

The kernel lets the lock go with the process, however it ends. So whoever reads the journal knows of each call whether
the process that carried it can still tell its end; and since the files lie in one node's folder, it never takes the
calls of another node for its own.
"""

import fcntl
import os
import secrets
from pathlib import Path


class WriterMark:
    """A writer's own file beside the journal's folder. `name` is drawn, and stands with the calls it wrote."""

    def __init__(self, journal: Path) -> None:
        self.name = secrets.token_hex(8)
        self._path = _folder(journal) / self.name
        self._descriptor: int | None = None

    def hold(self) -> None:
        """Lock it, once, before the first entry is on disk. Raises OSError: the disk refuses; try again."""
        while self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if self._path.exists() and os.path.samestat(os.fstat(descriptor), self._path.stat()):
                self._descriptor = descriptor
            else:  # a reader took the unlocked file for one of the past in this very moment
                os.close(descriptor)

    def let_go(self) -> None:
        """This process writes no more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


def ended_writers(journal: Path) -> list[str]:
    """The writers of that journal that live no more, and were not forgotten yet."""
    folder = _folder(journal)
    return [path.name for path in sorted(folder.iterdir()) if _is_free(path)] if folder.is_dir() else []


def living_writers(journal: Path) -> set[str]:
    """The writers of that journal that live: whatever they know of their calls will be told."""
    folder = _folder(journal)
    return {path.name for path in folder.iterdir() if not _is_free(path)} if folder.is_dir() else set()


def forget_writer(journal: Path, name: str) -> None:
    """Its calls are closed: it need not be looked at again."""
    _is_free(_folder(journal) / name, and_remove=True)


def _folder(journal: Path) -> Path:
    return journal.with_name(f"{journal.name}-writers")


def _is_free(path: Path, *, and_remove: bool = False) -> bool:
    """Whether nobody holds it; removed under the lock, so that a writer that waits for it sees that it is gone."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if and_remove:
            path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
