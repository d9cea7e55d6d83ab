"""`callpoint backup` and `callpoint restore`: the words around `engine.backup`, and the entries in the audit log."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from engine import config as configuration
from engine.commanding import ConfigOption, JsonOption, cli, opened, run_to_end, version
from engine.config import Config
from engine.errors import Invalid

_MEGABYTE = 1_000_000


def backup(
    file: Annotated[
        Path,
        typer.Argument(help="The file to write; a folder: a new file in it, named by the time; - for standard output."),
    ],
    config: ConfigOption = None,
    *,
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Leave the key file out; keep it elsewhere and name it to `restore`.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Back up database, keys, journal and files into one file, while the node runs. `restore` reads it."""
    from engine import backup as backups

    settings = configuration.load(config)
    made_at = datetime.now(UTC).replace(microsecond=0)
    target = None if str(file) == "-" else file / f"callpoint-{made_at:%Y%m%dT%H%M%SZ}.tar" if file.is_dir() else file
    _refuse_target(settings, target)
    stamp = made_at.isoformat().replace("+00:00", "Z")
    manifest = run_to_end(_manifest(settings, stamp, has_keys=not without_keys))
    backups.make(settings, manifest, target)
    if as_json:
        told = {"file": str(target or "-"), "made_at": stamp, "revision": manifest.revision, "keys": manifest.has_keys}
        typer.echo(
            json.dumps(told | {"size_bytes": manifest.size_bytes, "database": manifest.database}), err=not target
        )
        return
    for line in _words(settings, config, manifest, target):
        typer.echo(line, err=True)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `backup` wrote; - for standard input.")],
    config: ConfigOption = None,
    *,
    keys: Annotated[Path | None, typer.Option(help="The key file, for a backup made without it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup in place, in an empty data folder; refuses one that holds anything. Then start the node."""
    from engine import backup as backups

    settings = configuration.load(config)
    manifest = backups.restore(settings, None if str(file) == "-" else file, keys)
    accounts = run_to_end(_record_restore(settings, manifest)) if manifest.database == "sqlite" else None
    if as_json:
        told = {"made_at": manifest.made_at, "data_dir": str(settings.core.data_dir), "accounts": accounts}
        typer.echo(json.dumps(told))
        return
    typer.echo(f"Restored to {settings.core.data_dir.absolute()}, as it was at {manifest.made_at}.")
    if accounts is None:
        typer.echo("The database is PostgreSQL and was not in this file: restore it with pg_restore before you start.")
    else:
        typer.echo(f"{accounts} account(s); their audit logs say that they were restored and go on from there.")
    typer.echo(
        "What was revoked or rotated since then counts again: tokens, API keys, passwords, sessions. Do it anew.\n"
        "Calls recorded but not yet mailed then are mailed when the node starts. Run only one node with these data."
    )


def _refuse_target(settings: Config, target: Path | None) -> None:
    """Said before anything is done."""
    if target is None:
        if sys.stdout.isatty():
            raise Invalid("A backup is no text for a terminal. Name a file, or send it on: callpoint backup - | …")
        return
    if target.exists():
        raise Invalid(f"{target} is there already, and is not written over. Name another file.")
    if target.absolute().resolve().is_relative_to(settings.core.data_dir.absolute().resolve()):
        raise Invalid(
            f"{target} lies in the data folder: it would be lost together with what it backs up. Name another place."
        )
    if not target.absolute().parent.is_dir():
        raise Invalid(f"There is no folder {target.absolute().parent}. Make it, or name another one.")


async def _manifest(settings: Config, made_at: str, *, has_keys: bool) -> Any:
    """Record the backup first, so that its own copy of the log holds the entry. Never migrates: an upgrade begins with
    a backup of what there was before.
    """
    from engine import crypto, migrations
    from engine.audit.events import Event
    from engine.audit.record import record
    from engine.backup import Manifest, marks_of

    path = settings.key_file
    if not path.exists():
        raise Invalid(
            f"There is nothing to back up: {path} is not there. Run this with the node's own --config, in the folder "
            "that it was started in."
        )
    keys = crypto.load(path)
    async with opened(settings, is_migrated=False) as database:
        kind = "postgresql" if database.sqlite_path is None else "sqlite"
        revision = await migrations.revision_of(database)
        if revision is None:
            raise Invalid("There is nothing to back up: the database is empty. The first start makes its tables.")
        async with database.sessions.begin() as session:
            details = {"database": kind, "keys": has_keys}
            record(session, cli(), Event.BACKUP_CREATE, resource=("backup", made_at, ""), details=details)
    return Manifest(made_at, version(), revision, kind, marks_of(keys), has_keys)


async def _record_restore(settings: Config, manifest: Any) -> int:
    """An entry in every log, behind the last one it holds: what once followed is lost. Returns how many accounts."""
    from engine.accounts import store
    from engine.audit.events import Event
    from engine.audit.record import PLATFORM, record
    from engine.audit.store import heads

    async with opened(settings) as database, database.sessions.begin() as session:
        account_ids = [one.id for one in await store.accounts(session)]
        last = await heads(session, [PLATFORM, store.OPERATORS, *account_ids])
        for account_id in (None, *(one for one in (store.OPERATORS, *account_ids) if one in last)):
            details = {"behind": last.get(account_id or PLATFORM, 0), "made_by": manifest.version}
            resource = ("backup", manifest.made_at, "")
            record(session, cli(account_id), Event.BACKUP_RESTORE, resource=resource, details=details)
    return len(account_ids)


def _words(settings: Config, config: Path | None, manifest: Any, target: Path | None) -> list[str]:
    size = manifest.size_bytes / _MEGABYTE
    lines = [f"Backed up to {target or 'standard output'}: {len(manifest.files)} file(s), {size:.1f} MB."]
    if manifest.has_keys:
        lines.append("It holds the keys, so whoever has it can read every secret in it: keep it as you keep a key.")
    else:
        lines.append(f"Without the keys: keep a copy of {settings.key_file} elsewhere, or nothing of it can be opened.")
    if manifest.database != "sqlite":
        lines.append(
            "The database is PostgreSQL and is NOT in it. Back it up now: pg_dump --format=custom --file=FILE DATABASE"
        )
    certificates = (settings.admin.tls_cert, settings.provisioning.tls_cert, settings.sip.tls_cert)
    apart = [str(config)] if config else []
    apart += ["the certificates and keys of TLS"] if any(certificates) else []
    return [*lines, *([f"Not in it: {' and '.join(apart)}."] if apart else [])]
