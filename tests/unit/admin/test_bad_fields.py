"""Every bad field at once: those that the schema sees and those that only the operation can."""

import json
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError
from sqlalchemy import func, select

from admin import body_shape
from admin.api.models import Body, Id, InstantIn, Name, Text
from admin.api.reference import openapi
from admin.routes import all_routes
from engine.accounts import operations
from engine.models import Account, Location, Pbx, Role, Transport, User
from tests.factories import add_emergency_call
from tests.unit.admin.adminport import CIVIC, AdminPort, Site
from tests.unit.admin.formbrowser import Browser, add_sam

pytestmark = pytest.mark.enable_socket  # a real listener on loopback


async def faults_of(port: AdminPort, site: Site, method: str, path: str, body: Any) -> dict[str, str]:
    answer = await port.call(method, path, site.auth | {"If-Match": "*"}, json=body)
    told = await answer.json()
    assert answer.status == 422, told
    paths = [fault["field"] for fault in told["errors"]]
    assert len(paths) == len(set(paths)), told
    return {fault["field"]: fault["detail"] for fault in told["errors"]}


async def test_an_account_is_told_every_bad_field_at_once(port: AdminPort, site: Site) -> None:
    """An empty name and an unknown field do not hide a bad time zone, country and e-mail."""
    wished = {"name": "", "email": "z", "timezone": "Mars", "country": "ZZZ", "bogus": 1}
    told = await faults_of(port, site, "PATCH", "/api/v1/account", wished)
    assert told.keys() == wished.keys()
    assert (told["name"], told["bogus"]) == ("Expected at least 1 character.", "No such field.")
    async with port.database.sessions() as session:
        account = await session.get(Account, site.account.id)
        assert account is not None
        assert (account.name, account.timezone) == (site.account.name, site.account.timezone)


async def test_a_location_is_told_its_address_beside_its_shape(port: AdminPort, site: Site) -> None:
    """Faults of the address stand beside a name that is no text, and nothing was made."""
    body = {"name": 5, "civic_address": CIVIC | {"A1": "New York", "country": "USA"}, "geo": "north"}
    told = await faults_of(port, site, "POST", "/api/v1/locations", body)
    assert told.keys() >= {"name", "geo", "civic_address.country"}, told
    assert told["name"] == "Expected text."
    async with port.database.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Location)) == 0


async def test_a_pbx_is_told_its_sources_beside_its_shape(port: AdminPort, site: Site) -> None:
    """A source that is no network is told beside a port out of range and a name that is missing."""
    body: dict[str, Any] = {"sources": ["10.1.0.0/16", "999.1.1.1"], "registrar_port": 70_000, "transport": "smoke"}
    told = await faults_of(port, site, "POST", "/api/v1/pbxs", body)
    assert told.keys() == {"name", "sources[1]", "registrar_port", "transport"}
    assert told["registrar_port"] == "Expected 65535 or less."
    assert told["transport"] == "Expected one of udp, tcp or tls."
    assert told["name"] == "This field is required."
    # one too long is a rule of its own: it is not said that there is none
    told = await faults_of(port, site, "POST", "/api/v1/pbxs", {"name": "A", "tls_name": "a" * 300})
    assert told == {"tls_name": "Expected at most 253 characters."}
    async with port.database.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Pbx)) == 0


async def test_a_user_is_told_a_weak_password_beside_the_rest(port: AdminPort, site: Site) -> None:
    """A password is looked at before the transaction; its fault is told with the others all the same."""
    body = {"email": "nobody", "name": "A", "role": "auditor", "password": "short"}
    told = await faults_of(port, site, "POST", "/api/v1/users", body)
    assert told.keys() == {"email", "password"}
    async with port.database.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(User)) == 1


async def test_a_right_body_that_is_refused_by_its_shape_alone_changes_nothing(port: AdminPort, site: Site) -> None:
    """The good fields of a refused change are not kept."""
    told = await faults_of(port, site, "PATCH", "/api/v1/account", {"name": "Other", "elin_hold_minutes": "long"})
    assert told == {"elin_hold_minutes": "Expected a whole number."}
    async with port.database.sessions() as session:
        account = await session.get(Account, site.account.id)
        assert account is not None
        assert account.name == site.account.name


async def test_the_first_form_of_all_tells_every_bad_field(port: AdminPort) -> None:
    """`/setup` names organization, name, e-mail and password at once; the link is not used up by it."""
    async with port.database.sessions.begin() as session:
        key = await operations.new_setup_link(session)
    browser = Browser(port)
    typed = {"k": key, "account_name": " ", "email": "nobody", "name": "", "password": "short"}
    status, page, _address = await browser.ask("POST", "/setup", **typed)
    assert status == 422
    for name in ("account_name", "email", "name", "password"):
        assert f'aria-describedby="e-f-{name}' in page, name
    good = {"account_name": "Acme", "email": "kim@acme.example", "name": "Kim", "password": "nine lakes hum violet 7"}
    assert (await browser.ask("POST", "/setup", **typed | good))[0] == 303


async def test_a_number_in_a_form_does_not_hide_the_rest(port: AdminPort, site: Site) -> None:
    """A PBX form with a port that is no number also tells the bad network."""
    await add_sam(port, site, role=Role.OWNER)
    browser = Browser(port)
    assert (await browser.sign_in())[0] == 303
    typed = {"name": "A", "sources": "999.1.1.1", "registrar_port": "many", "transport": "udp", "resync_via": "pbx"}
    status, page, _address = await browser.ask("POST", "/settings/pbxs/new", **typed)
    assert (status, "Expected a whole number" in page, "Expected a network such as" in page) == (422, True, True)


async def test_a_place_is_told_the_faults_of_the_shape_that_was_meant(port: AdminPort, site: Site) -> None:
    """Of six shapes a place may have, those that were not meant are not told, nor the names of our classes."""
    body: dict[str, Any] = {"name": "HQ", "civic_address": CIVIC, "geo": {"shape": "ellipse", "latitude": 42.65}}
    told = await faults_of(port, site, "POST", "/api/v1/locations", body)
    assert told.keys() == {"geo.longitude", "geo.semi_major_m", "geo.semi_minor_m"}
    told = await faults_of(port, site, "POST", "/api/v1/locations", body | {"geo": {"shape": "blob"}})
    assert told == {"geo.shape": "Expected one of point, ellipse, ellipsoid, arc_band, polygon, prism."}


@pytest.mark.parametrize("asked", ["ip=127.0.0.1/99", "ip=999.1", "user=kim@acme.example"])
async def test_a_filter_that_can_find_nothing_is_a_bad_field(port: AdminPort, site: Site, asked: str) -> None:
    """S2-41: an audit log without a row is never the answer to an address that is none."""
    answer = await port.call("GET", f"/api/v1/audit-log?{asked}", site.auth)
    assert (answer.status, [fault["field"] for fault in (await answer.json())["errors"]]) == (
        422, [asked.partition("=")[0]],
    )  # fmt: skip
    for good in ("127.0.0.1", "10.1.0.0/16", "2001:db8::", "127.0"):
        assert (await port.call("GET", f"/api/v1/audit-log?ip={good}", site.auth)).status == 200, good


class _Inner(Body):
    city: Text = ""
    size: Annotated[float, Field(gt=0, lt=9)] = 1


class _Whole(Body):
    name: Name
    place: _Inner
    at: InstantIn
    way: Transport
    ids: Annotated[list[Id], Field(min_length=1, max_length=2)]


def _errors(sent: dict[str, Any]) -> list[Any]:
    with pytest.raises(ValidationError) as caught:
        _Whole.model_validate_json(json.dumps(sent))
    return caught.value.errors(include_url=False, include_input=False)


def test_what_remains_keeps_the_good_fields_of_an_object() -> None:
    """Pure: one bad key of an object is left out, the others stay; a missing field has a stand-in of its type."""
    sent = {"place": {"city": "Albany", "size": "big"}, "at": "2026-11-21T20:00:00Z", "way": "udp", "ids": []}
    errors = _errors(sent)
    left = body_shape.remaining(_Whole, sent | {"ids": [f"user_{'0' * 26}"]}, errors)
    assert left is None or left.place == _Inner(city="Albany")
    told = {fault.field: fault.detail for fault in body_shape.faults_of(errors)}
    assert told == {
        "name": "This field is required.", "place.size": "Expected a number.", "ids": "Expected at least 1 of them.",
    }  # fmt: skip


def test_a_time_without_a_zone_is_told_in_our_words() -> None:
    """Pure: what a rule of ours says is said as it is, without the validator's own opening."""
    (error,) = _errors(
        {"name": "A", "place": {}, "at": "2026-11-21T20:00:00", "way": "udp", "ids": [f"user_{'0' * 26}"]}
    )
    assert body_shape.sentence(error) == "Expected a time with its zone, such as 2026-11-21T20:00:00Z."


def _patterns(schema: Any) -> set[str]:
    if isinstance(schema, dict):
        own = {schema["pattern"]} if isinstance(schema.get("pattern"), str) else set()
        return own.union(*(_patterns(value) for value in schema.values()))
    return set().union(*map(_patterns, schema)) if isinstance(schema, list | tuple) else set()


def test_every_pattern_of_every_body_has_words() -> None:
    """No regular expression is shown to a person: each that a body uses has its sentence."""
    bodies = [route.operation.body for route in all_routes() if route.operation and route.operation.body]
    used: set[str] = set().union(*(_patterns(body.__pydantic_core_schema__) for body in bodies))
    error = {"type": "string_pattern_mismatch", "loc": (), "msg": "", "input": ""}
    said = {pattern: body_shape.sentence(error | {"ctx": {"pattern": pattern}}) for pattern in used}  # type: ignore[arg-type]
    assert [pattern for pattern, words in said.items() if words.endswith(pattern)] == []
    assert len(used) >= 5


async def test_an_unknown_language_is_refused_and_one_of_before_stays(port: AdminPort, site: Site) -> None:
    """S0-05: it is told with 911 calls; what is stored already keeps no other field from being saved."""
    told = await faults_of(port, site, "PATCH", "/api/v1/account", {"language": "xx", "country": "ZZZ"})
    assert told.keys() == {"language", "country"}
    for language in ("english", "en_US", "e", "en-", "es-M"):
        assert (await faults_of(port, site, "PATCH", "/api/v1/account", {"language": language})).keys() == {"language"}
    for language in ("es-MX", "zh-Hant-TW", "yue", "EN"):
        change = site.auth | {"If-Match": "*"}
        answer = await port.call("PATCH", "/api/v1/account", change, json={"language": language})
        assert answer.status == 200, await answer.text()


async def test_a_bad_profile_hides_no_other_bad_field_of_a_trunk(port: AdminPort, site: Site) -> None:
    """Over the API and by form."""
    body = {"name": "Carrier", "host": "no host", "profile": "nobody", "port": 70_000}
    assert (await faults_of(port, site, "POST", "/api/v1/trunks", body)).keys() == {"host", "profile", "port"}
    form = {"name": "Carrier", "host": "no host", "profile": "nobody", "transport": "udp", "location_mode": "by_value"}
    text = await (await port.call("POST", "/settings/trunks/new", await port.browser(site), data=form)).text()
    assert 'id="e-f-host"' in text
    assert 'id="e-f-profile"' in text


async def test_a_wrong_present_password_hides_no_bad_new_one(port: AdminPort, site: Site) -> None:
    """AD-AUTH: and says nothing of how the new one is like the present one."""
    browser = await port.browser(site)
    form = {"password": "not the one", "new_password": "short"}
    text = await (await port.call("POST", "/profile/password", browser, data=form)).text()
    assert "This is not your present password." in text
    assert 'id="e-f-new_password"' in text


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("audit-log", {"outcome": "maybe", "ip": "10.0.0.300", "since": "soon"}),
        ("auth-log", {"outcome": "maybe", "end": "never", "since": "soon"}),
        ("fetch-log", {"outcome": "maybe", "reason": "none", "since": "soon"}),
        ("phones", {"status": "gone", "sort": "colour", "seen_since": "soon"}),
    ],
)
async def test_a_list_tells_every_bad_parameter_at_once(
    port: AdminPort, site: Site, path: str, wrong: dict[str, str]
) -> None:
    """A bad `limit`, a cursor that is none and an unknown name hide no bad filter."""
    query = {"limit": "0", "cursor": "x", "colour": "red", **wrong}
    answer = await port.call("GET", f"/api/v1/{path}", site.auth, params=query)
    told = await answer.json()
    assert {fault["field"] for fault in told["errors"]} == query.keys(), told


async def test_a_new_line_of_a_phone_that_is_not_there_is_not_found(port: AdminPort, site: Site) -> None:
    """No phone, and a phone of another account."""
    other = await port.site("Other", "owner@other.example")
    made = await port.call(
        "POST", "/api/v1/phones", other.auth, json={"mac": "00:15:65:00:00:01", "vendor": "yealink", "model": "T46U"}
    )
    browser = await port.browser(site)
    for phone_id in ("anything", (await made.json())["id"]):
        assert (await port.call("GET", f"/phones/{phone_id}/lines/new", browser)).status == 404
        assert (await port.call("POST", f"/phones/{phone_id}/lines/new", browser, data={})).status == 404


async def test_an_ipv4_address_in_the_coat_of_ipv6_is_found(port: AdminPort, site: Site) -> None:
    """S0-46: `::ffff:127.0.0.1` is 127.0.0.1."""
    found = []
    await (await port.call("GET", "/api/v1/users", site.auth)).read()
    for ip in ("127.0.0.1", "::ffff:127.0.0.1", "::FFFF:7f00:1"):
        answer = await port.call("GET", "/api/v1/audit-log", site.auth, params={"ip": ip, "event": "user.list"})
        found.append(len((await answer.json())["data"]))
    assert found[0] >= 1
    assert len(set(found)) == 1


def _bodies(schema: Any, parts: dict[str, Any], text: str, depth: int = 0) -> list[Any]:
    """One value for each place of a schema that takes text, with that text there and nothing else."""
    if depth > 6:
        return []
    if "$ref" in schema:
        return _bodies(parts[schema["$ref"].rpartition("/")[2]], parts, text, depth + 1)
    found = [text] if schema.get("type") == "string" else []
    for inner in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        found += _bodies(inner, parts, text, depth + 1)
    for name, inner in schema.get("properties", {}).items():
        found += [{name: value} for value in _bodies(inner, parts, text, depth + 1)]
    if isinstance(schema.get("items"), dict):
        found += [[value] for value in _bodies(schema["items"], parts, text, depth + 1)]
    if isinstance(schema.get("additionalProperties"), dict):
        found += [{"x": value} for value in _bodies(schema["additionalProperties"], parts, text, depth + 1)]
    return found


def test_a_nul_is_found_in_every_text_of_every_body() -> None:
    """E-11: wherever the document takes text; the pattern of a field need not refuse it."""
    document = openapi()
    parts, asked = document["components"]["schemas"], 0
    for path, operations_of in document["paths"].items():
        for operation in operations_of.values():
            content = operation.get("requestBody", {}).get("content", {}) if isinstance(operation, dict) else {}
            for body in _bodies(content.get("application/json", {}).get("schema", {}), parts, "a\0b"):
                asked += 1
                (fault,) = body_shape.unstorable(json.dumps(body).encode())
                assert fault.detail == "Expected text without NUL characters.", path
    assert asked > 200
    assert body_shape.unstorable(b'{"note": "a \\\\u0000 that is spelled"}') == ()
    assert body_shape.unstorable(b'{"note": "\\u0000') == ()


@pytest.mark.parametrize(("note", "status"), [("a\0b", 422), ("a\ud800b", 400), ("a\u202eb", 200)])
async def test_a_note_that_no_database_takes_is_a_bad_field(
    port: AdminPort, site: Site, note: str, status: int
) -> None:
    """E-11: told as such, and nothing is half done; a mark of direction is text."""
    async with port.database.sessions.begin() as session:
        call = await add_emergency_call(session, site.account)
    path = f"/api/v1/emergency-calls/{call.id}/acknowledge"
    answer = await port.call("POST", path, site.auth, json={"note": note})
    told = await answer.json()
    assert answer.status == status, told
    if status == 422:
        assert [fault["field"] for fault in told["errors"]] == ["note"]
    again = await port.call("POST", path, site.auth, json={"note": "seen"})
    assert (await again.json())["is_first"] is (status != 200)
