"""`/api/v1/security-policy`: how the account's users sign in: passwords, sessions, pauses, second factors, devices."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from admin.api import answered, body_of, given, match_version, no_query
from admin.api.models import Answer, Body, patch_of
from admin.context import ACCOUNT, ACTOR, BROWSER, RESOURCE, SESSION
from admin.routes import Operation, Route
from engine.accounts import security, store, store_signin
from engine.accounts.policy import Policy, Remember, TwoFactor, range_of
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.db import utc_now
from engine.models import Account, SecurityPolicy


def _whole(name: str) -> object:
    least, most = range_of(name)
    return Field(ge=least, le=most)


class SecurityPolicyAnswer(Answer):
    """The policy as it holds, defaults included.

    without_two_factor: active users who have no second factor yet. with_codes_by_mail_alone: active users who have
    codes by mail and no app: switched off, a recovery code or a reset is their way in.
    """

    password_min_length: int
    password_min_score: int
    password_reuse: int
    password_max_age_days: int
    session_idle_minutes: int
    session_absolute_minutes: int
    failed_sign_ins: int
    pause_s: int
    inactive_days: int
    two_factor: TwoFactor
    email_codes: bool
    remember: Remember
    remember_days: int
    without_two_factor: int
    with_codes_by_mail_alone: int
    version: int


class SecurityPolicyBody(Body):
    password_min_length: Annotated[int, _whole("password_min_length")]
    password_min_score: Annotated[int, _whole("password_min_score")]
    password_reuse: Annotated[int, _whole("password_reuse")]
    password_max_age_days: Annotated[int, _whole("password_max_age_days")]
    session_idle_minutes: Annotated[int, _whole("session_idle_minutes")]
    session_absolute_minutes: Annotated[int, _whole("session_absolute_minutes")]
    failed_sign_ins: Annotated[int, _whole("failed_sign_ins")]
    pause_s: Annotated[int, _whole("pause_s")]
    inactive_days: Annotated[int, _whole("inactive_days")]
    two_factor: TwoFactor
    email_codes: bool
    remember: Remember
    remember_days: Annotated[int, _whole("remember_days")]


SecurityPolicyPatch = patch_of(SecurityPolicyBody, "SecurityPolicyPatch")


async def get_security_policy(request: web.Request) -> web.Response:
    no_query(request)
    account = _account(request)
    row = await store_signin.policy_row(request[SESSION], account.id)
    return await _answered(request, row or unsaid(account))


async def patch_security_policy(request: web.Request) -> web.Response:
    no_query(request)
    account = _account(request)
    await store.lock_account(request[SESSION], account)
    row = await store_signin.policy_row_to_change(request[SESSION], account.id)
    match_version(request, row)
    changes = given(await body_of(request, SecurityPolicyPatch))
    await security.update_policy(
        request[SESSION], request[ACTOR], account, row, changes, asking=asking_session(request)
    )
    await request[SESSION].flush()
    return await _answered(request, row)


def asking_session(request: web.Request) -> str:
    """The session that asks; empty: none does, but an API key."""
    browser = request.get(BROWSER)
    return "" if browser is None else browser.id


def unsaid(account: Account) -> SecurityPolicy:
    """The defaults as a row that is not stored: its version 0 is what a first change names."""
    now = utc_now()
    return SecurityPolicy(account_id=account.id, version=0, created_at=now, updated_at=now, **Policy().values())


def _account(request: web.Request) -> Account:
    account: Account = request[ACCOUNT]
    request[RESOURCE] = ("security_policy", account.id, account.name)
    return account


async def _answered(request: web.Request, row: SecurityPolicy) -> web.Response:
    missing = await store_signin.users_without_factor(request[SESSION], row.account_id)
    mailed = await store_signin.users_with_mail_alone(request[SESSION], row.account_id)
    told = {"without_two_factor": missing, "with_codes_by_mail_alone": mailed, "version": row.version}
    values = Policy.of(row).values() | told
    return answered(SecurityPolicyAnswer.model_validate(values), row)


_PATH = "/api/v1/security-policy"
ROUTES = (
    Route(
        "GET", _PATH, get_security_policy, Scope.SECURITY_READ, Event.SECURITY_POLICY_READ,
        operation=Operation("The security policy", answer=SecurityPolicyAnswer, has_etag=True),
    ),
    Route(
        "PATCH", _PATH, patch_security_policy, Scope.SECURITY_WRITE, Event.SECURITY_POLICY_UPDATE, step_up=True,
        operation=Operation(
            "Change the security policy", body=SecurityPolicyPatch, answer=SecurityPolicyAnswer, if_match=True,
            has_etag=True,
        ),
    ),
)  # fmt: skip
