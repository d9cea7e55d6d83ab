"""Callback numbers, networks of every kind, confirmed addresses and credentials, as a person enters them."""

from collections.abc import Callable
from typing import Any

from playwright.async_api import expect
from sqlalchemy import select

from engine.models import Network, Number, Pbx
from tests.browser.looking import looked_at_in_every_way
from tests.browser.site import Site

NewPage = Callable[..., Any]


async def test_a_run_of_numbers_is_lent_by_a_location_and_one_is_removed(filled: Site, new_page: NewPage):
    """S1-25, E-09: added on one line, with every mistake told beside its field; also without JavaScript."""
    page = await new_page(filled, java_script_enabled=False)
    await page.goto(f"{filled.url}/settings")
    await page.locator("#numbers").get_by_role("link", name="Manage").click()
    await page.get_by_role("textbox", name="Numbers").fill("+12125550100..+12125550102\n911")
    await page.get_by_role("button", name="Add numbers").click()
    await expect(page.get_by_text("Expected a number that can be called back").first).to_be_visible()
    await expect(page.get_by_text("Expected the location whose callers are lent this number").first).to_be_visible()
    await page.get_by_role("textbox", name="Numbers").fill("+12125550100..+12125550102")
    await page.get_by_label("Location").select_option(label="Warehouse")
    await page.get_by_role("button", name="Add numbers").click()
    await expect(page.get_by_text("Numbers added.").first).to_be_visible()
    await expect(page.get_by_text("4 numbers, 0 kept for a callback now").first).to_be_visible()
    await page.get_by_role("button", name="Remove +12125550101").click()
    await expect(page.get_by_text("Number removed.").first).to_be_visible()
    async with filled.database.sessions() as session:
        left = (await session.scalars(select(Number.e164).where(Number.e164.startswith("+1212")))).all()
    assert sorted(left) == ["+12125550100", "+12125550102"]


async def test_access_points_and_switch_ports_are_part_of_a_location(filled: Site, new_page: NewPage):
    """E-05: typed in any spelling, shown in one, and what is taken out of the list is forgotten."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/locations/{filled.ids['location']}")
    bssids = page.get_by_label("Wi-Fi access points")
    await expect(bssids).to_have_value("00:1a:2b:3c:4d:5e")
    await bssids.fill("001A.2B3C.4D60\nnot one")
    await page.get_by_label("Single switch ports").fill("")
    await page.get_by_role("button", name="Save location").click()
    await expect(page.get_by_text("Expected a BSSID such as 00:1a:2b:3c:4d:5e, got 'not one'").first).to_be_visible()
    await page.get_by_label("Wi-Fi access points").fill("001A.2B3C.4D60")
    await page.get_by_role("button", name="Save location").click()
    await expect(page.get_by_text("Location saved.").first).to_be_visible()
    async with filled.database.sessions() as session:
        kept = await session.execute(select(Network.kind, Network.value).order_by(Network.kind))
        assert [tuple(row) for row in kept] == [("bssid", "001a2b3c4d60"), ("subnet", "10.4.12.0/24")]


async def test_a_pbxs_password_is_kept_when_it_is_left_empty_and_never_shown(filled: Site, new_page: NewPage):
    """E-04: a form that is saved for another reason takes no password away."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/settings/pbxs/new")
    await page.get_by_label("Name", exact=True).fill("Cloud")
    await page.get_by_text("Prove itself by more than its address").click()
    await page.get_by_label("User", exact=True).fill("acme")
    await page.get_by_role("button", name="Add PBX").click()
    await expect(page.get_by_text("Expected the password that goes with this user").first).to_be_visible()
    await page.get_by_label("Password").fill("n0t-to-be-seen")
    await page.get_by_role("button", name="Add PBX").click()
    await page.get_by_role("link", name="Cloud", exact=True).click()
    assert "n0t-to-be-seen" not in await page.content()
    await expect(page.locator("#no-registrar")).to_contain_text("register nowhere and cannot dial 911")
    await looked_at_in_every_way(page, "pbx-no-registrar")
    await page.get_by_label("Name", exact=True).fill("Cloud two")
    await page.get_by_role("button", name="Save PBX").click()
    await expect(page.get_by_text("It has no registrar, so its phones register nowhere.").first).to_be_visible()
    async with filled.database.sessions() as session:
        pbx = await session.scalar(select(Pbx).where(Pbx.name == "Cloud two"))
    assert pbx is not None
    assert (pbx.auth_user, pbx.secret) == ("acme", "n0t-to-be-seen")


async def test_a_phone_taken_home_is_confirmed_there_and_no_more(filled: Site, new_page: NewPage):
    """E-05: one click less than a change of its location, which would hold everywhere."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/phones/{filled.ids['phone']}")
    where = page.locator("#where")
    await expect(where.get_by_text("00:1A:2B:3C:4D:00").first).to_be_visible()
    await where.get_by_text("Confirm where it is on a network").click()
    await where.get_by_label("Location").select_option(label="Home office")
    await where.get_by_label("Network").fill("198.51.100.7")
    await where.get_by_role("button", name="Confirm", exact=True).click()
    await expect(page.get_by_text("Confirmed. It holds on this network.").first).to_be_visible()
    await page.get_by_role("button", name="Remove what was confirmed on 198.51.100.7/32").click()
    await expect(page.get_by_text("198.51.100.7/32")).to_have_count(0)
