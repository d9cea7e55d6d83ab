"""The reference page's table of what is logged, row by row: done through the API and found in the log."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from engine.audit.events import FACTS, Access, Category, Event
from tests.unit.admin.adminport import CIVIC, AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback
SECRET = "Kw3-secret-that-nobody-reads"
CSV = b"mac,vendor,model,line1_extension,line1_secret\r\n805ec0aabb10,yealink,T46U,610," + SECRET.encode() + b"\r\n"
TEMPLATE = "{% extends 'time.cfg.j2' %}"
ANNEX = {"name": "Annex", "civic_address": CIVIC | {"HNO": "122"}}
TWIN = {"name": "Annex (old)", "civic_address": CIVIC | {"HNO": "122"}}
SECRETS = ("secret",)


@dataclass(frozen=True, slots=True)
class Done:
    """One operation and what its entry says. `$name` in path and body: the identifier of the row so named.

    `moved`: fields with their values before and after; `parts`: entries of the rows that a bulk operation touched.
    """

    row: str
    method: str
    path: str
    event: Event
    category: Category
    verb: str
    body: Any = None
    moved: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    keeps: str = ""  # the name for the row that was made
    parts: int = 0


E, C = Event, Category
TABLE = (
    Done("S1-10", "POST", "users", E.USER_CREATE, C.USERS, "create", {"email": "sam@acme.example", "role": "auditor"},
         {"email": (None, "sam@acme.example"), "role": (None, "auditor")}, keeps="user"),
    Done("S1-11", "PATCH", "users/$user", E.USER_UPDATE, C.USERS, "update", {"name": "Sam"}, {"name": ("", "Sam")}),
    Done("S1-13", "PATCH", "users/$user", E.USER_UPDATE, C.USERS, "update", {"role": "operator"},
         {"role": ("auditor", "operator")}),
    Done("S1-12", "DELETE", "users/$user", E.USER_DELETE, C.USERS, "delete", None,
         {"status": ("invited", None)}),
    Done("S1-15", "POST", "users/bulk", E.USER_CREATE_MANY, C.USERS, "create",
         {"users": [{"email": "ann@acme.example"}, {"email": "bo@acme.example", "role": "auditor"}]}, parts=2),
    Done("S1-16", "POST", "templates", E.TEMPLATE_CREATE, C.PROVISIONING, "create",
         {"vendor": "yealink", "name": "time.cfg.j2", "body": TEMPLATE}, {"name": (None, "time.cfg.j2")},
         keeps="template"),
    Done("S1-16", "PATCH", "templates/$template", E.TEMPLATE_UPDATE, C.PROVISIONING, "update",
         {"body": TEMPLATE + "\n"}, {"number": (1, 2)}),
    Done("S1-17", "POST", "rollouts", E.ROLLOUT_CREATE, C.PROVISIONING, "create",
         {"kind": "settings", "target": "account", "after": {"lldp": False}, "canary": {"random": 1}},
         {"state": (None, "canary")}, keeps="rollout"),
    Done("S1-18", "POST", "rollouts/$rollout/cancel", E.ROLLOUT_CANCEL, C.PROVISIONING, "update", None,
         {"state": ("canary", "cancelled")}),
    Done("S1-17", "POST", "rollouts", E.ROLLOUT_CREATE, C.PROVISIONING, "create",
         {"kind": "settings", "target": "account", "after": {"lldp": False}, "canary": {"random": 1}},
         {"state": (None, "canary")}, keeps="rollout"),
    Done("S1-17", "POST", "rollouts/$rollout/publish", E.ROLLOUT_PUBLISH, C.PROVISIONING, "update", None,
         {"state": ("canary", "published")}),
    Done("S1-19", "PATCH", "provisioning-policy", E.PROVISIONING_POLICY_UPDATE, C.PROVISIONING, "update",
         {"resync_per_minute": 60}, {"provisioning_policy": ({}, {"resync_per_minute": 60})}),
    Done("S1-23", "PATCH", "security-policy", E.SECURITY_POLICY_UPDATE, C.SECURITY, "update",
         {"password_min_length": 17},
         parts=1),
    Done("S1-24", "POST", "trunks", E.TRUNK_CREATE, C.TELEPHONY, "create",
         {"name": "Carrier", "host": "sip.carrier.example", "secret": SECRET}, {"host": (None, "sip.carrier.example")},
         keeps="trunk"),
    Done("S1-24", "PATCH", "trunks/$trunk", E.TRUNK_UPDATE, C.TELEPHONY, "update",
         {"enabled": False, "secret": SECRET + "2"}, {"enabled": (True, False)}),
    Done("S1-25", "POST", "numbers", E.NUMBER_CREATE, C.TELEPHONY, "create", {"e164": "+15185550160"},
         {"e164": (None, "+15185550160")}, keeps="number"),
    Done("S1-25", "DELETE", "numbers/$number", E.NUMBER_DELETE, C.TELEPHONY, "delete", None,
         {"e164": ("+15185550160", None)}),
    Done("S1-26", "POST", "lines", E.LINE_CREATE, C.TELEPHONY, "create", {"extension": "601", "secret": SECRET},
         {"extension": (None, "601")}, keeps="line"),
    Done("S1-26", "PATCH", "lines/$line", E.LINE_UPDATE, C.TELEPHONY, "update", {"display_name": "Hall"},
         {"display_name": ("", "Hall")}),
    Done("S1-27", "POST", "trunk-groups", E.TRUNK_GROUP_CREATE, C.TELEPHONY, "create",
         {"name": "North", "trunk_ids": ["$trunk"]}, {"name": (None, "North")}, keeps="group"),
    Done("S1-27", "PATCH", "trunk-groups/$group", E.TRUNK_GROUP_UPDATE, C.TELEPHONY, "update", {"name": "South"},
         {"name": ("North", "South")}),
    Done("S1-33", "DELETE", "sessions/$session", E.SESSION_DELETE, C.SECURITY, "delete"),
    Done("S1-35", "POST", "locations", E.LOCATION_CREATE, C.LOCATIONS, "create", ANNEX, {"name": (None, "Annex")},
         keeps="annex"),
    Done("S1-35", "POST", "locations", E.LOCATION_CREATE, C.LOCATIONS, "create", TWIN, {"name": (None, "Annex (old)")},
         keeps="twin"),
    Done("S1-35", "POST", "locations/bulk", E.LOCATION_CHANGE_MANY, C.BULK, "update",
         {"action": "tell", "emails": ["desk@acme.example"]}, parts=3),
    Done("S1-35", "POST", "phones/bulk", E.PHONE_CHANGE_MANY, C.BULK, "update",
         {"action": "location", "ids": ["$phone"], "location_id": "$annex"}, parts=1),
    Done("S1-36", "POST", "imports", E.IMPORT_CREATE, C.BULK, "create", CSV, parts=2),
    Done("S1-38", "PATCH", "locations/$annex", E.LOCATION_UPDATE, C.LOCATIONS, "update", {"trunk_group_id": "$group"},
         {"trunk_group_id": (None, "$group")}),
    Done("S1-39", "PATCH", "account", E.ACCOUNT_UPDATE, C.SETTINGS, "update", {"notification_prefix": "ACME 911"},
         {"notification_prefix": ("", "ACME 911")}),
    Done("S1-40", "POST", "assets?name=bell.wav&kind=ringtone", E.ASSET_CREATE, C.PROVISIONING, "create",
         b"RIFFmusic", {"name": (None, "bell.wav"), "kind": (None, "ringtone")}),
    Done("S1-37", "POST", "locations/$annex/merge", E.LOCATION_MERGE, C.BULK, "update", {"merged_id": "$twin"},
         parts=1),
    Done("S1-38", "PATCH", "locations/$annex", E.LOCATION_UPDATE, C.LOCATIONS, "update", {"trunk_group_id": None},
         {"trunk_group_id": ("$group", None)}),
    Done("S1-27", "DELETE", "trunk-groups/$group", E.TRUNK_GROUP_DELETE, C.TELEPHONY, "delete", None,
         {"name": ("South", None)}),
)  # fmt: skip


def _named(value: Any, ids: dict[str, str]) -> Any:
    """The same with `$name` replaced."""
    if isinstance(value, dict):
        return {key: _named(one, ids) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_named(one, ids) for one in value)
    if isinstance(value, str) and "$" in value:
        return "/".join(ids[part[1:]] if part.startswith("$") else part for part in value.split("/"))
    return value


async def _do(port: AdminPort, site: Site, done: Done, ids: dict[str, str]) -> list[dict[str, Any]]:
    """Carry it out; the entries that came of it."""
    before = len(await port.entries(site.account.id))
    body = _named(done.body, ids)
    sent = {"data": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
    headers = site.auth | {"If-Match": "*"}
    if done.path == "imports":
        headers |= {"Content-Type": "text/csv"}
    answer = await port.call(done.method, f"/api/v1/{_named(done.path, ids)}", headers, **sent)
    text = await answer.text()
    assert answer.status < 300, f"{done.row} {done.method} {done.path}: {text}"
    if done.keeps:
        ids[done.keeps] = json.loads(text)["id"]
    return [json.loads(entry.entry) for entry in (await port.entries(site.account.id))[before:]]


def _faults(done: Done, fresh: list[dict[str, Any]], ids: dict[str, str]) -> list[str]:
    where = f"{done.row} {done.method} {done.path}"
    whole = [entry for entry in fresh if entry["bulk_id"] is None or entry["resource"]["id"] == entry["bulk_id"]]
    parts = [entry for entry in fresh if entry not in whole]
    if len(whole) != 1 or len(parts) != done.parts:
        return [f"{where}: {[entry['event'] for entry in whole]} with parts {[entry['event'] for entry in parts]}"]
    entry = whole[0]
    found = []
    told = (entry["event"], entry["category"], entry["verb"], entry["outcome"])
    if told != (done.event.value, done.category.value, done.verb, "success"):
        found.append(f"{where}: told as {told}")
    for name, (before, after) in _named(done.moved, ids).items():
        if entry["changes"].get(name) != {"before": before, "after": after}:
            found.append(f"{where}: {name} told as {entry['changes'].get(name)}")
    is_end = done.event is Event.SESSION_DELETE  # a session has no fields of an administrator's
    if FACTS[done.event].access is Access.WRITE and not (entry["changes"] or parts or is_end):
        found.append(f"{where}: says nothing of what changed")
    if len({one["bulk_id"] for one in parts}) > 1 or {one["request"]["id"] for one in fresh} != {
        entry["request"]["id"]
    }:
        found.append(f"{where}: the parts are not told as one")
    found += [f"{where}: a secret in {one['event']}" for one in fresh if SECRET in json.dumps(one)]
    return found


async def test_each_row_of_the_reference_is_one_entry_with_its_values(port: AdminPort, site: Site) -> None:
    """S1-10 to S1-13, S1-16 to S1-19, S1-23 to S1-27, S1-33, S1-35 to S1-40: one entry each, its values, no secret.

    Resetting second factors (S1-14, S1-31), passwords (S1-32) and inviting many (S1-15) have tests of their own.
    """
    ids: dict[str, str] = {}
    for name, path, body in (
        ("location", "locations", {"name": "Headquarters", "civic_address": CIVIC}),
        ("phone", "phones", {"mac": "805ec0aabb01", "vendor": "yealink", "model": "T46U"}),
    ):
        answer = await port.call("POST", f"/api/v1/{path}", site.auth, json=body)
        ids[name] = (await answer.json())["id"]
    await port.browser(site)
    listed = await (await port.call("GET", "/api/v1/sessions", site.auth)).json()
    ids["session"] = listed["data"][0]["id"]
    faults = []
    for done in TABLE:
        faults += _faults(done, await _do(port, site, done, ids), ids)
    assert not faults, "\n".join(faults)


def test_every_category_has_events_and_every_event_one_category() -> None:
    """S1-41: the filter by category leaves nothing out and offers nothing empty."""
    used = {facts.category for facts in FACTS.values()}
    assert used == set(Category)
    assert set(FACTS) == set(Event)
    assert {facts.verb for facts in FACTS.values()} == {"create", "read", "update", "delete"}
