"""Alerts, filters and tests of locations on a real PostgreSQL: two nodes on one database see each other's calls."""

import asyncio
import datetime as dt
from typing import Any

import pytest

from engine.audit.record import Actor
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.e911 import store_calls, store_tests, store_unplaced, sweeps
from engine.e911.acknowledging import acknowledge
from engine.e911.alerts import AlertBoard
from engine.e911.dismissing import dismiss
from engine.e911.store_calls import CallFilters
from engine.ids import new_id
from engine.models import Account, EmergencyCall
from engine.sweeper import Sweeper
from tests.factories import add_account, add_emergency_call, add_location, add_network

pytestmark = pytest.mark.enable_socket
DESK = Actor("user", "user_1", "desk@example.com", "192.0.2.1", None, "Dana Reyes", "operator")


async def add_call(database: Database, account: Account, **fields: Any) -> EmergencyCall:
    values = {"caller": {"name": "Dana", "extension": "101"}, "location_source": "subnet", "outcome": "answered"}
    async with database.sessions.begin() as session:
        return await add_emergency_call(session, account, **values | fields)


async def test_a_call_and_its_acknowledgement_cross_from_node_to_node(nodes: tuple[Database, Database]) -> None:
    """E-11: recorded by one node, shown by the other within its look; eight press at once, one is first."""
    here, there = nodes
    async with here.sessions.begin() as session:
        account = await add_account(session)
    board = AlertBoard(there, every_s=0.05)
    task = asyncio.create_task(board.run())
    try:
        watcher, _ = await board.join(account.id)
        call = await add_call(here, account)
        async with asyncio.timeout(30):
            change = await watcher.changes.get()
        assert change is not None
        assert change.call.id == call.id

        async def press(database: Database) -> bool:
            async with database.sessions.begin() as session:
                row = await store_calls.call_to_change(session, account.id, call.id)
                assert row is not None
                return (await acknowledge(session, DESK, row)).is_first

        pressed = await asyncio.gather(*(press(database) for database in nodes * 4))
        assert sorted(pressed) == [False] * 7 + [True]
        async with asyncio.timeout(30):
            while (change := await watcher.changes.get()) is None or change.call.acknowledged_at is None:
                pass
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_filters_and_counts_read_json_alike(nodes: tuple[Database, Database]) -> None:
    """E-12, S0-18: callers, places and flags inside JSON are found on PostgreSQL as on SQLite."""
    database = nodes[0]
    async with database.sessions.begin() as session:
        account = await add_account(session)
    place = {"id": new_id("location"), "name": "HQ", "civic_address": {}}
    there = await add_call(database, account, location=place, flags=["disagreement"], outcome="failed")
    lost = await add_call(database, account, caller={"name": "50%_off", "extension": "7"})
    since = utc_now() - dt.timedelta(days=1)
    async with database.sessions() as session:
        for filters, expected in (
            (CallFilters(caller="%_O"), {lost.id}), (CallFilters(location=place["id"]), {there.id}),
            (CallFilters(location=store_calls.NO_LOCATION), {lost.id}), (CallFilters(caller="101"), {there.id}),
        ):  # fmt: skip
            found = await store_calls.calls_before(session, account.id, filters, before=None, limit=10)
            assert {call.id for call in found} == expected, filters
        assert await store_calls.count_flagged(session, account.id, since, "disagreement") == 1
        assert await store_calls.latest_flagged(session, account.id, since, "disagreement") == there.id
        assert await store_calls.count_failed(session, account.id, since) == 1
        assert len(await store_calls.calls_to_watch(session, account.id, utc_now())) == 2


async def test_calls_without_a_location_and_dismissals_read_alike(nodes: tuple[Database, Database]) -> None:
    """S0-18: what Home's alarm rests on, on PostgreSQL as on SQLite; a second dismissal takes the first one's row."""
    database = nodes[0]
    async with database.sessions.begin() as session:
        account = await add_account(session)
    caller = {"extension": "101", "source_ip": "2001:db8::7"}
    lost = await add_call(
        database, account, caller=caller, flags=["location_unknown"], location_source="none",
        at=utc_now() - dt.timedelta(hours=1),
    )  # fmt: skip
    since = utc_now() - dt.timedelta(days=7)
    async with database.sessions() as session:
        assert [call.id for call in await store_unplaced.unplaced_calls(session, account, since)] == [lost.id]
    for _ in range(2):
        async with database.sessions.begin() as session:
            await dismiss(session, DESK, account.id, "no_location", utc_now().isoformat())
    async with database.sessions.begin() as session:
        assert (await store_unplaced.dismissals_of(session, account.id))["no_location"] > lost.sent_at
        await add_network(session, await add_location(session, account), "2001:db8::/64")
        assert await store_unplaced.unplaced_calls(session, account, since) == []


async def test_a_round_is_one_nodes_duty(nodes: tuple[Database, Database], keys: KeyRing) -> None:
    """E-15: with two nodes on one database each location is dealt with once."""
    async with nodes[0].sessions.begin() as session:
        account = await add_account(session)
        for at in range(3):
            await add_location(session, account, name=f"Site {at}", created_at=utc_now())
        sweep = await sweeps.begin_sweep(session, DESK, account.id, tells=True)
    sweepers = [Sweeper(database, keys, lambda: "") for database in nodes]
    for _ in range(5):
        await asyncio.gather(*(sweeper.look(utc_now()) for sweeper in sweepers))
    async with nodes[1].sessions() as session:
        (row,) = [row for row in await store_tests.sweeps_of(session, account.id, 5) if row.id == sweep.id]
    assert (row.state, row.skipped, row.passed, row.failed) == ("done", 3, 0, 0)
