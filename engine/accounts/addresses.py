"""E-mail addresses, host names and networks as people type them: checked and put into one spelling (pure)."""

import ipaddress
import re

from engine.errors import FieldFault

# RFC 5321 §4.1.2 without quoted local parts and address literals: neither reaches a front desk
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@(?:{_LABEL}\.)*{_LABEL}")
_HOST_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?:{_HOST_LABEL}\.)*{_HOST_LABEL}\.?")
MAX_EMAIL_CHARACTERS = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets


def plain_email(text: str) -> str:
    """The spelling that is stored and compared: no surrounding space, lower case."""
    return text.strip().lower()


def email_fault(field: str, text: str) -> FieldFault | None:
    """What is wrong with an address that mail is to reach, empty included; None: nothing."""
    plain = plain_email(text)
    local = plain.partition("@")[0]
    if len(plain) > MAX_EMAIL_CHARACTERS or not _EMAIL.fullmatch(plain):
        return FieldFault(field, "Expected an e-mail address such as frontdesk@example.com.")
    if local.startswith(".") or local.endswith(".") or ".." in local:
        return FieldFault(field, "Expected an e-mail address such as frontdesk@example.com, without stray dots.")
    return None


def host_fault(field: str, text: str) -> FieldFault | None:
    """A host name or a literal address (IPv6 without brackets)."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        # all digits and dots is a mistyped address, not a name (RFC 3696 §2)
        if len(text) > 253 or not _HOST_NAME.fullmatch(text) or re.fullmatch(r"[0-9.]+", text):
            return FieldFault(field, "Expected a host name or an address such as sip.carrier.example or 192.0.2.10.")
    return None


def canonical_network(text: str) -> str | None:
    """`10.1.2.3/16` as `10.1.0.0/16`, a lone address as a network of one; None when it is neither."""
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= 96:  # ::ffff:10.0.0.0/104 is IPv4 in another coat
        network = ipaddress.ip_network((mapped, network.prefixlen - 96), strict=False)
    return str(network)
