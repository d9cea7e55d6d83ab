"""Merging two locations that are one place: everything placed at the one that goes is placed at the one that stays.

All of it happens in one transaction, so no 911 call ever finds a phone, line or network without its address. The
merge is one audit entry; every row it moves has an entry of its own that carries the merge's name. Nobody here commits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, parts_of, record
from engine.db import utc_now
from engine.e911 import sites, store, store_chats, store_merge
from engine.e911.fields import MAX_CARRIER_IDS, MAX_RECIPIENTS
from engine.e911.location_twins import inside_differs
from engine.errors import Conflict, FieldFault, Invalid
from engine.ids import new_id
from engine.models import Account, Location, Network

MAX_PHONES = 10_000  # some five seconds of writing; a call's record waits behind it, its mail with it
# taken over from the one that goes where the one that stays says nothing
_FILLED = (
    "geo", "timezone", "callback_number", "onsite_number", "trunk_group_id", "notification_prefix", "notification_text",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Merged:
    """What was moved, how many of each; `bulk_id`: the name its audit entries share."""

    phones: int
    lines: int
    networks: int
    numbers: int
    pbxs: int
    recipients: int
    bulk_id: str


async def merge_locations(
    session: AsyncSession,
    actor: Actor,
    account: Account,
    keep: Location,
    gone: Location,
    *,
    despite_inside: bool = False,
) -> Merged:
    """Place everything of `gone` at `keep`, then remove `gone`. The address that stays is that of `keep`, untouched.

    Args:
        despite_inside: Merge though floor, room or suite differ: who was told apart by them no longer is.
    Raises:
        Invalid: one and the same location, or more recipients than a location can have.
        Conflict: they differ inside the building and nobody said so; too many phones.
    """
    await _refuse(session, keep, gone, despite_inside=despite_inside)
    bulk_id = new_id("request")
    filled = _filled(keep, gone)
    told = len(filled.get("notification_recipients", keep.notification_recipients)) - len(keep.notification_recipients)
    for name, value in filled.items():
        setattr(keep, name, value)
    if filled.keys() & {"geo", "carrier_ids"}:
        await sites.conveyed_otherwise(session, keep)
    if _is_elsewhere(keep, gone):
        others = {profile: name for profile, name in gone.carrier_ids.items() if profile not in keep.carrier_ids}
        keep.outdated_carrier_ids = {**others, **keep.outdated_carrier_ids}
    else:
        sites.settle_carrier_ids(keep, {})
    with parts_of(session, bulk_id):
        lines, networks, numbers, pbxs = await _move(session, actor, account, keep, gone)
    phones = await store_merge.move_phones(session, actor, gone, keep, bulk_id)
    merged = Merged(phones, lines, networks, numbers, pbxs, told, bulk_id)
    counts = {name: getattr(merged, name) for name in ("phones", "lines", "networks", "numbers", "pbxs", "recipients")}
    details = {"merged": gone.id, "merged_name": gone.name, "bulk_id": bulk_id, **counts}
    if account.default_location_id == gone.id:
        account.default_location_id = keep.id
        record(session, actor, Event.ACCOUNT_UPDATE, account, bulk_id=bulk_id)
    record(session, actor, Event.LOCATION_MERGE, keep, details=details)
    await session.flush()  # nothing is at it any more before it goes, or the database's cascade takes rows unseen
    await session.delete(gone)
    record(session, actor, Event.LOCATION_DELETE, gone, bulk_id=bulk_id)
    await session.flush()
    return merged


async def _refuse(session: AsyncSession, keep: Location, gone: Location, *, despite_inside: bool) -> None:
    if keep.id == gone.id:
        detail = "Expected another location than the one that stays."
        raise Invalid(detail, fields=(FieldFault("merged_id", detail),))
    differing = inside_differs(keep.civic_address, gone.civic_address)
    if differing and not despite_inside:
        said = ", ".join(
            f"{name} {keep.civic_address.get(name) or 'none'} and {gone.civic_address.get(name) or 'none'}"
            for name in differing
        )
        raise Conflict(
            f"{keep.name} and {gone.name} differ inside the building ({said}). Responders would be sent to "
            f"{keep.name}'s for callers of both. Say that this is meant, or leave them apart."
        )
    usage = await store.usage_of(session, gone)
    if usage.phones > MAX_PHONES:
        raise Conflict(
            f"{gone.name} has {usage.phones:,} phones; at most {MAX_PHONES:,} are moved at once. Give some of them the "
            f"location {keep.name} in the list of phones first."
        )


def _filled(keep: Location, gone: Location) -> dict[str, Any]:
    """What the one that stays takes over: fields it leaves empty, and both lists as one."""
    filled = {name: getattr(gone, name) for name in _FILLED if not getattr(keep, name) and getattr(gone, name)}
    if "geo" in filled and _is_elsewhere(keep, gone):
        del filled["geo"]  # a position that a validated address was not validated with
    known = {address.casefold() for address in keep.notification_recipients}
    more = [address for address in gone.notification_recipients if address.casefold() not in known]
    recipients = [*keep.notification_recipients, *more]
    if len(recipients) > MAX_RECIPIENTS:
        detail = (
            f"Together they tell {len(recipients)} addresses, and a location has at most {MAX_RECIPIENTS}. Remove some "
            "of either first, or use a mailing list's address."
        )
        raise Invalid(detail, fields=(FieldFault("notification_recipients", detail),))
    if more:
        filled["notification_recipients"] = recipients
    carriers = {**gone.carrier_ids, **keep.carrier_ids}
    if carriers != keep.carrier_ids and len(carriers) <= MAX_CARRIER_IDS and not _is_elsewhere(keep, gone):
        filled["carrier_ids"] = carriers  # of another address they would send help there
    return filled


def _is_elsewhere(keep: Location, gone: Location) -> bool:
    return dict(keep.civic_address) != dict(gone.civic_address)


async def _move(
    session: AsyncSession, actor: Actor, account: Account, keep: Location, gone: Location
) -> tuple[int, int, int, int]:
    """Lines, networks, numbers and PBX defaults, how many of each; and what stands beside them."""
    lines = await store_merge.lines_at(session, gone)
    for line in lines:
        line.location_id = keep.id
        record(session, actor, Event.LINE_UPDATE, line, resource=("line", line.id, line.extension))
    networks = await store.networks_of(session, account.id, gone.id)
    for network in networks:
        network.location_id = keep.id
        record(session, actor, Event.NETWORK_UPDATE, network, resource=_named(network))
    if networks:  # a location is told with its networks
        keep.version += 1
        keep.updated_at = utc_now()
    numbers = await store.numbers_of(session, account.id, gone.id)
    for number in numbers:
        number.location_id = keep.id
        record(session, actor, Event.NUMBER_UPDATE, number, resource=("number", number.id, number.e164))
    pbxs = await store_merge.pbxs_at(session, gone)
    for pbx in pbxs:
        pbx.default_location_id = keep.id
        record(session, actor, Event.PBX_UPDATE, pbx)
    for row in await store.confirmed_of(session, account.id, gone.id):
        if await store_merge.is_confirmed_at(session, row, keep):
            await session.delete(row)
            record(session, actor, Event.CONFIRMED_LOCATION_DELETE, row)
        else:
            row.location_id = keep.id
            record(session, actor, Event.CONFIRMED_LOCATION_UPDATE, row)
    for chat in await store_chats.chats_at(session, account.id, gone.id):
        chat.location_id = keep.id
        record(session, actor, Event.CHAT_RECIPIENT_UPDATE, chat)
    await _move_settings(session, actor, account, keep, gone)
    return len(lines), len(networks), len(numbers), len(pbxs)


async def _move_settings(session: AsyncSession, actor: Actor, account: Account, keep: Location, gone: Location) -> None:
    """What the one that goes says of its phones' settings counts where the one that stays says nothing of them."""
    own = await store.phone_settings_of(session, account.id, keep.id)
    for level in await store.phone_settings_of(session, account.id, gone.id):
        if own:
            own[0].settings = _beneath(own[0].settings, level.settings)
            record(session, actor, Event.SETTINGS_UPDATE, own[0])
            await session.delete(level)
            record(session, actor, Event.SETTINGS_DELETE, level)
        else:
            level.location_id, level.name = keep.id, keep.id
            record(session, actor, Event.SETTINGS_UPDATE, level)
            own = [level]


def _beneath(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    return {**second, **first}


def _named(network: Network) -> tuple[str, str, str]:
    return ("network", network.id, network.value)
