"""The audit log among many entries: pages, filters, keyword, verification, export, the cost of a write.

Entries are written straight into the databases (`tests.bench.audit_fill`), with right hashes, and indexed by the
product's own statements. With `--keep FOLDER` they stay there, and the next run measures without filling; `--backend`
and `--only` name a part of what there is to measure.
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
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
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
from engine.audit.pending import PendingKeeper
from engine.audit.record import SYSTEM, open_audited, record
from engine.audit.store import Filters
from engine.audit.verify import READ_AT_ONCE, verify
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

PIECES = ("newest", "pairs", "words", "writes", "export")
WORDS = frozenset({"keyword", "rare keyword", "no such keyword", "partial IP", "MAC"})
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
class Times:
    """Of repeated work, in milliseconds."""

    p50: float
    p95: float
    longest: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Times":
        return cls(statistics.median(seconds) * 1000, p95(seconds), max(seconds) * 1000)


@dataclass(frozen=True, slots=True)
class Exported:
    """So many entries, in seconds and megabytes of memory; how many of them a second were verified then."""

    entries: int
    s: float
    mb: float
    verified_per_s: float


@dataclass(slots=True)
class Figures:
    """What was measured, as far as it was asked for."""

    backend: str
    entries: int
    queries: dict[str, Asked] = field(default_factory=dict)
    http: dict[str, Times] = field(default_factory=dict)
    writes: tuple[Times, Times] | None = None  # with the entry and without
    export: Exported | None = None


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


def asked_in(pieces: Collection[str], count: int) -> dict[str, Filters]:
    """The filters that these pieces ask for."""
    of_piece = {"newest": lambda name: name == "newest page", "words": WORDS.__contains__}
    of_piece["pairs"] = lambda name: name not in WORDS
    wanted = [of_piece[piece] for piece in of_piece if piece in pieces]
    return {name: one for name, one in filters_asked(count).items() if any(is_meant(name) for is_meant in wanted)}


def p95(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)] * 1000


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Seconds that it takes."""
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun


async def time_queries(database: Database, chain: str, asked: Mapping[str, Filters]) -> dict[str, Asked]:
    figures = {}
    for name, filters in asked.items():
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


async def time_write(database: Database, chain: str) -> tuple[Times, Times]:
    """A change with its entry and without, in turn.

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

    duties = [asyncio.create_task(one(database).run()) for one in (IndexKeeper, OwedIndexing, PendingKeeper)]
    pairs = [(await timed(audited), await timed(bare)) for _ in range(WRITES)]
    for duty in duties:
        duty.cancel()
    await asyncio.gather(*duties, return_exceptions=True)
    return Times.of([one for one, _ in pairs]), Times.of([other for _, other in pairs])


async def time_http(database: Database, keys: KeyRing, chain: str, folder: Path) -> dict[str, Times]:
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

            await asked()
            figures[path.partition("?")[0]] = Times.of([await timed(asked) for _ in range(ROUNDS)])
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
    with export.open("rb", buffering=READ_AT_ONCE) as lines:
        verdict = verify(lines)
    assert verdict.holds, verdict.fault
    return verdict.entries, verdict.entries / (time.perf_counter() - begun)


async def measure(plan: Plan, say: Say) -> list[Figures]:
    """Both databases, one behind the other, or the one named; PostgreSQL where it is installed.

    Raises:
        audit_fill.Unfit
    """
    backends = [one for one in audit_fill.BACKENDS if plan.audit_backend in {"", one.lower()}]
    if "PostgreSQL" in backends and programs() is None:
        say("audit: PostgreSQL is not on this machine")
        backends.remove("PostgreSQL")
    with contextlib.ExitStack() as stack:
        fresh = tempfile.TemporaryDirectory(prefix="callpoint-audit-")
        folder = plan.audit_folder or Path(stack.enter_context(fresh))
        await audit_fill.fill(folder, backends, plan.audit_entries, say)
        if plan.is_only_filled:
            return []
        return [await _measured(folder, backend, plan, say) for backend in backends]


async def _measured(folder: Path, backend: str, plan: Plan, say: Say) -> Figures:
    """Ask, serve, write, export, verify: what of that is asked for."""
    count, chain, pieces = plan.audit_entries, audit_fill.CHAIN, plan.audit_pieces or PIECES
    figures = Figures(backend, count)
    async with audit_fill.stores(folder, backend) as filled:
        config = filled.folder / "callpoint.toml"
        config.write_text(f'[core]\ndata_dir = "{filled.folder}"\ndatabase_url = "{filled.url}"\n')
        await audit_fill.ensure_account(filled.url, filled.keys)
        database = open_audited(filled.url, filled.keys)
        say(f"audit: {backend}, {', '.join(pieces)}")
        figures.queries = await time_queries(database, chain, asked_in(pieces, count))
        if "writes" in pieces:
            figures.writes = await time_write(database, chain)
        if "newest" in pieces:
            figures.http = await time_http(database, filled.keys, chain, filled.folder)
        await database.close()
        if "export" in pieces:
            figures.export = await asyncio.to_thread(_exported, config, chain, filled.folder / "export.jsonl", count)
    return figures


def _exported(config: Path, chain: str, target: Path, count: int) -> Exported:
    took, megabytes = export_timed(config, chain, target, min(EXPORTED, count * 9 // 10))
    entries, verified = verify_timed(target)
    target.unlink()
    return Exported(entries, took, megabytes, verified)


def show(console: Console, figures: Figures) -> None:
    table = Table(title=f"Audit log of {figures.entries:,} entries, {figures.backend}, 50 a page")
    table.add_column("filters")
    for name in ("p50 ms", "p95 ms", "longest", "entries"):
        table.add_column(name, justify="right")
    for name, asked in sorted(figures.queries.items(), key=lambda pair: -pair[1].p95):
        found = f"{asked.rows}, and looks on" if asked.is_short else str(asked.rows)
        table.add_row(name, f"{asked.p50:.1f}", f"{asked.p95:.1f}", "", found)
    timed_too = {f"GET {path}": times for path, times in figures.http.items()}
    if figures.writes:
        timed_too |= dict(zip(("a write with its entry", "the same without"), figures.writes, strict=True))
    for name, times in timed_too.items():
        table.add_row(name, f"{times.p50:.1f}", f"{times.p95:.1f}", f"{times.longest:.1f}", "")
    console.print(table)
    if figures.export:
        console.print(f"[dim]export of {figures.export.entries:,} in {figures.export.s:.1f} s[/]")


def goals(figures: Figures) -> list[Goal]:
    size = f"{figures.entries:,} entries, {figures.backend}"
    found = _goals_of_queries(figures, size)
    if figures.http:
        served = max(times.p95 for times in figures.http.values())
        found.append(_at_most(f"newest page of {size} over HTTP, p95", served, 100, "ms"))
    if figures.writes:
        price = figures.writes[0].p95 - figures.writes[1].p95
        found.append(_at_most(f"a write costs more with its entry, {size}, p95", price, 1, "ms"))
    if (export := figures.export) is not None:
        found += [
            Goal(
                f"audit chain verification, {figures.backend}",
                f"{export.verified_per_s:,.0f}/s",
                "≥ 250,000/s",
                export.verified_per_s >= 250_000,
            ),
            _at_most(f"export of a million of {size}", export.s * 1e6 / export.entries, 60, "s"),
            _at_most(f"memory of an export, {figures.backend}", export.mb, 200, "MB"),
        ]
    return found


def _goals_of_queries(figures: Figures, size: str) -> list[Goal]:
    newest = [asked.p95 for name, asked in figures.queries.items() if name == "newest page"]
    words = [asked.p95 for name, asked in figures.queries.items() if name in WORDS]
    pairs = [asked.p95 for name, asked in figures.queries.items() if name not in WORDS]
    asked = (
        (f"newest page of {size}, p95", newest, 20),
        (f"any pair of filters among {size}, p95", pairs, 100),
        (f"keyword, partial IP, MAC among {size}, p95", words, 150),
    )
    return [_at_most(what, max(each), limit, "ms") for what, each, limit in asked if each]


def _at_most(what: str, value: float, limit: float, unit: str) -> Goal:
    return Goal(what, f"{value:.1f} {unit}", f"≤ {limit} {unit}", value <= limit)
