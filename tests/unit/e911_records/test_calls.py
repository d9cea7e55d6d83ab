"""The recorder against a real journal and a real SQLite file: what it stores, survives, and replays."""

import asyncio
import base64
import ipaddress
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, func, select, text
from structlog.testing import capture_logs

from engine.audit.record import SYSTEM, open_audited
from engine.crypto import KeyRing
from engine.db import Base, Database
from engine.e911 import calls as recording
from engine.e911 import refusals, sites, store, store_tests, webhooks
from engine.e911.calls import ASIDE, Recorder
from engine.e911.journal import READER, JournalWriter
from engine.e911.telling import recipients_for
from engine.ids import new_id
from engine.models import (
    Account,
    AuditEntry,
    EmergencyCall,
    JournalPosition,
    Location,
    Notification,
)
from engine.outbound import Outbound
from tests.factories import add_account, add_location, fresh_database
from tests.unit.e911_records.entries import (
    AT,
    at,
    attempt_entry,
    call_entry,
    ended_entry,
    outcome_entry,
    read_back_entry,
    stranger_entry,
)

WITHIN_S = 60.0
HERE = Outbound((ipaddress.ip_network("127.0.0.0/8"),))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
async def account(database: Database) -> Account:
    async with database.sessions.begin() as session:
        return await add_account(session, timezone="America/Chicago")


@pytest.fixture
async def location(database: Database, account: Account) -> Location:
    async with database.sessions.begin() as session:
        return await add_location(session, account)


def write(folder: Path, keys: KeyRing, *entries: Any) -> None:
    """Make entries durable, as the edge does."""
    writer = JournalWriter(folder, keys, on_durable=lambda: None, on_fault=lambda _: None)
    for entry in entries:
        writer.put(entry)
    assert writer.close()


def recorder(database: Database, keys: KeyRing, folder: Path, **options: Any) -> Recorder:
    return Recorder(database, keys, folder, **{"on_recorded": lambda: None, "pauses_s": (0.02,)} | options)


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def drain(recorder: Recorder) -> None:
    while await recorder.record_new():
        pass


async def until(condition: Callable[[], Any], within_s: float = WITHIN_S) -> None:
    """Poll for what another task does; a bounded wait that fails loudly."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel it, and wait until it has left its transaction too."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.fixture
async def running(database: Database, keys: KeyRing, folder: Path) -> AsyncIterator[Recorder]:
    made = recorder(database, keys, folder)
    task = asyncio.create_task(made.run())
    yield made
    await ended(task)


async def contents(database: Database) -> list[tuple[str, Any]]:
    """Every row of every table, the journal's position apart: what a replay must not change."""
    async with database.engine.connect() as connection:
        return [
            (table.name, tuple(row))
            for table in Base.metadata.sorted_tables
            if table.name != "journal_position"
            for row in await connection.execute(text(f'SELECT * FROM "{table.name}" ORDER BY 1, 2'))
        ]


async def entries_of(database: Database, chain: str) -> list[dict[str, Any]]:
    async with database.sessions.begin() as session:
        query = select(AuditEntry.entry).where(AuditEntry.chain == chain).order_by(AuditEntry.seq)
        return [json.loads(entry) for entry in (await session.scalars(query)).all()]


async def only_call(database: Database) -> EmergencyCall:
    async with database.sessions.begin() as session:
        return (await session.scalars(select(EmergencyCall))).one()


# ------------------------------------------------------------------------------------------ what is stored


async def test_a_call_is_stored_as_it_left_with_attempts_outcome_and_end(
    database: Database, keys: KeyRing, folder: Path, account: Account, location: Location
) -> None:
    """E-12: the call's page has the caller, the location conveyed, each attempt and every time."""
    call = call_entry(account, location)
    busy = attempt_entry(call, 1, outcome="refused", status=503, with_location=False, ended_at=at(0.2))
    write(folder, keys, call, busy, attempt_entry(call, 2), outcome_entry(call), ended_entry(call))
    await drain(recorder(database, keys, folder))
    kept = await only_call(database)
    assert (kept.id, kept.dialed, kept.kind, kept.call_id) == (call["id"], "911", "emergency", call["call_id"])
    assert (kept.caller, kept.location, kept.verdict, kept.peer) == (
        call["caller"],
        call["location"],
        call["verdict"],
        call["peer"],
    )
    assert (kept.invite, kept.trunk_id, kept.location_source) == (call["invite"], "trunk_1", "subnet")
    assert (kept.outcome, kept.status_code) == ("answered", 200)
    assert store.rfc3339(kept.sent_at) == at(0.001)
    assert (store.rfc3339(kept.answered_at), store.rfc3339(kept.ended_at)) == (at(2.5), at(60))
    async with database.sessions.begin() as session:
        attempts = await store.attempts_of(session, kept)
    assert [(row.number, row.outcome, row.status_code, row.with_location) for row in attempts] == [
        (1, "refused", 503, False),
        (2, "answered", 200, True),
    ]


async def test_a_call_that_is_answered_after_it_failed_is_an_answered_call(
    database: Database, keys: KeyRing, folder: Path, account: Account, location: Location
) -> None:
    """E-12: the carrier's answer came after the caller was told 408; a second leg's answer changes nothing."""
    call = call_entry(account, location)
    failed = outcome_entry(call) | {"outcome": "failed", "status": 408, "trunk_id": None, "at": at(2.5)}
    late = outcome_entry(call) | {"trunk_id": "trunk_1", "at": at(3.0)}
    second = outcome_entry(call) | {"trunk_id": "trunk_2", "at": at(4.0)}
    silent = attempt_entry(call, 1, outcome="timeout", status=None)
    answered = attempt_entry(call, 1, outcome="answered", status=200)
    write(folder, keys, call, silent, failed, answered, late, second)
    await drain(recorder(database, keys, folder))
    kept = await only_call(database)
    assert (kept.outcome, kept.status_code, kept.trunk_id) == ("answered", 200, "trunk_1")
    assert kept.answered_at is not None
    assert store.rfc3339(kept.answered_at) == at(3.0)
    assert kept.ended_at is None
    async with database.sessions.begin() as session:
        (attempt,) = await store.attempts_of(session, kept)
    assert (attempt.outcome, attempt.status_code) == ("answered", 200)


async def test_a_call_has_one_audit_entry_by_the_phone_that_called_and_no_invite_in_it(
    database: Database, keys: KeyRing, folder: Path, account: Account, location: Location
) -> None:
    """E-10: 911 and 933 calls stand in the account's own audit chain."""
    write(folder, keys, call_entry(account, location), read_back_entry(account))
    await drain(recorder(database, keys, folder))
    entries = [entry for entry in await entries_of(database, account.id) if entry["event"] == "emergency_call.create"]
    assert len(entries) == 2
    assert entries[0]["actor"] == {
        "type": "phone",
        "id": "line_1",
        "name": "Dana Reyes",
        "display_name": "",
        "role": "",
    }
    assert entries[0]["request"]["ip"] == "192.0.2.10"
    assert entries[0]["resource"]["name"] == "911 from Dana Reyes"
    assert "INVITE sip" not in json.dumps(entries)
    assert entries[0]["changes"]["invite"]["after"]["redacted"] is True


async def test_a_call_of_an_unknown_place_and_with_no_trunk_is_recorded_and_says_so(
    database: Database, keys: KeyRing, folder: Path, account: Account
) -> None:
    """E-10: an empty recipient list is an alarm; a call that no trunk took is another."""
    write(folder, keys, call_entry(account, sent_at=None, trunk_id=None))
    await drain(recorder(database, keys, folder))
    kept = await only_call(database)
    assert kept.flags == ["location_unknown", "not_sent", "no_recipients"]
    assert kept.sent_at == kept.received_at


async def test_recipients_are_the_union_of_both_lists_each_mailbox_once(
    database: Database, account: Account, location: Location
) -> None:
    """S0-17: account- and location-level recipients are notified together; they don't replace each other."""
    async with database.sessions.begin() as session:
        session.add(location)
        for email in ("desk@example.com", "Guard@example.com"):
            await sites.add_recipient(session, SYSTEM, account, email)
        wanted = {"notification_recipients": ["guard@EXAMPLE.com", "Nurse@example.com"]}
        await sites.update_location(session, SYSTEM, account, location, wanted)
    async with database.sessions.begin() as session:
        assert await recipients_for(session, account.id, location) == {
            "desk@example.com": "account",
            "Guard@example.com": "both",
            "Nurse@example.com": "location",
        }
        assert set(await recipients_for(session, account.id, None)) == {"desk@example.com", "Guard@example.com"}


# ------------------------------------------------------------------------------------------ replay, bad entries


async def test_reading_the_journal_again_changes_nothing(
    database: Database, keys: KeyRing, folder: Path, account: Account, location: Location
) -> None:
    call = call_entry(account, location)
    entries = [
        call,
        call,
        attempt_entry(call),
        outcome_entry(call),
        ended_entry(call),
        read_back_entry(account),
        *(stranger_entry(seconds=number) for number in range(25)),
        stranger_entry(emergency=True),
    ]
    write(folder, keys, *entries)
    await drain(recorder(database, keys, folder))
    before = await contents(database)
    async with database.sessions.begin() as session:
        await session.execute(text("DELETE FROM journal_position"))
    write(folder, keys, *entries)
    again = recorder(database, keys, folder)
    await drain(again)
    assert again.recorded == len(entries)
    assert await contents(database) == before


async def test_a_recorder_goes_on_where_the_last_one_ended(
    database: Database, keys: KeyRing, folder: Path, account: Account
) -> None:
    write(folder, keys, call_entry(account))
    await drain(recorder(database, keys, folder))
    write(folder, keys, call_entry(account), call_entry(account))
    second = recorder(database, keys, folder)
    await drain(second)
    assert second.recorded == 2
    async with database.sessions.begin() as session:
        assert await session.scalar(select(func.count()).select_from(EmergencyCall)) == 3


async def test_one_bad_entry_is_kept_aside_and_never_stops_the_others(
    database: Database, keys: KeyRing, folder: Path, account: Account
) -> None:
    good = [call_entry(account) for _ in range(3)]
    orphan = call_entry(account, account_id="account_gone")
    bad: list[Any] = [
        orphan,
        ["no", "object"],
        {"type": "new_kind"},
        {"type": "ended", "call": "call_unknown", "at": at()},
        {"type": "call"},
    ]
    write(folder, keys, good[0], bad[0], bad[1], good[1], bad[2], bad[3], bad[4], good[2])
    made = recorder(database, keys, folder)
    await drain(made)
    assert made.set_aside == len(bad)
    async with database.sessions.begin() as session:
        kept = set((await session.scalars(select(EmergencyCall.id))).all())
    assert kept == {call["id"] for call in good}
    lines = (folder / ASIDE).read_bytes().splitlines()
    aside = [json.loads(keys.open(base64.b64decode(line), "journal")) for line in lines]
    for entry in aside:
        if isinstance(entry, dict) and entry["type"] == "call":
            assert entry.pop("writer")
    assert aside == bad


_LONE = st.characters(codec=None)
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(_LONE, max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(_LONE, max_size=10), inner, max_size=4),
    max_leaves=8,
)
_NAMES = (
    "pbx_id call_id dialed kind received_at sent_at caller location location_source verdict flags peer trunk_id invite"
)
_FIELDS = st.fixed_dictionaries({}, optional=dict.fromkeys(_NAMES.split(), _ANY))


async def test_whatever_a_call_entry_holds_the_call_is_recorded_and_its_recipients_are_told(
    database: Database, keys: KeyRing, folder: Path, account: Account
) -> None:
    """E-03: malformed but naming 911: no field of the record can lose the call or its notification."""
    async with database.sessions.begin() as session:
        await sites.add_recipient(session, SYSTEM, account, "desk@example.com")
    strange: list[dict[str, Any]] = []

    @settings(max_examples=150, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(_FIELDS, st.text(_LONE, max_size=300))
    def gather(fields: dict[str, Any], name: str) -> None:
        entry = call_entry(account) | fields
        if isinstance(entry["caller"], dict):
            entry["caller"] = entry["caller"] | {"name": name}
        strange.append(entry)

    gather()
    write(folder, keys, *strange)
    made = recorder(database, keys, folder)
    await drain(made)
    assert made.set_aside == 0
    async with database.sessions.begin() as session:
        assert await session.scalar(select(func.count()).select_from(EmergencyCall)) == len(strange)
        told = (await session.scalars(select(Notification))).all()
    assert len(told) == len(strange)
    assert all(row.subject == row.subject.strip() and len(row.subject.splitlines()) == 1 for row in told)


# ------------------------------------------------------------------------------------------ strangers


async def test_a_flood_of_strangers_shows_in_the_platforms_log_and_cannot_fill_it(
    database: Database, keys: KeyRing, folder: Path
) -> None:
    """E-04: a stranger's INVITE is refused and recorded."""
    one_source = [stranger_entry(seconds=number / 10) for number in range(1000)]
    forged = [stranger_entry(f"198.51.{number // 250}.{number % 250}", seconds=100) for number in range(600)]
    urgent = [stranger_entry("203.0.113.9", 101, emergency=True, request_uri="sip:911@192.0.2.5")]
    write(folder, keys, *one_source, *forged, *urgent)
    await drain(recorder(database, keys, folder))
    entries = await entries_of(database, "platform")
    assert all(entry["event"] == "emergency_call.refuse" and entry["outcome"] == "denied" for entry in entries)
    of_one = [entry["details"]["refused"] for entry in entries if entry["request"]["ip"] == "203.0.113.9"]
    assert sorted(of_one) == [1, 1, 10, 100, 1000]
    assert len(entries) < 80
    assert [entry["resource"]["name"] for entry in entries if entry["details"]["emergency"]] == ["sip:911@192.0.2.5"]


async def test_a_source_shows_again_in_the_next_window(database: Database, keys: KeyRing, folder: Path) -> None:
    write(folder, keys, *(stranger_entry(seconds=600 * number) for number in range(3)))
    await drain(recorder(database, keys, folder))
    assert [entry["details"]["refused"] for entry in await entries_of(database, "platform")] == [1, 1, 1]


# ------------------------------------------------------------------------------------------ the running recorder


async def test_a_running_recorder_is_woken_and_tells_that_there_is_mail(
    database: Database, keys: KeyRing, folder: Path, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "POLL_S", 3_600.0)  # so that only its word can have woken it
    told = asyncio.Event()
    made = recorder(database, keys, folder, on_recorded=told.set)
    task = asyncio.create_task(made.run())
    await until(lambda: made._position is not None)
    write(folder, keys, call_entry(account))
    made.wake()
    await asyncio.wait_for(told.wait(), WITHIN_S)
    await ended(task)


async def test_a_new_entry_is_found_even_when_nobody_says_so(
    running: Recorder, keys: KeyRing, folder: Path, account: Account
) -> None:
    write(folder, keys, call_entry(account))
    await until(lambda: running.recorded == 1)


async def test_while_the_database_is_away_entries_wait_in_the_journal_and_then_all_are_recorded(
    tmp_path: Path, keys: KeyRing, folder: Path
) -> None:
    """E-03: a dead database never stops a 911 call; its record is late, not lost."""
    ready, gone = tmp_path / "ready", tmp_path / "unmounted"
    ready.mkdir()
    seeded = await fresh_database(ready / "callpoint.db", keys)
    async with seeded.sessions.begin() as session:
        account = await add_account(session)
    await seeded.close()
    database = open_audited(f"sqlite+aiosqlite:///{gone / 'callpoint.db'}", keys)
    made = recorder(database, keys, folder)
    task = asyncio.create_task(made.run())
    calls = [call_entry(account) for _ in range(120)]
    write(folder, keys, *calls)
    made.wake()
    await until(lambda: made.fault)
    assert "wait in the journal" in made.fault
    ready.rename(gone)
    await until(lambda: made.recorded == len(calls) and not made.fault)
    async with database.sessions.begin() as session:
        kept = set((await session.scalars(select(EmergencyCall.id))).all())
    await ended(task)
    await database.close()
    assert kept == {call["id"] for call in calls}
    assert made.set_aside == 0


async def test_a_locked_database_delays_the_record_and_loses_nothing(
    database: Database, keys: KeyRing, folder: Path, account: Account
) -> None:
    event.listen(database.engine.sync_engine, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout=20").close())
    await database.engine.dispose()
    path = database.sqlite_path
    assert path is not None
    made = recorder(database, keys, folder)
    write(folder, keys, *(call_entry(account) for _ in range(5)))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    task = asyncio.create_task(made.run())
    await until(lambda: "locked" in made.fault)
    assert made.recorded == 0
    other.execute("COMMIT")
    other.close()
    await until(lambda: made.recorded == 5 and not made.fault)
    await ended(task)
    assert made.set_aside == 0


async def test_what_is_recorded_leaves_the_journal_and_the_position_is_kept(
    database: Database, keys: KeyRing, folder: Path, account: Account
) -> None:
    write(folder, keys, call_entry(account))
    await drain(recorder(database, keys, folder))
    assert [path.name for path in files_in(folder)] == [READER]
    async with database.sessions.begin() as session:
        position = await session.get(JournalPosition, (folder / READER).read_text())
    assert position is not None
    assert position.position


async def test_times_in_the_text_are_the_places_own_and_universal(
    database: Database, keys: KeyRing, folder: Path, account: Account, location: Location
) -> None:
    """E-10: the time of the call in the location's zone, else the account's, with UTC beside it."""
    assert AT.hour == 20
    async with database.sessions.begin() as session:
        session.add(location)
        await sites.add_recipient(session, SYSTEM, account, "desk@example.com")
        await sites.update_location(session, SYSTEM, account, location, {"timezone": "America/Los_Angeles"})
    write(folder, keys, call_entry(account, location), call_entry(account))
    await drain(recorder(database, keys, folder))
    async with database.sessions.begin() as session:
        bodies = (await session.scalars(select(Notification.body).order_by(Notification.id))).all()
    assert "Sat 21 Nov 2026, 12:00:12 PST (20:00:12 UTC)" in bodies[0]
    assert "Sat 21 Nov 2026, 14:00:12 CST (20:00:12 UTC)" in bodies[1]


async def test_a_stop_that_meets_a_wake_up_still_stops(
    database: Database, keys: KeyRing, folder: Path, account: Account
) -> None:
    """A node must end when told to: `wait_for` of Python 3.11 loses a cancellation that meets its event."""
    for turns in range(30):
        made = recorder(database, keys, folder)
        task = asyncio.create_task(made.run())
        await until(lambda made=made: made._position is not None)
        made.wake()
        for _ in range(turns % 6):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=WITHIN_S)
        assert done == {task}
        assert task.cancelled()


async def notes_of(database: Database, call: str) -> list[Notification]:
    async with database.sessions() as session:
        query = select(Notification).where(Notification.emergency_call_id == call)
        return list(await session.scalars(query.order_by(Notification.recipient, Notification.channel.desc())))


@pytest.mark.parametrize("kind", ["emergency", "test"])
async def test_staff_are_told_again_when_the_trunk_that_took_the_call_refused_its_address(
    database: Database, keys: KeyRing, folder: Path, account: Account, location: Location, kind: str
) -> None:
    """E-08, E-10: 424 or 488, then the same trunk without the location: the first mail named an address that responders
    never got. Once for each recipient and webhook, however often the journal is read.
    """
    async with database.sessions.begin() as session:
        await sites.add_recipient(session, SYSTEM, account, "desk@example.com")
        for kinds in (webhooks.KINDS, ("drill",)):
            wished = webhooks.WebhookFields("Door", "https://127.0.0.1/door", kinds)
            await webhooks.create_webhook(session, SYSTEM, account, wished, HERE)
    make = call_entry if kind == "emergency" else read_back_entry
    call = make(account, location)
    first = attempt_entry(call, status=424, outcome="refused")
    second = attempt_entry(call, 2, status=200, outcome="answered", with_location=False)
    write(folder, keys, call, first, second, outcome_entry(call))
    told: list[int] = []
    running = recorder(database, keys, folder, on_recorded=lambda: told.append(1))
    await drain(running)
    write(folder, keys, second, outcome_entry(call))
    await drain(running)
    told_door, door_again, mail, correction = sorted(
        await notes_of(database, call["id"]), key=lambda note: (note.because != "webhook", note.id)
    )
    assert (mail.channel, correction.channel) == ("email", "correction")
    assert (told_door.channel, door_again.channel) == ("webhook", "webhook_correction")
    first_said, then_said = json.loads(told_door.body), json.loads(door_again.body)
    assert (first_said["type"], then_said["type"]) == ("emergency_call.sent", "emergency_call.corrected")
    assert then_said["id"] == door_again.id
    assert then_said["timestamp"] > first_said["timestamp"]
    assert first_said["data"]["call"]["id"] == then_said["data"]["call"]["id"] == call["id"]
    assert "answered_without_location" not in first_said["data"]["call"]["flags"]
    assert "answered_without_location" in then_said["data"]["call"]["flags"]
    assert "address not conveyed, " in correction.subject
    assert location.name in correction.subject
    assert "address not conveyed" not in mail.subject
    assert "refused the address" in " ".join(correction.body.split())
    assert ("What to do first" in correction.body) is (kind == "emergency")
    assert correction.subject.startswith("[TEST] ") is (kind == "test")
    assert "Washington Ave" in correction.body  # what to tell them
    assert told
    async with database.sessions() as session:
        row = await session.get(EmergencyCall, call["id"])
        assert row is not None
        assert "answered_without_location" in row.flags
        if kind == "test":
            test = await store_tests.last_test_of(session, location)
            assert test is not None
            assert (test.outcome, test.passed_at) == ("wrong_place", None)


async def test_staff_are_told_once_when_nothing_turned_out_otherwise(
    database: Database, keys: KeyRing, folder: Path, account: Account, location: Location
) -> None:
    """E-10: answered with its address, by a trunk that takes none by its setting, with none known, or not at all."""
    async with database.sessions.begin() as session:
        await sites.add_recipient(session, SYSTEM, account, "desk@example.com")
    calls = [
        call_entry(account, location),
        call_entry(account, location, flags=["location_not_sent"]),
        call_entry(account, None),
        call_entry(account, location),
    ]
    attempts = [
        attempt_entry(calls[0], status=200, outcome="answered"),
        attempt_entry(calls[1], status=200, outcome="answered", with_location=False),
        attempt_entry(calls[2], status=200, outcome="answered", with_location=False),
        attempt_entry(calls[3], status=488, outcome="refused", with_location=False),
    ]
    outcomes = [outcome_entry(call) for call in calls[:3]] + [outcome_entry(calls[3], outcome="failed", status=488)]
    write(folder, keys, *calls, *attempts, *outcomes)
    await drain(recorder(database, keys, folder))
    for call in calls:
        assert [note.channel for note in await notes_of(database, call["id"])] == ["email"]


@pytest.mark.parametrize("kind", ["emergency", "test"])
@pytest.mark.parametrize("is_late", [False, True])
async def test_staff_are_told_that_a_call_reached_nobody(
    database: Database, keys: KeyRing, folder: Path, account: Account, location: Location, kind: str, is_late: bool
) -> None:
    """E-10: the first mail says it where the end is known by then, else a second one; once, however often read."""
    async with database.sessions.begin() as session:
        await sites.add_recipient(session, SYSTEM, account, "desk@example.com")
    call = (call_entry if kind == "emergency" else read_back_entry)(account, location)
    end = [
        attempt_entry(call, status=503, outcome="refused"),
        outcome_entry(call, outcome="failed", status=503, trunk_id=None),
    ]
    running = recorder(database, keys, folder)
    with capture_logs() as logs:
        write(folder, keys, call, *([] if is_late else end))
        await drain(running)
        write(folder, keys, *end)
        await drain(running)
    notes = sorted(await notes_of(database, call["id"]), key=lambda note: note.id)
    assert [note.channel for note in notes] == (["email", "correction"] if is_late else ["email"])
    assert ("NOBODY" in notes[0].subject) is not is_late
    words = (
        "REACHED NOBODY, call 911 from another telephone NOW: " if kind == "emergency" else "THIS TEST REACHED NOBODY: "
    )
    assert notes[-1].subject.removeprefix("[TEST] ").startswith(words)
    assert notes[-1].body.removeprefix("TEST: ").startswith(words)
    said = [line["log_level"] for line in logs if line["event"] == "emergency_call_reached_nobody"]
    assert said == (["error"] if kind == "emergency" else [])
    async with database.sessions() as session:
        row = await session.get(EmergencyCall, call["id"])
        assert row is not None
        assert (row.outcome, row.status_code) == ("failed", 503)


@pytest.mark.parametrize("kind", ["emergency", "test"])
@pytest.mark.parametrize("was_told", ["first", "second"])
async def test_staff_hear_that_a_call_was_answered_after_all(
    database: Database, keys: KeyRing, folder: Path, account: Account, location: Location, kind: str, was_told: str
) -> None:
    """E-08, E-10: told as lost in the first mail or a second one, answered late: one more mail and message say so, once
    for each recipient and webhook, the address's loss with them. Known at once, it is an ordinary call.
    """
    async with database.sessions.begin() as session:
        await sites.add_recipient(session, SYSTEM, account, "desk@example.com")
        wished = webhooks.WebhookFields("Door", "https://127.0.0.1/door", webhooks.KINDS)
        await webhooks.create_webhook(session, SYSTEM, account, wished, HERE)
    make = call_entry if kind == "emergency" else read_back_entry
    call, at_once = make(account, location), make(account, location)
    failed = outcome_entry(call, outcome="failed", status=408, trunk_id=None)
    late = [
        attempt_entry(call, status=200, outcome="answered", with_location=False),
        outcome_entry(call, at=at(9)),
    ]
    running = recorder(database, keys, folder)
    batches = [[call, failed], late, late] if was_told == "first" else [[call], [failed], late, late]
    for batch in batches:
        write(folder, keys, *batch)
        await drain(running)
    write(folder, keys, at_once, failed | {"call": at_once["id"]}, outcome_entry(at_once))
    await drain(running)
    notes = sorted(await notes_of(database, call["id"]), key=lambda note: (note.because == "webhook", note.id))
    expected = ["email", "correction", "all_clear"] if was_told == "second" else ["email", "all_clear"]
    assert [note.channel for note in notes if note.because != "webhook"] == expected
    door = [json.loads(note.body) for note in notes if note.because == "webhook"]
    assert [body["type"].partition(".")[2] for body in door] == ["sent", *["corrected"] * (len(expected) - 1)]
    assert (door[-1]["data"]["call"]["outcome"], "reached_nobody" in door[-1]["data"]["call"]["flags"]) == (
        "answered",
        False,
    )
    assert {"answered_after_all", "answered_without_location"} <= set(door[-1]["data"]["call"]["flags"])
    mail = notes[len(expected) - 1]
    assert mail.subject.removeprefix("[TEST] ").startswith("ANSWERED AFTER ALL: address not conveyed")
    assert "earlier message" in mail.body
    assert "NOBODY" not in mail.subject
    assert sorted(note.channel for note in await notes_of(database, at_once["id"])) == ["email", "webhook"]
    assert running.set_aside == 0


@pytest.mark.parametrize("is_late", [False, True])
async def test_staff_hear_that_a_caller_hung_up_while_trunks_failed(
    database: Database, keys: KeyRing, folder: Path, account: Account, location: Location, is_late: bool
) -> None:
    """E-08, E-10: nobody but we may know of that call: the mail says so with the number to call back, in place of the
    ordinary one or after it; one that was ringing when its caller hung up has the ordinary mail alone.
    """
    async with database.sessions.begin() as session:
        await sites.add_recipient(session, SYSTEM, account, "desk@example.com")
    call, ringing = call_entry(account, location), call_entry(account, location)
    end = [
        attempt_entry(call, status=None, outcome="timeout"),
        outcome_entry(call, outcome="cancelled", status=487, trunk_id=None),
        attempt_entry(call, 2, status=487, outcome="cancelled"),
    ]
    running = recorder(database, keys, folder)
    write(folder, keys, call, *([] if is_late else end))
    await drain(running)
    write(folder, keys, *end, ringing, outcome_entry(ringing, outcome="cancelled", status=487, trunk_id=None))
    write(folder, keys, attempt_entry(ringing, status=487, outcome="cancelled"))
    await drain(running)
    notes = sorted(await notes_of(database, call["id"]), key=lambda note: note.id)
    assert [note.channel for note in notes] == (["email", "correction"] if is_late else ["email"])
    assert notes[-1].subject.startswith("CALLER HUNG UP UNANSWERED, call back +15185550101 NOW: 911 call: Dana Reyes")
    assert "What to do first: call the caller back" in notes[-1].body
    assert "If nobody can be reached, call 911 from another telephone" in notes[-1].body
    assert ("HUNG UP" in notes[0].subject) is not is_late
    (ordinary,) = await notes_of(database, ringing["id"])
    assert "HUNG UP" not in ordinary.subject
    write(folder, keys, attempt_entry(call, 2), outcome_entry(call, at=at(9)))  # the answer crossed the CANCEL
    await drain(running)
    last = max(await notes_of(database, call["id"]), key=lambda note: note.id)
    assert (last.channel, last.subject[:18]) == ("all_clear", "ANSWERED AFTER ALL")
    async with database.sessions() as session:
        row = await session.get(EmergencyCall, call["id"])
        assert row is not None
        assert (row.outcome, row.flags) == ("answered", ["answered_after_all"])


async def test_another_country_s_number_that_went_nowhere_is_in_its_account_s_log(
    database: Database, keys: KeyRing, folder: Path, account: Account
) -> None:
    """E-01, E-04: a PBX's 999 in New York: the first at once, a flood in powers of ten, none twice; none of an account
    that is gone.
    """
    lost = stranger_entry(
        "192.0.2.7", emergency=True, request_uri="sip:999@192.0.2.5", account_id=account.id, pbx_id="p"
    )
    running = recorder(database, keys, folder)
    write(
        folder,
        keys,
        *[lost] * 12,
        lost | {"account_id": new_id("account")},
        stranger_entry("192.0.2.8", emergency=True),
    )
    await drain(running)
    write(folder, keys, lost)
    (folder / READER).unlink()  # a position of nobody: all is read again
    await drain(recorder(database, keys, folder))
    entries = [entry for entry in await entries_of(database, account.id) if entry["event"] == "emergency_call.refuse"]
    assert [(each["details"]["refused"], each["status"], each["outcome"]) for each in entries] == [
        (1, 404, "denied"), (10, 404, "denied"),
    ]  # fmt: skip
    assert entries[0]["details"]["pbx_id"] == "p"
    platform = await entries_of(database, "platform")
    refused = [each["resource"]["id"] for each in platform if each["event"] == "emergency_call.refuse"]
    assert [identity.partition("@")[0] for identity in refused] == ["192.0.2.8"]
    async with database.sessions() as session:
        found = await refusals.latest_emergency_refused(session, AT.replace(year=2020), account.id)
        assert found is not None
        assert (found.ip, found.dialed, found.fault) == ("192.0.2.7", "999", "")
    torn = {"request_uri": "sip:911@", "detail": "expected an empty line after the headers, found none", "status": 0}
    write(folder, keys, lost | torn, lost | torn | {"request_uri": "urn:service:sos", "status": 400})
    (folder / READER).unlink()  # a position of nobody: all is read again
    await drain(recorder(database, keys, folder))
    entries = [entry for entry in await entries_of(database, account.id) if entry["event"] == "emergency_call.refuse"]
    assert [(each["status"], each["reason"].partition(": ")[2]) for each in entries[-2:]] == [
        (0, torn["detail"]), (400, torn["detail"]),
    ]  # fmt: skip
    async with database.sessions() as session:
        found = await refusals.latest_emergency_refused(session, AT.replace(year=2020), account.id)
        assert found is not None
        assert (found.ip, found.dialed, found.fault) == ("192.0.2.7", "urn:service:sos", torn["detail"])


async def test_calls_of_a_process_that_ended_are_closed_and_staff_call_back(
    database: Database, keys: KeyRing, folder: Path, account: Account, location: Location
) -> None:
    """E-12: those that rang and those that went on, once; none of a process that lives, none of another node."""
    async with database.sessions.begin() as session:
        await sites.add_recipient(session, SYSTEM, account, "desk@example.com")
    names = ("ringing", "talking", "over", "living", "elsewhere")
    calls = {name: call_entry(account, location, id=f"call_{name:0>26}", call_id=f"{name}@x") for name in names}
    told = [outcome_entry(calls["talking"]), outcome_entry(calls["over"]), ended_entry(calls["over"])]
    write(folder, keys, calls["ringing"], calls["talking"], calls["over"], *told)
    living = JournalWriter(folder, keys, on_durable=lambda: None, on_fault=lambda _: None)
    living.put(calls["living"])
    write(folder.with_name("other-node"), keys, calls["elsewhere"])
    await drain(recorder(database, keys, folder.with_name("other-node")))
    await until(lambda: not living.waiting)
    woken: list[bool] = []
    first = recorder(database, keys, folder, on_recorded=lambda: woken.append(True))
    assert await first.close_cut_calls() == 2
    assert await first.close_cut_calls() == 0
    assert woken
    async with database.sessions() as session:
        rows = {row.call_id.removesuffix("@x"): row for row in (await session.scalars(select(EmergencyCall))).all()}
        ringing = await store.notifications_of(session, rows["ringing"])
        others = [await store.notifications_of(session, rows[name]) for name in names[1:]]
    assert {name: row.outcome for name, row in rows.items()} == {
        "ringing": "cut_off", "talking": "answered", "over": "answered", "living": "in_progress",
        "elsewhere": "in_progress",
    }  # fmt: skip
    assert rows["ringing"].ended_at
    assert "cut_by_restart" in rows["ringing"].flags
    assert rows["talking"].ended_at
    assert "end_unknown" in rows["talking"].flags
    assert "end_unknown" not in rows["over"].flags
    sent = {row.channel: row for row in ringing}
    assert set(sent) == {"email", "correction"}
    assert "CALL CUT BY A RESTART, call back" in sent["correction"].subject
    assert "whether anybody answered them is not known" in sent["correction"].body
    assert [len(rows_of) for rows_of in others] == [1, 1, 1, 1]
    assert living.close()
    assert await recorder(database, keys, folder).close_cut_calls() == 1
