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
from engine.e911.evidence import DISAGREEMENT, NO_LOCATION, STALE, Evidence, Resolved, Source
from engine.e911.prefixes import IpAddress, IpNetwork, Mac, PrefixIndex, plain_address, plain_mac
from engine.e911.rows import Caller, Line, Network, Pbx, Phone, Trunk
from engine.e911.table import AccountTable, LocationTable

__all__ = [
    "CIVIC_ELEMENTS", "CIVIC_EXTENSIONS", "CLDXF_ELEMENTS", "DISAGREEMENT", "NO_LOCATION", "STALE", "AccountTable",
    "Caller", "CivicAddress", "DispatchableLocation", "Evidence", "Geo", "IpAddress", "IpNetwork", "Line",
    "LocationTable", "Mac", "Network", "Pbx", "Phone", "PrefixIndex", "Resolved", "Source", "Trunk", "plain_address",
    "plain_mac", "unknown_elements",
]  # fmt: skip
