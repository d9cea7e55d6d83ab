"""Tests of locations: what a call shows, when rounds are due, who calls from where, drills."""

import asyncio
import datetime as dt
import itertools
import json
import zoneinfo
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import func, select

from engine.audit.checkpoints import signer_of
from engine.audit.events import Event
from engine.audit.record import SYSTEM, Actor, record
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.e911 import sites, store, store_tests, sweeps
from engine.e911.geo import shape_of
from engine.e911.location import CivicAddress
from engine.e911.snapshot import is_same_address
from engine.e911.sweep import CALL_ID_MARK, Outcome, address_inside, judge, next_round
from engine.errors import Conflict, Invalid
from engine.models import Account, EmergencyCall, Location, Notification, Sweep, SweepPlan
from engine.sweeper import MAX_STUMBLES, Sweeper
from tests.factories import add_account, add_line, add_location, add_network, add_phone, emergency_call
from tests.siptest import response as sip_response

EASTERN = zoneinfo.ZoneInfo("America/New_York")
DESK = Actor("user", "user_1", "desk@example.com", "192.0.2.1", None, "Dana Reyes", "admin")


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.fixture
async def account(database: Database) -> Account:
    async with database.sessions.begin() as session:
        return await add_account(session)


@pytest.fixture
async def location(database: Database, account: Account) -> Location:
    async with database.sessions.begin() as session:
        return await add_location(session, account)


@pytest.mark.parametrize(
    ("conveyed", "outcome", "status", "expected"),
    [
        (("location_a", "HQ"), "answered", 200, Outcome.PASSED),
        (("location_b", "Warehouse"), "answered", 200, Outcome.WRONG_PLACE),
        (None, "answered", 200, Outcome.WRONG_PLACE),
        (("location_a", "HQ"), "failed", 503, Outcome.NOT_ANSWERED),
        (("location_a", "HQ"), "cancelled", None, Outcome.NOT_ANSWERED),
        (("location_a", "HQ"), "in_progress", None, Outcome.NOT_ANSWERED),
    ],
)
def test_a_test_passes_only_with_an_answer_and_the_right_address(
    conveyed: tuple[str, str] | None, outcome: str, status: int | None, expected: Outcome
) -> None:
    """E-15: went out, carried this location, was answered; anything else says what was wrong."""
    judged = judge("location_a", conveyed, outcome, status)
    assert judged.outcome is expected
    assert judged.detail.endswith(".")


@pytest.mark.parametrize(
    ("cadence", "weekday", "hour", "now", "expected"),
    [
        ("weekly", 1, 10, "2026-11-22T12:00", "2026-11-24T15:00"),  # Sunday; Tuesday 10:00 in New York
        ("weekly", 1, 10, "2026-11-24T15:00", "2026-12-01T15:00"),  # due now is never due again at once
        ("weekly", 6, 8, "2026-11-22T12:59", "2026-11-22T13:00"),
        ("monthly", 1, 10, "2026-11-22T12:00", "2026-12-01T15:00"),  # the first Tuesday
        ("monthly", 0, 23, "2026-12-01T12:00", "2026-12-08T04:00"),
        ("weekly", 6, 2, "2027-03-08T00:00", "2027-03-14T07:00"),  # 2:00 is left out that night: 3:00 in summer time
        ("weekly", 6, 1, "2026-10-26T00:00", "2026-11-01T05:00"),  # 1:00 is there twice: the first
    ],
)
def test_the_next_round_is_by_the_accounts_clocks(
    cadence: str, weekday: int, hour: int, now: str, expected: str
) -> None:
    """E-15: weekly or monthly, on a day and hour of the account's zone, over changes of clocks."""
    assert next_round(cadence, weekday, hour, utc(now), EASTERN) == utc(expected)


def test_a_plan_that_is_off_is_never_due() -> None:
    """E-15: off by default."""
    assert next_round("off", 1, 10, utc("2026-11-22T12:00"), EASTERN) is None


@pytest.mark.parametrize(
    ("subnets", "others", "is_there"),
    [
        (["10.4.12.0/24"], ["10.0.0.0/8"], True),
        (["10.4.0.0/16"], ["10.4.0.0/24"], True),  # the narrower one would win at its own addresses
        (["10.4.0.0/31"], ["10.4.0.0/32", "10.4.0.1/32"], False),
        (["192.0.2.7/32"], [], True),
        (["2001:db8:4::/48"], ["10.4.0.0/24", "2001:db8:4::/64"], True),
        ([], ["10.0.0.0/8"], False),
    ],
)
def test_the_address_of_a_test_lies_in_no_narrower_network(
    subnets: list[str], others: list[str], is_there: bool
) -> None:
    """E-15: a test of a floor must not be taken for the room inside it."""
    import ipaddress

    found = address_inside(subnets, others)
    assert (found is not None) == is_there
    if found is not None:
        address = ipaddress.ip_address(found)
        holding = [ipaddress.ip_network(text) for text in (*subnets, *others) if address in ipaddress.ip_network(text)]
        assert str(max(holding, key=lambda network: network.prefixlen)) in subnets


async def test_who_calls_from_a_location_is_a_phone_there_or_a_line_from_its_network(
    database: Database, account: Account, location: Location
) -> None:
    """E-15: a phone there first, then any line from an address there, then nobody."""
    async with database.sessions.begin() as session:
        assert await store_tests.caller_at(session, location) is None
        free = await add_line(session, account, "190")
        assert await store_tests.caller_at(session, location) is None  # nothing says that this line is there
        await add_network(session, location, "10.4.12.0/24")
        caller = await store_tests.caller_at(session, location)
        assert caller is not None
        assert (caller.sip_user, caller.mac, caller.source_ip) == (free.sip_user, None, "10.4.12.1")
        line = await add_line(session, account, "101")
        await add_phone(session, account, line, location_id=location.id)
        caller = await store_tests.caller_at(session, location)
        assert caller is not None
        assert (caller.sip_user, caller.mac, caller.source_ip) == ("101", "0015654aa937", "10.4.12.1")


def call_of(account: Account, location: Location | None, **fields: Any) -> EmergencyCall:
    place = location and {name: getattr(location, name) for name in ("id", "name", "civic_address", "geo")}
    values = {
        "dialed": "933", "kind": "test", "location": place, "location_source": "phone",
        "outcome": "answered", "status_code": 200,
    }  # fmt: skip
    return emergency_call(account, **values | fields)


async def test_any_answered_933_counts_as_a_test_of_the_location_it_carried(
    database: Database, account: Account, location: Location
) -> None:
    """E-15: dialed by hand or by a round; a later failure does not unmake what passed."""
    passed = call_of(account, location, sent_at=utc("2026-11-01T12:00"))
    failed = call_of(account, location, outcome="failed", status_code=503, sent_at=utc("2026-11-20T12:00"))
    async with database.sessions.begin() as session:
        stranger = await add_account(session, name="Somebody else")
        assert await store_tests.note_test(session, call_of(account, None)) is None
        assert await store_tests.note_test(session, call_of(stranger, location)) is None
        await store_tests.note_test(session, passed)
        await store_tests.note_test(session, failed)
        row = await store_tests.last_test_of(session, location)
        assert row is not None
        assert (row.passed_at, row.passed_call_id) == (passed.sent_at, passed.id)
        assert (row.tried_at, row.outcome) == (failed.sent_at, Outcome.NOT_ANSWERED)


@pytest.mark.parametrize(
    "moved",
    [
        {"civic_address": {"country": "US", "A1": "NY", "A3": "Albany", "HNO": "9", "RD": "Main", "STS": "St"}},
        {"geo": {"latitude": 42.7, "longitude": -73.8}},
    ],
)
async def test_a_moved_location_is_untested_until_a_call_carries_its_new_address(
    database: Database, account: Account, location: Location, moved: dict[str, Any]
) -> None:
    """E-15: what 933 proved, it proved of the address that was told; a record that comes late proves no more."""
    before, since = call_of(account, location, sent_at=utc("2026-11-01T12:00")), utc("2026-10-01T12:00")
    late = call_of(account, location, sent_at=utc("2026-11-02T12:00"))
    async with database.sessions.begin() as session:
        place = await session.get_one(Location, location.id)
        await store_tests.note_test(session, before)
        assert await store_tests.count_untested(session, account.id, since) == 0
        await sites.update_location(session, DESK, account, place, {"onsite_number": "+15185550199"})
        assert await store_tests.count_untested(session, account.id, since) == 0
        await sites.update_location(session, DESK, account, place, moved)
        row = await store_tests.last_test_of(session, place)
        assert row is not None
        assert (row.passed_at, row.passed_call_id, row.passed_before_at) == (None, None, before.sent_at)
        assert (row.outcome, "earlier address" in row.detail) == (Outcome.EARLIER_ADDRESS, True)
        assert await store_tests.count_untested(session, account.id, since) == 1
        assert [each.location.id for each in await store_tests.locations_tested(
            session, account.id, untested_since=since)] == [place.id]  # fmt: skip
        await store_tests.note_test(session, late)
        assert (row.passed_at, row.passed_before_at, row.outcome) == (None, late.sent_at, Outcome.EARLIER_ADDRESS)
        fresh = call_of(account, place, sent_at=utc("2026-11-03T12:00"))
        await store_tests.note_test(session, fresh)
        assert (row.passed_at, row.outcome) == (fresh.sent_at, Outcome.PASSED)
        assert await store_tests.count_untested(session, account.id, since) == 0


@pytest.mark.parametrize(
    "geo",
    [
        None,
        {"latitude": 42.65258, "longitude": -73.75623, "altitude_m": None},
        {"shape": "circle", "latitude": 42.65258, "longitude": -73.75623, "radius_m": 30.5},
        {"shape": "polygon", "points": [[42.1, -73.1], [42.2, -73.1], [42.2, -73.2]]},
    ],
)
def test_what_a_call_recorded_is_the_address_it_was_made_of(geo: dict[str, Any] | None) -> None:
    """E-15: whatever the shape, a call's record compares equal to its location's, or no test would ever count."""
    stored: dict[str, Any] = {"civic_address": {"country": "US", "A1": "NY", "RD": "Elm", "FLR": " 3"}, "geo": geo}
    shape = None if geo is None else shape_of(geo)
    entry = {"civic_address": CivicAddress.of(stored["civic_address"]).as_dict(), "geo": shape and shape.as_dict()}
    recorded = json.loads(json.dumps(entry))
    assert is_same_address(recorded, stored)
    assert not is_same_address(recorded, stored | {"civic_address": {"country": "US", "A1": "NY", "RD": "Main"}})
    assert not is_same_address(recorded, stored | {"geo": {"latitude": 1.0, "longitude": 1.0}})


async def test_what_was_not_tested_for_90_days_is_counted_and_comes_first(
    database: Database, account: Account, location: Location
) -> None:
    """E-15: the list of locations not tested for 90 days, those never tested at its head."""
    now = utc("2026-11-20T12:00")
    async with database.sessions.begin() as session:
        names = {"Old": 91, "Fresh": 89, "Older": 200}
        for name, days in names.items():
            place = await add_location(session, account, name=name)
            at = now - dt.timedelta(days=days)
            await store_tests.keep(session, account.id, place.id, Outcome.PASSED, "", at=at, call_id=None)
        since = now - dt.timedelta(days=90)
        assert await store_tests.count_untested(session, account.id, since) == 3
        assert await store_tests.count_without_caller(session, account.id, since) == 0
        await store_tests.keep(session, account.id, location.id, Outcome.NO_CALLER, "", at=now, call_id=None)
        assert await store_tests.count_without_caller(session, account.id, since) == 1
        overdue = await store_tests.locations_tested(session, account.id, untested_since=since)
        assert [each.location.name for each in overdue] == ["Headquarters", "Older", "Old"]
        everything = await store_tests.locations_tested(session, account.id)
        assert [each.location.name for each in everything] == ["Headquarters", "Older", "Old", "Fresh"]


async def test_a_plan_is_checked_whole_and_says_when_it_is_due(database: Database, account: Account) -> None:
    """E-15: off until somebody says otherwise; every bad field at once."""
    async with database.sessions.begin() as session:
        plan = await sweeps.plan_for(session, account)
        assert (plan.cadence, plan.version, plan.next_at) == ("off", 0, None)
        with pytest.raises(Invalid) as refused:
            await sweeps.change_plan(session, DESK, account, plan, {"cadence": "hourly", "weekday": 7, "hour": None})
        assert [fault.field for fault in refused.value.fields] == ["cadence", "weekday", "hour"]
        await sweeps.change_plan(session, DESK, account, plan, {"cadence": "weekly", "weekday": 2, "hour": 9})
        assert plan.next_at is not None
        assert plan.next_at > utc_now()
        assert plan.next_at.astimezone(sweeps.zone_of(account)).strftime("%a %H") == "Wed 09"
    async with database.sessions.begin() as session:
        plan = await sweeps.plan_for(session, account, to_change=True)
        await sweeps.change_plan(session, DESK, account, plan, {"cadence": "off"})
        assert (plan.next_at, plan.version) == (None, 2)


async def test_one_round_at_a_time_and_none_without_locations(
    database: Database, account: Account, keys: KeyRing
) -> None:
    """E-15: a second round is refused; one that has ended cannot be cancelled."""
    async with database.sessions.begin() as session:
        with pytest.raises(Conflict):
            await sweeps.begin_sweep(session, DESK, account.id, tells=True)
        await add_location(session, account)
        sweep = await sweeps.begin_sweep(session, DESK, account.id, tells=True)
        with pytest.raises(Conflict):
            await sweeps.begin_sweep(session, DESK, account.id, tells=True)
        await sweeps.cancel_sweep(session, DESK, sweep)
        with pytest.raises(Conflict):
            await sweeps.cancel_sweep(session, DESK, sweep)


async def until_ended(sweeper: Sweeper, database: Database, now: Callable[[], dt.datetime] = utc_now) -> Sweep:
    for _ in range(20):
        await sweeper.look(now())
        async with database.sessions() as session:
            row = (await session.scalars(select(Sweep).order_by(Sweep.id.desc()))).first()
        if row is not None and row.state != "running":
            return row
    raise AssertionError("the round never ended")


async def test_a_round_begins_by_plan_and_ends_with_a_result_for_each_location(
    database: Database, account: Account, location: Location, keys: KeyRing
) -> None:
    """E-15: due plans begin; what cannot call is said so; with no SIP process every test fails and says why."""
    async with database.sessions.begin() as session:
        await add_network(session, location, "10.4.12.0/24")
        await add_line(session, account)
        await add_location(session, account, name="Empty barn")
        plan = await sweeps.plan_for(session, account)
        await sweeps.change_plan(session, DESK, account, plan, {"cadence": "weekly"})
    sweeper = Sweeper(database, keys, lambda: "")
    assert not await sweeper.look(utc_now())  # not due yet
    later = utc_now() + dt.timedelta(days=8)
    sweep = await until_ended(sweeper, database, lambda: later)
    assert (sweep.started_by, sweep.locations, sweep.passed, sweep.failed, sweep.skipped) == ("Callpoint", 2, 0, 1, 1)
    async with database.sessions() as session:
        plan = await session.scalar(select(SweepPlan))
        assert plan is not None
        assert plan.next_at is not None
        assert plan.next_at > later
        tested = {each.location.name: each.test for each in await store_tests.locations_tested(session, account.id)}
    assert {name: test.outcome for name, test in tested.items() if test} == {
        "Headquarters": Outcome.NOT_RECORDED, "Empty barn": Outcome.NO_CALLER,
    }  # fmt: skip


async def test_a_round_waits_while_a_real_call_has_no_answer(
    database: Database, account: Account, location: Location, keys: KeyRing
) -> None:
    """E-15: never at the cost of real calls."""
    real = call_of(account, location, kind="emergency", dialed="911", outcome="in_progress", status_code=None)
    async with database.sessions.begin() as session:
        session.add(real)
        record(session, SYSTEM, Event.EMERGENCY_CALL_CREATE, real)
        await sweeps.begin_sweep(session, DESK, account.id, tells=True)
    sweeper = Sweeper(database, keys, lambda: "")
    for _ in range(3):
        assert await sweeper.look(utc_now())
    async with database.sessions.begin() as session:
        assert await store_tests.last_test_of(session, location) is None
        row = await session.get(EmergencyCall, real.id)
        assert row is not None
        row.outcome = "answered"
        record(session, SYSTEM, Event.EMERGENCY_CALL_CREATE, row)
    assert (await until_ended(sweeper, database)).skipped == 1


async def test_two_nodes_never_test_at_once(
    database: Database, account: Account, location: Location, keys: KeyRing
) -> None:
    """E-15: one node has the duty; the other takes it over when it is given back."""
    async with database.sessions.begin() as session:
        await sweeps.begin_sweep(session, DESK, account.id, tells=True)
    first, second = (Sweeper(database, keys, lambda: "") for _ in range(2))
    assert await first.look(utc_now())
    assert not await second.look(utc_now())
    await first._let_go()  # what a node does when it stops
    assert (await until_ended(second, database)).state == "done"


def test_a_quiet_rounds_calls_are_known_after_a_restart_and_can_be_claimed_by_nobody(
    database: Database, keys: KeyRing
) -> None:
    """E-15: the Call-ID says so itself, signed by this server."""
    first, restarted = (Sweeper(database, keys, lambda: "") for _ in range(2))
    quiet = f"abc.{first._seal('abc').decode()}{CALL_ID_MARK}"
    assert restarted.is_quiet(quiet)
    for other in (
        f"abc{CALL_ID_MARK}",
        f"abd{quiet[3:]}",
        f"abc.é{CALL_ID_MARK}",
        "a@b",
        "",
        quiet.replace("@", "@x."),
    ):
        assert not restarted.is_quiet(other), other


async def test_drills_that_would_bury_what_is_real_are_refused(
    database: Database, account: Account, location: Location
) -> None:
    """E-15: one a minute at a location, ten an hour in an account."""
    async with database.sessions.begin() as session:
        places = [location, *[await add_location(session, account, name=f"Site {at}") for at in range(10)]]
        for place in places[:10]:
            await sweeps.hold_drill(session, DESK, account, place, signer=None, public_url="")
        with pytest.raises(Conflict, match="within the last minute"):
            await sweeps.hold_drill(session, DESK, account, location, signer=None, public_url="")
        with pytest.raises(Conflict, match="within the last hour"):
            await sweeps.hold_drill(session, DESK, account, places[10], signer=None, public_url="")


async def test_a_drill_tells_everybody_rings_and_sends_nothing(
    database: Database, account: Account, location: Location, keys: KeyRing
) -> None:
    """E-15: the same recipients as of a real call, each message marked DRILL; no attempt, no INVITE, no outcome."""
    async with database.sessions.begin() as session:
        await sites.add_recipient(session, DESK, account, "desk@example.com")
        place = await store.location_by_id(session, account.id, location.id)
        assert place is not None
        place.notification_recipients = ["guard@example.com"]
        record(session, SYSTEM, Event.LOCATION_UPDATE, place)
        call = await sweeps.hold_drill(
            session, DESK, account, place, signer=signer_of(keys), public_url="https://pages.example"
        )
    async with database.sessions() as session:
        told = list(await session.scalars(select(Notification).order_by(Notification.recipient)))
        attempts = await store.attempts_of(session, call)
        count = await session.scalar(select(func.count()).select_from(EmergencyCall))
    assert [(note.recipient, note.because) for note in told] == [
        ("desk@example.com", "account"), ("guard@example.com", "location"),
    ]  # fmt: skip
    for note in told:
        assert note.subject.startswith("[DRILL] 911")
        assert "This is a DRILL" in note.body
        assert "call nobody outside" in " ".join(note.body.split())
        assert f"https://pages.example/calls/{call.id}" in note.body
    assert (call.kind, call.outcome, call.invite, attempts, count) == ("drill", "drill", None, [], 1)


LONDON = {"country": "GB", "A3": "London", "RD": "Strand", "HNO": "1", "PC": "WC2R 0EZ"}


async def abroad(database: Database, account: Account, name: str = "London", **civic: str) -> Location:
    async with database.sessions.begin() as session:
        place = await add_location(session, account, name=name, civic_address=LONDON | civic)
        await add_network(session, place, f"10.{len(name)}.0.0/16")
        return place


async def test_a_plan_and_a_round_where_no_number_is_set_aside_for_tests_are_refused_in_words(
    database: Database, account: Account
) -> None:
    """E-15: 933 is nobody's number in Britain: nothing would be tested, and somebody might be called."""
    await abroad(database, account)
    async with database.sessions.begin() as session:
        plan = await sweeps.plan_for(session, account)
        with pytest.raises(Invalid) as refused:
            await sweeps.change_plan(session, DESK, account, plan, {"cadence": "weekly"})
        ((name, words),) = [(fault.field, fault.detail) for fault in refused.value.fields]
        assert (name, "933 is one in the United States and Canada alone" in words) == ("cadence", True)
        await sweeps.change_plan(session, DESK, account, plan, {"cadence": "off", "hour": 3})  # what calls nobody
        with pytest.raises(Conflict, match="Ask the carrier"):
            await sweeps.begin_sweep(session, DESK, account.id, tells=True)


async def test_a_round_passes_over_what_has_no_test_line_and_calls_it_neither_failed_nor_tested(
    database: Database, account: Account, location: Location, keys: KeyRing
) -> None:
    """E-15: with an outcome of its own; overdue lists and counts leave such places out, whoever's country it is."""
    london = await abroad(database, account)
    async with database.sessions.begin() as session:
        lisbon = await add_location(session, account, name="Lisbon", civic_address=LONDON | {"country": "pt"})
        await sweeps.begin_sweep(session, DESK, account.id, tells=True)
    sweep = await until_ended(Sweeper(database, keys, lambda: ""), database)
    assert (sweep.locations, sweep.passed, sweep.failed, sweep.skipped) == (3, 0, 0, 3)
    since = utc_now() - dt.timedelta(days=90)
    async with database.sessions() as session:
        tested = {each.location.name: each.test for each in await store_tests.locations_tested(session, account.id)}
        overdue = await store_tests.locations_tested(session, account.id, untested_since=since)
        assert {name: test.outcome for name, test in tested.items() if test} == {
            "Headquarters": Outcome.NO_CALLER, "London": Outcome.NO_TEST_LINE, "Lisbon": Outcome.NO_TEST_LINE,
        }  # fmt: skip
        assert [each.location.name for each in overdue] == ["Headquarters"]
        assert await store_tests.count_untested(session, account.id, since) == 1
        assert await store_tests.count_without_caller(session, account.id, since) == 1
        ids = [location.id, london.id, lisbon.id]
        assert await store_tests.untestable_among(session, ids) == {london.id, lisbon.id}
        rows = await session.scalars(select(Location.name).where(store_tests.untested(since)))
        assert list(rows) == ["Headquarters"]


@pytest.mark.parametrize(("country", "named", "is_there"), [("GB", "", False), ("US", "", True), ("GB", "US", True)])
async def test_an_address_that_names_no_country_is_in_the_accounts(
    database: Database, country: str, named: str, is_there: bool
) -> None:
    """E-15: as a call from there is taken."""
    async with database.sessions.begin() as session:
        account = await add_account(session, country=country)
        civic = {key: value for key, value in LONDON.items() if key != "country"} | (
            {"country": named} if named else {}
        )
        place = await add_location(session, account, civic_address=civic)
        assert await store_tests.is_testable(session, place) is is_there
        assert await store_tests.count_testable(session, account.id) == int(is_there)


async def test_a_plan_that_is_withdrawn_ends_no_round_and_begins_none(
    database: Database, account: Account, location: Location, keys: KeyRing
) -> None:
    """E-15: in the middle of a round; whoever wants that one ended stops it."""
    places = [await abroad(database, account, name, country="US") for name in ("Barn", "Shed")]
    async with database.sessions.begin() as session:
        plan = await sweeps.plan_for(session, account)
        await sweeps.change_plan(session, DESK, account, plan, {"cadence": "weekly"})
    sweeper, later = Sweeper(database, keys, lambda: ""), utc_now() + dt.timedelta(days=8)
    async with database.sessions.begin() as session:
        await add_line(session, account)
    assert await sweeper.look(later)  # one of three is dealt with
    async with database.sessions.begin() as session:
        plan = await sweeps.plan_for(session, account, to_change=True)
        await sweeps.change_plan(session, DESK, account, plan, {"cadence": "off"})
    ended = await until_ended(sweeper, database, lambda: later)
    assert (ended.state, ended.failed + ended.skipped) == ("done", len(places) + 1)
    assert not await sweeper.look(later + dt.timedelta(days=30))
    async with database.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Sweep)) == 1


class DeadLine(asyncio.DatagramProtocol):
    """Somebody on the SIP port who says 100 and no more; `heard` are the methods it was sent."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        method = data.partition(b" ")[0].decode()
        self.heard.append(method)
        if method == "INVITE":
            self.transport.sendto(sip_response(data, 100, to_tag=""), addr)  # type: ignore[attr-defined]
        elif method == "CANCEL":
            self.transport.sendto(sip_response(data, 200), addr)  # type: ignore[attr-defined]
        self.news.set()

    async def until(self, method: str) -> None:
        async with asyncio.timeout(30.0):
            while method not in self.heard:
                self.news.clear()
                await self.news.wait()


@pytest.fixture
async def dead_line() -> AsyncIterator[tuple[DeadLine, str]]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        DeadLine, local_addr=("127.0.0.1", 0)
    )
    yield protocol, "127.0.0.1:{}".format(transport.get_extra_info("sockname")[1])
    transport.close()


@pytest.mark.enable_socket
async def test_a_test_call_is_withdrawn_as_soon_as_a_real_one_waits_and_its_location_has_its_turn_again(
    database: Database, account: Account, location: Location, keys: KeyRing, dead_line: tuple[DeadLine, str]
) -> None:
    """E-15: a CANCEL leaves, nothing is recorded against the location, and no further call is placed meanwhile."""
    peer, address = dead_line
    async with database.sessions.begin() as session:
        await add_network(session, location, "10.4.12.0/24")
        await add_line(session, account)
        await sweeps.begin_sweep(session, DESK, account.id, tells=True)
    sweeper = Sweeper(database, keys, lambda: address)
    looking = asyncio.create_task(sweeper.look(utc_now()))
    await peer.until("INVITE")
    real = call_of(account, location, kind="emergency", dialed="911", outcome="in_progress", status_code=None)
    async with database.sessions.begin() as session:
        session.add(real)
        record(session, SYSTEM, Event.EMERGENCY_CALL_CREATE, real)
    await peer.until("CANCEL")
    assert await looking
    peer.heard.clear()
    assert await sweeper.look(utc_now())
    assert peer.heard == []
    async with database.sessions() as session:
        assert await store_tests.last_test_of(session, location) is None


async def test_a_round_whose_every_call_ends_in_an_error_of_ours_ends_itself(
    database: Database, account: Account, keys: KeyRing
) -> None:
    """E-15: the guard counts errors in a row; each location is dealt with once, and other rounds have their turn."""
    for at in range(MAX_STUMBLES + 3):
        await abroad(database, account, "x" * (at + 1), country="US")

    def broken() -> str:
        raise ZeroDivisionError

    async with database.sessions.begin() as session:
        await add_line(session, account)
        await sweeps.begin_sweep(session, DESK, account.id, tells=True)
    sweep = await until_ended(Sweeper(database, keys, broken), database)
    assert (sweep.state, sweep.failed, sweep.locations) == ("done", MAX_STUMBLES, MAX_STUMBLES + 3)
    async with database.sessions() as session:
        tests = [each.test for each in await store_tests.locations_tested(session, account.id) if each.test]
    assert {test.outcome for test in tests} == {Outcome.NOT_RECORDED}
    assert "ZeroDivisionError" in tests[0].detail


async def test_one_error_among_others_does_not_end_a_round(database: Database, account: Account, keys: KeyRing) -> None:
    """E-15: only errors in a row count."""
    for at in range(MAX_STUMBLES + 3):
        await abroad(database, account, "x" * (at + 1), country="US")
    calls = itertools.count()

    def mostly_broken() -> str:
        if next(calls) % 2:
            return ""
        raise ZeroDivisionError

    async with database.sessions.begin() as session:
        await add_line(session, account)
        await sweeps.begin_sweep(session, DESK, account.id, tells=True)
    sweep = await until_ended(Sweeper(database, keys, mostly_broken), database)
    assert (sweep.state, sweep.failed) == ("done", MAX_STUMBLES + 3)


async def test_calls_of_a_round_keep_their_distance(
    database: Database, account: Account, location: Location, keys: KeyRing
) -> None:
    """E-15: one call, then a pause, however many locations wait; an idle node looks more rarely than it calls."""
    times: list[float] = []
    loop = asyncio.get_running_loop()

    def placed() -> str:
        times.append(loop.time())
        return ""

    for name in ("Barn", "Shed!"):
        await abroad(database, account, name, country="US")
    async with database.sessions.begin() as session:
        await add_network(session, location, "10.4.12.0/24")
        await add_line(session, account)
        await sweeps.begin_sweep(session, DESK, account.id, tells=True)
    running = asyncio.create_task(Sweeper(database, keys, placed, pace_s=0.4).run())
    try:
        async with asyncio.timeout(60.0):
            while len(times) < 3:
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert all(later - earlier >= 0.4 for earlier, later in itertools.pairwise(times)), times
