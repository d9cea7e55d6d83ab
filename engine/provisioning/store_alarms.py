"""SQL of the alarms: how many there are of each kind, and the first phones of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, false, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.models import Line, Pbx, Phone, PhoneLine, PhoneStatus
from engine.provisioning import store_rollouts
from engine.provisioning.alarms import COUNT_CAP, OF_PHONES, Alarm, AlarmKind, of_phone, of_rollout

_CONDITIONS: dict[AlarmKind, ColumnElement[bool]] = {
    AlarmKind.NO_LOCATION: Phone.no_location_at.is_not(None),
    AlarmKind.QUARANTINED: Phone.status == PhoneStatus.QUARANTINED,
    AlarmKind.RENDERING_FAILED: Phone.status == PhoneStatus.FAILED,
    AlarmKind.STRAGGLERS: Phone.straggled_at.is_not(None)
    & (Phone.last_fetch_at.is_(None) | (Phone.last_fetch_at < Phone.straggled_at)),
}
WITH_INDEX = frozenset({AlarmKind.NO_LOCATION, AlarmKind.STRAGGLERS})  # a partial one each, which holds few phones


async def _of_account(session: AsyncSession, account_id: str) -> dict[AlarmKind, ColumnElement[bool]]:
    """The conditions on that account's phones. Its PBXs are looked at once, not for each of 10,000 phones."""
    rows = (await session.execute(select(Pbx.id, Pbx.registrar_host).where(Pbx.account_id == account_id))).all()
    with_registrar = {row[0]: bool(row[1]) for row in rows}
    return _CONDITIONS | {AlarmKind.NO_REGISTRAR: _registers_nowhere(account_id, with_registrar)}


def _registers_nowhere(account_id: str, with_registrar: Mapping[str, bool]) -> ColumnElement[bool]:
    """It has lines, and none has a PBX with a registrar. A line that names no PBX belongs to the account's only one.

    Args:
        with_registrar: The account's PBXs by id, and whether each has a registrar.
    """
    registering = [pbx_id for pbx_id, has_one in with_registrar.items() if has_one]
    silent = [pbx_id for pbx_id, has_one in with_registrar.items() if not has_one]
    lines = select(PhoneLine.key).where(PhoneLine.phone_id == Phone.id)
    if not registering:
        return lines.exists()
    if len(with_registrar) == 1:
        return false()  # every line belongs to it, whether it names it or not
    # found from the lines, which are few in an account whose phones register, and not from 100,000 phones
    none_of = or_(Line.pbx_id.is_(None), Line.pbx_id.in_(silent))
    found = select(PhoneLine.phone_id).join(Line, Line.id == PhoneLine.line_id).where(Line.account_id == account_id)
    good = lines.join(Line, Line.id == PhoneLine.line_id).where(Line.pbx_id.in_(registering))
    return Phone.id.in_(found.where(none_of)) & ~good.exists()


async def count_silent(session: AsyncSession, account_id: str) -> int:
    """Phones that fetched a configuration and register nowhere: without a line, or no line's PBX has a registrar."""
    nowhere = (await _of_account(session, account_id))[AlarmKind.NO_REGISTRAR]
    has_line = select(PhoneLine.key).where(PhoneLine.phone_id == Phone.id).exists()
    query = select(func.count()).select_from(Phone).where(
        Phone.account_id == account_id, Phone.last_fetch_at.is_not(None), or_(nowhere, ~has_line)
    )  # fmt: skip
    return await session.scalar(query) or 0


def is_its(kind: AlarmKind, account_id: str) -> ColumnElement[bool]:
    """That a phone is the account's. Of the kinds with a partial index, SQLite takes it only where nothing else is
    asked for that an index begins with.
    """
    owner = func.coalesce(Phone.account_id, "") if kind in WITH_INDEX else Phone.account_id
    return owner == account_id


@dataclass(frozen=True, slots=True)
class AlarmGroup:
    """One kind: how many there are, and the first of them."""

    kind: AlarmKind
    count: int
    first: tuple[Alarm, ...]


async def has_alarm(session: AsyncSession, account_id: str, kind: AlarmKind) -> ColumnElement[bool]:
    """The condition on a phone of that account, for a list that is filtered by alarm. Raises KeyError: the kind is no
    phone's.
    """
    return (await _of_account(session, account_id))[kind]


async def alarm_counts(session: AsyncSession, account_id: str) -> dict[AlarmKind, int]:
    """How many phones (or roll-outs) each kind holds now, at most one more than `COUNT_CAP`; a kind that holds none is
    not in it. Each kind has an index of its own: looking through all phones takes longer than all of these.
    """
    conditions = await _of_account(session, account_id)
    each = [
        select(func.count())
        .select_from(select(Phone.id).where(conditions[kind], is_its(kind, account_id)).limit(COUNT_CAP + 1).subquery())
        .scalar_subquery()
        for kind in OF_PHONES
    ]
    counts = dict(zip(OF_PHONES, (await session.execute(select(*each))).one(), strict=True))
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
                .where(conditions[kind], is_its(kind, account_id))
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
