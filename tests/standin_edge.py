"""The SIP process as the admin side sees it, for tests without one: it notes what it is asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import async_object_session

from admin.context import EdgeState, FleetState
from engine.errors import EngineError
from engine.models import Phone
from engine.provisioning.resync import Fleet


@dataclass(slots=True)
class StandInEdge:
    """`workers`: which of its processes answer; `refusal`: what a resync is refused with."""

    is_up: bool = True
    workers: tuple[bool, ...] = ()
    resynced: list[str] = field(default_factory=list)
    fleets: list[Fleet] = field(default_factory=list)
    refusal: EngineError | None = None

    async def resync(self, phone: Phone) -> None:
        assert async_object_session(phone) is not None, "the way to a phone is looked up in the phone's own session"
        if self.refusal is not None:
            raise self.refusal
        self.resynced.append(phone.id)

    def resync_fleet(self, fleet: Fleet) -> None:
        self.fleets.append(fleet)

    def fleet(self, fleet_id: str, account_id: str) -> FleetState | None:
        known = [fleet for fleet in self.fleets if (fleet.id, fleet.account_id) == (fleet_id, account_id)]
        return FleetState(len(known[0].planned), {"accepted": len(known[0].planned)}, 0.0) if known else None

    def state(self) -> EdgeState:
        return EdgeState(self.is_up, "0.0.0.0:5060", "0.0.0.0:5060", {}, workers=self.workers)

    async def counters(self) -> Mapping[str, object]:
        return {"calls_unanswered": 2, "refused": {"stranger_403": 7}} if self.is_up else {}
