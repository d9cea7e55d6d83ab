"""The listener itself: what is no HTTP, and where a request comes from."""

import asyncio
import ipaddress
import json

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from admin.app import make_admin
from admin.client import client_ip
from admin.malformed import Malformed
from admin.server import AdminRunner
from engine.config import Config
from engine.crypto import KeyRing
from engine.db import Database
from tests.standin_edge import StandInEdge

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

TRUSTED = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /api/v1/account HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_is_no_http_gets_a_problem_and_a_closed_door(database: Database, keys: KeyRing, sent: bytes) -> None:
    """AD-API: malformed HTTP: 400 as a problem, nothing of the request repeated, the software unnamed."""
    registry = CollectorRegistry()
    runner = AdminRunner(make_admin(Config(), keys, database, StandInEdge(), registry=registry))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        await writer.wait_closed()
    finally:
        await runner.cleanup()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert b"application/problem+json" in head
    assert json.loads(body)["code"] == "malformed_http"
    assert b"aaaa" not in body
    assert b'callpoint_admin_malformed_requests_total{why="' in generate_latest(registry)


def test_the_log_has_a_line_a_minute_of_what_is_no_http_and_the_metric_has_all() -> None:
    """S1-02: what no parser reads is no entry; it is counted, and whoever sends it does not fill the log."""
    registry, now = CollectorRegistry(), [100.0]
    malformed = Malformed(registry, lambda: now[0])
    with capture_logs() as lines:
        for at in (100.0, 101.0, 159.0, 160.0, 161.0):
            now[0] = at
            malformed.take("request_1", "203.0.113.9", "BadHttpMessage")
    told = [(line["event"], line["log_level"], line["untold_before"]) for line in lines]
    assert told == [("malformed_http", "warning", 0), ("malformed_http", "warning", 2)]
    counted = registry.get_sample_value("callpoint_admin_malformed_requests_total", {"why": "BadHttpMessage"})
    assert counted == 5


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        (None, [], "local"),
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["[2001:DB8::5]:4711, [2001:db8:0::9]"], "2001:db8::5"),
        ("10.0.0.1", ["203.0.113.9:5000"], "203.0.113.9"),
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        ("10.0.0.1", ["<script>"], "unknown"),
        ("fe80::1%eth0", [], "fe80::1"),
    ],
)
def test_the_client_is_the_first_address_that_is_nobodys_proxy(
    peer: str | None, forwarded: list[str], expected: str
) -> None:
    """S0-37: read from the end, trusted hops stepped over, one spelling for each address."""
    assert client_ip(peer, forwarded, TRUSTED) == expected
