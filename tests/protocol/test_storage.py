"""Old records leave a real node: on SQLite through kills in the middle, on PostgreSQL beside a second node."""

import asyncio
import datetime as dt
import os
import random
import signal
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from engine.accounts import store_storage
from engine.audit.checkpoints import Notary, Signer, export_lines
from engine.audit.events import Event
from engine.audit.record import SYSTEM, open_audited, record
from engine.audit.store import Filters, list_entries
from engine.audit.verify import told, verify
from engine.crypto import KeyRing, load
from engine.db import Database, utc_now
from engine.models import AuditBeginning, AuditEntry
from engine.retention import RecordRetention
from tests import aging
from tests.conftest import ROOT
from tests.factories import add_account, fresh_database
from tests.node import Node

pytestmark = pytest.mark.enable_socket
KILLS, SEED, STATEMENTS = 12, 911, 80
LONG_AGO = dt.timedelta(days=500)
COPIED = "hash, until, at, text, public_key, signature"


async def aged(database: Database, keys: KeyRing, chain: str, upto: int) -> None:
    """As if those entries had been written, and signed, long ago."""
    await aging.aged(database, keys, chain, utc_now() - LONG_AGO, upto)


async def account_that_keeps_a_year(database: Database, entries: int) -> str:
    async with database.sessions.begin() as session:
        account = await add_account(session)
        row = await store_storage.settings_row_to_change(session, account.id)
        row.audit_days = 365
        record(session, SYSTEM, Event.STORAGE_SETTINGS_UPDATE, row)
    async with database.sessions.begin() as session:
        for _ in range(entries):
            record(session, SYSTEM, Event.ACCOUNT_READ, account_id=account.id, details={"word": "unmistakable"})
    return account.id


async def export_of(database: Database, chain: str) -> list[str]:
    async with database.sessions() as session:
        return [line async for line in export_lines(session, chain)]


@pytest.mark.timeout(300)
async def test_whenever_it_is_killed_the_chain_is_whole(tmp_path: Path, keys: KeyRing) -> None:
    """S1-22: kills in the middle of removals; after each the log verifies, and in the end everything old is gone."""
    database = await fresh_database(tmp_path / "callpoint.db", keys)
    chain = await account_that_keeps_a_year(database, 300)
    dice, stopped_at, removed, left = random.Random(SEED), [], [], []
    pruner = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.record_pruner", str(tmp_path), cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert pruner.stdin is not None
    assert pruner.stdout is not None
    try:
        for number in range(KILLS):
            await aged(database, keys, chain, 20 * (number + 1))
            pruner.stdin.write(b"go\n")
            pid = int(await asyncio.wait_for(pruner.stdout.readline(), 60))
            for _ in range(dice.randrange(STATEMENTS)):
                assert await asyncio.wait_for(pruner.stdout.readline(), 60)
                pruner.stdin.write(b".")
            stopped_at.append((await asyncio.wait_for(pruner.stdout.readline(), 60)).decode().strip())
            os.kill(pid, signal.SIGKILL)
            assert await asyncio.wait_for(pruner.stdout.readline(), 60) == b"ended\n"
            async with database.engine.begin() as connection:
                await connection.execute(text("DELETE FROM lease"))
            verdict = verify(await export_of(database, chain), key=Signer(keys).public_key)
            assert verdict.fault == "", number
            removed.append(verdict.removed)
            async with database.sessions() as session:
                left.append(await session.scalar(select(func.min(AuditEntry.seq)).where(AuditEntry.chain == chain)))
    finally:
        pruner.stdin.close()
        await asyncio.wait_for(pruner.wait(), 60)
    assert any(gone < 20 * (number + 1) for number, gone in enumerate(removed)), "killed before the log was shortened"
    assert any(oldest <= gone for oldest, gone in zip(left, removed, strict=True)), "killed while rows were let go"
    assert {"COMMIT", "DELETE"} <= set(stopped_at)
    later = utc_now() + dt.timedelta(days=2)
    await RecordRetention(database, keys).sweep(later)
    await RecordRetention(database, keys).sweep(later + dt.timedelta(hours=2))
    async with database.sessions() as session:
        oldest = await session.scalar(select(func.min(AuditEntry.seq)).where(AuditEntry.chain == chain))
        page = await list_entries(session, chain, Filters(keyword="unmistakable"), limit=1)
    verdict = verify(await export_of(database, chain))
    assert (verdict.fault, verdict.removed, oldest) == ("", 20 * KILLS, 20 * KILLS + 1)
    assert len(page.rows) == 1
    async with database.sessions.begin() as session:  # raises when an index contradicts itself
        await session.execute(
            text("INSERT INTO audit_search_text (audit_search_text, rank) VALUES ('integrity-check', 0)")
        )
    await database.close()


@pytest.mark.timeout(300)
async def test_a_whole_node_begins_its_log_anew_and_goes_on(tmp_path: Path) -> None:
    """S1-22: set over the API, removed beside the running node, exported by command and over HTTP, and verified."""
    async with Node(tmp_path) as node:
        await node.set_up()
        for _ in range(12):
            await node.api("GET", "account")
        keys = load(tmp_path / "data" / "keys.toml")
        database = open_audited(f"sqlite+aiosqlite:///{tmp_path / 'data' / 'callpoint.db'}", keys)
        await aged(database, keys, node.account_id, 10)
        refused = await node.api("PATCH", "storage-settings", {"audit_days": 400}, expect=422, If_Match="*")
        assert "10 audit entries until" in refused["errors"][0]["detail"]
        accepted = {"audit_days": 400, "accept_removal": True}
        assert (await node.api("PATCH", "storage-settings", accepted, If_Match="*"))["audit_days"] == 400
        duty = RecordRetention(database, keys)
        assert (await duty.sweep(utc_now())).pruned == 10
        assert (await duty.sweep(utc_now() + dt.timedelta(hours=2))).audit_rows == 10
        shown = await node.api("GET", "storage-settings")
        assert shown["audit_begins_behind"] == 10
        newest = await node.api("GET", "audit-log?limit=200")
        assert min(entry["seq"] for entry in newest["data"]) == 11
        export = await node.command("audit", "export", "--account", node.account_id)
        verdict = verify(export.splitlines(), key=Signer(keys).public_key)
        assert (verdict.fault, verdict.removed) == ("", 10)
        assert any("The log begins with number 11" in line for line in told(verdict))
        await node.api("GET", "account")
        await database.close()


async def test_two_nodes_on_postgresql_remove_together_what_only_one_may(
    nodes: tuple[Database, Database], keys: KeyRing
) -> None:
    """S1-22: one of them has the duty; nobody who writes meanwhile is refused; the triggers let nothing else go."""
    postgres, other = nodes
    chain = await account_that_keeps_a_year(postgres, 900)
    await Notary(postgres, keys).sign_moved(utc_now())
    await aged(postgres, keys, chain, 800)
    pruned = await asyncio.gather(RecordRetention(postgres, keys).sweep(utc_now()),
                                  RecordRetention(other, keys).sweep(utc_now()))  # fmt: skip
    assert sorted(each.pruned for each in pruned) == [0, 800]

    async def write() -> None:
        for _ in range(20):
            async with other.sessions.begin() as session:
                record(session, SYSTEM, Event.ACCOUNT_READ, account_id=chain)

    later = utc_now() + dt.timedelta(hours=2)
    swept, _ = await asyncio.gather(RecordRetention(postgres, keys).sweep(later), write())
    assert swept.audit_rows == 800
    verdict = verify(await export_of(postgres, chain), key=Signer(keys).public_key)
    assert (verdict.fault, verdict.removed, verdict.entries) == ("", 800, 102 + 1 + 20)
    async with postgres.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(AuditBeginning)) == 1
        found = await list_entries(session, chain, Filters(keyword="unmistakable"), limit=200)
        assert min(row.seq for row in found.rows) == 801
    for statement in (
        "DELETE FROM audit_entry WHERE seq = 850", "UPDATE audit_entry SET ip = 'x' WHERE seq = 850",
        "DELETE FROM audit_beginning", "UPDATE audit_beginning SET seq = 900",
        "TRUNCATE audit_entry", "TRUNCATE audit_beginning", "TRUNCATE audit_checkpoint",
        f"INSERT INTO audit_beginning SELECT 'x', chain, seq - 1, {COPIED} FROM audit_beginning",
    ):  # fmt: skip
        with pytest.raises(DBAPIError, match=r"never changed|an entry of its own"):
            async with postgres.engine.begin() as connection:
                await connection.execute(text(statement))
