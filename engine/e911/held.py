"""Whose location a HELD request asks for, who may ask, and what is answered.

Who may (design decision 21): anybody for the device at the address the request came from; a PBX, known by its source
addresses, for any phone or line of its own account. A MAC or line that an asker names for itself counts only when that
phone was last seen at the asker's address, by its token or by a sighting: else anybody could read where others are, or
put a phone at another switch port. What a device has no right to and what does not exist are the same answer.

The location is found by the rules of a 911 call (`engine.e911.order`): a PBX that asks on an emergency gets what we
would convey. A device that is known by its subnet alone gets what that subnet says, never an account's default.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import IPv6Address
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from engine.crypto import KeyRing
from engine.db import Database
from engine.e911 import held_store, references, snapshot
from engine.e911.held_store import PhoneAt, Question
from engine.e911.held_xml import Code, Device, Kind, LocationRequest, Measured, NoLocation, in_one_line
from engine.e911.location import (
    AccountTable,
    Caller,
    CivicAddress,
    DispatchableLocation,
    Pbx,
    Phone,
    PrefixIndex,
    Resolved,
    Sighting,
    Source,
    resolve,
)
from engine.e911.pidf import entity_of, write_pidf
from engine.e911.prefixes import IpAddress, plain_address
from engine.e911.references import LIFETIME, Reference
from engine.errors import DatabaseAway
from engine.sip.message import BadMessage
from engine.sip.uri import parse_uri

SEEN_WITHIN = timedelta(days=7)  # a phone that has not fetched its configuration for longer may have lost its address
PEERS_WAIT_S = 1.0  # a database that says nothing must not keep every asker waiting for ever
PEERS_KEPT_S = 2.0  # how long a change of a PBX's sources takes to be seen here
WAIT_AT_LEAST_S, WAIT_AT_MOST_S = 1.0, 5.0  # a look-up takes milliseconds; giving one up costs a connection
MAX_SNAPSHOTS = 4  # of accounts, read while the database is away and kept for the next who asks
_OF_THE_NETWORK = frozenset({Source.SWITCH_PORT, Source.SWITCH, Source.BSSID, Source.SUBNET})

Sighted = Callable[[str, Sighting], None]
"""(account id, what was measured): keeps it; must not wait."""


@dataclass(frozen=True, slots=True)
class Located:
    """The answer to a request before it is written. `entity`: the presentity its PIDF-LO names."""

    account_id: str
    location: DispatchableLocation
    source: Source | None
    phone_id: str | None = None
    line_id: str | None = None
    entity: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets: a PIDF-LO, a location URI good until `expires`, or both."""

    presence: bytes | None
    uri: str | None
    expires: datetime | None


class Lis:
    """The location information server over the database.

    Args:
        snapshots: The folder of the accounts' sealed tables: references and PBXs are answered from there while the
            database is away.
        held_url: Where references are served (`references.held_url_of`); "" offers none.
        sighted: Keeps a measurement that a phone or its PBX told.
    """

    def __init__(self, database: Database, keys: KeyRing, snapshots: Path, held_url: str, sighted: Sighted) -> None:
        self._database, self._keys, self._snapshots = database, keys, snapshots
        self._held_url, self._sighted = held_url, sighted
        self._subkey = keys.subkey(references.PURPOSE)
        self._sources: PrefixIndex[tuple[str, str]] = PrefixIndex()
        self._sources_until = 0.0
        self._kept: OrderedDict[str, tuple[int, AccountTable]] = OrderedDict()

    # --- finding ------------------------------------------------------------------------------------------------------

    async def locate(self, asker: str, request: LocationRequest, now: datetime) -> Located:
        """Where the device is that the request means.

        Args:
            asker: The address the request came from.
            now: UTC.

        Raises:
            NoLocation: with the code for the client.
            DatabaseAway: nothing can be said now.
        """
        address = plain_address(asker)
        if address is None:
            raise NoLocation(Code.LOCATION_UNKNOWN, "The request came from no IP address.")
        if request.device is not None and not request.device.is_named and request.device.unread:
            raise NoLocation(Code.BAD_IDENTIFIER, "None of these device identifiers is looked up here.")
        wait_s = max(WAIT_AT_LEAST_S, min(request.within_s or WAIT_AT_MOST_S, WAIT_AT_MOST_S))
        try:
            async with asyncio.timeout(wait_s), self._database.sessions() as session:
                return await self._locate(session, address, request, now)
        except TimeoutError as exc:
            raise NoLocation(Code.TIMEOUT, "The location was not found within the time that was given.") from exc
        except (SQLAlchemyError, OSError) as exc:
            located = await self._from_snapshots(address, request, now)
            if located is None:
                raise _away() from exc
            return located

    async def _from_snapshots(self, address: IpAddress, request: LocationRequest, now: datetime) -> Located | None:
        """What a PBX gets while the database is away: its account's tables as the SIP process has them."""
        device = request.device
        if device is None or not device.is_named:
            return None
        for account_id, pbx_id in self._known_askers(address):
            table = await self._snapshot_of(account_id)
            if table is not None and (placed := self._asked_of(table, pbx_id, device, request.measured, now)):
                return placed
        return None

    async def _locate(
        self, session: AsyncSession, address: IpAddress, request: LocationRequest, now: datetime
    ) -> Located:
        device = request.device or Device()
        askers = await self._askers(session, address)
        if askers and device.is_named and not await self._is_itself(session, address, device, now):
            return await self._for_pbx(session, askers, device, request.measured, now)
        if any(ip != address for ip in device.ips):
            raise NoLocation(
                Code.BAD_IDENTIFIER, "Only the location of your own address may be asked for.", is_denied=True
            )
        return await self._for_itself(session, address, device, request.measured, now)

    async def _is_itself(self, session: AsyncSession, address: IpAddress, device: Device, now: datetime) -> bool:
        """Whether a phone names itself from inside a network whose phones are trusted like a PBX."""
        if not device.macs or any(ip != address for ip in device.ips):
            return False
        return await self._own_phone(session, address, device, now) is not None

    async def is_pbx(self, asker: str) -> bool:
        """Whether that address is a PBX's, which may ask for others and as often as it needs.

        Raises:
            DatabaseAway: it cannot be known now.
        """
        address = plain_address(asker)
        if address is None:
            return False
        try:
            async with asyncio.timeout(PEERS_WAIT_S), self._database.sessions() as session:
                return bool(await self._askers(session, address))
        except (SQLAlchemyError, OSError, TimeoutError) as exc:
            if not self._known_askers(address):
                raise _away() from exc
            return True

    async def _askers(self, session: AsyncSession, address: IpAddress) -> tuple[tuple[str, str], ...]:
        """(account id, PBX id) of the PBXs in the narrowest source network around the address."""
        if time.monotonic() >= self._sources_until:
            self._sources = await held_store.trusted_sources(session)
            self._sources_until = time.monotonic() + PEERS_KEPT_S
        return self._known_askers(address)

    def _known_askers(self, address: IpAddress) -> tuple[tuple[str, str], ...]:
        return next((owners for _, owners in self._sources.matches(address)), ())

    async def _for_pbx(
        self,
        session: AsyncSession,
        askers: tuple[tuple[str, str], ...],
        device: Device,
        measured: Measured,
        now: datetime,
    ) -> Located:
        """A device of the account whose PBX asks. Where an address is the PBX of several accounts, of that one alone
        which knows the device.
        """
        found = [await self._ask_account(session, account_id, pbx_id, device, measured, now)
                 for account_id, pbx_id in askers]  # fmt: skip
        placed = [each for each in found if each is not None]
        if len(placed) > 1:
            placed = [each for each in placed if each.phone_id or each.line_id]
        if len(placed) != 1:
            raise NoLocation(Code.LOCATION_UNKNOWN, "No location is known for this device.")
        return placed[0]

    async def _ask_account(
        self, session: AsyncSession, account_id: str, pbx_id: str, device: Device, measured: Measured, now: datetime
    ) -> Located | None:
        names, numbers = _names_in(device.uris)
        address = device.ips[0] if device.ips else None
        question = Question(
            macs=frozenset(device.macs), line_names=names, numbers=numbers, address=address, measured=measured,
            pbx_id=pbx_id,
        )  # fmt: skip
        table = await held_store.account_slice(session, account_id, question)
        return self._asked_of(table, pbx_id, device, measured, now) if table is not None else None

    def _asked_of(
        self, table: AccountTable, pbx_id: str, device: Device, measured: Measured, now: datetime
    ) -> Located | None:
        if len(device.macs) > 1 or len(set(device.ips)) > 1:
            return None  # not one device
        caller = Caller(
            identity=_line_meant(table, *_names_in(device.uris)),
            uri=device.uris[0] if device.uris else "",
            device=device.macs[0] if device.macs else "",
            source_ip=device.ips[0] if device.ips else None,
        )
        return self._placed(table, caller, table.pbxs.get(pbx_id), measured, now)

    async def _for_itself(
        self, session: AsyncSession, address: IpAddress, device: Device, measured: Measured, now: datetime
    ) -> Located:
        """The device at the asker's own address: the one phone that was seen there, else what its subnet says."""
        phone = await self._own_phone(session, address, device, now)
        if phone is not None:
            question = Question(phone_ids=frozenset({phone.phone_id}), address=address, measured=measured)
            table = await held_store.account_slice(session, phone.account_id, question)
            caller = Caller(device=phone.mac, source_ip=address)
            placed = self._placed(table, caller, None, measured, now) if table is not None else None
        else:
            placed = await self._in_subnet(session, address, now)
        if placed is None:
            raise NoLocation(Code.LOCATION_UNKNOWN, f"No location is known for {address}.")
        return placed

    async def _own_phone(
        self, session: AsyncSession, address: IpAddress, device: Device, now: datetime
    ) -> PhoneAt | None:
        """The phone that asks; None when none, or not one alone, was seen at its address."""
        there = await held_store.phones_at(session, address, now - SEEN_WITHIN)
        if device.macs:
            there = [phone for phone in there if set(device.macs) == {phone.mac}]
        if len(there) > 1 and device.uris:
            there = [phone for phone in there if await self._has_line(session, phone, device.uris)]
        return there[0] if len(there) == 1 else None

    async def _has_line(self, session: AsyncSession, phone: PhoneAt, uris: tuple[str, ...]) -> bool:
        names, numbers = _names_in(uris)
        question = Question(phone_ids=frozenset({phone.phone_id}), line_names=names, numbers=numbers)
        table = await held_store.account_slice(session, phone.account_id, question)
        mine = table.phone_by_mac(phone.mac) if table is not None else None
        line = table.line_named(_line_meant(table, names, numbers), None) if table is not None else None
        return mine is not None and line is not None and line.id in mine.line_ids

    async def _in_subnet(self, session: AsyncSession, address: IpAddress, now: datetime) -> Located | None:
        """What the one account says that has a subnet around the address: private ranges repeat between accounts."""
        accounts = await held_store.accounts_around(session, address)
        if len(accounts) != 1:
            return None
        (account_id,) = accounts
        table = await held_store.account_slice(session, account_id, Question(address=address))
        if table is None:
            return None
        resolved = resolve(table, Caller(source_ip=address), now)
        if resolved.location is None or resolved.source not in _OF_THE_NETWORK:
            return None
        return Located(account_id, resolved.location, resolved.source)

    def _placed(
        self, table: AccountTable, caller: Caller, pbx: Pbx | None, measured: Measured, now: datetime
    ) -> Located | None:
        """Resolve as for a 911 call, with what was measured just now; a measurement of a known phone is kept."""
        phone, _line = table.who(caller, pbx.id if pbx is not None else None)
        seen = _seen(phone, caller, measured, now)
        overlay = {seen.phone_id: seen} if seen is not None else {}
        if phone is not None:
            caller = _behind_relay(table, caller, pbx, measured)
        resolved = resolve(table, caller, now, pbx=pbx, overlay=overlay)
        if seen is not None:
            self._sighted(table.account_id, seen)
        if resolved.location is None:
            return None
        return Located(
            table.account_id,
            resolved.location,
            resolved.source,
            resolved.phone.id if resolved.phone else None,
            resolved.line.id if resolved.line else None,
            entity_of(caller.uri),
        )

    # --- answering ----------------------------------------------------------------------------------------------------

    def answer(self, located: Located, request: LocationRequest, now: datetime) -> Answer:
        """The forms of the location that were asked for (RFC 5985 §6.2).

        Raises:
            NoLocation: cannotProvideLiType, when exactly these were asked for and one of them is not there.
        """
        location, expires = located.location, now + LIFETIME
        there = _forms_of(location) | ({Kind.URI} if self._held_url else set())
        if request.is_exact and not request.kinds <= there:
            missing = ", ".join(sorted(request.kinds - there))
            raise NoLocation(Code.CANNOT_PROVIDE_LI_TYPE, f"This location has no {missing} form.")
        given = set(request.kinds) & there
        if not given:  # asked inexactly: any other form serves better than none
            given = there - {Kind.URI}
        presence = _presence(location, given, located.entity, now) if given - {Kind.URI} else None
        uri = self._uri(located, expires) if Kind.URI in given else None
        return Answer(presence, uri, expires if uri is not None else None)

    def _uri(self, located: Located, expires: datetime) -> str:
        reference = references.mint(
            self._subkey,
            account_id=located.account_id,
            location_id=located.location.id,
            call_id="",
            expires=expires,
            target_id=located.phone_id or located.line_id or "",
        )
        return references.reference_uri(self._held_url, reference)

    # --- references ---------------------------------------------------------------------------------------------------

    def opened(self, reference: str, now: datetime) -> Reference | None:
        """What a reference holds; None for one that is not ours, was changed, or has expired."""
        return references.open_reference(self._subkey, reference, now)

    async def dereference(self, held: Reference, now: datetime) -> Located | None:
        """The location behind a reference: what its call conveyed, where its phone or line is now, else the location
        it names. None when that is gone.

        Raises:
            DatabaseAway: and no snapshot of the account can be read either.
        """
        try:
            async with asyncio.timeout(WAIT_AT_MOST_S), self._database.sessions() as session:
                return await self._dereference(session, held, now)
        except (SQLAlchemyError, OSError, TimeoutError) as exc:
            table = await self._snapshot_of(held.account_id)
            location = table.locations.get(held.location_id) if table is not None else None
            if location is None or not location.can_be_conveyed:
                raise DatabaseAway("The database is away, so this reference cannot be answered now.") from exc
            return Located(held.account_id, location, None)

    async def _dereference(self, session: AsyncSession, held: Reference, now: datetime) -> Located | None:
        if held.call_id:
            location = await held_store.conveyed_location(session, held.account_id, held.call_id)
            if location is not None:
                return Located(held.account_id, location, None)
        elif held.target_id:
            placed = await self._target_now(session, held, now)
            if placed is not None:
                return placed
        current = await held_store.current_location(session, held.account_id, held.location_id)
        return Located(held.account_id, current, None) if current is not None else None

    async def _target_now(self, session: AsyncSession, held: Reference, now: datetime) -> Located | None:
        question = Question(phone_ids=frozenset({held.target_id}), line_ids=frozenset({held.target_id}))
        table = await held_store.account_slice(session, held.account_id, question)
        if table is None:
            return None
        phone = next((one for one in table.phones if one.id == held.target_id), None)
        line = next((one for one in table.lines if one.id == held.target_id), None)
        if phone is None and line is None:
            return None
        caller = Caller(device=phone.mac if phone else "", identity=line.sip_user if line else "")
        pbx = table.pbxs.get(line.pbx_id) if line is not None and line.pbx_id else None
        resolved: Resolved = resolve(table, caller, now, pbx=pbx)
        if resolved.location is None:
            return None
        return Located(held.account_id, resolved.location, resolved.source, phone.id if phone else None)

    async def _snapshot_of(self, account_id: str) -> AccountTable | None:
        """The account's table as last written for the SIP process; read once for each writing."""
        try:
            written_at = snapshot.path_of(self._snapshots, account_id).stat().st_mtime_ns
            kept = self._kept.get(account_id)
            if kept is None or kept[0] != written_at:
                table = await asyncio.to_thread(snapshot.load, self._snapshots, account_id, self._keys)
                self._kept[account_id] = kept = (written_at, table)
        except (OSError, snapshot.BadSnapshot):
            return None
        if len(self._kept) > MAX_SNAPSHOTS:
            self._kept.popitem(last=False)
        return kept[1]


def _away() -> DatabaseAway:
    return DatabaseAway("The database is away, so no location can be looked up. 911 calls go on.")


def _seen(phone: Phone | None, caller: Caller, measured: Measured, now: datetime) -> Sighting | None:
    if phone is None or not measured.is_telling:
        return None
    return Sighting(phone.id, measured.chassis, measured.port, measured.bssid, caller.source_ip, "held", now)


def _behind_relay(table: AccountTable, caller: Caller, pbx: Pbx | None, measured: Measured) -> Caller:
    """Where no network holds the device's own address, the relay agent's speaks for its subnet (RFC 7105 §5.2)."""
    pbx_id = pbx.id if pbx is not None else None
    is_placed = caller.source_ip is not None and table.network_of(caller.source_ip, pbx_id) is not None
    return caller if is_placed or measured.relay is None else replace(caller, source_ip=measured.relay)


def _forms_of(location: DispatchableLocation) -> set[Kind]:
    forms = {Kind.CIVIC} if location.civic_address.elements else set()
    return forms | ({Kind.GEODETIC} if location.geo is not None else set())


def _presence(location: DispatchableLocation, given: set[Kind], entity: str, now: datetime) -> bytes:
    """The PIDF-LO with those forms of the location alone."""
    if Kind.CIVIC not in given:
        location = replace(location, civic_address=CivicAddress())
    if Kind.GEODETIC not in given:
        location = replace(location, geo=None)
    return in_one_line(write_pidf(location, entity or entity_of(""), now))


def _names_in(uris: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """The user parts that may be a line's name, and those that may be its number."""
    users = set()
    for text in uris:
        try:
            uri = parse_uri(text)
        except BadMessage:
            raise NoLocation(Code.BAD_IDENTIFIER, "The device identifier uri cannot be read.") from None
        user = uri.user_text or (text.partition(":")[2].partition(";")[0] if uri.scheme == "tel" else "")
        if user and user.isprintable():  # no name of a line is, and no database takes one: %00, %ff
            users.add(user)
    return frozenset(users), frozenset(user for user in users if user.startswith("+"))


def _line_meant(table: AccountTable, names: frozenset[str], numbers: frozenset[str]) -> str:
    """The name of the one line that is meant; "" for none, and for several: a wrong address is worse than the next
    rung.
    """
    by_name = [name for name in sorted(names) if table.line_named(name, None) is not None]
    by_number = [line.sip_user for line in table.lines if line.callback_number in numbers]
    found = sorted(set(by_name or by_number))
    if len(found) == 1:
        return found[0]
    return next(iter(names)) if len(names) == 1 and not found else ""


def network_key(address: str) -> str:
    """What counts as one asker for limits: an IPv4 address, or the /64 that one household or host has of IPv6."""
    parsed = plain_address(address)
    if isinstance(parsed, IPv6Address):
        return str(int(parsed) >> 64)
    return str(parsed)
