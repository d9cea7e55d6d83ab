"""The E911 report as it is looked at, filtered and printed."""

from collections.abc import Callable
from typing import Any

from playwright.async_api import expect

from admin.context import COUNTS
from tests.browser.looking import looked_at_in_every_way
from tests.browser.site import Site

NewPage = Callable[..., Any]


async def test_the_report_is_read_at_every_width_and_in_both_themes(filled: Site, new_page: NewPage):
    """E-16: counts, one row for each device with three findings, evidence that unfolds, the seal."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/compliance")
    await filled.app[COUNTS].whole(filled.account_id)
    await page.reload()
    await expect(page.locator("#counts + p")).to_contain_text("counted")
    rows = page.locator("table.report tbody tr")
    assert await rows.count() > 0
    await expect(rows.first.locator(".finding")).to_have_count(3)
    await rows.first.get_by_text("Evidence").click()
    await expect(rows.first.locator("details")).to_contain_text("Told of a call")
    await expect(page.locator("main")).to_contain_text("It is no legal advice")
    await looked_at_in_every_way(page, "e911-report")


async def test_a_count_leads_to_its_devices_and_back(filled: Site, new_page: NewPage):
    """E-16: the number of a verdict is a link to those that have it; Home says how many are not met and leads to the
    report; a phone's page leads to its own row.
    """
    page = await new_page(filled)
    await page.goto(f"{filled.url}/compliance")
    await filled.app[COUNTS].whole(filled.account_id)
    await page.reload()
    link = page.locator("section[aria-labelledby=counts] tbody tr").first.get_by_role("link").first
    number = int((await link.inner_text()).split()[0].replace(",", ""))
    await link.click()
    await expect(page.locator("table.report tbody tr")).to_have_count(number)
    await page.goto(f"{filled.url}/")
    tile = page.locator(".tile", has_text="E911 report")
    await expect(tile).to_contain_text("of 2 devices")
    await tile.get_by_role("link", name="Not met: see why").click()
    await expect(page.get_by_role("heading", name="E911 report", level=1)).to_be_visible()
    await page.goto(f"{filled.url}/phones/{filled.ids['phone']}")
    await page.get_by_role("link", name="E911 report").last.click()
    await expect(page.locator("table.report tbody tr").first).to_be_visible()
    await expect(page).to_have_url(f"{filled.url}/compliance?phone_id={filled.ids['phone']}")


async def test_on_paper_stand_the_devices_and_not_the_menu(filled: Site, new_page: NewPage):
    """E-16: the printout leaves menu and buttons away, and nothing runs off the sheet."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/compliance/print")
    await expect(page.locator("h1")).to_contain_text("E911 report of")
    await looked_at_in_every_way(page, "e911-printout")
    await page.set_viewport_size({"width": 794, "height": 1123})  # A4 at 96 dots an inch
    await page.emulate_media(media="print", color_scheme="light")
    await expect(page.locator(".sidebar")).to_be_hidden()
    await expect(page.locator("p.actions")).to_be_hidden()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
