"""The audit log page and card: columns, a filter under each, clear, copy, before and after."""

import datetime as dt
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from zoneinfo import ZoneInfo

from playwright.async_api import Page, expect

from engine.audit.events import READS, WRITES, Event
from engine.audit.record import SYSTEM, record
from tests.browser.looking import looked_at_in_every_way
from tests.browser.site import Site

NewPage = Callable[..., Any]
LISTED = """() => {
  window.isListed = false;
  document.addEventListener("listed", () => { window.isListed = true; }, { once: true });
}"""
COLUMNS = ["Time", "Event", "Resource", "Actor", "Outcome", "IP Address"]
EVENT, RESOURCE, ACTOR, OUTCOME, IP = 1, 2, 3, 4, 5


async def audit(site: Site, new_page: NewPage, query: str = "", **options: Any) -> Page:
    page: Page = await new_page(site, **options)
    await page.goto(f"{site.url}/audit{query}")
    return page


async def column(page: Page, number: int) -> list[str]:
    texts = await page.locator(f"#audit-rows tr td:nth-child({number + 1})").all_inner_texts()
    return [text.strip() for text in texts]


@asynccontextmanager
async def listed(page: Page) -> AsyncIterator[None]:
    """What is done inside asks for another list: at its end that one is shown. Its answer alone is not in the page."""
    await page.evaluate(LISTED)
    yield
    await page.wait_for_function("() => window.isListed")


async def filter_by(page: Page, label: str, text: str) -> None:
    """Type into a column's filter and wait for the list that it asks for."""
    async with listed(page):
        await page.get_by_label(label).fill(text)
    await expect(page.get_by_role("link", name="Clear Filters")).to_be_visible()


async def test_every_row_shows_the_six_columns_newest_first(filled: Site, new_page: NewPage):
    """S0-29, S0-31 to S0-37: time with UTC on hover, event, resource, actor, outcome and address, in order."""
    page = await audit(filled, new_page)
    headers = [text.strip() for text in await page.locator("thead tr:first-child th").all_inner_texts()]
    assert headers[:6] == COLUMNS
    instants = [await each.get_attribute("datetime") for each in await page.locator("#audit-rows time").all()]
    assert instants == sorted(instants, reverse=True)
    assert len(instants) == 25
    first = page.locator("#audit-rows time").first
    assert str(await first.get_attribute("title")).endswith("Z (UTC)")
    utc = dt.datetime.fromisoformat(str(await first.get_attribute("datetime")))
    shown = dt.datetime.strptime(await first.inner_text(), "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007  # the page's zone
    assert shown.replace(tzinfo=ZoneInfo("America/New_York")) == utc.replace(microsecond=0)
    await expect(page.locator("#audit-count")).to_contain_text("Times in America/New_York.")
    for number in (EVENT, RESOURCE, ACTOR, OUTCOME, IP):
        assert all(await column(page, number))


async def test_paging_shows_every_entry_once(filled: Site, new_page: NewPage):
    """S0-29: older pages follow without repeating or leaving out an entry, though reading adds new ones on top."""
    page = await audit(filled, new_page)
    seen: list[str] = []
    instants: list[str] = []
    identifiers = """[...document.querySelectorAll("#audit-rows tr[data-id]")].map((row) => row.dataset.id)"""
    times = """[...document.querySelectorAll("#audit-rows time")].map((time) => time.dateTime)"""
    while True:
        seen += await page.evaluate(identifiers)
        instants += await page.evaluate(times)
        if not await page.get_by_role("link", name="Older entries").count():
            break
        async with page.expect_navigation():
            await page.get_by_role("link", name="Older entries").click()
    assert len(seen) == len(set(seen))
    assert instants == sorted(instants, reverse=True)


async def test_each_column_has_its_filter_directly_below(filled: Site, new_page: NewPage):
    """S0-38: six filters in the second header row, each named by its column."""
    page = await audit(filled, new_page)
    row = page.locator("thead tr.filters")
    for name in ("Time: start date", "Time: end date", "Resource: begins with", "Actor: begins with", "Outcome"):
        await expect(row.get_by_label(name, exact=True)).to_be_visible()
    await expect(row.get_by_label("IP Address: full or part")).to_be_visible()
    await expect(row.get_by_role("button", name="Event: choose types")).to_be_visible()


async def test_days_are_inclusive_in_the_accounts_zone(filled: Site, new_page: NewPage):
    """S0-39: today shows today's entries, tomorrow and yesterday none; the day is that of the shown zone."""
    page = await audit(filled, new_page)
    today = dt.datetime.now(ZoneInfo("America/New_York")).date()
    await filter_by(page, "Time: start date", today.isoformat())
    await filter_by(page, "Time: end date", today.isoformat())
    await expect(page.locator("#audit-rows tr[data-id]")).not_to_have_count(0)
    yesterday = (today - dt.timedelta(days=1)).isoformat()
    await filter_by(page, "Time: start date", yesterday)
    await expect(page.locator("#audit-rows tr[data-id]")).not_to_have_count(0)
    await filter_by(page, "Time: end date", yesterday)
    await expect(page.get_by_text("Nothing matches").first).to_be_visible()


async def test_the_event_picker_checks_single_events(filled: Site, new_page: NewPage):
    """S0-40: two checked events and nothing else; the picker is reached and left by keyboard."""
    page = await audit(filled, new_page)
    opener = page.get_by_role("button", name="Event: choose types")
    await opener.press("Enter")
    async with page.expect_response(lambda response: "event=user.create" in response.url):
        await page.get_by_role("checkbox", name="user.create", exact=True).check()
    async with page.expect_response(lambda response: "event=trunk.update" in response.url):
        await page.get_by_role("checkbox", name="trunk.update").check()
    await page.keyboard.press("Escape")
    await expect(page.locator("#event-picker")).to_be_hidden()
    await expect(opener).to_have_text("2 events")
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(2)
    assert sorted(await column(page, EVENT)) == ["trunk.update", "user.create"]


async def test_reads_and_writes_toggle_exactly_their_events(filled: Site, new_page: NewPage):
    """S0-41, S0-42: each button checks all of its class and no other, a second press unchecks them."""
    page = await audit(filled, new_page)
    await page.get_by_role("button", name="Event: choose types").click()

    async def checked() -> set[str]:
        boxes = await page.locator("#event-picker input:checked").all()
        return {str(await box.get_attribute("value")) for box in boxes}

    for name, events in (("Reads", READS), ("Writes", WRITES)):
        button = page.get_by_role("button", name=name, exact=True)
        await button.click()
        assert await checked() == {event.value for event in events}
        await expect(button).to_have_attribute("aria-pressed", "true")
        await button.click()
        assert await checked() == set()
    await page.get_by_role("button", name="Reads", exact=True).click()
    await page.get_by_role("button", name="Writes", exact=True).click()
    assert await page.locator("#event-picker input:not(:checked)").count() == 0


async def test_reads_are_hidden_by_one_switch_which_the_address_and_a_saved_view_keep(filled: Site, new_page: NewPage):
    """S0-41, S0-47: off at first; on, no page view is left; Clear Filters switches it off again."""
    page = await audit(filled, new_page)
    hide = page.get_by_role("switch", name="Hide reads")
    await expect(hide).not_to_be_checked()
    reads = {event.value for event in READS}
    assert reads & set(await column(page, EVENT))
    async with page.expect_response(lambda response: "reads=hidden" in response.url):
        await hide.focus()
        await page.keyboard.press("Space")
    await expect(page).to_have_url(f"{filled.url}/audit?reads=hidden")
    await expect(page.locator("#event-opener")).to_have_text("Any event")
    found = set(await column(page, EVENT))
    assert found
    assert not reads & found
    await looked_at_in_every_way(page, "audit-hide-reads")
    await page.get_by_role("button", name="Views").click()
    await page.get_by_label("Save these filters as").fill("Changes")
    await page.get_by_role("button", name="Save view").click()
    await expect(page.get_by_text("View saved.").first).to_be_visible()
    await page.goto(f"{filled.url}/audit")
    await page.get_by_role("button", name="Views").click()
    await page.get_by_role("link", name="Changes").click()
    await expect(hide).to_be_checked()
    await page.get_by_role("link", name="Clear Filters").click()
    await expect(hide).not_to_be_checked()
    await expect(page).to_have_url(f"{filled.url}/audit")


async def test_resource_and_actor_match_by_prefix(filled: Site, new_page: NewPage):
    """S0-43, S0-44: a prefix, not a part; `_` and `%` are themselves."""
    page = await audit(filled, new_page)
    await filter_by(page, "Resource: begins with", "account_")
    await expect(page.locator("#audit-rows tr[data-id]")).not_to_have_count(0)
    assert all(text.startswith("account_") for text in await column(page, RESOURCE))
    await filter_by(page, "Resource: begins with", "ccount")
    await expect(page.get_by_text("Nothing matches").first).to_be_visible()
    await filter_by(page, "Resource: begins with", "%")
    await expect(page.get_by_text("Nothing matches").first).to_be_visible()
    await page.get_by_role("link", name="Clear Filters").click()
    await filter_by(page, "Actor: begins with", "monit")
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(2)
    assert all(text.startswith("monitoring") for text in await column(page, ACTOR))


async def test_the_outcome_is_chosen_from_exactly_three_words(filled: Site, new_page: NewPage):
    """S0-36, S0-45: Any and the three words; each shows its own entries only."""
    page = await audit(filled, new_page)
    select = page.get_by_label("Outcome")
    assert await select.locator("option").all_inner_texts() == ["Any", "success", "failure", "denied"]
    for word in ("denied", "failure", "success"):
        async with page.expect_response(lambda response, word=word: f"outcome={word}" in response.url), listed(page):
            await select.select_option(word)
        await expect(page.locator("#audit-rows tr[data-id] td:nth-child(5)").first).to_have_text(word)
        assert set(await column(page, OUTCOME)) == {word}


async def test_addresses_match_whole_and_in_part(filled: Site, new_page: NewPage):
    """S0-46, S0-47: an exact address in any spelling, a beginning, a middle part, a CIDR."""
    page = await audit(filled, new_page)
    for typed, fits in (
        ("10.0.7.77", lambda ip: ip == "10.0.7.77"),
        ("10.0.1", lambda ip: ip.startswith("10.0.1")),
        (".77", lambda ip: ".77" in ip),
        ("2001:db8:0:0::77", lambda ip: ip == "2001:db8::77"),
        ("2001:db8::", lambda ip: ip.startswith("2001:db8::")),
        ("10.0.8.0/22", lambda ip: ip in {f"10.0.{third}.77" for third in range(8, 12)}),
    ):
        await filter_by(page, "IP Address: full or part", typed)
        await expect(page.locator("#audit-rows tr[data-id]")).not_to_have_count(0)
        shown = await column(page, IP)
        assert all(fits(ip) for ip in shown), (typed, shown)


async def test_clear_filters_resets_everything_and_the_address(filled: Site, new_page: NewPage):
    """S0-48: hidden while nothing is filtered; one click empties all filters, the list and the address."""
    page = await audit(filled, new_page)
    clear = page.get_by_role("link", name="Clear Filters")
    await expect(clear).to_be_hidden()
    await filter_by(page, "Actor: begins with", "monit")
    await page.get_by_label("Outcome").select_option("denied")
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(1)
    assert page.url.endswith("/audit?actor=monit&outcome=denied")
    await clear.click()
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(25)
    await expect(page.get_by_label("Actor: begins with")).to_have_value("")
    await expect(page.get_by_label("Outcome")).to_have_value("")
    await expect(clear).to_be_hidden()
    assert page.url == f"{filled.url}/audit"
    await page.goto(f"{filled.url}/audit?start=2026-01-01&end=2026-01-02&event=user.create&resource=u&actor=m&ip=10.")
    await expect(page.locator("#event-opener")).to_have_text("1 event")
    await clear.click()
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(25)
    for label in ("Time: start date", "Time: end date", "Resource: begins with", "IP Address: full or part"):
        await expect(page.get_by_label(label)).to_have_value("")
    await expect(page.locator("#event-opener")).to_have_text("Any event")


async def test_a_filtered_address_can_be_shared(filled: Site, new_page: NewPage):
    """S0-48: the state is the address, so another browser shows the same."""
    page = await audit(filled, new_page, "?actor=monit&outcome=failure")
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(1)
    await expect(page.get_by_label("Actor: begins with")).to_have_value("monit")
    await expect(page.get_by_label("Outcome")).to_have_value("failure")


async def test_a_row_is_copied_as_the_apis_own_json(filled: Site, new_page: NewPage):
    """S0-49, S0-50: the icon shows on hover and on focus; the clipboard is the API's entry, hash included."""
    page = await audit(filled, new_page, "?actor=monit", permissions=["clipboard-read", "clipboard-write"])
    row = page.locator("#audit-rows tr[data-id]").first
    icon = row.get_by_role("button", name="as JSON")
    assert await icon.evaluate("element => getComputedStyle(element).opacity") == "0"
    await row.hover()
    assert await icon.evaluate("element => getComputedStyle(element).opacity") == "1"
    await page.mouse.move(0, 0)
    await icon.focus()
    assert await icon.evaluate("element => getComputedStyle(element).opacity") == "1"
    await page.keyboard.press("Enter")
    await expect(page.locator("#status")).to_contain_text("Copied")
    copied = json.loads(await page.evaluate("navigator.clipboard.readText()"))
    answer = await page.request.get(f"{filled.url}/api/v1/audit-log/{await row.get_attribute('data-id')}")
    assert copied == await answer.json()
    assert len(copied["hash"]) == 64


async def test_the_icon_is_there_on_a_touch_screen(filled: Site, new_page: NewPage):
    """S0-49: nothing can hover there, so it always shows."""
    page = await audit(filled, new_page, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 800})
    icon = page.locator(".copy-row").first
    assert await icon.evaluate("element => getComputedStyle(element).opacity") == "1"


async def test_the_card_of_settings_loads_when_it_is_opened(filled: Site, new_page: NewPage):
    """S0-28: no entry is in the page and none is asked for before; opened, it shows rows and filters, which stand in
    the page's address and come back with it.
    """
    page = await new_page(filled)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/audit?" in request.url else None)
    await page.goto(f"{filled.url}/settings")
    button = page.get_by_role("button", name="Audit Logs")
    await expect(button).to_have_attribute("aria-expanded", "false")
    assert asked == []
    await button.click()
    await expect(button).to_have_attribute("aria-expanded", "true")
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(20)
    await filter_by(page, "Actor: begins with", "monit")
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(2)
    assert page.url == f"{filled.url}/settings?audit.actor=monit#audit-logs"
    await page.reload()
    await expect(page.get_by_label("Actor: begins with")).to_have_value("monit")
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(2)
    for _once in ("closed", "and opened again"):
        await page.get_by_role("button", name="Audit Logs").click()
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(2)
    await page.get_by_role("link", name="Clear Filters").click()
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(20)
    assert page.url == f"{filled.url}/settings#audit-logs"


async def test_a_change_shows_its_old_and_new_values(owned: Site, new_page: NewPage):
    """S1-42 to S1-48: time, user, action, target, old value, new value and address of one change."""
    page = await new_page(owned)
    await page.goto(f"{owned.url}/settings")
    await page.locator("#f-name").fill("Acme Dental Group")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.locator(".save-form .saved").first).to_have_text("Saved")
    await page.goto(f"{owned.url}/audit?event=account.update")
    await page.locator("#audit-rows a").first.click()
    facts = page.locator("section[aria-label=Entry]")
    for text in ("Olive Owner", "owner@example.com", "Update", "Account: Acme Dental Group", "127.0.0.1", "success"):
        await expect(facts).to_contain_text(text)
    row = page.locator("section[aria-labelledby=changes] tr", has_text="name")
    await expect(row.locator(".before")).to_have_text("Acme Dental")
    await expect(row.locator(".after")).to_have_text("Acme Dental Group")


async def test_a_bad_filter_in_the_address_is_told_in_words_and_the_rest_is_shown(owned: Site, new_page: NewPage):
    """S0-39: what cannot be read is said, not ignored; the log is there without it."""
    page = await audit(owned, new_page, "?start=yesterday&event=nothing.ever&outcome=maybe&action=create&colour=red")
    note = page.get_by_text("was not understood, and the page is shown without it")
    for text in (
        "expected a day such as 2026-11-21",
        "nothing.ever",
        "expected one of success, failure, denied",
        "colour",
    ):
        await expect(note).to_contain_text(text)
    await expect(page.locator("#audit-rows")).to_contain_text("account.create")
    await expect(page.locator("#audit-rows")).not_to_contain_text("audit_log.list")


async def test_a_filter_that_cannot_be_read_is_told_while_it_is_typed(filled: Site, new_page: NewPage):
    """S0-38, S0-46: rows that the filter did not choose are never shown without a word, in the page and in the card."""
    for path, opened in (("/audit", False), ("/settings", True)):
        page = await new_page(filled)
        await page.goto(filled.url + path)
        if opened:
            await page.get_by_role("button", name="Audit Logs").click()
        asked: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        await filter_by(page, "IP Address: full or part", "300.")
        await expect(page.locator("#audit-count")).to_contain_text(
            "was not understood, and the page is shown without it"
        )
        await expect(page.locator("#audit-count")).to_contain_text("a network such as 10.1.0.0/16")
        await filter_by(page, "IP Address: full or part", "10.")
        await expect(page.locator("#audit-count")).not_to_contain_text("was not understood")
        async with page.expect_response(lambda response: "start=2026-11-21" in response.url):
            await page.get_by_label("Time: start date").press_sequentially("11212026", delay=20)
        assert not [url for url in asked if "start=0" in url], "a year half typed is asked for"


async def test_ranges_categories_and_groups_narrow_and_lead_on(filled: Site, new_page: NewPage):
    """S2-05 to S2-10, S1-41, S1-44: chosen by keyboard in More filters, kept in the address, cleared with the rest."""
    page = await audit(filled, new_page)
    await page.get_by_text("More filters").press("Enter")
    for label, value, query in (
        ("Range", "today", "range=today"),
        ("Category", "Users", "category=Users"),
        ("Action", "create", "action=create"),
    ):
        async with page.expect_response(lambda response, query=query: query in response.url), listed(page):
            await page.get_by_label(label, exact=True).select_option(value)
    await expect(page.locator("#audit-rows tr[data-id]")).not_to_have_count(0)
    assert set(await column(page, EVENT)) <= {"user.create", "invitation.create"}
    async with page.expect_response(lambda response: "group=description" in response.url):
        await page.get_by_label("Group by").select_option("description")
    await expect(page.locator("#audit-rows tr.group")).to_have_count(1)
    assert "range=today" in page.url
    group = page.locator("#audit-rows tr.group")
    await group.locator("summary").press("Enter")
    await expect(group.locator("li")).not_to_have_count(0)
    await group.get_by_text("Show in the list").click()
    await expect(page.locator("#audit-rows tr[data-id]")).not_to_have_count(0)
    assert "event=user.create" in page.url
    await page.get_by_role("link", name="Clear Filters").click()
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(25)
    async with page.expect_download() as told:
        await page.get_by_role("link", name="JSON Lines").click()
    assert (await told.value).suggested_filename == "audit-log.jsonl"


async def test_an_entry_shows_what_else_came_of_its_request(filled: Site, new_page: NewPage):
    """S2-04: related entries and the record's history are one click away."""
    page = await audit(filled, new_page, "?event=trunk.update")
    await page.locator("#audit-rows a").first.click()
    await expect(page.get_by_role("heading", name="Related entries")).to_be_visible()
    history = page.get_by_role("link", name="History of trunk")
    identity = (await history.inner_text()).removeprefix("History of ")
    await history.click()
    await expect(page.locator("#audit-rows tr[data-id]")).not_to_have_count(0)
    assert all(text.startswith(identity) for text in await column(page, RESOURCE))


async def test_the_history_of_a_location_is_one_click_from_its_page(filled: Site, new_page: NewPage):
    """S1-53, S1-45: filtered by exactly that record, named as people call it; clearing leads back to everything."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/locations/{filled.ids['location']}")
    await page.get_by_role("link", name="History of Headquarters").click()
    await expect(page.get_by_text("History of Location: Headquarters").first).to_be_visible()
    assert f"target={filled.ids['location']}" in page.url
    texts = [text.split() for text in await column(page, RESOURCE)]
    assert {text[0] for text in texts} == {filled.ids["location"]}
    assert ["Location:", "Headquarters"] in [text[1:] for text in texts]
    await page.get_by_role("link", name="Clear Filters").click()
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(25)
    await expect(page.get_by_text("History of Location")).to_have_count(0)


async def test_filters_are_kept_as_a_view_and_come_back(filled: Site, new_page: NewPage):
    """S2-13: saved without leaving the list, by keyboard; a view is a plain link to its filters."""
    page = await audit(filled, new_page)
    await filter_by(page, "Actor: begins with", "monit")
    await page.get_by_role("button", name="Views").press("Enter")
    await page.get_by_label("Save these filters as").fill("What monitoring does")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("View saved.").first).to_be_visible()
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(2)
    await page.goto(f"{filled.url}/audit")
    await page.get_by_role("button", name="Views").click()
    await page.get_by_role("link", name="What monitoring does").click()
    await expect(page.get_by_label("Actor: begins with")).to_have_value("monit")
    assert page.url == f"{filled.url}/audit?actor=monit"


async def write(site: Site, *names: str) -> None:
    async with site.database.sessions.begin() as session:
        for name in names:
            target = ("contact", f"contact_{name}", name)
            record(session, SYSTEM, Event.CONTACT_UPDATE, resource=target, account_id=site.account_id)


async def test_the_list_goes_on_while_one_looks_at_it(filled: Site, new_page: NewPage):
    """S0-29, S2-11: new rows on top as they are written, filtered; whoever scrolled is told how many wait."""
    page = await audit(filled, new_page, "?type=contact", viewport={"width": 1280, "height": 500})
    live, rows = page.locator("#live-toggle"), page.locator("#audit-rows tr[data-id]")
    await expect(rows).to_have_count(0)
    await live.press("Enter")
    await expect(live).to_have_attribute("aria-pressed", "true")
    await expect(live).to_have_text("Live")
    await write(filled, "harbour")
    await expect(rows).to_have_count(1)
    await expect(rows.first).to_contain_text("Contact: harbour")
    await expect(page.get_by_text("Nothing matches")).to_have_count(0)
    await write(filled, *(f"n{number:02}" for number in range(20)))
    await expect(rows).to_have_count(21)
    await page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    await write(filled, "pier", "quay")
    news = page.get_by_role("button", name="2 new entries")
    await expect(news).to_be_attached()
    await expect(rows).to_have_count(21)
    await news.press("Enter")
    await expect(rows).to_have_count(23)
    await expect(rows.first).to_contain_text("Contact: quay")
    await expect(news).to_be_hidden()
    copied = f"/api/v1/audit-log/{await rows.first.get_attribute('data-id')}"
    assert (await (await page.request.get(f"{filled.url}{copied}")).json())["resource"]["name"] == "quay"
    await filter_by(page, "Resource: begins with", "contact_m")
    await expect(rows).to_have_count(0)
    await expect(live).to_have_text("Live")
    await expect(live).to_have_attribute("aria-pressed", "true")
    await write(filled, "other", "moor")
    await expect(rows).to_have_count(1)
    await live.click()
    await expect(live).to_have_attribute("aria-pressed", "false")


async def test_a_page_that_was_not_told_to_go_on_asks_for_nothing(filled: Site, new_page: NewPage):
    """S2-11: an open page writes no entries of its own, and a roll-out that is refused is asked for once."""
    page = await audit(filled, new_page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/static/" not in request.url else None)
    await page.wait_for_timeout(4_500)  # more than two rounds of whatever asks by itself
    assert asked == []
    refused = '\'<p data-rollout="/api/v1/rollouts/rollout_none" data-was=""></p>\''
    await page.evaluate(f"document.body.insertAdjacentHTML('beforeend', {refused})")
    source = "document.querySelector('script[type=module]').src.replace('callpoint.js', 'progress.js?again')"
    await page.evaluate(f"import({source})")
    await page.wait_for_timeout(7_000)
    assert [address.rpartition("/")[2] for address in asked] == ["rollout_none"]


async def test_reading_the_log_works_without_a_script(filled: Site, new_page: NewPage):
    """S0-38, S2-05, S1-53: filters, groups, views, hints and histories are links, forms and summaries."""
    page = await audit(filled, new_page, java_script_enabled=False)
    await page.get_by_label("Outcome").select_option("denied")
    await page.locator(".audit-head").get_by_role("button", name="Apply").click()
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(1)
    await expect(page.locator("#live-toggle")).to_be_hidden()
    await page.goto(f"{filled.url}/audit?group=user")
    await page.locator("tr.group summary").first.click()
    await expect(page.locator("tr.group li").first).to_be_visible()
    await page.get_by_role("button", name="Views").click()
    await page.get_by_role("link", name="Refused").click()
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(1)
    await page.get_by_role("link", name="Hints").click()
    await page.get_by_role("button", name="Dismiss: monitoring deleted 44 things").click()
    await expect(page.get_by_text("Nothing out of the ordinary").first).to_be_visible()
