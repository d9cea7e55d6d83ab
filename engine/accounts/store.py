"""This room's SQL: accounts, users, sessions, API keys, PBXs, trunks; and the two questions every list and every
page of one thing ask (`rows_after`, `row_of`).

Nothing here commits. A row of another account is never returned: the account is part of every question.
"""

import datetime as dt
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar, cast

from sqlalchemy import ColumnElement, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped

from engine.accounts.policy import DEFAULT, Policy
from engine.db import Base, utc_now
from engine.errors import NotFound
from engine.models import (
    Account,
    ApiKey,
    Credential,
    Line,
    Network,
    Pbx,
    Role,
    SecurityPolicy,
    Session,
    SetupLink,
    Trunk,
    User,
    UserStatus,
)

# The account of the platform's own operators: nobody's phones, locations or calls are in it. A fixed name, so that
# what asks for "every account" can leave it out without a look at its row.
OPERATORS = "account_00000000000000000000000000"
PASSWORD = "password"  # noqa: S105  # the kind of a credential, not one
INVITATION = "invitation"
DISPLAY = "display"  # a session that shows alerts and nothing else, for as long as `DISPLAY_FOR`
DISPLAY_FOR = dt.timedelta(days=30)
IDLE, ABSOLUTE = DEFAULT.idle, DEFAULT.absolute  # of an account that never said otherwise
MAX_KEY_LINEAGE = 20  # keys that made keys; beyond it the question is answered with no
_ID = re.compile(r"[a-z_]{3,20}_[0-9a-z]{26}\Z")


def is_id(text: str) -> bool:
    """Whether the text has an identifier's shape (`engine.ids`); anything else names nothing and is not looked up."""
    return _ID.match(text) is not None


class OfAccount(Protocol):
    """A row that belongs to one account."""

    id: Mapped[str]
    account_id: Mapped[str]


Row = TypeVar("Row")


async def rows_after(
    session: AsyncSession,
    model: type[Row],
    account_id: str,
    *conditions: ColumnElement[bool],
    after: str | None = None,
    limit: int = 100,
    newest_first: bool = False,
) -> Sequence[Row]:
    """Rows of one account in the order they were made (identifiers sort by time), from behind `after` on.

    Rows made meanwhile come behind the last page (or, newest first, before the first one): no row is shown twice and
    none is left out.
    """
    table = cast("type[OfAccount]", model)
    query = select(model).where(table.account_id == account_id, *conditions)
    if after is not None:
        query = query.where(table.id < after if newest_first else table.id > after)
    order = cast("ColumnElement[str]", table.id)
    query = query.order_by(order.desc() if newest_first else order).limit(limit)
    return (await session.scalars(query)).all()


async def row_of(
    session: AsyncSession, model: type[Row], account_id: str, row_id: str, *, for_update: bool = False
) -> Row:
    """The account's row of that id; with `for_update` nobody else changes it before the commit.

    Raises:
        NotFound: no such row, or another account's: the answers are alike.
    """
    table = cast("type[OfAccount]", model)
    row = None
    if is_id(row_id):
        query = select(model).where(table.id == row_id, table.account_id == account_id)
        row = (await session.scalars(query.with_for_update() if for_update else query)).first()
    if row is None:
        raise NotFound(f"This account has no {cast('type[Base]', model).__tablename__.replace('_', ' ')} of that id.")
    return row


async def only_row_to_change(
    session: AsyncSession, table: type[Row], account_id: str, defaults: Mapping[str, object]
) -> Row:
    """What an account has one row of, to be changed; the caller holds the account's lock.

    A first row is written with the defaults, past the ORM, so that the audit entry shows what held before.
    """
    row = await session.get(table, account_id, with_for_update=True, populate_existing=True)
    if row is None:
        now = utc_now()
        stamps = {"account_id": account_id, "version": 0, "created_at": now, "updated_at": now}
        await session.execute(insert(table).values(**defaults, **stamps))
        row = await session.get(table, account_id)
    assert row is not None
    return row


async def account_by_id(session: AsyncSession, account_id: str) -> Account | None:
    return await session.get(Account, account_id)


async def lock_account(session: AsyncSession, account: Account) -> None:
    """Read the account again, so that nobody else changes it before the commit."""
    await session.refresh(account, with_for_update=True)


async def any_account(session: AsyncSession) -> bool:
    """Whether there is an account at all; before the first one there is nobody to sign in."""
    return (await session.execute(select(Account.id).limit(1))).first() is not None


async def has_any_user(session: AsyncSession) -> bool:
    """Whether anybody could sign in at all; before that the set-up link is the only door."""
    return (await session.execute(select(User.id).where(User.account_id != OPERATORS).limit(1))).first() is not None


async def accounts(session: AsyncSession) -> Sequence[Account]:
    """Every account of the installation, oldest first; not that of the platform's operators."""
    return (await session.scalars(select(Account).where(Account.id != OPERATORS).order_by(Account.id))).all()


async def accounts_after(
    session: AsyncSession, *, only: str | None = None, after: str | None = None, name: str = "", limit: int = 100
) -> Sequence[Account]:
    """Accounts in the order they were made, from behind `after` on, whose name holds that text.

    Args:
        only: That account alone; None: all but the operators'.
    """
    query = select(Account).where(Account.id != OPERATORS if only is None else Account.id == only)
    if after is not None:
        query = query.where(Account.id > after)
    if name:
        query = query.where(Account.name.icontains(name, autoescape=True))
    return (await session.scalars(query.order_by(Account.id).limit(limit))).all()


async def user_by_email(session: AsyncSession, email: str) -> User | None:
    return (await session.scalars(select(User).where(User.email == email.strip().lower()))).first()


async def users_of(
    session: AsyncSession, account_id: str, *, after: str | None = None, limit: int = 100
) -> Sequence[User]:
    return await rows_after(session, User, account_id, after=after, limit=limit)


async def active_owners(session: AsyncSession, account_id: str) -> int:
    """How many people can still do everything; never to fall to none."""
    query = select(func.count()).where(
        User.account_id == account_id, User.role == Role.OWNER, User.status == UserStatus.ACTIVE
    )
    return (await session.execute(query)).scalar_one()


async def was_made_by_owner(session: AsyncSession, key_id: str) -> bool:
    """Whether an API key goes back to an owner, or to the command on the machine; a key's own keys are followed up."""
    maker: str | None = key_id
    for _step in range(MAX_KEY_LINEAGE):
        key = None if maker is None else await session.get(ApiKey, maker)
        if key is None:
            break
        maker = key.created_by
    user = None if maker is None else await session.get(User, maker)
    return (maker or "").partition(":")[0] == "cli" or (
        user is not None and user.role == Role.OWNER and user.status == UserStatus.ACTIVE
    )


async def is_owner_or_of_one(session: AsyncSession, actor_id: str) -> bool:
    """Whether that user is an active owner of their own account, or that key goes back to one."""
    user = await session.get(User, actor_id)
    if user is None:
        return await was_made_by_owner(session, actor_id)
    return user.role == Role.OWNER and user.status == UserStatus.ACTIVE


async def password_of(session: AsyncSession, user_id: str) -> Credential | None:
    """The password that opens a session; None: there is none yet, or it was reset (an empty hash)."""
    credential = await session.get(Credential, (user_id, PASSWORD))
    return credential if credential is not None and credential.hash else None


async def session_by_cookie(session: AsyncSession, cookie_hash: str) -> tuple[Session, User, Account, Policy] | None:
    """The signed-in browser behind a cookie, ended or not, with its user, their account and its policy."""
    query = (
        select(Session, User, Account, SecurityPolicy)
        .join(User, User.id == Session.user_id)
        .join(Account, Account.id == User.account_id)
        .outerjoin(SecurityPolicy, SecurityPolicy.account_id == Account.id)
        .where(Session.cookie_hash == cookie_hash)
    )
    found = (await session.execute(query)).first()
    return None if found is None else (found[0], found[1], found[2], Policy.of(found[3]))


def is_live(policy: Policy = DEFAULT) -> tuple[ColumnElement[bool], ...]:
    """That a session is still good for a request: nobody ended it, and neither clock has run out."""
    now = utc_now()
    return (
        Session.ended_at.is_(None),
        Session.seen_at >= now - policy.idle,
        Session.created_at >= now - policy.absolute,
    )


async def live_sessions_of(session: AsyncSession, user_id: str, policy: Policy = DEFAULT) -> Sequence[Session]:
    """The browsers in which the user is signed in, newest first; at most 50."""
    query = select(Session).where(Session.user_id == user_id, *is_live(policy)).order_by(Session.id.desc()).limit(50)
    return (await session.scalars(query)).all()


async def sessions_of_user(session: AsyncSession, user_id: str) -> Sequence[Session]:
    """The user's sessions that nobody has ended."""
    query = select(Session).where(Session.user_id == user_id, Session.ended_at.is_(None))
    return (await session.scalars(query)).all()


async def api_key_by_hash(session: AsyncSession, key_hash: str) -> tuple[ApiKey, Account] | None:
    query = select(ApiKey, Account).join(Account, Account.id == ApiKey.account_id).where(ApiKey.key_hash == key_hash)
    found = (await session.execute(query)).first()
    return None if found is None else (found[0], found[1])


async def api_keys_of(
    session: AsyncSession, account_id: str, *, after: str | None = None, limit: int = 100
) -> Sequence[ApiKey]:
    return await rows_after(session, ApiKey, account_id, after=after, limit=limit)


async def setup_link(session: AsyncSession, key_hash: str) -> SetupLink | None:
    """The set-up link of that key while it may be used."""
    query = select(SetupLink).where(
        SetupLink.key_hash == key_hash, SetupLink.used_at.is_(None), SetupLink.expires_at > utc_now()
    )
    return (await session.scalars(query.with_for_update())).first()


async def pbxs_of(
    session: AsyncSession, account_id: str, *, after: str | None = None, limit: int = 100
) -> Sequence[Pbx]:
    return await rows_after(session, Pbx, account_id, after=after, limit=limit)


async def pbx_by_id(session: AsyncSession, account_id: str, pbx_id: str, *, for_update: bool = False) -> Pbx:
    return await row_of(session, Pbx, account_id, pbx_id, for_update=for_update)


async def depend_on_pbx(session: AsyncSession, pbx_id: str) -> tuple[Sequence[Network], Sequence[Line]]:
    """The networks that hold for that PBX's callers alone, and the lines registered there."""
    networks = (await session.scalars(select(Network).where(Network.pbx_id == pbx_id))).all()
    return networks, (await session.scalars(select(Line).where(Line.pbx_id == pbx_id))).all()


async def sources_in_use(session: AsyncSession, sources: Sequence[str], *, but: str, unless_proven: bool) -> list[str]:
    """Which of these networks a PBX other than `but` holds already, in this account or another.

    Args:
        unless_proven: pass over PBXs that prove themselves by a certificate name or a digest user.
    """
    query = select(Pbx.sources).where(Pbx.id != but)
    if unless_proven:
        query = query.where(Pbx.tls_name == "", Pbx.auth_user == "")
    taken = {source for held in await session.scalars(query) for source in held}
    return [source for source in sources if source in taken]


async def sources_nested(
    session: AsyncSession, sources: Sequence[str], *, but_account: str, unless_proven: bool
) -> list[str]:
    """Which of these networks lie inside or around one that a PBX of another account holds; equal ones are told by
    `sources_in_use`. Within an account a narrower network is how a part of a site is told from the rest.

    Args:
        unless_proven: pass over PBXs that prove themselves by a certificate name or a digest user.
    """
    query = select(Pbx.sources).where(Pbx.account_id != but_account)
    if unless_proven:
        query = query.where(Pbx.tls_name == "", Pbx.auth_user == "")
    wished = [(source, ipaddress.ip_network(source)) for source in sources]
    found: dict[str, None] = {}
    for held in await session.scalars(query) if wished else ():
        for text in held:
            other = ipaddress.ip_network(text)
            found |= {source: None for source, network in wished if text != source and network.overlaps(other)}
    return list(found)


async def pbx_proving_itself(session: AsyncSession, by: ColumnElement[bool], *, but: str) -> bool:
    """Whether a PBX other than `but` proves itself like that, in this account or another."""
    return (await session.execute(select(Pbx.id).where(by, Pbx.id != but).limit(1))).first() is not None


async def trunks_of(
    session: AsyncSession, account_id: str, *, after: str | None = None, limit: int = 100
) -> Sequence[Trunk]:
    return await rows_after(session, Trunk, account_id, after=after, limit=limit)


async def trunk_by_id(session: AsyncSession, account_id: str, trunk_id: str, *, for_update: bool = False) -> Trunk:
    return await row_of(session, Trunk, account_id, trunk_id, for_update=for_update)
