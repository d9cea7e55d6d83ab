"""The outbox's other ways out: a loop that hands each waiting message of some channels to whoever carries it.

Theory of operation. As `engine.e911.notify`: due rows are claimed under a lease, sent outside any transaction, noted
with what the other side said; back-off grows to ten minutes and a row is given up after three days. Every message has a
task of its own, and one recipient takes at most a few of them at a time, so that a service which hangs delays nobody
else's. It shares nothing with the mails: neither waits for the other, and no call waits for either.
"""

import asyncio
import contextlib
import datetime as dt
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.db import Database, utc_now
from engine.e911 import store_outbox
from engine.e911.calls import raise_if_cancelled
from engine.e911.retries import Patience, Try, Verdict
from engine.ids import new_id
from engine.models import Channel, Notification

MAX_LOOKED_AT = 300
POLL_S = 1.0
FINISH_WITHIN_S = 5.0
PAUSE_AFTER_FAULT_S = 1.0
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that is ours to send."""

    id: str
    recipient: str
    subject: str
    body: str
    tries: int
    created_at: dt.datetime


class Courier(ABC):
    """Sends what waits. `run` until cancelled, then finishes what is on its way and releases the rest.

    Attributes:
        name: What the log calls it.
        max_tried: Of `max_at_once`: the other places are kept for what was never tried, however many hang.
        max_of_one: To one recipient at a time.
        lease: Longer than any try takes.
    """

    name: ClassVar[str]
    channels: ClassVar[Sequence[Channel]]
    max_at_once: ClassVar[int]
    max_tried: ClassVar[int]
    max_of_one: ClassVar[int]
    lease: ClassVar[dt.timedelta]

    def __init__(
        self,
        database: Database,
        *,
        patience: Patience | None = None,
        poll_s: float = POLL_S,
        now: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self.id = new_id("notification")  # this process's name on the rows it has claimed
        self._database, self._patience, self._poll_s, self._now = database, patience or Patience(), poll_s, now
        self._tasks: dict[asyncio.Task[None], Claimed] = {}
        self._wake = asyncio.Event()
        self._is_stopping = False

    @abstractmethod
    async def _send(self, claimed: Claimed) -> Try:
        """Try once, outside any transaction."""

    @abstractmethod
    async def _note(self, session: AsyncSession, claimed: Claimed, outcome: Try, now: dt.datetime) -> None:
        """Keep what the other side said with whoever it was."""

    def wake(self) -> None:
        """There may be new rows."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. Never raises for a database or a recipient that is away."""
        try:
            while True:
                self._wake.clear()
                try:
                    for claimed in await self._claim_due():
                        task = asyncio.create_task(self._carry(claimed), name=self.name)
                        self._tasks[task] = claimed
                        task.add_done_callback(self._forget)
                except Exception as exc:  # noqa: BLE001  # a database that is away must not end the loop
                    _log.warning("messages_not_claimed", channel=self.name, error=type(exc).__name__)
                    await asyncio.sleep(PAUSE_AFTER_FAULT_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s):
                        await self._wake.wait()
                raise_if_cancelled()
        finally:
            self._is_stopping = True
            await self._finish()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._wake.set()  # there may be more than we could hold

    async def _finish(self) -> None:
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=FINISH_WITHIN_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        try:
            async with asyncio.timeout(FINISH_WITHIN_S), self._database.sessions.begin() as session:
                await store_outbox.release(session, self.id)
        except Exception as exc:  # noqa: BLE001  # the lease ends by itself
            _log.warning("message_claims_not_released", channel=self.name, error=type(exc).__name__)

    async def _claim_due(self) -> list[Claimed]:
        """Make due rows ours for the length of a lease; a fresh call's before those that were tried already."""
        room = self.max_at_once - len(self._tasks)
        busy = Counter(claimed.recipient for claimed in self._tasks.values())
        tried = sum(claimed.tries > 0 for claimed in self._tasks.values())
        if room <= 0:
            return []
        now = self._now()
        due = store_outbox.in_turn(
            *store_outbox.is_due(self.channels, now),
            Notification.recipient.not_in([one for one, count in busy.items() if count >= self.max_of_one]),
            at_most_each=self.max_of_one,
        ).add_columns(Notification.recipient, Notification.tries)
        async with self._database.sessions() as session:  # an idle node asks every second: not as a writer
            if (await session.execute(due.limit(1))).first() is None:
                return []
        async with self._database.sessions.begin() as session:
            ids = list[str]()
            locked = due.limit(MAX_LOOKED_AT).with_for_update(skip_locked=True, of=Notification)
            for identity, recipient, tries in await session.execute(locked):
                if busy[recipient] < self.max_of_one and len(ids) < room and (not tries or tried < self.max_tried):
                    busy[recipient] += 1
                    tried += tries > 0
                    ids.append(identity)
            await store_outbox.claim(session, self.id, ids, now + self.lease)
            rows = await session.scalars(select(Notification).where(Notification.id.in_(ids)))
            return [Claimed(row.id, row.recipient, row.subject, row.body, row.tries, row.created_at) for row in rows]

    async def _carry(self, claimed: Claimed) -> None:
        try:
            outcome = await self._send(claimed)
        except Exception as exc:  # noqa: BLE001  # one strange answer must not end the courier
            _log.error("courier_stumbled", channel=self.name, error=f"{type(exc).__name__}: {exc}")
            outcome = Try(Verdict.LATER, type(exc).__name__)
        while not await self._settle(claimed, outcome):
            await asyncio.sleep(PAUSE_AFTER_FAULT_S)
            if self._is_stopping:
                break

    async def _settle(self, claimed: Claimed, outcome: Try) -> bool:
        """Note what became of a try; False while the database is away."""
        now, tries = self._now(), claimed.tries + 1
        jitter = random.random()  # noqa: S311  # spreads retries, guards nothing
        again = self._patience.next_try(outcome.verdict, tries, created_at=claimed.created_at, now=now, jitter=jitter)
        try:
            async with self._database.sessions.begin() as session:
                await store_outbox.settle(
                    session, self.id, claimed.id, outcome, tries=tries, now=now, next_try_at=again
                )
                await self._note(session, claimed, outcome, now)
        except Exception as exc:  # noqa: BLE001  # whatever it is, it is the database's
            _log.warning("message_not_settled", channel=self.name, error=type(exc).__name__)
            return False
        if outcome.verdict is not Verdict.SENT:
            _log.warning(
                "message_not_taken", channel=self.name, notification_id=claimed.id, tries=tries, said=outcome.words
            )
        return True
