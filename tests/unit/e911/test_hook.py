"""Who may send what, who is calling, and what is decided and recorded."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.e911.carriers import load_profiles
from engine.e911.dialect import Outgoing, plain_edit
from engine.e911.entries import CallRecorder, Stranger, clean_text, instant
from engine.e911.flood import StrangerLimit
from engine.e911.geolocation import carried
from engine.e911.hook import Hook, route_hop
from engine.e911.location import (
    AccountTable,
    CivicAddress,
    DispatchableLocation,
    Line,
    LocationTable,
    Mac,
    Network,
    Pbx,
    Phone,
    Trunk,
)
from engine.e911.peers import make_proof
from engine.e911.pidf import write_pidf
from engine.e911.route import Deadlines
from engine.sip.edit import Routing, forwarded_request
from engine.sip.events import AttemptStarted
from engine.sip.forward import Hop
from engine.sip.message import BadMessage, parse_message
from tests.siptest import read_request, request

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
PBX = Hop("udp", "192.0.2.20", 5060)
PHONE = Hop("udp", "10.1.2.3", 5060)
TRUNK = Hop("udp", "203.0.113.1", 5060)
STRANGER = Hop("udp", "198.51.100.66", 5060)
MAC = "0004f2aabbcc"
KEY = b"k" * 32
CIVIC = CivicAddress.of({"country": "US", "A1": "NY"})


def account(**changes):
    values = {
        "account_id": "account_1",
        "locations": {f"location_{n}": DispatchableLocation(f"location_{n}", n, CIVIC) for n in ("hq", "wing")},
        "default_location_id": "location_hq",
        "networks": (Network("network_1", ip_network("10.1.0.0/16"), "location_wing"),),
        "phones": (Phone("phone_1", Mac(MAC), "", None, ("line_1",)),),
        "lines": (Line("line_1", "101", "101", "Ada", None),),
        "pbxs": {
            "pbx_1": Pbx("pbx_1", "PBX", (ip_network("192.0.2.20/32"),), None, "sip:198.51.100.9:5070;transport=tcp"),
            "pbx_2": Pbx("pbx_2", "Phones", (ip_network("10.0.0.0/8"),)),
        },
        "trunks": (Trunk("trunk_1", "Carrier", 10, "203.0.113.1"),),
    }
    return AccountTable(**values | changes)


def hook(*accounts):
    table = LocationTable()
    for each in accounts or (account(),):
        table.put(each)
    return Hook(
        table,
        profiles=load_profiles(),
        hops_of=lambda host, port, transport: (Hop(transport, host, port or 5060),),
        down=set(),
        trunk_ips={TRUNK.ip},
        deadlines=Deadlines(),
        proof_key=KEY,
        make_call_id=lambda: "call_1",
    )


def decide(source=PBX, at=None, **fields):
    return (at or hook()).decide(read_request(request(source=source, **fields)), source, NOW)


def test_an_emergency_request_of_a_pbx_is_forwarded_with_its_record():
    """E-03: forward, tag and record are one decision."""
    decision = decide()
    assert decision.call is decision.forward.tag
    assert decision.forward.emergency
    assert [target.name for target in decision.forward.targets] == ["trunk_1"]
    entry = decision.call.entry(sent_at=NOW, trunk_id="trunk_1", invite=b"INVITE \xff")
    assert json.loads(json.dumps(entry))["invite"] == "INVITE \\xff"
    assert (entry["id"], entry["pbx_id"], entry["location"]["name"]) == ("call_1", "pbx_1", "hq")
    assert entry["received_at"] == "2026-11-21T20:00:00.000000Z"


def test_a_call_takes_the_trunks_that_its_location_names_first():
    """S1-38: the location's group, else the account's; a group that is gone or empty counts as none."""
    trunks = tuple(Trunk(f"trunk_{n}", f"Carrier {n}", n, f"203.0.113.{n}") for n in (1, 2, 3))
    groups = {"group_west": ("trunk_3",), "group_all": ("trunk_2", "trunk_1"), "group_none": ()}
    wing = DispatchableLocation("location_wing", "wing", CIVIC, trunk_group_id="group_west")

    def tried(phone_ip, **changes):
        made = account(trunks=trunks, trunk_groups=groups, **changes)
        decision = decide(at=hook(made), added=[f"X-Callpoint-Source: {phone_ip}"])
        return [target.name for target in decision.forward.targets]

    at_wing = {"location_hq": DispatchableLocation("location_hq", "hq", CIVIC), "location_wing": wing}
    assert tried("10.1.2.3", locations=at_wing) == ["trunk_3", "trunk_1", "trunk_2"]
    assert tried("192.168.7.7", locations=at_wing) == ["trunk_1", "trunk_2", "trunk_3"]
    assert tried("192.168.7.7", locations=at_wing, trunk_group_id="group_all") == ["trunk_2", "trunk_1", "trunk_3"]
    for gone in ("group_none", "group_gone"):
        at_wing["location_wing"] = replace(wing, trunk_group_id=gone)
        assert tried("10.1.2.3", locations=at_wing, trunk_group_id="group_all") == ["trunk_2", "trunk_1", "trunk_3"]


def test_the_order_of_trunks_is_kept_for_each_group_and_made_anew_with_the_table():
    """S1-38: a change of a group holds for the next call; the standing order of one group is never another's."""
    trunks = tuple(Trunk(f"trunk_{n}", f"Carrier {n}", n, f"203.0.113.{n}") for n in (1, 2))
    wing = DispatchableLocation("location_wing", "wing", CIVIC, trunk_group_id="group_1")
    places = {"location_hq": DispatchableLocation("location_hq", "hq", CIVIC), "location_wing": wing}
    table, orders = LocationTable(), []
    at = hook()
    at._table = table
    for second_first in (("trunk_2",), ("trunk_1",)):
        fresh = tuple(replace(each) for each in trunks)
        table.put(account(trunks=fresh, locations=places, trunk_groups={"group_1": second_first}))
        orders += [
            [each.id for each in at._ranked(table.accounts["account_1"], group)[0]]
            for group in (second_first, (), second_first)
        ]
    assert orders == [
        ["trunk_2", "trunk_1"], ["trunk_1", "trunk_2"], ["trunk_2", "trunk_1"],
        ["trunk_1", "trunk_2"], ["trunk_1", "trunk_2"], ["trunk_1", "trunk_2"],
    ]  # fmt: skip


@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
def test_calls_and_texts_are_emergencies_and_other_methods_are_not(method):
    """E-01: RFC 6881: a text to 911 goes the same way."""
    assert decide(method=method).call is not None


@pytest.mark.parametrize("method", ["REGISTER", "SUBSCRIBE", "PUBLISH"])
def test_nobody_can_register_as_911(method):
    """E-01: no extension shadows the number; it is a request like any other."""
    decision = decide(method=method)
    assert decision.call is None
    assert decision.forward.targets[0].name == "default_route"


def test_a_stranger_is_refused_and_told_apart():
    """E-04: no swatting through the engine."""
    decision = decide(STRANGER, added=["User-Agent: scanner"])
    assert (decision.status, decision.forward, decision.call) == (403, None, None)
    assert decision.stranger.entry() == {
        "type": "stranger",
        "source": {"transport": "udp", "ip": "198.51.100.66", "port": 5060},
        "method": "INVITE",
        "request_uri": "sip:911@192.0.2.10",
        "user_agent": "scanner",
        "emergency": True,
        "at": "2026-11-21T20:00:00.000000Z",
    }
    assert not decide(STRANGER, uri="sip:100@x").stranger.is_emergency


@pytest.mark.parametrize(
    ("countries", "dialed", "is_emergency"),
    [
        ("GB", "999", True), ("GB", "112", True), ("GB", "9999", True), ("GB", "18000", True), ("GB", "911", True),
        ("US", "933", True), ("GB", "933", False), ("US GB", "933", True), ("US", "999", True), ("DE", "110", True),
        ("US", "110", False), ("BE", "100", True), ("US", "100", False), ("AU", "000", True), ("NZ", "111", True),
        ("US", "18000", False), ("GB", "urn:service:sos", True), ("GB", "9991", False),
    ],
)  # fmt: skip
def test_a_stranger_s_emergency_is_one_in_any_account_s_country(countries, dialed, is_emergency):
    """E-04, E-01: it may be a PBX of any of them; a scanner's 100 alarms nobody where it is an extension."""
    at = hook(*(account(account_id=f"account_{each}", country=each, locations={}) for each in countries.split()))
    uri = dialed if dialed.startswith("urn:") else f"sip:{dialed}@192.0.2.10"
    assert decide(STRANGER, at, uri=uri).stranger.is_emergency is is_emergency


def test_the_numbers_of_a_country_count_as_long_as_an_account_is_there():
    """E-04: an account that moved or left takes its numbers along."""
    table = hook()._table
    for each in ("8", "9"):
        table.put(account(account_id=f"account_{each}", country="BE", locations={}))
    assert "100" in table.numbers.emergency_forms
    table.drop("account_8")
    assert {"100", "911"} <= table.numbers.emergency_forms
    table.put(account(account_id="account_9", country="GB", locations={}))
    assert "100" not in table.numbers.emergency_forms
    assert {"999", "911"} <= table.numbers.emergency_forms


def test_a_trunk_may_ping_and_may_not_call():
    """Design §3.6: OPTIONS 200; a trunk's call names nobody of ours yet."""
    assert decide(TRUNK, method="OPTIONS", uri="sip:x").status == 200
    refused = decide(TRUNK)
    assert (refused.status, refused.stranger) == (404, None)


def test_who_is_trusted_and_what_is_an_emergency_is_told_to_the_stack():
    """E-03: a malformed request counts as an emergency only from a PBX."""
    asked = hook()
    invite = read_request(request())
    assert [asked.is_trusted(hop) for hop in (PBX, PHONE, TRUNK, STRANGER)] == [True, True, True, False]
    assert [asked.is_emergency(invite, hop) for hop in (PBX, TRUNK, STRANGER)] == [True, False, False]
    assert not asked.is_emergency(read_request(request(uri="sip:102@x")), PBX)


def test_a_default_route_is_read_and_a_pbx_without_one_gets_404():
    """Design §3.6."""
    asked = read_request(request(uri="sip:102@x", added=["X-Callpoint-Device: 101"]))
    target = decide(uri="sip:102@x", added=["X-Callpoint-Device: 101"]).forward.targets[0]
    assert target.hop == Hop("tcp", "198.51.100.9", 5070)
    routing = Routing([], asked.request_uri_bytes, is_marked=False)
    sent = forwarded_request(
        asked, via=b"Via: v", record_route=b"", received=b"", routing=routing, edit=target.edit, on_stream=True
    )
    assert b"x-callpoint" in asked.raw.lower()
    assert b"x-callpoint" not in sent.lower()
    assert decide(PHONE, uri="sip:102@x").status == 404


@pytest.mark.parametrize(
    ("uri", "hop"),
    [
        ("sip:h.example", ("h.example", None, "")),
        ("sip:h.example:5080;transport=TCP", ("h.example", 5080, "tcp")),
        ("sip:h.example;transport=tls", ("h.example", None, "tls")),
        ("sips:h.example", ("h.example", None, "sips")),
        ("sips:h.example;transport=tcp", ("h.example", None, "tls")),
        ("sip:h.example;transport=sctp", None),
        ("tel:911", None),
        ("nonsense", None),
    ],
)
def test_default_routes_are_sip_uris_over_udp_tcp_or_tls(uri, hop):
    assert route_hop(uri) == hop


# --- who is calling ---------------------------------------------------------------------------------------------------


def caller_of(source=PBX, at=None, **fields):
    return decide(source, at, **fields).call


def test_the_asserted_identity_comes_before_from():
    """Decision 16: P-Asserted-Identity, else From."""
    call = caller_of(added=['P-Asserted-Identity: "Bob" <sip:102@pbx>'])
    assert (call.caller.identity, call.caller.name, call.caller.uri) == ("102", "Bob", "sip:101@192.0.2.20")
    assert caller_of(added=["P-Asserted-Identity: <"]).caller.identity == "101"
    assert caller_of().resolved.line.id == "line_1"


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ("+15185550123", "+15185550123"), ("5185550123", "+15185550123"), ("15185550123", "+15185550123"),
        ("25185550123", None),
        ("101", None), ("0185550123", None), ("anonymous", None),
    ],
)  # fmt: skip
def test_a_whole_number_the_pbx_asserts_calls_back_when_we_know_none(identity, expected):
    """The number conveyed reaches the caller back."""
    assert caller_of(added=[f"P-Asserted-Identity: <sip:{identity}@pbx>"]).callback_number == expected


def test_the_phone_s_own_address_is_what_a_trusted_pbx_says_it_is():
    """E-05: X-Callpoint-Source; never the packet's source when that is the PBX."""
    assert caller_of().caller.source_ip is None
    told = caller_of(added=["X-Callpoint-Source: 10.1.9.9", f"X-Callpoint-Device: {MAC}"])
    assert (str(told.caller.source_ip), told.resolved.source, told.resolved.phone.id) == (
        "10.1.9.9",
        "subnet",
        "phone_1",
    )
    assert caller_of(added=["X-Callpoint-Source: nonsense"]).caller.source_ip is None


INSTANCE = f'Contact: <sip:101@10.1.2.3>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-{MAC.upper()}>"'


def direct(source=PHONE, contact=INSTANCE, **fields):
    data = request(source=source, **fields)
    start = data.index(b"Contact:")
    changed = data[:start] + contact.encode() + data[data.index(b"\r\n", start) :]
    return hook().decide(read_request(changed), source, NOW).call


def test_a_phone_that_speaks_to_us_itself_is_where_its_packets_come_from():
    """E-05: a direct source counts: one Via, a known phone's own Contact, a network wider than one host."""
    call = direct()
    assert (str(call.caller.source_ip), call.caller.device, call.resolved.source) == ("10.1.2.3", MAC, "subnet")


def test_a_packet_that_may_come_from_a_pbx_places_nobody():
    """E-05: a proxy's Via, a PBX's own Contact, an unknown phone, or a source of one host."""
    assert direct(via_more="\r\nVia: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKx").caller.source_ip is None
    assert direct(via_more=", SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKx").caller.source_ip is None
    assert direct(contact="Contact: <sip:101@10.1.2.3>").caller.source_ip is None
    assert direct(contact=INSTANCE.replace(MAC.upper(), "0" * 12)).caller.source_ip is None
    assert direct(PBX).caller.source_ip is None


# --- proof ------------------------------------------------------------------------------------------------------------


def proven(seconds, *, key=KEY, account_id="account_1", call_id="call-1@192.0.2.20"):
    return decide(STRANGER, added=[f"X-Callpoint-Proof: {make_proof(key, account_id, seconds, call_id)}"])


def test_our_own_command_counts_as_a_pbx_without_defaults():
    """Decision 19: no PBX entry is needed."""
    call = proven(int(NOW.timestamp())).call
    assert (call.pbx_id, call.account_id) == (None, "account_1")
    assert next(said for said in call.resolved.verdict if said.source == "pbx_default").said is None


def test_our_own_command_finds_what_the_line_s_phone_would():
    """E-05: the default of the line's PBX, as a call through it has; the record says that the command placed it."""
    pbx = replace(account().pbxs["pbx_1"], default_location_id="location_wing")
    line = Line("line_1", "101", "101", "Ada", None, pbx_id="pbx_1")
    at = hook(account(pbxs={"pbx_1": pbx}, lines=(line,), default_location_id=None))
    header = f"X-Callpoint-Proof: {make_proof(KEY, 'account_1', int(NOW.timestamp()), 'call-1@192.0.2.20')}"
    call = decide(STRANGER, at, added=[header]).call
    assert (call.pbx_id, call.resolved.location.id) == (None, "location_wing")


def test_only_our_own_test_call_is_kept_from_ringing_on():
    """E-15: a real call placed by our command, and a 933 from a PBX, ring as long as their callers wait."""
    header = f"X-Callpoint-Proof: {make_proof(KEY, 'account_1', int(NOW.timestamp()), 'call-1@192.0.2.20')}"
    assert decide(STRANGER, uri="sip:933@192.0.2.10", added=[header]).forward.is_own_test
    assert not decide(STRANGER, uri="sip:911@192.0.2.10", added=[header]).forward.is_own_test
    assert not decide(uri="sip:933@192.0.2.10").forward.is_own_test
    assert [decide(uri=f"sip:{dialed}@192.0.2.10").forward.is_test for dialed in ("933", "911")] == [True, False]


@pytest.mark.parametrize("skew", [-61, 61, 10**9])
def test_a_proof_is_good_for_a_minute(skew):
    assert proven(int(NOW.timestamp()) + skew).status == 403


def test_a_proof_of_another_key_call_or_account_is_none():
    """E-04: what is not made with the key file proves nothing."""
    now = int(NOW.timestamp())
    assert proven(now, key=b"x" * 32).status == 403
    assert proven(now, call_id="another").status == 403
    assert proven(now, account_id="account_unknown").status == 403


@given(st.text(alphabet=st.characters(blacklist_characters="\r\n\0"), max_size=80))
def test_any_proof_header_is_read_or_ignored(text):
    data = request(source=STRANGER, added=["X-Callpoint-Proof: x"]).replace(
        b"Proof: x", b"Proof: " + text.encode("utf-8", "replace")
    )
    try:
        message = parse_message(data)
    except BadMessage:
        return
    assert hook().decide(message, STRANGER, NOW).status == 403


# --- nothing makes it raise -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["From", "To", "Contact", "P-Asserted-Identity", "X-Callpoint-Device", "X-Callpoint-Source", "Content-Type"]
)
@pytest.mark.parametrize(
    "value", ["", "<", '"', "<sip:", "\xff\udcff", "a" * 5000, "sip:%zz@", ";;;", "<sip:911@x>;tag=" + "x" * 300]
)
def test_no_header_value_stops_an_emergency_request(name, value):
    """E-03: whatever a header holds, the call is forwarded."""
    lines = [f"{name}: {value}"]
    if name in {"From", "To"}:
        lines = [f"X-Not-{name}: {value}"]
    elif name in {"Contact", "Content-Type"}:
        lines = []
    invite = read_request(request(added=lines))
    if not lines:
        raw = invite.raw
        start = raw.index(name.encode() + b":")
        invite = read_request(
            raw[:start] + f"{name}: {value}".encode("utf-8", "surrogateescape") + raw[raw.index(b"\r\n", start) :]
        )
    decision = hook().decide(invite, PBX, NOW)
    assert decision.forward.targets
    json.dumps(decision.call.entry(sent_at=NOW, trunk_id=None, invite=invite.raw)).encode()


def test_what_was_repaired_is_a_flag():
    """E-03: noted in the verdict."""
    invite = read_request(request())
    invite.faults = ("Max-Forwards is used up",)
    assert hook().decide(invite, PBX, NOW).call.flags == ("malformed:Max-Forwards is used up",)


def test_a_fault_of_our_own_still_leaves_the_call_on_its_way():
    """E-03: the plainest decision: to the trunks, as it came, with what went wrong on record; strangers stay
    refused.
    """
    asked = hook()
    plain = asked.decide_plainly(read_request(request()), PBX, NOW)
    (target,) = plain.forward.targets
    assert (target.edit.request_uri, target.edit.body) == ("sip:911@203.0.113.1", None)
    assert plain.call.flags[0] == "location_unknown"
    assert asked.decide_plainly(read_request(request()), STRANGER, NOW).status == 500
    assert asked.decide_plainly(read_request(request(uri="sip:102@x")), PBX, NOW).status == 500


def test_a_call_with_nowhere_to_go_is_answered_503_with_the_reason():
    """E-03: so that the PBX uses another line."""
    none = decide(at=hook(account(trunks=())))
    assert (none.status, none.forward, none.call.id) == (503, None, "call_1")
    assert "no trunk is configured" in dict(none.headers)["Warning"]


def test_text_of_a_peer_is_fit_for_the_record():
    assert clean_text("a\udcff\0b" + "x" * 1000) == "a\\xffb" + "x" * 396
    assert instant(NOW) == "2026-11-21T20:00:00.000000Z"


def test_a_stranger_is_heard_a_little_and_recorded_now_and_then():
    """E-04: one address cannot fill the log or our uplink; an attempt to reach 911 is always recorded."""
    limit = StrangerLimit()
    assert sum(limit.hears("198.51.100.1", 5.0) for _ in range(100)) == 20
    assert limit.hears("198.51.100.2", 5.5)
    assert limit.hears("198.51.100.1", 6.1)
    assert sum(limit.hears(f"198.51.{n >> 8}.{n & 255}", 9.0) for n in range(1000)) == 500
    assert sum(limit.hears("198.51.100.3", 12.0) for _ in range(5000)) == 20
    assert limit.hears("198.51.100.4", 12.0)  # what one floods with takes nothing from the others
    quiet = Stranger(STRANGER, "REGISTER", "sip:x", "", is_emergency=False, at=NOW)
    loud = Stranger(STRANGER, "INVITE", "sip:911@x", "", is_emergency=True, at=NOW)
    assert [limit.records(quiet, at) for at in (0.0, 1.0, 9.9, 10.0)] == [True, False, False, True]
    assert limit.records(loud, 10.1)
    assert limit.records(loud, 10.2)


def carries(name, *streets):
    """A body with a PIDF-LO for each street, the first with that Content-ID."""
    parts = ["Content-Type: application/sdp\r\n\r\nv=0\r\n"]
    for at, street in enumerate(streets):
        place = DispatchableLocation(
            "x", "", CivicAddress.of({"country": "US", "HNO": "1", "RD": street} if street else {})
        )
        head = f"Content-Type: application/pidf+xml\r\nContent-ID: <{name if at == 0 else f'p{at}@pbx'}>\r\n\r\n"
        parts.append(head + write_pidf(place, "pres:a@b", NOW).decode())
    return "".join(f"--b\r\n{part}\r\n" for part in parts).encode() + b"--b--\r\n"


@pytest.mark.parametrize(
    ("geolocation", "streets", "is_passed_on"),
    [
        ("<cid:p0@pbx>", ["Main"], True),
        ("<cid:other@pbx>", ["Main"], False),
        ("<https://lis.example/r/1>", ["Main"], False),
        ("<https://lis.example/r/1>, <cid:p0@pbx>", ["Main"], True),
        ("<cid:p0@pbx>", ["", "Main"], False),
        ("<cid:p1@pbx>", ["Elm", "Main"], False),
    ],
)
def test_the_location_on_record_is_one_that_the_header_leads_to(geolocation, streets, is_passed_on):
    """E-06: 47 CFR 9.3: staff read what was conveyed. What a caller brought goes on as it came only where its header
    names the part that was taken; else that location goes as a part of ours.
    """
    data = request(source=PBX, body=carries("p0@pbx", *streets), added=[f"Geolocation: {geolocation}"]).replace(
        b"application/sdp", b"multipart/mixed;boundary=b", 1
    )
    decision = hook(account(default_location_id=None)).decide(read_request(data), PBX, NOW)
    edit = decision.forward.targets[0].edit
    assert decision.call.resolved.location.civic_address.get("RD") == "Main"
    assert [value for name, value in edit.add if name == "Geolocation"] == (
        [] if is_passed_on else ["<cid:call_1@callpoint.invalid>"]
    )
    sent = forwarded_request(
        read_request(data), via=b"Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKq", record_route=b"", received=b"",
        routing=Routing([], b"", False), edit=edit,
    )  # fmt: skip
    (conveyed,) = [
        each
        for each in carried(parse_message(sent)).locations
        if each.content_id == ("p0@pbx" if is_passed_on else "call_1@callpoint.invalid")
    ]
    assert conveyed.civic_address.get("RD") == "Main"


@pytest.mark.parametrize("changes", [{"location_mode": "none"}, {"profile": "twilio"}])
def test_a_location_that_the_trunk_does_not_take_is_on_record_as_not_sent(changes):
    """E-07: 47 CFR 9.3: staff must not read an address as conveyed that the call left without."""
    entries = []
    trunk = Trunk("trunk_1", "Carrier", 10, "203.0.113.1", **changes)
    decision = decide(at=hook(account(trunks=(trunk,))))
    target = decision.forward.targets[0]
    recorder = CallRecorder(entries.append)
    with_location = target.edit.conveys_location
    assert not with_location
    recorder.attempt_started(AttemptStarted(decision.call, target, 1, with_location, b"", 0.0), NOW)
    recorder.attempt_started(AttemptStarted(decision.call, target, 2, True, b"", 0.0), NOW)
    assert [entry["flags"] for entry in entries] == [["location_not_sent"]]
    unknown = decide(at=hook(account(trunks=(trunk,), default_location_id=None)))
    recorder.attempt_started(AttemptStarted(unknown.call, target, 1, False, b"", 0.0), NOW)


@pytest.mark.parametrize("changes", [{"location_mode": "none"}, {"profile": "twilio"}])
@pytest.mark.parametrize(
    ("geolocation", "streets", "source", "flags"),
    [
        ("<cid:p0@pbx>", ["Main"], "", []),  # the one on record is the caller's
        ("<cid:p0@pbx>", ["Main"], "10.1.2.3", ["callers_location_sent"]),  # its network is another place
        ("<cid:p0@pbx>", ["Elm", "Main"], "", ["callers_location_sent"]),  # which of the two is read, nobody knows
        ("", ["Main"], "", ["callers_location_sent"]),  # read by whom it pleases
        ("<https://lis.example/r/1>", [], "10.1.2.3", ["callers_location_sent"]),
        ("", [], "10.1.2.3", ["location_not_sent"]),
    ],
)
def test_whose_location_went_with_a_trunk_that_takes_none_of_ours_is_on_record(
    changes, geolocation, streets, source, flags
):
    """E-07: 47 CFR 9.3: the caller's own goes on as it came; staff must not read ours as conveyed."""
    trunk = Trunk("trunk_1", "Carrier", 10, "203.0.113.1", **changes)
    said = {"Geolocation": geolocation, "X-Callpoint-Source": source}
    added = [f"{name}: {value}" for name, value in said.items() if value]
    data = request(source=PBX, body=carries("p0@pbx", *streets), added=added).replace(
        b"application/sdp", b"multipart/mixed;boundary=b", 1
    )
    decision = hook(account(trunks=(trunk,), default_location_id=None)).decide(read_request(data), PBX, NOW)
    assert decision.call.resolved.location is not None
    edit = decision.forward.targets[0].edit
    assert not {name for name in edit.remove if name.startswith("Geolocation")}
    assert edit.body is None
    assert [flag for flag in recorded_flags(decision) if flag.endswith("_sent")] == flags


def test_the_plain_call_of_a_dialect_that_failed_says_that_the_caller_s_location_goes_on():
    """E-03: what goes out when our form of the call cannot be made is on record too."""
    trunk = Trunk("trunk_1", "Carrier", 10, "203.0.113.1")
    got = read_request(request(source=PBX, added=["Geolocation: <https://lis.example/r/1>"]))
    call = decide().call
    for data, conveys in ((got, True), (read_request(request(source=PBX)), False)):
        edit = plain_edit(trunk, Outgoing(data, call.dialed, None, call.resolved.location, "", NOW, call.id))
        assert (edit.conveys_location, edit.adds_location) == (conveys, False)


def recorded_flags(decision):
    """What the record of a call says as soon as its first INVITE has left."""
    entries = []
    target = decision.forward.targets[0]
    started = AttemptStarted(decision.call, target, 1, target.edit.conveys_location, b"", 0.0)
    CallRecorder(entries.append).attempt_started(started, NOW)
    return entries[0]["flags"]


@pytest.mark.parametrize(
    ("country", "dialed", "source", "sent"),
    [
        ("GB", "999", PBX, "999"),
        ("DE", "110", PBX, "110"),
        ("GB", "111", PBX, None),
        ("US", "999", PBX, None),
        ("GB", "999", PHONE, None),  # its network says that it is in New York
        ("GB", "911", PBX, "999"),
    ],
)
def test_a_caller_whose_call_places_it_abroad_dials_that_country_s_numbers(country, dialed, source, sent):
    """E-01: the caller's location tells which numbers count, also where the account has no office."""
    place = DispatchableLocation("x", "", CivicAddress.of({"country": country, "A1": "x", "RD": "High Street"}))
    data = request(
        uri=f"sip:{dialed}@192.0.2.10", source=source, body=write_pidf(place, "pres:a@b", NOW),
        added=["Geolocation: <cid:p@pbx>", "Content-ID: <p@pbx>"]
        + (["X-Callpoint-Source: 10.1.7.7"] if source is PHONE else []),
    ).replace(b"application/sdp", b"application/pidf+xml", 1)  # fmt: skip
    decision = hook().decide(read_request(data), source, NOW)
    if sent is None:
        assert decision.call is None
    else:
        assert decision.forward.targets[0].edit.request_uri == f"sip:{sent}@203.0.113.1"
        assert decision.call.resolved.source == "request"


@pytest.mark.parametrize(("dialed", "is_known"), [("999", True), ("000", True), ("101", False), ("110", False)])
def test_another_country_s_number_that_goes_nowhere_is_on_record(dialed, is_known):
    """E-01: a British visitor's 999 in New York: an ordinary number there, so no call, but no 404 without a trace."""
    decision = decide(PHONE, uri=f"sip:{dialed}@192.0.2.10")  # of a PBX without a default route
    assert (decision.status, decision.call, decision.is_stateless) == (404, None, False)
    assert (decision.stranger is not None) is is_known
    if is_known:
        entry = decision.stranger.entry()
        assert (entry["account_id"], entry["pbx_id"]) == ("account_1", "pbx_2")
        assert (entry["emergency"], entry["request_uri"]) == (True, f"sip:{dialed}@192.0.2.10")


@pytest.mark.parametrize(
    ("country", "dialed", "sent"), [("GB", "911", "999"), ("US", "112", "911"), ("NZ", "112", "111")]
)
def test_what_visitors_dial_is_an_emergency_everywhere(country, dialed, sent):
    """E-01, E-03: 3GPP TS 22.101 §10.1.1: a caller who dials 911 in London reaches 999, whatever is known of them."""
    for known in ({}, {"default_location_id": None}):
        decision = decide(at=hook(account(country=country, **known)), uri=f"sip:{dialed}@192.0.2.10")
        if known:  # else by the place, which is in New York
            assert decision.forward.targets[0].edit.request_uri == f"sip:{sent}@203.0.113.1"
        assert decision.forward.emergency
        assert decision.call.dialed.digits == dialed
    taken = account(country=country, lines=(Line("line_1", dialed, dialed, "Ada", None),), default_location_id=None)
    assert decide(at=hook(taken), uri=f"sip:{dialed}@192.0.2.10").call is None  # somebody's own line, nowhere in sight
