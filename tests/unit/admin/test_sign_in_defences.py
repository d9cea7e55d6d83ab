"""What a known password must not open: an old half-open sign-in, a password that was reset, a factor switched off."""

import asyncio
import json
import re

import pyotp
import pytest
from sqlalchemy import delete, select

from admin.context import ALERT_PACE
from engine.accounts import operators, two_factor
from engine.accounts.passwords import hash_password
from engine.config import Mail
from engine.crypto import KeyRing
from engine.db import Database
from engine.models import Credential, Role, Session, User
from tests.unit.admin.adminport import CLI, PASSWORD, AdminPort, Site, open_port
from tests.unit.admin.formbrowser import SAM, Browser, add_sam, set_policy
from tests.unit.admin.test_alerts import watching

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

NEW = "quiet harbour pencils over seven bridges"
CHANGE = {"If-Match": "*"}


async def _shown_seed(browser: Browser) -> str:
    _status, page, _address = await browser.ask("GET", "/login/enrol")
    found = re.search(r'id="value-seed"[^>]*>([A-Z2-7 ]+)<', page)
    assert found is not None, page
    return found[1].replace(" ", "")


async def _enrols(browser: Browser, seed: str) -> int:
    return (await browser.ask("POST", "/login/enrol", code=pyotp.TOTP(seed).now()))[0]


async def test_an_old_enrolment_replaces_no_second_factor(port: AdminPort, site: Site) -> None:
    """S2-33, S2-34: two began to set one up with the same password; the first that finishes ends the other's chance."""
    await add_sam(port, site)
    await set_policy(port, site, two_factor="required")
    thief, sam = Browser(port), Browser(port)
    assert (await thief.sign_in())[2] == "/login/enrol?next=/"
    stolen = await _shown_seed(thief)
    await sam.sign_in()
    assert await _enrols(sam, await _shown_seed(sam)) == 200
    assert sam.is_signed_in
    assert await _enrols(thief, stolen) == 401
    assert not thief.is_signed_in
    assert (await Browser(port).sign_in())[2] == "/login/code?next=/", "the factor that was set up is asked for"


async def test_an_enrolment_is_no_use_once_nothing_has_to_be_set_up(port: AdminPort, site: Site) -> None:
    """S2-33: looked at again when it finishes: a policy that asks for nothing any more ends it."""
    await add_sam(port, site)
    await set_policy(port, site, two_factor="required")
    browser = Browser(port)
    await browser.sign_in()
    seed = await _shown_seed(browser)
    await set_policy(port, site, two_factor="off")
    assert (await _enrols(browser, seed), browser.is_signed_in) == (401, False)


@pytest.mark.parametrize("act", ["password", "disable", "reset", "accept"])
async def test_a_half_open_sign_in_ends_with_what_opened_it(port: AdminPort, site: Site, act: str) -> None:
    """S2-34: a new password, a disabled user, a reset and an accepted link end what the old password began."""
    user_id = await add_sam(port, site)
    own = Browser(port)
    await own.sign_in()
    await set_policy(port, site, two_factor="required")
    thief = Browser(port)
    await thief.sign_in()
    seed = await _shown_seed(thief)
    path = f"/api/v1/users/{user_id}"
    if act == "password":
        await set_policy(port, site, two_factor="optional")
        await own.sign_in()
        assert (await own.ask("POST", "/profile/password", password=PASSWORD, new_password=NEW))[0] == 303
        await set_policy(port, site, two_factor="required")
    elif act == "disable":
        for status in ("disabled", "active"):
            answer = await port.call("PATCH", path, site.auth | CHANGE, json={"status": status})
            assert (await answer.json())["status"] == status
    else:
        made = await (await port.call("POST", f"{path}/reset-password", site.auth)).json()
        key = str(made["url"]).partition("?k=")[2]
        if act == "accept":
            assert (await Browser(port).ask("POST", "/invitation", k=key, name="Sam", password=NEW))[0] == 303
    assert (await _enrols(thief, seed), thief.is_signed_in) == (401, False)


async def test_a_reset_password_never_comes_back(port: AdminPort, site: Site) -> None:
    """S1-12: neither by switching the user active, nor by disabling and enabling: only the link makes a new one."""
    user_id = await add_sam(port, site)
    path, owner = f"/api/v1/users/{user_id}", await port.browser(site)
    await set_policy(port, site, password_reuse=5)
    made = await (await port.call("POST", f"{path}/reset-password", site.auth)).json()
    answer = await port.call("POST", f"/users/{user_id}/status", owner, data={"status": "active"})
    assert answer.status < 400
    for status in ("active", "disabled", "active"):
        answer = await port.call("PATCH", path, site.auth | CHANGE, json={"status": status})
        assert (await answer.json())["status"] == ("disabled" if status == "disabled" else "invited")
        assert (await Browser(port).sign_in())[0] == 401, status
    made = await (await port.call("POST", f"{path}/reset-password", site.auth)).json()
    key = str(made["url"]).partition("?k=")[2]
    same = await Browser(port).ask("POST", "/invitation", k=key, name="Sam", password=PASSWORD)
    assert (same[0], "one of your last 5" in same[1]) == (422, True)
    assert (await Browser(port).ask("POST", "/invitation", k=key, name="Sam", password=NEW))[0] == 303
    fresh = Browser(port)
    await fresh.sign_in(password=NEW)
    assert fresh.is_signed_in


async def test_a_removed_user_is_told_as_a_deletion(port: AdminPort, site: Site) -> None:
    """S1-04: each field before, and null after, though the row stays for the logs' sake."""
    user_id = await add_sam(port, site)
    assert (await port.call("DELETE", f"/api/v1/users/{user_id}", site.auth | CHANGE)).status == 204
    (entry,) = [one for one in await port.entries(site.account.id) if one.event == "user.delete"]
    changes = json.loads(entry.entry)["changes"]
    assert changes["email"] == {"before": SAM, "after": None}
    assert changes["status"] == {"before": "active", "after": None}
    assert {change["after"] if isinstance(change, dict) else change for change in changes.values()} == {None}


async def _has_mail_alone(port: AdminPort, site: Site, *, codes: bool) -> tuple[str, list[str]]:
    """Sam with codes by mail and nothing else: the user's id and the recovery codes that are left."""
    user_id = await add_sam(port, site)
    async with port.database.sessions.begin() as session:
        user = await session.get(User, user_id)
        assert user is not None
        shown = await two_factor.enrol(session, CLI, user, "email", pending_id="")
    if not codes:
        async with port.database.engine.begin() as connection:
            of_sam = (Credential.user_id == user_id, Credential.kind == "recovery")
            await connection.execute(delete(Credential).where(*of_sam))
    return user_id, list(shown) if codes else []


async def test_switching_codes_by_mail_off_asks_for_a_recovery_code(port: AdminPort, site: Site) -> None:
    """S2-33, S2-34: the password alone sets no new factor up; policy and page say beforehand whom it concerns."""
    _user_id, codes = await _has_mail_alone(port, site, codes=True)
    policy = await (await port.call("GET", "/api/v1/security-policy", site.auth)).json()
    assert policy["with_codes_by_mail_alone"] == 1
    page = await (await port.call("GET", "/settings/security", await port.browser(site))).text()
    assert "1 active user has nothing else" in page
    await set_policy(port, site, email_codes=False)
    browser = Browser(port)
    assert (await browser.sign_in())[2] == "/login/code?next=/"
    assert "Type one of your recovery codes" in (await browser.ask("GET", "/login/code"))[1]
    status, _page, address = await browser.ask("POST", "/login/code", code=codes[0])
    assert (status, address, browser.is_signed_in) == (303, "/login/enrol?next=/", False)
    await _enrols(browser, await _shown_seed(browser))
    assert browser.is_signed_in


async def test_without_recovery_codes_somebody_resets_it(port: AdminPort, site: Site) -> None:
    """S1-14: the page says whom to ask; after the reset the password is enough, as for everybody without a factor."""
    user_id, _codes = await _has_mail_alone(port, site, codes=False)
    await set_policy(port, site, email_codes=False)
    browser = Browser(port)
    assert (await browser.sign_in())[2] == "/login/code?next=/"
    assert "Ask an owner or admin to reset your second factor" in (await browser.ask("GET", "/login/code"))[1]
    assert (await port.call("POST", f"/api/v1/users/{user_id}/reset-2fa", site.auth)).status == 200
    await browser.sign_in()
    assert browser.is_signed_in


async def test_the_gravest_acts_ask_a_browser_for_the_password_again(port: AdminPort, site: Site) -> None:
    """AD-AUTH: a browser left open changes neither policy nor factors, makes no key and no display; keys are exempt."""
    user_id = await add_sam(port, site)
    stale = await port.browser(site, proven_ago_s=3600) | CHANGE
    user = f"/api/v1/users/{user_id}"
    for method, path, body in (
        ("PATCH", "/api/v1/security-policy", {"two_factor": "off"}),
        ("POST", f"{user}/reset-2fa", None),
        ("POST", f"{user}/reset-password", None),
        ("POST", "/api/v1/api-keys", {"name": "x", "scopes": ["*"]}),
    ):
        answer = await port.call(method, path, stale, json=body)
        assert (answer.status, (await answer.json())["code"]) == (403, "proof_required"), path
    for path in (
        "/settings/security", "/settings/api-keys", "/alerts/display",
        f"/users/{user_id}/reset-2fa", f"/users/{user_id}/reset-password",
    ):  # fmt: skip
        answer = await port.call("POST", path, stale, data={"name": "x"}, allow_redirects=False)
        assert (answer.status, 'action="/prove"' in await answer.text()) == (403, True), path
    assert (await port.call("POST", f"{user}/reset-2fa", site.auth)).status == 200


async def test_requiring_a_second_factor_ends_sessions_of_a_password_alone(port: AdminPort, site: Site) -> None:
    """S2-33: at once, but for who asks and for displays; a display keeps the time its person's password was typed."""
    await add_sam(port, site)
    sam, desk = Browser(port), Browser(port)
    await sam.sign_in()
    await desk.sign_in()
    before = await _session_rows(port)
    assert (await desk.ask("POST", "/alerts/display"))[0] == 303
    owner = await port.browser(site)
    answer = await port.call("PATCH", "/api/v1/security-policy", owner | CHANGE, json={"two_factor": "required"})
    assert answer.status == 200
    assert (await sam.ask("GET", "/"))[2].startswith("/login")
    assert (await desk.ask("GET", "/alerts"))[0] == 200
    assert (await port.call("GET", "/", owner)).status == 200
    rows = await _session_rows(port)
    assert [row.end_reason for row in rows if row.method == "password"] == ["two_factor_required", "replaced", None]
    (display,) = [row for row in rows if row.method == "display"]
    assert display.proven_at == before[1].proven_at


async def _session_rows(port: AdminPort) -> list[Session]:
    async with port.database.sessions() as session:
        return list(await session.scalars(select(Session).order_by(Session.id)))


@pytest.mark.parametrize(("role", "status"), [(Role.ADMIN, 403), (Role.OWNER, 201)])
async def test_an_operator_makes_owners_only_as_an_owner_at_home(
    port: AdminPort, site: Site, role: Role, status: int
) -> None:
    """S1-13, S0-35: acting for an account lifts nobody above what they are among the operators."""
    browser = await _operator(port, role)
    await browser.ask("POST", f"/accounts/{site.account.id}/enter")
    cookie = {"Cookie": f"callpoint_session={browser.cookies['callpoint_session']}", "Sec-Fetch-Site": "same-origin"}
    body = {"email": "new@acme.example", "role": "owner"}
    assert (await port.call("POST", "/api/v1/users", cookie, json=body)).status == status
    page = await (await port.call("GET", "/users", cookie)).text()
    assert ('<option value="owner"' in page) is (role is Role.OWNER)


async def _operator(port: AdminPort, role: Role) -> Browser:
    hashed = await hash_password(PASSWORD)
    async with port.database.sessions.begin() as session:
        await operators.create_operator(session, CLI, "helper@platform.example", "Hanna Helper", hashed, role)
    browser = Browser(port)
    await browser.sign_in("helper@platform.example")
    return browser


async def test_an_operators_alerts_end_with_the_account(port: AdminPort, site: Site) -> None:
    """E-11, S0-35: the first account's calls are told no more; the end stands in the log where the beginning does."""
    assert port.client.app is not None
    pace = port.client.app[ALERT_PACE]
    pace.beat_s, pace.ask_s = 0.1, 0.2
    other = await port.site("Beta Clinic", "owner@beta.example")
    browser = await _operator(port, Role.OWNER)
    await browser.ask("POST", f"/accounts/{site.account.id}/enter")
    cookie = {"Cookie": f"callpoint_session={browser.cookies['callpoint_session']}"}
    async with watching(port, cookie) as events:
        await events.next("opening")
        await browser.ask("POST", "/accounts/leave")
        await browser.ask("POST", f"/accounts/{other.account.id}/enter")
        _name, _cursor, told = await events.next("ended")
    assert "another account now" in told["sentence"]
    async with asyncio.timeout(60):
        while "emergency_call.follow_end" not in await _events(port, site):
            await asyncio.sleep(0.05)
    assert "emergency_call.follow" in await _events(port, site)
    assert not [name for name in await _events(port, other) if name.startswith("emergency_call.follow")]


async def _events(port: AdminPort, site: Site) -> list[str]:
    return [entry.event for entry in await port.entries(site.account.id)]


async def test_no_link_is_mailed_to_a_host_that_only_the_request_names(database: Database, keys: KeyRing) -> None:
    """S1-10: a forged Host gets nobody's link; this machine's own address and the account's host name do."""
    port = await open_port(database, keys, mail=Mail(host="127.0.0.1", port=1, security="none"))
    try:
        site = await port.site()
        answer = await port.call("PATCH", "/api/v1/branding", site.auth | CHANGE, json={"hostname": "a.example.com"})
        assert answer.status == 200, await answer.text()
        told = []
        for number, host in enumerate(("evil.example", "127.0.0.1@evil.example", "a.example.com", "localhost:8081")):
            headers = site.auth | {"Host": host}
            body = {"email": f"u{number}@acme.example"}
            answer = await port.call("POST", "/api/v1/users", headers, json=body)
            told.append(answer.status)
        assert told == [409, 409, 201, 201]
    finally:
        await port.client.close()
