"""Roll-outs in the browser: from a change written down to all phones, and back by itself; a phone's files compared."""

import zlib
from typing import Any

import pytest
from playwright.async_api import expect

from engine.audit.record import SYSTEM
from engine.db import utc_now
from engine.models import FetchedFile, Phone, Rollout
from engine.provisioning import rollout
from tests.browser.looking import NewPage, looked_at, looked_at_in_every_way
from tests.browser.site import Site


async def test_a_change_goes_from_paper_to_some_phones_to_all(filled: Site, new_page: NewPage):
    """P-15, S1-01: the form, its refusal, the progress bar, the groups, the first phones, and what is published."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/phones/rollouts")
    await looked_at_in_every_way(page, "rollouts-empty")
    await page.get_by_label("What to change").select_option("settings:account")
    await page.get_by_role("button", name="Continue").press("Enter")
    await page.get_by_label("Settings").fill('{"ntp_server": "no such host"}')
    await page.get_by_role("button", name="Dry run").click()
    await expect(page.get_by_text("xpected a host name or an address", exact=False).first).to_be_visible()
    await looked_at_in_every_way(page, "rollout-refused")
    await page.get_by_label("Settings").fill('{"ntp_server": "ntp.example.com", "lldp": false}')
    await page.get_by_role("button", name="Dry run").click()
    await expect(page.get_by_role("heading", name="Dry run")).to_be_visible()
    await expect(page.get_by_role("heading", name="Rendered")).to_be_visible(timeout=120_000)  # the page follows it
    await expect(page.locator("progress")).to_have_js_property(
        "value", await page.locator("progress").evaluate("m => m.max")
    )
    await expect(page.get_by_text("ntp.example.com").first).to_be_visible()
    await looked_at_in_every_way(page, "dry-run")
    await page.get_by_label("So many at random").fill("0")
    await page.get_by_role("button", name="Begin").click()
    await expect(page.get_by_text("Expected a whole number from 1 to 1000.").first).to_be_visible()
    await page.get_by_label("So many at random").fill("1")
    await page.get_by_role("button", name="Begin").click()
    await expect(page.get_by_text("Begun. These phones are asked to fetch now.").first).to_be_visible()
    await looked_at_in_every_way(page, "rollout-canary")
    await page.get_by_role("button", name="Publish to all").click()
    await page.get_by_role("dialog").get_by_role("button", name="Publish to all").click()
    await expect(page.get_by_text("Published to all").first).to_be_visible()
    await looked_at_in_every_way(page, "rollout-published")
    await page.goto(f"{filled.url}/phones/rollouts")
    await looked_at_in_every_way(page, "rollouts")


async def test_a_template_is_tried_on_all_phones_from_its_own_page(filled: Site, new_page: NewPage):
    """P-15: the text as it stands in the form goes along; nothing of it is published."""
    page = await new_page(filled)
    await page.goto(f"{filled.url}/phones/templates/yealink/time.cfg.j2")
    await page.get_by_label("Jinja template").fill("{% include 'time.cfg.j2' %}\nphone_setting.backlight_time = 60\n")
    await page.get_by_role("button", name="Dry run on all phones").click()
    await expect(page.get_by_role("heading", name="Rendered")).to_be_visible(timeout=120_000)
    await expect(page.get_by_role("row", name="Added: phone_setting.backlight_time = 60").first).to_be_visible()
    await page.goto(f"{filled.url}/phones/templates")
    await expect(page.get_by_text("None yet: every phone has the shipped templates.").first).to_be_visible()


async def begun(site: Site, **fields: Any) -> str:
    """A roll-out to one phone, as somebody began it."""
    async with site.database.sessions.begin() as session:
        phone = await session.get(Phone, site.ids["phone"])
        assert phone is not None
        row = Rollout(
            **{
                "id": "rollout_0000000000000000000000000a", "account_id": phone.account_id, "kind": "settings",
                "target": "account", "change": {"before": None, "after": {"lldp": False}}, "canary": [phone.id],
                "limits": {"revision": 0, "failures": 0, "minutes": 15}, "counts": {"phones": 1, "waiting": 1},
                "started_by": "owner@example.com", "started_at": utc_now(),
            } | fields
        )  # fmt: skip
        session.add(row)
        rollout.record(session, SYSTEM, rollout.Event.ROLLOUT_CREATE, row)
        return str(row.id)


async def test_a_roll_out_that_is_taken_back_says_so_on_the_open_page(filled: Site, new_page: NewPage):
    """P-15: the page that lies open shows the stop within seconds, with the reason, and offers nothing more."""
    rollout_id = await begun(filled)
    page = await new_page(filled)
    await page.goto(f"{filled.url}/phones/rollouts/{rollout_id}")
    await expect(page.get_by_role("button", name="Publish to all")).to_be_visible()
    async with filled.database.sessions.begin() as session:
        row = await session.get(Rollout, rollout_id)
        assert row is not None
        await rollout.roll_back(
            session, SYSTEM, row, "1 of 1 canary phones failed. Front desk: 911 would wait for 4 s."
        )
    await expect(page.get_by_text("911 would wait for 4 s.").first).to_be_visible(timeout=60_000)
    await expect(page.get_by_role("button", name="Publish to all")).to_have_count(0)
    await looked_at(page, "rollout-stopped")


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 375)])
async def test_a_phones_files_are_compared_with_what_it_fetched(
    filled: Site, new_page: NewPage, theme: str, width: int
):
    """P-15: what was removed and added is told in words too."""
    async with filled.database.sessions.begin() as session:
        phone = await session.get(Phone, filled.ids["phone"])
        assert phone is not None
        session.add(
            FetchedFile(
                phone_id=phone.id, name=f"{phone.mac}.cfg", account_id=phone.account_id, etag='"one"',
                body=zlib.compress(b"#!version:1.0.0.1\naccount.1.enable = 0\n"), fetched_at=utc_now(),
            )
        )  # fmt: skip
    page = await new_page(filled, color_scheme=theme, viewport={"width": width, "height": 900})
    await page.goto(f"{filled.url}/phones/{filled.ids['phone']}/files")
    await expect(page.get_by_role("row", name="Removed: account.1.enable = 0")).to_be_visible()
    await looked_at(page, "phone-files")
