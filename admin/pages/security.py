"""The security page of Settings: passwords, sessions, pauses, users away for too long, second factors, devices."""

from typing import Any

from aiohttp import web

from admin.api.security import asking_session, unsaid
from admin.context import ACCOUNT, ACTOR, RESOURCE, SESSION
from admin.invitations import INVITER
from admin.pages.form import FORM, form_of, gathered, refuse, refuse_stale, see_other, typed, whole_number
from admin.render import render
from admin.routes import Route
from engine.accounts import security, store, store_signin
from engine.accounts.policy import Policy, Remember, TwoFactor, changed, range_of
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import EngineError, FieldFault
from engine.models import SecurityPolicy

_PATH = "/settings/security"
_NUMBERS = (
    "password_min_length", "password_min_score", "password_reuse", "password_max_age_days", "session_idle_minutes",
    "session_absolute_minutes", "failed_sign_ins", "pause_s", "inactive_days", "remember_days",
)  # fmt: skip
SCORES = (
    ("0", "No check"), ("1", "Very guessable is refused"), ("2", "Guessable is refused"),
    ("3", "Safely unguessable (recommended)"), ("4", "Very unguessable"),
)  # fmt: skip


async def get_security(request: web.Request) -> web.Response:
    return await _page(request, None)


async def _page(request: web.Request, error: EngineError | None) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    row = await store_signin.policy_row(session, account.id) or unsaid(account)
    policy = Policy.of(row)
    unused = await store_signin.unused_under(session, account.id, policy)
    return render(
        request, "security.html.j2", error=error, policy=policy, row=row,
        form=await form_of(request, policy.values(), error), scores=SCORES, mails=request.app[INVITER].is_set_up,
        without=await store_signin.users_without_factor(session, account.id), unused=unused,
        mail_alone=await store_signin.users_with_mail_alone(session, account.id),
        ranges={name: range_of(name) for name in _NUMBERS},
    )  # fmt: skip


async def post_security(request: web.Request) -> web.Response:
    request[FORM] = _page
    session, account = request[SESSION], request[ACCOUNT]
    request[RESOURCE] = ("security_policy", account.id, account.name)
    await store.lock_account(session, account)
    row: SecurityPolicy = await store_signin.policy_row_to_change(session, account.id)
    await refuse_stale(request, row)
    faults: list[FieldFault] = []
    changes = await _typed(request, Policy.of(row), faults)
    faults += [fault for fault in changed(Policy.of(row), changes)[1] if fault not in faults]
    refuse(faults)
    await security.update_policy(session, request[ACTOR], account, row, changes, asking=asking_session(request))
    return see_other(_PATH, "security-saved")


async def _typed(request: web.Request, policy: Policy, faults: list[FieldFault]) -> dict[str, Any]:
    changes: dict[str, Any] = {
        "two_factor": await typed(request, "two_factor") or TwoFactor.OPTIONAL.value,
        "remember": await typed(request, "remember") or Remember.EACH_LOGIN.value,
        "email_codes": await typed(request, "email_codes") == "on",
    }
    for name in _NUMBERS:
        with gathered(faults):
            changes[name] = await whole_number(request, name, getattr(policy, name))
    return changes


ROUTES = (
    Route("GET", _PATH, get_security, Scope.SECURITY_READ, Event.SECURITY_POLICY_READ),
    Route("POST", _PATH, post_security, Scope.SECURITY_WRITE, Event.SECURITY_POLICY_UPDATE, step_up=True),
)
