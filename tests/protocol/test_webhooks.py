"""Webhooks from a recorded call to a receiver on loopback: signed, once, tried again, given up, never in the way."""

import asyncio
import base64
import datetime as dt
import hashlib
import hmac
import ipaddress
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from sqlalchemy import select

from engine.audit.record import Actor
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.e911 import webhooks
from engine.e911.calls import Recorder
from engine.e911.journal import JournalWriter
from engine.e911.retries import Patience
from engine.e911.sweeps import hold_drill
from engine.e911.webhook_courier import WebhookCourier
from engine.e911.webhooks import WebhookFields
from engine.ids import new_id
from engine.models import Account, EmergencyCall, Location, Notification, Webhook
from engine.outbound import Outbound
from tests.factories import add_account, add_location

pytestmark = pytest.mark.enable_socket
HERE = Outbound((ipaddress.ip_network("127.0.0.0/8"),))
ACTOR = Actor("cli", "cli", "tests", "local")
QUICK = Patience(first_s=0.01, longest_s=0.02, give_up_after=dt.timedelta(0), tries_at_least=3)


class Receiver:
    """Takes messages; `statuses` are given first, then 204."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.came = asyncio.Event()
        app = web.Application()
        app.router.add_post("/{name}", self._answer)
        self.server = TestServer(app)

    def url(self, name: str = "hook") -> str:
        return f"http://127.0.0.1:{self.server.port}/{name}"

    async def _answer(self, request: web.Request) -> web.Response:
        self.taken.append((dict(request.headers), await request.read()))
        self.came.set()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204, text="")

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.taken) < count:
                self.came.clear()
                await self.came.wait()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    await made.server.start_server()
    yield made
    await made.server.close()


@pytest.fixture
async def courier(database: Database) -> AsyncIterator[WebhookCourier]:
    made = WebhookCourier(database, HERE, patience=QUICK, poll_s=0.02)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _site(database: Database) -> tuple[Account, Location]:
    async with database.sessions.begin() as session:
        account = await add_account(session)
        return account, await add_location(session, account)


async def _hook(database: Database, account: Account, url: str, *kinds: str) -> tuple[Webhook, str]:
    wished = WebhookFields("Door", url, kinds or webhooks.KINDS)
    async with database.sessions.begin() as session:
        return await webhooks.create_webhook(session, ACTOR, account, wished, HERE)


async def _drill(database: Database, account: Account, location: Location) -> str:
    async with database.sessions.begin() as session:
        here = await session.get(Location, location.id)
        assert here is not None
        call = await hold_drill(session, ACTOR, account, here, signer=None, public_url="https://callpoint.example")
        return call.id


async def _settled(database: Database, state: str) -> Notification:
    async with asyncio.timeout(60):
        while True:
            async with database.sessions() as session:
                rows = await session.scalars(select(Notification).where(Notification.channel == "webhook"))
                found = [row for row in rows if row.state == state]
            if found:
                return found[0]
            await asyncio.sleep(0.02)


def _is_signed(secret: str, headers: dict[str, str], body: bytes) -> bool:
    signed = f"{headers['Webhook-Id']}.{headers['Webhook-Timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    made = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return made in headers["Webhook-Signature"].split()


async def test_a_recorded_911_call_reaches_every_webhook_once_signed(
    database: Database, keys: KeyRing, receiver: Receiver, courier: WebhookCourier, tmp_path: Path
) -> None:
    """S1-28: one message for each call and webhook, in the record's own transaction; who is not told of such is not."""
    account, location = await _site(database)
    _door, secret = await _hook(database, account, receiver.url("door"))
    await _hook(database, account, receiver.url("tests"), "test")
    journal = JournalWriter(tmp_path / "journal", keys, on_durable=lambda: None, on_fault=lambda _words: None)
    recorder = Recorder(database, keys, tmp_path / "journal", on_recorded=courier.wake)
    entry: dict[str, Any] = {
        "type": "call", "id": new_id("call"), "account_id": account.id, "call_id": "a@b", "dialed": "911",
        "kind": "emergency", "caller": {"name": "Desk", "extension": "101", "callback_number": "+15185550101"},
        "location": {"id": location.id, "name": location.name, "civic_address": location.civic_address},
        "location_source": "phone", "sent_at": utc_now().isoformat(), "received_at": utc_now().isoformat(),
    }  # fmt: skip
    for _ in range(2):  # the journal read again changes nothing
        journal.put(entry)
    journal.close()
    while await recorder.record_new():
        pass
    await receiver.wait_for(1)
    row = await _settled(database, "sent")
    assert len(receiver.taken) == 1
    headers, body = receiver.taken[0]
    assert _is_signed(secret, headers, body)
    told = json.loads(body)
    assert (told["id"], told["type"]) == (row.id, "emergency_call.sent")
    assert headers["Webhook-Id"] == row.id
    assert told["data"]["call"]["id"] == entry["id"]
    assert told["data"]["call"]["caller"]["callback_number"] == "+15185550101"
    assert told["data"]["call"]["location"]["civic_address"] == location.civic_address
    async with database.sessions() as session:
        flags = await session.scalar(select(EmergencyCall.flags))
    assert "no_recipients" in flags, "a webhook is nobody who is mailed"


async def test_what_is_refused_is_tried_again_with_the_same_id_and_signed_anew(
    database: Database, receiver: Receiver, courier: WebhookCourier
) -> None:
    """S1-28: at least once; the receiver knows a second one by its id."""
    account, location = await _site(database)
    hook, secret = await _hook(database, account, receiver.url())
    receiver.statuses = [500, 404]
    await _drill(database, account, location)
    courier.wake()
    await receiver.wait_for(3)
    row = await _settled(database, "sent")
    assert len({headers["Webhook-Id"] for headers, _body in receiver.taken}) == 1
    assert all(_is_signed(secret, headers, body) for headers, body in receiver.taken)
    assert (row.tries, row.last_error) == (3, None)
    async with database.sessions() as session:
        seen = await session.get(Webhook, hook.id)
        assert seen is not None
        assert (seen.tried_ok, seen.version) == (True, 1)


@pytest.mark.parametrize(("statuses", "tries"), [([500] * 9, 3), ([410], 1)])
async def test_what_is_never_taken_is_given_up_with_the_words(
    database: Database, receiver: Receiver, courier: WebhookCourier, statuses: list[int], tries: int
) -> None:
    """S1-28: after its patience, or at once when the receiver says that it wants no more."""
    account, location = await _site(database)
    await _hook(database, account, receiver.url())
    receiver.statuses = list(statuses)
    await _drill(database, account, location)
    courier.wake()
    row = await _settled(database, "failed")
    assert (row.tries, len(receiver.taken)) == (tries, tries)
    assert row.last_error == f"It answered {statuses[0]}"


async def test_a_webhook_that_hangs_holds_up_no_other(database: Database, receiver: Receiver) -> None:
    """S1-28: each has a few places of its own, and a stop releases what was not sent."""
    held = asyncio.Event()

    async def hang(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        held.set()
        await asyncio.Event().wait()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    account, location = await _site(database)
    await _hook(database, account, f"http://127.0.0.1:{port}/")
    await _hook(database, account, receiver.url())
    async with database.sessions.begin() as session:
        places = [location, *[await add_location(session, account, name=f"Site {at}") for at in range(5)]]
    for place in places:
        await _drill(database, account, place)
    courier = WebhookCourier(database, HERE, patience=QUICK, poll_s=0.02, within_s=600.0)
    task = asyncio.create_task(courier.run())
    await receiver.wait_for(6)
    async with asyncio.timeout(60):
        await held.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    server.close()
    async with database.sessions() as session:
        rows = (await session.scalars(select(Notification).where(Notification.state == "waiting"))).all()
    assert len(rows) == 6
    assert {row.claimed_by for row in rows} == {None}


async def test_a_removed_or_silent_webhook_leaves_nothing_waiting(
    database: Database, receiver: Receiver, courier: WebhookCourier
) -> None:
    """S1-28: the call's page says why nothing was sent."""
    account, location = await _site(database)
    hook, _secret = await _hook(database, account, receiver.url())
    async with database.sessions.begin() as session:
        await _drill_in(session, account, location)
        row = await session.get(Webhook, hook.id)
        assert row is not None
        await webhooks.delete_webhook(session, ACTOR, row)
    assert (await _settled(database, "failed")).last_error == "The webhook was removed."
    assert courier.id
    assert receiver.taken == []


async def _drill_in(session: Any, account: Account, location: Location) -> None:
    here = await session.get(Location, location.id)
    await hold_drill(session, ACTOR, account, here, signer=None, public_url="")


async def test_after_a_rotation_both_secrets_sign_for_a_day(
    database: Database, receiver: Receiver, courier: WebhookCourier
) -> None:
    """S1-30: a receiver changes over without losing a message."""
    account, location = await _site(database)
    hook, first = await _hook(database, account, receiver.url())
    async with database.sessions.begin() as session:
        row = await session.get(Webhook, hook.id)
        assert row is not None
        second = await webhooks.rotate_secret(session, ACTOR, row)
    await _drill(database, account, location)
    courier.wake()
    await receiver.wait_for(1)
    headers, body = receiver.taken[0]
    assert _is_signed(first, headers, body)
    assert _is_signed(second, headers, body)
    assert len(webhooks.keys_of(row, utc_now() + dt.timedelta(hours=25))) == 1
