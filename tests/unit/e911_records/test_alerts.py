"""The alert board: every change of a call reaches every watcher of its account, once it is committed, without a gap."""

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import select, update

from engine.audit.events import Event
from engine.audit.record import Actor
from engine.db import Database, utc_now
from engine.e911 import alerts, store_calls
from engine.e911.acknowledging import MAX_NOTE_CHARS, acknowledge
from engine.e911.alerts import AlertBoard, Change, Watcher
from engine.errors import Invalid, TooManyRequests
from engine.models import Account, AuditEntry, EmergencyCall
from tests.factories import add_account, add_emergency_call

DESK = Actor("user", "user_1", "desk@example.com", "192.0.2.1", None, "Dana Reyes", "operator")


@pytest.fixture
async def account(database: Database) -> Account:
    async with database.sessions.begin() as session:
        return await add_account(session)


@asynccontextmanager
async def running(board: AlertBoard) -> AsyncIterator[AlertBoard]:
    task = asyncio.create_task(board.run())
    try:
        yield board
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def add_call(database: Database, account: Account, **fields: Any) -> EmergencyCall:
    caller, invite = {"name": "Dana", "extension": "101"}, "INVITE sip:911@x SIP/2.0"
    values = {"caller": caller, "location_source": "subnet", "invite": invite}
    async with database.sessions.begin() as session:
        return await add_emergency_call(session, account, **values | fields)


async def next_change(watcher: Watcher) -> Change:
    async with asyncio.timeout(30):
        change = await watcher.changes.get()
    assert change is not None
    return change


async def acknowledged(database: Database, call: EmergencyCall, actor: Actor = DESK, note: str = "") -> bool:
    async with database.sessions.begin() as session:
        row = await store_calls.call_to_change(session, call.account_id, call.id)
        assert row is not None
        return (await acknowledge(session, actor, row, note=note)).is_first


async def test_a_call_reaches_every_watcher_of_its_account_and_no_other(database: Database, account: Account) -> None:
    """E-11: the record of the call wakes the pages; nobody polls, and no account sees another's calls."""
    async with database.sessions.begin() as session:
        other = await add_account(session, name="Somebody else")
    board = AlertBoard(database, every_s=60)  # so that only the commit can have woken it
    async with running(board):
        first, opening = await board.join(account.id)
        second, _ = await board.join(account.id)
        stranger, _ = await board.join(other.id)
        assert (list(opening.calls), opening.is_whole) == ([], True)
        call = await add_call(database, account)
        changes = [await next_change(first), await next_change(second)]
        assert [change.call.id for change in changes] == [call.id, call.id]
        assert await acknowledged(database, call)
        change = await next_change(first)
        assert change.call.acknowledged_by == "Dana Reyes"
        assert change.number == changes[0].number + 1
        assert stranger.changes.empty()


async def test_who_comes_back_gets_what_it_missed_and_nothing_else(database: Database, account: Account) -> None:
    """E-11: the cursor of the last event leads on without a gap; an unknown one gives the whole present state."""
    board = AlertBoard(database, every_s=60)
    async with running(board):
        watcher, _ = await board.join(account.id)
        before = await add_call(database, account)
        seen = await next_change(watcher)
        board.leave(watcher)
        missed = await add_call(database, account)
        later, _ = await board.join(account.id)
        while board._number < seen.number + 1:  # handed out, with nobody there to hear it
            await asyncio.sleep(0.01)
        _, opening = await board.join(account.id, seen.cursor)
        assert ([call.id for call in opening.calls], opening.is_whole) == ([missed.id], False)
        for unknown in ("", "another-1", "nonsense", f"{seen.cursor}9", seen.cursor.partition("-")[0] + "-x"):
            _, opening = await board.join(account.id, unknown)
            assert {call.id for call in opening.calls} == {before.id, missed.id}, unknown
            assert opening.is_whole
        board.leave(later)


async def test_a_watcher_that_does_not_read_begins_anew_and_holds_up_nobody(
    database: Database, account: Account
) -> None:
    """E-11: queues are bounded; who is too far behind is told so once and gets the present state."""
    board = AlertBoard(database, every_s=60)
    slow, _ = await board.join(account.id)
    call = await add_call(database, account)
    async with database.sessions() as session:
        (whole,) = await store_calls.calls_to_watch(session, account.id, utc_now())
    for _ in range(alerts.MAX_QUEUED + 20):
        board._hand_out(whole)
    assert slow.is_behind
    assert slow.changes.qsize() == alerts.MAX_QUEUED + 1
    opening = await board.look_again(slow)
    assert [each.id for each in opening.calls] == [call.id]
    assert slow.changes.empty()
    board._hand_out(whole)
    assert (await next_change(slow)).call.id == call.id


async def test_what_another_process_committed_is_found_by_the_look(database: Database, account: Account) -> None:
    """E-11: with several nodes each finds the others' calls within a second, by one query of its own."""
    board = AlertBoard(database, every_s=60)
    call = await add_call(database, account)
    assert await board.look() == 1
    assert await board.look() == 0
    watcher, _ = await board.join(account.id)
    async with database.engine.begin() as connection:  # past every session of this process
        await connection.execute(
            update(EmergencyCall).where(EmergencyCall.id == call.id).values(
                outcome="answered", changed_at=utc_now() + dt.timedelta(milliseconds=5)
            )
        )  # fmt: skip
    assert await board.look() == 1
    assert (await next_change(watcher)).call.outcome == "answered"


async def test_a_change_that_was_rolled_back_is_never_shown(database: Database, account: Account) -> None:
    """E-11: pages show what was recorded, and nothing that was not."""
    board = AlertBoard(database, every_s=60)
    watcher, _ = await board.join(account.id)
    call = await add_call(database, account)
    await board.look()
    await next_change(watcher)
    with pytest.raises(RuntimeError):
        async with database.sessions.begin() as session:
            row = await store_calls.call_to_change(session, account.id, call.id)
            assert row is not None
            await acknowledge(session, DESK, row)
            raise RuntimeError
    assert await board.look() == 0
    assert watcher.changes.empty()


async def test_the_board_takes_so_many_watchers_and_lets_them_go_when_it_closes(
    database: Database, account: Account
) -> None:
    """E-11: open connections are bounded, and a node that stops does not wait for its readers."""
    board = AlertBoard(database, max_watchers=2)
    watchers = [(await board.join(account.id))[0] for _ in range(2)]
    with pytest.raises(TooManyRequests):
        await board.join(account.id)
    board.leave(watchers[0])
    await board.join(account.id)
    board.close()
    assert watchers[1].changes.get_nowait() is None
    with pytest.raises(TooManyRequests):
        await board.join(account.id)


async def test_one_key_or_account_takes_no_other_accounts_places(database: Database, account: Account) -> None:
    """E-11: so many for a session or key, so many for an account, and a reserve for whoever nobody watches for yet."""
    async with database.sessions.begin() as session:
        others = [await add_account(session, name=f"Other {at}") for at in range(3)]
    board = AlertBoard(database, max_watchers=130)
    for _ in range(alerts.MAX_OF_ONE):
        await board.join(account.id, holder="key_1")
    with pytest.raises(TooManyRequests, match="with this session or key"):
        await board.join(account.id, holder="key_1")
    while board.watchers < alerts.MAX_OF_ACCOUNT - alerts.DISPLAYS_OF_ACCOUNT:
        await board.join(account.id, holder=f"session_{board.watchers // 5}")
    with pytest.raises(TooManyRequests, match="of this account"):
        await board.join(account.id, holder="session_new")
    for at in range(alerts.DISPLAYS_OF_ACCOUNT):
        await board.join(account.id, holder=f"display_{at}", is_display=True)
    with pytest.raises(TooManyRequests, match="of this account"):
        await board.join(account.id, holder="display_new", is_display=True)
    while board.watchers < 130 - 13:  # the tenth that is kept free
        await board.join(others[0].id)
    with pytest.raises(TooManyRequests, match="on this server"):
        await board.join(others[0].id)
    await board.join(others[0].id, is_display=True)
    await board.join(others[1].id)  # nobody watched for it
    with pytest.raises(TooManyRequests, match="on this server"):
        await board.join(others[1].id)
    call = await add_call(database, others[2])
    assert [one.id for one in (await board.present(others[2].id)).calls] == [call.id]


async def test_what_the_front_desk_sees_is_what_rings_and_the_latest_of_the_day(
    database: Database, account: Account
) -> None:
    """E-11: an unacknowledged call is never pushed out of the list by tests; yesterday's are gone."""
    now = utc_now()
    ringing = await add_call(database, account, sent_at=now - dt.timedelta(hours=23))
    await add_call(database, account, sent_at=now - dt.timedelta(hours=25))
    for at in range(store_calls.WATCHED + 3):
        await add_call(database, account, kind="test", dialed="933", sent_at=now - dt.timedelta(minutes=at))
    async with database.sessions() as session:
        calls = await store_calls.calls_to_watch(session, account.id, now)
    assert calls[-1].id == ringing.id
    assert len(calls) == store_calls.WATCHED + 1
    assert [call.sent_at for call in calls] == sorted((call.sent_at for call in calls), reverse=True)


async def test_drills_never_push_a_real_call_off_the_screen(database: Database, account: Account) -> None:
    """E-11: however many are held, what rings for somebody is there."""
    now = utc_now()
    real = await add_call(database, account, sent_at=now - dt.timedelta(hours=1))
    for at in range(store_calls.MAX_RINGING + 5):
        sent_at = now - dt.timedelta(seconds=at)
        await add_call(database, account, kind="drill", outcome="drill", sent_at=sent_at)
    async with database.sessions() as session:
        calls = await store_calls.calls_to_watch(session, account.id, now)
    assert real.id in {call.id for call in calls}
    assert len(calls) <= store_calls.MAX_RINGING + store_calls.WATCHED


async def test_the_first_acknowledgement_counts_and_later_ones_are_told_who_was_first(
    database: Database, account: Account
) -> None:
    """E-12: who, when and what they found are kept once; each press is in the audit log."""
    call = await add_call(database, account)
    assert await acknowledged(database, call, note="  On my way  ")
    later = Actor("user", "user_2", "late@example.com", "192.0.2.2", None, "Lee Late", "operator")
    assert not await acknowledged(database, call, later, note="Me too")
    async with database.sessions() as session:
        row = await store_calls.call_to_change(session, account.id, call.id)
        pressed = select(AuditEntry.entry).where(AuditEntry.event == Event.EMERGENCY_CALL_ACKNOWLEDGE)
        told = [json.loads(text)["details"] for text in await session.scalars(pressed.order_by(AuditEntry.seq))]
    assert told == [{"is_first": True}, {"is_first": False, "first": "Dana Reyes"}]
    assert row is not None
    assert (row.acknowledged_by, row.acknowledged_by_id, row.acknowledgement_note) == (
        "Dana Reyes", "user_1", "On my way",
    )  # fmt: skip
    with pytest.raises(Invalid):
        await acknowledged(database, await add_call(database, account), note="x" * (MAX_NOTE_CHARS + 1))


async def test_two_who_press_at_once_are_both_answered_and_one_is_first(database: Database, account: Account) -> None:
    """E-12: idempotent under concurrency."""
    call = await add_call(database, account)
    answers = await asyncio.gather(*(acknowledged(database, call) for _ in range(8)))
    assert sorted(answers) == [False] * 7 + [True]
