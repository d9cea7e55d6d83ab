"""The audit log among many entries: pages, filters, keyword, verification, export, the cost of a write.

Entries are written straight into the databases (`tests.bench.audit_fill`), with right hashes, and indexed by the
product's own statements. With `--keep FOLDER` they stay there, and the next run measures without filling.
"""

import asyncio
import contextlib
import copy
import datetime as dt
import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import Session

from admin.app import make_admin
from admin.server import AdminRunner
from engine.accounts import operations
from engine.audit import store
from engine.audit.events import FACTS, Event
from engine.audit.heads import move_revisions
from engine.audit.merging import IndexKeeper
from engine.audit.owed import OwedIndexing
from engine.audit.record import SYSTEM, open_audited, record
from engine.audit.store import Filters
from engine.audit.verify import verify
from engine.config import Config, Core
from engine.crypto import KeyRing
from engine.db import Database, Sessions, utc_now
from engine.models import Account
from tests import peers
from tests.bench import audit_fill
from tests.bench.audit_entries import BEGAN, STEP
from tests.bench.plan import Plan
from tests.bench.sip import Say
from tests.bench.table import Goal
from tests.postgres import programs
from tests.standin_edge import StandInEdge

ROUNDS = 40
WRITES = 300
EXPORTED = 1_000_000  # entries of an export that are waited for


@dataclass(frozen=True, slots=True)
class Asked:
    """One set of filters: times of its newest page in milliseconds, and what was on the last of them."""

    p50: float
    p95: float
    rows: int
    is_short: bool  # the time was up before the page was full


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured; times in milliseconds at the 95th percentile, `longest_write_ms` the one longest."""

    backend: str
    entries: int
    queries: dict[str, Asked]
    verified_per_s: float
    exported: int
    export_s: float
    export_mb: float
    write_ms: float  # what a write's entry adds
    longest_write_ms: float
    http_ms: dict[str, float]


def filters_asked(count: int) -> dict[str, Filters]:
    """Every filter alone and in pairs, each with what matches often and what matches rarely."""
    middle = BEGAN + STEP * (count // 2)
    single: dict[str, dict[str, Any]] = {
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


async def time_queries(database: Database, chain: str, count: int) -> dict[str, Asked]:
    figures = {}
    for name, filters in filters_asked(count).items():
        times = []
        for _ in range(ROUNDS + 1):
            begun = time.perf_counter()
            async with database.sessions() as session:
                page = await store.list_entries(session, chain, filters, limit=50)
            times.append(time.perf_counter() - begun)
        figures[name] = Asked(statistics.median(times) * 1000, p95(times[1:]), len(page.rows), page.is_short)
    return figures


def unguarded(database: Database) -> Sessions:
    """That database without the guard that asks for an entry: the same connections and the same turn of its writers.

    With connections of its own each of its commits would empty the page cache of the guarded ones, and reading those
    pages again be told as the price of an entry.
    """
    made = copy.copy(database.sessions)
    plain = type("PlainSession", (Session,), {})
    made._writers = async_sessionmaker(database.engine, expire_on_commit=False, sync_session_class=plain)
    return made


async def time_write(database: Database, chain: str) -> tuple[float, float]:
    """Milliseconds that the entry adds to a change, and of the longest change: with it and without, in turn.

    Without it the same row is read, changed and stored the same way, with its version and the account's revision. The
    indexes are filled and merged meanwhile, as on a running node.
    """
    plain = unguarded(database)

    async def audited() -> None:
        async with database.sessions.begin() as session:
            row = await session.get(Account, chain)
            assert row is not None
            row.phone = str(time.time_ns())
            record(session, SYSTEM, Event.ACCOUNT_UPDATE, row)

    async def bare() -> None:
        async with plain.begin() as session:
            row = await session.get(Account, chain)
            assert row is not None
            row.phone, row.version, row.updated_at = str(time.time_ns()), row.version + 1, utc_now()
            await session.flush()
            await session.run_sync(move_revisions, {chain})

    duties = [asyncio.create_task(one(database).run()) for one in (IndexKeeper, OwedIndexing)]
    pairs = [(await timed(audited), await timed(bare)) for _ in range(WRITES)]
    for duty in duties:
        duty.cancel()
    await asyncio.gather(*duties, return_exceptions=True)
    return p95([one for one, _ in pairs]) - p95([other for _, other in pairs]), max(one for one, _ in pairs) * 1000


async def time_http(database: Database, keys: KeyRing, chain: str, folder: Path) -> dict[str, float]:
    """The newest page over HTTP, as JSON and as a page for people, from the real application."""
    async with database.sessions.begin() as session:
        account = await session.get(Account, chain)
        assert account is not None
        made = await operations.create_api_key(session, SYSTEM, account, name="bench", scopes=("*",))
    app = make_admin(Config(core=Core(data_dir=folder / "data")), keys, database, StandInEdge())
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


def export_timed(config: Path, chain: str, target: Path, wanted: int) -> tuple[float, float]:
    """Seconds until `callpoint audit export` has given that many entries, and megabytes of memory, at most until then.

    The log may hold more: the export is ended there.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CALLPOINT_")}
    asked = [sys.executable, "-m", "engine", "audit", "export", "--account", chain, "--config", str(config)]
    begun = time.perf_counter()
    process = subprocess.Popen(asked, stdout=subprocess.PIPE, env=clean)
    assert process.stdout is not None
    with target.open("wb") as out, process:
        entries = (line for line in process.stdout if not line.startswith(b'{"checkpoint"'))
        out.writelines(itertools.islice(entries, wanted))
        took = time.perf_counter() - begun
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.send_signal(signal.SIGTERM)
    (peak,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return took, int(peak.split()[1]) / 1024


def verify_timed(export: Path) -> tuple[int, float]:
    """How many entries the export holds, and how many of them are verified in a second."""
    begun = time.perf_counter()
    with export.open("rb") as lines:
        verdict = verify(lines)
    assert verdict.holds, verdict.fault
    return verdict.entries, verdict.entries / (time.perf_counter() - begun)


async def measure(plan: Plan, say: Say) -> list[Figures]:
    """Both databases, one behind the other; PostgreSQL where it is installed.

    Raises:
        audit_fill.Unfit
    """
    with contextlib.ExitStack() as stack:
        fresh = tempfile.TemporaryDirectory(prefix="callpoint-audit-")
        folder = plan.audit_folder or Path(stack.enter_context(fresh))
        await audit_fill.fill(folder, plan.audit_entries, say)
        if plan.is_only_filled:
            return []
        backends = ["SQLite"] if programs() is None else ["SQLite", "PostgreSQL"]
        if len(backends) == 1:
            say("audit: PostgreSQL is not on this machine")
        return [await _measured(folder, backend, plan, say) for backend in backends]


async def _measured(folder: Path, backend: str, plan: Plan, say: Say) -> Figures:
    """Ask, write, serve, export, verify."""
    count, chain = plan.audit_entries, audit_fill.CHAIN
    async with audit_fill.stores(folder, backend) as filled:
        config = filled.folder / "callpoint.toml"
        config.write_text(f'[core]\ndata_dir = "{filled.folder}"\ndatabase_url = "{filled.url}"\n')
        await audit_fill.ensure_account(filled.url, filled.keys)
        database = open_audited(filled.url, filled.keys)
        say(f"audit: {backend}, pages and filters")
        queries = await time_queries(database, chain, count)
        say(f"audit: {backend}, writes, HTTP")
        write_ms, longest_ms = await time_write(database, chain)
        http_ms = await time_http(database, filled.keys, chain, filled.folder)
        await database.close()
        say(f"audit: {backend}, export and verification")
        export = filled.folder / "export.jsonl"
        wanted = min(EXPORTED, count * 9 // 10)
        export_s, export_mb = await asyncio.to_thread(export_timed, config, chain, export, wanted)
        exported, verified = verify_timed(export)
        export.unlink()
    return Figures(backend, count, queries, verified, exported, export_s, export_mb, write_ms, longest_ms, http_ms)


def show(console: Console, figures: Figures) -> None:
    table = Table(title=f"Audit log of {figures.entries:,} entries, {figures.backend}, 50 a page")
    table.add_column("filters")
    for name in ("p50 ms", "p95 ms", "entries"):
        table.add_column(name, justify="right")
    for name, asked in sorted(figures.queries.items(), key=lambda pair: -pair[1].p95):
        found = f"{asked.rows}, and looks on" if asked.is_short else str(asked.rows)
        table.add_row(name, f"{asked.p50:.1f}", f"{asked.p95:.1f}", found)
    for path, value in figures.http_ms.items():
        table.add_row(f"GET {path}", "", f"{value:.1f}")
    table.add_row("the longest of the writes", "", f"{figures.longest_write_ms:.1f}")
    console.print(table)
    console.print(f"[dim]export of {figures.exported:,} in {figures.export_s:.1f} s[/]")


def goals(figures: Figures) -> list[Goal]:
    words = {"keyword", "rare keyword", "no such keyword", "partial IP", "MAC"}
    pairs = max(asked.p95 for name, asked in figures.queries.items() if name not in words)
    found = max(asked.p95 for name, asked in figures.queries.items() if name in words)
    size = f"{figures.entries:,} entries, {figures.backend}"
    million_s = figures.export_s * 1e6 / figures.exported
    return [
        _at_most(f"newest page of {size}, p95", figures.queries["newest page"].p95, 20, "ms"),
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
