"""Trying an account's template before its transaction is open: it takes tens of milliseconds, in a thread."""

import asyncio
from collections.abc import Mapping
from functools import cache

from aiohttp import web

from admin.context import ACCOUNT, DATABASE, INDEX
from engine.provisioning import overrides, store_levels, vendors
from engine.provisioning.overrides import Examined
from engine.provisioning.render import Renderer

SAMPLE_PHONES = 5  # of as many models as there are


async def tried(request: web.Request, vendor: str, name: str, body: str) -> Examined:
    """What comes of that text, beside the account's other templates, on made-up phones and some of the account's."""
    profile = vendors.known().profiles.get(vendor)
    if profile is None:
        return Examined((f"There is no vendor {vendor[:40]!r}; there are {', '.join(vendors.known().profiles)}.",))
    account_id = request[ACCOUNT].id
    index = request.app[INDEX]
    async with request.app[DATABASE].sessions() as session:
        ids = await store_levels.sample_of(session, account_id, vendor, limit=SAMPLE_PHONES)
    found = [await index.phone(phone_id) for phone_id in ids]
    others: Mapping[str, str] = await index.overrides(account_id, vendor, "")
    return await asyncio.to_thread(
        overrides.examine,
        _renderer(),
        profile,
        {**others, name: body},
        name,
        [phone for phone in found if phone is not None],
        await index.account(account_id),
    )


@cache
def _renderer() -> Renderer:
    return Renderer(vendors.known())
