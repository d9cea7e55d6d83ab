"""Tables of phones and locations in and out, for the API, the pages and the command alike.

Theory of operation. Checking a table takes a second for 10,000 rows. It is done before the write transaction, from a
reading session at one revision of the account, its pure part in a thread, and so is all that the database needs not be
asked for, such as sealing secrets; storing it begins by looking at the revision again. So the database's one writer is
held for the rows alone.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from admin.render import civic_lines
from engine import csv_table
from engine.audit.record import Actor
from engine.csv_table import CellFault
from engine.db import Database
from engine.e911 import location_import
from engine.e911 import store as e911
from engine.e911.location_import import LocationPlan
from engine.errors import FieldFault, Invalid
from engine.models import Account
from engine.provisioning import imports, store, store_imports
from engine.provisioning.imports import Known, Plan
from engine.provisioning.phone_extras import EXTRAS
from engine.provisioning.store_imports import Ready


class Kind(StrEnum):
    """What the rows of a table are."""

    PHONES = "phones"
    LOCATIONS = "locations"


@dataclass(frozen=True, slots=True)
class ReportRow:
    """What an import does, or would do, with one row. `name`: a phone's MAC address, a location's name. `label`: a
    phone's label, a location's address as it would be stored, empty where it stays.
    """

    row: int
    name: str
    label: str
    outcome: str
    changes: tuple[str, ...]
    faults: tuple[CellFault, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """A table held against what is stored at `revision`. `faults`: all; with any, nothing can be stored.

    `known`: what phones were held against.
    """

    kind: Kind
    plan: Plan | LocationPlan
    known: Known | None
    revision: int
    rows: tuple[ReportRow, ...]
    faults: tuple[CellFault, ...]

    def count(self, outcome: str) -> int:
        return sum(row.outcome == outcome for row in self.rows)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked table as the database takes it. Locations are few: what is written of them is made as it is written."""

    checked: Checked
    phones: Ready | None


async def check(database: Database, account: Account, kind: Kind, data: bytes) -> Checked:
    """Hold a table against what is stored; nothing is written. What is wrong stands in the result."""
    if kind is Kind.LOCATIONS:
        return await _check_locations(database, account, data)
    sheet = await asyncio.to_thread(imports.read, data)
    async with database.sessions() as session:
        seen = await store_imports.known_of(session, account, imports.macs_of(sheet), imports.sip_users_of(sheet))
    plan = await asyncio.to_thread(imports.plan, sheet, seen.known)
    if any(phone.settings.keys() & EXTRAS for phone in plan.phones):
        async with database.sessions() as session:
            plan = await store_imports.with_extras(session, account, sheet, plan)
    rows = tuple(
        ReportRow(row.number, row.mac, row.label, row.outcome.value, row.changes, row.faults) for row in plan.rows
    )
    return Checked(kind, plan, seen.known, seen.revision, rows, plan.faults)


async def _check_locations(database: Database, account: Account, data: bytes) -> Checked:
    sheet = await asyncio.to_thread(location_import.read, data)
    async with database.sessions() as session:
        revision = await store.revision_of(session, account.id)
        stored = await e911.locations_of(session, account.id)
    plan = await asyncio.to_thread(location_import.plan, sheet, account, stored)
    rows = tuple(
        ReportRow(
            row.number, row.name, ", ".join(civic_lines(row.values.get("civic_address"))), row.outcome, row.changes,
            row.faults,
        )
        for row in plan.rows
    )  # fmt: skip
    return Checked(Kind.LOCATIONS, plan, None, revision, rows, plan.faults)


async def prepare(database: Database, account: Account, checked: Checked) -> Prepared:
    """Make ready what a checked table writes, before the transaction that stores it. One with faults stays as it is."""
    if checked.faults or checked.known is None or not isinstance(checked.plan, Plan):
        return Prepared(checked, None)
    ready = await asyncio.to_thread(store_imports.ready, database, account.id, checked.plan, checked.known)
    return Prepared(checked, ready)


async def carry_out(session: AsyncSession, actor: Actor, account: Account, made: Prepared) -> str:
    """Store a table that was made ready, all of it in this transaction. Returns the name that its audit entries share.

    Raises:
        Invalid: the table has faults, each by row and column. Conflict: the account changed since the check.
    """
    checked = made.checked
    refuse(checked)
    await store_imports.hold(session, account.id, made.phones)
    await store_imports.refuse_moved(session, account.id, checked.revision)
    if made.phones is not None:
        return await store_imports.carry_out(session, actor, account, made.phones)
    assert isinstance(checked.plan, LocationPlan)
    return await location_import.carry_out(session, actor, account, checked.plan)


def refuse(checked: Checked) -> None:
    """Raise `Invalid` with every fault by row and column, when there are any."""
    if not checked.faults:
        return
    number = len(checked.faults)
    raise Invalid(
        f"Nothing was imported: the table has {number:,} {'fault' if number == 1 else 'faults'}. Correct it and send "
        "it again.",
        fields=tuple(FieldFault(place_of(fault), fault.detail) for fault in checked.faults),
    )


def place_of(fault: CellFault) -> str:
    """Where a fault is, in words: `row 3, column mac`."""
    if not fault.row:
        return "file"
    return f"row {fault.row}, column {fault.column}" if fault.column else f"row {fault.row}"


def report_table(checked: Checked) -> bytes:
    """The report as a table itself: a row of it for each fault, and for each row without one."""

    def lines() -> Sequence[Sequence[str]]:
        found = [["0", "", "", "error", fault.column, fault.detail] for fault in checked.faults if fault.row <= 1]
        for row in checked.rows:
            head = [str(row.row), row.name, row.label, row.outcome]
            found += [[*head, fault.column, fault.detail] for fault in row.faults]
            found += [] if row.faults else [[*head, " ".join(row.changes), ""]]
        return found

    return csv_table.write(("row", "name", "label", "outcome", "columns", "fault"), lines())


async def export(database: Database, account: Account, kind: Kind) -> bytes:
    """Every phone or location of the account as a table that reads back as it stands; secrets are left out. Phones may
    be a hundred thousand: pages are made in between.
    """
    async with database.sessions() as session:
        if kind is Kind.LOCATIONS:
            locations = await e911.locations_of(session, account.id)
            return await asyncio.to_thread(location_import.table_of, locations)
        known = await store_imports.everything(session, account)
    out = bytearray()
    for piece in imports.pieces_of(list(known.phones.values()), known):
        out += piece
        await asyncio.sleep(0)
    return bytes(out)
