"""Asking the validator from a location's page: the same operation as the API's, its words beside the address."""

import pytest
from aiohttp.test_utils import TestClient, TestServer

from admin.app import make_admin
from admin.context import VALIDATOR
from engine.config import E911, Config
from tests import lost_server
from tests.lost_server import LostServer
from tests.standin_edge import StandInEdge
from tests.unit.admin.adminport import CIVIC, AdminPort


@pytest.fixture
async def asking(database, keys):
    """An admin port with a validator, and the validator."""
    async with LostServer() as server:
        app = make_admin(Config(e911=E911(lost_url=server.url)), keys, database, StandInEdge())
        client = TestClient(TestServer(app))
        await client.start_server()
        yield AdminPort(client, database, keys, StandInEdge()), server, app
        await client.close()


async def test_the_page_asks_the_validator_and_shows_its_words(asking):
    """E-14: by a button, without JavaScript."""
    port, server, app = asking
    site = await port.site()
    browser = await port.browser(site)
    made = await port.call(
        "POST", "/api/v1/locations", site.auth, json={"name": "HQ", "civic_address": CIVIC}
    )  # fmt: skip
    path = f"/locations/{(await made.json())['id']}"
    page = await (await port.call("GET", path, browser)).text()
    assert 'name="verdict" value="ask"' in page
    server.answers["/lost"] = lost_server.found(valid="country A1 A3 RD STS PC", invalid="HNO")
    form = {"version": "1", "verdict": "ask"}
    answer = await port.call("POST", f"{path}/validate", browser, data=form, allow_redirects=False)
    assert (answer.status, "location-rejected" in answer.headers["Location"]) == (303, True)
    page = await (await port.call("GET", path, browser)).text()
    assert "lost.example.net does not know HNO (120) at this address." in page
    server.answers["/lost"] = lost_server.errors("notFound", "no such county")
    form["version"] = "2"
    answer = await port.call("POST", f"{path}/validate", browser, data=form, allow_redirects=False)
    assert "location-undecided" in answer.headers["Location"]
    assert app[VALIDATOR] is not None
    events = [entry.event for entry in await port.entries(site.account.id)]
    assert events.count("location.validate") == 2


async def test_an_address_is_validated_by_the_configured_server_and_an_edit_makes_it_a_draft_again(asking):
    """E-14: draft, rejected with the validator's words, validated, draft again; each step audited."""
    port, server, _app = asking
    site = await port.site()

    async def api(method, path, body, version=None, expect=200):
        extra = {"If-Match": f'"{version}"'} if version else {}
        answer = await port.call(method, f"/api/v1/{path}", site.auth, json=body, extra=extra)
        assert answer.status == expect, await answer.text()
        return await answer.json()

    made = await api("POST", "locations", {"name": "HQ", "civic_address": CIVIC | {"FLR": "4"}}, expect=201)
    assert (made["status"], made["validation"]) == ("draft", None)
    path = f"locations/{made['id']}"
    server.answers["/lost"] = lost_server.found(valid="country A1 A3 RD STS PC", invalid="HNO", unchecked="FLR")
    shown = await api("POST", f"{path}/validate", {}, 1)
    assert (shown["status"], shown["validated_at"]) == ("rejected", None)
    assert shown["validation"]["words"] == "lost.example.net does not know HNO (120) at this address."
    assert shown["validation"]["unchecked"] == ["FLR"]
    shown = await api("PATCH", path, {"civic_address": CIVIC | {"HNO": "121"}}, 2)
    assert (shown["status"], shown["validation"]) == ("draft", None)
    server.answers["/lost"] = lost_server.found(valid="country A1 A3 RD STS PC HNO")
    shown = await api("POST", f"{path}/validate", {"accepted": None}, 3)
    assert (shown["status"], shown["validation"]["verdict"]) == ("validated", "validated")
    assert shown["validated_at"] == shown["validation"]["at"]
    assert shown["validation"]["psap"] == "Albany County 911"
    assert shown["validation"]["psap_uris"] == ["sip:psap@albany.example.net"]
    assert (await api("PATCH", path, {"name": "Headquarters"}, 4))["status"] == "validated"
    shown = await api("PATCH", path, {"civic_address": CIVIC}, 5)
    assert (shown["status"], shown["validated_at"], shown["validation"]) == ("draft", None, None)
    await server.stop()
    refused = await api("POST", f"{path}/validate", {}, 6, expect=503)
    assert "cannot be reached" in refused["detail"]
    entries = [each for each in await port.entries(site.account.id) if each.event == "location.validate"]
    assert [each.outcome for each in entries] == ["success", "success", "failure"]
    assert '"by":"lost.example.net"' in entries[0].entry


async def test_without_a_validator_the_page_offers_none_and_says_what_to_do_when_asked(port, site):
    """E-14."""
    browser = await port.browser(site)
    made = await port.call("POST", "/api/v1/locations", site.auth, json={"name": "HQ", "civic_address": CIVIC})
    path = f"/locations/{(await made.json())['id']}"
    page = await (await port.call("GET", path, browser)).text()
    assert 'value="ask"' not in page
    answer = await port.call(
        "POST", f"{path}/validate", browser, data={"version": "1", "verdict": "ask"}, allow_redirects=False
    )
    assert (answer.status, "[e911] lost_url" in await answer.text()) == (409, True)
    api = f"/api/v1{path}/validate"
    answer = await port.call("POST", api, site.auth, json={}, extra={"If-Match": '"1"'})
    assert (answer.status, "[e911] lost_url" in (await answer.json())["detail"]) == (409, True)
    answer = await port.call("POST", api, site.auth, json={"accepted": True}, extra={"If-Match": '"1"'})
    accepted = await answer.json()
    assert (accepted["status"], accepted["validation"]["by"]) == ("validated", "tests")
    assert accepted["validation"]["words"] == "tests says that it is right."
    assert accepted["validation"]["at"] == accepted["validated_at"]
    answer = await port.call("POST", f"{path}/validate", browser, data={"version": "2", "verdict": "wrong"})
    assert "Olga Owner says that it is wrong." in await (await port.call("GET", path, browser)).text()
