"""A whole `callpoint run` with one account in it, made through its own doors, and pinned to a core."""

import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from tests import peers
from tests.bench import machine
from tests.node import Node

CIVIC = {
    "country": "US", "A1": "NY", "A3": "Albany", "HNO": "120", "RD": "Washington", "STS": "Ave", "PC": "12203",
    "FLR": "4", "ROOM": "412",
}  # fmt: skip
MAC, OUI, MODEL = "0015654aa937", "001565", "T46U"
MODEL_AGENT = "Yealink SIP-T46U 108.86.0.20"
USER_AGENT = f"{MODEL_AGENT} 00:15:65:4a:a9:37"
NOBODY = (peers.CARRIER_IP, 9)
RECIPIENT = "desk@example.com"
# As an operator's shell has it. Any text but none, "0" too, is asyncio's debug mode: three times the CPU. Without
# compiled files every start would compile all sources again.
PLAIN = {"PYTHONASYNCIODEBUG": "", "PYTHONDONTWRITEBYTECODE": ""}


@dataclass(slots=True)
class Site:
    """The node, where its phones' port listens, and the path of the first phone's file."""

    node: Node
    path: str = ""
    folder: str = ""
    paths: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        assert self.node.process is not None
        return self.node.process.pid

    @property
    def phones(self) -> tuple[str, int]:
        at = urlsplit(self.node.phones)
        return at.hostname or peers.NODE_IP, at.port or 0

    def pin(self, core: int) -> None:
        """Every thread of every process of the node onto one core; threads made later inherit it."""
        machine.pin(self.pid, core)


@asynccontextmanager
async def running_site(
    folder: Path, environment: Mapping[str, str] = MappingProxyType({}), *, callee: tuple[str, int] = NOBODY
) -> AsyncIterator[Site]:
    """A node whose account has a PBX at `PBX_IP` (default route: `callee`), that callee as trunk, and a phone."""
    async with Node(folder, PLAIN | dict(environment)) as node:
        await node.set_up()
        location = await node.api("POST", "locations", {"name": "Headquarters", "civic_address": CIVIC})
        await node.api("POST", "notification-recipients", {"email": RECIPIENT})
        route = f"sip:{callee[0]}:{callee[1]}"
        pbx = {"name": "PBX", "sources": [f"{peers.PBX_IP}/32"], "registrar_host": "pbx.example.com"}
        place = {"default_location_id": location["id"], "default_route": route}
        await node.api("POST", "pbxs", pbx | place)
        await node.api("POST", "trunks", {"name": "Carrier", "host": callee[0], "port": callee[1], "transport": "udp"})
        line = {"extension": "101", "sip_user": "101", "display_name": "Ann Lee", "secret": "s3cret-of-101"}
        made = await node.api("POST", "lines", line | {"callback_number": "+15185550101"})
        phone = {"vendor": "yealink", "model": MODEL, "mac": MAC, "label": "Ann", "location_id": location["id"]}
        await node.api("POST", "phones", phone | {"lines": [made["id"]]})
        url = (await node.api("POST", "provisioning-token/rotate"))["provisioning_url"]
        site = Site(node, folder=urlsplit(url).path.rstrip("/"))
        site.path = f"{site.folder}/{MAC}.cfg"
        yield site


def add_phones(site: Site, count: int) -> list[str]:
    """Clone the phone, with a line of its own each, straight into the database; returns their files' paths."""
    database = site.node.folder / "data" / "callpoint.db"
    macs = [f"{OUI}{number:06x}" for number in range(count)]
    with sqlite3.connect(database, timeout=10) as connection:
        for table, id_of, also in (
            ("line", "line_bench{}", {"extension": "{}", "sip_user": "{}"}),
            ("phone", "phone_bench{}", {}),
        ):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            kept = connection.execute(f"SELECT {', '.join(columns)} FROM {table} LIMIT 1").fetchone()
            rows = []
            for number, mac in enumerate(macs):
                row = dict(zip(columns, kept, strict=True)) | {"id": id_of.format(number)}
                row |= {name: text.format(1000 + number) for name, text in also.items()}
                row |= {"mac": mac} if "mac" in row else {}
                rows.append(tuple(row.values()))
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
        account = connection.execute("SELECT account_id FROM phone LIMIT 1").fetchone()[0]
        keys = [(account, f"phone_bench{number}", 1, f"line_bench{number}") for number in range(count)]
        connection.executemany("INSERT INTO phone_line (account_id, phone_id, key, line_id) VALUES (?, ?, ?, ?)", keys)
    return [f"{site.folder}/{mac}.cfg" for mac in macs]
