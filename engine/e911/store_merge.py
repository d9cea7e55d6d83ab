"""SQL of merging two locations: all that is placed at one, and moving its phones in groups."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.changes import FieldChange
from engine.audit.events import Event
from engine.audit.parts import Part, record_parts
from engine.audit.record import Actor
from engine.db import Base, utc_now
from engine.models import ConfirmedLocation, EmergencyCall, Line, Location, LocationTest, Pbx, Phone, outdated

GROUP = 250
_PHONE = Base.metadata.tables[Phone.__tablename__]


async def lines_at(session: AsyncSession, location: Location) -> Sequence[Line]:
    """The lines placed there, oldest first."""
    query = select(Line).where(Line.account_id == location.account_id, Line.location_id == location.id)
    return (await session.scalars(query.order_by(Line.id))).all()


async def pbxs_at(session: AsyncSession, location: Location) -> Sequence[Pbx]:
    """The PBXs whose default it is."""
    query = select(Pbx).where(Pbx.account_id == location.account_id, Pbx.default_location_id == location.id)
    return (await session.scalars(query.order_by(Pbx.id))).all()


async def is_confirmed_at(session: AsyncSession, row: ConfirmedLocation, location: Location) -> bool:
    """Whether the same phone and line confirmed that location on the same network already."""
    query = select(ConfirmedLocation.id).where(
        ConfirmedLocation.account_id == row.account_id,
        ConfirmedLocation.network == row.network,
        ConfirmedLocation.location_id == location.id,
        ConfirmedLocation.phone_id.is_not_distinct_from(row.phone_id),
        ConfirmedLocation.line_id.is_not_distinct_from(row.line_id),
    )
    return await session.scalar(query.limit(1)) is not None


async def phones_at(session: AsyncSession, location: Location, *, limit: int) -> Sequence[Phone]:
    """The first phones there, by label."""
    query = select(Phone).where(Phone.account_id == location.account_id, Phone.location_id == location.id)
    return (await session.scalars(query.order_by(func.lower(Phone.label), Phone.id).limit(limit))).all()


async def calls_at(session: AsyncSession, location: Location, *, limit: int) -> Sequence[EmergencyCall]:
    """The latest calls that carried its address."""
    place = EmergencyCall.location["id"].as_string()
    query = select(EmergencyCall).where(EmergencyCall.account_id == location.account_id, place == location.id)
    return (await session.scalars(query.order_by(EmergencyCall.sent_at.desc()).limit(limit))).all()


async def tests_of(session: AsyncSession, account_id: str) -> Mapping[str, LocationTest]:
    """What 933 calls last showed, by location."""
    rows = await session.scalars(select(LocationTest).where(LocationTest.account_id == account_id))
    return {row.location_id: row for row in rows}


async def phone_counts(session: AsyncSession, account_id: str) -> Mapping[str, int]:
    """How many phones each location has; a location without is not in it."""
    query = select(Phone.location_id, func.count()).where(
        Phone.account_id == account_id, Phone.location_id.is_not(None)
    )
    return {str(row[0]): row[1] for row in await session.execute(query.group_by(Phone.location_id))}


async def move_phones(session: AsyncSession, actor: Actor, source: Location, target: Location, bulk_id: str) -> int:
    """Put every phone of one location at the other, with an entry for each. Returns how many.

    Written in groups and without the ORM: ten thousand phones are a few seconds. A phone that holds the configuration
    of before is out of date from now on.
    """
    moved = 0
    await session.flush()
    while rows := await _next_phones(session, source):
        values: dict[str, Any] = {
            "location_id": target.id, "version": _PHONE.c.version + 1, "updated_at": utc_now(),
        } | outdated()  # fmt: skip
        query = update(_PHONE).where(_PHONE.c.id == bindparam("at_id")).values(values)
        await (await session.connection()).execute(query, [{"at_id": row["id"]} for row in rows])
        told = {"location_id": FieldChange(source.id, target.id, False)}
        parts = [Part(Event.PHONE_UPDATE, ("phone", row["id"], row["label"] or row["mac"]), told) for row in rows]
        await record_parts(session, actor, source.account_id, bulk_id, parts)
        moved += len(rows)
    seen = update(_PHONE).where(
        _PHONE.c.account_id == source.account_id, _PHONE.c.network_location_id == source.id
    )  # what the network says: the next look would find the same
    await (await session.connection()).execute(seen.values(network_location_id=target.id))
    return moved


async def _next_phones(session: AsyncSession, location: Location) -> list[Mapping[str, Any]]:
    columns = [_PHONE.c[name] for name in ("id", "mac", "label")]
    query = select(*columns).where(_PHONE.c.account_id == location.account_id, _PHONE.c.location_id == location.id)
    return [dict(row) for row in (await session.execute(query.order_by(_PHONE.c.id).limit(GROUP))).mappings()]
