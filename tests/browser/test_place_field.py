"""A location's name in a form, where a menu would hold thousands: with keys alone, and without JavaScript."""

from collections.abc import Callable
from typing import Any

from playwright.async_api import expect
from sqlalchemy import func, select

from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.ids import new_id
from engine.models import AuditEntry, Location
from tests.browser.looking import looked_at_in_every_way
from tests.browser.site import Site

NewPage = Callable[..., Any]


async def _with_many(site: Site) -> None:
    async with site.database.sessions.begin() as session:
        for at in range(201):
            row = Location(id=new_id("location"), account_id=site.account_id, name=f"Branch {at:03}", civic_address={})
            session.add(row)
            record(session, SYSTEM, Event.LOCATION_CREATE, row)


async def test_a_location_is_chosen_by_a_part_of_its_name_with_keys_alone(filled: Site, new_page: NewPage):
    """S0-09: the browser's own list fills while one types, and what was typed is saved."""
    await _with_many(filled)
    page = await new_page(filled)
    await page.goto(f"{filled.url}/phones/{filled.ids['phone']}")
    field = page.get_by_role("combobox", name="Location", exact=True).first
    await field.focus()
    await page.keyboard.press("ControlOrMeta+a")
    await page.keyboard.type("nch 12")
    await expect(page.locator("#n-f-location_id option")).to_have_count(10)
    await expect(page.locator("#n-f-location_id option").first).to_have_attribute("value", "Branch 120")
    await looked_at_in_every_way(page, "phone-of-many-locations")
    await field.fill("Branch 123")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Phone saved.").first).to_be_visible()
    await expect(field).to_have_value("Branch 123")


async def test_without_a_script_a_name_that_is_none_brings_names_near_to_it(filled: Site, new_page: NewPage):
    """S0-09: the field's own sentence, tied to it, and a list of what may be meant."""
    await _with_many(filled)
    page = await new_page(filled, java_script_enabled=False)
    await page.goto(f"{filled.url}/phones/{filled.ids['phone']}")
    field = page.get_by_role("combobox", name="Location", exact=True).first
    await field.fill("branch 19")
    await page.get_by_role("button", name="Save", exact=True).first.click()
    told = "This account has no location called 'branch 19'. Near to it: Branch 190, Branch 191"
    await expect(page.get_by_text(told).first).to_be_visible()
    await expect(field).to_have_attribute("aria-invalid", "true")
    await expect(page.locator("#n-f-location_id option")).to_have_count(8)
    await field.fill("Branch 191")
    await page.get_by_role("button", name="Save", exact=True).first.click()
    await expect(field).to_have_value("Branch 191")


async def test_the_account_s_default_location_is_saved_by_a_button_of_its_form(filled: Site, new_page: NewPage):
    """S0-09: menus beside it save themselves; a name is sent when it is whole."""
    await _with_many(filled)
    page = await new_page(filled)
    await page.goto(f"{filled.url}/settings")
    await page.get_by_label("Default location").fill("Branch 007")
    await page.get_by_role("button", name="Save preferences").click()
    await expect(page.get_by_label("Default location")).to_have_value("Branch 007")
    await looked_at_in_every_way(page, "settings-of-many-locations")


async def _looks(site: Site) -> int:
    async with site.database.sessions() as session:
        query = select(func.count()).where(AuditEntry.event == Event.LOCATION_LIST.value)
        return await session.scalar(query) or 0


async def test_keys_narrow_what_was_found_and_are_no_entries_of_the_log(filled: Site, new_page: NewPage):
    """S0-30: each request is an entry, so the name is asked for once, however slowly it is typed and corrected."""
    await _with_many(filled)
    page = await new_page(filled)
    await page.goto(f"{filled.url}/calls")
    field, offered = page.get_by_role("combobox", name="Location sent"), page.locator("#n-f-location option")
    before = await _looks(filled)
    await field.fill("anch 1")
    await expect(offered).to_have_count(100)
    await page.clock.install()
    for text in ("anch 15", "anch 151", "anch 1", "branch 17"):
        await field.fill(text)
        await page.clock.run_for(2_000)
    assert await _looks(filled) == before + 1
    await field.fill("branch 0")
    async with page.expect_response(lambda answer: "q=branch%200" in answer.url):
        await page.clock.run_for(2_000)
    await expect(offered).to_have_count(100)
    assert await _looks(filled) == before + 2
    await looked_at_in_every_way(page, "calls-of-many-locations")
    await field.fill("Branch 007")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_text("No call matches").first).to_be_visible()
    await expect(field).to_have_value("Branch 007")
