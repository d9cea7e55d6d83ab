"""A location server as tests want it: answers as told, after as long as told, and remembers what it was asked."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web

from engine.e911.location import CivicAddress, DispatchableLocation
from engine.e911.pidf import write_pidf

PLACE = DispatchableLocation("x", "", CivicAddress.of({"country": "US", "A3": "Troy", "RD": "River", "HNO": "42"}))


@dataclass
class Lis:
    """`answers`: (status, headers, body) for each path; others are 404. `delay_s` before every answer, and none as long
    as it may not.
    """

    port: int = 0
    delay_s: float = 0.0
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    scheme: str = "http"
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_answer.set()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def uri(self, path: str = "/here") -> str:
        return f"{self.scheme}://{self.host}{path}"

    def say(self, path: str, body: bytes, status: int = 200, **headers: str) -> None:
        self.answers[path] = (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path, await request.read()))
        await asyncio.sleep(self.delay_s)
        await self.may_answer.wait()
        found = self.answers.get(f"{request.method} {request.path}") or self.answers.get(request.path)
        status, headers, body = found or (404, {}, b"")
        return web.Response(status=status, headers=headers, body=body)


def pidf(place: DispatchableLocation = PLACE) -> bytes:
    return write_pidf(place, "pres:101@pbx.example.com", datetime.now(UTC))


@contextlib.asynccontextmanager
async def lis(ssl_context: ssl.SSLContext | None = None) -> AsyncIterator[Lis]:
    """A location server on loopback that has one location, at /here."""
    server = Lis(scheme="https" if ssl_context else "http")
    server.say("/here", pidf())
    runner = web.ServerRunner(web.Server(server.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context).start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()
