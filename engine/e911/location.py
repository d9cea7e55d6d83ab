"""Where a caller is: the names other modules use, in one place. Pure."""

from engine.e911.civic import (
    CIVIC_ELEMENTS,
    CIVIC_EXTENSIONS,
    CLDXF_ELEMENTS,
    CivicAddress,
    DispatchableLocation,
    Geo,
    unknown_elements,
)
from engine.e911.evidence import (
    DISAGREEMENT,
    NO_LOCATION,
    REFERENCE_UNRESOLVED,
    STALE,
    STALE_SIGHTING,
    UNPLACED_SIGHTING,
    Evidence,
    Resolved,
    Rung,
    Source,
)
from engine.e911.order import is_only_default, resolve
from engine.e911.prefixes import (
    IpAddress,
    IpNetwork,
    Mac,
    PrefixIndex,
    is_private,
    plain_address,
    plain_chassis,
    plain_mac,
    plain_port,
    plain_switch_port,
)
from engine.e911.rows import (
    ELIN_HOLD_MINUTES,
    AttachedBy,
    Attachment,
    Caller,
    Confirmed,
    Line,
    Network,
    Number,
    NumberHolder,
    Pbx,
    Phone,
    Sighting,
    Trunk,
)
from engine.e911.table import AccountTable, LocationTable

__all__ = [
    "CIVIC_ELEMENTS", "CIVIC_EXTENSIONS", "CLDXF_ELEMENTS", "DISAGREEMENT", "ELIN_HOLD_MINUTES", "NO_LOCATION",
    "REFERENCE_UNRESOLVED", "STALE", "STALE_SIGHTING", "UNPLACED_SIGHTING", "AccountTable", "AttachedBy", "Attachment",
    "Caller", "CivicAddress", "Confirmed", "DispatchableLocation", "Evidence", "Geo", "IpAddress", "IpNetwork", "Line",
    "LocationTable", "Mac", "Network", "Number", "NumberHolder", "Pbx", "Phone", "PrefixIndex", "Resolved", "Rung",
    "Sighting", "Source", "Trunk", "is_only_default", "is_private", "plain_address", "plain_chassis", "plain_mac",
    "plain_port", "plain_switch_port", "resolve", "unknown_elements",
]  # fmt: skip
