"""Queries of the audit log: keyset pages, newest first, with the filters of the page's columns."""

import datetime as dt
import ipaddress
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from engine.models import AuditEntry

MAX_PAGE = 200
_ESCAPE = "\\"


@dataclass(frozen=True, slots=True)
class Filters:
    """What to show. Empty fields do not narrow. Times are inclusive at both ends, UTC."""

    since: dt.datetime | None = None
    until: dt.datetime | None = None
    events: frozenset[str] = frozenset()
    resource: str = ""  # a prefix of the identifier or of its type: `user` finds `user_…`, not `superuser`
    actor: str = ""  # a prefix of the actor's id or name
    outcome: str = ""
    ip: str = ""  # a whole address in any spelling, a part of one, or a CIDR
    keyword: str = ""  # any part of the stored entry


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries and, when more follow, the sequence number to go on below."""

    rows: list[AuditEntry]
    next_before: int | None


async def list_entries(
    session: AsyncSession, chain: str, filters: Filters, *, limit: int = 50, before: int | None = None
) -> Page:
    """A page of one chain, newest first; `before` is the `next_before` of the page above it."""
    limit = max(1, min(limit, MAX_PAGE))
    query = _narrowed(chain, filters)
    if before is not None:
        query = query.where(AuditEntry.seq < before)
    network = _network(filters.ip)
    if network is not None:
        return await _in_network(session, query, network, limit)
    rows = list((await session.scalars(query.order_by(AuditEntry.seq.desc()).limit(limit + 1))).all())
    return Page(rows[:limit], rows[limit - 1].seq if len(rows) > limit else None)


async def entry_by_id(session: AsyncSession, chain: str, entry_id: str) -> AuditEntry | None:
    """One entry of that chain."""
    return await session.scalar(select(AuditEntry).where(AuditEntry.chain == chain, AuditEntry.id == entry_id))


async def entries_oldest_first(session: AsyncSession, chain: str, *, group: int = 1000) -> AsyncIterator[AuditEntry]:
    """The whole chain for an export, read in groups so that no size of it fills the memory."""
    after = 0
    while True:
        query = select(AuditEntry).where(AuditEntry.chain == chain, AuditEntry.seq > after)
        rows = (await session.scalars(query.order_by(AuditEntry.seq).limit(group))).all()
        for row in rows:
            yield row
        if len(rows) < group:
            return
        after = rows[-1].seq
        session.expunge_all()


async def head(session: AsyncSession, chain: str) -> tuple[int, str] | None:
    """The newest entry's sequence number and hash: the checkpoint that notification mails print."""
    query = (
        select(AuditEntry.seq, AuditEntry.hash)
        .where(AuditEntry.chain == chain)
        .order_by(AuditEntry.seq.desc())
        .limit(1)
    )
    found = (await session.execute(query)).first()
    return (found[0], found[1]) if found else None


def _narrowed(chain: str, filters: Filters) -> Select[AuditEntry]:
    query = select(AuditEntry).where(AuditEntry.chain == chain)
    if filters.since is not None:
        query = query.where(AuditEntry.at >= filters.since)
    if filters.until is not None:
        query = query.where(AuditEntry.at <= filters.until)
    if filters.events:
        query = query.where(AuditEntry.event.in_(sorted(filters.events)))
    if filters.resource:
        query = query.where(_starts(AuditEntry.resource_id, filters.resource))
    if filters.actor:
        query = query.where(
            or_(_starts(AuditEntry.actor_id, filters.actor), _starts(AuditEntry.actor_name, filters.actor))
        )
    if filters.outcome:
        query = query.where(AuditEntry.outcome == filters.outcome)
    if filters.ip and _network(filters.ip) is None:
        query = query.where(_ip(filters.ip))
    if filters.keyword:
        query = query.where(AuditEntry.entry.like(f"%{_literal(filters.keyword)}%", escape=_ESCAPE))
    return query


def _literal(value: str) -> str:
    """`%` and `_` are characters people type, not wildcards."""
    return value.replace(_ESCAPE, _ESCAPE * 2).replace("%", f"{_ESCAPE}%").replace("_", f"{_ESCAPE}_")


def _starts(column: InstrumentedAttribute[str], prefix: str) -> ColumnElement[bool]:
    return column.like(f"{_literal(prefix)}%", escape=_ESCAPE)


def _ip(value: str) -> ColumnElement[bool]:
    try:
        whole = str(ipaddress.ip_address(value.strip()))  # any spelling of an address finds its canonical one
    except ValueError:
        return AuditEntry.ip.like(f"%{_literal(value.strip().lower())}%", escape=_ESCAPE)
    return AuditEntry.ip == whole


def _network(value: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if "/" not in value:
        return None
    try:
        return ipaddress.ip_network(value.strip(), strict=False)
    except ValueError:
        return None


async def _in_network(
    session: AsyncSession,
    query: Select[AuditEntry],
    network: ipaddress.IPv4Network | ipaddress.IPv6Network,
    limit: int,
) -> Page:
    """A CIDR is no prefix of text, so addresses are compared here, walking newest first in groups."""
    found: list[AuditEntry] = []
    last: int | None = None
    while len(found) <= limit:
        narrowed = query if last is None else query.where(AuditEntry.seq < last)
        rows = (await session.scalars(narrowed.order_by(AuditEntry.seq.desc()).limit(MAX_PAGE * 5))).all()
        found += [row for row in rows if _is_inside(row.ip, network)]
        if len(rows) < MAX_PAGE * 5:
            break
        last = rows[-1].seq
    return Page(found[:limit], found[limit - 1].seq if len(found) > limit else None)


def _is_inside(ip: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        return ipaddress.ip_address(ip) in network
    except ValueError:
        return False
