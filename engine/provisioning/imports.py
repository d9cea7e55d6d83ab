"""Phones from a table: each row held against what is stored, and what an import would do, row by row (pure).

Theory of operation. A row is a phone, known by its MAC address. A column that is not there leaves its field as it is;
an empty cell empties it, except a line's secret, which is never written out and stays when its cell is empty. Lines
stand in `line1_extension`, `line1_display_name`, …, `line2_extension`, …: first key first. A line is known by its SIP
user (the extension where no other is told), so that a line on two phones is one line, told alike on both rows. Nothing
here is stored: `plan` says what would change, with every fault by row and column, and `store_imports` carries it out
when there is none.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from engine import csv_table
from engine.csv_table import CellFault, Row, Sheet
from engine.errors import FieldFault
from engine.provisioning import phone_rules, vendors
from engine.provisioning.setting_cells import setting_in, setting_out
from engine.provisioning.settings import CHECKS
from engine.provisioning.vendors import Mac, Profile

MAX_ROWS = 10_000
PIECE = 250  # rows written at a time: some 4 ms
MAX_KEYS = 64  # line columns that are read; a model's own limit is checked row by row
PHONE_COLUMNS = ("mac", "vendor", "model", "label", "location")
LINE_FIELDS = (
    "extension", "display_name", "sip_user", "auth_user", "secret", "callback_number", "location", "pbx",
)  # fmt: skip
_REFERENCES = {"location": "location_id", "pbx": "pbx_id"}  # a column of names, and the field its identifier stands in
_NUMBER_OF_EXCEL = re.compile(r"\d(?:[.,]\d+)?E[+-]?\d+\Z", re.IGNORECASE)
_SHORTENED = re.compile(r"\d[.,]\d+E\+\d+\Z", re.IGNORECASE)  # 2.01555E+14: nobody types a `+` behind an E
_DIGITS_LOST = re.compile(r"\d{6,11}\Z")
_SPELLINGS = {
    "mac_address": "mac", "name": "label", "phone": "label", "site": "location", "brand": "vendor", "type": "model",
}  # fmt: skip
_SPELLINGS |= {f"line_{n}_{name}": f"line{n}_{name}" for n in range(1, MAX_KEYS + 1) for name in LINE_FIELDS}
_SPELLINGS |= {name: f"line1_{name}" for name in LINE_FIELDS if name != "location"}
_SPELLINGS |= {f"settings_{name}": name for name in CHECKS}
COLUMNS = (
    *PHONE_COLUMNS, *CHECKS, *(f"line{n}_{name}" for n in range(1, MAX_KEYS + 1) for name in LINE_FIELDS),
)  # fmt: skip


class Outcome(StrEnum):
    """What an import does with a row."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class KnownPhone:
    """A stored phone. `lines`: SIP users, first key first."""

    id: str
    mac: str
    vendor: str
    model: str
    label: str
    location_id: str | None
    settings: Mapping[str, Any]
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KnownLine:
    """A stored line. `secret`: what a told one is compared with; an export never has it."""

    id: str
    extension: str
    display_name: str
    sip_user: str
    auth_user: str
    callback_number: str | None
    location_id: str | None
    pbx_id: str | None
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Known:
    """What rows are held against: phones by MAC, lines by SIP user, names by identifier."""

    phones: Mapping[str, KnownPhone]
    lines: Mapping[str, KnownLine]
    locations: Mapping[str, str]
    pbxs: Mapping[str, str]
    country: str
    countries: tuple[str, ...]


@dataclass(slots=True)
class WishedLine:
    """A line as rows tell it. `values`: fields of `Line` that are told; `told_at`: the first row that told it."""

    sip_user: str
    told_at: int
    before: KnownLine | None
    values: dict[str, Any] = field(default_factory=dict)

    def moved(self) -> dict[str, Any]:
        """The fields that an import would write: of a new line all, of a stored one those that differ."""
        if self.before is None:
            return dict(self.values)
        return {name: value for name, value in self.values.items() if value != getattr(self.before, name)}


@dataclass(frozen=True, slots=True)
class WishedPhone:
    """A phone as its row tells it, whole. `lines`: SIP users, first key first."""

    before: KnownPhone | None
    mac: str
    vendor: str
    model: str
    label: str
    location_id: str | None
    settings: Mapping[str, Any]
    lines: tuple[str, ...]

    def moved(self) -> list[str]:
        """The fields that differ from what is stored."""
        names = ("vendor", "model", "label", "location_id", "settings", "lines")
        return [name for name in names if self.before is None or getattr(self, name) != getattr(self.before, name)]


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """What becomes of one row. `changes`: the columns that would change what is stored."""

    number: int
    mac: str
    label: str
    outcome: Outcome
    changes: tuple[str, ...] = ()
    faults: tuple[CellFault, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import would do. With any fault it does nothing. `faults`: all, those of the whole file first."""

    rows: tuple[PlannedRow, ...]
    faults: tuple[CellFault, ...]
    phones: tuple[WishedPhone, ...] = ()
    lines: tuple[WishedLine, ...] = ()

    def count(self, outcome: Outcome) -> int:
        return sum(row.outcome is outcome for row in self.rows)


def read(data: bytes) -> Sheet:
    """A table of phones, with every fault of the file itself."""
    sheet = csv_table.read(data, COLUMNS, spellings=_SPELLINGS, max_rows=MAX_ROWS)
    if sheet.columns and "mac" not in sheet.columns:
        missing = CellFault(1, "mac", "There is no column mac: it says which phone a row is about.")
        return Sheet(sheet.columns, sheet.headings, sheet.rows, (*sheet.faults, missing))
    return sheet


def macs_of(sheet: Sheet) -> list[Mac]:
    """The addresses the table names, each once: what to look up before planning."""
    found = (vendors.parse_mac(row.cells.get("mac", "")) for row in sheet.rows)
    return list(dict.fromkeys(mac for mac in found if mac is not None))


def sip_users_of(sheet: Sheet) -> list[str]:
    """The SIP users the table may mean, each once."""
    columns = [name for name in sheet.columns if name.endswith(("_extension", "_sip_user"))]
    found = (row.cells.get(name, "") for row in sheet.rows for name in columns)
    return list(dict.fromkeys(user for user in found if user))


def plan(sheet: Sheet, known: Known) -> Plan:
    """Hold every row against what is stored. Never fails: what is wrong stands in the plan."""
    return _Planning(sheet, known).whole()


class _Planning:
    """One table on its way to a plan."""

    def __init__(self, sheet: Sheet, known: Known) -> None:
        self._sheet, self._known = sheet, known
        self._columns = frozenset(sheet.columns)
        self._settings = [name for name in sheet.columns if name in CHECKS]
        keys = {int(match[1]) for name in sheet.columns if (match := _LINE_COLUMN.match(name))}
        self._keys = max(keys, default=0)
        self._locations = _by_name(known.locations)
        self._pbxs = _by_name(known.pbxs)
        self._lines: dict[str, WishedLine] = {}
        self._seen: dict[str, int] = {}
        self._faults: list[CellFault] = []
        self._number = 0

    def whole(self) -> Plan:
        rows, phones = [], []
        by_row: dict[int, list[CellFault]] = {}
        for fault in self._sheet.faults:
            by_row.setdefault(fault.row, []).append(fault)
        for row in self._sheet.rows:
            self._number, self._faults = row.number, by_row.pop(row.number, [])
            phone, changes = self._row(row)
            outcome = self._outcome(phone, changes)
            if phone is not None and outcome in {Outcome.NEW, Outcome.CHANGED}:
                phones.append(phone)
            mac = phone.mac if phone is not None else row.cells.get("mac", "")[:40]
            label = phone.label if phone is not None else row.cells.get("label", "")[:80]
            rows.append(PlannedRow(row.number, mac, label, outcome, tuple(changes), tuple(self._faults)))
        of_file = [fault for faults in by_row.values() for fault in faults]
        if not rows and not of_file:
            of_file.append(CellFault(0, "", "The file has a header and no row below it."))
        faults = (*of_file, *(fault for row in rows for fault in row.faults))
        moved = tuple(line for line in self._lines.values() if line.moved())
        return Plan(tuple(rows), faults, () if faults else tuple(phones), () if faults else moved)

    def _outcome(self, phone: WishedPhone | None, changes: Sequence[str]) -> Outcome:
        if self._faults or phone is None:
            return Outcome.ERROR
        if phone.before is None:
            return Outcome.NEW
        return Outcome.CHANGED if changes else Outcome.UNCHANGED

    def _fault(self, column: str, detail: str) -> None:
        self._faults.append(CellFault(self._number, self._sheet.headings.get(column, column), detail))

    def _told(self, faults: Iterable[FieldFault], column: str) -> None:
        for fault in faults:
            self._fault(column, fault.detail)

    # --- the phone ----------------------------------------------------------------------------------------------

    def _row(self, row: Row) -> tuple[WishedPhone | None, list[str]]:
        mac = self._mac(row.cells.get("mac", ""))
        before = self._known.phones.get(mac) if mac is not None else None
        vendor, model = self._model(row, mac, before)
        label = self._kept(row, "label", before.label if before else "")
        self._told(phone_rules.text_faults("label", label), "label")
        location_id = self._reference(row, "location", self._locations, before.location_id if before else None)
        settings = self._own_settings(row, before)
        lines, line_changes = self._lines_of(row, before)
        profile = vendors.known().profiles.get(vendor)
        kept = profile.model(model) if profile is not None else None
        if kept is not None and len(lines) > kept.lines:
            self._fault(f"line{kept.lines + 1}_extension", f"A {kept.name} holds {kept.lines} lines, got {len(lines)}.")
        if profile is not None and profile.refused is not None:
            self._refuse_unwritable(vendor, label, lines)
        if mac is None:
            return None, []
        name = kept.name if kept is not None else model
        phone = WishedPhone(before, mac, vendor, name, label, location_id, settings, lines)
        return phone, self._changes(phone, line_changes)

    def _refuse_unwritable(self, vendor: str, label: str, lines: Sequence[str]) -> None:
        """Names and secrets that this vendor's files cannot hold, of lines that are stored already too."""
        self._told(phone_rules.format_faults("label", vendor, label), "label")
        for key, user in enumerate(lines, 1):
            told, stored = self._lines.get(user), self._known.lines.get(user)
            values = told.values if told is not None else {}
            for name in ("display_name", "secret"):
                text = values.get(name, getattr(stored, name, None)) or ""
                self._told_of_line(phone_rules.format_faults(name, vendor, text), key, user, name)

    def _told_of_line(self, faults: Iterable[FieldFault], key: int, user: str, name: str) -> None:
        """In the column that holds the text; where the table has none, in the one that names the line it stands on."""
        column = f"line{key}_{name}"
        if column in self._columns:
            self._told(faults, column)
            return
        places = (f"line{key}_extension", f"line{key}_sip_user", "mac")
        place = next(one for one in places if one in self._columns)
        for fault in faults:
            self._fault(place, f"The {name.replace('_', ' ')} that line {user} has already: {fault.detail}")

    def _changes(self, phone: WishedPhone, line_changes: Sequence[str]) -> list[str]:
        """The columns that change something; of a new phone none is named: all are new."""
        if phone.before is None:
            return []
        changes = ["location" if name == "location_id" else name for name in phone.moved() if name != "settings"]
        own = phone.before.settings
        both = {**own, **phone.settings}
        changes += [name for name in both if own.get(name, _NONE) != phone.settings.get(name, _NONE)]
        return [*changes, *line_changes]

    def _mac(self, text: str) -> Mac | None:
        mac = vendors.parse_mac(text)
        if mac is None:
            self._fault("mac", _why_no_mac(text))
            return None
        if mac in self._seen:
            self._fault("mac", f"{mac} is on row {self._seen[mac]} already: a phone is one row.")
        self._seen.setdefault(mac, self._number)
        return mac

    def _model(self, row: Row, mac: Mac | None, before: KnownPhone | None) -> tuple[str, str]:
        """The vendor's name and the model's spelling; empty where a fault says why."""
        told_vendor, told_model = row.cells.get("vendor", ""), row.cells.get("model", "")
        if before is not None and not told_vendor and not told_model:
            return before.vendor, before.model
        profile = _vendor_called(told_vendor) if told_vendor else self._vendor_guessed(mac, before, told_model)
        if profile is None:
            known = ", ".join(vendors.known().profiles)
            told = f"Expected one of {known}, got {told_vendor[:40]!r}." if told_vendor else _NO_VENDOR
            self._fault("vendor", told)
            return "", told_model
        model = told_model or (before.model if before is not None else "")
        if profile.model(model) is None:
            self._fault("model", _no_model(profile, model))
        return profile.name, model

    def _vendor_guessed(self, mac: Mac | None, before: KnownPhone | None, model: str) -> Profile | None:
        """For an empty cell: the stored vendor, else the owner of the address block that has such a model."""
        if before is not None:
            return vendors.known().profiles.get(before.vendor)
        profiles = vendors.known().profiles.values()
        owners = [one for one in profiles if mac is not None and mac[:6] in one.ouis]
        fitting = [one for one in owners if one.model(model) is not None] or owners
        return fitting[0] if fitting else None

    def _kept(self, row: Row, column: str, before: str) -> str:
        return row.cells.get(column, before if column not in self._columns else "")

    def _reference(self, row: Row, column: str, names: Mapping[str, list[str]], before: str | None) -> str | None:
        """The identifier behind a name or an identifier; None for an empty cell."""
        if column not in self._columns:
            return before
        text = row.cells.get(column, "")
        if not text:
            return None
        found = names.get(text.casefold(), [])
        if len(found) == 1:
            return found[0]
        what = "PBX" if column.endswith("pbx") else "location"
        if found:
            self._fault(column, f"{len(found)} {what}s are called {text[:60]!r}: write the identifier of one instead.")
        else:
            self._fault(column, f"This account has no {what} called {text[:60]!r}. Add it first, or empty the cell.")
        return None

    def _own_settings(self, row: Row, before: KnownPhone | None) -> dict[str, Any]:
        own = dict(before.settings) if before is not None else {}
        for name in self._settings:
            text = row.cells.get(name, "")
            if not text:
                own.pop(name, None)
                continue
            value, faults = setting_in(name, text)
            self._told(faults, name)
            if not faults:
                own[name] = value
        return own

    # --- its lines ----------------------------------------------------------------------------------------------

    def _lines_of(self, row: Row, before: KnownPhone | None) -> tuple[tuple[str, ...], list[str]]:
        """The SIP users on the phone's keys, and which line columns change a stored line."""
        held = before.lines if before is not None else ()
        users: list[str] = []
        changes: list[str] = []
        empty = 0
        for key in range(1, self._keys + 1):
            user = self._user_on(row, key, held[key - 1] if key <= len(held) else "")
            if user is None:
                empty = empty or key
                continue
            if empty:
                self._fault(
                    f"line{key}_extension", f"Key {empty} is empty: lines stand on a phone's keys without gaps."
                )
            if user in users:
                self._fault(f"line{key}_extension", f"{user} is on another key of this phone already.")
            changes += self._line(row, key, user)
            users.append(user)
        return (*users, *(user for user in held[self._keys :] if user not in users)), changes

    def _user_on(self, row: Row, key: int, held: str) -> str | None:
        """The SIP user of the line on that key; None: the key is empty."""
        told = {name: row.cells.get(f"line{key}_{name}", "") for name in LINE_FIELDS}
        has_extension, has_user = (f"line{key}_{name}" in self._columns for name in ("extension", "sip_user"))
        if told["sip_user"]:
            return told["sip_user"]
        if told["extension"]:
            stored = self._known.lines.get(held)
            is_same = stored is not None and stored.extension == told["extension"] and not has_user
            return held if is_same else told["extension"]
        if not has_extension and not has_user:
            return held or None
        if any(told.values()):
            filled = next(name for name, text in told.items() if text)
            self._fault(f"line{key}_extension", f"line{key}_{filled} says something of a line that has no extension.")
        return None

    def _line(self, row: Row, key: int, user: str) -> list[str]:
        """Take in what the row tells of that line; gives the columns that change a stored one."""
        before = self._known.lines.get(user)
        values = self._line_values(row, key, user, before)
        line = self._lines.get(user)
        if line is None:
            line = self._lines[user] = WishedLine(user, self._number, before)
        for name, value in values.items():
            if name in line.values and line.values[name] != value:
                column = f"line{key}_{name.removesuffix('_id')}"
                self._fault(column, f"Line {user} is told otherwise on row {line.told_at}: a line is one everywhere.")
            line.values.setdefault(name, value)
        if before is None:
            return []
        moved = [name for name, value in values.items() if value != getattr(before, name)]
        return [f"line{key}_{name.removesuffix('_id')}" for name in moved]

    def _line_values(self, row: Row, key: int, user: str, before: KnownLine | None) -> dict[str, Any]:
        """Fields of `Line` by name, of the columns that are there; each checked."""
        values: dict[str, Any] = {}
        for name in LINE_FIELDS:
            column = f"line{key}_{name}"
            if column not in self._columns:
                continue
            text = row.cells.get(column, "")
            if name in _REFERENCES:
                names = self._pbxs if name == "pbx" else self._locations
                values[_REFERENCES[name]] = self._reference(row, column, names, None)
            elif name == "callback_number":
                values[name], faults = _callback(text, self._known.country)
                self._told(faults, column)
            elif name == "secret":
                values |= {"secret": text} if text else {}
                self._told(phone_rules.secret_faults(text or None), column)
            elif name == "sip_user":
                self._told(_sip_user_faults(user, self._known.countries) if text else (), column)
                self._refuse_shortened(column, text)
            else:
                values[name] = text
                self._told(self._text_faults(name, text), column)
                if name != "display_name":
                    self._refuse_shortened(column, text)
        if before is None and not values.get("extension"):
            values["extension"] = user
            self._told(_extension_faults(user, self._known.countries), f"line{key}_extension")
        return values

    def _refuse_shortened(self, column: str, text: str) -> None:
        if _SHORTENED.match(text):
            said = (
                f"{text} is what a spreadsheet makes of a long number, and its last digits are lost. Format the column "
                "as text, then type or paste it again."
            )
            self._fault(column, said)

    def _text_faults(self, name: str, text: str) -> Sequence[FieldFault]:
        if name == "extension":
            return _extension_faults(text, self._known.countries) if text else ()
        if name == "auth_user":
            return phone_rules.auth_user_faults(text)
        return phone_rules.text_faults(name, text)


_NONE: Any = object()
_NO_VENDOR = "Nobody's phones are known by this MAC address: write the vendor's name."
_LINE_COLUMN = re.compile(r"line(\d+)_")


def _why_no_mac(text: str) -> str:
    """What a spreadsheet does to addresses, in words."""
    if not text:
        return "Expected the phone's MAC address, got nothing."
    if _NUMBER_OF_EXCEL.match(text):
        return (
            f"{text} is what a spreadsheet makes of a MAC address it takes for a number, and the address is lost. "
            "Format the column as text, then type or paste the address again."
        )
    if _DIGITS_LOST.match(text):
        return (
            f"{text} has {len(text)} digits of 12: a spreadsheet drops leading zeros. Format the column as text, then "
            "type the address again."
        )
    return f"Expected a MAC address such as 80:5e:c0:12:34:56, got {text[:40]!r}."


def _no_model(profile: Profile, text: str) -> str:
    """Short, since a table may say it in every row: the nearest names alone."""
    near = difflib.get_close_matches(text.upper(), profile.models, n=3, cutoff=0.4)
    told = f"Nearest are {', '.join(near)}." if near else f"Such as {', '.join(list(profile.models)[:3])}."
    return f"Expected a {profile.title} model, got {text[:40]!r}. {told}" if text else f"Expected a model. {told}"


def _vendor_called(text: str) -> Profile | None:
    """A vendor by its name here or by its own (`Yealink`, `Cisco MPP`)."""
    wanted = csv_table.plain_heading(text)
    profiles = vendors.known().profiles
    return profiles.get(wanted) or next(
        (one for one in profiles.values() if csv_table.plain_heading(one.title) == wanted), None
    )


def _by_name(names: Mapping[str, str]) -> dict[str, list[str]]:
    """Identifiers by name in any case, and by themselves."""
    found: dict[str, list[str]] = {identity: [identity] for identity in names}
    for identity, name in names.items():
        found.setdefault(name.strip().casefold(), []).append(identity)
    return found


# the same extension and country stand in many rows
_extension_faults = lru_cache(20_000)(phone_rules.extension_faults)
_sip_user_faults = lru_cache(20_000)(phone_rules.sip_user_faults)


def _callback(text: str, country: str) -> tuple[str | None, Sequence[FieldFault]]:
    return phone_rules.callback_number(text, country) if text else (None, ())


# --- out again -------------------------------------------------------------------------------------------------------


def table_of(phones: Iterable[KnownPhone], known: Known) -> bytes:
    """The phones as a table that reads back as it stands; secrets are left out."""
    return b"".join(pieces_of(list(phones), known))


def pieces_of(rows: Sequence[KnownPhone], known: Known) -> Iterator[bytes]:
    """The same table, `PIECE` rows at a time."""
    told = {name for phone in rows for name in phone.settings}
    settings = [name for name in CHECKS if name in told]
    keys = max((len(phone.lines) for phone in rows), default=1) or 1
    columns = [*PHONE_COLUMNS, *settings, *(f"line{n}_{name}" for n in range(1, keys + 1) for name in LINE_FIELDS)]
    locations, pbxs = _written(known.locations), _written(known.pbxs)

    def cells(phone: KnownPhone) -> list[str]:
        found = [phone.mac, phone.vendor, phone.model, phone.label, locations.get(phone.location_id or "", "")]
        own = phone.settings
        found += [setting_out(name, own[name]) if name in own else "" for name in settings]
        for user in phone.lines:
            line = known.lines[user]
            sip_user = line.sip_user if line.sip_user != line.extension else ""
            found += (line.extension, line.display_name, sip_user, line.auth_user, "", line.callback_number or "")
            found += (locations.get(line.location_id or "", ""), pbxs.get(line.pbx_id or "", ""))
        found += [""] * (len(LINE_FIELDS) * (keys - len(phone.lines)))
        return found

    yield csv_table.write(columns, ())
    for at in range(0, len(rows), PIECE):
        yield csv_table.lines([cells(phone) for phone in rows[at : at + PIECE]])


def _written(names: Mapping[str, str]) -> dict[str, str]:
    """Each one's name where it is read back as that one, else its identifier."""
    taken = _by_name(names)
    return {
        identity: name if taken.get(name.strip().casefold()) == [identity] and name == name.strip() else identity
        for identity, name in names.items()
    }
