"""The bootstrap's two doors, TFTP and plain HTTP, each off until it is given an address.

Theory of operation. A request is paced, its name looked for among the few there are, its sender's address among the
accounts' ranges; then the one file is made and sent. TFTP is spoken by the package `tftp` (the extra of that name), its
options kept so small that a forged request makes it send little: one block at a time, four tries, two transfers for an
address (docs/decisions/0020). A door that cannot be opened, or that dies, is logged and tried again; nothing else of
the node knows of it.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any

import structlog
from aiohttp import hdrs, web
from multidict import CIMultiDict
from sqlalchemy.exc import SQLAlchemyError

from engine.config import Bootstrap, Listen, parse_listen
from engine.db import Database
from engine.errors import EngineError
from engine.provisioning import bootstrap, store_bootstrap, tokens
from engine.provisioning.answers import ERROR_BODY, LOG, SECURITY, Answer, PhoneServer, not_found, plain
from engine.provisioning.bootstrap import Pace
from engine.provisioning.fetches import Fetch, FetchKind
from engine.provisioning.fetchlog import FetchLog
from engine.provisioning.vendors import Vendors
from engine.web_crowd import FINISH_WITHIN_S, connections_of_a_port

MAX_BLOCK_BYTES = 1428  # what fits an Ethernet frame: some phones cannot put fragments together
TRIES = 3  # after the first: an answer that nobody takes is four datagrams in all
TIMEOUT_S = 1.0
LONGEST_S = 15.0
TRANSFERS, TRANSFERS_OF_ONE = 64, 2
REQUEST_BYTES = 512  # RFC 2347 §2
RETRY_S = (1.0, 5.0, 30.0, 60.0)
REASON = "bootstrap"
_log = structlog.get_logger()


class BootstrapAway(Exception):
    """It cannot be said now whose phone asks: ask again."""


class BootstrapDesk:
    """Answers what both doors are asked. `base_for`: scheme, host and port of the phones' port as that address reaches
    it.
    """

    def __init__(
        self,
        database: Database,
        vendors: Vendors,
        log: FetchLog,
        base_for: Callable[[str], str],
        pace: Pace | None = None,
    ) -> None:
        self._database, self._vendors, self._log, self._base_for = database, vendors, log, base_for
        self._pace = pace or Pace()

    async def answer(self, path: str, address: str, method: str, agent: str = "") -> tuple[bytes, str] | None:
        """The file's bytes and content type; None: there is none for this asker.

        Raises:
            BootstrapAway: the database cannot be asked.
        """
        if not self._pace.takes(address, time.monotonic()):
            return None  # nor noted: a flood fills no log
        started = time.perf_counter()
        asked = bootstrap.asked_for(path, self._vendors.profiles)
        try:
            async with self._database.sessions() as session:
                holder = await store_bootstrap.find_holder(session, address)
        except (SQLAlchemyError, OSError) as exc:
            raise BootstrapAway from exc
        body = None
        if asked is not None and holder is not None:
            try:
                body = bootstrap.render(asked, tokens.provisioning_url(self._base_for(address), holder.token))
            except EngineError as exc:
                _log.error("bootstrap_refused", detail=tokens.redact(str(exc)))
        self._log.note(
            Fetch(
                kind=FetchKind.DENIED if body is None else FetchKind.FETCH,
                file=asked.name if asked is not None else "(unknown)",
                method=method,
                status=404 if body is None else 200,
                ip=address,
                user_agent=tokens.redact(agent[:400]),
                account_id=holder.account_id if holder is not None else None,
                mac=asked.mac if asked is not None else "",
                reason=REASON,
                size_bytes=len(body or b""),
            ),
            int((time.perf_counter() - started) * 1e6),
        )
        return None if body is None or asked is None else (body, asked.content_type)


class BootstrapDoors:
    """Opens the doors that the configuration names, and keeps them open. `tftp`, `http`: where they are, once open."""

    def __init__(self, section: Bootstrap, desk: BootstrapDesk) -> None:
        self._section, self._desk = section, desk
        self.tftp: Listen | None = None
        self.http: Listen | None = None
        self.fault = ""

    async def run(self) -> None:
        """Until cancelled; returns at once when neither is wanted."""
        wanted = ((self._section.tftp, self._serve_tftp), (self._section.http, self._serve_http))
        doors = [self._keep(at, serve) for at, serve in wanted if at]
        await asyncio.gather(*doors)

    async def _keep(self, at: str, serve: Callable[[Listen], Any]) -> None:
        failures = 0
        while True:
            started = time.monotonic()
            try:
                await serve(parse_listen(at))
            except Exception as exc:  # noqa: BLE001 - a dead door hurts nobody: say so and open it again
                failures = failures + 1 if time.monotonic() - started < RETRY_S[-1] else 1
                self.fault = _in_words(at, exc)
                _log.error("bootstrap_closed", listen=at, detail=self.fault)
            await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S)) - 1])

    async def _serve_tftp(self, listen: Listen) -> None:
        from tftp import AsyncTFTPServer, TFTPServerLimits, TFTPServerOptions  # the extra `tftp`

        server = AsyncTFTPServer(
            _TftpFiles(self._desk),
            listen=listen.host,
            port=listen.port,
            timeout=TIMEOUT_S,
            retries=TRIES,
            max_sessions=TRANSFERS,
            options=TFTPServerOptions(max_blksize=MAX_BLOCK_BYTES, max_windowsize=1, refused={"windowsize"}),
            limits=TFTPServerLimits(
                max_request_size=REQUEST_BYTES, max_filename_length=bootstrap.MAX_NAME,
                max_sessions_per_client=TRANSFERS_OF_ONE, max_duration=LONGEST_S, max_idle=LONGEST_S,
            ),
        )  # fmt: skip
        try:
            await server.start()
            address = server.server_address
            assert address is not None
            self.tftp = Listen(str(address[0]), int(address[1]))
            _log.info("bootstrap_open", tftp=str(self.tftp))
            await server.wait_closed()
        finally:
            self.tftp = None
            await server.aclose()

    async def _serve_http(self, listen: Listen) -> None:
        server = PhoneServer(self._answer_http, access_log=None, logger=LOG, keepalive_timeout=5, max_line_size=1024)
        server.max_connections = connections_of_a_port()
        runner = web.ServerRunner(server, shutdown_timeout=FINISH_WITHIN_S)
        await runner.setup()
        try:
            site = web.TCPSite(runner, listen.host, listen.port, backlog=128)
            await site.start()
            host, port = runner.addresses[0][:2]
            self.http = Listen(host, port)
            _log.info("bootstrap_open", http=str(self.http))
            await asyncio.get_running_loop().create_future()
        finally:
            self.http = None
            await runner.cleanup()

    async def _answer_http(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in {hdrs.METH_GET, hdrs.METH_HEAD}:
            return not_found()
        path = request.raw_path.split("?", 1)[0]
        agent = request.headers.get(hdrs.USER_AGENT, "")
        try:
            found = await self._desk.answer(path, request.remote or "", request.method, agent)
        except BootstrapAway:
            return plain(503, ERROR_BODY, **{hdrs.RETRY_AFTER: "60"})
        if found is None:
            return not_found()
        body, content_type = found
        return Answer(body=body, headers=CIMultiDict({hdrs.CONTENT_TYPE: content_type, **SECURITY}))


class _TftpFiles:
    """What the TFTP server asks for a file: never a folder, never a write."""

    def __init__(self, desk: BootstrapDesk) -> None:
        self._desk = desk

    async def open_read(self, context: Any) -> "_Bytes":
        from tftp import TFTPError, TFTPErrorCode

        try:
            found = await self._desk.answer(context.filename, _plain_address(context.peer[0]), "TFTP")
        except BootstrapAway:
            raise TFTPError(TFTPErrorCode.NOT_DEFINED, "Try again later") from None
        if found is None:
            raise TFTPError(TFTPErrorCode.FILE_NOT_FOUND, "File not found")
        return _Bytes(found[0])

    async def open_write(self, _context: Any, _size: int | None) -> Any:
        from tftp import TFTPError, TFTPErrorCode

        raise TFTPError(TFTPErrorCode.ACCESS_VIOLATION, "Nothing is taken here")


class _Bytes:
    """A file in memory, read block by block; `size` answers `tsize` (RFC 2349)."""

    def __init__(self, body: bytes) -> None:
        self.size = len(body)
        self._rest = body

    async def read(self, size: int, /) -> bytes:
        block, self._rest = self._rest[:size], self._rest[size:]
        return block

    async def close(self) -> None:
        """Nothing is held."""


def base_of(public_url: str, *, is_tls: bool, port: int) -> Callable[[str], str]:
    """How an asker reaches the phones' port: what the configuration says, else this machine's address on the way to it.

    Asks the routing table, sends nothing.
    """

    def base_for(address: str) -> str:
        if public_url:
            return public_url.rstrip("/")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        own = "localhost"
        with socket.socket(family, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.connect((address, 9))
            own = str(probe.getsockname()[0])
        return f"{'https' if is_tls else 'http'}://{f'[{own}]' if ':' in own else own}:{port}"

    return base_for


def _plain_address(text: str) -> str:
    """An IPv4 asker of a socket of both families, without its IPv6 clothes and without a zone."""
    return text.split("%", 1)[0].removeprefix("::ffff:")


def _in_words(at: str, exc: Exception) -> str:
    if isinstance(exc, ImportError):
        return (
            "[bootstrap] tftp is set, but the package `tftp` is not here: run `.venv/bin/pip install tftp==0.2.1`, or "
            "leave the key empty. Phones that have a URL, and all 911 calls, go on."
        )
    if isinstance(exc, PermissionError):
        return (
            f"{at} cannot be opened: ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities in systemd). "
            "Phones that have a URL, and all 911 calls, go on."
        )
    return f"{at}: {type(exc).__name__}: {exc}. It is tried again; phones that have a URL, and all 911 calls, go on."
