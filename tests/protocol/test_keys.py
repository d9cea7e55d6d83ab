"""`callpoint keys rotate` beside a running node that serves phones and the API: nothing fails or needs a restart."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from engine import crypto
from tests.node import Node
from tests.postgres import running_postgres

AGENT = {"User-Agent": "Yealink SIP-T46U 108.86.0.20 00:15:65:4a:a9:37"}
PHONE = {"mac": "0015654aa937", "vendor": "yealink", "model": "T46U"}


@pytest.fixture(params=["sqlite", "postgresql"])
def environment(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    if request.param == "sqlite":
        yield {}
        return
    with running_postgres() as url:
        yield {"CALLPOINT_CORE__DATABASE_URL": url}


@pytest.fixture
async def node(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path, environment)
    await made.set_up()
    async with made:
        yield made


@asynccontextmanager
async def booting(node: Node, token: str) -> AsyncIterator[list[int]]:
    """A phone that boots again and again meanwhile: the status of every answer."""
    answers: list[int] = []

    async def boot() -> None:
        async with aiohttp.ClientSession(headers=AGENT) as client:
            while True:
                async with client.get(f"{node.phones}/p/{token}/0015654aa937.cfg") as answer:
                    await answer.read()
                    answers.append(answer.status)

    task = asyncio.create_task(boot())
    try:
        yield answers
    finally:
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled(), task.exception()


@pytest.mark.timeout(180)
async def test_a_running_node_goes_on_with_the_new_key(node: Node, tmp_path: Path) -> None:
    """Boots and the API are served all the while; afterwards nothing is sealed with the old key, also what the node
    seals itself; the token is the same, the log verifies and says who did it.
    """
    token = (await node.api("POST", "provisioning-token/generate"))["token"]
    await node.api("POST", "phones", PHONE)
    for number in range(30):
        line = {"extension": str(200 + number), "sip_user": str(200 + number), "secret": f"Desk-{number}-Pass-w0rd"}
        await node.api("POST", "lines", line)
    path = tmp_path / "data" / "keys.toml"
    before = crypto.load(path)
    async with booting(node, token) as answers:
        if "CALLPOINT_CORE__DATABASE_URL" in node.environment:
            with pytest.raises(AssertionError, match="Other nodes may use this PostgreSQL database"):
                await node.command("keys", "rotate")
            assert crypto.load(path).keys == before.keys
        added = json.loads(await node.command("keys", "add", "--json"))
        assert added["key"] == "k2"
        with pytest.raises(AssertionError, match="holds k2 already"):
            await node.command("keys", "add")
        said = json.loads(await node.command("keys", "rotate", "--json"))
        assert (said["key"], said["was"]) == ("k2", "k1")
        assert said["values"] > 30
        await node.api("PATCH", "account", {"callback_number": "+15185550100"}, If_Match="*")
        webhook = await node.api("POST", "webhooks", {"name": "Door", "url": "https://localhost/door"})
    assert len(answers) > 10
    assert set(answers) == {200}
    listed = json.loads(await node.command("keys", "list", "--json"))
    assert listed["missing"] == {}
    assert listed["keys"]["k1"] == {"current": False, "values": 0}, f"also the secret of {webhook['id']}"
    assert listed["keys"]["k2"]["values"] >= said["values"]
    assert (await node.api("GET", "provisioning-token"))["token"] == token
    for word in (*before.keys.values(), *crypto.load(path).keys.values()):
        assert word.hex() not in "".join(node.output)
    log = await node.command("audit", "export", "--account", "platform")
    (tmp_path / "log.jsonl").write_text(log)
    assert "entries hold" in await node.command("audit", "verify", str(tmp_path / "log.jsonl"))
    plain = log.replace("\\", "")
    for event in ("sealing_key.create", "sealing_key.rotate", "sealing_key.reseal"):
        assert f'"event":"{event}"' in plain


async def test_a_node_starts_with_both_keys_and_reseals_what_was_left(tmp_path: Path) -> None:
    """Broken off behind the new key and before the first row: the node works, and `keys reseal` does the rest."""
    one = Node(tmp_path)
    await one.set_up()
    path = tmp_path / "data" / "keys.toml"
    async with one:
        token = (await one.api("POST", "provisioning-token/generate"))["token"]
        await one.api("POST", "phones", PHONE)
    crypto.use(path, crypto.add(path))
    async with one:
        async with (
            aiohttp.ClientSession(headers=AGENT) as client,
            client.get(f"{one.phones}/p/{token}/0015654aa937.cfg") as answer,
        ):
            assert answer.status == 200
        said = await one.command("keys", "list")
        assert "k1: " in said
        assert "k2: 0 stored value(s), seals from now on" in said
        assert json.loads(await one.command("keys", "reseal", "--json"))["values"] > 0
        assert json.loads(await one.command("keys", "list", "--json"))["keys"]["k1"]["values"] == 0
