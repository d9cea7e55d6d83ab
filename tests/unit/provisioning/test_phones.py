"""Operations on phones, lines and the token, against a real database with its commit guard."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from engine.audit.events import Event
from engine.audit.record import SYSTEM
from engine.db import utc_now
from engine.errors import Conflict, Invalid, NotFound
from engine.models import Account, AuditEntry, FetchedFile, Phone, PhoneStatus
from engine.provisioning import phones, store, tokens
from engine.provisioning.phones import LineFields, PhoneFields
from tests.factories import add_account, add_line, add_location, add_pbx, add_phone

WISHED = PhoneFields("80:5E:C0:AA:BB:01", "yealink", "SIP-T46U", label="Lobby")


@pytest.fixture
async def account(database):
    async with database.sessions.begin() as session:
        return await add_account(session)


async def entries(database, event):
    async with database.sessions.begin() as session:
        return list(await session.scalars(select(AuditEntry).where(AuditEntry.event == event.value)))


async def revision(database, account):
    async with database.sessions.begin() as session:
        return await store.revision_of(session, account.id)


def bad_fields(caught) -> set[str]:
    return {fault.field for fault in caught.value.fields}


async def test_a_phone_is_stored_in_canonical_spelling_with_its_lines_in_key_order(database, account):
    async with database.sessions.begin() as session:
        first, second = [await add_line(session, account, extension) for extension in ("101", "102")]
        phone = await phones.create_phone(session, SYSTEM, account, replace(WISHED, lines=(second.id, first.id)))
    assert (phone.mac, phone.vendor, phone.model, phone.status) == ("805ec0aabb01", "yealink", "T46U", "never_booted")
    async with database.sessions.begin() as session:
        assert await store.line_ids_by_phone(session, [phone.id]) == {phone.id: [second.id, first.id]}
        assert (await PhoneFields.of(session, phone)).lines == (second.id, first.id)
    assert len(await entries(database, Event.PHONE_CREATE)) == 1


async def test_every_bad_field_of_a_phone_is_named_at_once(database, account):
    async with database.sessions.begin() as session:
        stranger = await add_account(session, name="Other")
        foreign = await add_line(session, stranger, "200")
        place = await add_location(session, stranger)
        wished = PhoneFields(
            "12:34",
            "yealink",
            "VVX 450",
            label="a\nb",
            location_id=place.id,
            settings={"vlan_id": 5000, "x": 1},
            lines=(foreign.id,),
        )
        with pytest.raises(Invalid) as caught:
            await phones.create_phone(session, SYSTEM, account, wished)
    assert bad_fields(caught) == {"mac", "model", "label", "location_id", "settings.vlan_id", "settings.x", "lines.0"}
    async with database.sessions.begin() as session:
        with pytest.raises(Invalid) as caught:
            await phones.create_phone(session, SYSTEM, account, replace(WISHED, vendor="acme"))
    assert bad_fields(caught) == {"vendor"}


async def test_a_model_holds_no_more_lines_than_it_has_and_each_once(database, account):
    async with database.sessions.begin() as session:
        lines = [await add_line(session, account, f"10{number}") for number in range(3)]
        ids = tuple(line.id for line in lines)
        with pytest.raises(Invalid) as caught:
            await phones.create_phone(session, SYSTEM, account, replace(WISHED, model="T31P", lines=ids))
        assert "holds 2 lines, got 3" in caught.value.fields[0].detail
        with pytest.raises(Invalid, match="cannot be stored"):
            await phones.create_phone(session, SYSTEM, account, replace(WISHED, lines=(ids[0], ids[0])))


async def test_one_mac_is_one_phone_in_an_account_and_may_be_another_in_another(database, account):
    async with database.sessions.begin() as session:
        await phones.create_phone(session, SYSTEM, account, WISHED)
        with pytest.raises(Conflict, match="805ec0aabb01"):
            await phones.create_phone(session, SYSTEM, account, replace(WISHED, mac="805ec0-aabb01"))
        other = await add_account(session, name="Other")
        await phones.create_phone(session, SYSTEM, other, WISHED)


async def test_changing_keys_touches_only_what_changed_and_bumps_the_revision(database, account):
    async with database.sessions.begin() as session:
        ids = tuple([(await add_line(session, account, f"10{number}")).id for number in range(3)])
        phone = await phones.create_phone(session, SYSTEM, account, replace(WISHED, lines=ids))
        phone.status = PhoneStatus.CURRENT
    before = await revision(database, account)
    async with database.sessions.begin() as session:
        again = await store.phone_of(session, account.id, phone.id)
        await phones.assign_lines(session, SYSTEM, again, (ids[0], ids[2]))
        assert again.status == PhoneStatus.STALE
        assert again.version == 2  # a reader's ETag covers the keys
    assert await revision(database, account) == before + 1
    async with database.sessions.begin() as session:
        assert [(key.key, key.line_id) for key in await store.keys_of(session, phone.id)] == [(1, ids[0]), (2, ids[2])]
        with pytest.raises(Invalid):
            await phones.assign_lines(session, SYSTEM, again, ("line_nothing",))


async def test_retiring_a_phone_leaves_its_lines(database, account):
    async with database.sessions.begin() as session:
        line = await add_line(session, account)
        phone = await phones.create_phone(session, SYSTEM, account, replace(WISHED, lines=(line.id,)))
    async with database.sessions.begin() as session:
        await phones.delete_phone(session, SYSTEM, await store.phone_of(session, account.id, phone.id))
    async with database.sessions.begin() as session:
        assert not await store.phones_of(session, account.id)
        assert len(await store.lines_of(session, account.id)) == 1
        with pytest.raises(NotFound):
            await store.phone_of(session, account.id, phone.id)
    assert len(await entries(database, Event.PHONE_DELETE)) == 1


async def test_an_extension_that_would_take_emergency_calls_is_refused_with_the_reason(database, account):
    """P-08: the guard stands before the dial plan."""
    async with database.sessions.begin() as session:
        for extension in ("911", "933", "9911", "112", "9XX"):
            with pytest.raises(Invalid) as caught:
                await phones.create_line(session, SYSTEM, account, LineFields(extension))
            assert "would take calls meant for" in caught.value.fields[0].detail, extension
        with pytest.raises(Invalid) as caught:
            await phones.create_line(session, SYSTEM, account, LineFields("101", sip_user="911"))
        assert bad_fields(caught) == {"sip_user"}


async def test_every_bad_field_of_a_line_is_named_at_once(database, account):
    async with database.sessions.begin() as session:
        stranger = await add_account(session, name="Other")
        pbx = await add_pbx(session, stranger)
        place = await add_location(session, stranger)
        wished = LineFields(
            "1 01", display_name="a\x00b", sip_user='a"b', auth_user="a b", secret=" x\n", callback_number="911",
            location_id=place.id, pbx_id=pbx.id,
        )  # fmt: skip
        with pytest.raises(Invalid) as caught:
            await phones.create_line(session, SYSTEM, account, wished)
    assert bad_fields(caught) == {
        "extension", "display_name", "sip_user", "auth_user", "secret", "callback_number", "location_id", "pbx_id",
    }  # fmt: skip


async def test_a_line_takes_its_extension_as_sip_user_and_keeps_its_secret(database, account):
    async with database.sessions.begin() as session:
        wished = LineFields("101", display_name=" Front desk ", secret="s3cret", callback_number="(212) 555-0123")
        line = await phones.create_line(session, SYSTEM, account, wished)
        assert (line.sip_user, line.display_name, line.callback_number) == ("101", "Front desk", "+12125550123")
        await session.flush()
        with pytest.raises(Conflict, match="SIP user 101"):
            await phones.create_line(session, SYSTEM, account, LineFields("102", sip_user="101"))
        await phones.update_line(session, SYSTEM, account, line, replace(LineFields.of(line), extension="103"))
        assert (line.extension, line.secret) == ("103", "s3cret")
    entry = (await entries(database, Event.LINE_CREATE))[0].entry
    assert "s3cret" not in entry
    assert '"redacted":true' in entry


async def test_deleting_a_line_takes_it_off_every_key(database, account):
    async with database.sessions.begin() as session:
        first, second = [await add_line(session, account, extension) for extension in ("101", "102")]
        phone = await phones.create_phone(session, SYSTEM, account, replace(WISHED, lines=(first.id, second.id)))
        phone.status = PhoneStatus.CURRENT
    async with database.sessions.begin() as session:
        await phones.delete_line(session, SYSTEM, await store.line_of(session, account.id, first.id))
    async with database.sessions.begin() as session:
        assert await store.line_ids_by_phone(session, [phone.id]) == {phone.id: [second.id]}
        again = await session.get(Phone, phone.id)
        assert again is not None
        assert again.status == PhoneStatus.STALE
        with pytest.raises(NotFound):
            await store.line_of(session, account.id, first.id)


async def test_the_token_is_generated_once_rotated_and_revealed_each_with_its_entry(database, keys, account):
    """P-01, P-03: one current token; every operation on it is recorded and none shows it."""
    async with database.sessions.begin() as session:
        row = await session.get(Account, account.id)
        with pytest.raises(NotFound):
            await phones.reveal_token(session, SYSTEM, row)
        first = await phones.generate_token(session, SYSTEM, row, keys)
    async with database.sessions.begin() as session:
        row = await session.get(Account, account.id)
        with pytest.raises(Conflict):
            await phones.generate_token(session, SYSTEM, row, keys)
        assert await phones.reveal_token(session, SYSTEM, row) == first
        password = await phones.reveal_phone_admin_password(session, SYSTEM, row)
    before = await revision(database, account)
    async with database.sessions.begin() as session:
        row = await session.get(Account, account.id)
        second = await phones.rotate_token(session, SYSTEM, row, keys)
        assert await phones.rotate_phone_admin_password(session, SYSTEM, row) != password
        assert row.provisioning_token_index == tokens.index(keys, second)
    assert second != first
    assert await revision(database, account) > before
    for event in (
        Event.PROVISIONING_TOKEN_GENERATE, Event.PROVISIONING_TOKEN_ROTATE, Event.PROVISIONING_TOKEN_REVEAL,
        Event.PHONE_ADMIN_PASSWORD_ROTATE, Event.PHONE_ADMIN_PASSWORD_REVEAL,
    ):  # fmt: skip
        found = await entries(database, event)
        assert len(found) == 1, event
        for secret in (first, second, password, tokens.index(keys, second)):
            assert secret not in found[0].entry, event


def test_an_admin_password_is_one_phones_take_and_people_can_read_out():
    made = {phones.mint_admin_password() for _ in range(100)}
    assert len(made) == 100
    for password in made:
        assert len(password) == 16
        assert not set(password) & set("0O1lI:\"'<>&=# ")


async def test_another_mac_address_is_another_device_that_told_nothing_yet(database, account):
    """P-16, P-04: lines, settings and label stay; last fetch, firmware, URL and file key were the former device's."""
    told = {
        "status": PhoneStatus.CURRENT, "last_fetch_at": utc_now(), "last_ip": "10.0.0.7", "firmware": "108.86.0.20",
        "last_user_agent": "Yealink SIP-T46U", "fetched_revision": 3, "fetched_token_index": "x", "home_ip": "10.0.0.7",
        "straggled_at": utc_now(), "elsewhere_at": utc_now(), "resync_result": "accepted", "resync_at": utc_now(),
        "file_key": "the former one's",
    }  # fmt: skip
    async with database.sessions.begin() as session:
        line = await add_line(session, account)
        phone = await add_phone(session, account, line, settings={"vlan_id": 20}, **told)
        given = {"name": "0015654aa937.cfg", "etag": "e", "body": b"", "fetched_at": utc_now()}
        session.add(FetchedFile(phone_id=phone.id, account_id=account.id, **given))
    async with database.sessions.begin() as session:
        phone = await session.get(Phone, phone.id)
        now = await PhoneFields.of(session, phone)
        await phones.update_phone(session, SYSTEM, phone, replace(now, label="Front"))
        assert (phone.status, phone.firmware) == (PhoneStatus.STALE, "108.86.0.20"), "the same device"
        await phones.update_phone(session, SYSTEM, phone, replace(now, mac="80:5E:C0:AA:BB:02", model="T54W"))
    async with database.sessions.begin() as session:
        phone = await session.get(Phone, phone.id)
        assert (phone.mac, phone.model, phone.settings) == ("805ec0aabb02", "T54W", {"vlan_id": 20})
        assert (phone.status, phone.file_key) == (PhoneStatus.NEVER_BOOTED, None)
        assert {getattr(phone, name) for name in set(told) - {"status", "file_key"}} == {None}
        assert [key.line_id for key in await store.keys_of(session, phone.id)] == [line.id]
        assert await session.scalar(select(FetchedFile)) is None
