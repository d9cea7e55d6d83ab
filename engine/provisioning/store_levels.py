"""SQL of the levels of settings and of the accounts' own templates. Nothing here commits; the account is part of every
question.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import Location, Phone, SettingsLevel, TemplateOverride, TemplateVersion
from engine.provisioning.merge import SourceKind


async def levels_of(session: AsyncSession, account_id: str) -> Sequence[SettingsLevel]:
    """The account's own levels and the one of all accounts, by name."""
    whose = or_(SettingsLevel.account_id == account_id, SettingsLevel.account_id.is_(None))
    return (await session.scalars(select(SettingsLevel).where(whose).order_by(SettingsLevel.name))).all()


async def level_named(session: AsyncSession, account_id: str | None, name: str) -> SettingsLevel | None:
    """`account_id` None: the level of all accounts."""
    whose = SettingsLevel.account_id == account_id if account_id else SettingsLevel.account_id.is_(None)
    return (await session.scalars(select(SettingsLevel).where(whose, SettingsLevel.name == name))).first()


async def location_of(session: AsyncSession, account_id: str, location_id: str) -> Location | None:
    """The account's location of that id, or None."""
    query = select(Location).where(Location.id == location_id, Location.account_id == account_id)
    return (await session.scalars(query)).first()


def phones_at(level: SettingsLevel) -> tuple[ColumnElement[bool], ...]:
    """Which phones that level speaks of."""
    own = () if level.account_id is None else (Phone.account_id == level.account_id,)
    if level.kind == SourceKind.LOCATION:
        return (*own, Phone.location_id == level.location_id)
    if level.kind == SourceKind.MODEL:
        vendor, _, model = level.name.partition("/")
        return (*own, Phone.vendor == vendor, Phone.model == model)
    return own


async def count_at(session: AsyncSession, account_id: str, level: SettingsLevel) -> int:
    """How many of the account's phones that level speaks of."""
    query = select(func.count()).select_from(Phone).where(Phone.account_id == account_id, *phones_at(level))
    return await session.scalar(query) or 0


async def templates_of(session: AsyncSession, account_id: str) -> Sequence[TemplateOverride]:
    """Every template the account has or had a text of its own for, by vendor and name."""
    query = select(TemplateOverride).where(TemplateOverride.account_id == account_id)
    return (await session.scalars(query.order_by(TemplateOverride.vendor, TemplateOverride.name))).all()


async def template_named(session: AsyncSession, account_id: str, vendor: str, name: str) -> TemplateOverride | None:
    query = select(TemplateOverride).where(
        TemplateOverride.account_id == account_id, TemplateOverride.vendor == vendor, TemplateOverride.name == name
    )
    return (await session.scalars(query)).first()


async def versions_of(session: AsyncSession, template_id: str, *, limit: int = 500) -> Sequence[TemplateVersion]:
    """Every text it had, newest first."""
    query = select(TemplateVersion).where(TemplateVersion.template_id == template_id)
    return (await session.scalars(query.order_by(TemplateVersion.number.desc()).limit(limit))).all()


async def version_of(session: AsyncSession, template_id: str, number: int) -> TemplateVersion | None:
    return await session.get(TemplateVersion, (template_id, number))


async def last_number(session: AsyncSession, template_id: str) -> int:
    query = select(func.max(TemplateVersion.number)).where(TemplateVersion.template_id == template_id)
    return await session.scalar(query) or 0


async def sample_of(session: AsyncSession, account_id: str, vendor: str, *, limit: int) -> Sequence[str]:
    """The ids of some of the account's phones of that vendor, of as many models as there are."""
    first = (
        select(func.min(Phone.id))
        .where(Phone.account_id == account_id, Phone.vendor == vendor)
        .group_by(Phone.model)
        .limit(limit)
    )
    found = list((await session.scalars(first)).all())
    if len(found) < limit:
        rest = select(Phone.id).where(Phone.account_id == account_id, Phone.vendor == vendor, Phone.id.not_in(found))
        found += (await session.scalars(rest.order_by(Phone.id).limit(limit - len(found)))).all()
    return found
