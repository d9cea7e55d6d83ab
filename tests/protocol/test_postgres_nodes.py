"""Two whole nodes on one PostgreSQL: what becomes of the calls of one that is lost."""

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from engine.agents import Carrier, Placing, place_call
from tests.node import Node

pytestmark = pytest.mark.enable_socket


def edge_pid_of(node: Node) -> int:
    assert node.process is not None
    (child,) = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text().split()
    return int(child)


async def open_call(node: Node, carrier: Carrier, calling: list[asyncio.Task[object]]) -> str:
    """Call until the node has the PBX and the trunk; the Call-ID of the one that stands."""
    async with asyncio.timeout(60):
        while True:
            placing = Placing("911", "101", node.udp, talk_s=300.0)
            calling.append(asyncio.create_task(place_call(placing)))
            while not calling[-1].done():
                if placing.call_id in {invite.call_id for invite in carrier.invites}:
                    return placing.call_id
                await asyncio.sleep(0.02)


def outcomes_of(page: dict[str, Any], call_ids: list[str]) -> list[str]:
    calls = {call["call_id"]: call["outcome"] for call in page["data"]}
    return [calls.get(call_id, "") for call_id in call_ids]


async def test_a_node_that_is_lost_with_its_disk_leaves_no_call_in_progress(tmp_path: Path, postgres_url: str) -> None:
    """E-12: the other node closes it, and says why; its own calls it keeps."""
    carrier = Carrier(ring_s=0.01)
    await carrier.start()
    shared = {
        "CALLPOINT_CORE__DATABASE_URL": postgres_url,
        "CALLPOINT_CORE__KEY_FILE": str(tmp_path / "keys.toml"),
        "CALLPOINT_E911__SILENT_NODE_S": "3",
    }
    folders = [tmp_path / name for name in ("lost", "stays")]
    for folder in folders:
        folder.mkdir()
    lost, stays = (Node(folder, shared) for folder in folders)
    await lost.set_up()
    stays.api_key, stays.account_id = lost.api_key, lost.account_id
    calling: list[asyncio.Task[object]] = []
    try:
        await lost.start()
        await stays.start()
        await stays.api("POST", "pbxs", {"name": "PBX", "sources": ["127.0.0.1/32"]})
        host, port = carrier.address
        await stays.api("POST", "trunks", {"name": "Carrier", "host": host, "port": port, "transport": "udp"})
        placed = [await open_call(node, carrier, calling) for node in (lost, stays)]
        await stays.wait_for("emergency-calls", lambda page: outcomes_of(page, placed) == ["answered", "answered"])
        edge = edge_pid_of(lost)
        await lost.stop(signal.SIGKILL)
        os.kill(edge, signal.SIGKILL)
        shutil.rmtree(folders[0] / "data")
        page = await stays.wait_for(
            "emergency-calls",
            lambda page: any(call["ended_at"] for call in page["data"] if call["call_id"] in placed),
        )
        assert outcomes_of(page, placed) == ["answered", "answered"]
        calls = {call["call_id"]: call for call in page["data"]}
        cut, other = (calls[call_id] for call_id in placed)
        assert (cut["ended_at"] is not None, other["ended_at"]) == (True, None)
        assert {"end_unknown", "node_lost"} <= set((await stays.api("GET", f"emergency-calls/{cut['id']}"))["flags"])
    finally:
        for task in calling:
            task.cancel()
        await asyncio.gather(*calling, return_exceptions=True)
        await lost.stop()
        await stays.stop()
        await carrier.stop()
