"""The outboxes on a real PostgreSQL: two nodes on one database share the work, and nobody is told twice."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select, update

from engine.audit.record import SYSTEM
from engine.config import Mail
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.e911 import escalation
from engine.e911.escalator import Escalator
from engine.e911.notify import Notifier
from engine.e911.webhook_courier import WebhookCourier
from engine.ids import new_id
from engine.models import Account, Notification
from engine.outbound import Outbound
from tests.factories import add_account, add_emergency_call
from tests.sink import MailSink

pytestmark = pytest.mark.enable_socket


@pytest.fixture
async def sink() -> AsyncIterator[MailSink]:
    opened = MailSink()
    await opened.start()
    yield opened
    await opened.stop()


async def _waiting(database: Database, account: Account, kind: str, channel: str, recipients: list[str]) -> None:
    """A call and its messages, all of them due."""
    now = utc_now()
    async with database.sessions.begin() as session:
        call = await add_emergency_call(session, account, kind=kind, outcome="answered", at=now)
        session.add_all(
            Notification(
                id=new_id("notification"), account_id=account.id, emergency_call_id=call.id, recipient=recipient,
                channel=channel, because="account", subject=kind, body="{}", created_at=now, next_try_at=now,
            )
            for recipient in recipients
        )  # fmt: skip


async def test_two_nodes_mail_everybody_once_and_the_real_call_before_the_drill(
    nodes: tuple[Database, Database], sink: MailSink
) -> None:
    """E-10, E-11: rows are claimed by one node at a time; a real call's leave before those of drills queued earlier."""
    here, there = nodes
    async with here.sessions.begin() as session:
        account = await add_account(session)
    await _waiting(here, account, "drill", "email", [f"drill{at}@example.com" for at in range(70)])
    await _waiting(here, account, "emergency", "email", [f"real{at}@example.com" for at in range(5)])
    settings = Mail.model_validate(
        {"host": "127.0.0.1", "port": sink.port, "security": "none", "from": "c@example.com"}
    )
    notifiers = [Notifier(database, settings, poll_s=0.05) for database in (here, there)]
    claimed = await notifiers[0]._claim_due()
    assert [one.outgoing.recipient[:4] for one in claimed[:6]] == ["real"] * 5 + ["dril"]
    async with here.sessions.begin() as session:  # as if that node had died and its lease were over
        await session.execute(update(Notification).values(claimed_by=None, claimed_until=None))
    running = [asyncio.create_task(notifier.run()) for notifier in notifiers]
    try:
        await sink.wait_for(75, within_s=90.0)
        async with asyncio.timeout(60.0):
            while await _left(here):
                await asyncio.sleep(0.02)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    told = [recipients[0] for recipients, _ in sink.messages]
    assert len(told) == len(set(told)) == 75


async def test_two_nodes_claim_webhooks_messages_apart(nodes: tuple[Database, Database]) -> None:
    """E-11: what one node's courier holds, the other's does not; no endpoint has more than its share."""
    here, there = nodes
    async with here.sessions.begin() as session:
        account = await add_account(session)
    for number in range(3):
        for _ in range(6):
            await _waiting(here, account, "emergency", "webhook", [f"webhook_{number:026}"])
    couriers = [WebhookCourier(database, Outbound()) for database in (here, there)]
    first, second = await couriers[0]._claim_due(), await couriers[1]._claim_due()
    assert len(first) == len({one.id for one in first}) == 12
    assert {one.id for one in first}.isdisjoint(one.id for one in second)
    assert len(first) + len(second) == 18


async def _left(database: Database) -> int:
    async with database.sessions() as session:
        query = select(func.count()).select_from(Notification)
        return await session.scalar(query.where(Notification.state == "waiting", Notification.channel == "email")) or 0


async def test_of_two_nodes_one_takes_each_step_of_an_escalation(
    nodes: tuple[Database, Database], keys: KeyRing
) -> None:
    """E-11: the call's row is locked by whoever takes it, and the other passes it over."""
    here, there = nodes
    async with here.sessions.begin() as session:
        account = await add_account(session)
        plan = await escalation.plan_for(session, account, to_change=True)
        step = {"after_s": 60, "emails": ["duty@example.com"], "chat_recipient_ids": []}
        await escalation.change_plan(session, SYSTEM, account, plan, [step])
        for _ in range(10):
            call = await add_emergency_call(session, account, kind="emergency", outcome="answered", at=utc_now())
            call.escalation_due_at = utc_now() - dt.timedelta(seconds=1)
    nodes_of = [Escalator(database, keys, on_told=lambda: None) for database in (here, there)]
    taken = await asyncio.gather(*(node.take_due() for node in nodes_of))
    assert sum(taken) == 10
    async with here.sessions() as session:
        told = await session.scalar(
            select(func.count()).select_from(Notification).where(Notification.channel == "escalation")
        )
    assert told == 10
