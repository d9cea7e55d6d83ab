"""One's own page: password, second factors, recovery codes, remembered browsers, sessions.

For people alone: an API key has no profile. What concerns oneself stands in one's own account's log, whomever a
platform operator acts for at the moment.
"""

from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import web

from admin import auth
from admin.context import BROWSER, CLIENT_IP, CODE_THROTTLE, DATABASE, HOME, KEYS, PASSWORDS, RESOURCE, SESSION, USER
from admin.invitations import INVITER
from admin.pages.form import FORM, form_of, see_other, typed
from admin.pages.sign_in import compared, qr_of
from admin.render import render
from admin.routes import SIGNED_IN, Route
from engine.accounts import devices, half_open, operations, signin, store, store_signin, totp, two_factor
from engine.accounts.half_open import Given, HalfOpenGone, Stage
from engine.accounts.keys import digest
from engine.accounts.passwords import fault_of
from engine.accounts.signin import ProofRequired, SignInRefused
from engine.accounts.store_signin import EMAIL, TOTP
from engine.accounts.users import earlier_passwords
from engine.audit.events import Event
from engine.errors import Conflict, EngineError, FieldFault, Forbidden, Invalid, NotFound
from engine.models import Session, User

_PATH = "/profile"
_SET_UP = "/profile/two-factor"


@dataclass(frozen=True, slots=True)
class NewPassword:
    """A password change whose present password was right: the new one's hash."""

    hashed: str


def _user(request: web.Request) -> User:
    if USER not in request:
        raise Forbidden("An API key has no profile: sign in with a browser.")
    user = request[USER]
    request[RESOURCE] = ("user", user.id, user.name or user.email)
    return user


def _proven(request: web.Request) -> User:
    """The signed-in user, who typed the password within the last minutes.

    Raises:
        ProofRequired: it must be typed again first.
    """
    user = _user(request)
    if not signin.is_proven(request[BROWSER]):
        raise ProofRequired
    return user


async def get_profile(request: web.Request) -> web.Response:
    return await _page(request, None)


async def _page(request: web.Request, error: EngineError | None) -> web.Response:
    user, session = _user(request), request[SESSION]
    policy = await store_signin.policy_of(session, user.account_id)
    factors = await store_signin.factors_of(session, user.id)
    return render(
        request, "profile.html.j2", error=error, policy=policy, factors=factors,
        form=await form_of(request, {"password": "", "new_password": ""}, error), mails=request.app[INVITER].is_set_up,
        codes_left=two_factor.recovery_codes_left(factors), own=request[BROWSER].id,
        devices=await store_signin.devices_of(session, user.id, policy),
        sessions=await store.live_sessions_of(session, user.id, policy),
    )  # fmt: skip


async def prepare_new_password(request: web.Request) -> NewPassword:
    """For a form with the present `password` and a `new_password`: both are looked at before any is answered for."""
    user = _user(request)
    text = {name: (await request.post()).get(name, "") for name in ("password", "new_password")}
    present, wished = (value if isinstance(value, str) else "" for value in text.values())
    async with request.app[DATABASE].sessions() as session:
        policy = await store_signin.policy_of(session, user.account_id)
        earlier = await earlier_passwords(session, user.id)
    context = (request[HOME].name, user.email, user.name)
    try:
        await auth.check_password(request, user.email, present)
    except SignInRefused as refused:
        # its likeness to the present one is not told here: that would try passwords without the pauses
        wrong = fault_of(wished, context, policy)
        faults = [FieldFault("password", "This is not your present password.")]
        faults += [FieldFault("new_password", wrong)] if wrong else []
        raise Invalid("Nothing was changed.", fields=tuple(faults)) from refused
    return NewPassword(await request.app[PASSWORDS].renewed(wished, context, policy, earlier, "new_password"))


async def post_password(request: web.Request) -> web.Response:
    """Change one's own password: every other session and every remembered browser ends."""
    request[FORM] = _page
    user, fresh = _user(request), auth.prepared(request, NewPassword)
    await operations.change_password(
        request[SESSION], auth.own_actor(request, user), user, fresh.hashed, keep_session=request[BROWSER].id
    )
    return see_other(_PATH, "password")


async def post_set_up(request: web.Request) -> web.Response:
    """Begin setting a second factor up; with codes by mail, the first one is on its way."""
    request[FORM] = _page
    user, kind = _proven(request), await typed(request, "kind")
    session, actor = request[SESSION], auth.own_actor(request, user)
    if kind not in {TOTP, EMAIL}:
        raise Invalid("Nothing was set up.", fields=(FieldFault("kind", "Expected totp or email."),))
    inviter = request.app[INVITER]
    if kind == EMAIL and not inviter.is_set_up:
        raise Conflict("No mail server is set up here, so no code can be mailed. Use an authenticator app.")
    pending = await half_open.begin_set_up(session, actor, request[BROWSER], user)
    if kind == EMAIL:
        code = await half_open.first_code(session, pending, user, request.app[KEYS])
        inviter.mail_code(session, pending.id, user, code, request[CLIENT_IP])
    return see_other(f"{_SET_UP}?kind={quote(kind)}")


async def get_set_up(request: web.Request) -> web.Response:
    return await _set_up_page(request, None)


async def _set_up_page(request: web.Request, error: EngineError | None) -> web.Response:
    user = _proven(request)
    cookie = half_open.set_up_cookie(request[BROWSER])
    found = await store_signin.pending_by_cookie(request[SESSION], digest(cookie))
    if found is None or found[0].stage != Stage.PROFILE or isinstance(error, HalfOpenGone):
        return see_other(_PATH) if error is None else await _page(request, error)
    pending, _owner, account = found
    seed = pending.seed or ""
    kind = EMAIL if pending.code_hash is not None else TOTP
    return render(
        request, "profile_two_factor.html.j2", error=error, kind=kind,
        form=await form_of(request, {"code": ""}, error), code=qr_of(seed, user, account),
        seed=totp.grouped(seed), posted=request.app[INVITER].posted(pending.id),
    )  # fmt: skip


async def prepare_set_up_code(request: web.Request) -> Given:
    _user(request)
    return await compared(request, half_open.set_up_cookie(request[BROWSER]))


async def post_set_up_code(request: web.Request) -> web.Response:
    """The first code of the new second factor: it is kept; recovery codes are in the answer, when they are new."""
    request[FORM] = _set_up_page
    user, given = _proven(request), auth.prepared(request, Given)
    codes = await half_open.finish_set_up(request[SESSION], auth.own_actor(request, user), user, given)
    request.app[CODE_THROTTLE].forgive(user.id, request[CLIENT_IP])
    return _shown_once(request, codes) if codes else see_other(_PATH, "factor-set")


def _shown_once(request: web.Request, codes: tuple[str, ...]) -> web.Response:
    return render(request, "recovery_codes.html.j2", codes=codes, next=_PATH, frame="base.html.j2")


async def post_recovery_codes(request: web.Request) -> web.Response:
    request[FORM] = _page
    user = _proven(request)
    codes = await two_factor.renew_recovery_codes(request[SESSION], auth.own_actor(request, user), user)
    return _shown_once(request, codes)


async def post_remove(request: web.Request) -> web.Response:
    request[FORM] = _page
    user = _proven(request)
    await two_factor.remove_factor(request[SESSION], auth.own_actor(request, user), user, await typed(request, "kind"))
    return see_other(_PATH, "factor-removed")


async def post_forget(request: web.Request) -> web.Response:
    """Ask for a code again in one browser that is remembered, or in all."""
    user = _user(request)
    await devices.forget(request[SESSION], auth.own_actor(request, user), user, request.match_info["id"])
    return see_other(_PATH, "device-forgotten")


async def post_end_session(request: web.Request) -> web.Response:
    user = _user(request)
    row = await store.row_of(request[SESSION], Session, user.account_id, request.match_info["id"])
    if row.user_id != user.id or row.id == request[BROWSER].id:
        raise NotFound("You have no other session of that id.")
    await operations.revoke_session(request[SESSION], auth.own_actor(request, user), row)
    return see_other(_PATH, "session-ended")


async def post_end_others(request: web.Request) -> web.Response:
    user = _user(request)
    await operations.revoke_other_sessions(request[SESSION], auth.own_actor(request, user), user, request[BROWSER])
    return see_other(_PATH, "sessions-ended")


ROUTES = (
    Route("GET", _PATH, get_profile, SIGNED_IN, Event.PROFILE_READ),
    Route("POST", "/profile/password", post_password, SIGNED_IN, Event.PASSWORD_CHANGE, prepare=prepare_new_password),
    Route("POST", _SET_UP, post_set_up, SIGNED_IN, Event.TWO_FACTOR_BEGIN),
    Route("GET", _SET_UP, get_set_up, SIGNED_IN, Event.TWO_FACTOR_READ),
    Route(
        "POST", "/profile/two-factor/code", post_set_up_code, SIGNED_IN, Event.TWO_FACTOR_ENROL,
        prepare=prepare_set_up_code,
    ),
    Route("POST", "/profile/two-factor/remove", post_remove, SIGNED_IN, Event.TWO_FACTOR_REMOVE),
    Route("POST", "/profile/recovery-codes", post_recovery_codes, SIGNED_IN, Event.RECOVERY_CODE_CREATE),
    Route("POST", "/profile/devices/{id}/forget", post_forget, SIGNED_IN, Event.REMEMBERED_DEVICE_DELETE),
    Route("POST", "/profile/sessions/{id}/end", post_end_session, SIGNED_IN, Event.SESSION_DELETE),
    Route("POST", "/profile/sessions/end-others", post_end_others, SIGNED_IN, Event.SESSION_DELETE),
)  # fmt: skip
