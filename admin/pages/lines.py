"""Lines: adding one to a phone, changing one, deleting one."""

from typing import Any

from aiohttp import web

from admin.context import ACCOUNT, ACTOR, SESSION
from admin.field_words import PLACEMENTS
from admin.pages.form import FORM, form_of, refuse_stale, see_other, typed
from admin.place_field import place_typed, places
from admin.render import render
from admin.routes import Route
from engine.accounts import store as accounts
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import EngineError
from engine.models import Line
from engine.provisioning import phones, store
from engine.provisioning.phones import LineFields

FIELDS = ("extension", "display_name", "sip_user", "auth_user", "callback_number", "location_id", "pbx_id", "placement")


async def get_line(request: web.Request) -> web.Response:
    return await _line_page(request, None)


async def _line_page(request: web.Request, error: EngineError | None) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    is_new = "phone_id" in request.match_info
    line = None if is_new else await _line(request)
    if is_new and error is None:
        await store.phone_of(session, account.id, request.match_info["phone_id"])
    choices = await places(request, line.location_id if line is not None else None)
    values: dict[str, Any] = {name: getattr(line, name) if line else "" for name in FIELDS}
    values["location_id"] = choices.shown(line.location_id) if line is not None else ""
    form = await form_of(request, values | {"secret": ""}, error, kind="line")
    back = _back(request)
    return render(
        request,
        "line.html.j2",
        error=error,
        line=line,
        form=form,
        back=back,
        address=f"{back}/lines/new" if line is None else f"/lines/{line.id}",
        opened_from="" if line is None or back == "/phones" else f"?phone={back.removeprefix('/phones/')}",
        places=choices,
        pbxs=[(row.id, row.name) for row in await accounts.pbxs_of(session, account.id)],
        placements=PLACEMENTS,
    )


def _back(request: web.Request) -> str:
    """The phone this line was opened from."""
    phone_id = request.match_info.get("phone_id") or request.query.get("phone", "")
    is_id = phone_id.startswith("phone_") and phone_id.isascii() and phone_id.replace("_", "").isalnum()
    return f"/phones/{phone_id}" if is_id else "/phones"


async def post_line_new(request: web.Request) -> web.Response:
    """Make a line and put it on the phone's next free key."""
    request[FORM] = _line_page
    session, actor, account = request[SESSION], request[ACTOR], request[ACCOUNT]
    phone = await store.phone_of(session, account.id, request.match_info["phone_id"])
    line = await phones.create_line(session, actor, account, await typed_line(request))
    present = [key.line_id for key in await store.keys_of(session, phone.id)]
    await phones.assign_lines(session, actor, phone, (*present, line.id))
    return see_other(f"/phones/{phone.id}", "line-added")


async def post_line(request: web.Request) -> web.Response:
    request[FORM] = _line_page
    line = await _line(request)
    await refuse_stale(request, line)
    await phones.update_line(request[SESSION], request[ACTOR], request[ACCOUNT], line, await typed_line(request))
    return see_other(_back(request), "line-saved")


async def post_line_delete(request: web.Request) -> web.Response:
    request[FORM] = _line_page
    line = await _line(request)
    await refuse_stale(request, line)
    await phones.delete_line(request[SESSION], request[ACTOR], line)
    return see_other(_back(request), "line-deleted")


async def _line(request: web.Request) -> Line:
    return await store.line_of(request[SESSION], request[ACCOUNT].id, request.match_info["id"])


async def typed_line(request: web.Request, *, has_location: bool = True) -> LineFields:
    """The form as a line. Fields that a form does not show are empty; an empty password keeps the present one.

    Args:
        has_location: False where the form's location is the phone's.
    """
    location_id = await place_typed(request, "location_id") if has_location else None
    return LineFields(
        extension=await typed(request, "extension"),
        display_name=await typed(request, "display_name"),
        sip_user=await typed(request, "sip_user"),
        auth_user=await typed(request, "auth_user"),
        secret=await typed(request, "secret") or None,
        callback_number=await typed(request, "callback_number") or None,
        location_id=location_id,
        pbx_id=await typed(request, "pbx_id") or None,
        placement=await typed(request, "placement") or None,
    )


ROUTES = (
    Route("GET", "/phones/{phone_id}/lines/new", get_line, Scope.PHONES_WRITE, Event.FORM_READ),
    Route("POST", "/phones/{phone_id}/lines/new", post_line_new, Scope.PHONES_WRITE, Event.LINE_CREATE),
    Route("GET", "/lines/{id}", get_line, Scope.PHONES_READ, Event.LINE_READ),
    Route("POST", "/lines/{id}", post_line, Scope.PHONES_WRITE, Event.LINE_UPDATE),
    Route("POST", "/lines/{id}/delete", post_line_delete, Scope.PHONES_WRITE, Event.LINE_DELETE),
)
