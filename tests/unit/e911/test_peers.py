"""Who is asking: certificate name, digest, address, our own proof; what becomes of those nobody knows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest

from engine.e911.carriers import load_profiles
from engine.e911.hook import Hook
from engine.e911.location import AccountTable, CivicAddress, DispatchableLocation, Line, LocationTable, Pbx, Trunk
from engine.e911.peers import (
    MAX_CHALLENGED,
    MAX_CHALLENGES_PER_ADDRESS,
    MAX_CHALLENGES_PER_S,
    PROOF_WITHIN_S,
    Peer,
    Peers,
    Unknown,
)
from engine.e911.route import Deadlines
from engine.e911.rows import Number
from engine.sip.auth import Challenge, Credentials, Verdict, answer, read_parameters
from engine.sip.edit import response_to
from engine.sip.forward import Hop
from tests.siptest import read_request, request

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
INSIDE = Hop("udp", "192.0.2.20", 5060)
OUTSIDE = Hop("udp", "198.51.100.66", 5060)
TRUNK = Hop("udp", "203.0.113.1", 5060)
TLS = Hop("tls", "198.51.100.67", 40_000, 7)
BOB = Credentials("bob", "zanzibar")
CIVIC = CivicAddress.of({"country": "US", "A1": "NY"})
PLAIN = Pbx("pbx_1", "PBX", (ip_network("192.0.2.20/32"),), None, "sip:198.51.100.9:5070")
DIGEST = replace(PLAIN, auth_user="bob", secret="zanzibar")
CERTIFIED = Pbx("pbx_2", "Branch", (), None, None, tls_name="pbx.branch.example")


def account(account_id, *pbxs, extension="101", **changes):
    values = {
        "account_id": account_id,
        "locations": {"location_hq": DispatchableLocation("location_hq", "HQ", CIVIC)},
        "default_location_id": "location_hq",
        "lines": (Line(f"line_{account_id}", extension, extension),),
        "pbxs": {pbx.id: pbx for pbx in pbxs},
        "trunks": (Trunk(f"trunk_{account_id}", "Carrier", 10, "203.0.113.1"),),
    }
    return AccountTable(**values | changes)


def hook(*accounts):
    table = LocationTable()
    for each in accounts:
        table.put(each)
    return Hook(
        table,
        profiles=load_profiles(),
        hops_of=lambda host, port, transport: (Hop(transport, host, port or 5060),),
        down=set(),
        trunk_ips={TRUNK.ip},
        deadlines=Deadlines(),
        proof_key=b"k" * 32,
        names_of=lambda connection: ("pbx.branch.example", "other.example") if connection == TLS.connection else (),
        make_call_id=lambda: "call_1",
    )


def asked(at, *, method="INVITE", source=OUTSIDE, now=NOW, **fields):
    """(decision, its first challenge or None)"""
    decision = at.decide(read_request(request(method, source=source, **fields)), source, now)
    challenges = [read_parameters(value) for name, value in decision.headers if name.endswith("-Authenticate")]
    return decision, challenges[0] if challenges else None


def proof(challenge, *, method="INVITE", uri="sip:911@192.0.2.10", credentials=BOB, nc=1):
    made = Challenge(challenge["realm"], challenge["nonce"], challenge["algorithm"], qop="auth", is_proxy=True)
    name, value = answer(made, credentials, method, uri, cnonce="c", nc=nc)
    return f"{name}: {value}"


def stranger(number):
    """One of many addresses that nobody knows."""
    return Hop("udp", f"203.0.{113 + number // 250}.{number % 250 + 2}", 5060)


# --- digest -----------------------------------------------------------------------------------------------------------


def test_an_emergency_request_from_within_its_own_network_is_never_asked():
    """E-04: it goes at once, proven or not, and the record says which."""
    decision, _ = asked(hook(account("account_1", DIGEST)), source=INSIDE)
    assert decision.forward.targets
    assert decision.call.flags == ()  # it was asked for nothing
    wrong = 'Authorization: Digest username="bob", realm="callpoint", nonce="x", uri="sip:911@x", response="0"'
    decision, _ = asked(hook(account("account_1", DIGEST)), source=INSIDE, added=[wrong])
    assert decision.forward.targets
    assert decision.call.flags == ("sender_unproven",)


def test_a_pbx_with_a_password_must_show_it_for_anything_else():
    """E-04: 407, then its default route; OPTIONS it may always."""
    at = hook(account("account_1", DIGEST))
    decision, challenge = asked(at, source=INSIDE, uri="sip:102@x")
    assert (decision.status, decision.reason, decision.forward) == (407, "Proxy Authentication Required", None)
    assert (decision.stranger, decision.is_stateless) == (None, False)
    decision, _ = asked(at, source=INSIDE, uri="sip:102@x", added=[proof(challenge, uri="sip:102@x")])
    assert decision.forward.targets[0].name == "default_route"
    assert asked(at, source=INSIDE, method="OPTIONS")[0].status == 200
    wrong = proof(challenge, uri="sip:102@x", credentials=Credentials("bob", "guess"), nc=2)
    assert asked(at, source=INSIDE, uri="sip:102@x", added=[wrong])[0].status == 403


def test_from_anywhere_else_a_proof_is_asked_for_and_then_the_911_goes():
    """E-04: a PBX behind an address that changes: challenged, served, and nothing on record against it."""
    at = hook(account("account_1", DIGEST))
    decision, challenge = asked(at)
    assert (decision.status, decision.stranger, decision.is_stateless) == (407, None, True)
    assert [read_parameters(value)["algorithm"] for _, value in decision.headers] == ["MD5", "SHA-256"]
    abroad, _ = asked(hook(account("account_1", DIGEST, country="GB", locations={})), uri="sip:999@192.0.2.10")
    assert [read_parameters(value)["algorithm"] for _, value in abroad.headers] == ["MD5", "SHA-256"]
    line = proof(challenge)
    decision, _ = asked(at, added=[line])
    assert decision.forward.targets
    assert (decision.call.pbx_id, decision.call.flags) == ("pbx_1", ())
    assert at.peers.take_unproven(NOW + timedelta(minutes=1)) == []
    assert at.is_trusted(OUTSIDE)
    assert at.is_emergency(read_request(request()), OUTSIDE)
    replayed, challenge = asked(at, added=[line])
    assert (replayed.status, challenge["stale"]) == (407, "true")


def test_a_peer_that_knows_md5_alone_gets_through_at_its_second_try_and_to_911_at_its_first():
    """E-04: RFC 8760 §2.4 has the better one first; Kamailio 5.6 and SIPp 3.6 read no further than the first."""
    at = hook(account("account_1", DIGEST))
    order = [asked(at, uri="sip:102@x")[1]["algorithm"] for _ in range(2)]
    assert order == ["SHA-256", "MD5"]
    _, challenge = asked(at, uri="sip:102@x")
    assert asked(at, uri="sip:102@x", added=[proof(challenge, uri="sip:102@x")])[0].forward
    assert asked(at, uri="sip:102@x")[1]["algorithm"] == "SHA-256"
    assert asked(hook(account("account_1", DIGEST)))[1]["algorithm"] == "MD5"


def test_a_nonce_that_is_too_old_is_replaced_without_asking_anybody():
    at = hook(account("account_1", DIGEST))
    _, challenge = asked(at)
    decision, again = asked(at, added=[proof(challenge)], now=NOW + timedelta(minutes=6))
    assert (decision.status, again["stale"]) == (407, "true")
    assert asked(at, added=[proof(again)], now=NOW + timedelta(minutes=6))[0].forward


def test_who_shows_the_wrong_password_is_refused_and_on_record():
    """E-04: swatting through a guessed password is an attempt like any other."""
    at = hook(account("account_1", DIGEST))
    _, challenge = asked(at)
    decision, _ = asked(at, added=[proof(challenge, credentials=Credentials("bob", "guess"))])
    assert (decision.status, decision.forward) == (403, None)
    assert decision.stranger.is_emergency


def test_who_never_answers_a_challenge_is_on_record_a_little_later():
    """E-04: the attempt is flagged as one on 911; a PBX that answers in time leaves no such mark."""
    at = hook(account("account_1", DIGEST))
    asked(at, call_id="swatter")
    asked(at, call_id="swatter")
    asked(at, call_id="scanner", method="REGISTER", uri="sip:x")
    assert at.peers.take_unproven(NOW + timedelta(seconds=PROOF_WITHIN_S - 1)) == []
    taken = at.peers.take_unproven(NOW + timedelta(seconds=PROOF_WITHIN_S))
    assert [(each.method, each.is_emergency) for each in taken] == [("INVITE", True), ("REGISTER", False)]
    assert at.peers.take_unproven(NOW + timedelta(minutes=5)) == []


def test_a_flood_of_strangers_crowds_nobody_out_of_the_record():
    at = hook(account("account_1", DIGEST))
    for number in range(MAX_CHALLENGED + 50):
        now = NOW + timedelta(seconds=number // MAX_CHALLENGES_PER_S)
        asked(at, call_id=f"c{number}", now=now, source=stranger(number))
    assert len(at.peers.take_unproven(NOW)) == 50
    assert len(at.peers.take_unproven(NOW + timedelta(minutes=5))) == MAX_CHALLENGED


def test_challenges_to_strangers_are_few_and_small():
    """E-04: no amplifier for forged addresses: at most so many a second, and no more than twice what was sent."""
    at = hook(account("account_1", DIGEST))
    statuses = [
        asked(at, call_id=f"c{number}", source=stranger(number))[0].status for number in range(MAX_CHALLENGES_PER_S + 5)
    ]
    assert statuses.count(407) == MAX_CHALLENGES_PER_S
    assert asked(at, now=NOW + timedelta(seconds=1))[0].status == 407
    tiny = b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP b;branch=z9hG4bKx\r\nf: <sip:c>;tag=1\r\nt: <sip:d>\r\ni: e\r\n"
    tiny += b"CSeq: 1 OPTIONS\r\n\r\n"
    for data in (tiny, request(), request("REGISTER", "sip:x", body=b""), request(added=["X: " + "y" * 900])):
        got = read_request(data)
        decision = at.decide(got, OUTSIDE, NOW + timedelta(seconds=2))
        sent = response_to(got, decision.status, decision.reason, to_tag=b"t" * 16, added=decision.headers)
        assert len(sent) <= 2 * len(data), decision.status


def test_a_flood_of_strangers_leaves_a_pbx_that_dials_911_its_challenge():
    """E-04, E-03: not one address, nor any number of ordinary strangers, nor a flood of 911s once it proved itself."""
    at = hook(account("account_1", DIGEST))
    one = [asked(at, call_id=f"a{number}", source=stranger(1))[0].status for number in range(100)]
    assert one.count(407) == MAX_CHALLENGES_PER_ADDRESS
    for number in range(2 * MAX_CHALLENGES_PER_S):
        asked(at, call_id=f"b{number}", source=stranger(number), method="OPTIONS", uri="sip:x")
    _, challenge = asked(at)
    assert challenge is not None
    assert asked(at, added=[proof(challenge)])[0].forward is not None  # proven from there
    for number in range(2 * MAX_CHALLENGES_PER_S):
        asked(at, call_id=f"d{number}", source=stranger(number))
    assert asked(at, call_id="e", source=stranger(5_000))[0].status == 403
    assert asked(at, call_id="f")[0].status == 407


def test_where_no_pbx_has_a_password_a_stranger_is_refused_at_once():
    decision, challenge = asked(hook(account("account_1", PLAIN)))
    assert (decision.status, challenge, decision.is_stateless) == (403, None, True)
    assert decision.stranger.is_emergency


def test_what_is_asked_of_us_ourselves_is_asked_with_401():
    """RFC 3261 §22.2, §22.3."""
    decision, _ = asked(hook(account("account_1", DIGEST)), method="OPTIONS")
    assert decision.status == 401
    assert {name for name, _ in decision.headers} == {"WWW-Authenticate"}


# --- certificates -----------------------------------------------------------------------------------------------------


def test_a_name_in_the_client_certificate_is_who_it_is_from_wherever_it_comes():
    """E-04: no address needed; the same name over another connection proves nothing."""
    at = hook(account("account_1", CERTIFIED))
    assert asked(at, source=TLS)[0].call.pbx_id == "pbx_2"
    assert at.is_trusted(TLS)
    assert at.is_emergency(read_request(request()), TLS)
    other = TLS._replace(connection=8)
    assert not at.is_trusted(other)
    assert asked(at, source=other)[0].status == 403


def test_the_certificate_comes_before_the_address():
    """Decision 16: TLS name, then digest, then the longest network."""
    here = replace(PLAIN, sources=(ip_network(f"{TLS.ip}/32"),))
    at = hook(account("account_1", here), account("account_2", CERTIFIED))
    assert asked(at, source=TLS)[0].call.account_id == "account_2"


def test_a_connection_whose_certificate_names_a_trunk_is_that_trunk_s():
    secure = Trunk("trunk_tls", "Carrier", 1, "pbx.branch.example", 5061, "tls")
    at = hook(account("account_1", PLAIN, trunks=(secure,)))
    assert at.peers.is_trunk(TLS)
    assert asked(at, source=TLS, method="OPTIONS")[0].status == 200
    assert not at.peers.is_trunk(TLS._replace(connection=8))


# --- a shared network -------------------------------------------------------------------------------------------------

SHARED = (ip_network("10.0.0.0/8"),)
HERE = Hop("udp", "10.1.1.1", 5060)


def shared():
    one = replace(DIGEST, sources=SHARED)
    two = replace(CERTIFIED, sources=SHARED, id="pbx_9")
    numbers = (Number("number_1", "+15185550177"),)
    return hook(account("account_1", one), account("account_2", two, extension="202", numbers=numbers))


@pytest.mark.parametrize(
    ("identity", "expected"),
    [("101", "account_1"), ("202", "account_2"), ("+15185550177", "account_2"), ("999", "account_1")],
)
def test_an_emergency_from_a_network_two_accounts_share_goes_out_by_whom_the_caller_is(identity, expected):
    """E-03: never dropped, never asked: the account that has the line or number, else the older one; on record."""
    decision, _ = asked(shared(), source=HERE, added=[f"P-Asserted-Identity: <sip:{identity}@pbx>"])
    assert decision.call.account_id == expected
    assert decision.call.flags == ("sender_shared",)
    assert decision.forward.targets


@pytest.mark.parametrize(("identity", "expected"), [("101", "account_1"), ("202", "account_2"), ("999", "account_2")])
def test_a_network_inside_another_account_s_is_shared_where_both_prove_themselves(identity, expected):
    """E-03, E-04: the narrower one takes nobody's 911: who knows the caller has it, and it is on record."""
    one = replace(DIGEST, sources=SHARED)
    two = replace(CERTIFIED, sources=(ip_network("10.1.0.0/16"),), id="pbx_9")
    at = hook(account("account_1", one), account("account_2", two, extension="202"))
    decision, _ = asked(at, source=HERE, added=[f"P-Asserted-Identity: <sip:{identity}@pbx>"])
    assert (decision.call.account_id, decision.call.flags) == (expected, ("sender_shared",))
    outside, _ = asked(at, source=HERE._replace(ip="10.2.1.1"), added=["P-Asserted-Identity: <sip:202@pbx>"])
    assert (outside.call.account_id, outside.call.flags) == ("account_1", ())


@pytest.mark.parametrize("way", ["decide_plainly", "decide_barely"])
def test_whoever_proved_itself_from_a_shared_address_keeps_its_own_account_when_all_else_failed(way):
    """E-03: the certificate's account has the call, not the one that the table names first."""
    at, here = shared(), HERE._replace(transport="tls", connection=TLS.connection)
    decision = getattr(at, way)(read_request(request(source=here)), here, NOW)
    assert decision.call.account_id == "account_2"


def test_who_proved_themselves_is_left_out_when_it_cannot_be_told():
    """E-03: some account's trunks are better than none."""
    at, told = shared(), []
    at.peers._names_of = lambda connection: 1 // 0
    at._on_fault = told.append
    here = HERE._replace(transport="tls", connection=TLS.connection)
    decision = at.decide_barely(read_request(request(source=here)), here, NOW)
    assert (decision.call.account_id, len(told)) == ("account_1", 1)


def test_a_narrower_network_of_one_account_is_a_part_of_it_as_ever():
    """E-05: a branch office inside the head office's range has its own PBX, proven or not."""
    wide = replace(PLAIN, sources=SHARED)
    branch = replace(DIGEST, sources=(ip_network("10.1.0.0/16"),), id="pbx_9")
    at = hook(account("account_1", wide, branch))
    decision, _ = asked(at, source=HERE, added=["P-Asserted-Identity: <sip:101@pbx>"])
    assert (decision.call.pbx_id, decision.call.flags) == ("pbx_9", ())


def test_a_proof_tells_two_accounts_in_one_network_apart():
    """Decision 16."""
    at = shared()
    _, challenge = asked(at, source=HERE, uri="sip:102@x")
    line = proof(challenge)
    decision, _ = asked(at, source=HERE, added=[line, "P-Asserted-Identity: <sip:202@pbx>"])
    assert (decision.call.account_id, decision.call.flags) == ("account_1", ())
    later, _ = asked(at, source=HERE, added=["P-Asserted-Identity: <sip:202@pbx>"])
    assert (later.call.account_id, later.call.flags) == ("account_1", ())  # from the very same address and port
    elsewhere, _ = asked(at, source=HERE._replace(port=5070), added=["P-Asserted-Identity: <sip:202@pbx>"])
    assert (elsewhere.call.account_id, elsewhere.call.flags) == ("account_2", ("sender_shared",))
    decision, _ = asked(at, source=HERE._replace(transport="tls", connection=TLS.connection))
    assert (decision.call.account_id, decision.call.flags) == ("account_2", ())


def test_a_digest_user_and_a_name_go_with_their_account():
    """A PBX that was removed is a stranger from then on, wherever it proved itself before."""
    table = LocationTable()
    table.put(account("account_1", replace(DIGEST, sources=()), CERTIFIED))
    assert [pbx.id for _, pbx in table.user("bob")] == ["pbx_1"]
    assert [pbx.id for _, pbx in table.named("pbx.branch.example")] == ["pbx_2"]
    table.put(account("account_1", CERTIFIED))
    assert (table.user("bob"), table.has_users) == ((), False)
    table.drop("account_1")
    assert table.named("pbx.branch.example") == ()
    assert table.trunk("trunk_account_1") is None


def test_what_a_stranger_says_in_our_headers_counts_for_nothing():
    """E-04: X-Callpoint headers are believed from the trusted alone."""
    at = hook(account("account_1", PLAIN))
    decision, _ = asked(at, added=["X-Callpoint-Device: 101", "X-Callpoint-Source: 10.0.0.1"])
    assert (decision.status, decision.call) == (403, None)


def test_who_asks_is_told_with_what_its_word_is_worth():
    at = hook(account("account_1", DIGEST)).peers
    got = read_request(request())
    assert isinstance(at.who(got, OUTSIDE, NOW), Unknown)
    inside = at.who(got, INSIDE, NOW)
    assert isinstance(inside, Peer)
    assert (inside.is_doubtful, inside.verdict) == (True, Verdict.ABSENT)
    assert at.at(INSIDE)[1].id == "pbx_1"
    assert at.at(OUTSIDE) is None


def test_what_is_kept_of_a_pbx_ends_with_its_row():
    """E-04: a table replaced, a password set, a PBX taken away: each counts with the next request."""
    table = LocationTable()
    table.put(account("account_1", PLAIN))
    peers = Peers(table, trunk_ips=(), names_of=lambda _: (), proof_key=b"k" * 32)
    ask = read_request(request("INVITE", "sip:102@x", source=INSIDE))
    first = peers.who(ask, INSIDE, NOW)
    assert peers.who(ask, INSIDE, NOW) is first
    table.put(account("account_1", replace(PLAIN, name="Other")))
    second = peers.who(ask, INSIDE, NOW)
    assert (first.pbx.name, second.pbx.name, second.account) == ("PBX", "Other", table.accounts["account_1"])
    table.put(account("account_1", DIGEST))
    assert peers.who(ask, INSIDE, NOW).is_doubtful
    table.put(account("account_1"))
    assert isinstance(peers.who(ask, INSIDE, NOW), Unknown)
