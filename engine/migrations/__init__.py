"""The schema's history, applied at start. Revision names are the files' numbers: `0001`, `0002` …

Theory of operation. A start first compares the database's revision with the newest file's number, which costs one
query; only when they differ is alembic imported and run. New code runs on the schema before its migration: expand
first, contract later.
"""

from pathlib import Path

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

from engine.db import READS, Database
from engine.errors import DatabaseNewer

FOLDER = Path(__file__).parent


def newest_revision() -> str:
    """The number of the newest migration in this version of Callpoint."""
    return max(path.name.split("_")[0] for path in (FOLDER / "versions").glob("[0-9]*_*.py"))


async def revision_of(database: Database) -> str | None:
    """The revision the database stands at; None for an empty one."""
    async with database.engine.connect() as plain:
        connection = await plain.execution_options(**{READS: True})  # nobody's writing is waited for
        return await connection.run_sync(_revision)


async def migrate(database: Database) -> str:
    """Bring the database to the newest revision. Does nothing, quickly, when it is there. Returns that revision.

    Several nodes, or a node and a command, may start at once on one database: one migrates, the others wait for it.

    Raises:
        DatabaseNewer: a later version of Callpoint migrated it; nothing was changed.
    """
    wanted = newest_revision()
    found = await revision_of(database)
    if found is not None and found > wanted:
        raise DatabaseNewer(newer(found))
    if found != wanted:
        async with database.engine.begin() as connection:
            if connection.dialect.name == "postgresql":  # SQLite has one writer at a time
                await connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('migrations'))"))
            if await connection.run_sync(_revision) != wanted:
                await connection.run_sync(upgrade)
    return wanted


def newer(revision: str) -> str:
    """What it means that a later version migrated the database, and what to do."""
    return (
        f"It is at revision {revision}, and this version of Callpoint knows up to {newest_revision()}. Nothing was "
        "changed; 911 calls go on from the last location table. Start the newer version again, or put back the backup "
        "that was made before the upgrade (docs/operations.md)."
    )


async def missing(database: Database) -> tuple[str, ...]:
    """Tables and `table.column`s that this version's models have and the database has not, by name."""
    async with database.engine.connect() as plain:
        connection = await plain.execution_options(**{READS: True})  # nobody's writing is waited for
        return await connection.run_sync(_missing)


def _missing(connection: Connection) -> tuple[str, ...]:
    from engine import models

    looked_at = inspect(connection)
    there = set(looked_at.get_table_names())
    found: list[str] = []
    for table in models.Account.metadata.tables.values():
        if table.name not in there:
            found.append(table.name)
            continue
        columns = {column["name"] for column in looked_at.get_columns(table.name)}
        found += [f"{table.name}.{column.name}" for column in table.columns if column.name not in columns]
    return tuple(sorted(found))


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def upgrade(connection: Connection, to: str = "head") -> None:
    """Run the migrations up to that revision, in the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    command.upgrade(config, to)
