"""SMS, chat and escalation set up in a real browser: a test message's answer in words, no rule of axe broken."""

from collections.abc import Callable
from typing import Any

from playwright.async_api import expect

from tests.browser.looking import looked_at_in_every_way
from tests.browser.site import Site


async def test_somebody_is_told_by_chat_and_more_when_nobody_acknowledges(
    owned: Site, new_page: Callable[..., Any]
) -> None:
    """E-11: from Settings in one click each; the address is never shown again."""
    page = await new_page(owned)
    await page.goto(f"{owned.url}/settings")
    await page.get_by_role("link", name="Add SMS or chat").click()
    await page.get_by_text("What addresses look like").click()
    await looked_at_in_every_way(page, "chat-new")
    await page.get_by_label("Name").fill("Night guard")
    await page.get_by_role("textbox", name="Address").fill("jsons://localhost/s3cretPath99")
    await page.get_by_role("button", name="Add recipient").click()
    await page.get_by_role("button", name="Send a test message").click()
    await expect(page.get_by_text("no public address").first).to_be_visible()
    assert "s3cretPath99" not in await page.content()
    await looked_at_in_every_way(page, "chat")
    await page.goto(f"{owned.url}/settings")
    await page.get_by_role("link", name="Tell more people when nobody acknowledges").click()
    await page.get_by_label("Mail").first.fill("duty@example.com")
    await page.get_by_label("Night guard (jsons://…th99)").first.check()
    await page.get_by_text("Tell more people").first.click()
    await looked_at_in_every_way(page, "escalation")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("It holds from the next call on").first).to_be_visible()
    await page.goto(f"{owned.url}/settings")
    await expect(page.get_by_text("When nobody acknowledges: after 1 minute").first).to_be_visible()
    await expect(page.get_by_text("Last try failed").first).to_be_visible()
    await looked_at_in_every_way(page, "settings-chats")
