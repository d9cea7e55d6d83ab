"""Kamailio with our snippet in front, one dial in fifty to 911 through Callpoint, beside Kamailio alone.

The highest rate that each holds says nothing here: found by trying, on a machine that is shared, it differs by a fifth
between two searches of the same element. So all are offered the same rate, in turn, round after round, and what is
compared is processor time for one call: a core that is asked for so many microseconds by each call carries one call in
so many microseconds. The share of a round is what Kamailio alone needed by what the front needed right after it; the
figure is the median of all rounds. It is an estimate of capacity, taken at the rate offered (a call costs less the
more of them come together); that the rate was held by all, with every call whole, is measured, and told where it was
not.

Two shares: the front's own process, which has its core as when it is alone while Callpoint runs elsewhere, as a node
does; and, harder, the front and Callpoint together on the one core that plain Kamailio has to itself.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from engine import crypto, snippets
from engine.numbers import numbers_of
from tests import peers, ports
from tests.bench import machine
from tests.bench.generator import Generator, Load
from tests.bench.plan import Plan
from tests.bench.sip import Say, kamailio

EVERY = 50  # 2 % of the dials are emergencies
PLAIN, FRONTED, SHARED = "Kamailio alone", "Kamailio, 2 % to Callpoint", "the same, both on one core"
MODULES = ":".join(f"/usr/lib/{place}/kamailio/modules/" for place in ("x86_64-linux-gnu", "aarch64-linux-gnu", "."))
RATE, SLOWER, SLOWEST = 4_000.0, 0.7, 100.0


@dataclass(frozen=True, slots=True)
class Setup:
    """What runs: the front's process, Callpoint's beside it (None: there is none), and where calls go to."""

    front: int
    node: int | None
    address: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Run:
    """One setup at one rate. Microseconds of processor time for one call, of both processes; `fault`: calls that were
    not whole, in words.
    """

    name: str
    calls_per_s: float
    front_us: float
    node_us: float
    p50_ms: float
    p99_ms: float
    fault: str

    @property
    def both_us(self) -> float:
        return self.front_us + self.node_us


@dataclass(frozen=True, slots=True)
class Front:
    """All runs, round by round: each has one of every setup, plain first. `rate`: calls a second offered to all."""

    rate: float
    rounds: tuple[tuple[Run, Run, Run], ...]

    @property
    def share(self) -> float:
        """What the front carries of what Kamailio alone does, with Callpoint on another core."""
        return median(plain.front_us / fronted.front_us for plain, fronted, _ in self.rounds)

    @property
    def share_of_one_core(self) -> float:
        """The same with both on one core."""
        return median(plain.front_us / shared.both_us for plain, _, shared in self.rounds)

    @property
    def faults(self) -> tuple[str, ...]:
        """What was not whole, by setup; two out of three runs of each are enough."""
        enough = 2 * len(self.rounds) / 3
        columns = [[each[at] for each in self.rounds] for at in range(3)]
        return tuple(
            f"{column[0].name}: {', '.join(run.fault for run in column if run.fault)}"
            for column in columns
            if sum(not run.fault for run in column) < enough
        )


Start = Callable[[tuple[str, int]], AbstractContextManager[Setup]]


def measure(plan: Plan, say: Say) -> Front:
    """Rounds at a rate that all three hold, less where the first round does not."""
    generator = Generator(peers.PBX_IP, peers.CARRIER_IP)
    starts: dict[str, Start] = {
        PLAIN: alone,
        FRONTED: partial(fronted, beside=machine.LOAD_CORE),
        SHARED: partial(fronted, beside=machine.SUT_CORE),
    }
    rate = min(RATE, plan.most_calls_per_s)
    try:
        while True:
            first = _round(generator, starts, rate, plan, say)
            if not any(run.fault for run in first) or rate * SLOWER < SLOWEST:
                break
            rate *= SLOWER
        rest = [_round(generator, starts, rate, plan, say) for _ in range(plan.front_rounds - 1)]
        return Front(rate, (first, *rest))
    finally:
        generator.close()


def _round(generator: Generator, starts: dict[str, Start], rate: float, plan: Plan, say: Say) -> tuple[Run, Run, Run]:
    plain, beside, shared = (_run(generator, name, start, rate, plan.step_s) for name, start in starts.items())
    for run in (plain, beside, shared):
        say(f"{run.name}: {run.front_us:.0f} + {run.node_us:.0f} µs a call at {rate:.0f}/s {run.fault}")
    return plain, beside, shared


def _run(generator: Generator, name: str, start: Start, rate: float, seconds: float) -> Run:
    with start(generator.callee_address) as setup:
        generator.run(Load(min(200, rate), 0.5, emergency_every=EVERY), setup.address)  # warm: code, memory, first 911
        pids = (setup.front, setup.node)
        before = [machine.cpu_s(pid) if pid is not None else 0.0 for pid in pids]
        outcome = generator.run(Load(rate, seconds, emergency_every=EVERY), setup.address)
        after = [machine.cpu_s(pid) if pid is not None else 0.0 for pid in pids]
    calls = max(outcome.completed, 1)
    front_us, node_us = ((end - begin) / calls * 1e6 for begin, end in zip(before, after, strict=True))
    shares = outcome.answer_ms(0.5), outcome.answer_ms(0.99)
    return Run(name, outcome.rate, front_us, node_us, *shares, "" if outcome.is_clean else outcome.fault or "not whole")


@contextlib.contextmanager
def alone(far: tuple[str, int]) -> Iterator[Setup]:
    """Kamailio that relays every call to the far end."""
    with kamailio(far) as (pid, address):
        yield Setup(pid, None, address)


@contextlib.contextmanager
def fronted(far: tuple[str, int], *, beside: int) -> Iterator[Setup]:
    """The front's address, with Callpoint on the core `beside`.

    Ordinary calls go from the front to the far end, emergencies through the edge to the same.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = crypto.create(folder / "keys.toml")
        account = peers.one_account(peers.trunk(*far), pbx_ip=peers.FRONT_IP)
        with peers.edge(folder, keys, folder / "keys.toml", account, core=beside) as edge:
            listen = snippets.Peer(peers.FRONT_IP, ports.free_port(peers.FRONT_IP))
            site = snippets.Site(
                (snippets.Peer(*edge.udp),), (snippets.Peer(*far),), listen, str(folder), numbers_of("US"),
                whole=True, module_path=MODULES,
            )  # fmt: skip
            for file, text in snippets.render("kamailio", site).items():
                (folder / file).write_text(text.replace("children=4", "children=1\ntcp_children=1"))
            words = [peers.command("kamailio"), "-f", str(folder / "callpoint.cfg"), "-DD", "-E", "-x", "fm"]
            words += ["-m", "2048", "-M", "16", "-Y", str(folder), "-P", str(folder / "front.pid")]
            front = peers.spawn("front", words, folder, core=machine.SUT_CORE)
            try:
                front.ready(lambda: peers.is_bound(peers.FRONT_IP, listen.port, "udp"))
                yield Setup(front.pid, edge.peer.pid, (peers.FRONT_IP, listen.port))
            finally:
                front.stop()
