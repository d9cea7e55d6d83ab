"""`Idempotency-Key` on the API's writes: the same key and request again gives the first answer again.

A key used for another request is refused (422). Two at the same moment: the second waits for the first one's
transaction on SQLite; on PostgreSQL it collides with it and is told to repeat (409).
"""

import json
from dataclasses import dataclass
from hashlib import sha256

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from sqlalchemy.ext.asyncio import AsyncSession

from admin.context import ACCOUNT, ACTOR, SESSION
from admin.problems import BadRequest
from admin.routes import Route
from engine.accounts.idempotency import kept_answer
from engine.audit.record import record
from engine.db import utc_now
from engine.errors import FieldFault, Invalid
from engine.models import KeptAnswer

HEADER = "Idempotency-Key"
MAX_KEY_CHARACTERS = 255
_KEPT_HEADERS = (hdrs.LOCATION, hdrs.ETAG, hdrs.CONTENT_TYPE)


@dataclass(frozen=True, slots=True)
class _Asked:
    """`key_hash`: SHA-256 over who asks and the key. `request_hash`: over method, path and body."""

    key_hash: str
    request_hash: str


async def is_repeat(request: web.Request, session: AsyncSession, route: Route) -> bool:
    """Whether this very request was carried out before, so that nothing of it needs preparing."""
    asked = await _asked(request, route)
    kept = None if asked is None else await kept_answer(session, asked.key_hash)
    return kept is not None and asked is not None and kept.request_hash == asked.request_hash


async def answer_once(request: web.Request, handler: Handler, route: Route) -> web.StreamResponse:
    """The handler's answer; with an Idempotency-Key, the kept one when the request was carried out before."""
    asked = await _asked(request, route)
    if asked is None:
        return await handler(request)
    kept = await kept_answer(request[SESSION], asked.key_hash)
    if kept is None:
        return await _first(request, handler, asked)
    if kept.request_hash != asked.request_hash:
        raise Invalid(
            f"This {HEADER} was used for another request.",
            fields=(FieldFault(HEADER, "Use a fresh key for every request, the same key only to repeat it."),),
        )
    record(request[SESSION], request[ACTOR], route.event, reason="replayed", status=kept.status)
    headers = json.loads(kept.headers or "{}") | {"Idempotency-Replayed": "true"}
    return web.Response(status=kept.status, body=(kept.body or "").encode(), headers=headers)


async def _asked(request: web.Request, route: Route) -> _Asked | None:
    """What tells this request from others; None when it has no key or is none that could be repeated.

    Raises:
        BadRequest: a key that is none.
    """
    key = request.headers.get(HEADER)
    is_write = request.method not in {"GET", "HEAD"} and route.operation is not None
    if key is None or not is_write or ACCOUNT not in request:
        return None
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS or not key.isascii() or not key.isprintable():
        raise BadRequest(f"{HEADER}: expected 1 to {MAX_KEY_CHARACTERS} printable ASCII characters.")
    body = b"" if route.streams_body else await request.read()  # what was streamed is compared by its address alone
    whole = f"{request.method} {request.rel_url.raw_path_qs}\n".encode() + body
    asker = f"{request[ACTOR].id}\n{request[ACCOUNT].id}\n{key}"  # an operator acts for many accounts with one key
    return _Asked(sha256(asker.encode()).hexdigest(), sha256(whole).hexdigest())


async def _first(request: web.Request, handler: Handler, asked: _Asked) -> web.StreamResponse:
    response = await handler(request)
    if response.status < 300 and isinstance(response, web.Response):
        body = response.body if isinstance(response.body, bytes) else b""
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        request[SESSION].add(
            KeptAnswer(
                key_hash=asked.key_hash, account_id=request[ACCOUNT].id, request_hash=asked.request_hash,
                status=response.status, headers=json.dumps(headers), body=body.decode(), created_at=utc_now(),
            )
        )  # fmt: skip
    return response
