"""The phones page, phones added by scanner, tables, function keys: in a real browser, by keyboard, without script."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect
from sqlalchemy import select

from engine.models import Line, Phone
from tests.browser.looking import violations
from tests.browser.site import Site

NewPage = Callable[..., Any]
GOOD = (
    "MAC Address;Vendor;Model;Label;Location;Line 1 extension;line1_secret\r\n"
    "80:5E:C0:00:00:11;Yealink;T46U;Front;Headquarters;401;s3cret-401\r\n"
    "00-15-65-4A-A9-37;Yealink;T46U;Reception desk;Headquarters;101;\r\n"
)
BAD = "mac,vendor,model,colour\n8.05E+11,Yealnk,T46U,red\n"


async def _phones(site: Site) -> dict[str, Phone]:
    async with site.database.sessions() as session:
        return {phone.mac: phone for phone in (await session.scalars(select(Phone))).all()}


async def _quarantine(site: Site) -> None:
    """The first phone says it is another model: machine columns, as the fetch log writes them."""
    async with site.database.sessions.begin() as session:
        phone = await session.get(Phone, site.ids["phone"])
        assert phone is not None
        phone.status, phone.seen_vendor, phone.seen_model = "quarantined", "yealink", "T54W"


@pytest.mark.parametrize(("theme", "width"), [("light", 375), ("dark", 1280)])
async def test_axe_finds_nothing_on_the_pages_of_phones(filled: Site, new_page: NewPage, theme: str, width: int):
    """S1-01 (WCAG 2.2 AA): filters that match and that do not, import, keys, settings, a file, quarantine."""
    await _quarantine(filled)
    page = await new_page(filled, color_scheme=theme, viewport={"width": width, "height": 900})
    phone = f"/phones/{filled.ids['phone']}"
    found = []
    for path in (
        "/phones?status=quarantined&firmware=108", "/phones?q=zzz", "/phones/import", phone, f"{phone}/keys",
        f"{phone}/settings", f"{phone}/files/0015654aa937.cfg",
    ):  # fmt: skip
        await page.goto(filled.url + path)
        seen = await violations(page)
        found += [f"{path}: {each['id']}: {[node['html'][:160] for node in each['nodes']]}" for each in seen]
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert len(await page.content()) < 150_000, path
    assert found == []


async def test_filters_are_set_by_keyboard_and_stand_in_the_address(filled: Site, new_page: NewPage):
    """P-16: a word and Enter; the address can be shared; Clear filters shows all again."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/phones")
    await page.get_by_label("Search").focus()
    await page.keyboard.type("4a:a9")
    await page.keyboard.press("Enter")
    await expect(page.locator("tbody tr")).to_have_count(1)
    assert "q=4a%3Aa9" in page.url
    await expect(page.get_by_role("status").first).to_contain_text("1 phone matches")
    await page.get_by_role("link", name="Clear filters").press("Enter")
    await expect(page.locator("tbody tr")).to_have_count(2)
    await page.get_by_role("link", name="Last fetch").press("Enter")
    await expect(page.locator("th[aria-sort=ascending]")).to_contain_text("Last fetch")
    await expect(page.locator("tbody tr").first).to_contain_text("Lab")


async def test_ticked_phones_are_changed_after_a_look(filled: Site, new_page: NewPage):
    """P-16 (bulk): tick by keyboard, choose, see what it means, confirm; without script as well."""
    for scripted in (True, False):
        page = await new_page(filled, java_script_enabled=scripted)
        await page.goto(f"{filled.url}/phones")
        if scripted:
            await page.get_by_label("Choose every phone on this page").press("Space")
            await expect(page.get_by_text("2 of 2 on this page ticked").first).to_be_visible()
        else:
            await page.get_by_label("Choose Lab").check()
        await page.get_by_label("What to do").select_option("setting")
        await page.get_by_label("Setting", exact=True).select_option("vlan_id")
        await page.get_by_label("Value").fill("20" if scripted else "")
        await page.get_by_role("button", name="Continue").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "Change 2 phones" if scripted else "Change 1 phone"
        )
        await page.get_by_role("button", name="Change setting").click()
        await expect(page.get_by_text("The setting was changed.").first).to_be_visible()
    own = {phone.label: phone.settings for phone in (await _phones(filled)).values()}
    assert own == {"Reception": {"vlan_id": 20}, "Lab": {}}


async def test_a_scanner_adds_phones_one_after_another(filled: Site, new_page: NewPage):
    """S: two bursts without Enter become two lines; the vendor is told by the address; both phones are made."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/phones/new")
    box = page.get_by_label("MAC address")
    await box.press_sequentially("805EC0000001805ec0000002")
    await expect(page.get_by_text("2 phones, by the address Yealink").first).to_be_visible()
    assert (await box.input_value()).split() == ["805EC0000001", "805ec0000002"]
    await page.get_by_label("Model").select_option("yealink/T46U")
    await page.get_by_label("Label").fill("Desk")
    await page.get_by_role("button", name="Add phone").click()
    await expect(page.get_by_text("Phones added.").first).to_be_visible()
    made = await _phones(filled)
    assert (made["805ec0000001"].label, made["805ec0000002"].label) == ("Desk 1", "Desk 2")


async def test_a_phone_is_added_with_a_line_that_can_be_called_back(filled: Site, new_page: NewPage):
    """S0-15: the first line's number is asked for where the line is made; a bad one is told and kept."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/phones/new")
    await page.get_by_label("MAC address").fill("805ec0000003")
    await page.get_by_label("Model").select_option("yealink/T46U")
    await page.get_by_label("Extension").fill("177")
    number = page.get_by_label("Callback number")
    await number.fill("no number")
    await page.get_by_role("button", name="Add phone").click()
    await expect(number).to_have_attribute("aria-invalid", "true")
    await expect(number).to_have_value("no number")
    await number.fill("+15185550177")
    await page.get_by_role("button", name="Add phone").click()
    await expect(page.get_by_text("Phone added.").first).to_be_visible()
    async with filled.database.sessions() as session:
        line = (await session.scalars(select(Line).where(Line.extension == "177"))).one()
    assert line.callback_number == "+15185550177"


async def test_a_phone_that_is_there_already_is_named_with_a_link(filled: Site, new_page: NewPage):
    """S: the form comes back with what was typed and the way to the phone; it works without script."""
    page = await new_page(filled, java_script_enabled=False)
    await page.goto(f"{filled.url}/phones/new")
    await page.get_by_label("MAC address").fill("00:15:65:4a:a9:37\n44:db:d2:00:00:01")
    await page.get_by_label("Model").select_option("snom/D785")
    await page.get_by_role("button", name="Add phone").click()
    await expect(
        page.get_by_text("00:15:65:4A:A9:37 is a phone of this account already: Reception.").first
    ).to_be_visible()
    await expect(page.get_by_label("Add it all the same")).to_be_visible()
    assert "44:db:d2:00:00:01" in await page.get_by_label("MAC address").input_value()
    await page.get_by_role("link", name="Reception (00:15:65:4A:A9:37)").click()
    await expect(page).to_have_url(f"{filled.url}/phones/{filled.ids['phone']}")
    assert len(await _phones(filled)) == 2


@pytest.mark.parametrize("scripted", [True, False])
async def test_a_table_is_checked_and_then_imported(filled: Site, new_page: NewPage, tmp_path: Path, scripted: bool):
    """P-19: faults by row and column and no way to import; then what changes, and all of it."""
    (tmp_path / "bad.csv").write_text(BAD)
    (tmp_path / "good.csv").write_text(GOOD)
    page: Page = await new_page(filled, java_script_enabled=scripted)

    async def check(name: str) -> None:
        await page.goto(f"{filled.url}/phones/import")
        await page.get_by_label("CSV file").set_input_files(tmp_path / name)
        await page.get_by_role("button", name="Check the table").click()

    await check("bad.csv")
    await expect(page.get_by_text("nothing can be imported").first).to_be_visible()
    rows = [row.split("\t")[:2] for row in await page.locator("tbody tr").all_inner_texts()]
    assert [[cell.strip() for cell in row] for row in rows] == [["1", "colour"], ["2", "mac"], ["2", "vendor"]]
    assert await page.get_by_role("button", name="Import").count() == 0
    await check("good.csv")
    await page.get_by_role("button", name="Import 2 rows").click()
    await expect(page.get_by_text("Imported.").first).to_be_visible()
    labels = {phone.label for phone in (await _phones(filled)).values()}
    assert labels == {"Reception desk", "Lab", "Front"}


async def test_function_keys_are_edited_without_script(filled: Site, new_page: NewPage):
    """P-07 (function keys): rows of position, kind, value, label, line; a fault stands beside its field."""
    page = await new_page(filled, java_script_enabled=False)
    await page.goto(f"{filled.url}/phones/{filled.ids['phone']}/keys")
    await page.get_by_label("Key of row 1").fill("3")
    await page.get_by_label("Number of row 1").fill("102")
    await page.get_by_label("Label of row 1").fill("Zoë")
    await page.get_by_label("Key of row 2").fill("4000")
    await page.get_by_label("Number of row 2").fill("103")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator("[name='position.1'][aria-invalid=true]")).to_be_visible()
    await expect(page.get_by_label("Label of row 1")).to_have_value("Zoë")
    await page.get_by_label("Key of row 2").fill("")
    await page.get_by_label("Number of row 2").fill("")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Phone saved.").first).to_be_visible()
    own = (await _phones(filled))["0015654aa937"].settings["function_keys"]
    assert own == [{"position": 3, "kind": "blf", "value": "102", "label": "Zoë"}]


async def test_a_quarantined_phone_says_why_and_is_released(filled: Site, new_page: NewPage):
    """P-05: the page names both models; one click takes the new one."""
    await _quarantine(filled)
    page = await new_page(filled)
    await page.goto(f"{filled.url}/phones/{filled.ids['phone']}")
    await expect(page.get_by_role("alert")).to_contain_text("says it is T54W, and Yealink T46U is kept here")
    await page.get_by_role("button", name="It is a T54W now").click()
    await expect(page.get_by_text("Released.").first).to_be_visible()
    phone = (await _phones(filled))["0015654aa937"]
    assert (phone.model, phone.status, phone.seen_model) == ("T54W", "stale", None)


async def test_an_application_is_given_an_address_and_a_qr_code(filled: Site, new_page: NewPage):
    """P-06 (softphones): no address typed; the code is drawn here, under the strict content policy."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/phones/new")
    value = await page.locator("option[value^='linphone/']").first.get_attribute("value")
    await page.get_by_label("Model").select_option(value)
    await page.get_by_role("button", name="Add phone").click()
    await expect(page.get_by_text("Phone added.").first).to_be_visible()
    await page.get_by_role("link", name="Show QR code").click()
    await expect(page.locator("svg.qr")).to_be_visible()
    shape = await page.locator("svg.qr").bounding_box()
    assert shape is not None
    assert abs(shape["width"] - shape["height"]) < 1
    assert shape["width"] > 150
