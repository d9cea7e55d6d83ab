"""What waits to get into PostgreSQL's GIN indexes: put in beside the commits, not in them (decision 0031).

Theory of operation. A GIN index notes new rows in a list, and whoever makes the list longer than its limit puts all of
it in, inside their own transaction (https://www.postgresql.org/docs/15/gin-implementation.html, "GIN Fast Update
Technique"): every 500 entries one write took 55 to 150 ms more, and an import of 10,000 phones half as long again. So
the limit is high, and the node empties the list itself when some entries have come or some time has passed, in a moment
in which nobody writes. Others go on writing meanwhile. A search looks through the list, a few milliseconds at that
length. Where no node runs, autovacuum or the limit empties it.
"""

import math
import time

from sqlalchemy import text

from engine.audit.steps import step_by_step
from engine.db import Database

ENOUGH = 250  # entries: some 2 MB of the list
AT_LEAST_EVERY_S = 60.0
_INSERTED = text("SELECT pg_stat_get_tuples_inserted(to_regclass('audit_entry'))")  # by all nodes, some seconds late
_TURN = text("SELECT pg_try_advisory_xact_lock(hashtext('audit pending'))")
_EMPTY = text(  # another role's indexes are not ours to empty
    "SELECT coalesce(sum(gin_clean_pending_list(oid::regclass)), 0) FROM pg_class WHERE pg_has_role(relowner, 'USAGE') "
    "AND oid IN (to_regclass('ix_audit_entry_entry_trigram'), to_regclass('ix_audit_entry_ip_trigram'), "
    "to_regclass('ix_audit_entry_hash_beginning'))"
)


class PendingKeeper:
    """Empties the lists, for as long as the node runs. SQLite has none, nor has a server without `pg_trgm`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._inserted, self._at = 0, -math.inf

    async def run(self) -> None:
        """Until cancelled; on SQLite it ends at once."""
        if self._database.sqlite_path is not None:
            return
        await step_by_step(self._database, self._step)

    async def _step(self) -> bool:
        await self.step_if_due(time.monotonic())
        return False

    async def step_if_due(self, now: float) -> bool:
        """Empty the lists when enough entries came since, or enough time went by; whether it did.

        Args:
            now: In seconds, on a clock that is never set.
        """
        async with self._database.sessions() as session:
            inserted = await session.scalar(_INSERTED) or 0
        if inserted - self._inserted < ENOUGH and now - self._at < AT_LEAST_EVERY_S:
            return False
        await self.step()
        self._inserted, self._at = inserted, now
        return True

    async def step(self) -> int:
        """Empty the lists, unless another node is at it; how many pages they had."""
        async with self._database.sessions.begin(is_hurried=False) as session:
            return int(await session.scalar(_EMPTY) or 0) if await session.scalar(_TURN) else 0
