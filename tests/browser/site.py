"""A whole admin site for browser tests: the real application on a loopback port, a real SQLite file, a small SIP side.

`Site.fill` gives it a year of life in a second: locations, phones that booted and one that did not, a 911 that was
answered by the second trunk, a 933, and a call from nowhere.
"""

import datetime as dt
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from admin.app import make_admin
from admin.context import PASSWORDS
from engine import crypto
from engine.accounts import operations
from engine.audit import views
from engine.audit.events import Event
from engine.audit.record import SYSTEM, Actor, record
from engine.audit.views import ViewFields
from engine.config import Config
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.e911 import sites
from engine.ids import new_id
from engine.models import (
    Account,
    Anomaly,
    CallAttempt,
    CallbackCall,
    EmergencyCall,
    Location,
    Notification,
    Phone,
    PhoneStatus,
    ProvisioningEvent,
    Role,
    Trunk,
    User,
)  # fmt: skip
from engine.provisioning import phones
from tests.factories import (
    add_confirmed_location,
    add_line,
    add_location,
    add_network,
    add_number,
    add_pbx,
    add_phone,
    add_sighting,
    add_trunk,
    fresh_database,
)
from tests.standin_edge import StandInEdge

EMAIL = "owner@example.com"
PASSWORD = "correct horse battery staple 42"
INVITE = """INVITE sip:911@carrier.example SIP/2.0
Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK-callpoint-1
Max-Forwards: 69
From: "Front desk" <sip:101@pbx.example>;tag=a1
To: <sip:911@pbx.example>
Call-ID: 8f2c@pbx.example
CSeq: 1 INVITE
Proxy-Authorization: Digest username="carrier-user", response="6629fae49393a05397450978507c4ef1"
P-Asserted-Identity: <sip:+15185550101@callpoint>
Geolocation: <cid:location@callpoint>
Content-Length: 0
"""


@dataclass
class Site:
    """A running site and how to get in. `url` has no slash at its end."""

    url: str
    database: Database
    keys: KeyRing
    edge: StandInEdge
    app: web.Application
    account_id: str = ""
    setup_key: str = ""
    email: str = EMAIL
    password: str = PASSWORD
    ids: dict[str, str] = field(default_factory=dict)

    async def new_setup_link(self) -> str:
        async with self.database.sessions.begin() as session:
            key = await operations.new_setup_link(session)
        return f"{self.url}/setup?k={key}"

    async def add_owner(self) -> None:
        """An account with its owner, as the set-up page makes them."""
        password_hash = await self.app[PASSWORDS].hash(PASSWORD)
        async with self.database.sessions.begin() as session:
            account = await operations.create_account(
                session, SYSTEM, "Acme Dental", EMAIL, password_hash, "Olive Owner"
            )
            self.account_id = account.id

    async def add_user(self, email: str, role: Role) -> None:
        """Somebody else in the account, with the owner's password."""
        password_hash = await self.app[PASSWORDS].hash(PASSWORD)
        async with self.database.sessions.begin() as session:
            account = await session.get(Account, self.account_id)
            assert account is not None
            fields = operations.UserFields(email, "Somebody", role)
            await operations.create_user(session, SYSTEM, account, fields, password_hash)

    async def fill(self) -> None:
        """Everything a page can show. Needs `add_owner`."""
        async with self.database.sessions.begin() as session:
            account = await session.get(Account, self.account_id)
            assert account is not None
            await _fill(self, session, account)


@asynccontextmanager
async def open_site(folder: Path, *, host: str = "127.0.0.1") -> AsyncIterator[Site]:
    """The admin application on a free loopback port with an empty database of its own in that folder."""
    keys = crypto.create(folder / "keys.toml")
    database = await fresh_database(folder / "callpoint.db", keys)
    edge = StandInEdge()
    app = make_admin(Config(core={"data_dir": folder}), keys, database, edge)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    with socket.create_server((host, 0)) as listener:
        await web.SockSite(runner, listener).start()
        site = Site(f"http://{host}:{listener.getsockname()[1]}", database, keys, edge, app)
        try:
            yield site
        finally:
            await runner.cleanup()
            await database.close()


async def _fill(site: Site, session: AsyncSession, account: Account) -> None:
    actor = Actor("user", "user_seed", EMAIL, "192.0.2.44", account.id, "Olive Owner", "owner")
    headquarters = await add_location(session, account, notification_recipients=["security@example.com"])
    warehouse = await add_location(
        session, account, name="Warehouse", status="validated", validated_at=utc_now(),
        civic_address={"country": "US", "A1": "NY", "A3": "Troy", "HNO": "7", "RD": "River", "PC": "12180"},
    )  # fmt: skip
    await add_location(session, account, name="Home office", civic_address={"country": "US"})
    await add_network(session, headquarters, "10.4.12.0/24")
    await add_network(session, headquarters, "001a2b3c4d5e", kind="bssid")
    await add_network(session, headquarters, "001a2b3c4d00/gi1/0/12", kind="switch_port")
    held_by = {"pbx_id": None, "sip_user": "102", "extension": "102", "name": "Back office", "call": "call_seed"}
    for at in range(3):
        until = utc_now() + dt.timedelta(hours=2) if at == 0 else None
        await add_number(
            session, account, f"+151855501{at}0", kind="elin", location_id=headquarters.id, held_until=until,
            held_by=held_by if until else None,
        )  # fmt: skip
    await add_number(session, account, "+15185550190", kind="elin", location_id=warehouse.id)
    await sites.add_recipient(session, actor, account, "frontdesk@example.com")
    await sites.add_recipient(session, actor, account, "oncall@example.com")
    await add_pbx(session, account, name="Office PBX", sources=["192.0.2.10/32", "10.0.0.0/8"])
    first = await add_trunk(session, account, name="Carrier one", host="sip.one.example", is_up=False)
    second = await add_trunk(session, account, name="Carrier two", host="sip.two.example", priority=20, is_up=True)
    await phones.generate_token(session, actor, account, site.keys)
    desk = await _phones(site, session, account, headquarters)
    await _calls(site, session, account, desk, headquarters, warehouse, first, second)
    await add_number(session, account, "+15185550101", line_id=site.ids["line"])
    await add_sighting(session, desk, chassis="001a2b3c4d00", port="gi1/0/12", ip="10.4.12.31")
    await add_confirmed_location(session, headquarters, phone_id=desk.id, network="203.0.113.7/32")
    call = await session.get(EmergencyCall, site.ids["call"])
    assert call is not None
    session.add(
        CallbackCall(
            id=new_id("callback"), account_id=account.id, emergency_call_id=call.id, number="+15185550100",
            from_uri="sip:+15185550911@sip.two.example", target="sip:101@192.0.2.10", psap=True, outcome="answered",
            status_code=200, received_at=utc_now(), ended_at=utc_now(),
        )
    )  # fmt: skip
    record(session, actor, Event.CALLBACK_CREATE, call)
    denied = replace(actor, ip="2001:db8::77", type="api_key", id="api_key_seed", name="monitoring")
    for number in range(30):
        record(session, replace(actor, ip=f"10.0.{number}.77"), Event.LOCATION_LIST)
    view = await views.create_view(session, actor, account.id, ViewFields("Refused", "outcome=denied", is_shared=True))
    hint = Anomaly(
        id=new_id("anomaly"), account_id=account.id, kind="mass_deletion", key="mass_deletion:seed", at=utc_now(),
        actor_id="api_key_seed", actor_name="monitoring", ip="2001:db8::77", query="action=delete",
        headline="monitoring deleted 44 things within ten minutes",
        evidence=["40 of phone, 4 of line.", "The most that anybody here deleted in ten minutes was 2."],
    )  # fmt: skip
    session.add(hint)
    record(session, SYSTEM, Event.ANOMALY_CREATE, hint)
    site.ids |= {"audit_view": view.id, "anomaly": hint.id}
    record(session, denied, Event.USER_CREATE, outcome="denied", status=403, reason="scope_missing")
    record(session, denied, Event.TRUNK_UPDATE, outcome="failure", status=422, reason="invalid")


async def _phones(site: Site, session: AsyncSession, account: Account, location: Location) -> Phone:
    front = await add_line(session, account, "101", display_name="Front desk", callback_number="+15185550101")
    back = await add_line(session, account, "102", display_name="Back office")
    now = utc_now()
    desk = await add_phone(
        session, account, front, label="Reception", location_id=location.id, status=PhoneStatus.CURRENT,
        last_fetch_at=now, last_ip="10.4.12.31", firmware="108.86.0.20", fetched_revision=9,
        last_user_agent="Yealink SIP-T46U 108.86.0.20 00:15:65:4a:a9:37",
    )  # fmt: skip
    waiting = await add_phone(session, account, back, mac="0004f2aabb01", vendor="poly", model="VVX450", label="Lab")
    site.ids |= {"phone": desk.id, "waiting_phone": waiting.id, "line": front.id, "location": location.id}
    fetches = (
        ("y000000000108.boot", 404, "denied"), ("00156554aa937.boot", 200, "fetch"), ("0015654aa937.cfg", 200, "fetch"),
        ("0015654aa937.cfg", 304, "not_modified"),
    )  # fmt: skip
    for at, (name, status, kind) in enumerate(fetches):
        session.add(
            ProvisioningEvent(
                id=new_id("fetch"), account_id=account.id, phone_id=desk.id, kind=kind, file=name, method="GET",
                status_code=status, size_bytes=4210 if status == 200 else 0, duration_us=1840, ip="10.4.12.31",
                user_agent="Yealink SIP-T46U 108.86.0.20 00:15:65:4a:a9:37",
                at=now + dt.timedelta(milliseconds=180 * at),
            )
        )  # fmt: skip
    return desk


async def _calls(
    site: Site, session: AsyncSession, account: Account, desk: Phone, headquarters: Location, warehouse: Location,
    first: Trunk, second: Trunk,
) -> None:  # fmt: skip
    now = utc_now()
    place = {"id": headquarters.id, "name": headquarters.name, "civic_address": headquarters.civic_address, "geo": None}
    caller = {
        "name": "Front desk", "extension": "101", "sip_user": "101", "callback_number": "+15185550101",
        "phone_id": desk.id, "line_id": None, "mac": desk.mac, "source_ip": "10.4.12.31", "uri": "sip:101@pbx.example",
    }  # fmt: skip
    verdict = [
        {
            "source": "subnet",
            "said": "Headquarters",
            "age_s": 86400,
            "taken": True,
            "why": "10.4.12.31 is in 10.4.12.0/24",
        },
        {"source": "phone", "said": "Headquarters", "age_s": None, "taken": False, "why": "a better source answered"},
        {"source": "line", "said": None, "age_s": None, "taken": False, "why": "the line has no location"},
    ]
    common = {
        "account_id": account.id, "peer": {"transport": "udp", "ip": "192.0.2.10", "port": 5060}, "invite": INVITE,
        "recorded_at": now, "verdict": verdict, "caller": caller, "location": place, "location_source": "subnet",
    }  # fmt: skip
    emergency = EmergencyCall(
        id=new_id("call"), call_id="8f2c@pbx.example", dialed="911", kind="emergency", received_at=now,
        sent_at=now + dt.timedelta(milliseconds=1), trunk_id=second.id, outcome="answered", status_code=200,
        answered_at=now + dt.timedelta(milliseconds=2900), ended_at=now + dt.timedelta(seconds=95), **common,
    )  # fmt: skip
    test = EmergencyCall(
        id=new_id("call"), call_id="1a@pbx.example", dialed="933", kind="test", received_at=now - dt.timedelta(hours=3),
        sent_at=now - dt.timedelta(hours=3), trunk_id=second.id, outcome="answered", status_code=200,
        answered_at=now - dt.timedelta(hours=3) + dt.timedelta(seconds=1), **common,
    )  # fmt: skip
    lost = EmergencyCall(
        id=new_id("call"), call_id="2b@pbx.example", dialed="911", kind="emergency",
        received_at=now - dt.timedelta(days=2), sent_at=now - dt.timedelta(days=2), outcome="failed",
        status_code=503, flags=["location_unknown"],
        **common | {"location": None, "location_source": "none", "caller": caller | {"name": ""}},
    )  # fmt: skip
    for call in (emergency, test, lost):
        session.add(call)
        record(session, SYSTEM, Event.EMERGENCY_CALL_CREATE, call, account_id=account.id)
        await session.flush()
    for number, (trunk, start, end, status, outcome) in enumerate(
        ((first, 1, 2001, None, "timeout"), (second, 2003, 2900, 200, "answered")), 1
    ):
        session.add(
            CallAttempt(
                emergency_call_id=emergency.id, number=number, trunk_id=trunk.id, trunk_name=trunk.name,
                hop=f"udp:{trunk.host}:5060", with_location=True, started_at=now + dt.timedelta(milliseconds=start),
                ended_at=now + dt.timedelta(milliseconds=end), status_code=status, outcome=outcome,
            )
        )  # fmt: skip
    for recipient, because, state in (
        ("frontdesk@example.com", "account", "sent"), ("oncall@example.com", "account", "failed"),
        ("security@example.com", "location", "waiting"),
    ):  # fmt: skip
        session.add(
            Notification(
                id=new_id("notification"), account_id=account.id, emergency_call_id=emergency.id, recipient=recipient,
                because=because, subject="911 dialed at Headquarters",
                body="911 was dialed.\n\nCaller: Front desk (101)\n",
                state=state, tries=2 if state == "failed" else 0, created_at=now, next_try_at=now,
                last_error="550 no such mailbox" if state == "failed" else None,
                sent_at=now + dt.timedelta(milliseconds=240) if state == "sent" else None,
            )
        )  # fmt: skip
    site.ids |= {"call": emergency.id, "test_call": test.id, "lost_call": lost.id}


async def user_of(site: Site) -> User | None:
    async with site.database.sessions() as session:
        return await session.get(User, site.ids.get("user", ""))
