"""Two windows on one record: what each changed stands in the end, and nothing is undone unseen."""

import json
import re
from html import unescape
from typing import Any

import pytest

from admin.merged_form import Held, merge, packed, sentence_of, unpacked
from admin.render import HERE
from tests.unit.admin.adminport import AdminPort, Site
from tests.unit.admin.furnished import furnish

NETWORKS = "/api/v1/networks"


@pytest.mark.parametrize(
    ("shown", "sent", "now", "value", "is_conflict"),
    [
        ("Elm", "Elm", "Main", "Main", False),
        ("Elm", "Oak", "Elm", "Oak", False),
        ("Elm", "Oak", "Main", "Oak", True),
        ("Elm", "Main", "Main", "Main", False),
        ("Elm", None, "Main", "Main", False),
        ("", "", None, "", False),
        ("5060", "5060", 5070, "5070", False),
        ("one\ntwo", "one\r\ntwo\r\n", "three", "three", False),
        (True, True, False, False, False),
        (True, False, True, False, False),
        (["10.1.0.0/16"], "10.1.0.0/16", ["10.1.0.0/16", "10.2.0.0/16"], ["10.1.0.0/16", "10.2.0.0/16"], False),
        (["a", "b"], "b\na", ["a", "b"], ["b", "a"], False),
        (["a", "b"], "a, b, c", ["a", "d"], ["a", "d", "c"], True),
        (["a", "b"], "b", ["a", "b", "c"], ["b", "c"], True),
    ],
)
def test_each_field_is_merged_by_who_touched_it(
    shown: Held, sent: Held | None, now: Any, value: Held, is_conflict: bool
) -> None:
    """S0-05: theirs where only they changed it, ours where only we did, both told where both did."""
    found = merge({"field": shown}, {} if sent is None else {"field": sent}, {"field": now})
    assert found.values == {"field": value}
    assert bool(found.faults) is is_conflict


def test_what_was_taken_over_is_spelled() -> None:
    """S0-05: floor 3 → 4, a subnet added; identifiers are no words."""
    shown: dict[str, Held] = {"civic_address.FLR": "3", "subnets": ["10.1.0.0/16"], "location_id": "location_a"}
    now = {"civic_address.FLR": "4", "subnets": ["10.2.0.0/16"], "location_id": "location_b", "onsite_number": None}
    said = sentence_of(merge(shown, dict(shown), now))
    assert "Floor (3 → 4); Subnets (10.2.0.0/16 added; 10.1.0.0/16 removed); Location (another one)" in said
    assert "location_b" not in said


@pytest.mark.parametrize("text", ["", "[]", "nonsense", "[" * 100_000, "3"])
def test_a_hidden_field_that_cannot_be_read_says_nothing(text: str) -> None:
    """S0-05: then the form stands as it was sent, as one that carries no such field."""
    assert unpacked(text) is None
    assert unpacked(packed({"a": None, "b": {"c": 1}, "d": ["x"], "e": 4})) == {"a": "", "d": ["x"], "e": "4"}


async def location_of(port: AdminPort, site: Site) -> dict[str, Any]:
    body = {
        "name": "Annex", "onsite_number": "+15185550199",
        "civic_address": {"country": "US", "A1": "NY", "A3": "Albany", "HNO": "1", "RD": "Elm", "FLR": "3"},
    }  # fmt: skip
    answer = await port.call("POST", "/api/v1/locations", site.auth, json=body)
    assert answer.status == 201
    found: dict[str, Any] = await answer.json()
    await port.call("POST", NETWORKS, site.auth, json={"value": "10.1.0.0/16", "location_id": found["id"]})
    return found


def fields_of(page: str) -> dict[str, str]:
    """What a browser would send of the first form that says what it was made of."""
    form = next(part for part in page.split("<form") if 'name="shown"' in part).partition("</form>")[0]
    sent = {}
    for tag in re.findall(r"<input[^>]*>", form):
        name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
        if name and 'type="checkbox"' not in tag:
            sent[unescape(name[1])] = unescape(value[1]) if value else ""
    for name_, text in re.findall(r'<textarea[^>]*name="([^"]*)"[^>]*>(.*?)</textarea>', form, re.DOTALL):
        sent[name_] = unescape(text)
    for name_, options in re.findall(r'<select[^>]*name="([^"]*)"[^>]*>(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r'value="([^"]*)" selected', options)
        sent[name_] = unescape(chosen[1]) if chosen else ""
    return sent


async def test_an_older_window_undoes_neither_a_street_nor_a_network(port: AdminPort, site: Site) -> None:
    """S0-05, S0-08: A moves the location and adds a subnet; B, who opened it before, changes another field."""
    location = await location_of(port, site)
    path, api = f"/locations/{location['id']}", f"/api/v1/locations/{location['id']}"
    headers = await port.browser(site)

    async def opened() -> dict[str, str]:
        return fields_of(await (await port.call("GET", path, headers)).text())

    async def saved(fields: dict[str, str]) -> tuple[int, str]:
        answer = await port.call("POST", path, headers, data=fields, allow_redirects=False)
        return answer.status, unescape(await answer.text())

    first, second = await opened(), await opened()
    theirs = {"civic_address.RD": "Main", "civic_address.FLR": "4", "subnets": "10.1.0.0/16\n10.2.0.0/16"}
    assert (await saved(first | theirs))[0] == 303
    status, page = await saved(second | {"onsite_number": "+15185550111", "civic_address.FLR": "5"})
    assert status == 412
    assert "Street (Elm → Main); Subnets of this place (10.2.0.0/16 added)" in page
    assert "Floor (3 → 4)" in page  # what the audit log says of it
    assert "Somebody else changed this too (3 → 4)." in page
    again = fields_of(page)
    assert (again["civic_address.RD"], again["civic_address.FLR"]) == ("Main", "5")
    assert (await saved(again))[0] == 303
    stored = await (await port.call("GET", api, site.auth)).json()
    assert (stored["civic_address"]["RD"], stored["civic_address"]["FLR"]) == ("Main", "5")
    assert stored["onsite_number"] == "+15185550111"
    assert [network["value"] for network in stored["networks"]] == ["10.1.0.0/16", "10.2.0.0/16"]


async def test_a_network_is_of_the_locations_version_and_never_removed_unseen(port: AdminPort, site: Site) -> None:
    """S0-08: added, changed or removed by the API, it moves the location's ETag; an older form gets a 412."""
    location = await location_of(port, site)
    other = await location_of_name(port, site, "Barn")
    path, api = f"/locations/{location['id']}", f"/api/v1/locations/{location['id']}"
    headers = await port.browser(site)
    tags = [(await port.call("GET", api, site.auth)).headers["ETag"]]
    page = fields_of(await (await port.call("GET", path, headers)).text())
    made = await port.call("POST", NETWORKS, site.auth, json={"value": "10.9.0.0/16", "location_id": location["id"]})
    network = f"{NETWORKS}/{(await made.json())['id']}"
    tags.append((await port.call("GET", api, site.auth)).headers["ETag"])
    refused = await port.call("PATCH", api, site.auth | {"If-Match": tags[0]}, json={"name": "Annex 2"})
    assert refused.status == 412
    answer = await port.call("POST", path, headers, data=page | {"name": "Annex 3"}, allow_redirects=False)
    assert answer.status == 412
    assert fields_of(await answer.text())["subnets"].split() == ["10.1.0.0/16", "10.9.0.0/16"]
    unseen = page | {"version": tags[1].strip('"'), "name": "Annex 3"}
    answer = await port.call("POST", path, headers, data=unseen, allow_redirects=False)
    assert answer.status == 303  # made of a version that says more than what was shown: only what was shown may go
    stored = await (await port.call("GET", api, site.auth)).json()
    assert [each["value"] for each in stored["networks"]] == ["10.1.0.0/16", "10.9.0.0/16"]
    tags.append((await port.call("GET", api, site.auth)).headers["ETag"])
    moved = await port.call("PATCH", network, site.auth | {"If-Match": "*"}, json={"location_id": other["id"]})
    assert moved.status == 200
    tags.append((await port.call("GET", api, site.auth)).headers["ETag"])
    before = (await port.call("GET", f"/api/v1/locations/{other['id']}", site.auth)).headers["ETag"]
    assert (await port.call("DELETE", network, site.auth | {"If-Match": "*"})).status == 204
    after = (await port.call("GET", f"/api/v1/locations/{other['id']}", site.auth)).headers["ETag"]
    assert before != after
    assert len(set(tags)) == len(tags)


async def location_of_name(port: AdminPort, site: Site, name: str) -> dict[str, Any]:
    body = {"name": name, "civic_address": {"country": "US", "A1": "NY", "A3": "Albany", "HNO": "2", "RD": "Elm"}}
    found: dict[str, Any] = await (await port.call("POST", "/api/v1/locations", site.auth, json=body)).json()
    return found


async def test_a_refused_form_keeps_what_it_was_made_of(port: AdminPort, site: Site) -> None:
    """S0-05: a bad field does not make an older form a fresh one."""
    location = await location_of(port, site)
    headers = await port.browser(site)
    page = fields_of(await (await port.call("GET", f"/locations/{location['id']}", headers)).text())
    bad = page | {"onsite_number": "banana", "name": "Annex 4"}
    answer = await port.call("POST", f"/locations/{location['id']}", headers, data=bad, allow_redirects=False)
    again = fields_of(await answer.text())
    assert (answer.status, again["name"], again["version"]) == (422, "Annex 4", page["version"])
    assert json.loads(again["shown"])["name"] == "Annex"


async def test_the_form_of_a_pbx_is_merged_by_the_same_way(port: AdminPort, site: Site) -> None:
    """S0-05: what a form was made of is told by `parts.seen` alone; the secret is not in it."""
    headers = await port.browser(site)
    made = await port.call("POST", "/api/v1/pbxs", site.auth, json={"name": "Main PBX", "sources": ["192.0.2.0/24"]})
    assert made.status == 201, await made.text()
    pbx = await made.json()
    path = f"/settings/pbxs/{pbx['id']}"
    page = await (await port.call("GET", path, headers)).text()
    fields = fields_of(page)
    assert json.loads(fields["shown"])["secret"] == ""
    answer = await port.call("POST", path, headers, data=fields | {"sources": "192.0.2.0/24\n198.51.100.0/24"},
                             allow_redirects=False)  # fmt: skip
    assert answer.status == 303
    answer = await port.call("POST", path, headers, data=fields | {"name": "Old PBX"}, allow_redirects=False)
    again = fields_of(await answer.text())
    assert (answer.status, again["name"]) == (412, "Old PBX")
    assert again["sources"].split() == ["192.0.2.0/24", "198.51.100.0/24"]


CASES = {  # path, with the identifier's kind → what the first window changes, and what the second one does
    "/settings": ({"name": "Acme Dental Group"}, {"phone": "+15185550122"}),
    "/settings/address": ({"billing_address.city": "Troy"}, {"billing_address.name": "Acme"}),
    "/settings/numbers": ({"elin_hold_minutes": "200"}, {"elin_hold_minutes": "240"}),
    "/settings/trunks/{trunks}": ({"priority": "7"}, {"name": "Carrier 2"}),
    "/settings/trunk-groups/{trunk-groups}": ({"place.{trunks}": "1"}, {"name": "East coast"}),
    "/settings/escalation": (
        {"steps.0.emails": "duty@acme.example"}, {"steps.0.after_s": "120"},
    ),
    "/settings/chats/{chat-recipients}": ({"name": "Guard"}, {"name": "Night desk"}),
    "/settings/webhooks/{webhooks}": ({"url": "https://localhost/gate"}, {"name": "Gate"}),
    "/settings/mail": ({"host": "192.0.2.1"}, {"sender": "alarm@acme.example"}),
    "/settings/integrations/validation": (
        {"provider": "lost", "url": "https://localhost/lost", "auth": "basic", "username": "acme", "secret": "s3cret"},
        {"username": "acme-2"},
    ),
    "/settings/storage": ({"fetch_log_days": "40"}, {"session_days": "400"}),
    "/settings/security": ({"failed_sign_ins": "7"}, {"inactive_days": "100"}),
    "/settings/branding": ({"hostname": "phones.acme.example"}, {"accent": "#123456"}),
    "/settings/phone-security": ({"sources": "203.0.113.0/24"}, {"resync_per_minute": "20"}),
    "/users/{users}": ({"role": "operator"}, {"name": "Ann Auditor"}),
    "/phonebook/{contacts}": ({"number": "103"}, {"name": "Pharmacy, night"}),
    "/audit/views/{audit-views}": ({"query": "category=Phones"}, {"name": "People"}),
    "/locations/tests": ({"cadence": "weekly"}, {"hour": "4"}),
    "/phones/settings/level?name={locations}": ({"settings.vlan_id": "8"}, {"settings.vlan_priority": "5"}),
    "/phones/settings/level?name=yealink/T54W": ({"settings.vlan_id": "9"}, {"settings.vlan_priority": "4"}),
    "/phones/templates/yealink/time.cfg.j2": ({"body": "{% extends 'time.cfg.j2' %}\n#\n"}, {"note": "as it was"}),
    "/phones/{phones}/settings": ({"settings.vlan_id": "30"}, {"settings.vlan_priority": "3"}),
    "/lines/{lines}": ({"display_name": "Hall"}, {"callback_number": "+15185550100"}),
    "/phones/{phones}": ({"label": "Hall"}, {"placement": "fixed"}),
    "/locations/{locations}": ({"civic_address.RD": "Main"}, {"timezone": "America/Denver"}),
    "/settings/pbxs/{pbxs}": ({"registrar_host": "pbx.example.net"}, {"name": "Office"}),
    "/phones/{phones}/device": ({"model": "yealink/T54W"}, {"mac": "00:15:65:4A:A9:99"}),
}  # fmt: skip
TICKED = {  # boxes and choices that a browser sends beside the fields
    "chats": {"kinds": "emergency", "enabled": "on"},
    "webhooks": {"kinds": "emergency", "enabled": "on"}, "trunks/": {"enabled": "on"}, "branding": {"theme": "own"},
    "views/": {"is_shared": "on"},
}  # fmt: skip


def form_with(page: str, name: str) -> tuple[str, dict[str, str]]:
    """Where the form of that field goes to, and what a browser would send of it."""
    forms = [part.partition("</form>")[0] for part in page.split("<form")[1:]]
    found = [part for part in forms if f'name="{name}"' in part]
    assert found, f"no form has {name}: {page[-1500:]}"
    address = re.search(r'action="([^"]*)"', found[0])
    assert address is not None
    return unescape(address[1]), fields_of(f"<form{found[0]}</form>")


async def test_every_form_of_a_stored_row_brings_both_changes_together(port: AdminPort, site: Site) -> None:
    """S0-05: whoever saves second is told who changed what, finds it in the form beside what they typed, and loses
    nothing by saving once more.
    """
    made = await furnish(port, site)
    view = f"/api/v1/audit-views/{made.ids['audit-views']}"
    shared = await port.call("PATCH", view, site.auth | {"If-Match": "*"}, json={"is_shared": True})
    assert shared.status == 200
    headers = await port.browser(site)
    faults = []
    for template, (their_change, ours) in CASES.items():
        path = template.format(**made.ids)
        theirs = {name.format(**made.ids): text for name, text in their_change.items()}
        ticked = next((more for part, more in TICKED.items() if part in path), {})
        page = await (await port.call("GET", path, headers)).text()
        address, fields = form_with(page, next(iter(ours)))
        sent = fields | ticked
        first = await port.call("POST", address, headers, data=sent | theirs, allow_redirects=False)
        second = await port.call("POST", address, headers, data=sent | ours, allow_redirects=False)
        text = unescape(await second.text())
        if (first.status, second.status) != (303, 412):
            faults.append(f"{path}: {first.status} {second.status}")
            continue
        both = {name: value for name, value in (theirs | ours).items() if name not in {"note", "secret"}}
        again = form_with(text, next(iter(ours)))[1]
        if "Olga Owner changed" not in text or "Nothing was saved yet: look it over" not in text:
            faults.append(f"{path}: nobody is named")
        if any(again[name].strip() != value.strip() for name, value in both.items()):
            faults.append(f"{path}: stands as {again}")
        if set(theirs) != set(ours) and "Taken over from them" not in text:
            faults.append(f"{path}: does not tell what was taken over")
        saved = await port.call("POST", address, headers, data=again | ticked, allow_redirects=False)
        stored = form_with(await (await port.call("GET", path, headers)).text(), next(iter(ours)))[1]
        if saved.status != 303 or any(stored[name].strip() != value.strip() for name, value in both.items()):
            faults.append(f"{path}: saved with {saved.status}, stored {stored}")
    assert not faults, "\n".join(faults)


async def test_function_keys_are_brought_together_key_by_key(port: AdminPort, site: Site) -> None:
    """S0-05: a key that somebody put in front moves every row; the key changed in the older window stays that key."""
    phone = {"mac": "00:15:65:4a:a9:38", "vendor": "yealink", "model": "T46U"}
    path = f"/phones/{(await (await port.call('POST', '/api/v1/phones', site.auth, json=phone)).json())['id']}/keys"
    headers = await port.browser(site)

    async def sent(fields: dict[str, str], *keys: tuple[str, str]) -> tuple[int, dict[str, str]]:
        for at, (position, value) in enumerate(keys):
            row = {"position": position, "kind": "blf" if value else "", "value": value}
            fields = fields | {f"{column}.{at}": text for column, text in row.items()}
        answer = await port.call("POST", path, headers, data=fields, allow_redirects=False)
        return answer.status, {} if answer.status == 303 else fields_of(await answer.text())

    fields = fields_of(await (await port.call("GET", path, headers)).text())
    assert (await sent(fields, ("2", "201"), ("3", "202")))[0] == 303
    older = fields_of(await (await port.call("GET", path, headers)).text())
    assert (await sent(older, ("1", "200"), ("2", "201"), ("3", "202")))[0] == 303
    status, again = await sent(older, ("2", "299"), ("3", "202"))
    keys = [(again[f"position.{at}"], again[f"value.{at}"]) for at in range(3)]
    assert (status, sorted(keys)) == (412, [("1", "200"), ("2", "299"), ("3", "202")])
    assert (await sent(again))[0] == 303


async def test_a_button_of_an_older_window_changes_no_field(port: AdminPort, site: Site) -> None:
    """S0-05: deleting a trunk that somebody changed meanwhile shows it as it is; no box comes back unticked."""
    made = await (await port.call("POST", "/api/v1/trunks", site.auth, json={"name": "A", "host": "192.0.2.1"})).json()
    headers = await port.browser(site)
    path = f"/settings/trunks/{made['id']}"
    changed = {"If-Match": "*"}
    assert (
        await port.call("PATCH", f"/api/v1/trunks/{made['id']}", site.auth | changed, json={"name": "B"})
    ).status == 200
    answer = await port.call("POST", f"{path}/delete", headers, data={"version": "1"}, allow_redirects=False)
    page = unescape(await answer.text())
    assert answer.status == 412
    assert "changed Name (A → B)" in page
    assert "Nothing was done. See how it stands now" in page
    assert re.search(r'name="enabled" value="on" checked', page)


def test_no_form_with_fields_goes_without_what_it_was_made_of() -> None:
    """S0-05: a bare version stands in forms that are one button; every other says what its fields held."""
    has_fields = re.compile(r"parts\.(field|area|select)|<textarea|<select|<input id")
    faults = [
        file.name
        for file in sorted((HERE / "templates").glob("*.j2"))
        for form in re.findall(r"<form(.*?)</form>", file.read_text(), re.DOTALL)
        if 'name="version"' in form and has_fields.search(form)
    ]
    assert faults == []
