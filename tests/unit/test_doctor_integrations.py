"""What doctor says of the mail server, the validator and the webhooks that were set in the pages."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from engine import crypto, migrations
from engine.accounts import store_platform, store_storage
from engine.accounts.mail_server import MailFields, update_mail_settings
from engine.audit.record import Actor, open_audited
from engine.config import Config, Core, Mail
from engine.db import utc_now
from engine.doctor import checks
from engine.e911 import sites, validation_settings, webhooks
from engine.e911.validation_settings import ValidationFields, update_validation_settings
from engine.e911.webhooks import Tried, WebhookFields, note_test
from engine.findings import Finding
from engine.models import RemovalNote
from engine.outbound import Outbound
from engine.retention import CLOCK, NEW_CLOCK, NO_CLOCK, NO_PROOF
from tests.factories import add_account

pytestmark = pytest.mark.enable_socket
ACTOR = Actor("cli", "cli", "tests", "local")


async def _examined(config: Config) -> dict[str, Finding]:
    return {finding.what: finding for finding in await checks.examine(config)}


@pytest.fixture
async def stored(tmp_path: Path) -> Any:
    """A configuration that names nobody, and a database in which all are set; the mail server's port and its end."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = Config(core=Core(data_dir=tmp_path))
    database = open_audited(config.database_url, crypto.create(config.key_file))
    await migrations.migrate(database)
    async with database.sessions.begin() as session:
        account = await add_account(session, name="Acme")
        wished = MailFields("127.0.0.1", port, "none", sender="c@example.com")
        row = await store_platform.mail_settings_to_change(session)
        await update_mail_settings(session, ACTOR, row, wished, is_from_file=False)
        place = await validation_settings.stored_to_change(session)
        asked = ValidationFields("lost", "https://lost.invalid/lost")
        update_validation_settings(session, ACTOR, place, asked, Outbound(), is_from_file=False)
        hook, _secret = await webhooks.create_webhook(
            session, ACTOR, account, WebhookFields("Door", "https://hooks.example.com/T000"), Outbound()
        )
        note_test(session, ACTOR, hook, Tried(False, "It answered 500", utc_now()))
    await database.close()
    yield config, port
    server.close()


async def test_what_was_set_in_the_pages_is_looked_at(stored: tuple[Config, int]) -> None:
    """S1-21, S1-28: nobody is told that no mail server is set when one is; a webhook's path is not told."""
    config, port = stored
    found = await _examined(config)
    assert (found["mail"].level, found["mail"].detail) == ("good", f"127.0.0.1:{port} answers")
    assert (found["address validator"].level, "lost.invalid:443" in found["address validator"].detail) == (
        "warning", True,
    )  # fmt: skip
    hook = found["Acme: webhook Door"]
    assert (hook.level, "Test: It answered 500" in hook.detail, "T000" in hook.detail) == ("warning", True, False)


async def test_a_log_that_is_not_shortened_and_a_clock_that_is_not_believed_are_told(
    stored: tuple[Config, int],
) -> None:
    """S1-22: by the name of the chain, with what to do, for as long as it is so."""
    config, _port = stored
    database = open_audited(config.database_url, crypto.load(config.key_file))
    words = f"Entry 2 was changed after it was written, or taken out. {NO_PROOF}"
    async with database.sessions.begin() as session:
        await store_storage.set_removal_note(session, "account_x", words)
        await store_storage.set_removal_note(session, CLOCK, NO_CLOCK, utc_now())
    found = await _examined(config)
    told = found["removal of old records (account_x)"]
    assert (told.level, told.detail) == ("bad", words)
    assert "verify the file" in told.detail
    assert found["removal of old records (clock)"].level == "bad"
    async with database.sessions.begin() as session:
        await session.execute(update(RemovalNote).where(RemovalNote.name == CLOCK).values(at=None, words=NEW_CLOCK))
    assert (await _examined(config))["removal of old records (clock)"].level == "warning", "never compared"
    async with database.sessions.begin() as session:
        for name in ("account_x", CLOCK):
            await store_storage.set_removal_note(session, name, "")
    await database.close()
    assert not [what for what in await _examined(config) if what.startswith("removal of old records")]


async def test_links_that_lead_nowhere_are_told(stored: tuple[Config, int], tmp_path: Path) -> None:
    """S1-21: mail, recipients or webhooks without the pages' address: what that costs, and what to set; once."""
    config, _port = stored
    found = [one for one in await checks.examine(config) if one.what == "links in mails"]
    assert [(one.level, "[admin] public_url is empty" in one.detail) for one in found] == [("warning", True)]
    assert "no page to open" in found[0].detail
    assert "https://callpoint.example.com" in found[0].detail
    told = Mail(host="127.0.0.1", port=9)
    both = [one for one in await checks.examine(config.model_copy(update={"mail": told})) if "links" in one.what]
    assert len(both) == 1
    known = config.admin.model_copy(update={"public_url": "https://callpoint.acme.example"})
    assert "links in mails" not in await _examined(config.model_copy(update={"admin": known}))
    fresh = Config(core=Core(data_dir=tmp_path / "fresh"))
    assert "links in mails" not in await _examined(fresh)
    assert "links in mails" in await _examined(fresh.model_copy(update={"mail": told}))


async def test_recipients_alone_want_the_pages_address_too(tmp_path: Path) -> None:
    """S1-21: who is told today by no mail server is told tomorrow by one."""
    config = Config(core=Core(data_dir=tmp_path))
    database = open_audited(config.database_url, crypto.create(config.key_file))
    await migrations.migrate(database)
    async with database.sessions.begin() as session:
        account = await add_account(session, name="Acme")
    assert "links in mails" not in await _examined(config)
    async with database.sessions.begin() as session:
        await sites.add_recipient(session, ACTOR, account, "desk@acme.example")
    await database.close()
    assert "links in mails" in await _examined(config)


async def test_the_configuration_counts_alone(stored: tuple[Config, int]) -> None:
    """S1-21: a server that is named there and away is told, whatever the pages say."""
    config, port = stored
    found = await checks.examine(config.model_copy(update={"mail": Mail(host="127.0.0.1", port=9)}))
    mails = [one for one in found if one.what == "mail"]
    assert [(one.level, str(port) in one.detail) for one in mails] == [("bad", False)]


async def test_without_any_server_doctor_says_so_once(tmp_path: Path) -> None:
    """S1-21: before the first start too."""
    mails = [one for one in await checks.examine(Config(core=Core(data_dir=tmp_path))) if one.what == "mail"]
    assert [(one.level, "no server set" in one.detail) for one in mails] == [("warning", True)]
