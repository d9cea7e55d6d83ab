"""The admin port's listener: aiohttp's own, whose answers to what is no HTTP are problem details like all others."""

import asyncio
import json
from typing import Any

import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from admin.malformed import MALFORMED, Malformed
from admin.problems import PROBLEM_JSON
from engine.ids import new_id
from engine.web_crowd import FINISH_WITHIN_S, CrowdedHandler, CrowdedServer, connections_of_a_port

_log = structlog.get_logger()


class AdminRunner(web.AppRunner):
    """Runs the application that `make_admin` built. Scanners' malformed requests are counted, and no traceback."""

    __slots__ = ()

    def __init__(self, app: web.Application) -> None:
        super().__init__(app, access_log=None, handle_signals=False, shutdown_timeout=FINISH_WITHIN_S)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        server = _Server(
            made.request_handler,
            request_factory=made.request_factory,
            loop=asyncio.get_running_loop(),
            access_log=None,
        )
        server.malformed = self.app[MALFORMED]
        server.max_connections = connections_of_a_port()
        return server


class _Server(CrowdedServer):
    malformed: Malformed

    def __call__(self) -> web.RequestHandler:
        return _RequestHandler(self, loop=self._loop, malformed=self.malformed, **self._kwargs)


class _RequestHandler(CrowdedHandler):
    __slots__ = ("_malformed",)

    def __init__(self, manager: web.Server, *, malformed: Malformed, **options: Any) -> None:
        super().__init__(manager, **options)
        self._malformed = malformed

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # it quotes the request line
    ) -> web.StreamResponse:
        """Answer what the parser refused (RFC 9112 §2.2), or what failed outside every middleware."""
        request_id = new_id("request")
        if isinstance(exc, HttpProcessingError):
            self._malformed.take(request_id, request.remote, type(exc).__name__)
        else:
            _log.error("request_failed", request_id=request_id, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        is_theirs = 400 <= status < 500
        body: dict[str, object] = {
            "type": "urn:callpoint:problem:malformed_http" if is_theirs else "about:blank",
            "title": "This is not HTTP" if is_theirs else "Internal Server Error",
            "status": status if is_theirs else 500,
            "detail": "A request line or header cannot be read." if is_theirs else "The log has it by this name.",
            "code": "malformed_http" if is_theirs else "internal",
            "instance": f"urn:callpoint:{request_id}",
            "errors": [],
        }
        answer = web.Response(
            body=json.dumps(body).encode(),
            status=400 if is_theirs else 500,
            content_type=PROBLEM_JSON,
            headers={hdrs.CACHE_CONTROL: "no-store", "X-Content-Type-Options": "nosniff"},
        )
        answer.force_close()
        return answer
