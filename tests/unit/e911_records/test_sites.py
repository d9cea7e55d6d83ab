"""Locations, networks and recipients: what is accepted, what is refused in which words, what the audit log says."""

import json
from typing import Any

import pytest
from sqlalchemy import select

from engine.audit.record import Actor
from engine.db import Database
from engine.e911 import sites, store
from engine.e911.fields import canonical_subnet, read_email
from engine.errors import Conflict, FieldFault, Invalid
from engine.models import Account, AuditEntry, Location, LocationStatus, Network
from tests.factories import HEADQUARTERS, add_account, add_line, add_location, add_network, add_pbx, add_phone

ADMIN = Actor("user", "user_1", "pat@example.com", "192.0.2.7")


@pytest.fixture
async def account(database: Database) -> Account:
    async with database.sessions.begin() as session:
        return await add_account(session)


async def last_entry(database: Database, account: Account) -> dict[str, Any]:
    async with database.sessions.begin() as session:
        query = select(AuditEntry.entry).where(AuditEntry.chain == account.id).order_by(AuditEntry.seq.desc()).limit(1)
        return json.loads((await session.scalars(query)).one())


def fields_of(error: Invalid) -> list[str]:
    return [fault.field for fault in error.fields]


# ------------------------------------------------------------------------------------------ locations


async def test_a_location_is_made_as_a_draft_with_its_recipients_once_each(
    database: Database, account: Account
) -> None:
    """S0-16: a location carries its own recipients; the same mailbox in other letters counts once."""
    async with database.sessions.begin() as session:
        made = await sites.create_location(
            session,
            ADMIN,
            account,
            {
                "name": "  Branch  ",
                "civic_address": {"country": "us", "A1": "NY", "HNO": 12, "RD": "Main", "FLR": None},
                "notification_recipients": ["Desk@Example.com", "desk@example.com", "guard@example.com"],
                "callback_number": "(518) 555-0199",
                "onsite_number": "",
                "timezone": "America/Chicago",
                "geo": {"latitude": 42.65, "longitude": -73},
            },
        )
    async with database.sessions.begin() as session:
        kept = await store.location_by_id(session, account.id, made.id)
    assert kept is not None
    assert (kept.name, kept.status, kept.validated_at) == ("Branch", LocationStatus.DRAFT, None)
    assert kept.civic_address == {"country": "US", "A1": "NY", "RD": "Main", "HNO": "12"}
    assert kept.notification_recipients == ["Desk@example.com", "guard@example.com"]
    assert (kept.callback_number, kept.onsite_number, kept.timezone) == ("+15185550199", None, "America/Chicago")
    assert kept.geo == {"latitude": 42.65, "longitude": -73.0}
    entry = await last_entry(database, account)
    assert (entry["event"], entry["actor"]["name"], entry["changes"]["name"]["after"]) == (
        "location.create",
        "pat@example.com",
        "Branch",
    )


@pytest.mark.parametrize(
    ("geo", "kept"),
    [
        (
            {"shape": "ellipse", "latitude": 1, "longitude": 2, "semi_major_m": 9, "semi_minor_m": 4, "points": None},
            {"shape": "ellipse", "latitude": 1, "longitude": 2, "semi_major_m": 9, "semi_minor_m": 4,
             "orientation_deg": 0},
        ),
        (
            {"shape": "polygon", "points": [[1, 2], [3, 4], [5, 0], [1, 2]], "confidence": "unknown"},
            {"shape": "polygon", "latitude": 3, "longitude": 2, "points": [[1, 2], [3, 4], [5, 0]],
             "confidence": "unknown"},
        ),
        ({"latitude": 1, "longitude": 2, "confidence": 67}, {"latitude": 1, "longitude": 2, "confidence": 67}),
        ({"latitude": None}, None),
    ],
)  # fmt: skip
async def test_every_shape_of_a_place_is_kept(database: Database, account: Account, geo: Any, kept: Any) -> None:
    """E-06: RFC 5491 shapes with RFC 7459 confidence; a refused one names its field."""
    async with database.sessions.begin() as session:
        made = await sites.create_location(
            session, ADMIN, account, {"name": "A", "civic_address": HEADQUARTERS, "geo": geo}
        )
    assert made.geo == kept
    async with database.sessions() as session:
        with pytest.raises(Invalid) as refused:
            await sites.create_location(
                session, ADMIN, account,
                {"name": "B", "civic_address": HEADQUARTERS, "geo": {"shape": "prism", "points": [[1, 2], [3, 4]]}},
            )  # fmt: skip
    assert fields_of(refused.value) == ["geo.points[0]"]


async def test_every_bad_field_of_a_location_is_told_at_once(database: Database, account: Account) -> None:
    bad = {
        "name": "",
        "civic_address": {"country": "USA", "STREET": "Main", "A1": "N\nY"},
        "timezone": "Mars/Olympus",
        "callback_number": "911",
        "onsite_number": 5,
        "geo": {"latitude": 91, "longitude": float("nan"), "height": 1},
        "notification_recipients": ["ok@example.com", "not an address"],
        "status": "validated",
        "colour": "red",
    }
    async with database.sessions() as session:
        with pytest.raises(Invalid) as refused:
            await sites.create_location(session, ADMIN, account, bad)
    assert set(fields_of(refused.value)) == {
        "name",
        "civic_address.country",
        "civic_address.STREET",
        "civic_address.A1",
        "timezone",
        "callback_number",
        "onsite_number",
        "geo.latitude",
        "geo.longitude",
        "geo.height",
        "notification_recipients[1]",
        "status",
        "colour",
    }
    assert all(fault.detail.endswith(".") for fault in refused.value.fields)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "name"),
        ({"name": "A", "civic_address": "120 Washington Ave"}, "civic_address"),
        ({"name": "A", "civic_address": {}}, "civic_address.country"),
        ({"name": 7, "civic_address": HEADQUARTERS}, "name"),
        ({"name": "A\r\nBcc: x@y.example", "civic_address": HEADQUARTERS}, "name"),
        ({"name": "A" * 201, "civic_address": HEADQUARTERS}, "name"),
        (
            {"name": "A", "civic_address": HEADQUARTERS, "notification_recipients": "a@example.com"},
            "notification_recipients",
        ),
        ({"name": "A", "civic_address": HEADQUARTERS, "notification_recipients": 5}, "notification_recipients"),
        (
            {
                "name": "A",
                "civic_address": HEADQUARTERS,
                "notification_recipients": [f"a{n}@x.example" for n in range(51)],
            },
            "notification_recipients",
        ),
        ({"name": "A", "civic_address": HEADQUARTERS, "geo": [1, 2]}, "geo"),
        ({"name": "A", "civic_address": HEADQUARTERS, "geo": {"latitude": True, "longitude": 1}}, "geo.latitude"),
        ({"name": "A", "civic_address": HEADQUARTERS, "timezone": "America"}, "timezone"),
        ({"name": "A", "civic_address": HEADQUARTERS, "timezone": "../../etc/passwd"}, "timezone"),
    ],
)
async def test_a_bad_location_is_refused_naming_the_field(
    database: Database, account: Account, values: dict[str, Any], field: str
) -> None:
    async with database.sessions() as session:
        with pytest.raises(Invalid) as refused:
            await sites.create_location(session, ADMIN, account, values)
    assert field in fields_of(refused.value)


async def test_a_changed_address_of_a_validated_location_is_a_draft_again(database: Database, account: Account) -> None:
    """E-14: what was validated is no longer what is kept."""
    async with database.sessions.begin() as session:
        location = await add_location(session, account)
    async with database.sessions.begin() as session:
        session.add(location)
        await sites.validate_location(session, ADMIN, location, accepted=True)
    assert location.validated_at is not None
    async with database.sessions.begin() as session:
        session.add(location)
        await sites.update_location(session, ADMIN, account, location, {"name": "HQ", "civic_address": HEADQUARTERS})
    assert location.status == LocationStatus.VALIDATED
    async with database.sessions.begin() as session:
        session.add(location)
        await sites.update_location(session, ADMIN, account, location, {"civic_address": HEADQUARTERS | {"FLR": "5"}})
    assert (location.status, location.validated_at) == (LocationStatus.DRAFT, None)
    changes = (await last_entry(database, account))["changes"]
    assert changes["status"] == {"before": "validated", "after": "draft"}
    assert changes["civic_address"]["after"]["FLR"] == "5"


async def test_a_location_in_use_is_not_deleted_and_the_answer_says_by_what(
    database: Database, account: Account
) -> None:
    async with database.sessions.begin() as session:
        location = await add_location(session, account)
        line = await add_line(session, account, location_id=location.id)
        await add_phone(session, account, line, location_id=location.id)
        await add_pbx(session, account, default_location_id=location.id)
    async with database.sessions() as session:
        with pytest.raises(Conflict) as refused:
            await sites.delete_location(session, ADMIN, location)
    assert "1 phone, 1 line, 1 PBX default" in refused.value.detail
    assert "911" in refused.value.detail


async def test_the_accounts_default_location_is_not_deleted(database: Database, account: Account) -> None:
    async with database.sessions.begin() as session:
        location = await add_location(session, account)
    async with database.sessions.begin() as session:
        session.add(account)
        account.default_location_id = location.id
        await sites.update_location(session, ADMIN, account, location, {})
    async with database.sessions() as session:
        with pytest.raises(Conflict, match="default location"):
            await sites.delete_location(session, ADMIN, location)


async def test_a_deleted_location_takes_its_networks_along_in_one_entry(database: Database, account: Account) -> None:
    async with database.sessions.begin() as session:
        location = await add_location(session, account)
        await add_network(session, location, "10.1.0.0/16")
    async with database.sessions.begin() as session:
        found = await store.location_by_id(session, account.id, location.id)
        assert found is not None
        await sites.delete_location(session, ADMIN, found)
    async with database.sessions.begin() as session:
        assert (await session.scalars(select(Location))).all() == []
        assert (await session.scalars(select(Network))).all() == []
    entry = await last_entry(database, account)
    assert entry["event"] == "location.delete"
    assert any(
        name.endswith(".value") and change["before"] == "10.1.0.0/16" for name, change in entry["changes"].items()
    )


# ------------------------------------------------------------------------------------------ networks


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("10.1.0.0/16", "10.1.0.0/16"),
        (" 10.1.2.3 ", "10.1.2.3/32"),
        ("10.1.0.0/255.255.0.0", "10.1.0.0/16"),
        ("2001:DB8:0::/48", "2001:db8::/48"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("::ffff:10.1.0.0/112", "10.1.0.0/16"),
    ],
)
def test_a_subnet_is_kept_in_canonical_spelling(written: str, kept: str) -> None:
    assert canonical_subnet(written) == kept


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("10.1.2.3/16", "write 10.1.0.0/16"),
        ("2001:db8::1/48", "write 2001:db8::/48"),
        ("0.0.0.0/0", "default location"),
        ("::/0", "default location"),
        ("fe80::/10", "exists at every site"),
        ("fe80::1", "exists at every site"),
        ("169.254.0.0/16", "exists at every site"),
        ("169.254.7.0/24", "exists at every site"),
        ("224.0.0.0/4", "exists at every site"),
        ("ff02::/16", "exists at every site"),
        ("0.0.0.0", "exists at every site"),
        ("::", "exists at every site"),
        ("fe80::%eth0/64", "without it"),
        ("2001:db8::%eth0/64", "without it"),
        ("10.1.0.0/33", "expected a network"),
        ("Floor 4", "expected a network"),
        ("", "expected a network"),
    ],
)
def test_a_subnet_that_cannot_be_meant_is_refused_with_what_to_write(written: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        canonical_subnet(written)


async def test_networks_are_made_changed_and_forgotten_each_with_an_entry(database: Database, account: Account) -> None:
    async with database.sessions.begin() as session:
        location = await add_location(session, account)
        pbx = await add_pbx(session, account)
        network = await sites.create_network(
            session, ADMIN, account, {"value": "10.1.0.0/255.255.0.0", "location_id": location.id}
        )
    assert (network.kind, network.value, network.pbx_id) == ("subnet", "10.1.0.0/16", None)
    assert (await last_entry(database, account))["event"] == "network.create"
    async with database.sessions.begin() as session:
        session.add(network)
        await sites.update_network(session, ADMIN, account, network, {"pbx_id": pbx.id, "value": "10.1.0.0/16"})
    assert (await last_entry(database, account))["changes"] == {"pbx_id": {"before": None, "after": pbx.id}}
    async with database.sessions.begin() as session:
        await sites.delete_network(session, ADMIN, network)
    assert (await last_entry(database, account))["event"] == "network.delete"


async def test_the_same_subnet_twice_is_refused_naming_where_it_already_is(
    database: Database, account: Account
) -> None:
    async with database.sessions.begin() as session:
        location = await add_location(session, account)
        pbx = await add_pbx(session, account)
        values = {"value": "10.1.0.0/16", "location_id": location.id}
        await sites.create_network(session, ADMIN, account, values)
        await sites.create_network(
            session, ADMIN, account, values | {"pbx_id": pbx.id}
        )  # holds for one PBX: another claim
        narrower = await sites.create_network(session, ADMIN, account, values | {"value": "10.1.4.0/24"})
    async with database.sessions() as session:
        with pytest.raises(Conflict, match="already the network of Headquarters"):
            await sites.create_network(session, ADMIN, account, values)
        with pytest.raises(Conflict, match="already the network of Headquarters"):
            await sites.update_network(session, ADMIN, account, narrower, {"value": "10.1.0.0/16"})


async def test_a_network_of_another_accounts_location_or_pbx_is_refused(database: Database, account: Account) -> None:
    async with database.sessions.begin() as session:
        other = await add_account(session, name="Other")
        location = await add_location(session, other)
        pbx = await add_pbx(session, other)
    async with database.sessions() as session:
        with pytest.raises(Invalid) as refused:
            await sites.create_network(
                session,
                ADMIN,
                account,
                {"value": "10.1.2.3/16", "location_id": location.id, "pbx_id": pbx.id, "kind": "vlan"},
            )
    assert sorted(fields_of(refused.value)) == ["kind", "location_id", "pbx_id"]


# ------------------------------------------------------------------------------------------ recipients


async def test_recipients_are_added_and_removed_and_each_change_is_audited(
    database: Database, account: Account
) -> None:
    """S0-13: add one or more e-mail addresses; each change is in the audit log."""
    async with database.sessions.begin() as session:
        first = await sites.add_recipient(session, ADMIN, account, " Desk@Example.COM ")
    entry = await last_entry(database, account)
    assert (entry["event"], entry["resource"]["name"]) == ("notification_recipient.create", "Desk@example.com")
    async with database.sessions.begin() as session:
        await sites.add_recipient(session, ADMIN, account, "guard@example.com")
    async with database.sessions.begin() as session:
        assert [row.email for row in await store.recipients_of(session, account.id)] == [
            "Desk@example.com",
            "guard@example.com",
        ]
        found = await store.recipient_by_id(session, account.id, first.id)
        assert found is not None
        await sites.remove_recipient(session, ADMIN, found)
    assert (await last_entry(database, account))["event"] == "notification_recipient.delete"
    async with database.sessions.begin() as session:
        assert [row.email for row in await store.recipients_of(session, account.id)] == ["guard@example.com"]


async def test_an_invalid_or_duplicate_recipient_is_refused_with_a_sentence(
    database: Database, account: Account
) -> None:
    """S0-13: invalid and duplicate addresses are refused with a message."""
    async with database.sessions.begin() as session:
        await sites.add_recipient(session, ADMIN, account, "desk@example.com")
    async with database.sessions() as session:
        with pytest.raises(Invalid, match="expected an e-mail address"):
            await sites.add_recipient(session, ADMIN, account, "desk at example.com")
        with pytest.raises(Invalid, match="already a recipient"):
            await sites.add_recipient(session, ADMIN, account, "DESK@example.com")


async def test_a_recipient_list_has_an_end(database: Database, account: Account) -> None:
    async with database.sessions.begin() as session:
        for number in range(50):
            await sites.add_recipient(session, ADMIN, account, f"desk{number}@example.com")
        with pytest.raises(Invalid, match="at most 50"):
            await sites.add_recipient(session, ADMIN, account, "one.more@example.com")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "desk",
        "desk@",
        "@example.com",
        "desk@example",
        "desk@@example.com",
        "de sk@example.com",
        "desk@exam ple.com",
        "desk@example.com\r\nBcc: evil@example.com",
        "desk@[192.0.2.1]",
        "desk@192.0.2.1",
        '"a b"@example.com',
        ".desk@example.com",
        "desk.@example.com",
        "desk@-example.com",
        "desk@example..com",
        "d\u00e9sk@example.com",
        "desk@ex\u00e4mple.com",
        "a" * 65 + "@example.com",
        "a@" + "b" * 250 + ".com",
        None,
        5,
        ["desk@example.com"],
        "<desk@example.com>",
        "a@b.com,c@d.com",
    ],
)
def test_what_is_no_email_address_is_refused(text: object) -> None:
    faults: list[FieldFault] = []
    assert read_email("email", text, faults) == ""
    assert [fault.field for fault in faults] == ["email"]


@pytest.mark.parametrize(
    "text", ["desk@example.com", "o'neil+911@mail.example.co.uk", "alerts@localhost", "x@xn--exmple-cua.com"]
)
def test_real_email_addresses_are_accepted(text: str) -> None:
    faults: list[FieldFault] = []
    assert read_email("email", text, faults) == text
    assert faults == []
