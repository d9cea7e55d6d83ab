"""Tables of phones and locations over the API and the pages, on a real database."""

import asyncio
import html
import io
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from sqlalchemy import event as sql_event
from sqlalchemy import func, select

from admin import importing
from engine import csv_table, db
from engine.accounts import store
from engine.audit.verify import export_line, verify
from engine.crypto import KeyRing
from engine.db import BUSY_TIMEOUT_S
from engine.e911.calls import Recorder
from engine.e911.journal import JournalWriter
from engine.models import EmergencyCall, Line, Location, Phone, PhoneLine, Revision
from engine.provisioning import imports
from tests.unit.admin.adminport import CIVIC, AdminPort, Site
from tests.unit.e911_records.entries import call_entry
from tests.unit.test_csv_table import archive

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

TABLE = (
    "mac,vendor,model,label,location,line1_extension,line1_secret\n"
    "80:5e:c0:00:00:01,Yealink,T46U,Front,Headquarters,201,s3cret-201\n"
    "80:5e:c0:00:00:02,Yealink,T46U,Back,Headquarters,202,s3cret-202\n"
    "80:5e:c0:00:00:03,Yealink,T46U,Hall,,201,s3cret-201\n"
)


async def _location(port: AdminPort, site: Site, name: str = "Headquarters") -> str:
    body = {"name": name, "civic_address": CIVIC}
    return (await (await port.call("POST", "/api/v1/locations", site.auth, json=body)).json())["id"]


async def _import(port: AdminPort, site: Site, table: str | bytes, **query: str) -> tuple[int, dict[str, Any]]:
    data = table.encode() if isinstance(table, str) else table
    headers = site.auth | {"Content-Type": "text/csv"}
    answer = await port.call("POST", "/api/v1/imports", headers, params=query, data=data)
    return answer.status, await answer.json()


async def _counts(port: AdminPort) -> dict[str, int]:
    async with port.database.sessions() as session:
        return {
            model.__tablename__: await session.scalar(select(func.count()).select_from(model)) or 0
            for model in (Phone, Line, PhoneLine, Location)
        }


async def test_a_dry_run_says_what_would_happen_and_stores_nothing(port: AdminPort, site: Site) -> None:
    """P-19: three new rows, nothing stored, one entry that only reads."""
    await _location(port, site)
    before = await _counts(port)
    status, report = await _import(port, site, TABLE, dry_run="true")
    assert status == 200
    assert (report["new"], report["dry_run"], report["bulk_id"], report["faults"]) == (3, True, None, [])
    assert [row["outcome"] for row in report["rows"]] == ["new"] * 3
    assert await _counts(port) == before
    assert (await port.entries(site.account.id))[-1].event == "import.check"


async def test_an_import_stores_every_row_with_an_entry_each(port: AdminPort, site: Site) -> None:
    """P-19: phones, the line that two of them share, their keys; the chain holds, and no secret is in it."""
    await _location(port, site)
    before = len(await port.entries(site.account.id))
    status, report = await _import(port, site, TABLE)
    assert (status, report["new"]) == (200, 3)
    assert await _counts(port) == {"phone": 3, "line": 2, "phone_line": 3, "location": 1}
    entries = await port.entries(site.account.id)
    fresh = [json.loads(entry.entry) for entry in entries[before:]]
    assert [one["event"] for one in fresh if one["bulk_id"] is None] == ["import.create"]
    parts = [one for one in fresh if one["bulk_id"] == report["bulk_id"]]
    assert sorted(one["event"] for one in parts) == ["line.create"] * 2 + ["phone.create"] * 3
    assert "s3cret" not in "\n".join(entry.entry for entry in entries)
    assert parts[0]["changes"]["secret"]["after"]["redacted"] is True
    assert verify([export_line(entry) for entry in entries]).holds


async def test_a_table_that_was_exported_changes_nothing(port: AdminPort, site: Site) -> None:
    """P-19: export, import: all unchanged; the secrets are not in the file and stay where they are."""
    await _location(port, site)
    await _import(port, site, TABLE)
    answer = await port.call("GET", "/api/v1/exports/phones", site.auth)
    table = await answer.read()
    assert answer.content_type == "text/csv"
    assert b"s3cret" not in table
    status, report = await _import(port, site, table)
    assert (status, report["unchanged"], report["new"], report["changed"]) == (200, 3, 0, 0)
    async with port.database.sessions() as session:
        secrets = (await session.scalars(select(Line.secret).order_by(Line.extension))).all()
    assert secrets == ["s3cret-201", "s3cret-202"]


async def test_an_export_of_many_phones_is_whole_and_lets_everybody_else_go_on(port: AdminPort, site: Site) -> None:
    """P-19: more phones than are read at a time, some with two lines, some with a line that others have too, some with
    none; while they are read and written the loop does other work again and again.
    """
    await _location(port, site)
    head = "mac,vendor,model,label,location,ntp_server,line1_extension,line1_display_name,line2_extension\n"
    rows = [
        f"805ec0{at:06x},yealink,T46U,Desk {at},{'Headquarters' if at % 2 else ''},{'10.0.0.1' if at == 650 else ''},"
        + (f"{2000 + at // 3},Zoë {at // 3},{9000 + at if at % 7 == 3 else ''}\n" if at % 7 else ",,\n")
        for at in range(700)
    ]
    assert (await _import(port, site, head + "".join(rows)))[0] == 200
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(others())
    table = await importing.export(port.database, site.account, importing.Kind.PHONES)
    other.cancel()
    assert turns > 10
    told = csv_table.read(table, imports.COLUMNS, spellings={}, max_rows=700)
    sent = csv_table.read((head + "".join(rows)).encode(), imports.COLUMNS, spellings={}, max_rows=700)
    kept = [{name: cell for name, cell in row.cells.items() if cell and name != "line1_sip_user"} for row in told.rows]
    wished = [{name: cell for name, cell in row.cells.items() if cell} for row in sent.rows]
    assert sorted(kept, key=lambda row: row["mac"]) == wished
    assert (await _import(port, site, table))[1]["unchanged"] == 700


async def test_changed_rows_are_written_and_outdate_their_phones(port: AdminPort, site: Site) -> None:
    """P-19: the label, the line's name and secret; the version moves, the phone that was current is stale."""
    await _location(port, site)
    await _import(port, site, TABLE)
    async with port.database.sessions.begin() as session:
        for phone in (await session.scalars(select(Phone))).all():
            phone.status = "current"
    table = (
        "mac,label,line1_extension,line1_display_name,line1_secret,line2_extension\n"
        "805ec0000001,Reception,201,Ann,n3w-one,203\n"
        "805ec0000002,Back,202,,,\n"
    )
    status, report = await _import(port, site, table)
    assert (status, report["changed"], report["unchanged"]) == (200, 1, 1)
    assert report["rows"][0]["changes"] == ["label", "lines", "line1_display_name", "line1_secret"]
    async with port.database.sessions() as session:
        phones = {phone.mac: phone for phone in (await session.scalars(select(Phone))).all()}
        line = (await session.scalars(select(Line).where(Line.extension == "201"))).one()
        keys = (
            await session.scalars(select(PhoneLine.key).where(PhoneLine.phone_id == phones["805ec0000001"].id))
        ).all()
    assert (phones["805ec0000001"].label, phones["805ec0000001"].version, sorted(keys)) == ("Reception", 2, [1, 2])
    assert (line.display_name, line.secret, line.version) == ("Ann", "n3w-one", 2)
    # the third phone shares line 201: its configuration is another one now, too
    assert {mac: phone.status for mac, phone in phones.items()} == {
        "805ec0000001": "stale", "805ec0000002": "current", "805ec0000003": "stale",
    }  # fmt: skip


async def test_a_table_with_one_fault_stores_nothing(port: AdminPort, site: Site) -> None:
    """P-19: all or nothing; the problem names every fault by row and column."""
    await _location(port, site)
    before = await _counts(port)
    status, problem = await _import(port, site, TABLE + "80:5e:c0:00:00:04,Yealink,T46U,Bad,Nowhere,911,x\n")
    assert status == 422
    assert [error["field"] for error in problem["errors"]] == [
        "row 5, column location",
        "row 5, column line1_extension",
    ]
    assert await _counts(port) == before
    entry = (await port.entries(site.account.id))[-1]
    assert (entry.event, entry.outcome) == ("import.create", "failure")


async def test_an_import_moves_the_revision_so_that_phones_get_it(port: AdminPort, site: Site) -> None:
    """P-19: renderings and the location table are made anew after an import."""
    await _location(port, site)

    async def revision() -> int:
        async with port.database.sessions() as session:
            return await session.scalar(select(Revision.value).where(Revision.account_id == site.account.id)) or 0

    before = await revision()
    await _import(port, site, TABLE)
    assert await revision() == before + 1


async def test_a_table_checked_before_another_change_is_refused(port: AdminPort, site: Site) -> None:
    """P-19: the import of something that was looked at before somebody else's change stores nothing."""
    from admin import importing

    await _location(port, site)
    checked = await importing.check(port.database, site.account, importing.Kind.PHONES, TABLE.encode())
    made = await importing.prepare(port.database, site.account, checked)
    await _location(port, site, "Annex")
    from engine.errors import Conflict
    from tests.unit.admin.adminport import CLI

    with pytest.raises(Conflict, match="changed while the table was being checked"):
        async with port.database.sessions.begin() as session:
            account = await store.account_by_id(session, site.account.id)
            assert account is not None
            await importing.carry_out(session, CLI, account, made)
    assert (await _counts(port))["phone"] == 0


async def test_locations_come_and_go_as_a_table(port: AdminPort, site: Site) -> None:
    """P-19: plain words for address elements, a changed row is a draft again, export and import change nothing."""
    table = (
        "name;country;state;city;street;street type;house number;zip;floor;latitude;longitude;recipients\n"
        "Annex;US;NY;Albany;Washington;Ave;120;12203;3;42,65;-73.75;a@acme.example b@acme.example\n"
    )
    status, report = await _import(port, site, table, kind="locations")
    assert (status, report["new"]) == (200, 1), report
    stored = (await (await port.call("GET", "/api/v1/locations", site.auth)).json())["data"][0]
    assert stored["civic_address"] == CIVIC | {"FLR": "3"}
    assert stored["geo"]["latitude"] == 42.65
    assert stored["notification_recipients"] == ["a@acme.example", "b@acme.example"]
    exported = await (await port.call("GET", "/api/v1/exports/locations", site.auth)).read()
    status, report = await _import(port, site, exported, kind="locations")
    assert (status, report["unchanged"]) == (200, 1), report
    status, problem = await _import(
        port, site, "name,country,PC\nAnnex,US,nonsense\nAnnex,US,12203\n", kind="locations"
    )
    assert status == 422
    assert [error["field"] for error in problem["errors"]] == ["row 2, column PC", "row 3, column name"]


@pytest.mark.parametrize(
    ("query", "content_type", "status"),
    [
        ({"kind": "lines"}, "text/csv", 422),
        ({"dry_run": "maybe"}, "text/csv", 422),
        ({"nonsense": "1"}, "text/csv", 422),
        ({}, "application/json", 415),
        ({}, "text/csv", 422),
    ],
)
async def test_what_is_no_import_is_refused(
    port: AdminPort, site: Site, query: dict[str, str], content_type: str, status: int
) -> None:
    """P-19: an unknown kind, a body of another kind, an empty file."""
    headers = site.auth | {"Content-Type": content_type}
    answer = await port.call("POST", "/api/v1/imports", headers, params=query, data=b"")
    assert answer.status == status


async def test_a_house_number_left_in_the_street_is_a_fault_that_names_its_column(port: AdminPort, site: Site) -> None:
    """P-19: no address is stored whose number nobody finds; a numbered street stays one."""
    table = "name,country,state,city,street,zip\nAnnex,US,NY,Albany,120 Washington Ave,12203\n"
    status, report = await _import(port, site, table, kind="locations", dry_run="true")
    assert status == 200
    (fault,) = report["faults"]
    assert (fault["row"], fault["column"]) == (2, "street")
    assert "Put '120' into a column “house number” and 'Washington Ave' here" in fault["detail"]
    good = "name,country,state,city,house number,street,zip\nAnnex,US,NY,Albany,120,42nd Street,12203\n"
    _status, report = await _import(port, site, good, kind="locations", dry_run="true")
    assert (report["new"], report["faults"]) == (1, [])
    assert report["rows"][0]["label"].startswith("120 42nd Street, ")


async def test_locations_take_their_own_scope(port: AdminPort, site: Site) -> None:
    """P-19: a key that may write phones may not write locations."""
    narrow = await port.key(site, "phones:write")
    headers = narrow | {"Content-Type": "text/csv"}
    answer = await port.call("POST", "/api/v1/imports", headers, params={"kind": "locations"}, data=b"name\nx\n")
    assert answer.status == 403


async def test_a_table_larger_than_the_limit_is_refused(port: AdminPort, site: Site) -> None:
    """P-19: other routes still take one mebibyte, this one eight."""
    headers = site.auth | {"Content-Type": "text/csv"}
    assert (await port.call("POST", "/api/v1/imports", headers, data=io.BytesIO(b"x" * (9 << 20)))).status == 413
    two = io.BytesIO(json.dumps({"name": "x" * (2 << 20), "scopes": ["*"]}).encode())
    headers = site.auth | {"Content-Type": "application/json"}
    assert (await port.call("POST", "/api/v1/api-keys", headers, data=two)).status == 413


async def test_keys_that_a_model_has_no_room_for_are_a_fault_of_their_row(port: AdminPort, site: Site) -> None:
    """P-19: function keys and files are held against the model and the account, as where a phone is saved by itself."""
    keys = json.dumps([{"position": 290, "kind": "blf", "value": "102"}]).replace('"', '""')
    table = f'mac,vendor,model,function_keys,logo\n805ec0000001,yealink,T46U,"{keys}",nothing.png\n'
    status, report = await _import(port, site, table, dry_run="true")
    assert status == 200
    assert [(fault["row"], fault["column"]) for fault in report["faults"]] == [(2, "function_keys"), (2, "logo")]
    assert report["rows"][0]["outcome"] == "error"


async def test_a_key_s_label_that_a_format_cannot_hold_is_told_by_row_column_and_key(
    port: AdminPort, site: Site
) -> None:
    """P-19, P-11: a quote in the label of one key of a Mitel; the phone beside it takes the very same."""
    keys = json.dumps([{"position": 4, "kind": "blf", "value": "102", "label": 'Bar "7"'}]).replace('"', '""')
    table = f'mac,vendor,model,function_keys\n805ec0000001,yealink,T46U,"{keys}"\n00085d000002,mitel,6867i,"{keys}"\n'
    status, report = await _import(port, site, table, dry_run="true")
    assert status == 200
    assert [(fault["row"], fault["column"]) for fault in report["faults"]] == [(3, "function_keys")]
    detail = report["faults"][0]["detail"]
    assert detail.startswith('The label of key 4: Mitel phones cannot be given " (U+0022) at place 5')


async def test_a_file_that_many_phones_name_is_looked_for_once(port: AdminPort, site: Site) -> None:
    """P-19: 300 rows that name a logo which is not there are 300 faults, each by its row, and one question."""
    asked: list[str] = []
    sql_event.listen(port.database.engine.sync_engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    rows = (f"805ec0{at:06x},yealink,T46U,company.dob\n" for at in range(300))
    status, report = await _import(port, site, "mac,vendor,model,logo\n" + "".join(rows), dry_run="true")
    assert (status, report["errors"]) == (200, 300)
    assert [fault["row"] for fault in report["faults"]] == list(range(2, 302))
    assert {fault["column"] for fault in report["faults"]} == {"logo"}
    assert sum("FROM asset" in statement for statement in asked) == 1
    assert not any("FROM phone_line" in statement for statement in asked), "none of them is there to have keys"


async def test_a_quarantined_phone_is_let_go_when_a_table_takes_its_new_model(port: AdminPort, site: Site) -> None:
    """P-05: the kept model has become the one it says it is."""
    await _location(port, site)
    await _import(port, site, TABLE)
    async with port.database.sessions.begin() as session:
        phone = (await session.scalars(select(Phone).where(Phone.mac == "805ec0000001"))).one()
        phone.status, phone.seen_vendor, phone.seen_model = "quarantined", "yealink", "T54W"
    status, _report = await _import(port, site, "mac,model\n805ec0000001,T54W\n")
    assert status == 200
    async with port.database.sessions() as session:
        phone = (await session.scalars(select(Phone).where(Phone.mac == "805ec0000001"))).one()
    assert (phone.model, phone.status, phone.seen_model) == ("T54W", "stale", None)


async def test_calls_are_recorded_beside_a_large_import(
    port: AdminPort, site: Site, keys: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-19, E-12: while 4,000 phones come in, the recorder puts 911 calls of the same account into the database, each
    before a writer would give up; then every row is there, one entry for each, and the chain holds.
    """
    monkeypatch.setattr(db, "BUSY_TIMEOUT_S", 60)  # a machine that does other things as well is no fault of the import:
    await _location(port, site)  # what a call waits for is counted in this process's own time
    recorder = Recorder(port.database, keys, tmp_path / "journal", on_recorded=lambda: None, pauses_s=(0.02,))
    waits: list[float] = []
    is_done = asyncio.Event()

    async def calls() -> None:
        while not is_done.is_set():
            writer = JournalWriter(tmp_path / "journal", keys, on_durable=lambda: None, on_fault=lambda _: None)
            writer.put(call_entry(site.account))
            assert await asyncio.to_thread(writer.close)
            begun = time.process_time()
            while await recorder.record_new():
                pass
            waits.append(time.process_time() - begun)

    recording = asyncio.create_task(calls())
    head = "mac,vendor,model,label,location,line1_extension,line1_secret\n"
    rows = (f"805ec0{at:06x},Yealink,T46U,Desk {at},Headquarters,{20_000 + at},s3cret-{at}\n" for at in range(4_000))
    status, report = await _import(port, site, head + "".join(rows))
    is_done.set()
    await recording
    assert (status, report["new"]) == (200, 4_000)
    assert max(waits) < BUSY_TIMEOUT_S
    async with port.database.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(EmergencyCall)) == len(waits)
    assert (await _counts(port))["phone"] == 4_000
    entries = await port.entries(site.account.id)
    assert Counter(entry.event for entry in entries)["phone.create"] == 4_000
    assert sum(entry.event == "line.create" for entry in entries) == 4_000
    assert verify([export_line(entry) for entry in entries]).holds


async def _page_of(port: AdminPort, browser: dict[str, str], file: bytes) -> tuple[int, str]:
    """What the import page says of that file."""
    form = FormData({"kind": "phones"})
    form.add_field("file", io.BytesIO(file), filename="phones.csv", content_type="text/csv")
    answer = await port.call("POST", "/phones/import", browser, data=form)
    return answer.status, html.unescape(await answer.text())


async def test_a_file_that_is_no_table_or_no_utf_8_is_told_where_and_what_to_do(port: AdminPort, site: Site) -> None:
    """P-19: page and API name the cell and the byte, or the kind of file; UTF-16 as Excel writes it is read."""
    await _location(port, site)
    browser, before = await port.browser(site), await _counts(port)
    accents = TABLE.replace("Back", "Café").encode("cp1252")
    byte = "No UTF-8 text: byte E9 behind “Caf”, which in Windows' code page 1252 is “é”."
    for file, row, column, told in (
        (accents, 3, "label", byte),
        (archive("[Content_Types].xml", "xl/workbook.xml"), 0, "", "This is an Excel workbook (.xlsx), no CSV."),
        (archive("mimetype", "content.xml"), 0, "", "This is a LibreOffice spreadsheet (.ods), no CSV."),
        (b"%PDF-1.7\n", 0, "", "This is a PDF, no CSV."),
        (TABLE.encode("utf-16-be"), 0, "", "The file is UTF-16 without a byte order mark"),
        (TABLE.encode("utf-16")[:-1], 0, "", "The file is no text: it begins as UTF-16"),
    ):
        status, report = await _import(port, site, file, dry_run="true")
        assert (status, report["errors"]) == (200, int(row > 0)), report
        assert (report["faults"][0]["row"], report["faults"][0]["column"]) == (row, column)
        assert report["faults"][0]["detail"].startswith(told)
        status, report = await _import(port, site, file)
        place = f"row {row}, column {column}" if row else "file"
        assert (status, report["errors"][0]["field"]) == (422, place)
        status, page = await _page_of(port, browser, file)
        assert status == 200
        assert told in page
        assert "nothing can be imported" in page
    assert await _counts(port) == before
    status, report = await _import(port, site, TABLE.replace("Back", "Café").encode("utf-16"))
    assert (status, report["new"]) == (200, 3)
    headers = site.auth | {"Content-Type": "application/vnd.ms-excel"}
    answer = await port.call("POST", "/api/v1/imports", headers, data=b"x")
    assert (answer.status, "Save the table as CSV UTF-8" in await answer.text()) == (415, True)


async def test_the_import_page_takes_files_up_to_its_own_largest_size(port: AdminPort, site: Site) -> None:
    """P-19: a table of 1 MB and one of the largest size are checked; a larger one and a picture are told why not."""
    await _location(port, site)
    browser = await port.browser(site)
    table = TABLE.encode() + (b" " * 4_095 + b"\n") * (csv_table.MAX_BYTES // 4_096)  # lines of nothing are passed over
    for size in (1 << 20, csv_table.MAX_BYTES):
        status, page = await _page_of(port, browser, table[:size])
        assert status == 200, size
        assert "805ec0000003" in page.replace(":", "").lower(), "the rows before the empty lines were read"
    picture = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4_096
    for file, why in ((table, "Import it in parts."), (picture, "This is a picture, no CSV.")):
        status, page = await _page_of(port, browser, file)
        assert status == 200
        assert why in page
        assert "805ec0000003" not in page.replace(":", "").lower()
