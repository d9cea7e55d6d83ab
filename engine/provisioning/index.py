"""The hot look-up of a phone's request: token index and MAC to account, revision and phone, on a plain driver
connection.

SQLAlchemy's async path costs 0.6 to 1 ms a look-up; one prepared statement on sqlite3 costs about 10 µs. Every
look-up reads the last commit, so a rotated token is dead with the commit that rotated it, in every process.

The token is compared with both columns at once, the one in force and the one that phones are being moved to: each has
a unique index, SQLite walks both (MULTI-INDEX OR) and PostgreSQL joins two bitmaps, and a wrong token costs the same
two walks as a right one.
"""

import json
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from engine.crypto import KeyRing
from engine.db import Database
from engine.errors import DatabaseAway
from engine.provisioning.settings import AccountRecord, LineRecord, PhoneRecord

READ_TIMEOUT_S = 0.1  # a reader of a WAL database waits for nobody; this bounds the odd recovery
_FIND = """
SELECT a.id, COALESCE(r.value, 0), p.id, COALESCE(p.vendor, ''), COALESCE(p.model, ''),
  COALESCE(CAST(a.provisioning_policy AS TEXT), ''), a.provisioning_token_index <> :token_index
FROM account a LEFT JOIN revision r ON r.account_id = a.id LEFT JOIN phone p ON p.account_id = a.id AND p.mac = :mac
WHERE a.provisioning_token_index = :token_index OR a.next_provisioning_token_index = :token_index"""
_ACCOUNT = """
SELECT id, timezone, country, phone_admin_password, next_provisioning_token FROM account WHERE id = :account_id"""
_PHONE = """
SELECT p.account_id, p.mac, p.vendor, p.model, p.label, p.settings, COALESCE(o.timezone, ''), o.civic_address
FROM phone p LEFT JOIN location o ON o.id = p.location_id WHERE p.id = :phone_id"""
# A line that names no PBX registers with the account's only one.
_LINES = """
SELECT k.key, l.extension, l.display_name, l.sip_user, l.auth_user, l.secret,
       b.registrar_host, b.registrar_port, b.transport, b.resync_via
FROM phone_line k JOIN line l ON l.id = k.line_id
LEFT JOIN pbx b ON b.id = COALESCE(
  l.pbx_id, (SELECT MIN(o.id) FROM pbx o WHERE o.account_id = l.account_id HAVING COUNT(*) = 1))
WHERE k.phone_id = :phone_id ORDER BY k.key"""


class Found(NamedTuple):  # made on every request: a tuple is made in C
    """Whose token it is, at which revision, and the phone of that MAC in that account (None: there is none).

    `policy`: the account's provisioning policy as stored, JSON text ("": none). `is_next`: asked with the token that
    phones are being moved to.
    """

    account_id: str
    revision: int
    phone_id: str | None
    vendor: str
    model: str
    policy: str = ""
    is_next: bool = False


class Index(Protocol):
    """The two questions a phone's request asks of the database.

    Raises:
        DatabaseAway: by each of them, when the database cannot be read now.
    """

    async def find(self, token_index: str, mac: str) -> Found | None: ...
    async def account(self, account_id: str) -> AccountRecord | None: ...
    async def phone(self, phone_id: str) -> PhoneRecord | None: ...
    def close(self) -> None: ...


class SqliteIndex:
    """Over one sqlite3 connection of its own, opened at the first question and anew after any error."""

    def __init__(self, path: Path, keys: KeyRing) -> None:
        self._path = path
        self._keys = keys
        self._connection: sqlite3.Connection | None = None

    async def find(self, token_index: str, mac: str) -> Found | None:
        row = self._one(_FIND, {"token_index": token_index, "mac": mac})
        return _found(row) if row is not None else None

    async def account(self, account_id: str) -> AccountRecord | None:
        return _account(self._one(_ACCOUNT, {"account_id": account_id}), self._keys)

    async def phone(self, phone_id: str) -> PhoneRecord | None:
        row = self._one(_PHONE, {"phone_id": phone_id})
        if row is None:
            return None
        lines = self._all(_LINES, {"phone_id": phone_id})
        return _phone(phone_id, row, await self.account(row[0]), lines, self._keys)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _one(self, sql: str, parameters: dict[str, str]) -> Any:
        rows = self._all(sql, parameters)
        return rows[0] if rows else None

    def _all(self, sql: str, parameters: dict[str, str]) -> list[Any]:
        try:
            connection = self._connection or self._open()
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as exc:
            self.close()
            raise DatabaseAway(f"The database cannot be read ({exc}). Phones keep their last configuration.") from exc

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=rw", uri=True, isolation_level=None, timeout=READ_TIMEOUT_S
        )
        connection.execute("PRAGMA query_only = ON")
        self._connection = connection
        return connection


class SessionIndex:
    """Over SQLAlchemy's engine, for a database that is not SQLite: the same statements, slower."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database = database
        self._keys = keys

    async def find(self, token_index: str, mac: str) -> Found | None:
        rows = await self._all(_FIND, {"token_index": token_index, "mac": mac})
        return _found(rows[0]) if rows else None

    async def account(self, account_id: str) -> AccountRecord | None:
        rows = await self._all(_ACCOUNT, {"account_id": account_id})
        return _account(rows[0] if rows else None, self._keys)

    async def phone(self, phone_id: str) -> PhoneRecord | None:
        rows = await self._all(_PHONE, {"phone_id": phone_id})
        if not rows:
            return None
        lines = await self._all(_LINES, {"phone_id": phone_id})
        return _phone(phone_id, rows[0], await self.account(rows[0][0]), lines, self._keys)

    def close(self) -> None:
        """Nothing is held open here."""

    async def _all(self, sql: str, parameters: dict[str, str]) -> list[Any]:
        try:
            async with self._database.engine.connect() as connection:
                return list((await connection.execute(text(sql), parameters)).all())
        except (DBAPIError, OSError) as exc:
            raise DatabaseAway("The database cannot be read. Phones keep their last configuration.") from exc


def open_index(database: Database, keys: KeyRing) -> Index:
    """The fastest index this database allows."""
    path = database.sqlite_path
    return SqliteIndex(path, keys) if path is not None else SessionIndex(database, keys)


def _found(row: Any) -> Found:
    return Found(row[0], row[1], row[2], row[3], row[4], row[5], bool(row[6]))


def _account(row: Any, keys: KeyRing) -> AccountRecord | None:
    if row is None:
        return None
    admin_password = _opened(keys, row[3], "account.phone_admin_password")
    next_token = _opened(keys, row[4], "account.next_provisioning_token")
    return AccountRecord(row[0], row[1], row[2], admin_password, next_token)


def _phone(
    phone_id: str, row: Any, account: AccountRecord | None, lines: list[Any], keys: KeyRing
) -> PhoneRecord | None:
    if account is None:
        return None
    settings, civic_address = (json.loads(each) if isinstance(each, str) else each for each in (row[5], row[7]))
    return PhoneRecord(
        account=account,
        phone_id=phone_id,
        mac=row[1],
        vendor=row[2],
        model=row[3],
        label=row[4],
        timezone=row[6],
        settings=settings or {},
        country=str((civic_address or {}).get("country") or ""),
        lines=tuple(_line(line, keys) for line in lines),
    )


def _line(row: Any, keys: KeyRing) -> LineRecord:
    secret = _opened(keys, row[5], "line.secret")
    return LineRecord(
        row[0], row[1], row[2], row[3], row[4], secret, row[6] or "", row[7] or 5060, row[8] or "udp", row[9] or "pbx"
    )


def _opened(keys: KeyRing, sealed: bytes | None, context: str) -> str:
    return keys.open(bytes(sealed), context).decode() if sealed is not None else ""
