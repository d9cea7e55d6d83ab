"""Applications on computers and telephones: an address that stands for one, the code its camera reads, and how a name
and a user are written inside a SIP address (pure).

A softphone has no MAC address that it would tell. Everything else here knows a phone by one, so an application gets one
of the addresses that IEEE 802 leaves to whoever administers a network: the second bit of the first octet is set, and no
vendor's phone is made with it. It stands in the name of the file: `/p/<token>/linphone-02….xml`.
"""

import re
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from engine.provisioning.vendors import Mac, Profile, known

LOCALLY_ADMINISTERED = 0x02
CLOUD_ID = re.compile(r"[A-Za-z0-9_-]{1,40}\*?\Z")  # of a Cloud Softphone project; a star asks for the test version


def device_address() -> Mac:
    """A new address for an application: 46 random bits, locally administered, for one device."""
    first, *rest = secrets.token_bytes(6)
    return Mac(bytes((first & 0xFC | LOCALLY_ADMINISTERED, *rest)).hex())


def is_local(mac: str) -> bool:
    """Whether the address is one that somebody made up (IEEE 802-2014 §8.4), not one that a vendor gave a phone."""
    return int(mac[1], 16) & LOCALLY_ADMINISTERED != 0


def is_application(vendor: str) -> bool:
    """Whether that family is one of applications."""
    profile = known().profiles.get(vendor)
    return profile is not None and profile.is_softphone


def qr_content(profile: Profile, provisioning_url: str, mac: str, settings: Mapping[str, Any]) -> str | None:
    """What a QR code for that phone says; None where the family takes none.

    Linphone's "Scan a QR code" takes the URL of the file. Acrobits' applications read `csc:user:password@CLOUDID`; the
    project of that Cloud ID has `<provisioning URL>acrobits-%username%.xml` as its external provisioning, so the user
    is the address, and the password is not asked for. Without the setting `cloud_id` there is nothing to scan.
    """
    if not profile.is_softphone:
        return None
    if profile.name == "acrobits":
        cloud_id = settings.get("cloud_id") or ""
        return f"csc:{mac}:{mac}@{cloud_id}" if CLOUD_ID.match(cloud_id) else None
    return provisioning_url + profile.device_files[0].replace("{mac}", mac)


def quoted_string(text: str) -> str:
    """A display name as RFC 3261 §25.1 writes it, whatever is in it: quotation marks and backslashes are escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def uri_user(address: str) -> str:
    """`user@host` with what a user may not hold written as escapes, so that nothing of it becomes a parameter."""
    user, at, host = address.rpartition("@")
    return quote(user, safe="!$&'()*+,;=?/%~-_.") + at + host
