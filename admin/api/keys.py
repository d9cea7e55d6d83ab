"""`/api/v1/api-keys`: keys for scripts. The clear key is in the answer to its creation and nowhere else."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from admin.api import answered, body_of, no_content, no_query, row_named
from admin.api.models import Body, Instant, InstantIn, Name, StampedAnswer
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.context import ACCOUNT, ACTOR, SCOPES, SESSION
from admin.routes import Operation, Route
from engine.accounts import operations
from engine.accounts.scopes import PRESETS, Preset, Scope
from engine.audit.events import Event
from engine.errors import FieldFault, Invalid
from engine.models import ApiKey


class ApiKeyAnswer(StampedAnswer):
    name: str
    hint: str
    scopes: list[str]
    created_by: str | None
    expires_at: Instant | None
    revoked_at: Instant | None
    last_used_at: Instant | None
    last_used_ip: str | None


class NewApiKeyAnswer(ApiKeyAnswer):
    """`key` is shown this once."""

    key: str


class ApiKeyCreate(Body):
    """`*` is every scope; nobody gives a key more than they may do themselves. `scopes` or a `preset`, not both."""

    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))] | None = None
    preset: Preset | None = None
    expires_at: InstantIn | None = None


async def list_api_keys(request: web.Request) -> web.Response:
    return await list_rows(request, ApiKey, plainly(ApiKeyAnswer.model_validate))


async def get_api_key(request: web.Request) -> web.Response:
    no_query(request)
    row = await row_named(request, ApiKey)
    return answered(ApiKeyAnswer.model_validate(row), row)


async def post_api_key(request: web.Request) -> web.Response:
    no_query(request)
    body = await body_of(request, ApiKeyCreate)
    made = await operations.create_api_key(
        request[SESSION], request[ACTOR], request[ACCOUNT],
        name=body.name, scopes=_scopes_asked(body), expires_at=body.expires_at,
        granted=request[SCOPES],
    )  # fmt: skip
    await request[SESSION].flush()
    shown = ApiKeyAnswer.model_validate(made.row).model_dump() | {"key": made.clear}
    return answered(
        NewApiKeyAnswer.model_validate(shown), made.row, status=201, location=f"/api/v1/api-keys/{made.row.id}"
    )


def _scopes_asked(body: ApiKeyCreate) -> list[str]:
    """The scopes to give, named or by their preset.

    Raises:
        Invalid: neither, or both: a preset stands for its scopes and no other.
    """
    if (body.scopes is None) == (body.preset is None):
        fault = FieldFault("scopes", "Expected either scopes or a preset, and not both.")
        raise Invalid("The key cannot be made.", fields=(fault,))
    chosen = PRESETS[body.preset] if body.preset is not None else body.scopes or []
    return sorted(scope.value for scope in chosen)


async def delete_api_key(request: web.Request) -> web.Response:
    no_query(request)
    row = await row_named(request, ApiKey, to_change=True)
    await operations.revoke_api_key(request[SESSION], request[ACTOR], row)
    return no_content()


ROUTES = (
    Route(
        "GET", "/api/v1/api-keys", list_api_keys, Scope.API_KEYS_READ, Event.API_KEY_LIST,
        operation=Operation("List API keys", answer=ApiKeyAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "POST", "/api/v1/api-keys", post_api_key, Scope.API_KEYS_WRITE, Event.API_KEY_CREATE, step_up=True,
        operation=Operation("Make an API key", body=ApiKeyCreate, answer=NewApiKeyAnswer, status=201, has_etag=True),
    ),
    Route(
        "GET", "/api/v1/api-keys/{id}", get_api_key, Scope.API_KEYS_READ, Event.API_KEY_READ,
        operation=Operation("One API key", answer=ApiKeyAnswer, has_etag=True),
    ),
    Route(
        "DELETE", "/api/v1/api-keys/{id}", delete_api_key, Scope.API_KEYS_WRITE, Event.API_KEY_REVOKE,
        operation=Operation("Revoke an API key", status=204, if_match=True),
    ),
)  # fmt: skip
