"""What each phone was last given, masked."""

import asyncio

import pytest
from sqlalchemy import select

from engine.audit.record import SYSTEM
from engine.db import Database
from engine.models import FetchedFile, Phone
from engine.provisioning import fetched, phones, proof, settings, store_boots, vendors
from engine.provisioning.fetched import LastFetched, text_of
from engine.provisioning.fetches import Fetch, FetchKind
from engine.provisioning.fetchlog import FetchLog
from engine.provisioning.index import open_index
from engine.provisioning.profiles import FileKind
from engine.provisioning.render import Renderer
from tests.factories import add_account, add_line, add_pbx, add_phone

TOKEN = "T" * 43
URL = f"https://phones.example.com/p/{TOKEN}/"


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(vendors.known())


async def a_phone(database: Database) -> Phone:
    async with database.sessions.begin() as session:
        account = await add_account(session, phone_admin_password="adm1n-Passw0rd")
        await add_pbx(session, account)
        return await add_phone(session, account, await add_line(session, account))


async def render(last: LastFetched, index, phone: Phone, etag: str, name: str = "0015654aa937.cfg") -> None:
    """As the port does when it renders a file anew."""
    record = await index.phone(phone.id)
    profile = vendors.known().profiles["yealink"]
    last.rendered(etag, profile, profile.file_rule(name), settings.phone_config(record, profile, URL), {})


def given(phone: Phone, etag: str, kind: FetchKind = FetchKind.FETCH, name: str = "0015654aa937.cfg") -> Fetch:
    return Fetch(kind, name, "GET", 200, "192.0.2.1", "", phone.account_id, phone.id, phone.mac, etag=etag)


async def stored(database: Database) -> dict[str, FetchedFile]:
    async with database.sessions() as session:
        return {row.name: row for row in await session.scalars(select(FetchedFile))}


async def test_what_a_phone_is_given_is_kept_masked(database, keys, renderer):
    """P-15: the file as it was fetched, without its secrets, and told by the fetch log after its own commit."""
    phone = await a_phone(database)
    last, log, index = LastFetched(database, renderer), FetchLog(database), open_index(database, keys)
    log.on_written = last.note
    await render(last, index, phone, '"one"')
    log.note(given(phone, '"one"'), 10)
    await log.flush()
    await last.write_waiting()
    row = (await stored(database))["0015654aa937.cfg"]
    text = text_of(row)
    assert row.etag == '"one"'
    assert "account.1.user_name = 101" in text
    assert settings.MASK in text
    assert [secret for secret in ("secret-of-101", "adm1n-Passw0rd", TOKEN) if secret in text] == []
    async with database.sessions() as session:
        files = await store_boots.fetched_files(session, phone.account_id, phone.id)
    assert store_boots.fetched_text(files["0015654aa937.cfg"]) == text
    index.close()


async def test_what_is_proven_of_its_dial_plan_is_kept_with_the_file(database, keys, renderer):
    """E-16: which emergency numbers leave at once by it, beside the tag of these very bytes; none of a file without a
    plan. An own template's file is read as the phone reads it.
    """
    phone = await a_phone(database)
    last, index = LastFetched(database, renderer), open_index(database, keys)
    await render(last, index, phone, '"one"')
    record, profile = await index.phone(phone.id), vendors.known().profiles["yealink"]
    config = settings.phone_config(record, profile, URL)
    own = {"base.cfg.j2": "{% extends 'shipped/base.cfg.j2' %}"}
    rule = profile.file_rule("0015654aa937.cfg")
    last.rendered('"own"', profile, rule, config, own)
    names = (('"one"', "0015654aa937.cfg"), ('"own"', "own.cfg"))
    last.note([given(phone, etag, name=name) for etag, name in names])
    await last.write_waiting()
    proven = {name: row.proof for name, row in (await stored(database)).items()}
    assert proven["0015654aa937.cfg"] == {"numbers": list(config.emergency_numbers), "faults": []}
    assert {"911", "933"} <= set(config.emergency_numbers)
    assert proven["own.cfg"] == proven["0015654aa937.cfg"]
    boot = next(each for each in profile.files if each.kind is FileKind.BOOT)
    assert proof.of_file(profile, boot, config, {}, b"") is None
    broken = proof.of_file(profile, rule, config, {}, b"#!version:1.0.0.1\n")
    assert broken is not None
    assert broken["faults"]
    index.close()


async def test_a_storm_of_phones_that_change_nothing_writes_nothing(database, keys, renderer):
    """Issue 4: after a power cut the table is read and not written, by this process and by the next."""
    phone = await a_phone(database)
    index = open_index(database, keys)
    last = LastFetched(database, renderer)
    await render(last, index, phone, '"one"')
    last.note([given(phone, '"one"')])
    await last.write_waiting()
    written = []
    begin = database.sessions.begin
    anew = LastFetched(database, renderer)
    await render(anew, index, phone, '"one"')
    for process in (last, anew):
        process.database.sessions.begin = lambda: written.append(1) or begin()  # type: ignore[method-assign]
        process.note([given(phone, '"one"', FetchKind.NOT_MODIFIED)] * 3)
        await process.write_waiting()
    assert written == []
    await render(anew, index, phone, '"two"')
    anew.note([given(phone, '"two"')])
    await anew.write_waiting()
    assert written == [1]
    assert (await stored(database))["0015654aa937.cfg"].etag == '"two"'
    index.close()


async def test_the_copies_go_with_the_phone_and_one_deleted_meanwhile_holds_nothing_up(database, keys, renderer):
    phone = await a_phone(database)
    index = open_index(database, keys)
    last = LastFetched(database, renderer)
    await render(last, index, phone, '"one"')
    last.note([given(phone, '"one"')])
    await last.write_waiting()
    assert len(await stored(database)) == 1
    await render(last, index, phone, '"two"')
    async with database.sessions.begin() as session:
        await phones.delete_phone(session, SYSTEM, await session.get(Phone, phone.id))
    assert await stored(database) == {}
    last.note([given(phone, '"two"')])
    await last.write_waiting()
    assert await stored(database) == {}
    index.close()


async def test_a_database_that_is_away_is_tried_again_and_nothing_is_lost(database, keys, renderer, monkeypatch):
    monkeypatch.setattr(fetched, "_RETRY_S", 0.01)
    phone = await a_phone(database)
    index = open_index(database, keys)
    last = LastFetched(database, renderer)
    await render(last, index, phone, '"one"')
    refusals = iter([OSError("away"), OSError("away")])
    sessions = database.sessions.begin

    def refusing():
        refusal = next(refusals, None)
        if refusal is not None:
            raise refusal
        return sessions()

    database.sessions.begin = refusing  # type: ignore[method-assign]
    last.start()
    last.note([given(phone, '"one"')])
    async with asyncio.timeout(60):
        while not await stored(database):
            await asyncio.sleep(0.01)
    await last.stop()
    index.close()


async def test_a_file_that_cannot_be_masked_or_is_no_longer_known_is_left_out(database, keys, renderer):
    phone = await a_phone(database)
    last = LastFetched(database, renderer)
    last.note([given(phone, '"never rendered here"'), given(phone, '"head"')._replace(method="HEAD")])
    await last.write_waiting()
    assert await stored(database) == {}
