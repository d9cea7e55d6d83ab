"""The rows of an account as a 911 call needs them, and who is calling. Pure."""

from dataclasses import dataclass

from engine.e911.prefixes import IpAddress, IpNetwork, Mac


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
