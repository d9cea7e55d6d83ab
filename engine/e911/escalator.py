"""Takes the steps of escalation that are due. One loop of a node; of several nodes one takes each step.

A step waits until the call's first messages have been tried, so that nobody is told that others were silent who could
not know yet; a mail server that is away or not set up holds it up for a minute and no longer.

What is owed stands in the database by the clock on the wall. A clock that is set back must not make a caller wait for
as long again: for each call that is owed something a node remembers what its steady clock said at that time of day.
"""

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Sequence

import structlog

from engine.audit.checkpoints import signer_of
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.e911 import escalation, store_escalation
from engine.e911.calls import raise_if_cancelled

POLL_S = 1.0
PAUSE_AFTER_FAULT_S = 1.0
MAX_LOOKED_AT = 200
FIRST_TRIED_WITHIN_S = 60.0
_log = structlog.get_logger()
Owed = tuple[str, dt.datetime]
"""A call's identifier, and when its next step is due (UTC)."""


class Countdown:
    """How long steps are overdue, whatever becomes of the clock meanwhile. Pure."""

    def __init__(self) -> None:
        self._steady_at: dict[str, float] = {}  # by call: the steady clock at 1970, by the wall clock when it was seen

    def overdue(self, owed: Sequence[Owed], now: dt.datetime, steady: float) -> dict[Owed, float]:
        """Seconds since each was due; negative while it is not. `owed`: all there is; `steady`: seconds of a clock that
        nobody sets.

        A time further ahead than any step is put off for was written before the clock was set back: it is over.
        """
        known = self._steady_at
        self._steady_at = {call_id: known.get(call_id, steady - now.timestamp()) for call_id, _ in owed}
        waited: dict[Owed, float] = {}
        for call_id, due_at in owed:
            by_wall = (now - due_at).total_seconds()
            by_steady = steady - self._steady_at[call_id] - due_at.timestamp()
            waited[call_id, due_at] = max(by_wall, by_steady) if by_wall >= -escalation.MAX_AFTER_S else 0.0
        return waited


class Escalator:
    """`run` until cancelled. `on_told`: called after each commit that made messages."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        *,
        on_told: Callable[[], None],
        public_url: str = "",
        poll_s: float = POLL_S,
        now: Callable[[], dt.datetime] = utc_now,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._signer, self._on_told = database, signer_of(keys), on_told
        self._countdown, self._steady = Countdown(), steady
        self._public_url, self._poll_s, self._now = public_url.rstrip("/"), poll_s, now

    async def run(self) -> None:
        """Never raises for a database that is away: what is due stays due."""
        while True:
            pause = self._poll_s
            try:
                await self.take_due()
            except Exception as exc:  # noqa: BLE001  # nothing may end it
                _log.warning("escalation_waits", error=type(exc).__name__)
                pause = max(pause, PAUSE_AFTER_FAULT_S)
            await asyncio.sleep(pause)
            raise_if_cancelled()

    async def take_due(self) -> int:
        """Take each step that is due; returns how many were taken."""
        now = self._now()
        async with self._database.sessions() as session:  # an idle node asks every second: not as a writer
            owed = await store_escalation.owed_calls(session, MAX_LOOKED_AT)
        waited = self._countdown.overdue(owed, now, self._steady())
        taken = 0
        for each in sorted(owed, key=lambda one: -waited[one]):
            if waited[each] >= 0:
                taken += await self._take(each, now, is_early=waited[each] < FIRST_TRIED_WITHIN_S)
        if taken:
            self._on_told()
        return taken

    async def _take(self, owed: Owed, now: dt.datetime, *, is_early: bool) -> bool:
        call_id, due_at = owed
        async with self._database.sessions.begin() as session:
            call = await store_escalation.owed_call(session, call_id, due_at)
            if call is None:
                return False
            if is_early and await store_escalation.has_untried(session, call_id):
                return False
            is_taken = await escalation.take_step(session, call, now, signer=self._signer, public_url=self._public_url)
        if is_taken:
            _log.warning("emergency_call_escalated", call_id=call_id, account_id=call.account_id)
        return is_taken
