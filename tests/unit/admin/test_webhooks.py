"""Webhooks and the validator set in the pages: what is refused, what is kept secret, what stands in the log."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy import text

from admin.app import make_admin
from engine.config import Config
from engine.config import Outbound as OutboundSection
from engine.crypto import KeyRing
from engine.db import Database
from engine.e911.validation_settings import VALIDATION as VALIDATION_ID
from engine.e911.validation_settings import client_of
from engine.models import ValidationSettings
from engine.outbound import Outbound
from tests import lost_server
from tests.standin_edge import StandInEdge
from tests.unit.admin.adminport import CIVIC, AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback
HOOKS, VALIDATION = "/api/v1/webhooks", "/api/v1/validation-settings"
PATH_SECRET = "T0PsecretPath99"
URL = f"https://hooks.example.com/{PATH_SECRET}"
TOKEN = "token-that-nobody-reads-5"


async def _api(
    port: AdminPort, site: Site, method: str, path: str, body: Any = None, version: int | None = None, expect: int = 200
) -> dict[str, Any]:
    extra = {} if version is None else {"If-Match": f'"{version}"'}
    answer = await port.call(method, path, site.auth, json=body, extra=extra)
    said = await answer.text()
    assert answer.status == expect, said
    return dict(json.loads(said)) if said else {}


async def test_a_webhook_is_made_changed_and_removed_and_its_secrets_are_nowhere(port: AdminPort, site: Site) -> None:
    """S1-28, S1-30: the signing secret is told once, at making and at rotation; the URL's path is no entry's."""
    made = await _api(port, site, "POST", HOOKS, {"name": "Door", "url": URL}, expect=201)
    assert made["kinds"] == ["emergency", "test", "drill"]
    assert made["host"] == "https://hooks.example.com"
    path = f"{HOOKS}/{made['id']}"
    seen = await _api(port, site, "GET", path)
    assert "secret" not in seen
    changed = await _api(port, site, "PATCH", path, {"kinds": ["emergency"], "enabled": False}, 1)
    assert (changed["kinds"], changed["enabled"], changed["url"]) == (["emergency"], False, URL)
    turned = await _api(port, site, "POST", f"{path}/rotate-secret", None, 2)
    assert turned["secret"].startswith("whsec_")
    assert turned["secret"] != made["secret"]
    await _api(port, site, "PATCH", path, {"enabled": True}, 1, expect=412)
    async with port.database.sessions() as session:
        raw = repr((await session.execute(text("SELECT * FROM webhook"))).all())
        log = repr((await session.execute(text("SELECT * FROM audit_entry"))).all())
    for secret in (made["secret"], turned["secret"], PATH_SECRET):
        assert secret not in raw
        assert secret not in log
    await _api(port, site, "DELETE", path, None, 3, expect=204)
    entries = [one for one in await port.entries(site.account.id) if one.resource_type == "webhook"]
    assert {one.category for one in entries} == {"Integrations"}
    written = [(one.event, one.outcome) for one in entries if one.event not in {"webhook.read", "webhook.list"}]
    assert written == [
        ("webhook.create", "success"), ("webhook.update", "success"), ("webhook.rotate_secret", "success"),
        ("webhook.update", "failure"), ("webhook.delete", "success"),
    ]  # fmt: skip
    update = next(one for one in entries if one.event == "webhook.update")
    assert json.loads(update.entry)["changes"]["enabled"] == {"before": True, "after": False}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://hooks.example.com/x", "https://"), ("https://127.0.0.1/x", "not a public address"),
        ("https://169.254.169.254/latest/meta-data", "not a public address"), ("https://u:p@h.example/x", "password"),
    ],
)  # fmt: skip
async def test_a_webhook_leads_nowhere_inside(port: AdminPort, site: Site, url: str, words: str) -> None:
    """S1-28: refused at the field, together with all else that is wrong, and nothing is stored."""
    answer = await _api(port, site, "POST", HOOKS, {"name": " ", "url": url}, expect=422)
    assert [one["field"] for one in answer["errors"]] == ["name", "url"]
    assert words in answer["errors"][1]["detail"]
    assert (await _api(port, site, "GET", HOOKS))["data"] == []


async def test_a_test_of_a_name_that_leads_here_says_so_and_is_kept(port: AdminPort, site: Site) -> None:
    """S1-28: what was answered stands with the webhook; the entry tells it."""
    made = await _api(port, site, "POST", HOOKS, {"name": "Door", "url": "https://localhost/x"}, expect=201)
    tried = await _api(port, site, "POST", f"{HOOKS}/{made['id']}/test")
    assert (tried["tried_ok"], tried["version"]) == (False, 1)
    assert "leads to no public address" in tried["tried_words"]
    last = (await port.entries(site.account.id))[-1]
    assert (last.event, last.category) == ("webhook.test", "Integrations")
    assert json.loads(last.entry)["details"]["is_ok"] is False


async def test_webhooks_of_another_account_are_not_there(port: AdminPort, site: Site) -> None:
    """S1-28: as every row."""
    made = await _api(port, site, "POST", HOOKS, {"name": "Door", "url": URL}, expect=201)
    other = await port.site("Other", "owner@other.example")
    for method, path in (("GET", ""), ("POST", "/test"), ("POST", "/rotate-secret"), ("DELETE", "")):
        await _api(port, other, method, f"{HOOKS}/{made['id']}{path}", None, 1, expect=404)
    narrow = await port.key(site, "account:read")
    assert (await port.call("GET", HOOKS, narrow)).status == 403


async def test_the_pages_do_all_of_it_without_a_script(port: AdminPort, site: Site) -> None:
    """S1-28: two clicks from Settings; a mistake keeps what was typed; the secret is shown once."""
    browser = await port.browser(site)
    assert 'href="/settings/integrations"' in await (await port.call("GET", "/settings", browser)).text()
    assert 'href="/settings/webhooks/new"' in await (await port.call("GET", "/settings/integrations", browser)).text()
    form: dict[str, Any] = {"name": "Screen in the hall", "url": "http://10.0.0.9/", "enabled": "on"}
    answer = await port.call("POST", "/settings/webhooks/new", browser, data=form)
    page = await answer.text()
    assert answer.status == 422
    assert 'value="Screen in the hall"' in page
    assert "Expected https://" in page
    assert "Expected at least one of" in page
    form |= {"url": URL, "kinds": "emergency"}
    answer = await port.call("POST", "/settings/webhooks/new", browser, data=form)
    page = await answer.text()
    assert (answer.status, "whsec_" in page) == (200, True)
    listed = (await _api(port, site, "GET", HOOKS))["data"][0]
    assert listed["kinds"] == ["emergency"]
    path = f"/settings/webhooks/{listed['id']}"
    page = await (await port.call("GET", path, browser)).text()
    assert "whsec_" not in page
    form = {"version": "1", "name": "Screen", "url": URL, "kinds": "drill"}
    assert (await port.call("POST", path, browser, data=form, allow_redirects=False)).status == 303
    page = await (await port.call("GET", "/settings/integrations", browser)).text()
    assert PATH_SECRET not in page
    assert "Off" in page
    answer = await port.call("POST", f"{path}/rotate", browser, data={"version": "2"})
    assert "whsec_" in await answer.text()
    answer = await port.call("POST", f"{path}/delete", browser, data={"version": "3"})
    assert "Webhook removed" in await answer.text()


@dataclass
class Validator:
    """A LoST server that asks who is there."""

    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.headers.get("Authorization", ""))
        found = lost_server.found(valid="country A1 A3 RD STS PC HNO")
        return web.Response(body=found, content_type="application/lost+xml")


@pytest.fixture
async def asking(database: Database, keys: KeyRing) -> AsyncIterator[tuple[AdminPort, Validator, TestServer]]:
    """An admin port that may reach loopback, and a validator there."""
    there = Validator()
    lost = web.Application()
    lost.router.add_post("/lost", there.answer)
    async with TestServer(lost) as server:
        config = Config(outbound=OutboundSection(networks=(ip_network("127.0.0.0/8"),)))
        client = TestClient(TestServer(make_admin(config, keys, database, StandInEdge())))
        await client.start_server()
        yield AdminPort(client, database, keys, StandInEdge()), there, server
        await client.close()


async def test_the_validator_set_in_the_pages_is_asked_from_then_on(
    asking: tuple[AdminPort, Validator, TestServer],
) -> None:
    """S1-28, S1-29: set and tested over the API, asked by the next validation, without a restart."""
    port, there, server = asking
    site = await port.site()
    await _api(port, site, "POST", f"{VALIDATION}/test", expect=409)
    made = await _api(port, site, "POST", "/api/v1/locations", {"name": "HQ", "civic_address": CIVIC}, expect=201)
    await _api(port, site, "POST", f"{VALIDATION}/test", expect=409)
    await _api(port, site, "PATCH", VALIDATION, {"provider": "lost", "url": str(server.make_url("/lost"))}, 0)
    tested = await _api(port, site, "POST", f"{VALIDATION}/test")
    assert (tested["tried_ok"], tested["tried_words"]) == (True, "HQ: lost.example.net knows this address.")
    place = f"/api/v1/locations/{made['id']}"
    assert (await _api(port, site, "GET", place))["status"] == "draft", "a test notes nothing"
    assert (await _api(port, site, "POST", f"{place}/validate", {}, 1))["status"] == "validated"
    assert there.asked == ["", ""]
    await server.close()
    tested = await _api(port, site, "POST", f"{VALIDATION}/test")
    assert (tested["tried_ok"], "does not answer now" in tested["tried_words"]) == (False, True)


async def test_the_validators_password_is_sealed_and_told_to_nobody(port: AdminPort, site: Site) -> None:
    """S1-30: write only; the entry names the change and not the secret; before and after of the rest stand in it."""
    body = {"provider": "lost", "url": "https://lost.example.com/lost", "auth": "bearer", "secret": TOKEN}
    made = await _api(port, site, "PATCH", VALIDATION, body, 0)
    assert made["has_secret"] is True
    await _api(port, site, "PATCH", VALIDATION, {"auth": "basic", "username": "acme"}, made["version"])
    async with port.database.sessions() as session:
        row = await session.get(ValidationSettings, VALIDATION_ID)
        assert row is not None
        assert row.secret == TOKEN
        assert client_of(row, Outbound())._authorization == "Basic " + b64encode(f"acme:{TOKEN}".encode()).decode()
        raw = repr((await session.execute(text("SELECT * FROM validation_settings"))).all())
        log = repr((await session.execute(text("SELECT * FROM audit_entry"))).all())
    assert TOKEN not in raw + log + repr(made)
    last = (await port.entries(site.account.id))[-1]
    assert (last.event, last.category) == ("validation_settings.update", "Integrations")
    assert json.loads(last.entry)["changes"]["auth"] == {"before": "bearer", "after": "basic"}
    first = json.loads((await port.entries(site.account.id))[-2].entry)
    assert (first["event"], first["changes"]["provider"]["after"]) == ("validation_settings.update", "lost")


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({"provider": "lost", "url": ""}, "url"),
        ({"provider": "lost", "url": "http://lost.example.com/"}, "url"),
        ({"provider": "lost", "url": "https://10.0.0.1/"}, "url"),
        ({"auth": "basic", "secret": TOKEN}, "username"),
        ({"auth": "basic", "username": "a:b", "secret": TOKEN}, "username"),
        ({"auth": "bearer"}, "secret"),
    ],
)
async def test_a_validator_that_cannot_be_is_refused(
    port: AdminPort, site: Site, fields: dict[str, str], bad: str
) -> None:
    """S1-28: in words, at the field."""
    answer = await _api(port, site, "PATCH", VALIDATION, fields, 0, expect=422)
    assert [one["field"] for one in answer["errors"]] == [bad]


async def test_one_account_among_several_neither_sees_nor_sets_the_validator(port: AdminPort, site: Site) -> None:
    """S1-28: it is everybody's, so it is the operators'."""
    await port.site("Other", "owner@other.example")
    await _api(port, site, "GET", VALIDATION, expect=403)
    await _api(port, site, "PATCH", VALIDATION, {"provider": "none"}, 0, expect=403)
    await _api(port, site, "POST", f"{VALIDATION}/test", expect=403)
    browser = await port.browser(site)
    page = await (await port.call("GET", "/settings/integrations", browser)).text()
    assert "Address validation" not in page


async def test_the_page_of_the_validator_works_without_a_script(port: AdminPort, site: Site) -> None:
    """S1-28: a mistake keeps what was typed but no password."""
    browser = await port.browser(site)
    path = "/settings/integrations/validation"
    form = {"version": "0", "provider": "lost", "url": "https://lost.example.com/x", "auth": "basic", "username": ""}
    answer = await port.call("POST", path, browser, data=form | {"secret": TOKEN})
    page = await answer.text()
    assert (answer.status, TOKEN in page) == (422, False)
    assert 'value="https://lost.example.com/x"' in page
    answer = await port.call("POST", path, browser, data=form | {"secret": TOKEN, "username": "acme"})
    page = await answer.text()
    assert (answer.status, "The next question goes there" in page, TOKEN in page) == (200, True, False)
    form |= {"version": "1", "auth": "none", "remove_secret": "on"}
    assert (await port.call("POST", path, browser, data=form, allow_redirects=False)).status == 303
    assert (await _api(port, site, "GET", VALIDATION))["has_secret"] is False
