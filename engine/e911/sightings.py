"""Where the network saw a phone: kept, the latest alone, and told to the SIP process as soon as it is committed.

A sighting is no change of configuration: it bumps no revision, or each of 100,000 phones plugged in of a morning would
have the whole table written anew. The table gets it at its next writing, within a minute or so (`publish.py`).
"""

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import event as sql_event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import Database, utc_now
from engine.e911 import rows
from engine.e911.location import plain_address, plain_chassis, plain_mac, plain_port
from engine.e911.store import sighting_json
from engine.errors import FieldFault, Invalid
from engine.models import Phone, Sighting, SightingSource

LINK_HOLDS = dt.timedelta(hours=24)  # as long as a call believes a sighting without a doubt
CLOCK_SKEW = dt.timedelta(minutes=5)
_WAITING = "sightings"
Tell = Callable[[Mapping[str, Any]], None]
"""Takes a sighting as the snapshot holds it, with its `account_id`."""


async def record_sighting(
    session: AsyncSession,
    actor: Actor,
    account_id: str,
    phone: Phone,
    *,
    source: SightingSource,
    chassis: str | None = None,
    port: str | None = None,
    bssid: str | None = None,
    ip: str | None = None,
    seen_at: dt.datetime | None = None,
) -> Sighting:
    """Note where a phone was seen; 911 calls use it from the commit on.

    An older sighting than the one that is kept changes nothing. Neither does, over HELD, a mere address that is the
    kept one's: it would make a switch port known since this morning unknown. What is said through the API is audited;
    what phones and switches say in passing is not.

    Args:
        chassis, port: Of the switch, as LLDP gives them. bssid: of the access point. ip: the phone's own address.
        seen_at: None: now. A time in the future counts as now.
    Raises:
        Invalid: a value is none of its kind, or nothing was said of where.
    """
    read, faults = _read(chassis=chassis, port=port, bssid=bssid, ip=ip)
    if not faults and not (read["chassis"] or read["bssid"] or read["ip"]):
        faults = [FieldFault("chassis", "expected a chassis, a bssid or an ip, got none of them.")]
    if read["port"] and not read["chassis"]:
        faults.append(FieldFault("chassis", "a port is one of a switch: name its chassis too."))
    now = utc_now()
    at = seen_at or now
    if at > now + CLOCK_SKEW:
        faults.append(FieldFault("seen_at", "expected a time that has passed; the clock of who saw it is ahead."))
    if faults:
        raise Invalid("The sighting was not kept: " + " ".join(fault.detail for fault in faults), fields=tuple(faults))
    if source is SightingSource.API:
        record(session, actor, Event.PHONE_SIGHT, phone, details={name: value for name, value in read.items() if value})
    told = rows.Sighting(
        phone.id, read["chassis"], read["port"], read["bssid"], plain_address(read["ip"] or ""), source, min(at, now)
    )
    await keep_sighting(session, account_id, told)
    kept = await session.get(Sighting, phone.id)
    assert kept is not None
    return kept


async def keep_sighting(session: AsyncSession, account_id: str, told: rows.Sighting) -> bool:
    """Store a sighting as the phone's latest, and have it told after the commit. False: a later one is known, and
    stands; or what a phone says of its mere address is known already.
    """
    kept = await session.get(Sighting, told.phone_id)
    if kept is not None and not _says_more(told, kept):
        return False
    if kept is None:
        kept = Sighting(phone_id=told.phone_id, account_id=account_id)
        session.add(kept)
    kept.chassis, kept.port, kept.bssid = told.chassis, told.port, told.bssid
    kept.ip = str(told.ip) if told.ip is not None else None
    kept.source, kept.seen_at = told.source, told.seen_at
    await session.flush()
    session.info.setdefault(_WAITING, []).append(sighting_json(kept))
    return True


def on_committed(database: Database, tell: Tell) -> None:
    """Have every sighting of this process told after its commit, and none that was rolled back."""

    def committed(session: Session) -> None:
        for told in session.info.pop(_WAITING, ()):
            tell(told)

    def rolled_back(session: Session) -> None:
        session.info.pop(_WAITING, None)

    sql_event.listen(database.session_class, "after_commit", committed)
    sql_event.listen(database.session_class, "after_rollback", rolled_back)


def _read(**texts: str | None) -> tuple[dict[str, str | None], list[FieldFault]]:
    """The values in their one spelling, and a fault for each that is none."""
    kinds: dict[str, tuple[Callable[[str], object | None], str]] = {
        "chassis": (plain_chassis, "a switch's chassis id: a MAC, or a name without a slash"),
        "port": (plain_port, "a port id such as gi1/0/12"),
        "bssid": (plain_mac, "an access point's address such as 00:15:6d:12:34:56"),
        "ip": (plain_address, "an IP address"),
    }
    read: dict[str, str | None] = {}
    faults = []
    for name, (plain, wanted) in kinds.items():
        text = texts[name]
        found = plain(text) if text else None
        read[name] = str(found) if found is not None else None
        if text and found is None:
            faults.append(FieldFault(name, f"expected {wanted}, got {text[:60]!r}."))
    return read, faults


def _says_more(told: rows.Sighting, kept: Sighting) -> bool:
    if told.seen_at < kept.seen_at:
        return False
    if told.source != SightingSource.HELD or told.chassis or told.bssid:
        return True
    knows_link = bool(kept.chassis or kept.bssid) and told.seen_at - kept.seen_at <= LINK_HOLDS
    return not (knows_link and str(told.ip) == kept.ip)
