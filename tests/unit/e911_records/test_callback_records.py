"""Lent numbers and calls back from carriers in the database, by way of a real journal and a real SQLite file."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from engine.audit.record import SYSTEM
from engine.crypto import KeyRing
from engine.db import Database
from engine.e911 import sites
from engine.e911.calls import Recorder
from engine.e911.journal import JournalWriter
from engine.e911.rows import ELIN_HOLD_MINUTES
from engine.e911.store_callbacks import missed_callbacks
from engine.ids import new_id
from engine.models import Account, AuditEntry, CallbackCall, EmergencyCall, Notification, Number, NumberKind
from tests.factories import add_account, add_location, add_number
from tests.unit.e911_records.entries import AT, at, call_entry, read_back_entry

ELIN = "+15185550177"


@pytest.fixture
async def account(database: Database) -> Account:
    async with database.sessions.begin() as session:
        account = await add_account(session, elin_hold_minutes=60)
        await add_number(session, account, ELIN, kind=NumberKind.ELIN)
    return account


async def store(database: Database, keys: KeyRing, folder: Path, *entries: dict[str, Any]) -> Recorder:
    writer = JournalWriter(folder, keys, on_durable=lambda: None, on_fault=lambda _: None)
    for entry in entries:
        writer.put(entry)
    assert writer.close()
    recorder = Recorder(database, keys, folder, on_recorded=lambda: None)
    while await recorder.record_new():
        pass
    return recorder


def callback_entry(account: Account, **fields: Any) -> dict[str, Any]:
    entry = {
        "type": "callback",
        "id": new_id("callback"),
        "account_id": account.id,
        "call": None,
        "number": ELIN,
        "from": "sip:+15185550911@psap.example",
        "pbx_id": "pbx_1",
        "target": "sip:102@pbx",
        "psap": True,
        "orphan": False,
        "received_at": at(60),
    }
    return entry | fields


async def rows(database: Database, model: type) -> list[Any]:
    async with database.sessions() as session:
        return list(await session.scalars(select(model)))


async def test_a_lent_number_is_held_for_180_minutes_where_the_account_says_nothing(
    database: Database, keys: KeyRing, tmp_path: Path
) -> None:
    """E-09: as the edge lends it."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        await add_number(session, account, ELIN, kind=NumberKind.ELIN)
    assert account.elin_hold_minutes == ELIN_HOLD_MINUTES == 180
    await store(database, keys, tmp_path / "journal", call_entry(account, elin=ELIN))
    (number,) = await rows(database, Number)
    assert abs(number.held_until - AT - dt.timedelta(minutes=180)) < dt.timedelta(seconds=1)


async def test_a_lent_number_is_held_by_its_caller_for_the_account_s_time(
    database: Database, keys: KeyRing, tmp_path: Path, account: Account
) -> None:
    """E-09: the pages and the next snapshot know who has it; reading the journal again changes nothing."""
    call = call_entry(account, elin=ELIN)
    await store(database, keys, tmp_path / "journal", call)
    (number,) = await rows(database, Number)
    assert number.held_by["sip_user"] == "101"
    assert number.held_by["call"] == call["id"]
    assert abs(number.held_until - AT - dt.timedelta(minutes=60)) < dt.timedelta(seconds=1)
    (row,) = await rows(database, EmergencyCall)
    assert row.elin == ELIN


async def test_a_test_call_takes_no_number_from_anybody(
    database: Database, keys: KeyRing, tmp_path: Path, account: Account
) -> None:
    """E-09: 933 is not called back."""
    await store(database, keys, tmp_path / "journal", read_back_entry(account, elin=ELIN))
    (number,) = await rows(database, Number)
    assert (number.held_until, number.held_by) == (None, None)


async def test_a_call_back_is_one_row_from_its_arrival_to_its_end(
    database: Database, keys: KeyRing, tmp_path: Path, account: Account
) -> None:
    """E-09: who called which number, whom it reached, how it ended; with one entry in the audit log."""
    call = call_entry(account, elin=ELIN)
    entry = callback_entry(account, call=call["id"])
    answered = {"type": "callback_outcome", "id": entry["id"], "outcome": "answered", "status": 200, "at": at(65)}
    ended = {"type": "callback_ended", "id": entry["id"], "at": at(90)}
    outcome = answered | {"target": "sip:+15185550100@pbx", "orphan": True}
    recorder = await store(database, keys, tmp_path / "journal", call, entry, outcome, ended, entry, outcome, ended)
    assert recorder.set_aside == 0
    (row,) = await rows(database, CallbackCall)
    assert (row.emergency_call_id, row.number, row.psap) == (call["id"], ELIN, True)
    assert (row.outcome, row.status_code, row.orphan, row.target) == ("answered", 200, True, "sip:+15185550100@pbx")
    assert row.ended_at == AT + dt.timedelta(seconds=90)
    audited = [each for each in await rows(database, AuditEntry) if each.event == "callback.create"]
    assert [each.resource_id for each in audited] == [row.id]


async def test_a_call_back_nobody_took_ends_with_its_status(
    database: Database, keys: KeyRing, tmp_path: Path, account: Account
) -> None:
    entry = callback_entry(account, call="call_gone", pbx_id=None, target="", orphan=True)
    failed = {"type": "callback_outcome", "id": entry["id"], "outcome": "failed", "status": 480, "at": at(61)}
    await store(database, keys, tmp_path / "journal", entry, failed)
    (row,) = await rows(database, CallbackCall)
    assert (row.outcome, row.status_code, row.emergency_call_id, row.pbx_id) == ("failed", 480, None, None)
    assert row.ended_at == AT + dt.timedelta(seconds=61)


async def test_entries_that_fit_nothing_are_kept_aside_and_stop_nobody(
    database: Database, keys: KeyRing, tmp_path: Path, account: Account
) -> None:
    """E-02: nothing behind them waits."""
    good = callback_entry(account)
    orphaned = [
        callback_entry(account) | {"account_id": "account_gone"},
        {"type": "callback_outcome", "id": "callback_gone", "outcome": "answered", "status": 200, "at": at()},
        {"type": "callback_ended", "id": "callback_gone", "at": at()},
    ]
    recorder = await store(database, keys, tmp_path / "journal", *orphaned, good)
    assert recorder.set_aside == 3
    assert [row.id for row in await rows(database, CallbackCall)] == [good["id"]]


async def test_a_dispatcher_who_reached_nobody_is_told_until_a_later_try_was_answered(
    database: Database, keys: KeyRing, tmp_path: Path, account: Account
) -> None:
    """E-09: of one number alone, and of dispatchers alone."""

    def tries(number: str, outcome: str, minute: int, **fields: Any) -> list[dict[str, Any]]:
        first = callback_entry(account, number=number, received_at=at(60 * minute), **fields)
        last = {
            "type": "callback_outcome",
            "id": first["id"],
            "outcome": outcome,
            "status": 480,
            "at": at(60 * minute + 9),
        }
        return [first, last]

    async def missed() -> list[str]:
        async with database.sessions() as session:
            return [one.number for one in await missed_callbacks(session, account.id, AT)]

    await store(database, keys, tmp_path / "1", *tries("+15185550101", "failed", 1), *tries(ELIN, "failed", 2))
    await store(database, keys, tmp_path / "2", *tries("+15185550102", "failed", 3, psap=False))
    assert await missed() == [ELIN, "+15185550101"]
    await store(database, keys, tmp_path / "3", *tries(ELIN, "answered", 4), *tries("+15185550101", "cancelled", 5))
    assert await missed() == ["+15185550101"]


async def test_staff_hear_once_that_a_dispatcher_called_back_and_reached_nobody(
    database: Database, keys: KeyRing, tmp_path: Path, account: Account
) -> None:
    """E-09, E-10: of a real call alone, however often the dispatcher tries."""
    async with database.sessions.begin() as session:
        location = await add_location(session, account)
        await sites.add_recipient(session, SYSTEM, account, "desk@example.com")
    call, test = call_entry(account, location), read_back_entry(account, location)
    tries = [callback_entry(account, call=one["id"]) for one in (call, call, test)]
    ends = [{"type": "callback_outcome", "id": one["id"], "outcome": "failed", "status": 480} for one in tries]
    await store(database, keys, tmp_path, call, test, *tries, *ends)
    told = [note for note in await rows(database, Notification) if note.channel == "called_back"]
    assert [(note.emergency_call_id, note.recipient) for note in told] == [(call["id"], "desk@example.com")]
    assert told[0].subject.startswith("A DISPATCHER CALLED BACK AND REACHED NOBODY")
    assert {one.id: "called_back_in_vain" in one.flags for one in await rows(database, EmergencyCall)} == {
        call["id"]: True, test["id"]: False,
    }  # fmt: skip
