"""Operations on levels of settings: each changes rows and records itself once; nobody here commits.

A change makes the phones it speaks of stale and bumps the revision of their account, so that they are given what
counts now at their next fetch; a change of the level of all accounts bumps every account's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.audit.store_outdated import outdate
from engine.errors import Conflict, FieldFault, Invalid
from engine.ids import new_id
from engine.models import Account, SettingsLevel
from engine.provisioning import merge, phone_extras, phone_rules, store_levels, vendors
from engine.provisioning.merge import SourceKind
from engine.provisioning.settings import setting_faults

GLOBAL_ID = "settings_global"  # one row at most: a unique key that a NULL account cannot give
KINDS = (SourceKind.ACCOUNT, SourceKind.LOCATION, SourceKind.MODEL)  # of an account; `global` is the installation's


@dataclass(frozen=True, slots=True)
class LevelFields:
    """A level as it shall be. `location_id` for a location; `vendor` and `model` (in any spelling) for a model."""

    kind: str
    location_id: str | None = None
    vendor: str | None = None
    model: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


async def create_level(session: AsyncSession, actor: Actor, account: Account, wished: LevelFields) -> SettingsLevel:
    """Add a level of the account.

    Raises:
        Invalid: every bad field. Conflict: the account has that level; change it instead.
    """
    name, faults = await _name_of(session, account, wished)
    found = (*faults, *_strays(wished), *setting_faults(wished.settings))
    found += tuple(await phone_extras.level_faults(session, account.id, name, wished.settings))
    if found:
        raise Invalid("These settings cannot be stored like this.", fields=found)
    if await store_levels.level_named(session, account.id, name) is not None:
        raise Conflict(f"There are settings for {name} already. Change those.")
    level = SettingsLevel(
        id=new_id("settings"), account_id=account.id, kind=wished.kind, name=name,
        location_id=wished.location_id, settings=dict(wished.settings),
    )  # fmt: skip
    session.add(level)
    await outdate(session, *store_levels.phones_at(level))
    record(session, actor, Event.SETTINGS_CREATE, level)
    return level


async def update_level(session: AsyncSession, actor: Actor, level: SettingsLevel, settings: Mapping[str, Any]) -> None:
    """Replace what a level says. Raises Invalid: every bad setting."""
    found = setting_faults(settings)
    if level.account_id is not None:
        found += tuple(await phone_extras.level_faults(session, level.account_id, level.name, settings))
    if found:
        raise Invalid("These settings cannot be stored like this.", fields=found)
    if dict(settings) != level.settings:
        level.settings = dict(settings)
        await outdate(session, *store_levels.phones_at(level))
    record(session, actor, Event.SETTINGS_UPDATE, level)


async def delete_level(session: AsyncSession, actor: Actor, level: SettingsLevel) -> None:
    """Take a level away; what it said is inherited from the levels below it again."""
    await session.delete(level)
    await outdate(session, *store_levels.phones_at(level))
    record(session, actor, Event.SETTINGS_DELETE, level)


async def put_global(session: AsyncSession, actor: Actor, settings: Mapping[str, Any]) -> SettingsLevel | None:
    """Replace the settings of all accounts; without any the level goes. None: there is none now.

    Raises:
        Invalid: every bad setting.
    """
    level = await session.get(SettingsLevel, GLOBAL_ID)
    if level is not None and not settings:
        await delete_level(session, actor, level)
        return None
    if level is not None:
        await update_level(session, actor, level, settings)
        return level
    found = setting_faults(settings)
    if found:
        raise Invalid("These settings cannot be stored like this.", fields=found)
    if not settings:
        return None
    level = SettingsLevel(
        id=GLOBAL_ID, account_id=None, kind=SourceKind.GLOBAL, name=merge.GLOBAL_NAME, settings=dict(settings)
    )
    session.add(level)
    await outdate(session)
    record(session, actor, Event.SETTINGS_CREATE, level)
    return level


def _strays(wished: LevelFields) -> Iterator[FieldFault]:
    """What was said of the level that a level of its kind does not have: dropped, it would look as if it counted."""
    for kind, names in ((SourceKind.LOCATION, ("location_id",)), (SourceKind.MODEL, ("vendor", "model"))):
        if wished.kind in KINDS and wished.kind != kind:
            for name in names:
                if getattr(wished, name) is not None:
                    yield FieldFault(name, f"Only settings of a {kind} name it; these are of kind {wished.kind}.")


async def _name_of(session: AsyncSession, account: Account, wished: LevelFields) -> tuple[str, tuple[FieldFault, ...]]:
    """The level's name, and what is wrong with what it is for."""
    if wished.kind == SourceKind.ACCOUNT:
        return merge.ACCOUNT_NAME, ()
    if wished.kind == SourceKind.LOCATION:
        location = await store_levels.location_of(session, account.id, wished.location_id or "")
        if location is None:
            return "", (FieldFault("location_id", "Expected a location of this account."),)
        return location.id, ()
    if wished.kind == SourceKind.MODEL:
        faults = phone_rules.model_faults(wished.vendor or "", wished.model or "")
        if faults:
            return "", tuple(faults)
        model = vendors.known().profiles[wished.vendor or ""].model(wished.model or "")
        assert model is not None  # looked up in the line above
        return merge.model_name(wished.vendor or "", model.name), ()
    return "", (FieldFault("kind", f"Expected one of {', '.join(KINDS)}."),)
