"""Queries of emergency calls: filtered lists, exports, what the front desk watches, what Home tells of them.

The INVITE is sealed and long, so lists leave it where it is. Every question names its account and is bounded.
"""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, String, and_, case, cast, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from engine.db import utc_now
from engine.models import (
    MAILS,
    Account,
    CallAttempt,
    CallKind,
    CallWriter,
    EmergencyCall,
    Line,
    Location,
    Notification,
    NotificationRecipient,
    NotificationState,
    Number,
)
from engine.places import is_dispatchable

RINGS_FOR = dt.timedelta(hours=24)  # a call that nobody acknowledged; afterwards Home alone says so
WATCHED = 30  # calls beyond those that ring: what a page that watches shows
MAX_RINGING = 100
_TESTS_READ = 20  # answered 933 calls that are looked at for one with an address
_OF_THE_CALL = frozenset({"request", "reference"})  # the caller's own message told the place, and it went on as it came
MAX_CHANGED = 1_000  # of one look; more are found by the next, since what was handed out is known
NO_LOCATION = "none"  # in place of a location's id: calls that carried none
_IS_OPEN = and_(EmergencyCall.ended_at.is_(None), EmergencyCall.outcome.in_(("in_progress", "answered")))
OUTCOMES = ("in_progress", "answered", "failed", "cancelled", "cut_off", "drill")


@dataclass(frozen=True, slots=True)
class CallFilters:
    """Which calls. Empty: any. `caller`: part of a name, extension or number; `location`: an id, or `NO_LOCATION`."""

    kind: str = ""
    outcome: str = ""
    location: str = ""
    caller: str = ""
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    acknowledged: bool | None = None

    @property
    def is_any(self) -> bool:
        return self == CallFilters()


def conditions_of(filters: CallFilters) -> list[ColumnElement[bool]]:
    """The filters as conditions on `EmergencyCall`."""
    found: list[ColumnElement[bool]] = []
    if filters.kind:
        found.append(EmergencyCall.kind == filters.kind)
    if filters.outcome:
        found.append(EmergencyCall.outcome == filters.outcome)
    if filters.location == NO_LOCATION:
        found.append(EmergencyCall.location.is_(None))
    elif filters.location:
        found.append(EmergencyCall.location["id"].as_string() == filters.location)
    if filters.caller:
        pattern = f"%{_escaped(filters.caller.lower())}%"
        named = (EmergencyCall.caller[name].as_string() for name in ("name", "extension", "callback_number"))
        found.append(or_(*(func.lower(column).like(pattern, escape="\\") for column in named)))
    if filters.since is not None:
        found.append(EmergencyCall.sent_at >= filters.since)
    if filters.until is not None:
        found.append(EmergencyCall.sent_at < filters.until)
    if filters.acknowledged is not None:
        is_null = EmergencyCall.acknowledged_at.is_(None)
        found.append(~is_null if filters.acknowledged else is_null)
    return found


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _calls(account_id: str) -> Select[EmergencyCall]:
    return (
        select(EmergencyCall)
        .where(EmergencyCall.account_id == account_id)
        .options(defer(EmergencyCall.invite, raiseload=True))
    )


async def calls_before(
    session: AsyncSession,
    account_id: str,
    filters: CallFilters,
    *,
    before: tuple[dt.datetime, str] | None,
    limit: int,
) -> Sequence[EmergencyCall]:
    """Calls that match, newest first, from behind that (time sent, id) on."""
    query = _calls(account_id).where(*conditions_of(filters))
    if before is not None:
        at, identity = before
        query = query.where(
            or_(EmergencyCall.sent_at < at, and_(EmergencyCall.sent_at == at, EmergencyCall.id < identity))
        )
    query = query.order_by(EmergencyCall.sent_at.desc(), EmergencyCall.id.desc()).limit(limit)
    return (await session.scalars(query)).all()


async def calls_to_watch(session: AsyncSession, account_id: str, now: dt.datetime) -> Sequence[EmergencyCall]:
    """What the front desk sees: every call that rings (unacknowledged, no test, of the last day) and the latest
    others of that day; newest first. However many drills are held, none takes the place of a real call.
    """
    lately = _calls(account_id).where(EmergencyCall.sent_at >= now - RINGS_FOR)
    newest = (EmergencyCall.sent_at.desc(), EmergencyCall.id.desc())
    ringing = lately.where(EmergencyCall.acknowledged_at.is_(None))
    real = ringing.where(EmergencyCall.kind == CallKind.EMERGENCY)
    found = {call.id: call for call in await session.scalars(real.order_by(*newest).limit(MAX_RINGING))}
    drills = ringing.where(EmergencyCall.kind == CallKind.DRILL)
    left = MAX_RINGING - len(found)
    found |= {call.id: call for call in await session.scalars(drills.order_by(*newest).limit(left))}
    found |= {call.id: call for call in await session.scalars(lately.order_by(*newest).limit(WATCHED))}
    return sorted(found.values(), key=lambda call: (call.sent_at, call.id), reverse=True)


async def calls_changed(session: AsyncSession, since: dt.datetime, touched: Collection[str]) -> Sequence[EmergencyCall]:
    """The calls of all accounts that changed since then, and those named, in the order of their changes."""
    changed = EmergencyCall.changed_at >= since
    query = (
        select(EmergencyCall)
        .where(or_(changed, EmergencyCall.id.in_(touched)) if touched else changed)
        .options(defer(EmergencyCall.invite, raiseload=True))
        .order_by(EmergencyCall.changed_at, EmergencyCall.id)
        .limit(MAX_CHANGED)
    )
    return (await session.scalars(query)).all()


async def call_to_change(session: AsyncSession, account_id: str, call_id: str) -> EmergencyCall | None:
    """One call of that account, which nobody else changes before the commit."""
    query = select(EmergencyCall).where(EmergencyCall.account_id == account_id, EmergencyCall.id == call_id)
    return await session.scalar(query.with_for_update())


# ------------------------------------------------------------------------------------------ around a list


async def attempts_of_calls(session: AsyncSession, ids: Collection[str]) -> dict[str, list[CallAttempt]]:
    """The tries at trunks of each of these calls, in their order, without what they were sent."""
    query = (
        select(CallAttempt)
        .where(CallAttempt.emergency_call_id.in_(ids))
        .options(defer(CallAttempt.invite, raiseload=True))
        .order_by(CallAttempt.emergency_call_id, CallAttempt.number)
    )
    found: dict[str, list[CallAttempt]] = {identity: [] for identity in ids}
    for attempt in await session.scalars(query):
        found[attempt.emergency_call_id].append(attempt)
    return found


async def told_of_calls(session: AsyncSession, ids: Collection[str]) -> dict[str, list[tuple[str, str]]]:
    """Recipient and delivery state of each notification of these calls: an address, or a webhook's or chat's name and
    where it leads.
    """
    query = (
        select(
            Notification.emergency_call_id,
            case((Notification.channel.in_(MAILS), Notification.recipient), else_=Notification.subject),
            Notification.state,
        )
        .where(Notification.emergency_call_id.in_(ids))
        .order_by(Notification.emergency_call_id, Notification.recipient)
    )
    found: dict[str, list[tuple[str, str]]] = {identity: [] for identity in ids}
    for call_id, recipient, state in await session.execute(query):
        found[call_id].append((recipient, state))
    return found


# ------------------------------------------------------------------------------------------ what Home tells


async def places_of(
    session: AsyncSession, account_id: str
) -> list[tuple[str, str, dict[str, str], bool, str, bool, list[str]]]:
    """Of each location: identifier, name, civic address, whether it has a position, status, whether it has recipients,
    and the carriers that know it by another address; by name. The rows themselves, with all they hold, are not needed.
    """
    query = (
        select(
            Location.id,
            Location.name,
            Location.civic_address,
            Location.geo,
            Location.status,
            Location.notification_recipients,
            Location.outdated_carrier_ids,
        )
        .where(Location.account_id == account_id)
        .order_by(func.lower(Location.name), Location.id)
    )
    rows = await session.execute(query)
    return [(row[0], row[1], row[2], row[3] is not None, row[4], bool(row[5]), sorted(row[6])) for row in rows]


async def has_callback_number(session: AsyncSession, account_id: str) -> bool:
    """Whether a number to call back is set anywhere: at the account, a line, a location, or as a number of its own."""
    places = (
        select(Account.id).where(Account.id == account_id, func.coalesce(Account.callback_number, "") != ""),
        select(Line.id).where(Line.account_id == account_id, func.coalesce(Line.callback_number, "") != ""),
        select(Location.id).where(Location.account_id == account_id, func.coalesce(Location.callback_number, "") != ""),
        select(Number.id).where(Number.account_id == account_id),
    )
    for query in places:
        if await session.scalar(query.limit(1)) is not None:
            return True
    return False


async def count_mute_lines(session: AsyncSession, account: Account) -> int:
    """Lines with no number to call back of their own, where neither the account nor any location has one for them."""
    lent = select(Number.id).where(Number.account_id == account.id, Number.location_id.is_not(None))
    places = select(Location.id).where(
        Location.account_id == account.id, func.coalesce(Location.callback_number, "") != ""
    )
    if account.callback_number:
        return 0
    for query in (lent, places):
        if await session.scalar(query.limit(1)) is not None:
            return 0
    return await count_lines_without_number(session, account.id)


async def count_lines_without_number(session: AsyncSession, account_id: str) -> int:
    """Lines with no number to call back of their own."""
    own = select(Number.line_id).where(Number.account_id == account_id, Number.line_id.is_not(None))
    query = select(func.count()).where(
        Line.account_id == account_id, func.coalesce(Line.callback_number, "") == "", Line.id.not_in(own)
    )
    return int(await session.scalar(query) or 0)


async def count_recipients(session: AsyncSession, account_id: str) -> int:
    """How many addresses to mail the account itself names; locations name their own."""
    query = select(func.count()).select_from(NotificationRecipient)
    return int(await session.scalar(query.where(NotificationRecipient.account_id == account_id)) or 0)


async def latest_calls(session: AsyncSession, account_id: str, limit: int) -> Sequence[EmergencyCall]:
    """The newest calls of any kind, newest first."""
    query = _calls(account_id).order_by(EmergencyCall.sent_at.desc(), EmergencyCall.id.desc()).limit(limit)
    return (await session.scalars(query)).all()


async def latest_test(session: AsyncSession, account_id: str) -> EmergencyCall | None:
    """The latest 933 call, whatever came of it."""
    return (await session.scalars(_tests(account_id).limit(1))).first()


async def passed_test(session: AsyncSession, account_id: str) -> EmergencyCall | None:
    """The latest 933 call that a carrier answered and that carried a place help can be sent to, among the newest."""
    calls = await session.scalars(_tests(account_id).where(EmergencyCall.outcome == "answered").limit(_TESTS_READ))
    return next((call for call in calls if _names_a_place(call)), None)


def _tests(account_id: str) -> Select[EmergencyCall]:
    return _calls(account_id).where(EmergencyCall.kind == CallKind.TEST).order_by(EmergencyCall.sent_at.desc())


def _names_a_place(call: EmergencyCall) -> bool:
    place = call.location or {}
    return call.location_source in _OF_THE_CALL or is_dispatchable(place.get("civic_address"), place.get("geo"))


async def count_unacknowledged(session: AsyncSession, account_id: str, since: dt.datetime) -> int:
    """Real calls since then that nobody acknowledged."""
    return await _count(
        session, account_id, since, EmergencyCall.kind == CallKind.EMERGENCY, EmergencyCall.acknowledged_at.is_(None)
    )


async def count_flagged(session: AsyncSession, account_id: str, since: dt.datetime, flag: str) -> int:
    """Calls since then that bear a flag."""
    return await _count(session, account_id, since, cast(EmergencyCall.flags, String).contains(f'"{flag}"'))


async def latest_flagged(session: AsyncSession, account_id: str, since: dt.datetime, flag: str) -> str | None:
    """The latest call since then that bears the flag."""
    query = select(EmergencyCall.id).where(
        EmergencyCall.account_id == account_id,
        EmergencyCall.sent_at >= since,
        cast(EmergencyCall.flags, String).contains(f'"{flag}"'),
    )
    return (await session.scalars(query.order_by(EmergencyCall.sent_at.desc()).limit(1))).first()


async def count_failed(session: AsyncSession, account_id: str, since: dt.datetime) -> int:
    """Real calls since then that no trunk answered."""
    return await _count(
        session, account_id, since, EmergencyCall.kind == CallKind.EMERGENCY, EmergencyCall.outcome == "failed"
    )


async def _count(session: AsyncSession, account_id: str, since: dt.datetime, *conditions: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(EmergencyCall)
    query = query.where(EmergencyCall.account_id == account_id, EmergencyCall.sent_at >= since, *conditions)
    return int(await session.scalar(query) or 0)


async def are_mails_refused(session: AsyncSession, account_id: str) -> bool:
    """Whether the newest mail that was tried has not been delivered."""
    query = (
        select(Notification.state)
        .where(Notification.account_id == account_id, Notification.channel.in_(MAILS), Notification.tries > 0)
        .order_by(Notification.created_at.desc(), Notification.state != NotificationState.SENT)
        .limit(1)
    )
    return await session.scalar(query) in {NotificationState.WAITING, NotificationState.FAILED}


async def overdue_notifications(session: AsyncSession, account_id: str, before: dt.datetime) -> int:
    """Mails that still wait though they were made before then, or were tried in vain already."""
    is_late = and_(
        Notification.channel.in_(MAILS),
        or_(Notification.created_at < before, Notification.last_error.is_not(None)),
    )
    return await _messages(session, account_id, NotificationState.WAITING, is_late)


async def failed_notifications(session: AsyncSession, account_id: str, since: dt.datetime) -> int:
    """Messages made since then that were given up."""
    return await _messages(session, account_id, NotificationState.FAILED, Notification.created_at >= since)


async def _messages(session: AsyncSession, account_id: str, state: str, condition: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(Notification)
    query = query.where(Notification.account_id == account_id, Notification.state == state, condition)
    return int(await session.scalar(query) or 0)


async def open_calls_of(session: AsyncSession, writer: str) -> Sequence[EmergencyCall]:
    """The calls that this process carried, and told no end of; locked, so that one node alone closes them."""
    query = select(EmergencyCall).where(EmergencyCall.writer == writer, _IS_OPEN).with_for_update()
    return (await session.scalars(query.order_by(EmergencyCall.sent_at, EmergencyCall.id))).all()


async def signatures(session: AsyncSession) -> dict[str, dt.datetime | None]:
    """Of each SIP process with open calls, whichever node's, when its node signed last for it."""
    query = (
        select(EmergencyCall.writer, CallWriter.signed_at)
        .join(CallWriter, CallWriter.name == EmergencyCall.writer, isouter=True)
        .where(_IS_OPEN, EmergencyCall.writer.is_not(None))
        .distinct()
    )
    return {str(writer): signed_at for writer, signed_at in await session.execute(query)}


async def sign(session: AsyncSession, writer: str) -> None:
    await session.merge(CallWriter(name=writer, signed_at=utc_now()))


async def signed_at(session: AsyncSession, writer: str) -> dt.datetime | None:
    row = await session.get(CallWriter, writer)
    return row.signed_at if row is not None else None


async def forget_signatures(session: AsyncSession) -> None:
    """Those of processes whose calls have all ended."""
    carrying = select(EmergencyCall.writer).where(_IS_OPEN, EmergencyCall.writer.is_not(None))
    await session.execute(delete(CallWriter).where(CallWriter.name.not_in(carrying)))
