"""`/api/v1/storage-settings`: how long records are kept, and how many there are."""

from collections.abc import Mapping
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from admin.api import answered, body_of, given, match_version, no_query
from admin.api.models import Answer, Body, Instant, patch_of
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, DATABASE, RESOURCE, SESSION
from admin.routes import Operation, Route
from admin.storage_facts import Facts, held, removals
from engine.accounts import storage, store, store_storage
from engine.accounts.keeping import DEFAULT, MOST_DAYS, MOST_FETCH_DAYS, Keeping
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.audit.store_beginnings import begins_behind
from engine.db import utc_now
from engine.models import Account, StorageSettings

_Days = Annotated[int, Field(ge=0, le=MOST_DAYS)]


class HeldAnswer(Answer):
    """Records of one kind that are there now."""

    count: int
    is_least: bool
    since: Instant | None


class StorageAnswer(Answer):
    """The settings as they hold, defaults included, and what is there of each kind."""

    audit_days: int
    call_days: int
    session_days: int
    fetch_log_days: int
    audit: HeldAnswer
    calls: HeldAnswer
    sessions: HeldAnswer
    fetch_log: HeldAnswer
    audit_begins_behind: int
    version: int


class StorageBody(Body):
    audit_days: _Days
    call_days: _Days
    session_days: _Days
    fetch_log_days: Annotated[int, Field(ge=1, le=MOST_FETCH_DAYS)]
    accept_removal: bool


StoragePatch = patch_of(StorageBody, "StoragePatch")


async def count(request: web.Request, changes: Mapping[str, Any]) -> Facts:
    """What there is of each kind, and what those times would remove."""
    account_id = request[ACCOUNT].id
    async with request.app[DATABASE].sessions() as session:
        return Facts(await held(session, account_id), await removals(session, account_id, changes, utc_now()))


async def count_held(request: web.Request) -> Facts:
    return await count(request, {})


async def count_for_patch(request: web.Request) -> Facts:
    return await count(request, given(await body_of(request, StoragePatch)))


async def get_storage_settings(request: web.Request) -> web.Response:
    no_query(request)
    account = _account(request)
    return await _answered(request, await store_storage.settings_row(request[SESSION], account.id) or unsaid(account))


async def patch_storage_settings(request: web.Request) -> web.Response:
    no_query(request)
    session, account = request[SESSION], _account(request)
    await store.lock_account(session, account)
    row = await store_storage.settings_row_to_change(session, account.id)
    match_version(request, row)
    facts = prepared(request, Facts)  # raises what is wrong with the body
    changes = given(await body_of(request, StoragePatch))
    is_accepted = bool(changes.pop(storage.ACCEPT, False))
    change(request, row, changes, facts, is_accepted=is_accepted)
    await session.flush()
    return await _answered(request, row)


def change(
    request: web.Request, row: StorageSettings, changes: Mapping[str, int], facts: Facts, *, is_accepted: bool
) -> None:
    """Change the settings, for the API and the page alike.

    Args:
        facts: What `count` found for these changes.

    Raises:
        Invalid: every bad field, or that records would be removed and nobody said that they may.
    """
    session, account = request[SESSION], request[ACCOUNT]
    wished, shortened = storage.wished(row, changes)
    lost = [removal for removal in facts.removals if removal.name in shortened]
    storage.update_storage(session, request[ACTOR], account, row, wished, lost, is_accepted=is_accepted)


def unsaid(account: Account) -> StorageSettings:
    """The defaults as a row that is not stored: its version 0 is what a first change names."""
    now = utc_now()
    return StorageSettings(account_id=account.id, version=0, created_at=now, updated_at=now, **DEFAULT.values())


def _account(request: web.Request) -> Account:
    account: Account = request[ACCOUNT]
    request[RESOURCE] = ("storage_settings", account.id, account.name)
    return account


async def _answered(request: web.Request, row: StorageSettings) -> web.Response:
    facts = prepared(request, Facts).held
    values = Keeping.of(row).values() | {
        "audit": facts["audit_days"], "calls": facts["call_days"], "sessions": facts["session_days"],
        "fetch_log": facts["fetch_log_days"], "version": row.version,
        "audit_begins_behind": await begins_behind(request[SESSION], row.account_id),
    }  # fmt: skip
    return answered(StorageAnswer.model_validate(values), row)


_PATH = "/api/v1/storage-settings"
ROUTES = (
    Route(
        "GET", _PATH, get_storage_settings, Scope.SECURITY_READ, Event.STORAGE_SETTINGS_READ,
        prepare=count_held, operation=Operation("How long records are kept", answer=StorageAnswer, has_etag=True),
    ),
    Route(
        "PATCH", _PATH, patch_storage_settings, Scope.SECURITY_WRITE, Event.STORAGE_SETTINGS_UPDATE, step_up=True,
        prepare=count_for_patch,
        operation=Operation(
            "Change how long records are kept", body=StoragePatch, answer=StorageAnswer, if_match=True, has_etag=True
        ),
    ),
)  # fmt: skip
