"""Settings of an account, a location and a model, over the API; what counts for a phone; the levels' pages."""

import pytest
from sqlalchemy import update

from engine.models import Phone
from engine.provisioning import store
from tests.unit.admin.adminport import CIVIC, AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

PHONE = {"mac": "00:15:65:4a:a9:37", "vendor": "yealink", "model": "T46U", "settings": {"vlan_id": 9}}


async def _made(port: AdminPort, site: Site, path: str, body: dict) -> dict:
    answer = await port.call("POST", f"/api/v1/{path}", site.auth, json=body)
    assert answer.status == 201, await answer.text()
    return await answer.json()


async def _fetched(port: AdminPort, *phone_ids: str) -> None:
    async with port.database.sessions.begin() as session:
        await session.execute(update(Phone).where(Phone.id.in_(phone_ids)).values(status="current"))


async def _status(port: AdminPort, phone_id: str) -> str:
    async with port.database.sessions() as session:
        return (await session.get_one(Phone, phone_id)).status


async def _revision(port: AdminPort, site: Site) -> int:
    async with port.database.sessions() as session:
        return await store.revision_of(session, site.account.id)


async def _settings(port: AdminPort, site: Site, phone_id: str) -> dict:
    answer = await port.call("GET", f"/api/v1/phones/{phone_id}/settings", site.auth)
    assert answer.status == 200, await answer.text()
    return (await answer.json())["settings"]


async def test_each_effective_value_names_the_level_it_comes_from(port: AdminPort, site: Site) -> None:
    """P-10: default, account, location, model and device, and a value taken away by null."""
    location = await _made(port, site, "locations", {"name": "Plant", "civic_address": CIVIC})
    phone = await _made(port, site, "phones", PHONE | {"location_id": location["id"]})
    said = {"ntp_server": "time.example.net", "expires_s": 600, "outbound_proxy": "sbc.example.net"}
    account = await _made(port, site, "phone-settings", {"kind": "account", "settings": said})
    here = {"kind": "location", "location_id": location["id"], "settings": {"expires_s": 300, "outbound_proxy": None}}
    place = await _made(port, site, "phone-settings", here)
    model = {"kind": "model", "vendor": "yealink", "model": "SIP-T46U", "settings": {"lldp": False, "vlan_id": 4}}
    kind = await _made(port, site, "phone-settings", model)
    assert (account["name"], place["name"], kind["name"]) == ("account", location["id"], "yealink/T46U")

    found = await _settings(port, site, phone["id"])
    told = {name: (one["value"], one["source"]["kind"], one["source"]["id"]) for name, one in found.items()}
    assert told["ntp_server"] == ("time.example.net", "account", account["id"])
    assert told["expires_s"] == (300, "location", place["id"])
    assert told["lldp"] == (False, "model", kind["id"])
    assert told["vlan_id"] == (9, "device", phone["id"])
    assert told["codecs"] == (["pcmu", "pcma", "g722"], "default", "")
    assert told["outbound_proxy"] == ("", "default", "")
    assert found["outbound_proxy"]["removed_by"]["label"] == "Plant"
    assert found["expires_s"]["removed_by"] is None


async def test_a_changed_level_makes_its_phones_stale_and_bumps_the_account_s_revision(
    port: AdminPort, site: Site
) -> None:
    """P-10, P-16: phones of the location are stale, the others are not."""
    location = await _made(port, site, "locations", {"name": "Plant", "civic_address": CIVIC})
    there = await _made(port, site, "phones", PHONE | {"location_id": location["id"]})
    elsewhere = await _made(port, site, "phones", PHONE | {"mac": "00:15:65:4a:a9:38"})
    await _fetched(port, there["id"], elsewhere["id"])
    before = await _revision(port, site)
    body = {"kind": "location", "location_id": location["id"], "settings": {"vlan_id": 20}}
    level = await _made(port, site, "phone-settings", body)
    assert (await _status(port, there["id"]), await _status(port, elsewhere["id"])) == ("stale", "current")
    assert await _revision(port, site) == before + 1

    await _fetched(port, there["id"])
    path = f"/api/v1/phone-settings/{level['id']}"
    answer = await port.call("PATCH", path, site.auth, json={"settings": {"vlan_id": 21}})
    assert answer.status == 428
    headers = site.auth | {"If-Match": f'"{level["version"]}"'}
    answer = await port.call("PATCH", path, headers, json={"settings": {"vlan_id": 21}})
    assert (answer.status, (await answer.json())["settings"]) == (200, {"vlan_id": 21})
    assert await _status(port, there["id"]) == "stale"
    assert (await port.call("PATCH", path, headers, json={"settings": {}})).status == 412

    await _fetched(port, there["id"])
    assert (await port.call("DELETE", path, site.auth | {"If-Match": "*"})).status == 204
    assert await _status(port, there["id"]) == "stale"
    assert (await port.call("GET", path, site.auth)).status == 404


async def test_every_bad_setting_of_a_level_is_named(port: AdminPort, site: Site) -> None:
    """P-10: all at once, by its path; nothing is stored."""
    body = {"kind": "account", "settings": {"vlan_id": 5000, "codecs": ["mp3"], "colour": "red", "lldp": True}}
    answer = await port.call("POST", "/api/v1/phone-settings", site.auth, json=body)
    assert answer.status == 422
    assert {one["field"] for one in (await answer.json())["errors"]} == {
        "settings.vlan_id", "settings.codecs", "settings.colour",
    }  # fmt: skip
    assert (await (await port.call("GET", "/api/v1/phone-settings", site.auth)).json())["data"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "location"}, "location_id"), ({"kind": "model", "vendor": "nobody", "model": "X"}, "vendor"),
        ({"kind": "model", "vendor": "yealink", "model": "X"}, "model"), ({"kind": "global"}, "kind"),
    ],
)  # fmt: skip
async def test_a_level_of_nothing_is_refused(port: AdminPort, site: Site, body: dict, field: str) -> None:
    answer = await port.call("POST", "/api/v1/phone-settings", site.auth, json=body)
    assert (answer.status, [one["field"] for one in (await answer.json())["errors"]]) == (422, [field])


@pytest.mark.parametrize(
    ("kind", "beside", "fields"),
    [
        ("account", {"location_id": "location_x"}, ["location_id"]),
        ("account", {"vendor": "yealink", "model": "T46U"}, ["vendor", "model"]),
        ("model", {"location_id": "location_x", "vendor": "yealink", "model": "T46U"}, ["location_id"]),
    ],
)
async def test_what_a_level_of_its_kind_does_not_have_is_refused_by_name(
    port: AdminPort, site: Site, kind: str, beside: dict, fields: list[str]
) -> None:
    """P-10: a model's settings at one location are not to be had; dropped, they would count everywhere."""
    answer = await port.call("POST", "/api/v1/phone-settings", site.auth, json={"kind": kind} | beside)
    assert (answer.status, [one["field"] for one in (await answer.json())["errors"]]) == (422, fields)
    assert (await (await port.call("GET", "/api/v1/phone-settings", site.auth)).json())["data"] == []


async def test_a_level_is_there_once_and_another_account_s_is_not_there(port: AdminPort, site: Site) -> None:
    level = await _made(port, site, "phone-settings", {"kind": "account", "settings": {"lldp": False}})
    again = await port.call("POST", "/api/v1/phone-settings", site.auth, json={"kind": "account", "settings": {}})
    assert again.status == 409
    other = await port.site("Other", "other@example.com")
    assert (await port.call("GET", f"/api/v1/phone-settings/{level['id']}", other.auth)).status == 404
    theirs = await _made(port, other, "phone-settings", {"kind": "account", "settings": {"lldp": True}})
    assert theirs["id"] != level["id"]


async def test_a_deleted_location_takes_its_settings_along_in_the_same_entry(port: AdminPort, site: Site) -> None:
    location = await _made(port, site, "locations", {"name": "Annex", "civic_address": CIVIC})
    body = {"kind": "location", "location_id": location["id"], "settings": {"vlan_id": 20}}
    level = await _made(port, site, "phone-settings", body)
    gone = await port.call("DELETE", f"/api/v1/locations/{location['id']}", site.auth | {"If-Match": "*"})
    assert gone.status == 204
    assert (await port.call("GET", f"/api/v1/phone-settings/{level['id']}", site.auth)).status == 404
    entry = (await port.entries(site.account.id))[-2].entry
    assert '"location.delete"' in entry
    assert "vlan_id" in entry


async def test_what_a_model_takes_not_is_refused_for_it_and_marked_where_a_level_says_it(
    port: AdminPort, site: Site
) -> None:
    """P-07: a VLAN and codecs on a Gigaset: 422 with a sentence for the phone and its model, `not_taken` of a level."""
    await _made(port, site, "phone-settings", {"kind": "account", "settings": {"vlan_id": 20}})
    phone = {"mac": "7c:2f:80:e0:d6:05", "vendor": "gigaset", "model": "N870"}
    for path, body in (
        ("phones", phone | {"settings": {"codecs": ["pcmu"]}}),
        ("phone-settings", {"kind": "model", "vendor": "gigaset", "model": "N870", "settings": {"codecs": ["pcmu"]}}),
    ):
        answer = await port.call("POST", f"/api/v1/{path}", site.auth, json=body)
        found = await answer.json()
        assert answer.status == 422, found
        assert "settings.codecs" in str(found)
        assert "takes no choice of codecs from here" in str(found)
    made = await _made(port, site, "phones", phone)
    told = await _settings(port, site, made["id"])
    assert (told["vlan_id"]["value"], told["ntp_server"]["not_taken"]) == (20, None)
    assert "takes no VLAN from here" in told["vlan_id"]["not_taken"]
    page = await (await port.call("GET", f"/phones/{made['id']}", await port.browser(site))).text()
    assert page.count("not taken by this model") == len([one for one in told.values() if one["not_taken"]]) > 1
