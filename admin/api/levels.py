"""`/api/v1/phone-settings`: what an account, a location or a model says of its phones' settings; and what counts for
one phone, with its sources.
"""

from enum import StrEnum
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, JsonValue

from admin.api import answered, body_of, given, no_content, no_query, row_named
from admin.api.models import Answer, Body, Id, StampedAnswer, any_json
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.context import ACCOUNT, ACTOR, INDEX, SESSION
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import NotFound
from engine.models import Phone, SettingsLevel
from engine.provisioning import levels
from engine.provisioning.levels import LevelFields
from engine.provisioning.merge import Source, SourceKind
from engine.provisioning.phone_extras import not_taken

MAX_SETTINGS = 100


class LevelKind(StrEnum):
    """What a level speaks of; a later one goes before an earlier one, and a phone's own settings before all."""

    ACCOUNT = "account"
    LOCATION = "location"
    MODEL = "model"


class LevelAnswer(StampedAnswer):
    """`name`: `account`, the location's id, or `<vendor>/<model>`."""

    kind: SourceKind
    name: str
    location_id: str | None
    settings: dict[str, Any] = any_json({"type": "object"})


Settings = Annotated[dict[str, JsonValue], Field(max_length=MAX_SETTINGS)]


class LevelCreate(Body):
    """`location_id` where `kind` is `location`; `vendor` and `model` where it is `model`. A setting that is null takes
    away what more general levels say of it.
    """

    kind: LevelKind
    location_id: Id | None = None
    vendor: Annotated[str, Field(max_length=30)] | None = None
    model: Annotated[str, Field(max_length=40)] | None = None
    settings: Settings = Field(default_factory=dict)


class LevelPatch(Body):
    """`settings` is replaced as a whole."""

    settings: Settings


class SourceAnswer(Answer):
    """`kind`: default, global, account, location, model or device. `id`: the level's, or the phone's."""

    kind: SourceKind
    id: str
    name: str
    label: str


class EffectiveSetting(Answer):
    """`removed_by`: the level that took a more general value away; null: none did. `not_taken`: why the phone gets
    nothing of it; null: its files say it.
    """

    value: Any = any_json({})
    source: SourceAnswer
    removed_by: SourceAnswer | None
    not_taken: str | None


class PhoneSettingsAnswer(Answer):
    """Every known setting by name, as it counts for this phone now."""

    phone_id: str
    settings: dict[str, EffectiveSetting]


async def list_levels(request: web.Request) -> web.Response:
    return await list_rows(request, SettingsLevel, plainly(LevelAnswer.model_validate))


async def get_level(request: web.Request) -> web.Response:
    no_query(request)
    level = await row_named(request, SettingsLevel)
    return answered(LevelAnswer.model_validate(level), level)


async def post_level(request: web.Request) -> web.Response:
    no_query(request)
    wished = LevelFields(**(await body_of(request, LevelCreate)).model_dump())
    level = await levels.create_level(request[SESSION], request[ACTOR], request[ACCOUNT], wished)
    await request[SESSION].flush()
    location = f"/api/v1/phone-settings/{level.id}"
    return answered(LevelAnswer.model_validate(level), level, status=201, location=location)


async def patch_level(request: web.Request) -> web.Response:
    no_query(request)
    level = await row_named(request, SettingsLevel, to_change=True)
    wished = given(await body_of(request, LevelPatch))["settings"]
    await levels.update_level(request[SESSION], request[ACTOR], level, wished)
    await request[SESSION].flush()
    return answered(LevelAnswer.model_validate(level), level)


async def delete_level(request: web.Request) -> web.Response:
    no_query(request)
    level = await row_named(request, SettingsLevel, to_change=True)
    await levels.delete_level(request[SESSION], request[ACTOR], level)
    return no_content()


async def get_phone_settings(request: web.Request) -> web.Response:
    no_query(request)
    phone = await row_named(request, Phone)
    record = await request.app[INDEX].phone(phone.id)
    if record is None:
        raise NotFound("This account has no phone of that id.")
    found = {
        name: EffectiveSetting(
            value=value,
            source=_source(record.sources[name]),
            removed_by=_source(record.removed[name]) if name in record.removed else None,
            not_taken=not_taken(record.vendor, record.model, name),
        )
        for name, value in record.settings.items()
    }
    return answered(PhoneSettingsAnswer(phone_id=phone.id, settings=found))


def _source(source: Source) -> SourceAnswer:
    return SourceAnswer.model_validate(source)


_READ, _WRITE = Scope.PHONES_READ, Scope.PHONES_WRITE
ROUTES = (
    Route(
        "GET", "/api/v1/phone-settings", list_levels, _READ, Event.SETTINGS_LIST,
        operation=Operation(
            "List the levels of phone settings", answer=LevelAnswer, is_list=True, queries=PAGE_QUERIES
        ),
    ),
    Route(
        "POST", "/api/v1/phone-settings", post_level, _WRITE, Event.SETTINGS_CREATE,
        operation=Operation(
            "Say settings for the account, a location or a model", body=LevelCreate, answer=LevelAnswer, status=201,
            has_etag=True,
        ),
    ),
    Route(
        "GET", "/api/v1/phone-settings/{id}", get_level, _READ, Event.SETTINGS_READ,
        operation=Operation("One level of phone settings", answer=LevelAnswer, has_etag=True),
    ),
    Route(
        "PATCH", "/api/v1/phone-settings/{id}", patch_level, _WRITE, Event.SETTINGS_UPDATE,
        operation=Operation(
            "Change a level of phone settings", body=LevelPatch, answer=LevelAnswer, if_match=True, has_etag=True
        ),
    ),
    Route(
        "DELETE", "/api/v1/phone-settings/{id}", delete_level, _WRITE, Event.SETTINGS_DELETE,
        operation=Operation("Take a level of phone settings away", status=204, if_match=True),
    ),
    Route(
        "GET", "/api/v1/phones/{id}/settings", get_phone_settings, _READ, Event.PHONE_SETTINGS_READ,
        operation=Operation("The settings that count for a phone, each with its source", answer=PhoneSettingsAnswer),
    ),
)  # fmt: skip
