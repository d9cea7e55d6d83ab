"""Operations on an account's security policy, and what it does by the clock: users away for too long, expired sessions.

Each changes rows and records one audit entry; nothing here commits.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store, store_signin
from engine.accounts.policy import Policy, Remember, TwoFactor, changed
from engine.accounts.signin import end_session, end_sessions_of
from engine.audit.events import Event
from engine.audit.record import SYSTEM, Actor, record
from engine.errors import Invalid
from engine.ids import new_id
from engine.models import Account, SecurityPolicy, Session, User, UserStatus


async def update_policy(
    session: AsyncSession, actor: Actor, account: Account, row: SecurityPolicy, changes: Mapping[str, Any],
    *, asking: str = "",
) -> Policy:  # fmt: skip
    """Change the policy; it holds from the next request on.

    Asking for the second factor at each login forgets every remembered device: switched back, none is known any more.

    Requiring the second factor ends the sessions that a password alone opened: it is asked for, or set up, at once.

    Args:
        row: Of `policy_row_to_change`, under the account's lock.
        asking: The session that asks for the change; it goes on.

    Raises:
        Invalid: every bad field.
    """
    before = Policy.of(row)
    wished, faults = changed(before, changes)
    if faults:
        raise Invalid("The policy cannot be like this.", fields=faults)
    if (before.idle, before.absolute) != (wished.idle, wished.absolute):
        while await _close_expired(session, account.id, before):  # so that longer clocks bring none of them back
            await session.flush()
    if before.remember is Remember.REMEMBER and wished.remember is Remember.EACH_LOGIN:
        await store_signin.end_devices(session, account_id=account.id)
    if wished.two_factor is TwoFactor.REQUIRED and before.two_factor is not TwoFactor.REQUIRED:
        for each in await store_signin.sessions_by_password_alone(session, account.id):
            if each.id != asking:
                end_session(each, "two_factor_required")
    for name, value in wished.values().items():
        setattr(row, name, value)
    record(session, actor, Event.SECURITY_POLICY_UPDATE, row, resource=("security_policy", account.id, account.name))
    fields = sorted(name for name, value in wished.values().items() if value != before.values()[name])
    # the same in the category of settings, where the reference keeps changes of the system's security
    record(
        session, actor, Event.SECURITY_SETTINGS_UPDATE, resource=("security_settings", account.id, account.name),
        account_id=account.id, bulk_id=actor.request_id or new_id("request"),
        details={"area": "security", "fields": fields},
    )  # fmt: skip
    return wished


async def disable_unused(session: AsyncSession) -> int:
    """Disable users whom their account's policy calls inactive; the last owner of an account never.

    Returns how many that were.
    """
    disabled = 0
    for row in await store_signin.policies_with_inactivity(session):
        for user in await store_signin.unused_under(session, row.account_id, Policy.of(row)):
            await _disable(session, user, row.inactive_days)
            disabled += 1
    return disabled


async def _disable(session: AsyncSession, user: User, days: int) -> None:
    user.status = UserStatus.DISABLED
    await end_sessions_of(session, user.id, "disabled")
    await store_signin.end_devices(session, user_id=user.id)
    await store_signin.drop_pending(session, user.id)
    record(
        session, SYSTEM, Event.USER_UPDATE, user, account_id=user.account_id, reason="inactive",
        details={"unused_for_days": days},
    )  # fmt: skip
    await session.flush()


async def close_expired(session: AsyncSession, account_id: str) -> int:
    """Write the end of sessions that a clock has ended. Returns how many; more than none: ask again."""
    return await _close_expired(session, account_id, await store_signin.policy_of(session, account_id))


async def _close_expired(session: AsyncSession, account_id: str, policy: Policy) -> int:
    rows = await store_signin.expired_sessions(session, account_id, policy)
    for row in rows:
        row.ended_at, row.end_reason = expiry_of(row, policy)
    return len(rows)


def expiry_of(row: Session, policy: Policy) -> tuple[dt.datetime, str]:
    """When the first of its clocks ends that session, and which one: `idle` or `absolute`."""
    if row.method == store.DISPLAY:
        return row.created_at + store.DISPLAY_FOR, "absolute"
    idle, absolute = row.seen_at + policy.idle, row.created_at + policy.absolute
    return (idle, "idle") if idle <= absolute else (absolute, "absolute")
