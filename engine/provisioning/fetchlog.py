"""The phones' fetch log: noted in memory on the request, written in groups, the telling ones promoted to the audit log.

Equal events inside one interval become one row with a count, so a phone that hammers, or a stranger that guesses,
costs one row an interval. What was asked with a token that nobody knows is compared with the tokens rotated away when
it is written, never on the request (`retired.py`). What cannot be written now is kept and tried again; when the memory
for it is full the newest are counted and dropped, never the phone's answer.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import structlog
from sqlalchemy.exc import SQLAlchemyError

from engine.db import Database, utc_now
from engine.errors import EngineError
from engine.provisioning import retired, store_fetches
from engine.provisioning.fetches import Count, Fetch, FetchKind, Noted, in_text

FLUSH_INTERVAL_S = 0.5
GROUP = 200  # events in one transaction: what is made of them holds no phone up for longer than some 20 ms
MAX_PENDING = 20_000  # distinct events, about 20 MB
MAX_AUDITED = 100  # denials promoted at once ...
AUDITED_PER_S = 1.0  # ... and for as long as a flood lasts; the fetch log itself holds all of them
MAX_PER_STRANGER = 50  # distinct events of one address with no valid token in one interval; more are counted as one
MANY = "(many)"
STOP_TRIES = 8
_RETRY_S = (0.5, 1.0, 2.0, 5.0)
_log = structlog.get_logger()


@dataclass(slots=True)
class FetchLog:
    """`note` from the request, `run` as a background task, `flush` whenever everything must be on disk."""

    database: Database
    interval_s: float = FLUSH_INTERVAL_S
    dropped: int = 0
    on_written: Callable[[Sequence[Fetch]], None] | None = None  # told after each commit
    forward: Callable[[Sequence[Noted]], None] | None = None  # another process writes: it is told, nothing is written
    on_moved: Callable[[], None] = lambda: None  # a phone asked by another token than the last time
    _pending: dict[Fetch, Count] = field(default_factory=dict)
    _strangers: dict[str, int] = field(default_factory=dict)
    _audits_left: float = MAX_AUDITED
    _audits_at: float = 0.0
    _task: asyncio.Task[None] | None = None
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def note(self, fetch: Fetch, duration_us: int) -> None:
        """Remember an event. Costs a dictionary look-up; never waits, never fails."""
        count = self._pending.get(fetch)
        if count is None and not fetch.user_agent.isascii():
            fetch = in_text(fetch)
            count = self._pending.get(fetch)
        if count is None and fetch.account_id is None:
            fetch = self._of_a_stranger(fetch)
            count = self._pending.get(fetch)
        if count is None:
            if len(self._pending) >= MAX_PENDING:
                self.dropped += 1
                return
            count = self._pending[fetch] = Count(utc_now())
        count.count += 1
        count.duration_us += duration_us

    def take(self, noted: Sequence[Noted]) -> None:
        """Events that another process of this port has seen; counted with our own."""
        for each in noted:
            count = self._pending.get(each.fetch)
            if count is None:
                if len(self._pending) >= MAX_PENDING:
                    self.dropped += 1
                    continue
                count = self._pending[each.fetch] = Count(each.at)
            count.count += each.times
            count.duration_us += each.duration_us

    def _of_a_stranger(self, fetch: Fetch) -> Fetch:
        """The event as it is, until its address has shown too many different ones."""
        self._strangers[fetch.ip] = seen = self._strangers.get(fetch.ip, 0) + 1
        if seen <= MAX_PER_STRANGER:
            return fetch
        return fetch._replace(file=MANY, user_agent=MANY, mac="", firmware=None, evidence=(), token_index="")

    def start(self) -> None:
        self._task = asyncio.create_task(self.run(), name="fetch log")

    async def stop(self) -> None:
        """Write what is left, and end; what gives way to others on PostgreSQL is tried for some seconds."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for tries_left in reversed(range(STOP_TRIES)):
            try:
                await self.flush()
            except (SQLAlchemyError, EngineError, OSError) as exc:
                if not tries_left or not store_fetches.gave_way(exc):
                    _log.warning("fetch_log.lost", events=len(self._pending))
                    return
            else:
                return
            await asyncio.sleep(self.interval_s)

    async def run(self) -> None:
        """Flush for ever; a database that is away is tried again, ever less often."""
        failures = 0
        while True:
            await asyncio.sleep(self.interval_s if failures == 0 else _RETRY_S[min(failures, len(_RETRY_S)) - 1])
            try:
                await self.flush()
            except Exception as exc:  # noqa: BLE001  # a loop that lives as long as the process: log it and go on
                failures += 1
                _log.warning(
                    "fetch_log.waiting", events=len(self._pending), failures=failures, error=type(exc).__name__
                )
            else:
                failures = 0

    async def flush(self) -> None:
        """Write everything noted so far, in groups; on an error what is not written stays noted.

        What another flush has taken is waited for: on return it is on disk, or noted again and tried here.
        """
        async with self._writing:
            await self._write_noted()

    async def _write_noted(self) -> None:
        if not self._pending:
            return
        taken, self._pending = self._pending, {}
        self._strangers.clear()
        if self.forward is not None:
            self.forward([Noted(fetch, one.at, one.count, one.duration_us) for fetch, one in taken.items()])
            return
        try:
            while taken:
                await self._write_some(taken)
        except BaseException:
            self._put_back(taken)
            raise
        if self.dropped:
            _log.warning("fetch_log.dropped", events=self.dropped)
            self.dropped = 0

    async def _write_some(self, taken: dict[Fetch, Count]) -> None:
        """Write the first group of them, and take it away with its commit."""
        group = dict(islice(taken.items(), GROUP))
        async with self.database.sessions.begin() as session:
            told = await retired.attributed(session, group)
            has_moved = await store_fetches.write(session, told, self._worth_auditing(told))
        for fetch in group:
            del taken[fetch]
        if has_moved:
            self.on_moved()
        if self.on_written is not None:
            self.on_written(list(group))

    def _worth_auditing(self, taken: dict[Fetch, Count]) -> list[Fetch]:
        """The denials that go into the audit log too, as many as the flood guard allows now."""
        now = time.monotonic()
        self._audits_left = min(MAX_AUDITED, self._audits_left + (now - self._audits_at) * AUDITED_PER_S)
        self._audits_at = now
        denials = [
            fetch
            for fetch in taken
            if fetch.kind in {FetchKind.MISMATCH, FetchKind.HELD_DENIED}
            or (fetch.kind is FetchKind.DENIED and fetch.reason != "absent")
        ]
        promoted = denials[: int(self._audits_left)]
        self._audits_left -= len(promoted)
        return promoted

    def _put_back(self, taken: dict[Fetch, Count]) -> None:
        newer, self._pending = self._pending, taken
        for fetch, count in newer.items():
            kept = taken.get(fetch)
            if kept is None:
                taken[fetch] = count
            else:
                kept.count += count.count
                kept.duration_us += count.duration_us
