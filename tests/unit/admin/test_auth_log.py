"""The authentication log: every sign-in, every end told apart, every refusal with its reason for the admin alone."""

import datetime as dt
import json
from typing import Any

import pytest
from sqlalchemy import update

from admin.context import PASSWORDS
from admin.pages.auth_log import span
from engine.accounts import authlog, operations, store
from engine.accounts.authlog import End, Position
from engine.accounts.store import ABSOLUTE, IDLE
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import utc_now
from engine.ids import new_id
from engine.models import Role, Session, UserStatus
from tests.unit.admin.adminport import CLI, PASSWORD, AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

LOG = "/api/v1/auth-log"
SAM = "sam@acme.example"


async def _sam(port: AdminPort, site: Site, status: UserStatus = UserStatus.ACTIVE, email: str = SAM) -> str:
    assert port.client.app is not None
    password_hash = await port.client.app[PASSWORDS].hash(PASSWORD)
    async with port.database.sessions.begin() as session:
        wished = operations.UserFields(email, "Sam Field", Role.OPERATOR, status)
        user = await operations.create_user(session, CLI, site.account, wished, password_hash)
    return user.id


async def _sign_in(
    port: AdminPort, email: str = SAM, password: str = PASSWORD, cookie: str = ""
) -> tuple[int, str, dict[str, str]]:
    """Status, page, and the headers of the browser that is signed in then."""
    port.client.session.cookie_jar.clear()
    headers = {"User-Agent": "Firefox/150", **({"Cookie": cookie} if cookie else {})}
    answer = await port.call(
        "POST", "/login", headers, data={"email": email, "password": password}, allow_redirects=False
    )
    text = await answer.text()
    made = answer.headers.get("Set-Cookie", "").partition(";")[0]
    port.client.session.cookie_jar.clear()
    return answer.status, text, {"Cookie": made, "Sec-Fetch-Site": "same-origin"}


async def _log(port: AdminPort, site: Site, **params: str) -> list[dict[str, Any]]:
    answer = await port.call("GET", LOG, site.auth, params=params)
    assert answer.status == 200, await answer.text()
    rows: list[dict[str, Any]] = (await answer.json())["data"]
    return rows


async def test_a_sign_in_tells_who_when_whence_and_how(port: AdminPort, site: Site) -> None:
    """S1-60, S1-61, S1-63, S1-66: user, time, address, method, and a duration that runs."""
    user_id, began = await _sam(port, site), utc_now()
    status, _text, _headers = await _sign_in(port)
    assert status == 303
    (row,) = await _log(port, site)
    assert (row["outcome"], row["user_id"], row["email"], row["name"]) == ("success", user_id, SAM, "Sam Field")
    assert (row["ip"], row["user_agent"], row["method"]) == ("127.0.0.1", "Firefox/150", "password")
    assert (row["end"], row["ended_at"], row["reason"]) == ("running", None, "")
    assert 0 <= row["duration_s"] <= (utc_now() - began).total_seconds()
    async with port.database.sessions.begin() as session:
        earlier = utc_now() - dt.timedelta(hours=2)
        await session.execute(update(Session).values(created_at=earlier))
    duration_s = (await _log(port, site))[0]["duration_s"]
    assert 7200 <= duration_s <= (utc_now() - earlier).total_seconds()


async def test_the_ends_of_sessions_are_told_apart(port: AdminPort, site: Site) -> None:
    """S1-62: signed out, replaced, revoked by somebody, revoked by a change, idle, a day old."""
    user_id = await _sam(port, site)
    _status, _text, first = await _sign_in(port)
    await port.call("POST", "/logout", first, allow_redirects=False)
    _status, _text, second = await _sign_in(port)
    await _sign_in(port, cookie=second["Cookie"])  # replaces the second
    (third,) = await _log(port, site, end="running")
    owner = await port.browser(site)
    path = f"/auth-log/sessions/{third['id']}/end"
    assert (await port.call("POST", path, owner, allow_redirects=False)).status == 303
    await _sign_in(port)
    await port.call("PATCH", f"/api/v1/users/{user_id}", site.auth | {"If-Match": "*"}, json={"role": "auditor"})
    now = utc_now()
    async with port.database.sessions.begin() as session:
        for seen, made in ((IDLE, IDLE * 2), (dt.timedelta(minutes=5), ABSOLUTE)):
            late = dt.timedelta(seconds=1)
            session.add(
                Session(
                    id=new_id("session"), user_id=user_id, account_id=site.account.id, cookie_hash=new_id("session"),
                    method="password", ip="192.0.2.9", created_at=now - made - late, seen_at=now - seen - late,
                    proven_at=now,
                )
            )  # fmt: skip
    told = {(row["end"], row["end_reason"]) for row in await _log(port, site, user=SAM)}
    assert told == {
        ("signed_out", "signed_out"), ("replaced", "replaced"), ("revoked", "revoked"), ("revoked", "role_changed"),
        ("expired", "idle"), ("expired", "absolute"),
    }  # fmt: skip
    for end in End:
        rows = await _log(port, site, user="sam", end=end.value)
        assert {row["end"] for row in rows} == ({end.value} if end is not End.RUNNING else set())
        assert all(row["ended_at"] is not None and row["duration_s"] >= 0 for row in rows)
    (out,) = await _log(port, site, end="signed_out")
    assert (out["ended_by"], out["ended_ip"]) == (SAM, "127.0.0.1")
    revoked = [row for row in await _log(port, site, end="revoked") if row["end_reason"] == "revoked"]
    assert revoked[0]["ended_by"] == "owner@acme.example"
    (idle,) = [row for row in await _log(port, site, end="expired") if row["end_reason"] == "idle"]
    assert idle["duration_s"] == 2 * int(IDLE.total_seconds())  # it ended with its clock, not when somebody looked


async def test_a_refusal_has_its_reason_for_the_admin_and_none_for_the_stranger(port: AdminPort, site: Site) -> None:
    """S1-67: unknown user, wrong password, disabled, invited: one answer outside, four reasons inside."""
    await _sam(port, site)
    await _sam(port, site, UserStatus.DISABLED, "gone@acme.example")
    await port.call("POST", "/api/v1/users", site.auth, json={"email": "new@acme.example"})
    said = set()
    for email, password in (
        (SAM, "wrong horse battery"), ("nobody@acme.example", PASSWORD), ("gone@acme.example", PASSWORD),
        ("new@acme.example", PASSWORD),
    ):  # fmt: skip
        status, text, _headers = await _sign_in(port, email, password)
        said.add((status, text.replace(email, "").replace("nonce", "")))
    assert {status for status, _text in said} == {401}
    assert len({text for _status, text in said}) == 1
    rows = await _log(port, site, outcome="failure")
    assert {row["email"]: row["reason"] for row in rows} == {
        SAM: "wrong_password", "nobody@acme.example": "unknown_user", "gone@acme.example": "user_disabled",
        "new@acme.example": "no_password_yet",
    }  # fmt: skip
    assert all(row["end"] is None and row["duration_s"] is None for row in rows)
    assert [row["email"] for row in await _log(port, site, user="nobody")] == ["nobody@acme.example"]


async def test_a_throttled_guess_is_in_the_users_own_log(port: AdminPort, site: Site) -> None:
    """S1-67: brute force is seen for what it is, with the user it was meant for."""
    user_id = await _sam(port, site)
    statuses = [(await _sign_in(port, password=f"guess number {n}"))[0] for n in range(7)]
    assert statuses[-1] == 429
    rows = await _log(port, site, outcome="failure", user=SAM)
    assert {row["reason"] for row in rows} == {"wrong_password", "throttled"}
    assert len(rows) == 7
    assert {row["user_id"] for row in rows} == {user_id}
    told = [json.loads(entry.entry) for entry in await port.entries(site.account.id)]
    refused = [(one["outcome"], one["status"]) for one in told if one["event"] == "session.create"]
    assert refused == [("denied", 401)] * 5 + [("denied", 429)] * 2  # S0-36


async def test_what_was_typed_in_place_of_an_address_is_kept_nowhere(port: AdminPort, site: Site) -> None:
    """S1-67: people type passwords into the wrong field."""
    await _sign_in(port, "violet tractor hums", "x")
    (row,) = await _log(port, site)
    assert (row["reason"], row["email"], row["user_id"]) == ("unknown_user", "", None)
    everything = [entry.entry for chain in (site.account.id, "platform") for entry in await port.entries(chain)]
    assert not any("violet tractor" in entry for entry in everything)


async def test_strangers_attempts_are_not_told_to_accounts_that_share_an_installation(
    port: AdminPort, site: Site
) -> None:
    """AD-AUTH: whose an unknown address was meant to be nobody can say; another account's users are never shown."""
    other = await port.site("Beta Clinic", "owner@beta.example")
    await _sam(port, site)
    await _sign_in(port)
    await _sign_in(port, password="not the password")
    await _sign_in(port, "nobody@example.net")
    assert len(await _log(port, site)) == 2
    assert await _log(port, other) == []
    (row, *_rest) = await _log(port, site, outcome="success")
    headers = await port.browser(other)
    answer = await port.call("POST", f"/auth-log/sessions/{row['id']}/end", headers, allow_redirects=False)
    assert answer.status == 404
    assert len(await _log(port, site, end="running")) == 1


async def test_pages_of_the_log_show_every_row_once_while_new_ones_arrive(port: AdminPort, site: Site) -> None:
    """S1-60: keyset paging over sign-ins and refusals alike."""
    user_id = await _sam(port, site)
    await _many(port, site, user_id, 9)
    for n in range(5):
        await _sign_in(port, f"n{n}@acme.example", "x")
    everything = [row["id"] for row in await _log(port, site, limit="200")]
    assert len(everything) == 14
    seen: list[str] = []
    params: dict[str, str] = {"limit": "4"}
    while True:
        answer = await (await port.call("GET", LOG, site.auth, params=params)).json()
        seen += [row["id"] for row in answer["data"]]
        if answer["next_cursor"] is None:
            break
        params["cursor"] = answer["next_cursor"]
        await _many(port, site, user_id, 1)
    assert seen == everything


async def _many(port: AdminPort, site: Site, user_id: str, count: int) -> None:
    async with port.database.sessions.begin() as session:
        for n in range(count):
            now = utc_now()
            session.add(
                Session(
                    id=new_id("session"), user_id=user_id, account_id=site.account.id, cookie_hash=new_id("session"),
                    method="password", ip=f"192.0.2.{n}", created_at=now, seen_at=now, proven_at=now,
                )
            )  # fmt: skip


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({"ip": "192.0.2."}, 3), ({"ip": "192.0.2.1"}, 1), ({"ip": "192.0.2.0/31"}, 2), ({"ip": "_92"}, 0),
        ({"user": "SAM F"}, 3), ({"user": "%"}, 0), ({"user": "am@"}, 0), ({"since": "2099-01-01T00:00:00Z"}, 0),
        ({"until": "2099-01-01T00:00:00+02:00"}, 3), ({"until": "2001-01-01T00:00:00Z"}, 0),
        ({"outcome": "failure"}, 0), ({"end": "running", "outcome": "failure"}, 0),
    ],
)  # fmt: skip
async def test_each_filter_narrows(port: AdminPort, site: Site, params: dict[str, str], count: int) -> None:
    """S1-60: prefix of the user, part of the address or CIDR, times with their zone; `%` and `_` as typed."""
    await _many(port, site, await _sam(port, site), 3)
    assert len(await _log(port, site, **params)) == count


@pytest.mark.parametrize("at_once", [1, 3, 2_000])
async def test_a_network_finds_the_same_however_many_addresses_are_compared_at_once(
    port: AdminPort, site: Site, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """S1-60: sign-ins and refusals, page by page, with whole octets in the mask or not, and IPv6."""
    monkeypatch.setattr(authlog, "ADDRESSES", at_once)
    user_id = await _sam(port, site)
    await _many(port, site, user_id, 9)
    async with port.database.sessions.begin() as session:
        for ip in ("192.0.2.3", "198.51.100.3", "2001:db8::1"):
            record(
                session, Actor("anonymous", "anonymous", "", ip), Event.SESSION_CREATE,
                resource=("user", user_id, ""), outcome="denied", account_id=site.account.id,
            )  # fmt: skip
    for network, addresses in (
        ("192.0.2.0/30", {"192.0.2.0", "192.0.2.1", "192.0.2.2", "192.0.2.3"}), ("2001:db8::/32", {"2001:db8::1"}),
        ("192.0.2.8/32", {"192.0.2.8"}), ("203.0.113.0/24", set()),
    ):  # fmt: skip
        found = await _log(port, site, ip=network)
        assert ({row["ip"] for row in found}, len(found)) == (addresses, len(addresses) + (network == "192.0.2.0/30"))
        params = {"ip": network, "limit": "2"}
        assert len(await _log(port, site, **params)) == min(2, len(found))


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"end": "asleep"}, "end"), ({"outcome": "maybe"}, "outcome"), ({"ip": "10.0.0.0/99"}, "ip"),
        ({"since": "yesterday"}, "since"), ({"until": "2026-01-01T00:00:00"}, "until"), ({"colour": "red"}, "colour"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "since"), ({"cursor": "x"}, "cursor"),
    ],
)  # fmt: skip
async def test_a_bad_filter_is_told_by_its_field(
    port: AdminPort, site: Site, params: dict[str, str], field: str
) -> None:
    """AD-API: 422 with the field, never an empty list."""
    answer = await port.call("GET", LOG, site.auth, params=params)
    assert (answer.status, [fault["field"] for fault in (await answer.json())["errors"]]) == (422, [field])


@pytest.mark.parametrize(
    "text", ["", "x", "a,b,c", ",1", ",-1,0,0", ",1,1,9999999999999999999", ",\u0661,0,0", "a,b,c,d"]
)
def test_a_made_up_position_is_refused(text: str) -> None:
    """AD-API: nothing but what the log itself wrote is read."""
    with pytest.raises(ValueError, match="no position"):
        Position.read(text)


async def test_the_page_shows_ends_and_reasons_in_words(port: AdminPort, site: Site) -> None:
    """S1-60 to S1-67: the same rows for people, with a button that ends a running session."""
    await _sam(port, site)
    _status, _text, headers = await _sign_in(port)
    await _sign_in(port, password="not the password")
    owner = await port.browser(site)
    text = await (await port.call("GET", "/auth-log", owner)).text()
    for words in ("Wrong password", "Running", "so far", "Firefox/150", "this browser", "End the session of Sam Field"):
        assert words in text, words
    for query in ("?after=x", "?since=soon", "?ip=1/x", "?end=never"):
        answer = await port.call("GET", f"/auth-log{query}", owner)
        assert (answer.status, "was not understood" in await answer.text()) == (200, True)
    assert "Nothing of that kind" in await (await port.call("GET", "/auth-log?user=kim", owner)).text()
    assert (await port.call("GET", "/auth-log", headers)).status == 403  # an operator


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3_725, "1 h 2 min"), (90_061, "1 d 1 h")]
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: int, words: str) -> None:
    """S1-66."""
    assert span(seconds) == words


async def test_who_chose_a_weak_password_by_a_link_is_named(port: AdminPort, site: Site) -> None:
    """S1-64: an invited user and one whose password was reset stand in the log by name, before they have a password."""
    invited = await port.call("POST", "/api/v1/users", site.auth, json={"email": "ann@acme.example", "role": "auditor"})
    made = await invited.json()
    await _sam(port, site)
    sam = (await _log(port, site, user=SAM))[:1]
    assert sam == []
    async with port.database.sessions() as session:
        found = await store.user_by_email(session, SAM)
    assert found is not None
    reset = await port.call("POST", f"/api/v1/users/{found.id}/reset-password", site.auth)
    links = [made["invitation"]["url"], (await reset.json())["url"]]
    for url, email, user_id in zip(links, ("ann@acme.example", SAM), (made["id"], found.id), strict=True):
        fields = {"k": url.partition("?k=")[2], "name": "n" * 201, "password": "short"}
        answer = await port.call("POST", "/invitation", {"Sec-Fetch-Site": "same-origin"}, data=fields)
        text = await answer.text()
        assert answer.status == 422
        assert "Expected at least 15 characters, got 5" in text
        assert text.count('aria-invalid="true"') == 2, "the bad name is told together with the password"
        rows = await _log(port, site, user=email)
        assert [(row["outcome"], row["email"], row["user_id"]) for row in rows] == [("failure", email, user_id)]
