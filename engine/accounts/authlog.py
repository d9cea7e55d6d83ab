"""The authentication log: every sign-in with how and when it ended, and every attempt that was refused with why.

Theory of operation. Nothing is kept twice. A sign-in is the session's own row, which says how long it lasted; a refused
attempt is its entry in the audit log, which nobody can take out. A page merges both by time, newest first, and goes on
from a position in each, so that rows made meanwhile move nothing. A session that ran out by a clock has no row's end:
it is told from the clocks, as the next request would be.
"""

import datetime as dt
import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from heapq import merge
from itertools import islice

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts.store import ABSOLUTE, IDLE
from engine.audit.events import Event
from engine.audit.record import PLATFORM
from engine.db import utc_now
from engine.models import Account, AuditEntry, Session, User

_REFUSABLE = (Event.SESSION_CREATE, Event.SESSION_PROVE, Event.INVITATION_ACCEPT)
_ESCAPE = "\\"
_LATEST_MS = 253_000_000_000_000  # in the year 9987: what a datetime still holds
_SESSIONS, _ACCOUNT, _PLATFORM = "sessions", "account", "platform"  # the streams of a page


class End(StrEnum):
    """How a session stands or ended."""

    RUNNING = "running"
    SIGNED_OUT = "signed_out"
    EXPIRED = "expired"  # idle for 8 hours, or a day old
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


@dataclass(frozen=True, slots=True)
class Authentication:
    """One row of the log. `duration_s` of a running session goes on growing; a failure has none."""

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


@dataclass(frozen=True, slots=True)
class Position:
    """Behind which session, and below which number of each chain, a page begins; empty: nothing of it was shown yet.

    `until_ms`: no row younger than the page before, so that what came meanwhile in a stream not shown yet stays out.
    """

    until_ms: int = 0
    session: str = ""
    account_seq: int = 0
    platform_seq: int = 0

    def text(self) -> str:
        return f"{self.session},{self.until_ms},{self.account_seq},{self.platform_seq}"

    @classmethod
    def read(cls, text: str) -> "Position":
        """Raises ValueError for a text that `text` did not make."""
        session, *numbers = text.split(",")
        if len(numbers) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 16 for part in numbers):
            raise ValueError("no position of this log")
        return cls(int(numbers[0]), session, int(numbers[1]), int(numbers[2]))

    def behind(self, found: "_Found") -> "Position":
        """The position when that row was shown too."""
        row = found.row
        if found.stream == _SESSIONS:
            return replace(self, session=row.id)
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
    if filters.outcome != "failure":
        streams.append(await _sign_ins(session, account, filters, start.session, limit + 1, now))
    if filters.outcome != "success" and not filters.end:
        streams.append(await _refused(session, account.id, _ACCOUNT, filters, start.account_seq, limit + 1))
        if await _is_alone(session):  # whose an address that nobody has was meant to be is then no question
            streams.append(await _refused(session, PLATFORM, _PLATFORM, filters, start.platform_seq, limit + 1))
    found = list(islice(merge(*streams, key=lambda each: each.row.at, reverse=True), limit + 1))
    shown = found[:limit]
    following = None
    if len(found) > limit:
        following = start
        for each in shown:
            following = following.behind(each)
        following = replace(following, until_ms=int(shown[-1].row.at.timestamp() * 1000))
    return Page(await _with_ends(session, account.id, [each.row for each in shown]), following)


async def _sign_ins(
    session: AsyncSession, account: Account, filters: Filters, after: str, limit: int, now: dt.datetime
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
        query = query.where(_ended_as(End(filters.end), now))
    order = query.order_by(Session.id.desc())
    if "/" not in filters.ip:
        rows = (await session.execute(order.limit(limit))).all()
    else:  # a network is no prefix of a text: compared here, as many as it takes
        rows = [row for row in (await session.execute(order)).all() if _inside(row[0].ip, filters.ip)][:limit]
    return [_Found(_sign_in(row, user, now), _SESSIONS) for row, user in rows]


def _sign_in(row: Session, user: User, now: dt.datetime) -> Authentication:
    end, reason, ended_at = end_of(row, now)
    return Authentication(
        row.id, row.created_at, "success", row.method, user.id, user.email.partition("#")[0], user.name, row.ip,
        row.user_agent, end=end, end_reason=reason, ended_at=ended_at,
        duration_s=max(0, int(((ended_at or now) - row.created_at).total_seconds())),
    )  # fmt: skip


def end_of(row: Session, now: dt.datetime) -> tuple[End, str, dt.datetime | None]:
    """How a session stands: what it is called, why, and since when."""
    if row.ended_at is not None:
        reason = row.end_reason or ""
        plain = {"signed_out": End.SIGNED_OUT, "replaced": End.REPLACED}.get(reason, End.REVOKED)
        return plain, reason, row.ended_at
    idle, absolute = row.seen_at + IDLE, row.created_at + ABSOLUTE
    first = min(idle, absolute)
    if first < now:
        return End.EXPIRED, "idle" if idle <= absolute else "absolute", first
    return End.RUNNING, "", None


def _ended_as(end: End, now: dt.datetime) -> ColumnElement[bool]:
    """`end_of`, as a question to the database."""
    is_fresh = and_(Session.seen_at >= now - IDLE, Session.created_at >= now - ABSOLUTE)
    if end is End.RUNNING:
        return and_(Session.ended_at.is_(None), is_fresh)
    if end is End.EXPIRED:
        return and_(Session.ended_at.is_(None), ~is_fresh)
    if end is End.REVOKED:
        return and_(Session.ended_at.is_not(None), Session.end_reason.not_in(("signed_out", "replaced")))
    return Session.end_reason == end.value


async def _refused(
    session: AsyncSession, chain: str, stream: str, filters: Filters, below: int, limit: int
) -> list[_Found]:
    """Refused attempts of one chain. Asked event by event: each has an index that is walked newest first."""
    entries: list[AuditEntry] = []
    for event in _REFUSABLE:
        query = select(AuditEntry).where(
            AuditEntry.chain == chain, AuditEntry.event == event.value, AuditEntry.outcome != "success"
        )
        if below:
            query = query.where(AuditEntry.seq < below)
        if filters.since is not None:
            query = query.where(AuditEntry.at >= filters.since)
        if filters.until is not None:
            query = query.where(AuditEntry.at <= filters.until)
        if filters.user:
            query = query.where(_tried_as(filters.user))
        if filters.ip and "/" not in filters.ip:
            query = query.where(AuditEntry.ip.like(_prefix(filters.ip), escape=_ESCAPE))
        query = query.order_by(AuditEntry.seq.desc())
        rows: Iterable[AuditEntry] = await session.scalars(query if "/" in filters.ip else query.limit(limit))
        entries += [row for row in rows if "/" not in filters.ip or _inside(row.ip, filters.ip)]
    entries = sorted(entries, key=lambda entry: entry.seq, reverse=True)[:limit]
    users = await _users(session, {entry.resource_id for entry in entries if entry.resource_type == "user"})
    return [_Found(_failure(entry, users), stream, entry.seq) for entry in entries]


def _failure(entry: AuditEntry, users: dict[str, User]) -> Authentication:
    told = json.loads(entry.entry)
    user = users.get(entry.resource_id) or users.get(entry.actor_id)
    email = told["details"].get("email", "") or (user.email.partition("#")[0] if user else "")
    return Authentication(
        entry.id, entry.at, "failure", "password", user.id if user else None, email, user.name if user else "",
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
    return len((await session.scalars(select(Account.id).limit(2))).all()) == 1


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


def _prefix(text: str) -> str:
    return f"{_literal(text.strip().lower())}%"


def _literal(text: str) -> str:
    """`%` and `_` are characters people type, not wildcards."""
    return text.replace(_ESCAPE, _ESCAPE * 2).replace("%", f"{_ESCAPE}%").replace("_", f"{_ESCAPE}_")


def _inside(ip: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(ip) in ipaddress.ip_network(network.strip(), strict=False)
    except ValueError:
        return False
