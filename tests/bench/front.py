"""Kamailio with our snippet in front, one dial in fifty to 911 through Callpoint, beside Kamailio alone.

What the front itself loses by it: Kamailio has its core as when it is alone, Callpoint runs beside it as a node does,
here on the core of the load. And, harder, both on the one core that plain Kamailio has to itself.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from engine import crypto, snippets
from engine.numbers import numbers_of
from tests import peers
from tests.bench import machine
from tests.bench.generator import Generator
from tests.bench.plan import Plan
from tests.bench.sip import Element, Say, Starter, Sustained, held, kamailio, search

EVERY = 50  # 2 % of the dials are emergencies
PLAIN, FRONTED, SHARED = "Kamailio alone", "Kamailio, 2 % to Callpoint", "the same, both on one core"
MODULES = ":".join(f"/usr/lib/{place}/kamailio/modules/" for place in ("x86_64-linux-gnu", "aarch64-linux-gnu", "."))
TRIES = 6


def measure(plan: Plan, say: Say) -> list[Sustained]:
    """The rate that each holds for the whole duration with one 911 in fifty."""
    generator = Generator(peers.PBX_IP, peers.CARRIER_IP)
    starters: dict[str, Starter] = {
        PLAIN: kamailio,
        FRONTED: partial(fronted, beside=machine.LOAD_CORE),
        SHARED: partial(fronted, beside=machine.SUT_CORE),
    }
    try:
        return [_sustained(generator, name, start, plan, say) for name, start in starters.items()]
    finally:
        generator.close()


def _sustained(generator: Generator, name: str, start: Starter, plan: Plan, say: Say) -> Sustained:
    rate = search(generator, name, start, plan, say, every=EVERY)
    row = Sustained(name, 0, plan.sustain_s, 0, 0, 0, 0, 0, 0, 0, "held no rate")
    for _ in range(TRIES if rate else 0):
        row, is_held = held(generator, name, start, rate, plan.sustain_s, every=EVERY)
        say(f"{name}: {rate:.0f}/s for {plan.sustain_s:.0f} s {'held' if is_held else row.fault}")
        if is_held:
            break
        rate *= 0.93
    return row


@contextlib.contextmanager
def fronted(far: tuple[str, int], *, beside: int) -> Iterator[Element]:
    """The front's address, with Callpoint on the core `beside`.

    Ordinary calls go from the front to the far end, emergencies through the edge to the same.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = crypto.create(folder / "keys.toml")
        account = peers.one_account(peers.trunk(*far), pbx_ip=peers.FRONT_IP)
        with peers.edge(folder, keys, folder / "keys.toml", account, core=beside) as edge:
            listen = snippets.Peer(peers.FRONT_IP, peers.free_port(peers.FRONT_IP))
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
                yield front.pid, (peers.FRONT_IP, listen.port)
            finally:
                front.stop()
