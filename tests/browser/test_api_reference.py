"""`/api`: the reference for people says what the OpenAPI document says, and its commands work."""

import asyncio
import json
import os
import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from playwright.async_api import Page, expect
from sqlalchemy import func, select

from admin.api.reference import openapi
from admin.pages.api import marked, reference
from admin.pages.api_bodies import BODIES
from admin.routes import all_routes
from engine.accounts import operations
from engine.audit.record import SYSTEM
from engine.models import Account, AuditEntry
from tests.browser.looking import THEMES, violations
from tests.browser.site import Site

NewPage = Callable[..., Any]
MAX_PAGE_BYTES = 150_000
CURL_TIMEOUT_S = 20


def operations_of_the_document() -> list[str]:
    return [
        f"{method.upper()} {path}" for path, methods in openapi()["paths"].items() for method in methods
    ]  # fmt: skip


PAGES = ["/api", *(f"/api/{group.name}" for group in reference().groups)]


async def opened(site: Site, new_page: NewPage, path: str = "/api", **options: Any) -> Page:
    page: Page = await new_page(site, **options)
    response = await page.goto(f"{site.url}{path}")
    assert response is not None
    assert response.status == 200
    return page


# Each operation as its head shows it, and the text of each by its id.
SHOWN = """() => [...document.querySelectorAll('details > summary:has(.badge)')].map((head) =>
  `${head.querySelector('.badge').textContent} ${head.querySelector('.mono').textContent}`)"""
TEXTS = """() => Object.fromEntries([...document.querySelectorAll('details > [id]')].map((one) =>
  [one.id, one.parentElement.textContent]))"""


async def test_every_operation_of_the_document_is_on_the_pages_with_its_scope_and_fields(
    owned: Site, new_page: NewPage
):
    """AD-API: nothing served is missing, nothing is told that is not served; the first page lists all of it."""
    page = await opened(owned, new_page)
    listed = await page.locator(".operations li").all_text_contents()
    shown: list[str] = []
    texts: dict[str, dict[str, str]] = {}
    for path in PAGES[1:]:
        await page.goto(f"{owned.url}{path}")
        shown += await page.evaluate(SHOWN)
        texts[path] = await page.evaluate(TEXTS)
    assert sorted(shown) == sorted(operations_of_the_document())
    assert len(listed) == len(shown)
    for path, methods in openapi()["paths"].items():
        for operation in methods.values():
            text = texts[f"/api/{operation['tags'][0]}"][operation["operationId"]]
            said = [operation["summary"], path, operation["x-event"]]
            said += [parameter["name"] for parameter in operation.get("parameters", [])]
            said += [status for status in operation["responses"] if int(status) not in reference().everywhere]
            if "application/json" in operation.get("requestBody", {}).get("content", {}):
                name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                said += openapi()["components"]["schemas"][name]["properties"]
            assert [each for each in said if each not in text] == [], path


async def test_every_link_leads_somewhere_and_each_page_is_small(owned: Site, new_page: NewPage):
    """AD-API: the contents, every type and every operation lead to their place; each page is under 150 kB."""
    page = await opened(owned, new_page)
    ids: dict[str, list[str]] = {}
    links: set[str] = set()
    for path in PAGES:
        await page.goto(f"{owned.url}{path}")
        ids[path] = await page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
        found = await page.evaluate("[...document.querySelectorAll('main a[href]')].map(one => one.href)")
        links |= {link.removeprefix(owned.url) for link in found}
        assert len(set(ids[path])) == len(ids[path]), path
        assert len((await page.content()).encode()) < MAX_PAGE_BYTES, path
    dead = []
    for link in links:
        path, _, anchor = link.partition("#")
        if path.startswith("/api") and not path.startswith("/api/v1"):
            dead += [link] if path not in ids or (anchor and anchor not in ids[path]) else []
    assert dead == []
    await page.get_by_role("navigation", name="API reference").get_by_role("link", name="Trunks").click()
    await expect(page.get_by_role("heading", name="Trunks", exact=True)).to_be_in_viewport()
    missing = await page.goto(f"{owned.url}/api/nothing")
    assert missing is not None
    assert missing.status == 404


async def test_the_copy_button_copies_the_command(owned: Site, new_page: NewPage):
    """AD-API: what is copied is the command, with the key as a variable and the version where one is needed."""
    page = await opened(owned, new_page, "/api/trunks", permissions=["clipboard-read", "clipboard-write"])
    await page.get_by_role("heading", name="Change a trunk").click()
    button = page.get_by_role("button", name="Copy PATCH /api/v1/trunks/{id}")
    await button.click()
    await expect(button).to_have_text("Copied")
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(f'curl -X PATCH "{owned.url}/api/v1/trunks/$ID"')
    assert '-H "Authorization: Bearer $CALLPOINT_KEY"' in copied
    assert '-H "If-Match: $ETAG"' in copied


@pytest.mark.parametrize("width", [1280, 375])
async def test_axe_finds_nothing_and_nothing_scrolls_sideways(owned: Site, new_page: NewPage, width: int):
    """S1-01 (WCAG 2.2 AA): zero violations in both themes and widths."""
    page = await opened(owned, new_page, viewport={"width": width, "height": 900})
    for path in ("/api", "/api/phones", "/api/locations", "/api/emergency-calls"):
        await page.goto(f"{owned.url}{path}")
        await page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        for theme, options in THEMES:
            await page.emulate_media(color_scheme=theme)
            found = [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in await violations(page, **options)]
            assert found == [], (path, theme)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, path


async def test_it_is_found_from_help_and_from_api_keys_and_read_without_script(owned: Site, new_page: NewPage):
    """AD-API: one click from Help and from Settings, API keys; all of it is there without JavaScript."""
    page = await new_page(owned, java_script_enabled=False)
    for path in ("/help/emergency", "/settings/api-keys"):
        await page.goto(owned.url + path)
        await page.get_by_role("link", name="API reference").click()
        await page.wait_for_url(f"{owned.url}/api")
    await page.locator("#post_phone").get_by_role("link").click()
    await page.wait_for_url(f"{owned.url}/api/phones#post_phone")
    await expect(page.locator("#curl-post_phone")).to_be_visible()
    await expect(page.get_by_role("button", name="Copy POST /api/v1/phones")).to_be_hidden()


async def test_nobody_reads_it_without_signing_in_and_each_reading_is_one_entry(owned: Site, new_page: NewPage):
    """S0-30: a page like any other: behind the sign-in, in the audit log once."""
    page = await new_page(owned, signed_in=False)
    await page.goto(f"{owned.url}/api")
    await page.wait_for_url(f"{owned.url}/login?next=%2Fapi")
    await opened(owned, new_page)
    query = select(func.count()).where(AuditEntry.chain == owned.account_id, AuditEntry.event == "openapi.read")
    async with owned.database.sessions() as session:
        assert await session.scalar(query) == 1


async def test_the_commands_on_the_page_work_when_they_are_pasted_into_a_shell(owned: Site, new_page: NewPage):
    """AD-API: make a location, place a network there, read the ETag, change and remove it, with the page's own text."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    page = await opened(owned, new_page)
    read_etag = str(await page.locator("#curl-etag").text_content())
    shell = {"CALLPOINT_KEY": await new_key(owned)}
    location = await pasted(page, "post_location", shell)
    network = await pasted(page, "post_network", shell | {"LOCATION_ID": location["id"]})
    assert network["location_id"] == location["id"]
    phone = await pasted(page, "post_phone", shell)
    shell |= {"ID": phone["id"]}
    await page.goto(f"{owned.url}/api/phones")
    patch = str(await page.locator("#curl-patch_phone").text_content())
    assert json.loads(await ran(f"{read_etag}\n{patch}", shell))["label"] == "Reception, second floor"
    assert json.loads(await ran(patch, shell | {"ETAG": '"1"'}))["status"] == 412
    assert (await pasted(page, "list_phones", shell))["data"][0]["id"] == phone["id"]
    assert (await pasted(page, "get_openapi", {}))["openapi"] == "3.1.0"


async def new_key(site: Site) -> str:
    async with site.database.sessions.begin() as session:
        account = await session.get(Account, site.account_id)
        assert account is not None
        made = await operations.create_api_key(session, SYSTEM, account, name="shell", scopes=("*",))
        return made.clear


async def pasted(page: Page, operation: str, shell: dict[str, str]) -> Any:
    if await page.locator(f"#curl-{operation}").count() == 0:
        group = next(g for g in reference().groups if any(entry.anchor == operation for entry in g.entries))
        await page.goto(f"{page.url.split('/api')[0]}/api/{group.name}")
    return json.loads(await ran(str(await page.locator(f"#curl-{operation}").text_content()), shell))


async def ran(command: str, shell: dict[str, str]) -> str:
    """What a POSIX shell with these variables prints."""
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", command.replace("curl ", "curl -sS --noproxy '*' "),
        env={"PATH": os.environ["PATH"]} | shell, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, complaints = await asyncio.wait_for(process.communicate(), CURL_TIMEOUT_S)
    assert complaints == b""
    return out.decode()


def test_every_request_body_has_an_example_that_the_api_accepts():
    """AD-API: an example with a field that is gone fails here, not at its reader."""
    bodies = {
        route.operation.body.__name__: route.operation.body
        for route in all_routes()
        if route.operation is not None and route.operation.body is not None
    }
    assert set(BODIES) == set(bodies)
    for name, model in bodies.items():
        text = re.sub(r"\$([A-Z_]+)_ID", lambda found: f"{found[1].lower()}_{'0' * 25}a", json.dumps(BODIES[name]))
        model.model_validate_json(text)


def test_every_field_is_told_in_words():
    """AD-API: no row of a table is left without its meaning."""
    shapes = [*reference().shapes, *(entry.body for group in reference().groups for entry in group.entries)]
    silent = [f"{shape.name}.{field.name}" for shape in shapes if shape for field in shape.fields if not field.text]
    assert silent == []


def test_backticks_become_code_and_nothing_else_becomes_markup():
    """S1-45: sentences of the document are text."""
    assert marked("a `<b>` & c") == "a <code>&lt;b&gt;</code> &amp; c"
