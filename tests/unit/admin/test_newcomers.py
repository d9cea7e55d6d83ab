"""What somebody new to it reads on the pages: what counts, what is missing, and stored names beside the words."""

import re

import pytest

from admin.fetch_words import REASONS, reason_words
from admin.setting_words import WORDS, label_of, value_text
from engine.models import Account
from engine.provisioning.settings import CHECKS
from tests.factories import add_line, add_location, add_pbx, add_phone
from tests.unit.admin.adminport import AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback
TOWN = {"country": "US", "A1": "NY", "A3": "Albany", "PC": "12203"}


async def page(port: AdminPort, site: Site, path: str) -> str:
    answer = await port.call("GET", path, await port.browser(site))
    assert answer.status == 200, path
    return re.sub(r"\s+", " ", await answer.text())


async def test_a_location_with_a_town_alone_is_told_what_is_missing_everywhere(port: AdminPort, site: Site) -> None:
    """P-22: list, form, Settings and Home call it what the phones' gate calls it."""
    async with port.database.sessions.begin() as session:
        account = await session.get(Account, site.account.id)
        assert account is not None
        town = await add_location(session, account, name="Town hall", civic_address=TOWN)
    told = "The house number and street are missing: a 911 call from here names no place that help can be sent to."
    assert told in await page(port, site, f"/locations/{town.id}")
    assert told in await page(port, site, "/locations")
    assert told in await page(port, site, "/settings")
    assert "Town hall has no address" in await page(port, site, "/")


async def test_faults_of_an_address_are_told_at_once_without_a_country_too(port: AdminPort, site: Site) -> None:
    """P-22: country, state and postal code in one answer."""
    body = {"name": "Annex", "civic_address": {"country": "USA", "A1": "New York", "PC": "1220", "A9": "x"}}
    answer = await port.call("POST", "/api/v1/locations", site.auth, json=body)
    assert answer.status == 422
    assert {fault["field"] for fault in (await answer.json())["errors"]} == {
        "civic_address.A9", "civic_address.country", "civic_address.A1", "civic_address.PC",
    }  # fmt: skip


async def test_a_phones_page_says_where_its_line_registers_and_names_its_settings(port: AdminPort, site: Site) -> None:
    """P-10: the only PBX counts for a line that names none; with two it registers nowhere; settings have their
    unit, and their stored name beside the words.
    """
    async with port.database.sessions.begin() as session:
        account = await session.get(Account, site.account.id)
        assert account is not None
        line = await add_line(session, account)
        phone = await add_phone(session, account, line)
    assert "Nowhere: no PBX yet" in await page(port, site, f"/phones/{phone.id}")
    async with port.database.sessions.begin() as session:
        account = await session.get(Account, site.account.id)
        assert account is not None
        await add_pbx(session, account, name="Head office", registrar_host="pbx.example.net")
    text = await page(port, site, f"/phones/{phone.id}")
    assert 'Head office<br><span class="mono muted small">pbx.example.net:5060</span>' in text
    assert 'Registration expires<br><span class="mono muted small">expires_s</span>' in text
    assert "3,600 seconds" in text
    assert "Head office, the only PBX" in await page(port, site, f"/lines/{line.id}?phone={phone.id}")
    async with port.database.sessions.begin() as session:
        account = await session.get(Account, site.account.id)
        assert account is not None
        await add_pbx(session, account, name="Branch", registrar_host="")
    assert "Nowhere: choose one of several PBXs" in await page(port, site, f"/phones/{phone.id}")
    assert "Registration expires (seconds)" in await page(port, site, f"/phones/{phone.id}/settings")


async def test_the_set_up_page_is_over_once_there_is_an_account(port: AdminPort) -> None:
    """404 with what to do: before the first account a new link, afterwards the way to sign in."""
    before = await port.call("GET", "/setup", {})
    assert (before.status, "prints a new link" in await before.text()) == (404, True)
    await port.site()
    after = await port.call("GET", "/setup?k=nonsense", {})
    text = await after.text()
    assert after.status == 404
    assert "Callpoint is set up already" in text
    assert 'href="/login"' in text


def test_every_setting_has_words_and_every_length_of_time_its_unit() -> None:
    """P-10: nothing is shown by its stored name alone."""
    assert set(CHECKS) <= set(WORDS)
    assert label_of("resync_minutes") == label_of("settings.resync_minutes") == "Ask again every (minutes)"
    assert label_of("lldp") == "LLDP"
    assert (value_text("resync_minutes", 1440), value_text("expires_s", 1)) == ("1,440 minutes", "1 second")


def test_reasons_of_the_fetch_log_are_told_in_words() -> None:
    """P-05: a sentence of a diagnosis stays what it is."""
    assert reason_words("retired_token") == "The URL was replaced; the phone still has the old one"
    assert reason_words("The plan waits 4 s.") == "The plan waits 4 s."
    assert all(" " in words for words in REASONS.values())
