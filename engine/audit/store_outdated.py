"""Which phones have not got what they would be given now: whatever room a change was made in.

Theory of operation. A phone's row says whether it is out of date, and that stands in three indexes. To write it on
100,000 phones takes SQLite seconds, in which nobody else can write. So a change that concerns very many phones only
notes, in its own commit, which ones they are and from which revision on; their rows are marked behind it, some at a
time (`engine.provisioning.outdating`). Nothing that a phone is served rests on the mark: it gets the new files from the
commit on. What it fetched meanwhile is told from what it holds by the revision. PostgreSQL has many writers, and marks
them all at once.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, exists, func, or_, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit import changes
from engine.models import OwedMark, Phone, PhoneStatus, Revision, outdated

AT_ONCE = 2_000  # phones marked by the change's own commit: some 60 ms of SQLite's one writer
STEP = 1_000  # of those marked behind it, at a time
_PLAIN: dict[str, Any] = {"synchronize_session": False}


async def outdate(session: AsyncSession, *conditions: ColumnElement[bool]) -> None:
    """Those phones have not got what they would be given now: a machine's column, which no audit entry tells. Where
    this transaction has moved no revision, nothing that a phone is given was changed, and none is out of date.
    """
    await session.flush()
    moved = changes.of(session.sync_session)
    if not moved.bumped and not moved.bumps_every_account:
        return
    if await are_many(session, *conditions):
        await owe(session, *conditions)
        return
    await session.execute(update(Phone).where(*conditions).values(outdated()), execution_options=_PLAIN)
    for row in list(session.identity_map.values()):  # a few, beside any number of phones
        if isinstance(row, Phone):
            await session.refresh(row, ["status", "stale_revision"])


async def are_many(session: AsyncSession, *conditions: ColumnElement[bool]) -> bool:
    """Whether to mark those phones would hold the one writer for too long."""
    if not has_one_writer(session):
        return False
    some = select(Phone.id).where(*conditions).limit(AT_ONCE + 1).subquery()
    return (await session.scalar(select(func.count()).select_from(some)) or 0) > AT_ONCE


def has_one_writer(session: AsyncSession) -> bool:
    """Whether others wait while this transaction writes: SQLite."""
    return session.get_bind().dialect.name == "sqlite"


async def owe(session: AsyncSession, *conditions: ColumnElement[bool]) -> None:
    """Note those phones as out of date from the revision on that this transaction makes; on SQLite."""
    following = select(Revision.value + 1).where(Revision.account_id == Phone.account_id).scalar_subquery()
    which = select(Phone.id, func.coalesce(following, 1)).where(*conditions, Phone.id != "")  # an upsert wants a WHERE
    noted = insert(OwedMark).from_select(["phone_id", "revision"], which)
    await session.execute(
        noted.on_conflict_do_update(index_elements=["phone_id"], set_={"revision": noted.excluded.revision})
    )


def holds_older() -> ColumnElement[bool]:
    """The condition on a phone that it holds an older configuration, whether its row says so already or not."""
    owed = exists().where(
        OwedMark.phone_id == Phone.id, OwedMark.revision > func.coalesce(Phone.fetched_revision, 0)
    )  # fmt: skip
    return or_(Phone.status == PhoneStatus.STALE, and_(Phone.status == PhoneStatus.CURRENT, owed))


async def mark_some(session: AsyncSession, after: str) -> str | None:
    """Mark some of the phones that are noted, those behind that one. Returns the last of them; None: none is behind it.

    What a phone fetched since the change leaves it as it is.
    """
    noted = select(OwedMark.phone_id, OwedMark.revision).where(OwedMark.phone_id > after)
    rows = (await session.execute(noted.order_by(OwedMark.phone_id).limit(STEP))).all()
    for revision in sorted({row.revision for row in rows}):
        ids = [row.phone_id for row in rows if row.revision == revision]
        await outdate_since(session, ids, revision)
        await session.execute(delete(OwedMark).where(OwedMark.phone_id.in_(ids)), execution_options=_PLAIN)
    return rows[-1].phone_id if rows else None


async def outdate_since(session: AsyncSession, phone_ids: Sequence[str], revision: int) -> None:
    """Those phones' files are others from that revision on, which is behind us: what one fetched at it or later leaves
    it as it is.
    """
    known = func.coalesce(Phone.stale_revision, 0)
    since = case((known > revision, known), else_=revision)
    which = Phone.id.in_(phone_ids)
    await session.execute(update(Phone).where(which).values(stale_revision=since), execution_options=_PLAIN)
    older = (Phone.status == PhoneStatus.CURRENT, func.coalesce(Phone.fetched_revision, 0) < revision)
    stale = update(Phone).where(which, *older).values(status=PhoneStatus.STALE)
    await session.execute(stale, execution_options=_PLAIN)


async def is_any_owed(session: AsyncSession) -> bool:
    """Whether phones are noted that are not marked yet."""
    return await session.scalar(select(OwedMark.phone_id).limit(1)) is not None
