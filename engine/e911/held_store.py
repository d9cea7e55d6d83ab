"""Queries of the HELD server: who may ask for others, which phone is at an address, and the few rows of an account
that place one device.

A slice is an `AccountTable` of exactly the rows that can matter for one question, so that HELD answers by the same
rules as a 911 call without holding every account in this process too.
"""

import contextlib
import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.changes import rfc3339
from engine.db import Base, Sealed
from engine.e911 import snapshot
from engine.e911.held_xml import Measured
from engine.e911.location import AccountTable, DispatchableLocation, PrefixIndex
from engine.e911.prefixes import IpAddress
from engine.models import (
    Account,
    ConfirmedLocation,
    EmergencyCall,
    Line,
    Location,
    Network,
    Pbx,
    Phone,
    PhoneLine,
    Sighting,
)

MAX_PHONES_AT_ONE_ADDRESS = 2_000  # behind one NAT; more than these are not told apart


@dataclass(frozen=True, slots=True)
class Question:
    """What a slice is to answer: the phones by identifier or MAC, the lines by identifier, name or callback number,
    networks around an address, what was measured, and the PBX that asks.
    """

    phone_ids: frozenset[str] = frozenset()
    macs: frozenset[str] = frozenset()
    line_ids: frozenset[str] = frozenset()
    line_names: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    address: IpAddress | None = None
    measured: Measured = field(default_factory=Measured)
    pbx_id: str | None = None


@dataclass(frozen=True, slots=True)
class PhoneAt:
    """A phone that was seen at an address: by its token when it fetched its configuration, or as a sighting."""

    account_id: str
    phone_id: str
    mac: str


async def trusted_sources(session: AsyncSession) -> PrefixIndex[tuple[str, str]]:
    """(account id, PBX id) by source network, for every PBX that is known by its address alone."""
    found = await session.execute(
        select(Pbx.account_id, Pbx.id, Pbx.sources).where(Pbx.tls_name == "", Pbx.auth_user == "")
    )
    index: PrefixIndex[tuple[str, str]] = PrefixIndex()
    for account_id, pbx_id, sources in found:
        for source in sources or ():
            with contextlib.suppress(ValueError):  # one unreadable row must not silence every other PBX
                index.add(ip_network(source, strict=False), (account_id, pbx_id))
    return index


async def phones_at(session: AsyncSession, address: IpAddress, since: dt.datetime) -> list[PhoneAt]:
    """The phones last seen at that address since then, of every account."""
    spellings = (str(address), f"::ffff:{address}")
    columns = (Phone.account_id, Phone.id, Phone.mac)
    fetched = select(*columns).where(Phone.last_ip.in_(spellings), Phone.last_fetch_at >= since)
    seen = select(*columns).join(Sighting, Sighting.phone_id == Phone.id)
    seen = seen.where(Sighting.ip.in_(spellings), Sighting.seen_at >= since)
    both = {
        PhoneAt(*row)
        for query in (fetched, seen)
        for row in await session.execute(query.limit(MAX_PHONES_AT_ONE_ADDRESS))
    }
    return sorted(both, key=lambda phone: phone.phone_id)


async def accounts_around(session: AsyncSession, address: IpAddress) -> set[str]:
    """The accounts that say where a subnet around that address is, for callers of any PBX."""
    query = select(Network.account_id).where(
        Network.value.in_(_cidrs(address)), Network.kind == "subnet", Network.pbx_id.is_(None)
    )
    return set(await session.scalars(query))


async def account_slice(session: AsyncSession, account_id: str, asked: Question) -> AccountTable | None:
    """The account's table with the rows that `asked` is about and no other. None: no such account."""
    account = await session.get(Account, account_id)
    if account is None:
        return None
    lines = await _lines(session, account_id, asked)
    phones = await _phones(session, account_id, asked, [line.id for line in lines])
    keys = await _keys(session, [phone.id for phone in phones])
    held = {line.id for line in lines}
    first = [line_ids[0] for line_ids in keys.values() if line_ids and line_ids[0] not in held]
    lines += await _by_id(session, Line, first)
    sightings = list(await session.scalars(select(Sighting).where(Sighting.phone_id.in_([one.id for one in phones]))))
    networks = await _networks(session, account_id, asked, sightings)
    confirmed = await _confirmed(session, account_id, phones, lines)
    pbxs = await _by_id(session, Pbx, [asked.pbx_id] if asked.pbx_id else [])
    wanted = {account.default_location_id, *(pbx.default_location_id for pbx in pbxs)}
    wanted |= {row.location_id for rows in (phones, lines, networks, confirmed) for row in rows}
    shape = {name: getattr(account, name) for name in ("name", "country", "timezone", "language", "callback_number")}
    shape |= {
        "account_id": account_id,
        "default_location_id": account.default_location_id,
        "locations": [
            _json(one)
            for one in await _by_id(session, Location, [each for each in wanted if each])
            if one.account_id == account_id
        ],
        "networks": [_json(one) for one in networks],
        "phones": [_json(one) | {"line_ids": keys.get(one.id, [])} for one in phones],
        "lines": [_json(one) for one in lines],
        "pbxs": [_json(one) for one in pbxs if one.account_id == account_id],
        "sightings": [_json(one) for one in sightings],
        "confirmed": [_json(one) for one in confirmed],
    }
    return snapshot.table_from(shape)


async def conveyed_location(session: AsyncSession, account_id: str, call_id: str) -> DispatchableLocation | None:
    """What a recorded call conveyed; None when it conveyed nothing or is not recorded (yet)."""
    row = await session.scalar(
        select(EmergencyCall.location).where(EmergencyCall.account_id == account_id, EmergencyCall.id == call_id)
    )
    return location_from(account_id, row) if row else None


async def current_location(session: AsyncSession, account_id: str, location_id: str) -> DispatchableLocation | None:
    """The location as it is now."""
    row = await session.get(Location, location_id)
    return location_from(account_id, _json(row)) if row is not None and row.account_id == account_id else None


def location_from(account_id: str, row: dict[str, Any]) -> DispatchableLocation | None:
    """A location from the shape that snapshots and call records hold."""
    row = row | {"id": row.get("id") or "location"}
    found = snapshot.table_from({"account_id": account_id, "locations": [row]}).locations.values()
    return next((location for location in found if location.can_be_conveyed), None)


async def _phones(session: AsyncSession, account_id: str, asked: Question, line_ids: list[str]) -> list[Phone]:
    """Each way of naming a phone by an index of its own: joined with OR, SQLite would walk the account's phones."""
    ids = set(asked.phone_ids)
    if line_ids:
        ids |= set(await session.scalars(select(PhoneLine.phone_id).where(PhoneLine.line_id.in_(line_ids))))
    found = {phone.id: phone for phone in await _by_id(session, Phone, ids) if phone.account_id == account_id}
    if asked.macs:
        named = select(Phone).where(Phone.account_id == account_id, Phone.mac.in_(asked.macs))
        found |= {phone.id: phone for phone in await session.scalars(named)}
    return list(found.values())


async def _lines(session: AsyncSession, account_id: str, asked: Question) -> list[Line]:
    names = [name.lower() for name in asked.line_names]
    if not (names or asked.numbers or asked.line_ids):
        return []
    found = {line.id: line for line in await _by_id(session, Line, asked.line_ids) if line.account_id == account_id}
    if names or asked.numbers:
        query = select(Line).where(
            Line.account_id == account_id,
            or_(
                func.lower(Line.sip_user).in_(names),
                func.lower(Line.extension).in_(names),
                Line.callback_number.in_(asked.numbers),
            ),
        )
        found |= {line.id: line for line in await session.scalars(query)}
    return list(found.values())


async def _keys(session: AsyncSession, phone_ids: list[str]) -> dict[str, list[str]]:
    """The line ids of each phone, first key first."""
    if not phone_ids:
        return {}
    query = (
        select(PhoneLine.phone_id, PhoneLine.line_id)
        .where(PhoneLine.phone_id.in_(phone_ids))
        .order_by(PhoneLine.phone_id, PhoneLine.key)
    )
    keys: dict[str, list[str]] = {}
    for phone_id, line_id in await session.execute(query):
        keys.setdefault(phone_id, []).append(line_id)
    return keys


async def _networks(
    session: AsyncSession, account_id: str, asked: Question, sightings: Iterable[Sighting]
) -> list[Network]:
    measured = asked.measured
    places: list[tuple[str | None, str | None, str | None]] = [(measured.chassis, measured.port, measured.bssid)]
    places += [(seen.chassis, seen.port, seen.bssid) for seen in sightings]
    addresses = {seen.ip for seen in sightings if seen.ip}
    addresses |= {str(each) for each in (asked.address, measured.relay) if each is not None}
    values = {cidr for address in addresses for cidr in _cidrs_of_text(address)}
    for chassis, port, bssid in places:
        values |= {chassis} if chassis else set()
        values |= {f"{chassis}/{port}"} if chassis and port else set()
        values |= {bssid} if bssid else set()
    query = select(Network).where(Network.account_id == account_id, Network.value.in_(values))
    return list(await session.scalars(query)) if values else []


async def _confirmed(
    session: AsyncSession, account_id: str, phones: list[Phone], lines: list[Line]
) -> list[ConfirmedLocation]:
    if not phones and not lines:
        return []
    query = select(ConfirmedLocation).where(
        ConfirmedLocation.account_id == account_id,
        or_(
            ConfirmedLocation.phone_id.in_([phone.id for phone in phones]),
            ConfirmedLocation.line_id.in_([line.id for line in lines]),
        ),
    )
    return list(await session.scalars(query))


async def _by_id(session: AsyncSession, model: Any, ids: Iterable[str]) -> list[Any]:
    wanted = list(ids)
    return list(await session.scalars(select(model).where(model.id.in_(wanted)))) if wanted else []


def _json(row: Base) -> dict[str, Any]:
    """A row as a snapshot holds it, its secrets left out."""
    values = {
        column.name: getattr(row, column.name)
        for column in row.__table__.columns
        if not isinstance(column.type, Sealed)
    }
    return {name: rfc3339(value) if isinstance(value, dt.datetime) else value for name, value in values.items()}


def _cidrs(address: IpAddress) -> list[str]:
    """Every network around an address, as networks are spelled: a look-up by equality finds what holds it."""
    return [str(ip_network((address, length), strict=False)) for length in range(1, address.max_prefixlen + 1)]


def _cidrs_of_text(text: str) -> list[str]:
    network = ip_network(text, strict=False)
    return [str(network.supernet(new_prefix=length)) for length in range(1, network.prefixlen + 1)]
