"""A file that was rendered before, asked for again: the same bytes on every kind of connection, and for nobody who does
not read them.
"""

import asyncio
import re
import socket
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp
import pytest

from engine import config as configuration
from engine.provisioning.assetstore import AssetStore
from engine.provisioning.http import make_phones_port
from tests.protocol.test_provisioning_files import YEALINK, YEALINK_MAC, furnished, listening

GIVE_UP_S = 60
WAYS = {
    "stays open": "GET {path} HTTP/1.1\r\nHost: {host}\r\n",
    "closes": "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n",
    "HTTP/1.0": "GET {path} HTTP/1.0\r\nHost: {host}\r\n",
    "HTTP/1.0, stays open": "GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: keep-alive\r\n",
    "head alone": "HEAD {path} HTTP/1.1\r\nHost: {host}\r\n",
}
CONNECTION = {"closes": "close", "HTTP/1.0, stays open": "keep-alive"}


@pytest.fixture
async def served(database, keys, tmp_path):
    """The server of a phones' port, and the URL of a phone's file."""
    store = AssetStore(tmp_path / "assets")
    _, token = await furnished(database, keys, store)
    port = make_phones_port(configuration.Provisioning(), keys, database, store)
    runner, base = await listening(port)
    yield runner.server, f"{base}/p/{token}/{YEALINK_MAC}.cfg"
    await runner.cleanup()
    await port.close()


async def asked(url: str, way: str, fields: str = "") -> tuple[str, dict[str, str], bytes]:
    """The status, the header fields in their order, and the body."""
    at = urlsplit(url)
    request = WAYS[way].format(path=at.path, host=at.netloc) + f"User-Agent: {YEALINK}\r\n{fields}\r\n"
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    try:
        async with asyncio.timeout(GIVE_UP_S):
            writer.write(request.encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            status, *rows = head.removesuffix("\r\n\r\n").split("\r\n")
            found = dict(row.split(": ", 1) for row in rows)
            has_body = way != "head alone" and " 200 " in status
            body = await reader.readexactly(int(found["Content-Length"])) if has_body else b""
    finally:
        writer.close()
    return status.partition(" ")[2], found, body


@pytest.mark.parametrize("condition", [False, True])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_a_kept_file_is_answered_alike_on_every_kind_of_connection(served, condition, coding):
    """P-01: status, header fields and bytes are the same whether the connection stays or not, at the first request and
    at the tenth; each names the moment.
    """
    _, url = served
    fields = f"Accept-Encoding: {coding}\r\n"
    status, first, body = await asked(url, "closes", fields)
    assert status == "200 OK"
    if condition:
        fields += f"If-None-Match: {first['ETag']}\r\n"
        first, body = {name: value for name, value in first.items() if name != "Content-Length"}, b""
    for way in [*WAYS, *WAYS]:
        status, found, got = await asked(url, way, fields)
        assert status == ("304 Not Modified" if condition else "200 OK"), way
        assert got == (b"" if way == "head alone" else body), way
        assert found.pop("Connection", None) == CONNECTION.get(way), way
        assert abs(parsedate_to_datetime(found["Date"]) - datetime.now(UTC)) < timedelta(seconds=GIVE_UP_S)
        assert list(found) == [name for name in first if name != "Connection"], way
        assert {**found, "Date": first["Date"]} == {n: v for n, v in first.items() if n != "Connection"}, way


async def test_a_thousand_requests_at_once_are_all_answered_when_somebody_reads_at_last(served):
    """P-01: whoever asks and does not read is waited for, and gets every answer whole and in order."""
    server, url = served
    _, _, body = await asked(url, "stays open")
    at = urlsplit(url)
    request = WAYS["stays open"].format(path=at.path, host=at.netloc) + f"User-Agent: {YEALINK}\r\n\r\n"
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that little fits on the way
    raw.connect((at.hostname, at.port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=4096)
    async with asyncio.timeout(GIVE_UP_S):
        writer.write(request.encode() * 1000)
        while not (held := [each for each in server.connections if each.writing_paused]):
            await asyncio.sleep(0.01)
        async with aiohttp.ClientSession(headers={"User-Agent": YEALINK}) as other:
            for _ in range(300):  # who reads is answered meanwhile, and nothing is written for who does not
                async with other.get(url) as answer:
                    assert await answer.read() == body
        assert held[0].writing_paused
        assert held[0].transport.get_write_buffer_size() < 50 * len(body)
        for _ in range(1000):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            assert length is not None
            assert await reader.readexactly(int(length[1])) == body
    writer.close()
