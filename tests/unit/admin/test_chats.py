"""Recipients of SMS and chat messages in API and pages: what is refused, kept secret and told in the log."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from engine.models import ChatRecipient
from tests.unit.admin.adminport import CIVIC, AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback
CHATS = "/api/v1/chat-recipients"
SECRET = "e29dfbcebf390dee9"
URL = f"twilio://AC735c307c62944b5a:{SECRET}@+15185550100/+15185550101"


async def _api(
    port: AdminPort, site: Site, method: str, path: str, body: Any = None, version: int | None = None, expect: int = 200
) -> dict[str, Any]:
    extra = {} if version is None else {"If-Match": f'"{version}"'}
    answer = await port.call(method, path, site.auth, json=body, extra=extra)
    said = await answer.text()
    assert answer.status == expect, said
    return dict(json.loads(said)) if said else {}


async def test_a_chat_recipient_is_made_changed_and_removed_and_its_address_is_nowhere(
    port: AdminPort, site: Site
) -> None:
    """E-11: sealed at rest, told to nobody again, a name and an end in the log."""
    made = await _api(port, site, "POST", CHATS, {"name": "Guard", "url": URL}, expect=201)
    assert (made["service"], made["shown"], "url" in made) == ("Twilio", "twilio://…0101", False)
    assert (made["kinds"], made["location_id"]) == (["emergency", "test", "drill"], None)
    path = f"{CHATS}/{made['id']}"
    place = await _api(port, site, "POST", "/api/v1/locations", {"name": "HQ", "civic_address": CIVIC}, expect=201)
    changed = await _api(port, site, "PATCH", path, {"kinds": ["emergency"], "location_id": place["id"]}, 1)
    assert (changed["kinds"], changed["location_id"], changed["shown"]) == (
        ["emergency"], place["id"], "twilio://…0101",
    )  # fmt: skip
    other = await _api(port, site, "PATCH", path, {"url": URL.replace("0101", "0199"), "location_id": None}, 2)
    assert (other["shown"], other["location_id"]) == ("twilio://…0199", None)
    async with port.database.sessions() as session:
        row = await session.get(ChatRecipient, made["id"])
        assert row is not None
        assert row.url.endswith("0199")
        raw = repr((await session.execute(text("SELECT * FROM chat_recipient"))).all())
        log = repr((await session.execute(text("SELECT * FROM audit_entry"))).all())
    assert SECRET not in raw + log
    assert "15185550100" not in raw + log
    await _api(port, site, "DELETE", path, None, 3, expect=204)
    entries = [one for one in await port.entries(site.account.id) if one.resource_type == "chat_recipient"]
    assert {one.category for one in entries} == {"Emergency"}
    assert [one.event for one in entries] == [
        f"chat_recipient.{verb}" for verb in ("create", "update", "update", "delete")
    ]
    assert json.loads(entries[2].entry)["changes"]["shown"] == {"before": "twilio://…0101", "after": "twilio://…0199"}


async def test_every_bad_field_of_a_chat_recipient_is_told_at_once(port: AdminPort, site: Site) -> None:
    """E-11: the address by the library's own reading, the others by ours; nothing is stored."""
    body = {"name": " ", "url": "twilio://x", "location_id": "location_01hzzzzzzzzzzzzzzzzzzzzzzz"}
    answer = await _api(port, site, "POST", CHATS, body, expect=422)
    assert [one["field"] for one in answer["errors"]] == ["name", "url", "location_id"]
    assert "a part is missing" in answer["errors"][1]["detail"]
    answer = await _api(port, site, "POST", CHATS, {"name": "X", "url": "json://10.0.0.9/x"}, expect=422)
    assert "[outbound] networks" in answer["errors"][0]["detail"]
    assert (await _api(port, site, "GET", CHATS))["data"] == []


async def test_a_test_that_leads_inside_says_so_and_is_kept(port: AdminPort, site: Site) -> None:
    """E-11: what was answered stands with the recipient; the entry tells it."""
    made = await _api(port, site, "POST", CHATS, {"name": "Door", "url": "jsons://localhost/x"}, expect=201)
    tried = await _api(port, site, "POST", f"{CHATS}/{made['id']}/test")
    assert (tried["tried_ok"], tried["version"]) == (False, 1)
    assert "no public address" in tried["tried_words"]
    last = (await port.entries(site.account.id))[-1]
    assert (last.event, json.loads(last.entry)["details"]["is_ok"]) == ("chat_recipient.test", False)


async def test_who_is_told_by_chat_alone_is_somebody_who_is_told(port: AdminPort, site: Site) -> None:
    """E-11: neither Settings nor Home says that nobody is."""
    browser = await port.browser(site)
    assert "Nobody is told about every 911 call" in await (await port.call("GET", "/settings", browser)).text()
    await _api(port, site, "POST", CHATS, {"name": "Guard", "url": URL}, expect=201)
    page = await (await port.call("GET", "/settings", browser)).text()
    assert "Nobody is told about every 911 call" not in page
    assert "twilio://…0101" in page
    assert "nobody on site learns of them" not in await (await port.call("GET", "/locations/new", browser)).text()
    assert "told by SMS or chat at every emergency call" in await (await port.call("GET", "/", browser)).text()


async def test_the_pages_do_all_of_it_without_a_script(port: AdminPort, site: Site) -> None:
    """E-11: one click from the recipients in Settings; a mistake keeps what was typed; the address is shown no more."""
    browser = await port.browser(site)
    assert 'href="/settings/chats/new"' in await (await port.call("GET", "/settings", browser)).text()
    form: dict[str, Any] = {"name": "Night guard", "url": "twilio://x", "location_id": "", "enabled": "on"}
    answer = await port.call("POST", "/settings/chats/new", browser, data=form)
    page = await answer.text()
    assert answer.status == 422
    assert 'value="Night guard"' in page
    assert "a part is missing" in page
    answer = await port.call("POST", "/settings/chats/new", browser, data=form | {"url": URL, "kinds": "emergency"})
    page = await answer.text()
    assert "Send a test message" in page
    assert SECRET not in page
    made = (await _api(port, site, "GET", CHATS))["data"][0]
    path = f"/settings/chats/{made['id']}"
    form = {"version": "1", "name": "Guard", "url": "", "location_id": "", "kinds": "drill"}
    assert (await port.call("POST", path, browser, data=form, allow_redirects=False)).status == 303
    seen = await _api(port, site, "GET", f"{CHATS}/{made['id']}")
    assert (seen["name"], seen["kinds"], seen["enabled"], seen["shown"]) == (
        "Guard", ["drill"], False, "twilio://…0101",
    )  # fmt: skip
    answer = await port.call("POST", f"{path}/delete", browser, data={"version": "2"})
    assert "Recipient removed" in await answer.text()
