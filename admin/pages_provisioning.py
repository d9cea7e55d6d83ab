"""The Provisioning card: the secrets (asked for when it is opened, never before), generate and rotate."""

from aiohttp import web

from admin.context import ACCOUNT, ACTOR, KEYS, SESSION
from admin.links import provisioning_url
from admin.pages_form import see_other
from admin.render import render
from admin.routes import Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.models import Phone
from engine.provisioning import phones, store

_READ, _WRITE, _REVEAL = Scope.PROVISIONING_READ, Scope.PROVISIONING_WRITE, Scope.PROVISIONING_REVEAL


async def get_provisioning(request: web.Request) -> web.Response:
    """The token, the URL and the password. The card of Settings takes its content from here when it is opened."""
    session, actor, account = request[SESSION], request[ACTOR], request[ACCOUNT]
    if account.provisioning_token_index is None:
        return render(request, "provisioning.html.j2", token=None)
    token = await phones.reveal_token(session, actor, account)
    password = (
        await phones.reveal_phone_admin_password(session, actor, account) if account.phone_admin_password else None
    )
    return render(
        request,
        "provisioning.html.j2",
        token=token,
        provisioning_url=provisioning_url(request, token),
        admin_password=password,
        phones=await _booted(request),
    )


async def get_rotate(request: web.Request) -> web.Response:
    """The warning as a page of its own, for a browser without JavaScript."""
    return render(request, "rotate.html.j2", phones=await _booted(request))


async def post_generate(request: web.Request) -> web.Response:
    await phones.generate_token(request[SESSION], request[ACTOR], request[ACCOUNT], request.app[KEYS])
    return see_other("/settings", "generated", "provisioning")


async def post_rotate(request: web.Request) -> web.Response:
    await phones.rotate_token(request[SESSION], request[ACTOR], request[ACCOUNT], request.app[KEYS])
    return see_other("/settings", "rotated", "provisioning")


async def post_rotate_password(request: web.Request) -> web.Response:
    await phones.rotate_phone_admin_password(request[SESSION], request[ACTOR], request[ACCOUNT])
    return see_other("/settings", "password-rotated", "provisioning")


async def _booted(request: web.Request) -> list[Phone]:
    """The phones that fetched with the present token or an older one: they need the new URL after a rotation."""
    rows = await store.phones_of(request[SESSION], request[ACCOUNT].id)
    return [phone for phone in rows if phone.last_fetch_at is not None]


ROUTES = (
    Route("GET", "/settings/provisioning", get_provisioning, _REVEAL, Event.PROVISIONING_TOKEN_REVEAL, step_up=True),
    Route("GET", "/settings/provisioning/rotate", get_rotate, _WRITE, Event.PHONE_LIST),
    Route("POST", "/settings/provisioning/generate", post_generate, _WRITE, Event.PROVISIONING_TOKEN_GENERATE),
    Route("POST", "/settings/provisioning/rotate", post_rotate, _WRITE, Event.PROVISIONING_TOKEN_ROTATE, step_up=True),
    Route(
        "POST", "/settings/provisioning/rotate-password", post_rotate_password, _WRITE,
        Event.PHONE_ADMIN_PASSWORD_ROTATE, step_up=True,
    ),
)  # fmt: skip
