"""Who may sign in: adding, inviting, changing and removing users; each changes rows and records one audit entry.

Theory of operation. Nobody gives away, or takes away, more than they may do themselves: every role named by a change,
before and after it, must be within what the one who changes it was granted, and only owners touch owners. An account
keeps an active owner for ever. An invitation is a one-time link: its key is stored as SHA-256 beside the user, where
the password will stand. A removed user's row stays, so that logs keep a name to show; its address is free again.
"""

import datetime as dt
import hmac
from dataclasses import dataclass, field, replace

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store, store_signin
from engine.accounts.addresses import email_fault, plain_email
from engine.accounts.keys import digest, mint_cookie
from engine.accounts.scopes import EVERY_SCOPE, Scope, scopes_of_role
from engine.accounts.signin import as_user, end_sessions_of
from engine.audit.changes import tell_as_deleted
from engine.audit.events import Event
from engine.audit.record import OPERATOR, Actor, record
from engine.db import utc_now
from engine.errors import Conflict, FieldFault, Forbidden, Invalid, NotFound
from engine.ids import new_id
from engine.models import Account, Credential, Role, User, UserStatus

INVITATION_LIFETIME = dt.timedelta(hours=72)  # a weekend and a day
_UNUSABLE = "This invitation was used, was replaced by a newer one, or has expired. Ask who invited you for a new one."


@dataclass(frozen=True, slots=True)
class UserFields:
    email: str
    name: str = ""
    role: Role = Role.ADMIN
    status: UserStatus = UserStatus.ACTIVE


@dataclass(frozen=True, slots=True)
class Invitation:
    """A link just made. `key` is shown or mailed this once: only its SHA-256 is stored."""

    user: User
    expires_at: dt.datetime
    key: str = field(repr=False)
    is_reset: bool = False  # of somebody who had a password


async def create_user(
    session: AsyncSession,
    actor: Actor,
    account: Account,
    wished: UserFields,
    password_hash: str | None,
    *,
    granted: frozenset[Scope] = EVERY_SCOPE,
) -> User:
    """Add somebody to the account.

    Args:
        granted: What the maker may do: nobody makes a user who can do more.

    Raises:
        Invalid, Conflict (the address is known), Forbidden (the role holds more than the maker has).
    """
    refuse_unfit(wished)
    await refuse_beyond(session, actor, granted, wished.role)
    await refuse_known(session, plain_email(wished.email))
    user = await add_user(session, account, wished, password_hash)
    record(session, actor, Event.USER_CREATE, user)
    return user


async def invite_user(
    session: AsyncSession,
    actor: Actor,
    account: Account,
    wished: UserFields,
    *,
    granted: frozenset[Scope] = EVERY_SCOPE,
) -> Invitation:
    """Add somebody who chooses their own password behind a one-time link. Raises as `create_user`."""
    invited = UserFields(wished.email, wished.name, wished.role, UserStatus.INVITED)
    user = await create_user(session, actor, account, invited, None, granted=granted)
    return await _fresh_invitation(session, user)


async def renew_invitation(
    session: AsyncSession, actor: Actor, user: User, *, granted: frozenset[Scope] = EVERY_SCOPE
) -> Invitation:
    """Make a new link for somebody who has not accepted yet; the one before is dead.

    Raises:
        Conflict: they have a password already, or are disabled. Forbidden: their role is beyond `granted`.
    """
    await refuse_beyond(session, actor, granted, user.role)
    if user.status != UserStatus.INVITED:
        raise Conflict("This user has accepted already or is disabled: there is nothing to invite them to.")
    made = await _fresh_invitation(session, user)
    record(session, actor, Event.INVITATION_CREATE, user)
    return made


async def reset_password(
    session: AsyncSession, actor: Actor, user: User, *, granted: frozenset[Scope] = EVERY_SCOPE
) -> Invitation:
    """Make a one-time link for somebody who forgot their password. The old one opens nothing from now on.

    Their sessions and remembered devices end; their second factor stays, and is asked for behind the link.

    Raises:
        Conflict: they are disabled, the last active owner, or oneself. Forbidden: their role is beyond `granted`.
    """
    await refuse_beyond(session, actor, granted, user.role)
    if user.id == actor.id:
        raise Conflict("Change your own password under Your profile.")
    if user.status not in {UserStatus.ACTIVE, UserStatus.INVITED}:
        raise Conflict("This user is disabled. Let them sign in again first.")
    await _refuse_last_owner(session, user)
    await end_sessions_of(session, user.id, "password_change")
    await store_signin.end_devices(session, user_id=user.id)
    await store_signin.drop_pending(session, user.id)
    user.status = UserStatus.INVITED
    await _kill_password(session, user)
    made = await _fresh_invitation(session, user)
    record(session, actor, Event.PASSWORD_RESET, user)
    return replace(made, is_reset=True)


async def invited_by(session: AsyncSession, key: str) -> tuple[User, Account] | None:
    """Whom an invitation's key stands for, while it may be used."""
    user_id, _, secret = key.partition(".")
    if not store.is_id(user_id) or not secret:
        return None
    credential = await session.get(Credential, (user_id, store.INVITATION))
    user = await session.get(User, user_id)
    if credential is None or user is None or user.status != UserStatus.INVITED:
        return None
    is_right = hmac.compare_digest(credential.hash, digest(secret))
    if not is_right or utc_now() - credential.changed_at > INVITATION_LIFETIME:
        return None
    account = await store.account_by_id(session, user.account_id)
    return None if account is None else (user, account)


async def accept_invitation(session: AsyncSession, actor: Actor, key: str, name: str, password_hash: str) -> User:
    """Give the invited user the password they chose; the link is used up by it.

    Raises:
        NotFound: unknown, used, replaced or expired: the answers are alike. Invalid: the name.
    """
    found = await invited_by(session, key)
    if found is None:
        raise NotFound(_UNUSABLE)
    user, _account = found
    fault = _name_fault(name)
    if fault:
        raise Invalid("Some fields cannot be accepted.", fields=(fault,))
    await _drop_credential(session, user, store.INVITATION)
    policy = await store_signin.policy_of(session, user.account_id)
    await set_password(session, user, password_hash, keep=policy.password_reuse)
    await store_signin.drop_pending(session, user.id)
    user.name = name.strip() or user.name
    user.status = UserStatus.ACTIVE
    record(session, as_user(actor, user), Event.INVITATION_ACCEPT, user)
    return user


async def update_user(
    session: AsyncSession, actor: Actor, user: User, wished: UserFields, *, granted: frozenset[Scope] = EVERY_SCOPE
) -> None:
    """Change name, role or status. A disabled user's sessions end at once; the last active owner stays.

    Raises:
        Conflict, Forbidden, Invalid (the e-mail address is how people sign in and stays).
    """
    if plain_email(wished.email) != user.email:
        raise Invalid(
            "The e-mail address cannot be changed.",
            fields=(FieldFault("email", "Add a new user and disable this one."),),
        )
    fault = _name_fault(wished.name)
    if fault:
        raise Invalid("The user cannot be changed like this.", fields=(fault,))
    await refuse_beyond(session, actor, granted, user.role, wished.role)
    if wished.status is UserStatus.DISABLED and user.id == actor.id:
        raise Conflict("You cannot disable yourself. Ask another owner or admin.")
    stays_owner = wished.role is Role.OWNER and wished.status is UserStatus.ACTIVE
    if not stays_owner:
        await _refuse_last_owner(session, user)
    if wished.status is UserStatus.DISABLED or wished.role != user.role:
        await end_sessions_of(session, user.id, "disabled" if wished.status is UserStatus.DISABLED else "role_changed")
    if wished.status is UserStatus.DISABLED:
        await _drop_credential(session, user, store.INVITATION)
        await store_signin.end_devices(session, user_id=user.id)
        await store_signin.drop_pending(session, user.id)
    user.name, user.role, user.status = wished.name.strip(), wished.role, await _status_after(session, user, wished)
    record(session, actor, Event.USER_UPDATE, user)


async def delete_user(
    session: AsyncSession, actor: Actor, user: User, *, granted: frozenset[Scope] = EVERY_SCOPE
) -> None:
    """Remove somebody: sessions, password and invitation end at once, the address may be invited anew.

    Raises:
        Conflict: the last active owner, or oneself. Forbidden: the user's role is beyond `granted`.
    """
    await refuse_beyond(session, actor, granted, user.role)
    if user.id == actor.id:
        raise Conflict("You cannot remove yourself. Ask another owner or admin.")
    await _refuse_last_owner(session, user)
    await end_sessions_of(session, user.id, "removed")
    await store_signin.end_devices(session, user_id=user.id)
    await store_signin.drop_pending(session, user.id)
    for kind in (store.PASSWORD, store.INVITATION, *store_signin.FACTORS):
        await _drop_credential(session, user, kind)
    name = user.name or user.email
    tell_as_deleted(session.sync_session, user)
    user.status = UserStatus.REMOVED
    user.email = f"{user.email}#{user.id}"  # no e-mail address any more: it signs nobody in and is nobody's to take
    record(session, actor, Event.USER_DELETE, user, resource=("user", user.id, name))


async def refuse_beyond_user(session: AsyncSession, actor: Actor, granted: frozenset[Scope], user_id: str) -> None:
    """Refuse to meddle with somebody who may do more than the actor; oneself is always allowed.

    Raises:
        Forbidden
    """
    user = await session.get(User, user_id)
    if user is not None and user.id != actor.id:
        await refuse_beyond(session, actor, granted, user.role)


async def add_user(session: AsyncSession, account: Account, wished: UserFields, password_hash: str | None) -> User:
    """The user's rows; the caller records and has looked at the fields."""
    user = User(
        id=new_id("user"), account_id=account.id, email=plain_email(wished.email), name=wished.name.strip(),
        role=wished.role, status=wished.status,
    )  # fmt: skip
    session.add(user)
    await session.flush()
    if password_hash is not None:
        await set_password(session, user, password_hash)
    return user


async def set_password(session: AsyncSession, user: User, password_hash: str, *, keep: int = 0) -> None:
    """Replace the password. `keep`: how many of those before may not come again, this one's hash among them."""
    credential = await session.get(Credential, (user.id, store.PASSWORD))
    if credential is not None:
        credential.previous = _hashes_of(credential)[: max(0, keep - 1)] or None  # the new one is the first of `keep`
    await _set_credential(session, user, store.PASSWORD, password_hash)


async def earlier_passwords(session: AsyncSession, user_id: str) -> list[str]:
    """Hashes of the user's passwords, the present one first, as far as they are kept."""
    credential = await session.get(Credential, (user_id, store.PASSWORD))
    return [] if credential is None else _hashes_of(credential)


def _hashes_of(credential: Credential) -> list[str]:
    return [hashed for hashed in (credential.hash, *(credential.previous or [])) if hashed]


async def _kill_password(session: AsyncSession, user: User) -> None:
    """Let the present password be one of those before: it opens nothing, whatever becomes of the user's status."""
    credential = await store.password_of(session, user.id)
    if credential is not None:
        credential.previous, credential.hash = _hashes_of(credential), ""


async def refuse_known(session: AsyncSession, email: str) -> None:
    if await store.user_by_email(session, email) is not None:
        raise Conflict("Somebody with this e-mail address is here already. An address signs in to one account.")


async def _fresh_invitation(session: AsyncSession, user: User) -> Invitation:
    secret = mint_cookie()
    await _set_credential(session, user, store.INVITATION, digest(secret))
    return Invitation(user, utc_now() + INVITATION_LIFETIME, f"{user.id}.{secret}")


async def _set_credential(session: AsyncSession, user: User, kind: str, hashed: str) -> None:
    credential = await session.get(Credential, (user.id, kind))
    if credential is None:
        session.add(Credential(user_id=user.id, kind=kind, hash=hashed, changed_at=utc_now()))
    else:
        credential.hash, credential.changed_at = hashed, utc_now()


async def _drop_credential(session: AsyncSession, user: User, kind: str) -> None:
    credential = await session.get(Credential, (user.id, kind))
    if credential is not None:
        await session.delete(credential)


async def _status_after(session: AsyncSession, user: User, wished: UserFields) -> UserStatus:
    """Who is invited, or has no password, does not become active by a change: only accepting makes them so."""
    if wished.status is not UserStatus.ACTIVE or user.status == UserStatus.ACTIVE:
        return wished.status
    if user.status == UserStatus.INVITED:
        return UserStatus.INVITED
    has_password = await store.password_of(session, user.id) is not None
    return UserStatus.ACTIVE if has_password else UserStatus.INVITED


async def refuse_beyond(session: AsyncSession, actor: Actor, granted: frozenset[Scope], *roles: str) -> None:
    """Raises Forbidden: one of the roles holds more than `granted`, or is an owner's and the actor is none."""
    if actor.type in {"cli", "system"}:  # on the machine itself, with the key file at hand
        return
    beyond = {scope for role in roles for scope in scopes_of_role(role)} - granted
    if beyond:
        raise Forbidden(f"That role may do what you may not do yourself: {', '.join(sorted(beyond))}.")
    if Role.OWNER in roles and not await _acts_for_an_owner(session, actor):
        raise Forbidden("Only an owner makes somebody an owner, or takes it away.")


async def _acts_for_an_owner(session: AsyncSession, actor: Actor) -> bool:
    """A key acts for who made it: an admin does not become an owner by making a key that may do everything.

    A platform operator who is an owner at home acts in place of an account's owner: somebody has to help where the
    last one is gone.
    """
    if actor.type == OPERATOR:
        return await store.is_owner_or_of_one(session, actor.id)
    if actor.type == "api_key" and actor.role == Role.OWNER:
        return await store.was_made_by_owner(session, actor.id)
    return actor.role == Role.OWNER


async def _refuse_last_owner(session: AsyncSession, user: User) -> None:
    is_owner = user.role == Role.OWNER and user.status == UserStatus.ACTIVE
    if is_owner and await store.active_owners(session, user.account_id) < 2:
        raise Conflict("This is the account's last active owner. Make somebody else an owner first.")


def refuse_unfit(wished: UserFields) -> None:
    """Refuse an address or a name that cannot be.

    Raises:
        Invalid: every bad field.
    """
    found = (email_fault("email", wished.email), _name_fault(wished.name))
    faults = tuple(fault for fault in found if fault is not None)
    if faults:
        raise Invalid("The user cannot be added.", fields=faults)


def _name_fault(name: str) -> FieldFault | None:
    if len(name) > 200 or not name.strip().isprintable():
        return FieldFault("name", "Expected at most 200 printable characters.")
    return None
