"""Home while rows of an account cannot be read by the SIP process."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from admin.app import make_admin
from engine.config import Config, Core
from engine.crypto import KeyRing
from engine.db import Database
from engine.e911.alarms import AlarmKind
from engine.e911.publish import SnapshotPublisher
from tests.factories import add_pbx
from tests.standin_edge import StandInEdge
from tests.unit.admin.adminport import AdminPort


@pytest.fixture
async def publishing(
    database: Database, keys: KeyRing, tmp_path: Path
) -> AsyncIterator[tuple[AdminPort, SnapshotPublisher]]:
    """An admin port beside the publisher whose faults it tells."""
    publisher = SnapshotPublisher(
        database, keys, tmp_path, on_published=lambda _account: None, on_dropped=lambda _account: None
    )
    config = Config(core=Core(data_dir=tmp_path))
    edge = StandInEdge()
    client = TestClient(TestServer(make_admin(config, keys, database, edge, unread=publisher.unread_of)))
    await client.start_server()
    yield AdminPort(client, database, keys, edge), publisher
    await client.close()
    publisher.close()


async def told(port: AdminPort, auth: dict[str, str]) -> list[dict[str, Any]]:
    answer = await port.call("GET", "/api/v1/alarms", auth)
    return [alarm for alarm in (await answer.json())["data"] if alarm["kind"] == AlarmKind.ROWS_UNREAD]


async def test_a_row_that_no_call_can_go_by_is_an_alarm_of_its_account_alone(
    publishing: tuple[AdminPort, SnapshotPublisher],
) -> None:
    """E-03: told where somebody looks, in the page and over the API."""
    port, publisher = publishing
    site = await port.site()
    other = await port.site("Other", "owner@other.example")
    async with port.database.sessions.begin() as session:
        pbx = await add_pbx(session, site.account, sources=["192.0.2.7", "10.0.0.1-9"])
    await publisher.publish_changed()
    (alarm,) = await told(port, site.auth)
    assert alarm["is_urgent"]
    assert alarm["href"] == "/settings#pbxs"
    assert f"pbxs: {pbx.id}, its sources cannot be read" in alarm["text"]
    assert await told(port, other.auth) == []
    page = await (await port.call("GET", "/", await port.browser(site))).text()
    assert 'data-alarm="rows_unread"' in page
