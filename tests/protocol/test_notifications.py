"""From the journal's entry to the mail server: who is told of a 911 or 933 call, what they read, and how soon.

Real parts: a sealed journal, an audited SQLite file, the recorder and the outbox as they run, aiosmtpd on loopback.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from engine.audit.record import SYSTEM, Actor
from engine.config import Mail
from engine.crypto import KeyRing
from engine.db import Database
from engine.e911 import calls as recording
from engine.e911 import sites, store
from engine.e911.calls import Recorder
from engine.e911.journal import JournalWriter
from engine.e911.notify import Notifier, resend
from engine.e911.retries import Patience
from engine.errors import Invalid
from engine.models import Account, AuditEntry, EmergencyCall, Location, Notification
from tests.factories import HEADQUARTERS, add_account
from tests.protocol.mail_sink import MailSink
from tests.unit.e911_records.entries import call_entry, ended_entry, outcome_entry, read_back_entry

ADMIN = Actor("user", "user_1", "pat@example.com", "192.0.2.7")
QUICK = Patience(first_s=0.05, longest_s=0.2)


def settings_for(sink: MailSink, **more: Any) -> Mail:
    return Mail(
        **{"host": "127.0.0.1", "port": sink.port, "security": "none", "from": "Callpoint <callpoint@acme.example>"}
        | more
    )


@dataclass
class Site:
    """The whole path as the main process runs it: a journal's writer, the recorder, the outbox, a mail server."""

    database: Database
    keys: KeyRing
    folder: Path
    sink: MailSink
    settings: Mail
    poll_s: float = 0.1
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.notifier = Notifier(self.database, self.settings, patience=QUICK, poll_s=self.poll_s)
        self.recorder = Recorder(
            self.database,
            self.keys,
            self.folder,
            on_recorded=self.notifier.wake,
            public_url="https://cp.acme.example/",
        )
        self.writer = JournalWriter(
            self.folder,
            self.keys,
            on_durable=lambda: loop.call_soon_threadsafe(self.recorder.wake),
            on_fault=lambda _: None,
        )
        self.tasks = [loop.create_task(self.recorder.run()), loop.create_task(self.notifier.run())]

    async def stop(self) -> None:
        self.writer.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def dial(self, *entries: dict[str, Any]) -> None:
        """The edge's part: each INVITE has left, its entry goes to the journal."""
        for entry in entries:
            self.writer.put(entry)

    async def rows(self) -> list[Notification]:
        async with self.database.sessions.begin() as session:
            return list((await session.scalars(select(Notification).order_by(Notification.recipient))).all())

    async def settled(self, count: int, state: str = "sent") -> list[Notification]:
        """Wait until so many notifications are in that state."""
        async with asyncio.timeout(60):
            while len(rows := [row for row in await self.rows() if row.state == state]) < count:
                await asyncio.sleep(0.01)
        return rows

    async def recorded(self, count: int) -> None:
        async with asyncio.timeout(60):
            while self.recorder.recorded < count:
                await asyncio.sleep(0.01)


@pytest.fixture
async def sink() -> AsyncIterator[MailSink]:
    started = await MailSink().start()
    yield started
    await started.stop()


@pytest.fixture
async def site(database: Database, keys: KeyRing, tmp_path: Path, sink: MailSink) -> AsyncIterator[Site]:
    made = Site(database, keys, tmp_path / "journal", sink, settings_for(sink))
    made.start()
    yield made
    await made.stop()


@pytest.fixture
async def site_that_never_looks(
    database: Database, keys: KeyRing, tmp_path: Path, sink: MailSink, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    """It does only what it is woken for: whatever comes out has been handed on at once, however slow the machine is."""
    monkeypatch.setattr(recording, "POLL_S", 3_600.0)
    made = Site(database, keys, tmp_path / "journal", sink, settings_for(sink), poll_s=3_600.0)
    made.start()
    yield made
    await made.stop()


@pytest.fixture
async def account(database: Database) -> Account:
    async with database.sessions.begin() as session:
        return await add_account(session)


async def add_recipients(database: Database, account: Account, *emails: str) -> None:
    async with database.sessions.begin() as session:
        for email in emails:
            await sites.add_recipient(session, ADMIN, account, email)


async def add_site(database: Database, account: Account, name: str, *recipients: str) -> Location:
    values = {"name": name, "civic_address": HEADQUARTERS, "notification_recipients": list(recipients)}
    async with database.sessions.begin() as session:
        return await sites.create_location(session, ADMIN, account, values)


# ------------------------------------------------------------------------------------------ the sentences of the page


async def test_on_call_staff_are_notified_whenever_someone_dials_911(
    site_that_never_looks: Site, account: Account
) -> None:
    """S0-11: a 911 call on the account: a mail within a second: the call itself wakes who sends it."""
    site = site_that_never_looks
    await add_recipients(site.database, account, "desk@example.com")
    site.dial(call_entry(account))
    mails = await site.sink.received(1)
    assert mails[0].recipient == "desk@example.com"
    assert mails[0].message["Subject"] == "911 call: Dana Reyes (extension 101) at an unknown location"


async def test_who_is_mailed_are_those_on_the_accounts_list(site: Site, account: Account) -> None:
    """S0-12: recipients are kept under Emergency call notification recipients of the account."""
    await add_recipients(site.database, account, "desk@example.com", "guard@example.com")
    async with site.database.sessions.begin() as session:
        listed = [row.email for row in await store.recipients_of(session, account.id)]
    site.dial(call_entry(account))
    await site.settled(2)
    assert sorted(mail.recipient for mail in site.sink.mails) == sorted(listed)


async def test_addresses_come_and_go_and_wrong_ones_never_come(site: Site, account: Account) -> None:
    """S0-13: add one or more; remove; invalid and duplicate are refused, each change is audited."""
    await add_recipients(site.database, account, "desk@example.com", "old@example.com")
    async with site.database.sessions.begin() as session:
        old = next(row for row in await store.recipients_of(session, account.id) if row.email == "old@example.com")
        await sites.remove_recipient(session, ADMIN, old)
    for wrong in ("DESK@example.com", "nobody"):
        with pytest.raises(Invalid):
            await add_recipients(site.database, account, wrong)
    site.dial(call_entry(account))
    await site.settled(1)
    assert [mail.recipient for mail in site.sink.mails] == ["desk@example.com"]
    async with site.database.sessions.begin() as session:
        query = select(AuditEntry.event).where(AuditEntry.chain == account.id).order_by(AuditEntry.seq)
        events = [name for name in (await session.scalars(query)).all() if name.startswith("notification_recipient")]
    assert events == ["notification_recipient.create"] * 2 + ["notification_recipient.delete"]


async def test_every_recipient_gets_a_mail_from_every_extension_and_other_accounts_get_none(
    site: Site, account: Account
) -> None:
    """S0-14: n recipients are n deliveries, whichever extension dials."""
    async with site.database.sessions.begin() as session:
        other = await add_account(session, name="Other")
    await add_recipients(site.database, other, "stranger@example.net")
    everybody = [f"staff{number}@example.com" for number in range(5)]
    await add_recipients(site.database, account, *everybody)
    caller = call_entry(account)["caller"]
    extensions = ["101", "102", "2001"]
    site.dial(*(call_entry(account, caller=caller | {"extension": extension, "name": ""}) for extension in extensions))
    await site.settled(15)
    for recipient in everybody:
        said = [mail.message["Subject"] for mail in site.sink.of(recipient)]
        assert sorted(said) == sorted(
            f"911 call: extension {extension} at an unknown location" for extension in extensions
        )
    assert site.sink.of("stranger@example.net") == []


async def test_the_mail_has_the_dialed_number_the_caller_and_the_location(site: Site, account: Account) -> None:
    """S0-15: that 911 was dialed, who and how to call back, and the location that went with the INVITE."""
    await add_recipients(site.database, account, "desk@example.com")
    location = await add_site(site.database, account, "Headquarters")
    call = call_entry(account, location)
    site.dial(call)
    (mail,) = await site.sink.received(1)
    for part in (mail.text, mail.html):
        for said in (
            "911",
            "Dana Reyes (extension 101)",
            "+15185550101",
            "Headquarters",
            "120 Washington Ave",
            "Floor 4, Room 412",
            "Albany, NY 12203, US",
            "the network the phone is on",
            "20:00:12 UTC",
            "EST",
            call["id"],
            f"https://cp.acme.example/calls/{call['id']}",
            "Audit log before this call: account_",
        ):
            assert said in part
        assert "TEST" not in part
    assert mail.message["From"] == "Callpoint <callpoint@acme.example>"
    assert mail.message["Importance"] == "high"
    assert mail.sender == "callpoint@acme.example"


async def test_the_mail_tells_the_location_that_was_conveyed_not_what_it_is_by_now(
    site: Site, account: Account
) -> None:
    """E-10: the notification has the location conveyed in the INVITE (47 CFR 9.3)."""
    await add_recipients(site.database, account, "desk@example.com")
    location = await add_site(site.database, account, "Headquarters")
    call = call_entry(account, location)
    async with site.database.sessions.begin() as session:
        session.add(location)
        moved = {"name": "New name", "civic_address": HEADQUARTERS | {"FLR": "9"}}
        await sites.update_location(session, ADMIN, account, location, moved)
    site.dial(call)
    (mail,) = await site.sink.received(1)
    assert "Floor 4" in mail.text
    assert "Floor 9" not in mail.text
    assert "New name" not in mail.text


async def test_a_locations_recipients_are_told_of_calls_from_there_alone(site: Site, account: Account) -> None:
    """S0-16: a location can name additional recipients for calls placed from that location."""
    await add_recipients(site.database, account, "desk@example.com")
    first = await add_site(site.database, account, "First", "first@example.com")
    second = await add_site(site.database, account, "Second", "second@example.com")
    site.dial(call_entry(account, first), call_entry(account, second), call_entry(account))
    await site.settled(5)
    assert [mail.message["Subject"].rpartition(" at ")[2] for mail in site.sink.of("first@example.com")] == ["First"]
    assert [mail.message["Subject"].rpartition(" at ")[2] for mail in site.sink.of("second@example.com")] == ["Second"]
    assert len(site.sink.of("desk@example.com")) == 3


async def test_account_and_location_recipients_are_told_together_and_nobody_twice(site: Site, account: Account) -> None:
    """S0-17: the union of both lists; the same address on both is one mail."""
    await add_recipients(site.database, account, "desk@example.com", "guard@example.com")
    location = await add_site(site.database, account, "Headquarters", "Guard@Example.com", "nurse@example.com")
    site.dial(call_entry(account, location))
    rows = await site.settled(3)
    assert {row.recipient: row.because for row in rows} == {
        "desk@example.com": "account",
        "guard@example.com": "both",
        "nurse@example.com": "location",
    }
    assert sorted(mail.recipient for mail in site.sink.mails) == [
        "desk@example.com",
        "guard@example.com",
        "nurse@example.com",
    ]
    assert (
        "every 911 and 933 call of Acme Dental, and for those from Headquarters"
        in site.sink.of("guard@example.com")[0].text
    )


async def test_a_933_call_takes_the_same_path_to_the_same_people_marked_test(site: Site, account: Account) -> None:
    """S0-18: test calls trigger the same notification path as real 911 calls."""
    await add_recipients(site.database, account, "desk@example.com")
    location = await add_site(site.database, account, "Headquarters", "nurse@example.com")
    site.dial(call_entry(account, location), read_back_entry(account, location))
    await site.settled(4)
    for recipient in ("desk@example.com", "nurse@example.com"):
        real, test = sorted(site.sink.of(recipient), key=lambda mail: "TEST" in mail.message["Subject"])
        assert test.message["Subject"] == "[TEST] 933 call: Dana Reyes (extension 101) at Headquarters"
        assert test.text.startswith("TEST: 933 was dialed by Dana Reyes")
        assert "This is a TEST" in test.text
        assert "This is a TEST" in test.html
        assert test.message["Importance"] is None
        assert real.text.startswith("911 was dialed by Dana Reyes")
    async with site.database.sessions.begin() as session:
        query = select(AuditEntry.entry).where(AuditEntry.event == "emergency_call.create").order_by(AuditEntry.seq)
        entries = [json.loads(entry) for entry in (await session.scalars(query)).all()]
    assert [entry["resource"]["name"] for entry in entries] == ["911 from Dana Reyes", "933 from Dana Reyes"]


# ------------------------------------------------------------------------------------------ laws of the 911 path


async def test_a_dead_mail_server_never_stops_a_911_call(site: Site, account: Account) -> None:
    """E-03: calls are recorded while the mail server is dead; their mails wait and go when it is back."""
    await add_recipients(site.database, account, "desk@example.com", "guard@example.com")
    port = site.sink.port
    await site.sink.stop()
    calls = [call_entry(account) for _ in range(20)]
    site.dial(*calls, *(outcome_entry(call) for call in calls))
    await site.recorded(40)
    async with site.database.sessions.begin() as session:
        kept = (await session.scalars(select(EmergencyCall))).all()
        assert await store.waiting_count(session, account.id) == 40
    assert {call.outcome for call in kept} == {"answered"}
    async with asyncio.timeout(60):
        while not site.notifier.state.fault:
            await asyncio.sleep(0.01)
    assert "cannot be used" in site.notifier.state.words
    await site.sink.start(port)
    await site.settled(40)
    assert len({mail.message["Message-ID"] for mail in site.sink.mails}) == len(site.sink.mails) == 40
    assert site.notifier.state.fault == ""


async def test_without_a_mail_server_messages_wait_visibly_and_nothing_is_lost(
    database: Database, keys: KeyRing, tmp_path: Path, sink: MailSink, account: Account
) -> None:
    """E-10: no mail server configured: messages wait, visible, and go once there is one."""
    await add_recipients(database, account, "desk@example.com")
    site = Site(database, keys, tmp_path / "journal", sink, Mail())
    site.start()
    assert not site.notifier.state.is_set_up
    assert "Mail is not set up" in site.notifier.state.words
    for call in (call_entry(account), call_entry(account)):
        site.dial(call, outcome_entry(call), ended_entry(call))  # whole: what ends with this process would be cut
    await site.recorded(6)
    await site.stop()
    rows = await site.rows()
    assert [(row.state, row.tries, row.claimed_by) for row in rows] == [("waiting", 0, None)] * 2
    assert sink.mails == []
    site.settings = settings_for(sink)
    site.start()
    await site.settled(2)
    await site.stop()
    assert len(sink.mails) == 2


async def test_an_empty_recipient_list_is_an_alarm_on_the_call(site: Site, account: Account) -> None:
    """E-10: nobody to tell: the call says so."""
    site.dial(call_entry(account))
    await site.recorded(1)
    async with site.database.sessions.begin() as session:
        (call,) = (await session.scalars(select(EmergencyCall))).all()
    assert "no_recipients" in call.flags
    assert await site.rows() == []


async def test_reading_the_journal_again_mails_nobody_twice(site: Site, account: Account) -> None:
    await add_recipients(site.database, account, "desk@example.com")
    call = call_entry(account)
    site.dial(call, call)
    await site.settled(1)
    site.dial(call, call_entry(account))
    await site.settled(2)
    assert len(site.sink.mails) == 2


async def test_mail_is_handed_over_at_once_call_after_call(site_that_never_looks: Site, account: Account) -> None:
    """E-02: the call first, and each mail before the next call comes: none is left for a later round. How long it takes
    is measured by the benchmarks.
    """
    site = site_that_never_looks
    await add_recipients(site.database, account, "desk@example.com")
    dialed = []
    for number in range(1, 21):
        call = call_entry(account)
        dialed.append(call["id"])
        site.dial(call)
        await site.sink.received(number)
    assert [mail.message["X-Callpoint-Call"] for mail in site.sink.mails] == dialed


async def test_a_resend_is_audited_and_mails_once_more_under_the_same_message_id(site: Site, account: Account) -> None:
    """E-11: delivery state is shown, and a person may send it again."""
    await add_recipients(site.database, account, "desk@example.com")
    site.dial(call_entry(account))
    (row,) = await site.settled(1)
    async with site.database.sessions.begin() as session:
        found = await store.notification_by_id(session, account.id, row.id)
        assert found is not None
        await resend(session, SYSTEM, found)
    await site.sink.received(2)
    (again,) = await site.settled(1)
    assert again.tries == 1
    assert len({mail.message["Message-ID"] for mail in site.sink.mails}) == 1
    async with site.database.sessions.begin() as session:
        query = select(AuditEntry).where(AuditEntry.event == "notification.resend")
        (entry,) = (await session.scalars(query)).all()
    assert (entry.chain, entry.resource_id) == (account.id, row.id)
