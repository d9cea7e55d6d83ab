"""Who asks, and whether they may: API keys, session cookies, scopes, fresh proof of a password, cross-site requests.

Theory of operation. Authentication happens inside the request's one transaction, so that a revoked key or session is
dead at its next request. Passwords are compared before it, in a route's `prepare` step: the steps that pages need
(`prepare_sign_in`, `prepare_proof`, `prepare_password`) are here. A half-open sign-in has a cookie of its own, which
`authenticate` never looks at.
"""

import asyncio
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from sqlalchemy.ext.asyncio import AsyncSession

from admin.bad_fields import note
from admin.context import (
    ACCOUNT,
    ACTOR,
    API_KEY,
    BROWSER,
    CLIENT_IP,
    CONFIG,
    DATABASE,
    HOME,
    IS_HTTPS,
    PASSWORDS,
    PREPARED,
    SCOPES,
    THROTTLE,
    USER,
    Prepared,
)
from admin.idempotency import is_repeat
from admin.routes import PUBLIC, SIGNED_IN, Route
from engine.accounts import devices, displays, operators, signin, store
from engine.accounts.half_open import Browser
from engine.accounts.scopes import EVERY_SCOPE, Scope, scopes_of_key, scopes_of_role
from engine.accounts.signin import Proof
from engine.audit.record import Actor
from engine.errors import EngineError, Forbidden, Invalid, NotAuthenticated
from engine.models import Account, User

COOKIE = "callpoint_session"
HALF_COOKIE = "callpoint_sign_in"  # of a sign-in that waits for its second factor
DEVICE_COOKIE = "callpoint_device"  # of a browser that need not give one; one for each of its users
NAMED_ACCOUNT = "Callpoint-Account"  # whom a platform operator acts for
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 §9.2.1
_Value = TypeVar("_Value")


class CrossSite(Forbidden):
    title = "Refused: sent from another site"


class ScopeMissing(Forbidden):
    title = "Not allowed"


def bearer_of(request: web.Request) -> str | None:
    """The API key of the request, or None when it names none."""
    scheme, _, key = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def cookie_name(name: str = COOKIE, *, is_https: bool) -> str:
    """`__Host-`: the browser takes it from this very host alone, over HTTPS alone (RFC 6265bis §4.1.3)."""
    return f"__Host-{name}" if is_https else name


def set_cookie(
    request: web.Request, response: web.StreamResponse, cookie: str, name: str = COOKIE, *, max_age_s: int | None = None
) -> None:
    """Give the browser a cookie: its session, by default. It goes with the browser unless it has an age."""
    is_https = request[IS_HTTPS]
    response.set_cookie(
        cookie_name(name, is_https=is_https), cookie, path="/", httponly=True, samesite="Strict", secure=is_https,
        max_age=max_age_s,
    )  # fmt: skip


def drop_cookie(request: web.Request, response: web.StreamResponse, name: str = COOKIE) -> None:
    is_https = request[IS_HTTPS]
    response.del_cookie(
        cookie_name(name, is_https=is_https), path="/", httponly=True, samesite="Strict", secure=is_https
    )


def cookie_of(request: web.Request, name: str) -> str:
    """The text of one of our cookies; empty without it."""
    return request.cookies.get(cookie_name(name, is_https=request[IS_HTTPS]), "")


def device_cookie(user_id: str) -> str:
    return f"{DEVICE_COOKIE}_{devices.cookie_suffix(user_id)}"


def browser_of(request: web.Request, user_id: str) -> Browser:
    """What this browser shows besides that user's password."""
    return Browser(request.get(BROWSER), cookie_of(request, device_cookie(user_id)))


def refuse_cross_site(request: web.Request) -> None:
    """Refuse an unsafe request that a browser sends for another site's page.

    `Sec-Fetch-Site` first, then `Origin` against `Host`: with neither it was no browser of the last years, and the
    cookie's SameSite=Strict still stands. A request with an API key carries nothing that another site could borrow.

    Raises:
        CrossSite
    """
    if request.method in SAFE_METHODS or bearer_of(request) is not None:
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site in {"same-origin", "none"}:
        return
    origin = request.headers.get(hdrs.ORIGIN)
    if site is None and (origin is None or _is_own(request, origin)):
        return
    raise CrossSite("This request came from another site's page and was not carried out.")


def _is_own(request: web.Request, origin: str) -> bool:
    try:
        host = urlsplit(origin).netloc
        own = {request.host, urlsplit(request.app[CONFIG].admin.public_url).netloc} - {""}
    except ValueError:
        return False
    return host in own


async def authenticate(request: web.Request, session: AsyncSession, route: Route) -> None:
    """Find out who asks and put it on the request: ACTOR, HOME, ACCOUNT, SCOPES, and USER with BROWSER or API_KEY.

    On a public route nobody need be signed in, and a bad cookie is no fault.

    Raises:
        NotAuthenticated, NotYourAccount, NotFound (a platform operator names an account that is none)
    """
    key = bearer_of(request)
    cookie = cookie_of(request, COOKIE)
    if key is None and not cookie and route.scope is not PUBLIC:
        if request.headers.get("Sec-Fetch-Site") == "same-origin":
            raise NotAuthenticated("You were signed out. Sign in (in a new tab), then save again.")
        raise NotAuthenticated("Sign in, or send an API key: Authorization: Bearer cp_…")
    try:
        if key is not None:
            await _by_key(request, session, key)
        elif cookie:
            await _by_cookie(request, session, cookie)
    except NotAuthenticated:
        if route.scope is not PUBLIC:
            raise


async def _by_key(request: web.Request, session: AsyncSession, key: str) -> None:
    row, home = await signin.who_holds_key(session, key, request[CLIENT_IP])
    request[API_KEY], request[HOME], request[ACCOUNT] = row, home, home
    request[SCOPES] = scopes_of_key(row.scopes)
    role = "api_key" if request[SCOPES] != EVERY_SCOPE else "owner"
    request[ACTOR] = replace(request[ACTOR], type="api_key", id=row.id, name=row.name, account_id=home.id, role=role)
    await _act_for(request, session, home, None)


async def _by_cookie(request: web.Request, session: AsyncSession, cookie: str) -> None:
    browser, user, home = await signin.who_holds_cookie(session, cookie)
    request[BROWSER], request[USER], request[HOME], request[ACCOUNT] = browser, user, home, home
    request[SCOPES] = scopes_of_role(user.role)
    request[ACTOR] = signin.as_user(request[ACTOR], user)
    if displays.is_display(browser):
        request[SCOPES] &= displays.DISPLAY_SCOPES
        return
    await _act_for(request, session, home, browser.acting_account_id)


async def _act_for(request: web.Request, session: AsyncSession, home: Account, entered: str | None) -> None:
    """Put the account on the request that it names, or that this browser entered; without either it is their own."""
    named = request.headers.get(NAMED_ACCOUNT, "").strip()
    if not named and (entered is None or await store.account_by_id(session, entered) is None):
        return
    account = await operators.account_named(session, home, named or entered or "")
    if account is not home:
        request[ACCOUNT], request[ACTOR] = account, operators.as_operator(request[ACTOR], account)


def own_actor(request: web.Request, user: User) -> Actor:
    """The signed-in user as their own account's log names them, whomever they act for."""
    return signin.as_user(request[ACTOR], user)


def authorise(request: web.Request, route: Route) -> None:
    """Refuse who may not.

    Raises:
        ScopeMissing: which scope it takes. ProofRequired: the password must be typed again first.
    """
    if displays.is_display(request.get(BROWSER)) and not route.on_display and route.scope is not PUBLIC:
        raise ScopeMissing("This browser is a display: it shows alerts and nothing else. Sign out and in for the rest.")
    if route.scope is SIGNED_IN and USER not in request:
        raise ScopeMissing(
            "This is for people who sign in with a browser. An API key has the API, as far as its scopes go."
        )
    if route.scope is PUBLIC or route.scope is SIGNED_IN:
        return
    assert isinstance(route.scope, Scope)
    if route.scope not in request[SCOPES]:
        raise ScopeMissing(f"This takes the scope {route.scope}. Ask an owner of the account for it.")
    browser = request.get(BROWSER)
    if route.step_up and browser is not None and not signin.is_proven(browser):
        raise signin.ProofRequired


def prepared(request: web.Request, kind: type[_Value]) -> _Value:
    """What the route's `prepare` step made. Raises what it raised."""
    made = request[PREPARED]
    if made.error is not None:
        raise made.error
    assert isinstance(made.value, kind)
    return made.value


def prepared_or(request: web.Request, stand_in: _Value) -> _Value:
    """As `prepared`; bad fields are noted, so that they are told with those that the handler finds."""
    made = request[PREPARED]
    if isinstance(made.error, Invalid) and made.error.fields:
        note(request, made.error.fields)
        return stand_in
    return prepared(request, type(stand_in))


async def run_preparation(request: web.Request, route: Route) -> None:
    """Run the route's `prepare` step; an error waits for the handler, which may show it beside its form.

    Who asks is found out first, in a short transaction of its own: nobody unknown makes the process hash or wait.

    Raises:
        NotAuthenticated, ScopeMissing, ProofRequired, BadRequest
    """
    if route.prepare is None:
        return
    if route.scope is not PUBLIC:
        async with request.app[DATABASE].sessions.begin() as session:
            try:
                await authenticate(request, session, route)
                authorise(request, route)
            except EngineError:
                session.expunge_all()  # so that the refusal's page can still say who is signed in
                raise
            if await is_repeat(request, session, route):
                return
    try:
        request[PREPARED] = Prepared(value=await route.prepare(request))
    except EngineError as error:
        request[PREPARED] = Prepared(error=error)


async def prepare_sign_in(request: web.Request) -> Proof:
    """For a form with `email` and `password`: the proof that they belong together."""
    form = await request.post()
    return await check_password(request, _text(form.get("email")), _text(form.get("password")))


async def prepare_proof(request: web.Request) -> Proof:
    """For a form with `password` alone: the proof that the signed-in user typed it."""
    form = await request.post()
    user = request.get(USER)
    if user is None:
        raise NotAuthenticated("An API key has no password: sign in with a browser.")
    return await check_password(request, user.email, _text(form.get("password")))


async def prepare_password(request: web.Request) -> str:
    """For a form with a new `password` (and what it must not be made of: `account_name`, `email`, `name`): its hash."""
    form = await request.post()
    context = tuple(_text(form.get(name)) for name in ("account_name", "email", "name"))
    return await request.app[PASSWORDS].hash(
        _text(form.get("password")), context=tuple(text for text in context if text)
    )


async def check_password(request: web.Request, email: str, password: str) -> Proof:
    """The proof that they belong together, compared outside of any write transaction.

    Raises:
        SignInRefused, SignInSlowed
    """
    return await signin.check_password(
        request.app[DATABASE],
        request.app[PASSWORDS],
        request.app[THROTTLE],
        email=email,
        password=password,
        ip=request[CLIENT_IP],
        now=asyncio.get_running_loop().time(),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
