"""PBXs and trunks: who may send calls, and who carries them on. Operations with their rules.

A network belongs to one PBX only, over all accounts: it is how a request finds its account.
"""

import ipaddress
import re
from dataclasses import dataclass, fields

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store
from engine.accounts.addresses import canonical_network, host_fault
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.errors import Conflict, FieldFault, Invalid
from engine.ids import new_id
from engine.models import Account, Location, LocationMode, Pbx, Transport, Trunk
from engine.sip.message import BadMessage
from engine.sip.uri import parse_uri

MAX_SOURCES = 64
RESYNC_VIA = ("pbx", "direct")
_LOCATION_MODES = frozenset(mode.value for mode in LocationMode)
_TRANSPORTS = frozenset(transport.value for transport in Transport)
_TEST_NUMBER = re.compile(r"\+?[0-9*#]{2,15}")
_PROFILE = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_USER = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{0,100}")  # printable, no space, no quote, no backslash: it is sent quoted


@dataclass(frozen=True, slots=True)
class PbxFields:
    """A PBX as it shall be, whole. `sources`: networks in any spelling."""

    name: str
    sources: tuple[str, ...] = ()
    registrar_host: str = ""
    registrar_port: int = 5060
    transport: str = Transport.UDP
    default_location_id: str | None = None
    default_route: str | None = None
    resync_via: str = "pbx"

    @classmethod
    def of(cls, pbx: Pbx) -> "PbxFields":
        """As it is now; `dataclasses.replace` makes the wished state of it."""
        values = {field.name: getattr(pbx, field.name) for field in fields(cls)}
        return cls(**values | {"sources": tuple(pbx.sources)})


@dataclass(frozen=True, slots=True)
class TrunkFields:
    """A trunk as it shall be, whole."""

    name: str
    host: str
    priority: int = 10
    port: int = 5060
    transport: str = Transport.UDP
    auth_user: str = ""
    secret: str | None = None
    profile: str = "generic"
    location_mode: str = LocationMode.VALUE
    test_number: str | None = None
    last_resort: bool = False
    enabled: bool = True

    @classmethod
    def of(cls, trunk: Trunk) -> "TrunkFields":
        """As it is now; `dataclasses.replace` makes the wished state of it."""
        return cls(**{field.name: getattr(trunk, field.name) for field in fields(cls)})


async def create_pbx(session: AsyncSession, actor: Actor, account: Account, wished: PbxFields) -> Pbx:
    """Add a PBX: requests from its networks are this account's from the commit on.

    Raises:
        Invalid: every bad field. Conflict: a network is held by a PBX already.
    """
    pbx = Pbx(id=new_id("pbx"), account_id=account.id)
    await _apply_pbx(session, pbx, wished)
    session.add(pbx)
    record(session, actor, Event.PBX_CREATE, pbx)
    return pbx


async def update_pbx(session: AsyncSession, actor: Actor, pbx: Pbx, wished: PbxFields) -> None:
    """Change a PBX. Raises as `create_pbx`."""
    await _apply_pbx(session, pbx, wished)
    record(session, actor, Event.PBX_UPDATE, pbx)


async def delete_pbx(session: AsyncSession, actor: Actor, pbx: Pbx) -> None:
    """Remove a PBX: from the commit on its requests are a stranger's, 911 included.

    Networks that held for its callers alone go with it, its lines stay without one; all of it is in the entry, which
    the database's own cascade would leave out.
    """
    networks, lines = await store.depend_on_pbx(session, pbx.id)
    for network in networks:
        await session.delete(network)
    for line in lines:
        line.pbx_id = None
    await session.flush()
    await session.delete(pbx)
    record(session, actor, Event.PBX_DELETE, pbx)


async def create_trunk(session: AsyncSession, actor: Actor, account: Account, wished: TrunkFields) -> Trunk:
    """Add a trunk to carry emergency calls. Raises Invalid with every bad field."""
    trunk = Trunk(id=new_id("trunk"), account_id=account.id)
    _apply_trunk(trunk, wished)
    session.add(trunk)
    record(session, actor, Event.TRUNK_CREATE, trunk)
    return trunk


async def update_trunk(session: AsyncSession, actor: Actor, trunk: Trunk, wished: TrunkFields) -> None:
    """Change a trunk. Raises Invalid with every bad field."""
    _apply_trunk(trunk, wished)
    record(session, actor, Event.TRUNK_UPDATE, trunk)


async def delete_trunk(session: AsyncSession, actor: Actor, trunk: Trunk) -> None:
    """Remove a trunk: no new call goes there from the commit on."""
    await session.delete(trunk)
    record(session, actor, Event.TRUNK_DELETE, trunk)


async def _apply_pbx(session: AsyncSession, pbx: Pbx, wished: PbxFields) -> None:
    faults = _pbx_faults(wished)
    sources, source_faults = _sources(wished.sources)
    faults += source_faults
    if wished.default_location_id is not None:
        location = await session.get(Location, wished.default_location_id)
        if location is None or location.account_id != pbx.account_id:
            faults.append(FieldFault("default_location_id", "Expected a location of this account."))
    if faults:
        raise Invalid("The PBX cannot be stored like this.", fields=tuple(faults))
    taken = await store.sources_in_use(session, sources, but=pbx.id)
    if taken:
        # whose it is stays unsaid: it may be another account's
        raise Conflict(f"{', '.join(taken)} belongs to another PBX already. A network names one PBX only.")
    for field in fields(wished):
        setattr(pbx, field.name, getattr(wished, field.name))
    pbx.name, pbx.sources = wished.name.strip(), sources


def _pbx_faults(wished: PbxFields) -> list[FieldFault]:
    faults = [_name_fault(wished.name), _port_fault("registrar_port", wished.registrar_port), _transport_fault(wished)]
    if wished.registrar_host:
        faults.append(host_fault("registrar_host", wished.registrar_host))
    if wished.default_route:
        faults.append(_route_fault(wished.default_route))
    if wished.resync_via not in RESYNC_VIA:
        faults.append(FieldFault("resync_via", f"Expected {' or '.join(RESYNC_VIA)}."))
    return [fault for fault in faults if fault is not None]


def _sources(texts: tuple[str, ...]) -> tuple[list[str], list[FieldFault]]:
    """Networks in canonical spelling, each once, in the order given."""
    sources: dict[str, None] = {}
    faults = []
    if len(texts) > MAX_SOURCES:
        faults.append(FieldFault("sources", f"Expected at most {MAX_SOURCES} networks, got {len(texts)}."))
    for at, text in enumerate(texts):
        network = canonical_network(text)
        if network is None:
            faults.append(FieldFault(f"sources[{at}]", "Expected a network such as 10.1.0.0/16 or an address."))
        elif ipaddress.ip_network(network).prefixlen == 0:
            faults.append(FieldFault(f"sources[{at}]", "This is the whole internet: name the PBX's own network."))
        else:
            sources[network] = None
    return list(sources), faults


def _route_fault(text: str) -> FieldFault | None:
    fault = FieldFault("default_route", "Expected a SIP URI such as sip:pbx.example.com:5060;transport=tcp.")
    try:
        uri = parse_uri(text)
    except (BadMessage, ValueError):
        return fault
    if len(text) > 300 or uri.scheme.lower() != "sip" or not uri.host:
        return fault
    return None


def _apply_trunk(trunk: Trunk, wished: TrunkFields) -> None:
    faults = [
        _name_fault(wished.name),
        host_fault("host", wished.host),
        _port_fault("port", wished.port),
        _transport_fault(wished),
    ]
    if not 0 <= wished.priority <= 1000:
        faults.append(FieldFault("priority", "Expected a number from 0 (first) to 1000 (last)."))
    if not _USER.fullmatch(wished.auth_user):
        faults.append(FieldFault("auth_user", "Expected at most 100 printable characters without spaces or quotes."))
    if wished.secret is not None and (not wished.secret.isprintable() or not 0 < len(wished.secret) <= 200):
        faults.append(FieldFault("secret", "Expected 1 to 200 printable characters."))
    if not _PROFILE.fullmatch(wished.profile):
        faults.append(FieldFault("profile", "Expected the name of a carrier profile, such as generic."))
    if wished.location_mode not in _LOCATION_MODES:
        faults.append(FieldFault("location_mode", f"Expected one of {', '.join(LocationMode)}."))
    if wished.test_number is not None and not _TEST_NUMBER.fullmatch(wished.test_number):
        faults.append(FieldFault("test_number", "Expected digits such as 933."))
    found = tuple(fault for fault in faults if fault is not None)
    if found:
        raise Invalid("The trunk cannot be stored like this.", fields=found)
    for field in fields(wished):
        setattr(trunk, field.name, getattr(wished, field.name))
    trunk.name = wished.name.strip()


def _name_fault(text: str) -> FieldFault | None:
    if not text.strip() or len(text) > 200 or not text.isprintable():
        return FieldFault("name", "Expected 1 to 200 printable characters.")
    return None


def _port_fault(field: str, port: int) -> FieldFault | None:
    return None if 1 <= port <= 65_535 else FieldFault(field, "Expected a port from 1 to 65535.")


def _transport_fault(wished: PbxFields | TrunkFields) -> FieldFault | None:
    return None if wished.transport in _TRANSPORTS else FieldFault("transport", f"Expected {' or '.join(Transport)}.")
