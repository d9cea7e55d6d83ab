"""An admin port to test against: the real application on a real database, with an edge that notes what it is asked."""

import asyncio
import datetime as dt
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import BaseRunner
from sqlalchemy import func, select

from admin.app import make_admin
from admin.context import DRY_RUNS, INDEX
from admin.server import AdminRunner
from engine.accounts import operations, store
from engine.accounts.keys import digest, mint_cookie
from engine.audit.record import Actor
from engine.config import Admin, Config, Core, Mail
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.ids import new_id
from engine.models import Account, AuditEntry, Role, Session, User
from engine.provisioning import fleet
from engine.provisioning.dryrun import DryRuns
from engine.provisioning.fleet import Change
from tests.standin_edge import StandInEdge

CLI = Actor("cli", "cli", "tests", "local")
PASSWORD = "violet tractor hums beneath nine lakes"
CIVIC = {"country": "US", "A1": "NY", "A3": "Albany", "HNO": "120", "RD": "Washington", "STS": "Ave", "PC": "12203"}


@dataclass(slots=True)
class Site:
    """One account with its owner and an all-powerful key."""

    account: Account
    owner: User
    key: str

    @property
    def auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


@dataclass(slots=True)
class AdminPort:
    client: TestClient[Any, Any]
    database: Database
    keys: KeyRing
    edge: StandInEdge

    async def site(self, name: str = "Acme Dental", email: str = "owner@acme.example", *scopes: str) -> Site:
        async with self.database.sessions.begin() as session:
            account = await operations.create_account(session, CLI, name, email, None, "Olga Owner")
        async with self.database.sessions.begin() as session:
            made = await operations.create_api_key(session, CLI, account, name="tests", scopes=scopes or ("*",))
            owner = await store.user_by_email(session, email)
        assert owner is not None
        return Site(account, owner, made.clear)

    async def key(self, site: Site, *scopes: str) -> dict[str, str]:
        async with self.database.sessions.begin() as session:
            made = await operations.create_api_key(session, CLI, site.account, name="narrow", scopes=scopes)
        return {"Authorization": f"Bearer {made.clear}"}

    async def browser(self, site: Site, role: Role = Role.OWNER, *, proven_ago_s: float = 0.0) -> dict[str, str]:
        """A signed-in browser's headers."""
        cookie = mint_cookie()
        now = utc_now()
        async with self.database.sessions.begin() as session:
            user = site.owner
            if role is not Role.OWNER:
                wished = operations.UserFields(f"{new_id('user')}@acme.example", "Somebody", role)
                user = await operations.create_user(session, CLI, site.account, wished, None)
                await session.flush()
            session.add(
                Session(
                    id=new_id("session"), user_id=user.id, account_id=site.account.id, cookie_hash=digest(cookie),
                    method="password", ip="127.0.0.1", created_at=now, seen_at=now,
                    proven_at=now - dt.timedelta(seconds=proven_ago_s),
                )
            )  # fmt: skip
        return {"Cookie": f"callpoint_session={cookie}", "Sec-Fetch-Site": "same-origin"}

    async def entries(self, chain: str, *, after: int = 0) -> list[AuditEntry]:
        """The entries of a chain, oldest first, behind that number of it."""
        async with self.database.sessions() as session:
            query = select(AuditEntry).where(AuditEntry.chain == chain, AuditEntry.seq > after).order_by(AuditEntry.seq)
            return list((await session.scalars(query)).all())

    async def head(self, chain: str) -> int:
        """The number of the newest entry of a chain; 0: it has none."""
        async with self.database.sessions() as session:
            return await session.scalar(select(func.max(AuditEntry.seq)).where(AuditEntry.chain == chain)) or 0

    async def ended(self, site: Site, run_id: str) -> dict[str, Any]:
        """A dry run, once it has ended."""
        async with asyncio.timeout(60):
            while True:
                answer = await self.call("GET", f"/api/v1/rollouts/dry-run/{run_id}", site.auth)
                run: dict[str, Any] = await answer.json()
                if run["state"] != "running":
                    return run
                await asyncio.sleep(0.02)

    async def call(self, method: str, path: str, headers: dict[str, str], **more: Any) -> ClientResponse:
        return await self.client.request(method, path, headers=headers | more.pop("extra", {}), **more)


@asynccontextmanager
async def away(database: Database) -> AsyncIterator[None]:
    """The database's file is gone: a folder stands in its place. It is back at the end."""
    path = database.sqlite_path
    assert path is not None
    await database.engine.dispose()
    path.rename(path.with_suffix(".away"))
    path.mkdir()
    try:
        yield
    finally:
        await database.engine.dispose()
        for thread in threading.enumerate():  # a refused connection's thread still has a word for this loop
            if "_connection_worker" in thread.name:
                await asyncio.to_thread(thread.join, 5)
        path.rmdir()
        path.with_suffix(".away").rename(path)


def in_a_thread(change: Change, provisioning_url: str) -> Executor:
    """Dry runs without a process of their own, which takes longer to start than these tests to run."""
    return ThreadPoolExecutor(1, initializer=fleet.prepare_worker, initargs=(change, provisioning_url))


class _Server(TestServer):
    """As the product listens: a client that hangs up does not stop what it asked for."""

    async def _make_runner(self, **_options: Any) -> BaseRunner:
        return AdminRunner(self.app)


async def open_port(database: Database, keys: KeyRing, *, mail: Mail | None = None, **admin: Any) -> AdminPort:
    edge = StandInEdge()
    assert database.sqlite_path is not None
    core = Core(data_dir=database.sqlite_path.parent / "data")  # where uploads go
    app = make_admin(Config(core=core, admin=Admin(**admin), mail=mail or Mail()), keys, database, edge)
    app[DRY_RUNS] = DryRuns(database, app[INDEX], make_executor=in_a_thread)
    client = TestClient(_Server(app))
    await client.start_server()
    return AdminPort(client, database, keys, edge)
