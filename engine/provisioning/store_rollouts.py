"""This room's SQL on roll-outs: what they concern, and how their canary phones fare."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from engine.audit.store_outdated import holds_older
from engine.db import utc_now
from engine.models import Phone, ProvisioningEvent, Rollout, RolloutState
from engine.provisioning import merge, store_levels, vendors
from engine.provisioning.canary import Sign
from engine.provisioning.fetches import SERVED, FetchKind
from engine.provisioning.fleet import Change, ChangeKind, is_concerned

_ALIVE = dt.timedelta(days=7)  # fetched so lately that a canary phone may be chosen by chance
_FAULTS = (FetchKind.FAILED, FetchKind.MISMATCH)
_IN_A_STATEMENT = 400
_REASONS = {
    "vendor": "it speaks of another vendor",
    "unknown": "it asks for a file that such phones do not have",
    "contradiction": "what it says of itself contradicts itself",
    "model": "it says it is another model",
}


async def running_of(session: AsyncSession, account_id: str, kind: str, target: str) -> Rollout | None:
    """The roll-out of that target that is under way."""
    query = select(Rollout).where(
        Rollout.account_id == account_id, Rollout.kind == kind, Rollout.target == target,
        Rollout.state == RolloutState.CANARY,
    )  # fmt: skip
    return (await session.scalars(query)).first()


async def running(session: AsyncSession) -> Sequence[Rollout]:
    """Every roll-out that is under way, of all accounts."""
    return (
        await session.scalars(select(Rollout).where(Rollout.state == RolloutState.CANARY).order_by(Rollout.id))
    ).all()


async def unasked(session: AsyncSession, since: dt.datetime) -> Sequence[Rollout]:
    """Roll-outs that have ended since, and whose phones were not asked to fetch yet."""
    query = select(Rollout).where(
        Rollout.state != RolloutState.CANARY, Rollout.ended_at >= since, Rollout.asked_at.is_(None)
    )
    return (await session.scalars(query.order_by(Rollout.id))).all()


async def concerned(session: AsyncSession, rollout: Rollout) -> Sequence[str]:
    """The phones whose files are others since the roll-out ended, and that have not fetched them yet."""
    if rollout.state != RolloutState.PUBLISHED:
        return list(rollout.canary)
    change = Change(ChangeKind(rollout.kind), rollout.target, None)
    query = select(Phone.id).where(*affected(rollout.account_id, change), holds_older())
    return (await session.scalars(query.order_by(Phone.id))).all()


async def results_since(session: AsyncSession, rollout: Rollout) -> Mapping[str, int]:
    """What came of asking the phones that the end of the roll-out concerned, by result; how many of each."""
    if rollout.asked_at is None:
        return {}
    conditions = affected(rollout.account_id, Change(ChangeKind(rollout.kind), rollout.target, None))
    query = select(Phone.resync_result, func.count()).where(*conditions, Phone.resync_at >= rollout.asked_at)
    return {row[0] or "": row[1] for row in await session.execute(query.group_by(Phone.resync_result))}


async def outdated(session: AsyncSession, rollout: Rollout) -> int:
    """How many phones that the change can reach hold an older configuration."""
    conditions = affected(rollout.account_id, Change(ChangeKind(rollout.kind), rollout.target, None))
    query = select(func.count()).select_from(Phone).where(*conditions, holds_older())
    return await session.scalar(query) or 0


def affected(account_id: str, change: Change) -> list[ColumnElement[bool]]:
    """The conditions on a phone that the change can reach."""
    conditions: list[ColumnElement[bool]] = [Phone.account_id == account_id]
    if change.kind is ChangeKind.TEMPLATE:
        conditions.append(Phone.vendor == change.vendor)
    elif change.vendor:
        conditions += [Phone.vendor == change.vendor, Phone.model == change.name]
    elif change.target != merge.ACCOUNT_NAME:
        conditions.append(Phone.location_id == change.target)
    return conditions


async def count_affected(session: AsyncSession, account_id: str, change: Change) -> int:
    """How many phones the change can reach."""
    return await session.scalar(select(func.count()).select_from(Phone).where(*affected(account_id, change))) or 0


async def candidates(
    session: AsyncSession, account_id: str, change: Change, *, location_id: str | None = None
) -> Mapping[str, bool]:
    """The phones that may come first, and whether each was seen lately."""
    conditions = affected(account_id, change)
    if location_id is not None:
        conditions.append(Phone.location_id == location_id)
    since = utc_now() - _ALIVE
    rows = await session.execute(select(Phone.id, Phone.last_fetch_at).where(*conditions).order_by(Phone.id))
    return {phone_id: seen_at is not None and seen_at > since for phone_id, seen_at in rows}


async def signs_of(session: AsyncSession, rollout: Rollout) -> list[Sign]:
    """What is known of each canary phone since the roll-out began, in the group's order. Those are left out that were
    deleted, or that the change does not reach any more (moved, or of another model by now): they prove nothing of it.
    """
    reached = affected(rollout.account_id, Change(ChangeKind(rollout.kind), rollout.target, None))
    revision = int((rollout.limits or {}).get("revision", 0))
    found: dict[str, Sign] = {}
    for start in range(0, len(rollout.canary), _IN_A_STATEMENT):
        ids = rollout.canary[start : start + _IN_A_STATEMENT]
        query = select(Phone).where(*reached, Phone.id.in_(ids))
        phones = (await session.scalars(query)).all()
        faults = await _faults(session, rollout, {phone.id: phone for phone in phones})
        for phone in phones:
            found[phone.id] = Sign(
                phone_id=phone.id,
                mac=phone.mac,
                label=phone.label,
                model=phone.model,
                has_change=phone.fetched_revision is not None and phone.fetched_revision > revision,
                failure=faults.get(phone.id, ""),
                resync=phone.resync_result or "",
                resync_at=phone.resync_at,
                last_fetch_at=phone.last_fetch_at,
            )
    return [found[phone_id] for phone_id in rollout.canary if phone_id in found]


async def _faults(session: AsyncSession, rollout: Rollout, phones: Mapping[str, Phone]) -> dict[str, str]:
    """Why a file could not be handed to a phone since the roll-out began, by phone: the first time it happened.

    Only of files that the change is in, and of those that the phone got before: phones look for a dozen others, and
    whether there is a ringtone says nothing of a template.
    """
    query = (
        select(ProvisioningEvent)
        .where(
            ProvisioningEvent.phone_id.in_(phones),
            ProvisioningEvent.kind.in_(_FAULTS),
            ProvisioningEvent.at.between(rollout.started_at, rollout.ended_at or utc_now()),
        )
        .order_by(ProvisioningEvent.id.desc())
    )
    events = (await session.scalars(query)).all()
    if not events:
        return {}
    change = Change(ChangeKind(rollout.kind), rollout.target, (rollout.change or {}).get("after"))
    own = await own_templates(session, rollout.account_id, change)
    had = await _had_before(session, phones, {event.file for event in events}, rollout.started_at)
    profiles = vendors.known().profiles
    found: dict[str, str] = {}
    for event in events:
        phone = phones[str(event.phone_id)]
        is_ours = is_concerned(profiles.get(phone.vendor), change, phone.model, event.file, own)
        if is_ours or (phone.id, event.file) in had:
            found[phone.id] = _sentence(event)
    return found


async def own_templates(session: AsyncSession, account_id: str, change: Change) -> dict[str, str]:
    """The account's own templates of the changed one's family, as its canary phones get them; none for settings."""
    if change.kind is not ChangeKind.TEMPLATE:
        return {}
    rows = await store_levels.templates_of(session, account_id)
    own = {row.name: row.body for row in rows if row.vendor == change.vendor and row.body is not None}
    own.pop(change.name, None)
    return own if change.after is None else own | {change.name: str(change.after)}


async def _had_before(
    session: AsyncSession, phone_ids: Collection[str], files: Collection[str], until: dt.datetime
) -> set[tuple[str, str]]:
    """Which of these files which of the phones were handed before that time."""
    query = select(ProvisioningEvent.phone_id, ProvisioningEvent.file).where(
        ProvisioningEvent.phone_id.in_(phone_ids),
        ProvisioningEvent.file.in_(files),
        ProvisioningEvent.kind.in_(SERVED),
        ProvisioningEvent.at < until,
    )
    return {(str(row.phone_id), row.file) for row in await session.execute(query.distinct())}


def _sentence(event: ProvisioningEvent) -> str:
    sentences = (event.evidence or {}).get("sentences") or []
    if event.kind == FetchKind.FAILED:
        return f"{event.file} cannot be made: {sentences[0] if sentences else event.reason}"
    return f"{event.file} was refused: {_REASONS.get(event.reason or '', event.reason or 'it contradicts itself')}."


async def in_canary(session: AsyncSession, account_id: str) -> frozenset[str]:
    """The phones of all canary groups of the account."""
    query = select(Rollout.canary).where(Rollout.account_id == account_id, Rollout.state == RolloutState.CANARY)
    return frozenset(phone_id for ids in await session.scalars(query) for phone_id in ids)


async def models_of(session: AsyncSession, account_id: str) -> Sequence[tuple[str, str]]:
    """Vendor and model of the account's phones, each once."""
    query = select(Phone.vendor, Phone.model).where(Phone.account_id == account_id).distinct()
    return sorted((vendor, model) for vendor, model in await session.execute(query))


def _is_stopped(account_id: str) -> tuple[ColumnElement[bool], ...]:
    """Taken back by itself, and the same was not rolled out anew since."""
    newer = aliased(Rollout)
    anew = exists().where(
        newer.account_id == Rollout.account_id, newer.kind == Rollout.kind, newer.target == Rollout.target,
        newer.id > Rollout.id,
    )  # fmt: skip
    return (Rollout.account_id == account_id, Rollout.state == RolloutState.ROLLED_BACK, ~anew)


async def count_stopped(session: AsyncSession, account_id: str) -> int:
    """How many roll-outs were taken back by themselves and need a person."""
    return await session.scalar(select(func.count()).select_from(Rollout).where(*_is_stopped(account_id))) or 0


async def stopped(session: AsyncSession, account_id: str, limit: int) -> Sequence[Rollout]:
    """Those roll-outs, the latest first."""
    query = select(Rollout).where(*_is_stopped(account_id)).order_by(Rollout.id.desc()).limit(limit)
    return (await session.scalars(query)).all()
