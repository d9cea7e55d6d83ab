"""The outbox against mail servers that want TLS and a password, put off, refuse, stall, die and come back."""

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trustme
from sqlalchemy import select, text, update

from engine.audit.record import SYSTEM
from engine.config import Mail
from engine.db import Database, utc_now
from engine.e911.mail import message_id
from engine.e911.notify import LEASE, Notifier, resend
from engine.e911.retries import Patience
from engine.ids import new_id
from engine.models import Account, Notification
from tests.factories import add_account, add_emergency_call
from tests.protocol.mail_sink import MailSink

QUICK = Patience(first_s=0.03, longest_s=0.1)
BODY = "911 was dialed by Dana Reyes at Headquarters\n\nDialed:         911\n\nWhat to do: call back.\n"


@pytest.fixture
async def account(database: Database) -> Account:
    async with database.sessions.begin() as session:
        return await add_account(session)


@pytest.fixture
async def sink() -> AsyncIterator[MailSink]:
    started = await MailSink().start()
    yield started
    await started.stop()


def settings_for(sink: MailSink, **more: Any) -> Mail:
    return Mail(**{"host": "127.0.0.1", "port": sink.port, "security": "none", "from": "callpoint@acme.example"} | more)


async def add_notifications(database: Database, account: Account, *recipients: str, **fields: Any) -> list[str]:
    """A recorded 911 call with a waiting notification for each recipient; returns their ids."""
    now = utc_now()
    async with database.sessions.begin() as session:
        call = await add_emergency_call(session, account)
        rows = [
            Notification(
                **{
                    "id": new_id("notification"),
                    "account_id": account.id,
                    "emergency_call_id": call.id,
                    "recipient": recipient,
                    "because": "account",
                    "subject": "911 call",
                    "body": BODY,
                    "created_at": now,
                    "next_try_at": now,
                }
                | fields
            )
            for recipient in recipients
        ]
        session.add_all(rows)
    return [row.id for row in rows]


async def rows_of(database: Database) -> list[Notification]:
    async with database.sessions.begin() as session:
        return list((await session.scalars(select(Notification).order_by(Notification.recipient))).all())


async def until(database: Database, condition: Callable[[list[Notification]], bool]) -> list[Notification]:
    """Wait until the rows are as wanted."""
    async with asyncio.timeout(60):
        while not condition(rows := await rows_of(database)):
            await asyncio.sleep(0.01)
    return rows


def all_are(state: str) -> Callable[[list[Notification]], bool]:
    return lambda rows: all(row.state == state for row in rows)


def was_tried(times: int = 1) -> Callable[[list[Notification]], bool]:
    return lambda rows: all(row.tries >= times for row in rows)


class Running:
    """A notifier that runs inside the block."""

    def __init__(self, database: Database, settings: Mail, **options: Any) -> None:
        self.notifier = Notifier(database, settings, **{"patience": QUICK, "poll_s": 0.05} | options)

    async def __aenter__(self) -> Notifier:
        self._task = asyncio.create_task(self.notifier.run())
        return self.notifier

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task


# ------------------------------------------------------------------------------------------ TLS and passwords


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_mail_goes_encrypted_and_signed_in_where_the_server_asks_for_it(
    database: Database, account: Account, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    sink = await MailSink(tls=server_tls, requires_starttls=True, login=("callpoint", "secret")).start()
    await add_notifications(database, account, "desk@example.com")
    settings = settings_for(sink, security="starttls", username="callpoint", password="secret")
    async with Running(database, settings, tls_context=client_tls):
        await until(database, all_are("sent"))
    await sink.stop()
    assert [(mail.was_encrypted, mail.login) for mail in sink.mails] == [(True, "callpoint")]


async def test_mail_goes_over_a_connection_that_is_encrypted_from_the_start(
    database: Database, account: Account, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    sink = await MailSink(tls=server_tls, tls_at_once=True).start()
    await add_notifications(database, account, "desk@example.com")
    async with Running(database, settings_for(sink, security="tls"), tls_context=client_tls):
        await until(database, all_are("sent"))
    await sink.stop()
    assert [mail.was_encrypted for mail in sink.mails] == [True]


async def test_a_wrong_password_leaves_mail_waiting_with_the_servers_words_and_the_right_one_sends_it(
    database: Database, account: Account, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    sink = await MailSink(tls=server_tls, requires_starttls=True, login=("callpoint", "secret")).start()
    await add_notifications(database, account, "desk@example.com", "guard@example.com")
    wrong = settings_for(sink, security="starttls", username="callpoint", password="wrong")
    async with Running(database, wrong, tls_context=client_tls) as notifier:
        rows = await until(database, was_tried(2))
        assert "535" in notifier.state.fault
    assert all(row.state == "waiting" and "535" in (row.last_error or "") for row in rows)
    assert not any("wrong" in (row.last_error or "") for row in rows)
    right = settings_for(sink, security="starttls", username="callpoint", password="secret")
    async with Running(database, right, tls_context=client_tls):
        await until(database, all_are("sent"))
    await sink.stop()
    assert len(sink.mails) == 2


async def test_mail_is_not_sent_in_the_clear_when_the_server_offers_no_encryption(
    database: Database, account: Account, sink: MailSink
) -> None:
    await add_notifications(database, account, "desk@example.com")
    async with Running(database, settings_for(sink, security="starttls")) as notifier:
        await until(database, was_tried())
        assert "STARTTLS" in notifier.state.fault
    assert sink.mails == []


async def test_a_server_whose_certificate_nobody_vouches_for_gets_no_mail(
    database: Database, account: Account, server_tls: ssl.SSLContext
) -> None:
    sink = await MailSink(tls=server_tls).start()
    await add_notifications(database, account, "desk@example.com")
    async with Running(database, settings_for(sink, security="starttls")) as notifier:
        await until(database, was_tried())
        assert "certificate" in notifier.state.fault.lower()
    await sink.stop()
    assert sink.mails == []


# ------------------------------------------------------------------------------------------ refusals


async def test_a_server_that_says_come_later_is_asked_again_until_it_takes_the_mail(
    database: Database, account: Account, sink: MailSink
) -> None:
    """E-11: greylisting (450, 451) delays a mail, it does not lose it."""
    asked: dict[str, int] = {}

    def greylist(recipient: str) -> str | None:
        asked[recipient] = asked.get(recipient, 0) + 1
        return "451 4.7.1 Greylisted, come back later" if asked[recipient] <= 2 else None

    sink.on_recipient = greylist
    await add_notifications(database, account, "desk@example.com", "guard@example.com")
    async with Running(database, settings_for(sink)):
        waiting = await until(database, was_tried())
        rows = await until(database, all_are("sent"))
    assert any("Greylisted" in (row.last_error or "") for row in waiting)
    assert [(row.tries, row.last_error) for row in rows] == [(3, None), (3, None)]
    assert len(sink.mails) == 2


async def test_a_mailbox_that_is_not_there_ends_it_and_the_page_can_show_the_servers_words(
    database: Database, account: Account, sink: MailSink
) -> None:
    """E-11: a permanent refusal of one recipient is shown and leaves the others alone."""
    sink.on_recipient = lambda who: "550 5.1.1 No such user here" if who.startswith("gone") else None
    await add_notifications(database, account, "desk@example.com", "gone@example.com", "guard@example.com")
    async with Running(database, settings_for(sink)):
        rows = await until(database, lambda rows: all(row.state != "waiting" for row in rows))
    assert [(row.recipient, row.state) for row in rows] == [
        ("desk@example.com", "sent"),
        ("gone@example.com", "failed"),
        ("guard@example.com", "sent"),
    ]
    assert rows[1].last_error == "550 5.1.1 No such user here"
    assert rows[1].tries == 1


async def test_a_refusal_for_policy_waits_for_the_administrator_to_put_it_right(
    database: Database, account: Account, sink: MailSink
) -> None:
    refusing = True
    sink.on_recipient = lambda _: "550 5.7.1 Relaying denied" if refusing else None
    await add_notifications(database, account, "desk@example.com")
    async with Running(database, settings_for(sink)):
        rows = await until(database, was_tried(2))
        assert rows[0].state == "waiting"
        refusing = False
        await until(database, all_are("sent"))


@pytest.mark.parametrize(
    ("said", "state"), [("452 4.2.2 Mailbox full", "waiting"), ("554 5.6.0 Content refused", "failed")]
)
async def test_refused_content_is_put_off_or_given_up_as_the_server_says(
    database: Database, account: Account, sink: MailSink, said: str, state: str
) -> None:
    sink.on_data = lambda _: said
    await add_notifications(database, account, "desk@example.com")
    async with Running(database, settings_for(sink)):
        (row,) = await until(database, was_tried())
    assert (row.state, row.last_error) == (state, said)


async def test_a_server_that_hangs_up_in_the_middle_is_tried_again_with_the_same_message_id(
    database: Database, account: Account, sink: MailSink
) -> None:
    """E-11: at least once, one Message-ID: the sink takes the mail, then the connection dies before the answer."""
    sink.hold = asyncio.Event()
    (identity,) = await add_notifications(database, account, "desk@example.com")
    async with Running(database, settings_for(sink)):
        await sink.received(1)
        for protocol in list(sink._open):
            protocol.transport.abort()
        sink.hold.set()
        (row,) = await until(database, all_are("sent"))
    assert row.id == identity
    assert row.tries == 2
    expected = message_id(row.emergency_call_id, "desk@example.com", "email", "acme.example")
    assert [mail.message["Message-ID"] for mail in sink.mails] == [expected, expected]


async def test_after_three_days_of_trying_a_mail_is_given_up_and_may_be_sent_again_by_hand(
    database: Database, account: Account, sink: MailSink
) -> None:
    def three_days_on() -> dt.datetime:
        return utc_now() + dt.timedelta(days=3, hours=1)

    sink.on_recipient = lambda _: "451 4.3.0 Never ready"
    old, fresh = "old@example.com", "waited-for-set-up@example.com"
    await add_notifications(database, account, old, tries=19)
    await add_notifications(database, account, fresh)
    async with Running(database, settings_for(sink), now=three_days_on):
        await until(database, was_tried())
        rows = await until(database, lambda rows: rows[0].state == "failed")
    assert [(row.recipient, row.state) for row in rows] == [(old, "failed"), (fresh, "waiting")]
    assert rows[0].last_error == "451 4.3.0 Never ready"
    sink.on_recipient = lambda _: None
    async with database.sessions.begin() as session:
        row = await session.get(Notification, rows[0].id)
        assert row is not None
        await resend(session, SYSTEM, row)
        assert (row.state, row.tries, row.last_error) == ("waiting", 0, None)
    async with Running(database, settings_for(sink), now=three_days_on):
        await until(database, all_are("sent"))


# ------------------------------------------------------------------------------------------ leases and workers


async def test_two_workers_that_are_alive_never_send_the_same_mail(
    database: Database, account: Account, sink: MailSink
) -> None:
    everybody = [f"staff{number:02}@example.com" for number in range(40)]
    await add_notifications(database, account, *everybody)
    async with Running(database, settings_for(sink)), Running(database, settings_for(sink)):
        rows = await until(database, all_are("sent"))
    assert sorted(mail.recipient for mail in sink.mails) == everybody
    assert all(row.tries == 1 for row in rows)


async def test_a_worker_that_died_leaves_its_rows_to_the_next_when_its_lease_has_ended(
    database: Database, account: Account, sink: MailSink
) -> None:
    now = utc_now()
    await add_notifications(
        database, account, "desk@example.com", claimed_by="notification_dead", claimed_until=now + LEASE
    )
    async with Running(database, settings_for(sink), now=lambda: now + LEASE / 2):
        await add_notifications(database, account, "guard@example.com", next_try_at=now)
        await until(database, lambda rows: rows[-1].state == "sent")
    assert [mail.recipient for mail in sink.mails] == ["guard@example.com"]
    async with Running(database, settings_for(sink), now=lambda: now + LEASE + dt.timedelta(seconds=1)):
        await until(database, all_are("sent"))
    assert [mail.recipient for mail in sink.mails] == ["guard@example.com", "desk@example.com"]


async def test_a_row_taken_over_by_another_worker_is_left_to_it(
    database: Database, account: Account, sink: MailSink
) -> None:
    """The lease ran out in the queue and another worker holds the row now: this one sends nothing and marks nothing."""
    await add_notifications(database, account, "desk@example.com")
    clock = [utc_now()]
    notifier = Notifier(database, settings_for(sink), now=lambda: clock[0])
    (claimed,) = await notifier._claim_due()
    clock[0] += LEASE
    async with database.sessions.begin() as session:
        await session.execute(
            update(Notification).values(claimed_by="notification_other", claimed_until=clock[0] + LEASE)
        )
    await notifier._carry(claimed)
    assert sink.mails == []
    (row,) = await rows_of(database)
    assert (row.claimed_by, row.state, row.tries) == ("notification_other", "waiting", 0)


async def test_on_stop_a_mail_on_its_way_is_finished_and_what_waits_is_given_back(
    database: Database, account: Account, sink: MailSink
) -> None:
    sink.hold = asyncio.Event()
    await add_notifications(database, account, *(f"staff{number}@example.com" for number in range(10)))
    task = asyncio.create_task(Notifier(database, settings_for(sink), poll_s=0.05).run())
    await sink.received(3)
    task.cancel()
    await asyncio.sleep(0)
    sink.hold.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    rows = await rows_of(database)
    assert sum(row.state == "sent" for row in rows) == len(sink.mails) == 3
    assert all(row.claimed_by is None and row.claimed_until is None for row in rows)


async def test_a_sent_mail_is_noted_when_the_database_is_back_and_not_sent_again(
    database: Database, account: Account, sink: MailSink
) -> None:
    """The mail left, then the database went: the mark is made when it is back."""
    sink.hold = asyncio.Event()
    await add_notifications(database, account, "desk@example.com")
    async with Running(database, settings_for(sink)):
        await sink.received(1)
        async with database.engine.begin() as connection:
            await connection.execute(text("ALTER TABLE notification RENAME TO notification_away"))
        sink.hold.set()
        await asyncio.sleep(0.2)
        async with database.engine.begin() as connection:
            await connection.execute(text("ALTER TABLE notification_away RENAME TO notification"))
        (row,) = await until(database, all_are("sent"))
    assert row.tries == 1
    assert len(sink.mails) == 1


async def test_a_fresh_calls_mail_goes_before_those_that_were_tried_already(
    database: Database, account: Account, sink: MailSink
) -> None:
    past = utc_now() - dt.timedelta(hours=1)
    stuck = [f"stuck{number:02}@example.com" for number in range(70)]
    await add_notifications(database, account, *stuck, tries=5, next_try_at=past)
    await add_notifications(database, account, "desk@example.com")
    async with Running(database, settings_for(sink)):
        await sink.received(5)
    assert "desk@example.com" in [mail.recipient for mail in sink.mails[:3]]


async def test_a_stop_that_meets_a_wake_up_still_stops(database: Database, account: Account, sink: MailSink) -> None:
    """A node must end when told to: `wait_for` of Python 3.11 loses a cancellation that meets its event."""
    for turns in range(30):
        notifier = Notifier(database, settings_for(sink), poll_s=0.05)
        task = asyncio.create_task(notifier.run())
        await asyncio.sleep(0.005)
        notifier.wake()
        for _ in range(turns % 6):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=10)
        assert done == {task}
