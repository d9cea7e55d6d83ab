"""This room's SQL: phones, lines, what sits on which key, and the fetch log. The phones' own look-up is in `index.py`.

Nothing here commits. A row of another account is never returned: the account is part of every question.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.errors import NotFound
from engine.models import ConfirmedLocation, Line, Number, Phone, PhoneLine, PhoneStatus, ProvisioningEvent, Revision


@dataclass(frozen=True, slots=True)
class PhoneCounts:
    """How many phones an account has. `first_id`: the one made first; None when there are none."""

    phones: int
    booted: int  # fetched a configuration at least once
    stale: int
    first_id: str | None


async def phones_of(session: AsyncSession, account_id: str) -> Sequence[Phone]:
    """Every phone of the account, in the order they were made."""
    return (await session.scalars(select(Phone).where(Phone.account_id == account_id).order_by(Phone.id))).all()


async def count_phones(session: AsyncSession, account_id: str) -> PhoneCounts:
    """Counted by the database: a page that only tells numbers reads no phones."""
    query = select(
        func.count(),
        func.count(Phone.last_fetch_at),
        func.count().filter(Phone.status == PhoneStatus.STALE),
        func.min(Phone.id),  # identifiers sort by the time they were made
    ).where(Phone.account_id == account_id)
    phones, booted, stale, first_id = (await session.execute(query)).one()
    return PhoneCounts(phones, booted, stale, first_id)


async def lines_of(session: AsyncSession, account_id: str) -> Sequence[Line]:
    """Every line of the account, by extension."""
    return (await session.scalars(select(Line).where(Line.account_id == account_id).order_by(Line.extension))).all()


async def phone_of(session: AsyncSession, account_id: str, phone_id: str) -> Phone:
    """Raises NotFound: no such phone in this account."""
    found = await session.scalar(select(Phone).where(Phone.id == phone_id, Phone.account_id == account_id))
    if found is None:
        raise NotFound("This account has no phone of that id.")
    return found


async def count_lines(session: AsyncSession, account_id: str) -> int:
    """How many lines the account has."""
    return await session.scalar(select(func.count()).select_from(Line).where(Line.account_id == account_id)) or 0


async def line_of(session: AsyncSession, account_id: str, line_id: str) -> Line:
    """Raises NotFound: no such line in this account."""
    found = await session.scalar(select(Line).where(Line.id == line_id, Line.account_id == account_id))
    if found is None:
        raise NotFound("This account has no line of that id.")
    return found


async def phone_by_mac(session: AsyncSession, account_id: str, mac: str) -> Phone | None:
    return (await session.scalars(select(Phone).where(Phone.account_id == account_id, Phone.mac == mac))).first()


async def line_by_sip_user(session: AsyncSession, account_id: str, sip_user: str) -> Line | None:
    return (await session.scalars(select(Line).where(Line.account_id == account_id, Line.sip_user == sip_user))).first()


async def keys_of(session: AsyncSession, phone_id: str) -> Sequence[PhoneLine]:
    """What sits on the phone's keys, first key first."""
    query = select(PhoneLine).where(PhoneLine.phone_id == phone_id).order_by(PhoneLine.key)
    return (await session.scalars(query)).all()


async def confirmed_for(
    session: AsyncSession, *, phone_id: str | None = None, line_id: str | None = None
) -> Sequence[ConfirmedLocation]:
    """The addresses that users confirmed for that phone, or for that line."""
    whose = ConfirmedLocation.phone_id == phone_id if phone_id else ConfirmedLocation.line_id == line_id
    return (await session.scalars(select(ConfirmedLocation).where(whose))).all()


async def numbers_of_line(session: AsyncSession, line_id: str) -> Sequence[Number]:
    """The callback numbers that are that line's own."""
    return (await session.scalars(select(Number).where(Number.line_id == line_id))).all()


async def line_ids_by_phone(session: AsyncSession, phone_ids: Sequence[str]) -> Mapping[str, list[str]]:
    """For each of those phones its line ids in key order; a phone without lines has an empty list."""
    found: dict[str, list[str]] = {phone_id: [] for phone_id in phone_ids}
    if phone_ids:
        query = (
            select(PhoneLine.phone_id, PhoneLine.line_id)
            .where(PhoneLine.phone_id.in_(phone_ids))
            .order_by(PhoneLine.phone_id, PhoneLine.key)
        )
        for phone_id, line_id in await session.execute(query):
            found[phone_id].append(line_id)
    return found


async def phones_with_line(session: AsyncSession, line_id: str) -> Sequence[Phone]:
    holders = select(PhoneLine.phone_id).where(PhoneLine.line_id == line_id)
    return (await session.scalars(select(Phone).where(Phone.id.in_(holders)))).all()


async def revision_of(session: AsyncSession, account_id: str) -> int:
    return await session.scalar(select(Revision.value).where(Revision.account_id == account_id)) or 0


async def events_of(
    session: AsyncSession, account_id: str, *, phone_id: str | None = None, before: str | None = None, limit: int = 100
) -> Sequence[ProvisioningEvent]:
    """The fetch log, newest first, from behind the event `before` on."""
    query = select(ProvisioningEvent).where(ProvisioningEvent.account_id == account_id)
    if phone_id is not None:
        query = query.where(ProvisioningEvent.phone_id == phone_id)
    if before is not None:
        query = query.where(ProvisioningEvent.id < before)
    return (await session.scalars(query.order_by(ProvisioningEvent.id.desc()).limit(limit))).all()
