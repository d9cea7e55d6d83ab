"""The doors: set-up link, signing out, proving one's password again; and every error as a page.

Signing in has steps and a module of its own, `sign_in`.
"""

from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from aiohttp import web

from admin import auth, held_forms
from admin.context import ACCOUNT, ACTOR, BROWSER, CONFIG, DATABASE, REQUEST_ID, SESSION, USER
from admin.pages.form import FORM, form_of, see_other, typed
from admin.render import render
from admin.routes import PUBLIC, SIGNED_IN, Route
from engine.accounts import displays, operations, store
from engine.accounts.keys import digest
from engine.accounts.signin import Proof, ProofRequired
from engine.accounts.store_audit_readers import people_to_ask
from engine.audit.events import Event
from engine.errors import DatabaseAway, EngineError, FieldFault, Forbidden, Invalid, NotAuthenticated
from engine.models import Session, User

CALLS_GO_ON = "911 calls do not depend on this page: they are routed by a process of their own."
_HEADINGS = {409: "Not possible as things stand"}  # where an error's own title is a protocol's word
_NEXT = {  # status → (address, words) of the next step when there is no better one
    401: ("/login", "Sign in"),
    403: ("/", "Go to Home"),
    404: ("/", "Go to Home"),
}


async def get_setup(request: web.Request) -> web.Response:
    return await _setup_page(request, None)


async def _setup_page(request: web.Request, error: EngineError | None) -> web.Response:
    key = request.query.get("k", "") or await typed(request, "k")
    is_usable = await store.setup_link(request[SESSION], digest(key)) is not None
    form = await form_of(request, {"account_name": "", "email": "", "name": "", "password": ""}, _by_form_names(error))
    is_over = not is_usable and await store.has_any_user(request[SESSION])
    return render(
        request, "setup.html.j2", status=200 if is_usable else 404, error=error, form=form, key=key, usable=is_usable,
        is_over=is_over,
    )  # fmt: skip


def _by_form_names(error: EngineError | None) -> EngineError | None:
    """The operation speaks of an account's `name` and `owner_email`; this form calls them otherwise."""
    names = {"name": "account_name", "owner_email": "email", "owner_name": "name"}
    if not isinstance(error, Invalid):
        return error
    fields = tuple(FieldFault(names.get(fault.field, fault.field), fault.detail) for fault in error.fields)
    return Invalid(error.detail, fields=fields)


async def post_setup(request: web.Request) -> web.Response:
    """Make the first account with the one-time link; its owner is signed in at once."""
    request[FORM] = _setup_page
    password_hash = auth.prepared_or(request, "")
    made = await operations.use_setup_link(
        request[SESSION],
        request[ACTOR],
        await typed(request, "k"),
        await typed(request, "account_name"),
        await typed(request, "email"),
        await typed(request, "name"),
        password_hash,
    )
    cookie = await operations.start_session(
        request[SESSION], made.owner, ip=request[ACTOR].ip, user_agent=request[ACTOR].user_agent
    )
    response = see_other("/")
    auth.set_cookie(request, response, cookie)
    return response


async def post_logout(request: web.Request) -> web.Response:
    await operations.sign_out(request[SESSION], request[ACTOR], _browser_of(request))
    response = see_other("/login", "signed-out")
    auth.drop_cookie(request, response)
    return response


async def get_prove(request: web.Request) -> web.Response:
    _browser_of(request)
    return await _prove_page(request, None)


def _browser_of(request: web.Request) -> Session:
    """The signed-in browser's session. Raises Forbidden: an API key came in its place."""
    if BROWSER not in request:
        raise Forbidden("An API key has no session: sign in with a browser.")
    return request[BROWSER]


async def _prove_page(request: web.Request, error: EngineError | None) -> web.Response:
    address = own_address(request.query.get("next", "") or await typed(request, "next"))
    held = "" if isinstance(error, held_forms.HeldGone) else await typed(request, "held")
    return await _asked_again(request, error, address, held)


async def _asked_again(request: web.Request, error: EngineError | None, address: str, held: str) -> web.Response:
    """The page that asks for the password; `held`: a form that is kept meanwhile (`admin.held_forms`)."""
    form = await form_of(request, {"password": ""}, error)
    return render(request, "prove.html.j2", error=error, form=form, next=address, held=held)


async def post_prove(request: web.Request) -> web.Response:
    """The password was typed again: secrets open for 15 minutes, and a form that was kept is carried out."""
    request[FORM] = _prove_page
    proof = auth.prepared(request, Proof)
    await operations.prove(request[SESSION], request[ACTOR], request[BROWSER], proof)
    address, held = own_address(await typed(request, "next")), await typed(request, "held")
    if not held:
        return see_other(address)
    kept = held_forms.opened(request, held)
    return render(request, "go_on.html.j2", address=kept.address, held=held, next=address)


def own_address(address: str) -> str:
    """The address when it is one of ours, else Home: a link must not lead away from here after signing in."""
    parts = urlsplit(address.replace("\\", "/"))
    is_ours = address.startswith("/") and not address.startswith("//") and not parts.netloc and not parts.scheme
    return address if is_ours and address.isprintable() else "/"


async def render_error(request: web.Request, error: EngineError) -> web.StreamResponse:
    """The answer to a person: the sign-in page, the form once more, or a page that says what happened."""
    if isinstance(error, ProofRequired):
        return await _ask_for_proof(request, error)
    if error.http_status == 401 and FORM not in request:
        held = await _kept_for_sign_in(request)
        if held:
            return await _signed_out(request, error, held)
        return see_other(f"/login?next={quote(_page_of(request), safe='')}")
    if FORM in request and not isinstance(error, DatabaseAway) and error.http_status != 500:
        async with request.app[DATABASE].sessions() as session:  # the refused one was rolled back
            request[SESSION] = session
            return await request[FORM](request, _said_of(request, error))
    if isinstance(error, auth.ScopeMissing) and ACCOUNT in request:
        async with request.app[DATABASE].sessions() as session:
            people = await people_to_ask(session, request[ACCOUNT].id)
            me = request.get(USER)
            return error_page(request, error, [one for one in people if me is None or one.id != me.id])
    return error_page(request, error)


async def _kept_for_sign_in(request: web.Request) -> str:
    """The form of somebody whose session ended, sealed for them; empty: there is none, or nobody knows whose it is.

    What was sent from another account than the user's own is not kept: the next session begins in their own.
    """
    cookie = auth.cookie_of(request, auth.COOKIE)
    if request.method != "POST" or not cookie:
        return ""
    async with request.app[DATABASE].sessions() as session:
        found = await store.session_by_cookie(session, digest(cookie))
    if found is None or displays.is_display(found[0]) or found[0].acting_account_id is not None:
        return ""
    return await held_forms.seal_for(request, found[1].id)


async def _signed_out(request: web.Request, error: EngineError, held: str) -> web.Response:
    """The sign-in page with a form that is carried out afterwards."""
    form = await form_of(request, {"email": "", "password": ""}, None)
    return render(
        request, "login.html.j2", status=error.http_status, form=form, next=_page_of(request), held=held,
        has_account=True,
    )  # fmt: skip


async def _ask_for_proof(request: web.Request, error: ProofRequired) -> web.Response:
    """Ask for the password; a form that was sent is kept meanwhile."""
    held = await held_forms.seal(request)
    if not held:
        return see_other(f"/prove?next={quote(_page_of(request), safe='')}")
    response = await _asked_again(request, None, _page_of(request), held)
    response.set_status(error.http_status)
    return response


def _said_of(request: web.Request, error: EngineError) -> EngineError:
    """A wrong password in a form is the password field's fault, so that it is told beside it."""
    if isinstance(error, NotAuthenticated) and request.path == "/prove":
        said = Invalid(error.detail, fields=(FieldFault("password", "This is not your password. Nothing was shown."),))
        said.http_status = error.http_status
        return said
    return error


def _page_of(request: web.Request) -> str:
    """Where to go on afterwards: this page; for a form that was sent the page it stood in, else Settings."""
    if request.method == "GET":
        return request.path_qs
    try:
        origin = urlsplit(request.headers.get("Referer", ""))
    except ValueError:
        return "/settings"
    if origin.netloc != request.host or not origin.path:
        return "/settings"
    return own_address(origin.path + (f"?{origin.query}" if origin.query else ""))


def error_page(request: web.Request, error: EngineError, ask: Sequence[User] = ()) -> web.Response:
    """What happened, what it means for 911 calls, what to do next; `ask`: who can give the right that is missing."""
    status = error.http_status
    again = (request.path, "Try again") if request.method == "GET" else _NEXT[404]
    address, words = _NEXT.get(status, again)
    detail = error.detail
    if status == 500:
        detail = "Something went wrong on the server and nothing was changed. The log has it under this request's name."
    return render(
        request, "error.html.j2", status=status, code=status, detail=detail, meaning=CALLS_GO_ON,
        error_title=_HEADINGS.get(status, error.title),
        fields=error.fields if isinstance(error, Invalid) else (), next_address=address, next_step=words,
        request_id=request.get(REQUEST_ID, ""), ask=ask,
    )  # fmt: skip


def origin_of(request: web.Request) -> str:
    """Where this admin port is reached, for examples to copy."""
    return request.app[CONFIG].admin.public_url.rstrip("/") or f"{request.scheme}://{request.host}"


ROUTES = (
    Route("GET", "/setup", get_setup, PUBLIC, Event.SETUP_PAGE_READ),
    Route("POST", "/setup", post_setup, PUBLIC, Event.ACCOUNT_CREATE, prepare=auth.prepare_password),
    Route("POST", "/logout", post_logout, SIGNED_IN, Event.SESSION_DELETE, on_display=True),
    Route("GET", "/prove", get_prove, SIGNED_IN, Event.LOGIN_PAGE_READ),
    Route("POST", "/prove", post_prove, SIGNED_IN, Event.SESSION_PROVE, prepare=auth.prepare_proof),
)
