"""Which countries an account has places in: what decides which numbers its extensions may not take."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import Account, Location


async def countries_of(session: AsyncSession, account: Account) -> tuple[str, ...]:
    """The account's own country (ISO 3166 alpha-2) and those of its locations, each once, its own first."""
    country = Location.civic_address["country"].as_string()
    found = await session.scalars(select(country).where(Location.account_id == account.id).distinct())
    return tuple(dict.fromkeys([account.country.upper(), *sorted(name.upper() for name in found if name)]))
