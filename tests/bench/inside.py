"""What one call costs inside the SIP process: `python -m tests.bench.inside [calls]`, microseconds of CPU.

The real edge on real loopback sockets, driven step by step from the same thread, so that CPU time is counted only
while the loop runs one turn of the edge: select, drain, stack, hook, sends. The clock the edge sees is our own and
runs at `--rate` calls a second, so that finished transactions pile up and expire as they do under load.
"""

import argparse
import asyncio
import cProfile
import gc
import pstats
import tempfile
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from engine import crypto
from engine.e911 import snapshot
from engine.edge.__main__ import Edge
from engine.edge.line import Lines, Settings
from engine.edge.loop import EdgeLoop
from engine.sip.forward import Hop
from tests import peers
from tests.bench.generator import Generator
from tests.bench.machine import percentile


@dataclass(slots=True)
class Spent:
    """CPU seconds of each wake-up, by what the edge was given."""

    by_step: dict[str, list[float]] = field(default_factory=dict)
    calls: int = 0

    def add(self, step: str, seconds: float) -> None:
        self.by_step.setdefault(step, []).append(seconds)


async def _run(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = crypto.create(folder / "keys.toml")
        generator = Generator(peers.PBX_IP, peers.CARRIER_IP)
        far = generator.callee_address
        account = peers.one_account(peers.trunk(*far), default_route=f"sip:{far[0]}:{far[1]}")
        if arguments.phones:
            _fill(account, arguments.phones)
        snapshot.save(folder / "snapshot", account, keys)
        lines = Lines()
        loop, clock = asyncio.get_running_loop(), Clock(time.monotonic())
        loop.time = clock.time  # type: ignore[method-assign]
        edge = Edge(Settings(folder, folder / "keys.toml", udp=f"{peers.NODE_IP}:0", ping_s=0), lines)
        edge._load_all()
        await edge._open()
        _settle()
        await _drive(edge, generator, clock, arguments)


def _fill(account: dict[str, Any], phones: int) -> None:
    """Phones with a line each, and a fifth as many networks, in a hundred places."""
    places = [account["locations"][0] | {"id": f"location_{at}", "name": f"Floor {at}"} for at in range(100)]
    account["locations"] += places
    for at in range(phones):
        account["lines"].append(
            {
                "id": f"line_{at:06d}x", "extension": str(1_000_000 + at), "display_name": f"User {at}",
                "sip_user": str(1_000_000 + at), "callback_number": None, "location_id": None, "pbx_id": None,
            }
        )  # fmt: skip
        account["phones"].append(
            {
                "id": f"phone_{at:06d}", "mac": f"0015650{at:05x}", "label": f"Desk {at}",
                "location_id": f"location_{at % 100}", "line_ids": [f"line_{at:06d}x"],
            }
        )  # fmt: skip
    for at in range(phones // 5):
        account["networks"].append(
            {
                "id": f"network_{at}", "kind": "subnet", "value": f"10.{at >> 8}.{at & 255}.0/24",
                "subnet": f"10.{at >> 8}.{at & 255}.0/24", "location_id": f"location_{at % 100}", "pbx_id": None,
            }
        )  # fmt: skip


def _settle() -> None:
    """As the edge itself does before it serves."""
    gc.collect()
    gc.freeze()
    gc.disable()


@dataclass(slots=True)
class Clock:
    """The loop's, which stands until it is moved. `now` in seconds."""

    now: float

    def time(self) -> float:
        return self.now


async def _drive(edge: Edge, generator: Generator, clock: Clock, arguments: argparse.Namespace) -> None:
    """Calls in groups of `batch`: each step of all of them is one wake-up of the edge."""
    address = edge._transports.bound["udp"][0]
    generator.face(address, arguments.calls, every=arguments.every)
    spent = Spent()
    profile = cProfile.Profile() if arguments.profile else None

    async def turn(step: str) -> None:
        began = time.thread_time()
        if profile is not None and number >= warm:
            profile.enable()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if profile is not None:
            profile.disable()
        if number >= warm:
            spent.add(step, time.thread_time() - began)

    warm = arguments.calls // 2
    emergencies: list[float] = []
    foreign = b"\1" * (arguments.cold * 2**20)
    shell = edge._transports._udp[0]
    receive = shell._receive

    def timed(data: bytes, hop: Hop) -> None:
        """From the datagram in hand to the INVITE in the carrier's socket."""
        is_emergency = data.startswith(b"INVITE sip:911@")
        if is_emergency and foreign:
            zlib.crc32(foreign)
        began = time.thread_time()
        receive(data, hop)
        if is_emergency and number >= warm:
            emergencies.append(time.thread_time() - began)

    if arguments.every:
        shell._receive = timed
    for number in range(0, arguments.calls, arguments.batch):
        clock.now += arguments.batch / arguments.rate
        group = range(number, min(number + arguments.batch, arguments.calls))
        for each in group:
            generator.place(each)
        await turn("INVITE")
        generator.answer()
        await turn("100 180 200")
        generator.acknowledge()
        await turn("ACK BYE")
        generator.answer()
        await turn("200 of BYE")
        generator.acknowledge()
        if number >= warm:
            spent.calls += len(group)
    idle_s = await _idle_turn_s()  # one turn of the loop a wake-up is real, the driver's second one is not
    outcome = generator.outcome
    print(f"{outcome.completed} of {arguments.calls} whole, {outcome.repeated} repeated, {outcome.strange} strange")
    print(f"{'µs of CPU':14s} {'mean':>7s} {'median':>7s}")
    sums = [0.0, 0.0]
    for step, seconds in spent.by_step.items():
        figures = [(value - idle_s) / arguments.batch * 1e6 for value in (fmean(seconds), percentile(seconds, 0.5))]
        sums = [before + figure for before, figure in zip(sums, figures, strict=True)]
        print(f"{step:14s} {figures[0]:7.1f} {figures[1]:7.1f}")
    print(f"{'a call':14s} {sums[0]:7.1f} {sums[1]:7.1f}")
    if emergencies:
        shares = [percentile(emergencies, share) * 1e6 for share in (0.1, 0.5, 0.99)]
        print("911 in to out  p10 {:.0f} µs, p50 {:.0f} µs, p99 {:.0f} µs".format(*shares))
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)


async def _idle_turn_s() -> float:
    """CPU of one turn of the loop that finds nothing."""
    began = time.thread_time()
    for _ in range(2_000):
        await asyncio.sleep(0)
    return (time.thread_time() - began) / 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("calls", nargs="?", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=1_000, help="calls a second on the edge's clock")
    parser.add_argument("--batch", type=int, default=1, help="calls that arrive together")
    parser.add_argument("--every", type=int, default=0, help="each so many calls one to 911")
    parser.add_argument("--phones", type=int, default=0, help="phones in the table")
    parser.add_argument("--cold", type=int, default=0, help="MiB that push ours out of the caches before each 911")
    parser.add_argument("--profile", action="store_true")
    with asyncio.Runner(loop_factory=EdgeLoop) as runner:
        runner.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
