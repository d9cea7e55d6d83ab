"""An account's table on disk: what goes in comes out, a broken file hurts nobody else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.crypto import KeyRing
from engine.e911 import snapshot
from engine.e911.location import LocationTable
from engine.e911.snapshot import BadSnapshot, table_from

WHOLE = {
    "account_id": "account_1",
    "revision": 12,
    "name": "Acme",
    "country": "US",
    "timezone": "America/New_York",
    "language": "en",
    "default_location_id": "location_1",
    "callback_number": "+15185550100",
    "locations": [
        {
            "id": "location_1",
            "name": "HQ",
            "civic_address": {"country": "US", "HNO": "1", "nonsense": "x"},
            "geo": {"latitude": 42.5, "longitude": -73.5, "radius_m": 20},
            "timezone": None,
            "callback_number": None,
            "onsite_number": "8800",
            "status": "validated",
            "validated_at": "2026-11-01T00:00:00.000000Z",
        }
    ],
    "networks": [
        {"id": "network_1", "kind": "subnet", "value": "10.1.0.0/16", "location_id": "location_1", "pbx_id": None},
        {"id": "network_2", "kind": "subnet", "value": "::ffff:10.2.0.0/112", "location_id": "location_1",
        "pbx_id": None},
        {"id": "network_3", "kind": "bssid", "value": "00:11:22:33:44:55", "location_id": "location_1", "pbx_id": None},
    ],
    "phones": [{"id": "phone_1", "mac": "0015654AA937", "label": "", "location_id": None, "line_ids": ["line_1"]}],
    "lines": [
        {
            "id": "line_1", "extension": "101", "display_name": "Ada", "sip_user": "a101", "callback_number": None,
            "location_id": None, "pbx_id": None,
        }
    ],
    "pbxs": [
        {"id": "pbx_1", "name": "P", "sources": ["10.0.0.5/8"], "default_location_id": None, "default_route": ""},
    ],
    "trunks": [
        {
            "id": "trunk_2", "name": "B", "priority": 20, "host": "[2001:db8::1]", "port": 5080, "transport": "TCP",
            "profile": "generic", "location_mode": "none", "test_number": "933", "last_resort": True, "enabled": False,
            "pings": False,
        },
        {"id": "trunk_1", "name": "A", "priority": 10, "host": "sip.example.com"},
    ],
}  # fmt: skip


def test_what_is_saved_is_loaded(tmp_path, keys):
    """Decision 5: the table's last copy lies beside the database."""
    snapshot.save(tmp_path, WHOLE, keys)
    table = snapshot.load(tmp_path, "account_1", keys)
    assert (table.revision, table.faults) == (12, ())
    location = table.locations["location_1"]
    assert location.civic_address.as_dict() == {"country": "US", "HNO": "1"}
    assert location.geo.as_dict() == {"latitude": 42.5, "longitude": -73.5, "radius_m": 20.0}
    assert location.validated_at.isoformat() == "2026-11-01T00:00:00+00:00"
    assert [str(network.subnet) for network in table.networks] == ["10.1.0.0/16", "10.2.0.0/16"]
    assert table.phone_by_mac("0015654aa937").line_ids == ("line_1",)
    assert str(table.pbxs["pbx_1"].sources[0]) == "10.0.0.0/8"
    assert table.pbxs["pbx_1"].default_route is None
    first, second = table.trunks
    assert (first.id, first.port, first.transport, first.location_mode, first.enabled) == (
        "trunk_1",
        5060,
        "udp",
        "value",
        True,
    )
    assert (second.host, second.transport, second.last_resort, second.enabled) == ("2001:db8::1", "tcp", True, False)
    assert (first.pings, second.pings) == (True, False), "a copy of before the question was there asks"


def test_a_large_account_is_kept_in_full(tmp_path, keys):
    phones = [{"id": f"phone_{n}", "mac": f"{n:012x}", "line_ids": []} for n in range(1000)]
    snapshot.save(tmp_path, WHOLE | {"phones": phones}, keys)
    assert len(snapshot.load(tmp_path, "account_1", keys).phones) == 1000


def test_the_file_shows_nothing_to_who_has_no_key(tmp_path, keys):
    """S-02: sealed at rest."""
    snapshot.save(tmp_path, WHOLE, keys)
    path = snapshot.path_of(tmp_path, "account_1")
    assert b"Acme" not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(BadSnapshot, match="cannot be used"):
        snapshot.load(tmp_path, "account_1", KeyRing("k1", {"k1": b"x" * 32}))


def sealed(keys, *pieces):
    made = (keys.seal(json.dumps(piece).encode(), "snapshot") for piece in pieces)
    return b"".join(len(piece).to_bytes(4, "big") + piece for piece in made)


@pytest.mark.parametrize("damage", ["cut", "torn", "swapped", "mixed", "short", "byte"])
def test_a_damaged_file_is_never_read_as_half_an_account(tmp_path, keys, damage):
    """Decision 5: all of a snapshot or nothing of it."""
    phones = [{"id": f"phone_{n}", "mac": f"{n:012x}", "line_ids": []} for n in range(600)]
    path = snapshot.path_of(tmp_path, "account_1")
    snapshot.save(tmp_path, WHOLE | {"phones": phones}, keys)
    data = path.read_bytes()
    pieces, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        pieces.append(data[at:end])
        at = end
    snapshot.save(tmp_path, WHOLE | {"phones": phones}, keys)
    other = path.read_bytes()
    damaged = {
        "cut": b"".join(pieces[:-1]),
        "torn": data[:-5],
        "swapped": b"".join([*pieces[:-2], pieces[-1], pieces[-2]]),
        "mixed": pieces[0] + other[len(pieces[0]) :],
        "short": data + b"\0",
        "byte": data[:-1] + bytes([data[-1] ^ 1]),
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(BadSnapshot):
        snapshot.load(tmp_path, "account_1", keys)


def test_a_broken_file_is_reported_and_the_others_are_loaded(tmp_path, keys):
    """E-03: one torn file takes no other account's 911 calls with it."""
    snapshot.save(tmp_path, WHOLE, keys)
    (tmp_path / "account_2.sealed").write_bytes(b"")
    (tmp_path / "account_3.sealed").write_bytes(sealed(keys, [1]))
    (tmp_path / "account_4.sealed").write_bytes((tmp_path / "account_1.sealed").read_bytes())
    (tmp_path / "account_5.sealed").write_bytes(sealed(keys, {"piece": 0, "of": ["x", 1]}))
    loaded = snapshot.load_all(tmp_path, keys)
    assert [table.account_id for table in loaded.tables] == ["account_1"]
    assert [fault.partition(":")[0] for fault in loaded.faults] == [f"account_{n}.sealed" for n in (2, 3, 4, 5)]


def test_an_absent_folder_is_an_empty_one(tmp_path, keys):
    assert snapshot.load_all(tmp_path / "none", keys).tables == ()
    snapshot.drop(tmp_path / "none", "account_1")


def test_an_account_can_be_dropped(tmp_path, keys):
    snapshot.save(tmp_path, WHOLE, keys)
    snapshot.drop(tmp_path, "account_1")
    with pytest.raises(BadSnapshot):
        snapshot.load(tmp_path, "account_1", keys)


def test_a_failed_write_leaves_the_old_file(tmp_path, keys):
    """Decision 5: replaced in one step."""
    snapshot.save(tmp_path, WHOLE, keys)
    (tmp_path / "account_1.new").mkdir()
    with pytest.raises(OSError, match="account_1"):
        snapshot.save(tmp_path, WHOLE | {"name": "Changed"}, keys)
    assert snapshot.load(tmp_path, "account_1", keys).name == "Acme"


@pytest.mark.parametrize("account_id", ["", "../x", "a/b", "a.b", None])
def test_no_identifier_leaves_the_folder(tmp_path, keys, account_id):
    with pytest.raises(BadSnapshot):
        snapshot.save(tmp_path, WHOLE | {"account_id": account_id}, keys)


BAD_ROWS = {
    "locations": [{"name": "no id"}, 7],
    "networks": [{"id": "network_9", "value": "10.0.0.0/99", "location_id": "location_1"}, {"id": "network_8"}],
    "phones": [{"id": "phone_9"}, {"id": "phone_8", "mac": None}],
    "lines": [{"extension": "1"}, "x"],
    "pbxs": [{"name": "no id", "sources": ["everywhere"]}],
    "trunks": [
        {"id": "trunk_9", "host": "x", "transport": "carrier pigeon"},
        {"id": "trunk_8", "host": "x\r\nEvil: 1"},
        {"id": "trunk_6"},
    ],
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_row_that_cannot_be_read_is_left_out_and_named(name):
    """E-03: the rest of the account still works."""
    table = table_from(WHOLE | {name: [*WHOLE[name], *BAD_ROWS[name]]})
    assert len(table.faults) == len(BAD_ROWS[name])
    assert all(fault.startswith(f"{name}: ") for fault in table.faults)
    assert len(getattr(table, name)) == len(getattr(table_from(WHOLE), name))


HALF_BAD_ROWS = [
    ("locations", {"id": "location_9", "name": "Annex", "validated_at": "yesterday"}, "location_9, its validated_at"),
    ("phones", {"id": "phone_9", "mac": "0015654aa938", "line_ids": 7}, "phone_9, its line_ids"),
    ("pbxs", {"id": "pbx_9", "sources": ["10.9.9.9/32", "everywhere", None, "10.8.0.0/16"]}, "pbx_9, its sources"),
    ("pbxs", {"id": "pbx_9", "sources": ["10.9.9.9/32"], "registrar_port": "sip"}, "pbx_9, its registrar_port"),
    ("trunks", {"id": "trunk_7", "host": "x", "port": "http"}, "trunk_7, its port"),
    ("trunks", {"id": "trunk_7", "host": "x", "priority": "first"}, "trunk_7, its priority"),
    ("trunks", {"id": "trunk_7", "host": "x", "port": float("inf")}, "trunk_7, its port"),
    ("numbers", {"id": "number_9", "e164": "+15185550109", "held_by": "call_1"}, "number_9, its held_by"),
]


@pytest.mark.parametrize(("name", "row", "words"), HALF_BAD_ROWS)
def test_a_field_that_a_row_can_do_without_is_left_out_and_the_row_is_used(name, row, words):
    """E-03: a PBX with one odd address among its own is no stranger, a location with an odd date is still a place."""
    others = WHOLE.get(name, [])
    table = table_from(WHOLE | {name: [*others, row]})
    (fault,) = table.faults
    assert fault.startswith(f"{name}: {words} cannot be read")
    assert len(getattr(table, name)) == len(others) + 1
    if len(row.get("sources", ())) > 1:
        assert [str(each) for each in table.pbxs["pbx_9"].sources] == ["10.9.9.9/32", "10.8.0.0/16"]


@pytest.mark.parametrize(
    "geo", [{}, {"latitude": 91, "longitude": 0}, {"latitude": "x", "longitude": 0}, {"latitude": 1}]
)
def test_coordinates_that_cannot_be_are_left_out(geo):
    rows = [WHOLE["locations"][0] | {"geo": geo}]
    assert table_from(WHOLE | {"locations": rows}).locations["location_1"].geo is None


@pytest.mark.parametrize("number", ["+1518\r\nEvil: 1", "", "call me", 5, "1" * 30])
def test_a_number_that_cannot_stand_in_a_header_counts_as_none(number):
    """Header injection from the table is impossible."""
    assert table_from(WHOLE | {"callback_number": number}).callback_number is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "mac", "value", "host", "name"]), inner)
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(["locations", "phones", "lines", "trunks", "pbxs"]), st.lists(_json, max_size=3))
)
def test_any_rows_make_a_table(rows):
    assert table_from({"account_id": "account_1"} | rows).account_id == "account_1"


MORE = {
    "account_id": "account_1",
    "elin_hold_minutes": 60,
    "locations": WHOLE["locations"],
    "networks": [
        {"id": "network_1", "kind": "bssid", "value": "00:15:6D:12:34:56", "location_id": "location_1",
         "pbx_id": "pbx_1"},
        {"id": "network_2", "kind": "switch", "value": "Stack-1", "location_id": "location_1", "pbx_id": None},
        {"id": "network_3", "kind": "switch_port", "value": "00-11-22-33-44-55/Gi1/0/7", "location_id": "location_1"},
    ],
    "numbers": [
        {"id": "number_1", "e164": "+15185550100", "kind": "elin", "location_id": "location_1", "line_id": None,
         "held_until": "2026-11-21T23:00:00.000000Z",
         "held_by": {"pbx_id": "pbx_1", "sip_user": "101", "extension": "101", "name": "Ada", "call": "call_1"}},
        {"id": "number_2", "e164": "+15185550101", "kind": "direct", "location_id": None, "line_id": "line_1",
         "held_until": None, "held_by": None},
    ],
    "sightings": [
        {"phone_id": "phone_1", "chassis": "0011.2233.4455", "port": "Gi1/0/7", "bssid": None, "ip": "10.1.2.3",
         "source": "snmp", "seen_at": "2026-11-21T20:00:00Z"},
    ],
    "confirmed": [
        {"id": "confirmed_1", "phone_id": "phone_1", "line_id": None, "location_id": "location_1",
         "network": "203.0.113.0/24", "confirmed_at": "2026-11-21T20:00:00Z"},
        {"id": "confirmed_2", "phone_id": None, "line_id": "line_1", "location_id": "location_1",
         "network": "00156d123456", "confirmed_at": "2026-11-21T20:00:00"},
    ],
    "pbxs": [
        {"id": "pbx_1", "name": "P", "sources": [], "tls_name": "PBX.example.com", "auth_user": "pbx",
         "secret": "s3cret",
         "registrar_host": "[2001:db8::5]", "registrar_port": 5070, "transport": "tcp"},
    ],
    "trunks": [
        {"id": "trunk_1", "name": "A", "host": "x.example.com", "transport": "tls", "auth_user": "u", "secret": "p"},
    ],
}  # fmt: skip


def test_every_kind_of_row_is_read(tmp_path, keys):
    """E-05, E-09: networks of every kind, numbers, sightings, confirmed addresses, identities."""
    snapshot.save(tmp_path, MORE, keys)
    table = snapshot.load(tmp_path, "account_1", keys)
    assert (table.faults, table.elin_hold_minutes) == ((), 60)
    assert [(row.by.value, row.value, row.pbx_id) for row in table.attachments] == [
        ("bssid", "00156d123456", "pbx_1"), ("switch", "stack-1", None), ("switch_port", "001122334455/gi1/0/7", None),
    ]  # fmt: skip
    elin = table.number_of("+15185550100")
    assert (elin.kind, elin.location_id, elin.held_by.call, elin.held_until.hour) == (
        "elin",
        "location_1",
        "call_1",
        23,
    )
    assert (table.number_of("+15185550101").line_id, table.number_of("+15185550102")) == ("line_1", None)
    seen = table.sightings["phone_1"]
    assert (seen.chassis, seen.port, str(seen.ip), seen.source) == ("001122334455", "gi1/0/7", "10.1.2.3", "snmp")
    first, second = table.confirmed
    assert (str(first.network), first.bssid, second.network, second.bssid) == (
        "203.0.113.0/24", None, None, "00156d123456",
    )  # fmt: skip
    assert second.confirmed_at.utcoffset().total_seconds() == 0
    pbx = table.pbxs["pbx_1"]
    assert (pbx.tls_name, pbx.auth_user, pbx.secret, pbx.registrar_host, pbx.registrar_port, pbx.transport) == (
        "pbx.example.com", "pbx", "s3cret", "2001:db8::5", 5070, "tcp",
    )  # fmt: skip
    (trunk,) = table.trunks
    assert (trunk.transport, trunk.auth_user, trunk.secret) == ("tls", "u", "p")
    assert "s3cret" not in repr(table)


@pytest.mark.parametrize(
    ("part", "row"),
    [
        ("networks", {"id": "x", "kind": "vlan", "value": "7", "location_id": "location_1"}),
        ("networks", {"id": "x", "kind": "bssid", "value": "00:11", "location_id": "location_1"}),
        ("networks", {"id": "x", "kind": "switch_port", "value": "stack-1", "location_id": "location_1"}),
        ("numbers", {"id": "x", "e164": "15185550100"}),
        ("sightings", {"phone_id": "x", "seen_at": "2026-11-21T20:00:00Z"}),
        ("sightings", {"phone_id": "x", "ip": "10.1.2.3", "seen_at": None}),
        ("sightings", {"phone_id": "x", "ip": "10.1.2.3"}),
        (
            "confirmed",
            {"id": "x", "location_id": "y", "network": "home", "phone_id": "z", "confirmed_at": "2026-11-21"},
        ),
        ("confirmed", {"id": "x", "location_id": "y", "network": "10.0.0.0/8", "confirmed_at": "2026-11-21"}),
        ("trunks", {"id": "x", "host": "h", "transport": "sctp"}),
    ],
)
def test_a_newer_row_that_cannot_be_read_is_left_out_and_named(part, row):
    """E-03: the rest of the account keeps its 911 calls."""
    table = table_from(MORE | {part: [*MORE[part], row]})
    assert len(table.faults) == 1
    assert table.faults[0].startswith(f"{part}: x cannot be read")
    assert len(table.numbers) == 2
    assert len(table.sightings) == 1
    assert len(table.attachments) == 3


@pytest.mark.parametrize(
    "odd",
    [
        {"revision": "twelve"}, {"revision": float("inf")}, {"revision": None}, {"networks": 7}, {"lines": True},
        {"sightings": "none"}, {"trunks": [*WHOLE["trunks"], {"id": "x", "host": "h h", "port": float("inf")}]},
    ],
)  # fmt: skip
def test_an_odd_field_costs_itself_and_never_the_account(odd):
    """E-03: a table with one thing missing places calls; no table places none."""
    table = table_from(WHOLE | odd)
    assert (table.name, len(table.phones), len(table.locations), len(table.trunks)) == ("Acme", 1, 1, 2)
    assert all(next(iter(odd)) in fault for fault in table.faults)


def test_a_network_that_a_pbx_has_in_two_spellings_is_one():
    """E-04: two owners of one address would each be asked for a proof."""
    rows = [{"id": "pbx_1", "name": "P", "sources": ["192.0.2.20", "192.0.2.20/32", "::ffff:192.0.2.20"]}]
    table = LocationTable()
    table.put(table_from(WHOLE | {"pbxs": rows}))
    assert [pbx.id for _, pbx in table.owners_of("192.0.2.20")] == ["pbx_1"]
