"""The rows of an account as a 911 call needs them, and who is calling. Pure."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from engine.e911.prefixes import IpAddress, IpNetwork, Mac

ELIN_HOLD_MINUTES = 180  # how long a call keeps its ELIN for callbacks


class AttachedBy(StrEnum):
    """What a phone can be attached to besides a subnet. Stored names, of networks and of location sources alike."""

    SWITCH_PORT = "switch_port"
    SWITCH = "switch"
    BSSID = "bssid"


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
class Attachment:
    """A switch, one of its ports or a Wi-Fi access point, and where it is; `value` as `prefixes.plain_…` spell it."""

    id: str
    by: AttachedBy
    value: str
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
    """A trusted peer. `default_route`: SIP URI for its requests that are not emergencies, or None.

    `tls_name`: the name in its client certificate; `auth_user` and `secret`: its digest credentials; `registrar_…`
    and `transport`: where its phones register, and calls back to them go. Empty where there is none.
    """

    id: str
    name: str
    sources: tuple[IpNetwork, ...] = ()
    default_location_id: str | None = None
    default_route: str | None = None
    tls_name: str = ""
    auth_user: str = ""
    secret: str | None = field(default=None, repr=False)
    registrar_host: str = ""
    registrar_port: int = 5060
    transport: str = "udp"


@dataclass(frozen=True, slots=True)
class Trunk:
    """A way to a carrier; lower `priority` is tried first, `last_resort` after all others and for any account. DNS
    says the port (SRV) where `port` is 0. `pings`: it is asked by OPTIONS whether it lives.
    """

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
    auth_user: str = ""
    secret: str | None = field(default=None, repr=False)
    pings: bool = True


@dataclass(frozen=True, slots=True)
class NumberHolder:
    """Who a number was lent to: the caller of one emergency call (`call` is its identifier) at one PBX."""

    pbx_id: str | None = None
    sip_user: str = ""
    extension: str = ""
    name: str = ""
    call: str = ""


@dataclass(frozen=True, slots=True)
class Number:
    """A number that reaches a caller back: `direct` (a line's own) or `elin` (lent to calls from a location).

    `held_until` (UTC) and `held_by` as last stored: a call since then may have it.
    """

    id: str
    e164: str
    kind: str = "direct"
    location_id: str | None = None
    line_id: str | None = None
    held_until: datetime | None = None
    held_by: NumberHolder | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where the network last saw a phone, told by `source` (held, api, snmp) at `seen_at` (UTC).

    `chassis`, `port` and `bssid` in the spelling of `Attachment.value`; None where that was not told.
    """

    phone_id: str
    chassis: str | None
    port: str | None
    bssid: str | None
    ip: IpAddress | None
    source: str
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Where a user said a phone or line is, good only on `network` or at `bssid`, whichever it was confirmed on."""

    id: str
    location_id: str
    confirmed_at: datetime
    phone_id: str | None = None
    line_id: str | None = None
    network: IpNetwork | None = None
    bssid: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """What a trusted request says about who is calling.

    `device`: the peer's X-Callpoint-Device (a MAC or sip_user), empty when absent. `source_ip`: the phone's own
    address, never the PBX's (`names_pbx`: the peer gave its own, which was left out). `bssid`: the Wi-Fi access point
    of P-Access-Network-Info (RFC 7315). `identity`: user part of P-Asserted-Identity (RFC 3325), else of From.
    `asserted_number`: that identity when it is a full E.164 number.
    """

    identity: str = ""
    name: str = ""
    uri: str = ""
    device: str = ""
    source_ip: IpAddress | None = None
    asserted_number: str | None = None
    bssid: str | None = None
    names_pbx: bool = False
