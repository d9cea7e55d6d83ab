"""`python3 run.py soak [--minutes 60]`: an hour of calls through a whole node.

Memory, descriptors and transactions must stay flat, and no 911 may be lost.

Ordinary calls and 911 calls, phones that fetch their files, an administrator who changes the table now and then. Each
window's numbers are printed; the verdict compares the last quarter with the first after the warm-up.
"""

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests import peers
from tests.bench import machine
from tests.bench.generator import Generator, Load, Outcome
from tests.bench.site import Site, running_site

WINDOW_S = 20.0
RATE = 50.0
EMERGENCY_EVERY = 50  # one 911 a second, each of which is a record and a mail
FETCHES_A_WINDOW = 100
SETTLED_S = 3.0  # the table with the trunk in it has reached the SIP process
QUIET_S = 45.0  # longer than any transaction lives: RFC 3261 timers B, H, L
GROWTH = 1.03  # what the last quarter may hold more than the first after the warm-up
SLACK_MB, SLACK_DESCRIPTORS = 4.0, 8


@dataclass(frozen=True, slots=True)
class Sample:
    """The node's two processes after a window."""

    at_s: float
    main_mb: float
    edge_mb: float
    main_descriptors: int
    edge_descriptors: int
    numbers: Mapping[str, float]


class _Mails:
    def __init__(self) -> None:
        self.count = 0

    async def handle_DATA(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        self.count += 1
        return "250 kept"


def main() -> int:
    parser = argparse.ArgumentParser(prog="run.py soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=RATE, help="calls a second")
    asked = parser.parse_args()
    return asyncio.run(soak(asked.minutes * 60, asked.rate))


async def soak(seconds: float, rate: float) -> int:
    """Exit code: 0 when everything stayed flat and no call was lost."""
    mails = _Mails()
    faults: list[str] = []
    samples: list[Sample] = []
    emergencies = 0
    generator = Generator(peers.PBX_IP, peers.CARRIER_IP)
    async with _mail_server(mails) as mail_port:
        environment = {
            "CALLPOINT_MAIL__HOST": peers.NODE_IP,
            "CALLPOINT_MAIL__PORT": str(mail_port),
            "CALLPOINT_MAIL__SECURITY": "none",
        }
        with tempfile.TemporaryDirectory() as folder:
            async with running_site(Path(folder), environment, callee=generator.callee_address) as site:
                await asyncio.sleep(SETTLED_S)
                started = time.monotonic()
                while (at := time.monotonic() - started) < seconds:
                    load = Load(rate, WINDOW_S, emergency_every=EMERGENCY_EVERY)
                    outcome, _ = await asyncio.gather(
                        asyncio.to_thread(generator.run, load, site.node.udp), _fetches(site, FETCHES_A_WINDOW)
                    )
                    emergencies += len(outcome.emergency_delays_ms)
                    faults += _faults_of(outcome, at)
                    await _touch(site, len(samples))
                    samples.append(await _sample(site, at))
                    _show(samples[-1], outcome, mails.count)
                await asyncio.sleep(QUIET_S)
                samples.append(await _sample(site, time.monotonic() - started))
                calls = await _count_calls(site)
    generator.close()
    faults += _verdict(samples)
    if calls < emergencies:
        faults.append(f"{emergencies} emergency calls were placed, {calls} are recorded")
    if mails.count < emergencies:
        faults.append(f"{emergencies} emergency calls were placed, {mails.count} mails came")
    for fault in faults:
        print("FAULT", fault)
    print(
        f"{emergencies} emergency calls, {calls} recorded, {mails.count} mails: {'flat' if not faults else 'NOT flat'}"
    )
    return 1 if faults else 0


@contextlib.asynccontextmanager
async def _mail_server(mails: _Mails) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(mails, loop=loop), peers.NODE_IP, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _fetches(site: Site, count: int) -> None:
    """Phones that fetch their file, each on a connection of its own."""
    url = "http://{}:{}{}".format(*site.phones, site.path)
    headers = {"User-Agent": "Yealink SIP-T46U 108.86.0.20 00:15:65:4a:a9:37"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), headers=headers) as client:
        for _ in range(count):
            async with client.get(url) as answer:
                await answer.read()
            await asyncio.sleep(WINDOW_S / count / 2)


async def _touch(site: Site, number: int) -> None:
    """An administrator's change: the table is published and swapped under the calls."""
    locations = (await site.node.api("GET", "locations"))["data"]
    first = await site.node.api("GET", f"locations/{locations[0]['id']}")
    await site.node.api(
        "PATCH", f"locations/{first['id']}", {"name": f"Headquarters {number}"}, If_Match=f'"{first["version"]}"'
    )


async def _sample(site: Site, at_s: float) -> Sample:
    main, *others = machine.family(site.pid)
    numbers: dict[str, float] = {}
    async with aiohttp.ClientSession() as client, client.get(f"{site.node.admin}/metrics") as answer:
        for line in (await answer.text()).splitlines():
            name, _, value = line.rpartition(" ")
            if name.startswith("callpoint_edge_") and "{" not in name:
                numbers[name.removeprefix("callpoint_edge_")] = float(value)
    return Sample(at_s, _own_mb([main]), _own_mb(others), _descriptors([main]), _descriptors(others), numbers)


def _own_mb(pids: list[int]) -> float:
    """Memory of their own, in megabytes (Private_Clean + Private_Dirty, proc_pid_smaps(5))."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_"):
                total += int(line.split()[1])
    return total * 1024 / 1e6


def _descriptors(pids: list[int]) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)


async def _count_calls(site: Site) -> int:
    count, cursor = 0, ""
    while True:
        page = await site.node.api("GET", f"emergency-calls?limit=100{cursor}")
        count += len(page["data"])
        if not page["next_cursor"]:
            return count
        cursor = f"&cursor={page['next_cursor']}"


def _faults_of(outcome: Outcome, at_s: float) -> list[str]:
    return [] if outcome.is_clean else [f"at {at_s:.0f} s: {outcome.fault}"]


def _show(sample: Sample, outcome: Outcome, mails: int) -> None:
    numbers = sample.numbers
    alive = "/".join(f"{numbers.get(f'{side}_transactions', 0):.0f}" for side in ("server", "client"))
    print(
        f"{sample.at_s:7.0f} s  main {sample.main_mb:6.1f} MB {sample.main_descriptors:3d} fd   "
        f"edge {sample.edge_mb:6.1f} MB {sample.edge_descriptors:3d} fd   transactions {alive} "
        f"  tasks {numbers.get('tasks', 0):.0f}   "
        f"911 p99 {machine.percentile(outcome.emergency_delays_ms, 0.99):.1f} ms   mails {mails}   {outcome.fault}",
        flush=True,
    )


def _verdict(samples: list[Sample]) -> list[str]:
    """What grew. The first tenth is the warm-up; the last sample was taken when every transaction had ended."""
    during, after = samples[:-1], samples[-1]
    settled = during[max(1, len(during) // 10) :]
    quarter = max(1, len(settled) // 4)
    first, last = settled[:quarter], settled[-quarter:]
    faults = []
    for what, slack in (("main_mb", SLACK_MB), ("edge_mb", SLACK_MB), ("main_descriptors", SLACK_DESCRIPTORS),
                        ("edge_descriptors", SLACK_DESCRIPTORS)):  # fmt: skip
        before, now = (statistics.median(getattr(each, what) for each in part) for part in (first, last))
        if now > before * GROWTH + slack:
            faults.append(f"{what} grew from {before:.1f} to {now:.1f}")
    for name in ("tasks", "server_transactions", "client_transactions"):
        left = after.numbers.get(name, 0.0)
        if left > (during[0].numbers.get(name, 0.0) + 5 if name == "tasks" else 5):
            faults.append(f"{name}: {left:.0f} are left when all calls have ended")
    return faults


if __name__ == "__main__":
    raise SystemExit(main())
