"""A running node is backed up and comes back elsewhere: phones, keys, log, calls."""

import asyncio
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import aiohttp

from tests.node import Node


async def test_a_node_under_writes_is_backed_up_and_another_one_goes_on_from_it(tmp_path: Path) -> None:
    """Taken while it works; the token still opens the phones' URL, the API key the API, and the log verifies. What was
    written after the backup is not there.
    """
    one, other = Node(tmp_path / "one"), Node(tmp_path / "other")
    for node in (one, other):
        node.folder.mkdir()
    await one.set_up()
    async with one:
        token = (await one.api("POST", "provisioning-token/generate"))["token"]
        phone = {"mac": "0015654aa937", "vendor": "yealink", "model": "T46U"}
        await one.api("POST", "phones", phone)
        writing = asyncio.create_task(write_contacts(one))
        await one.wait_for("contacts", lambda answer: answer["data"])
        await one.command("backup", str(tmp_path / "b.tar"))
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await one.api("POST", "contacts", {"name": "Too late", "number": "200"})
    await other.command("restore", str(tmp_path / "b.tar"))
    other = replace(other, account_id=one.account_id, api_key=one.api_key)
    async with other:
        async with (
            aiohttp.ClientSession() as client,
            client.get(
                f"{other.phones}/p/{token}/0015654aa937.cfg",
                headers={"User-Agent": "Yealink SIP-T46U 108.86.0.20 00:15:65:4a:a9:37"},
            ) as answer,
        ):
            assert answer.status == 200, await answer.text()
        names = [one["name"] for one in (await other.api("GET", "contacts?limit=200"))["data"]]
        assert names
        assert "Too late" not in names
        log = await other.command("audit", "export", "--account", other.account_id)
        (tmp_path / "log.jsonl").write_text(log)
        assert "entries hold" in await other.command("audit", "verify", str(tmp_path / "log.jsonl"))
        assert '"event":"backup.restore"' in log.replace("\\", "")


async def test_on_postgresql_the_rest_is_backed_up_and_it_is_said_that_the_database_is_not(
    tmp_path: Path, postgres_url: str
) -> None:
    """Nobody may believe that they have it: keys and journal come back, the database by its own tools."""
    one = Node(tmp_path / "one", {"CALLPOINT_CORE__DATABASE_URL": postgres_url})
    other = Node(tmp_path / "other", {"CALLPOINT_CORE__DATABASE_URL": postgres_url})
    for node in (one, other):
        node.folder.mkdir()
    await one.set_up()
    told = json.loads(await one.command("backup", str(tmp_path / "b.tar"), "--json"))
    assert told["database"] == "postgresql"
    with tarfile.open(tmp_path / "b.tar") as archive:
        assert archive.getnames() == ["keys.toml", "manifest.json"]
    said = await other.command("restore", str(tmp_path / "b.tar"))
    assert "restore it with pg_restore before you start" in said
    assert one.account_id in await other.command("account", "list"), "its keys open the same database"


async def write_contacts(node: Node) -> None:
    for number in range(10_000):
        await node.api("POST", "contacts", {"name": f"Desk {number}", "number": f"{number + 100}"})
