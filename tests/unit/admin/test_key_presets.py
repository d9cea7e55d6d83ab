"""What the three types of permissions of an API key reach, walked over the whole table of routes."""

import json
from collections import Counter
from collections.abc import Iterable

import pytest

from admin.routes import PUBLIC, Route, all_routes
from engine.accounts.scopes import EVERY_SCOPE, PRESETS, Preset, scopes_of_key
from engine.audit.events import FACTS, Access
from tests.unit.admin.adminport import AdminPort, Site
from tests.unit.admin.furnished import API_ROUTES, Furnished, furnish

pytestmark = pytest.mark.enable_socket  # a real listener on loopback
TWO_FACTOR = PRESETS[Preset.TWO_FACTOR]


async def key_of(port: AdminPort, site: Site, preset: Preset) -> tuple[str, dict[str, str]]:
    body = {"name": f"a {preset} key", "preset": preset.value}
    answer = await port.call("POST", "/api/v1/api-keys", site.auth, json=body)
    told = await answer.json()
    assert answer.status == 201, told
    return told["id"], {"Authorization": f"Bearer {told['key']}"}


async def asked_in_vain(port: AdminPort, made: Furnished, route: Route, headers: dict[str, str]) -> int:
    """The status of a request that cannot be carried out: whether it is let in at all is what is asked."""
    stream = {"Accept": "text/event-stream"} if route.path.endswith(("/stream", "/live")) else {}
    answer = await port.call(
        route.method, made.path(route), headers | stream | {"If-Match": '"0"'}, params={"nonsense": "1"},
        allow_redirects=False,
    )  # fmt: skip
    answer.close()
    return answer.status


def one_of_each(routes: Iterable[Route]) -> list[Route]:
    """The first route of each scope and method: what a request of it meets holds for all of them."""
    return list({(route.scope, route.method): route for route in reversed([*routes])}.values())


async def test_a_public_api_key_reaches_every_call_of_the_api(port: AdminPort, site: Site) -> None:
    """S2-42: full access: it holds the scope of each route of the API, and no request of any scope is 401 or 403."""
    granted = scopes_of_key(PRESETS[Preset.FULL_ACCESS])
    assert granted == EVERY_SCOPE
    assert [route.path for route in API_ROUTES if route.scope is not PUBLIC and route.scope not in granted] == []
    assert len(API_ROUTES) > 100
    made = await furnish(port, site)
    _key_id, headers = await key_of(port, site, Preset.FULL_ACCESS)
    asked = one_of_each(API_ROUTES)
    answers = [(route.path, await asked_in_vain(port, made, route, headers)) for route in asked]
    assert [(path, status) for path, status in answers if status in {401, 403}] == []
    assert {route.scope for route in asked} >= EVERY_SCOPE


async def test_a_2fa_key_reaches_second_factors_and_every_other_route_is_denied_and_recorded(
    port: AdminPort, site: Site
) -> None:
    """S2-43: every route, API and pages: 403 and one denied entry by the key; those of second factors let it in."""
    key_id, headers = await key_of(port, site, Preset.TWO_FACTOR)
    made = Furnished()
    before = await port.head(site.account.id)
    walked = [route for route in all_routes() if route.scope is not PUBLIC]
    answers = [(route, await asked_in_vain(port, made, route, headers)) for route in walked]
    entries = [json.loads(one.entry) for one in await port.entries(site.account.id, after=before)]
    told = Counter((one["request"]["method"], one["request"]["route"]) for one in entries if one["outcome"] == "denied")
    closed = [(route.method, route.path) for route in walked if route.scope not in TWO_FACTOR]
    assert told == Counter(closed)
    assert {one["actor"]["id"] for one in entries} == {key_id}
    assert {status for route, status in answers if route.scope not in TWO_FACTOR} == {403}
    let_in = [(route.method, route.path) for route, status in answers if status not in {401, 403}]
    assert let_in == [(route.method, route.path) for route in walked if route.scope in TWO_FACTOR]
    assert ("POST", "/api/v1/users/{id}/reset-2fa") in let_in


async def test_a_web_sdk_key_reads_the_directory_and_places_and_changes_nothing(port: AdminPort, site: Site) -> None:
    """S2-44: safe to stand in a page: of all routes it holds readings of phones and locations; they tell no secret."""
    made = await furnish(port, site)
    _key_id, headers = await key_of(port, site, Preset.WEB_SDK)
    granted = scopes_of_key(PRESETS[Preset.WEB_SDK])
    reached = [route for route in API_ROUTES if route.scope in granted]
    assert {FACTS[route.event].access for route in reached} == {Access.READ}
    assert not [route.path for route in reached if route.step_up]
    for route in one_of_each(route for route in all_routes() if route.scope not in {PUBLIC, *granted}):
        assert await asked_in_vain(port, made, route, headers) == 403, route.path
    answers = [
        await (await port.call("GET", made.path(route), headers)).text() for route in reached if route.method == "GET"
    ]
    everything = "\n".join(answers)
    assert "Headquarters" in everything
    assert not [secret for secret in ("s3cret-101", "trunk-secret", site.key) if secret in everything]


@pytest.mark.parametrize("preset", [Preset.TWO_FACTOR, Preset.WEB_SDK])
async def test_a_narrow_preset_is_combined_with_nothing(port: AdminPort, site: Site, preset: Preset) -> None:
    """S2-44: nobody makes a key for a page that may do everything."""
    for more in (["*"], ["account:write"]):
        body = {"name": "both", "preset": preset.value, "scopes": more}
        answer = await port.call("POST", "/api/v1/api-keys", site.auth, json=body)
        assert answer.status == 422
    keys = json.loads(await (await port.call("GET", "/api/v1/api-keys", site.auth)).text())["data"]
    assert "both" not in {key["name"] for key in keys}
