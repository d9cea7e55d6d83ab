"""A remembered head is never believed: one chain without fork or gap, whoever wrote meanwhile and whatever failed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import IntegrityError

from engine.audit.events import Event
from engine.audit.owed import Range, unindexed
from engine.audit.parts import Part, record_parts
from engine.audit.record import SYSTEM, open_audited, record
from engine.audit.verify import export_line, verify
from engine.crypto import KeyRing
from engine.db import Database
from engine.errors import UnauditedChange
from engine.models import Account, AuditEntry
from tests.factories import add_account

COPIED = (
    "INSERT INTO audit_entry SELECT 'audit_x', chain, {}, at, event, category, access, verb, outcome, actor_type, "
    "actor_id, actor_name, resource_type, resource_id, ip, entry, {}, hash FROM audit_entry WHERE seq = 2"
)


async def read_once(database: Database, chain: str) -> None:
    async with database.sessions.begin() as session:
        record(session, SYSTEM, Event.ACCOUNT_READ, resource=("account", chain, "Acme"), account_id=chain)


async def seqs_of(database: Database, chain: str) -> list[int]:
    """The chain's numbers, when it verifies."""
    async with database.sessions() as session:
        query = select(AuditEntry).where(AuditEntry.chain == chain).order_by(AuditEntry.seq)
        rows = (await session.scalars(query)).all()
    verdict = verify([export_line(row) for row in rows])
    assert verdict.holds, verdict.fault
    return [row.seq for row in rows]


def heard(database: Database) -> set[str]:
    """Every statement from now on that SQLite runs about entries; one with triggers is told several times."""
    found: set[str] = set()

    def hear(statement: str) -> None:
        if "audit_entry" in statement and not statement.startswith("--"):
            found.add(statement)

    def listen(connection: Any, *_: object) -> None:
        connection.run_async(lambda driver: driver.set_trace_callback(hear))

    event.listen(database.engine.sync_engine, "checkout", listen)
    return found


async def an_account(database: Database) -> str:
    async with database.sessions.begin() as session:
        return (await add_account(session)).id


async def test_an_entry_behind_an_own_one_is_one_statement(database: Database) -> None:
    """S1-04: the head is not read again; the statement that stores the entry asks whether it is still the head."""
    chain = await an_account(database)
    statements = heard(database)
    await read_once(database, chain)
    assert len(statements) == 1
    assert statements.pop().startswith("INSERT INTO audit_entry")
    assert await seqs_of(database, chain) == [1, 2]


async def test_two_processes_that_write_in_turn_make_one_chain(
    database: Database, keys: KeyRing, tmp_path: Path
) -> None:
    """S1-06: each remembers a head that the other has left behind."""
    other = open_audited(f"sqlite+aiosqlite:///{tmp_path / 'callpoint.db'}", keys)
    chain = await an_account(database)
    for _ in range(5):
        await read_once(other, chain)
        await read_once(other, chain)
        await read_once(database, chain)
    await asyncio.gather(*(read_once(one, chain) for _ in range(10) for one in (database, other)))
    await other.close()
    assert await seqs_of(database, chain) == list(range(1, 37))


@pytest.mark.parametrize("fails_by", ["an error", "a cancellation"])
async def test_what_was_rolled_back_is_nobodys_head(database: Database, fails_by: str) -> None:
    """S1-04: the entry was made and stored, and its transaction failed behind it."""
    chain = await an_account(database)
    fault = RuntimeError if fails_by == "an error" else asyncio.CancelledError

    def refuse(_connection: object) -> None:
        raise fault

    event.listen(database.engine.sync_engine, "commit", refuse)
    with pytest.raises(fault):
        await read_once(database, chain)
    event.remove(database.engine.sync_engine, "commit", refuse)
    assert await seqs_of(database, chain) == [1]
    await read_once(database, chain)
    await read_once(database, chain)
    assert await seqs_of(database, chain) == [1, 2, 3]


async def test_entries_of_a_bulk_operation_go_before_its_own(database: Database) -> None:
    """S1-52: they moved the chain's end in the same transaction, past what is remembered."""
    chain = await an_account(database)
    await read_once(database, chain)
    async with database.sessions.begin() as session:
        record(session, SYSTEM, Event.PHONE_CHANGE_MANY, resource=("phone", "request_9", "many"), account_id=chain)
        parts = [Part(Event.PHONE_UPDATE, ("phone", f"phone_{number}", ""), {}) for number in range(3)]
        await record_parts(session, SYSTEM, chain, "request_9", parts)
    await read_once(database, chain)
    assert await seqs_of(database, chain) == [1, 2, 3, 4, 5, 6, 7]


async def test_several_entries_of_one_commit_and_other_chains_between(database: Database) -> None:
    """S1-06: heads of several chains move in one commit, and each is remembered for itself."""
    chains = [await an_account(database) for _ in range(3)]
    for number in range(4):
        async with database.sessions.begin() as session:
            for chain in chains[: number + 1]:
                account = await session.get(Account, chain)
                assert account is not None
                account.phone = f"+1202555010{number}"
                record(session, SYSTEM, Event.ACCOUNT_UPDATE, account)
                record(session, SYSTEM, Event.ACCOUNT_READ, account)
        await read_once(database, chains[0])
    assert [len(await seqs_of(database, chain)) for chain in chains] == [13, 7, 5]


async def test_a_refused_entry_takes_its_change_and_its_revision_with_it(database: Database) -> None:
    """S1-04: they are one transaction, also where both go to SQLite together; the fault is told as any other."""
    chain = await an_account(database)
    async with database.sessions.begin() as session:
        refusal = "CREATE TRIGGER full BEFORE INSERT ON audit_entry BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        await session.execute(text(refusal))
    before = await state_of(database, chain)
    with pytest.raises(IntegrityError, match="the disk is full"):
        await rename(database, chain, "Other")
    assert await state_of(database, chain) == before
    async with database.sessions.begin() as session:
        await session.execute(text("DROP TRIGGER full"))
    await rename(database, chain, "Other")
    assert await state_of(database, chain) == ("Other", before[1] + 1)
    assert await seqs_of(database, chain) == [1, 2]


async def test_a_revision_moves_once_whoever_wrote_meanwhile(database: Database, keys: KeyRing, tmp_path: Path) -> None:
    """S1-06: an entry that was not at the head is made anew; the revision has moved already."""
    other = open_audited(f"sqlite+aiosqlite:///{tmp_path / 'callpoint.db'}", keys)
    chain = await an_account(database)
    _name, revision = await state_of(database, chain)
    for number in range(4):
        await rename(database, chain, f"Here {number}")
        await rename(other, chain, f"There {number}")
    await other.close()
    assert await state_of(database, chain) == ("There 3", revision + 8)
    assert await seqs_of(database, chain) == list(range(1, 10))


@pytest.mark.parametrize(
    ("seq", "prev_hash"),
    [("seq + 1", "prev_hash"), ("seq + 2", "hash"), ("seq", "prev_hash"), ("1", "hash"), ("0", "hash")],
    ids=["a fork", "a gap", "a twin", "a second first one", "one before the first"],
)
async def test_the_database_stores_no_entry_that_does_not_follow_the_one_before(
    database: Database, seq: str, prev_hash: str
) -> None:
    """S1-02: whoever inserts, without the product's own care."""
    chain = await an_account(database)
    await read_once(database, chain)
    with pytest.raises(IntegrityError, match=r"follows the one before|UNIQUE"):
        async with database.engine.begin() as connection:
            await connection.execute(text(COPIED.format(seq, prev_hash)))
    assert await seqs_of(database, chain) == [1, 2]
    async with database.engine.begin() as connection:
        await connection.execute(text(COPIED.format("seq + 1", "hash")))


@pytest.mark.parametrize("prev_hash", ["hash", "prev_hash"], ids=["the next one", "a fork"])
async def test_entries_of_a_bulk_operation_are_held_to_the_same_rule_at_once(
    database: Database, prev_hash: str
) -> None:
    """S1-02: SQLite's triggers are away meanwhile, and are there again behind it."""
    chain = await an_account(database)
    await read_once(database, chain)

    async def store() -> None:
        async with database.sessions.begin() as session, unindexed(session, Range(chain, 3, 3)):
            await session.execute(text(COPIED.format("seq + 1", prev_hash)))

    if prev_hash == "hash":
        await store()
    else:
        with pytest.raises(UnauditedChange, match="nothing was stored"):
            await store()
    async with database.sessions() as session:
        count = select(func.count()).select_from(AuditEntry)
        assert await session.scalar(count) == (3 if prev_hash == "hash" else 2)
        triggers = set(await session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")))
    assert triggers >= {"audit_entry_search", "audit_entry_follows"}


async def rename(database: Database, chain: str, name: str) -> None:
    async with database.sessions.begin() as session:
        account = await session.get(Account, chain)
        assert account is not None
        account.name = name
        record(session, SYSTEM, Event.ACCOUNT_UPDATE, account)


async def state_of(database: Database, chain: str) -> tuple[str, int]:
    """The account's name and its revision."""
    async with database.sessions() as session:
        account = await session.get(Account, chain)
        revision = await session.scalar(text("SELECT value FROM revision WHERE account_id = :id"), {"id": chain})
        assert account is not None
        return account.name, int(revision or 0)
