"""One change to many locations: who is told besides, the number called back, the time zone, the trunks first taken.

Each location that changes has an audit entry of its own that carries the operation's name; the operation itself is one
entry. Everything is held against the rules first: with one fault nothing is changed. Nobody here commits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, parts_of, record
from engine.e911 import sites, store
from engine.e911.fields import LOCATION_FIELDS, MAX_RECIPIENTS, read_email, read_values
from engine.errors import FieldFault, Invalid, NotFound
from engine.ids import new_id
from engine.models import Account, Location

MAX_AT_ONCE = 2_000


class Action(StrEnum):
    """What can be done to many locations at once."""

    TELL = "tell"  # add recipients
    TELL_NO_MORE = "tell_no_more"  # remove recipients
    CALLBACK_NUMBER = "callback_number"
    TIMEZONE = "timezone"
    TRUNK_GROUP = "trunk_group_id"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done. `emails` for the recipients' two; `value` for the others, None or empty: none of its own."""

    action: Action
    emails: tuple[str, ...] = ()
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """How many locations were named and how many of them changed; `bulk_id`: the name its audit entries share."""

    locations: int
    changed: int
    bulk_id: str


async def change_locations(
    session: AsyncSession, actor: Actor, account: Account, ids: Sequence[str] | None, change: Change
) -> Done:
    """Make one change to those locations; None: to all of the account.

    Raises:
        NotFound: one of them is no location of this account. Invalid: every bad field.
    """
    chosen = await _chosen(session, account, ids)
    wished = _wished(chosen, _emails(change), _value(account, change), change)
    bulk_id = new_id("request")
    details: dict[str, Any] = {"action": change.action.value, "locations": len(chosen)}
    details |= {"emails": list(change.emails)} if change.emails else {"value": change.value}
    resource = ("location", bulk_id, "many")
    record(session, actor, Event.LOCATION_CHANGE_MANY, resource=resource, account_id=account.id, details=details)
    with parts_of(session, bulk_id):
        for location, values in wished:
            await sites.update_location(session, actor, account, location, values)
    return Done(len(chosen), len(wished), bulk_id)


async def refuse_unlike(session: AsyncSession, account: Account, ids: Sequence[str] | None, change: Change) -> None:
    """Raise what `change_locations` would raise, and change nothing: asked before somebody is asked to confirm."""
    _wished(await _chosen(session, account, ids), _emails(change), _value(account, change), change)


async def _chosen(session: AsyncSession, account: Account, ids: Sequence[str] | None) -> list[Location]:
    known = await store.locations_of(session, account.id)
    wanted = None if ids is None else set(ids)
    found = [location for location in known if wanted is None or location.id in wanted]
    if wanted is not None and len(found) < len(wanted):
        missing = len(wanted) - len(found)
        raise NotFound(f"{missing:,} of these locations are not there any more. Nothing was changed.")
    if not found:
        detail = "Choose at least one location."
        raise Invalid(detail, fields=(FieldFault("ids", detail),))
    if len(found) > MAX_AT_ONCE:
        detail = f"At most {MAX_AT_ONCE:,} locations are changed at once, got {len(found):,}."
        raise Invalid(detail, fields=(FieldFault("ids", detail),))
    return found


def _emails(change: Change) -> dict[str, str]:
    """The addresses by their plain form. Raises Invalid: one that is none, or none at all where one is needed."""
    if change.action not in {Action.TELL, Action.TELL_NO_MORE}:
        return {}
    faults: list[FieldFault] = []
    read = [read_email(f"emails[{at}]", email, faults) for at, email in enumerate(change.emails)]
    if not read:
        faults.append(FieldFault("emails", "expected one or more e-mail addresses."))
    if faults:
        raise Invalid("No location was changed.", fields=tuple(faults))
    return {email.casefold(): email for email in read}


def _value(account: Account, change: Change) -> dict[str, Any]:
    """The field to set as it is stored. Raises Invalid: it cannot have that value."""
    if change.action in {Action.TELL, Action.TELL_NO_MORE}:
        return {}
    faults: list[FieldFault] = []
    read = read_values({change.action.value: change.value or None}, LOCATION_FIELDS, account, faults)
    if faults:
        raise Invalid("No location was changed.", fields=tuple(faults))
    return read


def _wished(
    chosen: Sequence[Location], emails: dict[str, str], value: dict[str, Any], change: Change
) -> list[tuple[Location, dict[str, Any]]]:
    """The locations that would not stay as they are, with what is to be said of each."""
    wished, crowded = [], []
    for location in chosen:
        told = {address.casefold(): address for address in location.notification_recipients}
        if change.action is Action.TELL:
            after = {**emails, **told} if emails.keys() - told.keys() else told
            values: dict[str, Any] = {"notification_recipients": list(dict.fromkeys([*told.values(), *after.values()]))}
            if len(values["notification_recipients"]) > MAX_RECIPIENTS:
                crowded.append(location.name)
        elif change.action is Action.TELL_NO_MORE:
            values = {"notification_recipients": [told[key] for key in told if key not in emails]}
        else:
            values = value
        if any(getattr(location, name) != value for name, value in values.items()):
            wished.append((location, values))
    if crowded:
        detail = f"{', '.join(crowded[:5])} would tell more than {MAX_RECIPIENTS} addresses: use a mailing list's."
        raise Invalid("No location was changed.", fields=(FieldFault("emails", detail),))
    return wished
