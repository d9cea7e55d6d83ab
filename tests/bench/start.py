"""How soon a node answers after its start, and what it holds when nobody asks anything."""

import asyncio
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests import peers, ports
from tests.bench import machine
from tests.bench.plan import Plan
from tests.bench.site import PLAIN
from tests.node import Node

GIVE_UP_S = 30.0
IDLE_S = 3.0  # after the first answer: what a start still does in the background is done by then


@dataclass(frozen=True, slots=True)
class Started:
    """Seconds from the command to the first answer by SIP and by HTTP, medians; the first start makes the database.

    Memory in megabytes, main process and edge together: resident (shared pages in each) and with shared pages once.
    """

    first_s: float
    sip_s: float
    http_s: float
    resident_mb: float
    own_mb: float

    @property
    def again_s(self) -> float:
        """Until both answer, on a database that is there."""
        return max(self.sip_s, self.http_s)


async def measure(plan: Plan, say: Callable[[str], None]) -> Started:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = max(await _start(folder))
        again = [await _start(folder) for _ in range(plan.starts)]
        say(f"start: {first:.2f} s, again {statistics.median([max(each) for each in again]):.2f} s")
        async with Node(folder, PLAIN) as node:
            await asyncio.sleep(IDLE_S)
            assert node.process is not None
            resident, own = machine.resident_mb(node.process.pid), machine.memory(node.process.pid).own
    sip, http = (statistics.median([each[at] for each in again]) for at in (0, 1))
    return Started(first, sip, http, resident, own)


async def _start(folder: Path) -> tuple[float, float]:
    """Seconds until SIP and until HTTP answered."""
    sip_port, http_port = ports.free_port(), ports.free_port()
    address = f"{peers.NODE_IP}:{sip_port}"
    environment = {
        "CALLPOINT_SIP__UDP": address,
        "CALLPOINT_SIP__TCP": address,
        "CALLPOINT_PROVISIONING__LISTEN": f"{peers.NODE_IP}:{http_port}",
    }
    node = Node(folder, PLAIN | environment)
    started = time.perf_counter()
    running = asyncio.create_task(node.start())
    try:
        sip = _until(_sip_answers, (peers.NODE_IP, sip_port), running)
        http = _until(_http_answers, (peers.NODE_IP, http_port), running)
        answered = await asyncio.gather(sip, http)
        await running
    finally:
        await node.stop()
    return answered[0] - started, answered[1] - started


async def _until(
    answers: Callable[[tuple[str, int]], bool], at: tuple[str, int], running: "asyncio.Task[None]"
) -> float:
    """When it answered first. Raises PeerFailed when it never does, what `running` raises when that failed."""
    give_up = time.perf_counter() + GIVE_UP_S
    while not await asyncio.to_thread(answers, at):
        if running.done():
            running.result()
        if time.perf_counter() > give_up:
            raise peers.PeerFailed(f"nothing answers at {at} within {GIVE_UP_S:.0f} s")
        await asyncio.sleep(0.005)
    return time.perf_counter()


def _http_answers(at: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(at, 1.0) as sock:
            sock.sendall(f"GET /healthz HTTP/1.1\r\nHost: {at[0]}\r\nConnection: close\r\n\r\n".encode())
            return sock.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _sip_answers(at: tuple[str, int]) -> bool:
    """Any answer to an OPTIONS from nobody known: it is read and refused."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((peers.NODE_IP, 0))
        sock.connect(at)
        sock.settimeout(0.02)
        own, branch = "{}:{}".format(*sock.getsockname()), time.perf_counter_ns()
        try:
            sock.send(
                f"OPTIONS sip:{at[0]}:{at[1]} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{branch}\r\n"
                f"Max-Forwards: 70\r\nFrom: <sip:bench@{own}>;tag=b\r\nTo: <sip:{at[0]}:{at[1]}>\r\n"
                f"Call-ID: {branch}@bench\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n".encode()
            )
            return sock.recv(65_535).startswith(b"SIP/2.0 ")
        except OSError:
            return False
