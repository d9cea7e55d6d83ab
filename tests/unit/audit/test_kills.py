"""Two hundred kills in the middle of writes: no change without its entry, no success entry without its change."""

import asyncio
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from engine.audit.checkpoints import export_lines
from engine.audit.verify import verify
from engine.crypto import KeyRing
from engine.db import Database
from engine.models import AuditEntry, Contact
from tests.conftest import ROOT
from tests.factories import add_account

KILLS = 200
SEED = 911


async def killed_again_and_again(folder: Path, account_id: str) -> None:
    """Start a writer, let it write for some milliseconds, kill it; as often as KILLS says."""
    dice = random.Random(SEED)
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.audit_writer", str(folder), account_id, cwd=ROOT,
        env=os.environ | {"PYTHONASYNCIODEBUG": ""},  # as it runs: what it is doing when it is killed is its own work
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert writer.stdin is not None
    assert writer.stdout is not None
    try:
        for number in range(KILLS):
            writer.stdin.write(b"now\n" if number % 4 == 0 else b"soon\n")
            pid = int(await asyncio.wait_for(writer.stdout.readline(), 30))
            await asyncio.sleep(dice.uniform(0, 0.03))
            os.kill(pid, signal.SIGKILL)
            assert await asyncio.wait_for(writer.stdout.readline(), 30) == b"ended\n"
    finally:
        writer.stdin.close()
        await asyncio.wait_for(writer.wait(), 30)


def replayed(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The contacts as the log alone tells them: every success entry done in its order."""
    rows: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if entry["resource"]["type"] != "contact" or entry["outcome"] != "success":
            continue
        identity = entry["resource"]["id"]
        for field, change in entry["changes"].items():
            known = rows.setdefault(identity, {})
            assert known.get(field) == change["before"], f"entry {entry['seq']} does not fit what went before"
            known[field] = change["after"]
        if entry["verb"] == "delete":
            del rows[identity]
    return rows


@pytest.mark.enable_socket
async def test_two_hundred_kills_leave_no_change_without_entry_and_no_entry_without_change(
    database: Database, tmp_path: Path, keys: KeyRing
) -> None:
    """S0-30: the log, replayed, gives exactly the rows that are there; and its chain holds."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
    await killed_again_and_again(tmp_path, account.id)
    async with database.sessions() as session:
        stored = await session.scalars(select(AuditEntry.entry).order_by(AuditEntry.seq))
        entries = [json.loads(text) for text in stored]
        contacts = (await session.scalars(select(Contact))).all()
        lines = [line async for line in export_lines(session, account.id)]
    assert verify(lines).fault == ""
    told = replayed(entries)
    assert {row.id: (row.name, row.number) for row in contacts} == {
        identity: (row["name"], row["number"]) for identity, row in told.items()
    }
    verbs = {(entry["event"], entry["outcome"]) for entry in entries}
    assert verbs >= {("contact.create", "success"), ("contact.update", "success"), ("contact.delete", "success")}
    assert ("contact.update", "failure") in verbs
    assert len(entries) > KILLS  # they were in the middle of writing
