"""Two furnished accounts, one of which asks for what the other has; and what stands at every place for an identifier.

The places are read off the OpenAPI document and the route table. One that nothing is said of here raises `KeyError`
with its name, which fails the test that asked: a new identifier is asked with somebody else's from its first day.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import FormData
from sqlalchemy import select

from admin.openapi import document
from admin.routes import Route, all_routes
from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.db import Base, utc_now
from engine.ids import new_id
from engine.models import RememberedDevice, User
from tests.unit.admin.adminport import AdminPort, Site
from tests.unit.admin.furnished import Furnished, furnish

DOCUMENT = document(all_routes(), "tests")
MARK = "Zanzibar"  # stands in everything that the other account has named
ID_PATTERN = r"^[a-z_]{3,20}_[0-9a-z]{26}$"  # of `admin.api.models.Id`: fields of this shape name a record
# What stands at `{id}` of a page, by all of its path before that; of an API route it is that part of the path itself.
PAGES = {
    "/calls": "emergency-calls", "/locations": "locations", "/settings/recipients": "notification-recipients",
    "/settings/pbxs": "pbxs", "/settings/trunks": "trunks", "/settings/trunk-groups": "trunk-groups",
    "/settings/numbers": "numbers", "/settings/api-keys": "api-keys", "/settings/webhooks": "webhooks",
    "/settings/chats": "chat-recipients",
    "/profile/devices": "devices", "/profile/sessions": "sessions", "/accounts": "accounts", "/phones": "phones",
    "/confirmed-locations": "confirmed-locations", "/lines": "lines", "/phonebook": "contacts", "/files": "assets",
    "/phones/rollouts": "rollouts", "/phones/rollouts/dry-run": "rollouts/dry-run", "/notifications": "notifications",
    "/audit": "audit-log", "/audit/views": "audit-views", "/audit/anomalies": "anomalies", "/users": "users",
    "/auth-log/sessions": "sessions",
}  # fmt: skip
# Parameters under other names: what stands there, by name or by route and name. "": it names nothing of an account's.
OTHERS = {
    "phone_id": "phones",
    "other": "twin",
    "session": "sessions",
    ("/users/{id}/sessions/{session}/end", "id"): "owner",
    ("/api/v1/phones/{id}/files/{name}", "name"): "file",
    ("/api/v1/phones/{id}/files/{name}/diff", "name"): "file",
    ("/phones/{id}/files/{name}", "name"): "file",
    "key": "import",
    "guide": "", "resource": "", "kind": "",
    "vendor": "", "name": "",  # of a template that comes with the program: every account has one, each its own changes
}  # fmt: skip
# What stands in a field of a body, by its name or by its last part.
FIELDS = {
    "default_location_id": "locations", "location_id": "locations", "merged_id": "twin", "pbx_id": "pbxs",
    "trunk_group_id": "trunk-groups", "trunk_ids": "trunks", "line_id": "lines", "phone_id": "phones", "lines": "lines",
    "chat_recipient_ids": "chat-recipients",
    "phones": "phones", "/api/v1/phones/bulk ids": "phones", "/api/v1/locations/bulk ids": "locations",
}  # fmt: skip
# Fields of another shape that name a record all the same, and how.
BEATS = {"state", "facts", "seen_at", "ended_at"}  # of what runs in the background: its node says how far it is
SHAPELESS = {"target": "locations", "filters.*": "locations"}


@dataclass(slots=True)
class Tenant:
    """One of the two: its site, what it has, its cookie."""

    site: Site
    made: Furnished
    cookie: dict[str, str]
    records: dict[str, str] = field(default_factory=dict)

    def headers(self, path: str) -> dict[str, str]:
        return self.site.auth if path.startswith("/api/") else self.cookie

    def at(self, kind: str) -> str:
        return self.records[kind]


async def two_tenants(port: AdminPort, site: Site) -> tuple[Tenant, Tenant]:
    """`(asking, other)`: both have one row of everything, and all that the other has named bears `MARK`."""
    other = await tenant_of(port, site)
    await _mark(port, other)
    second = await port.site("Beta Clinic", "owner@beta.example")
    return await tenant_of(port, second, "10.2", "0015654aa939"), other


async def tenant_of(port: AdminPort, site: Site, prefix: str = "10.1", mac: str = "0015654aa938") -> Tenant:
    """That site with one row of everything."""
    made = await furnish(port, site, prefix)
    await _change(port, site, f"phones/{made.ids['phones']}", {"mac": mac})
    cookie = await port.browser(site)
    made.ids["devices"] = device = new_id("remembered_device")
    async with port.database.sessions.begin() as session:
        row = RememberedDevice(
            id=device, user_id=site.owner.id, account_id=site.account.id, secret_hash=device, ip="10.1.0.9",
            created_at=utc_now(),
        )  # fmt: skip
        session.add(row)
        record(session, SYSTEM, Event.USER_UPDATE, await session.get(User, site.owner.id), account_id=site.account.id)
    form = FormData({"kind": "phones"})
    form.add_field("file", f"mac,vendor,model\r\n805ec01234{prefix[-1]}0,yealink,T46U\r\n", filename="phones.csv")
    page = await (await port.call("POST", "/phones/import", cookie, data=form)).text()
    held = re.search(r'action="/phones/import/([^"]+)"', page)
    assert held is not None, page
    names = {"owner": site.owner.id, "accounts": site.account.id, "file": f"{mac}.cfg", "import": held[1]}
    return Tenant(site, made, cookie, records=made.ids | names)


async def _change(port: AdminPort, site: Site, path: str, body: dict[str, Any]) -> None:
    answer = await port.call("PATCH", f"/api/v1/{path}", site.auth | {"If-Match": "*"}, json=body)
    assert answer.status == 200, await answer.text()


async def _mark(port: AdminPort, tenant: Tenant) -> None:
    for kind, name in (
        ("locations", "name"), ("pbxs", "name"), ("trunks", "name"), ("trunk-groups", "name"), ("webhooks", "name"),
        ("chat-recipients", "name"),
        ("lines", "display_name"), ("contacts", "name"), ("audit-views", "name"), ("phones", "label"),
        ("users", "name"),
    ):  # fmt: skip
        await _change(port, tenant.site, f"{kind}/{tenant.at(kind)}", {name: f"{MARK} {kind}"})
    await _change(port, tenant.site, f"locations/{tenant.at('twin')}", {"name": f"{MARK} two"})
    await _change(port, tenant.site, "account", {"name": f"{MARK} Dental"})
    body = f"{{# {MARK} #}}{{% extends 'time.cfg.j2' %}}"
    await _change(port, tenant.site, f"templates/{tenant.at('templates')}", {"body": body})


def made_up(identifier: str) -> str:
    """One of the same form that never was."""
    changed = identifier.translate(str.maketrans("0123456789", "9876543210"))
    if "." in identifier or changed == identifier:  # a file's name; one with no digit in it
        return f"9{identifier[1:]}"
    return identifier[:-12] + changed[-12:] if "_" in identifier else changed


# ------------------------------------------------------------------------------------------ places


def names_in(path: str) -> list[str]:
    return re.findall(r"{(\w+)}", path)


def kind_at(path: str, parameter: str) -> str:
    """What stands at a parameter of a path; "": nothing of any account's.

    Raises:
        KeyError: nobody said so yet.
    """
    if (path, parameter) in OTHERS:
        return OTHERS[path, parameter]
    if parameter != "id":
        return OTHERS[parameter]
    before = path.partition("/{")[0]
    if not before.startswith("/api/v1/"):
        return PAGES[before]
    after = path.partition("{id}")[2]
    special = f"{before}/{{id}}{after}".removeprefix("/api/v1/")
    return special if special in {"rollouts/{id}/cancel", "phones/{id}/release"} else before.removeprefix("/api/v1/")


def filled(path: str, values: dict[str, str]) -> str:
    plain = {"guide": "users", "resource": "phones", "kind": "no_location", "vendor": "yealink", "name": "time.cfg.j2"}
    return re.sub(r"{(\w+)}", lambda found: {**plain, **values}[found[1]], path)


def fields_of(route: Route) -> Iterator[tuple[str, ...]]:
    """Every place of the route's JSON body where an identifier stands, such as `("canary", "phones", "[]")`."""
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    return iter(()) if schema is None else iter(sorted(set(_identifiers(schema, ()))))


def _identifiers(schema: dict[str, Any], place: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for choice in ("anyOf", "oneOf", "allOf"):
        for one in schema.get(choice, ()):
            yield from _identifiers(one, place)
    if schema.get("pattern") == ID_PATTERN or ".".join(place) in SHAPELESS:
        yield place
    for name, one in schema.get("properties", {}).items():
        yield from _identifiers(one, (*place, name))
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _identifiers(schema["additionalProperties"], (*place, "*"))
    if schema.get("type") == "array":
        yield from _identifiers(schema.get("items", {}), (*place, "[]"))


def kind_of_field(route: Route, place: tuple[str, ...]) -> str:
    """Raises `KeyError` for a field that nobody said anything of yet."""
    name = ".".join(place)
    if name in SHAPELESS:
        return SHAPELESS[name]
    last = next(part for part in reversed(place) if part != "[]")
    return FIELDS.get(f"{route.path} {last}") or FIELDS[last]


def put(body: dict[str, Any], place: tuple[str, ...], value: str) -> dict[str, Any]:
    """The body with that value at that place, and the rest as it was."""
    head, *rest = place
    if rest == ["*"]:
        return body | {head: {"location_id": value}}
    if rest == ["[]"]:
        return body | {head: [value]}
    if rest and rest[0] == "[]":
        first = (body.get(head) or [{}])[0]
        return body | {head: [put(first, tuple(rest[1:]), value)]}
    if rest:
        return body | {head: put({}, tuple(rest), value)}
    return body | {head: value}


# ------------------------------------------------------------------------------------------ what there is


async def rows_of(port: AdminPort, account_id: str) -> dict[str, list[str]]:
    """Every row that the database holds of that account, table by table."""
    found = {}
    async with port.database.sessions() as session:
        for table in Base.metadata.sorted_tables:
            owner = table.c.get("account_id", table.c.get("chain"))
            if owner is None and table.name == "account":
                owner = table.c.id
            if owner is not None:
                told = [one for one in table.c if table.name != "background_run" or one.name not in BEATS]
                rows = await session.execute(select(*told).where(owner == account_id))
                found[table.name] = sorted(map(repr, rows))
    return found
