"""Two people at one record: who saves second reads what the first one did, and overwrites nothing unseen."""

from collections.abc import Callable
from typing import Any

from playwright.async_api import expect

from engine.models import Account
from tests.browser.looking import looked_at_in_every_way
from tests.browser.site import Site

NewPage = Callable[..., Any]


async def test_an_address_that_somebody_else_saved_survives_a_refused_save_beside_it(
    owned: Site, new_page: NewPage
) -> None:
    """S0-21: the page takes another field over and says so; its address form, which it cannot, the server merges."""
    first, second = await new_page(owned), await new_page(owned)
    await second.goto(f"{owned.url}/settings")
    await first.goto(f"{owned.url}/settings/address")
    await first.get_by_label("Street address").fill("7 New Road")
    await first.get_by_label("City").fill("Troy")
    await first.get_by_role("button", name="Save address").click()
    await expect(first.get_by_text("Billing address saved.").first).to_be_visible()
    await first.get_by_label("Email").first.fill("office@example.com")
    await first.locator("#details-form").get_by_role("button", name="Save").click()
    await expect(first.locator("#details-form .saved")).to_have_text("Saved")

    details = second.locator("#details-form")
    await second.get_by_label("Phone", exact=True).fill("+15185550199")
    await details.get_by_role("button", name="Save").click()
    await expect(details.locator(".saved")).to_contain_text("Saved. Olive Owner changed Email (owner@example.com → ")
    await expect(second.get_by_label("Phone", exact=True)).to_have_value("+15185550199")
    await expect(second.get_by_label("Email").first).to_have_value("office@example.com")
    await expect(details.get_by_role("button", name="Save")).to_be_hidden()

    await second.get_by_role("button", name="Edit billing address").click()
    dialog = second.get_by_role("dialog")
    await dialog.get_by_label("Postal code").fill("12180")
    await dialog.get_by_role("button", name="Save address").click()
    await expect(second.get_by_text("Somebody else changed this while you were typing.").first).to_be_visible()
    await expect(second.get_by_label("Street address")).to_have_value("7 New Road")
    await expect(second.get_by_label("City")).to_have_value("Troy")
    await expect(second.get_by_label("Postal code")).to_have_value("12180")
    await looked_at_in_every_way(second, "address-overtaken")
    async with owned.database.sessions() as session:
        account = await session.get(Account, owned.account_id)
        assert account is not None
        assert (account.billing_address["city"], account.billing_address.get("postal_code", "")) == ("Troy", "")
    await second.get_by_role("button", name="Save address").click()
    await expect(second.get_by_text("Billing address saved.").first).to_be_visible()
    async with owned.database.sessions() as session:
        account = await session.get(Account, owned.account_id)
        assert account is not None
        address = account.billing_address
        assert (address["street"], address["city"], address["postal_code"]) == ("7 New Road", "Troy", "12180")
        assert (account.phone, account.email) == ("+15185550199", "office@example.com")
