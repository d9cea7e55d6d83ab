"""The full-text indexes stay in few segments, and no commit pays for what was written before it."""

import re

from sqlalchemy import text

from engine.audit.events import Event
from engine.audit.merging import IndexKeeper
from engine.audit.owed import OwedIndexing
from engine.audit.record import SYSTEM, record
from engine.audit.store import Filters, list_entries
from engine.db import Database
from tests.factories import add_account

WRITES = 60


def varints(data: bytes) -> list[int]:
    """SQLite's variable-length integers, high bits first, seven to a byte."""
    found, value = [], 0
    for byte in data:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            found.append(value)
            value = 0
    return found


async def segments(database: Database, index: str) -> list[int]:
    """How many segments each level of an index has: its structure record (row 10), behind a cookie of four bytes."""
    async with database.sessions() as session:
        stored = await session.scalar(text(f"SELECT block FROM {index}_data WHERE id = 10"))
    assert isinstance(stored, bytes)
    levels, _segments, _writes, *rest = varints(stored[4:])
    counts = []
    for _ in range(levels):
        _merging, count, *rest = rest
        counts.append(count)
        rest = rest[3 * count :]
    assert rest == []
    return counts


async def written(database: Database, count: int, *, is_followed: bool = True) -> str:
    """So many commits, each followed by its entry's way into the indexes, as on a node with little to do."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
    for number in range(count):
        async with database.sessions.begin() as session:
            target = ("phone", f"phone_{number:04}", f"Desk {number}")
            record(session, SYSTEM, Event.PHONE_READ, resource=target, account_id=account.id)
        if is_followed:
            await OwedIndexing(database).step()
    return account.id


async def found(database: Database, chain: str) -> list[list[int]]:
    asked = (Filters(keyword="Desk 5"), Filters(keyword="desk 17"), Filters(outcome="success", category="Phones"))
    async with database.sessions() as session:
        return [[row.seq for row in (await list_entries(session, chain, one)).rows] for one in asked]


async def test_nothing_but_the_keeper_merges_what_was_put_in_before(database: Database) -> None:
    """S1-54: sixty entries, one by one, leave sixty segments: FTS5 itself would have merged some."""
    await written(database, WRITES)
    for index in ("audit_search_text", "audit_search_facet"):
        assert (await segments(database, index))[0] == WRITES


async def test_commits_leave_the_indexes_alone_and_one_step_takes_them_all_in(database: Database) -> None:
    """S1-54: a write waits for no index; sixty of them are one segment to merge, and are found before it as behind."""
    chain = await written(database, WRITES, is_followed=False)
    for index in ("audit_search_text", "audit_search_facet"):
        assert sum(await segments(database, index)) == 0
    before = await found(database, chain)
    assert [len(one) for one in before] == [11, 1, 50]
    assert await OwedIndexing(database).step()
    assert not await OwedIndexing(database).is_owing()
    for index in ("audit_search_text", "audit_search_facet"):
        assert sum(await segments(database, index)) == 1
    assert await found(database, chain) == before


async def test_merging_goes_in_steps_to_few_segments_and_finds_the_same(database: Database) -> None:
    """S1-54: each step is a transaction of its own; at the end few segments are left and every search answers alike."""
    chain = await written(database, WRITES)
    before = await found(database, chain)
    assert [len(one) for one in before] == [11, 1, 50]
    keeper, steps = IndexKeeper(database), 1
    while await keeper.step():
        steps += 1
        assert steps < 100, "merging does not end"
    assert steps > 1
    for index in ("audit_search_text", "audit_search_facet"):
        assert sum(await segments(database, index)) < 8
    assert await found(database, chain) == before
    assert not await keeper.step()


async def test_new_databases_ask_fts5_for_no_merges_of_its_own(database: Database) -> None:
    """More than 2,000 segments are an error to FTS5, so the emergency brake stays, far below that."""
    async with database.sessions() as session:
        for index in ("audit_search_text", "audit_search_facet"):
            rows = await session.execute(text(f"SELECT k, v FROM {index}_config"))
            options = {name: value for name, value in rows if re.fullmatch("[a-z]+merge", name)}
            assert options == {"automerge": 0, "crisismerge": 400, "usermerge": 8}
