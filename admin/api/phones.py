"""`/api/v1/phones`: phones, the files they are served, their fetches, and asking one to fetch again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, JsonValue

from admin.api import answered, body_of, given, no_content, no_query, row_named
from admin.api.models import Answer, Body, Id, Instant, Name, PlacementIn, StampedAnswer, Text, any_json, patch_of
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, DATABASE, EDGE, SESSION
from admin.phone_files import files_of, rendered
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.accounts.store import row_of
from engine.audit.events import Event
from engine.audit.record import record
from engine.models import Phone, PhoneStatus, Placement, ProvisioningEvent
from engine.provisioning import phones, store
from engine.provisioning.phones import PhoneFields


class PhoneAnswer(StampedAnswer):
    """`lines`: line ids by key order."""

    mac: str
    vendor: str
    model: str
    label: str
    location_id: str | None
    placement: Placement | None
    settings: dict[str, Any] = any_json({"type": "object"})
    lines: list[str]
    status: PhoneStatus
    last_fetch_at: Instant | None
    last_ip: str | None
    no_location_at: Instant | None
    last_user_agent: str | None
    firmware: str | None
    resync_result: str | None
    resync_at: Instant | None
    seen_vendor: str | None
    seen_model: str | None


class PhoneCreate(Body):
    """`mac` in any usual spelling; empty for a softphone: an address is made for it. `lines`: ids of lines, first key
    first.
    """

    mac: Annotated[str, Field(max_length=40)] = ""
    vendor: Name
    model: Name
    label: Text = ""
    location_id: Id | None = None
    placement: PlacementIn = None
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    lines: Annotated[list[Id], Field(max_length=100)] = Field(default_factory=list)


PhonePatch = patch_of(PhoneCreate, "PhonePatch")


class PhoneFileAnswer(Answer):
    name: str
    kind: str
    content_type: str


class PhoneFilesAnswer(Answer):
    data: list[PhoneFileAnswer]


class FetchAnswer(Answer):
    """One request of the phone. The token is never in it."""

    id: str
    kind: str
    reason: str | None
    file: str
    method: str
    status_code: int
    size_bytes: int
    duration_us: int
    ip: str
    user_agent: str
    evidence: dict[str, Any] = any_json({"type": "object"})
    at: Instant


class ResyncAnswer(Answer):
    """The NOTIFY is on its way; what came of it joins the phone's events."""

    phone_id: str
    sent: bool


class Resynced(str):
    """The id of a phone that was just asked to fetch again."""

    __slots__ = ()


async def answers_of(request: web.Request, rows: Sequence[Phone]) -> list[PhoneAnswer]:
    """Phones as the API answers them."""
    lines = await store.line_ids_by_phone(request[SESSION], [row.id for row in rows])
    return [_phone(row, lines[row.id]) for row in rows]


async def get_phone(request: web.Request) -> web.Response:
    no_query(request)
    return await one_phone(request, await row_named(request, Phone))


async def post_phone(request: web.Request) -> web.Response:
    no_query(request)
    values = (await body_of(request, PhoneCreate)).model_dump()
    wished = PhoneFields(**values | {"lines": tuple(values["lines"])})
    phone = await phones.create_phone(request[SESSION], request[ACTOR], request[ACCOUNT], wished)
    await request[SESSION].flush()
    return await one_phone(request, phone, status=201, location=f"/api/v1/phones/{phone.id}")


async def patch_phone(request: web.Request) -> web.Response:
    no_query(request)
    phone = await row_named(request, Phone, to_change=True)
    now = await PhoneFields.of(request[SESSION], phone)
    wished = replace(now, **given(await body_of(request, PhonePatch)))
    wished = replace(wished, lines=tuple(wished.lines))
    await phones.update_phone(request[SESSION], request[ACTOR], phone, wished)
    await request[SESSION].flush()
    return await one_phone(request, phone)


async def delete_phone(request: web.Request) -> web.Response:
    no_query(request)
    await phones.delete_phone(request[SESSION], request[ACTOR], await row_named(request, Phone, to_change=True))
    return no_content()


async def one_phone(
    request: web.Request, phone: Phone, *, status: int = 200, location: str | None = None
) -> web.Response:
    """The answer that shows that phone as it is now."""
    lines = await store.line_ids_by_phone(request[SESSION], [phone.id])
    return answered(_phone(phone, lines[phone.id]), phone, status=status, location=location)


def _phone(phone: Phone, lines: list[str]) -> PhoneAnswer:
    stored = {name: getattr(phone, name) for name in PhoneAnswer.model_fields if name != "lines"}
    return PhoneAnswer.model_validate(stored | {"lines": lines})


async def list_phone_files(request: web.Request) -> web.Response:
    no_query(request)
    files = files_of(await row_named(request, Phone))
    return answered(PhoneFilesAnswer(data=[PhoneFileAnswer.model_validate(file) for file in files]))


async def get_phone_file(request: web.Request) -> web.Response:
    no_query(request)
    phone = await row_named(request, Phone)
    file, body = await rendered(request, phone, request.match_info["name"])
    return web.Response(body=body, content_type=file.content_type.partition(";")[0], charset="utf-8")


async def list_phone_events(request: web.Request) -> web.Response:
    phone = await row_named(request, Phone)
    return await list_rows(
        request, ProvisioningEvent, plainly(FetchAnswer.model_validate),
        ProvisioningEvent.phone_id == phone.id, newest_first=True,
    )  # fmt: skip


async def send_resync(request: web.Request) -> Resynced:
    """Before the transaction: finding the way to a phone may take a look-up, and the database has one writer."""
    async with request.app[DATABASE].sessions() as session:
        phone = await row_of(session, Phone, request[ACCOUNT].id, request.match_info["id"])
        await request.app[EDGE].resync(phone)
        return Resynced(phone.id)


async def post_phone_resync(request: web.Request) -> web.Response:
    no_query(request)
    phone = await row_named(request, Phone)
    sent = prepared(request, Resynced)
    record(request[SESSION], request[ACTOR], Event.PHONE_RESYNC, phone)
    return answered(ResyncAnswer(phone_id=str(sent), sent=True))


_READ, _WRITE = Scope.PHONES_READ, Scope.PHONES_WRITE
ROUTES = (
    Route(
        "POST", "/api/v1/phones", post_phone, _WRITE, Event.PHONE_CREATE,
        operation=Operation("Add a phone", body=PhoneCreate, answer=PhoneAnswer, status=201, has_etag=True),
    ),
    Route(
        "GET", "/api/v1/phones/{id}", get_phone, _READ, Event.PHONE_READ,
        operation=Operation("One phone", answer=PhoneAnswer, has_etag=True),
    ),
    Route(
        "PATCH", "/api/v1/phones/{id}", patch_phone, _WRITE, Event.PHONE_UPDATE,
        operation=Operation("Change a phone", body=PhonePatch, answer=PhoneAnswer, if_match=True, has_etag=True),
    ),
    Route(
        "DELETE", "/api/v1/phones/{id}", delete_phone, _WRITE, Event.PHONE_DELETE,
        operation=Operation("Retire a phone", status=204, if_match=True),
    ),
    Route(
        "GET", "/api/v1/phones/{id}/files", list_phone_files, _READ, Event.PHONE_FILES_READ,
        operation=Operation("The files this phone asks for, in its order", answer=PhoneFilesAnswer),
    ),
    Route(
        "GET", "/api/v1/phones/{id}/files/{name}", get_phone_file, Scope.PROVISIONING_REVEAL, Event.PHONE_FILES_READ,
        step_up=True,
        operation=Operation(
            "A file as the phone gets it now, secrets included", media_type="*/*", errors=(409,)
        ),
    ),
    Route(
        "GET", "/api/v1/phones/{id}/events", list_phone_events, _READ, Event.PHONE_EVENTS_READ,
        operation=Operation(
            "The phone's fetches, newest first", answer=FetchAnswer, is_list=True, queries=PAGE_QUERIES
        ),
    ),
    Route(
        "POST", "/api/v1/phones/{id}/resync", post_phone_resync, _WRITE, Event.PHONE_RESYNC, prepare=send_resync,
        operation=Operation("Ask the phone to fetch its files again", answer=ResyncAnswer),
    ),
)  # fmt: skip
