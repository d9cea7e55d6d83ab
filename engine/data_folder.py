"""One node a data folder: a lock that the main process holds for as long as it lives.

A second start would bring a second SIP process to the same address, and the kernel would deal the calls out between
the two. The lock is the kernel's own (flock), so it is gone with the process, however that ends.
"""

import fcntl
import os
from pathlib import Path

from engine.errors import EngineError

LOCK = "callpoint.lock"


class AlreadyRunning(EngineError):
    """Another node serves this data folder."""

    title = "Callpoint is already running"


def take(folder: Path) -> int:
    """Make the folder when it is not there and take it. Returns the lock's descriptor, to be kept open.

    Raises:
        AlreadyRunning: another main process has it; nothing of it was touched.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise AlreadyRunning(
            f"Process {holder} serves {folder.absolute()}. It was left alone and goes on carrying calls. "
            "Stop it first, or name another folder with [core] data_dir."
        ) from exc
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def holder(folder: Path) -> int | None:
    """The main process that has the folder, whoever asks; None: nobody has. Touches nothing.

    Source: the kernel's list of locks, proc(5) /proc/locks.
    """
    try:
        inode = (folder / LOCK).stat().st_ino
        rows = [row.split() for row in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return None
    return next((int(row[4]) for row in rows if row[1] == "FLOCK" and row[5].endswith(f":{inode}")), None)


def elsewhere(pid: int, folder: Path) -> str:
    """What to say to whoever looks for that node where their own settings put it, and does not find it."""
    return (
        f"Process {pid} serves {folder.absolute()}, yet not where this command looks: it was started with other "
        "settings. Give this command the same --config and the same CALLPOINT_… variables."
    )
