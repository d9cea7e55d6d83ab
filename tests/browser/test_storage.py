"""The storage page in a real browser: what is kept, a shorter time that is told first, a disk that fills up."""

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.async_api import expect

from admin.context import DISK
from engine.config import Storage
from engine.db import utc_now
from tests import aging
from tests.browser.looking import violations
from tests.browser.site import Site

SHOTS = os.environ.get("CALLPOINT_SHOTS")  # a folder for who wants to look


async def _is_sound(page: Any, name: str) -> None:
    for scheme in ("light", "dark"):
        for width in (1280, 375):
            await page.emulate_media(color_scheme=scheme)
            await page.set_viewport_size({"width": width, "height": 900})
            assert await violations(page) == [], f"{name} {scheme} {width}"
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} {width}"
            if SHOTS:
                await page.screenshot(path=Path(SHOTS) / f"{name}-{scheme}-{width}.png", full_page=True)


async def test_a_shorter_time_is_told_before_anything_goes(owned: Site, new_page: Callable[..., Any]) -> None:
    """S1-22: from Settings in one click; what would go with its exports at hand, nothing typed lost, then saved."""
    await aging.aged(owned.database, owned.keys, owned.account_id, utc_now() - dt.timedelta(days=500))
    page = await new_page(owned)
    await page.goto(f"{owned.url}/settings")
    await page.get_by_role("link", name="Change how long records are kept").click()
    await expect(page.get_by_role("heading", name="Storage", level=1)).to_be_visible()
    await expect(page.get_by_role("row", name="Audit log")).to_contain_text("for ever")
    await page.get_by_label("Audit log").fill("400")
    await page.get_by_label("Fetch log").fill("0")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Expected 1 to 3,650 days, got 0.").first).to_be_visible()
    await _is_sound(page, "storage-faults")
    await page.get_by_label("Fetch log").fill("30")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text(" until ").filter(has_text="would be removed")).to_be_visible()
    await expect(page.get_by_role("link", name="audit log as JSON Lines")).to_be_visible()
    assert await page.get_by_label("Fetch log").input_value() == "30"
    await _is_sound(page, "storage-removal")
    await page.get_by_label("They may go").check()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("What is older is removed within hours").first).to_be_visible()
    await expect(page.get_by_role("row", name="Audit log")).to_contain_text("400 days")
    watch = owned.app[DISK]
    watch.section, watch.measure = Storage(), lambda _folder: 180_000_000
    await watch.look()
    await page.goto(f"{owned.url}/")
    await expect(page.get_by_text("The disk is nearly full: 180 MB left.").first).to_be_visible()
    await page.get_by_role("link", name="Storage").click()
    await expect(page.get_by_text("The disk is nearly full: 180 MB left.").first).to_be_visible()
    await _is_sound(page, "storage")
