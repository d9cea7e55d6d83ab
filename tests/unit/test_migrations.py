"""The schema's history ends where the models stand."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from engine import migrations
from engine.audit.record import open_audited
from engine.crypto import KeyRing
from engine.db import Base


async def test_the_migrations_make_exactly_the_models_and_are_applied_once(tmp_path: Path, keys: KeyRing) -> None:
    database = open_audited(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", keys)
    try:
        assert await migrations.revision_of(database) is None
        newest = await migrations.migrate(database)
        assert await migrations.migrate(database) == newest == migrations.newest_revision()
        async with database.engine.connect() as connection:
            drift = await connection.run_sync(
                lambda plain: compare_metadata(MigrationContext.configure(plain), Base.metadata)
            )
        assert drift == []
        async with database.sessions() as session:
            triggers = await session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'"))
            assert set(triggers) >= {"audit_entry_no_update", "audit_entry_no_delete"}
    finally:
        await database.close()


async def test_a_migrated_database_refuses_to_change_an_entry(tmp_path: Path, keys: KeyRing) -> None:
    """S1-06: the triggers are part of the schema, not of a test."""
    database = open_audited(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", keys)
    try:
        await migrations.migrate(database)
        with pytest.raises(IntegrityError):
            async with database.sessions.begin() as session:
                await session.execute(
                    text(
                        "INSERT INTO audit_entry SELECT 'a', 'platform', 1, '2026-01-01', 'account.read', 'Settings', "
                        "'read', 'read', 'perhaps', 'system', 's', 's', 'account', 'a', 'local', '{}', '0', '1'"
                    )
                )
    finally:
        await database.close()
