"""The audit log as it is written: new entries to everybody who follows the list, by server-sent events.

Theory of operation. One task of the node asks the database what came behind the newest entry it knows, for all
accounts that anybody follows in one question, and hands each entry to the followers whose filters it meets. A follower
has a short queue; one that does not take what it is handed is dropped and its connection cut, so that nobody who is
slow makes others wait. No writer knows of any of this. A reader that comes back names the last entry it has
(`Last-Event-ID`) and gets what it missed; when that is too much, it is told to read the list anew. Who may no longer
read the log is sent away within seconds.
"""

import asyncio
import contextlib
import json
import time
import zoneinfo
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import structlog
from aiohttp import web
from aiohttp_sse import EventSourceResponse

from admin.problems import DATABASE_ERRORS
from engine.accounts.store_audit_readers import may_still_read
from engine.audit import matching, store
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.audit.store import Filters
from engine.audit.store_beginnings import begins_behind
from engine.db import Database, utc_now
from engine.errors import DatabaseAway, TooManyRequests
from engine.models import AuditEntry

POLL_S = 0.5
ALLOWED_EVERY_S = 5.0  # how long somebody who lost the right may go on
MAX_AT_ONCE = 500  # entries of one question; the next one goes on behind them
MAX_MISSED = 200  # entries that a reader who comes back is handed one by one
QUEUE = 200
MAX_FOLLOWERS = 200  # of a node
MAX_OF_ONE = 10  # of one user or key: a browser holds six connections to a host
RETRY_MS = 3_000
PING_S = 15.0
LEFT_EVERY_S = 1.0
STALL_S = 20.0  # a connection that takes nothing for this long is cut
_log = structlog.get_logger()

Row = Callable[[AuditEntry, zoneinfo.ZoneInfo], str]
"""An entry as a row of the list: HTML."""


@dataclass(frozen=True, slots=True)
class News:
    """What a follower is handed. `seq` 0: the end; `text` None: too much was missed, read the list anew."""

    seq: int
    text: str | None = None


@dataclass(slots=True, eq=False)
class Follower:
    """Somebody who follows: what they see of which chain, and by which session or API key."""

    chain: str
    filters: Filters
    zone: zoneinfo.ZoneInfo
    holder: str
    actor_id: str
    seq: int  # the newest entry they know of, or were passed by
    cut: Callable[[], None]  # ends the connection, whatever it is doing
    queue: asyncio.Queue[News] = field(default_factory=lambda: asyncio.Queue(QUEUE))
    why: str = "left"  # how it ended

    def hand(self, news: News) -> bool:
        """Put it into the queue; False: the follower is too slow and is cut off."""
        try:
            self.queue.put_nowait(news)
        except asyncio.QueueFull:
            self.why = "too_slow"
            self.cut()
            return False
        return True


class Followers:
    """All who follow on this node. `row` makes the HTML of an entry, once for all of an account."""

    def __init__(self, database: Database, row: Row, *, poll_s: float = POLL_S) -> None:
        self._database, self._row, self._poll_s = database, row, poll_s
        self._followers: set[Follower] = set()
        self._task: asyncio.Task[None] | None = None
        self._looked_at = 0.0
        self.questions = 0  # asked of the database so far

    def __len__(self) -> int:
        return len(self._followers)

    def refuse_crowd(self, actor_id: str) -> None:
        """Raises TooManyRequests: the node has as many as it takes, or this user or key has."""
        mine = sum(one.actor_id == actor_id for one in self._followers)
        if len(self._followers) >= MAX_FOLLOWERS or mine >= MAX_OF_ONE:
            raise TooManyRequests("Too many live lists are open. Close one, or reload this page now and then.")

    async def join(self, follower: Follower) -> None:
        """From now on the follower is handed what is new; first what they missed."""
        async with self._database.sessions() as session:
            follower.seq = max(follower.seq, await begins_behind(session, follower.chain))
            missed = await store.entries_behind(session, {follower.chain: follower.seq}, limit=MAX_AT_ONCE)
            fitting = [row for row in missed if matching.meets(row, follower.filters)]
            if len(missed) == MAX_AT_ONCE or len(fitting) > MAX_MISSED:
                follower.seq = (await store.heads(session, [follower.chain])).get(follower.chain, 0)
                follower.hand(News(follower.seq))
            else:
                for row in fitting:
                    follower.hand(News(row.seq, self._row(row, follower.zone)))
                follower.seq = missed[-1].seq if missed else follower.seq
        self._followers.add(follower)
        if self._task is None or self._task.done():
            self._looked_at = time.monotonic()  # whoever joins was asked just now
            self._task = asyncio.create_task(self._run(), name="audit followers")

    def leave(self, follower: Follower) -> None:
        self._followers.discard(follower)

    async def close(self) -> None:
        """Send everybody away: the node stops."""
        for follower in list(self._followers):
            self._send_away(follower, "stopped")
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """While anybody follows."""
        while self._followers:
            try:
                await self.look()
                if time.monotonic() - self._looked_at > ALLOWED_EVERY_S:
                    await self.send_away_who_may_not()
            except (*DATABASE_ERRORS, DatabaseAway) as exc:
                _log.warning("audit_followers_wait", error=type(exc).__name__, meaning="the list goes on afterwards")
            await asyncio.sleep(self._poll_s)

    async def look(self) -> None:
        """Ask once what is new, and hand it out."""
        followers = list(self._followers)
        last: dict[str, int] = {}
        for one in followers:
            last[one.chain] = min(last.get(one.chain, one.seq), one.seq)
        async with self._database.sessions() as session:
            rows = await store.entries_behind(session, last, limit=MAX_AT_ONCE)
            begins = {chain: await begins_behind(session, chain) for chain in {row.chain for row in rows}}
        self.questions += 1
        for one in followers:  # what was left behind meanwhile is no part of the log any more
            one.seq = max(one.seq, begins.get(one.chain, 0))
        made: dict[tuple[str, str], str] = {}
        for row in rows:
            for one in followers:
                if one.chain != row.chain or one.seq >= row.seq:
                    continue
                one.seq = row.seq
                if matching.meets(row, one.filters):
                    text = made.get((row.id, one.zone.key)) or self._row(row, one.zone)
                    made[row.id, one.zone.key] = text
                    if not one.hand(News(row.seq, text)):
                        self._followers.discard(one)

    async def send_away_who_may_not(self) -> None:
        """End the lists of those whose session or key ended, or who may no longer read the log."""
        self._looked_at = time.monotonic()
        holders: Collection[str] = {one.holder for one in self._followers}
        async with self._database.sessions() as session:
            allowed = await may_still_read(session, holders, utc_now())
        for one in [each for each in self._followers if each.holder not in allowed]:
            self._send_away(one, "not_allowed")

    def _send_away(self, follower: Follower, why: str) -> None:
        self._followers.discard(follower)
        follower.why = why
        follower.hand(News(0))


class LiveList(EventSourceResponse):
    """The answer: goes on until the reader leaves. That it began is the request's own entry; its end is another."""

    def __init__(self, followers: Followers, actor: Actor, follower: Follower, database: Database) -> None:
        super().__init__(sep="\n", send_timeout=STALL_S, ping_interval=PING_S)
        self.headers["Cache-Control"] = "no-store"
        self._followers, self._actor, self._follower, self._database = followers, actor, follower, database

    async def write_eof(self, data: bytes = b"") -> None:
        """The server calls this after the request's transaction is stored: here the list is sent."""
        began, sent, follower = time.monotonic(), 0, self._follower
        follower.cut = self._abort_transport
        try:
            await self._followers.join(follower)
            await self.send(json.dumps({"seq": follower.seq}), event="begin", retry=RETRY_MS)
            while self.is_connected() and not self._has_left():
                news = await self._next()
                if news is None:
                    continue
                if not news.seq:
                    break
                name = "reload" if news.text is None else "entry"
                await self.send(json.dumps({"row": news.text}), id=str(news.seq), event=name)
                sent += 1
        except (ConnectionError, TimeoutError):  # the reader left, or took nothing
            follower.why = "left" if follower.why == "left" else follower.why
        finally:
            self._followers.leave(follower)
            await self._note_end(sent, time.monotonic() - began)
            with contextlib.suppress(ConnectionError, RuntimeError):
                self.stop_streaming()
                await super().write_eof(data)

    async def _next(self) -> News | None:
        """The next news; None after a while without any, so that a reader who left is noticed."""
        try:
            async with asyncio.timeout(LEFT_EVERY_S):  # `wait_for` of Python 3.11 can swallow a cancellation
                return await self._follower.queue.get()
        except TimeoutError:
            return None

    def _has_left(self) -> bool:
        """Whether the connection is closed; a peer that is gone without a word is found by the pings."""
        transport = self._req.transport if self._req is not None else None
        return transport is None or transport.is_closing()

    async def _note_end(self, sent: int, seconds: float) -> None:
        details = {"entries": sent, "seconds": round(seconds, 1), "ended": self._follower.why}
        try:
            async with self._database.sessions.begin() as session:
                record(
                    session, self._actor, Event.AUDIT_LOG_FOLLOW_END, resource=("audit_log", "live", ""),
                    bulk_id=self._actor.request_id, account_id=self._follower.chain, details=details,
                )  # fmt: skip
        except (*DATABASE_ERRORS, DatabaseAway) as exc:
            _log.warning("live_list_end_not_audited", request_id=self._actor.request_id, why=type(exc).__name__)


FOLLOWERS: web.AppKey[Followers] = web.AppKey("followers", Followers)
