"""From the logs to a hint, its entry, its mail and its end; on a real database with a real mail server."""

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select

from engine.accounts import anomaly_watch, operations
from engine.accounts import store_anomalies as store
from engine.accounts.anomaly_mail import AnomalyMail, message
from engine.accounts.anomaly_watch import AnomalyWatch
from engine.audit.events import Event
from engine.audit.record import SYSTEM, Actor, record
from engine.config import Mail
from engine.db import Database, utc_now
from engine.ids import new_id
from engine.models import Account, Anomaly, AuditEntry, Session, User
from tests.sink import MailSink

pytestmark = pytest.mark.enable_socket  # a mail server on loopback
CLI = Actor("cli", "cli", "tests", "local")
CHROME = "Mozilla/5.0 (Windows NT 10.0) Chrome/120.0 Safari/537.36"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0"
DAY = dt.timedelta(days=1)


@pytest.fixture
async def account(database: Database) -> Account:
    """An account whose owner has signed in once a day for three weeks, from one network."""
    async with database.sessions.begin() as session:
        made = await operations.create_account(session, CLI, "Acme Dental", "olga@acme.example", None, "Olga Owner")
    for ago in range(21, 0, -1):
        await sign_in(database, made.id, utc_now() - DAY * ago)
    return made


@pytest.fixture
async def watch(database: Database, account: Account) -> AnomalyWatch:
    """It has noted where the account stands."""
    made = AnomalyWatch(database)
    assert await made.look(utc_now()) == 0
    return made


async def owner(database: Database, account_id: str) -> User:
    async with database.sessions() as session:
        found = await session.scalar(select(User).where(User.account_id == account_id).order_by(User.id).limit(1))
    assert found is not None
    return found


async def sign_in(
    database: Database, account_id: str, at: dt.datetime, ip: str = "10.0.7.5", agent: str = CHROME
) -> None:
    """The rows of a sign-in at that time; its entry where it is now."""
    user = await owner(database, account_id)
    async with database.sessions.begin() as session:
        session.add(
            Session(
                id=new_id("session"), user_id=user.id, account_id=account_id, cookie_hash=new_id("session"),
                method="password", ip=ip, user_agent=agent, created_at=at, seen_at=at, proven_at=at,
            )
        )  # fmt: skip
        if utc_now() - at < DAY:
            actor = Actor("user", user.id, user.email, ip, account_id, user.name)
            record(session, actor, Event.SESSION_CREATE, resource=("user", user.id, user.email))


async def hints(database: Database) -> list[Anomaly]:
    async with database.sessions() as session:
        return list(await session.scalars(select(Anomaly).order_by(Anomaly.id)))


async def test_an_unfamiliar_sign_in_becomes_one_hint_with_its_entry(
    database: Database, account: Account, watch: AnomalyWatch
) -> None:
    """S2-12: told once, on record, with the owners to be mailed; an upgrade's first look tells nothing."""
    assert await hints(database) == []
    await sign_in(database, account.id, utc_now())
    assert await watch.look(utc_now()) == 0
    await sign_in(database, account.id, utc_now(), "203.0.113.9", FIREFOX)
    assert await watch.look(utc_now()) == 1
    assert watch.on_found.is_set()
    (hint,) = await hints(database)
    assert (hint.kind, hint.ip, hint.mail_to) == ("unfamiliar_sign_in", "203.0.113.9", ["olga@acme.example"])
    assert await watch.look(utc_now()) == 0
    async with database.sessions() as session:
        entry = await session.scalar(select(AuditEntry).where(AuditEntry.event == "anomaly.create"))
        assert await store.open_count(session, account.id) == 1
    assert entry is not None
    told = json.loads(entry.entry)
    assert told["resource"] == {"type": "anomaly", "id": hint.id, "name": hint.headline}
    assert told["changes"]["headline"]["after"] == hint.headline
    assert "mail_to" not in told["changes"]


async def test_every_rule_finds_what_it_looks_for_in_real_logs(
    database: Database, account: Account, watch: AnomalyWatch
) -> None:
    """S2-12: failures before a success, many people's passwords, mass deletion, a reveal, a night's export, a key."""
    user = await owner(database, account.id)
    me = Actor("user", user.id, user.email, "10.0.7.5", account.id, user.name)
    thief = Actor("user", user.id, user.email, "203.0.113.9", account.id, user.name)
    key = Actor("api_key", "api_key_1", "nightly", "203.0.113.9", account.id)
    async with database.sessions.begin() as session:
        for number in range(9):
            for who in (user.id, f"user_{number}"):
                record(
                    session, thief, Event.SESSION_CREATE, resource=("user", who, ""), outcome="denied", status=401,
                    account_id=account.id,
                )  # fmt: skip
        for number in range(15):
            record(session, me, Event.CONTACT_DELETE, resource=("contact", f"contact_{number}", "x"))
        record(session, thief, Event.PROVISIONING_TOKEN_REVEAL, resource=("account", account.id, ""))
        record(session, me, Event.AUDIT_LOG_EXPORT, resource=("audit_log", "export", "csv"))
        record(session, key, Event.PHONE_LIST)
    await sign_in(database, account.id, utc_now())
    async with database.sessions() as session:
        query = select(func.max(AuditEntry.seq)).where(AuditEntry.chain == account.id)
        newest = await session.scalar(query)
        assert newest is not None
        entries = await store.fresh_acts(session, account.id, 0, newest)
        found = await anomaly_watch.hints_of(session, account, newest - 40, newest, utc_now())
    assert {act.event for act in entries} >= {"contact.delete", "audit_log.export", "provisioning_token.reveal"}
    kinds = {hint.kind.value for hint in found}
    assert {"sign_in_after_failures", "passwords_tried", "mass_deletion"} <= kinds
    assert kinds.isdisjoint({"reveal_from_new_network", "key_from_new_network"})  # too young to know their places
    assert await watch.look(utc_now()) == len(found)


async def test_of_two_nodes_one_keeps_the_hint(database: Database, account: Account, watch: AnomalyWatch) -> None:
    """S2-12: both look at the same entries; the position moves once."""
    other = AnomalyWatch(database)
    await sign_in(database, account.id, utc_now(), "203.0.113.9", FIREFOX)
    assert sorted(await asyncio.gather(watch.look(utc_now()), other.look(utc_now()))) == [0, 1]
    async with database.sessions.begin() as session:
        assert not await store.move_position(session, account.id, None, 9)
        assert not await store.move_position(session, account.id, 999_999, 9)


@pytest.fixture
async def sink() -> AsyncIterator[MailSink]:
    made = MailSink()
    await made.start()
    yield made
    await made.stop()


def settings(port: int) -> Mail:
    return Mail.model_validate(
        {"host": "127.0.0.1", "port": port, "security": "none", "from": "Callpoint <calls@acme.example>"}
    )


async def test_the_owners_are_mailed_once_with_what_it_was_noticed_by(
    database: Database, account: Account, watch: AnomalyWatch, sink: MailSink
) -> None:
    """S2-12: out of the hint's own row, never from a request; a server that is away is tried again later."""
    await sign_in(database, account.id, utc_now(), "203.0.113.9", FIREFOX)
    await watch.look(utc_now())
    away = AnomalyMail(database, settings(1), "", watch.on_found)
    assert await away.send_due() == 0
    (hint,) = await hints(database)
    assert (hint.mail_tries, hint.mail_to, hint.mail_claimed_until) == (1, ["olga@acme.example"], None)
    assert hint.mail_error
    assert hint.mail_next_at is not None
    assert hint.version == 1  # an outbox's notes are no change of the hint
    later = hint.mail_next_at
    mail = AnomalyMail(database, settings(sink.port), "https://calls.acme.example/", watch.on_found, now=lambda: later)
    assert await mail.send_due() == 1
    assert await mail.send_due() == 0
    ((recipients, sent),) = await sink.wait_for(1)
    assert recipients == ["olga@acme.example"]
    assert sent["Subject"].startswith("Worth a look: Olga Owner signed in from a new network and a new browser")
    text = sent.get_content()
    for words in (*hint.evidence, f"https://calls.acme.example/audit/anomalies/{hint.id}", "Nothing was blocked"):
        assert words in text
    (hint,) = await hints(database)
    assert (hint.mail_to, hint.mail_next_at, hint.mailed_at) == ([], None, later)


async def test_without_a_mail_server_hints_wait_and_are_given_up_in_time(
    database: Database, account: Account, watch: AnomalyWatch
) -> None:
    await sign_in(database, account.id, utc_now(), "203.0.113.9", FIREFOX)
    await watch.look(utc_now())
    unset = AnomalyMail(database, Mail(), "", watch.on_found)
    assert await unset.send_due() == 0
    (hint,) = await hints(database)
    assert hint.mail_tries == 0
    late = AnomalyMail(database, settings(1), "", watch.on_found, now=lambda: utc_now() + DAY * 4)
    assert await late.send_due() == 0
    (hint,) = await hints(database)
    assert (hint.mail_next_at, hint.mail_to) == (None, ["olga@acme.example"])


async def test_a_dismissed_hint_is_mailed_to_nobody_and_stays_on_record(
    database: Database, account: Account, watch: AnomalyWatch
) -> None:
    """S2-12: who dismissed it and when; dismissing twice changes nothing more."""
    await sign_in(database, account.id, utc_now(), "203.0.113.9", FIREFOX)
    await watch.look(utc_now())
    for _ in range(2):
        async with database.sessions.begin() as session:
            (row,) = await store.anomalies_of(session, account.id, is_open=True) or await store.anomalies_of(
                session, account.id, is_open=False
            )
            anomaly_watch.dismiss(session, SYSTEM, row)
    (hint,) = await hints(database)
    assert (hint.dismissed_by, hint.mail_next_at, hint.version) == ("Callpoint", None, 2)
    async with database.sessions() as session:
        assert await store.open_count(session, account.id) == 0
        entries = list(await session.scalars(select(AuditEntry).where(AuditEntry.event == "anomaly.dismiss")))
    assert len(entries) == 2
    assert json.loads(entries[0].entry)["changes"]["dismissed_by"]["after"] == "Callpoint"


def test_a_hint_with_a_strange_name_is_one_plain_mail() -> None:
    """S2-12: names come from people: none becomes a header."""
    now = utc_now()
    hint = Anomaly(
        id="anomaly_1", headline="Eve\r\nBcc: all@example.com signed in", evidence=["From\n10.0.0.1."], at=now,
        created_at=now,
    )  # fmt: skip
    made = message(hint, Account(name="Acme\x00 Dental"), "olga@acme.example", "calls@acme.example", "")
    assert made["Bcc"] is None
    assert "\n" not in str(made["Subject"])
    assert (
        made["Message-ID"]
        == message(hint, Account(name="x"), "olga@acme.example", "calls@acme.example", "")["Message-ID"]
    )
    assert "On the page Audit log, under Hints." in made.get_content()
