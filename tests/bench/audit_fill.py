"""Filling databases with audit entries for the benchmark: once, from one generator for all, and kept for the next time.

Theory of operation. Entries are loaded first and indexed behind all, which is several times as fast as entry by entry;
the statements are the product's own. Each step leaves the database whole: what was broken off goes on where it was.
`state.json` beside the database says what is still to be done, and for which entries it was made.
"""

import asyncio
import contextlib
import io
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.schema import CreateColumn

from engine import crypto, migrations
from engine.audit.events import Event
from engine.audit.record import GENESIS, SYSTEM, open_audited, record
from engine.crypto import KeyRing
from engine.models import (
    AUDIT_HASHES_POSTGRESQL,
    AUDIT_PENDING_POSTGRESQL,
    AUDIT_SEARCH_ADD_SQLITE,
    AUDIT_SEARCH_LATER_SQLITE,
    Account,
)
from tests.bench.audit_entries import BATCH, COLUMNS, GENERATION, Row, batch_of
from tests.postgres import running_postgres

BACKENDS = ("SQLite", "PostgreSQL")
CHAIN = f"account_{1:026d}"
INDEXED_AT_ONCE = 100_000  # entries in one transaction of the full-text indexes: one segment of each
MERGED_AT_ONCE = 200_000  # pages
# A crash of the machine may cost a database that is filled again by a command; a crash of the process costs nothing.
FILLING = (
    "fsync=off", "full_page_writes=off", "synchronous_commit=off", "wal_level=minimal", "max_wal_senders=0",
    "max_wal_size=4GB", "shared_buffers=512MB", "maintenance_work_mem=1GB", "autovacuum=off",
)  # fmt: skip
MEASURING = ("shared_buffers=1GB", "effective_cache_size=8GB")  # else as it comes: a commit waits for the disk
Say = Callable[[str], None]


class Unfit(Exception):
    """What the folder keeps was made for another question; the text says what to do."""


@dataclass(slots=True)
class State:
    """How far one database is. `indexes`: by name, what makes those again that were taken away for the filling."""

    entries: int
    generation: int = GENERATION
    indexes: dict[str, str] = field(default_factory=dict)
    is_begun: bool = False
    is_ready: bool = False

    @classmethod
    def of(cls, folder: Path, entries: int) -> "State":
        """What is noted there, or a beginning.

        Raises:
            Unfit
        """
        file = folder / "state.json"
        found = cls(**json.loads(file.read_text())) if file.exists() else cls(entries)
        if (found.entries, found.generation) != (entries, GENERATION):
            said = f"{folder} keeps {found.entries:,} entries of generation {found.generation}"
            raise Unfit(f"{said}, not {entries:,} of {GENERATION}. Name another folder, or remove that one.")
        return found

    def save(self, folder: Path) -> None:
        fresh = folder / "state.new"
        fresh.write_text(json.dumps(asdict(self)))
        fresh.replace(folder / "state.json")


class SqliteFilling:
    """One SQLite file. Its calls run in a thread: SQLite works without Python's lock."""

    backend = "SQLite"

    def __init__(self, folder: Path, state: State) -> None:
        self.folder, self.state = folder, state
        self._connection = sqlite3.connect(folder / "callpoint.db", isolation_level=None, check_same_thread=False)
        self._run = self._connection.execute
        for pragma in ("journal_mode=TRUNCATE", "synchronous=OFF", "cache_size=-1500000", "foreign_keys=OFF"):
            self._run(f"PRAGMA {pragma}")

    async def begin(self) -> None:
        """Take away what the loading shall not pay for."""
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'audit_entry' AND sql <> ''"
        if not self.state.is_begun:
            self.state.indexes, self.state.is_begun = dict(self._run(query).fetchall()), True
            self.state.save(self.folder)
            for name in self.state.indexes:
                self._run(f"DROP INDEX {name}")
            self._run("DROP TRIGGER audit_entry_search")
            owed = "INSERT INTO audit_search_owed (chain, first, last) VALUES (?, 1, ?)"
            self._run(owed, (CHAIN, self.state.entries))

    async def head(self) -> tuple[int, str]:
        """Number and hash of the newest entry that is loaded."""
        query = "SELECT seq, hash FROM audit_entry WHERE chain = ? ORDER BY seq DESC LIMIT 1"
        return self._run(query, (CHAIN,)).fetchone() or (0, GENESIS)

    async def load(self, rows: list[Row]) -> None:
        await asyncio.to_thread(self._load, rows)

    def _load(self, rows: list[Row]) -> None:
        statement = f"INSERT INTO audit_entry ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
        self._run("BEGIN IMMEDIATE")
        self._connection.executemany(statement, rows)
        self._run("COMMIT")

    async def finish(self, say: Say) -> None:
        """Make the indexes, put every entry into the full-text indexes, merge these."""
        try:
            await asyncio.to_thread(self._finish, say)
        except asyncio.CancelledError:
            self._connection.interrupt()
            raise

    def _finish(self, say: Say) -> None:
        for name in list(self.state.indexes):
            say(f"audit: SQLite, {name}")
            self._run(self.state.indexes[name].replace("CREATE INDEX ", "CREATE INDEX IF NOT EXISTS ", 1))
            del self.state.indexes[name]
            self.state.save(self.folder)
        self._run("INSERT INTO audit_search_text (audit_search_text, rank) VALUES ('hashsize', ?)", (1 << 30,))
        while self._index_some(say):
            pass
        self._run("INSERT INTO audit_search_text (audit_search_text, rank) VALUES ('hashsize', ?)", (1 << 20,))
        for index in ("audit_search_text", "audit_search_facet"):
            say(f"audit: SQLite, merging {index}")
            self._merge(index)
        for statement in AUDIT_SEARCH_LATER_SQLITE:
            self._run(statement)
        self._run("PRAGMA journal_mode=WAL")

    def _index_some(self, say: Say) -> bool:
        row = self._run("SELECT first, last FROM audit_search_owed WHERE chain = ?", (CHAIN,)).fetchone()
        if row is None:
            return False
        first, last = row[0], min(row[1], row[0] + INDEXED_AT_ONCE - 1)
        say(f"audit: SQLite, words of the entries from {first:,} on")
        self._run("BEGIN IMMEDIATE")
        for statement in AUDIT_SEARCH_ADD_SQLITE:
            self._run(statement, {"chain": CHAIN, "first": first, "last": last})
        if last == row[1]:
            self._run("DELETE FROM audit_search_owed WHERE chain = ?", (CHAIN,))
        else:
            self._run("UPDATE audit_search_owed SET first = ? WHERE chain = ?", (last + 1, CHAIN))
        self._run("COMMIT")
        return True

    def _merge(self, index: str) -> None:
        """As `optimize` does, in steps: what is merged makes room at once (https://sqlite.org/fts5.html, 6.8)."""
        pages = -MERGED_AT_ONCE
        while True:
            before = self._connection.total_changes
            self._run(f"INSERT INTO {index} ({index}, rank) VALUES ('merge', ?)", (pages,))  # a constant
            if self._connection.total_changes - before < 2:
                return
            pages = MERGED_AT_ONCE

    async def close(self) -> None:
        self._connection.close()


class PostgresFilling:
    """One PostgreSQL server; entries come by COPY."""

    backend = "PostgreSQL"

    def __init__(self, folder: Path, state: State, driver: Any) -> None:
        self.folder, self.state = folder, state
        self._driver = driver

    async def begin(self) -> None:
        """Take away what the loading shall not pay for."""
        if self.state.is_begun:
            return
        constraints = await self._driver.fetch(
            "SELECT conname AS name, pg_get_constraintdef(oid) AS made FROM pg_constraint "
            "WHERE conrelid = 'audit_entry'::regclass AND contype IN ('p', 'u')"
        )
        named = {row["name"] for row in constraints}
        indexes = await self._driver.fetch(
            "SELECT indexname AS name, indexdef AS made FROM pg_indexes WHERE tablename = 'audit_entry'"
        )
        adding = "ALTER TABLE audit_entry ADD CONSTRAINT {} {}"
        self.state.indexes = {row["name"]: adding.format(row["name"], row["made"]) for row in constraints}
        self.state.indexes |= {row["name"]: row["made"] for row in indexes if row["name"] not in named}
        self.state.is_begun = True
        self.state.save(self.folder)
        await self._driver.execute("ALTER TABLE audit_entry DISABLE TRIGGER audit_entry_follows")
        for name in self.state.indexes:
            kind = f"ALTER TABLE audit_entry DROP CONSTRAINT {name}" if name in named else f"DROP INDEX {name}"
            await self._driver.execute(kind)
        # where the newest is, while there is no index: a table of one row
        await self._driver.execute("CREATE TABLE bench_head (seq integer, hash text)")

    async def head(self) -> tuple[int, str]:
        """Number and hash of the newest entry that is loaded."""
        if not await self._driver.fetchval("SELECT to_regclass('bench_head') IS NOT NULL"):
            return self.state.entries, ""  # loaded whole before
        row = await self._driver.fetchrow("SELECT seq, hash FROM bench_head")
        return (0, GENESIS) if row is None else (row["seq"], row["hash"])

    async def load(self, rows: list[Row]) -> None:
        text = "".join(["\t".join(map(str, row)) + "\n" for row in rows]).encode()
        async with self._driver.transaction():
            await self._driver.copy_to_table(
                "audit_entry", source=io.BytesIO(text), columns=list(COLUMNS), format="text"
            )
            await self._driver.execute("DELETE FROM bench_head")
            await self._driver.execute("INSERT INTO bench_head VALUES ($1, $2)", rows[-1][2], rows[-1][-1])

    async def finish(self, say: Say) -> None:
        """Make the indexes, then what a server does by itself in time: statistics, and the map of what all may see."""
        for name in list(self.state.indexes):
            say(f"audit: PostgreSQL, {name}")
            if not await self._driver.fetchval("SELECT to_regclass($1) IS NOT NULL", name):
                await self._driver.execute(self.state.indexes[name])
            del self.state.indexes[name]
            self.state.save(self.folder)
        await self._driver.execute("DROP TABLE IF EXISTS bench_head")
        await self._driver.execute("ALTER TABLE audit_entry ENABLE TRIGGER audit_entry_follows")
        say("audit: PostgreSQL, VACUUM ANALYZE")
        await self._driver.execute("VACUUM ANALYZE audit_entry")
        await self._driver.execute("CHECKPOINT")

    async def close(self) -> None:
        await self._driver.close()


Filling = SqliteFilling | PostgresFilling


@dataclass(frozen=True, slots=True)
class Store:
    """A filled database as it is measured."""

    backend: str
    folder: Path  # keys, configuration and what the command leaves
    url: str
    keys: KeyRing


async def fill(folder: Path, backends: Collection[str], count: int, say: Say) -> None:
    """Fill what of these is not filled yet.

    Raises:
        Unfit
    """
    _made(folder)
    openings = {"SQLite": _sqlite_filling, "PostgreSQL": _postgres_filling}
    async with contextlib.AsyncExitStack() as stack:
        fillings: list[Filling] = []
        for backend in backends:
            one = await stack.enter_async_context(openings[backend](folder, count))
            if one is not None:
                fillings.append(one)
        for one in fillings:
            await one.begin()
        await _load(fillings, count, say)
        await asyncio.gather(*(one.finish(say) for one in fillings))
        for one in fillings:
            one.state.is_ready = True
            one.state.save(one.folder)
    await asyncio.to_thread(os.sync)  # what was written without waiting shall not slow what is measured


async def _load(fillings: list[Filling], count: int, say: Say) -> None:
    """Give each batch to every database that lacks it."""
    heads = [await one.head() for one in fillings]
    while lacking := [number for number, (seq, _hash) in enumerate(heads) if seq < count]:
        seq, prev_hash = min(heads[number] for number in lacking)
        taking = [number for number in lacking if heads[number] == (seq, prev_hash)]
        if seq % (10 * BATCH) == 0:
            say(f"audit: {', '.join(fillings[number].backend for number in taking)}, {seq:,} entries are loaded")
        rows = await asyncio.to_thread(batch_of, CHAIN, seq + 1, min(BATCH, count - seq), prev_hash)
        await asyncio.gather(*(fillings[number].load(rows) for number in taking))
        for number in taking:
            heads[number] = seq + len(rows), str(rows[-1][-1])


def _made(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # PostgreSQL's own user goes through it


@asynccontextmanager
async def _sqlite_filling(folder: Path, count: int) -> AsyncIterator[SqliteFilling | None]:
    own = folder / "sqlite"
    own.mkdir(parents=True, exist_ok=True)
    state = State.of(own, count)
    if state.is_ready:
        yield None
        return
    if not state.is_begun:
        await _migrated(_sqlite_url(own), _keys(own))
    made = SqliteFilling(own, state)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def _postgres_filling(folder: Path, count: int) -> AsyncIterator[PostgresFilling | None]:
    own = folder / "postgresql"
    own.mkdir(parents=True, exist_ok=True)
    state = State.of(own, count)
    if state.is_ready:
        yield None
        return
    import asyncpg

    with running_postgres(kept=own / "server", settings=FILLING) as url:
        if not state.is_begun:
            await _migrated(url, _keys(own))
        driver = await asyncpg.connect(url.replace("+asyncpg", ""))
        made = PostgresFilling(own, state, driver)
        try:
            yield made
        finally:
            await made.close()


@asynccontextmanager
async def stores(folder: Path, backend: str) -> AsyncIterator[Store]:
    """One filled database, ready to be asked."""
    own = folder / backend.lower()
    if backend == "SQLite":
        yield Store(backend, own, _sqlite_url(own), _keys(own))
        return
    with running_postgres(kept=own / "server", settings=MEASURING) as url:
        yield Store(backend, own, url, _keys(own))


def _sqlite_url(own: Path) -> str:
    return f"sqlite+aiosqlite:///{own / 'callpoint.db'}"


def _keys(own: Path) -> KeyRing:
    return crypto.load_or_create(own / "keys.toml")


async def _migrated(url: str, keys: KeyRing) -> None:
    """The product's own schema."""
    database = open_audited(url, keys)
    await migrations.migrate(database)
    await database.close()


async def ensure_account(url: str, keys: KeyRing) -> None:
    """Bring what was kept up to date, and make the account with the chain's next entry unless it is there."""
    database = open_audited(url, keys)
    await migrations.migrate(database)
    missing = await migrations.missing(database)
    async with database.engine.begin() as connection:
        for name in missing:  # the newest migration has grown since: until it is released it may
            await connection.run_sync(_add, *name.split("."))
        on_server = AUDIT_HASHES_POSTGRESQL + AUDIT_PENDING_POSTGRESQL
        for statement in AUDIT_SEARCH_LATER_SQLITE if url.startswith("sqlite") else on_server:
            await connection.exec_driver_sql(statement)  # the trigger, too, as it is by now
    async with database.sessions.begin() as session:
        if await session.get(Account, CHAIN) is None:
            row = Account(id=CHAIN, name="Acme", email="office@example.com")
            session.add(row)
            record(session, SYSTEM, Event.ACCOUNT_CREATE, row)
    await database.close()


def _add(connection: Connection, table: str, column: str = "") -> None:
    """A table that is missing, or one column of it."""
    made = Account.metadata.tables[table]
    if not column:
        made.create(connection)
        return
    words = CreateColumn(made.c[column]).compile(dialect=connection.dialect)
    connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {words}")
