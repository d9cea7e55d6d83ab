"""Which source of a location is believed, and what the verdict says of the others."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.e911.geo import Geo, Polygon
from engine.e911.location import (
    AccountTable,
    AttachedBy,
    Attachment,
    Caller,
    CivicAddress,
    Confirmed,
    DispatchableLocation,
    Line,
    LocationTable,
    Mac,
    Network,
    Pbx,
    Phone,
    Rung,
    Sighting,
    Source,
    is_only_default,
    plain_chassis,
    plain_port,
    plain_switch_port,
    resolve,
)

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
NAMES = ("port", "switch", "wifi", "wing", "home", "desk", "line", "pbx", "account", "cottage")
PBX = Pbx("pbx_1", "Asterisk", (ip_network("192.0.2.20/32"),), "location_pbx")


def place(name, number=None, geo=None):
    civic = CivicAddress.of({"country": "US", "A1": "NY", "RD": "Main", "HNO": str(number)}) if number else None
    return DispatchableLocation(
        f"location_{name}", name, civic or CivicAddress(), geo, validated_at=NOW - timedelta(days=10)
    )


PLACES = {f"location_{name}": place(name, at) for at, name in enumerate(NAMES, start=1)}


def account(**changes):
    values = {
        "account_id": "account_1",
        "name": "Acme",
        "default_location_id": "location_account",
        "locations": PLACES,
        "networks": (Network("network_1", ip_network("10.1.0.0/16"), "location_wing"),),
        "attachments": (
            Attachment("network_2", AttachedBy.SWITCH_PORT, "001122334455/gi1/0/7", "location_port"),
            Attachment("network_3", AttachedBy.SWITCH, "001122334455", "location_switch"),
            Attachment("network_4", AttachedBy.BSSID, "00156d123456", "location_wifi"),
        ),
        "phones": (Phone("phone_1", Mac("0015654aa937"), "Desk", "location_desk", ("line_1",)),),
        "lines": (Line("line_1", "101", "101", location_id="location_line"),),
        "pbxs": {"pbx_1": PBX},
    }
    return AccountTable(**values | changes)


def seen(*, chassis=None, port=None, bssid=None, ip=None, ago=HOUR):
    return Sighting("phone_1", chassis, port, bssid, ip_address(ip) if ip else None, "api", NOW - ago)


def found(caller=None, sighting=None, at=None, pbx=PBX, **more):
    overlay = {"phone_1": sighting} if sighting else {}
    return resolve(at or account(), caller or Caller("101"), NOW, pbx=pbx, overlay=overlay, **more)


def said(resolved, source):
    return [evidence for evidence in resolved.verdict if evidence.source is source]


PORT = {"chassis": "001122334455", "port": "gi1/0/7"}
CARRIED = DispatchableLocation("", "7 Elm St", CivicAddress.of({"country": "US", "RD": "Elm", "HNO": "7"}))
HERE = Caller("101", source_ip=ip_address("10.1.2.3"))
AWAY = Caller("101", source_ip=ip_address("203.0.113.7"))
HOME = Confirmed("confirmed_1", "location_home", NOW - 9 * HOUR, "phone_1", network=ip_network("203.0.113.0/24"))
ANSWER = Rung(Source.REFERENCE, CARRIED, ("lis.example.com answered",), NOW - HOUR)


@pytest.mark.parametrize(
    ("given_", "source", "name"),
    [
        ({"sighting": seen(**PORT, bssid="00156d123456")}, Source.SWITCH_PORT, "port"),
        ({"sighting": seen(chassis="001122334455", port="gi1/0/8")}, Source.SWITCH, "switch"),
        ({"sighting": seen(chassis="001122334455")}, Source.SWITCH, "switch"),
        ({"sighting": seen(bssid="00156d123456", ip="10.1.2.3")}, Source.BSSID, "wifi"),
        ({"caller": Caller("101", bssid="00156d123456")}, Source.BSSID, "wifi"),
        ({"sighting": seen(ip="10.1.2.3")}, Source.SUBNET, "wing"),
        ({"caller": HERE}, Source.SUBNET, "wing"),
        ({"caller": AWAY, "at": account(confirmed=(HOME,)), "carried": (CARRIED,)}, Source.CONFIRMED, "home"),
        ({"caller": AWAY, "carried": (CARRIED,), "referenced": ANSWER}, Source.REQUEST, "7 Elm St"),
        ({"caller": AWAY, "referenced": ANSWER}, Source.REFERENCE, "7 Elm St"),
        ({}, Source.PHONE, "desk"),
        ({"at": account(phones=())}, Source.LINE, "line"),
        ({"caller": Caller("999")}, Source.PBX_DEFAULT, "pbx"),
        ({"caller": Caller("999"), "pbx": Pbx("pbx_2", "Other")}, Source.ACCOUNT_DEFAULT, "account"),
        ({"at": AccountTable("account_1"), "pbx": None}, Source.NONE, None),
    ],
    ids=lambda value: value.value if isinstance(value, Source) else "",
)
def test_each_source_answers_when_no_better_one_does(given_, source, name):
    """E-05: switch port, switch, BSSID, subnet, confirmed, in the request, by reference, phone, line, defaults."""
    resolved = found(**given_)
    assert (resolved.source, resolved.location.name if resolved.location else None) == (source, name)
    assert [evidence.source for evidence in resolved.verdict if evidence.taken] == [source] * (name is not None)


def test_the_verdict_names_every_source_in_its_order():
    """E-05: which, why, how old; silent ones too."""
    order = [source for source in Source if source is not Source.NONE]
    assert [evidence.source for evidence in found(at=AccountTable("account_1")).verdict] == order
    resolved = found(HERE, seen(**PORT, ip="10.1.2.3"), carried=(CARRIED,))
    assert [evidence.source for evidence in resolved.verdict] == order
    port = said(resolved, Source.SWITCH_PORT)[0]
    assert (port.said, port.taken, port.age_s, port.why) == (
        "port", True, 3600, "seen at switch port 001122334455/gi1/0/7 by api",
    )  # fmt: skip
    assert (said(resolved, Source.REQUEST)[0].said, said(resolved, Source.REQUEST)[0].age_s) == ("7 Elm St", None)


def test_a_port_nobody_has_placed_says_so():
    """E-05: the verdict tells what is missing."""
    resolved = found(sighting=seen(chassis="cabinet-3", port="2"))
    assert resolved.source is Source.PHONE
    assert said(resolved, Source.SWITCH_PORT)[0].why == (
        "seen at switch port cabinet-3/2 by api; nobody has said where that is"
    )
    assert "unplaced_sighting" in resolved.flags


@pytest.mark.parametrize(
    ("given_", "is_flagged"),
    [
        ({"sighting": seen(bssid="00156daaaaaa")}, True),
        ({"caller": Caller("101", bssid="00156daaaaaa")}, True),
        ({"sighting": seen(chassis="cabinet-3")}, True),
        ({"sighting": seen(chassis="cabinet-3", ago=30 * HOUR)}, False),  # too long ago to doubt the record for it
        ({"sighting": seen(chassis="cabinet-3"), "at": account(attachments=())}, False),  # nobody places switches here
        ({"sighting": seen(chassis="001122334455", port="gi1/0/8")}, False),  # its switch has a place
        ({"sighting": seen(chassis="cabinet-3"), "caller": HERE}, False),  # its subnet has one
        ({"sighting": seen(chassis="cabinet-3"), "at": account(phones=())}, False),  # another phone's
    ],
)
def test_a_phone_seen_where_nobody_has_placed_anything_is_flagged_when_a_record_is_sent(given_, is_flagged):
    """E-05: it may have been carried there; whoever reads the mail asks the caller."""
    assert ("unplaced_sighting" in found(**given_).flags) is is_flagged


# --- how old, and where the phone is by now ---------------------------------------------------------------------------


def test_a_sighting_of_yesterday_is_used_while_nothing_contradicts_it_and_flagged():
    """E-05: older than a day: it counts less, not nothing."""
    resolved = found(sighting=seen(**PORT, ago=30 * HOUR))
    assert (resolved.source, resolved.flags) == (Source.SWITCH_PORT, ("stale_sighting", "disagreement"))


@pytest.mark.parametrize(
    "fresh",
    [
        {"caller": HERE},
        {"caller": Caller("101", bssid="00156d123456")},
        {"caller": AWAY, "at": account(confirmed=(HOME,))},
        {"carried": (CARRIED,)},
        {"referenced": ANSWER},
    ],
)
def test_a_sighting_of_yesterday_yields_to_what_is_of_now(fresh):
    """E-05: a fresher source that contradicts it wins, and the verdict says why the port was passed over."""
    resolved = found(**fresh, sighting=seen(**PORT, ago=30 * HOUR))
    assert resolved.source not in {Source.SWITCH_PORT, Source.SWITCH}
    passed = said(resolved, Source.SWITCH_PORT)[0]
    assert (passed.said, passed.taken) == ("port", False)
    assert "it is more than a day old" in passed.why or "has another address now" in passed.why


def test_records_of_phone_and_line_do_not_contradict_a_sighting():
    """E-05: they are older than any sighting is likely to be."""
    assert found(sighting=seen(**PORT, ago=100 * HOUR)).source is Source.SWITCH_PORT


def test_a_phone_that_has_another_address_than_when_it_was_seen_has_moved():
    """E-05: it was carried from the desk to the wing; the switch still remembers the desk."""
    resolved = found(HERE, seen(**PORT, ip="10.9.9.9", ago=HOUR / 60))
    assert (resolved.source, resolved.location.name) == (Source.SUBNET, "wing")
    assert "the phone has another address now" in said(resolved, Source.SWITCH_PORT)[0].why
    stayed = found(HERE, seen(**PORT, ip="10.1.2.3", ago=HOUR / 60))
    assert stayed.source is Source.SWITCH_PORT


def test_a_phone_that_went_from_the_wire_to_wi_fi_has_moved():
    """E-05: the access point in the request is of now."""
    assert found(Caller("101", bssid="00156d123456"), seen(**PORT)).source is Source.BSSID


def test_the_latest_sighting_counts_wherever_it_is_kept():
    """E-05: told since the snapshot, or in it."""
    stored = account(sightings={"phone_1": seen(bssid="00156d123456", ago=HOUR)})
    assert found(at=stored).source is Source.BSSID
    assert found(at=stored, sighting=seen(**PORT, ago=HOUR / 2)).source is Source.SWITCH_PORT
    assert found(at=stored, sighting=seen(**PORT, ago=2 * HOUR)).source is Source.BSSID


# --- networks ---------------------------------------------------------------------------------------------------------


def test_a_network_bound_to_the_pbx_comes_before_a_narrower_one_of_nobody():
    """E-05: private ranges repeat between sites; the PBX says which site this is."""
    networks = (
        Network("network_1", ip_network("192.168.1.0/24"), "location_wing"),
        Network("network_2", ip_network("192.168.0.0/16"), "location_desk", "pbx_1"),
    )
    caller = Caller("101", source_ip=ip_address("192.168.1.9"))
    assert found(caller, at=account(networks=networks)).location.name == "desk"
    assert found(caller, at=account(networks=networks), pbx=Pbx("pbx_2", "Other")).location.name == "wing"


def test_a_switch_bound_to_the_pbx_comes_before_one_of_nobody():
    attachments = (
        Attachment("network_1", AttachedBy.SWITCH, "stack-1", "location_wing"),
        Attachment("network_2", AttachedBy.SWITCH, "stack-1", "location_desk", "pbx_1"),
        Attachment("network_3", AttachedBy.SWITCH, "stack-1", "location_gone", "pbx_1"),
    )
    table = account(attachments=attachments)
    assert found(at=table, sighting=seen(chassis="stack-1")).location.name == "desk"
    assert table.attachment_of(AttachedBy.SWITCH, "stack-1", "pbx_9").location_id == "location_wing"
    assert table.attachment_of(AttachedBy.BSSID, "stack-1", "pbx_1") is None


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(8, 32)), min_size=1, max_size=20),
    st.integers(0, 2**32 - 1),
)
def test_the_narrowest_network_around_an_address_is_the_one_a_search_would_find(networks, address):
    """E-05: longest prefix, against the plainest way to find it."""
    rows = [
        Network(f"network_{at}", ip_network((number >> (32 - length) << (32 - length), length)), "location_wing")
        for at, (number, length) in enumerate(networks)
    ]
    around = [row for row in rows if ip_address(address) in row.subnet]
    table = account(networks=tuple(rows))
    answer = table.network_of(ip_address(address), None)
    assert (answer.subnet.prefixlen if answer else None) == max((row.subnet.prefixlen for row in around), default=None)


# --- confirmed by the user --------------------------------------------------------------------------------------------


def confirmed(at, **more):
    return Confirmed(
        f"confirmed_{at}", **{"location_id": "location_home", "confirmed_at": NOW - HOUR, "phone_id": "phone_1"} | more
    )


def test_a_confirmed_address_counts_only_on_the_network_it_was_confirmed_on():
    """E-05: elsewhere it is evidence that was passed over, and says so."""
    elsewhere = found(Caller("101", source_ip=ip_address("198.51.100.7")), at=account(confirmed=(HOME,)))
    (evidence,) = said(elsewhere, Source.CONFIRMED)
    assert (elsewhere.source, evidence.said, evidence.taken) == (Source.PHONE, "home", False)
    assert evidence.why == (
        "confirmed on 203.0.113.0/24; passed over: the caller is on 198.51.100.7, and it holds only there"
    )
    unknown = found(at=account(confirmed=(HOME,)))
    assert "nobody knows which network" in said(unknown, Source.CONFIRMED)[0].why
    assert "disagreement" not in said(unknown, Source.CONFIRMED)[0].why


def test_a_private_range_binds_no_confirmed_address():
    """E-05: 192.168.1.0/24 is in every home."""
    row = confirmed(1, network=ip_network("192.168.1.0/24"))
    resolved = found(Caller("101", source_ip=ip_address("192.168.1.5")), at=account(confirmed=(row,)))
    assert resolved.source is Source.PHONE
    assert "a private range repeats everywhere" in said(resolved, Source.CONFIRMED)[0].why


def test_of_several_confirmed_addresses_the_closest_and_latest_holds():
    """E-05: home and cottage; the second word on one network replaces the first."""
    rows = (
        confirmed(1, network=ip_network("203.0.112.0/20")),
        confirmed(2, network=ip_network("203.0.113.0/24"), location_id="location_wing", confirmed_at=NOW - 9 * HOUR),
        confirmed(3, network=ip_network("203.0.113.0/24"), location_id="location_cottage"),
        confirmed(4, bssid="00156daaaaaa", location_id="location_port"),
    )
    resolved = found(AWAY, at=account(confirmed=rows))
    assert (resolved.location.name, len(said(resolved, Source.CONFIRMED))) == ("cottage", 4)
    assert found(Caller("101", bssid="00156daaaaaa"), at=account(confirmed=rows)).location.name == "port"


def test_an_address_confirmed_for_the_line_holds_for_a_caller_without_a_phone():
    row = confirmed(1, phone_id=None, line_id="line_1", network=ip_network("2001:db8:7::/48"))
    caller = Caller("101", source_ip=ip_address("2001:db8:7::9"))
    assert found(caller, at=account(confirmed=(row,), phones=())).source is Source.CONFIRMED


def test_a_sighting_of_today_says_which_network_the_caller_is_on():
    """E-05: the softphone told its address over HELD; the PBX gave none."""
    assert found(at=account(confirmed=(HOME,)), sighting=seen(ip="203.0.113.9")).source is Source.CONFIRMED
    assert found(at=account(confirmed=(HOME,)), sighting=seen(ip="203.0.113.9", ago=30 * HOUR)).source is Source.PHONE


def test_an_address_confirmed_more_than_a_year_ago_is_used_and_flagged():
    row = confirmed(1, network=ip_network("203.0.113.0/24"), confirmed_at=NOW - timedelta(days=400))
    resolved = found(AWAY, at=account(confirmed=(row,)))
    assert resolved.source is Source.CONFIRMED
    assert "stale" in resolved.flags


def test_a_confirmed_location_that_is_gone_is_told():
    row = confirmed(1, network=ip_network("203.0.113.0/24"), location_id="location_gone")
    assert "cannot be conveyed" in said(found(AWAY, at=account(confirmed=(row,))), Source.CONFIRMED)[0].why


# --- disagreement -----------------------------------------------------------------------------------------------------


def at_(latitude, longitude, **more):
    return DispatchableLocation("", "somewhere", CivicAddress(), Geo(latitude, longitude, **more))


def test_positions_far_apart_disagree_and_close_ones_do_not():
    """E-05: an alarm when sources disagree; a phone's own fix in the same building raises none."""
    desk = place("desk", geo=Geo(42.65, -73.75))
    table = account(locations=PLACES | {"location_desk": desk, "location_line": desk})
    assert "disagreement" in found(at=table, carried=(at_(42.70, -73.75),)).flags
    near = found(at=table, carried=(at_(42.6505, -73.7501),))
    assert (near.flags, [one for one in near.verdict if one.elsewhere is not None]) == ((), [])
    assert found(at=table, carried=(at_(42.70, -73.75, radius_m=9000.0),)).flags == ()
    corners = ((42.6, -73.8), (42.6, -73.7), (42.7, -73.7), (42.7, -73.8))
    around = DispatchableLocation("", "town", CivicAddress(), Polygon(corners))
    assert found(at=table, carried=(around,)).flags == ()


def test_a_position_and_an_address_cannot_be_compared():
    """E-05: what cannot be compared raises no alarm."""
    assert found(carried=(at_(42.65, -73.75),)).flags == ()


def test_what_was_passed_over_disagrees_with_nothing():
    assert (
        "disagreement"
        not in found(at=account(confirmed=(HOME,), lines=()), caller=Caller("x", device="0015654aa937")).flags
    )


# --- the request's own, and references --------------------------------------------------------------------------------


def test_the_first_location_of_a_request_is_taken_and_the_others_are_told():
    """E-05: RFC 5491 §3.3."""
    second = DispatchableLocation("", "9 Oak St", CivicAddress.of({"RD": "Oak", "HNO": "9"}))
    empty = DispatchableLocation("", "", CivicAddress())
    resolved = found(carried=(empty, CARRIED, second))
    assert resolved.location is CARRIED
    assert [evidence.said for evidence in said(resolved, Source.REQUEST)] == [None, "7 Elm St", "9 Oak St"]
    assert "disagreement" in resolved.flags
    other = [evidence for evidence in resolved.verdict if evidence.elsewhere is second]
    assert [(evidence.source, evidence.taken) for evidence in other] == [(Source.REQUEST, False)]
    assert not any(evidence.elsewhere for evidence in found(carried=(CARRIED,)).verdict if evidence.said == "7 Elm St")


def test_a_reference_is_worth_a_wait_only_when_a_default_is_all_there_is():
    """E-02: the only wait there can be."""
    assert is_only_default(found(Caller("999")))
    assert is_only_default(found(at=AccountTable("account_1")))
    assert not is_only_default(found())


def test_a_verdict_can_be_told_whatever_the_names_hold():
    """E-05: braces in a name are no pattern."""
    empty = DispatchableLocation("location_wing", "{0} {", CivicAddress())
    table = account(name="{x}", locations=PLACES | {"location_wing": empty})
    resolved = found(HERE, seen(chassis="{1}", port="{"), at=table)
    assert (
        said(resolved, Source.SUBNET)[0].why
        == "10.1.2.3 is in 10.1.0.0/16; {0} { has neither an address nor coordinates"
    )
    assert said(resolved, Source.SWITCH)[0].why == "seen at switch {1} by api; nobody has said where that is"


@given(
    st.builds(
        Sighting,
        st.just("phone_1"),
        st.sampled_from([None, "001122334455", "x"]),
        st.sampled_from([None, "gi1/0/7"]),
        st.sampled_from([None, "00156d123456"]),
        st.sampled_from([None, ip_address("10.1.2.3"), ip_address("2001:db8::1")]),
        st.just("api"),
        st.sampled_from([NOW + HOUR, NOW, NOW - 30 * HOUR]),
    ),
    st.sampled_from([None, ip_address("10.1.2.3"), ip_address("203.0.113.7"), ip_address("2001:db8::1")]),
    st.sampled_from([None, "00156d123456", "00156dffffff"]),
    st.booleans(),
)  # fmt: skip
def test_whatever_was_seen_there_is_one_answer_and_a_whole_verdict(sighting, address, bssid, has_carried):
    """E-05: the first word that counts is the answer; nobody else is marked as taken."""
    resolved = found(
        Caller("101", source_ip=address, bssid=bssid),
        sighting,
        account(confirmed=(HOME,)),
        carried=(CARRIED,) if has_carried else (),
    )
    taken = [evidence for evidence in resolved.verdict if evidence.taken]
    assert [evidence.source for evidence in taken] == [resolved.source]
    assert all(evidence.why and "{" not in evidence.why for evidence in resolved.verdict)
    assert resolved.flags is not None


# --- the overlay ------------------------------------------------------------------------------------------------------


def test_sightings_are_kept_beside_the_table_until_a_snapshot_has_them():
    """Decision 2: told at once, without a new table; and let go later."""
    table = LocationTable()
    table.put(account())
    for number in range(50):
        table.note_sighting("account_1", Sighting(f"phone_{number}", "a", None, None, None, "api", NOW))
    table.note_sighting("account_1", Sighting("phone_7", "old", None, None, None, "api", NOW - HOUR))
    assert len(table.overlay_of("account_1")) == 50
    assert table.overlay_of("account_1")["phone_7"].chassis == "a"
    assert table.overlay_of("account_2") == {}
    table.put(account(sightings=dict(table.overlay_of("account_1"))))
    for number in range(50, 70):
        table.note_sighting("account_1", Sighting(f"phone_{number}", "a", None, None, None, "api", NOW + HOUR))
    assert set(table.overlay_of("account_1")) == {f"phone_{number}" for number in range(50, 70)}
    table.drop("account_1")
    table.note_sighting("account_1", Sighting("phone_99", "a", None, None, None, "api", NOW))
    assert len(table.overlay_of("account_1")) < 20


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("00:11:22:33:44:55", "001122334455"), ("0011.2233.4455", "001122334455"), (" Stack-1 ", "stack-1"),
        ("SW  3", "sw 3"), ("", None), ("a/b", None), ("x" * 101, None),
    ],
)  # fmt: skip
def test_a_chassis_has_one_spelling(text, plain):
    assert plain_chassis(text) == plain


def test_a_switch_port_is_split_at_its_first_slash():
    assert plain_switch_port("00-11-22-33-44-55/Gi1/0/12") == "001122334455/gi1/0/12"
    assert plain_switch_port("stack-1/7") == "stack-1/7"
    assert [plain_switch_port(text) for text in ("stack-1", "/7", "stack-1/", "")] == [None] * 4
    assert plain_port(" GE 1 ") == "ge 1"
