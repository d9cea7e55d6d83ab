"""Emergency calls: the list and one page for each call."""

import datetime as dt
from collections.abc import Callable
from typing import Any

from playwright.async_api import expect
from sqlalchemy import select

from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.db import utc_now
from engine.models import Account, AuditEntry, EmergencyCall
from tests.browser.looking import looked_at_in_every_way
from tests.browser.site import Site
from tests.factories import emergency_call

NewPage = Callable[..., Any]


async def test_the_list_tells_real_calls_from_tests_and_what_became_of_them(filled: Site, new_page: NewPage):
    """E-12: newest first; 911 and TEST 933; the caller, the location sent, the outcome."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/calls")
    rows = [" ".join(text.split()) for text in await page.locator("tbody tr").all_inner_texts()]
    assert len(rows) == 3
    for row, parts in zip(
        rows,
        (
            ("911", "Front desk", "Headquarters", "Answered"),
            ("TEST 933", "Answered"),
            ("911", "no location known", "Failed"),
        ),
        strict=True,
    ):
        assert all(part in row for part in parts), row


async def test_a_call_has_one_page_with_all_that_is_known(filled: Site, new_page: NewPage):
    """E-12: caller, location as conveyed and why, ladder, attempts, the INVITE with credentials masked."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/calls/{filled.ids['call']}")
    await expect(page.locator("section[aria-labelledby=caller]")).to_contain_text("+15185550101")
    place = page.locator("section[aria-labelledby=location]")
    for text in (
        "Headquarters",
        "120 Washington Ave",
        "Floor 4, Room 412",
        "Albany, NY 12203",
        "10.4.12.31 is in 10.4.12.0/24",
    ):
        await expect(place).to_contain_text(text)
    ladder = page.get_by_role("img", name="911 came from the PBX. Carrier one: timeout; Carrier two: 200 answered.")
    for text in (
        "INVITE 911",
        "no answer in time",
        "200 answered",
        "Mail to frontdesk@example.com",
        "2 messages not sent yet",
    ):
        await expect(ladder.get_by_text(text).first).to_be_visible()
    attempts = page.locator("section[aria-labelledby=attempts] tbody tr")
    await expect(attempts.nth(0)).to_contain_text("Timeout")
    await expect(attempts.nth(1)).to_contain_text("200 Answered")
    invite = page.locator("section[aria-labelledby=invite] pre")
    await expect(invite).to_contain_text("Proxy-Authorization: (masked)")
    await expect(invite).to_contain_text("Geolocation: <cid:location@callpoint>")
    assert "6629fae49393a05397450978507c4ef1" not in await page.content()


async def test_who_was_told_is_shown_with_the_message_and_can_be_sent_again(filled: Site, new_page: NewPage):
    """S0-14, S0-17: each recipient with its list, state and error; the body as it goes; sending again queues it."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/calls/{filled.ids['call']}")
    told = page.locator("section[aria-labelledby=told]")
    failed = told.get_by_role("listitem").filter(has_text="oncall@example.com")
    await expect(failed).to_contain_text("550 no such mailbox")
    await failed.get_by_text("Message", exact=True).click()
    await expect(page.get_by_label("Message to oncall@example.com")).to_contain_text("Caller: Front desk (101)")
    await page.get_by_role("button", name="Send again to oncall@example.com").click()
    await expect(page.get_by_text("The message is queued again.").first).to_be_visible()
    await expect(told.get_by_role("listitem").filter(has_text="oncall@example.com")).to_contain_text("Waiting")


async def test_a_call_from_nowhere_says_what_it_means_and_what_to_do(filled: Site, new_page: NewPage):
    """E-03: no location was known: the page says that the call went out all the same, and how to prevent it."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/calls/{filled.ids['lost_call']}")
    await expect(page.locator("main")).to_contain_text("The call went out all the same.")
    await expect(page.locator("main")).to_contain_text("Nobody was told: no recipient is named")


async def test_home_tells_of_calls_without_a_location_until_somebody_dismisses_them(filled: Site, new_page: NewPage):
    """S0-18, E-10, E-12: Home's alarm leads to the call; it is gone when dismissed; the call tells how it went."""
    page = await new_page(filled)
    async with filled.database.sessions.begin() as session:
        lost = await session.get_one(EmergencyCall, filled.ids["lost_call"])
        call = emergency_call(
            await session.get_one(Account, lost.account_id), outcome="cancelled", status_code=487,
            caller={"name": "Dana Reyes", "extension": "117", "callback_number": "+15185550117"},
            flags=["location_unknown", "hung_up_unanswered"], at=utc_now(),
        )  # fmt: skip
        call.sent_at += dt.timedelta(microseconds=412)
        session.add(call)
        record(session, SYSTEM, Event.EMERGENCY_CALL_CREATE, call)
    await page.goto(filled.url)
    alarm = page.locator("[data-alarm=no_location]")
    await expect(alarm).to_contain_text("A 911 call by Dana Reyes at")
    await looked_at_in_every_way(page, "home-no-location")
    await alarm.get_by_role("link").click()
    await expect(page.locator("main")).to_contain_text("The caller hung up before anybody answered")
    await expect(page.locator("main")).to_contain_text("0.41 ms after it came")
    await expect(page.locator("main")).to_contain_text("+0.41 ms")
    await looked_at_in_every_way(page, "call-hung-up")
    await page.goto(f"{filled.url}/alerts")
    await expect(page.locator(".alert", has_text="Dana Reyes")).to_contain_text(
        "hung up after tries had failed: call back"
    )
    await looked_at_in_every_way(page, "alerts-hung-up")
    await page.goto(filled.url)
    await alarm.get_by_role("button", name="Dismiss").click()
    await expect(page.get_by_text("It is told again when it happens again").first).to_be_visible()
    await expect(alarm).to_have_count(0)
    async with filled.database.sessions() as session:
        query = select(AuditEntry.actor_type).where(AuditEntry.event == Event.ALARM_DISMISS)
        assert (await session.scalars(query)).all() == ["user"]


async def test_long_words_widen_no_page_and_numbers_stay_whole(filled: Site, new_page: NewPage):
    """E-11: a note of a thousand letters wraps; on Alerts a number to call back stands on one line, and no comma
    waits for an age; on a telephone the drawing is a list; a place that is gone leads back to the list.
    """
    page = await new_page(filled)
    await page.goto(f"{filled.url}/calls/{filled.ids['call']}")
    await page.get_by_label("Note").fill("n" * 1_000)
    await page.get_by_role("button", name="Acknowledge").click()
    await expect(page.get_by_text("n" * 1_000).first).to_be_visible()
    for width in (1280, 375):
        await page.set_viewport_size({"width": width, "height": 900})
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        assert await page.locator(".drawn").is_visible() is (width == 1280)
        assert await page.get_by_text("Callpoint to Carrier one").first.is_visible() is (width == 375)
    await page.goto(f"{filled.url}/alerts")
    await expect(page.locator(".alert a[href^='tel:']").first).to_have_css("white-space", "nowrap")
    for line in await page.locator(".alert .since").all_inner_texts():
        assert not line.rstrip().endswith(",")
    await page.goto(f"{filled.url}/locations/location_{'0' * 26}")
    await page.locator(".error-page").get_by_role("link", name="Locations").click()
    await expect(page.get_by_role("heading", name="Locations", level=1)).to_be_visible()


async def test_a_call_and_the_audit_log_are_whole_on_paper(filled: Site, new_page: NewPage):
    """E-12, S2-13: dark text on white though the screen is dark, no buttons or filters, no column off the sheet."""
    page = await new_page(filled, viewport={"width": 718, "height": 1050}, color_scheme="dark")  # A4 within 1 cm
    await page.emulate_media(media="print")
    for address in (f"/calls/{filled.ids['call']}", "/audit", "/compliance/print"):
        await page.goto(filled.url + address)
        await expect(page.locator("body")).to_have_css("background-color", "rgb(245, 246, 246)")
        assert await page.locator("button:visible, .button:visible, .sidebar:visible, tr.filters:visible").count() == 0
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
        tables = await page.evaluate(
            "[...document.querySelectorAll('.scroll')].map((e) => e.scrollWidth - e.clientWidth)"
        )
        assert max(tables) <= 0, (address, tables)


async def test_an_empty_list_says_how_to_test(owned: Site, new_page: NewPage):
    """S0-18: no calls yet: 933, and where to read about it."""
    page = await new_page(owned)
    await page.goto(f"{owned.url}/calls")
    await expect(page.get_by_role("heading", name="No emergency calls yet")).to_be_visible()
    await page.get_by_role("link", name="How to test with 933").click()
    await expect(page.get_by_role("heading", name="Emergency calls guide")).to_be_visible()
