"""Old entries leave behind a signed beginning: the chain goes on verifying, and no other loss looks like it."""

import asyncio
import datetime as dt
import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from engine import crypto
from engine.audit import pruning, store_beginnings
from engine.audit.checkpoints import Signed, Signer, export_lines, row_of, sign_head
from engine.audit.events import Event
from engine.audit.owed import OwedIndexing
from engine.audit.record import SYSTEM, record
from engine.audit.store import Filters, entry_by_id, list_entries
from engine.audit.verify import told, verify, verify_each
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.models import AuditBeginning, AuditEntry
from tests.aging import aged
from tests.conftest import ROOT
from tests.factories import add_account

VERIFIER = ROOT / "engine" / "audit" / "verify.py"


async def with_entries(database: Database, count: int) -> str:
    """An account with that many entries, one a transaction."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
    await more_entries(database, account.id, count - 1)
    return account.id


async def more_entries(database: Database, chain: str, count: int) -> None:
    async with database.sessions.begin() as session:
        for _ in range(count):
            record(session, SYSTEM, Event.ACCOUNT_READ, account_id=chain, details={"word": "unmistakable"})


async def leave_behind(database: Database, keys: KeyRing, chain: str) -> store_beginnings.Prefix | None:
    """As the node does at that age: proved first, then in one commit."""
    signer = Signer(keys)
    prefix = await pruning.proved(database, signer, chain, utc_now() - dt.timedelta(days=365))
    if prefix is not None:
        async with database.sessions.begin() as session:
            assert await pruning.leave_behind(session, signer, chain, prefix, days=365)
    return prefix


async def prune_all(database: Database, keys: KeyRing, chain: str) -> int:
    """Leave everything behind that is there now, as if it were long ago; returns up to which number."""
    await aged(database, keys, chain, utc_now() - dt.timedelta(days=400))
    prefix = await leave_behind(database, keys, chain)
    assert prefix is not None
    return prefix.last


async def clear_all(database: Database, chain: str, upto: int, *, batch: int = 3) -> int:
    cleared = 0
    while True:
        async with database.sessions.begin() as session:
            count = await store_beginnings.clear(session, chain, upto, batch)
        cleared += count
        if not count:
            return cleared


async def export_of(database: Database, chain: str) -> list[str]:
    async with database.sessions() as session:
        return [line async for line in export_lines(session, chain)]


async def signed_head(database: Database, keys: KeyRing, chain: str) -> None:
    async with database.sessions.begin() as session:
        assert await sign_head(session, Signer(keys), chain) is not None


async def pruned(database: Database, keys: KeyRing) -> tuple[str, list[str]]:
    """8 entries, checkpoints at the 4th and 8th, pruned behind that; four more and a checkpoint at the end."""
    chain = await with_entries(database, 8)
    long_ago = utc_now() - dt.timedelta(days=400)
    await aged(database, keys, chain, long_ago)
    async with database.sessions.begin() as session:
        fourth = await store_beginnings.hash_of(session, chain, 4)
        session.add(row_of(Signer(keys).sign(chain, 4, fourth or "", long_ago)))
    prefix = await leave_behind(database, keys, chain)
    assert prefix is not None
    upto = prefix.last
    await clear_all(database, chain, upto)
    await more_entries(database, chain, 4)
    await signed_head(database, keys, chain)
    return chain, await export_of(database, chain)


async def test_a_chain_that_begins_behind_a_signed_beginning_holds_and_says_so(
    database: Database, keys: KeyRing
) -> None:
    """S1-22: the entry of the removal names range, count, hash and setting; the verifier tells of it in words."""
    chain, lines = await pruned(database, keys)
    verdict = verify(lines, key=Signer(keys).public_key)
    assert (verdict.fault, verdict.entries, verdict.last_seq, verdict.removed, verdict.removed_by) == ("", 5, 13, 8, 9)
    assert any("The log begins with number 9" in line and "Entry 9 says so" in line for line in told(verdict))
    entry = json.loads(lines[-5])["entry"]
    begin = json.loads(lines[0])["beginning"].split("\n")
    assert (entry["event"], entry["actor"]["type"], entry["category"], entry["verb"]) == (
        "audit_log.prune", "system", "Audit", "delete",
    )  # fmt: skip
    facts = entry["details"]
    assert (facts["first"], facts["last"], facts["count"], facts["kept_days"]) == (1, 8, 8, 365)
    assert begin[1:5] == [chain, "8", facts["last_hash"], facts["until"]]
    assert verify_each(lines).entries == 5


async def test_every_byte_and_line_of_a_pruned_export_is_covered(database: Database, keys: KeyRing) -> None:
    """S1-02: mutation of any byte, and deletion, doubling, swapping, truncation and moving of any line."""
    _chain, lines = await pruned(database, keys)
    data, dice, missed = "\n".join(lines).encode(), random.Random(911), []
    for position in range(len(data)):
        if data[position] == 0x0A:
            continue
        other = dice.choice([byte for byte in range(32, 127) if byte != data[position]])
        if verify((data[:position] + bytes((other,)) + data[position + 1 :]).split(b"\n")).holds:
            missed.append((position, data[position : position + 1], bytes((other,))))
    assert not missed
    notes = sum(line.startswith('{"checkpoint"') for line in lines)
    assert (lines[0][:12], notes) == ('{"beginning"', 3)
    for number in range(1 + notes, len(lines)):
        assert not verify(lines[:number] + lines[number + 1 :]).holds
        assert not verify(lines[: number + 1] + lines[number:]).holds
        assert not verify(lines[:number]).holds
        assert not verify([*lines[:number], lines[0], *lines[number:]]).holds
    assert not verify(lines[1:]).holds
    assert not verify([lines[0], *lines]).holds
    assert not verify([*lines[1:], lines[0]]).holds


async def test_a_beginning_that_nobody_recorded_is_found(database: Database, keys: KeyRing, tmp_path: Path) -> None:
    """S1-22: cut off, forged, replayed, of another chain, or with the entry about it taken out."""
    chain, lines = await pruned(database, keys)
    signer, entries = Signer(keys), [line for line in lines if line.startswith('{"hash"')]

    def beginning(by: Signer, seq: int, last: str, of: str = chain) -> str:
        signed = by.sign_beginning(of, seq, last, utc_now() - dt.timedelta(days=400), utc_now())
        note = {"beginning": signed.text, "public_key": signed.public_key, "signature": signed.signature}
        return json.dumps(note, separators=(",", ":"))

    assert "an entry was removed" in verify(entries).fault, "no beginning at all"
    later = json.loads(entries[1])
    cut = verify([beginning(signer, 10, later["hash"]), *entries[2:]])
    assert "no entry in it says" in cut.fault, "signed, and the entry about it is another's"
    genuine = json.loads(lines[0])["beginning"].split("\n")
    stranger = Signer(crypto.create(tmp_path / "other.toml"))
    forged = [beginning(stranger, 8, genuine[3]), *entries]
    assert verify(forged).holds, "signed anew by somebody: the key is what tells"
    assert "not with the one you named" in verify(forged, key=signer.public_key).fault
    assert "another chain" in verify([beginning(signer, 8, genuine[3], "account_x"), *entries]).fault
    assert not verify([beginning(signer, 8, "0" * 64), *entries]).holds
    assert not verify([lines[0], *entries[:-1], lines[-1]][:-1] + lines[1:3]).holds
    before = json.loads(lines[1])["checkpoint"].split("\n")
    told_so = verify(lines, checkpoint=before[3])
    assert (told_so.fault, told_so.seen_before) == ("", 4), "a mail from before the removal raises no alarm"
    assert verify(lines, checkpoint=genuine[3]).holds
    assert "entries that were removed" in verify(lines, checkpoint="ab" * 32).fault
    other = signer.sign(chain, 8, "cd" * 32, utc_now())
    note = json.dumps({"checkpoint": other.text, "public_key": other.public_key, "signature": other.signature})
    assert "behind another entry 8" in verify([lines[0], note.replace(" ", ""), *entries]).fault


async def test_a_pruned_chain_is_pruned_again_and_may_lose_the_entry_about_the_first_time(
    database: Database, keys: KeyRing
) -> None:
    chain, _lines = await pruned(database, keys)
    upto = await prune_all(database, keys, chain)
    assert upto == 13
    assert await clear_all(database, chain, upto) == 5
    lines = await export_of(database, chain)
    verdict = verify(lines)
    assert (verdict.fault, verdict.entries, verdict.removed, verdict.removed_by) == ("", 1, 13, 14)
    await more_entries(database, chain, 1)
    assert verify(await export_of(database, chain)).last_seq == 15


async def test_what_was_left_behind_is_no_part_of_the_log_from_that_commit_on(
    database: Database, keys: KeyRing
) -> None:
    """S1-22: pages, searches, exports and single entries, while the rows are still there."""
    chain = await with_entries(database, 6)
    async with database.sessions() as session:
        first = await session.scalar(select(AuditEntry.id).where(AuditEntry.seq == 2))
        assert await entry_by_id(session, chain, first or "") is not None
    await prune_all(database, keys, chain)
    async with database.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(AuditEntry)) == 7
        for filters in (Filters(), Filters(keyword="unmistakable"), Filters(events=frozenset({"account.read"}))):
            assert [row.event for row in (await list_entries(session, chain, filters)).rows] in (
                ["audit_log.prune"], [],
            )  # fmt: skip
        assert await entry_by_id(session, chain, first or "") is None
        held = await store_beginnings.held(session, chain)
    assert held.count == 1
    verdict = verify(await export_of(database, chain))
    assert (verdict.fault, verdict.entries, verdict.removed) == ("", 1, 6)


async def test_the_search_indexes_follow(database: Database, keys: KeyRing) -> None:
    """S1-22: the full-text indexes hold exactly what is left, so that they do not grow for ever and stay sound."""
    chain = await with_entries(database, 30)
    upto = await prune_all(database, keys, chain)
    await more_entries(database, chain, 3)
    while await OwedIndexing(database).step():
        pass
    assert await clear_all(database, chain, upto, batch=7) == 30
    async with database.sessions() as session:
        found = "SELECT count(*) FROM audit_search_text WHERE audit_search_text MATCH 'body : \"unmistakable\"'"
        assert await session.scalar(text(found)) == 3
        facets = "SELECT count(*) FROM audit_search_facet WHERE audit_search_facet MATCH :event"
        event = {"event": f'"e{b"account.read".hex()}"'}
        assert await session.scalar(text(facets), event) == 3
        page = await list_entries(session, chain, Filters(keyword="unmistakable"))
    assert [row.seq for row in page.rows] == [34, 33, 32]
    async with database.sessions.begin() as session:  # raises when an index contradicts itself
        for name in ("audit_search_text", "audit_search_facet"):
            await session.execute(text(f"INSERT INTO {name} ({name}, rank) VALUES ('integrity-check', 0)"))


async def test_the_database_lets_nothing_else_go(database: Database, keys: KeyRing) -> None:
    """S1-06: triggers refuse entries behind the beginning, a beginning of no entry, one that goes back, any change."""
    chain, _lines = await pruned(database, keys)
    for statement in (
        "DELETE FROM audit_entry WHERE seq = 10", "UPDATE audit_entry SET ip = 'x'", "DELETE FROM audit_beginning",
        "UPDATE audit_beginning SET seq = 12",
    ):  # fmt: skip
        with pytest.raises(IntegrityError, match="never changed"):
            async with database.sessions.begin() as session:
                await session.execute(text(statement))
    async with database.sessions() as session:
        row = await store_beginnings.beginning_of(session, chain)
    assert row is not None
    for seq, last in ((12, "ab" * 32), (3, row.hash), (99, row.hash)):
        with pytest.raises(IntegrityError, match="an entry of its own"):
            async with database.sessions.begin() as session:
                session.add(AuditBeginning(
                    id=f"checkpoint_{seq}", chain=chain, seq=seq, hash=last, until=row.until, at=row.at, text="",
                    public_key="", signature="",
                ))  # fmt: skip


async def test_an_entry_younger_than_the_end_stops_the_removal(database: Database, keys: KeyRing) -> None:
    """S1-22: whatever the database's columns say of it, and however old the next ones are."""
    chain, now = await with_entries(database, 6), utc_now()
    long_ago = now - dt.timedelta(days=400)
    await aged(database, keys, chain, long_ago, 3)
    async with database.engine.begin() as connection:
        await connection.execute(text("DROP TRIGGER audit_entry_no_update"))
        stored = long_ago.replace(tzinfo=None).isoformat(" ")
        await connection.execute(text("UPDATE audit_entry SET at = :at"), {"at": stored})
    async with database.sessions.begin() as session:
        row = await session.scalar(select(AuditEntry).where(AuditEntry.chain == chain, AuditEntry.seq == 6))
        assert row is not None
        session.add(row_of(Signer(keys).sign(chain, 6, row.hash, long_ago)))  # by a clock that was wrong
    found = await leave_behind(database, keys, chain)
    assert found is not None
    assert (found.first, found.last, found.count) == (1, 3, 3)


async def test_who_writes_to_the_database_without_the_key_lets_nothing_go(database: Database, keys: KeyRing) -> None:
    """S1-22: entries rewritten and hashed anew, made older than they are, taken out, or damaged: nothing is signed."""
    long_ago = utc_now() - dt.timedelta(days=400)

    async def refused(chain: str, statement: str, because: str) -> None:
        await aged(database, keys, chain, long_ago)
        async with database.engine.begin() as connection:
            for trigger in (
                "audit_entry_no_update",
                "audit_entry_no_delete",
                "audit_beginning_is_an_entry",
                "audit_checkpoint_no_update",
            ):
                await connection.execute(text(f"DROP TRIGGER IF EXISTS {trigger}"))
            await connection.execute(text(statement), {"chain": chain})
        with pytest.raises(pruning.Unproved, match=because):
            await leave_behind(database, keys, chain)
        async with database.sessions() as session:
            assert await store_beginnings.begins_behind(session, chain) in (0, 4)

    of = "WHERE chain = :chain AND seq = 3"
    forged = "INSERT INTO audit_beginning SELECT 'x' || seq, chain, 4, hash, at, at, '', '', '' FROM audit_entry"
    for statement, because in (
        (f"UPDATE audit_entry SET entry = replace(entry, 'read', 'seen') {of}", "Entry 3 was changed"),
        (f"DELETE FROM audit_entry {of}", "Entry 3 was changed"),
        (f"UPDATE audit_entry SET entry = '{{broken' {of}", "Entry 3 was changed"),
        ("UPDATE audit_checkpoint SET text = replace(text, '-', '+') WHERE chain = :chain", "does not hold"),
        (f"{forged} WHERE chain = :chain AND seq = 4", "not a beginning"),
    ):  # fmt: skip
        await refused(await with_entries(database, 6), statement, because)

    rewritten = await with_entries(database, 6)
    await aged(database, keys, rewritten, long_ago)
    async with database.sessions() as session:
        note = (await store_beginnings.checkpoints_between(session, rewritten, 1, 6))[0]
    await aged(database, keys, rewritten, long_ago - dt.timedelta(days=1), signed=False)  # computed anew, soundly
    async with database.sessions.begin() as session:
        session.add(
            row_of(Signed(note.chain, note.seq, note.hash, note.at, note.text, note.public_key, note.signature))
        )
    with pytest.raises(pruning.Unproved, match="Entry 6 is not the one that was signed"):
        await leave_behind(database, keys, rewritten)


async def test_no_entry_leaves_that_no_old_checkpoint_of_ours_vouches_for(
    database: Database, keys: KeyRing, tmp_path: Path
) -> None:
    """S1-22: an entry is as old as the signature that covers it, whatever it says of itself."""
    long_ago = utc_now() - dt.timedelta(days=400)
    chain = await with_entries(database, 6)
    await aged(database, keys, chain, long_ago, signed=False)
    assert await leave_behind(database, keys, chain) is None, "nothing signed"
    await signed_head(database, keys, chain)
    assert await leave_behind(database, keys, chain) is None, "signed today, as old as it says it is"
    async with database.engine.begin() as connection:
        await connection.execute(text("DROP TRIGGER audit_checkpoint_no_update"))
        await connection.execute(text("UPDATE audit_checkpoint SET at = '2020-01-01 00:00:00'"))
    assert await leave_behind(database, keys, chain) is None, "a column says so, not what was signed"
    stranger = crypto.create(tmp_path / "other.toml")
    await aged(database, stranger, chain, long_ago)
    assert await leave_behind(database, keys, chain) is None, "signed long ago by somebody"


async def test_nothing_leaves_before_a_year_and_nothing_that_changed_meanwhile(
    database: Database, keys: KeyRing
) -> None:
    """S1-22: whatever the setting and the clock of the caller say."""
    chain = await with_entries(database, 4)
    await aged(database, keys, chain, utc_now() - dt.timedelta(days=300))
    prefix = await pruning.proved(database, Signer(keys), chain, utc_now())
    assert prefix is not None
    for one, days in ((prefix, 365), (replace(prefix, until=prefix.until - dt.timedelta(days=100)), 364)):
        with pytest.raises(pruning.Unproved, match="before 365 days"):
            async with database.sessions.begin() as session:
                await pruning.leave_behind(session, Signer(keys), chain, one, days=days)
    old = replace(prefix, until=prefix.until - dt.timedelta(days=100))
    with pytest.raises(pruning.Unproved, match="while it was proved"):
        async with database.sessions.begin() as session:
            await pruning.leave_behind(session, Signer(keys), chain, replace(old, hash="ab" * 32), days=365)
    async with database.sessions.begin() as session:
        assert not await pruning.leave_behind(session, Signer(keys), chain, replace(old, first=3), days=365)


async def test_a_removal_that_is_rolled_back_leaves_all_as_it_was(database: Database, keys: KeyRing) -> None:
    """S1-22: beginning and entry are one commit: a crash before it leaves the whole chain, one after it the rest."""
    chain = await with_entries(database, 5)
    await aged(database, keys, chain, utc_now() - dt.timedelta(days=400))
    prefix = await pruning.proved(database, Signer(keys), chain, utc_now() - dt.timedelta(days=365))
    assert prefix is not None
    with pytest.raises(RuntimeError, match="the power fails"):
        async with database.sessions.begin() as session:
            await pruning.leave_behind(session, Signer(keys), chain, prefix, days=365)
            await session.flush()
            raise RuntimeError("the power fails")
    verdict = verify(await export_of(database, chain))
    assert (verdict.fault, verdict.entries, verdict.removed) == ("", 5, 0)
    upto = await prune_all(database, keys, chain)
    async with database.sessions.begin() as session:
        assert await store_beginnings.clear(session, chain, upto, 2) == 2  # and then it dies
    verdict = verify(await export_of(database, chain))
    assert (verdict.fault, verdict.entries, verdict.removed) == ("", 1, 5)
    async with database.sessions() as session:
        left = await store_beginnings.beginnings_to_clear(session, utc_now() + dt.timedelta(seconds=1))
    assert [(row.chain, row.seq) for row in left] == [(chain, 5)], "the next node goes on"
    assert await clear_all(database, chain, upto) == 3
    async with database.sessions() as session:
        assert await store_beginnings.beginnings_to_clear(session, utc_now() + dt.timedelta(seconds=1)) == []


async def test_what_the_indexes_do_not_hold_yet_waits(database: Database, keys: KeyRing) -> None:
    """Decision 0027: entries of a large operation are put into the indexes first: taking them out needs them there."""
    chain = await with_entries(database, 6)
    upto = await prune_all(database, keys, chain)
    async with database.engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO audit_search_owed (chain, first, last) VALUES (:chain, 3, 5)"), {"chain": chain}
        )
    assert await clear_all(database, chain, upto, batch=10) == 2
    async with database.engine.begin() as connection:
        await connection.execute(text("DELETE FROM audit_search_owed"))
    assert await clear_all(database, chain, upto, batch=10) == 4


@pytest.mark.enable_socket
async def test_the_single_file_knows_beginnings_too(database: Database, keys: KeyRing, tmp_path: Path) -> None:
    """S1-02: alone on another machine; the words tell what is gone, and a cut is still found."""
    _chain, lines = await pruned(database, keys)
    shutil.copy(VERIFIER, tmp_path / "verify_audit.py")

    def run(body: list[str]) -> subprocess.CompletedProcess[str]:
        (tmp_path / "x.jsonl").write_bytes("\n".join(body).encode() + b"\n")
        asked = [sys.executable, "-I", "verify_audit.py", "x.jsonl", "--key", Signer(keys).public_key]
        return subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False)

    good, cut = await asyncio.to_thread(run, lines), await asyncio.to_thread(run, lines[1:])
    seen = json.loads(lines[1])["checkpoint"].split("\n")[3]
    gone = ["x.jsonl", "--checkpoint", seen]
    (tmp_path / "x.jsonl").write_text("\n".join(lines) + "\n")
    asked = [sys.executable, "-I", "verify_audit.py", *gone]
    unproved = await asyncio.to_thread(subprocess.run, asked, cwd=tmp_path, capture_output=True, check=False)
    assert unproved.returncode == 3, "what a mail told of cannot be proved by this file: that is no good news"
    assert (good.returncode, good.stderr) == (0, "")
    assert "The log begins with number 9" in good.stdout
    assert cut.returncode == 1


async def test_a_beginning_that_removed_more_than_a_setting_can_is_found(database: Database, keys: KeyRing) -> None:
    """S1-22: signed with the genuine key, yet too young, contradicted by a checkpoint, or by a setting below a year."""
    chain, lines = await pruned(database, keys)
    signer, last = Signer(keys), json.loads(lines[0])["beginning"].split("\n")[3]

    def note(kind: str, signed: Signed) -> str:
        return json.dumps({kind: signed.text, "public_key": signed.public_key, "signature": signed.signature})

    now, day = utc_now(), dt.timedelta(days=1)
    young = note("beginning", signer.sign_beginning(chain, 8, last, now - 364 * day, now))
    assert "no setting lets entries go before 365 days" in verify([young, *lines[1:]]).fault
    late = note("checkpoint", signer.sign(chain, 5, "ab" * 32, now))
    assert "younger than" in verify([lines[0], late, *lines[1:]]).fault
    other = note("checkpoint", signer.sign(chain, 4, "ab" * 32, now - 500 * day))
    assert "different entries 4" in verify([lines[0], other, *lines[1:]]).fault
    short = [line.replace('"kept_days":365', '"kept_days":364') for line in lines]
    assert not verify(short).holds
