"""What the SIP process says of the trunks, put on their rows for the pages. No call is routed by it."""

import asyncio

import structlog
from sqlalchemy.exc import SQLAlchemyError

from engine.db import Database, utc_now
from engine.errors import DatabaseAway
from engine.models import Trunk

PAUSE_AFTER_FAULT_S = 1.0
_log = structlog.get_logger()


class TrunkStates:
    """`note` from the edge's line, `run` as a task. A newer word replaces one that was not written yet."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: dict[str, bool] = {}
        self._wake = asyncio.Event()

    def note(self, trunk_id: str, is_up: bool) -> None:
        self._noted[trunk_id] = is_up
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. Never raises for a database that is away."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            noted, self._noted = self._noted, {}
            try:
                await self._write(noted)
            except (SQLAlchemyError, DatabaseAway) as exc:
                _log.warning("trunk_states_not_written", error=type(exc).__name__)
                self._noted = noted | self._noted
                self._wake.set()
                await asyncio.sleep(PAUSE_AFTER_FAULT_S)

    async def _write(self, noted: dict[str, bool]) -> None:
        async with self._database.sessions.begin() as session:
            for trunk_id, is_up in noted.items():
                trunk = await session.get(Trunk, trunk_id)
                if trunk is not None:  # else it was deleted meanwhile
                    trunk.is_up, trunk.checked_at = is_up, utc_now()
