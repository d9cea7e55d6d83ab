"""The provisioning policy: its defaults, its faults by field, and what the stored text makes of it."""

import json
from typing import Any

import pytest

from engine.errors import Invalid
from engine.provisioning import policy as policy_module
from engine.provisioning.policy import ClientCertificates, LocationGate, Policy, faults


def test_no_policy_is_the_usual_one() -> None:
    """P-18: an account that never chose anything serves phones from anywhere, unencrypted."""
    assert Policy.read("") == Policy.read("{}") == Policy()
    assert Policy().values() == {
        "sources": [],
        "client_certificates": "accepted",
        "expired_certificates": True,
        "encrypt_files": False,
        "resync_per_minute": 600,
        "location_gate": "alarm",
    }
    assert Policy().stored() == {}


def test_a_stored_policy_reads_back_as_it_was_and_the_same_text_is_read_once() -> None:
    """P-18: what is stored is what holds."""
    policy = Policy.of(
        {
            "sources": ["203.0.113.9", "2001:db8:1::/48", "203.0.113.9/32"],
            "client_certificates": "required",
            "expired_certificates": False,
            "encrypt_files": True,
            "resync_per_minute": 7,
            "location_gate": "off",
        }
    )
    assert policy.client_certificates is ClientCertificates.REQUIRED
    assert policy.location_gate is LocationGate.OFF
    assert policy.values()["sources"] == ["203.0.113.9/32", "2001:db8:1::/48"]
    text = json.dumps(policy.stored())
    assert Policy.read(text) == policy
    assert Policy.read(text) is Policy.read(text)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("sources", {"sources": "203.0.113.0/24"}),
        ("sources.1", {"sources": ["203.0.113.0/24", "the office"]}),
        ("sources.0", {"sources": [7]}),
        ("sources.0", {"sources": ["0.0.0.0/0"]}),
        ("sources.0", {"sources": ["::/0"]}),
        ("sources", {"sources": ["192.0.2.1"] * 201}),
        ("client_certificates", {"client_certificates": "maybe"}),
        ("client_certificates", {"client_certificates": True}),
        ("expired_certificates", {"expired_certificates": "yes"}),
        ("encrypt_files", {"encrypt_files": 1}),
        ("resync_per_minute", {"resync_per_minute": 0}),
        ("resync_per_minute", {"resync_per_minute": 601}),
        ("resync_per_minute", {"resync_per_minute": True}),
        ("location_gate", {"location_gate": "closed"}),
        ("retention", {"retention": 5}),
    ],
)
def test_a_bad_value_is_told_by_its_field(field: str, values: dict[str, Any]) -> None:
    """P-18: every fault names its field."""
    assert [fault.field for fault in faults(values)] == [field]
    with pytest.raises(Invalid):
        Policy.of(values)


def test_every_fault_is_told_at_once() -> None:
    """P-18: nobody fixes a form one field at a time."""
    found = faults({"sources": ["x", "192.0.2.0/24", "y"], "resync_per_minute": -1, "location_gate": ""})
    assert [fault.field for fault in found] == ["sources.0", "sources.2", "resync_per_minute", "location_gate"]


@pytest.mark.parametrize(
    ("address", "is_allowed"),
    [
        ("203.0.113.77", True),
        ("203.0.114.1", False),
        ("::ffff:203.0.113.77", True),
        ("2001:db8:1:2::5", True),
        ("2001:db8:2::5", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_an_address_is_inside_the_ranges_or_not(address: str, is_allowed: bool) -> None:
    """P-18: an IPv4 address that a socket shows as IPv6 counts as what it is."""
    policy = Policy.of({"sources": ["::ffff:203.0.113.0/120", "2001:db8:1::/48"]})
    assert policy.allows_source(address) is is_allowed
    assert Policy().allows_source(address)


def test_the_addresses_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """P-18: a stranger's million addresses take no memory."""
    monkeypatch.setattr(policy_module, "MAX_JUDGED", 50)
    policy = Policy.of({"sources": ["203.0.113.0/24"]})
    assert not any(policy.allows_source(f"198.51.{number // 256}.{number % 256}") for number in range(1000))
    assert policy.allows_source("203.0.113.9")
    assert len(policy._judged) <= 50
    assert policy == Policy.of({"sources": ["203.0.113.0/24"]})


def test_a_policy_from_a_newer_version_holds_as_far_as_it_is_known() -> None:
    """P-18: two versions of the engine may work on one database for a while."""
    assert Policy.read('{"resync_per_minute": 5, "geofence": true}') == Policy(resync_per_minute=5)


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"sources": ["everywhere"]}'])
def test_a_damaged_policy_is_told_and_never_taken_for_the_usual_one(text: str) -> None:
    """P-18: a policy that cannot be read must not open the door."""
    with pytest.raises(Invalid):
        Policy.read(text)
