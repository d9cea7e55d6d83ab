"""Who is told when nobody acknowledges, in API and pages: off at first, kept whole, refused in words."""

import json
from typing import Any

import pytest

from tests.unit.admin.adminport import CIVIC, AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback
PLAN, PAGE = "/api/v1/escalation-plan", "/settings/escalation"


async def _api(
    port: AdminPort, site: Site, method: str, path: str, body: Any = None, version: int | None = None, expect: int = 200
) -> dict[str, Any]:
    extra = {} if version is None else {"If-Match": f'"{version}"'}
    answer = await port.call(method, path, site.auth, json=body, extra=extra)
    said = await answer.text()
    assert answer.status == expect, said
    return dict(json.loads(said)) if said else {}


async def test_a_plan_is_off_until_it_names_somebody_and_every_change_is_audited(port: AdminPort, site: Site) -> None:
    """E-11: read, set and switched off again over the API; who is named there is not removed unseen."""
    assert await _api(port, site, "GET", PLAN) == {"version": 0, "steps": []}
    url = "twilio://AC735c307c62944b5a:e29dfbcebf390dee9@+15185550100/+15185550101"
    guard = await _api(
        port, site, "POST", "/api/v1/chat-recipients", {"name": "Guard", "url": url, "kinds": ["test"]}, expect=201
    )
    steps = [{"after_s": 90, "emails": ["duty@acme.example"], "chat_recipient_ids": [guard["id"]]}]
    set_up = await _api(port, site, "PATCH", PLAN, {"steps": steps}, 0)
    assert (set_up["version"], set_up["steps"]) == (1, steps)
    answer = await _api(port, site, "DELETE", f"/api/v1/chat-recipients/{guard['id']}", None, 1, expect=409)
    assert "Take it out of the escalation" in answer["detail"]
    wrong = [{"after_s": 90, "emails": ["duty@acme.example"]}, {"after_s": 60, "emails": ["duty@acme.example"]}]
    answer = await _api(port, site, "PATCH", PLAN, {"steps": wrong}, 1, expect=422)
    assert {one["field"] for one in answer["errors"]} == {"steps.1.emails", "steps.1.after_s"}
    await _api(port, site, "PATCH", PLAN, {"steps": []}, 0, expect=412)
    assert (await _api(port, site, "PATCH", PLAN, {"steps": []}, 1))["steps"] == []
    entries = [one for one in await port.entries(site.account.id) if one.event == "escalation_plan.update"]
    assert [one.outcome for one in entries] == ["success", "failure", "failure", "success"]
    assert json.loads(entries[-1].entry)["changes"]["steps"] == {"before": steps, "after": []}


async def test_the_page_sets_it_without_a_script_and_settings_and_the_call_tell_of_it(
    port: AdminPort, site: Site
) -> None:
    """E-11: from the recipients' card in one click; a mistake keeps what was typed; a drill says when more are told."""
    browser = await port.browser(site)
    assert "Tell more people when nobody acknowledges" in await (await port.call("GET", "/settings", browser)).text()
    form = {"version": "0", "steps.0.after_s": "180", "steps.0.emails": "duty", "steps.1.after_s": "60"}
    answer = await port.call("POST", PAGE, browser, data=form | {"steps.1.emails": "boss@acme.example"})
    page = await answer.text()
    assert answer.status == 422
    assert ">duty</textarea>" in page
    assert "later time than that of the step before" in page
    form |= {"steps.0.emails": "duty@acme.example", "steps.1.after_s": "600", "steps.1.emails": "boss@acme.example"}
    assert (await port.call("POST", PAGE, browser, data=form, allow_redirects=False)).status == 303
    assert [(one["after_s"], one["emails"]) for one in (await _api(port, site, "GET", PLAN))["steps"]] == [
        (180, ["duty@acme.example"]), (600, ["boss@acme.example"]),
    ]  # fmt: skip
    page = await (await port.call("GET", "/settings", browser)).text()
    assert "When nobody acknowledges: after 3 minutes, then 1 step more" in page
    place = await _api(port, site, "POST", "/api/v1/locations", {"name": "HQ", "civic_address": CIVIC}, expect=201)
    drill = await _api(port, site, "POST", "/api/v1/drills", {"location_id": place["id"]}, expect=201)
    page = await (await port.call("GET", f"/calls/{drill['id']}", browser)).text()
    assert "More people are told at" in page
    seen = await _api(port, site, "GET", f"/api/v1/emergency-calls/{drill['id']}")
    assert (seen["escalations"], seen["escalation_due_at"] is None) == ([], False)
    await _api(port, site, "POST", f"/api/v1/emergency-calls/{drill['id']}/acknowledge", {})
    seen = await _api(port, site, "GET", f"/api/v1/emergency-calls/{drill['id']}")
    assert seen["escalation_due_at"] is None
