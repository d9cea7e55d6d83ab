"""`/api/v1/provisioning-token` and `/api/v1/phone-admin-password`: the two secrets of an account's phones.

A browser must have typed its password within 15 minutes to see either; an API key needs its scope.
"""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from admin.api import answered, body_or_default, no_query
from admin.api.models import Answer, Body, Instant
from admin.context import ACCOUNT, ACTOR, KEYS, RESOURCE, SESSION
from admin.links import provisioning_url, provisioning_warnings
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.provisioning import cutover, phones
from engine.provisioning.movement import Mode


class TokenAnswer(Answer):
    """Whoever holds a URL gets the phones' configurations. `next_provisioning_url`: where phones are being moved to.

    `warnings`: why phones cannot reach it.
    """

    token: str
    provisioning_url: str
    created_at: Instant | None
    next_provisioning_url: str | None
    warnings: list[str] = Field(default_factory=list)


class RotateBody(Body):
    """`immediate`: the old URL dies at once. `push`: it works on and hands phones the new one, until the cut.

    `automatic`: cut as soon as every phone that was ever seen has moved.
    """

    mode: Annotated[Mode, Field(strict=False)] = Mode.IMMEDIATE
    automatic: bool = True


class PasswordAnswer(Answer):
    phone_admin_password: str


async def get_provisioning_token(request: web.Request) -> web.Response:
    no_query(request)
    _name_account(request)
    return _token(request, await phones.reveal_token(request[SESSION], request[ACTOR], request[ACCOUNT]))


async def post_provisioning_token_generate(request: web.Request) -> web.Response:
    no_query(request)
    _name_account(request)
    token = await phones.generate_token(request[SESSION], request[ACTOR], request[ACCOUNT], request.app[KEYS])
    return _token(request, token, status=201)


async def post_provisioning_token_rotate(request: web.Request) -> web.Response:
    no_query(request)
    _name_account(request)
    body = await body_or_default(request, RotateBody)
    session, actor, account, keys = request[SESSION], request[ACTOR], request[ACCOUNT], request.app[KEYS]
    if body.mode is Mode.PUSH:
        await cutover.begin(session, actor, account, keys, is_automatic=body.automatic)
        return _token(request, account.provisioning_token or "", status=201)
    return _token(request, await phones.rotate_token(session, actor, account, keys), status=201)


async def get_phone_admin_password(request: web.Request) -> web.Response:
    no_query(request)
    _name_account(request)
    clear = await phones.reveal_phone_admin_password(request[SESSION], request[ACTOR], request[ACCOUNT])
    return answered(PasswordAnswer(phone_admin_password=clear))


async def post_phone_admin_password_rotate(request: web.Request) -> web.Response:
    no_query(request)
    _name_account(request)
    clear = await phones.rotate_phone_admin_password(request[SESSION], request[ACTOR], request[ACCOUNT])
    return answered(PasswordAnswer(phone_admin_password=clear), status=201, location="/api/v1/phone-admin-password")


def _name_account(request: web.Request) -> None:
    request[RESOURCE] = ("account", request[ACCOUNT].id, request[ACCOUNT].name)


def _token(request: web.Request, token: str, *, status: int = 200) -> web.Response:
    following = request[ACCOUNT].next_provisioning_token
    shown = TokenAnswer(
        token=token,
        provisioning_url=provisioning_url(request, token),
        created_at=request[ACCOUNT].provisioning_token_at,
        next_provisioning_url=provisioning_url(request, following) if following is not None else None,
        warnings=provisioning_warnings(request),
    )
    return answered(shown, status=status, location="/api/v1/provisioning-token" if status == 201 else None)


_REVEAL, _WRITE = Scope.PROVISIONING_REVEAL, Scope.PROVISIONING_WRITE
ROUTES = (
    Route(
        "GET", "/api/v1/provisioning-token", get_provisioning_token, _REVEAL, Event.PROVISIONING_TOKEN_REVEAL,
        step_up=True, operation=Operation("Reveal the provisioning token", answer=TokenAnswer, errors=(404,)),
    ),
    Route(
        "POST", "/api/v1/provisioning-token/generate", post_provisioning_token_generate, _WRITE,
        Event.PROVISIONING_TOKEN_GENERATE, step_up=True,
        operation=Operation("Make the first provisioning token", answer=TokenAnswer, status=201),
    ),
    Route(
        "POST", "/api/v1/provisioning-token/rotate", post_provisioning_token_rotate, _WRITE,
        Event.PROVISIONING_TOKEN_ROTATE, step_up=True,
        operation=Operation(
            "Replace the provisioning token at once, or move phones to the next one first",
            body=RotateBody, body_optional=True, answer=TokenAnswer, status=201, errors=(409,),
        ),
    ),
    Route(
        "GET", "/api/v1/phone-admin-password", get_phone_admin_password, _REVEAL, Event.PHONE_ADMIN_PASSWORD_REVEAL,
        step_up=True, operation=Operation("Reveal the phones' admin password", answer=PasswordAnswer, errors=(404,)),
    ),
    Route(
        "POST", "/api/v1/phone-admin-password/rotate", post_phone_admin_password_rotate, _WRITE,
        Event.PHONE_ADMIN_PASSWORD_ROTATE, step_up=True,
        operation=Operation("Replace the phones' admin password", answer=PasswordAnswer, status=201),
    ),
)  # fmt: skip
