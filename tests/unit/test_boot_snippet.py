"""P-20: `callpoint snippet dnsmasq` and its like: whose URL, under which address, and an entry in the audit log."""

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from engine.__main__ import app
from engine.audit.record import SYSTEM
from engine.boot_snippet import BootWish, account_for, files_of, tftp_address, warning_of
from engine.config import Bootstrap, Config, Provisioning
from engine.errors import Invalid, NotFound
from engine.models import AuditEntry
from engine.provisioning import dhcp, phones
from tests.factories import add_account


@pytest.fixture
async def account(database, keys):
    async with database.sessions.begin() as session:
        made = await add_account(session)
        token = await phones.generate_token(session, SYSTEM, made, keys)
    return made, token


@pytest.mark.parametrize("server", dhcp.SERVERS)
async def test_a_snippet_holds_the_accounts_url_and_is_an_audited_reading(database, account, server):
    made, token = account
    config = Config(provisioning=Provisioning(public_url="https://phones.example.com"))
    async with database.sessions.begin() as session:
        (text,) = (await files_of(session, SYSTEM, made, config, BootWish(server))).values()
    assert f"https://phones.example.com/p/{token}" in text
    async with database.sessions() as session:
        entries = list(await session.scalars(select(AuditEntry).where(AuditEntry.chain == made.id)))
    assert [row.event for row in entries].count("provisioning_token.reveal") == 1
    assert all(token not in row.entry for row in entries)


async def test_without_an_address_that_phones_reach_nothing_is_written_or_read(database, account):
    made, token = account
    async with database.sessions.begin() as session:
        with pytest.raises(Invalid, match="--base"):
            await files_of(session, SYSTEM, made, Config(), BootWish("kea"))
        files = await files_of(session, SYSTEM, made, Config(), BootWish("kea", base="http://192.0.2.7:8080"))
    assert f"http://192.0.2.7:8080/p/{token}/" in files["callpoint.json"]


@pytest.mark.parametrize(
    ("base", "is_told"),
    [("http://127.0.0.1:8080", True), ("http://localhost", True), ("http://[::1]:8080", True),
     ("http://192.0.2.7:8080", False), ("https://phones.example.com", False)],
)  # fmt: skip
def test_an_address_that_only_this_machine_reaches_is_told(base, is_told):
    assert bool(warning_of(base)) is is_told


async def test_an_account_is_named_where_there_are_several(database, account):
    async with database.sessions.begin() as session:
        assert (await account_for(session, None)).id == account[0].id
        other = await add_account(session, name="Other", email="b@example.com")
        assert (await account_for(session, other.id)).id == other.id
        for wrong in (None, "account_nobody"):
            with pytest.raises(Invalid, match="Other"):
                await account_for(session, wrong)
        with pytest.raises(NotFound):
            await files_of(session, SYSTEM, other, Config(), BootWish("isc", base="http://192.0.2.7"))


@pytest.mark.parametrize(
    ("listen", "expected"),
    [("", ""), ("0.0.0.0:69", ""), ("[::]:69", ""), ("192.0.2.9:69", "192.0.2.9"), ("tftp.example.com:69", "")],
)
def test_option_150_names_the_bootstrap_where_its_address_is_known(listen, expected):
    assert tftp_address(Config(bootstrap=Bootstrap(tftp=listen))) == expected


def test_the_commands_help_names_fronts_and_dhcp_servers():
    said = CliRunner().invoke(app, ["snippet", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    for name in (*dhcp.SERVERS, "kamailio", "freepbx"):
        assert name in said
