"""Operations on roll-outs: a change of a template or of a level of settings that some phones get before the rest.

Theory of operation. While a roll-out is in the state `canary`, `engine.provisioning.index` gives the phones of its
group what the change makes, and every other phone what is published; nothing is copied and nothing published is
touched, so taking it back is a change of the roll-out's state and nothing else. Publishing writes the change where
overrides and levels are kept, in the same commit that ends the roll-out. Each operation changes rows and records itself
once; nobody here commits.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.audit.store_outdated import outdate
from engine.db import utc_now
from engine.errors import Conflict, FieldFault, Invalid
from engine.ids import new_id
from engine.models import (
    Account,
    Location,
    Phone,
    Rollout,
    RolloutState,
    SettingsLevel,
    TemplateOverride,
    TemplateVersion,
)
from engine.provisioning import fleet, merge, phone_extras, settings, store, store_levels, store_rollouts, vendors
from engine.provisioning.canary import MAX_CANARY, MAX_MINUTES, Limits
from engine.provisioning.fleet import Change, ChangeKind
from engine.provisioning.overrides import Examined
from engine.provisioning.sandbox import MAX_SOURCE


@dataclass(frozen=True, slots=True)
class Group:
    """Which phones come first: these ones, those of a location, or so many at random. Exactly one is given."""

    phones: tuple[str, ...] = ()
    location_id: str | None = None
    random: int | None = None


@dataclass(frozen=True, slots=True)
class RolloutFields:
    """A roll-out as it is asked for. `examined`: what came of trying its template (`overrides.examine`)."""

    change: Change
    group: Group
    limits: Limits = field(default_factory=Limits)
    examined: Examined = field(default_factory=Examined)


# --- Operations -------------------------------------------------------------------------------------------------------


async def start_rollout(session: AsyncSession, actor: Actor, account: Account, wished: RolloutFields) -> Rollout:
    """Give the change to its canary group: from the commit on their files are made with it.

    Raises:
        Invalid: every bad field. Conflict: the target is being rolled out already, or is as wished.
    """
    faults = [*await change_faults(session, account, wished.change), *_limit_faults(wished.limits)]
    faults += [FieldFault("after", fault) for fault in wished.examined.faults]
    canary: Sequence[str] = ()
    if not faults:
        canary, group_faults = await _canary(session, account, wished)
        faults += group_faults
    if faults:
        raise Invalid("This roll-out cannot begin like this.", fields=tuple(faults))
    running = await store_rollouts.running_of(session, account.id, wished.change.kind, wished.change.target)
    if running is not None:
        raise Conflict("A roll-out of the same target is under way. Publish or cancel it first.")
    before = await published(session, account.id, wished.change)
    if before == wished.change.after:
        raise Conflict("This is what is published already, so there is nothing to roll out.")
    rollout = Rollout(
        id=new_id("rollout"), account_id=account.id, kind=wished.change.kind, target=wished.change.target,
        change={"before": before, "after": wished.change.after}, canary=list(canary), state=RolloutState.CANARY,
        limits=asdict(wished.limits) | {"revision": await store.revision_of(session, account.id)},
        counts={"phones": len(canary), "fetched": 0, "failed": 0, "waiting": len(canary)},
        started_by=actor.name, started_at=utc_now(),
    )  # fmt: skip
    session.add(rollout)
    await _outdate(session, canary)
    record(session, actor, Event.ROLLOUT_CREATE, rollout, details={"phones": len(canary)})
    return rollout


async def publish_rollout(session: AsyncSession, actor: Actor, rollout: Rollout, examined: Examined) -> None:
    """Give the change to every phone it concerns.

    Args:
        examined: What came of trying its template now (`engine.provisioning.trial.tried_rollout`).

    Raises:
        Conflict: it has ended, or what is published was changed by somebody meanwhile. Invalid: its template has faults
            by now, beside what the account's others and its phones' settings have become; or the location, or a file
            that its settings name, is gone.
    """
    change = change_of(rollout)
    _refuse_ended(rollout)
    account = await session.get_one(Account, rollout.account_id)
    faults = await change_faults(session, account, change)
    faults += [FieldFault("after", fault) for fault in examined.faults]
    if faults:
        raise Invalid(
            f"This is not published: phones keep what they have, 911 included. {faults[0].detail}", fields=tuple(faults)
        )
    if await published(session, rollout.account_id, change) != rollout.change.get("before"):
        raise Conflict(
            "What is published was changed after this roll-out began. Cancel it, look at both, and begin anew."
        )
    if change.kind is ChangeKind.TEMPLATE:
        await _write_template(session, actor, rollout, change)
    else:
        await _write_settings(session, rollout, change)
    _end(rollout, RolloutState.PUBLISHED, "")
    await outdate(session, *store_rollouts.affected(rollout.account_id, change))
    record(session, actor, Event.ROLLOUT_PUBLISH, rollout)


async def cancel_rollout(session: AsyncSession, actor: Actor, rollout: Rollout) -> None:
    """Take the change back from its canary group. Raises Conflict: it has ended."""
    _refuse_ended(rollout)
    _end(rollout, RolloutState.CANCELLED, "")
    await _outdate(session, rollout.canary)
    record(session, actor, Event.ROLLOUT_CANCEL, rollout)


async def roll_back(session: AsyncSession, actor: Actor, rollout: Rollout, reason: str) -> None:
    """Take the change back because it does harm. `reason`: a sentence for the people who are told."""
    _refuse_ended(rollout)
    _end(rollout, RolloutState.ROLLED_BACK, reason[:400])
    await _outdate(session, rollout.canary)
    record(session, actor, Event.ROLLOUT_ROLL_BACK, rollout, reason=reason[:400])


def change_of(rollout: Rollout) -> Change:
    """What is being rolled out."""
    return Change(ChangeKind(rollout.kind), rollout.target, rollout.change.get("after"))


def limits_of(rollout: Rollout) -> Limits:
    """The limits it was begun with, each as it usually is where nothing was said."""
    stored = rollout.limits or {}
    usual = Limits()
    return Limits(
        int(stored.get("failures", usual.failures)),
        int(stored.get("minutes", usual.minutes)),
        bool(stored.get("is_automatic", usual.is_automatic)),
    )


def _refuse_ended(rollout: Rollout) -> None:
    if rollout.state != RolloutState.CANARY:
        raise Conflict(f"This roll-out has ended ({rollout.state.replace('_', ' ')}). Begin another.")


def _end(rollout: Rollout, state: RolloutState, reason: str) -> None:
    rollout.state, rollout.reason, rollout.ended_at = state, reason, utc_now()


# --- What may be changed ----------------------------------------------------------------------------------------------


async def change_faults(session: AsyncSession, account: Account, change: Change) -> list[FieldFault]:
    """What is wrong with a proposed change, by field: for a dry run and for a roll-out alike."""
    if change.kind is ChangeKind.TEMPLATE:
        return _template_faults(change)
    if not await _is_level(session, account, change.target):
        return [FieldFault("target", "Expected account, a location's id, or <vendor>/<model>, such as yealink/T46U.")]
    if change.after is None:
        return []
    if not isinstance(change.after, Mapping):
        return [FieldFault("after", "Expected an object of settings, or null to take the level away.")]
    found = settings.setting_faults(change.after)
    found += tuple(await phone_extras.level_faults(session, account.id, change.target, change.after))
    return [FieldFault(fault.field.replace("settings", "after", 1), fault.detail) for fault in found]


def _template_faults(change: Change) -> list[FieldFault]:
    profile = vendors.known().profiles.get(change.vendor)
    if profile is None:
        return [
            FieldFault(
                "target", f"Expected <vendor>/<template>, the vendor one of {', '.join(vendors.known().profiles)}."
            )
        ]
    if change.name not in profile.templates:
        return [
            FieldFault(
                "target", f"{profile.title} has no template of that name; there are {', '.join(profile.templates)}."
            )
        ]
    if change.after is not None and not isinstance(change.after, str):
        return [FieldFault("after", "Expected the template's text, or null for the shipped one.")]
    if change.after is not None and len(change.after) > MAX_SOURCE:
        return [FieldFault("after", f"Expected at most {MAX_SOURCE:,} characters.")]
    return []


async def _is_level(session: AsyncSession, account: Account, name: str) -> bool:
    if name == merge.ACCOUNT_NAME:
        return True
    vendor, _, model = name.partition("/")
    if model:
        profile = vendors.known().profiles.get(vendor)
        known = profile.model(model) if profile is not None else None
        return known is not None and known.name == model
    location = await session.get(Location, name)
    return location is not None and location.account_id == account.id


def _limit_faults(limits: Limits) -> list[FieldFault]:
    faults = []
    if not 0 <= limits.failures < MAX_CANARY:
        faults.append(FieldFault("failures", f"Expected a whole number from 0 to {MAX_CANARY - 1}."))
    if not 1 <= limits.minutes <= MAX_MINUTES:
        faults.append(FieldFault("minutes", f"Expected a whole number from 1 to {MAX_MINUTES}."))
    return faults


async def _canary(
    session: AsyncSession, account: Account, wished: RolloutFields
) -> tuple[Sequence[str], list[FieldFault]]:
    """The phones that come first, or why there are none."""
    change, group = wished.change, wished.group
    profile = vendors.known().profiles.get(change.vendor)
    own = await store_rollouts.own_templates(session, account.id, change)
    if profile is not None and fleet.makes_a_shared_file(profile, change, own):
        said = (
            f"{change.name} is part of a file that every {profile.title} phone of the account fetches, so no phone can"
            " get it first. Make a dry run and publish it to all."
        )
        return (), [FieldFault("target", said)]
    if (bool(group.phones), group.location_id is not None, group.random is not None).count(True) != 1:
        return (), [FieldFault("canary", "Expected one of phones, location_id or random.")]
    there = await store_rollouts.candidates(session, account.id, change, location_id=group.location_id)
    strange = sorted(set(group.phones) - set(there))
    chosen: Sequence[str] = list(dict.fromkeys(group.phones)) or list(there)
    if group.random is not None and 1 <= group.random <= MAX_CANARY:
        chosen = _some(there, group.random)
    faults = []
    if strange:
        said = f"{strange[0]} is no phone of this account that the change concerns."
        faults.append(FieldFault("canary.phones", said))
    elif group.random is not None and not 1 <= group.random <= MAX_CANARY:
        faults.append(FieldFault("canary.random", f"Expected a whole number from 1 to {MAX_CANARY}."))
    elif not chosen:
        faults.append(FieldFault("canary", "No phone of this account is concerned by the change there."))
    elif len(chosen) > MAX_CANARY:
        said = f"These are {len(chosen):,} phones; a canary group has at most {MAX_CANARY}."
        faults.append(FieldFault("canary", said))
    return chosen, faults


def _some(there: Mapping[str, bool], count: int) -> list[str]:
    """So many at random, from those that were seen lately as long as there are any."""
    draw = secrets.SystemRandom()
    seen = [phone_id for phone_id, is_alive in there.items() if is_alive]
    rest = [phone_id for phone_id, is_alive in there.items() if not is_alive]
    draw.shuffle(seen)
    draw.shuffle(rest)
    return [*seen, *rest][:count]


# --- What is published ------------------------------------------------------------------------------------------------


async def published(session: AsyncSession, account_id: str, change: Change) -> Any:
    """The template's text or the level's settings as all phones have them; None: the shipped one, or no such level."""
    if change.kind is ChangeKind.TEMPLATE:
        row = await store_levels.template_named(session, account_id, change.vendor, change.name)
        return row.body if row is not None else None
    level = await store_levels.level_named(session, account_id, change.target)
    return dict(level.settings) if level is not None else None


async def _write_template(session: AsyncSession, actor: Actor, rollout: Rollout, change: Change) -> None:
    row = await store_levels.template_named(session, rollout.account_id, change.vendor, change.name)
    if row is None:
        row = TemplateOverride(
            id=new_id("template"), account_id=rollout.account_id, vendor=change.vendor, name=change.name, number=0
        )
        session.add(row)
    row.body, row.number = change.after, max(row.number, await store_levels.last_number(session, row.id)) + 1
    await session.flush()
    session.add(
        TemplateVersion(
            template_id=row.id, number=row.number, body=change.after, note="Rolled out by way of a canary group",
            written_by=actor.display_name or actor.name, written_at=utc_now(),
        )
    )  # fmt: skip


async def _write_settings(session: AsyncSession, rollout: Rollout, change: Change) -> None:
    row = await store_levels.level_named(session, rollout.account_id, change.target)
    if change.after is None:
        if row is not None:
            await session.delete(row)
        return
    if row is None:
        kind = merge.kind_of(change.target)
        row = SettingsLevel(
            id=new_id("settings"), account_id=rollout.account_id, kind=kind, name=change.target,
            location_id=change.target if kind is merge.SourceKind.LOCATION else None,
        )  # fmt: skip
        session.add(row)
    row.settings = dict(change.after)


async def _outdate(session: AsyncSession, phone_ids: Sequence[str]) -> None:
    """Those phones have not got what they would be given now: a machine's column, not audited."""
    for start in range(0, len(phone_ids), 500):
        await outdate(session, Phone.id.in_(phone_ids[start : start + 500]))
