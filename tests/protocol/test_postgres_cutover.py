"""Cutting over on PostgreSQL: a node that dies anywhere in it, another that takes over; and refusals of one timing."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import event, func, select, update

from engine.audit.record import SYSTEM, open_audited
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.errors import Conflict
from engine.models import Account, AuditEntry, Lease, Phone, RetiredToken
from engine.provisioning import cutover, phones, tokens
from engine.provisioning.index import SessionIndex
from engine.provisioning.mover import DUTY, Mover
from tests.factories import add_account, add_phone
from tests.protocol.test_provisioning import client as http_client
from tests.protocol.test_provisioning import site as phones_site
from tests.protocol.test_provisioning import times_of_refusals

pytestmark = pytest.mark.enable_socket
client, site = http_client, phones_site  # the fixtures of the phones' port, here over PostgreSQL
FLEET = ("805ec0000001", "805ec0000002")
MOST_STEPS = 80


class Died(Exception):
    """The node's process has ended here."""


@pytest.fixture
async def database(postgres: Database) -> Database:
    """What the fixtures of the phones' port run on."""
    return postgres


@dataclass(slots=True)
class Move:
    """An account whose phones all ask by the next URL, so that it may be cut over."""

    database: Database
    keys: KeyRing
    account_id: str
    old: str
    new: str

    async def alive(self) -> set[str]:
        """Which of the two URLs opens the phones' files, asked as the phones' port does."""
        index = SessionIndex(self.database, self.keys)
        found = {name: [await index.find(tokens.index(self.keys, getattr(self, name)), mac) for mac in FLEET]
                 for name in ("old", "new")}  # fmt: skip
        assert all(len({one is None for one in answers}) == 1 for answers in found.values()), "all phones or none"
        return {name for name, answers in found.items() if answers[0] is not None}

    async def cuts(self) -> int:
        """Entries of the audit log that tell of a cut."""
        query = select(func.count()).where(
            AuditEntry.chain == self.account_id, AuditEntry.event == "provisioning_token.cut"
        )
        async with self.database.sessions() as session:
            return await session.scalar(query) or 0

    async def retired(self) -> int:
        query = select(func.count()).where(
            RetiredToken.account_id == self.account_id, RetiredToken.token_index == tokens.index(self.keys, self.old)
        )
        async with self.database.sessions() as session:
            return await session.scalar(query) or 0


async def moved(database: Database, keys: KeyRing) -> Move:
    async with database.sessions.begin() as session:
        account = await add_account(session)
        old = await phones.generate_token(session, SYSTEM, account, keys)
        for mac in FLEET:
            await add_phone(session, account, mac=mac)
    async with database.sessions.begin() as session:
        again = await session.get(Account, account.id)
        assert again is not None
        new = await cutover.begin(session, SYSTEM, again, keys)
    async with database.sessions.begin() as session:
        told = update(Phone).where(Phone.account_id == account.id)
        await session.execute(told.values(fetched_token_index=tokens.index(keys, new), last_fetch_at=utc_now()))
    return Move(database, keys, account.id, old, new)


async def nobody(_account_id: str, _phones: Sequence[str]) -> None:
    """Nobody has to be asked: all have moved."""


@contextlib.asynccontextmanager
async def node_that_dies(url: str, keys: KeyRing, at: int) -> AsyncIterator[tuple[Mover, list[int]]]:
    """A node whose connection breaks and whose work ends before its `at`-th statement or commit. The list holds how
    many it came to.
    """
    database = open_audited(url, keys)
    steps = [0]

    def step(connection: Any) -> None:
        steps[0] += 1
        if steps[0] == at:
            connection.connection.dbapi_connection.driver_connection.terminate()  # as for a dead process
            raise Died

    def on_statement(connection: Any, *_more: Any) -> None:
        step(connection)

    event.listen(database.engine.sync_engine, "before_cursor_execute", on_statement)
    event.listen(database.engine.sync_engine, "commit", step)
    try:
        yield Mover(database, nobody), steps
    finally:
        with contextlib.suppress(Exception):
            await database.close()


async def let_the_lease_run_out(database: Database) -> None:
    async with database.sessions.begin() as session:
        await session.execute(update(Lease).where(Lease.name == DUTY).values(until=utc_now() - dt.timedelta(seconds=1)))


async def test_a_node_that_dies_at_any_step_of_a_cut_leaves_a_url_that_works(
    postgres_url: str, database: Database, keys: KeyRing
) -> None:
    """P-04: before every statement and every commit of the cut-over: never both URLs dead, never the old one alive once
    the cut is told; another node waits for the lease and then cuts, once.
    """
    came_to_the_end = 0
    for at in range(1, MOST_STEPS):
        move = await moved(database, keys)
        async with node_that_dies(postgres_url, keys, at) as (east, steps):
            with contextlib.suppress(Exception):
                await east.move_on()
        is_cut = await move.cuts() == 1
        assert await move.alive() == ({"new"} if is_cut else {"old", "new"}), at
        assert await move.retired() == int(is_cut), at
        west = Mover(database, nobody)
        async with database.sessions() as session:
            until = await session.scalar(select(Lease.until).where(Lease.name == DUTY))
        if until is not None and until > utc_now() and not is_cut:
            await west.move_on()
            assert await move.cuts() == 0, f"the lease of the node that died at {at} still holds"
        await let_the_lease_run_out(database)
        await west.move_on()
        assert (await move.alive(), await move.cuts(), await move.retired()) == ({"new"}, 1, 1), at
        await let_the_lease_run_out(database)
        if steps[0] < at:
            came_to_the_end = at
            break
    assert came_to_the_end > 10, "the cut-over has more steps than that"


async def test_of_two_nodes_and_a_person_who_cut_at_once_one_does(
    nodes: tuple[Database, Database], keys: KeyRing
) -> None:
    """P-04: one entry, one retired token; whoever is late is told that there is nothing to cut over."""
    database, other = nodes
    for _ in range(5):
        move = await moved(database, keys)

        async def by_hand(move: Move) -> bool:
            try:
                async with other.sessions.begin() as session:
                    account = await session.get(Account, move.account_id)
                    assert account is not None
                    await cutover.cut(session, SYSTEM, account)
            except Conflict:
                return False
            return True

        movers = [Mover(each, nobody) for each in nodes]
        await asyncio.gather(*(mover.move_on() for mover in movers), by_hand(move), by_hand(move))
        assert (await move.alive(), await move.cuts(), await move.retired()) == ({"new"}, 1, 1)
        await let_the_lease_run_out(database)


async def test_refusals_do_the_same_work_on_postgresql(site: Any, client: Any) -> None:
    """P-02: no timing class over the slower way to the database either; they lie within a factor of two."""
    times = await times_of_refusals(site, client)
    assert max(times.values()) < 2 * min(times.values()), times
