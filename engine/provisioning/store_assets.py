"""SQL of the account's contacts and files."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import String, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.errors import NotFound
from engine.models import Asset, Contact, Phone, SettingsLevel
from engine.provisioning import assetfile


@dataclass(frozen=True, slots=True)
class Stock:
    """How many files an account has, and how many bytes they are."""

    files: int
    size_bytes: int


async def contacts_of(
    session: AsyncSession, account_id: str, *, sought: str = "", most: int | None = None
) -> Sequence[Contact]:
    """The account's contacts by name; at most so many, of those that have this in their name or number."""
    query = select(Contact).where(Contact.account_id == account_id).order_by(func.lower(Contact.name), Contact.id)
    if sought:
        query = query.where(
            Contact.name.icontains(sought, autoescape=True) | Contact.number.contains(sought, autoescape=True)
        )
    return (await session.scalars(query.limit(most))).all()


async def count_contacts(session: AsyncSession, account_id: str) -> int:
    query = select(func.count()).select_from(Contact).where(Contact.account_id == account_id)
    return await session.scalar(query) or 0


async def contact_of(session: AsyncSession, account_id: str, contact_id: str) -> Contact:
    """Raises NotFound: no such contact in this account."""
    found = await session.scalar(select(Contact).where(Contact.id == contact_id, Contact.account_id == account_id))
    if found is None:
        raise NotFound("This account has no contact of that id.")
    return found


async def assets_of(session: AsyncSession, account_id: str) -> Sequence[Asset]:
    """The account's files by kind and name."""
    query = select(Asset).where(Asset.account_id == account_id).order_by(Asset.kind, Asset.name)
    return (await session.scalars(query)).all()


async def asset_of(session: AsyncSession, account_id: str, asset_id: str) -> Asset:
    """Raises NotFound: no such file in this account."""
    found = await session.scalar(select(Asset).where(Asset.id == asset_id, Asset.account_id == account_id))
    if found is None:
        raise NotFound("This account has no file of that id.")
    return found


async def asset_by_name(session: AsyncSession, account_id: str, name: str) -> Asset | None:
    return await session.scalar(select(Asset).where(Asset.account_id == account_id, Asset.name == name))


async def stock_of(session: AsyncSession, account_id: str) -> Stock:
    """How many files the account has, and how large they are together."""
    query = select(func.count(), func.coalesce(func.sum(Asset.size_bytes), 0)).where(Asset.account_id == account_id)
    files, size_bytes = (await session.execute(query)).one()
    return Stock(files, int(size_bytes))


async def digests_named(session: AsyncSession) -> frozenset[str]:
    """The SHA-256 of every file that any account's row names."""
    return frozenset((await session.scalars(select(Asset.sha256).distinct())).all())


async def phones_that_name(session: AsyncSession, account_id: str, name: str) -> Sequence[Phone]:
    """The phones whose own settings name that file as their logo, firmware or ring tone."""
    query = select(Phone).where(
        Phone.account_id == account_id, cast(Phone.settings, String).contains(name, autoescape=True)
    )
    return [phone for phone in (await session.scalars(query)).all() if _names(phone.settings, name)]


async def levels_that_name(session: AsyncSession, account_id: str, name: str) -> Sequence[SettingsLevel]:
    """The account's levels of settings that name that file."""
    query = select(SettingsLevel).where(
        SettingsLevel.account_id == account_id, cast(SettingsLevel.settings, String).contains(name, autoescape=True)
    )
    return [level for level in (await session.scalars(query)).all() if _names(level.settings, name)]


def _names(settings: object, name: str) -> bool:
    return isinstance(settings, dict) and any(settings.get(setting) == name for setting in assetfile.KINDS)
