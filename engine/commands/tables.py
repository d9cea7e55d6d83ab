"""`callpoint import` and `callpoint export`: tables of phones and locations, for the command line."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from admin.importing import Checked, Kind, carry_out, check, export, place_of, prepare
from engine.accounts import store
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import Database
from engine.errors import Invalid
from engine.models import Account

ActorOf = Callable[[str], Actor]
_SHOWN_FAULTS = 1_000


def read_table(file: Path) -> bytes:
    """The file's bytes, or what comes in. Raises Invalid: it cannot be read."""
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as exc:
        raise Invalid(f"{file} cannot be read: {exc.strerror}.") from exc


async def take_in(
    database: Database, kind: str, body: bytes, account_id: str | None, actor: ActorOf, *, dry_run: bool
) -> Checked:
    """Check a table, and store it when it has no fault and this is no dry run.

    Raises:
        Invalid: no such kind or account. Conflict: the account changed meanwhile.
    """
    wanted = _kind(kind)
    async with database.sessions() as session:
        account = await _account(session, account_id)
    checked = await check(database, account, wanted, body)
    made = await prepare(database, account, checked)
    async with database.sessions.begin() as session:
        if dry_run or checked.faults:
            counts = {name: checked.count(name) for name in ("new", "changed", "unchanged", "error")}
            resource = ("import", "import", wanted.value)
            outcome = "success" if dry_run else "failure"
            event = Event.IMPORT_CHECK if dry_run else Event.IMPORT_CREATE
            record(session, actor(account.id), event, resource=resource, details=counts, outcome=outcome)
        else:
            await carry_out(session, actor(account.id), account, made)
    return checked


async def give_out(database: Database, kind: str, account_id: str | None, actor: ActorOf) -> bytes:
    """The table. Raises Invalid: no such kind or account."""
    wanted = _kind(kind)
    async with database.sessions() as session:
        account = await _account(session, account_id)
    body = await export(database, account, wanted)
    async with database.sessions.begin() as session:
        resource = ("import", "export", wanted.value)
        record(session, actor(account.id), Event.IMPORT_EXPORT, resource=resource)
    return body


def show_report(checked: Checked, *, dry_run: bool, as_json: bool) -> bool:
    """Print what was done; says whether the table is without fault."""
    counts = {name: checked.count(name) for name in ("new", "changed", "unchanged", "error")}
    faults = [{"row": fault.row, "column": fault.column, "detail": fault.detail} for fault in checked.faults]
    if as_json:
        rows = [
            {"row": row.row, "name": row.name, "outcome": row.outcome, "changes": row.changes} for row in checked.rows
        ]
        typer.echo(
            json.dumps({"kind": checked.kind.value, "dry_run": dry_run, **counts, "rows": rows, "faults": faults})
        )
        return not checked.faults
    for fault in checked.faults[:_SHOWN_FAULTS]:
        typer.echo(f"{place_of(fault)}: {fault.detail}", err=True)
    if len(checked.faults) > _SHOWN_FAULTS:
        typer.echo(f"… and {len(checked.faults) - _SHOWN_FAULTS:,} more faults; --json lists them all.", err=True)
    said = ", ".join(f"{number:,} {name if name != 'error' else 'with faults'}" for name, number in counts.items())
    head = "Nothing was imported" if checked.faults else "This would be done" if dry_run else "Imported"
    typer.echo(f"{head}: {said}.")
    return not checked.faults


def _kind(name: str) -> Kind:
    try:
        return Kind(name)
    except ValueError as exc:
        raise Invalid(f"Expected {' or '.join(kind.value for kind in Kind)}, got {name[:40]!r}.") from exc


async def _account(session: AsyncSession, account_id: str | None) -> Account:
    """The account meant: the only one where none is named."""
    known = await store.accounts(session)
    found = [one for one in known if account_id in {None, one.id}]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{one.id} ({one.name})" for one in known) or "none yet"
    raise Invalid(f"Say which account with --account. Accounts: {names}.")
