"""Accounts with offices in several countries: what a dialled number means is told by where the caller is."""

from ipaddress import ip_network

import pytest

from engine.e911.location import CivicAddress, DispatchableLocation, Line, Network, Pbx
from tests.siptest import PBX, read_request, request
from tests.unit.e911.test_hook import NOW, account, decide, hook

OFFICES = {
    f"location_{country}": DispatchableLocation(
        f"location_{country}", country, CivicAddress.of({"country": country, "A3": country})
    )
    for country in ("US", "NZ", "GB", "FR")
}
NETWORKS = tuple(
    Network(f"network_{country}", ip_network(f"10.{at}.0.0/16"), f"location_{country}")
    for at, country in enumerate(("US", "NZ", "GB", "FR"), 1)
)
AT = {"US": "10.1.0.9", "NZ": "10.2.0.9", "GB": "10.3.0.9", "FR": "10.4.0.9", "nowhere": ""}


def dialed(number: str, country: str, **changes: object):
    values = {"locations": OFFICES, "networks": NETWORKS, "default_location_id": "location_US"} | changes
    source = [f"X-Callpoint-Source: {AT[country]}"] if AT[country] else []
    return decide(at=hook(account(**values)), uri=f"sip:{number}@192.0.2.10", added=source)


@pytest.mark.parametrize(
    ("number", "country", "sent"),
    [
        ("911", "US", "911"),
        ("9911", "US", "911"),
        ("111", "NZ", "111"),
        ("999", "GB", "999"),
        ("9999", "GB", "999"),
        ("112", "GB", "112"),
        ("15", "FR", "15"),
        ("112", "FR", "112"),
        ("911", "GB", "999"),  # a visitor's number: nothing else can have it
        ("911", "NZ", "111"),
        ("112", "US", "911"),
        ("111", "nowhere", None),  # nothing but a default is known: it is an emergency, with the default's number
    ],
)
def test_a_number_of_the_callers_country_is_an_emergency_and_leaves_as_that_countrys(number, country, sent):
    """E-01: packs are chosen by the caller's location, not by the account's country alone."""
    decision = dialed(number, country)
    assert decision.call is not None
    assert decision.forward.emergency
    uri = decision.forward.targets[0].edit.request_uri
    assert uri.startswith(f"sip:{sent or '911'}@")


@pytest.mark.parametrize(
    ("number", "country"),
    [
        ("111", "US"),
        ("999", "US"),
        ("111", "GB"),
        ("15", "GB"),
        ("999", "NZ"),
        ("17", "US"),
        ("9999", "US"),
        ("933", "GB"),
    ],
)
def test_a_number_that_is_an_emergency_elsewhere_is_a_call_like_any_other_here(number, country):
    """E-01: extension 111 in New York rings, although the account has an office in New Zealand."""
    decision = dialed(number, country)
    assert decision.call is None
    assert [target.name for target in decision.forward.targets] == ["default_route"]
    assert not decision.forward.emergency


def test_an_extension_with_the_number_of_another_office_rings_where_only_a_default_is_known():
    """E-01: a line that has the very number is what was meant, unless the caller is known to be over there."""
    lines = {"lines": (Line("line_1", "101", "101"), Line("line_2", "111", "111"))}
    assert dialed("111", "nowhere", **lines).call is None
    assert dialed("111", "NZ", **lines).call is not None


@pytest.mark.parametrize("number", ["999", "111", "112"])
def test_a_line_that_nobody_can_reach_takes_no_call_for_help(number):
    """E-01: without a default route 999 would end in our own 404 and in no line; from New York that is on record."""
    deaf = {"pbx_1": Pbx("pbx_1", "PBX", (ip_network("192.0.2.20/32"),))}
    lines = {"lines": (Line("line_1", number, number),), "pbxs": deaf}
    assert dialed(number, "nowhere", **lines).forward.emergency
    assert dialed(number, "nowhere", **lines, default_location_id=None).call.dialed.digits == number
    if number != "112":
        lost = dialed(number, "US", **lines)
        assert (lost.status, lost.call) == (404, None)
        assert lost.stranger.is_emergency


def test_an_account_of_one_country_asks_nobody_where_the_caller_is():
    """E-01: 911 in an American account is an emergency wherever the caller seems to be."""
    only = {"locations": {"location_US": OFFICES["location_US"]}, "networks": ()}
    for country in AT:
        assert dialed("911", country, **only).call is not None
    assert dialed("111", "NZ", **only).call is None


@pytest.mark.parametrize("way", ["decide", "decide_plainly", "decide_barely"])
@pytest.mark.parametrize(
    ("own", "number", "sent"),
    [
        ("US", "911", "911"),
        ("US", "9911", "911"),
        ("US", "112", "911"),  # a visitor's number there
        ("US", "urn:service:sos", "911"),
        ("US", "999", "999"),
        ("US", "9999", "999"),
        ("US", "111", "111"),
        ("US", "17", "17"),
        ("GB", "999", "999"),
        ("GB", "911", "999"),
        ("GB", "17", "17"),
    ],
)
def test_where_no_place_is_known_a_number_leaves_as_its_own_countrys(way, own, number, sent):
    """E-01: 999 is not made 911 for an account whose head office is in New York, whatever failed on our way."""
    at = hook(account(locations=OFFICES, default_location_id=None, country=own))
    uri = number if number.startswith("urn:") else f"sip:{number}@192.0.2.10"
    decision = getattr(at, way)(read_request(request(uri=uri)), PBX, NOW)
    assert decision.forward.emergency
    assert decision.forward.targets[0].edit.request_uri.startswith(f"sip:{sent}@")
