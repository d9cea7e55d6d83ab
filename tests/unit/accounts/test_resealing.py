"""Stored secrets are sealed anew: all of them, nothing else of a row, and nothing that somebody changed meanwhile."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from engine import crypto
from engine.accounts import resealing, store_sealed
from engine.accounts.resealing import counted, reseal
from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.crypto import KeyRing, Unsealable
from engine.db import Database
from engine.models import Account, Line
from tests.factories import add_account, add_line, add_pbx, add_trunk, fresh_database

LINES = 12
VALUES = LINES + 3


@pytest.fixture
async def filled(tmp_path: Path, keys: KeyRing, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """An account with fifteen secrets, sealed with the first key, and five rows a step."""
    monkeypatch.setattr(resealing, "ROWS", 5)
    opened = await fresh_database(tmp_path / "callpoint.db", keys)
    async with opened.sessions.begin() as session:
        account = await add_account(session, phone_admin_password="Desk-Pass-w0rd")
        await add_pbx(session, account, secret="pbx-secret")
        await add_trunk(session, account, secret="trunk-secret")
        for number in range(LINES):
            await add_line(session, account, str(100 + number), secret=f"secret-{number}")
    yield opened
    await opened.close()


async def rotated(path: Path) -> KeyRing:
    crypto.use(path, crypto.add(path))
    return crypto.load(path)


async def everything(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table with secrets, without them."""
    found = {}
    async with database.sessions() as session:
        for table in store_sealed.tables():
            sealed = {column.name for column in store_sealed.sealed_columns(table)}
            names = ", ".join(column.name for column in table.columns if column.name not in sealed)
            rows = await session.execute(text(f"SELECT {names} FROM {table.name} ORDER BY 1"))
            found[table.name] = [tuple(row) for row in rows]
    return found


async def secrets_of(database: Database) -> list[str]:
    async with database.sessions() as session:
        account = (await session.execute(text("SELECT id FROM account"))).scalar()
        lines = [
            await session.get(Line, one) for (one,) in await session.execute(text("SELECT id FROM line ORDER BY 1"))
        ]
        kept = await session.get(Account, account)
        assert kept is not None
        return [str(kept.phone_admin_password), *(str(line.secret) for line in lines if line is not None)]


async def test_everything_is_sealed_with_the_new_key_and_nothing_else_of_a_row_changes(
    filled: Database, tmp_path: Path
) -> None:
    """Each secret reads as before; versions, times and revisions are those of before; a second run finds nothing."""
    told, rows, steps = await secrets_of(filled), await everything(filled), []
    ring = await rotated(tmp_path / "keys.toml")
    assert await counted(filled) == {"k1": VALUES}
    assert await reseal(filled, ring, steps.append) == VALUES
    assert steps[-1] == VALUES
    assert len(steps) > 3
    assert await counted(filled) == {"k2": VALUES}
    assert await secrets_of(filled) == told
    assert await everything(filled) == rows
    assert await reseal(filled, ring) == 0


async def test_what_was_broken_off_is_done_by_the_next_run(filled: Database, tmp_path: Path) -> None:
    """Whatever it was broken off behind, both keys' values open, and the rest is sealed anew once."""
    ring, told = await rotated(tmp_path / "keys.toml"), await secrets_of(filled)

    def broken_off(done: int) -> None:
        if done >= VALUES // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await reseal(filled, ring, broken_off)
    between = await counted(filled)
    assert set(between) == {"k1", "k2"}
    assert await secrets_of(filled) == told
    assert await reseal(filled, ring) == between["k1"]
    assert await counted(filled) == {"k2": VALUES}


async def test_a_secret_that_is_changed_meanwhile_stays_changed(filled: Database, tmp_path: Path) -> None:
    """The bytes that were read are the condition of the write: a newer secret is not written over."""
    ring = await rotated(tmp_path / "keys.toml")
    (table,) = [one for one in store_sealed.tables() if one.name == "line"]
    async with filled.sessions() as session:
        found, _last = await store_sealed.secrets_of(session, table, None, LINES)
    async with filled.sessions.begin() as session:
        line = await session.get(Line, found[0].key)
        assert line is not None
        line.secret = "changed meanwhile"
        record(session, SYSTEM, Event.LINE_UPDATE, line)
    anew = [(one, ring.seal(ring.open(one.sealed, one.context), one.context)) for one in found]
    async with filled.sessions.begin() as session:
        assert await store_sealed.exchange(session, table, anew) == LINES - 1
    assert sorted(await secrets_of(filled)).count("changed meanwhile") == 1


async def test_a_value_whose_key_is_lost_is_named(filled: Database) -> None:
    """Where it stands, and which key is missing; never what it held."""
    with pytest.raises(Unsealable, match=r"^\w+\.\w+ of \w+: .*'k1' cannot be opened"):
        await reseal(filled, KeyRing("k5", {"k5": bytes(32)}))


async def test_nothing_sealed_is_left_out() -> None:
    """Each column of the kind has a table here, and a row of it can be found again."""
    assert {"account", "line", "pbx", "trunk", "webhook", "credential", "emergency_call"} <= {
        table.name for table in store_sealed.tables()
    }
    assert all(list(table.primary_key) for table in store_sealed.tables())
