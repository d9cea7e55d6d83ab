"""Signed checkpoints and the verification of exports: every tampering is found, and nothing else is."""

import datetime as dt
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from engine import crypto, migrations
from engine.audit.checkpoints import EVERY, EVERY_ENTRIES, Notary, Signer, export_lines, fingerprint, sign_head
from engine.audit.events import Event
from engine.audit.record import SYSTEM, chain_hash, open_audited, record
from engine.audit.verify import GENESIS, Verdict, told, verify, verify_each
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.models import AuditCheckpoint, AuditEntry
from tests.conftest import ROOT
from tests.factories import add_account, add_line

VERIFIER = ROOT / "engine" / "audit" / "verify.py"


async def with_entries(database: Database, count: int) -> str:
    async with database.sessions.begin() as session:
        account = await add_account(session, name='Søren "Quote" \\ Ltd\u2028')
        for number in range(count - 1):
            await add_line(session, account, extension=str(300 + number))
    return account.id


async def signed_head(database: Database, keys: KeyRing, chain: str) -> None:
    async with database.sessions.begin() as session:
        assert await sign_head(session, Signer(keys), chain) is not None


async def export_of(database: Database, chain: str) -> list[str]:
    async with database.sessions() as session:
        return [line async for line in export_lines(session, chain)]


async def whole(database: Database, keys: KeyRing, *, entries: int = 12) -> list[str]:
    """An export: a checkpoint in the middle, one at the end."""
    chain = await with_entries(database, entries // 2)
    await signed_head(database, keys, chain)
    async with database.sessions.begin() as session:
        for _ in range(entries - entries // 2):
            record(session, SYSTEM, Event.ACCOUNT_READ, account_id=chain)
    await signed_head(database, keys, chain)
    return await export_of(database, chain)


async def test_a_whole_export_holds_and_names_its_key_and_reach(database: Database, keys: KeyRing) -> None:
    """S1-02: chain and checkpoints agree, and the verdict says how far the signatures reach."""
    lines = await whole(database, keys)
    verdict = verify(lines, key=Signer(keys).public_key)
    assert (verdict.fault, verdict.entries, verdict.checkpoints, verdict.covered) == ("", 12, 2, 12)
    assert verdict.keys == (Signer(keys).public_key,)
    assert verdict.chain == json.loads(lines[-1])["entry"]["chain"]
    assert verify_each(lines).entries == 12
    name = fingerprint(Signer(keys).public_key)  # as mails print it
    assert f"signed with the key {Signer(keys).public_key} (in mails: {name})" in "\n".join(told(verdict))


async def test_every_byte_that_changes_is_found(database: Database, keys: KeyRing) -> None:
    """S1-02: a mutation of any single byte of the file, checkpoints included."""
    data = "\n".join(await whole(database, keys, entries=6)).encode()
    dice = random.Random(911)
    missed = []
    for position in range(len(data)):
        if data[position] == 0x0A:
            continue
        other = dice.choice([byte for byte in range(32, 127) if byte != data[position]])
        changed = data[:position] + bytes((other,)) + data[position + 1 :]
        if verify(changed.split(b"\n")).holds:
            missed.append((position, data[position : position + 1], bytes((other,))))
    assert not missed


async def test_every_line_removed_doubled_swapped_or_cut_off_is_found(database: Database, keys: KeyRing) -> None:
    """S1-02: deletion, insertion, reorder and truncation at every place."""
    lines = await whole(database, keys)
    notes = [number for number, line in enumerate(lines) if line.startswith('{"checkpoint"')]
    assert notes == [0, 1]
    for number in range(2, len(lines)):
        assert not verify(lines[:number] + lines[number + 1 :]).holds
        assert not verify(lines[: number + 1] + lines[number:]).holds
        assert not verify(lines[:number]).holds
    for number in range(2, len(lines) - 1):
        swapped = [*lines[:number], lines[number + 1], lines[number], *lines[number + 2 :]]
        assert not verify(swapped).holds
    assert not verify([*lines[2:], *lines[:2]]).holds


def rewritten(lines: list[str], at: int) -> list[str]:
    """The same log with entry `at` altered and every hash behind it computed anew: a forger with the database."""
    result, prev_hash = [line for line in lines if line.startswith('{"checkpoint"')], GENESIS
    for line in lines[len(result) :]:
        entry = line.partition('"entry":')[2][:-1]
        if json.loads(entry)["seq"] == at:
            entry = entry.replace('"success"', '"denied"')
        own = chain_hash(prev_hash, entry)
        result.append(f'{{"hash":"{own}","prev_hash":"{prev_hash}","entry":{entry}}}')
        prev_hash = own
    return result


async def test_a_log_computed_anew_is_found_by_its_checkpoints(
    database: Database, keys: KeyRing, tmp_path: Path
) -> None:
    """S1-02: a fork whose every hash is right in itself; without checkpoints nobody could tell."""
    lines = await whole(database, keys)
    for at in range(1, 13):
        forged = rewritten(lines, at)
        assert "was rewritten" in verify(forged).fault
        assert verify([line for line in forged if not line.startswith('{"checkpoint"')]).holds
    assert rewritten(lines, 0) == lines
    stranger = Signer(crypto.create(tmp_path / "other.toml"))
    forged = [line for line in rewritten(lines, 3) if not line.startswith('{"checkpoint"')]
    last = json.loads(forged[-1])
    signed = stranger.sign(last["entry"]["chain"], 12, last["hash"], utc_now())
    note = json.dumps({"checkpoint": signed.text, "public_key": signed.public_key, "signature": signed.signature},
                      separators=(",", ":"))  # fmt: skip
    assert verify([note, *forged]).holds  # signed anew by somebody: the key is what tells
    assert "not with the one you named" in verify([note, *forged], key=Signer(keys).public_key).fault
    assert "not in this chain" in verify([note, *forged], checkpoint=json.loads(lines[-1])["hash"]).fault


async def test_a_checkpoint_of_another_account_does_not_count(database: Database, keys: KeyRing) -> None:
    lines = await whole(database, keys)
    other = await whole(database, keys)
    assert not verify([other[0], *lines[2:]]).holds


async def test_no_false_alarm_over_restart_restore_and_migration(tmp_path: Path, keys: KeyRing) -> None:
    """S1-02: the chain goes on where it stood, also in a database that began with the first schema."""
    path = tmp_path / "callpoint.db"
    database = open_audited(f"sqlite+aiosqlite:///{path}", keys)
    await migrations.migrate(database)
    chain = await with_entries(database, 5)
    await signed_head(database, keys, chain)
    await database.close()
    shutil.copy(path, tmp_path / "backup.db")
    for file in (path, tmp_path / "backup.db"):  # the restored copy goes on in its own way
        opened = open_audited(f"sqlite+aiosqlite:///{file}", crypto.load(tmp_path / "keys.toml"))
        await migrations.migrate(opened)
        async with opened.sessions.begin() as session:
            record(session, SYSTEM, Event.ACCOUNT_READ, account_id=chain)
        await signed_head(opened, keys, chain)
        verdict = verify(await export_of(opened, chain), key=Signer(keys).public_key)
        assert (verdict.fault, verdict.entries, verdict.covered) == ("", 6, 6)
        await opened.close()


async def test_the_notary_signs_what_moved_and_only_that(database: Database, keys: KeyRing) -> None:
    chain = await with_entries(database, 3)
    notary, now = Notary(database, keys), utc_now()
    assert await notary.sign_moved(now) == 1
    assert await notary.sign_moved(now + EVERY * 2) == 0
    async with database.sessions.begin() as session:
        record(session, SYSTEM, Event.ACCOUNT_READ, account_id=chain)
    assert await notary.sign_moved(now + EVERY / 2) == 0
    assert await notary.sign_moved(now + EVERY + dt.timedelta(seconds=1)) == 1
    async with database.sessions.begin() as session:
        for _ in range(EVERY_ENTRIES):
            record(session, SYSTEM, Event.ACCOUNT_READ, account_id=chain)
    assert await notary.sign_moved(now + EVERY + dt.timedelta(seconds=2)) == 1
    async with database.sessions() as session:
        seqs = list(await session.scalars(select(AuditCheckpoint.seq).order_by(AuditCheckpoint.seq)))
    assert seqs == [3, 4, EVERY_ENTRIES + 4]


async def test_one_transaction_signs_one_head_once(database: Database, keys: KeyRing) -> None:
    """Fifty calls recorded together print the same line and store one checkpoint."""
    chain = await with_entries(database, 2)
    async with database.sessions.begin() as session:
        signed = [await sign_head(session, Signer(keys), chain) for _ in range(50)]
    assert len({one.signature for one in signed if one}) == 1
    async with database.sessions() as session:
        assert len((await session.scalars(select(AuditCheckpoint))).all()) == 1


async def test_checkpoints_are_never_updated_or_deleted(database: Database, keys: KeyRing) -> None:
    chain = await with_entries(database, 1)
    await signed_head(database, keys, chain)
    for statement in ("UPDATE audit_checkpoint SET seq = 1", "DELETE FROM audit_checkpoint"):
        with pytest.raises(IntegrityError, match="never changed"):
            async with database.sessions.begin() as session:
                await session.execute(text(statement))


@pytest.mark.enable_socket
async def test_the_verifier_is_one_file_that_runs_alone(database: Database, keys: KeyRing, tmp_path: Path) -> None:
    """S1-02: copied to another machine, isolated from this installation, it reaches the same verdicts."""
    lines = await whole(database, keys)
    alone = tmp_path / "elsewhere" / "verify_audit.py"
    alone.parent.mkdir()
    shutil.copy(VERIFIER, alone)
    imported = {line.split()[1].split(".")[0] for line in VERIFIER.read_text().splitlines()
                if line.startswith(("import ", "from "))}  # fmt: skip
    assert imported <= {*sys.stdlib_module_names, "cryptography"}
    key = Signer(keys).public_key

    def run(body: list[str]) -> subprocess.CompletedProcess[str]:
        (alone.parent / "x.jsonl").write_bytes("\n".join(body).encode() + b"\n")
        asked = [sys.executable, "-I", str(alone), "x.jsonl", "--key", key]
        return subprocess.run(asked, cwd=alone.parent, capture_output=True, text=True, check=False)

    good, cut = run(lines), run(lines[:-1])
    assert (good.returncode, good.stderr) == (0, "")
    assert "12 entries hold" in good.stdout
    assert key in good.stdout
    assert cut.returncode == 1
    assert "the end was cut off" in cut.stderr


async def test_the_stored_bytes_are_what_is_exported(database: Database, keys: KeyRing) -> None:
    lines = await whole(database, keys)
    async with database.sessions() as session:
        rows = (await session.scalars(select(AuditEntry).order_by(AuditEntry.seq))).all()
    assert [line.partition('"entry":')[2][:-1] for line in lines[2:]] == [row.entry for row in rows]
    assert all(json.loads(line)["entry"]["seq"] == row.seq for line, row in zip(lines[2:], rows, strict=True))


def test_a_chain_of_one_entry_is_spoken_of_as_one() -> None:
    """S2-12: the number agrees with its words."""
    one = told(Verdict(1, 1, "ab", "", "c", covered=1, first_seq=1, first_at="A", last_at="A"))
    assert (one[0], one[2]) == ("1 entry holds: chain c, number 1 of A.", "The last is number 1, hash ab.")
    two = told(Verdict(2, 2, "ab", "", "c", covered=2, first_seq=1, first_at="A", last_at="B"))
    assert two[0] == "2 entries hold: chain c, number 1 of A to 2 of B."
