"""`/api/v1/validation-settings`: who validates addresses, where the configuration names nobody."""

from dataclasses import replace
from typing import Annotated, Literal

from aiohttp import web
from pydantic import StringConstraints

from admin.address_validation import Tested, validator_tested
from admin.api import answered, body_of, given, match_version, no_query
from admin.api.models import NAME_PATTERN, Answer, Body, Instant, Secret, patch_of
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, HOME, OUTBOUND, RESOURCE, SESSION, VALIDATOR
from admin.routes import Operation, Route
from engine.accounts.mail_server import may_set
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.e911 import validation_settings
from engine.e911.validation_settings import ValidationFields
from engine.errors import Forbidden
from engine.models import ValidationSettings
from engine.outbound import MAX_URL_CHARS


class ValidationSettingsAnswer(Answer):
    """Who is asked. `source`: `configuration` when `[e911] lost_url` names a server, which counts alone; else `pages`.

    has_secret: whether a password or token is stored; it is never told.
    tried_at, tried_ok, tried_words: the newest test since the last change.
    """

    source: Literal["configuration", "pages"]
    provider: Literal["none", "lost"]
    url: str
    auth: Literal["none", "basic", "bearer"]
    username: str
    has_secret: bool
    tried_at: Instant | None
    tried_ok: bool | None
    tried_words: str
    version: int


class ValidationSettingsBody(Body):
    """`provider` `lost`: a LoST server (RFC 5222) at `url`. `secret`: left out, the stored one stays; empty: none."""

    provider: Literal["none", "lost"]
    url: Annotated[str, StringConstraints(max_length=MAX_URL_CHARS, pattern=NAME_PATTERN)]
    auth: Literal["none", "basic", "bearer"]
    username: Annotated[str, StringConstraints(max_length=320, pattern=NAME_PATTERN)]
    secret: Secret | Literal[""]


ValidationSettingsPatch = patch_of(ValidationSettingsBody, "ValidationSettingsPatch")


async def get_validation_settings(request: web.Request) -> web.Response:
    no_query(request)
    await refuse_tenants(request)
    return _answered(request, await validation_settings.stored(request[SESSION]) or validation_settings.unsaid())


async def patch_validation_settings(request: web.Request) -> web.Response:
    no_query(request)
    await refuse_tenants(request)
    row = await validation_settings.stored_to_change(request[SESSION])
    match_version(request, row if row.version else validation_settings.unsaid())
    await change(request, row, replace(ValidationFields.of(row), **given(await body_of(request, _PATCH))))
    return _answered(request, row)


async def post_validation_test(request: web.Request) -> web.Response:
    no_query(request)
    await refuse_tenants(request)
    row = await note_test(request)
    return _answered(request, row or validation_settings.unsaid())


async def refuse_tenants(request: web.Request) -> None:
    """One validator serves every account here: where there are several, only platform operators see and set it.

    Raises:
        Forbidden: somebody of one account among several.
    """
    request[RESOURCE] = validation_settings.RESOURCE
    if not await may_set(request[SESSION], request[HOME]):
        raise Forbidden(
            "This validator is asked for every account here, so only a platform operator may see and change it. Ask "
            "whoever runs this server."
        )


async def change(request: web.Request, row: ValidationSettings, wished: ValidationFields) -> None:
    """Set who validates addresses; the next question goes there."""
    is_from_file = request.app[VALIDATOR].is_from_file
    outbound = request.app[OUTBOUND]
    validation_settings.update_validation_settings(
        request[SESSION], request[ACTOR], row, wished, outbound, is_from_file=is_from_file
    )
    await request[SESSION].flush()


async def note_test(request: web.Request) -> ValidationSettings | None:
    """Keep what came of the test that ran before this transaction."""
    tested = prepared(request, Tested)
    row = await validation_settings.stored(request[SESSION])
    validation_settings.note_test(
        request[SESSION], request[ACTOR], request[ACCOUNT].id, row, words=tested.words, is_ok=tested.is_ok
    )
    await request[SESSION].flush()
    return row


def facts_of(request: web.Request, row: ValidationSettings) -> dict[str, object]:
    """What pages and API tell of the settings in force: no secret, only whether there is one."""
    validator = request.app[VALIDATOR]
    told = {
        "provider": row.provider, "url": row.url, "auth": row.auth, "username": row.username,
        "has_secret": bool(row.secret), "source": "pages",
    }  # fmt: skip
    if validator.is_from_file:
        told |= {"provider": "lost", "url": validator.url, "auth": "none", "username": "", "has_secret": False}
        told["source"] = "configuration"
    return told | {"tried_at": row.tried_at, "tried_ok": row.tried_ok, "tried_words": row.tried_words}


def _answered(request: web.Request, row: ValidationSettings) -> web.Response:
    answer = ValidationSettingsAnswer.model_validate({**facts_of(request, row), "version": row.version})
    return answered(answer, row)


_PATCH = ValidationSettingsPatch
_PATH = "/api/v1/validation-settings"
ROUTES = (
    Route(
        "GET", _PATH, get_validation_settings, Scope.SECURITY_READ, Event.VALIDATION_SETTINGS_READ,
        operation=Operation("Who validates addresses", answer=ValidationSettingsAnswer, has_etag=True),
    ),
    Route(
        "PATCH", _PATH, patch_validation_settings, Scope.SECURITY_WRITE, Event.VALIDATION_SETTINGS_UPDATE,
        operation=Operation(
            "Set who validates addresses", body=ValidationSettingsPatch, answer=ValidationSettingsAnswer,
            if_match=True, has_etag=True, errors=(409,),
        ),
        step_up=True,
    ),
    Route(
        "POST", f"{_PATH}/test", post_validation_test, Scope.SECURITY_WRITE, Event.VALIDATION_SETTINGS_TEST,
        prepare=validator_tested,
        operation=Operation(
            "Ask the validator of one of the account's addresses", answer=ValidationSettingsAnswer, has_etag=True,
            errors=(409,),
        ),
    ),
)  # fmt: skip
