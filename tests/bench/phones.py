"""The list of 100,000 phones with filters, as page and over the API; and tables of 10,000 phones.

The phones come in through the product's own import, 10,000 at a time; what machines write of them (last fetch, status,
firmware) is put into the database directly. While the last table is imported, another administrator changes something
again and again: the longest such change tells how long the database's one writer is held.
"""

import asyncio
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.table import Table

from tests.bench import machine
from tests.bench.plan import Plan
from tests.bench.site import Site, running_site
from tests.bench.table import Goal

TABLE_ROWS = 10_000
TEMPLATE = "snom/base.xml.j2"
OWN_TEMPLATE = "{% extends 'base.xml.j2' %}{% block time %}{{ super() }}<!-- {{ config.label }} -->\n{% endblock %}"
ROUNDS = 5
QUERIES = (
    "", "status=current", "status=quarantined", "status=failed", "vendor=snom", "vendor=yealink&model=T46U",
    "location_id=none", "firmware=108.86.0.1", "firmware=999", "q=desk", "q=zzzz", "q=10999", "q=80:5e:c0:00:1e",
    "q=10.0.1.", "q=lobby+9&status=stale", "sort=last_fetch", "sort=-last_fetch&status=current", "sort=-label",
    "seen_since=2026-11-20", "seen_until=2020-01-01", "alarm=quarantined",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listed:
    """Times of one filter in milliseconds, page and API; `p95` of each."""

    query: str
    page_ms: tuple[float, ...]
    api_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """`phones`: how many there were. `longest_write_s`: the longest other change while a table was imported.
    `template_s`: what 10,000 phones take in a dry run of another template; it rendered `template_phones`.
    """

    phones: int
    listed: tuple[Listed, ...]
    dry_run_s: float
    import_s: float
    export_s: float
    longest_write_s: float
    template_s: float
    template_phones: int


async def measure(plan: Plan, say: Callable[[str], None]) -> Measured:
    """Fill a node with phones, then ask for every list in turn."""
    with tempfile.TemporaryDirectory() as name:
        async with running_site(Path(name)) as site:
            site.pin(machine.SUT_CORE)
            headers = {"Authorization": f"Bearer {site.node.api_key}"}
            async with aiohttp.ClientSession(site.node.admin, headers=headers) as client:
                tables = max(1, plan.list_phones // TABLE_ROWS)
                rows = min(TABLE_ROWS, plan.list_phones)
                for number in range(tables - 1):
                    await _sent(client, "imports", _table(number, rows))
                    say(f"{(number + 1) * rows:,} phones imported")
                last = _table(tables - 1, rows)
                dry_run_s = await _sent(client, "imports?dry_run=true", last)
                import_s, longest_write_s = await _imported_beside_others(client, last)
                _booted(site)
                begun = time.perf_counter()
                async with client.get("/api/v1/exports/phones") as answer:
                    await answer.read()
                    assert answer.status == 200, answer.status
                export_s = time.perf_counter() - begun
                listed = [await _listed(client, query) for query in QUERIES]
                template_s, template_phones = await _template_tried(client)
                return Measured(
                    tables * rows, tuple(listed), dry_run_s, import_s, export_s, longest_write_s, template_s,
                    template_phones,
                )  # fmt: skip


def _table(number: int, rows: int) -> bytes:
    """Phones of two vendors with a line each; labels in no order."""
    chance = random.Random(number)
    lines = ["mac,vendor,model,label,location,line1_extension,line1_display_name,line1_secret"]
    for at in range(number * rows, (number + 1) * rows):
        block, model = ("805ec0", "yealink,T46U") if at % 10 else ("000413", "snom,D785")
        label = f"{chance.choice(('Desk', 'Room', 'Lobby', 'Ward'))} {chance.randrange(100_000)}"
        place = "Headquarters" if at % 50 else ""
        lines.append(f"{block}{at:06x},{model},{label},{place},{200_000 + at},Somebody {at},secret-{at}")
    return "\r\n".join(lines).encode()


async def _sent(client: aiohttp.ClientSession, path: str, table: bytes) -> float:
    begun = time.perf_counter()
    async with client.post(f"/api/v1/{path}", data=table, headers={"Content-Type": "text/csv"}) as answer:
        text = await answer.text()
        assert answer.status == 200, text[:500]
    return time.perf_counter() - begun


async def _imported_beside_others(client: aiohttp.ClientSession, table: bytes) -> tuple[float, float]:
    longest = 0.0
    done = asyncio.Event()

    async def change() -> None:
        nonlocal longest
        while not done.is_set():
            begun = time.perf_counter()
            async with client.get("/api/v1/account") as answer:  # an audited read: it takes the writer as a change does
                assert answer.status in {200, 503}, answer.status  # 503: it waited five seconds and gave up
            longest = max(longest, time.perf_counter() - begun)
            await asyncio.sleep(0.05)

    other = asyncio.create_task(change())
    took = await _sent(client, "imports", table)
    done.set()
    await other
    return took, longest


async def _template_tried(client: aiohttp.ClientSession) -> tuple[float, int]:
    """A tenth of the phones rendered twice and compared, each with the account's own template for the second time.
    Returns the seconds that 10,000 take, the start of the process that renders included, and how many they were.
    """
    wished = {"kind": "template", "target": TEMPLATE, "after": OWN_TEMPLATE}
    begun = first = time.perf_counter()
    async with client.post("/api/v1/rollouts/dry-run", json=wished) as answer:
        run = await answer.json()
        assert answer.status == 202, run
    done = 0
    while run["state"] == "running":
        await asyncio.sleep(0.2)
        async with client.get(f"/api/v1/rollouts/dry-run/{run['id']}") as answer:
            run = await answer.json()
        if not done and run["state"] == "running":
            done, first = run["done"], time.perf_counter()
    assert (run["state"], run["failing"]) == ("done", 0), run["failures"][:3]
    assert run["changed"] == run["total"] == run["done"], run["total"]
    for_one = (time.perf_counter() - first) / (run["total"] - done)
    return first - begun + for_one * (TABLE_ROWS - done), run["total"]


def _booted(site: Site) -> None:
    """Most phones fetched lately; a few failed, were never there, or are held back."""
    chance = random.Random(7)
    database = site.node.folder / "data" / "callpoint.db"
    with sqlite3.connect(database, timeout=30) as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM phone")]
        rows: list[tuple[Any, ...]] = []
        for at, phone_id in enumerate(ids):
            status = chance.choices(["current", "stale", "failed", "quarantined"], [94, 5, 0.9, 0.1])[0]
            day, ip = 1 + chance.randrange(21), f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}"
            fetched = f"2026-11-{day:02} {chance.randrange(24):02}:00:00.000000"
            rows.append((status, fetched, ip, f"108.86.0.{chance.randrange(30)}", phone_id))
        query = "UPDATE phone SET status = ?, last_fetch_at = ?, last_ip = ?, firmware = ? WHERE id = ?"
        connection.executemany(query, rows)


async def _listed(client: aiohttp.ClientSession, query: str) -> Listed:
    async def timed(address: str) -> float:
        begun = time.perf_counter()
        async with client.get(address) as answer:
            await answer.read()
            assert answer.status == 200, (address, answer.status)
        return (time.perf_counter() - begun) * 1e3

    page = [await timed(f"/phones?{query}") for _ in range(ROUNDS)]
    api = [await timed(f"/api/v1/phones?{query}") for _ in range(ROUNDS)]
    return Listed(query, tuple(page), tuple(api))


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def show(console: Console, measured: Measured) -> None:
    shown = Table("filter", "page p50", "page worst", "API p50", title=f"Lists of {measured.phones:,} phones, ms")
    for row in measured.listed:
        numbers = statistics.median(row.page_ms), max(row.page_ms), statistics.median(row.api_ms)
        shown.add_row(row.query or "(none)", *(f"{number:.0f}" for number in numbers))
    console.print(shown)
    console.print(
        f"A table of {TABLE_ROWS:,}: dry run {measured.dry_run_s:.1f} s, import {measured.import_s:.1f} s; "
        f"export of all {measured.export_s:.1f} s; dry run of a template on {measured.template_phones:,} phones, "
        f"for 10,000 {measured.template_s:.1f} s"
    )


def goals(measured: Measured) -> list[Goal]:
    pages = p95([each for row in measured.listed for each in row.page_ms])
    api = p95([each for row in measured.listed for each in row.api_ms])
    name = f"{measured.phones:,} phones"
    return [
        Goal(f"{name}: page with filters, p95", f"{pages:.0f} ms", "< 200 ms", pages < 200),
        Goal(f"{name}: API with filters, p95", f"{api:.0f} ms", "< 200 ms", api < 200),
        Goal("CSV of 10,000 phones: dry run", f"{measured.dry_run_s:.1f} s", "< 10 s", measured.dry_run_s < 10),
        Goal(
            "template tried on 10,000 phones",
            f"{measured.template_s:.1f} s", "< 30 s", measured.template_s < 30,
        ),
        Goal(
            "another request while 10,000 are imported, longest",
            f"{measured.longest_write_s:.1f} s", "< 2 s", measured.longest_write_s < 2,
        ),
    ]  # fmt: skip
