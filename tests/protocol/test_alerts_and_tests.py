"""Alerts and tests of locations through a whole node: real INVITEs, the real recorder, the real stream."""

import asyncio
import datetime as dt
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from engine.agents import Carrier, Placing, _response, place_call
from engine.sip.message import Request
from engine.sip.uri import parse_uri
from tests.node import Node
from tests.sink import MailSink

pytestmark = pytest.mark.asyncio(loop_scope="module")
CIVIC = {"country": "US", "A1": "NY", "A3": "Albany", "HNO": "120", "RD": "Washington", "STS": "Ave", "PC": "12203"}
CALLS = 10


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def carrier() -> AsyncIterator[Carrier]:
    far_end = Carrier(ring_s=0.01)
    await far_end.start()
    yield far_end
    await far_end.stop()


class Refusing(Carrier):
    """A far end that is there and takes no call."""

    async def _answer(self, request: Request, addr: tuple[str, int]) -> None:
        if request.method != "INVITE":
            await super()._answer(request, addr)
            return
        assert self._transport is not None
        self._transport.sendto(_response(request, 500, "Server Internal Error", tag="refusing"), addr)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def refusing() -> AsyncIterator[Carrier]:
    far_end = Refusing()
    await far_end.start()
    yield far_end
    await far_end.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory, carrier: Carrier, refusing: Carrier) -> AsyncIterator[Node]:
    sink = MailSink()
    await sink.start()
    mail = {
        "CALLPOINT_MAIL__HOST": "127.0.0.1", "CALLPOINT_MAIL__PORT": str(sink.port), "CALLPOINT_MAIL__SECURITY": "none",
        "CALLPOINT_E911__SWEEP_PACE_S": "0.1",
    }  # fmt: skip
    async with Node(tmp_path_factory.mktemp("node"), mail) as running:
        await running.set_up()
        await running.api("POST", "notification-recipients", {"email": "desk@example.com"})
        await running.api("POST", "pbxs", {"name": "PBX", "sources": ["127.0.0.1/32"]})
        host, port = refusing.address
        await running.api("POST", "trunks", {"name": "Refuses", "host": host, "port": port, "priority": 1})
        host, port = carrier.address
        await running.api("POST", "trunks", {"name": "Carrier", "host": host, "port": port, "priority": 5})
        for name, subnet in (("Headquarters", "10.4.12.0/24"), ("Warehouse", "10.9.0.0/16"), ("Barn", None)):
            place = await running.api("POST", "locations", {"name": name, "civic_address": CIVIC | {"FLR": name}})
            if subnet:
                await running.api("POST", "networks", {"value": subnet, "location_id": place["id"]})
        line = {"extension": "101", "sip_user": "101", "display_name": "Ann Lee", "secret": "s3cret-of-101"}
        await running.api("POST", "lines", line)
        async with asyncio.timeout(60):
            while not (await place_call(Placing("933", "101", running.udp))).is_answered:
                await asyncio.sleep(0.05)
        yield running
    await sink.stop()


async def events_of(node: Node, into: asyncio.Queue[tuple[float, dict[str, Any]]]) -> None:
    """The stream's calls, each with the time at which it was read."""
    headers = {"Authorization": f"Bearer {node.api_key}"}
    async with aiohttp.ClientSession(headers=headers) as client, client.get(f"{node.admin}/alerts/stream") as answer:
        assert answer.status == 200
        name = ""
        async for raw in answer.content:
            line = raw.decode().rstrip("\r\n")
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: ") and name in {"opening", "call"}:
                into.put_nowait((time.time(), json.loads(line.removeprefix("data: "))))


async def test_from_the_invite_to_the_page_takes_a_moment(node: Node) -> None:
    """E-11: each 911 is on the stream once it is recorded; how long that took is told by the call's own time."""
    heard: asyncio.Queue[tuple[float, dict[str, Any]]] = asyncio.Queue()
    reader = asyncio.create_task(events_of(node, heard))
    try:
        async with asyncio.timeout(60):
            await heard.get()  # the opening
            took = []
            for _ in range(CALLS):
                placed = await place_call(Placing("911", "101", node.udp, talk_s=0.0))
                assert placed.is_answered
                while True:
                    at, told = await heard.get()
                    if told["kind"] == "emergency" and told["rings"] and told["id"] not in {one for one, _ in took}:
                        sent_at = dt.datetime.fromisoformat(told["sent_at"]).timestamp()
                        took.append((told["id"], at - sent_at))
                        break
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    assert len(took) == CALLS
    assert max(seconds for _, seconds in took) < 30, took
    assert min(seconds for _, seconds in took) > -0.1, took


async def test_a_call_keeps_what_each_trunk_was_sent(node: Node) -> None:
    """E-12: the second trunk's INVITE stands with its attempt, as it left; the first one's with the call."""
    placed = await place_call(Placing("911", "101", node.udp))

    def recorded(answer: dict[str, Any]) -> list[dict[str, Any]]:
        return [row for row in answer["data"] if row["call_id"] == placed.call_id and row["outcome"] != "in_progress"]

    (row,) = recorded(await node.wait_for("emergency-calls", recorded, within_s=60))
    call = await node.api("GET", f"emergency-calls/{row['id']}")
    first, second = call["attempts"]
    assert (first["trunk_name"], first["invite"]) == ("Refuses", None)
    assert second["trunk_name"] == "Carrier"
    assert second["invite"].startswith("INVITE sip:911@")
    assert call["invite"].startswith("INVITE sip:911@")
    assert second["invite"] != call["invite"]  # each with its own Via branch


async def test_every_location_is_tested_with_933_and_what_cannot_call_is_said(node: Node, carrier: Carrier) -> None:
    """E-15, S0-18: a round through the real SIP side: each call carries the address of its location and reaches the
    test line; nothing else is ever dialed.
    """
    carrier.invites.clear()
    sweep = await node.api("POST", "sweeps", {"tells": False})
    ended = await node.wait_for(f"sweeps/{sweep['id']}", lambda row: row["state"] == "done", within_s=180)
    assert (ended["locations"], ended["passed"], ended["failed"], ended["skipped"]) == (3, 2, 0, 1)
    rows = {row["name"]: row for row in (await node.api("GET", "location-tests"))["data"]}
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "Headquarters": "passed", "Warehouse": "passed", "Barn": "no_caller",
    }  # fmt: skip
    for name in ("Headquarters", "Warehouse"):
        call = await node.api("GET", f"emergency-calls/{rows[name]['passed_call_id']}")
        assert (call["kind"], call["dialed"], call["location"]["name"]) == ("test", "933", name)
        assert call["notifications"] == []  # this round tells nobody
        assert "no_recipients" not in call["flags"]
    assert {parse_uri(invite.request_uri).user_text for invite in carrier.invites} == {"933"}
    overdue = (await node.api("GET", "location-tests?untested_days=90"))["data"]
    assert [row["name"] for row in overdue] == ["Barn"]
    events = {entry["event"] for entry in (await node.api("GET", "audit-log?limit=200"))["data"]}
    assert {"sweep.create", "sweep.end"} <= events
