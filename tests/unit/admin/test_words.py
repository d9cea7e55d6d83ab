"""Words of pages that newcomers stumbled over: clauses as sentences, ages, drills, flashes that say what is so."""

import pytest

from admin.pages.calls import _age
from admin.render import DONE, sentence
from engine.e911 import order
from tests.factories import add_location
from tests.unit.admin.adminport import AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback


@pytest.mark.parametrize(
    ("clause", "said"),
    [
        ("line 101 has no location of its own", "Line 101 has no location of its own."),
        ("10.4.12.31 is in 10.4.12.0/24", "10.4.12.31 is in 10.4.12.0/24."),
        ("lis.example.net answered", "lis.example.net answered."),
        ("the call came from no PBX", "The call came from no PBX."),
        ("It is said already.", "It is said already."),
        (None, ""),
    ],
)
def test_a_clause_reads_as_a_sentence(clause: str | None, said: str) -> None:
    """E-10: a row of the verdict is read by people; an address at its beginning stays as it is."""
    assert sentence(clause) == said


def test_what_has_no_location_says_so() -> None:
    """E-10: of each record that could name a location, what it names and what it does not."""
    for with_one, without in (order._OF_PHONE, order._OF_LINE, order._OF_PBX, order._OF_ACCOUNT):
        assert "{}" in with_one
        assert "has no" in without
        assert "location" in without


@pytest.mark.parametrize(
    ("seconds", "said"), [(None, ""), (5, "of that moment"), (60, "1 minute old"), (86_400 * 3, "3 days old")]
)
def test_ages_are_words(seconds: int | None, said: str) -> None:
    """E-10: no `1 d old`."""
    assert _age(seconds) == said


async def test_a_drills_page_speaks_of_a_drill(port: AdminPort, site: Site) -> None:
    """E-15: nothing was sent, so nothing is told as sent; alerts say what to do and what not."""
    async with port.database.sessions.begin() as session:
        place = await add_location(session, site.account, name="Clinic")
    made = await (await port.call("POST", "/api/v1/drills", site.auth, json={"location_id": place.id})).json()
    browser = await port.browser(site)
    page = await (await port.call("GET", f"/calls/{made['id']}", browser)).text()
    for words in ("Drill of 911", "Nothing was sent to a carrier or to 911", "Held at", "Location of the drill"):
        assert words in page
    for words in ("Sent on", "SIP Call-ID", "as conveyed", "Emergency call to"):
        assert words not in page
    alerts = await (await port.call("GET", "/alerts", browser)).text()
    assert "DRILL: nobody needs help. Do as you would, and call nobody outside" in alerts
    assert "Nobody outside was called" in DONE["drill-held"]


async def test_a_green_flash_promises_no_mail_that_cannot_leave(port: AdminPort, site: Site) -> None:
    """S0-15, S1-21: without a mail server a recipient is told to wait; a test mail's page alone says how far it is."""
    browser = await port.browser(site)
    form = {"email": "desk@acme.example"}
    answer = await port.call("POST", "/settings/recipients", browser, data=form, allow_redirects=False)
    assert "done=recipient-waits" in answer.headers["Location"]
    assert "messages for them wait" in DONE["recipient-waits"]
    assert "mail-test" not in DONE
    assert "on its way" not in DONE["invited"]


async def test_rights_of_keys_are_told_in_words(port: AdminPort, site: Site) -> None:
    """S2-41: beside each raw scope what it means; what a right is called never promises to change the log."""
    body = {"name": "wallboard", "scopes": ["calls:read", "audit:write"]}
    assert (await port.call("POST", "/api/v1/api-keys", site.auth, json=body)).status == 201
    page = await (await port.call("GET", "/settings/api-keys", await port.browser(site))).text()
    assert "Read emergency calls <code>calls:read</code>" in page
    assert "Save views and dismiss hints of the audit log <code>audit:write</code>" in page
    assert "Everything <code>*</code>" in page
    assert "Change audit log" not in page
    assert "<strong>Public API.</strong> Full access" in page


async def test_the_language_says_what_it_changes(port: AdminPort, site: Site) -> None:
    """S2-24: one sentence beside the field, and the same on the page of branding."""
    browser = await port.browser(site)
    settings = await (await port.call("GET", "/settings", browser)).text()
    assert (
        "What is spoken on site: told with 911 calls to carriers that take it. Pages and mails stay English" in settings
    )
    branding = await (await port.call("GET", "/settings/branding", browser)).text()
    assert "goes with 911 calls to carriers that take it" in branding
