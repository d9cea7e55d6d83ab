"""Two hundred secrets go through a whole node; afterwards none of them is found where secrets have no business."""

import asyncio
import base64
import json
import re
import secrets
import sqlite3
import ssl
import string
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pyotp
import pytest
import trustme

from admin.routes import Route, all_routes
from tests.node import PASSWORD, Node
from tests.protocol.mail_sink import MailSink
from tests.unit.admin.adminport import CIVIC

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(900)]
MARK = "zQ7cAnArY"  # in the middle of each: a hint that keeps a secret's first characters is no find
MAC = "805ec0123456"
AT_LEAST = 200
# where a secret is what was asked for, by somebody who may see it, and the asking is in the audit log
REVEALS = (
    "provisioning-token",
    "phone-admin-password",
    "file-key",
    "/files/",
    "/preview",
    "/settings/provisioning",
    "/p/",
)
LETTERS = string.ascii_letters + string.digits


@dataclass(slots=True)
class Planted:
    """The secrets by what they are, and the answers to be searched."""

    client: aiohttp.ClientSession
    values: dict[str, str] = field(default_factory=dict)
    answers: dict[str, bytes] = field(default_factory=dict)

    def make(self, what: str) -> str:
        """A new secret that a person or a client types."""
        value = "".join(secrets.choice(LETTERS) for _ in range(8)) + MARK + secrets.token_hex(6)
        self.values[f"{what} {len(self.values)}"] = value
        return value

    def learn(self, what: str, value: str) -> str:
        """A secret that the node made itself."""
        assert len(value) >= 8, what
        self.values[f"{what} {len(self.values)}"] = value
        return value


@pytest.fixture
async def sink(tmp_path: Path) -> AsyncIterator[MailSink]:
    """A mail server that asks for a password, over TLS; `authority.pem` is who vouches for it."""
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    login = ("mailer", secrets.token_hex(8) + MARK)
    started = await MailSink(tls=context, requires_starttls=True, login=login).start()
    yield started
    await started.stop()


async def _call(node: Node, planted: Planted, method: str, path: str, **more: Any) -> tuple[int, str]:
    """A request with the key of every scope; its answer is kept to be searched, unless it is a reveal."""
    headers = {"Authorization": f"Bearer {node.api_key}"} | more.pop("headers", {})
    async with planted.client.request(
        method, node.admin + path, headers=headers, allow_redirects=False, **more
    ) as answer:
        try:
            body = await answer.read() if answer.content_type != "text/event-stream" else b""
        except aiohttp.ClientError as exc:
            raise AssertionError(f"{method} {path} broke off: {answer.headers}") from exc
        shown = "\n".join(f"{name}: {value}" for name, value in answer.headers.items() if name != "Set-Cookie")
        if not any(part in path for part in REVEALS):
            planted.answers[f"{method} {path} {len(planted.answers)}"] = shown.encode() + b"\n" + body
        return answer.status, body.decode(errors="replace")


async def _made(node: Node, planted: Planted, name: str, body: dict[str, Any]) -> str:
    status, text = await _call(node, planted, "POST", f"/api/v1/{name}", json=body)
    assert status == 201, text
    return str(json.loads(text)["id"])


async def _plant_telephony(node: Node, planted: Planted) -> None:
    """Secrets of lines, PBXs and trunks, each with one that came after it; a table with more of them."""
    location = await _made(node, planted, "locations", {"name": "Headquarters", "civic_address": CIVIC})
    lines = []
    for number in range(60):
        body = {"extension": str(400 + number), "secret": planted.make("line secret")}
        lines.append(await _made(node, planted, "lines", body))
    rows = [(name, lines[at]) for at in range(10) for name in ("lines",)]
    for number in range(10):
        pbx = {"name": f"PBX {number}", "auth_user": f"pbx{number}", "secret": planted.make("PBX secret")}
        rows.append(("pbxs", await _made(node, planted, "pbxs", pbx)))
        trunk = {"name": f"Trunk {number}", "host": f"sip{number}.example", "secret": planted.make("trunk secret")}
        rows.append(("trunks", await _made(node, planted, "trunks", trunk)))
    for name, identity in rows:
        body = {"secret": planted.make(f"next secret of {name}")}
        status, text = await _call(
            node, planted, "PATCH", f"/api/v1/{name}/{identity}", json=body, headers={"If-Match": "*"}
        )
        assert status == 200, text
    phone = {"mac": MAC, "vendor": "yealink", "model": "T46U", "lines": lines[:2], "location_id": location}
    await _made(node, planted, "phones", phone)
    table = ["mac,vendor,model,line1_extension,line1_secret"]
    for number in range(20):
        model, secret = "T46U" if number < 10 else "no such", planted.make("table")
        table.append(f"805ec0aa{number:04x},yealink,{model},{300 + number},{secret}")
    for text in ("\r\n".join(table), "\r\n".join(table[:11])):  # the first has faults, the second is stored
        await _call(node, planted, "POST", "/api/v1/imports", data=text, headers={"Content-Type": "text/csv"})
    for kind in ("logo", "other"):
        asked = {"name": f"{kind}.png", "kind": kind}
        data = f"user = admin\npassword = {planted.make('uploaded file')}\n".encode()
        await _call(node, planted, "POST", "/api/v1/assets", params=asked, data=data)


async def _plant_provisioning(node: Node, planted: Planted) -> None:
    """Tokens, files' keys and passwords of phones; files fetched with the right token and with wrong ones."""
    for path, body in (("generate", None), ("rotate", {}), ("rotate", {"mode": "push", "automatic": False})):
        status, text = await _call(node, planted, "POST", f"/api/v1/provisioning-token/{path}", json=body)
        assert status == 201, text
        told = json.loads(text)
        token = planted.learn("provisioning token", told["token"])
    following = re.search("/p/([^/]+)", told["next_provisioning_url"])
    assert following is not None
    planted.learn("next provisioning token", following[1])
    _status, text = await _call(node, planted, "POST", "/api/v1/phone-admin-password/rotate")
    planted.learn("phones' admin password", json.loads(text)["phone_admin_password"])
    agents = {"User-Agent": f"Yealink SIP-T46U 108.86.0.20 {':'.join(re.findall('..', MAC))}"}
    async with aiohttp.ClientSession(headers=agents) as client:
        async with client.get(f"{node.phones}/p/{token}/{MAC}.cfg") as answer:
            assert answer.status == 200, await answer.text()
        policy = {"encrypt_files": True}  # after that fetch: a phone that has no key yet gets no file
        path, headers = "/api/v1/provisioning-policy", {"If-Match": "*"}
        status, text = await _call(node, planted, "PATCH", path, json=policy, headers=headers)
        assert status == 200, text
        phone = await _made(node, planted, "phones", {"mac": "805ec0123457", "vendor": "yealink", "model": "T46U"})
        _status, text = await _call(node, planted, "GET", f"/api/v1/phones/{phone}/file-key")
        planted.learn("file key", json.loads(text)["key"])
        for number in range(30):
            wrong = planted.make("wrong token") + "0" * 16
            path = (f"/p/{wrong}/{MAC}.cfg", f"/p/{wrong}", f"/{wrong}/{MAC}.cfg", f"/p/x/y?token={wrong}")[number % 4]
            async with client.get(node.phones + path, headers={"Referer": f"{node.phones}/p/{wrong}/"}) as answer:
                planted.answers[f"phones' port {number}"] = await answer.read()
        held = '<?xml version="1.0"?><locationRequest xmlns="urn:ietf:params:xml:ns:geopriv:held"/>'
        headers = {"Content-Type": "application/held+xml", "Authorization": f"Basic {planted.make('HELD password')}"}
        async with client.post(f"{node.phones}/held", data=held, headers=headers) as answer:
            planted.answers["HELD"] = await answer.read()


async def _plant_people(node: Node, planted: Planted, sink: MailSink) -> None:
    """Passwords right and wrong, keys, cookies, links."""
    for number in range(6):
        body = {"email": f"user{number}@example.com", "password": planted.make("password")}
        await _made(node, planted, "users", body)
    for _ in range(3):
        _status, text = await _call(node, planted, "POST", "/api/v1/api-keys", json={"name": "k", "scopes": ["*"]})
        planted.learn("API key", json.loads(text)["key"])
    status, text = await _call(node, planted, "POST", "/api/v1/users", json={"email": "guest@example.com"})
    assert status == 201, text
    (mail,) = await sink.received(1, 30)
    link = re.search(r"\?k=(\S+)", mail.text)
    assert link is not None
    planted.learn("invitation", link[1])
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        form = {"email": "owner@example.com", "password": PASSWORD}
        async with client.post(f"{node.admin}/login", data=form, allow_redirects=False) as answer:
            assert answer.status == 303, await answer.text()
            planted.learn("cookie", answer.cookies["callpoint_session"].value)
        await _plant_second_factor(client, node, planted)
        async with client.get(f"{node.admin}/settings") as answer:
            planted.answers["settings in a browser"] = await answer.read()
    for number in range(15):
        form = {"email": "owner@example.com" if number % 2 else "nobody@example.com", "password": planted.make("typed")}
        for path in ("/login", "/prove", "/invitation"):
            await _call(
                node, planted, "POST", path, data=form | {"k": planted.make("link")}, headers={"Authorization": ""}
            )
    for _ in range(8):
        for headers in (
            {"Authorization": f"Bearer cp_live_{planted.make('wrong key')}"},
            {"Authorization": f"Basic {base64.b64encode(planted.make('basic').encode()).decode()}"},
            {"Authorization": "", "Cookie": f"callpoint_session={planted.make('wrong cookie')}"},
        ):
            await _call(node, planted, "GET", "/api/v1/account", headers=headers)


async def _plant_second_factor(client: aiohttp.ClientSession, node: Node, planted: Planted) -> None:
    """The signed-in owner's authenticator app and recovery codes, each shown once."""
    async with client.post(f"{node.admin}/profile/two-factor", data={"kind": "totp"}) as answer:
        page = await answer.text()
    shown = re.search(r"(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}", page)
    assert shown is not None, page
    seed = planted.learn("authenticator seed", shown[0].replace(" ", ""))
    planted.learn("authenticator seed as shown", shown[0])
    form = {"code": pyotp.TOTP(seed).now()}
    async with client.post(f"{node.admin}/profile/two-factor/code", data=form) as answer:
        page = await answer.text()
    codes = re.search(r'class="codes"[^>]*>([^<]+)<', page)
    assert codes is not None, page
    for code in codes[1].split():
        planted.learn("recovery code", code)


async def _plant_everywhere(node: Node, planted: Planted, routes: tuple[Route, ...]) -> None:
    """Every route: secrets in fields of the wrong kind, in fields that do not exist, in broken JSON, in the query."""
    ids: dict[str, str] = {}
    for name in ("lines", "pbxs", "trunks", "phones", "locations", "users", "api-keys", "assets", "audit-log"):
        _status, text = await _call(node, planted, "GET", f"/api/v1/{name}?limit=1")
        ids[name] = json.loads(text)["data"][0]["id"]
    typed = {name: planted.make(name) for name in ("secret", "password", "passwrod", "broken", "form", "query")}
    for route in routes:
        collection = route.path.removeprefix("/api/v1/").split("/")[0]
        path = re.sub(r"{[^}]+}", "x", route.path.replace("{id}", ids.get(collection, "x")))
        if route.method == "GET":
            await _call(node, planted, "GET", path)
            await _call(node, planted, "GET", f"{path}?pasword={typed['query']}")
            continue
        if route.method == "DELETE" or path.endswith(("/delete", "/revoke", "/logout")):
            continue
        wrong = {"secret": [typed["secret"]], "password": {"x": typed["password"]}, "passwrod": typed["passwrod"]}
        headers = {"If-Match": "*"}
        if path.startswith("/api/v1/"):
            await _call(node, planted, route.method, path, json=wrong, headers=headers)
            broken = f'{{"secret": "{typed["broken"]}'.encode()
            await _call(
                node, planted, route.method, path, data=broken, headers=headers | {"Content-Type": "application/json"}
            )
        else:
            form = {"secret": typed["form"], "password": typed["form"]}
            await _call(node, planted, route.method, path, data=form, headers=headers)


def _forms(value: str) -> set[bytes]:
    """How a secret may be written: as it is, hex, base64 at each alignment, URL-encoded, its cases reversed."""
    plain = value.encode()
    found = {plain, value.swapcase().encode(), quote(value, safe="").encode(), json.dumps(value)[1:-1].encode()}
    found |= {plain.hex().encode(), plain.hex().upper().encode()}
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            whole = encode(b"x" * shift + plain).rstrip(b"=")
            start = (shift * 8 + 5) // 6 + (1 if shift else 0)
            found.add(whole[start : len(whole) - 2])
    return found


def _finds(planted: Planted, haystack: bytes) -> list[str]:
    """Which secrets are in it, in whatever form. All that were typed share a mark, so one look tells of them."""
    found = []
    has_mark = any(form in haystack for form in _forms(MARK))
    for what, value in planted.values.items():
        if (has_mark or MARK not in value) and any(form in haystack for form in _forms(value)):
            found.append(what)
    return found


def _dump(path: Path) -> bytes:
    """The whole database as SQL, and its file and log byte for byte."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        real = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
        tables = [row[0] for row in connection.execute(real)]
        rows = [repr(row) for table in tables for row in connection.execute(f'SELECT * FROM "{table}"')]
    raw = b"".join(one.read_bytes() for one in sorted(path.parent.glob(f"{path.name}*")))
    return "\n".join(rows).encode() + raw


async def test_two_hundred_secrets_are_nowhere_they_have_no_business(tmp_path: Path, sink: MailSink) -> None:
    """S0-50, S1-32: audit log, logs at debug, exports, errors, metrics, HELD, mails, and every byte of the database."""
    planted = Planted(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
    assert sink.login is not None
    password = planted.learn("SMTP password", sink.login[1])
    mail = {
        "HOST": "127.0.0.1",
        "PORT": str(sink.port),
        "SECURITY": "starttls",
        "USERNAME": "mailer",
        "PASSWORD": password,
    }
    environment = {f"CALLPOINT_MAIL__{name}": value for name, value in mail.items()}
    environment |= {"CALLPOINT_LOG__LEVEL": "debug", "SSL_CERT_FILE": str(tmp_path / "authority.pem")}
    node = Node(tmp_path, environment)
    async with node, planted.client:
        await node.set_up()
        planted.learn("API key", node.api_key)
        await _plant_telephony(node, planted)
        await _plant_provisioning(node, planted)
        await _plant_people(node, planted, sink)
        await _plant_everywhere(node, planted, all_routes())
        for path in ("/metrics", "/readyz", "/api/v1/exports/audit-log/jsonl", "/api/v1/exports/audit-log/csv"):
            status, text = await _call(node, planted, "GET", path)
            assert status == 200, text
        said = await node.command("audit", "export", "--account", node.account_id)
        await asyncio.sleep(0.2)
        places = {"the database": _dump(tmp_path / "data" / "callpoint.db"), "the exported chain": said.encode()}
    places |= planted.answers
    places["the log"] = "".join(node.output).encode()
    kept = [path for path in (tmp_path / "data").rglob("*") if path.is_file() and "assets" not in path.parts]
    places |= {str(path): path.read_bytes() for path in kept if path.name != "keys.toml"}
    places |= {f"mail {at}": mail.text.encode() for at, mail in enumerate(sink.mails) if "?k=" not in mail.text}
    found = {place: finds for place, haystack in places.items() if (finds := _finds(planted, haystack))}
    made = [
        place for place in found if place.startswith("POST /api/v1/api-keys")
    ]  # shown once, to whoever asked for it
    assert {place: finds for place, finds in found.items() if place not in made} == {}
    assert len(planted.values) >= AT_LEAST
    assert len(planted.answers) > len(all_routes())
    assert b"line.create" in places["the exported chain"]


async def test_the_search_finds_every_form() -> None:
    """The net has no holes: a secret in any of the forms, anywhere in a text, is found."""
    planted = Planted(aiohttp.ClientSession())
    await planted.client.close()
    value = planted.make("one")
    own = planted.learn("other", "k9_-x/81Ab" + secrets.token_urlsafe(12))
    for secret in (value, own):
        for before in ("", "a", "ab", "abc"):
            text = before + secret + "tail"
            for haystack in (
                text.encode(), text.encode().hex().encode(), base64.b64encode(text.encode()),
                base64.urlsafe_b64encode(text.encode()), quote(text, safe="").encode(), text.swapcase().encode(),
                repr(text).encode(), repr({"x": text.encode()}).encode(),
            ):  # fmt: skip
                assert _finds(planted, b"..." + haystack + b"...")
    assert not _finds(planted, b"nothing of the kind" * 100)
