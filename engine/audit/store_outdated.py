"""Which phones have not got what they would be given now: whatever room a change was made in."""

from sqlalchemy import ColumnElement, update
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit import changes
from engine.models import Phone, outdated


async def outdate(session: AsyncSession, *conditions: ColumnElement[bool]) -> None:
    """Those phones have not got what they would be given now: a machine's column, which no audit entry tells. Where
    this transaction has moved no revision, nothing that a phone is given was changed, and none is out of date.
    """
    await session.flush()
    moved = changes.of(session.sync_session)
    if not moved.bumped and not moved.bumps_every_account:
        return
    stale = update(Phone).where(*conditions).values(outdated())
    await session.execute(stale, execution_options={"synchronize_session": False})
    for row in list(session.identity_map.values()):  # a few, beside any number of phones
        if isinstance(row, Phone):
            await session.refresh(row, ["status", "stale_revision"])
