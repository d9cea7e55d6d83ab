"""What a phone is handed now, with every secret masked, and the lines on its keys."""

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from admin.phone_preview import against_fetched
from engine.models import Line, Phone
from engine.provisioning import store


async def preview(request: web.Request, phone: Phone) -> list[tuple[str, str]]:
    """The phone's files by name, in the order it asks for them; a file that cannot be served says why instead."""
    files = await against_fetched(request, phone)
    return [
        (file.name, f"This file cannot be served: {file.sentence}" if file.text is None else file.text)
        for file in files
    ]


async def lines_on(session: AsyncSession, phone: Phone) -> list[Line]:
    """The lines on the phone's keys, first key first."""
    keys = await store.keys_of(session, phone.id)
    return [await store.line_of(session, phone.account_id, key.line_id) for key in keys]
