"""A real browser on a real site: Debian's Chromium through Playwright's async API, one site and one profile a test.

The browser is started once: every test of this folder runs in one event loop, which the browser belongs to.
"""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.browser.site import Site, open_site

# Without a window to draw, what is shown is the same and costs half; Debian's full browser where that one is not.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), None)
PLAIN_HOST = "callpoint.test"  # unlike 127.0.0.1, plain HTTP there is no secure context, as on a LAN
# What Chromium does beside showing pages: two documents for the address bar of each window cost as much as a page of
# ours. A second --disable-features replaces Playwright's own, so that what counts of that one stands here too.
FEATURES = (
    "HttpsUpgrades", "HttpsFirstBalancedModeAutoEnable", "AimEnabled", "AiModeOmniboxEntryPoint", "OmniboxAimPopup",
    "WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup", "PreloadTopChromeWebUI", "LensOverlay",
    "MediaRouter", "OptimizationHints", "NetworkTimeServiceQuerying", "PreconnectToSearch", "PaintHolding",
    "DestroyProfileOnBrowserClose", "AvoidUnnecessaryBeforeUnloadCheckSync",
)  # fmt: skip
ARGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-software-rasterizer",
    f"--disable-features={','.join(FEATURES)}", f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1",
)  # fmt: skip
TIMEOUT_MS = 60_000  # how long a page that hangs is waited for; a slow machine is no fault of the page
expect.set_options(timeout=TIMEOUT_MS)  # of its own accord it gives up after 5 s
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(loop_scope="session")
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A site with nothing in it, not even an account."""
    async with open_site(tmp_path) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="session")
async def owned(site: Site) -> Site:
    """A site with an account and its owner."""
    await site.add_owner()
    return site


@pytest_asyncio.fixture(loop_scope="session")
async def filled(owned: Site) -> Site:
    """A site with everything that pages can show."""
    await owned.fill()
    return owned


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGS))
        yield launched
        await launched.close()


@pytest_asyncio.fixture(loop_scope="session")
async def new_page(browser: Browser) -> AsyncIterator[Callable[..., Any]]:
    """`await new_page(site, **context options)`: an empty page of its own profile, its cookie that of the site's owner.

    A script error or a refusal by the content security policy on any page fails the test.
    """
    problems: list[str] = []
    async with AsyncExitStack() as stack:

        async def opened(site: Site, *, signed_in: bool = True, **options: Any) -> Page:
            context: BrowserContext = await browser.new_context(**options)
            stack.push_async_callback(context.close)
            context.set_default_timeout(TIMEOUT_MS)
            page = await context.new_page()
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on(
                "console",
                lambda message: problems.append(message.text) if "Content Security Policy" in message.text else None,
            )
            if signed_in:
                await (sign_in(page, site) if PLAIN_HOST in site.url else _let_in(context, site))
            return page

        yield opened
    assert problems == []


async def _let_in(context: BrowserContext, site: Site) -> None:
    """Sign in as the form does, without drawing it: the context has the cookie. Names are resolved outside Chromium."""
    form: dict[str, str | float | bool] = {"email": site.email, "password": site.password}
    answer = await context.request.post(f"{site.url}/login", form=form, max_redirects=0)
    assert (answer.status, answer.headers["location"]) == (303, "/"), await answer.text()
    await answer.dispose()


async def sign_in(page: Page, site: Site) -> None:
    """Through the form, to the first page."""
    await page.goto(f"{site.url}/login")
    await page.get_by_label("E-mail").fill(site.email)
    await page.get_by_label("Password").fill(site.password)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(f"{site.url}/")
