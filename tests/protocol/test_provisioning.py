"""The phones' port on a real socket and a real database file: uniform refusals, rotation, boots, logs without
tokens.
"""

import asyncio
import base64
import contextlib
import io
import logging
import re
import socket
import ssl
from dataclasses import dataclass, replace

import aiohttp
import pytest
import trustme
from aiohttp import web
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from engine import config as configuration
from engine.audit.events import Event
from engine.audit.record import SYSTEM
from engine.crypto import KeyRing
from engine.db import Database
from engine.errors import Invalid
from engine.models import Account, AuditEntry, Phone, PhoneStatus, ProvisioningEvent
from engine.provisioning import phones, safeguards, store, tokens
from engine.provisioning.http import PhonesPort, make_phones_port, make_server
from engine.provisioning.simulate import Memory, simulate
from engine.provisioning.uploads import MAX_UPLOAD_BYTES
from tests.factories import add_account, add_line, add_pbx, add_phone
from tests.ports import free_port

YEALINK_MAC, POLY_MAC, OTHERS_MAC = "805ec0aabb01", "64167faabb02", "805ec0ccdd03"
YEALINK_AGENT = "Yealink SIP-T46U 108.86.0.20 80:5e:c0:aa:bb:01"
POLY_AGENT = "FileTransport PolycomVVX-VVX_450-UA/6.4.0.1234 Type/Application"


@dataclass(frozen=True, slots=True)
class Site:
    """A running port with one account of two phones, and another account with one."""

    port: PhonesPort
    server: web.Server
    database: Database
    keys: KeyRing
    account: Account
    token: str
    other_token: str
    base: str

    def url(self, file: str, token: str | None = None) -> str:
        return f"{self.base}/p/{token if token is not None else self.token}/{file}"


@pytest.fixture
async def site(database, keys):
    async with database.sessions.begin() as session:
        account = await add_account(session, phone_admin_password="Desk-Pass-w0rd")
        other = await add_account(session, name="Other")
        token = await phones.generate_token(session, SYSTEM, account, keys)
        other_token = await phones.generate_token(session, SYSTEM, other, keys)
        await add_pbx(session, account, registrar_host="pbx.example.net")
        lines = [await add_line(session, account, extension) for extension in ("101", "102")]
        await add_phone(session, account, *lines, mac=YEALINK_MAC, vendor="yealink", model="T46U")
        await add_phone(session, account, lines[1], mac=POLY_MAC, vendor="poly", model="VVX 450")
        await add_phone(session, other, mac=OTHERS_MAC, vendor="yealink", model="T46U")
    port = make_phones_port(configuration.Provisioning(), keys, database)
    runner = port.runner()
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert runner.server is not None
    yield Site(port, runner.server, database, keys, account, token, other_token, base)
    await runner.cleanup()
    await port.close()


@pytest.fixture
async def client():
    async with aiohttp.ClientSession() as session:
        yield session


async def fetch(client, url, *, agent=YEALINK_AGENT, method="GET", **more):
    headers = {"User-Agent": agent, **more.pop("headers", {})}
    async with client.request(method, url, headers=headers, **more) as answer:
        body = await answer.read()
        told = {name.lower(): value for name, value in answer.headers.items() if name != "Date"}
        return answer.status, told, body


async def events(site: Site):
    await site.port.log.flush()
    async with site.database.sessions.begin() as session:
        return list(await session.scalars(select(ProvisioningEvent).order_by(ProvisioningEvent.id)))


async def audited(site: Site, event: Event):
    async with site.database.sessions.begin() as session:
        return list(await session.scalars(select(AuditEntry).where(AuditEntry.event == event.value)))


async def rotate(site: Site) -> str:
    async with site.database.sessions.begin() as session:
        account = await session.get(Account, site.account.id)
        assert account is not None
        return await phones.rotate_token(session, SYSTEM, account, site.keys)


# --- Serving --------------------------------------------------------------------------------------------------------


async def test_a_phone_gets_its_configuration_and_304_while_it_has_not_changed(site, client):
    """P-13: strong ETag, If-None-Match, HEAD."""
    status, headers, body = await fetch(client, site.url(f"{YEALINK_MAC}.cfg"))
    assert status == 200
    assert b"account.1.password = secret-of-101" in body
    assert headers["content-type"].startswith("text/plain")
    assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert "server" not in headers
    etag = headers["etag"]
    assert etag.startswith('"')
    for tag in (etag, f'"x", W/{etag}', "*"):
        again = await fetch(client, site.url(f"{YEALINK_MAC}.cfg"), headers={"If-None-Match": tag})
        assert (again[0], again[2], again[1]["etag"]) == (304, b"", etag)
    plainly = {"Accept-Encoding": "identity"}
    status, headers, body = await fetch(client, site.url(f"{YEALINK_MAC}.cfg"), headers=plainly)
    etag = headers["etag"]
    head = await fetch(client, site.url(f"{YEALINK_MAC}.cfg"), method="HEAD", headers=plainly)
    assert (head[0], head[2], head[1]["etag"], head[1]["content-length"]) == (200, b"", etag, str(len(body)))


async def test_a_change_in_the_account_changes_the_file_at_once(site, client):
    first = await fetch(client, site.url(f"{YEALINK_MAC}.cfg"))
    async with site.database.sessions.begin() as session:
        line = await store.line_by_sip_user(session, site.account.id, "101")
        assert line is not None
        account = await session.get(Account, site.account.id)
        wished = replace(phones.LineFields.of(line), display_name="Front desk")
        await phones.update_line(session, SYSTEM, account, line, wished)
    second = await fetch(client, site.url(f"{YEALINK_MAC}.cfg"), headers={"If-None-Match": first[1]["etag"]})
    assert second[0] == 200
    assert b"account.1.display_name = Front desk" in second[2]


async def test_the_port_answers_health_and_nothing_else(site, client):
    """Decision 14: no admin code is reachable from the phones' port."""
    assert (await fetch(client, f"{site.base}/healthz"))[0] == 200
    refusal = await fetch(client, site.url(f"{YEALINK_MAC}.cfg", "x"))
    for path in ("/", "/login", "/api/v1/account", "/p", "/p/", "/metrics", "/healthz/", "/settings", "/static/x"):
        assert await fetch(client, site.base + path) == refusal, path
    assert await fetch(client, f"{site.base}/healthz", method="POST") == refusal


# --- Refusals -------------------------------------------------------------------------------------------------------


async def close_to(site: Site, token: str) -> None:
    """Let that account serve phones of a range nobody here is in."""
    async with site.database.sessions.begin() as session:
        accounts = await session.scalars(select(Account))
        account = next(each for each in accounts if each.provisioning_token == token)
        await safeguards.update_policy(session, SYSTEM, account, {"sources": ["192.0.2.0/24"]}, sees_certificates=False)


async def test_every_wrong_request_gets_the_same_404_byte_for_byte(site, client):
    """P-02: unknown and rotated token, unknown and foreign MAC, another vendor's file, nonsense."""
    old = site.token
    token = await rotate(site)
    good = tokens.mint()
    wrong = [
        (old, f"{YEALINK_MAC}.cfg", YEALINK_AGENT),  # rotated
        (good, f"{YEALINK_MAC}.cfg", YEALINK_AGENT),  # unknown
        (token, "805ec0999999.cfg", None),  # unknown MAC
        (token, f"{OTHERS_MAC}.cfg", None),  # another account's
        (site.other_token, f"{YEALINK_MAC}.cfg", YEALINK_AGENT),
        (token, f"{YEALINK_MAC}-settings.cfg", YEALINK_AGENT),  # another vendor's file
        (token, f"{YEALINK_MAC}-web.cfg", None),
        (token, f"{POLY_MAC}.boot", POLY_AGENT),
        (token, f"{YEALINK_MAC}.cfg", POLY_AGENT),  # another vendor's User-Agent
        (token, f"{YEALINK_MAC}.cfg", "Yealink SIP-T46U 108.86.0.20 80:5e:c0:99:99:99"),  # two MACs
        (token, f"{YEALINK_MAC}.cfg", "Grandstream Model HW GXP2135 SW 1.0.7.97 DevId 000b828aa872"),
        (token, "{mac}.cfg", None),
        (token, "$mac.cfg", None),
        (token, "000000000000.cfg", YEALINK_AGENT),
        (token, "passwd", None),
        (token, "", None),
        (token, "index.html", None),
        (token, f"{YEALINK_MAC}-license.cfg", None),
        (token, f"{POLY_MAC}-license.cfg", POLY_AGENT),
        (token, "x" * 3000, None),
        ("y" * 3000, f"{YEALINK_MAC}.cfg", None),
        ("", f"{YEALINK_MAC}.cfg", None),
        ("é", f"{YEALINK_MAC}.cfg", None),
        (token[:-1], f"{YEALINK_MAC}.cfg", None),
        (token + "A", f"{YEALINK_MAC}.cfg", None),
        (token.lower(), f"{YEALINK_MAC}.cfg", None),
        (token, f"{YEALINK_MAC}.cfg?x=1", None),
        (token, f"yealink/{YEALINK_MAC}.cfg", None),
        (token, f"sealed/{YEALINK_MAC}.cfg", YEALINK_AGENT),  # it holds no key
        (token, f"sealed/sealed/{YEALINK_MAC}.cfg", YEALINK_AGENT),
        (site.other_token, f"{OTHERS_MAC}.cfg", None),  # from outside that account's ranges
        (site.other_token, "805ec0999999.cfg", None),
    ]
    await close_to(site, site.other_token)
    expected = await fetch(client, site.url("nothing", "nothing"))
    assert expected[0] == 404
    for wrong_token, file, agent in wrong:
        got = await fetch(client, site.url(file, wrong_token), agent=agent or "Mozilla/5.0")
        assert got == expected, (wrong_token[:8], file[:40], agent)
    for method in ("POST", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "PUT"):
        assert await fetch(client, site.url(f"{YEALINK_MAC}.cfg", token), method=method) == expected, method
    assert (await fetch(client, site.url(f"{YEALINK_MAC}.cfg", token)))[0] == 200


@contextlib.asynccontextmanager
async def opened(site: Site):
    """A connection to the port, for a client that says its request in pieces."""
    host, port = site.base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def raw(site: Site, request: bytes) -> bytes:
    """What the port writes for these bytes: one whole answer, as long as it says itself."""
    async with opened(site) as (reader, writer):
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(30):
            head = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            assert found is not None, head
            return head + await reader.readexactly(int(found[1]))


async def left_alone(site: Site) -> None:
    """Every connection to the port has ended, on its side too."""
    async with asyncio.timeout(30):
        while site.server.connections:
            await asyncio.sleep(0.01)


def without_date(answer: bytes) -> bytes:
    return b"\r\n".join(row for row in answer.split(b"\r\n") if not row.lower().startswith(b"date:"))


async def test_encoded_slashes_dots_and_doubled_slashes_never_reach_another_file(site):
    """P-02: paths as bytes on the wire, which no client would send."""
    expected = without_date(await raw(site, b"GET /p/x/y HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
    assert expected.startswith(b"HTTP/1.1 404 ")
    token, mac = site.token.encode(), YEALINK_MAC.encode()
    for path in (
        b"/p/" + token + b"%2F" + mac + b".cfg",
        b"/p/" + token + b"/%38" + mac[1:] + b".cfg",
        b"/p/" + token + b"/../" + mac + b".cfg",
        b"/p/../p/" + token + b"/" + mac + b".cfg",
        b"/p/" + token + b"///" + mac + b".cfg",
        b"//p/" + token + b"/" + mac + b".cfg",
        b"/p/" + token + b"/" + mac + b".cfg/",
        b"/p/" + token + b"/" + mac + b".cfg;x",
        b"/P/" + token + b"/" + mac + b".cfg",
        b"/p/" + token + b"\\" + mac + b".cfg",
        b"/p/" + token + b"/" + mac + b".cfg%00",
    ):
        got = await raw(site, b"GET " + path + b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert without_date(got) == expected, path


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.binary(max_size=300) | st.binary(max_size=40).map(lambda tail: b"/p/" + tail))
async def test_any_bytes_as_a_path_get_404_or_400_and_nothing_else(site, path):
    """P-02: fuzz of the provisioning URL."""
    if b"healthz" in path:
        return
    refusal = without_date(await raw(site, b"GET /p/x/y HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
    malformed = without_date(await raw(site, b"GET  HTTP/9.9\r\n\r\n"))
    got = without_date(await raw(site, b"GET " + path + b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
    first = got.split(b"\r\n", 1)[0]
    if first == b"HTTP/1.1 404 Not Found":
        assert got.startswith(refusal)
    elif first == b"HTTP/1.0 404 Not Found":  # a line break or a version stood in the path
        assert got.split(b"\r\n", 1)[1] in refusal.replace(b"Connection: close\r\n", b"")
    elif got:
        assert first in {b"HTTP/1.0 400 Bad Request", b"HTTP/1.1 400 Bad Request"}, got
        assert got.split(b"\r\n", 1)[1] == malformed.split(b"\r\n", 1)[1]


async def test_a_request_line_without_a_version_is_answered_in_a_version_there_is(site):
    """P-02: HTTP/0.9, as a line break in a path makes it."""
    got = await raw(site, b"GET /p/x/y\r\n\r\n")
    assert got.split(b"\r\n", 1)[0] in {b"HTTP/1.0 404 Not Found", b"HTTP/1.0 400 Bad Request"}
    broken = await raw(site, b"GET /p/x\n/y HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert b"HTTP/0.9" not in broken
    later = await raw(site, b"GET /p/x/y HTTP/2.0\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert later.split(b"\r\n", 1)[0] == b"HTTP/1.1 404 Not Found"


@pytest.mark.parametrize("scheme", ["http", "HTTP", "https"])
async def test_a_request_line_in_absolute_form_is_read_as_its_path_and_host(site, scheme):
    """P-02: RFC 9112 §3.2.2: every server takes it, and what Host says beside it counts for nothing."""
    file = f"/p/{site.token}/{YEALINK_MAC}.cfg".encode()
    rest = b" HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n"
    plain = await raw(site, b"GET " + file + rest % b"prov.example.net:8080")
    assert b"http://prov.example.net:8080/p/" in plain, "the file names the host that was asked"
    absolute = scheme.encode() + b"://prov.example.net:8080"
    got = await raw(site, b"GET " + absolute + file + rest % b"elsewhere.example.net")
    assert without_date(got) == without_date(plain)
    unknown = await raw(site, b"GET /p/x/y" + rest % b"h")
    for wrong in (b"/../p/x/y", b"", b"?", b"//p/x/y", b"/p/%s%%2Fy" % site.token.encode()):
        got = await raw(site, b"GET " + absolute + wrong + rest % b"h")
        assert without_date(got) == without_date(unknown), wrong
    health = await raw(site, b"GET " + absolute + b"/healthz" + rest % b"h")
    assert health.startswith(b"HTTP/1.1 200 OK")


async def times_of_refusals(site, client) -> dict[str, float]:
    """Seconds that each kind of refusal takes, by its name: the sixth fastest of sixty. A busy machine only adds, so
    up to three rounds are taken: a kind that is slower by its nature is so in each.
    """
    wrong = {
        "token": site.url(f"{YEALINK_MAC}.cfg", tokens.mint()),
        "mac": site.url("805ec0999999.cfg"),
        "foreign": site.url(f"{OTHERS_MAC}.cfg"),
        "path": site.url("%2e%2e", "y" * 300),
        "source": site.url(f"{OTHERS_MAC}.cfg", site.other_token),
        "sealed": site.url(f"sealed/{OTHERS_MAC}.cfg", site.other_token),
    }  # after 120 of them each is one of a flood as well
    await close_to(site, site.other_token)
    spent: dict[str, list[float]]
    loop = asyncio.get_running_loop()
    for _ in range(3):
        spent = {name: [] for name in wrong}
        for _ in range(60):  # in turn, so that a busy machine slows all of them alike
            for name, url in wrong.items():
                started = loop.time()
                await fetch(client, url, agent="Mozilla/5.0")
                spent[name].append(loop.time() - started)
        told = {name: sorted(times)[len(times) // 10] for name, times in spent.items()}
        if max(told.values()) < 2 * min(told.values()):
            break
    return told


async def test_refusals_do_the_same_work_whatever_was_wrong(site, client):
    """P-02: no timing class; they lie within a factor of two."""
    times = await times_of_refusals(site, client)
    assert max(times.values()) < 2 * min(times.values()), times


async def test_a_renamed_user_agent_is_served(site, client):
    """P-05: User-Agent is never a hard condition."""
    for agent in ("Acme phone", "", "curl/8.0", "Yealink SIP-T48S 66.86.0.15"):
        assert (await fetch(client, site.url(f"{YEALINK_MAC}.cfg"), agent=agent))[0] == 200, agent


async def test_common_files_are_served_to_whoever_has_the_token_and_hold_no_secret(site, client):
    """P-01: model and master files by vendor rules, never by a file on disk."""
    status, _, body = await fetch(client, site.url("y000000000108.cfg"))
    assert status == 200
    assert b"secret-of" not in body
    assert b"Desk-Pass" not in body
    status, headers, body = await fetch(client, site.url("000000000000.cfg"), agent=POLY_AGENT)
    assert status == 200
    assert b"[PHONE_MAC_ADDRESS]-settings.cfg" in body
    assert headers["content-type"].startswith("text/xml")


# --- Rotation -------------------------------------------------------------------------------------------------------


async def test_no_fetch_gets_a_200_from_the_old_url_after_rotate_returned(site, client):
    """P-03, S0-26: 200 concurrent fetches across a rotation."""
    rotated = asyncio.Event()
    late: list[int] = []
    early: list[int] = []

    async def boot_for_ever() -> None:
        while True:
            is_late = rotated.is_set()
            status, _, _ = await fetch(client, site.url(f"{YEALINK_MAC}.cfg"))
            (late if is_late else early).append(status)
            if is_late:
                return

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200)) as client:  # noqa: PLR1704
        tasks = [asyncio.create_task(boot_for_ever()) for _ in range(200)]
        while len(early) < 400:
            await asyncio.sleep(0.01)
        token = await rotate(site)
        rotated.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 30)
        assert late == [404] * 200
        assert 200 in early
        assert (await fetch(client, site.url(f"{YEALINK_MAC}.cfg", token)))[0] == 200


async def test_the_new_url_is_in_the_configuration_after_a_rotation(site, client):
    """P-07: the provisioning URL for the next boots."""
    token = await rotate(site)
    _, _, body = await fetch(client, site.url(f"{YEALINK_MAC}.cfg", token))
    assert f"static.auto_provision.server.url = {site.base}/p/{token}/".encode() in body
    assert site.token.encode() not in body


# --- Boots ----------------------------------------------------------------------------------------------------------


async def test_a_yealink_boots_end_to_end(site):
    """P-21, P-01: boot file, its includes, the phone's own file; lines, password, next URL and both emergency
    numbers.
    """
    memory = Memory()
    result = await simulate("yealink", "T46U", YEALINK_MAC, site.url(""), memory=memory)
    assert result.is_ready, result.fault
    assert [(one.name, one.status) for one in result.files] == [
        (f"{YEALINK_MAC}.boot", 200),
        (f"{YEALINK_MAC}.cfg", 200),
    ]
    assert [(line.sip_user, line.secret, line.registrar) for line in result.lines] == [
        ("101", "secret-of-101", "pbx.example.net:5060"),
        ("102", "secret-of-102", "pbx.example.net:5060"),
    ]
    assert result.admin_password == "Desk-Pass-w0rd"
    assert result.provisioning_url == site.url("")
    assert result.dials == {"911": "immediate", "933": "immediate"}
    again = await simulate("yealink", "T46U", YEALINK_MAC, site.url(""), memory=memory)
    assert again.is_ready
    assert [one.is_applied for one in again.files] == [True, False]  # the same MD5: not applied again


async def test_a_poly_boots_end_to_end(site):
    """P-21, P-01: master file, CONFIG_FILES in order, files that may be missing, logs uploaded."""
    result = await simulate("poly", "VVX 450", POLY_MAC, site.url(""))
    assert result.is_ready, result.fault
    assert [(one.method, one.name.removeprefix(POLY_MAC), one.status) for one in result.files] == [
        ("GET", ".cfg", 200), ("GET", "-settings.cfg", 200), ("GET", "-phone.cfg", 404), ("GET", "-web.cfg", 404),
        ("GET", "-license.cfg", 404), ("GET", "000000000000-license.cfg", 404), ("GET", "-directory.xml", 200),
        ("PUT", "-boot.log", 201), ("PUT", "-app.log", 201),
    ]  # fmt: skip
    assert [(line.sip_user, line.secret) for line in result.lines] == [("102", "secret-of-102")]
    assert result.admin_password == "Desk-Pass-w0rd"
    assert result.provisioning_url == site.url("").rstrip("/")
    assert result.dials == {"911": "immediate", "933": "immediate"}


async def test_a_boot_with_a_wrong_url_is_not_ready_and_says_why(site):
    result = await simulate("yealink", "T46U", YEALINK_MAC, site.url("", tokens.mint()))
    assert not result.is_ready
    assert "404" in (result.fault or "")
    assert {one.status for one in result.files} == {404}
    assert site.token not in str(result.as_json())


async def test_the_simulated_phone_asks_again_when_the_server_is_away():
    url = f"http://127.0.0.1:{free_port()}/p/{tokens.mint()}/"
    result = await simulate("poly", "VVX 450", POLY_MAC, url, retry_delay_s=0.001)
    assert result.fault == "the server does not answer"
    assert [one.name for one in result.files[:3]] == [f"{POLY_MAC}.cfg"] * 3


async def test_the_first_fetch_sets_the_phone_s_status_and_stands_in_the_audit_log(site):
    """P-16 and decision 11: first, changed and mismatched fetches are promoted, others are not."""
    await simulate("yealink", "T46U", YEALINK_MAC, site.url(""))
    await site.port.log.flush()
    async with site.database.sessions.begin() as session:
        phone = await store.phone_by_mac(session, site.account.id, YEALINK_MAC)
        assert phone is not None
        assert phone.status == PhoneStatus.CURRENT
        assert (phone.last_ip, phone.firmware) == ("127.0.0.1", "108.86.0.20")
        assert phone.fetched_revision == await store.revision_of(session, site.account.id)
    assert len(await audited(site, Event.PHONE_FIRST_FETCH)) == 1
    await simulate("yealink", "T46U", YEALINK_MAC, site.url(""))
    await site.port.log.flush()
    assert len(await audited(site, Event.PHONE_FIRST_FETCH)) == 1
    assert not await audited(site, Event.PHONE_CHANGED_FETCH)
    async with site.database.sessions.begin() as session:
        line = await store.line_by_sip_user(session, site.account.id, "101")
        account = await session.get(Account, site.account.id)
        assert line is not None
        await phones.update_line(
            session, SYSTEM, account, line, replace(phones.LineFields.of(line), display_name="Lobby")
        )
    async with site.database.sessions.begin() as session:
        phone = await store.phone_by_mac(session, site.account.id, YEALINK_MAC)
        assert phone is not None
        assert phone.status == PhoneStatus.STALE
    await simulate("yealink", "T46U", YEALINK_MAC, site.url(""))
    await site.port.log.flush()
    assert len(await audited(site, Event.PHONE_CHANGED_FETCH)) == 1
    assert await audited(site, Event.PROVISIONING_DENIED) == []


async def test_denied_and_mismatched_fetches_are_recorded_with_address_and_user_agent(site, client):
    """P-02: each recorded with IP and User-Agent; P-05: contradictions give a mismatch event."""
    await fetch(client, site.url(f"{YEALINK_MAC}.cfg", tokens.mint()), agent="guesser/1.0")
    await fetch(client, site.url(f"{OTHERS_MAC}.cfg"), agent="walker/1.0")
    await fetch(client, site.url(f"{YEALINK_MAC}.cfg"), agent=POLY_AGENT)
    await fetch(client, site.url(f"{YEALINK_MAC}.xyz"), agent=YEALINK_AGENT)
    noted = await events(site)
    assert [(one.kind, one.reason, one.user_agent, one.ip, one.status_code) for one in noted] == [
        ("denied", "token", "guesser/1.0", "127.0.0.1", 404),
        ("denied", "phone", "walker/1.0", "127.0.0.1", 404),
        ("mismatch", "vendor", POLY_AGENT, "127.0.0.1", 404),
        ("mismatch", "unknown", YEALINK_AGENT, "127.0.0.1", 404),
    ]
    assert (noted[0].account_id, noted[1].account_id) == (None, site.account.id)
    denied = await audited(site, Event.PROVISIONING_DENIED)
    assert sorted(entry.chain for entry in denied) == sorted(["platform", site.account.id])
    assert {entry.outcome for entry in denied} == {"denied"}
    assert len(await audited(site, Event.PHONE_MISMATCH)) == 2


async def test_a_flood_of_misses_is_folded_with_address_and_count_and_hides_no_other_s_denial(site, client):
    """P-02: one address that walks MAC addresses fills some rows, which name it and count every request; the first of
    them keep each User-Agent, and a phone refused elsewhere meanwhile has a row of its own, with IP and User-Agent.
    """
    for number in range(300):
        await fetch(client, site.url(f"805ec0{number + 0xA00000:06x}.cfg"), agent=f"walker/{number}")
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with aiohttp.ClientSession(connector=connector) as elsewhere:
        await fetch(elsewhere, site.url(f"{YEALINK_MAC}.cfg", tokens.mint()), agent=YEALINK_AGENT)
        assert (await fetch(elsewhere, site.url(f"{YEALINK_MAC}.cfg")))[0] == 200
    noted = await events(site)
    walked = [one for one in noted if one.ip == "127.0.0.1"]
    assert sum(one.evidence.get("count", 1) for one in walked) == 300
    assert len(walked) < 200
    assert {one.user_agent for one in walked} >= {f"walker/{number}" for number in range(100)}
    assert {one.account_id for one in walked} == {site.account.id}
    others = [(one.kind, one.reason, one.user_agent) for one in noted if one.ip == "127.0.0.2"]
    assert others == [("denied", "token", YEALINK_AGENT), ("fetch", None, YEALINK_AGENT)]


async def test_equal_events_are_counted_in_one_row(site, client):
    """Decision 17: the fetch log is written in groups."""
    for _ in range(50):
        await fetch(client, site.url("805ec0999999.cfg"), agent="walker/1.0")
    noted = [one for one in await events(site) if one.user_agent == "walker/1.0"]
    assert sum(one.evidence["count"] for one in noted) == 50
    assert len(noted) < 50


# --- Uploads --------------------------------------------------------------------------------------------------------


async def test_poly_logs_are_taken_and_everything_else_is_refused(site, client):
    """P-13: PUT uploads are taken or refused on purpose, with a size cap."""
    expected = await fetch(client, site.url("nothing", "nothing"))
    taken = await fetch(client, site.url(f"{POLY_MAC}-app.log"), method="PUT", data=b"x" * 1000, agent=POLY_AGENT)
    assert taken[0] == 201
    for name in ("-phone.cfg", "-web.cfg", "-directory.xml", "-calls.xml", ".cfg", "-settings.cfg"):
        got = await fetch(client, site.url(POLY_MAC + name), method="PUT", data=b"<x/>", agent=POLY_AGENT)
        assert got == expected, name
    assert await fetch(client, site.url(f"{YEALINK_MAC}-app.log"), method="PUT", data=b"x") == expected
    wrong = await fetch(
        client, site.url(f"{POLY_MAC}-app.log", tokens.mint()), method="PUT", data=b"x", agent=POLY_AGENT
    )
    assert wrong == expected

    async def endless():
        for _ in range(MAX_UPLOAD_BYTES // 65_536 + 2):
            yield b"x" * 65_536

    big = await fetch(client, site.url(f"{POLY_MAC}-app.log"), method="PUT", data=endless(), agent=POLY_AGENT)
    assert big[0] == 404
    declared = await fetch(
        client,
        site.url(f"{POLY_MAC}-app.log"),
        method="PUT",
        data=io.BytesIO(b"x" * (MAX_UPLOAD_BYTES + 1)),
        agent=POLY_AGENT,
    )
    assert declared[0] == 404


@pytest.mark.parametrize("method", ["PUT", "GET"])
@pytest.mark.parametrize("path", ["/nowhere", "/p/x/y"])
async def test_a_body_that_is_not_what_it_says_writes_no_error_into_the_log(site, caplog, method, path):
    """P-13: anybody can send one; a traceback for each would fill the disk."""
    head = f"{method} {path} HTTP/1.1\r\nHost: h\r\n".encode()
    packed = await raw(site, head + b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!")
    assert packed.startswith(b"HTTP/1.1 404 ")
    await raw(site, head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nno number\r\nxyz\r\n\r\n")
    await left_alone(site)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_broken_log_of_a_phone_is_refused_without_a_word_in_our_own(site, caplog):
    """P-13: an upload is never unpacked, and one that breaks its own framing is a bad request."""
    head = f"PUT /p/{site.token}/{POLY_MAC}-app.log HTTP/1.1\r\nHost: h\r\nUser-Agent: {POLY_AGENT}\r\n".encode()
    packed = await raw(site, head + b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!")
    assert packed.startswith(b"HTTP/1.1 201 ")
    broken = await raw(site, head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nno number\r\nxyz\r\n\r\n")
    assert b" 400 " in broken.splitlines()[0]
    await left_alone(site)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@contextlib.asynccontextmanager
async def served_again(site: Site, port: PhonesPort):
    """The same site by a server of its own, whose connections can be counted."""
    server = make_server(port)
    runner = web.ServerRunner(server)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    yield replace(site, base=f"http://127.0.0.1:{listener.getsockname()[1]}", server=server)
    await runner.cleanup()


async def test_a_client_that_goes_away_in_the_middle_of_a_body_writes_no_error_into_the_log(site, caplog):
    """P-13: a phone that loses its power is no fault of ours."""
    head = f"PUT /p/{site.token}/{POLY_MAC}-app.log HTTP/1.1\r\nHost: h\r\nUser-Agent: {POLY_AGENT}\r\n"
    async with served_again(site, site.port) as own:
        async with opened(own) as (reader, writer):
            writer.write(head.encode() + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n")
            assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"abc")
        await left_alone(own)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_log_that_never_comes_is_given_up(site):
    """P-13: an upload has a deadline, so that nobody who sends no more of it holds a connection."""
    head = f"PUT /p/{site.token}/{POLY_MAC}-app.log HTTP/1.1\r\nHost: h\r\nUser-Agent: {POLY_AGENT}\r\n".encode()
    async with served_again(site, replace(site.port, upload_within_s=0.2)) as slow, opened(slow) as opened_to:
        reader, writer = opened_to
        writer.write(head + b"Content-Length: 1000\r\n\r\nx")
        assert (await asyncio.wait_for(reader.readline(), 30)).startswith(b"HTTP/1.1 404 ")
        writer.write(b"x" * 999)  # so that nobody waits for it any longer
    assert [(event.reason, event.status_code) for event in await events(site)] == [("upload_slow", 404)]


async def test_a_log_under_way_when_the_url_is_rotated_ends_in_the_one_404(site):
    """P-03: what began by the old URL is not taken by it any more once Rotate has returned."""
    head = f"PUT /p/{site.token}/{POLY_MAC}-app.log HTTP/1.1\r\nHost: h\r\nUser-Agent: {POLY_AGENT}\r\n".encode()
    async with opened(site) as (reader, writer):
        writer.write(head + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await rotate(site)
        writer.write(b"log")
        assert (await asyncio.wait_for(reader.readline(), 30)).startswith(b"HTTP/1.1 404 ")
    assert not [event for event in await events(site) if event.kind == "upload"]


async def test_a_phone_that_waits_to_be_asked_for_its_log_is_asked(site):
    """P-13: RFC 9110 §10.1.1; what is refused is not asked for."""
    head = f"PUT /p/{site.token}/{POLY_MAC}-%s HTTP/1.1\r\nHost: h\r\nUser-Agent: {POLY_AGENT}\r\n"
    head += "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    async with opened(site) as (reader, writer):
        writer.write((head % "app.log").encode())
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"log")
        assert (await asyncio.wait_for(reader.readline(), 30)).startswith(b"HTTP/1.1 201 ")
    async with opened(site) as (reader, writer):
        writer.write((head % "web.cfg").encode())
        assert (await asyncio.wait_for(reader.readline(), 30)).startswith(b"HTTP/1.1 404 ")


# --- A database that is away; secrets; proxies ----------------------------------------------------------------------


async def test_phones_get_503_and_retry_after_while_the_database_is_away(site, client):
    """Decision 17: with the database away phones keep their last configuration, and come back by themselves."""
    async with site.database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE account RENAME TO account_away"))
    status, headers, _ = await fetch(client, site.url(f"{YEALINK_MAC}.cfg"))
    assert (status, headers["retry-after"]) == (503, "60")
    assert (await fetch(client, f"{site.base}/healthz"))[0] == 200
    async with site.database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE account_away RENAME TO account"))
    assert (await fetch(client, site.url(f"{YEALINK_MAC}.cfg")))[0] == 200


async def test_the_fetch_log_is_kept_until_the_database_takes_it(site, client):
    """Decision 17: nothing noted is lost while the database is away."""
    await fetch(client, site.url(f"{YEALINK_MAC}.cfg"))
    async with site.database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE provisioning_event RENAME TO event_away"))
    with contextlib.suppress(Exception):
        await site.port.log.flush()
    async with site.database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE event_away RENAME TO provisioning_event"))
    assert [one.kind for one in await events(site)] == ["fetch"]


async def test_a_file_that_would_hold_911_up_is_not_served(site, client):
    """P-08, P-11: a value the phone could read as two settings: 503, so that the phone keeps what it has."""
    async with site.database.sessions.begin() as session:
        line = await store.line_by_sip_user(session, site.account.id, "101")
        assert line is not None
        line.secret = "x\naccount.1.sip_server.1.address = evil.example"
        from engine.audit.record import record

        record(session, SYSTEM, Event.LINE_UPDATE, line)
    status, headers, body = await fetch(client, site.url(f"{YEALINK_MAC}.cfg"))
    assert status == 503
    assert b"evil" not in body
    assert headers["retry-after"]
    failed = [one for one in await events(site) if one.kind == "failed"]
    assert failed[0].reason == "UnsafeValue"
    async with site.database.sessions.begin() as session:
        phone = await store.phone_by_mac(session, site.account.id, YEALINK_MAC)
        assert phone is not None
        assert phone.status == PhoneStatus.FAILED
    assert "lines[1].secret" in failed[0].evidence["sentences"][0]


async def test_a_phone_of_a_narrow_format_is_served_whatever_a_name_holds(site, client):
    """P-11: a quote in a name that a Mitel cannot be given, moved onto it behind the checks: the file with the nearest
    character, from the first fetch on, and the alarm with field, character and place.
    """
    mac = "00085daabb09"
    async with site.database.sessions.begin() as session:
        line = await add_line(session, site.account, "109")
        line.display_name = 'Bob "the boss"'
        await add_phone(session, site.account, line, mac=mac, vendor="mitel", model="6867i")
    for _ in range(2):
        status, _, body = await fetch(
            client, site.url(f"{mac.upper()}.cfg"), agent="Aastra6867i MAC:00-08-5D-AA-BB-09 V:5.1.0.2006-SIP"
        )
        assert (status, b"Bob 'the boss'" in body, b"sip dial plan" in body) == (200, True, True)
    failed = [one for one in await events(site) if one.kind == "failed"]
    assert "lines[1].label holds the character U+0022 at place" in failed[0].evidence["sentences"][0]
    async with site.database.sessions.begin() as session:
        phone = await store.phone_by_mac(session, site.account.id, mac)
        assert phone is not None
        assert phone.status == PhoneStatus.FAILED


async def test_no_live_token_or_secret_reaches_a_log_the_database_or_an_error_page(site, client, caplog, tmp_path):
    """P-23: every sink is searched for the live token and the secrets."""
    caplog.set_level(logging.DEBUG)
    await simulate("yealink", "T46U", YEALINK_MAC, site.url(""))
    await simulate("poly", "VVX 450", POLY_MAC, site.url(""))
    token = site.token.encode()
    answers = [
        await raw(site, b"GET /p/" + token + b"/\x00 HTTP/1.1\r\nHost: h\r\n\r\n"),
        await raw(site, b"G@T /p/" + token + b"/x HTTP/1.1\r\nHost: h\r\n\r\n"),
        await raw(site, b"GET /p/" + token + b"/x HTTP/1.1\r\nBad Header /p/" + token + b"\r\n\r\n"),
        await raw(site, b"GET /p/" + token + b"/" + b"z" * 9000 + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
        await raw(site, b"GET /p/x/" + token + b" HTTP/1.1\r\nHost: h\r\nUser-Agent: /p/" + token + b"\r\n\r\n"),
        await raw(site, b"GET /p/" + token + b"/x HTTP/1.1\r\nHost: h\r\nUser-Agent: a " + token + b"\r\n\r\n"),
    ]
    parts = (token[:42], token[:21] + b" " + token[21:], token[3:33], token.replace(b"-", b"%2d") + b"%2d")
    for part in parts:
        await raw(site, b"GET /p/" + token + b"/x HTTP/1.1\r\nHost: h\r\nUser-Agent: Yealink " + part + b"\r\n\r\n")
        await raw(site, b"GET /p/" + token + b"/" + part[:30] + b".cfg HTTP/1.1\r\nHost: h\r\n\r\n")
    await left_alone(site)
    await site.port.log.flush()
    sinks = [caplog.text.encode(), *answers]
    async with site.database.sessions.begin() as session:
        sinks += [repr(vars(row)).encode() for row in await session.scalars(select(ProvisioningEvent))]
        sinks += [row.entry.encode() for row in await session.scalars(select(AuditEntry))]
    for path in tmp_path.rglob("callpoint.db*"):
        sinks.append(path.read_bytes())
    pieces = (token[:12], token[15:27], token[30:42])
    for secret in (token, *pieces, b"secret-of-101", b"Desk-Pass-w0rd"):
        assert not any(secret in sink for sink in sinks), secret


@pytest.mark.parametrize("scheme", ["Basic", "Digest"])
async def test_a_password_left_on_a_phone_by_the_server_before_is_neither_asked_for_nor_kept(
    site, client, caplog, tmp_path, scheme
):
    """P-21, P-23: phones that were told a user and a password send them at once (Basic) or when they are asked. Nobody
    is asked here: a known phone is served, an unknown one gets the same 404 and no challenge, and no sink holds them.
    """
    caplog.set_level(logging.DEBUG)
    left = "left-behind-pass"
    basic = base64.b64encode(f"admin:{left}".encode()).decode()
    digest = f'Digest username="admin", realm="{left}", nonce="1", uri="/", response="{"0" * 32}"'
    sent = {"Authorization": f"Basic {basic}" if scheme == "Basic" else digest}
    status, told, body = await fetch(client, site.url(f"{YEALINK_MAC}.cfg"), headers=sent)
    assert (status, "www-authenticate" in told) == (200, False)
    assert body == (await fetch(client, site.url(f"{YEALINK_MAC}.cfg")))[2]
    unknown = site.url("805ec0999999.cfg")
    refused = await fetch(client, unknown, headers=sent)
    assert refused[0] == 404
    assert "www-authenticate" not in refused[1]
    assert refused == await fetch(client, unknown)
    await site.port.log.flush()
    sinks = [caplog.text.encode(), *(path.read_bytes() for path in tmp_path.rglob("callpoint.db*"))]
    assert not any(secret.encode() in sink for sink in sinks for secret in (left, basic))


async def test_a_masked_preview_shows_the_files_without_their_secrets(site):
    """P-15: every file of a device, secrets masked."""
    async with site.database.sessions.begin() as session:
        phone = await store.phone_by_mac(session, site.account.id, YEALINK_MAC)
        assert phone is not None
    files = await site.port.files(phone.id, site.url(""))
    assert list(files) == [f"{YEALINK_MAC}.boot", "y000000000108.cfg", f"{YEALINK_MAC}.cfg"]
    everything = b"".join(files.values())
    assert b"account.1.user_name = 101" in everything
    for secret in (site.token.encode(), b"secret-of-101", b"Desk-Pass-w0rd"):
        assert secret not in everything
    plain = await site.port.files(phone.id, site.url(""), is_masked=False)
    assert b"secret-of-101" in plain[f"{YEALINK_MAC}.cfg"]


async def test_the_asker_s_address_behind_a_trusted_proxy_is_the_phone_s(site, client):
    """Only a trusted proxy may say for whom it asks."""
    headers = {
        "X-Forwarded-For": "198.51.100.7, 203.0.113.9",
        "X-Forwarded-Proto": "https",
        "Host": "phones.example.net",
    }
    await fetch(client, site.url(f"{YEALINK_MAC}.cfg"), headers=headers)
    section = configuration.Provisioning(trusted_proxies=("127.0.0.0/8",))
    behind = make_phones_port(section, site.keys, site.database)
    runner = behind.runner()
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    _, _, body = await fetch(
        client, f"http://127.0.0.1:{listener.getsockname()[1]}/p/{site.token}/{YEALINK_MAC}.cfg", headers=headers
    )
    await runner.cleanup()
    await behind.close()
    assert f"server.url = https://phones.example.net/p/{site.token}/".encode() in body
    noted = await events(site)
    assert sorted(one.ip for one in noted) == ["127.0.0.1", "203.0.113.9"]


async def test_a_retired_phone_is_unknown_at_once(site, client):
    assert (await fetch(client, site.url(f"{POLY_MAC}.cfg"), agent=POLY_AGENT))[0] == 200
    async with site.database.sessions.begin() as session:
        phone = await store.phone_by_mac(session, site.account.id, POLY_MAC)
        assert isinstance(phone, Phone)
        await phones.delete_phone(session, SYSTEM, phone)
    expected = await fetch(client, site.url("nothing", "nothing"))
    assert await fetch(client, site.url(f"{POLY_MAC}.cfg"), agent=POLY_AGENT) == expected


async def test_over_tls_the_phone_is_told_to_come_back_over_tls(site):
    """P-07: the provisioning URL for next boots keeps the scheme the phone used."""
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    port = make_phones_port(configuration.Provisioning(), site.keys, site.database)
    runner = port.runner()
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener, ssl_context=server_context).start()
    base = f"https://127.0.0.1:{listener.getsockname()[1]}"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context)) as session:
        result = await simulate("poly", "VVX 450", POLY_MAC, f"{base}/p/{site.token}/", session=session)
    await runner.cleanup()
    await port.close()
    assert result.is_ready, result.fault
    assert result.provisioning_url == f"{base}/p/{site.token}"
    assert result.settings["device.prov.serverType"] == "HTTPS"


async def test_the_command_line_simulator_names_every_wrong_argument():
    with pytest.raises(Invalid) as caught:
        await simulate("acme", "x", "12", "ftp://h/")
    assert {fault.field for fault in caught.value.fields} == {"vendor", "mac", "url"}


async def test_a_user_agent_that_is_no_text_does_not_hold_up_the_fetch_log(site, client):
    """P-05: a stranger's one byte must not stop every phone's fetch from being recorded."""
    host, port = site.base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /p/nonsense/y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n")
    writer.write(b"User-Agent: Yealink SIP-T46U \xff\xfe \xc3\xa9\r\n\r\n")
    assert b" 404 " in await reader.readline()
    writer.close()
    async with client.get(site.url(f"{YEALINK_MAC}.cfg"), headers={"User-Agent": YEALINK_AGENT}) as answer:
        assert answer.status == 200
    await site.port.log.flush()
    async with site.database.sessions() as session:
        agents = set(await session.scalars(select(ProvisioningEvent.user_agent)))
    assert agents == {"Yealink SIP-T46U \\xff\\xfe é", YEALINK_AGENT}


async def test_silent_connections_of_strangers_give_way_to_a_phone(site):
    """P-01: who opens connections and says nothing, or half a request, takes neither a phone's place nor all files."""
    server = make_server(site.port)
    server.max_connections = 3
    runner = web.ServerRunner(server)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    port = listener.getsockname()[1]
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
    for _, writer in silent:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/healthz") as answer:
        assert answer.status == 200
    for reader, _ in silent[:2]:  # the first that came were the first to go
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
    assert len(server.connections) <= 3
    for _, writer in silent:
        writer.close()
    await runner.cleanup()
