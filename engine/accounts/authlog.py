"""The authentication log: every sign-in with how and when it ended, and every attempt that was refused with why.

Theory of operation. Nothing is kept twice. A sign-in is the session's own row, which says how long it lasted; a refused
attempt is its entry in the audit log, which nobody can take out. Requests with API keys that are none may come by the
thousand: they are counted, a row for each beginning of a key, address and minute. A page merges all by time, newest
first, and goes on from a position in each, so that rows made meanwhile move nothing. A session that ran out by a clock
may have no row's end: it is told from the clocks of the account's policy, as the next request would be.
"""

import datetime as dt
import ipaddress
import json
from dataclasses import dataclass, replace
from enum import StrEnum
from heapq import merge
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, false, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from engine.accounts import store_signin
from engine.accounts.policy import Policy
from engine.accounts.security import expiry_of
from engine.accounts.store import OPERATORS
from engine.audit.events import Event
from engine.audit.record import PLATFORM
from engine.audit.search import certain_part_of_ip
from engine.audit.store import is_inside
from engine.audit.store_beginnings import begins_behind
from engine.db import utc_now
from engine.models import Account, AuditEntry, RefusedKey, Session, User

_REFUSABLE = (Event.SESSION_CREATE, Event.SESSION_PROVE, Event.INVITATION_ACCEPT)
ADDRESSES = 2_000  # compared with a network at once
_ESCAPE = "\\"
_Column = InstrumentedAttribute[Any]
_LATEST_MS = 253_000_000_000_000  # in the year 9987: what a datetime still holds
_SESSIONS, _ACCOUNT, _PLATFORM, _KEYS = "sessions", "account", "platform", "keys"  # the streams of a page
_CLOCKS = ("idle", "absolute")  # ends that a clock made


class Method(StrEnum):
    """How somebody signed in, or tried to."""

    PASSWORD = "password"  # noqa: S105  # the name of a method
    PASSWORD_TOTP = "password_totp"  # noqa: S105  # the same
    PASSWORD_EMAIL = "password_email"  # noqa: S105  # the same
    RECOVERY_CODE = "recovery_code"
    REMEMBERED_DEVICE = "remembered_device"
    API_KEY = "api_key"


class End(StrEnum):
    """How a session stands or ended."""

    RUNNING = "running"
    SIGNED_OUT = "signed_out"
    EXPIRED = "expired"  # idle for too long, or too old
    REVOKED = "revoked"  # by somebody, or by a change of role, password or status
    REPLACED = "replaced"  # the same browser signed in anew


@dataclass(frozen=True, slots=True)
class Filters:
    """What to show. Empty fields do not narrow. Times are inclusive, UTC."""

    since: dt.datetime | None = None
    until: dt.datetime | None = None
    outcome: str = ""  # success | failure
    end: str = ""  # one of End; sign-ins alone have one
    user: str = ""  # a prefix of the e-mail address, the name or the identifier
    ip: str = ""  # a whole address, the beginning of one, or a CIDR
    method: str = ""  # one of Method


@dataclass(frozen=True, slots=True)
class Authentication:
    """One row of the log. `duration_s` of a running session goes on growing; a failure has none.

    `count`: refused requests of that minute, for an API key; 1 for all else.
    """

    id: str  # the session's, or the audit entry's
    at: dt.datetime
    outcome: str  # success | failure
    method: str
    user_id: str | None
    email: str  # empty: what was typed was no address
    name: str
    ip: str
    user_agent: str
    reason: str = ""  # why it was refused
    end: End | None = None
    end_reason: str = ""  # more closely: idle, absolute, role_changed …
    ended_at: dt.datetime | None = None
    ended_by: str = ""  # who ended it, when somebody did
    ended_ip: str = ""
    duration_s: int | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Position:
    """Behind which session, and below which number of each chain, a page begins; empty: nothing of it was shown yet.

    `until_ms`: no row younger than the page before, so that what came meanwhile in a stream not shown yet stays out.
    """

    until_ms: int = 0
    session: str = ""
    account_seq: int = 0
    platform_seq: int = 0
    key: str = ""

    def text(self) -> str:
        return f"{self.session},{self.key},{self.until_ms},{self.account_seq},{self.platform_seq}"

    @classmethod
    def read(cls, text: str) -> "Position":
        """Raises ValueError for a text that `text` did not make."""
        session, key, *numbers = text.split(",") if "," in text else ("", "")
        if len(numbers) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 16 for part in numbers):
            raise ValueError("no position of this log")
        return cls(int(numbers[0]), session, int(numbers[1]), int(numbers[2]), key)

    def behind(self, found: "_Found") -> "Position":
        """The position when that row was shown too."""
        row = found.row
        if found.stream == _SESSIONS:
            return replace(self, session=row.id)
        if found.stream == _KEYS:
            return replace(self, key=row.id)
        if found.stream == _ACCOUNT:
            return replace(self, account_seq=found.seq)
        return replace(self, platform_seq=found.seq)


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[Authentication]
    following: Position | None


@dataclass(frozen=True, slots=True)
class _Found:
    """A row and where its own stream goes on behind it."""

    row: Authentication
    stream: str
    seq: int = 0


async def authentications(
    session: AsyncSession, account: Account, filters: Filters, *, limit: int = 50, after: Position | None = None
) -> Page:
    """A page of the account's log, newest first."""
    start, now = after or Position(), utc_now()
    if start.until_ms:
        latest = dt.datetime.fromtimestamp(min(start.until_ms, _LATEST_MS) / 1000, dt.UTC) + dt.timedelta(
            milliseconds=1
        )
        filters = replace(filters, until=min(filters.until or latest, latest))
    streams: list[list[_Found]] = []
    if filters.outcome != "failure" and filters.method != Method.API_KEY:
        policy = await store_signin.policy_of(session, account.id)
        streams.append(await _sign_ins(session, account, filters, start.session, limit + 1, _Clock(policy, now)))
    if filters.outcome != "success" and not filters.end:
        is_alone = await _is_alone(session)  # whose an address that nobody has was meant to be is then no question
        if filters.method != Method.API_KEY:
            streams.append(await _refused(session, account.id, _ACCOUNT, filters, start.account_seq, limit + 1))
            if is_alone:
                streams.append(await _refused(session, PLATFORM, _PLATFORM, filters, start.platform_seq, limit + 1))
        if filters.method in {"", Method.API_KEY}:
            streams.append(await _keys(session, account, filters, start.key, limit + 1, is_alone=is_alone))
    found = list(islice(merge(*streams, key=lambda each: each.row.at, reverse=True), limit + 1))
    shown = found[:limit]
    following = None
    if len(found) > limit:
        following = start
        for each in shown:
            following = following.behind(each)
        following = replace(following, until_ms=int(shown[-1].row.at.timestamp() * 1000))
    return Page(await _with_ends(session, account.id, [each.row for each in shown]), following)


@dataclass(frozen=True, slots=True)
class _Clock:
    """What the ends of sessions are told from: the account's lifetimes, and the time of asking."""

    policy: Policy
    now: dt.datetime


async def _sign_ins(
    session: AsyncSession, account: Account, filters: Filters, after: str, limit: int, clock: _Clock
) -> list[_Found]:
    query = select(Session, User).join(User, User.id == Session.user_id).where(Session.account_id == account.id)
    if after:
        query = query.where(Session.id < after)
    if filters.since is not None:
        query = query.where(Session.created_at >= filters.since)
    if filters.until is not None:
        query = query.where(Session.created_at <= filters.until)
    if filters.user:
        query = query.where(_is_user(filters.user))
    if filters.ip and "/" not in filters.ip:
        query = query.where(Session.ip.like(_prefix(filters.ip), escape=_ESCAPE))
    if filters.end:
        query = query.where(_ended_as(End(filters.end), clock))
    if filters.method:
        query = query.where(Session.method == filters.method)
    if "/" in filters.ip:
        query = query.where(await _of_network(session, query, Session.id, Session.ip, filters.ip, limit))
    rows = (await session.execute(query.order_by(Session.id.desc()).limit(limit))).all()
    return [_Found(_sign_in(row, user, clock), _SESSIONS) for row, user in rows]


def _sign_in(row: Session, user: User, clock: _Clock) -> Authentication:
    end, reason, ended_at = end_of(row, clock.policy, clock.now)
    return Authentication(
        row.id, row.created_at, "success", row.method, user.id, user.email.partition("#")[0], user.name, row.ip,
        row.user_agent, end=end, end_reason=reason, ended_at=ended_at,
        duration_s=max(0, int(((ended_at or clock.now) - row.created_at).total_seconds())),
    )  # fmt: skip


def end_of(row: Session, policy: Policy, now: dt.datetime) -> tuple[End, str, dt.datetime | None]:
    """How a session stands: what it is called, why, and since when."""
    if row.ended_at is not None:
        reason = row.end_reason or ""
        plain = {"signed_out": End.SIGNED_OUT, "replaced": End.REPLACED} | dict.fromkeys(_CLOCKS, End.EXPIRED)
        return plain.get(reason, End.REVOKED), reason, row.ended_at
    at, clock = expiry_of(row, policy)
    return (End.EXPIRED, clock, at) if at < now else (End.RUNNING, "", None)


def _ended_as(end: End, clock: _Clock) -> ColumnElement[bool]:
    """`end_of`, as a question to the database."""
    is_fresh = store_signin.is_fresh(clock.policy, clock.now)
    if end is End.RUNNING:
        return and_(Session.ended_at.is_(None), is_fresh)
    if end is End.EXPIRED:
        return or_(and_(Session.ended_at.is_(None), ~is_fresh), Session.end_reason.in_(_CLOCKS))
    if end is End.REVOKED:
        return and_(Session.ended_at.is_not(None), Session.end_reason.not_in(("signed_out", "replaced", *_CLOCKS)))
    return Session.end_reason == end.value


async def _keys(
    session: AsyncSession, account: Account, filters: Filters, after: str, limit: int, *, is_alone: bool
) -> list[_Found]:
    """Requests with keys that were this account's, or nobody's where there is but one account."""
    mine = RefusedKey.account_id == account.id
    query = select(RefusedKey).where(or_(mine, RefusedKey.account_id.is_(None)) if is_alone else mine)
    for bound, is_met in (
        (after, RefusedKey.id < after),
        (filters.since, RefusedKey.at >= filters.since if filters.since else false()),
        (filters.until, RefusedKey.minute <= filters.until if filters.until else false()),
    ):
        if bound:
            query = query.where(is_met)
    if filters.user:
        like = _prefix(filters.user)
        named = (column.ilike(like, escape=_ESCAPE) for column in (RefusedKey.name, RefusedKey.hint))
        query = query.where(or_(*named))
    if filters.ip and "/" not in filters.ip:
        query = query.where(RefusedKey.ip.like(_prefix(filters.ip), escape=_ESCAPE))
    if "/" in filters.ip:
        query = query.where(await _of_network(session, query, RefusedKey.id, RefusedKey.ip, filters.ip, limit))
    rows = await session.scalars(query.order_by(RefusedKey.id.desc()).limit(limit))
    return [_Found(_refused_key(row), _KEYS) for row in rows]


def _refused_key(row: RefusedKey) -> Authentication:
    """Timed by its minute's beginning, which does not move while requests are counted."""
    return Authentication(
        row.id, row.minute, "failure", Method.API_KEY.value, None, "", row.name or (f"{row.hint}…" if row.hint else ""),
        row.ip, row.user_agent, reason=row.reason, count=row.count,
    )  # fmt: skip


async def _refused(
    session: AsyncSession, chain: str, stream: str, filters: Filters, below: int, limit: int
) -> list[_Found]:
    """Refused attempts of one chain. Asked event by event: each has an index that is walked newest first."""
    entries: list[AuditEntry] = []
    begin = await begins_behind(session, chain)
    for event in _REFUSABLE:
        query = select(AuditEntry).where(
            AuditEntry.chain == chain, AuditEntry.event == event.value, AuditEntry.outcome != "success",
            AuditEntry.seq > begin,
        )  # fmt: skip
        if below:
            query = query.where(AuditEntry.seq < below)
        if filters.since is not None:
            query = query.where(AuditEntry.at >= filters.since)
        if filters.until is not None:
            query = query.where(AuditEntry.at <= filters.until)
        if filters.user:
            query = query.where(_tried_as(filters.user))
        if filters.method:
            query = query.where(_tried_by(Method(filters.method)))
        if filters.ip and "/" not in filters.ip:
            query = query.where(AuditEntry.ip.like(_prefix(filters.ip), escape=_ESCAPE))
        if "/" in filters.ip:
            query = query.where(await _of_network(session, query, AuditEntry.seq, AuditEntry.ip, filters.ip, limit))
        entries += await session.scalars(query.order_by(AuditEntry.seq.desc()).limit(limit))
    entries = sorted(entries, key=lambda entry: entry.seq, reverse=True)[:limit]
    users = await _users(session, {entry.resource_id for entry in entries if entry.resource_type == "user"})
    return [_Found(_failure(entry, users), stream, entry.seq) for entry in entries]


def _failure(entry: AuditEntry, users: dict[str, User]) -> Authentication:
    told = json.loads(entry.entry)
    user = users.get(entry.resource_id) or users.get(entry.actor_id)
    email = told["details"].get("email", "") or (user.email.partition("#")[0] if user else "")
    return Authentication(
        entry.id, entry.at, "failure", told["details"].get("method") or Method.PASSWORD.value,
        user.id if user else None, email, user.name if user else "",
        entry.ip, told["request"]["user_agent"], reason=told["reason"] or "",
    )  # fmt: skip


async def _users(session: AsyncSession, ids: set[str]) -> dict[str, User]:
    if not ids:
        return {}
    return {user.id: user for user in await session.scalars(select(User).where(User.id.in_(ids)))}


async def _with_ends(session: AsyncSession, account_id: str, rows: list[Authentication]) -> list[Authentication]:
    """Who ended the sessions that somebody ended, and from where: their entries in the audit log say so."""
    ids = [row.id for row in rows if row.end in {End.SIGNED_OUT, End.REVOKED}]
    if not ids:
        return rows
    query = select(AuditEntry.resource_id, AuditEntry.actor_name, AuditEntry.ip).where(
        AuditEntry.chain == account_id, AuditEntry.resource_id.in_(ids), AuditEntry.outcome == "success",
        AuditEntry.event == Event.SESSION_DELETE.value,
    )  # fmt: skip
    ends = {identity: (name, ip) for identity, name, ip in await session.execute(query)}
    return [replace(row, ended_by=ends[row.id][0], ended_ip=ends[row.id][1]) if row.id in ends else row for row in rows]


async def _is_alone(session: AsyncSession) -> bool:
    """Whether the installation has one account: attempts for addresses that nobody has are then told to it."""
    return len((await session.scalars(select(Account.id).where(Account.id != OPERATORS).limit(2))).all()) == 1


def _is_user(text: str) -> ColumnElement[bool]:
    like = _prefix(text)
    return or_(
        User.email.like(like, escape=_ESCAPE), User.name.ilike(like, escape=_ESCAPE),
        User.id.like(like, escape=_ESCAPE),
    )  # fmt: skip


def _tried_as(text: str) -> ColumnElement[bool]:
    """Of a user who is here, or of the address that was typed."""
    typed = json.dumps(text.strip().lower(), ensure_ascii=False)[:-1]
    return or_(
        AuditEntry.resource_id.in_(select(User.id).where(_is_user(text))),
        AuditEntry.actor_id.in_(select(User.id).where(_is_user(text))),
        AuditEntry.entry.like(f'%"details":{{"email":{_literal(typed)}%', escape=_ESCAPE),
    )


def _tried_by(method: Method) -> ColumnElement[bool]:
    """By that method; an entry that names none was an attempt with a password."""

    def names(one: Method) -> ColumnElement[bool]:
        return AuditEntry.entry.like(f'%"method":"{_literal(one.value)}"%', escape=_ESCAPE)

    if method is not Method.PASSWORD:
        return names(method)
    return ~or_(*(names(one) for one in Method if one is not Method.PASSWORD))


def _prefix(text: str) -> str:
    return f"{_literal(text.strip().lower())}%"


def _literal(text: str) -> str:
    """`%` and `_` are characters people type, not wildcards."""
    return text.replace(_ESCAPE, _ESCAPE * 2).replace("%", f"{_ESCAPE}%").replace("_", f"{_ESCAPE}_")


async def _of_network(
    session: AsyncSession, query: Select[*tuple[Any, ...]], key: _Column, ip: _Column, network: str, limit: int
) -> ColumnElement[bool]:
    """A condition that names the query's newest rows whose address is of the network, at most `limit`.

    A network is no prefix of a text, so addresses are compared here: some at a time, without the rest of their rows,
    and of IPv4 only those whose whole octets are the network's.
    """
    wanted = ipaddress.ip_network(network.strip(), strict=False)
    pairs_asked = query.with_only_columns(key, ip).order_by(key.desc()).limit(ADDRESSES)
    if octets := certain_part_of_ip(network):
        pairs_asked = pairs_asked.where(ip.like(_prefix(octets), escape=_ESCAPE))
    known: dict[str, bool] = {}
    found: list[Any] = []
    asked = pairs_asked
    while True:
        pairs = (await session.execute(asked)).all()
        for identity, address in pairs:
            if address not in known:
                known[address] = is_inside(address, wanted)
            if known[address]:
                found.append(identity)
        if len(pairs) < ADDRESSES or len(found) >= limit:
            return key.in_(found[:limit])
        asked = pairs_asked.where(key < pairs[-1][0])
