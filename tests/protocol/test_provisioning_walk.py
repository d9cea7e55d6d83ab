"""Every request that phones were seen to make, with a token that has ended, one that nobody has, and another account's:
one answer, whatever it asks for, and no part of any token where somebody could read it.
"""

import asyncio
import json
import logging
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import text

from engine import config as configuration
from engine.audit.record import SYSTEM
from engine.db import Database
from engine.models import Account
from engine.provisioning import phones, tokens, vendors
from engine.provisioning.http import PhonesPort, make_phones_port
from engine.provisioning.vendors import FileKind
from tests.factories import add_account, add_line, add_pbx, add_phone

KNOWN = vendors.known()
CONDITIONS = ("If-None-Match: *", "Range: bytes=0-9", "Accept-Encoding: gzip")
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "TRACE")
NOBODYS = tokens.mint()


@dataclass(slots=True)
class Walk:
    """A port with one account whose phones are those of the requests, and another one without phones."""

    port: PhonesPort
    database: Database
    at: tuple[str, int]
    token: str
    ended: str
    others: str
    answers: dict[tuple[bool, bytes], list[str]] = field(default_factory=dict)

    async def ask(self, method: str, token: str, case: dict[str, Any], *more: str) -> bytes:
        """The whole answer without its date, by a connection of its own."""
        reader, writer = await asyncio.open_connection(*self.at)
        head = (f"{method} /p/{token}{case['path'] or '/000000000000.cfg'} HTTP/1.1", "Host: phones.example.net")
        said = (*head, f"User-Agent: {case['user_agent'] or ''}", *more, "Connection: close", "Content-Length: 0")
        writer.write("\r\n".join((*said, "\r\n")).encode())
        async with asyncio.timeout(30):
            answer = await reader.read()
        writer.close()
        return re.sub(rb"\r\nDate: [^\r]*", b"", answer)

    async def written(self) -> str:
        """All that the database keeps of it."""
        await self.port.log.flush()
        async with self.database.sessions() as session:
            fetches = (await session.execute(text("SELECT * FROM provisioning_event"))).all()
            return f"{fetches} {(await session.scalars(text('SELECT entry FROM audit_entry'))).all()}"


@pytest.fixture
async def walk(database, keys, requests) -> AsyncIterator[Walk]:
    async with database.sessions.begin() as session:
        account, other = await add_account(session), await add_account(session, name="Other")
        ended = await phones.generate_token(session, SYSTEM, account, keys)
        others = await phones.generate_token(session, SYSTEM, other, keys)
        await add_pbx(session, account, registrar_host="pbx.example.net")
        line = await add_line(session, account, "101")
        for mac, profile, model in _phones_in(requests):
            await add_phone(session, account, line, mac=mac, vendor=profile, model=model)
    async with database.sessions.begin() as session:
        account = await session.get(Account, account.id)
        token = await phones.rotate_token(session, SYSTEM, account, keys)
    port = make_phones_port(configuration.Provisioning(), keys, database)
    runner = port.runner()
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    yield Walk(port, database, listener.getsockname(), token, ended, others)
    await runner.cleanup()
    await port.close()


@pytest.fixture
def requests(cases) -> list[dict[str, Any]]:
    return json.loads((cases / "requests.json").read_text())


def _phones_in(requests: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Address, vendor and model of each phone of ours that is among them."""
    found: dict[str, tuple[str, str, str]] = {}
    for case in requests:
        who = KNOWN.identify(case["path"] or "/", case["user_agent"])
        if who.mac is None or who.vendor is None or who.mac in found:
            continue
        profile = KNOWN.profiles[who.vendor]
        model = profile.model(who.model or "") or next(iter(profile.models.values()))
        found[who.mac] = (who.mac, profile.name, model.name)
    assert len(found) > 60
    return list(found.values())


async def test_every_real_request_by_a_token_that_is_not_in_force_gets_the_one_404(walk, requests, caplog):
    """P-02, P-03, P-23: by the ended one and by nobody's, in every method, with conditions and ranges: the same bytes;
    no run of eight characters of a token stands in the log, in the fetch log, in the audit log or in an answer.
    """
    caplog.set_level(logging.DEBUG)
    expected = await walk.ask("GET", "none", {"path": "/nothing", "user_agent": ""})
    assert expected.startswith(b"HTTP/1.1 404 Not Found\r\n")
    for number, case in enumerate(requests):
        for token in (walk.ended, NOBODYS):
            method = METHODS[number % len(METHODS)]
            for asked, more in (
                ("GET", ()),
                (method, CONDITIONS),
            ):
                answer = await walk.ask(asked, token, case, *more)
                body = b"" if asked == "HEAD" else expected.partition(b"\r\n\r\n")[2]
                assert answer == expected.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body, (asked, case)
    _holds_none(await walk.written() + caplog.text, walk)


async def test_every_real_request_by_another_account_s_token_reaches_no_phone(walk, requests, caplog):
    """P-02, P-23: what names a phone gets the one 404; a file for everybody of a make holds the asker's own token."""
    caplog.set_level(logging.DEBUG)
    expected = await walk.ask("GET", "none", {"path": "/nothing", "user_agent": ""})
    served = 0
    for case in requests:
        answer = await walk.ask("GET", walk.others, case)
        if answer == expected:
            continue
        who = KNOWN.identify(case["path"] or "/", case["user_agent"])
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), case
        assert who.kind not in {FileKind.DEVICE, FileKind.SETTINGS}, case
        assert b"secret-of-101" not in answer, case
        assert walk.token.encode() not in answer, case
        served += 1
    assert served > 50  # files of a model, of a make
    _holds_none(await walk.written() + caplog.text, walk)


def _holds_none(written: str, walk: Walk) -> None:
    for token in (walk.token, walk.ended, walk.others, NOBODYS):
        for start in range(len(token) - 7):
            assert token[start : start + 8] not in written
