"""Errors as answers: problem+json (RFC 9457) for the API, `admin.pages.entry.render_error` for people.

Every answer of the API that is no success has this form, the router's own 404 and 405 included, and names every bad
field. What is not meant to be an answer (a bug) is a 500 with an identifier that stands in the log.
"""

import json
import re
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from admin.context import REQUEST_ID
from engine.errors import Conflict, DatabaseAway, EngineError, Invalid, TooManyRequests
from engine.own_command import own_command

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 5  # a database that restarts is usually back by then
DATABASE_ERRORS = (OperationalError, InterfaceError, PoolTimeoutError, ConnectionError)
_SQLITE_LACKS = ("no such table", "no such column")
_log = structlog.get_logger()


class BadRequest(EngineError):
    """The request cannot be read: malformed JSON, a bad header or parameter."""

    http_status = 400
    title = "The request cannot be read"


class NoSuchRoute(EngineError):
    http_status = 404
    title = "Not found"


class MethodNotAllowed(EngineError):
    http_status = 405
    title = "Method not allowed"

    def __init__(self, detail: str, allowed: set[str]) -> None:
        super().__init__(detail)
        self.allowed = allowed


class NotAcceptable(EngineError):
    http_status = 406
    title = "Not served in that form"


class BodyUnreadable(EngineError):
    """The body broke off, or is not encoded as its header says."""

    http_status = 400
    title = "The request cannot be read"


class TooSlow(EngineError):
    http_status = 408
    title = "The request took too long to arrive"


class TooLarge(EngineError):
    http_status = 413
    title = "The request is too large"


class UnsupportedMediaType(EngineError):
    http_status = 415
    title = "This type of content is not understood"


class SchemaUnlike(EngineError):
    """A table or column that this version needs is not there."""

    title = "The database is of another build"


def is_api(request: web.Request) -> bool:
    return request.path.startswith("/api/v1")


def meant(error: Exception) -> EngineError | None:
    """The error as one of ours; None for a bug. A database's own errors are told apart: away, or a collision."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, IntegrityError):
        return Conflict("Another change made at the same moment stands in the way. Read again and repeat.")
    if isinstance(error, DBAPIError) and _lacks_schema(error):
        return SchemaUnlike(
            f"The database is of another build than this program: `{own_command('doctor')}` names what is missing."
        )
    if isinstance(error, DATABASE_ERRORS) or (isinstance(error, DBAPIError) and error.connection_invalidated):
        return DatabaseAway(
            "The database cannot be reached, is locked or is full; nothing was changed. "
            "911 calls still go out: they never wait for it. Try again in a moment; "
            f"`{own_command('doctor')}` says what is wrong."
        )
    if isinstance(error, web.HTTPException) and error.status >= 400:
        return _of_router(error)
    return None


def _lacks_schema(error: DBAPIError) -> bool:
    """SQLite has words for it alone; PostgreSQL 42P01 undefined_table, 42703 undefined_column."""
    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    words = str(error.orig)
    return state in {"42P01", "42703"} or words.startswith(_SQLITE_LACKS) or " has no column named " in words


def _of_router(error: web.HTTPException) -> EngineError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = set(error.allowed_methods)
        return MethodNotAllowed(f"{error.method} is not served here, only {', '.join(sorted(allowed))}.", allowed)
    if isinstance(error, web.HTTPNotFound):
        return NoSuchRoute("There is nothing at this address.")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TooLarge("Expected at most 1 MiB.")
    other = EngineError(error.reason)
    other.http_status = error.status
    other.title = error.reason
    return other


def code_of(error: EngineError) -> str:
    """The error's stored name, such as `not_found`: for scripts, and the reason in the audit log."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()


def outcome_of(status: int) -> str:
    """The audit log's three words: refused for who asks is `denied`, any other error a `failure`."""
    if status < 400:
        return "success"
    return "denied" if status in {401, 403, 429} else "failure"


def problem(request: web.Request, error: EngineError) -> web.Response:
    """The error as RFC 9457 says."""
    code = code_of(error)
    status = error.http_status
    body: dict[str, Any] = {
        "type": f"urn:callpoint:problem:{code}",
        "title": error.title if status != 500 else HTTPStatus(500).phrase,
        "status": status,
        "detail": error.detail
        if status != 500 or isinstance(error, SchemaUnlike)
        else "Something went wrong here. The log has it under this identifier.",
        "code": code,
        "instance": f"urn:callpoint:{request[REQUEST_ID]}",
    }
    fields = error.fields if isinstance(error, Invalid) else ()
    body["errors"] = [{"field": fault.field, "detail": fault.detail} for fault in fields]
    text = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    return web.Response(body=text, status=status, content_type=PROBLEM_JSON, headers=headers_of(error))


def headers_of(error: EngineError) -> dict[str, str]:
    """What the status asks for beside the body (RFC 9110 §10.2.1, §10.2.3, §11.6.1)."""
    if isinstance(error, MethodNotAllowed):
        return {"Allow": ", ".join(sorted(error.allowed))}
    if isinstance(error, TooManyRequests):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, DatabaseAway):
        return {"Retry-After": str(RETRY_AFTER_S)}
    return {"WWW-Authenticate": 'Bearer realm="Callpoint"'} if error.http_status == 401 else {}


async def answer(request: web.Request, error: Exception) -> web.StreamResponse:
    """The error in the form that this client reads."""
    known = meant(error)
    if known is None or known.http_status == 500:
        _log.error("request_failed", request_id=request[REQUEST_ID], route=route_template(request), exc_info=error)
    known = known or EngineError("unexpected")
    if is_api(request):
        return problem(request, known)
    try:
        page = await _page(request, known)
    except Exception:  # noqa: BLE001  # a broken error page must not hide the error
        _log.exception("error_page_failed", request_id=request[REQUEST_ID])
        return problem(request, known)
    for name, value in headers_of(known).items():
        page.headers.setdefault(name, value)
    return page


async def _page(request: web.Request, error: EngineError) -> web.StreamResponse:
    """The page for an error. A form whose row is gone cannot be shown again: then it is the plain error page."""
    from admin.pages import entry  # read here: pages stand on this module

    try:
        return await entry.render_error(request, error)
    except EngineError:
        return entry.error_page(request, error)


def route_template(request: web.Request) -> str:
    """The route as it is declared, never the path as it came: paths carry identifiers and tokens."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "(unknown)"
