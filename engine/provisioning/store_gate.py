"""SQL of the location gate: which phones' 911 calls would carry no address, and what the network says of them.

Nothing here commits. Phones with an address of their own cost nothing beyond an index: only the others are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from engine.models import Account, ConfirmedLocation, Line, Location, Network, Pbx, Phone, PhoneLine, Revision, Sighting
from engine.places import is_dispatchable
from engine.provisioning.location_gate import Attached, Networks
from engine.provisioning.policy import LocationGate, Policy

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Ground:
    """What holds for all phones of an account. `is_open`: nothing to find, since the account's default is an address or
    the policy's gate is off. `empty`: locations nobody can be sent to. `only_pbx_id`: of the lines that name none.
    """

    account_id: str
    is_open: bool
    empty: frozenset[str]
    only_pbx_id: str | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A phone that no record places: where the network saw it, and what was said of it so far."""

    at: Attached
    network_location_id: str | None
    is_told: bool


async def revisions(session: AsyncSession) -> dict[str, int]:
    """Every account's revision; 0 where nothing was changed yet."""
    query = select(Account.id, func.coalesce(Revision.value, 0)).outerjoin(Revision, Revision.account_id == Account.id)
    return {row[0]: row[1] for row in await session.execute(query)}


async def ground_of(session: AsyncSession, account_id: str) -> Ground | None:
    """None: there is no such account."""
    query = select(Account.default_location_id, Account.provisioning_policy).where(Account.id == account_id)
    account = (await session.execute(query)).first()
    if account is None:
        return None
    places = await session.execute(
        select(Location.id, Location.civic_address, Location.geo).where(Location.account_id == account_id)
    )
    known = {row[0]: is_dispatchable(row[1], row[2]) for row in places}
    pbxs = (await session.scalars(select(Pbx.id).where(Pbx.account_id == account_id).limit(2))).all()
    is_off = Policy.of(account[1] or {}).location_gate is LocationGate.OFF
    return Ground(
        account_id,
        is_open=is_off or known.get(account[0] or "", False),
        empty=frozenset(location_id for location_id, is_good in known.items() if not is_good),
        only_pbx_id=pbxs[0] if len(pbxs) == 1 else None,
    )


async def networks_of(session: AsyncSession, ground: Ground) -> Networks:
    """The account's networks, and what users confirmed on them, as far as somebody can be sent there."""
    found = Networks()
    for kind, value, location_id in await session.execute(
        select(Network.kind, Network.value, Network.location_id).where(Network.account_id == ground.account_id)
    ):
        if location_id not in ground.empty:
            found.add(kind, value, location_id)
    holder = func.coalesce(ConfirmedLocation.phone_id, PhoneLine.phone_id)
    confirmed = (
        select(holder, ConfirmedLocation.network, ConfirmedLocation.location_id)
        .outerjoin(PhoneLine, PhoneLine.line_id == ConfirmedLocation.line_id)
        .where(ConfirmedLocation.account_id == ground.account_id, holder.is_not(None))
        .order_by(ConfirmedLocation.confirmed_at.desc())
    )
    for phone_id, network, location_id in await session.execute(confirmed):
        if location_id not in ground.empty:
            found.add_confirmed(phone_id, network, location_id)
    return found


async def candidates_of(session: AsyncSession, ground: Ground, after: str) -> Sequence[Candidate]:
    """A page of the phones of which at least one line has no address in any record, from behind `after` on."""
    seen = (Sighting.ip, Sighting.bssid, Sighting.chassis, Sighting.port)
    query = (
        select(Phone.id, Phone.last_ip, *seen, Phone.network_location_id, Phone.no_location_at)
        .outerjoin(Sighting, Sighting.phone_id == Phone.id)
        .where(Phone.account_id == ground.account_id, Phone.id > after, _is_unplaced(ground))
        .order_by(Phone.id)
        .limit(PAGE)
    )
    return [
        Candidate(Attached(*row[:6]), network_location_id=row[6], is_told=row[7] is not None)
        for row in await session.execute(query)
    ]


async def told_of(session: AsyncSession, account_id: str) -> set[str]:
    """The phones of which it was said that they have no address."""
    return set(
        await session.scalars(select(Phone.id).where(Phone.account_id == account_id, Phone.no_location_at.is_not(None)))
    )


async def phones_among(session: AsyncSession, account_id: str, phone_ids: Sequence[str]) -> Sequence[Phone]:
    """Those of these phones that still are there, held until the end of the transaction."""
    query = select(Phone).where(Phone.account_id == account_id, Phone.id.in_(phone_ids)).order_by(Phone.id)
    return (await session.scalars(query.with_for_update())).all()


def _is_unplaced(ground: Ground) -> ColumnElement[bool]:
    pbx_id = func.coalesce(Line.pbx_id, ground.only_pbx_id)
    keys = select(PhoneLine.line_id).where(PhoneLine.phone_id == Phone.id)
    bare_lines = (
        keys.join(Line, Line.id == PhoneLine.line_id)
        .outerjoin(Pbx, Pbx.id == pbx_id)
        .where(_no_address(Line.location_id, ground), _no_address(Pbx.default_location_id, ground))
    )
    return _no_address(Phone.location_id, ground) & or_(exists(bare_lines), ~exists(keys))


def _no_address(location_id: InstrumentedAttribute[str | None], ground: Ground) -> ColumnElement[bool]:
    nothing = location_id.is_(None)
    return or_(nothing, location_id.in_(ground.empty)) if ground.empty else nothing
