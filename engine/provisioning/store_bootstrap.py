"""SQL of the bootstrap: which accounts have named the addresses their phones ask from, and one account's token."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.errors import Invalid
from engine.models import Account
from engine.provisioning.bootstrap import Holder, holder_for
from engine.provisioning.policy import Policy


async def find_holder(session: AsyncSession, address: str) -> Holder | None:
    """The only account whose ranges hold that address, with the token its phones shall use from now on."""
    query = select(Account.id, Account.provisioning_policy).where(Account.provisioning_token_index.is_not(None))
    holders = [
        Holder(row[0], policy, "")
        for row in await session.execute(query)
        if (policy := _policy(row[1])) is not None and policy.sources
    ]
    found = holder_for(address, holders)
    if found is None:
        return None
    tokens = select(Account.provisioning_token, Account.next_provisioning_token).where(Account.id == found.account_id)
    row = (await session.execute(tokens)).first()
    token = (row[1] or row[0]) if row is not None else None
    return Holder(found.account_id, found.policy, token) if token else None


async def has_ranges(session: AsyncSession) -> bool:
    """Whether any account has named the addresses its phones ask from."""
    policies = await session.scalars(select(Account.provisioning_policy))
    return any((policy := _policy(each)) is not None and policy.sources for each in policies)


def _policy(stored: dict[str, object] | None) -> Policy | None:
    """None for what cannot be read: such an account has no bootstrap."""
    try:
        return Policy.of(stored or {})
    except Invalid:
        return None
