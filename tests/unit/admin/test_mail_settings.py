"""The mail server set in the pages: who may, what is refused, what is kept secret, and that mail leaves by it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select, text

from engine.accounts.mail_server import MailServer
from engine.config import Mail
from engine.crypto import KeyRing
from engine.db import Database
from engine.models import MailSettings, Role
from tests.sink import MailSink
from tests.unit.admin.adminport import AdminPort, Site, open_port

PATH = "/api/v1/mail-settings"
SECRET = "hidden-from-everybody-77"


@pytest.fixture
async def sink() -> AsyncIterator[MailSink]:
    opened = MailSink()
    await opened.start()
    yield opened
    await opened.stop()


async def test_mail_leaves_by_the_server_that_was_set_a_moment_ago(port: AdminPort, site: Site, sink: MailSink) -> None:
    """S1-21: no restart; the test mail tells what became of it; one entry for each change, in Settings."""
    assert (await _get(port, site))["version"] == 0
    made = await _patch(port, site, 0, host="127.0.0.1", port=sink.port, security="none", sender="c@example.com")
    assert (made["host"], made["source"], made["has_password"]) == ("127.0.0.1", "pages", False)
    async with port.client.post(f"{PATH}/test", json={"to": "desk@example.com"}, headers=site.auth) as response:
        assert response.status == 202
    recipients, message = (await sink.wait_for(1, within_s=60.0))[0]
    assert recipients == ["desk@example.com"]
    assert message["From"] == "c@example.com"
    async with asyncio.timeout(60.0):
        while (await _get(port, site))["test_state"] != "sent":
            await asyncio.sleep(0.01)
    entries = [entry for entry in await port.entries(site.account.id) if entry.resource_type == "mail_settings"]
    told = [(entry.event, entry.outcome, entry.category) for entry in entries if entry.event.split(".")[1] != "read"]
    assert told == [
        ("mail_settings.update", "success", "Settings"),
        ("mail_settings.test", "success", "Settings"),
    ]


async def test_the_password_is_sealed_and_in_no_answer_and_no_entry(port: AdminPort, site: Site) -> None:
    """S1-21: it is write only; a change beside it leaves it; before and after of all else stand in the entry."""
    made = await _patch(
        port, site, 0, host="smtp.example.com", username="robot", password=SECRET, sender="c@example.com"
    )
    assert made["has_password"] is True
    made = await _patch(port, site, made["version"], security="tls", sender="d@example.com")
    assert made["has_password"] is True
    async with port.database.sessions() as session:
        row = (await session.scalars(select(MailSettings))).one()
        assert row.password == SECRET
        raw = (await session.execute(text("SELECT * FROM mail_settings"))).all()
        log = (await session.execute(text("SELECT * FROM audit_entry"))).all()
    assert SECRET not in repr(raw)
    assert SECRET not in repr(log)
    assert SECRET not in repr(made)
    changes = json.loads((await port.entries(site.account.id))[-1].entry)["changes"]
    assert changes["sender"] == {"before": "c@example.com", "after": "d@example.com"}
    assert changes["security"] == {"before": "starttls", "after": "tls"}


@pytest.mark.parametrize("moved", [{"host": "other.example.com"}, {"port": 2525}])
async def test_another_server_is_not_told_the_password_of_the_one_before(
    port: AdminPort, site: Site, moved: dict[str, Any]
) -> None:
    """S1-21: who names a new server types its password, or removes the old one."""
    made = await _patch(
        port, site, 0, host="smtp.example.com", username="robot", password=SECRET, sender="c@example.com"
    )
    headers = {**site.auth, "If-Match": f'"{made["version"]}"'}
    async with port.client.patch(PATH, json=moved, headers=headers) as response:
        assert response.status == 422
        assert [fault["field"] for fault in (await response.json())["errors"]] == ["password"]
    made = await _patch(port, site, made["version"], **moved, password="another-secret-99")
    assert made["has_password"] is True
    assert {name: made[name] for name in moved} == moved


async def test_who_runs_one_account_may_not_set_what_serves_the_whole_server(port: AdminPort, site: Site) -> None:
    """S1-21: an account manager is refused; an owner types the password again when it was long ago."""
    fields = {"host": "smtp.example.com", "sender": "c@example.com"}
    for role, ago, status in (
        (Role.ACCOUNT_MANAGER, 0.0, 403), (Role.OWNER, 7200.0, 403), (Role.OWNER, 0.0, 200),
    ):  # fmt: skip
        headers = await port.browser(site, role, proven_ago_s=ago) | {"If-Match": '"0"'}
        async with port.client.patch(PATH, json=fields, headers=headers) as response:
            assert response.status == status, await response.text()


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("host", {"host": "smtp example", "sender": "c@example.com"}),
        ("sender", {"host": "smtp.example.com", "sender": "Callpoint"}),
        ("sender", {"host": "smtp.example.com", "sender": "c@example.com, d@example.com"}),
        ("sender", {"host": "smtp.example.com", "sender": "=?utf-8?q?a=0d=0aBcc:=20x=40y?= <c@example.com>"}),
        ("password", {"host": "smtp.example.com", "sender": "c@example.com", "username": "robot"}),
        ("username", {"host": "smtp.example.com", "sender": "c@example.com", "password": SECRET}),
        ("security", {"host": "h.example", "sender": "c@h.example", "username": "u", "password": SECRET,
                      "security": "none"}),
    ],
)  # fmt: skip
async def test_what_could_not_send_a_mail_is_refused_by_its_field(
    port: AdminPort, site: Site, field: str, values: dict[str, Any]
) -> None:
    """S1-21: a sentence for the field; nothing is stored, and a password never crosses the network in clear."""
    headers = {**site.auth, "If-Match": '"0"'}
    async with port.client.patch(PATH, json=values, headers=headers) as response:
        assert response.status == 422
        assert [fault["field"] for fault in (await response.json())["errors"]] == [field]
    assert (await _get(port, site))["version"] == 0


async def test_where_there_are_several_accounts_none_of_them_sees_or_sets_the_mail_server(port: AdminPort) -> None:
    """S1-21: it carries everybody's 911 mails; a denied entry names who tried."""
    one = await port.site()
    await port.site("Beta Optics", "owner@beta.example")
    async with port.client.get(PATH, headers=one.auth) as response:
        assert response.status == 403
        assert "platform operator" in (await response.json())["detail"]
    async with port.client.patch(PATH, json={"host": "x.example"}, headers={**one.auth, "If-Match": '"0"'}) as response:
        assert response.status == 403
    entries = (await port.entries(one.account.id))[-2:]
    assert [entry.outcome for entry in entries] == ["denied", "denied"]


async def test_a_server_in_the_configuration_counts_alone(database: Database, keys: KeyRing) -> None:
    """S1-21: the API says where it comes from and refuses to set another."""
    port = await open_port(database, keys, mail=Mail(host="mail.example.com", password="from-the-file"))
    try:
        site = await port.site()
        seen = await _get(port, site)
        assert (seen["source"], seen["host"], seen["has_password"]) == ("configuration", "mail.example.com", True)
        headers = {**site.auth, "If-Match": '"0"'}
        async with port.client.patch(
            PATH, json={"host": "x.example", "sender": "c@x.example"}, headers=headers
        ) as response:
            assert response.status == 409
            assert "[mail] host" in (await response.json())["detail"]
    finally:
        await port.client.close()


async def test_every_process_takes_the_new_settings(port: AdminPort, site: Site) -> None:
    """S1-21: a second node sees the change by looking, once for each version."""
    elsewhere, taken = MailServer(port.database, Mail()), list[str]()
    elsewhere.follow(lambda settings: taken.append(settings.host))
    await elsewhere.look()
    await _patch(port, site, 0, host="smtp.example.com", sender="c@example.com")
    await elsewhere.look()
    await elsewhere.look()
    assert taken == ["", "smtp.example.com"]


async def test_the_page_sets_the_server_without_a_script(port: AdminPort, site: Site) -> None:
    """S1-21: a mistake keeps what was typed; what is right is saved; the password is in no page."""
    headers = await port.browser(site)
    form = {"version": "0", "host": "smtp.example.com", "port": "x", "security": "tls", "sender": "nobody"}
    form |= {"username": "robot", "password": SECRET}
    async with port.client.post("/settings/mail", data=form, headers=headers) as response:
        page = await response.text()
        assert response.status == 422
        assert "Expected a whole number" in page
        assert "Expected an e-mail address" in page
        assert 'value="smtp.example.com"' in page
        assert SECRET not in page
    form |= {"port": "465", "sender": "Callpoint <c@example.com>"}
    async with port.client.post("/settings/mail", data=form, headers=headers) as response:
        page = await response.text()
        assert response.status == 200, page
        assert "Mail server saved" in page
        assert SECRET not in page
    seen = await _get(port, site)
    assert (seen["port"], seen["security"], seen["has_password"]) == (465, "tls", True)


async def _get(port: AdminPort, site: Site) -> dict[str, Any]:
    async with port.client.get(PATH, headers=site.auth) as response:
        assert response.status == 200
        return dict(await response.json())


async def _patch(admin: AdminPort, site: Site, version: int, **fields: Any) -> dict[str, Any]:
    headers = {**site.auth, "If-Match": f'"{version}"'}
    async with admin.client.patch(PATH, json=fields, headers=headers) as response:
        made = await response.json()
        assert response.status == 200, made
        return dict(made)
