"""From a 911 INVITE to the pages of the front desk: a whole node, some readers of its stream, one call after another.

The clock starts when the caller's INVITE leaves and stops when a reader has the call's event in hand: journal, record,
audit entry, board and stream lie between.
"""

import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from engine.agents import Carrier, Placing, place_call
from tests.bench import machine
from tests.bench.plan import Plan
from tests.bench.table import Goal
from tests.node import Node

READERS = 5
WITHIN_S = 30.0
CIVIC = {"country": "US", "A1": "NY", "A3": "Albany", "HNO": "120", "RD": "Washington", "STS": "Ave", "PC": "12203"}


@dataclass(frozen=True, slots=True)
class Shown:
    """Times from INVITE to page in milliseconds, of every reader; `missing`: events that never came."""

    calls: int
    missing: int
    p50_ms: float
    p99_ms: float


async def measure(plan: Plan, say: Callable[[str], None]) -> Shown:
    carrier = Carrier(ring_s=0.01)
    await carrier.start()
    try:
        with tempfile.TemporaryDirectory() as name:
            async with Node(Path(name)) as node:
                await _furnish(node, carrier)
                took, calls = await _watched_calls(node, plan.mails)
    finally:
        await carrier.stop()
    missing = calls * READERS - len(took)
    shown = Shown(calls, missing, machine.percentile(took, 0.5), machine.percentile(took, 0.99))
    say(f"alerts: {calls} calls, {READERS} pages, {missing} missing, p50 {shown.p50_ms:.0f}, p99 {shown.p99_ms:.0f} ms")
    return shown


def goals(shown: Shown) -> list[Goal]:
    measured = f"{shown.p99_ms:.0f} ms, {shown.missing} of {shown.calls * READERS} missing"
    is_met = shown.p99_ms < 1000 and not shown.missing and shown.calls > 0
    return [Goal(f"INVITE to {READERS} open alert pages, p99", measured, "< 1000 ms", is_met)]


async def _furnish(node: Node, carrier: Carrier) -> None:
    await node.set_up()
    place = await node.api("POST", "locations", {"name": "Headquarters", "civic_address": CIVIC})
    await node.api("PATCH", "account", {"default_location_id": place["id"]}, If_Match="*")
    await node.api("POST", "pbxs", {"name": "PBX", "sources": ["127.0.0.1/32"]})
    host, port = carrier.address
    await node.api("POST", "trunks", {"name": "Carrier", "host": host, "port": port})
    await node.api("POST", "lines", {"extension": "101", "sip_user": "101", "secret": "s3cret-of-101"})
    async with asyncio.timeout(WITHIN_S):
        while not (await place_call(Placing("933", "101", node.udp))).is_answered:
            await asyncio.sleep(0.05)


async def _watched_calls(node: Node, calls: int) -> tuple[list[float], int]:
    """Place the calls one after another; how long each took to each reader, in milliseconds."""
    first_seen: list[dict[str, float]] = [{} for _ in range(READERS)]
    readers = [asyncio.create_task(_read(node, seen)) for seen in first_seen]
    sent_at: list[float] = []
    try:
        async with asyncio.timeout(WITHIN_S):
            while not all("opening" in seen for seen in first_seen):
                await asyncio.sleep(0.05)
        for number in range(calls):
            sent_at.append(time.perf_counter())
            await place_call(Placing("911", "101", node.udp, talk_s=0.0))
            give_up = time.perf_counter() + 5.0
            while not all(len(seen) > number + 1 for seen in first_seen) and time.perf_counter() < give_up:
                await asyncio.sleep(0.002)
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    # one call at a time, so that the order in which a page first sees calls is that in which they were placed
    took = [
        (at - sent) * 1000 for seen in first_seen for sent, at in zip(sent_at, list(seen.values())[1:], strict=False)
    ]
    return took, calls


async def _read(node: Node, first_seen: dict[str, float]) -> None:
    headers = {"Authorization": f"Bearer {node.api_key}"}
    with contextlib.suppress(aiohttp.ClientError):
        async with (
            aiohttp.ClientSession(headers=headers) as client,
            client.get(f"{node.admin}/alerts/stream") as answer,
        ):
            name = ""
            async for raw in answer.content:
                line = raw.decode().rstrip("\r\n")
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: ") and name == "opening":
                    first_seen["opening"] = time.perf_counter()
                elif line.startswith("data: ") and name == "call":
                    told = json.loads(line.removeprefix("data: "))
                    if told["kind"] == "emergency":
                        first_seen.setdefault(told["id"], time.perf_counter())
