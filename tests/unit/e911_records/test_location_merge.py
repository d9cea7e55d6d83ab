"""Two locations that are one place made one, and one change to many: what moves, what is refused, what is recorded."""

import json
from typing import Any

import pytest
from sqlalchemy import event, func, select

from engine.audit.record import Actor
from engine.db import Database, utc_now
from engine.e911 import location_bulk, sites, store
from engine.e911.location_bulk import Action, Change
from engine.e911.location_merge import merge_locations
from engine.errors import Conflict, Invalid, NotFound
from engine.models import (
    Account,
    AuditEntry,
    ConfirmedLocation,
    Line,
    Location,
    LocationTest,
    Network,
    Number,
    Pbx,
    Phone,
    SettingsLevel,
)
from tests.factories import (
    HEADQUARTERS,
    add_account,
    add_confirmed_location,
    add_line,
    add_location,
    add_network,
    add_number,
    add_pbx,
    add_phone,
)

ADMIN = Actor("user", "user_1", "pat@example.com", "192.0.2.7")


@pytest.fixture
async def account(database: Database) -> Account:
    async with database.sessions.begin() as session:
        return await add_account(session)


async def entries(database: Database, account: Account) -> list[dict[str, Any]]:
    async with database.sessions() as session:
        query = select(AuditEntry.entry).where(AuditEntry.chain == account.id).order_by(AuditEntry.seq)
        return [json.loads(text) for text in (await session.scalars(query)).all()]


async def twins(database: Database, account: Account) -> tuple[str, str]:
    """Headquarters twice, with everything that can be placed at the second; returns both identifiers."""
    async with database.sessions.begin() as session:
        found = await session.get(Account, account.id)
        assert found is not None
        keep = await add_location(session, account, notification_recipients=["Desk@example.com"])
        gone = await add_location(
            session, account, name="Head office", notification_recipients=["desk@example.com", "guard@example.com"],
            onsite_number="+15185550199", carrier_ids={"telnyx": "a1"},
        )  # fmt: skip
        found.default_location_id = gone.id
        line = await add_line(session, account, "101", location_id=gone.id)
        await add_network(session, gone, "10.4.12.0/24")
        await add_pbx(session, account, default_location_id=gone.id)
        await add_number(session, account, "+15185550150", kind="elin", location_id=gone.id)
        for last in range(3):
            mac = f"00156500000{last}"
            phone = await add_phone(session, account, mac=mac, label=f"P{last}", location_id=gone.id, status="current")
            await add_confirmed_location(session, gone, phone_id=phone.id)
        await add_confirmed_location(session, keep, phone_id=phone.id)
        session.add(LocationTest(location_id=gone.id, account_id=account.id, tried_at=utc_now(), outcome="passed"))
        for place, settings in ((keep, {"vlan_id": 7}), (gone, {"vlan_id": 9, "lldp": False})):
            session.add(
                SettingsLevel(
                    id=f"settings_{place.id[9:]}", account_id=account.id, kind="location", name=place.id,
                    location_id=place.id, settings=settings,
                )
            )  # fmt: skip
        assert line.location_id == gone.id
    return keep.id, gone.id


async def test_everything_of_the_one_that_goes_is_at_the_one_that_stays(database: Database, account: Account) -> None:
    """S1-37: phones, lines, networks, numbers, defaults, confirmations, settings, recipients; the twin is gone."""
    keep_id, gone_id = await twins(database, account)
    async with database.sessions.begin() as session:
        keep = await store.location_by_id(session, account.id, keep_id)
        gone = await store.location_by_id(session, account.id, gone_id)
        assert keep is not None
        assert gone is not None
        mine = await session.get(Account, account.id)
        assert mine is not None
        merged = await merge_locations(session, ADMIN, mine, keep, gone)
    assert (merged.phones, merged.lines, merged.networks, merged.numbers, merged.pbxs, merged.recipients) == (
        3, 1, 1, 1, 1, 1,
    )  # fmt: skip
    async with database.sessions() as session:
        assert [row.id for row in await store.locations_of(session, account.id)] == [keep_id]
        kept = await store.location_by_id(session, account.id, keep_id)
        assert kept is not None
        assert kept.notification_recipients == ["Desk@example.com", "guard@example.com"]
        assert (kept.onsite_number, kept.carrier_ids) == ("+15185550199", {"telnyx": "a1"})
        assert kept.civic_address == HEADQUARTERS
        for model, column in (
            (Phone, Phone.location_id), (Line, Line.location_id), (Network, Network.location_id),
            (Number, Number.location_id), (Pbx, Pbx.default_location_id),
            (ConfirmedLocation, ConfirmedLocation.location_id),
        ):  # fmt: skip
            places = set((await session.scalars(select(column))).all())
            assert places == {keep_id}, model
        assert await session.scalar(select(func.count()).select_from(ConfirmedLocation)) == 3  # one was there twice
        assert set((await session.scalars(select(Phone.status))).all()) == {"stale"}
        (level,) = (await session.scalars(select(SettingsLevel))).all()
        assert (level.name, level.settings) == (keep_id, {"vlan_id": 7, "lldp": False})
        mine = await session.get(Account, account.id)
        assert mine is not None
        assert mine.default_location_id == keep_id


async def test_a_merge_is_one_entry_and_one_for_each_row_it_moved(database: Database, account: Account) -> None:
    """S1-37: the parts carry the merge's name, with before and after; its category is Bulk operations."""
    keep_id, gone_id = await twins(database, account)
    before = len(await entries(database, account))
    async with database.sessions.begin() as session:
        mine = await session.get(Account, account.id)
        keep = await store.location_by_id(session, account.id, keep_id)
        gone = await store.location_by_id(session, account.id, gone_id)
        assert mine is not None
        assert keep is not None
        assert gone is not None
        merged = await merge_locations(session, ADMIN, mine, keep, gone)
    fresh = (await entries(database, account))[before:]
    (parent,) = [entry for entry in fresh if entry["bulk_id"] is None]
    assert (parent["event"], parent["category"], parent["resource"]["id"]) == (
        "location.merge", "Bulk operations", keep_id,
    )  # fmt: skip
    assert parent["details"] == {
        "merged": gone_id, "merged_name": "Head office", "bulk_id": merged.bulk_id, "phones": 3, "lines": 1,
        "networks": 1, "numbers": 1, "pbxs": 1, "recipients": 1,
    }  # fmt: skip
    parts = [entry for entry in fresh if entry["bulk_id"] == merged.bulk_id]
    assert len(parts) == len(fresh) - 1
    counts: dict[str, int] = {}
    for entry in parts:
        counts[entry["event"]] = counts.get(entry["event"], 0) + 1
    assert counts == {
        "phone.update": 3, "line.update": 1, "network.update": 1, "number.update": 1, "pbx.update": 1,
        "confirmed_location.update": 2, "confirmed_location.delete": 1, "settings.update": 1, "settings.delete": 1,
        "account.update": 1, "location.delete": 1,
    }  # fmt: skip
    for entry in parts:
        if entry["event"] in {"phone.update", "line.update", "network.update"}:
            assert entry["changes"]["location_id"] == {"before": gone_id, "after": keep_id}


async def test_floors_are_not_merged_unless_somebody_says_so(database: Database, account: Account) -> None:
    """S1-37: whoever was told apart by the floor would be sought on the other one."""
    async with database.sessions.begin() as session:
        keep = await add_location(session, account)
        gone = await add_location(session, account, civic_address=HEADQUARTERS | {"FLR": "5", "ROOM": ""})
    async with database.sessions.begin() as session:
        keep, gone = await session.merge(keep), await session.merge(gone)
        with pytest.raises(Conflict) as refused:
            await merge_locations(session, ADMIN, account, keep, gone)
        assert "FLR 4 and 5" in refused.value.detail
        assert "ROOM 412 and none" in refused.value.detail
    async with database.sessions.begin() as session:
        keep, gone = await session.merge(keep), await session.merge(gone)
        mine = await session.get(Account, account.id)
        assert mine is not None
        await merge_locations(session, ADMIN, mine, keep, gone, despite_inside=True)
    async with database.sessions() as session:
        (kept,) = await store.locations_of(session, account.id)
    assert kept.civic_address["FLR"] == "4"


async def test_a_location_is_not_merged_with_itself_nor_beyond_its_recipients(
    database: Database, account: Account
) -> None:
    """S1-37: refused before anything moves."""
    async with database.sessions.begin() as session:
        keep = await add_location(session, account, notification_recipients=[f"a{n}@example.com" for n in range(30)])
        gone = await add_location(session, account, notification_recipients=[f"b{n}@example.com" for n in range(30)])
        with pytest.raises(Invalid):
            await merge_locations(session, ADMIN, account, keep, keep)
        with pytest.raises(Invalid) as refused:
            await merge_locations(session, ADMIN, account, keep, gone)
    assert "60 addresses" in refused.value.detail
    async with database.sessions() as session:
        assert len(await store.locations_of(session, account.id)) == 2


async def test_a_merge_that_fails_half_way_moves_nothing(database: Database, account: Account) -> None:
    """S1-37: one transaction: there is no moment in which a phone has lost its address."""
    keep_id, gone_id = await twins(database, account)

    def refuse(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("DELETE FROM location"):
            raise OSError("the disk is full")

    event.listen(database.engine.sync_engine, "before_cursor_execute", refuse)
    try:
        with pytest.raises(OSError, match="the disk is full"):
            async with database.sessions.begin() as session:
                mine = await session.get(Account, account.id)
                keep = await store.location_by_id(session, account.id, keep_id)
                gone = await store.location_by_id(session, account.id, gone_id)
                assert mine is not None
                assert keep is not None
                assert gone is not None
                await merge_locations(session, ADMIN, mine, keep, gone)
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", refuse)
    async with database.sessions() as session:
        assert set((await session.scalars(select(Phone.location_id))).all()) == {gone_id}
        assert len(await store.locations_of(session, account.id)) == 2


# ------------------------------------------------------------------------------------------ many at once


async def places(database: Database, account: Account) -> list[str]:
    async with database.sessions.begin() as session:
        first = await add_location(session, account, name="A", notification_recipients=["Desk@example.com"])
        second = await add_location(session, account, name="B")
        third = await add_location(session, account, name="C", callback_number="+15185550111")
    return [first.id, second.id, third.id]


async def change(database: Database, account: Account, ids: list[str] | None, wished: Change) -> location_bulk.Done:
    async with database.sessions.begin() as session:
        return await location_bulk.change_locations(session, ADMIN, account, ids, wished)


async def test_recipients_are_added_to_and_taken_from_many_locations(database: Database, account: Account) -> None:
    """S1-35: what a location tells already stays as it is spelled there; only what changes is written."""
    await places(database, account)
    done = await change(database, account, None, Change(Action.TELL, ("desk@example.com", "guard@Example.com")))
    assert (done.locations, done.changed) == (3, 3)
    async with database.sessions() as session:
        told = {row.name: row.notification_recipients for row in await store.locations_of(session, account.id)}
    assert told == {
        "A": ["Desk@example.com", "guard@example.com"],
        "B": ["desk@example.com", "guard@example.com"],
        "C": ["desk@example.com", "guard@example.com"],
    }
    again = await change(database, account, None, Change(Action.TELL, ("DESK@example.com",)))
    assert again.changed == 0
    await change(database, account, None, Change(Action.TELL_NO_MORE, ("DESK@example.com",)))
    async with database.sessions() as session:
        assert {tuple(row.notification_recipients) for row in await store.locations_of(session, account.id)} == {
            ("guard@example.com",)
        }


async def test_a_number_and_a_time_zone_are_set_for_many_with_one_entry_and_its_parts(
    database: Database, account: Account
) -> None:
    """S1-35: one parent of category Bulk operations, one part for each location that was not like that."""
    ids = await places(database, account)
    before = len(await entries(database, account))
    done = await change(database, account, ids, Change(Action.CALLBACK_NUMBER, value="(518) 555-0111"))
    fresh = (await entries(database, account))[before:]
    parent = next(entry for entry in fresh if entry["bulk_id"] is None)
    assert (parent["event"], parent["category"]) == ("location.change_many", "Bulk operations")
    assert parent["resource"]["id"] == done.bulk_id
    parts = [entry for entry in fresh if entry["bulk_id"] == done.bulk_id]
    assert [entry["resource"]["name"] for entry in parts] == ["A", "B"]
    assert parts[0]["changes"]["callback_number"] == {"before": None, "after": "+15185550111"}
    await change(database, account, ids[:2], Change(Action.TIMEZONE, value="America/Denver"))
    await change(database, account, ids[:1], Change(Action.TIMEZONE, value=""))
    async with database.sessions() as session:
        zones = {row.name: row.timezone for row in await store.locations_of(session, account.id)}
    assert zones == {"A": None, "B": "America/Denver", "C": None}


@pytest.mark.parametrize(
    ("wished", "field"),
    [
        (Change(Action.TELL), "emails"),
        (Change(Action.TELL, ("nobody",)), "emails[0]"),
        (Change(Action.TELL, tuple(f"a{n}@example.com" for n in range(51))), "emails"),
        (Change(Action.CALLBACK_NUMBER, value="911-ish"), "callback_number"),
        (Change(Action.TIMEZONE, value="America/Nowhere"), "timezone"),
        (Change(Action.TRUNK_GROUP, value="trunk_group_00000000000000000000000000"), "trunk_group_id"),
    ],
)
async def test_with_one_fault_no_location_is_changed(
    database: Database, account: Account, wished: Change, field: str
) -> None:
    """S1-35: all or nothing, with the field that is wrong."""
    await places(database, account)
    with pytest.raises(Invalid) as refused:
        await change(database, account, None, wished)
    assert [fault.field for fault in refused.value.fields] == [field]
    async with database.sessions() as session:
        versions = set((await session.scalars(select(Location.version))).all())
    assert versions == {1}


async def test_a_location_that_is_not_there_stops_the_change(database: Database, account: Account) -> None:
    """S1-35: another account's is as absent as one that never was."""
    ids = await places(database, account)
    async with database.sessions.begin() as session:
        stranger = await add_account(session, name="Other")
        theirs = await add_location(session, stranger)
    with pytest.raises(NotFound):
        await change(database, account, [ids[0], theirs.id], Change(Action.TIMEZONE, value="America/Denver"))


async def test_identifiers_and_positions_are_taken_over_for_one_address_alone(
    database: Database, account: Account
) -> None:
    """E-14, E-07: of the same address they are, and it is a draft again; of another they are kept back, and told."""
    async with database.sessions.begin() as session:
        same = await add_location(session, account, name="Same", status="validated", validated_at=utc_now())
        twin = await add_location(session, account, name="Twin", carrier_ids={"telnyx": "t1"})
        apart = await add_location(
            session, account, name="Apart", civic_address=HEADQUARTERS | {"HNO": "9"},
            carrier_ids={"telnyx": "x9", "bandwidth": "b9"},
        )  # fmt: skip
        await merge_locations(session, ADMIN, account, same, twin)
        assert (same.status, same.validated_at, same.carrier_ids) == ("draft", None, {"telnyx": "t1"})
        same.status = "validated"
        await merge_locations(session, ADMIN, account, same, apart)
        assert (same.status, same.carrier_ids) == ("validated", {"telnyx": "t1"})
        assert same.outdated_carrier_ids == {"bandwidth": "b9"}
        values = {"carrier_ids": {"telnyx": "t1", "bandwidth": ""}}
        await sites.update_location(session, ADMIN, account, same, values)
        assert (same.status, same.outdated_carrier_ids) == ("validated", {})
