"""Locations by their names: what a menu offers, and which is meant by a name that somebody typed."""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import Location


async def location_choices(session: AsyncSession, account_id: str, *, limit: int) -> list[tuple[str, str]]:
    """Identifier and name of the account's locations by name, as many as `limit`."""
    query = select(Location.id, Location.name).where(Location.account_id == account_id)
    found = await session.execute(query.order_by(func.lower(Location.name), Location.id).limit(limit))
    return [(row.id, row.name) for row in found]


async def location_names(session: AsyncSession, account_id: str, location_ids: Iterable[str]) -> dict[str, str]:
    """The names of those locations of the account."""
    wanted = set(location_ids)
    query = select(Location.id, Location.name).where(Location.account_id == account_id, Location.id.in_(wanted))
    return {row.id: row.name for row in await session.execute(query)} if wanted else {}


async def locations_called(session: AsyncSession, account_id: str, name: str) -> list[str]:
    """The locations of that name: as it is written, else in any case. Two at most: one, or more than one."""
    query = select(Location.id).where(Location.account_id == account_id).order_by(Location.id).limit(2)
    found = (await session.scalars(query.where(Location.name == name))).all()
    return list(found or (await session.scalars(query.where(func.lower(Location.name) == name.lower()))).all())


async def names_near(session: AsyncSession, account_id: str, text: str, *, limit: int) -> list[str]:
    """Names that hold the text, else those that hold its longest words, by name."""
    query = select(Location.name).where(Location.account_id == account_id).distinct().limit(limit)
    query = query.order_by(Location.name)
    for part in dict.fromkeys((text, *sorted(text.split(), key=len, reverse=True)[:3])):
        found = (await session.scalars(query.where(name_holds(part)))).all()
        if found:
            return list(found)
    return []


def name_holds(text: str) -> ColumnElement[bool]:
    """Locations in whose name the text stands, in any case."""
    as_typed = Location.name.contains(text, autoescape=True)  # SQLite folds the case of ASCII alone
    return or_(func.lower(Location.name).contains(text.lower(), autoescape=True), as_typed)
