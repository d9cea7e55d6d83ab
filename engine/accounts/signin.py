"""Signing in and out: who is behind a cookie, a password or an API key, and for how long.

Theory of operation. A password is compared before any write transaction is open (argon2 takes tens of milliseconds;
the database has one writer). What comes out is a `Proof`; the operation that uses it is short. A session ends by
itself when the account's policy says so: so long without a request, so long in any case. Ending is a row's `ended_at`,
so a revoked session is dead at its next request. What comes between the password and the session is in `half_open`.
"""

import datetime as dt
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store, store_signin
from engine.accounts.addresses import email_fault, plain_email
from engine.accounts.keys import digest, hint_of, is_api_key, mint_cookie
from engine.accounts.passwords import PasswordDesk
from engine.accounts.policy import Policy
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
_ENDED = "Your session has ended. Sign in again."


class SignInRefused(NotAuthenticated):
    """Wrong e-mail address, wrong password or a disabled user: the answers are alike.

    `account_id`, `user_id`, `reason`, `email` and `method` are for the logs alone.
    """

    words = _REFUSED

    def __init__(
        self,
        account_id: str | None = None,
        user_id: str | None = None,
        *,
        reason: str,
        email: str = "",
        method: str = store.PASSWORD,
    ) -> None:
        super().__init__(self.words)
        self.account_id, self.user_id = account_id, user_id
        self.reason, self.email, self.method = reason, _plain_typed(email), method


class SignInSlowed(TooManyRequests):
    """Too many failures before this one; what was typed was not looked at. Fields as of `SignInRefused`."""

    reason = "throttled"

    def __init__(self, refused: TooManyRequests, user: User | None, email: str, method: str = store.PASSWORD) -> None:
        super().__init__(refused.detail, retry_after_s=refused.retry_after_s)
        self.method = method
        self.account_id = None if user is None else user.account_id
        self.user_id = None if user is None else user.id
        self.email = _plain_typed(email)


class ApiKeyRefused(NotAuthenticated):
    """No API key, or none any more: the answers are alike.

    `hint` is the beginning of what was sent when it looks like one of ours; `reason` and `key` (account id, key id,
    name of one that was a key once) are for the logs alone.
    """

    def __init__(self, sent: str, reason: str, row: ApiKey | None = None) -> None:
        super().__init__("This API key is not known, was revoked, or has expired.")
        is_ours = sent.startswith("cp_") and sent.isascii() and sent.replace("_", "").isalnum()
        self.hint = hint_of(sent) if is_ours else ""
        self.reason = reason
        self.key = None if row is None else (row.account_id, row.id, row.name)


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
        rule = await store_signin.strictest_rule(session)
        is_unused = user is not None and await is_left_unused(session, user)
    try:
        throttle.admit(email, ip, now, rule)
    except TooManyRequests as exc:
        raise SignInSlowed(exc, user, email) from exc
    is_right = await desk.matches(password, None if credential is None else credential.hash)
    if user is None:
        raise SignInRefused(reason="unknown_user", email=email)
    if user.status == UserStatus.DISABLED or (is_right and user.status != UserStatus.ACTIVE):
        raise SignInRefused(user.account_id, user.id, reason="user_disabled", email=email)
    if is_right and is_unused:
        raise SignInRefused(user.account_id, user.id, reason="user_inactive", email=email)
    if not is_right:
        reason = "wrong_password" if credential is not None else "no_password_yet"
        raise SignInRefused(user.account_id, user.id, reason=reason, email=email)
    throttle.forgive(email, ip)
    return Proof(user.id, user.account_id, user.email, user.name, user.role, utc_now())


async def is_left_unused(session: AsyncSession, user: User) -> bool:
    """Whether the account's policy disables this user, who was away for too long; its last owner never."""
    policy = await store_signin.policy_of(session, user.account_id)
    unused = await store_signin.unused_under(session, user.account_id, policy)
    return any(one.id == user.id for one in unused)


async def start_session(
    session: AsyncSession, user: User, *, ip: str, user_agent: str, method: str = store.PASSWORD,
    proven_at: dt.datetime | None = None,
) -> str:  # fmt: skip
    """Open a session for that user. Returns the cookie's clear text; its SHA-256 is what is stored.

    `proven_at`: when the password was typed; None: now.
    Records nothing: it is part of an operation that does (signing in, setting up).
    """
    now = utc_now()
    cookie = mint_cookie()
    session.add(
        Session(
            id=new_id("session"), user_id=user.id, account_id=user.account_id, cookie_hash=digest(cookie),
            method=method, ip=ip, user_agent=user_agent, created_at=now, seen_at=now,
            proven_at=proven_at or now,
        )
    )  # fmt: skip
    user.last_login_at = now
    return cookie


def replace_session(row: Session | None) -> None:
    """The session this browser still had ends, told apart from one that was signed out."""
    if row is not None:
        end_session(row, "replaced")


async def sign_out(session: AsyncSession, actor: Actor, row: Session) -> None:
    """End one's own session."""
    end_session(row, "signed_out")
    record(session, actor, Event.SESSION_DELETE, row, resource=("session", row.id, actor.name))


async def revoke_session(session: AsyncSession, actor: Actor, row: Session) -> None:
    """End anybody's session of this account; its next request is refused. The entry says whose it was."""
    end_session(row, "revoked")
    user = await store.row_of(session, User, row.account_id, row.user_id)
    email = user.email.partition("#")[0]  # as it was before its user was removed
    since = row.created_at.isoformat(timespec="seconds")
    details = {"user_id": user.id, "email": email, "method": row.method, "ip": row.ip, "since": since}
    record(session, actor, Event.SESSION_DELETE, row, resource=("session", row.id, user.name or email), details=details)


async def revoke_other_sessions(session: AsyncSession, actor: Actor, user: User, but: Session) -> None:
    """End all of one's own sessions but the present one."""
    await end_sessions_of(session, user.id, "revoked", but=but.id)
    record(session, actor, Event.SESSION_DELETE, resource=("session", "others", actor.name), account_id=user.account_id)


async def end_sessions_of(session: AsyncSession, user_id: str, reason: str, *, but: str | None = None) -> None:
    """End all of a user's sessions except `but`. Records nothing: part of an operation that does."""
    for row in await store.sessions_of_user(session, user_id):
        if row.id != but:
            end_session(row, reason)


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
    if found is None:
        raise NotAuthenticated(_ENDED)
    row, user, account, policy = found
    if not _is_alive(row, now, policy) or user.status != UserStatus.ACTIVE:
        raise NotAuthenticated(_ENDED)
    if now - row.seen_at > SEEN_EVERY:
        row.seen_at = now
    return row, user, account


async def who_holds_key(session: AsyncSession, key: str, ip: str) -> tuple[ApiKey, Account]:
    """The living API key of that clear text; notes its use. A wrong checksum is refused without the database.

    Raises:
        ApiKeyRefused: malformed, unknown, revoked or expired.
    """
    if not is_api_key(key):
        raise ApiKeyRefused(key, "malformed_key")
    found = await store.api_key_by_hash(session, digest(key))
    now = utc_now()
    if found is None:
        raise ApiKeyRefused(key, "unknown_key")
    row, account = found
    if row.revoked_at is not None:
        raise ApiKeyRefused(key, "key_revoked", row)
    if row.expires_at is not None and row.expires_at <= now:
        raise ApiKeyRefused(key, "key_expired", row)
    if row.last_used_at is None or now - row.last_used_at > SEEN_EVERY or row.last_used_ip != ip:
        row.last_used_at, row.last_used_ip = now, ip
    return row, account


def is_proven(row: Session) -> bool:
    """Whether the password was typed recently enough to show a secret."""
    return utc_now() - row.proven_at <= PROVEN_FOR


def _is_alive(row: Session, now: dt.datetime, policy: Policy) -> bool:
    if row.method == store.DISPLAY:  # it has no idle end: `displays`
        return row.ended_at is None and now - row.created_at <= store.DISPLAY_FOR
    return row.ended_at is None and now - row.seen_at <= policy.idle and now - row.created_at <= policy.absolute


def end_session(row: Session, reason: str) -> None:
    """End it, unless it has ended. Records nothing: part of an operation that does."""
    if row.ended_at is None:
        row.ended_at = utc_now()
        row.end_reason = reason
