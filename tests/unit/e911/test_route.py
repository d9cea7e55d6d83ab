"""The order of trunks, and what the INVITE to each looks like."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from engine.e911.carriers import CarrierProfile, CarrierProfiles, Order, load_profiles
from engine.e911.civic import CivicAddress, DispatchableLocation
from engine.e911.dial import classify
from engine.e911.dialect import Outgoing
from engine.e911.geo import Geo
from engine.e911.location import AccountTable, Trunk
from engine.e911.multipart import leaves
from engine.e911.pidf import read_pidf
from engine.e911.route import Deadlines, bare_targets, ranked_trunks, shortened, targets_for
from engine.numbers import NORTH_AMERICA, numbers_of
from engine.sip.forward import Hop
from tests.siptest import SDP, read_request, request

SHIPPED = load_profiles()
PLACE = DispatchableLocation(
    "location_1",
    "HQ",
    CivicAddress.of({"country": "US", "A1": "NY", "HNO": "1200345", "RD": "Main", "LOC": "x" * 70, "FLR": "4"}),
    Geo(42.65, -73.75),
    carrier_ids=(("telnyx", "a1b2"), ("bandwidth", "HQ4")),
)
REFERENCE = "https://phones.example.com/held/abc"


def trunk(name, priority=10, **changes):
    return Trunk(**{"id": name, "name": name, "priority": priority, "host": "192.0.2.1"} | changes)


def hops_of(host, port, transport):
    return () if host == "unknown.example" else (Hop(transport, host, port or 5060),)


def targets(
    *trunks, dialed="sip:911@x", callback="+15185550101", location=PLACE, profiles=SHIPPED, hops=hops_of,
    reference=REFERENCE, country="US", on_fault=lambda _: None, **fields,
):  # fmt: skip
    invite = read_request(request(**fields))
    numbers = numbers_of(country)
    outgoing = Outgoing(
        invite, classify(dialed, "", numbers), callback, location, "pres:101@x", datetime(2026, 11, 21, tzinfo=UTC),
        "call_1", numbers=numbers, user="10 1", name='Ada "A"', make_reference=lambda: reference,
        domain="sip.example.com", organization="Acme & <Sons>", contact_number="+15185550100",
    )  # fmt: skip
    return targets_for(
        trunks, outgoing, profiles=profiles, hops_of=hops, deadlines=Deadlines(2.5, 0.5), on_fault=on_fault
    )


def profile(**changes):
    return CarrierProfiles({"mine": replace(CarrierProfile(), name="mine", **changes)})


def mine(**changes):
    return trunk("t", profile="mine", **changes)


def geolocations(edit):
    return [value for name, value in edit.add if name == "Geolocation"]


def test_trunks_go_by_priority_then_last_resorts_and_the_silent_behind_their_equals():
    """E-08: own by priority, own last resort, anybody's last resort; down is behind up, never left out."""
    own = AccountTable(
        "account_1",
        trunks=(
            trunk("relay", 1, last_resort=True), trunk("b", 20), trunk("a", 10), trunk("off", 5, enabled=False),
            trunk("dead", 1),
        ),
    )  # fmt: skip
    others = (
        trunk("relay", 1, last_resort=True),
        trunk("far", 9, last_resort=True),
        trunk("fardead", 2, last_resort=True),
    )
    ranked = ranked_trunks(own, others, {"dead", "fardead"})
    assert [each.id for each in ranked] == ["a", "b", "dead", "relay", "far", "fardead"]


def test_a_trunk_that_left_a_call_at_100_comes_behind_those_that_answer_no_pings():
    """E-08, 0016: many carriers answer no OPTIONS and carry calls all the same; whatever a group names."""
    own = AccountTable(
        "account_1", trunks=(trunk("a", 1), trunk("b", 2), trunk("c", 3), trunk("relay", last_resort=True))
    )
    far = (trunk("far", last_resort=True),)
    ranked = ranked_trunks(own, far, {"a", "b"}, ("a",), stalled={"a"})
    assert [each.id for each in ranked] == ["c", "b", "a", "relay", "far"]


def test_behind_all_trunks_stand_those_whose_certificate_may_not_fit():
    """E-03, decision 0041: every trunk with its proof first, of every kind; none over UDP or TCP twice."""
    invite = read_request(request())
    outgoing = Outgoing(invite, classify("sip:911@x"), None, None, "pres:a@b", datetime(2026, 11, 21, tzinfo=UTC), "c")
    trunks = (trunk("a", 1, transport="tls"), trunk("b", 2), trunk("c", 3, transport="tls", last_resort=True))
    found = targets_for(
        trunks, outgoing, profiles=SHIPPED, hops_of=lambda host, port, kind: (Hop(kind, "192.0.2.1", 5061, 0, host),),
        deadlines=Deadlines(), may_misfit=lambda hop: hop.transport == "tls",
    )  # fmt: skip
    assert [(each.name, each.hop.is_unproven) for each in found] == [
        ("a", False), ("b", False), ("c", False), ("a", True), ("c", True),
    ]  # fmt: skip
    assert found[3].edit == found[0].edit
    assert found[3].hop[:3] == found[0].hop[:3]


def test_a_groups_trunks_come_first_in_its_order_and_every_other_way_out_stays():
    """S1-27, S1-38: group, others by priority, last resorts last; one that does not answer is behind all that do."""
    own = AccountTable(
        "account_1",
        trunks=(
            trunk("relay", 1, last_resort=True), trunk("c", 30), trunk("b", 20), trunk("a", 10),
            trunk("off", 5, enabled=False),
        ),
    )  # fmt: skip
    far = (trunk("far", 9, last_resort=True),)
    plain = [each.id for each in ranked_trunks(own, far, set())]
    assert plain == ["a", "b", "c", "relay", "far"]
    assert [each.id for each in ranked_trunks(own, far, set(), ("c", "b"))] == ["c", "b", "a", "relay", "far"]
    assert [each.id for each in ranked_trunks(own, far, {"c"}, ("c", "b"))] == ["b", "a", "c", "relay", "far"]
    # a last resort stays one, whatever group it is in; what is off, gone or unknown takes nobody's place
    assert [each.id for each in ranked_trunks(own, far, set(), ("relay", "off", "gone", "b"))] == [
        "b", "a", "c", "relay", "far",
    ]  # fmt: skip
    assert [each.id for each in ranked_trunks(own, far, set(), ("off",))] == plain


@given(st.sets(st.sampled_from("abcdef")), st.lists(st.sampled_from("abcdefxyz")), st.sets(st.sampled_from("abcdef")))
def test_no_group_ever_takes_a_way_out(off, group, down):
    """S1-27: whatever a group names, the trunks tried are those that would be tried without it."""
    trunks = tuple(trunk(name, ord(name), enabled=name not in off, last_resort=name == "f") for name in "abcdef")
    own, far = AccountTable("account_1", trunks=trunks), (trunk("far", last_resort=True),)
    without = ranked_trunks(own, far, down)
    ranked = ranked_trunks(own, far, down, tuple(group))
    assert sorted(each.id for each in ranked) == sorted(each.id for each in without)
    assert ranked[-1].id == "far"


def test_an_emergency_request_as_the_generic_carrier_wants_it():
    """E-07: design §3.6: Request-URI, P-Asserted-Identity, Geolocation, Geolocation-Routing, Priority."""
    (target,) = targets(
        trunk("t", host="192.0.2.1"), added=["X-Callpoint-Device: 1", "x-callpoint-source: 2", "Privacy: id"]
    )
    assert target.hop == Hop("udp", "192.0.2.1", 5060)
    assert (target.first_response_s, target.connect_s) == (2.5, 0.5)
    edit = target.edit
    assert edit.request_uri == "sip:911@192.0.2.1"
    assert edit.add == (
        ("P-Asserted-Identity", "<sip:+15185550101@192.0.2.1>"),
        ("Priority", "emergency"),
        ("Geolocation", "<cid:call_1@callpoint.invalid>"),
        ("Geolocation-Routing", "yes"),
    )
    removed = {name.lower() for name in edit.remove}
    assert removed == {
        "x-callpoint-device", "x-callpoint-source", "p-asserted-identity", "p-preferred-identity", "privacy",
        "priority",
        "geolocation-routing",
    }  # fmt: skip
    assert edit.content_type.startswith("multipart/mixed")


def test_the_second_try_has_no_location_of_anybody():
    """E-08: after 424 or 488: the caller's own body, no location headers at all."""
    (target,) = targets(trunk("t"))
    retry = target.retry_edit
    assert (retry.body, retry.content_type) == (None, None)
    assert {"Geolocation", "Geolocation-Routing"} <= set(retry.remove)
    assert [name for name, _ in retry.add] == ["P-Asserted-Identity", "Priority"]
    assert {424, 488, 415, 500} <= target.retry_on


OWN = b"--b\r\nContent-Type: application/sdp\r\n\r\n" + SDP + b"\r\n--b\r\nContent-Type: application/pidf+xml\r\n"
OWN += b"Content-ID: <own@pbx>\r\n\r\n<presence/>\r\n--b--\r\n"


def carrying(*, header="<cid:own@pbx>"):
    """Fields of a request that carries a location of its own."""
    data = request(added=[f"Geolocation: {header}", "Geolocation-Routing: no"], body=OWN)
    return read_request(data.replace(b"Content-Type: application/sdp", b"Content-Type: multipart/mixed;boundary=b", 1))


def edits_of(got, *trunks, profiles=SHIPPED, location=PLACE):
    outgoing = Outgoing(
        got, classify("sip:911@x"), None, location, "pres:a@b", datetime(2026, 11, 21, tzinfo=UTC), "call_1"
    )
    found = targets_for(trunks, outgoing, profiles=profiles, hops_of=hops_of, deadlines=Deadlines())
    return [(target.edit, target.retry_edit) for target in found]


def test_the_second_try_leaves_the_caller_s_own_location_out_of_the_body_too():
    """E-08: a peer that cannot read one part with a location cannot read another: SDP alone is offered."""
    ((first, retry),) = edits_of(carrying(), trunk("t"))
    assert [part.media_type for part in leaves(first.body, "multipart/mixed;boundary=b")] == [
        "application/sdp", "application/pidf+xml", "application/pidf+xml",
    ]  # fmt: skip
    assert [part.content for part in leaves(retry.body, "multipart/mixed;boundary=b")] == [SDP]
    assert not geolocations(retry)


@pytest.mark.parametrize(("test_number", "expected"), [(None, "933"), ("18005550933", "18005550933")])
def test_a_test_call_goes_to_the_trunk_s_test_number_without_priority(test_number, expected):
    """E-01: 933 takes the same code to the last branch."""
    (target,) = targets(trunk("t", test_number=test_number), dialed="sip:933@x")
    assert target.edit.request_uri == f"sip:{expected}@192.0.2.1"
    assert "Priority" not in dict(target.edit.add)


@pytest.mark.parametrize(
    ("dialed", "country", "sent"),
    [
        ("sip:911@x", "US", "911"), ("sip:9911@x", "US", "911"), ("sip:+1911@x", "US", "911"),
        ("urn:service:sos.fire", "US", "911"), ("sip:999@x", "GB", "999"), ("sip:112@x", "GB", "112"),
        ("urn:service:sos", "GB", "999"), ("sip:000@x", "AU", "000"), ("sip:111@x", "NZ", "111"),
        ("urn:service:sos", "DE", "112"),
    ],
)  # fmt: skip
def test_the_number_sent_is_one_of_the_caller_s_country(dialed, country, sent):
    """E-01: the pack of where the caller is, never a fixed 911."""
    (target,) = targets(trunk("t"), dialed=dialed, country=country)
    assert target.edit.request_uri == f"sip:{sent}@192.0.2.1"


def test_a_carrier_may_want_another_number_in_its_place():
    """E-07: `numbers` of the profile."""
    (target,) = targets(mine(), dialed="sip:112@x", country="GB", profiles=profile(numbers=(("112", "999"),)))
    assert target.edit.request_uri == "sip:999@192.0.2.1"


@pytest.mark.parametrize(
    ("mode", "values", "has_body"),
    [
        ("value", ["<cid:call_1@callpoint.invalid>"], True),
        ("reference", [f"<{REFERENCE}>"], False),
        ("both", [f"<cid:call_1@callpoint.invalid>, <{REFERENCE}>"], True),
        ("none", [], False),
    ],
)
def test_a_trunk_gets_the_location_its_mode_asks_for(mode, values, has_body):
    """E-06: by value, by reference, both or none, per trunk."""
    (target,) = targets(trunk("t", location_mode=mode))
    assert geolocations(target.edit) == values
    assert (target.edit.body is not None) is has_body
    assert (target.retry_edit is not None) is bool(values)


@pytest.mark.parametrize(
    ("mode", "takes", "reference", "forms"),
    [
        ("reference", {"value", "reference"}, None, ["cid"]),
        ("both", {"value", "reference"}, None, ["cid"]),
        ("reference", {"value"}, REFERENCE, ["cid"]),
        ("value", {"reference"}, REFERENCE, ["https"]),
        ("value", {"reference"}, None, []),
        ("both", {"value"}, REFERENCE, ["cid"]),
        ("both", set(), REFERENCE, []),
    ],
)
def test_a_form_that_cannot_be_had_gives_way_to_the_other(mode, takes, reference, forms):
    """E-06: a location in another form beats none; a carrier gets no form it does not take."""
    profiles = profile(takes=frozenset(takes))
    (target,) = targets(mine(location_mode=mode), profiles=profiles, reference=reference)
    values = ", ".join(geolocations(target.edit))
    assert [value.lstrip("<").partition(":")[0] for value in values.split(", ") if value] == forms


def test_a_carrier_s_own_identifier_stands_as_it_is_written_there():
    """E-07: Telnyx and Bandwidth name places by identifiers of their own, without brackets."""
    (telnyx, bandwidth, other) = targets(
        trunk("a", profile="telnyx", location_mode="reference"),
        trunk("b", profile="bandwidth", location_mode="both"),
        trunk("c", profile="intelepeer", location_mode="reference"),
    )
    assert geolocations(telnyx.edit) == ["a1b2"]
    assert geolocations(bandwidth.edit) == ["<cid:call_1@callpoint.invalid>, HQ4"]
    assert geolocations(other.edit) == [f"<{REFERENCE}>"]  # it has none there


@pytest.mark.parametrize(
    ("order", "written", "stays"),
    [
        (Order.APPEND, ["<cid:call_1@callpoint.invalid>"], True),
        (Order.FIRST, ["<cid:call_1@callpoint.invalid>", "<cid:own@pbx>", "<https://lis.example/1>;loc-src=x"], False),
        (Order.ONLY, ["<cid:call_1@callpoint.invalid>"], False),
    ],
)
def test_the_order_of_several_geolocation_values_is_the_carrier_s(order, written, stays):
    """E-06: appended (RFC 6442), on top with the original kept (NENA i3), or alone."""
    got = carrying(header="<cid:own@pbx>, <https://lis.example/1>;loc-src=x")
    ((edit, _),) = edits_of(got, mine(), profiles=profile(geolocation_order=order))
    assert geolocations(edit) == written
    assert ("Geolocation" not in edit.remove) is stays


def test_the_caller_s_own_location_can_be_replaced():
    """E-06: for a carrier that reads the first part it finds: ours is the only one, every other byte stays."""
    ((edit, _),) = edits_of(carrying(), mine(), profiles=profile(caller_location="replace"))
    found = list(leaves(edit.body, "multipart/mixed;boundary=b"))
    assert [part.content_id for part in found] == ["", "call_1@callpoint.invalid"]
    assert found[0].content == SDP
    assert "Geolocation" in edit.remove
    assert edit.content_type is None


def test_the_location_a_caller_brought_is_not_conveyed_twice():
    """E-06: it is the one we would send: it goes on as it is, where the carrier reads several; routing is allowed."""
    got = carrying()
    outgoing = Outgoing(
        got, classify("sip:911@x"), None, PLACE, "pres:a@b", datetime(2026, 11, 21, tzinfo=UTC), "call_1",
        is_caller_s=True,
    )  # fmt: skip
    trunks = (trunk("a"), trunk("b", profile="telnyx"), trunk("c", location_mode="reference"))
    kept, alone, referenced = targets_for(trunks, outgoing, profiles=SHIPPED, hops_of=hops_of, deadlines=Deadlines())
    assert (kept.edit.body, geolocations(kept.edit), kept.edit.conveys_location) == (None, [], True)
    assert ("Geolocation-Routing", "yes") in kept.edit.add
    assert geolocations(alone.edit) == ["<cid:call_1@callpoint.invalid>"]
    assert geolocations(referenced.edit) == ["<cid:call_1@callpoint.invalid>"]  # nobody serves what a caller brought
    assert kept.retry_edit is not None


def test_without_a_location_of_ours_the_caller_s_own_is_never_taken_away():
    """E-03: whatever the profile says: what the caller knows is all there is."""
    for name in SHIPPED.by_name:
        ((edit, retry),) = edits_of(carrying(), trunk("t", profile=name), location=None)
        assert (edit.content_type, geolocations(edit)) == (None, [])
        assert edit.body is None or edit.body.startswith(OWN.removesuffix(b"--b--\r\n"))
        assert "Geolocation" not in edit.remove
        assert "Geolocation" in retry.remove
        assert (edit.conveys_location, retry.conveys_location) == (True, False)


def test_without_a_location_the_body_is_the_caller_s():
    """E-03: nothing to convey changes nothing else."""
    (target,) = targets(trunk("t"), location=None)
    assert (target.edit.body, target.edit.content_type, target.retry_edit) == (None, None, None)
    assert target.edit.request_uri == "sip:911@192.0.2.1"


def test_without_a_callback_number_no_identity_is_made_up():
    """E-07: unless the profile has a form for it, with the caller's own user, escaped."""
    (target,) = targets(trunk("t"), callback=None)
    assert "P-Asserted-Identity" not in dict(target.edit.add)
    assert target.edit.from_ is None
    (named,) = targets(trunk("t", profile="bandwidth"), callback=None)
    assert named.edit.from_ == '"Ada A" <sip:10%201@192.0.2.1>'


def test_an_address_is_cut_to_what_the_carrier_takes_and_that_is_told():
    """E-07: words lose their end; a number with its end cut off is another house, so it is left out."""
    (target,) = targets(replace(trunk("t", profile="telnyx"), name="Telnyx"))
    pidf = list(leaves(target.edit.body, target.edit.content_type))[-1].content
    (sent,) = read_pidf(pidf)
    assert sent.civic_address.as_dict() == {"country": "US", "A1": "NY", "RD": "Main", "LOC": "x" * 60, "FLR": "4"}
    assert sent.method == "LIS"
    trunks = (replace(trunk("t", profile="telnyx"), name="Telnyx"), trunk("u"))
    assert shortened(trunks, PLACE, SHIPPED) == ("Telnyx: HNO, LOC",)
    assert shortened(trunks, None, SHIPPED) == ()


def test_only_the_first_trunk_s_request_is_made_before_the_call_leaves():
    """E-02: the rest is work for the case that it fails."""
    asked = []
    found = targets(trunk("a"), trunk("b", host="192.0.2.2"), hops=lambda *name: asked.append(name) or hops_of(*name))
    assert (len(found), len(asked)) == (2, 2)
    assert found[0] is found[0]
    assert found._made[1] is None
    assert [target.name for target in found] == ["a", "b"]
    assert [target.name for target in found[1:]] == ["b"]
    assert found[0].edit.body is found[1].edit.body  # one location, composed once


def test_an_identifier_that_was_given_further_up_stays_the_only_one():
    """E-07: NENA i3: a call identifier is made once on a call's way."""
    (target,) = targets(trunk("t", profile="nena_i3"))
    purposes = [value.rpartition("=")[2] for name, value in target.edit.add if name == "Call-Info"][:2]
    assert purposes == ["emergency-CallId", "emergency-IncidentId"]
    given = "Call-Info: <urn:emergency:uid:callid:abcdef1234:bcf.example>;purpose=emergency-CallId"
    (target,) = targets(trunk("t", profile="nena_i3"), added=[given])
    purposes = [value.rpartition("=")[2] for name, value in target.edit.add if name == "Call-Info"][:1]
    assert purposes == ["emergency-IncidentId"]
    assert "Call-Info" not in target.edit.remove


def test_additional_data_goes_by_value_and_each_part_is_named():
    """E-07: RFC 7852: provider, service and subscriber as parts before the location; the caller's words cannot break
    them; without a location they go too.
    """
    for location in (PLACE, None):
        (target,) = targets(trunk("t", profile="nena_i3"), location=location)
        named = [value for name, value in target.edit.add if name == "Call-Info" and "EmergencyCallData" in value]
        parts = list(leaves(target.edit.body, target.edit.content_type))[1:]
        blocks = parts[:3]
        assert [part.media_type for part in parts[3:]] == (["application/pidf+xml"] if location else [])
        for value, part in zip(named, blocks, strict=True):
            content_id, _, purpose = value.partition(">;purpose=")
            assert content_id == f"<cid:{part.content_id}"
            assert part.media_type == f"application/{purpose}+xml".lower()
            root = etree.fromstring(part.content)
            namespace, _, block = root.tag.removeprefix("{").partition("}")
            assert (namespace.rpartition(":")[2], block) == (purpose.partition(".")[2], purpose)
            assert root.findtext("{*}DataProviderReference") == "call_1@sip.example.com"
        provider, service, subscriber = (etree.fromstring(part.content) for part in blocks)
        assert provider.findtext("{*}DataProviderString") == "Acme & <Sons>"
        assert provider.findtext("{*}ContactURI") == "tel:+15185550100"
        assert service.findtext("{*}ServiceType") == "MLTS-local"
        assert subscriber.findtext(".//{*}fn/{*}text") == 'Ada "A"'
        assert subscriber.findtext(".//{*}tel/{*}uri") == "tel:+15185550101"
        assert target.retry_edit.body is None


def test_a_trunk_whose_name_does_not_resolve_is_passed_over_and_many_addresses_are_capped():
    """E-02: no look-up in the call's way."""

    def many(host, port, transport):
        return (
            tuple(Hop(transport, f"192.0.2.{n}", port) for n in range(20))
            if host == "many.example"
            else hops_of(host, port, transport)
        )

    found = targets(
        trunk("x", host="unknown.example"), trunk("y", host="many.example"), trunk("z", host="2001:db8::1"), hops=many
    )
    assert [target.name for target in found] == ["y", "y", "y", "z"]
    assert found[-1].edit.request_uri == "sip:911@[2001:db8::1]"


def test_a_trunk_of_several_silent_addresses_is_left_as_soon_as_one_of_a_single_address():
    """E-08: the second trunk is tried within 2.5 s, however many addresses the first one's name has."""
    places = {"one.example": 1, "two.example": 2, "many.example": 20}

    def hops(host, port, transport):
        return tuple(Hop(transport, f"192.0.2.{n}", port) for n in range(places[host]))

    for host, addresses in {"one.example": 1, "two.example": 2, "many.example": 3}.items():
        for found in (
            targets(trunk("t", host=host), hops=hops),
            bare_targets([trunk("t", host=host)], classify("sip:911@x"), NORTH_AMERICA, hops_of=hops,
                         deadlines=Deadlines(2.0, 1.0)),
        ):  # fmt: skip
            assert len(found) == addresses
            assert sum(target.first_response_s for target in found) < 2.51
            assert sum(target.connect_s for target in found) <= 1.5
            assert min(target.first_response_s for target in found) >= 0.7  # a lost INVITE is sent again after 0.5 s


def test_what_a_trunk_says_of_itself_fails_over_and_what_comes_from_behind_it_does_not():
    """E-08: 404 403 408 424 43x 480 488 5xx go on; 486, 600 and 603 do not, or only when nothing has rung."""
    (target,) = targets(trunk("t"))
    assert {403, 404, 408, 424, 430, 436, 480, 488, 500, 503, 599} <= target.fail_over
    assert not {486, 487, 600, 603, 200} & target.fail_over
    assert target.fail_over_unrung == {600, 603}
    (own,) = targets(mine(), profiles=profile(final_statuses=frozenset({404})))
    assert 404 not in own.fail_over
    assert 486 in own.fail_over


def test_a_trunk_s_credentials_answer_its_challenges():
    (plain, known) = targets(trunk("a"), trunk("b", auth_user="acme", secret="s3cret"))
    assert plain.credentials is None
    assert (known.credentials.user, known.credentials.secret) == ("acme", "s3cret")


def test_a_changed_trunk_speaks_its_new_dialect():
    """E-07: what is compiled is kept by the row it was made of."""
    (before,) = targets(trunk("t"))
    (after,) = targets(trunk("t", host="192.0.2.9"))
    assert (before.edit.request_uri, after.edit.request_uri) == ("sip:911@192.0.2.1", "sip:911@192.0.2.9")


def test_a_body_s_description_moves_with_it():
    """E-06: Content-Disposition belongs to the SDP part then."""
    (target,) = targets(trunk("t"), added=["Content-Disposition: session", "Content-Language: en"])
    assert {"Content-Disposition", "Content-Language"} <= set(target.edit.remove)
    assert (
        b"Content-Type: application/sdp\r\nContent-Disposition: session\r\nContent-Language: en\r\n\r\nv=0"
        in target.edit.body
    )


def test_a_dialect_that_fails_never_keeps_the_call_from_leaving():
    """E-03: a fault of ours on the last step gives the plain call, with the number to call back, and no answer less."""
    broken = CarrierProfiles({"mine": CarrierProfile(name="mine", request_uri="sip:{nobody}@{host}")})
    added, told = ["X-Callpoint-Device: 1", "Privacy: id"], []
    (target,) = targets(mine(host="2001:db8::1"), profiles=broken, added=added, on_fault=told.append)
    assert ["KeyError('nobody')" in each for each in told] == [True]
    assert target.edit.request_uri == "sip:911@[2001:db8::1]"
    assert dict(target.edit.add) == {"P-Asserted-Identity": "<sip:+15185550101@[2001:db8::1]>", "Priority": "emergency"}
    assert {"x-callpoint-device", "Privacy"} <= set(target.edit.remove)
    assert (target.edit.body, target.edit.conveys_location, target.retry_edit) == (None, False, None)
    (test,) = targets(mine(test_number="9330"), profiles=broken, dialed="sip:933@x", callback=None)
    assert (test.edit.request_uri, test.edit.add) == ("sip:9330@192.0.2.1", ())
