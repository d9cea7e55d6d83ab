"""An account's own look and its webhooks in a real browser: colours under the strict policy, no rule of axe broken."""

from collections.abc import Callable
from typing import Any

from playwright.async_api import expect

from tests.browser.looking import looked_at_in_every_way
from tests.browser.site import Site
from tests.unit.accounts.test_logo_and_colours import svg

MARK = "<rect width='120' height='30' fill='#7e22ce'/><circle cx='15' cy='15' r='9' fill='#fff'/>"
LOGO = svg(MARK, 'viewBox="0 0 120 30"')
ACCENT = "() => getComputedStyle(document.querySelector('.primary')).backgroundColor"


async def test_a_colour_and_a_logo_are_seen_at_once(owned: Site, new_page: Callable[..., Any]) -> None:
    """S2-20, S2-23, S2-25: a yellow nobody could read is made darker by day and left alone by night."""
    page = await new_page(owned, color_scheme="light", viewport={"width": 1280, "height": 900})
    await page.goto(f"{owned.url}/settings/branding")
    plain = await page.evaluate(ACCENT)
    await page.get_by_label("A colour of your own").check()
    await page.get_by_label("Your colour").fill("#ffd400")
    await page.get_by_label("Picture").set_input_files(
        {"name": "logo.svg", "mimeType": "image/svg+xml", "buffer": LOGO}
    )
    await page.get_by_label("Host name").fill("phones.acme.example")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Everybody of this account sees it").first).to_be_visible()
    light = await page.evaluate(ACCENT)
    assert light not in {plain, "rgb(255, 212, 0)"}
    await page.emulate_media(color_scheme="dark")
    assert await page.evaluate(ACCENT) == "rgb(255, 212, 0)"
    assert await page.evaluate("() => document.querySelector('.brand.own img').naturalWidth") > 0
    await looked_at_in_every_way(page, "branding")


async def test_a_webhook_is_added_and_its_secret_seen_once(owned: Site, new_page: Callable[..., Any]) -> None:
    """S1-28: from Settings in two clicks; the secret has a button that copies it."""
    page = await new_page(owned)
    await page.goto(f"{owned.url}/settings")
    await page.get_by_role("link", name="Manage integrations").click()
    await page.get_by_role("link", name="Add webhook").click()
    await page.get_by_label("Name").fill("Security desk")
    await page.get_by_label("URL").fill("https://localhost/hook")
    await page.get_by_role("button", name="Add webhook").click()
    await expect(page.locator("#value-secret")).to_contain_text("whsec_")
    await expect(page.get_by_role("button", name="Copy secret")).to_be_visible()
    await looked_at_in_every_way(page, "webhook-new")
    await page.get_by_role("button", name="Send a test").click()
    await expect(page.get_by_text("leads to no public address").first).to_be_visible()
    await expect(page.locator("#value-secret")).to_have_count(0)
    await page.goto(f"{owned.url}/settings/integrations")
    await expect(page.get_by_text("Last try failed").first).to_be_visible()
    await looked_at_in_every_way(page, "integrations")
    await page.goto(f"{owned.url}/settings/integrations/validation")
    await looked_at_in_every_way(page, "validation")
