"""A user's second factors: keeping, removing and resetting them, and recovery codes.

Each operation changes rows and records one audit entry; what is part of signing in records nothing here.
"""

import json

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store, store_signin
from engine.accounts.codes import mint_recovery_codes, recovery_hashes
from engine.accounts.policy import Policy, TwoFactor
from engine.accounts.scopes import EVERY_SCOPE, Scope
from engine.accounts.signin import end_sessions_of
from engine.accounts.store_signin import EMAIL, RECOVERY, TOTP, Factors
from engine.accounts.users import refuse_beyond_user
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import utc_now
from engine.errors import Conflict, Forbidden, NotFound
from engine.ids import new_id
from engine.models import Credential, Role, User

RESET = "two_factor_reset"  # why sessions ended


def is_asked_for(policy: Policy, factors: Factors) -> bool:
    """Whether this user is asked for a second factor under this policy.

    One that is not allowed any more is asked for all the same: switching codes by mail off must not leave the password
    alone. A recovery code stands in for it, or somebody resets it.
    """
    return policy.two_factor is not TwoFactor.OFF and (factors.totp is not None or factors.email is not None)


def must_set_up(policy: Policy, factors: Factors) -> bool:
    """Whether this user has to set a second factor up first: one is required, or theirs is not allowed any more."""
    counts = factors.totp is not None or (factors.email is not None and policy.email_codes)
    if policy.two_factor is TwoFactor.OFF or counts:
        return False
    return policy.two_factor is TwoFactor.REQUIRED or factors.email is not None


def recovery_codes_left(factors: Factors) -> int:
    return 0 if factors.recovery is None else len(json.loads(factors.recovery.hash))


async def keep_factor(
    session: AsyncSession, user: User, kind: str, *, seed: str | None = None, step: int | None = None, pending_id: str
) -> tuple[str, ...]:
    """Keep a proven second factor of that kind, in place of one of its kind.

    All other half-open sign-ins of the user end: they began when something else was asked for.

    Args:
        pending_id: The half-open sign-in in which it was proven; the caller ends it.

    Returns fresh recovery codes when the user had none: they are shown this once.
    """
    credential = await session.get(Credential, (user.id, kind))
    if credential is None:
        credential = Credential(user_id=user.id, kind=kind, hash="", changed_at=utc_now())
        session.add(credential)
    credential.seed, credential.last_step, credential.changed_at = seed, step, utc_now()
    await store_signin.drop_pending(session, user.id, but=pending_id)
    factors = await store_signin.factors_of(session, user.id)
    return () if recovery_codes_left(factors) else await _fresh_recovery_codes(session, user)


async def enrol(
    session: AsyncSession, actor: Actor, user: User, kind: str, *, seed: str | None = None, step: int | None = None,
    pending_id: str,
) -> tuple[str, ...]:  # fmt: skip
    """A signed-in user set up a second factor, see `keep_factor`. Returns recovery codes, if they are new."""
    codes = await keep_factor(session, user, kind, seed=seed, step=step, pending_id=pending_id)
    record(session, actor, Event.TWO_FACTOR_ENROL, user, details={"method": kind})
    return codes


async def renew_recovery_codes(session: AsyncSession, actor: Actor, user: User) -> tuple[str, ...]:
    """Ten fresh recovery codes; those before are dead.

    Raises:
        Conflict: there is no second factor that they would stand in for.
    """
    factors = await store_signin.factors_of(session, user.id, for_update=True)
    if factors.totp is None and factors.email is None:
        raise Conflict("Recovery codes stand in for a second factor. Set one up first.")
    codes = await _fresh_recovery_codes(session, user)
    record(session, actor, Event.RECOVERY_CODE_CREATE, user)
    return codes


async def remove_factor(session: AsyncSession, actor: Actor, user: User, kind: str) -> None:
    """A user takes one of their second factors away; with the last one, recovery codes and remembered devices go too.

    Raises:
        NotFound: they have none of that kind. Conflict: the account requires one, and this is the last.
    """
    factors = await store_signin.factors_of(session, user.id, for_update=True)
    found = {TOTP: factors.totp, EMAIL: factors.email}
    credential = found.pop(kind, None)
    if credential is None:
        raise NotFound("This second factor is not set up.")
    (other,) = found.values()
    policy = await store_signin.policy_of(session, user.account_id)
    stays = other is not None and (kind == EMAIL or policy.email_codes)
    if policy.two_factor is TwoFactor.REQUIRED and not stays:
        raise Conflict("Your account requires a second factor. Set the other kind up first, then remove this one.")
    await session.delete(credential)
    if other is None:
        await _drop(session, factors.recovery)
        await store_signin.end_devices(session, user_id=user.id)
    record(session, actor, Event.TWO_FACTOR_REMOVE, user, details={"method": kind})


async def reset(session: AsyncSession, actor: Actor, user: User, *, granted: frozenset[Scope] = EVERY_SCOPE) -> None:
    """Take all second factors of somebody who lost them, and end their sessions and remembered devices.

    The next sign-in asks for the password alone; where the account requires a second factor, a new one is set up then.

    Raises:
        Forbidden: the user's role is beyond `granted`. Conflict: oneself, who has a page that asks for proof.
    """
    if user.id == actor.id:
        raise Conflict("Change your own second factors under Your profile: it asks for your password.")
    await refuse_beyond(session, actor, user, granted)
    factors = await store_signin.factors_of(session, user.id, for_update=True)
    gone = [kind for kind in store_signin.FACTORS if await _drop(session, getattr(factors, kind))]
    devices = await store_signin.end_devices(session, user_id=user.id)
    await store_signin.drop_pending(session, user.id)
    await end_sessions_of(session, user.id, RESET)
    told = {"methods": gone, "remembered_devices": devices}
    record(session, actor, Event.USER_RESET_2FA, user, details=told)
    # the same in the category of security, for who watches that one alone
    part = new_id("request")
    record(session, actor, Event.TWO_FACTOR_RESET, user, bulk_id=part, details=told)


async def refuse_beyond(session: AsyncSession, actor: Actor, user: User, granted: frozenset[Scope]) -> None:
    """Refuse to touch the second factors of somebody who may do more.

    A key has the right it was given, whatever else it may do, but an owner's only when an owner made it.

    Raises:
        Forbidden
    """
    if actor.type != "api_key":
        await refuse_beyond_user(session, actor, granted, user.id)
    elif user.role == Role.OWNER and not await store.was_made_by_owner(session, actor.id):
        raise Forbidden("Only a key that an owner made touches an owner's second factors.")


async def spend_recovery_code(session: AsyncSession, factors: Factors, hashed: str) -> bool:
    """Use a recovery code up. False: it is none of those left. The row is locked by who read the factors."""
    left = [] if factors.recovery is None else json.loads(factors.recovery.hash)
    if factors.recovery is None or hashed not in left:
        return False
    left.remove(hashed)
    factors.recovery.hash = json.dumps(left)
    factors.recovery.last_used_at = utc_now()
    await session.flush()
    return True


async def _fresh_recovery_codes(session: AsyncSession, user: User) -> tuple[str, ...]:
    codes = mint_recovery_codes()
    credential = await session.get(Credential, (user.id, RECOVERY))
    if credential is None:
        credential = Credential(user_id=user.id, kind=RECOVERY, hash="", changed_at=utc_now())
        session.add(credential)
    credential.hash, credential.changed_at = json.dumps(recovery_hashes(codes)), utc_now()
    return codes


async def _drop(session: AsyncSession, credential: Credential | None) -> bool:
    if credential is not None:
        await session.delete(credential)
    return credential is not None
