"""The mail server's page of Settings: where notifications leave, a test mail, and what the server said to it."""

from aiohttp import web

from admin.api.mail_settings import TEST, change, send_test, unsaid
from admin.context import ACTOR, HOME, MAIL_SERVER, RESOURCE, SESSION
from admin.invitations import INVITER
from admin.pages.form import FORM, form_of, gathered, refuse, refuse_stale, see_other, typed, whole_number
from admin.render import render
from admin.routes import Route
from engine.accounts import mail_server, store_platform
from engine.accounts.mail_server import MailFields
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import EngineError, FieldFault

_PATH = "/settings/mail"


async def get_mail(request: web.Request) -> web.Response:
    request[RESOURCE] = mail_server.RESOURCE
    await mail_server.refuse_tenants(request[SESSION], request[HOME])
    return await _page(request, None)


async def _page(request: web.Request, error: EngineError | None) -> web.Response:
    row = await store_platform.mail_settings(request[SESSION]) or unsaid()
    server = request.app[MAIL_SERVER]
    settings = server.settings if server.is_from_file else mail_server.mail_of(row)
    facts = mail_server.facts_of(settings)
    fields = {name: facts[name] for name in ("host", "port", "security", "username", "sender")}
    empty = {"password": "", "remove_password": False, "to": request[ACTOR].name if "@" in request[ACTOR].name else ""}
    return render(
        request, "mail_settings.html.j2", error=error, row=row, facts=facts,
        form=await form_of(request, fields | empty, error), is_from_file=server.is_from_file,
        posted=request.app[INVITER].posted(TEST),
    )  # fmt: skip


async def post_mail(request: web.Request) -> web.Response:
    request[FORM] = _page
    request[RESOURCE] = mail_server.RESOURCE
    await mail_server.refuse_tenants(request[SESSION], request[HOME])
    row = await store_platform.mail_settings_to_change(request[SESSION])
    await refuse_stale(request, row if row.version else unsaid())
    faults: list[FieldFault] = []
    port = row.port
    with gathered(faults):
        port = await whole_number(request, "port", 587)
    password: str | None = str((await request.post()).get("password", "")) or None
    if password is None and await typed(request, "remove_password") == "on":
        password = ""
    wished = MailFields(
        await typed(request, "host"), port, await typed(request, "security"), await typed(request, "username"),
        password, await typed(request, "sender"),
    )  # fmt: skip
    with gathered(faults):
        await change(request, row, wished)
    refuse(faults)
    return see_other(_PATH, "mail-saved")


async def post_mail_test(request: web.Request) -> web.Response:
    request[FORM] = _page
    request[RESOURCE] = mail_server.RESOURCE
    await mail_server.refuse_tenants(request[SESSION], request[HOME])
    send_test(request, await typed(request, "to"))
    return see_other(_PATH)  # the page itself tells how far it is


ROUTES = (
    Route("GET", _PATH, get_mail, Scope.SECURITY_READ, Event.MAIL_SETTINGS_READ),
    Route("POST", _PATH, post_mail, Scope.SECURITY_WRITE, Event.MAIL_SETTINGS_UPDATE, step_up=True),
    Route("POST", f"{_PATH}/test", post_mail_test, Scope.SECURITY_WRITE, Event.MAIL_SETTINGS_TEST),
)
