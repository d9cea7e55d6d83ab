"""What phones measured of their own attachment, on its way into the database: noted in memory, written in groups.

A HELD answer waits for no write, and a phone that asks every minute costs one row. What cannot be written now is
tried again; of each phone the latest counts.
"""

import asyncio
from dataclasses import dataclass, field

import structlog
from sqlalchemy.exc import SQLAlchemyError

from engine.audit.record import SYSTEM
from engine.db import Database
from engine.e911.location import Sighting
from engine.e911.sightings import record_sighting
from engine.errors import EngineError, Invalid
from engine.models import Phone, SightingSource

GATHER_S = 0.1
RETRY_S = 1.0
MAX_WAITING = 20_000
_log = structlog.get_logger()


@dataclass(slots=True)
class MeasuredSightings:
    """`note` from a request, `run` as a background task, `flush` whenever all must be written."""

    database: Database
    _waiting: dict[str, tuple[str, Sighting]] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, account_id: str, sighting: Sighting) -> None:
        """Remember it. Never waits, never fails; beyond `MAX_WAITING` phones a new one is let go: it asks again."""
        if sighting.phone_id in self._waiting or len(self._waiting) < MAX_WAITING:
            self._waiting[sighting.phone_id] = (account_id, sighting)
            self._wake.set()

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            try:
                await self.flush()
            except (SQLAlchemyError, EngineError, OSError) as exc:
                _log.warning("sightings.waiting", phones=len(self._waiting), error=type(exc).__name__)
                await asyncio.sleep(RETRY_S)

    async def flush(self) -> None:
        """Write what waits in one transaction; on an error all of it waits on."""
        self._wake.clear()
        taken, self._waiting = self._waiting, {}
        try:
            async with self.database.sessions.begin() as session:
                for account_id, seen in taken.values():
                    phone = await session.get(Phone, seen.phone_id)
                    if phone is None or phone.account_id != account_id:
                        continue  # deleted meanwhile
                    try:
                        await record_sighting(
                            session, SYSTEM, account_id, phone, source=SightingSource.HELD, chassis=seen.chassis,
                            port=seen.port, bssid=seen.bssid, ip=str(seen.ip) if seen.ip is not None else None,
                            seen_at=seen.seen_at,
                        )  # fmt: skip
                    except Invalid as exc:
                        _log.warning("sighting_refused", phone_id=phone.id, detail=exc.detail)
        except BaseException:
            self._waiting = taken | self._waiting
            self._wake.set()
            raise
