"""PBXs and trunks: who may send calls, and who carries them on. Operations with their rules.

It is how a request finds its account: by the name in the PBX's client certificate, then by its digest user, then by
the network it comes from. Names and users belong to one PBX, over all accounts; so does a network, and none lies inside
another account's, unless each PBX that holds one of the two proves itself by one of the others.
"""

import ipaddress
import re
from dataclasses import dataclass, field, fields

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store
from engine.accounts.addresses import canonical_network, host_fault
from engine.accounts.trunk_groups import leave_groups
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.audit.store_outdated import outdate
from engine.countries import countries_of
from engine.errors import Conflict, FieldFault, Invalid
from engine.ids import new_id
from engine.models import Account, Location, LocationMode, Pbx, Phone, Transport, Trunk
from engine.numbers import plain_digits, plan_of, shadowed_emergency_number
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
    """A PBX as it shall be, whole. `sources`: networks in any spelling. `auth_user` and `secret` go together."""

    name: str
    sources: tuple[str, ...] = ()
    tls_name: str = ""
    auth_user: str = ""
    secret: str | None = field(default=None, repr=False)
    registrar_host: str = ""
    registrar_port: int = 5060
    transport: str = Transport.UDP
    default_location_id: str | None = None
    default_route: str | None = None
    resync_via: str = "pbx"

    @classmethod
    def of(cls, pbx: Pbx) -> "PbxFields":
        """As it is now; `dataclasses.replace` makes the wished state of it."""
        values = {each.name: getattr(pbx, each.name) for each in fields(cls)}
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
    secret: str | None = field(default=None, repr=False)
    profile: str = "generic"
    location_mode: str = LocationMode.VALUE
    test_number: str | None = None
    last_resort: bool = False
    enabled: bool = True
    pings: bool = True

    @classmethod
    def of(cls, trunk: Trunk) -> "TrunkFields":
        """As it is now; `dataclasses.replace` makes the wished state of it."""
        return cls(**{each.name: getattr(trunk, each.name) for each in fields(cls)})


async def create_pbx(session: AsyncSession, actor: Actor, account: Account, wished: PbxFields) -> Pbx:
    """Add a PBX: its requests are this account's from the commit on.

    Raises:
        Invalid: every bad field. Conflict: a network, certificate name or digest user is another PBX's already.
    """
    pbx = Pbx(id=new_id("pbx"), account_id=account.id)
    await _apply_pbx(session, account, pbx, wished)
    session.add(pbx)
    await outdate(session, Phone.account_id == account.id)  # lines that name no PBX register with the only one
    record(session, actor, Event.PBX_CREATE, pbx)
    return pbx


async def update_pbx(session: AsyncSession, actor: Actor, account: Account, pbx: Pbx, wished: PbxFields) -> None:
    """Change a PBX. Raises as `create_pbx`."""
    before = _told_to_phones(pbx)
    await _apply_pbx(session, account, pbx, wished)
    if _told_to_phones(pbx) != before:
        await outdate(session, Phone.account_id == account.id)
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
    await outdate(session, Phone.account_id == pbx.account_id)
    record(session, actor, Event.PBX_DELETE, pbx)


def _told_to_phones(pbx: Pbx) -> tuple[object, ...]:
    """What of a PBX stands in its phones' files."""
    return pbx.registrar_host, pbx.registrar_port, pbx.transport, pbx.resync_via


async def create_trunk(session: AsyncSession, actor: Actor, account: Account, wished: TrunkFields) -> Trunk:
    """Add a trunk to carry emergency calls. Raises Invalid with every bad field."""
    trunk = Trunk(id=new_id("trunk"), account_id=account.id)
    _apply_trunk(trunk, wished, await countries_of(session, account))
    session.add(trunk)
    record(session, actor, Event.TRUNK_CREATE, trunk)
    return trunk


async def update_trunk(
    session: AsyncSession, actor: Actor, account: Account, trunk: Trunk, wished: TrunkFields
) -> None:
    """Change a trunk. Raises Invalid with every bad field."""
    _apply_trunk(trunk, wished, await countries_of(session, account))
    record(session, actor, Event.TRUNK_UPDATE, trunk)


def credentials_warning(user: str | None, *, has_secret: bool) -> str | None:
    """A user name without a password answers no challenge, and nothing else would say so before a call fails."""
    if not user or has_secret:
        return None
    return (
        f"It has the user {user} and no password: a carrier that asks for one refuses every call, 911 too. Set the "
        "password, or clear the user."
    )


def trunk_warnings(trunk: Trunk) -> list[str]:
    """What is wrong with a trunk although it is kept, in sentences."""
    warning = credentials_warning(trunk.auth_user, has_secret=bool(trunk.secret))
    return [warning] if warning is not None else []


async def delete_trunk(session: AsyncSession, actor: Actor, trunk: Trunk) -> None:
    """Remove a trunk: no new call goes there from the commit on. It leaves its groups."""
    await leave_groups(session, trunk)
    await session.delete(trunk)
    record(session, actor, Event.TRUNK_DELETE, trunk)


async def _apply_pbx(session: AsyncSession, account: Account, pbx: Pbx, wished: PbxFields) -> None:
    faults = _pbx_faults(wished, await countries_of(session, account))
    sources, source_faults = _sources(wished.sources)
    faults += source_faults
    if not (wished.sources or wished.tls_name.strip() or wished.auth_user):
        faults.append(
            FieldFault(
                "sources",
                "Nothing tells its calls from a stranger's, so its 911 calls would be refused. Give its addresses, the "
                "name in its certificate, or a user and password.",
            )
        )
    if wished.default_location_id is not None:
        location = await session.get(Location, wished.default_location_id)
        if location is None or location.account_id != account.id:
            faults.append(FieldFault("default_location_id", "Expected a location of this account."))
    if faults:
        raise Invalid("The PBX cannot be stored like this.", fields=tuple(faults))
    tls_name = wished.tls_name.strip().lower().rstrip(".")
    await _refuse_taken(session, pbx, wished, sources, tls_name)
    for each in fields(wished):
        setattr(pbx, each.name, getattr(wished, each.name))
    pbx.name, pbx.sources, pbx.tls_name = wished.name.strip(), sources, tls_name


async def _refuse_taken(session: AsyncSession, pbx: Pbx, wished: PbxFields, sources: list[str], tls_name: str) -> None:
    """Refuse what would make two PBXs look alike. Whose the other is stays unsaid: it may be another account's."""
    if tls_name and await store.pbx_proving_itself(session, Pbx.tls_name == tls_name, but=pbx.id):
        raise Conflict(f"The certificate name {tls_name} belongs to another PBX already. A name is one PBX's only.")
    if wished.auth_user and await store.pbx_proving_itself(session, Pbx.auth_user == wished.auth_user, but=pbx.id):
        raise Conflict(f"The user {wished.auth_user} belongs to another PBX already. A user is one PBX's only.")
    proves_itself = bool(tls_name or wished.auth_user)
    taken = await store.sources_in_use(session, sources, but=pbx.id, unless_proven=proves_itself)
    if taken:
        raise Conflict(
            f"{', '.join(taken)} belongs to another PBX already. A network names one PBX only, unless each of them "
            "proves itself by a certificate name or a user and password."
        )
    nested = await store.sources_nested(session, sources, but_account=pbx.account_id, unless_proven=proves_itself)
    if nested:
        raise Conflict(
            f"{', '.join(nested)} overlaps a network that another account's PBX has, wider or narrower than this one: "
            "the narrower would take the other's 911 calls. Name this PBX's own addresses alone, or let both PBXs "
            "prove themselves by a certificate name or a user and password."
        )


def _pbx_faults(wished: PbxFields, countries: tuple[str, ...]) -> list[FieldFault]:
    faults = [_name_fault(wished.name), _port_fault("registrar_port", wished.registrar_port), _transport_fault(wished)]
    if wished.registrar_host:
        faults.append(host_fault("registrar_host", wished.registrar_host))
    if wished.default_route:
        faults.append(_route_fault(wished.default_route, countries))
    if wished.tls_name:
        faults.append(host_fault("tls_name", wished.tls_name.strip().rstrip(".")))
    faults += _credential_faults(wished)
    if ":" in wished.auth_user:
        faults.append(FieldFault("auth_user", "Expected a name without a colon: digest cannot tell it (RFC 7616)."))
    if wished.auth_user and wished.secret is None:
        faults.append(FieldFault("secret", "Expected the password that goes with this user."))
    if wished.secret is not None and not wished.auth_user:
        faults.append(FieldFault("auth_user", "Expected the user that goes with this password."))
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


def _credential_faults(wished: PbxFields | TrunkFields) -> list[FieldFault]:
    faults = []
    if not _USER.fullmatch(wished.auth_user):
        faults.append(FieldFault("auth_user", "Expected at most 100 printable characters without spaces or quotes."))
    if wished.secret is not None and (not wished.secret.isprintable() or not 0 < len(wished.secret) <= 200):
        faults.append(FieldFault("secret", "Expected 1 to 200 printable characters."))
    return faults


def _route_fault(text: str, countries: tuple[str, ...]) -> FieldFault | None:
    fault = FieldFault("default_route", "Expected a SIP URI such as sip:pbx.example.com:5060;transport=tcp.")
    try:
        uri = parse_uri(text)
    except (BadMessage, ValueError):
        return fault
    if len(text) > 300 or uri.scheme.lower() != "sip" or not uri.host:
        return fault
    user = text.partition(":")[2].rpartition("@")[0]
    shadowed = shadowed_emergency_number(user, countries) if user else None
    if shadowed is not None:
        return FieldFault("default_route", f"This would send calls that are no emergency to {shadowed}: leave it out.")
    return None


def _apply_trunk(trunk: Trunk, wished: TrunkFields, countries: tuple[str, ...]) -> None:
    faults = [
        _name_fault(wished.name),
        host_fault("host", wished.host),
        _port_fault("port", wished.port) if wished.port else None,  # 0: by DNS SRV
        _transport_fault(wished),
    ]
    if not 0 <= wished.priority <= 1000:
        faults.append(FieldFault("priority", "Expected a number from 0 (first) to 1000 (last)."))
    faults += _credential_faults(wished)
    if not _PROFILE.fullmatch(wished.profile):
        faults.append(FieldFault("profile", "Expected the name of a carrier profile, such as generic."))
    if wished.location_mode not in _LOCATION_MODES:
        faults.append(FieldFault("location_mode", f"Expected one of {', '.join(LocationMode)}."))
    if wished.test_number is not None and not _TEST_NUMBER.fullmatch(wished.test_number):
        faults.append(FieldFault("test_number", "Expected digits such as 933."))
    elif wished.test_number is not None and plain_digits(wished.test_number) in plan_of(countries).emergency_forms:
        faults.append(
            FieldFault("test_number", f"Test calls would ring at {wished.test_number}: expected 933 or such.")
        )
    found = tuple(fault for fault in faults if fault is not None)
    if found:
        raise Invalid("The trunk cannot be stored like this.", fields=found)
    for each in fields(wished):
        setattr(trunk, each.name, getattr(wished, each.name))
    trunk.name = wished.name.strip()


def _name_fault(text: str) -> FieldFault | None:
    if not text.strip() or len(text) > 200 or not text.isprintable():
        return FieldFault("name", "Expected 1 to 200 printable characters.")
    return None


def _port_fault(name: str, port: int) -> FieldFault | None:
    return None if 1 <= port <= 65_535 else FieldFault(name, "Expected a port from 1 to 65535.")


def _transport_fault(wished: PbxFields | TrunkFields) -> FieldFault | None:
    expected = f"Expected one of {', '.join(Transport)}."
    return None if wished.transport in _TRANSPORTS else FieldFault("transport", expected)
