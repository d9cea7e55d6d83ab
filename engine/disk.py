"""The free space where a node keeps its data: how much there is, and when it is too little.

The main process alone looks, in a thread; the SIP process never asks and never waits for it. A level that was
reached is left only when a quarter more than its threshold is free: a file that comes and goes raises no alarm twice.
"""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import structlog

from engine.config import Storage

LOOK_S = 30.0
_log = structlog.get_logger()


class Level(StrEnum):
    """How things stand. LOW: somebody should act. CRITICAL: what can be spared is."""

    GOOD = "good"
    LOW = "low"
    CRITICAL = "critical"


_RANK = {Level.GOOD: 0, Level.LOW: 1, Level.CRITICAL: 2}


def is_worse(level: Level, than: Level) -> bool:
    return _RANK[level] > _RANK[than]


def level_of(free_bytes: int, before: Level, section: Storage) -> Level:
    """The level of that much free space, after `before`."""
    thresholds = ((Level.CRITICAL, section.critical_below_bytes), (Level.LOW, section.low_below_bytes))
    for level, below in thresholds:
        is_held = not is_worse(level, before) and free_bytes < below + below // 4
        if free_bytes < below or is_held:
            return level
    return Level.GOOD


def free_bytes_at(folder: Path) -> int:
    """What anybody but root can still write there; of the nearest folder above when it is not there yet."""
    place = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    return shutil.disk_usage(place).free


def in_words(size_bytes: int) -> str:
    """`3.2 GB`, `210 MB`."""
    return f"{size_bytes / 1e9:,.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:,.0f} MB"


@dataclass(slots=True)
class DiskWatch:
    """`run` as a background task; `level` and `free_bytes` are what it saw last (`None`: nothing yet). `is_seen`: that
    is how it is, since the folder could be asked the last time.

    Args:
        on_worse: Told each level when it gets worse than it was.
    """

    folder: Path
    section: Storage
    on_worse: list[Callable[[Level], None]] = field(default_factory=list)
    measure: Callable[[Path], int] = free_bytes_at
    level: Level = Level.GOOD
    free_bytes: int | None = None
    is_seen: bool = False

    async def run(self) -> None:
        """Until cancelled. A folder that cannot be asked leaves things as they were seen last."""
        while True:
            try:
                await self.look()
            except OSError as exc:
                _log.warning("disk_not_seen", error=type(exc).__name__, folder=str(self.folder))
            await asyncio.sleep(LOOK_S)

    async def look(self) -> Level:
        """Measure now. Raises OSError."""
        self.is_seen = False
        self.free_bytes = await asyncio.to_thread(self.measure, self.folder)
        self.is_seen = True
        before, self.level = self.level, level_of(self.free_bytes, self.level, self.section)
        if is_worse(self.level, before):
            _log.error(
                "disk_low", level=self.level.value, free_bytes=self.free_bytes, folder=str(self.folder),
                meaning="911 calls go out; when nothing is free, their records and mails wait",
            )  # fmt: skip
            for tell in self.on_worse:
                tell(self.level)
        elif self.level is not before:
            _log.info("disk_better", level=self.level.value, free_bytes=self.free_bytes)
        return self.level

    def alarm(self) -> str:
        """What a person has to know now; empty: nothing."""
        if self.level is Level.GOOD or self.free_bytes is None:
            return ""
        return alarm_of(self.level, self.free_bytes)


def alarm_of(level: Level, free_bytes: int) -> str:
    """What little space means for 911 calls and what to do, in sentences."""
    free = in_words(free_bytes)
    if level is Level.CRITICAL:
        return (
            f"The disk is nearly full: {free} left. 911 calls go out whatever is on it, but when nothing is left their "
            "records stay in memory, where a restart loses them, and nobody is mailed. Free space now. Until then "
            "uploads are refused and all but the last day of the fetch log is removed; records of calls and the audit "
            "log stay."
        )
    return (
        f"The disk is filling up: {free} left. 911 calls go out whatever is on it; their records and mails need room. "
        "Free space, or keep records for less time."
    )
