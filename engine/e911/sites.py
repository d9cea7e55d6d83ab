"""Operations on locations, networks and notification recipients: each changes rows and notes one audit entry.

Values arrive as an API body or a form holds them (a mapping of field names); everything wrong with them is told at
once, field by field. What a field is called and means: the API's names (`docs`), RFC 5139 for civic addresses.
"""

from collections.abc import Iterable, Mapping

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.audit.store_outdated import outdate
from engine.db import utc_now
from engine.e911 import store, store_chats, store_tests, validation
from engine.e911.fields import (
    LOCATION_FIELDS,
    MAX_RECIPIENTS,
    NETWORK_FIELDS,
    Values,
    network_value,
    read_email,
    read_values,
    refuse,
)
from engine.e911.shadowing import forms_of
from engine.errors import Conflict, FieldFault, Invalid
from engine.ids import new_id
from engine.models import Account, Location, LocationStatus, Network, NetworkKind, NotificationRecipient, Phone

# ------------------------------------------------------------------------------------------ locations


async def create_location(session: AsyncSession, actor: Actor, account: Account, values: Values) -> Location:
    """Add a location to the account. It begins as a draft: nobody has validated its address.

    Args:
        values: name, civic_address {country, A1, …}, and as wanted geo, timezone, notification_recipients,
            callback_number, onsite_number.
    Raises:
        Invalid: with every bad field.
    """
    faults: list[FieldFault] = []
    read = read_values(values, LOCATION_FIELDS, account, faults)
    faults += [FieldFault(name, f"{name} is required.") for name in ("name", "civic_address") if name not in values]
    faults += await _foreign_group(session, account.id, read)
    refuse("The location was not saved", faults)
    location = Location(id=new_id("location"), account_id=account.id, status=LocationStatus.DRAFT, **read)
    session.add(location)
    record(session, actor, Event.LOCATION_CREATE, location)
    await session.flush()
    return location


async def update_location(
    session: AsyncSession, actor: Actor, account: Account, location: Location, values: Values
) -> Location:
    """Change the fields that `values` names. A changed address has not been validated: the location is a draft again.

    Raises:
        Invalid: with every bad field.
    """
    faults: list[FieldFault] = []
    read = read_values(values, LOCATION_FIELDS, account, faults)
    faults += await _foreign_group(session, account.id, read)
    refuse("The location was not saved", faults)
    moved = {name: value for name, value in read.items() if value != getattr(location, name)}
    was_told, known_by = _told_to_phones(location), dict(location.carrier_ids)
    for name, value in moved.items():
        setattr(location, name, value)
    if "civic_address" in moved:
        withhold_carrier_ids(location, known_by)
    settle_carrier_ids(location, values)
    if _told_to_phones(location) != was_told:
        await outdate(session, Phone.account_id == location.account_id, Phone.location_id == location.id)
    if moved.keys() & {"civic_address", "geo", "carrier_ids"}:
        await conveyed_otherwise(session, location)
    record(session, actor, Event.LOCATION_UPDATE, location)
    await session.flush()
    return location


async def conveyed_otherwise(session: AsyncSession, location: Location) -> None:
    """What calls from there tell is another thing than what was validated and tested: a draft again, and untested."""
    location.status = LocationStatus.DRAFT
    location.validated_at = None
    location.validation = None
    await store_tests.address_changed(session, location)


def withhold_carrier_ids(location: Location, known_by: Mapping[str, str]) -> None:
    """Send no identifier any more that stands for another address than the location's.

    A carrier looks the identifier up and tells the dispatcher what it finds: help would go to that other address. So
    calls go as the trunk sends locations without one, by value or by a URI of ours, until the carrier's new one is
    entered; the same one counts too, once it is entered again.

    Args:
        known_by: Identifiers by profile, of that other address.
    """
    stale = {profile: name for profile, name in known_by.items() if location.carrier_ids.get(profile) == name}
    location.carrier_ids = {name: text for name, text in location.carrier_ids.items() if stale.get(name) != text}
    location.outdated_carrier_ids = {**location.outdated_carrier_ids, **stale}


def settle_carrier_ids(location: Location, values: Values) -> None:
    """An identifier entered anew, or one expressly left empty, ends the wait for it."""
    named = values.get("carrier_ids")
    empty = {name for name, text in named.items() if not text} if isinstance(named, Mapping) else set()
    done = location.carrier_ids.keys() | empty
    waiting = {profile: name for profile, name in location.outdated_carrier_ids.items() if profile not in done}
    if waiting != location.outdated_carrier_ids:
        location.outdated_carrier_ids = waiting


def _told_to_phones(location: Location) -> tuple[object, ...]:
    """What of a location stands in the files of its phones: their clock, and the numbers that are dialled there."""
    return location.timezone, location.civic_address.get("country")


async def _foreign_group(session: AsyncSession, account_id: str, read: Values) -> list[FieldFault]:
    group_id = read.get("trunk_group_id")
    if not group_id or await store.trunk_group_exists(session, account_id, group_id):
        return []
    return [FieldFault("trunk_group_id", f"expected one of the account's trunk groups or nothing, got {group_id!r}.")]


async def validate_location(session: AsyncSession, actor: Actor, location: Location, *, accepted: bool) -> Location:
    """Note what a person, who had the address read back by a 933 call, says of the address as it is: it comes after a
    validator's word.
    """
    at = utc_now()
    location.status = LocationStatus.VALIDATED if accepted else LocationStatus.REJECTED
    location.validated_at = at if accepted else None
    location.validation = validation.of_a_person(actor, location.status, at)
    record(session, actor, Event.LOCATION_VALIDATE, location, details={"accepted": accepted})
    await session.flush()
    return location


async def delete_location(session: AsyncSession, actor: Actor, location: Location) -> None:
    """Remove a location that nothing is placed at; its networks and what users confirmed of it go with it.

    The numbers of its pool stay with the account, lent to nobody until they have another location.

    Raises:
        Conflict: phones, lines, a PBX or the account have it as their address; 911 calls from there would lose theirs.
    """
    usage = await store.usage_of(session, location)
    users = [
        f"{count} {name if count == 1 else f'{name}s'}"
        for count, name in ((usage.phones, "phone"), (usage.lines, "line"), (usage.pbxs, "PBX default"))
        if count
    ]
    users += ["the account's default location"] if usage.is_account_default else []
    if users:
        raise Conflict(
            f"{location.name} is the address of {', '.join(users)}: 911 calls from there would go out without it. "
            "Give them another location first, then delete this one."
        )
    for row in (
        *await store.networks_of(session, location.account_id, location.id),
        *await store.confirmed_of(session, location.account_id, location.id),
        *await store.phone_settings_of(session, location.account_id, location.id),
        *await store_chats.chats_at(session, location.account_id, location.id),
    ):
        await session.delete(row)
    for number in await store.numbers_of(session, location.account_id, location.id):
        number.location_id = None
    await session.flush()  # networks before their location, or the database's cascade takes them unseen
    await session.delete(location)
    record(session, actor, Event.LOCATION_DELETE, location)
    await session.flush()


async def warnings_of(session: AsyncSession, account: Account, locations: Iterable[Location]) -> dict[str, list[str]]:
    """What is wrong with locations that are kept all the same, by identifier: a line has a number that is an emergency
    there, or a carrier knows it by another address.

    A location is never refused for it: an address that is not kept helps nobody.
    """
    locations = list(locations)
    country_of = {location.id: location.civic_address.get("country", "") for location in locations}
    found = {country: await _taken_numbers(session, account, country) for country in set(country_of.values())}
    return {location.id: [*withheld_warnings(location), *found[country_of[location.id]]] for location in locations}


def withheld_warnings(location: Location) -> list[str]:
    """Each carrier that knows another address by the identifier it gave, and what to do."""
    return [
        f"The identifier {name} of {profile} stands for another address and is not sent with emergency calls: they "
        f"carry the address itself where the trunk can. Give {profile} this address, then enter the identifier it has "
        "for it; the same one, where the carrier kept it."
        for profile, name in sorted(location.outdated_carrier_ids.items())
    ]


async def _taken_numbers(session: AsyncSession, account: Account, country: str) -> list[str]:
    called = await store.lines_called(session, account.id, forms_of(country))
    return [
        f"Line {line.extension} has a number that is an emergency in {country}: dialed from here it never reaches that "
        "line. Give the line another extension and SIP user."
        for line in called
    ]


# ------------------------------------------------------------------------------------------ networks


async def create_network(session: AsyncSession, actor: Actor, account: Account, values: Values) -> Network:
    """Say where a subnet, an access point, a switch or one of its ports is.

    Args:
        values: value (a CIDR such as 10.1.0.0/16, a BSSID, a chassis id, a chassis id and a port id), location_id, and
            as wanted kind (`subnet`, `bssid`, `switch`, `switch_port`) and pbx_id: with it the network holds only for
            callers of that PBX.
    Raises:
        Invalid: with every bad field.
        Conflict: the account has exactly this network already.
    """
    faults: list[FieldFault] = []
    read = {"kind": NetworkKind.SUBNET, "pbx_id": None} | read_values(values, NETWORK_FIELDS, account, faults)
    if "value" in values:
        network_value(read, faults)
    faults += [FieldFault(name, f"{name} is required.") for name in ("value", "location_id") if name not in values]
    faults += await _foreign(session, account.id, read)
    refuse("The network was not saved", faults)
    network = Network(id=new_id("network"), account_id=account.id, **read)
    await _refuse_twin(session, network)
    session.add(network)
    record(session, actor, Event.NETWORK_CREATE, network, resource=("network", network.id, network.value))
    await _networks_changed(session, account.id, network.location_id)
    await session.flush()
    return network


async def update_network(
    session: AsyncSession, actor: Actor, account: Account, network: Network, values: Values
) -> Network:
    """Change the network, its location or its PBX.

    Raises:
        Invalid: with every bad field.
        Conflict: the account has exactly this network already.
    """
    faults: list[FieldFault] = []
    read = read_values(values, NETWORK_FIELDS, account, faults)
    if read.keys() & {"kind", "value"}:
        read = {"kind": network.kind, "value": network.value} | read
        network_value(read, faults)
    faults += await _foreign(session, account.id, read)
    refuse("The network was not saved", faults)
    wanted = {name: read.get(name, getattr(network, name)) for name in ("kind", "value", "pbx_id")}
    await _refuse_twin(session, Network(id=network.id, account_id=account.id, **wanted))
    before = network.location_id
    moved = {name: value for name, value in read.items() if value != getattr(network, name)}
    for name, value in moved.items():
        setattr(network, name, value)
    if moved:
        await _networks_changed(session, account.id, before, network.location_id)
    record(session, actor, Event.NETWORK_UPDATE, network, resource=("network", network.id, network.value))
    await session.flush()
    return network


async def delete_network(session: AsyncSession, actor: Actor, network: Network) -> None:
    """Forget where a network is; callers in it are then found by their phone, line or a default."""
    await session.delete(network)
    record(session, actor, Event.NETWORK_DELETE, network, resource=("network", network.id, network.value))
    await _networks_changed(session, network.account_id, network.location_id)
    await session.flush()


async def _networks_changed(session: AsyncSession, account_id: str, *location_ids: str) -> None:
    """A location is told with its networks: their change is one of its version too, which a form or a script that saw
    the older ones must not pass (RFC 9110 §13.1.1).
    """
    await session.flush()  # what was changed of the location in this transaction, before it is read and locked
    for location_id in sorted(set(location_ids)):
        location = await store.location_by_id(session, account_id, location_id, to_change=True)
        if location is not None:
            location.version += 1
            location.updated_at = utc_now()


async def _foreign(session: AsyncSession, account_id: str, read: Values) -> list[FieldFault]:
    """Faults for a location or PBX that is not this account's."""
    faults = []
    location_id, pbx_id = read.get("location_id"), read.get("pbx_id")
    if location_id and await store.location_by_id(session, account_id, location_id) is None:
        faults.append(FieldFault("location_id", f"expected one of the account's locations, got {location_id!r}."))
    if pbx_id and not await store.pbx_exists(session, account_id, pbx_id):
        faults.append(FieldFault("pbx_id", f"expected one of the account's PBXs or nothing, got {pbx_id!r}."))
    return faults


async def _refuse_twin(session: AsyncSession, network: Network) -> None:
    twin = await store.network_holding(session, network.account_id, network.kind, network.value, network.pbx_id)
    if twin is None or twin.id == network.id:
        return
    location = await store.location_by_id(session, network.account_id, twin.location_id)
    where = location.name if location else twin.location_id
    raise Conflict(f"{network.value} is already the network of {where}. Change that network or remove it first.")


# ------------------------------------------------------------------------------------------ recipients


async def add_recipient(session: AsyncSession, actor: Actor, account: Account, email: object) -> NotificationRecipient:
    """Mail this address whenever 911 or 933 is dialled anywhere in the account.

    Raises:
        Invalid: no e-mail address, already a recipient, or one too many; in a sentence.
    """
    faults: list[FieldFault] = []
    address = read_email("email", email, faults)
    refuse("The recipient was not added", faults)
    known = await store.recipients_of(session, account.id)
    if any(recipient.email.casefold() == address.casefold() for recipient in known):
        detail = f"{address} is already a recipient: every emergency call is mailed there once."
        raise Invalid(detail, fields=(FieldFault("email", detail),))
    if len(known) >= MAX_RECIPIENTS:
        detail = f"An account has at most {MAX_RECIPIENTS} recipients. Use a mailing list's address for more people."
        raise Invalid(detail, fields=(FieldFault("email", detail),))
    recipient = NotificationRecipient(id=new_id("recipient"), account_id=account.id, email=address)
    session.add(recipient)
    record(session, actor, Event.RECIPIENT_CREATE, recipient, resource=_named(recipient))
    await session.flush()
    return recipient


async def remove_recipient(session: AsyncSession, actor: Actor, recipient: NotificationRecipient) -> None:
    """Mail this address no more. Notifications of earlier calls that still wait are sent all the same."""
    await session.delete(recipient)
    record(session, actor, Event.RECIPIENT_DELETE, recipient, resource=_named(recipient))
    await session.flush()


def _named(recipient: NotificationRecipient) -> tuple[str, str, str]:
    return ("notification_recipient", recipient.id, recipient.email)
