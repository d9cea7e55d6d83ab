"""SQL of trunk groups: which trunks an account has, its groups, and who names them."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts.store import rows_after
from engine.models import Account, Location, Trunk, TrunkGroup


async def trunk_ids_of(session: AsyncSession, account_id: str) -> set[str]:
    return set((await session.scalars(select(Trunk.id).where(Trunk.account_id == account_id))).all())


async def trunk_groups_of(
    session: AsyncSession, account_id: str, *, after: str | None = None, limit: int = 100
) -> Sequence[TrunkGroup]:
    return await rows_after(session, TrunkGroup, account_id, after=after, limit=limit)


async def has_trunk_group(session: AsyncSession, account_id: str, group_id: str) -> bool:
    query = select(TrunkGroup.id).where(TrunkGroup.account_id == account_id, TrunkGroup.id == group_id)
    return await session.scalar(query) is not None


async def locations_taking(session: AsyncSession, account_id: str, group_id: str) -> Sequence[str]:
    """The names of the locations whose emergency calls take that group, by name."""
    query = select(Location.name).where(Location.account_id == account_id, Location.trunk_group_id == group_id)
    return (await session.scalars(query.order_by(Location.name))).all()


async def trunk_groups_named(session: AsyncSession, account: Account) -> set[str]:
    """The groups that the account or a location names, by identifier."""
    query = select(Location.trunk_group_id).where(
        Location.account_id == account.id, Location.trunk_group_id.is_not(None)
    )
    named = {account.trunk_group_id, *(await session.scalars(query.distinct())).all()}
    return {group_id for group_id in named if group_id is not None}
