"""The location tables written for the SIP process, while something of one account is broken."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from engine.crypto import KeyRing
from engine.db import Database
from engine.e911 import snapshot
from engine.e911.publish import SnapshotPublisher
from engine.models import Account, Location
from tests.factories import add_account, add_location, add_pbx, add_trunk


@pytest.fixture
def published() -> list[str]:
    return []


@pytest.fixture
async def publisher(
    database: Database, keys: KeyRing, tmp_path: Path, published: list[str]
) -> AsyncIterator[SnapshotPublisher]:
    made = SnapshotPublisher(database, keys, tmp_path, on_published=published.append, on_dropped=published.remove)
    yield made
    made.close()


async def two_accounts(database: Database) -> tuple[Account, Location, Account]:
    async with database.sessions.begin() as session:
        broken = await add_account(session, id="account_1")
        place = await add_location(session, broken)
        for name in ("Annex", "Barn", "Mill"):
            await add_location(session, broken, name=name)
        await add_trunk(session, broken, name="First")
        whole = await add_account(session, id="account_2", name="Other", email="other@example.com")
        await add_location(session, whole)
    return broken, place, whole


async def damage(database: Database, statement: str, **values: object) -> None:
    async with database.sessions.begin() as session:
        await session.execute(text(statement), values)


@pytest.mark.parametrize(
    ("column", "value"),
    [("civic_address", "{no json"), ("geo", "["), ("validated_at", "yesterday"), ("carrier_ids", "x")],
)
async def test_a_field_that_cannot_be_read_costs_no_more_than_itself(
    database: Database,
    keys: KeyRing,
    tmp_path: Path,
    publisher: SnapshotPublisher,
    published: list[str],
    column: str,
    value: str,
) -> None:
    """E-03: every other row, and every other account, is published; what is missing is named."""
    broken, place, whole = await two_accounts(database)
    await damage(database, f"UPDATE location SET {column} = :value WHERE id = :id", value=value, id=place.id)
    await publisher.publish_changed()
    assert published == [broken.id, whole.id]
    assert publisher.unread_of(whole.id) == ()
    (fault,) = publisher.unread_of(broken.id)
    assert fault == f"locations: {place.id}: {column} cannot be read, and is left out"
    table = snapshot.load(tmp_path, broken.id, keys)
    assert len(table.locations) == 4
    assert table.locations[place.id].name == "Headquarters"
    assert table.faults == (fault,)
    assert [trunk.name for trunk in table.trunks] == ["First"]


async def test_what_was_mended_is_no_fault_any_more(database: Database, publisher: SnapshotPublisher) -> None:
    """E-03: the alarm ends with its cause."""
    broken, place, _ = await two_accounts(database)
    await damage(database, "UPDATE location SET geo = 'x' WHERE id = :id", id=place.id)
    await publisher.publish_changed()
    assert publisher.unread_of(broken.id)
    await damage(database, "UPDATE location SET geo = NULL WHERE id = :id", id=place.id)
    async with database.sessions.begin() as session:
        await add_location(session, await session.get_one(Account, broken.id), name="New")
    await publisher.publish_changed()
    assert publisher.unread_of(broken.id) == ()


async def test_an_odd_address_among_a_pbxs_own_leaves_it_the_others(
    database: Database, keys: KeyRing, tmp_path: Path, publisher: SnapshotPublisher
) -> None:
    """E-04: one bad line in a list makes no stranger of a PBX."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        pbx = await add_pbx(session, account, sources=["192.0.2.0/24", "10.0.0.1-10.0.0.9"])
    await publisher.publish_changed()
    (fault,) = publisher.unread_of(account.id)
    assert fault.startswith(f"pbxs: {pbx.id}, its sources cannot be read")
    (kept,) = snapshot.load(tmp_path, account.id, keys).pbxs.values()
    assert [str(network) for network in kept.sources] == ["192.0.2.0/24"]


async def test_an_account_that_cannot_be_written_holds_up_no_other(
    database: Database, tmp_path: Path, publisher: SnapshotPublisher, published: list[str]
) -> None:
    """E-03: the next account is published all the same, and this one as soon as it can be."""
    broken, _, whole = await two_accounts(database)
    in_the_way = tmp_path / f"{broken.id}.sealed"
    in_the_way.mkdir()
    with pytest.raises(OSError, match="directory"):
        await publisher.publish_changed()
    assert published == [whole.id]
    in_the_way.rmdir()
    await publisher.publish_changed()
    assert published == [whole.id, broken.id]


async def test_a_fault_of_our_own_with_one_account_is_told_and_holds_up_no_other(
    database: Database, keys: KeyRing, tmp_path: Path
) -> None:
    """E-03: whatever it is, it ends neither the publishing nor what starts behind it."""
    broken, _, whole = await two_accounts(database)
    published: list[str] = []

    def tell(account_id: str) -> None:
        if account_id == broken.id:
            raise KeyError(account_id)
        published.append(account_id)

    publisher = SnapshotPublisher(database, keys, tmp_path, on_published=tell, on_dropped=published.remove)
    await publisher.publish_changed()
    assert published == [whole.id]
    assert publisher.unread_of(broken.id)[0].startswith("The account as a whole")
    publisher.close()
