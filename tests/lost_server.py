"""A LoST server for tests, written against RFC 5222's schema and none of the client's code."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from aiohttp import web
from lxml import etree

from tests.conftest import CASES

LOST = "urn:ietf:params:xml:ns:lost1"
CA = "urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr"
SCHEMA = CASES / "xml" / "held_lost" / "lost-rng.xml"


def schema(file: Path = SCHEMA) -> etree.RelaxNG:
    """The RELAX NG schema that RFC 5222 §14 publishes."""
    return etree.RelaxNG(etree.fromstring(file.read_bytes()))


def found(
    *,
    uri: str = "sip:psap@albany.example.net",
    expires: str = "2026-11-22T20:00:00Z",
    valid: str = "",
    invalid: str = "",
    unchecked: str = "",
    warning: str = "",
    path: tuple[str, ...] = ("resolver.example.net", "lost.example.net"),
) -> bytes:
    """A findServiceResponse; the three lists are the local names of civic address elements."""
    lists = "".join(
        f"<{kind}>{' '.join('ca:' + name for name in names.split())}</{kind}>"
        for kind, names in (("valid", valid), ("invalid", invalid), ("unchecked", unchecked))
        if names
    )
    validation = f"<locationValidation>{lists}</locationValidation>" if lists else ""
    warned = f'<warnings source="lost.example.net">{warning}</warnings>' if warning else ""
    vias = "".join(f'<via source="{name}"/>' for name in path)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<findServiceResponse xmlns="{LOST}" xmlns:ca="{CA}">'
        f'<mapping expires="{expires}" lastUpdated="2026-01-01T00:00:00Z" source="lost.example.net" '
        'sourceId="7e3f40b098c711dbb6060800200c9a66">'
        '<displayName xml:lang="en">Albany County 911</displayName><service>urn:service:sos</service>'
        f"<uri>{uri}</uri><serviceNumber>911</serviceNumber></mapping>"
        f'{validation}{warned}<path>{vias}</path><locationUsed id="location"/></findServiceResponse>'
    ).encode()


def errors(name: str, words: str = "no", source: str = "lost.example.net") -> bytes:
    profiles = ' unsupportedProfiles="civic"' if name == "locationProfileUnrecognized" else ""
    return (
        f'<errors xmlns="{LOST}" source="{source}"><{name}{profiles} message="{words}" xml:lang="en"/></errors>'
    ).encode()


def redirect(target: str) -> bytes:
    return (
        f'<redirect xmlns="{LOST}" target="{target}" source="lost.example.net" message="ask there" xml:lang="en"/>'
    ).encode()


@dataclass
class LostServer:
    """Answers every request with what `answers` holds for its path, or refuses to; keeps what was asked."""

    answers: dict[str, bytes | int] = field(default_factory=dict)
    asked: list[tuple[str, bytes, str]] = field(default_factory=list)
    url: str = ""
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/lost"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.append((request.path, body, request.headers.get("Content-Type", "")))
        answer = self.answers.get(request.path, 404)
        if isinstance(answer, int):
            return web.Response(status=answer, headers={"Location": "/elsewhere"})
        return web.Response(body=answer, content_type="application/lost+xml")
