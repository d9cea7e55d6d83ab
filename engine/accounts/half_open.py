"""Between a right password and a session: the second factor, setting one up, a password that is too old.

Theory of operation. A right password opens a session only when nothing else is asked for. Otherwise it opens a
half-open sign-in: a row of ten minutes behind a cookie of its own, which no page and no API looks at but the pages that
finish it. A code is compared outside of any write transaction, after the try was counted in one of its own: a refused
request is rolled back, its try is not. What was compared is used up in the transaction that opens the session, under a
lock, so that no code counts twice. Who guesses is slowed as for passwords, by user and by address.
"""

import datetime as dt
import hmac
import json
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import devices, store, store_signin, totp, two_factor
from engine.accounts.codes import is_mail_code, mail_hash, mint_mail_code, recovery_hash, typed_code
from engine.accounts.keys import digest, mint_cookie
from engine.accounts.policy import Policy, Remember
from engine.accounts.signin import (
    Proof,
    SignInRefused,
    SignInSlowed,
    as_user,
    end_sessions_of,
    replace_session,
    start_session,
)
from engine.accounts.store_signin import EMAIL, RECOVERY, TOTP, Factors
from engine.accounts.throttle import Throttle
from engine.accounts.users import set_password
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.errors import Conflict, TooManyRequests
from engine.ids import new_id
from engine.models import PendingSignIn, Session, User, UserStatus

CODE_PURPOSE = "sign-in-code"  # of the key ring's subkey
LIFETIME = dt.timedelta(minutes=10)  # of a half-open sign-in, and of a mailed code
MAX_TRIES = 5  # codes for one half-open sign-in or one mailed code
MAX_CODES = 3  # mailed for one half-open sign-in
MAIL_PAUSE = dt.timedelta(seconds=30)
METHODS = {TOTP: "password_totp", EMAIL: "password_email", RECOVERY: "recovery_code"}  # as sessions name them
REMEMBERED = "remembered_device"


class Stage(StrEnum):
    """What a half-open sign-in waits for."""

    CODE = "code"  # a code of a second factor
    ENROL = "enrol"  # a second factor to be set up: the account requires one
    RENEW = "renew"  # a new password: the old one is past its age
    PROFILE = "profile"  # no sign-in: somebody who is signed in sets a second factor up


class CodeRefused(SignInRefused):
    """A code that is not right. Who types is told one sentence for all reasons; see `SignInRefused`."""

    words = "This code is not right, was used before, or is too old."


class HalfOpenGone(CodeRefused):
    """The half-open sign-in ran out, or took too many codes: it begins again with the password."""

    words = "This took too long, or too many codes were wrong. Type your password again."


@dataclass(frozen=True, slots=True)
class Given:
    """A code that was compared and is right, to be used up by `finish`."""

    pending_id: str
    kind: str  # totp | email | recovery
    step: int | None = None
    hashed: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where signing in stands.

    cookie: of the session, or of the half-open sign-in when that is new; empty: the browser has it already.
    stage: what is still asked for; None: a session is open. mail_code: to be mailed to the user. device: the cookie
    of a browser that is remembered from now on. recovery_codes: to be shown this once.
    """

    user: User
    cookie: str = ""
    stage: Stage | None = None
    mail_code: str = ""
    device: str = ""
    recovery_codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Browser:
    """What the browser shows besides a password: its session of before, and a remembered device's cookie."""

    replaces: Session | None = None
    device: str = ""


async def enter(
    session: AsyncSession, actor: Actor, proof: Proof, browser: Browser, keys: KeyRing, *, can_mail: bool,
    is_part: bool = False,
) -> Outcome:  # fmt: skip
    """Open a session for who typed the password, or a half-open sign-in when more is asked for.

    Args:
        can_mail: Whether a mail server is set up: a user with nothing but mailed codes is sent one at once.
        is_part: Part of another operation, which records.

    Raises:
        SignInRefused: the user was disabled or deleted in between.
    """
    user = await session.get(User, proof.user_id)
    if user is None or user.status != UserStatus.ACTIVE:
        raise SignInRefused(proof.account_id, proof.user_id, reason="user_disabled", email=proof.email)
    policy = await store_signin.policy_of(session, user.account_id)
    factors = await store_signin.factors_of(session, user.id)
    method, stage = store.PASSWORD, await _next_stage(session, user, policy, factors)
    if two_factor.is_asked_for(policy, factors):
        key = keys.subkey(devices.PURPOSE)
        if await devices.is_remembered(session, user, policy, browser.device, key):
            method = REMEMBERED
        else:
            stage = Stage.CODE
    if stage is None:
        return await _opened(session, actor, user, method, browser.replaces, is_part=is_part)
    pending, cookie = await _open_half(session, user, stage, method)
    is_mailed = stage is Stage.CODE and factors.totp is None and policy.email_codes and can_mail
    code = _mailed(pending, keys) if is_mailed else ""
    if not is_part:
        record(session, actor, Event.SIGN_IN_BEGIN, user, details={"asked_for": stage.value})
    return Outcome(user, cookie, stage, code)


async def check_code(
    database: Database, throttle: Throttle, keys: KeyRing, *, cookie: str, text: str, ip: str, now: float
) -> Given:
    """Compare a code outside of any write transaction. `now`: loop time in seconds.

    Raises:
        HalfOpenGone, CodeRefused, SignInSlowed
    """
    async with database.sessions() as session:
        found = await store_signin.pending_by_cookie(session, digest(cookie))
        if found is None or found[0].stage == Stage.RENEW:
            raise HalfOpenGone(reason="no_half_open_sign_in")
        pending, user, account = found
        factors = await store_signin.factors_of(session, user.id)
        policy = await store_signin.policy_of(session, account.id)
    text = typed_code(text)
    kind = _kind_typed(text, pending, factors)
    try:
        throttle.admit(user.id, ip, now)
    except TooManyRequests as exc:
        raise SignInSlowed(exc, user, user.email, METHODS[kind]) from exc
    if not await store_signin.count_try(database, pending.id, MAX_TRIES):
        raise HalfOpenGone(account.id, user.id, reason="too_many_codes", email=user.email, method=METHODS[kind])
    given = _matching(text, pending, factors, policy, keys)
    if isinstance(given, str):
        raise CodeRefused(account.id, user.id, reason=given, email=user.email, method=METHODS[kind])
    return given


async def finish(
    session: AsyncSession, actor: Actor, given: Given, browser: Browser, keys: KeyRing, *, is_to_be_remembered: bool
) -> Outcome:
    """Use the code up: open the session, or go on to what is asked for next.

    Raises:
        HalfOpenGone: finished by another request, or run out. CodeRefused: the code was used in between.
    """
    pending, user = await _of_given(session, given.pending_id)
    policy = await store_signin.policy_of(session, user.account_id)
    codes: tuple[str, ...] = ()
    device = ""
    if pending.stage == Stage.ENROL:
        before = await store_signin.factors_of(session, user.id, for_update=True)
        # set up in between: who knows the password alone replaces none; nor is a recovery code one to be set up
        if given.kind == RECOVERY or not two_factor.must_set_up(policy, before):
            raise HalfOpenGone(user.account_id, user.id, reason="no_half_open_sign_in", email=user.email)
        codes = await two_factor.keep_factor(
            session, user, given.kind, seed=_seed(pending, given), step=given.step, pending_id=pending.id
        )
    else:
        await _spend(session, user, given)
        if is_to_be_remembered and policy.remember is Remember.REMEMBER:
            device = await devices.remember(session, actor, user, keys.subkey(devices.PURPOSE))
    method, was_enrolment = METHODS[given.kind], pending.stage == Stage.ENROL
    factors = await store_signin.factors_of(session, user.id)
    stage = await _next_stage(session, user, policy, factors)
    if stage is None:
        await session.delete(pending)
        opened = await _opened(session, actor, user, method, browser.replaces)
        outcome = Outcome(user, opened.cookie, None, "", device, codes)
    else:
        pending.stage, pending.method, pending.code_hash = stage, method, None
        if stage is Stage.ENROL:  # behind a recovery code: what it stood in for is not allowed any more
            pending.seed = totp.mint_seed()
        pending.expires_at = utc_now() + LIFETIME
        record(session, actor, Event.SIGN_IN_BEGIN, user, details={"asked_for": stage.value, "method": method})
        outcome = Outcome(user, "", stage, "", device, codes)
    if was_enrolment:
        _record_part(session, as_user(actor, user), Event.TWO_FACTOR_ENROL, user, {"method": given.kind})
    return outcome


async def finish_with_password(
    session: AsyncSession, actor: Actor, pending_id: str, password_hash: str, browser: Browser
) -> Outcome:
    """The new password of who signs in with one past its age; the session opens.

    Raises:
        HalfOpenGone
    """
    pending, user = await _of_given(session, pending_id)
    if pending.stage != Stage.RENEW:
        raise HalfOpenGone(user.account_id, user.id, reason="no_half_open_sign_in", email=user.email)
    policy = await store_signin.policy_of(session, user.account_id)
    await set_password(session, user, password_hash, keep=policy.password_reuse)
    await end_sessions_of(session, user.id, "password_change")
    await store_signin.drop_pending(session, user.id, but=pending.id)
    method = pending.method
    await session.delete(pending)
    outcome = await _opened(session, actor, user, method, browser.replaces)
    _record_part(session, as_user(actor, user), Event.PASSWORD_CHANGE, user, {})
    return outcome


async def mail_code(session: AsyncSession, actor: Actor, pending: PendingSignIn, user: User, keys: KeyRing) -> str:
    """A fresh code to be mailed for that half-open sign-in; the one before is dead.

    Raises:
        HalfOpenGone: it was finished in between. TooManyRequests: a moment ago, or too often.
        Conflict: the account does not allow it, or this user does not sign in with mailed codes.
    """
    locked = await store_signin.pending_to_finish(session, pending.id)
    if locked is None:
        raise HalfOpenGone(user.account_id, user.id, reason="no_half_open_sign_in", email=user.email)
    policy = await store_signin.policy_of(session, user.account_id)
    factors = await store_signin.factors_of(session, user.id)
    if not policy.email_codes:
        raise Conflict("This account takes no codes by mail. Use an authenticator app or a recovery code.")
    if locked.stage == Stage.RENEW or (locked.stage == Stage.CODE and factors.email is None):
        raise Conflict("Codes by mail are not set up for this user.")
    if locked.codes_sent >= MAX_CODES:
        raise TooManyRequests(f"{MAX_CODES} codes were mailed. Sign in again for another one.", retry_after_s=60)
    if locked.code_at is not None and utc_now() - locked.code_at < MAIL_PAUSE:
        wait_s = int(MAIL_PAUSE.total_seconds())
        raise TooManyRequests(f"A code was mailed a moment ago. Wait {wait_s} seconds.", retry_after_s=wait_s)
    code = _mailed(locked, keys)
    record(session, actor, Event.SIGN_IN_SEND_CODE, user)
    return code


async def begin_set_up(session: AsyncSession, actor: Actor, browser: Session, user: User) -> PendingSignIn:
    """Somebody who is signed in wants to set a second factor up: a seed for an app, and room for a mailed code."""
    cookie = set_up_cookie(browser)
    await store_signin.drop_pending(session, user.id, cookie_hash=digest(cookie))
    pending, _cookie = await _open_half(session, user, Stage.PROFILE, store.PASSWORD, cookie)
    record(session, actor, Event.TWO_FACTOR_BEGIN, user)
    return pending


async def first_code(session: AsyncSession, pending: PendingSignIn, user: User, keys: KeyRing) -> str:
    """The code to be mailed to who sets codes by mail up; part of `begin_set_up`.

    Raises:
        Conflict: the account does not allow them.
    """
    policy = await store_signin.policy_of(session, user.account_id)
    if not policy.email_codes:
        raise Conflict("This account takes no codes by mail. Use an authenticator app.")
    return _mailed(pending, keys)


async def finish_set_up(session: AsyncSession, actor: Actor, user: User, given: Given) -> tuple[str, ...]:
    """Keep the second factor that was proven. Returns recovery codes, if they are new.

    Raises:
        HalfOpenGone
    """
    pending, owner = await _of_given(session, given.pending_id)
    if pending.stage != Stage.PROFILE or owner.id != user.id or given.kind == RECOVERY:
        raise HalfOpenGone(user.account_id, user.id, reason="no_half_open_sign_in", email=user.email)
    codes = await two_factor.enrol(
        session, actor, user, given.kind, seed=_seed(pending, given), step=given.step, pending_id=pending.id
    )
    await session.delete(pending)
    return codes


def set_up_cookie(browser: Session) -> str:
    """What stands for a cookie where a session is: no browser can send it."""
    return f"set-up {browser.id} {browser.cookie_hash}"


async def _of_given(session: AsyncSession, pending_id: str) -> tuple[PendingSignIn, User]:
    """Both locked, the user first: of one user's half-open sign-ins one ends at a time, and may end the others."""
    user = await store_signin.user_to_sign_in(session, pending_id)
    pending = await store_signin.pending_to_finish(session, pending_id)
    if pending is None or user is None:
        raise HalfOpenGone(reason="no_half_open_sign_in")
    if user.status != UserStatus.ACTIVE:
        raise HalfOpenGone(user.account_id, user.id, reason="user_disabled", email=user.email)
    return pending, user


async def _next_stage(session: AsyncSession, user: User, policy: Policy, factors: Factors) -> Stage | None:
    """What is asked for when the factors that are set up were given."""
    if two_factor.must_set_up(policy, factors):
        return Stage.ENROL
    credential = await store.password_of(session, user.id)
    if policy.password_max_age_days and credential is not None:
        age = utc_now() - credential.changed_at
        if age > dt.timedelta(days=policy.password_max_age_days):
            return Stage.RENEW
    return None


async def _open_half(
    session: AsyncSession, user: User, stage: Stage, method: str, cookie: str = ""
) -> tuple[PendingSignIn, str]:
    cookie, now = cookie or mint_cookie(), utc_now()
    pending = PendingSignIn(
        id=new_id("sign_in"), user_id=user.id, account_id=user.account_id, cookie_hash=digest(cookie),
        stage=stage.value, method=method, seed=None if stage is Stage.CODE else totp.mint_seed(), codes_sent=0, tries=0,
        created_at=now, expires_at=now + LIFETIME,
    )  # fmt: skip
    session.add(pending)
    await session.flush()
    return pending, cookie


async def _opened(
    session: AsyncSession, actor: Actor, user: User, method: str, replaces: Session | None, *, is_part: bool = False
) -> Outcome:
    replace_session(replaces)
    cookie = await start_session(session, user, ip=actor.ip, user_agent=actor.user_agent, method=method)
    if not is_part:
        record(session, as_user(actor, user), Event.SESSION_CREATE, user, details={"method": method})
    return Outcome(user, cookie)


def _record_part(session: AsyncSession, actor: Actor, event: Event, user: User, details: dict[str, str]) -> None:
    record(session, actor, event, user, bulk_id=actor.request_id or new_id("request"), details=dict(details))


def _mailed(pending: PendingSignIn, keys: KeyRing) -> str:
    code, now = mint_mail_code(), utc_now()
    pending.code_hash = mail_hash(keys.subkey(CODE_PURPOSE), pending.id, code)
    pending.code_at, pending.expires_at = now, now + LIFETIME
    pending.codes_sent += 1
    pending.tries = 0
    return code


def _kind_typed(text: str, pending: PendingSignIn, factors: Factors) -> str:
    """What a code was probably meant to be, for the log: its spelling says so, and what the user has."""
    if not is_mail_code(text) and recovery_hash(text) is not None:
        return RECOVERY
    if pending.stage == Stage.CODE and factors.totp is None:
        return EMAIL
    return EMAIL if pending.code_hash is not None else TOTP


def _matching(text: str, pending: PendingSignIn, factors: Factors, policy: Policy, keys: KeyRing) -> Given | str:
    """What the code is, or why it is nothing."""
    if not is_mail_code(text):
        return _recovery(text, pending, factors)
    if pending.code_hash is not None and policy.email_codes:
        mine = mail_hash(keys.subkey(CODE_PURPOSE), pending.id, text)
        if hmac.compare_digest(mine, pending.code_hash):
            is_fresh = pending.code_at is not None and utc_now() - pending.code_at <= LIFETIME
            return Given(pending.id, EMAIL, hashed=mine) if is_fresh else "code_too_old"
    enrolled = factors.totp
    seed = (enrolled.seed if enrolled else None) if pending.stage == Stage.CODE else pending.seed
    if seed is not None:
        after = enrolled.last_step if pending.stage == Stage.CODE and enrolled is not None else None
        at = utc_now().timestamp()
        step = totp.matching_step(seed, text, at, after=after)
        if step is not None:
            return Given(pending.id, TOTP, step=step)
        if totp.matching_step(seed, text, at, after=None) is not None:
            return "code_used_before"
    return "wrong_email_code" if pending.code_hash is not None or seed is None else "wrong_totp"


def _recovery(text: str, pending: PendingSignIn, factors: Factors) -> Given | str:
    hashed = recovery_hash(text)
    known = [] if factors.recovery is None else json.loads(factors.recovery.hash)
    if pending.stage == Stage.CODE and hashed is not None and hashed in known:
        return Given(pending.id, RECOVERY, hashed=hashed)
    return "wrong_recovery_code" if hashed is not None else "no_code"


async def _spend(session: AsyncSession, user: User, given: Given) -> None:
    """Use the code up, so that no other request can: the rows are locked."""
    factors = await store_signin.factors_of(session, user.id, for_update=True)
    refused = CodeRefused(
        user.account_id, user.id, reason="code_used_before", email=user.email, method=METHODS[given.kind]
    )
    if given.kind == RECOVERY:
        if not await two_factor.spend_recovery_code(session, factors, given.hashed):
            raise refused
    elif given.kind == TOTP:
        credential = factors.totp
        if credential is None or given.step is None or (credential.last_step or -1) >= given.step:
            raise refused
        credential.last_step, credential.last_used_at = given.step, utc_now()
    elif factors.email is not None:
        factors.email.last_used_at = utc_now()


def _seed(pending: PendingSignIn, given: Given) -> str | None:
    return pending.seed if given.kind == TOTP else None
