"""`/api/v1/webhooks`: who else is told of emergency calls, by a signed POST."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field, StringConstraints

from admin.api import answered, body_of, given, no_content, no_query, row_named
from admin.api.models import NAME_PATTERN, Body, Instant, Name, StampedAnswer, patch_of
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, DATABASE, OUTBOUND, SESSION
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.accounts.store import row_of
from engine.audit.events import Event
from engine.db import utc_now
from engine.e911 import webhooks
from engine.e911.webhook_courier import send_test
from engine.e911.webhooks import Tried, WebhookFields, keys_of
from engine.models import Webhook
from engine.outbound import MAX_URL_CHARS

CallKindName = Literal["emergency", "test", "drill"]


def every_kind() -> list[CallKindName]:
    """What somebody is told of who names no kinds."""
    return ["emergency", "test", "drill"]


class WebhookAnswer(StampedAnswer):
    """`url` is told only to who may change it; `host` is what pages and the audit log show of it.

    tried_at, tried_ok, tried_words: the newest try or test, and what was answered.
    """

    name: str
    url: str
    host: str
    kinds: list[CallKindName]
    enabled: bool
    tried_at: Instant | None
    tried_ok: bool | None
    tried_words: str


class WebhookSecretAnswer(WebhookAnswer):
    """With the secret that messages are signed with. It is told this once."""

    secret: str


class WebhookCreate(Body):
    """`url`: https, of a public address; others must be listed under `[outbound] networks`. `kinds`: of which calls."""

    name: Name
    url: Annotated[str, StringConstraints(min_length=8, max_length=MAX_URL_CHARS, pattern=NAME_PATTERN)]
    kinds: Annotated[list[CallKindName], Field(min_length=1, max_length=3)] = Field(default_factory=every_kind)
    enabled: bool = True


WebhookPatch = patch_of(WebhookCreate, "WebhookPatch")


async def list_webhooks(request: web.Request) -> web.Response:
    return await list_rows(request, Webhook, plainly(WebhookAnswer.model_validate))


async def get_webhook(request: web.Request) -> web.Response:
    no_query(request)
    row = await row_named(request, Webhook)
    return answered(WebhookAnswer.model_validate(row), row)


async def post_webhook(request: web.Request) -> web.Response:
    no_query(request)
    body = await body_of(request, WebhookCreate)
    wished = WebhookFields(body.name, body.url, tuple(body.kinds), body.enabled)
    session, account = request[SESSION], request[ACCOUNT]
    row, secret = await webhooks.create_webhook(session, request[ACTOR], account, wished, request.app[OUTBOUND])
    return answered(_with_secret(row, secret), row, status=201, location=f"/api/v1/webhooks/{row.id}")


async def patch_webhook(request: web.Request) -> web.Response:
    no_query(request)
    row = await row_named(request, Webhook, to_change=True)
    changed: dict[str, Any] = given(await body_of(request, WebhookPatch))
    if "kinds" in changed:
        changed["kinds"] = tuple(changed["kinds"])
    wished = replace(WebhookFields.of(row), **changed)
    await webhooks.update_webhook(request[SESSION], request[ACTOR], row, wished, request.app[OUTBOUND])
    return answered(WebhookAnswer.model_validate(row), row)


async def delete_webhook(request: web.Request) -> web.Response:
    no_query(request)
    row = await row_named(request, Webhook, to_change=True)
    await webhooks.delete_webhook(request[SESSION], request[ACTOR], row)
    return no_content()


async def post_rotate_secret(request: web.Request) -> web.Response:
    no_query(request)
    row = await row_named(request, Webhook, to_change=True)
    secret = await webhooks.rotate_secret(request[SESSION], request[ACTOR], row)
    return answered(_with_secret(row, secret), row)


async def try_webhook(request: web.Request) -> Tried:
    """POST a test to the webhook that the path names, before any transaction is open."""
    account = request[ACCOUNT]
    async with request.app[DATABASE].sessions() as session:
        row = await row_of(session, Webhook, account.id, request.match_info["id"])
        url, keys = row.url, tuple(keys_of(row, utc_now()))
    return await send_test(request.app[OUTBOUND], account, url, keys)


async def post_webhook_test(request: web.Request) -> web.Response:
    no_query(request)
    row = await row_named(request, Webhook)
    webhooks.note_test(request[SESSION], request[ACTOR], row, prepared(request, Tried))
    await request[SESSION].flush()
    return answered(WebhookAnswer.model_validate(row), row)


def _with_secret(row: Webhook, secret: str) -> WebhookSecretAnswer:
    shown = WebhookAnswer.model_validate(row)
    return WebhookSecretAnswer.model_validate({**{name: getattr(shown, name) for name in _FIELDS}, "secret": secret})


_FIELDS = tuple(WebhookAnswer.model_fields)
_WRITE, _PATH = Scope.ACCOUNT_WRITE, "/api/v1/webhooks"
ROUTES = (
    Route(
        "GET", _PATH, list_webhooks, _WRITE, Event.WEBHOOK_LIST,
        operation=Operation("List webhooks", answer=WebhookAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "POST", _PATH, post_webhook, _WRITE, Event.WEBHOOK_CREATE,
        operation=Operation(
            "Add a webhook; its secret is told this once", body=WebhookCreate, answer=WebhookSecretAnswer, status=201,
            has_etag=True, errors=(409,),
        ),
    ),
    Route(
        "GET", f"{_PATH}/{{id}}", get_webhook, _WRITE, Event.WEBHOOK_READ,
        operation=Operation("One webhook", answer=WebhookAnswer, has_etag=True),
    ),
    Route(
        "PATCH", f"{_PATH}/{{id}}", patch_webhook, _WRITE, Event.WEBHOOK_UPDATE,
        operation=Operation(
            "Change a webhook; what waits goes where it leads now", body=WebhookPatch, answer=WebhookAnswer,
            if_match=True, has_etag=True,
        ),
    ),
    Route(
        "DELETE", f"{_PATH}/{{id}}", delete_webhook, _WRITE, Event.WEBHOOK_DELETE,
        operation=Operation("Remove a webhook; what waits for it is given up", status=204, if_match=True),
    ),
    Route(
        "POST", f"{_PATH}/{{id}}/rotate-secret", post_rotate_secret, _WRITE, Event.WEBHOOK_ROTATE_SECRET,
        operation=Operation(
            "Give a webhook a new secret; for a day messages are signed with both", answer=WebhookSecretAnswer,
            if_match=True, has_etag=True,
        ),
    ),
    Route(
        "POST", f"{_PATH}/{{id}}/test", post_webhook_test, _WRITE, Event.WEBHOOK_TEST, prepare=try_webhook,
        operation=Operation("Send a signed test and tell what was answered", answer=WebhookAnswer, has_etag=True),
    ),
)  # fmt: skip
