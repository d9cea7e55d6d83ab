"""Tables as spreadsheets write them: read with every fault by row and column, written so that they read back."""

import gzip
import io
import zipfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine import csv_table
from engine.csv_table import CellFault, Sheet

KNOWN = ("mac", "label", "ntp_server")


def archive(*names: str) -> bytes:
    """A ZIP archive with files of these names, as office programs write it: a `mimetype` first, not compressed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in names:
            text = "application/vnd.oasis.opendocument.spreadsheet" if name == "mimetype" else "<xml/>"
            packed.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_STORED if name == "mimetype" else None)
    return out.getvalue()


def _read(data: bytes) -> Sheet:
    return csv_table.read(data, KNOWN, spellings={"mac_address": "mac"}, max_rows=100)


@pytest.mark.parametrize(
    "data",
    [
        b"mac,label\r\n1,one\r\n",
        b"\xef\xbb\xbfmac;label\n1;one\n",
        b"mac\tlabel\n1\tone",
        b"sep=;\r\nmac;label\r\n1;one\r\n",
        "mac\tlabel\r\n1\tone\r\n".encode("utf-16"),
        b"\xfe\xff" + "mac,label\r\n1,one\r\n".encode("utf-16-be"),
        "mac,label\r\n1,one\r\n".encode("utf-32"),
        b'"mac","label"\r\n"1","one"\r\n',
        b" MAC Address , Label \n 1 , one \n,,\n\n",
    ],
    ids=[
        "comma",
        "bom and semicolon",
        "tab",
        "Excel's sep=",
        "Excel's Unicode text",
        "UTF-16 BE",
        "UTF-32",
        "quoted",
        "spaces, empty rows",
    ],
)
def test_a_table_is_read_however_a_spreadsheet_wrote_it(data: bytes) -> None:
    """P-19: separators, byte order marks and spellings of headings are no faults."""
    sheet = _read(data)
    assert sheet.faults == ()
    assert [dict(row.cells) for row in sheet.rows] == [{"mac": "1", "label": "one"}]
    assert sheet.rows[0].number == 2


def test_rows_are_counted_as_a_spreadsheet_counts_them() -> None:
    """P-19: a line break inside a quoted cell begins no row; an empty row counts, and is left out."""
    sheet = _read(b'mac,label\r\n1,"two\r\nlines"\r\n\r\n2,next\r\n')
    assert [(row.number, row.cells["label"]) for row in sheet.rows] == [(2, "two\r\nlines"), (4, "next")]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", (0, "", "The file is empty")),
        (b"\xef\xbb\xbf \r\n", (0, "", "The file is empty")),
        (b"sep=;\r\n", (0, "", "The file is empty")),
        (b',,\r\n"",""\r\n', (0, "", "The file is empty")),
        (b"'\r\n", (1, "", "names no column")),
        (b"mac,label\n\xff\xfe,x", (2, "mac", "byte FF, ")),
        ("mac,label\n1,one\n2,Café\n".encode("cp1252"), (3, "label", "byte E9 behind “Caf”, which in Windows")),
        ("mac,label\n1,Café\n".encode("cp1252"), (2, "label", "is “é”. In Excel, save it as “CSV UTF-8”.")),
        ("mac,label\n1,Zo\u0308\n".encode()[:-2], (2, "label", "byte CC behind “Zo”")),
        (b"mac,lab\xe9l\n1,x\n", (1, "lab\ufffdl", "byte E9 behind “lab”")),
        (b"mac,label\n1,x,\xe9\n", (2, "column 3", "byte E9")),
        (b"mac,label\n1,\x81\n", (2, "label", "byte 81. In Excel")),
        (b"mac\x00,label\n", (0, "", "a NUL character, in row 1")),
        ("mac,label\n1,one\n".encode("utf-16-le"), (0, "", "UTF-16 without a byte order mark")),
        ("mac,label\n1,one\n".encode("utf-16")[:-1], (0, "", "from byte 33 on, in row 2")),
        (b"mac,labell\n1,x\n", (1, "labell", "Is label meant?")),
        (b"MAC adress,label\n1,x\n", (1, "MAC adress", "Is mac address meant?")),
        (b"mac,MAC address\n1,x\n", (1, "MAC address", "there twice")),
        (b"mac,,label\n1,x,y\n", (1, "", "Column 2 has no heading")),
        (b"mac,label\n1,x,y\n", (2, "", "3 cells, the header 2")),
        (b'mac,label\n1,"x\n2,y\n', (2, "", "cannot be read")),
        (b'mac,label\n1,"x"y\n', (2, "", "cannot be read")),
        (b"mac,label\n" + b"1,x\n" * 101, (0, "", "more than 100 rows")),
        (b"mac,label\n1," + b"x" * 9_000, (2, "label", "at most 8000 characters")),
    ],
)
def test_what_cannot_be_read_is_told_by_row_and_column(data: bytes, fault: tuple[int, str, str]) -> None:
    """P-19: every fault of the file names its place."""
    found = _read(data).faults
    assert any((one.row, one.column) == fault[:2] and fault[2] in one.detail for one in found), found


@pytest.mark.parametrize(
    ("data", "kind", "what"),
    [
        (archive("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook (.xlsx)", "CSV UTF-8 (Comma delimited)"),
        (archive("mimetype", "content.xml"), "a LibreOffice spreadsheet (.ods)", "“Text CSV”, character set UTF-8"),
        (archive("Index/Document.iwa"), "a Numbers spreadsheet", "Export To, CSV"),
        (archive("phones.csv"), "a ZIP archive", "Take the table out of it"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "an old Excel workbook (.xls)", "CSV UTF-8"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF", "Save the table as CSV UTF-8"),
        (b"{\\rtf1\\ansi mac,label}", "a formatted text (.rtf)", "Save the table"),
        (b"\r\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "a web page", "Save the table"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><phones/>", "an XML file", "Save the table"),
        (b"\x89PNG\r\n\x1a\n", "a picture", "Save the table"),
        (gzip.compress(b"mac,label\n1,one\n"), "a compressed file (.gz)", "Unpack it"),
    ],
    ids=lambda one: one if isinstance(one, str) and one.startswith("a") else "",
)
def test_a_file_of_another_kind_is_told_by_its_name_with_what_to_do(data: bytes, kind: str, what: str) -> None:
    """P-19: whoever sends the workbook itself learns which menu makes a table of it; of any size."""
    for sent in (data, data + bytes(csv_table.MAX_BYTES)):
        (fault,) = _read(sent).faults
        assert (fault.row, fault.column) == (0, "")
        assert fault.detail.startswith(f"This is {kind}, no CSV.")
        assert what in fault.detail


def test_every_cell_that_is_no_utf_8_is_told_and_the_rest_is_read() -> None:
    """P-19: a list saved as plain CSV has its accents in some names only; all of them are found at once."""
    sheet = _read("mac,label\n1,Café\n2,Bar\n3,Zoë\n".encode("cp1252"))
    assert [(fault.row, fault.column) for fault in sheet.faults] == [(2, "label"), (4, "label")]
    assert [row.cells["label"] for row in sheet.rows] == ["Caf\ufffd", "Bar", "Zo\ufffd"]


def test_a_header_of_ten_thousand_columns_is_one_fault_and_no_row_is_read_under_it() -> None:
    """P-19: what is wrong is the header; nobody is told of each row that it has no address of its own."""
    header, row = ",".join(f"line{at}_extension" for at in range(10_000)), ",".join("1" * 10_000)
    sheet = _read(f"{header}\n{row}\n{row}\n".encode())
    assert sheet.rows == ()
    assert sheet.faults == (CellFault(1, "", "The header has 10000 columns; at most 600 are read."),)


def test_a_file_too_large_is_refused_before_it_is_parsed() -> None:
    """P-19: the limit is told with its number."""
    assert "8,388,608" in _read(b"mac\n" + b"1\n" * (5 << 20)).faults[0].detail


@pytest.mark.parametrize(
    "text", ["=1+1", "+12125550123", "-2", "@SUM(A1)", "'quoted", "\uff1dcmd", "=cmd|'/c calc'!A0"]
)
def test_no_cell_is_a_formula_to_a_spreadsheet(text: str) -> None:
    """P-19: what would be carried out gets an apostrophe, and loses it on the way in."""
    written = csv_table.write(("mac", "label"), [("1", text)])
    cell = written.decode("utf-8-sig").splitlines()[1].partition(",")[2].strip('"')
    assert cell.startswith("'")
    assert _read(written).rows[0].cells["label"] == text


@given(st.lists(st.lists(st.text(max_size=40), min_size=3, max_size=3), max_size=8))
def test_what_is_written_reads_back_the_same(rows: list[list[str]]) -> None:
    """P-19: any text survives, but for the space around it and characters that are none."""
    plain = [[cell.replace("\0", "").strip() for cell in row] for row in rows]
    plain = [[cell.encode("utf-8", "ignore").decode() for cell in row] for row in plain]
    sheet = _read(csv_table.write(KNOWN, plain))
    assert sheet.faults == ()
    kept = [row for row in plain if any(cell for cell in row)]
    assert [[row.cells[name] for name in KNOWN] for row in sheet.rows] == [
        [cell.strip() for cell in row] for row in kept
    ]


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xff\xfe")
@example(b",")
@example(b"'")
@example(b'"\n"')
def test_any_bytes_are_a_table_or_have_a_fault(data: bytes) -> None:
    """P-19: nothing that is sent breaks the reader."""
    sheet = _read(data)
    assert all(isinstance(fault, CellFault) for fault in sheet.faults)
    assert sheet.rows or sheet.faults or sheet.columns
