"""Lists in pages: `?limit=&cursor=`, by key and never by number, so that rows made meanwhile move nothing.

A cursor is opaque and signed for its list and account: it cannot be made up, nor used elsewhere.
"""

import base64
import hmac
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel
from sqlalchemy import ColumnElement

from admin.api import no_query
from admin.context import ACCOUNT, KEYS, SESSION
from admin.pages.form import gathered
from admin.routes import Query
from engine.accounts import store
from engine.db import Base
from engine.errors import FieldFault, Invalid

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAC_BYTES = 12
MAX_CURSOR_CHARACTERS = 400
PAGE_QUERIES = (
    Query("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}, "How many."),
    Query("cursor", {"type": "string"}, "`next_cursor` of the page before; leave it out for the first page."),
)
Row = TypeVar("Row", bound=Base)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which page is asked for. `after`: the key behind which it begins."""

    limit: int
    after: str | None


def page_asked(request: web.Request, *filters: str) -> Asked:
    """Read `limit` and `cursor`; `filters` are the other parameters this list knows.

    Raises:
        Invalid: every bad or unknown parameter.
    """
    faults: list[FieldFault] = []
    with gathered(faults):
        no_query(request, "limit", "cursor", *filters)
    text = request.query.get("limit", str(DEFAULT_LIMIT))
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= limit <= MAX_LIMIT:
        faults.append(FieldFault("limit", f"Expected a whole number from 1 to {MAX_LIMIT}."))
    cursor = request.query.get("cursor")
    after = None if cursor is None else _opened(request, cursor)
    if cursor is not None and after is None:
        faults.append(FieldFault("cursor", "Expected the `next_cursor` of a page of this list, unchanged."))
    if faults:
        raise Invalid("This page cannot be given.", fields=tuple(faults))
    return Asked(limit, after)


def page(request: web.Request, data: Sequence[BaseModel], next_after: str | None) -> web.Response:
    """`{"data": [...], "next_cursor": ...}`; the cursor is null on the last page."""
    cursor = None if next_after is None else _sealed(request, next_after)
    rows = ",".join(item.model_dump_json() for item in data)
    return web.Response(
        body=f'{{"data":[{rows}],"next_cursor":{json.dumps(cursor)}}}'.encode(), content_type="application/json"
    )


async def list_rows(
    request: web.Request,
    model: type[Row],
    shown: Callable[[Sequence[Row]], Awaitable[Sequence[BaseModel]]],
    *conditions: ColumnElement[bool],
    newest_first: bool = False,
    filters: tuple[str, ...] = (),
) -> web.Response:
    """A page of this account's rows, each as `shown` makes it."""
    asked = page_asked(request, *filters)
    rows = await store.rows_after(
        request[SESSION], model, request[ACCOUNT].id, *conditions,
        after=asked.after, limit=asked.limit + 1, newest_first=newest_first,
    )  # fmt: skip
    has_more = len(rows) > asked.limit
    kept: Sequence[Any] = rows[: asked.limit]
    return page(request, await shown(kept), kept[-1].id if has_more else None)


def plainly(answer: Callable[[Row], BaseModel]) -> Callable[[Sequence[Row]], Awaitable[Sequence[BaseModel]]]:
    """For rows that are shown one by one, with nothing more to read."""

    async def shown(rows: Sequence[Row]) -> Sequence[BaseModel]:
        return [answer(row) for row in rows]

    return shown


def _sealed(request: web.Request, after: str) -> str:
    data = after.encode()
    return base64.urlsafe_b64encode(_mac(request, data) + data).decode().rstrip("=")


def _opened(request: web.Request, cursor: str) -> str | None:
    if len(cursor) > MAX_CURSOR_CHARACTERS or not cursor.isascii():
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    mac, data = raw[:MAC_BYTES], raw[MAC_BYTES:]
    return data.decode() if hmac.compare_digest(mac, _mac(request, data)) else None


def _mac(request: web.Request, data: bytes) -> bytes:
    where = f"{request.path}\n{request[ACCOUNT].id}\n".encode()
    return hmac.digest(request.app[KEYS].subkey("cursor"), where + data, "sha256")[:MAC_BYTES]
