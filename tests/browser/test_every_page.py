"""Every page of the route table, empty and full, for its owner and for one who may only look, in both themes.

A route that this walk cannot fill, or that is no page, fails it until it is named below with a reason: a new page is
looked at from its first day.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from playwright.async_api import ConsoleMessage, Page, Response

from admin.routes import PUBLIC, Route, all_routes
from engine.accounts import operations
from engine.audit.record import SYSTEM
from engine.models import Account, Role
from tests.browser.conftest import sign_in
from tests.browser.looking import COLOURS, violations
from tests.browser.site import EMAIL, PASSWORD, Site
from tests.unit.admin.test_page_sizes import INLINE, STRICT

pytestmark = pytest.mark.timeout(900)  # about ninety pages a walk; a slow machine is no fault of theirs
NewPage = Callable[..., Any]
MAX_PAGE_BYTES = 150_000
WIDTHS = (1280, 375, 320)  # 320 CSS pixels: WCAG 2.2 SC 1.4.10, a desktop page magnified four times
NO_PAGES = {
    "/phones/import/{key}/report.csv": "a file",
    "/phones/export.csv": "a file",
    "/locations/export.csv": "a file",
    "/phones/{id}/files/{name}": "the page stands in test_phones, the file itself is plain text",
    "/phones/{id}/qr": "a picture",
    "/calls/export.csv": "a file",
    "/compliance/export.csv": "a file",
    "/compliance/export.jsonl": "a file",
    "/calls/export.jsonl": "a file",
    "/audit/export": "a file",
    "/audit/live": "a stream of events",
    "/alerts/stream": "a stream of events",
    "/profile/two-factor": "a second factor half set up, in test_signing_in",
    "/accounts": "for the platform's operator alone, in test_signing_in",
    "/login/code": "a sign-in half done, in test_signing_in",
    "/login/enrol": "a sign-in half done, in test_signing_in",
    "/login/password": "a sign-in half done, in test_signing_in",
}
ASKED = {"/phones/settings/level": "?name=account", "/phones/rollouts/new": "?subject=settings:account"}
# States of pages beside the first one, that a query alone brings about.
STATES = (
    "/audit?group=description&target=nothing", "/audit?target=nothing", "/phones?q=zzz",
    "/calls?q=zzz", "/compliance?verdict=not_met", "/compliance?location_id=none", "/locations?q=zzz",
    "/auth-log?q=zzz", "/nowhere",
)  # fmt: skip
NOT_IN_THE_MENU = {"/prove", "/nowhere"}
CIVIC = {"country": "US", "A1": "NY", "A3": "Albany", "HNO": "120", "RD": "Washington", "STS": "Ave", "PC": "12203"}
DARK_WIDTHS = {1280, 375}  # every rule is asked in the dark; in the light, those whose verdict a theme can change
NARROW = {"runOnly": ["target-size", "scrollable-region-focusable"]}  # what 320 px can change of what 375 px showed
COLOURLESS = {"rules": {"color-contrast": {"enabled": False}}}  # on pages whose colours another walk measures
SEEN = """() => {
  const marks = [...document.querySelectorAll('#menu [aria-current]')].map((one) => one.getAttribute('aria-current'));
  const stops = 'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]';
  return {
    title: document.title, lang: document.documentElement.lang,
    headings: [...document.querySelectorAll('h1')].map((one) => one.textContent.trim()),
    skipsFirst: document.querySelector(stops)?.matches('a.skip[href="#main"]') ?? false,
    main: document.querySelectorAll('main#main').length, marks,
    twins: [...document.querySelectorAll('[id]')].map((one) => one.id).filter((id, at, all) => all.indexOf(id) !== at),
  };
}"""


def pages() -> list[Route]:
    """Every route that is a page, those first that ask for a password typed not long ago."""
    found = [
        route
        for route in all_routes()
        if route.method == "GET" and not route.path.startswith("/api/v1/") and route.path not in NO_PAGES
    ]
    return sorted(found, key=lambda route: not route.step_up)


def asked(route: Route) -> str:
    """The address of a route without parameters in its path."""
    return route.path + ASKED.get(route.path, "")


def test_what_is_no_page_is_a_route_all_the_same():
    """S1-01: a reason for leaving something out is of something that is there."""
    assert NO_PAGES.keys() <= {route.path for route in all_routes() if route.method == "GET"}


@asynccontextmanager
async def api(site: Site) -> AsyncIterator[Callable[..., Any]]:
    """`await ask(method, path, body)`: the API with a key that may do everything."""
    async with site.database.sessions.begin() as session:
        account = await session.get(Account, site.account_id)
        assert account is not None
        made = await operations.create_api_key(session, SYSTEM, account, name="walk", scopes=("*",))
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {made.clear}"}) as client:

        async def ask(method: str, path: str, body: Any = None) -> Any:
            url = f"{site.url}/api/v1/{path}"
            async with client.request(method, url, json=body, headers={"If-Match": "*"}) as answer:
                assert answer.status < 300, await answer.text()
                return await answer.json()

        yield ask


async def addresses(site: Site) -> dict[str, list[str]]:
    """Route with parameters -> the pages of it, of a filled site to which this adds what is missing."""
    ids = site.ids
    async with api(site) as ask:

        async def made(name: str, body: dict[str, Any]) -> str:
            return str((await ask("POST", name, body))["id"])

        async def first(name: str) -> str:
            return str((await ask("GET", f"{name}?limit=1"))["data"][0]["id"])

        other = await made("locations", {"name": "Head quarters", "civic_address": CIVIC})
        user = await made("users", {"email": "second@example.com", "role": "auditor"})
        contact = await made("contacts", {"name": "Pharmacy", "number": "102"})
        group = await made("trunk-groups", {"name": "East", "trunk_ids": [await first("trunks")]})
        hook = await made("webhooks", {"name": "Door", "url": "https://localhost/door"})
        chat = await made("chat-recipients", {"name": "Night guard", "url": "jsons://localhost/guard"})
        change = {"kind": "settings", "target": "account", "after": {"lldp": False}}
        rollout = await made("rollouts", change | {"canary": {"random": 1}})
        dry_run = await made("rollouts/dry-run", change)
        await made("templates", {"vendor": "yealink", "name": "time.cfg.j2", "body": "{% extends 'time.cfg.j2' %}"})
        pbx, trunk, entry = await first("pbxs"), await first("trunks"), await first("audit-log")
        policy = await ask("PATCH", "provisioning-policy", {"encrypt_files": True})
        assert policy["encrypt_files"] is True
    phone = ids["phone"]
    return {
        "/settings/pbxs/{id}": [f"/settings/pbxs/{pbx}"],
        "/settings/trunks/{id}": [f"/settings/trunks/{trunk}"],
        "/settings/trunk-groups/{id}": [f"/settings/trunk-groups/{group}"],
        "/settings/webhooks/{id}": [f"/settings/webhooks/{hook}"],
        "/settings/chats/{id}": [f"/settings/chats/{chat}"],
        "/locations/{id}": [f"/locations/{ids['location']}", f"/locations/{other}"],
        "/help/guides/{guide}": ["/help/guides/users", "/help/guides/phones"],
        "/locations/{id}/merge/{other}": [f"/locations/{ids['location']}/merge/{other}"],
        "/phones/{id}": [f"/phones/{phone}", f"/phones/{ids['waiting_phone']}"],
        "/phones/{id}/settings": [f"/phones/{phone}/settings"],
        "/phones/{id}/keys": [f"/phones/{phone}/keys"],
        "/phones/{id}/device": [f"/phones/{phone}/device"],
        "/phones/{id}/files": [f"/phones/{phone}/files"],
        "/phones/{id}/file-key": [f"/phones/{phone}/file-key"],
        "/phones/{phone_id}/lines/new": [f"/phones/{phone}/lines/new"],
        "/lines/{id}": [f"/lines/{ids['line']}"],
        "/phonebook/{id}": [f"/phonebook/{contact}"],
        "/phones/templates/{vendor}/{name}": [
            "/phones/templates/yealink/time.cfg.j2", "/phones/templates/grandstream/base.xml.j2",
        ],
        "/phones/templates/{vendor}/{name}/history": ["/phones/templates/yealink/time.cfg.j2/history"],
        "/phones/rollouts/{id}": [f"/phones/rollouts/{rollout}"],
        "/phones/rollouts/dry-run/{id}": [f"/phones/rollouts/dry-run/{dry_run}"],
        "/calls/{id}": [f"/calls/{ids[name]}" for name in ("call", "test_call", "lost_call")],
        "/audit/{id}": [f"/audit/{entry}"],
        "/audit/views/{id}": [f"/audit/views/{ids['audit_view']}"],
        "/audit/anomalies/{id}": [f"/audit/anomalies/{ids['anomaly']}"],
        "/users/{id}": [f"/users/{user}"],
        "/api/{resource}": ["/api/phones", "/api/emergency-calls"],
    }  # fmt: skip


class Walk:
    """One browser page led from address to address; what is wrong is gathered, so that one run tells all of it."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page, self.site = page, site
        self.wrong: list[str] = []
        self._said: list[str] = []
        page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._said.append(f"{message.text} ({message.location.get('url')})")

    async def look(self, address: str, *, status: int = 200, colours: bool = True) -> None:
        """Open it wide and light, make it narrow and dark on the same load, and note what is wrong."""
        self._said.clear()
        await self.page.emulate_media(color_scheme="light")
        await self.page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        answer = await self.page.goto(self.site.url + address)
        assert answer is not None
        self.wrong += [f"{address}: {one}" for one in [*await self._of_answer(answer, status), *await self._of_text()]]
        await self._axe(f"{address} light", COLOURS if colours else COLOURLESS)
        if colours:
            await self.page.emulate_media(color_scheme="dark")
        for width in WIDTHS:
            await self.page.set_viewport_size({"width": width, "height": 900})
            if colours:
                await self._axe(f"{address} dark at {width} px", {} if width in DARK_WIDTHS else NARROW)
            if await self.page.evaluate("document.documentElement.scrollWidth") > width:
                self.wrong.append(f"{address}: scrolls sideways at {width} px: {await self._widest(width)}")
        said = [one for one in self._said if status == 200 or "Failed to load resource" not in one]
        self.wrong += [f"{address}: the console says {one}" for one in said]

    async def _of_answer(self, answer: Response, status: int) -> Iterator[str]:
        body = await answer.body() if answer.ok else b""
        path = answer.url.removeprefix(self.site.url)
        policy = answer.headers.get("content-security-policy")
        return iter(
            [
                *(f"holds {found}" for found in INLINE.findall(body.decode())),
                *([f"is under {policy}"] if policy != STRICT else []),
                *([f"answers {answer.status}"] if answer.status != status else []),
                *([f"leads to {path}"] if answer.request.redirected_from is not None else []),
                *([f"has {len(body)} bytes"] if len(body) >= MAX_PAGE_BYTES else []),
            ]
        )

    async def _of_text(self) -> list[str]:
        seen = await self.page.evaluate(SEEN)
        wrong = []
        if not seen["title"].endswith(" · Callpoint") or len(seen["title"]) < 14 or seen["lang"] != "en":
            wrong.append(f"is titled {seen['title']!r} in {seen['lang']!r}")
        if len(seen["headings"]) != 1 or not seen["headings"][0] or seen["main"] != 1:
            wrong.append(f"has the headings {seen['headings']} and {seen['main']} main parts")
        if not seen["skipsFirst"]:
            wrong.append("does not begin with the skip link")
        if seen["twins"]:
            wrong.append(f"names two elements {seen['twins']}")
        address = self.page.url.removeprefix(self.site.url)
        marks = [] if address in NOT_IN_THE_MENU or not await self.page.locator("#menu").count() else ["page"]
        if seen["marks"] != marks:
            wrong.append(f"marks {seen['marks']} in the menu")
        return wrong

    async def _axe(self, where: str, options: dict[str, Any]) -> None:
        for one in await violations(self.page, **options):
            self.wrong.append(f"{where}: {one['id']}: {' '.join(node['html'][:160] for node in one['nodes'])}")

    async def _widest(self, width: int) -> str:
        text = await self.page.evaluate(
            """(width) => [...document.querySelectorAll('main *, header *')]
            .filter((one) => one.getBoundingClientRect().right > width + 1).slice(0, 3)
            .map((one) => one.outerHTML.slice(0, 120)).join(' ')""",
            width,
        )
        return str(text)


async def _walk_all(walk: Walk, known: dict[str, list[str]]) -> None:
    """Every page that needs somebody signed in; a route with parameters has its addresses in `known`."""
    for route in pages():
        if route.scope is PUBLIC:
            continue
        for address in known[route.path] if "{" in route.path else [asked(route)]:
            await walk.look(address)
    for address in STATES:
        await walk.look(address, status=404 if address == "/nowhere" else 200)


async def test_every_page_of_a_filled_site(filled: Site, new_page: NewPage):
    """S0-01, S0-02, S1-01 (WCAG 2.2 AA): whole in both themes at 1280, 375 and 320 px, small, and silent."""
    walk = Walk(await new_page(filled), filled)
    known = await addresses(filled)
    missing = [route.path for route in pages() if "{" in route.path and route.path not in known]
    assert missing == [], "name an address of it in addresses(), or a reason in NO_PAGES"
    await _walk_all(walk, known)
    assert not walk.wrong, "\n".join(walk.wrong)


async def test_every_page_of_a_site_with_an_account_and_nothing_else(owned: Site, new_page: NewPage):
    """S0-01, S1-01: the empty state of every page is as whole as its full one."""
    walk = Walk(await new_page(owned), owned)
    for route in pages():
        if route.scope is not PUBLIC and "{" not in route.path:
            await walk.look(asked(route), colours=False)
    assert not walk.wrong, "\n".join(walk.wrong)


async def test_every_page_for_one_who_may_only_look(filled: Site, new_page: NewPage):
    """S0-34, S1-01: an auditor sees each page without its tools, or a whole page that says why not."""
    await filled.add_user("auditor@example.com", Role.AUDITOR)
    known = await addresses(filled)
    page = await new_page(filled, signed_in=False)
    filled.email = "auditor@example.com"
    await sign_in(page, filled)
    filled.email = EMAIL
    walk, refused = Walk(page, filled), 0
    for route in pages():
        if route.scope is PUBLIC:
            continue
        address = known[route.path][0] if "{" in route.path else asked(route)
        is_refused = (await page.request.get(filled.url + address)).status == 403
        refused += is_refused
        await walk.look(address, status=403 if is_refused else 200, colours=refused == 1)
        if is_refused and not await page.get_by_role("link").count():
            walk.wrong.append(f"{address}: leads nowhere")
    assert not walk.wrong, "\n".join(walk.wrong)
    assert 0 < refused < len(pages()) // 2


async def test_the_doors(owned: Site, new_page: NewPage):
    """S1-01 (WCAG 2.2 AA): the pages before signing in, and those of links that are spent."""
    walk = Walk(await new_page(owned, signed_in=False), owned)
    for address, status in (("/login", 200), ("/setup?k=none", 404), ("/invitation?k=none", 200)):
        await walk.look(address, status=status)
    assert {route.path for route in pages() if route.scope is PUBLIC} == {"/login", "/setup", "/invitation"}
    assert not walk.wrong, "\n".join(walk.wrong)
    assert PASSWORD not in await walk.page.content()
