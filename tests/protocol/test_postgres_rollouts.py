"""Copies of fetched files, duties, retention, dry runs and roll-outs on PostgreSQL, where more than one node writes."""

import asyncio
import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store_storage
from engine.audit.record import SYSTEM
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.models import FetchedFile, Phone, ProvisioningEvent, Rollout
from engine.provisioning import fleet, lease, retention, rollout, settings, vendors
from engine.provisioning.dryrun import DryRuns
from engine.provisioning.fetched import LastFetched
from engine.provisioning.fetches import Fetch, FetchKind
from engine.provisioning.fleet import Change, ChangeKind
from engine.provisioning.index import open_index
from engine.provisioning.overrides import Examined
from engine.provisioning.render import Renderer
from engine.provisioning.rollout import Group, RolloutFields
from engine.provisioning.rollout_watch import RolloutWatch
from tests.factories import add_account, add_line, add_phone
from tests.postgres import until_somebody_waits

pytestmark = pytest.mark.enable_socket
NTP = Change(ChangeKind.SETTINGS, "account", {"ntp_server": "ntp.example.com"})


async def well(_rollout: Rollout) -> Examined:
    """Nothing is wrong with it."""
    return Examined()


async def asked(_account_id: str, _phones: object) -> None:
    """Nobody is there to be asked."""


async def test_a_roll_out_its_dry_run_and_its_watch_on_postgresql(postgres: Database, keys: KeyRing) -> None:
    """P-15, decision 13: the same as on SQLite; of two nodes that want a duty one has it."""
    async with postgres.sessions.begin() as session:
        account = await add_account(session)
        phones = [
            await add_phone(session, account, await add_line(session, account, f"10{at}"), mac=f"0015650000{at:02}")
            for at in range(3)
        ]
    index = open_index(postgres, keys)

    def here(change: Change, address: str) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, initializer=fleet.prepare_worker, initargs=(change, address))

    run = DryRuns(postgres, index, make_executor=here).start(
        account.id, NTP, provisioning_url="https://phones.example.com/p/[token]/", asked_by="Olga"
    )
    assert run.task is not None
    await asyncio.wait_for(run.task, 30)
    assert (run.state, run.changed, len(run.groups)) == ("done", 3, 1), run.fault
    async with postgres.sessions.begin() as session:
        wished = RolloutFields(NTP, Group(phones=(phones[0].id,)))
        row = await rollout.start_rollout(session, SYSTEM, account, wished)
    found = [await index.phone(phone.id) for phone in phones]
    assert [one.settings["ntp_server"] for one in found if one] == ["ntp.example.com", "pool.ntp.org", "pool.ntp.org"]
    now = utc_now()
    async with postgres.sessions.begin() as session:
        assert await lease.take(session, "rollouts", "another node", now, for_s=30)
    await RolloutWatch(postgres, asked, well).look(now)
    later = now + dt.timedelta(seconds=31)
    async with postgres.sessions.begin() as session:
        session.add(
            ProvisioningEvent(
                id="fetch_1", account_id=account.id, phone_id=phones[0].id, kind="failed",
                file="001565000000.cfg", method="GET", status_code=503, ip="192.0.2.1",
                evidence={"sentences": ["911 would wait."]}, at=utc_now(),
            )
        )  # fmt: skip
    await RolloutWatch(postgres, asked, well).look(later)
    async with postgres.sessions() as session:
        ended = await session.get(Rollout, row.id)
    assert ended is not None
    assert (ended.state, ended.reason.endswith("911 would wait.")) == ("rolled_back", True)


async def test_of_two_roll_outs_of_one_target_begun_at_once_one_stands(postgres: Database) -> None:
    """P-15: two nodes, or two people, that begin in the same instant: the second is told of a collision, and which
    change the phones get is never in doubt.
    """
    async with postgres.sessions.begin() as session:
        account = await add_account(session)
        line = await add_line(session, account, "101")
        phones = [await add_phone(session, account, line, mac=f"0015650000{at:02}") for at in range(2)]

    async def begin(session: AsyncSession, phone: Phone) -> None:
        await rollout.start_rollout(session, SYSTEM, account, RolloutFields(NTP, Group(phones=(phone.id,))))
        await session.flush()

    async def begin_too() -> None:
        async with postgres.sessions.begin() as session:
            await begin(session, phones[1])

    async with postgres.sessions.begin() as session:
        await begin(session, phones[0])
        second = asyncio.create_task(begin_too())
        await until_somebody_waits(postgres)
    with pytest.raises(IntegrityError, match="ix_rollout_running"):
        await second
    async with postgres.sessions() as session:
        assert [row.canary for row in await session.scalars(select(Rollout))] == [[phones[0].id]]


async def test_copies_and_retention_on_postgresql(postgres: Database, keys: KeyRing) -> None:
    """P-15, decision 11: a copy is replaced in place; old events go, and the newer stay."""
    async with postgres.sessions.begin() as session:
        account = await add_account(session)
        phone = await add_phone(session, account, await add_line(session, account, "201"), mac="001565000199")
    index, profile = open_index(postgres, keys), vendors.known().profiles["yealink"]
    last = LastFetched(postgres, Renderer(vendors.known()))
    record = await index.phone(phone.id)
    rule = profile.file_rule("001565000199.cfg")
    assert record is not None
    assert rule is not None
    for etag in ('"one"', '"two"'):
        config = settings.phone_config(record, profile, "https://phones.example.com/p/x/")
        last.rendered(etag, profile, rule, config, {})
        last.note(
            [Fetch(FetchKind.FETCH, "001565000199.cfg", "GET", 200, "", "", account.id, phone.id, phone.mac, etag=etag)]
        )
        await last.write_waiting()
    async with postgres.sessions() as session:
        copies = (await session.scalars(select(FetchedFile).where(FetchedFile.phone_id == phone.id))).all()
    assert [copy.etag for copy in copies] == ['"two"']
    event = {
        "account_id": account.id, "kind": "fetch", "file": "a.cfg", "method": "GET", "status_code": 200,
        "ip": "192.0.2.1", "evidence": {},
    }  # fmt: skip
    now = utc_now()
    async with postgres.sessions.begin() as session:
        old = [{**event, "id": f"fetch_old_{at:04}", "at": now - dt.timedelta(days=99)} for at in range(450)]
        await session.execute(insert(ProvisioningEvent), [*old, {**event, "id": "fetch_z", "at": now}])
    assert await retention.Retention(postgres, store_storage.fetch_log_days).sweep(now) == 450
    async with postgres.sessions() as session:
        left = (await session.scalars(select(ProvisioningEvent.id).where(ProvisioningEvent.file == "a.cfg"))).all()
        assert await session.get(Phone, phone.id) is not None
    assert "fetch_z" in left
    assert not any(event_id.startswith("fetch_old") for event_id in left)
