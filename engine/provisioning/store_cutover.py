"""SQL of rotations: how many phones have which token, who was left behind, whom to ask again. Nothing here commits."""

import datetime as dt
from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, exists, false, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.store_outdated import are_many, owe
from engine.models import Account, Line, Phone, PhoneLine, PhoneStatus
from engine.provisioning.movement import MAX_LISTED, Impact, Move, PhoneSeen, Progress, RotationState
from engine.provisioning.resync import WAITING

DAY, WEEK = dt.timedelta(days=1), dt.timedelta(days=7)
_SEEN = (Phone.id, Phone.mac, Phone.label, Phone.model, Phone.last_fetch_at, Phone.straggled_at)


async def lock(session: AsyncSession, account: Account) -> None:
    """Read the account as it is now, so that nobody else changes it before the commit."""
    await session.flush()  # a refresh would take back what this transaction has changed and not yet written
    await session.refresh(account, with_for_update=True)


async def impact(session: AsyncSession, account_id: str, now: dt.datetime) -> Impact:
    """Counted by the database, with the phones that nobody has heard of for a week."""
    query = select(
        func.count(),
        func.count(Phone.last_fetch_at),
        func.count().filter(Phone.last_fetch_at >= now - DAY),
        func.count().filter(Phone.last_fetch_at >= now - WEEK),
        func.max(Phone.last_fetch_at),
    ).where(Phone.account_id == account_id)
    phones, booted, day, week, last = (await session.execute(query)).one()
    silent = or_(Phone.last_fetch_at.is_(None), Phone.last_fetch_at < now - WEEK)
    unseen = await _listed(session, account_id, silent, Phone.last_fetch_at.asc().nulls_first())
    return Impact(phones, booted, day, week, last, unseen, await _sip_passwords(session, account_id))


async def _sip_passwords(session: AsyncSession, account_id: str) -> int:
    """How many lines on phones' keys have a password: each stands in a file that the URL opens."""
    on_a_key = exists().where(PhoneLine.line_id == Line.id)
    query = select(func.count()).where(Line.account_id == account_id, Line.secret.is_not(None), on_a_key)
    return (await session.scalars(query)).one()


async def booted(session: AsyncSession, account_id: str, *, limit: int) -> Sequence[Phone]:
    """The first phones that have fetched, in the order they were made."""
    query = select(Phone).where(Phone.account_id == account_id, Phone.last_fetch_at.is_not(None))
    return (await session.scalars(query.order_by(Phone.id).limit(limit))).all()


async def progress(session: AsyncSession, account: Account) -> Progress:
    """How far the account's move has come; with none, who asks by the URL in force."""
    began, moved = account.next_provisioning_token_at, _has_moved(account)
    told = false() if began is None else and_(Phone.last_fetch_at >= began, ~moved)
    query = select(
        func.count(),
        func.count(Phone.last_fetch_at),
        func.count().filter(Phone.last_fetch_at.is_not(None), moved),
        func.count().filter(told),
        func.count().filter(false() if began is None else and_(Phone.elsewhere_at >= began, ~moved)),
    ).where(Phone.account_id == account.id)
    phones, booted, has_moved, is_told, elsewhere = (await session.execute(query)).one()
    if began is None:
        return Progress(RotationState.NONE, booted, has_moved, 0, phones - booted)
    move = Move.read(account.rotation)
    state = RotationState.RETURNING if move.is_return else RotationState.PUSHING
    return Progress(state, booted, has_moved, is_told, phones - booted, began, move.automatic, elsewhere)


async def left_behind(session: AsyncSession, account: Account) -> tuple[PhoneSeen, ...]:
    """The phones that have fetched and have not moved, those seen last first."""
    condition = and_(Phone.last_fetch_at.is_not(None), ~_has_moved(account))
    return await _listed(session, account.id, condition, Phone.last_fetch_at.desc())


async def stragglers(session: AsyncSession, account_id: str) -> tuple[PhoneSeen, ...]:
    """The phones that asked with a token rotated away and have not got through since, the last to ask first."""
    return await _listed(session, account_id, _straggles(), Phone.straggled_at.desc())


async def count_stragglers(session: AsyncSession, account_id: str) -> int:
    query = select(func.count()).where(Phone.account_id == account_id, _straggles())
    return await session.scalar(query) or 0


async def outdate(session: AsyncSession, account: Account) -> None:
    """Every phone that does not ask by the wished token is stale until it does: a machine's column, not audited."""
    wished = account.next_provisioning_token_index or account.provisioning_token_index
    behind = Phone.fetched_token_index.is_distinct_from(wished)
    current = (Phone.account_id == account.id, Phone.status == PhoneStatus.CURRENT)
    await session.flush()
    if await are_many(session, *current, behind):
        await owe(session, *current, behind)
        return
    await session.execute(update(Phone).where(*current, behind).values(status=PhoneStatus.STALE))


async def settle_homes(session: AsyncSession, account: Account) -> None:
    """Keep where each phone was served before a move: asking by the next URL counts from there."""
    await session.flush()
    kept = update(Phone).where(Phone.account_id == account.id).values(home_ip=Phone.last_ip, elsewhere_at=None)
    await session.execute(kept)


async def moving(session: AsyncSession) -> Sequence[str]:
    """The accounts whose phones are being moved."""
    query = select(Account.id).where(Account.next_provisioning_token_index.is_not(None)).order_by(Account.id)
    return (await session.scalars(query)).all()


async def due_for_resync(
    session: AsyncSession,
    account: Account,
    now: dt.datetime,
    *,
    settle: dt.timedelta,
    again: dt.timedelta,
    forgotten: dt.timedelta,
    limit: int,
) -> Sequence[str]:
    """The phones of a move that a NOTIFY could bring on: not asked since it began; or asked, came, and hold the next
    URL by now, but take it into use only at another asking; or asked long ago in vain.

    Args:
        settle: What a phone is given to restart before it is asked again. again: between two askings in vain.
        forgotten: how long a phone that waits for its turn is believed to have one.
    """
    began = account.next_provisioning_token_at
    due = or_(
        Phone.resync_at.is_(None),
        Phone.resync_at < began,
        and_(Phone.last_fetch_at > Phone.resync_at, Phone.last_fetch_at >= began, Phone.last_fetch_at < now - settle),
        Phone.resync_at < now - again,
    )
    waits = and_(Phone.resync_result.is_not_distinct_from(WAITING), Phone.resync_at >= now - forgotten)
    query = select(Phone.id).where(
        Phone.account_id == account.id, Phone.last_fetch_at.is_not(None), ~_has_moved(account), due, ~waits
    )
    return (await session.scalars(query.order_by(Phone.resync_at.asc().nulls_first(), Phone.id).limit(limit))).all()


def _has_moved(account: Account) -> ColumnElement[bool]:
    """Does the phone ask by the wished token for its own files?

    Where a move was turned round, a phone that still asks by its old URL may have fetched a file with the new one
    meanwhile: it counts when it has fetched again since the turn, or had not fetched in between. A phone of before
    this was kept counts by its last fetch.
    """
    wished = account.next_provisioning_token_index or account.provisioning_token_index
    asks = Phone.fetched_token_index.is_not_distinct_from(wished)
    began, made = account.next_provisioning_token_at, account.provisioning_token_at
    if began is None:
        is_unknown = Phone.fetched_token_index.is_(None) & Phone.last_fetch_at.is_not(None)
        return asks if made is None else or_(asks, is_unknown & (Phone.last_fetch_at >= made))
    since = Move.read(account.rotation).unsettled_since
    return asks if since is None else and_(asks, or_(Phone.last_fetch_at >= began, Phone.last_fetch_at < since))


def _straggles() -> ColumnElement[bool]:
    return and_(
        Phone.straggled_at.is_not(None), or_(Phone.last_fetch_at.is_(None), Phone.straggled_at > Phone.last_fetch_at)
    )


async def _listed(
    session: AsyncSession, account_id: str, condition: ColumnElement[bool], order: ColumnElement[dt.datetime | None]
) -> tuple[PhoneSeen, ...]:
    query = select(*_SEEN).where(Phone.account_id == account_id, condition).order_by(order, Phone.id).limit(MAX_LISTED)
    return tuple(PhoneSeen(*row) for row in await session.execute(query))
