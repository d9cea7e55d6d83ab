"""What a phone is handed now, rendered by the phones' own renderer with every secret masked.

Secrets are replaced before anything is rendered, so that none can be overlooked in the text.
"""

from dataclasses import replace
from functools import cache

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from admin.context import INDEX
from admin.links import provisioning_url
from admin.phone_files import files_of
from engine.errors import EngineError
from engine.models import Line, Phone
from engine.provisioning import settings, store, vendors
from engine.provisioning.render import Renderer
from engine.provisioning.settings import PhoneRecord
from engine.provisioning.tokens import REDACTED

HIDDEN = "(hidden)"


async def preview(request: web.Request, phone: Phone) -> list[tuple[str, str]]:
    """The phone's files by name, in the order it asks for them; a file that cannot be served says why instead."""
    record = await request.app[INDEX].phone(phone.id)
    if record is None:
        return []
    masked = without_secrets(record)
    return [(file.name, _text(masked, file.name, provisioning_url(request, REDACTED))) for file in files_of(phone)]


def without_secrets(record: PhoneRecord) -> PhoneRecord:
    """The record with every secret that is set replaced by the same word."""
    account = record.account
    return replace(
        record,
        account=replace(account, admin_password=HIDDEN if account.admin_password else ""),
        lines=tuple(replace(line, secret=HIDDEN if line.secret else "") for line in record.lines),
    )


def _text(record: PhoneRecord, name: str, url: str) -> str:
    profile = vendors.known().profiles[record.vendor]
    rule = profile.file_rule(name)
    assert rule is not None  # the name comes from the profile's own list
    try:
        if "mac" in rule.pattern.groupindex:
            config = settings.phone_config(record, profile, url)
        else:
            config = settings.site_config(record.account, profile, url)
        return _renderer().render(profile, rule, config).decode()
    except (EngineError, ValueError) as exc:
        return f"This file cannot be served: {exc}"


@cache
def _renderer() -> Renderer:
    return Renderer(vendors.known())


async def lines_on(session: AsyncSession, phone: Phone) -> list[Line]:
    """The lines on the phone's keys, first key first."""
    keys = await store.keys_of(session, phone.id)
    return [await store.line_of(session, phone.account_id, key.line_id) for key in keys]
