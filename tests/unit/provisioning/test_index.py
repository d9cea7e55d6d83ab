"""The hot look-up, over its own sqlite3 connection and over SQLAlchemy: the same answers."""

import json
import sqlite3

import pytest

from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.db import utc_now
from engine.errors import DatabaseAway
from engine.ids import new_id
from engine.models import Account, Asset, Rollout, SettingsLevel
from engine.provisioning import index, phones, tokens
from tests.factories import add_account, add_line, add_location, add_pbx, add_phone


@pytest.fixture
async def site(database, keys):
    async with database.sessions.begin() as session:
        account = await add_account(session)
        token = await phones.generate_token(session, SYSTEM, account, keys)
        location = await add_location(session, account, timezone="America/Denver")
        pbx = await add_pbx(session, account, registrar_host="pbx.example.net", transport="tcp")
        named = await add_line(session, account, "101", pbx_id=pbx.id)
        unnamed = await add_line(session, account, "102", secret=None)
        phone = await add_phone(session, account, named, unnamed, location_id=location.id, settings={"vlan_id": 7})
    return account, token, phone


@pytest.fixture(params=[index.SqliteIndex, index.SessionIndex])
def opened(request, database, keys):
    made = request.param(database.sqlite_path if request.param is index.SqliteIndex else database, keys)
    yield made
    made.close()


async def test_a_token_and_a_mac_find_account_revision_and_phone(site, opened, keys):
    """Decision 17: account and revision by the token's index, in one statement."""
    account, token, phone = site
    found = await opened.find(tokens.index(keys, token), phone.mac)
    assert found is not None
    assert (found.account_id, found.phone_id, found.vendor, found.model) == (account.id, phone.id, "yealink", "T46U")
    assert found.revision > 0
    nobody = await opened.find(tokens.index(keys, token), "805ec0999999")
    assert nobody is not None
    assert (nobody.account_id, nobody.phone_id, nobody.vendor) == (account.id, None, "")
    assert await opened.find(tokens.index(keys, tokens.mint()), phone.mac) is None


async def test_the_next_token_finds_the_same_phone_and_says_so(site, opened, database, keys):
    """P-04: while phones are being moved both URLs answer; a token that is neither finds nothing."""
    account, token, phone = site
    following = tokens.mint()
    async with database.sessions.begin() as session:
        row = await session.get(Account, account.id)
        row.next_provisioning_token = following
        row.next_provisioning_token_index = tokens.index(keys, following)
        row.provisioning_policy = {"sources": ["192.0.2.0/24"]}
        record(session, SYSTEM, Event.PROVISIONING_TOKEN_ROTATE, row)
    by_old = await opened.find(tokens.index(keys, token), phone.mac)
    by_new = await opened.find(tokens.index(keys, following), phone.mac)
    assert by_old is not None
    assert by_new == by_old._replace(is_next=True)
    assert by_old.is_next is False
    assert json.loads(by_old.policy) == {"sources": ["192.0.2.0/24"]}
    assert await opened.find(tokens.index(keys, tokens.mint()), phone.mac) is None
    kept = await opened.account(account.id)
    assert kept is not None
    assert kept.next_token == following
    assert following not in repr(kept)


def test_a_look_up_walks_the_two_unique_indexes(site, database):
    """Decision 17: neither a right nor a wrong token makes the database read a table from end to end."""
    with sqlite3.connect(database.sqlite_path) as connection:
        asked = {"token_index": "x", "mac": "y", "file": "z"}
        steps = connection.execute("EXPLAIN QUERY PLAN " + index._FIND, asked).fetchall()
    walks = [detail for *_, detail in steps]
    assert not [walk for walk in walks if walk.startswith("SCAN")]
    assert any("(provisioning_token_index=?)" in walk for walk in walks)
    assert any("(next_provisioning_token_index=?)" in walk for walk in walks)


async def test_a_phone_comes_with_its_lines_secrets_and_time_zone(site, opened):
    account, _, phone = site
    record = await opened.phone(phone.id)
    assert record is not None
    assert (record.timezone, record.settings["vlan_id"], record.country) == ("America/Denver", 7, "US")
    assert record.account.country == "US"
    assert record.account.admin_password == account.phone_admin_password
    assert [(line.key, line.sip_user, line.secret, line.registrar_host, line.transport) for line in record.lines] == [
        (1, "101", "secret-of-101", "pbx.example.net", "tcp"),
        (2, "102", "", "pbx.example.net", "tcp"),  # the account's only PBX serves a line that names none
    ]
    assert await opened.phone("phone_nothing") is None
    assert await opened.account("account_nothing") is None


async def test_many_phones_at_once_are_each_as_if_asked_for_alone(site, opened, database, keys):
    """P-10, P-15: levels, lines, files, what is rolled out to one of them and what has no address: each its own."""
    account, _, phone = site
    async with database.sessions.begin() as session:
        place = await add_location(session, account, name="Warehouse", civic_address={"country": "US"})
        bare = await add_phone(session, account, mac="001565aaaa01", label="Bare", model="T54W", location_id=place.id)
        shared = await add_line(session, account, "201")
        settings = {"logo": "logo.png", "vlan_id": 9}
        rich = await add_phone(session, account, shared, mac="001565aaaa02", label="Rich", settings=settings)
        for kind, name, said in (
            ("account", "account", {"vlan_id": 1, "ntp_server": "ntp.example.com"}),
            ("location", place.id, {"ntp_server": "ntp.warehouse.example.com"}),
            ("model", "yealink/T46U", {"web_ui": False}),
        ):
            level = SettingsLevel(
                id=new_id("settings"), account_id=account.id, kind=kind, name=name, settings=said,
                location_id=name if kind == "location" else None,
            )  # fmt: skip
            session.add(level)
            record(session, SYSTEM, Event.SETTINGS_CREATE, level)
        for name in ("logo.png", "other.png"):
            asset = Asset(
                id=new_id("asset"), account_id=account.id, name=name, kind="logo", size_bytes=3, sha256="0" * 64
            )
            session.add(asset)
            record(session, SYSTEM, Event.ASSET_CREATE, asset)
        rollout = Rollout(
            id=new_id("rollout"), account_id=account.id, kind="settings", target="account", state="canary",
            change={"before": None, "after": {"ntp_server": "ntp.new.example.com"}}, canary=[rich.id],
            started_by="Olga", started_at=utc_now(),
        )  # fmt: skip
        session.add(rollout)
        record(session, SYSTEM, Event.ROLLOUT_CREATE, rollout)
    asked = [rich.id, "phone_nothing", bare.id, phone.id]
    alone = index.SqliteIndex(database.sqlite_path, keys)
    assert dict(await opened.phones(asked)) == {
        each: await alone.phone(each) for each in asked if each != "phone_nothing"
    }
    found = await opened.phones(asked)
    assert [found[each.id].settings["ntp_server"] for each in (phone, bare, rich)] == [
        "ntp.example.com", "ntp.warehouse.example.com", "ntp.new.example.com"
    ]  # fmt: skip
    assert [len(found[each.id].lines) for each in (phone, bare, rich)] == [2, 0, 1]
    assert [[file.name for file in found[each.id].assets] for each in (phone, bare, rich)] == [[], [], ["logo.png"]]
    assert [found[each.id].unlocated.is_phone for each in (phone, bare, rich)] == [False, True, True]
    assert await opened.phones(["phone_nothing"]) == {}
    assert await opened.phones([]) == {}
    alone.close()


async def test_with_two_pbxs_a_line_that_names_none_has_none(site, opened, database):
    account, _, phone = site
    async with database.sessions.begin() as session:
        await add_pbx(session, account, name="Second", sources=["10.0.0.0/8"], registrar_host="second.example.net")
    record = await opened.phone(phone.id)
    assert record is not None
    assert [line.registrar_host for line in record.lines] == ["pbx.example.net", ""]


async def test_a_database_that_is_not_there_is_away_and_found_again_when_it_comes(site, database, keys, tmp_path):
    _, token, phone = site
    path = tmp_path / "later.db"
    later = index.SqliteIndex(path, keys)
    with pytest.raises(DatabaseAway):
        await later.find(tokens.index(keys, token), phone.mac)
    assert not path.exists()
    await database.engine.dispose()  # the last connection to close writes the log back into the file
    path.write_bytes(database.sqlite_path.read_bytes())
    assert await later.find(tokens.index(keys, token), phone.mac) is not None
    later.close()
