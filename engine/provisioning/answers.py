"""How the phones' port dresses its answers: one 404, no word of the software behind it, no token in any message."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

from aiohttp import HttpVersion10, HttpVersion11, StreamReader, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from engine.provisioning import tokens
from engine.provisioning.kept import Kept
from engine.web_crowd import CrowdedHandler, CrowdedServer

SECURITY = {hdrs.CACHE_CONTROL: "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
_TEXT = "text/plain; charset=utf-8"
_NOT_FOUND: Final = CIMultiDict({hdrs.CONTENT_TYPE: _TEXT, **SECURITY})
_NOT_FOUND_BODY = b"Not found.\n"
_BAD_REQUEST_BODY = b"Bad request.\n"
ERROR_BODY = b"Try again later.\n"
LOG = logging.getLogger("callpoint.phones")


class Answer(web.Response):
    """A response that does not say which server software made it."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self._headers.popall(hdrs.SERVER, None)


class ReadyAnswer(web.StreamResponse):
    """A kept file as one piece of bytes, or that it is unchanged, to a GET on an HTTP/1.1 connection that stays open:
    what `answer_kept` would send in the same bytes, without making a message of header fields each time.
    """

    def __init__(self, head: bytes, body: bytes, status: int) -> None:
        super().__init__(status=status)
        self._bytes = b"".join((head, _date(int(time.time())), body))

    @property
    def keep_alive(self) -> bool:
        return self._keep_alive is not False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        writer = request.writer
        await writer.write(self._bytes)
        await writer.drain()  # who asks and does not read is not written for without an end
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        """All was written."""


def answer_kept(request: web.BaseRequest, kept: Kept, *, is_same: bool) -> web.StreamResponse:
    """A rendered file, or 304 where the phone has it."""
    status = 304 if is_same else 200
    is_plain = request.method == hdrs.METH_GET and request.keep_alive and request.version == HttpVersion11
    if not is_plain:
        return Answer(status=status, body=None if is_same else kept.body, headers=CIMultiDict(kept.headers))
    head = kept.heads.get(status)
    if head is None:
        head = kept.heads[status] = _head(kept, status)
    return ReadyAnswer(head, b"" if is_same else kept.body, status)


def _head(kept: Kept, status: int) -> bytes:
    """The status line and all header fields but the last, the date."""
    fields = [*kept.headers.items()]
    if status == 200:
        fields.append((hdrs.CONTENT_LENGTH, str(len(kept.body))))
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in fields)]
    return "".join(f"{line}\r\n" for line in lines).encode()


@lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    """The last header field and the end of the head. RFC 9110 §6.6.1: a server with a clock sends it."""
    return f"{hdrs.DATE}: {formatdate(second, usegmt=True)}\r\n\r\n".encode()


def not_found() -> web.Response:
    return Answer(status=404, body=_NOT_FOUND_BODY, headers=CIMultiDict(_NOT_FOUND))


def plain(status: int, body: bytes, **headers: str) -> web.Response:
    return Answer(status=status, body=body, headers=CIMultiDict(_NOT_FOUND, **headers))


def _is_the_client_s(error: BaseException | None) -> bool:
    """Whether a client wrote something wrong, in a request's head or in its body, or went away in the middle of it."""
    if isinstance(error, ConnectionResetError):
        return error.args == ("Connection lost",)  # so aiohttp says it of a request's body
    return isinstance(error, HttpProcessingError | web.RequestPayloadError)


class NoTokens(logging.Filter):
    """Keeps tokens out of the server's own messages: their texts are redacted, a client's malformed request is one
    line.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and _is_the_client_s(error):
            record.msg, record.args = "malformed request refused (%s)", (type(error).__name__,)
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
            record.exc_info = record.exc_text = None
            return LOG.isEnabledFor(logging.DEBUG)
        record.msg, record.args = tokens.redact(record.getMessage()), None
        return True


class _PhoneRequestHandler(CrowdedHandler):
    """aiohttp's protocol, whose error pages would quote the request and name the software."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # it quotes the request line
    ) -> web.StreamResponse:
        if isinstance(exc, web.RequestPayloadError):
            status = 400
        if not _is_the_client_s(exc):
            self.log_exception("Error handling request from %s", request.remote, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        is_theirs = 400 <= status < 500
        answer = plain(400 if is_theirs else 503, _BAD_REQUEST_BODY if is_theirs else ERROR_BODY)
        answer.force_close()
        return answer


def _in_origin_form(message: RawRequestMessage) -> RawRequestMessage:
    """The same request as everybody else writes it. Its Host field counts for nothing (RFC 9112 §3.2.2)."""
    headers = CIMultiDict(message.headers)
    headers[hdrs.HOST] = message.url.host_port_subcomponent or ""
    path = message.url.raw_path_qs
    return message._replace(path=path, url=URL(path, encoded=True), headers=CIMultiDictProxy(headers))


class PhoneServer(CrowdedServer):
    """The server of the phones' port. A request line without a version (HTTP/0.9) is answered as HTTP/1.0, one of a
    later version than ours as HTTP/1.1: our status line is the one of a protocol we speak (RFC 9112 §2.3). A request
    line in absolute form is read as the path it names, at the host it names (§3.2.2).
    """

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **options: Any) -> None:
        super().__init__(handler, request_factory=self._asked, **options)

    def _asked(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        if message.version != HttpVersion11:
            message = message._replace(version=min(max(message.version, HttpVersion10), HttpVersion11))
        if message.path[:1] != "/" and message.url.absolute:
            message = _in_origin_form(message)
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop)

    def __call__(self) -> web.RequestHandler:
        return _PhoneRequestHandler(self, loop=self._loop, **self._kwargs)
