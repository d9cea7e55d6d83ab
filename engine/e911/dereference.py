"""Fetches the location a SIP request refers to, for the SIP process, which has no HTTP of its own.

RFC 6753: a GET of the location URI; a server that wants HELD (RFC 5985) gets its POST. What comes back is not trusted:
64 kB at most, strict XML without a doctype, redirects on the same server alone, five seconds in all. Only https, and
plain http for listed servers on private addresses; who may be asked at all, the SIP process has decided.
"""

import asyncio
import re
import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import aiohttp
import structlog

from engine.e911.location_uris import authority_of, refusal_of
from engine.e911.pidf import BadLocation, read_pidf
from engine.e911.xml_input import BadXml, name_of, read_xml

FETCH_S = 5.0  # the call has long left; the answer is for the next one
MAX_BYTES = 65_536
MAX_REDIRECTS = 2
MAX_AT_ONCE = 32
HELD_TYPE = "application/held+xml"
ACCEPT = f"application/pidf+xml, {HELD_TYPE};q=0.9"
WANTS_HELD = frozenset({400, 404, 405, 406, 411, 415, 501})  # of a GET: the server may know HELD's POST alone
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# RFC 5985 §5.1, §5.2: any kind of location, within what an emergency call can wait
HELD_REQUEST = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b'<locationRequest xmlns="urn:ietf:params:xml:ns:geopriv:held" responseTime="emergencyRouting">'
    b'<locationType exact="false">any</locationType></locationRequest>'
)
_MAX_AGE = re.compile(r"(?:^|,)\s*max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_NOT_KEPT = re.compile(r"(?:^|,)\s*(?:no-store|no-cache)\b", re.IGNORECASE)
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer: the PIDF-LO as received, or None and why. `max_age_s`: how long it is fresh, None when not said."""

    pidf: bytes | None
    detail: str = ""
    max_age_s: float | None = None


class _Refused(Exception):
    """This answer is of no use; says why."""


class Dereferencer:
    """Answers the SIP process's `dereference` messages. A server that hangs holds up no other.

    Args:
        hosts: `[sip] location_hosts`.
        located: Tells the SIP process: token, PIDF-LO or None, detail, lifetime in seconds or None.
        ssl_context: What servers' certificates are checked against; None: the system's authorities.
    """

    def __init__(
        self,
        hosts: Collection[str],
        *,
        located: Callable[[str, str | None, str, float | None], None],
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._hosts, self._located, self._ssl = frozenset(hosts), located, ssl_context
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, message: Mapping[str, Any]) -> None:
        """Begin to fetch; the answer is told when it is there. Never waits."""
        token, uri = str(message.get("token") or ""), str(message.get("uri") or "")
        if len(self._tasks) >= MAX_AT_ONCE:
            self._located(token, None, "too many locations are being fetched", None)
            return
        task = asyncio.get_running_loop().create_task(self._answer(token, uri), name="dereference")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def fetch(self, uri: str) -> Fetched:
        """The location behind a URI. Never raises."""
        try:
            async with asyncio.timeout(FETCH_S):
                return await self._fetch(uri)
        except TimeoutError:
            return Fetched(None, f"no answer within {FETCH_S:.0f} s")
        except _Refused as exc:
            return Fetched(None, str(exc))
        except aiohttp.ClientError as exc:
            return Fetched(None, f"{type(exc).__name__}: it cannot be reached over HTTP")
        except (OSError, ssl.SSLError) as exc:
            return Fetched(None, f"{type(exc).__name__}: it cannot be reached")
        except ValueError:
            return Fetched(None, "it leads to what is no URI")

    async def close(self) -> None:
        """Give up what is being fetched."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _answer(self, token: str, uri: str) -> None:
        found = await self.fetch(uri)
        if found.pidf is None:
            _log.warning("location_reference_failed", host=str(authority_of(uri) or "none"), detail=found.detail)
        pidf = found.pidf.decode("utf-8", "replace") if found.pidf is not None else None
        self._located(token, pidf, found.detail, found.max_age_s)

    async def _fetch(self, uri: str) -> Fetched:
        authority = authority_of(uri)
        # https has been decided on by the SIP process, which knows the PBX; http is decided by the list alone
        refusal = refusal_of(authority, self._hosts) if authority is None or authority.scheme == "http" else ""
        if refusal:
            raise _Refused(refusal)
        status, headers, body = await self._send("GET", uri)
        if status in WANTS_HELD:
            status, headers, body = await self._send("POST", uri)
        if status != 200:
            raise _Refused(f"it answered {status}")
        _check(body)
        return Fetched(_utf8(body), "", _lifetime(headers.get("Cache-Control", "")))

    async def _send(self, method: str, uri: str) -> tuple[int, Mapping[str, str], bytes]:
        """Send, following redirects on the same server; a body that is too long is refused unread."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
            )
        first = authority_of(uri)
        for _ in range(MAX_REDIRECTS + 1):
            headers = {"Accept": ACCEPT, "Accept-Encoding": "identity"}
            if method == "POST":
                headers["Content-Type"] = f"{HELD_TYPE};charset=utf-8"
            async with self._session.request(
                method,
                uri,
                headers=headers,
                data=HELD_REQUEST if method == "POST" else None,
                allow_redirects=False,
                ssl=self._ssl or True,
            ) as response:
                if response.status not in REDIRECTS:
                    return response.status, response.headers, await _body_of(response)
                uri = urljoin(uri, response.headers.get("Location", ""))
                if authority_of(uri) != first:
                    raise _Refused("it redirected to another server")
                if response.status == 303:
                    method = "GET"
        raise _Refused("it redirected again and again")


async def _body_of(response: aiohttp.ClientResponse) -> bytes:
    if (response.content_length or 0) > MAX_BYTES:
        raise _Refused(f"its answer is longer than {MAX_BYTES} bytes")
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_BYTES:
            raise _Refused(f"its answer is longer than {MAX_BYTES} bytes")
    return bytes(body)


def _check(body: bytes) -> None:
    """Raise _Refused for an answer without a location: the SIP process shall not have to read it to know."""
    try:
        found = read_pidf(body)
    except BadLocation as exc:
        raise _Refused(exc.detail[:200]) from exc
    if not any(each.civic_address.elements or each.geo is not None for each in found):
        raise _Refused(_held_error(body) or "its answer holds no location")


def _held_error(body: bytes) -> str:
    """The code of a HELD error (RFC 5985 §6.3), empty when it is none."""
    try:
        root = read_xml(body)
    except BadXml:
        return ""
    if name_of(root) != "error":
        return ""
    return f"it answered with the HELD error {re.sub(r'[^A-Za-z0-9_.-]', '', root.get('code') or '')[:40]}"


def _utf8(body: bytes) -> bytes:
    """XML as UTF-8: the line to the SIP process is text."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return body.decode("iso-8859-1").encode()
    return body


def _lifetime(cache_control: str) -> float | None:
    if _NOT_KEPT.search(cache_control):
        return 0.0
    found = _MAX_AGE.search(cache_control)
    return float(found.group(1)) if found else None
