"""How phones find Callpoint, and the alerts of phones that have no address: the pages, without a script too."""

import re
from collections.abc import Callable
from typing import Any

from playwright.async_api import expect
from sqlalchemy import select

from engine.audit.record import SYSTEM
from engine.boot_snippet import BootWish, files_of
from engine.config import Config
from engine.models import Account, AuditEntry, Phone
from engine.provisioning import cutover, dhcp, vendors
from engine.provisioning.location_alarms import LocationAlarms
from tests.browser.site import Site
from tests.factories import add_phone

NewPage = Callable[..., Any]
PATH = "/settings/provisioning/boot"


async def test_every_dhcp_server_has_its_snippet_with_the_accounts_url(filled: Site, new_page: NewPage):
    """P-20: with no script: five snippets to open, the URL in each, one entry in the audit log."""
    async with filled.database.sessions() as session:
        account = await session.get(Account, filled.account_id)
        assert account is not None
        token = account.provisioning_token
    page = await new_page(filled, java_script_enabled=False)
    answer = await page.goto(f"{filled.url}{PATH}")
    assert len(await answer.body()) < 150_000
    assert answer.headers["cache-control"] == "no-store"
    url = f"http://127.0.0.1:8080/p/{token}/"
    await expect(page.locator("#value-boot-url")).to_have_text(url)
    await expect(page.get_by_text("No phone reaches 127.0.0.1, which is this server itself.").first).to_be_visible()
    for server, (_file, _template, title) in dhcp.SERVERS.items():
        details = page.locator(f"#dhcp-{server}")
        await expect(details.locator("pre")).to_be_hidden()
        await details.locator("summary").click()
        await expect(details.locator("pre")).to_be_visible()
        (text,) = dhcp.snippet(server, url, vendors.known().profiles.values()).values()
        assert (await details.locator("pre").text_content()).strip() == text.strip(), title
    await expect(page.locator("#menu-cisco_spa")).to_have_text(url + "spa$MA.xml")
    await expect(page.locator("#menu-snom")).to_have_text(url + "{mac}.xml")
    await expect(page.get_by_text("Redirect: RPS, YMCS").first).to_be_visible()
    async with filled.database.sessions() as session:
        seen = await session.scalars(select(AuditEntry.event).where(AuditEntry.chain == filled.account_id))
        assert "provisioning_token.reveal" in seen.all()
    await page.set_viewport_size({"width": 375, "height": 800})
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "with every snippet open"


async def test_during_a_move_what_is_handed_out_is_the_next_url(filled: Site, new_page: NewPage):
    """P-04, P-20: page, DHCP and menus name where phones are being moved to, and say so; nothing names the old one."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}{PATH}")
    await expect(page.get_by_text("This is the next URL")).to_have_count(0)
    old = await page.locator("#value-boot-url").text_content()
    async with filled.database.sessions.begin() as session:
        account = await session.get(Account, filled.account_id)
        assert account is not None
        token = await cutover.begin(session, SYSTEM, account, filled.keys)
    await page.reload()
    await expect(page.locator("#value-boot-url")).to_have_text(f"http://127.0.0.1:8080/p/{token}/")
    await expect(page.get_by_text("This is the next URL: your phones are being moved to it.").first).to_be_visible()
    assert str(old) not in await page.content()
    async with filled.database.sessions.begin() as session:
        account = await session.get(Account, filled.account_id)
        assert account is not None
        wish = BootWish("dnsmasq", base="http://192.0.2.1:8080")
        (text,) = (await files_of(session, SYSTEM, account, Config(), wish)).values()
    assert f"/p/{token}/" in text
    assert str(old).rsplit("/p/", 1)[1] not in text


async def test_without_a_url_the_page_says_what_comes_first(owned: Site, new_page: NewPage):
    page = await new_page(owned)
    await page.goto(f"{owned.url}{PATH}")
    await expect(page.get_by_role("heading", name="No provisioning URL yet")).to_be_visible()


async def test_phones_without_an_address_stand_on_home_and_under_alerts(filled: Site, new_page: NewPage):
    """P-22: counted on Home, listed under Alerts, gone when each has an address; more phones make no bigger page."""
    async with filled.database.sessions.begin() as session:
        account = await session.get(Account, filled.account_id)
        assert account is not None
        account.default_location_id = None
        for number in range(60):
            await add_phone(session, account, mac=f"0015651{number:05x}", label=f"Bare {number:02}")
    await LocationAlarms(filled.database).look()
    page = await new_page(filled)
    note = page.locator("[data-alerts]")
    await page.goto(f"{filled.url}/")
    await expect(note).to_contain_text(re.compile(r"6\d phones have no address: their 911 calls name no place"))
    await note.locator("[data-alarm=no_location]").get_by_role("link").click()
    await expect(page).to_have_url(re.compile(r"/phones/alarms#no_location$"))
    await expect(page.get_by_role("listitem")).to_have_count(50 + await other_items(page))
    await expect(page.get_by_text("The first 50 of 6").first).to_be_visible()
    first = page.locator("main li a").first
    href = await first.get_attribute("href")
    async with filled.database.sessions() as session:
        assert await session.get(Phone, href.removeprefix("/phones/")) is not None


async def other_items(page: Any) -> int:
    """List items of the page's frame."""
    return await page.locator("li").count() - await page.locator("main li").count()
