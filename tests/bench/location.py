"""`python -m tests.bench.location`: the location table alone, at 100,000 phones and 20,000 networks of every kind.

What a decision costs, warm and cold; how long the table takes to read and what it holds; and the longest that the SIP
process answered nothing while a whole table was read and put in the place of the old one.
"""

import asyncio
import gc
import os
import random
import tempfile
import threading
import time
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from engine import crypto
from engine.crypto import KeyRing
from engine.e911 import snapshot
from engine.e911.carriers import load_profiles
from engine.e911.hook import Hook
from engine.e911.location import AccountTable, Caller, LocationTable, resolve
from engine.e911.route import Deadlines
from engine.sip.forward import Hop
from tests import peers
from tests.bench import machine
from tests.siptest import read_request, request

PHONES, PORTS, ACCESS_POINTS, SUBNETS, LOCATIONS, CONFIRMED = 100_000, 5_000, 5_000, 10_000, 2_000, 5_000
PROBE_S = 0.002
SEEN_AT = "2026-11-21T20:00:00.000000Z"


def main() -> None:
    console = Console(highlight=False)
    shown = Table("figure", "measured", "goal")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = crypto.create(folder / "keys.toml")
        shown.add_row("snapshot written", f"{_write(folder, keys):.1f} s CPU", "")
        _measure_read(folder, keys, shown)
        _measure_swap(folder, keys, shown)
    console.print(shown)


def _write(folder: Path, keys: KeyRing) -> float:
    whole = account()
    return _timed(lambda: snapshot.save(folder / "snapshot", whole, keys))[1]


def account() -> dict[str, Any]:
    """One account with everything in it, identifiers as long as real ones."""
    made = peers.one_account(peers.trunk(peers.CARRIER_IP, 5060), default_route="sip:192.0.2.1")
    place = made["locations"][0]
    made["locations"] = [
        place
        | {"id": _id("location", n), "name": f"Room {n}", "civic_address": place["civic_address"] | {"ROOM": str(n)}}
        for n in range(LOCATIONS)
    ]
    made["default_location_id"] = _id("location", 0)
    kinds = [
        *(("subnet", f"10.{n >> 8}.{n & 255}.0/24") for n in range(SUBNETS // 2)),
        *(("subnet", f"2001:db8:{n:x}::/48") for n in range(SUBNETS // 2)),
        *(("switch_port", f"{n // 48:012x}/gi1/0/{n % 48}") for n in range(PORTS)),
        *(("bssid", f"{n:012x}") for n in range(ACCESS_POINTS)),
    ]
    made["networks"] = [
        {"id": _id("network", n), "kind": kind, "value": value, "location_id": _id("location", n % LOCATIONS),
         "pbx_id": None}
        for n, (kind, value) in enumerate(kinds)
    ]  # fmt: skip
    made["lines"] = [
        {"id": _id("line", n), "extension": str(200_000 + n), "sip_user": f"acme-{200_000 + n}",
         "display_name": f"Person {n}", "callback_number": f"+1518{n:07d}", "location_id": None, "pbx_id": "pbx_1"}
        for n in range(PHONES)
    ]  # fmt: skip
    made["phones"] = [
        {"id": _id("phone", n), "mac": f"{n:012x}", "label": f"Desk {n}", "location_id": _id("location", n % LOCATIONS),
         "line_ids": [_id("line", n)]}
        for n in range(PHONES)
    ]  # fmt: skip
    made["sightings"] = [
        {"phone_id": _id("phone", n), "chassis": f"{n % PORTS // 48:012x}", "port": f"gi1/0/{n % 48}", "bssid": None,
         "ip": f"10.{n >> 12 & 15}.{n >> 4 & 255}.{n & 15}", "source": "snmp", "seen_at": SEEN_AT}
        for n in range(PHONES)
    ]  # fmt: skip
    made["confirmed"] = [
        {"id": _id("confirmed", n), "phone_id": _id("phone", n), "line_id": None, "location_id": _id("location", n % 9),
         "network": f"203.{n >> 8}.{n & 255}.0/24", "confirmed_at": SEEN_AT}
        for n in range(CONFIRMED)
    ]  # fmt: skip
    return made


def _id(kind: str, number: int) -> str:
    return f"{kind}_{number:026x}"


def _timed(work: Any) -> tuple[Any, float]:
    started = time.process_time()
    done = work()
    return done, time.process_time() - started


def _measure_read(folder: Path, keys: KeyRing, shown: Table) -> None:
    """In a process of its own: what was freed before is no part of the figure."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        before = machine.memory(os.getpid()).own
        table, took = _timed(lambda: snapshot.load(folder / "snapshot", "account_acme", keys))
        rows = [
            ("table read", f"{took:.2f} s CPU", "< 5 s"),
            ("and held", f"{machine.memory(os.getpid()).own - before:.0f} MB", "< 600 MB"),
        ]
        gc.freeze()  # as the SIP process does
        gc.disable()
        rows += _decisions(table)
        os.write(writer, "\n".join("\t".join(row) for row in rows).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        for line in answer.read().splitlines():
            shown.add_row(*line.split("\t"))
    os.waitpid(child, 0)


def _decisions(account: AccountTable) -> list[tuple[str, str, str]]:
    """`resolve` alone, and the whole decision of the hook for a fresh INVITE, each caller once, in no order."""
    now, pbx = datetime.now(UTC), account.pbxs["pbx_1"]
    numbers = random.Random(7).sample(range(PHONES), 10_000)
    callers = [
        Caller(f"acme-{200_000 + n}", source_ip=ip_address(f"10.{n >> 12 & 15}.{n >> 4 & 255}.{n & 15}"))
        for n in numbers
    ]
    cold = sorted(_spent(lambda caller=caller: resolve(account, caller, now, pbx=pbx)) for caller in callers)
    warm = min(_spent(lambda: resolve(account, callers[0], now, pbx=pbx)) for _ in range(2000))
    table = LocationTable()
    table.put(account)
    hook = Hook(
        table, profiles=load_profiles(), hops_of=lambda host, port, transport: (Hop(transport, host, port or 5060),),
        down=set(), trunk_ips=set(), deadlines=Deadlines(), proof_key=b"k" * 32, make_call_id=lambda: "call_1",
    )  # fmt: skip
    source = Hop("udp", peers.PBX_IP, 5060)
    whole = []
    for n in numbers[:6000]:
        asserted = f"P-Asserted-Identity: <sip:acme-{200_000 + n}@pbx>"
        invite = read_request(request(source=source, added=[asserted, f"X-Callpoint-Source: 10.1.{n & 255}.9"]))
        whole.append(_spent(lambda invite=invite: hook.decide(invite, source, now)))
    whole.sort()
    return [
        ("location found, warm", f"{warm * 1e6:.0f} µs", "< 50 µs"),
        ("location found, p50, p99", f"{_at(cold, 0.5)}, {_at(cold, 0.99)}", "p99 < 5 ms"),
        ("whole decision, p50, p99", f"{_at(whole, 0.5)}, {_at(whole, 0.99)}", "p99 < 5 ms"),
    ]


def _spent(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _at(values: list[float], share: float) -> str:
    return f"{values[int(len(values) * share)] * 1e6:.0f} µs"


def _measure_swap(folder: Path, keys: KeyRing, shown: Table) -> None:
    """A PBX's OPTIONS every 2 ms; the longest that one took to be answered, at rest and while tables are swapped."""
    with peers.edge(folder, keys, folder / "keys.toml", core=machine.SUT_CORE) as running:
        asyncio.run(_probed(running.udp, 0.5))
        resting = asyncio.run(_probed(running.udp, 3.0))
        swaps = [0]
        stop = threading.Event()

        def swap() -> None:
            while not stop.is_set():
                running.say({"do": "load", "account_id": "account_acme"})
                running.say({"do": "stats", "token": f"swapped{swaps[0]}"})
                running.hear("stats", 60.0)
                swaps[0] += 1

        thread = threading.Thread(target=swap, daemon=True)
        thread.start()
        swapping = asyncio.run(_probed(running.udp, 15.0))
        stop.set()
        thread.join(60)
        memory = machine.memory(running.peer.pid)
    shown.add_row("longest answer at rest", f"{max(resting) * 1e3:.1f} ms", "")
    shown.add_row(f"and during {swaps[0]} swaps", f"{max(swapping) * 1e3:.1f} ms", "< 50 ms")
    shown.add_row("p99 during swaps", f"{sorted(swapping)[int(len(swapping) * 0.99)] * 1e3:.1f} ms", "")
    shown.add_row("SIP process, at the end and at most", f"{memory.own:.0f}, {memory.peak:.0f} MB", "< 600 MB")


async def _probed(at: tuple[str, int], seconds: float) -> list[float]:
    sent: dict[bytes, float] = {}
    took: list[float] = []
    loop = asyncio.get_running_loop()

    class Prober(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            branch = data.partition(b"branch=")[2].partition(b";")[0].partition(b"\r")[0]
            if branch in sent:
                took.append(loop.time() - sent.pop(branch))

    transport, _ = await loop.create_datagram_endpoint(Prober, local_addr=(peers.PBX_IP, 0), remote_addr=at)
    own = Hop("udp", *transport.get_extra_info("sockname")[:2])
    until, number = loop.time() + seconds, 0
    while loop.time() < until:
        branch = f"z9hG4bKprobe{number}"
        sent[branch.encode()] = loop.time()
        transport.sendto(request("OPTIONS", "sip:callpoint", source=own, branch=branch, call_id=branch))
        number += 1
        await asyncio.sleep(PROBE_S)
    await asyncio.sleep(0.5)
    transport.close()
    return took + [seconds] * len(sent)  # one that never came back took as long as the whole measurement


if __name__ == "__main__":
    main()
