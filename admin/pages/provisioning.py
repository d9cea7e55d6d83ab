"""The Provisioning card: the secrets (asked for when it is opened, never before), generate and rotate."""

from collections.abc import Sequence

from aiohttp import web

from admin.api.rotation import rotation_of
from admin.context import ACCOUNT, ACTOR, KEYS, SESSION
from admin.links import provisioning_url, provisioning_warnings
from admin.pages.form import see_other, typed
from admin.render import render
from admin.routes import Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.models import Phone
from engine.provisioning import cutover, phones, store_cutover
from engine.provisioning.movement import MAX_LISTED, Mode

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
    following = account.next_provisioning_token
    return render(
        request,
        "provisioning.html.j2",
        token=token,
        provisioning_url=provisioning_url(request, token),
        url_warnings=provisioning_warnings(request),
        next_url=provisioning_url(request, following) if following is not None else None,
        admin_password=password,
        rotation=await rotation_of(session, account),
        impact=await cutover.impact(session, account),
        phones=await _booted(request),
    )


async def get_rotation(request: web.Request) -> web.Response:
    """The progress alone, with no secret in it: what the card asks for again and again, and a page of its own."""
    return render(request, "rotation.html.j2", rotation=await rotation_of(request[SESSION], request[ACCOUNT]))


async def get_rotate(request: web.Request) -> web.Response:
    """The warning as a page of its own, for a browser without JavaScript."""
    impact = await cutover.impact(request[SESSION], request[ACCOUNT])
    rotation = await rotation_of(request[SESSION], request[ACCOUNT])
    return render(request, "rotate.html.j2", impact=impact, rotation=rotation, phones=await _booted(request))


async def post_generate(request: web.Request) -> web.Response:
    await phones.generate_token(request[SESSION], request[ACTOR], request[ACCOUNT], request.app[KEYS])
    return see_other("/settings", "generated", "provisioning")


async def post_rotate(request: web.Request) -> web.Response:
    session, actor, account, keys = request[SESSION], request[ACTOR], request[ACCOUNT], request.app[KEYS]
    if await typed(request, "mode") == Mode.PUSH:
        is_automatic = await typed(request, "automatic") == "on"
        await cutover.begin(session, actor, account, keys, is_automatic=is_automatic)
        return see_other("/settings", "pushed", "provisioning")
    await phones.rotate_token(session, actor, account, keys)
    return see_other("/settings", "rotated", "provisioning")


async def post_cut(request: web.Request) -> web.Response:
    await cutover.cut(request[SESSION], request[ACTOR], request[ACCOUNT])
    return see_other("/settings", "cut", "provisioning")


async def post_cancel(request: web.Request) -> web.Response:
    ended = await cutover.cancel(request[SESSION], request[ACTOR], request[ACCOUNT])
    return see_other("/settings", "returning" if ended.is_returning else "called-off", "provisioning")


async def post_rotate_password(request: web.Request) -> web.Response:
    await phones.rotate_phone_admin_password(request[SESSION], request[ACTOR], request[ACCOUNT])
    return see_other("/settings", "password-rotated", "provisioning")


async def _booted(request: web.Request) -> Sequence[Phone]:
    """The first phones that fetched with the present token or an older one: they need the new URL after a rotation."""
    return await store_cutover.booted(request[SESSION], request[ACCOUNT].id, limit=MAX_LISTED)


ROUTES = (
    Route("GET", "/settings/provisioning", get_provisioning, _REVEAL, Event.PROVISIONING_TOKEN_REVEAL, step_up=True),
    Route("GET", "/settings/provisioning/rotate", get_rotate, _WRITE, Event.PROVISIONING_ROTATION_READ),
    Route("GET", "/settings/provisioning/rotation", get_rotation, _READ, Event.PROVISIONING_ROTATION_READ),
    Route("POST", "/settings/provisioning/cut", post_cut, _WRITE, Event.PROVISIONING_TOKEN_CUT, step_up=True),
    Route("POST", "/settings/provisioning/cancel", post_cancel, _WRITE, Event.PROVISIONING_TOKEN_CANCEL, step_up=True),
    Route("POST", "/settings/provisioning/generate", post_generate, _WRITE, Event.PROVISIONING_TOKEN_GENERATE),
    Route("POST", "/settings/provisioning/rotate", post_rotate, _WRITE, Event.PROVISIONING_TOKEN_ROTATE, step_up=True),
    Route(
        "POST", "/settings/provisioning/rotate-password", post_rotate_password, _WRITE,
        Event.PHONE_ADMIN_PASSWORD_ROTATE, step_up=True,
    ),
)  # fmt: skip
