"""Who is calling, and where that phone is, as far as a trusted peer's request says. Pure."""

import re

from engine.e911.location import AccountTable, Caller, IpAddress, Pbx, plain_address, plain_mac
from engine.numbers import is_e164
from engine.sip.forward import Hop
from engine.sip.message import BadMessage, Request
from engine.sip.uri import parse_name_addr, split_values

DEVICE_HEADER = "X-Callpoint-Device"
SOURCE_HEADER = "X-Callpoint-Source"
ACCESS_HEADER = "P-Access-Network-Info"
_DEVICE, _SOURCE, _ACCESS = (name.lower().encode() for name in (DEVICE_HEADER, SOURCE_HEADER, ACCESS_HEADER))
Named = tuple[str, str, str]
"""(display name, URI as written, its user part)."""
_NOBODY: Named = ("", "", "")
_NAMELESS = frozenset({"", "anonymous", "unknown", "unavailable", "restricted", "private", "withheld"})
# what nearly all peers send, read as `parse_name_addr` reads it: no escapes, a user, a host, perhaps parameters
_PLAIN = re.compile(
    r'[ \t]*+(?:"([^"\\]*+)"[ \t]*+|([A-Za-z0-9 ._-]*+))<(sips?:([^@:;?<>%\s",]++)@'
    r'(?:[A-Za-z0-9.-]++|\[[0-9A-Fa-f:.]++\])(?::\d{1,5}+)?(?:;[^<>\s"?,@]*+)?)>'
)
# RFC 5626 §4.1: the instance of a phone is a UUID whose last 12 digits are its MAC
_INSTANCE = re.compile(r'\+sip\.instance\s*=\s*"<urn:uuid:[0-9a-f-]{24}([0-9a-f]{12})>"', re.IGNORECASE)

# RFC 7315 §5.4: the access point a phone on Wi-Fi is at, as 12 hexadecimal digits; some senders quote or punctuate it
_WLAN_NODE = re.compile(r'i-wlan-node-id\s*=\s*"?([0-9a-f:.-]{12,17})', re.IGNORECASE)


def read_caller(request: Request, source: Hop, account: AccountTable, pbx: Pbx, *, is_proven: bool) -> Caller:
    """Who is calling, as far as a trusted peer says: its own headers, P-Asserted-Identity (RFC 3325 §9.1), From. Of one
    whose name is withheld in those, what else the peer says of it.
    """
    there = request.shape.first  # most of what could be said is not: asking what is there costs least
    from_ = _named(request.header("From"))
    asserted = from_
    if b"p-asserted-identity" in there:
        asserted = _named(request.header("P-Asserted-Identity")) or from_
    device = (request.header(DEVICE_HEADER) or "").strip() if _DEVICE in there else ""
    told = request.header(SOURCE_HEADER) if _SOURCE in there else None
    source_ip = _address_told(told) if told else None
    names_pbx = source_ip is not None and not is_proven and _is_pbx(source_ip, source, pbx)
    if (names_pbx or told is None) and not is_proven:
        source_ip = None
        mac = _direct_mac(request, account, pbx, source)
        if mac is not None and (not device or plain_mac(device) == mac):
            device, source_ip, names_pbx = mac, plain_address(source.ip), False
    access = request.header(ACCESS_HEADER) if _ACCESS in there else None
    name, _, identity = asserted or _NOBODY
    if is_nameless(identity):
        name, _, identity = _named_otherwise(request, from_, account, pbx) or asserted or _NOBODY
    return Caller(
        identity=identity,
        name=name,
        uri=(from_ or _NOBODY)[1],
        device=device,
        source_ip=source_ip,
        asserted_number=_asserted_number(identity, account.country),
        bssid=_bssid(access) if access else None,
        names_pbx=names_pbx,
    )


def is_nameless(user: str) -> bool:
    """Whether nobody can be called by it: an identity withheld (RFC 3323 §4.1.1.3 and what PBXs write in its place)."""
    return user.partition("@")[0].strip().lower() in _NAMELESS


def _named_otherwise(request: Request, from_: Named | None, account: AccountTable, pbx: Pbx) -> Named | None:
    """Who withholds the name, where the peer tells it all the same: a further P-Asserted-Identity, From, a
    Remote-Party-ID of the caller, P-Preferred-Identity (RFC 3325 §9.2), or the Contact of a line we know.

    A Contact of nobody we know is the PBX's own, the same for all its callers. Diversion names who forwarded the call.
    """
    told: list[Named | None] = [_named(value) for value in _values(request, "P-Asserted-Identity")]
    told.append(from_)
    told += [
        _named(value)
        for value in _values(request, "Remote-Party-ID")
        if not re.search(r";\s*party\s*=\s*(?!calling)", value, re.IGNORECASE)
    ]
    told += [_named(value) for value in _values(request, "P-Preferred-Identity")]
    for named in told:
        if named is not None and not is_nameless(named[2]):
            return named
    contact = _named(next(iter(_values(request, "Contact")), None))
    return contact if contact is not None and account.line_named(contact[2], pbx.id) is not None else None


def _values(request: Request, name: str) -> list[str]:
    return [value for line in request.headers(name) for value in split_values(line)]


def _address_told(text: str) -> IpAddress | None:
    """An address as a PBX writes it: Asterisk's `remote_addr` has the port behind it."""
    address = plain_address(text)
    if address is None:
        host, _, port = text.strip().rpartition(":")
        address = plain_address(host) if port.isascii() and port.isdigit() else None
    return address


def _is_pbx(address: IpAddress, source: Hop, pbx: Pbx) -> bool:
    """Whether that is the address of the PBX itself, which some put where the phone's belongs."""
    if address == plain_address(source.ip):
        return True
    return any(network.num_addresses == 1 and address == network.network_address for network in pbx.sources)


def _bssid(access: str) -> str | None:
    found = _WLAN_NODE.search(access)
    return plain_mac(found.group(1)) if found else None


def _direct_mac(request: Request, account: AccountTable, pbx: Pbx, source: Hop) -> str | None:
    """The MAC of the phone itself, when the packet came straight from one: only then is its source the phone's address.

    A PBX's own address would place every caller in its server room. So: one Via, a Contact that carries the MAC of a
    phone we know (a PBX puts its own Contact), and a trusted network wider than one host.
    """
    at = request.shape.first.get(b"contact")
    if at is None or b"instance" not in request.lines[at].lower():
        return None
    found = _INSTANCE.search(request.header("Contact") or "")
    if found is None or len(request.headers("Via")) != 1 or "," in (request.header("Via") or ""):
        return None
    address = plain_address(source.ip)
    if address is None:
        return None
    if any(address in network and network.num_addresses == 1 for network in pbx.sources):
        return None
    mac = found.group(1).lower()
    return mac if account.phone_by_mac(mac) is not None else None


def _named(value: str | None) -> Named | None:
    """A From or P-Asserted-Identity; None when it cannot be read."""
    if not value:
        return None
    plain = _PLAIN.match(value)
    if plain is not None:
        quoted, bare, uri, user = plain.groups()
        return quoted or (bare or "").rstrip(), uri, user
    try:
        found = parse_name_addr(value)
    except BadMessage:
        return None
    return found.display_name, found.uri.raw, found.uri.user_text


def _asserted_number(identity: str, country: str) -> str | None:
    """The caller's identity as E.164 when it is a whole number: +…, or ten or eleven digits in North America."""
    if is_e164(identity):
        return identity
    digits = identity if identity.isascii() and identity.isdigit() else ""
    if country.upper() in {"US", "CA"} and len(digits) in {10, 11} and digits[-10] not in "01":
        national = digits[-10:]
        return f"+1{national}" if len(digits) == 10 or digits[0] == "1" else None
    return None
