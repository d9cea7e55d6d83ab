"""The outbox's other way out: POSTs waiting messages to webhooks.

Theory of operation. As `engine.e911.notify`: due rows are claimed under a lease, sent outside any transaction, noted
with what the other side said; back-off grows to ten minutes and a row is given up after three days. Every message has a
task of its own, and one webhook takes at most a few of them at a time, so that an endpoint which hangs delays nobody
else's. It shares nothing with the mails: neither waits for the other, and no call waits for either.
"""

import asyncio
import contextlib
import datetime as dt
import random
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import select

from engine.db import Database, utc_now
from engine.e911 import store_outbox, webhook_message
from engine.e911.calls import raise_if_cancelled
from engine.e911.retries import Patience, Try, Verdict
from engine.e911.webhooks import Tried, keys_of
from engine.ids import new_id
from engine.models import WEBHOOKS, Account, Notification, Webhook
from engine.outbound import Outbound, Unreachable, post

MAX_AT_ONCE = 30
MAX_TRIED = 20  # of them: the other places are kept for what was never tried, however many endpoints hang
MAX_LOOKED_AT = 300
MAX_OF_ONE = 4  # to one webhook at a time
POLL_S = 1.0
LEASE = dt.timedelta(seconds=90)
WITHIN_S = 15.0
FINISH_WITHIN_S = 5.0
PAUSE_AFTER_FAULT_S = 1.0
GONE = 410  # the receiver wants no more of it, as Standard Webhooks has it
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that is ours to send."""

    id: str
    webhook_id: str
    body: bytes
    tries: int
    created_at: dt.datetime


class WebhookCourier:
    """Sends what waits. `run` until cancelled, then finishes what is on its way and releases the rest.

    Args:
        tls: What certificates are checked against; None: the system's authorities.
    """

    def __init__(
        self,
        database: Database,
        outbound: Outbound,
        *,
        patience: Patience | None = None,
        tls: ssl.SSLContext | None = None,
        poll_s: float = POLL_S,
        within_s: float = WITHIN_S,
        now: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self.id = new_id("notification")  # this process's name on the rows it has claimed
        self._database, self._outbound, self._tls = database, outbound, tls
        self._patience, self._poll_s, self._within_s, self._now = patience or Patience(), poll_s, within_s, now
        self._tasks: dict[asyncio.Task[None], Claimed] = {}
        self._wake = asyncio.Event()
        self._is_stopping = False

    def wake(self) -> None:
        """There may be new rows."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. Never raises for a database or an endpoint that is away."""
        try:
            while True:
                self._wake.clear()
                try:
                    for claimed in await self._claim_due():
                        task = asyncio.create_task(self._carry(claimed), name="webhook")
                        self._tasks[task] = claimed
                        task.add_done_callback(self._forget)
                except Exception as exc:  # noqa: BLE001  # a database that is away must not end the loop
                    _log.warning("webhooks_not_claimed", error=type(exc).__name__)
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
            _log.warning("webhook_claims_not_released", error=type(exc).__name__)

    async def _claim_due(self) -> list[Claimed]:
        """Make due rows ours for the length of a lease; a fresh call's before those that were tried already."""
        room = MAX_AT_ONCE - len(self._tasks)
        busy = Counter(claimed.webhook_id for claimed in self._tasks.values())
        tried = sum(claimed.tries > 0 for claimed in self._tasks.values())
        if room <= 0:
            return []
        now = self._now()
        due = store_outbox.in_turn(
            *store_outbox.is_due(WEBHOOKS, now),
            Notification.recipient.not_in([one for one, count in busy.items() if count >= MAX_OF_ONE]),
            at_most_each=MAX_OF_ONE,
        ).add_columns(Notification.recipient, Notification.tries)
        async with self._database.sessions() as session:  # an idle node asks every second: not as a writer
            if (await session.execute(due.limit(1))).first() is None:
                return []
        async with self._database.sessions.begin() as session:
            ids = list[str]()
            locked = due.limit(MAX_LOOKED_AT).with_for_update(skip_locked=True, of=Notification)
            for identity, webhook_id, tries in await session.execute(locked):
                if busy[webhook_id] < MAX_OF_ONE and len(ids) < room and (not tries or tried < MAX_TRIED):
                    busy[webhook_id] += 1
                    tried += tries > 0
                    ids.append(identity)
            await store_outbox.claim(session, self.id, ids, now + LEASE)
            rows = await session.scalars(select(Notification).where(Notification.id.in_(ids)))
            return [Claimed(row.id, row.recipient, row.body.encode(), row.tries, row.created_at) for row in rows]

    async def _carry(self, claimed: Claimed) -> None:
        try:
            outcome = await self._send(claimed)
        except Exception as exc:  # noqa: BLE001  # one strange endpoint must not end the courier
            _log.error("webhook_stumbled", error=f"{type(exc).__name__}: {exc}")
            outcome = Try(Verdict.LATER, type(exc).__name__)
        while not await self._settle(claimed, outcome):
            await asyncio.sleep(PAUSE_AFTER_FAULT_S)
            if self._is_stopping:
                break

    async def _send(self, claimed: Claimed) -> Try:
        async with self._database.sessions() as session:
            webhook = await session.get(Webhook, claimed.webhook_id)
            if webhook is None:
                return Try(Verdict.NEVER, "The webhook was removed.")
            if not webhook.enabled:
                return Try(Verdict.NEVER, "The webhook was switched off.")
            url, keys = webhook.url, keys_of(webhook, self._now())
        headers = webhook_message.headers_of(keys, claimed.id, self._now(), claimed.body)
        try:
            said = await post(self._outbound, url, claimed.body, headers, within_s=self._within_s, tls=self._tls)
        except Unreachable as exc:
            return Try(Verdict.LATER, exc.detail)
        return verdict_on(said.status, said.words)

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
                webhook = await session.get(Webhook, claimed.webhook_id, with_for_update=True)
                if webhook is not None:
                    webhook.tried_at, webhook.tried_ok = now, outcome.verdict is Verdict.SENT
                    webhook.tried_words = (outcome.words or "Taken.")[:300]
        except Exception as exc:  # noqa: BLE001  # whatever it is, it is the database's
            _log.warning("webhook_not_settled", error=type(exc).__name__)
            return False
        if outcome.verdict is not Verdict.SENT:
            _log.warning("webhook_not_taken", notification_id=claimed.id, tries=tries, said=outcome.words)
        return True


def verdict_on(status: int, words: str) -> Try:
    """What an answer's status means: 2xx is taken, 410 is no for ever, all else is tried again."""
    said = f"{status}{f' {words}' if words else ''}"
    if 200 <= status < 300:
        return Try(Verdict.SENT, said)
    return Try(Verdict.NEVER if status == GONE else Verdict.LATER, f"It answered {said}")


async def send_test(
    outbound: Outbound, account: Account, url: str, keys: tuple[str, ...], *, tls: ssl.SSLContext | None = None
) -> Tried:
    """POST a signed test once. Never raises for an endpoint that is away."""
    now, identity = utc_now(), new_id("notification")
    body = webhook_message.body_of_test(identity, account.id, account.name, now).encode()
    try:
        said = await post(
            outbound, url, body, webhook_message.headers_of(keys, identity, now, body), within_s=WITHIN_S, tls=tls
        )
    except Unreachable as exc:
        return Tried(False, exc.detail, utc_now())
    outcome = verdict_on(said.status, said.words)
    return Tried(outcome.verdict is Verdict.SENT, outcome.words, utc_now())
