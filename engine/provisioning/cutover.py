"""Rotations: at once, or by pushing the next token through the old URL and cutting over when the phones have moved.

Theory of operation. While phones are being moved two tokens of an account work. Whatever a phone fetches by either of
them carries the URL of the next one, so each phone learns it where it asks today and asks there the time after. The
cut makes the next token the one in force and lets the other die in one commit. Nothing dies before a cut, but by an
abandonment that says how many phones it leaves behind; calling a move off turns it round instead, once a phone may
hold the new URL (docs/decisions/0018).
"""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.crypto import KeyRing
from engine.db import utc_now
from engine.errors import Conflict
from engine.models import Account
from engine.provisioning import retired, store_cutover, tokens
from engine.provisioning.movement import Impact, Mode, Move, Progress, RotationState


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of calling a move off. `is_returning`: phones are brought back first; else the next token is dead,
    with `left` phones that may hold its URL.
    """

    is_returning: bool
    left: int


async def impact(session: AsyncSession, account: Account) -> Impact:
    """Whom an immediate rotation would leave behind."""
    return await store_cutover.impact(session, account.id, utc_now())


async def begin(
    session: AsyncSession, actor: Actor, account: Account, keys: KeyRing, *, is_automatic: bool = True
) -> str:
    """Mint the next token; from the commit on, files fetched by either URL carry its URL. Returns the clear token.

    Args:
        is_automatic: Cut as soon as every phone that was ever seen has moved.
    Raises:
        Conflict: there is no token yet, or phones are being moved already.
    """
    await store_cutover.lock(session, account)
    if account.provisioning_token is None:
        raise Conflict("This account has no provisioning URL yet, so there is nothing to move from. Generate one.")
    if account.next_provisioning_token is not None:
        raise Conflict("Phones are being moved to a new URL already. Cut over or call that off first.")
    token = tokens.mint()
    account.next_provisioning_token = token
    account.next_provisioning_token_index = tokens.index(keys, token)
    account.next_provisioning_token_at = utc_now()
    account.rotation = Move(automatic=is_automatic).as_stored()
    await store_cutover.settle_homes(session, account)
    await store_cutover.outdate(session, account)
    now = await store_cutover.progress(session, account)
    details = {"mode": Mode.PUSH, "phones": now.phones, "automatic": is_automatic}
    record(session, actor, Event.PROVISIONING_TOKEN_ROTATE, account, details=details)
    return token


async def cut(session: AsyncSession, actor: Actor, account: Account, *, is_automatic: bool = False) -> Progress:
    """End the old URL: from the commit on it answers 404. Returns how far the move had come.

    Raises:
        Conflict: no move is under way.
    """
    await store_cutover.lock(session, account)
    old, new = account.provisioning_token_index, account.next_provisioning_token_index
    if old is None or new is None:
        raise Conflict("No phones are being moved, so there is nothing to cut over. Begin a rotation first.")
    reached = await store_cutover.progress(session, account)
    account.provisioning_token, account.provisioning_token_index = account.next_provisioning_token, new
    account.provisioning_token_at = account.next_provisioning_token_at
    _let_go_of_next(account)
    await retired.retire(session, account.id, old)
    await store_cutover.outdate(session, account)
    record(
        session, actor, Event.PROVISIONING_TOKEN_CUT, account,
        details={"phones": reached.phones, "moved": reached.moved, "automatic": is_automatic},
    )  # fmt: skip
    return reached


async def cancel(session: AsyncSession, actor: Actor, account: Account, *, is_abandoned: bool = False) -> Ended:
    """Call a move off: at once where no phone can hold the next URL yet, else by turning it round.

    Args:
        is_abandoned: Let the next token die at once all the same; phones that hold its URL get nothing any more.
    Raises:
        Conflict: no move is under way, or it goes back already.
    """
    await store_cutover.lock(session, account)
    old, new = account.provisioning_token_index, account.next_provisioning_token_index
    if old is None or new is None:
        raise Conflict("No phones are being moved, so there is nothing to call off.")
    reached = await store_cutover.progress(session, account)
    if reached.state is RotationState.RETURNING:
        raise Conflict("The phones are on their way back already. Cut over to end the other URL now.")
    holding = reached.moved + reached.told
    is_returning = holding > 0 and not is_abandoned
    if is_returning:
        _turn_round(account)
    else:
        _let_go_of_next(account)
        await retired.retire(session, account.id, new)
    await store_cutover.outdate(session, account)
    record(
        session, actor, Event.PROVISIONING_TOKEN_CANCEL, account,
        details={"holding": holding, "returning": is_returning},
    )  # fmt: skip
    return Ended(is_returning, holding)


async def end_all(session: AsyncSession, account: Account) -> None:
    """Retire whatever opens the account's files: the token in force, and the one phones are being moved to. Whoever
    held the first could read the second.
    """
    held = (account.provisioning_token_index, account.next_provisioning_token_index)
    _let_go_of_next(account)
    for token_index in held:
        if token_index is not None:
            await retired.retire(session, account.id, token_index)


def _turn_round(account: Account) -> None:
    """The token that was being left becomes the one to go to; both go on working."""
    old, old_index = account.provisioning_token, account.provisioning_token_index
    new, new_index = account.next_provisioning_token, account.next_provisioning_token_index
    began = account.next_provisioning_token_at
    account.provisioning_token, account.provisioning_token_index = new, new_index
    account.next_provisioning_token, account.next_provisioning_token_index = old, old_index
    account.provisioning_token_at, account.next_provisioning_token_at = began, utc_now()
    account.rotation = Move(automatic=True, is_return=True, unsettled_since=began).as_stored()


def _let_go_of_next(account: Account) -> None:
    account.next_provisioning_token = account.next_provisioning_token_index = account.next_provisioning_token_at = None
    account.rotation = {}
