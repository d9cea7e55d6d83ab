"""Second factors: no session before the code, each code once, setting up, recovery, remembered browsers, resetting."""

import datetime as dt
import re
from collections.abc import AsyncIterator
from dataclasses import replace

import pyotp
import pytest
from sqlalchemy import select, update

from admin.invitations import INVITER
from engine.accounts.policy import DEFAULT
from engine.config import Mail
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.models import Credential, PendingSignIn, RememberedDevice, Role, Session
from tests.sink import MailSink
from tests.unit.admin.adminport import PASSWORD, AdminPort, Site, open_port
from tests.unit.admin.formbrowser import SAM, Browser, add_sam, log_of, set_policy

pytestmark = pytest.mark.enable_socket  # a real listener on loopback


async def _with_app(browser: Browser) -> tuple[str, list[str]]:
    """Set an authenticator app up on the profile. Returns its seed, and the recovery codes that were shown."""
    _status, _text, address = await browser.ask("POST", "/profile/two-factor", kind="totp")
    _status, page, _address = await browser.ask("GET", address)
    seed = _seed_of(page)
    status, page, _address = await browser.ask("POST", "/profile/two-factor/code", code=pyotp.TOTP(seed).now())
    assert status == 200, page
    return seed, re.findall(r"[0-9a-z]{4}(?:-[0-9a-z]{4}){3}", page)


def _seed_of(page: str) -> str:
    found = re.search(r'id="value-seed"[^>]*>([A-Z2-7 ]+)<', page)
    assert found is not None, page
    return found[1].replace(" ", "")


async def _forget_steps(port: AdminPort) -> None:
    """The next code may be of a time step that was used: no test waits thirty seconds."""
    async with port.database.engine.begin() as connection:
        await connection.execute(update(Credential).values(last_step=None))


async def _enrolled(port: AdminPort, site: Site) -> tuple[str, str, list[str]]:
    """Sam with an authenticator app: the user's id, the seed, the recovery codes."""
    user_id = await add_sam(port, site)
    browser = Browser(port)
    assert (await browser.sign_in())[0] == 303
    seed, codes = await _with_app(browser)
    await _forget_steps(port)
    return user_id, seed, codes


async def test_no_session_exists_before_the_code(port: AdminPort, site: Site) -> None:
    """S2-34: the password alone opens no page and no API, whatever is sent with the cookie it was answered with."""
    _user_id, seed, codes = await _enrolled(port, site)
    assert len(codes) == 10
    browser = Browser(port)
    status, _text, address = await browser.sign_in()
    assert (status, address) == (303, "/login/code?next=/")
    assert not browser.is_signed_in
    half = browser.cookies["callpoint_sign_in"]
    for path in ("/", "/profile", "/settings", "/api/v1/account", "/profile/two-factor"):
        for name in ("callpoint_sign_in", "callpoint_session"):
            answer = await port.call("GET", path, {"Cookie": f"{name}={half}"}, allow_redirects=False)
            assert answer.status in {303, 401}, path
            assert "/login" in answer.headers.get("Location", "/login"), path
    async with port.database.sessions() as session:
        assert len((await session.scalars(select(Session).where(Session.ended_at.is_(None)))).all()) == 1
    status, _text, address = await browser.ask("POST", "/login/code", code=pyotp.TOTP(seed).now(), next="/profile")
    assert (status, address) == (303, "/profile")
    assert browser.is_signed_in
    assert "callpoint_sign_in" not in browser.cookies
    assert (await browser.ask("GET", "/profile"))[0] == 200


async def test_the_methods_are_told_apart(port: AdminPort, site: Site) -> None:
    """S1-63, S1-64: password only, then password and authenticator app, then a recovery code."""
    _user_id, seed, codes = await _enrolled(port, site)
    for code in (pyotp.TOTP(seed).now(), codes[0].upper().replace("-", " ")):
        browser = Browser(port)
        await browser.sign_in()
        assert (await browser.ask("POST", "/login/code", code=code))[0] == 303, code
        assert browser.is_signed_in
    assert [row["method"] for row in await log_of(port, site)] == ["recovery_code", "password_totp", "password"]
    assert [row["method"] for row in await log_of(port, site, method="password_totp")] == ["password_totp"]
    page = await (await port.call("GET", "/auth-log?method=recovery_code", await port.browser(site))).text()
    assert "password and recovery code" in page


async def test_a_code_counts_once(port: AdminPort, site: Site) -> None:
    """S2-34 (RFC 6238 §5.2): a code that was used opens nothing again, nor does a recovery code; the log says why."""
    _user_id, seed, codes = await _enrolled(port, site)
    code = pyotp.TOTP(seed).now()
    for used in (code, codes[3]):
        first, second = Browser(port), Browser(port)
        await first.sign_in()
        await second.sign_in()
        assert (await first.ask("POST", "/login/code", code=used))[0] == 303
        status, text, _address = await second.ask("POST", "/login/code", code=used)
        assert (status, second.is_signed_in) == (401, False)
        assert "This code is not right, was used before, or is too old." in text
    reasons = {(row["reason"], row["method"]) for row in await log_of(port, site, outcome="failure")}
    assert reasons == {("code_used_before", "password_totp"), ("wrong_recovery_code", "recovery_code")}


async def test_wrong_codes_are_counted_told_alike_and_slowed(port: AdminPort, site: Site) -> None:
    """S1-67: five codes for one password, then the password again; each failure with its reason, none of it outside."""
    user_id, seed, _codes = await _enrolled(port, site)
    browser = Browser(port)
    await browser.sign_in()
    right = pyotp.TOTP(seed).now()
    wrong = f"{(int(right) + 1) % 10**6:06d}"
    pages = [await browser.ask("POST", "/login/code", code=code) for code in (wrong, "0000-0000-0000-0000", "hello")]
    assert {status for status, _text, _address in pages} == {401}
    assert len({re.sub(r"nonce-[^\"]+", "", text) for _status, text, _address in pages}) == 1
    for code in (wrong, wrong):
        await browser.ask("POST", "/login/code", code=code)
    status, _text, _address = await browser.ask("POST", "/login/code", code=right)
    assert (status, browser.is_signed_in) == (429, False), "the sixth is not looked at"
    rows = await log_of(port, site, outcome="failure")
    assert {row["user_id"] for row in rows} == {user_id}
    assert {row["reason"] for row in rows} == {"wrong_totp", "wrong_recovery_code", "no_code", "throttled"}


async def test_the_sixth_code_of_one_password_is_refused_even_from_elsewhere(port: AdminPort, site: Site) -> None:
    """S1-67: tries are counted with the half-open sign-in itself, not only by address."""
    _user_id, seed, _codes = await _enrolled(port, site)
    browser = Browser(port)
    await browser.sign_in()
    async with port.database.engine.begin() as connection:
        await connection.execute(update(PendingSignIn).values(tries=5))
    status, text, _address = await browser.ask("POST", "/login/code", code=pyotp.TOTP(seed).now())
    assert (status, browser.is_signed_in) == (401, False)
    assert "Type your password again" in text
    assert [row["reason"] for row in await log_of(port, site, outcome="failure")] == ["too_many_codes"]


async def test_a_half_open_sign_in_runs_out(port: AdminPort, site: Site) -> None:
    """S2-34: ten minutes; then every step leads back to the password."""
    _user_id, seed, _codes = await _enrolled(port, site)
    browser = Browser(port)
    await browser.sign_in()
    async with port.database.engine.begin() as connection:
        await connection.execute(update(PendingSignIn).values(expires_at=utc_now()))
    assert (await browser.ask("GET", "/login/code"))[2] == "/login?next=/"
    assert (await browser.ask("POST", "/login/code", code=pyotp.TOTP(seed).now()))[0] == 401
    assert not browser.is_signed_in
    assert (await Browser(port).ask("POST", "/login/code", code="123456"))[0] == 401
    assert (await Browser(port).ask("POST", "/login/mail"))[0] == 401


async def test_everybody_is_asked_once_a_second_factor_is_required(port: AdminPort, site: Site) -> None:
    """S2-33: one switch; who has none sets one up at the next sign-in, before anything opens; one audited change."""
    await add_sam(port, site)
    await set_policy(port, site, two_factor="required")
    entry = [one for one in await port.entries(site.account.id) if one.event == "security_policy.update"][-1]
    assert '"two_factor":{"after":"required","before":"optional"}' in entry.entry
    browser = Browser(port)
    assert (await browser.sign_in())[2] == "/login/enrol?next=/"
    assert not browser.is_signed_in
    status, page, _address = await browser.ask("GET", "/login/enrol")
    assert (status, "<svg" in page) == (200, True)
    status, page, _address = await browser.ask("POST", "/login/enrol", code="12345")
    assert (status, browser.is_signed_in, _seed_of(page) != "") == (401, False, True)
    status, page, _address = await browser.ask("POST", "/login/enrol", code=pyotp.TOTP(_seed_of(page)).now())
    assert (status, browser.is_signed_in) == (200, True)
    assert len(re.findall(r"[0-9a-z]{4}(?:-[0-9a-z]{4}){3}", page)) == 10
    assert (await browser.ask("GET", "/"))[0] == 200
    events = [one.event for one in await port.entries(site.account.id)]
    assert "two_factor.enrol" in events
    other = Browser(port)
    assert (await other.sign_in())[2] == "/login/code?next=/"


async def test_who_accepts_an_invitation_sets_a_required_factor_up_first(port: AdminPort, site: Site) -> None:
    """S2-33, S2-34: an invitation's link is no way round it."""
    await set_policy(port, site, two_factor="required", password_min_length=20)
    made = await (await port.call("POST", "/api/v1/users", site.auth, json={"email": "new@acme.example"})).json()
    key = made["invitation"]["url"].partition("k=")[2]
    browser = Browser(port)
    status, page, _address = await browser.ask("POST", "/invitation", k=key, name="N", password="nine lakes beneath")
    assert (status, "Expected at least 20 characters" in page) == (422, True)
    status, _page, address = await browser.ask("POST", "/invitation", k=key, name="N", password=PASSWORD)
    assert (status, address, browser.is_signed_in) == (303, "/login/enrol?next=/", False)


async def test_off_asks_nobody(port: AdminPort, site: Site) -> None:
    """S2-33: switched off, even those who set one up sign in with their password."""
    await _enrolled(port, site)
    await set_policy(port, site, two_factor="off")
    browser = Browser(port)
    await browser.sign_in()
    assert browser.is_signed_in


async def test_a_remembered_browser_is_not_asked_and_another_is(port: AdminPort, site: Site) -> None:
    """S2-35, S2-36, S2-37: the ticked browser gives its password alone, until its days are over; others give a code."""
    user_id, seed, _codes = await _enrolled(port, site)
    await set_policy(port, site, remember="remember", remember_days=30)
    browser = Browser(port)
    await browser.sign_in()
    await browser.ask("POST", "/login/code", code=pyotp.TOTP(seed).now(), remember="on")
    await browser.ask("POST", "/logout")
    assert not browser.is_signed_in
    await browser.sign_in()
    assert browser.is_signed_in
    assert (await log_of(port, site))[0]["method"] == "remembered_device"
    assert (await Browser(port).sign_in())[2].startswith("/login/code")
    (name,) = [name for name in browser.cookies if name.startswith("callpoint_device")]
    device_id, secret, mac = browser.cookies[name].split(".")
    other_secret = ("B" if secret[0] == "A" else "A") + secret[1:]
    for forged in (f"{device_id}.{secret}.{'0' * 64}", f"{device_id}.{other_secret}.{mac}", "x", "a.b.c"):
        assert (await Browser(port, {name: forged}).sign_in())[2].startswith("/login/code"), forged
    other = await add_sam(port, site, "kim@acme.example")
    assert other != user_id
    async with port.database.engine.begin() as connection:
        await connection.execute(update(RememberedDevice).values(created_at=utc_now() - dt.timedelta(days=31)))
    assert (await Browser(port, {name: browser.cookies[name]}).sign_in())[2].startswith("/login/code")


async def test_on_each_login_forgets_remembered_browsers_at_once(port: AdminPort, site: Site) -> None:
    """S2-38: switched, the browser is asked at its next sign-in, and is not known again when it is switched back."""
    _user_id, seed, _codes = await _enrolled(port, site)
    await set_policy(port, site, remember="remember")
    browser = Browser(port)
    await browser.sign_in()
    await browser.ask("POST", "/login/code", code=pyotp.TOTP(seed).now(), remember="on")
    for remember in ("each_login", "remember"):
        await set_policy(port, site, remember=remember)
        assert (await Browser(port, dict(browser.cookies)).sign_in())[2].startswith("/login/code"), remember


async def test_a_remembered_browser_is_forgotten_from_the_profile(port: AdminPort, site: Site) -> None:
    """S2-36: one row for each, and a button; somebody else's row is not there."""
    _user_id, seed, _codes = await _enrolled(port, site)
    await set_policy(port, site, remember="remember")
    browser = Browser(port)
    await browser.sign_in()
    await browser.ask("POST", "/login/code", code=pyotp.TOTP(seed).now(), remember="on")
    _status, page, _address = await browser.ask("GET", "/profile")
    (device_id,) = re.findall(r"/profile/devices/(remembered_device_\w+)/forget", page)
    stranger = Browser(port, dict([(await port.browser(site))["Cookie"].split("=", 1)]))
    assert (await stranger.ask("POST", f"/profile/devices/{device_id}/forget"))[0] == 404
    assert (await browser.ask("POST", f"/profile/devices/{device_id}/forget"))[0] == 303
    assert (await port.entries(site.account.id))[-1].event == "remembered_device.delete"
    assert (await Browser(port, dict(browser.cookies)).sign_in())[2].startswith("/login/code")


async def test_a_reset_takes_everything_that_was_proven(port: AdminPort, site: Site) -> None:
    """S1-14, S1-31: by the API: factors, remembered browsers, sessions; an entry among Users, one among Security."""
    user_id, seed, _codes = await _enrolled(port, site)
    await set_policy(port, site, remember="remember")
    browser = Browser(port)
    await browser.sign_in()
    await browser.ask("POST", "/login/code", code=pyotp.TOTP(seed).now(), remember="on")
    status = await (await port.call("GET", f"/api/v1/users/{user_id}/two-factor", site.auth)).json()
    assert (status["recovery_codes_left"], status["remembered_devices"], status["is_asked_for"]) == (10, 1, True)
    answer = await port.call("POST", f"/api/v1/users/{user_id}/reset-2fa", site.auth)
    told = await answer.json()
    assert (answer.status, told["app_since"], told["remembered_devices"]) == (200, None, 0)
    assert (await browser.ask("GET", "/profile"))[2].startswith("/login")
    entries = (await port.entries(site.account.id))[-4:]
    found = {(one.event, one.category) for one in entries if one.resource_id == user_id and "reset" in one.event}
    assert found == {("user.reset_2fa", "Users"), ("two_factor.reset", "Security")}
    again = Browser(port, dict(browser.cookies))
    await again.sign_in()
    assert again.is_signed_in
    assert {row["end_reason"] for row in await log_of(port, site, end="revoked")} == {"two_factor_reset"}


async def test_nobody_resets_whom_they_may_not_touch(port: AdminPort, site: Site) -> None:
    """S1-31: an account manager resets an operator and no owner; nobody resets themselves past the password."""
    manager = await port.browser(site, Role.ACCOUNT_MANAGER)
    user_id = await add_sam(port, site)
    owner = f"/users/{site.owner.id}/reset-2fa"
    assert (await port.call("POST", owner, manager, allow_redirects=False)).status == 403
    assert (await port.call("POST", owner, await port.browser(site), allow_redirects=False)).status == 409
    page = await port.call("POST", f"/users/{user_id}/reset-2fa", manager, allow_redirects=False)
    assert (page.status, page.headers["Location"]) == (303, f"/users/{user_id}?done=two-factor-reset")


async def test_a_key_for_second_factors_does_nothing_else(port: AdminPort, site: Site) -> None:
    """S2-41 to S2-44: presets; 2FA only is confined to it; Web SDK changes nothing; none is combined with scopes."""
    user_id = await add_sam(port, site)

    async def key(preset: str) -> dict[str, str]:
        body = {"name": preset, "preset": preset}
        answer = await port.call("POST", "/api/v1/api-keys", site.auth, json=body)
        assert answer.status == 201, await answer.text()
        return {"Authorization": f"Bearer {(await answer.json())['key']}"}

    narrow = await key("two_factor")
    assert (await port.call("POST", f"/api/v1/users/{user_id}/reset-2fa", narrow)).status == 200
    for path in ("account", "users", "phones", "security-policy"):
        assert (await port.call("GET", f"/api/v1/{path}", narrow)).status == 403, path
        assert (await port.entries(site.account.id))[-1].outcome == "denied"
    web = await key("web_sdk")
    assert (await port.call("GET", "/api/v1/contacts", web)).status == 200
    assert (await port.call("POST", "/api/v1/contacts", web, json={"name": "N", "number": "1"})).status == 403
    assert (await port.call("PATCH", "/api/v1/account", await key("full_access"), json={})).status == 428
    both = {"name": "both", "preset": "web_sdk", "scopes": ["*"]}
    assert (await port.call("POST", "/api/v1/api-keys", site.auth, json=both)).status == 422
    assert (await port.call("POST", "/api/v1/api-keys", site.auth, json={"name": "none"})).status == 422


async def test_a_factor_is_removed_with_the_password_and_not_the_last_required_one(port: AdminPort, site: Site) -> None:
    """S2-33, S1-31: typed again first; where one is required the last stays; recovery codes go with it."""
    _user_id, seed, _codes = await _enrolled(port, site)
    browser = Browser(port)
    await browser.sign_in()
    await browser.ask("POST", "/login/code", code=pyotp.TOTP(seed).now())
    async with port.database.engine.begin() as connection:
        await connection.execute(update(Session).values(proven_at=utc_now() - dt.timedelta(minutes=16)))
    status, page, _address = await browser.ask("POST", "/profile/two-factor/remove", kind="totp")
    assert (status, 'action="/prove"' in page, 'name="held"' in page) == (403, True, True)
    await browser.ask("POST", "/prove", password=PASSWORD)
    await set_policy(port, site, two_factor="required")
    assert (await browser.ask("POST", "/profile/two-factor/remove", kind="totp"))[0] == 409
    await set_policy(port, site, two_factor="optional")
    status, page, _address = await browser.ask("POST", "/profile/recovery-codes")
    assert (status, len(re.findall(r"[0-9a-z]{4}(?:-[0-9a-z]{4}){3}", page))) == (200, 10)
    assert (await browser.ask("POST", "/profile/two-factor/remove", kind="totp"))[0] == 303
    async with port.database.sessions() as session:
        assert set(await session.scalars(select(Credential.kind))) == {"password"}


@pytest.fixture
async def sink() -> AsyncIterator[MailSink]:
    opened = MailSink()
    await opened.start()
    yield opened
    await opened.stop()


async def test_codes_by_mail_sign_in(database: Database, keys: KeyRing, sink: MailSink) -> None:
    """S1-65: set up with a first code, mailed at sign-in, once, for ten minutes; logged as its own method."""
    port = await open_port(database, keys, mail=Mail(host="127.0.0.1", port=sink.port, security="none"))
    try:
        site = await port.site()
        await add_sam(port, site)
        browser = Browser(port)
        await browser.sign_in()
        status, _text, address = await browser.ask("POST", "/profile/two-factor", kind="email")
        assert (status, address) == (303, "/profile/two-factor?kind=email")
        code = await _mailed(sink, 1)
        assert (await browser.ask("POST", "/profile/two-factor/code", code=code))[0] == 200
        browser = Browser(port)
        assert (await browser.sign_in())[2].startswith("/login/code")
        code = await _mailed(sink, 2)
        assert "A code is" in (await browser.ask("GET", "/login/code"))[1]
        assert (await browser.ask("POST", "/login/mail"))[0] == 429, "a moment after the first"
        async with port.database.engine.begin() as connection:
            late = utc_now() - dt.timedelta(minutes=10, seconds=1)
            await connection.execute(update(PendingSignIn).values(code_at=late))
        assert (await browser.ask("POST", "/login/code", code=code))[0] == 401
        assert (await browser.ask("POST", "/login/mail"))[0] == 303
        fresh = await _mailed(sink, 3)
        assert (await browser.ask("POST", "/login/code", code=fresh))[0] == 303
        assert browser.is_signed_in
        assert (await log_of(port, site))[0]["method"] == "password_email"
        refused = await log_of(port, site, method="password_email", outcome="failure")
        assert {row["reason"] for row in refused} == {"code_too_old"}
    finally:
        await port.client.close()


async def _mailed(sink: MailSink, count: int) -> str:
    recipients, message = (await sink.wait_for(count, within_s=60.0))[-1]
    assert recipients == [SAM]
    found = re.search(r"Your code: (\d{6})", message.get_content())
    assert found is not None
    assert found[1] not in message["Subject"]
    return found[1]


async def test_a_dead_mail_server_keeps_nobody_out(database: Database, keys: KeyRing) -> None:
    """S2-34: app and recovery codes work while no mail leaves, no request waits for a server, and the page says so."""
    without = await open_port(database, keys)
    dead = await open_port(database, keys, mail=Mail(host="127.0.0.1", port=1, security="none"))
    try:
        await _locked_mailbox(without, dead)
    finally:
        await without.client.close()
        await dead.client.close()


async def _locked_mailbox(port: AdminPort, dead: AdminPort) -> None:
    site = await port.site()
    user_id, _seed, codes = await _enrolled(port, site)
    async with port.database.engine.begin() as connection:
        await connection.execute(
            update(Credential).where(Credential.user_id == user_id, Credential.kind == "totp").values(kind="email")
        )
    browser = Browser(port)
    assert (await browser.sign_in())[2].startswith("/login/code")
    assert "No mail server is set up here" in (await browser.ask("GET", "/login/code"))[1]
    assert dead.client.app is not None
    browser = Browser(dead)
    await browser.sign_in()
    await dead.client.app[INVITER].close()
    assert "The mail server did not take the code" in (await browser.ask("GET", "/login/code"))[1]
    assert (await browser.ask("POST", "/login/code", code=codes[0]))[0] == 303
    assert browser.is_signed_in


async def test_no_secret_of_a_second_factor_is_kept_in_clear(port: AdminPort, site: Site) -> None:
    """S0-50: seeds are sealed, codes hashed; neither stands in an audit entry or in the database's file."""
    _user_id, seed, codes = await _enrolled(port, site)
    assert port.database.sqlite_path is not None
    kept = port.database.sqlite_path.read_bytes()
    wal = port.database.sqlite_path.with_name(port.database.sqlite_path.name + "-wal")
    kept += wal.read_bytes() if wal.exists() else b""
    for secret in (seed, *codes, *(code.replace("-", "") for code in codes)):
        assert secret.encode() not in kept


def test_the_defaults_are_those_of_sp_800_63b() -> None:
    """S2-30, S2-32: 15 characters, no expiry, a day; an account that never said anything has them."""
    assert (DEFAULT.password_min_length, DEFAULT.password_max_age_days) == (15, 0)
    assert DEFAULT.absolute == dt.timedelta(days=1)
    assert replace(DEFAULT, remember_days=1).remembered_for == dt.timedelta(days=1)
