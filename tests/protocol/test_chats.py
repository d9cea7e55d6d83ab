"""SMS and chat messages from a recorded call to a service on loopback, by the real library in its real process."""

import asyncio
import datetime as dt
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from sqlalchemy import select

from engine.audit.record import Actor
from engine.config import Mail
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.e911 import chats, sites
from engine.e911.calls import Recorder
from engine.e911.chat_courier import ChatCourier, send_test
from engine.e911.chat_library import ChatLibrary
from engine.e911.chats import ChatFields
from engine.e911.journal import JournalWriter
from engine.e911.notify import Notifier
from engine.e911.retries import Patience
from engine.e911.sweeps import hold_drill
from engine.ids import new_id
from engine.models import Account, ChatRecipient, EmergencyCall, Location, Notification
from engine.outbound import Outbound
from tests.factories import add_account, add_location
from tests.sink import MailSink

pytestmark = pytest.mark.enable_socket
HERE = Outbound((ipaddress.ip_network("127.0.0.0/8"),))
ACTOR = Actor("cli", "cli", "tests", "local")
QUICK = Patience(first_s=0.01, longest_s=0.02, give_up_after=dt.timedelta(0), tries_at_least=3)
SECRET = "T0kenThatNobodyReads"


class Service:
    """A chat service that takes plain JSON; `statuses` are given first, then 200. `/hang` never answers."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.hung = asyncio.Event()
        self._came = asyncio.Event()
        app = web.Application()
        app.router.add_post("/moved", self._move)
        app.router.add_post("/hang", self._hang)
        app.router.add_post("/{path:.*}", self._answer)
        self.server = TestServer(app, shutdown_timeout=0.1)

    def url(self, path: str = f"guard/{SECRET}", host: str = "127.0.0.1") -> str:
        return f"json://{host}:{self.server.port}/{path}"

    async def _answer(self, request: web.Request) -> web.Response:
        self.taken.append((request.path, await request.json()))
        self._came.set()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)

    async def _move(self, request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("/elsewhere")

    async def _hang(self, _request: web.Request) -> web.Response:
        self.hung.set()
        await asyncio.sleep(60)
        return web.Response()

    async def wait_for(self, count: int) -> list[tuple[str, dict[str, Any]]]:
        async with asyncio.timeout(60):
            while len(self.taken) < count:
                self._came.clear()
                await self._came.wait()
        return self.taken


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    await made.server.start_server()
    yield made
    await made.server.close()


@pytest.fixture
async def library() -> AsyncIterator[ChatLibrary]:
    made = ChatLibrary(HERE)
    yield made
    await made.close()


@pytest.fixture
async def courier(database: Database, library: ChatLibrary) -> AsyncIterator[ChatCourier]:
    made = ChatCourier(database, library, patience=QUICK, poll_s=0.02)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def site_of(database: Database) -> tuple[Account, Location]:
    async with database.sessions.begin() as session:
        account = await add_account(session)
        return account, await add_location(session, account)


async def chat_of(database: Database, library: ChatLibrary, account: Account, url: str, **fields: Any) -> ChatRecipient:
    address = await library.read(url)
    async with database.sessions.begin() as session:
        wished = ChatFields(fields.pop("name", "Night guard"), url, **fields)
        return await chats.create_chat(session, ACTOR, account, wished, address)


async def drill_at(database: Database, account: Account, location: Location) -> str:
    async with database.sessions.begin() as session:
        here = await session.get(Location, location.id)
        assert here is not None
        call = await hold_drill(session, ACTOR, account, here, signer=None, public_url="https://callpoint.example")
        return call.id


async def _settled(database: Database, state: str) -> Notification:
    async with asyncio.timeout(60):
        while True:
            async with database.sessions() as session:
                rows = await session.scalars(select(Notification).where(Notification.channel == "chat"))
                found = [row for row in rows if row.state == state]
            if found:
                return found[0]
            await asyncio.sleep(0.02)


def entry_of(account: Account, location: Location, **changed: Any) -> dict[str, Any]:
    return {
        "type": "call", "id": new_id("call"), "account_id": account.id, "call_id": "a@b", "dialed": "911",
        "kind": "emergency", "caller": {"name": "Ann @channel", "extension": "101", "callback_number": "+15185550101"},
        "location": {"id": location.id, "name": location.name, "civic_address": location.civic_address},
        "location_source": "phone", "sent_at": utc_now().isoformat(), "received_at": utc_now().isoformat(), **changed,
    }  # fmt: skip


async def recorded(database: Database, keys: KeyRing, folder: Path, *entries: dict[str, Any]) -> None:
    journal = JournalWriter(folder / "journal", keys, on_durable=lambda: None, on_fault=lambda _words: None)
    for entry in entries:
        journal.put(entry)
    journal.close()
    recorder = Recorder(
        database, keys, folder / "journal", on_recorded=lambda: None, public_url="https://callpoint.example"
    )
    while await recorder.record_new():
        pass


async def test_a_recorded_911_call_reaches_each_chat_once_in_few_words(
    database: Database, keys: KeyRing, service: Service, library: ChatLibrary, courier: ChatCourier, tmp_path: Path
) -> None:
    """E-11: one message per (call, recipient, channel), the mail's facts in short; nobody else is told."""
    account, location = await site_of(database)
    async with database.sessions.begin() as session:
        elsewhere = await add_location(session, account, name="Warehouse")
    await chat_of(database, library, account, service.url())
    await chat_of(database, library, account, service.url("here"), location_id=location.id)
    await chat_of(database, library, account, service.url("elsewhere"), location_id=elsewhere.id)
    await chat_of(database, library, account, service.url("tests"), kinds=("test",))
    await chat_of(database, library, account, service.url("off"), enabled=False)
    entry = entry_of(account, location)
    await recorded(database, keys, tmp_path, entry, entry)  # the journal read again changes nothing
    courier.wake()
    taken = dict(await service.wait_for(2))
    assert set(taken) == {f"/guard/{SECRET}", "/here"}
    said = taken["/here"]
    assert said["title"].startswith("911 call: Ann ＠channel (extension 101) at ")  # noqa: RUF001  # calls nobody
    assert "Call back: +15185550101\nAddress: " in said["message"]
    assert f"Call id: {entry['id']}\nhttps://callpoint.example/calls/{entry['id']}" in said["message"]
    row = await _settled(database, "sent")
    assert (row.tries, row.last_error) == (1, None)
    async with database.sessions() as session:
        flags = await session.scalar(select(EmergencyCall.flags))
        rows = (await session.scalars(select(Notification.because).order_by(Notification.because))).all()
    assert "no_recipients" not in flags, "who reads a chat is somebody who is told"
    assert rows == ["chat_account", "chat_location"]


async def test_a_call_that_turns_out_otherwise_is_told_again_by_chat(
    database: Database, keys: KeyRing, service: Service, library: ChatLibrary, courier: ChatCourier, tmp_path: Path
) -> None:
    """E-11: nobody took it, then somebody did: a correction and the all-clear, as by mail; tests are marked TEST."""
    account, location = await site_of(database)
    await chat_of(database, library, account, service.url("guard"))
    entry = entry_of(account, location)
    now = utc_now().isoformat()
    await recorded(database, keys, tmp_path / "1", entry)
    await recorded(
        database, keys, tmp_path / "2", {"type": "outcome", "call": entry["id"], "outcome": "failed", "at": now}
    )
    await recorded(
        database, keys, tmp_path / "3", {"type": "outcome", "call": entry["id"], "outcome": "answered", "at": now}
    )
    await recorded(database, keys, tmp_path / "4", entry_of(account, location, dialed="933", kind="test"))
    courier.wake()
    titles = sorted(said["title"].partition(":")[0] for _path, said in await service.wait_for(4))
    assert titles == [
        "911 call", "ANSWERED AFTER ALL", "REACHED NOBODY, call 911 from another telephone NOW", "[TEST] 933 call",
    ]  # fmt: skip


async def test_what_a_service_refuses_is_tried_again_and_given_up_with_its_words(
    database: Database, service: Service, library: ChatLibrary, courier: ChatCourier
) -> None:
    """E-11: retries with back-off; what is said of them holds no secret of the address."""
    account, location = await site_of(database)
    chat = await chat_of(database, library, account, service.url())
    service.statuses = [503]
    await drill_at(database, account, location)
    courier.wake()
    await service.wait_for(2)
    assert (await _settled(database, "sent")).tries == 2
    assert service.taken[1][1]["title"].startswith("[DRILL]")
    service.statuses = [403] * 9
    async with database.sessions.begin() as session:
        other = await add_location(session, account, name="Annex")
    await drill_at(database, account, other)
    courier.wake()
    row = await _settled(database, "failed")
    assert row.tries == 3
    assert "403" in (row.last_error or "")
    assert SECRET not in f"{row.last_error}{row.subject}{row.body}"
    async with database.sessions() as session:
        seen = await session.get(ChatRecipient, chat.id)
        assert seen is not None
        assert (seen.tried_ok, seen.version) == (False, 1)
        assert "403" in seen.tried_words


async def test_a_service_that_hangs_holds_up_neither_mails_nor_other_chats(
    database: Database, service: Service
) -> None:
    """E-11: its process is ended and the message waits for another try; a stop releases what was not sent."""
    library = ChatLibrary(HERE, within_s=600.0)
    account, location = await site_of(database)
    await chat_of(database, library, account, service.url("hang") + "?rto=600")
    await chat_of(database, library, account, service.url("guard"))
    async with database.sessions.begin() as session:
        await sites.add_recipient(session, ACTOR, account, "desk@example.com")
    sink = MailSink()
    await sink.start()
    notifier = Notifier(database, Mail(host="127.0.0.1", port=sink.port, security="none"), poll_s=0.02)
    courier = ChatCourier(database, library, patience=QUICK, poll_s=0.02)
    tasks = [asyncio.create_task(notifier.run()), asyncio.create_task(courier.run())]
    await drill_at(database, account, location)
    await service.wait_for(1)
    await sink.wait_for(1)
    async with asyncio.timeout(60):
        await service.hung.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await sink.stop()
    async with database.sessions() as session:
        rows = (await session.scalars(select(Notification).where(Notification.state == "waiting"))).all()
    assert [(row.channel, row.claimed_by) for row in rows] == [("chat", None)]


async def test_a_hanging_process_is_ended_and_the_next_message_gets_a_fresh_one(service: Service) -> None:
    """E-11: each message has its own time."""
    library = ChatLibrary(HERE, within_s=2.0)
    said = await library.send(service.url("hang") + "?rto=600", "t", "b")
    assert (said.is_ok, said.words) == (False, "no answer within 2 s")
    async with asyncio.timeout(60):
        while not said.is_ok:  # a fresh process can take longer than that on a busy machine
            said = await library.send(service.url("guard"), "t", "b")
    await library.close()
    assert service.taken[0][0] == "/guard"


@pytest.mark.parametrize(
    ("networks", "url", "words"),
    [
        ((), "jsons://localhost:{port}/x", "It leads to 127.0.0.1, no public address"),
        ((), "jsons://2130706433:{port}/x", "no public address"),
        (("10.0.0.0/8",), "json://127.0.0.1:{port}/x", "plain http is for networks"),
        (("127.0.0.0/8",), "json://127.0.0.1:{port}/moved", ""),
    ],
)
async def test_a_message_leaves_for_no_address_inside_whatever_name_leads_there(
    service: Service, networks: tuple[str, ...], url: str, words: str
) -> None:
    """E-11 under decision 0034: the connection itself is refused, and no redirect is followed."""
    library = ChatLibrary(Outbound(tuple(ipaddress.ip_network(text) for text in networks)))
    said = await library.send(url.format(port=service.server.port), "t", "b")
    await library.close()
    assert not said.is_ok
    assert words in said.words
    assert service.taken == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nosuch://x/y", "no service that messages leave by"), ("mailto://a:b@example.com", "email address in its own"),
        ("json://127.0.0.1/x", "Expected jsons://"), ("jsons://example.com/x?verify=no", "Leave verify out"),
        ("slack://xoxb-1234-1234-abc124/#a/#b", "It names 2 targets"), ("twilio://x", "a part is missing"),
        ("syslog://", "no service"), ("https://example.com/hook", "does not know such an address"),
        ("workflows://h:443/w/s?template=/etc/passwd", "Leave template out"), ("just words", "Expected an address"),
    ],
)  # fmt: skip
async def test_an_address_that_cannot_be_is_refused_in_words(url: str, words: str) -> None:
    """E-11: when it is typed, by the library's own reading; nothing is sent."""
    library = ChatLibrary(Outbound())
    found = await library.read(url)
    await library.close()
    assert words in found.fault
    assert found.shown == ""


async def test_what_a_service_gave_to_paste_is_known_by_the_service_and_shows_no_secret(library: ChatLibrary) -> None:
    """E-11: the https:// address of Slack's own page is one, as is Apprise's."""
    pasted = await library.read("https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ")
    assert (pasted.service, pasted.shown, pasted.fault) == ("Slack", "slack://…i7FQ", "")
    sms = await library.read("twilio://AC735c307c62944b5a:e29dfbcebf390dee9@+15185550100/+15185550101")
    assert (sms.service, sms.shown) == ("Twilio", "twilio://…0101")


async def test_a_test_message_tells_what_was_answered(service: Service, library: ChatLibrary) -> None:
    """E-11: in words, for the recipient's page."""
    account = Account(name="Acme")
    tried = await send_test(library, account, service.url("guard"))
    assert (tried.is_ok, tried.words) == (True, "The service took it.")
    assert service.taken[0][1]["title"] == "[TEST] Callpoint can reach you for Acme"
    service.statuses = [404]
    tried = await send_test(library, account, service.url())
    assert (tried.is_ok, "404" in tried.words, SECRET in tried.words) == (False, True, False)


async def test_a_removed_recipient_leaves_nothing_waiting_and_goes_with_its_location(
    database: Database, service: Service, library: ChatLibrary, courier: ChatCourier
) -> None:
    """E-11: the call's page says why nothing was sent."""
    account, location = await site_of(database)
    chat = await chat_of(database, library, account, service.url())
    async with database.sessions.begin() as session:
        empty = await add_location(session, account, name="Empty")
    await chat_of(database, library, account, service.url("empty"), location_id=empty.id)
    async with database.sessions.begin() as session:
        here = await session.get(Location, location.id)
        assert here is not None
        await hold_drill(session, ACTOR, account, here, signer=None, public_url="")
        row = await session.get(ChatRecipient, chat.id)
        assert row is not None
        await chats.delete_chat(session, ACTOR, row)
        gone = await session.get(Location, empty.id)
        assert gone is not None
        await sites.delete_location(session, ACTOR, gone)
    assert (await _settled(database, "failed")).last_error == "The recipient was removed."
    assert courier.id
    assert service.taken == []
    async with database.sessions() as session:
        assert (await session.scalars(select(ChatRecipient.id))).all() == []
