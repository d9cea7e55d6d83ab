"""How the phones' port dresses its answers: one 404, no word of the software behind it, no token in any message."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import HttpVersion10, HttpVersion11, StreamReader, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict

from engine.provisioning import tokens
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


class PhoneServer(CrowdedServer):
    """The server of the phones' port. A request line without a version (HTTP/0.9) is answered as HTTP/1.0, one of a
    later version than ours as HTTP/1.1: our status line is the one of a protocol we speak (RFC 9112 §2.3).
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
        spoken = min(max(message.version, HttpVersion10), HttpVersion11)
        if spoken != message.version:
            message = message._replace(version=spoken)
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop)

    def __call__(self) -> web.RequestHandler:
        return _PhoneRequestHandler(self, loop=self._loop, **self._kwargs)
