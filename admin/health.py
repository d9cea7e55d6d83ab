"""Probes: is the process alive, is it ready, and its numbers. Open to whoever reaches the port, audited never.

They say nothing of accounts. Readiness takes no write lock: a long write must not make a node look dead.
"""

import asyncio
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import GaugeMetricFamily
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from admin.context import CONFIG, DATABASE, DISK, EDGE, METRICS
from admin.problems import DATABASE_ERRORS
from engine import migrations
from engine.db import Database, utc_now
from engine.disk import DiskWatch
from engine.e911.store_outbox import OLDEST_MAIL
from engine.own_command import own_command
from engine.provisioning.store_alarms import count_without_location

DATABASE_TIMEOUT_S = 2.0
EDGE_GAUGES: web.AppKey[tuple[Gauge, Gauge, Gauge]] = web.AppKey("edge_gauges", tuple)
_METRIC_NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")
OUTBOX_LAG_LIMIT_S = 300.0  # a notification that waits longer than this needs a person


@dataclass(frozen=True, slots=True)
class Check:
    """One question of readiness. `detail` says what to do when it is not `ok`."""

    name: str
    is_ok: bool
    detail: str


async def get_healthz(_request: web.Request) -> web.Response:
    """The process answers."""
    return web.json_response({"status": "ok"})


async def get_readyz(request: web.Request) -> web.Response:
    """Everything a node needs is there: 200, else 503; each check with its reason."""
    checks = [*await _database_checks(request.app[DATABASE]), _edge_check(request)]
    checks.append(await _snapshot_check(request))
    is_ready = all(check.is_ok for check in checks)
    return web.json_response(
        {
            "status": "ready" if is_ready else "not ready",
            "checks": {check.name: {"ok": check.is_ok, "detail": check.detail} for check in checks},
        },
        status=200 if is_ready else 503,
    )


async def get_metrics(request: web.Request) -> web.Response:
    """The Prometheus text format."""
    state = request.app[EDGE].state()
    up, workers, trunks = request.app[EDGE_GAUGES]
    up.set(state.is_up)
    for number, is_up in enumerate(state.workers):
        workers.labels(str(number)).set(is_up)
    trunks.clear()  # a deleted trunk is not down
    for trunk_id, is_up in state.trunks.items():
        trunks.labels(trunk_id).set(is_up)
    counters = await request.app[EDGE].counters()
    own = [*_disk_families(request.app[DISK]), *await _own_families(request.app[DATABASE])]
    body = await asyncio.to_thread(generate_latest, request.app[METRICS])
    body += generate_latest(_Once([*_families(counters), *own]))
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _disk_families(disk: DiskWatch) -> list[GaugeMetricFamily]:
    """The free space as it was seen last; none before the first look, and none while the folder cannot be asked."""
    if disk.free_bytes is None or not disk.is_seen:
        return []
    words = "Free space where this node keeps its data, in bytes."
    return [GaugeMetricFamily("callpoint_data_free_bytes", words, value=disk.free_bytes)]


async def _own_families(database: Database) -> list[GaugeMetricFamily]:
    """What the database knows; none of it while the database is away, since a wrong number is worse than no number."""
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT_S), database.sessions() as session:
            count = await count_without_location(session)
    except (TimeoutError, *DATABASE_ERRORS):
        return []
    words = "Phones whose 911 calls would carry no address."
    return [GaugeMetricFamily("callpoint_phones_without_location", words, value=count)]


async def _database_checks(database: Database) -> list[Check]:
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT_S), database.engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="AUTOCOMMIT")  # no BEGIN, so no lock is taken
            await connection.execute(text("SELECT 1"))
            migration = await _migration_check(connection)
            oldest = (await connection.execute(OLDEST_MAIL)).scalar()
    except (TimeoutError, *DATABASE_ERRORS) as exc:
        return [Check("database", is_ok=False, detail=f"{type(exc).__name__}: 911 calls still go out")]
    lag_s = 0.0 if oldest is None else (utc_now() - oldest).total_seconds()
    return [
        Check("database", is_ok=True, detail="answers"),
        migration,
        Check("outbox", is_ok=lag_s < OUTBOX_LAG_LIMIT_S, detail=f"oldest waiting notification: {lag_s:.0f} s"),
    ]


async def _migration_check(connection: AsyncConnection) -> Check:
    wanted = migrations.newest_revision()
    try:
        stands_at = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
    except DBAPIError:
        stands_at = None  # the table is not there: nothing was migrated yet
    is_ok = stands_at == wanted
    return Check("migrations", is_ok=is_ok, detail=f"at {stands_at}" if is_ok else f"run `{own_command('migrate')}`")


def _edge_check(request: web.Request) -> Check:
    state = request.app[EDGE].state()
    if not state.is_up:
        return Check("edge", is_ok=False, detail="the SIP process does not answer")
    missing = state.workers.count(False)
    said = f", {missing} of {len(state.workers)} SIP processes down: the others carry its calls" if missing else ""
    return Check("edge", is_ok=True, detail=f"answers SIP{said}")


async def _snapshot_check(request: web.Request) -> Check:
    """The location table on disk is what 911 calls are routed by while the database is away."""
    folder = request.app[CONFIG].core.data_dir / "snapshot"
    newest = await asyncio.to_thread(_newest, folder)
    if newest is None:
        return Check("snapshot", is_ok=True, detail="none yet: no account has been published")
    return Check("snapshot", is_ok=True, detail=f"newest is {max(0.0, time.time() - newest):.0f} s old")


def _newest(folder: Path) -> float | None:
    if not folder.is_dir():
        return None
    return max((file.stat().st_mtime for file in folder.glob("*.sealed")), default=None)


class _Once:
    """A registry of families made for this answer alone."""

    def __init__(self, families: Iterable[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._families


def _families(counters: Mapping[str, object]) -> Iterator[GaugeMetricFamily]:
    """What the SIP process tells of itself: a number, numbers by name, or names (counted)."""
    for name, value in sorted(counters.items()):
        if not _METRIC_NAME.fullmatch(name) or name in {"is", "token"}:
            continue
        words = f"The SIP process: {name.replace('_', ' ')}."
        if isinstance(value, Mapping):
            family = GaugeMetricFamily(f"callpoint_edge_{name}", words, labels=["what"])
            for label, count in sorted(value.items()):
                if isinstance(count, int | float):
                    family.add_metric([str(label)], count)
            yield family
        elif isinstance(value, list):
            yield GaugeMetricFamily(f"callpoint_edge_{name}", words, value=len(value))
        elif isinstance(value, int | float):
            yield GaugeMetricFamily(f"callpoint_edge_{name}", words, value=value)


def edge_gauges(registry: CollectorRegistry) -> tuple[Gauge, Gauge, Gauge]:
    """The gauges of the SIP side: is any process of it up, is each, is each trunk."""
    up = Gauge("callpoint_edge_up", "1 while a SIP process answers.", registry=registry)
    words = "1 while this one of the SIP processes answers."
    worker = Gauge("callpoint_edge_worker_up", words, ["worker"], registry=registry)
    trunk = Gauge("callpoint_trunk_up", "1 while the trunk answers its pings.", ["trunk"], registry=registry)
    return up, worker, trunk
