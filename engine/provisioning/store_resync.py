"""SQL of resyncs: the ways to many phones at once, which phones a selection names, and what came of each. Nothing here
commits.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from engine.db import batched
from engine.models import Account, Line, Pbx, Phone, PhoneLine
from engine.provisioning.policy import Policy
from engine.provisioning.resync import MAX_RESULT_CHARACTERS, WAITING, Destination, Fleet, planned_fleet
from engine.provisioning.vendors import known

_GROUP = 500  # what every database takes in one statement


@dataclass(frozen=True, slots=True)
class Selection:
    """Which phones of an account: those with every property that is named. Nothing named: all of them."""

    vendor: str | None = None
    model: str | None = None
    location_id: str | None = None
    status: str | None = None


async def selected(session: AsyncSession, account_id: str, wanted: Selection) -> Sequence[str]:
    """Their ids, in the order the phones were made."""
    named = [(field.name, getattr(wanted, field.name)) for field in fields(wanted)]
    conditions = [getattr(Phone, name) == value for name, value in named if value is not None]
    query = select(Phone.id).where(Phone.account_id == account_id, *conditions).order_by(Phone.id)
    return (await session.scalars(query)).all()


async def names_of(session: AsyncSession, account_id: str, phone_ids: Sequence[str]) -> Mapping[str, str]:
    """Label or MAC of those phones that are the account's."""
    found: dict[str, str] = {}
    for group in batched(phone_ids, _GROUP):
        query = select(Phone.id, Phone.label, Phone.mac).where(Phone.account_id == account_id, Phone.id.in_(group))
        found.update({row[0]: row[1] or row[2] for row in await session.execute(query)})
    return found


async def fleet_of(session: AsyncSession, account_id: str, phone_ids: Sequence[str], *, fleet_id: str) -> Fleet:
    """The NOTIFY of each of those phones of the account, read in three statements for every 500."""
    pbxs = {pbx.id: pbx for pbx in await session.scalars(select(Pbx).where(Pbx.account_id == account_id))}
    only = next(iter(pbxs.values())) if len(pbxs) == 1 else None
    ways = []
    for group in batched(phone_ids, _GROUP):
        lines = await _first_lines(session, group)
        query = select(Phone.id, Phone.vendor, Phone.last_ip).where(Phone.account_id == account_id, Phone.id.in_(group))
        for phone_id, vendor, last_ip in await session.execute(query):
            line = lines.get(phone_id)
            pbx = pbxs.get(line.pbx_id) if line is not None and line.pbx_id is not None else only
            destination = destination_of(line, pbx, last_ip) if line is not None else None
            ways.append((phone_id, known().profiles.get(vendor), destination))
    stored = await session.scalar(select(Account.provisioning_policy).where(Account.id == account_id))
    return planned_fleet(fleet_id, account_id, ways, per_minute=Policy.of(stored or {}).resync_per_minute)


def destination_of(line: Line, pbx: Pbx | None, last_ip: str | None) -> Destination:
    """What is known of the way to a phone, by its first line and that line's PBX."""
    return Destination(
        sip_user=line.sip_user,
        registrar_host=pbx.registrar_host if pbx is not None else "",
        registrar_port=pbx.registrar_port if pbx is not None else 5060,
        transport=pbx.transport if pbx is not None else "udp",
        resync_via=pbx.resync_via if pbx is not None else "direct",
        last_ip=last_ip,
        auth_user=line.auth_user,
        secret=line.secret or "",
    )


async def note_waiting(session: AsyncSession, fleet: Fleet, at: dt.datetime) -> None:
    """Put on every phone that its turn is to come, or why it has none: machines' columns, which need no entry."""
    for group in batched([phone_id for phone_id, _ in fleet.planned], _GROUP):
        await session.execute(
            update(Phone).where(Phone.id.in_(group)).values(resync_result=WAITING, resync_at=at)
        )  # fmt: skip
    for phone_id, why in fleet.refused:
        await note_result(session, phone_id, why, at)


async def note_result(session: AsyncSession, phone_id: str, result: str, at: dt.datetime) -> None:
    """Put on a phone what came of asking it."""
    values = {"resync_result": result[:MAX_RESULT_CHARACTERS], "resync_at": at}
    await session.execute(update(Phone).where(Phone.id == phone_id).values(**values))


async def let_go(session: AsyncSession, result: str, before: dt.datetime) -> int:
    """What still waits since before then waits for nobody: the process that was to ask has ended. Returns how many."""
    query = update(Phone).where(Phone.resync_result == WAITING, Phone.resync_at < before)
    done = await session.execute(query.values(resync_result=result))
    return int(done.rowcount)  # type: ignore[attr-defined]  # a CursorResult, which an update always gives


async def _first_lines(session: AsyncSession, phone_ids: Sequence[str]) -> dict[str, Line]:
    first = (
        select(PhoneLine.phone_id, func.min(PhoneLine.key).label("key"))
        .where(PhoneLine.phone_id.in_(phone_ids))
        .group_by(PhoneLine.phone_id)
        .subquery()
    )
    query = (
        select(PhoneLine.phone_id, Line)
        .join(first, (first.c.phone_id == PhoneLine.phone_id) & (first.c.key == PhoneLine.key))
        .join(Line, Line.id == PhoneLine.line_id)
    )
    return {row[0]: row[1] for row in await session.execute(query)}
