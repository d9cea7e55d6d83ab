"""The alert board: what changes about emergency calls, handed to every page that watches, as it is committed.

Theory of operation. One board for a node, however many pages watch. A commit of this process that touched a call wakes
it at once; what other nodes or processes committed it finds by one look a second at the calls that changed lately. It
reads each changed call once and hands it to the watchers of its account. A watcher has a bounded queue of its own: one
that does not read is told to begin anew, and costs nobody else anything.

Nothing is lost between a watcher's first look and its first event, nor while it was away: reading the present state
and joining the watchers happen under the lock under which changes are handed out. A watcher that comes back names the
last event it had. When the board still has what followed, it gets that; else the present state, which holds all that
it missed. Changes are whole states of a call, so that hearing one twice does no harm.

None of this is on a call's way: the board reads what has been recorded.
"""

import asyncio
import contextlib
import datetime as dt
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy import event as sql_event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from engine.db import Database, utc_now
from engine.e911 import store_calls
from engine.errors import EngineError, TooManyRequests
from engine.models import EmergencyCall

LOOK_EVERY_S = 1.0
OVERLAP = dt.timedelta(seconds=30)  # clocks of nodes differ, and a commit comes after the time it wrote
KEPT = 500  # changes that a watcher who was away can still be given one by one
MAX_QUEUED = 100  # changes that a watcher has not read; then it begins anew
MAX_WATCHERS = 500  # of a node: each is an open connection
RESERVED = 50  # of them, for displays and for accounts that nobody watches yet: no account blinds another
MAX_OF_ONE = 10  # of one session or key: a browser holds six connections to a host
MAX_OF_ACCOUNT = 100
DISPLAYS_OF_ACCOUNT = 10  # of them, for its displays alone: nobody sits there who could close something
POLL_S = 15  # when a page that may not watch asks again
_MEANS = (
    f"This page asks every {POLL_S} seconds instead, so that a call may show that much later; "
    "emergency calls and the mails about them go out all the same."
)
_CHANGED = "changed_calls"
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Change:
    """A call as it is now. `number` counts the board's changes; `cursor` names this one to whoever comes back."""

    number: int
    cursor: str
    call: EmergencyCall


@dataclass(frozen=True, slots=True)
class Opening:
    """What a watcher is told first. `is_whole`: `calls` is all there is to know, not only what came since."""

    calls: Sequence[EmergencyCall]
    cursor: str
    is_whole: bool


@dataclass(eq=False, slots=True)
class Watcher:
    """One page that watches. `changes` is bounded; None in it: begin anew (`AlertBoard.look_again`) or end."""

    account_id: str
    holder: str = ""
    changes: "asyncio.Queue[Change | None]" = field(default_factory=lambda: asyncio.Queue(MAX_QUEUED + 1))
    is_behind: bool = False


class AlertBoard:
    """One for a node. `run` until cancelled; `close` lets every watcher go.

    Args:
        now: UTC, for tests.
    """

    def __init__(
        self,
        database: Database,
        *,
        every_s: float = LOOK_EVERY_S,
        max_watchers: int = MAX_WATCHERS,
        now: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self.is_closed = False
        self._database, self._every_s, self._now = database, every_s, now
        self._max_watchers = max_watchers
        self._life = secrets.token_hex(4)  # cursors of another life name nothing here
        self._number = 0
        self._kept: deque[Change] = deque(maxlen=KEPT)
        self._watchers: set[Watcher] = set()
        self._touched: set[str] = set()
        self._known: dict[str, dt.datetime | None] = {}  # calls changed lately, and the change that was handed out
        self._since = now() - OVERLAP
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._listen()

    @property
    def watchers(self) -> int:
        return len(self._watchers)

    # ------------------------------------------------------------------------------------------ watching

    async def join(
        self, account_id: str, last: str = "", *, holder: str = "", is_display: bool = False
    ) -> tuple[Watcher, Opening]:
        """Begin to watch an account's calls. `last`: the cursor of the last change that was seen, if any. `holder`: the
        session or key that watches; empty: none that is counted.

        Raises:
            TooManyRequests: this node has as many watchers as it takes, or of that account or holder.
        """
        async with self._turn:
            if self.is_closed:
                raise TooManyRequests("This server is being stopped; emergency calls go on.", retry_after_s=2)
            if crowd := self._crowd(account_id, holder, is_display=is_display):
                raise TooManyRequests(f"{crowd} {_MEANS}", retry_after_s=POLL_S)
            opening = await self._opening(account_id, last)
            watcher = Watcher(account_id, holder)
            self._watchers.add(watcher)
            return watcher, opening

    def _crowd(self, account_id: str, holder: str, *, is_display: bool) -> str:
        """Why one more may not watch; empty when it may."""
        account = [one for one in self._watchers if one.account_id == account_id]
        if holder and sum(one.holder == holder for one in account) >= MAX_OF_ONE:
            return f"{MAX_OF_ONE} pages watch calls with this session or key already. Close some."
        if len(account) >= MAX_OF_ACCOUNT - (0 if is_display else DISPLAYS_OF_ACCOUNT):
            return "Too many pages of this account watch calls. Close some."
        is_first = is_display or not account
        kept_free = 0 if is_first else min(RESERVED, self._max_watchers // 10)
        if len(self._watchers) >= self._max_watchers - kept_free:
            return "Too many pages watch calls on this server. Close some."
        return ""

    async def present(self, account_id: str) -> Opening:
        """All there is to know now, for a page that may not watch and asks again and again."""
        return await self._opening(account_id, "")

    async def look_again(self, watcher: Watcher) -> Opening:
        """All there is to know now, for a watcher that did not keep up."""
        async with self._turn:
            while not watcher.changes.empty():
                watcher.changes.get_nowait()
            watcher.is_behind = False
            return await self._opening(watcher.account_id, "")

    def leave(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    def close(self) -> None:
        """Let every watcher go; their connections end."""
        self.is_closed = True
        for watcher in self._watchers:
            _put(watcher, None)

    async def _opening(self, account_id: str, last: str) -> Opening:
        cursor = f"{self._life}-{self._number}"
        missed = self._after(account_id, last)
        if missed is not None:
            return Opening([change.call for change in missed], cursor, is_whole=False)
        async with self._database.sessions() as session:
            calls = await store_calls.calls_to_watch(session, account_id, self._now())
        return Opening(calls, cursor, is_whole=True)

    def _after(self, account_id: str, last: str) -> list[Change] | None:
        """The account's changes since that one; None when the board no longer knows them all."""
        life, _, text = last.partition("-")
        if life != self._life or not (text.isascii() and text.isdigit()):
            return None
        number = int(text)
        first_kept = self._kept[0].number if self._kept else self._number + 1
        if number > self._number or number + 1 < first_kept:
            return None
        return [change for change in self._kept if change.number > number and change.call.account_id == account_id]

    # ------------------------------------------------------------------------------------------ handing out

    async def run(self) -> None:
        """Until cancelled. Never raises for a database that is away: it looks again, from where it was."""
        while True:
            self._wake.clear()
            try:
                await self.look()
            except (SQLAlchemyError, OSError, EngineError) as exc:
                _log.warning("alerts_wait", error=type(exc).__name__, meaning="pages show calls again when it is back")
                await asyncio.sleep(self._every_s)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._wake.wait()

    async def look(self) -> int:
        """Hand out what changed since the last look; returns how many changes that were."""
        async with self._turn:
            touched, self._touched = self._touched, set()
            started = self._now()
            try:
                async with self._database.sessions() as session:
                    changed = await store_calls.calls_changed(session, self._since - OVERLAP, touched)
            except BaseException:
                self._touched |= touched
                raise
            # a look may see a commit before this process is told of it: what it told then is not told again
            fresh = [call for call in changed if self._is_new(call)]
            for call in fresh:
                self._hand_out(call)
            self._known = {call.id: call.changed_at for call in changed}
            self._since = started
            return len(fresh)

    def _is_new(self, call: EmergencyCall) -> bool:
        return call.id not in self._known or self._known[call.id] != call.changed_at

    def _hand_out(self, call: EmergencyCall) -> None:
        self._number += 1
        change = Change(self._number, f"{self._life}-{self._number}", call)
        self._kept.append(change)
        for watcher in self._watchers:
            if watcher.account_id == call.account_id and not watcher.is_behind:
                _put(watcher, change)

    def _listen(self) -> None:
        """Be woken by every commit of this process that touched a call, and by none that was rolled back."""

        def flushing(session: Session, _context: object = None, _instances: object = None) -> None:
            for row in (*session.new, *session.dirty):
                if isinstance(row, EmergencyCall):
                    session.info.setdefault(_CHANGED, set()).add(row.id)

        def committed(session: Session) -> None:
            if changed := session.info.pop(_CHANGED, None):
                self._touched |= changed
                self._wake.set()

        def rolled_back(session: Session) -> None:
            session.info.pop(_CHANGED, None)

        for name, listener in (
            ("before_flush", flushing), ("after_commit", committed), ("after_rollback", rolled_back),
        ):  # fmt: skip
            sql_event.listen(self._database.session_class, name, listener)


def _put(watcher: Watcher, change: Change | None) -> None:
    """Queue it; a watcher that is too far behind is told so instead. One place is kept for that word."""
    if change is not None and watcher.changes.qsize() < MAX_QUEUED:
        watcher.changes.put_nowait(change)
        return
    watcher.is_behind = True
    with contextlib.suppress(asyncio.QueueFull):
        watcher.changes.put_nowait(None)
