"""`/api/v1/users/{id}/two-factor` and `…/reset-2fa`: who has a second factor, and taking one away that was lost."""

from aiohttp import web

from admin.api import answered, no_content, no_query
from admin.api.models import Answer, Instant
from admin.api.users import standing_user
from admin.context import ACTOR, SCOPES, SESSION
from admin.routes import Operation, Route
from engine.accounts import devices, store_signin, two_factor
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.models import User


class TwoFactorAnswer(Answer):
    """What a user has besides a password; never a seed or a code.

    is_asked_for: whether the policy asks this user for it. must_set_up: whether the next sign-in makes the user
    set one up.
    """

    user_id: str
    app_since: Instant | None
    email_since: Instant | None
    recovery_codes_left: int
    is_asked_for: bool
    must_set_up: bool
    remembered_devices: int


async def get_two_factor(request: web.Request) -> web.Response:
    no_query(request)
    return await _answered(request, await standing_user(request))


async def post_reset(request: web.Request) -> web.Response:
    """Take all second factors of a user who lost them; their sessions and remembered devices end."""
    no_query(request)
    user = await standing_user(request)
    await two_factor.reset(request[SESSION], request[ACTOR], user, granted=request[SCOPES])
    await request[SESSION].flush()
    return await _answered(request, user)


async def delete_devices(request: web.Request) -> web.Response:
    """Ask for the second factor again in every browser of that user."""
    no_query(request)
    user = await standing_user(request)
    await two_factor.refuse_beyond(request[SESSION], request[ACTOR], user, request[SCOPES])
    await devices.forget(request[SESSION], request[ACTOR], user, devices.ALL)
    return no_content()


async def _answered(request: web.Request, user: User) -> web.Response:
    session = request[SESSION]
    policy = await store_signin.policy_of(session, user.account_id)
    factors = await store_signin.factors_of(session, user.id)
    remembered = await store_signin.devices_of(session, user.id, policy)
    return answered(
        TwoFactorAnswer(
            user_id=user.id,
            app_since=None if factors.totp is None else factors.totp.changed_at,
            email_since=None if factors.email is None else factors.email.changed_at,
            recovery_codes_left=two_factor.recovery_codes_left(factors),
            is_asked_for=two_factor.is_asked_for(policy, factors),
            must_set_up=two_factor.must_set_up(policy, factors),
            remembered_devices=len(remembered),
        )
    )


ROUTES = (
    Route(
        "GET", "/api/v1/users/{id}/two-factor", get_two_factor, Scope.TWO_FACTOR_READ, Event.TWO_FACTOR_READ,
        operation=Operation("A user's second factors", answer=TwoFactorAnswer),
    ),
    Route(
        "POST", "/api/v1/users/{id}/reset-2fa", post_reset, Scope.TWO_FACTOR_WRITE, Event.USER_RESET_2FA, step_up=True,
        operation=Operation("Reset a user's second factors", answer=TwoFactorAnswer, errors=(409,)),
    ),
    Route(
        "DELETE", "/api/v1/users/{id}/remembered-devices", delete_devices, Scope.TWO_FACTOR_WRITE,
        Event.REMEMBERED_DEVICE_DELETE, operation=Operation("Forget a user's remembered devices", status=204),
    ),
)  # fmt: skip
