"""A location server and a switch port through a whole running node: main process, database and SIP process."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.agents import Carrier, Placing, place_call
from engine.e911.waiting import WAIT_S
from tests.node import Node
from tests.protocol.lis import lis

MAC = "0015654aa937"
OFFICE = {"country": "US", "A1": "NY", "A3": "Albany", "HNO": "120", "RD": "Washington", "STS": "Ave", "PC": "12203"}


async def call(node: Node, number: str, *headers: tuple[str, str]) -> dict[str, Any]:
    """The record of one more call."""
    placed = await place_call(Placing(number, "999", node.udp, headers=headers))
    assert placed.is_answered

    def found(answer: dict[str, Any]) -> list[dict[str, Any]]:
        return [row for row in answer["data"] if row["call_id"] == placed.call_id]

    return dict(found(await node.wait_for("emergency-calls", found))[0])


async def located_by(node: Node, source: str, *headers: tuple[str, str]) -> dict[str, Any]:
    """The first call that is placed by that source: a word to the SIP process takes a moment."""
    async with asyncio.timeout(60):
        while (record := await call(node, "911", *headers))["location_source"] != source:
            await asyncio.sleep(0.05)
    return record


async def until_carried(node: Node) -> None:
    async with asyncio.timeout(60):
        while not (await place_call(Placing("933", "999", node.udp, silence_s=1.0))).is_answered:
            await asyncio.sleep(0.05)


async def furnish(node: Node, carrier: Carrier) -> str:
    """An account with an office, a lab at a switch port, a phone and a PBX; the phone's identifier."""
    await node.set_up()
    office = await node.api("POST", "locations", {"name": "Office", "civic_address": OFFICE})
    lab = await node.api("POST", "locations", {"name": "Lab", "civic_address": OFFICE | {"ROOM": "7"}})
    network = {"kind": "switch_port", "value": "00:11:22:33:44:55/Gi1/0/7", "location_id": lab["id"]}
    await node.api("POST", "networks", network)
    phone = await node.api("POST", "phones", {"mac": MAC, "vendor": "yealink", "model": "T46U", "label": "Desk"})
    await node.api("POST", "pbxs", {"name": "PBX", "sources": ["127.0.0.1/32"], "default_location_id": office["id"]})
    host, port = carrier.address
    await node.api(
        "POST", "trunks", {"name": "Carrier", "host": host, "port": port, "priority": 10, "transport": "udp"}
    )
    await until_carried(node)
    return str(phone["id"])


async def test_references_and_sightings_work_through_a_whole_node(tmp_path: Path) -> None:
    """E-05, E-02: fetched by the main process; told to the SIP process at once, and again when it starts anew; and with
    the main process killed a call waits for nothing.
    """
    carrier = Carrier(ring_s=0.01)
    await carrier.start()
    async with lis() as server:
        orphan: int | None = None
        node = Node(tmp_path, {"CALLPOINT_SIP__LOCATION_HOSTS": f'["{server.host}"]'})
        try:
            await node.start()
            phone_id = await furnish(node, carrier)
            refers = ("Geolocation", f"<{server.uri()}>")
            record = await call(node, "911", refers)
            assert (record["location_source"], record["location"]["civic_address"]["RD"]) == ("reference", "River")
            assert len(server.asked) == 1

            device = ("X-Callpoint-Device", MAC)
            assert (await call(node, "911", device))["location_source"] == "pbx_default"
            sighting = {"chassis": "0011.2233.4455", "port": "GI1/0/7"}
            await node.api("PUT", f"phones/{phone_id}/sighting", sighting)
            record = await located_by(node, "switch_port", device)
            assert record["location"]["name"] == "Lab"

            os.kill(edge_of(node), signal.SIGKILL)
            await until_carried(node)
            await located_by(node, "switch_port", device)

            orphan = edge_of(node)
            assert node.process is not None
            node.process.kill()  # the SIP process holds its pipe open, so that waiting for it would wait for both
            async with asyncio.timeout(60):
                while "main_process_gone" not in "".join(node.output):
                    await asyncio.sleep(0.01)
            count, asked = len(carrier.invites), await until_no_call_waits(node, server.uri)
            assert len(carrier.invites) == count + asked
            assert all(not path.startswith("/another") for _, path, _ in server.asked)
        finally:
            if orphan is not None:
                os.kill(orphan, signal.SIGTERM)
            await node.stop()
            await carrier.stop()


async def until_no_call_waits(node: Node, uri: Callable[[str], str]) -> int:
    """Place calls with references nobody can fetch, until one is over sooner than one that waits could be; how many
    that took. On a busy machine the first may be late for other reasons.
    """
    loop, count = asyncio.get_running_loop(), 0
    async with asyncio.timeout(60):
        while True:
            count, started = count + 1, loop.time()
            another = ("Geolocation", f"<{uri(f'/another{count}')}>")
            placing = Placing("911", "999", node.udp, headers=(another,))
            assert (await place_call(placing)).is_answered
            if loop.time() - started < placing.talk_s + WAIT_S:
                return count


def edge_of(node: Node) -> int:
    """The pid of the node's SIP process."""
    assert node.process is not None
    children = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text().split()
    found = [int(pid) for pid in children if b"engine.edge" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found[0]
