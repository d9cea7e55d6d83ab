"""A trunk group on a whole node: SIPp as the PBX, carriers on real sockets, what the records say afterwards."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.agents import Carrier, Placing, place_call
from engine.sip.message import Request
from tests import peers
from tests.node import Node
from tests.peers import PBX_IP

PBX_CALL = Path(__file__).parent / "sipp" / "pbx_call.xml"
CIVIC = {"country": "US", "A1": "CA", "A3": "Oakland", "HNO": "12", "RD": "Broadway", "PC": "94607"}


class Deaf(Carrier):
    """A carrier whose machine answers pings and whose calls go nowhere: the failure that no ping tells of."""

    async def _answer(self, request: Request, addr: tuple[str, int]) -> None:
        if request.method == "INVITE":
            self.invites.append(request)
        else:
            await super()._answer(request, addr)


@pytest.fixture
async def carriers() -> AsyncIterator[dict[str, Carrier]]:
    made: dict[str, Carrier] = {"Cheapest": Carrier(), "West one": Deaf(), "West two": Carrier(), "Relay": Carrier()}
    for each in made.values():
        await each.start()
    yield made
    for each in made.values():
        await each.stop()


async def set_up(node: Node, carriers: dict[str, Carrier]) -> None:
    """The cheapest trunk comes first by its priority; the office in the west names two others before it."""
    await node.set_up()
    ids = {}
    for priority, (name, carrier) in enumerate(carriers.items(), 1):
        host, port = carrier.address
        body = {"name": name, "host": host, "port": port, "priority": priority, "last_resort": name == "Relay"}
        ids[name] = (await node.api("POST", "trunks", body))["id"]
    group = await node.api("POST", "trunk-groups", {"name": "West", "trunk_ids": [ids["West one"], ids["West two"]]})
    place = {"name": "Oakland", "civic_address": CIVIC, "trunk_group_id": group["id"]}
    west = await node.api("POST", "locations", place)
    pbx = {"name": "PBX", "sources": [f"{PBX_IP}/32"], "default_location_id": west["id"]}
    await node.api("POST", "pbxs", pbx)  # the last: who is trusted is known together with all the rest
    async with asyncio.timeout(60):
        while (await place_call(Placing("100", "101", node.udp, silence_s=2.0), local_ip=PBX_IP)).status != 404:
            await asyncio.sleep(0.05)
    await node.wait_for("trunks", lambda told: all(row["is_up"] for row in told["data"]), within_s=60)


async def tried_by_next_call(node: Node, folder: Path) -> list[tuple[str, str]]:
    """SIPp dials 911, talks and hangs up; (trunk, outcome) of each attempt, as recorded."""
    known = {row["id"] for row in (await node.api("GET", "emergency-calls"))["data"]}
    await asyncio.to_thread(peers.sipp_calls, folder, PBX_CALL, node.udp, within_s=60.0)

    def ended(answer: dict[str, Any]) -> list[dict[str, Any]]:
        return [row for row in answer["data"] if row["id"] not in known and row["ended_at"]]

    (row,) = ended(await node.wait_for("emergency-calls", ended, within_s=60))
    call = await node.api("GET", f"emergency-calls/{row['id']}")
    assert call["outcome"] == "answered"
    return [(attempt["trunk_name"], attempt["outcome"]) for attempt in call["attempts"]]


async def test_the_trunks_of_a_group_are_taken_in_its_order_and_behind_them_all_others(
    tmp_path: Path, carriers: dict[str, Carrier]
) -> None:
    """E-08, S1-38, decision 0033: the first of the group is dead and the next one takes the call; what a call learnt
    holds for the next; with the whole group gone the others carry it.
    """
    async with Node(tmp_path) as node:
        await set_up(node, carriers)
        assert await tried_by_next_call(node, tmp_path) == [("West one", "timeout"), ("West two", "answered")]
        assert await tried_by_next_call(node, tmp_path) == [("West two", "answered")]
        assert carriers["Cheapest"].invites == []
        assert len(carriers["West two"].invites) == 2
        await carriers["West two"].stop()
        assert await tried_by_next_call(node, tmp_path) == [("West two", "unreachable"), ("Cheapest", "answered")]
        assert carriers["Relay"].invites == []
        await carriers["Cheapest"].stop()
        tried = await tried_by_next_call(node, tmp_path)
        assert tried[-1] == ("Relay", "answered")
        assert {name for name, _ in tried[:-1]} >= {"Cheapest"}
