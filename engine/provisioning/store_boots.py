"""This room's SQL on what phones fetched: their boots, and the files they were last given."""

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import FetchedFile
from engine.provisioning import store, vendors
from engine.provisioning.fetched import text_of
from engine.provisioning.timeline import Boot, boots

EVENTS_READ = 400


async def boots_of(
    session: AsyncSession, account_id: str, phone_id: str, *, before: str | None = None, limit: int = EVENTS_READ
) -> Sequence[Boot]:
    """The phone's latest boots, the latest first, out of its last `limit` events behind the event `before`.

    A boot that this cuts in two is left out, unless it is the only one: half a boot looks like one that failed.
    """
    events = await store.events_of(session, account_id, phone_id=phone_id, before=before, limit=limit)
    found = boots(events, named=vendors.known().named_by)
    return found[:-1] if len(events) == limit and len(found) > 1 else found


async def fetched_files(session: AsyncSession, account_id: str, phone_id: str) -> Mapping[str, FetchedFile]:
    """What the phone was last given, by file name; secrets are masked in it."""
    query = select(FetchedFile).where(FetchedFile.account_id == account_id, FetchedFile.phone_id == phone_id)
    return {row.name: row for row in await session.scalars(query)}


async def forget_files(session: AsyncSession, phone_id: str) -> None:
    """Keep no copy of what the phone was last given: another device stands in its place."""
    await session.execute(delete(FetchedFile).where(FetchedFile.phone_id == phone_id))


def fetched_text(row: FetchedFile | None) -> str | None:
    """The text the phone was last given; None: it never fetched that file."""
    return text_of(row) if row is not None else None
