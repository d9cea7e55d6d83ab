"""Signing in and out: who is behind a cookie, a password or an API key, and for how long.

Theory of operation. A password is compared before any write transaction is open (argon2 takes tens of milliseconds;
the database has one writer). What comes out is a `Proof`; the operation that uses it is short. A session ends by
itself after `store.IDLE` without a request and `store.ABSOLUTE` in any case; ending is a row's `ended_at`, so a
revoked session is dead at its next request.
"""

import datetime as dt
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store
from engine.accounts.addresses import email_fault, plain_email
from engine.accounts.keys import digest, is_api_key, mint_cookie
from engine.accounts.passwords import PasswordDesk
from engine.accounts.throttle import Throttle
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import Database, utc_now
from engine.errors import Forbidden, NotAuthenticated, TooManyRequests
from engine.ids import new_id
from engine.models import Account, ApiKey, Session, User, UserStatus

PROVEN_FOR = dt.timedelta(minutes=15)  # how long a typed password opens secrets
SEEN_EVERY = dt.timedelta(minutes=1)  # `seen_at` moves at most this often
_REFUSED = "The e-mail address and the password do not belong together."


class SignInRefused(NotAuthenticated):
    """Wrong e-mail address, wrong password or a disabled user: the answers are alike.

    `account_id`, `user_id`, `reason` and `email` are for the logs alone.
    """

    def __init__(
        self, account_id: str | None = None, user_id: str | None = None, *, reason: str, email: str = ""
    ) -> None:
        super().__init__(_REFUSED)
        self.account_id, self.user_id = account_id, user_id
        self.reason, self.email = reason, _plain_typed(email)


class SignInSlowed(TooManyRequests):
    """Too many failures before this one; what was typed was not looked at. Fields as of `SignInRefused`."""

    reason = "throttled"

    def __init__(self, refused: TooManyRequests, user: User | None, email: str) -> None:
        super().__init__(refused.detail, retry_after_s=refused.retry_after_s)
        self.account_id = None if user is None else user.account_id
        self.user_id = None if user is None else user.id
        self.email = _plain_typed(email)


def _plain_typed(email: str) -> str:
    """What was typed as an e-mail address, when it is one: people type passwords there, and no log keeps those."""
    return "" if email_fault("email", email) else plain_email(email)


class ProofRequired(Forbidden):
    """The password has to be typed again before this is shown."""

    title = "Type your password again"

    def __init__(self) -> None:
        super().__init__("This shows a secret: type your password again. It opens secrets for 15 minutes.")


@dataclass(frozen=True, slots=True)
class Proof:
    """Somebody typed this user's password just now."""

    user_id: str
    account_id: str
    email: str
    name: str
    role: str
    at: dt.datetime


async def check_password(
    database: Database, desk: PasswordDesk, throttle: Throttle, *, email: str, password: str, ip: str, now: float
) -> Proof:
    """Compare a password outside of any write transaction. `now`: loop time in seconds.

    Raises:
        SignInRefused: they do not belong together, or the user is disabled.
        SignInSlowed: too many failures from there or for that address.
    """
    async with database.sessions() as session:
        user = await store.user_by_email(session, email)
        credential = None if user is None else await store.password_of(session, user.id)
    try:
        throttle.admit(email, ip, now)
    except TooManyRequests as exc:
        raise SignInSlowed(exc, user, email) from exc
    is_right = await desk.matches(password, None if credential is None else credential.hash)
    if user is None:
        raise SignInRefused(reason="unknown_user", email=email)
    if user.status == UserStatus.DISABLED or (is_right and user.status != UserStatus.ACTIVE):
        raise SignInRefused(user.account_id, user.id, reason="user_disabled", email=email)
    if not is_right:
        reason = "wrong_password" if credential is not None else "no_password_yet"
        raise SignInRefused(user.account_id, user.id, reason=reason, email=email)
    throttle.forgive(email, ip)
    return Proof(user.id, user.account_id, user.email, user.name, user.role, utc_now())


async def start_session(
    session: AsyncSession, user: User, *, ip: str, user_agent: str, method: str = store.PASSWORD
) -> str:
    """Open a session for that user. Returns the cookie's clear text; its SHA-256 is what is stored.

    Records nothing: it is part of an operation that does (signing in, setting up).
    """
    now = utc_now()
    cookie = mint_cookie()
    session.add(
        Session(
            id=new_id("session"), user_id=user.id, account_id=user.account_id, cookie_hash=digest(cookie),
            method=method, ip=ip, user_agent=user_agent, created_at=now, seen_at=now, proven_at=now,
        )
    )  # fmt: skip
    user.last_login_at = now
    return cookie


async def sign_in(
    session: AsyncSession, actor: Actor, proof: Proof, *, replaces: Session | None = None
) -> tuple[User, str]:
    """Open a session for who typed the password. Returns the user and the cookie's clear text.

    Args:
        replaces: The session this browser still had; it ends, told apart from one that was signed out.

    Raises:
        SignInRefused: the user was disabled or deleted in between.
    """
    user = await session.get(User, proof.user_id)
    if user is None or user.status != UserStatus.ACTIVE:
        raise SignInRefused(proof.account_id, proof.user_id, reason="user_disabled", email=proof.email)
    if replaces is not None:
        _end(replaces, "replaced")
    cookie = await start_session(session, user, ip=actor.ip, user_agent=actor.user_agent)
    record(session, as_user(actor, user), Event.SESSION_CREATE, user)
    return user, cookie


async def sign_out(session: AsyncSession, actor: Actor, row: Session) -> None:
    """End one's own session."""
    _end(row, "signed_out")
    record(session, actor, Event.SESSION_DELETE, row, resource=("session", row.id, actor.name))


async def revoke_session(session: AsyncSession, actor: Actor, row: Session) -> None:
    """End anybody's session of this account; its next request is refused."""
    _end(row, "revoked")
    record(session, actor, Event.SESSION_DELETE, row, resource=("session", row.id, ""))


async def end_sessions_of(session: AsyncSession, user_id: str, reason: str, *, but: str | None = None) -> None:
    """End all of a user's sessions except `but`. Records nothing: part of an operation that does."""
    for row in await store.sessions_of_user(session, user_id):
        if row.id != but:
            _end(row, reason)


async def prove(session: AsyncSession, actor: Actor, row: Session, proof: Proof) -> None:
    """The password was typed again: secrets are open for `PROVEN_FOR`.

    Raises:
        SignInRefused: it was another user's password.
    """
    if proof.user_id != row.user_id:
        raise SignInRefused(row.account_id, row.user_id, reason="another_users_password", email=proof.email)
    row.proven_at = proof.at
    record(session, actor, Event.SESSION_PROVE, row, resource=("session", row.id, actor.name))


def as_user(actor: Actor, user: User) -> Actor:
    """The same request, now that it is known whose it is."""
    return Actor(
        "user", user.id, user.email, actor.ip, user.account_id, user.name, user.role,
        actor.user_agent, actor.request_id, actor.method, actor.route,
    )  # fmt: skip


async def who_holds_cookie(session: AsyncSession, cookie: str) -> tuple[Session, User, Account]:
    """The living session behind a cookie; moves its `seen_at`.

    Raises:
        NotAuthenticated: unknown, ended, too old, too long idle, or the user is disabled.
    """
    found = await store.session_by_cookie(session, digest(cookie))
    now = utc_now()
    if found is None or not _is_alive(found[0], now) or found[1].status != UserStatus.ACTIVE:
        raise NotAuthenticated("Your session has ended. Sign in again.")
    if now - found[0].seen_at > SEEN_EVERY:
        found[0].seen_at = now
    return found


async def who_holds_key(session: AsyncSession, key: str, ip: str) -> tuple[ApiKey, Account]:
    """The living API key of that clear text; notes its use. A wrong checksum is refused without the database.

    Raises:
        NotAuthenticated: malformed, unknown, revoked or expired.
    """
    refused = NotAuthenticated("This API key is not known, was revoked, or has expired.")
    if not is_api_key(key):
        raise refused
    found = await store.api_key_by_hash(session, digest(key))
    now = utc_now()
    if found is None:
        raise refused
    row, account = found
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        raise refused
    if row.last_used_at is None or now - row.last_used_at > SEEN_EVERY or row.last_used_ip != ip:
        row.last_used_at, row.last_used_ip = now, ip
    return row, account


def is_proven(row: Session) -> bool:
    """Whether the password was typed recently enough to show a secret."""
    return utc_now() - row.proven_at <= PROVEN_FOR


def _is_alive(row: Session, now: dt.datetime) -> bool:
    return row.ended_at is None and now - row.seen_at <= store.IDLE and now - row.created_at <= store.ABSOLUTE


def _end(row: Session, reason: str) -> None:
    if row.ended_at is None:
        row.ended_at = utc_now()
        row.end_reason = reason
