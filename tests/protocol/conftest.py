"""What these tests share: one PostgreSQL server for all of them and for each a database of its own; SIP peers."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import make_url

from engine import crypto, migrations
from engine.audit.record import open_audited
from engine.crypto import KeyRing
from engine.db import Database
from tests.postgres import running_postgres
from tests.protocol.edgetest import Party


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of the server's first database, in which nothing is ever written."""
    with running_postgres(connections=100) as url:
        yield url


@pytest.fixture
async def postgres_url(postgres_server: str, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The URL of a database with nothing in it, or of the one of `postgres`; it goes when the test has ended."""
    import asyncpg  # where it is absent the server's fixture has skipped the test

    name = f"test_{uuid.uuid4().hex}"
    control = await asyncpg.connect(postgres_server.replace("+asyncpg", ""))
    try:
        template = await _migrated(control, postgres_server) if "postgres" in request.fixturenames else "template1"
        await control.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield _named(postgres_server, name)
        await control.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await control.close()


async def _migrated(control: Any, server: str) -> str:
    """The database of that server that all migrations ran on, once: a copy of it takes a tenth of that time."""
    name = "migrated"
    if not await control.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", name):
        await control.execute(f"CREATE DATABASE {name}")
        with TemporaryDirectory() as folder:
            made = open_audited(_named(server, name), crypto.create(Path(folder) / "keys.toml"))
        await migrations.migrate(made)
        await made.close()
    return name


def _named(server: str, database: str) -> str:
    return make_url(server).set(database=database).render_as_string(hide_password=False)


@pytest.fixture
async def postgres(postgres_url: str, keys: KeyRing) -> AsyncIterator[Database]:
    """A migrated database with nothing in it."""
    opened = open_audited(postgres_url, keys)
    await migrations.migrate(opened)
    yield opened
    await opened.close()


@pytest.fixture
async def nodes(postgres: Database, postgres_url: str, keys: KeyRing) -> AsyncIterator[tuple[Database, Database]]:
    """Two nodes' own connections to one migrated PostgreSQL."""
    other = open_audited(postgres_url, keys)
    yield postgres, other
    await other.close()


@pytest.fixture
async def parties() -> AsyncIterator[Callable[[Party], Awaitable[Party]]]:
    """Opens parties and closes them all afterwards."""
    opened: list[Party] = []

    async def open_(party: Party) -> Party:
        await party.open()
        opened.append(party)
        return party

    yield open_
    for party in opened:
        await party.close()
