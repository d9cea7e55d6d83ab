"""This room's SQL about signing in: policies, second factors, half-open sign-ins, remembered devices, refused keys.

Nothing here commits, save that a try at a code counts whatever becomes of its request: see `count_try`.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store
from engine.accounts.policy import DEFAULT, Policy
from engine.accounts.throttle import EMAIL_FROM_ADDRESS, Rule
from engine.db import Database, utc_now
from engine.ids import new_id
from engine.models import (
    Account,
    Credential,
    PendingSignIn,
    RefusedKey,
    RememberedDevice,
    Role,
    SecurityPolicy,
    Session,
    User,
    UserStatus,
)

TOTP, EMAIL, RECOVERY = "totp", "email", "recovery"  # kinds of credentials that are second factors
FACTORS = (TOTP, EMAIL, RECOVERY)
KEPT_AFTER = dt.timedelta(days=1)  # a half-open sign-in that ran out, until it is swept away
CLOSED_AT_ONCE = 500  # expired sessions that one transaction writes the end of


async def policy_row(session: AsyncSession, account_id: str) -> SecurityPolicy | None:
    return await session.get(SecurityPolicy, account_id)


async def policy_of(session: AsyncSession, account_id: str) -> Policy:
    """The account's security policy; the defaults where it never said anything."""
    return Policy.of(await policy_row(session, account_id))


async def policy_row_to_change(session: AsyncSession, account_id: str) -> SecurityPolicy:
    """The account's policy as a row that may be changed; the caller holds the account's lock."""
    return await store.only_row_to_change(session, SecurityPolicy, account_id, DEFAULT.values())


async def strictest_rule(session: AsyncSession) -> Rule:
    """How fast passwords may be guessed from one address: the strictest of all accounts.

    The same for every address that is typed, so that the pause tells nobody whose it is.
    """
    query = select(func.min(SecurityPolicy.failed_sign_ins), func.max(SecurityPolicy.pause_s), func.count())
    failures, pause_s, said = (await session.execute(query)).one()
    if not said:
        return EMAIL_FROM_ADDRESS
    accounts = (await session.execute(select(func.count()).select_from(Account))).scalar_one()
    if accounts > said:  # the rest have the defaults
        failures, pause_s = min(failures, EMAIL_FROM_ADDRESS.free), max(pause_s, int(EMAIL_FROM_ADDRESS.max_s))
    return Rule(free=failures, max_s=float(pause_s))


@dataclass(frozen=True, slots=True)
class Factors:
    """What a user has besides a password. Credentials are rows of the session that read them."""

    totp: Credential | None = None
    email: Credential | None = None
    recovery: Credential | None = None


async def factors_of(session: AsyncSession, user_id: str, *, for_update: bool = False) -> Factors:
    """The user's second factors, those that are set up."""
    query = select(Credential).where(Credential.user_id == user_id, Credential.kind.in_(FACTORS))
    if for_update:
        query = query.with_for_update().execution_options(populate_existing=True)
    return Factors(**{row.kind: row for row in await session.scalars(query)})


async def users_without_factor(session: AsyncSession, account_id: str) -> int:
    """How many active users have neither an authenticator app nor codes by mail."""
    has_one = select(Credential.user_id).where(Credential.kind.in_((TOTP, EMAIL)))
    query = select(func.count()).where(
        User.account_id == account_id, User.status == UserStatus.ACTIVE, User.id.not_in(has_one)
    )
    return (await session.execute(query)).scalar_one()


async def users_with_mail_alone(session: AsyncSession, account_id: str) -> int:
    """How many active users have codes by mail and no authenticator app."""
    has_app = select(Credential.user_id).where(Credential.kind == TOTP)
    query = (
        select(func.count())
        .select_from(User)
        .join(Credential, and_(Credential.user_id == User.id, Credential.kind == EMAIL))
        .where(User.account_id == account_id, User.status == UserStatus.ACTIVE, User.id.not_in(has_app))
    )
    return (await session.execute(query)).scalar_one()


async def sessions_by_password_alone(session: AsyncSession, account_id: str) -> Sequence[Session]:
    """The account's sessions that nobody has ended and no second factor opened; displays are none of them."""
    query = select(Session).where(
        Session.account_id == account_id, Session.ended_at.is_(None), Session.method == store.PASSWORD
    )
    return (await session.scalars(query)).all()


async def kinds_by_user(session: AsyncSession, user_ids: Sequence[str]) -> dict[str, set[str]]:
    """The second factors of many users, by kind."""
    found: dict[str, set[str]] = {user_id: set() for user_id in user_ids}
    query = select(Credential.user_id, Credential.kind).where(
        Credential.user_id.in_(user_ids), Credential.kind.in_((TOTP, EMAIL))
    )
    for user_id, kind in await session.execute(query):
        found[user_id].add(kind)
    return found


async def pending_by_cookie(session: AsyncSession, cookie_hash: str) -> tuple[PendingSignIn, User, Account] | None:
    """The half-open sign-in behind a cookie while it may go on, with its user and account."""
    query = (
        select(PendingSignIn, User, Account)
        .join(User, User.id == PendingSignIn.user_id)
        .join(Account, Account.id == User.account_id)
        .where(PendingSignIn.cookie_hash == cookie_hash, PendingSignIn.expires_at > utc_now())
    )
    found = (await session.execute(query)).first()
    return None if found is None else (found[0], found[1], found[2])


async def pending_to_finish(session: AsyncSession, pending_id: str) -> PendingSignIn | None:
    """That half-open sign-in, locked; None when it ran out or was finished by another request."""
    query = select(PendingSignIn).where(PendingSignIn.id == pending_id, PendingSignIn.expires_at > utc_now())
    return (await session.scalars(query.with_for_update().execution_options(populate_existing=True))).first()


async def user_to_sign_in(session: AsyncSession, pending_id: str) -> User | None:
    """Whose half-open sign-in that is, locked."""
    whose = select(PendingSignIn.user_id).where(PendingSignIn.id == pending_id).scalar_subquery()
    return (await session.scalars(select(User).where(User.id == whose).with_for_update())).first()


async def drop_pending(session: AsyncSession, user_id: str, *, but: str = "", cookie_hash: str = "") -> None:
    """Forget the user's half-open sign-ins, or the one of that cookie alone."""
    query = delete(PendingSignIn).where(PendingSignIn.user_id == user_id, PendingSignIn.id != but)
    if cookie_hash:
        query = query.where(PendingSignIn.cookie_hash == cookie_hash)
    await session.execute(query)


async def count_try(database: Database, pending_id: str, at_most: int) -> bool:
    """Count one try at a code, in a transaction of its own: a refused request is rolled back, its try is not.

    Returns whether it was still within `at_most`.
    """
    async with database.sessions.begin() as session:
        done = await session.execute(
            update(PendingSignIn)
            .where(PendingSignIn.id == pending_id, PendingSignIn.tries < at_most)
            .values(tries=PendingSignIn.tries + 1)
        )
    return bool(done.rowcount == 1)  # type: ignore[attr-defined]  # of an update, this is a cursor's result


async def device_of(session: AsyncSession, device_id: str, user_id: str) -> RememberedDevice | None:
    """The user's remembered device of that id while nobody ended it."""
    row = await session.get(RememberedDevice, device_id)
    return row if row is not None and row.user_id == user_id and row.ended_at is None else None


async def devices_of(session: AsyncSession, user_id: str, policy: Policy) -> Sequence[RememberedDevice]:
    """The browsers that are spared the second factor, newest first; at most 100."""
    query = (
        select(RememberedDevice)
        .where(
            RememberedDevice.user_id == user_id,
            RememberedDevice.ended_at.is_(None),
            RememberedDevice.created_at >= utc_now() - policy.remembered_for,
        )
        .order_by(RememberedDevice.id.desc())
        .limit(100)
    )
    return (await session.scalars(query)).all()


async def end_devices(session: AsyncSession, *, user_id: str = "", account_id: str = "", device_id: str = "") -> int:
    """Remember no more: all devices of a user or account, or one of them. Returns how many that were."""
    conditions: list[ColumnElement[bool]] = [RememberedDevice.ended_at.is_(None)]
    for column, value in (
        (RememberedDevice.user_id, user_id),
        (RememberedDevice.account_id, account_id),
        (RememberedDevice.id, device_id),
    ):
        if value:
            conditions.append(column == value)
    assert len(conditions) > 1, "whose devices?"
    done = await session.execute(update(RememberedDevice).where(*conditions).values(ended_at=utc_now()))
    return int(done.rowcount)  # type: ignore[attr-defined]  # of an update, this is a cursor's result


async def unused_under(session: AsyncSession, account_id: str, policy: Policy) -> list[User]:
    """Active users whom that policy disables: for so long they neither signed in nor were changed by anybody.

    Of the account's owners at least one is never among them: the one who was here last.
    """
    if not policy.inactive_days:
        return []
    since = utc_now() - dt.timedelta(days=policy.inactive_days)
    query = select(User).where(
        User.account_id == account_id,
        User.status == UserStatus.ACTIVE,
        User.updated_at < since,
        or_(User.last_login_at.is_(None), User.last_login_at < since),
    )
    found = list(await session.scalars(query.order_by(User.id)))
    owners = [user for user in found if user.role == Role.OWNER]
    if owners and len(owners) == await store.active_owners(session, account_id):
        found.remove(max(owners, key=lambda user: user.last_login_at or user.created_at))
    return found


async def policies_with_inactivity(session: AsyncSession) -> Sequence[SecurityPolicy]:
    return (await session.scalars(select(SecurityPolicy).where(SecurityPolicy.inactive_days > 0))).all()


def is_fresh(policy: Policy, now: dt.datetime) -> ColumnElement[bool]:
    """Whether no clock has ended a session: the account's two, or for a display the one of its own."""
    in_use = and_(Session.seen_at >= now - policy.idle, Session.created_at >= now - policy.absolute)
    shows = and_(Session.method == store.DISPLAY, Session.created_at >= now - store.DISPLAY_FOR)
    return or_(and_(Session.method != store.DISPLAY, in_use), shows)


async def expired_sessions(session: AsyncSession, account_id: str, policy: Policy) -> Sequence[Session]:
    """Sessions that a clock has ended and no row says so yet; as many as one transaction takes."""
    now = utc_now()
    query = (
        select(Session)
        .where(
            Session.account_id == account_id,
            Session.ended_at.is_(None),
            ~is_fresh(policy, now),
        )
        .limit(CLOSED_AT_ONCE)
    )
    return (await session.scalars(query)).all()


async def sweep_pending(session: AsyncSession) -> None:
    await session.execute(delete(PendingSignIn).where(PendingSignIn.expires_at < utc_now() - KEPT_AFTER))


async def note_refused_key(
    session: AsyncSession, *, hint: str, ip: str, user_agent: str, reason: str, key: tuple[str, str, str] | None
) -> None:
    """Count a request with an API key that is none.

    Args:
        hint: The beginning of what was sent.
        key: (account id, key id, name) of one that was a key once.
    """
    now = utc_now()
    account_id, key_id, name = key or (None, None, "")
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    row = (sqlite.insert if is_sqlite else postgresql.insert)(RefusedKey).values(
        id=new_id("refused_key"), account_id=account_id, api_key_id=key_id, name=name, hint=hint, ip=ip, count=1,
        user_agent=user_agent, reason=reason, minute=now.replace(second=0, microsecond=0), at=now,
    )  # fmt: skip
    counted = {"count": RefusedKey.count + 1, "at": now}
    await session.execute(row.on_conflict_do_update(index_elements=["minute", "hint", "ip"], set_=counted))
