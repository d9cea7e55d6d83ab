"""What a policy would mean for the phones there are: this room's SQL behind the page of safeguards."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import Phone
from engine.provisioning.policy import Policy


@dataclass(frozen=True, slots=True)
class Outside:
    """Phones whose last fetch came from outside the ranges: they get no file any more. `of`: how many have fetched at
    all; `examples`: some addresses.
    """

    phones: int
    of: int
    examples: tuple[str, ...]

    @property
    def is_most(self) -> bool:
        """More than half of the fleet: rather a slip than a wish."""
        return 2 * self.phones > self.of


async def phones_by_vendor(session: AsyncSession, account_id: str) -> Mapping[str, int]:
    """How many phones of each family the account has."""
    query = select(Phone.vendor, func.count()).where(Phone.account_id == account_id).group_by(Phone.vendor)
    rows = (await session.execute(query.order_by(Phone.vendor))).all()
    return {row[0]: row[1] for row in rows}


async def phones_outside(session: AsyncSession, account_id: str, policy: Policy) -> Outside:
    """Those that the address ranges keep out now, by where they asked from last."""
    whose = (Phone.account_id == account_id, Phone.last_ip.is_not(None))
    if not policy.sources:
        return Outside(0, await session.scalar(select(func.count()).select_from(Phone).where(*whose)) or 0, ())
    query = select(Phone.last_ip, func.count()).where(*whose)
    asked = [(str(row[0]), int(row[1])) for row in await session.execute(query.group_by(Phone.last_ip))]
    kept_out = [(address, count) for address, count in asked if not policy.allows_source(address)]
    examples = tuple(sorted(address for address, _ in kept_out))[:5]
    return Outside(sum(count for _, count in kept_out), sum(count for _, count in asked), examples)
