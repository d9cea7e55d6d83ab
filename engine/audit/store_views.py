"""SQL of the saved views of the audit log."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.errors import NotFound
from engine.models import SavedView

SHOWN = 200


def seen_by(owner_id: str) -> ColumnElement[bool]:
    """The views somebody sees: their own and the shared ones."""
    return or_(SavedView.owner_id == owner_id, SavedView.is_shared)


async def views_of(session: AsyncSession, account_id: str, owner_id: str) -> Sequence[SavedView]:
    """What somebody sees of an account's views, by name."""
    query = select(SavedView).where(SavedView.account_id == account_id, seen_by(owner_id))
    return (await session.scalars(query.order_by(func.lower(SavedView.name), SavedView.id).limit(SHOWN))).all()


async def view_by_id(session: AsyncSession, account_id: str, owner_id: str, view_id: str) -> SavedView:
    """One view that somebody sees.

    Raises:
        NotFound: no such view, another account's, or somebody else's own: the answers are alike.
    """
    query = select(SavedView).where(SavedView.id == view_id, SavedView.account_id == account_id, seen_by(owner_id))
    view = await session.scalar(query.with_for_update())
    if view is None:
        raise NotFound("There is no such view, or it is not shared with you.")
    return view


async def count_of(session: AsyncSession, account_id: str, owner_id: str) -> int:
    """How many views somebody keeps."""
    query = select(func.count()).where(SavedView.account_id == account_id, SavedView.owner_id == owner_id)
    return await session.scalar(query) or 0


async def has_named(session: AsyncSession, account_id: str, owner_id: str, name: str, *, but: str) -> bool:
    """Whether somebody keeps another view of that name."""
    query = select(SavedView.id).where(
        SavedView.account_id == account_id, SavedView.owner_id == owner_id, SavedView.name == name, SavedView.id != but
    )
    return await session.scalar(query.limit(1)) is not None
