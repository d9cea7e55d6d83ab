"""HELD over HTTP on the phones' port: `POST /held`, `GET|POST /held/{reference}` (RFC 5985 §8, RFC 6753).

Theory of operation. Errors that HELD knows ride in a 200 of `application/held+xml`; a reference that is wrong in any
way, or dead, is the phones' port's one 404. A client gets a bare PIDF-LO instead of a locationResponse when its Accept
header prefers `application/pidf+xml` (RFC 6753 §4.2), as that of Kamailio's `lost_held_dereference` does, or when it
asks `?presence`, for clients that cannot choose a header; there an error is a 404, since nothing but a PIDF-LO may be
taken for one. Every answer is noted in the fetch log, in memory, and never holds a client up.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from aiohttp import hdrs, web

from engine.db import utc_now
from engine.e911 import held_xml, pidf
from engine.e911.held import Answer, Lis, Located, network_key
from engine.e911.held_xml import Code, Kind, LocationRequest, NoLocation, read_request, write_error, write_response
from engine.e911.xml_input import MAX_XML_BYTES
from engine.errors import DatabaseAway

READ_WITHIN_S = 10.0
RETRY_AFTER_S = 30
LOOK_UPS_AT_ONCE = 8  # of the database's connections the pages need some too
# a site whose phones all boot behind one address after a power cut is served at once; a scan is not
BURST_PER_ASKER = 200
PER_ASKER_PER_S = 10.0
BURST_OF_REFERENCES, REFERENCES_PER_S = 1_000, 100.0  # whoever holds one was given it; a carrier fetches for many
MAX_ASKERS = 10_000
BY_VALUE = frozenset({Kind.CIVIC, Kind.GEODETIC})

Reply = tuple[int, bytes, Mapping[str, str]]
"""Status, body, headers."""


class HeldAsk(NamedTuple):
    """One request as the fetch log keeps it; equal ones are counted together. A reference is never in it."""

    name: str
    method: str
    status: int
    ip: str
    user_agent: str
    reason: str | None = None
    is_denied: bool = False
    account_id: str | None = None
    phone_id: str | None = None
    evidence: tuple[str, ...] = ()


Note = Callable[[HeldAsk, int], None]
"""(what was asked, how long it took in microseconds)"""


@dataclass(slots=True)
class AskerLimit:
    """How often one asker is answered: a bucket for each, the longest unused forgotten first. Pure but for memory."""

    burst: int = BURST_PER_ASKER
    per_s: float = PER_ASKER_PER_S
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def allows(self, asker: str, now: float) -> bool:
        """One more, at `now` (seconds of any steady clock)?"""
        left, since = self._left.pop(asker, (float(self.burst), now))
        left = min(float(self.burst), left + (now - since) * self.per_s)
        is_allowed = left >= 1
        self._left[asker] = (left - 1 if is_allowed else left, now)
        if len(self._left) > MAX_ASKERS:
            self._left.popitem(last=False)
        return is_allowed


class HeldDoor:
    """The handler of `/held…`. `answer` gives None for the phones' port's one 404.

    Args:
        address_of: The asker's address, through trusted reverse proxies.
        note: Keeps what was asked; must not wait.
    """

    def __init__(
        self,
        lis: Lis,
        *,
        address_of: Callable[[web.BaseRequest], str],
        note: Note,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lis, self._address_of, self._note, self._clock = lis, address_of, note, clock
        self._limit = AskerLimit()
        self._reference_limit = AskerLimit(BURST_OF_REFERENCES, REFERENCES_PER_S)
        self._turn = asyncio.Semaphore(LOOK_UPS_AT_ONCE)

    async def answer(self, request: web.BaseRequest) -> Reply | None:
        """The answer to any request whose path begins with `/held`."""
        started = time.perf_counter()
        path, _, query = request.raw_path.partition("?")
        ask = HeldAsk(
            "location reference" if path != "/held" else "location request",
            request.method[:10],
            200,
            self._address_of(request),
            request.headers.get(hdrs.USER_AGENT, "")[:400],
        )
        is_bare = query.split("&", 1)[0] == "presence" or _prefers_pidf(request.headers.get(hdrs.ACCEPT, ""))
        reply, ask = await self._reply(request, path, ask, is_bare=is_bare)
        self._note(ask, int((time.perf_counter() - started) * 1e6))
        return reply

    async def _reply(
        self, request: web.BaseRequest, path: str, ask: HeldAsk, *, is_bare: bool
    ) -> tuple[Reply | None, HeldAsk]:
        try:
            if path == "/held":
                return await self._ask(request, ask, is_bare=is_bare)
            return await self._dereference(request, path.removeprefix("/held/"), ask, is_bare=is_bare)
        except NoLocation as exc:
            status = 404 if is_bare else 200
            reply = _held(status, write_error(exc.code, exc.detail))
            return reply, ask._replace(status=status, reason=exc.code.value, is_denied=exc.is_denied)
        except _NotRead as exc:
            return _held(exc.status, b""), ask._replace(status=exc.status, reason="body")
        except DatabaseAway as exc:
            reply = _held(503, write_error(Code.GENERAL_LIS_ERROR, exc.detail), RETRY_AFTER_S)
            return reply, ask._replace(status=503, reason="database")

    async def _ask(self, request: web.BaseRequest, ask: HeldAsk, *, is_bare: bool) -> tuple[Reply | None, HeldAsk]:
        if request.method != hdrs.METH_POST:
            return None, ask._replace(status=404, reason="method", is_denied=True)
        async with self._turn:
            is_pbx = await self._lis.is_pbx(ask.ip)
        if not is_pbx and not self._limit.allows(network_key(ask.ip), self._clock()):
            return _too_often(ask)
        asked = read_request(await _read(request))
        async with self._turn:
            located = await self._lis.locate(ask.ip, asked, utc_now())
        reply = _answered(self._lis.answer(located, asked, utc_now()), is_bare=is_bare)
        return reply, _with_located(ask, located)

    async def _dereference(
        self, request: web.BaseRequest, reference: str, ask: HeldAsk, *, is_bare: bool
    ) -> tuple[Reply | None, HeldAsk]:
        nothing = None, ask._replace(status=404, reason="reference", is_denied=True)
        held = self._lis.opened(reference, utc_now())
        if held is None or request.method not in {hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_POST}:
            return nothing
        if not self._reference_limit.allows(network_key(ask.ip), self._clock()):
            return _too_often(ask)
        is_post = request.method == hdrs.METH_POST
        asked = _by_value(read_request(await _read(request))) if is_post else LocationRequest(BY_VALUE)
        async with self._turn:
            located = await self._lis.dereference(held, utc_now())
        if located is None:
            return nothing
        reply = _answered(self._lis.answer(located, asked, utc_now()), is_bare=is_bare)
        return reply, _with_located(ask, located)


class _NotRead(Exception):
    """A body that is refused by an HTTP status before it is looked at."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _by_value(asked: LocationRequest) -> LocationRequest:
    """What a location URI can be asked for: RFC 6753 §4.1 gives no location URI for a location URI.

    Raises:
        NoLocation: exactly a location URI was asked for.
    """
    kinds = asked.kinds & BY_VALUE
    if asked.is_exact and Kind.URI in asked.kinds:
        raise NoLocation(Code.CANNOT_PROVIDE_LI_TYPE, "A location URI is answered with the location itself.")
    return LocationRequest(kinds or BY_VALUE, asked.is_exact, asked.within_s)


async def _read(request: web.BaseRequest) -> bytes:
    """The body of a HELD request.

    The content type is held to: a page in a browser can send plain text across origins unasked, this it cannot.
    """
    if request.content_type != held_xml.CONTENT_TYPE:
        raise _NotRead(415)
    if (request.content_length or 0) > MAX_XML_BYTES:
        raise _NotRead(413)
    body = bytearray()
    try:
        async with asyncio.timeout(READ_WITHIN_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_XML_BYTES:
                    raise _NotRead(413)
    except TimeoutError as exc:
        raise _NotRead(408) from exc
    return bytes(body)


def _prefers_pidf(accept: str) -> bool:
    """Whether an Accept header names PIDF-LO, and HELD no higher (RFC 9110 §12.5.1)."""
    weights: dict[str, float] = {}
    for part in accept.split(",")[:20]:
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        weight = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        try:
            weights[kind] = float(weight)
        except ValueError:
            weights[kind] = 0.0
    wanted = weights.get(pidf.CONTENT_TYPE, 0.0)
    return wanted > 0 and wanted > weights.get(held_xml.CONTENT_TYPE, 0.0)


def _answered(answer: Answer, *, is_bare: bool) -> Reply:
    if is_bare and answer.presence is not None:
        return 200, answer.presence, {str(hdrs.CONTENT_TYPE): pidf.CONTENT_TYPE}
    if is_bare:
        raise NoLocation(Code.CANNOT_PROVIDE_LI_TYPE, "A location by value was not asked for.")
    return _held(200, write_response(answer.presence, answer.uri, answer.expires))


def _too_often(ask: HeldAsk) -> tuple[Reply, HeldAsk]:
    body = write_error(Code.GENERAL_LIS_ERROR, "Asked too often from this address.")
    return _held(429, body, RETRY_AFTER_S), ask._replace(status=429, reason="rate", is_denied=True)


def _held(status: int, body: bytes, retry_after_s: int | None = None) -> Reply:
    headers = {str(hdrs.CONTENT_TYPE): held_xml.CONTENT_TYPE}
    return status, body, headers | ({"Retry-After": str(retry_after_s)} if retry_after_s is not None else {})


def _with_located(ask: HeldAsk, located: Located) -> HeldAsk:
    found_by = f"found by {located.source.value}" if located.source is not None else "by reference"
    return ask._replace(
        account_id=located.account_id,
        phone_id=located.phone_id,
        evidence=(f"{located.location.name} ({located.location.id}), {found_by}",),
    )
