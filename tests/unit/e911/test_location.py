"""Where a caller is: the order of evidence, the flags, and that a change of one account touches no other."""

import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network

import pytest

from engine.e911.location import (
    AccountTable,
    Caller,
    CivicAddress,
    DispatchableLocation,
    Line,
    LocationTable,
    Mac,
    Network,
    Pbx,
    Phone,
    Source,
    Trunk,
    plain_address,
    plain_mac,
    resolve,
    unknown_elements,
)

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
MAC = Mac("0015654aa937")


def place(name, *, validated_days_ago=10, **civic):
    address = CivicAddress.of(
        {"country": "US", "A1": "NY", "RD": "Main", "HNO": str(abs(hash(name)) % 900 + 1)} | civic
    )
    at = None if validated_days_ago is None else NOW - timedelta(days=validated_days_ago)
    return DispatchableLocation(f"location_{name}", name, address, status="validated", validated_at=at)


PLACES = {
    f"location_{n}": place(n, HNO=str(i))
    for i, n in enumerate(["wing", "desk", "line", "pbx", "account", "lab"], start=1)
}
PBX = Pbx("pbx_1", "Asterisk", (ip_network("10.0.0.5/32"),), "location_pbx")
OTHER_PBX = Pbx("pbx_2", "FreePBX", (ip_network("10.0.0.0/8"),))


def account(**changes):
    values = {
        "account_id": "account_1",
        "name": "Acme",
        "default_location_id": "location_account",
        "callback_number": "+15185550100",
        "locations": PLACES,
        "networks": (
            Network("network_1", ip_network("10.1.0.0/16"), "location_wing"),
            Network("network_2", ip_network("10.1.7.0/24"), "location_lab"),
            Network("network_3", ip_network("192.168.0.0/24"), "location_lab", "pbx_2"),
            Network("network_4", ip_network("192.168.0.0/24"), "location_wing", "pbx_1"),
            Network("network_5", ip_network("2001:db8:1::/48"), "location_wing"),
        ),
        "phones": (Phone("phone_1", MAC, "Desk", "location_desk", ("line_1", "line_2")),),
        "lines": (
            Line("line_1", "101", "acme-101", "Ada", "+15185550101", "location_line"),
            Line("line_2", "102", "acme-102", "Bob", None, "location_line"),
            Line("line_3", "103", "acme-103", "Cy", None, "location_line"),
        ),
        "pbxs": {"pbx_1": PBX, "pbx_2": OTHER_PBX},
    }
    return AccountTable(**values | changes)


def found(caller, table=None, pbx=PBX, **more):
    return resolve(table or account(), caller, NOW, pbx=pbx, **more)


@pytest.mark.parametrize(
    ("caller", "source", "name"),
    [
        (Caller("101", source_ip=ip_address("10.1.2.3")), Source.SUBNET, "wing"),
        (Caller("101", source_ip=ip_address("10.1.7.3")), Source.SUBNET, "lab"),
        (Caller("101", source_ip=ip_address("2001:db8:1::9")), Source.SUBNET, "wing"),
        (Caller("101", source_ip=ip_address("172.16.0.1")), Source.PHONE, "desk"),
        (Caller("101"), Source.PHONE, "desk"),
        (Caller("103"), Source.LINE, "line"),
        (Caller("999"), Source.PBX_DEFAULT, "pbx"),
    ],
)
def test_the_best_rung_that_knows_something_answers(caller, source, name):
    """E-05: subnet, phone, line, PBX default, account default, in this order."""
    resolved = found(caller)
    assert (resolved.source, resolved.location.name) == (source, name)


def test_a_pbx_without_a_default_leaves_it_to_the_account():
    """E-05: the last rung."""
    resolved = found(Caller("999"), pbx=OTHER_PBX)
    assert (resolved.source, resolved.location.name, resolved.flags) == (Source.ACCOUNT_DEFAULT, "account", ())


def test_an_unknown_location_is_an_answer_too():
    """E-03: nothing known is flagged, and still an answer."""
    resolved = found(Caller("999"), account(default_location_id=None), pbx=OTHER_PBX)
    assert resolved.location is None
    assert resolved.source is Source.NONE
    assert resolved.flags == ("location_unknown",)
    assert [said.source for said in resolved.verdict] == [
        "switch_port", "switch", "bssid", "subnet", "confirmed", "request", "reference", "phone", "line",
        "pbx_default", "account_default",
    ]  # fmt: skip
    assert not any(said.taken for said in resolved.verdict)


def test_the_verdict_says_which_rung_said_what_and_how_old_it_is():
    """E-05: which, why, how old."""
    resolved = found(Caller("101", source_ip=ip_address("10.1.2.3")))
    subnet, *_, phone, line, pbx, default = resolved.verdict[3:]
    assert (subnet.said, subnet.taken, subnet.why) == ("wing", True, "10.1.2.3 is in 10.1.0.0/16")
    assert (phone.said, phone.taken, phone.age_s) == ("desk", False, 10 * 86_400)
    assert (line.said, pbx.said, default.said) == ("line", "pbx", "account")


def test_sources_that_disagree_are_flagged():
    """E-05: raises an alarm when sources disagree."""
    assert "disagreement" in found(Caller("101", source_ip=ip_address("10.1.2.3"))).flags


def test_a_room_in_the_same_building_is_no_disagreement():
    """E-05: more detail contradicts nothing."""
    building = place("wing", HNO="1")
    room = DispatchableLocation(
        "location_desk", "desk", CivicAddress((*building.civic_address.elements, ("ROOM", "4")))
    )
    table = account(locations=PLACES | {"location_wing": building, "location_desk": room, "location_line": room})
    assert found(Caller("101", source_ip=ip_address("10.1.2.3")), table).flags == ()


def test_defaults_disagree_with_nothing():
    """E-05: the account's default claims nothing about this caller."""
    assert found(Caller("103")).flags == ()


def test_an_address_nobody_confirmed_for_a_year_is_used_and_flagged():
    """E-05: stale is used but flagged."""
    table = account(locations=PLACES | {"location_line": place("line", validated_days_ago=366)})
    resolved = found(Caller("103"), table)
    assert (resolved.location.name, resolved.flags) == ("line", ("stale",))


def test_a_location_with_nothing_to_convey_is_passed_over():
    """E-05: a name alone sends nobody anywhere."""
    empty = DispatchableLocation("location_line", "line", CivicAddress())
    resolved = found(Caller("103"), account(locations=PLACES | {"location_line": empty}))
    assert resolved.source is Source.PBX_DEFAULT
    assert "neither an address nor coordinates" in resolved.verdict[8].why


@pytest.mark.parametrize("address", ["fe80::1", "fe80::1%eth0", "febf::2", "169.254.7.1", "::ffff:169.254.7.1"])
def test_a_link_local_address_is_no_evidence_however_wide_a_network_is(address):
    """E-05: every link has it; `ec00::/6` and `168.0.0.0/6` hold such addresses and are refused by no rule."""
    plain = plain_address(address)
    networks = [
        Network("n1", ip_network("fc00::/6"), "here", None),
        Network("n2", ip_network("168.0.0.0/6"), "here", None),
    ]
    table = account(locations={"here": place("here")}, networks=networks)
    assert table.network_of(plain, None) is None
    assert table.network_of(plain_address("fec0::1"), None) is networks[0]
    assert table.network_of(plain_address("169.253.7.1"), None) is networks[1]


def test_a_network_of_another_pbx_does_not_count():
    """E-05: private ranges repeat between sites."""
    address = ip_address("192.168.0.9")
    assert found(Caller("103", source_ip=address)).location.name == "wing"
    assert found(Caller("103", source_ip=address), pbx=OTHER_PBX).location.name == "lab"


@pytest.mark.parametrize("device", ["00:15:65:4A:A9:37", "00-15-65-4a-a9-37", "0015.654a.a937", "0015654AA937"])
def test_the_phone_a_peer_names_counts(device):
    """E-05: X-Callpoint-Device, a MAC in any spelling."""
    resolved = found(Caller("103", device=device))
    assert (resolved.phone.id, resolved.line.id, resolved.source) == ("phone_1", "line_3", Source.PHONE)


def test_the_line_a_peer_names_counts_before_the_identity():
    """E-05: X-Callpoint-Device, a sip_user."""
    resolved = found(Caller("somebody", device="acme-102"))
    assert (resolved.phone.id, resolved.line.id) == ("phone_1", "line_2")


def test_a_line_on_several_phones_counts_as_no_phone():
    """E-05: decision 16: then its own location speaks, unless the peer names the phone."""
    second = Phone("phone_2", Mac("000000000002"), "Lab", "location_lab", ("line_1",))
    table = account(phones=(*account().phones, second))
    assert found(Caller("101"), table).source is Source.LINE
    assert found(Caller("101", device="000000000002"), table).location.name == "lab"


def test_two_lines_that_fit_equally_are_no_answer():
    """E-05: a wrong address is worse than the next rung."""
    lines = (Line("line_8", "200", "a-200", pbx_id="pbx_1"), Line("line_9", "200", "b-200", pbx_id="pbx_1"))
    assert account(lines=lines).line_named("200", "pbx_1") is None
    assert account(lines=lines).line_named("a-200", "pbx_1").id == "line_8"
    apart = (Line("line_8", "200", "a-200", pbx_id="pbx_1"), Line("line_9", "200", "b-200", pbx_id="pbx_2"))
    assert account(lines=apart).line_named("200", "pbx_2").id == "line_9"
    assert account(lines=apart).line_named("200", None) is None


@pytest.mark.parametrize(
    ("identity", "device", "expected"),
    [
        ("101", "", "+15185550101"),
        ("102", "", "+15185550101"),
        ("103", "", "+15185550100"),
        ("999", "", "+15185550100"),
    ],
)
def test_the_callback_number_is_the_line_s_then_the_phone_s_first_line_s(identity, device, expected):
    """The number conveyed reaches the caller back: line, phone's first line, location, account."""
    table = account()
    phone, line = table.who(Caller(identity, device=device), "pbx_1")
    assert table.callback_number_for(phone, line, None) == expected


def test_the_location_s_callback_number_comes_before_the_account_s():
    table = account()
    at = DispatchableLocation("location_x", "x", CivicAddress(), callback_number="+15185550177")
    assert table.callback_number_for(None, None, at) == "+15185550177"


def test_a_peer_is_known_by_its_longest_source_network():
    """E-04: trusted by source CIDR, the longest first; IPv4 mapped into IPv6 is IPv4."""
    table = LocationTable()
    table.put(account())
    assert table.peer_of("10.0.0.5")[1].id == "pbx_1"
    assert table.peer_of("10.0.0.6")[1].id == "pbx_2"
    assert table.peer_of("::ffff:10.0.0.5")[1].id == "pbx_1"
    assert table.peer_of("11.0.0.5") is None
    assert table.peer_of("nonsense") is None


def test_one_account_is_replaced_without_touching_another():
    """Decision 2: the table is patched account by account."""
    table = LocationTable()
    table.put(account())
    other_pbx = Pbx("pbx_9", "Other", (ip_network("203.0.113.0/24"),))
    other = account(account_id="account_2", pbxs={"pbx_9": other_pbx})
    table.put(other)
    assert table.peer_of("203.0.113.7")[0] is other
    table.put(account(pbxs={"pbx_1": PBX}))
    assert table.peer_of("10.0.0.6") is None
    assert table.peer_of("203.0.113.7")[0] is other
    table.drop("account_2")
    table.drop("account_unknown")
    assert table.peer_of("203.0.113.7") is None
    assert table.peer_of("10.0.0.5")[0].account_id == "account_1"


def test_a_network_two_accounts_hold_belongs_to_the_older_one():
    table = LocationTable()
    table.put(account(account_id="account_2"))
    table.put(account(account_id="account_1"))
    table.put(account(account_id="account_2"))
    assert table.peer_of("10.0.0.5")[0].account_id == "account_1"


def test_trunks_of_last_resort_are_ranked_over_all_accounts():
    """Decision 4: tried after all others, for any account."""
    table = LocationTable()
    own = Trunk("trunk_b", "relay", 5, "192.0.2.1", last_resort=True)
    off = Trunk("trunk_c", "off", 1, "192.0.2.1", last_resort=True, enabled=False)
    table.put(account(trunks=(own, off, Trunk("trunk_d", "plain", 1, "192.0.2.2"))))
    table.put(account(account_id="account_2", trunks=(Trunk("trunk_a", "first", 1, "192.0.2.3", last_resort=True),)))
    assert [trunk.id for trunk in table.last_resorts] == ["trunk_a", "trunk_b"]
    table.put(account(trunks=()))
    assert [trunk.id for trunk in table.last_resorts] == ["trunk_a"]
    table.drop("account_2")
    assert table.last_resorts == ()


def test_addresses_and_macs_are_read_in_every_spelling():
    assert str(plain_address("::ffff:10.0.0.1")) == "10.0.0.1"
    assert str(plain_address(" [2001:db8::1] ")) == "2001:db8::1"
    assert str(plain_address("fe80::1%eth0")) == "fe80::1"
    assert plain_address("10.0.0.1:5060") is None
    assert plain_mac("00:15:65:4a:a9:3") is None
    assert {plain_mac(text) for text in ("0015.654A.A937", "00-15-65-4a-a9-37", "0015:654a:a937")} == {"0015654aa937"}


@pytest.mark.parametrize("text", ["192.168.100.101", "fe80::aaaa:bbbb", "[2001:db8:aaaa::1]", "1:2:3:4:5:6:77:8888"])
def test_an_address_with_as_many_digits_as_a_mac_is_an_address(text):
    """E-05: what a user confirmed on 192.168.100.101 holds there, and at no access point."""
    assert plain_address(text) is not None
    assert plain_mac(text) is None
    assert plain_mac("g015654aa937") is None


def test_a_civic_address_keeps_the_schema_s_order_and_known_names():
    civic = CivicAddress.of(
        {"ROOM": " 4 ", "country": "US", "X": "y", "HNO": "", "STP": "Rue", "SITE": "Campus", "A1": None}
    )
    assert [name for name, _ in civic.elements] == ["country", "ROOM", "STP", "SITE"]
    assert civic.get("ROOM") == "4"
    assert civic.get("HNO") == ""
    assert unknown_elements(["A1", "X", "STPS"]) == ["X"]


def test_a_hundred_thousand_phones_and_twenty_thousand_networks_are_resolved_in_microseconds():
    """E-02: 5 ms p99 at 100,000 phones and 20,000 networks, with room to spare."""
    phones = tuple(
        Phone(f"phone_{n}", Mac(f"{n:012x}"), location_id="location_desk", line_ids=(f"line_{n}",))
        for n in range(100_000)
    )
    lines = tuple(Line(f"line_{n}", str(10_000 + n), f"u{n}") for n in range(100_000))
    networks = tuple(
        Network(f"network_{n}", ip_network(f"10.{n >> 8 & 255}.{n & 255}.0/{24 + (n >> 16)}"), "location_wing")
        for n in range(20_000)
    )
    table = account(phones=phones, lines=lines, networks=networks)
    taken = []
    for n in range(0, 100_000, 97):
        caller = Caller(f"u{n}", source_ip=ip_address(f"10.{n % 78}.{n % 256}.9"))
        started = time.thread_time()
        resolved = resolve(table, caller, NOW, pbx=PBX)
        taken.append(time.thread_time() - started)
        assert resolved.source is Source.SUBNET
        assert resolved.phone.id == f"phone_{n}"
    taken.sort()
    assert taken[int(len(taken) * 0.99)] < 0.005
