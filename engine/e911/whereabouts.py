"""Operations on what changes from day to day: where the network saw a phone, and where a user says it is.

A sighting (switch port, access point, address) is what a machine told last; it is kept without a new location table
and told to the edge at once. A confirmed address is a person's word, good only on the network on which it was given:
the same laptop on another network is somewhere else.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import utc_now
from engine.e911 import rows, store
from engine.e911.fields import CONFIRMED_FIELDS, SIGHTING_FIELDS, Values, read_values, refuse
from engine.e911.prefixes import plain_address
from engine.e911.sightings import keep_sighting
from engine.errors import Conflict, FieldFault
from engine.ids import new_id
from engine.models import Account, ConfirmedLocation, Phone, Sighting, SightingSource

MAX_AHEAD = dt.timedelta(minutes=5)  # clocks of collectors differ; what is further ahead is a mistake

# ------------------------------------------------------------------------------------------ confirmed locations


async def create_confirmed(session: AsyncSession, actor: Actor, account: Account, values: Values) -> ConfirmedLocation:
    """Note that a user confirmed where a phone or line is on this network, now.

    Args:
        values: phone_id or line_id, location_id, network (a CIDR or a BSSID).
    Raises:
        Invalid: with every bad field. Conflict: an address is confirmed for it on this network already.
    """
    faults: list[FieldFault] = []
    read = {"phone_id": None, "line_id": None} | read_values(values, CONFIRMED_FIELDS, account, faults)
    faults += [FieldFault(name, f"{name} is required.") for name in ("location_id", "network") if name not in values]
    faults += await _foreign(session, account.id, read)
    refuse("The confirmed location was not saved", faults)
    confirmed = ConfirmedLocation(
        id=new_id("confirmed"), account_id=account.id, confirmed_at=utc_now(), confirmed_by=_who(actor), **read
    )
    await _refuse_twin(session, confirmed)
    session.add(confirmed)
    record(session, actor, Event.CONFIRMED_LOCATION_CREATE, confirmed, resource=_named(confirmed))
    await session.flush()
    return confirmed


async def update_confirmed(
    session: AsyncSession, actor: Actor, account: Account, confirmed: ConfirmedLocation, values: Values
) -> ConfirmedLocation:
    """Change it, or confirm it once more: either counts as said now, by whoever says it.

    Raises:
        Invalid: with every bad field. Conflict: as `create_confirmed`.
    """
    faults: list[FieldFault] = []
    read = read_values(values, CONFIRMED_FIELDS, account, faults)
    wished = {name: read.get(name, getattr(confirmed, name)) for name in CONFIRMED_FIELDS}
    faults += await _foreign(session, account.id, wished)
    refuse("The confirmed location was not saved", faults)
    await _refuse_twin(session, ConfirmedLocation(id=confirmed.id, account_id=account.id, **wished))
    for name, value in wished.items():
        if value != getattr(confirmed, name):
            setattr(confirmed, name, value)
    confirmed.confirmed_at, confirmed.confirmed_by = utc_now(), _who(actor)
    record(session, actor, Event.CONFIRMED_LOCATION_UPDATE, confirmed, resource=_named(confirmed))
    await session.flush()
    return confirmed


async def delete_confirmed(session: AsyncSession, actor: Actor, confirmed: ConfirmedLocation) -> None:
    """Forget it: on that network the phone or line is found by its records or a default."""
    await session.delete(confirmed)
    record(session, actor, Event.CONFIRMED_LOCATION_DELETE, confirmed, resource=_named(confirmed))
    await session.flush()


async def _foreign(session: AsyncSession, account_id: str, read: Mapping[str, Any]) -> list[FieldFault]:
    faults = []
    if not read["phone_id"] and not read["line_id"]:
        faults.append(FieldFault("phone_id", "expected a phone_id or a line_id: whose address this is."))
    if read["phone_id"] and not await store.phone_exists(session, account_id, read["phone_id"]):
        faults.append(FieldFault("phone_id", f"expected one of the account's phones, got {read['phone_id']!r}."))
    if read["line_id"] and not await store.line_exists(session, account_id, read["line_id"]):
        faults.append(FieldFault("line_id", f"expected one of the account's lines, got {read['line_id']!r}."))
    location_id = read.get("location_id")
    if location_id and await store.location_by_id(session, account_id, location_id) is None:
        faults.append(FieldFault("location_id", f"expected one of the account's locations, got {location_id!r}."))
    return faults


async def _refuse_twin(session: AsyncSession, confirmed: ConfirmedLocation) -> None:
    twin = await store.confirmed_holding(session, confirmed)
    if twin is not None and twin.id != confirmed.id:
        raise Conflict(
            f"An address on {confirmed.network} is confirmed for it already ({twin.id}). Change that one or remove it."
        )


def _who(actor: Actor) -> str:
    return (actor.name or actor.id)[:320]


def _named(confirmed: ConfirmedLocation) -> tuple[str, str, str]:
    return ("confirmed_location", confirmed.id, confirmed.network)


# ------------------------------------------------------------------------------------------ sightings


async def sight(session: AsyncSession, actor: Actor, account: Account, phone: Phone, values: Values) -> Sighting:
    """Note where the network saw a phone, by the word of a switch, a controller or whoever asks it.

    Args:
        values: any of chassis with port, bssid, ip; and seen_at when that was not now.
    Raises:
        Invalid: with every bad field. Conflict: a later sighting is known.
    """
    now = utc_now()
    faults: list[FieldFault] = []
    read = {"seen_at": now} | read_values(values, SIGHTING_FIELDS, account, faults)
    if not faults and not any(read.get(name) for name in ("chassis", "bssid", "ip")):
        faults.append(FieldFault("chassis", "expected a chassis, a bssid or an ip: where the phone was seen."))
    if read.get("port") and not read.get("chassis"):
        faults.append(FieldFault("chassis", "expected the chassis that this port is of."))
    if not faults and (read["seen_at"] or now) > now + MAX_AHEAD:
        faults.append(FieldFault("seen_at", "expected a time that has come: check the clock of whoever reports it."))
    refuse("The sighting was not saved", faults)
    seen_at = min(read["seen_at"] or now, now)
    told = rows.Sighting(
        phone.id, read.get("chassis"), read.get("port"), read.get("bssid"), plain_address(read.get("ip") or ""),
        SightingSource.API, seen_at,
    )  # fmt: skip
    if not await keep_sighting(session, account.id, told):
        raise Conflict("This phone was seen later than that already; the later sighting stands.")
    record(session, actor, Event.PHONE_SIGHT, phone, details=_told(told))
    kept = await store.sighting_of(session, phone)
    assert kept is not None
    return kept


def _told(told: rows.Sighting) -> dict[str, Any]:
    named = {"chassis": told.chassis, "port": told.port, "bssid": told.bssid, "ip": told.ip}
    return {name: str(value) for name, value in named.items() if value is not None}
