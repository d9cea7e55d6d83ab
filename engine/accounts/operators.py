"""Platform operators: people who may act for any account of the installation, each act in that account's own log.

Theory of operation. Operators are users of an account of their own, which holds no phones and is left out wherever
accounts are listed; so they sign in, prove themselves and are managed as everybody is. To act for another account, an
operator names it: a key or script by the header `Callpoint-Account`, a browser by entering it, which its session keeps.
From then on the actor is a platform operator with the operator's own address, and the chain is that account's.
"""

from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store
from engine.accounts.addresses import plain_email
from engine.accounts.users import UserFields, add_user, refuse_known, refuse_unfit, set_password
from engine.audit.events import Event
from engine.audit.record import OPERATOR, Actor, record
from engine.db import utc_now
from engine.errors import Forbidden, NotFound
from engine.models import Account, Role, Session, User, UserStatus

ACCOUNT_NAME = "Platform operators"


class NotYourAccount(Forbidden):
    """Somebody named an account that is not theirs, or is none: the answers are alike."""

    title = "Not your account"

    def __init__(self) -> None:
        super().__init__("Callpoint-Account names an account that this key or user may not act for, or that is none.")


def is_operators(account: Account) -> bool:
    """Whether that is the operators' own account."""
    return account.id == store.OPERATORS


async def create_operator(
    session: AsyncSession, actor: Actor, email: str, name: str, password_hash: str, role: Role = Role.OWNER
) -> User:
    """Make a platform operator; the first one makes the operators' account.

    Args:
        role: An auditor reads every account and changes none; an owner may do everything in each.

    Raises:
        Invalid: a field. Conflict: somebody has that address already.
    """
    wished = UserFields(plain_email(email), name, role, UserStatus.ACTIVE)
    refuse_unfit(wished)
    await refuse_known(session, wished.email)
    account = await store.account_by_id(session, store.OPERATORS)
    if account is None:
        account = Account(id=store.OPERATORS, name=ACCOUNT_NAME, emergency_enabled=False)
        session.add(account)
        await session.flush()
    user = await add_user(session, account, wished, None)
    await set_password(session, user, password_hash)
    record(session, actor, Event.OPERATOR_CREATE, user)
    return user


async def account_named(session: AsyncSession, home: Account, account_id: str) -> Account:
    """The account that a request names, for who belongs to `home`.

    Raises:
        NotYourAccount: another account, named by anybody but a platform operator. NotFound: there is none, for one.
    """
    if account_id == home.id:
        return home
    if not is_operators(home):
        raise NotYourAccount
    account = await store.account_by_id(session, account_id) if store.is_id(account_id) else None
    if account is None:
        raise NotFound("There is no account of that id.")
    return account


def as_operator(actor: Actor, account: Account) -> Actor:
    """The same user or key of the operators' account, as the log of the account that they act for names them."""
    display_name = f"Platform operator {actor.display_name or actor.name}".strip()
    return replace(actor, type=OPERATOR, account_id=account.id, display_name=display_name, role=OPERATOR)


async def enter_account(
    session: AsyncSession, actor: Actor, browser: Session, home: Account, account_id: str
) -> Account:
    """Act for that account in this browser, until it is left or the session ends.

    Raises:
        NotYourAccount, NotFound
    """
    account = await account_named(session, home, account_id)
    if is_operators(account) or not is_operators(home):
        raise NotYourAccount
    browser.acting_account_id = account.id
    record(
        session, as_operator(actor, account), Event.OPERATOR_ENTER, resource=("account", account.id, account.name),
        account_id=account.id, details={"since": utc_now().isoformat(timespec="seconds")},
    )  # fmt: skip
    return account


async def leave_account(session: AsyncSession, actor: Actor, browser: Session, account: Account) -> None:
    """Act for nobody any more in this browser."""
    browser.acting_account_id = None
    record(session, actor, Event.OPERATOR_LEAVE, resource=("account", account.id, account.name), account_id=account.id)
