"""What a policy would mean for the phones there are: this room's SQL behind the page of safeguards."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import Phone
from engine.provisioning.policy import Policy


@dataclass(frozen=True, slots=True)
class Outside:
    """Phones whose last fetch came from outside the ranges: they get no file any more. `examples`: some addresses."""

    phones: int
    examples: tuple[str, ...]


async def phones_by_vendor(session: AsyncSession, account_id: str) -> Mapping[str, int]:
    """How many phones of each family the account has."""
    query = select(Phone.vendor, func.count()).where(Phone.account_id == account_id).group_by(Phone.vendor)
    rows = (await session.execute(query.order_by(Phone.vendor))).all()
    return {row[0]: row[1] for row in rows}


async def phones_outside(session: AsyncSession, account_id: str, policy: Policy) -> Outside:
    """Those that the address ranges keep out now, by where they asked from last."""
    if not policy.sources:
        return Outside(0, ())
    query = select(Phone.last_ip, func.count()).where(Phone.account_id == account_id, Phone.last_ip.is_not(None))
    counts = [
        (address, count)
        for address, count in (await session.execute(query.group_by(Phone.last_ip))).all()
        if address is not None and not policy.allows_source(address)
    ]
    return Outside(sum(count for _, count in counts), tuple(sorted(address for address, _ in counts))[:5])
