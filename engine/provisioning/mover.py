"""Brings phones to the next URL: asks those that can be asked, and cuts over when all have moved.

One pass looks at every account that is moving. What it does follows from the rows alone, so a restart, or another node,
goes on where the last one was; one node at a time has the duty (`lease.py`).
"""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy.exc import SQLAlchemyError

from engine.audit.record import SYSTEM
from engine.db import Database, utc_now
from engine.errors import Conflict, EngineError
from engine.ids import new_id
from engine.models import Account
from engine.provisioning import cutover, lease, store_cutover, store_resync
from engine.provisioning.resync import NOT_SENT

DUTY = "token_moves"
EVERY_S = 15.0
LEASE_S = 60.0
SETTLE = dt.timedelta(seconds=30)  # what a phone is given to restart, before it is asked to come by the new URL
AGAIN = dt.timedelta(hours=1)  # between two askings of a phone that does not come
MAX_AT_ONCE = 200  # asked in one pass; at ten a second the next pass finds the next
FORGOTTEN = dt.timedelta(hours=6)  # what waits for so long waits for a process that has ended
Resync = Callable[[str, Sequence[str]], Awaitable[None]]
"""Asks phones of an account, paced: (account id, phone ids)."""
_log = structlog.get_logger()


@dataclass(slots=True)
class Mover:
    """`run` as a background task; `wake` when a phone asked by another token, or a move began."""

    database: Database
    resync: Resync
    every_s: float = EVERY_S
    settle: dt.timedelta = SETTLE
    _holder: str = field(default_factory=lambda: new_id("lease"))
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled; a database that is away is tried again."""
        await self._guarded(self._let_go)
        while True:
            self._woken.clear()
            await self._guarded(self.move_on)
            try:
                async with asyncio.timeout(self.every_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def move_on(self) -> None:
        """One pass over the accounts that are moving."""
        async with self.database.sessions() as session:
            moving = await store_cutover.moving(session)
        if not moving:
            return
        async with self.database.sessions.begin() as session:
            if not await lease.take(session, DUTY, self._holder, utc_now(), for_s=LEASE_S):
                return
        for account_id in moving:
            if not await self._cut_when_all_have_moved(account_id):
                await self._ask(account_id)

    async def _cut_when_all_have_moved(self, account_id: str) -> bool:
        async with self.database.sessions() as session:
            account = await session.get(Account, account_id)
            reached = await store_cutover.progress(session, account) if account is not None else None
        if reached is None or not (reached.automatic and reached.is_complete):
            return False
        try:
            async with self.database.sessions.begin() as session:
                account = await session.get(Account, account_id)
                if account is not None:
                    await cutover.cut(session, SYSTEM, account, is_automatic=True)
        except Conflict:  # somebody was faster
            return True
        _log.info("token_cut", account_id=account_id, phones=reached.phones)
        return True

    async def _ask(self, account_id: str) -> None:
        async with self.database.sessions() as session:
            account = await session.get(Account, account_id)
            if account is None or account.next_provisioning_token_at is None:
                return
            due = await store_cutover.due_for_resync(
                session, account, utc_now(), settle=self.settle, again=AGAIN, forgotten=FORGOTTEN, limit=MAX_AT_ONCE
            )
        if due:
            await self.resync(account_id, due)

    async def _let_go(self) -> None:
        async with self.database.sessions.begin() as session:
            await store_resync.let_go(session, NOT_SENT, utc_now() - FORGOTTEN)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (SQLAlchemyError, EngineError, OSError) as exc:
            _log.warning("token_moves_wait", error=type(exc).__name__)
