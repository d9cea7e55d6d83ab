"""Queries behind two of Home's alarms: calls that had no location and whose cause still stands, and what was dismissed.

Every question is bounded: a handful of calls, and the rows that could have told where those callers are.
"""

import datetime as dt
import ipaddress
from collections.abc import Sequence

from sqlalchemy import String, cast, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from engine.e911.location import NO_LOCATION
from engine.models import Account, AlarmDismissal, CallKind, EmergencyCall, Line, Network, NetworkKind, Pbx, Phone

LOOKED = 50  # of the newest calls without a location
LATER = 200  # of the newest calls, among which one of the same caller with a location is looked for


async def unplaced_calls(session: AsyncSession, account: Account, since: dt.datetime) -> Sequence[EmergencyCall]:
    """Real calls since then that went out without a location and would again, newest first.

    Mended: a default stands for the account or the PBX, the phone or line has a location of its own, its network is
    known, or the same caller's later call carried a place.
    """
    calls = await _without_location(session, account.id, since)
    if not calls or account.default_location_id:
        return []
    placed = await _placed(session, calls)
    networks = await _networks_around(session, account.id, {str(call.caller.get("source_ip") or "") for call in calls})
    later = await _later_placed(session, account.id, calls[-1].sent_at)
    return [
        call
        for call in calls
        if placed.isdisjoint(_traces(call))
        and networks.isdisjoint(_prefixes(str(call.caller.get("source_ip") or "")))
        and not any(call.sent_at < at and who == _who(call) for who, at in later)
    ]


async def _without_location(session: AsyncSession, account_id: str, since: dt.datetime) -> list[EmergencyCall]:
    query = (
        select(EmergencyCall)
        .where(
            EmergencyCall.account_id == account_id, EmergencyCall.sent_at >= since,
            EmergencyCall.kind == CallKind.EMERGENCY, cast(EmergencyCall.flags, String).contains(f'"{NO_LOCATION}"'),
        )
        .options(defer(EmergencyCall.invite, raiseload=True))
        .order_by(EmergencyCall.sent_at.desc(), EmergencyCall.id.desc())
        .limit(LOOKED)
    )  # fmt: skip
    return list(await session.scalars(query))


async def _placed(session: AsyncSession, calls: Sequence[EmergencyCall]) -> set[str]:
    """Which of their phones, lines and PBXs have a location by now."""
    named = {name for call in calls for name in _traces(call)}
    found: set[str] = set()
    for column, location in (
        (Phone.id, Phone.location_id), (Line.id, Line.location_id), (Pbx.id, Pbx.default_location_id),
    ):  # fmt: skip
        found |= set(await session.scalars(select(column).where(column.in_(named), location.is_not(None))))
    return found


async def _networks_around(session: AsyncSession, account_id: str, ips: set[str]) -> set[str]:
    """The account's subnets that hold one of these addresses, in canonical spelling."""
    around = {prefix for ip in ips for prefix in _prefixes(ip)}
    if not around:
        return set()
    query = select(Network.value).where(
        Network.account_id == account_id, Network.kind == NetworkKind.SUBNET, Network.value.in_(around)
    )
    return set(await session.scalars(query))


async def _later_placed(
    session: AsyncSession, account_id: str, since: dt.datetime
) -> list[tuple[tuple[str, str], dt.datetime]]:
    """Who called, real or as a test, with a place, and when; the newest since then."""
    query = (
        select(EmergencyCall)
        .where(
            EmergencyCall.account_id == account_id, EmergencyCall.sent_at > since,
            EmergencyCall.kind != CallKind.DRILL, EmergencyCall.location_source != "none",
        )
        .options(defer(EmergencyCall.invite, raiseload=True))
        .order_by(EmergencyCall.sent_at.desc())
        .limit(LATER)
    )  # fmt: skip
    return [(_who(call), call.sent_at) for call in await session.scalars(query)]


def _who(call: EmergencyCall) -> tuple[str, str]:
    return str(call.pbx_id or ""), str(call.caller.get("phone_id") or call.caller.get("extension") or call.id)


def _traces(call: EmergencyCall) -> set[str]:
    named = (call.pbx_id, call.caller.get("phone_id"), call.caller.get("line_id"))
    return {str(name) for name in named if name}


def _prefixes(ip: str) -> set[str]:
    """Every subnet that holds the address, as networks are written."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return set()
    return {str(ipaddress.ip_network((address, bits), strict=False)) for bits in range(address.max_prefixlen + 1)}


async def dismissals_of(session: AsyncSession, account_id: str) -> dict[str, dt.datetime]:
    """Up to when each kind of alarm was dismissed."""
    query = select(AlarmDismissal.kind, AlarmDismissal.until).where(AlarmDismissal.account_id == account_id)
    return {row[0]: row[1] for row in await session.execute(query)}


async def dismissal_of(session: AsyncSession, account_id: str, kind: str) -> AlarmDismissal | None:
    """That kind's, which nobody else changes before the commit."""
    query = select(AlarmDismissal).where(AlarmDismissal.account_id == account_id, AlarmDismissal.kind == kind)
    return await session.scalar(query.with_for_update())
