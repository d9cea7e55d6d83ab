"""Groups of trunks: which of them emergency calls of an account, or of one location, take before all others.

A group only says what comes first. Whatever it names, every other trunk is tried behind it and the last resorts behind
those, so that no group can take a way out from a 911 call; a group with no trunk in it that could carry a call counts
as none, and is told as an alarm.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store_trunks as store
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.errors import Conflict, FieldFault, Invalid
from engine.ids import new_id
from engine.models import Account, Trunk, TrunkGroup

MAX_TRUNKS = 50
MAX_GROUPS = 500


@dataclass(frozen=True, slots=True)
class TrunkGroupFields:
    """A group as it shall be, whole. `trunk_ids`: first to try first."""

    name: str
    trunk_ids: tuple[str, ...] = ()

    @classmethod
    def of(cls, group: TrunkGroup) -> "TrunkGroupFields":
        """As it is now; `dataclasses.replace` makes the wished state of it."""
        return cls(group.name, tuple(group.trunk_ids))


async def create_trunk_group(
    session: AsyncSession, actor: Actor, account: Account, wished: TrunkGroupFields
) -> TrunkGroup:
    """Add a group. No call takes it before the account or a location names it.

    Raises:
        Invalid: every bad field.
    """
    group = TrunkGroup(id=new_id("trunk_group"), account_id=account.id)
    await _apply(session, account, group, wished)
    session.add(group)
    record(session, actor, Event.TRUNK_GROUP_CREATE, group)
    return group


async def update_trunk_group(
    session: AsyncSession, actor: Actor, account: Account, group: TrunkGroup, wished: TrunkGroupFields
) -> None:
    """Change a group; calls of who names it follow from the commit on. Raises as `create_trunk_group`."""
    await _apply(session, account, group, wished)
    record(session, actor, Event.TRUNK_GROUP_UPDATE, group)


async def delete_trunk_group(session: AsyncSession, actor: Actor, account: Account, group: TrunkGroup) -> None:
    """Remove a group that nobody names.

    Raises:
        Conflict: the account or a location names it, and would go by priorities unasked.
    """
    users = [f"the location {name}" for name in await store.locations_taking(session, account.id, group.id)]
    users = [*(["the account"] if account.trunk_group_id == group.id else []), *users]
    if users:
        named = ", ".join(users[:5]) + (f" and {len(users) - 5} more" if len(users) > 5 else "")
        raise Conflict(
            f"Emergency calls of {named} take {group.name} first. Choose another group there, or none, then delete it."
        )
    await session.delete(group)
    record(session, actor, Event.TRUNK_GROUP_DELETE, group)


async def leave_groups(session: AsyncSession, trunk: Trunk) -> None:
    """Take a trunk that is being deleted out of every group; the entry is the deletion's."""
    for group in await store.trunk_groups_of(session, trunk.account_id, limit=MAX_GROUPS):
        if trunk.id in group.trunk_ids:
            group.trunk_ids = [trunk_id for trunk_id in group.trunk_ids if trunk_id != trunk.id]


def is_usable(group: TrunkGroup, trunks: Collection[Trunk]) -> bool:
    """Whether the group names a trunk that calls may take; otherwise they go by priorities, as without a group."""
    return any(trunk.id in group.trunk_ids and trunk.enabled for trunk in trunks)


def group_alarms(groups: Sequence[TrunkGroup], trunks: Sequence[Trunk], in_use: Collection[str]) -> list[str]:
    """A sentence for each group that calls should take and cannot. `in_use`: identifiers that somebody names."""
    return [
        f"The trunk group {group.name} has no trunk that is on. Emergency calls that should take it still leave, "
        "through the account's other trunks by priority. Put a trunk into the group, or switch one on."
        for group in groups
        if group.id in in_use and not is_usable(group, trunks)
    ]


async def _apply(session: AsyncSession, account: Account, group: TrunkGroup, wished: TrunkGroupFields) -> None:
    name = wished.name.strip()
    faults = []
    if not name or len(name) > 200 or not name.isprintable():
        faults.append(FieldFault("name", "Expected 1 to 200 printable characters."))
    others = [
        other for other in await store.trunk_groups_of(session, account.id, limit=MAX_GROUPS) if other is not group
    ]
    if any(other.name.casefold() == name.casefold() for other in others):
        faults.append(FieldFault("name", "Another group has this name already."))
    if len(others) >= MAX_GROUPS:
        faults.append(FieldFault("name", f"An account has at most {MAX_GROUPS} groups of trunks."))
    faults += await _trunk_faults(session, account, wished.trunk_ids)
    if faults:
        raise Invalid("The trunk group cannot be stored like this.", fields=tuple(faults))
    group.name, group.trunk_ids = name, list(wished.trunk_ids)


async def _trunk_faults(session: AsyncSession, account: Account, trunk_ids: Sequence[str]) -> list[FieldFault]:
    if len(trunk_ids) > MAX_TRUNKS:
        return [FieldFault("trunk_ids", f"Expected at most {MAX_TRUNKS} trunks, got {len(trunk_ids)}.")]
    known = await store.trunk_ids_of(session, account.id)
    faults = []
    for at, trunk_id in enumerate(trunk_ids):
        if trunk_id not in known:
            faults.append(FieldFault(f"trunk_ids[{at}]", "Expected a trunk of this account."))
        elif trunk_id in trunk_ids[:at]:
            faults.append(FieldFault(f"trunk_ids[{at}]", "This trunk is in the list already."))
    return faults
