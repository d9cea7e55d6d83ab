"""The hot look-up, over its own sqlite3 connection and over SQLAlchemy: the same answers."""

import pytest

from engine.audit.record import SYSTEM
from engine.errors import DatabaseAway
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


async def test_a_phone_comes_with_its_lines_secrets_and_time_zone(site, opened):
    account, _, phone = site
    record = await opened.phone(phone.id)
    assert record is not None
    assert (record.timezone, record.settings, record.country) == ("America/Denver", {"vlan_id": 7}, "US")
    assert record.account.country == "US"
    assert record.account.admin_password == account.phone_admin_password
    assert [(line.key, line.sip_user, line.secret, line.registrar_host, line.transport) for line in record.lines] == [
        (1, "101", "secret-of-101", "pbx.example.net", "tcp"),
        (2, "102", "", "pbx.example.net", "tcp"),  # the account's only PBX serves a line that names none
    ]
    assert await opened.phone("phone_nothing") is None
    assert await opened.account("account_nothing") is None


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
