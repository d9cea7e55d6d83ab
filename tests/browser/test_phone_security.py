"""The page of phones' security: by keyboard, without a script, in both widths; the key of one phone's files."""

from collections.abc import Callable
from typing import Any

from playwright.async_api import expect
from sqlalchemy import select

from engine.models import Account, Phone
from tests.browser.looking import violations
from tests.browser.site import Site

NewPage = Callable[..., Any]
PATH = "/settings/phone-security"


async def test_ranges_and_encryption_are_set_without_a_script(filled: Site, new_page: NewPage):
    """P-18, P-12: from Settings to the page, a mistake told by its field; phones outside are counted."""
    page = await new_page(filled, java_script_enabled=False)
    await page.goto(f"{filled.url}/settings")
    await page.locator("#phone-security").get_by_role("link", name="Change").click()
    ranges = page.get_by_label("Address ranges")
    await ranges.fill("198.51.100.0/24\nthe office")
    await page.get_by_label("Encrypt each phone").check()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Expected an address range").first).to_be_visible()
    await expect(ranges).to_have_value("198.51.100.0/24\nthe office")
    await expect(page.get_by_label("Encrypt each phone")).to_be_checked()
    await ranges.fill("198.51.100.0/24")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("1 of 1 phone asked last from outside these ranges").first).to_be_visible()
    await page.get_by_label("Turn these phones away all the same").check()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Security of the phones saved. It counts").first).to_be_visible()
    await expect(page.get_by_text("asked last from outside these ranges").first).to_be_visible()
    async with filled.database.sessions() as session:
        account = await session.get(Account, filled.account_id)
        assert account is not None
        assert account.provisioning_policy == {"sources": ["198.51.100.0/24"], "encrypt_files": True}
        assert all(await session.scalars(select(Phone.file_key)))


async def test_the_file_key_of_a_phone_says_where_it_is_typed(filled: Site, new_page: NewPage):
    """P-12: the key, to be copied, and never the URL's token; nothing to find fault with for axe."""
    page = await new_page(filled, viewport={"width": 375, "height": 800}, color_scheme="dark")
    await page.goto(filled.url + PATH)
    await page.get_by_label("Encrypt each phone").check()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Security of the phones saved.").first).to_be_visible()
    await page.goto(f"{filled.url}/phones/{filled.ids['phone']}/files")
    await page.get_by_role("link", name="encrypted files").click()
    await expect(page.get_by_text("sealed/ at its end").first).to_be_visible()
    assert "/p/" not in await page.content()
    assert len(await page.locator("#value-key").text_content()) in {16, 32}
    assert await page.evaluate("document.documentElement.scrollWidth") <= 375
    assert await violations(page) == []
