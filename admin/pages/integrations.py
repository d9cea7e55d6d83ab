"""Integrations: who validates addresses, and the webhooks that are told of emergency calls."""

from typing import Any

from aiohttp import web

from admin.address_validation import validator_tested
from admin.api import integrations
from admin.api.webhooks import try_webhook
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, HOME, MAIL_SERVER, OUTBOUND, SESSION, VALIDATOR
from admin.pages.form import FORM, form_of, refuse_stale, see_other, typed
from admin.render import render
from admin.routes import Route
from engine.accounts import store
from engine.accounts.mail_server import may_set
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.e911 import store_webhooks, validation_settings, webhooks
from engine.e911.validation_settings import ValidationFields
from engine.e911.webhooks import KINDS, Tried, WebhookFields
from engine.errors import EngineError
from engine.models import Webhook

_PATH = "/settings/integrations"
_HOOKS = "/settings/webhooks"


async def get_integrations(request: web.Request) -> web.Response:
    session = request[SESSION]
    may = await may_set(session, request[HOME])
    return render(
        request, "integrations.html.j2", webhooks=await store_webhooks.webhooks_of(session, request[ACCOUNT].id),
        may_set=may, validator=await request.app[VALIDATOR].name(session) if may else "",
        mail_host=request.app[MAIL_SERVER].settings.host if may else "", most=webhooks.MAX_WEBHOOKS,
    )  # fmt: skip


async def get_webhook(request: web.Request) -> web.Response:
    return await _webhook_page(request, None)


async def _webhook_page(request: web.Request, error: EngineError | None, *, secret: str = "") -> web.Response:
    row = await _row(request) if "id" in request.match_info else None
    return await _shown(request, row, error, secret)


async def _shown(
    request: web.Request, row: Webhook | None, error: EngineError | None = None, secret: str = ""
) -> web.Response:
    values: dict[str, Any] = {"name": "", "url": "", "kinds": list(KINDS), "enabled": True}
    if row is not None:
        values = {"name": row.name, "url": row.url, "kinds": list(row.kinds), "enabled": row.enabled}
    is_form = error is not None and "name" in await request.post()
    return render(
        request, "webhook.html.j2", error=error, webhook=row, secret=secret,
        form=await form_of(request, values, error, lists=("kinds",) if is_form else (), kind="webhook"),
        messages=await store_webhooks.messages_of(request[SESSION], row) if row else [],
    )  # fmt: skip


async def post_webhook_new(request: web.Request) -> web.Response:
    """Make it and show its secret in the answer itself: it is nowhere else, so a redirect would lose it."""
    request[FORM] = _webhook_page
    row, secret = await webhooks.create_webhook(
        request[SESSION], request[ACTOR], request[ACCOUNT], await _fields(request), request.app[OUTBOUND]
    )
    return await _shown(request, row, secret=secret)


async def post_webhook(request: web.Request) -> web.Response:
    request[FORM] = _webhook_page
    row = await _row(request)
    await refuse_stale(request, row)
    await webhooks.update_webhook(request[SESSION], request[ACTOR], row, await _fields(request), request.app[OUTBOUND])
    return see_other(_PATH, "webhook-saved")


async def post_webhook_rotate(request: web.Request) -> web.Response:
    request[FORM] = _webhook_page
    row = await _row(request)
    await refuse_stale(request, row)
    secret = await webhooks.rotate_secret(request[SESSION], request[ACTOR], row)
    return await _shown(request, row, secret=secret)


async def post_webhook_test(request: web.Request) -> web.Response:
    request[FORM] = _webhook_page
    row = await _row(request)
    webhooks.note_test(request[SESSION], request[ACTOR], row, prepared(request, Tried))
    return see_other(f"{_HOOKS}/{row.id}", "tested")


async def post_webhook_delete(request: web.Request) -> web.Response:
    request[FORM] = _webhook_page
    row = await _row(request)
    await refuse_stale(request, row)
    await webhooks.delete_webhook(request[SESSION], request[ACTOR], row)
    return see_other(_PATH, "webhook-deleted")


async def get_validation(request: web.Request) -> web.Response:
    await integrations.refuse_tenants(request)
    return await _validation_page(request, None)


async def _validation_page(request: web.Request, error: EngineError | None) -> web.Response:
    row = await validation_settings.stored(request[SESSION]) or validation_settings.unsaid()
    facts = integrations.facts_of(request, row)
    values = {name: facts[name] for name in ("provider", "url", "auth", "username")}
    values |= {"secret": "", "remove_secret": False}
    return render(
        request, "validation_settings.html.j2", error=error, row=row, facts=facts,
        form=await form_of(request, values, error),
    )  # fmt: skip


async def post_validation(request: web.Request) -> web.Response:
    request[FORM] = _validation_page
    await integrations.refuse_tenants(request)
    row = await validation_settings.stored_to_change(request[SESSION])
    await refuse_stale(request, row if row.version else validation_settings.unsaid())
    secret: str | None = str((await request.post()).get("secret", "")) or None
    if secret is None and await typed(request, "remove_secret") == "on":
        secret = ""
    wished = ValidationFields(
        await typed(request, "provider"), await typed(request, "url"), await typed(request, "auth"),
        await typed(request, "username"), secret,
    )  # fmt: skip
    await integrations.change(request, row, wished)
    return see_other(f"{_PATH}/validation", "validator-saved")


async def post_validation_test(request: web.Request) -> web.Response:
    request[FORM] = _validation_page
    await integrations.refuse_tenants(request)
    await integrations.note_test(request)
    return see_other(f"{_PATH}/validation", "tested")


async def _row(request: web.Request) -> Webhook:
    return await store.row_of(request[SESSION], Webhook, request[ACCOUNT].id, request.match_info["id"])


async def _fields(request: web.Request) -> WebhookFields:
    post = await request.post()
    return WebhookFields(
        await typed(request, "name"), await typed(request, "url"),
        tuple(str(kind) for kind in post.getall("kinds", [])), post.get("enabled") == "on",
    )  # fmt: skip


_WRITE = Scope.ACCOUNT_WRITE
_PLATFORM = Scope.SECURITY_WRITE  # what serves every account is not for those who run one
ROUTES = (
    Route("GET", _PATH, get_integrations, _WRITE, Event.INTEGRATION_LIST),
    Route("GET", f"{_PATH}/validation", get_validation, Scope.SECURITY_READ, Event.VALIDATION_SETTINGS_READ),
    Route("POST", f"{_PATH}/validation", post_validation, _PLATFORM, Event.VALIDATION_SETTINGS_UPDATE, step_up=True),
    Route(
        "POST", f"{_PATH}/validation/test", post_validation_test, _PLATFORM, Event.VALIDATION_SETTINGS_TEST,
        prepare=validator_tested,
    ),
    Route("GET", f"{_HOOKS}/new", get_webhook, _WRITE, Event.FORM_READ),
    Route("POST", f"{_HOOKS}/new", post_webhook_new, _WRITE, Event.WEBHOOK_CREATE, step_up=True),
    Route("GET", f"{_HOOKS}/{{id}}", get_webhook, _WRITE, Event.WEBHOOK_READ),
    Route("POST", f"{_HOOKS}/{{id}}", post_webhook, _WRITE, Event.WEBHOOK_UPDATE, step_up=True),
    Route("POST", f"{_HOOKS}/{{id}}/rotate", post_webhook_rotate, _WRITE, Event.WEBHOOK_ROTATE_SECRET, step_up=True),
    Route("POST", f"{_HOOKS}/{{id}}/test", post_webhook_test, _WRITE, Event.WEBHOOK_TEST, prepare=try_webhook),
    Route("POST", f"{_HOOKS}/{{id}}/delete", post_webhook_delete, _WRITE, Event.WEBHOOK_DELETE),
)  # fmt: skip
