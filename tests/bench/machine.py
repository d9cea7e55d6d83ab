"""The machine a figure belongs to, and what the kernel says of a process: CPU time, memory."""

import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from engine import native

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_CORES = sorted(os.sched_getaffinity(0))
SUT_CORE, LOAD_CORE = _CORES[0], _CORES[-1]  # one core alone: both share it, and the table says so


def describe() -> dict[str, str]:
    """What to print beside every figure."""
    return {
        "cpu": _cpu_model(),
        "cores": f"{len(_CORES)} (measured on {SUT_CORE}, load from {LOAD_CORE})",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "python": f"{platform.python_version()}, {_build()}",
        "SIP core": "compiled" if native.compiled() else "Python source",
        "load average": " ".join(f"{each:.2f}" for each in os.getloadavg()),
        "socket buffers": f"net.core.rmem_max {_sysctl('net/core/rmem_max')}",
        "beside": ", ".join(version for name in ("kamailio", "nginx", "sipp") if (version := _version(name))),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def _build() -> str:
    import sysconfig

    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    optimised = "--enable-optimizations" in arguments
    return f"{'optimised' if optimised else 'plain'} build at {sys.base_prefix}"


def _sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return "unknown"


def _version(name: str) -> str:
    """A foreign program's name and version; empty where it is not installed."""
    words = {"kamailio": ["-v"], "nginx": ["-v"], "sipp": ["-v"]}[name]
    environment = os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin", "TERM": "dumb"}
    try:
        done = subprocess.run([name, *words], capture_output=True, text=True, check=False, env=environment)
    except OSError:
        return ""
    first = next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), "")
    return (
        first.split("(")[0]
        .replace("version: ", "")
        .replace(" version", "")
        .replace("nginx nginx/", "nginx ")
        .rstrip(". ")
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes (10^6 bytes). `peak`: the most that was resident; `own`: shared pages counted once."""

    peak: float
    own: float


def family(pid: int) -> list[int]:
    """The process and all its descendants."""
    found, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        found.append(each)
        for tasks in Path(f"/proc/{each}/task").glob("*/children"):
            waiting += [int(child) for child in tasks.read_text().split()]
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds the process and its descendants have used, in user space and in the kernel."""
    total = 0
    for each in family(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])  # utime, stime: proc(5)
    return total / _TICKS_PER_S


def memory(pid: int) -> Memory:
    """What the process and its descendants hold now. `peak` adds their high-water marks, shared pages in each."""
    peak_kb = own_kb = 0
    for each in family(pid):
        peak_kb += _field(Path(f"/proc/{each}/status"), "VmHWM:")
        own_kb += _field(Path(f"/proc/{each}/smaps_rollup"), "Pss:")
    return Memory(peak_kb * 1024 / 1e6, own_kb * 1024 / 1e6)


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0


def resident_mb(pid: int) -> float:
    """Resident memory of the process and its descendants now, shared pages counted in each."""
    return sum(_field(Path(f"/proc/{each}/status"), "VmRSS:") for each in family(pid)) * 1024 / 1e6


class Neighbours:
    """What other processes take of the machine from its making on: figures taken meanwhile are theirs as well."""

    def __init__(self) -> None:
        self._started, self._busy_s, self._own_s = time.monotonic(), _busy_s(), _own_s()

    def cores(self) -> float:
        """Cores they kept busy, on average. Ours is what this process and its ended children have used."""
        theirs_s = _busy_s() - self._busy_s - (_own_s() - self._own_s)
        return max(0.0, theirs_s / max(time.monotonic() - self._started, 0.01))


def _busy_s() -> float:
    """CPU seconds of all cores in user space, in the kernel for somebody, or taken by the host (proc(5))."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return sum(int(fields[at]) for at in (0, 1, 2, 7)) / _TICKS_PER_S


def _own_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def percentile(values: list[float], share: float) -> float:
    """The value below which that share lies; 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def pin_self(core: int) -> None:
    """Move this process, and all it starts unpinned, onto that core."""
    os.sched_setaffinity(0, {core})


def pin(pid: int, core: int) -> None:
    """Move every thread of the process and its descendants onto that core."""
    _bind(pid, {core})


def spread(pid: int) -> None:
    """Let every thread of the process and its descendants run on any core: what a pinned process starts is pinned."""
    _bind(pid, set(_CORES))


def _bind(pid: int, cores: set[int]) -> None:
    for each in family(pid):
        for task in Path(f"/proc/{each}/task").iterdir():
            os.sched_setaffinity(int(task.name), cores)
