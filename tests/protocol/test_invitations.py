"""Invitations by mail: a real mail server on loopback takes the link, and nobody else sees it."""

import asyncio
import re
import socket

import pytest
from aiohttp.test_utils import TestClient, TestServer

from admin.app import make_admin
from admin.invitations import INVITER, Sending
from engine.config import Config, Core, Mail
from engine.crypto import KeyRing
from engine.db import Database
from tests.protocol.mail_sink import MailSink
from tests.standin_edge import StandInEdge
from tests.unit.admin.adminport import PASSWORD, AdminPort

pytestmark = pytest.mark.enable_socket  # real listeners on loopback


async def _port(database: Database, keys: KeyRing, mail: Mail) -> AdminPort:
    assert database.sqlite_path is not None
    config = Config(core=Core(data_dir=database.sqlite_path.parent / "data"), mail=mail)
    app = make_admin(config, keys, database, StandInEdge())
    client = TestClient(TestServer(app))
    await client.start_server()
    return AdminPort(client, database, keys, StandInEdge())


async def _until_settled(port: AdminPort, user_id: str) -> Sending:
    assert port.client.app is not None
    async with asyncio.timeout(60):
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
        page = await (await port.call("POST", f"/users/{user_id}/invitation", headers)).text()
        assert "did not take the newest mail for them, so hand this link over yourself" in page
        assert "Whoever opens it first chooses the password and signs in as sam@acme.example" in page
        link = re.search(r"/invitation\?k=([^<\s]+)", page)
        assert link is not None
        assert (await port.call("GET", f"/invitation?k={link[1]}", {})).status == 200
        # the server works: it is one mailbox that it does not know, so others are mailed
        sink.on_recipient = lambda _recipient: None
        other = await (await port.call("POST", "/api/v1/users", site.auth, json={"email": "kim@acme.example"})).json()
        assert other["invitation"]["mailed_to"] == "kim@acme.example"
        assert await _until_settled(port, other["id"]) is Sending.SENT
    finally:
        await port.client.close()
        await sink.stop()


async def test_without_a_mail_server_that_works_links_are_shown(database: Database, keys: KeyRing) -> None:
    """S1-10: the first mail finds that nobody is there; from then on links are told, until another server is set."""
    with socket.socket() as taken:  # bound and not listening: whoever connects is refused
        taken.bind(("127.0.0.1", 0))
        mail = Mail(host="127.0.0.1", port=taken.getsockname()[1], security="none", sender="callpoint@acme.example")
        port = await _port(database, keys, mail)
        try:
            site = await port.site()
            first = await (await port.call("POST", "/api/v1/users", site.auth, json={"email": "a@acme.example"})).json()
            assert await _until_settled(port, first["id"]) is Sending.FAILED
            headers = await port.browser(site)
            page = await (await port.call("GET", "/users", headers)).text()
            assert "could not be reached. Check host and port" in page
            assert "The mail server takes no mail now, so you get a link to hand over" in page
            other = await (await port.call("POST", "/api/v1/users", site.auth, json={"email": "b@acme.example"})).json()
            assert "/invitation?k=" in other["invitation"]["url"]
            assert port.client.app is not None
            port.client.app[INVITER].use(mail)
            third = await (await port.call("POST", "/api/v1/users", site.auth, json={"email": "c@acme.example"})).json()
            assert third["invitation"]["url"] is None
        finally:
            await port.client.close()
