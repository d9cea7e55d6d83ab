"""A large account: 100,000 phones and 20,000 networks in the table.

How long it takes to build, what it holds, what a 911 meets at half of what the element carries and at twice of it, and
what ten thousand calls that are up take. And what a 911 meets at twice of it where all calls come by one connection.
"""

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import crypto
from engine.crypto import KeyRing
from engine.e911 import snapshot
from tests import peers
from tests.bench import machine, streams
from tests.bench.generator import Generator, Load, Outcome
from tests.bench.plan import Plan
from tests.bench.sip import Say, search

PHONES, NETWORKS, LOCATIONS = 100_000, 20_000, 200
EMERGENCIES_PER_S = 20
CALLS_UP = 10_000
UP_RATE = 500.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """Seconds, megabytes (shared pages once) and milliseconds. `swap_pause_ms`: the longest a 911 waited while the
    whole table was read anew and swapped, beyond its usual worst.
    """

    built_s: float
    own_mb: float
    peak_mb: float
    half: Outcome
    twice: Outcome
    swapped: Outcome
    swap_s: float
    direct_p50_ms: float
    direct_p99_ms: float
    calls_up: int
    calls_up_mb: float


def measure(limit: float, seconds: float, say: Say, *, phones: int = PHONES, networks: int = NETWORKS) -> Crowd:
    """`limit`: ordinary calls each second that the element holds."""
    generator = Generator(peers.PBX_IP, peers.CARRIER_IP)
    try:
        direct = generator.run(_load(limit / 2, min(seconds, 5.0)), None)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            keys = crypto.create(folder / "keys.toml")
            large = account(generator.callee_address, phones, networks)
            with peers.edge(folder, keys, folder / "keys.toml", core=machine.SUT_CORE) as running:
                snapshot.save(folder / "snapshot", large, keys)
                started = time.perf_counter()
                _load_into(running, large)
                built_s = time.perf_counter() - started
                say(f"table of {phones:,} phones and {networks:,} networks: {built_s:.1f} s")
                generator.run(Load(200, 1.0, emergency_every=10), running.udp)
                half = generator.run(_load(limit / 2, seconds), running.udp)
                say(f"half of {limit:.0f}/s: 911 p50 {_p(half, 0.5):.2f} ms, p99 {_p(half, 0.99):.2f} ms {half.fault}")
                swapped, swap_s = _swapped(generator, running, large, keys, folder, limit / 4)
                say(f"swap in {swap_s:.1f} s: the longest wait of a 911 was {max(swapped.emergency_delays_ms):.0f} ms")
                memory = machine.memory(running.peer.pid)
                twice = generator.run(_load(limit * 2, min(seconds, 10.0)), running.udp)
                say(f"at twice: {_reached(twice)} of 911, p99 {_p(twice, 0.99):.1f} ms; {twice.refused} others refused")
        calls_up, calls_up_mb = _calls_up(generator, say)
    finally:
        generator.close()
    return Crowd(
        built_s, memory.own, memory.peak, half, twice, swapped, swap_s,
        machine.percentile(direct.emergency_delays_ms, 0.5), machine.percentile(direct.emergency_delays_ms, 0.99),
        calls_up, calls_up_mb,
    )  # fmt: skip


def measure_stream(plan: Plan, say: Say, limit: float = 0.0) -> Outcome:
    """Twice what the element carries by one TCP connection from the PBX and one to the trunk. `limit`: that, when it is
    known; else it is looked for.
    """
    with tempfile.TemporaryDirectory() as name:
        papers = streams.Papers(Path(name))
        generator = Generator(peers.PBX_IP, peers.CARRIER_IP, papers.wires("tcp"))

        def start(far: tuple[str, int]) -> contextlib.AbstractContextManager[tuple[int, tuple[str, int]]]:
            return streams.edge(far, "tcp", papers)

        try:
            limit = limit or search(generator, "Callpoint edge over TCP", start, plan, say)
            with start(generator.callee_address) as (_, address):
                generator.run(Load(200, 1.0, emergency_every=10), address)
                twice = generator.run(_load(limit * 2, min(plan.emergency_s, 10.0)), address)
        finally:
            generator.close()
    say(f"at twice {limit:.0f}/s over TCP: {_reached(twice)} of 911, p99 {_p(twice, 0.99):.1f} ms; {twice.fault}")
    return twice


def account(callee: tuple[str, int], phones: int, networks: int) -> dict[str, Any]:
    """One account's snapshot of that size; the generator's emergency callers are lines of it."""
    made = peers.one_account(peers.trunk(*callee), default_route=f"sip:{callee[0]}:{callee[1]}")
    place = made["locations"][0]
    made["locations"] += [place | {"id": f"location_{n}", "name": f"Building {n}"} for n in range(LOCATIONS)]
    made["networks"] = [
        {
            "id": f"network_{n}", "kind": "subnet", "value": f"10.{n // 256}.{n % 256}.0/24",
            "location_id": f"location_{n % LOCATIONS}", "pbx_id": None,
        }
        for n in range(networks)
    ]  # fmt: skip
    made["lines"] += [
        {
            "id": f"line_{n}", "extension": str(2_000_000 + n), "sip_user": str(2_000_000 + n),
            "display_name": f"Line {n}", "callback_number": f"+1518{5_000_000 + n}", "location_id": None,
            "pbx_id": "pbx_1",
        }
        for n in range(phones)
    ]  # fmt: skip
    made["phones"] = [
        {
            "id": f"phone_{n}", "mac": f"{0x001565000000 + n:012x}", "label": f"Phone {n}",
            "location_id": f"location_{n % LOCATIONS}", "line_ids": [f"line_{n}"],
        }
        for n in range(phones)
    ]  # fmt: skip
    return made


def _load(others: float, seconds: float) -> Load:
    every = max(2, round(others / EMERGENCIES_PER_S))
    return Load(others + EMERGENCIES_PER_S, seconds, emergency_every=every)


def _p(outcome: Outcome, share: float) -> float:
    return machine.percentile(outcome.emergency_delays_ms, share)


def _reached(outcome: Outcome) -> str:
    return f"{outcome.emergencies_whole} of {outcome.emergencies}"


def _load_into(running: peers.Edge, large: dict[str, Any]) -> None:
    """The account's snapshot lies on disk: have it read, and wait until it serves."""
    running.say({"do": "load", "account_id": large["account_id"]})
    running.say({"do": "stats", "token": "loaded"})
    running.hear("stats", 60.0)


def _swapped(
    generator: Generator, running: peers.Edge, large: dict[str, Any], keys: KeyRing, folder: Path, rate: float
) -> tuple[Outcome, float]:
    """911 calls while the same large table is read again and put in the place of the old one."""
    snapshot.save(folder / "snapshot", large | {"revision": 2}, keys)
    took = [0.0]

    def swap() -> None:
        started = time.perf_counter()
        _load_into(running, large)
        took[0] = time.perf_counter() - started

    with _beside(swap):
        outcome = generator.run(_load(rate, 8.0), running.udp)
    return outcome, took[0]


@contextlib.contextmanager
def _beside(work: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join(60)


def _calls_up(generator: Generator, say: Say) -> tuple[int, float]:
    """Calls that were answered and not ended; what the element holds when their transactions have gone, too."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = crypto.create(folder / "keys.toml")
        far = generator.callee_address
        small = peers.one_account(peers.trunk(*far), default_route=f"sip:{far[0]}:{far[1]}")
        with peers.edge(folder, keys, folder / "keys.toml", small, core=machine.SUT_CORE) as running:
            outcome = generator.run(Load(UP_RATE, CALLS_UP / UP_RATE, emergency_every=2, hold=True), running.udp)
            own_mb = machine.memory(running.peer.pid).own
    say(f"{outcome.completed} calls up: {own_mb:.0f} MB")
    return outcome.completed, own_mb
