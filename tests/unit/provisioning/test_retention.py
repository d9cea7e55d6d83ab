"""Old events leave the fetch log; a duty has one holder."""

import asyncio
import datetime as dt
from itertools import pairwise

from sqlalchemy import func, insert, select
from sqlalchemy.event import listens_for

from engine.accounts import store_storage
from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.db import utc_now
from engine.ids import new_id
from engine.models import Lease, ProvisioningEvent
from engine.provisioning import lease, retention
from engine.provisioning.retention import Retention
from tests.factories import add_account

NOW = utc_now()


def event(account_id: str | None, age_days: float, number: int, kind: str = "fetch") -> dict[str, object]:
    return {
        "id": f"fetch_{number:026d}", "account_id": account_id, "kind": kind, "file": "a.cfg", "method": "GET",
        "status_code": 200, "size_bytes": 6000, "duration_us": 900, "ip": "203.0.113.7",
        "user_agent": "Yealink SIP-T46U 108.86.0.20 80:5e:c0:12:34:56", "evidence": {"count": 1},
        "at": NOW - dt.timedelta(days=age_days),
    }  # fmt: skip


async def counted(database, *conditions) -> int:
    async with database.sessions() as session:
        return await session.scalar(select(func.count()).select_from(ProvisioningEvent).where(*conditions)) or 0


async def account_that_keeps(database, fetch_log_days: int = 90) -> str:
    async with database.sessions.begin() as session:
        account = await add_account(session)
        row = await store_storage.settings_row_to_change(session, account.id)
        row.fetch_log_days = fetch_log_days
        record(session, SYSTEM, Event.STORAGE_SETTINGS_UPDATE, row)
        return account.id


async def test_a_big_log_is_swept_in_batches_that_never_hold_the_writer_for_long(database, monkeypatch):
    """Decision 11: of 20,000 events 15,000 are too old; a writer that comes meanwhile waits for a batch at most."""
    batches: list[int] = []

    @listens_for(database.engine.sync_engine, "after_cursor_execute")
    def note(connection, cursor, statement, *_more):
        if statement.startswith("DELETE FROM provisioning_event"):
            batches.append(cursor.rowcount)

    account_id = await account_that_keeps(database)
    rows = [event(account_id, 120 if number < 15_000 else 5, number) for number in range(20_000)]
    async with database.sessions.begin() as session:
        await session.execute(insert(ProvisioningEvent), rows)
    monkeypatch.setattr(retention, "PAUSE_S", 0.001)
    sweeper = Retention(database, store_storage.fetch_log_days)
    waits: list[int] = []

    async def write() -> None:
        while True:
            before = len(batches)
            async with database.sessions.begin() as session:
                waits.append(len(batches) - before)
                await session.execute(insert(ProvisioningEvent), [event(account_id, 0, 50_000 + len(waits))])
            await asyncio.sleep(0.005)

    writer = asyncio.create_task(write())
    assert await sweeper.sweep(NOW) == 15_000
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    assert await counted(database, ProvisioningEvent.at < NOW - dt.timedelta(days=90)) == 0
    assert await counted(database, ProvisioningEvent.id < f"fetch_{20_000:026d}") == 5_000
    assert len(waits) > 5
    assert max(waits) <= 1, "batches that a writer waited for"
    assert sum(batches) == 15_000
    assert max(batches) <= retention.MOST_BATCH
    assert all(later <= 2 * max(earlier, retention.LEAST_BATCH) for earlier, later in pairwise(batches))


async def test_each_account_keeps_its_log_as_long_as_its_settings_say_and_strangers_are_kept_for_ninety_days(database):
    short, long = (
        await account_that_keeps(database, fetch_log_days=7),
        await account_that_keeps(database, fetch_log_days=400),
    )
    rows = [
        event(whose, age, 10 * at + place)
        for place, whose in enumerate((short, long, None))
        for at, age in enumerate((1, 8, 91, 300))
    ]
    async with database.sessions.begin() as session:
        await session.execute(insert(ProvisioningEvent), rows)
    assert await Retention(database, store_storage.fetch_log_days).sweep(NOW) == 3 + 0 + 2
    assert await counted(database, ProvisioningEvent.account_id == short) == 1
    assert await counted(database, ProvisioningEvent.account_id == long) == 4
    assert await counted(database, ProvisioningEvent.account_id.is_(None)) == 2


async def test_one_node_sweeps_at_a_time(database):
    account_id = await account_that_keeps(database)
    async with database.sessions.begin() as session:
        await session.execute(insert(ProvisioningEvent), [event(account_id, 120, 1)])
        assert await lease.take(session, retention.DUTY, "another node", NOW, for_s=60)
    assert await Retention(database, store_storage.fetch_log_days).sweep(NOW) == 0
    assert await Retention(database, store_storage.fetch_log_days).sweep(NOW + dt.timedelta(seconds=61)) == 1
    async with database.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Lease)) == 0, "the duty was given back"


async def test_a_duty_is_renewed_by_its_holder_and_taken_over_when_it_ran_out(database):
    mine, other = new_id("lease"), new_id("lease")
    later = NOW + dt.timedelta(seconds=31)
    async with database.sessions.begin() as session:
        assert await lease.take(session, "rollouts", mine, NOW, for_s=30)
        assert await lease.take(session, "rollouts", mine, NOW, for_s=30)
        assert not await lease.take(session, "rollouts", other, NOW, for_s=30)
        assert await lease.take(session, "retention", other, NOW, for_s=30), "another duty is another's"
    async with database.sessions.begin() as session:
        assert await lease.take(session, "rollouts", other, later, for_s=30)
        assert not await lease.take(session, "rollouts", mine, later, for_s=30)
        await lease.release(session, "rollouts", mine)
        assert not await lease.take(session, "rollouts", mine, later, for_s=30), "only its holder gives it back"


def test_a_batch_grows_and_shrinks_with_what_the_last_one_took():
    assert retention._next_batch(200, 0.001) == 400
    assert retention._next_batch(400, 0.1) == 100
    assert retention._next_batch(20, 5.0) == retention.LEAST_BATCH
    assert retention._next_batch(2000, 0.001) == retention.MOST_BATCH
