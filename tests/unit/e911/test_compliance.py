"""The rules of the per-device report: what is met, what is not, and what these records cannot show."""

import datetime as dt
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from engine.e911.carriers import CarrierProfiles
from engine.e911.compliance import COLUMNS, Finding, Ground, Proof, Station, Verdict, row_of, told_whole
from engine.e911.location import (
    AccountTable,
    AttachedBy,
    Attachment,
    CivicAddress,
    Confirmed,
    DispatchableLocation,
    Line,
    Mac,
    Network,
    Pbx,
    Phone,
    Sighting,
    Trunk,
)
from engine.models import Placement

NOW = dt.datetime(2026, 11, 22, 20, 0, tzinfo=dt.UTC)
CIVIC = {"country": "US", "A1": "NY", "A3": "Albany", "HNO": "120", "RD": "Washington", "STS": "Ave", "FLR": "4"}
HQ = DispatchableLocation(
    "location_hq", "Headquarters", CivicAddress.of(CIVIC), status="validated", validated_at=NOW - dt.timedelta(days=9)
)
PHONE = Phone("phone_1", Mac("0015654aa937"), "Desk", "location_hq", ("line_1",))
LINE = Line("line_1", "101", "101", "Desk", "+15185550101", None, None)
STATION = Station(
    "phone_1", "0015654aa937", "yealink", "T46U", "Desk", "current", NOW, 1, "line_1", "101", "Desk", "101"
)
PROOF = Proof("0015654aa937.cfg", "9f86d081", NOW - dt.timedelta(days=2), ("911", "933"))
TRUNK = Trunk("trunk_1", "Carrier", 10, "127.0.0.1")


def table(**fields: Any) -> AccountTable:
    defaults: dict[str, Any] = {
        "account_id": "account_1", "name": "Acme", "locations": {"location_hq": HQ}, "phones": (PHONE,),
        "lines": (LINE,), "trunks": (TRUNK,),
    }  # fmt: skip
    return AccountTable(**defaults | fields)


def ground(account: AccountTable | None = None, **fields: Any) -> Ground:
    defaults: dict[str, Any] = {
        "table": account or table(), "now": NOW, "profiles": CarrierProfiles({}), "proofs": {"phone_1": PROOF},
        "recipients": {"": ["desk@example.com"]}, "holders": {"line_1": 1},
    }  # fmt: skip
    return Ground(**defaults | fields)


def at(place: DispatchableLocation | None, **fields: Any) -> AccountTable:
    return table(locations={"location_hq": place} if place is not None else {}, **fields)


def test_all_three_are_met_with_their_evidence() -> None:
    """E-16: a validated address on a fixed phone, a proven dial plan, a recipient."""
    row = row_of(STATION, ground())
    assert [row.direct_dialing.verdict, row.notification.verdict, row.location.verdict] == [Verdict.MET] * 3
    assert row.verdict is Verdict.MET
    assert row.direct_dialing.why == (
        "911 and 933 leave at once and with no prefix by the dial plan of 0015654aa937.cfg, fetched 2026-11-20 20:00 "
        "UTC, ETag 9f86d081."
    )
    assert row.location.why == "Headquarters goes with the call by way of Carrier: set on phone 0015654aa937."
    assert not any(finding.todo for finding in (row.direct_dialing, row.notification, row.location))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (None, "No location would go with a call"),
        (replace(HQ, civic_address=CivicAddress.of({"country": "US", "A1": "NY"})), "names an area"),
        (replace(HQ, civic_address=CivicAddress.of(CIVIC | {"HNO": ""})), "lacks its house number"),
        (replace(HQ, status="rejected", validated_at=None), "was rejected"),
        (replace(HQ, status="draft", validated_at=None), "never validated"),
        (replace(HQ, status="draft"), "never validated"),
    ],
)
def test_a_location_nobody_can_be_sent_to_is_not_met(place: DispatchableLocation | None, words: str) -> None:
    """E-16, 47 CFR § 9.3: none, an area, an address with a gap, one that was not validated."""
    finding = row_of(STATION, ground(at(place))).location
    assert (finding.verdict, words in finding.why, bool(finding.todo)) == (Verdict.NOT_MET, True, True)


@pytest.mark.parametrize(
    ("fields", "more", "verdict", "words"),
    [
        ({"trunks": ()}, {}, "not_met", "No trunk is switched on"),
        ({"trunks": ()}, {"has_last_resort": True}, "unknown", "another account's trunk"),
        ({"trunks": (replace(TRUNK, enabled=False),)}, {}, "not_met", "No trunk is switched on"),
        ({"trunks": (replace(TRUNK, location_mode="none"),)}, {}, "unknown", "has on file for +15185550101"),
    ],
)
def test_a_location_that_does_not_leave_is_not_met(
    fields: dict[str, Any], more: dict[str, Any], verdict: str, words: str
) -> None:
    """E-16: the trunk that a call would take first decides, as for the call."""
    finding = row_of(STATION, ground(table(**fields), **more)).location
    assert (finding.verdict, words in finding.why) == (verdict, True)


def test_a_trunk_that_does_not_answer_is_not_the_first() -> None:
    """E-16: which trunk is named is the engine's ranking of this moment."""
    both = (replace(TRUNK, location_mode="none"), replace(TRUNK, id="trunk_2", name="Other", priority=20))
    assert row_of(STATION, ground(table(trunks=both))).location.verdict is Verdict.UNKNOWN
    row = row_of(STATION, ground(table(trunks=both), down={"trunk_1"}))
    assert (row.told.trunk, row.location.verdict) == ("Other", Verdict.MET)


ON_WIFI = {
    "sightings": {"phone_1": Sighting("phone_1", None, None, "001a2b3c4d5e", None, "api", NOW)},
    "attachments": (Attachment("network_1", AttachedBy.BSSID, "001a2b3c4d5e", "location_hq"),),
}
SEEN_AT_HOME = {"phone_1": Sighting("phone_1", None, None, None, ip_address("203.0.113.9"), "held", NOW)}
CONFIRMED = {
    "sightings": SEEN_AT_HOME,
    "confirmed": (Confirmed("confirmed_1", "location_hq", NOW, "phone_1", None, ip_network("203.0.113.0/24"), None),),
}
OLD = {
    "sightings": {"phone_1": replace(SEEN_AT_HOME["phone_1"], seen_at=NOW - dt.timedelta(days=2))},
    "networks": (Network("network_1", ip_network("203.0.113.0/24"), "location_hq"),),
}
UNPLACED = {
    "sightings": {"phone_1": Sighting("phone_1", "cabinet-3", None, None, None, "api", NOW)},
    "attachments": (Attachment("network_1", AttachedBy.SWITCH, "cabinet-4", "location_hq"),),
}
BY_DEFAULT = {"phones": (replace(PHONE, location_id=None),), "default_location_id": "location_hq"}


@pytest.mark.parametrize(
    ("placement", "fields", "paragraph", "verdict"),
    [
        (Placement.FIXED, {}, "(i)", "met"),
        (Placement.FIXED, ON_WIFI, "(i)", "met"),
        (Placement.FIXED, BY_DEFAULT, "(i)", "unknown"),
        (Placement.FIXED, OLD, "(i)", "unknown"),
        (Placement.FIXED, UNPLACED, "(i)", "unknown"),
        (Placement.NON_FIXED, UNPLACED, "(ii)", "not_met"),
        (Placement.NON_FIXED, {}, "(ii)", "not_met"),
        (Placement.NON_FIXED, ON_WIFI, "(ii)", "met"),
        (Placement.NON_FIXED, CONFIRMED, "(ii)", "met"),
        (Placement.NON_FIXED, BY_DEFAULT, "(ii)", "unknown"),
        (Placement.OFF_PREMISES, {}, "(iii)", "unknown"),
        (Placement.OFF_PREMISES, CONFIRMED, "(iii)", "met"),
    ],
)
def test_each_kind_of_device_has_its_own_paragraph(
    placement: Placement, fields: dict[str, Any], paragraph: str, verdict: str
) -> None:
    """E-16, 47 CFR § 9.16(b)(3): a record is enough for what stands still, and for nothing that is carried about."""
    row = row_of(replace(STATION, placement=placement), ground(table(**fields)))
    assert row.location.paragraph == f"47 CFR § 9.16(b)(3){paragraph}"
    assert row.location.verdict == verdict, row.location.why
    assert (row.placement, row.placement_by) == (placement, "said")


@pytest.mark.parametrize(
    ("station", "fields", "expected", "by"),
    [
        (STATION, {}, Placement.FIXED, "assumed"),
        (STATION, ON_WIFI, Placement.NON_FIXED, "assumed"),
        (STATION, CONFIRMED, Placement.OFF_PREMISES, "assumed"),
        (replace(STATION, is_application=True), {}, Placement.NON_FIXED, "assumed"),
        (replace(STATION, placement="fixed", is_application=True), ON_WIFI, Placement.FIXED, "said"),
        (replace(STATION, phone_id="", mac=""), {"phones": ()}, None, "unknown"),
    ],
)
def test_what_kind_of_device_it_is_goes_by_a_person_s_word_first(
    station: Station, fields: dict[str, Any], expected: Placement | None, by: str
) -> None:
    """E-16: else by what is seen of it; a line without a phone is nothing that anybody could guess."""
    row = row_of(station, ground(table(**fields)))
    assert (row.placement, row.placement_by) == (expected, by)
    assert row.placement_why


def test_a_phone_seen_at_a_switch_that_nobody_has_placed_is_told_so() -> None:
    """E-16: its record may be of where it stood before."""
    row = row_of(STATION, ground(table(**UNPLACED)))
    assert row.placement_why == "a telephone at a desk, though it was last seen where no location is"
    assert "it was seen at a switch or access point of none" in row.location.why
    assert "Add that switch or access point" in row.location.todo


@pytest.mark.parametrize(
    ("station", "proofs", "verdict", "words"),
    [
        (STATION, {}, "unknown", "No proof"),
        (replace(STATION, last_fetch_at=None), {}, "unknown", "fetched no configuration yet"),
        (STATION, {"phone_1": replace(PROOF, faults=("x: 911 after timer",))}, "not_met", "x: 911 after timer"),
        (STATION, {"phone_1": replace(PROOF, numbers=("999", "112"))}, "unknown", "not among the numbers"),
        (replace(STATION, phone_id="", mac=""), {}, "unknown", "No phone with this line is provisioned here"),
    ],
)
def test_direct_dialling_is_met_by_a_proof_alone(
    station: Station, proofs: dict[str, Proof], verdict: str, words: str
) -> None:
    """E-16, 47 CFR § 9.16(b)(1): what was not proven of the file that the phone has is not known."""
    finding = row_of(station, ground(proofs=proofs)).direct_dialing
    assert (finding.verdict, words in finding.why, bool(finding.todo)) == (verdict, True, True)


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"recipients": {}}, "not_met"),
        ({"may_mail": False}, "not_met"),
        ({"recipients": {}, "webhooks": ["Screen"]}, "unknown"),
        ({"recipients": {}, "chats": {"": ["Guard"]}}, "met"),
        ({"may_mail": False, "chats": {"": ["Guard"]}}, "met"),
        ({"may_mail": False, "webhooks": ["Screen"]}, "unknown"),
        ({"webhooks": ["Screen"]}, "met"),
        ({"recipients": {"location_hq": ["guard@example.com"]}}, "met"),
    ],
)
def test_somebody_is_told_by_mail_or_it_is_not_met(fields: dict[str, Any], verdict: str) -> None:
    """E-16, 47 CFR § 9.16(b)(2): a webhook may tell a person; nobody here knows."""
    assert row_of(STATION, ground(**fields)).notification.verdict == verdict


def test_a_message_without_a_callback_number_is_not_known_to_be_whole() -> None:
    """E-16, 47 CFR § 9.3: it names a valid callback number; the PBX may give one at the call."""
    finding = row_of(STATION, ground(table(lines=(replace(LINE, callback_number=None),)))).notification
    assert (finding.verdict, "callback number" in finding.why) == (Verdict.UNKNOWN, True)


@pytest.mark.parametrize("country", ["CA", "GB"])
def test_outside_the_united_states_the_evidence_stays_and_no_verdict_is_given(country: str) -> None:
    """E-16: 47 CFR is no law there; what it would say by its measure is told in words."""
    abroad = replace(HQ, civic_address=CivicAddress.of(CIVIC | {"country": country}))
    row = row_of(STATION, ground(at(abroad)))
    assert {row.direct_dialing.verdict, row.notification.verdict, row.location.verdict} == {Verdict.NOT_APPLICABLE}
    assert row.verdict is Verdict.NOT_APPLICABLE
    assert f"no law in {country}" in row.location.why
    assert "it would be met: Headquarters" in row.location.why
    assert "could not be said" in row.direct_dialing.why or country == "CA"  # 999 was not dialled on that plan


def test_a_territory_is_the_united_states_too() -> None:
    """E-16, 47 U.S.C. § 153(58): Puerto Rico."""
    place = replace(HQ, civic_address=CivicAddress.of(CIVIC | {"country": "PR"}))
    assert row_of(STATION, ground(at(place))).location.verdict is Verdict.MET


def test_a_caller_taken_for_another_is_not_known() -> None:
    """E-16: an extension of the PBX's own line that is this line's SIP user: the engine takes that one."""
    other = replace(LINE, id="line_2", extension="101", sip_user="u-101", pbx_id="pbx_1")
    account = table(lines=(LINE, other), pbxs={"pbx_1": Pbx("pbx_1", "PBX")})
    finding = row_of(STATION, ground(account, only_pbx_id="pbx_1")).location
    assert (finding.verdict, "taken for those of line 101" in finding.why) == (Verdict.UNKNOWN, True)


def test_an_old_address_and_one_without_a_floor_are_met_with_a_word() -> None:
    """E-16: they are what would be sent; what a person should look at is said."""
    bare = replace(HQ, civic_address=CivicAddress.of(CIVIC | {"FLR": ""}), validated_at=NOW - dt.timedelta(days=400))
    finding = row_of(STATION, ground(at(bare))).location
    assert finding.verdict is Verdict.MET
    assert "more than a year" in finding.why
    assert "no floor, suite or room" in finding.why


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [("met unknown not_met", "not_met"), ("met unknown met", "unknown"), ("met met met", "met")],
)
def test_a_row_is_as_good_as_its_worst_paragraph(verdicts: str, worst: str) -> None:
    """E-16: one that is not met is not outweighed."""
    three = [Finding("", Verdict(name), "") for name in verdicts.split()]
    row = replace(row_of(STATION, ground()), direct_dialing=three[0], notification=three[1], location=three[2])
    assert row.verdict == worst


def test_every_row_has_the_same_columns() -> None:
    """E-16: with nothing known and with everything."""
    empty = row_of(Station(line_id="line_9", sip_user="9"), ground(at(None, phones=(), lines=(), trunks=()), proofs={}))
    assert tuple(told_whole(empty)) == tuple(told_whole(row_of(STATION, ground()))) == COLUMNS
