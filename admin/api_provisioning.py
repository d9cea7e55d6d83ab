"""`/api/v1/provisioning-token` and `/api/v1/phone-admin-password`: the two secrets of an account's phones.

A browser must have typed its password within 15 minutes to see either; an API key needs its scope.
"""

from aiohttp import web

from admin.api import answered, no_query
from admin.api_models import Answer, Instant
from admin.context import ACCOUNT, ACTOR, KEYS, RESOURCE, SESSION
from admin.links import provisioning_url
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.provisioning import phones


class TokenAnswer(Answer):
    """Whoever holds the URL gets the phones' configurations."""

    token: str
    provisioning_url: str
    created_at: Instant | None


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
    token = await phones.rotate_token(request[SESSION], request[ACTOR], request[ACCOUNT], request.app[KEYS])
    return _token(request, token, status=201)


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
    shown = TokenAnswer(
        token=token,
        provisioning_url=provisioning_url(request, token),
        created_at=request[ACCOUNT].provisioning_token_at,
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
            "Replace the provisioning token; the old URL is dead at once", answer=TokenAnswer, status=201
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
