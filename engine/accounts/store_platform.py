"""SQL of what the whole installation has one of."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import MailSettings

MAIL = "mail_settings_00000000000000000000000000"  # the one row


async def mail_settings(session: AsyncSession) -> MailSettings | None:
    """The mail server set in the pages; None: none ever was."""
    return await session.get(MailSettings, MAIL)


async def mail_settings_to_change(session: AsyncSession) -> MailSettings:
    """The row, made with nothing in it when there is none, locked for the transaction."""
    row = await session.scalar(select(MailSettings).where(MailSettings.id == MAIL).with_for_update())
    if row is None:
        row = MailSettings(id=MAIL, host="", port=587, security="starttls", username="", sender="")
        session.add(row)
    return row
