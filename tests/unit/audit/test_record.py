"""The audited commit: one transaction, one chain, no change without its entry."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from engine.audit.events import FACTS, READS, WRITES, Access, Category, Event
from engine.audit.record import PLATFORM, SYSTEM, Actor, chain_hash, record
from engine.audit.store import Filters, entries_oldest_first, list_entries
from engine.audit.verify import export_line, verify
from engine.db import Database
from engine.errors import UnauditedChange
from engine.models import Account, AuditEntry, Phone, Revision
from tests.factories import add_account, add_line, add_phone

ADMIN = Actor("user", "user_1", "eve@example.com", "192.0.2.9", display_name="Eve", role="owner", request_id="r1")


async def entries_of(database: Database, chain: str) -> list[dict]:
    async with database.sessions.begin() as session:
        rows = await session.scalars(select(AuditEntry).where(AuditEntry.chain == chain).order_by(AuditEntry.seq))
        return [json.loads(row.entry) for row in rows]


async def test_a_change_and_its_entry_are_one_commit_with_before_and_after(database: Database) -> None:
    """S1-04: an update's entry holds the old and the new value of each field that moved, and no other."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
    async with database.sessions.begin() as session:
        row = await session.get(Account, account.id)
        row.name = "Acme Dental Group"
        record(session, ADMIN, Event.ACCOUNT_UPDATE, row)
    entry = (await entries_of(database, account.id))[-1]
    assert entry["changes"] == {"name": {"before": "Acme Dental", "after": "Acme Dental Group"}}
    assert entry["actor"] == {
        "type": "user",
        "id": "user_1",
        "name": "eve@example.com",
        "display_name": "Eve",
        "role": "owner",
    }
    assert (entry["outcome"], entry["request"]["ip"], entry["resource"]["id"]) == ("success", "192.0.2.9", account.id)


async def test_a_change_without_an_entry_is_refused_and_rolled_back(database: Database) -> None:
    """S1-06: no code path changes an audited row silently."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
    with pytest.raises(UnauditedChange):
        async with database.sessions.begin() as session:
            (await session.get(Account, account.id)).name = "changed in silence"
    async with database.sessions.begin() as session:
        assert (await session.get(Account, account.id)).name == "Acme Dental"


async def test_a_read_entry_does_not_cover_a_change(database: Database) -> None:
    async with database.sessions.begin() as session:
        account = await add_account(session)
    with pytest.raises(UnauditedChange):
        async with database.sessions.begin() as session:
            row = await session.get(Account, account.id)
            row.name = "x"
            record(session, ADMIN, Event.ACCOUNT_READ, row)


async def test_a_secret_never_reaches_an_entry(database: Database) -> None:
    """P-23: a sealed column shows only that it changed, by a keyed fingerprint."""
    async with database.sessions.begin() as session:
        account = await add_account(session, provisioning_token="the-token-itself", provisioning_token_index="aa")
        line = await add_line(session, account, secret="hunter2hunter2")
    told = json.dumps(await entries_of(database, account.id))
    assert "the-token-itself" not in told
    assert line.secret not in told
    assert '"redacted": true' in told


async def test_rows_that_no_entry_names_are_told_by_the_first_write_entry(database: Database) -> None:
    async with database.sessions.begin() as session:
        account = await add_account(session)
        line = await add_line(session, account)
    async with database.sessions.begin() as session:
        phone = await add_phone(session, account, line)
    created = (await entries_of(database, account.id))[-1]
    assert created["resource"]["id"] == phone.id
    assert created["changes"]["phone_line[1].line_id"] == {"before": None, "after": line.id}


async def test_what_machines_write_needs_no_entry_and_moves_no_revision(database: Database) -> None:
    async with database.sessions.begin() as session:
        account = await add_account(session)
        phone = await add_phone(session, account)
    async with database.sessions.begin() as session:
        before = (await session.get(Revision, account.id)).value
        (await session.get(Phone, phone.id)).last_ip = "192.0.2.7"
    async with database.sessions.begin() as session:
        assert (await session.get(Revision, account.id)).value == before
        assert (await session.get(Phone, phone.id)).version == 1


async def test_a_change_of_what_a_phone_is_made_of_moves_the_revision_and_tells_it(database: Database) -> None:
    told: list[set[str]] = []
    database.revision_listeners.append(told.append)
    async with database.sessions.begin() as session:
        account = await add_account(session)
    async with database.sessions.begin() as session:
        await add_line(session, account)
    assert told == [{account.id}, {account.id}]
    async with database.sessions.begin() as session:
        assert (await session.get(Revision, account.id)).value == 2


async def test_a_rolled_back_operation_leaves_no_entry(database: Database) -> None:
    async with database.sessions.begin() as session:
        account = await add_account(session)
    with pytest.raises(RuntimeError, match="later fault"):
        async with database.sessions.begin() as session:
            await add_line(session, account)
            raise RuntimeError("later fault")
    assert [entry["event"] for entry in await entries_of(database, account.id)] == ["account.create"]


async def test_entries_are_never_updated_or_deleted(database: Database) -> None:
    """S1-06: the table itself refuses."""
    async with database.sessions.begin() as session:
        await add_account(session)
    for statement in ("UPDATE audit_entry SET ip = ''", "DELETE FROM audit_entry"):
        with pytest.raises(IntegrityError, match="never changed"):
            async with database.sessions.begin() as session:
                await session.execute(text(statement))


async def test_concurrent_writers_make_one_chain_with_no_fork_and_no_gap(database: Database) -> None:
    """S0-29: sequence numbers are gapless and each entry follows the one before, whoever writes at the same time."""
    async with database.sessions.begin() as session:
        account = await add_account(session)

    async def write(number: int) -> None:
        async with database.sessions.begin() as session:
            await add_line(session, account, extension=str(200 + number))

    await asyncio.gather(*(write(number) for number in range(40)))
    async with database.sessions.begin() as session:
        lines = [export_line(row) async for row in entries_oldest_first(session, account.id, group=7)]
    verdict = verify(lines)
    assert verdict.holds
    assert verdict.entries == 41


async def exported(database: Database, count: int = 12) -> list[str]:
    async with database.sessions.begin() as session:
        account = await add_account(session)
        for number in range(count):
            await add_line(session, account, extension=str(300 + number))
    async with database.sessions.begin() as session:
        return [export_line(row) async for row in entries_oldest_first(session, account.id)]


async def test_every_edit_deletion_reorder_and_insertion_is_found(database: Database) -> None:
    lines = await exported(database)
    assert verify(lines).holds
    edited = lines.copy()
    edited[4] = edited[4].replace("Callpoint", "Callp0int")
    assert not verify(edited).holds
    assert not verify(lines[:5] + lines[6:]).holds
    assert not verify(lines[1:]).holds
    assert not verify([*lines[:3], lines[4], lines[3], *lines[5:]]).holds
    assert not verify([*lines[:6], lines[5], *lines[6:]]).holds
    last, prev_hash = json.loads(lines[-1])["hash"], json.loads(lines[-1])["prev_hash"]
    forged = lines[-1].replace("success", "failure")
    assert not verify([*lines[:-1], forged]).holds
    text = forged.partition('"entry":')[2][:-1]
    rehashed = forged.replace(last, chain_hash(prev_hash, text))
    assert verify([*lines[:-1], rehashed]).holds
    assert verify([*lines[:-1], rehashed], checkpoint=last).fault.startswith("the checkpoint")


async def test_a_cut_off_end_is_found_by_a_checkpoint(database: Database) -> None:
    lines = await exported(database)
    last = json.loads(lines[-1])["hash"]
    assert verify(lines, checkpoint=last).holds
    assert not verify(lines[:-1], checkpoint=last).holds


@given(st.lists(st.text(max_size=60), max_size=5))
def test_any_text_gets_a_verdict_and_never_an_exception(lines: list[str]) -> None:
    verdict = verify(lines)
    assert verdict.holds == (not any(line.strip("\r\n") for line in lines))


async def test_filters_narrow_and_pages_join_without_overlap(database: Database) -> None:
    """S0-29, S0-43: newest first, prefixes are prefixes, `_` and `%` are literal, pages join up exactly."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        for number in range(9):
            await add_line(session, account, extension=str(400 + number))
        record(session, ADMIN, Event.ACCOUNT_READ, account)
    async with database.sessions.begin() as session:
        seen, before = [], None
        while True:
            page = await list_entries(session, account.id, Filters(), limit=4, before=before)
            seen += [row.seq for row in page.rows]
            before = page.next_before
            if before is None:
                break
        assert seen == list(range(11, 0, -1))

        async def count(**fields: object) -> int:
            return len((await list_entries(session, account.id, Filters(**fields), limit=100)).rows)

        assert await count(resource="line") == 9
        assert await count(resource="line_") == 9
        assert await count(resource="ine") == 0
        assert await count(resource="l%") == 0
        assert await count(actor="eve@") == 1
        assert await count(ip="192.0.2.9") == 1
        assert await count(ip="0.2.") == 1
        assert await count(ip="192.0.2.0/24") == 1
        assert await count(events=frozenset({"line.create"})) == 9
        assert await count(outcome="denied") == 0
        assert await count(keyword="Desk 403") == 1


async def test_a_request_with_no_known_account_stands_in_the_platform_chain(database: Database) -> None:
    async with database.sessions.begin() as session:
        record(session, SYSTEM, Event.PROVISIONING_DENIED, outcome="denied", status=404, reason="unknown_token")
    (entry,) = await entries_of(database, PLATFORM)
    assert (entry["outcome"], entry["status"], entry["reason"]) == ("denied", 404, "unknown_token")


def test_every_event_is_in_exactly_one_class_and_one_category() -> None:
    """S0-42, S1-41: reads and writes together are all events, and share none."""
    assert set(Event) == READS | WRITES
    assert not READS & WRITES
    for event, facts in FACTS.items():
        assert facts.category in Category
        assert facts.access in Access
        assert event.value.count(".") == 1


async def test_a_reading_session_refuses_to_write_and_never_waits_for_a_writer(database: Database) -> None:
    async with database.sessions.begin() as session:
        account = await add_account(session)
    async with database.sessions.begin() as writing:
        (await writing.get(Account, account.id)).name = "not yet"
        record(writing, ADMIN, Event.ACCOUNT_UPDATE, account)
        await writing.flush()
        async with asyncio.timeout(60), database.sessions() as reading:
            row = await reading.get(Account, account.id)
            assert row.name == "Acme Dental"
            row.name = "by the wrong door"
            with pytest.raises(RuntimeError, match="asked to write"):
                await reading.flush()


async def test_writers_take_turns_in_the_order_they_came(database: Database) -> None:
    async with database.sessions.begin() as session:
        account = await add_account(session)
    done: list[int] = []

    async def write(number: int) -> None:
        async with database.sessions.begin() as session:
            await add_line(session, account, extension=str(500 + number))
        done.append(number)

    await asyncio.gather(*(write(number) for number in range(20)))
    assert done == list(range(20))


async def test_a_write_transaction_inside_another_is_told_at_once(database: Database) -> None:
    async with database.sessions.begin():
        with pytest.raises(RuntimeError, match="wait for itself"):
            async with database.sessions.begin():
                pass
