"""The same operations on a real PostgreSQL: the schema's history, the audit chain, the snapshot, what is unique."""

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from engine import migrations
from engine.audit import store as audit_store
from engine.audit.events import Event
from engine.audit.record import SYSTEM, open_audited, record
from engine.crypto import KeyRing
from engine.db import Base, Database, utc_now
from engine.e911 import store
from engine.e911.held import Lis
from engine.e911.held_xml import read_request
from engine.ids import new_id
from engine.models import Asset, Contact, Rollout, TemplateOverride
from engine.provisioning import index, levels, store_assets, tokens
from engine.provisioning import store as phone_store
from engine.provisioning.levels import LevelFields
from tests.factories import (
    add_account,
    add_confirmed_location,
    add_line,
    add_location,
    add_network,
    add_number,
    add_pbx,
    add_phone,
    add_sighting,
    add_trunk,
)
from tests.unit.e911.held_requests import location_request
from tests.unit.test_migrations import FIRST_SCHEMA_ROWS, OLD_PROCESS_ADDS_A_PBX

UNTIL = dt.datetime(2026, 11, 21, 20, 0, tzinfo=dt.UTC)


async def test_nodes_that_start_at_once_on_an_empty_database_migrate_it_once(postgres_url: str, keys: KeyRing) -> None:
    """Each has connections of its own, as processes have: one migrates, the others find it done."""
    opened = [open_audited(postgres_url, keys) for _ in range(3)]
    done = await asyncio.gather(*(migrations.migrate(one) for one in opened), return_exceptions=True)
    assert done == [migrations.newest_revision()] * 3
    assert await migrations.missing(opened[0]) == ()
    for one in opened:
        await one.close()


@pytest.fixture
async def postgres(postgres_url: str, keys: KeyRing) -> AsyncIterator[Database]:
    """A database with an empty schema: each test begins before the first migration."""
    opened = open_audited(postgres_url, keys)
    yield opened
    await opened.close()


def _is_every_servers(_object: object, name: str | None, kind: str, *_: object) -> bool:
    """All but GIN indexes: trigrams are only where the server has the extension, and no model says any."""
    return not (kind == "index" and str(name).endswith(("_trigram", "_hash_beginning")))


async def test_the_migrations_make_exactly_the_models_on_postgresql(postgres: Database) -> None:
    """S1-09: every column, key and index of the models is what the history made."""
    newest = await migrations.migrate(postgres)
    assert await migrations.migrate(postgres) == newest
    async with postgres.engine.connect() as connection:
        drift = await connection.run_sync(
            lambda plain: compare_metadata(
                MigrationContext.configure(plain, opts={"include_object": _is_every_servers}), Base.metadata
            )
        )
    assert drift == []


async def test_a_full_database_of_the_first_schema_migrates_on_postgresql(postgres: Database) -> None:
    """S1-09: as on SQLite, with the rows of a process of the version before written after it."""
    async with postgres.engine.begin() as connection:
        await connection.run_sync(lambda plain: migrations.upgrade(plain, "0001"))
        for statement in FIRST_SCHEMA_ROWS:
            await connection.execute(text(statement))
    await migrations.migrate(postgres)
    async with postgres.engine.begin() as connection:
        await connection.execute(text(OLD_PROCESS_ADDS_A_PBX))
    async with postgres.sessions() as session:
        snapshot = await store.account_snapshot(session, "account_1")
    assert snapshot is not None
    assert [row["id"] for row in snapshot["pbxs"]] == ["pbx_1", "pbx_2"]
    assert snapshot["networks"][0]["value"] == "10.1.0.0/16"


async def test_a_snapshot_from_postgresql_is_the_one_from_sqlite(postgres: Database, database: Database) -> None:
    """E-05: the edge cannot tell which database its table came from."""
    await migrations.migrate(postgres)
    made = [await _snapshot_of_a_site(opened) for opened in (postgres, database)]
    assert made[0] == made[1]
    assert made[0]["numbers"][0]["held_until"] == "2026-11-21T20:00:00.000000Z"


async def test_an_entry_cannot_be_changed_and_two_writers_keep_one_chain_on_postgresql(postgres: Database) -> None:
    """S1-06: the chain's head is read under a lock, whoever else writes."""
    await migrations.migrate(postgres)
    async with postgres.sessions.begin() as session:
        account = await add_account(session)

    async def add(number: int) -> None:
        async with postgres.sessions.begin() as session:
            await add_number(session, account, f"+1518555{number:04}")

    await asyncio.gather(*(add(number) for number in range(6)))
    async with postgres.sessions() as session:
        head = await audit_store.head(session, account.id)
        revisions = await store.revisions(session)
    assert head is not None
    assert head[0] == 7
    assert revisions[account.id] == 7
    with pytest.raises(DBAPIError, match="never changed"):
        async with postgres.engine.begin() as connection:
            await connection.execute(text("UPDATE audit_entry SET outcome = 'failure'"))


async def test_a_name_or_user_names_one_pbx_alone_on_postgresql(postgres: Database) -> None:
    """E-04: two empty ones are no twins."""
    await migrations.migrate(postgres)
    async with postgres.sessions.begin() as session:
        account, other = await add_account(session), await add_account(session, name="Other")
        for owner in (account, other):
            await add_pbx(session, owner)
        await add_pbx(session, account, auth_user="acme")
        await add_pbx(session, account, tls_name="pbx.example")
    for twin in ({"auth_user": "acme"}, {"tls_name": "pbx.example"}):
        with pytest.raises(IntegrityError):
            async with postgres.sessions.begin() as session:
                await add_pbx(session, other, **twin)


async def _snapshot_of_a_site(opened: Database) -> dict[str, object]:
    async with opened.sessions.begin() as session:
        account = await add_account(session, id="account_1")
        location = await add_location(session, account, id="location_1", validated_at=UNTIL, geo={"latitude": 42.65})
        pbx = await add_pbx(session, account, id="pbx_1", auth_user="acme", secret="password")
        await add_network(session, location, "001122334455/gi1/0/24", id="network_1", kind="switch_port")
        line = await add_line(session, account, id="line_1", pbx_id=pbx.id)
        phone = await add_phone(session, account, line, id="phone_1")
        await add_trunk(session, account, id="trunk_1", transport="tls", location_mode="both")
        await add_number(
            session, account, "+15185550150", id="number_1", kind="elin", held_until=UNTIL, held_by={"call": "call_1"}
        )
        await add_sighting(session, phone, bssid="001122334455", seen_at=UNTIL)
        await add_confirmed_location(session, location, id="confirmed_1", line_id=line.id, confirmed_at=UNTIL)
    async with opened.sessions() as session:
        snapshot = await store.account_snapshot(session, "account_1")
    assert snapshot is not None
    return snapshot


async def test_a_provisioning_look_up_walks_the_indexes_of_both_tokens_on_postgresql(
    postgres: Database, keys: KeyRing
) -> None:
    """P-04: the one statement of a phone's request, by the token in force and by the next one."""
    await migrations.migrate(postgres)
    token, following = tokens.mint(), tokens.mint()
    async with postgres.sessions.begin() as session:
        account = await add_account(
            session,
            provisioning_token_index=tokens.index(keys, token),
            next_provisioning_token=following,
            next_provisioning_token_index=tokens.index(keys, following),
            provisioning_policy={"encrypt_files": True},
        )
        phone = await add_phone(session, account)
    opened = index.SessionIndex(postgres, keys)
    by_old = await opened.find(tokens.index(keys, token), phone.mac)
    assert by_old is not None
    assert (by_old.phone_id, by_old.is_next, json.loads(by_old.policy)) == (phone.id, False, {"encrypt_files": True})
    assert await opened.find(tokens.index(keys, following), phone.mac) == by_old._replace(is_next=True)
    assert await opened.find(tokens.index(keys, tokens.mint()), phone.mac) is None
    kept = await opened.account(account.id)
    assert kept is not None
    assert kept.next_token == following
    async with postgres.engine.connect() as connection:
        await connection.execute(text("SET enable_seqscan = off"))  # a table of one row would be read whole
        asked = {"token_index": "x", "mac": "y", "file": "z"}
        plan = await connection.execute(text("EXPLAIN " + index._FIND), asked)
        walks = "\n".join(row[0] for row in plan)
    assert "(provisioning_token_index)::text = " in walks
    assert "(next_provisioning_token_index)::text = " in walks
    assert "BitmapOr" in walks


async def test_held_finds_phones_lines_and_subnets(postgres: Database, keys: KeyRing, tmp_path: Path) -> None:
    """E-13: every question of the HELD server, in this database's own SQL."""
    await migrations.migrate(postgres)
    now = utc_now()
    async with postgres.sessions.begin() as session:
        account = await add_account(session)
        barn = await add_location(session, account, name="Barn")
        lab = await add_location(session, account, name="Lab")
        await add_network(session, lab, "10.7.0.0/16")
        pbx = await add_pbx(session, account, sources=["192.0.2.10/32"])
        line = await add_line(session, account, "101", pbx_id=pbx.id, callback_number="+15185550101")
        phone = await add_phone(
            session, account, line, location_id=barn.id, last_ip="198.51.100.7", last_fetch_at=now
        )  # fmt: skip
        await add_sighting(session, phone, ip="10.7.3.4")
    lis = Lis(postgres, keys, tmp_path, "https://phones.example.net/held", lambda *_: None)
    for asker, device, location in (
        ("198.51.100.7", "", barn),
        ("10.7.9.9", "", lab),
        ("192.0.2.10", "<uri>sip:101@pbx</uri>", lab),
        ("192.0.2.10", "<uri>tel:+15185550101</uri>", lab),
        ("192.0.2.10", "<mac>00-15-65-4A-A9-37</mac>", lab),
    ):
        found = await lis.locate(asker, read_request(location_request(device=device)), now)
        assert found.location.name == location.name, (asker, device)


async def test_levels_and_templates_of_a_phone_are_found_on_postgresql(postgres: Database, keys: KeyRing) -> None:
    """P-10, P-17: the statements of a rendering, a running roll-out's among them; a level of all accounts bumps all."""
    await migrations.migrate(postgres)
    async with postgres.sessions.begin() as session:
        account = await add_account(session)
        phone = await add_phone(session, account)
        await levels.create_level(session, SYSTEM, account, LevelFields("account", settings={"vlan_id": 3}))
        own = TemplateOverride(
            id=new_id("template"), account_id=account.id, vendor="yealink", name="time.cfg.j2", body="own", number=1
        )
        session.add(own)
        record(session, SYSTEM, Event.TEMPLATE_CREATE, own)
        for kind, target, after in (
            ("settings", "yealink/T46U", {"lldp": False}), ("template", "yealink/time.cfg.j2", "rolled out"),
        ):  # fmt: skip
            rollout = Rollout(
                id=new_id("rollout"), account_id=account.id, kind=kind, target=target, canary=[phone.id],
                change={"before": None, "after": after}, started_by="test", started_at=utc_now(),
            )  # fmt: skip
            session.add(rollout)
            record(session, SYSTEM, Event.ROLLOUT_CREATE, rollout)
    opened = index.SessionIndex(postgres, keys)
    found = await opened.phone(phone.id)
    assert found is not None
    assert (found.settings["vlan_id"], found.sources["vlan_id"].kind) == (3, "account")
    assert (found.settings["lldp"], found.sources["lldp"].kind) == (False, "model")
    assert found.account.settings["lldp"] is True
    assert await opened.overrides(account.id, "yealink", phone.id) == {"time.cfg.j2": "rolled out"}
    assert await opened.overrides(account.id, "yealink", "") == {"time.cfg.j2": "own"}
    async with postgres.sessions.begin() as session:
        before = await phone_store.revision_of(session, account.id)
        await levels.put_global(session, SYSTEM, {"vlan_priority": 6})
    async with postgres.sessions() as session:
        assert await phone_store.revision_of(session, account.id) == before + 1
    again = await opened.account(account.id)
    assert again is not None
    assert (again.settings["vlan_priority"], again.settings["vlan_id"]) == (6, 3)


async def test_files_and_the_phonebook_of_an_account_are_found_on_postgresql(postgres: Database, keys: KeyRing) -> None:
    """P-07: the file of the name asked for, those a phone's settings name, lines and contacts by name."""
    await migrations.migrate(postgres)
    token = tokens.mint()
    async with postgres.sessions.begin() as session:
        account = await add_account(session, provisioning_token_index=tokens.index(keys, token))
        line = await add_line(session, account, "101")
        rom = {"vendor": "yealink", "models": ["T46U"], "firmware": "1.2", "size_bytes": 3, "sha256": "a" * 64}
        asset = Asset(id=new_id("asset"), account_id=account.id, name="a.rom", kind="firmware", **rom)
        contact = Contact(id=new_id("contact"), account_id=account.id, name="Ann", number="102")
        session.add_all([asset, contact])
        record(session, SYSTEM, Event.ASSET_CREATE, asset)
        record(session, SYSTEM, Event.CONTACT_CREATE, contact)
        phone = await add_phone(session, account, line, vendor="yealink", model="T46U", settings={"firmware": "a.rom"})
    opened = index.SessionIndex(postgres, keys)
    found = await opened.find(tokens.index(keys, token), phone.mac, "a.rom")
    assert found is not None
    assert found.asset is not None
    assert (found.asset.models, found.asset.firmware) == (("T46U",), "1.2")
    stored = await opened.phone(phone.id)
    assert stored is not None
    assert stored.assets == (found.asset,)
    assert [entry.number for entry in await opened.phonebook(account.id)] == ["102", "101"]
    async with postgres.sessions.begin() as session:
        assert [one.id for one in await store_assets.phones_that_name(session, account.id, "a.rom")] == [phone.id]
        assert await store_assets.contacts_of(session, account.id, sought="aN")
