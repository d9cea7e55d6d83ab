"""Operations on the numbers a PSAP can call back: a line's own, and the pools that lend one to a call.

A pool is the ELINs of one location (emergency location identification numbers): a call from a line with no number of
its own is given the one that has been free longest and keeps it for the account's `elin_hold_minutes`, so that a
callback finds the caller. The edge lends; what is kept here is what it told, through the journal.
"""

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import utc_now
from engine.e911 import store
from engine.e911.fields import NUMBER_FIELDS, Values, read_values, refuse
from engine.errors import Conflict, FieldFault
from engine.ids import new_id
from engine.models import Account, EmergencyCall, Number, NumberKind
from engine.numbers import parse_e164

MAX_RANGE = 500  # one request, one transaction, one entry each: more than any pool needs
BUSY_DAYS = 30  # how far back a pool's busiest moment is looked for
_RANGE = re.compile(r"\s*(\+?[0-9 ().-]{3,30}?)\s*\.\.\s*(\+?[0-9 ().-]{3,30}?)\s*")


@dataclass(frozen=True, slots=True)
class Pool:
    """The ELINs of one location (None: of none, so that nobody is lent them) and how far they reach.

    `held`: still kept for callbacks. `next_free_at`: when the first of them is free again; None while one is free now.
    `peak`: the most that were held at one moment of the last 30 days.
    """

    location_id: str | None
    numbers: tuple[Number, ...]
    held: int
    next_free_at: dt.datetime | None
    peak: int
    warning: str = field(default="")

    @property
    def size(self) -> int:
        return len(self.numbers)


# ------------------------------------------------------------------------------------------ operations


async def create_number(session: AsyncSession, actor: Actor, account: Account, values: Values) -> Number:
    """Add one number.

    Args:
        values: e164, and as wanted kind (`direct`, `elin`), location_id, line_id. An ELIN needs a location.
    Raises:
        Invalid: with every bad field. Conflict: the number is known already, in this account or another.
    """
    faults: list[FieldFault] = []
    read = _DEFAULTS | read_values(values, NUMBER_FIELDS, account, faults)
    faults += [FieldFault("e164", "e164 is required.")] if "e164" not in values else []
    faults += await _misplaced(session, account.id, read)
    refuse("The number was not saved", faults)
    await _refuse_known(session, [read["e164"]])
    number = Number(id=new_id("number"), account_id=account.id, **read)
    session.add(number)
    record(session, actor, Event.NUMBER_CREATE, number, resource=_named(number))
    await session.flush()
    return number


async def create_range(session: AsyncSession, actor: Actor, account: Account, values: Values) -> list[Number]:
    """Add a run of numbers in one step, with one entry for the whole and one for each number.

    Args:
        values: `range`, such as `+12125550100..+12125550149`, and what all of them share (see `create_number`).
    Raises:
        Invalid: with every bad field. Conflict: some of the numbers are known already; none was added.
    """
    faults: list[FieldFault] = []
    shared = {name: value for name, value in values.items() if name != "range"}
    read = _DEFAULTS | read_values(shared, _SHARED_FIELDS, account, faults)
    numbers = read_range("range", values.get("range"), account.country, faults)
    if read["line_id"] is not None:
        faults.append(FieldFault("line_id", "expected nothing: a run of numbers belongs to no single line."))
    faults += await _misplaced(session, account.id, read)
    refuse("The numbers were not saved", faults)
    await _refuse_known(session, numbers)
    bulk_id = new_id("request")
    run = f"{numbers[0]}..{numbers[-1]}"
    made = [Number(id=new_id("number"), account_id=account.id, e164=e164, **read) for e164 in numbers]
    record(session, actor, Event.NUMBER_CREATE, resource=("number", bulk_id, run), details={"count": len(made)})
    for number in made:
        session.add(number)
        record(session, actor, Event.NUMBER_CREATE, number, resource=_named(number), bulk_id=bulk_id)
    await session.flush()
    return made


async def update_number(
    session: AsyncSession, actor: Actor, account: Account, number: Number, values: Values
) -> Number:
    """Change what a number is for. The number itself never changes: add the other one.

    Raises:
        Invalid: with every bad field.
    """
    faults: list[FieldFault] = []
    read = read_values(values, NUMBER_FIELDS, account, faults)
    if read.pop("e164", number.e164) != number.e164:
        faults.append(FieldFault("e164", f"expected {number.e164}: to use another number, add it and remove this one."))
    wished = {name: read.get(name, getattr(number, name)) for name in _DEFAULTS}
    faults += await _misplaced(session, account.id, wished)
    refuse("The number was not saved", faults)
    for name, value in wished.items():
        if value != getattr(number, name):
            setattr(number, name, value)
    record(session, actor, Event.NUMBER_UPDATE, number, resource=_named(number))
    await session.flush()
    return number


async def delete_number(session: AsyncSession, actor: Actor, number: Number) -> None:
    """Forget a number.

    Raises:
        Conflict: a 911 call still has it: a callback would reach nobody.
    """
    if is_held(number, utc_now()):
        assert number.held_until is not None
        raise Conflict(
            f"{number.e164} was given to a 911 call and is kept for callbacks until "
            f"{store.rfc3339(number.held_until)}. Remove it then."
        )
    await session.delete(number)
    record(session, actor, Event.NUMBER_DELETE, number, resource=_named(number))
    await session.flush()


async def hold(session: AsyncSession, account: Account, call: EmergencyCall) -> None:
    """Note that a call was given its ELIN: for callbacks, it is that caller's until the account's hold time is over.

    A number the account no longer has is passed over. An older call told late takes nothing from a newer one.
    """
    if call.elin is None:
        return
    number = await session.scalar(select(Number).where(Number.account_id == account.id, Number.e164 == call.elin))
    until = call.sent_at + dt.timedelta(minutes=account.elin_hold_minutes)
    if number is None or (number.held_until is not None and number.held_until > until):
        return
    number.held_until = until
    number.held_by = {
        "pbx_id": call.pbx_id,
        "sip_user": str(call.caller.get("sip_user") or ""),
        "extension": str(call.caller.get("extension") or ""),
        "name": str(call.caller.get("name") or ""),
        "call": call.id,
    }


def is_held(number: Number, now: dt.datetime) -> bool:
    """Whether a 911 call has that number for callbacks at this moment."""
    return number.held_until is not None and number.held_until > now


# ------------------------------------------------------------------------------------------ pools


async def pools_of(session: AsyncSession, account: Account, now: dt.datetime) -> list[Pool]:
    """The account's ELIN pools, one a location, with how far each reaches."""
    query = select(Number).where(Number.account_id == account.id, Number.kind == NumberKind.ELIN).order_by(Number.e164)
    members: dict[str | None, list[Number]] = {}
    for number in await session.scalars(query):
        members.setdefault(number.location_id, []).append(number)
    peaks = await _peaks(session, account, members, now) if members else {}
    return [_pool(location_id, numbers, peaks.get(location_id, 0), now) for location_id, numbers in members.items()]


def _pool(location_id: str | None, numbers: Sequence[Number], peak: int, now: dt.datetime) -> Pool:
    until = sorted(number.held_until for number in numbers if number.held_until is not None and number.held_until > now)
    free = len(numbers) - len(until)
    return Pool(
        location_id,
        tuple(numbers),
        held=len(until),
        next_free_at=until[0] if not free else None,
        peak=max(peak, len(until)),
        warning=_warning(location_id, len(numbers), free, max(peak, len(until))),
    )


def _warning(location_id: str | None, size: int, free: int, peak: int) -> str:
    """What an operator must know before the next call; empty when the pool will do."""
    if location_id is None:
        return "These numbers belong to no location, so no call is given one. Give them one, or remove them."
    if not free:
        return (
            "Every number of this pool is kept for a callback. The next call takes the one held longest, and a "
            "callback to its earlier caller reaches the new one. Add numbers."
        )
    if peak >= size:
        return "At its busiest in the last 30 days this pool had no number left. Add numbers."
    if size < 2:
        return "One number serves one caller at a time: two calls within the hold time share it. Plan two or three."
    return ""


async def _peaks(
    session: AsyncSession, account: Account, members: Mapping[str | None, Sequence[Number]], now: dt.datetime
) -> dict[str | None, int]:
    """The most numbers of each pool that were held at one moment of the last days."""
    pool_of = {number.e164: location_id for location_id, numbers in members.items() for number in numbers}
    query = select(EmergencyCall.elin, EmergencyCall.sent_at).where(
        EmergencyCall.account_id == account.id,
        EmergencyCall.elin.is_not(None),
        EmergencyCall.sent_at >= now - dt.timedelta(days=BUSY_DAYS),
    )
    lent: dict[str | None, list[tuple[dt.datetime, str]]] = {}
    for elin, sent_at in await session.execute(query.order_by(EmergencyCall.sent_at)):
        if elin in pool_of:
            lent.setdefault(pool_of[elin], []).append((sent_at, elin))
    hold_for = dt.timedelta(minutes=account.elin_hold_minutes)
    return {location_id: _most_at_once(loans, hold_for) for location_id, loans in lent.items()}


def _most_at_once(loans: Iterable[tuple[dt.datetime, str]], hold_for: dt.timedelta) -> int:
    """The most different numbers held at one moment; `loans` in the order of time."""
    held: dict[str, dt.datetime] = {}
    most = 0
    for at, elin in loans:
        held = {number: until for number, until in held.items() if until > at} | {elin: at + hold_for}
        most = max(most, len(held))
    return most


# ------------------------------------------------------------------------------------------ what is read


def read_range(name: str, text: object, country: str, faults: list[FieldFault]) -> list[str]:
    """The numbers of `+12125550100..+12125550149`, both ends included; a fault says what is wrong with anything
    else.
    """
    match = _RANGE.fullmatch(text) if isinstance(text, str) and len(text) <= 100 else None
    ends = [parse_e164(end, country) for end in match.groups()] if match else []
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        example = "+12125550100..+12125550149"
        faults.append(FieldFault(name, f"expected the first and the last number, such as {example}, got {text!r}."))
        return []
    first, last = int(ends[0]), int(ends[1])
    if len(ends[0]) != len(ends[1]) or last < first:
        faults.append(FieldFault(name, f"expected the lower number first, got {ends[0]} and {ends[1]}."))
        return []
    if last - first >= MAX_RANGE:
        faults.append(FieldFault(name, f"expected at most {MAX_RANGE} numbers, got {last - first + 1}."))
        return []
    return [f"+{number}" for number in range(first, last + 1)]


async def _misplaced(session: AsyncSession, account_id: str, read: Mapping[str, Any]) -> list[FieldFault]:
    """Faults for a location or line that is not this account's, or does not go with the kind."""
    faults = []
    location_id, line_id = read["location_id"], read["line_id"]
    if location_id and await store.location_by_id(session, account_id, location_id) is None:
        faults.append(FieldFault("location_id", f"expected one of the account's locations, got {location_id!r}."))
    if line_id and not await store.line_exists(session, account_id, line_id):
        faults.append(FieldFault("line_id", f"expected one of the account's lines or nothing, got {line_id!r}."))
    if read["kind"] == NumberKind.ELIN:
        if not location_id:
            faults.append(FieldFault("location_id", "expected the location whose callers are lent this number."))
        if line_id:
            faults.append(FieldFault("line_id", "expected nothing: a pool's number is lent to whoever calls."))
    return faults


async def _refuse_known(session: AsyncSession, numbers: Sequence[str]) -> None:
    known = await store.numbers_known(session, numbers)
    if known:
        # whose it is stays unsaid: it may be another account's
        some = ", ".join(known[:5]) + (f" and {len(known) - 5} more" if len(known) > 5 else "")
        raise Conflict(f"{some} is known already. A number reaches one account only; nothing was added.")


def _named(number: Number) -> tuple[str, str, str]:
    return ("number", number.id, number.e164)


_DEFAULTS: dict[str, Any] = {"kind": NumberKind.DIRECT, "location_id": None, "line_id": None}
_SHARED_FIELDS = {name: reader for name, reader in NUMBER_FIELDS.items() if name != "e164"}
