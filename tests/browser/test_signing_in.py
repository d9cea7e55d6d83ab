"""Second factors, the security page and the profile in a real browser: by keyboard, without script, in both themes."""

from typing import Any

import pyotp
from playwright.async_api import Page, expect

from admin.context import PASSWORDS
from engine.accounts import operators, store_signin
from engine.audit.record import SYSTEM
from engine.models import Account
from tests.browser.conftest import sign_in
from tests.browser.looking import NewPage, looked_at, looked_at_in_every_way
from tests.browser.site import PASSWORD, Site


async def _set_up_app(page: Page, site: Site) -> str:
    """Set an authenticator app up by the profile; its seed."""
    await page.goto(f"{site.url}/profile")
    await page.get_by_role("button", name="Set up an authenticator app").click()
    await page.get_by_text("Type a key instead").click()
    seed = (await page.locator("#value-seed").inner_text()).replace(" ", "")
    await page.get_by_label("Code").fill(pyotp.TOTP(seed).now())
    await page.get_by_role("button", name="Set up").click()
    await expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    return seed


async def _forget_step(site: Site) -> None:
    """The code of this half minute may be used again: no test waits for the next."""
    async with site.database.sessions.begin() as session:
        account = await session.get(Account, site.account_id)
        assert account is not None
        user = await operations_user(session, site)
        factors = await store_signin.factors_of(session, user)
        assert factors.totp is not None
        factors.totp.last_step = None


async def operations_user(session: Any, site: Site) -> str:
    from engine.accounts import store

    user = await store.user_by_email(session, site.email)
    assert user is not None
    return user.id


async def test_axe_finds_nothing_on_the_pages_of_signing_in(owned: Site, new_page: NewPage):
    """S2-30 to S2-38 (WCAG 2.2 AA): each page and state; none scrolls sideways; each is small."""
    page = await new_page(owned)
    await page.goto(f"{owned.url}/settings/security")
    await looked_at_in_every_way(page, "security")
    await page.get_by_label("At least, characters").fill("7")
    await page.get_by_label("Remember. Once in each browser").check()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Expected 8 to 128").first).to_be_visible()
    await looked_at_in_every_way(page, "security-refused")
    await page.get_by_label("At least, characters").fill("16")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("status").filter(has_text="Security policy saved").first).to_be_visible()
    await page.goto(f"{owned.url}/profile")
    await looked_at_in_every_way(page, "profile-none")
    await page.get_by_role("button", name="Set up an authenticator app").click()
    await page.get_by_text("Type a key instead").click()
    await looked_at_in_every_way(page, "profile-app")
    seed = (await page.locator("#value-seed").inner_text()).replace(" ", "")
    await page.get_by_label("Code").fill(pyotp.TOTP(seed).now())
    await page.get_by_role("button", name="Set up").click()
    await expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    await looked_at_in_every_way(page, "recovery-codes")
    await _forget_step(owned)
    other = await new_page(owned, signed_in=False)
    await other.goto(f"{owned.url}/login")
    await other.get_by_label("E-mail").fill(owned.email)
    await other.get_by_label("Password").fill(owned.password)
    await other.get_by_role("button", name="Sign in").click()
    await expect(other.get_by_role("heading", name="Second step")).to_be_visible()
    await looked_at_in_every_way(other, "code")
    await other.get_by_label("Code").fill("000000x")
    await other.get_by_role("button", name="Sign in").click()
    await expect(other.get_by_role("alert")).to_be_visible()
    await looked_at_in_every_way(other, "code-refused")
    await other.get_by_label("Code").fill(pyotp.TOTP(seed).now())
    await other.get_by_label("Do not ask again in this browser").check()
    await other.get_by_role("button", name="Sign in").click()
    await other.wait_for_url(f"{owned.url}/")
    await page.goto(f"{owned.url}/profile")
    await looked_at_in_every_way(page, "profile")
    for name, address in (("api-keys", "/settings/api-keys"), ("auth-log-methods", "/auth-log?method=password_totp")):
        await page.goto(owned.url + address)
        await looked_at_in_every_way(page, name)


async def test_a_second_factor_is_required_set_up_and_used_by_keyboard(owned: Site, new_page: NewPage):
    """S2-33, S2-34: switched on for all; the next sign-in sets one up; all of it with Tab, Space and Enter."""
    page = await new_page(owned)
    await page.goto(f"{owned.url}/settings/security")
    await page.get_by_label("A code besides the password").focus()
    await page.keyboard.press("R")
    await expect(page.get_by_label("A code besides the password")).to_have_value("required")
    await page.get_by_role("button", name="Save").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status").filter(has_text="Security policy saved").first).to_be_visible()
    other = await new_page(owned, signed_in=False)
    await other.goto(f"{owned.url}/audit")
    await other.get_by_label("E-mail").focus()
    await other.keyboard.type(owned.email)
    await other.keyboard.press("Tab")
    await other.keyboard.type(owned.password)
    await other.keyboard.press("Enter")
    await expect(other.get_by_role("heading", name="Set up your second step")).to_be_visible()
    await other.goto(f"{owned.url}/phones")
    assert "/login" in other.url, "nothing opens before the code"
    await other.go_back()
    await other.get_by_text("Type a key instead").focus()
    await other.keyboard.press("Enter")
    seed = (await other.locator("#value-seed").inner_text()).replace(" ", "")
    await other.get_by_label("Code").focus()
    await other.keyboard.type(pyotp.TOTP(seed).now())
    await other.keyboard.press("Enter")
    await expect(other.get_by_role("heading", name="Recovery codes")).to_be_visible()
    await other.get_by_role("link", name="I have kept them").focus()
    await other.keyboard.press("Enter")
    await other.wait_for_url(f"{owned.url}/audit")


async def test_without_script_a_factor_is_set_up_and_a_session_ended(owned: Site, new_page: NewPage):
    """S1-33, S2-34: nothing of it needs a script; the code page takes a code of the app."""
    page = await new_page(owned, java_script_enabled=False)
    seed = await _set_up_app(page, owned)
    await _forget_step(owned)
    other = await new_page(owned, signed_in=False, java_script_enabled=False)
    await other.goto(f"{owned.url}/login")
    await other.get_by_label("E-mail").fill(owned.email)
    await other.get_by_label("Password").fill(owned.password)
    await other.get_by_role("button", name="Sign in").click()
    await other.get_by_label("Code").fill(pyotp.TOTP(seed).now())
    await other.get_by_role("button", name="Sign in").click()
    await other.wait_for_url(f"{owned.url}/")
    await page.goto(f"{owned.url}/profile")
    await page.get_by_role("button", name="End the session").click()
    await expect(page.get_by_role("status").filter(has_text="Session ended").first).to_be_visible()
    await other.goto(f"{owned.url}/phones")
    assert "/login" in other.url


async def test_an_operator_acts_for_an_account_and_it_can_be_seen(owned: Site, new_page: NewPage):
    """S0-35: the banner on each page, the account's own audit log; axe finds nothing."""
    password_hash = await owned.app[PASSWORDS].hash(PASSWORD)
    async with owned.database.sessions.begin() as session:
        await operators.create_operator(session, SYSTEM, "helper@platform.example", "Hanna Helper", password_hash)
    owner, page = await new_page(owned), await new_page(owned, signed_in=False)
    owned.email, kept = "helper@platform.example", owned.email
    await sign_in(page, owned)
    owned.email = kept
    await page.get_by_role("link", name="Accounts").click()
    await page.get_by_role("button", name="Act for Acme Dental").click()
    await expect(page.get_by_text("as platform operator").first).to_be_visible()
    await looked_at(page, "operator")
    await page.get_by_role("button", name="Leave this account").click()
    await expect(page.get_by_role("status").filter(has_text="You act for no account").first).to_be_visible()
    await owner.goto(f"{owned.url}/audit")
    await expect(owner.get_by_text("Platform operator").first).to_be_visible()
