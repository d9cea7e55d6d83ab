"""Where a caller is: addresses, evidence and the in-memory table that answers in microseconds. Pure.

Theory of operation: each account is one immutable `AccountTable`; the `LocationTable` is a dict of them plus one
index of the PBXs' source networks. An administrator's change replaces one account's table and patches the index;
calls of other accounts never notice. Networks are kept as one dict per prefix length, so the longest prefix is at
most 33 (IPv4) look-ups away whatever their number.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Generic, NamedTuple, NewType, TypeVar

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network
Mac = NewType("Mac", str)
"""12 lower-case hexadecimal digits."""

# RFC 5139 §3.2 in the order of its schema (country first, ADDCODE last), then RFC 6848 §3, then CLDXF (NENA-STA-004.2)
CIVIC_ELEMENTS = (
    "country", "A1", "A2", "A3", "A4", "A5", "A6", "PRM", "PRD", "RD", "STS", "POD", "POM", "RDSEC", "RDBR",
    "RDSUBBR", "HNO", "HNS", "LMK", "LOC", "FLR", "NAM", "PC", "BLD", "UNIT", "ROOM", "SEAT", "PLC", "PCN", "POBOX",
    "ADDCODE",
)  # fmt: skip
CIVIC_EXTENSIONS = ("PN", "MP", "STP", "HNP", "LMKP")
CLDXF_ELEMENTS = (
    "STPS", "SITE", "SUBSITE", "WING", "UNIT_PRETYPE", "UNIT_VALUE", "SECTION", "ROW", "PCE", "DT", "HNC",
)  # fmt: skip
_ORDER = {name: at for at, name in enumerate(CIVIC_ELEMENTS + CIVIC_EXTENSIONS + CLDXF_ELEMENTS)}

STALE_AFTER = timedelta(days=365)  # an address nobody has confirmed for a year is used, and flagged
MAX_KEPT_PEERS = 4096
NO_LOCATION = "location_unknown"
STALE = "stale"
DISAGREEMENT = "disagreement"


class Source(StrEnum):
    """The rung that answered. Stored names."""

    SUBNET = "subnet"
    PHONE = "phone"
    LINE = "line"
    PBX_DEFAULT = "pbx_default"
    ACCOUNT_DEFAULT = "account_default"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class CivicAddress:
    """A civic address: (element name, value) pairs in schema order, names of RFC 5139, RFC 6848 and CLDXF, values not
    empty.
    """

    elements: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, object]) -> "CivicAddress":
        """From a mapping; unknown names and empty values are left out (`unknown_elements` tells which)."""
        texts = ((name, str(value).strip()) for name, value in values.items() if value is not None)
        known = [(name, text) for name, text in texts if name in _ORDER and text]
        return cls(tuple(sorted(known, key=lambda pair: _ORDER[pair[0]])))

    def get(self, name: str) -> str:
        """The element's value, or an empty string."""
        return next((value for key, value in self.elements if key == name), "")

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return dict(self.elements)

    def contradicts(self, other: "CivicAddress") -> bool:
        """True when both give an element and the values differ. A room inside the same building contradicts nothing."""
        mine = self.as_dict()
        return any(mine.get(name, value).casefold() != value.casefold() for name, value in other.elements)


def unknown_elements(names: Iterable[str]) -> list[str]:
    """Those names that no civic address schema knows."""
    return [name for name in names if name not in _ORDER]


@dataclass(frozen=True, slots=True)
class Geo:
    """A position in WGS 84: degrees, and metres for altitude and the radius of uncertainty (RFC 5491 §5.2)."""

    latitude: float
    longitude: float
    altitude_m: float | None = None
    radius_m: float | None = None

    def as_dict(self) -> dict[str, float]:
        """For JSON; what is not known is left out."""
        known = {"latitude": self.latitude, "longitude": self.longitude}
        more = {"altitude_m": self.altitude_m, "radius_m": self.radius_m}
        return known | {name: value for name, value in more.items() if value is not None}


@dataclass(frozen=True, slots=True)
class DispatchableLocation:
    """A place responders can be sent to (47 CFR § 9.3). `validated_at` is UTC; None: never validated."""

    id: str
    name: str
    civic_address: CivicAddress
    geo: Geo | None = None
    timezone: str | None = None
    callback_number: str | None = None
    onsite_number: str | None = None
    status: str = "draft"
    validated_at: datetime | None = None

    @property
    def can_be_conveyed(self) -> bool:
        """True when there is anything to tell a dispatcher."""
        return bool(self.civic_address.elements) or self.geo is not None


@dataclass(frozen=True, slots=True)
class Network:
    """A subnet and where it is. With a `pbx_id` it holds only for callers of that PBX: private ranges repeat between
    sites.
    """

    id: str
    subnet: IpNetwork
    location_id: str
    pbx_id: str | None = None


@dataclass(frozen=True, slots=True)
class Phone:
    id: str
    mac: Mac
    label: str = ""
    location_id: str | None = None
    line_ids: tuple[str, ...] = ()  # by key, first key first


@dataclass(frozen=True, slots=True)
class Line:
    id: str
    extension: str
    sip_user: str
    display_name: str = ""
    callback_number: str | None = None
    location_id: str | None = None
    pbx_id: str | None = None


@dataclass(frozen=True, slots=True)
class Pbx:
    """A trusted peer. `default_route`: SIP URI for its requests that are not emergencies, or None."""

    id: str
    name: str
    sources: tuple[IpNetwork, ...] = ()
    default_location_id: str | None = None
    default_route: str | None = None


@dataclass(frozen=True, slots=True)
class Trunk:
    """A way to a carrier; lower `priority` is tried first, `last_resort` after all others and for any account."""

    id: str
    name: str
    priority: int
    host: str
    port: int = 5060
    transport: str = "udp"
    profile: str = "generic"
    location_mode: str = "value"
    test_number: str | None = None
    last_resort: bool = False
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Caller:
    """What a trusted request says about who is calling.

    `device`: the peer's X-Callpoint-Device (a MAC or sip_user), empty when absent. `source_ip`: the phone's own
    address, never the PBX's. `identity`: user part of P-Asserted-Identity (RFC 3325), else of From.
    `asserted_number`: that identity when it is a full E.164 number.
    """

    identity: str = ""
    name: str = ""
    uri: str = ""
    device: str = ""
    source_ip: IpAddress | None = None
    asserted_number: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one rung said: `said` is the location's name, None when the rung is silent; `age_s` since it was
    validated.
    """

    source: Source
    said: str | None
    age_s: int | None
    taken: bool
    why: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """The answer, with all that led to it. `location` None: nothing known; the call goes on all the same.

    Verdict and flags are worked out when they are read: for the record, after the call has left.
    """

    location: DispatchableLocation | None
    source: Source
    phone: Phone | None
    line: Line | None
    rungs: "tuple[_Rung, ...]"
    at: datetime

    @property
    def verdict(self) -> tuple[Evidence, ...]:
        """Every source in its order: what it said, how old that is, and why it was taken or passed over."""
        taken = next((rung for rung in self.rungs if rung.location is not None), None)
        return tuple(_evidence(rung, rung is taken, self.at) for rung in self.rungs)

    @property
    def flags(self) -> tuple[str, ...]:
        """What an operator must know of this answer: none, stale, or sources that disagree."""
        return _flags(self.location, self.rungs, self.at)


_Held = TypeVar("_Held")


class PrefixIndex(Generic[_Held]):
    """Longest-prefix match over IPv4 and IPv6 networks: one dict per prefix length, several values under one network
    allowed.
    """

    __slots__ = ("_lengths", "_levels")

    def __init__(self) -> None:
        self._levels: dict[tuple[int, int], dict[int, tuple[_Held, ...]]] = {}
        self._lengths: dict[int, list[int]] = {4: [], 6: []}

    def add(self, network: IpNetwork, held: _Held) -> None:
        """Hold a value under that network, behind those already there."""
        key = (network.version, network.prefixlen)
        level = self._levels.get(key)
        if level is None:
            level = self._levels[key] = {}
            self._lengths[network.version] = sorted([*self._lengths[network.version], network.prefixlen], reverse=True)
        prefix = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
        level[prefix] = (*level.get(prefix, ()), held)

    def remove(self, network: IpNetwork, held: _Held) -> None:
        """Forget one value of that network; absent ones are ignored."""
        level = self._levels.get((network.version, network.prefixlen), {})
        prefix = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
        left = tuple(other for other in level.get(prefix, ()) if other != held)
        if left:
            level[prefix] = left
        else:
            level.pop(prefix, None)

    def clear(self) -> None:
        """Forget everything, one network after the other."""
        for level in self._levels.values():
            while level:
                level.popitem()
        self._levels.clear()
        self._lengths = {4: [], 6: []}

    def matches(self, address: IpAddress) -> Iterable[tuple[int, tuple[_Held, ...]]]:
        """(prefix length, values) of each network around the address, the longest first."""
        number, bits = int(address), address.max_prefixlen
        for length in self._lengths[address.version]:
            held = self._levels[address.version, length].get(number >> (bits - length))
            if held:
                yield length, held


def plain_address(text: str) -> IpAddress | None:
    """An IP address as written in a header; an IPv4 address mapped into IPv6 becomes IPv4, a zone is dropped; None if
    none.
    """
    try:
        address = ip_address(text.strip().strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def plain_mac(text: str) -> Mac | None:
    """A MAC in any spelling as 12 lower-case hexadecimal digits, None if it is none."""
    digits = text.strip().lower().replace(":", "").replace("-", "").replace(".", "")
    is_mac = len(digits) == 12 and all(char in "0123456789abcdef" for char in digits)
    return Mac(digits) if is_mac else None


@dataclass(frozen=True, slots=True)
class AccountTable:
    """All of one account that a call needs, immutable. `faults`: entries of the snapshot that could not be read."""

    account_id: str
    revision: int = 0
    name: str = ""
    country: str = "US"
    timezone: str = "UTC"
    language: str = "en"
    default_location_id: str | None = None
    callback_number: str | None = None
    locations: Mapping[str, DispatchableLocation] = field(default_factory=dict)
    networks: tuple[Network, ...] = ()
    phones: tuple[Phone, ...] = ()
    lines: tuple[Line, ...] = ()
    pbxs: Mapping[str, Pbx] = field(default_factory=dict)
    trunks: tuple[Trunk, ...] = ()
    faults: tuple[str, ...] = ()
    _subnets: PrefixIndex[Network] = field(default_factory=PrefixIndex, init=False, repr=False, compare=False)
    _phone_of_mac: dict[str, Phone] = field(default_factory=dict, init=False, repr=False, compare=False)
    _phones_of_line: dict[str, tuple[Phone, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lines_of_name: dict[str, tuple[Line, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _line_of_id: dict[str, Line] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for network in self.networks:
            self._subnets.add(network.subnet, network)
        for phone in self.phones:
            self._phone_of_mac[phone.mac] = phone
            for line_id in phone.line_ids:
                self._phones_of_line[line_id] = (*self._phones_of_line.get(line_id, ()), phone)
        for line in self.lines:
            self._line_of_id[line.id] = line
            for name in {line.sip_user.lower(), line.extension.lower()} - {""}:
                self._lines_of_name[name] = (*self._lines_of_name.get(name, ()), line)

    def dissolve(self) -> list[list[object]]:
        """Empty the indexes and hand back the rows, for whoever frees them a few at a time.

        Freeing a hundred thousand rows at once would hold up a call for tens of milliseconds. The table is of no use
        after it.
        """
        rows: list[list[object]] = [list(self.phones), list(self.lines), list(self.networks)]
        self._subnets.clear()
        for index in (self._phone_of_mac, self._phones_of_line, self._lines_of_name, self._line_of_id):
            while index:
                index.popitem()
        return rows

    def phone_by_mac(self, mac: str) -> Phone | None:
        """The phone with that MAC (12 lower-case hexadecimal digits)."""
        return self._phone_of_mac.get(mac)

    def line_named(self, name: str, pbx_id: str | None) -> Line | None:
        """The line with that sip_user or extension: this PBX's own first, then one of no PBX, then the only one there
        is.

        Two lines that fit equally well are no answer: a wrong address is worse than the next rung.
        """
        found = self._lines_of_name.get(name.lower(), ())
        for fits in (pbx_id, None):
            owned = [line for line in found if line.pbx_id == fits]
            exact = [line for line in owned if line.sip_user.lower() == name.lower()]
            if len(exact or owned) == 1:
                return (exact or owned)[0]
        return found[0] if len(found) == 1 else None

    def who(self, caller: Caller, pbx_id: str | None) -> tuple[Phone | None, Line | None]:
        """Which phone and line is calling. A line on several phones counts as the phone the peer names, else as no
        phone.
        """
        mac = plain_mac(caller.device)
        phone = self._phone_of_mac.get(mac) if mac else None
        named = caller.device if caller.device and phone is None else caller.identity
        line = self.line_named(named, pbx_id) or self.line_named(caller.identity, pbx_id)
        if line is None and phone is not None and phone.line_ids:
            line = self._line_of_id.get(phone.line_ids[0])
        if phone is None and line is not None:
            holders = self._phones_of_line.get(line.id, ())
            phone = holders[0] if len(holders) == 1 else None
        return phone, line

    def callback_number_for(
        self, phone: Phone | None, line: Line | None, location: DispatchableLocation | None
    ) -> str | None:
        """The number that reaches the caller back: the line's, its phone's first line's, the location's, the
        account's.
        """
        if line is not None and line.callback_number:
            return line.callback_number
        first = self._line_of_id.get(phone.line_ids[0]) if phone is not None and phone.line_ids else None
        if first is not None and first.callback_number:
            return first.callback_number
        if location is not None and location.callback_number:
            return location.callback_number
        return self.callback_number

    def network_of(self, address: IpAddress, pbx_id: str | None) -> Network | None:
        """The narrowest subnet around the address that holds for callers of this PBX; its own before one of no PBX."""
        for _, networks in self._subnets.matches(address):
            for fits in (pbx_id, None):
                found = next((network for network in networks if network.pbx_id == fits), None)
                if found is not None and found.location_id in self.locations:
                    return found
        return None

    def resolve(self, caller: Caller, now: datetime, *, pbx: Pbx | None = None) -> Resolved:
        """Find the dispatchable location to send with a 911 call. Never fails, never waits.

        Order: subnet of the phone's own address, the phone's location, the line's, the PBX default, the account
        default.

        Args:
            caller: Who a trusted peer says is calling.
            now: UTC. A location validated more than `STALE_AFTER` ago is used but flagged.
            pbx: The trusted peer; None: the request came from no PBX, so that there is no PBX default.
        """
        phone, line = self.who(caller, pbx.id if pbx else None)
        rungs = self._rungs(caller, phone, line, pbx)
        taken = next((rung for rung in rungs if rung.location is not None), None)
        location = taken.location if taken else None
        return Resolved(location, taken.source if taken else Source.NONE, phone, line, rungs, now)

    def _rungs(self, caller: Caller, phone: Phone | None, line: Line | None, pbx: Pbx | None) -> "tuple[_Rung, ...]":
        network = self.network_of(caller.source_ip, pbx.id if pbx else None) if caller.source_ip else None
        if network is not None:
            subnet_why = f"{caller.source_ip} is in {network.subnet}"
        else:
            unheld = f"no network holds {caller.source_ip}"
            subnet_why = unheld if caller.source_ip else "the phone's own address was not given"
        phone_why = f"phone {phone.mac}" if phone else "the request names no known phone"
        line_why = f"line {line.sip_user}" if line else "the caller is no known line"
        pbx_why = f"PBX {pbx.name}" if pbx else "no PBX"
        return (
            self._rung(Source.SUBNET, network.location_id if network else None, subnet_why),
            self._rung(Source.PHONE, phone.location_id if phone else None, phone_why),
            self._rung(Source.LINE, line.location_id if line else None, line_why),
            self._rung(Source.PBX_DEFAULT, pbx.default_location_id if pbx else None, pbx_why),
            self._rung(Source.ACCOUNT_DEFAULT, self.default_location_id, f"account {self.name}"),
        )

    def _rung(self, source: Source, location_id: str | None, why: str) -> "_Rung":
        location = self.locations.get(location_id) if location_id else None
        if location is not None and not location.can_be_conveyed:
            return _Rung(source, None, f"{why}; {location.name} has neither an address nor coordinates")
        return _Rung(source, location, why)


class _Rung(NamedTuple):  # five are made for each call: a tuple is made in C
    source: Source
    location: DispatchableLocation | None
    why: str


def _evidence(rung: _Rung, taken: bool, now: datetime) -> Evidence:
    if rung.location is None:
        return Evidence(rung.source, None, None, taken=False, why=rung.why)
    at = rung.location.validated_at
    age_s = max(0, int((now - at).total_seconds())) if at else None
    why = rung.why if at else f"{rung.why}; the address was never validated"
    return Evidence(rung.source, rung.location.name, age_s, taken, why)


def _flags(location: DispatchableLocation | None, rungs: tuple[_Rung, ...], now: datetime) -> tuple[str, ...]:
    if location is None:
        return (NO_LOCATION,)
    flags = []
    if location.validated_at is not None and now - location.validated_at > STALE_AFTER:
        flags.append(STALE)
    # defaults claim nothing about this caller, so they cannot disagree
    claims = [rung.location for rung in rungs[:3] if rung.location is not None]
    if any(_disagree(location, other) for other in claims):
        flags.append(DISAGREEMENT)
    return tuple(flags)


def _disagree(one: DispatchableLocation, other: DispatchableLocation) -> bool:
    if one.id == other.id:
        return False
    if not one.civic_address.elements or not other.civic_address.elements:
        return True
    return one.civic_address.contradicts(other.civic_address)


class LocationTable:
    """Every account's table, and which PBX a packet comes from. Patched account by account, on the loop's own thread.

    `last_resorts`: every account's enabled trunks of last resort, best first.
    """

    __slots__ = ("_peers", "_sources", "accounts", "last_resorts")

    def __init__(self) -> None:
        self.accounts: dict[str, AccountTable] = {}
        self.last_resorts: tuple[Trunk, ...] = ()
        self._sources: PrefixIndex[tuple[str, str]] = PrefixIndex()
        self._peers: dict[
            str, tuple[AccountTable, Pbx] | None
        ] = {}  # answers given since the last change, by address as written

    def put(self, account: AccountTable) -> None:
        """Take an account's new table in the place of its old one."""
        old = self._forget(account.account_id)
        self.accounts[account.account_id] = account
        for pbx in account.pbxs.values():
            for source in pbx.sources:
                self._sources.add(source, (account.account_id, pbx.id))
        self._rank_last_resorts(old.trunks if old else (), account.trunks)
        self._peers.clear()

    def drop(self, account_id: str) -> None:
        """Forget an account; an unknown one is ignored."""
        old = self._forget(account_id)
        self._rank_last_resorts(old.trunks if old else (), ())
        self._peers.clear()

    def peer_of(self, ip: str) -> tuple[AccountTable, Pbx] | None:
        """`peer_at` for an address as the socket names it; asked several times per request, so answers are kept."""
        try:
            return self._peers[ip]
        except KeyError:
            address = plain_address(ip)
        if len(self._peers) >= MAX_KEPT_PEERS:  # strangers flooding from everywhere
            self._peers.clear()
        peer = self._peers[ip] = self.peer_at(address) if address is not None else None
        return peer

    def peer_at(self, address: IpAddress) -> tuple[AccountTable, Pbx] | None:
        """The account and PBX whose longest source network holds the address; None: a stranger.

        Two accounts may not hold the same network; should it happen, the older account keeps it.
        """
        for _, owners in self._sources.matches(address):
            account_id, pbx_id = min(owners)  # identifiers sort by time of making
            account = self.accounts[account_id]
            return account, account.pbxs[pbx_id]
        return None

    def _forget(self, account_id: str) -> AccountTable | None:
        old = self.accounts.pop(account_id, None)
        for pbx in old.pbxs.values() if old else ():
            for source in pbx.sources:
                self._sources.remove(source, (account_id, pbx.id))
        return old

    def _rank_last_resorts(self, old: tuple[Trunk, ...], new: tuple[Trunk, ...]) -> None:
        gone = {trunk.id for trunk in old}
        kept = [trunk for trunk in self.last_resorts if trunk.id not in gone]
        fresh = [trunk for trunk in new if trunk.last_resort and trunk.enabled]
        self.last_resorts = tuple(sorted(kept + fresh, key=lambda trunk: (trunk.priority, trunk.id)))
