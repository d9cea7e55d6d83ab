"""Looking at a page as it stands: its size, its headings, its width, and what axe has to complain of.

`CALLPOINT_SHOTS` in the environment names a folder to put pictures into, for people who look at pages.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

NewPage = Callable[..., Any]
Theme = Literal["light", "dark"]
MAX_PAGE_BYTES = 150_000
SHOTS = os.environ.get("CALLPOINT_SHOTS", "")
DARK = "matchMedia('(prefers-color-scheme: dark)').matches"
COLOURS = {"runOnly": ["color-contrast", "link-in-text-block"]}  # the rules whose verdict a theme can change
THEMES: tuple[tuple[Theme, dict[str, Any]], ...] = (("light", {}), ("dark", COLOURS))  # on one and the same document
_AXE = Axe().axe_script
# Contrast is most of what axe costs, and a thousand rows of a table are measured a thousand times. Text of one style on
# backgrounds of one style has one contrast: three of each such kind that can be seen are measured, the rest is alike.
_ASK = """async (options) => {
  const CONTRAST = 'color-contrast';
  const run = async (where, how) => (await axe.run(where, {resultTypes: ['violations'], ...how})).violations;
  const others = (options.runOnly ?? [null]).filter((rule) => rule !== CONTRAST);
  const found = [];
  if (others.length) {
    const rules = {...options.rules, [CONTRAST]: {enabled: false}};
    found.push(...await run(document, options.runOnly ? {...options, runOnly: others} : {...options, rules}));
  }
  const only = options.runOnly ?? [CONTRAST];
  if (!only.includes(CONTRAST) || options.rules?.[CONTRAST]?.enabled === false) return found;
  const behind = new Map([[null, '']]);
  const ground = (one) => {
    if (!behind.has(one)) {
      const style = getComputedStyle(one);
      const own = [style.backgroundColor, style.backgroundImage, style.opacity, style.filter, style.mixBlendMode];
      const isClear = own.join() === 'rgba(0, 0, 0, 0),none,1,none,normal';
      behind.set(one, ground(one.parentElement) + (isClear ? '' : `<${own}>`));
    }
    return behind.get(one);
  };
  const kinds = new Map();
  const note = (one) => {
    if (!one.checkVisibility() || !one.getClientRects().length) return;
    const style = getComputedStyle(one);
    const kind = [
      one.matches('input, select, textarea, button, a'), one.matches(':disabled'), style.color, style.fontSize,
      style.fontWeight, style.textShadow, style.position, style.clip, style.clipPath, style.transform, ground(one),
    ].join();
    const known = kinds.get(kind) ?? new Set();
    if (known.size < 3) kinds.set(kind, known.add(one));
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) if (texts.currentNode.data.trim()) note(texts.currentNode.parentElement);
  document.querySelectorAll('input, select, textarea').forEach(note);
  const samples = [...new Set([...kinds.values()].flatMap((one) => [...one]))];
  if (samples.length) found.push(...await run({include: samples}, {runOnly: [CONTRAST]}));
  return found;
}"""


async def violations(page: Page, **options: Any) -> list[dict[str, Any]]:
    """What axe has to complain of, by all its rules or as its options say; it is brought into a document once."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(_AXE)
    found: list[dict[str, Any]] = await page.evaluate(_ASK, options)
    return found


async def looked_at(page: Page, name: str, **options: Any) -> None:
    """Small, one heading, no sideways scrolling, and nothing for axe to complain of."""
    assert len((await page.content()).encode()) < MAX_PAGE_BYTES, name
    assert await page.locator("h1").count() == 1, name
    width = await page.evaluate("innerWidth")
    assert await page.evaluate("document.documentElement.scrollWidth") <= width, name
    found = await violations(page, **options)
    assert [f"{name} {one['id']}: {[node['html'][:160] for node in one['nodes']]}" for one in found] == []
    if SHOTS:
        theme = "dark" if await page.evaluate(DARK) else "light"
        await page.screenshot(path=Path(SHOTS) / f"{name}-{theme}-{width}.png", full_page=True)


async def looked_at_in_every_way(page: Page, name: str) -> None:
    """The same, wide and narrow, light and dark: the same document, so that the second theme is asked for colours."""
    for width in (1280, 375):
        await page.set_viewport_size({"width": width, "height": 900})
        for scheme, options in THEMES:
            await page.emulate_media(color_scheme=scheme)
            await looked_at(page, name, **options)
