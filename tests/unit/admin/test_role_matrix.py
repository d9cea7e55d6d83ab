"""Every role on every route of the API and the pages, held against one table in the words of docs/users.md."""

import asyncio
import re
from typing import Any

import pytest

from admin.routes import Route, all_routes
from engine.audit.events import FACTS, Access, Event
from engine.models import Role
from tests.unit.admin.adminport import AdminPort, Site
from tests.unit.admin.two_accounts import filled, names_in

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

# What a role may do in an area: `change` is to look too.
TABLE = """
Area                        | Owner  | Admin  | Account manager | Operator | Auditor
Doors, oneself and help     | change | change | change          | change   | change
The account and its looks   | change | change | change          | look     | look
Webhooks, SMS and chat      | change | change | change          | -        | -
Users, sessions and factors | change | change | change          | -        | look
API keys                    | change | change | look            | -        | look
Policies and servers        | change | change | look            | -        | look
PBXs, trunks and numbers    | change | change | look            | look     | look
Locations and who is told   | change | change | change          | change   | look
Phones, lines, phonebook    | change | change | change          | change   | look
Templates, files, roll-outs | change | change | change          | look     | look
Secrets of phones           | look   | look   | -               | -        | -
Calls, alerts and tests     | change | change | change          | change   | look
Logs, views and hints       | change | change | change          | -        | look
"""
# The routes of an area: what they begin with, the longest that fits counts. `GET …` is of that method alone.
AREAS = {
    "Doors, oneself and help": (
        "/login", "/logout", "/setup", "/invitation", "/prove", "/profile", "/help", "/accounts", "/api",
        "/api/v1/openapi.json",
    ),
    "The account and its looks": (
        "/api/v1/account", "/api/v1/accounts", "/api/v1/branding", "/api/v1/escalation-plan",
        "/settings/escalation", "/settings", "/settings/account",
        "/settings/preferences", "/settings/address", "/settings/branding", "/settings/numbers/hold",
    ),
    "Webhooks, SMS and chat": (
        "/api/v1/webhooks", "/settings/webhooks", "/settings/integrations", "/api/v1/chat-recipients",
        "/settings/chats",
    ),
    "Users, sessions and factors": ("/api/v1/users", "/api/v1/sessions", "/users", "/auth-log/sessions"),
    "API keys": ("/api/v1/api-keys", "/settings/api-keys"),
    "Policies and servers": (
        "/api/v1/security-policy", "/api/v1/mail-settings", "/api/v1/storage-settings", "/api/v1/validation-settings",
        "/settings/security", "/settings/mail", "/settings/storage", "/settings/integrations/validation",
    ),
    "PBXs, trunks and numbers": (
        "/api/v1/pbxs", "/api/v1/trunks", "/api/v1/trunk-groups", "/api/v1/numbers", "/api/v1/number-pools",
        "/settings/pbxs", "/settings/trunks", "/settings/trunk-groups", "/settings/numbers",
    ),
    "Locations and who is told": (
        "/api/v1/locations", "/api/v1/networks", "/api/v1/notification-recipients", "/api/v1/confirmed-locations",
        "/api/v1/location-twins", "/api/v1/exports/locations", "/locations", "/confirmed-locations",
        "/settings/recipients", "/phones/{id}/confirmed",
    ),
    "Phones, lines, phonebook": (
        "/api/v1/phones", "/api/v1/phone-settings", "/api/v1/phone-resyncs", "/api/v1/lines", "/api/v1/contacts",
        "/api/v1/fetch-log", "/api/v1/imports", "/api/v1/exports/phones", "/phones", "/lines", "/phonebook",
        "/api/v1/phones/{id}/files/{name}/diff",
    ),
    "Templates, files, roll-outs": (
        "/api/v1/templates", "/api/v1/rollouts", "/api/v1/assets", "/api/v1/provisioning-policy",
        "/api/v1/provisioning-token/impact", "/api/v1/provisioning-token/rotation", "POST /api/v1/provisioning-token",
        "POST /api/v1/phone-admin-password", "POST /api/v1/phones/{id}/preview", "/phones/templates",
        "/phones/rollouts", "/files", "/settings/phone-security", "/settings/provisioning/rotation",
        "/settings/provisioning/rotate", "POST /settings/provisioning",
    ),
    "Secrets of phones": (
        "GET /api/v1/provisioning-token", "GET /api/v1/phone-admin-password", "/api/v1/phones/{id}/files/{name}",
        "/api/v1/phones/{id}/file-key", "GET /settings/provisioning", "/settings/provisioning/boot",
        "/phones/{id}/qr", "/phones/{id}/file-key",
    ),
    "Calls, alerts and tests": (
        "/api/v1/emergency-calls", "/api/v1/exports/emergency-calls", "/api/v1/notifications", "/api/v1/sweep-plan",
        "/api/v1/sweeps", "/api/v1/location-tests", "/api/v1/drills", "/alerts", "/calls", "/notifications",
        "/locations/tests", "/locations/{id}/drill", "GET /api/v1/alarms", "/api/v1/compliance-report",
        "/api/v1/exports/compliance-report", "/compliance",
    ),
    "Logs, views and hints": (
        "/api/v1/audit-log", "/api/v1/audit-views", "/api/v1/anomalies", "/api/v1/auth-log",
        "/api/v1/exports/audit-log", "POST /api/v1/alarms", "/audit", "/auth-log", "/alarms",
    ),
}  # fmt: skip
# Pages that only show something, but a form or a question whose answer is a change: for who may change.
FORMS = {
    "/locations/{id}/merge/{other}", "/phones/import", "/phones/import/{key}/report.csv",
    "/settings/provisioning/rotate",
}  # fmt: skip
ENDING = {"/logout", "/alerts/display", "/profile/password"}  # of what a session may do from there on
OPERATORS_OF_THE_PLATFORM = {"/accounts/{id}/enter", "/accounts/leave"}  # for them alone, whatever the role


def _verdicts() -> dict[tuple[str, Role], str]:
    head, *rows = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()]
    roles = [Role(name.lower().replace(" ", "_")) for name in head[1:]]
    return {(area, role): verdict for area, *cells in rows for role, verdict in zip(roles, cells, strict=True)}


VERDICTS = _verdicts()


def _area(route: Route) -> str:
    """The one whose longest beginning fits; the plain start of a route is no part of a longer word."""
    if route.path == "/":
        return "Doors, oneself and help"
    fitting = [
        (len(begins), area)
        for area, every in AREAS.items()
        for begins in every
        if re.match(rf"(?:{route.method} )?{re.escape(begins.removeprefix(f'{route.method} '))}(/|$)", route.path)
    ]
    assert fitting, f"{route.method} {route.path} is in no area of the table"
    return max(fitting)[1]


def _may(route: Route, role: Role) -> bool:
    verdict = VERDICTS[_area(route), role]
    is_form = route.event is Event.FORM_READ or route.path in FORMS
    return verdict == "change" or (verdict == "look" and FACTS[route.event].access is Access.READ and not is_form)


def _asked(route: Route, ids: dict[str, str]) -> dict[str, Any]:
    """A request that is refused after the role was let pass, wherever one can be: what it would do, others test."""
    path = filled(route.path, dict.fromkeys(names_in(route.path), "nothing") | ids)
    if not route.path.startswith("/api/"):
        return {"path": path}
    return {"path": path, "params": {"nonsense": "1"}, "data": b"{"}


@pytest.mark.parametrize("role", list(Role))
async def test_every_route_asks_this_role_as_the_table_says(port: AdminPort, site: Site, role: Role) -> None:
    """S2-14: each role on each route, of API and pages alike: 403 for exactly those that the table refuses."""
    asyncio.get_running_loop().set_debug(False)  # two thousand requests; what it finds, the other tests of them find
    whole = await port.browser(site, role)
    faults, refused, passed = [], 0, 0
    for route in all_routes():
        if route.path in OPERATORS_OF_THE_PLATFORM:
            continue
        headers = await port.browser(site, role) if route.path in ENDING else whole
        answer = await port.call(
            route.method, headers=headers, allow_redirects=False,
            **_asked(route, {"guide": "users", "resource": "phones", "id": "phone_nothing"}),
        )  # fmt: skip
        is_stream = answer.content_type == "text/event-stream"  # it goes on for as long as somebody reads
        text = "" if is_stream else await answer.text()
        answer.close()
        port.client.session.cookie_jar.clear()
        may = _may(route, role)
        refused, passed = refused + (not may), passed + may
        if (answer.status == 403) is may or answer.status >= 500:
            faults.append(f"{role} {route.method} {route.path} in {_area(route)!r}: {answer.status} {text[:60]}")
    assert not faults, "\n".join(faults)
    assert passed > 150
    assert (refused > 0) is (role not in {Role.OWNER, Role.ADMIN})


def test_every_area_has_its_row() -> None:
    """S2-14: what is in the table is asked for somewhere."""
    assert {area for area, _role in VERDICTS} == set(AREAS) == {_area(route) for route in all_routes()}
    for area, every in AREAS.items():
        unused = [begins for begins in every if not any(_begins(route, begins) for route in all_routes())]
        assert not unused, f"{area}: {unused}"


def _begins(route: Route, begins: str) -> bool:
    return f"{route.method} {route.path}".startswith(begins) or route.path.startswith(begins)
