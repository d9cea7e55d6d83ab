"""For everybody: the skip link, states that axe sees only once they are opened, large targets, no script.

Every page in its first state is in `test_every_page`.
"""

from collections.abc import Callable
from typing import Any

from playwright.async_api import Page, expect

from tests.browser.looking import THEMES, violations
from tests.browser.site import Site

NewPage = Callable[..., Any]
PATHS = (
    "/", "/locations", "/locations/new", "/phones", "/phones/new", "/phones/import", "/phones/settings",
    "/phones/settings/level?name=account", "/phones/templates", "/phones/templates/grandstream/base.xml.j2",
    "/calls", "/audit", "/audit?group=description&target=nothing", "/audit/views", "/audit/anomalies", "/settings",
    "/settings/api-keys", "/settings/address", "/settings/provisioning", "/settings/numbers", "/settings/pbxs/new",
    "/settings/trunks/new", "/settings/trunk-groups/new", "/locations/twins",
    "/settings/provisioning/boot", "/settings/phone-security", "/alerts",
    "/phones/alarms", "/locations/tests", "/help/alerts",
    "/help/emergency", "/help/locations", "/help/provisioning", "/api", "/prove", "/nowhere",
)  # fmt: skip


def addresses(site: Site) -> list[str]:
    """Every page, those of single things included."""
    ids = site.ids
    return [
        *PATHS, f"/phones/{ids['phone']}", f"/phones/{ids['waiting_phone']}", f"/locations/{ids['location']}",
        f"/lines/{ids['line']}", f"/calls/{ids['call']}", f"/calls/{ids['lost_call']}", f"/audit/{ids['audit_entry']}",
        f"/audit/views/{ids['audit_view']}", f"/audit/anomalies/{ids['anomaly']}",
    ]  # fmt: skip


async def with_entry(site: Site, page: Page) -> None:
    """Note one audit entry's id among the site's."""
    await page.goto(f"{site.url}/audit")
    site.ids["audit_entry"] = str(await page.locator("#audit-rows tr").first.get_attribute("data-id"))


async def test_axe_finds_nothing_in_dialogs_pickers_and_refused_forms(filled: Site, new_page: NewPage):
    """S1-01 (WCAG 2.2 AA): the states that a page has besides its first one."""
    page = await new_page(filled, viewport={"width": 1280, "height": 900})

    async def clean() -> None:
        for theme, options in THEMES:
            await page.emulate_media(color_scheme=theme)
            seen = await violations(page, **options)
            assert [f"{theme} {one['id']}: {[node['html'][:160] for node in one['nodes']]}" for one in seen] == []

    await page.goto(f"{filled.url}/settings")
    await page.locator("#f-name").fill("Changed")
    await page.get_by_role("button", name="Provisioning").click()
    await page.get_by_role("button", name="Audit Logs").click()
    await page.locator("#audit-rows tr").first.wait_for()
    await page.locator("#value-token").wait_for()
    await clean()
    await page.get_by_role("button", name="Rotate").click()
    await clean()
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Edit billing address").click()
    await clean()
    await page.locator("#f-name").evaluate("field => field.form.reset()")
    await page.goto(f"{filled.url}/audit")
    await page.get_by_role("button", name="Event: choose types").click()
    await clean()
    await page.goto(f"{filled.url}/phones/new")
    await page.get_by_label("MAC address").fill("nonsense")
    await page.get_by_role("button", name="Add phone").click()
    await clean()


async def test_the_first_tab_stop_is_a_skip_link_that_moves_focus_to_the_content(filled: Site, new_page: NewPage):
    """S1-01: Tab once, Enter, and the next Tab is inside main."""
    page = await new_page(filled)
    for path in ("/", "/settings", "/audit"):
        await page.goto(filled.url + path)
        await page.keyboard.press("Tab")
        link = page.get_by_role("link", name="Skip to content")
        await expect(link).to_be_focused()
        await expect(link).to_be_in_viewport()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.closest('main') !== null")


async def test_targets_are_large_enough(filled: Site, new_page: NewPage):
    """WCAG 2.5.8: buttons, inputs and links that stand alone measure at least 24 by 24 CSS pixels."""
    page = await new_page(filled, viewport={"width": 375, "height": 900})
    small = """[...document.querySelectorAll("button, input:not([type=hidden]), select, nav a, a.button, summary")]
      .filter((element) => element.checkVisibility({visibilityProperty: true}) && !element.closest("label"))
      .map((element) => [element.getBoundingClientRect(), element.outerHTML.slice(0, 90)])
      .filter(([box]) => box.width > 2 && (box.width < 24 || box.height < 24)).map(([, html]) => html)"""
    for path in ("/", "/settings", "/audit", "/phones", f"/calls/{filled.ids['call']}"):
        await page.goto(filled.url + path)
        assert await page.evaluate(small) == [], path


async def test_everything_can_be_read_without_javascript(filled: Site, new_page: NewPage):
    """S0-01 (no script): all pages show their content; provisioning and audit are pages of their own."""
    page = await new_page(filled, java_script_enabled=False)
    await with_entry(filled, page)
    for path in addresses(filled):
        await page.goto(filled.url + path)
        await expect(page.locator("h1").first).to_be_attached()
    await page.goto(f"{filled.url}/settings")
    await page.get_by_role("link", name="Provisioning").click()
    await expect(page.locator("#value-token")).to_be_visible()
    await page.goto(f"{filled.url}/settings")
    await page.get_by_role("link", name="Audit Logs").click()
    await page.get_by_label("Actor: begins with").fill("monit")
    await page.get_by_role("button", name="Apply").click()
    await expect(page.locator("#audit-rows tr[data-id]")).to_have_count(2)


async def test_forms_work_without_javascript(filled: Site, new_page: NewPage):
    """S0-05, S0-25 (no script): the save button is there, the rotation warns on a page of its own."""
    page = await new_page(filled, java_script_enabled=False)
    await page.goto(f"{filled.url}/settings")
    await page.locator("#f-name").fill("Acme Dental Group")
    await page.locator("form:has(#f-name)").get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_text("Account saved.").first).to_be_visible()
    await page.get_by_label("Time zone").select_option("America/Denver")
    await page.get_by_role("button", name="Save preferences").click()
    await expect(page.get_by_label("Time zone")).to_have_value("America/Denver")
    await page.goto(f"{filled.url}/settings/provisioning")
    await page.get_by_role("link", name="Rotate").click()
    await expect(page.get_by_text("The present URL stops working at once.").first).to_be_visible()
    await page.get_by_role("button", name="Rotate token").click()
    await expect(page.get_by_text("The old URL is dead.").first).to_be_visible()


async def test_the_menu_opens_on_a_small_screen(filled: Site, new_page: NewPage):
    """S0-02 (375 px): the sidebar is a menu there; Escape closes it."""
    page = await new_page(filled, viewport={"width": 375, "height": 800})
    await page.goto(filled.url)
    await expect(page.get_by_role("link", name="Settings", exact=True)).to_be_hidden()
    await page.get_by_role("button", name="Menu").click()
    await expect(page.get_by_role("link", name="Settings", exact=True)).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("link", name="Settings", exact=True)).to_be_hidden()
    await page.get_by_role("button", name="Menu").click()
    await page.get_by_role("link", name="Settings", exact=True).click()
    await expect(page.get_by_role("heading", name="Settings", level=1)).to_be_visible()
