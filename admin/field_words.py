"""What people call the fields of a record: the labels of their forms, and the words of what dropdowns hold.

A notice says them where somebody else's change is told (`stale`, `merged_form`): nobody knows fields by their columns.
A test holds them against the templates.
"""

from collections.abc import Mapping
from typing import Any

from admin import setting_words

LANGUAGES = (("en", "English"), ("es", "Spanish"), ("fr", "French"))
COUNTRIES = (
    ("US", "United States"), ("CA", "Canada"), ("AU", "Australia"), ("AT", "Austria"), ("BE", "Belgium"),
    ("BG", "Bulgaria"), ("HR", "Croatia"), ("CY", "Cyprus"), ("CZ", "Czechia"), ("DK", "Denmark"), ("EE", "Estonia"),
    ("FI", "Finland"), ("FR", "France"), ("DE", "Germany"), ("GR", "Greece"), ("GG", "Guernsey"), ("HU", "Hungary"),
    ("IS", "Iceland"), ("IE", "Ireland"), ("IM", "Isle of Man"), ("IT", "Italy"), ("JE", "Jersey"), ("LV", "Latvia"),
    ("LI", "Liechtenstein"), ("LT", "Lithuania"), ("LU", "Luxembourg"), ("MT", "Malta"), ("NL", "Netherlands"),
    ("NZ", "New Zealand"), ("NO", "Norway"), ("PL", "Poland"), ("PT", "Portugal"), ("RO", "Romania"),
    ("SK", "Slovakia"), ("SI", "Slovenia"), ("ES", "Spain"), ("SE", "Sweden"), ("CH", "Switzerland"),
    ("GB", "United Kingdom"),
)  # fmt: skip
PLACEMENTS = (  # of models.Placement
    ("fixed", "Fixed, on the premises"), ("non_fixed", "Carried about the premises"),
    ("off_premises", "Used off the premises"),
)  # fmt: skip
# ruff: noqa: RUF001 - the labels are typeset as the pages are
LABELS: Mapping[str, Mapping[str, str]] = {
    "account": {
        "timezone": "Time zone", "default_location_id": "Default location", "trunk_group_id": "Trunks taken first",
        "emergency_enabled": "Emergency calling is live", "elin_hold_minutes": "Minutes a number is kept",
        "notification_prefix": "Word in front of the subject", "notification_text": "Instructions in the mail",
        "billing_address": "Billing address", "billing_address.street": "Street address",
        "billing_address.state": "State or province",
        "sources": "Address ranges", "client_certificates": "A certificate of the phone’s maker",
        "expired_certificates": "Accept a phone’s certificate past its end",
        "encrypt_files": "Encrypt each phone’s file with a key of its own",
        "location_gate": "A phone without an E911 address", "resync_per_minute": "Phones a minute",
        "accent": "Your colour", "hostname": "Host name",
    },
    "location": {
        "notification_recipients": "Also notify", "notification_prefix": "Word in front of the subject",
        "notification_text": "Instructions in the mail", "onsite_number": "On-site security",
        "timezone": "Time zone", "trunk_group_id": "Trunks taken first", "carrier_ids": "Identifiers",
        "subnets": "Subnets of this place", "bssids": "Wi-Fi access points (BSSID)",
        "switches": "Switches (chassis id)", "switch_ports": "Single switch ports",
    },
    "line": {
        "display_name": "Name", "pbx_id": "Registers at", "sip_user": "SIP user",
        "auth_user": "Authentication user", "secret": "SIP password", "placement": "Kind of device",
    },
    "phone": {"placement": "Kind of device"},
    "pbx": {
        "sources": "Addresses it sends from", "tls_name": "TLS client certificate", "auth_user": "User",
        "secret": "Password", "registrar_port": "Port", "resync_via": "Resync requests go",
        "default_route": "Route for other calls",
    },
    "trunk": {
        "auth_user": "User", "secret": "Password", "profile": "Carrier profile", "location_mode": "Location goes",
        "last_resort": "Last resort: tried after all others", "pings": "Ask it whether it answers (OPTIONS)",
    },
    "escalation_plan": {
        f"steps.{at}.{name}": f"Step {at + 1}: {label}"
        for at in range(3)
        for name, label in (("after_s", "after"), ("emails", "mail"), ("chat_recipient_ids", "SMS or chat"))
    },
    "chat_recipient": {
        "url": "Address", "location_id": "Told of calls from", "kinds": "Calls it is told of", "enabled": "Switched on",
    },
    "webhook": {"kinds": "Calls it is told of", "enabled": "Switched on"},
    "audit_view": {"query": "Filters", "is_shared": "Share with everybody who may read the log"},
}  # fmt: skip
ELEMENTS: Mapping[str, str] = {
    "country": "Country", "A1": "State or province", "A2": "County", "A3": "City", "HNO": "House number",
    "HNS": "Number suffix", "PRD": "Direction before", "RD": "Street", "STS": "Street type", "POD": "Direction after",
    "PC": "Postal code", "BLD": "Building", "FLR": "Floor", "UNIT": "Suite", "ROOM": "Room", "LOC": "More words",
}  # fmt: skip
_SHORT = {"url": "URL", "mac": "MAC"}
_VALUES: Mapping[str, Mapping[str, str]] = {
    "language": dict(LANGUAGES),
    "country": dict(COUNTRIES),
    "placement": dict(PLACEMENTS),
}


def label_of(name: str, kind: str = "") -> str:
    """The label of a field: `civic_address.FLR` is Floor, an account's `timezone` its Time zone.

    Args:
        kind: What the record is, as the audit log calls it (`account`, `location`, …).
    """
    own = LABELS.get(kind, {})
    if name in own:
        return own[name]
    group, _dot, within = name.rpartition(".")
    if group == "civic_address":
        return ELEMENTS.get(within, f"Address {within}")
    if group == "settings":
        return setting_words.label_of(within)
    plain = _SHORT.get(within) or within.removesuffix("_id").replace("_", " ")
    return plain[:1].upper() + plain[1:]


def value_of(name: str, value: Any) -> str:
    """What a field holds, in the words of its dropdown where it has some; nothing is `nothing`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = "" if value is None else str(value)
    return _VALUES.get(name.rpartition(".")[2], {}).get(text, text) or "nothing"
