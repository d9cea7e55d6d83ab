"""Trunk groups: what is accepted, who names them, and what happens when their trunks go."""

import json

import pytest
from sqlalchemy import select

from engine.accounts import operations, store_trunks, telephony, trunk_groups
from engine.accounts.operations import AccountFields
from engine.accounts.trunk_groups import TrunkGroupFields, group_alarms
from engine.audit.record import Actor
from engine.db import Database
from engine.e911 import sites, store
from engine.e911.snapshot import table_from
from engine.errors import Conflict, Invalid
from engine.models import Account, AuditEntry, TrunkGroup
from tests.factories import add_account, add_location, add_trunk

CLI = Actor("cli", "cli", "tests", "local")


@pytest.fixture
async def account(database: Database) -> Account:
    async with database.sessions.begin() as session:
        return await add_account(session)


async def made(database: Database, account: Account, *names: str) -> tuple[str, list[str]]:
    """A group with a trunk of each name; the identifiers of the group and its trunks."""
    async with database.sessions.begin() as session:
        trunks = [await add_trunk(session, account, name=name) for name in names]
        wished = TrunkGroupFields("West", tuple(trunk.id for trunk in trunks))
        group = await trunk_groups.create_trunk_group(session, CLI, account, wished)
    return group.id, [trunk.id for trunk in trunks]


async def test_a_group_keeps_its_order_and_is_audited(database: Database, account: Account) -> None:
    """S1-27: named, ordered; one entry with before and after for each change."""
    group_id, (first, second) = await made(database, account, "One", "Two")
    async with database.sessions.begin() as session:
        group = await session.get(TrunkGroup, group_id)
        assert group is not None
        wished = TrunkGroupFields(" West coast ", (second, first))
        await trunk_groups.update_trunk_group(session, CLI, account, group, wished)
    async with database.sessions() as session:
        group = await session.get(TrunkGroup, group_id)
        assert group is not None
        assert (group.name, group.trunk_ids, group.version) == ("West coast", [second, first], 2)
        last = (await session.scalars(select(AuditEntry).order_by(AuditEntry.seq.desc()).limit(1))).one()
    entry = json.loads(last.entry)
    assert (entry["event"], entry["category"]) == ("trunk_group.update", "Telephony")
    assert entry["changes"]["trunk_ids"] == {"before": [first, second], "after": [second, first]}


async def test_a_bad_group_is_refused_with_every_field(database: Database, account: Account) -> None:
    """S1-27: a name twice, a trunk twice, a stranger's trunk: told together."""
    _group, (trunk,) = await made(database, account, "One")
    async with database.sessions.begin() as session:
        stranger = await add_account(session, name="Other")
        theirs = await add_trunk(session, stranger)
        with pytest.raises(Invalid) as refused:
            wished = TrunkGroupFields("WEST", (trunk, trunk, theirs.id))
            await trunk_groups.create_trunk_group(session, CLI, account, wished)
    assert [fault.field for fault in refused.value.fields] == ["name", "trunk_ids[1]", "trunk_ids[2]"]


async def test_account_and_location_name_a_group_and_the_edge_is_told(database: Database, account: Account) -> None:
    """S1-38: which group for which location is in the table that calls are routed by; another account's is refused."""
    group_id, (trunk,) = await made(database, account, "One")
    async with database.sessions.begin() as session:
        mine = await session.get(Account, account.id)
        assert mine is not None
        before = AccountFields.of(mine)
        location = await add_location(session, account)
        await sites.update_location(session, CLI, account, location, {"trunk_group_id": group_id})
        fields = {name: getattr(before, name) for name in AccountFields.__dataclass_fields__}
        await operations.update_account(session, CLI, mine, AccountFields(**fields | {"trunk_group_id": group_id}))
    async with database.sessions() as session:
        snapshot = await store.account_snapshot(session, account.id)
    assert snapshot is not None
    table = table_from(json.loads(json.dumps(snapshot)))
    assert table.trunk_groups == {group_id: (trunk,)}
    assert (table.trunk_group_id, table.locations[location.id].trunk_group_id) == (group_id, group_id)
    async with database.sessions.begin() as session:
        stranger = await add_account(session, name="Other")
        with pytest.raises(Invalid):
            await operations.update_account(
                session, CLI, stranger, AccountFields(**fields | {"name": "Other", "trunk_group_id": group_id})
            )
        theirs = await add_location(session, stranger)
        with pytest.raises(Invalid):
            await sites.update_location(session, CLI, stranger, theirs, {"trunk_group_id": group_id})


async def test_a_group_that_is_named_cannot_be_deleted(database: Database, account: Account) -> None:
    """S1-27: the refusal says who names it; unnamed, it goes."""
    group_id, _trunks = await made(database, account, "One")
    async with database.sessions.begin() as session:
        location = await add_location(session, account, name="Warehouse", trunk_group_id=group_id)
        group = await session.get(TrunkGroup, group_id)
        assert group is not None
        with pytest.raises(Conflict) as refused:
            await trunk_groups.delete_trunk_group(session, CLI, account, group)
        assert "the location Warehouse" in refused.value.detail
        await sites.update_location(session, CLI, account, location, {"trunk_group_id": None})
        await trunk_groups.delete_trunk_group(session, CLI, account, group)
    async with database.sessions() as session:
        assert await store_trunks.trunk_groups_of(session, account.id) == []


async def test_a_deleted_trunk_leaves_its_groups_and_an_empty_one_is_an_alarm(
    database: Database, account: Account
) -> None:
    """S1-27: calls go by priority then, and somebody is told; a group nobody names alarms nobody."""
    group_id, (first, second) = await made(database, account, "One", "Two")
    async with database.sessions.begin() as session:
        gone = next(trunk for trunk in await telephony.store.trunks_of(session, account.id) if trunk.id == first)
        await operations.delete_trunk(session, CLI, gone)
    async with database.sessions.begin() as session:
        group = await session.get(TrunkGroup, group_id)
        trunks = await telephony.store.trunks_of(session, account.id)
        assert group is not None
        assert group.trunk_ids == [second]
        assert group_alarms([group], trunks, {group_id}) == []
        (left,) = trunks
        left.enabled = False
        assert group_alarms([group], trunks, set()) == []
        (alarm,) = group_alarms([group], trunks, {group_id})
        assert "West" in alarm
        assert "still leave" in alarm
        await session.rollback()
