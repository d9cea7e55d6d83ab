"""Over the API: a phone that says it is another model is let go, and a softphone needs no address."""

from typing import Any

import pytest

from engine.audit.events import Event
from engine.audit.record import SYSTEM
from engine.models import Phone
from engine.provisioning import quarantine, softphones
from tests.unit.admin.adminport import AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback


async def posted(port: AdminPort, site: Site, path: str, body: dict[str, Any], status: int, **headers: str) -> Any:
    answer = await port.call("POST", f"/api/v1/{path}", site.auth | headers, json=body)
    assert answer.status == status, await answer.text()
    return await answer.json()


async def test_a_quarantined_phone_is_shown_with_what_it_says_and_released_by_version(
    port: AdminPort, site: Site
) -> None:
    """P-05: 428 and 412 as for every change; 422 names the field; 409 when nothing holds it; one entry each."""
    made = await posted(port, site, "phones", {"mac": "805ec0aabb01", "vendor": "yealink", "model": "T46U"}, 201)
    path = f"phones/{made['id']}/release"
    await posted(port, site, path, {"model": None}, 428)
    await posted(port, site, path, {"model": None}, 409, **{"If-Match": '"1"'})
    async with port.database.sessions.begin() as session:
        phone = await session.get(Phone, made["id"])
        assert phone is not None
        quarantine.hold(session, SYSTEM, phone, quarantine.Seen("yealink", "T31P"))
    shown = await (await port.call("GET", f"/api/v1/phones/{made['id']}", site.auth)).json()
    assert (shown["status"], shown["seen_vendor"], shown["seen_model"]) == ("quarantined", "yealink", "T31P")
    refused = await posted(port, site, path, {"model": "VVX 450"}, 422, **{"If-Match": '"1"'})
    assert [fault["field"] for fault in refused["errors"]] == ["model"]
    await posted(port, site, path, {"model": "SIP-T31P"}, 412, **{"If-Match": '"7"'})
    released = await posted(port, site, path, {"model": "SIP-T31P"}, 200, **{"If-Match": '"1"'})
    assert (released["model"], released["status"], released["seen_model"]) == ("T31P", "never_booted", None)
    outcomes = [entry.outcome for entry in await port.entries(site.account.id) if entry.event == Event.PHONE_RELEASE]
    assert sorted(outcomes) == ["failure"] * 4 + ["success"]


async def test_a_softphone_is_added_without_an_address_and_a_telephone_is_not(port: AdminPort, site: Site) -> None:
    """P-06: an address is made for an application; it can be given one too."""
    made = await posted(port, site, "phones", {"vendor": "linphone", "model": "Android"}, 201)
    assert softphones.is_local(made["mac"])
    again = await posted(port, site, "phones", {"vendor": "linphone", "model": "Android"}, 201)
    assert again["mac"] != made["mac"]
    own = await posted(port, site, "phones", {"vendor": "acrobits", "model": "Groundwire", "mac": "02ab1f000001"}, 201)
    assert own["mac"] == "02ab1f000001"
    refused = await posted(port, site, "phones", {"vendor": "yealink", "model": "T46U"}, 422)
    assert [fault["field"] for fault in refused["errors"]] == ["mac"]
    body = {"vendor": "acrobits", "model": "Groundwire", "settings": {"cloud_id": "a b"}}
    refused = await posted(port, site, "phones", body, 422)
    assert [fault["field"] for fault in refused["errors"]] == ["settings.cloud_id"]
