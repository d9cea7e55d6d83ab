"""The list of phones and tables of them on PostgreSQL: the same answers as on SQLite."""

import asyncio
import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update

from admin import importing
from engine.audit.events import Event
from engine.audit.record import SYSTEM, head_of, record
from engine.db import Database, utc_now
from engine.errors import Conflict
from engine.models import AuditEntry, Phone, PhoneStatus
from engine.provisioning import bulk, imports, store_imports, store_phones
from engine.provisioning.fetches import Fetch, FetchKind
from engine.provisioning.fetchlog import FetchLog
from engine.provisioning.phone_list import Filters, Order, Place
from tests import factories
from tests.postgres import until_somebody_waits

pytestmark = pytest.mark.enable_socket


async def test_lists_tables_and_changes_of_many_answer_as_on_sqlite(postgres: Database, tmp_path: Path) -> None:
    """P-16, P-19 on PostgreSQL: filters in any case, every order with phones that never fetched, import, changes."""
    async with postgres.sessions.begin() as session:
        account = await factories.add_account(session)
        place = await factories.add_location(session, account)
    actor = replace(SYSTEM, account_id=account.id)
    rows = [f"805ec00000{at:02x},yealink,T46U,Desk {at:02},Headquarters,3{at:02},s3cret" for at in range(12)]
    table = "\n".join(["mac,vendor,model,label,location,line1_extension,line1_secret", *rows]).encode()

    async def imported() -> imports.Plan:
        sheet = imports.read(table)
        async with postgres.sessions() as session:
            macs, users = imports.macs_of(sheet), imports.sip_users_of(sheet)
            seen = await store_imports.known_of(session, account, macs, users)
        plan = imports.plan(sheet, seen.known)
        made = store_imports.ready(postgres, account.id, plan, seen.known)
        async with postgres.sessions.begin() as session:
            await store_imports.refuse_moved(session, account.id, seen.revision)
            await store_imports.carry_out(session, actor, account, made)
        return plan

    assert (await imported()).count(imports.Outcome.NEW) == 12
    assert (await imported()).count(imports.Outcome.UNCHANGED) == 12
    async with postgres.sessions() as session:
        known = await store_imports.everything(session, account)
    told = imports.table_of(known.phones.values(), known).decode().splitlines()
    assert min(told[1:]) == "805ec0000000,yealink,T46U,Desk 00,Headquarters,300,,,,,,,"
    assert len(told) == 13
    async with postgres.sessions.begin() as session:
        found = await store_phones.list_phones(session, account.id, Filters(), order=Order.LABEL)
        for at, phone in enumerate(found.rows):
            phone.last_fetch_at = None if at % 4 == 0 else utc_now() - dt.timedelta(hours=at)
            phone.last_ip, phone.status = f"10.0.0.{at}", "current"
    async with postgres.sessions() as session:
        for filters, number in (
            (Filters(text="DESK 0"), 11), (Filters(text="sk 11"), 1), (Filters(text="10.0.0.1"), 3),
            (Filters(text="311"), 1), (Filters(location_id="none"), 0), (Filters(location_id=place.id), 12),
            (Filters(seen_since=utc_now() - dt.timedelta(hours=5, minutes=30)), 4), (Filters(firmware="1"), 0),
        ):  # fmt: skip
            assert await store_phones.count(session, account.id, filters) == number, filters
        for order in Order:
            for is_descending in (False, True):
                seen: list[str] = []
                after: Place | None = None
                while True:
                    page = await store_phones.list_phones(
                        session,
                        account.id,
                        Filters(),
                        order=order,
                        is_descending=is_descending,
                        after=after,
                        limit=5,
                    )
                    seen += [phone.label for phone in page.rows]
                    after = page.next_place
                    if after is None:
                        break
                assert sorted(seen) == [f"Desk {at:02}" for at in range(12)], (order, is_descending)
    async with postgres.sessions.begin() as session:
        ids = await bulk.chosen(session, account.id, filters=Filters(text="desk"))
        done = await bulk.set_setting(session, actor, account, ids, "vlan_id", 20, own=True)
    assert done.changed == 12
    async with postgres.sessions() as session:
        page = await store_phones.list_phones(session, account.id, Filters(status="stale"), order=Order.LABEL)
        assert [phone.settings for phone in page.rows] == [{"vlan_id": 20}] * 12


async def test_what_somebody_changes_on_a_phone_while_a_fetch_of_it_is_written_stays(postgres: Database) -> None:
    """P-09 on PostgreSQL, which lets two write at once: a phone that is held back, or whose home is kept for a move,
    stays so when the fetch log puts down what the phone was given a moment before.
    """
    async with postgres.sessions.begin() as session:
        account = await factories.add_account(session)
        phone = await factories.add_phone(session, account, status=PhoneStatus.CURRENT, fetched_revision=1)
    log = FetchLog(postgres, interval_s=0.01)
    served = Fetch(
        FetchKind.NOT_MODIFIED, "805ec0000001.cfg", "GET", 304, "192.0.2.7", "Yealink", account.id, phone.id, revision=1
    )
    log.note(served, 10)
    async with postgres.sessions.begin() as session:
        held = {"status": PhoneStatus.QUARANTINED, "home_ip": "192.0.2.9"}
        await session.execute(update(Phone).where(Phone.id == phone.id).values(**held))
        log.start()
        await until_somebody_waits(postgres)
    found = await written(postgres, phone.id)
    await log.stop()
    assert (found.status, found.home_ip, found.last_ip) == (PhoneStatus.QUARANTINED, "192.0.2.9", "192.0.2.7")


async def test_a_change_of_many_phones_never_fails_because_their_fetches_are_being_written(postgres: Database) -> None:
    """P-19 on PostgreSQL: a table of phones takes the audit chain and then each phone, an entry of the fetch log is put
    behind what it says of the phone. Where they would wait for each other the fetch log gives way, and loses nothing.
    """
    phone, log = await served(postgres, interval_s=0.01)
    async with postgres.sessions.begin() as session:
        await session.run_sync(head_of, phone.account_id)
        log.start()
        await until_somebody_waits(postgres, "advisory")
        await asyncio.sleep(1.2)  # the server looks for a deadlock once, a second after somebody began to wait
        await session.execute(update(Phone).where(Phone.id == phone.id).values(label="Hall"))
        record(session, SYSTEM, Event.PHONE_UPDATE, phone)
    found = await written(postgres, phone.id)
    await log.stop()
    async with postgres.sessions() as session:
        told = (await session.scalars(select(AuditEntry.event).order_by(AuditEntry.seq))).all()
    assert (found.label, found.status) == ("Hall", PhoneStatus.CURRENT)
    assert told[-2:] == [Event.PHONE_UPDATE, Event.PHONE_FIRST_FETCH]


async def test_a_table_and_a_form_that_change_the_same_phone_never_wait_for_each_other(postgres: Database) -> None:
    """P-19 on PostgreSQL: both take what they change first, then the audit chain, then the account's revision. The
    form that was first is stored, and the table is told that something changed.
    """
    async with postgres.sessions.begin() as session:
        account = await factories.add_account(session)
        line = await factories.add_line(session, account)
        phone = await factories.add_phone(session, account, line)
    table = f"mac,label,line1_extension,line1_display_name\n{phone.mac},Hall,{line.extension},Ann\n".encode()
    checked = await importing.check(postgres, account, importing.Kind.PHONES, table)
    made = await importing.prepare(postgres, account, checked)

    async def imported() -> None:
        async with postgres.sessions.begin() as session:
            await importing.carry_out(session, replace(SYSTEM, account_id=account.id), account, made)

    async with postgres.sessions.begin() as session:
        edited = await session.get_one(Phone, phone.id)
        edited.label = "Lobby"
        record(session, SYSTEM, Event.PHONE_UPDATE, edited)
        await session.flush()
        waiting = asyncio.create_task(imported())
        await until_somebody_waits(postgres)
    with pytest.raises(Conflict, match="changed while the table was being checked"):
        await waiting
    async with postgres.sessions() as session:
        assert (await session.get_one(Phone, phone.id)).label == "Lobby"


async def test_a_change_of_many_phones_and_a_form_never_wait_for_each_other(postgres: Database) -> None:
    """P-19 on PostgreSQL: the audit chain comes before the revision for both."""
    async with postgres.sessions.begin() as session:
        account = await factories.add_account(session)
        one = await factories.add_phone(session, account)
        other = await factories.add_phone(session, account, mac="0015650000aa")

    async def edited() -> None:
        async with postgres.sessions.begin() as session:
            phone = await session.get_one(Phone, other.id)
            phone.label = "Lobby"
            record(session, SYSTEM, Event.PHONE_UPDATE, phone)

    async with postgres.sessions.begin() as session:
        actor = replace(SYSTEM, account_id=account.id)
        await bulk.set_setting(session, actor, account, [one.id], "vlan_id", 20, own=True)
        waiting = asyncio.create_task(edited())
        await until_somebody_waits(postgres, "advisory")
    await waiting
    async with postgres.sessions() as session:
        found = {phone.id: phone for phone in await session.scalars(select(Phone))}
    assert (found[one.id].settings, found[other.id].label) == ({"vlan_id": 20}, "Lobby")


async def test_the_last_fetches_are_written_at_a_stop_though_others_hold_the_phone(postgres: Database) -> None:
    """P-09 on PostgreSQL: what gives way to a table of phones is tried again, not lost with the process."""
    phone, log = await served(postgres, interval_s=1.0)
    async with postgres.sessions.begin() as session:
        await session.execute(update(Phone).where(Phone.id == phone.id).values(label="Hall"))
        stopping = asyncio.create_task(log.stop())
        await until_somebody_waits(postgres)
        await asyncio.sleep(0.4)  # longer than the fetch log waits
        record(session, SYSTEM, Event.PHONE_UPDATE, phone)
    await stopping
    assert (await written(postgres, phone.id)).label == "Hall"


async def served(database: Database, *, interval_s: float) -> tuple[Phone, FetchLog]:
    """A phone, and a fetch log that has just noted that it was served its file."""
    async with database.sessions.begin() as session:
        account = await factories.add_account(session)
        phone = await factories.add_phone(session, account)
    log = FetchLog(database, interval_s=interval_s)
    log.note(
        Fetch(FetchKind.FETCH, "805ec0000001.cfg", "GET", 200, "192.0.2.7", "", account.id, phone.id, revision=1), 1
    )
    return phone, log


async def written(database: Database, phone_id: str) -> Phone:
    """The phone, as soon as the fetch log has put down where it was served."""
    async with asyncio.timeout(30.0):
        while True:
            async with database.sessions() as session:
                found = await session.get_one(Phone, phone_id)
            if found.last_ip is not None:
                return found
            await asyncio.sleep(0.02)
