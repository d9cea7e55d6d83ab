"""Old events leave the fetch log: after as many days as their account keeps them, in batches too small to be felt.

A database has one writer, and a call's record or a phone's fetch may be waiting for it; so a batch is sized by how long
the last one took, and there is a pause after each. What was denied or failed stands in the audit log too, as far as it
was promoted there, and stays in it.

Where the disk of an SQLite database is nearly full, all but the last day goes: new records of calls find room in the
pages that this leaves.
"""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.changes import rfc3339
from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.db import Database, utc_now
from engine.errors import EngineError
from engine.ids import new_id
from engine.models import ProvisioningEvent
from engine.provisioning import lease

DUTY = "fetch_log_retention"
EVERY_S = 3600.0
LEASE_S = 120.0
FIRST_BATCH = 200
LEAST_BATCH, MOST_BATCH = 20, 2000
HELD_S = 0.025  # how long a batch may hold the writer: half of what anybody would notice
PAUSE_S = 0.05
STRANGERS_DAYS = 90  # events that are nobody's: a wrong token
SHORT = dt.timedelta(days=1)  # what is left where the disk is nearly full
Keeps = Callable[[AsyncSession], Awaitable[Mapping[str, int]]]
_log = structlog.get_logger()


@dataclass(slots=True)
class Retention:
    """`run` as a background task; `sweep` once, for whoever wants it now.

    Args:
        keeps: For how many days each account keeps its fetch log.
        is_short: Whether the disk is nearly full.
    """

    database: Database
    keeps: Keeps
    is_short: Callable[[], bool] = lambda: False
    every_s: float = EVERY_S
    longest_s: float = 0.0  # the longest that one batch held the writer, for the metrics
    _holder: str = field(default_factory=lambda: new_id("lease"))
    _batch: int = FIRST_BATCH
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Look now: the disk has become short."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled. Never raises for a database that is away."""
        while True:
            try:
                deleted = await self.sweep(utc_now())
                if deleted:
                    _log.info("fetch_log.swept", events=deleted, longest_ms=round(self.longest_s * 1000, 1))
            except (SQLAlchemyError, EngineError, OSError) as exc:
                _log.warning("fetch_log.not_swept", error=type(exc).__name__)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.every_s):  # `wait_for` of Python 3.11 can swallow a cancellation
                    await self._woken.wait()
            self._woken.clear()

    async def sweep(self, now: dt.datetime) -> int:
        """Delete what is older than its account keeps it; returns how many events. 0 when another node is at it."""
        async with self.database.sessions.begin() as session:
            if not await lease.take(session, DUTY, self._holder, now, for_s=LEASE_S):
                return 0
        async with self.database.sessions() as session:
            ends = await self._ends(session, now)
        deleted = 0
        try:
            for account_id, end in ends.items():
                if self.is_short() and self.database.sqlite_path is not None and end < now - SHORT:
                    end = now - SHORT  # noqa: PLW2901  # for this account, while it is so
                    await self._tell(account_id, end)
                deleted += await self._sweep_account(account_id, end)
        finally:
            async with self.database.sessions.begin() as session:
                await lease.release(session, DUTY, self._holder)
        return deleted

    async def _ends(self, session: AsyncSession, now: dt.datetime) -> Mapping[str | None, dt.datetime]:
        """Until when each account's events are old; under None what is nobody's."""
        ends: dict[str | None, dt.datetime] = {None: now - dt.timedelta(days=STRANGERS_DAYS)}
        for account_id, days in (await self.keeps(session)).items():
            ends[account_id] = now - dt.timedelta(days=days)
        return ends

    async def _tell(self, account_id: str | None, end: dt.datetime) -> None:
        """Record that more goes than the account's setting says; nothing where there is nothing to go."""
        async with self.database.sessions() as session:
            if account_id is None or not await _older(session, account_id, end, 1):
                return
        async with self.database.sessions.begin() as session:
            record(
                session, SYSTEM, Event.FETCH_LOG_PRUNE, resource=("fetch_log", account_id, ""), account_id=account_id,
                reason="low_disk", details={"until": rfc3339(end)},
            )  # fmt: skip

    async def _sweep_account(self, account_id: str | None, end: dt.datetime) -> int:
        loop = asyncio.get_running_loop()
        deleted, renewed_at = 0, loop.time()
        while True:
            async with self.database.sessions() as session:  # what to delete is found without the writer's turn
                old = await _older(session, account_id, end, self._batch)
            if not old:
                return deleted
            async with self.database.sessions.begin() as session:
                started = loop.time()
                await session.execute(delete(ProvisioningEvent).where(ProvisioningEvent.id.in_(old)))
                if started - renewed_at > LEASE_S / 4:
                    renewed_at = started
                    if not await lease.take(session, DUTY, self._holder, utc_now(), for_s=LEASE_S):
                        return deleted
            took = loop.time() - started
            self._batch = _next_batch(len(old), took)
            self.longest_s = max(self.longest_s, took)
            deleted += len(old)
            await asyncio.sleep(max(PAUSE_S, took))


def _next_batch(deleted: int, took_s: float) -> int:
    """As many as fit into `HELD_S` by the last batch's pace, and at most twice as many as that one."""
    paced = int(deleted * HELD_S / max(took_s, 0.001))
    return max(LEAST_BATCH, min(MOST_BATCH, 2 * deleted, paced))


async def _older(session: AsyncSession, account_id: str | None, end: dt.datetime, limit: int) -> list[str]:
    """The oldest events of the account. Identifiers sort by time, so the account's index finds them in order."""
    whose = ProvisioningEvent.account_id.is_(None) if account_id is None else ProvisioningEvent.account_id == account_id
    query = select(ProvisioningEvent.id, ProvisioningEvent.at).where(whose).order_by(ProvisioningEvent.id).limit(limit)
    return [event_id for event_id, at in await session.execute(query) if at < end]


async def events_held(session: AsyncSession, account_id: str, most: int) -> tuple[int, dt.datetime | None]:
    """How many events the account's fetch log holds, `most` at most, and when the oldest was."""
    own = select(ProvisioningEvent.id).where(ProvisioningEvent.account_id == account_id)
    count = await session.scalar(select(func.count()).select_from(own.limit(most).subquery())) or 0
    oldest = select(ProvisioningEvent.at).where(ProvisioningEvent.account_id == account_id)
    return count, await session.scalar(oldest.order_by(ProvisioningEvent.id).limit(1))
