"""HELD messages: location requests read, answers and errors written (RFC 5985, 6155, 6753, 7105). Pure."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from lxml import etree

from engine.e911.prefixes import IpAddress, Mac, plain_address, plain_chassis, plain_mac, plain_port
from engine.e911.xml_input import BadXml, name_of, read_xml, text_of

HELD = "urn:ietf:params:xml:ns:geopriv:held"
HELD_ID = "urn:ietf:params:xml:ns:geopriv:held:id"
MEASUREMENTS = "urn:ietf:params:xml:ns:geopriv:lm"
CONTENT_TYPE = "application/held+xml"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
MAX_IDENTIFIERS = 16
MAX_TEXT_CHARS = 200  # of one identifier: the longest line name, switch or port that is kept
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}){1,255}")
_LLDP_MAC = {"chassis": "4", "port": "3"}  # the subtypes that hold a MAC (IEEE 802.1AB §8.5.2.2, §8.5.3.2)


class Code(StrEnum):
    """Why there is no location (the HELD error codes registered with IANA)."""

    REQUEST_ERROR = "requestError"
    XML_ERROR = "xmlError"
    GENERAL_LIS_ERROR = "generalLisError"
    LOCATION_UNKNOWN = "locationUnknown"
    UNSUPPORTED_MESSAGE = "unsupportedMessage"
    TIMEOUT = "timeout"
    CANNOT_PROVIDE_LI_TYPE = "cannotProvideLiType"
    NOT_LOCATABLE = "notLocatable"
    BAD_IDENTIFIER = "badIdentifier"  # RFC 6155: not one that is known here, or that this asker may ask by


class NoLocation(Exception):
    """The answer to a request is an error: `code` for the client, `detail` in a sentence for whoever reads its log.

    `is_denied`: it asked for what is not its own, which an auditor should know.
    """

    def __init__(self, code: Code, detail: str, *, is_denied: bool = False) -> None:
        super().__init__(detail)
        self.code, self.detail, self.is_denied = code, detail, is_denied


class Kind(StrEnum):
    """What a client may ask for (RFC 5985 §6.2)."""

    CIVIC = "civic"
    GEODETIC = "geodetic"
    URI = "locationURI"


ANY = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class Device:
    """Which device is meant (RFC 6155 §3). `unread`: identifiers that say nothing here, by name."""

    ips: tuple[IpAddress, ...] = ()
    macs: tuple[Mac, ...] = ()
    uris: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def is_named(self) -> bool:
        """True when there is any identifier that can be looked up."""
        return bool(self.ips or self.macs or self.uris)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a device says of its attachment (RFC 7105), spelled as the networks of an account are (`prefixes`). A port
    stands with its chassis alone. `relay`: the DHCP relay agent's address on the device's own subnet.
    """

    chassis: str | None = None
    port: str | None = None
    bssid: Mac | None = None
    relay: IpAddress | None = None

    @property
    def is_telling(self) -> bool:
        """True when it says where the device is plugged in or which access point serves it."""
        return self.chassis is not None or self.bssid is not None


@dataclass(frozen=True, slots=True)
class LocationRequest:
    """A locationRequest. `kinds` and `is_exact`: RFC 5985 §6.2. `within_s`: how long the client waits, None: it did
    not say. `device` None: whoever asks.
    """

    kinds: frozenset[Kind] = ANY
    is_exact: bool = False
    within_s: float | None = None
    device: Device | None = None
    measured: Measured = Measured()


def read_request(data: bytes) -> LocationRequest:
    """Read a locationRequest.

    Raises:
        NoLocation: xmlError, unsupportedMessage or requestError, as RFC 5985 §6.4 has them.
    """
    try:
        root = read_xml(data)
    except BadXml as exc:
        raise NoLocation(Code.XML_ERROR, f"A locationRequest was expected: {exc.detail}.") from exc
    if etree.QName(root).namespace != HELD or name_of(root) != "locationRequest":
        raise NoLocation(Code.UNSUPPORTED_MESSAGE, f"A locationRequest of {HELD} was expected, got {root.tag}."[:300])
    asked = root.find(f"{{{HELD}}}locationType")
    kinds, is_exact = (ANY, False) if asked is None else _read_kinds(asked)
    device = root.find(f"{{{HELD_ID}}}device")
    return LocationRequest(
        kinds,
        is_exact,
        _read_response_time(root.get("responseTime")),
        _read_device(device) if device is not None else None,
        _read_measured(root),
    )


def _read_kinds(element: etree._Element) -> tuple[frozenset[Kind], bool]:
    exact = _BOOLEANS.get((element.get("exact") or "false").strip())
    words = text_of(element).split()
    unknown = [word for word in words if word != "any" and word not in set(Kind)]
    if exact is None or unknown or not words or ("any" in words and len(words) > 1):
        raise NoLocation(
            Code.REQUEST_ERROR,
            "locationType any, or a list of civic, geodetic and locationURI, with exact true or false, was expected.",
        )
    if words == ["any"]:
        return ANY, False  # RFC 5985 §6.2.2: exact says nothing beside any
    return frozenset(Kind(word) for word in words), exact


def _read_response_time(text: str | None) -> float | None:
    """Seconds; None for the two emergency words, which ask for what can be had at once, as everything here can."""
    if text is None or text.strip() in {"emergencyRouting", "emergencyDispatch"}:
        return None
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        raise NoLocation(
            Code.REQUEST_ERROR, "responseTime emergencyRouting, emergencyDispatch or milliseconds was expected."
        )
    return int(digits) / 1000


def _read_device(element: etree._Element) -> Device:
    if len(element) > MAX_IDENTIFIERS:
        raise NoLocation(Code.REQUEST_ERROR, f"At most {MAX_IDENTIFIERS} device identifiers were expected.")
    ips: list[IpAddress] = []
    macs: list[Mac] = []
    uris: list[str] = []
    unread: list[str] = []
    for child in element:
        name, text = name_of(child), text_of(child)
        if len(text) > MAX_TEXT_CHARS:
            raise NoLocation(Code.BAD_IDENTIFIER, f"The device identifier {name} is too long to be one of ours.")
        if etree.QName(child).namespace != HELD_ID:
            unread.append(name)
        elif name == "ip" and (address := plain_address(text)) is not None:
            ips.append(address)
        elif name == "mac" and (mac := plain_mac(text)) is not None:
            macs.append(mac)
        elif name in {"ip", "mac"}:
            raise NoLocation(Code.BAD_IDENTIFIER, f"The device identifier {name} cannot be read.")
        elif name == "uri" and text.partition(":")[0].lower() in {"sip", "sips", "tel"}:
            uris.append(text)
        else:
            unread.append(name)
    return Device(tuple(ips), tuple(macs), tuple(uris), tuple(unread))


# --- measurements (RFC 7105) ------------------------------------------------------------------------------------------


def _read_measured(root: etree._Element) -> Measured:
    """The measurements that say where a device is plugged in or which access point serves it; the rest is ignored.

    A measurement that cannot be read is no measurement: the request is answered without it.
    """
    chassis = port = bssid = relay = None
    for lldp in root.iter(f"{{{MEASUREMENTS}:lldp}}lldp"):
        chassis = chassis or _lldp_name(lldp, "chassis")
        port = port or _lldp_name(lldp, "port")
    for point in root.iter(f"{{{MEASUREMENTS}:wifi}}ap"):
        if (point.get("serving") or "").strip() in {"true", "1"}:
            bssid = bssid or plain_mac(point.findtext(f"{{{MEASUREMENTS}:wifi}}bssid") or "")
    for dhcp in root.iter(f"{{{MEASUREMENTS}:dhcp}}dhcp"):
        relay = relay or plain_address(dhcp.findtext(f"{{{MEASUREMENTS}:dhcp}}giaddr") or "")
    plain = plain_chassis(chassis or "")
    return Measured(plain, plain_port(port or "") if plain else None, bssid, relay)


def _lldp_name(lldp: etree._Element, name: str) -> str | None:
    """RFC 7105 §5.1: the octets of the LLDP TLV in hexadecimal, its subtype beside them."""
    element = lldp.find(f"{{{MEASUREMENTS}:lldp}}{name}")
    digits = text_of(element) if element is not None else ""
    if element is None or not _HEX.fullmatch(digits):
        return None
    octets = bytes.fromhex(digits)
    if (element.get("type") or "").strip() == _LLDP_MAC[name] and len(octets) == 6:
        return octets.hex()
    try:
        text = octets.decode("ascii").strip("\x00 ")
    except UnicodeDecodeError:
        return octets.hex()
    return text if text.isprintable() else octets.hex()


# --- answers ----------------------------------------------------------------------------------------------------------


def write_response(presence: bytes | None, uri: str | None, expires: datetime | None) -> bytes:
    """A locationResponse.

    Args:
        presence: A PIDF-LO document, None for none.
        uri: A location URI good until `expires` (UTC), None for none.
    """
    root = etree.Element(f"{{{HELD}}}locationResponse", nsmap={None: HELD})  # type: ignore[dict-item]  # the default one
    if uri is not None and expires is not None:
        uri_set = etree.SubElement(root, f"{{{HELD}}}locationUriSet", expires=_instant(expires))
        etree.SubElement(uri_set, f"{{{HELD}}}locationURI").text = uri
    if presence is not None:
        root.append(etree.fromstring(presence))
    return _document(root)


def write_error(code: Code, detail: str) -> bytes:
    """An error; a bad identifier names those that are looked up here (RFC 6155 §3.1)."""
    namespaces = {None: HELD, "id": HELD_ID} if code is Code.BAD_IDENTIFIER else {None: HELD}
    root = etree.Element(f"{{{HELD}}}error", nsmap=namespaces, code=code.value)  # type: ignore[arg-type]
    message = etree.SubElement(root, f"{{{HELD}}}message")
    message.set(_LANG, "en")
    message.text = re.sub(r"[^\x20-\x7e]", "?", detail)
    if code is Code.BAD_IDENTIFIER:
        etree.SubElement(root, f"{{{HELD_ID}}}requiredIdentifiers").text = "id:ip id:mac id:uri"
    return _document(root)


def in_one_line(document: bytes) -> bytes:
    """The document without the line break behind its declaration: Kamailio 5.6.3's `lost_held_dereference` reads the
    first line of an answer and no other.
    """
    declaration, mark, rest = document.partition(b"?>")
    return declaration + mark + rest.lstrip()


def _document(root: etree._Element) -> bytes:
    return in_one_line(etree.tostring(root, encoding="UTF-8", xml_declaration=True))


def _instant(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
