"""SQL of the per-device report: its stations in order, and the rows that a call of each would be decided by.

What the location engine is asked of comes in the shape of the snapshot that the SIP process has
(`snapshot.table_from`), cut down to the rows that some stations' calls can touch: a page costs the same in an account
of ten phones and of a hundred thousand. Nothing here commits.
"""

import datetime as dt
import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.db import batched, utc_now
from engine.e911 import store_chats, store_webhooks, telling
from engine.e911.carriers import CarrierProfiles, load_profiles
from engine.e911.compliance import Ground, LastCall, Proof, Station, Test
from engine.e911.snapshot import table_from
from engine.e911.store import recipients_of, rfc3339
from engine.e911.store_chats import ChatTarget
from engine.models import (
    Account,
    CallKind,
    ConfirmedLocation,
    EmergencyCall,
    FetchedFile,
    Line,
    Location,
    LocationTest,
    Network,
    NetworkKind,
    Number,
    NumberKind,
    Pbx,
    Phone,
    PhoneLine,
    Sighting,
    Trunk,
    TrunkGroup,
)

CALLS_LOOKED = 500  # of the newest calls, in which a phone's or line's last one is looked for
MAX_PLACE_CHARS = 120
AT_ONCE = 5_000  # values of one statement
_PHONE = (
    Phone.id, Phone.mac, Phone.vendor, Phone.model, Phone.label, Phone.status, Phone.last_fetch_at, Phone.placement,
)  # fmt: skip
_LINE = (Line.id, Line.extension, Line.display_name, Line.sip_user, Line.pbx_id, Line.placement)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a station stands in the report's order: phones by identifier with their keys, then lines on no phone by
    extension.
    """

    phone_id: str = ""
    key: int = 0
    extension: str = ""
    line_id: str = ""

    def __str__(self) -> str:
        return f"p {self.phone_id} {self.key}" if self.phone_id else f"l {self.line_id} {self.extension}"

    @classmethod
    def read(cls, text: str) -> "Place | None":
        """None: no place of this list. What no database stores (NUL) is none."""
        if not text.isprintable() or len(text) > MAX_PLACE_CHARS:
            return None
        kind, _, rest = text.partition(" ")
        first, _, last = rest.partition(" ")
        if kind == "p" and first and last.isascii() and last.isdigit() and len(last) < 6:
            return cls(phone_id=first, key=int(last))
        return cls(line_id=first, extension=last) if kind == "l" and first else None


def place_of(station: Station) -> Place:
    if station.phone_id:
        return Place(station.phone_id, station.key or 0)
    return Place(extension=station.extension, line_id=station.line_id)


# --- the stations, in order -------------------------------------------------------------------------------------------


async def stations_after(
    session: AsyncSession, account_id: str, after: Place | None, limit: int, applications: Collection[str] = ()
) -> list[Station]:
    """The next stations, at most `limit`. `applications`: the vendors whose phones are softphones."""
    found: list[Station] = []
    if after is None or after.phone_id:
        query = _phones().where(Phone.account_id == account_id).order_by(Phone.id, PhoneLine.key)
        if after is not None:
            behind = or_(Phone.id > after.phone_id, PhoneLine.key > after.key)
            query = query.where(Phone.id >= after.phone_id, behind)
        found = [_of_phone(row, applications) for row in await session.execute(query.limit(limit))]
        after = None
    if len(found) < limit:
        alone = select(*_LINE).where(Line.account_id == account_id, ~_has_phone())
        if after is not None:
            behind = or_(Line.extension > after.extension, Line.id > after.line_id)
            alone = alone.where(Line.extension >= after.extension, behind)
        rows = await session.execute(alone.order_by(Line.extension, Line.id).limit(limit - len(found)))
        found += [_of_line(row) for row in rows]
    return found


async def stations_at(
    session: AsyncSession, account_id: str, places: Sequence[Place], applications: Collection[str] = ()
) -> list[Station]:
    """Those stations, as far as they are still there, in the report's order."""
    phone_ids = {place.phone_id for place in places if place.phone_id}
    line_ids = {place.line_id for place in places if place.line_id}
    found: list[Station] = []
    if phone_ids:
        query = _phones().where(Phone.account_id == account_id, Phone.id.in_(phone_ids))
        found += [
            _of_phone(row, applications) for row in await session.execute(query.order_by(Phone.id, PhoneLine.key))
        ]
    if line_ids:
        alone = select(*_LINE).where(Line.account_id == account_id, Line.id.in_(line_ids), ~_has_phone())
        found += [_of_line(row) for row in await session.execute(alone.order_by(Line.extension, Line.id))]
    wanted = set(places)
    return [station for station in found if place_of(station) in wanted]


async def stations_of_phone(
    session: AsyncSession, account_id: str, phone_id: str, applications: Collection[str] = ()
) -> list[Station]:
    """One phone's, by key; none of a phone that the account does not have."""
    query = _phones().where(Phone.account_id == account_id, Phone.id == phone_id).order_by(PhoneLine.key)
    return [_of_phone(row, applications) for row in await session.execute(query)]


def _phones() -> Any:
    on_key = PhoneLine.phone_id == Phone.id
    return (
        select(*_PHONE, PhoneLine.key, *_LINE)
        .outerjoin(PhoneLine, on_key)
        .outerjoin(Line, Line.id == PhoneLine.line_id)
    )


def _has_phone() -> Any:
    return select(PhoneLine.key).where(PhoneLine.line_id == Line.id).exists()


def _of_phone(row: Any, applications: Collection[str]) -> Station:
    phone_id, mac, vendor, model, label, status, last_fetch_at, placement, key, *line = row
    line_id, extension, name, sip_user, pbx_id, of_line = line
    return Station(
        phone_id, mac, vendor, model, label, status, last_fetch_at, key, line_id or "", extension or "", name or "",
        sip_user or "", pbx_id, placement or of_line, vendor in applications,
    )  # fmt: skip


def _of_line(row: Any) -> Station:
    line_id, extension, name, sip_user, pbx_id, placement = row
    return Station(
        line_id=line_id, extension=extension, line_name=name, sip_user=sip_user, pbx_id=pbx_id, placement=placement
    )


# --- what holds for all of them ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Basis:
    """What the rows of all stations of an account rest on, read once for a page, a file or a count."""

    account_id: str
    now: dt.datetime
    may_mail: bool
    head: Mapping[str, Any]
    trunks: Sequence[Mapping[str, Any]]
    groups: Sequence[Mapping[str, Any]]
    down: frozenset[str]
    has_last_resort: bool
    only_pbx_id: str | None
    recipients: Sequence[str]
    chats: Sequence[ChatTarget]
    webhooks: Sequence[str]
    profiles: CarrierProfiles
    applications: Collection[str] = field(default_factory=frozenset)


async def basis_of(
    session: AsyncSession, account: Account, *, may_mail: bool, applications: Collection[str] = ()
) -> Basis:
    """`may_mail`: a mail server is set up; `applications`: as `stations_after`."""
    names = (
        "name", "country", "timezone", "language", "default_location_id", "callback_number", "elin_hold_minutes",
        "trunk_group_id",
    )  # fmt: skip
    columns = (
        "id",
        "name",
        "priority",
        "host",
        "port",
        "transport",
        "profile",
        "location_mode",
        "last_resort",
        "enabled",
    )
    query = select(*(getattr(Trunk, name) for name in columns), Trunk.is_up).where(Trunk.account_id == account.id)
    trunks = (await session.execute(query)).all()
    elsewhere = select(Trunk.id).where(Trunk.account_id != account.id, Trunk.last_resort, Trunk.enabled).limit(1)
    groups = await session.execute(
        select(TrunkGroup.id, TrunkGroup.trunk_ids).where(TrunkGroup.account_id == account.id)
    )
    pbxs = (await session.scalars(select(Pbx.id).where(Pbx.account_id == account.id).limit(2))).all()
    hooks = await store_webhooks.webhooks_of(session, account.id)
    return Basis(
        account.id,
        utc_now(),
        may_mail,
        {name: getattr(account, name) for name in names} | {"account_id": account.id},
        [dict(zip(columns, row[:-1], strict=True)) for row in trunks],
        [{"id": row[0], "trunk_ids": row[1]} for row in groups],
        frozenset(row[0] for row in trunks if row[-1] is False),
        await session.scalar(elsewhere) is not None,
        pbxs[0] if len(pbxs) == 1 else None,
        [recipient.email for recipient in await recipients_of(session, account.id)],
        [one for one in await store_chats.switched_on(session, account.id) if CallKind.EMERGENCY in one.kinds],
        [hook.name for hook in hooks if hook.enabled and CallKind.EMERGENCY in hook.kinds],
        _profiles(),
        applications,
    )


@lru_cache(maxsize=1)
def _profiles() -> CarrierProfiles:
    return load_profiles()


# --- what holds for some of them --------------------------------------------------------------------------------------


async def ground_for(session: AsyncSession, basis: Basis, stations: Sequence[Station]) -> Ground:
    """What the rows of these stations rest on, with the location engine's table of nothing else."""
    phone_ids = {station.phone_id for station in stations if station.phone_id}
    holders = await _holders(session, {station.line_id for station in stations if station.line_id})
    others = {phone_id for line in holders.values() for phone_id in line[1:]} - phone_ids
    keys = await _keys(session, phone_ids | others)
    line_ids = {line_id for owner in phone_ids for line_id in keys.get(owner, ())}
    line_ids |= {station.line_id for station in stations if station.line_id}
    lines = await _lines(session, basis.account_id, line_ids, {station.sip_user for station in stations})
    phones = await _rows(session, Phone, ("id", "mac", "label", "location_id"), Phone.id.in_(phone_ids | others))
    seen = await _rows(
        session, Sighting, ("phone_id", "chassis", "port", "bssid", "ip", "source", "seen_at"),
        Sighting.phone_id.in_(phone_ids | others),
    )  # fmt: skip
    confirmed = await _rows(
        session, ConfirmedLocation, ("id", "phone_id", "line_id", "location_id", "network", "confirmed_at"),
        or_(ConfirmedLocation.phone_id.in_(phone_ids | others), ConfirmedLocation.line_id.in_(line_ids)),
    )  # fmt: skip
    pbx_ids = {line["pbx_id"] for line in lines if line["pbx_id"]} | ({basis.only_pbx_id} - {None})
    pbxs = await _rows(session, Pbx, ("id", "name", "default_location_id"), Pbx.id.in_(pbx_ids))
    networks = await _networks(session, basis.account_id, seen)
    named = [row["location_id"] for rows in (phones, lines, confirmed, networks) for row in rows]
    named += [row["default_location_id"] for row in (*pbxs, basis.head)]
    places = await _places(session, basis.account_id, {each for each in named if each})
    snapshot = dict(basis.head) | {
        "trunks": basis.trunks, "trunk_groups": basis.groups, "pbxs": pbxs, "lines": lines, "networks": networks,
        "sightings": seen, "confirmed": confirmed, "locations": places,
        "phones": [phone | {"line_ids": keys.get(phone["id"], [])} for phone in phones],
        "numbers": await _numbers(session, basis.account_id, line_ids, [place["id"] for place in places]),
    }  # fmt: skip
    everybody = telling.union_of(basis.recipients, ())
    recipients = {place["id"]: list(telling.union_of(basis.recipients, place["recipients"])) for place in places}
    return Ground(
        table_from(snapshot), basis.now, basis.profiles, basis.only_pbx_id,
        {line_id: line[0] for line_id, line in holders.items()},
        recipients | {"": list(everybody)}, _chats_by_place(basis.chats, recipients),
        basis.webhooks, basis.may_mail, basis.down, basis.has_last_resort,
        await _proofs(session, phone_ids), await _tests(session, [place["id"] for place in places]),
        await _last_calls(session, basis.account_id, phone_ids | line_ids),
        {place["id"]: _validator(place["validation"], place["status"]) for place in places},
    )  # fmt: skip


def _chats_by_place(chats: Sequence[ChatTarget], places: Collection[str]) -> dict[str, list[str]]:
    """The names of who is told by SMS or chat of calls from each of those places, "" for a call without one."""
    return {place: [chat.name for chat in chats if chat.location_id in {None, place}] for place in (*places, "")}


def _validator(validation: Mapping[str, Any] | None, status: str) -> str:
    return str((validation or {}).get("by") or "") if status == "validated" else ""


async def _rows(session: AsyncSession, model: Any, columns: tuple[str, ...], condition: Any) -> list[dict[str, Any]]:
    """In the snapshot's shape: times as text."""
    found = await session.execute(select(*(getattr(model, name) for name in columns)).where(condition))
    rows = [dict(zip(columns, row, strict=True)) for row in found]
    for row in rows:
        for name, value in row.items():
            if isinstance(value, dt.datetime):
                row[name] = rfc3339(value)
    return rows


async def _holders(session: AsyncSession, line_ids: Collection[str]) -> dict[str, tuple[int, str, str]]:
    """Of each line on a phone: on how many, and the first and last of them. Two tell as much as ten thousand."""
    query = (
        select(PhoneLine.line_id, func.count(), func.min(PhoneLine.phone_id), func.max(PhoneLine.phone_id))
        .where(PhoneLine.line_id.in_(line_ids))
        .group_by(PhoneLine.line_id)
    )
    return {row[0]: (row[1], row[2], row[3]) for row in await session.execute(query)}


async def _keys(session: AsyncSession, phone_ids: Collection[str]) -> dict[str, list[str]]:
    query = select(PhoneLine.phone_id, PhoneLine.line_id).where(PhoneLine.phone_id.in_(phone_ids))
    found: dict[str, list[str]] = {}
    for phone_id, line_id in await session.execute(query.order_by(PhoneLine.phone_id, PhoneLine.key)):
        found.setdefault(phone_id, []).append(line_id)
    return found


async def _lines(
    session: AsyncSession, account_id: str, line_ids: Collection[str], names: Collection[str]
) -> list[dict[str, Any]]:
    """Those lines, and all whose extension or SIP user is one of the names: the engine may take one for another."""
    columns = ("id", "extension", "display_name", "sip_user", "callback_number", "location_id", "pbx_id")
    known: dict[str, dict[str, Any]] = {}
    for condition in (Line.id.in_(line_ids), Line.extension.in_(names), Line.sip_user.in_(names)):
        for row in await _rows(session, Line, columns, and_(Line.account_id == account_id, condition)):
            known[row["id"]] = row
    return sorted(known.values(), key=lambda row: row["id"])


async def _networks(session: AsyncSession, account_id: str, seen: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The networks that can hold what these phones were seen at."""
    wanted: dict[NetworkKind, set[str]] = {kind: set() for kind in NetworkKind}
    for sighting in seen:
        chassis, port, bssid, ip = (sighting[name] for name in ("chassis", "port", "bssid", "ip"))
        if chassis:
            wanted[NetworkKind.SWITCH].add(chassis)
            wanted[NetworkKind.SWITCH_PORT] |= {f"{chassis}/{port}"} if port else set()
        wanted[NetworkKind.BSSID] |= {bssid} if bssid else set()
        wanted[NetworkKind.SUBNET] |= around(ip) if ip else set()
    found: list[dict[str, Any]] = []
    for kind, values in wanted.items():
        for group in batched(sorted(values), AT_ONCE):
            condition = and_(Network.account_id == account_id, Network.kind == kind, Network.value.in_(group))
            found += await _rows(session, Network, ("id", "kind", "value", "location_id", "pbx_id"), condition)
    return sorted(found, key=lambda row: row["id"])


@lru_cache(maxsize=4096)
def around(ip: str) -> frozenset[str]:
    """Every subnet that holds the address, as networks are written; none of what is no address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return frozenset()
    return frozenset(
        str(ipaddress.ip_network((address, bits), strict=False)) for bits in range(address.max_prefixlen + 1)
    )


async def _places(session: AsyncSession, account_id: str, ids: Collection[str]) -> list[dict[str, Any]]:
    columns = (
        "id", "name", "civic_address", "geo", "timezone", "callback_number", "onsite_number", "carrier_ids", "status",
        "validated_at", "trunk_group_id", "validation", "notification_recipients",
    )  # fmt: skip
    condition = and_(Location.account_id == account_id, Location.id.in_(ids))
    rows = await _rows(session, Location, columns, condition)
    return [row | {"recipients": row["notification_recipients"] or []} for row in rows]


async def _numbers(
    session: AsyncSession, account_id: str, line_ids: Collection[str], places: Collection[str]
) -> list[dict[str, Any]]:
    of_pools = and_(Number.kind == NumberKind.ELIN, Number.location_id.in_(places))
    condition = and_(Number.account_id == account_id, or_(Number.line_id.in_(line_ids), of_pools))
    columns = ("id", "e164", "location_id", "kind", "line_id", "held_until", "held_by")
    return await _rows(session, Number, columns, condition)


async def _last_calls(session: AsyncSession, account_id: str, owners: Collection[str]) -> dict[str, LastCall]:
    """The last call of each of these phones and lines, by their ids, among the newest. A drill leaves no house."""
    named = [EmergencyCall.caller[name].as_string().label(name) for name in ("phone_id", "line_id")]
    newest = (
        select(EmergencyCall.id, EmergencyCall.kind, EmergencyCall.sent_at, EmergencyCall.outcome, *named)
        .where(EmergencyCall.account_id == account_id)
        .order_by(EmergencyCall.sent_at.desc())
        .limit(CALLS_LOOKED)
        .subquery()
    )
    theirs = or_(newest.c.phone_id.in_(owners), newest.c.line_id.in_(owners))
    query = select(newest).where(newest.c.kind != CallKind.DRILL, theirs).order_by(newest.c.sent_at.desc())
    found: dict[str, LastCall] = {}
    for call_id, kind, sent_at, outcome, *whose in await session.execute(query):
        for owner in whose:
            if owner:
                found.setdefault(owner, LastCall(call_id, kind, sent_at, outcome))
    return found


async def _proofs(session: AsyncSession, phone_ids: Collection[str]) -> dict[str, Proof]:
    """Of each phone the worst of what is proven of its files, the newest of equals."""
    columns = (FetchedFile.phone_id, FetchedFile.name, FetchedFile.etag, FetchedFile.fetched_at, FetchedFile.proof)
    query = select(*columns).where(FetchedFile.phone_id.in_(phone_ids), FetchedFile.proof.is_not(None))
    found: dict[str, Proof] = {}
    for phone_id, name, etag, fetched_at, proof in await session.execute(query.order_by(FetchedFile.fetched_at)):
        made = Proof(name, etag.strip('"'), fetched_at, tuple(proof["numbers"]), tuple(proof["faults"]))
        known = found.get(phone_id)
        if known is None or made.faults or not known.faults:
            found[phone_id] = made
    return found


async def _tests(session: AsyncSession, location_ids: Collection[str]) -> dict[str, Test]:
    columns = (
        LocationTest.location_id, LocationTest.tried_at, LocationTest.outcome, LocationTest.detail,
        LocationTest.passed_at,
    )  # fmt: skip
    query = select(*columns).where(LocationTest.location_id.in_(location_ids))
    return {row[0]: Test(*row[1:]) for row in await session.execute(query)}
