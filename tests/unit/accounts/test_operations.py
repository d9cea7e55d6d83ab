"""Operations on accounts, users, keys, PBXs and trunks, on a real database with the commit guard."""

import datetime as dt
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import operations, store
from engine.accounts.operations import AccountFields, PbxFields, TrunkFields, UserFields
from engine.audit.record import Actor
from engine.db import Database, utc_now
from engine.errors import Conflict, Forbidden, Invalid, NotFound
from engine.models import Account, AuditEntry, Credential, Line, Network, Revision, Role, SetupLink, UserStatus
from tests.factories import add_account, add_line, add_location, add_network

CLI = Actor("cli", "cli", "tests", "local")


@pytest.fixture
async def session(database: Database) -> AsyncIterator[AsyncSession]:
    async with database.sessions.begin() as opened:
        yield opened


async def test_an_account_comes_with_its_owner_in_one_entry(database: Database) -> None:
    """AD-01: `account create`: account, owner and password are one operation and one entry; the hash is redacted."""
    async with database.sessions.begin() as session:
        account = await operations.create_account(session, CLI, " Acme Dental ", "Owner@Acme.Example", "$argon2id$x")
    async with database.sessions() as session:
        entry = (await session.scalars(select(AuditEntry))).one()
        owner = await store.user_by_email(session, "OWNER@acme.example")
    told = json.loads(entry.entry)
    assert owner is not None
    assert (owner.role, owner.account_id, account.name) == (Role.OWNER, account.id, "Acme Dental")
    assert (entry.event, entry.chain) == ("account.create", account.id)
    assert "$argon2id$x" not in entry.entry
    assert told["changes"]["name"] == {"before": None, "after": "Acme Dental"}
    assert any(name.endswith(".email") for name in told["changes"])


@pytest.mark.parametrize(
    ("name", "email"), [("", "a@b.example"), ("x" * 201, "a@b.example"), ("A\nB", "a@b.example"), ("A", "nope")]
)
async def test_an_account_needs_a_name_and_an_address(session: AsyncSession, name: str, email: str) -> None:
    """AD-01: what cannot be printed or mailed is refused."""
    with pytest.raises(Invalid):
        await operations.create_account(session, CLI, name, email, None)


async def test_an_address_signs_in_to_one_account(session: AsyncSession) -> None:
    """AD-01: the e-mail address is the name people sign in with."""
    await operations.create_account(session, CLI, "Acme", "owner@acme.example", None)
    await session.flush()
    with pytest.raises(Conflict):
        await operations.create_account(session, CLI, "Beta", "OWNER@acme.example", None)


async def test_a_setup_link_works_once_within_half_an_hour(database: Database) -> None:
    """AD-01: used, expired and invented links answer alike."""
    async with database.sessions.begin() as session:
        key = await operations.new_setup_link(session)
        late = await operations.new_setup_link(session)
        expired = utc_now() - dt.timedelta(seconds=1)
        await session.flush()
        await session.execute(
            update(SetupLink).where(SetupLink.key_hash == store_hash(late)).values(expires_at=expired)
        )
    async with database.sessions.begin() as session:
        made = await operations.use_setup_link(session, CLI, key, "Acme", "owner@acme.example", "Olga", "$argon2id$x")
    assert made.owner.role == Role.OWNER
    for wrong in (key, late, "invented"):
        async with database.sessions() as session:
            with pytest.raises(NotFound, match="set-up link"):
                await operations.use_setup_link(session, CLI, wrong, "Beta", "owner@beta.example", "B", "$argon2id$y")
    async with database.sessions() as session:
        assert key not in repr([vars(row) for row in (await session.scalars(select(SetupLink))).all()])


def store_hash(key: str) -> str:
    from engine.accounts.keys import digest

    return digest(key)


async def test_a_refused_setup_leaves_the_link_usable(database: Database) -> None:
    """AD-01: a mistyped address does not lock the installation."""
    async with database.sessions.begin() as session:
        key = await operations.new_setup_link(session)
    async with database.sessions() as session:
        with pytest.raises(Invalid):
            await operations.use_setup_link(session, CLI, key, "Acme", "nonsense", "Olga", "$argon2id$x")
    async with database.sessions.begin() as session:
        await operations.use_setup_link(session, CLI, key, "Acme", "owner@acme.example", "Olga", "$argon2id$x")


async def test_every_bad_field_of_an_account_is_told_at_once(session: AsyncSession) -> None:
    """AD-02: time zone, country, language, number, address and location together."""
    account = await add_account(session)
    wished = replace(
        AccountFields.of(account), timezone="Mars/Olympus", country="usa", language="*", callback_number="911",
        billing_address={"planet": "Mars"}, default_location_id="location_nobody", name=" ",
    )  # fmt: skip
    with pytest.raises(Invalid) as caught:
        await operations.update_account(session, CLI, account, wished)
    assert {fault.field for fault in caught.value.fields} == {
        "timezone", "country", "language", "callback_number", "billing_address.planet", "default_location_id", "name",
    }  # fmt: skip


async def test_a_telephone_number_and_a_billing_address_are_held_to_what_they_are(session: AsyncSession) -> None:
    """AD-02, S0-07: no word for a number, no country beyond ISO 3166, no part too long; what stood before stays."""
    account = await add_account(session)
    account.phone = "banana"  # of an older row: no fault of a change to something else
    await operations.update_account(session, CLI, account, replace(AccountFields.of(account), name="Acme"))
    long = {"street": "1" * 201, "city": "Al\nbany", "postal_code": "1" * 21, "country": "USA", "state": "NY"}
    with pytest.raises(Invalid) as caught:
        wished = replace(AccountFields.of(account), phone="911", country="ZZ", billing_address=long)
        await operations.update_account(session, CLI, account, wished)
    assert {fault.field: fault.detail for fault in caught.value.fields} == {
        "phone": "Expected a telephone number, such as +15185550100 or (518) 555-0100 x12.",
        "country": "Expected two capital letters of ISO 3166, such as US.",
        "billing_address.street": "Expected one line of at most 200 printable characters.",
        "billing_address.city": "Expected one line of at most 200 printable characters.",
        "billing_address.postal_code": "Expected one line of at most 20 printable characters.",
        "billing_address.country": "Expected two letters of ISO 3166, such as US.",
    }
    for phone in ("(518) 555-0100 x12", "+44 20 7946 0958", ""):
        await operations.update_account(session, CLI, account, replace(AccountFields.of(account), phone=phone))
        assert account.phone == phone
    billing = {"street": " 120 Washington Ave ", "city": "", "postal_code": "12203-1234", "country": "us"}
    await operations.update_account(session, CLI, account, replace(AccountFields.of(account), billing_address=billing))
    assert account.billing_address == {"street": "120 Washington Ave", "postal_code": "12203-1234", "country": "US"}


async def test_a_changed_account_moves_its_revision(database: Database) -> None:
    """AD-02: what calls are routed by is published anew after the commit."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        location = await add_location(session, account)
    async with database.sessions.begin() as session:
        mine = await session.get(Account, account.id)
        assert mine is not None
        before = await session.scalar(select(Revision.value).where(Revision.account_id == account.id))
        wished = replace(AccountFields.of(mine), default_location_id=location.id, callback_number="(518) 555-0100")
        await operations.update_account(session, CLI, mine, wished)
    assert mine.callback_number == "+15185550100"
    async with database.sessions() as session:
        assert await session.scalar(select(Revision.value).where(Revision.account_id == account.id)) == before + 1


async def test_a_new_password_ends_the_other_sessions(database: Database) -> None:
    """AD-AUTH: whoever changes the password stays, everybody else with it is out."""
    async with database.sessions.begin() as session:
        await operations.create_account(session, CLI, "Acme", "owner@acme.example", "$argon2id$x")
    async with database.sessions.begin() as session:
        owner = await store.user_by_email(session, "owner@acme.example")
        assert owner is not None
        for _ in range(3):
            await operations.start_session(session, owner, ip="192.0.2.1", user_agent="")
    async with database.sessions.begin() as session:
        owner = await store.user_by_email(session, "owner@acme.example")
        assert owner is not None
        kept = (await store.sessions_of_user(session, owner.id))[0].id
        await operations.change_password(session, CLI, owner, "$argon2id$y", keep_session=kept)
    async with database.sessions() as session:
        assert [row.id for row in await store.sessions_of_user(session, owner.id)] == [kept]
        assert (await session.scalars(select(Credential.hash))).one() == "$argon2id$y"


async def test_an_administrator_cannot_unmake_an_owner(session: AsyncSession) -> None:
    """AD-AUTH: promotion and demotion of owners belong to owners."""
    account = await operations.create_account(session, CLI, "Acme", "owner@acme.example", None)
    await session.flush()
    owner = await store.user_by_email(session, "owner@acme.example")
    assert owner is not None
    admin = replace(CLI, type="user", role=Role.ADMIN, account_id=account.id)
    with pytest.raises(Forbidden):
        await operations.update_user(session, admin, owner, UserFields(owner.email, role=Role.AUDITOR))
    with pytest.raises(Forbidden):
        await operations.create_user(session, admin, account, UserFields("b@acme.example", role=Role.OWNER), None)
    with pytest.raises(Conflict, match="last active owner"):
        disabled = UserFields(owner.email, role=Role.OWNER, status=UserStatus.DISABLED)
        await operations.update_user(session, CLI, owner, disabled)


async def test_revoking_a_key_twice_keeps_the_first_time(session: AsyncSession) -> None:
    """AD-AUTH: the log says when it ended, once."""
    account = await add_account(session)
    made = await operations.create_api_key(session, CLI, account, name="script", scopes=["*"])
    await session.flush()
    await operations.revoke_api_key(session, CLI, made.row)
    first = made.row.revoked_at
    await operations.revoke_api_key(session, CLI, made.row)
    assert made.row.revoked_at == first
    assert made.clear not in repr(made)


async def test_pbx_networks_are_kept_in_one_spelling_each_once(session: AsyncSession) -> None:
    """E-05: 10.1.2.3/16, 10.1.0.0/16 and ::ffff:10.1.0.0/112 are one network."""
    account = await add_account(session)
    wished = PbxFields(
        "PBX", sources=("10.1.2.3/16", "10.1.0.0/16", "::ffff:10.1.9.9/112", "2001:DB8::/32", "192.0.2.7")
    )
    pbx = await operations.create_pbx(session, CLI, account, wished)
    assert pbx.sources == ["10.1.0.0/16", "2001:db8::/32", "192.0.2.7/32"]


async def test_two_pbxs_never_share_a_network(session: AsyncSession) -> None:
    """E-05: not even over accounts: a request would have two owners."""
    one, other = await add_account(session), await add_account(session, name="Beta")
    await operations.create_pbx(session, CLI, one, PbxFields("P", sources=("10.1.0.0/16",)))
    await session.flush()
    with pytest.raises(Conflict) as caught:
        await operations.create_pbx(session, CLI, other, PbxFields("Q", sources=("10.1.200.1/16",)))
    assert one.id not in caught.value.detail
    narrower = await operations.create_pbx(session, CLI, one, PbxFields("Q", sources=("10.1.200.0/24",)))
    await session.flush()
    await operations.update_pbx(session, CLI, one, narrower, replace(PbxFields.of(narrower), name="R"))


@pytest.mark.parametrize("nested", ["10.1.200.0/24", "10.0.0.0/8", "10.1.2.3", "2001:db8:1::/48", "2001::/16"])
async def test_no_account_takes_a_part_of_another_s_network(session: AsyncSession, nested: str) -> None:
    """E-03, E-04: the longest prefix would have the other's 911 calls; who the other is stays unsaid."""
    one, other = await add_account(session, name="Secret Customer"), await add_account(session, name="Beta")
    held = PbxFields("Their private PBX", sources=("10.1.0.0/16", "2001:db8::/32"))
    first = await operations.create_pbx(session, CLI, one, held)
    await session.flush()
    with pytest.raises(Conflict, match="overlaps a network that another account's PBX has") as caught:
        await operations.create_pbx(session, CLI, other, PbxFields("Q", sources=("192.0.2.0/24", nested)))
    for theirs in (one.id, one.name, first.id, first.name, *held.sources, "192.0.2.0"):
        assert theirs not in caught.value.detail
    proven = PbxFields("Q", sources=("192.0.2.0/24", nested), auth_user="beta", secret="password")
    with pytest.raises(Conflict, match="overlaps"):  # one of the two is not enough
        await operations.create_pbx(session, CLI, other, proven)
    await operations.update_pbx(session, CLI, one, first, replace(PbxFields.of(first), tls_name="pbx.one.example"))
    await session.flush()
    second = await operations.create_pbx(session, CLI, other, proven)
    await session.flush()
    for pbx, account, bare in ((first, one, {"tls_name": ""}), (second, other, {"auth_user": "", "secret": None})):
        with pytest.raises(Conflict, match="overlaps"):  # nor may either stop proving itself
            await operations.update_pbx(session, CLI, account, pbx, replace(PbxFields.of(pbx), **bare))


async def test_pbxs_that_prove_themselves_may_share_a_network(session: AsyncSession) -> None:
    """E-04: behind one address of a cloud there are many PBXs; the name or the password tells them apart."""
    one, other = await add_account(session), await add_account(session, name="Beta")
    cloud = ("203.0.113.0/24",)
    by_name = PbxFields("P", cloud, tls_name="PBX.Acme.example.")
    first = await operations.create_pbx(session, CLI, one, by_name)
    await session.flush()
    assert first.tls_name == "pbx.acme.example"
    by_user = PbxFields("Q", cloud, auth_user="beta", secret="password")
    second = await operations.create_pbx(session, CLI, other, by_user)
    await session.flush()
    with pytest.raises(Conflict, match=r"203\.0\.113\.0/24"):
        await operations.create_pbx(session, CLI, other, PbxFields("R", cloud))
    with pytest.raises(Conflict, match=r"203\.0\.113\.0/24"):
        await operations.update_pbx(session, CLI, other, second, replace(by_user, auth_user="", secret=None))
    with pytest.raises(Conflict, match="certificate name"):
        await operations.create_pbx(session, CLI, other, PbxFields("S", tls_name="pbx.acme.example"))
    with pytest.raises(Conflict, match="The user beta"):
        await operations.create_pbx(session, CLI, one, PbxFields("T", auth_user="beta", secret="other"))
    await operations.update_pbx(session, CLI, other, second, replace(PbxFields.of(second), name="Renamed"))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"auth_user": "acme"}, "secret"),
        ({"secret": "password"}, "auth_user"),
        ({"auth_user": "a:b", "secret": "x"}, "auth_user"),
        ({"auth_user": "a b", "secret": "x"}, "auth_user"),
        ({"auth_user": "a", "secret": "x\n"}, "secret"),
        ({"tls_name": "*.example.com"}, "tls_name"),
        ({"tls_name": "a b"}, "tls_name"),
        ({"default_route": "sip:911@192.0.2.1"}, "default_route"),
        ({"default_route": "sip:1-111@192.0.2.1"}, "default_route"),
        ({"default_route": "sip:%39%31%31@192.0.2.1"}, "default_route"),
        ({"default_route": "sip:911;x=1@192.0.2.1"}, "default_route"),
        ({"default_route": "sip:911:secret@192.0.2.1"}, "default_route"),
        ({"default_route": "sip:00@@"}, "default_route"),
    ],
)
async def test_a_pbx_is_checked_field_by_field(session: AsyncSession, change: dict[str, str], field: str) -> None:
    """E-01, E-04: half a proof is none, and no other call is sent to an emergency number of any office."""
    account = await add_account(session)
    await add_location(session, account, civic_address={"country": "NZ", "A3": "Wellington"})
    with pytest.raises(Invalid) as caught:
        await operations.create_pbx(session, CLI, account, PbxFields("P", ("10.1.0.0/16",), **change))
    assert field in {fault.field for fault in caught.value.fields}


@pytest.mark.parametrize("number", ["911", "9911", "111", "9-1-1"])
async def test_a_test_call_never_rings_at_an_emergency_number(session: AsyncSession, number: str) -> None:
    """E-01: a typing mistake in the trunk must not send a drill to responders."""
    account = await add_account(session)
    await add_location(session, account, civic_address={"country": "NZ"})
    with pytest.raises(Invalid) as caught:
        await operations.create_trunk(session, CLI, account, TrunkFields("T", "h.example", test_number=number))
    assert [fault.field for fault in caught.value.fields] == ["test_number"]


async def test_what_hangs_on_a_deleted_pbx_is_in_its_entry(database: Database) -> None:
    """S0-30: networks that go with it and lines that lose it are told, not swept away by the database."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        location = await add_location(session, account)
        pbx = await operations.create_pbx(session, CLI, account, PbxFields("P", sources=("10.1.0.0/16",)))
        await session.flush()
        network = await add_network(session, location, "10.1.5.0/24", pbx_id=pbx.id)
        line = await add_line(session, account, pbx_id=pbx.id)
    async with database.sessions.begin() as session:
        mine = await store.pbx_by_id(session, account.id, pbx.id)
        await operations.delete_pbx(session, CLI, mine)
    async with database.sessions() as session:
        entry = (await session.scalars(select(AuditEntry).order_by(AuditEntry.seq.desc()).limit(1))).one()
        kept = await session.get(Line, line.id)
        assert await session.get(Network, network.id) is None
    assert kept is not None
    assert kept.pbx_id is None
    changes = json.loads(entry.entry)["changes"]
    assert changes[f"network[{network.id}].value"] == {"before": "10.1.5.0/24", "after": None}
    assert changes[f"line[{line.id}].pbx_id"] == {"before": pbx.id, "after": None}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"host": ""}, "host"),
        ({"host": "sip.carrier.example:5060"}, "host"),
        ({"host": "256.1.1.1"}, "host"),
        ({"host": "a..b"}, "host"),
        ({"port": 70_000}, "port"),
        ({"transport": "sctp"}, "transport"),
        ({"priority": -1}, "priority"),
        ({"location_mode": "carrier pigeon"}, "location_mode"),
        ({"profile": "../etc"}, "profile"),
        ({"secret": "a\nb"}, "secret"),
        ({"auth_user": "a b"}, "auth_user"),
        ({"test_number": "9 3 3"}, "test_number"),
        ({"name": ""}, "name"),
    ],
)
async def test_a_trunk_is_checked_field_by_field(session: AsyncSession, change: dict[str, object], field: str) -> None:
    """E-07: whatever would break a request line or reach another place is refused by name."""
    account = await add_account(session)
    with pytest.raises(Invalid) as caught:
        await operations.create_trunk(session, CLI, account, replace(TrunkFields("T", "sip.carrier.example"), **change))
    assert [fault.field for fault in caught.value.fields] == [field]


@pytest.mark.parametrize(
    "host", ["sip.carrier.example", "192.0.2.10", "2001:db8::5", "_sip._udp.carrier.example", "localhost"]
)
async def test_a_trunk_may_be_named_or_numbered(session: AsyncSession, host: str) -> None:
    """E-07: names, IPv4 and IPv6 literals."""
    account = await add_account(session)
    assert (await operations.create_trunk(session, CLI, account, TrunkFields("T", host))).host == host


async def test_rows_come_in_order_behind_a_key(session: AsyncSession) -> None:
    """AD-API: the question behind every list."""
    account, other = await add_account(session), await add_account(session, name="Beta")
    made = [await operations.create_trunk(session, CLI, account, TrunkFields(f"T{n}", "h.example")) for n in range(5)]
    await operations.create_trunk(session, CLI, other, TrunkFields("foreign", "h.example"))
    await session.flush()
    ids = sorted(trunk.id for trunk in made)  # made within one millisecond they have no order of their own
    assert [row.id for row in await store.trunks_of(session, account.id, limit=2)] == ids[:2]
    assert [row.id for row in await store.trunks_of(session, account.id, after=ids[1])] == ids[2:]
    for wrong in ("", "trunk_", ids[0].upper(), f"{ids[0]}\x00", "x" * 5000, other.id):
        with pytest.raises(NotFound):
            await store.trunk_by_id(session, account.id, wrong)
