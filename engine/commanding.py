"""What every command that works on the database needs: the database opened for it, and the actor who typed it."""

import asyncio
import errno
import getpass
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.config import Config

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="CALLPOINT_CONFIG", help="The TOML file; without it, defaults and environment."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def version() -> str:
    """Of the installed Callpoint, as in pyproject.toml."""
    try:
        return metadata.version("callpoint")
    except metadata.PackageNotFoundError:  # run from a folder that nobody installed
        return "unknown"


def told_in_words(exc: Exception) -> str | None:
    """What a fault of the machine or the database means and what to do; None: it is a fault of the program."""
    from sqlalchemy.exc import SQLAlchemyError

    calls = "911 calls of a running node go on from its location table."
    if isinstance(exc, OSError) and exc.filename is None and isinstance(exc, ConnectionError):
        why = exc.strerror or exc
        return f"The database does not answer ({why}). Nothing was changed; {calls} See [core] database_url."
    if getattr(exc, "errno", None) in NO_SPACE or "disk is full" in str(exc):
        return f"The disk is full. Nothing was changed; {calls} Make room where [core] data_dir is."
    if isinstance(exc, OSError):
        place = f"{exc.filename}: " if exc.filename else ""
        return (
            f"{place}{exc.strerror or exc}. Run this as the user that runs the node, in the folder that it was started "
            "in or with its --config."
        )
    if isinstance(exc, SQLAlchemyError):
        why = str(getattr(exc, "orig", None) or exc).partition("\n")[0]
        return f"The database cannot be used: {why}. Nothing was changed; {calls} `callpoint doctor` looks at it."
    return None


def run_to_end(work: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end, on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


@asynccontextmanager
async def opened(settings: Config, *, is_migrated: bool = True) -> AsyncIterator[Any]:
    """The database for one command, migrated, closed afterwards."""
    from engine import crypto, migrations
    from engine.audit.record import open_audited

    settings.core.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = open_audited(settings.database_url, crypto.load_or_create(settings.key_file))
    try:
        if is_migrated:
            await migrations.migrate(database)
        yield database
    finally:
        await database.close()


def cli(account_id: str | None = None) -> Any:
    """The actor of a command: the person at this machine."""
    from engine.audit.record import Actor

    try:
        login = getpass.getuser()
    except (KeyError, OSError):
        login = str(os.getuid())
    return Actor("cli", f"cli:{login}", login, "local", account_id=account_id, display_name=f"{login} (command line)")
