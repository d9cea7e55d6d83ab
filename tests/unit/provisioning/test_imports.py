"""Phones from a table: what each row would do, every fault by row and column, and the same table back."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.csv_table import CellFault
from engine.provisioning import imports
from engine.provisioning.imports import Known, KnownLine, KnownPhone, Outcome, Plan
from engine.provisioning.setting_cells import setting_in, setting_out

FRONT = KnownPhone("phone_1", "805ec0000001", "yealink", "T46U", "Front", "location_hq", {"vlan_id": 20}, ("101", "s2"))
LINES = {
    "101": KnownLine("line_1", "101", "Ann", "101", "", "+12125550101", None, "pbx_1"),
    "s2": KnownLine("line_2", "102", "Bob", "s2", "auth2", None, "location_hq", None),
}
KNOWN = Known({FRONT.mac: FRONT}, LINES, {"location_hq": "Headquarters"}, {"pbx_1": "PBX"}, "US", ("US",))


def _plan(text: str, known: Known = KNOWN) -> Plan:
    return imports.plan(imports.read(text.encode()), known)


def _faults(text: str, known: Known = KNOWN) -> list[tuple[int, str]]:
    return [(fault.row, fault.column) for fault in _plan(text, known).faults]


def test_a_new_phone_with_its_lines_is_planned() -> None:
    """P-19: vendor in any spelling, the model's own name, locations and PBXs by name, a setting, two lines."""
    plan = _plan(
        "MAC Address,Vendor,Model,Label,Location,ntp server,line 1 extension,line1_secret,line1_pbx,line2_extension\n"
        "80:5E:C0:00:00:02,Yealink,sip-t46u,Desk,headquarters,10.0.0.1,201,s3cret,pbx,202\n"
    )
    assert plan.faults == ()
    assert [row.outcome for row in plan.rows] == [Outcome.NEW]
    phone = plan.phones[0]
    assert (phone.mac, phone.vendor, phone.model, phone.label) == ("805ec0000002", "yealink", "T46U", "Desk")
    assert (phone.location_id, dict(phone.settings), phone.lines) == (
        "location_hq", {"ntp_server": "10.0.0.1"}, ("201", "202"),
    )  # fmt: skip
    assert plan.lines[0].values == {"extension": "201", "secret": "s3cret", "pbx_id": "pbx_1"}


def test_the_vendor_is_told_by_the_address_where_the_cell_is_empty() -> None:
    """P-19: an empty vendor is the owner of the address block."""
    assert _plan("mac,model\n805ec0000002,T46U\n").phones[0].vendor == "yealink"
    assert _faults("mac,model\n020000000002,T46U\n") == [(2, "vendor")]


def test_a_missing_column_leaves_its_field_and_an_empty_cell_empties_it() -> None:
    """P-19: a table of MAC addresses and labels changes labels alone."""
    plan = _plan("mac,label\n805ec0000001,Reception\n")
    assert plan.rows[0].changes == ("label",)
    assert replace(plan.phones[0], label="Front") == replace(plan.phones[0], label="Front", before=FRONT)
    assert plan.phones[0].settings == {"vlan_id": 20}
    assert plan.phones[0].lines == ("101", "s2")
    emptied = _plan("mac,vlan_id,location,line1_extension,line2_extension\n805ec0000001,,,101,\n")
    assert set(emptied.rows[0].changes) == {"vlan_id", "location", "lines"}
    assert (emptied.phones[0].settings, emptied.phones[0].location_id, emptied.phones[0].lines) == ({}, None, ("101",))


def test_a_line_is_known_by_its_sip_user() -> None:
    """P-19: an extension on its own key keeps the SIP user that it has; a changed name changes the line alone."""
    plan = _plan("mac,line1_extension,line1_display_name,line2_extension\n805ec0000001,101,Anna,102\n")
    assert plan.rows[0].changes == ("line1_display_name",)
    assert plan.phones[0].lines == ("101", "s2")
    assert [(line.sip_user, line.moved()) for line in plan.lines] == [("101", {"display_name": "Anna"})]


def test_an_empty_secret_stays_and_a_told_one_is_written() -> None:
    """P-19: secrets never leave, so an empty cell is no change."""
    assert _plan("mac,line1_extension,line1_secret\n805ec0000001,101,\n").rows[0].outcome is Outcome.UNCHANGED
    told = _plan("mac,line1_extension,line1_secret\n805ec0000001,101,n3w\n")
    assert told.rows[0].changes == ("line1_secret",)
    same = replace(KNOWN, lines=LINES | {"101": replace(LINES["101"], secret="n3w")})
    again = _plan("mac,line1_extension,line1_secret\n805ec0000001,101,n3w\n", same)
    assert again.rows[0].outcome is Outcome.UNCHANGED
    assert "n3w" not in repr(same)


def test_a_line_on_two_phones_is_told_alike() -> None:
    """P-19: two rows that contradict each other about one line are a fault of the second."""
    head = "mac,model,line1_extension,line1_display_name\n"
    assert _faults(head + "805ec0000002,T46U,300,Hall\n805ec0000003,T46U,300,Hall\n") == []
    assert _faults(head + "805ec0000002,T46U,300,Hall\n805ec0000003,T46U,300,Room\n") == [(3, "line1_display_name")]


@pytest.mark.parametrize(
    ("row", "place", "told"),
    [
        ("8.05E+11,Yealink,T46U,,,,", (2, "mac"), "takes for a number"),
        ("5,65E+10,Yealink,T46U,,,", (2, "mac"), "Expected a MAC address"),
        ("156512345,Yealink,T46U,,,,", (2, "mac"), "drops leading zeros"),
        (",Yealink,T46U,,,,", (2, "mac"), "got nothing"),
        ("805ec0000002,Yealnk,T46U,,,,", (2, "vendor"), "Yealnk"),
        ("805ec0000002,Yealink,T46X,,,,", (2, "model"), "Nearest are"),
        ("805ec0000002,Yealink,T46U,Annex,,,", (2, "location"), "no location called 'Annex'"),
        ("805ec0000002,Yealink,T46U,,5000,,", (2, "vlan_id"), "1 to 4094"),
        ("805ec0000002,Yealink,T46U,,,911,", (2, "line1_extension"), "would take calls meant for 911"),
        ("805ec0000002,Yealink,T46U,,,a b,", (2, "line1_extension"), "without spaces"),
        ("805ec0000002,Yealink,T46U,,,,+12125550100", (2, "line1_extension"), "a line that has no extension"),
        ("805ec0000002,Yealink,T46U,,,201,911", (2, "line1_callback_number"), "called back"),
        ("805ec0000002,Yealink,T46U,,,2.01555E+14,", (2, "line1_extension"), "last digits are lost"),
    ],
)
def test_a_fault_names_its_row_and_column(row: str, place: tuple[int, str], told: str) -> None:
    """P-19: what a spreadsheet did to a MAC address is told in words; nothing with a fault is planned."""
    plan = _plan(f"mac,vendor,model,location,vlan_id,line1_extension,line1_callback_number\n{row}\n")
    assert any((fault.row, fault.column) == place and told in fault.detail for fault in plan.faults), plan.faults
    assert plan.rows[0].outcome is Outcome.ERROR
    assert (plan.phones, plan.lines) == ((), ())


def test_every_fault_of_a_table_is_told_at_once() -> None:
    """P-19: the unknown column, each bad row, the address that comes twice, the gap between keys."""
    found = _faults(
        "mac,model,colour,line1_extension,line2_extension\n"
        "805ec0000002,T46U,red,,202\n"
        "805ec0000002,T46U,red,203,203\n"
        "nonsense,T46U,red,204,\n"
    )
    assert found == [
        (1, "colour"), (2, "line2_extension"), (3, "mac"), (3, "line2_extension"), (4, "mac"), (4, "vendor"),
    ]  # fmt: skip


def test_a_quote_that_does_not_end_hides_no_fault_of_the_rows_before_it() -> None:
    """P-19: the row it begins in is named, and what is wrong above it is told with it."""
    found = _faults(
        'mac,model,label\n805ec0000002,T46X,a\nnonsense,T46U,b\n805ec0000003,T46U,"c\n805ec0000004,T46U,d\n'
    )
    assert found == [(4, ""), (2, "model"), (3, "mac"), (3, "vendor")]


def test_a_model_holds_only_so_many_lines() -> None:
    """P-19: the key that is one too many is named."""
    columns = ",".join(f"line{n}_extension" for n in range(1, 18))
    cells = ",".join(str(200 + n) for n in range(1, 18))
    assert _faults(f"mac,model,{columns}\n805ec0000002,T46U,{cells}\n") == [(2, "line17_extension")]


def test_a_name_of_two_locations_is_no_name() -> None:
    """P-19: the identifier tells them apart."""
    known = replace(KNOWN, locations={"location_a": "Annex", "location_b": "annex"})
    assert _faults("mac,model,location\n805ec0000002,T46U,Annex\n", known) == [(2, "location")]
    assert _plan("mac,model,location\n805ec0000002,T46U,location_b\n", known).phones[0].location_id == "location_b"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lldp", True), ("lldp", False), ("vlan_id", 20), ("codecs", ["opus", "g722"]), ("ntp_server", "10.0.0.1"),
        ("outbound_proxy", ""), ("vlan_id", None), ("phonebook", "off"), ("ntp_server", "null"),
        ("function_keys", [{"position": 3, "kind": "blf", "value": "102", "label": 'Zoë, "x"'}]),
    ],
)  # fmt: skip
def test_a_setting_reads_back_as_the_value_it_was(name: str, value: Any) -> None:
    """P-19: words, numbers, lists and keys survive a cell."""
    assert setting_in(name, setting_out(name, value)) == (value, ())


_TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            _TEXT, st.sampled_from([None, "location_hq"]), st.sampled_from([{}, {"vlan_id": 3}, {"lldp": False}])
        ),
        max_size=6,
    ),
    _TEXT,
)
def test_an_export_imported_again_changes_nothing(
    rows: list[tuple[str, str | None, dict[str, Any]]], name: str
) -> None:
    """P-19: every row of a table that was just written out is unchanged, whatever labels and names hold."""
    lines = {f"u{at}": KnownLine(f"line_{at}", f"10{at}", name, f"u{at}", "", None, None, "pbx_1") for at in range(9)}
    phones = {
        f"805ec000000{at}": KnownPhone(
            f"phone_{at}", f"805ec000000{at}", "yealink", "T46U", label, place, own, tuple(list(lines)[: at % 3])
        )
        for at, (label, place, own) in enumerate(rows)
    }
    known = replace(KNOWN, phones=phones, lines=lines)
    plan = imports.plan(imports.read(imports.table_of(phones.values(), known)), known)
    expected: list[CellFault] = [] if rows else [CellFault(0, "", "The file has a header and no row below it.")]
    assert list(plan.faults) == expected
    assert [row.outcome for row in plan.rows] == [Outcome.UNCHANGED] * len(rows)


def test_an_export_holds_no_secret() -> None:
    """P-19: the column of secrets is there, and empty."""
    table = imports.table_of([FRONT], KNOWN).decode("utf-8-sig").splitlines()
    at = table[0].split(",").index("line1_secret")
    assert table[1].split(",")[at] == ""


@given(st.binary(max_size=300))
def test_any_table_is_planned_or_has_faults(data: bytes) -> None:
    """P-19: nothing that is sent breaks the planning."""
    plan = imports.plan(imports.read(b"mac,model,line1_extension,vlan_id\n" + data), KNOWN)
    assert plan.faults or plan.rows
