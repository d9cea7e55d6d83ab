"""Numbers that can be called back: one by one and in runs, lent and free, and how far a pool reaches."""

import datetime as dt

import pytest
from sqlalchemy import select

from engine.audit.record import SYSTEM
from engine.db import Database, utc_now
from engine.e911 import callback_numbers, sites, store
from engine.e911.callback_numbers import MAX_RANGE
from engine.errors import Conflict, Invalid
from engine.models import Account, AuditEntry, EmergencyCall, Location, Number
from engine.provisioning import phones
from tests.factories import add_account, add_emergency_call, add_line, add_location, add_number

NOW = dt.datetime(2026, 11, 21, 20, 0, tzinfo=dt.UTC)


@pytest.fixture
async def account(database: Database) -> Account:
    async with database.sessions.begin() as session:
        return await add_account(session)


@pytest.fixture
async def location(database: Database, account: Account) -> Location:
    async with database.sessions.begin() as session:
        return await add_location(session, account)


def faults_of(refused: pytest.ExceptionInfo[Invalid]) -> set[str]:
    return {fault.field for fault in refused.value.fields}


async def test_a_run_of_numbers_is_added_in_one_step_with_an_entry_for_each(
    database: Database, account: Account, location: Location
) -> None:
    """E-09: both ends are in it, in whatever spelling; one entry tells of the whole, one of each number."""
    async with database.sessions.begin() as session:
        values = {"range": "(212) 555-0100..+12125550104", "kind": "elin", "location_id": location.id}
        made = await callback_numbers.create_range(session, SYSTEM, account, values)
    assert [number.e164 for number in made] == [f"+1212555010{last}" for last in range(5)]
    async with database.sessions() as session:
        entries = list(await session.scalars(select(AuditEntry).where(AuditEntry.event == "number.create")))
    assert len(entries) == 6
    assert sum('"bulk_id":null' in entry.entry for entry in entries) == 1


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("+12125550104..+12125550100", "lower number first"),
        ("+12125550100..+442079460958", "lower number first"),
        (f"+12125550100..+1212555{100 + MAX_RANGE:04}", "at most"),
        ("+12125550100", "the first and the last"),
        ("911..912", "the first and the last"),
        ("..", "the first and the last"),
        ("9" * 100 + "..1", "the first and the last"),
        (None, "the first and the last"),
        (7, "the first and the last"),
    ],
)
async def test_a_run_that_is_none_is_refused_in_a_sentence(
    database: Database, account: Account, location: Location, text: object, part: str
) -> None:
    async with database.sessions() as session:
        with pytest.raises(Invalid, match=part) as refused:
            values = {"range": text, "kind": "elin", "location_id": location.id}
            await callback_numbers.create_range(session, SYSTEM, account, values)
    assert faults_of(refused) == {"range"}


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({}, {"e164"}),
        ({"e164": "911"}, {"e164"}),
        ({"e164": "+12125550100", "kind": "pool"}, {"kind"}),
        ({"e164": "+12125550100", "kind": "elin"}, {"location_id"}),
        ({"e164": "+12125550100", "location_id": "location_x", "line_id": "line_x"}, {"location_id", "line_id"}),
        ({"e164": "+12125550100", "held_until": "2026-11-21T20:00:00Z"}, {"held_until"}),
    ],
)
async def test_every_bad_field_of_a_number_is_told(
    database: Database, account: Account, values: dict[str, object], fields: set[str]
) -> None:
    """E-09: an emergency number calls nobody back, and a pool without a location lends to nobody."""
    async with database.sessions() as session:
        with pytest.raises(Invalid) as refused:
            await callback_numbers.create_number(session, SYSTEM, account, values)
    assert faults_of(refused) == fields


async def test_a_number_reaches_one_account_only(database: Database, account: Account, location: Location) -> None:
    """E-09: a callback must not have two accounts to go to; whose it is stays unsaid."""
    async with database.sessions.begin() as session:
        other = await add_account(session, name="Other")
        await callback_numbers.create_number(session, SYSTEM, other, {"e164": "+12125550102"})
    async with database.sessions() as session:
        values = {"range": "+12125550100..+12125550104", "kind": "elin", "location_id": location.id}
        with pytest.raises(Conflict, match=r"\+12125550102 is known already") as refused:
            await callback_numbers.create_range(session, SYSTEM, account, values)
    assert other.id not in refused.value.detail


async def test_what_a_number_is_for_changes_and_the_number_does_not(
    database: Database, account: Account, location: Location
) -> None:
    async with database.sessions.begin() as session:
        line = await add_line(session, account)
        number = await callback_numbers.create_number(session, SYSTEM, account, {"e164": "+12125550100"})
        await callback_numbers.update_number(session, SYSTEM, account, number, {"line_id": line.id})
        assert number.line_id == line.id
        with pytest.raises(Invalid) as refused:
            values = {"kind": "elin", "location_id": location.id, "e164": "+12125550101"}
            await callback_numbers.update_number(session, SYSTEM, account, number, values)
    assert faults_of(refused) == {"e164", "line_id"}


async def test_a_number_that_a_call_holds_is_not_removed(database: Database, account: Account) -> None:
    """E-09: responders may still call it back."""
    async with database.sessions.begin() as session:
        held = await add_number(session, account, "+12125550100", held_until=utc_now() + dt.timedelta(minutes=5))
        past = await add_number(session, account, "+12125550101", held_until=utc_now() - dt.timedelta(minutes=5))
    async with database.sessions.begin() as session:
        await callback_numbers.delete_number(session, SYSTEM, await session.merge(past))
        with pytest.raises(Conflict, match="kept for callbacks until"):
            await callback_numbers.delete_number(session, SYSTEM, held)


async def test_a_call_holds_its_number_and_an_older_one_takes_nothing_from_it(
    database: Database, account: Account, location: Location
) -> None:
    """E-09: entries of the journal may come late; the last caller is the one who is called back."""
    async with database.sessions.begin() as session:
        number = await add_number(session, account, "+12125550100", kind="elin", location_id=location.id)
        older, newer = [await add_emergency_call(session, account, at=NOW + dt.timedelta(minutes=at)) for at in (0, 10)]
        for call, name in ((newer, "Bea"), (older, "Abe")):
            call.elin, call.caller = number.e164, {"name": name, "sip_user": "101", "extension": "101"}
            await callback_numbers.hold(session, account, call)
    async with database.sessions() as session:
        kept = await session.get(Number, number.id)
        assert kept is not None
        assert kept.held_until == NOW + dt.timedelta(minutes=190)
        assert kept.held_by is not None
        assert (kept.held_by["name"], kept.held_by["call"], kept.version) == ("Bea", newer.id, 1)


async def test_a_call_without_a_number_of_a_pool_holds_none(database: Database, account: Account) -> None:
    async with database.sessions.begin() as session:
        call = await add_emergency_call(session, account, at=NOW)
        await callback_numbers.hold(session, account, call)
        call.elin = "+12125550199"  # removed since
        await callback_numbers.hold(session, account, call)
        assert (await session.scalars(select(Number))).all() == []


@pytest.mark.parametrize(
    ("size", "minutes", "held", "peak", "warning"),
    [
        (3, [0, 10], 0, 2, ""),
        (3, [0, 10, 20], 0, 3, "had no number left"),
        (3, [0, 181, 400], 0, 1, ""),
        (1, [], 0, 0, "Plan two or three"),
        (2, [6990, 6999], 2, 2, "Every number of this pool"),
    ],
)
async def test_a_pool_tells_how_far_it_reaches_before_it_is_empty(
    database: Database, account: Account, location: Location, size: int, minutes: list[int], held: int, peak: int,
    warning: str,
) -> None:  # fmt: skip
    """E-09: exhaustion is warned of ahead, by what was held at once in the last days."""
    async with database.sessions.begin() as session:
        numbers = [
            await add_number(session, account, f"+1212555010{at}", kind="elin", location_id=location.id)
            for at in range(size)
        ]
        for at, minute in enumerate(minutes):
            call = await add_emergency_call(session, account, at=NOW + dt.timedelta(minutes=minute))
            call.elin = numbers[at % size].e164
            await callback_numbers.hold(session, account, call)
    async with database.sessions() as session:
        (pool,) = await callback_numbers.pools_of(session, account, NOW + dt.timedelta(minutes=7000))
    assert (pool.location_id, pool.size, pool.held, pool.peak) == (location.id, size, held, peak)
    assert warning in pool.warning
    assert bool(pool.warning) == bool(warning)
    assert (pool.next_free_at is not None) == (held == size)


async def test_numbers_outlive_their_location_and_line_and_the_audit_log_says_so(
    database: Database, account: Account, location: Location
) -> None:
    """E-09: a pool is not lost with its address; it is lent to nobody, and that is told."""
    async with database.sessions.begin() as session:
        line = await add_line(session, account)
        pooled = await add_number(session, account, "+12125550100", kind="elin", location_id=location.id)
        own = await add_number(session, account, "+12125550101", line_id=line.id)
    async with database.sessions.begin() as session:
        here = await store.location_by_id(session, account.id, location.id)
        assert here is not None
        await sites.delete_location(session, SYSTEM, here)
        await phones.delete_line(session, SYSTEM, await session.merge(line))
    async with database.sessions() as session:
        kept = {number.id: number for number in await store.numbers_of(session, account.id)}
        (pool,) = await callback_numbers.pools_of(session, account, NOW)
        entries = (await session.scalars(select(AuditEntry).where(AuditEntry.event == "location.delete"))).all()
    assert (kept[pooled.id].location_id, kept[own.id].line_id) == (None, None)
    assert "belong to no location" in pool.warning
    assert pooled.id in entries[0].entry


async def test_a_calls_number_is_stored_with_it(database: Database, account: Account) -> None:
    async with database.sessions.begin() as session:
        call = await add_emergency_call(session, account, at=NOW)
        call.elin = "+12125550100"
    async with database.sessions() as session:
        stored = await session.get(EmergencyCall, call.id)
        assert stored is not None
        assert stored.elin == "+12125550100"
        assert await store.callbacks_of(session, stored) == []
