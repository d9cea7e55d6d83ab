"""Forms that come after the proof of a password has gone stale: nothing that was typed is lost, and no secret shown."""

import datetime as dt
import re

import pyotp
import pytest
import time_machine
from sqlalchemy import select, update

from admin import held_forms
from admin.routes import all_routes
from engine.accounts import store_platform
from engine.db import utc_now
from engine.models import ApiKey, Location, PendingSignIn, Role, Session
from tests.unit.admin.adminport import CIVIC, PASSWORD, AdminPort, Site
from tests.unit.admin.formbrowser import SAM, Browser, add_sam, set_policy

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

MAIL = {
    "host": "mail.acme.example", "port": "2525", "security": "starttls", "username": "callpoint",
    "password": "s3cret of the mail server", "sender": "callpoint@acme.example", "version": "0",
}  # fmt: skip


@pytest.fixture(autouse=True)
async def sam(port: AdminPort, site: Site) -> None:
    """An owner with a password."""
    await add_sam(port, site, role=Role.OWNER)


async def signed_in(port: AdminPort) -> Browser:
    browser = Browser(port)
    assert (await browser.sign_in())[0] == 303
    return browser


async def go_stale(port: AdminPort) -> None:
    async with port.database.engine.begin() as connection:
        await connection.execute(update(Session).values(proven_at=utc_now() - dt.timedelta(minutes=16)))


def kept_in(page: str) -> str:
    found = re.search(r'name="held" value="([\w-]+)"', page)
    assert found is not None, page
    return found[1]


async def test_a_form_is_carried_out_after_the_password_was_typed_again(port: AdminPort, site: Site) -> None:
    """S0-21, S2-31: a mail server's password survives, sealed, and stands in no page; the log tells each step once."""
    browser = await signed_in(port)
    await go_stale(port)
    status, page, _address = await browser.ask("POST", "/settings/mail", **MAIL)
    assert (status, "Confirm it is you" in page) == (403, True)
    held = kept_in(page)
    status, page, _address = await browser.ask(
        "POST", "/prove", password="not this one", held=held, next="/settings/mail"
    )
    assert (status, "This is not your password" in page, kept_in(page)) == (401, True, held)
    status, page, _address = await browser.ask("POST", "/prove", password=PASSWORD, held=held, next="/settings/mail")
    assert (status, 'action="/settings/mail"' in page, "data-send-at-once" in page) == (200, True, True)
    assert "s3cret" not in page
    async with port.database.sessions() as session:
        assert await store_platform.mail_settings(session) is None
    status, _page, address = await browser.ask("POST", "/settings/mail", held=kept_in(page))
    assert (status, address) == (303, "/settings/mail?done=mail-saved")
    async with port.database.sessions() as session:
        row = await store_platform.mail_settings(session)
        assert row is not None
        assert (row.host, row.port, row.username, row.password) == (
            MAIL["host"], 2525, MAIL["username"], MAIL["password"],
        )  # fmt: skip
    told = [(one.event, one.outcome) for one in await port.entries(site.account.id)][-4:]
    assert told == [
        ("mail_settings.update", "denied"), ("session.prove", "denied"), ("session.prove", "success"),
        ("mail_settings.update", "success"),
    ]  # fmt: skip


async def test_a_kept_form_that_is_refused_comes_back_filled_in(port: AdminPort, site: Site) -> None:
    """S0-21: what was wrong is told beside its field; the rest stands as typed; the password does not come back."""
    browser = await signed_in(port)
    await go_stale(port)
    page = (await browser.ask("POST", "/settings/mail", **MAIL | {"port": "many"}))[1]
    page = (await browser.ask("POST", "/prove", password=PASSWORD, held=kept_in(page)))[1]
    status, page, _address = await browser.ask("POST", "/settings/mail", held=kept_in(page))
    assert (status, 'value="many"' in page, 'value="mail.acme.example"' in page) == (422, True, True)
    assert "s3cret" not in page


async def test_a_form_without_fields_is_kept_too(port: AdminPort, site: Site) -> None:
    """S2-40: a form of boxes makes its API key behind the password; one of a single button works alike."""
    browser = await signed_in(port)
    await go_stale(port)
    page = (await browser.ask("POST", "/settings/provisioning/rotate-password"))[1]
    page = (await browser.ask("POST", "/prove", password=PASSWORD, held=kept_in(page)))[1]
    status, _page, address = await browser.ask("POST", "/settings/provisioning/rotate-password", held=kept_in(page))
    assert (status, "done=password-rotated" in address) == (303, True)
    await go_stale(port)
    page = (await browser.ask("POST", "/settings/api-keys", name="monitoring", scopes="calls:read"))[1]
    page = (await browser.ask("POST", "/prove", password=PASSWORD, held=kept_in(page)))[1]
    status, page, _address = await browser.ask("POST", "/settings/api-keys", held=kept_in(page))
    assert (status, "Your new key" in page) == (200, True)
    async with port.database.sessions() as session:
        made = await session.scalar(select(ApiKey).where(ApiKey.name == "monitoring"))
        assert made is not None
        assert made.scopes == ["calls:read"]


async def test_a_kept_form_is_of_one_session_one_address_and_fifteen_minutes(port: AdminPort, site: Site) -> None:
    """S0-21: elsewhere, later or changed it opens nothing, and a sentence says that nothing was changed."""
    browser, other = await signed_in(port), await signed_in(port)
    await go_stale(port)
    held = kept_in((await browser.ask("POST", "/settings/mail", **MAIL))[1])
    assert (await browser.ask("POST", "/prove", password=PASSWORD))[0] == 303
    assert (await other.ask("POST", "/prove", password=PASSWORD))[0] == 303
    changed = held[:-6] + ("AAAAAA" if held[-6:] != "AAAAAA" else "BBBBBB")
    for sender, path, text in (
        (other, "/settings/mail", held), (browser, "/settings/security", held), (browser, "/settings/mail", changed),
        (browser, "/settings/mail", "AAAA"),
    ):  # fmt: skip
        status, page, _address = await sender.ask("POST", path, held=text)
        assert (status, "Fill in the form once more" in page) == (409, True), (path, text)
    with time_machine.travel(utc_now() + held_forms.KEPT_FOR + dt.timedelta(seconds=5), tick=True):
        assert (await browser.ask("POST", "/settings/mail", held=held))[0] == 409
    async with port.database.sessions() as session:
        assert await store_platform.mail_settings(session) is None


async def test_every_form_behind_a_fresh_password_is_kept(port: AdminPort, site: Site) -> None:
    """S0-21, S2-33: each route of pages that asks for the password keeps what it was sent, a second factor's too."""
    browser = await signed_in(port)
    paths = [
        re.sub(r"{[^}]+}", site.owner.id, route.path)
        for route in all_routes()
        if route.method == "POST" and route.step_up and not route.path.startswith("/api/")
    ]
    paths += ["/profile/two-factor", "/profile/two-factor/remove", "/profile/recovery-codes"]
    assert len(paths) > 14
    await go_stale(port)
    for path in paths:
        status, page, _address = await browser.ask("POST", path, kind="totp", note="typed with care")
        assert (status, bool(kept_in(page)), "typed with care" in page) == (403, True, False), path


PLACE = {"name": "Depot"} | {f"civic_address.{name}": text for name, text in CIVIC.items()}


async def end_sessions(port: AdminPort, **also: str) -> None:
    async with port.database.engine.begin() as connection:
        await connection.execute(update(Session).values(ended_at=utc_now(), end_reason="revoked", **also))


async def locations_of(port: AdminPort) -> list[str]:
    async with port.database.sessions() as session:
        return list(await session.scalars(select(Location.name)))


async def test_a_form_is_carried_out_after_signing_in_again(port: AdminPort, site: Site) -> None:
    """S0-21: a session that ran out loses nothing typed: signed in as the same user, the form is carried out."""
    browser = await signed_in(port)
    await end_sessions(port)
    status, page, _address = await browser.ask("POST", "/locations/new", **PLACE)
    assert (status, "You were signed out" in page, "Depot" in page) == (401, True, False)
    held = kept_in(page)
    status, page, _address = await browser.ask("POST", "/login", email=SAM, password="not this one", held=held)
    assert (status, kept_in(page)) == (401, held)
    status, page, _address = await browser.ask("POST", "/login", email=SAM, password=PASSWORD, held=held)
    assert (status, 'action="/locations/new"' in page, "data-send-at-once" in page) == (200, True, True)
    assert await locations_of(port) == []
    assert (await browser.ask("POST", "/locations/new", held=kept_in(page)))[0] == 303
    assert await locations_of(port) == ["Depot"]


async def test_a_form_of_an_ended_session_goes_through_the_second_step(port: AdminPort, site: Site) -> None:
    """S0-21: it goes through setting up a second factor as well, and waits beside the recovery codes."""
    browser = await signed_in(port)
    await end_sessions(port)
    held = kept_in((await browser.ask("POST", "/locations/new", **PLACE))[1])
    await set_policy(port, site, two_factor="required")
    status, page, _address = await browser.ask("POST", "/login", email=SAM, password=PASSWORD, held=held)
    assert (status, "Set up your second step" in page, kept_in(page)) == (200, True, held)
    status, page, _address = await browser.ask("POST", "/login/enrol", code="000000", held=held)
    assert (status, kept_in(page)) == (401, held)
    async with port.database.sessions() as session:
        seed = (await session.scalars(select(PendingSignIn.seed))).one()
    assert seed is not None
    code = pyotp.TOTP(seed).now()
    status, page, _address = await browser.ask("POST", "/login/enrol", code=code, held=held)
    assert (status, "Recovery codes" in page, 'action="/locations/new"' in page) == (200, True, True)
    assert (await browser.ask("POST", "/locations/new", held=kept_in(page)))[0] == 303
    assert await locations_of(port) == ["Depot"]


async def test_a_form_of_an_ended_session_is_the_same_users_only(port: AdminPort, site: Site) -> None:
    """S0-21: another user who signs in carries nothing out; nor does anybody after 15 minutes."""
    await add_sam(port, site, email="kim@acme.example", role=Role.OWNER)
    browser = await signed_in(port)
    await end_sessions(port)
    held = kept_in((await browser.ask("POST", "/locations/new", **PLACE))[1])
    asked = {"password": PASSWORD, "held": held, "next": "/locations"}
    status, _page, address = await browser.ask("POST", "/login", email="kim@acme.example", **asked)
    assert (status, address) == (303, "/locations")
    with time_machine.travel(utc_now() + dt.timedelta(minutes=16), tick=True):
        status, _page, address = await browser.ask("POST", "/login", email=SAM, **asked)
    assert (status, address) == (303, "/locations")
    assert await locations_of(port) == []


async def test_a_form_from_another_account_is_not_kept_over_a_sign_in(port: AdminPort, site: Site) -> None:
    """S0-21: the next session begins in the user's own account, so nothing meant for another one is kept for it."""
    browser = await signed_in(port)
    await end_sessions(port, acting_account_id=site.account.id)
    status, _page, address = await browser.ask("POST", "/locations/new", **PLACE)
    assert (status, address.startswith("/login?next=")) == (303, True)
