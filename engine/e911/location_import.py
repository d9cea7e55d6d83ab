"""Locations from a table and back: an address element in each column, rows held against the stored names.

A location is known by its name. Columns are the element names of RFC 5139, RFC 6848 and CLDXF, or plain words for the
usual ones (`state`, `city`, `street`, `zip`). As with phones: a missing column leaves its field, an empty cell empties
it, any fault and nothing is stored. A row whose address changed is a draft again.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine import csv_table
from engine.audit.events import Event
from engine.audit.record import Actor, parts_of, record
from engine.csv_table import CellFault, Row, Sheet
from engine.e911 import sites, store
from engine.e911.civic import CIVIC_ELEMENTS, CIVIC_EXTENSIONS, CLDXF_ELEMENTS
from engine.e911.fields import LOCATION_FIELDS, read_values
from engine.errors import Conflict, FieldFault
from engine.ids import new_id
from engine.models import Account, Location

MAX_ROWS = 2_000
ELEMENTS = (*CIVIC_ELEMENTS, *CIVIC_EXTENSIONS, *CLDXF_ELEMENTS)
_POSITION = ("latitude", "longitude", "altitude_m", "radius_m")
_PLAIN = ("timezone", "callback_number", "onsite_number")
COLUMNS = ("name", *ELEMENTS, *_POSITION, "geo", *_PLAIN, "notification_recipients")
_SPELLINGS = {
    "location": "name", "state": "A1", "county": "A2", "city": "A3", "street": "RD", "street_name": "RD",
    "street_type": "STS", "house_number": "HNO", "number": "HNO", "zip": "PC", "postal_code": "PC", "building": "BLD",
    "floor": "FLR", "room": "ROOM", "suite": "UNIT", "time_zone": "timezone", "recipients": "notification_recipients",
}  # fmt: skip

_NUMBER_FIRST = re.compile(r"\s*(\d+[A-Za-z]?(?:[-/]\d+[A-Za-z]?)?)[\s,]+(\S.*)")


@dataclass(frozen=True, slots=True)
class PlannedLocation:
    """What becomes of one row. `outcome`: new, changed, unchanged or error. `values`: what is written."""

    number: int
    name: str
    outcome: str
    changes: tuple[str, ...]
    faults: tuple[CellFault, ...]
    values: Mapping[str, Any]
    location_id: str | None = None


@dataclass(frozen=True, slots=True)
class LocationPlan:
    """What an import would do. With any fault it does nothing."""

    rows: tuple[PlannedLocation, ...]
    faults: tuple[CellFault, ...]

    def count(self, outcome: str) -> int:
        return sum(row.outcome == outcome for row in self.rows)


def read(data: bytes) -> Sheet:
    """A table of locations, with every fault of the file itself."""
    sheet = csv_table.read(data, COLUMNS, spellings=_SPELLINGS, max_rows=MAX_ROWS)
    if sheet.columns and "name" not in sheet.columns:
        missing = CellFault(1, "name", "There is no column name: it says which location a row is about.")
        return Sheet(sheet.columns, sheet.headings, sheet.rows, (*sheet.faults, missing))
    return sheet


def plan(sheet: Sheet, account: Account, stored: Sequence[Location]) -> LocationPlan:
    """Hold every row against what is stored. Never fails: what is wrong stands in the plan."""
    by_name: dict[str, list[Location]] = {}
    for location in stored:
        by_name.setdefault(location.name.strip().casefold(), []).append(location)
    seen: dict[str, int] = {}
    of_file = [fault for fault in sheet.faults if fault.row not in {row.number for row in sheet.rows}]
    if not sheet.rows and not of_file:
        of_file.append(CellFault(0, "", "The file has a header and no row below it."))
    rows = []
    for row in sheet.rows:
        faults = [fault for fault in sheet.faults if fault.row == row.number]
        rows.append(_planned(sheet, row, account, by_name, seen, faults))
    return LocationPlan(tuple(rows), (*of_file, *(fault for row in rows for fault in row.faults)))


def _planned(
    sheet: Sheet,
    row: Row,
    account: Account,
    by_name: Mapping[str, list[Location]],
    seen: dict[str, int],
    faults: list[CellFault],
) -> PlannedLocation:
    name = row.cells.get("name", "").strip()
    same = by_name.get(name.casefold(), [])
    before = same[0] if len(same) == 1 else None
    if len(same) > 1:
        told = f"{len(same)} locations are called {name!r}: give each a name of its own first."
        faults.append(CellFault(row.number, sheet.headings["name"], told))
    if name and name.casefold() in seen:
        told = f"{name!r} is on row {seen[name.casefold()]} already: a location is one row."
        faults.append(CellFault(row.number, sheet.headings["name"], told))
    seen.setdefault(name.casefold(), row.number)
    found: list[FieldFault] = []
    values = read_values(_values(sheet, row, before, found), LOCATION_FIELDS, account, found)
    faults += [_at(sheet, row, fault) for fault in found]
    moved = {key: value for key, value in values.items() if before is None or value != getattr(before, key)}
    if "civic_address" in moved and (told := _number_in_street(moved["civic_address"])):
        faults.append(CellFault(row.number, sheet.headings.get("RD", "street"), told))
    outcome = "error" if faults else "new" if before is None else "changed" if moved else "unchanged"
    changes = _changes(before, moved) if before is not None else ()
    identity = before.id if before is not None else None
    return PlannedLocation(row.number, name, outcome, changes, tuple(faults), moved, identity)


def _number_in_street(civic_address: Mapping[str, Any]) -> str:
    """What is wrong where the house number was left in the street; empty: nothing. `42nd Street` is a street."""
    led = _NUMBER_FIRST.match(str(civic_address.get("RD", "")))
    if led is None or civic_address.get("HNO"):
        return ""
    return (
        f"The street begins with a house number. Put {led[1]!r} into a column “house number” and {led[2]!r} here: a "
        "dispatcher's map finds no address whose number stands in its street."
    )


def _values(sheet: Sheet, row: Row, before: Location | None, faults: list[FieldFault]) -> dict[str, Any]:
    """The row's cells as an API body would hold them."""
    columns = frozenset(sheet.columns)
    values: dict[str, Any] = {"name": before.name if before is not None else row.cells.get("name", "")}
    address = dict(before.civic_address) if before is not None else {}
    for element in columns & set(ELEMENTS):
        address.pop(element, None)
        if text := row.cells.get(element, ""):
            address[element] = text
    values["civic_address"] = address
    if columns & {*_POSITION, "geo"}:
        values["geo"] = _geo(row, faults)
    for name in _PLAIN:
        if name in columns:
            values[name] = row.cells.get(name) or None
    if "notification_recipients" in columns:
        values["notification_recipients"] = [
            one for one in re.split(r"[\s,;]+", row.cells.get("notification_recipients", "")) if one
        ]
    return values


def _geo(row: Row, faults: list[FieldFault]) -> object:
    told = {name: row.cells[name] for name in _POSITION if row.cells.get(name)}
    shape = row.cells.get("geo", "")
    if told and shape:
        faults.append(FieldFault("geo", "The row tells a position twice: in geo, and in latitude and longitude."))
        return None
    if shape:
        try:
            return json.loads(shape)
        except (ValueError, RecursionError):
            faults.append(FieldFault("geo", "Expected an object in JSON, as the API takes it."))
            return None
    numbers: dict[str, float] = {}
    for name, text in told.items():
        try:
            numbers[name] = float(text.replace(",", "."))
        except ValueError:
            faults.append(FieldFault(f"geo.{name}", f"Expected a number, got {text[:40]!r}."))
    return numbers or None


def _at(sheet: Sheet, row: Row, fault: FieldFault) -> CellFault:
    """The fault with the heading of its column: `civic_address.PC` stands in PC, `geo.latitude` in latitude."""
    parts = re.split(r"[.\[]", fault.field)
    name = next((part for part in reversed(parts) if part in sheet.headings), parts[-1].rstrip("]"))
    return CellFault(row.number, sheet.headings.get(name, name), fault.detail)


def _changes(before: Location, moved: Mapping[str, Any]) -> tuple[str, ...]:
    found: list[str] = []
    for name, value in moved.items():
        if name == "civic_address":
            own = before.civic_address
            found += [element for element in {**own, **value} if own.get(element) != value.get(element)]
        else:
            found.append(name)
    return tuple(found)


async def carry_out(session: AsyncSession, actor: Actor, account: Account, planned: LocationPlan) -> str:
    """Store what the plan says; the caller has made sure that it has no fault. Returns what its entries share.

    Raises:
        Conflict: a location was removed meanwhile.
    """
    bulk_id = new_id("request")
    counts = {outcome: planned.count(outcome) for outcome in ("new", "changed", "unchanged")}
    record(session, actor, Event.IMPORT_CREATE, resource=("import", bulk_id, "locations"), details=counts)
    with parts_of(session, bulk_id):
        for row in planned.rows:
            if row.outcome == "new":
                await sites.create_location(session, actor, account, row.values)
            elif row.outcome == "changed" and row.location_id is not None:
                location = await store.location_by_id(session, account.id, row.location_id)
                if location is None:
                    raise Conflict(f"{row.name} was removed while the table was being checked. Check it once more.")
                await sites.update_location(session, actor, account, location, row.values)
    return bulk_id


def table_of(locations: Iterable[Location]) -> bytes:
    """The locations as a table that reads back as it stands."""
    rows = list(locations)
    used = {name for location in rows for name in location.civic_address}
    elements = [name for name in ELEMENTS if name in used or name in {"country", "A1", "A3", "HNO", "RD", "PC"}]
    has_shape = any(_is_shape(location.geo) for location in rows)
    columns = ["name", *elements, *_POSITION, *(["geo"] if has_shape else []), *_PLAIN, "notification_recipients"]

    def cells(location: Location) -> list[str]:
        geo = location.geo or {}
        is_shape = _is_shape(location.geo)
        found = [location.name, *(location.civic_address.get(name, "") for name in elements)]
        found += ["" if is_shape or geo.get(name) is None else f"{geo[name]:.15g}" for name in _POSITION]
        found += [json.dumps(geo, ensure_ascii=False) if is_shape else ""] if has_shape else []
        found += [location.timezone or "", location.callback_number or "", location.onsite_number or ""]
        return [*found, " ".join(location.notification_recipients)]

    return csv_table.write(columns, map(cells, rows))


def _is_shape(geo: Mapping[str, Any] | None) -> bool:
    """Whether latitude and longitude do not say all of it."""
    return bool(set(geo or {}) - set(_POSITION))
