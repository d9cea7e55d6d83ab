"""Tests every location with 933, one call after another: by plan, or when somebody asked for a round.

One node at a time has this duty (`engine.provisioning.lease`). How far a round is stands in the database, so that a
restart repeats one call at most. Calls are placed through this node's own SIP process as `callpoint call` does, proven
by the key file; they take the way of a real call to its last branch. They are paced, one at a time, and wait while a
real emergency call has no answer yet: a test is never in a caller's way (docs/decisions/0032).
"""

import asyncio
import datetime as dt
import hmac
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from sqlalchemy.exc import SQLAlchemyError

from engine.agents import Placed, Placing, place_call
from engine.audit.record import SYSTEM
from engine.config import parse_listens
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.e911 import store_tests, sweeps
from engine.e911.caller import DEVICE_HEADER, SOURCE_HEADER
from engine.e911.mail import LOCATION_DROPPED
from engine.e911.peers import PROOF_HEADER, PROOF_PURPOSE, make_proof
from engine.e911.sweep import (
    CALL_ID_MARK,
    FAILURES,
    NO_TEST_LINE_WORDS,
    SKIPPED,
    Judged,
    Outcome,
    TestCaller,
    judge,
)
from engine.errors import Conflict, EngineError
from engine.ids import new_id
from engine.models import Account, EmergencyCall, Location, Sweep, SweepState
from engine.provisioning import lease

DUTY = "sweeps"
TEST_NUMBER = "933"
EVERY_S = 5.0
LEASE_S = 120.0
PACE_S = 10.0  # between two calls: a carrier's test line reads an address back for some time
SILENCE_S = 4.0
RECORD_WITHIN_S = 20.0
REAL_CALL_FOR = dt.timedelta(minutes=10)  # a call without an answer for longer has none coming
LOOK_OUT_S = 0.5  # how often a test call looks whether a real one has come
MAX_STUMBLES = 5
QUIET_PURPOSE = "quiet test calls"
_log = structlog.get_logger()


class _RealCallCame(Exception):  # no error: the test gives way
    """A real emergency call came while a test call was under way."""


@dataclass(slots=True)
class Sweeper:
    """`run` as a background task; `look` once, for whoever cannot wait.

    Args:
        udp: Where the node's own SIP process listens (`host:port`), empty while it is not up or serves no UDP.
    """

    database: Database
    keys: KeyRing
    udp: Callable[[], str]
    every_s: float = EVERY_S
    pace_s: float = PACE_S
    record_within_s: float = RECORD_WITHIN_S
    _holder: str = field(default_factory=lambda: new_id("lease"))
    _turn: str = ""  # the round that was looked at last
    _stumbles: Counter[str] = field(default_factory=Counter)  # round -> calls in a row that ended in an error of ours

    def is_quiet(self, sip_call_id: str) -> bool:
        """Whether a round placed that call which nobody is to be mailed about. Asked of test calls alone.

        The Call-ID itself says so, signed: it is known after a restart too, and no PBX can claim it for its own tests.
        """
        name, _, mark = sip_call_id.partition("@")
        nonce, _, seal = name.partition(".")
        return f"@{mark}" == CALL_ID_MARK and bool(seal) and hmac.compare_digest(seal.encode(), self._seal(nonce))

    def _seal(self, nonce: str) -> bytes:
        return hmac.new(self.keys.subkey(QUIET_PURPOSE), nonce.encode(), "sha256").hexdigest()[:24].encode()

    async def run(self) -> None:
        """Until cancelled. Never raises for a database or a SIP process that is away."""
        try:
            while True:
                try:
                    has_more = await self.look(utc_now())
                except Exception as exc:  # noqa: BLE001  # a loop that lives as long as the process: log it and go on
                    _log.warning("sweeps.waiting", error=type(exc).__name__, detail=str(exc)[:200])
                    has_more = False
                await asyncio.sleep(self.pace_s if has_more else min(self.every_s, self.pace_s))
        finally:
            await self._let_go()

    async def look(self, now: dt.datetime) -> bool:
        """Begin the rounds that are due and test one location of the oldest round. False: nothing is under way."""
        async with self.database.sessions() as session:
            due = await store_tests.due_plans(session, now)
            running = await store_tests.running_sweeps(session)
        if not due and not running:
            return False  # an idle node: one read
        async with self.database.sessions.begin() as session:
            if not await lease.take(session, DUTY, self._holder, now, for_s=LEASE_S):
                return False
        for plan in due:
            await self._begin(plan.account_id, now)
        async with self.database.sessions() as session:
            running = await store_tests.running_sweeps(session)
        later = [sweep for sweep in running if sweep.id > self._turn]
        for sweep in (*later, *(sweep for sweep in running if sweep.id <= self._turn)):
            if not await self._may_call(utc_now() if sweep is not running[0] else now):
                break
            self._turn = sweep.id
            if await self._test_next_or_note(sweep):
                break  # one call per pace, however many rounds are under way: they take turns
        return bool(running)

    async def _test_next_or_note(self, sweep: Sweep) -> bool:
        """True: a call was placed. Whatever goes wrong in one round, the others go on."""
        try:
            return await self._test_next(sweep)
        except Exception as exc:  # noqa: BLE001  # nothing of one account's round may stop all others
            _log.warning("sweep.stumbled", sweep_id=sweep.id, error=type(exc).__name__, detail=str(exc)[:200])
            return False

    async def _may_call(self, now: dt.datetime) -> bool:
        """Whether the duty is still ours and no real call waits for its answer."""
        async with self.database.sessions.begin() as session:
            is_ours = await lease.take(session, DUTY, self._holder, now, for_s=LEASE_S)
            return is_ours and not await store_tests.real_call_goes_on(session, now - REAL_CALL_FOR)

    async def _begin(self, account_id: str, now: dt.datetime) -> None:
        async with self.database.sessions.begin() as session:
            plan = await store_tests.plan_of(session, account_id, for_update=True)
            account = await session.get(Account, account_id)
            if plan is None or account is None or plan.next_at is None or plan.next_at > now:
                return
            sweeps.plan_after(plan, account, now)
            try:
                await sweeps.begin_sweep(session, SYSTEM, account_id, tells=plan.tells)
            except Conflict as exc:
                _log.info("sweep.not_begun", account_id=account_id, why=exc.detail)

    async def _test_next(self, sweep: Sweep) -> bool:
        """Test one location of the round, or end it. True: a call was placed."""
        async with self.database.sessions() as session:
            location = await store_tests.next_location(session, sweep)
            is_testable = location is not None and await store_tests.is_testable(session, location)
            caller = await store_tests.caller_at(session, location) if location is not None and is_testable else None
        if location is None:
            await self._end(sweep)
            return False
        started = utc_now()
        if not is_testable:
            await self._keep(sweep, location, Judged(Outcome.NO_TEST_LINE, NO_TEST_LINE_WORDS), None, started)
            return False
        if caller is None:
            detail = "No phone, line or network leads a 911 call here, so there is nothing to test."
            await self._keep(sweep, location, Judged(Outcome.NO_CALLER, detail), None, started)
            return False
        try:
            judged, call = await self._call_from(sweep, location, caller, started)
        except _RealCallCame:
            _log.info("sweep.gave_way", location_id=location.id)
            return True  # this location's turn comes again
        except Exception as exc:  # noqa: BLE001  # one strange answer must not hold the round at one location for ever
            self._stumbles[sweep.id] += 1
            detail = f"The test call ended in an error here ({type(exc).__name__}); whether 911 works was not seen."
            await self._keep(sweep, location, Judged(Outcome.NOT_RECORDED, detail), None, started)
            if self._stumbles[sweep.id] >= MAX_STUMBLES:
                _log.warning("sweep.ended_by_errors", sweep_id=sweep.id, error=type(exc).__name__)
                await self._end(sweep)
            return True
        del self._stumbles[sweep.id]
        await self._keep(sweep, location, judged, call, started)
        return True

    async def _call_from(
        self, sweep: Sweep, location: Location, caller: TestCaller, started: dt.datetime
    ) -> tuple[Judged, EmergencyCall | None]:
        """Place one test call and find its record."""
        listens = parse_listens(self.udp()) if self.udp() else ()
        if not listens:
            detail = "The SIP process serves no UDP now, so no test call could be placed."
            return Judged(Outcome.NOT_RECORDED, detail), None
        via = listens[0].from_here
        nonce = secrets.token_hex(12)
        name = nonce if sweep.tells else f"{nonce}.{self._seal(nonce).decode()}"
        sip_call_id = f"{name}{CALL_ID_MARK}"
        placing = Placing(
            TEST_NUMBER, caller.sip_user, (via.host, via.port), display_name=caller.display_name.replace('"', ""),
            call_id=sip_call_id, headers=self._headers(sweep.account_id, sip_call_id, caller), silence_s=SILENCE_S,
        )  # fmt: skip
        try:
            placed = await self._place(placing)
        except (OSError, EngineError) as exc:
            return Judged(Outcome.NOT_RECORDED, f"The test call could not be placed: {exc}"), None
        call = await self._recorded(sweep.account_id, sip_call_id, started, placed)
        if call is None:
            said = f"It heard {placed.status}." if placed.heard else "Nothing answered it."
            return Judged(Outcome.NOT_RECORDED, f"No record of the test call came. {said}"), None
        place = call.location
        conveyed = None if place is None else (str(place.get("id") or ""), str(place.get("name") or ""))
        if LOCATION_DROPPED in call.flags:
            conveyed = None
        return judge(location.id, conveyed, call.outcome, call.status_code), call

    async def _place(self, placing: Placing) -> Placed:
        """Place the call; withdraw it, whatever it has come to, as soon as a real call waits for its answer.

        Raises:
            _RealCallCame: it was withdrawn.
        """
        call = asyncio.create_task(place_call(placing), name="test-call")
        try:
            while not call.done():
                await asyncio.wait({call}, timeout=LOOK_OUT_S)
                if not call.done() and await self._real_call_waits():
                    raise _RealCallCame
            return call.result()
        finally:
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    async def _real_call_waits(self) -> bool:
        async with self.database.sessions() as session:
            return await store_tests.real_call_goes_on(session, utc_now() - REAL_CALL_FOR)

    def _headers(self, account_id: str, sip_call_id: str, caller: TestCaller) -> tuple[tuple[str, str], ...]:
        proof = make_proof(self.keys.subkey(PROOF_PURPOSE), account_id, int(time.time()), sip_call_id)
        told = ((DEVICE_HEADER, caller.mac), (SOURCE_HEADER, caller.source_ip))
        return ((PROOF_HEADER, proof), *((name, value) for name, value in told if value))

    async def _recorded(
        self, account_id: str, sip_call_id: str, started: dt.datetime, placed: Placed
    ) -> EmergencyCall | None:
        """The call's record, once it knows how the call ended; the recorder is a moment behind."""
        until = asyncio.get_running_loop().time() + (self.record_within_s if placed.heard else 1.0)
        while True:
            async with self.database.sessions() as session:
                call = await store_tests.call_named(session, account_id, sip_call_id, started - dt.timedelta(minutes=1))
            if call is not None and call.outcome != "in_progress":
                return call
            if asyncio.get_running_loop().time() > until:
                return call
            await asyncio.sleep(0.1)

    async def _keep(
        self, sweep: Sweep, location: Location, judged: Judged, call: EmergencyCall | None, started: dt.datetime
    ) -> None:
        async with self.database.sessions.begin() as session:
            row = await session.get(Sweep, sweep.id, with_for_update=True)
            if row is None or await session.get(Location, location.id) is None:
                return
            kept = await store_tests.keep(
                session, sweep.account_id, location.id, judged.outcome, judged.detail,
                at=call.sent_at if call is not None else started, call_id=call.id if call is not None else None,
                sweep_id=sweep.id, conveyed=call.location if call is not None else None,
            )  # fmt: skip
            outcome = Outcome(kept.outcome)
            row.passed += outcome is Outcome.PASSED
            row.failed += outcome in FAILURES
            row.skipped += outcome in SKIPPED
        _log.info("sweep.tested", location_id=location.id, outcome=outcome.value)

    async def _end(self, sweep: Sweep) -> None:
        async with self.database.sessions.begin() as session:
            row = await session.get(Sweep, sweep.id, with_for_update=True)
            if row is not None and row.state == SweepState.RUNNING:
                sweeps.end_sweep(session, SYSTEM, row)

    async def _let_go(self) -> None:
        try:
            async with self.database.sessions.begin() as session:
                await lease.release(session, DUTY, self._holder)
        except (SQLAlchemyError, EngineError, OSError, RuntimeError):
            _log.debug("sweeps.lease_runs_out")
