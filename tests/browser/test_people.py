"""Users, invitations and sign-ins in a real browser: by keyboard, without script, on a phone, in both themes."""

from playwright.async_api import Page, expect

from engine.models import Role
from tests.browser.conftest import sign_in
from tests.browser.looking import NewPage, looked_at_in_every_way
from tests.browser.site import Site

PASSWORD = "violet tractor hums beneath nine lakes"  # a test's


async def _invite(page: Page, site: Site, email: str, role: str = "Operator") -> str:
    """Invite somebody by the page; the link it shows."""
    await page.goto(f"{site.url}/users")
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Name", exact=True).fill("Sam Field")
    await page.get_by_label("Role", exact=True).select_option(label=role)
    await page.get_by_role("button", name="Invite").click()
    return await page.locator("#value-invitation").inner_text()


async def _failed_sign_in(page: Page, site: Site) -> None:
    await page.goto(f"{site.url}/login")
    await page.get_by_label("E-mail").fill("nobody@example.net")
    await page.get_by_label("Password").fill("not anybody's password")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_be_visible()


async def test_axe_finds_nothing_on_the_pages_about_people(owned: Site, new_page: NewPage):
    """S1-01, S1-60 (WCAG 2.2 AA): each page and state; none scrolls sideways; each is small."""
    page = await new_page(owned)
    await owned.add_user("auditor@example.com", Role.AUDITOR)
    link = await _invite(page, owned, "sam@example.com")
    await looked_at_in_every_way(page, "users-invited")
    await page.get_by_label("E-mail").fill("sam@example.com")
    await page.get_by_role("button", name="Invite").click()
    await looked_at_in_every_way(page, "users-refused")
    await page.goto(f"{owned.url}/users")
    await looked_at_in_every_way(page, "users")
    await page.get_by_role("link", name="Sam Field").click()
    await looked_at_in_every_way(page, "user")
    stranger = await new_page(owned, signed_in=False)
    await _failed_sign_in(stranger, owned)
    page, owner = stranger, page
    await page.goto(link)
    await looked_at_in_every_way(page, "invitation")
    await page.goto(f"{owned.url}/invitation?k=none")
    await looked_at_in_every_way(page, "invitation-dead")
    page = owner
    for name, address in (
        ("auth-log", "/auth-log"),
        ("auth-log-empty", "/auth-log?user=kim"),
        ("settings", "/settings"),
    ):
        await page.goto(owned.url + address)
        await looked_at_in_every_way(page, name)


async def test_somebody_is_invited_accepts_and_is_removed_by_keyboard(owned: Site, new_page: NewPage):
    """S1-10 to S1-13, S1-60: the whole of it with Tab and Enter; removing takes the session at once."""
    page = await new_page(owned)
    await page.goto(f"{owned.url}/users")
    await page.get_by_label("E-mail").focus()
    await page.keyboard.type("sam@example.com")
    await page.keyboard.press("Tab")
    await page.keyboard.type("Sam Field")
    await page.keyboard.press("Tab")
    await page.keyboard.press("A")  # Account manager and Auditor begin with it, Admin too: type ahead goes on
    await page.get_by_label("Role", exact=True).select_option(label="Operator")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    link = await page.locator("#value-invitation").inner_text()
    sam = await new_page(owned, signed_in=False)
    await sam.goto(link)
    await sam.get_by_label("Password").focus()
    await sam.keyboard.type(PASSWORD)
    await sam.keyboard.press("Enter")
    await sam.wait_for_url(f"{owned.url}/")
    await expect(sam.get_by_role("link", name="Audit log")).to_have_count(0)
    await expect(sam.get_by_role("link", name="Users", exact=True)).to_have_count(0)
    await page.goto(f"{owned.url}/users")
    await page.get_by_role("link", name="Sam Field").focus()
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Remove").focus()
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Remove Sam Field?")
    await dialog.get_by_role("button", name="Remove").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status").filter(has_text="User removed").first).to_be_visible()
    await sam.goto(f"{owned.url}/phones")
    assert "/login" in sam.url
    await page.goto(f"{owned.url}/auth-log?user=sam")
    await expect(page.get_by_text("they were removed").first).to_be_visible()


async def test_a_session_is_ended_from_the_log(owned: Site, new_page: NewPage):
    """S1-33, S1-62: the other browser is out at its next request; one's own has no such button."""
    page = await new_page(owned)
    other = await new_page(owned, signed_in=False)
    await sign_in(other, owned)
    await page.goto(f"{owned.url}/auth-log")
    await expect(page.get_by_text("this browser")).to_have_count(1)
    await page.get_by_role("button", name="End the session").click()
    await page.get_by_role("dialog").get_by_role("button", name="End session").click()
    await expect(page.get_by_role("status").filter(has_text="Session ended").first).to_be_visible()
    await expect(page.get_by_text("Revoked").last).to_be_visible()
    await other.goto(f"{owned.url}/phones")
    assert "/login" in other.url


async def test_without_script_people_are_invited_and_the_log_is_read(owned: Site, new_page: NewPage):
    """S1-10, S1-60: nothing of it needs a script."""
    page = await new_page(owned, java_script_enabled=False)
    assert "/invitation?k=" in await _invite(page, owned, "sam@example.com", "Auditor")
    await page.goto(f"{owned.url}/auth-log")
    await page.get_by_label("What").select_option(label="Sign-ins")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.get_by_text("Running").last).to_be_visible()
    assert "outcome=success" in page.url
