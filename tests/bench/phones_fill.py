"""Filling an account with phones for the benchmark: straight into the database, SQLite or PostgreSQL, in some seconds.

What stands there afterwards is what imports and boots leave: a phone with a line of its own on its first key, a label,
a firmware, a last fetch; the lines have no secrets and no entries stand in the audit log.
"""

import datetime as dt
import random
from collections.abc import Callable, Iterator
from typing import Any, cast

from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncSession

from engine.crypto import KeyRing
from engine.db import BulkInsert, batched, open_database, utc_now
from engine.models import Line, Phone, PhoneLine

PIECE = 10_000  # phones of one transaction
MODELS = (
    (900, "yealink", "T46U", "805ec0"), (90, "snom", "D785", "000413"), (9, "poly", "VVX 450", "0004f2"),
    (1, "fanvil", "X5U", "0c383e"),
)  # fmt: skip
STATUSES = {"current": 930, "stale": 50, "never_booted": 10, "failed": 9, "quarantined": 1}
KINDS = ("Desk", "Room", "Lobby", "Ward")
_PHONE_COLUMNS = (
    "id", "account_id", "mac", "vendor", "model", "label", "location_id", "settings", "status", "last_fetch_at",
    "last_ip", "last_user_agent", "firmware", "fetched_revision", "straggled_at", "no_location_at", "version",
    "created_at", "updated_at",
)  # fmt: skip
_LINE_COLUMNS = (
    "id", "account_id", "extension", "display_name", "sip_user", "auth_user", "version", "created_at", "updated_at",
)  # fmt: skip
_KEY_COLUMNS = ("account_id", "phone_id", "key", "line_id")


async def fill(
    url: str, keys: KeyRing, account_id: str, locations: list[str], count: int, say: Callable[[str], None]
) -> None:
    """Add `count` phones with their lines; PostgreSQL is then told how its tables look, as it learns in time."""
    database = open_database(url, keys)
    dialect = database.engine.dialect
    inserts = [
        BulkInsert(cast("Table", model.__table__), names, dialect)
        for model, names in ((Line, _LINE_COLUMNS), (Phone, _PHONE_COLUMNS), (PhoneLine, _KEY_COLUMNS))
    ]
    try:
        for piece in batched(_phones(account_id, locations, count), PIECE):
            async with AsyncSession(database.engine) as session, session.begin():
                for at, insert in enumerate(inserts):
                    await insert.write(session, [insert.row(rows[at]) for rows in piece])
        if dialect.name == "postgresql":
            async with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                for table in ("phone", "line", "phone_line"):
                    await connection.execute(text(f"VACUUM ANALYZE {table}"))
        say(f"{count:,} phones are in {dialect.name}")
    finally:
        await database.close()


def _phones(account_id: str, locations: list[str], count: int) -> Iterator[tuple[dict[str, Any], ...]]:
    """The line, the phone and its key, `count` times; the same phones each time."""
    chance, now = random.Random(7), utc_now()
    stamps = {"version": 1, "created_at": now, "updated_at": now}
    shares = [share for share, *_ in MODELS]
    for at in range(count):
        _, vendor, model, block = chance.choices(MODELS, shares)[0]
        line_id, phone_id = f"line_{at:026d}", f"phone_{at:026d}"
        line = {
            "id": line_id, "account_id": account_id, "extension": str(200_000 + at), "display_name": f"Somebody {at}",
            "sip_user": str(200_000 + at), "auth_user": "",
        }  # fmt: skip
        phone: dict[str, Any] = {
            "id": phone_id, "account_id": account_id, "mac": f"{block}{at:06x}", "vendor": vendor, "model": model,
            "label": f"{chance.choice(KINDS)} {chance.randrange(100_000)}",
            "location_id": None if at % 50 == 0 else locations[at % len(locations)], "settings": {},
        }  # fmt: skip
        key = {"account_id": account_id, "phone_id": phone_id, "key": 1, "line_id": line_id}
        yield line | stamps, phone | _told(chance, at, now) | stamps, key


def _told(chance: random.Random, at: int, now: dt.datetime) -> dict[str, Any]:
    """What the phone's fetches have left."""
    status = chance.choices(list(STATUSES), list(STATUSES.values()))[0]
    has_fetched = status != "never_booted"
    fetched_at = now - dt.timedelta(seconds=chance.randrange(21 * 86_400)) if has_fetched else None
    return {
        "status": status, "last_fetch_at": fetched_at, "fetched_revision": 1 if has_fetched else None,
        "last_ip": f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}" if has_fetched else None,
        "last_user_agent": "Yealink SIP-T46U 108.86.0.20" if has_fetched else None,
        "firmware": f"108.86.0.{chance.randrange(30)}" if has_fetched else None,
        "straggled_at": fetched_at if at % 1000 == 7 else None,
        "no_location_at": now if at % 500 == 3 else None,
    }  # fmt: skip
