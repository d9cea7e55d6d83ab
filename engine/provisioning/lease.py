"""A duty that one node at a time has: taken for a while, renewed, given back.

Nodes share nothing but the database, so a row is the agreement. A node that dies keeps its duty until the lease runs
out; one that is slow finds, when it renews, that another has it, and stops.
"""

import datetime as dt

from sqlalchemy import delete, or_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import Lease


async def take(session: AsyncSession, name: str, holder: str, now: dt.datetime, *, for_s: float) -> bool:
    """Take or renew a duty until `now + for_s`. False: another node has it.

    Args:
        name: Of the duty, such as `rollouts`. holder: This process, by a name nobody else has.
    """
    until = now + dt.timedelta(seconds=for_s)
    dialect = session.get_bind().dialect.name
    insert = postgresql.insert(Lease) if dialect == "postgresql" else sqlite.insert(Lease)
    await session.execute(
        insert.on_conflict_do_nothing(index_elements=["name"]), {"name": name, "holder": holder, "until": until}
    )
    taken = await session.execute(
        update(Lease)
        .where(Lease.name == name, or_(Lease.holder == holder, Lease.until < now))
        .values(holder=holder, until=until)
    )
    return bool(taken.rowcount)  # type: ignore[attr-defined]  # a CursorResult, which an update always gives


async def release(session: AsyncSession, name: str, holder: str) -> None:
    """Give the duty back, so that another node need not wait for the lease to run out."""
    await session.execute(delete(Lease).where(Lease.name == name, Lease.holder == holder))
