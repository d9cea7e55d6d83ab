"""The table of contents: nothing is served by forgetting."""

import pytest
from aiohttp import web

from admin.app import make_admin
from admin.middleware_transaction import ROUTE_OF
from admin.routes import PUBLIC, Operation, Route, all_routes
from engine import migrations
from engine.accounts.scopes import EVERY_SCOPE, SCOPES_OF, Scope, scopes_of_key, scopes_of_role
from engine.audit.events import FACTS, Access, Event
from engine.audit.record import open_audited
from engine.config import Config
from engine.crypto import KeyRing
from engine.db import Database
from engine.models import Role
from tests.standin_edge import StandInEdge
from tests.unit.admin.adminport import AdminPort, open_port

UNAUDITED = {"/healthz", "/readyz", "/metrics"}


async def _handler(_request: web.Request) -> web.Response:
    return web.Response()


def test_a_route_without_scope_or_event_cannot_be_made() -> None:
    """AD-AUTH: default deny begins where the table is written."""
    with pytest.raises(TypeError):
        Route("GET", "/x", _handler, None, Event.HOME_READ)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Route("GET", "/x", _handler, PUBLIC, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Route("GET", "/api/v1/x", _handler, PUBLIC, Event.HOME_READ)


async def test_everything_the_router_serves_is_in_the_table(database: Database, keys: KeyRing) -> None:
    """AD-AUTH: no handler is reachable past the table, save probes and static files."""
    app = make_admin(Config(), keys, database, StandInEdge())
    for route in app.router.routes():
        path = route.resource.canonical if route.resource else ""
        assert route in app[ROUTE_OF] or path in UNAUDITED or path.startswith("/static/"), f"{route.method} {path}"


def test_only_doors_are_public() -> None:
    """AD-AUTH: what anybody may ask for without signing in is a short list."""
    public = {(route.method, route.path) for route in all_routes() if route.scope is PUBLIC}
    assert public == {
        ("GET", "/login"), ("POST", "/login"), ("GET", "/setup"), ("POST", "/setup"), ("GET", "/api/v1/openapi.json"),
        ("GET", "/invitation"), ("POST", "/invitation"),
        ("GET", "/login/code"), ("POST", "/login/code"), ("POST", "/login/mail"), ("GET", "/login/enrol"),
        ("POST", "/login/enrol"), ("GET", "/login/password"), ("POST", "/login/password"),
    }  # fmt: skip


def test_writes_ask_for_writing_scopes_and_reads_for_reading_ones() -> None:
    """AD-AUTH: no route changes anything under a reading scope, nor is a secret shown under one."""
    for route in all_routes():
        if not isinstance(route.scope, Scope):
            continue
        right = route.scope.value.split(":")[1]
        if FACTS[route.event].access is Access.WRITE:
            assert right == "write", f"{route.method} {route.path}"
        if right == "reveal":
            assert route.step_up, f"{route.method} {route.path}"
        if route.method == "GET":
            assert FACTS[route.event].access is Access.READ, f"{route.method} {route.path}"


def test_roles_narrow_from_owner_to_auditor() -> None:
    """AD-AUTH: each role holds what the next one holds; an auditor reads all and changes nothing; S2-14."""
    assert SCOPES_OF[Role.OWNER] == SCOPES_OF[Role.ADMIN] == EVERY_SCOPE
    assert SCOPES_OF[Role.OPERATOR] < SCOPES_OF[Role.ACCOUNT_MANAGER] < SCOPES_OF[Role.ADMIN]
    assert SCOPES_OF[Role.AUDITOR] < SCOPES_OF[Role.ACCOUNT_MANAGER]
    assert Scope.AUDIT_READ in SCOPES_OF[Role.ACCOUNT_MANAGER] - SCOPES_OF[Role.OPERATOR]
    assert all(scope.endswith(":read") for scope in SCOPES_OF[Role.AUDITOR])
    assert scopes_of_role("janitor") == frozenset()


def test_a_keys_scopes_are_what_is_known_of_them() -> None:
    """AD-AUTH: `*` is everything; a name from another version is nothing."""
    assert scopes_of_key(["*"]) == EVERY_SCOPE
    assert scopes_of_key(["phones:read", "coffee:make"]) == {Scope.PHONES_READ}
    assert Scope.ALL not in EVERY_SCOPE


def test_an_operation_says_what_it_answers_with() -> None:
    """AD-API: an answer with a body names its model or its media type."""
    for route in all_routes():
        operation = route.operation
        if isinstance(operation, Operation) and operation.status == 204:
            assert operation.answer is None, route.path


@pytest.mark.enable_socket
async def test_a_migrated_node_with_its_edge_is_ready(port: AdminPort, keys: KeyRing) -> None:
    """AD-11: /readyz is 200 with everything there and 503 naming what is not."""
    assert port.database.sqlite_path is not None
    database = open_audited(f"sqlite+aiosqlite:///{port.database.sqlite_path}.migrated", keys)
    await migrations.migrate(database)
    other = await open_port(database, keys)
    try:
        ready = await other.call("GET", "/readyz", {})
        assert (ready.status, (await ready.json())["status"]) == (200, "ready")
        other.edge.is_up = False
        answer = await other.call("GET", "/readyz", {})
        said = await answer.json()
        assert answer.status == 503
        assert {name for name, check in said["checks"].items() if not check["ok"]} == {"edge"}
        site = await other.site()
        headers = site.auth | {"Idempotency-Key": "once"}
        keys_made = [
            (await (await other.call("POST", "/api/v1/api-keys", headers, json={"name": "n", "scopes": ["*"]})).json())[
                "id"
            ]
            for _ in range(2)
        ]
        assert keys_made[0] == keys_made[1]
        metrics = await (await other.call("GET", "/metrics", {})).text()
        assert "callpoint_edge_up 0.0" in metrics
        assert 'callpoint_admin_requests_total{method="GET",route="/readyz",status="503"} 1.0' in metrics
    finally:
        await other.client.close()
        await database.close()


async def test_the_numbers_of_the_sip_process_are_metrics(port: AdminPort) -> None:
    """E-18: what was refused, shed and lost is counted where a monitor looks."""
    port.edge.workers = (True, False)
    metrics = await (await port.call("GET", "/metrics", {})).text()
    assert "callpoint_edge_calls_unanswered 2.0" in metrics
    assert 'callpoint_edge_refused{what="stranger_403"} 7.0' in metrics
    assert "callpoint_edge_up 1.0" in metrics
    assert 'callpoint_edge_worker_up{worker="0"} 1.0' in metrics
    assert 'callpoint_edge_worker_up{worker="1"} 0.0' in metrics  # one that is down does not hide behind the other
    said = await (await port.call("GET", "/readyz", {})).json()
    assert "1 of 2 SIP processes down" in said["checks"]["edge"]["detail"]
    port.edge.workers = ()
    assert "# TYPE callpoint_edge_refused gauge" in metrics


def test_every_page_is_recorded_as_what_it_shows() -> None:
    """S0-30: an empty form is `form.read`, a list is a list's event, and no two pages go by one list."""
    pages = [route for route in all_routes() if route.method == "GET" and not route.path.startswith("/api/v1/")]
    forms = {
        route.path
        for route in pages
        if route.path.endswith(("/new", "/device")) or route.path in {"/phones/import", "/users/invite"}
    }
    assert {route.path for route in pages if route.event is Event.FORM_READ} == forms
    lists: dict[Event, set[str]] = {}
    for route in pages:
        if route.event.value.endswith(".list"):
            lists.setdefault(route.event, set()).add(route.path)
    twins = {event: paths for event, paths in lists.items() if len(paths) > 1}
    assert twins == {Event.EMERGENCY_CALL_LIST: {"/alerts", "/calls"}}
    assert not [path for paths in lists.values() for path in paths if path.endswith("}")]
