"""Every page that an owner can open, of an account of some size: how long it takes, and how long it is.

The real application with a real SQLite file in this process. What a browser test shows once (`tests.browser.site`) is
multiplied: 10,000 phones with a line each, 200 locations, 500 calls, 100,000 entries of the audit log.
"""

import datetime as dt
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.table import Table

from admin.routes import PUBLIC, all_routes
from engine.accounts import operations
from engine.audit.record import SYSTEM
from engine.models import AUDIT_SEARCH_ADD_SQLITE, Account, Role
from tests.bench.audit import p95
from tests.bench.audit_entries import COLUMNS, batch_of
from tests.bench.sip import Say
from tests.bench.table import Goal
from tests.browser.site import EMAIL, PASSWORD, Site, open_site

PHONES, LOCATIONS, CALLS, ENTRIES = 10_000, 200, 500, 100_000
ROUNDS = 30
MOST_MS = 200.0
_ASKED_FOR = (  # beside each page as it opens: what people ask of the long ones
    "/phones?q=desk", "/phones?alarm=no_location", "/compliance?verdict=not_met",
    "/compliance?location_id=none", "/phones?sort=-last_fetch", "/calls?caller=desk",
    "/phones/settings/level?name=account", "/audit?keyword=desk",
    "/audit?outcome=denied", "/audit?ip=.77.", "/auth-log?outcome=failure",
)  # fmt: skip
_PRINTED = frozenset({"/compliance/print"})  # as long as what is printed; nobody waits for it on the way to a form
Change = Callable[[int], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Opened:
    """One page: times in milliseconds from the request to the last byte, and its length.

    `cpu`: milliseconds of work on average, the asking included: it hardly changes with what else the machine does.
    """

    address: str
    p50: float
    p95: float
    cpu: float
    kilobytes: float


@dataclass(frozen=True, slots=True)
class Measured:
    """`left_out`: routes of pages whose record the site does not have, and what answers with something else."""

    pages: tuple[Opened, ...]
    left_out: tuple[str, ...]


async def measure(say: Say) -> Measured:
    """Fill a site, sign in, open everything."""
    with tempfile.TemporaryDirectory(prefix="callpoint-pages-") as name:
        async with open_site(Path(name)) as site:
            say(f"pages: {PHONES:,} phones, {LOCATIONS} locations, {CALLS} calls, {ENTRIES:,} entries")
            await _fill(site, Path(name))
            async with _signed_in(site) as client:
                found, left_out = [], []
                for address in [*_addresses(site), *_ASKED_FOR]:
                    opened = await _opened(client, address)
                    if opened is None:
                        left_out.append(address)
                    else:
                        found.append(opened)
                return Measured(tuple(found), tuple(left_out))


@asynccontextmanager
async def _signed_in(site: Site) -> AsyncIterator[aiohttp.ClientSession]:
    """A browser with the owner's session, fresh enough for what asks for the password again."""
    jar = aiohttp.CookieJar(unsafe=True)  # it lives at an address, not at a name
    headers = {"Sec-Fetch-Site": "same-origin"}
    async with aiohttp.ClientSession(site.url, headers=headers, cookie_jar=jar) as client:
        form = {"email": EMAIL, "password": PASSWORD}
        async with client.post("/login", data=form, allow_redirects=False) as answer:
            assert answer.status == 303, await answer.text()
        yield client


async def _opened(client: aiohttp.ClientSession, address: str) -> Opened | None:
    """None: no page stands there for an owner."""
    times: list[float] = []
    length, worked = 0, 0.0
    for number in range(ROUNDS + 1):
        if number == 1:
            worked = time.process_time()
        begun = time.perf_counter()
        async with client.get(address, allow_redirects=False) as answer:
            assert answer.status < 500, (address, answer.status)
            if answer.status != 200 or answer.content_type != "text/html":
                return None
            length = len(await answer.read())
        times.append(time.perf_counter() - begun)
    warm, cpu = times[1:], (time.process_time() - worked) / ROUNDS
    return Opened(address, statistics.median(warm) * 1000, p95(warm), cpu * 1000, length / 1000)


def _addresses(site: Site) -> list[str]:
    """Every page's address, with the identifiers of this site's records in it."""
    ids = site.ids
    named = {
        "/phones/{id}": ids["phone"], "/phones/{phone_id}": ids["phone"], "/lines/{id}": ids["line"],
        "/locations/{id}": ids["location"], "/calls/{id}": ids["call"], "/audit/{id}": ids["entry"],
        "/audit/views/{id}": ids["audit_view"], "/audit/anomalies/{id}": ids["anomaly"], "/users/{id}": ids["user"],
        "/settings/pbxs/{id}": ids["pbx"], "/settings/trunks/{id}": ids["trunk"], "/phonebook/{id}": ids["contact"],
        "/settings/trunk-groups/{id}": ids["trunk_group"], "/api/{resource}": "phones",
    }  # fmt: skip
    found = []
    for route in all_routes():
        if route.method != "GET" or route.path.startswith("/api/v1/") or route.scope is PUBLIC:
            continue
        address = route.path.replace("{other}", ids["other_location"]).replace("{guide}", "phones")
        address = address.replace("{vendor}/{name}", "yealink/base.cfg.j2").replace("{name}", "0015654aa937.cfg")
        for pattern, identity in named.items():
            if address == pattern or address.startswith(f"{pattern}/"):
                address = pattern.rpartition("/")[0] + f"/{identity}" + address.removeprefix(pattern)
        found.append(address)
    return sorted(found)


async def _fill(site: Site, folder: Path) -> None:
    await site.add_owner()
    await site.fill()
    await site.add_user("guard@example.com", Role.OPERATOR)
    async with site.database.sessions.begin() as session:
        account = await session.get(Account, site.account_id)
        assert account is not None
        key = await operations.create_api_key(session, SYSTEM, account, name="bench", scopes=("*",))
    async with aiohttp.ClientSession(site.url, headers={"Authorization": f"Bearer {key.clear}"}) as client:
        for kind, body in (
            ("contact", {"name": "Reception", "number": "+15185550100"}),
            ("trunk_group", {"name": "Both"}),
        ):
            async with client.post(f"/api/v1/{kind.replace('_', '-')}s", json=body) as answer:
                made = await answer.json()
                assert answer.status == 201, made
                site.ids[kind] = made["id"]
    with closing(sqlite3.connect(folder / "callpoint.db", timeout=30)) as connection:
        for kind in ("pbx", "trunk", "user"):
            (site.ids[kind],) = connection.execute(f"SELECT id FROM {kind} ORDER BY id LIMIT 1").fetchone()
        with connection:
            places = _places(connection, site)
            _phones(connection, site, places)
            _calls(connection, site)
            _entries(connection, site)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _places(connection: sqlite3.Connection, site: Site) -> list[str]:
    """More locations, each with a network; the identifiers of all."""
    (there,) = connection.execute("SELECT count(*) FROM location").fetchone()
    count = LOCATIONS - there
    _multiplied(connection, "location", f"id = '{site.ids['location']}'", count, lambda number: {
        "id": f"location_{number:026d}", "name": f"Site {number}",
    })  # fmt: skip
    _multiplied(connection, "network", "kind = 'subnet'", count, lambda number: {
        "id": f"network_{number:026d}", "location_id": f"location_{number:026d}",
        "value": f"10.{100 + number // 200}.{number % 200}.0/24",
    })  # fmt: skip
    site.ids["other_location"] = f"location_{0:026d}"
    return [row[0] for row in connection.execute("SELECT id FROM location ORDER BY id")]


def _phones(connection: sqlite3.Connection, site: Site, places: list[str]) -> None:
    """Phones with a line each: most fetched lately, some did not; a hundredth has no location."""
    dice = random.Random(7)
    (account,) = connection.execute("SELECT id FROM account").fetchone()
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    _multiplied(connection, "line", f"id = '{site.ids['line']}'", PHONES, lambda number: {
        "id": f"line_{number:026d}", "extension": f"{20_000 + number}", "sip_user": f"{20_000 + number}",
        "display_name": f"Somebody {number}", "callback_number": None,
    })  # fmt: skip

    def phone(number: int) -> dict[str, Any]:
        is_lost = number % 100 == 0
        return {
            "id": f"phone_{number:026d}", "mac": f"805ec0{number:06x}",
            "label": f"{dice.choice(('Desk', 'Room', 'Lobby', 'Ward'))} {dice.randrange(100_000)}",
            "location_id": None if is_lost else places[number % len(places)],
            "no_location_at": str(now) if is_lost else None,
            "status": dice.choices(["current", "stale", "failed", "quarantined"], [94, 5, 0.9, 0.1])[0],
            "last_fetch_at": f"{now - dt.timedelta(minutes=dice.randrange(40_000))}",
            "last_ip": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            "firmware": f"108.86.0.{dice.randrange(30)}",
        }  # fmt: skip

    _multiplied(connection, "phone", f"id = '{site.ids['phone']}'", PHONES, phone)
    keys = [(account, f"phone_{number:026d}", 1, f"line_{number:026d}") for number in range(PHONES)]
    connection.executemany("INSERT INTO phone_line (account_id, phone_id, key, line_id) VALUES (?, ?, ?, ?)", keys)


def _calls(connection: sqlite3.Connection, site: Site) -> None:
    """More calls over a year, with the attempts and the mails of the first one."""
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)

    def sent(number: int) -> str:
        return f"{now - dt.timedelta(hours=17 * number)}"

    _multiplied(connection, "emergency_call", f"id = '{site.ids['call']}'", CALLS, lambda number: {
        "id": f"call_{number:026d}", "call_id": f"{number}@pbx.example", "sent_at": sent(number),
        "received_at": sent(number), "kind": "emergency" if number % 3 else "test",
        "acknowledged_at": None if number < 5 else sent(number),
    })  # fmt: skip
    for table in ("call_attempt", "notification"):
        kept = connection.execute(f"SELECT rowid FROM {table} ORDER BY rowid").fetchall()  # constants
        for at, (row,) in enumerate(kept):

            def message(number: int, at: int = at) -> dict[str, Any]:
                return {
                    "id": f"notification_{at}_{number:024d}", "emergency_call_id": f"call_{number:026d}",
                    "created_at": sent(number), "started_at": sent(number),
                }  # fmt: skip

            _multiplied(connection, table, f"rowid = {row}", CALLS, message)


def _entries(connection: sqlite3.Connection, site: Site) -> None:
    """What is missing at ENTRIES, behind those that are there; all are put into the indexes, as a node would."""
    seq, head, site.ids["entry"] = connection.execute(
        "SELECT seq, hash, id FROM audit_entry WHERE chain = ? ORDER BY seq DESC LIMIT 1", (site.account_id,)
    ).fetchone()
    rows = batch_of(site.account_id, seq + 1, ENTRIES - seq, head)
    marks = ", ".join("?" * len(COLUMNS))
    connection.executemany(f"INSERT INTO audit_entry ({', '.join(COLUMNS)}) VALUES ({marks})", rows)
    for chain, first, last in connection.execute("SELECT chain, first, last FROM audit_search_owed").fetchall():
        for statement in AUDIT_SEARCH_ADD_SQLITE:
            connection.execute(statement, {"chain": chain, "first": first, "last": last})
    connection.execute("DELETE FROM audit_search_owed")


def _multiplied(connection: sqlite3.Connection, table: str, which: str, count: int, change: Change) -> None:
    """Copy a row that often; `change` gives what differs, by column. What the table does not have is left out."""
    asked = connection.execute(f"SELECT * FROM {table} WHERE {which} LIMIT 1")  # our own words
    columns = [each[0] for each in asked.description]
    kept = dict(zip(columns, asked.fetchone(), strict=True))
    rows = []
    for number in range(count):
        changed = {name: value for name, value in change(number).items() if name in kept}
        rows.append(tuple((kept | changed).values()))
    marks = ", ".join("?" * len(columns))
    connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)


def show(console: Console, measured: Measured) -> None:
    table = Table(
        "page", "p50 ms", "p95 ms", "CPU ms", "kB", title=f"Pages of {PHONES:,} phones and {ENTRIES:,} entries"
    )
    for page in sorted(measured.pages, key=lambda each: -each.p95):
        times = (page.p50, page.p95, page.cpu, page.kilobytes)
        table.add_row(page.address, *(f"{each:.0f}" for each in times))
    console.print(table)
    console.print(f"[dim]no pages, or without a record here: {' '.join(measured.left_out)}[/]")


def goals(measured: Measured) -> list[Goal]:
    worst = max(measured.pages, key=lambda each: each.p95)
    looked_at = [each for each in measured.pages if each.address not in _PRINTED]
    longest = max(looked_at, key=lambda each: each.kilobytes)
    size = f"{len(measured.pages)} pages, {PHONES:,} phones"
    return [
        Goal(f"{size}: the slowest, p95", f"{worst.p95:.0f} ms ({worst.address})", "< 200 ms", worst.p95 < MOST_MS),
        Goal(f"{size}: the longest", f"{longest.kilobytes:.0f} kB ({longest.address})", "< 150 kB",
             longest.kilobytes < 150),
    ]  # fmt: skip
