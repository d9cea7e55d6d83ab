"""The Provisioning card: no secret before it is opened, three copy buttons, generate, rotate; and the phones' pages."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from playwright.async_api import Page, expect
from sqlalchemy import select, update

from engine.errors import Conflict
from engine.models import Account, AuditEntry, Phone, Session
from tests.browser.conftest import PLAIN_HOST
from tests.browser.looking import looked_at_in_every_way
from tests.browser.site import Site

NewPage = Callable[..., Any]
TRUTH = ("provisioning_token", "phone_admin_password")


async def secrets_of(site: Site) -> dict[str, str]:
    async with site.database.sessions() as session:
        account = await session.get(Account, site.account_id)
        assert account is not None
        return {name: str(getattr(account, name)) for name in TRUTH}


async def events_of(site: Site) -> list[str]:
    query = select(AuditEntry.event).where(AuditEntry.chain == site.account_id).order_by(AuditEntry.seq)
    async with site.database.sessions() as session:
        return list((await session.scalars(query)).all())


async def card(site: Site, new_page: NewPage, **options: Any) -> Page:
    page: Page = await new_page(site, **options)
    await page.goto(f"{site.url}/settings")
    return page


def expander(page: Page) -> Any:
    return page.locator("#provisioning .expander.needs-script")


async def forget_proof(site: Site) -> None:
    """As if the password had been typed an hour ago."""
    async with site.database.sessions.begin() as session:
        await session.execute(update(Session).values(proven_at=dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)))


async def test_the_card_is_collapsed_and_no_secret_is_in_the_page_until_it_is_opened(filled: Site, new_page: NewPage):
    """S0-19: neither secret is in the HTML before opening, nor after closing; opening is audited."""
    truth = await secrets_of(filled)
    page = await card(filled, new_page)
    await expect(expander(page)).to_have_attribute("aria-expanded", "false")
    html = await page.content()
    assert not any(secret in html for secret in truth.values())
    assert "provisioning_token.reveal" not in await events_of(filled)
    await expander(page).press("Enter")
    await expect(expander(page)).to_have_attribute("aria-expanded", "true")
    await expect(page.locator("#value-token")).to_be_visible()
    assert {"provisioning_token.reveal", "phone_admin_password.reveal"} <= set(await events_of(filled))
    await expander(page).press("Enter")
    await expect(expander(page)).to_have_attribute("aria-expanded", "false")
    html = await page.content()
    assert not any(secret in html for secret in truth.values())


async def test_it_shows_token_url_and_admin_password(filled: Site, new_page: NewPage):
    """S0-20, S0-21, S0-22: the values in use; the URL holds the token."""
    truth = await secrets_of(filled)
    page = await card(filled, new_page)
    await expander(page).click()
    await expect(page.locator("#value-token")).to_have_text(truth["provisioning_token"])
    await expect(page.locator("#value-url")).to_have_text(f"http://127.0.0.1:8080/p/{truth['provisioning_token']}/")
    await expect(page.locator("#value-phone-password")).to_have_text(truth["phone_admin_password"])


async def test_the_password_is_asked_for_when_it_was_typed_long_ago(filled: Site, new_page: NewPage):
    """S0-19: a session that was proven an hour ago sees a prompt; a wrong password shows nothing, the right one all."""
    page = await card(filled, new_page)
    await forget_proof(filled)
    await expander(page).click()
    dialog = page.get_by_role("dialog", name="Confirm it is you")
    await dialog.get_by_label("Password").fill("certainly not this one")
    await dialog.get_by_role("button", name="Continue").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("not your password")
    await expect(page.locator("#value-token")).to_have_count(0)
    await dialog.get_by_label("Password").fill(filled.password)
    await dialog.get_by_role("button", name="Continue").click()
    await expect(page.locator("#value-token")).to_be_visible()
    await expect(dialog).to_be_hidden()


async def test_each_copy_button_copies_exactly_its_value(filled: Site, new_page: NewPage):
    """S0-23: three buttons, the clipboard holds the value, the button and a live region confirm it."""
    page = await card(filled, new_page, permissions=["clipboard-read", "clipboard-write"])
    await expander(page).click()
    for name, value in (
        ("provisioning token", "token"),
        ("provisioning URL", "url"),
        ("phone admin password", "phone-password"),
    ):
        button = page.get_by_role("button", name=f"Copy {name}")
        await button.click()
        await expect(button).to_contain_text("Copied")
        await expect(page.locator("#status")).to_have_text(f"Copied {name}.")
        shown = await page.locator(f"#value-{value}").inner_text()
        assert await page.evaluate("navigator.clipboard.readText()") == shown


async def test_copying_works_on_plain_http_where_the_browser_has_no_clipboard_interface(
    filled: Site, new_page: NewPage
):
    """S0-23: as on http://192.168.…: no secure context, no navigator.clipboard; the paste is the value all the same."""
    plain = replace(filled, url=filled.url.replace("127.0.0.1", PLAIN_HOST))
    page = await card(plain, new_page)
    assert await page.evaluate("[isSecureContext, 'clipboard' in navigator]") == [False, False]
    await expander(page).click()
    await page.get_by_role("button", name="Copy provisioning token").click()
    await expect(page.get_by_role("button", name="Copy provisioning token")).to_contain_text("Copied")
    await expect(page.get_by_role("button", name="Copy provisioning token")).to_be_focused()
    await page.locator("#recipient-email").focus()
    await page.keyboard.press("Control+V")
    await expect(page.locator("#recipient-email")).to_have_value((await secrets_of(filled))["provisioning_token"])


async def test_a_refused_copy_marks_the_text_and_says_so(filled: Site, new_page: NewPage):
    """S0-23: no way of copying is left, so the value is selected and the button says what to press."""
    page = await new_page(filled)
    await page.add_init_script(
        "Object.defineProperty(window, 'isSecureContext', {value: false}); document.execCommand = () => false;"
    )
    await page.goto(f"{filled.url}/settings")
    await expander(page).click()
    await page.get_by_role("button", name="Copy provisioning token").click()
    await expect(page.get_by_role("button", name="Copy provisioning token")).to_contain_text("Press Ctrl+C")
    assert await page.evaluate("getSelection().toString().trim()") == (await secrets_of(filled))["provisioning_token"]


async def test_generate_makes_the_first_token_and_becomes_rotate(owned: Site, new_page: NewPage):
    """S0-24: no token: Generate; then the values stand there and the button is Rotate."""
    page = await card(owned, new_page)
    await expander(page).click()
    await expect(page.get_by_role("button", name="Rotate")).to_have_count(0)
    await page.get_by_role("button", name="Generate").click()
    await expect(page.get_by_text("Phones can boot against the new URL.").first).to_be_visible()
    await expect(page.locator("#value-token")).to_have_text((await secrets_of(owned))["provisioning_token"])
    await expect(page.get_by_role("button", name="Generate")).to_have_count(0)
    await expect(page.get_by_role("button", name="Rotate")).to_be_visible()


async def test_rotate_warns_lists_the_phones_and_replaces_the_token(filled: Site, new_page: NewPage):
    """S0-25, S0-27: the dialog says that the old URL dies and names the phones; only its own button rotates."""
    before = (await secrets_of(filled))["provisioning_token"]
    page = await card(filled, new_page)
    await expander(page).click()
    await page.get_by_role("button", name="Rotate").click()
    dialog = page.get_by_role("dialog", name="Rotate the provisioning token?")
    await expect(dialog).to_contain_text("The present URL stops working at once.")
    await expect(dialog).to_contain_text("1 phone must be re-provisioned with the new URL")
    await expect(dialog).to_contain_text("00:15:65:4A:A9:37")
    leaked = dialog.locator(".note", has_text="Has the URL leaked?")
    await expect(leaked).to_contain_text("the phone admin password and the SIP password")
    await expect(leaked.get_by_role("link", name="a table")).to_have_attribute("href", "/phones/import")
    await looked_at_in_every_way(page, "rotate-dialog")
    await dialog.get_by_role("button", name="Keep the present token").click()
    assert (await secrets_of(filled))["provisioning_token"] == before
    await page.get_by_role("button", name="Rotate").click()
    await dialog.get_by_role("button", name="Rotate token").click()
    await expect(page.get_by_text("If it had leaked, so had the phone admin password").first).to_be_visible()
    after = (await secrets_of(filled))["provisioning_token"]
    assert after != before
    assert len(after) >= 43
    await expect(page.locator("#value-token")).to_have_text(after)


async def test_a_phone_is_added_with_its_first_line_and_watched_until_it_boots(owned: Site, new_page: NewPage):
    """S0-21 (phones): MAC in any spelling; the page waits for the first fetch and shows it when it has come."""
    page = await new_page(owned)
    await page.goto(f"{owned.url}/phones")
    await page.get_by_role("link", name="Add your first phone").click()
    await page.get_by_label("MAC address").fill("00-15-65-4A-A9-37")
    await page.get_by_label("Model").select_option("yealink/T46U")
    await page.get_by_label("Label").fill("Reception")
    await page.get_by_label("Extension").fill("101")
    await page.get_by_label("SIP password").fill("line-secret-1")
    await page.get_by_role("button", name="Add phone").click()
    await expect(page.get_by_role("heading", name="Reception", level=1)).to_be_visible()
    await expect(page.get_by_text("Waiting for 00:15:65:4A:A9:37").first).to_be_visible()
    await expect(page.get_by_role("link", name="101")).to_be_visible()
    assert "line-secret-1" not in await page.content()
    async with owned.database.sessions.begin() as session:
        phone = (await session.scalars(select(Phone))).one()
        phone.last_fetch_at, phone.status = dt.datetime.now(dt.UTC), "current"
    await expect(page.get_by_text("Waiting for 00:15:65:4A:A9:37")).to_have_count(0)
    await expect(page.locator("section[aria-labelledby=state]")).to_contain_text("Current")


async def test_a_refused_phone_keeps_what_was_typed_and_names_every_fault(owned: Site, new_page: NewPage):
    """S0-21 (phones): a bad MAC, no model and an extension that would take 911 are told together."""
    page = await new_page(owned)
    await page.goto(f"{owned.url}/phones/new")
    await page.get_by_label("MAC address").fill("00:15:65:zz")
    await page.get_by_label("Extension").fill("911")
    await page.get_by_role("button", name="Add phone").click()
    await expect(page.get_by_label("MAC address")).to_have_attribute("aria-invalid", "true")
    await expect(page.get_by_text("911 would take calls meant for 911").first).to_be_visible()
    await expect(page.get_by_label("MAC address")).to_have_value("00:15:65:zz")
    async with owned.database.sessions() as session:
        assert (await session.scalars(select(Phone))).all() == []


async def test_a_phones_files_are_shown_with_every_secret_masked(filled: Site, new_page: NewPage):
    """S0-22 (preview): the rendered file is there, its passwords and the token are not."""
    truth = await secrets_of(filled)
    page = await new_page(filled)
    await page.goto(f"{filled.url}/phones/{filled.ids['phone']}")
    await page.get_by_text("0015654aa937.cfg", exact=True).last.click()
    preview = page.get_by_label("0015654aa937.cfg")
    await expect(preview).to_contain_text("account.1.password = ••••••••")
    await expect(preview).to_contain_text("/p/[token]/")
    html = await page.content()
    assert not any(secret in html for secret in (*truth.values(), "secret-of-101"))


async def test_resync_asks_the_sip_side_and_is_audited(filled: Site, new_page: NewPage):
    """S1-20 (resync): one click, one NOTIFY asked for, one entry."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/phones/{filled.ids['phone']}")
    await page.get_by_role("button", name="Resync").click()
    await expect(page.get_by_text("Resync was sent.").first).to_be_visible()
    assert filled.edge.resynced == [filled.ids["phone"]]
    assert (await events_of(filled)).count("phone.resync") == 1


async def test_a_resync_that_cannot_be_sent_says_why(filled: Site, new_page: NewPage):
    """S1-20 (resync): nothing is claimed that did not happen; the page says what to do."""
    filled.edge.refusal = Conflict("No PBX of this phone is known: give its first line a PBX, then resync.")
    page = await new_page(filled)
    await page.goto(f"{filled.url}/phones/{filled.ids['phone']}")
    await page.get_by_role("button", name="Resync").click()
    await expect(page.get_by_role("alert")).to_contain_text("give its first line a PBX")
    await expect(page.get_by_role("heading", name="Reception", level=1)).to_be_visible()
    assert filled.edge.resynced == []


async def test_a_location_in_use_is_not_deleted_and_the_page_says_by_whom(filled: Site, new_page: NewPage):
    """S0-09: deleting a place that phones stand at would take the address of their 911 calls away."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/locations/{filled.ids['location']}")
    await page.get_by_role("button", name="Delete location").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete location").click()
    await expect(page.get_by_role("alert")).to_contain_text("is the address of 1 phone")
    await page.goto(f"{filled.url}/locations")
    await expect(page.get_by_role("link", name="Headquarters")).to_be_visible()


async def test_somebody_elses_change_is_not_overwritten_unseen(filled: Site, new_page: NewPage):
    """S0-05 (lost updates): the second save is refused once, keeps the typed text, and goes through when repeated."""
    first, second = await new_page(filled), await new_page(filled)
    for page in (first, second):
        await page.goto(f"{filled.url}/phones/{filled.ids['phone']}")
    await first.locator("#f-label").fill("Front desk one")
    await first.get_by_role("button", name="Save").click()
    await expect(first.get_by_text("Phone saved.").first).to_be_visible()
    await second.locator("#f-label").fill("Front desk two")
    await second.get_by_role("button", name="Save").click()
    await expect(second.get_by_role("alert")).to_contain_text("Somebody else changed this")
    await expect(second.locator("#f-label")).to_have_value("Front desk two")
    await second.get_by_role("button", name="Save").click()
    await expect(second.get_by_role("heading", name="Front desk two")).to_be_visible()


async def test_a_line_is_added_changed_and_deleted_on_its_phone(filled: Site, new_page: NewPage):
    """S1-26: the second key, a new name, gone again; its password is never shown."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/phones/{filled.ids['phone']}")
    await page.get_by_role("link", name="Add line").click()
    await page.get_by_label("Extension").fill("103")
    await page.get_by_label("SIP password").fill("a-line-secret")
    await page.get_by_role("button", name="Add line").click()
    await page.get_by_role("link", name="103").click()
    assert "a-line-secret" not in await page.content()
    await page.get_by_label("Name", exact=True).fill("Second key")
    await page.get_by_role("button", name="Save line").click()
    await expect(page.locator("section[aria-labelledby=lines] tbody tr").nth(1)).to_contain_text("Second key")
    await page.get_by_role("link", name="103").click()
    await page.get_by_role("button", name="Delete line").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete line").click()
    await expect(page.locator("section[aria-labelledby=lines] tbody tr")).to_have_count(1)
    assert [(await events_of(filled)).count(f"line.{verb}") for verb in ("update", "delete")] == [1, 1]
