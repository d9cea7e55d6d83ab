"""Tables as CSV, as spreadsheets write and read them: text to rows with every fault by row and column, and back (pure).

Theory of operation. Excel writes CSV with a byte order mark, with `;` where the comma is the decimal sign, with `sep=;`
on the first line, or with tabs in UTF-16 ("Unicode text"); it drops leading zeros and turns long numbers into
`8.05E+11`. The first three are read as they come; the last is the reader's matter, since only it knows what stands in a
column. RFC 4180 names the rest: quotes around cells, doubled inside, line breaks in them.

What is no UTF-8 is told cell by cell, with the letter that the byte is in Windows' code page 1252: a list saved as
plain “CSV” has it in a few names. A file of another kind is known by how it begins, and told by its name.

A cell that begins with `=`, `+`, `-` or `@` is a formula to a spreadsheet (OWASP, CSV Injection). It is written
with an apostrophe before them, as one types a text that looks like a formula; one leading apostrophe is taken off on
the way in. A text that begins with an apostrophe itself gets a second, so that everything comes back as it went.
"""

import codecs
import csv
import difflib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

MAX_BYTES = 8 * 1024 * 1024
MAX_COLUMNS = 600
MAX_CELL_CHARACTERS = 8_000
SEPARATORS = (",", ";", "\t")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")
_SEP_LINE = re.compile(r"sep=(.)\r?\n")
_BETWEEN_WORDS = re.compile(r"[\s._/-]+")


@dataclass(frozen=True, slots=True)
class CellFault:
    """What is wrong and where. `row`: as a spreadsheet counts, the header is 1; 0 is the file. `column`: its heading
    as it stands in the file, empty for the whole row.
    """

    row: int
    column: str
    detail: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: cells by the column's name. `number`: as a spreadsheet counts."""

    number: int
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table that was read. `columns`: names in the file's order; `headings`: how the file spells each."""

    columns: tuple[str, ...]
    headings: Mapping[str, str]
    rows: tuple[Row, ...]
    faults: tuple[CellFault, ...] = ()


def plain_heading(text: str) -> str:
    """A heading without its spelling: `MAC Address`, `mac-address` and `mac_address` are one."""
    return _BETWEEN_WORDS.sub("_", text.strip().casefold()).strip("_")


def read(data: bytes, known: Iterable[str], *, spellings: Mapping[str, str], max_rows: int) -> Sheet:
    """Read a table.

    Args:
        known: names of columns; others are faults.
        spellings: other headings for them, in `plain_heading`'s form.
        max_rows: more are a fault, and nothing is read.
    """
    text, fault = _text_of(data)
    if fault is not None:
        return Sheet((), {}, (), (CellFault(0, "", fault),))
    separator, text = _separator(text)
    found, faults = _records(text, separator, max_rows)
    if not found:
        return Sheet((), {}, (), tuple(faults) or (CellFault(0, "", _EMPTY),))
    rows = [(number, [_NO_UTF8.sub("\ufffd", cell) for cell in cells]) for number, cells in found]
    columns, headings, wrong = _columns(rows[0][1], tuple(known), spellings)
    faults += _unread(found) + wrong
    if not columns:  # more than are read: under no heading, every row would only be told to be wrong as well
        return Sheet((), {}, (), tuple(faults))
    read_rows = []
    for number, cells in rows[1:]:
        if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
            extra = f"The row has {len(cells)} cells, the header {len(columns)}. Is a quote or separator missing?"
            faults.append(CellFault(number, "", extra))
        named = {name: cell_in(cell) for name, cell in zip(columns, cells, strict=False) if name}
        long = [name for name, cell in named.items() if len(cell) > MAX_CELL_CHARACTERS]
        faults += [CellFault(number, headings[name], _TOO_LONG) for name in long]
        read_rows.append(Row(number, named))
    return Sheet(tuple(name for name in columns if name), headings, tuple(read_rows), tuple(faults))


_EMPTY = "The file is empty: nothing stands in any of its cells. The first row names the columns."
_TOO_LONG = f"Expected at most {MAX_CELL_CHARACTERS} characters in a cell. Is a closing quote missing?"


def write(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """The table as UTF-8 with a byte order mark, commas and CRLF: what Excel opens without asking (RFC 4180)."""
    return codecs.BOM_UTF8 + lines([columns]) + lines(rows)


def lines(rows: Iterable[Sequence[str]]) -> bytes:
    """Further rows of a table that is written piece by piece."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows([cell_out(cell) for cell in row] for row in rows)
    return out.getvalue().encode("utf-8", "replace")


def cell_out(text: str) -> str:
    """A cell no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def cell_in(text: str) -> str:
    """The cell as it was meant: without the space around it and without one leading apostrophe."""
    plain = text.strip()
    return plain.removeprefix("'")


def _text_of(data: bytes) -> tuple[str, str | None]:
    """The file as text, or why it is none. A byte that is no UTF-8 is left in it, as `surrogateescape` writes it."""
    if kind := _kind_of(data):
        return "", f"This is {kind[0]}, no CSV. {kind[1]}"
    if len(data) > MAX_BYTES:
        return "", f"The file has {len(data):,} bytes; at most {MAX_BYTES:,} are taken. Import it in parts."
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # that of UTF-32 begins in the same way
        encoding = "UTF-32" if data.startswith(codecs.BOM_UTF32_LE) else "UTF-16"
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as exc:
            row = data[: exc.start].decode(encoding, "replace").count("\n") + 1
            why = f"it begins as {encoding}, and from byte {exc.start + 1:,} on, in row {row:,}, it is none"
            return "", f"The file is no text: {why}. {_SAVE}"
    else:
        text = data.decode("utf-8-sig", "surrogateescape")
    if "\0" not in text:
        return text, None
    at = text.index("\0")
    if data[:200].count(0) * 3 > len(data[:200]):
        return "", f"The file is UTF-16 without a byte order mark, which could be read in two ways. {_SAVE}"
    return "", f"The file is no text: it holds a NUL character, in row {text.count(chr(10), 0, at) + 1:,}. {_SAVE}"


def _kind_of(data: bytes) -> tuple[str, str] | None:
    """What a file of another kind is, and what to do with it; None: it may be a table."""
    if data.startswith(b"PK\x03\x04"):  # the names of what is in a ZIP archive stand in it as they are
        if b"opendocument.spreadsheet" in data[:200]:
            return "a LibreOffice spreadsheet (.ods)", _IN_LIBREOFFICE
        if b"xl/" in data:
            return "an Excel workbook (.xlsx)", _IN_EXCEL
        if b"Index/Document.iwa" in data:
            return "a Numbers spreadsheet", "In Numbers: File, Export To, CSV, Unicode (UTF-8); then send that file."
        return "a ZIP archive", "Take the table out of it, and send that as CSV."
    head = data[:1_000].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    return next((told for begins, *told in _KINDS if head.startswith(begins)), None)  # type: ignore[return-value]


_SAVE = "In Excel, save it as “CSV UTF-8”."
_IN_EXCEL = "In Excel: File, Save As, “CSV UTF-8 (Comma delimited)”; then send that file."
_IN_LIBREOFFICE = "In LibreOffice: File, Save As, “Text CSV”, character set UTF-8; then send that file."
_EXPORT = "Save the table as CSV UTF-8 in the program that it comes from, and send that file."
_KINDS = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)", _IN_EXCEL),
    (b"%pdf-", "a PDF", _EXPORT),
    (b"{\\rtf", "a formatted text (.rtf)", _EXPORT),
    (b"<!doctype", "a web page", _EXPORT),
    (b"<html", "a web page", _EXPORT),
    (b"<?xml", "an XML file", _EXPORT),
    (b"\x89png", "a picture", _EXPORT),
    (b"\xff\xd8\xff", "a picture", _EXPORT),
    (b"gif8", "a picture", _EXPORT),
    (b"\x1f\x8b", "a compressed file (.gz)", "Unpack it, and send the table that is in it."),
)
_NO_UTF8 = re.compile("[\udc80-\udcff]")


def _unread(rows: Sequence[tuple[int, list[str]]]) -> list[CellFault]:
    """Every cell with a byte that is no UTF-8, and which byte that is."""
    header = rows[0][1]
    faults = []
    for number, cells in rows:
        for at, cell in enumerate(cells):
            if (match := _NO_UTF8.search(cell)) is None:
                continue
            byte = ord(match[0]) - 0xDC00
            letter = bytes([byte]).decode("cp1252", "replace")
            before = _NO_UTF8.sub("\ufffd", cell[max(0, match.start() - 20) : match.start()]).strip()
            where = f" behind “{before}”" if before else ""
            meant = f", which in Windows' code page 1252 is “{letter}”" if letter != "\ufffd" else ""
            heading = cell_in(header[at]) if at < len(header) else ""
            column = _NO_UTF8.sub("\ufffd", heading)[:80] or f"column {at + 1}"
            faults.append(CellFault(number, column, f"No UTF-8 text: byte {byte:02X}{where}{meant}. {_SAVE}"))
    return faults


def _separator(text: str) -> tuple[str, str]:
    """What parts the cells, and the text without Excel's `sep=` line."""
    named = _SEP_LINE.match(text)
    if named is not None and named[1] in SEPARATORS:
        return named[1], text[named.end() :]
    return separator_of(text.lstrip().split("\n", 1)[0]), text


def separator_of(header: str) -> str:
    """What parts the cells of that line."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(SEPARATORS, key=bare.count)


def _records(text: str, separator: str, max_rows: int) -> tuple[list[tuple[int, list[str]]], list[CellFault]]:
    """Rows with something in them, numbered as a spreadsheet does. A quote that does not end spoils all behind it, and
    the rows before it are read.
    """
    rows: list[tuple[int, list[str]]] = []
    number = 0
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), 1):
            if not any(cell.strip() for cell in cells):
                continue
            if len(rows) > max_rows:
                return [], [CellFault(0, "", f"The file has more than {max_rows:,} rows. Import it in parts.")]
            rows.append((number, cells))
    except csv.Error as exc:
        detail = f"The row cannot be read: {exc}. A quote inside a quoted cell is doubled, and each cell's quote ends."
        return rows, [CellFault(number + 1, "", detail)]
    return rows, []


def _columns(
    cells: Sequence[str], known: tuple[str, ...], spellings: Mapping[str, str]
) -> tuple[list[str], dict[str, str], list[CellFault]]:
    """The columns' names (empty: one that is not known; none: there are too many), how each is spelled, what is wrong
    with the header.
    """
    faults: list[CellFault] = []
    names: list[str] = []
    headings: dict[str, str] = {}
    if len(cells) > MAX_COLUMNS:
        return [], {}, [CellFault(1, "", f"The header has {len(cells)} columns; at most {MAX_COLUMNS} are read.")]
    plain = {plain_heading(name): name for name in known} | dict(spellings)
    for at, cell in enumerate(cells, 1):
        heading = cell_in(cell)
        name = plain.get(plain_heading(heading), "")
        if not heading:
            if at < len(cells) or any(cells[at:]):
                faults.append(CellFault(1, "", f"Column {at} has no heading."))
        elif not name:
            faults.append(CellFault(1, heading[:80], f"There is no such column.{_meant(heading, plain)}"))
        elif name in headings:
            faults.append(CellFault(1, heading[:80], f"This column is there twice: {headings[name]} is the same."))
            name = ""
        else:
            headings[name] = heading
        names.append(name)
    if not headings and not faults:  # a lone apostrophe is a heading of no letters
        faults.append(CellFault(1, "", "The first row names no column."))
    return names, headings, faults


def _meant(heading: str, plain: Mapping[str, str]) -> str:
    """The nearest heading that is read, as it is nearest: a plain word is told as one, not as the column's code."""
    near = difflib.get_close_matches(plain_heading(heading), plain, n=1, cutoff=0.7)
    if not near:
        return ""
    name = plain[near[0]]
    return f" Is {name if plain_heading(name) == near[0] else near[0].replace('_', ' ')} meant?"
