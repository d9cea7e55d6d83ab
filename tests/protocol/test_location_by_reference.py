"""A 911 call that conveys its location by reference, and the carrier that fetches it; a whole node."""

import asyncio
import re
from pathlib import Path

import aiohttp

from tests import peers, ports
from tests.factories import HEADQUARTERS
from tests.node import Node
from tests.peers import CARRIER_IP, PBX_IP
from tests.unit.e911.held_requests import checked, civic

SCENARIOS = Path(__file__).parent / "sipp"


async def test_the_carrier_fetches_what_the_call_conveyed_whatever_is_edited_since(tmp_path: Path, cases: Path) -> None:
    """E-06, E-13: Geolocation names a location URI of the phones' port; no PIDF-LO travels with the INVITE."""
    base = f"127.0.0.1:{ports.free_port('127.0.0.1')}"
    environment = {
        "CALLPOINT_PROVISIONING__LISTEN": base, "CALLPOINT_PROVISIONING__PUBLIC_URL": f"http://{base}",
    }  # fmt: skip
    async with Node(tmp_path, environment=environment) as node:
        await node.set_up()
        location = await node.api("POST", "locations", {"name": "HQ", "civic_address": HEADQUARTERS})
        pbx = await node.api("POST", "pbxs", {"name": "PBX", "sources": [f"{PBX_IP}/32"]})
        line = {"extension": "101", "sip_user": "101", "pbx_id": pbx["id"], "location_id": location["id"]}
        await node.api("POST", "lines", line)
        with peers.sipp_carrier(tmp_path, SCENARIOS / "carrier_answer.xml") as port:
            trunk = {"name": "Carrier", "host": CARRIER_IP, "port": port, "location_mode": "reference"}
            await node.api("POST", "trunks", trunk)
            await _until_routed(tmp_path, node)
        invite = [each for each in peers.sipp_messages(tmp_path, "carrier") if each.startswith(b"INVITE ")][-1]
        assert b"application/pidf+xml" not in invite
        (uri,) = re.findall(rb"Geolocation: <(http[^>]+)>", invite)
        assert uri.startswith(f"http://{base}/held/".encode())
        await node.wait_for("emergency-calls", lambda answer: answer["data"])
        first = await _fetched(uri.decode())
        assert civic(first) == HEADQUARTERS
        checked(first)
        path = f"locations/{location['id']}"
        await node.api("PATCH", path, {"civic_address": HEADQUARTERS | {"HNO": "999"}}, If_Match='"1"')
        assert civic(await _fetched(uri.decode())) == HEADQUARTERS
        async with (
            aiohttp.ClientSession() as client,
            client.get(uri.decode()[:-1] + ("A" if not uri.endswith(b"A") else "Q")) as answer,
        ):
            assert (answer.status, await answer.read()) == (404, b"Not found.\n")


async def _until_routed(folder: Path, node: Node) -> None:
    """The call, as soon as the SIP process knows PBX and trunk."""
    for _ in range(40):
        try:
            await asyncio.to_thread(peers.sipp_calls, folder, SCENARIOS / "pbx_call.xml", node.udp)
        except peers.PeerFailed as exc:
            if "403" not in str(exc) and "503" not in str(exc):
                raise
            await asyncio.sleep(0.1)
        else:
            return
    raise AssertionError("the SIP process never learned of PBX and trunk")


async def _fetched(uri: str) -> bytes:
    async with aiohttp.ClientSession() as client, client.get(uri) as answer:
        assert answer.status == 200
        return await answer.read()
