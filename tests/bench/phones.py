"""The list of 100,000 phones with filters, as page and over the API; and tables of 10,000 phones.

On SQLite, and on PostgreSQL where it is installed. The phones are put into the database directly (`phones_fill`). Each
filter in each order is asked for with the page behind the first one and the last one. While a table is imported and
while many phones are changed at once, another administrator changes something again and again: the longest such change
tells how long the database's one writer is held.
"""

import asyncio
import datetime as dt
import html
import json
import random
import re
import statistics
import tempfile
import time
import zoneinfo
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
from multidict import MultiDict
from rich.console import Console
from rich.table import Table
from yarl import URL

from admin.phone_filters import listing_asked, place_text
from engine import crypto
from engine.provisioning.phone_list import Order, Place
from tests.bench import machine
from tests.bench.phones_fill import fill
from tests.bench.plan import Plan
from tests.bench.site import CIVIC, running_site
from tests.bench.table import Goal
from tests.postgres import programs, running_postgres

TABLE_ROWS = 10_000
TEMPLATE = "snom/base.xml.j2"
OWN_TEMPLATE = "{% extends 'base.xml.j2' %}{% block time %}{{ super() }}<!-- {{ config.label }} -->\n{% endblock %}"
ROUNDS = 1
FILTERS = (
    "", "status=current", "status=stale", "status=quarantined", "status=failed", "vendor=snom",
    "vendor=yealink&model=T46U", "vendor=fanvil", "location_id={}", "location_id=none", "firmware=108.86.0.1",
    "firmware=999", "q=desk", "q=zzzz", "q=10999", "q=80:5e:c0:00:1e", "q=10.0.1.", "q=lobby+9&status=stale",
    "seen_since={since}", "seen_until={since}", "seen_until=2020-01-01", "alarm=quarantined", "alarm=no_location",
    "alarm=no_registrar", "alarm=stragglers", "status=stale&location_id={}&firmware=108.86.0.2",
)  # fmt: skip
SORTS = ("label", "-label", "last_fetch", "-last_fetch", "made", "-made")
# As a server of that size is set up; what is asked for is read, and an import's commit waits for the disk.
SERVER = ("shared_buffers=256MB", "effective_cache_size=2GB")


@dataclass(frozen=True, slots=True)
class Listed:
    """Times of one filter in milliseconds, page and API; `p95` of each."""

    query: str
    page_ms: tuple[float, ...]
    api_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """`phones`: how many there were. `longest_import_s` and `longest_bulk_s`: the longest other change while a table
    was imported, and while its phones were given a setting and deleted. `template_s`: what 10,000 phones take in a dry
    run of another template; it rendered `template_phones`.
    """

    backend: str
    phones: int
    listed: tuple[Listed, ...]
    dry_run_s: float
    import_s: float
    export_s: float
    longest_import_s: float
    longest_bulk_s: float
    template_s: float
    template_phones: int


async def measure(plan: Plan, say: Callable[[str], None]) -> list[Measured]:
    """Fill a node with phones, then ask for every list in turn; on both databases."""
    found = [await _measured("SQLite", plan, say, {})]
    if programs() is not None:
        with running_postgres(settings=SERVER) as url:
            found.append(await _measured("PostgreSQL", plan, say, {"CALLPOINT_CORE__DATABASE_URL": url}))
    return found


async def _measured(backend: str, plan: Plan, say: Callable[[str], None], environment: dict[str, str]) -> Measured:
    with tempfile.TemporaryDirectory() as name:
        async with running_site(Path(name), environment) as site:
            site.pin(machine.SUT_CORE)
            data = site.node.folder / "data"
            url = environment.get("CALLPOINT_CORE__DATABASE_URL", f"sqlite+aiosqlite:///{data / 'callpoint.db'}")
            branch = await site.node.api("POST", "locations", {"name": "Branch", "civic_address": CIVIC})
            listed_places = (await site.node.api("GET", "locations"))["data"]
            places = [place["id"] for place in listed_places]
            keys = crypto.load_or_create(data / "keys.toml")
            await fill(url, keys, site.node.account_id, places, plan.list_phones, say)
            headers = {"Authorization": f"Bearer {site.node.api_key}"}
            async with aiohttp.ClientSession(site.node.admin, headers=headers) as client:
                filters = [each.format(branch["id"], since=_days_ago(3)) for each in FILTERS]
                listed = [await _listed(client, each, sort) for each in filters for sort in SORTS]
                say(f"{backend}: lists are measured")
                table = _table(min(TABLE_ROWS, plan.list_phones))
                dry_run_s = await _sent(client, "imports?dry_run=true", table)
                import_s, longest_import_s = await _beside_others(client, _sent(client, "imports", table))
                _, longest_bulk_s = await _beside_others(client, _changed(client))
                begun = time.perf_counter()
                async with client.get("/api/v1/exports/phones") as answer:
                    await answer.read()
                    assert answer.status == 200, answer.status
                export_s = time.perf_counter() - begun
                template_s, template_phones = await _template_tried(client)
                return Measured(
                    backend, plan.list_phones, tuple(listed), dry_run_s, import_s, export_s, longest_import_s,
                    longest_bulk_s, template_s, template_phones,
                )  # fmt: skip


def _days_ago(days: int) -> str:
    return (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).date().isoformat()


def _table(rows: int) -> bytes:
    """Phones of two vendors with a line each, none of them known; labels in no order."""
    chance = random.Random(1)
    lines = ["mac,vendor,model,label,location,line1_extension,line1_display_name,line1_secret"]
    for at in range(800_000, 800_000 + rows):
        block, model = ("805ec0", "yealink,T46U") if at % 10 else ("000413", "snom,D785")
        label = f"{chance.choice(('Desk', 'Room', 'Lobby', 'Ward'))} {chance.randrange(100_000)} Somebody-imported"
        place = "Headquarters" if at % 50 else ""
        lines.append(f"{block}{at:06x},{model},{label},{place},{at},Somebody {at},secret-{at}")
    return "\r\n".join(lines).encode()


async def _sent(client: aiohttp.ClientSession, path: str, table: bytes) -> float:
    begun = time.perf_counter()
    async with client.post(f"/api/v1/{path}", data=table, headers={"Content-Type": "text/csv"}) as answer:
        text = await answer.text()
        assert answer.status == 200, text[:500]
    return time.perf_counter() - begun


async def _changed(client: aiohttp.ClientSession) -> float:
    """As many phones as may be changed at once are given a setting and then deleted: those of one label's beginning."""
    begun = time.perf_counter()
    filters = {"q": "SOMEBODY-IMPORTED"}
    for body in ({"action": "setting", "setting": "vlan_id", "value": 20}, {"action": "delete"}):
        async with client.post("/api/v1/phones/bulk", json=body | {"filters": filters}) as answer:
            text = await answer.text()
            assert answer.status == 200, text[:500]
    return time.perf_counter() - begun


async def _beside_others(client: aiohttp.ClientSession, work: Coroutine[None, None, float]) -> tuple[float, float]:
    """What the work took, and the longest of an audited read's that another administrator asks for again and again; the
    one that waits when the work ends is waited for.
    """
    longest, is_done = 0.0, False

    async def change() -> None:
        nonlocal longest
        while not is_done:
            begun = time.perf_counter()
            async with client.get("/api/v1/account") as answer:  # an audited read: it takes the writer as a change does
                assert answer.status in {200, 503}, answer.status  # 503: it waited five seconds and gave up
            longest = max(longest, time.perf_counter() - begun)
            await asyncio.sleep(0.05)

    other = asyncio.create_task(change())
    try:
        took = await work
    finally:
        is_done = True
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


async def _near_the_end(client: aiohttp.ClientSession, query: str, sort: str) -> str:
    """Behind which phone the last page begins, as its address says it: read from the other end."""
    turned = sort.removeprefix("-") if sort.startswith("-") else f"-{sort}"
    whole = "&".join(part for part in (query, f"sort={turned}", "limit=60") if part)
    async with client.get(URL(f"/api/v1/phones?{whole}", encoded=True)) as answer:
        phone = (await answer.json())["data"][-1]
    listing = listing_asked(MultiDict({"sort": sort}), zoneinfo.ZoneInfo("UTC"))
    key = {Order.LABEL: phone["label"], Order.LAST_FETCH: phone["last_fetch_at"] or "", Order.MADE: ""}[listing.order]
    return place_text(Place(key, phone["id"]), listing)


async def _listed(client: aiohttp.ClientSession, query: str, sort: str) -> Listed:
    """The first page, the one behind it and the last one on the page; the first two over the API."""

    async def timed(address: str) -> tuple[float, str]:
        begun = time.perf_counter()
        async with client.get(URL(address, encoded=True)) as answer:
            body = await answer.text()
            assert answer.status == 200, (address, answer.status, body[:300])
        return (time.perf_counter() - begun) * 1e3, body

    whole = "&".join(part for part in (query, f"sort={sort}") if part)
    page, api = [], []
    for _ in range(ROUNDS):
        took, body = await timed(f"/phones?{whole}")
        page.append(took)
        if following := re.search(r'href="(/phones\?[^"]*\bafter=[^"]*)"', body):
            page.append((await timed(html.unescape(following[1])))[0])
            page.append(
                (await timed(f"/phones?{whole}&{urlencode({'after': await _near_the_end(client, query, sort)})}"))[0]
            )
        took, body = await timed(f"/api/v1/phones?{whole}")
        api.append(took)
        if cursor := json.loads(body)["next_cursor"]:
            api.append((await timed(f"/api/v1/phones?{whole}&{urlencode({'cursor': cursor})}"))[0])
    return Listed(whole, tuple(page), tuple(api))


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def show(console: Console, found: list[Measured]) -> None:
    """The slowest lists of each database, and the tables."""
    for measured in found:
        title = f"Lists of {measured.phones:,} phones on {measured.backend}, the slowest, ms"
        shown = Table("filter and order", "page p50", "page worst", "API p50", "API worst", title=title)
        for row in sorted(measured.listed, key=lambda one: -statistics.median(one.page_ms))[:12]:
            each = [number(times) for times in (row.page_ms, row.api_ms) for number in (statistics.median, max)]
            shown.add_row(row.query, *(f"{number:.0f}" for number in each))
        console.print(shown)
        console.print(
            f"{measured.backend}: a table of {TABLE_ROWS:,}: dry run {measured.dry_run_s:.1f} s, import "
            f"{measured.import_s:.1f} s; export of all {measured.export_s:.1f} s; dry run of a template on "
            f"{measured.template_phones:,} phones, for 10,000 {measured.template_s:.1f} s"
        )


def goals(found: list[Measured]) -> list[Goal]:
    return [goal for measured in found for goal in _goals(measured)]


def _goals(measured: Measured) -> list[Goal]:
    pages = p95([each for row in measured.listed for each in row.page_ms])
    api = p95([each for row in measured.listed for each in row.api_ms])
    name = f"{measured.backend}, {measured.phones:,} phones"
    seconds = (
        ("CSV of 10,000 phones: dry run", measured.dry_run_s, 10.0),
        ("template tried on 10,000 phones", measured.template_s, 30.0),
        ("another request while 10,000 are imported, longest", measured.longest_import_s, 0.5),
        ("another request while 10,000 are changed and deleted, longest", measured.longest_bulk_s, 0.5),
    )
    return [
        Goal(f"{name}: page with filters, p95", f"{pages:.0f} ms", "< 200 ms", pages < 200),
        Goal(f"{name}: API with filters, p95", f"{api:.0f} ms", "< 200 ms", api < 200),
        *(Goal(f"{name}: {what}", f"{took:.1f} s", f"< {most:g} s", took < most) for what, took, most in seconds),
    ]
