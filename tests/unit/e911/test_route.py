"""Carrier profiles, the order of trunks, and what the INVITE to each looks like."""

import pytest

from engine.e911.carriers import CarrierProfile, CarrierProfiles, load_profiles
from engine.e911.dial import Kind
from engine.e911.location import AccountTable, Trunk
from engine.e911.route import Deadlines, Outgoing, fail_over_statuses, ranked_trunks, targets_for
from engine.sip.forward import Hop
from tests.siptest import read_request, request

SHIPPED = load_profiles()


def trunk(name, priority=10, **changes):
    return Trunk(**{"id": name, "name": name, "priority": priority, "host": "192.0.2.1"} | changes)


def hops_of(host, port, transport):
    return () if host == "unknown.example" else (Hop(transport, host, port or 5060),)


def targets(
    *trunks, kind=Kind.EMERGENCY, callback="+15185550101", pidf=b"<p/>", profiles=SHIPPED, hops=hops_of, **fields
):
    invite = read_request(request(**fields))
    outgoing = Outgoing(invite, kind, callback, pidf, "call_1@x")
    return targets_for(trunks, outgoing, profiles=profiles, hops_of=hops, deadlines=Deadlines(2.5, 0.5))


def test_the_shipped_generic_profile_is_the_built_in_one():
    """E-07: a lost templates folder changes nothing for generic trunks."""
    assert SHIPPED.faults == ()
    assert SHIPPED.of("generic") == CarrierProfile()
    assert SHIPPED.of("no such carrier") == CarrierProfile()


def test_profiles_are_read_and_bad_ones_are_reported(tmp_path):
    """E-07: carriers as data; a bad file leaves its trunks on the generic dialect."""
    (tmp_path / "good.toml").write_text(
        'request_uri = "sip:{number}@sos.example"\npriority = ""\nfinal_statuses = [486]\n'
    )
    (tmp_path / "broken.toml").write_text("= nonsense")
    (tmp_path / "unknown.toml").write_text('colour = "red"')
    (tmp_path / "named.toml").write_text('name = "other"')
    (tmp_path / "number.toml").write_text("priority = 3")
    (tmp_path / "lines.toml").write_text('priority = "a\\nb"')
    (tmp_path / "statuses.toml").write_text("final_statuses = [200]")
    profiles = load_profiles(tmp_path)
    assert profiles.of("good") == CarrierProfile(
        "good", request_uri="sip:{number}@sos.example", priority="", final_statuses=frozenset({486})
    )
    assert profiles.of("broken") == CarrierProfile()
    assert len(profiles.faults) == 6


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
        ("Geolocation", "<cid:call_1@x>"),
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


@pytest.mark.parametrize(("test_number", "expected"), [(None, "933"), ("18005550933", "18005550933")])
def test_a_test_call_goes_to_the_trunk_s_test_number_without_priority(test_number, expected):
    """E-01: 933 takes the same code to the last branch."""
    (target,) = targets(trunk("t", test_number=test_number), kind=Kind.TEST)
    assert target.edit.request_uri == f"sip:{expected}@192.0.2.1"
    assert "Priority" not in dict(target.edit.add)


@pytest.mark.parametrize(("mode", "conveys"), [("value", True), ("both", True), ("reference", True), ("none", False)])
def test_a_trunk_gets_the_location_its_mode_asks_for(mode, conveys):
    """E-06: `reference` and `both` convey by value until references are served."""
    (target,) = targets(trunk("t", location_mode=mode))
    assert (target.edit.body is not None, target.edit.conveys_location, target.retry_edit is not None) == (conveys,) * 3


def test_without_a_location_the_body_is_the_caller_s():
    """E-03: nothing to convey changes nothing else."""
    (target,) = targets(trunk("t"), pidf=None)
    assert (target.edit.body, target.edit.content_type, target.retry_edit) == (None, None, None)
    assert target.edit.request_uri == "sip:911@192.0.2.1"


def test_the_caller_s_own_location_goes_along_first_and_is_left_out_of_the_second_try():
    """E-06: RFC 6442: an intermediary appends and never edits."""
    (target,) = targets(trunk("t"), pidf=None, added=["Geolocation: <https://lis.example/1>"])
    assert "Geolocation" not in target.edit.remove
    assert "Geolocation" in target.retry_edit.remove


def test_without_a_callback_number_no_identity_is_made_up():
    (target,) = targets(trunk("t"), callback=None)
    assert "P-Asserted-Identity" not in dict(target.edit.add)


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


def test_what_a_trunk_says_of_itself_fails_over_and_what_comes_from_behind_it_does_not():
    """E-08: 404 403 408 424 43x 480 488 5xx go on; 486, 600 and 603 do not."""
    statuses = fail_over_statuses([trunk("t")], SHIPPED)
    assert {403, 404, 408, 424, 430, 436, 480, 488, 500, 503, 599} <= statuses
    assert not {486, 487, 600, 603, 200} & statuses
    own = CarrierProfiles({"mine": CarrierProfile("mine", final_statuses=frozenset({404}))})
    assert 404 not in fail_over_statuses([trunk("t", profile="mine")], own)
    assert 486 not in fail_over_statuses([], SHIPPED)


def test_a_body_s_description_moves_with_it():
    """E-06: Content-Disposition belongs to the SDP part then."""
    (target,) = targets(trunk("t"), added=["Content-Disposition: session", "Content-Language: en"])
    assert {"Content-Disposition", "Content-Language"} <= set(target.edit.remove)
    assert (
        b"Content-Type: application/sdp\r\nContent-Disposition: session\r\nContent-Language: en\r\n\r\nv=0"
        in target.edit.body
    )
