"""SQL of how long an account's records are kept, and of the sign-ins that are too old."""

import datetime as dt
from collections.abc import Mapping

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store
from engine.accounts.keeping import DEFAULT, Keeping
from engine.accounts.store import OPERATORS
from engine.ids import least_id
from engine.models import Account, RefusedKey, RemovalNote, Role, Session, StorageSettings, User, UserStatus

COUNTED = 10_000  # rows that a count looks at; beyond it "at least" is told


async def settings_row(session: AsyncSession, account_id: str) -> StorageSettings | None:
    return await session.get(StorageSettings, account_id)


async def settings_row_to_change(session: AsyncSession, account_id: str) -> StorageSettings:
    """The account's settings as a row that may be changed; the caller holds the account's lock."""
    return await store.only_row_to_change(session, StorageSettings, account_id, DEFAULT.values())


async def keepings(session: AsyncSession) -> Mapping[str, Keeping]:
    """What every account said of it, by account; one that said nothing has the defaults."""
    rows = {row.account_id: row for row in await session.scalars(select(StorageSettings))}
    return {identity: Keeping.of(rows.get(identity)) for identity in await session.scalars(select(Account.id))}


async def sign_ins_held(session: AsyncSession, account_id: str) -> tuple[int, dt.datetime | None]:
    """How many ended sessions the account has, `COUNTED` at most, and when the oldest began."""
    ended = select(Session.id).where(Session.account_id == account_id, Session.ended_at.is_not(None))
    count = await session.scalar(select(func.count()).select_from(ended.limit(COUNTED).subquery())) or 0
    oldest = select(Session.created_at).where(Session.account_id == account_id, Session.ended_at.is_not(None))
    return count, await session.scalar(oldest.order_by(Session.id).limit(1))


async def old_sign_ins(session: AsyncSession, account_id: str, end: dt.datetime, limit: int) -> list[str]:
    """The oldest sessions that ended before that time. A session that goes on is never one of them."""
    before = least_id("session", int(end.timestamp() * 1000))  # what ended before then began before then
    query = select(Session.id).where(Session.account_id == account_id, Session.id < before, Session.ended_at < end)
    return list(await session.scalars(query.order_by(Session.id).limit(limit)))


async def remove_sign_ins(session: AsyncSession, ids: list[str]) -> None:
    await session.execute(delete(Session).where(Session.id.in_(ids)))


async def old_refused_keys(session: AsyncSession, account_id: str, end: dt.datetime, limit: int) -> list[str]:
    before = least_id("refused_key", int(end.timestamp() * 1000))
    query = select(RefusedKey.id).where(
        RefusedKey.account_id == account_id, RefusedKey.id < before, RefusedKey.at < end
    )
    return list(await session.scalars(query.order_by(RefusedKey.id).limit(limit)))


async def remove_refused_keys(session: AsyncSession, ids: list[str]) -> None:
    await session.execute(delete(RefusedKey).where(RefusedKey.id.in_(ids)))


async def count_old_sign_ins(session: AsyncSession, account_id: str, end: dt.datetime) -> int:
    """How many sessions ended before that time, `COUNTED` at most."""
    return len(await old_sign_ins(session, account_id, end, COUNTED))


async def fetch_log_days(session: AsyncSession) -> Mapping[str, int]:
    """For how many days each account keeps what its phones fetched; one with an impossible number is left out."""
    kept = (await keepings(session)).items()
    return {identity: keeping.fetch_log_days for identity, keeping in kept if keeping.is_valid("fetch_log_days")}


async def platform_people(session: AsyncSession) -> list[str]:
    """Who runs the platform: its active operators' addresses; where there are none, the owners of the one account that
    there is. Where there are several, none of theirs runs it.
    """
    active = select(User.email).where(User.status == UserStatus.ACTIVE)
    operators = list(await session.scalars(active.where(User.account_id == OPERATORS).order_by(User.id)))
    if operators or len(await store.accounts_after(session, limit=2)) > 1:
        return operators
    return list(await session.scalars(active.where(User.role == Role.OWNER).order_by(User.id)))


async def removal_note(session: AsyncSession, name: str) -> RemovalNote | None:
    """What the removal of old records said last of that chain, or of the `clock`."""
    return await session.get(RemovalNote, name)


async def set_removal_note(session: AsyncSession, name: str, words: str, at: dt.datetime | None = None) -> None:
    """Say why nothing leaves, or with empty words that all is well; without `at` the last time stays."""
    row = await session.get(RemovalNote, name)
    if row is None:
        session.add(RemovalNote(name=name, at=at, words=words))
        return
    row.at, row.words = at or row.at, words


async def removal_faults(session: AsyncSession) -> list[RemovalNote]:
    """Why old records are not removed, for whoever looks after the node; empty: nothing is in the way."""
    query = select(RemovalNote).where(RemovalNote.words != "").order_by(RemovalNote.name)
    return list(await session.scalars(query))
