"""The LoST client: which PSAP serves a place, and whether an address is one it can send help to (RFC 5222).

Answers are kept until they expire. When no server answers, an answer from before is given again, marked as stale:
a PSAP's address of yesterday is worth more than none. Nothing here is on a call's way.
"""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

import aiohttp
import dns.asyncresolver
import dns.exception
from dns.rdtypes.IN.NAPTR import NAPTR

from engine.db import utc_now
from engine.e911.civic import DispatchableLocation
from engine.e911.lost_xml import (
    CONTENT_TYPE,
    PASSING,
    SOS,
    BadLost,
    ErrorType,
    Found,
    LostRefused,
    Redirect,
    read_response,
    write_find_service,
)
from engine.e911.xml_input import MAX_XML_BYTES
from engine.errors import EngineError
from engine.outbound import Outbound, Unreachable, guarded, refuse_literal

WITHIN_S = 5.0
MAX_REDIRECTS = 5
MAX_KEPT = 4_096
ASK_AGAIN_AFTER = timedelta(hours=24)  # what never expires is asked for again all the same: boundaries are redrawn
_TYPE: Final = f"{CONTENT_TYPE};charset=utf-8"

UrlOf = Callable[[str], Awaitable[str | None]]
"""The URL of a LoST server by its application unique string; None when it has none."""


class LostAway(EngineError):
    """No LoST server answered, and nothing is known from before."""

    http_status = 503
    title = "The LoST server is away"


class LostClient:
    """Asks one server, follows where it leads, remembers what it said.

    Args:
        url: The server's, `[e911] lost_url`.
        url_of: Finds the server of a redirect; by DNS (RFC 5222 §4, RFC 5223) unless told otherwise.
        now: UTC.
        authorization: The header of that name for this server; a server that it leads to gets none.
        outbound: Where requests may go; None: anywhere, as whoever wrote the configuration wishes.
    """

    def __init__(
        self,
        url: str,
        *,
        url_of: UrlOf | None = None,
        now: Callable[[], datetime] = utc_now,
        within_s: float = WITHIN_S,
        ssl_context: ssl.SSLContext | None = None,
        authorization: str = "",
        outbound: Outbound | None = None,
    ) -> None:
        self.url = url
        self._authorization, self._outbound = authorization, outbound
        self._url_of = url_of or url_by_dns
        self._now, self._within_s, self._ssl = now, within_s, ssl_context
        self._session: aiohttp.ClientSession | None = None
        self._kept: OrderedDict[bytes, tuple[Found, datetime]] = OrderedDict()

    async def find_service(
        self, location: DispatchableLocation, service: str = SOS, *, validate: bool = False
    ) -> Found:
        """Who serves that place; with `validate`, also which elements of its address are right.

        A validation is asked for anew each time: somebody waits for today's word.

        Raises:
            LostRefused: the server's word on the question: no such place, no such service, forbidden.
            LostAway: no server answered, and nothing is known from before.
            ValueError: the location has neither address nor position.
        """
        request = write_find_service(location, service, validate=validate)
        key = sha256(request).digest()
        known = self._kept.get(key)
        if known is not None and not validate and self._now() < known[1]:
            self._kept.move_to_end(key)
            return known[0]
        try:
            async with asyncio.timeout(self._within_s):
                found = await self._ask(request)
        except (LostRefused, LostAway, TimeoutError) as exc:
            if known is not None and not (isinstance(exc, LostRefused) and exc.type not in PASSING):
                return replace(known[0], is_stale=True)
            if isinstance(exc, TimeoutError):
                raise LostAway(f"The LoST server did not answer within {self._within_s:.0f} seconds.") from exc
            raise
        self._keep(key, found)
        return found

    async def close(self) -> None:
        """Let the connections go."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _keep(self, key: bytes, found: Found) -> None:
        self._kept.pop(key, None)
        if not found.mappings or not all(mapping.is_kept for mapping in found.mappings):
            return
        latest = self._now() + ASK_AGAIN_AFTER
        until = min([mapping.expires for mapping in found.mappings if mapping.expires is not None], default=latest)
        self._kept[key] = (found, min(until, latest))
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    async def _ask(self, request: bytes) -> Found:
        url, been, source = self.url, set[str](), ""
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._post(url, request)
            if isinstance(answer, Found):
                return answer
            if answer.target in been:
                break
            been.add(answer.target)
            source = answer.source
            url = await self._server(answer)
        raise LostRefused(ErrorType.LOOP, "the servers send the question round in a circle", source)

    async def _server(self, redirect: Redirect) -> str:
        url = await self._url_of(redirect.target)
        if url is None:
            raise LostAway(f"The LoST server sent us on to {redirect.target[:100]}, which has no address in DNS.")
        return url

    async def _post(self, url: str, request: bytes) -> Found | Redirect:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=guarded(self._outbound, self.url) if self._outbound is not None else None,
                cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False,
            )  # fmt: skip
        headers = {"Content-Type": _TYPE, "Accept": CONTENT_TYPE, "Accept-Encoding": "identity"}
        if self._authorization and url == self.url:
            headers["Authorization"] = self._authorization
        try:
            if self._outbound is not None:
                refuse_literal(self._outbound, url)
            async with self._session.post(
                url, data=request, headers=headers, allow_redirects=False, ssl=self._ssl or True
            ) as response:
                if response.status != 200:
                    raise LostAway(f"The LoST server answered with HTTP status {response.status}.")
                body = await response.content.read(MAX_XML_BYTES + 1)
                while len(body) <= MAX_XML_BYTES and (more := await response.content.read(MAX_XML_BYTES)):
                    body += more
            return read_response(body)
        except BadLost as exc:
            raise LostAway(f"The LoST server's answer cannot be read: {exc.detail}.") from exc
        except Unreachable as exc:
            raise LostAway(f"The LoST server cannot be reached: {exc.detail}") from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise LostAway(f"The LoST server cannot be reached ({type(exc).__name__}).") from exc


async def url_by_dns(target: str) -> str | None:
    """RFC 5222 §4: the U-NAPTR record of `LoST:https` at that domain. Plain HTTP is not followed."""
    try:
        answer = await dns.asyncresolver.resolve(target, "NAPTR", lifetime=WITHIN_S)
    except dns.exception.DNSException:
        return None
    return url_of_records([record for record in answer if isinstance(record, NAPTR)])


def url_of_records(records: list[NAPTR]) -> str | None:
    """The URL in the best U-NAPTR record of `LoST:https` (RFC 4848: the flag is U, the expression `!.*!URL!`)."""
    best = sorted(
        (record.order, record.preference, record.regexp.decode("utf-8", "replace"))
        for record in records
        if record.flags.lower() == b"u" and record.service.lower() == b"lost:https"
    )
    for _order, _preference, expression in best:
        parts = expression.split(expression[:1]) if expression else []
        if len(parts) == 4 and parts[1] == ".*" and parts[2].lower().startswith("https://"):
            return parts[2]
    return None
