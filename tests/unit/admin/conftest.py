"""Fixtures of the admin side."""

from collections.abc import AsyncIterator

import pytest

from engine.crypto import KeyRing
from engine.db import Database
from tests.unit.admin.adminport import AdminPort, Site, open_port


@pytest.fixture
async def port(database: Database, keys: KeyRing) -> AsyncIterator[AdminPort]:
    opened = await open_port(database, keys)
    yield opened
    await opened.client.close()


@pytest.fixture
async def site(port: AdminPort) -> Site:
    return await port.site()
