"""Several processes behind the phones' port of one node: one door to a phone, one writer to the database."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from engine import config as configuration
from engine import crypto
from engine.audit.record import open_audited
from engine.phones_workers import PhonesWorkers
from engine.provisioning.http import make_phones_port
from engine.provisioning.sending import headers_of
from tests import ports
from tests.bench.machine import family
from tests.node import Node

MACS = [f"00156500{number:04x}" for number in range(24)]
AGENT = {"User-Agent": "Yealink SIP-T46U 108.86.0.20"}
WITHIN_S = 60.0


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """Three processes at one port, and 24 phones. The tests below use it one after the other."""
    async with Node(tmp_path_factory.mktemp("node"), {"CALLPOINT_PROVISIONING__WORKERS": "3"}) as running:
        await running.set_up()
        await running.api("POST", "provisioning-token/generate")
        for mac in MACS:
            await running.api("POST", "phones", {"mac": mac, "vendor": "yealink", "model": "T46U"})
        await eventually(lambda: len(serving(running)) == 3)
        yield running


async def all_phones(node: Node) -> list[dict[str, Any]]:
    return list((await node.api("GET", "phones?limit=100"))["data"])


async def body_of(at: str, token: str, mac: str) -> bytes:
    """The phone's file over a connection of its own."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as client,
        client.get(f"{at}/p/{token}/{mac}.cfg", headers=AGENT) as answer,
    ):
        assert answer.status == 200
        return await answer.read()


async def token_of(node: Node) -> str:
    return str((await node.api("GET", "provisioning-token"))["token"])


def serving(node: Node) -> list[int]:
    """The processes that listen on the phones' port: the node itself first, then its workers."""
    assert node.process is not None
    port = f":{int(node.phones.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == "0A"}  # proc(5): LISTEN
    return [pid for pid in family(node.process.pid) if sockets & files_of(pid)]


def files_of(pid: int) -> set[str]:
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):  # closed meanwhile
            found.add(str(descriptor.readlink()))
    return found


async def killed(node: Node) -> None:
    """The main process ends without a word; the SIP process, which carries 911 on alone, is ended by hand."""
    assert node.process is not None
    pids = family(node.process.pid)
    assert await node.stop(signal.SIGKILL) != 0
    for pid in pids:
        with contextlib.suppress(OSError):
            if b"engine.edge" in Path(f"/proc/{pid}/cmdline").read_bytes():  # noqa: ASYNC240
                os.kill(pid, signal.SIGKILL)


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def is_worker(pid: int) -> bool:
    try:
        return b"engine.phones_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


async def eventually(holds: Any) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not holds():
            await asyncio.sleep(0.05)


async def fetched(node: Node, token: str, macs: list[str], *, within_s: float = WITHIN_S) -> list[int]:
    """Each phone's file over a connection of its own, all at once; 0: no answer in time."""

    async def one(mac: str) -> int:
        try:
            async with (
                asyncio.timeout(within_s),
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as client,
                client.get(f"{node.phones}/p/{token}/{mac}.cfg", headers=AGENT) as answer,
            ):
                await answer.read()
                return answer.status
        except TimeoutError:
            return 0

    return await asyncio.gather(*(one(mac) for mac in macs))


async def test_three_processes_are_one_door_and_a_rotation_shuts_it_in_all_of_them(node: Node) -> None:
    """P-03: no process serves the old URL after Rotate has answered; what each has seen is written once, by one."""
    token = await token_of(node)
    assert set(await fetched(node, token, MACS * 4)) == {200}

    def all_current(answer: dict[str, Any]) -> bool:
        return [row["status"] for row in answer["data"]] == ["current"] * len(MACS)

    await node.wait_for("phones?limit=100", all_current, within_s=WITHIN_S)

    fresh = (await node.api("POST", "provisioning-token/rotate"))["token"]
    assert set(await fetched(node, token, MACS * 8)) == {404}
    assert set(await fetched(node, fresh, MACS)) == {200}
    phone = (await node.api("GET", "phones?limit=1"))["data"][0]

    def counted(answer: dict[str, Any]) -> bool:
        return sum(row["evidence"]["count"] for row in answer["data"] if row["kind"] == "fetch") == 5

    await node.wait_for(f"phones/{phone['id']}/events", counted, within_s=WITHIN_S)


async def test_a_file_that_one_process_has_rendered_is_kept_by_all_of_them(node: Node) -> None:
    """P-13: whichever process a phone's next request meets, nothing is rendered twice."""
    environment = node.environ() | {"CALLPOINT_PROVISIONING__LISTEN": f"127.0.0.1:{ports.free_port()}"}
    settings = configuration.load(None, environment)
    keys, ids = crypto.load(settings.key_file), {row["mac"]: row["id"] for row in await all_phones(node)}
    database = open_audited(settings.database_url, keys)
    port = make_phones_port(settings.provisioning, keys, database)
    workers = PhonesWorkers(settings, port, lambda _account_id, _sighting: None)
    listen = configuration.parse_listen(settings.provisioning.listen)
    at, token = f"http://{listen.host}:{listen.port}", await token_of(node)
    workers.start(listen)
    try:
        await eventually(lambda: len(workers.up) == 2)
        first, *others = MACS
        rendered = await body_of(at, token, first)
        key = (ids[first], f"{first}.cfg", f"{at}{token}")
        await eventually(lambda: port.kept.last(key) is not None)
        kept = port.kept.last(key)
        assert kept is not None
        assert kept.body == rendered
        assert port.kept.on_made is not None
        for mac in others:  # what the main process says it has made, which no worker would render
            made = replace(kept, body=mac.encode(), headers=headers_of("text/plain", len(mac), kept.etag))
            port.kept.on_made((ids[mac], f"{mac}.cfg", f"{at}{token}"), made)
        served = [{await body_of(at, token, mac) for _ in range(12)} for mac in others]
        assert served[-1] == {others[-1].encode()}  # the first may have been asked for before both workers had heard
    finally:
        await workers.stop()
        port.index.close()
        await database.close()


async def test_phones_are_served_while_the_main_process_stands_still(node: Node) -> None:
    """P-01: the workers answer by themselves; what they saw is told when it runs again."""
    token = await token_of(node)
    main = serving(node)[0]
    os.kill(main, signal.SIGSTOP)
    try:
        statuses = await fetched(node, token, MACS * 2, within_s=5.0)
    finally:
        os.kill(main, signal.SIGCONT)
    assert statuses.count(200) >= 8
    assert set(statuses) <= {0, 200}


async def test_a_worker_that_dies_is_started_again_and_phones_are_served_meanwhile(node: Node) -> None:
    """P-01: a killed process costs the connections it held and nothing else."""
    token = await token_of(node)
    main, *workers = serving(node)
    os.kill(workers[0], signal.SIGKILL)
    await eventually(lambda: workers[0] not in serving(node))
    assert set(await fetched(node, token, MACS)) == {200}
    await eventually(lambda: len(serving(node)) == 3)
    assert main in serving(node)
    assert set(await fetched(node, token, MACS)) == {200}


async def test_a_node_that_stops_takes_its_workers_and_what_they_have_seen_with_it(node: Node) -> None:
    """P-16: a fetch answered a moment before the end stands in the log after the next start."""
    token = await token_of(node)
    pids = serving(node)
    assert set(await fetched(node, token, MACS)) == {200}
    assert await node.stop() == 0
    assert not any(map(is_there, pids))
    await node.start()
    found = await node.api("GET", "phones?limit=100")
    assert {row["status"] for row in found["data"]} == {"current"}
    await eventually(lambda: len(serving(node)) == 3)
    orphans = serving(node)[1:]
    await killed(node)
    await eventually(lambda: not any(map(is_worker, orphans)))


async def test_a_worker_that_hangs_ends_with_the_main_process(node: Node) -> None:
    """P-01: nobody is left to take connections that nobody answers."""
    if node.process is None:
        await node.start()
    await eventually(lambda: len(serving(node)) == 3)
    workers = serving(node)[1:]
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    await killed(node)
    await eventually(lambda: not any(map(is_worker, workers)))
