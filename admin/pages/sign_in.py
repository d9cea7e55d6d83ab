"""Signing in, step by step: password, second factor, setting one up where the account requires it, a fresh password.

Each step is a page and a form that work without a script. Between the steps the browser holds the cookie of a half-open
sign-in, which opens nothing else; without a good one every step leads back to the password.
"""

import asyncio
from dataclasses import dataclass
from urllib.parse import quote

import segno
from aiohttp import web
from markupsafe import Markup

from admin import auth, held_forms
from admin.context import (
    ACTOR,
    CLIENT_IP,
    CODE_THROTTLE,
    DATABASE,
    KEYS,
    PASSWORDS,
    RESOURCE,
    SESSION,
    USER,
)
from admin.invitations import INVITER
from admin.pages.entry import own_address
from admin.pages.form import FORM, form_of, see_other, typed
from admin.render import render
from admin.routes import PUBLIC, Route
from engine.accounts import half_open, signin, store, store_signin, totp
from engine.accounts.half_open import Given, HalfOpenGone, Outcome, Stage
from engine.accounts.keys import digest
from engine.accounts.policy import Policy, Remember
from engine.accounts.signin import Proof
from engine.accounts.users import earlier_passwords
from engine.audit.events import Event
from engine.errors import Conflict, EngineError
from engine.models import Account, PendingSignIn, User

# of the half-open sign-in that this very answer begins: the browser does not send it yet
_BEGUN: web.RequestKey[str] = web.RequestKey("begun_sign_in", str)
_PAGES = {Stage.CODE: "/login/code", Stage.ENROL: "/login/enrol", Stage.RENEW: "/login/password"}


@dataclass(frozen=True, slots=True)
class HalfSignedIn:
    """Who has typed a password in this browser and is asked for more."""

    pending: PendingSignIn
    user: User
    account: Account
    policy: Policy


@dataclass(frozen=True, slots=True)
class FreshPassword:
    """A new password of a half-open sign-in, hashed."""

    pending_id: str
    hashed: str


async def get_login(request: web.Request) -> web.Response:
    if request.get(USER) is not None:
        return see_other(own_address(request.query.get("next", "/")))
    return await login_page(request, None)


async def login_page(request: web.Request, error: EngineError | None) -> web.Response:
    form = await form_of(request, {"email": "", "password": ""}, error)
    address = own_address(request.query.get("next", "") or await typed(request, "next"))
    has_account = await store.any_account(request[SESSION])
    held = await typed(request, "held")
    return render(request, "login.html.j2", error=error, form=form, next=address, has_account=has_account, held=held)


async def post_login(request: web.Request) -> web.Response:
    request[FORM] = login_page
    proof = auth.prepared(request, Proof)
    outcome = await half_open.enter(
        request[SESSION], request[ACTOR], proof, auth.browser_of(request, proof.user_id), request.app[KEYS],
        can_mail=request.app[INVITER].is_set_up,
    )  # fmt: skip
    return await gone_on(request, outcome, own_address(await typed(request, "next")))


async def gone_on(request: web.Request, outcome: Outcome, address: str) -> web.Response:
    """Send the browser on: to the page it wanted, or to the next step of signing in."""
    if outcome.stage is None:
        response = await _opened(request, outcome, address)
    else:
        await request[SESSION].flush()
        if outcome.mail_code:
            found = await store_signin.pending_by_cookie(request[SESSION], digest(outcome.cookie))
            assert found is not None, "made in this transaction"
            request.app[INVITER].mail_code(
                request[SESSION], found[0].id, outcome.user, outcome.mail_code, request[CLIENT_IP]
            )
        response = await _next_step(request, outcome.stage, outcome.cookie, address)
        if outcome.cookie:
            auth.set_cookie(request, response, outcome.cookie, auth.HALF_COOKIE)
    await _remember(request, response, outcome)
    return response


async def _next_step(request: web.Request, stage: Stage, cookie: str, address: str) -> web.Response:
    """The way to that step's page; the page itself when it takes a kept form along, which fits into no address."""
    if not await typed(request, "held"):
        return see_other(f"{_PAGES[stage]}?next={_quoted(address)}")
    if cookie:
        request[_BEGUN] = cookie
    pages = {Stage.CODE: _code_page, Stage.ENROL: _enrol_page, Stage.RENEW: _password_page}
    return await pages[stage](request, None)


async def _opened(request: web.Request, outcome: Outcome, address: str) -> web.Response:
    """The signed-in browser's way on; recovery codes are in the answer itself, since they are nowhere else."""
    held = await typed(request, "held")
    kept = held_forms.for_session(request, held, outcome.user.id, outcome.cookie) if held else None
    if outcome.recovery_codes:
        response = render(
            request, "recovery_codes.html.j2", codes=outcome.recovery_codes, next=address, kept=kept,
            frame="bare.html.j2",
        )  # fmt: skip
    elif kept is not None:
        response = render(request, "go_on.html.j2", address=kept.address, held=kept.held, next=address)
    else:
        response = see_other(address)
    auth.set_cookie(request, response, outcome.cookie)
    auth.drop_cookie(request, response, auth.HALF_COOKIE)
    return response


async def _remember(request: web.Request, response: web.Response, outcome: Outcome) -> None:
    if outcome.device:
        policy = await store_signin.policy_of(request[SESSION], outcome.user.account_id)
        age_s = int(policy.remembered_for.total_seconds())
        auth.set_cookie(request, response, outcome.device, auth.device_cookie(outcome.user.id), max_age_s=age_s)


def _quoted(address: str) -> str:
    return quote(address, safe="/")


async def _half(request: web.Request, *stages: Stage) -> HalfSignedIn | None:
    """The half-open sign-in of this browser when it waits for one of those; None: it begins with the password."""
    cookie = request.get(_BEGUN) or auth.cookie_of(request, auth.HALF_COOKIE)
    found = await store_signin.pending_by_cookie(request[SESSION], digest(cookie)) if cookie else None
    if found is None or found[0].stage not in stages:
        return None
    return HalfSignedIn(*found, await store_signin.policy_of(request[SESSION], found[2].id))


async def get_code(request: web.Request) -> web.Response:
    return await _code_page(request, None)


async def _code_page(request: web.Request, error: EngineError | None) -> web.Response:
    half = await _half(request, Stage.CODE)
    if half is None or isinstance(error, HalfOpenGone):
        return await _begin_again(request, error)
    factors = await store_signin.factors_of(request[SESSION], half.user.id)
    form = await form_of(request, {"code": "", "remember": False}, error)
    inviter = request.app[INVITER]
    return render(
        request, "sign_in_code.html.j2", error=error, form=form, half=half,
        next=await _next(request), has_app=factors.totp is not None, has_recovery=factors.recovery is not None,
        takes_mail=factors.email is not None and half.policy.email_codes, mails=inviter.is_set_up,
        posted=inviter.posted(half.pending.id), may_remember=half.policy.remember is Remember.REMEMBER,
        held=await typed(request, "held"),
    )  # fmt: skip


async def _begin_again(request: web.Request, error: EngineError | None) -> web.Response:
    """The password again: there is no half-open sign-in any more, or it takes no more codes."""
    if error is None:
        return see_other(f"/login?next={_quoted(await _next(request))}")
    return await login_page(request, error)


async def _next(request: web.Request) -> str:
    return own_address(request.query.get("next", "") or await typed(request, "next"))


async def prepare_code(request: web.Request) -> Given:
    """For a form with a `code`: what it is, compared outside of any write transaction."""
    return await compared(request, auth.cookie_of(request, auth.HALF_COOKIE))


async def compared(request: web.Request, cookie: str) -> Given:
    """The form's `code`, as that half-open sign-in's. Raises as `half_open.check_code`."""
    return await half_open.check_code(
        request.app[DATABASE], request.app[CODE_THROTTLE], request.app[KEYS], cookie=cookie,
        text=await typed(request, "code"), ip=request[CLIENT_IP], now=asyncio.get_running_loop().time(),
    )  # fmt: skip


async def post_code(request: web.Request) -> web.Response:
    """The second factor: the session opens, unless more is asked for."""
    request[FORM] = _code_page
    return await _finished(request)


async def _finished(request: web.Request) -> web.Response:
    given = auth.prepared(request, Given)
    half = await _half(request, Stage.CODE, Stage.ENROL)
    if half is None:
        raise HalfOpenGone(reason="no_half_open_sign_in")
    outcome = await half_open.finish(
        request[SESSION], request[ACTOR], given, auth.browser_of(request, half.user.id), request.app[KEYS],
        is_to_be_remembered=await typed(request, "remember") == "on",
    )  # fmt: skip
    request.app[CODE_THROTTLE].forgive(half.user.id, request[CLIENT_IP])
    return await gone_on(request, outcome, await _next(request))


async def post_mail(request: web.Request) -> web.Response:
    """Mail a code, or another one; the page says how far the mail is."""
    stages = (Stage.CODE, Stage.ENROL)
    half = await _half(request, *stages)
    request[FORM] = _code_page if half is None or half.pending.stage == Stage.CODE else _enrol_page
    if half is None:
        raise HalfOpenGone(reason="no_half_open_sign_in")
    inviter = request.app[INVITER]
    if not inviter.is_set_up:
        raise Conflict("No mail server is set up here, so no code can be mailed. Use an app or a recovery code.")
    code = await half_open.mail_code(request[SESSION], request[ACTOR], half.pending, half.user, request.app[KEYS])
    inviter.mail_code(request[SESSION], half.pending.id, half.user, code, request[CLIENT_IP])
    return await _next_step(request, Stage(half.pending.stage), "", await _next(request))


async def get_enrol(request: web.Request) -> web.Response:
    return await _enrol_page(request, None)


async def _enrol_page(request: web.Request, error: EngineError | None) -> web.Response:
    """Setting a second factor up before the session opens: an authenticator app, or codes by mail where allowed."""
    half = await _half(request, Stage.ENROL)
    if half is None or half.pending.seed is None or isinstance(error, HalfOpenGone):
        return await _begin_again(request, error)
    inviter = request.app[INVITER]
    return render(
        request, "sign_in_enrol.html.j2", error=error, half=half,
        form=await form_of(request, {"code": ""}, error), next=await _next(request),
        code=qr_of(half.pending.seed, half.user, half.account), seed=totp.grouped(half.pending.seed),
        takes_mail=half.policy.email_codes and inviter.is_set_up, posted=inviter.posted(half.pending.id),
        held=await typed(request, "held"),
    )  # fmt: skip


def qr_of(seed: str, user: User, account: Account) -> Markup:
    """What an authenticator app's camera reads, as SVG without a style; dark on light in both themes."""
    made = segno.make(totp.uri_of(seed, user.email, account.name), error="m", micro=False)
    svg = made.svg_inline(scale=5, border=4, dark="#000", light="#fff", omitsize=True, svgclass="qr", lineclass=None)
    return Markup(svg)  # noqa: S704  # made by segno of its own numbers


async def post_enrol(request: web.Request) -> web.Response:
    """The first code of the new second factor: it is kept, and the session opens."""
    request[FORM] = _enrol_page
    return await _finished(request)


async def get_password(request: web.Request) -> web.Response:
    return await _password_page(request, None)


async def _password_page(request: web.Request, error: EngineError | None) -> web.Response:
    half = await _half(request, Stage.RENEW)
    if half is None or isinstance(error, HalfOpenGone):
        return await _begin_again(request, error)
    return render(
        request, "sign_in_password.html.j2", error=error, half=half,
        form=await form_of(request, {"password": ""}, error), next=await _next(request),
        held=await typed(request, "held"),
    )  # fmt: skip


async def prepare_fresh_password(request: web.Request) -> FreshPassword:
    """For a form with a new `password` of who signs in: its hash, by the account's rules, not the present one."""
    cookie = auth.cookie_of(request, auth.HALF_COOKIE)
    async with request.app[DATABASE].sessions() as session:
        found = await store_signin.pending_by_cookie(session, digest(cookie)) if cookie else None
        if found is None or found[0].stage != Stage.RENEW:
            raise HalfOpenGone(reason="no_half_open_sign_in")
        pending, user, account = found
        policy = await store_signin.policy_of(session, account.id)
        earlier = await earlier_passwords(session, user.id)
    request[ACTOR] = signin.as_user(request[ACTOR], user)  # their first password was right: a refusal is told by name
    request[RESOURCE] = ("user", user.id, user.name or user.email)
    password = (await request.post()).get("password", "")
    hashed = await request.app[PASSWORDS].renewed(
        password if isinstance(password, str) else "", (account.name, user.email, user.name), policy, earlier
    )
    return FreshPassword(pending.id, hashed)


async def post_password(request: web.Request) -> web.Response:
    request[FORM] = _password_page
    fresh = auth.prepared(request, FreshPassword)
    half = await _half(request, Stage.RENEW)
    if half is None:
        raise HalfOpenGone(reason="no_half_open_sign_in")
    outcome = await half_open.finish_with_password(
        request[SESSION], request[ACTOR], fresh.pending_id, fresh.hashed, auth.browser_of(request, half.user.id)
    )
    return await gone_on(request, outcome, await _next(request))


_READ, _MAKE = Event.SIGN_IN_READ, Event.SESSION_CREATE
ROUTES = (
    Route("GET", "/login", get_login, PUBLIC, Event.LOGIN_PAGE_READ),
    Route("POST", "/login", post_login, PUBLIC, _MAKE, prepare=auth.prepare_sign_in),
    Route("GET", "/login/code", get_code, PUBLIC, _READ),
    Route("POST", "/login/code", post_code, PUBLIC, _MAKE, prepare=prepare_code),
    Route("POST", "/login/mail", post_mail, PUBLIC, Event.SIGN_IN_SEND_CODE),
    Route("GET", "/login/enrol", get_enrol, PUBLIC, _READ),
    Route("POST", "/login/enrol", post_enrol, PUBLIC, _MAKE, prepare=prepare_code),
    Route("GET", "/login/password", get_password, PUBLIC, _READ),
    Route("POST", "/login/password", post_password, PUBLIC, _MAKE, prepare=prepare_fresh_password),
)
