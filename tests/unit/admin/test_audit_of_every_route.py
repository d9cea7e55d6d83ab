"""Every operation of the API leaves exactly one entry, whatever comes of it; walked over the route table itself."""

import json

import pytest

from admin.routes import PUBLIC, Route, all_routes
from engine.audit.record import PLATFORM
from engine.models import AuditEntry
from tests.unit.admin.adminport import AdminPort, Site
from tests.unit.admin.furnished import API_ROUTES, Furnished, furnish

pytestmark = pytest.mark.enable_socket  # a real listener on loopback


async def _ask(port: AdminPort, made: Furnished, route: Route, headers: dict[str, str], **more: object) -> int:
    extra = {"If-Match": "*"} if route.operation is not None and route.operation.if_match else {}
    sent = made.sent(route)
    extra |= sent.pop("headers", {})
    answer = await port.call(route.method, made.path(route), headers | extra, allow_redirects=False, **sent, **more)
    await answer.read()
    return answer.status


def _faults(route: Route, fresh: list[AuditEntry], status: int, outcome: str) -> list[str]:
    where = f"{route.method} {route.path} ({status})"
    fresh = [entry for entry in fresh if json.loads(entry.entry)["bulk_id"] is None]  # a bulk change has one, and parts
    if len(fresh) != 1:
        return [f"{where}: {len(fresh)} entries {[entry.event for entry in fresh]}"]
    entry = fresh[0]
    told = json.loads(entry.entry)
    found = []
    if (entry.event, entry.outcome, told["status"]) != (route.event.value, outcome, status):
        found.append(f"{where}: expected {route.event} {outcome}, got {entry.event} {entry.outcome} {told['status']}")
    if told["request"]["route"] != route.path or told["request"]["method"] != route.method:
        found.append(f"{where}: names the route {told['request']['method']} {told['request']['route']}")
    if entry.ip != "127.0.0.1" or not told["request"]["id"].startswith("request_"):
        found.append(f"{where}: no client address or request id")
    return found


async def test_every_operation_that_succeeds_leaves_one_entry(port: AdminPort, site: Site) -> None:
    """S0-30: every API call that succeeds is in the account's chain once, in the commit that carried it out."""
    made = await furnish(port, site)
    generate = next(route for route in API_ROUTES if route.path.endswith("/generate"))
    order = sorted(  # the location goes last: nothing else may be placed at it then; what users said goes with phones
        API_ROUTES,
        key=lambda route: (
            route is not generate,
            route.method == "DELETE" and "confirmed" not in route.path,
            "/locations" in route.path,
        ),
    )
    faults = []
    for route in order:
        before = await port.head(site.account.id)
        status = await _ask(port, made, route, site.auth)
        fresh = await port.entries(site.account.id, after=before)
        if status >= 400:
            faults.append(f"{route.method} {route.path} answered {status}")
        faults += _faults(route, fresh, status, "success")
    assert faults == []


async def test_every_operation_that_nobody_signed_leaves_one_denied_entry(port: AdminPort, site: Site) -> None:
    """S0-36: a request with no key and no session is denied and stands in the platform's chain; pages included."""
    made = await furnish(port, site)
    faults = []
    for route in all_routes():
        if route.scope is PUBLIC:
            continue
        before = await port.head(PLATFORM)
        await _ask(port, made, route, {})
        fresh = await port.entries(PLATFORM, after=before)
        faults += _faults(route, fresh, 401, "denied")
        faults += [f"{route.path}: {entry.actor_type}" for entry in fresh if entry.actor_type != "anonymous"]
    assert faults == []


async def test_every_operation_without_its_scope_leaves_one_denied_entry(port: AdminPort, site: Site) -> None:
    """S0-36: a key that lacks the scope is denied, changes nothing, and stands in its account's chain by name."""
    made = await furnish(port, site)
    faults = []
    for route in API_ROUTES:
        if route.scope is PUBLIC:
            continue
        other = "audit:read" if route.scope != "audit:read" else "phones:read"
        narrow = await port.key(site, other)
        before = await port.head(site.account.id)
        status = await _ask(port, made, route, narrow)
        fresh = await port.entries(site.account.id, after=before)
        faults += _faults(route, fresh, 403, "denied")
        faults += [] if status == 403 else [f"{route.method} {route.path} answered {status}"]
        faults += [f"{route.path}: tells changes" for entry in fresh if json.loads(entry.entry)["changes"]]
    assert faults == []


async def test_every_operation_that_fails_leaves_one_entry_and_changes_nothing(port: AdminPort, site: Site) -> None:
    """S0-36: an unknown identifier or a body that is no JSON is a failure, rolled back and recorded once."""
    made = await furnish(port, site)
    made.ids = {name: f"{identity[:-4]}zzzz" for name, identity in made.ids.items()}
    faults = []
    for route in API_ROUTES:
        if "{id}" in route.path:
            asked, expected = {}, 404
        elif route.operation is not None and route.operation.body is not None:
            asked, expected = {"data": b'{"name":'}, 400
        else:
            asked, expected = {"params": {"nonsense": "1"}}, 422
        before = await port.head(site.account.id)
        extra = {"If-Match": "*", "Content-Type": "application/json"}
        answer = await port.call(route.method, made.path(route), site.auth | extra, **asked)
        assert (await answer.json())["status"] == answer.status
        fresh = await port.entries(site.account.id, after=before)
        faults += _faults(route, fresh, answer.status, "failure")
        faults += [] if answer.status == expected else [f"{route.method} {route.path} answered {answer.status}"]
    assert faults == []


async def test_every_page_leaves_one_entry_whatever_comes_of_it(port: AdminPort, site: Site) -> None:
    """S0-30: pages and forms are operations like the API's: shown, refused or carried out, each is there once."""
    made = await furnish(port, site)
    headers = await port.browser(site)
    pages = [route for route in all_routes() if not route.path.startswith("/api/v1/")]
    faults = []
    for route in sorted(pages, key=lambda one: (one.path == "/logout", one.method == "POST", one.path)):
        before = await port.head(site.account.id), await port.head(PLATFORM)
        answer = await port.call(route.method, made.path(route), headers, allow_redirects=False)
        mine = await port.entries(site.account.id, after=before[0])
        fresh = mine + await port.entries(PLATFORM, after=before[1])
        bodies = [json.loads(entry.entry) for entry in fresh]
        told = [
            (body["outcome"], body["request"]["route"]) for body in bodies if body["bulk_id"] is None
        ]  # no stream's end
        if len(told) != 1 or told[0][1] != route.path or answer.status == 500:
            faults.append(f"{route.method} {route.path} ({answer.status}): {told}")
    assert faults == []
    assert len(pages) > 20


async def test_an_unknown_route_is_recorded_without_its_path(port: AdminPort, site: Site) -> None:
    """S0-30: a request for nothing is an API request too; what stood in its path stays out of the log."""
    answer = await port.call("GET", "/api/v1/provisioning-token/secret-in-a-path", site.auth)
    assert answer.status == 404
    assert (await answer.json())["code"] == "no_such_route"
    entry = (await port.entries(site.account.id))[-1]
    assert (entry.event, entry.outcome) == ("route.unknown", "failure")
    assert "secret-in-a-path" not in entry.entry


async def test_no_secret_ever_reaches_the_audit_log(port: AdminPort, site: Site) -> None:
    """S0-50: line and trunk secrets, tokens, API keys and passwords are redacted by their column's type."""
    made = await furnish(port, site)
    secrets = {"s3cret-101", "trunk-secret", site.key}
    for path in ("provisioning-token/generate", "provisioning-token/rotate", "phone-admin-password/rotate"):
        shown = await (await port.call("POST", f"/api/v1/{path}", site.auth)).json()
        secrets |= {shown.get("token", ""), shown.get("phone_admin_password", "")} - {""}
    key = await (await port.call("POST", "/api/v1/api-keys", site.auth, json={"name": "n", "scopes": ["*"]})).json()
    password = "violet tractor hums beneath nine lakes"
    await port.call("POST", "/api/v1/users", site.auth, json={"email": "p@acme.example", "password": password})
    await port.call("GET", f"/api/v1/phones/{made.ids['phones']}/files/0015654aa937.cfg", site.auth)
    secrets |= {key["key"], password}
    everything = "\n".join(entry.entry for entry in await port.entries(site.account.id))
    assert len(secrets) == 8
    assert [secret for secret in secrets if secret in everything] == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_probes_and_static_files_are_not_audited(port: AdminPort, site: Site, method: str) -> None:
    """S0-30: health, metrics and static files are no operations on an account."""
    before = await port.head(PLATFORM)
    for path in ("/healthz", "/readyz", "/metrics", "/static/nothing/here.css"):
        await port.call(method, path, {})
    assert await port.head(PLATFORM) == before
