"""An export that its node does not live to see the end of: whoever reads it knows that it is not whole."""

import json
import signal
from pathlib import Path

import aiohttp
import pytest
from aiohttp import ClientPayloadError

from engine import config as configuration
from engine import crypto
from engine.audit.events import Event
from engine.audit.parts import Part, record_parts
from engine.audit.record import SYSTEM, open_audited, record
from tests.node import Node

ENTRIES = 20_000  # more than what lies between the two in sockets and buffers
TEXT = "x" * 1_000


async def fill(node: Node) -> None:
    settings = configuration.load(None, node.environ())
    database = open_audited(settings.database_url, crypto.load_or_create(settings.key_file))
    async with database.sessions.begin() as session:
        parts = [Part(Event.CONTACT_UPDATE, ("contact", f"contact_{one}", TEXT), {}) for one in range(ENTRIES)]
        await record_parts(session, SYSTEM, node.account_id, "bulk_1", parts)
        record(session, SYSTEM, Event.PHONE_CHANGE_MANY, resource=("phone", "bulk_1", ""), account_id=node.account_id)
    await database.close()


async def begun(client: aiohttp.ClientSession, node: Node, kind: str) -> aiohttp.ClientResponse:
    """An export whose first bytes came, and of which no more is read."""
    answer = await client.get(f"{node.admin}/api/v1/exports/audit-log/{kind}")
    assert answer.status == 200
    assert await answer.content.readany()
    return answer


async def test_a_node_that_is_killed_in_the_middle_of_an_export_leaves_no_file_that_looks_whole(tmp_path: Path) -> None:
    """S0-30, S2-13: CSV and JSON Lines; the reader's connection ends in an error, the log has a beginning and no end.
    One that is stopped says itself that the file broke off.
    """
    node = Node(tmp_path)
    await node.set_up()
    await fill(node)
    headers = {"Authorization": f"Bearer {node.api_key}"}
    async with aiohttp.ClientSession(headers=headers, read_bufsize=1_024) as client:
        await node.start()
        for kind in ("csv", "jsonl"):
            answer = await begun(client, node, kind)
            assert "Content-Length" not in answer.headers
            await node.stop(signal.SIGKILL)
            with pytest.raises(ClientPayloadError):
                await answer.read()
            await node.start()
        answer = await begun(client, node, "csv")
        assert await node.stop() == 0, "it waits for no reader who does not read"
        with pytest.raises(ClientPayloadError):
            await answer.read()
        await node.start()
        try:
            query = "event=audit_log.export&event=audit_log.export_end"
            found = (await node.api("GET", f"audit-log?{query}"))["data"]
        finally:
            await node.stop()
    entries = [json.loads(one["entry"]) for one in reversed(found)]
    told = [(one["event"], one["outcome"], one["reason"]) for one in entries]
    begins, cut_off = ("audit_log.export", "success", None), ("audit_log.export_end", "failure", "broken_off")
    assert told == [begins, begins, begins, cut_off]
    assert entries[3]["bulk_id"] == entries[2]["request"]["id"]
    assert entries[3]["details"]["rows"] < ENTRIES
