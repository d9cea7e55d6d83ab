"""Settings: details that are saved, dropdowns that save themselves, recipients, the address dialog."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from playwright.async_api import Page, Request, Route, expect
from sqlalchemy import select

from engine.e911 import store as e911
from engine.models import Account, AuditEntry, Role
from tests.browser.site import Site

NewPage = Callable[..., Any]
CUT_OFF = """() => [...document.querySelectorAll("main button, main h1, main h2, main label, main input, main select")]
  .filter((part) => part.checkVisibility() && !part.closest(".scroll") && !part.closest(".sr-only"))
  .filter((part) => { const box = part.getBoundingClientRect(); return box.right > innerWidth + 1 || box.left < -1; })
  .map((part) => part.outerHTML.slice(0, 80))"""


HIDDEN_COLUMNS = """() => [...document.querySelectorAll(".scroll")]
  .filter((part) => part.checkVisibility() && part.scrollWidth > part.clientWidth + 1)
  .map((part) => part.outerHTML.slice(0, 80))"""


async def settings(site: Site, new_page: NewPage, **options: Any) -> Page:
    page: Page = await new_page(site, **options)
    await page.goto(f"{site.url}/settings")
    return page


def patches_of(page: Page) -> list[Request]:
    """Every PATCH the page sends from now on."""
    seen: list[Request] = []
    page.on("request", lambda request: seen.append(request) if request.method == "PATCH" else None)
    return seen


async def entries(site: Site, event: str) -> list[dict[str, Any]]:
    query = select(AuditEntry).where(AuditEntry.chain == site.account_id, AuditEntry.event == event)
    async with site.database.sessions() as session:
        return [json.loads(row.entry) for row in (await session.scalars(query.order_by(AuditEntry.seq))).all()]


async def test_settings_is_one_page_and_one_click_away_from_every_page(filled: Site, new_page: NewPage):
    """S0-01, S0-02: details, locations, recipients, provisioning and audit on one page, reached by `Settings`."""
    page = await new_page(filled)
    for path in ("/", "/locations", "/phones", "/calls", "/audit", "/help/emergency", "/settings/api-keys"):
        await page.goto(filled.url + path)
        await page.get_by_role("link", name="Settings", exact=True).first.click()
        await expect(page.get_by_role("heading", level=1, name="Settings")).to_be_visible()
    await expect(page.get_by_role("link", name="Settings", exact=True)).to_have_attribute("aria-current", "page")
    for name in (
        "Account details",
        "Locations",
        "Emergency call notification recipients",
        "Provisioning",
        "Audit Logs",
    ):
        await expect(page.get_by_role("heading", name=name, exact=False).first).to_be_visible()


async def test_the_account_details_stand_at_the_left_and_are_what_the_api_says(filled: Site, new_page: NewPage):
    """S0-03, S0-04: the panel is left of the cards, its fields can be typed into at once, values are the API's."""
    page = await settings(filled, new_page, viewport={"width": 1280, "height": 900})
    panel = await page.get_by_role("complementary", name="Account details").bounding_box()
    card = await page.locator("section[aria-labelledby=card-locations]").bounding_box()
    assert panel is not None
    assert card is not None
    assert panel["x"] + panel["width"] <= card["x"]
    answer = await (await page.request.get(f"{filled.url}/api/v1/account")).json()
    for field in ("name", "email", "phone"):
        await expect(page.locator(f"#details-form [name={field}]")).to_have_value(answer[field])


async def test_save_and_cancel_appear_with_a_change_and_vanish_when_it_is_typed_back(owned: Site, new_page: NewPage):
    """S0-05: absent when clean, there from the first keystroke, gone when the value is as it was."""
    page = await settings(owned, new_page)
    save, name = page.get_by_role("button", name="Save", exact=True), page.locator("#f-name")
    await expect(save).to_be_hidden()
    await name.press("End")
    await name.press("x")
    await expect(save).to_be_visible()
    await expect(page.get_by_role("button", name="Cancel", exact=True).first).to_be_visible()
    await name.press("Backspace")
    await expect(save).to_be_hidden()


async def test_save_sends_one_patch_and_writes_one_audit_entry(owned: Site, new_page: NewPage):
    """S0-05: Save is one PATCH with only what changed, and one entry with before and after."""
    page = await settings(owned, new_page)
    sent = patches_of(page)
    await page.locator("#f-name").fill("Acme Dental Group")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.locator("#details-form .saved")).to_have_text("Saved")
    await expect(page.get_by_role("button", name="Save", exact=True)).to_be_hidden()
    assert [request.post_data_json for request in sent] == [{"name": "Acme Dental Group"}]
    (entry,) = await entries(owned, "account.update")
    assert entry["changes"]["name"] == {"before": "Acme Dental", "after": "Acme Dental Group"}


async def test_what_is_typed_while_a_save_is_under_way_is_neither_lost_nor_called_saved(owned: Site, new_page: NewPage):
    """S0-05: in the field that is being saved and in another; pressed twice, Save is still one PATCH."""
    page = await settings(owned, new_page)
    sent, held, go_on = patches_of(page), asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        held.set()
        await go_on.wait()
        await route.continue_()

    await page.route("**/api/v1/account", hold)
    name, phone, said = page.locator("#f-name"), page.locator("#f-phone"), page.locator("#details-form .saved")
    await name.fill("Acme Three")
    await page.get_by_role("button", name="Save", exact=True).dblclick()
    await held.wait()
    await name.fill("Acme Three Four")
    await phone.fill("+15185550123")
    go_on.set()
    await expect(said).to_contain_text("What you typed since then is not saved yet.")
    await expect(name).to_have_value("Acme Three Four")
    await expect(phone).to_have_value("+15185550123")
    assert [request.post_data_json for request in sent] == [{"name": "Acme Three"}]
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(said).to_have_text("Saved")
    assert sent[1].post_data_json == {"name": "Acme Three Four", "phone": "+15185550123"}
    assert len(await entries(owned, "account.update")) == 2


async def test_cancel_brings_the_old_values_back_without_a_request(owned: Site, new_page: NewPage):
    """S0-05: Cancel sends nothing."""
    page = await settings(owned, new_page)
    requests: list[str] = []
    page.on("request", lambda request: None if "/static/" in request.url else requests.append(request.url))
    await page.locator("#f-name").fill("Something else")
    await page.locator("#f-email").fill("else@example.com")
    await page.locator("#details-form").get_by_role("button", name="Cancel").click()
    await expect(page.locator("#f-name")).to_have_value("Acme Dental")
    await expect(page.locator("#f-email")).to_have_value(owned.email)
    await expect(page.get_by_role("button", name="Save", exact=True)).to_be_hidden()
    assert requests == []


async def test_a_bad_email_is_told_beside_its_field_and_the_text_stays(owned: Site, new_page: NewPage):
    """S0-05: a refused save keeps what was typed and says what is wrong."""
    page = await settings(owned, new_page)
    await page.locator("#f-callback_number").fill("not a number")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.locator("#f-callback_number")).to_have_attribute("aria-invalid", "true")
    await expect(page.locator("#details-form .fault")).to_contain_text("+15185550100")
    await expect(page.locator("#f-callback_number")).to_have_value("not a number")


async def test_a_dropdown_saves_itself_with_exactly_one_patch(owned: Site, new_page: NewPage):
    """S0-06: no Save button, one PATCH of one field, `Saved` in a status region."""
    page = await settings(owned, new_page)
    sent = patches_of(page)
    await page.get_by_label("Time zone").select_option("America/Denver")
    form = page.locator("form[action='/settings/preferences']")
    await expect(form.get_by_role("status")).to_have_text("Saved")
    await expect(page.get_by_role("button", name="Save", exact=True)).to_be_hidden()
    assert [request.post_data_json for request in sent] == [{"timezone": "America/Denver"}]
    await page.get_by_label("Language").select_option("es")  # the version moved on; it must be known
    await expect(form.get_by_role("status")).to_have_text("Saved")
    async with owned.database.sessions() as session:
        account = await session.get(Account, owned.account_id)
        assert account is not None
        assert (account.timezone, account.language) == ("America/Denver", "es")


async def test_a_refused_dropdown_goes_back_and_says_why(owned: Site, new_page: NewPage):
    """S0-06: changed by somebody else meanwhile: refused; the page says who did what, and shows what is stored."""
    page = await settings(owned, new_page)
    other = await settings(owned, new_page)
    await other.get_by_label("Time zone").select_option("America/Denver")
    await expect(other.get_by_text("Saved", exact=True).first).to_be_visible()
    await page.get_by_label("Time zone").select_option("America/Chicago")
    told = page.locator("form[action='/settings/preferences'] .saved")
    await expect(told).to_contain_text("Olive Owner changed Time zone (America/New_York → America/Denver) on")
    await expect(page.get_by_label("Time zone")).to_have_value("America/Denver")
    await page.get_by_label("Time zone").select_option("America/Chicago")  # once more, knowing what is there
    await expect(told).to_have_text("Saved")


async def test_a_dropdown_and_a_field_take_over_what_somebody_else_changed_beside_them(owned: Site, new_page: NewPage):
    """S0-05, S0-06: another field of the account is nobody's conflict: saved, theirs is shown, and who changed it."""
    page = await settings(owned, new_page)
    other = await settings(owned, new_page)
    await other.get_by_label("Language").select_option("es")
    await expect(other.get_by_text("Saved", exact=True).first).to_be_visible()
    sent = patches_of(page)
    await page.get_by_label("Time zone").select_option("America/Chicago")
    told = page.locator("form[action='/settings/preferences'] .saved")
    await expect(told).to_contain_text("Saved. Olive Owner changed Language (English → Spanish) on")
    await expect(page.get_by_label("Language")).to_have_value("es")
    await expect(page.get_by_label("Time zone")).to_have_value("America/Chicago")
    assert [request.post_data_json for request in sent] == [{"timezone": "America/Chicago"}] * 2
    await other.locator("#f-phone").fill("+15185550144")
    await other.locator("#details-form").get_by_role("button", name="Save").click()
    other_told = other.locator("#details-form .saved")
    await expect(other_told).to_contain_text(
        "Saved. Olive Owner changed Time zone (America/New_York → America/Chicago)"
    )
    await expect(other.get_by_label("Time zone")).to_have_value("America/Chicago")
    changed = [sorted(entry["changes"]) for entry in await entries(owned, "account.update") if entry["changes"]]
    assert changed == [["language"], ["timezone"], ["phone"]]


async def test_a_dropdown_goes_back_when_the_server_fails_or_is_gone(owned: Site, new_page: NewPage):
    """S0-06: an error of the server and a server that cannot be reached: the old value, and the reason in words."""
    page = await settings(owned, new_page)
    told, zone = page.locator("form[action='/settings/preferences'] .saved"), page.get_by_label("Time zone")
    live = page.get_by_role("switch", name="Emergency calling is live")
    problem = {"title": "Unprocessable", "detail": "The database is away. Nothing was changed.", "status": 503}
    await page.route(
        "**/api/v1/account",
        lambda route: route.fulfill(status=503, content_type="application/problem+json", body=json.dumps(problem)),
    )
    await zone.select_option("America/Denver")
    await expect(told).to_have_text("The database is away. Nothing was changed.")
    await expect(zone).to_have_value("America/New_York")
    await live.click()
    await expect(told).to_have_text("The database is away. Nothing was changed.")
    await expect(live).not_to_be_checked()
    await page.unroute("**/api/v1/account")
    await page.route("**/api/v1/account", lambda route: route.abort())
    await zone.select_option("America/Denver")
    await expect(told).to_contain_text("The server cannot be reached")
    await expect(zone).to_have_value("America/New_York")


async def test_the_switch_saves_itself_and_stops_no_call(owned: Site, new_page: NewPage):
    """S0-06: one PATCH of one field, `Saved`, one entry; it is Home's last step and nothing that a call looks at."""
    page = await settings(owned, new_page)
    sent = patches_of(page)
    live = page.get_by_role("switch", name="Emergency calling is live")
    await expect(live).not_to_be_checked()
    await live.focus()
    await page.keyboard.press("Space")
    await expect(page.locator("form[action='/settings/preferences'] .saved")).to_have_text("Saved")
    assert [request.post_data_json for request in sent] == [{"emergency_enabled": True}]
    (entry,) = await entries(owned, "account.update")
    assert entry["changes"] == {"emergency_enabled": {"before": False, "after": True}}
    await page.reload()
    await expect(live).to_be_checked()
    async with owned.database.sessions() as session:
        snapshot = await e911.account_snapshot(session, owned.account_id)
    assert snapshot is not None
    assert "emergency_enabled" not in snapshot


async def test_a_stale_edit_keeps_the_typed_text_and_says_who_changed_what(owned: Site, new_page: NewPage):
    """S0-05: 412: the other's change is shown where nothing was typed, one's own text stands, Save again puts it."""
    page = await settings(owned, new_page)
    other = await settings(owned, new_page)
    await other.locator("#f-name").fill("Acme Dental West")
    await other.locator("#f-phone").fill("518 555 0100")
    await other.locator("#details-form").get_by_role("button", name="Save").click()
    await expect(other.locator("#details-form .saved")).to_have_text("Saved")
    await page.locator("#f-name").fill("Acme Dental Group")
    await page.locator("#details-form").get_by_role("button", name="Save").click()
    told = page.locator("#details-form .saved")
    await expect(told).to_contain_text("Olive Owner changed Name (Acme Dental → Acme Dental West), Phone (nothing → ")
    await expect(told).to_contain_text("Save once more")
    await expect(page.locator("#f-name")).to_have_value("Acme Dental Group")
    await expect(page.locator("#f-phone")).to_have_value("518 555 0100")
    await page.locator("#details-form").get_by_role("button", name="Save").click()
    await expect(told).to_have_text("Saved")
    last = (await entries(owned, "account.update"))[-1]
    assert last["changes"] == {"name": {"before": "Acme Dental West", "after": "Acme Dental Group"}}


async def test_a_stale_form_without_scripts_is_told_the_same(owned: Site, new_page: NewPage):
    """S0-05: the plain way says who changed what and when, and keeps the text."""
    page = await settings(owned, new_page, java_script_enabled=False)
    other = await settings(owned, new_page)
    await other.get_by_label("Time zone").select_option("America/Denver")
    await expect(other.get_by_text("Saved", exact=True).first).to_be_visible()
    await page.locator("#f-name").fill("Acme Dental Group")
    await page.locator("#details-form").get_by_role("button", name="Save").click()
    await expect(page.get_by_role("alert")).to_contain_text(
        "Olive Owner changed Time zone (America/New_York → America/Denver)"
    )
    await expect(page.locator("#f-name")).to_have_value("Acme Dental Group")
    await page.locator("#details-form").get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Account saved.").first).to_be_visible()


async def test_the_words_of_the_mails_are_saved_in_the_recipients_card(owned: Site, new_page: NewPage):
    """S1-39: a prefix and one line of instructions, in a form of their own; too much is refused beside the field."""
    page = await settings(owned, new_page)
    form = page.locator("#words-form")
    await expect(form.get_by_role("button", name="Save")).to_be_hidden()
    await form.get_by_label("Word in front of the subject").fill("X" * 41)
    await form.get_by_label("Instructions in the mail").fill("Call the guard on extension 5555.")
    await form.get_by_role("button", name="Save").click()
    await expect(form.locator(".fault")).to_have_count(1)
    await form.get_by_label("Word in front of the subject").fill("ACME-911")
    await form.get_by_role("button", name="Save").click()
    await expect(form.locator(".saved")).to_have_text("Saved")
    entry = (await entries(owned, "account.update"))[-1]
    assert entry["changes"]["notification_prefix"]["after"] == "ACME-911"


async def test_a_trunk_group_is_made_named_and_emptied_with_a_warning(filled: Site, new_page: NewPage):
    """S1-27, S1-38: in order, taken by the account; with no trunk that is on, an alarm says calls still leave."""
    page = await settings(filled, new_page)
    await page.get_by_role("link", name="Add trunk group").click()
    await page.get_by_label("Name", exact=True).fill("East coast")
    numbers = page.locator("input[name^='place.']")
    count = await numbers.count()
    assert count >= 2
    await numbers.nth(0).fill("2")
    await numbers.nth(1).fill("1")
    await page.get_by_role("button", name="Add trunk group").click()
    card = page.locator("#trunk-groups")
    await expect(card.get_by_role("listitem")).to_contain_text(", then ")
    await expect(card.get_by_text("Not in use").first).to_be_visible()
    await page.get_by_label("Trunks taken first").select_option(label="East coast")
    await expect(page.locator("form[action='/settings/preferences'] .saved")).to_have_text("Saved")
    await card.get_by_role("link", name="East coast").click()
    for at in range(count):
        await numbers.nth(at).fill("")
    await page.get_by_role("button", name="Save trunk group").click()
    await expect(card.locator(".note.warn")).to_contain_text("Emergency calls that should take it still leave")
    await page.goto(f"{filled.url}/")
    await expect(page.locator("[data-alarm=trunk_group]")).to_contain_text("East coast has no trunk that is on")
    await page.get_by_role("link", name="See the group").click()
    await card.get_by_role("link", name="East coast").click()
    await page.get_by_role("button", name="Delete trunk group").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete trunk group").click()
    await expect(page.get_by_role("alert")).to_contain_text("Emergency calls of the account take East coast first")


async def test_the_page_fits_a_phone_a_desk_and_a_zoom_of_400_percent(filled: Site, new_page: NewPage):
    """S0-03: 320 CSS px (1280 at 400 %), 375 and 1280: nothing is cut and nothing scrolls sideways; dark and light."""
    for width, scheme in ((320, "light"), (375, "dark"), (1280, "light")):
        page = await settings(filled, new_page, viewport={"width": width, "height": 800}, color_scheme=scheme)
        paths = (
            "/settings",
            "/locations",
            f"/locations/{filled.ids['location']}",
            "/settings/trunk-groups/new",
            "/phones",
        )
        for path in paths:
            response = await page.goto(filled.url + path)
            assert response is not None
            assert response.status == 200, path
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert await page.evaluate(wide) <= 0, (width, path)
            cut = await page.evaluate(CUT_OFF)
            assert cut == [], (width, path, cut)
            if width == 1280:  # nor is the last column of a table out of sight there
                assert await page.evaluate(HIDDEN_COLUMNS) == [], path


async def test_the_billing_address_is_edited_in_a_dialog(owned: Site, new_page: NewPage):
    """S0-07: Edit opens a modal dialog, Escape closes it and focus returns, saving updates card and audit log."""
    page = await settings(owned, new_page)
    await page.get_by_label("Time zone").select_option("America/Denver")  # moves the version the dialog must name
    await expect(page.get_by_text("Saved", exact=True).first).to_be_visible()
    edit = page.get_by_role("button", name="Edit billing address")
    await edit.click()
    dialog = page.get_by_role("dialog", name="Billing address")
    await expect(dialog).to_be_visible()
    for _ in range(12):  # Tab never leaves it
        await page.keyboard.press("Tab")
        inside = "document.activeElement === document.body || document.activeElement.closest('dialog') !== null"
        assert await page.evaluate(inside)
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(edit).to_be_focused()
    await edit.click()
    await dialog.get_by_label("Street address").fill("120 Washington Ave")
    await dialog.get_by_label("City").fill("Albany")
    await dialog.get_by_role("button", name="Save address").click()
    await expect(page.locator("#billing-address")).to_contain_text("120 Washington Ave")
    entry = (await entries(owned, "account.update"))[-1]
    assert entry["changes"]["billing_address"]["after"] == {"street": "120 Washington Ave", "city": "Albany"}


async def test_the_locations_card_shows_every_location_with_its_e911_status(filled: Site, new_page: NewPage):
    """S0-08, S0-09, S0-10: draft, validated and without an address; the guide is one click away."""
    page = await settings(filled, new_page)
    card = page.locator("section[aria-labelledby=card-locations]")
    shown = [" ".join((await row.inner_text()).split()) for row in await card.get_by_role("listitem").all()]
    assert len(shown) == 3
    for name, status in (("Headquarters", "Draft"), ("Warehouse", "Validated"), ("Home office", "No E911 address")):
        assert any(text.startswith(name) and text.endswith(status) for text in shown), (name, shown)
    await card.get_by_role("link", name="Locations guide").click()
    await expect(page.get_by_role("heading", name="Locations guide", level=1)).to_be_visible()


async def test_recipients_are_added_and_removed_and_each_change_is_audited(owned: Site, new_page: NewPage):
    """S0-12, S0-13: nobody, then two, then one again; the card says what nobody means."""
    page = await settings(owned, new_page)
    await expect(page.get_by_role("heading", name="Emergency call notification recipients", exact=True)).to_be_visible()
    await expect(page.get_by_text("Nobody is told about every 911 call yet").first).to_be_visible()
    more = page.locator("#recipients").get_by_role("link", name="A location", exact=True)
    await expect(more).to_have_attribute("href", "/locations")
    for email in ("frontdesk@example.com", "oncall@example.com"):
        await page.get_by_label("Add an email address").fill(email)
        await page.get_by_role("button", name="Add recipient").click()
        await expect(page.locator("#recipient-list").get_by_text(email)).to_be_visible()
    await page.get_by_role("button", name="Remove frontdesk@example.com").click()
    await expect(page.locator("#recipient-list").get_by_text("frontdesk@example.com")).to_be_hidden()
    await expect(page.locator("#recipient-list").get_by_text("oncall@example.com")).to_be_visible()
    assert len(await entries(owned, "notification_recipient.create")) == 2
    assert len(await entries(owned, "notification_recipient.delete")) == 1


async def test_an_invalid_and_a_repeated_recipient_are_refused_with_a_message(filled: Site, new_page: NewPage):
    """S0-13: what is wrong is said at the field, what was typed stays, nothing is stored."""
    page = await settings(filled, new_page)
    for typed, said in (("front desk", "Expected an e-mail address"), ("FrontDesk@example.com", "already a recipient")):
        await page.get_by_label("Add an email address").fill(typed)
        await page.get_by_role("button", name="Add recipient").click()
        await expect(page.locator("#e-recipient-email")).to_contain_text(said)
        await expect(page.get_by_label("Add an email address")).to_have_value(typed)
        await expect(page.get_by_label("Add an email address")).to_have_attribute("aria-invalid", "true")
    assert await page.locator("#recipient-list li").count() == 2


async def test_every_bad_field_of_a_location_is_told_at_once(owned: Site, new_page: NewPage):
    """S0-09: name, country, subnet, recipient and number are all refused in one answer; the typed text stays."""
    page = await new_page(owned)
    await page.goto(f"{owned.url}/locations/new")
    typed = {
        "Street": "Washington", "Country": "USA", "Subnets of this place": "10.4.12.7/24", "Also notify": "nobody",
        "Callback number": "911-ish", "Name": "HQ",
    }  # fmt: skip
    for label, text in typed.items():
        await page.get_by_label(label, exact=True).fill(text)
    await page.get_by_role("button", name="Add location").click()
    await expect(page.locator(".fault")).to_have_count(4)
    await expect(page.locator("#e-f-subnets")).to_contain_text("10.4.12.0/24")
    for label, text in typed.items():
        await expect(page.get_by_label(label, exact=True)).to_have_value(text)


async def test_an_address_is_confirmed_after_a_933_and_a_change_makes_it_a_draft_again(filled: Site, new_page: NewPage):
    """E-14: draft, validated by who heard it read back, draft again once the address changes."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/locations/{filled.ids['location']}")
    await page.get_by_role("button", name="It was read back right").click()
    await expect(page.get_by_text("Validated", exact=True).first).to_be_visible()
    await page.get_by_label("Room").fill("413")
    await page.get_by_role("button", name="Save location").click()
    await expect(page.get_by_text("Draft", exact=True).first).to_be_visible()
    assert [len(await entries(filled, event)) for event in ("location.validate", "location.update")] == [1, 1]


async def test_an_auditor_reads_and_changes_nothing(filled: Site, new_page: NewPage):
    """S0-36 (denied): no buttons that would be refused, fields disabled, secrets closed with the reason."""
    await filled.add_user("auditor@example.com", Role.AUDITOR)
    page = await settings(replace(filled, email="auditor@example.com"), new_page)
    for name in ("Add location", "Add PBX", "Add trunk"):
        await expect(page.get_by_role("link", name=name)).to_have_count(0)
    await expect(page.get_by_role("button", name="Add recipient")).to_have_count(0)
    await expect(page.locator("#f-name")).to_be_disabled()
    await expect(page.get_by_label("Time zone")).to_be_disabled()
    await page.locator("#provisioning .expander.needs-script").click()
    await expect(page.locator("#provisioning-panel")).to_contain_text("provisioning:reveal")
    response = await page.goto(f"{filled.url}/locations/new")
    assert response is not None
    assert response.status == 403
    assert [entry["outcome"] for entry in await entries(filled, "provisioning_token.reveal")] == ["denied"]


async def test_a_pbx_and_a_trunk_are_added_in_their_cards(owned: Site, new_page: NewPage):
    """S1-24, S1-27: the cards' forms store them, audited; a deletion asks first."""
    page = await settings(owned, new_page)
    await page.get_by_role("link", name="Add your PBX").click()
    await page.get_by_label("Name").fill("Office PBX")
    await page.get_by_label("Addresses it sends from").fill("192.0.2.10\n10.0.0.0/8")
    await page.get_by_role("button", name="Add PBX").click()
    await expect(page.locator("#pbxs")).to_contain_text("192.0.2.10/32, 10.0.0.0/8")
    await page.get_by_role("link", name="Add your carrier").click()
    await page.get_by_label("Name").fill("Carrier one")
    await page.get_by_label("Host").fill("sip.carrier.example")
    await page.get_by_role("button", name="Add trunk").click()
    await expect(page.locator("#trunks")).to_contain_text("sip.carrier.example:5060 UDP")
    await page.get_by_role("link", name="Carrier one").click()
    await page.get_by_role("button", name="Delete trunk").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Emergency calls then leave through the other trunks only.")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("button", name="Delete trunk")).to_be_focused()
    await page.get_by_role("button", name="Delete trunk").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete trunk").click()
    await expect(page.get_by_text("Trunk deleted.").first).to_be_visible()
    assert [len(await entries(owned, event)) for event in ("pbx.create", "trunk.create", "trunk.delete")] == [1, 1, 1]


async def test_an_api_key_is_shown_once_and_can_be_revoked(owned: Site, new_page: NewPage):
    """S2-40: the clear key stands in the answer of its making and nowhere afterwards; revoked, it is refused."""
    page = await new_page(owned)
    await page.goto(f"{owned.url}/settings/api-keys")
    await page.get_by_label("Name").fill("monitoring")
    await page.get_by_label("Read locations").check()
    await page.get_by_role("button", name="Make the key").click()
    key = await page.locator("#value-api-key").inner_text()
    assert key.startswith("cp_")
    await expect(page.get_by_role("button", name="Copy API key")).to_be_visible()
    bearer = {"Authorization": f"Bearer {key}"}
    assert (await page.request.get(f"{owned.url}/api/v1/locations", headers=bearer)).status == 200
    await page.goto(f"{owned.url}/settings/api-keys")
    assert key not in await page.content()
    await page.get_by_role("button", name="Revoke monitoring").click()
    await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    await expect(page.get_by_text("Requests with it are refused from now on.").first).to_be_visible()
    assert (await page.request.get(f"{owned.url}/api/v1/locations", headers=bearer)).status == 401
