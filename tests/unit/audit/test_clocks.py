"""A clock that is behind, or was set back: the chain's order and its times agree, or the log itself says where not."""

import datetime as dt
import json
import random
import socket
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from engine.audit import store_times
from engine.audit.clocks import AGAIN, HELD, Step, given
from engine.audit.events import Event
from engine.audit.parts import Part, record_parts
from engine.audit.record import SYSTEM, open_audited, record
from engine.audit.store import Filters, entries_oldest_first, list_entries
from engine.audit.verify import export_line, verify
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.doctor.clocks import clock_finding
from engine.models import AuditEntry
from tests.factories import add_account

NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


class Hands:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> dt.datetime:
        return self.now


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
async def timed(database: Database, keys: KeyRing, tmp_path: Path, hands: Hands) -> AsyncIterator[Database]:
    """The same file as `database`, by that clock."""
    opened = open_audited(f"sqlite+aiosqlite:///{tmp_path / 'callpoint.db'}", keys, hands)
    yield opened
    await opened.close()


async def an_account(database: Database) -> str:
    async with database.sessions.begin() as session:
        return (await add_account(session)).id


async def read_once(database: Database, chain: str) -> None:
    async with database.sessions.begin() as session:
        record(session, SYSTEM, Event.ACCOUNT_READ, resource=("account", chain, "Acme"), account_id=chain)


async def entries(database: Database, chain: str) -> list[AuditEntry]:
    """All of them, oldest first, when the chain verifies."""
    async with database.sessions() as session:
        rows = [row async for row in entries_oldest_first(session, chain)]
    verdict = verify([export_line(row) for row in rows])
    assert verdict.holds, verdict.fault
    assert all(json.loads(row.entry)["at"] == row.at.isoformat(timespec="milliseconds")[:23] + "Z" for row in rows)
    return rows


def test_an_entry_takes_the_time_of_the_one_before_as_far_as_right_clocks_differ() -> None:
    """S1-04: up to five minutes; beyond that the clock counts, for it may have been wrong before."""
    second = dt.timedelta(seconds=1)
    assert given(NOON, None) == (NOON, dt.timedelta(0), False)
    assert given(NOON, NOON - HOUR) == (NOON, dt.timedelta(0), False)
    assert given(NOON - HELD, NOON) == (NOON, HELD, False)
    assert given(NOON - HELD - second, NOON) == (NOON - HELD - second, HELD + second, True)
    assert [given(NOON - HELD - one, NOON).is_step for one in (-second, 0 * second, second)] == [False, False, True]
    assert given(NOON - second / 2, NOON).told == {}
    assert given(NOON - 2 * second, NOON).told == {"clock_behind_s": 2.0}


def test_a_difference_that_was_told_is_no_news_for_a_day() -> None:
    """S1-42: another one is, and one of more than a day always."""
    second, told = dt.timedelta(seconds=1), Step(NOON, HOUR)
    for behind, later, is_step in (
        (HOUR, 0 * HOUR, False), (HOUR + HELD, HOUR, False), (HOUR - HELD, HOUR, False),
        (HOUR + HELD + second, HOUR, True), (HOUR - HELD - second, HOUR, True),
        (HOUR, AGAIN - second, False), (HOUR, AGAIN, True), (HOUR, -second, True),
    ):  # fmt: skip
        now = NOON + later
        expected = (now if is_step else now + behind, behind, is_step)
        assert given(now, now + behind, told) == expected
    year = dt.timedelta(days=365)
    assert given(NOON, NOON + year, Step(NOON, year)).is_step, "a year's error does not stay for a day"


async def test_nodes_whose_clocks_differ_by_seconds_write_one_order_by_number_and_time(
    database: Database, timed: Database, hands: Hands
) -> None:
    """S1-04: nobody's entry is older than the one before it, and what a clock really said stands in the entry."""
    chain = await an_account(timed)
    for behind_s in (0, 3, -1, 3, 0.2, 3):
        hands.now = NOON + dt.timedelta(seconds=10 - behind_s)
        await read_once(timed, chain)
    rows = await entries(database, chain)
    assert all(one.at <= other.at for one, other in pairwise(rows))
    told = [json.loads(row.entry)["details"].get("clock_behind_s") for row in rows if row.event == "account.read"]
    assert told == [None, 3.0, None, 4.0, 1.2, 4.0]


async def test_a_clock_that_is_set_back_is_an_entry_and_times_go_on_from_there(
    database: Database, timed: Database, hands: Hands
) -> None:
    """S1-04: a year's error for a moment does not stay in the log for a year."""
    chain = await an_account(timed)
    hands.now = NOON + dt.timedelta(days=3_650)
    await read_once(timed, chain)
    hands.now = NOON + HOUR
    await read_once(timed, chain)
    await read_once(timed, chain)
    rows = (await entries(database, chain))[-4:]
    assert [(row.event, row.at.year) for row in rows] == [
        ("account.read", 2036), ("clock.set_back", 2026), ("account.read", 2026), ("account.read", 2026),
    ]  # fmt: skip
    step = json.loads(rows[1].entry)
    assert step["details"] == {"clock_behind_s": (dt.timedelta(days=3_650) - HOUR).total_seconds()}
    assert (step["actor"]["id"], step["access"], step["category"]) == ("system", "write", "Audit")


async def test_nodes_whose_clocks_are_minutes_apart_say_so_once_and_name_themselves(
    database: Database, timed: Database, hands: Hands
) -> None:
    """S1-42: not at each change of the writer. What came between is in one order by number and time, and each entry
    says by how much its own clock was behind.
    """
    chain = await an_account(database)
    hands.now = utc_now() - HOUR / 4
    for number in range(4):
        if number != 2:
            await read_once(timed, chain)
        else:
            async with timed.sessions.begin() as session:
                parts = [Part(Event.PHONE_CREATE, ("phone", f"phone_{one}", ""), {}) for one in range(3)]
                await record_parts(session, SYSTEM, chain, "bulk_1", parts)
                record(session, SYSTEM, Event.PHONE_CHANGE_MANY, resource=("phone", "bulk_1", ""), account_id=chain)
        await read_once(database, chain)
    rows = await entries(database, chain)
    (step,) = [json.loads(row.entry) for row in rows if row.event == "clock.set_back"]
    assert step["resource"]["name"] == socket.gethostname()
    behind = rows[step["seq"] :]
    assert all(one.at <= other.at for one, other in pairwise(behind))
    told = [json.loads(row.entry)["details"].get("clock_behind_s", 0) for row in behind if row.event == "account.read"]
    assert [890 < seconds < 960 for seconds in told] == [False, False, True, False, False, True, False]
    async with database.sessions() as session:
        finding = await clock_finding(session, [chain], utc_now())
        assert finding.level == "warning"
        assert f"the clock of {socket.gethostname()} was 15 minutes behind" in finding.detail
        assert "911 calls go on" in finding.detail
        later = await clock_finding(session, [chain], utc_now() + dt.timedelta(days=8))
    assert later.level == "good"


async def test_a_step_that_was_rolled_back_is_told_with_the_next_entry(
    database: Database, timed: Database, hands: Hands
) -> None:
    """S1-42: what nobody committed was not told."""
    chain = await an_account(timed)
    hands.now -= HOUR
    with pytest.raises(ZeroDivisionError):
        async with timed.sessions.begin() as session:
            parts = [Part(Event.PHONE_CREATE, ("phone", "phone_1", ""), {})]
            await record_parts(session, SYSTEM, chain, "bulk_1", parts)
            raise ZeroDivisionError
    await read_once(timed, chain)
    assert [row.event for row in await entries(database, chain)][-2:] == ["clock.set_back", "account.read"]


async def test_many_entries_at_once_begin_with_the_step_too(database: Database, timed: Database, hands: Hands) -> None:
    """S1-04, S1-20: a bulk operation just behind the step, of few entries and of many."""
    chain = await an_account(timed)
    for count, back in ((3, HOUR), (150, 2 * HOUR)):
        hands.now -= back
        async with timed.sessions.begin() as session:
            parts = [Part(Event.PHONE_CREATE, ("phone", f"phone_{one}", ""), {}) for one in range(count)]
            await record_parts(session, SYSTEM, chain, "bulk_1", parts)
            record(session, SYSTEM, Event.PHONE_CHANGE_MANY, resource=("phone", "bulk_1", ""), account_id=chain)
    rows = await entries(database, chain)
    assert [row.seq for row in rows if row.event == "clock.set_back"] == [2, 7]
    assert [row.at for row in rows[-152:]] == [NOON - 3 * HOUR] * 152


@pytest.mark.parametrize("most_runs", [8, 3])
async def test_ranges_of_time_find_what_a_look_at_all_finds_however_often_the_clock_was_set_back(
    database: Database, timed: Database, hands: Hands, monkeypatch: pytest.MonkeyPatch, most_runs: int
) -> None:
    """S0-38: hours that were written twice are both found; so are those of a clock that ran ahead."""
    monkeypatch.setattr(store_times, "MOST_RUNS", most_runs)
    monkeypatch.setattr(store_times, "DISORDER", 2)
    chance = random.Random(5)
    chain = await an_account(timed)
    for number in range(90):
        hands.now += chance.choice((0 * HOUR, HOUR / 20, HOUR / 3)) - {20: 5, 40: 6, 65: 7}.get(number, 0) * HOUR
        await read_once(timed, chain)
    rows = (await entries(database, chain))[::-1]
    assert sum(row.event == "clock.set_back" for row in rows) == 3
    for _ in range(60):
        since, until = sorted(chance.choice(rows).at + chance.choice((-1, 0, 1)) * HOUR / 7 for _ in range(2))
        for filters in (Filters(since=since), Filters(until=until), Filters(since=since, until=until)):
            expected = [row.seq for row in rows if (filters.since or row.at) <= row.at <= (filters.until or row.at)]
            assert await paged(database, chain, filters) == expected, filters


async def paged(database: Database, chain: str, filters: Filters) -> list[int]:
    seen, before = list[int](), None
    async with database.sessions() as session:
        while True:
            page = await list_entries(session, chain, filters, limit=40, before=before)
            seen += [row.seq for row in page.rows]
            if (before := page.next_before) is None:
                return seen
