"""Operations on what guards an account's files: its provisioning policy and its phones' file keys. Nobody here
commits.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.models import Account
from engine.provisioning.policy import Policy


def policy_of(account: Account) -> Policy:
    """The policy that holds for the account's phones now. Raises Invalid: what is stored is no policy."""
    return Policy.of(account.provisioning_policy or {})


async def update_policy(session: AsyncSession, actor: Actor, account: Account, changes: Mapping[str, Any]) -> Policy:
    """Change the fields that are named; phones are judged by the new policy from the commit on. Returns it whole.

    Raises:
        Invalid: every bad field.
    """
    policy = Policy.of({**policy_of(account).values(), **changes})
    account.provisioning_policy = policy.stored()
    record(session, actor, Event.PROVISIONING_POLICY_UPDATE, account)
    return policy
