"""The lines on a phone's keys, for its page."""

from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import Line, Phone
from engine.provisioning import store


async def lines_on(session: AsyncSession, phone: Phone) -> list[Line]:
    """The lines on the phone's keys, first key first."""
    keys = await store.keys_of(session, phone.id)
    return [await store.line_of(session, phone.account_id, key.line_id) for key in keys]
