"""Where users say they are, where the network saw a phone, and networks of every kind in one spelling."""

import datetime as dt

import pytest
from sqlalchemy import select

from engine.audit.record import SYSTEM
from engine.db import Database, utc_now
from engine.e911 import sites, store, whereabouts
from engine.errors import Conflict, Invalid
from engine.models import Account, AuditEntry, ConfirmedLocation, Phone
from engine.provisioning import phones
from tests.factories import add_account, add_line, add_location, add_phone


@pytest.fixture
async def account(database: Database) -> Account:
    async with database.sessions.begin() as session:
        return await add_account(session)


@pytest.fixture
async def phone(database: Database, account: Account) -> Phone:
    async with database.sessions.begin() as session:
        return await add_phone(session, account)


@pytest.mark.parametrize(
    ("kind", "typed", "kept"),
    [
        ("subnet", "10.1.0.0/16", "10.1.0.0/16"),
        ("subnet", "::ffff:10.1.0.0/112", "10.1.0.0/16"),
        ("bssid", "00-1A-2B-3C-4D-5E", "001a2b3c4d5e"),
        ("bssid", "001a.2b3c.4d5e", "001a2b3c4d5e"),
        ("switch", "00:1A:2B:3C:4D:5E", "001a2b3c4d5e"),
        ("switch", " Core-Switch 1 ", "core-switch 1"),
        ("switch_port", "00:1A:2B:3C:4D:5E/Gi1/0/12", "001a2b3c4d5e/gi1/0/12"),
        ("switch_port", "core-1/ETH 7", "core-1/eth 7"),
    ],
)
async def test_a_network_of_any_kind_is_kept_in_one_spelling(
    database: Database, account: Account, kind: str, typed: str, kept: str
) -> None:
    """E-05: what is compared with a sighting is spelled as the sighting is."""
    async with database.sessions.begin() as session:
        location = await add_location(session, account)
        values = {"kind": kind, "value": typed, "location_id": location.id}
        network = await sites.create_network(session, SYSTEM, account, values)
        assert network.value == kept
        with pytest.raises(Conflict, match="already the network of Headquarters"):
            await sites.create_network(session, SYSTEM, account, values)


@pytest.mark.parametrize(
    ("kind", "typed", "part"),
    [
        ("bssid", "10.1.0.0/16", "expected a BSSID"),
        ("bssid", "ff:ff:ff:ff:ff:ff", "no access point's own"),
        ("bssid", "01:00:5e:00:00:01", "no access point's own"),
        ("bssid", "00:1a:2b:3c:4d:5*", "expected a BSSID"),
        ("switch", "core/1", "chassis id"),
        ("switch", "", "chassis id"),
        ("switch_port", "core-1", "a chassis id and a port id"),
        ("switch_port", "/gi1", "a chassis id and a port id"),
        ("switch_port", "core-1/", "a chassis id and a port id"),
        ("switch_port", "x" * 101 + "/1", "at most 100 characters"),
        ("subnet", "00:1a:2b:3c:4d:5e", "expected a network"),
        ("vlan", "7", "expected one of subnet, bssid, switch, switch_port"),
    ],
)
async def test_a_network_that_is_none_of_its_kind_is_refused_in_a_sentence(
    database: Database, account: Account, kind: str, typed: str, part: str
) -> None:
    """E-05: a wrong BSSID would find nobody, silently."""
    async with database.sessions.begin() as session:
        location = await add_location(session, account)
    async with database.sessions() as session:
        with pytest.raises(Invalid, match=part):
            values = {"kind": kind, "value": typed, "location_id": location.id}
            await sites.create_network(session, SYSTEM, account, values)


async def test_a_network_changes_its_kind_only_with_a_value_that_fits(database: Database, account: Account) -> None:
    async with database.sessions.begin() as session:
        location = await add_location(session, account)
        values = {"value": "10.1.0.0/16", "location_id": location.id}
        network = await sites.create_network(session, SYSTEM, account, values)
        with pytest.raises(Invalid, match="expected a BSSID"):
            await sites.update_network(session, SYSTEM, account, network, {"kind": "bssid"})
        values = {"kind": "bssid", "value": "00:1a:2b:3c:4d:5e"}
        await sites.update_network(session, SYSTEM, account, network, values)
        assert (network.kind, network.value) == ("bssid", "001a2b3c4d5e")


async def test_a_user_confirms_an_address_once_a_network_and_may_confirm_it_anew(
    database: Database, account: Account, phone: Phone
) -> None:
    """E-05: it is good on that network alone, and counts from when it was last said."""
    async with database.sessions.begin() as session:
        home, office = await add_location(session, account, name="Home"), await add_location(session, account)
        values = {"phone_id": phone.id, "location_id": home.id, "network": "203.0.113.7"}
        confirmed = await whereabouts.create_confirmed(session, SYSTEM, account, values)
        assert (confirmed.network, confirmed.confirmed_by) == ("203.0.113.7/32", "Callpoint")
        with pytest.raises(Conflict, match=confirmed.id):
            await whereabouts.create_confirmed(session, SYSTEM, account, values | {"location_id": office.id})
        await whereabouts.create_confirmed(session, SYSTEM, account, values | {"network": "00-1A-2B-3C-4D-5E"})
        first = confirmed.confirmed_at
        await whereabouts.update_confirmed(session, SYSTEM, account, confirmed, {})
        assert confirmed.confirmed_at >= first


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({}, {"location_id", "network", "phone_id"}),
        ({"phone_id": "phone_x", "line_id": "line_x", "location_id": "location_x", "network": "home"},
         {"phone_id", "line_id", "location_id", "network"}),
        ({"confirmed_by": "somebody"}, {"confirmed_by", "location_id", "network", "phone_id"}),
    ],
)  # fmt: skip
async def test_every_bad_field_of_a_confirmation_is_told(
    database: Database, account: Account, values: dict[str, str], fields: set[str]
) -> None:
    async with database.sessions() as session:
        with pytest.raises(Invalid) as refused:
            await whereabouts.create_confirmed(session, SYSTEM, account, values)
    assert {fault.field for fault in refused.value.fields} == fields


async def test_what_was_confirmed_goes_with_its_phone_and_is_in_that_entry(
    database: Database, account: Account, phone: Phone
) -> None:
    """S0-30: nothing is swept away by the database unseen."""
    async with database.sessions.begin() as session:
        home = await add_location(session, account)
        values = {"phone_id": phone.id, "location_id": home.id, "network": "203.0.113.7"}
        confirmed = await whereabouts.create_confirmed(session, SYSTEM, account, values)
    async with database.sessions.begin() as session:
        await phones.delete_phone(session, SYSTEM, await session.merge(phone))
    async with database.sessions() as session:
        assert (await session.scalars(select(ConfirmedLocation))).all() == []
        entry = await session.scalar(select(AuditEntry.entry).where(AuditEntry.event == "phone.delete"))
    assert entry is not None
    assert confirmed.id in entry


async def test_the_latest_sighting_stands_whoever_tells_it(database: Database, account: Account, phone: Phone) -> None:
    """E-05: a report that comes late moves nobody."""
    now = utc_now()
    async with database.sessions.begin() as session:
        values = {"chassis": "00:1A:2B:3C:4D:5E", "port": "Gi1/0/12", "ip": "::ffff:10.1.0.9", "seen_at": now}
        seen = await whereabouts.sight(session, SYSTEM, account, phone, values)
        assert (seen.chassis, seen.port, seen.ip, seen.source) == ("001a2b3c4d5e", "gi1/0/12", "10.1.0.9", "api")
    async with database.sessions.begin() as session:
        with pytest.raises(Conflict, match="later sighting stands"):
            earlier = {"bssid": "00:1a:2b:3c:4d:5e", "seen_at": now - dt.timedelta(seconds=1)}
            await whereabouts.sight(session, SYSTEM, account, phone, earlier)
        await whereabouts.sight(session, SYSTEM, account, phone, {"bssid": "00:1a:2b:3c:4d:5e"})
        kept = await store.sighting_of(session, phone)
        assert kept is not None
        assert (kept.chassis, kept.bssid) == (None, "001a2b3c4d5e")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "chassis"),
        ({"port": "gi1/0/12", "ip": "10.1.0.9"}, "chassis"),
        ({"bssid": "x"}, "bssid"),
        ({"ip": "10.1.0"}, "ip"),
        ({"chassis": "a/b"}, "chassis"),
        ({"chassis": "core", "port": "x" * 101}, "port"),
        ({"ip": "10.1.0.9", "seen_at": "now"}, "seen_at"),
        ({"ip": "10.1.0.9", "seen_at": utc_now() + dt.timedelta(hours=1)}, "seen_at"),
        ({"ip": "10.1.0.9", "source": "snmp"}, "source"),
    ],
)
async def test_a_sighting_that_says_nothing_is_refused(
    database: Database, account: Account, phone: Phone, values: dict[str, object], field: str
) -> None:
    async with database.sessions() as session:
        with pytest.raises(Invalid) as refused:
            await whereabouts.sight(session, SYSTEM, account, phone, values)
    assert field in {fault.field for fault in refused.value.fields}


async def test_a_location_in_a_country_whose_number_a_line_has_is_kept_and_warned_of(
    database: Database, account: Account
) -> None:
    """E-01: an address is never refused for it; the line's number is what must change."""
    async with database.sessions.begin() as session:
        await add_line(session, account, "111", display_name="Lab")
        here, there = [
            await sites.create_location(session, SYSTEM, account, {"name": name, "civic_address": {"country": country}})
            for name, country in (("Albany", "US"), ("Wellington", "NZ"))
        ]
        warnings = await sites.warnings_of(session, account, [here, there])
    assert warnings[here.id] == []
    assert len(warnings[there.id]) == 1
    assert "Line 111 has a number that is an emergency in NZ" in warnings[there.id][0]
    async with database.sessions() as session:
        with pytest.raises(Invalid):
            await phones.create_line(session, SYSTEM, account, phones.LineFields("1111"))
