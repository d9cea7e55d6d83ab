"""Reading the fetch log of an account: some of it under filters, and the addresses that ask in vain (SQL).

Theory of operation. The log holds every request of every phone, and nobody indexes what a person may look for in it.
So one page looks through so many events, the newest first, shows what fits, and says where the next page goes on: a
search that finds nothing ends too. What was refused or failed is rare and has a partial index of its own.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, and_, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from engine.models import Account, Phone, ProvisioningEvent
from engine.models.provisioning import REFUSED
from engine.provisioning import vendors
from engine.provisioning.fetches import SERVED, FetchKind
from engine.provisioning.vendors import Mac

LOOK: Final = 20_000  # events that one page looks through
NEWCOMERS_FROM: Final = 2_000  # refused requests that unknown phones are gathered from
NO_PHONE: Final = "phone"  # the reason of a request for an address that is not kept
_PAGE_OF_IDS = 400


class Outcome(StrEnum):
    """What became of a request. Names stand in addresses."""

    REFUSED = "refused"  # refused, or failed
    SERVED = "served"
    ABSENT = "absent"  # a file that phones of its kind do without
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class Filters:
    """What is looked for. `text`: words, each in the file's name, the User-Agent or the address asked from.

    `is_of_nobody`: requests by a token that is no account's, in place of the account's own.
    """

    outcome: str = ""
    reason: str = ""
    text: str = ""
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    is_of_nobody: bool = False


@dataclass(frozen=True, slots=True)
class FetchPage:
    """Events, the newest first. `following`: the event behind which the next page begins; None: that was all.

    `looked_until`: how far back was looked when that, and not the number of rows, has ended the page.
    """

    rows: Sequence[ProvisioningEvent]
    following: str | None
    looked_until: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A phone that asks by the account's URL and is not kept. `vendor` and `model` as it says, "" where it does not."""

    mac: Mac
    vendor: str
    model: str
    ip: str
    at: dt.datetime
    times: int


async def is_alone(session: AsyncSession) -> bool:
    """Whether there is one account: requests by a token that is nobody's can only be meant for that one."""
    return len((await session.scalars(select(Account.id).limit(2))).all()) == 1


async def list_fetches(
    session: AsyncSession, account_id: str, filters: Filters, *, limit: int, after: str | None = None, look: int = LOOK
) -> FetchPage:
    """A page of the log. `after`: the event behind which it begins; `look`: through how many events it looks."""
    owner = None if filters.is_of_nobody else account_id
    looked = select(ProvisioningEvent).where(ProvisioningEvent.account_id == owner)
    if after is not None:
        looked = looked.where(ProvisioningEvent.id < after)
    if filters.outcome == Outcome.REFUSED or (filters.reason and filters.reason != Outcome.ABSENT):
        looked = looked.where(text(REFUSED))
    looked = looked.order_by(ProvisioningEvent.id.desc()).limit(look)
    event = aliased(ProvisioningEvent, looked.subquery())
    found = select(event).where(*_conditions(event, filters)).order_by(event.id.desc()).limit(limit + 1)
    rows = (await session.scalars(found)).all()
    if len(rows) > limit:
        return FetchPage(rows[:limit], rows[limit - 1].id)
    ends = looked.with_only_columns(ProvisioningEvent.id, ProvisioningEvent.at).subquery()
    asked = select(func.count(), func.min(ends.c.id), func.min(ends.c.at))
    number, last_id, last_at = (await session.execute(asked)).one()
    if number < look:
        return FetchPage(rows, None)
    return FetchPage(rows, last_id, last_at)


def _conditions(event: type[ProvisioningEvent], filters: Filters) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    match filters.outcome:
        case Outcome.SERVED:
            found.append(event.kind.in_([*sorted(SERVED), FetchKind.HELD]))
        case Outcome.ABSENT:
            found.append(and_(event.kind == FetchKind.DENIED, event.reason == "absent"))
        case Outcome.UPLOAD:
            found.append(event.kind == FetchKind.UPLOAD)
    if filters.reason:
        found.append(event.reason == filters.reason)
    for word in filters.text.split():
        bare = word.replace(":", "") if len(word) > 3 else word  # a MAC address stands in files without its colons
        places = (event.file.icontains(bare, autoescape=True), event.ip.startswith(word, autoescape=True))
        found.append(or_(*places, event.user_agent.icontains(word, autoescape=True)))
    if filters.since is not None:
        found.append(event.at >= filters.since)
    if filters.until is not None:
        found.append(event.at <= filters.until)
    return found


async def newcomers(session: AsyncSession, account_id: str, since: dt.datetime, *, limit: int) -> Sequence[Newcomer]:
    """Phones that asked by the account's URL since then and are not kept, those that asked last first.

    They are gathered from the last `NEWCOMERS_FROM` refused requests: somebody who walks addresses makes more than
    anybody reads.
    """
    query = (
        select(ProvisioningEvent)
        .where(ProvisioningEvent.account_id == account_id, text(REFUSED))
        .order_by(ProvisioningEvent.id.desc())
        .limit(NEWCOMERS_FROM)
    )
    found: dict[Mac, Newcomer] = {}
    for event in await session.scalars(query):
        if event.reason != NO_PHONE or event.at < since:
            continue
        one = _newcomer(event)
        if one is not None:
            first = found.setdefault(one.mac, one)
            if first is not one:
                found[one.mac] = _both(first, one)
    kept: set[str] = set()
    macs = list(found)
    for start in range(0, len(macs), _PAGE_OF_IDS):
        named = Phone.mac.in_(macs[start : start + _PAGE_OF_IDS])
        kept |= set(await session.scalars(select(Phone.mac).where(Phone.account_id == account_id, named)))
    return [one for mac, one in found.items() if mac not in kept][:limit]


def _newcomer(event: ProvisioningEvent) -> Newcomer | None:
    who = vendors.known().identify(event.file, event.user_agent)
    if who.mac is None:
        return None
    times = int(event.evidence.get("count", 1))
    return Newcomer(who.mac, who.vendor or "", who.model or "", event.ip, event.at, times)


def _both(newer: Newcomer, older: Newcomer) -> Newcomer:
    """One phone's requests together: what it said last counts, where it said something."""
    told = newer if newer.model or not older.model else older
    return Newcomer(newer.mac, told.vendor, told.model, newer.ip, newer.at, newer.times + older.times)
