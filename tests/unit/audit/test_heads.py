"""A remembered head is never believed: one chain without fork or gap, whoever wrote meanwhile and whatever failed."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import event, select

from engine.audit.events import Event
from engine.audit.parts import Part, record_parts
from engine.audit.record import SYSTEM, open_audited, record
from engine.audit.verify import export_line, verify
from engine.crypto import KeyRing
from engine.db import Database
from engine.models import Account, AuditEntry
from tests.factories import add_account


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


def heard(database: Database) -> list[str]:
    """Every statement from now on that is about entries."""
    found: list[str] = []

    def hear(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "audit_entry" in statement:
            found.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", hear)
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
    assert statements[0].startswith("INSERT INTO audit_entry")
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
