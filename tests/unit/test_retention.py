"""Records leave when they are older than their account keeps them; nothing that is open, owed or rested on does."""

import asyncio
import datetime as dt
import json
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.event import listen, listens_for

from engine import retention
from engine.accounts import store_storage
from engine.audit import pruning, store_beginnings
from engine.audit.checkpoints import Signer, export_lines
from engine.audit.events import Event
from engine.audit.record import PLATFORM, SYSTEM, record
from engine.audit.verify import verify
from engine.crypto import KeyRing
from engine.db import READS, Database, utc_now
from engine.e911 import store_removal
from engine.ids import least_id, new_id
from engine.models import (
    AuditBeginning,
    AuditEntry,
    CallAttempt,
    CallbackCall,
    EmergencyCall,
    LocationTest,
    Notification,
    RefusedKey,
    Session,
    User,
)
from engine.provisioning import lease
from engine.retention import NEW_CLOCK, RecordRetention
from tests import aging
from tests.factories import add_account, add_location

NOW = utc_now()
YEAR = dt.timedelta(days=366)


async def account_that_keeps(database: Database, **days: int) -> str:
    async with database.sessions.begin() as session:
        account = await add_account(session)
        row = await store_storage.settings_row_to_change(session, account.id)
        for name, value in days.items():
            setattr(row, name, value)
        record(session, SYSTEM, Event.STORAGE_SETTINGS_UPDATE, row)
        return account.id


async def aged(database: Database, keys: KeyRing, chain: str, days: int) -> None:
    """As if every entry of that chain had been written so many days before."""
    await aging.aged(database, keys, chain, NOW - dt.timedelta(days=days))


async def count(database: Database, table: Any, *conditions: Any) -> int:
    async with database.sessions() as session:
        return await session.scalar(select(func.count()).select_from(table).where(*conditions)) or 0


async def test_audit_entries_leave_and_their_rows_follow_when_nobody_reads_them_any_more(
    database: Database, keys: KeyRing
) -> None:
    """S1-22: each chain by its own setting, once a day at most; the rows an hour later; it verifies throughout."""
    short, ever = await account_that_keeps(database, audit_days=365), await account_that_keeps(database)
    for chain in (short, ever, PLATFORM):
        async with database.sessions.begin() as session:
            for _ in range(20):
                record(session, SYSTEM, Event.ACCOUNT_READ, account_id=None if chain == PLATFORM else chain)
        await aged(database, keys, chain, 400)
    duty = RecordRetention(database, keys, platform_audit_days=365)
    removed = await duty.sweep(NOW)
    assert (removed.pruned, removed.audit_rows) == (22 + 20, 0)
    async with database.sessions() as session:
        for chain, gone in ((short, 22), (PLATFORM, 20), (ever, 0)):
            assert await store_beginnings.begins_behind(session, chain) == gone
            verdict = verify([line async for line in export_lines(session, chain)])
            assert (verdict.fault, verdict.removed) == ("", gone)
    assert (await duty.sweep(NOW + dt.timedelta(minutes=30))).is_any is False
    later = NOW + dt.timedelta(hours=2)
    assert (await duty.sweep(later)).audit_rows == 42
    assert await count(database, AuditEntry, AuditEntry.chain == short) == 1
    assert await count(database, AuditEntry, AuditEntry.chain == ever) == 22
    await aged(database, keys, short, 400)
    assert (await duty.sweep(later)).pruned == 0, "not twice a day"
    assert (await duty.sweep(NOW + dt.timedelta(days=1, hours=1))).pruned == 1
    async with database.sessions() as session:
        entries = (await session.scalars(select(AuditEntry).where(AuditEntry.event == "audit_log.prune"))).all()
    assert {(entry.actor_type, entry.chain) for entry in entries} == {("system", short), ("system", PLATFORM)}


async def test_a_thousand_rows_go_in_steps_that_hold_no_writer_up(
    database: Database, keys: KeyRing, monkeypatch: Any
) -> None:
    """S1-22: a writer that comes meanwhile waits for one step, indexes included."""
    chain = await account_that_keeps(database, audit_days=365)
    async with database.sessions.begin() as session:
        for _ in range(1_500):
            record(session, SYSTEM, Event.ACCOUNT_READ, account_id=chain)
    await aged(database, keys, chain, 400)
    prefix = await pruning.proved(database, Signer(keys), chain, NOW - YEAR)
    assert prefix is not None
    async with database.sessions.begin() as session:
        await pruning.leave_behind(session, Signer(keys), chain, prefix, days=365)
    monkeypatch.setattr(retention, "PAUSE_S", 0.001)
    duty, waits, steps = RecordRetention(database, keys), [], []

    @listens_for(database.engine.sync_engine, "after_cursor_execute")
    def note(_connection: Any, cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith("DELETE FROM audit_entry"):
            steps.append(cursor.rowcount)

    async def write() -> None:
        while True:
            before = len(steps)
            async with database.sessions.begin() as session:
                waits.append(len(steps) - before)
                record(session, SYSTEM, Event.ACCOUNT_READ, account_id=chain)
            await asyncio.sleep(0.005)

    writer = asyncio.create_task(write())
    removed = await duty.sweep(utc_now() + dt.timedelta(hours=2))
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    assert removed.audit_rows == 1_502
    assert len(waits) > 5
    assert max(waits) <= 1, "steps that a writer waited for"
    assert sum(steps) == 1_502
    assert max(steps) <= retention.MOST_BATCH


async def test_one_node_at_a_time_has_the_duty(database: Database, keys: KeyRing) -> None:
    chain = await account_that_keeps(database, audit_days=365)
    await aged(database, keys, chain, 400)
    async with database.sessions.begin() as session:
        assert await lease.take(session, retention.DUTY, "another node", NOW, for_s=60)
    assert (await RecordRetention(database, keys).sweep(NOW)).is_any is False
    assert (await RecordRetention(database, keys).sweep(NOW + dt.timedelta(seconds=61))).pruned == 2
    assert await count(database, AuditBeginning) == 1


def call_of(account_id: str, age: dt.timedelta, **fields: Any) -> EmergencyCall:
    at = NOW - age
    usual: dict[str, Any] = {
        "id": new_id("call"), "account_id": account_id, "call_id": new_id("call"), "dialed": "911", "kind": "emergency",
        "location_source": "phone", "invite": "INVITE sip:911@trunk SIP/2.0", "outcome": "answered", "received_at": at,
        "sent_at": at, "recorded_at": at, "answered_at": at, "ended_at": at, "acknowledged_at": at,
    }  # fmt: skip
    return EmergencyCall(**usual | fields)


def notification_of(call: EmergencyCall, state: str) -> Notification:
    return Notification(
        id=new_id("notification"), account_id=call.account_id, emergency_call_id=call.id, recipient="a@example.com",
        because="account", subject="911", body="…", state=state, created_at=call.sent_at, next_try_at=call.sent_at,
    )  # fmt: skip


async def test_call_records_go_when_nothing_of_them_is_open_or_owed(database: Database, keys: KeyRing) -> None:
    """S1-22: never one in progress, unacknowledged, with somebody still to be told, or that a location rests on."""
    account_id = await account_that_keeps(database, call_days=365)
    ever = await account_that_keeps(database)
    old = [call_of(account_id, YEAR + dt.timedelta(days=day)) for day in (3, 2)]
    test = call_of(account_id, YEAR, kind="test", dialed="933", acknowledged_at=None)
    rested = call_of(account_id, YEAR, kind="test", dialed="933")
    owed = call_of(account_id, YEAR)
    kept = [
        call_of(account_id, YEAR, outcome="in_progress", ended_at=None), call_of(account_id, YEAR, ended_at=None),
        call_of(account_id, YEAR, acknowledged_at=None), call_of(account_id, dt.timedelta(days=364)), rested, owed,
        call_of(ever, 3 * YEAR),
    ]  # fmt: skip
    async with database.sessions.begin() as session:
        account = await session.get_one(type(await add_account(session)), account_id)
        place = await add_location(session, account)
        session.add_all([*old, test, *kept])
        record(session, SYSTEM, Event.EMERGENCY_CALL_CREATE, old[0])
        await session.flush()
        at = NOW - YEAR
        attempt = {"emergency_call_id": old[0].id, "number": 1, "trunk_id": "t", "trunk_name": "t", "hop": "h"}
        session.add_all([
            notification_of(old[0], "sent"), notification_of(owed, "waiting"),
            CallAttempt(**attempt, started_at=at, outcome="answered"),
            LocationTest(location_id=place.id, account_id=account_id, tried_at=at, tried_call_id=rested.id,
                         outcome="passed"),
            *(CallbackCall(id=new_id("callback"), account_id=account_id, emergency_call_id=of, number="+1518555",
                           received_at=when, outcome=outcome)
              for of, when, outcome in ((old[0].id, at, "answered"), (None, at - dt.timedelta(days=9), "answered"),
                                        (None, at, "in_progress"), (None, NOW, "answered"))),
        ])  # fmt: skip
    removed = await RecordRetention(database, keys).sweep(NOW)
    assert removed.calls == 3 + 1
    async with database.sessions() as session:
        left = set(await session.scalars(select(EmergencyCall.id)))
        entries = (await session.scalars(select(AuditEntry).where(AuditEntry.event == "emergency_call.prune"))).all()
        assert (await store_removal.old_calls(session, account_id, NOW - dt.timedelta(days=365))).calls == ()
    assert left == {call.id for call in kept}
    assert await count(database, CallbackCall) == 2
    assert await count(database, CallAttempt) == 0
    assert await count(database, Notification) == 1
    assert len(entries) == 2
    facts, orphans = (json.loads(entry.entry)["details"] for entry in sorted(entries, key=lambda one: one.seq))
    assert (orphans["calls"], orphans["callbacks"]) == (0, 1), "callbacks of no known call have an entry of their own"
    assert {name: facts[name] for name in ("calls", "emergency", "test", "callbacks", "attempts", "notifications")} == {
        "calls": 3, "emergency": 2, "test": 1, "callbacks": 1, "attempts": 1, "notifications": 1,
    }  # fmt: skip
    assert (entries[0].actor_type, facts["kept_days"]) == ("system", 365)
    assert facts["first_sent_at"] < facts["last_sent_at"]


@pytest.mark.parametrize(
    "late",
    ["received_at", "sent_at", "recorded_at", "answered_at", "ended_at", "acknowledged_at", "notification", "callback"],
)
async def test_one_time_that_is_not_old_keeps_a_call(database: Database, keys: KeyRing, late: str) -> None:
    """S1-22: a clock that said 2000 when the call was sent, or somebody who acknowledged it only now."""
    account_id = await account_that_keeps(database, call_days=365)
    call = call_of(account_id, 20 * YEAR, **{late: NOW} if late.endswith("_at") else {})
    mailed = notification_of(call, "sent")
    mailed.sent_at = NOW if late == "notification" else call.sent_at
    at = call.received_at
    back = CallbackCall(id=new_id("callback"), account_id=account_id, emergency_call_id=call.id, number="+1518555",
                        received_at=NOW if late == "callback" else at, outcome="answered")  # fmt: skip
    orphan = CallbackCall(id=new_id("callback"), account_id=account_id, number="+1518555", received_at=at,
                          ended_at=NOW, outcome="answered")  # fmt: skip
    async with database.sessions.begin() as session:
        session.add(call)
        record(session, SYSTEM, Event.EMERGENCY_CALL_CREATE, call)
        await session.flush()
        session.add_all([mailed, back, orphan])
    assert (await RecordRetention(database, keys).sweep(NOW)).calls == 0
    assert (await count(database, EmergencyCall), await count(database, CallbackCall)) == (1, 2)
    async with database.sessions() as session:
        assert await store_removal.count_old_calls(session, account_id, NOW - dt.timedelta(days=365), 100) == 0
    assert (await RecordRetention(database, keys).sweep(NOW + YEAR)).calls == 2, "when all of them are old"


async def test_calls_are_found_without_the_writer_and_go_a_few_at_a_time(
    database: Database, keys: KeyRing, monkeypatch: Any
) -> None:
    """S1-22: behind however many that nobody acknowledged; these are looked at once, not before each step."""
    monkeypatch.setattr(store_removal, "LOOKED", 20)
    monkeypatch.setattr(retention, "PAUSE_S", 0.001)
    account_id = await account_that_keeps(database, call_days=365)
    days = [YEAR + dt.timedelta(days=60 - number) for number in range(60)]
    open_ones = [call_of(account_id, age, acknowledged_at=None) for age in days[:30]]
    async with database.sessions.begin() as session:
        session.add_all([*open_ones, *(call_of(account_id, age) for age in days[30:])])
        record(session, SYSTEM, Event.EMERGENCY_CALL_CREATE, open_ones[0])
    searches: list[bool] = []

    def seen(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "emergency_call.sent_at <" in statement and "ORDER BY" in statement:
            searches.append(bool(connection.get_execution_options().get(READS)))

    listen(database.engine.sync_engine, "before_cursor_execute", seen)
    assert (await RecordRetention(database, keys).sweep(NOW)).calls == 30
    assert searches == [True] * 4, "three times twenty records and the end, all by sessions that only read"
    assert await count(database, EmergencyCall) == 30
    async with database.sessions() as session:
        query = select(AuditEntry.entry).where(AuditEntry.event == "emergency_call.prune").order_by(AuditEntry.seq)
        steps = [json.loads(entry)["details"]["calls"] for entry in await session.scalars(query)]
    assert sum(steps) == 30
    assert steps[0] == retention.LEAST_CALLS
    assert max(steps) <= 10


async def test_what_a_location_rests_on_is_looked_up_in_an_index(database: Database) -> None:
    """S1-22: an account may have ten thousand locations, and each old call asks."""
    async with database.engine.connect() as connection:
        query = select(EmergencyCall.id).where(EmergencyCall.id == "call_1", *store_removal._may_go(NOW))
        plan = await connection.execute(text(f"EXPLAIN QUERY PLAN {_literal(query, database)}"))
        told = "\n".join(str(row[3]) for row in plan)
    assert "ix_location_test_passed_call_id" in told, told
    assert "ix_location_test_tried_call_id" in told
    assert "SCAN" not in told


def _literal(query: Any, database: Database) -> str:
    return str(query.compile(database.engine.sync_engine, compile_kwargs={"literal_binds": True}))


async def test_sign_ins_go_when_they_have_ended_long_ago(database: Database, keys: KeyRing) -> None:
    """S1-22, S1-60: a session that goes on stays, however old it is."""
    account_id = await account_that_keeps(database, session_days=365)
    at = NOW - 2 * YEAR

    def session_id(when: dt.datetime) -> str:
        return least_id("session", int(when.timestamp() * 1000))

    ended = ((at, at), (at + dt.timedelta(1), NOW - YEAR), (at + dt.timedelta(2), NOW), (at + dt.timedelta(3), None))
    async with database.sessions.begin() as session:
        user = User(id=new_id("user"), account_id=account_id, email="o@example.com")
        session.add(user)
        record(session, SYSTEM, Event.USER_CREATE, user)
        await session.flush()
        session.add_all([
            Session(id=session_id(when), user_id=user.id, account_id=account_id, cookie_hash=f"c{number}",
                    method="password", ip="192.0.2.1", created_at=when, seen_at=when, proven_at=when, ended_at=end)
            for number, (when, end) in enumerate(ended)
        ])  # fmt: skip
        session.add(RefusedKey(id="refused_key_" + session_id(at)[8:], account_id=account_id, hint="cp_x",
                               ip="192.0.2.1", reason="unknown", minute=at, at=at))  # fmt: skip
    assert (await RecordRetention(database, keys).sweep(NOW)).sign_ins == 3
    assert await count(database, Session) == 2
    assert await count(database, RefusedKey) == 0
    async with database.sessions() as session:
        entry = await session.scalar(select(AuditEntry.entry).where(AuditEntry.event == "session.prune"))
    assert json.loads(entry or "")["details"] == {"sessions": 2, "refused_keys": 1, "kept_days": 365}


async def test_a_clock_that_is_not_believed_removes_nothing_and_says_so(database: Database, keys: KeyRing) -> None:
    """S1-22: a jump forward costs no record: a day of even running comes first; the reason is kept for people."""
    chain, day = await account_that_keeps(database, audit_days=365), dt.timedelta(days=1)
    await aged(database, keys, chain, 400)
    duty, ran = RecordRetention(database, keys), 1_000.0

    async def faults() -> list[str]:
        async with database.sessions() as session:
            return [row.words for row in await store_storage.removal_faults(session)]

    assert (await duty.round(NOW, ran)).is_any is False, "nothing to compare with"
    assert "no earlier round is known" in (await faults())[0]
    assert (await duty.round(NOW + day / 2, ran + 43_200)).is_any is False
    assert (await RecordRetention(database, keys).round(NOW + day, ran + 86_400)).is_any is False, "it began anew"
    assert (await duty.round(NOW + day, ran + 86_400)).pruned == 2
    assert await faults() == []
    await aged(database, keys, chain, 400)
    far = NOW + 900 * day
    assert (await duty.round(far, ran + 90_000)).is_any is False, "900 days in an hour"
    assert "the last round that was believed" in (await faults())[0]
    assert (await duty.round(NOW + 1.1 * day, ran + 93_600)).pruned == 1, "right again"


async def test_a_clock_never_compared_is_no_fault_while_nothing_waits_for_it(database: Database, keys: KeyRing) -> None:
    """S1-22: a fresh installation shows no alarm; once something old enough is held back it is told, as no fault."""
    chain = await account_that_keeps(database, audit_days=365)
    duty = RecordRetention(database, keys)

    async def faults() -> list[str]:
        async with database.sessions() as session:
            return [row.words for row in await store_storage.removal_faults(session)]

    assert (await duty.round(NOW, 1_000.0)).is_any is False
    assert await faults() == []
    await aged(database, keys, chain, 400)
    assert (await duty.round(NOW + dt.timedelta(hours=1), 4_600.0)).is_any is False
    (words,) = await faults()
    assert "no earlier round is known" in words
    assert words.endswith(NEW_CLOCK)


async def test_one_damaged_row_or_setting_stops_nothing_of_another_account(database: Database, keys: KeyRing) -> None:
    """S1-22: the chain is named, its entries stay, the others' leave."""
    chains = sorted([await account_that_keeps(database, audit_days=365) for _ in range(3)])
    for chain in chains:
        await aged(database, keys, chain, 400)
    duty = RecordRetention(database, keys)
    async with database.engine.begin() as connection:
        await connection.execute(text("DROP TRIGGER audit_entry_no_update"))
        broken = "UPDATE audit_entry SET entry = '{broken' WHERE seq = 2 AND chain = :chain"
        await connection.execute(text(broken), {"chain": chains[0]})
        await connection.execute(text("PRAGMA ignore_check_constraints = ON"))
        unwise = "UPDATE storage_settings SET audit_days = -1, call_days = 1, session_days = -5 WHERE account_id = :id"
        await connection.execute(text(unwise), {"id": chains[1]})
    assert (await duty.sweep(NOW)).pruned == 2
    async with database.sessions() as session:
        assert [await store_beginnings.begins_behind(session, chain) for chain in chains] == [0, 0, 2]
        (fault,) = await store_storage.removal_faults(session)
    assert (fault.name, "Entry 2 was changed" in fault.words) == (chains[0], True)
    async with database.engine.begin() as connection:  # and one that breaks when it was left behind already
        again = "UPDATE audit_entry SET entry = '{broken' WHERE seq = 1 AND chain = :chain"
        await connection.execute(text(again), {"chain": chains[2]})
    assert (await duty.sweep(NOW + dt.timedelta(hours=2))).audit_rows == 0
    assert await count(database, AuditEntry, AuditEntry.chain == chains[2]) == 3
    async with database.sessions.begin() as session:  # who keeps the log for ever is no longer told that it stays
        row = await store_storage.settings_row_to_change(session, chains[0])
        row.audit_days = 0
        record(session, SYSTEM, Event.STORAGE_SETTINGS_UPDATE, row)
    await duty.sweep(NOW + dt.timedelta(hours=3))
    async with database.sessions() as session:
        assert chains[0] not in [fault.name for fault in await store_storage.removal_faults(session)]


async def test_a_beginning_in_the_future_does_not_stop_a_log_from_getting_shorter(
    database: Database, keys: KeyRing
) -> None:
    chain = await account_that_keeps(database, audit_days=365)
    await aged(database, keys, chain, 400)
    duty = RecordRetention(database, keys)
    assert (await duty.sweep(NOW)).pruned == 2
    async with database.engine.begin() as connection:
        await connection.execute(text("DROP TRIGGER audit_beginning_no_update"))
        await connection.execute(text("UPDATE audit_beginning SET at = '2099-01-01 00:00:00'"))
    await aged(database, keys, chain, 400)
    assert (await duty.sweep(NOW)).pruned == 1
