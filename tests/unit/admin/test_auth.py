"""Who may do what: API keys, sessions, roles, fresh proof, cross-site requests, throttling, real client addresses."""

import datetime as dt
import io
import json

import pytest
from sqlalchemy import select, update

from admin.routes import PUBLIC
from engine.accounts import operations
from engine.accounts.keys import mint_api_key
from engine.accounts.passwords import hash_password
from engine.accounts.scopes import scopes_of_role
from engine.audit.record import PLATFORM
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.models import ApiKey, Role, Session, User
from tests.unit.admin.adminport import CLI, PASSWORD, AdminPort, Site, away, open_port
from tests.unit.admin.furnished import API_ROUTES, furnish

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

ACCOUNT = "/api/v1/account"
TOKEN = "/api/v1/provisioning-token"


async def _with_password(port: AdminPort, site: Site) -> None:
    stored = await hash_password(PASSWORD)
    async with port.database.sessions.begin() as session:
        owner = await session.get(User, site.owner.id)
        assert owner is not None
        await operations.change_password(session, CLI, owner, stored)


async def _log_in(port: AdminPort, email: str, password: str, **headers: str) -> tuple[int, dict[str, str]]:
    answer = await port.client.post(
        "/login", data={"email": email, "password": password}, headers=headers, allow_redirects=False
    )
    return answer.status, dict(answer.headers)


async def test_nobody_is_told_how_to_sign_in(port: AdminPort) -> None:
    """AD-AUTH: without a key or session the API answers 401 and names the scheme."""
    answer = await port.call("GET", ACCOUNT, {})
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.content_type == "application/problem+json"
    assert (await answer.json())["code"] == "not_authenticated"


async def test_a_key_with_a_wrong_checksum_is_refused_without_the_database(port: AdminPort, site: Site) -> None:
    """AD-AUTH: a mistyped key never reaches the database; a right one needs it."""
    wrong = mint_api_key()[:-1] + "!"
    async with away(port.database):
        assert (await port.call("GET", ACCOUNT, {"Authorization": f"Bearer {wrong}"})).status == 401
        assert (await port.call("GET", ACCOUNT, site.auth)).status == 503


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_an_ended_key_is_dead_at_its_next_request(port: AdminPort, site: Site, end: str) -> None:
    """AD-AUTH: revoking or expiry holds from the next request on."""
    assert (await port.call("GET", ACCOUNT, site.auth)).status == 200
    column = {"revoked": {"revoked_at": utc_now()}, "expired": {"expires_at": utc_now() - dt.timedelta(seconds=1)}}
    async with port.database.engine.begin() as connection:
        await connection.execute(update(ApiKey).values(**column[end]))
    assert (await port.call("GET", ACCOUNT, site.auth)).status == 401


async def test_the_key_is_stored_as_its_hash_and_noted_when_used(port: AdminPort, site: Site) -> None:
    """AD-AUTH: only SHA-256 and the first characters are kept; last use and address are noted."""
    await port.call("GET", ACCOUNT, site.auth)
    async with port.database.sessions() as session:
        row = (await session.scalars(select(ApiKey))).one()
    assert site.key not in repr(vars(row))
    assert site.key.startswith(row.hint)
    assert row.last_used_ip == "127.0.0.1"
    assert row.version == 1


async def test_nobody_gives_a_key_more_than_they_may_do(port: AdminPort, site: Site) -> None:
    """AD-AUTH: an api_keys:write key cannot mint itself the rest."""
    narrow = await port.key(site, "api_keys:write", "phones:read")
    asked = {"name": "more", "scopes": ["phones:read", "phones:write"]}
    refused = await port.call("POST", "/api/v1/api-keys", narrow, json=asked)
    assert refused.status == 403
    assert (await port.call("POST", "/api/v1/api-keys", narrow, json=asked | {"scopes": ["*"]})).status == 403
    assert (await port.call("POST", "/api/v1/api-keys", narrow, json=asked | {"scopes": ["phones:read"]})).status == 201


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_may_do_exactly_what_its_scopes_say(port: AdminPort, site: Site, role: Role) -> None:
    """AD-AUTH: role by route, over the whole table: 403 where the scope is missing and nowhere else."""
    made = await furnish(port, site)
    headers = await port.browser(site, role)
    faults = []
    for route in sorted(API_ROUTES, key=lambda one: (one.method == "DELETE", one.path)):
        if route.path == "/api/v1/sessions/{id}":
            continue
        answer = await port.call(
            route.method, made.path(route), headers | {"If-Match": "*"}, json=made.body(route), allow_redirects=False
        )
        may = route.scope is PUBLIC or route.scope in scopes_of_role(role)
        if (answer.status == 403) == may:
            faults.append(f"{role} {route.method} {route.path}: {answer.status}")
    assert faults == []


@pytest.mark.parametrize(("ago", "lifetime"), [(dt.timedelta(hours=9), "idle"), (dt.timedelta(hours=25), "absolute")])
async def test_a_session_ends_by_itself(port: AdminPort, site: Site, ago: dt.timedelta, lifetime: str) -> None:
    """AD-AUTH: eight hours without a request, or a day in any case."""
    headers = await port.browser(site)
    assert (await port.call("GET", ACCOUNT, headers)).status == 200
    column = {"idle": "seen_at", "absolute": "created_at"}[lifetime]
    async with port.database.engine.begin() as connection:
        await connection.execute(update(Session).values(**{column: utc_now() - ago}))
    assert (await port.call("GET", ACCOUNT, headers)).status == 401


async def test_a_revoked_session_is_dead_at_its_next_request(port: AdminPort, site: Site) -> None:
    """AD-AUTH: an administrator ends somebody's session and its cookie is worth nothing."""
    headers = await port.browser(site, Role.OPERATOR)
    listed = await (await port.call("GET", "/api/v1/sessions", site.auth)).json()
    assert [row["method"] for row in listed["data"]] == ["password"]
    assert (await port.call("DELETE", f"/api/v1/sessions/{listed['data'][0]['id']}", site.auth)).status == 204
    assert (await port.call("GET", ACCOUNT, headers)).status == 401
    told = json.loads(
        (await port.entries(site.account.id))[-1].entry
    )  # whose it was, when the session itself is forgotten
    assert told["event"] == "session.delete"
    assert told["details"].items() >= {"method": "password", "ip": "127.0.0.1"}.items()
    assert told["details"]["email"].endswith("@acme.example")


async def test_what_is_too_large_stands_in_the_log_of_whoever_sent_it(port: AdminPort, site: Site) -> None:
    """S0-30: a body that is refused before anybody is asked who they are is still its sender's."""
    answer = await port.call("POST", "/api/v1/locations", site.auth, data=io.BytesIO(b"x" * (2 << 20)))
    assert answer.status == 413
    refused = (await port.entries(site.account.id))[-1]
    assert (refused.event, refused.outcome, refused.actor_type) == ("location.create", "failure", "api_key")
    answer = await port.call(
        "POST", "/api/v1/locations", {"Authorization": "Bearer cp_no"}, data=io.BytesIO(b"x" * (2 << 20))
    )
    assert answer.status == 413
    stranger = (await port.entries(PLATFORM))[-1]
    assert (stranger.event, stranger.outcome, stranger.actor_type) == ("location.create", "failure", "anonymous")


async def test_a_disabled_user_is_out_at_once(port: AdminPort, site: Site) -> None:
    """AD-AUTH: disabling somebody ends their sessions."""
    headers = await port.browser(site, Role.ADMIN)
    users = (await (await port.call("GET", "/api/v1/users", site.auth)).json())["data"]
    path = f"/api/v1/users/{users[-1]['id']}"
    answer = await port.call("PATCH", path, site.auth | {"If-Match": "*"}, json={"status": "disabled"})
    assert (answer.status, (await answer.json())["status"]) == (200, "disabled")
    assert (await port.call("GET", ACCOUNT, headers)).status == 401


async def test_the_last_owner_stays(port: AdminPort, site: Site) -> None:
    """AD-AUTH: an account can never be left with nobody who may do everything."""
    path = f"/api/v1/users/{site.owner.id}"
    for change in ({"role": "admin"}, {"status": "disabled"}):
        assert (await port.call("PATCH", path, site.auth | {"If-Match": "*"}, json=change)).status == 409


async def test_only_owners_make_owners(port: AdminPort, site: Site) -> None:
    """AD-AUTH: an admin cannot promote themselves or anybody."""
    admin = await port.browser(site, Role.ADMIN)
    asked = {"email": "boss@acme.example", "role": "owner"}
    assert (await port.call("POST", "/api/v1/users", admin, json=asked)).status == 403
    owner = await port.browser(site, Role.OWNER)
    assert (await port.call("POST", "/api/v1/users", owner, json=asked)).status == 201


@pytest.mark.parametrize(("ago_s", "status"), [(0.0, 200), (14 * 60.0, 200), (16 * 60.0, 403)])
async def test_a_secret_takes_a_password_typed_within_fifteen_minutes(
    port: AdminPort, site: Site, ago_s: float, status: int
) -> None:
    """S0-20: revealing asks for fresh proof; the problem's code tells a page to ask for the password."""
    await port.call("POST", f"{TOKEN}/generate", site.auth)
    answer = await port.call("GET", TOKEN, await port.browser(site, proven_ago_s=ago_s))
    assert answer.status == status
    if status == 403:
        assert (await answer.json())["code"] == "proof_required"


async def test_a_key_reveals_only_with_its_own_scope(port: AdminPort, site: Site) -> None:
    """S0-20: provisioning:read and provisioning:write do not reveal."""
    await port.call("POST", f"{TOKEN}/generate", site.auth)
    weak = await port.key(site, "provisioning:read", "provisioning:write")
    refused = await port.call("GET", TOKEN, weak)
    assert (refused.status, (await refused.json())["code"]) == (403, "scope_missing")
    strong = await port.key(site, "provisioning:reveal")
    assert (await port.call("GET", TOKEN, strong)).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 201),
        ({"Sec-Fetch-Site": "none"}, 201),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 201),
    ],
)
async def test_a_write_from_another_site_is_refused(
    port: AdminPort, site: Site, headers: dict[str, str], status: int
) -> None:
    """AD-AUTH: Sec-Fetch-Site decides, else Origin against Host; a refused one is recorded as denied."""
    browser = await port.browser(site)
    del browser["Sec-Fetch-Site"]
    body = {"email": "frontdesk@acme.example"}
    answer = await port.call("POST", "/api/v1/notification-recipients", browser | headers, json=body)
    assert answer.status == status
    if status == 403:
        assert (await answer.json())["code"] == "cross_site"
        denied = (await port.entries(site.account.id))[-1]  # an attempt on this account, in its user's name
        assert (denied.outcome, denied.actor_type, denied.event) == ("denied", "user", "notification_recipient.create")


async def test_our_own_origin_may_write_and_a_key_needs_none(port: AdminPort, site: Site) -> None:
    """AD-AUTH: the page's own forms work in browsers without Sec-Fetch-Site; keys carry no ambient authority."""
    browser = await port.browser(site)
    del browser["Sec-Fetch-Site"]
    own = str(port.client.make_url("/")).rstrip("/")
    path = "/api/v1/notification-recipients"
    assert (await port.call("POST", path, browser | {"Origin": own}, json={"email": "a@acme.example"})).status == 201
    cross = site.auth | {"Sec-Fetch-Site": "cross-site"}
    assert (await port.call("POST", path, cross, json={"email": "b@acme.example"})).status == 201


async def test_signing_in_gives_a_strict_cookie(port: AdminPort, site: Site) -> None:
    """AD-AUTH: HttpOnly, SameSite=Strict, for this host; one entry session.create of the user."""
    await _with_password(port, site)
    status, headers = await _log_in(port, "OWNER@acme.example ", PASSWORD)
    assert status == 303
    cookie = headers["Set-Cookie"]
    assert cookie.startswith("callpoint_session=")
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/"))
    entry = (await port.entries(site.account.id))[-1]
    assert (entry.event, entry.outcome, entry.actor_name) == ("session.create", "success", "owner@acme.example")


async def test_under_https_the_cookie_is_bound_to_the_host(database: Database, keys: KeyRing) -> None:
    """AD-AUTH: __Host- and Secure, and HSTS, as soon as the port is known to be reached over HTTPS."""
    port = await open_port(database, keys, public_url="https://callpoint.example")
    try:
        site = await port.site()
        await _with_password(port, site)
        status, headers = await _log_in(port, site.owner.email, PASSWORD, Origin="https://callpoint.example")
        assert status == 303
        assert headers["Set-Cookie"].startswith("__Host-callpoint_session=")
        assert "Secure" in headers["Set-Cookie"]
        assert headers["Strict-Transport-Security"].startswith("max-age=")
    finally:
        await port.client.close()


async def test_a_failed_sign_in_tells_nobody_who_has_an_account(port: AdminPort, site: Site) -> None:
    """AD-AUTH: wrong password and unknown address answer alike; the user's own account sees the attempt."""
    await _with_password(port, site)
    known, _ = await _log_in(port, site.owner.email, "violet tractor hums beneath nine boats")
    assert known == 401
    entry = (await port.entries(site.account.id))[-1]
    assert (entry.event, entry.outcome, entry.resource_id) == ("session.create", "denied", site.owner.id)
    unknown, _ = await _log_in(port, "nobody@acme.example", "violet tractor hums beneath nine boats")
    assert unknown == 401
    assert (await port.entries(PLATFORM))[-1].outcome == "denied"


@pytest.mark.parametrize("email", ["owner@acme.example", "nobody@acme.example"])
async def test_guessing_is_slowed_for_known_and_unknown_alike(port: AdminPort, site: Site, email: str) -> None:
    """AD-AUTH: five failures are free; then 429 with Retry-After, whether or not the address is anybody's."""
    statuses = [(await _log_in(port, email, f"wrong guess number {n:04d}"))[0] for n in range(6)]
    assert statuses == [401] * 5 + [429]
    status, headers = await _log_in(port, email, PASSWORD)
    assert status == 429
    assert int(headers["Retry-After"]) >= 1


async def test_the_client_address_is_the_real_one_behind_a_trusted_proxy(database: Database, keys: KeyRing) -> None:
    """S0-37: X-Forwarded-For counts from trusted proxies alone, read from its end."""
    port = await open_port(database, keys, trusted_proxies=["127.0.0.0/8", "10.0.0.0/8"])
    try:
        site = await port.site()
        forged = {"X-Forwarded-For": "198.51.100.66, 203.0.113.7, 10.0.0.3"}
        await port.call("GET", ACCOUNT, site.auth | forged)
        assert (await port.entries(site.account.id))[-1].ip == "203.0.113.7"
    finally:
        await port.client.close()


async def test_a_forged_client_address_is_not_believed(port: AdminPort, site: Site) -> None:
    """S0-37: without a trusted proxy the header is nothing."""
    await port.call("GET", ACCOUNT, site.auth | {"X-Forwarded-For": "198.51.100.66"})
    assert (await port.entries(site.account.id))[-1].ip == "127.0.0.1"


async def test_the_entry_keeps_actor_and_agent_as_they_are(port: AdminPort, site: Site) -> None:
    """S0-35: actor by type, id, name and role; a user agent that is no text does no harm."""
    await port.call(
        "GET", ACCOUNT, await port.browser(site, Role.AUDITOR), extra={"User-Agent": "curl/8 \u00e9\ud83d\ude00"}
    )
    told = json.loads((await port.entries(site.account.id))[-1].entry)
    assert (told["actor"]["type"], told["actor"]["role"]) == ("user", "auditor")
    assert told["request"]["user_agent"].startswith("curl/8")
