"""Nodes that share a database: each records its own journal, and one closes what another left behind for good."""

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from engine.audit.record import SYSTEM
from engine.crypto import KeyRing
from engine.db import Database
from engine.e911 import sites, store
from engine.e911.calls import Recorder
from engine.e911.journal import JournalWriter, reader_name
from engine.e911.silent_nodes import SilentNodes
from engine.models import Account, CallWriter, EmergencyCall, Location
from tests.factories import add_account, add_location
from tests.unit.e911_records.entries import call_entry, ended_entry, outcome_entry

WITHIN_S = 60.0


@pytest.fixture
async def account(database: Database) -> Account:
    async with database.sessions.begin() as session:
        account = await add_account(session)
        await sites.add_recipient(session, SYSTEM, account, "desk@example.com")
        return account


@pytest.fixture
async def location(database: Database, account: Account) -> Location:
    async with database.sessions.begin() as session:
        return await add_location(session, account)


class Node:
    """A data folder with a SIP process that writes into its journal, and the recorder that reads it."""

    def __init__(self, database: Database, keys: KeyRing, folder: Path, **options: Any) -> None:
        self.database, self.keys, self.folder = database, keys, folder
        self.recorder = Recorder(database, keys, folder, on_recorded=lambda: None, **options)
        self.process = JournalWriter(folder, keys, on_durable=lambda: None, on_fault=lambda _: None)

    async def write(self, *entries: dict[str, Any]) -> None:
        for entry in entries:
            self.process.put(entry)
        async with asyncio.timeout(WITHIN_S):
            while self.process.waiting:
                await asyncio.sleep(0.01)

    async def record(self) -> None:
        while await self.recorder.record_new():
            pass


async def calls_in(database: Database) -> dict[str, EmergencyCall]:
    async with database.sessions() as session:
        return {row.call_id.removesuffix("@x"): row for row in await session.scalars(select(EmergencyCall))}


async def mails_of(database: Database, call: EmergencyCall) -> dict[str, str]:
    async with database.sessions() as session:
        return {row.channel: row.subject for row in await store.notifications_of(session, call)}


async def closed_by(node: Node, count: int) -> None:
    closed = 0
    async with asyncio.timeout(WITHIN_S):
        while closed < count:
            closed += await node.recorder.close_lost_calls()
            await asyncio.sleep(0.02)
    assert closed == count


async def test_a_node_that_comes_back_records_its_calls_wherever_another_has_come_in_its_own_journal(
    database: Database, keys: KeyRing, tmp_path: Path, account: Account, location: Location
) -> None:
    """E-10, E-12: by the other's position it would pass over them, and remove them from its disk: nobody were told."""
    away = Node(database, keys, tmp_path / "away")
    await away.write(call_entry(account, location, call_id="unrecorded@x"))
    assert away.process.close()  # and its node goes before the database is asked
    other = Node(database, keys, tmp_path / "other")
    for number in range(3):
        await other.write(call_entry(account, location, call_id=f"{number}@x"))
        await other.record()
    back = Node(database, keys, tmp_path / "away")
    await back.record()
    assert set(await calls_in(database)) == {"unrecorded", "0", "1", "2"}
    again = Recorder(database, keys, tmp_path / "other", on_recorded=lambda: None)
    await other.write(call_entry(account, location, call_id="next@x"))
    assert await again.record_new() == 1  # from where its own position stands
    assert reader_name(tmp_path / "away") != reader_name(tmp_path / "other")
    assert other.process.close()


def test_a_name_that_was_torn_is_drawn_anew(tmp_path: Path) -> None:
    """E-12: an empty file after a power cut; the whole journal is read again then, which changes nothing."""
    (tmp_path / "reader").write_text("")
    name = reader_name(tmp_path)
    assert len(name) == 16
    assert reader_name(tmp_path) == name


async def test_calls_of_a_node_that_is_lost_with_its_folder_are_closed_by_another_and_staff_are_told(
    database: Database, keys: KeyRing, tmp_path: Path, account: Account, location: Location
) -> None:
    """E-12: once, and none of a node that still signs, however long its call lasts."""
    names = ("ringing", "talking", "over", "living")
    calls = {name: call_entry(account, location, call_id=f"{name}@x") for name in names}
    lost = Node(database, keys, tmp_path / "lost")
    over = [calls["over"], outcome_entry(calls["over"]), ended_entry(calls["over"])]
    await lost.write(calls["ringing"], calls["talking"], outcome_entry(calls["talking"]), *over)
    await lost.record()
    await lost.recorder.close_lost_calls()  # signs
    living = Node(database, keys, tmp_path / "living", silent_node_s=0.4)
    await living.write(calls["living"])
    await living.record()
    assert lost.process.close()
    shutil.rmtree(tmp_path / "lost")
    third = Node(database, keys, tmp_path / "third", silent_node_s=0.8)
    signing = asyncio.create_task(closed_by(living, 2))
    await signing
    for _ in range(60):
        assert await living.recorder.close_lost_calls() == 0  # signs for its own
        assert await third.recorder.close_lost_calls() == 0
        await asyncio.sleep(0.02)
    rows = await calls_in(database)
    assert {name: row.outcome for name, row in rows.items()} == {
        "ringing": "cut_off", "talking": "answered", "over": "answered", "living": "in_progress",
    }  # fmt: skip
    assert {"cut_by_restart", "node_lost"} <= set(rows["ringing"].flags)
    assert {"end_unknown", "node_lost"} <= set(rows["talking"].flags)
    assert rows["talking"].ended_at
    told = await mails_of(database, rows["ringing"])
    assert "CALL CUT, ITS NODE IS LOST, call back" in told["correction"]
    assert "ANSWERED, END UNKNOWN: ITS NODE IS LOST" in (await mails_of(database, rows["talking"]))["correction"]
    assert set(await mails_of(database, rows["over"])) == {"email"}
    assert living.process.close()


async def test_a_node_that_was_taken_for_lost_and_comes_back_sets_the_record_right(
    database: Database, keys: KeyRing, tmp_path: Path, account: Account, location: Location
) -> None:
    """E-12: it was cut off from the database, and went on with its calls."""
    ringing, talking = (call_entry(account, location, call_id=f"{name}@x") for name in ("ringing", "talking"))
    cut = Node(database, keys, tmp_path / "cut")
    await cut.write(ringing, talking, outcome_entry(talking))
    await cut.record()
    other = Node(database, keys, tmp_path / "other", silent_node_s=0.2)
    await closed_by(other, 2)
    end = ended_entry(talking)
    await cut.write(outcome_entry(ringing), end)
    await cut.record()
    rows = await calls_in(database)
    assert (rows["ringing"].outcome, rows["ringing"].ended_at) == ("answered", None)
    assert "ANSWERED AFTER ALL" in (await mails_of(database, rows["ringing"]))["all_clear"]
    assert not {"end_unknown", "node_lost"} & set(rows["talking"].flags)
    assert rows["talking"].ended_at == datetime.fromisoformat(end["at"]).astimezone(UTC)
    await cut.recorder.close_lost_calls()
    async with database.sessions() as session:
        assert len((await session.scalars(select(CallWriter))).all()) == 1
    await cut.write(ended_entry(ringing))
    await cut.record()
    await Node(database, keys, tmp_path / "third").recorder.close_lost_calls()
    async with database.sessions() as session:
        assert (await session.scalars(select(CallWriter))).all() == []  # nothing is kept of who has no open call
    assert cut.process.close()


def test_only_a_signature_that_stays_the_same_while_the_database_answers_is_silence() -> None:
    """E-12: no two clocks are compared: one that is set back, or stands, is a sign of life as long as it moves."""
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    watch = SilentNodes(100.0)
    assert watch.look({"a": late, "b": None}, 0.0) == {}
    assert not watch.is_due(24.0)
    assert watch.is_due(25.0)
    assert watch.look({"a": early, "b": None}, 99.0) == {}
    watch.lose_touch()
    assert watch.look({"a": early, "b": None}, 150.0) == {}
    assert watch.look({"a": early, "b": None}, 249.0) == {}
    assert watch.look({"b": None}, 250.0) == {"b": None}
    assert watch.look({"a": early}, 300.0) == {}  # it had none open meanwhile: counted anew
