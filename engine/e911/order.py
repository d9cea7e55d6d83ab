"""The order in which sources of a location are believed (docs/decisions/0010). Pure.

Where the phone is attached now comes before what was written about it: switch port, switch, Wi-Fi access point, subnet;
then the address its user confirmed on this very network; then what the request itself carries or names; then the
records of phone and line; then the defaults. A sighting speaks for the moment and the network it was made on: when it
is older than a day, or the request comes from elsewhere, it counts only as long as nothing fresher contradicts it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from engine.e911.civic import DispatchableLocation
from engine.e911.evidence import DEFAULTS, SIGHTING_STALE_AFTER, Resolved, Rung, Source, disagree, taken_of
from engine.e911.prefixes import IpAddress, is_private
from engine.e911.rows import AttachedBy, Caller, Confirmed, Line, Pbx, Phone, Sighting
from engine.e911.table import AccountTable

NOTHING_SEEN: Mapping[str, Sighting] = MappingProxyType({})
MAX_CONFIRMED = 8  # confirmed addresses of one caller that the verdict shows
_UNSEEN_PORT = Rung(Source.SWITCH_PORT, None, ("nobody has seen the phone at a switch port",))
_UNSEEN_SWITCH = Rung(Source.SWITCH, None, ("nobody has seen the phone at a switch",))
_NO_BSSID = Rung(Source.BSSID, None, ("no Wi-Fi access point is known",))
_NO_ADDRESS = Rung(Source.SUBNET, None, ("the phone's own address was not given",))
_PBX_ADDRESS = Rung(Source.SUBNET, None, ("the address given is the PBX's own: it says nothing of the phone",))
_NONE_CONFIRMED = Rung(Source.CONFIRMED, None, ("the user has confirmed no address",))
_NONE_CARRIED = Rung(Source.REQUEST, None, ("the request carries no location",))
_NONE_REFERENCED = Rung(Source.REFERENCE, None, ("the request names no location to fetch",))
_NO_PHONE = Rung(Source.PHONE, None, ("the request names no known phone",))
_NO_LINE = Rung(Source.LINE, None, ("the caller is no known line",))
_NO_PBX = Rung(Source.PBX_DEFAULT, None, ("the call came from no PBX",))
_OF_PHONE = ("set on phone {}", "phone {} has no location of its own")
_OF_LINE = ("set on line {}", "line {} has no location of its own")
_OF_PBX = ("default of PBX {}", "PBX {} has no default location")
_OF_ACCOUNT = ("default of account {}", "account {} has no default location")


def resolve(
    account: AccountTable,
    caller: Caller,
    now: datetime,
    *,
    pbx: Pbx | None = None,
    overlay: Mapping[str, Sighting] = NOTHING_SEEN,
    carried: Sequence[DispatchableLocation] = (),
    referenced: Rung | None = None,
) -> Resolved:
    """Find the dispatchable location to send with a 911 call. Never fails, never waits.

    Args:
        caller: Who a trusted peer says is calling.
        now: UTC. A location validated more than a year ago is used but flagged.
        pbx: The trusted peer; None, or one without an id (`callpoint call`): the request came from no PBX, so that
            there is no PBX default.
        overlay: Sightings told since the account's table was written, by phone.
        carried: The locations in the request's own PIDF-LO, the most trusted first (RFC 5491 §3.3).
        referenced: What the request's location reference led to, when it names one.
    """
    pbx_id = pbx.id if pbx is not None else None
    phone, line = account.who(caller, pbx_id)
    seen = _latest(account, phone, overlay)
    rungs = _attached(account, caller, pbx_id, seen, now)
    if account.confirmed:
        rungs += _confirmed(account, caller, phone, line, seen, now)
    else:
        rungs.append(_NONE_CONFIRMED)
    rungs += [_carried(location) for location in carried] if carried else (_NONE_CARRIED,)
    rungs.append(referenced or _NONE_REFERENCED)
    fresh_until = len(rungs)
    rungs += (
        _recorded(account, Source.PHONE, phone.location_id, _OF_PHONE, phone.mac) if phone is not None else _NO_PHONE,
        _recorded(account, Source.LINE, line.location_id, _OF_LINE, line.sip_user) if line is not None else _NO_LINE,
        _recorded(account, Source.PBX_DEFAULT, pbx.default_location_id, _OF_PBX, pbx.name)
        if pbx and pbx.id
        else _NO_PBX,
        _recorded(account, Source.ACCOUNT_DEFAULT, account.default_location_id, _OF_ACCOUNT, account.name),
    )
    if seen is not None:
        _pass_over_outdated(rungs, fresh_until, seen, caller, now)
    taken = taken_of(rungs)
    if taken is None:
        return Resolved(None, Source.NONE, phone, line, tuple(rungs), now)
    return Resolved(taken.location, taken.source, phone, line, tuple(rungs), now)


def is_only_default(resolved: Resolved) -> bool:
    """Whether nothing but a default is known: the one case in which a location reference is worth a wait."""
    return resolved.source in DEFAULTS


def place(account: AccountTable, location_id: str | None) -> DispatchableLocation | None:
    """The location of that identifier when it can be conveyed."""
    location = account.locations.get(location_id) if location_id else None
    return location if location is not None and location.can_be_conveyed else None


def _recorded(
    account: AccountTable, source: Source, location_id: str | None, words: tuple[str, str], named: str
) -> Rung:
    """`words`: of one that has a location, and of one that has none."""
    location = account.locations.get(location_id) if location_id else None
    if location is None:
        return Rung(source, None, (words[1], named))
    if not location.can_be_conveyed:
        return _empty(source, location, (words[0], named))
    return Rung(source, location, (words[0], named))


def _empty(source: Source, location: DispatchableLocation, why: tuple[object, ...]) -> Rung:
    return Rung(source, None, (f"{why[0]}; {{}} has neither an address nor coordinates", *why[1:], location.name))


def _latest(account: AccountTable, phone: Phone | None, overlay: Mapping[str, Sighting]) -> Sighting | None:
    if phone is None:
        return None
    told, stored = overlay.get(phone.id), account.sightings.get(phone.id)
    if told is None or (stored is not None and stored.seen_at >= told.seen_at):
        return stored
    return told


# --- where the phone is attached ------------------------------------------------------------------------------------


def _attached(
    account: AccountTable, caller: Caller, pbx_id: str | None, seen: Sighting | None, now: datetime
) -> list[Rung]:
    """Switch port, switch, access point and subnet. What the request says of now comes before what was seen."""
    rungs = [_UNSEEN_PORT, _UNSEEN_SWITCH]
    if seen is not None and seen.chassis:
        if seen.port:
            at = f"{seen.chassis}/{seen.port}"
            rungs[0] = _at(account, Source.SWITCH_PORT, at, pbx_id, "seen at switch port {} by {}", seen, now)
        rungs[1] = _at(account, Source.SWITCH, seen.chassis, pbx_id, "seen at switch {} by {}", seen, now)
    if caller.bssid:
        rungs.append(_at(account, Source.BSSID, caller.bssid, pbx_id, "the request names access point {}", None, now))
    elif seen is not None and seen.bssid:
        rungs.append(_at(account, Source.BSSID, seen.bssid, pbx_id, "seen at access point {} by {}", seen, now))
    else:
        rungs.append(_NO_BSSID)
    if caller.source_ip is not None:
        rungs.append(_in_subnet(account, caller.source_ip, pbx_id, None))
    elif seen is not None and seen.ip is not None:
        rungs.append(_in_subnet(account, seen.ip, pbx_id, seen))
    else:
        rungs.append(_PBX_ADDRESS if caller.names_pbx else _NO_ADDRESS)
    return rungs


def _at(
    account: AccountTable,
    source: Source,
    value: str,
    pbx_id: str | None,
    pattern: str,
    seen: Sighting | None,
    now: datetime,
) -> Rung:
    """`seen` None: the request itself says it, now."""
    why = (pattern, value) if seen is None else (pattern, value, seen.source)
    by = AttachedBy(source.value)
    found = account.attachment_of(by, value, pbx_id)
    if found is None:
        said_at = (seen.seen_at if seen is not None else now) if account.has_attachments(by) else None
        return Rung(source, None, (f"{pattern}; nobody has said where that is", *why[1:]), said_at)
    location = account.locations[found.location_id]
    if not location.can_be_conveyed:
        return _empty(source, location, why)
    return Rung(source, location, why, seen.seen_at if seen is not None else None)


def _in_subnet(account: AccountTable, address: IpAddress, pbx_id: str | None, seen: Sighting | None) -> Rung:
    found = account.network_of(address, pbx_id)
    if found is None:
        return Rung(Source.SUBNET, None, ("no network holds {}", address))
    location = account.locations[found.location_id]
    why: tuple[object, ...] = ("{} is in {}", address, found.subnet)
    if seen is not None:
        why = ("{} is in {}; seen by {}", address, found.subnet, seen.source)
    if not location.can_be_conveyed:
        return _empty(Source.SUBNET, location, why)
    return Rung(Source.SUBNET, location, why, seen.seen_at if seen is not None else None)


def _has_moved(seen: Sighting, caller: Caller) -> bool:
    """Whether the request says that the phone is no longer attached where it was seen."""
    if caller.bssid is not None and caller.bssid != seen.bssid:
        return True
    return caller.source_ip is not None and seen.ip is not None and caller.source_ip != seen.ip


def _pass_over_outdated(rungs: list[Rung], fresh_until: int, seen: Sighting, caller: Caller, now: datetime) -> None:
    """A sighting of yesterday, or from another address than the request's, yields to what contradicts it and is
    of now.
    """
    is_old, has_moved = now - seen.seen_at > SIGHTING_STALE_AFTER, _has_moved(seen, caller)
    if not is_old and not has_moved:
        return
    why = "it is more than a day old" if is_old else "the phone has another address now"
    fresh = [
        rung
        for rung in rungs[:fresh_until]
        if rung.location is not None and rung.counts and rung.said_at is not seen.seen_at
    ]
    for at, rung in enumerate(rungs[:4]):
        if rung.location is None or rung.said_at is not seen.seen_at:
            continue
        other = next((each for each in fresh if each.location and disagree(rung.location, each.location)), None)
        if other is not None:
            pattern = f"{rung.why[0]}; passed over: {why}, and {other.source.value} says otherwise"
            rungs[at] = rung._replace(why=(pattern, *rung.why[1:]), counts=False)


# --- what the user confirmed, what the request carries --------------------------------------------------------------


def _confirmed(
    account: AccountTable, caller: Caller, phone: Phone | None, line: Line | None, seen: Sighting | None, now: datetime
) -> list[Rung]:
    """The addresses the user confirmed: one counts on the network it was confirmed on, and the closest of those."""
    found = account.confirmed_by(phone, line)
    if not found:
        return [_NONE_CONFIRMED]
    address, bssid = caller.source_ip, caller.bssid
    if seen is not None and now - seen.seen_at <= SIGHTING_STALE_AFTER and not _has_moved(seen, caller):
        address, bssid = address or seen.ip, bssid or seen.bssid
    held = [each for each in found if _holds(each, address, bssid)]
    held.sort(key=lambda each: (each.network.prefixlen if each.network else 129, each.confirmed_at), reverse=True)
    shown = [*held, *(each for each in found if each not in held)][:MAX_CONFIRMED]
    return [_confirmation(account, each, address, bssid, held) for each in shown]


def _holds(confirmed: Confirmed, address: IpAddress | None, bssid: str | None) -> bool:
    if confirmed.bssid is not None:
        return confirmed.bssid == bssid
    network = confirmed.network
    return (
        network is not None
        and address is not None
        and network.version == address.version
        and address in network
        and not is_private(address)
    )


def _confirmation(
    account: AccountTable, confirmed: Confirmed, address: IpAddress | None, bssid: str | None, held: list[Confirmed]
) -> Rung:
    on, here = confirmed.network or confirmed.bssid, address or bssid
    location, why = place(account, confirmed.location_id), ("confirmed by the user on {}", on)
    if location is None:
        return Rung(Source.CONFIRMED, None, ("confirmed on {}; that location cannot be conveyed any more", on))
    if held and confirmed is held[0]:
        return Rung(Source.CONFIRMED, location, why, confirmed.confirmed_at)
    if confirmed in held:
        pattern = "confirmed on {}; passed over: another confirmation on this network is closer or later"
    elif here is None:
        pattern = "confirmed on {}; passed over: nobody knows which network the caller is on"
    elif confirmed.network is not None and is_private(confirmed.network.network_address):
        pattern = "confirmed on {}; passed over: a private range repeats everywhere and proves no place"
    else:
        pattern = "confirmed on {}; passed over: the caller is on {}, and it holds only there"
    return Rung(Source.CONFIRMED, location, (pattern, on, here), confirmed.confirmed_at, counts=False)


def _carried(location: DispatchableLocation) -> Rung:
    if not location.can_be_conveyed:
        return Rung(Source.REQUEST, None, ("the location in the request has neither an address nor coordinates",))
    return Rung(Source.REQUEST, location, ("carried in the request itself",))
