"""What every simulated phone is made of: its flash, its HTTP client, and what a boot leaves behind."""

import asyncio
import hashlib
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

import aiohttp
from yarl import URL

from engine.provisioning import challenged
from engine.provisioning.vendors import Mac, Model
from engine.sip.auth import Credentials

TIMEOUT_S = 10.0
ATTEMPTS = 3  # Poly: device.prov.redunAttemptLimit; a Yealink tries its server as often


@dataclass(frozen=True, slots=True)
class FileResult:
    """One request of the boot. `status` 0: no answer at all. `is_applied` False: missing, or the same as last time.
    `trouble`: what kept a server that is there from answering, such as a certificate nobody trusts.
    """

    method: str
    name: str
    status: int
    size_bytes: int
    duration_ms: float
    is_applied: bool = False
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class LineResult:
    """A registration the phone would make now; `registrar` is host:port."""

    key: int
    sip_user: str
    auth_user: str
    secret: str = field(repr=False)
    registrar: str
    transport: str
    display_name: str
    label: str
    outbound_proxy: str


@dataclass(slots=True)
class Memory:
    """A phone's flash: the digest of each file it applied, and what each of them set, in the order of their coming."""

    digests: dict[str, str] = field(default_factory=dict)
    applied: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        """What holds now: a later file wins over an earlier one."""
        return {name: value for settings in self.applied.values() for name, value in settings.items()}

    def apply(self, file: str, settings: dict[str, str], *, is_overwriting: bool) -> None:
        """Take a file over; overwriting takes back what it set before and does not set any more."""
        before = {} if is_overwriting else self.applied.pop(file, {})
        self.applied.pop(file, None)
        self.applied[file] = before | settings


@dataclass(slots=True)
class Wire:
    """The phone's HTTP client: its User-Agent, its retries, and a note of every request."""

    session: aiohttp.ClientSession
    base: str
    agent: str
    retry_delay_s: float
    files: list[FileResult] = field(default_factory=list)
    opened: Callable[[str, bytes], bytes | None] = field(default=lambda _name, data: data)
    answering: challenged.Answers = field(default=lambda _method, _target, _lines, _typed: None)
    typed: Credentials | None = None  # with the URL; one that a file names may bring its own

    async def get(self, name: str) -> bytes | None:
        """The file's bytes, decrypted where it came encrypted; None when it is not there, or cannot be opened. A server
        that is away or busy is asked again.
        """
        for attempt in range(1, ATTEMPTS + 1):
            status, body = await self._request("GET", name, None)
            if 0 < status < 500 or attempt == ATTEMPTS:
                return self.opened(name, body) if status == 200 else None
            await asyncio.sleep(self.retry_delay_s * attempt)
        return None

    async def put(self, name: str, data: bytes) -> None:
        await self._request("PUT", name, data)

    def mark_applied(self) -> None:
        """The file of the last request went into the phone's settings."""
        self.files[-1] = replace(self.files[-1], is_applied=True)

    async def _request(self, method: str, name: str, data: bytes | None) -> tuple[int, bytes]:
        """Ask, and once more with a password where the server wants one and the phone has it."""
        url, own = challenged.parted(self.base + name)
        status, body, lines = await self._once(method, name, url, data)
        if status != 401:
            return status, body
        proof = self.answering(method, URL(url).raw_path_qs, lines, own or self.typed)
        if proof is not None:
            status, body, _ = await self._once(method, name, url, data, proof)
        return status, body

    async def _once(
        self, method: str, name: str, url: str, data: bytes | None, proof: str | None = None
    ) -> tuple[int, bytes, list[str]]:
        headers = {"User-Agent": self.agent, "Accept": "*/*"} | ({"Authorization": proof} if proof else {})
        started = time.perf_counter()
        lines, trouble = list[str](), ""
        try:
            async with self.session.request(method, url, data=data, headers=headers) as answer:
                body = await answer.read()
                status = answer.status
                if answer.url.origin() == URL(url).origin():  # a redirect's other host learns no password
                    lines = answer.headers.getall("WWW-Authenticate", [])
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            status, body, trouble = 0, b"", _trouble(exc)
        spent_ms = (time.perf_counter() - started) * 1000
        size = len(body if data is None else data)
        self.files.append(FileResult(method, name, status, size, spent_ms, trouble=trouble))
        return status, body, lines


@dataclass(frozen=True, slots=True)
class Family:
    """What one vendor's phones do: how they name themselves, what they ask for, and what they make of their settings:
    their lines, the password of their own pages, and where they ask next time.
    """

    agent: Callable[[Model, Mac], str]
    boot: Callable[[Wire, Memory, Model, Mac], Awaitable[None]]
    lines: Callable[[Mapping[str, str]], list[LineResult]]
    admin_password: Callable[[Mapping[str, str]], str | None]
    next_url: Callable[[Mapping[str, str]], str | None]


def named(*names: str) -> Callable[[Mapping[str, str]], str | None]:
    """The first of those settings that is there."""
    return lambda settings: next((settings[name] for name in names if name in settings), None)


def place(settings: Mapping[str, str], stem: str) -> str:
    host = settings.get(f"{stem}address", "")
    return f"{host}:{settings.get(f'{stem}port') or 5060}" if host else ""


def _trouble(error: Exception) -> str:
    """What came between the phone and a server that is there; "": nothing is known but that no answer came."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        refused = error.certificate_error
        why = refused.verify_message if isinstance(refused, ssl.SSLCertVerificationError) else str(refused)
        return (
            f"the server's certificate is not trusted here ({why}), and a phone that does not know its authority "
            "refuses it as well. Name the authority's file in SSL_CERT_FILE to try with it"
        )
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"no TLS connection comes about ({error.os_error}): look whether HTTPS is spoken at that port"
    return ""


def is_new(flash: Memory, name: str, data: bytes) -> bool:
    """Whether the phone applies the file: it keeps an MD5 of each and skips one that is the same."""
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if flash.digests.get(name) == digest:
        return False
    flash.digests[name] = digest
    return True
