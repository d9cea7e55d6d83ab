"""A node that starts while its database can be had and does not answer: somebody else holds it."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from engine.agents import Placed
from tests.node import Node
from tests.protocol.test_whole import MAC, Site, furnish, furnished, started_carrier, started_sink

pytestmark = pytest.mark.enable_socket
Holds = Callable[[], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def on_sqlite(folder: Path) -> AsyncIterator[tuple[Site, Holds]]:
    @asynccontextmanager
    async def holds() -> AsyncIterator[None]:
        other = sqlite3.connect(folder / "data" / "callpoint.db", isolation_level=None)
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")  # nobody reads either
        yield
        other.close()

    async with furnished(folder) as site:
        yield site, holds


@asynccontextmanager
async def on_postgresql(folder: Path, url: str) -> AsyncIterator[tuple[Site, Holds]]:
    @asynccontextmanager
    async def holds() -> AsyncIterator[None]:
        other = await asyncpg.connect(url.replace("+asyncpg", ""))
        async with other.transaction():
            await other.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
            yield
        await other.close()

    sink, carrier = await started_sink(), await started_carrier()
    mail = {
        "CALLPOINT_MAIL__HOST": "127.0.0.1", "CALLPOINT_MAIL__PORT": str(sink.port), "CALLPOINT_MAIL__SECURITY": "none",
        "CALLPOINT_CORE__DATABASE_URL": url,
    }  # fmt: skip
    try:
        async with Node(folder, mail) as node:
            yield await furnish(node, carrier, sink), holds
    finally:
        await carrier.stop()
        await sink.stop()


async def said(node: Node, word: str) -> None:
    async with asyncio.timeout(60):
        while not any(word in line for line in node.output):
            await asyncio.sleep(0.05)


async def recorded(site: Site, placed: Placed) -> None:
    """As soon as the node has its database the call is on record."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(AssertionError):  # 503 so far
                await site.record_of(placed)
                return
            await asyncio.sleep(0.1)


async def held_at_start(site: Site, holds: Holds) -> None:
    """911 leaves meanwhile, the operator is told what the node waits for, and then it is there."""
    await site.node.stop()
    async with holds():
        site.node.output.clear()
        await site.node.start()
        placed = await site.dial("911", "101", ("X-Callpoint-Device", MAC))
        assert placed.is_answered
        await said(site.node, "database_away")
    await recorded(site, placed)


async def test_a_node_whose_sqlite_somebody_else_holds_at_start_routes_911_and_comes_up_when_it_is_free(
    tmp_path: Path,
) -> None:
    """E-03: from the last sealed table."""
    async with on_sqlite(tmp_path) as (site, holds):
        await held_at_start(site, holds)


async def test_a_node_whose_postgresql_is_being_migrated_at_start_routes_911_and_comes_up_when_it_is_free(
    tmp_path: Path, postgres_url: str
) -> None:
    """E-03: another node is at it, or a backup; nothing there says how long."""
    async with on_postgresql(tmp_path, postgres_url) as (site, holds):
        await held_at_start(site, holds)
