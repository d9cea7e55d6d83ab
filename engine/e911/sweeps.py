"""Operations on tests with 933: an account's plan, beginning and ending a round, and drills (change and audit)."""

import datetime as dt
import zoneinfo
from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.checkpoints import Signer
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import utc_now
from engine.e911 import chats, escalation, mail, store_tests
from engine.e911.sweep import next_round
from engine.e911.telling import NO_RECIPIENTS, queue_notifications, recipients_for, told_of
from engine.e911.webhooks import queue_webhooks
from engine.errors import Conflict, FieldFault, Invalid
from engine.ids import new_id
from engine.models import Account, Cadence, CallKind, EmergencyCall, Location, Sweep, SweepPlan, SweepState
from engine.numbers import numbers_of

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DRILL = "drill"
DRILL_APART = dt.timedelta(minutes=1)
MAX_DRILLS_PER_HOUR = 10
NOWHERE_TO_TEST = (
    "No location is in a country with a number for test calls: 933 is one in the United States and Canada alone, and "
    "elsewhere no emergency call can be tried without calling somebody. Ask the carrier how to test from these places."
)
CADENCES = tuple(cadence.value for cadence in Cadence)


async def plan_for(session: AsyncSession, account: Account, *, to_change: bool = False) -> SweepPlan:
    """The account's plan; one that is off, of version 0 and not stored, when it has none."""
    plan = await store_tests.plan_of(session, account.id, for_update=to_change)
    return plan or SweepPlan(
        id=new_id("sweep_plan"), account_id=account.id, cadence=Cadence.OFF, weekday=1, hour=10, tells=True, version=0
    )


async def change_plan(
    session: AsyncSession, actor: Actor, account: Account, plan: SweepPlan, values: Mapping[str, Any]
) -> SweepPlan:
    """Change when locations are tested by themselves. `values`: cadence, weekday (Monday 0), hour, tells.

    Raises:
        Invalid: every field that cannot be accepted.
    """
    faults = []
    if values.get("cadence", plan.cadence) not in CADENCES:
        faults.append(FieldFault("cadence", f"Expected one of {', '.join(CADENCES)}."))
    for name, last in (("weekday", 6), ("hour", 23)):
        value = values.get(name, getattr(plan, name))
        if not isinstance(value, int) or not 0 <= value <= last:
            faults.append(FieldFault(name, f"Expected a whole number from 0 to {last}."))
    if not faults and values.get("cadence", plan.cadence) != Cadence.OFF and await _is_in_vain(session, account.id):
        faults.append(FieldFault("cadence", f"{NOWHERE_TO_TEST} Leave it off."))
    if faults:
        raise Invalid("The plan was not changed; locations are tested as before.", fields=tuple(faults))
    for name in ("cadence", "weekday", "hour", "tells"):
        if name in values:
            setattr(plan, name, values[name])
    plan.next_at = next_round(plan.cadence, plan.weekday, plan.hour, utc_now(), zone_of(account))
    if not plan.version:
        session.add(plan)
    record(session, actor, Event.SWEEP_PLAN_UPDATE, plan)
    await session.flush()
    return plan


async def begin_sweep(session: AsyncSession, actor: Actor, account_id: str, *, tells: bool) -> Sweep:
    """Begin a round through all locations; calls are placed one after another by the node that has this duty.

    Raises:
        Conflict: a round is under way, or there is nothing to test.
    """
    if await store_tests.running_sweep_of(session, account_id) is not None:
        raise Conflict("The locations are being tested already. Wait until that round has ended, or cancel it.")
    count = await store_tests.count_locations(session, account_id)
    if not count:
        raise Conflict("There is no location to test. Add one first: 911 calls carry no address without.")
    if await _is_in_vain(session, account_id):
        raise Conflict(f"{NOWHERE_TO_TEST} No call was placed.")
    sweep = Sweep(
        id=new_id("sweep"), account_id=account_id, started_by=(actor.display_name or actor.name)[:320], tells=tells,
        locations=count, started_at=utc_now(), state=SweepState.RUNNING, passed=0, failed=0, skipped=0,
    )  # fmt: skip
    session.add(sweep)
    record(session, actor, Event.SWEEP_CREATE, sweep, details={"locations": count, "tells": tells})
    await session.flush()
    return sweep


async def _is_in_vain(session: AsyncSession, account_id: str) -> bool:
    """There are locations, and none has a test line."""
    if await store_tests.count_testable(session, account_id):
        return False
    return bool(await store_tests.count_locations(session, account_id))


async def cancel_sweep(session: AsyncSession, actor: Actor, sweep: Sweep) -> Sweep:
    """End a round early; the call that is under way ends by itself.

    Raises:
        Conflict: it has ended already.
    """
    if sweep.state != SweepState.RUNNING:
        raise Conflict("This round has ended already.")
    sweep.state, sweep.ended_at = SweepState.CANCELLED, utc_now()
    record(session, actor, Event.SWEEP_CANCEL, sweep)
    await session.flush()
    return sweep


def end_sweep(session: AsyncSession, actor: Actor, sweep: Sweep) -> None:
    """A round that is through."""
    sweep.state, sweep.ended_at = SweepState.DONE, utc_now()
    told = {"passed": sweep.passed, "failed": sweep.failed, "skipped": sweep.skipped}
    record(session, actor, Event.SWEEP_END, sweep, details=told)


def plan_after(plan: SweepPlan, account: Account, now: dt.datetime) -> None:
    """Move a plan whose time has come to its next one."""
    plan.next_at = next_round(plan.cadence, plan.weekday, plan.hour, now, zone_of(account))


async def hold_drill(
    session: AsyncSession, actor: Actor, account: Account, location: Location, *, signer: Signer | None, public_url: str
) -> EmergencyCall:
    """Pretend that somebody dials the country's number at a location: staff are mailed and alerts ring, marked DRILL.
    No SIP message is sent to anybody: nothing of a drill can reach a carrier or an emergency centre.

    Raises:
        Conflict: so many drills were held lately that another would only bury what is real.
    """
    now = utc_now()
    if await store_tests.count_drills(session, account.id, now - DRILL_APART, location_id=location.id):
        raise Conflict("A drill was held here within the last minute. Wait until it is over, then hold another.")
    if await store_tests.count_drills(session, account.id, now - dt.timedelta(hours=1)) >= MAX_DRILLS_PER_HOUR:
        raise Conflict(
            f"{MAX_DRILLS_PER_HOUR} drills were held within the last hour. Wait a while: staff who are called to one "
            "drill after another do not hear the real call."
        )
    recipients = await recipients_for(session, account.id, location)
    is_told = bool(recipients) or await chats.is_told(session, account.id, location.id, CallKind.DRILL)
    who = mail.one_line(actor.display_name or actor.name, 80)
    number = numbers_of(str(location.civic_address.get("country") or account.country)).primary
    call = EmergencyCall(
        id=new_id("call"), account_id=account.id, call_id=DRILL, dialed=number, kind=CallKind.DRILL,
        caller={"name": f"Drill by {who}", "callback_number": location.callback_number or account.callback_number},
        location={
            "id": location.id, "name": location.name, "civic_address": location.civic_address, "geo": location.geo,
        },
        location_source=DRILL,
        verdict=[
            {"source": DRILL, "said": location.name, "age_s": None, "taken": True, "why": "chosen for the drill"}
        ],
        flags=[] if is_told else [NO_RECIPIENTS], peer={}, outcome=DRILL, received_at=now, sent_at=now,
        ended_at=now, recorded_at=now,
    )  # fmt: skip
    session.add(call)
    await session.flush()
    told = await told_of(session, call, account, location, signer=signer, public_url=public_url)
    queue_notifications(session, call, told, recipients)
    await queue_webhooks(session, call, told)
    by_chat = await chats.queue_chats(session, call, told)
    await escalation.begin(session, call)
    resource = ("call", call.id, mail.one_line(f"Drill at {location.name}"))
    record(
        session,
        actor,
        Event.DRILL_CREATE,
        call,
        resource=resource,
        details={"recipients": len(recipients) + len(by_chat)},
    )
    await session.flush()
    return call


def zone_of(account: Account) -> zoneinfo.ZoneInfo:
    """The account's time zone; UTC when this machine does not know it."""
    try:
        return zoneinfo.ZoneInfo(account.timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return zoneinfo.ZoneInfo("UTC")
