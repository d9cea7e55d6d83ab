"""`/api/v1/chat-recipients`: who is told of emergency calls by SMS or chat."""

import json
from dataclasses import replace
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, StringConstraints

from admin import problems
from admin.api import answered, body_of, given, no_content, no_query, row_named
from admin.api.models import NAME_PATTERN, Body, Id, Instant, Name, StampedAnswer, patch_of
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.api.webhooks import CallKindName, every_kind
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, CHATS, DATABASE, SESSION
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.accounts.store import row_of
from engine.audit.events import Event
from engine.e911 import chats
from engine.e911.chat_courier import send_test
from engine.e911.chat_library import Address
from engine.e911.chat_services import MAX_URL_CHARS
from engine.e911.chats import ChatFields
from engine.e911.webhooks import Tried
from engine.models import ChatRecipient


class ChatAnswer(StampedAnswer):
    """The address itself is told to nobody: `service` and `shown` are what is to be seen of it.

    tried_at, tried_ok, tried_words: the newest try or test, and what was answered.
    """

    name: str
    service: str
    shown: str
    location_id: str | None
    kinds: list[CallKindName]
    enabled: bool
    tried_at: Instant | None
    tried_ok: bool | None
    tried_words: str


class ChatCreate(Body):
    """`url`: an address of Apprise, or the https:// address a chat service gave for posting. `location_id`: told of
    calls from there alone; left out: of all.
    """

    name: Name
    url: Annotated[str, StringConstraints(min_length=4, max_length=MAX_URL_CHARS, pattern=NAME_PATTERN)]
    location_id: Id | None = None
    kinds: Annotated[list[CallKindName], Field(min_length=1, max_length=3)] = Field(default_factory=every_kind)
    enabled: bool = True


ChatPatch = patch_of(ChatCreate, "ChatPatch")


async def list_chats(request: web.Request) -> web.Response:
    return await list_rows(request, ChatRecipient, plainly(ChatAnswer.model_validate))


async def get_chat(request: web.Request) -> web.Response:
    no_query(request)
    row = await row_named(request, ChatRecipient)
    return answered(ChatAnswer.model_validate(row), row)


async def address_sent(request: web.Request) -> Address:
    """What the library says of the address in the body or form, before any transaction is open."""
    if request.content_type == "application/json":
        try:
            data = json.loads(await request.read())
        except ValueError:
            return Address()
        url = data.get("url") if isinstance(data, dict) else None
    elif problems.is_api(request):
        return Address()  # the body is refused for its type
    else:
        url = (await request.post()).get("url")
    return await request.app[CHATS].read(url.strip()) if isinstance(url, str) else Address()


async def post_chat(request: web.Request) -> web.Response:
    no_query(request)
    body = await body_of(request, ChatCreate)
    wished = ChatFields(body.name, body.url.strip(), body.location_id, tuple(body.kinds), body.enabled)
    session, account = request[SESSION], request[ACCOUNT]
    row = await chats.create_chat(session, request[ACTOR], account, wished, prepared(request, Address))
    return answered(ChatAnswer.model_validate(row), row, status=201, location=f"{_PATH}/{row.id}")


async def patch_chat(request: web.Request) -> web.Response:
    no_query(request)
    row = await row_named(request, ChatRecipient, to_change=True)
    changed: dict[str, Any] = given(await body_of(request, ChatPatch))
    if "kinds" in changed:
        changed["kinds"] = tuple(changed["kinds"])
    if "url" in changed:
        changed["url"] = changed["url"].strip()
    wished = replace(ChatFields.of(row), **changed)
    await chats.update_chat(request[SESSION], request[ACTOR], row, wished, prepared(request, Address))
    return answered(ChatAnswer.model_validate(row), row)


async def delete_chat(request: web.Request) -> web.Response:
    no_query(request)
    row = await row_named(request, ChatRecipient, to_change=True)
    await chats.delete_chat(request[SESSION], request[ACTOR], row)
    return no_content()


async def try_chat(request: web.Request) -> Tried:
    """Send a test to the recipient that the path names, before any transaction is open."""
    account = request[ACCOUNT]
    async with request.app[DATABASE].sessions() as session:
        row = await row_of(session, ChatRecipient, account.id, request.match_info["id"])
        url = row.url
    return await send_test(request.app[CHATS], account, url)


async def post_chat_test(request: web.Request) -> web.Response:
    no_query(request)
    row = await row_named(request, ChatRecipient)
    chats.note_test(request[SESSION], request[ACTOR], row, prepared(request, Tried))
    await request[SESSION].flush()
    return answered(ChatAnswer.model_validate(row), row)


_WRITE, _PATH = Scope.ACCOUNT_WRITE, "/api/v1/chat-recipients"
ROUTES = (
    Route(
        "GET", _PATH, list_chats, _WRITE, Event.CHAT_RECIPIENT_LIST,
        operation=Operation("List recipients by SMS or chat", answer=ChatAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "POST", _PATH, post_chat, _WRITE, Event.CHAT_RECIPIENT_CREATE, prepare=address_sent,
        operation=Operation(
            "Tell somebody by SMS or chat; the address is told to nobody again", body=ChatCreate, answer=ChatAnswer,
            status=201, has_etag=True, errors=(409,),
        ),
    ),
    Route(
        "GET", f"{_PATH}/{{id}}", get_chat, _WRITE, Event.CHAT_RECIPIENT_READ,
        operation=Operation("One recipient by SMS or chat", answer=ChatAnswer, has_etag=True),
    ),
    Route(
        "PATCH", f"{_PATH}/{{id}}", patch_chat, _WRITE, Event.CHAT_RECIPIENT_UPDATE, prepare=address_sent,
        operation=Operation(
            "Change a recipient by SMS or chat; what waits goes where it leads now", body=ChatPatch,
            answer=ChatAnswer, if_match=True, has_etag=True,
        ),
    ),
    Route(
        "DELETE", f"{_PATH}/{{id}}", delete_chat, _WRITE, Event.CHAT_RECIPIENT_DELETE,
        operation=Operation(
            "Remove a recipient by SMS or chat; what waits for it is given up", status=204, if_match=True
        ),
    ),
    Route(
        "POST", f"{_PATH}/{{id}}/test", post_chat_test, _WRITE, Event.CHAT_RECIPIENT_TEST, prepare=try_chat,
        operation=Operation("Send a test message and tell what was answered", answer=ChatAnswer, has_etag=True),
    ),
)  # fmt: skip
