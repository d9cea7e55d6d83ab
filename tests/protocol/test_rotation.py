"""Rotations over real sockets: nobody gets a file by an ended URL, on any node; phones follow a push; no token is
written.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from engine import config as configuration
from engine import migrations
from engine.audit.record import SYSTEM, open_audited
from engine.crypto import KeyRing
from engine.db import Database
from engine.models import Account
from engine.provisioning import cutover, phones, store_cutover
from engine.provisioning.http import PhonesPort, make_phones_port
from engine.provisioning.movement import Progress
from engine.provisioning.mover import Mover
from engine.provisioning.simulate import simulate
from tests.factories import add_account, add_line, add_pbx, add_phone
from tests.node import Node
from tests.postgres import running_postgres

MAC, AGENT = "805ec0aabb01", "Yealink SIP-T46U 108.86.0.20 80:5e:c0:aa:bb:01"
FLEET = (("yealink", "T46U", MAC), ("poly", "VVX 450", "64167faabb02"), ("snom", "D785", "000413aabb03"))
FETCHERS = 200


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('rotation')}"
        return
    with running_postgres(connections=60) as server:  # two nodes and their pools, both under fire
        yield server


class Nodes:
    """Two nodes on one database, each with a phones' port of its own, and an account with three phones."""

    def __init__(self, database: Database, keys: KeyRing, account_id: str, token: str) -> None:
        self.database, self.keys, self.account_id, self.token = database, keys, account_id, token
        self.bases: list[str] = []
        self.ports: list[PhonesPort] = []

    async def do(self, operation: Any, *more: Any, **named: Any) -> Any:
        async with self.database.sessions.begin() as session:
            account = await session.get(Account, self.account_id)
            return await operation(session, SYSTEM, account, *more, **named)

    async def written(self) -> None:
        for port in self.ports:
            await port.log.flush()

    async def progress(self) -> Progress:
        await self.written()
        async with self.database.sessions() as session:
            account = await session.get(Account, self.account_id)
            assert account is not None
            return await store_cutover.progress(session, account)


@asynccontextmanager
async def two_nodes(url: str, keys: KeyRing) -> AsyncIterator[Nodes]:
    if url.startswith("sqlite"):
        url = f"{url}/{secrets.token_hex(4)}.db"  # a file each: what one test breaks off holds no other's writer
    database = open_audited(url, keys)
    # SQLite is one node's; there the two stand for its workers, whose look-ups have connections of their own
    others = [database if database.sqlite_path else open_audited(url, keys) for _ in range(2)]
    runners, ports = [], []
    try:
        await migrations.migrate(database)
        async with database.sessions.begin() as session:
            account = await add_account(session, phone_admin_password="Desk-Pass-w0rd")
            token = await phones.generate_token(session, SYSTEM, account, keys)
            await add_pbx(session, account, registrar_host="pbx.example.net", sources=[])
            lines = [await add_line(session, account, str(101 + at)) for at in range(len(FLEET))]
            for (vendor, model, mac), line in zip(FLEET, lines, strict=True):
                await add_phone(session, account, line, mac=mac, vendor=vendor, model=model)
        nodes = Nodes(database, keys, account.id, token)
        for other in others:
            port = make_phones_port(configuration.Provisioning(), keys, other)
            runner = port.runner()
            await runner.setup()
            runners.append(runner)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            ports.append(port)
            nodes.bases.append("http://{}:{}".format(*runner.addresses[0][:2]))
        nodes.ports = ports
        yield nodes
    finally:
        for runner in runners:
            await runner.cleanup()
        for port in ports:
            await port.close()
        for each in {id(one): one for one in (*others, database)}.values():
            await each.close()


async def across(nodes: Nodes, end: Any) -> tuple[set[int], set[int]]:
    """The statuses of 200 fetches by the old URL under way while `end` runs, and of 200 begun when it has returned."""

    async def ask(client: aiohttp.ClientSession, base: str) -> int:
        async with client.get(f"{base}/p/{nodes.token}/{MAC}.cfg", headers={"User-Agent": AGENT}) as answer:
            await answer.read()
            return answer.status

    def wave(client: aiohttp.ClientSession) -> list[asyncio.Task[int]]:
        return [asyncio.create_task(ask(client, nodes.bases[at % 2])) for at in range(FETCHERS)]

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=2 * FETCHERS)) as client:
        assert await ask(client, nodes.bases[0]) == 200
        during = wave(client)
        await end()
        after = wave(client)
        async with asyncio.timeout(60):
            return set(await asyncio.gather(*during)), set(await asyncio.gather(*after))


async def status_of(base: str, token: str) -> int:
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"{base}/p/{token}/{MAC}.cfg", headers={"User-Agent": AGENT}) as answer,
    ):
        return answer.status


async def test_from_the_answer_of_rotate_on_no_node_gives_a_file_by_the_old_url(url: str, keys: KeyRing) -> None:
    """P-03, S0-26: 200 concurrent fetches on two nodes of one database, across the commit of an immediate rotation."""
    async with two_nodes(url, keys) as nodes:
        token = ""

        async def rotate() -> None:
            nonlocal token
            token = await nodes.do(phones.rotate_token, keys)

        during, after = await across(nodes, rotate)
        assert during <= {200, 404}
        assert after == {404}
        assert [await status_of(base, token) for base in nodes.bases] == [200, 200]


async def test_a_cut_is_as_sharp_as_a_rotation(url: str, keys: KeyRing) -> None:
    """P-03, P-04: the same across a cut; until then both URLs serve, from then on the next one alone."""
    async with two_nodes(url, keys) as nodes:
        token = await nodes.do(cutover.begin, keys, is_automatic=False)
        assert [await status_of(base, each) for base in nodes.bases for each in (nodes.token, token)] == [200] * 4
        during, after = await across(nodes, lambda: nodes.do(cutover.cut))
        assert during <= {200, 404}
        assert after == {404}
        assert [await status_of(base, token) for base in nodes.bases] == [200, 200]


async def test_phones_follow_a_push_from_the_old_url_to_the_new_and_the_cut_comes_by_itself(
    url: str, keys: KeyRing
) -> None:
    """P-04: simulated phones of three makes: what they fetch by the old URL holds the new one, at once and on either
    node; each counts when it boots by that; the last one brings the cut.
    """
    resynced: list[str] = []

    async def resync(_account_id: str, phone_ids: Any) -> None:
        resynced.extend(phone_ids)

    async with two_nodes(url, keys) as nodes:
        first, second = nodes.bases
        for vendor, model, mac in FLEET:
            assert (await simulate(vendor, model, mac, f"{first}/p/{nodes.token}/")).is_ready
        await nodes.written()
        token = await nodes.do(cutover.begin, keys)
        mover = Mover(nodes.database, resync)
        await mover.move_on()
        assert len(resynced) == len(FLEET)
        for at, (vendor, model, mac) in enumerate(FLEET):
            booted = await simulate(vendor, model, mac, f"{second}/p/{nodes.token}/")
            assert booted.is_ready, booted.fault
            assert (booted.provisioning_url or "").rstrip("/") == f"{second}/p/{token}", vendor
            assert (await nodes.progress()).told == 1
            assert (await simulate(vendor, model, mac, booted.provisioning_url or "")).is_ready
            assert (await nodes.progress()).sentence == f"{at + 1} of 3 phones moved"
        await mover.move_on()
        assert [await status_of(base, nodes.token) for base in nodes.bases] == [404, 404]
        assert [await status_of(base, token) for base in nodes.bases] == [200, 200]


# --- Nothing of any token is written ----------------------------------------------------------------------------------


async def test_no_token_is_in_anything_that_a_node_writes_or_shows_unasked(tmp_path: Path) -> None:
    """P-23: a whole node, through generate, push, cut, rotate and every wrong request with a token in an odd place:
    nothing in its output, its files, its metrics, its audit log, the headers of its refusals.
    """
    answers: list[str] = []
    async with Node(tmp_path) as node:
        await node.set_up()
        tokens = [(await node.api("POST", "provisioning-token/generate"))["token"]]
        line = await node.api("POST", "lines", {"extension": "101", "secret": "s3cret-101"})
        await node.api("POST", "phones", {"mac": MAC, "vendor": "yealink", "model": "T46U", "lines": [line["id"]]})
        answers += await odd_requests(node, tokens[0])
        pushed = await node.api("POST", "provisioning-token/rotate", {"mode": "push", "automatic": False})
        tokens.append(token_in(pushed["next_provisioning_url"]))
        assert pushed["token"] == tokens[0]
        for token in tokens:
            assert await status_of(node.phones, token) == 200
        state = await node.wait_for("provisioning-token/rotation", lambda answer: answer["moved"] == 1)
        answers.append(str(state))
        answers.append(str(await node.api("POST", "provisioning-token/rotation/cut")))
        tokens.append((await node.api("POST", "provisioning-token/rotate"))["token"])
        for token in reversed(tokens):  # the ended ones last: the phone has not got through since
            answers += await odd_requests(node, token)
        state = await node.wait_for("provisioning-token/rotation", lambda answer: answer["stragglers_count"] == 1)
        answers.append(str(state) + str(await node.api("GET", "provisioning-token/impact")))
        answers.append(str(await node.api("GET", "audit-log?limit=200")))
        phone = state["stragglers"][0]
        answers.append(str(await node.api("GET", f"phones/{phone['phone_id']}/events?limit=200")))
        async with aiohttp.ClientSession() as client, client.get(f"{node.admin}/metrics") as metrics:
            answers.append(await metrics.text())
    written = {"answers": "\n".join(answers).encode(), "output": "".join(node.output).encode()}
    written |= files_in(tmp_path)
    assert any(name.endswith(".db") for name in written)
    assert len(tokens) == len(set(tokens)) == 3
    found = [
        f"{name}: {body[max(0, body.index(token.encode()) - 80) :][:60]!r}"
        for name, body in written.items()
        for token in tokens
        if token.encode() in body
    ]
    assert not found, "\n".join(found)  # what stands before it says where it came from


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def token_in(url: str) -> str:
    found = re.search(r"/p/([^/]+)/", url)
    assert found is not None
    return found[1]


async def odd_requests(node: Node, token: str) -> list[str]:
    """A token where it belongs and where it does not; the headers and bodies of what was refused."""
    said = []
    asked: tuple[tuple[str, str, dict[str, str]], ...] = (
        ("GET", f"/p/{token}/{MAC}.cfg", {"User-Agent": AGENT}),
        ("GET", f"/p/{token}/{token}.cfg", {"User-Agent": AGENT}),
        ("GET", f"/p/{token}/../{token}", {"User-Agent": f"Yealink {token}"}),
        ("GET", f"/p//{token}/{MAC}.cfg", {"User-Agent": f"http://x/p/{token}/"}),
        ("GET", f"/p/x{token}/{MAC}.cfg?t={token}", {"Referer": f"http://x/p/{token}/"}),
        ("GET", f"/P/{token}/{MAC}.cfg", {"User-Agent": AGENT}),
        ("GET", f"/held/{token}", {"X-Forwarded-For": token}),
        ("POST", f"/p/{token}/{MAC}.cfg", {"User-Agent": AGENT}),
        ("PUT", f"/p/{token}/{MAC}-app.log", {"User-Agent": AGENT}),
        ("B(D", f"/p/{token}/{MAC}.cfg", {}),
    )
    for method, path, headers in asked:
        lines = [f"{method} {path} HTTP/1.1", "Host: phones", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        host, _, port = node.phones.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write("\r\n".join([*lines, "Content-Length: 0", "", ""]).encode())
        answer = (await asyncio.wait_for(reader.read(), 60)).decode(errors="replace")
        writer.close()
        if not answer.startswith("HTTP/1.1 200"):
            said.append(answer)
    async with aiohttp.ClientSession() as client, client.get(f"{node.admin}/p/{token}/{MAC}.cfg") as lost:
        said.append(await lost.text())
    return said
