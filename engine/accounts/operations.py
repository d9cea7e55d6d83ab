"""Operations on accounts, users, passwords and API keys: each changes rows and records one audit entry.

None of them commits. Signing in is in `signin`, PBXs and trunks are in `telephony`; all are named here too, so that
pages, API and command find every operation of this room in one place.
"""

import datetime as dt
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store, store_signin, store_trunks
from engine.accounts.addresses import email_fault, plain_email
from engine.accounts.billing import billing_faults, plain_billing
from engine.accounts.keys import digest, hint_of, mint_api_key, mint_cookie
from engine.accounts.languages import is_language
from engine.accounts.scopes import EVERY_SCOPE, SCOPE_NAMES, Scope, scopes_of_key
from engine.accounts.signin import (
    end_sessions_of,
    prove,
    revoke_other_sessions,
    revoke_session,
    sign_out,
    start_session,
)
from engine.accounts.telephony import (
    PbxFields,
    TrunkFields,
    create_pbx,
    create_trunk,
    delete_pbx,
    delete_trunk,
    update_pbx,
    update_trunk,
)
from engine.accounts.users import (
    Invitation,
    UserFields,
    accept_invitation,
    add_user,
    create_user,
    delete_user,
    invite_user,
    invited_by,
    refuse_beyond_user,
    refuse_known,
    renew_invitation,
    reset_password,
    set_password,
    update_user,
)
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.audit.store_outdated import outdate
from engine.countries import is_country
from engine.db import utc_now
from engine.errors import FieldFault, Forbidden, Invalid, NotFound
from engine.ids import new_id
from engine.models import Account, ApiKey, Location, Phone, Role, SetupLink, User
from engine.numbers import is_telephone, parse_e164

__all__ = [
    "AccountFields", "Invitation", "NewAccount", "NewApiKey", "PbxFields", "TrunkFields", "UserFields",
    "accept_invitation", "change_password", "create_account", "create_api_key", "create_pbx", "create_trunk",
    "create_user", "delete_pbx", "delete_trunk", "delete_user", "invite_user", "invited_by", "new_setup_link",
    "prove", "refuse_beyond_user", "renew_invitation", "reset_password", "revoke_api_key", "revoke_other_sessions",
    "revoke_session", "sign_out", "start_session", "update_account", "update_pbx", "update_trunk", "update_user",
    "use_setup_link",
]  # fmt: skip
SETUP_LINK_LIFETIME = dt.timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account and its owner, just made."""

    account: Account
    owner: User


@dataclass(frozen=True, slots=True)
class AccountFields:
    """What an administrator may change of an account; the whole of it, as it shall be."""

    name: str
    email: str
    phone: str
    timezone: str
    language: str
    country: str
    billing_address: dict[str, str]
    emergency_enabled: bool
    callback_number: str | None
    default_location_id: str | None
    elin_hold_minutes: int = 180
    trunk_group_id: str | None = None
    notification_prefix: str = ""
    notification_text: str = ""

    @classmethod
    def of(cls, account: Account) -> "AccountFields":
        """As they are now; `dataclasses.replace` makes the wished state of it."""
        return cls(**{f.name: getattr(account, f.name) for f in fields(cls)})


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made. `clear` is shown this once: only its SHA-256 is stored."""

    row: ApiKey
    clear: str = field(repr=False)


async def create_account(
    session: AsyncSession,
    actor: Actor,
    name: str,
    owner_email: str,
    password_hash: str | None,
    owner_name: str = "",
) -> Account:
    """Make an account and its owner. Without a password hash the owner cannot sign in yet.

    Raises:
        Invalid: name or e-mail address. Conflict: somebody has that address already.
    """
    made = await _make_account(session, actor, name, UserFields(owner_email, owner_name, Role.OWNER), password_hash)
    return made.account


async def _make_account(
    session: AsyncSession,
    actor: Actor,
    name: str,
    owner: UserFields,
    password_hash: str | None,
    *,
    also: Sequence[FieldFault] = (),
) -> NewAccount:
    """`also`: bad fields that the caller found, told with these."""
    faults = [fault for fault in (_name_fault("name", name), email_fault("owner_email", owner.email)) if fault]
    faults += also
    if faults:
        raise Invalid("The account cannot be made.", fields=tuple(faults))
    await refuse_known(session, plain_email(owner.email))
    account = Account(
        id=new_id("account"), name=name.strip(), email=plain_email(owner.email),
        emergency_enabled=False,  # until a person says that phones rely on it; 911 goes out all the same
    )  # fmt: skip
    session.add(account)
    await session.flush()
    user = await add_user(session, account, owner, password_hash)
    record(session, actor, Event.ACCOUNT_CREATE, account)
    return NewAccount(account, user)


async def new_setup_link(session: AsyncSession) -> str:
    """Make the one-time link of a first start. Returns its clear key; good for 30 minutes, once."""
    key = mint_cookie()
    session.add(SetupLink(key_hash=digest(key), expires_at=utc_now() + SETUP_LINK_LIFETIME))
    return key


async def use_setup_link(  # the form's own fields in the form's own order
    session: AsyncSession,
    actor: Actor,
    key: str,
    account_name: str,
    owner_email: str,
    owner_name: str,
    password_hash: str,
) -> NewAccount:
    """Make the account and its owner with a set-up link, which is used up by it.

    Raises:
        NotFound: unknown, used or expired: the answers are alike. Invalid: a field.
    """
    link = await store.setup_link(session, digest(key))
    if link is None:
        raise NotFound("This set-up link was used or has expired. Restart Callpoint: it prints a new one.")
    fault = _name_fault("owner_name", owner_name)
    owner = UserFields(owner_email, owner_name, Role.OWNER)
    made = await _make_account(session, actor, account_name, owner, password_hash, also=(fault,) if fault else ())
    link.used_at = utc_now()
    return made


async def update_account(session: AsyncSession, actor: Actor, account: Account, wished: AccountFields) -> None:
    """Change an account's own fields.

    Raises:
        Invalid: every bad field.
    """
    wished = replace(wished, phone=wished.phone.strip(), billing_address=plain_billing(wished.billing_address))
    faults, number = _account_faults(wished)
    # what stands as it was is no fault of this change: an older row may hold what is refused today
    if wished.phone not in {"", account.phone} and not is_telephone(wished.phone, wished.country):
        faults.append(FieldFault("phone", "Expected a telephone number, such as +15185550100 or (518) 555-0100 x12."))
    if wished.language != account.language and not is_language(wished.language):
        faults.append(FieldFault("language", "Expected the tag of a language, such as en or es-MX."))
    if wished.billing_address != account.billing_address:
        faults += billing_faults(wished.billing_address)
    if wished.default_location_id is not None:
        found = await session.get(Location, wished.default_location_id)
        if found is None or found.account_id != account.id:
            faults.append(FieldFault("default_location_id", "Expected a location of this account."))
    if wished.trunk_group_id is not None and not await store_trunks.has_trunk_group(
        session, account.id, wished.trunk_group_id
    ):
        faults.append(FieldFault("trunk_group_id", "Expected a trunk group of this account."))
    if faults:
        raise Invalid("The account cannot be changed like this.", fields=tuple(faults))
    is_told_to_phones = (wished.timezone, wished.country) != (account.timezone, account.country)
    for each in fields(wished):
        setattr(account, each.name, getattr(wished, each.name))
    account.name = wished.name.strip()
    account.email = plain_email(wished.email) if wished.email else ""
    account.callback_number = number
    account.notification_prefix = wished.notification_prefix.strip()
    account.notification_text = wished.notification_text.strip()
    if is_told_to_phones:
        await outdate(session, Phone.account_id == account.id)
    record(session, actor, Event.ACCOUNT_UPDATE, account)


def _account_faults(wished: AccountFields) -> tuple[list[FieldFault], str | None]:
    faults = [_name_fault("name", wished.name), email_fault("email", wished.email) if wished.email else None]
    if wished.timezone not in _timezones():
        faults.append(FieldFault("timezone", "Expected a name of the IANA time zone database, such as America/Denver."))
    if not is_country(wished.country):
        faults.append(FieldFault("country", "Expected two capital letters of ISO 3166, such as US."))
    if not 30 <= wished.elin_hold_minutes <= 1440:
        faults.append(FieldFault("elin_hold_minutes", "Expected a number of minutes from 30 to 1440."))
    for field_name, limit in (("notification_prefix", 40), ("notification_text", 300)):
        text = getattr(wished, field_name)
        if len(text) > limit or not text.isprintable():
            faults.append(FieldFault(field_name, f"Expected one line of at most {limit} printable characters."))
    number = parse_e164(wished.callback_number, wished.country) if wished.callback_number else None
    if wished.callback_number and number is None:
        faults.append(FieldFault("callback_number", "Expected a number that can be called back, such as +15185550100."))
    return [fault for fault in faults if fault is not None], number


async def change_password(
    session: AsyncSession, actor: Actor, user: User, password_hash: str, *, keep_session: str | None = None
) -> None:
    """Replace a user's password; all other sessions and half-open sign-ins end, and no browser is remembered."""
    policy = await store_signin.policy_of(session, user.account_id)
    await set_password(session, user, password_hash, keep=policy.password_reuse)
    await end_sessions_of(session, user.id, "password_change", but=keep_session)
    await store_signin.end_devices(session, user_id=user.id)
    await store_signin.drop_pending(session, user.id)
    record(session, actor, Event.PASSWORD_CHANGE, user)


async def create_api_key(
    session: AsyncSession,
    actor: Actor,
    account: Account,
    *,
    name: str,
    scopes: Sequence[str],
    expires_at: dt.datetime | None = None,
    granted: frozenset[Scope] = EVERY_SCOPE,
) -> NewApiKey:
    """Make an API key.

    Args:
        scopes: Names of `Scope`; `*` is every scope.
        granted: What the maker may do: nobody makes a key that can do more.

    Raises:
        Invalid: every bad field. Forbidden: a scope beyond `granted`.
    """
    faults = [_name_fault("name", name)]
    if not scopes or set(scopes) - SCOPE_NAMES:
        faults.append(FieldFault("scopes", f"Expected one or more of {', '.join(sorted(SCOPE_NAMES))}."))
    if expires_at is not None and expires_at <= utc_now():
        faults.append(FieldFault("expires_at", "Expected a time to come."))
    if any(faults):
        raise Invalid("The key cannot be made.", fields=tuple(fault for fault in faults if fault))
    beyond = scopes_of_key(scopes) - granted
    if beyond:
        raise Forbidden(f"You cannot give a key what you may not do yourself: {', '.join(sorted(beyond))}.")
    clear = mint_api_key()
    row = ApiKey(
        id=new_id("api_key"), account_id=account.id, name=name.strip(), key_hash=digest(clear), hint=hint_of(clear),
        scopes=sorted(set(scopes)), created_by=actor.id, expires_at=expires_at,
    )  # fmt: skip
    session.add(row)
    record(session, actor, Event.API_KEY_CREATE, row)
    return NewApiKey(row, clear)


async def revoke_api_key(session: AsyncSession, actor: Actor, row: ApiKey) -> None:
    """End a key; its next request is refused. Revoking twice changes nothing more."""
    row.revoked_at = row.revoked_at or utc_now()
    record(session, actor, Event.API_KEY_REVOKE, row)


def _name_fault(field: str, text: Any) -> FieldFault | None:
    if not text.strip() or len(text) > 200 or not text.isprintable():
        return FieldFault(field, "Expected 1 to 200 printable characters.")
    return None


@cache
def _timezones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
