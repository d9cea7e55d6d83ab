"""Measurements on their way into the database: the latest of each phone, nothing lost while it is away."""

import datetime as dt
from ipaddress import ip_address

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from engine.db import Database
from engine.e911 import held_sightings
from engine.e911.held_sightings import MeasuredSightings
from engine.e911.location import Sighting as Seen
from engine.models import Sighting
from tests.factories import add_account, add_phone
from tests.unit.admin.adminport import away

NOW = dt.datetime(2026, 11, 21, 20, 0, tzinfo=dt.UTC)


def seen(phone_id: str, port: str, second: int = 0) -> Seen:
    return Seen(phone_id, "sw-1", port, None, ip_address("10.1.2.3"), "held", NOW + dt.timedelta(seconds=second))


async def kept(database: Database) -> list[tuple]:
    async with database.sessions() as session:
        rows = await session.scalars(select(Sighting))
        return [(row.phone_id, row.chassis, row.port, row.ip, row.source) for row in rows]


@pytest.fixture
async def phone(database):
    async with database.sessions.begin() as session:
        return await add_phone(session, await add_account(session))


async def test_of_each_phone_the_latest_measurement_is_written_once(database, phone):
    """E-13: a phone that asks every second costs one row."""
    sightings = MeasuredSightings(database)
    for number in range(5):
        sightings.note(phone.account_id, seen(phone.id, f"gi1/0/{number}", number))
    await sightings.flush()
    assert await kept(database) == [(phone.id, "sw-1", "gi1/0/4", "10.1.2.3", "held")]


async def test_a_phone_deleted_meanwhile_or_of_another_account_is_passed_over(database, phone):
    sightings = MeasuredSightings(database)
    sightings.note(phone.account_id, seen("phone_gone", "1"))
    sightings.note("account_other", seen(phone.id, "1"))
    await sightings.flush()
    assert await kept(database) == []


async def test_what_cannot_be_written_now_is_written_later(database, phone):
    sightings = MeasuredSightings(database)
    sightings.note(phone.account_id, seen(phone.id, "1"))
    async with away(database):
        with pytest.raises(OperationalError):
            await sightings.flush()
    sightings.note(phone.account_id, seen(phone.id, "2", 1))
    await sightings.flush()
    assert [row[2] for row in await kept(database)] == ["2"]


def test_what_waits_is_bounded(database, monkeypatch):
    monkeypatch.setattr(held_sightings, "MAX_WAITING", 3)
    sightings = MeasuredSightings(database)
    for number in range(9):
        sightings.note("account_1", seen(f"phone_{number % 4}", str(number)))
    assert len(sightings._waiting) == 3
