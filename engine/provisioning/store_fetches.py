"""What the fetch log writes: its rows, and on each phone what it was given when.

Theory of operation. Nearly every fetch tells nothing but that a phone has what it shall have: its machine columns move,
which need no audit entry and no revision. Such phones are read and written as plain columns (`Marks`); only where
something is to be told of a phone (its first fetch, other bytes than the last, a contradiction, a fault) is its whole
row loaded. A storm of ten thousand boots is written beside the phones' answers by the same process.
"""

import datetime as dt
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import Dialect, Table, bindparam, func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import BulkInsert
from engine.ids import new_id
from engine.models import Account, Phone, PhoneStatus, ProvisioningEvent
from engine.provisioning import quarantine, retired
from engine.provisioning.fetches import SERVED, Count, Fetch, FetchKind
from engine.provisioning.retired import Wish

_OF_HELD = frozenset({FetchKind.HELD, FetchKind.HELD_DENIED})
_PROMOTED = {FetchKind.MISMATCH: Event.PHONE_MISMATCH, FetchKind.HELD_DENIED: Event.LOCATION_REQUEST_DENIED}
_EVENTS = cast("Table", ProvisioningEvent.__table__)
_PHONES = cast("Table", Phone.__table__)


@dataclass(slots=True)
class Marks:
    """What fetches put on a phone: the columns of that name. `id` and `account_id` say whose; `stale_revision`
    is only read.
    """

    id: str
    account_id: str
    status: str
    last_fetch_at: dt.datetime | None
    last_ip: str | None
    last_user_agent: str | None
    firmware: str | None
    fetched_revision: int | None
    fetched_token_index: str | None
    home_ip: str | None
    elsewhere_at: dt.datetime | None
    stale_revision: int | None


_MARKED = tuple(name for name in Marks.__slots__ if name not in {"id", "account_id", "stale_revision"})
# PostgreSQL lets others write meanwhile: what somebody changes on a phone waits for us, or we for it, and none is lost
_READ = select(*(_PHONES.c[name] for name in Marks.__slots__)).order_by(_PHONES.c.id).with_for_update(key_share=True)
# Of two that wait for each other PostgreSQL ends one after a second, which might be an import: this gives way before
_PATIENCE = text("SET LOCAL lock_timeout = '250ms'")
_LOCKED = "55P03"  # what PostgreSQL says then: lock_not_available
_WRITE = (
    update(_PHONES).where(_PHONES.c.id == bindparam("of")).values({name: bindparam(f"new_{name}") for name in _MARKED})
)


def gave_way(fault: BaseException) -> bool:
    """Whether nothing was written since others held the phones or the chain."""
    return isinstance(fault, DBAPIError) and getattr(fault.orig, "sqlstate", None) == _LOCKED


async def write(session: AsyncSession, taken: Mapping[Fetch, Count], promoted: Collection[Fetch]) -> bool:
    """Write them all; True when a phone asked by another token than the last time. `promoted`: those that go into the
    audit log too.

    Raises:
        DBAPIError: on PostgreSQL also when others hold the phones, or the chain, for longer than `_PATIENCE` says.
    """
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(_PATIENCE)
    marks = await _marks(session, {fetch.phone_id for fetch in taken if fetch.phone_id is not None})
    changed = await _changed(session, taken, marks)
    wanted = {fetch.phone_id for fetch in promoted if fetch.phone_id is not None}
    whole = await _phones(session, wanted | _told_of(taken, marks, changed))
    before = {phone_id: astuple(one) for phone_id, one in marks.items() if phone_id not in whole}
    phones: dict[str, Phone | Marks] = {**marks, **whole}
    wishes = await _wishes(session, {fetch.account_id for fetch in taken if fetch.account_id is not None})
    has_moved = False
    for fetch, count in taken.items():
        phone = phones.get(fetch.phone_id or "")
        if phone is not None and fetch.kind in SERVED:
            known = phone.fetched_token_index
            _got(session, phone, fetch, count.at, wishes.get(phone.account_id), is_changed=fetch in changed)
            has_moved = has_moved or phone.fetched_token_index != known
        elif isinstance(phone, Phone):
            await _told(session, phone, fetch, taken, wishes)
    for fetch in promoted:
        _promote(session, fetch, taken[fetch], whole.get(fetch.phone_id or ""))
    moved = [marks[phone_id] for phone_id, stored in before.items() if astuple(marks[phone_id]) != stored]
    await _put(session, moved)
    await _add(session, taken, phones, wishes)
    return has_moved


async def _told(
    session: AsyncSession, phone: Phone, fetch: Fetch, taken: Mapping[Fetch, Count], wishes: Mapping[str, Wish]
) -> None:
    """What a request that got no file of its own, or a faulty one, says of the phone."""
    at = taken[fetch].at
    if fetch.reason == retired.REASON:
        phone.straggled_at = at
    elif fetch.seen is not None:
        lately = {one.ip for one in taken if one.phone_id == phone.id and one.kind in SERVED}
        if fetch.is_proven or await quarantine.is_at_home(session, phone, fetch.ip, at, lately):
            quarantine.hold(session, _actor(fetch), phone, quarantine.Seen(*fetch.seen))
    elif fetch.kind is FetchKind.FAILED:
        if fetch.status < 400:  # something stood in for the file
            _got(session, phone, fetch, at, wishes.get(phone.account_id), is_changed=False)
        phone.status = PhoneStatus.FAILED  # its file cannot be made: the phone keeps what it has


def _told_of(taken: Iterable[Fetch], marks: Mapping[str, Marks], changed: Container[Fetch]) -> set[str]:
    """The phones of which more is to be told than that they were served."""
    found = set()
    for fetch in taken:
        phone = marks.get(fetch.phone_id or "")
        if phone is None:
            continue
        is_first = phone.status == PhoneStatus.NEVER_BOOTED and fetch.revision is not None
        is_fault = fetch.kind is FetchKind.FAILED or fetch.seen is not None or fetch.reason == retired.REASON
        if is_fault or fetch in changed or (is_first and fetch.kind in SERVED):
            found.add(phone.id)
    return found


# --- Phones -----------------------------------------------------------------------------------------------------------


async def _marks(session: AsyncSession, wanted: set[str]) -> dict[str, Marks]:
    """Those of the phones that still exist; nobody else changes them until the commit."""
    if not wanted:
        return {}
    rows = await (await session.connection()).execute(_READ.where(_PHONES.c.id.in_(wanted)))
    return {row[0]: Marks(*row) for row in rows}


async def _phones(session: AsyncSession, wanted: set[str]) -> dict[str, Phone]:
    if not wanted:
        return {}
    return {phone.id: phone for phone in await session.scalars(select(Phone).where(Phone.id.in_(wanted)))}


async def _put(session: AsyncSession, moved: Iterable[Marks]) -> None:
    rows = [{"of": one.id} | {f"new_{name}": getattr(one, name) for name in _MARKED} for one in moved]
    if rows:
        await (await session.connection()).execute(_WRITE, rows)


async def _wishes(session: AsyncSession, wanted: set[str]) -> dict[str, Wish]:
    """The accounts that still exist, each with the token that its phones shall ask with: an event of an account deleted
    meanwhile must not hold up all others.
    """
    following = Account.next_provisioning_token_index
    wished = func.coalesce(following, Account.provisioning_token_index)
    query = select(Account.id, wished, following.is_not(None)).where(Account.id.in_(wanted))
    return {row[0]: Wish(row[1], bool(row[2])) for row in await session.execute(query)} if wanted else {}


async def _changed(session: AsyncSession, taken: Iterable[Fetch], marks: Mapping[str, Marks]) -> set[Fetch]:
    """The fetches that gave a phone other bytes than its last fetch of the same file."""
    changed = set()
    for fetch in taken:
        phone = marks.get(fetch.phone_id or "")
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
    session: AsyncSession, phone: Phone | Marks, fetch: Fetch, at: dt.datetime, wish: Wish | None, *, is_changed: bool
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


def _seen(session: AsyncSession, phone: Phone | Marks, fetch: Fetch, at: dt.datetime, *, is_changed: bool) -> None:
    """Put what the phone told of itself on its row: machine columns, which need no audit entry and bump no revision.
    What was made before somebody changed the phone's files, and is written after, leaves it stale.
    """
    phone.last_fetch_at = at
    phone.last_ip = fetch.ip
    phone.last_user_agent = fetch.user_agent
    phone.firmware = fetch.firmware or phone.firmware
    if fetch.revision is None:
        return  # a boot or common file: the phone has not got its lines yet
    is_first = phone.status == PhoneStatus.NEVER_BOOTED
    if (is_first or is_changed) and isinstance(phone, Phone):
        event = Event.PHONE_FIRST_FETCH if is_first else Event.PHONE_CHANGED_FETCH
        record(session, _actor(fetch), event, phone, status=fetch.status, details={"file": fetch.file})
    if phone.status != PhoneStatus.QUARANTINED:  # held back meanwhile, by another request of the same moment
        is_current = fetch.revision >= (phone.stale_revision or 0)
        phone.status = PhoneStatus.CURRENT if is_current else PhoneStatus.STALE
    phone.fetched_revision = fetch.revision


# --- Events -----------------------------------------------------------------------------------------------------------


async def _add(
    session: AsyncSession, taken: Mapping[Fetch, Count], phones: Container[str], accounts: Container[str]
) -> None:
    await session.flush()  # in the order things happened, and before any row of ours names a phone
    insert = _insert(session.get_bind().dialect)
    ids = sorted(new_id("fetch") for _ in taken)  # within a millisecond too, the log reads in the order things happened
    rows = [
        insert.row(_row(event_id, fetch, count, phones, accounts))
        for event_id, (fetch, count) in zip(ids, taken.items(), strict=True)
    ]
    await insert.write(session, rows)


@lru_cache(maxsize=4)
def _insert(dialect: Dialect) -> BulkInsert:
    return BulkInsert(_EVENTS, _EVENTS.columns.keys(), dialect)


def _row(event_id: str, fetch: Fetch, count: Count, phones: Container[str], accounts: Container[str]) -> dict[str, Any]:
    evidence: dict[str, Any] = {"count": count.count}
    if fetch.evidence:
        evidence["sentences"] = list(fetch.evidence)
    if fetch.confidence:
        evidence["confidence"] = fetch.confidence
    if fetch.etag is not None:
        evidence["etag"] = fetch.etag
    return {
        "id": event_id,
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


def _promote(session: AsyncSession, fetch: Fetch, count: Count, phone: Phone | None) -> None:
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
