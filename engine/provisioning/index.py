"""The hot look-up of a phone's request: token index and MAC to account, revision and phone, on a plain driver
connection.

SQLAlchemy's async path costs 0.6 to 1 ms a look-up; one prepared statement on sqlite3 costs about 10 µs. Every
look-up reads the last commit, so a rotated token is dead with the commit that rotated it, in every process.

The token is compared with both columns at once, the one in force and the one that phones are being moved to: each has
a unique index, SQLite walks both (MULTI-INDEX OR) and PostgreSQL joins two bitmaps, and a wrong token costs the same
two walks as a right one.
"""

import json
import re
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine.crypto import KeyRing
from engine.db import Database
from engine.errors import DatabaseAway
from engine.provisioning import assetfile, location_gate, merge, settings
from engine.provisioning.assetfile import AssetRecord
from engine.provisioning.merge import Level, Source, SourceKind
from engine.provisioning.phonebook import Entry, entries_of
from engine.provisioning.policy import Policy
from engine.provisioning.settings import AccountRecord, LineRecord, PhoneRecord

_OF_ALL_PHONES = frozenset({SourceKind.GLOBAL, SourceKind.ACCOUNT})
_SHARED_LEVELS = frozenset({merge.GLOBAL_NAME, merge.ACCOUNT_NAME})
_ALONE = re.compile(r"IN \(:(\w+)\)")
READ_TIMEOUT_S = 0.1  # a reader of a WAL database waits for nobody; this bounds the odd recovery
_FIND = """
SELECT a.id, COALESCE(r.value, 0), p.id, COALESCE(p.vendor, ''), COALESCE(p.model, ''),
  COALESCE(CAST(a.provisioning_policy AS TEXT), ''), a.provisioning_token_index <> :token_index,
  s.name, s.kind, s.vendor, s.models, s.firmware, s.content_type, s.size_bytes, s.sha256, COALESCE(p.last_ip, ''),
  COALESCE(p.status, '')
FROM account a LEFT JOIN revision r ON r.account_id = a.id LEFT JOIN phone p ON p.account_id = a.id AND p.mac = :mac
LEFT JOIN asset s ON s.account_id = a.id AND s.name = :file
WHERE a.provisioning_token_index = :token_index OR a.next_provisioning_token_index = :token_index"""
_OF_ACCOUNT = """a.id, a.timezone, a.country, a.phone_admin_password, a.next_provisioning_token,
  COALESCE(CAST(a.provisioning_policy AS TEXT), '')"""
_ACCOUNT = f"SELECT {_OF_ACCOUNT} FROM account a WHERE a.id = :account_id"  # noqa: S608 - our own text
_PHONES = f"""
SELECT {_OF_ACCOUNT}, p.id, p.mac, p.vendor, p.model, p.label, p.settings, COALESCE(o.timezone, ''), o.civic_address,
  COALESCE(p.location_id, ''), COALESCE(o.name, ''), p.file_key
FROM phone p JOIN account a ON a.id = p.account_id LEFT JOIN location o ON o.id = p.location_id
WHERE p.id IN (:phone_id)"""  # noqa: S608 - our own text
_FIRST_OF_PHONE = 6  # the columns before are the account's
_ASSET = "SELECT name, kind, vendor, models, firmware, content_type, size_bytes, sha256 FROM asset"
_ASSETS = f"{_ASSET} WHERE account_id = :account_id AND name IN (:logo, :firmware, :ringtone)"
_ASSETS_OF_MANY = f"{_ASSET} WHERE account_id = :account_id AND name IN (:name)"
_PHONEBOOK = """
SELECT COALESCE(NULLIF(display_name, ''), extension), extension FROM line WHERE account_id = :account_id
UNION ALL SELECT name, number FROM contact WHERE account_id = :account_id"""
# Every level that speaks of the phone, and what a running roll-out gives it in place of one of them. REPLACE asks
# whether the id stands in the list: with a LIKE of a parameter, SQLite compiles the statement anew at every use.
_LEVELS = """
SELECT s.kind, s.id, s.name, s.settings FROM settings_level s
WHERE (s.account_id = :account_id OR s.account_id IS NULL) AND s.name IN ('global', 'account', :location_id, :model)
UNION ALL
SELECT 'rollout', r.id, r.target, r.change FROM rollout r
WHERE r.account_id = :account_id AND r.state = 'canary' AND r.kind = 'settings'
  AND r.target IN ('account', :location_id, :model)
  AND REPLACE(CAST(r.canary AS TEXT), :canary, '') <> CAST(r.canary AS TEXT)"""
# The same for many phones: whom a roll-out's row is for stands behind it.
_LEVELS_OF_MANY = """
SELECT s.kind, s.id, s.name, s.settings, '' FROM settings_level s
WHERE (s.account_id = :account_id OR s.account_id IS NULL) AND s.name IN (:name)
UNION ALL
SELECT 'rollout', r.id, r.target, r.change, CAST(r.canary AS TEXT) FROM rollout r
WHERE r.account_id = :account_id AND r.state = 'canary' AND r.kind = 'settings' AND r.target IN (:name)"""
# The account's own templates for a vendor, and what a running roll-out gives the phone in place of one of them.
_OVERRIDES = """
SELECT 'template', t.name, t.body FROM template_override t
WHERE t.account_id = :account_id AND t.vendor = :vendor AND t.body IS NOT NULL
UNION ALL
SELECT 'rollout', r.target, CAST(r.change AS TEXT) FROM rollout r
WHERE r.account_id = :account_id AND r.state = 'canary' AND r.kind = 'template'
  AND REPLACE(CAST(r.canary AS TEXT), :canary, '') <> CAST(r.canary AS TEXT)"""
# What each of them said before, the newest first; of one that is being rolled out, what is published as well.
_EARLIER = """
SELECT t.name, v.body FROM template_version v JOIN template_override t ON t.id = v.template_id
WHERE t.account_id = :account_id AND t.vendor = :vendor AND v.number <= t.number
ORDER BY v.written_at DESC, v.number DESC LIMIT 40"""
MAX_EARLIER = 6  # texts that are tried in place of one that breaks
# A line that names no PBX registers with the account's only one.
_LINES = """
SELECT k.key, l.extension, l.display_name, l.sip_user, l.auth_user, l.secret,
       b.registrar_host, b.registrar_port, b.transport, b.resync_via, k.phone_id
FROM phone_line k JOIN line l ON l.id = k.line_id
LEFT JOIN pbx b ON b.id = COALESCE(
  l.pbx_id, (SELECT MIN(o.id) FROM pbx o WHERE o.account_id = l.account_id HAVING COUNT(*) = 1))
WHERE k.phone_id IN (:phone_id) ORDER BY k.key"""


class Found(NamedTuple):  # made on every request: a tuple is made in C
    """Whose token it is, at which revision, and the phone of that MAC in that account (None: there is none).

    `policy`: the account's provisioning policy as stored, JSON text ("": none). `is_next`: asked with the token that
    phones are being moved to. `asset`: the account's own file of the name asked for. `last_ip`: from where the phone
    was served last ("": never). `status`: the phone's (`PhoneStatus`).
    """

    account_id: str
    revision: int
    phone_id: str | None
    vendor: str
    model: str
    policy: str = ""
    is_next: bool = False
    asset: AssetRecord | None = None
    last_ip: str = ""
    status: str = ""


class Index(Protocol):
    """The questions a phone's request asks of the database: `find` each time, the others for a rendering.

    `overrides`: the account's own templates for a vendor by name (`phone_id` "": as they are published; a phone in a
    running roll-out's canary group gets what is rolled out). `phones`: several of one account by their ids, those that
    are gone left out. `earlier`: the same with one of them as it was published
    before, the newest first and at most `MAX_EARLIER`; `now`: what `overrides` said.

    `is_instant`: they are answered without waiting, so nothing happens between two of them in this process.

    Raises:
        DatabaseAway: by each of them, when the database cannot be read now.
    """

    is_instant: bool

    async def find(self, token_index: str, mac: str, file: str = "") -> Found | None: ...
    async def account(self, account_id: str) -> AccountRecord | None: ...
    async def phone(self, phone_id: str) -> PhoneRecord | None: ...
    async def phones(self, phone_ids: Sequence[str]) -> Mapping[str, PhoneRecord]: ...
    async def phonebook(self, account_id: str) -> tuple[Entry, ...]: ...
    async def overrides(self, account_id: str, vendor: str, phone_id: str) -> Mapping[str, str]: ...
    async def earlier(self, account_id: str, vendor: str, now: Mapping[str, str]) -> Sequence[Mapping[str, str]]: ...
    def close(self) -> None: ...


class SqliteIndex:
    """Over one sqlite3 connection of its own, opened at the first question and anew after any error."""

    is_instant = True

    def __init__(self, path: Path, keys: KeyRing) -> None:
        self._path = path
        self._keys = keys
        self._connection: sqlite3.Connection | None = None

    async def find(self, token_index: str, mac: str, file: str = "") -> Found | None:
        row = self._one(_FIND, {"token_index": token_index, "mac": mac, "file": file})
        return _found(row) if row is not None else None

    async def account(self, account_id: str) -> AccountRecord | None:
        row = self._one(_ACCOUNT, {"account_id": account_id})
        return _account(row, self._all(_LEVELS, _of_account(account_id)), self._keys) if row is not None else None

    async def phone(self, phone_id: str) -> PhoneRecord | None:
        with self._at_one_commit():
            return self._read_phone(phone_id)

    async def phones(self, phone_ids: Sequence[str]) -> Mapping[str, PhoneRecord]:
        with self._at_one_commit():
            found = [self._read_phone(phone_id) for phone_id in phone_ids]
        return {phone.phone_id: phone for phone in found if phone is not None}

    def _read_phone(self, phone_id: str) -> PhoneRecord | None:
        row = self._one(_PHONES, {"phone_id": phone_id})
        if row is None:
            return None
        levels = self._all(_LEVELS, _of_phone(row))
        found = _phone(row, levels, self._all(_LINES, {"phone_id": phone_id}), self._keys)
        wanted = _assets_asked(found)
        found = _with_assets(found, self._all(_ASSETS, wanted)) if wanted is not None else found
        return _gated(found, self._all(location_gate.STATEMENT, {"phone_id": phone_id}))

    async def phonebook(self, account_id: str) -> tuple[Entry, ...]:
        return entries_of(self._all(_PHONEBOOK, {"account_id": account_id}))

    async def overrides(self, account_id: str, vendor: str, phone_id: str) -> Mapping[str, str]:
        asked = {"account_id": account_id, "vendor": vendor, "canary": _holding(phone_id)}
        return _overrides(vendor, self._all(_OVERRIDES, asked))

    async def earlier(self, account_id: str, vendor: str, now: Mapping[str, str]) -> Sequence[Mapping[str, str]]:
        return _earlier(now, self._all(_EARLIER, {"account_id": account_id, "vendor": vendor}))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _at_one_commit(self) -> Iterator[None]:
        """What is asked within reads the same commit, the last one, and takes the database's read lock once."""
        self._all("BEGIN", {})
        try:
            yield
        finally:
            if self._connection is not None:  # an error within has closed it
                self._all("COMMIT", {})

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

    is_instant = False

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._keys = keys
        engine = database.engine
        self._alone = engine.execution_options(isolation_level="AUTOCOMMIT")  # one statement needs no BEGIN of its own
        one_commit = "REPEATABLE READ" if engine.dialect.name == "postgresql" else "SERIALIZABLE"
        self._together = engine.execution_options(isolation_level=one_commit)

    async def find(self, token_index: str, mac: str, file: str = "") -> Found | None:
        rows = await self._all(_FIND, {"token_index": token_index, "mac": mac, "file": file})
        return _found(rows[0]) if rows else None

    async def account(self, account_id: str) -> AccountRecord | None:
        async with self._connected(self._together) as connection:
            rows = await _rows(connection, _ACCOUNT, {"account_id": account_id})
            if not rows:
                return None
            return _account(rows[0], await _rows(connection, _LEVELS, _of_account(account_id)), self._keys)

    async def phone(self, phone_id: str) -> PhoneRecord | None:
        return (await self.phones([phone_id])).get(phone_id)

    async def phones(self, phone_ids: Sequence[str]) -> Mapping[str, PhoneRecord]:
        """Five questions, however many phones: each goes to a server and comes back."""
        asked = {"phone_id": list(phone_ids)}
        async with self._connected(self._together) as connection:
            rows = await _rows(connection, _PHONES, asked)
            if not rows:
                return {}
            of_each = [_of_phone(row) for row in rows]
            account_id, names = rows[0][0], _SHARED_LEVELS.union(*(_own_levels(of_phone) for of_phone in of_each))
            levels = await _rows(connection, _LEVELS_OF_MANY, {"account_id": account_id, "name": sorted(names)})
            lines = _by_phone(await _rows(connection, _LINES, asked), -1)
            places = _by_phone(await _rows(connection, location_gate.STATEMENT, asked), 0)
            found = [
                _phone(row, _levels_of(of_phone, levels), lines.get(row[_FIRST_OF_PHONE], []), self._keys)
                for row, of_phone in zip(rows, of_each, strict=True)
            ]
            named = {name for phone in found for name in _files_named(phone) if name}
            wanted = {"account_id": account_id, "name": sorted(named)}
            assets = await _rows(connection, _ASSETS_OF_MANY, wanted) if named else []
        return {
            phone.phone_id: _gated(
                _with_assets(phone, [row for row in assets if row[0] in _files_named(phone)]),
                places.get(phone.phone_id, []),
            )
            for phone in found
        }

    async def phonebook(self, account_id: str) -> tuple[Entry, ...]:
        return entries_of(await self._all(_PHONEBOOK, {"account_id": account_id}))

    async def overrides(self, account_id: str, vendor: str, phone_id: str) -> Mapping[str, str]:
        asked = {"account_id": account_id, "vendor": vendor, "canary": _holding(phone_id)}
        return _overrides(vendor, await self._all(_OVERRIDES, asked))

    async def earlier(self, account_id: str, vendor: str, now: Mapping[str, str]) -> Sequence[Mapping[str, str]]:
        return _earlier(now, await self._all(_EARLIER, {"account_id": account_id, "vendor": vendor}))

    def close(self) -> None:
        """Nothing is held open here."""

    async def _all(self, sql: str, parameters: dict[str, str]) -> list[Any]:
        async with self._connected(self._alone) as connection:
            return await _rows(connection, sql, parameters)

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """A connection for one question; of `_together`: every statement of it reads the same commit."""
        try:
            async with engine.connect() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as exc:
            raise DatabaseAway("The database cannot be read. Phones keep their last configuration.") from exc


@cache
def _statement(sql: str) -> TextClause:
    """Parsed once. What stands alone within `IN (:…)` is a list here."""
    lists = _ALONE.findall(sql)
    return text(_ALONE.sub(r"IN :\1", sql)).bindparams(*(bindparam(name, expanding=True) for name in lists))


async def _rows(connection: AsyncConnection, sql: str, parameters: Mapping[str, Any]) -> list[Any]:
    return list((await connection.execute(_statement(sql), parameters)).all())


def _by_phone(rows: Iterable[Any], column: int) -> dict[str, list[Any]]:
    """The rows of each phone, whose id stands in that column."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row[column], []).append(row)
    return found


def open_index(database: Database, keys: KeyRing) -> Index:
    """The fastest index this database allows."""
    path = database.sqlite_path
    return SqliteIndex(path, keys) if path is not None else SessionIndex(database, keys)


def _found(row: Any) -> Found:
    asset = _asset(row[7:15]) if row[7] is not None else None
    return Found(row[0], row[1], row[2], row[3], row[4], row[5], bool(row[6]), asset, row[15], row[16])


def _asset(row: Any) -> AssetRecord:
    models = json.loads(row[3]) if isinstance(row[3], str) else row[3]
    return AssetRecord(row[0], row[1], row[2], tuple(models or ()), row[4], row[5], row[6], row[7])


def _files_named(found: PhoneRecord) -> list[str]:
    """The files of the account that the phone's settings name, of each kind; "" for none."""
    return [found.settings.get(kind) or "" for kind in assetfile.KINDS]


def _assets_asked(found: PhoneRecord) -> dict[str, str] | None:
    """What `_ASSETS` is asked; None when the phone's settings name no file."""
    named = dict(zip(assetfile.KINDS, _files_named(found), strict=True))
    return {"account_id": found.account.account_id, **named} if any(named.values()) else None


def _with_assets(found: PhoneRecord, rows: list[Any]) -> PhoneRecord:
    return replace(found, assets=tuple(map(_asset, rows))) if rows else found


def _of_account(account_id: str) -> dict[str, str]:
    """What `_LEVELS` is asked for the files that are for every phone."""
    return {"account_id": account_id, "location_id": "", "model": "", "canary": ""}


def _of_phone(row: Any) -> dict[str, str]:
    phone_id, _mac, vendor, model, _label, _settings, _zone, _address, location_id, *_ = row[_FIRST_OF_PHONE:]
    return {
        "account_id": row[0], "location_id": location_id, "model": merge.model_name(vendor, model),
        "canary": _holding(phone_id),
    }  # fmt: skip


def _own_levels(of_phone: Mapping[str, str]) -> set[str]:
    return {of_phone["location_id"], of_phone["model"]}


def _levels_of(of_phone: Mapping[str, str], rows: Iterable[Any]) -> list[Any]:
    """What `_LEVELS` would say of the phone, out of the rows of `_LEVELS_OF_MANY`."""
    names = _SHARED_LEVELS | _own_levels(of_phone)
    return [row[:4] for row in rows if row[2] in names and (row[0] != "rollout" or of_phone["canary"] in row[4])]


def _holding(phone_id: str) -> str:
    """That id as it stands in a JSON list; nothing for none, which stands in no list."""
    return f'"{phone_id}"' if phone_id else ""


def _account(row: Any, levels: list[Any], keys: KeyRing) -> AccountRecord:
    admin_password = _opened(keys, row[3], "account.phone_admin_password")
    next_token = _opened(keys, row[4], "account.next_provisioning_token")
    shared = [level for level in _levels(levels, "", "") if level.source.kind in _OF_ALL_PHONES]
    return AccountRecord(
        row[0], row[1], row[2], admin_password, next_token, settings=settings.effective(shared, {}).values,
        policy=Policy.read(row[5]),
    )  # fmt: skip


def _phone(row: Any, levels: list[Any], lines: list[Any], keys: KeyRing) -> PhoneRecord:
    phone_id, mac, vendor, model, label, stored, zone, address, location_id, location_name, file_key = row[
        _FIRST_OF_PHONE:
    ]
    device = Source(SourceKind.DEVICE, phone_id, label or mac)
    found = settings.effective(_levels(levels, location_id, location_name), _read(stored), device)
    return PhoneRecord(
        account=_account(row, [level for level in levels if level[0] != "rollout"], keys),
        phone_id=phone_id,
        mac=mac,
        vendor=vendor,
        model=model,
        label=label,
        timezone=zone,
        settings=found.values,
        country=str(_read(address).get("country") or ""),
        lines=tuple(_line(line, keys) for line in lines),
        sources=found.sources,
        removed=found.removed,
        file_key=_opened(keys, file_key, "phone.file_key"),
    )


def _gated(found: PhoneRecord, places: list[Any]) -> PhoneRecord:
    unlocated = location_gate.judge_stored(places, json.loads)
    return replace(found, unlocated=unlocated) if unlocated.is_phone else found


def _levels(rows: list[Any], location_id: str, location_name: str) -> list[Level]:
    """The levels as stored, with what is rolled out to this phone in place of what is published."""
    found = {
        name: Level(
            Source(SourceKind(kind), level_id, _label(name, location_id, location_name), name), _read(stored), name
        )
        for kind, level_id, name, stored in rows
        if kind != "rollout"
    }
    for kind, rollout_id, name, stored in rows:
        if kind != "rollout":
            continue
        found.pop(name, None)
        after = _read(stored).get("after")
        if after is not None:
            source = Source(merge.kind_of(name), rollout_id, _label(name, location_id, location_name), name)
            found[name] = Level(source, after, name)
    return list(found.values())


def _label(name: str, location_id: str, location_name: str) -> str:
    return location_name if name == location_id else name


def _overrides(vendor: str, rows: list[Any]) -> dict[str, str]:
    found = {name: body for kind, name, body in rows if kind == "template"}
    for kind, target, change in rows:
        of, _, name = target.partition("/")
        if kind == "rollout" and of == vendor:
            after = _read(change).get("after")
            found = {one: body for one, body in found.items() if one != name} | ({name: after} if after else {})
    return found


def _earlier(now: Mapping[str, str], rows: list[Any]) -> list[dict[str, str]]:
    """Each with one text in place of another; a version that was the shipped text takes the account's own away."""
    found: list[dict[str, str]] = []
    for name, body in rows:
        if name in now and body != now[name]:
            texts = {one: text for one, text in now.items() if one != name} | ({name: body} if body else {})
            if texts and texts not in found:
                found.append(texts)
    return found[:MAX_EARLIER]


def _read(stored: Any) -> dict[str, Any]:
    """A JSON column: text from a plain driver, an object from some others."""
    value = json.loads(stored) if isinstance(stored, str) else stored
    return value or {}


def _line(row: Any, keys: KeyRing) -> LineRecord:
    secret = _opened(keys, row[5], "line.secret")
    return LineRecord(
        row[0], row[1], row[2], row[3], row[4], secret, row[6] or "", row[7] or 5060, row[8] or "udp", row[9] or "pbx"
    )


def _opened(keys: KeyRing, sealed: bytes | None, context: str) -> str:
    return keys.open(bytes(sealed), context).decode() if sealed is not None else ""
