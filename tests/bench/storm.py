"""The power comes back: ten thousand phones boot, five files each, a new connection for every file.

They have booted before, so that their files are kept or unchanged (half of the phones say what they have, as those that
keep an ETag do). They come at even distances whatever the node does (an open loop), each asks for its next file when it
has the last. The time of a request is that from the first byte of its connection to the last of its answer.

Two processes share a storm that one could carry as well, so each works at half the rate, and on colder caches. What a
request costs of two is therefore measured a second time with as much as they can carry (wrk, 64 connections that are
closed after each answer): then a process has as much to do whether it is the only one or one of two.
"""

import asyncio
import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.bench import machine
from tests.bench.http import wrk
from tests.bench.machine import percentile
from tests.bench.plan import Plan
from tests.bench.site import MODEL_AGENT, Site, add_phones, running_site

PHONES_PER_S = 333.0
WITHIN_S = 15.0
COMMON = "y000000000108.cfg"
NAMES = ("{mac}.boot", COMMON, "{mac}.cfg", "y000000000000.boot", "{mac}-all.cfg")  # the last two are answered 404


@dataclass(slots=True)
class Boots:
    """What a storm met. `wrong`: requests that were answered otherwise than in the calm, or not at all."""

    name: str
    phones: int
    times_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    seconds: float = 0.0
    cpu_us: float = 0.0
    peak_mb: float = 0.0
    full_per_s: float = 0.0
    full_cpu_us: float = 0.0

    @property
    def p50_ms(self) -> float:
        return percentile(self.times_ms, 0.5)

    @property
    def p99_ms(self) -> float:
        return percentile(self.times_ms, 0.99)

    @property
    def per_s(self) -> float:
        return len(self.times_ms) / self.seconds if self.seconds else 0.0


async def measure(plan: Plan, say: Callable[[str], object]) -> list[Boots]:
    """One process on a core of its own; then one and two on both cores, which the load shares with them: those two are
    what a request of two processes is to be compared by.
    """
    found = []
    nodes = (
        (1, "one process, one core"),
        (1, "one process, both cores, with the load"),
        (2, "two processes, both cores, with the load"),
    )
    for number, (workers, name) in enumerate(nodes):
        environment = {"CALLPOINT_PROVISIONING__WORKERS": str(workers)}
        with tempfile.TemporaryDirectory() as folder:
            async with running_site(Path(folder), environment) as site:
                await _all_listen(site, workers)
                if number == 0:
                    site.pin(machine.SUT_CORE)
                else:
                    machine.spread(os.getpid())  # and with it the node, which it has started
                macs = [path.rpartition("/")[2].removesuffix(".cfg") for path in add_phones(site, plan.storm_phones)]
                tags = await _calm(site, macs)
                await _settled(site)
                boots = await _storm(site, name, macs, tags)
                await _full(site, boots, macs, tags, plan.http_s)
        say(
            f"{name}: {boots.per_s:.0f} requests/s, p99 {boots.p99_ms:.0f} ms, {boots.cpu_us:.0f} µs of CPU each, "
            f"{boots.wrong} wrong; {boots.full_per_s:.0f}/s at most, {boots.full_cpu_us:.0f} µs"
        )
        found.append(boots)
    return found


async def _all_listen(site: Site, workers: int) -> None:
    async with asyncio.timeout(30):
        while len(machine.family(site.pid)) < workers + 1:  # and the SIP process
            await asyncio.sleep(0.1)
        await asyncio.sleep(2.0)  # imports


async def _calm(site: Site, macs: list[str]) -> dict[str, str]:
    """The first boots, a few at a time: every file is made and kept. Returns the ETags of the phones' own files."""
    tags: dict[str, str] = {}
    turn = asyncio.Semaphore(16)

    async def one(mac: str) -> None:
        async with turn:
            for name in NAMES:
                status, tag, _ = await ask(site, name.format(mac=mac), "")
                if name == "{mac}.cfg" and status == 200:
                    tags[mac] = tag

    await asyncio.gather(*(one(mac) for mac in macs))
    return tags


async def _settled(site: Site) -> None:
    """Until the node has stored what each phone was given: the power fails long after the first boots."""
    stored = -1
    with closing(sqlite3.connect(site.node.folder / "data" / "callpoint.db", timeout=10)) as connection:
        async with asyncio.timeout(120):
            while (now := connection.execute("SELECT COUNT(*) FROM fetched_file").fetchone()[0]) != stored:
                stored = now
                await asyncio.sleep(2.0)


async def _storm(site: Site, name: str, macs: list[str], tags: dict[str, str]) -> Boots:
    boots, loop = Boots(name, len(macs)), asyncio.get_running_loop()
    before, began = machine.cpu_s(site.pid), loop.time()

    async def one(number: int, mac: str) -> None:
        await asyncio.sleep(max(0.0, began + number / PHONES_PER_S - loop.time()))
        for pattern in NAMES:
            has = tags[mac] if pattern == "{mac}.cfg" and number % 2 else ""
            status, _, spent_s = await ask(site, pattern.format(mac=mac), has)
            expected = 304 if has else 404 if pattern in NAMES[3:] else 200
            boots.times_ms.append(spent_s * 1000)
            boots.statuses[status] += 1
            boots.wrong += status != expected

    async with asyncio.TaskGroup() as group:
        for number, mac in enumerate(macs):
            group.create_task(one(number, mac))
    boots.seconds = loop.time() - began
    boots.cpu_us = (machine.cpu_s(site.pid) - before) / max(len(boots.times_ms), 1) * 1e6
    boots.peak_mb = machine.memory(site.pid).peak
    return boots


async def _full(site: Site, boots: Boots, macs: list[str], tags: dict[str, str], seconds: float) -> None:
    """The same requests as fast as they are answered: the rate, and what one costs."""
    listed = site.node.folder / "storm.txt"
    with listed.open("w") as file:
        for number, mac in enumerate(macs):
            for pattern in NAMES:
                has = tags[mac] if pattern == "{mac}.cfg" and number % 2 else ""
                file.write(f"{site.folder}/{pattern.format(mac=mac)} {has}\n")
    load = partial(wrk, site.phones, "/", agent=MODEL_AGENT)
    await load(seconds, str(listed), "close")
    await _settled(site)  # what those were is written
    before = machine.cpu_s(site.pid)
    said = await load(seconds, str(listed), "close")
    boots.full_per_s = said["requests"] / said["duration_us"] * 1e6
    boots.full_cpu_us = (machine.cpu_s(site.pid) - before) / max(said["requests"], 1) * 1e6
    boots.wrong += int(said["errors"])


class _Asking(asyncio.Protocol):
    """One request over its own connection; the answer is what came until the other side closed it."""

    def __init__(self, asked: bytes, done: asyncio.Future[bytes]) -> None:
        self._asked, self._done, self._got = asked, done, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._asked)

    def data_received(self, data: bytes) -> None:
        self._got += data

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(self._got if exc is None else b"")


async def ask(site: Site, name: str, has: str) -> tuple[int, str, float]:
    """One request over a connection of its own: status (0: none), ETag, seconds."""
    loop = asyncio.get_running_loop()
    head = [f"GET {site.folder}/{name} HTTP/1.1", "Host: {}:{}".format(*site.phones), f"User-Agent: {MODEL_AGENT}"]
    head += [f"If-None-Match: {has}"] if has else []
    asked = "\r\n".join([*head, "Connection: close", "", ""]).encode()
    began, done = loop.time(), loop.create_future()
    try:
        async with asyncio.timeout(WITHIN_S):
            await loop.create_connection(lambda: _Asking(asked, done), *site.phones)
            answer = await done
    except (OSError, TimeoutError):
        return 0, "", loop.time() - began
    spent_s = loop.time() - began
    first, _, rest = answer.partition(b"\r\n")
    status = int(first.split()[1]) if first.startswith(b"HTTP/1.1 ") else 0
    tag = next((line[5:].strip().decode() for line in rest.split(b"\r\n") if line.lower().startswith(b"etag:")), "")
    return status, tag, spent_s
