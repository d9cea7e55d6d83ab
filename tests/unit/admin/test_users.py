"""Users, roles and invitations: who may do what, read off the table of routes and asked of the real application."""

import asyncio
import datetime as dt
import re
from typing import Any

import pytest
from sqlalchemy import select, update

from engine.accounts import operations, store
from engine.accounts.scopes import SCOPES_OF, scopes_of_role
from engine.accounts.users import INVITATION_LIFETIME
from engine.db import utc_now
from engine.ids import new_id
from engine.models import Credential, Role, Session, User, UserStatus
from tests.unit.admin.adminport import CLI, PASSWORD, AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

USERS = "/api/v1/users"
CHANGE = {"If-Match": "*"}


@pytest.mark.parametrize("role", list(Role))
async def test_pages_offer_no_link_that_is_refused(port: AdminPort, site: Site, role: Role) -> None:
    """S2-14, S2-15: what a role cannot open is not offered to it."""
    headers = await port.browser(site, role)
    text = await (await port.call("GET", "/", headers)).text()
    refused = []
    for address in set(re.findall(r'href="(/[a-z/-]*)"', text)):
        answer = await port.call("GET", address, headers, allow_redirects=False)
        refused += [address] if answer.status == 403 else []
    assert refused == []


async def _invite(port: AdminPort, site: Site, email: str = "sam@acme.example", **body: Any) -> dict[str, Any]:
    answer = await port.call("POST", USERS, site.auth, json={"email": email, "name": "Sam", **body})
    assert answer.status == 201, await answer.text()
    made: dict[str, Any] = await answer.json()
    return made


def _key(made: dict[str, Any]) -> str:
    return str(made["invitation"]["url"]).partition("?k=")[2]


async def test_an_invited_user_chooses_a_password_once(port: AdminPort, site: Site) -> None:
    """S1-10: invited, shown the page, accepted, signed in; the link opens nothing a second time."""
    made = await _invite(port, site, role="operator")
    assert (made["status"], made["invitation"]["mailed_to"]) == ("invited", None)
    shown = await port.call("GET", f"/invitation?k={_key(made)}", {})
    assert "sam@acme.example" in await shown.text()
    form = {"k": _key(made), "name": "Sam Field", "password": PASSWORD}
    answer = await port.call("POST", "/invitation", {}, data=form, allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
    assert (await port.call("GET", "/phones", cookie)).status == 200
    user = await (await port.call("GET", f"{USERS}/{made['id']}", site.auth)).json()
    assert (user["status"], user["name"]) == ("active", "Sam Field")
    again = await port.call("POST", "/invitation", {}, data=form, allow_redirects=False)
    assert again.status == 404
    entries = [(entry.event, entry.outcome) for entry in await port.entries(site.account.id)]
    assert entries.count(("invitation.accept", "success")) == 1
    assert not any(_key(made).partition(".")[2] in entry.entry for entry in await port.entries(site.account.id))


async def test_a_weak_password_is_refused_beside_its_field_and_the_link_stays_good(port: AdminPort, site: Site) -> None:
    """S2-32: the policy counts for invited users too, the account's name included."""
    made = await _invite(port, site)
    for weak in ("short", "Acme Dental Acme"):
        answer = await port.call("POST", "/invitation", {}, data={"k": _key(made), "name": "Sam", "password": weak})
        text = await answer.text()
        assert answer.status == 422
        assert "fault" in text
        assert weak not in text
    form = {"k": _key(made), "name": "Sam", "password": PASSWORD}
    assert (await port.call("POST", "/invitation", {}, data=form, allow_redirects=False)).status == 303


async def test_an_invitation_ends_when_it_is_renewed_or_too_old_or_the_user_is_disabled(
    port: AdminPort, site: Site
) -> None:
    """S1-10: one link at a time; an old one, and one of somebody disabled, are like one that never was."""
    made = await _invite(port, site)
    newer = await (await port.call("POST", f"{USERS}/{made['id']}/invitation", site.auth)).json()
    key = str(newer["url"]).partition("?k=")[2]
    assert "cannot be used" in await (await port.call("GET", f"/invitation?k={_key(made)}", {})).text()
    assert "Join Acme" in await (await port.call("GET", f"/invitation?k={key}", {})).text()
    async with port.database.sessions.begin() as session:
        aged = utc_now() - INVITATION_LIFETIME - dt.timedelta(seconds=1)
        await session.execute(update(Credential).where(Credential.user_id == made["id"]).values(changed_at=aged))
    assert "cannot be used" in await (await port.call("GET", f"/invitation?k={key}", {})).text()
    other = await _invite(port, site, "kim@acme.example")
    await port.call("PATCH", f"{USERS}/{other['id']}", site.auth | CHANGE, json={"status": "disabled"})
    assert "cannot be used" in await (await port.call("GET", f"/invitation?k={_key(other)}", {})).text()
    back = await port.call("PATCH", f"{USERS}/{other['id']}", site.auth | CHANGE, json={"status": "active"})
    assert (await back.json())["status"] == "invited"  # without a password nobody is active


@pytest.mark.parametrize("key", ["", "x", "user_zzz.abc", "user_01arz3ndektsv4rrffq69g5fav.", "a" * 500, "é.é", "\x00"])
async def test_a_made_up_invitation_is_told_nothing(port: AdminPort, site: Site, key: str) -> None:
    """S1-67: no page and no hash for a link that nobody made."""
    answer = await port.call("GET", "/invitation", {}, params={"k": key})
    assert (answer.status, "cannot be used" in await answer.text()) == (200, True)
    form = {"k": key, "name": "Sam", "password": PASSWORD}
    assert (await port.call("POST", "/invitation", {}, data=form)).status == 404


@pytest.mark.parametrize("role", [Role.ADMIN, Role.ACCOUNT_MANAGER])
async def test_nobody_gives_or_takes_more_than_they_have(port: AdminPort, site: Site, role: Role) -> None:
    """S1-13: an admin makes no owner, an account manager no admin, and neither touches somebody who may do more."""
    headers = await port.browser(site, role)
    for given in Role:
        body = {"email": f"{given}@acme.example", "role": given.value}
        answer = await port.call("POST", USERS, headers, json=body)
        may = scopes_of_role(given) <= scopes_of_role(role) and given is not Role.OWNER
        assert answer.status == (201 if may else 403), given
        target = site.owner.id if given is Role.OWNER else await _user_of(port, site, given)
        for method, path, change in (
            ("PATCH", f"{USERS}/{target}", {"name": "Other"}),
            ("PATCH", f"{USERS}/{target}", {"status": "disabled"}),
            ("DELETE", f"{USERS}/{target}", None),
        ):
            told = await port.call(method, path, headers | CHANGE, json=change)
            assert (told.status < 300) is may, f"{given} {method} {change} {told.status}"
    page = await (await port.call("GET", "/users", headers)).text()
    offered = set(re.findall(r'<option value="(\w+)"', page))
    assert offered == {r.value for r in Role if SCOPES_OF[r] <= SCOPES_OF[role] and r is not Role.OWNER}


async def _user_of(port: AdminPort, site: Site, role: Role) -> str:
    async with port.database.sessions.begin() as session:
        wished = operations.UserFields(f"{new_id('user')}@acme.example", "Victim", role)
        user = await operations.create_user(session, CLI, site.account, wished, None)
    return user.id


async def test_a_key_that_an_admin_made_makes_no_owner(port: AdminPort, site: Site) -> None:
    """S1-13: a key acts for who made it, and a key's own key too: all scopes do not add up to an owner."""
    admin = await port.browser(site, Role.ADMIN)
    body = {"name": "everything", "scopes": ["*"]}
    first = (await (await port.call("POST", "/api/v1/api-keys", admin, json=body)).json())["key"]
    auth = {"Authorization": f"Bearer {first}"}
    second = (await (await port.call("POST", "/api/v1/api-keys", auth, json=body)).json())["key"]
    wished = {"email": "evil@acme.example", "role": "owner"}
    for key in (first, second):
        answer = await port.call("POST", USERS, {"Authorization": f"Bearer {key}"}, json=wished)
        assert answer.status == 403
    assert (await port.call("POST", USERS, site.auth, json=wished)).status == 201  # the command's own key may


async def test_a_narrow_key_gives_no_role_beyond_its_scopes(port: AdminPort, site: Site) -> None:
    """S1-13: a key that manages users alone can make nobody who may do anything else."""
    narrow = await port.key(site, "users:read", "users:write")
    for role in Role:
        body = {"email": f"{role}@acme.example", "role": role.value}
        assert (await port.call("POST", USERS, narrow, json=body)).status == 403
        target = await _user_of(port, site, role)
        assert (await port.call("DELETE", f"{USERS}/{target}", narrow | CHANGE)).status == 403


async def test_the_last_owner_stays_whatever_is_asked(port: AdminPort, site: Site) -> None:
    """S1-12, S1-13: neither removed, disabled nor demoted while there is no other active owner."""
    path = f"{USERS}/{site.owner.id}"
    tries = (("DELETE", None), ("PATCH", {"status": "disabled"}), ("PATCH", {"role": "admin"}))
    invited = await _invite(port, site, "next@acme.example", role="owner")  # no owner until they accept
    for method, change in tries:
        assert (await port.call(method, path, site.auth | CHANGE, json=change)).status == 409
    async with port.database.sessions.begin() as session:
        await operations.create_user(
            session, CLI, site.account, operations.UserFields("two@acme.example", "Two", Role.OWNER), "$argon2id$x"
        )
    assert (await port.call("PATCH", path, site.auth | CHANGE, json={"role": "admin"})).status == 200
    assert invited["status"] == "invited"


async def test_two_owners_cannot_remove_each_other_at_once(port: AdminPort, site: Site) -> None:
    """S1-12: whatever comes first, one owner is left."""
    async with port.database.sessions.begin() as session:
        second = await operations.create_user(
            session, CLI, site.account, operations.UserFields("two@acme.example", "Two", Role.OWNER), "$argon2id$x"
        )
    calls = [port.call("DELETE", f"{USERS}/{each}", site.auth | CHANGE) for each in (site.owner.id, second.id)]
    statuses = sorted(answer.status for answer in await asyncio.gather(*calls))
    assert statuses == [204, 409]
    async with port.database.sessions() as session:
        assert await store.active_owners(session, site.account.id) == 1


async def test_nobody_disables_or_removes_themselves(port: AdminPort, site: Site) -> None:
    """S1-12: a slip does not lock one out."""
    headers = await port.browser(site, Role.ADMIN)
    async with port.database.sessions() as session:
        me = (await session.scalars(select(User.id).where(User.role == Role.ADMIN))).one()
    assert (await port.call("DELETE", f"{USERS}/{me}", headers | CHANGE)).status == 409
    answer = await port.call("PATCH", f"{USERS}/{me}", headers | CHANGE, json={"status": "disabled"})
    assert answer.status == 409
    page = await (await port.call("GET", f"/users/{me}", headers)).text()
    assert "/delete" not in page


async def test_a_removed_user_is_out_at_once_and_their_address_is_free(port: AdminPort, site: Site) -> None:
    """S1-12, S1-43: sessions dead, in no list, the address may be invited anew; the log keeps the name."""
    headers = await port.browser(site, Role.OPERATOR)
    async with port.database.sessions() as session:
        user = (await session.scalars(select(User).where(User.role == Role.OPERATOR))).one()
    assert (await port.call("DELETE", f"{USERS}/{user.id}", site.auth | CHANGE)).status == 204
    assert (await port.call("GET", "/phones", headers, allow_redirects=False)).status == 303
    assert (await port.call("GET", f"{USERS}/{user.id}", site.auth)).status == 404
    assert (await port.call("DELETE", f"{USERS}/{user.id}", site.auth | CHANGE)).status == 404
    listed = await (await port.call("GET", USERS, site.auth)).json()
    assert user.id not in [row["id"] for row in listed["data"]]
    assert (await _invite(port, site, user.email))["id"] != user.id
    async with port.database.sessions() as session:
        row = await session.get(User, user.id)
        ends = (await session.scalars(select(Session.end_reason).where(Session.user_id == user.id))).all()
    assert row is not None
    assert (row.status, ends) == (UserStatus.REMOVED, ["removed"])
    entry = next(entry for entry in await port.entries(site.account.id) if entry.event == "user.delete")
    assert '"name":"Somebody"' in entry.entry


async def test_bad_fields_of_a_user_are_told_each(port: AdminPort, site: Site) -> None:
    """AD-API: address and name at once; a status nobody may set is a bad field."""
    bad = {"email": "nobody", "name": "x" * 201, "role": "king", "status": "removed"}
    answer = await port.call("POST", USERS, site.auth, json=bad)
    assert answer.status == 422
    assert {fault["field"] for fault in (await answer.json())["errors"]} == {"email", "name", "role", "status"}
    answer = await port.call("POST", USERS, site.auth, json={"email": "nobody"})
    assert [fault["field"] for fault in (await answer.json())["errors"]] == ["email"]
    cookie = await port.browser(site)
    page = await port.call("POST", "/users", cookie, data={"email": "nobody", "name": "Kept", "role": "king"})
    text = await page.text()
    assert page.status == 422
    assert 'value="Kept"' in text
    assert 'value="nobody"' in text
    assert 'id="e-f-email"' in text
    assert 'id="e-f-role"' in text


async def test_the_pages_invite_change_disable_and_remove(port: AdminPort, site: Site) -> None:
    """S1-10 to S1-13: all of it by forms; without mail the link is in the answer, once."""
    headers = await port.browser(site)
    form = {"email": "Sam@Acme.example", "name": "Sam", "role": "operator"}
    text = await (await port.call("POST", "/users", headers, data=form)).text()
    assert "/invitation?k=user_" in text
    assert "/invitation?k=" not in await (await port.call("GET", "/users", headers)).text()
    async with port.database.sessions() as session:
        sam = await store.user_by_email(session, "sam@acme.example")
    assert sam is not None
    for path, data, expected in (
        ("", {"name": "Sam Field", "role": "auditor", "version": "1"}, ("auditor", "invited")),
        ("/status", {"status": "disabled"}, ("auditor", "disabled")),
        ("/status", {"status": "active"}, ("auditor", "invited")),
        ("/delete", {}, ("auditor", "removed")),
    ):
        answer = await port.call("POST", f"/users/{sam.id}{path}", headers, data=data, allow_redirects=False)
        assert answer.status == 303, await answer.text()
        async with port.database.sessions() as session:
            row = await session.get(User, sam.id)
        assert row is not None
        assert (row.role, row.status) == expected
    assert (await port.call("GET", f"/users/{sam.id}", headers)).status == 404


async def test_a_role_is_read_from_the_account_at_every_request(port: AdminPort, site: Site) -> None:
    """AD-AUTH: a changed role counts at the next request; the sessions of before are ended."""
    headers = await port.browser(site, Role.ADMIN)
    async with port.database.sessions() as session:
        admin = (await session.scalars(select(User).where(User.role == Role.ADMIN))).one()
    answer = await port.call("PATCH", f"{USERS}/{admin.id}", site.auth | CHANGE, json={"role": "auditor"})
    assert answer.status == 200
    assert (await port.call("GET", "/api/v1/users", headers)).status == 401
