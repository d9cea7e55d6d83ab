"""Remembered devices: browsers whose user gave a second factor there and need not give it again for a while.

The cookie holds the row's id, 256 random bits and a signature that binds both to the user: a made-up one is refused
without a look into the database. Whether it counts is asked of the row and of the account's policy each time, so
ending it, or asking at each sign-in, holds from the next sign-in on.
"""

import hmac

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store_signin
from engine.accounts.keys import digest, mint_cookie
from engine.accounts.policy import Policy, Remember
from engine.accounts.store import is_id
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import utc_now
from engine.errors import NotFound
from engine.ids import new_id
from engine.models import RememberedDevice, User

PURPOSE = "remembered-device"  # of the key ring's subkey
NAME_CHARACTERS = 12
ALL = "all"  # in place of one device's id


def cookie_suffix(user_id: str) -> str:
    """What tells the cookies of several users of one browser apart."""
    return digest(user_id)[:NAME_CHARACTERS]


async def remember(session: AsyncSession, actor: Actor, user: User, key: bytes) -> str:
    """Remember the actor's browser for this user. Returns the cookie's text.

    Records nothing: part of signing in, which does.
    """
    secret = mint_cookie()
    row = RememberedDevice(
        id=new_id("remembered_device"), user_id=user.id, account_id=user.account_id, secret_hash=digest(secret),
        ip=actor.ip, user_agent=actor.user_agent, created_at=utc_now(),
    )  # fmt: skip
    session.add(row)
    return f"{row.id}.{secret}.{_signature(key, row.id, secret, user.id)}"


async def is_remembered(session: AsyncSession, user: User, policy: Policy, cookie: str, key: bytes) -> bool:
    """Whether that cookie spares this user the second factor; notes its use."""
    if policy.remember is not Remember.REMEMBER or cookie.count(".") != 2 or not cookie.isascii():
        return False
    device_id, secret, signature = cookie.split(".")
    if not is_id(device_id) or not hmac.compare_digest(signature, _signature(key, device_id, secret, user.id)):
        return False
    row = await store_signin.device_of(session, device_id, user.id)
    if row is None or not hmac.compare_digest(row.secret_hash, digest(secret)):
        return False
    now = utc_now()
    if now - row.created_at > policy.remembered_for:
        return False
    row.last_used_at = now
    return True


async def forget(session: AsyncSession, actor: Actor, user: User, device_id: str) -> None:
    """Ask for the second factor again in one of the user's browsers; with `ALL`, in every one.

    Raises:
        NotFound: no such device of this user.
    """
    if device_id == ALL:
        await store_signin.end_devices(session, user_id=user.id)
    else:
        row = await store_signin.device_of(session, device_id, user.id) if is_id(device_id) else None
        if row is None:
            raise NotFound("This browser is not remembered, or not any more.")
        await store_signin.end_devices(session, device_id=row.id)
    record(
        session, actor, Event.REMEMBERED_DEVICE_DELETE, resource=("remembered_device", device_id, user.email),
        account_id=user.account_id,
    )  # fmt: skip


def _signature(key: bytes, device_id: str, secret: str, user_id: str) -> str:
    return hmac.digest(key, f"{device_id}.{secret}.{user_id}".encode(), "sha256").hex()
