"""Changes that concern very many phones: noted by their commit, marked on the phones' rows behind it."""

import asyncio

import pytest
from sqlalchemy import func, select, update

from engine.audit import store_outdated
from engine.audit.record import SYSTEM
from engine.models import Account, OwedMark, Phone, PhoneStatus, Revision, Rollout, SettingsLevel
from engine.provisioning import cutover, levels, phones, store_rollouts
from engine.provisioning.fetches import Fetch, FetchKind
from engine.provisioning.fetchlog import FetchLog
from engine.provisioning.levels import LevelFields
from engine.provisioning.outdating import OwedMarking
from tests.factories import add_account, add_phone

PHONES = 7


@pytest.fixture(autouse=True)
def seven_are_many(monkeypatch):
    """As few as a test can make are very many here, and two are marked at a time."""
    monkeypatch.setattr(store_outdated, "AT_ONCE", 3)
    monkeypatch.setattr(store_outdated, "STEP", 2)


class Fleet:
    """Seven phones of an account, all current."""

    def __init__(self, database) -> None:
        self.database, self.log, self.marking = database, FetchLog(database), OwedMarking(database)
        self.account_id, self.ids = "", list[str]()

    async def begin(self) -> "Fleet":
        async with self.database.sessions.begin() as session:
            account = await add_account(session)
            rows = [await add_phone(session, account, mac=f"0015650000{at:02x}") for at in range(PHONES)]
        self.account_id, self.ids = account.id, sorted(row.id for row in rows)
        await self.fetched(await self.revision(), *self.ids)
        return self

    async def level(self, **settings) -> None:
        async with self.database.sessions.begin() as session:
            found = (await session.scalars(select(SettingsLevel))).first()
            if found is not None:
                await levels.update_level(session, SYSTEM, found, settings)
                return
            account = await session.get_one(Account, self.account_id)
            await levels.create_level(session, SYSTEM, account, LevelFields("account", settings=settings))

    async def fetched(self, revision: int, *ids: str) -> None:
        for phone_id in ids:
            fetch = Fetch(FetchKind.FETCH, "it.cfg", "GET", 200, "192.0.2.1", "", self.account_id, phone_id)
            self.log.note(fetch._replace(revision=revision), 1)
        await self.log.flush()

    async def revision(self) -> int:
        async with self.database.sessions() as session:
            return await session.scalar(select(Revision.value).where(Revision.account_id == self.account_id)) or 0

    async def stale(self) -> set[str]:
        async with self.database.sessions() as session:
            return set(await session.scalars(select(Phone.id).where(Phone.status == PhoneStatus.STALE)))

    async def owed(self) -> int:
        async with self.database.sessions() as session:
            return await session.scalar(select(func.count()).select_from(OwedMark)) or 0


@pytest.fixture
async def fleet(database):
    return await Fleet(database).begin()


async def test_a_level_that_concerns_very_many_phones_marks_them_behind_its_commit_some_at_a_time(fleet):
    """P-10, P-16: the writer is held for a note of which phones they are; each step marks some more."""
    assert await fleet.stale() == set()
    await fleet.level(vlan_id=20)
    assert (await fleet.stale(), await fleet.owed()) == (set(), PHONES)
    marked = []
    while await fleet.marking.step():
        marked.append(len(await fleet.stale()))
    assert marked[:4] == [2, 4, 6, 7]
    assert await fleet.owed() == 0
    await fleet.fetched(await fleet.revision(), *fleet.ids)
    assert await fleet.stale() == set()


async def test_what_a_phone_fetched_meanwhile_decides_by_its_revision(fleet):
    """P-16: new files fetched before the mark leave the phone current; old ones, written late, leave it stale."""
    before = await fleet.revision()
    await fleet.level(vlan_id=20)
    early, late, *rest = fleet.ids
    await fleet.fetched(await fleet.revision(), early)
    await fleet.fetched(before, late)
    while await fleet.marking.step():
        pass
    assert await fleet.stale() == {late, *rest}
    await fleet.fetched(before, late)  # once more, of before the change: not what it shall have
    assert late in await fleet.stale()


async def test_changes_in_a_row_owe_each_phone_one_mark_of_the_last_and_begin_no_phone_anew(fleet):
    """However often a level is changed, no more is owed than there are phones, and none is passed over for ever."""
    first = await fleet.revision()
    for vlan in (20, 21, 22):
        await fleet.level(vlan_id=vlan)
        await fleet.marking.step()
    assert len(await fleet.stale()) == 6
    assert await fleet.owed() <= PHONES
    while await fleet.marking.step():
        pass
    async with fleet.database.sessions() as session:
        assert set(await session.scalars(select(Phone.stale_revision))) == {first + 3}


async def test_phones_that_were_deleted_or_are_held_back_meanwhile_are_passed_over(fleet):
    await fleet.level(vlan_id=20)
    gone, held, *rest = fleet.ids
    async with fleet.database.sessions.begin() as session:
        await phones.delete_phone(session, SYSTEM, await session.get_one(Phone, gone))
        await session.execute(update(Phone).where(Phone.id == held).values(status=PhoneStatus.QUARANTINED))
    while await fleet.marking.step():
        pass
    assert await fleet.stale() == set(rest)
    assert await fleet.owed() == 0


async def test_a_published_roll_out_counts_phones_that_are_not_marked_yet(fleet):
    """P-15: the phones that have not got a published change are asked and counted, marked or not."""
    await fleet.level(vlan_id=20)
    async with fleet.database.sessions() as session:
        rollout = Rollout(account_id=fleet.account_id, kind="settings", target="account", state="published", canary=[])
        assert await store_rollouts.outdated(session, rollout) == PHONES
        assert list(await store_rollouts.concerned(session, rollout)) == fleet.ids
    await fleet.fetched(await fleet.revision(), fleet.ids[0])
    async with fleet.database.sessions() as session:
        assert await store_rollouts.outdated(session, rollout) == PHONES - 1


async def test_another_provisioning_url_for_very_many_phones_is_noted_too(fleet, keys):
    """P-03: a rotation of an account of any size holds the writer for a note of its phones."""
    async with fleet.database.sessions.begin() as session:
        account = await session.get_one(Account, fleet.account_id)
        await phones.generate_token(session, SYSTEM, account, keys)
        await phones.rotate_token(session, SYSTEM, account, keys)
    assert await fleet.owed() == PHONES
    while await fleet.marking.step():
        pass
    assert await fleet.stale() == set(fleet.ids)
    async with fleet.database.sessions.begin() as session:
        account = await session.get_one(Account, fleet.account_id)
        await cutover.begin(session, SYSTEM, account, keys, is_automatic=False)
    assert await fleet.owed() == 0  # all are stale already


async def test_a_node_marks_what_a_change_of_its_own_process_owes_without_being_asked(fleet):
    running = asyncio.create_task(fleet.marking.run())
    try:
        await fleet.level(vlan_id=20)
        async with asyncio.timeout(30):
            while len(await fleet.stale()) < PHONES:
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
