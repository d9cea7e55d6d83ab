"""Whole calls through Kamailio, a bare forwarder and Callpoint's edge: the highest rate each holds, and what it costs.

Each element sits alone on one core, the generator on another. A rate counts as held when every call of it was whole,
nothing came twice and the generator kept its schedule; the rate that a short search finds is then held for the whole
duration, one tenth less until it passes.
"""

import contextlib
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from engine import crypto
from tests import peers, ports
from tests.bench import machine
from tests.bench.generator import Generator, Load, Outcome
from tests.bench.plan import Plan

FIRST_RATE, GROWTH, FINEST = 500, 1.4, 0.08
SUSTAIN_TRIES = 6

Element = tuple[int, tuple[str, int]]
"""(pid, address)."""
Say = Callable[[str], None]
Starter = Callable[[tuple[str, int]], AbstractContextManager[Element]]


@dataclass(frozen=True, slots=True)
class Sustained:
    """An element at the rate it held. `calls_per_s` is 0 when none was held; `added` is beside the direct path."""

    name: str
    calls_per_s: float
    seconds: float
    p50_ms: float
    p99_ms: float
    added_p50_ms: float
    added_p99_ms: float
    cpu_us: float
    peak_mb: float
    own_mb: float
    fault: str = ""


@contextlib.contextmanager
def kamailio(far: tuple[str, int]) -> Iterator[Element]:
    with tempfile.TemporaryDirectory() as folder, _kamailio_in(Path(folder), far) as (peer, address):
        yield peer.pid, address


def _kamailio_in(folder: Path, far: tuple[str, int]) -> AbstractContextManager[tuple[peers.Peer, tuple[str, int]]]:
    return peers.kamailio(folder, far, core=machine.SUT_CORE, shared_mb=2048)


@contextlib.contextmanager
def forwarder(far: tuple[str, int]) -> Iterator[Element]:
    with tempfile.TemporaryDirectory() as folder:
        port = ports.free_port()
        words = [sys.executable, "-m", "tests.bench.forwarder", peers.NODE_IP, str(port), far[0], str(far[1])]
        peer = peers.spawn("forwarder", words, Path(folder), core=machine.SUT_CORE)
        try:
            peer.ready(lambda: peers.is_bound(peers.NODE_IP, port, "udp"))
            yield peer.pid, (peers.NODE_IP, port)
        finally:
            peer.stop()


@contextlib.contextmanager
def edge(far: tuple[str, int]) -> Iterator[Element]:
    """Our SIP process: the far end is the PBX's default route, and the account's trunk for 911."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = crypto.create(folder / "keys.toml")
        account = peers.one_account(peers.trunk(*far), default_route=f"sip:{far[0]}:{far[1]}")
        with peers.edge(folder, keys, folder / "keys.toml", account, core=machine.SUT_CORE) as running:
            yield running.peer.pid, running.udp


ELEMENTS: dict[str, Starter] = {
    "Kamailio tm+rr, 1 worker, -x fm": kamailio,
    "asyncio datagram forwarder": forwarder,
    "Callpoint edge": edge,
}


def measure(plan: Plan, say: Say) -> list[Sustained]:
    """Every element's sustained rate, one after the other, on the same sockets of the same generator."""
    generator = Generator(peers.PBX_IP, peers.CARRIER_IP)
    try:
        found = []
        for name, start in ELEMENTS.items():
            rate = search(generator, name, start, plan, say)
            found.append(sustain(generator, name, start, rate, plan, say))
        return found
    finally:
        generator.close()


def limit_of_ours(plan: Plan, say: Say) -> float:
    """Ordinary calls each second that a short step of Callpoint's edge holds."""
    generator = Generator(peers.PBX_IP, peers.CARRIER_IP)
    try:
        return search(generator, "Callpoint edge", edge, plan, say)
    finally:
        generator.close()


def at_equal_rate(plan: Plan, rate: float) -> list[Sustained]:
    """Every element at the same rate: CPU for one call falls with load, so it is compared only here."""
    generator = Generator(peers.PBX_IP, peers.CARRIER_IP)
    try:
        return [held(generator, name, start, rate, plan.step_s)[0] for name, start in ELEMENTS.items()]
    finally:
        generator.close()


def search(generator: Generator, name: str, start: Starter, plan: Plan, say: Say, *, every: int = 0) -> float:
    """The highest rate that a short step holds: up by `GROWTH` until one fails, then halving the gap."""
    good, bad, rate = 0.0, plan.most_calls_per_s * 1.01, float(min(FIRST_RATE, plan.most_calls_per_s))
    while good < plan.most_calls_per_s and (not good or bad / good > 1 + FINEST):
        outcome = _step(generator, start, Load(rate, plan.step_s, emergency_every=every))
        if not outcome.is_clean:  # once more: a neighbour's moment is not the element's limit
            outcome = _step(generator, start, Load(rate, plan.step_s, emergency_every=every))
        say(f"{name}: {rate:.0f}/s {'held' if outcome.is_clean else outcome.fault}")
        if outcome.is_clean:
            good = rate
        else:
            bad = rate
        if bad < FIRST_RATE / 4:
            return 0.0
        climbs = good and bad > plan.most_calls_per_s
        rate = min(good * GROWTH, plan.most_calls_per_s) if climbs else (good + bad) / 2
    return good


def _step(generator: Generator, start: Starter, load: Load) -> Outcome:
    """A fresh element for every step: what a failed one left behind is not the next one's."""
    with start(generator.callee_address) as (_pid, address):
        generator.run(Load(min(200, load.rate), 0.5), address)  # warm: first calls load code and memory
        return generator.run(load, address)


def sustain(generator: Generator, name: str, start: Starter, rate: float, plan: Plan, say: Say) -> Sustained:
    """The rate held for the whole duration, one tenth less until it passes."""
    row = Sustained(name, 0, plan.sustain_s, 0, 0, 0, 0, 0, 0, 0, "held no rate")
    for attempt in range(SUSTAIN_TRIES if rate else 0):
        row, is_held = held(generator, name, start, rate, plan.sustain_s)
        say(f"{name}: {rate:.0f}/s for {plan.sustain_s:.0f} s {'held' if is_held else row.fault}")
        if is_held:
            break
        rate *= 0.9 if attempt else 1.0  # the rate found has two chances
    return row


def held(
    generator: Generator, name: str, start: Starter, rate: float, seconds: float, *, every: int = 0
) -> tuple[Sustained, bool]:
    """One run at a rate; `every`: each so-many-th call is one to 911."""
    load = Load(rate, seconds, emergency_every=every)
    direct = generator.run(Load(rate, min(seconds, 3.0)), None) if generator.has_direct_path else Outcome()
    with start(generator.callee_address) as (pid, address):
        generator.run(Load(min(200, rate), 0.5), address)
        before = machine.cpu_s(pid)
        outcome = generator.run(load, address)
        cpu_s = machine.cpu_s(pid) - before
        memory = machine.memory(pid)
    p50, p99 = outcome.answer_ms(0.5), outcome.answer_ms(0.99)
    row = Sustained(
        name=name,
        calls_per_s=outcome.rate if outcome.is_clean else 0.0,
        seconds=seconds,
        p50_ms=p50,
        p99_ms=p99,
        added_p50_ms=p50 - direct.answer_ms(0.5),
        added_p99_ms=p99 - direct.answer_ms(0.99),
        cpu_us=cpu_s / max(outcome.offered, 1) * 1e6,
        peak_mb=memory.peak,
        own_mb=memory.own,
        fault=outcome.fault,
    )
    return row, outcome.is_clean


# --- SIPp, a generator that is not ours -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Foreign:
    """What SIPp, as caller, saw at one rate."""

    name: str
    calls_per_s: float
    successful: int
    failed: int
    retransmitted: int
    cpu_us: float

    @property
    def is_clean(self) -> bool:
        return self.failed == 0 and self.retransmitted == 0 and self.successful > 0


def with_sipp(plan: Plan, rates: dict[str, float], say: Say) -> list[Foreign]:
    """Each element under SIPp as caller and callee, at a rate of its own."""
    found = []
    for name, rate in rates.items():
        with tempfile.TemporaryDirectory() as folder:
            found.append(_sipp_at(Path(folder), name, ELEMENTS[name], rate, plan.step_s))
        say(f"{name}: SIPp at {rate:.0f}/s: {found[-1].failed} failed, {found[-1].retransmitted} repeated")
    return found


def _sipp_at(
    folder: Path,
    name: str,
    start: Starter,
    rate: float,
    seconds: float,
) -> Foreign:
    calls = int(rate * seconds)
    callee_port, caller_port = ports.free_port(peers.CARRIER_IP), ports.free_port(peers.PBX_IP)
    words = [peers.command("sipp"), "-nostdin", "-nd", "-buff_size", "4194304", "-trace_stat", "-fd", "1"]
    callee = peers.spawn(
        "sipp_callee",
        [*words, "-sf", str(SCENARIOS / "bench_callee.xml"), "-i", peers.CARRIER_IP, "-p", str(callee_port)],
        folder,
        core=machine.LOAD_CORE,
        TERM="dumb",
    )
    try:
        callee.ready(lambda: peers.is_bound(peers.CARRIER_IP, callee_port, "udp"))
        with start((peers.CARRIER_IP, callee_port)) as (pid, address):
            stats = folder / "caller.csv"
            before = machine.cpu_s(pid)
            caller = peers.spawn(
                "sipp_caller",
                [*words, "-sf", str(SCENARIOS / "bench_caller.xml"), "-stf", str(stats), "-i", peers.PBX_IP,
                 "-p", str(caller_port), "-r", str(int(rate)), "-m", str(calls), "-l", str(calls),
                 "-timeout", f"{int(seconds) + 20}s", "{}:{}".format(*address)],
                folder, core=machine.LOAD_CORE, TERM="dumb",
            )  # fmt: skip
            caller.wait(seconds + 30)
            cpu_s = machine.cpu_s(pid) - before
    finally:
        callee.stop()
    return _read_stats(stats, name, rate, cpu_s / max(calls, 1) * 1e6)


def _read_stats(stats: Path, name: str, rate: float, cpu_us: float) -> Foreign:
    lines = [line.split(";") for line in stats.read_text().splitlines() if line]
    last = dict(zip(lines[0], lines[-1], strict=False))
    reached = [float(line[lines[0].index("CallRate(P)")]) for line in lines[2:-1]] or [rate]
    return Foreign(
        name=name,
        calls_per_s=statistics.median(reached),
        successful=int(last["SuccessfulCall(C)"]),
        failed=int(last["FailedCall(C)"]),
        retransmitted=int(last["Retransmissions(C)"]),
        cpu_us=cpu_us,
    )


SCENARIOS = Path(__file__).parent / "sipp"
