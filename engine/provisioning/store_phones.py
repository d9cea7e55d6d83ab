"""The SQL of the list of phones: pages in a stable order, capped counts, and what bulk operations read and write."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import ColumnElement, Select, and_, func, literal, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import Line, Phone, PhoneLine, PhoneStatus
from engine.provisioning.alarms import COUNT_CAP, AlarmKind
from engine.provisioning.phone_list import NOWHERE, Filters, Order, Place, Word, words_of
from engine.provisioning.store_alarms import WITH_INDEX, has_alarm, is_its

MANY = 5_000  # phones: one in twenty of an account's 100,000
_ESCAPE = "\\"


@dataclass(frozen=True, slots=True)
class PhonePage:
    """Some phones and, when more follow, where the next page begins.

    `matching`: how many phones match in all, where the look for this page has told it.
    """

    rows: Sequence[Phone]
    next_place: Place | None
    matching: int | None


async def list_phones(
    session: AsyncSession,
    account_id: str,
    filters: Filters,
    *,
    order: Order = Order.MADE,
    is_descending: bool = False,
    after: Place | None = None,
    limit: int = 50,
    look: int = 0,
) -> PhonePage:
    """A page of the account's phones. A phone that is added or moves meanwhile shifts no other.

    Args:
        look: So many matching phones are looked for, though fewer are shown: a first page then knows how many there are
            without a second walk, which for a filter that few meet goes through all phones again.
    """
    query = await _ids(session, account_id, filters, order)
    key = _key(order)
    if after is not None:
        query = query.where(_behind(order, after, is_descending=is_descending))
    sorting = [Phone.id] if key is None else [key, Phone.id]
    ordered = [column.desc().nulls_last() if is_descending else column.asc().nulls_first() for column in sorting]
    query = query.order_by(*ordered)
    wanted = max(limit + 1, look)
    found = (await session.scalars(query.limit(wanted))).all()
    kept = found[:limit]
    rows = {row.id: row for row in (await session.scalars(select(Phone).where(Phone.id.in_(kept)))).all()}
    phones = [rows[phone_id] for phone_id in kept if phone_id in rows]
    matching = len(found) if after is None and len(found) < wanted else None
    return PhonePage(phones, place_of(phones[-1], order) if len(found) > limit and phones else None, matching)


async def count(session: AsyncSession, account_id: str, filters: Filters, *, cap: int | None = COUNT_CAP) -> int:
    """How many phones that is; with a cap at most one more than it, which means `more`."""
    # where only times are asked for beside what both indexes hold, the one by time begins where the first phone stands
    is_seen = filters.seen_since is not None or filters.seen_until is not None
    order = Order.LAST_FETCH if is_seen and not words_of(filters.text) else Order.LABEL
    query = await _ids(session, account_id, filters, order)
    if cap is not None:
        query = query.limit(cap + 1)
    return await session.scalar(select(func.count()).select_from(query.subquery())) or 0


async def count_by_status(session: AsyncSession, account_id: str) -> dict[PhoneStatus, int]:
    """How many phones have each status, at most one more than `COUNT_CAP` of each. One index holds all of it."""
    each = [
        select(func.count())
        .select_from(
            select(Phone.id)
            .where(Phone.account_id == account_id, Phone.status == status)
            .limit(COUNT_CAP + 1)
            .subquery()
        )
        .scalar_subquery()
        for status in PhoneStatus
    ]
    return dict(zip(PhoneStatus, (await session.execute(select(*each))).one(), strict=True))


async def ids_of(session: AsyncSession, account_id: str, filters: Filters, *, limit: int) -> Sequence[str]:
    """The identifiers of the phones that match, as many as `limit`."""
    return (await session.scalars((await _ids(session, account_id, filters, Order.LABEL)).limit(limit))).all()


async def vendors_and_models(session: AsyncSession, account_id: str) -> list[tuple[str, str]]:
    """Each vendor and model the account has phones of. Leaps along the index: 100,000 phones have a few dozen."""
    found: list[tuple[str, str]] = []
    query = select(Phone.vendor, Phone.model).where(Phone.account_id == account_id)
    query = query.order_by(Phone.vendor, Phone.model).limit(1)
    row = (await session.execute(query)).first()
    while row is not None:
        found.append((row.vendor, row.model))
        same = query.where(Phone.vendor == row.vendor, Phone.model > row.model)
        other = query.where(Phone.vendor > row.vendor)
        row = (await session.execute(same)).first() or (await session.execute(other)).first()
    return found


async def extensions_on(session: AsyncSession, phone_ids: Sequence[str]) -> dict[str, list[str]]:
    """The extensions on those phones' keys, first key first."""
    found: dict[str, list[str]] = {phone_id: [] for phone_id in phone_ids}
    query = (
        select(PhoneLine.phone_id, Line.extension)
        .join(Line, Line.id == PhoneLine.line_id)
        .where(PhoneLine.phone_id.in_(phone_ids))
        .order_by(PhoneLine.phone_id, PhoneLine.key)
    )
    for phone_id, extension in await session.execute(query):
        found[phone_id].append(extension)
    return found


async def phones_with_macs(session: AsyncSession, account_id: str, macs: Sequence[str]) -> Sequence[Phone]:
    """The account's phones of those addresses."""
    query = select(Phone).where(Phone.account_id == account_id, Phone.mac.in_(macs)).order_by(Phone.mac)
    return (await session.scalars(query)).all()


async def some_phones(session: AsyncSession, phone_ids: Sequence[str], *, limit: int) -> Sequence[Phone]:
    """The first of those phones, by label."""
    query = select(Phone).where(Phone.id.in_(phone_ids[:limit])).order_by(Phone.label, Phone.id)
    return (await session.scalars(query)).all()


def place_of(phone: Phone, order: Order) -> Place:
    """Where the page behind that phone begins."""
    if order is Order.LABEL:
        return Place(phone.label, phone.id)
    if order is Order.LAST_FETCH and phone.last_fetch_at is not None:
        return Place(phone.last_fetch_at.isoformat(), phone.id)
    return Place("", phone.id)


async def _ids(session: AsyncSession, account_id: str, filters: Filters, order: Order) -> Select[str]:
    """The phones that match. What the index of the order does not hold is asked for in a query of its own, which one of
    the others answers: reading 100,000 rows in another order than they are stored in takes ten times as long. What very
    many phones meet is looked at row by row all the same: the first thousand of them are found soon. An IP
    address is looked for without the account, since SQLite would take the index by account, without statistics.
    """
    is_postgres = session.get_bind().dialect.name == "postgresql"
    query = select(Phone.id).where(Phone.account_id == account_id)
    plain = _plain(filters)
    if plain and order is Order.MADE and (filters.location_id or filters.firmware):  # its index holds no such column
        inner = select(Phone.id).where(Phone.account_id == account_id, *plain)
        query = query.where(Phone.id.in_(inner))
    else:
        query = query.where(*plain)
    if filters.alarm:
        kind = AlarmKind(filters.alarm)
        condition = await has_alarm(session, account_id, kind)
        inner = select(Phone.id).where(condition, is_its(kind, account_id))
        query = query.where(Phone.id.in_(inner) if kind in WITH_INDEX else condition)
    words = words_of(filters.text)
    if words and order is not Order.LABEL:  # the label is in the other index: the words are looked for there
        query = query.where(Phone.id.in_(_with_words(account_id, words, is_postgres=is_postgres)))
    elif words:
        query = query.where(*(_word(account_id, word, is_postgres=is_postgres) for word in words))
    at = Phone.last_fetch_at
    seen = _seen(filters, at)
    if seen and order is not Order.LAST_FETCH:
        inner = select(Phone.id).where(Phone.account_id == account_id, *seen)
        some = select(func.count()).select_from(inner.limit(MANY + 1).subquery())
        few = (await session.scalar(some) or 0) <= MANY
        return query.where(Phone.id.in_(inner) if few else and_(*_seen(filters, func.coalesce(at, at))))
    return query.where(*seen)


def _plain(filters: Filters) -> list[ColumnElement[bool]]:
    columns = {"status": Phone.status, "vendor": Phone.vendor, "model": Phone.model}
    found: list[ColumnElement[bool]] = [
        column == getattr(filters, name) for name, column in columns.items() if getattr(filters, name)
    ]
    if filters.location_id == NOWHERE:
        found.append(Phone.location_id.is_(None))
    elif filters.location_id:
        found.append(Phone.location_id == filters.location_id)
    if filters.firmware:
        found.append(Phone.firmware.like(f"{_literal(filters.firmware)}%", escape=_ESCAPE))
    return found


def _seen(filters: Filters, at: Any) -> list[ColumnElement[bool]]:
    """`at`: the time of the last fetch; of an expression SQLite takes no index, whose finds it would have to sort."""
    found: list[ColumnElement[bool]] = []
    if filters.seen_since is not None:
        found.append(at >= filters.seen_since)
    if filters.seen_until is not None:
        found.append(at <= filters.seen_until)
    return found


def _with_words(account_id: str, words: Sequence[Word], *, is_postgres: bool) -> Select[str]:
    query = select(Phone.id).where(Phone.account_id == account_id)
    return query.where(*(_word(account_id, word, is_postgres=is_postgres) for word in words))


def _word(account_id: str, word: Word, *, is_postgres: bool) -> ColumnElement[bool]:
    part = f"%{_literal(word.part)}%"
    # SQLite's LIKE does not mind the case of ASCII letters; PostgreSQL's does
    found: list[ColumnElement[bool]] = [
        Phone.label.ilike(part, escape=_ESCAPE) if is_postgres else Phone.label.like(part, escape=_ESCAPE)
    ]
    if word.mac:
        found.append(Phone.mac == word.mac if len(word.mac) == 12 else Phone.mac.like(f"%{word.mac}%"))
    if word.extension:
        begins = _begins(Line.extension, word.extension, is_postgres=is_postgres)
        lines = select(Line.id).where(Line.account_id == account_id, begins)
        found.append(Phone.id.in_(select(PhoneLine.phone_id).where(PhoneLine.line_id.in_(lines))))
    if word.address:
        begins = _begins(Phone.last_ip, word.address, is_postgres=is_postgres)
        found.append(Phone.id.in_(select(Phone.id).where(begins)))  # the account is asked for outside: see `_ids`
    return or_(*found)


def _begins(column: Any, text: str, *, is_postgres: bool) -> ColumnElement[bool]:
    """A prefix: in SQLite as a range, which an ordinary index answers (both columns hold ASCII alone); PostgreSQL's
    order of texts is its locale's, where a range is none.
    """
    if is_postgres:
        return cast("ColumnElement[bool]", column.like(f"{_literal(text)}%", escape=_ESCAPE))
    return and_(column >= text, column < text + "\x7f")


def _literal(text: str) -> str:
    """`%` and `_` are characters people type, not wildcards."""
    return text.replace(_ESCAPE, _ESCAPE * 2).replace("%", f"{_ESCAPE}%").replace("_", f"{_ESCAPE}_")


def _key(order: Order) -> Any:
    return {Order.LABEL: Phone.label, Order.LAST_FETCH: Phone.last_fetch_at, Order.MADE: None}[order]


def _behind(order: Order, after: Place, *, is_descending: bool) -> ColumnElement[bool]:
    """Rows behind that one. Phones that never fetched sort before all others."""
    if order is Order.MADE:
        return Phone.id < after.phone_id if is_descending else Phone.id > after.phone_id
    if order is Order.LABEL:
        here = tuple_(Phone.label, Phone.id)
        return here < tuple_(after.key, after.phone_id) if is_descending else here > tuple_(after.key, after.phone_id)
    return _behind_fetch(after, is_descending=is_descending)


def _behind_fetch(after: Place, *, is_descending: bool) -> ColumnElement[bool]:
    never = Phone.last_fetch_at.is_(None)
    if not after.key:
        same = Phone.id < after.phone_id if is_descending else Phone.id > after.phone_id
        return and_(never, same) if is_descending else or_(and_(never, same), ~never)
    at = dt.datetime.fromisoformat(after.key)
    here = tuple_(Phone.last_fetch_at, Phone.id)
    there = tuple_(literal(at, Phone.last_fetch_at.type), after.phone_id)
    return or_(here < there, never) if is_descending else here > there
