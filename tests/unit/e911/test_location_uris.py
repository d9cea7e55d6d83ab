"""Location references: who may be asked, what an answer is worth and for how long."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.e911.location import AccountTable, CivicAddress, DispatchableLocation, Geo, Pbx, Source
from engine.e911.location_uris import MAX_KNOWN, LocationUris, authority_of, located, refusal_of
from engine.e911.pidf import CarriedLocation, write_pidf
from engine.e911.references import mint

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
URI = "https://lis.example.com/r/9f2c"
KEY = ("account_1", URI)
PBX = Pbx(
    "pbx_1", "PBX", (ip_network("192.0.2.20/32"), ip_network("10.0.0.0/8")), tls_name="pbx.example.com",
    registrar_host="sip.example.com",
)  # fmt: skip
WING = DispatchableLocation("x", "", CivicAddress.of({"country": "US", "A3": "Albany", "RD": "Main", "HNO": "7"}))
PIDF = write_pidf(WING, "pres:a@b", NOW)
SECOND = timedelta(seconds=1)


def uris(*hosts):
    return LocationUris(frozenset(hosts or {"lis.example.com"}))


def look(at, after=timedelta(), *, has_waited=False, uri=URI, account="account_1"):
    table = AccountTable(account, locations={"location_1": WING})
    return at.look(table, PBX, uri, NOW + after, has_waited=has_waited)


@pytest.mark.parametrize(
    ("uri", "hosts", "refused"),
    [
        ("https://lis.example.com/r/1", {"lis.example.com"}, ""),
        ("https://LIS.example.com:443/r/1", {"lis.example.com"}, ""),
        ("https://lis.example.com:8443/r/1", {"lis.example.com"}, "not listed"),
        ("https://lis.example.com:8443/r/1", {"lis.example.com:8443"}, ""),
        ("https://other.example.com/", {"lis.example.com"}, "not listed"),
        ("https://pbx.example.com/r", set(), ""),
        ("https://sip.example.com/r", set(), ""),
        ("https://192.0.2.20/r", set(), ""),
        ("https://10.0.0.0/r", set(), "not listed"),
        ("https://10.1.2.3/r", set(), "not listed"),
        ("https://pbx.example.com:8443/r", set(), "not listed"),
        ("http://10.0.0.5:8080/r", {"10.0.0.5:8080"}, ""),
        ("http://localhost:8080/r", {"localhost:8080"}, ""),
        ("http://[fd00::5]/r", {"[fd00::5]"}, ""),
        ("https://[fd00::5]:8443/r", {"[fd00::5]:8443"}, ""),
        ("http://pbx.example.com/r", set(), "http is used"),
        ("http://lis.example.com/r", {"lis.example.com"}, "http is used"),
        ("http://203.0.113.9/r", {"203.0.113.9"}, "http is used"),
        ("https://lis.example.com@169.254.169.254/", {"lis.example.com"}, "no https URI"),
        ("https://lis.example.com\\@169.254.169.254/", {"lis.example.com"}, "no https URI"),
        ("https://lis.example.com:x/", {"lis.example.com"}, "no https URI"),
        ("https://[::1/", {"::1"}, "no https URI"),
        ("ftp://lis.example.com/", {"lis.example.com"}, "no https URI"),
        ("https://lis.example.com/\r\nX: y", {"lis.example.com"}, "no https URI"),
        ("https://" + "a" * 3000, set(), "no https URI"),
        ("cid:a@b", set(), "no https URI"),
        ("https:///etc/passwd", {""}, "no https URI"),
    ],
)
def test_only_listed_servers_and_the_pbx_itself_are_asked(uri, hosts, refused):
    """E-05: a request cannot make us call just anybody; plain http stays inside."""
    answer = refusal_of(authority_of(uri), hosts, PBX)
    assert (refused in answer) if refused else answer == ""


@given(st.text(max_size=60))
def test_any_text_is_a_uri_to_ask_or_none(text):
    for uri in (text, f"https://{text}"):
        authority = authority_of(uri)
        assert authority is None or (authority.host and " " not in authority.host and "@" not in authority.host)


def test_a_refused_reference_is_neither_asked_nor_waited_for():
    """E-02: and the verdict names no path: a reference is a secret."""
    answer = look(uris(), uri="https://internal.example.com/secret-path")
    assert (answer.ask, answer.may_wait, answer.rung.location) == (False, False, None)
    assert "internal.example.com" in answer.rung.why
    assert not any("secret-path" in str(part) for part in answer.rung.why)


def test_a_reference_met_for_the_first_time_may_be_waited_for_once():
    """E-02: then the call goes on, whatever came."""
    at = uris()
    first = look(at)
    assert (first.ask, first.may_wait, first.rung.source) == (True, True, Source.REFERENCE)
    assert not look(at, has_waited=True).may_wait


def test_an_answer_serves_the_next_call_until_it_is_no_longer_fresh():
    """E-05: dereferenced ahead when the same URI was met before."""
    at = uris()
    look(at)
    assert at.answered(KEY, NOW, PIDF, "", 60.0)
    hit = look(at, 59 * SECOND)
    assert (hit.ask, hit.may_wait, hit.rung.location.name) == (False, False, "7 Main, Albany")
    assert hit.rung.said_at == NOW
    old = look(at, 61 * SECOND)
    assert (old.ask, old.may_wait, old.rung.counts) == (True, True, False)
    after_wait = look(at, 61 * SECOND, has_waited=True)
    assert (after_wait.rung.counts, after_wait.rung.location.name) == (True, "7 Main, Albany")
    assert look(at, timedelta(hours=25), has_waited=True).rung.location is None


def test_one_account_is_not_told_what_another_was_told():
    at = uris()
    look(at)
    at.answered(KEY, NOW, PIDF, "", None)
    assert look(at, account="account_2").rung.location is None


def test_the_document_s_own_expiry_is_the_end_of_it():
    """RFC 4119 §2.2.2: nothing is kept beyond retention-expiry."""
    at = uris()
    look(at)
    expiring = PIDF.replace(b"2026-11-22T20:00:00", b"2026-11-21T20:02:00")
    assert expiring != PIDF
    at.answered(KEY, NOW, expiring, "", 3600.0)
    assert look(at, 119 * SECOND).rung.counts
    assert look(at, 121 * SECOND, has_waited=True).rung.location is None


def test_an_answer_that_may_not_be_kept_still_serves_its_call():
    at = uris()
    look(at)
    at.answered(KEY, NOW, PIDF, "", 0.0)
    assert look(at, 5 * SECOND).rung.location is not None
    assert look(at, 11 * SECOND).ask


@pytest.mark.parametrize(
    ("pidf", "detail", "why"),
    [
        (None, "it answered 404", "it answered 404"),
        (b"<!DOCTYPE x><x/>", "", "doctype"),
        (b"<presence", "", "expected"),
        (b"<x/>", "", "its answer holds no location"),
        (None, "", "its answer holds no location"),
    ],
)
def test_a_server_that_fails_is_not_waited_for_for_ten_seconds(pidf, detail, why):
    """E-02: every call within that time leaves at once; the server is asked all the same."""
    at = uris()
    look(at)
    assert not at.answered(KEY, NOW, pidf, detail, None)
    other = look(at, SECOND, uri=URI + "/another")
    assert (other.ask, other.may_wait) == (True, False)
    assert any(why in str(part) for part in look(at, SECOND).rung.why)
    assert look(at, 11 * SECOND).may_wait
    at.was_late(KEY, NOW)
    assert not look(at, SECOND).may_wait
    at.answered(KEY, NOW, PIDF, "", 0.0)
    assert look(at, 11 * SECOND).may_wait


def test_what_is_used_is_asked_for_ahead_and_what_is_not_is_left():
    """E-05: dereferenced ahead."""
    at = uris()
    look(at)
    at.answered(KEY, NOW, PIDF, "", 300.0)
    assert at.due(NOW + 100 * SECOND) == []
    assert at.due(NOW + 285 * SECOND) == [KEY]
    at.answered(KEY, NOW, PIDF, "", 30.0)
    assert at.due(NOW + 25 * SECOND) == []
    at.answered(KEY, NOW + timedelta(hours=25), PIDF, "", 300.0)
    assert at.due(NOW + timedelta(hours=25) + 290 * SECOND) == []


def test_what_is_remembered_is_bounded():
    at = uris()
    for number in range(MAX_KNOWN + 10):
        look(at, uri=f"https://lis.example.com/{number}")
    assert not at.answered(("account_1", "https://lis.example.com/3"), NOW, PIDF, "", None)
    assert at.answered(("account_1", "https://lis.example.com/4000"), NOW, PIDF, "", None)


def test_a_location_from_outside_is_named_by_what_it_says():
    """The front desk reads it."""
    civic = CivicAddress.of({"NAM": "Acme", "HNO": "1", "RD": "Main", "STS": "St", "FLR": "2", "A3": "Troy"})
    assert (
        located(CarriedLocation("", civic, None, None, retransmission_allowed=True)).name
        == "Acme, 1 Main St, floor 2, Troy"
    )
    assert located(CarriedLocation("", CivicAddress(), Geo(42.65, -73.75), None, retransmission_allowed=True)).name == (
        "42.65000, -73.75000"
    )
    assert (
        located(CarriedLocation("", CivicAddress.of({"country": "US"}), None, None, retransmission_allowed=True)).name
        == "US"
    )


@pytest.mark.parametrize(
    ("fields", "account", "found"),
    [
        ({}, "account_1", True),
        ({}, "account_2", False),
        ({"location_id": "location_gone"}, "account_1", False),
        ({"target_id": "phone_1"}, "account_1", False),
        ({"expires": NOW}, "account_1", False),
    ],
)
def test_a_reference_of_our_own_is_opened_without_asking_anybody(fields, account, found):
    """E-13: a phone fetched it over HELD and names it in its call (RFC 6442)."""
    key = b"k" * 32
    at = LocationUris(frozenset(), "https://phones.example.com/held", key)
    values = {
        "account_id": "account_1",
        "location_id": "location_1",
        "call_id": "",
        "expires": NOW + timedelta(hours=1),
    }
    answer = look(at, uri=f"https://phones.example.com/held/{mint(key, **values | fields)}", account=account)
    assert ((answer.rung.location is WING), answer.ask, answer.may_wait) == (found, False, False)
    assert look(at, uri="https://phones.example.com/held/nonsense").rung.location is None
