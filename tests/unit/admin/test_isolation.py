"""No identifier of another account opens, changes or tells anything: each place for one, in paths, bodies and pages."""

import itertools
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import pytest

from admin.routes import PUBLIC, Route, all_routes
from tests.unit.admin.adminport import AdminPort, Site
from tests.unit.admin.furnished import API_ROUTES
from tests.unit.admin.two_accounts import (
    MARK,
    Tenant,
    fields_of,
    filled,
    kind_at,
    kind_of_field,
    made_up,
    names_in,
    put,
    rows_of,
    two_tenants,
)  # fmt: skip

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

CHANGE = {"If-Match": "*"}
# Answers other than 404: for operators of the platform alone, whatever is named; a table is held for a while, and one
# that is not is asked for again with the form to send it.
ANSWERS = {"/accounts/{id}/enter": 403, "/phones/import/{key}": 422, "/phones/import/{key}/report.csv": 422}
# Bodies for fields that cannot stand in the one of `furnished`.
BODIES: dict[str, dict[str, Any]] = {
    "/api/v1/rollouts target": {"kind": "settings", "after": {"lldp": False}, "canary": {"random": 1}},
    "/api/v1/rollouts/dry-run target": {"kind": "settings", "after": {"lldp": False}},
    "/api/v1/phone-settings location_id": {"kind": "location", "settings": {"lldp": False}},
    "/api/v1/phones/bulk filters.*": {"action": "resync"},
    "/api/v1/phones/resync phones.[]": {},
}
# Fields that choose among one's own: somebody else's is no fault there, and chooses nothing.
CHOOSING = {"/api/v1/phones/bulk filters.*", "/api/v1/phones/resync filter.location_id"}


ASKS_FIRST = "/phones/bulk"  # a page that asks whether so many are meant, and looks which when that is confirmed


@dataclass(slots=True)
class Asking:
    """What one account was told when it named things of another's."""

    port: AdminPort
    asking: Tenant
    other: Tenant
    faults: list[str] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)  # of both logs

    async def ask(self, method: str, address: str, *theirs: str, expected: set[int], **sent: Any) -> tuple[int, str]:
        """One request; what is wrong with the answer to it is noted. Returns status and text without those ids."""
        answer = await self.port.call(
            method, address, self.asking.headers(address) | CHANGE | sent.pop("headers", {}), allow_redirects=False,
            **sent,
        )  # fmt: skip
        text = await answer.text()
        for one in theirs:
            text = text.replace(one, "…")
        text = re.sub(r"(request|resync)_[0-9a-z]{26}", r"\1", text)
        where = f"{method} {address} {sent.get('json') or sent.get('data') or ''}: {answer.status}"
        if answer.status not in expected:
            self.faults.append(f"{where} {text[:300]}")
        self.faults += [f"{where} tells {one}" for one in self._not_theirs_to_know(theirs) if one in text]
        await self._look_at_the_logs(where, answer.status)
        return answer.status, text

    def _not_theirs_to_know(self, sent: tuple[str, ...]) -> list[str]:
        return [MARK, *(one for one in self.other.records.values() if one not in sent)]

    async def _look_at_the_logs(self, where: str, status: int) -> None:
        """One entry in the asker's log, of which a refusal is one; and none in the other's."""
        fresh = await self.port.entries(self.asking.site.account.id, after=self.heads[0])
        told = [json.loads(one.entry) for one in fresh]
        outcomes = [one["outcome"] for one in told if one["bulk_id"] is None]
        expected = "success" if status < 400 else "denied" if status == 403 else "failure"
        if outcomes != [expected]:
            self.faults.append(f"{where} is recorded as {outcomes}")
        self.faults += [f"{where} is recorded as of {one['resource']}" for one in told if MARK in json.dumps(one)]
        if await self.port.head(self.other.site.account.id) != self.heads[1]:
            self.faults.append(f"{where} stands in the other account's log")
        self.heads[0] = fresh[-1].seq if fresh else self.heads[0]

    def told_apart(self, where: str, said: list[tuple[int, str]]) -> None:
        if said[0] != said[1]:
            self.faults.append(f"{where} tells theirs from what never was: {said}")

    async def look_anew(self) -> None:
        """What comes now is held against the logs as they are now."""
        self.heads = [await self.port.head(one.site.account.id) for one in (self.asking, self.other)]


async def _asking(port: AdminPort, site: Site) -> Asking:
    asking, other = await two_tenants(port, site)
    both = Asking(port, asking, other)
    await both.look_anew()
    return both


def _mixed(path: str) -> list[dict[str, bool]]:
    """Every way of naming the other account's in that path: parameter -> whether it is theirs; at least one is."""
    named = [name for name in names_in(path) if kind_at(path, name)]
    ways = itertools.product((False, True), repeat=len(named))
    return [dict(zip(named, way, strict=True)) for way in ways if any(way)]


async def test_a_path_with_anything_of_another_accounts_leads_nowhere(port: AdminPort, site: Site) -> None:
    """AD-AUTH, S2-14: every parameter of every path, also one's own beside another's: 404 as for what never was."""
    both = await _asking(port, site)
    before = await rows_of(port, site.account.id)
    cases = [(route, way) for route in all_routes() if route.scope is not PUBLIC for way in _mixed(route.path)]
    for route, way in cases:
        said = []
        for disguise in (str, made_up):
            ids = {}
            for name, is_theirs in way.items():
                kind = kind_at(route.path, name)
                ids[name] = disguise(both.other.at(kind)) if is_theirs else both.asking.at(kind)
            said.append(
                await both.ask(
                    route.method, filled(route.path, ids), *ids.values(), expected={ANSWERS.get(route.path, 404)},
                    **_sent(both.asking, route),
                )
            )  # fmt: skip
        both.told_apart(f"{route.method} {route.path} {way}", said)
    assert not both.faults, "\n".join(both.faults)
    assert await rows_of(port, site.account.id) == before
    assert len(cases) > 140


def _sent(asking: Tenant, route: Route) -> dict[str, Any]:
    """A well-formed body, so that nothing but the path can be at fault."""
    if route.path.startswith("/api/"):
        return asking.made.sent(route)
    return {"data": {"name": "x"}} if route.method == "POST" else {}


async def test_a_body_with_anything_of_another_accounts_is_refused_by_that_field(port: AdminPort, site: Site) -> None:
    """AD-AUTH: every field of the OpenAPI document that names a record; one's own in the same place is no fault."""
    both = await _asking(port, site)
    before = await rows_of(port, site.account.id)
    cases = [(route, place) for route in API_ROUTES for place in fields_of(route)]
    for route, place in cases:
        name, kind = f"{route.path} {'.'.join(place)}", kind_of_field(route, place)
        body = BODIES.get(name, both.asking.made.body(route)) or {}
        if route.path == "/api/v1/phones/bulk" and place[0] == "location_id":
            body = body | {"action": "location"}
        path, said = both.asking.made.path(route), []
        for one in (both.other.at(kind), made_up(both.other.at(kind))):
            expected = {200} if name in CHOOSING else {404} if place == ("ids", "[]") else {422}
            said.append(await both.ask(route.method, path, one, expected=expected, json=put(body, place, one)))
        both.told_apart(f"{route.method} {name}", said)
        if said[0][0] == 422 and not _blames(said[0][1], place):
            both.faults.append(f"{route.method} {name}: {said[0][1]}")
        if said[0][0] == 200 and json.loads(said[0][1])["phones"] != 0:
            both.faults.append(f"{route.method} {name} chose something: {said[0][1]}")
        own = put(body, place, both.asking.at(kind))
        answer = await port.call(route.method, path, both.asking.site.auth | CHANGE, json=own)
        text = await answer.text()
        if answer.status not in {200, 201, 202, 409}:
            both.faults.append(f"{route.method} {name}: one's own is refused: {text}")
        await both.look_anew()
    assert not both.faults, "\n".join(both.faults)
    assert len(cases) > 40
    assert await rows_of(port, site.account.id) == before


def _blames(text: str, place: tuple[str, ...]) -> bool:
    """Whether a problem names that field, or the one it is part of."""
    return any(fault["field"].startswith(place[0]) for fault in json.loads(text).get("errors", ()))


# What an identifier in a query means, by the parameter's name; where it is absent, a location's stands there.
QUERIES = {"actor": "users", "user": "users", "target": "phones", "caller": "phones", "q": "phones"}


async def test_a_query_with_anything_of_another_accounts_finds_nothing(port: AdminPort, site: Site) -> None:
    """AD-AUTH: each parameter of each reading operation, also another account's cursors: nothing of theirs is told."""
    both = await _asking(port, site)
    asked = 0
    for route in API_ROUTES:
        if route.method != "GET" or route.operation is None or route.scope is PUBLIC:
            continue
        path = both.asking.made.path(route)
        for query in route.operation.queries:
            if query.schema.get("type") != "string" or "enum" in query.schema:
                continue
            values = await _their_cursors(both, route) if query.name in {"cursor", "after"} else ()
            theirs = both.other.at(QUERIES.get(query.name, "locations"))
            for value in (*values, theirs):
                await both.look_anew()
                await both.ask("GET", path, value, expected={200, 422}, params={query.name: value})
                asked += 1
    assert not both.faults, "\n".join(both.faults)
    assert asked > 60


async def _their_cursors(both: Asking, route: Route) -> tuple[str, ...]:
    answer = await both.port.call("GET", both.other.made.path(route), both.other.site.auth, params={"limit": "1"})
    following = (await answer.json()).get("next_cursor") if answer.status == 200 else None
    return (following,) if following else ()


# ------------------------------------------------------------------------------------------ what pages hold


class Forms(HTMLParser):
    """The forms of a page: `(method, action, fields)`, each field with every value that it could be sent with."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[tuple[str, str, dict[str, list[str]]]] = []
        self._named: dict[str, int] = {}
        self._at: int | None = None
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        had = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((had.get("method", "get").upper(), had.get("action", ""), {}))
            self._at = len(self.forms) - 1
            self._named[had.get("id", "")] = self._at
        if tag == "select":
            self._select = had.get("name", "")
        at = self._named.get(had["form"]) if "form" in had else self._at
        if at is None:
            return
        fields = self.forms[at][2]
        if tag == "option" and self._select:
            fields.setdefault(self._select, []).append(had.get("value", ""))
        if tag in {"input", "button"} and had.get("name"):
            fields.setdefault(had["name"], []).append(had.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._at = None
        if tag == "select":
            self._select = ""


async def test_a_form_sent_with_anything_of_another_accounts_changes_nothing(port: AdminPort, site: Site) -> None:
    """AD-AUTH: every field of every page's forms that holds one's own identifier, sent with another account's."""
    both = await _asking(port, site)
    before, asked = await rows_of(port, site.account.id), set[tuple[str, str, str]]()
    theirs = {own: both.other.at(kind) for kind, own in both.asking.records.items()}
    for route in all_routes():
        if route.method != "GET" or route.path.startswith("/api/") or route.scope is PUBLIC:
            continue
        ids = {name: both.asking.at(kind) for name in names_in(route.path) if (kind := kind_at(route.path, name))}
        address = filled(route.path, ids)
        async with port.client.get(address, headers=both.asking.cookie) as answer:
            if answer.content_type != "text/html":
                continue
            page = Forms()
            page.feed(await answer.text())
        for method, action, fields in page.forms:
            for name, values in fields.items():
                own = next((value for value in values if value in theirs), None)
                if own is None or (action, name, own) in asked:
                    continue
                asked.add((action, name, own))
                await both.look_anew()
                sent = {other: filling[0] for other, filling in fields.items() if other != name} | {name: theirs[own]}
                how = {"data": sent} if method == "POST" else {"params": sent}
                expected = {404, 409, 422} if method == "POST" and action != ASKS_FIRST else {200, 404, 422}
                await both.ask(method, action or address, theirs[own], expected=expected, **how)
    assert not both.faults, "\n".join(both.faults)
    assert await rows_of(port, site.account.id) == before
    assert len(asked) > 20, asked
