"""CPU for one call with one SIP process and with several: `python -m tests.bench.workers [--rate N] [--seconds N]`.

The processes are started as the main process starts them; one caller's and one callee's socket, so that half of the
INVITEs are handed from one worker to the other. Run it on a quiet machine; the share is what counts.
"""

import argparse
import asyncio
import contextlib
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from engine import crypto
from engine.config import Config
from engine.e911 import snapshot
from engine.edge.link import EdgeLink
from tests import peers, ports
from tests.bench import machine
from tests.bench.generator import Generator, Load, Outcome
from tests.bench.wires import Datagrams

_ROUTE = re.compile(rb"\r\nRoute: <sip:([0-9.]+):(\d+)")
MOST = 1.2  # of one worker's CPU


class OpenDatagrams(Datagrams):
    """UDP that hears everybody, as phones and carriers do, not just the one address it faces.

    A request goes where its topmost Route says, else to the element; an answer goes where the last message came from.
    """

    def __init__(self, ip: str) -> None:
        super().__init__(ip)
        self._element, self._last = ("", 0), ("", 0)

    def face(self, to: tuple[str, int]) -> None:
        self._element = to
        while self.receive() is not None:
            pass

    def receive(self) -> bytes | None:
        try:
            data, self._last = self._socket.recvfrom(65_535)
        except (BlockingIOError, ConnectionRefusedError):
            return None
        return data

    def send(self, data: bytes) -> None:
        route = _ROUTE.search(data)
        if data.startswith(b"SIP/2.0 "):
            to = self._last
        else:
            to = (route.group(1).decode(), int(route.group(2))) if route is not None else self._element
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):  # what is lost is counted
            self._socket.sendto(data, to)


@contextlib.asynccontextmanager
async def node(folder: Path, far: tuple[str, int], workers: int) -> AsyncIterator[EdgeLink]:
    keys = crypto.create(folder / "keys.toml")
    account = peers.one_account(peers.trunk(*far), default_route=f"sip:{far[0]}:{far[1]}")
    snapshot.save(folder / "snapshot", account, keys)
    address = f"{peers.NODE_IP}:{ports.free_port()}"
    link = EdgeLink(
        Config(
            core={"data_dir": folder, "key_file": folder / "keys.toml"},
            sip={"udp": address, "tcp": address, "workers": workers},
        )
    )
    await link.start()
    try:
        yield link
    finally:
        await link.stop()


async def cost(generator: Generator, workers: int, load: Load) -> tuple[float, Outcome]:
    """(CPU seconds for one call, what became of the calls)."""
    with tempfile.TemporaryDirectory() as name:
        async with node(Path(name), generator.callee_address, workers) as link:
            host, _, port = link.state.udp.rpartition(":")
            await asyncio.to_thread(generator.run, Load(min(200, load.rate), 1.0), (host, int(port)))
            before = sum(machine.cpu_s(pid) for pid in link.pids)
            outcome = await asyncio.to_thread(generator.run, load, (host, int(port)))
            used = sum(machine.cpu_s(pid) for pid in link.pids) - before
    return used / max(outcome.completed, 1), outcome


async def compare(load: Load) -> float:
    """The CPU of two workers for one call, as a share of one's. Two get twice the rate: CPU for a call falls with load,
    so it is compared at the same load of each process.
    """
    wires = OpenDatagrams(peers.PBX_IP), OpenDatagrams(peers.CARRIER_IP)
    generator = Generator(peers.PBX_IP, peers.CARRIER_IP, wires)
    found = {}
    try:
        for workers in (1, 2):
            share = Load(load.rate * workers, load.seconds)
            found[workers], outcome = await cost(generator, workers, share)
            print(f"{workers} worker(s): {found[workers] * 1e6:.0f} µs of CPU a call {outcome.fault}")
    finally:
        generator.close()
    return found[2] / found[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=1_500, help="calls a second for each worker")
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    share = asyncio.run(compare(Load(arguments.rate, arguments.seconds)))
    print(f"two workers: {share:.2f} of one's (wanted: at most {MOST})")
    return 0 if share <= MOST else 1


if __name__ == "__main__":
    raise SystemExit(main())
