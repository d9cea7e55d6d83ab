"""A phone whose device was replaced: its lines, keys, settings and place stay, what the former device told goes.

A new device has fetched nothing, runs another firmware, holds no file key and, while phones are moved to a new URL, no
URL at all. Taken for its predecessor it would count as moved and as up to date.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import Account, Phone, PhoneStatus
from engine.provisioning import safeguards, store_boots

_TOLD = (
    "last_fetch_at", "last_ip", "last_user_agent", "firmware", "fetched_revision", "fetched_token_index",
    "straggled_at", "home_ip", "elsewhere_at", "seen_vendor", "seen_model", "resync_result", "resync_at",
)  # fmt: skip


async def forget_former(session: AsyncSession, phone: Phone) -> None:
    """Forget what the device of another MAC address told and was given; its boots stay in the fetch log."""
    for name in _TOLD:
        setattr(phone, name, None)
    phone.status = PhoneStatus.NEVER_BOOTED
    if phone.file_key is not None:
        phone.file_key = None  # whoever has the former device has this key
        account = await session.get_one(Account, phone.account_id)
        safeguards.give_key(phone, safeguards.policy_of(account))
    await store_boots.forget_files(session, phone.id)
