"""Who reads the audit log: whether they still may, whom to ask for it, and which keys act for whom."""

import datetime as dt
from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts.authlog import End, end_of
from engine.accounts.policy import Policy
from engine.accounts.scopes import Scope, scopes_of_key, scopes_of_role
from engine.models import ApiKey, Role, SecurityPolicy, Session, User, UserStatus

ASKED_FIRST = (Role.OWNER, Role.ACCOUNT_MANAGER)  # S2-15: "they can contact their Account Manager"
SHOWN = 12
OFFERED = 50  # people in a dropdown: an account of hundreds makes it heavy, and nobody reads it


async def people_to_ask(session: AsyncSession, account_id: str) -> list[User]:
    """The account's active owners and account managers, managers first: they can change what somebody may do."""
    query = select(User).where(
        User.account_id == account_id, User.status == UserStatus.ACTIVE, User.role.in_(ASKED_FIRST)
    )
    people = (await session.scalars(query.order_by(User.id).limit(SHOWN))).all()
    return sorted(people, key=lambda user: user.role != Role.ACCOUNT_MANAGER)


async def acting_for(session: AsyncSession, account_id: str, user_id: str) -> frozenset[str]:
    """The user's identifier and those of all API keys that go back to them, keys made by keys included."""
    made = (await session.execute(select(ApiKey.id, ApiKey.created_by).where(ApiKey.account_id == account_id))).all()
    found = {user_id}
    while fresh := {key for key, maker in made if maker in found} - found:
        found |= fresh
    return frozenset(found)


async def people_of_log(session: AsyncSession, account_id: str, chosen: str = "") -> Sequence[User]:
    """Whom a list of the audit log offers, by name: those who signed in last, removed ones too, and the chosen one."""
    recent = User.last_login_at.desc().nulls_last()
    query = select(User).where(User.account_id == account_id).order_by(recent, User.id).limit(OFFERED)
    found = list((await session.scalars(query)).all())
    if chosen and all(user.id != chosen for user in found):
        found += [user] if (user := await person_of_log(session, account_id, chosen)) else []
    return sorted(found, key=lambda user: (user.name, user.email))


async def called(session: AsyncSession, account_id: str, prefix: str) -> frozenset[str]:
    """The users and API keys, removed ones too, whose name begins so in any letters. Entries hold it in their text."""
    people = await session.execute(select(User.id, User.name).where(User.account_id == account_id))
    keys = await session.execute(select(ApiKey.id, ApiKey.name).where(ApiKey.account_id == account_id))
    named = (*people, *keys)
    return frozenset(actor_id for actor_id, name in named if name.casefold().startswith(prefix.casefold()))


async def person_of_log(session: AsyncSession, account_id: str, user_id: str) -> User | None:
    """Somebody an entry speaks of, whether or not they were removed since."""
    return await session.scalar(select(User).where(User.account_id == account_id, User.id == user_id))


async def may_still_read(session: AsyncSession, holders: Collection[str], now: dt.datetime) -> frozenset[str]:
    """Which of these sessions and API keys are alive and still allowed to read the audit log; one question for all."""
    sessions = (
        select(Session, User, SecurityPolicy)
        .join(User, User.id == Session.user_id)
        .outerjoin(SecurityPolicy, SecurityPolicy.account_id == User.account_id)
        .where(Session.id.in_(holders))
    )
    found = {
        row.id
        for row, user, policy in await session.execute(sessions)
        if end_of(row, Policy.of(policy), now)[0] is End.RUNNING
        and user.status == UserStatus.ACTIVE
        and Scope.AUDIT_READ in scopes_of_role(user.role)
    }
    keys = await session.scalars(select(ApiKey).where(ApiKey.id.in_(holders), ApiKey.revoked_at.is_(None)))
    found |= {
        key.id
        for key in keys
        if (key.expires_at is None or key.expires_at > now) and Scope.AUDIT_READ in scopes_of_key(key.scopes)
    }
    return frozenset(found)
