"""The audit log among many entries: pages, filters, keyword, verification, export, the cost of a write.

Entries are written straight into the database, with right hashes, and indexed by the product's own statements.
"""

import asyncio
import datetime as dt
import itertools
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from rich.console import Console
from rich.table import Table

from admin.app import make_admin
from admin.server import AdminRunner
from engine import crypto, migrations
from engine.accounts import operations
from engine.audit import store
from engine.audit.events import FACTS, Event
from engine.audit.merging import IndexKeeper
from engine.audit.record import GENESIS, SYSTEM, canonical, open_audited, record
from engine.audit.store import Filters
from engine.audit.verify import verify
from engine.config import Config, Core
from engine.crypto import KeyRing
from engine.db import Database
from engine.ids import new_id
from engine.models import AUDIT_SEARCH_FILL_SQLITE, AUDIT_TRIGRAMS_POSTGRESQL, Account
from tests import peers
from tests.bench.plan import Plan
from tests.bench.sip import Say
from tests.bench.table import Goal
from tests.postgres import programs, running_postgres
from tests.unit.admin.adminport import Edge

BEGAN = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
STEP = dt.timedelta(seconds=3)
ROUNDS = 40
WRITES = 300
BATCH = 20_000
COLUMNS = (
    "id", "chain", "seq", "at", "event", "category", "access", "verb", "outcome", "actor_type", "actor_id",
    "actor_name", "resource_type", "resource_id", "ip", "entry", "prev_hash", "hash",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured; times in milliseconds at the 95th percentile, `longest_write_ms` the one longest."""

    backend: str
    entries: int
    seeded_per_s: float
    queries: dict[str, float]
    verified_per_s: float
    exported: int
    export_s: float
    export_mb: float
    write_ms: float  # what a write's entry adds
    longest_write_ms: float
    http_ms: dict[str, float]


def rows_of(chain: str, count: int) -> Iterator[tuple[Any, ...]]:
    """Entries of one account over years: 200 people, 20,000 phones, a thousand addresses; few refusals."""
    dice = random.Random(5)
    people = [(f"user_{number:026d}", f"person{number}@example.com") for number in range(200)]
    phones = [(f"phone_{number:026d}", f"{0x001565000000 + number * 7:012x}") for number in range(20_000)]
    addresses = [f"10.{dice.randrange(256)}.{dice.randrange(256)}.{dice.randrange(256)}" for _ in range(1000)]
    events = list(Event)
    prev_hash = GENESIS
    for seq in range(1, count + 1):
        event = events[int(dice.random() ** 3 * len(events))]
        facts, (actor, name), (phone, mac) = FACTS[event], dice.choice(people), dice.choice(phones)
        kind = event.value.partition(".")[0]
        identity = phone if kind == "phone" else f"{kind}_{dice.randrange(5000):026d}"
        outcome = "success" if dice.random() < 0.97 else dice.choice(("failure", "denied"))
        at, ip, entry_id = BEGAN + STEP * seq, dice.choice(addresses), f"audit_{seq:026d}"
        body = {
            "id": entry_id, "chain": chain, "seq": seq, "at": at.isoformat(timespec="milliseconds"),
            "event": event.value, "category": facts.category.value, "access": facts.access.value, "verb": facts.verb,
            "actor": {"type": "user", "id": actor, "name": name, "display_name": "", "role": "admin"},
            "resource": {"type": kind, "id": identity, "name": mac if kind == "phone" else ""}, "outcome": outcome,
            "status": 200, "reason": None,
            "changes": {"label": {"before": "Desk", "after": f"Desk {seq % 977}"}} if facts.verb == "update" else {},
            "details": {}, "bulk_id": None,
            "request": {"id": f"request_{seq:026d}", "method": "GET", "route": "/api/v1/phones/{id}", "ip": ip,
                        "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"},
        }  # fmt: skip
        entry = canonical(body)
        own = sha256(bytes.fromhex(prev_hash) + entry.encode()).hexdigest()
        yield (
            entry_id, chain, seq, at.strftime("%Y-%m-%d %H:%M:%S.%f"), event.value, facts.category.value,
            facts.access.value, facts.verb, outcome, "user", actor, name, kind, identity, ip, entry, prev_hash, own,
        )  # fmt: skip
        prev_hash = own


def seed(path: Path, chain: str, count: int) -> float:
    """Fill the migrated database; returns entries a second."""
    begun = time.perf_counter()
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-400000")
        (trigger,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'audit_entry_search'").fetchone()
        connection.execute("DROP TRIGGER audit_entry_search")  # indexed at once behind all: four times as fast
        rows = rows_of(chain, count)
        statement = f"INSERT INTO audit_entry ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
        while batch := list(itertools.islice(rows, 20_000)):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(statement, batch)
            connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")
        for statement in (*AUDIT_SEARCH_FILL_SQLITE, trigger):
            connection.execute(statement)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return count / (time.perf_counter() - begun)


def filters_asked(count: int) -> dict[str, Filters]:
    """Every filter alone and in pairs, each with what matches often and what matches rarely."""
    middle = BEGAN + STEP * (count // 2)
    single = {
        "time": {"since": middle, "until": middle + dt.timedelta(days=1)},
        "event": {"events": frozenset({"phone.update"})},
        "reads": {"events": frozenset(event.value for event, facts in FACTS.items() if facts.access.value == "read")},
        "resource": {"resource": "phone_"},
        "one phone": {"resource": f"phone_{777:026d}"},
        "actor": {"actor": "person17@"},
        "outcome": {"outcome": "denied"},
        "IP": {"ip": "10.1"},
        "network": {"ip": "10.16.0.0/12"},
        "category": {"category": "Audit"},
    }
    found = {
        "newest page": Filters(),
        "keyword": Filters(keyword="Desk 611"),
        "rare keyword": Filters(keyword="person1@"),
        "no such keyword": Filters(keyword="no such words"),
        "partial IP": Filters(ip=".77."),
        "MAC": Filters(keyword="00:15:65:00:1"),
        "any old time": Filters(until=middle),
    }
    found |= {name: Filters(**fields) for name, fields in single.items()}
    for (one, first), (other, second) in itertools.combinations(single.items(), 2):
        if not first.keys() & second.keys():
            found[f"{one} + {other}"] = Filters(**first, **second)
    return found


def p95(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)] * 1000


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Seconds that it takes."""
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun


async def p95_ms(work: Callable[[], Awaitable[object]]) -> float:
    await work()
    return p95([await timed(work) for _ in range(ROUNDS)])


async def time_queries(database: Database, chain: str, count: int) -> dict[str, float]:
    figures = {}
    for name, filters in filters_asked(count).items():

        async def page(filters: Filters = filters) -> None:
            async with database.sessions() as session:
                await store.list_entries(session, chain, filters, limit=50)

        figures[name] = await p95_ms(page)
    return figures


async def time_write(database: Database, chain: str) -> tuple[float, float]:
    """Milliseconds that the entry adds to a change, and of the longest change: with it and without, in turn.

    The indexes are merged meanwhile, as on a running node.
    """
    update = "UPDATE account SET phone = '{at}' WHERE id = '{chain}'"

    async def audited() -> None:
        async with database.sessions.begin() as session:
            row = await session.get(Account, chain)
            assert row is not None
            row.phone = str(time.time_ns())
            record(session, SYSTEM, Event.ACCOUNT_UPDATE, row)

    async def bare() -> None:
        async with database.sessions.begin() as session:
            connection = await session.connection()
            await connection.exec_driver_sql(f"SELECT * FROM account WHERE id = '{chain}'")
            await connection.exec_driver_sql(update.format(at=time.time_ns(), chain=chain))

    keeping = asyncio.create_task(IndexKeeper(database).run())
    pairs = [(await timed(audited), await timed(bare)) for _ in range(WRITES)]
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    return p95([one for one, _ in pairs]) - p95([other for _, other in pairs]), max(one for one, _ in pairs) * 1000


async def time_http(database: Database, keys: KeyRing, chain: str, folder: Path) -> dict[str, float]:
    """The newest page over HTTP, as JSON and as a page for people, from the real application."""
    async with database.sessions.begin() as session:
        account = await session.get(Account, chain)
        assert account is not None
        made = await operations.create_api_key(session, SYSTEM, account, name="bench", scopes=("*",))
    app = make_admin(Config(core=Core(data_dir=folder / "data")), keys, database, Edge())
    runner = AdminRunner(app)
    await runner.setup()
    await web.TCPSite(runner, peers.NODE_IP, 0).start()
    host, port = runner.addresses[0][:2]
    figures = {}
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {made.clear}"}) as client:
        for path in ("/api/v1/audit-log?limit=50", "/audit"):

            async def asked(path: str = path) -> None:
                async with client.get(f"http://{host}:{port}{path}") as answer:
                    await answer.read()
                    assert answer.status == 200, (path, answer.status)

            figures[path.partition("?")[0]] = await p95_ms(asked)
    await runner.cleanup()
    return figures


_TELLING = """
import runpy, sys
sys.argv = ["callpoint", *sys.argv[1:]]
try:
    runpy.run_module("engine", run_name="__main__")
finally:
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    sys.stderr.write(line.split()[1])
"""


def export_timed(config: Path, chain: str, target: Path) -> tuple[float, float]:
    """Seconds and megabytes (resident, at most) of `callpoint audit export` in a process of its own."""
    begun = time.perf_counter()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CALLPOINT_")}
    with target.open("wb") as out:
        asked = [sys.executable, "-c", _TELLING, "audit", "export", "--account", chain, "--config", str(config)]
        done = subprocess.run(asked, stdout=out, stderr=subprocess.PIPE, check=True, env=clean)
    return time.perf_counter() - begun, int(done.stderr.split()[-1]) / 1024


async def seed_postgresql(database: Database, chain: str, count: int) -> float:
    """As `seed`, by COPY; the trigrams are indexed at once behind all."""
    begun, rows = time.perf_counter(), rows_of(chain, count)
    async with database.engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        for column in ("entry", "ip"):
            await driver.execute(f"DROP INDEX IF EXISTS ix_audit_entry_{column}_trigram")
        while batch := list(itertools.islice(rows, BATCH)):
            made = [(*row[:3], dt.datetime.fromisoformat(row[3]), *row[4:]) for row in batch]
            await driver.copy_records_to_table("audit_entry", records=made, columns=COLUMNS)
        for statement in AUDIT_TRIGRAMS_POSTGRESQL:
            await driver.execute(statement)
        await driver.execute("VACUUM ANALYZE audit_entry")
    return count / (time.perf_counter() - begun)


async def measure(plan: Plan, say: Say) -> list[Figures]:
    """Both databases, one behind the other; PostgreSQL where it is installed."""
    found = []
    with tempfile.TemporaryDirectory(prefix="callpoint-audit-") as name:
        url = f"sqlite+aiosqlite:///{Path(name) / 'callpoint.db'}"
        found.append(await _measured("SQLite", url, Path(name), plan, say))
    if programs() is None:
        say("audit: PostgreSQL is not on this machine")
        return found
    with tempfile.TemporaryDirectory(prefix="callpoint-audit-") as name, running_postgres() as url:
        found.append(await _measured("PostgreSQL", url, Path(name), plan, say))
    return found


async def _measured(backend: str, url: str, folder: Path, plan: Plan, say: Say) -> Figures:
    """Seed, ask, write, serve, export, verify."""
    count, chain = plan.audit_entries, new_id("account")
    config = folder / "callpoint.toml"
    config.write_text(f'[core]\ndata_dir = "{folder}"\ndatabase_url = "{url}"\n')
    keys = crypto.create(folder / "keys.toml")
    database = open_audited(url, keys)
    await migrations.migrate(database)
    say(f"audit: writing {count:,} entries into {backend}")
    if database.sqlite_path is not None:
        rate = await asyncio.to_thread(seed, database.sqlite_path, chain, count)
        await asyncio.to_thread(os.sync)  # what was written without waiting shall not slow what is measured
    else:
        rate = await seed_postgresql(database, chain, count)
    async with database.sessions.begin() as session:
        row = Account(id=chain, name="Acme", email="office@example.com")
        session.add(row)
        record(session, SYSTEM, Event.ACCOUNT_CREATE, row)
    say("audit: pages, filters, writes")
    queries = await time_queries(database, chain, count)
    write_ms, longest_ms = await time_write(database, chain)
    http_ms = await time_http(database, keys, chain, folder)
    await database.close()
    say("audit: export and verification")
    export_s, export_mb = await asyncio.to_thread(export_timed, config, chain, folder / "export.jsonl")
    begun = time.perf_counter()
    with (folder / "export.jsonl").open("rb") as lines:
        verdict = verify(lines)
    assert verdict.holds, verdict.fault
    verified = verdict.entries / (time.perf_counter() - begun)
    return Figures(
        backend, count, rate, queries, verified, verdict.entries, export_s, export_mb, write_ms, longest_ms, http_ms
    )


def show(console: Console, figures: Figures) -> None:
    table = Table(title=f"Audit log of {figures.entries:,} entries, {figures.backend}, 50 a page, p95")
    table.add_column("filters")
    table.add_column("ms", justify="right")
    for name, value in sorted(figures.queries.items(), key=lambda pair: -pair[1])[:25]:
        table.add_row(name, f"{value:.1f}")
    table.add_row("newest page", f"{figures.queries['newest page']:.1f}")
    for path, value in figures.http_ms.items():
        table.add_row(f"GET {path}", f"{value:.1f}")
    table.add_row("the longest of the writes", f"{figures.longest_write_ms:.1f}")
    console.print(table)
    console.print(f"[dim]seeded {figures.seeded_per_s:,.0f} entries/s, export {figures.exported:,} in "
                  f"{figures.export_s:.1f} s[/]")  # fmt: skip


def goals(figures: Figures) -> list[Goal]:
    words = {"keyword", "rare keyword", "no such keyword", "partial IP", "MAC"}
    pairs = max(value for name, value in figures.queries.items() if name not in words)
    found = max(value for name, value in figures.queries.items() if name in words)
    size = f"{figures.entries:,} entries, {figures.backend}"
    million_s = figures.export_s * 1e6 / figures.exported
    return [
        _at_most(f"newest page of {size}, p95", figures.queries["newest page"], 20, "ms"),
        _at_most(f"any pair of filters among {size}, p95", pairs, 100, "ms"),
        _at_most(f"keyword, partial IP, MAC among {size}, p95", found, 150, "ms"),
        _at_most(f"newest page of {size} over HTTP, p95", max(figures.http_ms.values()), 100, "ms"),
        _at_most(f"a write costs more with its entry, {figures.backend}, p95", figures.write_ms, 1, "ms"),
        Goal(
            f"audit chain verification, {figures.backend}",
            f"{figures.verified_per_s:,.0f}/s",
            "≥ 250,000/s",
            figures.verified_per_s >= 250_000,
        ),
        _at_most(f"export of a million entries, {figures.backend}", million_s, 60, "s"),
        _at_most(f"memory of an export, {figures.backend}", figures.export_mb, 200, "MB"),
    ]


def _at_most(what: str, value: float, limit: float, unit: str) -> Goal:
    return Goal(what, f"{value:.1f} {unit}", f"≤ {limit} {unit}", value <= limit)
