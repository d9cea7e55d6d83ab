"""Reading what people and scripts say of locations, networks and recipients: each field checked, every fault told.

Values arrive as an API body or a form holds them, a mapping of field names. A reader gives the value as it is stored
and adds a `FieldFault` for anything it cannot accept.
"""

import datetime as dt
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from engine.e911.geo import NotOnEarth, shape_of
from engine.e911.location import CivicAddress, unknown_elements
from engine.e911.prefixes import is_private, plain_address, plain_chassis, plain_mac, plain_port, plain_switch_port
from engine.errors import FieldFault, Invalid
from engine.models import Account, NetworkKind, NumberKind
from engine.numbers import parse_e164

MAX_NAME_CHARS = 200  # the column's width
MAX_ELEMENT_CHARS = (
    200  # the most any carrier takes (Telnyx, for RD); a shorter limit of a trunk is its profile's matter
)
MAX_RECIPIENTS = 50  # one 911 call must not become a mail storm that the mail server throttles
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # IPv4 written inside IPv6 (RFC 4291 §2.5.5.2)
MAX_CARRIER_IDS = 20
MAX_PREFIX_CHARS = 40  # of a subject: phones show about that many of it
MAX_INSTRUCTION_CHARS = 300
_PROFILE = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_NOT_IN_A_HEADER = re.compile(r"[\s\"'<>\\,;{}]")  # the carrier's name for a place is sent in a header
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# RFC 5321 §4.1.2 Dot-string @ Domain, lengths of §4.5.3.1; quoted strings and address literals are typing mistakes here
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class _PostalRule:
    """How a country writes its first division (A1) and its postal code (PC)."""

    division: str
    divisions: frozenset[str]
    example: str
    code: re.Pattern[str]
    code_example: str


# USPS Publication 28, appendix B: states, the District of Columbia, territories, military
_US_STATES = frozenset({
    "AL", "AK", "AZ", "AR", "CA", "CO", "CT", "DE", "FL", "GA", "HI", "ID", "IL", "IN", "IA",
    "KS", "KY", "LA", "ME", "MD", "MA", "MI", "MN", "MS", "MO", "MT", "NE", "NV", "NH", "NJ",
    "NM", "NY", "NC", "ND", "OH", "OK", "OR", "PA", "RI", "SC", "SD", "TN", "TX", "UT", "VT",
    "VA", "WA", "WV", "WI", "WY", "DC", "AS", "GU", "MP", "PR", "VI", "UM", "FM", "MH", "PW",
    "AA", "AE", "AP",
})  # fmt: skip
_POSTAL = {
    "US": _PostalRule(
        "state",
        _US_STATES,
        "NY",
        re.compile(r"\d{5}(-\d{4})?"),
        "12203 or 12203-1234",
    ),
    # Canada Post Addressing Guidelines
    "CA": _PostalRule(
        "province",
        frozenset(["AB", "BC", "MB", "NB", "NL", "NS", "NT", "NU", "ON", "PE", "QC", "SK", "YT"]),
        "ON",
        re.compile(r"[ABCEGHJ-NPRSTVXY]\d[ABCEGHJ-NPRSTV-Z] ?\d[ABCEGHJ-NPRSTV-Z]\d"),
        "K1A 0B1",
    ),
}
Values = Mapping[str, Any]
Reader = Callable[[str, Any, Account, list[FieldFault]], Any]


def read_values(
    values: Values, readers: Mapping[str, Reader], account: Account, faults: list[FieldFault]
) -> dict[str, Any]:
    """Each named field through its reader. Faults gather; a bad field's value is not to be used."""
    read = {}
    for name, value in values.items():
        reader = readers.get(name)
        if reader is None:
            reason = "is set by Callpoint" if name in _READ_ONLY else "is no field of this"
            faults.append(FieldFault(name, f"{name} {reason}; leave it out. Fields are {', '.join(readers)}."))
        else:
            read[name] = reader(name, value, account, faults)
    return read


def refuse(what: str, faults: Sequence[FieldFault]) -> None:
    """Raise `Invalid` with all faults, when there are any."""
    if not faults:
        return
    first = faults[0]
    rest = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
    raise Invalid(f"{what}: {first.field}: {first.detail}{rest}", fields=tuple(faults))


def _name(field: str, value: Any, _account: Account, faults: list[FieldFault]) -> str:
    text = _plain_text(field, value, MAX_NAME_CHARS, faults)
    if isinstance(value, str) and not text:
        faults.append(FieldFault(field, "expected a name such as Headquarters, got nothing."))
    return text


def _plain_text(field: str, value: Any, max_chars: int, faults: list[FieldFault]) -> str:
    if not isinstance(value, str):
        faults.append(FieldFault(field, f"expected text, got {value!r}."))
        return ""
    text = value.strip()
    if _CONTROL.search(text):
        faults.append(FieldFault(field, "expected one line of text, got control characters or line breaks in it."))
    if len(text) > max_chars:
        faults.append(FieldFault(field, f"expected at most {max_chars} characters, got {len(text)}."))
    return text


def _civic_address(field: str, value: Any, account: Account, faults: list[FieldFault]) -> dict[str, str]:
    """A civic address by its element names (RFC 5139 §3.2, RFC 6848 §3, CLDXF); `country` is what all else hangs on."""
    if not isinstance(value, Mapping):
        faults.append(FieldFault(field, f'expected an object such as {{"country": "US", "A1": "NY"}}, got {value!r}.'))
        return {}
    for name in unknown_elements(str(key) for key in value):
        detail = (
            f"{name} is no civic address element. Use the names of RFC 5139, RFC 6848 or CLDXF, such as A3, RD, HNO."
        )
        faults.append(FieldFault(f"{field}.{name}", detail))
    texts = {
        name: _plain_text(
            f"{field}.{name}",
            str(text) if isinstance(text, int) and text is not True else text,
            MAX_ELEMENT_CHARS,
            faults,
        )
        for name, text in value.items()
        if text is not None
    }
    texts["country"] = texts.get("country", "").upper()
    if not re.fullmatch(r"[A-Z]{2}", texts["country"]):
        got = texts["country"] or "nothing"
        faults.append(FieldFault(f"{field}.country", f"expected two letters (ISO 3166) such as US, got {got}."))
        faults += _postal_faults(field, texts | {"country": account.country})  # so that all is told at once
    faults += _postal_faults(field, texts)
    return CivicAddress.of(texts).as_dict()


def _postal_faults(field: str, texts: Mapping[str, str]) -> list[FieldFault]:
    """What a dispatcher in that country could not read: a state in full, a postal code of another country."""
    rule = _POSTAL.get(texts["country"])
    if rule is None:
        return []
    faults = []
    if texts.get("A1") and texts["A1"].upper() not in rule.divisions:
        detail = f"expected the two letters of a {rule.division} such as {rule.example}, got {texts['A1']}."
        faults.append(FieldFault(f"{field}.A1", detail))
    if texts.get("PC") and not rule.code.fullmatch(texts["PC"].upper()):
        faults.append(
            FieldFault(f"{field}.PC", f"expected a postal code such as {rule.code_example}, got {texts['PC']}.")
        )
    return faults


def _geo(field: str, value: Any, _account: Account, faults: list[FieldFault]) -> dict[str, Any] | None:
    """A place in WGS 84: latitude and longitude in degrees, altitude_m and radius_m in metres as wanted; with `shape`
    one of the others that `engine.e911.geo` knows.
    """
    if value is None or value == {}:
        return None
    if not isinstance(value, Mapping):
        faults.append(
            FieldFault(field, f'expected {{"latitude": 42.65, "longitude": -73.75}} or nothing, got {value!r}.')
        )
        return None
    value = {name: given for name, given in value.items() if given is not None}
    if not value:
        return None
    if value.get("shape") not in {None, "point"} or "confidence" in value:
        return _shape(field, value, faults)
    read: dict[str, Any] = {}
    for name, (least, most, is_required) in _GEO_LIMITS.items():
        number = value.get(name)
        if number is None and not is_required:
            continue
        if isinstance(number, int | float) and not isinstance(number, bool) and least <= number <= most:
            read[name] = float(number)
        else:  # NaN compares false, so it ends here too
            faults.append(FieldFault(f"{field}.{name}", f"expected a number from {least} to {most}, got {number!r}."))
    for name in value.keys() - _GEO_LIMITS.keys() - {"shape"}:
        detail = f"{name} is no field of a position. Fields are {', '.join(_GEO_LIMITS)}."
        faults.append(FieldFault(f"{field}.{name}", detail))
    return read


def _shape(field: str, value: Values, faults: list[FieldFault]) -> dict[str, Any] | None:
    try:
        return shape_of(value).as_dict()
    except NotOnEarth as exc:
        faults.append(FieldFault(f"{field}.{exc.field}", str(exc)))
        return None


_GEO_LIMITS = {
    "latitude": (-90.0, 90.0, True),
    "longitude": (-180.0, 180.0, True),
    "altitude_m": (-500.0, 9000.0, False),
    "radius_m": (0.0, 100_000.0, False),
}


def _prefix(field: str, value: Any, _account: Account, faults: list[FieldFault]) -> str:
    return _plain_text(field, value, MAX_PREFIX_CHARS, faults)


def _instructions(field: str, value: Any, _account: Account, faults: list[FieldFault]) -> str:
    return _plain_text(field, value, MAX_INSTRUCTION_CHARS, faults)


def _timezone(field: str, value: Any, _account: Account, faults: list[FieldFault]) -> str | None:
    if value is None or value == "":
        return None
    try:
        return ZoneInfo(value).key
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):  # OSError: `America` is a folder of zones
        faults.append(FieldFault(field, f"expected a time zone such as America/New_York, got {value!r}."))
        return None


def _number(field: str, value: Any, account: Account, faults: list[FieldFault]) -> str | None:
    if value is None or value == "":
        return None
    number = parse_e164(value, account.country) if isinstance(value, str) else None
    if number is None:
        detail = f"expected a number that can be called back, such as +15185550123, got {value!r}."
        faults.append(FieldFault(field, detail))
    return number


def _recipients(field: str, value: Any, _account: Account, faults: list[FieldFault]) -> list[str]:
    """E-mail addresses, each once: a twin in other letters is the same mailbox."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        faults.append(FieldFault(field, f"expected a list of e-mail addresses, got {value!r}."))
        return []
    found: dict[str, str] = {}
    for at, item in enumerate(value):
        address = read_email(f"{field}[{at}]", item, faults)
        found.setdefault(address.casefold(), address)
    if len(found) > MAX_RECIPIENTS:
        faults.append(FieldFault(field, f"expected at most {MAX_RECIPIENTS} addresses, got {len(found)}."))
    return list(found.values())


def read_email(field: str, value: object, faults: list[FieldFault]) -> str:
    """An e-mail address with its domain in lower case; a fault says what is wrong with anything else."""
    text = value.strip() if isinstance(value, str) else ""
    local, at, domain = text.rpartition("@")
    labels = domain.split(".")
    is_address = (
        bool(at)
        and len(text) <= 254  # RFC 5321 §4.5.3.1.3 less the angle brackets
        and len(local) <= 64
        and _LOCAL_PART.fullmatch(local) is not None
        and all(_LABEL.fullmatch(label) for label in labels)
        and (len(labels) > 1 or domain.lower() == "localhost")
        and not labels[-1].isdigit()
    )
    if not is_address:
        faults.append(FieldFault(field, f"expected an e-mail address such as frontdesk@example.com, got {value!r}."))
        return ""
    return f"{local}@{domain.lower()}"


def canonical_subnet(text: str) -> str:
    """A subnet as it is kept: IPv4 or IPv6 CIDR in canonical spelling (RFC 5952), a bare address as a network of one.

    Raises:
        ValueError: what was expected and got; host bits set name the network that was probably meant.
    """
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
        host = ipaddress.ip_address(text.strip().partition("/")[0])
    except ValueError as exc:
        raise ValueError(f"expected a network such as 10.1.0.0/16 or 2001:db8:1::/48, got {text!r}.") from exc
    if host != network.network_address:
        raise ValueError(
            f"{text.strip()} has host bits set: write {network} for the network, or {host} for one address."
        )
    if "%" in text:
        raise ValueError(f"{text.strip()} names an interface of one machine: write the network without it.")
    if network.is_link_local or network.is_multicast or network.is_unspecified:
        raise ValueError(
            f"{network} exists at every site (link-local, multicast or unspecified) and proves no place: write the "
            "network that the site's phones get their addresses from."
        )
    if network.prefixlen == 0:
        raise ValueError(f"{network} holds every address: set the account's or the PBX's default location instead.")
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):  # callers in it are seen as IPv4
        inner = network.network_address.ipv4_mapped
        return f"{inner}/{network.prefixlen - _MAPPED.prefixlen}"
    return str(network)


def canonical_bssid(text: str) -> str:
    """An access point's BSSID as it is kept: 12 lower-case hexadecimal digits.

    Raises:
        ValueError: what was expected and got; a group address (IEEE 802 §8.2) is no access point's.
    """
    mac = plain_mac(text)
    if mac is None:
        raise ValueError(f"expected a BSSID such as 00:1a:2b:3c:4d:5e, got {text!r}.")
    if int(mac[1], 16) & 1 or mac == "0" * 12:
        raise ValueError(f"{text.strip()} is no access point's own address: write the BSSID that phones report.")
    return mac


def canonical_network(kind: str, text: str) -> str:
    """A network of that kind as it is kept, in the one spelling that a sighting is compared with.

    Raises:
        ValueError: what was expected and got.
    """
    if kind == NetworkKind.SUBNET:
        return canonical_subnet(text)
    if kind == NetworkKind.BSSID:
        return canonical_bssid(text)
    if kind == NetworkKind.SWITCH:
        plain, expected = plain_chassis(text), "a switch's chassis id, its MAC or a name without a slash"
    else:
        plain, expected = plain_switch_port(text), "a chassis id and a port id such as 00:1a:2b:3c:4d:5e/gi1/0/12"
    if plain is None or _CONTROL.search(plain):
        raise ValueError(f"expected {expected}, of at most 100 characters each, got {text!r}.")
    return plain


def network_value(read: dict[str, Any], faults: list[FieldFault]) -> None:
    """Put `value` of what was read into the spelling of its `kind`."""
    if not any(fault.field in {"kind", "value"} for fault in faults):
        try:
            read["value"] = canonical_network(read["kind"], read["value"])
        except ValueError as exc:
            faults.append(FieldFault("value", str(exc)))


def canonical_place(text: str) -> str:
    """The network an address was confirmed on: a public subnet or an access point's BSSID.

    Raises:
        ValueError: what was expected and got. A private range repeats behind every router and so proves no place.
    """
    if plain_mac(text) is not None:
        return canonical_bssid(text)
    try:
        network = canonical_subnet(text)
    except ValueError as exc:
        raise ValueError(str(exc).replace("10.1.0.0/16", "203.0.113.7/32")) from exc
    if is_private(ipaddress.ip_network(network).network_address):
        raise ValueError(
            f"{network} is a private range, which repeats everywhere and proves no place: no 911 call would use it. "
            "Give the public address the calls come from, or the access point's BSSID."
        )
    return network


def _kind(field: str, value: Any, _account: Account, faults: list[FieldFault]) -> str:
    if value not in set(NetworkKind):
        faults.append(FieldFault(field, f"expected one of {', '.join(NetworkKind)}, got {value!r}."))
    return str(value)


def _value(field: str, value: Any, _account: Account, faults: list[FieldFault]) -> str:
    return value if isinstance(value, str) else _plain_text(field, value, MAX_NAME_CHARS, faults)


def _carrier_ids(field: str, value: Any, _account: Account, faults: list[FieldFault]) -> dict[str, str]:
    """What carriers call this place, by the name of their profile; an empty name is none."""
    if not isinstance(value, Mapping):
        faults.append(FieldFault(field, f'expected an object such as {{"bandwidth": "hq-4"}}, got {value!r}.'))
        return {}
    if len(value) > MAX_CARRIER_IDS:
        faults.append(FieldFault(field, f"expected at most {MAX_CARRIER_IDS} carriers, got {len(value)}."))
    read: dict[str, str] = {}
    for name, text in value.items():
        plain = _plain_text(f"{field}.{name}", text, 100, faults)
        if not _PROFILE.fullmatch(str(name)):
            faults.append(FieldFault(f"{field}.{name}", "expected the name of a carrier profile, such as bandwidth."))
        if _NOT_IN_A_HEADER.search(plain):
            faults.append(FieldFault(f"{field}.{name}", "expected an identifier without blanks, quotes and brackets."))
        read |= {str(name): plain} if plain else {}
    return read


def _identifier(field: str, value: Any, _account: Account, faults: list[FieldFault]) -> str:
    if isinstance(value, str) and value:
        return value
    faults.append(FieldFault(field, f"expected an identifier, got {value!r}."))
    return ""


def _identifier_or_none(field: str, value: Any, account: Account, faults: list[FieldFault]) -> str | None:
    return None if value is None or value == "" else _identifier(field, value, account, faults)


def _number_kind(field: str, value: Any, _account: Account, faults: list[FieldFault]) -> str:
    if value not in set(NumberKind):
        faults.append(FieldFault(field, f"expected one of {', '.join(NumberKind)}, got {value!r}."))
    return str(value)


def _in_spelling(spelled: Callable[[str], object], expected: str) -> Reader:
    """A reader of text that `spelled` puts into the kept spelling; nothing at all is None."""

    def read(field: str, value: Any, _account: Account, faults: list[FieldFault]) -> str | None:
        if value is None or value == "":
            return None
        plain = spelled(value) if isinstance(value, str) and not _CONTROL.search(value) else None
        if plain is None:
            faults.append(FieldFault(field, f"expected {expected}, got {value!r}."))
        return None if plain is None else str(plain)

    return read


def _or_fault(read: Callable[[str], str]) -> Reader:
    """A reader around one that raises ValueError with the sentence."""

    def reader(field: str, value: Any, _account: Account, faults: list[FieldFault]) -> str | None:
        if value is None or value == "":
            return None
        try:
            return read(value if isinstance(value, str) else repr(value))
        except ValueError as exc:
            faults.append(FieldFault(field, str(exc)))
            return None

    return reader


def _instant(field: str, value: Any, _account: Account, faults: list[FieldFault]) -> dt.datetime | None:
    if value is None or (isinstance(value, dt.datetime) and value.tzinfo is not None):
        return value
    faults.append(FieldFault(field, f"expected a time with its zone, such as 2026-11-21T20:00:00Z, got {value!r}."))
    return None


LOCATION_FIELDS: dict[str, Reader] = {
    "name": _name,
    "civic_address": _civic_address,
    "geo": _geo,
    "timezone": _timezone,
    "notification_recipients": _recipients,
    "callback_number": _number,
    "onsite_number": _number,
    "carrier_ids": _carrier_ids,
    "trunk_group_id": _identifier_or_none,
    "notification_prefix": _prefix,
    "notification_text": _instructions,
}
NETWORK_FIELDS: dict[str, Reader] = {
    "kind": _kind,
    "value": _value,
    "location_id": _identifier,
    "pbx_id": _identifier_or_none,
}
NUMBER_FIELDS: dict[str, Reader] = {
    "e164": _number,
    "kind": _number_kind,
    "location_id": _identifier_or_none,
    "line_id": _identifier_or_none,
}
CONFIRMED_FIELDS: dict[str, Reader] = {
    "phone_id": _identifier_or_none,
    "line_id": _identifier_or_none,
    "location_id": _identifier,
    "network": _or_fault(canonical_place),
}
SIGHTING_FIELDS: dict[str, Reader] = {
    "chassis": _in_spelling(plain_chassis, "a switch's chassis id, its MAC or a name without a slash"),
    "port": _in_spelling(plain_port, "a port id such as gi1/0/12"),
    "bssid": _or_fault(canonical_bssid),
    "ip": _in_spelling(plain_address, "an IP address"),
    "seen_at": _instant,
}
_READ_ONLY = frozenset(
    {
        "held_until",
        "held_by",
        "confirmed_at",
        "confirmed_by",
        "source",
        "id",
        "account_id",
        "status",
        "validated_at",
        "networks",
        "version",
        "created_at",
        "updated_at",
    }
)
