"""Chains as they would be had they been written long ago: texts, hashes, copies and checkpoints, soundly."""

import datetime as dt
import json

from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.audit.changes import rfc3339
from engine.audit.checkpoints import Signer, row_of
from engine.audit.owed import OwedIndexing
from engine.audit.record import canonical, chain_hash
from engine.audit.store_beginnings import beginning_of
from engine.crypto import KeyRing
from engine.db import Database
from engine.models import AUDIT_SEARCH_ADD_SQLITE, AUDIT_SEARCH_DROP_SQLITE, AuditCheckpoint, AuditEntry

_UPDATE = "UPDATE audit_entry SET at = :at, entry = :entry, prev_hash = :prev, hash = :hash WHERE id = :id"


async def aged(
    database: Database, keys: KeyRing, chain: str, at: dt.datetime, upto: int | None = None, *, signed: bool = True
) -> None:
    """Write the chain's entries behind its beginning anew, those up to `upto` (all) at that time.

    Their checkpoints are replaced: by one at the last old entry, signed then, or by none.
    """
    is_sqlite = database.sqlite_path is not None
    while is_sqlite and await OwedIndexing(database).step():
        pass  # what is taken out of the indexes below has to be in them
    async with database.sessions() as session:
        begin = await beginning_of(session, chain)
        query = select(AuditEntry).where(AuditEntry.chain == chain, AuditEntry.seq > (begin.seq if begin else 0))
        rows = (await session.scalars(query.order_by(AuditEntry.seq))).all()
    span = {"chain": chain, "first": rows[0].seq, "last": rows[-1].seq}
    last, head = rows[0].prev_hash, (0, "")
    async with database.engine.begin() as connection:
        trigger = await _unguarded(connection, is_sqlite)
        for statement in AUDIT_SEARCH_DROP_SQLITE if is_sqlite else ():
            await connection.execute(text(statement), span)
        for row in rows:
            is_old = upto is None or row.seq <= upto
            when = at if is_old else row.at
            entry = canonical(json.loads(row.entry) | {"at": rfc3339(when)})
            prev, last = last, chain_hash(last, entry)
            head = (row.seq, last) if is_old else head
            naive = when.astimezone(dt.UTC).replace(tzinfo=None)
            stored = naive.isoformat(" ", timespec="microseconds") if is_sqlite else naive
            values = {"at": stored, "entry": entry, "prev": prev, "hash": last, "id": row.id}
            await connection.execute(text(_UPDATE), values)
        for statement in AUDIT_SEARCH_ADD_SQLITE if is_sqlite else ():
            await connection.execute(text(statement), span)
        await connection.exec_driver_sql(trigger)
    async with database.engine.begin() as connection:
        guards = await _checkpoints_unguarded(connection, is_sqlite)
        await connection.execute(
            delete(AuditCheckpoint).where(AuditCheckpoint.chain == chain, AuditCheckpoint.seq >= rows[0].seq)
        )
        for guard in guards:
            await connection.exec_driver_sql(guard)
    if signed and head[0]:
        async with database.sessions.begin() as session:
            session.add(row_of(Signer(keys).sign(chain, *head, at)))


async def _unguarded(connection: AsyncConnection, is_sqlite: bool) -> str:
    if not is_sqlite:
        await connection.execute(text("ALTER TABLE audit_entry DISABLE TRIGGER audit_entry_no_change"))
        return "ALTER TABLE audit_entry ENABLE TRIGGER audit_entry_no_change"
    ddl = "SELECT sql FROM sqlite_master WHERE name = 'audit_entry_no_update'"
    trigger = (await connection.execute(text(ddl))).scalar_one_or_none()
    await connection.execute(text("DROP TRIGGER IF EXISTS audit_entry_no_update"))
    return trigger or "SELECT 1"  # a test took it away before


async def _checkpoints_unguarded(connection: AsyncConnection, is_sqlite: bool) -> list[str]:
    if not is_sqlite:
        await connection.execute(text("ALTER TABLE audit_checkpoint DISABLE TRIGGER USER"))
        return ["ALTER TABLE audit_checkpoint ENABLE TRIGGER USER"]
    found = (await connection.execute(
        text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_checkpoint'")
    )).all()  # fmt: skip
    for name, _sql in found:
        await connection.execute(text(f"DROP TRIGGER {name}"))
    return [str(sql) for _name, sql in found]
