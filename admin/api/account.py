"""`/api/v1/account`: the account that the key or session belongs to."""

from collections.abc import Collection
from dataclasses import replace
from typing import Annotated, Any

from aiohttp import hdrs, web
from pydantic import Field

from admin.api import answered, body_of, given, match_version, no_query
from admin.api.models import Body, Id, Instant, Instructions, Name, Number, Prefix, StampedAnswer, Text, patch_of
from admin.context import ACCOUNT, ACTOR, RESOURCE, SESSION
from admin.routes import Operation, Route
from admin.stale import versions_since, who_changed
from engine.accounts import operations, store
from engine.accounts.operations import AccountFields
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import Stale
from engine.models import Account


class BillingAddress(Body):
    name: Text = ""
    street: Text = ""
    city: Text = ""
    state: Text = ""
    postal_code: Text = ""
    country: Text = ""


class AccountAnswer(StampedAnswer):
    name: str
    email: str
    phone: str
    timezone: str
    language: str
    country: str
    billing_address: dict[str, Any]
    emergency_enabled: bool
    callback_number: str | None
    default_location_id: str | None
    elin_hold_minutes: int
    trunk_group_id: str | None
    notification_prefix: str
    notification_text: str
    provisioning_token_at: Instant | None


class AccountBody(Body):
    """Fields of the account; `callback_number` is what responders call back when nothing nearer is known."""

    name: Name
    email: Text = ""
    phone: Text = ""
    timezone: Text
    language: Text
    country: Text
    billing_address: BillingAddress
    emergency_enabled: bool
    callback_number: Number | None = None
    default_location_id: Id | None = None
    elin_hold_minutes: Annotated[int, Field(ge=30, le=1440)] = 180
    trunk_group_id: Id | None = None
    notification_prefix: Prefix = ""
    notification_text: Instructions = ""


AccountPatch = patch_of(AccountBody, "AccountPatch")


async def get_account(request: web.Request) -> web.Response:
    no_query(request)
    account = request[ACCOUNT]
    request[RESOURCE] = ("account", account.id, account.name)
    return answered(AccountAnswer.model_validate(account), account)


async def patch_account(request: web.Request) -> web.Response:
    no_query(request)
    account = request[ACCOUNT]
    request[RESOURCE] = ("account", account.id, account.name)
    await store.lock_account(request[SESSION], account)
    changes = given(await body_of(request, AccountPatch))
    await _match(request, account, changes)
    wished = replace(AccountFields.of(account), **changes)
    await operations.update_account(request[SESSION], request[ACTOR], account, wished)
    await request[SESSION].flush()
    return answered(AccountAnswer.model_validate(account), account)


async def _match(request: web.Request, account: Account, fields: Collection[str]) -> None:
    """As `match_version`; the refusal says who changed what meanwhile, first of all of these fields, for the page that
    sent the older state.
    """
    try:
        match_version(request, account)
    except Stale as stale:
        seen = request.headers[hdrs.IF_MATCH].strip('"')
        told = await who_changed(
            request[SESSION], account, account.id, since=account.updated_at, fields=fields,
            versions=versions_since(seen, account.version),
        )  # fmt: skip
        raise Stale(f"{stale.detail} {told}".strip()) from None


ROUTES = (
    Route(
        "GET", "/api/v1/account", get_account, Scope.ACCOUNT_READ, Event.ACCOUNT_READ,
        operation=Operation("The account", answer=AccountAnswer, has_etag=True),
    ),
    Route(
        "PATCH", "/api/v1/account", patch_account, Scope.ACCOUNT_WRITE, Event.ACCOUNT_UPDATE,
        operation=Operation(
            "Change the account", body=AccountPatch, answer=AccountAnswer, if_match=True, has_etag=True
        ),
    ),
)  # fmt: skip
