"""The phones' fetch log: noted in memory on the request, written in groups, the telling ones promoted to the audit log.

Equal events inside one interval become one row with a count, so a phone that hammers, or a stranger that guesses,
costs one row an interval. What was asked with a token that nobody knows is compared with the tokens rotated away when
it is written, never on the request (`retired.py`). What cannot be written now is kept and tried again; when the memory
for it is full the newest are counted and dropped, never the phone's answer.
"""

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import structlog
from sqlalchemy import func, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import Database, utc_now
from engine.errors import EngineError
from engine.ids import new_id
from engine.models import Account, Phone, PhoneStatus, ProvisioningEvent
from engine.provisioning import quarantine, retired
from engine.provisioning.retired import Wish

FLUSH_INTERVAL_S = 0.5
MAX_PENDING = 20_000  # distinct events, about 20 MB
MAX_AUDITED = 100  # denials promoted at once ...
AUDITED_PER_S = 1.0  # ... and for as long as a flood lasts; the fetch log itself holds all of them
MAX_PER_STRANGER = 50  # distinct events of one address with no valid token in one interval; more are counted as one
MANY = "(many)"
_RETRY_S = (0.5, 1.0, 2.0, 5.0)
_log = structlog.get_logger()


class FetchKind(StrEnum):
    FETCH = "fetch"
    NOT_MODIFIED = "not_modified"
    UPLOAD = "upload"
    DENIED = "denied"
    MISMATCH = "mismatch"
    FAILED = "failed"
    HELD = "held"  # a location was asked for
    HELD_DENIED = "held_denied"


_SERVED = frozenset({FetchKind.FETCH, FetchKind.NOT_MODIFIED})
_OF_HELD = frozenset({FetchKind.HELD, FetchKind.HELD_DENIED})
_PROMOTED = {FetchKind.MISMATCH: Event.PHONE_MISMATCH, FetchKind.HELD_DENIED: Event.LOCATION_REQUEST_DENIED}


class Fetch(NamedTuple):  # made and hashed on every request: a tuple does both in C
    """One kind of event at one place. Equal ones inside an interval are counted together; the token is never in it.

    `reason` says why it was denied. `absent` alone is no denial: it is how a phone learns that a file of its boot
    order is not there. `revision` is the account's, for a file that holds lines; `etag` tells whether the phone got
    something new. `token_index`: the keyed index of the token it asked with; it is never written with the event.
    `confidence`: how sure the vendor is; `seen`: vendor and model of a phone that says it is another one than the kept.
    `is_proven`: by the phone's own certificate.
    """

    kind: FetchKind
    file: str
    method: str
    status: int
    ip: str
    user_agent: str
    account_id: str | None = None
    phone_id: str | None = None
    mac: str = ""
    reason: str | None = None
    firmware: str | None = None
    revision: int | None = None
    etag: str | None = None
    evidence: tuple[str, ...] = ()
    size_bytes: int = 0
    token_index: str = ""
    confidence: str = ""
    seen: tuple[str, str] | None = None
    is_proven: bool = False


class Noted(NamedTuple):
    """An event as one process tells it to another."""

    fetch: Fetch
    at: dt.datetime
    times: int
    duration_us: int


@dataclass(slots=True)
class _Count:
    at: dt.datetime
    count: int = 0
    duration_us: int = 0


@dataclass(slots=True)
class FetchLog:
    """`note` from the request, `run` as a background task, `flush` whenever everything must be on disk."""

    database: Database
    interval_s: float = FLUSH_INTERVAL_S
    dropped: int = 0
    on_written: Callable[[Sequence[Fetch]], None] | None = None  # told after each commit
    forward: Callable[[Sequence[Noted]], None] | None = None  # another process writes: it is told, nothing is written
    on_moved: Callable[[], None] = lambda: None  # a phone asked by another token than the last time
    _pending: dict[Fetch, _Count] = field(default_factory=dict)
    _strangers: dict[str, int] = field(default_factory=dict)
    _audits_left: float = MAX_AUDITED
    _audits_at: float = 0.0
    _task: asyncio.Task[None] | None = None

    def note(self, fetch: Fetch, duration_us: int) -> None:
        """Remember an event. Costs a dictionary look-up; never waits, never fails."""
        count = self._pending.get(fetch)
        if count is None and not fetch.user_agent.isascii():
            fetch = _in_text(fetch)
            count = self._pending.get(fetch)
        if count is None and fetch.account_id is None:
            fetch = self._of_a_stranger(fetch)
            count = self._pending.get(fetch)
        if count is None:
            if len(self._pending) >= MAX_PENDING:
                self.dropped += 1
                return
            count = self._pending[fetch] = _Count(utc_now())
        count.count += 1
        count.duration_us += duration_us

    def take(self, noted: Sequence[Noted]) -> None:
        """Events that another process of this port has seen; counted with our own."""
        for each in noted:
            count = self._pending.get(each.fetch)
            if count is None:
                if len(self._pending) >= MAX_PENDING:
                    self.dropped += 1
                    continue
                count = self._pending[each.fetch] = _Count(each.at)
            count.count += each.times
            count.duration_us += each.duration_us

    def _of_a_stranger(self, fetch: Fetch) -> Fetch:
        """The event as it is, until its address has shown too many different ones."""
        self._strangers[fetch.ip] = seen = self._strangers.get(fetch.ip, 0) + 1
        if seen <= MAX_PER_STRANGER:
            return fetch
        return fetch._replace(file=MANY, user_agent=MANY, mac="", firmware=None, evidence=(), token_index="")

    def start(self) -> None:
        self._task = asyncio.create_task(self.run(), name="fetch log")

    async def stop(self) -> None:
        """Write what is left, once, and end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        try:
            await self.flush()
        except (SQLAlchemyError, EngineError, OSError):
            _log.warning("fetch_log.lost", events=len(self._pending))

    async def run(self) -> None:
        """Flush for ever; a database that is away is tried again, ever less often."""
        failures = 0
        while True:
            await asyncio.sleep(self.interval_s if failures == 0 else _RETRY_S[min(failures, len(_RETRY_S)) - 1])
            try:
                await self.flush()
            except Exception as exc:  # noqa: BLE001  # a loop that lives as long as the process: log it and go on
                failures += 1
                _log.warning(
                    "fetch_log.waiting", events=len(self._pending), failures=failures, error=type(exc).__name__
                )
            else:
                failures = 0

    async def flush(self) -> None:
        """Write everything noted so far in one transaction; on an error all of it stays noted."""
        if not self._pending:
            return
        taken, self._pending = self._pending, {}
        self._strangers.clear()
        if self.forward is not None:
            self.forward([Noted(fetch, one.at, one.count, one.duration_us) for fetch, one in taken.items()])
            return
        try:
            async with self.database.sessions.begin() as session:
                told = await retired.attributed(session, taken)
                has_moved = await _write(session, told, self._worth_auditing(told))
        except BaseException:
            self._put_back(taken)
            raise
        if has_moved:
            self.on_moved()
        if self.on_written is not None:
            self.on_written(list(taken))
        if self.dropped:
            _log.warning("fetch_log.dropped", events=self.dropped)
            self.dropped = 0

    def _worth_auditing(self, taken: dict[Fetch, _Count]) -> list[Fetch]:
        """The denials that go into the audit log too, as many as the flood guard allows now."""
        now = time.monotonic()
        self._audits_left = min(MAX_AUDITED, self._audits_left + (now - self._audits_at) * AUDITED_PER_S)
        self._audits_at = now
        denials = [
            fetch
            for fetch in taken
            if fetch.kind in {FetchKind.MISMATCH, FetchKind.HELD_DENIED}
            or (fetch.kind is FetchKind.DENIED and fetch.reason != "absent")
        ]
        promoted = denials[: int(self._audits_left)]
        self._audits_left -= len(promoted)
        return promoted

    def _put_back(self, taken: dict[Fetch, _Count]) -> None:
        newer, self._pending = self._pending, taken
        for fetch, count in newer.items():
            kept = taken.get(fetch)
            if kept is None:
                taken[fetch] = count
            else:
                kept.count += count.count
                kept.duration_us += count.duration_us


def _in_text(fetch: Fetch) -> Fetch:
    """The event with bytes that are no text written out (`\\xff`): no database takes them, and one such row would hold
    up all others for ever.
    """
    agent, *evidence = (
        text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        for text in (fetch.user_agent, *fetch.evidence)
    )
    return fetch._replace(user_agent=agent[:400], evidence=tuple(evidence))


async def _write(session: AsyncSession, taken: dict[Fetch, _Count], promoted: list[Fetch]) -> bool:
    """Write them all; True when a phone asked by another token than the last time."""
    phones = await _phones(session, {fetch.phone_id for fetch in taken if fetch.phone_id is not None})
    changed = await _changed(session, taken, phones)
    accounts = await _accounts(session, {fetch.account_id for fetch in taken if fetch.account_id is not None})
    has_moved = False
    for fetch, count in taken.items():
        phone = phones.get(fetch.phone_id or "")
        if phone is not None and fetch.kind in _SERVED:
            known = phone.fetched_token_index
            _got(session, phone, fetch, count.at, accounts.get(phone.account_id), is_changed=fetch in changed)
            has_moved = has_moved or phone.fetched_token_index != known
        elif phone is not None and fetch.reason == retired.REASON:
            phone.straggled_at = count.at
        elif phone is not None and fetch.seen is not None:
            lately = {one.ip for one in taken if one.phone_id == phone.id and one.kind in _SERVED}
            if fetch.is_proven or await quarantine.is_at_home(session, phone, fetch.ip, count.at, lately):
                quarantine.hold(session, _actor(fetch), phone, quarantine.Seen(*fetch.seen))
        elif phone is not None and fetch.kind is FetchKind.FAILED:
            if fetch.status < 400:  # something stood in for the file
                _got(session, phone, fetch, count.at, accounts.get(phone.account_id), is_changed=False)
            phone.status = PhoneStatus.FAILED  # its file cannot be made: the phone keeps what it has
    for fetch in promoted:
        _promote(session, fetch, taken[fetch], phones.get(fetch.phone_id or ""))
    rows = [_row(fetch, count, phones, accounts) for fetch, count in taken.items()]
    for row, event_id in zip(rows, sorted(new_id("fetch") for _ in rows), strict=True):
        row["id"] = event_id  # within a millisecond too, the log reads in the order things happened
    await session.execute(insert(ProvisioningEvent), rows)
    return has_moved


async def _phones(session: AsyncSession, wanted: set[str]) -> dict[str, Phone]:
    """The phones that still exist, in groups that every database takes in one statement."""
    found: dict[str, Phone] = {}
    ordered = sorted(wanted)
    for start in range(0, len(ordered), 500):
        rows = await session.scalars(select(Phone).where(Phone.id.in_(ordered[start : start + 500])))
        found.update({phone.id: phone for phone in rows})
    return found


async def _accounts(session: AsyncSession, wanted: set[str]) -> dict[str, Wish]:
    """Those that still exist, each with the token that its phones shall ask with: an event of an account deleted
    meanwhile must not hold up all others.
    """
    following = Account.next_provisioning_token_index
    wished = func.coalesce(following, Account.provisioning_token_index)
    query = select(Account.id, wished, following.is_not(None)).where(Account.id.in_(wanted))
    return {row[0]: Wish(row[1], bool(row[2])) for row in await session.execute(query)} if wanted else {}


async def _changed(session: AsyncSession, taken: dict[Fetch, _Count], phones: dict[str, Phone]) -> set[Fetch]:
    """The fetches that gave a phone other bytes than its last fetch of the same file."""
    changed = set()
    for fetch in taken:
        phone = phones.get(fetch.phone_id or "")
        if phone is None or fetch.kind is not FetchKind.FETCH or fetch.revision in {None, phone.fetched_revision}:
            continue
        if phone.fetched_revision is None:
            continue
        query = (
            select(ProvisioningEvent.evidence)
            .where(
                ProvisioningEvent.phone_id == fetch.phone_id,
                ProvisioningEvent.file == fetch.file,
                ProvisioningEvent.kind == FetchKind.FETCH,
            )
            .order_by(ProvisioningEvent.id.desc())
            .limit(1)
        )
        last = await session.scalar(query)
        if last is not None and last.get("etag") != fetch.etag:
            changed.add(fetch)
    return changed


def _got(
    session: AsyncSession, phone: Phone, fetch: Fetch, at: dt.datetime, wish: Wish | None, *, is_changed: bool
) -> None:
    """What a file that was served tells of the phone; a HEAD gave it nothing, so it tells nothing."""
    if fetch.method == "HEAD":
        return
    wish = wish or Wish()
    is_from_home, last = retired.is_from_home(phone, fetch, wish), phone.last_fetch_at
    _seen(session, phone, fetch, at, is_changed=is_changed)
    retired.note_token(phone, fetch, wish, at, is_from_home=is_from_home)
    if not is_from_home:
        phone.last_fetch_at = last  # a move counts by it


def _seen(session: AsyncSession, phone: Phone, fetch: Fetch, at: dt.datetime, *, is_changed: bool) -> None:
    """Put what the phone told of itself on its row: machine columns, which need no audit entry and bump no revision."""
    phone.last_fetch_at = at
    phone.last_ip = fetch.ip
    phone.last_user_agent = fetch.user_agent
    phone.firmware = fetch.firmware or phone.firmware
    if fetch.revision is None:
        return  # a boot or common file: the phone has not got its lines yet
    if phone.status == PhoneStatus.NEVER_BOOTED:
        record(
            session, _actor(fetch), Event.PHONE_FIRST_FETCH, phone, status=fetch.status, details={"file": fetch.file}
        )
    elif is_changed:
        record(
            session, _actor(fetch), Event.PHONE_CHANGED_FETCH, phone, status=fetch.status, details={"file": fetch.file}
        )
    if phone.status != PhoneStatus.QUARANTINED:  # held back meanwhile, by another request of the same moment
        phone.status = PhoneStatus.CURRENT
    phone.fetched_revision = fetch.revision


def _promote(session: AsyncSession, fetch: Fetch, count: _Count, phone: Phone | None) -> None:
    event = _PROMOTED.get(fetch.kind, Event.PROVISIONING_DENIED)
    label = fetch.mac or fetch.file
    record(
        session,
        _actor(fetch),
        event,
        phone,
        resource=None if phone is not None else ("phone", phone_name(fetch), label),
        outcome="denied",
        status=fetch.status,
        reason=fetch.reason,
        account_id=fetch.account_id,
        details={"file": fetch.file, "count": count.count, "evidence": list(fetch.evidence)},
    )


def phone_name(fetch: Fetch) -> str:
    """How an audit entry names a phone that is not in the database."""
    return fetch.mac or "unknown"


def _actor(fetch: Fetch) -> Actor:
    name = phone_name(fetch)
    return Actor(
        "phone", fetch.phone_id or name, name, fetch.ip, fetch.account_id, user_agent=fetch.user_agent,
        method=fetch.method, route="/held" if fetch.kind in _OF_HELD else "/p/{token}/{file}",
    )  # fmt: skip


def _row(fetch: Fetch, count: _Count, phones: dict[str, Phone], accounts: Container[str]) -> dict[str, Any]:
    evidence: dict[str, Any] = {"count": count.count}
    if fetch.evidence:
        evidence["sentences"] = list(fetch.evidence)
    if fetch.confidence:
        evidence["confidence"] = fetch.confidence
    if fetch.etag is not None:
        evidence["etag"] = fetch.etag
    return {
        "account_id": fetch.account_id if fetch.account_id in accounts else None,
        "phone_id": fetch.phone_id if fetch.phone_id in phones else None,
        "kind": fetch.kind,
        "reason": fetch.reason,
        "file": fetch.file,
        "method": fetch.method,
        "status_code": fetch.status,
        "size_bytes": fetch.size_bytes,
        "duration_us": count.duration_us // max(count.count, 1),
        "ip": fetch.ip,
        "user_agent": fetch.user_agent,
        "evidence": evidence,
        "at": count.at,
    }
