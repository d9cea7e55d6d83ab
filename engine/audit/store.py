"""Queries of the audit log: keyset pages, newest first, in bounded time whatever the log's size (decision 0024).

Theory of operation. A page comes from the best of five ways to candidates, newest first: text in trigrams, a filter
that few entries meet, whole values intersected (SQLite), the rarest of them walked down (PostgreSQL), or the log itself
in growing windows. Candidates are looked at in groups until the page is full, nothing is left, or the time is up. Then
the page is short and says how far it looked: its `next_before` goes on from there. No query counts, sorts or reads what
grows with the log.
"""

import datetime as dt
import ipaddress
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    Select,
    UnaryExpression,
    and_,
    func,
    literal,
    or_,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.sql.visitors import replacement_traverse

from engine.audit import hashes, search, store_times, trigrams, values, walks
from engine.audit.events import READS, WRITES
from engine.audit.folding import FoldedLike
from engine.audit.owed import owed_between
from engine.audit.store_beginnings import begins_behind
from engine.audit.values import Values
from engine.models import AuditEntry

MAX_PAGE = 200
BUDGET_S = 0.06  # of looking for one page
GROUP = 500  # candidates of one look
SPAN = 20_000  # numbers of which an index is asked first
SPAN_S = 0.02  # what one such question may take; the next one asks for more or for less
NEWEST = 2_000  # entries looked at themselves before PostgreSQL's trigrams are asked
NARROW = 2_000  # so few entries are read, narrowed and sorted whole
OF_NETWORK = 2_000  # addresses looked at at once for those of a network
GROUPED = 1_000  # entries that a grouping counts; beyond it the counts say "at least"
CHAINS_AT_ONCE = 100  # SQLite joins at most 500 questions
SAMPLE = 5  # entries of a group that are shown with it
_ESCAPE = "\\"
_PLUS = custom_op[Any]("+")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Filters:
    """What to show. Empty fields do not narrow. Times are inclusive at both ends, UTC."""

    since: dt.datetime | None = None
    until: dt.datetime | None = None
    events: frozenset[str] = frozenset()
    resource: str = ""  # a prefix of the identifier or of its type: `user` finds `user_…`, not `superuser`
    actor: str = ""  # a prefix of the actor's id or name
    named: frozenset[str] = frozenset()  # with it: whole identifiers of users who are called so
    outcome: str = ""
    ip: str = ""  # a whole address in any spelling, a part of one, or a CIDR
    keyword: str = ""  # any part of the stored entry, or the beginning of its hash or of the one before
    category: str = ""
    verb: str = ""  # create | read | update | delete
    actors: frozenset[str] = frozenset()  # whole identifiers: a user and the keys that go back to them
    target: str = ""  # one record's whole identifier
    target_type: str = ""  # such as `phone`


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries and, when more may follow, the sequence number to go on below.

    `is_short`: the time was up before the page was full; what is older than `next_before` was not looked at.
    """

    rows: list[AuditEntry]
    next_before: int | None
    is_short: bool = False


class StoredText(NamedTuple):
    """An entry as an export writes it: the exact text, and the hashes beside it."""

    seq: int
    entry: str
    prev_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class Group:
    """Entries that have one value in common: some of them, newest first, and how many are among those looked at."""

    value: str
    label: str
    count: int
    rows: tuple[AuditEntry, ...]  # the newest SAMPLE of them
    is_whole: bool = True  # False: there are more than were looked at, so the count is a least one

    @property
    def newest(self) -> AuditEntry:
        return self.rows[0]


async def list_entries(
    session: AsyncSession, chain: str, filters: Filters, *, limit: int = 50, before: int | None = None
) -> Page:
    """A page of one chain, newest first; `before` is the `next_before` of the page above it."""
    return await _page(session, chain, filters, max(1, min(limit, MAX_PAGE)), before)


async def grouped(session: AsyncSession, chain: str, filters: Filters, by: str) -> tuple[list[Group], bool]:
    """The newest entries by `account`, `user`, `ip` or `description`, most first; and whether there are more."""
    page = await _page(session, chain, filters, GROUPED, None)
    counts: Counter[str] = Counter()
    newest: dict[str, list[AuditEntry]] = {}
    for row in page.rows:
        value = {"account": row.chain, "user": row.actor_id, "ip": row.ip, "description": row.event}[by]
        counts[value] += 1
        if len(rows := newest.setdefault(value, [])) < SAMPLE:
            rows.append(row)
    is_whole = page.next_before is None
    groups = [
        Group(value, _label(newest[value][0], by), count, tuple(newest[value]), is_whole)
        for value, count in counts.most_common()
    ]
    return groups, not is_whole


async def group_of_chain(session: AsyncSession, chain: str, filters: Filters, *, label: str, most: int) -> Group | None:
    """A chain's newest matching entries as one group, counted as far as `most`; None: none was found."""
    page = await _page(session, chain, filters, most, None)
    if not page.rows:
        return None
    return Group(chain, label, len(page.rows), tuple(page.rows[:SAMPLE]), page.next_before is None)


def _label(row: AuditEntry, by: str) -> str:
    names = {"account": row.chain, "user": row.actor_name or row.actor_id, "ip": row.ip, "description": row.event}
    return names[by] or "unknown"


async def entry_by_id(session: AsyncSession, chain: str, entry_id: str) -> AuditEntry | None:
    """One entry of that chain."""
    query = select(AuditEntry).where(AuditEntry.chain == chain, AuditEntry.id == entry_id)
    return await session.scalar(query.where(AuditEntry.seq > await begins_behind(session, chain)))


async def heads(session: AsyncSession, chains: Collection[str]) -> dict[str, int]:
    """The newest number of each of these chains, one seek each; one without an entry is left out."""
    found: dict[str, int] = {}
    wanted = sorted(chains)
    for group in (wanted[at : at + CHAINS_AT_ONCE] for at in range(0, len(wanted), CHAINS_AT_ONCE)):
        asked = [select(literal(chain), func.max(AuditEntry.seq)).where(AuditEntry.chain == chain) for chain in group]
        found |= {row[0]: row[1] for row in await session.execute(union_all(*asked)) if row[1] is not None}
    return found


async def first_since(session: AsyncSession, chain: str, since: dt.datetime) -> int:
    """The number from which on entries may be as young as that: a seek in the index of times."""
    low, _high = await _bounds(session, chain, Filters(since=since), None)
    return low


async def entries_behind(session: AsyncSession, last: Mapping[str, int], *, limit: int) -> list[AuditEntry]:
    """What came behind these numbers, by chain, oldest first; one question however many chains.

    Args:
        limit: At most so many of all chains together.
    """
    if not last:
        return []
    after = or_(*(and_(AuditEntry.chain == chain, AuditEntry.seq > seq) for chain, seq in last.items()))
    query = select(AuditEntry).where(after).order_by(AuditEntry.chain, AuditEntry.seq).limit(limit)
    return list(await session.scalars(query))


async def entries_oldest_first(
    session: AsyncSession, chain: str, *, after: int = 0, group: int = 1000
) -> AsyncIterator[AuditEntry]:
    """The whole chain behind that number for an export, read in groups so that no size of it fills the memory."""
    while True:
        query = select(AuditEntry).where(AuditEntry.chain == chain, AuditEntry.seq > after)
        rows = (await session.scalars(query.order_by(AuditEntry.seq).limit(group))).all()
        for row in rows:
            yield row
        if len(rows) < group:
            return
        after = rows[-1].seq
        session.expunge_all()


async def texts_oldest_first(
    session: AsyncSession, chain: str, *, after: int = 0, group: int = 1000
) -> AsyncIterator[StoredText]:
    """As `entries_oldest_first`, only what an export writes: a fifth of the work."""
    columns = (AuditEntry.seq, AuditEntry.entry, AuditEntry.prev_hash, AuditEntry.hash)
    query = select(*columns).where(AuditEntry.chain == chain).order_by(AuditEntry.seq).limit(group)
    while rows := (await session.execute(query.where(AuditEntry.seq > after))).all():
        for row in rows:
            yield StoredText(*row)
        after = rows[-1].seq


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


async def _page(session: AsyncSession, chain: str, filters: Filters, limit: int, before: int | None) -> Page:
    low, high = await _bounds(session, chain, filters, before)
    if high < low:
        return Page([], None)
    filters = _simplified(filters)
    network = _network(filters.ip)
    deadline = time.monotonic() + BUDGET_S
    meant = await values.values_of(session, chain, filters)
    if meant.find_nothing:
        return Page([], None)
    query = select(AuditEntry).where(AuditEntry.chain == chain, *_only_checked(session, _conditions(filters)))
    found: list[AuditEntry] = []
    groups = await _candidates(session, chain, filters, meant, low, high)
    async for condition, lowest in groups:
        if condition is not None:
            rows, below = await _matching(session, query.where(condition), network, limit + 1, deadline)
            found += rows
            if below is not None and len(found) <= limit:
                return Page(found, below, is_short=True)
        if len(found) > limit:
            return Page(found[:limit], found[limit - 1].seq)
        if lowest <= low:
            break
        if time.monotonic() > deadline:
            return Page(found, lowest, is_short=True)
    return Page(found, None)


async def _matching(
    session: AsyncSession, group: Select[AuditEntry], network: Network | None, limit: int, deadline: float
) -> tuple[Sequence[AuditEntry], int | None]:
    """The group's entries, newest first, at most `limit`; and, when the time was up before, how far it looked."""
    # by a sum: else PostgreSQL, for the order, goes down the whole log past the candidates that it was given
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    newest_first = group.order_by((AuditEntry.seq if is_sqlite else AuditEntry.seq + 0).desc())
    if network is None:
        return (await session.scalars(newest_first.limit(limit))).all(), None
    numbers, below = await _of_network(session, newest_first, network, limit, deadline)
    return (await session.scalars(newest_first.where(AuditEntry.seq.in_(numbers)))).all(), below


async def _of_network(
    session: AsyncSession, group: Select[AuditEntry], network: Network, limit: int, deadline: float
) -> tuple[list[int], int | None]:
    """The group's entries from that network, at most `limit`; and, when the time was up before, how far it looked."""
    numbers: list[int] = []
    known: dict[str, bool] = {}
    addresses = group.with_only_columns(AuditEntry.seq, AuditEntry.ip).limit(OF_NETWORK)
    asked, below = addresses, None
    while len(numbers) < limit:
        pairs = (await session.execute(asked)).all()
        for seq, ip in pairs:
            if ip not in known:
                known[ip] = is_inside(ip, network)
            if known[ip]:
                numbers.append(seq)
        if len(pairs) < OF_NETWORK:
            break
        if time.monotonic() > deadline:
            below = pairs[-1].seq
            break
        asked = addresses.where(AuditEntry.seq < pairs[-1].seq)
    return numbers[:limit], None if len(numbers) >= limit else below


async def _candidates(
    session: AsyncSession, chain: str, filters: Filters, meant: Values, low: int, high: int
) -> AsyncIterator[tuple[ColumnElement[bool] | None, int]]:
    """Groups of candidates, newest first: a condition that holds them, and the lowest number looked at.

    None for a condition: nothing was found as far as that number.
    """
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    matched = search.expression(filters, meant) if is_sqlite else None
    words = [] if is_sqlite else _trigram_conditions(filters)
    ways = [] if is_sqlite or words else walks.ways_of(filters, meant)
    narrow = await _narrow(session, chain, _indexed(filters, meant, are_walked=bool(ways)), low, high)
    if narrow is not None:
        return _once(narrow, low)
    hashed = await hashes.candidates(session, chain, filters.keyword, low, high)
    if matched is not None:
        return _found_or_owed(session, chain, matched, hashed, low, high)
    if ways:
        return walks.walked(session, chain, ways, low, high)
    if words and await trigrams.is_there(session):
        return _newest_or_rare(session, chain, words, hashed, low, high)
    return _windows(low, high)


async def _once(condition: ColumnElement[bool], low: int) -> AsyncIterator[tuple[ColumnElement[bool], int]]:
    yield condition, low


async def _windows(low: int, high: int) -> AsyncIterator[tuple[ColumnElement[bool], int]]:
    size = GROUP
    while high >= low:
        lowest = max(low, high - size + 1)
        yield AuditEntry.seq.between(lowest, high), lowest
        high, size = lowest - 1, min(size * 2, 16 * GROUP)


async def _found_or_owed(
    session: AsyncSession, chain: str, matched: search.Match, hashed: list[int], low: int, high: int
) -> AsyncIterator[tuple[ColumnElement[bool] | None, int]]:
    """As `_found`; what the indexes do not hold yet is looked through itself."""
    for owed in await owed_between(session, chain, low, high):
        async for group in _found(session, chain, matched, hashed, owed.last + 1, high):
            yield group
        async for group in _windows(owed.first, owed.last):
            yield group
        high = owed.first - 1
    async for group in _found(session, chain, matched, hashed, low, high):
        yield group


async def _newest_or_rare(
    session: AsyncSession, chain: str, words: list[ColumnElement[bool]], hashed: list[int], low: int, high: int
) -> AsyncIterator[tuple[ColumnElement[bool], int]]:
    """The newest entries themselves, then what the trigrams know of the rest; the rest itself where they need long."""
    newest = max(low, high - NEWEST + 1)
    yield AuditEntry.seq.between(newest, high), newest
    high, is_quick = newest - 1, True
    while high >= low and is_quick:
        seqs = await trigrams.seqs(session, chain, words, low, high)
        is_quick = seqs is not None
        if seqs is not None:
            lowest = seqs[-1] if len(seqs) == trigrams.MOST else low
            yield walks.among(_with(seqs, hashed, lowest, high)), lowest
            high = lowest - 1
    async for group in _windows(low, high):
        yield group


async def _found(
    session: AsyncSession, chain: str, matched: search.Match, hashed: list[int], low: int, high: int
) -> AsyncIterator[tuple[ColumnElement[bool] | None, int]]:
    """What an index finds, in spans that grow while it answers quickly: a word of letters that stand everywhere would
    have it look through the whole log at once. With it, what was found by hashes.
    """
    base, span = await search.base_of(session, chain), SPAN
    while base is not None and high >= low:
        begun, bottom = time.monotonic(), max(low, high - span + 1)
        seqs = await search.seqs(session, matched, base, bottom, high, GROUP)
        took, lowest = time.monotonic() - begun, seqs[-1] if len(seqs) == GROUP else bottom
        seqs = _with(seqs, hashed, lowest, high)
        yield AuditEntry.seq.in_(search.listed(seqs)) if seqs else None, lowest
        high = lowest - 1
        if took < SPAN_S / 4:
            span *= 4
        elif took > SPAN_S:
            span = max(GROUP, span // 2)


def _with(seqs: list[int], hashed: list[int], low: int, high: int) -> list[int]:
    """Both, between these numbers, newest first."""
    return sorted({*seqs, *(seq for seq in hashed if low <= seq <= high)}, reverse=True) if hashed else seqs


async def _narrow(
    session: AsyncSession, chain: str, indexed: list[list[ColumnElement[bool]]], low: int, high: int
) -> ColumnElement[bool] | None:
    """A filter of an index of its own that at most NARROW entries meet, as a condition on their numbers."""
    for alternatives in indexed:
        seqs: set[int] = set()
        for condition in alternatives:  # each with a limit of its own: together a server would read them whole
            # without `low` and `high`: for the few between them it might read all that begin so
            query = select(AuditEntry.seq).where(AuditEntry.chain == chain, condition).limit(NARROW + 1)
            seqs.update(await session.scalars(query))
            if len(seqs) > NARROW:
                break
        else:
            return _among(session, sorted(seq for seq in seqs if low <= seq <= high))
    return None


def _among(session: AsyncSession, seqs: list[int]) -> ColumnElement[bool]:
    """The entries of these numbers."""
    if session.get_bind().dialect.name == "sqlite":
        return AuditEntry.seq.in_(search.listed(seqs))
    return walks.among(seqs)


def _indexed(filters: Filters, meant: Values, *, are_walked: bool) -> list[list[ColumnElement[bool]]]:
    """Each filter that an index of its own serves, as the alternatives that it is made of.

    Args:
        are_walked: Those on whole values are left out: they are walked down.
    """
    found: list[list[ColumnElement[bool]]] = []
    if filters.resource and not (are_walked and meant.resources is not None):
        found.append(_beginnings(AuditEntry.resource_id, filters.resource, meant.resources))
    if filters.actor and not (are_walked and meant.is_actor_known):
        by_id = _beginnings(AuditEntry.actor_id, filters.actor, meant.actor_ids)
        if meant.actor_ids is None and filters.named:
            by_id.append(AuditEntry.actor_id.in_(sorted(filters.named)))
        found.append(by_id + _beginnings(AuditEntry.actor_name, filters.actor, meant.actor_names))
    if are_walked:
        return found
    if filters.target:
        found.append([AuditEntry.resource_id == filters.target])
    if filters.actors:
        found.append([AuditEntry.actor_id.in_(sorted(filters.actors))])
    whole = search.whole_ip(filters.ip)
    if whole:
        found.append([AuditEntry.ip == whole])
    return found


def _beginnings(
    column: InstrumentedAttribute[str], prefix: str, meant: tuple[str, ...] | None
) -> list[ColumnElement[bool]]:
    """What begins so, as the values themselves where they are known."""
    if meant is None:
        return [_begins(column, one) for one in values.spelled(prefix)]
    return [column == value for value in meant]


async def _bounds(session: AsyncSession, chain: str, filters: Filters, before: int | None) -> tuple[int, int]:
    """The numbers between which the asked page lies."""
    newest = await head(session, chain)
    low, high = await begins_behind(session, chain) + 1, newest[0] if newest else 0
    if before is not None:
        high = min(high, before - 1)
    return await store_times.between(session, chain, low, high, since=filters.since, until=filters.until)


def _simplified(filters: Filters) -> Filters:
    """All reads and all writes chosen narrow nothing."""
    every = {event.value for event in READS | WRITES}
    return replace(filters, events=frozenset()) if filters.events >= every else filters


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    """Each filter as a condition on the entry itself, true to the letter whichever way candidates were found."""
    found: list[ColumnElement[bool]] = []
    if filters.since is not None:
        found.append(AuditEntry.at >= filters.since)
    if filters.until is not None:
        found.append(AuditEntry.at <= filters.until)
    if filters.events:
        found.append(AuditEntry.event.in_(sorted(filters.events)))
    if filters.resource:
        found.append(_starts(AuditEntry.resource_id, filters.resource))
    if filters.actor:
        found.append(_actor(filters))
    if filters.actors:
        found.append(AuditEntry.actor_id.in_(sorted(filters.actors)))
    for column, value in (
        (AuditEntry.outcome, filters.outcome),
        (AuditEntry.category, filters.category),
        (AuditEntry.verb, filters.verb),
        (AuditEntry.resource_id, filters.target),
        (AuditEntry.resource_type, filters.target_type),
    ):
        if value:
            found.append(column == value)
    if filters.ip and _network(filters.ip) is None:
        found.append(_ip(filters.ip))
    if filters.keyword:
        found.append(_keyword(filters.keyword))
    return found


def _trigram_conditions(filters: Filters) -> list[ColumnElement[bool]]:
    """What PostgreSQL's trigram indexes serve of these filters: three characters and more."""
    found = [_words(filters.keyword)] if len(filters.keyword) >= search.SHORTEST else []
    if len(filters.ip) >= search.SHORTEST and not search.whole_ip(filters.ip) and _network(filters.ip) is None:
        found.append(_ip(filters.ip))
    return found


def _only_checked(session: AsyncSession, conditions: list[ColumnElement[bool]]) -> list[ColumnElement[bool]]:
    """The conditions as no index can be chosen for: it would not be the candidates' own.

    PostgreSQL takes what begins like a fifth of the log for rare, and would read all of that for every group.
    """
    hidden = _plus if session.get_bind().dialect.name == "sqlite" else _coalesced
    return [replacement_traverse(condition, {}, hidden) for condition in conditions]


def _plus(element: Any, **_options: Any) -> Any:
    return UnaryExpression(element, operator=_PLUS, type_=element.type) if isinstance(element, Column) else None


def _coalesced(element: Any, **_options: Any) -> Any:
    is_hidden = isinstance(element, Column) and not isinstance(element.type, Integer)
    return func.coalesce(element, element, type_=element.type) if is_hidden else None


def _keyword(keyword: str) -> ColumnElement[bool]:
    """In the stored text, or how one of the two hashes beside it begins."""
    beginning = hashes.beginning_of(keyword)
    return or_(_words(keyword), hashes.condition(beginning)) if beginning else _words(keyword)


def _words(keyword: str) -> ColumnElement[bool]:
    """The words anywhere in the stored text; a MAC address or its beginning in any spelling."""
    patterns = [f"%{_literal(search.as_stored(spelling))}%" for spelling in search.spellings(keyword)]
    if not keyword.isascii():
        return or_(*(FoldedLike(AuditEntry.entry, literal(pattern.lower()), literal(_ESCAPE)) for pattern in patterns))
    return or_(*(AuditEntry.entry.ilike(pattern, escape=_ESCAPE) for pattern in patterns))


def _literal(value: str) -> str:
    """`%` and `_` are characters people type, not wildcards."""
    return value.replace(_ESCAPE, _ESCAPE * 2).replace("%", f"{_ESCAPE}%").replace("_", f"{_ESCAPE}_")


def _actor(filters: Filters) -> ColumnElement[bool]:
    found = [_starts(AuditEntry.actor_id, filters.actor), _starts(AuditEntry.actor_name, filters.actor)]
    return or_(*found, AuditEntry.actor_id.in_(sorted(filters.named))) if filters.named else or_(*found)


def _starts(column: InstrumentedAttribute[str], prefix: str) -> ColumnElement[bool]:
    """As typed or in small letters, as ranges: an index serves them on both databases, whatever its collation."""
    return or_(*(_begins(column, one) for one in values.spelled(prefix)))


def _begins(column: InstrumentedAttribute[str], one: str) -> ColumnElement[bool]:
    return and_(column >= one, column < one + values.LAST, _same_start(column, one))


def _same_start(column: InstrumentedAttribute[str], prefix: str) -> ColumnElement[bool]:
    return func.substr(column, 1, len(prefix)) == literal(prefix)


def _ip(value: str) -> ColumnElement[bool]:
    whole = search.whole_ip(value)
    if whole:
        return AuditEntry.ip == whole
    return AuditEntry.ip.like(f"%{_literal(search.part_of_ip(value))}%", escape=_ESCAPE)


def _network(value: str) -> Network | None:
    if "/" not in value:
        return None
    try:
        return ipaddress.ip_network(value.strip(), strict=False)
    except ValueError:
        return None


def is_network(value: str) -> bool:
    """Whether the text is a CIDR."""
    return _network(value) is not None


def is_inside(ip: str, network: Network) -> bool:
    """Whether that text is an address of the network."""
    try:
        return ipaddress.ip_address(ip) in network
    except ValueError:
        return False


def query_of(chain: str, filters: Filters) -> Select[AuditEntry]:
    """Every matching entry of the chain, for streams; a network must still be looked at row by row."""
    return select(AuditEntry).where(AuditEntry.chain == chain, *_conditions(_simplified(filters)))
