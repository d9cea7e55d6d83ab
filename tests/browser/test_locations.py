"""Locations: the list and its filters, who will be told, many changed at once, two merged, a table imported."""

import json
from collections.abc import Callable
from typing import Any

from playwright.async_api import Page, expect
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.e911 import store
from engine.models import Account, AuditEntry, Location, Phone
from tests.browser.site import Site
from tests.factories import HEADQUARTERS, add_location, add_network

NewPage = Callable[..., Any]


async def locations(site: Site, new_page: NewPage, path: str = "/locations", **options: Any) -> Page:
    page: Page = await new_page(site, **options)
    await page.goto(site.url + path)
    return page


async def named(site: Site) -> dict[str, Location]:
    async with site.database.sessions() as session:
        return {row.name: row for row in await store.locations_of(session, site.account_id)}


async def entries(site: Site, event: str) -> list[dict[str, Any]]:
    query = select(AuditEntry).where(AuditEntry.chain == site.account_id, AuditEntry.event == event)
    async with site.database.sessions() as session:
        return [json.loads(row.entry) for row in (await session.scalars(query.order_by(AuditEntry.seq))).all()]


async def test_the_list_is_narrowed_by_state_test_and_who_is_told(filled: Site, new_page: NewPage):
    """S0-08, S0-09: by E911 status, by 933 test, by recipients, by words; the filters stand in the address."""
    page = await locations(filled, new_page)
    names = page.locator("tbody strong")

    async def narrowed(label: str, option: str) -> list[str]:
        await page.goto(f"{filled.url}/locations")
        await page.get_by_label(label).select_option(label=option)
        await page.get_by_role("button", name="Apply").click()
        await page.wait_for_url("**/locations?*")
        return await names.all_inner_texts()

    assert await narrowed("E911 status", "Validated") == ["Warehouse"]
    assert await narrowed("E911 status", "No address") == ["Home office"]
    assert await narrowed("Who is told", "People of its own") == ["Headquarters"]
    assert await narrowed("Who is told", "No people of its own") == ["Home office", "Warehouse"]
    assert await narrowed("Test call", "Passed within 90 days") == []
    await expect(page.get_by_text("Nothing matches").first).to_be_visible()
    await page.get_by_role("link", name="Clear filters").first.click()
    await page.get_by_label("Search").fill("river troy")
    await page.get_by_label("Search").press("Enter")
    await expect(names).to_have_text(["Warehouse"])
    await expect(page.get_by_text("1 location matches").first).to_be_visible()
    assert "q=river+troy" in page.url


async def test_two_windows_on_one_location_lose_neither_a_street_nor_a_network(filled: Site, new_page: NewPage):
    """S0-05, S0-08: what the other changed stands in the older window, spelled; a second save keeps both."""
    path = f"/locations/{filled.ids['location']}"
    first, second = await locations(filled, new_page, path), await locations(filled, new_page, path)
    subnets = await first.get_by_label("Subnets of this place").input_value()
    await first.get_by_label("Subnets of this place").fill(f"{subnets}\n10.77.0.0/16")
    await first.get_by_label("Street", exact=True).fill("Main")
    await first.get_by_role("button", name="Save location").click()
    await expect(first.get_by_text("Location saved.").first).to_be_visible()
    await second.get_by_label("On-site security").fill("+15185550111")
    await second.get_by_role("button", name="Save location").click()
    told = second.get_by_role("alert")
    await expect(told).to_contain_text("Somebody else changed this while you were typing.")
    await expect(told).to_contain_text("→ Main")
    await expect(told).to_contain_text("10.77.0.0/16 added")
    await expect(second.get_by_label("Street", exact=True)).to_have_value("Main")
    await expect(second.get_by_label("On-site security")).to_have_value("+15185550111")
    await second.get_by_role("button", name="Save location").click()
    await expect(second.get_by_text("Location saved.").first).to_be_visible()
    stored = (await named(filled))["Headquarters"]
    assert (stored.civic_address["RD"], stored.onsite_number) == ("Main", "+15185550111")
    async with filled.database.sessions() as session:
        kept = [network.value for network in await store.networks_of(session, filled.account_id, stored.id)]
    assert set(kept) >= {"10.77.0.0/16", *subnets.split()}


async def test_who_will_be_told_is_shown_before_saving_each_mailbox_once(filled: Site, new_page: NewPage):
    """S0-16, S0-17: the union of both lists while one types, de-duplicated whatever the letters' case."""
    page = await locations(filled, new_page, f"/locations/{filled.ids['location']}")
    told = page.locator("[data-told] li")
    await expect(told).to_have_count(3)
    await expect(told.nth(2)).to_have_text("security@example.com this location")
    await page.get_by_label("Also notify").fill("FrontDesk@example.com, guard@example.com\nguard@example.com")
    await expect(told).to_have_text(
        [
            "frontdesk@example.com account and this location, one mail",
            "oncall@example.com account",
            "guard@example.com this location",
        ]
    )
    await page.get_by_role("button", name="Save location").click()
    await expect(page.get_by_text("Location saved.").first).to_be_visible()
    await expect(told).to_have_count(3)  # as the server draws it
    await expect(told.nth(0)).to_have_text("frontdesk@example.com account and this location, one mail")
    page = await locations(filled, new_page, f"/locations/{filled.ids['location']}", java_script_enabled=False)
    await expect(page.locator("[data-told] li")).to_have_count(3)


async def test_a_location_that_tells_nobody_says_so_while_it_is_typed(owned: Site, new_page: NewPage):
    """S0-12: nobody on either list is said in words, and the first address typed ends it."""
    page = await locations(owned, new_page, "/locations/new")
    nobody = page.get_by_text("Nobody. Calls connect all the same")
    await expect(nobody).to_be_visible()
    await page.get_by_label("Also notify").fill("guard@example.com")
    await expect(nobody).to_be_hidden()


async def test_a_locations_page_shows_its_phones_calls_and_routing(filled: Site, new_page: NewPage):
    """S0-08, S1-38: phones placed here, calls from here with their outcome, time zone, words of the mails."""
    page = await locations(filled, new_page, f"/locations/{filled.ids['location']}")
    await expect(page.locator("section[aria-labelledby=card-phones-here]").get_by_role("listitem")).not_to_have_count(0)
    calls = page.locator("section[aria-labelledby=card-calls-here]")
    await expect(calls.get_by_role("listitem")).not_to_have_count(0)
    await page.get_by_label("Time zone").select_option("America/Denver")
    await page.get_by_label("Instructions in the mail").fill("Unlock gate B.")
    await page.get_by_role("button", name="Save location").click()
    await expect(page.get_by_text("Location saved.").first).to_be_visible()
    stored = (await named(filled))["Headquarters"]
    assert (stored.timezone, stored.notification_text) == ("America/Denver", "Unlock gate B.")


async def test_many_locations_are_changed_after_one_look(filled: Site, new_page: NewPage):
    """S1-35: ticked or all that match; shown first, done when confirmed; one entry and one for each that changed."""
    page = await locations(filled, new_page)
    await page.get_by_label("Choose Headquarters").check()
    await page.get_by_label("Choose Warehouse").check()
    await expect(page.get_by_text("2 of 3 on this page ticked").first).to_be_visible()
    await page.get_by_label("E-mail addresses").fill("guard@example.com")
    await page.get_by_role("button", name="Continue").click()
    await expect(page.get_by_role("heading", name="Change 2 locations", level=1)).to_be_visible()
    assert await entries(filled, "location.change_many") == []
    await page.get_by_role("button", name="Change 2 locations").click()
    await expect(page.get_by_text("The locations were changed.").first).to_be_visible()
    stored = await named(filled)
    assert stored["Headquarters"].notification_recipients == ["security@example.com", "guard@example.com"]
    assert stored["Warehouse"].notification_recipients == ["guard@example.com"]
    assert stored["Home office"].notification_recipients == []
    (entry,) = await entries(filled, "location.change_many")
    assert entry["details"]["locations"] == 2
    await page.get_by_label("Which locations").select_option("all")
    await page.get_by_label("What to do").select_option("timezone")
    await expect(page.get_by_label("E-mail addresses")).to_be_hidden()
    await page.get_by_label("Time zone", exact=True).fill("America/Nowhere")
    await page.get_by_role("button", name="Continue").click()
    await expect(page.get_by_role("alert")).to_contain_text("Expected a time zone such as America/New_York")
    await expect(page.get_by_label("Time zone", exact=True)).to_have_value("America/Nowhere")  # nothing typed is lost
    await expect(page.get_by_label("Which locations")).to_have_value("all")
    assert {row.timezone for row in (await named(filled)).values()} == {None}


async def test_two_that_are_one_place_are_compared_and_merged(filled: Site, new_page: NewPage):
    """S1-37: found by address, side by side, the one that stays is chosen; its phones are where it is."""
    async with filled.database.sessions.begin() as session:
        owner = await _account(session, filled)
        twin = await add_location(
            session, owner, name="Head office", civic_address=HEADQUARTERS | {"STS": "Avenue", "FLR": "4"},
            notification_recipients=["lobby@example.com"],
        )  # fmt: skip
        await add_network(session, twin, "10.4.13.0/24")
    page = await locations(filled, new_page)
    await page.get_by_role("link", name="Duplicates").click()
    await expect(page.get_by_role("listitem").filter(has_text="Head office")).to_contain_text("The same address")
    await page.get_by_role("link", name="Compare Headquarters and Head office").click()
    await expect(page.locator("tr.differs")).to_contain_text("Street type")
    await page.get_by_label("Keep Head office").check()
    await page.get_by_role("button", name="Merge").click()
    await page.get_by_role("dialog").get_by_role("button", name="Merge").click()
    await expect(page.get_by_text("Merged. Everything of the other location is here now.").first).to_be_visible()
    await expect(page.get_by_label("Name", exact=True)).to_have_value("Head office")
    await expect(page.get_by_label("Subnets of this place")).to_have_value("10.4.12.0/24\n10.4.13.0/24")
    stored = await named(filled)
    assert set(stored) == {"Head office", "Home office", "Warehouse"}
    assert stored["Head office"].notification_recipients == ["lobby@example.com", "security@example.com"]
    async with filled.database.sessions() as session:
        places = set((await session.scalars(select(Phone.location_id))).all())
    assert filled.ids["location"] not in places
    (entry,) = await entries(filled, "location.merge")
    assert entry["category"] == "Bulk operations"


async def test_floors_ask_once_more_before_they_are_merged(filled: Site, new_page: NewPage):
    """S1-37: another floor is refused with the floors in the sentence; ticked, it is done."""
    async with filled.database.sessions.begin() as session:
        owner = await _account(session, filled)
        await add_location(session, owner, name="Headquarters", civic_address=HEADQUARTERS | {"FLR": "5"})
    page = await locations(filled, new_page, "/locations/twins")
    await page.get_by_role("link", name="Compare").click()
    await page.get_by_role("button", name="Merge").click()
    await page.get_by_role("dialog").get_by_role("button", name="Merge").click()
    await expect(page.get_by_role("alert")).to_contain_text("FLR 4 and 5")
    await page.get_by_label("Merge them all the same").check()
    await page.get_by_role("button", name="Merge").click()
    await page.get_by_role("dialog").get_by_role("button", name="Merge").click()
    await expect(page.get_by_text("Merged. Everything of the other location is here now.").first).to_be_visible()
    await page.goto(f"{filled.url}/locations/twins")
    await expect(page.get_by_text("No duplicates found").first).to_be_visible()


async def test_a_table_of_locations_is_checked_shown_and_stored_as_a_whole(filled: Site, new_page: NewPage):
    """S1-36: new, changed and unchanged rows are told before; with one fault nothing is stored."""
    page = await locations(filled, new_page)
    await page.get_by_role("link", name="Import or export").click()
    table = "name,HNO,RD,A3,A1,PC,country\nWarehouse,9,River,Troy,NY,12180,US\nAnnex,1,Main,Troy,NY,{code},US\n"

    async def send(code: str) -> None:
        await page.goto(f"{filled.url}/phones/import?kind=locations")
        body = table.format(code=code).encode()
        await page.locator("input[type=file]").set_input_files(
            {"name": "places.csv", "mimeType": "text/csv", "buffer": body}
        )
        await page.locator("form:has(input[type=file]) button").first.click()

    await send("1218")
    await expect(page.locator("main")).to_contain_text("Expected a postal code such as 12203")
    assert "Annex" not in await named(filled)
    await send("12180")
    await page.locator("form[action^='/phones/import/'] button.primary").click()
    await expect(page.get_by_text("Imported.").first).to_be_visible()
    stored = await named(filled)
    assert stored["Annex"].civic_address["HNO"] == "1"
    assert (stored["Warehouse"].civic_address["HNO"], stored["Warehouse"].status) == ("9", "draft")
    (entry,) = [entry for entry in await entries(filled, "import.create") if entry["outcome"] == "success"]
    assert entry["category"] == "Bulk operations"


async def test_the_open_card_stands_in_the_address(filled: Site, new_page: NewPage):
    """S0-19, S0-28: a link opens a card, a reload opens it again, closing it takes it out of the address."""
    page = await locations(filled, new_page, "/settings")
    audit = page.locator("#audit-logs .expander.needs-script")
    await audit.click()
    await expect(audit).to_have_attribute("aria-expanded", "true")
    assert page.url.endswith("/settings#audit-logs")
    await page.reload()
    await expect(audit).to_have_attribute("aria-expanded", "true")
    await audit.click()
    await expect(audit).to_have_attribute("aria-expanded", "false")
    assert page.url.endswith("/settings")


async def _account(session: AsyncSession, site: Site) -> Account:
    account = await session.get(Account, site.account_id)
    assert account is not None
    return account
