"""Five thousand requests of every kind, eight at a time, against the admin port: each is in the log exactly once."""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, DummyCookieJar, TCPConnector
from sqlalchemy import select
from yarl import URL

from admin.context import METRICS
from admin.middleware_transaction import ROUTE_OF
from admin.routes import Route, all_routes
from engine.accounts.scopes import Scope
from engine.audit.checkpoints import export_lines
from engine.audit.events import FACTS, Access
from engine.audit.record import PLATFORM
from engine.audit.verify import verify
from engine.crypto import KeyRing
from engine.db import Database
from engine.models import AuditEntry, Role
from tests.unit.admin.adminport import AdminPort, Site, open_port
from tests.unit.admin.furnished import Furnished, furnish

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(900)]
REQUESTS = 5_000
WORKERS = 8
SETTLED_WITHIN_S = 30.0  # what is missing then is missing
SEED = 911
METHODS = ("GET", "GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS")
SCRAPS: tuple[Any, ...] = (
    None, True, -1, 2**63, 1.5, "", "x" * 300, "\u0000", "\ud83d\ude00", "../../etc/passwd", "<script>", [], {}, [[]],
    {"name": {"name": []}}, "2026-11-22T00:00:00Z", "10.0.0.0/8", "+15185550100", "%s%n", "'; DROP TABLE account; --",
)  # fmt: skip
HEADERS: tuple[dict[str, str], ...] = (
    {}, {}, {}, {"If-Match": "*"}, {"If-Match": '"1"'}, {"If-Match": "junk"}, {"Accept": "text/html"},
    {"Idempotency-Key": "one"}, {"Idempotency-Key": ""}, {"X-Forwarded-For": "203.0.113.9, 10.0.0.1"},
    {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"X-Request-Id": "request_chosen_by_me"},
    {"Content-Type": "text/csv"}, {"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Encoding": "gzip"},
)  # fmt: skip
# what each of these costs by design (a password's hash, a process that tries a template): asked for rarely
SLOW = ("/login", "/setup", "/prove", "/invitation", "users", "preview", "templates", "rollouts", "imports", "/import")


@dataclass(slots=True)
class Sent:
    """A request as it went out, by its own User-Agent; what came back, if it was waited for."""

    agent: str
    method: str
    path: str
    who: str
    is_operation: bool = True
    is_cut: bool = False  # the connection was closed in the middle: perhaps no request ever came of it
    status: int = 0
    request_id: str = ""


@dataclass(slots=True)
class Fuzz:
    """The dice and what they have to choose from."""

    port: AdminPort
    routes: tuple[Route, ...]
    made: Furnished
    who: dict[str, dict[str, str]]
    dice: random.Random
    sent: list[Sent] = field(default_factory=list)
    number: int = 0

    def next_request(self) -> tuple[Sent, dict[str, str], bytes | None]:
        """The next request: mostly of a route there is, with a body that is right, bent or no body at all."""
        self.number += 1
        route = self.dice.choice(self.routes)
        if any(part in route.path for part in SLOW) and self.dice.random() < 0.9:
            route = self.dice.choice(self.routes)
        method, path = route.method, self.made.path(route)
        roll = self.dice.random()
        if roll < 0.06:
            path = self.dice.choice(("/api/v1/", "/api/v1/nothing/here", "/nowhere", "/api/v1/%00", "/static/x.css"))
        elif roll < 0.16:
            method = self.dice.choice(METHODS)
        if self.dice.random() < 0.1:
            path += "?" + self.dice.choice(("limit=0", "limit=2&after=x", "nonsense=1", "keyword=%ff", "event=a.b"))
        who = self.dice.choice(list(self.who))
        agent = f"fuzz/{self.number}"
        headers = {"User-Agent": agent, "Accept-Encoding": "identity"}
        headers |= self.dice.choice(HEADERS) | self.who[who]
        if route.operation is not None and route.operation.if_match and self.dice.random() < 0.7:
            headers["If-Match"] = "*"
        body = self._body(route, headers) if method not in {"GET", "HEAD", "OPTIONS"} else None
        return Sent(agent, method, path, who), headers, body

    async def is_operation(self, sent: Sent) -> bool:
        """Whether it is an operation of the API or a page: then it is in the log, whatever comes of it."""
        app = self.port.client.app
        assert app is not None
        asked: Any = SimpleNamespace(method=sent.method, rel_url=URL(sent.path, encoded=True))  # all a router reads
        found = await app.router.resolve(asked)
        return sent.path.startswith("/api/v1") or found.route in app[ROUTE_OF]

    def _body(self, route: Route, headers: dict[str, str]) -> bytes | None:
        roll = self.dice.random()
        if roll < 0.1:
            return None
        if roll < 0.2:
            return self.dice.choice((b"", b"{", b"\xff\xfe", b"[]", b"null", b"a=b&c=d", b"x" * 70_000))
        headers.setdefault("Content-Type", "application/json")
        with contextlib.suppress(KeyError):  # an operation whose body this file does not know: a made-up one
            body = self.made.body(route) or {}
            if roll < 0.5 and body:
                body = body | {self.dice.choice(list(body)): self.dice.choice(SCRAPS)}
            return json.dumps(body).encode()
        return json.dumps({"name": self.dice.choice(SCRAPS), "id": 1}).encode()

    async def work(self, client: ClientSession) -> None:
        while self.number < REQUESTS:
            sent, headers, body = self.next_request()
            self.sent.append(sent)
            sent.is_operation = await self.is_operation(sent)
            if sent.is_operation and self.dice.random() < 0.05:
                await self._cut(sent, headers, body or b"")
                continue
            url = f"http://{self.port.client.server.host}:{self.port.client.server.port}{sent.path}"
            asked: dict[str, Any] = {"headers": headers, "data": body, "skip_auto_headers": ("Content-Type",)}
            try:
                async with client.request(sent.method, url, allow_redirects=False, **asked) as answer:
                    sent.status, sent.request_id = answer.status, answer.headers.get("X-Request-Id", "")
                    if answer.content_type != "text/event-stream":  # those never end
                        await answer.read()
            except ClientError:  # a body that is no body, such as junk said to be gzip: the server hangs up behind it
                assert "Content-Encoding" in headers
                sent.is_cut = not sent.status

    async def _cut(self, sent: Sent, headers: dict[str, str], body: bytes) -> None:
        """Send the request and hang up: in the middle of its head, of its body, or instead of reading the answer."""
        sent.is_cut = True
        server = self.port.client.server
        lines = [f"{sent.method} {sent.path} HTTP/1.1", f"Host: {server.host}:{server.port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        whole = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
        place = self.dice.choice(("head", "body", "answer"))
        if place == "head":
            whole = whole[: len(lines[0])]
        elif place == "body" and body:
            whole = whole[: -max(1, len(body) // 2)]
        _reader, writer = await asyncio.open_connection(str(server.host), server.port)
        writer.write(whole)
        await writer.drain()
        await asyncio.sleep(self.dice.choice((0, 0.005, 0.02)))
        if self.dice.random() < 0.5:
            writer.transport.abort()  # a reset
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
async def port(database: Database, keys: KeyRing) -> AsyncIterator[AdminPort]:
    opened = await open_port(database, keys)
    yield opened
    await opened.client.close()


async def _everybody(port: AdminPort, site: Site) -> dict[str, dict[str, str]]:
    """Headers of keys with every scope, some and one; of browsers of every role; of strangers."""
    found = {
        "everything": site.auth,
        "readers": await port.key(site, *(scope for scope in Scope if str(scope).endswith(":read"))),
        "phones": await port.key(site, "phones:read", "phones:write"),
        "nobody": {},
        "wrong key": {"Authorization": "Bearer cp_live_" + "0" * 43},
        "no key": {"Authorization": "Basic b3duZXI6b3duZXI="},
    }
    for role in Role:
        found[f"browser {role}"] = await port.browser(site, role)
    return found | {"everything too": site.auth}


def _handled(port: AdminPort) -> int:
    """How many requests the admin port has taken and done with, by its own metrics."""
    assert port.client.app is not None
    families = port.client.app[METRICS].collect()
    samples = [one for family in families for one in family.samples if one.name == "callpoint_admin_requests_total"]
    return int(sum(one.value for one in samples))


async def _settled(port: AdminPort, agents: set[str]) -> list[dict[str, Any]]:
    """Every entry of the fuzz, once those of connections that were cut are there as well."""
    until = asyncio.get_running_loop().time() + SETTLED_WITHIN_S
    while True:
        async with port.database.sessions() as session:
            told = [json.loads(text) for text in await session.scalars(select(AuditEntry.entry))]
        is_over = asyncio.get_running_loop().time() > until
        if is_over or agents <= {entry["request"]["user_agent"] for entry in told}:
            return [entry for entry in told if entry["request"]["user_agent"].startswith("fuzz/")]
        await asyncio.sleep(0.2)


def _fault(sent: Sent, found: list[dict[str, Any]], routes: dict[tuple[str, str], Route]) -> str:
    """What is wrong with the entries of one request; empty: nothing."""
    own = [entry for entry in found if entry["bulk_id"] is None or entry["resource"]["id"] == entry["bulk_id"]]
    own = [entry for entry in own if not entry["event"].endswith("follow_end")]  # a stream's end is told behind it
    if not own and (sent.is_cut or not sent.is_operation or sent.status == 503):  # busy: nothing could be written
        return ""
    events = [entry["event"] for entry in own]
    is_reveal = len(set(events)) == len(events) and all(event.endswith(".reveal") for event in events)
    if not sent.is_operation or not (len(own) == 1 or (own and is_reveal)):  # each secret that is shown is an entry
        return f"{len(own)} entries {events}"
    return next(
        filter(None, (_wrong_answer(sent, own[0]), _wrong_event(sent, own[0], routes), _wrong_actor(sent, own[0]))), ""
    )


def _wrong_answer(sent: Sent, entry: dict[str, Any]) -> str:
    asked, status = entry["request"], entry["status"]
    if asked["ip"] != "127.0.0.1" or asked["method"] != sent.method or "fuzz" in asked["route"]:
        return f"asked as {asked}"
    is_sent_to_sign_in = (sent.status, status) == (303, 401) and not sent.path.startswith("/api/v1")
    if not (sent.is_cut or is_sent_to_sign_in) and (asked["id"], status) != (sent.request_id, sent.status):
        return f"answered {sent.status} as {sent.request_id}, told {status} as {asked['id']}"
    expected = "success" if status < 400 else "denied" if status in {401, 403, 429} else "failure"
    if entry["outcome"] != expected:
        return f"{entry['outcome']} of {status}"
    return "changes without success" if expected != "success" and entry["changes"] else ""


def _wrong_event(sent: Sent, entry: dict[str, Any], routes: dict[tuple[str, str], Route]) -> str:
    """A route that reads says so; one that writes may say more exactly what it did."""
    route = routes.get(("GET" if sent.method == "HEAD" else sent.method, entry["request"]["route"]))
    if route is None:
        return "" if entry["event"] == "route.unknown" else f"{entry['event']} of no route"
    is_right = entry["event"] == route.event.value or FACTS[route.event].access is Access.WRITE
    return "" if is_right else f"{entry['event']} of {route.event}"


def _wrong_actor(sent: Sent, entry: dict[str, Any]) -> str:
    actor = entry["actor"]
    if actor["type"] == "anonymous":
        chain_is_right = entry["chain"] == PLATFORM or entry["event"] in {"session.create", "invitation.accept"}
        return "" if chain_is_right else f"a stranger in {entry['chain']}"
    expected = "user" if sent.who.startswith("browser") else "api_key"
    if actor["type"] != expected or entry["chain"] == PLATFORM:
        return f"{actor} in {entry['chain']} for {sent.who}"
    return "" if sent.who not in {"nobody", "wrong key", "no key"} else f"{actor} for {sent.who}"


async def test_five_thousand_requests_are_in_the_log_once_each(port: AdminPort) -> None:
    """S0-30: requests and entries match one to one, whatever was asked, by whom, and whether they waited for it."""
    site = await port.site()
    fuzz = Fuzz(port, all_routes(), await furnish(port, site), await _everybody(port, site), random.Random(SEED))
    before = _handled(port)
    connector = TCPConnector(limit=WORKERS, force_close=True)  # one connection each: none dies with another's request
    async with ClientSession(connector=connector, cookie_jar=DummyCookieJar()) as client, asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(fuzz.work(client))
    told = await _settled(port, {sent.agent for sent in fuzz.sent if sent.is_operation and not sent.is_cut})
    by_agent: dict[str, list[dict[str, Any]]] = {sent.agent: [] for sent in fuzz.sent}
    for entry in told:
        by_agent[entry["request"]["user_agent"]].append(entry)
    routes = {(route.method, route.path): route for route in fuzz.routes}
    faults = [
        f"{sent.method} {sent.path} by {sent.who} ({sent.status}{', cut' if sent.is_cut else ''}): {fault}"
        for sent in fuzz.sent
        if (fault := _fault(sent, by_agent[sent.agent], routes))
    ]
    assert faults == []
    known = {sent.agent: sent for sent in fuzz.sent}
    cut = [agent for agent, entries in by_agent.items() if entries and known[agent].is_cut]
    whole = [sent for sent in fuzz.sent if not sent.is_cut]
    assert len(whole) + len(cut) == _handled(port) - before, "a request whose client hung up was carried out unseen"
    assert len(cut) > REQUESTS * 0.01
    outcomes = Counter(entry["outcome"] for entry in told)
    assert len(fuzz.sent) == REQUESTS
    assert min(outcomes["success"], outcomes["failure"], outcomes["denied"]) > REQUESTS // 20
    assert not [sent for sent in fuzz.sent if sent.status == 500]
    assert len([sent for sent in fuzz.sent if sent.status == 503]) < REQUESTS * 0.02
    for chain in (site.account.id, PLATFORM):
        async with port.database.sessions() as session:
            assert verify([line async for line in export_lines(session, chain)]).fault == ""
