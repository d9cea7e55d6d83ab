"""How far work in the background is, where every node can read it: dry runs of a change, resyncs of many phones.

Theory of operation. The work itself lives in one process, which writes a row about it at most once a second and at
least every BEAT_S. A row that says `running` and was not written for SILENT_S is of a node that has ended: whoever asks
is told so, and nothing seems to run for ever. What a row says is numbers and words, never a phone's file.
"""

import asyncio
import datetime as dt
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog
from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from engine.db import Database, utc_now
from engine.errors import EngineError
from engine.models import BackgroundRun

EVERY_S = 1.0
BEAT_S = 10.0
SILENT_S = 45.0
KEPT = dt.timedelta(days=7)
RUNNING = "running"
_log = structlog.get_logger()


class RunKind(StrEnum):
    """What is running. Stored."""

    DRY_RUN = "dry_run"
    RESYNC = "resync"


@dataclass(frozen=True, slots=True)
class Told:
    """What a process says of its work. `state`: `running`, or how it ended."""

    state: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """Work as its row has it. `is_lost`: its node has ended without a word."""

    id: str
    node: str
    state: str
    facts: Mapping[str, Any]
    started_at: dt.datetime
    ended_at: dt.datetime | None
    is_lost: bool


def node_name() -> str:
    """What people call this node: its machine, and its process, of which a machine may have several."""
    return f"{socket.gethostname()[:60]} ({os.getpid()})"


async def follow(
    database: Database,
    run_id: str,
    account_id: str,
    kind: RunKind,
    told: Callable[[], Told],
    on_cancel: Callable[[], object] | None = None,
) -> None:
    """Keep the row until the work has ended. Never fails: the work goes on when the database is away.

    Args:
        told: What is to be said now. on_cancel: called once when somebody asked any node to end it.
    """
    last: Told | None = None
    silent_s = 0.0
    while True:
        now = told()
        if now != last or silent_s >= BEAT_S:
            try:
                wants_end = await _write(database, run_id, account_id, kind, now)
            except (SQLAlchemyError, OSError, EngineError) as exc:
                _log.warning("run.untold", run=run_id, error=type(exc).__name__)
            else:
                last, silent_s = now, 0.0
                if wants_end and now.state == RUNNING and on_cancel is not None:
                    on_cancel()
        if now.state != RUNNING and (last == now or silent_s >= BEAT_S):
            return
        await asyncio.sleep(EVERY_S)
        silent_s += EVERY_S


async def _write(database: Database, run_id: str, account_id: str, kind: RunKind, told: Told) -> bool:
    """Whether somebody wants it ended."""
    now = utc_now()
    async with database.sessions.begin() as session:
        row = await session.get(BackgroundRun, run_id)
        if row is None:
            await session.execute(delete(BackgroundRun).where(BackgroundRun.started_at < now - KEPT))
            row = BackgroundRun(
                id=run_id, account_id=account_id, kind=kind.value, node=node_name(), started_at=now, wants_end=False
            )
            session.add(row)
        row.state, row.facts, row.seen_at = told.state, dict(told.facts), now
        if told.state != RUNNING:
            row.ended_at = now
        return row.wants_end


async def seen(session: AsyncSession, account_id: str, kind: RunKind, run_id: str, now: dt.datetime) -> Seen | None:
    """Work of that account, whichever node does it; None: there is none of that id."""
    row = await session.get(BackgroundRun, run_id)
    if row is None or row.account_id != account_id or row.kind != kind:
        return None
    is_lost = row.state == RUNNING and row.seen_at < now - dt.timedelta(seconds=SILENT_S)
    return Seen(row.id, row.node, row.state, row.facts or {}, row.started_at, row.ended_at, is_lost)


async def ask_to_end(session: AsyncSession, run_id: str) -> None:
    """The node that does it ends it within a second or two; one that has ended has nothing to end."""
    row = await session.get(BackgroundRun, run_id)
    if row is not None:
        row.wants_end = True
