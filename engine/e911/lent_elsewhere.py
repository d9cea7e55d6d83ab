"""Which numbers other nodes lent to whom: a PSAP calls back by whichever node its carrier chooses.

What a call went out with is in its record, within moments of the call. Twice a second each node reads the new ones in
the database that it shares with the others, and writes them to a file beside those of its own SIP processes (`loans`),
which read on there: from then on they know the caller, whatever becomes of the database or of the node that lent the
number. Nodes on SQLite have nobody to share with.
"""

import asyncio
import datetime as dt
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.e911 import store_loans
from engine.e911.lending import Lending
from engine.e911.loans import LoanFiles

NAME = "other-nodes"
LOOK_S = 0.5
PAUSE_AFTER_FAULT_S = 2.0
LONGEST_HOLD = dt.timedelta(days=1)  # an account's `elin_hold_minutes` is no more
OVERLAP = dt.timedelta(minutes=5)  # commits come late, and nodes' clocks differ; what is known is passed over
_log = structlog.get_logger()


class LentElsewhere:
    """Follows the records of calls. `folder`: the node's data folder; `fault`: why it cannot, empty if all is well."""

    def __init__(self, database: Database, keys: KeyRing, folder: Path) -> None:
        self.fault = ""
        self._database, self._lending = database, Lending()
        self._files = LoanFiles(folder, keys, self._lending, name=NAME, on_fault=self._note)
        self._changed_at: dt.datetime | None = None

    async def run(self) -> None:
        """Until cancelled. Never raises for a database that is away."""
        if self._database.sqlite_path is not None:
            return
        await asyncio.to_thread(self._files.load, utc_now())
        try:
            while True:
                try:
                    await self.look()
                except (SQLAlchemyError, OSError) as exc:
                    self._note(
                        f"{type(exc).__name__}: callers of other nodes are not learned; calls back may miss them"
                    )
                    await asyncio.sleep(PAUSE_AFTER_FAULT_S)
                await asyncio.sleep(LOOK_S)
        finally:
            await asyncio.to_thread(self._files.close)

    async def look(self) -> None:
        """Learn what calls were recorded since the last look, and have it written."""
        now = utc_now()
        self._files.tick(now)  # first what this node's own processes lent: nobody needs that twice
        since = now - LONGEST_HOLD if self._changed_at is None else self._changed_at - OVERLAP
        async with self._database.sessions() as session:
            loans, self._changed_at = await store_loans.lent_since(session, since, now - LONGEST_HOLD)
        for loan in loans:
            known = self._lending.loan_of(loan.number, now)
            if loan.until > now and (known is None or (known.call != loan.call and known.until < loan.until)):
                self._lending.lend(loan)
        self._files.tick(now)
        if not self._files.fault:
            self._note("")

    def _note(self, fault: str) -> None:
        if fault != self.fault:
            self.fault = fault
            if fault:
                _log.warning("loans_of_others_unread", detail=fault)
