"""Watches the canary groups of all roll-outs: asks their phones to fetch, stops what does harm, publishes what went
well where that was asked for.

One node watches at a time (`engine.provisioning.lease`); another takes over within half a minute of its end. What it
has to do stands in the database, so that a restart forgets nothing: a phone was asked when its `resync_at` lies behind
the roll-out's beginning.
"""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.record import SYSTEM
from engine.db import Database, utc_now
from engine.errors import Conflict, EngineError, Invalid
from engine.ids import new_id
from engine.models import Rollout, RolloutState
from engine.provisioning import canary, lease, rollout, store_rollouts
from engine.provisioning.canary import CanaryPhone, Verdict
from engine.provisioning.overrides import Examined

DUTY = "rollouts"
ASK_WITHIN = dt.timedelta(hours=1)  # after its end; later its phones have come by themselves or are off
EVERY_S = 2.0
LEASE_S = 30.0
ASK_AGAIN_S = 300.0  # a phone that no resync reached is asked again after this long
_log = structlog.get_logger()

Ask = Callable[[str, Sequence[str]], Awaitable[None]]
"""Account and phones to ask for a resync, paced as all are; never fails for a phone that cannot be reached."""
Examine = Callable[[Rollout], Awaitable[Examined]]
"""What comes of the template of a roll-out, tried anew before it is published."""


@dataclass(slots=True)
class RolloutWatch:
    """`run` as a background task; `look` once, for whoever cannot wait."""

    database: Database
    ask: Ask
    examine: Examine
    every_s: float = EVERY_S
    _holder: str = field(default_factory=lambda: new_id("lease"))
    _asked: dict[tuple[str, str], dt.datetime] = field(default_factory=dict)  # (roll-out, phone): when

    async def run(self) -> None:
        """Until cancelled. Never raises for a database that is away: phones keep what they have, and so does the
        group.
        """
        try:
            while True:
                try:
                    await self.look(utc_now())
                except Exception as exc:  # noqa: BLE001  # a loop that lives as long as the process: log it and go on
                    _log.warning("rollouts.waiting", error=type(exc).__name__, detail=str(exc)[:200])
                await asyncio.sleep(self.every_s)
        finally:
            await self._let_go()

    async def look(self, now: dt.datetime) -> None:
        """Judge every roll-out that is under way, once."""
        async with self.database.sessions() as session:
            rollouts = await store_rollouts.running(session)
            ended = await store_rollouts.unasked(session, now - ASK_WITHIN)
        if not rollouts and not ended:
            return  # nothing to watch costs two reads
        async with self.database.sessions.begin() as session:
            if not await lease.take(session, DUTY, self._holder, now, for_s=LEASE_S):
                return
        for each in rollouts:
            await self._apart(each, self._judge(each, now))
        for each in ended:
            await self._apart(each, self._ask_concerned(each, now))
        watched = {each.id for each in rollouts}
        self._asked = {key: at for key, at in self._asked.items() if key[0] in watched}

    async def _apart(self, watched: Rollout, work: Awaitable[None]) -> None:
        """One that cannot be judged now holds up no other: what does harm elsewhere is still stopped."""
        try:
            await work
        except Exception as exc:  # noqa: BLE001  # as in `run`: it is looked at again
            _log.warning("rollouts.waiting", rollout=watched.id, error=type(exc).__name__, detail=str(exc)[:200])

    async def _judge(self, watched: Rollout, now: dt.datetime) -> None:
        async with self.database.sessions() as session:
            group = await progress(session, watched, now)
        verdict, reason = canary.judge(group, rollout.limits_of(watched))
        counts = canary.counts(group)
        if verdict is Verdict.GO_ON or (verdict is Verdict.READY and not rollout.limits_of(watched).is_automatic):
            if counts != watched.counts:
                await self._store(watched.id, counts)
            await self._ask_waiting(watched, group, now)
            return
        examined = await self.examine(watched) if verdict is Verdict.READY else Examined()
        async with self.database.sessions.begin() as session:
            row = await session.get(Rollout, watched.id, with_for_update=True)
            if row is None or row.state != RolloutState.CANARY:
                return
            row.counts = counts
            if verdict is Verdict.STOP:
                await rollout.roll_back(session, SYSTEM, row, reason)
            else:
                await self._publish(session, row, examined)
        _log.info("rollout.ended", rollout=watched.id, verdict=verdict.value)
        await self._ask_concerned(row, now)

    async def _publish(self, session: AsyncSession, row: Rollout, examined: Examined) -> None:
        try:
            await rollout.publish_rollout(session, SYSTEM, row, examined)
        except (Conflict, Invalid) as exc:  # somebody changed what is published, or what it is published beside
            await rollout.roll_back(session, SYSTEM, row, str(exc))

    async def _store(self, rollout_id: str, counts: dict[str, int]) -> None:
        async with self.database.sessions.begin() as session:
            row = await session.get(Rollout, rollout_id)
            if row is not None and row.state == RolloutState.CANARY:
                row.counts = counts

    async def _ask_waiting(self, watched: Rollout, group: Sequence[CanaryPhone], now: dt.datetime) -> None:
        due = [
            phone.phone_id
            for phone in group
            if phone.reached is canary.Reached.WAITING
            and (now - self._asked.get((watched.id, phone.phone_id), dt.datetime.min.replace(tzinfo=dt.UTC)))
            > dt.timedelta(seconds=ASK_AGAIN_S)
        ]
        if due:
            await self.ask(watched.account_id, due)
        self._asked |= {(watched.id, phone_id): now for phone_id in due}

    async def _ask_concerned(self, ended: Rollout, now: dt.datetime) -> None:
        """The phones whose files are others since the end: of one that was published all that have not got it yet, of
        one taken back its first phones. Noted before they are asked: a node that dies in between asks nobody twice.
        """
        async with self.database.sessions.begin() as session:
            row = await session.get(Rollout, ended.id)
            if row is None or row.asked_at is not None:
                return
            row.asked_at = now
            phones = await store_rollouts.concerned(session, row)
        if phones:
            await self.ask(ended.account_id, phones)
        _log.info("rollout.asked", rollout=ended.id, phones=len(phones))

    async def _let_go(self) -> None:
        try:
            async with self.database.sessions.begin() as session:
                await lease.release(session, DUTY, self._holder)
        except (SQLAlchemyError, EngineError, OSError, RuntimeError):
            _log.debug("rollouts.lease_runs_out")


async def progress(session: AsyncSession, watched: Rollout, now: dt.datetime) -> tuple[CanaryPhone, ...]:
    """Each canary phone as it is now; of a roll-out that is over, as it was then."""
    signs = await store_rollouts.signs_of(session, watched)
    group = canary.phones(signs, rollout.limits_of(watched), watched.started_at, now)
    return group if watched.ended_at is None else canary.ended(group)
