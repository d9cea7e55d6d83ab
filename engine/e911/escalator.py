"""Takes the steps of escalation that are due. One loop of a node; of several nodes one takes each step.

A step waits until the call's first messages have been tried, so that nobody is told that others were silent who could
not know yet; a mail server that is away or not set up holds it up for a minute and no longer.
"""

import asyncio
import datetime as dt
from collections.abc import Callable

import structlog

from engine.audit.checkpoints import signer_of
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.e911 import escalation, store_escalation
from engine.e911.calls import raise_if_cancelled

POLL_S = 1.0
PAUSE_AFTER_FAULT_S = 1.0
MAX_LOOKED_AT = 200
FIRST_TRIED_WITHIN = dt.timedelta(seconds=60)
_log = structlog.get_logger()


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
    ) -> None:
        self._database, self._signer, self._on_told = database, signer_of(keys), on_told
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
            due = await store_escalation.due_calls(session, now, MAX_LOOKED_AT)
        taken = 0
        for call_id in due:
            taken += await self._take(call_id, now)
        if taken:
            self._on_told()
        return taken

    async def _take(self, call_id: str, now: dt.datetime) -> bool:
        async with self._database.sessions.begin() as session:
            call = await store_escalation.due_call(session, call_id, now)
            if call is None or call.escalation_due_at is None:
                return False
            is_early = now - call.escalation_due_at < FIRST_TRIED_WITHIN
            if is_early and await store_escalation.has_untried(session, call_id):
                return False
            is_taken = await escalation.take_step(session, call, now, signer=self._signer, public_url=self._public_url)
        if is_taken:
            _log.warning("emergency_call_escalated", call_id=call_id, account_id=call.account_id)
        return is_taken
