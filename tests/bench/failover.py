"""From a dead first trunk to the answer of the second: how long a 911 caller waits, whatever the first one lacks.

The calls leave together, so that none of them profits from what another found out.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine import crypto
from tests.bench import machine
from tests.bench.table import Goal
from tests.protocol.edgetest import CARRIER_IP, PBX_IP, SECOND_IP, Carrier, Pbx, account, answering, edge, trunk

CALLS = 20
SILENT, REFUSING = "UDP, silent", "TCP, refusing"
MOST_S = {SILENT: 2.5, REFUSING: 1.2}


@dataclass(frozen=True, slots=True)
class Switched:
    """Seconds from INVITE to the second trunk's 200. `first_asked`: INVITEs that the silent first one was sent."""

    first: str
    calls: int
    p50_s: float
    longest_s: float
    first_asked: int


async def measure(say: Callable[[str], None]) -> list[Switched]:
    found = []
    for first in MOST_S:
        with tempfile.TemporaryDirectory() as name:
            found.append(one := await _switched(first, Path(name)))
        say(f"first trunk {first}: {one.calls} calls, p50 {one.p50_s:.2f} s, longest {one.longest_s:.2f} s")
    return found


async def _switched(first: str, folder: Path) -> Switched:
    keys = crypto.create(folder / "keys.toml")
    async with contextlib.AsyncExitStack() as stack:
        dead = Carrier(first[:3].lower(), CARRIER_IP, answering)
        second, pbx = Carrier("udp", SECOND_IP, answering), Pbx("udp", PBX_IP)
        for party in (dead, second, pbx):
            await party.open()
            stack.push_async_callback(party.close)
        hop, dead.is_silent = dead.hop, True
        if first == REFUSING:
            await dead.close()
        table = account(trunk(hop), trunk(second.hop, "trunk_second", 20))
        running = await stack.enter_async_context(edge(folder, keys, table, ping_s=0))

        async def called() -> float:
            begun = time.perf_counter()
            answer = await (await pbx.call(running.udp)).final()
            assert answer.status == 200, answer.status
            return time.perf_counter() - begun

        took = await asyncio.gather(*(called() for _ in range(CALLS)))
        return Switched(first, len(took), machine.percentile(list(took), 0.5), max(took), len(dead.invites))


def goals(found: list[Switched]) -> list[Goal]:
    return [
        Goal(
            f"911 with a dead first trunk ({one.first}), longest of {one.calls}",
            f"{one.longest_s:.2f} s",
            f"< {MOST_S[one.first]:g} s",
            one.longest_s < MOST_S[one.first] and one.first_asked == (one.calls if one.first == SILENT else 0),
        )
        for one in found
    ]
