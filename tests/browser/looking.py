"""Looking at a page as it stands: its size, its headings, its width, and what axe has to complain of.

`CALLPOINT_SHOTS` in the environment names a folder to put pictures into, for people who look at pages.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

NewPage = Callable[..., Any]
MAX_PAGE_BYTES = 150_000
SHOTS = os.environ.get("CALLPOINT_SHOTS", "")
DARK = "matchMedia('(prefers-color-scheme: dark)').matches"


async def looked_at(page: Page, name: str) -> None:
    """Small, one heading, no sideways scrolling, and nothing for axe to complain of."""
    assert len((await page.content()).encode()) < MAX_PAGE_BYTES, name
    assert await page.locator("h1").count() == 1, name
    width = await page.evaluate("innerWidth")
    assert await page.evaluate("document.documentElement.scrollWidth") <= width, name
    found = (await Axe().run(page)).response["violations"]
    assert [f"{name} {one['id']}: {[node['html'][:160] for node in one['nodes']]}" for one in found] == []
    if SHOTS:
        theme = "dark" if await page.evaluate(DARK) else "light"
        await page.screenshot(path=Path(SHOTS) / f"{name}-{theme}-{width}.png", full_page=True)


async def looked_at_in_every_way(page: Page, name: str) -> None:
    """The same, light and dark, wide and narrow."""
    for scheme in ("light", "dark"):
        for width in (1280, 375):
            await page.emulate_media(color_scheme=scheme)
            await page.set_viewport_size({"width": width, "height": 900})
            await looked_at(page, name)
