"""How long something took, without the time in which the machine had no core for it: that is no fault of the product.

A test says what a product must do in time. On a machine that does much else the clock alone would blame it for others:
what the processes waited for a core (proc(5), `schedstat`) and what the host took of the machine is left out.
"""

import contextlib
import os
import time
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Stopwatch:
    """Runs from its making on. `pids`: processes that have a part in what is measured, beside this one."""

    def __init__(self, *pids: int) -> None:
        self._pids = {*pids, os.getpid()}
        self._began, self._waited_s = time.monotonic(), self._kept_waiting_s()

    def took_s(self) -> float:
        """Seconds until now; 0 when the machine was busier with others than all of that."""
        waited_s = self._kept_waiting_s() - self._waited_s
        return max(0.0, time.monotonic() - self._began - waited_s)

    def _kept_waiting_s(self) -> float:
        waited_ns = 0
        for pid in self._pids:
            with contextlib.suppress(OSError):  # a process that has ended meanwhile
                for task in Path(f"/proc/{pid}/task").iterdir():
                    with contextlib.suppress(OSError):  # a thread that has
                        waited_ns += int((task / "schedstat").read_text().split()[1])
        stolen = int(Path("/proc/stat").read_text().splitlines()[0].split()[8])
        return waited_ns / 1e9 + stolen / _TICKS_PER_S
