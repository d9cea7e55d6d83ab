"""Rows for tests, each with the least it needs; every one is recorded, since the database refuses what is not."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import SYSTEM, open_audited, record
from engine.crypto import KeyRing
from engine.db import Base, Database, utc_now
from engine.ids import new_id
from engine.models import (
    AUDIT_BEGINNING_SQLITE,
    AUDIT_FOLLOWS_TRIGGER_SQLITE,
    AUDIT_IMMUTABLE_SQLITE,
    AUDIT_SEARCH_SQLITE,
    CHECKPOINT_IMMUTABLE_SQLITE,
    Account,
    ConfirmedLocation,
    EmergencyCall,
    Line,
    Location,
    Network,
    Number,
    Pbx,
    Phone,
    PhoneLine,
    Sighting,
    Trunk,
)

HEADQUARTERS = {
    "country": "US", "A1": "NY", "A3": "Albany", "HNO": "120", "RD": "Washington", "STS": "Ave", "PC": "12203",
    "FLR": "4", "ROOM": "412",
}  # fmt: skip


async def fresh_database(path: Path, keys: KeyRing) -> Database:
    """A database with every table and the audit triggers, in that file."""
    _copy_of_the_empty_one(path)
    database = open_audited(f"sqlite+aiosqlite:///{path}", keys)
    event.listen(database.engine.sync_engine, "connect", _not_to_the_disk)
    return database


def _not_to_the_disk(connection: DBAPIConnection, _record: object) -> None:
    """No test cuts the power, and a commit that waits for the disk takes longer than most tests."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=OFF")
    cursor.close()


def _copy_of_the_empty_one(path: Path) -> None:
    path.write_bytes(_empty())


@cache
def _empty() -> bytes:
    """The file of a database without rows, made once: a hundred tables take longer than most tests."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        engine = create_engine(f"sqlite:///{path}")
        with engine.begin() as connection:
            Base.metadata.create_all(connection)
            for trigger in (*AUDIT_IMMUTABLE_SQLITE, *CHECKPOINT_IMMUTABLE_SQLITE):
                connection.execute(trigger)
            for statement in (*AUDIT_SEARCH_SQLITE, *AUDIT_BEGINNING_SQLITE, AUDIT_FOLLOWS_TRIGGER_SQLITE):
                connection.exec_driver_sql(statement)
        engine.dispose()
        return path.read_bytes()


async def add_account(session: AsyncSession, **fields: Any) -> Account:
    account = Account(**{"id": new_id("account"), "name": "Acme Dental", "email": "office@example.com"} | fields)
    session.add(account)
    record(session, SYSTEM, Event.ACCOUNT_CREATE, account)
    await session.flush()
    return account


async def add_location(session: AsyncSession, account: Account, **fields: Any) -> Location:
    defaults = {
        "id": new_id("location"),
        "account_id": account.id,
        "name": "Headquarters",
        "civic_address": HEADQUARTERS,
    }
    location = Location(**defaults | fields)
    session.add(location)
    record(session, SYSTEM, Event.LOCATION_CREATE, location)
    await session.flush()
    return location


async def add_network(session: AsyncSession, location: Location, value: str, **fields: Any) -> Network:
    defaults = {
        "id": new_id("network"),
        "account_id": location.account_id,
        "kind": "subnet",
        "value": value,
        "location_id": location.id,
    }
    network = Network(**defaults | fields)
    session.add(network)
    record(session, SYSTEM, Event.NETWORK_CREATE, network)
    await session.flush()
    return network


async def add_line(session: AsyncSession, account: Account, extension: str = "101", **fields: Any) -> Line:
    defaults = {
        "id": new_id("line"), "account_id": account.id, "extension": extension, "sip_user": extension,
        "display_name": f"Desk {extension}", "secret": f"secret-of-{extension}",
    }  # fmt: skip
    line = Line(**defaults | fields)
    session.add(line)
    record(session, SYSTEM, Event.LINE_CREATE, line)
    await session.flush()
    return line


async def add_phone(session: AsyncSession, account: Account, *lines: Line, **fields: Any) -> Phone:
    defaults = {
        "id": new_id("phone"),
        "account_id": account.id,
        "mac": "0015654aa937",
        "vendor": "yealink",
        "model": "T46U",
        "label": "Desk",
    }
    phone = Phone(**defaults | fields)
    session.add(phone)
    await session.flush()
    for key, line in enumerate(lines, 1):
        session.add(PhoneLine(account_id=account.id, phone_id=phone.id, key=key, line_id=line.id))
    record(session, SYSTEM, Event.PHONE_CREATE, phone)
    await session.flush()
    return phone


async def add_sighting(session: AsyncSession, phone: Phone, **fields: Any) -> Sighting:
    defaults = {"phone_id": phone.id, "account_id": phone.account_id, "source": "api", "seen_at": utc_now()}
    sighting = Sighting(**defaults | fields)
    session.add(sighting)
    await session.flush()
    return sighting


async def add_number(session: AsyncSession, account: Account, e164: str, **fields: Any) -> Number:
    number = Number(**{"id": new_id("number"), "account_id": account.id, "e164": e164} | fields)
    session.add(number)
    record(session, SYSTEM, Event.NUMBER_CREATE, number)
    await session.flush()
    return number


async def add_confirmed_location(session: AsyncSession, location: Location, **fields: Any) -> ConfirmedLocation:
    defaults = {
        "id": new_id("confirmed"),
        "account_id": location.account_id,
        "location_id": location.id,
        "network": "203.0.113.0/24",
        "confirmed_at": utc_now(),
        "confirmed_by": "owner@example.com",
    }
    confirmed = ConfirmedLocation(**defaults | fields)
    session.add(confirmed)
    record(session, SYSTEM, Event.CONFIRMED_LOCATION_CREATE, confirmed)
    await session.flush()
    return confirmed


async def add_pbx(session: AsyncSession, account: Account, **fields: Any) -> Pbx:
    defaults = {
        "id": new_id("pbx"),
        "account_id": account.id,
        "name": "PBX",
        "sources": ["127.0.0.1/32"],
        "registrar_host": "127.0.0.1",
    }
    pbx = Pbx(**defaults | fields)
    session.add(pbx)
    record(session, SYSTEM, Event.PBX_CREATE, pbx)
    await session.flush()
    return pbx


async def add_trunk(session: AsyncSession, account: Account, **fields: Any) -> Trunk:
    defaults = {"id": new_id("trunk"), "account_id": account.id, "name": "Carrier", "host": "127.0.0.1", "port": 5090}
    trunk = Trunk(**defaults | fields)
    session.add(trunk)
    record(session, SYSTEM, Event.TRUNK_CREATE, trunk)
    await session.flush()
    return trunk


def emergency_call(account: Account, **fields: Any) -> EmergencyCall:
    """A 911 call of now, not stored yet. `at`: another moment at which it was received, sent and recorded."""
    at = fields.pop("at", None) or utc_now()
    defaults = {
        "id": new_id("call"), "account_id": account.id, "call_id": "a@b", "dialed": "911", "kind": "emergency",
        "caller": {}, "flags": [], "location_source": "none", "received_at": at, "sent_at": at, "recorded_at": at,
    }  # fmt: skip
    return EmergencyCall(**defaults | fields)


async def add_emergency_call(session: AsyncSession, account: Account, **fields: Any) -> EmergencyCall:
    call = emergency_call(account, **fields)
    session.add(call)
    record(session, SYSTEM, Event.EMERGENCY_CALL_CREATE, call)
    await session.flush()
    return call
