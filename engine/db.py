"""Engine, session factory, Base and the column types. The only file that knows the database's URL.

SQLite runs in WAL mode with `synchronous=FULL` (a commit survives a power cut), foreign keys on, and every
transaction opens with BEGIN IMMEDIATE: the audit chain's head is read inside the write transaction, so one writer at
a time is the rule, not luck.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import DateTime, Dialect, LargeBinary, MetaData, event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import TypeDecorator

from engine.crypto import KeyRing

BUSY_TIMEOUT_S = 5  # a locked database is reported after this long; 911 calls never wait for it
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


@dataclass(frozen=True, slots=True)
class Database:
    """An open database: `sessions.begin()` gives a transaction that commits at its end."""

    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    session_class: type[Session]  # this database's own, so that the audit guard can listen to it
    revision_listeners: list[Callable[[set[str]], None]]  # told the accounts whose revision moved, after the commit
    url: str

    @property
    def sqlite_path(self) -> Path | None:
        """The file behind an SQLite URL; None on PostgreSQL."""
        url = make_url(self.url)
        return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None

    async def close(self) -> None:
        await self.engine.dispose()


def open_database(url: str, keys: KeyRing) -> Database:
    """Make the engine and the session factory; nothing is connected yet."""
    is_sqlite = url.startswith("sqlite")
    options: dict[str, Any] = {"connect_args": {"timeout": BUSY_TIMEOUT_S}} if is_sqlite else {"pool_pre_ping": True}
    engine = create_async_engine(url, **options)
    engine.dialect.callpoint_keys = keys  # type: ignore[attr-defined]  # read by Sealed; an engine has one dialect object
    engine.sync_engine.dialect.callpoint_keys = keys  # type: ignore[attr-defined]
    if is_sqlite:
        event.listen(engine.sync_engine, "connect", _set_pragmas)
        event.listen(engine.sync_engine, "begin", _begin_immediate)
    session_class = type("CallpointSession", (Session,), {})
    listeners: list[Callable[[set[str]], None]] = []
    sessions = async_sessionmaker(
        engine, expire_on_commit=False, sync_session_class=session_class, info={"revision_listeners": listeners}
    )
    return Database(engine, sessions, session_class, listeners, url)


def _set_pragmas(connection: DBAPIConnection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN IMMEDIATE ourselves
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_S * 1000}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def utc_now() -> dt.datetime:
    """Now, in UTC, to the millisecond that the audit log shows."""
    now = dt.datetime.now(dt.UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
