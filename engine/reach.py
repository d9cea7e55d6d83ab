"""What the admin side sees of the SIP process: its state, and phones that can be asked to fetch their files again."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_object_session

from admin.context import EdgeState, FleetState
from engine.accounts import store as accounts_store
from engine.db import Database, utc_now
from engine.edge.link import EdgeLink
from engine.errors import Conflict, EngineError
from engine.ids import new_id
from engine.models import Phone, ProvisioningEvent
from engine.provisioning import runs, store_resync
from engine.provisioning import store as provisioning_store
from engine.provisioning.resync import AWAY, NOT_SENT, Fleet, Resync, Resyncer, meaning, plan
from engine.provisioning.vendors import known

STATS_WITHIN_S = 0.5
MAX_WAITING = 20  # of all fleets, in the queue for their turn: whoever presses one phone's button waits for no more
LAST_WORD_S = 3.0
MAX_FLEETS = 100  # remembered, for those who ask how far they are
_log = structlog.get_logger()


@dataclass(slots=True)
class _Run:
    """How far a fleet is, without the passwords in it. `left`: the phones that have no result yet."""

    account_id: str
    phones: int
    spread_s: float
    left: set[str]
    results: Counter[str]
    is_stopped: bool = False

    @classmethod
    def of(cls, fleet: Fleet) -> "_Run":
        left = {phone_id for phone_id, _ in fleet.planned}
        results = Counter(why for _, why in fleet.refused)
        return cls(fleet.account_id, len(fleet.planned) + len(fleet.refused), fleet.spread_s, left, results)

    def told(self) -> runs.Told:
        """What every node may know."""
        facts = {"phones": self.phones, "spread_s": round(self.spread_s, 1), "results": dict(self.results)}
        state = "stopped" if self.is_stopped else runs.RUNNING if self.left else "done"
        return runs.Told(state, facts)

    def note(self, phone_id: str, result: str) -> None:
        self.left.discard(phone_id)
        self.results[result] += 1


class Reach:
    """The admin side's Edge. A NOTIFY is planned in the request, sent after it, and its result joins the fetch log and
    the phone's own row.
    """

    def __init__(self, edge: EdgeLink, database: Database) -> None:
        self._edge, self._database = edge, database
        self._resyncer = Resyncer(edge.notify)
        self._queue = asyncio.Semaphore(MAX_WAITING)
        self._sending: set[asyncio.Task[None]] = set()
        self._following: set[asyncio.Task[None]] = set()
        self._fleets: OrderedDict[str, _Run] = OrderedDict()

    def state(self) -> EdgeState:
        now = self._edge.state
        return EdgeState(
            now.is_up,
            now.udp or None,
            now.tcp or None,
            {key: one.is_up for key, one in now.trunks.items()},
            now.tls or None,
            self._edge.workers,
        )

    async def counters(self) -> Mapping[str, object]:
        """The edge's numbers; {} when it does not answer in time, so that a scrape never waits for SIP."""
        try:
            return await self._edge.stats(STATS_WITHIN_S)
        except (TimeoutError, EngineError, OSError):
            return {}

    async def resync(self, phone: Phone) -> None:
        """Plan the NOTIFY and hand it over for sending.

        Raises:
            Conflict: there is no way to this phone yet; the sentence says what to do.
        """
        session = async_object_session(phone)
        assert session is not None, "the phone comes from the request's own session"
        planned = await self._plan(session, phone)
        self._spawn(self._ask_one(planned, phone.account_id, phone.id))

    def resync_fleet(self, fleet: Fleet) -> None:
        """Ask many phones, one after another; `note_waiting` has put on each that its turn is to come."""
        run = self._fleets[fleet.id] = _Run.of(fleet)
        while len(self._fleets) > MAX_FLEETS:
            self._fleets.popitem(last=False)
        self._spawn(self._ask_all(fleet, run))
        following = runs.follow(self._database, fleet.id, fleet.account_id, runs.RunKind.RESYNC, run.told)
        self._following.add(task := asyncio.create_task(following, name="resync's row"))
        task.add_done_callback(self._following.discard)

    def fleet(self, fleet_id: str, account_id: str) -> FleetState | None:
        """How far it is; None when this process has none of that id, or not any more."""
        run = self._fleets.get(fleet_id)
        if run is None or run.account_id != account_id:
            return None
        return FleetState(run.phones, dict(run.results), run.spread_s)

    async def resync_phones(self, account_id: str, phone_ids: Sequence[str]) -> None:
        """Ask those phones without anybody's request: what moves them to another URL does."""
        async with self._database.sessions.begin() as session:
            fleet = await store_resync.fleet_of(session, account_id, phone_ids, fleet_id=new_id("resync"))
            await store_resync.note_waiting(session, fleet, utc_now())
        self.resync_fleet(fleet)

    async def close(self) -> None:
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        for run in self._fleets.values():
            run.is_stopped = bool(run.left)
        if self._following:  # each says once more how far it came
            await asyncio.wait(self._following, timeout=LAST_WORD_S)
        for task in list(self._following):
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        unsent = [phone_id for run in self._fleets.values() for phone_id in run.left]
        if not unsent:
            return
        try:
            async with self._database.sessions.begin() as session:
                for phone_id in unsent:
                    await store_resync.note_result(session, phone_id, NOT_SENT, utc_now())
        except (SQLAlchemyError, OSError, EngineError) as exc:
            _log.warning("resyncs_unsent", phones=len(unsent), error=type(exc).__name__)

    async def _plan(self, session: AsyncSession, phone: Phone) -> Resync:
        keys = await provisioning_store.keys_of(session, phone.id)
        if not keys:
            raise Conflict(
                "This phone has no line, so no NOTIFY can be addressed to it. Assign one or restart it by hand."
            )
        line, pbx = await provisioning_store.line_of(session, phone.account_id, keys[0].line_id), None
        if line.pbx_id is not None:
            pbx = await accounts_store.pbx_by_id(session, phone.account_id, line.pbx_id)
        else:
            page = await accounts_store.pbxs_of(session, phone.account_id)
            pbx = page[0] if len(page) == 1 else None
        return plan(known().profiles[phone.vendor], store_resync.destination_of(line, pbx, phone.last_ip))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="resync")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _ask_all(self, fleet: Fleet, run: _Run) -> None:
        async with asyncio.TaskGroup() as group:
            for phone_id, planned in fleet.in_turn:
                await self._queue.acquire()
                group.create_task(self._ask_of(run, phone_id, planned))
        _log.info("resync_fleet", phones=len(fleet.planned), fleet=fleet.id)

    async def _ask_of(self, run: _Run, phone_id: str, planned: Resync) -> None:
        try:
            await self._resyncer.wait(planned)
        finally:
            self._queue.release()
        run.note(phone_id, await self._ask(planned, run.account_id, phone_id))

    async def _ask_one(self, planned: Resync, account_id: str, phone_id: str) -> None:
        await self._resyncer.wait(planned)
        await self._ask(planned, account_id, phone_id)

    async def _ask(self, planned: Resync, account_id: str, phone_id: str) -> str:
        """Send it now and put what came of it on the phone; returns that in words."""
        started = asyncio.get_running_loop().time()
        try:
            status = await self._resyncer.deliver(planned)
            said = meaning(status)
        except EngineError:
            status, said = 503, AWAY
        duration_us = int((asyncio.get_running_loop().time() - started) * 1e6)
        _log.info("resync", device_id=phone_id, status=status)
        try:
            await self._keep(planned, account_id, phone_id, status, said, duration_us)
        except (SQLAlchemyError, OSError, EngineError) as exc:  # the phone was asked all the same, and so are the next
            _log.warning("resync_not_kept", device_id=phone_id, error=type(exc).__name__)
        return said

    async def _keep(
        self, planned: Resync, account_id: str, phone_id: str, status: int, said: str, duration_us: int
    ) -> None:
        async with self._database.sessions.begin() as session:
            if await session.get(Phone, phone_id) is None:
                return  # deleted meanwhile
            await store_resync.note_result(session, phone_id, said, utc_now())
            session.add(
                ProvisioningEvent(
                    id=new_id("fetch"),
                    account_id=account_id,
                    phone_id=phone_id,
                    kind="resync",
                    reason=said[:60],
                    file=planned.event,
                    method="NOTIFY",
                    status_code=status,
                    duration_us=duration_us,
                    ip=planned.host[:45],
                    at=utc_now(),
                )
            )
