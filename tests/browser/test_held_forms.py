"""A form whose proof of a password went stale while it was filled in, in a real browser, with and without a script."""

import datetime as dt
from collections.abc import Callable
from typing import Any

from playwright.async_api import Page, expect
from sqlalchemy import select, update

from engine.accounts import store_platform
from engine.db import utc_now
from engine.models import ApiKey, Session
from tests.browser.site import PASSWORD, Site

NewPage = Callable[..., Any]


async def go_stale(site: Site) -> None:
    async with site.database.engine.begin() as connection:
        await connection.execute(update(Session).values(proven_at=utc_now() - dt.timedelta(minutes=16)))


async def fill_in(page: Page, site: Site) -> None:
    await page.goto(f"{site.url}/settings/mail")
    await page.get_by_label("Host").fill("mail.acme.example")
    await page.get_by_label("Port").fill("2525")
    await page.get_by_label("From").fill("callpoint@acme.example")
    await page.get_by_label("User name").fill("callpoint")
    await page.get_by_label("Password", exact=True).fill("s3cret of the mail server")
    await go_stale(site)
    await page.get_by_role("button", name="Save").click()


async def test_what_was_typed_is_carried_out_once_the_password_was_typed(owned: Site, new_page: NewPage):
    """S0-21: nothing is typed twice; a wrong password loses nothing either; the secret is in no page on the way."""
    page = await new_page(owned)
    await fill_in(page, owned)
    await expect(page.get_by_text("What you sent is kept as you typed it").first).to_be_visible()
    assert "s3cret" not in await page.content()
    await page.get_by_label("Password").fill("not this one")
    await page.get_by_role("button", name="Continue").click()
    await expect(page.get_by_text("This is not your password").first).to_be_visible()
    assert "s3cret" not in await page.content()
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Continue").click()
    await expect(page.get_by_text("Mail server saved.").first).to_be_visible()  # with a script it is sent on by itself
    await expect(page.get_by_label("Host")).to_have_value("mail.acme.example")
    async with owned.database.sessions() as session:
        row = await store_platform.mail_settings(session)
        assert row is not None
        assert (row.port, row.password) == (2525, "s3cret of the mail server")


async def test_without_a_script_one_button_carries_it_out(owned: Site, new_page: NewPage):
    """S0-38, S2-40: by keyboard alone; who thinks better of it leaves it, and nothing was made."""
    page = await new_page(owned, java_script_enabled=False)
    await page.goto(f"{owned.url}/settings/api-keys")
    await page.get_by_label("Name").fill("monitoring")
    await page.get_by_label("Read locations").check()
    await go_stale(owned)
    await page.get_by_role("button", name="Make the key").click()
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="It is you")).to_be_visible()
    async with owned.database.sessions() as session:
        assert await session.scalar(select(ApiKey.id).where(ApiKey.name == "monitoring")) is None
    await expect(page.get_by_role("link", name="Leave it")).to_have_attribute("href", "/settings/api-keys")
    await page.get_by_role("button", name="Carry it out").press("Enter")
    await expect(page.locator("#value-api-key")).to_contain_text("cp_")
    await expect(page.get_by_text("Read locations locations:read").first).to_be_visible()
