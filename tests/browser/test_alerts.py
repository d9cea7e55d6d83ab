"""The front desk's page in a real browser: a 911 through a whole node on two pages, sound, blindness, no script."""

import asyncio
import datetime as dt
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest_asyncio
from playwright.async_api import Page, expect

from engine.agents import Carrier, Placing, place_call
from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.db import utc_now
from engine.ids import new_id
from engine.models import EmergencyCall
from tests.browser.looking import violations
from tests.browser.site import Site
from tests.node import PASSWORD, Node

NewPage = Callable[..., Any]
CIVIC = {
    "country": "US", "A1": "NY", "A3": "Albany", "HNO": "120", "RD": "Washington", "STS": "Ave", "PC": "12203",
    "FLR": "4", "ROOM": "412",
}  # fmt: skip
SEEN_AT = """() => { window.seenAt = {}; new MutationObserver((changes) => { for (const change of changes)
  for (const added of change.addedNodes) if (added.id) window.seenAt[added.id] ??= Date.now(); })
  .observe(document.getElementById("alert-list"), { childList: true }); }"""


@pytest_asyncio.fixture(loop_scope="session")
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A whole node with a line, a place and a carrier that answers."""
    carrier = Carrier(ring_s=0.01)
    await carrier.start()
    try:
        async with Node(tmp_path) as running:
            await running.set_up()
            place = await running.api("POST", "locations", {"name": "Headquarters", "civic_address": CIVIC})
            await running.api("PATCH", "account", {"default_location_id": place["id"]}, If_Match="*")
            await running.api("POST", "pbxs", {"name": "PBX", "sources": ["127.0.0.1/32"]})
            host, port = carrier.address
            await running.api("POST", "trunks", {"name": "Carrier", "host": host, "port": port})
            line = {
                "extension": "101", "sip_user": "101", "display_name": "Ann Lee", "callback_number": "+15185550101",
                "secret": "s3cret-of-101",
            }  # fmt: skip
            await running.api("POST", "lines", line)
            async with asyncio.timeout(60):
                while not (await place_call(Placing("933", "101", running.udp))).is_answered:
                    await asyncio.sleep(0.05)
            yield running
    finally:
        await carrier.stop()


async def alerts_of(new_page: NewPage, site: Any) -> Page:
    page: Page = await new_page(site)
    await page.goto(f"{site.url}/alerts")
    await expect(page.get_by_text("Watching: calls show here within a second.").first).to_be_visible()
    return page


async def test_a_911_shows_on_two_pages_and_one_press_quiets_both(node: Node, new_page: NewPage):
    """E-11, S0-11: dialed at a phone, on the pages a moment later: who, where, floor and room, how to call back;
    acknowledged on one, seen on the other; 933 is a TEST that rings nowhere.
    """
    site = SimpleNamespace(url=node.admin, email="owner@example.com", password=PASSWORD)
    first, second = await alerts_of(new_page, site), await alerts_of(new_page, site)
    await first.evaluate(SEEN_AT)
    placed = await place_call(Placing("911", "101", node.udp))
    assert placed.is_answered
    for page in (first, second):
        alert = page.locator(".alert.emergency.rings")
        for text in (
            "EMERGENCY", "911 dialed by Ann Lee", "Headquarters", "120 Washington Ave", "Floor 4, Room 412",
            "+15185550101", "Answered",
        ):  # fmt: skip
            await expect(alert).to_contain_text(text)
        await expect(page).to_have_title(re.compile(r"^\(1\) 911 "))
        await expect(page.locator("link[rel=icon]")).to_have_attribute("href", re.compile("icon-alarm"))
        await expect(page.get_by_role("alert").filter(has_text="Emergency: 911 dialed by Ann Lee")).to_be_attached()
    calls = await node.api("GET", "emergency-calls?kind=emergency")
    (call,) = calls["data"]
    seen_ms = (await first.evaluate("() => window.seenAt"))[f"alert-{call['id']}"]
    took_s = seen_ms / 1000 - dt.datetime.fromisoformat(call["received_at"]).timestamp()
    assert -0.05 < took_s < 30, took_s
    await first.get_by_role("button", name="Acknowledge 911 from Ann Lee").click()
    for page in (second, first):
        await expect(page.locator(f"#alert-{call['id']}")).to_contain_text("Acknowledged by")
        await expect(page.locator(".alert.rings")).to_have_count(0)
        await expect(page).to_have_title(re.compile(r"^Alerts "))
    await place_call(Placing("933", "101", node.udp))
    test = first.locator(".alert.test").first
    await expect(test).to_contain_text("TEST: nobody needs help")
    await expect(first.locator(".alert.rings")).to_have_count(0)
    entries = (await node.api("GET", "audit-log?event=emergency_call.acknowledge"))["data"]
    assert len(entries) == 1


async def add_call(site: Site, **fields: Any) -> str:
    now = utc_now()
    async with site.database.sessions.begin() as session:
        like = await session.get(EmergencyCall, site.ids["call"])
        assert like is not None
        values = {
            "id": new_id("call"), "account_id": site.account_id, "call_id": "x@y", "dialed": "911",
            "kind": "emergency", "caller": like.caller, "location": like.location, "location_source": "subnet",
            "received_at": now, "sent_at": now, "recorded_at": now,
        }  # fmt: skip
        call = EmergencyCall(**values | fields)
        session.add(call)
        record(session, SYSTEM, Event.EMERGENCY_CALL_CREATE, call, account_id=site.account_id)
    return call.id


async def test_sound_is_armed_by_a_press_rings_until_acknowledged_and_says_how_it_stands(
    filled: Site, new_page: NewPage
):
    """E-11: no browser makes a sound unasked: the page says so until somebody presses, by keyboard as well."""
    page = await alerts_of(new_page, filled)
    arm = page.locator("#arm")
    await expect(arm).to_have_attribute("aria-pressed", "false")
    await expect(page.get_by_text("No sound: this browser makes none").first).to_be_visible()
    await arm.focus()
    await page.keyboard.press("Enter")
    await expect(arm).to_have_attribute("aria-pressed", "true")
    await expect(page.get_by_text("Sound is armed: this page rings").first).to_be_visible()
    tones = """() => { window.tones = 0; const start = OscillatorNode.prototype.start;
      OscillatorNode.prototype.start = function (...at) { window.tones += 1; return start.apply(this, at); }; }"""
    await page.evaluate(tones)
    await page.wait_for_function("() => window.tones >= 12")  # the call that is there rings again and again
    await page.locator(".alert.rings button").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".alert.rings")).to_have_count(0)
    await page.evaluate("() => { window.tones = 0; }")
    await add_call(filled, kind="test", dialed="933")
    await expect(page.locator(".alert.test")).to_have_count(2)
    assert await page.evaluate("() => window.tones") == 0
    await page.get_by_label("One tone for test calls too").check()
    await add_call(filled, kind="test", dialed="933")
    await page.wait_for_function("() => window.tones === 1")
    await add_call(filled, kind="drill", outcome="drill")
    await expect(page.locator(".alert.drill.rings")).to_contain_text("DRILL")
    await page.wait_for_function("() => window.tones > 6")
    await page.reload()
    await expect(page.get_by_text("No sound: this browser makes none").first).to_be_visible()


async def test_a_page_without_a_network_says_since_when_it_is_blind_and_catches_up(filled: Site, new_page: NewPage):
    """E-11: an outage never looks like quiet: a banner with the time, then every call that was missed."""
    page = await alerts_of(new_page, filled)
    await page.context.set_offline(True)
    banner = page.get_by_role("alert").filter(has_text=re.compile(r"has not seen calls since \d"))
    await expect(banner).to_be_visible()
    await expect(page.get_by_text("Not watching.").first).to_be_visible()
    missed = await add_call(filled)
    await page.context.set_offline(False)
    await expect(page.locator(f"#alert-{missed}")).to_be_visible()
    await expect(banner).to_be_hidden()
    await expect(page.get_by_text("Watching: calls show here within a second.").first).to_be_visible()


async def test_a_signed_out_page_says_so_and_where_to_sign_in(filled: Site, new_page: NewPage):
    """E-11: a session that was ended leaves no page that looks as if it watched."""
    page = await alerts_of(new_page, filled)
    other = await page.context.new_page()
    await other.goto(f"{filled.url}/calls")
    await other.get_by_role("button", name="Sign out").click()
    await other.wait_for_url(re.compile("/login"))
    await page.context.set_offline(True)
    await page.context.set_offline(False)
    await expect(page.get_by_text("You are signed out.").first).to_be_visible()
    await page.get_by_role("link", name="Sign in again").click()
    await page.wait_for_url(re.compile(r"/login\?next=%2Falerts"))


async def test_a_display_keeps_to_alerts(filled: Site, new_page: NewPage):
    """E-11: left open for days by whoever has a desk: only alerts, said so on the page."""
    page = await alerts_of(new_page, filled)
    await page.get_by_role("button", name="Leave this page open for days").click()
    await page.get_by_role("dialog").get_by_role("button", name="Leave this page open for days").click()
    await expect(page.get_by_text("This browser is a display: it shows alerts and nothing else.").first).to_be_visible()
    await expect(page.get_by_role("link", name="Settings")).to_have_count(0)
    await page.goto(f"{filled.url}/settings")
    await expect(page.get_by_text("This browser is a display").first).to_be_visible()


async def test_without_scripts_the_list_is_there_asks_again_and_can_be_acknowledged(filled: Site, new_page: NewPage):
    """E-11: reading and acknowledging work without JavaScript."""
    page = await new_page(filled, java_script_enabled=False)
    await page.goto(f"{filled.url}/alerts")
    assert 'http-equiv="refresh" content="15"' in await page.content()
    await expect(page.get_by_text("asks for new calls every 15 seconds and makes no sound").first).to_be_visible()
    await page.locator(".alert.rings").get_by_role("button", name=re.compile("Acknowledge")).click()
    await expect(page.get_by_text("Acknowledged. Every page that shows this call says so").first).to_be_visible()
    await expect(page.locator(".alert.rings")).to_have_count(0)


async def test_what_rings_has_no_axe_violation_and_fits_a_phone(filled: Site, new_page: NewPage):
    """E-11, E-12: calls that ring and a drill of whom nothing is known; both themes, both widths."""
    await add_call(filled)
    drill = await add_call(filled, kind="drill", outcome="drill", caller={})
    for scheme, width in (("light", 1280), ("dark", 375)):
        page = await new_page(filled, color_scheme=scheme, viewport={"width": width, "height": 900})
        for path in ("/alerts", f"/calls/{drill}"):
            answer = await page.goto(filled.url + path)
            assert answer.status == 200, path
            assert len(await answer.body()) < 150_000
            assert await violations(page) == [], path
            wide = await page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, (path, width)
        await page.goto(f"{filled.url}/alerts")
        await page.locator(".alert.emergency.rings .facts").first.wait_for()
        for between in (641, 768, 800, 820, 1024, 1152, 1200):
            await page.set_viewport_size({"width": between, "height": 900})
            wide = await page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, between
