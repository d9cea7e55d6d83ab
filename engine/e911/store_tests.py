"""Queries of tests with 933: what each location last showed, who is due, who can call from a location."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, not_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from engine.e911.mail import LOCATION_DROPPED
from engine.e911.snapshot import is_same_address
from engine.e911.sweep import EARLIER_ADDRESS_WORDS, Outcome, TestCaller, address_inside, judge
from engine.models import (
    Account,
    Cadence,
    CallKind,
    EmergencyCall,
    Line,
    Location,
    LocationTest,
    Network,
    NetworkKind,
    Phone,
    PhoneLine,
    Sweep,
    SweepPlan,
    SweepState,
)
from engine.numbers import UNTESTABLE


@dataclass(frozen=True, slots=True)
class Tested:
    """A location and what is known of its tests; `test` None: none was ever made."""

    location: Location
    test: LocationTest | None


async def note_test(session: AsyncSession, call: EmergencyCall) -> LocationTest | None:
    """Keep what that test call, whoever dialed it, shows of the location it carried. None: it carried none of ours."""
    place = call.location or {}
    location_id = str(place.get("id") or "")
    owner = select(Location.id).where(Location.id == location_id, Location.account_id == call.account_id)
    if not location_id or await session.scalar(owner) is None:
        return None
    conveyed = None if LOCATION_DROPPED in (call.flags or ()) else (location_id, str(place.get("name") or ""))
    judged = judge(location_id, conveyed, call.outcome, call.status_code)
    return await keep(
        session, call.account_id, location_id, judged.outcome, judged.detail,
        at=call.sent_at, call_id=call.id, conveyed=place,
    )  # fmt: skip


async def keep(
    session: AsyncSession,
    account_id: str,
    location_id: str,
    outcome: Outcome,
    detail: str,
    *,
    at: dt.datetime,
    call_id: str | None,
    sweep_id: str | None = None,
    conveyed: Mapping[str, Any] | None = None,
) -> LocationTest:
    """Store a location's latest test; what passed before stays known.

    Args:
        conveyed: The location as the call carried it. A call that passed with an address that the location has no
            more (it was changed while the call or its record was under way) proves nothing of the one it has.
    """
    is_earlier = conveyed is not None and await _has_moved(session, location_id, conveyed)
    if outcome is Outcome.PASSED and is_earlier:
        outcome, detail = Outcome.EARLIER_ADDRESS, EARLIER_ADDRESS_WORDS
    row = await session.get(LocationTest, location_id)
    if row is None:
        row = LocationTest(location_id=location_id, account_id=account_id, tried_at=at, outcome=outcome)
        session.add(row)
    row.tried_at, row.tried_call_id = at, call_id
    row.outcome, row.detail = outcome, detail[:400]
    row.sweep_id = sweep_id or row.sweep_id
    if outcome is Outcome.PASSED and (row.passed_at is None or at >= row.passed_at):
        row.passed_at, row.passed_call_id = at, call_id
    if outcome is Outcome.EARLIER_ADDRESS and (row.passed_before_at is None or at >= row.passed_before_at):
        row.passed_before_at = at
    await session.flush()
    return row


async def _has_moved(session: AsyncSession, location_id: str, conveyed: Mapping[str, Any]) -> bool:
    location = await session.get(Location, location_id)
    return location is not None and not is_same_address(
        conveyed, {"civic_address": location.civic_address, "geo": location.geo}
    )


async def address_changed(session: AsyncSession, location: Location) -> None:
    """What 933 calls proved, they proved of the address that the location had: it counts as untested from now on."""
    row = await last_test_of(session, location)
    if row is None:
        return
    row.passed_before_at = row.passed_at or row.passed_before_at
    row.passed_at = row.passed_call_id = None
    if row.outcome == Outcome.PASSED:
        row.outcome, row.detail = Outcome.EARLIER_ADDRESS, EARLIER_ADDRESS_WORDS
    await session.flush()


async def locations_tested(
    session: AsyncSession, account_id: str, *, untested_since: dt.datetime | None = None, limit: int = 1_000
) -> list[Tested]:
    """The account's locations with their tests, those longest without a passed one first.

    Args:
        untested_since: Only those of which none passed since then, and which can be tested at all.
    """
    query = (
        select(Location, LocationTest)
        .outerjoin(LocationTest, LocationTest.location_id == Location.id)
        .where(Location.account_id == account_id)
        .order_by(LocationTest.passed_at.is_not(None), LocationTest.passed_at, func.lower(Location.name), Location.id)
        .limit(limit)
    )
    if untested_since is not None:
        query = query.where(_is_untested(untested_since), has_test_line())
    return [Tested(row[0], row[1]) for row in await session.execute(query)]


async def count_untested(session: AsyncSession, account_id: str, since: dt.datetime) -> int:
    """Locations of which no test passed since then, those that nobody can test left out."""
    return await _count(session, account_id, _is_untested(since))


async def count_without_caller(session: AsyncSession, account_id: str, since: dt.datetime) -> int:
    """Those of `count_untested` where the last round found nothing that could call."""
    return await _count(session, account_id, _is_untested(since), LocationTest.outcome == Outcome.NO_CALLER)


async def count_moved(session: AsyncSession, account_id: str, since: dt.datetime) -> int:
    """Those of `count_untested` that passed a test since then with an address they have no more, and none after it."""
    is_moved = LocationTest.outcome == Outcome.EARLIER_ADDRESS, LocationTest.passed_at.is_(None)
    return await _count(session, account_id, *is_moved, LocationTest.passed_before_at >= since)


async def _count(session: AsyncSession, account_id: str, *conditions: ColumnElement[bool]) -> int:
    """Locations that somebody can test, by what their tests say of them."""
    query = (
        select(func.count())
        .select_from(Location)
        .outerjoin(LocationTest, LocationTest.location_id == Location.id)
        .where(Location.account_id == account_id, has_test_line(), *conditions)
    )
    return int(await session.scalar(query) or 0)


Tests = Mapping[str, LocationTest]


async def tests_by_location(session: AsyncSession, location_ids: Collection[str]) -> Tests:
    """What is known of those locations' tests; one that was never tested is not in it."""
    query = select(LocationTest).where(LocationTest.location_id.in_(location_ids))
    return {row.location_id: row for row in await session.scalars(query)}


def untested(since: dt.datetime) -> ColumnElement[bool]:
    """The condition on a location that no test of it passed since then, though one could have been made."""
    passed = select(LocationTest.location_id).where(
        LocationTest.location_id == Location.id, LocationTest.passed_at >= since
    )
    return and_(~passed.exists(), has_test_line())


def has_test_line() -> ColumnElement[bool]:
    """The condition on a location that a number is set aside for tests in its country, or in its account's when the
    address names none.
    """
    of_account = select(Account.country).where(Account.id == Location.account_id).scalar_subquery()
    own = func.nullif(Location.civic_address["country"].as_string(), "")
    return func.upper(func.coalesce(own, of_account)).not_in(sorted(UNTESTABLE))


async def is_testable(session: AsyncSession, location: Location) -> bool:
    """Whether that location has a test line."""
    return await session.scalar(select(Location.id).where(Location.id == location.id, has_test_line())) is not None


async def untestable_among(session: AsyncSession, location_ids: Collection[str]) -> set[str]:
    """Those of the locations that have no test line."""
    query = select(Location.id).where(Location.id.in_(location_ids), not_(has_test_line()))
    return set(await session.scalars(query))


async def count_testable(session: AsyncSession, account_id: str) -> int:
    """How many locations are in a country that has a number for test calls."""
    query = select(func.count()).select_from(Location).where(Location.account_id == account_id, has_test_line())
    return int(await session.scalar(query) or 0)


def _is_untested(since: dt.datetime) -> ColumnElement[bool]:
    return or_(LocationTest.passed_at.is_(None), LocationTest.passed_at < since)


async def last_test_of(session: AsyncSession, location: Location) -> LocationTest | None:
    return await session.get(LocationTest, location.id)


# ------------------------------------------------------------------------------------------ plans and rounds


async def plan_of(session: AsyncSession, account_id: str, *, for_update: bool = False) -> SweepPlan | None:
    query = select(SweepPlan).where(SweepPlan.account_id == account_id)
    return await session.scalar(query.with_for_update() if for_update else query)


async def due_plans(session: AsyncSession, now: dt.datetime, limit: int = 50) -> Sequence[SweepPlan]:
    """Plans whose next round should have begun, of all accounts."""
    query = select(SweepPlan).where(SweepPlan.next_at <= now, SweepPlan.cadence != Cadence.OFF)
    return (await session.scalars(query.order_by(SweepPlan.next_at).limit(limit))).all()


async def running_sweeps(session: AsyncSession) -> Sequence[Sweep]:
    """Rounds under way, of all accounts, the oldest first."""
    query = select(Sweep).where(Sweep.state == SweepState.RUNNING).order_by(Sweep.id)
    return (await session.scalars(query)).all()


async def running_sweep_of(session: AsyncSession, account_id: str) -> Sweep | None:
    query = select(Sweep).where(Sweep.account_id == account_id, Sweep.state == SweepState.RUNNING)
    return (await session.scalars(query.limit(1))).first()


async def sweeps_of(session: AsyncSession, account_id: str, limit: int) -> Sequence[Sweep]:
    query = select(Sweep).where(Sweep.account_id == account_id).order_by(Sweep.id.desc()).limit(limit)
    return (await session.scalars(query)).all()


async def count_locations(session: AsyncSession, account_id: str) -> int:
    query = select(func.count()).select_from(Location).where(Location.account_id == account_id)
    return int(await session.scalar(query) or 0)


async def next_location(session: AsyncSession, sweep: Sweep) -> Location | None:
    """A location that this round has not dealt with yet: those that were there when it began, by name."""
    query = (
        select(Location)
        .outerjoin(LocationTest, LocationTest.location_id == Location.id)
        .where(
            Location.account_id == sweep.account_id,
            Location.created_at <= sweep.started_at,
            or_(LocationTest.sweep_id.is_(None), LocationTest.sweep_id != sweep.id),
        )
        .order_by(func.lower(Location.name), Location.id)
        .limit(1)
    )
    return (await session.scalars(query)).first()


async def real_call_goes_on(session: AsyncSession, since: dt.datetime) -> bool:
    """Whether a real emergency call of any account, sent since then, has no answer yet."""
    query = select(EmergencyCall.id).where(
        EmergencyCall.changed_at >= since,
        EmergencyCall.kind == CallKind.EMERGENCY,
        EmergencyCall.outcome == "in_progress",
    )
    return (await session.scalars(query.limit(1))).first() is not None


async def count_drills(
    session: AsyncSession, account_id: str, since: dt.datetime, *, location_id: str | None = None
) -> int:
    """The account's drills since then, of one location or of all."""
    query = (
        select(func.count())
        .select_from(EmergencyCall)
        .where(
            EmergencyCall.account_id == account_id,
            EmergencyCall.sent_at > since,
            EmergencyCall.kind == CallKind.DRILL,
        )
    )
    if location_id is not None:
        query = query.where(EmergencyCall.location["id"].as_string() == location_id)
    return int(await session.scalar(query) or 0)


async def call_named(
    session: AsyncSession, account_id: str, sip_call_id: str, since: dt.datetime
) -> EmergencyCall | None:
    """The test call of that SIP Call-ID, sent since then."""
    query = (
        select(EmergencyCall)
        .where(
            EmergencyCall.account_id == account_id,
            EmergencyCall.kind == CallKind.TEST,
            EmergencyCall.sent_at >= since,
            EmergencyCall.call_id == sip_call_id,
        )
        .options(defer(EmergencyCall.invite, raiseload=True))
    )
    return (await session.scalars(query.limit(1))).first()


# ------------------------------------------------------------------------------------------ who calls from there


async def caller_at(session: AsyncSession, location: Location) -> TestCaller | None:
    """Somebody whose 911 call would carry that location: a line of a phone there, or any line from a network there."""
    subnets, others = await _subnets(session, location)
    source_ip = address_inside(subnets, others)
    there = or_(Phone.location_id == location.id, Phone.network_location_id == location.id)
    on_phone = (
        select(Line.sip_user, Line.display_name, Phone.mac)
        .join(PhoneLine, PhoneLine.line_id == Line.id)
        .join(Phone, Phone.id == PhoneLine.phone_id)
        .where(Phone.account_id == location.account_id, there)
        .order_by(Phone.network_location_id != location.id, Phone.id, PhoneLine.key)
        .limit(1)
    )
    found = (await session.execute(on_phone)).first()
    if found is not None:
        return TestCaller(found[0], found[1], found[2], source_ip)
    line = await _line_for(session, location, from_anywhere=source_ip is not None)
    return None if line is None else TestCaller(line.sip_user, line.display_name, None, source_ip)


async def _subnets(session: AsyncSession, location: Location) -> tuple[list[str], list[str]]:
    """The subnets of the location that hold for every PBX, and those of all other places."""
    query = select(Network.value, Network.location_id).where(
        Network.account_id == location.account_id, Network.kind == NetworkKind.SUBNET, Network.pbx_id.is_(None)
    )
    rows = [(row[0], row[1]) for row in await session.execute(query.order_by(Network.id))]
    own = [value for value, owner in rows if owner == location.id]
    return own, [value for value, owner in rows if owner != location.id]


async def _line_for(session: AsyncSession, location: Location, *, from_anywhere: bool) -> Line | None:
    """A line placed there; with `from_anywhere` any line on no phone, whose own place nothing else decides."""
    own = select(Line).where(Line.account_id == location.account_id, Line.location_id == location.id)
    line = (await session.scalars(own.order_by(Line.id).limit(1))).first()
    if line is not None or not from_anywhere:
        return line
    is_free = ~select(PhoneLine.phone_id).where(PhoneLine.line_id == Line.id).exists()
    anybody = select(Line).where(Line.account_id == location.account_id)
    free = (await session.scalars(anybody.where(is_free).order_by(Line.id).limit(1))).first()
    return free or (await session.scalars(anybody.order_by(Line.id).limit(1))).first()
