"""Requests that this server makes to addresses somebody typed: where they may go, and one guarded POST.

Theory of operation. Whoever may type a URL must not reach through it what only this machine can reach: itself, its
neighbours, a cloud's metadata. So a connection is made to public addresses alone, and to networks that `[outbound]
networks` lists; the check is on the addresses a name resolves to, at the connection itself, so that a name cannot
point elsewhere between check and use. Redirects are not followed, no proxy of the environment is taken, and plain
http is for listed networks alone.
"""

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from engine.errors import EngineError, FieldFault

MAX_URL_CHARS = 1000
MAX_READ_BYTES = 1024  # of an answer: enough for its words, whatever a stranger sends
MAX_WORDS = 200
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1
_NEVER: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "64:ff9b:1::/48",  # RFC 8215: NAT64 of a site's own, which leads where its gateway pleases
        "::/96",  # RFC 4291 §2.5.5.1: IPv4-compatible, and what a stack makes of it differs
        "fec0::/10",  # RFC 3879: site-local
        "192.88.99.0/24",  # RFC 7526: relays of 6to4
        "192.0.0.0/24",  # RFC 6890 §2.1: protocol assignments; a few of its addresses count as global
        "168.63.129.16/32",  # Azure's own services, reached from its virtual machines alone
    )
)
# What the systems' inet_aton reads as IPv4 and this module's parser does not: 127.1, 2130706433, 0177.0.0.1, 0x7f.1
_NUMBERS_ONLY: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)
_NO_NAME = "{} is no name. Write an IPv4 address as four decimal numbers."
_TOLD = "List its network under [outbound] networks if it is meant."


class Unreachable(EngineError):
    """Nothing was answered; `detail` says why."""

    http_status = 503
    title = "The other side is away"


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer of any status. `words`: the beginning of its text on one line, empty when there is none."""

    status: int
    words: str = ""


@dataclass(frozen=True, slots=True)
class Outbound:
    """Where requests may go. `networks`: those that may be reached though they are not public."""

    networks: tuple[_Network, ...] = ()

    def is_listed(self, address: str) -> bool:
        """Whether that literal address lies in a listed network."""
        plain = _plain(address)
        return plain is not None and any(plain in network for network in self.networks)

    def may_reach(self, address: str, *, is_clear: bool = False) -> bool:
        """Whether a connection may be made to that literal address. `is_clear`: what is sent can be read on its way."""
        plain = _plain(address)
        if plain is None:
            return False
        return self.is_listed(address) or (not is_clear and _is_public(plain))

    def url_fault(
        self, field: str, url: str, *, example: str = "https://hooks.example.com/callpoint"
    ) -> FieldFault | None:
        """What is wrong with a URL as it is typed; `example`: a right one. A name is looked up at each request."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port = "", None
        if not host or port == 0 or len(url) > MAX_URL_CHARS or not url.isprintable() or " " in url:
            return FieldFault(field, f"Expected a URL such as {example}.")
        if parts.scheme not in ("https", "http") or (parts.scheme == "http" and not self.networks):
            return FieldFault(field, "Expected https://; plain http is for networks that [outbound] networks lists.")
        if parts.username is not None or parts.password is not None:
            return FieldFault(field, "Expected a URL without user name and password in it.")
        if parts.fragment:
            return FieldFault(field, "Expected a URL without a fragment (#).")
        return self._host_fault(field, host, is_clear=parts.scheme == "http")

    def _host_fault(self, field: str, host: str, *, is_clear: bool) -> FieldFault | None:
        if _is_odd_number(host):
            return FieldFault(field, _NO_NAME.format(host))
        if _plain(host) is not None and not self.may_reach(host, is_clear=is_clear):
            return FieldFault(field, f"{host} is not a public address. {_TOLD}")
        return None


class GuardedResolver(AbstractResolver):
    """Looks names up as the system does and leaves out every address that may not be reached."""

    def __init__(self, outbound: Outbound, *, is_clear: bool) -> None:
        self._outbound, self._is_clear = outbound, is_clear
        self._system = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises OSError when the name has no address, none that may be reached, or is a number in disguise."""
        if _is_odd_number(host):
            raise OSError(_NO_NAME.format(host))
        found = await self._system.resolve(host, port, family)
        kept = [one for one in found if self._outbound.may_reach(one["host"], is_clear=self._is_clear)]
        if found and not kept:
            raise OSError(_refusal(host, is_clear=self._is_clear))
        return kept

    async def close(self) -> None:
        """Nothing is held."""


def guarded(outbound: Outbound, url: str) -> aiohttp.TCPConnector:
    """Connections to that server, if it may be reached. A literal address never comes to the resolver:
    `refuse_literal`.
    """
    resolver = GuardedResolver(outbound, is_clear=_is_clear(url))
    return aiohttp.TCPConnector(resolver=resolver, force_close=True, use_dns_cache=False)


def refuse_literal(outbound: Outbound, url: str) -> None:
    """Raises Unreachable: the URL names an address, however it is spelled, and that may not be reached."""
    host = urlsplit(url).hostname or ""
    if _is_odd_number(host):
        raise Unreachable(_NO_NAME.format(host))
    if _plain(host) is not None and not outbound.may_reach(host, is_clear=_is_clear(url)):
        raise Unreachable(_refusal(host, is_clear=_is_clear(url)))


async def post(
    outbound: Outbound,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    within_s: float,
    tls: ssl.SSLContext | None = None,
) -> Answered:
    """POST once, on a connection of its own.

    Raises:
        Unreachable: the address may not be reached, does not answer in time, or its certificate is not trusted.
    """
    refuse_literal(outbound, url)
    try:
        async with (
            asyncio.timeout(within_s),
            aiohttp.ClientSession(connector=guarded(outbound, url), cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.post(url, data=body, headers=dict(headers), allow_redirects=False, ssl=tls or True) as response,
        ):
            text = b""
            with contextlib.suppress(aiohttp.ClientError):  # the status is the answer; its words are for a person
                text = await response.content.read(MAX_READ_BYTES)
            return Answered(response.status, one_line(text.decode("utf-8", "replace")))
    except TimeoutError as exc:
        raise Unreachable(f"no answer within {within_s:.0f} s") from exc
    except aiohttp.ClientConnectorCertificateError as exc:
        raise Unreachable("its certificate is not trusted") from exc
    except (aiohttp.ClientError, OSError, ValueError) as exc:
        cause = exc.__cause__ if isinstance(exc.__cause__, OSError) else exc
        raise Unreachable(one_line(str(cause)) or type(exc).__name__) from exc


def one_line(text: str) -> str:
    """What somebody else said, printable and short."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:MAX_WORDS]


def host_of(url: str) -> str:
    """`https://hooks.example.com:8443` of a URL: where it leads, without what may be a secret in its path."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"


def _is_clear(url: str) -> bool:
    return urlsplit(url).scheme != "https"


def _refusal(host: str, *, is_clear: bool) -> str:
    if is_clear:
        return f"{host} is in no listed network, and plain http is for those alone. Use https, or list it."
    return f"{host} leads to no public address. {_TOLD}"


def _is_public(address: _Address) -> bool:
    return address.is_global and not address.is_multicast and not any(address in network for network in _NEVER)


def _is_odd_number(host: str) -> bool:
    """Whether a host is an IPv4 address to some systems though it is none as it is written (WHATWG URL §3.5)."""
    return _NUMBERS_ONLY.fullmatch(host) is not None and _plain(host) is None


def _plain(address: str) -> _Address | None:
    """The address itself, out of every coat that IPv4 wears in IPv6; None when the text is none."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        return inner or found
    return found
