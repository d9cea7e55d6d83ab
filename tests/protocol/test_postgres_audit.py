"""The audit log on a real PostgreSQL: words and addresses by trigrams, and every tampering with its rows found."""

import asyncio
import json
import random
from datetime import datetime

import pytest
from sqlalchemy import func, insert, literal_column, select, text
from sqlalchemy.exc import IntegrityError

from engine import migrations
from engine.audit import trigrams
from engine.audit.checkpoints import Notary, Signer, export_lines
from engine.audit.events import Event
from engine.audit.pending import PendingKeeper
from engine.audit.record import GENESIS, SYSTEM, chain_hash, open_audited, record
from engine.audit.store import Filters, list_entries
from engine.audit.verify import Verdict, verify
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.e911.store import revisions
from engine.models import Account, AuditEntry
from tests.bench.audit_entries import COLUMNS, rows_of
from tests.factories import add_account, add_line

pytestmark = pytest.mark.enable_socket
ENTRIES = 5_000
CHAIN = "account_of_many"


# --- Words and addresses ----------------------------------------------------------------------------------------------


async def with_many(database: Database) -> list[AuditEntry]:
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in rows_of(CHAIN, ENTRIES)]
    for row in rows:
        row["at"] = datetime.fromisoformat(f"{row['at']}+00:00")
    async with database.engine.begin() as connection:
        await connection.execute(insert(AuditEntry), rows)
        await connection.execute(text("ANALYZE audit_entry"))
    async with database.sessions() as session:
        return list(await session.scalars(select(AuditEntry).order_by(AuditEntry.seq.desc())))


async def pages(database: Database, filters: Filters) -> list[int]:
    """Every number that the pages show, one page behind the other."""
    found, before = [], None
    while True:
        async with database.sessions() as session:
            page = await list_entries(session, CHAIN, filters, limit=200, before=before)
        found += [row.seq for row in page.rows]
        before = page.next_before
        if before is None:
            return found


async def test_trigrams_find_what_a_plain_look_at_every_entry_finds(postgres: Database) -> None:
    """S1-54: common and rare words, parts of addresses, both, with other filters and without the extension."""
    rows = await with_many(postgres)
    octet = rows[-1].ip.split(".")[1]
    changed = [told for row in reversed(rows[2_500:]) if (told := json.loads(row.entry)["changes"])]
    rare = changed[0]["label"]["after"]  # of an entry that is not among the newest
    asked = (
        Filters(keyword=rare), Filters(keyword="person17@example"), Filters(keyword="PHONE"),
        Filters(ip=f".{octet}."),
        Filters(keyword="no such words"), Filters(keyword="Ådland"), Filters(keyword="00:15:65:00:1"),
        Filters(keyword="person1", ip="10.1", outcome="denied"),
    )  # fmt: skip
    expected = [[row.seq for row in rows if _meets(row, filters)] for filters in asked]
    assert [bool(seqs) for seqs in expected] == [True, True, True, True, False, False, True, True]
    async with postgres.sessions() as session:
        assert await trigrams.is_there(session)
    assert [await pages(postgres, filters) for filters in asked] == expected
    async with postgres.engine.begin() as connection:
        await connection.execute(text("DROP EXTENSION pg_trgm CASCADE"))
    async with postgres.sessions() as session:
        assert not await trigrams.is_there(session)
    assert [await pages(postgres, filters) for filters in asked] == expected


def _meets(row: AuditEntry, filters: Filters) -> bool:
    words = {filters.keyword.lower(), filters.keyword.replace(":", "").lower()}
    return (
        any(word in row.entry.lower() for word in words)
        and filters.ip in row.ip
        and filters.outcome in {"", row.outcome}
    )


async def test_the_beginning_of_a_hash_finds_its_entry_and_the_one_behind_it(postgres: Database) -> None:
    """S0-44: far behind the newest, by an index that the commits do not put it into; without trigrams, too."""
    rows = await with_many(postgres)
    wanted, behind, first = rows[-900], rows[-901], rows[-1]
    asked = [Filters(keyword=keyword) for keyword in (wanted.hash, wanted.hash[:8].upper(), first.prev_hash, "0" * 7)]
    expected = [[behind.seq, wanted.seq]] * 2 + [[first.seq]]
    assert [await pages(postgres, filters) for filters in asked[:3]] == expected
    assert await pages(postgres, asked[3]) == [row.seq for row in rows if "0" * 7 in row.entry]  # too short for a hash
    query = "EXPLAIN SELECT seq FROM audit_entry WHERE ARRAY[substr(hash, 1, 8)] @> ARRAY['00000000']"
    async with postgres.sessions() as session:
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        assert "ix_audit_entry_hash_beginning" in "".join(await session.scalars(text(query)))
    async with postgres.engine.begin() as connection:
        await connection.execute(text("DROP EXTENSION pg_trgm CASCADE"))
    assert [await pages(postgres, filters) for filters in asked[:3]] == expected


async def test_a_question_that_takes_too_long_ends_and_leaves_the_transaction_usable(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1-54: its time is its own: the rest of the request has the time it had before."""
    monkeypatch.setattr(trigrams, "WITHIN_MS", 1_000)  # enough for a short question on a machine that is busy
    async with postgres.sessions.begin() as session:
        account = await add_account(session)
        await session.execute(text("SET LOCAL statement_timeout = '7s'"))
        slow = literal_column("(SELECT count(*) FROM pg_sleep(5))") == 1
        assert await trigrams.seqs(session, account.id, [slow], 1, 10) is None
        assert await trigrams.seqs(session, account.id, [AuditEntry.entry.like("%x%")], 1, 10) == []
        for name, value in (("statement_timeout", "7s"), ("enable_seqscan", "on")):
            assert await session.scalar(select(func.current_setting(name))) == value


async def pending(database: Database) -> int:
    """Pages of new rows that the index of words has not taken in."""
    query = "SELECT n_pending_pages FROM gin_metapage_info(get_raw_page('ix_audit_entry_entry_trigram', 0))"
    async with database.sessions() as session:
        return int(await session.scalar(text(query)) or 0)


async def test_new_entries_get_into_the_trigrams_beside_the_commits(postgres: Database) -> None:
    """S1-54: no commit empties the indexes' lists; the node does, at its start and when enough has come since."""
    async with postgres.engine.begin() as connection:
        await connection.execute(text("CREATE EXTENSION pageinspect"))
    keeper = PendingKeeper(postgres)
    assert await keeper.step_if_due(999.0)
    await with_many(postgres)
    assert await pending(postgres) > 4 << 20 >> 13  # more than the server's own limit lets wait
    before = await pages(postgres, Filters(keyword="person17@example"))
    async with asyncio.timeout(60):  # until the server tells what was inserted
        while not await keeper.step_if_due(1_000.0):
            await asyncio.sleep(0.1)
    assert (await pending(postgres), await keeper.step()) == (0, 0)
    assert before
    assert await pages(postgres, Filters(keyword="person17@example")) == before
    async with postgres.sessions.begin() as session:
        record(session, SYSTEM, Event.ACCOUNT_READ, resource=("account", CHAIN, "one more"))
    assert await pending(postgres) > 0
    assert not await keeper.step_if_due(1_059.0)
    running = asyncio.create_task(PendingKeeper(postgres).run())
    async with asyncio.timeout(60):
        while await pending(postgres):
            await asyncio.sleep(0.1)
    running.cancel()
    async with postgres.engine.begin() as connection:
        await connection.execute(text("DROP EXTENSION pg_trgm CASCADE"))
    assert await keeper.step_if_due(1_061.0)


# --- Proof ------------------------------------------------------------------------------------------------------------


async def judged(database: Database, chain: str, keys: KeyRing) -> Verdict:
    async with database.sessions() as session:
        return verify([line async for line in export_lines(session, chain)], key=Signer(keys).public_key)


async def whole(database: Database, keys: KeyRing) -> str:
    """A chain of twelve entries with a signed checkpoint over all of them."""
    async with database.sessions.begin() as session:
        account = await add_account(session, name='Søren "Quote" \\ Ltd')
        for number in range(10):
            await add_line(session, account, extension=str(300 + number))
        record(session, SYSTEM, Event.ACCOUNT_READ, account_id=account.id)
    assert await Notary(database, keys).sign_moved(utc_now()) == 1
    return account.id


async def tampered(database: Database, *statements: str) -> None:
    """What a superuser can do who switches the triggers off first."""
    async with database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE audit_entry DISABLE TRIGGER ALL"))
        for statement in statements:
            await connection.execute(text(statement))
        await connection.execute(text("ALTER TABLE audit_entry ENABLE TRIGGER ALL"))


SHIFT = "UPDATE audit_entry SET seq = seq - 1 WHERE seq = {seq}"
ONE_MORE = (
    "INSERT INTO audit_entry SELECT 'audit_x', chain, 13, at, event, category, access, verb, outcome, actor_type, "
    "actor_id, actor_name, resource_type, resource_id, ip, entry, {hashes} FROM audit_entry WHERE seq = 12"
)
SWAP = ("UPDATE audit_entry SET seq = 99 WHERE seq = 6", SHIFT.format(seq=7))
OTHER_NOTE = "UPDATE audit_checkpoint SET text = replace(text, chr(10) || '12', chr(10) || '11')"


@pytest.mark.parametrize(
    "statements",
    [
        ("UPDATE audit_entry SET entry = replace(entry, '\"success\"', '\"denied\"') WHERE seq = 4",),
        ("UPDATE audit_entry SET hash = repeat('0', 64) WHERE seq = 12",),
        ("DELETE FROM audit_entry WHERE seq = 5",),
        ("DELETE FROM audit_entry WHERE seq = 1",),
        ("DELETE FROM audit_entry WHERE seq > 9",),
        ("DELETE FROM audit_entry WHERE seq = 5", SHIFT.format(seq=6)),
        (*SWAP, "UPDATE audit_entry SET seq = 7 WHERE seq = 99"),
        (ONE_MORE.format(hashes="hash, repeat('a', 64)"),),
        (OTHER_NOTE,),
    ],
    ids=["edit", "hash", "hole", "first", "cut", "closed hole", "swap", "insert", "checkpoint"],
)  # fmt: skip
async def test_every_tampering_with_the_rows_is_found_on_postgresql(
    postgres: Database, keys: KeyRing, statements: tuple[str, ...]
) -> None:
    """S1-02: edits, deletions, insertions, reorder and truncation, made by somebody who owns the database."""
    chain = await whole(postgres, keys)
    verdict = await judged(postgres, chain, keys)
    assert (verdict.fault, verdict.entries, verdict.covered) == ("", 12, 12)
    async with postgres.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE audit_checkpoint DISABLE TRIGGER ALL"))
    await tampered(postgres, *statements)
    assert not (await judged(postgres, chain, keys)).holds


async def test_a_log_computed_anew_and_a_fork_are_found_on_postgresql(postgres: Database, keys: KeyRing) -> None:
    """S1-02: every hash is right in itself, and the signed checkpoint tells; a second successor cannot be stored."""
    chain = await whole(postgres, keys)
    dice, prev_hash = random.Random(911), GENESIS
    changed = dice.randrange(2, 11)
    async with postgres.sessions() as session:
        rows = list(await session.scalars(select(AuditEntry).where(AuditEntry.chain == chain).order_by(AuditEntry.seq)))
    async with postgres.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE audit_entry DISABLE TRIGGER ALL"))
        for row in rows:
            entry = row.entry.replace('"success"', '"denied"') if row.seq == changed else row.entry
            own = chain_hash(prev_hash, entry)
            values = {"entry": entry, "prev": prev_hash, "own": own, "id": row.id}
            query = "UPDATE audit_entry SET entry = :entry, prev_hash = :prev, hash = :own WHERE id = :id"
            await connection.execute(text(query), values)
            prev_hash = own
    assert "was rewritten" in (await judged(postgres, chain, keys)).fault
    with pytest.raises(IntegrityError, match="follows the one before"):
        async with postgres.engine.begin() as connection:
            await connection.execute(text("ALTER TABLE audit_entry ENABLE TRIGGER ALL"))
            await connection.execute(text(ONE_MORE.format(hashes="prev_hash, hash")))


async def test_writers_at_once_move_the_revision_once_for_each_change_on_postgresql(
    postgres: Database, postgres_url: str, keys: KeyRing
) -> None:
    """S1-06: entry and revision are one statement, and no two writers wait for each other in a circle."""
    chain, other = await whole(postgres, keys), open_audited(postgres_url, keys)
    async with postgres.sessions() as session:
        begun = (await revisions(session))[chain]

    async def write(database: Database, number: int) -> None:
        async with database.sessions.begin() as session:
            account = await session.get(Account, chain, with_for_update=number % 3 == 0)
            assert account is not None
            account.phone = f"+1202555{number:04d}"
            record(session, SYSTEM, Event.ACCOUNT_UPDATE, account)
            if number % 4 == 0:  # two entries: the head is read, under the same lock
                record(session, SYSTEM, Event.ACCOUNT_READ, account_id=chain)

    await asyncio.gather(*(write((postgres, other)[number % 2], number) for number in range(16)))
    await other.close()
    async with postgres.sessions() as session:
        assert (await revisions(session))[chain] == begun + 16
    verdict = await judged(postgres, chain, keys)
    assert (verdict.fault, verdict.entries) == ("", 12 + 16 + 4)


async def test_no_false_alarm_over_a_dump_and_a_restore_on_postgresql(postgres: Database, keys: KeyRing) -> None:
    """S1-02: the rows copied out and in again, and the log goes on; so does its chain."""
    chain = await whole(postgres, keys)
    async with postgres.engine.begin() as connection:
        for table in ("audit_entry", "audit_checkpoint"):
            await connection.execute(text(f"CREATE TABLE kept_{table} AS SELECT * FROM {table}"))
            await connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
            await connection.execute(text(f"DELETE FROM {table}"))
            await connection.execute(text(f"INSERT INTO {table} SELECT * FROM kept_{table} ORDER BY random()"))
            await connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER ALL"))
            await connection.execute(text(f"DROP TABLE kept_{table}"))
    await migrations.migrate(postgres)
    async with postgres.sessions.begin() as session:
        record(session, SYSTEM, Event.ACCOUNT_READ, account_id=chain, details={"text": 'Ünïcode \u2028 \\ "'})
    verdict = await judged(postgres, chain, keys)
    assert (verdict.fault, verdict.entries, verdict.covered) == ("", 13, 12)
    async with postgres.sessions() as session:
        last = await session.scalar(select(AuditEntry.entry).order_by(AuditEntry.seq.desc()).limit(1))
    assert json.loads(last or "")["seq"] == 13


# --- Two nodes at one chain -------------------------------------------------------------------------------------------


async def test_two_nodes_that_write_at_once_make_one_chain_on_postgresql(postgres: Database, keys: KeyRing) -> None:
    """S1-06: each remembers a head that the other leaves behind; who waits for the lock finds the chain moved on."""
    other = open_audited(postgres.url, keys)
    async with postgres.sessions.begin() as session:
        chain = (await add_account(session)).id

    async def read(database: Database) -> None:
        async with database.sessions.begin() as session:
            record(session, SYSTEM, Event.ACCOUNT_READ, resource=("account", chain, ""), account_id=chain)

    for one in (other, other, postgres, postgres, other):
        await read(one)
    for _ in range(8):
        await asyncio.gather(*(read(one) for one in (postgres, other, postgres, other)))
    await other.close()
    async with postgres.sessions() as session:
        verdict = verify([line async for line in export_lines(session, chain)])
    assert (verdict.fault, verdict.entries) == ("", 38)
