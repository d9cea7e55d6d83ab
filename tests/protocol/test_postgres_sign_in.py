"""Signing in on a real PostgreSQL: codes that two requests bring at once, policies, remembered browsers, bad keys."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pyotp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy import func, select

from admin.app import make_admin
from admin.housekeeping import sweep
from engine.accounts.policy import Policy
from engine.config import Config, Core
from engine.crypto import KeyRing
from engine.db import Database
from engine.models import RefusedKey, Session
from tests.standin_edge import StandInEdge
from tests.unit.admin.adminport import AdminPort, Site
from tests.unit.admin.formbrowser import Browser, add_sam, log_of, set_policy

pytestmark = pytest.mark.enable_socket  # a server and a listener on loopback


@pytest.fixture
async def port(tmp_path: Path, postgres: Database, keys: KeyRing) -> AsyncIterator[AdminPort]:
    client = TestClient(TestServer(make_admin(Config(core=Core(data_dir=tmp_path)), keys, postgres, StandInEdge())))
    await client.start_server()
    yield AdminPort(client, postgres, keys, StandInEdge())
    await client.close()


async def test_signing_in_with_a_second_factor(port: AdminPort) -> None:
    """S1-64, S1-67, S2-33 to S2-38: the whole way; of two requests with one code at once, one opens a session."""
    site: Site = await port.site()
    await add_sam(port, site)
    await set_policy(port, site, two_factor="required", remember="remember", inactive_days=30, failed_sign_ins=20)
    browser = Browser(port)
    assert (await browser.sign_in())[2] == "/login/enrol?next=/"
    page = (await browser.ask("GET", "/login/enrol"))[1]
    found = re.search(r'id="value-seed"[^>]*>([A-Z2-7 ]+)<', page)
    assert found is not None
    app = pyotp.TOTP(found[1].replace(" ", ""))
    status, page, _address = await browser.ask("POST", "/login/enrol", code=app.now())
    assert (status, browser.is_signed_in) == (200, True)
    code = re.findall(r"[0-9a-z]{4}(?:-[0-9a-z]{4}){3}", page)[0]
    rivals = [Browser(port) for _ in range(2)]
    for rival in rivals:
        await rival.sign_in()
    answers = await asyncio.gather(*(rival.ask("POST", "/login/code", code=code, remember="on") for rival in rivals))
    assert sorted(status for status, _text, _address in answers) == [303, 401]
    (winner,) = [rival for rival in rivals if rival.is_signed_in]
    await winner.ask("POST", "/logout")
    await winner.sign_in()
    assert winner.is_signed_in
    bad = {"Authorization": "Bearer cp_nonsense"}
    assert {
        answer.status for answer in await asyncio.gather(*(port.call("GET", "/api/v1/account", bad) for _ in range(5)))
    } == {401}
    methods = [row["method"] for row in await log_of(port, site, outcome="success")]
    assert methods == ["remembered_device", "recovery_code", "password_totp"]
    await set_policy(port, site, session_idle_minutes=5, remember="each_login")
    assert await sweep(port.database) == 0
    async with port.database.sessions() as session:
        assert (await session.execute(select(func.sum(RefusedKey.count)))).scalar_one() == 5
        assert len((await session.scalars(select(Session))).all()) == 3
    shown = await (await port.call("GET", "/api/v1/security-policy", site.auth)).json()
    assert Policy(**{name: shown[name] for name in Policy().values()}).session_idle_minutes == 5
