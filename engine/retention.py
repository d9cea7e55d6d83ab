"""Records leave when they are older than their account keeps them: audit entries, calls, sign-ins.

One node at a time has this duty. Everything goes oldest first, in short transactions with pauses between, sized by how
long the last one took: a call's record waits for one of them at most. Audit entries leave behind a signed beginning
(`engine.audit.pruning`), their rows an hour later, so that an export or a page that is being read stays whole.
"""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import storage, store_storage
from engine.accounts.keeping import Keeping
from engine.audit import pruning, store_beginnings
from engine.audit.checkpoints import signer_of
from engine.audit.record import PLATFORM
from engine.clock_trust import ClockTrust, are_apart
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.e911 import removal, store_removal
from engine.errors import EngineError
from engine.ids import new_id
from engine.models import AuditBeginning
from engine.provisioning import lease
from engine.provisioning.retention import HELD_S, LEASE_S, PAUSE_S

DUTY = "record_retention"
FIRST_AFTER_S, EVERY_S = 60.0, 3600.0
PRUNED_EVERY = dt.timedelta(days=1)  # one entry a day tells of it, not one an hour
SETTLE = dt.timedelta(hours=1)  # longer than any export is read
LEAST_BATCH, MOST_BATCH = 100, 1_000  # fewer than a hundred rows cost as much as a hundred: most of it is the commit
LEAST_CALLS = 5  # a call has an INVITE for each attempt, and all that was mailed of it
CLOCK = "clock"
NO_CLOCK = (
    "Nothing is removed by its age until the clock is near the last round again, or has run evenly for a day. "
    "911 calls go on. Look whether the time is set and kept right (timedatectl)."
)
NEW_CLOCK = (
    "Records that are old enough to leave stay until the clock has run evenly for a day. 911 calls go on. Nothing is "
    "to be done if that is the right time."
)
NO_PROOF = (
    "So no entry of this log leaves, and 911 calls go on. Somebody may have changed the database: export the log, "
    "verify the file, and compare it with an older export."
)
Step = Callable[[AsyncSession, int], Awaitable[int]]
_log = structlog.get_logger()


class _DutyLost(Exception):  # no error: another node goes on
    """The lease ran out and another node has the duty now."""


@dataclass(slots=True)
class Removed:
    """What one round did, in rows; `pruned`: audit entries left behind, whose rows may go later."""

    pruned: int = 0
    audit_rows: int = 0
    calls: int = 0
    sign_ins: int = 0

    @property
    def is_any(self) -> bool:
        return bool(self.pruned or self.audit_rows or self.calls or self.sign_ins)


@dataclass(slots=True)
class RecordRetention:
    """`run` as a background task; `sweep` once, for whoever wants it now.

    Args:
        platform_audit_days: For how long the platform's own chain is kept; 0: for ever.
        settle: How long rows stay after their chain began behind them.
    """

    database: Database
    keys: KeyRing
    platform_audit_days: int = 0
    settle: dt.timedelta = SETTLE
    longest_s: float = 0.0  # the longest that one step held the writer
    _holder: str = field(default_factory=lambda: new_id("lease"))
    _renewed_at: float = 0.0
    _clock: ClockTrust = field(default_factory=ClockTrust)

    async def run(self) -> None:
        """Until cancelled. Never raises for a database that is away."""
        await asyncio.sleep(FIRST_AFTER_S)
        while True:
            try:
                removed = await self.round(utc_now(), asyncio.get_running_loop().time())
                if removed.is_any:
                    _log.info(
                        "records_removed", pruned=removed.pruned, audit_rows=removed.audit_rows, calls=removed.calls,
                        sign_ins=removed.sign_ins, longest_ms=round(self.longest_s * 1000, 1),
                    )  # fmt: skip
            except (SQLAlchemyError, EngineError, OSError) as exc:
                _log.warning("records_not_removed", error=type(exc).__name__, meaning="tried again within the hour")
            await asyncio.sleep(EVERY_S)

    async def round(self, now: dt.datetime, ran_s: float) -> Removed:
        """A sweep, when the clock may be believed; else the reason stays where people look for it."""
        async with self.database.sessions() as session:
            note = await store_storage.removal_note(session, CLOCK)
            is_served = session.get_bind().dialect.name == "postgresql"
            of_server = await session.scalar(text("SELECT clock_timestamp()")) if is_served else None
        doubt = self._clock.doubt(now, ran_s, None if note is None else note.at, of_server)
        is_new = (note is None or note.at is None) and not are_apart(now, of_server)
        words = f"{doubt} {NEW_CLOCK if is_new else NO_CLOCK}" if doubt else ""
        if doubt and is_new and not await self._is_any_old(now):
            words = ""  # never compared is no fault while nothing waits for it
        async with self.database.sessions.begin() as session:
            await store_storage.set_removal_note(session, CLOCK, words, None if doubt else now)
        if words:
            _log.warning("records_not_removed", error="clock", meaning=words)
        if doubt:
            return Removed()
        return await self.sweep(now)

    async def _keepings(self) -> dict[str, Keeping]:
        """What is kept for how long, of each account and of the platform's own chain."""
        async with self.database.sessions() as session:
            keepings = dict(await store_storage.keepings(session))
        return keepings | {PLATFORM: Keeping(audit_days=self.platform_audit_days)}

    async def _is_any_old(self, now: dt.datetime) -> bool:
        """Whether anything would leave at `now`, so that a clock that is not believed holds it back."""
        for chain, keeping in (await self._keepings()).items():
            async with self.database.sessions() as session:
                audit, calls, sign_ins = (keeping.end_of(f"{one}_days", now) for one in ("audit", "call", "session"))
                if audit and await store_beginnings.older_than(session, chain, audit):
                    return True
                if chain == PLATFORM:
                    continue
                if calls and await store_removal.count_old_calls(session, chain, calls, 1):
                    return True
                if sign_ins and await store_storage.old_sign_ins(session, chain, sign_ins, 1):
                    return True
        return False

    async def sweep(self, now: dt.datetime) -> Removed:
        """Remove what is old at `now`. Nothing when another node is at it."""
        removed = Removed()
        async with self.database.sessions.begin() as session:
            if not await lease.take(session, DUTY, self._holder, now, for_s=LEASE_S):
                return removed
        self._renewed_at = asyncio.get_running_loop().time()
        try:
            keepings = await self._keepings()
            await self._forget_faults({chain for chain, one in keepings.items() if one.end_of("audit_days", now)})
            for chain, keeping in keepings.items():
                await self._remove_of(chain, keeping, now, removed)
            await self._clear(now, removed)
        except _DutyLost:
            _log.info("record_retention_taken_over")
        finally:
            async with self.database.sessions.begin() as session:
                await lease.release(session, DUTY, self._holder)
        return removed

    async def _forget_faults(self, shortened: set[str]) -> None:
        """Say no longer why a log is not shortened when nobody asks for that any more."""
        async with self.database.sessions.begin() as session:
            for note in await store_storage.removal_faults(session):
                if note.name not in shortened | {CLOCK}:
                    note.words = ""

    async def _remove_of(self, chain: str, keeping: Keeping, now: dt.datetime, removed: Removed) -> None:
        for name in ("audit_days", "call_days", "session_days"):
            days, end = getattr(keeping, name), keeping.end_of(name, now)
            if not keeping.is_valid(name):
                _log.warning("records_not_removed", chain=chain, setting=name, meaning=f"{days} days are no setting")
            if end is None:
                continue
            if name == "audit_days":
                removed.pruned += await self._alone(chain, name, self._leave_behind(chain, end, days, now))
            elif name == "call_days" and chain != PLATFORM:
                removed.calls += await self._alone(chain, name, self._remove_calls(chain, end, days))
            elif chain != PLATFORM:
                removed.sign_ins += await self._alone(chain, name, self._in_steps(_sign_ins(chain, end, days)))

    async def _alone(self, chain: str, what: str, work: Awaitable[int]) -> int:
        """That work; what is wrong with one chain's rows stops nothing of another's."""
        try:
            return await work
        except pruning.Unproved as exc:
            words = f"{exc} {NO_PROOF}"
            _log.error("audit_not_pruned", chain=chain, meaning=words)
            async with self.database.sessions.begin() as session:
                await store_storage.set_removal_note(session, chain, words)
        except (SQLAlchemyError, EngineError, OSError) as exc:
            _log.warning("records_not_removed", chain=chain, of=what, error=type(exc).__name__,
                         meaning="tried again within the hour")  # fmt: skip
        return 0

    async def _leave_behind(self, chain: str, end: dt.datetime, days: int, now: dt.datetime) -> int:
        async with self.database.sessions() as session:
            before = await store_beginnings.beginning_of(session, chain)
        if before is not None and dt.timedelta(0) <= now - before.at < PRUNED_EVERY:
            return 0
        signer = signer_of(self.keys)
        if signer is None:
            _log.warning("audit_not_pruned", meaning="nothing leaves a chain whose beginning cannot be signed")
            return 0
        prefix = await pruning.proved(self.database, signer, chain, end)
        if prefix is None:
            return 0
        async with self.database.sessions.begin() as session:
            is_done = await pruning.leave_behind(session, signer, chain, prefix, days=days)
            await store_storage.set_removal_note(session, chain, "")
        return prefix.count if is_done else 0

    async def _clear(self, now: dt.datetime, removed: Removed) -> None:
        async with self.database.sessions() as session:
            settled = await store_beginnings.beginnings_to_clear(session, now - self.settle)
        for each in settled:
            removed.audit_rows += await self._alone(each.chain, "audit rows", self._clear_behind(each))

    async def _clear_behind(self, begin: AuditBeginning) -> int:
        signer = signer_of(self.keys)
        if signer is None:
            return 0
        pruning.until_of(begin, signer)  # raises Unproved: a row that somebody put there lets nothing go
        return await self._in_steps(_audit_rows(begin.chain, begin.seq))

    async def _remove_calls(self, account_id: str, end: dt.datetime, days: int) -> int:
        """What may go is found without the writer's turn, some hundred records at a time, from the oldest on."""
        done, last = 0, None
        while True:
            async with self.database.sessions() as session:
                found = await store_removal.old_calls(session, account_id, end, last)
            if found.calls:
                done += await self._in_steps(_calls(account_id, end, days, list(found.calls)), LEAST_CALLS)
            if found.last is None:
                return done + await self._in_steps(_callbacks(account_id, end, days), LEAST_CALLS)
            last = found.last

    async def _in_steps(self, step: Step, least: int | None = None) -> int:
        """Repeat that step until it finds nothing, each in a transaction of its own; returns what all of them did.

        Args:
            least: How many a step is asked for first, and at least.
        """
        least = LEAST_BATCH if least is None else least
        loop, done, batch = asyncio.get_running_loop(), 0, least
        while True:
            async with self.database.sessions.begin() as session:
                started = loop.time()
                if started - self._renewed_at > LEASE_S / 4:
                    if not await lease.take(session, DUTY, self._holder, utc_now(), for_s=LEASE_S):
                        raise _DutyLost
                    self._renewed_at = started
                count = await step(session, batch)
            if not count:
                return done
            took = loop.time() - started
            done, self.longest_s = done + count, max(self.longest_s, took)
            paced = int(count * HELD_S / max(took, 0.001))
            batch = max(least, min(MOST_BATCH, 2 * count, paced))
            await asyncio.sleep(max(PAUSE_S, took))


def _calls(account_id: str, end: dt.datetime, days: int, found: list[store_removal.OldCall]) -> Step:
    """Takes from `found`, oldest first. One that may no longer go counts too: it was dealt with."""

    async def step(session: AsyncSession, limit: int) -> int:
        calls, found[:limit] = found[:limit], []
        if calls:
            await removal.remove_calls(session, account_id, calls, end, days=days)
        return len(calls)

    return step


def _callbacks(account_id: str, end: dt.datetime, days: int) -> Step:
    return lambda session, limit: removal.remove_callbacks(session, account_id, end, days=days, limit=limit)


def _sign_ins(account_id: str, end: dt.datetime, days: int) -> Step:
    return lambda session, limit: storage.remove_old_sign_ins(session, account_id, end, days=days, limit=limit)


def _audit_rows(chain: str, upto: int) -> Step:
    return lambda session, limit: store_beginnings.clear(session, chain, upto, limit)
