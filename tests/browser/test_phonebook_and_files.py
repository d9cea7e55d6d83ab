"""The phonebook and the account's files, as a person keeps them: by form, with and without JavaScript."""

from collections.abc import Callable
from typing import Any

from playwright.async_api import expect
from sqlalchemy import select

from engine.audit.record import SYSTEM
from engine.models import Account, Asset, Contact
from engine.provisioning import contacts
from engine.provisioning.contacts import ContactFields
from tests.browser.site import Site

NewPage = Callable[..., Any]
MOST_BYTES = 150_000


async def test_a_contact_is_added_corrected_and_removed_without_scripts(filled: Site, new_page: NewPage):
    """P-07: what was typed is kept when a field is refused."""
    page = await new_page(filled, java_script_enabled=False)
    await page.goto(f"{filled.url}/phones")
    await page.get_by_role("link", name="Phonebook").click()
    await page.get_by_label("Name").fill("Hospital <reception>")
    await page.get_by_label("Number").fill("press 1; then 2")
    await page.get_by_role("button", name="Add contact").click()
    await expect(page.get_by_text("Expected what a phone can dial").first).to_be_visible()
    await expect(page.get_by_label("Name")).to_have_value("Hospital <reception>")
    await page.get_by_label("Number").fill("+1 (518) 555-0142")
    await page.get_by_role("button", name="Add contact").click()
    await expect(page.get_by_text("Contact added.").first).to_be_visible()
    await page.get_by_role("link", name="Hospital <reception>").click()
    await page.get_by_label("Number").fill("+1 518 555 0143")
    await page.get_by_role("button", name="Save contact").click()
    await expect(page.get_by_role("cell", name="+15185550143")).to_be_visible()
    await page.get_by_role("button", name="Remove Hospital <reception>").click()
    await expect(page.get_by_text("Contact deleted.").first).to_be_visible()
    async with filled.database.sessions() as session:
        assert (await session.scalars(select(Contact))).all() == []


async def test_a_firmware_is_uploaded_and_removed_by_keyboard_and_form(filled: Site, new_page: NewPage, tmp_path):
    """P-07: a refused upload says what is wrong; the file goes to disk and its name into the list."""
    rom = tmp_path / "T46U-108.86.0.90.rom"
    rom.write_bytes(b"firmware" * 200_000)
    page = await new_page(filled)
    await page.goto(f"{filled.url}/files")
    await page.get_by_label("Version").fill("108.86.0.90")
    await page.get_by_label("File", exact=True).set_input_files(rom)
    await page.get_by_role("button", name="Upload").click()
    await expect(page.get_by_text("a firmware is served to phones of its vendor alone").first).to_be_visible()
    await expect(page.get_by_label("Version")).to_have_value("108.86.0.90")
    await page.get_by_label("For phones of").select_option(label="Yealink")
    await page.get_by_label("Models").fill("T46U, T48U")
    await page.get_by_label("File", exact=True).set_input_files(rom)
    await page.get_by_role("button", name="Upload").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("File stored.").first).to_be_visible()
    await expect(page.get_by_role("cell", name="Yealink T46U, T48U")).to_be_visible()
    async with filled.database.sessions() as session:
        asset = (await session.scalars(select(Asset))).one()
        assert (asset.name, asset.size_bytes) == (rom.name, 1_600_000)


async def test_both_pages_fit_a_phone_and_stay_small_with_many_rows(filled: Site, new_page: NewPage):
    """375 px without sideways scrolling; under 150 kB with 320 contacts, of which 150 are shown."""
    async with filled.database.sessions.begin() as session:
        account = await session.get(Account, filled.account_id)
        for at in range(320):
            wished = ContactFields(f"Person {at:03}", f"+1518555{at:04}")
            await contacts.create_contact(session, SYSTEM, account, wished)
    page = await new_page(filled, viewport={"width": 375, "height": 800}, color_scheme="dark")
    for path in ("/phonebook", "/files"):
        answer = await page.goto(filled.url + path)
        assert len(await answer.body()) < MOST_BYTES
        assert await page.evaluate("document.documentElement.scrollWidth") <= 375
    await page.goto(f"{filled.url}/phonebook?q=Person 31")
    await expect(page.get_by_role("link", name="Person 31")).to_have_count(10)
