"""Where the network saw a phone: what is kept, what is told to the SIP process, and when it is written."""

import datetime as dt
import json
import time
from typing import Any

import pytest
from sqlalchemy import func, select

from engine.audit.record import Actor
from engine.db import Database, utc_now
from engine.e911 import snapshot, store
from engine.e911.publish import SnapshotPublisher
from engine.e911.sightings import on_committed, record_sighting
from engine.errors import Invalid
from engine.models import AuditEntry, Phone, Sighting, SightingSource
from tests.factories import add_account, add_phone

ADMIN = Actor("user", "user_1", "pat@example.com", "192.0.2.7")
HOUR = dt.timedelta(hours=1)
API, HELD, SNMP = SightingSource.API, SightingSource.HELD, SightingSource.SNMP


@pytest.fixture
async def phone(database: Database) -> Phone:
    async with database.sessions.begin() as session:
        return await add_phone(session, await add_account(session))


@pytest.fixture
def told(database: Database) -> list[Any]:
    """What the SIP process is told."""
    found: list[Any] = []
    on_committed(database, found.append)
    return found


async def sight(database: Database, phone: Phone, source: SightingSource = SNMP, **fields: Any) -> Sighting:
    async with database.sessions.begin() as session:
        return await record_sighting(session, ADMIN, phone.account_id, phone, source=source, **fields)


async def kept(database: Database) -> Sighting:
    async with database.sessions() as session:
        return (await session.scalars(select(Sighting))).one()


async def test_a_sighting_is_kept_in_one_spelling_and_told_after_its_commit(
    database: Database, phone: Phone, told: list[Any]
) -> None:
    """E-05: the SIP process reads just what it is told."""
    await sight(database, phone, chassis="00:11:22:33:44:55", port="Gi1/0/7", ip="::ffff:10.1.2.3")
    row = await kept(database)
    assert (row.chassis, row.port, row.bssid, row.ip, row.source) == (
        "001122334455",
        "gi1/0/7",
        None,
        "10.1.2.3",
        "snmp",
    )
    (message,) = told
    assert (message["account_id"], message["source"]) == (phone.account_id, "snmp")
    sighting = snapshot.read_sighting(json.loads(json.dumps(message)))
    assert (sighting.phone_id, sighting.port, str(sighting.ip)) == (phone.id, "gi1/0/7", "10.1.2.3")
    assert sighting.seen_at == row.seen_at


async def test_what_is_rolled_back_is_told_to_nobody(database: Database, phone: Phone, told: list[Any]) -> None:
    with pytest.raises(RuntimeError):
        async with database.sessions.begin() as session:
            await record_sighting(session, ADMIN, phone.account_id, phone, source=SNMP, ip="10.1.2.3")
            raise RuntimeError
    assert told == []


async def test_no_sighting_moves_a_revision(database: Database, phone: Phone) -> None:
    """E-05: 100,000 phones plugged in of a morning do not write the table anew 100,000 times."""
    async with database.sessions() as session:
        before = await store.revisions(session)
    for source in (SNMP, HELD, API):
        await sight(database, phone, source, bssid="00:15:6d:12:34:56")
    async with database.sessions() as session:
        assert await store.revisions(session) == before


async def test_what_the_api_says_is_audited_and_what_switches_say_is_not(database: Database, phone: Phone) -> None:
    """A-01: every API operation is an event."""

    async def entries() -> int:
        async with database.sessions() as session:
            return int(await session.scalar(select(func.count()).where(AuditEntry.event == "phone.sight")) or 0)

    await sight(database, phone, SNMP, ip="10.1.2.3")
    await sight(database, phone, HELD, ip="10.1.2.4")
    assert await entries() == 0
    await sight(database, phone, API, ip="10.1.2.5")
    assert await entries() == 1


async def test_an_older_sighting_changes_nothing(database: Database, phone: Phone, told: list[Any]) -> None:
    """E-05: the latest one alone."""
    await sight(database, phone, bssid="00156d123456")
    await sight(database, phone, bssid="00156dffffff", seen_at=utc_now() - HOUR)
    assert (await kept(database)).bssid == "00156d123456"
    assert len(told) == 1


@pytest.mark.parametrize(
    ("ago", "ip", "chassis"),
    [(HOUR, "10.1.2.3", "001122334455"), (HOUR, "10.9.9.9", None), (25 * HOUR, "10.1.2.3", None)],
)
async def test_an_address_alone_takes_no_switch_port_away_unless_it_is_another_or_a_day_later(
    database: Database, phone: Phone, ago: dt.timedelta, ip: str, chassis: str | None
) -> None:
    """E-05: a phone that asks over HELD from the same address is still at the same port."""
    await sight(database, phone, SNMP, chassis="001122334455", port="7", ip="10.1.2.3", seen_at=utc_now() - ago)
    await sight(database, phone, HELD, ip=ip)
    assert (await kept(database)).chassis == chassis


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({}, ["chassis"]),
        ({"port": "7"}, ["chassis", "chassis"]),
        ({"port": "7", "ip": "10.1.2.3"}, ["chassis"]),
        ({"chassis": "a/b"}, ["chassis"]),
        ({"bssid": "00:11"}, ["bssid"]),
        ({"ip": "10.1.2.300"}, ["ip"]),
        ({"ip": "10.1.2.3", "bssid": "x"}, ["bssid"]),
        ({"ip": "10.1.2.3", "seen_at": dt.datetime(2999, 1, 1, tzinfo=dt.UTC)}, ["seen_at"]),
    ],
)
async def test_what_says_nothing_of_where_is_refused(
    database: Database, phone: Phone, fields: dict[str, Any], bad: list[str]
) -> None:
    """Each bad field is named."""
    with pytest.raises(Invalid) as refused:
        await sight(database, phone, **fields)
    assert [fault.field for fault in refused.value.fields] == bad


async def test_sightings_are_written_with_the_next_table_and_once_a_minute(
    database: Database, phone: Phone, keys: Any, tmp_path: Any
) -> None:
    """E-05: at most every minute, and never for a sighting alone before that."""
    published: list[str] = []
    publisher = SnapshotPublisher(
        database, keys, tmp_path, on_published=published.append, on_dropped=lambda _account: None
    )
    try:
        await publisher.publish_changed()
        assert published == [phone.account_id]
        await sight(database, phone, bssid="00156d123456")
        await publisher.publish_changed()
        assert published == [phone.account_id]
        before = time.monotonic()
        await publisher.publish_sighted()
        assert published == [phone.account_id] * 2
        assert snapshot.load(tmp_path, phone.account_id, keys).sightings[phone.id].bssid == "00156d123456"
        assert publisher.sightings_due_at >= before + 60
        await publisher.publish_sighted()
        assert published == [phone.account_id] * 2
    finally:
        publisher.close()
