"""Escalation from a recorded call to a real mail server and a chat service: in order, once, no further than needed."""

import asyncio
import datetime as dt
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from engine.audit.record import Actor
from engine.config import Mail
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.e911 import escalation, sites
from engine.e911.acknowledging import acknowledge
from engine.e911.chat_courier import ChatCourier
from engine.e911.chat_library import ChatLibrary
from engine.e911.escalator import Escalator
from engine.e911.notify import Notifier
from engine.models import Account, AuditEntry, EmergencyCall, Location, Notification
from tests.protocol.test_chats import HERE, QUICK, Service, chat_of, drill_at, entry_of, recorded, site_of
from tests.sink import MailSink

pytestmark = pytest.mark.enable_socket
ACTOR = Actor("user", "user_1", "Olga Owner", "local")
STEPS: tuple[dict[str, Any], ...] = (
    {"after_s": 60, "emails": ["duty@example.com"], "chat_recipient_ids": []},
    {"after_s": 120, "emails": ["boss@example.com"], "chat_recipient_ids": []},
)


class Watch:
    """A clock that the test turns on."""

    def __init__(self) -> None:
        self.ahead = dt.timedelta()

    def now(self) -> dt.datetime:
        return utc_now() + self.ahead

    def turn(self, seconds: int) -> None:
        self.ahead += dt.timedelta(seconds=seconds)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    await made.server.start_server()
    yield made
    await made.server.close()


async def _planned(database: Database, account: Account, *steps: dict[str, Any]) -> None:
    async with database.sessions.begin() as session:
        here = await session.get(Account, account.id)
        assert here is not None
        plan = await escalation.plan_for(session, here, to_change=True)
        await escalation.change_plan(session, ACTOR, here, plan, steps or STEPS)


async def _placed(database: Database) -> tuple[Account, Location]:
    account, location = await site_of(database)
    async with database.sessions.begin() as session:
        await sites.add_recipient(session, ACTOR, account, "desk@example.com")
    return account, location


async def _tried(database: Database) -> None:
    """As if every first message had been tried once, in vain."""
    async with database.sessions.begin() as session:
        for row in await session.scalars(select(Notification)):
            row.tries = 1


async def _told(database: Database) -> list[tuple[str, str]]:
    async with database.sessions() as session:
        rows = await session.execute(
            select(Notification.recipient, Notification.channel)
            .where(Notification.channel.in_(("escalation", "chat_escalation")))
            .order_by(Notification.id)
        )
        return [(row[0], row[1]) for row in rows]


async def _call(database: Database) -> EmergencyCall:
    async with database.sessions() as session:
        return (await session.scalars(select(EmergencyCall))).one()


async def test_steps_are_taken_in_order_and_told_by_mail_and_chat_until_somebody_acknowledges(
    database: Database, keys: KeyRing, service: Service, tmp_path: Path
) -> None:
    """E-11: each step stands with the call and in the audit log; an acknowledgement ends it."""
    account, location = await _placed(database)
    library = ChatLibrary(HERE)
    guard = await chat_of(database, library, account, service.url("guard"), kinds=())
    first = {"after_s": 60, "emails": ["duty@example.com"], "chat_recipient_ids": [guard.id]}
    await _planned(database, account, first, STEPS[1], {"after_s": 180, "emails": ["never@example.com"]})
    await recorded(database, keys, tmp_path, entry_of(account, location))
    assert service.taken == [], "who is told of no kind of call waits for escalation"
    sink, watch = MailSink(), Watch()
    await sink.start()
    notifier = Notifier(database, Mail(host="127.0.0.1", port=sink.port, security="none"), poll_s=0.02)
    courier = ChatCourier(database, library, patience=QUICK, poll_s=0.02)
    tasks = [asyncio.create_task(notifier.run()), asyncio.create_task(courier.run())]
    escalator = Escalator(database, keys, on_told=notifier.wake, public_url="https://callpoint.example", now=watch.now)
    await sink.wait_for(1)
    assert await escalator.take_due() == 0, "its time has not come"
    watch.turn(61)
    assert await escalator.take_due() == 1
    assert await escalator.take_due() == 0, "each step is taken once"
    ((to, message),) = (await sink.wait_for(2))[1:]
    assert to == ["duty@example.com"]
    assert message["Subject"].startswith("NOT ACKNOWLEDGED: 911 call: ")
    text = message.get_body(("plain",)).get_content()
    silent = re.search(r"NOBODY HAS ACKNOWLEDGED this for (\d+) seconds:", text)
    assert silent, text
    assert int(silent[1]) >= 61, "what the watch was turned by, and what passed meanwhile"
    assert "Why you are told now" in text
    ((_path, said),) = await service.wait_for(1)
    assert said["title"].startswith("NOT ACKNOWLEDGED: 911 call: ")
    watch.turn(60)
    assert await escalator.take_due() == 1
    assert (await sink.wait_for(3))[2][0] == ["boss@example.com"]
    async with database.sessions.begin() as session:
        call = await session.get(EmergencyCall, (await _call(database)).id, with_for_update=True)
        assert call is not None
        await acknowledge(session, ACTOR, call)
    watch.turn(600)
    assert await escalator.take_due() == 0
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await sink.stop()
    call = await _call(database)
    assert call.escalation_due_at is None
    assert [(one["step"], one["told"]) for one in call.escalations] == [
        (1, ["duty@example.com", "Night guard"]), (2, ["boss@example.com"]),
    ]  # fmt: skip
    async with database.sessions() as session:
        taken = (await session.scalars(select(AuditEntry).where(AuditEntry.event == "emergency_call.escalate"))).all()
    assert [json.loads(entry.entry)["details"]["step"] for entry in taken] == [1, 2]


async def test_a_step_waits_until_the_first_messages_were_tried_but_no_longer_than_a_minute(
    database: Database, keys: KeyRing, tmp_path: Path
) -> None:
    """E-11: nobody is told that others were silent who could not know yet; a dead mail server does not end it."""
    account, location = await _placed(database)
    await _planned(database, account)
    await recorded(database, keys, tmp_path, entry_of(account, location))
    watch = Watch()
    escalator = Escalator(database, keys, on_told=lambda: None, now=watch.now)
    watch.turn(70)
    assert await escalator.take_due() == 0
    await _tried(database)
    assert await escalator.take_due() == 1
    async with database.sessions.begin() as session:
        for row in await session.scalars(select(Notification)):
            row.tries = 0
    watch.turn(51)  # the second step is due, and nothing was tried: no mail server
    assert await escalator.take_due() == 0
    watch.turn(60)
    assert await escalator.take_due() == 1
    assert await _told(database) == [("duty@example.com", "escalation"), ("boss@example.com", "escalation")]


async def test_a_clock_that_is_set_back_keeps_nobody_from_being_told(
    database: Database, keys: KeyRing, tmp_path: Path
) -> None:
    """E-11: both steps come when their seconds have passed, half an hour before their time of day."""
    account, location = await _placed(database)
    await _planned(database, account)
    await recorded(database, keys, tmp_path, entry_of(account, location))
    await _tried(database)
    watch, passed = Watch(), [0.0]
    escalator = Escalator(database, keys, on_told=lambda: None, now=watch.now, steady=lambda: passed[-1])
    assert await escalator.take_due() == 0
    watch.turn(-1_800)
    assert await escalator.take_due() == 0
    for seconds, told in ((61.0, ["duty@example.com"]), (121.0, ["duty@example.com", "boss@example.com"])):
        passed.append(seconds)
        assert await escalator.take_due() == 1
        assert await escalator.take_due() == 0
        assert [recipient for recipient, _ in await _told(database)] == told


async def test_what_has_not_left_when_somebody_acknowledges_is_taken_back(
    database: Database, keys: KeyRing, tmp_path: Path
) -> None:
    """E-11: nobody is called out of bed for a call that is seen to; the entry tells how many that were."""
    account, location = await _placed(database)
    await _planned(database, account)
    await recorded(database, keys, tmp_path, entry_of(account, location))
    await _tried(database)
    watch = Watch()
    watch.turn(61)
    assert await Escalator(database, keys, on_told=lambda: None, now=watch.now).take_due() == 1
    async with database.sessions.begin() as session:
        call = await session.get(EmergencyCall, (await _call(database)).id, with_for_update=True)
        assert call is not None
        await acknowledge(session, ACTOR, call)
    assert await _told(database) == []
    async with database.sessions() as session:
        entry = (
            await session.scalars(select(AuditEntry).where(AuditEntry.event == "emergency_call.acknowledge"))
        ).one()
    assert json.loads(entry.entry)["details"] == {"is_first": True, "withdrawn": 1}


async def test_what_is_owed_outlives_a_restart_and_follows_the_plan_as_it_is_now(
    database: Database, keys: KeyRing, tmp_path: Path
) -> None:
    """E-11: it stands in the call's row; a drill escalates like a call, a test and a plan without steps do not."""
    account, location = await _placed(database)
    await recorded(database, keys, tmp_path / "1", entry_of(account, location))
    assert (await _call(database)).escalation_due_at is None, "off until somebody is named"
    await _planned(database, account)
    await recorded(database, keys, tmp_path / "2", entry_of(account, location, dialed="933", kind="test"))
    drill = await drill_at(database, account, location)
    await _tried(database)
    async with database.sessions() as session:
        owed = (
            await session.scalars(select(EmergencyCall.id).where(EmergencyCall.escalation_due_at.is_not(None)))
        ).all()
    assert owed == [drill]
    watch = Watch()
    watch.turn(200)  # the node was down meanwhile
    later = Escalator(database, keys, on_told=lambda: None, now=watch.now)
    assert (await later.take_due(), await later.take_due(), await later.take_due()) == (1, 1, 0)
    async with database.sessions() as session:
        subjects = (
            await session.scalars(select(Notification.subject).where(Notification.channel == "escalation"))
        ).all()
    assert all(subject.startswith("[DRILL] NOT ACKNOWLEDGED: ") for subject in subjects)


async def test_two_nodes_take_a_step_once(database: Database, keys: KeyRing, tmp_path: Path) -> None:
    """E-11: whoever has the row takes it; the other finds it taken."""
    account, location = await _placed(database)
    await _planned(database, account)
    await recorded(database, keys, tmp_path, entry_of(account, location))
    await _tried(database)
    watch = Watch()
    watch.turn(61)
    nodes = [Escalator(database, keys, on_told=lambda: None, now=watch.now) for _ in range(4)]
    assert sorted(await asyncio.gather(*(node.take_due() for node in nodes))) == [0, 0, 0, 1]
    assert await _told(database) == [("duty@example.com", "escalation")]
