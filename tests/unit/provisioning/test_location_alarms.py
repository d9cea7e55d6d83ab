"""P-22: the alarm of a phone without an address begins once and ends once, and its file says the same."""

import pytest
from sqlalchemy import select

from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.models import AuditEntry, Location, Phone, PhoneStatus
from engine.provisioning import phones, store, tokens, vendors
from engine.provisioning import settings as records
from engine.provisioning.alarms import AlarmKind, summed
from engine.provisioning.index import SessionIndex, SqliteIndex
from engine.provisioning.location_alarms import GROUP, LocationAlarms
from engine.provisioning.phone_list import Filters
from engine.provisioning.store_alarms import alarm_counts, alarm_groups, count_without_location
from engine.provisioning.store_phones import list_phones
from tests.factories import (
    add_account,
    add_confirmed_location,
    add_line,
    add_location,
    add_network,
    add_pbx,
    add_phone,
    add_sighting,
)

TOWN = {"country": "US", "A1": "NY", "A3": "Albany"}


@pytest.fixture
async def site(database, keys):
    """An account, a line, and a phone that nobody has given a place."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        await phones.generate_token(session, SYSTEM, account, keys)
        line = await add_line(session, account)
        phone = await add_phone(session, account, line)
    return account, line, phone


@pytest.fixture
def alarms(database):
    return LocationAlarms(database)


async def told(database, account):
    async with database.sessions() as session:
        events = await session.scalars(
            select(AuditEntry.event)
            .where(AuditEntry.chain == account.id, AuditEntry.event.like("phone.location_%"))
            .order_by(AuditEntry.seq)
        )
        return [event.removeprefix("phone.location_") for event in events], await count_without_location(session)


async def labels(database, keys, phone):
    """The line labels of the phone's file, as both indexes make it."""
    url = tokens.provisioning_url("http://phones.example.net", tokens.mint())
    profile, found = vendors.known().profiles["yealink"], set()
    for opened in (SqliteIndex(database.sqlite_path, keys), SessionIndex(database, keys)):
        shown = records.phone_config(await opened.phone(phone.id), profile, url)
        found.add((shown.label, *(line.label for line in shown.lines)))
        opened.close()
    assert len(found) == 1
    return found.pop()


MARKED = ("911: no address - Desk", "911: no address - Desk 101")
PLAIN = ("Desk", "Desk 101")


async def test_a_phone_without_an_address_is_marked_at_its_first_rendering_and_alarmed_once(
    site, database, keys, alarms
):
    """P-22: never silently a normal one, whoever looks first."""
    account, _line, phone = site
    assert await labels(database, keys, phone) == MARKED
    await alarms.look()
    await alarms.look()
    assert await told(database, account) == (["missing"], 1)
    async with database.sessions() as session:
        assert (await alarm_counts(session, account.id))[AlarmKind.NO_LOCATION] == 1
        (group,) = (g for g in await alarm_groups(session, account.id, 50) if g.kind is AlarmKind.NO_LOCATION)
        assert group.first[0].href == f"/phones/{phone.id}"
        assert "Desk has no address" in group.first[0].text
        assert await listed(session, account, AlarmKind.NO_LOCATION) == [phone.id]


@pytest.mark.parametrize("rung", ["phone", "line", "pbx", "account"])
async def test_a_location_on_any_rung_renders_anew_and_ends_the_alarm(site, database, keys, alarms, rung):
    """P-22: adding a location moves the revision, cleans the label and ends the alarm; taking it away brings all
    back.
    """
    account, line, phone = site
    await alarms.look()
    async with database.sessions.begin() as session:
        location = await add_location(session, account)
        pbx = await add_pbx(session, account)
        before = await store.revision_of(session, account.id)
    owner, column = {
        "phone": (phone, "location_id"), "line": (line, "location_id"), "pbx": (pbx, "default_location_id"),
        "account": (account, "default_location_id"),
    }[rung]  # fmt: skip
    for place, shown, entries in (
        (location.id, PLAIN, ["missing", "found"]),
        (None, MARKED, ["missing", "found", "missing"]),
    ):
        async with database.sessions.begin() as session:
            row = await session.get(type(owner), owner.id)
            setattr(row, column, place)
            record(session, SYSTEM, Event.PHONE_UPDATE, row)
        async with database.sessions() as session:
            assert await store.revision_of(session, account.id) > before
        assert await labels(database, keys, phone) == shown
        await alarms.look()
        assert await told(database, account) == (entries, 0 if place else 1)


async def test_a_location_that_loses_its_street_brings_the_alarm(site, database, keys, alarms):
    account, _line, phone = site
    async with database.sessions.begin() as session:
        location = await add_location(session, account)
        row = await session.get(Phone, phone.id)
        row.location_id = location.id
        record(session, SYSTEM, Event.PHONE_UPDATE, row)
    await alarms.look()
    assert await told(database, account) == ([], 0)
    async with database.sessions.begin() as session:
        place = await session.get(Location, location.id)
        place.civic_address = TOWN
        record(session, SYSTEM, Event.LOCATION_UPDATE, place)
    await alarms.look()
    assert await labels(database, keys, phone) == MARKED
    assert await told(database, account) == (["missing"], 1)


@pytest.mark.parametrize("by", ["fetch", "sighting", "confirmed"])
async def test_the_network_places_a_phone_and_its_next_file_is_clean(site, database, keys, alarms, by):
    """P-22: where the network sees a phone moves no revision by itself: the pass moves it."""
    account, line, phone = site
    async with database.sessions.begin() as session:
        location = await add_location(session, account)
        if by == "confirmed":
            await add_confirmed_location(session, location, line_id=line.id, network="198.51.100.0/24")
        else:
            await add_network(session, location, "10.4.2.0/24")
    await alarms.look()
    assert await told(database, account) == (["missing"], 1)
    async with database.sessions.begin() as session:
        if by == "sighting":
            await add_sighting(session, phone, ip="10.4.2.9")
        else:
            (await session.get(Phone, phone.id)).last_ip = "10.4.2.9" if by == "fetch" else "198.51.100.9"
        before = await store.revision_of(session, account.id)
    await alarms.look()
    assert await told(database, account) == (["missing"], 1), "nothing has moved the revision yet"
    await alarms.look(on_networks=True)
    async with database.sessions() as session:
        assert await store.revision_of(session, account.id) > before
    assert await labels(database, keys, phone) == PLAIN
    assert await told(database, account) == (["missing", "found"], 0)
    async with database.sessions.begin() as session:
        row = await session.get(Phone, phone.id)
        assert (row.network_location_id, row.version) == (location.id, 1)
        await session.delete(await session.get(Location, location.id))
        record(session, SYSTEM, Event.LOCATION_DELETE, location)
    await alarms.look()
    assert await labels(database, keys, phone) == MARKED
    assert await told(database, account) == (["missing", "found", "missing"], 1)


async def test_a_policy_that_opens_the_gate_ends_every_alarm(site, database, keys, alarms):
    account, _line, phone = site
    await alarms.look()
    async with database.sessions.begin() as session:
        row = await session.get(type(account), account.id)
        row.provisioning_policy = {"location_gate": "off"}
        record(session, SYSTEM, Event.ACCOUNT_UPDATE, row)
    await alarms.look()
    assert await labels(database, keys, phone) == PLAIN
    assert await told(database, account) == (["missing", "found"], 0)


async def holding(database, account, *phone_ids):
    """Those phones hold the account's configuration as it is now, as the fetch log writes it."""
    async with database.sessions.begin() as session:
        revision = await store.revision_of(session, account.id)
        for phone_id in phone_ids:
            row = await session.get(Phone, phone_id)
            row.status, row.fetched_revision = PhoneStatus.CURRENT, revision


async def statuses(database, *phone_ids):
    async with database.sessions() as session:
        return [(await session.get(Phone, phone_id)).status for phone_id in phone_ids]


async def switch_gate(database, account, gate):
    async with database.sessions.begin() as session:
        row = await session.get(type(account), account.id)
        row.provisioning_policy = {"location_gate": gate}
        record(session, SYSTEM, Event.PROVISIONING_POLICY_UPDATE, row)


async def test_a_gate_that_closes_while_phones_boot_leaves_none_with_the_old_label_called_current(
    site, database, alarms
):
    """P-16, P-22: one that fetched before the change is out of date; one that came behind it holds the mark already,
    whenever the fetch log writes that down; one with an address holds the same file as before.
    """
    account, _line, early = site
    async with database.sessions.begin() as session:
        place = await add_location(session, account)
        late = await add_phone(session, account, mac="001565000001")
        unwritten = await add_phone(session, account, mac="001565000002")
        placed = await add_phone(session, account, mac="001565000003", location_id=place.id)
    await switch_gate(database, account, "off")
    every = [phone.id for phone in (early, late, unwritten, placed)]
    await alarms.look()
    await holding(database, account, *every)
    await switch_gate(database, account, "alarm")
    await holding(database, account, late.id)
    async with database.sessions() as session:
        behind = await store.revision_of(session, account.id)
    await alarms.look()
    assert await statuses(database, *every) == ["stale", "current", "stale", "current"]
    async with database.sessions() as session:
        assert (await session.get(Phone, unwritten.id)).stale_revision == behind, "its fetch counts when it is written"
    await holding(database, account, *every)
    await alarms.look()
    assert await statuses(database, *every) == ["current"] * 4
    await switch_gate(database, account, "off")
    await alarms.look()
    assert await statuses(database, *every) == ["stale", "stale", "stale", "current"]


async def test_a_phone_that_the_network_places_is_out_of_date_until_it_fetches(site, database, alarms):
    """P-16, P-22: the mark leaves its label with that pass, in a building's worth of phones at once."""
    account, _line, phone = site
    async with database.sessions.begin() as session:
        location = await add_location(session, account)
        await add_network(session, location, "10.4.2.0/24")
    await alarms.look()
    await holding(database, account, phone.id)
    async with database.sessions.begin() as session:
        (await session.get(Phone, phone.id)).last_ip = "10.4.2.9"
    await alarms.look(on_networks=True)
    assert await statuses(database, phone.id) == ["stale"]
    await holding(database, account, phone.id)
    await alarms.look(on_networks=True)
    assert await statuses(database, phone.id) == ["current"]


async def test_more_phones_than_one_group_are_each_told_once_and_another_accounts_never(site, database, alarms):
    account, _line, _phone = site
    async with database.sessions.begin() as session:
        other = await add_account(session, email="other@example.com")
        place = await add_location(session, other)
        await add_phone(session, other, mac="001565ffffff", location_id=place.id)
        for number in range(GROUP + 5):
            await add_phone(session, account, mac=f"0015651{number:05x}")
    await alarms.look()
    assert await told(database, account) == (["missing"] * (GROUP + 6), GROUP + 6)
    async with database.sessions() as session:
        assert await count_without_location(session, other.id) == 0
        counts = await alarm_counts(session, account.id)
    (line,) = (one for one in summed(counts) if one.kind is AlarmKind.NO_LOCATION)
    assert line.text.startswith(f"{GROUP + 6} phones have no address")
    assert line.href == "/phones/alarms#no_location"


async def listed(session, account, kind):
    """The phones of a list that is filtered by that alarm."""
    return [phone.id for phone in (await list_phones(session, account.id, Filters(alarm=kind.value))).rows]


async def test_phones_that_register_nowhere_are_alarmed_before_all_others(database):
    """P-13: a phone none of whose lines has a PBX with a registrar dials nobody; one registered line is enough."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        line = await add_line(session, account)
        phone = await add_phone(session, account, line)
        await add_phone(session, account, mac="001565000001")  # without a line: nobody meant it to call yet
        assert await alarm_counts(session, account.id) == {AlarmKind.NO_REGISTRAR: 1}
        bare = await add_pbx(session, account, registrar_host="")
        assert await alarm_counts(session, account.id) == {AlarmKind.NO_REGISTRAR: 1}
        (group,) = await alarm_groups(session, account.id, 50)
        assert group.first[0].text.startswith("Desk registers nowhere and cannot dial 911")
        full = await add_pbx(session, account)
        assert await alarm_counts(session, account.id) == {AlarmKind.NO_REGISTRAR: 1}  # neither is the only one
        second = await add_line(session, account, "102", pbx_id=full.id)
        both = await add_phone(session, account, line, second, mac="001565000002")
        assert await listed(session, account, AlarmKind.NO_REGISTRAR) == [phone.id]
        third = await add_line(session, account, "103", pbx_id=bare.id)
        silent = await add_phone(session, account, third, mac="001565000003")
        assert await listed(session, account, AlarmKind.NO_REGISTRAR) == [phone.id, silent.id]
        await session.delete(silent)
        record(session, SYSTEM, Event.PHONE_DELETE, silent)
        await session.delete(third)
        record(session, SYSTEM, Event.LINE_DELETE, third)
        await session.delete(bare)
        record(session, SYSTEM, Event.PBX_DELETE, bare)
        await session.flush()
        assert await alarm_counts(session, account.id) == {}
        assert both.id != phone.id


@pytest.mark.parametrize("kind", AlarmKind)
def test_one_is_spoken_of_as_one(kind):
    """S0-18: numbers agree with their words."""
    (one,), (many,) = summed({kind: 1}), summed({kind: 2})
    assert not {"they", "their", "them"} & set(one.text.rstrip(".").split())
    assert one.text.startswith("1 ")
    assert many.text.startswith("2 ")


def test_more_than_anybody_counts_are_told_as_more():
    """P-16: counting stops where another phone tells nobody anything."""
    (many,) = summed({AlarmKind.NO_REGISTRAR: 10_001})
    assert many.text == "More than 10,000 phones register nowhere: they cannot dial 911."
