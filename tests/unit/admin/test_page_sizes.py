"""Every page is under 150 kB, whatever the account has grown to, and holds no script or style of its own."""

import re
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from admin.routes import all_routes
from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.db import Base
from engine.ids import new_id
from engine.models import Location, NotificationRecipient, Pbx, Role, Trunk, User, UserStatus
from tests.unit.admin.adminport import CIVIC, AdminPort, Site
from tests.unit.admin.two_accounts import filled, kind_at, names_in, tenant_of

MAX_PAGE_BYTES = 150_000
# a script or style in the page itself, or an attribute that is one: what the content security policy refuses
INLINE = re.compile(r"<script(?![^>]*\ssrc=)[^>]*>|<style[\s>]|<[a-z][^<>]*\s(?:style|on[a-z]+)\s*=", re.IGNORECASE)
STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
NOT_ASKED = {  # what ends the session or narrows it, streams, a picture
    "/logout", "/alerts/display", "/alerts/stream", "/audit/live", "/phones/{id}/qr",
}  # fmt: skip
NO_PAGES = ("/alerts/stream", "/audit/live", "/audit/export", ".csv", ".jsonl")
PAGES = tuple(
    route.path
    for route in all_routes()
    if route.method == "GET"
    and "{" not in route.path
    and not route.path.startswith("/api/")
    and not route.path.endswith(NO_PAGES)
)


def add(session: AsyncSession, event: Event, row: Base) -> None:
    session.add(row)
    record(session, SYSTEM, event, row)


@pytest.fixture
async def grown(port: AdminPort, site: Site) -> Site:
    """500 users, 200 locations, 50 recipients, 60 PBXs, 60 trunks, and the entries of their making."""
    of_account = {"account_id": site.account.id}
    async with port.database.sessions.begin() as session:
        for number in range(500):
            who = {
                "name": f"Somebody Of The Night Shift {number:03}",
                "email": f"night.shift.{number:03}@acme.example",
            }
            wished: dict[str, Any] = {"role": Role.OPERATOR, "status": UserStatus.ACTIVE, **who, **of_account}
            add(session, Event.USER_CREATE, User(id=new_id("user"), **wished))
        for number in range(60):
            named = {"name": f"Branch office of the north {number:03}", **of_account}
            add(session, Event.PBX_CREATE, Pbx(id=new_id("pbx"), sources=[f"10.{number}.0.0/16"], **named))
            host = f"sip{number:03}.emergency.carrier.example"
            add(session, Event.TRUNK_CREATE, Trunk(id=new_id("trunk"), host=host, priority=number, **named))
        for number in range(50):
            email = f"front.desk.{number:03}@branches.acme.example"
            add(
                session, Event.RECIPIENT_CREATE,
                NotificationRecipient(id=new_id("recipient"), email=email, **of_account),
            )  # fmt: skip
        for number in range(200):
            place = f"Branch office of the north {number:03}"
            add(
                session,
                Event.LOCATION_CREATE,
                Location(id=new_id("location"), name=place, civic_address=CIVIC, **of_account),
            )
    return site


async def test_every_page_of_a_large_account_is_under_150_kb(port: AdminPort, grown: Site) -> None:
    """Each page, and the audit log at its longest with rows that write alone."""
    browser = await port.browser(grown)
    sizes, inline = {}, {}
    asked = ("/audit?event=location.create", "/audit?event=location.create&limit=100", "/audit?limit=200&action=create")
    for path in (*PAGES, *asked):
        answer = await port.call("GET", path, browser)
        body = await answer.read()
        sizes[path] = len(body)
        if found := INLINE.findall(body.decode()):
            inline[path] = found[:3]
    assert inline == {}
    assert max(sizes.values()) > 70_000, "the lists are there"
    assert {path: size for path, size in sizes.items() if size >= MAX_PAGE_BYTES} == {}


async def test_no_page_of_anything_holds_a_script_or_style_of_its_own(port: AdminPort, site: Site) -> None:
    """S1-01: pages with an id in their path, and what forms answer when they are refused or ask: policy and body."""
    tenant = await tenant_of(port, site)
    view = f"/api/v1/audit-views/{tenant.at('audit-views')}"  # a key made it: the owner sees it when it is shared
    await port.call("PATCH", view, site.auth | {"If-Match": "*"}, json={"is_shared": True})
    faults, seen = [], set()
    # what goes takes nothing from the next one; what was asked for keeps the session
    routes = sorted(
        all_routes(), key=lambda one: (one.method != "GET", one.path.endswith(("/delete", "/merge/{other}")))
    )
    for route in routes:
        if route.path.startswith("/api/v1/") or route.path in NOT_ASKED:
            continue
        ids = {name: tenant.at(kind) for name in names_in(route.path) if (kind := kind_at(route.path, name))}
        answer = await port.call(route.method, filled(route.path, ids), tenant.cookie, allow_redirects=False)
        if answer.content_type != "text/html":
            continue
        body = await answer.text()
        seen.add((route.method, route.path))
        where = f"{route.method} {route.path} ({answer.status})"
        faults += [f"{where} holds {found}" for found in INLINE.findall(body)]
        policy = answer.headers["Content-Security-Policy"]
        faults += [] if policy == STRICT else [f"{where} is under {policy}"]
        faults += [f"{where} has {len(body)} bytes"] if len(body.encode()) >= MAX_PAGE_BYTES else []
        faults += [f"{where} is not shown"] if answer.status != 200 and route.method == "GET" and ids else []
    assert not faults, "\n".join(faults)
    assert len({path for method, path in seen if method == "GET" and "{" in path}) > 25
    assert len({path for method, path in seen if method == "POST"}) > 40


def test_what_the_policy_refuses_is_recognised() -> None:
    """The pattern of the test above: each of these would be found."""
    for bad in (
        "<script>",
        "<script type=module>x",
        "<style>",
        '<p style="x">',
        '<a href="/" onclick="x">',
        "<b ONLOAD = x>",
    ):
        assert INLINE.search(bad), bad
    for good in ('<script type="module" src="/static/x.js">', '<td data-on="x">', '<p class="style">', "<p>one = two"):
        assert not INLINE.search(good), good
