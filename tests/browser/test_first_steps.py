"""The first five minutes: set-up link, signing in and out, and the checklist that only real events tick."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

from playwright.async_api import Page, expect
from sqlalchemy import select

from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.models import Account, Location
from tests.browser.site import PASSWORD, Site
from tests.factories import HEADQUARTERS

NewPage = Callable[..., Any]


async def steps_done(page: Page) -> list[str]:
    return [str(await item.get_attribute("data-step")) for item in await page.locator("[data-step].done").all()]


async def test_the_set_up_link_makes_the_account_once_and_signs_its_owner_in(site: Site, new_page: NewPage):
    """S0-24 (first five minutes): set-up, then Home with seven open steps; the link is dead afterwards."""
    link = await site.new_setup_link()
    page = await new_page(site, signed_in=False)
    await page.goto(link)
    await page.get_by_label("Organization").fill("Acme Dental")
    await page.get_by_label("Your name").fill("Olive Owner")
    await page.get_by_label("Your e-mail").fill("olive@example.com")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Make the account").click()
    await page.wait_for_url(f"{site.url}/")
    await expect(page.get_by_text("0 of 7 done").first).to_be_visible()
    assert await steps_done(page) == []
    await page.goto(link)
    await expect(page.get_by_role("heading", name="Callpoint is set up already")).to_be_visible()


async def test_a_weak_password_and_a_bad_address_are_told_beside_their_fields_and_nothing_is_made(
    site: Site, new_page: NewPage
):
    """S0-13 (errors beside fields): the set-up form keeps what was typed and says what to do."""
    link = await site.new_setup_link()
    page = await new_page(site, signed_in=False)
    await page.goto(link)
    await page.get_by_label("Organization").fill("Acme Dental")
    await page.get_by_label("Your name").fill("Olive")
    await page.get_by_label("Your e-mail").fill("olive@example.com")
    await page.get_by_label("Password").fill("short")
    await page.get_by_role("button", name="Make the account").click()
    await expect(page.get_by_text("Expected at least 15 characters, got 5").first).to_be_visible()
    await expect(page.get_by_label("Organization")).to_have_value("Acme Dental")
    await expect(page.get_by_label("Password")).to_have_attribute("aria-invalid", "true")


async def test_a_wrong_password_is_refused_in_a_sentence_and_the_right_one_leads_on(owned: Site, new_page: NewPage):
    """S1-67: a failed sign-in says no more than that; the page asked for first is shown after the right password."""
    page = await new_page(owned, signed_in=False)
    await page.goto(f"{owned.url}/phones")
    await page.wait_for_url(f"{owned.url}/login?next=%2Fphones")
    await page.get_by_label("E-mail").fill(owned.email)
    await page.get_by_label("Password").fill("not this one at all")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("do not belong together")
    await page.get_by_label("Password").fill(owned.password)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(f"{owned.url}/phones")


async def test_signing_out_ends_the_session(owned: Site, new_page: NewPage):
    """S1-62: after signing out the same browser is asked to sign in again."""
    page = await new_page(owned)
    await page.goto(owned.url)
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_text("You are signed out.").first).to_be_visible()
    await page.goto(f"{owned.url}/settings")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_a_link_cannot_lead_to_another_site_after_signing_in(owned: Site, new_page: NewPage):
    """S1-31 (open redirect): only addresses of our own are followed."""
    page = await new_page(owned, signed_in=False)
    for address in ("https://evil.example/", "//evil.example/", "/\\evil.example/"):
        await page.goto(f"{owned.url}/login?next={address}")
        await expect(page.locator("input[name=next]")).to_have_value("/")


async def test_the_checklist_is_ticked_by_what_really_happened(owned: Site, new_page: NewPage):
    """S0-09: the first location and recipient, added in the pages, tick their steps; the next one stands out."""
    page = await new_page(owned)
    await page.goto(owned.url)
    await page.get_by_role("link", name="Add location").click()
    await page.get_by_label("Name").fill("Headquarters")
    await page.get_by_label("House number").fill("120")
    await page.get_by_label("Street", exact=True).fill("Washington")
    await page.get_by_label("City").fill("Albany")
    await page.get_by_label("State or province").fill("NY")
    await page.get_by_label("Subnets of this place").fill("10.4.12.0/24")
    await page.get_by_role("button", name="Add location").click()
    await expect(page.get_by_text("Location added.").first).to_be_visible()
    await page.goto(f"{owned.url}/")
    assert await steps_done(page) == ["location"]
    await page.get_by_role("link", name="Add recipient").click()
    await page.get_by_label("Add an email address").fill("frontdesk@example.com")
    await page.get_by_role("button", name="Add recipient").click()
    await expect(page.locator("#recipient-list").get_by_text("frontdesk@example.com").first).to_be_visible()
    await page.goto(f"{owned.url}/")
    assert await steps_done(page) == ["location"]
    await expect(page.get_by_text("1 address, but no mail server: nobody is mailed.").first).to_be_visible()
    await expect(page.locator("[data-step] .primary")).to_have_text("Set up mail")


async def test_a_phone_a_test_call_and_an_answering_trunk_tick_the_rest(filled: Site, new_page: NewPage):
    """S0-18: a booted phone, an answered 933 and an answering trunk complete the list."""
    page = await new_page(filled)
    await page.goto(filled.url)
    await expect(page.get_by_text("5 of 7 done").first).to_be_visible()
    assert await steps_done(page) == ["location", "pbx", "trunk", "phone", "test"]
    await expect(page.get_by_text("Missing now: the address of 1 location.").first).to_be_visible()
    async with filled.database.sessions.begin() as session:
        home = (await session.scalars(select(Location).where(Location.name == "Home office"))).one()
        home.civic_address = HEADQUARTERS
        record(session, SYSTEM, Event.LOCATION_UPDATE, home)
    await page.reload()
    await page.get_by_role("link", name="Go live").click()
    await page.get_by_role("switch", name="Emergency calling is live").check()  # the last step is a person's word
    await expect(page.locator("form[action='/settings/preferences'] .saved")).to_have_text("Saved")
    await page.goto(f"{filled.url}/")
    await expect(page.get_by_text("6 of 7 done").first).to_be_visible()
    assert "live" in await steps_done(page)


async def test_a_sip_side_that_is_down_is_told_on_every_page(owned: Site, new_page: NewPage):
    """E-03: what a dead SIP process means for 911 stands at the top, in a sentence."""
    owned.edge.is_up = False
    page = await new_page(owned)
    for path in ("/", "/settings", "/calls"):
        await page.goto(owned.url + path)
        await expect(page.get_by_role("alert")).to_contain_text("Emergency calls sent to this server now fail")


async def test_a_locked_database_is_told_in_words_and_nothing_is_lost(owned: Site, new_page: NewPage):
    """E-03: while something else holds the database, a page says what happened, what it means for 911, what to do."""
    page = await new_page(owned)
    path = owned.database.sqlite_path
    assert path is not None
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        response = await page.goto(f"{owned.url}/settings", timeout=30_000)
        assert response is not None
        assert response.status == 503
        await expect(page.locator("main")).to_contain_text("911 calls still go out")
        await expect(page.get_by_role("link", name="Try again")).to_be_visible()
        other.execute("ROLLBACK")
    await page.goto(f"{owned.url}/settings")
    await expect(page.get_by_role("heading", name="Settings", level=1)).to_be_visible()


async def test_another_account_cannot_be_looked_at(filled: Site, new_page: NewPage):
    """S0-08: pages show this account's rows only; a foreign identifier is a 404 like one that never was."""
    page = await new_page(filled)
    async with filled.database.sessions() as session:
        assert await session.get(Account, filled.account_id) is not None
    for path in ("/calls/call_0000000000000000000000000a", "/phones/phone_0000000000000000000000000a", "/locations/x"):
        response = await page.goto(filled.url + path)
        assert response is not None
        assert response.status == 404
        await expect(page.locator("main")).to_contain_text("911 calls do not depend on this page")


async def test_the_keyboard_alone_signs_in(owned: Site, new_page: NewPage):
    """S1-01 (keyboard): Tab and Enter are enough to sign in."""
    page = await new_page(owned, signed_in=False)
    await page.goto(f"{owned.url}/login")
    for _ in range(10):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.name") == "email":
            break
    await page.keyboard.type(owned.email)
    await page.keyboard.press("Tab")
    await page.keyboard.type(owned.password)
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"{owned.url}/")
    await sign_in_is_kept(page, owned)


async def sign_in_is_kept(page: Page, site: Site) -> None:
    await page.goto(f"{site.url}/settings")
    await expect(page.get_by_role("heading", name="Settings", exact=True)).to_be_visible()
