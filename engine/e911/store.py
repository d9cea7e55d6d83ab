"""Queries of the emergency room: locations, networks, recipients, calls, attempts, notifications, and the snapshot.

Plain functions that read. What belongs to an account is looked up within it, so that a row of another account is as
absent as one that never was.
"""

import asyncio
import base64
import binascii
import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.db import UtcDateTime
from engine.e911.location_twins import Place
from engine.e911.store_calls import CallFilters, calls_before
from engine.e911.store_salvage import UNREADABLE, salvaged_rows
from engine.errors import Invalid
from engine.models import (
    Account,
    CallAttempt,
    CallbackCall,
    ConfirmedLocation,
    EmergencyCall,
    Line,
    Location,
    Network,
    Notification,
    NotificationRecipient,
    NotificationState,
    Number,
    NumberKind,
    Pbx,
    Phone,
    PhoneLine,
    Revision,
    SettingsLevel,
    Sighting,
    Trunk,
    TrunkGroup,
)

MAX_PAGE = 200


@dataclass(frozen=True, slots=True)
class CallPage:
    """Some calls, newest first, and the cursor of the next page when there is one."""

    rows: list[EmergencyCall]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a location is the address of: how many of each, and whether it is the account's default.

    `numbers`: of its ELIN pool.
    """

    phones: int
    lines: int
    pbxs: int
    networks: int
    numbers: int
    is_account_default: bool


# ------------------------------------------------------------------------------------------ locations and networks


async def locations_of(session: AsyncSession, account_id: str) -> list[Location]:
    """The account's locations by name."""
    query = select(Location).where(Location.account_id == account_id).order_by(func.lower(Location.name), Location.id)
    return list((await session.scalars(query)).all())


async def locations_in(session: AsyncSession, account_id: str, ids: Collection[str]) -> list[Location]:
    """Those of the locations that the account has; at most a thousand are asked for."""
    return list(
        (await session.scalars(select(Location).where(Location.account_id == account_id, Location.id.in_(ids)))).all()
    )


async def revision_of(session: AsyncSession, account_id: str) -> int:
    """The account's revision; 0 when nobody changed it since it was made."""
    return await session.scalar(select(Revision.value).where(Revision.account_id == account_id)) or 0


async def places_of(session: AsyncSession, account_id: str) -> list[Place]:
    """What tells the account's locations apart, read a few hundred at a time: there may be many thousands."""
    query = select(Location.id, Location.name, Location.civic_address).where(Location.account_id == account_id)
    rows = await session.stream(query)
    return [Place(*row) async for part in rows.partitions(500) for row in part]


async def location_by_id(
    session: AsyncSession, account_id: str, location_id: str, *, to_change: bool = False
) -> Location | None:
    """One location of that account; `to_change`: as it is stored now, and held against others until the commit."""
    query = select(Location).where(Location.account_id == account_id, Location.id == location_id)
    if to_change:
        query = query.with_for_update().execution_options(populate_existing=True)
    return await session.scalar(query)


async def networks_of(session: AsyncSession, account_id: str, location_id: str | None = None) -> list[Network]:
    """The account's networks, or one location's, oldest first."""
    query = select(Network).where(Network.account_id == account_id).order_by(Network.id)
    if location_id is not None:
        query = query.where(Network.location_id == location_id)
    return list((await session.scalars(query)).all())


async def networks_by_location(session: AsyncSession, locations: Sequence[Location]) -> dict[str, list[Network]]:
    """The networks of these locations, oldest first, by location; of one without any nothing."""
    found: dict[str, list[Network]] = {}
    query = select(Network).where(Network.location_id.in_([location.id for location in locations]))
    for network in await session.scalars(query.order_by(Network.id)) if locations else ():
        found.setdefault(network.location_id, []).append(network)
    return found


async def network_holding(
    session: AsyncSession, account_id: str, kind: str, value: str, pbx_id: str | None
) -> Network | None:
    """The network of exactly that value. A unique key alone would not find it: no PBX is never equal to no PBX."""
    owner = Network.pbx_id.is_(None) if pbx_id is None else Network.pbx_id == pbx_id
    return await session.scalar(
        select(Network).where(Network.account_id == account_id, Network.kind == kind, Network.value == value, owner)
    )


async def usage_of(session: AsyncSession, location: Location) -> Usage:
    """What would lose its address with that location."""

    async def count(model: Any, column: Any) -> int:
        query = select(func.count()).select_from(model).where(column == location.id)
        return int(await session.scalar(query) or 0)

    account = await session.get(Account, location.account_id)
    return Usage(
        phones=await count(Phone, Phone.location_id),
        lines=await count(Line, Line.location_id),
        pbxs=await count(Pbx, Pbx.default_location_id),
        networks=await count(Network, Network.location_id),
        numbers=await count(Number, Number.location_id),
        is_account_default=account is not None and account.default_location_id == location.id,
    )


async def trunk_group_exists(session: AsyncSession, account_id: str, group_id: str) -> bool:
    """Whether the account has that group of trunks."""
    query = select(TrunkGroup.id).where(TrunkGroup.account_id == account_id, TrunkGroup.id == group_id)
    return await session.scalar(query) is not None


async def pbx_exists(session: AsyncSession, account_id: str, pbx_id: str) -> bool:
    """Whether the account has that PBX."""
    return await session.scalar(select(Pbx.id).where(Pbx.account_id == account_id, Pbx.id == pbx_id)) is not None


async def line_exists(session: AsyncSession, account_id: str, line_id: str) -> bool:
    """Whether the account has that line."""
    return await session.scalar(select(Line.id).where(Line.account_id == account_id, Line.id == line_id)) is not None


async def phone_exists(session: AsyncSession, account_id: str, phone_id: str) -> bool:
    """Whether the account has that phone."""
    return (
        await session.scalar(select(Phone.id).where(Phone.account_id == account_id, Phone.id == phone_id)) is not None
    )


async def lines_called(session: AsyncSession, account_id: str, names: Collection[str]) -> list[Line]:
    """The lines whose extension or SIP user is one of these, by extension."""
    query = select(Line).where(Line.account_id == account_id, or_(Line.extension.in_(names), Line.sip_user.in_(names)))
    return list((await session.scalars(query.order_by(Line.extension, Line.id))).all())


async def extensions_of(session: AsyncSession, account_id: str, line_ids: Collection[str]) -> dict[str, str]:
    """The extension of each of these lines, by the line's identifier."""
    query = select(Line.id, Line.extension).where(Line.account_id == account_id, Line.id.in_(line_ids))
    return {row[0]: row[1] for row in await session.execute(query)}


# ------------------------------------------------------------------------------------------ numbers, whereabouts


async def numbers_of(session: AsyncSession, account_id: str, location_id: str | None = None) -> list[Number]:
    """The account's numbers, or those of one location, in their order."""
    query = select(Number).where(Number.account_id == account_id).order_by(Number.e164)
    if location_id is not None:
        query = query.where(Number.location_id == location_id)
    return list((await session.scalars(query)).all())


async def number_counts(session: AsyncSession, account_id: str) -> dict[NumberKind, int]:
    """How many numbers of each kind the account has. No key is missing."""
    query = select(Number.kind, func.count()).where(Number.account_id == account_id).group_by(Number.kind)
    found = {row[0]: row[1] for row in await session.execute(query)}
    return {kind: found.get(kind, 0) for kind in NumberKind}


async def number_by_id(session: AsyncSession, account_id: str, number_id: str) -> Number | None:
    """One number of that account."""
    return await session.scalar(select(Number).where(Number.account_id == account_id, Number.id == number_id))


async def numbers_known(session: AsyncSession, numbers: Collection[str]) -> list[str]:
    """Which of these numbers some account has already, in their order."""
    return list(
        (await session.scalars(select(Number.e164).where(Number.e164.in_(numbers)).order_by(Number.e164))).all()
    )


async def phone_settings_of(session: AsyncSession, account_id: str, location_id: str) -> list[SettingsLevel]:
    """What the location says of its phones' settings."""
    query = select(SettingsLevel).where(
        SettingsLevel.account_id == account_id, SettingsLevel.location_id == location_id
    )
    return list((await session.scalars(query)).all())


async def confirmed_of(session: AsyncSession, account_id: str, location_id: str) -> list[ConfirmedLocation]:
    """The confirmations that name that location, oldest first."""
    query = select(ConfirmedLocation).where(
        ConfirmedLocation.account_id == account_id, ConfirmedLocation.location_id == location_id
    )
    return list((await session.scalars(query.order_by(ConfirmedLocation.id))).all())


async def confirmed_of_phone(session: AsyncSession, phone: Phone) -> list[ConfirmedLocation]:
    """What was confirmed of that phone, the latest first."""
    query = select(ConfirmedLocation).where(ConfirmedLocation.phone_id == phone.id)
    return list((await session.scalars(query.order_by(ConfirmedLocation.confirmed_at.desc()))).all())


async def confirmed_holding(session: AsyncSession, like: ConfirmedLocation) -> ConfirmedLocation | None:
    """The confirmation for the same phone and line on the same network."""
    same = (
        column.is_(None) if value is None else column == value
        for column, value in ((ConfirmedLocation.phone_id, like.phone_id), (ConfirmedLocation.line_id, like.line_id))
    )
    query = select(ConfirmedLocation).where(
        ConfirmedLocation.account_id == like.account_id, ConfirmedLocation.network == like.network, *same
    )
    return (await session.scalars(query.limit(1))).first()


def sighting_json(sighting: Sighting) -> dict[str, Any]:
    """A sighting as the edge is told it: the snapshot's fields and the account."""
    row = {name: getattr(sighting, name) for name in _SIGHTING_FIELDS}
    return row | {"account_id": sighting.account_id, "seen_at": rfc3339(sighting.seen_at)}


async def sighting_of(session: AsyncSession, phone: Phone) -> Sighting | None:
    """Where the network last saw that phone."""
    return await session.get(Sighting, phone.id)


# ------------------------------------------------------------------------------------------ recipients


async def recipients_of(session: AsyncSession, account_id: str) -> list[NotificationRecipient]:
    """The account-level recipients in the order they were added."""
    query = (
        select(NotificationRecipient)
        .where(NotificationRecipient.account_id == account_id)
        .order_by(NotificationRecipient.id)
    )
    return list((await session.scalars(query)).all())


async def recipient_by_id(session: AsyncSession, account_id: str, recipient_id: str) -> NotificationRecipient | None:
    """One account-level recipient."""
    return await session.scalar(
        select(NotificationRecipient).where(
            NotificationRecipient.account_id == account_id, NotificationRecipient.id == recipient_id
        )
    )


# ------------------------------------------------------------------------------------------ calls


async def calls_of(
    session: AsyncSession,
    account_id: str,
    filters: CallFilters | None = None,
    *,
    limit: int = 50,
    cursor: str | None = None,
) -> CallPage:
    """A page of the account's emergency and test calls, newest first; each without its INVITE.

    Raises:
        Invalid: the cursor is none that this function gave.
    """
    limit = max(1, min(limit, MAX_PAGE))
    before = None if cursor is None else _read_cursor(cursor)
    found = await calls_before(session, account_id, filters or CallFilters(), before=before, limit=limit + 1)
    rows = list(found)
    more = len(rows) > limit
    rows = rows[:limit]
    return CallPage(rows, _cursor(rows[-1].sent_at, rows[-1].id) if more else None)


async def call_by_id(session: AsyncSession, account_id: str, call_id: str) -> EmergencyCall | None:
    """One call of that account; `call_id` is ours (`call_…`), not the SIP Call-ID."""
    return await session.scalar(
        select(EmergencyCall).where(EmergencyCall.account_id == account_id, EmergencyCall.id == call_id)
    )


async def attempts_of(session: AsyncSession, call: EmergencyCall) -> list[CallAttempt]:
    """The tries at trunks, in their order."""
    query = select(CallAttempt).where(CallAttempt.emergency_call_id == call.id).order_by(CallAttempt.number)
    return list((await session.scalars(query)).all())


async def callbacks_of(session: AsyncSession, call: EmergencyCall) -> list[CallbackCall]:
    """The calls that came in for that call's number, in their order."""
    query = select(CallbackCall).where(CallbackCall.emergency_call_id == call.id)
    return list((await session.scalars(query.order_by(CallbackCall.received_at, CallbackCall.id))).all())


# ------------------------------------------------------------------------------------------ notifications


async def notifications_of(session: AsyncSession, call: EmergencyCall) -> list[Notification]:
    """The notifications of that call, by recipient."""
    query = (
        select(Notification)
        .where(Notification.emergency_call_id == call.id)
        .order_by(Notification.recipient, Notification.channel)
    )
    return list((await session.scalars(query)).all())


async def notification_by_id(session: AsyncSession, account_id: str, notification_id: str) -> Notification | None:
    """One notification of that account."""
    return await session.scalar(
        select(Notification).where(Notification.account_id == account_id, Notification.id == notification_id)
    )


async def notification_counts(session: AsyncSession, account_id: str | None = None) -> dict[NotificationState, int]:
    """How many notifications are waiting, sent and failed; of every account when none is named. No key is missing."""
    query = select(Notification.state, func.count()).group_by(Notification.state)
    if account_id is not None:
        query = query.where(Notification.account_id == account_id)
    found = {row[0]: row[1] for row in await session.execute(query)}
    return {state: found.get(state, 0) for state in NotificationState}


async def waiting_count(session: AsyncSession, account_id: str | None = None) -> int:
    """How many notifications have not been handed to the mail server yet."""
    return (await notification_counts(session, account_id))[NotificationState.WAITING]


# ------------------------------------------------------------------------------------------ snapshot

_SIGHTING_FIELDS = ("phone_id", "chassis", "port", "bssid", "ip", "source", "seen_at")
_ROWS_AT_ONCE = 2000  # some 5 ms of the loop
_SNAPSHOT_TABLES: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    (
        "locations",
        Location,
        (
            "id", "name", "civic_address", "geo", "timezone", "callback_number", "onsite_number", "carrier_ids",
            "status", "validated_at", "trunk_group_id",
        ),
    ),
    ("networks", Network, ("id", "kind", "value", "location_id", "pbx_id")),
    ("phones", Phone, ("id", "mac", "label", "location_id")),
    ("lines", Line, ("id", "extension", "display_name", "sip_user", "callback_number", "location_id", "pbx_id")),
    (
        "pbxs",
        Pbx,
        (
            "id", "name", "sources", "tls_name", "auth_user", "secret", "registrar_host", "registrar_port", "transport",
            "default_location_id", "default_route",
        ),
    ),
    (
        "trunks",
        Trunk,
        (
            "id", "name", "priority", "host", "port", "transport", "auth_user", "secret", "profile", "location_mode",
            "test_number", "last_resort", "enabled", "pings",
        ),
    ),
    ("trunk_groups", TrunkGroup, ("id", "trunk_ids")),
    ("numbers", Number, ("id", "e164", "location_id", "kind", "line_id", "held_until", "held_by")),
    ("sightings", Sighting, _SIGHTING_FIELDS),
    ("confirmed", ConfirmedLocation, ("id", "phone_id", "line_id", "location_id", "network", "confirmed_at")),
)  # fmt: skip


async def revisions(session: AsyncSession) -> dict[str, int]:
    """Every account's revision; an account nobody has changed since it was made stands at 0."""
    query = select(Account.id, func.coalesce(Revision.value, 0)).outerjoin(Revision, Revision.account_id == Account.id)
    return {row[0]: row[1] for row in await session.execute(query)}


async def latest_sightings(session: AsyncSession) -> dict[str, dt.datetime]:
    """When a phone of each account was last seen; an account without sightings is not in it."""
    query = select(Sighting.account_id, func.max(Sighting.seen_at)).group_by(Sighting.account_id)
    return {row[0]: row[1] for row in await session.execute(query)}


async def account_snapshot(session: AsyncSession, account_id: str) -> dict[str, Any] | None:
    """All of one account that a 911 call needs, as JSON values, for the edge's location table. None: no such account.

    Columns are named one by one and no row becomes an object of the ORM: 100,000 phones with their lines are read in
    two or three seconds, in pieces between which the loop has its turn. Of secrets, only the digest passwords of PBXs
    and trunks are in it: the edge proves itself and its callers with them, and the file is sealed. Rows stand in the
    order of their ids, so equal content gives equal bytes. `unread`: fields that could not be read, each in a sentence;
    they are None and the rest is there.
    """
    names = (
        "name", "country", "timezone", "language", "default_location_id", "callback_number", "elin_hold_minutes",
        "trunk_group_id",
    )  # fmt: skip
    query = select(*(getattr(Account, name) for name in names)).where(Account.id == account_id)
    account = (await session.execute(query)).first()
    if account is None:
        return None
    revision = await session.scalar(select(Revision.value).where(Revision.account_id == account_id))
    snapshot: dict[str, Any] = {"account_id": account_id, "revision": revision or 0, "unread": []}
    snapshot |= dict(zip(names, account, strict=True))
    for part, model, columns in _SNAPSHOT_TABLES:
        try:
            snapshot[part] = await _rows(session, account_id, model, columns)
        except UNREADABLE:
            snapshot[part], unread = await salvaged_rows(session, account_id, model, columns)
            _write_instants(snapshot[part], model, columns)
            snapshot["unread"] += [f"{part}: {each} cannot be read, and is left out" for each in unread]
    keys = await _line_keys(session, account_id)
    for at, phone in enumerate(snapshot["phones"], 1):
        phone["line_ids"] = keys.get(phone["id"], [])
        if not at % _ROWS_AT_ONCE:
            await asyncio.sleep(0)
    return snapshot


async def _rows(session: AsyncSession, account_id: str, model: Any, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    query = select(*(getattr(model, name) for name in columns)).where(model.account_id == account_id)
    query = query.order_by(model.__table__.primary_key.columns[0])
    rows: list[dict[str, Any]] = []
    found = await session.stream(query, execution_options={"yield_per": _ROWS_AT_ONCE})
    async for piece in found.partitions():
        fresh = [dict(zip(columns, row, strict=True)) for row in piece]
        _write_instants(fresh, model, columns)
        rows += fresh
    return rows


def _write_instants(rows: list[dict[str, Any]], model: Any, columns: tuple[str, ...]) -> None:
    for name in columns:
        if isinstance(model.__table__.c[name].type, UtcDateTime):
            for row in rows:
                row[name] = None if row[name] is None else rfc3339(row[name])


async def _line_keys(session: AsyncSession, account_id: str) -> dict[str, list[str]]:
    """The line ids of each phone, first key first."""
    query = (
        select(PhoneLine.phone_id, PhoneLine.line_id)
        .where(PhoneLine.account_id == account_id)
        .order_by(PhoneLine.phone_id, PhoneLine.key)
    )
    found: dict[str, list[str]] = {}
    rows = await session.stream(query, execution_options={"yield_per": _ROWS_AT_ONCE})
    async for piece in rows.partitions():
        for phone_id, line_id in piece:
            found.setdefault(phone_id, []).append(line_id)
    return found


# ------------------------------------------------------------------------------------------ small shapes


def rfc3339(at: dt.datetime) -> str:
    """`2026-11-21T20:00:00.123456Z`: what the journal and the snapshot hold."""
    return at.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _cursor(at: dt.datetime, identity: str) -> str:
    return base64.urlsafe_b64encode(f"{rfc3339(at)} {identity}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[dt.datetime, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        at, identity = text.split(" ")
        return dt.datetime.fromisoformat(at).astimezone(dt.UTC), identity
    except (binascii.Error, UnicodeError, ValueError) as exc:
        raise Invalid("cursor: expected the next_cursor of the page before; start again without one.") from exc
