"""The security policy: each value holds where it is meant to, each change is one audit entry with before and after."""

import datetime as dt
import json
import re
from typing import Any

import pytest
from sqlalchemy import select, update

from engine.accounts import security, store_signin
from engine.accounts.policy import DEFAULT, Policy, changed, range_of
from engine.db import utc_now
from engine.models import ApiKey, Credential, Role, SecurityPolicy, Session, User, UserStatus
from tests.unit.admin.adminport import PASSWORD, AdminPort, Site
from tests.unit.admin.formbrowser import SAM, Browser, add_sam, log_of, set_policy

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

POLICY = "/api/v1/security-policy"
OTHER = "seven copper kettles whistle at dawn"


async def test_the_policy_is_read_and_changed_by_its_version(port: AdminPort, site: Site) -> None:
    """S2-30, S1-34, S1-23: defaults until somebody says otherwise; a change names the version; before and after stand
    in one entry of Security, and one of Settings names the area.
    """
    answer = await port.call("GET", POLICY, site.auth)
    shown = await answer.json()
    assert {name: shown[name] for name in DEFAULT.values()} == DEFAULT.values()
    assert (answer.headers["ETag"], shown["without_two_factor"]) == ('"0"', 1)
    change = {"password_min_length": 20}
    assert (await port.call("PATCH", POLICY, site.auth, json=change)).status == 428
    for etag, status in (('"0"', 200), ('"0"', 412), ('"1"', 200)):
        answer = await port.call("PATCH", POLICY, site.auth | {"If-Match": etag}, json=change)
        assert answer.status == status, await answer.text()
        change = {"password_min_length": 21}
    entries = await port.entries(site.account.id)
    changes = [json.loads(one.entry) for one in entries if one.event == "security_policy.update"]
    changes = [one for one in changes if one["outcome"] == "success"]
    told = [one["changes"]["password_min_length"] for one in changes]
    assert told == [{"before": 15, "after": 20}, {"before": 20, "after": 21}]
    assert changes[0]["changes"].keys() == {"password_min_length"}
    settings = [json.loads(one.entry) for one in entries if one.event == "security_settings.update"]
    assert [(one["category"], one["details"]["area"]) for one in settings] == [("Settings", "security")] * 2
    assert {one["category"] for one in changes} == {"Security"}


@pytest.mark.parametrize("name", [name for name, value in DEFAULT.values().items() if type(value) is int])
def test_each_number_has_its_range(name: str) -> None:
    """S2-31, S2-32: beyond either end it is refused by its field; the policy stays as it was."""
    least, most = range_of(name)
    for value in (least - 1, most + 1):
        policy, faults = changed(DEFAULT, {name: value, "two_factor": "perhaps"})
        assert policy is DEFAULT
        assert {name, "two_factor"} <= {fault.field for fault in faults}
    both = {"session_absolute_minutes": most} if name == "session_idle_minutes" else {"session_idle_minutes": 5}
    policy, faults = changed(DEFAULT, both | {name: most})
    assert (faults, getattr(policy, name)) == ((), most)


async def test_a_bad_policy_is_told_field_by_field_and_loses_nothing_typed(port: AdminPort, site: Site) -> None:
    """S2-30: API and page report every bad field at once; the page keeps what was typed."""
    bad = {"password_min_length": 7, "pause_s": 901, "remember": "sometimes", "colour": "red"}
    answer = await port.call("PATCH", POLICY, site.auth | {"If-Match": "*"}, json=bad)
    assert (answer.status, {fault["field"] for fault in (await answer.json())["errors"]}) == (422, set(bad))
    headers = await port.browser(site)
    form = {"version": "0", "password_min_length": "7", "pause_s": "soon", "session_idle_minutes": "61",
            "session_absolute_minutes": "60", "two_factor": "required", "remember": "each_login"}  # fmt: skip
    page = await port.call("POST", "/settings/security", headers, data=form, allow_redirects=False)
    text = await page.text()
    assert page.status == 422
    assert text.count('class="fault"') == 3
    assert 'value="soon"' in text
    assert '<option value="required" selected>' in text
    assert (await (await port.call("GET", POLICY, site.auth)).json())["two_factor"] == "optional"


async def test_the_page_saves_what_the_api_reads(port: AdminPort, site: Site) -> None:
    """S2-30, S2-35: the form of two radios and ten numbers; somebody else's change meanwhile is told."""
    headers = await port.browser(site)
    form = DEFAULT.values() | {"version": 0, "two_factor": "required", "remember": "remember", "remember_days": 7}
    sent = {name: str(value) for name, value in form.items() if name != "email_codes"}
    page = await port.call("POST", "/settings/security", headers, data=sent, allow_redirects=False)
    assert (page.status, page.headers["Location"]) == (303, "/settings/security?done=security-saved")
    shown = await (await port.call("GET", POLICY, site.auth)).json()
    assert (shown["two_factor"], shown["remember"], shown["remember_days"]) == ("required", "remember", 7)
    assert shown["email_codes"] is False
    page = await port.call("POST", "/settings/security", headers, data=sent, allow_redirects=False)
    assert (page.status, "Somebody else changed this" in await page.text()) == (412, True)


async def test_password_rules_hold_wherever_a_password_is_chosen(port: AdminPort, site: Site) -> None:
    """S2-32: by an administrator over the API, by oneself; length, guessability, the last ones again."""
    await add_sam(port, site)
    await set_policy(port, site, password_min_length=40, password_reuse=3)
    made = {"email": "kim@acme.example", "password": PASSWORD}
    answer = await port.call("POST", "/api/v1/users", site.auth, json=made)
    assert (answer.status, "at least 40" in await answer.text()) == (422, True)
    await set_policy(port, site, password_min_length=8)
    weak = await port.call("POST", "/api/v1/users", site.auth, json=made | {"password": "password1234"})
    assert weak.status == 422
    browser = Browser(port)
    await browser.sign_in()
    present = PASSWORD
    for wished, status in (
        (PASSWORD, 422), (OTHER, 303), (PASSWORD, 422), ("plum violin beneath the stairs", 303), (PASSWORD, 422),
        ("nine amber lanterns in fog", 303), (PASSWORD, 303),
    ):  # fmt: skip
        answered, text, _address = await browser.ask("POST", "/profile/password", password=present, new_password=wished)
        assert answered == status, text
        present = wished if status == 303 else present
    async with port.database.sessions() as session:
        kept = (await session.scalars(select(Credential).where(Credential.previous.is_not(None)))).one()
    assert len(kept.previous or []) == 2, "with the present one, as many as the policy asks for"


async def test_a_changed_password_ends_every_other_session(port: AdminPort, site: Site) -> None:
    """S1-32: asks for the old one; one entry of Security without either; the others are out, this browser is not."""
    await add_sam(port, site)
    browser, other = Browser(port), Browser(port)
    await browser.sign_in()
    await other.sign_in()
    status, text, _address = await browser.ask("POST", "/profile/password", password="wrong", new_password=OTHER)
    assert (status, "This is not your present password" in text) == (422, True)
    status, _text, address = await browser.ask("POST", "/profile/password", password=PASSWORD, new_password=OTHER)
    assert (status, address) == (303, "/profile?done=password")
    entry = (await port.entries(site.account.id))[-1]
    assert (entry.event, entry.category, entry.outcome) == ("password.change", "Security", "success")
    assert PASSWORD not in entry.entry
    assert OTHER not in entry.entry
    assert (await browser.ask("GET", "/profile"))[0] == 200
    assert (await other.ask("GET", "/profile"))[2].startswith("/login")


async def test_a_password_past_its_age_is_renewed_before_the_session(port: AdminPort, site: Site) -> None:
    """S2-31, S1-64: no expiry by default; with one, the sign-in goes on only with a new password; who chose none that
    will do is named in the log.
    """
    user_id = await add_sam(port, site)
    async with port.database.engine.begin() as connection:
        await connection.execute(update(Credential).values(changed_at=utc_now() - dt.timedelta(days=400)))
    assert (await Browser(port).sign_in())[2] == "/"
    await set_policy(port, site, password_max_age_days=365)
    browser = Browser(port)
    assert (await browser.sign_in())[2] == "/login/password?next=/"
    assert "every 365 days" in (await browser.ask("GET", "/login/password"))[1]
    assert (await browser.ask("POST", "/login/code", code="123456"))[0] == 401
    refused = len(await log_of(port, site, outcome="failure", user=SAM))
    for number, chosen in enumerate((PASSWORD, "short"), 1):
        assert (await browser.ask("POST", "/login/password", password=chosen))[0] == 422
        rows = await log_of(port, site, outcome="failure", user=SAM)
        assert len(rows) == refused + number
        assert (rows[0]["user_id"], rows[0]["email"]) == (user_id, SAM)
    assert not browser.is_signed_in
    assert (await browser.ask("POST", "/login/password", password=OTHER))[0] == 303
    assert browser.is_signed_in
    again = Browser(port)
    await again.sign_in(password=OTHER)
    assert again.is_signed_in


async def test_sessions_last_as_long_as_the_policy_says(port: AdminPort, site: Site) -> None:
    """S2-31: idle and absolute; a session that ran out does not come back with longer clocks; the log tells which."""
    await add_sam(port, site)
    browser = Browser(port)
    await browser.sign_in()
    await set_policy(port, site, session_idle_minutes=30, session_absolute_minutes=60)
    async with port.database.engine.begin() as connection:
        await connection.execute(update(Session).values(seen_at=utc_now() - dt.timedelta(minutes=31)))
    assert (await browser.ask("GET", "/profile"))[2].startswith("/login")
    (row,) = await log_of(port, site, end="expired")
    assert row["end_reason"] == "idle"
    await set_policy(port, site, session_idle_minutes=600, session_absolute_minutes=1440)
    assert (await browser.ask("GET", "/profile"))[2].startswith("/login")
    (row,) = await log_of(port, site, end="expired")
    assert (row["end_reason"], row["ended_at"] is not None) == ("idle", True)
    assert await log_of(port, site, end="revoked") == []


async def test_the_pause_is_the_policys_and_tells_nobody_whose_address_it_is(port: AdminPort, site: Site) -> None:
    """S2-31, S1-67: the strictest account's numbers count for every address typed, known or not."""
    await add_sam(port, site)
    await set_policy(port, site, failed_sign_ins=3, pause_s=900)
    for email in (SAM, "nobody@acme.example", "someone@elsewhere.example"):
        statuses = [(await Browser(port).sign_in(email, f"wrong guess {n}"))[0] for n in range(4)]
        assert statuses == [401, 401, 401, 429], email


async def test_users_away_for_too_long_are_disabled_and_the_last_owner_is_not(port: AdminPort, site: Site) -> None:
    """S2-31: at the sweep, and at the sign-in before it; enabling somebody again begins the days anew."""
    user_id = await add_sam(port, site)
    await set_policy(port, site, inactive_days=30)
    long_ago = utc_now() - dt.timedelta(days=31)
    async with port.database.engine.begin() as connection:
        await connection.execute(update(User).values(updated_at=long_ago, created_at=long_ago, last_login_at=long_ago))
    assert (await Browser(port).sign_in())[0] == 401
    assert (await log_of(port, site, outcome="failure"))[0]["reason"] == "user_inactive"
    page = await (await port.call("GET", "/settings/security", await port.browser(site, Role.ADMIN))).text()
    assert re.search(rf"1 user\s+is unused for that long and will be disabled: {SAM}", page)
    async with port.database.sessions.begin() as session:
        assert await security.disable_unused(session) == 1
    entry = (await port.entries(site.account.id))[-1]
    assert (entry.event, entry.actor_type, entry.resource_id) == ("user.update", "system", user_id)
    async with port.database.sessions() as session:
        owner, sam = await session.get(User, site.owner.id), await session.get(User, user_id)
        assert owner is not None
        assert sam is not None
        assert (owner.status, sam.status) == (UserStatus.ACTIVE, UserStatus.DISABLED)
    path = f"/api/v1/users/{user_id}"
    assert (await port.call("PATCH", path, site.auth | {"If-Match": "*"}, json={"status": "active"})).status == 200
    browser = Browser(port)
    await browser.sign_in()
    assert browser.is_signed_in
    async with port.database.sessions.begin() as session:
        assert await security.disable_unused(session) == 0
        policy = await store_signin.policy_of(session, site.account.id)
        assert policy == Policy(inactive_days=30)


async def test_bad_keys_are_one_row_a_minute_with_a_count(port: AdminPort, site: Site) -> None:
    """S1-67: unknown, mistyped, revoked and expired keys by their beginning and address; each request is audited."""
    revoked = await port.key(site, "phones:read")
    async with port.database.engine.begin() as connection:
        await connection.execute(update(ApiKey).where(ApiKey.name == "narrow").values(revoked_at=utc_now()))
    before = len(await port.entries(site.account.id))
    for _ in range(3):
        assert (await port.call("GET", "/api/v1/account", revoked)).status == 401
    assert (await port.call("GET", "/api/v1/account", {"Authorization": "Bearer my own password"})).status == 401
    fresh = (await port.entries(site.account.id))[before:]
    assert [(one.outcome, json.loads(one.entry)["reason"]) for one in fresh] == [("denied", "key_revoked")] * 3
    rows = await log_of(port, site, method="api_key")
    assert sum(row["count"] for row in rows) == 4
    assert {row["reason"] for row in rows} == {"key_revoked", "malformed_key"}
    assert {row["name"] for row in rows} == {"narrow", ""}
    assert len(rows) <= 4  # one a minute: two, unless a minute ended in between
    assert {row["reason"] for row in await log_of(port, site, user="narrow")} == {"key_revoked"}
    assert await log_of(port, site, method="api_key", ip="203.0.113.") == []
    other = await port.site("Beta Clinic", "owner@beta.example")
    assert await log_of(port, other) == [], "nobody's key is nobody's row where accounts share a server"
    everything = [one.entry for chain in (site.account.id, "platform") for one in await port.entries(chain)]
    assert not any("my own password" in entry for entry in everything)


async def test_sessions_are_listed_read_and_ended_one_by_one(port: AdminPort, site: Site) -> None:
    """S1-33: by an admin over API and user's page, by oneself on the profile; each end is one entry of Security."""
    user_id = await add_sam(port, site)
    browsers = [Browser(port) for _ in range(4)]
    for browser in browsers:
        await browser.sign_in()
    listed = (await (await port.call("GET", "/api/v1/sessions", site.auth)).json())["data"]
    first, second, third, fourth = (row["id"] for row in reversed(listed))
    one = await (await port.call("GET", f"/api/v1/sessions/{first}", site.auth)).json()
    assert (one["user_id"], one["ended_at"]) == (user_id, None)
    assert (await port.call("DELETE", f"/api/v1/sessions/{first}", site.auth)).status == 204
    owner = await port.browser(site)
    answer = await port.call("POST", f"/users/{user_id}/sessions/{second}/end", owner, allow_redirects=False)
    assert answer.headers["Location"] == f"/users/{user_id}?done=session-ended"
    assert (await browsers[3].ask("POST", f"/profile/sessions/{fourth}/end"))[0] == 404, "one's own is signed out"
    assert (await browsers[3].ask("POST", f"/profile/sessions/{third}/end"))[0] == 303
    for browser in browsers[:3]:
        assert (await browser.ask("GET", "/profile"))[2].startswith("/login")
    await browsers[0].sign_in()
    assert (await browsers[3].ask("POST", "/profile/sessions/end-others"))[0] == 303
    assert (await browsers[0].ask("GET", "/profile"))[2].startswith("/login")
    assert (await browsers[3].ask("GET", "/profile"))[0] == 200
    ends = [one for one in await port.entries(site.account.id) if one.event == "session.delete"]
    assert [one.outcome for one in ends].count("success") == 4
    assert {one.category for one in ends} == {"Security"}


async def test_a_key_has_no_profile(port: AdminPort, site: Site) -> None:
    """S1-33: the page about oneself is for people."""
    assert (await port.call("GET", "/profile", site.auth)).status == 403
    assert (await port.call("POST", "/profile/password", site.auth, data={"password": "x"})).status == 403


def _row(**values: Any) -> SecurityPolicy:
    return SecurityPolicy(account_id="account_1", version=1, **DEFAULT.values() | values)


def test_a_stored_policy_is_read_as_it_was_said() -> None:
    """S2-30: names are read back as choices, without a row the defaults hold."""
    assert Policy.of(None) is DEFAULT
    assert Policy.of(_row(two_factor="off", remember="remember")).values()["two_factor"] == "off"


async def test_a_forgotten_password_is_reset_by_a_link(port: AdminPort, site: Site) -> None:
    """S1-32, S2-32: the old one is dead at once; the link keeps to the rules, last passwords included; used once."""
    user_id = await add_sam(port, site)
    await set_policy(port, site, password_reuse=2)
    browser = Browser(port)
    await browser.sign_in()
    answer = await port.call("POST", f"/api/v1/users/{user_id}/reset-password", site.auth)
    assert answer.status == 201, await answer.text()
    key = (await answer.json())["url"].partition("k=")[2]
    entry = (await port.entries(site.account.id))[-1]
    assert (entry.event, entry.category, key in entry.entry) == ("password.reset", "Security", False)
    assert (await browser.ask("GET", "/profile"))[2].startswith("/login")
    assert (await Browser(port).sign_in())[0] == 401
    assert (await browser.ask("POST", "/invitation", k=key, name="Sam", password=PASSWORD))[0] == 422
    assert (await browser.ask("POST", "/invitation", k=key, name="Sam", password=OTHER))[0] == 303
    assert (await Browser(port).ask("POST", "/invitation", k=key, name="Sam", password="nine amber lanterns in fog"))[
        0
    ] == 404
    again = Browser(port)
    await again.sign_in(password=OTHER)
    assert again.is_signed_in
    owner = f"/api/v1/users/{site.owner.id}/reset-password"
    assert (await port.call("POST", owner, site.auth)).status == 409, "the last owner"
    page = await port.call("POST", f"/users/{user_id}/reset-password", await port.browser(site))
    assert "/invitation?k=" in await page.text()
