"""One request, one transaction, one audit entry.

Theory of operation. The body is read and the slow step of the route done first, so that a slow client or a password
never holds the database's one writer. Then one transaction holds all: finding out who asks, the handler, the audit
entry. The operation records its own entry; a route that only reads is recorded here. When anything fails, the
transaction is rolled back and the entry (`failure` or `denied`) is written in a second one. If the first commits, its
entry is in it; if it does not, nothing else is in it either.
"""

import asyncio
import contextlib
from typing import cast

import structlog
from aiohttp import web
from aiohttp.helpers import parse_mimetype
from aiohttp.typedefs import Handler
from sqlalchemy.ext.asyncio import AsyncSession

from admin import auth, held_forms, problems
from admin.bad_fields import whole_answer
from admin.context import ACTOR, BRAND, CLIENT_IP, DATABASE, PREPARED, REQUEST_ID, RESOURCE, SESSION
from admin.idempotency import answer_once
from admin.routes import PUBLIC, Route
from engine.accounts import store_signin
from engine.accounts.branding import account_of_host
from engine.accounts.signin import ApiKeyRefused, SignInRefused, SignInSlowed
from engine.accounts.store import is_id
from engine.audit.events import Event
from engine.audit.record import Note, is_recorded, record
from engine.errors import DatabaseAway, EngineError

BODY_TIMEOUT_S = 20.0  # a mebibyte over a bad line; a client that drips bytes is cut off
ROUTE_OF: web.AppKey[dict[web.AbstractRoute, Route]] = web.AppKey("route_of", dict)
_log = structlog.get_logger()


class Refusal(Exception):  # it carries an answer, such as a form shown again
    """A handler answered with an error status: rolled back like a raised error, but its answer is what is sent."""

    def __init__(self, response: web.StreamResponse) -> None:
        super().__init__(response.status)
        self.response = response


async def _nothing_here(request: web.Request) -> web.StreamResponse:
    return await request.match_info.handler(request)  # the router's own 404 or 405


_UNKNOWN = Route("*", "(unknown)", _nothing_here, PUBLIC, Event.UNKNOWN_ROUTE)


@web.middleware
async def one_transaction(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Run the handler in its transaction and see to its audit entry. Probes and static files pass by."""
    route = request.app[ROUTE_OF].get(request.match_info.route)
    if route is None:
        if not problems.is_api(request):
            return await handler(request)
        route = _UNKNOWN
    try:
        auth.refuse_cross_site(request)
        await _read_body(request, route)
        if not (route.streams_body or problems.is_api(request)):
            await held_forms.put_back(request)
            await _read_form(request)
        await auth.run_preparation(request, route)
        return await _carried_out(request, handler, route)
    except Refusal as refusal:
        reason = _prepared_error(request)
        code = problems.code_of(reason) if reason is not None else None
        await _record_refusal(request, route, refusal.response.status, code, reason)
        return refusal.response
    except Exception as exc:
        error = problems.meant(exc)
        if exc is request.content.exception():  # no fault of ours or of the database's, and an entry like any other
            error = problems.BodyUnreadable("The body broke off or is not what its headers say; nothing was changed.")
        status = 500 if error is None else error.http_status
        if not isinstance(error, DatabaseAway):
            await _record_refusal(request, route, status, "bug" if error is None else problems.code_of(error), error)
        if error is None or error is exc:
            raise
        raise error from exc


async def _read_body(request: web.Request, route: Route) -> None:
    """Take the whole body in before the transaction; more than the route takes is refused."""
    if not request.body_exists or route.streams_body:
        return  # a route that streams takes it in its `prepare`
    too_large = problems.TooLarge(f"Expected at most {route.max_body_bytes >> 20} MiB.")
    if (request.content_length or 0) > route.max_body_bytes:
        raise too_large
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = await request.read()
        if len(body) > route.max_body_bytes:
            raise too_large
    except web.HTTPRequestEntityTooLarge as exc:
        raise too_large from exc
    except TimeoutError as exc:
        raise problems.TooSlow(f"Expected the whole request within {BODY_TIMEOUT_S:.0f} seconds.") from exc


async def _read_form(request: web.Request) -> None:
    """Take a posted form apart before the transaction: handlers ask for its fields, and none of them looks for one that
    is no text. What has files in it is read by whoever wants them, if it can be taken apart (RFC 2046 §5.1.1).
    """
    if request.content_type == "multipart/form-data":
        if not parse_mimetype(request.headers["Content-Type"]).parameters.get("boundary"):
            raise problems.BodyUnreadable("The form says no boundary between its parts; nothing was changed.")
        return
    try:
        await request.post()
    except (ValueError, LookupError) as exc:  # not in its charset, or in one that nobody knows
        raise problems.BodyUnreadable("The form is not what its headers say; nothing was changed.") from exc


async def _carried_out(request: web.Request, handler: Handler, route: Route) -> web.StreamResponse:
    async with request.app[DATABASE].sessions.begin() as session:
        try:
            return await _answered(request, handler, route, session)
        except Exception:
            session.expunge_all()  # so that an error page can still say who is signed in
            raise


async def _answered(request: web.Request, handler: Handler, route: Route, session: AsyncSession) -> web.StreamResponse:
    request[SESSION] = session
    await auth.authenticate(request, session, route)
    auth.authorise(request, route)
    if route.scope is PUBLIC and not problems.is_api(request):
        request[BRAND] = await account_of_host(session, request.host)
    try:
        response = await answer_once(request, whole_answer(route, handler), route)
    except web.HTTPException as exc:
        if exc.status >= 400:
            raise
        response = web.Response(status=exc.status, headers=exc.headers)  # a redirect that was raised
    if response.status >= 400:
        raise Refusal(response)
    if not is_recorded(session):
        record(session, request[ACTOR], route.event, resource=_resource_of(request, route))
    for note in cast("list[Note]", session.info["audit"]):
        note.status = note.status or response.status
    return response


def _resource_of(request: web.Request, route: Route) -> tuple[str, str, str] | None:
    """What the handler said it is about; else the record that the path names, when it has an identifier's shape."""
    named = request.get(RESOURCE)
    if named is None and route.event is Event.FORM_READ:
        return ("form", route.path, "")
    identity = request.match_info.get("id", "")
    if named is None and is_id(identity):
        return (route.event.value.partition(".")[0], identity, "")
    return named


async def _record_refusal(
    request: web.Request, route: Route, status: int, reason: str | None, error: EngineError | None
) -> None:
    """The entry of a request that changed nothing, in a transaction of its own."""
    account_id, details = None, {}
    resource = _resource_of(request, route)
    is_early = SESSION not in request  # refused before anybody was asked who they are
    if isinstance(error, SignInRefused | SignInSlowed):  # the stranger is told none of this
        account_id, reason = error.account_id, error.reason
        details = {"email": error.email, "method": error.method} if error.email else {"method": error.method}
        if resource is None and error.user_id is not None:
            resource = ("user", error.user_id, error.email)
    if isinstance(error, ApiKeyRefused):
        account_id, reason = None if error.key is None else error.key[0], error.reason
    try:
        async with request.app[DATABASE].sessions.begin() as session:
            if is_early:
                with contextlib.suppress(EngineError):  # the entry is the stranger's then
                    await auth.authenticate(request, session, route)
            if isinstance(error, ApiKeyRefused):
                await store_signin.note_refused_key(
                    session, hint=error.hint, ip=request[CLIENT_IP], user_agent=request[ACTOR].user_agent,
                    reason=error.reason, key=error.key,
                )  # fmt: skip
            record(
                session, request[ACTOR], route.event, resource=resource, outcome=problems.outcome_of(status),
                status=status, reason=reason, account_id=account_id, details=details,
            )  # fmt: skip
    except problems.DATABASE_ERRORS as exc:
        # nothing was changed, so nothing is hidden; the log keeps what the audit log cannot
        _log.error(  # the database's own error is the same as every other request's now
            "refusal_not_audited",
            request_id=request[REQUEST_ID],
            operation=route.event.value,
            status=status,
            why=type(exc).__name__,
        )


def _prepared_error(request: web.Request) -> EngineError | None:
    made = request.get(PREPARED)
    return None if made is None else made.error
