"""Who still asks with a token that was rotated away: found out when the fetch log is written, never on the request.

A denied request costs the same whether its token was never anybody's or was an account's until yesterday. The keyed
indexes of the last tokens of each account are kept; when the log is written, denied fetches are compared with them and
told to the account, and to the phone of that MAC.
"""

import datetime as dt
from copy import copy
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.db import utc_now
from engine.models import Phone, PhoneStatus, RetiredToken
from engine.provisioning import vicinity
from engine.provisioning.fetches import Count, Fetch

REASON = "retired_token"
MAX_KEPT = 10  # of an account
KEPT_FOR = dt.timedelta(days=400)  # a phone in a drawer is found a year later; after that it is any stranger


@dataclass(frozen=True, slots=True)
class Wish:
    """The index of the token that an account's phones shall ask with (None: there is none), and whether they are being
    moved to it.
    """

    token_index: str | None = None
    is_moving: bool = False


class Served(Protocol):
    """A phone's columns of those names: its row, or these alone."""

    status: str
    last_ip: str | None
    home_ip: str | None
    fetched_token_index: str | None
    elsewhere_at: dt.datetime | None


async def retire(session: AsyncSession, account_id: str, token_index: str) -> None:
    """Keep the index of a token that ends now, and let go of those that are too many or too old."""
    now = utc_now()
    await session.merge(RetiredToken(token_index=token_index, account_id=account_id, retired_at=now))
    await session.flush()
    query = select(RetiredToken.token_index).where(RetiredToken.account_id == account_id)
    query = query.where(RetiredToken.token_index != token_index).order_by(RetiredToken.retired_at.desc())
    older = (await session.scalars(query)).all()
    await session.execute(delete(RetiredToken).where(RetiredToken.token_index.in_(older[MAX_KEPT - 1 :])))
    await session.execute(delete(RetiredToken).where(RetiredToken.retired_at < now - KEPT_FOR))


async def attributed(session: AsyncSession, taken: dict[Fetch, Count]) -> dict[Fetch, Count]:
    """The noted fetches, those with a retired token told to its account and phone; those with a token of nobody's stay
    nobody's, and equal ones among them are counted together.
    """
    strays = {fetch.token_index for fetch in taken if fetch.account_id is None and fetch.token_index}
    if not strays:
        return taken
    owners = await _owners(session, strays)
    macs = {(owners[fetch.token_index], fetch.mac) for fetch in taken if fetch.token_index in owners and fetch.mac}
    phones = await _phones_of(session, macs)
    told: dict[Fetch, Count] = {}
    for fetch, count in taken.items():
        _add(told, _told(fetch, owners, phones), count)
    return told


def is_from_home(phone: Served, fetch: Fetch, wish: Wish) -> bool:
    """While phones are being moved: did the phone itself ask, by its certificate or from the network where it was
    served before the move? The first fetch of all makes the home. Outside of a move anywhere is home.
    """
    if not wish.is_moving:
        return True
    if phone.home_ip is None:
        phone.home_ip = phone.last_ip or fetch.ip
    return fetch.is_proven or vicinity.is_near(phone.home_ip, fetch.ip)


def note_token(phone: Served, fetch: Fetch, wish: Wish, at: dt.datetime, *, is_from_home: bool) -> None:
    """Put on the phone by which token it asked for its own files; until it asks by the wished one it is stale.

    While phones are being moved, whoever reads a file by the old URL learns the new one: only what comes from the
    phone's home counts, the rest is kept as a question for the account's people.
    """
    if fetch.revision is None or not fetch.token_index:
        return
    if is_from_home:
        phone.fetched_token_index = fetch.token_index
    elif fetch.token_index == wish.token_index:
        phone.elsewhere_at = at
    if phone.fetched_token_index != wish.token_index and phone.status == PhoneStatus.CURRENT:
        phone.status = PhoneStatus.STALE


def _told(fetch: Fetch, owners: dict[str, str], phones: dict[tuple[str, str], str]) -> Fetch:
    if fetch.account_id is not None:
        return fetch
    account_id = owners.get(fetch.token_index)
    if account_id is None:
        return fetch._replace(token_index="")  # a thousand guesses are one event
    phone_id = phones.get((account_id, fetch.mac))
    return fetch._replace(account_id=account_id, phone_id=phone_id, reason=REASON, token_index="")


def _add(told: dict[Fetch, Count], fetch: Fetch, count: Count) -> None:
    known = told.get(fetch)
    if known is None:
        told[fetch] = copy(count)  # the noted ones are tried again as they were when this writing fails
        return
    known.count += count.count
    known.duration_us += count.duration_us


async def _owners(session: AsyncSession, token_indexes: set[str]) -> dict[str, str]:
    """The accounts whose tokens those were."""
    since = utc_now() - KEPT_FOR
    query = select(RetiredToken.token_index, RetiredToken.account_id)
    query = query.where(RetiredToken.token_index.in_(token_indexes), RetiredToken.retired_at >= since)
    return {row[0]: row[1] for row in await session.execute(query)}


async def _phones_of(session: AsyncSession, asked: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The ids of those accounts' phones with those MACs."""
    query = select(Phone.account_id, Phone.mac, Phone.id).where(Phone.mac.in_({mac for _, mac in asked}))
    rows = (await session.execute(query)).all() if asked else []
    return {(row.account_id, row.mac): row.id for row in rows if (row.account_id, row.mac) in asked}
