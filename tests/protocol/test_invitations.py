"""Invitations by mail: a real mail server on loopback takes the link, and nobody else sees it."""

import asyncio
import re

import pytest
from aiohttp.test_utils import TestClient, TestServer

from admin.app import make_admin
from admin.invitations import INVITER, Sending
from engine.config import Config, Core, Mail
from engine.crypto import KeyRing
from engine.db import Database
from tests.protocol.mail_sink import MailSink
from tests.unit.admin.adminport import PASSWORD, AdminPort, Edge

pytestmark = pytest.mark.enable_socket  # real listeners on loopback


async def _port(database: Database, keys: KeyRing, mail: Mail) -> AdminPort:
    assert database.sqlite_path is not None
    config = Config(core=Core(data_dir=database.sqlite_path.parent / "data"), mail=mail)
    app = make_admin(config, keys, database, Edge())
    client = TestClient(TestServer(app))
    await client.start_server()
    return AdminPort(client, database, keys, Edge())


async def _until_settled(port: AdminPort, user_id: str) -> Sending:
    assert port.client.app is not None
    async with asyncio.timeout(10):
        while True:
            posted = port.client.app[INVITER].posted(user_id)
            if posted is not None and posted.state is not Sending.SENDING:
                return Sending(posted.state)
            await asyncio.sleep(0.01)


async def test_an_invitation_goes_by_mail_and_its_link_signs_in(database: Database, keys: KeyRing) -> None:
    """S1-10: mailed once the user is stored; the answer holds no link; the link in the mail works."""
    sink = await MailSink().start()
    mail = Mail(host="127.0.0.1", port=sink.port, security="none", sender="callpoint@acme.example")
    port = await _port(database, keys, mail)
    try:
        site = await port.site()
        answer = await port.call("POST", "/api/v1/users", site.auth, json={"email": "sam@acme.example"})
        made = await answer.json()
        assert (answer.status, made["invitation"]["url"], made["invitation"]["mailed_to"]) == (
            201, None, "sam@acme.example",
        )  # fmt: skip
        assert await _until_settled(port, made["id"]) is Sending.SENT
        assert [taken.recipient for taken in sink.mails] == ["sam@acme.example"]
        found = re.search(r"/invitation\?k=(\S+)", sink.mails[0].text)
        assert found is not None
        form = {"k": found[1], "name": "Sam", "password": PASSWORD}
        accepted = await port.call("POST", "/invitation", {}, data=form, allow_redirects=False)
        assert accepted.status == 303
        refused = await port.call("POST", "/api/v1/users", site.auth, json={"email": "sam@acme.example"})
        assert refused.status == 409
        assert len(sink.mails) == 1  # what was rolled back is not mailed
    finally:
        await port.client.close()
        await sink.stop()


async def test_a_mail_server_that_refuses_is_told_on_the_page(database: Database, keys: KeyRing) -> None:
    """S1-10: the user is there all the same; the page has the server's words and offers a new link."""
    sink = await MailSink(on_recipient=lambda _recipient: "550 5.1.1 no such mailbox").start()
    mail = Mail(host="127.0.0.1", port=sink.port, security="none", sender="callpoint@acme.example")
    port = await _port(database, keys, mail)
    try:
        site = await port.site()
        headers = await port.browser(site)
        form = {"email": "sam@acme.example", "name": "Sam", "role": "auditor"}
        answer = await port.call("POST", "/users", headers, data=form, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, "/users?done=invited")
        listed = await (await port.call("GET", "/api/v1/users", site.auth)).json()
        user_id = listed["data"][-1]["id"]
        assert await _until_settled(port, user_id) is Sending.FAILED
        assert "no such mailbox" in await (await port.call("GET", "/users", headers)).text()
        assert "Make a new link" in await (await port.call("GET", f"/users/{user_id}", headers)).text()
    finally:
        await port.client.close()
        await sink.stop()
