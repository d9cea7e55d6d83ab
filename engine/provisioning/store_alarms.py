"""SQL of the alarms: how many there are of each kind, and the first phones of one."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, false, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from engine.models import Line, Pbx, Phone, PhoneLine, PhoneStatus
from engine.provisioning import store_rollouts
from engine.provisioning.alarms import OF_PHONES, Alarm, AlarmKind, of_phone, of_rollout


def _registers_nowhere() -> ColumnElement[bool]:
    """It has lines, and none has a PBX with a registrar. A line that names no PBX belongs to the account's only one."""
    other = aliased(Pbx)
    is_only = ~select(other.id).where(other.account_id == Pbx.account_id, other.id != Pbx.id).exists()
    own = or_(Pbx.id == Line.pbx_id, Line.pbx_id.is_(None) & (Pbx.account_id == Line.account_id) & is_only)
    lines = select(PhoneLine.key).where(PhoneLine.phone_id == Phone.id)
    registering = lines.join(Line, Line.id == PhoneLine.line_id).join(Pbx, own).where(Pbx.registrar_host != "")
    return lines.exists() & ~registering.exists()


_CONDITIONS: dict[AlarmKind, ColumnElement[bool]] = {
    AlarmKind.NO_REGISTRAR: _registers_nowhere(),
    AlarmKind.NO_LOCATION: Phone.no_location_at.is_not(None),
    AlarmKind.QUARANTINED: Phone.status == PhoneStatus.QUARANTINED,
    AlarmKind.RENDERING_FAILED: Phone.status == PhoneStatus.FAILED,
    AlarmKind.STRAGGLERS: Phone.straggled_at.is_not(None)
    & (Phone.last_fetch_at.is_(None) | (Phone.last_fetch_at < Phone.straggled_at)),
}


async def _of_account(session: AsyncSession, account_id: str) -> dict[AlarmKind, ColumnElement[bool]]:
    """The conditions on that account's phones. Its PBXs are looked at once, not for each of 10,000 phones."""
    rows = (await session.execute(select(Pbx.id, Pbx.registrar_host).where(Pbx.account_id == account_id))).all()
    registering = [row[0] for row in rows if row[1]]
    return _CONDITIONS | {AlarmKind.NO_REGISTRAR: _has_none_of(registering, is_only=len(rows) == 1)}


def _has_none_of(registering: list[str], *, is_only: bool) -> ColumnElement[bool]:
    """As `_registers_nowhere`, with the account's PBXs that have a registrar; `is_only`: it has one PBX in all."""
    lines = select(PhoneLine.key).where(PhoneLine.phone_id == Phone.id)
    if not registering:
        return lines.exists()
    if is_only:
        return false()  # every line belongs to it, whether it names it or not
    return lines.exists() & ~lines.join(Line, Line.id == PhoneLine.line_id).where(Line.pbx_id.in_(registering)).exists()


async def count_silent(session: AsyncSession, account_id: str) -> int:
    """Phones that fetched a configuration and register nowhere: without a line, or no line's PBX has a registrar."""
    nowhere = (await _of_account(session, account_id))[AlarmKind.NO_REGISTRAR]
    has_line = select(PhoneLine.key).where(PhoneLine.phone_id == Phone.id).exists()
    query = select(func.count()).select_from(Phone).where(
        Phone.account_id == account_id, Phone.last_fetch_at.is_not(None), or_(nowhere, ~has_line)
    )  # fmt: skip
    return await session.scalar(query) or 0


@dataclass(frozen=True, slots=True)
class AlarmGroup:
    """One kind: how many there are, and the first of them."""

    kind: AlarmKind
    count: int
    first: tuple[Alarm, ...]


def has_alarm(kind: AlarmKind) -> ColumnElement[bool]:
    """The condition on a phone, for a list that is filtered by alarm. Raises KeyError: the kind is no phone's."""
    return _CONDITIONS[kind]


async def alarm_counts(session: AsyncSession, account_id: str) -> dict[AlarmKind, int]:
    """How many phones (or roll-outs) each kind holds now; a kind that holds none is not in it."""
    conditions = await _of_account(session, account_id)
    all_at_once = select(*(func.count().filter(conditions[kind]) for kind in OF_PHONES))
    found = (await session.execute(all_at_once.select_from(Phone).where(Phone.account_id == account_id))).one()
    counts = dict(zip(OF_PHONES, found, strict=True))
    counts[AlarmKind.ROLLOUT_STOPPED] = await store_rollouts.count_stopped(session, account_id)
    return {kind: count for kind, count in counts.items() if count}


async def alarm_groups(session: AsyncSession, account_id: str, limit: int) -> Sequence[AlarmGroup]:
    """Each kind that is there with its first phones or roll-outs, at most `limit`, the most urgent kind first."""
    counts, conditions = await alarm_counts(session, account_id), await _of_account(session, account_id)
    groups = []
    for kind in AlarmKind:
        if kind not in counts:
            continue
        first: tuple[Alarm, ...] = ()
        if kind in conditions:
            query = (
                select(Phone.id, Phone.label, Phone.mac)
                .where(Phone.account_id == account_id, conditions[kind])
                .order_by(Phone.id)
                .limit(limit)
            )
            first = tuple(of_phone(kind, row[0], row[1] or row[2]) for row in await session.execute(query))
        elif kind is AlarmKind.ROLLOUT_STOPPED:
            stopped = await store_rollouts.stopped(session, account_id, limit)
            first = tuple(of_rollout(row.id, row.target, row.reason) for row in stopped)
        groups.append(AlarmGroup(kind, counts[kind], first))
    return groups


async def count_without_location(session: AsyncSession, account_id: str | None = None) -> int:
    """Phones whose 911 calls would carry no address, of one account or of all."""
    query = select(func.count()).select_from(Phone).where(_CONDITIONS[AlarmKind.NO_LOCATION])
    if account_id is not None:
        query = query.where(Phone.account_id == account_id)
    return await session.scalar(query) or 0
