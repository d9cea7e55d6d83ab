"""Recipients of SMS and chat messages: adding, changing, testing and removing one."""

from typing import Any

from aiohttp import web

from admin.api.chats import address_sent, try_chat
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, SESSION
from admin.pages.form import FORM, form_of, refuse_stale, see_other, typed
from admin.place_field import place_typed, places
from admin.render import render
from admin.routes import Route
from engine.accounts import store
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.e911 import chats, store_chats
from engine.e911.chat_library import Address
from engine.e911.chats import ChatFields
from engine.e911.webhooks import KINDS, Tried
from engine.errors import EngineError
from engine.models import ChatRecipient

_CHATS = "/settings/chats"


async def get_chat(request: web.Request) -> web.Response:
    return await _page(request, None)


async def _page(request: web.Request, error: EngineError | None) -> web.Response:
    session = request[SESSION]
    row = await _row(request) if "id" in request.match_info else None
    choices = await places(request, row.location_id if row is not None else None)
    values: dict[str, Any] = {"name": "", "url": "", "location_id": "", "kinds": list(KINDS), "enabled": True}
    if row is not None:
        values = {
            "name": row.name, "url": "", "location_id": choices.shown(row.location_id), "kinds": list(row.kinds),
            "enabled": row.enabled,
        }  # fmt: skip
    is_form = error is not None and "name" in await request.post()
    return render(
        request, "chat.html.j2", error=error, chat=row,
        form=await form_of(request, values, error, lists=("kinds",) if is_form else (), kind="chat_recipient"),
        places=choices,
        messages=await store_chats.messages_of(session, row) if row else [],
    )  # fmt: skip


async def post_chat_new(request: web.Request) -> web.Response:
    request[FORM] = _page
    wished = await _fields(request)
    row = await chats.create_chat(
        request[SESSION], request[ACTOR], request[ACCOUNT], wished, prepared(request, Address)
    )
    return see_other(f"{_CHATS}/{row.id}", "chat-added")


async def post_chat(request: web.Request) -> web.Response:
    request[FORM] = _page
    row = await _row(request)
    await refuse_stale(request, row)
    await chats.update_chat(request[SESSION], request[ACTOR], row, await _fields(request), prepared(request, Address))
    return see_other("/settings", "chat-saved", "recipients")


async def post_chat_test(request: web.Request) -> web.Response:
    request[FORM] = _page
    row = await _row(request)
    chats.note_test(request[SESSION], request[ACTOR], row, prepared(request, Tried))
    return see_other(f"{_CHATS}/{row.id}", "tested")


async def post_chat_delete(request: web.Request) -> web.Response:
    request[FORM] = _page
    row = await _row(request)
    await refuse_stale(request, row)
    await chats.delete_chat(request[SESSION], request[ACTOR], row)
    return see_other("/settings", "chat-deleted", "recipients")


async def _row(request: web.Request) -> ChatRecipient:
    return await store.row_of(request[SESSION], ChatRecipient, request[ACCOUNT].id, request.match_info["id"])


async def _fields(request: web.Request) -> ChatFields:
    """As typed; an address left empty stays as it is."""
    post = await request.post()
    return ChatFields(
        await typed(request, "name"), await typed(request, "url") or None, await place_typed(request, "location_id"),
        tuple(str(kind) for kind in post.getall("kinds", [])), post.get("enabled") == "on",
    )  # fmt: skip


_WRITE = Scope.ACCOUNT_WRITE
ROUTES = (
    Route("GET", f"{_CHATS}/new", get_chat, _WRITE, Event.FORM_READ),
    Route(
        "POST", f"{_CHATS}/new", post_chat_new, _WRITE, Event.CHAT_RECIPIENT_CREATE, prepare=address_sent,
        step_up=True,
    ),
    Route("GET", f"{_CHATS}/{{id}}", get_chat, _WRITE, Event.CHAT_RECIPIENT_READ),
    Route(
        "POST", f"{_CHATS}/{{id}}", post_chat, _WRITE, Event.CHAT_RECIPIENT_UPDATE, prepare=address_sent, step_up=True
    ),
    Route("POST", f"{_CHATS}/{{id}}/test", post_chat_test, _WRITE, Event.CHAT_RECIPIENT_TEST, prepare=try_chat),
    Route("POST", f"{_CHATS}/{{id}}/delete", post_chat_delete, _WRITE, Event.CHAT_RECIPIENT_DELETE),
)  # fmt: skip
