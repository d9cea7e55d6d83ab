"""Rotating on the Provisioning card: the impact before, the push with its live count, cutting over, calling it off."""

import datetime as dt
from collections.abc import Callable
from typing import Any

from playwright.async_api import Page, expect
from sqlalchemy import select

from engine.audit.record import SYSTEM
from engine.db import utc_now
from engine.models import Account, Phone
from engine.provisioning import cutover
from tests.browser.site import Site
from tests.factories import add_phone

NewPage = Callable[..., Any]


async def account_of(site: Site) -> Account:
    async with site.database.sessions() as session:
        account = await session.get(Account, site.account_id)
        assert account is not None
        return account


async def add_fleet(site: Site) -> None:
    """Two more phones that fetched lately, and one that has been silent for a month."""
    now = utc_now()
    async with site.database.sessions.begin() as session:
        account = await session.get(Account, site.account_id)
        assert account is not None
        for at, hours in enumerate((1, 2, 24 * 30)):
            seen = now - dt.timedelta(hours=hours)
            await add_phone(session, account, mac=f"805ec000000{at}", label=f"Desk {at}", last_fetch_at=seen)


async def moved(site: Site, *macs: str) -> None:
    """As if those phones had asked by the next URL."""
    account = await account_of(site)
    async with site.database.sessions.begin() as session:
        for phone in await session.scalars(select(Phone).where(Phone.mac.in_(macs))):
            phone.fetched_token_index, phone.last_fetch_at = account.next_provisioning_token_index, utc_now()


async def card(site: Site, new_page: NewPage, **options: Any) -> Page:
    page: Page = await new_page(site, **options)
    await page.goto(f"{site.url}/settings")
    await page.locator("#provisioning .expander.needs-script").click()
    await expect(page.locator("#value-token")).to_be_visible()
    return page


async def test_the_dialog_tells_whom_a_rotation_leaves_behind(filled: Site, new_page: NewPage):
    """P-04: how many phones, how many lately, who has been silent; at once is what is chosen."""
    await add_fleet(filled)
    page = await card(filled, new_page)
    await page.get_by_role("button", name="Rotate").click()
    dialog = page.get_by_role("dialog", name="Rotate the provisioning token?")
    await expect(dialog).to_contain_text("4 phones must be re-provisioned with the new URL")
    await expect(dialog).to_contain_text("Silent for a week or longer: 80:5E:C0:00:00:02")
    await expect(dialog.get_by_role("radio", name="At once.")).to_be_checked()


async def test_a_push_is_counted_as_phones_move_and_cut_over_when_the_operator_says_so(filled: Site, new_page: NewPage):
    """P-04: "2 of 4 phones moved" while one looks, both URLs shown, the cut asks and names how many stay behind."""
    await add_fleet(filled)
    page = await card(filled, new_page)
    before = await page.locator("#value-token").inner_text()
    await page.get_by_role("button", name="Rotate").click()
    dialog = page.get_by_role("dialog", name="Rotate the provisioning token?")
    await dialog.get_by_role("radio", name="Push, then cut over.").check()
    await dialog.get_by_label("After a push, cut over by itself").uncheck()
    await dialog.get_by_role("button", name="Rotate token").click()
    await expect(page.get_by_text("The present one works until you cut over.").first).to_be_visible()
    await expect(page.locator("#rotation")).to_contain_text("0 of 4 phones moved")
    await expect(page.locator("#value-token")).to_have_text(before)
    following = (await account_of(filled)).next_provisioning_token
    await expect(page.locator("#value-next")).to_contain_text(f"/p/{following}/")
    await moved(filled, "805ec0000000", "805ec0000001")
    await expect(page.locator("#rotation")).to_contain_text("2 of 4 phones moved", timeout=60_000)
    await page.get_by_role("button", name="Cut over now, leaving 2 behind").click()
    ask = page.get_by_role("dialog", name="Cut over now?")
    await expect(ask).to_contain_text("2 phones that have not moved will get nothing")
    await ask.get_by_role("button", name="Cut over now").click()
    await expect(page.get_by_text("Cut over. The old URL is dead.").first).to_be_visible()
    await expect(page.locator("#value-token")).to_have_text(str(following))
    await expect(page.locator("#rotation")).to_contain_text("not heard of since the URL was changed")


async def test_phones_that_have_the_new_url_are_brought_back_rather_than_lost(filled: Site, new_page: NewPage):
    """P-04: calling a push off when phones have moved turns it round; the page says so."""
    await add_fleet(filled)
    async with filled.database.sessions.begin() as session:
        account = await session.get(Account, filled.account_id)
        assert account is not None
        await cutover.begin(session, SYSTEM, account, filled.keys)
    await moved(filled, "805ec0000000")
    page = await card(filled, new_page)
    await page.get_by_role("button", name="Bring the phones back").click()
    await expect(page.get_by_text("Both work until all are back.").first).to_be_visible()
    await expect(page.locator("#rotation")).to_contain_text("Phones are moving back to the URL before")


async def test_progress_and_stragglers_are_read_without_javascript_and_on_a_small_screen(
    filled: Site, new_page: NewPage
):
    """P-04, U-01: by reloading a page with no secret in it; every straggler by MAC and when it asked."""
    await add_fleet(filled)
    async with filled.database.sessions.begin() as session:
        account = await session.get(Account, filled.account_id)
        assert account is not None
        await cutover.begin(session, SYSTEM, account, filled.keys)
        late = (await session.scalars(select(Phone).where(Phone.mac == "805ec0000002"))).one()
        late.straggled_at = utc_now()
    size = {"width": 375, "height": 700}
    page = await new_page(filled, java_script_enabled=False, viewport=size)
    await page.goto(f"{filled.url}/settings/provisioning/rotation")
    await expect(page.get_by_text("0 of 4 phones moved").first).to_be_visible()
    await expect(page.locator(".note.warn")).to_contain_text("1 phone still asks with a URL that was rotated away")
    await expect(page.locator(".note.warn")).to_contain_text("80:5E:C0:00:00:02")
    await moved(filled, "805ec0000000")
    await page.reload()
    await expect(page.get_by_text("1 of 4 phones moved").first).to_be_visible()
    account = await account_of(filled)
    html = await page.content()
    assert str(account.provisioning_token) not in html
    assert str(account.next_provisioning_token) not in html
    assert await page.evaluate("document.documentElement.scrollWidth") <= size["width"]
