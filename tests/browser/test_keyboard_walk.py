"""A day's round with the keyboard alone: no pointer, focus always in sight and never lost."""

from collections.abc import Awaitable, Callable

from playwright.async_api import Page, expect

from tests.browser.site import Site

NewPage = Callable[..., Awaitable[Page]]
MAX_STOPS = 200  # of one page: every link, field and button of the longest one
FOCUSED = """() => {
  const on = document.activeElement;
  const style = getComputedStyle(on);
  const label = on.labels?.length ? on.labels[0].innerText : "";
  return {
    name: (on.getAttribute("aria-label") || label || on.innerText || on.value || "").trim(),
    tag: on.tagName,
    isShown: style.outlineStyle !== "none" || style.boxShadow !== "none" || on.type === "checkbox",
  };
}"""


async def tab_to(page: Page, name: str, tag: str) -> None:
    """Press Tab until that element has the focus; every stop on the way shows that it has it."""
    seen = []
    for _ in range(MAX_STOPS):
        await page.keyboard.press("Tab")
        stop = await page.evaluate(FOCUSED)
        seen.append(stop["name"][:40])
        if stop["tag"] != "BODY":
            assert stop["isShown"], f"nobody sees that {stop['name']!r} has the focus"
        if stop["tag"] == tag and stop["name"].startswith(name):
            return
    raise AssertionError(f"{name!r} cannot be reached by Tab: {seen}")


async def test_a_round_of_the_pages_with_the_keyboard_alone(filled: Site, new_page: NewPage) -> None:
    """S1-01, S0-05, S0-43, S0-48, S0-49: sign in, change and save, filter, clear, copy, without a pointer."""
    page = await new_page(filled, signed_in=False)
    await page.goto(f"{filled.url}/login")
    await tab_to(page, "E-mail", "INPUT")
    await page.keyboard.type(filled.email)
    await tab_to(page, "Password", "INPUT")
    await page.keyboard.type(filled.password)
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"{filled.url}/")

    await page.keyboard.press("Tab")  # the first stop of a page leads past its menu
    assert (await page.evaluate(FOCUSED))["name"] == "Skip to content"
    await page.keyboard.press("Enter")
    assert await page.evaluate("() => document.activeElement.id") == "main"

    await page.goto(f"{filled.url}/")
    await tab_to(page, "Settings", "A")
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"{filled.url}/settings")
    await tab_to(page, "Name", "INPUT")
    await page.keyboard.press("Control+a")
    await page.keyboard.type("Acme Dental and Sons")
    await tab_to(page, "Save", "BUTTON")
    await page.keyboard.press("Enter")
    details = page.get_by_role("complementary", name="Account details")
    await expect(details.get_by_text("Saved").first).to_be_visible()
    assert (await page.evaluate(FOCUSED))["tag"] != "BODY", "the focus is lost after saving"

    await page.goto(f"{filled.url}/audit")
    await tab_to(page, "Actor", "INPUT")
    await page.keyboard.type("monitoring")
    await page.keyboard.press("Enter")
    await page.wait_for_url(lambda url: "actor=monitoring" in url)
    await expect(page.get_by_text("2001:db8::77").first).to_be_visible()
    await tab_to(page, "Clear Filters", "A")
    await page.keyboard.press("Enter")
    await page.wait_for_url(lambda url: "actor=" not in url)


async def test_what_was_done_is_told_where_one_is_and_the_focus_stays(filled: Site, new_page: NewPage) -> None:
    """E-11, S0-13, S0-19, S0-23, S1-01: a call acknowledged, a secret copied, a dialog left, a recipient removed in
    sight of what it says, a refused form begun at its first fault, a telephone's menu closed: all without a pointer.
    """
    page = await new_page(filled)
    said = page.locator("#status")
    await page.goto(f"{filled.url}/alerts")
    await tab_to(page, "Acknowledge", "BUTTON")
    await page.keyboard.press("Enter")
    await expect(page.locator(".alert.rings")).to_have_count(0)
    await expect(page.get_by_role("link", name="Open the call").first).to_be_focused()
    await expect(said).to_contain_text("Acknowledged by Olive Owner")

    await page.goto(f"{filled.url}/settings")
    await tab_to(page, "Provisioning", "BUTTON")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Rotate", exact=True)).to_be_visible()
    await tab_to(page, "Copy", "BUTTON")
    await page.keyboard.press("Enter")
    await expect(said).to_have_text("Copied provisioning token.")
    await tab_to(page, "Rotate", "BUTTON")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Escape")
    assert (await page.evaluate(FOCUSED))["name"] == "Rotate"

    await page.goto(f"{filled.url}/settings")
    await tab_to(page, "Remove", "BUTTON")
    await page.keyboard.press("Enter")
    await expect(said).to_have_text("Recipient removed.")
    await expect(page.locator("#recipients > .note")).to_be_in_viewport()

    await page.goto(f"{filled.url}/locations/new")
    await page.get_by_label("Country").fill("nowhere")
    await tab_to(page, "Add location", "BUTTON")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Name", exact=True)).to_be_focused()

    await page.set_viewport_size({"width": 375, "height": 700})
    await page.goto(f"{filled.url}/")
    await tab_to(page, "Menu", "BUTTON")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    assert (await page.evaluate(FOCUSED))["name"] == "Home"
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Menu")).to_be_focused()
    await expect(page.locator("#menu")).to_be_hidden()
