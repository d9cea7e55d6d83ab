"""P-20, P-22 on a real PostgreSQL: the gate's statements, the alarms, the bootstrap's look-up; two nodes, one entry."""

import asyncio
import threading

import pytest
from sqlalchemy import event, select

from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.crypto import KeyRing
from engine.db import Database
from engine.models import Account, AuditEntry, Phone
from engine.provisioning import index, phones, store_bootstrap
from engine.provisioning.location_alarms import LocationAlarms
from engine.provisioning.location_gate import LOCATED
from engine.provisioning.store_alarms import alarm_groups, count_without_location
from tests.factories import add_account, add_line, add_location, add_network, add_pbx, add_phone, add_sighting


async def test_the_gate_and_the_bootstrap_on_postgresql(postgres: Database, keys: KeyRing) -> None:
    async with postgres.sessions.begin() as session:
        account = await add_account(session, provisioning_policy={"sources": ["10.4.0.0/16"]})
        token = await phones.generate_token(session, SYSTEM, account, keys)
        await add_pbx(session, account)
        phone = await add_phone(session, account, await add_line(session, account))
        town = await add_location(session, account, name="Town", civic_address={"country": "US", "A3": "Albany"})
        bare = await add_phone(session, account, mac="001565000002", location_id=town.id)
        place = await add_location(session, account)
        await add_network(session, place, "10.4.2.0/24")
    opened = index.SessionIndex(postgres, keys)
    found = await opened.phone(phone.id)
    assert found is not None
    assert found.unlocated.keys == frozenset({1})
    nodes = [LocationAlarms(postgres) for _ in range(2)]
    await asyncio.gather(*(node.look() for node in nodes))  # whoever comes first writes; the other finds it written
    async with postgres.sessions() as session:
        assert await count_without_location(session) == 2
        (group,) = await alarm_groups(session, account.id, 50)
        assert {alarm.phone_id for alarm in group.first} == {phone.id, bare.id}
        holder = await store_bootstrap.find_holder(session, "10.4.2.9")
        assert holder is not None
        assert (holder.account_id, holder.token) == (account.id, token)
        assert await store_bootstrap.find_holder(session, "10.5.0.1") is None
        assert await store_bootstrap.has_ranges(session)
    async with postgres.sessions.begin() as session:
        await add_sighting(session, phone, ip="10.4.2.9")
        row = await session.get(Account, account.id)
        assert row is not None
        row.name = "Acme"
        record(session, SYSTEM, Event.ACCOUNT_UPDATE, row)
    await asyncio.gather(*(node.look(on_networks=True) for node in nodes))
    found = await opened.phone(phone.id)
    assert found is not None
    assert found.unlocated == LOCATED
    async with postgres.sessions() as session:
        stored = await session.get(Phone, phone.id)
        assert stored is not None
        assert (stored.network_location_id, stored.no_location_at) == (place.id, None)
        told = await session.scalars(select(AuditEntry.event).where(AuditEntry.event.like("phone.location_%")))
        assert sorted(told) == ["phone.location_found", "phone.location_missing", "phone.location_missing"]


async def test_what_a_phone_is_rendered_from_is_of_one_commit(
    postgres: Database, postgres_url: str, keys: KeyRing
) -> None:
    """P-10: a change that is committed between two of its statements is in the next rendering, whole."""
    async with postgres.sessions.begin() as session:
        account = await add_account(session)
        phone = await add_phone(session, account, await add_line(session, account, "101"), label="before")
    asyncpg = pytest.importorskip("asyncpg")
    asked: list[str] = []

    async def change() -> None:
        own = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        await own.execute("UPDATE phone SET label = 'after'; UPDATE line SET extension = '202'")
        await own.close()

    def before_each(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)
        if len(asked) == 2:  # the phone's row is read, its lines are not
            other = threading.Thread(target=asyncio.run, args=(change(),))
            other.start()
            other.join()

    opened = index.SessionIndex(postgres, keys)
    event.listen(postgres.engine.sync_engine, "before_cursor_execute", before_each)
    found = await opened.phone(phone.id)
    event.remove(postgres.engine.sync_engine, "before_cursor_execute", before_each)
    assert found is not None
    assert (found.label, [line.extension for line in found.lines]) == ("before", ["101"])
    again = await opened.phone(phone.id)
    assert again is not None
    assert (again.label, [line.extension for line in again.lines]) == ("after", ["202"])
