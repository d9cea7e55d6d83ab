"""Which countries there are, and in which an account has places: that decides what its extensions may not be."""

from functools import cache
from importlib import resources

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import Account, Location


async def countries_of(session: AsyncSession, account: Account) -> tuple[str, ...]:
    """The account's own country (ISO 3166 alpha-2) and those of its locations, each once, its own first."""
    country = Location.civic_address["country"].as_string()
    found = await session.scalars(select(country).where(Location.account_id == account.id).distinct())
    return tuple(dict.fromkeys([account.country.upper(), *sorted(name.upper() for name in found if name)]))


def is_country(code: str) -> bool:
    """Whether ISO 3166-1 has that alpha-2 code, in capitals."""
    return code in _codes()


@cache
def _codes() -> frozenset[str]:
    """All alpha-2 codes: the first column of `iso3166.tab`, which comes with the IANA time zone database."""
    table = resources.files("tzdata").joinpath("zoneinfo", "iso3166.tab").read_text(encoding="utf-8")
    return frozenset(line.split("\t", 1)[0] for line in table.splitlines() if line and not line.startswith("#"))
