"""Engine, session factory, Base and the column types. The only file that knows the database's URL.

SQLite runs in WAL mode with `synchronous=FULL` (a commit survives a power cut), foreign keys on, and every
transaction opens with BEGIN IMMEDIATE: the audit chain's head is read inside the write transaction, so one writer at
a time is the rule, not luck.
"""

import asyncio
import datetime as dt
import re
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import DateTime, Dialect, LargeBinary, MetaData, Table, event, insert
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import TypeDecorator

from engine.crypto import KeyRing
from engine.errors import ConfigFault, DatabaseAway

_Item = TypeVar("_Item")

LULL_S = 0.05  # nobody began or ended to write for so long: work that can wait has its turn
BUSY_TIMEOUT_S = 5  # a locked database is reported after this long; 911 calls never wait for it
WAL_PAGES = 4000  # 16 MB; the commit that passes it copies them to the database: one in some 200, as short as the rest
READS = "callpoint_reads"  # execution option: this transaction writes nothing
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Root of every table."""

    metadata = MetaData(naming_convention=NAMING)


class UtcDateTime(TypeDecorator[dt.datetime]):
    """A UTC instant. A naive datetime is refused on the way in; the way out is always aware."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"expected an aware datetime, got the naive {value!r}")
        return value.astimezone(dt.UTC).replace(tzinfo=None)

    def process_result_value(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        return None if value is None else value.replace(tzinfo=dt.UTC)


class Sealed(TypeDecorator[str]):
    """A secret text, sealed with the installation's keys for its own table and column (`context`)."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, context: str) -> None:
        super().__init__()
        self.context = context

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else _keys(dialect).seal(value.encode(), self.context)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else _keys(dialect).open(value, self.context).decode()


def _keys(dialect: Dialect) -> KeyRing:
    keys = getattr(dialect, "callpoint_keys", None)
    assert isinstance(keys, KeyRing), "the engine was not opened with open_database"
    return keys


class BulkInsert:
    """INSERTs of many rows of one table, whose values are made ready before the transaction that writes them: sealing,
    JSON and times take longer than the database's own work, and it has one writer.

    Args:
        names: Every column that is written, in the table's order, which is that of a row's values.

    Attributes:
        into: How the statement begins, for values from somewhere else than VALUES.
        kinds: The columns' types in SQL, without lengths: a CAST to a length would cut what an INSERT refuses.
    """

    def __init__(self, table: Table, names: Sequence[str], dialect: Dialect) -> None:
        left_out = [one.name for one in table.columns if one.default is not None and one.name not in names]
        assert not left_out, f"{left_out} have defaults of their own, which are not looked at here"
        by_place: Any = insert(table).compile(dialect=dialect, column_keys=list(names))
        assert by_place.positiontup == list(names), f"name the columns in the table's order: {by_place.positiontup}"
        self._statement = str(by_place)
        self.into = f"INSERT INTO {table.name} ({', '.join(names)})"  # for values from somewhere else than VALUES
        self.kinds = tuple(re.sub(r"\(.*\)", "", table.c[name].type.compile(dialect)) for name in names)
        self._makers = {name: table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names}

    @property
    def statement(self) -> str:
        """The statement, for a connection that is not asynchronous."""
        return self._statement

    def value(self, name: str, value: Any) -> Any:
        """One value of that column, as the driver takes it."""
        maker = self._makers[name]
        return value if maker is None else maker(value)

    def row(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """A row as the driver takes it."""
        return tuple(values[name] if maker is None else maker(values[name]) for name, maker in self._makers.items())

    async def write(self, session: AsyncSession, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write rows made ready; the flush of what the session holds is the caller's matter."""
        if rows:
            await (await session.connection()).exec_driver_sql(self._statement, list(rows))


class Sessions:
    """Where transactions come from: `sessions.begin()` writes and commits at its end, `sessions()` only reads.

    On SQLite the writers of a process take turns here, first come, first served. SQLite's own waiting is a poll with
    growing pauses, in which a busy writer starves the others: a call's record behind an import of phones.
    """

    def __init__(
        self, writers: async_sessionmaker[AsyncSession], readers: async_sessionmaker[AsyncSession], *, in_turn: bool
    ) -> None:
        self._writers, self._readers = writers, readers
        self._turn = asyncio.Lock() if in_turn else None
        self._writer: asyncio.Task[Any] | None = None
        self._hurried_at = 0.0

    def __call__(self) -> AsyncSession:
        """A session that reads. It takes no lock, waits for nobody, and refuses to write."""
        return self._readers()

    async def lull(self, patience_s: float) -> None:
        """Wait until no writer in a hurry came for a while, but no longer than that."""
        left = patience_s
        while left > 0 and (busy := self._hurried_at + LULL_S - time.monotonic()) > 0:
            left -= (pause := min(busy, left))
            await asyncio.sleep(pause)

    @asynccontextmanager
    async def begin(self, *, is_hurried: bool = True) -> AsyncIterator[AsyncSession]:
        """A write transaction.

        Args:
            is_hurried: Somebody waits for it; False: it is the house's own work, which waits for `lull`.

        Raises:
            DatabaseAway: other writers held the database for too long.
        """
        self._hurried_at = time.monotonic() if is_hurried else self._hurried_at
        if self._turn is None:
            try:
                async with self._writers.begin() as session:
                    yield session
            finally:
                self._hurried_at = time.monotonic() if is_hurried else self._hurried_at
            return
        task = asyncio.current_task()
        if self._writer is task:
            raise RuntimeError("a write transaction inside another one would wait for itself")
        try:
            async with asyncio.timeout(BUSY_TIMEOUT_S):
                await self._turn.acquire()
        except TimeoutError as exc:
            raise DatabaseAway("The database is busy. Nothing was changed; 911 calls go on. Try again.") from exc
        self._writer = task
        try:
            async with self._writers.begin() as session:
                yield session
        finally:
            self._hurried_at = time.monotonic() if is_hurried else self._hurried_at
            self._writer = None
            self._turn.release()


@dataclass(frozen=True, slots=True)
class Database:
    """An open database: `sessions.begin()` gives a transaction that commits at its end, `sessions()` one that reads."""

    engine: AsyncEngine
    sessions: Sessions
    session_class: type[Session]  # this database's own, so that the audit guard can listen to it
    revision_listeners: list[Callable[[set[str]], None]]  # told the accounts whose revision moved, after the commit
    url: str

    @property
    def sqlite_path(self) -> Path | None:
        """The file behind an SQLite URL; None on PostgreSQL."""
        return sqlite_path_of(self.url)

    async def close(self) -> None:
        await self.engine.dispose()


def open_database(url: str, keys: KeyRing) -> Database:
    """Make the engine and the session factory; nothing is connected yet.

    Raises:
        ConfigFault: the database's driver is not installed.
    """
    is_sqlite = url.startswith("sqlite")
    options: dict[str, Any] = {"connect_args": {"timeout": BUSY_TIMEOUT_S}} if is_sqlite else {"pool_pre_ping": True}
    # the connection used last is used next: what it read of the database is still in its memory
    options["pool_use_lifo"] = True
    try:
        engine = create_async_engine(url, hide_parameters=True, **options)  # an error in the log shows no row's values
    except ModuleNotFoundError as exc:
        install = f"{sys.executable} -m pip install 'asyncpg>=0.30'"
        raise ConfigFault((f"[core] database_url: PostgreSQL's driver is not installed. Run: {install}",)) from exc
    engine.dialect.callpoint_keys = keys  # type: ignore[attr-defined]  # read by Sealed; an engine has one dialect object
    engine.sync_engine.dialect.callpoint_keys = keys  # type: ignore[attr-defined]
    if is_sqlite:
        event.listen(engine.sync_engine, "connect", _set_pragmas)
        event.listen(engine.sync_engine, "begin", _begin_immediate)
    session_class = type("CallpointSession", (Session,), {})
    listeners: list[Callable[[set[str]], None]] = []
    writers = async_sessionmaker(
        engine, expire_on_commit=False, sync_session_class=session_class, info={"revision_listeners": listeners}
    )
    readers = async_sessionmaker(
        engine.execution_options(**{READS: True}), expire_on_commit=False, sync_session_class=_ReadingSession
    )
    return Database(engine, Sessions(writers, readers, in_turn=is_sqlite), session_class, listeners, url)


class _ReadingSession(Session):
    """A session that never writes: a change made in it is a mistake, told at once."""


def _refuse_write(_session: Session, _context: object, _instances: object) -> None:
    raise RuntimeError("a reading session was asked to write; use sessions.begin()")


event.listen(_ReadingSession, "before_flush", _refuse_write)


def _set_pragmas(connection: DBAPIConnection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN IMMEDIATE ourselves
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_S * 1000}",
        f"wal_autocheckpoint={WAL_PAGES}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    connection.create_function("folded", 1, str.lower, deterministic=True)  # its own lower() knows ASCII alone


def _begin_immediate(connection: Connection) -> None:
    reads = connection.get_execution_options().get(READS)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def sqlite_path_of(url: str) -> Path | None:
    """The file behind an SQLite URL; None on PostgreSQL."""
    parts = make_url(url)
    return Path(parts.database) if parts.get_backend_name() == "sqlite" and parts.database else None


def copy_sqlite(source: Path, target: Path) -> None:
    """A consistent copy of a database that others write to meanwhile: one reading transaction, which hinders no writer.

    The copy is one file, without the log that lies beside a database in use.

    Raises:
        sqlite3.Error: it cannot be read, or the copy cannot be written.
    """
    with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as copy:
        read.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")


def sqlite_faults(path: Path) -> str:
    """What is broken in a database file, in SQLite's own words; empty where nothing is."""
    try:
        with closing(sqlite3.connect(path)) as database:
            said = "; ".join(str(row[0]) for row in database.execute("PRAGMA quick_check(5)"))
    except sqlite3.DatabaseError as exc:
        return str(exc)
    return "" if said == "ok" else said


def batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """The items in lists of that size, the last one shorter: no database takes any number of values in a statement, and
    one that takes long lets the loop do nothing else. (`itertools.batched` of Python 3.12, as lists.)
    """
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def utc_now() -> dt.datetime:
    """Now, in UTC, to the millisecond that the audit log shows."""
    now = dt.datetime.now(dt.UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
