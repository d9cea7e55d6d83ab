"""The schema's history ends where the models stand."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from engine import migrations
from engine.audit.record import GENESIS, open_audited
from engine.crypto import KeyRing
from engine.db import Base
from engine.e911 import store
from engine.errors import DatabaseNewer

SERVERS_ALONE = frozenset({"ix_audit_entry_chain_category", "ix_audit_entry_chain_outcome"})  # walked on PostgreSQL


def of_models(_thing: object, name: str | None, kind: str, reflected: bool, _other: object) -> bool:
    """What finds audit entries on SQLite is no model's table: full-text indexes, and the tables they keep. Two indexes
    are PostgreSQL's alone; if this database had them they would be told.
    """
    if kind == "index" and name in SERVERS_ALONE:
        return reflected
    return not (kind == "table" and (name or "").startswith("audit_search"))


async def test_the_migrations_make_exactly_the_models_and_are_applied_once(tmp_path: Path, keys: KeyRing) -> None:
    database = open_audited(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", keys)
    try:
        assert await migrations.revision_of(database) is None
        newest = await migrations.migrate(database)
        assert await migrations.migrate(database) == newest == migrations.newest_revision()
        async with database.engine.connect() as connection:
            drift = await connection.run_sync(
                lambda plain: compare_metadata(
                    MigrationContext.configure(plain, opts={"include_object": of_models}), Base.metadata
                )
            )
        assert drift == []
        async with database.sessions() as session:
            triggers = await session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'"))
            assert set(triggers) >= {"audit_entry_no_update", "audit_entry_no_delete"}
    finally:
        await database.close()


async def test_a_database_of_a_later_version_is_left_alone_and_told(tmp_path: Path, keys: KeyRing) -> None:
    """Rolling back an upgrade without its backup: a sentence with what to do, and nothing changed."""
    database = open_audited(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", keys)
    try:
        await migrations.migrate(database)
        async with database.engine.begin() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(DatabaseNewer, match=r"revision 9999.* Nothing was changed; 911 calls go on"):
            await migrations.migrate(database)
        assert await migrations.revision_of(database) == "9999"
    finally:
        await database.close()


async def test_a_migrated_database_refuses_to_change_an_entry(tmp_path: Path, keys: KeyRing) -> None:
    """S1-06: the triggers are part of the schema, not of a test."""
    database = open_audited(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", keys)
    try:
        await migrations.migrate(database)
        with pytest.raises(IntegrityError, match="ck_audit_entry_outcome"):
            async with database.sessions.begin() as session:
                await session.execute(
                    text(
                        "INSERT INTO audit_entry SELECT 'a', 'platform', 1, '2026-01-01', 'account.read', 'Settings', "
                        "'read', 'read', 'perhaps', 'system', 's', 's', 'account', 'a', 'local', '{}', :genesis, '1'"
                    ),
                    {"genesis": GENESIS},
                )
    finally:
        await database.close()


async def test_a_full_database_of_the_first_schema_migrates_with_every_row(tmp_path: Path, keys: KeyRing) -> None:
    """S1-09: an upgrade keeps what was entered, and an older process may go on writing while it happens."""
    database = open_audited(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", keys)
    try:
        async with database.engine.begin() as connection:
            await connection.run_sync(lambda plain: migrations.upgrade(plain, "0001"))
            for statement in FIRST_SCHEMA_ROWS:
                await connection.execute(text(statement))
        assert await migrations.migrate(database) == migrations.newest_revision()
        async with database.engine.begin() as connection:
            drift = await connection.run_sync(
                lambda plain: compare_metadata(
                    MigrationContext.configure(plain, opts={"include_object": of_models}), Base.metadata
                )
            )
            assert drift == []
            await connection.execute(text(OLD_PROCESS_ADDS_A_PBX))
        async with database.sessions() as session:
            snapshot = await store.account_snapshot(session, "account_1")
            call = await store.call_by_id(session, "account_1", "call_1")
        assert call is not None
        assert (call.outcome, call.elin) == ("answered", None)
        assert snapshot is not None
        assert snapshot["elin_hold_minutes"] == 180
        assert [(row["value"], row["location_id"]) for row in snapshot["networks"]] == [("10.1.0.0/16", "location_1")]
        assert [(row["id"], row["tls_name"], row["auth_user"], row["secret"]) for row in snapshot["pbxs"]] == [
            ("pbx_1", "", "", None),
            ("pbx_2", "", "", None),
        ]
    finally:
        await database.close()


MOMENT = "'2026-01-01 00:00:00'"
STAMP = f"1, {MOMENT}, {MOMENT}"
OLD_PROCESS_ADDS_A_PBX = (
    "INSERT INTO pbx (id, account_id, name, sources, registrar_host, registrar_port, transport, resync_via, version, "
    f"created_at, updated_at) VALUES ('pbx_2', 'account_1', 'Second', '[]', '', 5060, 'udp', 'pbx', {STAMP})"
)
FIRST_SCHEMA_ROWS = (
    (
        "INSERT INTO account (id, name, email, phone, timezone, language, country, billing_address, emergency_enabled, "
        "version, created_at, updated_at) VALUES ('account_1', 'Acme', 'a@example.com', '', 'America/New_York', 'en', "
        f"'US', '{{}}', true, {STAMP})"
    ),
    (
        "INSERT INTO location (id, account_id, name, civic_address, notification_recipients, status, version, "
        f"created_at, updated_at) VALUES ('location_1', 'account_1', 'HQ', '{{}}', '[]', 'draft', {STAMP})"
    ),
    OLD_PROCESS_ADDS_A_PBX.replace("pbx_2", "pbx_1"),
    (
        "INSERT INTO network (id, account_id, kind, value, location_id, pbx_id, version, created_at, updated_at) "
        f"VALUES ('network_1', 'account_1', 'subnet', '10.1.0.0/16', 'location_1', 'pbx_1', {STAMP})"
    ),
    (
        "INSERT INTO emergency_call (id, account_id, call_id, dialed, kind, caller, location_source, verdict, flags, "
        "peer, outcome, received_at, sent_at, recorded_at) VALUES ('call_1', 'account_1', 'x', '911', 'emergency', "
        f"'{{}}', 'none', '[]', '[]', '{{}}', 'answered', {MOMENT}, {MOMENT}, {MOMENT})"
    ),
)
