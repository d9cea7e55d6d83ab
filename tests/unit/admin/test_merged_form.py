"""Two windows on one record: what each changed stands in the end, and nothing is undone unseen."""

import json
import re
from html import unescape
from typing import Any

import pytest

from admin.merged_form import Held, merge, packed, sentence_of, unpacked
from tests.unit.admin.adminport import AdminPort, Site

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
    assert "FLR (3 → 4); subnets (10.2.0.0/16 added; 10.1.0.0/16 removed); location (another one)" in said
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
    assert "RD (Elm → Main); subnets (10.2.0.0/16 added)" in page
    assert "civic address FLR (3 → 4)" in page  # what the audit log says of it
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
