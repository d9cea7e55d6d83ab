"""Trying an account's template as it would be served: beside the account's other templates, on made-up phones and on
some of the account's own. It takes tens of milliseconds, so it is done in a thread and outside any transaction.
"""

import asyncio
from collections.abc import Mapping
from functools import cache

from engine.db import Database
from engine.models import Rollout
from engine.provisioning import overrides, rollout, store_levels, vendors
from engine.provisioning.fleet import ChangeKind
from engine.provisioning.index import Index
from engine.provisioning.overrides import Examined
from engine.provisioning.render import Renderer

SAMPLE_PHONES = 5  # of as many models as there are


async def tried(
    database: Database, index: Index, account_id: str, vendor: str, name: str, body: str | None
) -> Examined:
    """What comes of that text for the account's phones of that vendor. `body` None: the shipped one stands there again,
    beside the account's other texts.
    """
    profile = vendors.known().profiles.get(vendor)
    if profile is None:
        return Examined((f"There is no vendor {vendor[:40]!r}; there are {', '.join(vendors.known().profiles)}.",))
    async with database.sessions() as session:
        ids = await store_levels.sample_of(session, account_id, vendor, limit=SAMPLE_PHONES)
    phones = await index.phones(ids)
    texts: Mapping[str, str] = await index.overrides(account_id, vendor, "")
    return await asyncio.to_thread(
        overrides.examine_back if body is None else overrides.examine,
        _renderer(),
        profile,
        texts if body is None else {**texts, name: body},
        name,
        list(phones.values()),
        await index.account(account_id),
    )


async def tried_rollout(database: Database, index: Index, row: Rollout) -> Examined:
    """What comes of the template that is being rolled out, now that it is to be published: others may have changed
    since it began. Nothing to say of a level of settings.
    """
    change = rollout.change_of(row)
    if change.kind is not ChangeKind.TEMPLATE or not isinstance(change.after, str | None):
        return Examined()
    return await tried(database, index, row.account_id, change.vendor, change.name, change.after)


@cache
def _renderer() -> Renderer:
    return Renderer(vendors.known())
